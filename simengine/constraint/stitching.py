"""Functionals that no block can compute alone: those of the field stitched together from all of them."""

import itertools

import torch

from simengine.constraint.blocks import Blocks
from simengine.constraint.pde import AbstractPDE
from simengine.constraint.shard import Shard


class StitchedFunctionals:
    """Replaces, in what blocks know, the functionals that belong to the stitched field, such as a velocity.

    Args:
        pde: Its `of_the_stitched_field` names the functionals.
        blocks: The decomposition.
        shard: The part of this process; the others' parts of the field come from them.
    """

    def __init__(self, pde: AbstractPDE, blocks: Blocks, shard: Shard) -> None:
        points, own = blocks.owner.numel(), shard.own(blocks.num_blocks)
        self._pde, self._shard, self._entries = pde, shard, blocks.entries[own]
        homes, self._lengths = [], []
        order = blocks.owner.argsort(stable=True)  # grid points block by block
        for k, mine in enumerate(order.split(blocks.owner.bincount(minlength=blocks.num_blocks).tolist())):
            self._lengths.append(len(mine))
            if own.start <= k < own.stop:
                local = torch.searchsorted(blocks.entries[k], mine)
                homes.append((k - own.start) * blocks.entries.shape[1] + local)
        self._home, self._place = torch.cat(homes), order.argsort()
        wanted = torch.tensor(pde.of_the_stitched_field, device=blocks.entries.device)
        self._replace = torch.isin(torch.div(self._entries, points, rounding_mode="floor"), wanted)

    def __call__(self, fields: torch.Tensor) -> torch.Tensor:
        """Fields of each block's own functions, shape (p, held, q), with the replaced functionals; differentiable."""
        mine = fields.flatten(1).index_select(1, self._home)
        bounds = self._shard.bounds(len(self._lengths))
        sizes = [sum(self._lengths[a:b]) for a, b in itertools.pairwise(bounds)]
        everywhere = self._shard.spread(self._shard.join(mine, sizes)).index_select(1, self._place)
        table = self._pde.table(everywhere.reshape(len(fields), *self._pde.shape, 1)).squeeze(-1)
        seen = table.gather(1, self._entries.flatten().expand(len(table), -1)).reshape(fields.shape)
        return torch.where(self._replace, seen, fields)

    def transposed(self, by_fields: torch.Tensor) -> torch.Tensor:
        """The transpose of this linear map, without a gradient."""
        with torch.enable_grad():
            fields = torch.zeros_like(by_fields).requires_grad_()
            return torch.autograd.grad(self(fields), fields, by_fields)[0]
