"""Exact derivatives of the energy and species equations, written out: what Newton needs at every point.

`AbstractDetailedFlame.energy_and_species` by reverse sweeps costs one sweep for each of 2 K + 2 entries, each through
all pairs of species and all reactions. Here the rates and their derivatives come from one kernel (`ops.gas`) and the
rest is algebra on (K, K) arrays, which is what makes 53 species affordable.
"""

from typing import TYPE_CHECKING

import torch

from simengine.flame.equations.conductivity_law import scale_slope
from simengine.flame.equations.heat_loss import lost_jacobian
from simengine.flame.equations.rate_law import scaled_jacobian
from simengine.flame.equations.transport import State
from simengine.flame.gas.units import R
from simengine.ops.fields import gas as gas_op

if TYPE_CHECKING:
    from simengine.flame.equations.detailed import AbstractDetailedFlame


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
    assert flame.D_factor is not None  # set where the flame is made
    with torch.no_grad():
        W = gas.mean_W(Y)
        rho = p * W / (R * T)
        w_over = (W.unsqueeze(-1) / gas.W).unsqueeze(-2)  # W/W_l
        one = torch.eye(K, dtype=Y.dtype)
        fluxes = flame.transport.linearised(gas, State(p, T, Y, dT, dY), flame.D_factor)
        factor, factor_T = scale_slope(flame, T)
        lam, lam_T = factor * fluxes.lam, factor * fluxes.lam_T + factor_T * fluxes.lam
        lam_Y = factor.unsqueeze(-1) * fluxes.lam_Y
        _, _, _, j, j_T, j_Y, j_dT, j_dY = fluxes
        C = rho.unsqueeze(-1) * Y / gas.W
        plain = gas.production_jacobian(T, C, flame.rates)
        (made, made_T, made_C), further = scaled_jacobian(flame, T, Y, plain)
        along = (made_C @ C.unsqueeze(-1)).squeeze(-1)
        made_T = (made_T - along / T.unsqueeze(-1)) * gas.W
        made_Y = made_C * (rho.unsqueeze(-1) / gas.W).unsqueeze(-2) - along.unsqueeze(-1) * w_over
        made_Y = made_Y if further is None else made_Y + further
        made, made_Y = made * gas.W, made_Y * gas.W.unsqueeze(-1)
        t = T.unsqueeze(-1)
        cp, h, _, cp_T = (v.reshape(*T.shape, K) for v in gas_op.thermo(gas.kinetics, T.reshape(-1)))
        per_mass = R / gas.W
        cp, cp_T, h = cp * per_mass, cp_T * per_mass, h * t * per_mass
        carried = mass_flux * (cp * Y).sum(-1) + (cp * j).sum(-1)
        size = 2 * (1 + K) + 1
        dF, dS = (Y.new_zeros(*Y.shape[:-1], 1 + K, size) for _ in range(2))
        of_T, of_Y, of_dT, of_dY, of_m = 0, slice(1, 1 + K), 1 + K, slice(2 + K, 2 + 2 * K), size - 1
        dF[..., 0, of_T], dF[..., 0, of_dT] = lam_T * dT, lam
        dF[..., 0, of_Y] = lam_Y * dT.unsqueeze(-1)
        dF[..., 1:, of_T], dF[..., 1:, of_Y], dF[..., 1:, of_dT], dF[..., 1:, of_dY] = -j_T, -j_Y, -j_dT, -j_dY
        warming = mass_flux * (cp_T * Y).sum(-1) + (cp * j_T).sum(-1) + (cp_T * j).sum(-1)
        dS[..., 0, of_T] = -warming * dT - (cp * made + h * made_T).sum(-1)
        by_Y = mass_flux.unsqueeze(-1) * cp + (cp.unsqueeze(-2) @ j_Y).squeeze(-2)
        dS[..., 0, of_Y] = -by_Y * dT.unsqueeze(-1) - (h.unsqueeze(-2) @ made_Y).squeeze(-2)
        dS[..., 0, of_dT] = -carried - (cp * j_dT).sum(-1) * dT
        dS[..., 0, of_dY] = -(cp.unsqueeze(-2) @ j_dY).squeeze(-2) * dT.unsqueeze(-1)
        dS[..., 0, of_m] = -(cp * Y).sum(-1) * dT
        dS[..., 1:, of_T], dS[..., 1:, of_Y], dS[..., 1:, of_m] = made_T, made_Y, -dY
        dS[..., 1:, of_dY] = -mass_flux[..., None, None] * one
        closed = 1 + flame.closing
        F = torch.cat(((lam * dT).unsqueeze(-1), -j), dim=-1)
        heat = -carried * dT - (h * made).sum(-1)
        if flame.loses:
            lost, lost_T, lost_Y = lost_jacobian(flame, T, Y)
            heat = heat - lost
            dS[..., 0, of_T] -= lost_T
            dS[..., 0, of_Y] -= lost_Y
        S = torch.cat((heat.unsqueeze(-1), made - mass_flux.unsqueeze(-1) * dY), dim=-1)
        F[..., closed], dF[..., closed, :], dS[..., closed, :] = 0.0, 0.0, 0.0
        S[..., closed], dS[..., closed, of_Y] = Y.sum(-1) - 1, 1.0
    return F, S, dF, dS
