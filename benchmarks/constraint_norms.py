"""The layer's norms on an elliptic equation: -div(k grad u) = 1 on an L-shape, by a few functions.

`--write` puts the table into docs/results/constraint.md.
"""

import argparse
import math
import re
from pathlib import Path

import torch

from simengine.constraint import AbstractPDE, HardConstraint, Rows
from simengine.constraint.norm import InverseLaplacian

PAGE = Path("docs/results/constraint.md")  # of the checkout that stands around


class Darcy(AbstractPDE):
    """Finite volumes of n x n cells; the walls lie half a cell beyond the last ones."""

    def __init__(self, n: int) -> None:
        self.shape = (n, n)
        y, x = torch.meshgrid(*[(torch.arange(n, dtype=torch.float64) + 0.5) / n] * 2, indexing="ij")
        self.x, self.y, self.inside = x, y, ~((x > 0.5) & (y > 0.5))
        k = torch.where((x - 0.25).square() + (y - 0.25).square() < 0.03, 10.0, 1.0).double()
        j, i = self.inside.nonzero().T
        self.here = j * n + i
        index, weight, own = [self.here], [], torch.zeros(len(j), dtype=torch.float64)
        for dj, di in ((0, -1), (0, 1), (-1, 0), (1, 0)):
            a, b = (j + dj).clamp(0, n - 1), (i + di).clamp(0, n - 1)
            out = (j + dj != a) | (i + di != b) | ~self.inside[a, b]
            face = torch.where(out, 2 * k[j, i], 2 * k[j, i] * k[a, b] / (k[j, i] + k[a, b]))
            index.append(torch.where(out, self.here, a * n + b))
            weight.append(torch.where(out, 0.0, -face))
            own = own + face
        self.index, self.weight = torch.stack(index, 1), torch.stack([own, *weight], 1)

    def rows(self) -> Rows:
        return Rows(index=self.index, data=(self.weight,), position=self.here)

    def residual(self, values, data, parameters):  # type: ignore[no-untyped-def]
        return (values * data[0]).sum(-1) - parameters["source"] / self.shape[0] ** 2

    def conditions(self) -> Rows:
        outside = (~self.inside).flatten().nonzero()[:1]
        return Rows(index=outside, data=(torch.ones(1, 1, dtype=torch.float64),), position=outside[:, 0])

    def targets(self, data, position, parameters):  # type: ignore[no-untyped-def]
        return torch.zeros(position.shape, dtype=torch.float64)

    def reference_values(self, data, parameters):  # type: ignore[no-untyped-def]
        return torch.zeros_like(data[0])

    def solved(self) -> torch.Tensor:
        """The direct solution inside, shape (cells,)."""
        n = self.shape[0]
        a = torch.zeros(n * n, n * n, dtype=torch.float64)
        a.index_put_((self.here[:, None].expand_as(self.index), self.index), self.weight, accumulate=True)
        return torch.linalg.solve(a[self.here][:, self.here], torch.full((len(self.here),), 1 / n**2).double())


def functions(pde: Darcy, kind: str, n: int) -> torch.Tensor:
    """Basis functions (cells, cells, n^2)."""
    x, y = pde.x, pde.y
    if kind == "sines":
        pairs = [(a, b) for a in range(1, n + 1) for b in range(1, n + 1)]
        modes = [torch.sin(a * math.pi * x) * torch.sin(b * math.pi * y) for a, b in pairs]
        return torch.stack(modes, -1) * pde.inside.unsqueeze(-1)

    def both(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b - torch.sqrt(a * a + b * b)

    either = 0.5 - x + 0.5 - y + torch.sqrt((0.5 - x) ** 2 + (0.5 - y) ** 2)
    wall = both(both(both(x, y), both(1 - x, 1 - y)), either) * pde.inside
    modes = [torch.cos(a * math.pi * x) * torch.cos(b * math.pi * y) for a in range(n) for b in range(n)]
    return torch.stack(modes, -1) * wall.unsqueeze(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    write = parser.parse_args().write
    pde = Darcy(40)
    truth = pde.solved()
    lines = ["| functions | plain | Galerkin | inverse Laplacian | best possible |", "|---|---|---|---|---|"]
    for kind, n in (("sines", 8), ("cosines times R", 8), ("cosines times R", 12)):
        basis = functions(pde, kind, n)
        inside = basis.flatten(0, 1)[pde.here]
        cells = []
        for norm in ("plain", "auto", InverseLaplacian(pde.shape)):
            layer, source = HardConstraint(pde, norm=norm), {"source": torch.ones(1, dtype=torch.float64)}
            found = layer(basis[None], source)
            missed = found.field[0].flatten()[pde.here] - truth
            told = layer.error(found, source).flatten()[pde.here]
            error, estimate = (100 * float(e.norm() / truth.norm()) for e in (missed, told))
            assert abs(estimate - error) < 1e-3 * error, (estimate, error)
            steps = int(found.solution.stats["num_iterations"])
            cells.append(f"{error:.2f} % ({found.solution.result.name}, {steps})")
        best = inside @ torch.linalg.lstsq(inside, truth[:, None], driver="gelsd").solution
        cells.append(f"{100 * float((best[:, 0] - truth).norm() / truth.norm()):.2f} %")
        lines.append(f"| {n * n} {kind} | " + " | ".join(cells) + " |")
    table = "\n".join(lines)
    print(table)
    if write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(
            re.sub(
                r"<!-- norms -->.*<!-- end of norms -->",
                f"<!-- norms -->\n{table}\n<!-- end of norms -->",
                page,
                flags=re.DOTALL,
            ),
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
