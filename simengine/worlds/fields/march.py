"""The march through time: an L-stable scheme of second order, each of its stages solved by Newton.

The scheme is Alexander's with two stages (Alexander 1977, SIAM J. Numer. Anal. 14, 1006), which damps what is stiff
and takes equations in the form F(u, u_t, u_x, u_xx, x, t) = 0. Worlds that differ in numbers only march together.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from simengine.worlds.fields.boundaries import BoundaryRows
from simengine.worlds.fields.local import CellGeometry, CellGrid, Local
from simengine.worlds.fields.stencil import Side, Stencil

GAMMA = 1 - math.sqrt(0.5)
NEWTON = 30  # iterations of a stage, at most
SHARP = 1e-8  # of the size of the field: Newton squares it, so what is left is rounding


class MarchError(ArithmeticError):
    """A step has no solution, or Newton does not find it."""


@dataclasses.dataclass
class GridMarch:
    """An equation on its grid.

    Args:
        equation: With numbers that broadcast against (worlds, cells).
        grid: The box.
        rows: What happens at its sides.
        steps: In time.
        keep: Whether gradients to the numbers are wanted.
    """

    equation: Any
    grid: CellGrid
    rows: BoundaryRows
    steps: int
    keep: bool = False

    def __post_init__(self) -> None:
        found = self.grid.neighbours()
        self._neighbours = {side: index for side, (index, _) in found.items()}
        missing = {side: missing for side, (_, missing) in found.items()}
        self._cells = CellGeometry(self.grid, self.rows, tuple(self.equation.units()), missing, self.grid.centres())
        self._chain = len(self.grid.counts) == 1 and not self.grid.periodic
        self._linear = bool(self.equation.linear())
        self._stencil: Stencil | None = None

    def run(self, initial: torch.Tensor) -> torch.Tensor:
        """Fields at all steps, (steps + 1, worlds, fields, cells), from the initial (worlds, fields, cells).

        Raises:
            MarchError: A step has no solution.
        """
        dt = self.equation.duration / self.steps
        u, found = initial, [initial]
        for step in range(self.steps):
            first = self._stage(u, (u,), GAMMA * dt, (step + GAMMA) * dt, step)
            rate = (first - u) / (GAMMA * dt)
            ahead = first + (1 - GAMMA) * dt * rate  # may lie below zero, where a law means nothing: then `first`
            u = self._stage(u + (1 - GAMMA) * dt * rate, (ahead, first), GAMMA * dt, (step + 1) * dt, step)
            found.append(u)
        return torch.stack(found)

    def _stage(
        self, base: torch.Tensor, guesses: Sequence[torch.Tensor], dt: float, t: float, step: int
    ) -> torch.Tensor:
        """The field whose rate is (u - base)/dt, (worlds, fields, cells), from the first guess that leads to one."""
        try:
            found = (self._newton(base.detach(), guess.detach(), dt, t, step) for guess in guesses)
            u = next((u for u in found if u is not None), None)
        except ArithmeticError as error:
            raise error if isinstance(error, MarchError) else MarchError(f"at {t:.4g} s: {error}") from None
        if u is None:
            raise MarchError(f"at {t:.4g} s Newton does not converge; take more cells in time")
        if not self.keep:
            return u
        # one more step of Newton, from the solution: the implicit function theorem's gradient
        assert self._stencil is not None
        with torch.enable_grad():
            residual = self._residual(u, self._beside(u), base, dt, t, step)
            return u - self._stencil.applied(residual)

    def _newton(self, base: torch.Tensor, u: torch.Tensor, dt: float, t: float, step: int) -> torch.Tensor | None:
        """The solution by Newton from u; None where it does not converge."""
        for _ in range(NEWTON):
            if self._linear and self._stencil is not None:
                with torch.no_grad():
                    residual = self._residual(u, self._beside(u), base, dt, t, step)
            else:
                residual, self._stencil = self._linearised(u, base, dt, t, step)
            delta = self._stencil.solve(residual)
            u = u - delta
            size = float(delta.abs().max())
            if not math.isfinite(size):
                raise MarchError(f"at {t:.4g} s the field is not finite")
            if self._linear or size <= SHARP * float(u.abs().max()) + 1e-300:
                return u
        return None

    def _beside(self, u: torch.Tensor) -> dict[Side, torch.Tensor]:
        return {side: u[..., index] for side, index in self._neighbours.items()}

    def _residual(
        self, u: torch.Tensor, beside: Mapping[Side, torch.Tensor], base: torch.Tensor, dt: float, t: float, step: int
    ) -> torch.Tensor:
        local = Local(self._cells, u, beside, (u - base) / dt, t=t, step=step)
        parts = self.equation.residual(local)
        return torch.stack([part.expand(len(u), u.shape[-1]) for part in parts], 1)

    def _linearised(
        self, u: torch.Tensor, base: torch.Tensor, dt: float, t: float, step: int
    ) -> tuple[torch.Tensor, Stencil]:
        """Residual and its matrix: it hangs on own values and neighbours only, so one backward tells all."""
        with torch.enable_grad():
            own = u.detach().requires_grad_()
            beside = {side: value.detach().requires_grad_() for side, value in self._beside(u).items()}
            residual = self._residual(own, beside, base, dt, t, step)
            leaves = [own, *beside.values()]
            rows = []
            for k in range(u.shape[1]):
                slopes = torch.autograd.grad(residual[:, k].sum(), leaves, retain_graph=True, allow_unused=True)
                rows.append([torch.zeros_like(u) if slope is None else slope for slope in slopes])
        blocks = [torch.stack([row[k] for row in rows], 1) for k in range(len(leaves))]
        stencil = Stencil(blocks[0], dict(zip(beside, blocks[1:], strict=True)), self._neighbours, chain=self._chain)
        return residual.detach(), stencil
