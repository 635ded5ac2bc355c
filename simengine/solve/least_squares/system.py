"""A batch of nonlinear least-squares problems min 1/2 |r(y)|^2, as the iteration and the adjoints see it."""

import abc
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from simengine.solve.conjugate_gradients import conjugate_gradients
from simengine.solve.least_squares.gram import AbstractGram, Linearisation
from simengine.solve.least_squares.structure import AbstractStructure, Dense
from simengine.solve.optimality import stationarity

Residual = Callable[[torch.Tensor, Any], torch.Tensor]
LinearRows = Callable[[Any], tuple[torch.Tensor, torch.Tensor]]


@functools.cache
def load_forward_mode() -> None:
    """Let torch load its forward-mode rules, which on first use warn of torch.jit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


class ResidualError(RuntimeError):
    """The residual raised, or returned something that is no residual; names problems, iteration and shapes."""


class AbstractCondition(abc.ABC):
    """Equations F(y, tensors) = 0 that solutions satisfy, with a symmetric H = dF/dy: what an implicit gradient needs.

    Attributes:
        tensors: What gradients may flow to.
        once_differentiable: Why there are no second derivatives; empty where there are.
    """

    tensors: tuple[torch.Tensor, ...]
    once_differentiable: str = ""

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
    """

    gram: AbstractGram
    polished: bool = True
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


