"""Functions of time that need no training: the Taylor series of an equation u_t = f(u), from the equation itself.

The coefficient of t^(k+1) is that of t^k in f(u(t)) over k + 1, and that hangs on the terms found so far: exact, by
arithmetic on truncated series, for any f that is written in torch.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from simengine.solve.jet import Jet

Rate = Callable[[Any], Any]


def taylor_series(rate: Rate, u0: torch.Tensor, order: int) -> torch.Tensor:
    """Coefficients of u(t) with u_t = rate(u) and u(0) = u0.

    As a basis in time of a layer, `t**(q + 1) * coefficients[q]`; with as many free weights the layer corrects what the
    series leaves out.

    Args:
        rate: The right side, of a field in the shape of u0; a constant of the equation is what it closes over.
        u0: Where it begins, any shape.
        order: Highest power of t; the cost grows with its cube.

    Returns:
        Those of t, t^2, ..., t^order, shape (order, *u0.shape).

    Raises:
        ValueError: order is below 1.
        TypeError: The right side uses a function that has no rule for series; it is named.
    """
    if order < 1:
        raise ValueError(f"order: expected 1 or more, got {order}")
    found = [u0]
    for k in range(order):
        value = rate(Jet(found))
        if isinstance(value, Jet):
            found.append(value.coefficients[k] / (k + 1))
        else:  # a rate that hangs on no field
            found.append(torch.as_tensor(value).to(u0).expand_as(u0) * (1.0 if k == 0 else 0.0))
    return torch.stack(found[1:])


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
