"""Rate constants in a mixture of colliders by the reduced-pressure linear mixture rule (LMR-R), "linear Burke".

How strongly a collider j activates is its efficiency e_j(T) beside a reference M. With S = sum_j e_j [j], each collider
would alone reach the mixture's reduced pressure at a concentration S/e_j, and contributes there by its share e_j [j]/S:

    k(T, [.]) = sum_j k_j(T, S/e_j) e_j [j]/S

Colliders without a rate constant of their own take that of M, at the reduced pressure: k_M(T, S).

Source: Singal, Lee, Lei, Speth, Burke, Proc. Combust. Inst. 40 (2024) 105779, eqs. 7 and 8; the efficiencies stand for
ratios of the least negative eigenvalues of the master equation at low pressure.
"""

import dataclasses
from collections.abc import Callable

import torch

from simengine.ops.fields.pressure_rates import Chebyshev, Falloff, PressureTable, R, renumbered, rows_of


@dataclasses.dataclass(frozen=True)
class PureFalloff:
    """Fall-off rate constants with their two limits.

    Attributes:
        which: Numbers of the pure rate constants, shape (S,).
        form: How they go from one limit to the other.
        high: A [SI], b, Ea [J/mol] of the high-pressure limits, shape (S, 3).
        low: Likewise of the low-pressure limits.
    """

    which: torch.Tensor
    form: Falloff
    high: torch.Tensor
    low: torch.Tensor

    def __call__(self, T: torch.Tensor, M: torch.Tensor) -> torch.Tensor:
        """Rate constants (..., S) at temperatures T [K] and collider concentrations M [mol/m^3], (..., S)."""
        return self.form(T, M, _arrhenius(self.high, T), _arrhenius(self.low, T))


@dataclasses.dataclass(frozen=True)
class LinearBurke:
    """Rate constants of S reactions in mixtures of K species, of P pure rate constants.

    Attributes:
        which: Numbers of the reactions, shape (S,).
        efficiency: A, b, Ea [J/mol] of each species beside the reference, shape (S, K, 3).
        owner: Which of the S reactions each pure rate constant belongs to, shape (P,).
        own: Efficiency (as above) of the collider whose it is, 1 for the reference, shape (P, 3).
        share: 1 for each species that takes this rate constant, else 0, shape (P, K).
        pressures: Pure rate constants over pressure; None for none, as the next two. Their `which` counts to P.
        chebyshev: Pure Chebyshev rate constants.
        falloff: Pure fall-off rate constants.
    """

    which: torch.Tensor
    efficiency: torch.Tensor
    owner: torch.Tensor
    own: torch.Tensor
    share: torch.Tensor
    pressures: PressureTable | None
    chebyshev: Chebyshev | None
    falloff: PureFalloff | None

    def __call__(self, T: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
        """Rate constants (..., S) for T (..., 1) or (..., S) [K] and C (..., 1, K) or (..., S, K) [mol/m^3]."""
        weighted = _arrhenius(self.efficiency, T.unsqueeze(-1)) * C  # (..., S, K)
        total = weighted.sum(-1).clamp_min(1e-30)
        T = T.expand_as(total)[..., self.owner]
        M = total[..., self.owner] / _arrhenius(self.own, T)
        k = torch.zeros_like(M)
        rates: tuple[Callable[..., torch.Tensor] | None, ...] = (self.pressures, self.chebyshev, self.falloff)
        for rate in rates:
            if rate is not None:
                some: torch.Tensor = rate.which  # type: ignore[attr-defined]
                k = k.index_copy(-1, some, rate(T[..., some], M[..., some]))
        parts = k * (weighted[..., self.owner, :] * self.share).sum(-1)  # (..., P)
        return torch.zeros_like(total).index_add(-1, self.owner, parts) / total

    def part(self, reactions: torch.Tensor, species: torch.Tensor) -> "LinearBurke | None":
        """That of some reactions and species, numbers of the whole, rising; None where no reaction of it is left."""
        rows, place = renumbered(self.which, reactions)
        if not len(rows):
            return None
        pure, owner = renumbered(self.owner, rows)
        return LinearBurke(
            which=place,
            efficiency=self.efficiency[rows][:, species],
            owner=owner,
            own=self.own[pure],
            share=self.share[pure][:, species],
            pressures=rows_of(self.pressures, pure),
            chebyshev=rows_of(self.chebyshev, pure),
            falloff=rows_of(self.falloff, pure),
        )


def _arrhenius(parameters: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
    """A T^b exp(-Ea/(R T)) of A, b, Ea (..., 3)."""
    A, b, Ea = parameters.unbind(-1)
    return A * torch.exp(b * T.log() - Ea / (R * T))
