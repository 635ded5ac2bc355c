"""Laws of conduction and diffusion, each as fluxes and as fluxes with their derivatives written out.

* Mixture-averaged: j_k = -rho (W_k/W) D_k X_k' and a correction by which the sum vanishes.
* Lewis numbers: j_k = -lam/(cp Le_k) Y_k', corrected likewise; the flame's `D_factor` is 1/Le_k, so that 1 is the unity
  Lewis number of all species.
* Multicomponent: the Stefan-Maxwell equations, and the conductivity of `gas.multicomponent`.

With `soret` each has -D^T_k T'/T of `gas.multicomponent` beside (thermal diffusion, which drives light species towards
the heat). Formulas: R. J. Kee, M. E. Coltrin, P. Glarborg, "Chemically Reacting Flow", Wiley 2003, chapter 12.
"""

import abc
import dataclasses
from typing import NamedTuple

import torch

from simengine.flame.gas.multicomponent import stefan_maxwell
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.gas.units import R
from simengine.ops.fields import gas_reference


class State(NamedTuple):
    """A gas and its slopes at points (...).

    Attributes:
        p: Pressure [Pa], broadcastable to (...).
        T: Temperature [K], (...).
        Y: Mass fractions, (..., K).
        dT: T' [K/m], (...).
        dY: Y' [1/m], (..., K).
    """

    p: torch.Tensor
    T: torch.Tensor
    Y: torch.Tensor
    dT: torch.Tensor
    dY: torch.Tensor


class Fluxes(NamedTuple):
    """Conductivity [W/(m K)] and diffusive fluxes [kg/(m^2 s)] with their derivatives in T, Y, T' and Y'.

    Attributes:
        lam: (...), as `lam_T`; `lam_Y` is (..., K).
        j: (..., K), as `j_T` and `j_dT`; `j_Y` and `j_dY` are (..., K, K).
    """

    lam: torch.Tensor
    lam_T: torch.Tensor
    lam_Y: torch.Tensor
    j: torch.Tensor
    j_T: torch.Tensor
    j_Y: torch.Tensor
    j_dT: torch.Tensor
    j_dY: torch.Tensor


