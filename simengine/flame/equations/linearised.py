"""Exact derivatives of the energy and species equations, written out: what Newton needs at every point.

`AbstractDetailedFlame.energy_and_species` by reverse sweeps costs one sweep for each of 2 K + 2 entries, each through
all pairs of species and all reactions. Here the rates and their derivatives come from one kernel (`ops.gas`) and the
rest is algebra on (K, K) arrays, which is what makes 53 species affordable.
"""

from typing import TYPE_CHECKING

import torch

from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.gas.units import R
from simengine.ops.fields import gas_reference

if TYPE_CHECKING:
    from simengine.flame.equations.detailed import AbstractDetailedFlame


def to_mass(gas: Gas, by_X: torch.Tensor, X: torch.Tensor, W: torch.Tensor) -> torch.Tensor:
    """Derivatives (..., q, K) in the mole fractions X (..., K), as derivatives in the mass fractions."""
    along = (by_X @ X.unsqueeze(-1)).squeeze(-1)
    return (by_X - along.unsqueeze(-1)) * (W.unsqueeze(-1) / gas.W).unsqueeze(-2)


def transport(
    gas: Gas, p: torch.Tensor, T: torch.Tensor, Y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lam (...) and its derivatives in T (...) and Y (..., K); D (..., K) and those of ln D, (..., K), (..., K, K)."""
    lam_fit, diffusion_fit = gas.fits[1], gas.fits[2]
    count = len(gas.W)
    log_T, root = T.log(), T.sqrt().unsqueeze(-1)
    powers = torch.stack([log_T**n for n in range(5)], dim=-1)
    slopes = torch.stack([0 * log_T, *(n * log_T ** (n - 1) for n in range(1, 5))], dim=-1)
    t = T.unsqueeze(-1)
    each = powers @ lam_fit.T * root
    each_T = slopes @ lam_fit.T * root / t + each / (2 * t)
    polynomial = (powers @ diffusion_fit.flatten(0, 1).T).unflatten(-1, (count, count))
    log_pD_T = (slopes @ diffusion_fit.flatten(0, 1).T).unflatten(-1, (count, count)) / polynomial
    log_pD_T = (log_pD_T + 1.5) / t.unsqueeze(-1)
    W = gas.mean_W(Y)
    X = Y / gas.W * W.unsqueeze(-1)
    harmonic = (X / each).sum(-1, keepdim=True)
    lam = 0.5 * ((X * each).sum(-1) + 1 / harmonic[..., 0])
    lam_T = 0.5 * ((X * each_T).sum(-1) + (X * each_T / each**2).sum(-1) / harmonic[..., 0] ** 2)
    lam_X = 0.5 * (each - 1 / each / harmonic**2)
    lam_Y = to_mass(gas, lam_X.unsqueeze(-2), X, W).squeeze(-2)
    inside = (X >= 0).to(X.dtype)
    safe = X.clamp_min(0.0) + 1e-14
    others = 1 - torch.eye(count, dtype=X.dtype)
    inverse = others / (polynomial * (t * root).unsqueeze(-1))  # 1/(p D_jk), 0 for j = k
    mass = safe * gas.W
    above, total = mass @ others, mass.sum(-1, keepdim=True)
    below = (inverse @ safe.unsqueeze(-1)).squeeze(-1)
    D = above / (total * below * p.unsqueeze(-1))
    D_T = ((inverse * log_pD_T) @ safe.unsqueeze(-1)).squeeze(-1) / below
    D_X = others * gas.W / above.unsqueeze(-1) - (gas.W / total).unsqueeze(-2) - inverse / below.unsqueeze(-1)
    D_X = D_X * inside.unsqueeze(-2)
    return lam, lam_T, lam_Y, D, D_T, to_mass(gas, D_X, X, W)


def energy_and_species(
    flame: "AbstractDetailedFlame",
    mass_flux: torch.Tensor,
    T: torch.Tensor,
    Y: torch.Tensor,
    dT: torch.Tensor,
    dY: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fluxes and sources of T and the species, (..., 1 + K) each, and their derivatives.

    Returns:
        F, S, dF, dS; derivatives have shape (..., 1 + K, 2 (1 + K) + 1), in the order T, Y, T', Y', mass flux.
    """
    gas, p, K = flame.gas, flame._pressure(), len(flame.gas.W)
    own = flame.parameters()
    with torch.no_grad():
        W = gas.mean_W(Y)
        rho = p * W / (R * T)
        w_over = (W.unsqueeze(-1) / gas.W).unsqueeze(-2)  # W/W_l
        lam, lam_T, lam_Y, D, D_T, D_Y = transport(gas, p, T, Y)
        lam, lam_T, lam_Y = (own["lam_factor"] * v for v in (lam, lam_T, lam_Y))
        a = -rho.unsqueeze(-1) * own["D_factor"] * D  # j* = a g
        log_a_T = D_T - (1 / T).unsqueeze(-1)
        log_a_Y = D_Y - w_over
        s = (dY / gas.W).sum(-1)
        Ws = (W * s).unsqueeze(-1)
        g = dY - Y * Ws
        one = torch.eye(K, dtype=Y.dtype)
        raw, j_T = a * g, a * g * log_a_T
        j_Y = raw.unsqueeze(-1) * log_a_Y
        j_Y = j_Y + a.unsqueeze(-1) * ((Y * Ws).unsqueeze(-1) * w_over - one * Ws.unsqueeze(-1))
        j_dY = a.unsqueeze(-1) * (one - Y.unsqueeze(-1) * w_over)
        total = raw.sum(-1)
        j = raw - Y * total.unsqueeze(-1)
        j_T = j_T - Y * j_T.sum(-1, keepdim=True)
        j_Y = j_Y - Y.unsqueeze(-1) * j_Y.sum(-2, keepdim=True) - one * total[..., None, None]
        j_dY = j_dY - Y.unsqueeze(-1) * j_dY.sum(-2, keepdim=True)
        C = rho.unsqueeze(-1) * Y / gas.W
        made, made_T, made_C = gas.production_jacobian(T, C, flame.rates)
        along = (made_C @ C.unsqueeze(-1)).squeeze(-1)
        made_T = (made_T - along / T.unsqueeze(-1)) * gas.W
        made_Y = made_C * (rho.unsqueeze(-1) / gas.W).unsqueeze(-2) - along.unsqueeze(-1) * w_over
        made, made_Y = made * gas.W, made_Y * gas.W.unsqueeze(-1)
        t = T.unsqueeze(-1)
        cp = gas.cp_over_R(T) * R / gas.W
        cp_T = gas_reference.cp_slope_over_R(gas.kinetics, T) * R / gas.W
        h = gas.h_over_RT(T) * R * t / gas.W
        carried = mass_flux * (cp * Y).sum(-1) + (cp * j).sum(-1)
        size = 2 * (1 + K) + 1
        dF, dS = (Y.new_zeros(*Y.shape[:-1], 1 + K, size) for _ in range(2))
        of_T, of_Y, of_dT, of_dY, of_m = 0, slice(1, 1 + K), 1 + K, slice(2 + K, 2 + 2 * K), size - 1
        dF[..., 0, of_T], dF[..., 0, of_dT] = lam_T * dT, lam
        dF[..., 0, of_Y] = lam_Y * dT.unsqueeze(-1)
        dF[..., 1:, of_T], dF[..., 1:, of_Y], dF[..., 1:, of_dY] = -j_T, -j_Y, -j_dY
        warming = mass_flux * (cp_T * Y).sum(-1) + (cp * j_T).sum(-1) + (cp_T * j).sum(-1)
        dS[..., 0, of_T] = -warming * dT - (cp * made + h * made_T).sum(-1)
        by_Y = mass_flux.unsqueeze(-1) * cp + (cp.unsqueeze(-2) @ j_Y).squeeze(-2)
        dS[..., 0, of_Y] = -by_Y * dT.unsqueeze(-1) - (h.unsqueeze(-2) @ made_Y).squeeze(-2)
        dS[..., 0, of_dT] = -carried
        dS[..., 0, of_dY] = -(cp.unsqueeze(-2) @ j_dY).squeeze(-2) * dT.unsqueeze(-1)
        dS[..., 0, of_m] = -(cp * Y).sum(-1) * dT
        dS[..., 1:, of_T], dS[..., 1:, of_Y], dS[..., 1:, of_m] = made_T, made_Y, -dY
        dS[..., 1:, of_dY] = -mass_flux[..., None, None] * one
        closed = 1 + flame.closing
        F = torch.cat(((lam * dT).unsqueeze(-1), -j), dim=-1)
        heat = -carried * dT - (h * made).sum(-1)
        S = torch.cat((heat.unsqueeze(-1), made - mass_flux.unsqueeze(-1) * dY), dim=-1)
        F[..., closed], dF[..., closed, :], dS[..., closed, :] = 0.0, 0.0, 0.0
        S[..., closed], dS[..., closed, of_Y] = Y.sum(-1) - 1, 1.0
    return F, S, dF, dS
