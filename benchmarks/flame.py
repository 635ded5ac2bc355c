"""Flames: accuracy against the published truth and CPU time of one core, beside the published network and Cantera.

`simengine bench flame` prints the rows; `python benchmarks/flame.py --write` puts them into docs/results/flame.md.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from simengine.flame.counterflow import CounterflowFlame
from simengine.flame.detailed import Mixture
from simengine.flame.field_network import FieldNetwork, spread_cells
from simengine.flame.free import FreeFlame
from simengine.flame.gas import Gas
from simengine.flame.integral_residual import IntegralResidual
from simengine.flame.mechanism_yaml import load_mechanism
from simengine.flame.network_training import NetworkTrainer
from simengine.flame.published_network import PublishedNetwork
from simengine.flame.simplified import SimplifiedFlame
from simengine.flame.solver import AbstractFlameSolver, GridSolver, SpectralSolver
from simengine.ops import gas as gas_op
from simengine.ops import gas_reference

Row = dict[str, Any]
PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "flame.md"
BEGIN, END = "<!-- table of `python benchmarks/flame.py --write` -->", "<!-- end of the table -->"


def _t(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _row(name: str, ours: float, reference: float) -> Row:
    return {"name": name, "ours": ours, "reference": reference, "ratio": ours / reference}


def _cpu(call: Callable[[], Any], repeats: int = 3) -> float:
    """Least CPU seconds of some calls."""
    call()
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return min(times)


def _flames() -> dict[str, Any]:
    gas = Gas(load_mechanism("methane_1step"), smoothing=1e-8)
    common = {"gas": gas, "mixture": Mixture({"CH4": 1.0}), "p": _t(101325.0), "T_in": _t(300.0)}
    return {
        "simplified": SimplifiedFlame(),
        "free": FreeFlame(phi=_t(1.0), **common),
        "counterflow": CounterflowFlame(phi=_t(0.8), **common),
    }


def _figure(flame: Any, z: torch.Tensor) -> float:
    return float(next(iter(flame.figures(z).values())))


def solvers() -> list[Row]:
    """Cold starts: seconds beside the goal, error beside what is asked."""
    flames, rows = _flames(), []
    truth = {"simplified": 0.29278611206, "free": 0.38091477, "counterflow": -13565.92654146}
    goals = {"simplified": 0.05, "free": 1.0, "counterflow": 3.0}
    cases: list[tuple[str, AbstractFlameSolver, float]] = [
        ("simplified", SpectralSolver(), 1e-6),
        ("free", SpectralSolver(), 1e-6),
        ("counterflow", SpectralSolver(resolution=1e-6), 1e-5),
        ("simplified", GridSolver(), 1e-3),
        ("free", GridSolver(), 1e-3),
        ("counterflow", GridSolver(), 1e-3),
    ]
    for name, solver, allowed in cases:
        solution = solver.solve(flames[name])
        error = abs(_figure(flames[name], solution.value.eigenvalue) / truth[name] - 1)
        kind = "grid" if isinstance(solver, GridSolver) else "spectral"
        seconds = _cpu(lambda solver=solver, name=name: solver.solve(flames[name]), 1 if name == "counterflow" else 3)
        rows += [
            _row(f"{name}, {kind}: seconds, goal", seconds, goals[name]),
            _row(f"{name}, {kind}: relative error, allowed", error, allowed),
            _row(f"{name}, {kind}: points, allowed", solution.stats["num_points"], 400),
        ]
    many = torch.linspace(0.42, 0.6, 64, dtype=torch.float64)
    together = _cpu(lambda: SpectralSolver().solve(SimplifiedFlame(phi=many)), 1)
    alone = 8 * _cpu(lambda: [SpectralSolver().solve(SimplifiedFlame(phi=v)) for v in many[::8]], 1)
    return [*rows, _row("64 simplified flames at once: seconds, one by one", together, alone)]


def kernels() -> list[Row]:
    """Rates and their Jacobian at 200 points, milliseconds beside plain torch."""
    try:
        import cantera
    except ImportError:
        return []
    data, rows = Path(cantera.__file__).parent / "data", []
    for name in ("h2o2", "gri30"):
        kinetics = Gas(load_mechanism(data / f"{name}.yaml")).kinetics
        generator = torch.Generator().manual_seed(0)
        T = 300 + 2700 * torch.rand(200, generator=generator, dtype=torch.float64)
        C = torch.rand(200, kinetics.nasa.shape[0], generator=generator, dtype=torch.float64)
        for what, repeats in (("production", 3), ("production_jacobian", 1)):
            ours = _cpu(partial(getattr(gas_op, what), kinetics, T, C), repeats)
            plain = _cpu(partial(getattr(gas_reference, what), kinetics, T, C, kinetics.rates), repeats)
            rows.append(_row(f"{name}, {what}: ms by kernels, plain", 1e3 * ours, 1e3 * plain))
    return rows


def detailed() -> list[Row]:
    """Hydrogen and GRI 3.0 beside Cantera on the same criteria, one cold start each."""
    try:
        import cantera
    except ImportError:
        return []
    data, rows = Path(cantera.__file__).parent / "data", []
    for name, fuel in (("h2o2", "H2"), ("gri30", "CH4")):
        gas = Gas(load_mechanism(data / f"{name}.yaml"), smoothing=1e-8)
        flame = FreeFlame(gas=gas, mixture=Mixture({fuel: 1.0}), phi=_t(1.0), p=_t(101325.0), T_in=_t(300.0))
        solver = GridSolver().set_refine_criteria(ratio=3, slope=0.06, curve=0.12)
        gas.production_jacobian(_t(300.0)[None], torch.ones(1, len(gas.W), dtype=torch.float64))  # compiled once
        begin = time.process_time()
        found = solver.solve(flame).value
        ours = time.process_time() - begin
        solution = cantera.Solution(f"{name}.yaml")
        solution.set_equivalence_ratio(1.0, f"{fuel}:1", "O2:1, N2:3.76")
        solution.TP = 300.0, 101325.0
        other = cantera.FreeFlame(solution, width=0.03)
        other.transport_model = "mixture-averaged"
        other.set_refine_criteria(ratio=3, slope=0.06, curve=0.12)
        begin = time.process_time()
        other.solve(0, auto=True)
        theirs = time.process_time() - begin
        rows += [
            _row(f"{name}: seconds, Cantera's", ours, theirs),
            _row(f"{name}: sL [m/s], Cantera's", _figure(flame, found.eigenvalue), float(other.velocity[0])),
        ]
    return rows


def networks(seconds: float = 20.0) -> list[Row]:
    """Case 2 at phi = 0.8: cost of a gradient, and errors in the time that ours takes, beside the published network."""
    flame = _flames()["free"].replace(phi=_t(0.8))
    truth = SpectralSolver(resolution=1e-5).solve(flame).value
    at = torch.linspace(-5e-4, 1.5e-3, 400, dtype=torch.float64)
    exact = truth.profiles(at)
    begin = time.process_time()
    coarse = GridSolver().set_refine_criteria(slope=0.15, curve=0.3).solve(flame).value
    network = FieldNetwork(flame, width=28)
    trainer = NetworkTrainer(network=network, cells=80)
    x = spread_cells(network, torch.zeros_like(trainer.theta), 150)
    x = x.clamp(float(coarse.x.min()), float(coarse.x.max()))
    trainer.warm_start(x, coarse.at(x)[0], float(coarse.eigenvalue[0]), steps=60)
    for _ in range(6):
        trainer.step()
    ours = time.process_time() - begin
    published = PublishedNetwork(flame)
    begin, iterations = time.process_time(), 0
    published.warm_up(200)
    while time.process_time() - begin < max(ours, seconds):
        published.step()
        iterations += 1
    with torch.no_grad():
        flux = published.log_flux.exp()
        theirs = flame.profiles(published(at)[None], flux[None])
    found = trainer.result.profiles(at)
    cells: IntegralResidual = trainer.residual
    gradient = _cpu(lambda: cells.gradient(trainer.theta))
    nested = _cpu(lambda: published.loss(published.sample()).backward())
    rows = [
        _row("network: ms of a gradient (241 points), nested autograd (100)", 1e3 * gradient, 1e3 * nested),
        _row("network: seconds of training, published's", ours, max(ours, seconds)),
        _row(
            "network: error of sL, published's",
            abs(float(trainer.result.eigenvalue[0] / truth.eigenvalue[0]) - 1),
            abs(float(flux / truth.eigenvalue[0]) - 1),
        ),
    ]
    for name in ("T", "u", "CH4", "O2", "CO2", "H2O"):
        errors = [float((f[name] - exact[name]).norm() / exact[name].norm()) for f in (found, theirs)]
        rows.append(_row(f"network: relative L2 of {name}, published's", *errors))
    return rows


def main() -> list[Row]:
    torch.set_num_threads(1)
    return [*solvers(), *kernels(), *detailed(), *networks()]


def write(rows: list[Row]) -> None:
    """Put the rows into the page of results, between its marks."""
    lines = ["| what, beside what | ours | beside | ratio |", "|---|---|---|---|"]
    lines += [f"| {r['name']} | {r['ours']:.4g} | {r['reference']:.4g} | {r['ratio']:.3g} |" for r in rows]
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    PAGE.write_text(head + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    found = main()
    for row in found:
        print(f"{row['name']:62} {row['ours']:.4g}  {row['reference']:.4g}  {row['ratio']:.3f}")
    if "--write" in sys.argv:
        write(found)
