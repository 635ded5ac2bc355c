"""Least squares subject to c(y) = 0 and h(y) <= 0, by augmented Lagrangians (Birgin & Martinez, 2014, algorithm 4.1).

With penalty mu, 1/2 |r|^2 + mu/2 |c + l/mu|^2 + mu/2 |max(0, h + u/mu)|^2 is a least-squares problem, which the usual
iteration solves; then l <- l + mu c and u <- max(0, u + mu h), until the constraints hold. A few Newton steps on the
first-order conditions take the rest of the error away, and these conditions are what implicit gradients differentiate.
"""

from collections.abc import Sequence
from typing import Any

import torch

from simengine.solve.least_squares.iteration import iterate
from simengine.solve.least_squares.solvers import AbstractLeastSquaresSolver
from simengine.solve.least_squares.system import FunctionSystem, ResidualError
from simengine.solve.optimality import Function, karush_kuhn_tucker
from simengine.solve.solution import Result

_MAX_OUTER = 40
_LARGEST_PENALTY = 1e12


class ConstrainedSystem(FunctionSystem):
    """Problems with constraints; the unknown of its optimality condition is z = (y, l, u), shape (b, n + p + q).

    Args:
        residual: See `FunctionSystem`.
        args: See `FunctionSystem`.
        equality: `equality(y, args)` of one problem: y (n,) -> c (p,), zero where satisfied; or None.
        inequality: `inequality(y, args)`: y (n,) -> h (q,), at most zero where satisfied; or None.
        tolerance: Largest violation of a constraint, in its own unit, that counts as satisfied.
        others: See `FunctionSystem`.
    """

    def __init__(
        self,
        residual: Function,
        args: Any,
        *,
        equality: Function | None,
        inequality: Function | None,
        tolerance: float,
        **others: Any,
    ) -> None:
        super().__init__(residual, args, **others)
        self.equality: Function | None = equality
        self.inequality: Function | None = inequality
        self.tolerance: float = tolerance
        self.size: int = 0

    def constraints(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """C (b, p) and h (b, q); of width 0 where there are none."""
        found = []
        for name, function in (("equality", self.equality), ("inequality", self.inequality)):
            if function is None:
                found.append(y.new_zeros(len(y), 0))
                continue
            value = self._map(lambda y, *t, function=function: function(y, self._args(t)), y, tensors)
            if value.ndim != 2 or value.dtype != y.dtype:
                raise ResidualError(
                    f"{name}: expected shape (p,) and dtype {y.dtype} for y of shape {tuple(y.shape[1:])}, got "
                    f"{tuple(value.shape[1:])}, {value.dtype}"
                )
            found.append(value)
        return found[0], found[1]

    def _condition_one(self, z: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        def given(function: Function | None) -> Function | None:
            return None if function is None else lambda y, t: function(y, self._args(t))

        return karush_kuhn_tucker(
            lambda y, t: self._rows_one(y, *t),
            given(self.equality),
            given(self.inequality),
            z,
            tensors,
            size=self.size,
        )

    def optimality(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """First-order conditions at z = (y, l, u)."""
        return self._map(self._condition_one, y, tensors)

    def solve_hessian(
        self, y: torch.Tensor, b: torch.Tensor, tensors: Sequence[torch.Tensor], *, gauss_newton: bool
    ) -> torch.Tensor:
        """Dense LU of the derivative of the first-order conditions."""
        v, info = torch.linalg.solve_ex(self._derivative(y, tensors), b.double())
        return torch.where((info == 0)[:, None], v, torch.nan)

    def _derivative(self, z: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        return self._map(torch.func.jacfwd(self._condition_one), z, tensors).double()

    def solve(
        self, y: torch.Tensor, solver: AbstractLeastSquaresSolver
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Solution z (b, n + p + q), status (b,) and stats of every problem, from the starts y (b, n)."""
        batch, everyone = len(y), torch.arange(len(y), device=y.device)
        self.size = y.shape[1]
        c, h = self.constraints(y, self.tensors)
        cost = super().cost(y, everyone)
        violated = 0.5 * (c.square().sum(dim=1) + h.clamp_min(0).square().sum(dim=1)).double()
        penalty = (10 * cost.clamp_min(1) / violated.clamp_min(1)).clamp(1e-6, 1e9).to(y.dtype)
        multipliers = torch.zeros(batch, c.shape[1] + h.shape[1], dtype=y.dtype, device=y.device)
        status = torch.full((batch,), Result.MAX_ITERATIONS, device=y.device)
        running = torch.ones(batch, dtype=torch.bool, device=y.device)
        iterations, outer = torch.zeros(2, batch, dtype=torch.long, device=y.device)
        violation = torch.full((batch,), torch.inf, dtype=y.dtype, device=y.device)
        for _ in range(_MAX_OUTER):
            which = running.nonzero().flatten()
            if len(which) == 0:
                break
            lam, nu = multipliers[which, : c.shape[1]], multipliers[which, c.shape[1] :]
            mu = penalty[which]
            found, inner, stats = iterate(self._augmented(which, lam, nu, mu), y[which], solver)
            y = y.index_copy(0, which, found)
            c, h = self.constraints(found, self._take(which))
            measure = torch.cat([c, h.maximum(-nu / mu[:, None])], dim=1).abs().amax(dim=1)
            fresh = torch.cat([lam + mu[:, None] * c, (nu + mu[:, None] * h).clamp_min(0)], dim=1)
            multipliers = multipliers.index_copy(0, which, fresh)
            iterations[which] += stats["num_iterations"]
            outer[which] += 1
            met = measure <= self.tolerance
            slow = ~met & ~(measure <= 0.25 * violation[which])
            penalty[which] = torch.where(slow, 10 * mu, mu)
            violation[which] = measure
            hopeless = (penalty[which] > _LARGEST_PENALTY) & ~met
            # a minimiser that only the constraints make unique: the conditions decide, below
            ended = torch.where(inner == Result.RANK_DEFICIENT, Result.SUCCESS, inner)
            status[which] = torch.where(met, ended, torch.where(hopeless, Result.INFEASIBLE, Result.MAX_ITERATIONS))
            broken = inner == Result.NONFINITE
            status[which[broken]] = Result.NONFINITE
            running[which[met | hopeless | broken]] = False
        z = self._polish(torch.cat([y, multipliers], dim=1), status == Result.SUCCESS)
        status[self._degenerate(z) & (status == Result.SUCCESS)] = Result.RANK_DEFICIENT
        y, multipliers = z[:, : self.size], z[:, self.size :]
        c, h = self.constraints(y, self.tensors)
        stats = {
            "cost": super().cost(y, everyone),
            "violation": torch.cat([c.abs(), h.clamp_min(0)], dim=1).amax(dim=1),
            "multipliers": multipliers,
            "num_iterations": iterations,
            "num_outer": outer,
        }
        return z, status, stats

    def _augmented(self, which: torch.Tensor, lam: torch.Tensor, nu: torch.Tensor, mu: torch.Tensor) -> FunctionSystem:
        taken = self._take(which)
        per_problem = [t for t, d in zip(taken, self._dims, strict=True) if d is not None] + [lam, nu, mu]

        def rows(y: torch.Tensor, bundle: Any) -> torch.Tensor:
            tensors, lam, nu, mu = bundle
            args, parts = self._args(tensors), [self._rows_one(y, *tensors)]
            if self.equality is not None:
                parts.append(mu.sqrt() * (self.equality(y, args) + lam / mu))
            if self.inequality is not None:
                parts.append(mu.sqrt() * (self.inequality(y, args) + nu / mu).clamp_min(0))
            return torch.cat(parts)

        return FunctionSystem(
            rows, (list(taken), lam, nu, mu), batch=len(which), batched=lambda t: any(t is p for p in per_problem)
        )

    def _polish(self, z: torch.Tensor, good: torch.Tensor) -> torch.Tensor:
        """Newton steps on the first-order conditions, as long as they come nearer and keep u >= 0."""
        condition = self.optimality(z, self.tensors)
        first = z.shape[1] - self.constraints(z[:, : self.size], self.tensors)[1].shape[1]  # of u
        for _ in range(5):
            step = self.solve_hessian(z, condition, self.tensors, gauss_newton=False).to(z.dtype)
            trial = torch.where(step.isfinite(), z - step, z)
            fresh = self.optimality(trial, self.tensors)
            good = good & (fresh.norm(dim=1) < condition.norm(dim=1))
            good = good & (trial[:, first:] >= 0).all(dim=1)
            if not bool(good.any()):
                break
            z, condition = torch.where(good[:, None], trial, z), torch.where(good[:, None], fresh, condition)
        return z

    def _degenerate(self, z: torch.Tensor) -> torch.Tensor:
        """Whether the derivative of the conditions is singular to rounding, or not finite; shape (b,)."""
        matrix = self._derivative(z, self.tensors)
        finite = matrix.isfinite().all(dim=2).all(dim=1)
        matrix = torch.where(
            finite[:, None, None], matrix, torch.eye(matrix.shape[1]).to(matrix)
        )  # others are told apart
        scale = matrix.abs().amax(dim=2).clamp_min(torch.finfo(matrix.dtype).tiny).rsqrt()
        singular = torch.linalg.svdvals(scale[:, :, None] * matrix * scale[:, None, :])
        return ~finite | (singular[:, -1] <= matrix.shape[1] * torch.finfo(matrix.dtype).eps * singular[:, 0])
