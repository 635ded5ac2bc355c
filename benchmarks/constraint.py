"""The hard-constraint layer: accuracy with a basis that contains the truth. For its speed see `constraint_speed`."""

from typing import Any

import numpy as np
import torch

from simengine.constraint import Decomposition, DiffusionSorption, HardConstraint
from simengine.constraint.basis import principal_basis


def main() -> list[dict[str, Any]]:
    """Rows of the tables in docs/results/constraint.md."""
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
            layer = HardConstraint(pde, Decomposition(counts=(1, count), coupled=coupled))
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
    return rows


if __name__ == "__main__":
    for row in main():
        print(row)
