"""Exact sensitivities of a flame speed to every reaction of a large mechanism, beside what the flame itself took.

`python benchmarks/flame_sensitivities.py [carbons=3] [slope=0.2] [checked=3]`: what NUIG's mechanism of hexane (2015,
in Cantera's folder: 1268 species, 5336 reactions) says of species of up to three carbons: 179 species, 1023 reactions.
Its file has no transport data, so species have those of GRI-Mech 3.0 where that knows them, and those of the alkane of
as many carbons (H without any) where it does not: this is a measurement of time, not a prediction of methane.
Methane and air, phi 1, 1 atm, 300 K, mixture-averaged, cold start. The flame is solved without any gradient; its
sensitivities are all that comes on top: the Jacobian at the solution, its factors, one pass backwards. The constants
that move the speed most are checked by flames of changed constants on the same grid.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import torch

from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.gas.mechanism import Mechanism
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.reduced import part_of
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver.solve import GridSolver
from simengine.solve.implicit import implicit_root
from simengine.solve.newton import newton

FILE = "n-hexane-NUIG-2015.yaml"
STEP = 0.01  # of ln A, of the differences


def mechanism_of(carbons: float) -> Mechanism:
    """Species of up to so many carbons, the reactions among them, and transport data that the file lacks."""
    whole, other = load_mechanism(FILE), load_mechanism("gri30.yaml")
    count = whole.composition[:, whole.elements.index("C")]
    kept = part_of(whole, tuple((count <= carbons).nonzero()[:, 0].tolist()))[0]
    known = dict(zip(other.species, other.transport, strict=True))
    likes = ["H", "CH4", "C2H6", "C3H8"]
    own = count[count <= carbons].tolist()
    given = tuple(known.get(name, known[likes[min(int(n), 3)]]) for name, n in zip(kept.species, own, strict=True))
    return dataclasses.replace(kept, transport=given)


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The flame, its sensitivities, and how far differences are from these."""
    given = dict(argument.split("=") for argument in arguments)
    carbons, slope, checked = (float(given.get(k, v)) for k, v in (("carbons", 3), ("slope", 0.2), ("checked", 3)))
    torch.set_num_threads(1)
    mechanism = mechanism_of(carbons)
    gas = Gas(mechanism, smoothing=1e-8)
    A = gas.rate_parameters.A
    factor = torch.ones(len(A), dtype=torch.float64, requires_grad=True)

    def flame_of(factors: torch.Tensor) -> FreeFlame:
        phi, p, T_in = (torch.tensor(v, dtype=torch.float64) for v in (1.0, 101325.0, 300.0))
        own = {"A": A * factors, "A_low": gas.rate_parameters.A_low * factors}
        return FreeFlame(gas=gas, mixture=Mixture({"CH4": 1.0}), phi=phi, p=p, T_in=T_in, **own)

    began = time.process_time()
    solved = GridSolver().set_refine_criteria(slope=slope, curve=2 * slope).solve(flame_of(factor.detach()))
    seconds = time.process_time() - began
    found = solved.value
    began = time.process_time()
    flame, state = flame_of(factor), found.state.detach()
    with torch.no_grad():
        factors = found.problem.linearise(state)[1].factor()
    moving = implicit_root(state, found.problem.of(flame).residual(state), factors)
    speed = flame.flame_speed(moving[:, 0, -1])[0]
    (sensitivity,) = torch.autograd.grad(speed.log(), factor)
    backward = time.process_time() - began
    name = f"{len(mechanism.species)} species, {len(A)} reactions"
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "flame speed [m/s]": float(speed.detach()),
            "points": solved.stats["num_points"],
            "Jacobians": solved.stats["num_iterations"],
            "flame, CPU [s]": seconds,
            "sensitivities, CPU [s]": backward,
            "ratio": backward / seconds,
        }
    ]
    print(
        ", ".join(f"{k} {v if isinstance(v, str | int) else format(v, '.3g')}" for k, v in rows[0].items()), flush=True
    )
    for k in sensitivity.abs().argsort(descending=True)[: int(checked)].tolist():
        speeds = []
        for sign in (-1, 1):
            moved = factor.detach().clone()
            moved[k] *= torch.tensor(sign * STEP).double().exp()
            problem = found.problem.of(flame_of(moved))
            state = newton(problem, found.state.detach(), tolerance=1e-7, throw=True).value
            speeds.append(float(state[0, 0, -1].log()))
        told, difference = float(sensitivity[k]), (speeds[1] - speeds[0]) / (2 * STEP)
        rows.append({"name": mechanism.reactions.equations[k], "told": told, "off": abs(told / difference - 1)})
        print(
            ", ".join(f"{k} {v if isinstance(v, str) else format(v, '.4g')}" for k, v in rows[-1].items()), flush=True
        )
    return rows


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
