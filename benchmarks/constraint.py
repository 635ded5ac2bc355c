"""The hard-constraint layer: accuracy with a basis that contains the truth, and CPU time per iteration."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from simengine.constraint import DiffusionSorption, HardConstraint
from simengine.constraint.basis import principal_basis
from simengine.constraint.system import ExpertSystem
from simengine.ops.normal_equations import normal_equations
from simengine.ops.normal_equations_reference import normal_equations as reference


def _seconds(run: Callable[[], Any], repeats: int = 3) -> float:
    """Process CPU time of a call, the least of a few."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def main() -> list[dict[str, Any]]:
    """Rows of the tables in docs/results/constraint.md and docs/performance/constraint.md."""
    torch.set_num_threads(1)
    pde = DiffusionSorption()
    nodes = 0.1 * (1 + np.cos(np.pi * (np.arange(32) + 0.5) / 32))
    basis = principal_basis(torch.tensor(np.stack([pde.solve(u0) for u0 in nodes])), 16)
    values = [0.03, 0.17]
    truth = torch.tensor(np.stack([pde.solve(u0) for u0 in values]))
    u0 = torch.tensor(values, dtype=torch.float64)
    rows: list[dict[str, Any]] = []
    for coupled in (True, False):
        for count in (1, 2, 4, 8, 16) if coupled else (2, 4, 8):
            layer = HardConstraint(pde, counts=(1, count), coupled=coupled)
            with torch.no_grad():
                found = layer(basis.expand(2, -1, -1, -1), {"u0": u0})
            errors = (found.field - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
            jumps = layer.interface_jumps(basis.expand(2, -1, -1, -1), found.weights)
            rows.append(
                {
                    "name": f"diffusion-sorption, {count} {'coupled' if coupled else 'independent'}",
                    "mean error %": 100 * float(errors.mean()),
                    "worst error %": 100 * float(errors.max()),
                    "largest jump": float(jumps.abs().max()) if jumps.numel() else 0.0,
                    "iterations": int(found.solution.stats["num_iterations"].max()),
                    "result": found.solution.result.name,
                }
            )
    for count in (1, 4, 16):
        layer = HardConstraint(pde, counts=(1, count), rows_per_block=80_000 // count)
        one = {"u0": u0[:1]}
        system = ExpertSystem(pde, layer.blocks, pde.table(basis), None, one, coupled=layer.coupled, **layer.options)
        y, which = system.linear_start(), torch.arange(1)

        def iteration(system: ExpertSystem = system, y: torch.Tensor = y, which: torch.Tensor = which) -> None:
            lin = system.linearise(y, which)
            system.gram.solve(lin, torch.tensor([1e-3], dtype=torch.float64), -lin["gradient"])
            system.cost(y, which)

        leaf = basis.clone().requires_grad_()
        field = layer(leaf, one).field.square().sum()
        total = count * layer.blocks.rows.index.shape[1]
        rows.append(
            {
                "name": f"iteration, {count} experts, {total} rows in all, n = 16",
                "iteration ms": 1e3 * _seconds(iteration),
                "backward ms": 1e3 * _seconds(lambda field=field: field.backward(retain_graph=True), 2),
            }
        )
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, 27_000, (4, 20_000, 1), generator=generator) + torch.arange(6)
    given = (
        torch.randn(4, 27_006, 16, generator=generator, dtype=torch.float64),
        index,
        torch.randn(4, 20_000, 6, generator=generator, dtype=torch.float64),
        torch.randn(4, 20_000, generator=generator, dtype=torch.float64),
    )
    ours, theirs = _seconds(lambda: normal_equations(*given)), _seconds(lambda: reference(*given))
    rows.append({"name": "normal_equations 4 x 20k x 16", "ours": ours, "reference": theirs, "ratio": theirs / ours})
    return rows


if __name__ == "__main__":
    for row in main():
        print(row)
