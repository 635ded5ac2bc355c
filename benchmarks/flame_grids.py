"""Flame speeds over sequences of ever finer grids, ours beside Cantera's: what a speed is worth at usual criteria."""

import argparse
import time

import torch

from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver.solve import GridSolver

CASES = {
    "H2/air, phi 0.4": ("h2o2.yaml", "H2", 0.4, 101325.0, 300.0),
    "H2/air, phi 1": ("h2o2.yaml", "H2", 1.0, 101325.0, 300.0),
    "H2/air, phi 1, 20 atm": ("h2o2.yaml", "H2", 1.0, 20 * 101325.0, 300.0),
    "H2/air, phi 1, 700 K": ("h2o2.yaml", "H2", 1.0, 101325.0, 700.0),
    "CH4/air, phi 1": ("gri30.yaml", "CH4", 1.0, 101325.0, 300.0),
}
CRITERIA = ((0.06, 0.12), (0.03, 0.06), (0.015, 0.03), (0.0075, 0.015))


def ours(case: str) -> list[str]:
    """Speed and points for each of the criteria, on a second-order grid."""
    file, fuel, phi, p, T = CASES[case]
    gas, rows = Gas(load_mechanism(file), smoothing=1e-7), []
    values = {key: torch.tensor(v, dtype=torch.float64) for key, v in (("phi", phi), ("p", p), ("T_in", T))}
    flame, last = FreeFlame(gas=gas, mixture=Mixture({fuel: 1.0}), **values), None
    for slope, curve in CRITERIA:
        solver = GridSolver(max_points=3000).set_refine_criteria(ratio=3, slope=slope, curve=curve)
        start = time.process_time()
        solution = solver.solve(flame, start=last)
        last = solution.value
        speed = float(flame.flame_speed(last.eigenvalue))
        rows.append(f"{speed:.5g} ({solution.stats['num_points']} points, {time.process_time() - start:.1f} s)")
    return rows


def theirs(case: str) -> list[str]:
    """The same by Cantera's, first-order upwind."""
    import cantera

    file, fuel, phi, p, T = CASES[case]
    gas, rows = cantera.Solution(file), []
    gas.TP = T, p
    gas.set_equivalence_ratio(phi, fuel, "O2:1, N2:3.76")
    flame = cantera.FreeFlame(gas, width=0.03)
    flame.transport_model = "mixture-averaged"
    flame.max_grid_points = 3000
    for slope, curve in CRITERIA:
        flame.set_refine_criteria(ratio=3, slope=slope, curve=curve)
        start = time.process_time()
        flame.solve(loglevel=0, auto=not rows)
        spent = time.process_time() - start
        rows.append(f"{flame.velocity[0]:.5g} ({len(flame.grid)} points, {spent:.1f} s)")
    return rows


def main() -> None:
    """Print a table of the chosen cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[*CASES], nargs="*", default=list(CASES))
    print("| flame | | " + " | ".join(f"slope {s:g}, curve {c:g}" for s, c in CRITERIA) + " |")
    print("|" + "---|" * (2 + len(CRITERIA)))
    torch.set_num_threads(1)
    for case in parser.parse_args().only:
        for who, rows in (("ours", ours), ("Cantera 3.2", theirs)):
            print(f"| {case} | {who} | " + " | ".join(rows(case)) + " |", flush=True)


if __name__ == "__main__":
    main()
