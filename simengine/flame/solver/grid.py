"""Flames on a grid of points: linear finite elements, conservative, any mechanism.

Between neighbouring points fields are linear and everything is evaluated in the middle of the interval, so an interval
costs one evaluation of the flame's equations; with F and S there and the intervals h-, h+ of a point,

    0 = (F+ - F- + ((1 + w-) h- S- + (1 - w+) h+ S+)/2)/((h- + h+)/2)

for fields of second order, and 0 = S- for the others (the box scheme). The fluxes and the weights telescope, so what
the equations conserve the grid conserves. The weights w = coth(P/2) - 2/P, of order P, lean against the flow where an
interval is long beside the length over which heat diffuses against it, P of these lengths; that makes coarse grids
monotone and leaves the error of second order. They are held fixed while Newton iterates. The eigenvalue is one more
unknown of each point.
"""

import dataclasses
import functools
from collections.abc import Sequence

import torch

from simengine.flame.equations.base import AbstractFlame, AbstractFlameProblem, Pointwise
from simengine.solve.block_tridiagonal import BlockTridiagonalMatrix

Rows = slice | torch.Tensor
Blocks = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class GridMesh:
    """Points.

    Attributes:
        edges: Points [m], rising, shape (b, N).
        anchor: Number of the point where the anchor condition holds.
    """

    edges: torch.Tensor
    anchor: int

    @property
    def x(self) -> torch.Tensor:
        """Points, shape (b, 1, N)."""
        return self.edges.unsqueeze(1)

    def interpolate(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Fields y (b, 1, N, m) at x (b, q), linearly, the end values beyond the ends; shape (b, q, m)."""
        count = self.edges.shape[1]
        k = (torch.searchsorted(self.edges.contiguous(), x.contiguous()) - 1).clamp(0, count - 2)
        left, right = self.edges.gather(1, k), self.edges.gather(1, k + 1)
        share = ((x - left) / (right - left)).clamp(0.0, 1.0).unsqueeze(-1)

        def pick(at: torch.Tensor) -> torch.Tensor:
            return y[:, 0].gather(1, at.unsqueeze(-1).expand(-1, -1, y.shape[-1]))

        return pick(k) * (1 - share) + pick(k + 1) * share


def _rows(fields: Sequence[int], first: int) -> Rows:
    """Numbers of fields behind a first one, to index with: a slice of neighbours, which copies nothing."""
    if fields and fields[-1] - fields[0] + 1 == len(fields):
        return slice(first + fields[0], first + fields[-1] + 1)
    return torch.tensor(fields, dtype=torch.long) + first


class GridProblem(AbstractFlameProblem):
    """A flame on a grid. Unknowns of a point: its fields, then the eigenvalue; (b, N, m + 1).

    Args:
        flame: The equations.
        mesh: The points.
        lean: Weights w of the intervals, shape (b, N - 1); None for 0.
        held: A state (b, N, m + 1) of which some unknowns stay as they are, and their numbers; None for none.
    """

    mesh: GridMesh

    def __init__(
        self,
        flame: AbstractFlame,
        mesh: GridMesh,
        lean: torch.Tensor | None = None,
        held: tuple[torch.Tensor, Sequence[int]] | None = None,
    ) -> None:
        self.flame = flame
        self.mesh = mesh
        self.held: tuple[torch.Tensor, Sequence[int]] | None = held
        self.lean: torch.Tensor = torch.zeros_like(mesh.edges[:, 1:]) if lean is None else lean
        self.h: torch.Tensor = mesh.edges.diff(dim=1)  # (b, N - 1)
        self.width: torch.Tensor = 0.5 * (self.h[:, 1:] + self.h[:, :-1])
        self.second, self.first = ([a for a, o in enumerate(flame.order) if o in wanted] for wanted in ((2,), (0, 1)))
        self._rows: Rows = _rows(self.second, 0)
        self._source_rows: Rows = _rows(self.second, len(flame.order))

    @functools.cached_property  # the burnt gas, which limits need, is an equilibrium; a residual needs none
    def _limits(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        scale, lower, upper = (limit.detach().unsqueeze(1) for limit in self.flame.limits())
        return scale, lower, upper

    @functools.cached_property
    def scale(self) -> torch.Tensor:  # type: ignore[override]
        """Size of a noticeable change."""
        return self._limits[0]

    @functools.cached_property
    def lower(self) -> torch.Tensor:  # type: ignore[override]
        """Smallest values that Newton may pass through."""
        return self._limits[1]

    @functools.cached_property
    def upper(self) -> torch.Tensor:  # type: ignore[override]
        """Largest values."""
        return self._limits[2]

    @functools.cached_property
    def floor(self) -> torch.Tensor:  # type: ignore[override]
        """Smallest values of a state in pseudo-time."""
        floor = self.lower.clone()
        floor[..., list(self.flame.positive)] = 0.0
        return floor

    def _kept(self, state: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
        """Unknowns that stand in place of their equations, by number, and what they are, (b, N) each."""
        given = list(self.flame.imposed(self.mesh.edges).items())
        if self.held is None:
            return given
        values, which = self.held
        return [*given, *((unknown, values[..., unknown]) for unknown in which)]

    def of(self, flame: AbstractFlame) -> "GridProblem":
        """Another flame on the same points."""
        return type(self)(flame, self.mesh, self.lean)

    def near(self, y: torch.Tensor, z: torch.Tensor) -> "GridProblem":
        """The same with the weights of fields y (b, 1, N, m) and eigenvalues z (b,)."""
        with torch.no_grad():
            return type(self)(self.flame, self.mesh, self._weights(y, z))

    def _weights(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        mean = 0.5 * (y[:, :, 1:] + y[:, :, :-1])
        P = self.flame.drift(mean, z[:, None, None, None].expand(*mean.shape[:-1], 1))[:, 0] * self.h
        small = P.abs() < 1e-2
        safe = torch.where(small, 1.0, P)
        return torch.where(small, P / 6, 1 / torch.tanh(safe / 2) - 2 / safe)

    def pack(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Unknowns of fields (b, 1, N, m) and eigenvalue (b,)."""
        return torch.cat((y[:, 0], z[:, None, None].expand(-1, y.shape[2], 1)), dim=2)

    def unpack(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fields (b, 1, N, m) and the eigenvalue of each point (b, 1, N, 1)."""
        return state[:, None, :, :-1], state[:, None, :, -1:]

    def _middle(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Fields, slopes and eigenvalue in the middle of the intervals, (b, 1, N - 1, ...)."""
        mean = (0.5 * (state[:, 1:] + state[:, :-1])).unsqueeze(1)
        slope = (state.diff(dim=1) / self.h.unsqueeze(-1)).unsqueeze(1)
        return mean[..., :-1], slope[..., :-1], mean[..., -1:]

    def _ends(self, state: torch.Tensor) -> list[tuple[int, int, float, Pointwise, list[int]]]:
        """Conditions at the ends: their point, the interval and place in it where they are evaluated, the fields."""
        flame, last = self.flame, state.shape[1] - 1
        inflow = [a for a in flame.inflow if a in self.second]
        ends = [
            (0, 0, 0.0, flame.left, [a for a in range(len(flame.order)) if a not in inflow]),
            # what a flux through the end brings balances the flux in the middle of the first interval
            (0, 0, 0.5, flame.left, inflow),
            (last, last - 1, 1.0, flame.right, self.second),
        ]
        return [end for end in ends if end[-1]]

    @property
    def _anchor(self) -> tuple[int, int, float]:
        """Point, interval and place of the anchor; at the left end the row is the second point's, see `_at_left`."""
        e, last = self.mesh.anchor, self.h.shape[1]
        if self.flame.anchor_end == "left":
            return 1, 0, 0.0
        return (e, e, 0.0) if e < last else (e, e - 1, 1.0)

    def _at_left(self, state: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Fields, slopes and eigenvalue at the left end, and the weights of three points in the slopes, (b, 3).

        By a parabola. The condition is the second point's row: in the first its block would be singular.
        """
        h0, h1 = self.h[:, 0], self.h[:, 1]
        weights = torch.stack((-(2 * h0 + h1) / (h0 * (h0 + h1)), (h0 + h1) / (h0 * h1), -h0 / (h1 * (h0 + h1))), dim=1)
        slope = torch.einsum("bk,bkm->bm", weights, state[:, :3])[:, None, None]
        value = state[:, :1].unsqueeze(1)
        return (value[..., :-1], slope[..., :-1], value[..., -1:]), weights

    def _near(self, state: torch.Tensor, j: int, share: float) -> tuple[torch.Tensor, ...]:
        """Fields, slopes and eigenvalue in interval j, at this share of it; (b, 1, 1, ...)."""
        value = ((1 - share) * state[:, j] + share * state[:, j + 1])[:, None, None]
        slope = ((state[:, j + 1] - state[:, j]) / self.h[:, j, None])[:, None, None]
        return value[..., :-1], slope[..., :-1], value[..., -1:]

    def residual(self, y: torch.Tensor) -> torch.Tensor:
        """The discrete equations, shape (b, N, m + 1)."""
        return self._joined(self.flame.flux_and_source(*self._places(y))[:, 0], y)

    def _places(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Where the equations are evaluated, all at once: the middles of the intervals first; (b, 1, q, ...)."""
        return self._middle(state)

    def _balance(self, values: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """The equations of second order at the points within, from F and S at all places; (b, N - 2, m)."""
        m = state.shape[-1] - 1
        flux, half = values[..., :m], 0.5 * self.h.unsqueeze(-1) * values[..., m:]
        lean = self.lean.unsqueeze(-1)
        total = (flux + (1 - lean) * half)[:, 1:] + ((1 + lean) * half - flux)[:, :-1]
        return total / self.width.unsqueeze(-1)

    def _balance_jacobian(self, left: torch.Tensor, right: torch.Tensor, further: torch.Tensor) -> Blocks:
        """Its derivatives in the unknowns of the points before, at and behind, (b, N - 2, rows, m + 1) each.

        Args:
            left: Derivatives of F and S of the intervals in their left point, (b, N - 1, 2 m, m + 1).
            right: In their right point.
            further: Local derivatives at the places that follow the middles, (b, q - N + 1, 2 m, 2 m + 1).
        """
        rows, sources = self._rows, self._source_rows
        half, width = 0.5 * self.h[..., None, None], self.width[..., None, None]
        flux_l, flux_r = left[:, :, rows], right[:, :, rows]
        half_l, half_r = half * left[:, :, sources], half * right[:, :, sources]
        ahead, behind = 1 - self.lean[..., None, None], 1 + self.lean[..., None, None]
        return (
            (behind * half_l - flux_l)[:, :-1] / width,
            ((behind * half_r - flux_r)[:, :-1] + (flux_l + ahead * half_l)[:, 1:]) / width,
            (flux_r + ahead * half_r)[:, 1:] / width,
        )

    def _joined(self, values: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """The residual from F and S at all places, (b, q, 2 m), and the conditions."""
        m, intervals = state.shape[-1] - 1, state.shape[1] - 1
        r = torch.zeros_like(state[..., :m])
        r[:, 1:-1] = self._balance(values, state)
        r[:, 1:, self.first] = values[:, :intervals, m:][..., self.first]
        for point, j, share, condition, held in self._ends(state):
            r[:, point, held] = condition(*self._near(state, j, share))[:, 0, 0][:, held]
        (e, j, share), z = self._anchor, state[..., -1]
        at = self._at_left(state)[0] if self.flame.anchor_end == "left" else self._near(state, j, share)
        anchor = self.flame.anchor(*at)[:, :, 0, 0]
        chain = torch.cat((z[:, :e] - z[:, 1 : e + 1], anchor, z[:, e + 1 :] - z[:, e:-1]), dim=1)
        r = torch.cat((r, chain.unsqueeze(2)), dim=2)
        for unknown, value in self._kept(state):
            r[..., unknown] = state[..., unknown] - value
        return r

    def holding(self, state: torch.Tensor, unknowns: Sequence[int]) -> "GridProblem":
        """The same with some unknowns, fields by number and the eigenvalue as m, as in this state."""
        return type(self)(self.flame, self.mesh, self.lean, (state, unknowns))

    def linearise(self, y: torch.Tensor) -> tuple[torch.Tensor, BlockTridiagonalMatrix]:
        """Residual and exact Jacobian."""
        state, m = y, y.shape[-1] - 1
        b, count, size = state.shape
        values, everywhere = (v[:, 0] for v in self.flame.local_jacobian(*self._places(state)))  # (b, q, 2 m, ...)
        local, further = everywhere[:, : count - 1], everywhere[:, count - 1 :]
        value = torch.cat((local[..., :m], local[..., -1:]), dim=-1)
        slope = torch.cat((local[..., m : 2 * m] / self.h[..., None, None], 0 * local[..., -1:]), dim=-1)
        left, right = 0.5 * value - slope, 0.5 * value + slope
        blocks = state.new_zeros(3, b, count, size, size)
        lower, middle, upper = blocks
        for block, entries in zip(blocks, self._balance_jacobian(left, right, further), strict=True):
            block[:, 1:-1, self._rows] = entries
        if self.first:
            rows, sources = _rows(self.first, 0), _rows(self.first, m)
            lower[:, 1:, rows], middle[:, 1:, rows] = left[:, :, sources], right[:, :, sources]
        for point, j, share, condition, held in self._ends(state):
            sides = self._condition(condition, state, j, share)
            middle[:, point, held] = sides[point - j][:, held]
            (upper if point == j else lower)[:, point, held] = sides[1 - (point - j)][:, held]
        e, j, share = self._anchor
        if self.flame.anchor_end == "left":
            at, weights = self._at_left(state)
            row = self.condition_jacobian(self.flame.anchor, at)[:, 0]  # (b, 2 m + 1)
            for column, block in zip(weights.unbind(1), (lower, middle, upper), strict=True):
                block[:, e, -1, :m] = column[:, None] * row[:, m : 2 * m]
            lower[:, e, -1, :m] += row[:, :m]
            lower[:, e, -1, m] = row[:, -1]
        else:
            sides = self._condition(self.flame.anchor, state, j, share)
            middle[:, e, -1] = sides[e - j][:, 0]
            (upper if e == j else lower)[:, e, -1] = sides[1 - (e - j)][:, 0]
        others = [point for point in range(count) if point != e]
        middle[:, others, -1, -1] = 1.0
        upper[:, :e, -1, -1] = -1.0
        lower[:, e + 1 :, -1, -1] = -1.0
        for unknown, _ in self._kept(state):
            blocks[..., unknown, :] = 0.0
            middle[..., unknown, unknown] = 1.0
        return self._joined(values, state), BlockTridiagonalMatrix(lower, middle, upper)

    def _condition(
        self, condition: Pointwise, state: torch.Tensor, j: int, share: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Derivatives of a condition in the unknowns of both points of interval j, (b, q, m + 1) each."""
        m = state.shape[-1] - 1
        known = self.__dict__.setdefault("_sides", {})
        if (condition, j, share) not in known:
            local = self.condition_jacobian(condition, self._near(state, j, share))
            slope = torch.cat((local[..., m : 2 * m], 0 * local[..., -1:]), dim=-1) / self.h[:, j, None, None]
            value = torch.cat((local[..., :m], local[..., -1:]), dim=-1)
            sides = (1 - share) * value - slope, share * value + slope
            if not self.flame.affine:
                return sides
            known[condition, j, share] = sides
        return known[condition, j, share]

    def mass(self, y: torch.Tensor) -> torch.Tensor:
        """Inertia of the points within; 0 at the ends and for fields of first order."""
        fields, z = self.unpack(y)
        inertia = self.flame.inertia(fields)[:, 0].clone()
        inertia[:, 0], inertia[:, -1], inertia[..., self.first] = 0.0, 0.0, 0.0
        inertia[..., [a for a, _ in self._kept(y) if a < inertia.shape[-1]]] = 0.0
        return torch.cat((inertia, torch.zeros_like(z[:, 0])), dim=2)
