"""The march through time by Taylor series of the equation itself, in windows as long as their last terms allow.

The rate of every field is told by the equation, F(u, u_t, u_x, u_xx, x, t) = 0, and so is the rate of the rate: the
coefficients of u(t) come one after another by arithmetic on truncated series (`solve.jet`), to any order. Nothing is
solved but the few fields of a cell. Windows: Jorba & Zou, Experimental Mathematics 14 (2005) 99.
"""

import dataclasses
import math
from typing import Annotated, Any, Literal

import torch

from simengine.scene.strict import Positive, Range
from simengine.solve.jet import Jet, NoRule
from simengine.worlds.fields.boundaries import BoundaryRows, Source
from simengine.worlds.fields.local import CellGeometry, CellGrid, Local
from simengine.worlds.fields.march import NEWTON, MarchError

_SHORTEST = 1e-7  # of the duration: a window below it means that the equation is too stiff for a series
_SAME = 1e-13  # rates that two steps of Newton agree on


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImplicitSteps:
    """Every step is solved for: an L-stable scheme of second order, for whatever is stiff."""

    type: Literal["implicit"] = "implicit"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaylorSeries:
    """Series in time from the equation itself, for what is not stiff: windows hold to about h^2/D on cells of width h.

    Attributes:
        order: Highest power of time.
        tolerance: Largest last term of a window, relative to the largest value of its field so far [1].
    """

    type: Literal["taylor"] = "taylor"
    order: Annotated[int, Range(ge=2, le=40)] = 10
    tolerance: Positive = 1e-9


