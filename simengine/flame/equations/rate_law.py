"""A source of heat and species that nobody has written down, as a network of temperature in the flame's own equations.

    w_k = c(T) w_k,mechanism(T, C)

with the network c of `heat_loss.coefficient`: how fast everything is made or used up, beside what the mechanism says;
with all weights 1 the mechanism's rates hold. The burnt gas stays as it is, whatever c. What was learned is read by
`arrhenius` as the activation energy by which the rates grow otherwise with temperature.
"""

from typing import TYPE_CHECKING

import torch

from simengine.flame.equations.heat_loss import ReadLaw, coefficient, coefficient_slope, logarithms
from simengine.flame.gas.units import R

if TYPE_CHECKING:
    from simengine.flame.equations.detailed import AbstractDetailedFlame

Made = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def scaled(flame: "AbstractDetailedFlame", T: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """Production of the mechanism (..., K) at T (...) [K], times the network; itself where the flame has none."""
    if not len(flame.rate_law):
        return made
    return coefficient(flame.rate_law_units, flame.rate_law, T).unsqueeze(-1) * made


def scaled_jacobian(flame: "AbstractDetailedFlame", T: torch.Tensor, made: Made) -> Made:
    """The same with its derivatives in T (..., K) and in C (..., K, K), from those of the mechanism's production."""
    if not len(flame.rate_law):
        return made
    own, of_T, of_C = made
    c, slope = (value.unsqueeze(-1) for value in coefficient_slope(flame.rate_law_units, flame.rate_law, T))
    return c * own, c * of_T + slope * own, c.unsqueeze(-1) * of_C


def arrhenius(T: torch.Tensor, weights: torch.Tensor, covariance: torch.Tensor, *, T_0: float = 1500.0) -> ReadLaw:
    """The network as one more Arrhenius factor, c = factor exp(-slope/R (1/T - 1/T_0)): `slope` is Ea [J/mol].

    Args:
        T: Where the units stand, (n,) [K].
        weights: As they were identified, (n,) [1].
        covariance: Of these, (n, n).
        T_0: Temperature at which the factor holds [K].

    Returns:
        The law, by `heat_loss.logarithms`; a network of another form shows by a `chi_square` well above 1.

    Raises:
        ValueError: There are fewer than three units, or a weight is not above 0.
    """
    return logarithms(T, weights, covariance, -(1 / T - 1 / T_0) / R)
