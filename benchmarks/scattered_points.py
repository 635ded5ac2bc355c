"""Orders of equations at scattered points: div(k grad u) = f with k = 1 + x/2 on a disc, u = sin(2 x + 0.3) exp(y).

    python benchmarks/scattered_points.py

n points on the rim and as many within as are about as far apart, along a jittered spiral; errors in the mean square
over the points, for values known all around and for the flux given on the upper half.
"""

import math
from typing import Any

import torch

from simengine.constraint.cloud import Meshless, PointSet
from simengine.constraint.spectral import Fixed, Flux, div


def disc(n: int) -> PointSet:
    h = 2 * math.pi / n
    angle = torch.arange(n, dtype=torch.float64) * h
    rim = torch.stack([angle.cos(), angle.sin()], 1)
    m = int(math.pi * (1 - 0.7 * h) ** 2 / h**2)
    k = torch.arange(m, dtype=torch.float64) + 0.5
    radius, turn = (k / m).sqrt() * (1 - 0.7 * h), k * math.pi * (3 - math.sqrt(5))
    jitter = 0.1 * h * (torch.rand(m, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5)
    points = torch.cat([rim, torch.stack([radius * turn.cos(), radius * turn.sin()], 1) + jitter])
    halves = {"upper": torch.arange(n)[rim[:, 1] >= 0], "lower": torch.arange(n)[rim[:, 1] < 0]}
    return PointSet(points, sides=halves, normals=points)


def exact(p: Any) -> torch.Tensor:
    return torch.sin(2 * p.x + 0.3) * torch.exp(p.y)


def slope(p: Any) -> torch.Tensor:
    return 2 * torch.cos(2 * p.x + 0.3) * torch.exp(p.y)


def equation(u: Any, p: Any) -> Any:
    k = 1 + 0.5 * p.x
    return div(k * u.x, k * u.y) + 3 * k * exact(p) - 0.5 * slope(p)


def outward(u: Any, p: Any) -> torch.Tensor:
    return (1 + 0.5 * p.x) * (p.x * slope(p) + p.y * exact(p))


ROWS = {"known all around": [Fixed(exact)], "a flux on half": [Fixed(exact, at="lower"), Flux(outward, at="upper")]}


def main(arguments: Any = ()) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    rows = []
    for name, boundary in ROWS.items():
        for degree in (2, 4, 6):
            row: dict[str, Any] = {"name": f"{name}, degree {degree}"}
            for n in (30, 60, 120):
                cloud = disc(n)
                found = Meshless(equation, cloud, boundary=boundary).solve(degree=degree, estimate=n == 60).check()
                x, y = cloud.points.unbind(1)
                truth = torch.sin(2 * x + 0.3) * torch.exp(y)
                error = float((found.at("u") - truth).norm() / truth.norm())
                row[f"{len(cloud)} points"] = f"{error:.1e}" + (f" (told {found.error():.1e})" if found.finer else "")
            rows.append(row)
            print(row, flush=True)
    return rows


if __name__ == "__main__":
    main()
