"""Radiation of a gas that is optically thin: what is emitted leaves, and the surroundings send little back.

    loss = 4 sigma (T^4 - T_0^4) sum_i p_i a_i(T)

with Planck's mean absorption coefficients a_i [1/(m Pa)] of CO2, H2O, CH4 and CO, as fitted by the workshop on
turbulent non-premixed flames (TNF) to RADCAL (W. L. Grosshandler, NIST Technical Note 1402, 1993), for 300 to 2500 K.
"""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from simengine.flame.gas.mechanism import Mechanism

STEFAN_BOLTZMANN = 5.670374419e-8  # W/(m^2 K^4)
ATM = 101325.0
# 1/(m atm), rising powers of 1000 K/T
INVERSE = {
    "H2O": (-0.23093, -1.12390, 9.41530, -2.99880, 0.51382, -1.86840e-5),
    "CO2": (18.741, -121.310, 273.500, -194.050, 56.310, -5.8169),
}
# 1/(m atm), rising powers of T; of CO below and above 750 K
METHANE = (6.6334, -0.0035686, 1.6682e-8, 2.5611e-10, -2.6558e-14)
CO_COLD = (4.7869, -0.06953, 2.95775e-4, -4.25732e-7, 2.02894e-10)
CO_HOT = (10.09, -0.01183, 4.7753e-6, -5.87209e-10, -2.5334e-14)


def _polynomial(coefficients: tuple[float, ...], x: torch.Tensor) -> torch.Tensor:
    value = torch.zeros_like(x)
    for c in reversed(coefficients):
        value = value * x + c
    return value


def absorption(mechanism: "Mechanism", T: torch.Tensor) -> torch.Tensor:
    """Planck's mean absorption coefficient of each species [1/(m Pa)] at T (...), (..., K); 0 of those not named above.

    Args:
        mechanism: Names the species.
        T: Temperatures [K]; taken as 300 K below and 2500 K above the range of the fits.
    """
    T = T.clamp(300.0, 2500.0)
    each = {name: _polynomial(c, 1000.0 / T) for name, c in INVERSE.items()}
    each["CH4"] = _polynomial(METHANE, T)
    hot = torch.sigmoid((T - 750.0) / 15.0)  # the two fits meet within one percent
    each["CO"] = (1 - hot) * _polynomial(CO_COLD, T) + hot * _polynomial(CO_HOT, T)
    zero = torch.zeros_like(T)
    return torch.stack([each[s] / ATM if s in each else zero for s in mechanism.species], dim=-1)


def optically_thin(
    mechanism: "Mechanism", p: torch.Tensor, T: torch.Tensor, X: torch.Tensor, T_surroundings: torch.Tensor
) -> torch.Tensor:
    """Heat lost [W/m^3] at T (...) and mole fractions X (..., K)."""
    emitted = (absorption(mechanism, T) * X).sum(-1) * p
    return 4 * STEFAN_BOLTZMANN * (T**4 - T_surroundings**4) * emitted
