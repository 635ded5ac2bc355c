"""Least squares without a Jacobian: products J v by forward and J^T w by reverse mode, steps by conjugate gradients."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from simengine.solve.conjugate_gradients import conjugate_gradients
from simengine.solve.least_squares.structures.gram import AbstractGram, Linearisation
from simengine.solve.least_squares.system import FunctionSystem


@dataclasses.dataclass(frozen=True)
class MatrixFree:
    """No Jacobian is formed: memory is that of a few residuals, whatever the number of unknowns.

    A step costs one product with J and one with J^T per inner iteration. The damping is in units of the mean square
    column of J, estimated by one product with a random vector of signs, so the unknowns should be of one scale.

    Attributes:
        tolerance: Of the inner iterations, relative to the right-hand side.
        max_iterations: Inner iterations at most; None for 10 n.
    """

    tolerance: float = 1e-10
    max_iterations: int | None = None

    def __post_init__(self) -> None:
        if not self.tolerance > 0 or (self.max_iterations is not None and self.max_iterations < 1):
            raise ValueError(
                f"expected tolerance > 0 and max_iterations >= 1, got {self.tolerance} and {self.max_iterations}"
            )


class MatrixFreeSystem(FunctionSystem):
    """Problems whose normal matrix exists as products only; see `FunctionSystem`."""

    def __init__(self, residual: Any, args: Any, *, options: MatrixFree, **others: Any) -> None:
        super().__init__(residual, args, **others)
        self.options = options
        self.gram: AbstractGram = _ProductGram(self)
        self.once_differentiable = "least_squares with MatrixFree() is once differentiable: use Dense()"

    def _with(self, *held: Any) -> "MatrixFreeSystem":
        other = copy.copy(self)
        other.tensors, other._dims, other.batch = held
        other.gram = _ProductGram(other)
        return other

    def gram_product(self, y: torch.Tensor, v: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """J^T J v of the problems `which`, float64."""

        def one(y: torch.Tensor, v: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
            pushed = self._jvp_one(y, v, *tensors)
            return torch.func.vjp(lambda z: self._one(z, *tensors), y)[1](pushed)[0]

        return torch.func.vmap(one, in_dims=(0, 0, *self._dims))(y, v.to(y.dtype), *self._take(which)).double()

    def linearise(self, y: torch.Tensor, which: torch.Tensor) -> Linearisation:
        """J^T r, and the place at which products will be taken."""
        tensors = self._take(which)
        gradient = self._map(self._optimality_one, y, tensors).double()
        n = y.shape[1]
        # normal, not signs: sums over an even number of them would often come to nothing, and leave no damping
        probe = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(y)
        pushed = self._map(lambda y, *t: self._jvp_one(y, probe, *t), y, tensors).double()
        mean_square = pushed.square().sum(dim=1, keepdim=True) / n
        return {"gradient": gradient, "diagonal": mean_square.expand(-1, n).clone(), "y": y, "which": which}

    def solve_hessian(
        self, y: torch.Tensor, b: torch.Tensor, tensors: Sequence[torch.Tensor], *, gauss_newton: bool
    ) -> torch.Tensor:
        """Conjugate gradients on products with the exact Hessian, or with J^T J."""
        everyone, y = torch.arange(self.batch, device=y.device), y.detach()
        with torch.no_grad():
            return conjugate_gradients(
                lambda v: self.gram_product(y, v, everyone) if gauss_newton else self._jvp_of_optimality(y, v, tensors),
                b.detach().double(),
                precondition=lambda v: v,
                tolerance=self.options.tolerance,
                max_iterations=self.options.max_iterations or 10 * y.shape[1],
            )


class _ProductGram(AbstractGram):
    def __init__(self, system: MatrixFreeSystem) -> None:
        self._system = system

    def solve(self, lin: Linearisation, damping: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self._iterate(lin, damping, b, self._system.options.tolerance)

    def _iterate(self, lin: Linearisation, damping: torch.Tensor, b: torch.Tensor, tolerance: float) -> torch.Tensor:
        if torch.is_grad_enabled() and (b.requires_grad or lin["y"].requires_grad):
            raise RuntimeError("MatrixFree() has no gradient through its iterations; use ImplicitAdjoint")
        shift = damping.unsqueeze(1) * lin["diagonal"]
        with torch.no_grad():
            return conjugate_gradients(
                lambda v: self.product(lin, v) + shift * v,
                b,
                precondition=lambda v: v,
                tolerance=tolerance,
                max_iterations=self._system.options.max_iterations or 10 * b.shape[1],
            )

    def product(self, lin: Linearisation, v: torch.Tensor) -> torch.Tensor:
        return self._system.gram_product(lin["y"], v, lin["which"])

    def rank_deficient(self, lin: Linearisation) -> torch.Tensor:
        """Whether J^T J x = b cannot be solved for a b chosen at random: what products can tell."""
        generator = torch.Generator().manual_seed(1)
        b = torch.randn(lin["diagonal"].shape[1], generator=generator, dtype=torch.float64).to(lin["diagonal"])
        none = torch.zeros(len(lin["diagonal"]), dtype=torch.float64, device=b.device)
        x = self._iterate(lin, none, b.expand_as(lin["diagonal"]), max(1e-6, self._system.options.tolerance))
        return ~x.isfinite().all(dim=1)
