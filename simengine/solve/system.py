"""A batch of nonlinear least-squares problems min 1/2 |r(y)|^2, as the iteration and the adjoints see it."""

import abc
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from simengine.solve.gram import AbstractGram, DenseGram, Linearisation

Residual = Callable[[torch.Tensor, Any], torch.Tensor]


@functools.cache
def load_forward_mode() -> None:
    """Let torch load its forward-mode rules, which on first use warn of torch.jit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


class ResidualError(RuntimeError):
    """The residual raised, or returned something that is no residual; names problems, iteration and shapes."""


class AbstractSystem(abc.ABC):
    """A batch of problems of the same size.

    Attributes:
        gram: How the normal matrix is stored and solved.
        tensors: What gradients may flow to.
    """

    gram: AbstractGram
    tensors: tuple[torch.Tensor, ...]

    @abc.abstractmethod
    def cost(self, y: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """1/2 |r|^2 of the problems `which` (b,) at y (b, n); shape (b,), float64."""

    @abc.abstractmethod
    def linearise(self, y: torch.Tensor, which: torch.Tensor) -> Linearisation:
        """J^T r and J^T J of the problems `which` at y, in the structure of `gram`, float64."""

    @abc.abstractmethod
    def optimality(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """The stationarity condition F(y) = J^T r of all problems, shape (b, n), differentiable in `tensors`."""

    @abc.abstractmethod
    def solve_hessian(
        self, y: torch.Tensor, b: torch.Tensor, tensors: Sequence[torch.Tensor], *, gauss_newton: bool
    ) -> torch.Tensor:
        """H^-1 b, shape (b, n), with H = dF/dy = J^T J + sum_i r_i Hess r_i, or J^T J alone; NaN where singular."""


class FunctionSystem(AbstractSystem):
    """Problems given by a residual function of one problem, mapped over the batch.

    Args:
        residual: `residual(y, args)`: y (n,) -> r (m,), made of torch functions.
        args: Nest of tuples, lists and dicts; its tensors may carry gradients.
        batch: Number of problems.
        batched: Per tensor of `args` in order, whether its first dimension runs over the problems.
        jacobian: `jacobian(y, args)`: y (n,) -> J (m, n); None for forward-mode differentiation.
    """

    def __init__(
        self,
        residual: Residual,
        args: Any,
        *,
        batch: int,
        batched: Callable[[torch.Tensor], bool],
        jacobian: Residual | None = None,
    ) -> None:
        load_forward_mode()
        leaves, self._spec = pytree.tree_flatten(args)
        self._is_tensor = [isinstance(leaf, torch.Tensor) for leaf in leaves]
        self._static = [leaf for leaf in leaves if not isinstance(leaf, torch.Tensor)]
        self.tensors = tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
        self._dims = tuple(0 if batched(tensor) else None for tensor in self.tensors)
        self.batch = batch
        self.gram = DenseGram()
        self._residual, self._user_jacobian = residual, jacobian
        self._checked = False

    def _args(self, tensors: Sequence[torch.Tensor]) -> Any:
        dynamic, static = iter(tensors), iter(self._static)
        return pytree.tree_unflatten([next(dynamic if t else static) for t in self._is_tensor], self._spec)

    def _take(self, which: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if len(which) == self.batch:
            return self.tensors
        return tuple(t if d is None else t[which] for t, d in zip(self.tensors, self._dims, strict=True))

    def _one(self, y: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        r = self._residual(y, self._args(tensors))
        if not self._checked:
            self._check(r, y)
        return r

    def _check(self, r: Any, y: torch.Tensor) -> None:
        if not isinstance(r, torch.Tensor):
            raise ResidualError(f"residual: expected a tensor of shape (m,), got {type(r).__name__}")
        if r.ndim != 1 or r.shape[0] == 0:
            raise ResidualError(
                f"residual: expected shape (m,) with m >= 1 for y of shape {tuple(y.shape)}, got {tuple(r.shape)}; "
                "write it for one problem, without the batch dimension, and flatten it"
            )
        if r.dtype != y.dtype:
            raise ResidualError(f"residual: expected dtype {y.dtype}, that of y, got {r.dtype}")
        self._checked = True

    def _map(
        self, function: Callable[..., torch.Tensor], y: torch.Tensor, tensors: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        return torch.func.vmap(function, in_dims=(0, *self._dims))(y, *tensors)

    def residual(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """r, shape (b, m)."""
        return self._map(self._one, y, tensors)

    def _jacobian_one(self, y: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        if self._user_jacobian is not None:
            return self._user_jacobian(y, self._args(tensors))
        return torch.func.jacfwd(self._one)(y, *tensors)

    def jacobian(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """J, shape (b, m, n)."""
        return self._map(self._jacobian_one, y, tensors)

    def cost(self, y: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """1/2 |r|^2, accumulated in float64."""
        return 0.5 * self.residual(y, self._take(which)).double().square().sum(dim=1)

    def linearise(self, y: torch.Tensor, which: torch.Tensor) -> Linearisation:
        """Dense J and from it G."""
        tensors = self._take(which)
        r, j = self.residual(y, tensors).double(), self.jacobian(y, tensors).double()
        if j.shape != (*r.shape, y.shape[1]):
            raise ResidualError(f"jacobian: expected shape {(r.shape[1], y.shape[1])}, got {tuple(j.shape[1:])}")
        gram = j.mT @ j
        return {
            "gradient": (j.mT @ r.unsqueeze(-1)).squeeze(-1),
            "diagonal": gram.diagonal(dim1=1, dim2=2).clone(),
            "gram": gram,
        }

    def _optimality_one(self, y: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        def cost(z: torch.Tensor) -> torch.Tensor:
            return 0.5 * self._one(z, *tensors).square().sum()

        return torch.func.grad(cost)(y)

    def optimality(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """J^T r by one reverse sweep."""
        return self._map(self._optimality_one, y, tensors)

    def solve_hessian(
        self, y: torch.Tensor, b: torch.Tensor, tensors: Sequence[torch.Tensor], *, gauss_newton: bool
    ) -> torch.Tensor:
        """Dense LU of the exact Hessian (forward over reverse), or of J^T J."""
        if gauss_newton:
            j = self.jacobian(y, tensors).double()
            hessian = j.mT @ j
        else:
            hessian = self._map(torch.func.jacfwd(self._optimality_one), y, tensors).double()
        v, info = torch.linalg.solve_ex(hessian, b.double())
        return torch.where((info == 0)[:, None], v, torch.nan)
