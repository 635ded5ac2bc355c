"""The rows of the layer's least-squares problems and their residuals: equations, conditions, interfaces, a ridge."""

from collections.abc import Sequence

import torch

from simengine.constraint.blocks import BlockRows, Blocks
from simengine.constraint.pde import AbstractPDE
from simengine.constraint.shard import Shard
from simengine.constraint.stitching import StitchedFunctionals

Tensors = Sequence[torch.Tensor]


class ExpertRows:
    """Residuals of K experts per problem as differentiable functions of their weights and of `tensors`.

    Args: see `ExpertSystem`.

    Attributes:
        tensors: Table and base per block held, tables at interfaces, constants of the equation.
        experts: Blocks per problem: K, or 1 where each is a problem of its own.
        held: Those of them whose rows are in this process.
        pairs: Neighbouring blocks.
    """

    def __init__(
        self,
        pde: AbstractPDE,
        blocks: Blocks,
        table: torch.Tensor,
        base: torch.Tensor | None,
        parameters: dict[str, torch.Tensor],
        *,
        coupled: bool,
        condition_weight: float = 1.0,
        interface_weight: float = 1.0,
        ridge: float = 0.0,
        shard: Shard | None = None,
    ) -> None:
        shard, blocks = shard or Shard(), blocks.to(table.device)
        own = shard.own(blocks.num_blocks)
        samples, num, n = len(table), own.stop - own.start, table.shape[2]
        self.pde, self.ridge, self.size, self.coupled = pde, ridge, n, coupled
        self.experts, self.held = (blocks.num_blocks, num) if coupled else (1, 1)
        self._own, self._num = own if coupled else slice(0, 1), num
        self._shard = shard if coupled else Shard()
        self._sizes = shard.sizes(self.experts)
        shape = (samples, num) if coupled else (samples * num, 1)
        entries = blocks.entries[own]
        local = table.index_select(1, entries.flatten()).reshape(*shape, entries.shape[1], n)
        if base is None:
            local_base = torch.zeros(local.shape[:-1], dtype=table.dtype, device=table.device)
        else:
            local_base = base.index_select(1, entries.flatten()).reshape(*shape, -1)
        # interface rows say that neighbours agree at grid points: u_a - u_b = b . (omega_a - omega_b)
        self.pairs: list[tuple[int, int]] = blocks.pairs.tolist() if coupled else []
        self._mine = [c for c, (a, _) in enumerate(self.pairs) if own.start <= a < own.stop]
        places = [blocks.entries[self.pairs[c][0]][blocks.interface[c, 0]] for c in self._mine]
        touching = [table.index_select(1, place) for place in places]  # each (samples, i, n)
        self._touching_weight = interface_weight * blocks.interface_weight[self._mine]
        self.names = list(parameters)
        expanded = [p if coupled else p.repeat_interleave(num, dim=0) for p in parameters.values()]
        self.tensors = (local, local_base, *touching, *expanded)
        self._first_parameter = 2 + len(touching)

        self._rows, self._conditions = blocks.rows.part(own), blocks.conditions.part(own)
        self._condition_weight = condition_weight * blocks.condition_weight[own]
        self._stitched = StitchedFunctionals(pde, blocks) if self.experts > 1 and pde.of_the_stitched_field else None
        if self._stitched is not None and self._shard.size > 1:
            raise ValueError(f"{type(pde).__name__} needs the stitched field, which no process holds: use one process")
        self.chain = blocks.is_chain and self.experts > 1
        self._distinct = sorted({(min(pair), max(pair)) for pair in self.pairs})

    def _selected(self, rows: BlockRows, which: torch.Tensor) -> BlockRows:
        """Rows of the problems `which`, each of shape (p, blocks held, ...); views where experts are coupled."""
        if self.coupled:

            def pick(value: torch.Tensor) -> torch.Tensor:
                return value.expand(len(which), *value.shape)
        else:
            block = which % self._num

            def pick(value: torch.Tensor) -> torch.Tensor:
                return value.mT[block].mT.unsqueeze(1) if value.ndim == 3 else value[block].unsqueeze(1)

        return BlockRows(pick(rows.index), tuple(pick(d) for d in rows.data), pick(rows.position))

    def _omega(self, y: torch.Tensor) -> torch.Tensor:
        """Weights of the blocks held, shape (p, held, n)."""
        return y.reshape(len(y), self.experts, self.size)[:, self._own]

    def _own_fields(self, y: torch.Tensor, tensors: Tensors, *, base: bool = True) -> torch.Tensor:
        """Functionals of each block's own functions, shape (p, held, q)."""
        fields = (tensors[0] @ self._omega(y).unsqueeze(-1)).squeeze(-1)
        return fields + tensors[1] if base else fields

    def _whole(self, fields: torch.Tensor) -> torch.Tensor:
        return fields if self._stitched is None else self._stitched(fields)

    def _parameters(self, tensors: Tensors) -> dict[str, torch.Tensor]:
        return {
            name: value.reshape(*value.shape, *[1] * (3 - value.ndim)) if value.ndim < 3 else value
            for name, value in zip(self.names, tensors[self._first_parameter :], strict=True)
        }

    @staticmethod
    def _look_up(fields: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Entries by rows, shape (p, held, m, s), in the memory order of the index."""
        flat = index.mT.flatten(2)
        return fields.gather(2, flat).reshape(index.mT.shape).mT

    def _local(self, values: torch.Tensor, data: tuple[torch.Tensor, ...], tensors: Tensors) -> torch.Tensor:
        return self.pde.residual(values, data, self._parameters(tensors))

    def _condition_rows(self, fields: torch.Tensor, tensors: Tensors, which: torch.Tensor) -> torch.Tensor:
        """Weighted residuals of initial and boundary conditions, shape (p, held, l)."""
        rows = self._selected(self._conditions, which)
        reached = (rows.data[0] * self._look_up(fields, rows.index)).sum(dim=-1)
        target = self.pde.targets(rows.data, rows.position, self._parameters(tensors))
        return self._condition_weight_of(which) * (reached - target)

    def _condition_weight_of(self, which: torch.Tensor) -> torch.Tensor:
        if self.coupled:
            return self._condition_weight.expand(len(which), *self._condition_weight.shape)
        return self._condition_weight[which % self._num].unsqueeze(1)

    def _field_costs(self, fields: torch.Tensor, tensors: Tensors, which: torch.Tensor) -> torch.Tensor:
        """1/2 |r|^2 of equations and conditions per block held, shape (p, held)."""
        rows = self._selected(self._rows, which)
        r = self._local(self._look_up(fields, rows.index), rows.data, tensors)
        return 0.5 * (r.square().sum(dim=-1) + self._condition_rows(fields, tensors, which).square().sum(dim=-1))

    def _cost(self, y: torch.Tensor, tensors: Tensors, which: torch.Tensor) -> torch.Tensor:
        y = self._shard.spread(y)
        omega = y.reshape(len(y), self.experts, self.size)
        costs = self._field_costs(self._whole(self._own_fields(y, tensors)), tensors, which)
        costs = costs + 0.5 * self.ridge**2 * self._omega(y).square().sum(dim=-1)
        for k, (c, weight) in enumerate(zip(self._mine, self._touching_weight, strict=True)):
            a, b = self.pairs[c]
            jump = weight * (tensors[2 + k] @ (omega[:, a] - omega[:, b]).unsqueeze(-1)).squeeze(-1)
            slot = torch.nn.functional.one_hot(torch.tensor(a - self._own.start), self.held).to(jump)
            costs = costs + 0.5 * jump.square().sum(dim=-1, keepdim=True) * slot
        return self._shard.join(costs, self._sizes).sum(dim=1)

    def differentiable_cost(self, y: torch.Tensor) -> torch.Tensor:
        """1/2 |r|^2 of all problems at weights that are held, differentiable in `tensors`; shape (problems,)."""
        return self._cost(y.detach(), self.tensors, torch.arange(len(y), device=y.device))
