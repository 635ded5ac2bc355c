"""Flames: accuracy against the published truth and CPU time of one core, beside the published network and Cantera.

`simengine bench flame` prints the rows; `python benchmarks/flame.py --write` puts them into docs/results/flame.md.
`--only PART ...` runs some parts alone (solver, gas, detailed, networks; and intervals, which no other call runs).
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from simengine.fit.inference import LeastSquaresFit
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.fit.twin import write_twin
from simengine.flame.equations.counterflow import CounterflowFlame
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.equations.simplified import SimplifiedFlame
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.network.field_network import FieldNetwork
from simengine.flame.network.pinn import train_flame
from simengine.flame.network.published import PublishedNetwork
from simengine.flame.network.training import NetworkTrainer, Optimiser
from simengine.flame.solver.adaptive import AbstractFlameSolver
from simengine.flame.solver.solve import GridSolver, SpectralSolver
from simengine.ops.fields import gas as gas_op
from simengine.ops.fields import gas_reference
from simengine.scene import load_scene
from simengine.worlds.flames.world import FlameWorld

Row = dict[str, Any]
PAGE = Path("docs/results/flame.md")  # of the checkout that stands around
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
    gas = Gas(load_mechanism("methane_1step"), smoothing=1e-7)
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


# Flame speeds [m/s] of Cantera 3.2 on its finer grids, by number of points; solved once, the largest takes minutes
FINER = {"h2o2": {389: 2.3325}, "gri30": {517: 0.37644, 961: 0.37489}}


def extrapolated(speeds: dict[int, float]) -> float:
    """The limit of the two finest of some speeds by number of points, whose error falls as one over it."""
    (n, coarse), (m, fine) = sorted(speeds.items())[-2:]
    return (m * fine - n * coarse) / (m - n)


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
        upwind = dataclasses.replace(solver, convection="upwind").solve(flame).value
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
            _row(f"{name}, upwind: sL [m/s], Cantera's", _figure(flame, upwind.eigenvalue), float(other.velocity[0])),
            _row(
                f"{name}: sL [m/s], Cantera's extrapolated",
                _figure(flame, found.eigenvalue),
                extrapolated({len(other.grid): float(other.velocity[0]), **FINER[name]}),
            ),
        ]
    return rows


def networks(seconds: float = 20.0) -> list[Row]:
    """Cases 1 to 3: errors beside what is allowed, and beside the published network's in no less time."""
    rows, x = [], torch.linspace(0, 1.5e-3, 400, dtype=torch.float64)
    simplified = _flames()["simplified"]
    exact = SpectralSolver().solve(simplified).value.profiles(x)["T"][0]
    begin = time.process_time()
    trained = train_flame(simplified).value
    ours = time.process_time() - begin
    rows += [
        _row("network, simplified: seconds, goal", ours, 60.0),
        _row("network, simplified: error of sL, allowed", abs(float(trained.eigenvalue) / 0.29278611206 - 1), 1e-5),
        _row("network, simplified: relative L2 of T, allowed", _l2(trained.temperature(x), exact), 1e-4),
    ]
    for case, steps, span in (("free", 12, (-5e-4, 1.5e-3)), ("counterflow", 16, (0.0, 0.02))):
        rows += _beside_published(case, steps, span, seconds)
    return [*rows, *_optimisers()]


def _l2(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).detach().norm() / exact.norm())


def _network(case: str, optimiser: Optimiser = "lm") -> NetworkTrainer:
    """At its beginning: phi = 0.8, the free flame at its generic guess, the counterflow flame at a coarse solution."""
    flame = _flames()[case].replace(phi=_t(0.8))
    trainer = NetworkTrainer(FieldNetwork(flame), optimiser=optimiser)
    if case == "counterflow":
        trainer.warm_start(GridSolver().set_refine_criteria(slope=0.12, curve=0.25).solve(flame).value)
    return trainer


def _beside_published(case: str, steps: int, span: tuple[float, float], seconds: float) -> list[Row]:
    begin = time.process_time()
    trainer = _network(case)
    for _ in range(steps):
        trainer.step()
    ours = time.process_time() - begin
    flame = trainer.network.flame
    assert isinstance(flame, FreeFlame | CounterflowFlame)
    truth = SpectralSolver(resolution=1e-6).solve(flame).value
    x = torch.linspace(*span, 800, dtype=torch.float64)
    exact = truth.profiles(x)
    published, given = PublishedNetwork(flame), max(ours, seconds)
    begin = time.process_time()
    published.warm_up(200)
    while time.process_time() - begin < given:
        published.step()
    with torch.no_grad():
        theirs = flame.profiles(published(x)[None], published.eigenvalue)
        found = trainer.result.profiles(x)
    gradient = _cpu(lambda: trainer.residual.gradient(trainer.theta))
    nested = _cpu(lambda: published.loss(published.sample()).backward())
    points = len(trainer.residual.faces.x) + len(trainer.residual.inner.x)
    errors = [abs(float(z / truth.eigenvalue) - 1) for z in (trainer.result.eigenvalue, published.eigenvalue.detach())]
    return [
        _row(
            f"network, {case}: ms of a gradient ({points} points), nested autograd (100)", 1e3 * gradient, 1e3 * nested
        ),
        _row(f"network, {case}: seconds of training, published's", ours, given),
        _row(f"network, {case}: error of the eigenvalue, published's", *errors),
        *(
            _row(f"network, {case}: relative L2 of {name}, published's", *(_l2(f[name], e) for f in (found, theirs)))
            for name, e in exact.items()
            if name != "heat"
        ),
    ]


