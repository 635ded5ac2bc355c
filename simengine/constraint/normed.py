"""The layer's problem in a norm of its own: all rows at once, a dense Jacobian, one problem per sample."""

from collections.abc import Mapping, Sequence

import torch

from simengine.constraint.blocks import Blocks
from simengine.constraint.norm import AbstractNorm
from simengine.constraint.pde import AbstractPDE
from simengine.constraint.rows import RowWeights
from simengine.solve.least_squares.structures.structure import Dense
from simengine.solve.least_squares.system import FunctionSystem


class NormedSystem(FunctionSystem):
    """Weights of all blocks together as one dense problem: |M r|^2 beside conditions, interfaces and ridge.

    Args:
        pde: The equation.
        blocks: With all rows of each block.
        table: Functionals of the basis functions, shape (samples, q, n).
        base: Functionals of what is added, shape (samples, q), or None.
        parameters: Constants per sample.
        norm: M.
        weights: Of conditions, interfaces and ridge.

    Attributes:
        size: Basis functions n.
        experts: Blocks K.
        problems: Samples.
    """

    def __init__(
        self,
        pde: AbstractPDE,
        blocks: Blocks,
        table: torch.Tensor,
        base: torch.Tensor | None,
        parameters: Mapping[str, torch.Tensor],
        *,
        norm: AbstractNorm,
        weights: RowWeights,
    ) -> None:
        self.experts: int = blocks.num_blocks
        self.size: int = table.shape[2]
        self.problems: int = len(table)
        self.solution: torch.Tensor = table.new_zeros(0)
        self.norm: AbstractNorm = norm
        entries, rows, conditions = blocks.entries, blocks.rows, blocks.conditions
        held = torch.ones_like(rows.position, dtype=table.dtype) if rows.weight is None else rows.weight
        condition = weights.condition * (1.0 if conditions.weight is None else conditions.weight)

        def residual(y: torch.Tensor, args: Sequence[torch.Tensor]) -> torch.Tensor:
            own, base, *constants = args
            omega = y.reshape(self.experts, self.size)
            named = {k: v.reshape(*v.shape, *[1] * (2 - v.ndim)) for k, v in zip(parameters, constants, strict=True)}
            functions = own[entries]  # (K, q, n)
            fields = (functions @ omega.unsqueeze(-1)).squeeze(-1) + base[entries]
            values = torch.stack([f[index] for f, index in zip(fields, rows.index, strict=True)])
            r = held * pde.residual(values, rows.data, named)
            here = own[rows.position]  # values at grid points come first in the table
            tested = torch.block_diag(*(held.unsqueeze(-1) * here))
            parts = [norm(r.flatten(), rows.position.flatten(), tested)]
            seen = torch.stack([f[index] for f, index in zip(fields, conditions.index, strict=True)])
            reached = (conditions.data[0] * seen).sum(dim=-1)
            target = pde.targets(conditions.data, conditions.position, named)
            parts.append((condition * (reached - target)).flatten())
            for c, (a, b) in enumerate(blocks.pairs.tolist()):
                at = functions[a][blocks.interface[c, 0]]
                parts.append(weights.interface * blocks.interface_weight[c] * (at @ (omega[a] - omega[b])))
            return torch.cat([*parts, weights.ridge * y])

        base = table.new_zeros(table.shape[:2]) if base is None else base
        super().__init__(
            residual,
            (table, base, *parameters.values()),
            batch=len(table),
            batched=lambda t: True,
            structure=Dense(qr=True),
        )

    def linear_start(self) -> torch.Tensor:
        """The weights of one linear step from 0, by the singular values of J itself; shape (samples, K n)."""
        zero = self.tensors[0].new_zeros(self.problems, self.experts * self.size)
        tensors = [t.detach() for t in self.tensors]
        r = self.residual(zero, tensors)
        jacobian = self.jacobian(zero, tensors)
        return torch.linalg.lstsq(jacobian, -r.unsqueeze(-1), driver="gelsd").solution.squeeze(-1)

    def differentiable_cost(self, y: torch.Tensor) -> torch.Tensor:
        """1/2 |r|^2 at weights that are held, differentiable in the tensors; shape (samples,)."""
        return 0.5 * self.residual(y.detach(), self.tensors).square().sum(dim=1)
