"""A law of conduction that nobody has written down, as a network of temperature that is identified in the flame.

    lam = lam_factor c(T) lam_mixture(T, Y)

with the network c of `heat_loss.coefficient`: radial units, normalised, so that c lies between its least and largest
weight everywhere and is constant far from all units. With all weights 1 the mixture's own law holds. What was learned
is read by `power_law` as the exponent by which the conductivity grows otherwise with temperature.
"""

from typing import TYPE_CHECKING

import torch

from simengine.flame.equations.heat_loss import ReadLaw, coefficient, coefficient_slope, logarithms

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
    assert flame.lam_factor is not None  # set where the flame is made
    factor = flame.lam_factor.detach()
    if not len(flame.conductivity_law):
        return factor + 0 * T, torch.zeros_like(T)
    own, slope = coefficient_slope(flame.conductivity_law_units, flame.conductivity_law, T)
    return factor * own, factor * slope


def power_law(T: torch.Tensor, weights: torch.Tensor, covariance: torch.Tensor, *, T_0: float = 1000.0) -> ReadLaw:
    """The network as a power of the temperature, c = factor (T/T_0)^slope.

    Args:
        T: Where the units stand, (n,) [K].
        weights: As they were identified, (n,) [1].
        covariance: Of these, (n, n).
        T_0: Temperature at which the factor holds [K].

    Returns:
        The law, by `heat_loss.logarithms`; a network that is no power shows by a `chi_square` well above 1.

    Raises:
        ValueError: There are fewer than three units, or a weight is not above 0.
    """
    return logarithms(T, weights, covariance, (T / T_0).log())
