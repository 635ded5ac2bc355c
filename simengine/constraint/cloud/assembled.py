"""Linear equations whose matrices another program assembled: finite elements of a mesh, in, differentiable fields, out.

A program of finite elements (scikit-fem, say; the extra `mesh`) knows meshes, elements and their integrals, and hands
over sparse matrices. Here they become a constraint: K(theta) u = f with K = sum_j theta_j K_j and some of u known,
whose solution has gradients to theta, to the load and to what is known; or M u_t + K u = f in time; or the nearest
field, in the energy, of given functions.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array

from simengine.solve.sparse_cg import SparseIterations
from simengine.solve.sparse_lu import AbstractSparseSystem, SparseFactors

Weights = Mapping[str, torch.Tensor | float]
_GAMMA = 1 - math.sqrt(0.5)  # of the march: Alexander's L-stable scheme of second order (1977)


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The field of given functions that is nearest to the solution in the energy.

    Attributes:
        field: (n,).
        weights: Of the functions, (k,).
        error: Energy of what it lacks, relative to its own: sqrt((u - v)^T K (u - v) / v^T K v), exact.
    """

    field: torch.Tensor
    weights: torch.Tensor
    error: float


class AssembledEquation:
    """K(theta) u = f with K = sum_j theta_j K_j, symmetric or not, and some entries of u known.

        mesh = AssembledEquation({"lam": K1, "mu": K2}, known=basis.get_dofs("left").all())
        u = mesh.solve({"lam": lam, "mu": mu}, load)

    Args:
        stiffness: Name of the number -> its matrix, scipy sparse, (n, n).
        mass: M of `march`; None for none.
        known: Numbers of the entries of u that are known; zero unless values are given.
        definite: Whether K is symmetric and positive definite on the free entries, and to be solved by conjugate
            gradients: the factors of a mesh in three dimensions fill up (32^3 points take 6 s, by iterations 0.06).

    Attributes:
        size: Unknowns n, those known among them.
        free: Numbers of the others.

    Raises:
        ValueError: Matrices of other shapes, or entries beyond them.
    """

    def __init__(
        self, stiffness: Mapping[str, Any], *, mass: Any = None, known: Any = (), definite: bool = False
    ) -> None:
        self._definite = definite
        self._parts = {name: csr_array(matrix, dtype=np.float64) for name, matrix in stiffness.items()}
        self._mass = None if mass is None else csr_array(mass, dtype=np.float64)
        shapes = {m.shape for m in (*self._parts.values(), *([] if self._mass is None else [self._mass]))}
        if len(shapes) != 1 or len({n for shape in shapes for n in shape}) != 1:
            raise ValueError(f"stiffness, mass: expected square matrices of one size, got {sorted(shapes)}")
        self.size: int = next(iter(shapes))[0]
        held = np.unique(np.asarray(known, dtype=np.int64))
        if len(held) and (held[0] < 0 or held[-1] >= self.size):
            raise ValueError(f"known: expected entries from 0 to {self.size - 1}, got {held[0]} to {held[-1]}")
        self.known: torch.Tensor = torch.from_numpy(held)
        self.free: torch.Tensor = torch.from_numpy(np.setdiff1d(np.arange(self.size), held))

    def _numbers(self, numbers: Weights) -> dict[str, torch.Tensor]:
        if set(numbers) != set(self._parts):
            raise ValueError(f"numbers: expected {', '.join(self._parts)}, got {', '.join(numbers) or 'none'}")
        return {name: torch.as_tensor(value, dtype=torch.float64) for name, value in numbers.items()}

    def _vector(self, value: Any, name: str) -> torch.Tensor:
        found = torch.as_tensor(value, dtype=torch.float64)
        if found.shape not in (torch.Size(), torch.Size((self.size,))):
            raise ValueError(f"{name}: expected a number or shape ({self.size},), got {tuple(found.shape)}")
        return found.expand(self.size)

    def force(self, numbers: Weights, u: torch.Tensor) -> torch.Tensor:
        """K(theta) u, (n,), with gradients to both."""
        return _total(value * _Product.apply(u, self._parts[name]) for name, value in self._numbers(numbers).items())

    def _system(self, numbers: Weights, factor: float = 0.0) -> AbstractSparseSystem:
        """K + factor M of the free entries, to be solved with."""
        total = sum(float(value.detach()) * self._parts[name] for name, value in self._numbers(numbers).items())
        if factor:
            assert self._mass is not None
            total = total + factor * self._mass
        free = self.free.numpy()
        matrix = csr_array(total)[free][:, free]
        return SparseIterations(matrix) if self._definite else SparseFactors(matrix)

    def solve(self, numbers: Weights, load: Any = 0.0, values: Any = 0.0) -> torch.Tensor:
        """U, (n,), with gradients, twice, to the numbers, the load and the known values.

        Args:
            numbers: Of the matrices, by name.
            load: f, (n,) or a number.
            values: Of u where it is known; (n,), of which the rest is not read, or a number.

        Raises:
            ArithmeticError: The matrix of the free entries is singular, as of a body that nothing holds, or not
                `definite` as was said.
        """
        f, start = self._vector(load, "load"), self._lifted(values)
        factors = self._system(numbers)
        with torch.no_grad():
            u = start.index_add(0, self.free, factors.solve((f - self.force(numbers, start))[self.free]))
        told = (start, f, *self._numbers(numbers).values())
        if not torch.is_grad_enabled() or not any(t.requires_grad for t in told):
            return u
        # one step of Newton from the solution carries the gradient, two steps that of second order
        u = u.detach().index_copy(0, self.known, start[self.known])
        for _ in range(2):
            u = u.index_add(0, self.free, factors.applied((f - self.force(numbers, u))[self.free]))
        return u

    def _lifted(self, values: Any) -> torch.Tensor:
        zero = torch.zeros(self.size, dtype=torch.float64)
        return zero.index_copy(0, self.known, self._vector(values, "values")[self.known])

    def march(
        self, numbers: Weights, initial: Any, duration: float, steps: int, load: Any = 0.0, values: Any = 0.0
    ) -> torch.Tensor:
        """U of M u_t + K u = f at all steps, (steps + 1, n): an L-stable scheme of second order, with gradients.

        Args:
            numbers: Of the matrices, by name.
            initial: At t = 0, (n,) or a number; what is known is set to its values.
            duration: Of the run [s].
            steps: Equal ones.
            load: f, constant in time.
            values: Of u where it is known, constant in time.

        Raises:
            ValueError: There is no mass, or no step.
        """
        if self._mass is None or not duration > 0 or steps < 1:
            got = f"{'a' if self._mass is not None else 'no'} mass, {duration} and {steps}"
            raise ValueError(f"march: expected a mass, duration > 0 and steps >= 1, got {got}")
        f, start = self._vector(load, "load"), self._lifted(values)
        u = self._vector(initial, "initial").index_copy(0, self.known, start[self.known])
        h = _GAMMA * duration / steps
        factors = self._system(numbers, 1 / h)

        def stage(base: torch.Tensor) -> torch.Tensor:
            v = base.detach().index_copy(0, self.known, start[self.known])
            for _ in range(2):  # the first arrives, the second carries the gradient
                missed = f - self.force(numbers, v) - _Product.apply((v - base) / h, self._mass)
                v = v.index_add(0, self.free, factors.applied(missed[self.free]))
            return v

        found = [u]
        for _ in range(steps):
            first = stage(u)
            u = stage(u + (1 - _GAMMA) / _GAMMA * (first - u))
            found.append(u)
        return torch.stack(found)

    def nearest(self, numbers: Weights, functions: torch.Tensor, load: Any = 0.0, values: Any = 0.0) -> Nearest:
        """The field of functions that is nearest in the energy, and how far it is: runs of other numbers as a basis.

        Args:
            numbers: Of the matrices, by name; K symmetric and positive definite on the free entries.
            functions: (n, k), which are read at the free entries.
            load: f.
            values: Of u where it is known.
        """
        f, start = self._vector(load, "load"), self._lifted(values)
        inner = torch.zeros_like(functions).index_copy(0, self.free, functions[self.free])
        against = torch.stack([self.force(numbers, column) for column in inner.unbind(1)], 1)
        missed = f - self.force(numbers, start)
        weights = torch.linalg.solve(inner.T @ against, inner.T @ missed)
        field = start + inner @ weights
        with torch.no_grad():
            rest = (f - self.force(numbers, field))[self.free]
            lacking = float(rest @ self._system(numbers).solve(rest))
            own = float(field @ self.force(numbers, field))
        return Nearest(field, weights, math.sqrt(max(lacking, 0.0) / own) if own > 0 else math.inf)


class _Product(torch.autograd.Function):
    """A v for a constant sparse A; differentiable again and again."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor, matrix: csr_array) -> torch.Tensor:
        ctx.matrix = matrix
        return torch.from_numpy(matrix @ v.detach().numpy())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _Product.apply(gradients[0], ctx.matrix.T), None


def _total(terms: Any) -> torch.Tensor:
    found: Any = None
    for term in terms:
        found = term if found is None else found + term
    assert found is not None
    return found
