"""Collision integrals of the Stockmayer (12-6-3) potential and the transport properties of gases that follow from them.

Formulas of pure species: R. J. Kee, M. E. Coltrin, P. Glarborg, "Chemically Reacting Flow" (Wiley 2003), chapter 12.
Properties are computed at 50 temperatures and fitted by polynomials of degree 4 in ln T, as combustion codes do, so
that a flame costs a few products.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simengine.flame.gas.collision_tables import A_STAR, B_STAR, C_STAR, DELTA, OMEGA22, T_STAR
from simengine.flame.gas.mechanism import LennardJones
from simengine.flame.gas.units import R

Array = NDArray[np.float64]
BOLTZMANN, AVOGADRO, EPSILON_0 = 1.380649e-23, 6.02214076e23, 8.8541878128e-12


def _along_delta(table: Array, delta: float) -> Array:
    """The table's values at one delta*: exact at 0, else by a least-squares polynomial of degree 6 along each row."""
    if delta == 0.0:
        return table[:, 0]
    basis = np.vander(DELTA, 7)
    coefficients = np.linalg.lstsq(basis, table.T, rcond=None)[0]
    return np.vander(np.array([delta]), 7)[0] @ coefficients


def _interpolate(values: Array, t_star: Array) -> Array:
    """Quadratic interpolation in ln T* through three neighbouring rows."""
    logs = np.log(T_STAR)
    first = np.clip(np.searchsorted(T_STAR, t_star, side="right") - 1, 0, len(T_STAR) - 3)
    x, y = (np.stack([a[first + k] for k in range(3)]) for a in (logs, values))
    s = np.log(t_star)
    result = np.zeros_like(s)
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        result += y[k] * (s - x[i]) * (s - x[j]) / ((x[k] - x[i]) * (x[k] - x[j]))
    return result


def collision_integrals(t_star: Array, delta: float) -> tuple[Array, Array]:
    """Omega(2,2)* and Omega(1,1)* at reduced temperatures (n,) and one reduced dipole moment squared over two."""
    omega22 = _interpolate(_along_delta(OMEGA22, delta), t_star)
    return omega22, omega22 / _interpolate(_along_delta(A_STAR, delta), t_star)


def ratio_fits(delta: float, low: float, high: float) -> Array:
    """Polynomials of degree 8 in ln T* of A*, B* and C* between two reduced temperatures, rising powers, (3, 9)."""
    first = max(int(np.searchsorted(T_STAR, low)) - 1, 0)
    last = min(int(np.searchsorted(T_STAR, high)), len(T_STAR) - 1)
    rows = slice(first, last + 1)
    basis = np.vander(np.log(T_STAR[rows]), 9, increasing=True)
    values = np.stack([_along_delta(table, delta)[rows] for table in (A_STAR, B_STAR, C_STAR)], axis=1)
    return np.asarray(np.linalg.lstsq(basis, values, rcond=None)[0].T)


def _reduced_dipole(dipole2: float, well: float, diameter: float) -> float:
    return 0.5 * dipole2 / (4 * math.pi * EPSILON_0 * well * diameter**3)


def pair(a: LennardJones, b: LennardJones) -> tuple[float, float, float]:
    """Well depth, diameter and delta* of unlike molecules; corrected where one is polar and the other is not."""
    well, diameter = math.sqrt(a.well_depth * b.well_depth), 0.5 * (a.diameter + b.diameter)
    delta = _reduced_dipole(a.dipole * b.dipole, well, diameter)
    if (a.dipole > 0) == (b.dipole > 0):
        return well, diameter, delta
    polar, other = (a, b) if a.dipole > 0 else (b, a)
    alpha = other.polarizability / other.diameter**3
    mu2 = polar.dipole**2 / (4 * math.pi * EPSILON_0 * polar.diameter**3 * polar.well_depth)
    xi = 1 + 0.25 * alpha * mu2 * math.sqrt(polar.well_depth / other.well_depth)
    return well * xi**2, diameter * xi ** (-1 / 6), delta


def parker(inverse: Any) -> Any:
    """Parker's temperature dependence of rotational relaxation, of epsilon/(k T)."""
    return 1 + math.pi**1.5 / 2 * inverse**0.5 + (math.pi**2 / 4 + 2) * inverse + math.pi**1.5 * inverse**1.5


def _fit(T: Array, values: Array) -> Array:
    """Coefficients, rising powers of ln T, of least relative error; shape (5,)."""
    basis = np.vander(np.log(T), 5, increasing=True)
    return np.asarray(np.linalg.lstsq(basis / values[:, None], np.ones_like(values), rcond=None)[0], dtype=np.float64)


def transport_fits(data: list[LennardJones], W: Array, cp_over_R: Array, T: Array) -> tuple[Array, Array, Array]:
    """Polynomials in ln T of sqrt(mu/sqrt(T)), lam/sqrt(T) and p D_jk/T^1.5, SI units.

    Args:
        data: Of K species.
        W: Molar masses [kg/mol], shape (K,).
        cp_over_R: At the temperatures, shape (n, K).
        T: Temperatures [K], shape (n,).

    Returns:
        Coefficients of shapes (K, 5), (K, 5) and (K, K, 5).
    """
    count = len(data)
    viscosity, conductivity, diffusion = np.zeros((count, 5)), np.zeros((count, 5)), np.zeros((count, count, 5))
    kT = BOLTZMANN * T
    for k, s in enumerate(data):
        delta = _reduced_dipole(s.dipole**2, s.well_depth, s.diameter)
        omega22, omega11 = collision_integrals(kT / s.well_depth, delta)
        area = math.pi * s.diameter**2
        mu = 5 / 16 * np.sqrt(math.pi * W[k] * kT / AVOGADRO) / (omega22 * area)
        pD = 3 / 16 * np.sqrt(2 * math.pi * 2 * AVOGADRO / W[k]) * kT**1.5 / (area * omega11)
        f_internal = W[k] / (R * T) * pD / mu
        slower = parker(s.well_depth / (BOLTZMANN * 298.0)) / parker(s.well_depth / kT)
        relaxation = s.rotational_relaxation * slower + 2 / math.pi * (5 / 3 * s.geometry + f_internal)
        c = 2 / math.pi * (2.5 - f_internal) / relaxation
        internal = cp_over_R[:, k] - 2.5 - s.geometry
        translation = 1.5 * 2.5 * (1 - c * s.geometry / 1.5)
        lam = mu / W[k] * R * (translation + f_internal * ((1 + c) * s.geometry + internal))
        viscosity[k] = _fit(T, np.sqrt(mu / np.sqrt(T)))
        conductivity[k] = _fit(T, lam / np.sqrt(T))
        for j in range(k + 1):
            well, diameter, delta = pair(s, data[j])
            _, omega11 = collision_integrals(kT / well, delta)
            reduced = W[k] * W[j] / (AVOGADRO * (W[k] + W[j]))
            pD = 3 / 16 * np.sqrt(2 * math.pi / reduced) * kT**1.5 / (math.pi * diameter**2 * omega11)
            diffusion[k, j] = diffusion[j, k] = _fit(T, pD / T**1.5)
    return viscosity, conductivity, diffusion
