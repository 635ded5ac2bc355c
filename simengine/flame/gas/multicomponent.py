"""Multicomponent transport: thermal conductivity, thermal diffusion and ordinary diffusion without averaging.

The conductivity and the thermal diffusion coefficients solve the L-matrix equations (G. Dixon-Lewis, Proc. R. Soc. A
307, 111 (1968); R. J. Kee, M. E. Coltrin, P. Glarborg, "Chemically Reacting Flow", Wiley 2003, eqs. 12.111 to 12.131).
Each of their rows has the mole fraction of its species as a factor; divided by it they are sums over partners j of x_j
times something of the pair,

    sum_j x_j [c (a_j - a_i)/D_ij + E_ij (W_j b_i - W_i b_j)] = 0
    sum_j x_j [E_ij W_j (a_i - a_j) + F_ij b_j - G_ij b_i + K_ij (h_j e_j + h_i e_i)] = 1
    sum_j x_j [h_i K_ij (b_j + b_i) - M_ij e_i] = 1,     and sum_j x_j W_j a_j = 0,

with p D_ij for D_ij and c = 16 T/25. So absent species do no harm, and the derivative of row i in x_j is the bracket.
From them lam = -4 sum x_k (b_k + e_k) and D^T_k = 8/(5 R) W_k x_k a_k. Ordinary diffusion solves the Stefan-Maxwell
equations, which is the same as the coefficients D_ij of the first order, without inverting for them.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from simengine.flame.gas.collision import BOLTZMANN, pair, parker, ratio_fits
from simengine.flame.gas.units import R

if TYPE_CHECKING:
    from simengine.flame.gas.thermochemistry import Gas

LEAST_INTERNAL = 1e-3  # of cp_internal/R, below which a species has no internal energy


class Pairs(NamedTuple):
    """What the rows above are made of, (..., K, K) each, and h_i, (..., K)."""

    inverse: torch.Tensor  # 1/(p D_ij), 0 for i = j
    E: torch.Tensor
    F: torch.Tensor
    G: torch.Tensor
    K: torch.Tensor
    M: torch.Tensor
    h: torch.Tensor


class Thermal(NamedTuple):
    """Solution of the L-matrix equations: (..., K) each, or (..., K, c) for c right-hand sides."""

    a: torch.Tensor
    b: torch.Tensor
    e: torch.Tensor


class TransportDerivatives(NamedTuple):
    """Of the conductivity and D^T in T and in the mole fractions: (...), (..., K), (..., K), (..., K, K)."""

    lam_T: torch.Tensor
    lam_X: torch.Tensor
    D_T_T: torch.Tensor
    D_T_X: torch.Tensor


class MulticomponentTransport:
    """Multicomponent properties of a gas.

    Args:
        gas: Thermodynamics and the properties of its species and pairs.
    """

    def __init__(self, gas: "Gas") -> None:
        self.gas = gas
        data = [t for t in gas.mechanism.transport if t is not None]
        gas.fits  # noqa: B018 - refuses species without data
        low, high = gas.mechanism.T_range
        wells, deltas = np.zeros((2, len(data), len(data)))
        for i, one in enumerate(data):
            for j, other in enumerate(data):
                wells[i, j], _, deltas[i, j] = pair(one, other)
        self.log_well: torch.Tensor = torch.as_tensor(np.log(wells / BOLTZMANN))
        T_star = (BOLTZMANN * low / wells.max(), BOLTZMANN * high / wells.min())
        kinds, which = np.unique(deltas, return_inverse=True)
        fits = np.stack([ratio_fits(delta, *T_star) for delta in kinds], axis=1)
        self.ratios: torch.Tensor = torch.as_tensor(fits[:, which.reshape(deltas.shape)])  # A*, B*, C*: (3, K, K, 9)
        self.rotational: torch.Tensor = torch.tensor([float(t.geometry) for t in data], dtype=torch.float64)
        self.relaxation_298 = torch.tensor([max(1.0, t.rotational_relaxation) for t in data], dtype=torch.float64)
        well = torch.tensor([t.well_depth / BOLTZMANN for t in data], dtype=torch.float64)
        self.well: torch.Tensor = well
        self.relaxation_298 = self.relaxation_298 * parker(well / 298.0)

    def pairs(self, T: torch.Tensor) -> Pairs:
        """Of temperatures T (...)."""
        gas, W = self.gas, self.gas.W
        mu, _, pD = gas._polynomials(T)
        z = T.log()[..., None, None] - self.log_well
        A, B, C = (_horner(fit, z) for fit in self.ratios)
        t, diagonal = T[..., None, None], torch.eye(len(W), dtype=T.dtype)
        own = 1.2 * R * T.unsqueeze(-1) * mu * A.diagonal(dim1=-2, dim2=-1) / W
        D = torch.where(diagonal > 0, own.unsqueeze(-1), pD)
        Wi, Wj = W[:, None], W[None, :]
        total = Wi + Wj
        slower = self.rotational / (self.relaxation_298 / parker(self.well / T.unsqueeze(-1)))  # c_rot/zeta
        R_ij = 1 + 5 / (3 * math.pi) * (slower.unsqueeze(-1) + slower.unsqueeze(-2))
        c = 16 * t / 25
        internal = gas.cp_over_R(T) - 2.5
        with_modes = internal > LEAST_INTERNAL
        internal = torch.where(with_modes, internal, 1.0)
        share = torch.where(with_modes, slower * W / internal, 0.0)  # W c_rot/(c_int zeta)
        per_internal = torch.where(with_modes, 1 / internal, 0.0).unsqueeze(-1)
        exchanged = torch.where(diagonal > 0, 0.0, 12 * share.unsqueeze(-1) * A / (5 * math.pi * Wj))
        relaxed = diagonal * (8 / math.pi / R * share.unsqueeze(-1) * per_internal / mu.unsqueeze(-1))
        return Pairs(
            inverse=(1 - diagonal) / D,
            E=(1 - diagonal) * 1.6 * t * (1.2 * C - 1) / (total * D),
            F=c * Wi * Wj / (D * total**2) * (13.75 - 3 * B - 4 * A * R_ij),
            G=c / (D * total**2) * (7.5 * Wi**2 + Wj**2 * (6.25 - 3 * B) + 4 * Wi * Wj * A * R_ij),
            K=A / (total * D),
            M=4 * t * per_internal / D * (1 + exchanged) + relaxed,
            h=32 * T.unsqueeze(-1) / (5 * math.pi) * share,
        )

    def solve(self, T: torch.Tensor, X: torch.Tensor) -> Thermal:
        """The L-matrix equations at T (...) and X (..., K)."""
        pairs = self.pairs(T)
        one = torch.ones_like(X).unsqueeze(-1)
        found = _solve(_matrix(pairs, T, X, self.gas.W), Thermal(torch.zeros_like(one), one, one))
        return Thermal(*(v.squeeze(-1) for v in found))

    def properties(self, X: torch.Tensor, found: Thermal) -> tuple[torch.Tensor, torch.Tensor]:
        """Conductivity [W/(m K)], (...), and thermal diffusion coefficients D^T [kg/(m s)], (..., K)."""
        return -4 * (X * (found.b + found.e)).sum(-1), 1.6 / R * self.gas.W * X * found.a

    def _along_T(self, T: torch.Tensor, X: torch.Tensor, at: Thermal) -> torch.Tensor:
        """Derivatives of the rows in T with their solution held, (..., 3 K).

        The vector-Jacobian product is linear in its vector, and rows of a point depend on its own T alone.
        """
        with torch.enable_grad():
            t = T.detach().requires_grad_()
            rows = torch.cat([(X.unsqueeze(-2) * v).sum(-1) for v in _brackets(self.pairs(t), t, self.gas.W, at)], -1)
            weights = torch.zeros_like(rows, requires_grad=True)
            (pulled,) = torch.autograd.grad(rows, t, weights, create_graph=True)
            return torch.autograd.grad(pulled.sum(), weights)[0]

    def derivatives(self, T: torch.Tensor, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, TransportDerivatives]:
        """Conductivity, D^T and their derivatives at constant pressure, without gradients."""
        with torch.no_grad():
            pairs, W = self.pairs(T), self.gas.W
            system, one = _matrix(pairs, T, X, W), torch.ones_like(X).unsqueeze(-1)
            at = Thermal(*(v.squeeze(-1) for v in _solve(system, Thermal(torch.zeros_like(one), one, one))))
            a, b, e = at

            along_T = self._along_T(T, X, at)
            along_X = list(_brackets(pairs, T, W, at))
            along_X[0] = along_X[0] + system[3].unsqueeze(-1) * (W * a).unsqueeze(-2)
            both = zip(along_T.chunk(3, -1), along_X, strict=True)
            right = Thermal(*(-torch.cat((t.unsqueeze(-1), x), -1) for t, x in both))
            da, db, de = _solve(system, right)
            lam, D_T = self.properties(X, at)
            slopes = -4 * (X.unsqueeze(-1) * (db + de)).sum(-2)
            factor = 1.6 / R * W
            thermal = (factor * X).unsqueeze(-1) * da
            thermal[..., 1:] += torch.diag_embed(factor * a)
            found = TransportDerivatives(
                slopes[..., 0], slopes[..., 1:] - 4 * (b + e), thermal[..., 0], thermal[..., 1:]
            )
            return lam, D_T, found


def _horner(coefficients: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    value = coefficients[..., -1].expand_as(z)
    for n in range(coefficients.shape[-1] - 2, -1, -1):
        value = torch.addcmul(coefficients[..., n], value, z)
    return value


def _brackets(pairs: Pairs, T: torch.Tensor, W: torch.Tensor, at: Thermal) -> tuple[torch.Tensor, ...]:
    """What x_j multiplies in the three rows of each species i, (..., K, K) each."""
    (inverse, E, F, G, K, M, h), (a, b, e) = pairs, at
    ai, bi, ei, hi = (v.unsqueeze(-1) for v in (a, b, e, h))
    aj, bj, he = a.unsqueeze(-2), b.unsqueeze(-2), h * e
    first = (16 * T / 25)[..., None, None] * inverse * (aj - ai) + E * (W * bi - W[:, None] * bj)
    second = E * W * (ai - aj) + F * bj - G * bi + K * (he.unsqueeze(-2) + he.unsqueeze(-1))
    return first, second, hi * K * (bj + bi) - M * ei


System = tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]


def _matrix(pairs: Pairs, T: torch.Tensor, X: torch.Tensor, W: torch.Tensor) -> System:
    """Factors of the equations of a and b without e; P and 1/m of e = (P b - right)/m; weights of the constraint."""
    inverse, E, F, G, K, M, h = pairs
    x = X.unsqueeze(-2)
    near = torch.diag_embed((x * K).sum(-1))
    P = h.unsqueeze(-1) * (x * K + near)
    Q = x * K * h.unsqueeze(-2) + h.unsqueeze(-1) * near
    m = (x * M).sum(-1)
    per_m = torch.where(m > 0, 1 / torch.where(m > 0, m, 1.0), 0.0)  # 0 for a species without internal energy
    c = (16 * T / 25)[..., None, None]
    ordinary = c * (x * inverse - torch.diag_embed((x * inverse).sum(-1)))
    scale = (c[..., 0] * (X * (x * inverse).sum(-1)).sum(-1, keepdim=True) / (X * W).sum(-1, keepdim=True)).expand_as(X)
    upper_left = ordinary - scale.unsqueeze(-1) * (x * W)
    upper_right = torch.diag_embed((x * E * W).sum(-1)) - x * E * W[:, None]
    lower_left = torch.diag_embed((x * E * W).sum(-1)) - x * E * W
    lower_right = x * F - torch.diag_embed((x * G).sum(-1)) + Q @ (per_m.unsqueeze(-1) * P)
    whole = torch.cat((torch.cat((upper_left, upper_right), -1), torch.cat((lower_left, lower_right), -1)), -2)
    factors = torch.linalg.lu_factor(whole)
    return (factors.LU, factors.pivots), (P, Q), per_m, -scale


def _solve(system: System, right: Thermal) -> Thermal:
    """A, b and e of right-hand sides (..., K, c)."""
    (lu, pivots), (P, Q), per_m, _ = system
    K = P.shape[-1]
    per_m = per_m.unsqueeze(-1)
    rest = torch.cat((right.a, right.b + Q @ (per_m * right.e)), -2)
    found = torch.linalg.lu_solve(lu, pivots, rest)
    a, b = found[..., :K, :], found[..., K:, :]
    return Thermal(a, b, per_m * (P @ b - right.e))


def stefan_maxwell(
    gas: "Gas", p: torch.Tensor, T: torch.Tensor, X: torch.Tensor, factor: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrix of the Stefan-Maxwell equations and 1/D_ij, both (..., K, K).

    Matrix N = X' for the diffusion velocities N_k = X_k V_k [m/s], with sum W_k N_k = 0: row k of it is
    sum_j (X_k N_j - X_j N_k)/D_kj. Of a pair D_kj is multiplied by the factors (K,) of both species.
    """
    _, _, pD = gas._polynomials(T)
    others = 1 - torch.eye(len(gas.W), dtype=X.dtype)
    inverse = others * p[..., None, None] / (pD * factor * factor[:, None])
    drag = (inverse @ X.unsqueeze(-1)).squeeze(-1)
    scale = (X * drag).sum(-1, keepdim=True) / (X * gas.W).sum(-1, keepdim=True)
    matrix = X.unsqueeze(-1) * inverse - torch.diag_embed(drag) - (scale * X).unsqueeze(-1) * gas.W
    return matrix, inverse
