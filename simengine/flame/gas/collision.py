"""Collision integrals of the Stockmayer (12-6-3) potential and the transport properties of gases that follow from them.

Tables: L. Monchick and E. A. Mason, "Transport properties of polar gases", J. Chem. Phys. 35, 1676 (1961): Omega(2,2)*,
A* = Omega(2,2)*/Omega(1,1)* at delta* = 0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, as in Cantera's sources. Formulas
of pure species: R. J. Kee, M. E. Coltrin, P. Glarborg, "Chemically Reacting Flow" (Wiley 2003), chapter 12. Properties
are computed at 50 temperatures and fitted by polynomials of degree 4 in ln T, as combustion codes do, so that a flame
costs a few products.
"""

import math

import numpy as np
from numpy.typing import NDArray

from simengine.flame.gas.mechanism import LennardJones
from simengine.flame.gas.units import R

Array = NDArray[np.float64]
BOLTZMANN, AVOGADRO, EPSILON_0 = 1.380649e-23, 6.02214076e23, 8.8541878128e-12
DELTA = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5])
# T*: Omega(2,2)* at the eight delta*, then A* at the eight delta*
TABLE = """
0.1 4.1005 4.266 4.833 5.742 6.729 8.624 10.34 11.89 1.0231 1.066 1.038 1.04 1.043 1.05 1.052 1.051
0.2 3.2626 3.305 3.516 3.914 4.433 5.57 6.637 7.618 1.0424 1.045 1.048 1.052 1.056 1.065 1.066 1.064
0.3 2.8399 2.836 2.936 3.168 3.511 4.329 5.126 5.874 1.0719 1.067 1.06 1.055 1.058 1.068 1.071 1.071
0.4 2.531 2.522 2.586 2.749 3.004 3.64 4.282 4.895 1.0936 1.087 1.077 1.069 1.068 1.075 1.078 1.078
0.5 2.2837 2.277 2.329 2.46 2.665 3.187 3.727 4.249 1.1053 1.098 1.088 1.08 1.078 1.082 1.084 1.084
0.6 2.0838 2.081 2.13 2.243 2.417 2.862 3.329 3.786 1.1104 1.104 1.096 1.089 1.086 1.089 1.09 1.09
0.7 1.922 1.924 1.97 2.072 2.225 2.614 3.028 3.435 1.1114 1.107 1.1 1.095 1.093 1.095 1.096 1.095
0.8 1.7902 1.795 1.84 1.934 2.07 2.417 2.788 3.156 1.1104 1.107 1.102 1.099 1.098 1.1 1.1 1.099
0.9 1.6823 1.689 1.733 1.82 1.944 2.258 2.596 2.933 1.1086 1.106 1.102 1.101 1.101 1.105 1.105 1.104
1 1.5929 1.601 1.644 1.725 1.838 2.124 2.435 2.746 1.1063 1.104 1.103 1.103 1.104 1.108 1.109 1.108
1.2 1.4551 1.465 1.504 1.574 1.67 1.913 2.181 2.451 1.102 1.102 1.103 1.105 1.107 1.112 1.115 1.115
1.4 1.3551 1.365 1.4 1.461 1.544 1.754 1.989 2.228 1.0985 1.099 1.101 1.104 1.108 1.115 1.119 1.12
1.6 1.28 1.289 1.321 1.374 1.447 1.63 1.838 2.053 1.096 1.096 1.099 1.103 1.108 1.116 1.121 1.124
1.8 1.2219 1.231 1.259 1.306 1.37 1.532 1.718 1.912 1.0943 1.095 1.099 1.102 1.108 1.117 1.123 1.126
2 1.1757 1.184 1.209 1.251 1.307 1.451 1.618 1.795 1.0934 1.094 1.097 1.102 1.107 1.116 1.123 1.128
2.5 1.0933 1.1 1.119 1.15 1.193 1.304 1.435 1.578 1.0926 1.094 1.097 1.099 1.105 1.115 1.123 1.13
3 1.0388 1.044 1.059 1.083 1.117 1.204 1.31 1.428 1.0934 1.095 1.097 1.099 1.104 1.113 1.122 1.129
3.5 0.99963 1.004 1.016 1.035 1.062 1.133 1.22 1.319 1.0948 1.096 1.098 1.1 1.103 1.112 1.119 1.127
4 0.96988 0.9732 0.983 0.9991 1.021 1.079 1.153 1.236 1.0965 1.097 1.099 1.101 1.104 1.11 1.118 1.126
5 0.92676 0.9291 0.936 0.9473 0.9628 1.005 1.058 1.121 1.0997 1.1 1.101 1.102 1.105 1.11 1.116 1.123
6 0.89616 0.8979 0.903 0.9114 0.923 0.9545 0.9955 1.044 1.1025 1.103 1.104 1.105 1.106 1.11 1.115 1.121
7 0.87272 0.8741 0.878 0.8845 0.8935 0.9181 0.9505 0.9893 1.105 1.105 1.106 1.107 1.108 1.111 1.115 1.12
8 0.85379 0.8549 0.858 0.8632 0.8703 0.8901 0.9164 0.9482 1.1072 1.107 1.108 1.108 1.109 1.112 1.115 1.119
9 0.83795 0.8388 0.8414 0.8456 0.8515 0.8678 0.8895 0.916 1.1091 1.109 1.109 1.11 1.111 1.113 1.115 1.119
10 0.82435 0.8251 0.8273 0.8308 0.8356 0.8493 0.8676 0.8901 1.1107 1.111 1.111 1.111 1.112 1.114 1.116 1.119
12 0.80184 0.8024 0.8039 0.8065 0.8101 0.8201 0.8337 0.8504 1.1133 1.114 1.113 1.114 1.114 1.115 1.117 1.119
14 0.78363 0.784 0.7852 0.7872 0.7899 0.7976 0.8081 0.8212 1.1154 1.115 1.116 1.116 1.116 1.117 1.118 1.12
16 0.76834 0.7687 0.7696 0.7712 0.7733 0.7794 0.7878 0.7983 1.1172 1.117 1.117 1.118 1.118 1.118 1.119 1.12
18 0.75518 0.7554 0.7562 0.7575 0.7592 0.7642 0.7711 0.7797 1.1186 1.119 1.119 1.119 1.119 1.119 1.12 1.121
20 0.74364 0.7438 0.7445 0.7455 0.747 0.7512 0.7569 0.7642 1.1199 1.12 1.12 1.12 1.12 1.121 1.121 1.122
25 0.71982 0.72 0.7204 0.7211 0.7221 0.725 0.7289 0.7339 1.1223 1.122 1.122 1.122 1.122 1.123 1.123 1.124
30 0.70097 0.7011 0.7014 0.7019 0.7026 0.7047 0.7076 0.7112 1.1243 1.124 1.124 1.124 1.124 1.124 1.125 1.125
35 0.68545 0.6855 0.6858 0.6861 0.6867 0.6883 0.6905 0.6932 1.1259 1.126 1.126 1.126 1.126 1.126 1.126 1.126
40 0.67232 0.6724 0.6726 0.6728 0.6733 0.6743 0.6762 0.6784 1.1273 1.127 1.127 1.127 1.127 1.127 1.127 1.128
50 0.65099 0.651 0.6512 0.6513 0.6516 0.6524 0.6534 0.6546 1.1297 1.13 1.13 1.13 1.13 1.13 1.13 1.129
75 0.61397 0.6141 0.6143 0.6145 0.6147 0.6148 0.6148 0.6147 1.1339 1.134 1.134 1.135 1.135 1.134 1.134 1.132
100 0.5887 0.5889 0.5894 0.59 0.5903 0.5901 0.5895 0.5885 1.1364 1.137 1.137 1.138 1.139 1.138 1.137 1.135
"""
_ROWS = np.array([[float(v) for v in line.split()] for line in TABLE.strip().splitlines()])
T_STAR, OMEGA22, A_STAR = _ROWS[:, 0], _ROWS[:, 1:9], _ROWS[:, 9:17]


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


