"""Functions of time that need no training: the Taylor series of an equation u_t = f(u), from the equation itself.

The coefficient of t^(k+1) is that of t^k in f(u(t)) over k + 1, and that is a k-th derivative along the terms found so
far: exact, by forward differentiation k times over, for any f that torch differentiates.
"""

import math
from collections.abc import Callable

import torch
from torch.func import jvp

from simengine.solve.least_squares.system import load_forward_mode

Rate = Callable[[torch.Tensor], torch.Tensor]
DEEPEST = 8  # terms: each costs twice the one before


def taylor_series(rate: Rate, u0: torch.Tensor, order: int) -> torch.Tensor:
    """Coefficients of u(t) with u_t = rate(u) and u(0) = u0.

    As a basis in time of a layer, `t**(q + 1) * coefficients[q]`; with as many free weights the layer corrects what the
    series leaves out.

    Args:
        rate: The right side, of a field in the shape of u0; a constant of the equation is what it closes over.
        u0: Where it begins, any shape.
        order: Highest power of t; the cost doubles with each.

    Returns:
        Those of t, t^2, ..., t^order, shape (order, *u0.shape).

    Raises:
        ValueError: order is not from 1 to 8.
    """
    if not 1 <= order <= DEEPEST:
        raise ValueError(f"order: expected 1 to {DEEPEST}, got {order}; take shorter windows in time instead")
    load_forward_mode()
    found = [u0]
    for k in range(order):
        found.append(_coefficient(rate, tuple(found), k) / (k + 1))
    return torch.stack(found[1:])


def _coefficient(rate: Rate, terms: tuple[torch.Tensor, ...], k: int) -> torch.Tensor:
    """Coefficient of t^k in rate(terms[0] + terms[1] t + ...)."""

    def along(t: torch.Tensor) -> torch.Tensor:
        total = terms[-1]
        for term in reversed(terms[:-1]):
            total = term + t * total
        return rate(total)

    derivative: Rate = along
    for _ in range(k):
        derivative = _slope(derivative)
    zero = torch.zeros((), dtype=terms[0].dtype, device=terms[0].device)
    return derivative(zero) / math.factorial(k)


def _slope(function: Rate) -> Rate:
    def slope(t: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = jvp(function, (t,), (torch.ones_like(t),))[1]
        return found

    return slope


def longest_window(u0: torch.Tensor, coefficients: torch.Tensor, tolerance: float) -> float:
    """Time over which the last two terms stay below a tolerance: where the next window is to begin (Jorba & Zou 2005).

    Args:
        u0: Where the series begins.
        coefficients: What `taylor_series` found, (order, *u0.shape), of order 2 or more.
        tolerance: Relative to the largest value of u0 [1].

    Returns:
        In the unit of time of the equation; infinite where the series has ended.
    """
    size = float(u0.abs().max())
    order, longest = len(coefficients), math.inf
    for power in (order - 1, order):
        term = float(coefficients[power - 1].abs().max())
        if term > 0:
            longest = min(longest, (tolerance * size / term) ** (1 / power))
    return longest
