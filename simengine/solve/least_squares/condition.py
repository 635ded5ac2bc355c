"""A batch of nonlinear least-squares problems min 1/2 |r(y)|^2, as the iteration and the adjoints see it."""

import abc
from collections.abc import Sequence

import torch

from simengine.solve.least_squares.structures.gram import AbstractGram, Linearisation

_NO_TRANSFORM = (
    "{}: torch.func does not pass through this solve; differentiate with torch.autograd, and give a batch as samples "
    "of one call instead of vmap"
)


class AbstractCondition(abc.ABC):
    """Equations F(y, tensors) = 0 that solutions satisfy, with a symmetric H = dF/dy: what an implicit gradient needs.

    Attributes:
        tensors: What gradients may flow to.
        once_differentiable: Why there are no second derivatives; empty where there are.
    """

    tensors: tuple[torch.Tensor, ...]
    once_differentiable: str = ""

    def on(self, tensors: Sequence[torch.Tensor]) -> "AbstractCondition":
        """The same problems with these tensors, which are `tensors` as some level of `torch.func` sees them.

        Raises:
            RuntimeError: `torch.func` is at work, and the system offers nothing for it.
        """
        if any(torch._C._functorch.is_functorch_wrapped_tensor(t) for t in self.tensors):
            raise RuntimeError(_NO_TRANSFORM.format(type(self).__name__))
        return self

    def folded(
        self, size: int, dims: Sequence[int | None], tensors: Sequence[torch.Tensor]
    ) -> tuple["AbstractCondition", list[torch.Tensor]]:
        """`size` times the problems for `torch.func.vmap`, and their tensors; `dims` says what is mapped of each."""
        raise RuntimeError(_NO_TRANSFORM.format(type(self).__name__))

    def per_problem(self, k: int) -> bool:
        """Whether the first dimension of tensor `k` runs over the problems."""
        raise RuntimeError(_NO_TRANSFORM.format(type(self).__name__))

    @abc.abstractmethod
    def optimality(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """F of all problems, shape (b, n), differentiable in `tensors`; J^T r for a least-squares problem."""

    @abc.abstractmethod
    def solve_hessian(
        self, y: torch.Tensor, b: torch.Tensor, tensors: Sequence[torch.Tensor], *, gauss_newton: bool
    ) -> torch.Tensor:
        """H^-1 b, shape (b, n), with H = J^T J + sum_i r_i Hess r_i, or J^T J alone; NaN where singular."""

    def hessian_product(self, y: torch.Tensor, v: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """H v, shape (b, n)."""
        with torch.enable_grad():
            z = y.detach().requires_grad_()
            total = (v.detach() * self.optimality(z, [t.detach() for t in tensors])).sum()
            return torch.autograd.grad(total, z)[0]

    def pull_back(
        self, y: torch.Tensor, v: torch.Tensor, tensors: Sequence[torch.Tensor], *, differentiable: bool
    ) -> tuple[torch.Tensor | None, ...]:
        """-v . dF/dtheta at fixed y and v for every tensor that wants a gradient, None for the others."""
        with torch.enable_grad():
            # aliases that y and v do not depend on
            aliases = [t.view_as(t) if t.requires_grad else t for t in tensors]
            total = -(v * self.optimality(y, aliases)).sum()
            wanted = [t for t in aliases if t.requires_grad]
            found = list(torch.autograd.grad(total, wanted, create_graph=differentiable, allow_unused=True))
        return tuple(found.pop(0) if t.requires_grad else None for t in tensors)


class AbstractSystem(AbstractCondition):
    """A batch of least-squares problems of the same size, as the iteration sees it.

    Attributes:
        gram: How the normal matrix is stored and solved.
        linearised_at_the_end: Whether a problem that ends is linearised where it ends: gradients and the rank need it.
        bounds: Least and largest values of the unknowns, (b, n) each, for a dense `gram`; None for none.
        polished: Whether Newton steps with `solve_hessian` may end an iteration whose cost drowns in rounding.
        measured: Whether the damping makes up for the curvature that J^T J was seen to lack along the last step, where
            nothing else knows it.
    """

    gram: AbstractGram
    polished: bool = True
    measured: bool = False
    linearised_at_the_end: bool = True
    bounds: tuple[torch.Tensor, torch.Tensor] | None = None

    @abc.abstractmethod
    def cost(self, y: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """1/2 |r|^2 of the problems `which` (b,) at y (b, n); shape (b,), float64."""

    @abc.abstractmethod
    def linearise(self, y: torch.Tensor, which: torch.Tensor) -> Linearisation:
        """J^T r and J^T J of the problems `which` at y, in the structure of `gram`, float64."""

    def curvature(self, y: torch.Tensor, v: torch.Tensor, which: torch.Tensor) -> torch.Tensor | None:
        """J^T r'', float64 (b, n), with r'' the second derivative of r along v (b, n); None if not known."""
        return None

    def hessian(self, y: torch.Tensor, which: torch.Tensor) -> torch.Tensor | None:
        """J^T J + sum_i r_i Hess r_i of the problems `which`, dense, float64, (b, n, n); None if not offered."""
        return None

    def sharper(self) -> "AbstractSystem | None":
        """The same problems for conditions at which J^T J has no digits left; None if not offered."""
        return None
