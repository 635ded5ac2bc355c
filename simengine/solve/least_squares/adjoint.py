"""How gradients flow through a solve: by the implicit function theorem at its end, or through every iteration."""

import abc
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from simengine.solve.least_squares.condition import AbstractCondition
from simengine.solve.solution import Result, Solution, SolveError

Iterated = tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]
Iterate = Callable[[Any, torch.Tensor], Iterated]  # from a system and starts (b, n): y (b, n), status (b,) and stats


class AbstractSolveAdjoint(abc.ABC):
    """A gradient method of `least_squares`."""

    @abc.abstractmethod
    def run(self, iterate: Iterate, system: AbstractCondition, start: torch.Tensor) -> tuple[Iterated, Result]:
        """Run the iteration: (y, status, stats) with y attached to the graph of `system.tensors`, and the worst end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImplicitAdjoint(AbstractSolveAdjoint):
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

    def run(self, iterate: Iterate, system: AbstractCondition, start: torch.Tensor) -> tuple[Iterated, Result]:
        """Iterate without a graph, then attach the solution; `torch.func` passes through."""
        solve = _SolvedProblems(self, iterate, system)
        y, status, *figures = _Implicit.apply(solve, start, *system.tensors)
        return (y, status, dict(zip(solve.told.names, figures, strict=True))), solve.told.worst

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


@dataclasses.dataclass
class _Told:
    """What the innermost call leaves for the outermost, where `torch.func` stands between them.

    Attributes:
        names: Of the stats.
        worst: How the worst problem ended.
    """

    names: tuple[str, ...] = ()
    worst: Result = Result.SUCCESS


@dataclasses.dataclass
class _SolvedProblems:
    """Problems, how they are solved and differentiated."""

    adjoint: ImplicitAdjoint
    iterate: Iterate
    system: AbstractCondition
    told: _Told = dataclasses.field(default_factory=_Told)

    def folded(
        self, size: int, in_dims: Sequence[int | None], tensors: Sequence[torch.Tensor]
    ) -> tuple["_SolvedProblems", list[torch.Tensor]]:
        """As many times the problems, with a copy of every tensor or the slices of the dimension that is mapped."""
        system, found = self.system.folded(size, in_dims, tensors)
        return dataclasses.replace(self, system=system), found


def _spread(t: torch.Tensor, dim: int | None, size: int) -> torch.Tensor:
    """The dimension that is mapped and the problems as one, first: (b, ...) to (size b, ...)."""
    return (t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)).flatten(0, 1)


class _Implicit(torch.autograd.Function):
    """Solve; backward by the conditions at the solution. Under `vmap` the mapped dimension joins the problems."""

    @staticmethod
    def forward(solve: _SolvedProblems, start: torch.Tensor, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, status, stats = solve.iterate(solve.system.on(tensors), start)
        solve.told.names, solve.told.worst = tuple(stats), Result(int(status.max()))
        return y.clone(), status, *stats.values()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        ctx.solve = inputs[0]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        # the output too: its own dependence on theta enters second derivatives
        ctx.save_for_backward(*output[:2], *inputs[2:])

    @staticmethod
    def backward(ctx: Any, grad_y: torch.Tensor | None, *_: Any) -> tuple[torch.Tensor | None, ...]:
        y, status, *tensors = ctx.saved_tensors
        # solve, start: no gradient (the solution does not depend on where the iteration started)
        if grad_y is None:
            return (None, None, *[None] * len(tensors))
        if not any(_wrapped(t) for t in (grad_y, y, *tensors)):
            pulled = ctx.solve.adjoint.pull_back(ctx.solve.system.on(tensors), status, y, grad_y, tensors)
            return (None, None, *pulled)
        asked = [k for k, wanted in enumerate(ctx.needs_input_grad[2:]) if wanted]
        found = dict(zip(asked, _PullBack.apply(ctx.solve, asked, status, y, grad_y, *tensors), strict=True))
        return (None, None, *(found.get(k) for k in range(len(tensors))))

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(
            "least_squares: forward mode (torch.func.jvp, jacfwd, hessian) is not offered; take reverse mode: "
            "torch.func.grad, vjp or jacrev"
        )

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, solve: _SolvedProblems, start: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...]]:
        size = info.batch_size
        many, spread = solve.folded(size, in_dims[2:], tensors)
        found = _Implicit.apply(many, _spread(start, in_dims[1], size), *spread)
        out = tuple(value.unflatten(0, (size, -1)) for value in found)
        return out, (0,) * len(out)


def _wrapped(t: torch.Tensor) -> bool:
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(t))


class _PullBack(torch.autograd.Function):
    """The pull-back, -v . dF/dtheta for the tensors asked for, as `torch.func` maps over it: once differentiable."""

    @staticmethod
    def forward(
        solve: _SolvedProblems,
        asked: list[int],
        status: torch.Tensor,
        y: torch.Tensor,
        grad_y: torch.Tensor,
        *tensors: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        held = [t.detach().requires_grad_(k in asked) for k, t in enumerate(tensors)]
        pulled = solve.adjoint.pull_back(solve.system.on(held), status, y.detach(), grad_y, held)
        given = ((pulled[k], tensors[k]) for k in asked)
        return tuple(torch.zeros_like(t) if value is None else value.detach() for value, t in given)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            "least_squares: second derivatives under torch.func are not offered; take torch.autograd.grad with "
            "create_graph=True, or torch.autograd.functional.hessian"
        )

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Any,
        solve: _SolvedProblems,
        asked: list[int],
        status: torch.Tensor,
        y: torch.Tensor,
        grad_y: torch.Tensor,
        *tensors: torch.Tensor,
    ) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...]]:
        size = info.batch_size
        many, spread = solve.folded(size, in_dims[5:], tensors)
        parts = [_spread(t, dim, size) for t, dim in zip((status, y, grad_y), in_dims[2:5], strict=True)]
        found = _PullBack.apply(many, asked, *parts, *spread)
        out = []
        for k, value in zip(asked, found, strict=True):
            value = value.unflatten(0, (size, -1))
            out.append(value if solve.system.per_problem(k) else value.sum(dim=1))
        return tuple(out), (0,) * len(out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnrolledAdjoint(AbstractSolveAdjoint):
    """Differentiates through every iteration by reverse mode.

    Memory grows with the number of iterations. The gradient is that of the iteration, which tends to that of the
    solution as it converges; it exists also where the solution is not unique, and for the dependence on the start.
    """

    def run(self, iterate: Iterate, system: AbstractCondition, start: torch.Tensor) -> tuple[Iterated, Result]:
        """Iterate with a graph."""
        if any(_wrapped(t) for t in (start, *system.tensors)):
            raise ValueError("UnrolledAdjoint: torch.func does not pass through its iterations; use ImplicitAdjoint()")
        found = iterate(system, start)
        return found, Result(int(found[1].max()))
