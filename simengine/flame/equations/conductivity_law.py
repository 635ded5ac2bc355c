"""A law of conduction that nobody has written down, as a network of temperature that is identified in the flame.

    lam = lam_factor c(T) lam_mixture(T, Y)

with the network c of `heat_loss.coefficient`: radial units, normalised, so that c lies between its least and largest
weight everywhere and is constant far from all units. With all weights 1 the mixture's own law holds. What was learned
is read by `power_law` as the exponent by which the conductivity grows otherwise with temperature.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch

from simengine.flame.equations.heat_loss import coefficient, shares

if TYPE_CHECKING:
    from simengine.flame.equations.detailed import AbstractDetailedFlame


def scale(flame: "AbstractDetailedFlame", T: torch.Tensor) -> torch.Tensor:
    """What multiplies the conductivity of the mixture at T (...) [K]; (...) or ()."""
    factor = flame.lam_factor
    assert factor is not None  # set where the flame is made
    if not len(flame.conductivity_law):
        return factor
    return factor * coefficient(flame.conductivity_law_units, flame.conductivity_law, T)


def scale_slope(flame: "AbstractDetailedFlame", T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same (...) and its derivative in T (...), without gradients."""
    if not len(flame.conductivity_law):
        assert flame.lam_factor is not None  # set where the flame is made
        return flame.lam_factor.detach() + 0 * T, torch.zeros_like(T)
    with torch.enable_grad():
        T = T.detach().requires_grad_()
        own = scale(flame.detached(), T) + 0 * T  # type: ignore[arg-type]
        (slope,) = torch.autograd.grad(own.sum(), T)
    return own.detach(), slope


class PowerLaw(NamedTuple):
    """c(T) = factor (T/T_0)^exponent, with standard deviations and the misfit of the weights over their own."""

    factor: float
    factor_sd: float
    exponent: float
    exponent_sd: float
    chi_square: float


def power_law(T: torch.Tensor, weights: torch.Tensor, covariance: torch.Tensor, *, T_0: float = 1000.0) -> PowerLaw:
    """The network as a power of the temperature, by generalised least squares on the logarithms of c at its units.

    Args:
        T: Where the units stand, (n,) [K].
        weights: As they were identified, (n,) [1].
        covariance: Of these, (n, n).
        T_0: Temperature at which the factor holds [K].

    Returns:
        The law; its `chi_square` is that of the n weights less two degrees of freedom, so that a law which is no power
        shows as well above 1.

    Raises:
        ValueError: There are fewer than three units, or a weight is not above 0.
    """
    if len(T) < 3 or not bool((weights > 0).all()):
        raise ValueError(f"weights: expected three or more above 0, got {weights.tolist()}")
    mixed = shares(T, T)
    c = mixed @ weights
    mixed = mixed / c[:, None]  # d ln c/d weights
    root = torch.linalg.cholesky(mixed @ covariance @ mixed.T)
    design = torch.stack((torch.ones_like(T), (T / T_0).log()), 1)
    whitened = torch.linalg.solve_triangular(root, torch.cat((c.log()[:, None], design), 1), upper=False)
    target, columns = whitened[:, 0], whitened[:, 1:]
    inverse = torch.linalg.inv(columns.T @ columns)
    found = inverse @ (columns.T @ target)
    left = float((target - columns @ found).square().sum()) / (len(T) - 2)
    sd = inverse.diagonal().sqrt()
    level = float(found[0].exp())
    return PowerLaw(level, level * float(sd[0]), float(found[1]), float(sd[1]), left)
