"""Nonlinear least-squares problems min 1/2 |r(y)|^2 given by a function, mapped over a batch."""

import copy
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from simengine.solve.conjugate_gradients import conjugate_gradients
from simengine.solve.least_squares import alone
from simengine.solve.least_squares.condition import AbstractSystem
from simengine.solve.least_squares.structures.gram import AbstractGram, Linearisation, blunt
from simengine.solve.least_squares.structures.structure import AbstractStructure, Dense
from simengine.solve.optimality import stationarity

Residual = Callable[[torch.Tensor, Any], torch.Tensor]
LinearRows = Callable[[Any], tuple[torch.Tensor, torch.Tensor]]
_FEW = 16  # products that a single problem takes one by one


@functools.cache
def load_forward_mode() -> None:
    """Let torch load its forward-mode rules, which on first use warn of torch.jit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


class ResidualError(RuntimeError):
    """The residual raised, or returned something that is no residual; names problems, iteration and shapes."""


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
        self._dims: tuple[int | None, ...] = tuple(0 if batched(tensor) else None for tensor in self.tensors)
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

    def on(self, tensors: Sequence[torch.Tensor]) -> "FunctionSystem":
        """As the base says."""
        if all(a is b for a, b in zip(tensors, self.tensors, strict=True)):
            return self
        return self._with(tuple(tensors), self._dims, self.batch)

    def _with(self, tensors: tuple[torch.Tensor, ...], dims: tuple[int | None, ...], batch: int) -> "FunctionSystem":
        other = copy.copy(self)
        other.tensors, other._dims, other.batch, other._constant = tensors, dims, batch, None
        return other

    def folded(
        self, size: int, dims: Sequence[int | None], tensors: Sequence[torch.Tensor]
    ) -> tuple["FunctionSystem", list[torch.Tensor]]:
        """As the base says; tensors that all problems share become one for each where they are mapped."""
        found = []
        for t, dim, d in zip(tensors, dims, self._dims, strict=True):
            whole = t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
            if d is None:
                whole = whole.unsqueeze(1).expand(size, self.batch, *whole.shape[1:])
            found.append(whole.flatten(0, 1))
        return self._with(tuple(found), (0,) * len(found), size * self.batch), found

    def per_problem(self, k: int) -> bool:
        """As the base says."""
        return self._dims[k] is not None

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
        if len(y) == 1:
            one, rest = self._only(y, tensors)
            return function(one, *rest).unsqueeze(0)
        return torch.func.vmap(function, in_dims=(0, *self._dims))(y, *tensors)

    def _only(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The unknowns (n,) and args of the only problem."""
        return y[0], [t if d is None else t[0] for t, d in zip(tensors, self._dims, strict=True)]

    def _alone(
        self, function: Callable[..., torch.Tensor], y: torch.Tensor, tensors: Sequence[torch.Tensor], few: int
    ) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor, bool] | None:
        """r(z), where, and whether it is differentiable, if `alone` is quicker; None if not."""
        if len(y) > 1 or few > _FEW:
            return None
        graph = torch.is_grad_enabled() and any(t.requires_grad for t in (y, *tensors))
        one, rest = self._only(y, tensors if graph else [t.detach() for t in tensors])
        return lambda z: function(z, *rest), one, graph

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
        if single := self._alone(self._one, y, tensors, len(seeds)):
            r, one, graph = single
            found = alone.products(r, one, seeds, differentiable=graph)
            if graph or bool(found.isfinite().all()):  # reverse mode sees a hidden branch of torch.where, forward not
                return self.structure.unpack(found.unsqueeze(0))

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
        tensors = self._take(which)
        if single := self._alone(self._one, y, tensors, 1):
            found = alone.curvature(single[0], single[1], v[0])
            if bool(found.isfinite().all()):
                return found.unsqueeze(0).double()

        def one(y: torch.Tensor, v: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
            turn = torch.func.jvp(lambda z: self._jvp_one(z, v, *tensors), (y,), (v,))[1]
            return torch.func.vjp(lambda z: self._one(z, *tensors), y)[1](turn)[0]

        return torch.func.vmap(one, in_dims=(0, 0, *self._dims))(y, v, *tensors).double()

    def hessian(self, y: torch.Tensor, which: torch.Tensor) -> torch.Tensor | None:
        """Forward over reverse; of dense problems."""
        if not isinstance(self.structure, Dense):
            return None
        return self._hessian(y, self._take(which))

    def _hessian(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        if single := self._alone(self._rows_one, y, tensors, y.shape[1]):
            return alone.hessian(single[0], single[1], differentiable=single[2]).unsqueeze(0).double()
        return self._map(torch.func.jacfwd(self._optimality_one), y, tensors).double()

    def sharper(self) -> "FunctionSystem | None":
        """With J itself factorised; of dense problems without linear rows."""
        if not self._direct or self._linear is not None:
            return None
        other = copy.copy(self)
        other.structure, other._direct = Dense(qr=True), False
        return other

    def _optimality_one(self, y: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        return stationarity(lambda z, t: self._rows_one(z, *t), y, tensors)

    def optimality(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """J^T r by one reverse sweep."""
        if single := self._alone(self._rows_one, y, tensors, 1):
            return alone.gradient(single[0], single[1], differentiable=single[2]).unsqueeze(0)
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
        """Dense LU of the exact Hessian; conjugate gradients for other structures, and where it is blunt."""
        if not self._direct:
            return self._iterative_solve(y, b, tensors, gauss_newton=gauss_newton)
        if gauss_newton:
            hessian = self.linearise(y, torch.arange(self.batch, device=y.device))["gram"]
        else:
            hessian = self._hessian(y, tensors)
        v, info = torch.linalg.solve_ex(hessian, b.double())
        v = torch.where((info == 0)[:, None], v, torch.nan)
        few, sharp = blunt(hessian.detach()), self.sharper()
        if sharp is None or not bool(few.any()):
            return v
        better = sharp._iterative_solve(y, b, tensors, gauss_newton=gauss_newton)
        told = few & better.isfinite().all(dim=1)
        return torch.where(told[:, None], _Once.apply(better, v), v)

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


class _Once(torch.autograd.Function):
    """A value found by iteration, in place of one that has a graph."""

    @staticmethod
    def forward(ctx: Any, found: torch.Tensor, instead_of: torch.Tensor) -> torch.Tensor:
        return found.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[None, None]:
        raise RuntimeError(
            "least_squares: J is of so high a condition that its gradient came by J itself, which is once "
            "differentiable; scale the unknowns, or add a regularising row"
        )
