"""Basis functions in, a field that satisfies the equation out: the solver is a layer of the network."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from simengine.constraint.blocks import Blocks, Decomposition, decompose
from simengine.constraint.estimate import nodal_error
from simengine.constraint.norm import AbstractNorm, chosen
from simengine.constraint.normed import NormedSystem
from simengine.constraint.pde import AbstractPDE
from simengine.constraint.rows import RowWeights
from simengine.constraint.shard import Shard
from simengine.constraint.system import ExpertSystem
from simengine.ops.fields.table_product import table_product
from simengine.solve.least_squares.adjoint import AbstractSolveAdjoint, ImplicitAdjoint, UnrolledAdjoint
from simengine.solve.least_squares.iteration import checked, named_error, solve_system
from simengine.solve.least_squares.solvers import AbstractLeastSquaresSolver, LevenbergMarquardt
from simengine.solve.solution import Result, Solution


@dataclasses.dataclass(frozen=True)
class Constrained:
    """What the layer returns.

    Attributes:
        field: u on the grid, shape (samples, *shape), differentiable.
        weights: omega, shape (samples, K, n), differentiable.
        solution: How the solve ended; coupled: a problem per sample, independent: one per sample and expert.
        norm: In which the residual was made small: `plain`, `Galerkin`, ...
    """

    field: torch.Tensor
    weights: torch.Tensor
    solution: Solution[torch.Tensor]
    norm: str = "plain"


class HardConstraint(nn.Module):
    """Weights omega of given basis functions b so that u = base + b . omega satisfies a PDE by least squares.

    Args:
        pde: The equation, or a user's own sub-class of `AbstractPDE`.
        blocks: The decomposition of the grid into experts; one expert for all of it by default.
        weights: Of conditions, interfaces and ridge beside the equation.
        solver: `LevenbergMarquardt(tolerance=1e-8, max_iterations=50)` if None.
        adjoint: `ImplicitAdjoint()` if None: exact Hessian.
        throw: Raise where an expert does not converge.
        group: Process group of `torch.distributed` over which the experts are dealt out; None for one process. Every
            process calls the layer with the same arguments and gets the same result and the same gradients.
        norm: In which the residual is made small: `auto` tests the rows of an elliptic equation with the functions
            (Galerkin) and takes the plain sum of squares for any other; `plain`; or an `AbstractNorm`, such as
            `InverseLaplacian(pde.shape)` or one's own. Other norms than the plain one take all rows, a dense Jacobian,
            coupled experts and one process.
    """

    def __init__(
        self,
        pde: AbstractPDE,
        blocks: Decomposition = Decomposition(),
        *,
        weights: RowWeights = RowWeights(),
        solver: AbstractLeastSquaresSolver | None = None,
        adjoint: AbstractSolveAdjoint | None = None,
        throw: bool = False,
        group: Any = None,
        norm: AbstractNorm | str = "auto",
    ) -> None:
        super().__init__()
        if isinstance(norm, str) and norm not in ("auto", "plain"):
            raise ValueError(f"norm: expected auto, plain or an AbstractNorm such as Galerkin(), got {norm!r}")
        if isinstance(adjoint, UnrolledAdjoint):
            raise ValueError("adjoint: the layer has implicit gradients only; use ImplicitAdjoint()")
        self.pde = pde
        cuts = blocks.boundaries(pde.shape)

        def dealt(cuts: Sequence[Sequence[int]], rows: int = blocks.rows_per_block, **options: Any) -> Blocks:
            generator = torch.Generator().manual_seed(blocks.seed)
            return decompose(pde, cuts, rows_per_block=rows, generator=generator, **options)

        shaped = {name: getattr(blocks, name) for name in ("periodic", "overlap", "blend")}
        self.blocks: Blocks = dealt(cuts, **shaped)
        self.shard: Shard = Shard(group)
        if self.shard.size > self.blocks.num_blocks:
            raise ValueError(
                f"group: {self.shard.size} processes for {self.blocks.num_blocks} experts; use as many at most"
            )
        self.coupled: bool = blocks.coupled and self.blocks.num_blocks > 1
        if isinstance(norm, AbstractNorm) and not self._normable:
            raise ValueError("norm: other norms than the plain one take coupled experts in one process")
        self.norm = norm
        self._chosen: tuple[AbstractNorm | None] | None = None  # read off the equation at the first call, then kept
        self._complete = functools.cache(lambda: dealt(cuts, math.prod(pde.shape) * 64, **shaped))
        needs_field = self.coupled and len(pde.of_the_stitched_field) > 0
        self._whole: Blocks | None = dealt([(0, size) for size in pde.shape]) if needs_field else None
        self.weights: RowWeights = weights
        self.solver: AbstractLeastSquaresSolver | LevenbergMarquardt = solver or LevenbergMarquardt(
            tolerance=1e-8, max_iterations=50
        )
        self.adjoint: AbstractSolveAdjoint | ImplicitAdjoint = adjoint or ImplicitAdjoint()
        self.throw = throw

    def forward(
        self,
        basis: torch.Tensor,
        parameters: Mapping[str, torch.Tensor],
        base: torch.Tensor | None = None,
        *,
        start: torch.Tensor | None = None,
    ) -> Constrained:
        """Solve for the weights and put the blocks together.

        Args:
            basis: Basis functions on the grid, float64, shape (samples, *shape, n), from any backbone.
            parameters: What `pde` calls parameters, each of shape (samples, ...).
            base: What is added to the combination, shape (samples, *shape), such as the initial field; 0 if None.
            start: Weights to start from, shape (samples, K, n); None for one linear step, or, where coupled experts see
                the stitched field, for the weights that they would share.

        Raises:
            ValueError: Shapes or dtype do not fit.
            SolveError: With `throw`, where an expert does not converge; names it.
        """
        basis, parameters, base = self._spread(basis, parameters, base)
        return self._solve(self._system(basis, parameters, base), basis, base, start)

    def minimum(
        self,
        basis: torch.Tensor,
        parameters: Mapping[str, torch.Tensor],
        base: torch.Tensor | None = None,
        *,
        start: torch.Tensor | None = None,
    ) -> tuple[Constrained, torch.Tensor]:
        """Solve, and give the cost that is left, whose gradient needs no adjoint.

        Where a cost is at its minimum in the weights, its gradient in all else is that with the weights held.

        Returns:
            What `forward` returns, without gradients, and half the sum of squares, shape (samples,), differentiable.
        """
        basis, parameters, base = self._spread(basis, parameters, base)
        system = self._system(basis, parameters, base)
        with torch.no_grad():
            found = self._solve(system, basis, base, start)
        costs = system.differentiable_cost(system.solution).reshape(len(basis), -1)
        if not self.coupled:  # each a problem of its own, in the process that holds it
            costs = self.shard.join(costs, self.shard.sizes(self.blocks.num_blocks))
        return found, costs.sum(dim=1)

    def _spread(
        self, basis: torch.Tensor, parameters: Mapping[str, torch.Tensor], base: torch.Tensor | None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor | None]:
        self._check(basis, parameters, base)
        spread = self.shard.spread
        constants = {name: spread(value) for name, value in parameters.items()}
        return spread(basis), constants, None if base is None else spread(base)

    def _system(
        self, basis: torch.Tensor, parameters: Mapping[str, torch.Tensor], base: torch.Tensor | None
    ) -> ExpertSystem | NormedSystem:
        table = self.pde.table(basis)
        base_table = None if base is None else self.pde.table(base.unsqueeze(-1)).squeeze(-1)
        norm = self._norm(parameters)
        if norm is not None:
            blocks = self._complete()
            return NormedSystem(self.pde, blocks, table, base_table, dict(parameters), norm=norm, weights=self.weights)
        return ExpertSystem(
            self.pde,
            self.blocks,
            table,
            base_table,
            dict(parameters),
            coupled=self.coupled,
            shard=self.shard,
            weights=self.weights,
        )

    @property
    def _normable(self) -> bool:
        one = self.blocks.num_blocks == 1 or self.coupled
        return one and self.shard.size == 1 and not self.pde.of_the_stitched_field

    def _norm(self, parameters: Mapping[str, torch.Tensor]) -> AbstractNorm | None:
        """The norm of these problems; None for the plain one."""
        if isinstance(self.norm, AbstractNorm):
            return self.norm
        if self.norm == "plain" or not self._normable:
            return None
        if self._chosen is None:
            self._chosen = (chosen(self.pde, {name: value[:1].detach() for name, value in parameters.items()}),)
        return self._chosen[0]

    def error(
        self,
        found: Constrained,
        parameters: Mapping[str, torch.Tensor],
        sample: int = 0,
    ) -> torch.Tensor:
        """How far a field is from the solution of the equation on its grid, as far as one step of Newton tells.

        The residual of all rows through the inverse of the equation linearised there, on all grid points: for a linear
        equation the error itself, but for that of the grid. Costs one sparse factorisation, as a solver does.

        Args:
            found: What `forward` returned.
            parameters: As given to it.
            sample: Which of its samples.

        Returns:
            Estimate of field - solution, shape (*shape).

        Raises:
            ValueError: The equation sees more of the field than values at grid points.
        """
        own = {name: value[sample : sample + 1].detach() for name, value in parameters.items()}
        return nodal_error(self.pde, found.field[sample].detach(), own)

    def _solve(
        self,
        system: ExpertSystem | NormedSystem,
        basis: torch.Tensor,
        base: torch.Tensor | None,
        start: torch.Tensor | None,
    ) -> Constrained:
        num, sizes = self.blocks.num_blocks, self.shard.sizes(self.blocks.num_blocks)
        if start is None:
            try:
                shared = self._whole is not None and isinstance(system, ExpertSystem)
                y0 = self._shared_start(self._whole, system) if shared else system.linear_start()  # type: ignore[arg-type]
            except Exception as error:
                which = torch.arange(system.problems)
                raise named_error(error, 0, which, torch.empty(len(which), system.experts * system.size)) from error
        else:
            held = start if self.coupled else start[:, self.shard.own(num)]
            y0 = held.detach().reshape(-1, system.experts * system.size)
        solution = solve_system(system, y0, solver=self.solver, adjoint=self.adjoint)
        system.solution = solution.value.detach()
        weights = solution.value.reshape(len(basis), -1, system.size)
        if not self.coupled and self.shard.size > 1:
            weights = self.shard.join(weights, sizes)
            stats = {
                name: self.shard.join(value.reshape(len(basis), -1), sizes).flatten()
                for name, value in solution.stats.items()
            }
            solution = Solution(weights.reshape(-1, system.size), Result(int(stats["status"].max())), stats)
        checked(solution, self.throw)
        norm = system.norm.name if isinstance(system, NormedSystem) else "plain"
        return Constrained(self._stitched(basis, weights, base), weights, solution, norm)

    def _shared_start(self, whole: Blocks, system: ExpertSystem) -> torch.Tensor:
        """Weights of one expert for the whole domain, to a few digits: its Jacobian is complete, that of many not."""
        table, base, *constants = (t.detach() for t in system.tensors)
        parameters = dict(zip(system.names, constants, strict=True))
        one = ExpertSystem(self.pde, whole, table, base, parameters, coupled=False, weights=self.weights)
        solver = dataclasses.replace(self.solver, tolerance=max(self.solver.tolerance, 1e-4), max_iterations=10)
        with torch.no_grad():
            shared = solve_system(one, one.linear_start(), solver=solver).value
        return torch.where(shared.isfinite(), shared, 0.0).repeat(1, system.experts)

    def stitch(self, basis: torch.Tensor, weights: torch.Tensor, base: torch.Tensor | None = None) -> torch.Tensor:
        """The field that takes every point from the experts of its blocks, shape (samples, *shape)."""
        return self._stitched(self.shard.spread(basis), weights, None if base is None else self.shard.spread(base))

    def _stitched(self, basis: torch.Tensor, weights: torch.Tensor, base: torch.Tensor | None) -> torch.Tensor:
        blocks, shard = self.blocks.to(basis.device), self.shard
        own, flat, weights = shard.own(blocks.num_blocks), basis.flatten(1, -2), shard.spread(weights)
        # lists of points of different length, padded with the first point
        entries = torch.nn.utils.rnn.pad_sequence(list(blocks.points[own]), batch_first=True)
        values = table_product(flat, entries, weights[:, own], torch.arange(len(flat), device=flat.device))
        bounds, lengths = shard.bounds(blocks.num_blocks), [len(points) for points in blocks.points]
        parts = [
            window * value[:, : len(window)]
            for window, value in zip(blocks.windows[own], values.unbind(dim=1), strict=True)
        ]
        joined = shard.join(torch.cat(parts, dim=1), [sum(lengths[a:b]) for a, b in itertools.pairwise(bounds)])
        field = joined.new_zeros(len(flat), flat.shape[1]).index_add(1, torch.cat(blocks.points), joined)
        field = field.reshape(len(basis), *self.pde.shape)
        return field if base is None else shard.once(base) + field

    def interface_jumps(self, basis: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Difference of neighbouring experts at the points where both are asked, shape (samples, c, i)."""
        table = self.pde.table(basis)
        jumps = []
        for c, (a, b) in enumerate(self.blocks.pairs.tolist()):
            points = self.blocks.entries[a][self.blocks.interface[c, 0]]
            jumps.append((table[:, points] @ (weights[:, a] - weights[:, b]).unsqueeze(-1)).squeeze(-1))
        return torch.stack(jumps, dim=1) if jumps else basis.new_zeros(len(basis), 0, 0)

    def _check(self, basis: torch.Tensor, parameters: Mapping[str, Any], base: torch.Tensor | None) -> None:
        shape = tuple(self.pde.shape)
        if basis.ndim != len(shape) + 2 or tuple(basis.shape[1:-1]) != shape:
            raise ValueError(
                f"basis: expected shape (samples, {', '.join(map(str, shape))}, n), got {tuple(basis.shape)}"
            )
        if basis.dtype != torch.float64:
            raise ValueError(
                f"basis: expected float64, which the conditioning of a PDE needs, got {basis.dtype}; use .double()"
            )
        for name, value in parameters.items():
            if value.ndim == 0 or value.shape[0] != len(basis):
                raise ValueError(f"parameters[{name!r}]: expected shape ({len(basis)}, ...), got {tuple(value.shape)}")
        if base is not None and base.shape != basis.shape[:-1]:
            raise ValueError(f"base: expected shape {tuple(basis.shape[:-1])}, got {tuple(base.shape)}")
