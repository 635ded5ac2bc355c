"""Weights of derivatives from values at scattered points: splines that reproduce polynomials (RBF-FD).

At each centre the derivative of the spline sum_j c_j |x - x_j|^5 + polynomial through the nearest points is a weighted
sum of their values, exact for polynomials up to the degree. Sources: Flyer, Fornberg, Bayona & Barnett, J. Comput.
Phys. 321 (2016) 21; Bayona, Flyer, Fornberg & Barnett, J. Comput. Phys. 332 (2017) 257.
"""

import itertools
import math
from collections.abc import Iterable

import torch

AXES = ("x", "y", "z")
_POWER = 5  # of the distance; polynomials of degree 2 make its splines unique
_AT_ONCE = 4096  # centres whose systems are held in memory together


def monomials(axes: int, degree: int) -> list[tuple[int, ...]]:
    """Exponents of all monomials up to a degree, the lowest first."""
    every = itertools.product(range(degree + 1), repeat=axes)
    return sorted((e for e in every if sum(e) <= degree), key=lambda e: (sum(e), e))


def stencil_size(axes: int, degree: int) -> int:
    """Points of a stencil: twice the monomials, which keeps one-sided ones stable."""
    return 2 * len(monomials(axes, degree)) + 1


def stencil_weights(
    points: torch.Tensor, centres: torch.Tensor, neighbours: torch.Tensor, letters: Iterable[str], degree: int
) -> dict[str, torch.Tensor]:
    """Weights of derivatives at centres from values at their neighbours.

    Args:
        points: Places, shape (N, d), d from 1 to 3 [m].
        centres: Where the derivatives are wanted, shape (M, d) [m].
        neighbours: Numbers of the points that each centre sees, shape (M, n).
        letters: Derivatives: "" for the value, x, y, xx, xy, ...
        degree: Of the polynomials that are reproduced, 2 or more.

    Returns:
        Letters -> (M, n), in 1/m to the order of the derivative; gradients flow to the places.

    Raises:
        ValueError: A derivative of third or higher order, a degree below 2, or too few neighbours.
    """
    wanted, axes = list(letters), points.shape[1]
    for name in wanted:
        if len(name) > 2 or not set(name) <= set(AXES[:axes]):
            raise ValueError(f"stencil: {name!r}: expected first or second derivatives along {', '.join(AXES[:axes])}")
    exponents = monomials(axes, degree)
    if degree < 2 or neighbours.shape[1] < len(exponents):
        raise ValueError(
            f"stencil: degree {degree} asks for 2 or more and {len(exponents)} neighbours, got {neighbours.shape[1]}"
        )
    found: dict[str, list[torch.Tensor]] = {name: [] for name in wanted}
    for start in range(0, len(centres), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        own = _weights(points[neighbours[part]] - centres[part, None], wanted, exponents)
        for name, weights in zip(wanted, own.unbind(-1), strict=True):
            found[name].append(weights)
    return {name: torch.cat(parts) for name, parts in found.items()}


def _weights(offsets: torch.Tensor, wanted: list[str], exponents: list[tuple[int, ...]]) -> torch.Tensor:
    """Of centres at 0 with neighbours at offsets (M, n, d), shape (M, n, letters)."""
    count, n, axes = offsets.shape
    radius = offsets.square().sum(-1).amax(1).sqrt()
    near = offsets / radius[:, None, None]  # in units of the stencil all systems are of like condition
    apart = (near[:, :, None] - near[:, None]).square().sum(-1)
    powers = torch.tensor(exponents, dtype=offsets.dtype)
    polynomials = (near[:, :, None, :] ** powers).prod(-1)
    m = len(exponents)
    matrix = offsets.new_zeros(count, n + m, n + m)
    matrix[:, :n, :n] = apart ** (_POWER / 2)
    matrix[:, :n, n:], matrix[:, n:, :n] = polynomials, polynomials.mT
    right = offsets.new_zeros(count, n + m, len(wanted))
    away = near.square().sum(-1).sqrt()
    for k, name in enumerate(wanted):
        right[:, :n, k] = _slope(near, away, name)
        orders = tuple(name.count(a) for a in AXES[:axes])
        right[:, n + exponents.index(orders), k] = math.prod(math.factorial(o) for o in orders)
    scale = torch.stack([radius ** -len(name) for name in wanted], -1)
    return torch.linalg.solve(matrix, right)[:, :n] * scale[:, None]


def _slope(near: torch.Tensor, away: torch.Tensor, name: str) -> torch.Tensor:
    """The derivative at 0 of |x - near|^5, (M, n)."""
    if not name:
        return away**_POWER
    first = -near[..., AXES.index(name[0])]  # from the neighbour to the centre
    if len(name) == 1:
        return _POWER * first * away ** (_POWER - 2)
    second = -near[..., AXES.index(name[1])]
    bent = _POWER * (_POWER - 2) * first * second * away ** (_POWER - 4)
    return bent + (_POWER * away ** (_POWER - 2) if name[0] == name[1] else 0.0)