@dataclasses.dataclass(frozen=True)
class AbstractTransport(abc.ABC):
    """How heat and species diffuse.

    Attributes:
        soret: With thermal diffusion.
    """

    soret: bool = False

    def fluxes(self, gas: Gas, at: State, factor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Conductivity (...) and j_k (..., K), with gradients; diffusivities are multiplied by `factor` (K,)."""
        lam, j = self._ordinary(gas, at, factor)
        if self.soret:
            X = gas.mole_fractions(at.Y)
            _, thermal = gas.multicomponent.properties(X, gas.multicomponent.solve(at.T, X))
            j = j - thermal * (at.dT / at.T).unsqueeze(-1)
        return lam, j

    def linearised(self, gas: Gas, at: State, factor: torch.Tensor) -> Fluxes:
        """The same with their derivatives, without gradients."""
        with torch.no_grad():
            fluxes = self._linearised(gas, at, factor)
            if not self.soret:
                return fluxes
            X, W = gas.mole_fractions(at.Y), gas.mean_W(at.Y)
            _, thermal, slopes = gas.multicomponent.derivatives(at.T, X)
            rise = (at.dT / at.T).unsqueeze(-1)
            return fluxes._replace(
                j=fluxes.j - thermal * rise,
                j_T=fluxes.j_T - (slopes.D_T_T - thermal / at.T.unsqueeze(-1)) * rise,
                j_Y=fluxes.j_Y - to_mass(gas, slopes.D_T_X, X, W) * rise.unsqueeze(-1),
                j_dT=fluxes.j_dT - thermal / at.T.unsqueeze(-1),
            )

    @abc.abstractmethod
    def _ordinary(self, gas: Gas, at: State, factor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Conductivity and fluxes without thermal diffusion."""

    @abc.abstractmethod
    def _linearised(self, gas: Gas, at: State, factor: torch.Tensor) -> Fluxes:
        """Both with derivatives."""


@dataclasses.dataclass(frozen=True)
class MixtureAveraged(AbstractTransport):
    """Each species diffuses into the mixture of the others."""

    def _ordinary(self, gas: Gas, at: State, factor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        lam, D = gas.transport(at.p, at.T, at.Y)
        W = gas.mean_W(at.Y).unsqueeze(-1)
        # rho (W_k/W) X_k' = rho (Y_k' - Y_k W sum_l Y_l'/W_l)
        gradient = at.dY - at.Y * W * (at.dY / gas.W).sum(-1, keepdim=True)
        j = -gas.density(at.p, at.T, at.Y).unsqueeze(-1) * factor * D * gradient
        return lam, j - at.Y * j.sum(-1, keepdim=True)

    def _linearised(self, gas: Gas, at: State, factor: torch.Tensor) -> Fluxes:
        p, T, Y, _, dY = at
        W, one = gas.mean_W(Y), torch.eye(len(gas.W), dtype=Y.dtype)
        w_over = (W.unsqueeze(-1) / gas.W).unsqueeze(-2)  # W/W_l
        conducted, (D, D_T, D_Y) = _conducted(gas, T, Y), _averaged(gas, p, T, Y)
        a = -gas.density(p, T, Y).unsqueeze(-1) * factor * D  # j* = a g
        log_a_T, log_a_Y = D_T - (1 / T).unsqueeze(-1), D_Y - w_over
        Ws = (W * (dY / gas.W).sum(-1)).unsqueeze(-1)
        g = dY - Y * Ws
        j_Y = (a * g).unsqueeze(-1) * log_a_Y
        j_Y = j_Y + a.unsqueeze(-1) * ((Y * Ws).unsqueeze(-1) * w_over - one * Ws.unsqueeze(-1))
        j_dY = a.unsqueeze(-1) * (one - Y.unsqueeze(-1) * w_over)
        return _corrected(Y, conducted, a * g, a * g * log_a_T, j_Y, j_dY)


@dataclasses.dataclass(frozen=True)
class LewisNumbers(AbstractTransport):
    """Species diffuse as heat does, over their Lewis numbers."""

    def _ordinary(self, gas: Gas, at: State, factor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        lam = gas.conductivity(at.T, at.Y)
        j = -(lam / gas.cp(at.T, at.Y)).unsqueeze(-1) * factor * at.dY
        return lam, j - at.Y * j.sum(-1, keepdim=True)

    def _linearised(self, gas: Gas, at: State, factor: torch.Tensor) -> Fluxes:
        _, T, Y, _, dY = at
        conducted = lam, lam_T, lam_Y = _conducted(gas, T, Y)
        each = gas.cp_species(T)
        cp, cp_T = (each * Y).sum(-1), (gas_reference.cp_slope_over_R(gas.kinetics, T) * R / gas.W * Y).sum(-1)
        a = -(lam / cp).unsqueeze(-1) * factor
        j_Y = (a * dY).unsqueeze(-1) * (lam_Y / lam.unsqueeze(-1) - each / cp.unsqueeze(-1)).unsqueeze(-2)
        j_T = a * dY * (lam_T / lam - cp_T / cp).unsqueeze(-1)
        return _corrected(Y, conducted, a * dY, j_T, j_Y, torch.diag_embed(a))


@dataclasses.dataclass(frozen=True)
class Multicomponent(AbstractTransport):
    """Stefan-Maxwell diffusion and the conductivity of the L-matrix equations."""

    def _ordinary(self, gas: Gas, at: State, factor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        p, T, Y, _, dY = at
        X, W = gas.mole_fractions(Y), gas.mean_W(Y).unsqueeze(-1)
        lam, _ = gas.multicomponent.properties(X, gas.multicomponent.solve(T, X))
        matrix, _ = stefan_maxwell(gas, p, T, X, factor)
        dX = W / gas.W * (dY - Y * W * (dY / gas.W).sum(-1, keepdim=True))
        N = torch.linalg.solve(matrix, dX)
        return lam, gas.density(p, T, Y).unsqueeze(-1) * gas.W / W * N

    def _linearised(self, gas: Gas, at: State, factor: torch.Tensor) -> Fluxes:
        p, T, Y, _, dY = at
        X, W = gas.mole_fractions(Y), gas.mean_W(Y)
        one = torch.eye(len(gas.W), dtype=Y.dtype)
        lam, _, slopes = gas.multicomponent.derivatives(T, X)
        lam_Y = to_mass(gas, slopes.lam_X.unsqueeze(-2), X, W).squeeze(-2)
        matrix, inverse = stefan_maxwell(gas, p, T, X, factor)
        w_over = (W.unsqueeze(-1) / gas.W).unsqueeze(-2)
        s = (W * (dY / gas.W).sum(-1)).unsqueeze(-1)
        dX = W.unsqueeze(-1) / gas.W * (dY - Y * s)
        dX_dY = (W.unsqueeze(-1) / gas.W).unsqueeze(-1) * (one - Y.unsqueeze(-1) * w_over)
        # of X_k' = (W/W_k)(Y_k' - Y_k s): W_l = -W w_l and s_l = -s w_l of Y_l, with w_l = W/W_l
        dX_Y = -dX.unsqueeze(-1) * w_over + (W.unsqueeze(-1) / gas.W * s).unsqueeze(-1) * (
            Y.unsqueeze(-1) * w_over - one
        )
        factors = torch.linalg.lu_factor(matrix)
        N = torch.linalg.lu_solve(*factors, dX.unsqueeze(-1)).squeeze(-1)
        # row k of the matrix times N, in X_j: sum_l N_l/D_kl for j = k, -N_k/D_kj else; the constraint adds 0
        drag = torch.diag_embed((inverse @ N.unsqueeze(-1)).squeeze(-1)) - N.unsqueeze(-1) * inverse
        rest = dX_Y - to_mass(gas, drag, X, W)
        pD_T = -_log_slope(gas, T) * inverse
        moved = X * (pD_T @ N.unsqueeze(-1)).squeeze(-1) - N * (pD_T @ X.unsqueeze(-1)).squeeze(-1)
        solved = torch.linalg.lu_solve(*factors, torch.cat((-moved.unsqueeze(-1), rest, dX_dY), -1))
        N_T, N_Y, N_dY = solved.split((1, len(gas.W), len(gas.W)), -1)
        a = gas.density(p, T, Y).unsqueeze(-1) * gas.W / W.unsqueeze(-1)  # p W_k/(R T), without Y
        j = a * N
        return Fluxes(
            lam,
            slopes.lam_T,
            lam_Y,
            j,
            a * N_T.squeeze(-1) - j / T.unsqueeze(-1),
            a.unsqueeze(-1) * N_Y,
            torch.zeros_like(j),
            a.unsqueeze(-1) * N_dY,
        )


def _corrected(
    Y: torch.Tensor,
    conducted: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    raw: torch.Tensor,
    j_T: torch.Tensor,
    j_Y: torch.Tensor,
    j_dY: torch.Tensor,
) -> Fluxes:
    """Fluxes less Y_k times their sum, and the derivatives."""
    total = raw.sum(-1, keepdim=True)
    one = torch.eye(Y.shape[-1], dtype=Y.dtype)
    return Fluxes(
        *conducted,
        raw - Y * total,
        j_T - Y * j_T.sum(-1, keepdim=True),
        j_Y - Y.unsqueeze(-1) * j_Y.sum(-2, keepdim=True) - one * total.unsqueeze(-1),
        torch.zeros_like(raw),
        j_dY - Y.unsqueeze(-1) * j_dY.sum(-2, keepdim=True),
    )


def to_mass(gas: Gas, by_X: torch.Tensor, X: torch.Tensor, W: torch.Tensor) -> torch.Tensor:
    """Derivatives (..., q, K) in the mole fractions X (..., K), as derivatives in the mass fractions."""
    along = (by_X @ X.unsqueeze(-1)).squeeze(-1)
    return (by_X - along.unsqueeze(-1)) * (W.unsqueeze(-1) / gas.W).unsqueeze(-2)


def _log_slope(gas: Gas, T: torch.Tensor) -> torch.Tensor:
    """Derivative of ln(p D_jk) in T, (..., K, K)."""
    fit, log_T = gas.fits[2], T.log()
    powers = torch.stack([log_T**n for n in range(5)], dim=-1)
    slopes = torch.stack([0 * log_T, *(n * log_T ** (n - 1) for n in range(1, 5))], dim=-1)
    count = len(gas.W)
    value, slope = ((v @ fit.flatten(0, 1).T).unflatten(-1, (count, count)) for v in (powers, slopes))
    return (slope / value + 1.5) / T[..., None, None]


def _conducted(gas: Gas, T: torch.Tensor, Y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lam of the mixture rule (...), and its derivatives in T (...) and Y (..., K)."""
    log_T, root, t = T.log(), T.sqrt().unsqueeze(-1), T.unsqueeze(-1)
    powers = torch.stack([log_T**n for n in range(5)], dim=-1)
    slopes = torch.stack([0 * log_T, *(n * log_T ** (n - 1) for n in range(1, 5))], dim=-1)
    each = powers @ gas.fits[1].T * root
    each_T = slopes @ gas.fits[1].T * root / t + each / (2 * t)
    W = gas.mean_W(Y)
    X = Y / gas.W * W.unsqueeze(-1)
    harmonic = (X / each).sum(-1, keepdim=True)
    lam = 0.5 * ((X * each).sum(-1) + 1 / harmonic[..., 0])
    lam_T = 0.5 * ((X * each_T).sum(-1) + (X * each_T / each**2).sum(-1) / harmonic[..., 0] ** 2)
    lam_X = 0.5 * (each - 1 / each / harmonic**2)
    return lam, lam_T, to_mass(gas, lam_X.unsqueeze(-2), X, W).squeeze(-2)


def _averaged(
    gas: Gas, p: torch.Tensor, T: torch.Tensor, Y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """D into the mixture, (..., K), and the derivatives of ln D in T (..., K) and in Y (..., K, K)."""
    _, _, pD = gas._polynomials(T)
    W = gas.mean_W(Y)
    X = Y / gas.W * W.unsqueeze(-1)
    inside = (X >= 0).to(X.dtype)
    safe = X.clamp_min(0.0) + 1e-14
    others = 1 - torch.eye(len(gas.W), dtype=X.dtype)
    inverse = others / pD
    mass = safe * gas.W
    above, total = mass @ others, mass.sum(-1, keepdim=True)
    below = (inverse @ safe.unsqueeze(-1)).squeeze(-1)
    D = above / (total * below * p.unsqueeze(-1))
    D_T = ((inverse * _log_slope(gas, T)) @ safe.unsqueeze(-1)).squeeze(-1) / below
    D_X = others * gas.W / above.unsqueeze(-1) - (gas.W / total).unsqueeze(-2) - inverse / below.unsqueeze(-1)
    return D, D_T, to_mass(gas, D_X * inside.unsqueeze(-2), X, W)