def _reduced_dipole(dipole2: float, well: float, diameter: float) -> float:
    return 0.5 * dipole2 / (4 * math.pi * EPSILON_0 * well * diameter**3)


def _pair(a: LennardJones, b: LennardJones) -> tuple[float, float, float]:
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


def _relaxation(inverse: Array | float) -> Array | float:
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
        slower = _relaxation(s.well_depth / (BOLTZMANN * 298.0)) / _relaxation(s.well_depth / kT)
        relaxation = s.rotational_relaxation * slower + 2 / math.pi * (5 / 3 * s.geometry + f_internal)
        c = 2 / math.pi * (2.5 - f_internal) / relaxation
        internal = cp_over_R[:, k] - 2.5 - s.geometry
        translation = 1.5 * 2.5 * (1 - c * s.geometry / 1.5)
        lam = mu / W[k] * R * (translation + f_internal * ((1 + c) * s.geometry + internal))
        viscosity[k] = _fit(T, np.sqrt(mu / np.sqrt(T)))
        conductivity[k] = _fit(T, lam / np.sqrt(T))
        for j in range(k + 1):
            well, diameter, delta = _pair(s, data[j])
            _, omega11 = collision_integrals(kT / well, delta)
            reduced = W[k] * W[j] / (AVOGADRO * (W[k] + W[j]))
            pD = 3 / 16 * np.sqrt(2 * math.pi / reduced) * kT**1.5 / (math.pi * diameter**2 * omega11)
            diffusion[k, j] = diffusion[j, k] = _fit(T, pD / T**1.5)
    return viscosity, conductivity, diffusion
