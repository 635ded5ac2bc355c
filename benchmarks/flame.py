"""Flames: accuracy against the published truth and CPU time of one core."""

import time
from typing import Any

import torch

from simengine.flame.counterflow import CounterflowFlame
from simengine.flame.detailed import Mixture
from simengine.flame.free import FreeFlame
from simengine.flame.gas import Gas
from simengine.flame.mechanism_yaml import load_mechanism
from simengine.flame.simplified import SimplifiedFlame
from simengine.flame.solver import SpectralSolver

LIMITS = {"simplified": 0.05, "free": 1.0, "counterflow": 3.0}  # s a flame


def _seconds(solver: SpectralSolver, flame: Any, repeats: int) -> tuple[float, float]:
    """Eigenvalue and the least CPU time of some cold solves."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        solution = solver.solve(flame)
        times.append(time.process_time() - begin)
    return float(solution.value.eigenvalue[0]), min(times)


def main() -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    gas = Gas(load_mechanism("methane_1step"), smoothing=1e-8)
    phi, p, T = (torch.tensor(v, dtype=torch.float64) for v in (1.0, 101325.0, 300.0))
    common = {"gas": gas, "mixture": Mixture({"CH4": 1.0}), "p": p, "T_in": T}
    free = FreeFlame(phi=phi, **common)
    counterflow = CounterflowFlame(phi=0.8 * phi, **common)
    cases = [
        ("simplified", SimplifiedFlame(), SpectralSolver(), 1.0, 0.29278611206, 5),
        ("free", free, SpectralSolver(), float(free.rho_in), 0.38091477, 3),
        ("counterflow", counterflow, SpectralSolver(resolution=1e-6), 1.0, -13565.92654146, 2),
    ]
    rows = []
    for name, flame, solver, unit, truth, repeats in cases:
        value, seconds = _seconds(solver, flame, repeats)
        error = abs(value / unit / truth - 1)
        rows.append(
            {
                "name": f"{name}: seconds, cold",
                "ours": seconds,
                "reference": LIMITS[name],
                "ratio": seconds / LIMITS[name],
            }
        )
        rows.append({"name": f"{name}: relative error", "ours": error, "reference": 0.0, "ratio": float("nan")})
    many = torch.linspace(0.42, 0.6, 64, dtype=torch.float64)
    begin = time.process_time()
    SpectralSolver().solve(SimplifiedFlame(phi=many))
    together = time.process_time() - begin
    begin = time.process_time()
    for value in many[::8]:
        SpectralSolver().solve(SimplifiedFlame(phi=value))
    alone = (time.process_time() - begin) * 8
    rows.append(
        {
            "name": "64 simplified flames, batched: seconds",
            "ours": together,
            "reference": alone,
            "ratio": together / alone,
        }
    )
    return rows


if __name__ == "__main__":
    for row in main():
        print(f"{row['name']:42} {row['ours']:.3e}  {row['reference']:.3e}  {row['ratio']:.3f}")
