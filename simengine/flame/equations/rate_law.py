"""A source of heat and species that nobody has written down, as a network of temperature in the flame's own equations.

    w_k = c(T) w_k,mechanism(T, C)    or    c(Y_i) w_k,mechanism(T, C)

with the network c of `heat_loss.coefficient`, of temperature or of the mass fraction of a species: how fast everything
is made or used up, beside what the mechanism says; with all weights 1 the mechanism's rates hold. The burnt gas stays
as it is, whatever c, and no mass is made. A network of temperature is read by `arrhenius` as the activation energy by
which the rates grow otherwise.
"""

from typing import TYPE_CHECKING

import torch

from simengine.flame.equations.heat_loss import ReadLaw, coefficient, coefficient_slope, logarithms
from simengine.flame.gas.units import R

if TYPE_CHECKING:
    from simengine.flame.equations.detailed import AbstractDetailedFlame

Made = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _abscissa(flame: "AbstractDetailedFlame", T: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
    """What the network hangs on, (...)."""
    return T if flame.rate_law_against == "T" else Y[..., _species(flame)]


def _species(flame: "AbstractDetailedFlame") -> int:
    return flame.gas.mechanism.index(flame.rate_law_against.removeprefix("Y_"))


def scaled(flame: "AbstractDetailedFlame", T: torch.Tensor, Y: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """Production of the mechanism (..., K) at T (...) [K] and Y (..., K), times the network, where there is one."""
    if not len(flame.rate_law):
        return made
    return coefficient(flame.rate_law_units, flame.rate_law, _abscissa(flame, T, Y)).unsqueeze(-1) * made


def scaled_jacobian(
    flame: "AbstractDetailedFlame", T: torch.Tensor, Y: torch.Tensor, made: Made
) -> tuple[Made, torch.Tensor | None]:
    """The same with its derivatives in T (..., K) and in C (..., K, K), from those of the mechanism's production.

    Returns:
        These, and what its derivative in Y (..., K, K) has besides those; None where the network is of temperature.
    """
    if not len(flame.rate_law):
        return made, None
    own, of_T, of_C = made
    c, slope = coefficient_slope(flame.rate_law_units, flame.rate_law, _abscissa(flame, T, Y))
    c, moved = c.unsqueeze(-1), slope.unsqueeze(-1) * own
    if flame.rate_law_against == "T":
        return (c * own, c * of_T + moved, c.unsqueeze(-1) * of_C), None
    of_Y = torch.zeros_like(of_C)
    of_Y[..., _species(flame)] = moved
    return (c * own, c * of_T, c.unsqueeze(-1) * of_C), of_Y


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
