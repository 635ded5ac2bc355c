"""An ideal-gas mixture: thermodynamics, kinetics and mixture-averaged transport in torch, batched over any points.

Everything is a smooth function of temperature and composition, differentiable in them and in every rate constant. SI
units with the mole; mass fractions Y and concentrations C have shape (..., K), temperatures T shape (...).
"""

import dataclasses

import torch

from simengine.flame.collision import transport_fits
from simengine.flame.mechanism import Mechanism, MechanismError
from simengine.flame.units import R


@dataclasses.dataclass(frozen=True)
class RateParameters:
    """What the rates of a mechanism depend on, each a possible leaf; shapes as in `Reactions`."""

    A: torch.Tensor
    b: torch.Tensor
    Ea: torch.Tensor
    orders: torch.Tensor


class Gas:
    """Properties of the mixtures of a mechanism.

    Args:
        mechanism: The species and reactions.
        smoothing: Concentrations [mol/m^3] below which a power of order under 1 goes to zero linearly, as
            C (C + s)^(n-1), instead of with an infinite slope; 0 for none.
    """

    def __init__(self, mechanism: Mechanism, *, smoothing: float = 0.0) -> None:
        self.mechanism, self.smoothing = mechanism, smoothing
        self.W = mechanism.W
        ranges = mechanism.nasa  # (K, G, 9)
        self._nasa = ranges.flatten(0, 1).T.contiguous()  # (9, K G)
        self._groups = ranges.shape[1]
        self._fits: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
        r = mechanism.reactions
        self.rate_parameters = RateParameters(r.A, r.b, r.Ea, r.orders)
        self._change = r.products - r.reactants
        plain = (r.orders == r.reactants).all(1) & (r.orders == r.orders.round()).all(1)
        plain &= (r.products == r.products.round()).all(1)
        self._powers = torch.nonzero(~plain)[:, 0]
        self._forward_slots = self._slots(torch.where(plain[:, None], r.orders, 0.0))
        self._reverse_slots = self._slots(torch.where((plain & r.reversible)[:, None], r.products, 0.0))
        if bool((r.reversible & ~plain).any()):
            which = r.equations[int(torch.nonzero(r.reversible & ~plain)[0, 0])]
            raise MechanismError(f"{mechanism.name}: reaction {which!r}: reversible with fractional coefficients")

    def _slots(self, orders: torch.Tensor) -> torch.Tensor:
        """Species of each factor of a product of concentrations; K stands for 1. Shape (R, most factors)."""
        rows = [[k for k, n in enumerate(row) for _ in range(round(n))] for row in orders.tolist()]
        most = max((len(row) for row in rows), default=0)
        padded = [row + [len(self.W)] * (most - len(row)) for row in rows]
        return torch.tensor(padded, dtype=torch.long).reshape(len(rows), most)

    # Thermodynamics

    def _select(self, values: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
        """Of values in every range (..., K G) those of the range T (...) is in, (..., K)."""
        values = values.unflatten(-1, (-1, self._groups))
        chosen = values[..., 0]
        for g in range(1, self._groups):
            chosen = torch.where(T.unsqueeze(-1) >= self.mechanism.breaks[:, g - 1], values[..., g], chosen)
        return chosen

    def cp_over_R(self, T: torch.Tensor) -> torch.Tensor:
        """Molar heat capacity of each species over R, (..., K)."""
        powers = torch.stack([T**n for n in range(-2, 5)], dim=-1)
        return self._select(powers @ self._nasa[:7], T)

    def h_over_RT(self, T: torch.Tensor) -> torch.Tensor:
        """Molar enthalpy over R T, (..., K)."""
        terms = [-(T**-2), T.log() / T, *(T**n / (n + 1) for n in range(5)), 1 / T]
        return self._select(torch.stack(terms, dim=-1) @ self._nasa[:8], T)

    def s_over_R(self, T: torch.Tensor) -> torch.Tensor:
        """Molar entropy over R at the reference pressure, (..., K)."""
        terms = [-(T**-2) / 2, -1 / T, T.log(), *(T**n / n for n in range(1, 5)), torch.ones_like(T)]
        rows = torch.cat((self._nasa[:7], self._nasa[8:]))
        return self._select(torch.stack(terms, dim=-1) @ rows, T)

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

    def rate_constants(
        self, T: torch.Tensor, C: torch.Tensor, parameters: RateParameters | None = None
    ) -> torch.Tensor:
        """Forward rate constants with fall-off and colliders, (..., R)."""
        r, q = self.mechanism.reactions, parameters or self.rate_parameters
        log_T, inverse = T.log().unsqueeze(-1), 1 / (R * T).unsqueeze(-1)
        k = q.A * torch.exp(q.b * log_T - q.Ea * inverse)
        if not bool((r.third_body | r.falloff).any()):
            return k
        colliders = C @ r.efficiencies.T
        k = torch.where(r.third_body, k * colliders, k)
        if not bool(r.falloff.any()):
            return k
        some = torch.nonzero(r.falloff)[:, 0]
        low = r.A_low[some] * torch.exp(r.b_low[some] * log_T - r.Ea_low[some] * inverse)
        reduced = low * colliders[..., some].clamp_min(0.0) / k[..., some]
        blend = self._troe(T, reduced, some)
        return k.index_copy(-1, some, k[..., some] * reduced / (1 + reduced) * blend)

    def _troe(self, T: torch.Tensor, reduced: torch.Tensor, some: torch.Tensor) -> torch.Tensor:
        r = self.mechanism.reactions
        a, T3, T1, T2 = r.troe_parameters[some].unbind(1)
        T = T.unsqueeze(-1)
        has_T2 = T2.isfinite()  # exp(-inf/T) is 0, but its derivative inf 0
        last = torch.where(has_T2, torch.exp(-torch.where(has_T2, T2, 1.0) / T), 0.0)
        center = (1 - a) * torch.exp(-T / T3) + a * torch.exp(-T / T1) + last
        log_center = center.clamp_min(1e-300).log10()
        log_reduced = reduced.clamp_min(1e-300).log10()
        c, n = -0.4 - 0.67 * log_center, 0.75 - 1.27 * log_center
        f = (log_reduced + c) / (n - 0.14 * (log_reduced + c))
        return torch.where(r.troe[some], 10 ** (log_center / (1 + f * f)), 1.0)

    def rates_of_progress(
        self, T: torch.Tensor, C: torch.Tensor, parameters: RateParameters | None = None
    ) -> torch.Tensor:
        """Net rates of progress [mol/(m^3 s)], (..., R).

        Args:
            T: Temperatures [K], (...).
            C: Concentrations [mol/m^3], (..., K).
            parameters: Rate parameters; None for the mechanism's.
        """
        r, q = self.mechanism.reactions, parameters or self.rate_parameters
        k = self.rate_constants(T, C, q)
        padded = torch.cat((C, torch.ones_like(C[..., :1])), dim=-1)
        forward = k * padded[..., self._forward_slots].prod(-1)
        if len(self._powers):
            orders = q.orders[self._powers]  # (P, K)
            base = (C.clamp_min(0.0) + self.smoothing).unsqueeze(-2)
            involved = orders != 0
            safe = torch.where(involved, base, 1.0)
            factors = torch.where(involved, C.unsqueeze(-2) * safe ** (orders - 1), 1.0)
            forward = forward.index_copy(-1, self._powers, forward[..., self._powers] * factors.prod(-1))
        if not bool(r.reversible.any()):
            return forward
        g = self.h_over_RT(T) - self.s_over_R(T)
        log_K = -(g @ self._change.T) + self._change.sum(1) * (self.mechanism.p_ref / (R * T)).log().unsqueeze(-1)
        back = k * torch.exp(-log_K.clamp(-690.0, 690.0)) * padded[..., self._reverse_slots].prod(-1)
        return forward - torch.where(r.reversible, back, 0.0)

    def production(self, T: torch.Tensor, C: torch.Tensor, parameters: RateParameters | None = None) -> torch.Tensor:
        """Net molar production of each species [mol/(m^3 s)], (..., K)."""
        return self.rates_of_progress(T, C, parameters) @ self._change

    # Transport

    def _polynomials(self, T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Viscosity and conductivity of species (..., K), p D_jk of pairs (..., K, K); SI units."""
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
        log_T, root = T.log(), T.sqrt().unsqueeze(-1)
        powers = torch.stack([log_T**n for n in range(5)], dim=-1)
        viscosity, conductivity, diffusion = self._fits
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
