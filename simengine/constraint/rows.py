"""The rows of the layer's least-squares problems and their residuals: equations, conditions, interfaces, a ridge."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import torch

from simengine.constraint.blocks import BlockRows, Blocks
from simengine.constraint.pde import AbstractPDE
from simengine.constraint.shard import Shard
from simengine.constraint.stitching import StitchedFunctionals
from simengine.ops.fields.table_product import table_product

Tensors = Sequence[torch.Tensor]
_PIECE = 2**15  # rows evaluated at a time: their numbers stay in the cache, and few at a time in memory


@dataclasses.dataclass(frozen=True)
class RowWeights:
    """What rows of a least-squares problem weigh beside those of the equation.

    Attributes:
        condition: Initial and boundary rows.
        interface: Rows that make neighbours agree.
        ridge: omega itself, which keeps the problem solvable where basis functions coincide.
    """

    condition: float = 1.0
    interface: float = 10.0
    ridge: float = 1e-8


class ExpertRows:
    """Residuals of K experts per problem as differentiable functions of their weights and of `tensors`.

    Args: see `ExpertSystem`.

    Attributes:
        tensors: Table, base, constants of the equation, each with a first dimension over samples.
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
        weights: RowWeights = RowWeights(),
        shard: Shard | None = None,
    ) -> None:
        shard, blocks, table = shard or Shard(), blocks.to(table.device), table.contiguous()
        own = shard.own(blocks.num_blocks)
        num = own.stop - own.start
        self.pde: AbstractPDE = pde
        self.ridge: float = weights.ridge
        self.size: int = table.shape[2]
        self.coupled: bool = coupled
        self.experts: int = blocks.num_blocks if coupled else 1
        self.held: int = num if coupled else 1
        self.problems: int = len(table) if coupled else len(table) * num
        self._own, self._num = own if coupled else slice(0, 1), num
        self._shard = shard if coupled else Shard()
        self._sizes = shard.sizes(self.experts)
        base = table.new_zeros(len(table), 1).expand(table.shape[:2]) if base is None else base
        self.names: list[str] = list(parameters)
        self.tensors: tuple[torch.Tensor, ...] = (table, base, *parameters.values())

        self._entries = blocks.entries[own]
        self._rows, self._conditions = blocks.rows.part(own), blocks.conditions.part(own)
        assert self._conditions.weight is not None
        self._condition_weight = weights.condition * self._conditions.weight
        # interface rows say that neighbours agree at grid points: u_a - u_b = b . (omega_a - omega_b)
        self.pairs: list[tuple[int, int]] = blocks.pairs.tolist() if coupled else []
        self._mine = [c for c, (a, _) in enumerate(self.pairs) if own.start <= a < own.stop]
        self._touching = [blocks.entries[self.pairs[c][0]][blocks.interface[c, 0]] for c in self._mine]
        self._touching_weight = weights.interface * blocks.interface_weight[self._mine]
        needs_field = self.experts > 1 and len(pde.of_the_stitched_field) > 0
        self._stitched = StitchedFunctionals(pde, blocks, self._shard) if needs_field else None
        self.chain: bool = blocks.is_chain and self.experts > 1

    # -- what belongs to which problem ---------------------------------------------------------------------------------

    def _sample(self, which: torch.Tensor) -> torch.Tensor:
        return which if self.coupled else torch.div(which, self._num, rounding_mode="floor")

    def _blocks(self, value: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """What blocks have, (K, ...), of the problems `which`, (p, blocks held, ...); a view if all have the same."""
        if self.coupled or self._num == 1:
            return value.expand(len(which), *value.shape)
        block = which % self._num
        return (value.mT[block].mT if value.ndim == 3 else value[block]).unsqueeze(1)

    def _selected(self, rows: BlockRows, which: torch.Tensor) -> BlockRows:
        """Rows of the problems `which`, each of shape (p, blocks held, ...)."""
        pick = [self._blocks(value, which) for value in (rows.index, rows.position, *rows.data)]
        weight = None if rows.weight is None else self._blocks(rows.weight, which)
        return BlockRows(pick[0], tuple(pick[2:]), pick[1], weight)

    def _groups(self, which: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Problems that hold the same blocks: their numbers within `which`, their samples, the blocks' entries."""
        if self.coupled:
            yield torch.arange(len(which), device=which.device), which, self._entries
            return
        for k in range(self._num):
            mine = (which % self._num == k).nonzero().flatten()
            if len(mine):
                yield mine, self._sample(which[mine]), self._entries[k : k + 1]

    def _omega(self, y: torch.Tensor) -> torch.Tensor:
        """Weights of the blocks held, shape (p, held, n)."""
        return y.reshape(len(y), self.experts, self.size)[:, self._own]

    def _parameters(self, tensors: Tensors, which: torch.Tensor) -> dict[str, torch.Tensor]:
        sample = self._sample(which)
        return {
            name: value[sample].reshape(len(which), *value.shape[1:], *[1] * (3 - value.ndim))
            for name, value in zip(self.names, tensors[2:], strict=True)
        }

    # -- residuals, differentiable -------------------------------------------------------------------------------------

    def _base_fields(self, tensors: Tensors, which: torch.Tensor) -> torch.Tensor:
        """Functionals of the base where the blocks look, shape (p, held, q)."""
        entries = self._blocks(self._entries, which)
        return tensors[1][self._sample(which)].gather(1, entries.flatten(1)).reshape(entries.shape)

    def _own_fields(self, y: torch.Tensor, tensors: Tensors, which: torch.Tensor, *, base: bool = True) -> torch.Tensor:
        """Functionals of each block's own functions, shape (p, held, q)."""
        omega, parts, places = self._omega(y), [], []
        for place, sample, entries in self._groups(which):
            parts.append(table_product(tensors[0], entries, omega if self.coupled else omega[place], sample))
            places.append(place)
        fields = parts[0] if len(parts) == 1 else torch.cat(parts)[torch.cat(places).argsort()]
        return fields + self._base_fields(tensors, which) if base else fields

    def _whole(self, fields: torch.Tensor) -> torch.Tensor:
        return fields if self._stitched is None else self._stitched(fields)

    @staticmethod
    def _look_up(fields: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Entries by rows, shape (p, held, m, s), in the memory order of the index."""
        return fields.gather(2, index.mT.flatten(2)).reshape(index.mT.shape).mT

    def _condition_rows(self, fields: torch.Tensor, tensors: Tensors, which: torch.Tensor) -> torch.Tensor:
        """Weighted residuals of initial and boundary conditions, shape (p, held, l)."""
        rows = self._selected(self._conditions, which)
        reached = (rows.data[0] * self._look_up(fields, rows.index)).sum(dim=-1)
        target = self.pde.targets(rows.data, rows.position, self._parameters(tensors, which))
        return self._blocks(self._condition_weight, which) * (reached - target)

    def _field_costs(self, fields: torch.Tensor, tensors: Tensors, which: torch.Tensor) -> torch.Tensor:
        """1/2 |r|^2 of equations and conditions per block held, shape (p, held)."""
        rows = self._selected(self._rows, which)
        r = self.pde.residual(self._look_up(fields, rows.index), rows.data, self._parameters(tensors, which))
        r = r if rows.weight is None else rows.weight * r
        return 0.5 * (r.square().sum(dim=-1) + self._condition_rows(fields, tensors, which).square().sum(dim=-1))

    def _cost(self, y: torch.Tensor, tensors: Tensors, which: torch.Tensor) -> torch.Tensor:
        y = self._shard.spread(y)
        omega = y.reshape(len(y), self.experts, self.size)
        costs = self._field_costs(self._whole(self._own_fields(y, tensors, which)), tensors, which)
        costs = costs + 0.5 * self.ridge**2 * self._omega(y).square().sum(dim=-1)
        for c, place, weight in zip(self._mine, self._touching, self._touching_weight, strict=True):
            a, b = self.pairs[c]
            rows = tensors[0][self._sample(which)].index_select(1, place)
            jump = weight * (rows @ (omega[:, a] - omega[:, b]).unsqueeze(-1)).squeeze(-1)
            slot = torch.nn.functional.one_hot(torch.tensor(a - self._own.start), self.held).to(jump)
            costs = costs + 0.5 * jump.square().sum(dim=-1, keepdim=True) * slot
        return self._shard.join(costs, self._sizes).sum(dim=1)

    def differentiable_cost(self, y: torch.Tensor) -> torch.Tensor:
        """1/2 |r|^2 of all problems at weights that are held, differentiable in `tensors`; shape (problems,)."""
        return self._cost(y.detach(), self.tensors, torch.arange(len(y), device=y.device))

    def _evaluated(
        self, values: torch.Tensor | None, fields: torch.Tensor | None, tensors: Tensors, which: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weighted residuals (p, held, m) and their derivatives by what rows see (p, held, m, s), a few rows at a time.

        What rows see is looked up in the fields, or given as `values` that broadcast to it.
        """
        rows, parameters = self._selected(self._rows, which), self._parameters(tensors, which)
        p, held, m, s = rows.index.shape
        first = tensors[0]
        r, by_values = first.new_empty(p, held, m), first.new_empty(p, held, s, m).mT
        problems = max(_PIECE // max(held * m, 1), 1)
        blocks = held if held * m <= _PIECE else max(_PIECE // m, 1)
        count = -(-m // _PIECE)
        bounds = [m * k // count for k in range(count + 1)]
        for i in range(0, p, problems):
            mine = {name: value[i : i + problems] for name, value in parameters.items()}
            for k in range(0, held, blocks):
                for start, stop in itertools.pairwise(bounds):
                    part = slice(i, i + problems), slice(k, k + blocks), slice(start, stop)
                    if fields is not None:
                        seen = self._look_up(fields[part[:2]], rows.index[part])
                    else:
                        assert values is not None
                        seen = values.expand(rows.index.shape)[part]
                    r[part], by_values[part] = self.pde.linearised(seen, tuple(d[part] for d in rows.data), mine)
                    if rows.weight is not None:
                        r[part] *= rows.weight[part]
                        by_values[part] *= rows.weight[part].unsqueeze(-1)
        return r, by_values
