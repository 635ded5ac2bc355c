"""Rate constants that depend on pressure: tables over pressure, Chebyshev polynomials, and the forms of fall-off.

Temperatures T have shape (..., 1) or (..., S) and collider concentrations M (..., S), for S reactions; SI units.
"""

import dataclasses
import math
from typing import Any, TypeVar

import torch

R = 8.31446261815324  # J/(mol K)
Table = TypeVar("Table")


@dataclasses.dataclass(frozen=True)
class PressureTable:
    """Rate constants at several pressures, between which ln k is linear in ln p; beyond them the nearest holds.

    Each is a sum of terms A T^b exp(-Ea/(R T)). S reactions, L pressures, N terms; what is missing is filled up.

    Attributes:
        which: Numbers of the reactions, shape (S,).
        log_p: ln of the pressures [Pa], rising, inf where there are fewer; shape (S, L).
        A: Pre-exponential factors [SI], 0 for a missing term; shape (S, L, N).
        b: Temperature exponents, likewise.
        Ea: Activation energies [J/mol], likewise.
    """

    which: torch.Tensor
    log_p: torch.Tensor
    A: torch.Tensor
    b: torch.Tensor
    Ea: torch.Tensor

    def __call__(self, T: torch.Tensor, M: torch.Tensor) -> torch.Tensor:
        """Rate constants (..., S) at the pressures R T M."""
        log_p = (R * T * M).clamp_min(1e-30).log()
        known = self.log_p.isfinite().sum(1)
        lower = ((self.log_p <= log_p.detach().unsqueeze(-1)).sum(-1) - 1).clamp_min(0)
        upper = torch.minimum(lower + 1, known - 1)
        rows = torch.arange(len(known), device=known.device).expand(lower.shape)
        first, last = self.log_p[rows, lower], self.log_p[rows, upper]
        share = ((log_p - first) / torch.where(upper > lower, last - first, 1.0)).clamp(0.0, 1.0)
        below, above = (self._log_k(rows, level, T) for level in (lower, upper))
        return (below + share * (above - below)).exp()

    def _log_k(self, rows: torch.Tensor, level: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
        """Ln of the sums at levels (..., S), without overflow."""
        A, b, Ea = (t[rows, level] for t in (self.A, self.b, self.Ea))
        T = T.unsqueeze(-1)
        powers = A.abs().clamp_min(1e-300).log() + b * T.log() - Ea / (R * T)
        largest = powers.detach().masked_fill(A == 0, -math.inf).amax(-1, keepdim=True).clamp_min(-690.0)
        total = (A.sign() * (powers - largest).exp()).sum(-1)
        return largest.squeeze(-1) + total.clamp_min(1e-300).log()


@dataclasses.dataclass(frozen=True)
class Chebyshev:
    """log10 k as Chebyshev polynomials in 1/T and log p.

    Attributes:
        which: Numbers of the reactions, shape (S,).
        T: Lowest and highest temperature [K], shape (S, 2).
        p: Lowest and highest pressure [Pa], shape (S, 2).
        data: Coefficients for k in SI units, shape (S, powers of 1/T, powers of log p).
    """

    which: torch.Tensor
    T: torch.Tensor
    p: torch.Tensor
    data: torch.Tensor

    def __call__(self, T: torch.Tensor, M: torch.Tensor) -> torch.Tensor:
        """Rate constants (..., S) at the pressures R T M."""
        log_p, ends = (R * T * M).clamp_min(1e-30).log(), self.p.log()
        hot, cold = 1 / self.T[:, 1], 1 / self.T[:, 0]
        x = (2 / T - cold - hot) / (hot - cold)
        y = (2 * log_p - ends[:, 0] - ends[:, 1]) / (ends[:, 1] - ends[:, 0])
        of_x, of_y = (_chebyshev(z.expand_as(log_p), n) for z, n in zip((x, y), self.data.shape[1:], strict=True))
        level = torch.einsum("...si,sij,...sj->...s", of_x, self.data, of_y)
        return (level * math.log(10)).exp()


def _chebyshev(x: torch.Tensor, count: int) -> torch.Tensor:
    """T_0 ... of x (...), shape (..., count)."""
    terms = [torch.ones_like(x), x]
    for _ in range(count - 2):
        terms.append(2 * x * terms[-1] - terms[-2])
    return torch.stack(terms[:count], dim=-1)


@dataclasses.dataclass(frozen=True)
class Falloff:
    """How rate constants of S reactions go from the low-pressure to the high-pressure limit.

    Attributes:
        which: Numbers of the reactions, shape (S,).
        activated: Which are chemically activated, and fall with pressure; bool (S,).
        troe: Which are Troe's; bool (S,).
        troe_parameters: a, T3, T1, T2 [K], T2 = inf where there is none; shape (S, 4).
        sri: Which are SRI's; bool (S,).
        sri_parameters: a, b [K], c [K], d, e; shape (S, 5).
        tsang: Which are Tsang's; bool (S,).
        tsang_parameters: A, B [1/K]; shape (S, 2).
    """

    which: torch.Tensor
    activated: torch.Tensor
    troe: torch.Tensor
    troe_parameters: torch.Tensor
    sri: torch.Tensor
    sri_parameters: torch.Tensor
    tsang: torch.Tensor
    tsang_parameters: torch.Tensor

    def __call__(self, T: torch.Tensor, M: torch.Tensor, high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        """Rate constants (..., S) of those of the two limits."""
        reduced = low * M.clamp_min(0.0) / high
        blend = self._blend(T, reduced)
        return torch.where(self.activated, low, high * reduced) / (1 + reduced) * blend

    def _blend(self, T: torch.Tensor, reduced: torch.Tensor) -> torch.Tensor:
        least = 1e-30 if T.dtype == torch.float32 else 1e-300
        log_reduced = reduced.clamp_min(least).log10()
        blend = torch.ones_like(reduced)
        if bool(self.troe.any()) or bool(self.tsang.any()):
            center = self._troe_center(T)
            if bool(self.tsang.any()):
                A, B = self.tsang_parameters.unbind(1)
                center = torch.where(self.tsang, A + B * T, center)
            log_center = center.clamp_min(least).log10()
            c, n = -0.4 - 0.67 * log_center, 0.75 - 1.27 * log_center
            f = (log_reduced + c) / (n - 0.14 * (log_reduced + c))
            blend = torch.where(self.troe | self.tsang, 10 ** (log_center / (1 + f * f)), blend)
        if bool(self.sri.any()):
            a, b, c, d, e = self.sri_parameters.unbind(1)
            level = (a * torch.exp(-b / T) + torch.exp(-T / c)).clamp_min(least).log()
            sri = d * T**e * torch.exp(level / (1 + log_reduced**2))
            blend = torch.where(self.sri, sri, blend)
        return blend

    def _troe_center(self, T: torch.Tensor) -> torch.Tensor:
        a, T3, T1, T2 = self.troe_parameters.unbind(1)
        has_T2 = T2.isfinite()  # exp(-inf/T) is 0, but its derivative inf 0
        last = torch.where(has_T2, torch.exp(-torch.where(has_T2, T2, 1.0) / T), 0.0)
        return (1 - a) * torch.exp(-T / T3) + a * torch.exp(-T / T1) + last


def renumbered(numbers: torch.Tensor, kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Places in `numbers` (S,) of those that are kept (N,), and their places among the kept; (M,) each."""
    new = {old: k for k, old in enumerate(kept.tolist())}
    found = [(k, new[old]) for k, old in enumerate(numbers.tolist()) if old in new]
    rows, places = torch.tensor(found, dtype=torch.long).reshape(-1, 2).unbind(1)
    return rows, places


def rows_of(table: Table | None, kept: torch.Tensor) -> Table | None:
    """Rows of a table that belong to the reactions kept (N,), called by their places there; None where none is.

    Args:
        table: A dataclass of tensors with a first axis over its reactions, `which` among them; None for none.
        kept: Numbers of reactions.
    """
    if table is None:
        return None
    rows, places = renumbered(table.which, kept)  # type: ignore[attr-defined]
    if not len(rows):
        return None

    def cut(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value[rows]
        return dataclasses.replace(value, **{f.name: cut(getattr(value, f.name)) for f in dataclasses.fields(value)})

    return dataclasses.replace(cut(table), which=places)
