"""Eight equations as a user writes them, on functions without training, beside truths by other discretisations.

    python benchmarks/own_equations.py [NAME ...] [--write]

The error is that in the mean square of the truth's points, for evolutions over four moments; `best` is that of the
nearest combinations of the same functions; `told` is `Expansion.error()`, which sees no truth; `Galerkin's` is the
error of what the equation tested with the functions gave (`found.galerkin`). Truths are finite
elements (scikit-fem, an extra of the tests), volumes or differences (`_truths.py`). `--write` puts the table into
docs/results/constraint.md.
"""

import argparse
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from simengine.benchmarks import _truths

from simengine.constraint.spectral import Circle, Domain, Expansion, Fixed, Flux, Interval, Spectral, div

PAGE = Path("docs/results/constraint.md")  # of the checkout that stands around


def darcy(size: int, **more: Any) -> Expansion:
    """-div(k grad u) = 1 on an L, k = 10 in a disc and 1 outside, u = 0 on the walls."""

    def equation(u, p):  # type: ignore[no-untyped-def]
        k = torch.where(_edge(p) < 0, 10.0, 1.0)
        return -div(k * u.x, k * u.y) - 1

    def within(p):  # type: ignore[no-untyped-def]
        a, b = 0.5 - p.x, 0.5 - p.y
        return a + b + torch.sqrt(a**2 + b**2)  # positive where a or b is

    half = Interval(0.0, 1.0, breaks=(0.5,))
    domain = Domain(x=half, y=half, inside=within, points=4, **more)
    return Spectral(equation, domain, boundary=[Fixed(0.0)]).solve(size)


def _edge(p: Any) -> torch.Tensor:
    return (p.x - 0.25) ** 2 + (p.y - 0.25) ** 2 - 0.03


def darcy_bent(size: int) -> Expansion:
    """The same, with functions that bend where k jumps."""
    return darcy(size, enrichments=[lambda p: _edge(p).abs()])


def hole(size: int) -> Expansion:
    """-Laplacian u = 1 + x on a square with a round hole, u = 0 on all walls."""
    domain = Domain(x=(-1.0, 1.0), y=(-1.0, 1.0), inside=lambda p: p.x**2 + p.y**2 - 0.09)
    return Spectral(lambda u, p: -u.xx - u.yy - 1 - p.x, domain, boundary=[Fixed(0.0)]).solve(size)


def helmholtz(size: int) -> Expansion:
    """Laplacian u + k^2 (1 + 0.3 y) u = -source, complex, du/dn = i k u on all walls: two real fields."""

    def equation(a, b, p):  # type: ignore[no-untyped-def]
        source = 50 * torch.exp(-60 * ((p.x - 0.35) ** 2 + (p.y - 0.55) ** 2))
        k2 = p.k**2 * (1 + 0.3 * p.y)
        return div(a.x, a.y) + k2 * a + source, div(b.x, b.y) + k2 * b

    walls = [Flux(lambda a, b, p: -p.k * b, field="a"), Flux(lambda a, b, p: p.k * a, field="b")]
    domain = Domain(x=(0.0, 1.0), y=(0.0, 1.0))
    return Spectral(equation, domain, fields=("a", "b"), boundary=walls, numbers={"k": 8.0}).solve(size)


def elasticity(size: int, **more: Any) -> Expansion:
    """A plate in plane stress, stiffer to the right, clamped at the left, bent by a load and its own weight."""

    def equation(u, v, p):  # type: ignore[no-untyped-def]
        c = (1 + 0.5 * p.x) / (1 - p.nu**2)
        shear = c * (1 - p.nu) / 2 * (u.y + v.x)
        return div(c * (u.x + p.nu * v.y), shear), div(shear, c * (v.y + p.nu * u.x)) - 0.1

    def load(u, v, p):  # type: ignore[no-untyped-def]
        return -0.8 * p.y * (1 - p.y)

    held = [Fixed(0.0, at="left"), Flux(load, at="right", field="v")]
    domain = Domain(x=(0.0, 2.0), y=(0.0, 1.0), **more)
    return Spectral(equation, domain, fields=("u", "v"), boundary=held, numbers={"nu": 0.3}).solve(size)


def elasticity_cornered(size: int) -> Expansion:
    """The same, with functions as r^0.7 at the clamped corners (the clamp gives a factor x)."""
    corners = [lambda p, y=y: (p.x**2 + (p.y - y) ** 2 + 1e-12) ** -0.15 for y in (0.0, 1.0)]
    return elasticity(size, points=4, enrichments=corners)


def wave(size: int) -> Expansion:
    """u_tt = (c^2 u_x)_x with c^2 = 1 + sin(3 x)/2, fixed ends, to t = 3, as two fields."""

    def equation(u, v, p):  # type: ignore[no-untyped-def]
        return u.t - v, v.t - div((1 + 0.5 * torch.sin(3 * p.x)) * u.x)

    start = {"u": lambda p: torch.exp(-20 * (p.x - 1.2) ** 2) * torch.sin(p.x), "v": 0.0}
    problem = Spectral(equation, Domain(x=(0.0, math.pi)), fields=("u", "v"), boundary=[Fixed(0.0)])
    return problem.march(start, 3.0, size)


