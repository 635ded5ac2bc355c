"""Integrals over the intervals of equal time steps, from values at neighbouring times."""

import torch


def interval_rule(nt: int, order: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of the integral over each interval, of the polynomial through `order` times around it.

    Order 2 is the trapezoidal rule, hence Crank-Nicolson; order 4 has the weights (-1, 13, 13, -1)/24, and in the first
    and last interval (9, 19, -5, 1)/24 and their mirror image. Least squares over all times at once know no stability
    limit: every interval has its own equation.

    Args:
        nt: Times, at least `order`.
        order: 2 or 4.

    Returns:
        First of the times of every interval, int64, shape (nt - 1,), and the weights of it and those that follow, in
        units of the step, shape (nt - 1, order).

    Raises:
        ValueError: Another order, or too few times.
    """
    if order not in (2, 4) or nt < order:
        raise ValueError(f"expected order 2 or 4 and at least as many times, got order={order}, nt={nt}")
    interval = torch.arange(nt - 1)
    first = (interval - (order // 2 - 1)).clamp(0, nt - order)
    place = torch.arange(order, dtype=torch.float64)
    powers = place.unsqueeze(1)  # integrals of s^j from a to a + 1, where a is the place of the interval
    a = (interval - first).double()
    moments = ((a + 1) ** (powers + 1) - a ** (powers + 1)) / (powers + 1)
    return first, torch.linalg.solve(place**powers, moments).mT.contiguous()


def integration_matrix(nt: int, order: int) -> torch.Tensor:
    """The rule as a matrix from values at the times to integrals over intervals that end there; shape (nt, nt).

    The first row, of the initial time, is 0. In units of the step.
    """
    first, weights = interval_rule(nt, order)
    matrix = torch.zeros(nt, nt, dtype=torch.float64)
    matrix[1:].scatter_(1, first[:, None] + torch.arange(order), weights)
    return matrix