@dataclasses.dataclass
class SeriesMarch:
    """An equation on its grid, marched by its Taylor series.

    Args:
        equation: With numbers that broadcast against (worlds, cells).
        grid: The box.
        rows: What happens at its sides.
        steps: In time; where the fields are wanted.
        series: Order and tolerance.
        keep: Whether gradients to the numbers are wanted.

    Attributes:
        windows: Series that were summed.
    """

    equation: Any
    grid: CellGrid
    rows: BoundaryRows
    steps: int
    series: TaylorSeries
    keep: bool = False
    windows: int = dataclasses.field(default=0, init=False)

    def __post_init__(self) -> None:
        found = self.grid.neighbours()
        self._neighbours = {side: index for side, (index, _) in found.items()}
        missing = {side: missing for side, (_, missing) in found.items()}
        self._cells = CellGeometry(self.grid, self.rows, tuple(self.equation.units()), missing, self.grid.centres())
        # what is switched changes from step to step, so that no window reaches beyond one
        self._stepwise = any(isinstance(row, Source) for row in self.equation.boundary)

    def run(self, initial: torch.Tensor) -> torch.Tensor:
        """Fields at all steps, (steps + 1, worlds, fields, cells), from the initial (worlds, fields, cells).

        Raises:
            MarchError: The equation tells no rate, a field is not finite, or no window is short enough.
        """
        duration = self.equation.lasts
        edges = [duration * k / self.steps for k in range(self.steps + 1)]
        t, u, found, size = 0.0, initial, [initial], torch.zeros(initial.shape[:2], dtype=torch.float64)
        while len(found) <= self.steps:
            step = len(found) - 1
            terms = self._terms(u, t, step)
            size = size.maximum(_largest(u)).maximum(_largest(terms[1]) * duration / self.steps)
            window = self._window(terms, size)
            if window < _SHORTEST * duration:
                raise MarchError(
                    f"at {t:.4g} s a window of the series would last {window:.2g} s: the equation is too stiff for it; "
                    'take fewer cells, or march.type = "implicit"'
                )
            end = min(t + window, edges[step + 1] if self._stepwise else duration)
            while len(found) <= self.steps and edges[len(found)] <= end * (1 + 1e-13):
                found.append(_summed(terms, edges[len(found)] - t))
            u, t, self.windows = _summed(terms, end - t), end, self.windows + 1
        return torch.stack(found)

    def _window(self, terms: list[torch.Tensor], size: torch.Tensor) -> float:
        """Time over which the last two terms stay below the tolerance, in every world and field."""
        longest = math.inf
        for power in (len(terms) - 2, len(terms) - 1):
            term = _largest(terms[power])
            ratio = torch.where(term > 0, self.series.tolerance * size / term, math.inf)
            longest = min(longest, float(ratio.min()) ** (1 / power))
        return longest

    def _terms(self, u: torch.Tensor, t: float, step: int) -> list[torch.Tensor]:
        """Coefficients of 1, s, ..., s^order, (worlds, fields, cells) each, s being the time since t."""
        rate, held = self._rate(u, t, step)
        terms = [u, rate]
        for k in range(1, self.series.order):
            rates = [(j + 1) * terms[j + 1] for j in range(k)]
            residual = self._residual(Jet(terms), Jet([*rates, torch.zeros_like(u)]), self._clock(t, k), step)
            terms.append(-_divided(residual[k], held) / (k + 1))
        if not bool(terms[-1].isfinite().all()):
            raise MarchError(f"at {t:.4g} s the series of the field is not finite")
        return terms

    def _rate(self, u: torch.Tensor, t: float, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The rate u_t that the equation tells, by Newton, and the derivative of F by it (worlds, F, fields, cells)."""
        rate = torch.zeros_like(u)
        for _ in range(NEWTON):
            with torch.enable_grad():
                own = rate.detach().requires_grad_() if not rate.requires_grad else rate
                residual = self._residual(Jet([u]), Jet([own]), self._clock(t, 0), step)[0]
                rows = []
                for k in range(u.shape[1]):
                    slope = None
                    if residual.requires_grad:
                        (slope,) = torch.autograd.grad(
                            residual[:, k].sum(), own, retain_graph=True, create_graph=self.keep, allow_unused=True
                        )
                    rows.append(torch.zeros_like(u) if slope is None else slope)
            held = torch.stack(rows, 1)
            residual, held = (residual, held) if self.keep else (residual.detach(), held.detach())
            if not bool(held.isfinite().all()) or not bool(residual.isfinite().all()):
                raise MarchError(f"at {t:.4g} s the equation is not finite")
            if bool((held.abs().amax(2) == 0).any()):
                names = ", ".join(self.equation.units())
                raise MarchError(f"a series needs the rates of all fields, as in u.t, for {names}; use another march")
            change = _divided(residual, held)
            rate = rate - change
            if float(change.detach().abs().max()) <= _SAME * float(rate.detach().abs().max()):
                return rate, held
        raise MarchError(f"at {t:.4g} s Newton does not find the rate of the field")

    @staticmethod
    def _clock(t: float, order: int) -> Jet:
        moment = [torch.tensor(value, dtype=torch.float64) for value in (t, 1.0)]
        return Jet([*moment, *[torch.zeros((), dtype=torch.float64)] * order][: order + 1])

    def _residual(self, u: Jet, rate: Jet, t: Jet, step: int) -> tuple[torch.Tensor, ...]:
        """Coefficients of F, (worlds, fields, cells) each."""
        beside = {side: u[..., index] for side, index in self._neighbours.items()}
        local = Local(self._cells, u, beside, rate, t=t, step=step)  # type: ignore[arg-type]
        shape = (u.shape[0], u.shape[2])
        parts = []
        try:
            found = self.equation.residual(local)
        except NoRule as error:
            raise MarchError(f'pde.march: {error}; or take march.type = "implicit"') from None
        for part in found:
            known = part.coefficients if isinstance(part, Jet) else (torch.as_tensor(part, dtype=torch.float64),)
            known = (*known, *[torch.zeros_like(known[0])] * (len(u.coefficients) - len(known)))
            parts.append([c.expand(shape) for c in known])
        return tuple(torch.stack(fields, 1) for fields in zip(*parts, strict=True))


def _largest(values: torch.Tensor) -> torch.Tensor:
    return values.detach().abs().amax(-1)


def _summed(terms: list[torch.Tensor], s: float) -> torch.Tensor:
    total = terms[-1]
    for term in reversed(terms[:-1]):
        total = term + s * total
    return total


def _divided(right: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
    """The x with sum_f held[w, :, f, c] x[w, f, c] = right[w, :, c]."""
    if held.shape[1] == 1:
        return right / held[:, :, 0]
    found, info = torch.linalg.solve_ex(held.permute(0, 3, 1, 2), right.permute(0, 2, 1).unsqueeze(-1))
    if bool((info != 0).any()):
        raise MarchError("a series needs equations that tell the rates of all fields; use another march")
    return found[..., 0].permute(0, 2, 1)