def heat(size: int) -> Expansion:
    """Heat with k = 1 + x/2 and a source in time; walls that are cold, lose 3 u or radiate u^4."""

    def equation(u, p):  # type: ignore[no-untyped-def]
        k = 1 + 0.5 * p.x
        return u.t - div(k * u.x, k * u.y) - 5 * torch.sin(4 * p.t) * p.y

    walls = [
        Fixed(0.0, at="bottom"),
        Flux(lambda u, p: -3 * u, at=("left", "right")),
        Flux(lambda u, p: -(u**4), at="top"),
    ]
    problem = Spectral(equation, Domain(x=(0.0, 1.0), y=(0.0, 1.0)), boundary=walls)
    return problem.march(lambda p: p.y * (2 - p.y), 0.5, size)


def gray_scott(size: int) -> Expansion:
    """Gray and Scott's reaction on a closed square, a spot that begins to divide."""

    def equation(u, v, p):  # type: ignore[no-untyped-def]
        r = u * v**2
        return (
            u.t - 3.2e-4 * (u.xx + u.yy) + r - p.feed * (1 - u),
            v.t - 1.6e-4 * (v.xx + v.yy) - r + (p.feed + p.kill) * v,
        )

    def spot(p):  # type: ignore[no-untyped-def]
        return torch.exp(-20 * ((p.x - 0.5) ** 2 + 1.5 * (p.y - 0.5) ** 2))

    numbers = {"feed": 0.04, "kill": 0.06}
    square = Domain(x=Circle(0.0, 1.0), y=Circle(0.0, 1.0))
    problem = Spectral(equation, square, fields=("u", "v"), numbers=numbers)
    start = {"u": lambda p: 1 - 0.5 * spot(p), "v": lambda p: 0.25 * spot(p)}
    return problem.march(start, 200.0, size, tolerance=1e-3, stages=2)


def kuramoto(size: int) -> Expansion:
    """Kuramoto and Sivashinsky's u_t + u u_x + u_xx + u_xxxx = 0 on a circle of 22, to t = 40."""
    ring = Domain(x=Circle(0.0, 22.0))
    problem = Spectral(lambda u, p: u.t + u * u.x + u.xx + u.xxxx, ring)
    angle = 2 * math.pi / 22
    return problem.march(lambda p: torch.cos(angle * p.x) * (1 + torch.sin(angle * p.x)), 40.0, size, tolerance=1e-5)


CASES: dict[str, tuple[Callable[[int], Expansion], tuple[int, ...]]] = {
    "darcy": (darcy, (8, 12, 16)),
    "darcy + bends": (darcy_bent, (8, 12)),
    "hole": (hole, (8, 12, 16)),
    "helmholtz": (helmholtz, (10, 14)),
    "elasticity": (elasticity, (8, 12)),
    "elasticity + corners": (elasticity_cornered, (8, 12)),
    "wave": (wave, (30, 40, 60)),
    "heat": (heat, (4, 6)),
    "gray_scott": (gray_scott, (11, 15)),
    "kuramoto": (kuramoto, (17, 23, 31)),
}


def nearest(
    found: Expansion, field: str, places: dict[str, torch.Tensor], truth: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """The nearest combinations of the same functions to a truth (s, q), in the mean square of weights (q,)."""
    own = found.discrete
    space = own.spaces[own.equation.fields.index(field)]
    rows, root = [], weight.sqrt()
    for value, t in zip(truth, moments(found, truth), strict=True):
        lifted = space.lifting(places, [""], 0.0 if t is None else t, own.numbers)[""]
        functions = space.functions(places)
        asked = root[:, None] * torch.cat([functions, (value - lifted)[:, None]], 1)
        best = torch.linalg.lstsq(asked[:, :-1], asked[:, -1:], driver="gelsd").solution[:, 0]
        rows.append(functions @ best + lifted)
    return torch.stack(rows)


def moments(found: Expansion, truth: torch.Tensor) -> list[float | None]:
    """When the rows of a truth are, None for an equation without time."""
    windows = found.coefficients
    if isinstance(windows, torch.Tensor):
        return [None]
    return [share * float(windows.starts[-1]) for share in _truths.MOMENTS[-len(truth) :]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CASES)}")
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = "| equation | functions an axis | field | error % | best % | told % | Galerkin's % "
    head += "| error of the truth % | CPU s |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    for name in options.names or CASES:
        solve, sizes = CASES[name]
        places, truths, doubt, weight = getattr(_truths, name.partition(" ")[0])()
        for size in sizes:
            before = time.process_time()
            found = solve(size).check()
            cpu = time.process_time() - before
            for field, truth in truths.items():
                times, root = moments(found, truth), weight.sqrt()
                length = (root * truth).norm(dim=1)
                with torch.no_grad():
                    own, tested = (
                        torch.stack([answer(field, t=t, **places) for t in times])
                        for answer in (found, found.galerkin or found)
                    )
                told = torch.tensor([found.error(field, t) for t in times]) * length
                best = nearest(found, field, places, truth, weight)
                apart = root * (own - truth), root * (best - truth), told, root * (tested - truth)
                shares = [float(part.norm() / length.norm()) for part in apart]
                figures = " | ".join(f"{100 * v:.2g}" for v in (*shares, doubt[field]))
                lines.append(f"| {name} | {size} | {field} | {figures} | {cpu:.1f} |")
                print(lines[-1], flush=True)
    if options.write:
        table = "\n".join(lines)
        held = f"<!-- own equations -->\n{table}\n<!-- end of own equations -->"
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(
            re.sub(r"<!-- own equations -->.*<!-- end of own equations -->", held, page, flags=re.DOTALL),
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
