"""An ideal-gas mixture: thermodynamics, kinetics and mixture-averaged transport in torch, batched over any points.

Everything is a smooth function of temperature and composition, differentiable in them and in every rate constant. SI
units with the mole; mass fractions Y and concentrations C have shape (..., K), temperatures T shape (...).
"""

import copy
import dataclasses
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

import torch

from simengine.flame.gas.collision import transport_fits
from simengine.flame.gas.mechanism import Mechanism, MechanismError
from simengine.flame.gas.multicomponent import MulticomponentTransport
from simengine.flame.gas.reduced import part_of, reachable
from simengine.flame.gas.units import R
from simengine.ops.fields import gas as gas_op
from simengine.ops.fields import gas_reference
from simengine.ops.fields.gas_reference import Kinetics, Rates

RateParameters = Rates


class GasPart(NamedTuple):
    """Part of a gas: its own gas, and the numbers of its species and reactions in the whole."""

    gas: "Gas"
    species: torch.Tensor
    reactions: torch.Tensor


class Gas:
    """Properties of the mixtures of a mechanism.

    Args:
        mechanism: The species and reactions.
        smoothing: Concentrations [mol/m^3] below which a power of order under 1 goes to zero linearly, as
            C (C + s)^(n-1), instead of with an infinite slope; 0 for none.
    """

    def __init__(self, mechanism: Mechanism, *, smoothing: float = 0.0) -> None:
        self.mechanism: Mechanism = mechanism
        self.smoothing: float = smoothing
        self.W = mechanism.W
        self._fits: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
        self._parts: dict[tuple[int, ...], GasPart] = {}
        r = mechanism.reactions
        self.kinetics: Kinetics = Kinetics(
            nasa=mechanism.nasa,
            breaks=mechanism.breaks,
            p_ref=mechanism.p_ref,
            rates=Rates(r.A, r.b, r.Ea, r.orders, r.A_low, r.b_low, r.Ea_low),
            reactants=r.reactants,
            products=r.products,
            reversible=r.reversible,
            third_body=r.third_body,
            falloff=r.falloff,
            efficiencies=r.efficiencies,
            troe=r.troe,
            troe_parameters=r.troe_parameters,
            activated=r.activated,
            sri=r.sri,
            sri_parameters=r.sri_parameters,
            tsang=r.tsang,
            tsang_parameters=r.tsang_parameters,
            pressures=r.pressures,
            chebyshev=r.chebyshev,
            mixtures=r.mixtures,
            barriers=r.barriers,
            smoothing=smoothing,
        )
        self.rate_parameters: Rates = self.kinetics.rates

    def smoothed(self, smoothing: float) -> "Gas":
        """The same gas with another smoothing."""
        other = copy.copy(self)
        other.smoothing, other.kinetics = smoothing, dataclasses.replace(self.kinetics, smoothing=smoothing)
        other._parts = {}
        return other

    def reaching(self, fed: Iterable[str]) -> "GasPart":
        """The gas of the species that reactions can make from those fed; kept, as many flames share it.

        Raises:
            MechanismError: One of them is not in the mechanism.
        """
        kept = reachable(self.mechanism, fed)
        if kept not in self._parts:
            mechanism, reactions = part_of(self.mechanism, kept)
            gas, species = Gas(mechanism, smoothing=self.smoothing), torch.tensor(kept)
            if all(self.mechanism.transport):
                viscosity, conductivity, diffusion = self.fits  # those of the whole, to the bit
                gas._fits = viscosity[species], conductivity[species], diffusion[species][:, species]
            self._parts[kept] = GasPart(gas, species, reactions)
        return self._parts[kept]

    # Thermodynamics

    def cp_over_R(self, T: torch.Tensor) -> torch.Tensor:
        """Molar heat capacity of each species over R, (..., K)."""
        return gas_reference.cp_over_R(self.kinetics, T)

    def h_over_RT(self, T: torch.Tensor) -> torch.Tensor:
        """Molar enthalpy over R T, (..., K)."""
        return gas_reference.h_over_RT(self.kinetics, T)

    def s_over_R(self, T: torch.Tensor) -> torch.Tensor:
        """Molar entropy over R at the reference pressure, (..., K)."""
        return gas_reference.s_over_R(self.kinetics, T)

    def mean_W(self, Y: torch.Tensor) -> torch.Tensor:
        """Mean molar mass [kg/mol], (...)."""
        return 1 / (Y / self.W).sum(-1)

    def mole_fractions(self, Y: torch.Tensor) -> torch.Tensor:
        """X of Y, (..., K)."""
        return Y / self.W * self.mean_W(Y).unsqueeze(-1)

    def mass_fractions(self, X: torch.Tensor) -> torch.Tensor:
        """Y of X, (..., K)."""
        mass = X * self.W
        return mass / mass.sum(-1, keepdim=True)

    def density(self, p: torch.Tensor, T: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """Rho [kg/m^3], (...)."""
        return p * self.mean_W(Y) / (R * T)

    def cp_species(self, T: torch.Tensor) -> torch.Tensor:
        """Specific heats [J/(kg K)], (..., K)."""
        return self.cp_over_R(T) * R / self.W

    def h_species(self, T: torch.Tensor) -> torch.Tensor:
        """Specific enthalpies [J/kg], (..., K)."""
        return self.h_over_RT(T) * (R * T).unsqueeze(-1) / self.W

    def cp(self, T: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """Specific heat of the mixture [J/(kg K)], (...)."""
        return (self.cp_species(T) * Y).sum(-1)

    def h(self, T: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """Specific enthalpy of the mixture [J/kg], (...)."""
        return (self.h_species(T) * Y).sum(-1)

    # Kinetics

    def rates_of_progress(self, T: torch.Tensor, C: torch.Tensor, parameters: Rates | None = None) -> torch.Tensor:
        """Net rates of progress [mol/(m^3 s)], (..., R).

        Args:
            T: Temperatures [K], (...).
            C: Concentrations [mol/m^3], (..., K).
            parameters: Rate parameters; None for the mechanism's.
        """
        return gas_reference.rates_of_progress(self.kinetics, T, C, parameters or self.rate_parameters)

    def production(self, T: torch.Tensor, C: torch.Tensor, parameters: Rates | None = None) -> torch.Tensor:
        """Net molar production of each species [mol/(m^3 s)], (..., K)."""
        return gas_reference.production(self.kinetics, T, C, parameters or self.rate_parameters)

    def production_jacobian(
        self, T: torch.Tensor, C: torch.Tensor, parameters: Rates | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Production, its derivative in T at constant C, both (..., K), and in C, (..., K, K); without gradients."""
        shape, count = T.shape, C.shape[-1]
        w, of_T, of_C = gas_op.production_jacobian(self.kinetics, T.reshape(-1), C.reshape(-1, count), parameters)
        return w.reshape(*shape, count), of_T.reshape(*shape, count), of_C.reshape(*shape, count, count)

    # Transport

    @property
    def fits(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Polynomials in ln T of sqrt(mu/sqrt(T)) (K, 5), lam/sqrt(T) (K, 5) and p D/T^1.5 (K, K, 5)."""
        if self._fits is None:
            missing = [s for s, t in zip(self.mechanism.species, self.mechanism.transport, strict=True) if t is None]
            if missing:
                raise MechanismError(f"{self.mechanism.name}: species without transport data: {', '.join(missing)}")
            low, high = self.mechanism.T_range
            grid = torch.linspace(low, high, 50, dtype=torch.float64)
            data = [t for t in self.mechanism.transport if t is not None]
            fits = transport_fits(data, self.W.numpy(), self.cp_over_R(grid).numpy(), grid.numpy())
            self._fits = tuple(torch.as_tensor(fit) for fit in fits)  # type: ignore[assignment]
            assert self._fits is not None
        return self._fits

    @cached_property
    def multicomponent(self) -> MulticomponentTransport:
        """Multicomponent conductivity and thermal diffusion."""
        return MulticomponentTransport(self)

    def _polynomials(self, T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Viscosity and conductivity of species (..., K), p D_jk of pairs (..., K, K); SI units."""
        log_T, root = T.log(), T.sqrt().unsqueeze(-1)
        powers = torch.stack([log_T**n for n in range(5)], dim=-1)
        viscosity, conductivity, diffusion = self.fits
        mu = (powers @ viscosity.T) ** 2 * root
        lam = powers @ conductivity.T * root
        pD = (powers @ diffusion.flatten(0, 1).T) * T.unsqueeze(-1) * root
        return mu, lam, pD.unflatten(-1, (len(self.W), -1))

    def viscosity(self, T: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """Mu of the mixture [Pa s] (Wilke), (...)."""
        mu, _, _ = self._polynomials(T)
        X = self.mole_fractions(Y)
        ratio = mu.unsqueeze(-1) / mu.unsqueeze(-2)  # k, j
        weights = self.W[None, :] / self.W[:, None]  # W_j/W_k
        phi = (1 + ratio.sqrt() * weights**0.25) ** 2 / (8 * (1 + 1 / weights)).sqrt()
        return (X * mu / (phi @ X.unsqueeze(-1)).squeeze(-1)).sum(-1)

    def conductivity(self, T: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """Lam of the mixture [W/(m K)], mean of the arithmetic and the harmonic mean, (...)."""
        _, lam, _ = self._polynomials(T)
        X = self.mole_fractions(Y)
        return 0.5 * ((X * lam).sum(-1) + 1 / (X / lam).sum(-1))

    def diffusion(self, p: torch.Tensor, T: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """Mixture-averaged diffusivities of the mole-fraction gradients [m^2/s], (..., K).

        D_k = (1 - Y_k)/sum_{j != k} X_j/D_jk, written without 0/0 where one species is alone.
        """
        _, _, pD = self._polynomials(T)
        return self._mixed(p, pD, self.mole_fractions(Y))

    def _mixed(self, p: torch.Tensor, pD: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
        X = X.clamp_min(0.0) + 1e-14
        others = 1 - torch.eye(len(self.W), dtype=X.dtype, device=X.device)
        mass = X * self.W
        above = mass @ others
        below = ((others / pD) @ X.unsqueeze(-1)).squeeze(-1)
        return above / (mass.sum(-1, keepdim=True) * below * p.unsqueeze(-1))

    def transport(self, p: torch.Tensor, T: torch.Tensor, Y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Conductivity and diffusivities together, for flames; (...) and (..., K)."""
        _, lam, pD = self._polynomials(T)
        X = self.mole_fractions(Y)
        return 0.5 * ((X * lam).sum(-1) + 1 / (X / lam).sum(-1)), self._mixed(p, pD, X)