def _optimisers(seconds: float = 5.0) -> list[Row]:
    """Case 3: T by each optimiser in the same time from the same coarse start, beside that of Levenberg-Marquardt."""
    errors, x = {}, torch.linspace(0.0, 0.02, 800, dtype=torch.float64)
    start = _network("counterflow")
    exact = SpectralSolver(resolution=1e-6).solve(start.network.flame).value.profiles(x)["T"][0]
    first = _l2(start.result.profiles(x)["T"][0], exact)
    names: tuple[Optimiser, ...] = ("lm", "adam", "soap", "lbfgs")
    for name in names:
        trainer = _network("counterflow", name)
        begin = time.process_time()
        while time.process_time() - begin < seconds:
            trainer.step()
        residual = trainer.physics(trainer.theta).square().mean().sqrt()
        errors[name] = _l2(trainer.result.profiles(x)["T"][0], exact), float(residual)
    rows = [_row("network, counterflow: relative L2 of T after 5 s of lm, at the start", errors["lm"][0], first)]
    for name in names[1:]:
        for what, k in (("relative L2 of T", 0), ("rms residual", 1)):
            row = _row(f"network, counterflow: {what} after 5 s of lm, {name}", errors["lm"][k], errors[name][k])
            rows.append(row)
    return rows


def intervals(seeds: int = 40) -> list[Row]:
    """Case 3 inverse: how often 95 % intervals hold the truth, and scatter over the Cramer-Rao bound."""
    from tempfile import TemporaryDirectory

    scene = load_scene("counterflow_methane")
    assert isinstance(scene.world, FlameWorld)
    true = {name: float(value) for name, value in scene.reference.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in true}
    seconds = []
    for seed in range(seeds):
        with TemporaryDirectory() as folder:
            write_twin(scene, scene, Path(folder), seed=seed)
            seen = {
                name: dataclasses.replace(own, file=str(Path(folder) / own.file.removeprefix("asset:")), along={})
                for name, own in scene.observations.items()
            }
            begin = time.process_time()
            problem = Problem(scene, observations=seen)
            training = LeastSquaresFit(problem)
            while not training.converged:
                training.step()
            estimates = posterior(problem, training.z, problem.predict(training.z)).estimates
            seconds.append(time.process_time() - begin)
        for name in true:
            found[name].append((estimates[name].value, estimates[name].std or float("nan")))
    rows = [_row("counterflow, inverse: seconds of a fit, allowed", sum(seconds) / seeds, 10.0)]
    for name, value in true.items():
        centre, std = torch.tensor(found[name], dtype=torch.float64).unbind(1)
        covered = int(((centre - value).abs() < 1.96 * std).sum())
        rows += [
            _row(f"counterflow, inverse: {name} in its 95 % interval, seeds", covered, seeds),
            _row(f"counterflow, inverse: scatter of {name}, Cramer-Rao bound", float(centre.std()), float(std.mean())),
        ]
    return rows


PARTS: dict[str, Callable[[], list[Row]]] = {
    "solver": solvers,
    "gas": kernels,
    "detailed": detailed,
    "networks": networks,
    "intervals": intervals,
}


def main(arguments: Sequence[str] = ()) -> list[Row]:
    """The rows of the parts asked for; of all but the slow `intervals` without arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=["solver", "gas", "detailed", "networks"])
    parser.add_argument("--write", action="store_true", help="put the rows into the page of results")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = [row for part in given.only for row in PARTS[part]()]
    if given.write:
        write(rows)
    return rows


def write(rows: list[Row]) -> None:
    """Put the rows into the page of results, between its marks, in place of those of the same name."""
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    table, tail = rest.split(END)
    lines = {line.split("|")[1].strip(): line for line in table.strip().splitlines()[2:]}
    for r in rows:
        lines[r["name"]] = f"| {r['name']} | {r['ours']:.4g} | {r['reference']:.4g} | {r['ratio']:.3g} |"
    text = ["| what, beside what | ours | beside | ratio |", "|---|---|---|---|", *lines.values()]
    PAGE.write_text(head + BEGIN + "\n" + "\n".join(text) + "\n" + END + tail, encoding="utf-8")


if __name__ == "__main__":
    for row in main(sys.argv[1:]):
        print(f"{row['name']:62} {row['ours']:.4g}  {row['reference']:.4g}  {row['ratio']:.3f}")
