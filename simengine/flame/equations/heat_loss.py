"""Heat that a flame loses: to light, and to what nobody has written down, as a network that is identified in the flame.

    lost = factor 4 sigma (T^4 - T_in^4) sum_i p_i a_i(T) + (T - T_in) c(T)

The coefficient c of the unknown part is a network of radial units, normalised (J. Moody & C. J. Darken, Neural
Computation 1, 1989): c(T) = sum_k w_k s_k(T), with s the softmax of -((T - T_k)/(0.7 d_k))^2/2 and d_k the distance of
the units. It is smooth, between the least and the largest weight everywhere, and constant far from all units. The
factor T - T_in keeps fresh gas as it is. What was learned is read by `read_out` as few of the terms that physics knows.
"""

import itertools
from typing import TYPE_CHECKING, NamedTuple

import torch

from simengine.flame.gas.radiation import optically_thin

if TYPE_CHECKING:
    from simengine.flame.equations.detailed import AbstractDetailedFlame

WIDTH = 0.7  # of a unit, over the distance to the next


def coefficient(units: torch.Tensor, weights: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
    """c(T) [W/(m^3 K)], (...).

    Args:
        units: Where the units stand, growing, (n,) [K].
        weights: (n,) [W/(m^3 K)].
        T: (...) [K].
    """
    return shares(units, T) @ weights


def coefficient_slope(units: torch.Tensor, weights: torch.Tensor, T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same and its derivative in T, (...) each, without gradients."""
    with torch.enable_grad():
        T = T.detach().requires_grad_()
        own = coefficient(units.detach(), weights.detach(), T) + 0 * T
        (slope,) = torch.autograd.grad(own.sum(), T)
    return own.detach(), slope


def shares(units: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
    """How much each unit (n,) has of the network at T (...); (..., n), which sum to 1."""
    if len(units) == 1:
        return torch.ones(*T.shape, 1, dtype=T.dtype)
    gaps = units.diff()
    size = WIDTH * torch.cat((gaps[:1], 0.5 * (gaps[1:] + gaps[:-1]), gaps[-1:]))
    return torch.softmax(-0.5 * ((T.unsqueeze(-1) - units) / size).square(), -1)


def lost(flame: "AbstractDetailedFlame", T: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
    """Heat lost [W/m^3] at T (b, n, m) and Y (b, n, m, K), to surroundings as cold as the fresh gas."""
    cold, found = flame.T_in.reshape(-1, 1, 1), torch.zeros_like(T)
    if flame.radiation is not None:
        X = flame.gas.mole_fractions(Y)
        thin = optically_thin(flame.gas.mechanism, flame.p.reshape(-1, 1, 1), T, X, cold)
        found = found + flame.radiation_factor * thin
    if len(flame.heat_loss):
        found = found + (T - cold) * coefficient(flame.heat_loss_units, flame.heat_loss, T)
    return found


def lost_jacobian(
    flame: "AbstractDetailedFlame", T: torch.Tensor, Y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same with its derivatives in T (...) and Y (..., K), without gradients in anything else."""
    with torch.enable_grad():
        T, Y = T.detach().requires_grad_(), Y.detach().requires_grad_()
        own = lost(flame.detached(), T, Y)  # type: ignore[arg-type]
        of_T, of_Y = torch.autograd.grad(own.sum(), (T, Y), materialize_grads=True)
    return own.detach(), of_T, of_Y


class ReadLaw(NamedTuple):
    """c(T) = factor exp(slope along(T)), with standard deviations and the misfit of the weights over their own."""

    factor: float
    factor_sd: float
    slope: float
    slope_sd: float
    chi_square: float


def logarithms(T: torch.Tensor, weights: torch.Tensor, covariance: torch.Tensor, along: torch.Tensor) -> ReadLaw:
    """A network read as c = factor exp(slope along), by generalised least squares on the logarithms of c at its units.

    Args:
        T: Where the units stand, (n,) [K].
        weights: As they were identified, (n,).
        covariance: Of these, (n, n).
        along: What the logarithm grows with, at T, (n,).

    Returns:
        The law; its `chi_square` is that of the n weights less two degrees of freedom, so that a network of another
        form shows as well above 1.

    Raises:
        ValueError: There are fewer than three units, or a weight is not above 0.
    """
    if len(T) < 3 or not bool((weights > 0).all()):
        raise ValueError(f"weights: expected three or more above 0, got {weights.tolist()}")
    mixed = shares(T, T)
    c = mixed @ weights
    mixed = mixed / c[:, None]  # d ln c/d weights
    root = torch.linalg.cholesky(mixed @ covariance @ mixed.T)
    design = torch.stack((torch.ones_like(T), along), 1)
    whitened = torch.linalg.solve_triangular(root, torch.cat((c.log()[:, None], design), 1), upper=False)
    target, columns = whitened[:, 0], whitened[:, 1:]
    inverse = torch.linalg.inv(columns.T @ columns)
    found = inverse @ (columns.T @ target)
    left = float((target - columns @ found).square().sum()) / (len(T) - 2)
    sd, level = inverse.diagonal().sqrt(), float(found[0].exp())
    return ReadLaw(level, level * float(sd[0]), float(found[1]), float(sd[1]), left)


class LossTerm(NamedTuple):
    """A term of a formula: its name, its number in SI units, and the standard deviation of that."""

    name: str
    value: float
    sd: float


def read_out(T: torch.Tensor, weights: torch.Tensor, covariance: torch.Tensor, T_in: float) -> list[LossTerm]:
    """The network as a formula: terms of those below, none negative, with the least BIC of generalised least squares.

    `conduction` is a (T - T_in), to walls as cold as the fresh gas; `convection` a (T - T_in)^1.25, to a wall by a
    rising flow; `radiation` a (T^4 - T_in^4), of a grey gas.

    Args:
        T: Where the units stand, (n,) [K].
        weights: As they were identified, (n,) [W/(m^3 K)].
        covariance: Of these, (n, n).
        T_in: Temperature of the fresh gas [K].

    Raises:
        ValueError: There are no more units than terms.
    """
    rise = T - T_in
    terms = {"conduction": torch.ones_like(T), "convection": rise**0.25, "radiation": (T**4 - T_in**4) / rise}
    if len(T) <= len(terms):
        raise ValueError(f"T: {len(T)} units cannot be told from {len(terms)} terms; give more")
    root = torch.linalg.cholesky(covariance)
    whitened = torch.linalg.solve_triangular(root, torch.stack([weights, *terms.values()], 1), upper=False)
    target, columns = whitened[:, 0], whitened[:, 1:]
    best: tuple[float, list[LossTerm]] = (float(target.square().sum()), [])
    for count in range(1, len(terms) + 1):
        for chosen in itertools.combinations(range(len(terms)), count):
            own = columns[:, list(chosen)]
            size = own.norm(dim=0)
            inverse = torch.linalg.inv((own / size).T @ (own / size))
            values = inverse @ ((own / size).T @ target)
            if bool((values < 0).any()):  # none of them heats
                continue
            left = float((target - own / size @ values).square().sum()) + count * float(torch.tensor(len(T)).log())
            if left < best[0]:
                names = [list(terms)[k] for k in chosen]
                numbers, sds = (values / size).tolist(), (inverse.diagonal().sqrt() / size).tolist()
                best = left, [LossTerm(*term) for term in zip(names, numbers, sds, strict=True)]
    return best[1]