class FunctionSystem(AbstractSystem):
    """Problems given by a residual function of one problem, mapped over the batch.

    Args:
        residual: `residual(y, args)`: y (n,) -> r (m,), made of torch functions.
        args: Nest of tuples, lists and dicts; its tensors may carry gradients.
        batch: Number of problems.
        batched: Per tensor of `args` in order, whether its first dimension runs over the problems.
        jacobian: `jacobian(y, args)`: y (n,) -> J in the layout of `structure`; None for forward-mode differentiation.
        structure: Of J; None for `Dense()`.
        linear: `linear(args)` -> A (p, n), b (p,): further rows A y - b, whose A^T A is computed once.
    """

    def __init__(
        self,
        residual: Residual,
        args: Any,
        *,
        batch: int,
        batched: Callable[[torch.Tensor], bool],
        jacobian: Residual | None = None,
        structure: AbstractStructure | None = None,
        linear: LinearRows | None = None,
    ) -> None:
        load_forward_mode()
        leaves, self._spec = pytree.tree_flatten(args)
        self._is_tensor = [isinstance(leaf, torch.Tensor) for leaf in leaves]
        self._static = [leaf for leaf in leaves if not isinstance(leaf, torch.Tensor)]
        self.tensors: tuple[torch.Tensor, ...] = tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
        self._dims = tuple(0 if batched(tensor) else None for tensor in self.tensors)
        self.batch = batch
        self.structure: AbstractStructure | Dense = structure or Dense()
        self.gram: AbstractGram = self.structure.gram
        self._direct = self.structure == Dense()  # the exact Hessian is formed and factorised
        if linear is not None and not self._direct:
            raise ValueError(f"linear: rows of their own need a dense Jacobian, without qr, got {self.structure}")
        if not self._direct:
            self.once_differentiable: str = (
                f"least_squares with structure {self.structure} is once differentiable: use Dense()"
            )
        self._residual, self._user_jacobian, self._linear = residual, jacobian, linear
        self._constant: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
        self._checked = self._probed = False

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

    def _rows_one(self, y: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        r = self._one(y, *tensors)
        if self._linear is None:
            return r
        matrix, right = self._linear(self._args(tensors))
        if matrix.ndim != 2 or matrix.shape[1] != len(y) or right.shape != matrix.shape[:1]:
            raise ResidualError(
                f"linear: expected A of shape (p, {len(y)}) and b of shape (p,), got {tuple(matrix.shape)} and "
                f"{tuple(right.shape)}"
            )
        return torch.cat([r, matrix @ y - right])

    def residual(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """r, linear rows last, shape (b, m)."""
        return self._map(self._rows_one, y, tensors)

    def _jvp_one(self, y: torch.Tensor, s: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        return torch.func.jvp(lambda z: self._one(z, *tensors), (y,), (s,))[1]

    def jacobian(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """J without the linear rows, in the layout of `structure`."""
        if self._user_jacobian is not None:
            user = self._user_jacobian
            return self._map(lambda y, *t: user(y, self._args(t)), y, tensors)
        seeds = self.structure.seeds(y.shape[1]).to(y)

        def products(y: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
            return torch.func.vmap(lambda s: self._jvp_one(y, s, *tensors))(seeds)

        return self.structure.unpack(self._map(products, y, tensors))

    def cost(self, y: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """1/2 |r|^2, accumulated in float64."""
        return 0.5 * self.residual(y, self._take(which)).double().square().sum(dim=1)

    def linearise(self, y: torch.Tensor, which: torch.Tensor) -> Linearisation:
        """J in its layout, and from it the normal equations in float64."""
        tensors = self._take(which)
        r = self._map(self._one, y, tensors).double()
        try:
            expected = self.structure.shape(r.shape[1], y.shape[1])
        except ValueError as error:
            raise ResidualError(f"structure {self.structure}: {error}") from error
        j = self.jacobian(y, tensors).double()
        if tuple(j.shape[1:]) != expected:
            raise ResidualError(f"jacobian: expected shape {expected}, got {tuple(j.shape[1:])}")
        if not self._probed and not isinstance(self.structure, Dense):
            self._probe(j, y, tensors)
        lin = self.structure.normal_equations(j, r)
        return lin if self._linear is None else self._with_linear_rows(lin, y, which)

    def _probe(self, j: torch.Tensor, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> None:
        """One product tells whether J has the structure that was promised: what lies outside would be lost silently."""
        generator = torch.Generator().manual_seed(0)
        s = (0.5 + torch.rand(y.shape[1], generator=generator, dtype=torch.float64)).to(y)
        with torch.no_grad():
            whole = self._map(lambda y, *t: self._jvp_one(y, s, *t), y, tensors).double()
            found = self.structure.product(j.detach(), s.double().expand(len(y), -1))
        off = (whole[:, : found.shape[1]] - found).norm(dim=1) + whole[:, found.shape[1] :].norm(dim=1)
        wrong = off > 1e3 * torch.finfo(y.dtype).eps ** 0.75 * whole.norm(dim=1).clamp_min(1e-30)
        if bool(wrong.any()):
            raise ResidualError(
                f"structure {self.structure}: the residual's Jacobian has entries outside it, or the given one is not "
                f"its derivative: off by {float(off.max()):.1e} in a product of size {float(whole.norm()):.1e}"
            )
        self._probed = True

    def _with_linear_rows(self, lin: Linearisation, y: torch.Tensor, which: torch.Tensor) -> Linearisation:
        if self._constant is None:
            assert self._linear is not None
            rows = self._linear
            parts = [
                self._map(lambda _, *t, k=k: rows(self._args(t))[k], y.new_zeros(self.batch, 1), self.tensors).double()
                for k in range(2)
            ]
            self._constant = parts[0], parts[1], parts[0].mT @ parts[0]
        matrix, right, square = (part if len(which) == self.batch else part[which] for part in self._constant)
        rest = (matrix @ y.double().unsqueeze(-1)).squeeze(-1) - right
        return {
            "gradient": lin["gradient"] + (matrix.mT @ rest.unsqueeze(-1)).squeeze(-1),
            "diagonal": lin["diagonal"] + square.diagonal(dim1=1, dim2=2),
            "gram": lin["gram"] + square,
        }

    def curvature(self, y: torch.Tensor, v: torch.Tensor, which: torch.Tensor) -> torch.Tensor | None:
        """By forward mode twice and one reverse sweep; of dense problems without a Jacobian of the user's."""
        if not isinstance(self.structure, Dense) or self._user_jacobian is not None:
            return None

        def one(y: torch.Tensor, v: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
            turn = torch.func.jvp(lambda z: self._jvp_one(z, v, *tensors), (y,), (v,))[1]
            return torch.func.vjp(lambda z: self._one(z, *tensors), y)[1](turn)[0]

        return torch.func.vmap(one, in_dims=(0, 0, *self._dims))(y, v, *self._take(which)).double()

    def hessian(self, y: torch.Tensor, which: torch.Tensor) -> torch.Tensor | None:
        """Forward over reverse; of dense problems."""
        if not isinstance(self.structure, Dense):
            return None
        return self._map(torch.func.jacfwd(self._optimality_one), y, self._take(which)).double()

    def _optimality_one(self, y: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        return stationarity(lambda z, t: self._rows_one(z, *t), y, tensors)

    def optimality(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """J^T r by one reverse sweep."""
        return self._map(self._optimality_one, y, tensors)

    def pull_back(
        self, y: torch.Tensor, v: torch.Tensor, tensors: Sequence[torch.Tensor], *, differentiable: bool
    ) -> tuple[torch.Tensor | None, ...]:
        """As ever; zero where nothing is asked of a problem, which may have failed with a residual not finite."""
        found = super().pull_back(y, v, tensors, differentiable=differentiable)
        asked = (v != 0).any(dim=1)
        if bool(asked.all()):
            return found
        return tuple(
            value if value is None or d is None else torch.where(asked.reshape(-1, *[1] * (value.ndim - 1)), value, 0.0)
            for value, d in zip(found, self._dims, strict=True)
        )

    def solve_hessian(
        self, y: torch.Tensor, b: torch.Tensor, tensors: Sequence[torch.Tensor], *, gauss_newton: bool
    ) -> torch.Tensor:
        """Dense LU of the exact Hessian (forward over reverse); conjugate gradients for other structures."""
        if not self._direct:
            return self._iterative_solve(y, b, tensors, gauss_newton=gauss_newton)
        if gauss_newton:
            hessian = self.linearise(y, torch.arange(self.batch, device=y.device))["gram"]
        else:
            hessian = self._map(torch.func.jacfwd(self._optimality_one), y, tensors).double()
        v, info = torch.linalg.solve_ex(hessian, b.double())
        return torch.where((info == 0)[:, None], v, torch.nan)

    def _iterative_solve(
        self, y: torch.Tensor, b: torch.Tensor, tensors: Sequence[torch.Tensor], *, gauss_newton: bool
    ) -> torch.Tensor:
        """Conjugate gradients on products with the exact Hessian, preconditioned by J^T J in its structure."""
        with torch.no_grad():
            lin = self.linearise(y.detach(), torch.arange(self.batch, device=y.device))
            none, b = torch.zeros(len(y), dtype=torch.float64, device=y.device), b.detach().double()
            if gauss_newton:
                return self.gram.solve(lin, none, b)
            return conjugate_gradients(
                lambda v: self._jvp_of_optimality(y.detach(), v, tensors),
                b,
                precondition=lambda v: self.gram.solve(lin, none, v),
                tolerance=max(1e-12, 10 * torch.finfo(y.dtype).eps),
            )

    def _jvp_of_optimality(self, y: torch.Tensor, v: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        def one(y: torch.Tensor, v: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
            return torch.func.jvp(lambda z: self._optimality_one(z, *tensors), (y,), (v,))[1]

        return torch.func.vmap(one, in_dims=(0, 0, *self._dims))(y, v.to(y.dtype), *tensors).double()
