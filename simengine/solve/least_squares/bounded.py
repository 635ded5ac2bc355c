"""Least squares within bounds: projected Levenberg-Marquardt, and the first-order conditions that gradients need."""

from typing import Any

import torch

from simengine.solve.least_squares.constrained import ConstrainedSystem
from simengine.solve.least_squares.finish import held_at_bounds
from simengine.solve.least_squares.iteration import iterate
from simengine.solve.least_squares.solvers import AbstractLeastSquaresSolver
from simengine.solve.least_squares.system import Residual
from simengine.solve.solution import Result


class BoundedSystem(ConstrainedSystem):
    """Problems with lower <= y <= upper; the unknown of the optimality condition is z = (y, u), shape (b, 3 n).

    An unknown at a bound that descent would cross leaves the step, and trials are cut at the bounds. The bounds may
    carry gradients: an unknown that one stops moves with it.

    Args:
        residual: See `FunctionSystem`.
        args: See `FunctionSystem`.
        lower: Least values, shape (b, n), or (n,) where `batched` says of it that it is shared; may be -inf.
        upper: Largest values, likewise; may be inf.
        others: See `FunctionSystem`.
    """

    def __init__(self, residual: Residual, args: Any, *, lower: torch.Tensor, upper: torch.Tensor, **others: Any):
        far = torch.finfo(lower.dtype).max / 4  # no bound: its row is finite and never active
        sides = lower.clamp(-far, far), upper.clamp(-far, far)
        super().__init__(
            lambda y, both: residual(y, both[0]),
            (args, sides),
            equality=None,
            inequality=lambda y, both: torch.cat([both[1][0] - y, y - both[1][1]]),
            tolerance=0.0,
            **others,
        )
        self._lay_bounds()

    def _lay_bounds(self) -> None:
        lower, upper = (side.detach().expand(self.batch, -1) for side in self.tensors[-2:])
        self.bounds: tuple[torch.Tensor, torch.Tensor] | None = (lower, upper)

    def _with(self, *held: Any) -> "BoundedSystem":
        other = super()._with(*held)
        assert isinstance(other, BoundedSystem)
        other._lay_bounds()
        return other

    def solve(
        self, y: torch.Tensor, solver: AbstractLeastSquaresSolver
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Solution z (b, 3 n), status (b,) and stats of every problem, from the starts y (b, n)."""
        assert self.bounds is not None
        lower, upper = self.bounds
        self.size: int = y.shape[1]
        y, status, stats = iterate(self, y.maximum(lower).minimum(upper), solver)
        gradient = self.linearise(y, torch.arange(len(y), device=y.device))["gradient"].to(y.dtype)
        held = held_at_bounds(y, gradient, self.bounds)
        multipliers = torch.cat([gradient.clamp_min(0) * held, (-gradient).clamp_min(0) * held], dim=1)
        z = self._polish(torch.cat([y, multipliers], dim=1), status == Result.SUCCESS)
        inside = ((z[:, : self.size] >= lower) & (z[:, : self.size] <= upper)).all(dim=1, keepdim=True)
        z = torch.where(inside, z, torch.cat([y, multipliers], dim=1))
        return z, status, {**stats, "multipliers": z[:, self.size :]}
