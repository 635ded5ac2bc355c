"""How gradients flow through a solve: by the implicit function theorem at its end, or through every iteration."""

import abc
import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import torch

from simengine.solve.least_squares.system import AbstractCondition
from simengine.solve.solution import Result, Solution, SolveError

Iterate = Callable[[], tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]]


class AbstractAdjoint(abc.ABC):
    """A gradient method of `least_squares`."""

    @abc.abstractmethod
    def run(
        self, iterate: Iterate, system: AbstractCondition
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Run the iteration and return (y, status, stats) with y attached to the graph of `system.tensors`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImplicitAdjoint(AbstractAdjoint):
    """Differentiates the stationarity condition F(y, theta) = J^T r = 0 of the solution, whatever way led there.

    With H v = dL/dy and H = dF/dy, dL/dtheta = -v . dF/dtheta. Memory and cost do not depend on the number of
    iterations. The gradient is as exact as the solution is stationary. Second derivatives are offered with the exact H.

    Attributes:
        gauss_newton: Use H = J^T J, without the curvature of the residual. Right only where the residual vanishes at
            the solution or is linear in y; else some per cent off are common. The backward pass measures the neglected
            part of H v and warns where it exceeds 1e-3. Once differentiable.
        strict: Raise in the backward pass where a problem that did not converge receives a gradient; False gives the
            gradient at the point reached, which is not that of a solution, with J^T J where H is not positive definite:
            for trainings that pass through bad points.
    """

    gauss_newton: bool = False
    strict: bool = True

    def run(
        self, iterate: Iterate, system: AbstractCondition
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Iterate without a graph, then attach the solution."""
        with torch.no_grad():
            y, status, stats = iterate()
        if torch.is_grad_enabled() and any(t.requires_grad for t in system.tensors):
            y = _Implicit.apply(self, system, status, y, *system.tensors)
        return y, status, stats

    def pull_back(
        self, system: AbstractCondition, status: torch.Tensor, y: torch.Tensor, grad_y: torch.Tensor, tensors: Any
    ) -> tuple[torch.Tensor | None, ...]:
        """-v . dF/dtheta for every tensor that wants a gradient."""
        if self.strict:
            refused = (status != Result.SUCCESS) & (grad_y != 0).any(dim=1)
            if bool(refused.any()):
                worst = Result(int(status[refused].max()))
                raise SolveError(
                    f"implicit gradient of problems {refused.nonzero().flatten().tolist()[:8]}: {worst.name}: "
                    f"{worst.remedy}; or ask for ImplicitAdjoint(strict=False)",
                    Solution(y, worst, {"status": status}),
                )
        differentiable = torch.is_grad_enabled()  # a second derivative is wanted
        if differentiable and (self.gauss_newton or system.once_differentiable):
            reason = "ImplicitAdjoint(gauss_newton=True) is once differentiable: use the exact Hessian"
            raise RuntimeError(f"{system.once_differentiable or reason}, or no create_graph")
        with torch.enable_grad():
            v = system.solve_hessian(y, grad_y, tensors, gauss_newton=self.gauss_newton).to(y.dtype)
            if not differentiable:  # H^-1 0 is 0, also of a problem that failed where H is not finite
                v = torch.where((grad_y != 0).any(dim=1, keepdim=True), v, 0.0)
            if not self.strict:
                well = v.isfinite().all(dim=1, keepdim=True)
                if not bool(well.all()):
                    v = torch.where(well, v, system.solve_hessian(y, grad_y, tensors, gauss_newton=True).to(y.dtype))
            if not bool(v.isfinite().all()):
                bad = (~v.isfinite().all(dim=1)).nonzero().flatten().tolist()
                raise RuntimeError(
                    f"implicit gradient of problems {bad[:8]}: the Hessian is singular, not positive definite or not "
                    "finite there, so the solution is no strict minimum; add rows or a regularising one, or tighten "
                    "the tolerance"
                )
            found = system.pull_back(y, v, tensors, differentiable=differentiable)
        for k, value in enumerate(found):
            if value is not None and not bool(value.isfinite().all()):
                raise RuntimeError(
                    f"implicit gradient by tensor {k} of args, shape {tuple(value.shape)}: "
                    f"{int((~value.isfinite()).sum())} entries are not finite, as where torch.where hides a branch "
                    "whose own derivative is infinite; give that branch an argument inside its domain"
                )
        if self.gauss_newton:
            self._warn(system, y, v, grad_y, tensors)
        return found

    @staticmethod
    def _warn(system: AbstractCondition, y: torch.Tensor, v: torch.Tensor, grad_y: torch.Tensor, tensors: Any) -> None:
        product = system.hessian_product(y, v, tensors)
        off = (product - grad_y).norm(dim=1) / grad_y.norm(dim=1).clamp_min(torch.finfo(y.dtype).tiny)
        if bool((off > 1e-3).any()):
            warnings.warn(
                f"ImplicitAdjoint(gauss_newton=True): the neglected curvature is {float(off.max()):.1e} of H v in "
                f"problem {int(off.argmax())}, so gradients are off by as much; use the exact Hessian",
                stacklevel=2,
            )


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        adjoint: ImplicitAdjoint,
        system: AbstractCondition,
        status: torch.Tensor,
        y: torch.Tensor,
        *tensors: torch.Tensor,
    ) -> torch.Tensor:
        ctx.adjoint, ctx.system, ctx.status = adjoint, system, status
        y = y.clone()
        ctx.save_for_backward(y, *tensors)  # the output too: its own dependence on theta enters second derivatives
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        y, *tensors = ctx.saved_tensors
        # adjoint, system, status, y: no gradient (the solution does not depend on where the iteration started)
        return (None, None, None, None, *ctx.adjoint.pull_back(ctx.system, ctx.status, y, grad_y, tensors))


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnrolledAdjoint(AbstractAdjoint):
    """Differentiates through every iteration by reverse mode.

    Memory grows with the number of iterations. The gradient is that of the iteration, which tends to that of the
    solution as it converges; it exists also where the solution is not unique, and for the dependence on the start.
    """

    def run(
        self, iterate: Iterate, system: AbstractCondition
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Iterate with a graph."""
        return iterate()
