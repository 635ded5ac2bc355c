"""Cold starts of hydrogen and air under random conditions: how many are found, and by how many Jacobians?

`python benchmarks/hydrogen_starts.py [count=20] [seed=2026]`: phi from 0.3 to 6 and 1 to 40 atm, drawn by their
logarithms, 300 to 900 K; h2o2.yaml of Cantera, mixture-averaged, slope 0.1 and curve 0.2.
"""

import time
from collections.abc import Sequence
from typing import Any

import torch

from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver.solve import GridSolver


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row for each flame."""
    given = dict(argument.split("=") for argument in arguments)
    torch.set_num_threads(1)
    gas = Gas(load_mechanism("h2o2.yaml"), smoothing=1e-7)
    solver = GridSolver().set_refine_criteria(ratio=3, slope=0.1, curve=0.2, prune=0)
    generator = torch.Generator().manual_seed(int(given.get("seed", 2026)))
    drawn = torch.rand((int(given.get("count", 20)), 3), generator=generator, dtype=torch.float64)
    rows = []
    for a, b, c in drawn.tolist():
        phi, p, T_in = 0.3 * 20**a, 101325 * 40**b, 300 + 600 * c
        phi_, p_, T_ = (torch.tensor(v, dtype=torch.float64) for v in (phi, p, T_in))
        flame = FreeFlame(gas=gas, mixture=Mixture({"H2": 1.0}), phi=phi_, p=p_, T_in=T_).reduced()
        began = time.process_time()
        solved = solver.solve(flame, throw=False)
        row = {
            "name": f"phi {phi:.2f}, {p / 101325:.1f} atm, {T_in:.0f} K",
            "found": solved.success,
            "Jacobians": solved.stats["num_iterations"],
            "flame speed [m/s]": float(solved.value.flame.figures(solved.value.eigenvalue)["flame_speed"]),
            "CPU [s]": time.process_time() - began,
        }
        print(", ".join(f"{k} {v if isinstance(v, str | int) else format(v, '.3g')}" for k, v in row.items()))
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
