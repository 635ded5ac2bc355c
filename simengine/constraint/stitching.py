"""Functionals that no block can compute alone: those of the field stitched together from all of them."""

import torch

from simengine.constraint.blocks import Blocks
from simengine.constraint.pde import AbstractPDE


class StitchedFunctionals:
    """Replaces, in what blocks know, the functionals that belong to the stitched field, such as a velocity.

    Args:
        pde: Its `of_the_stitched_field` names the functionals.
        blocks: The decomposition.
    """

    def __init__(self, pde: AbstractPDE, blocks: Blocks) -> None:
        self._pde, self._entries = pde, blocks.entries
        points = blocks.owner.numel()
        own = [torch.searchsorted(entries, torch.arange(points)) for entries in blocks.entries]
        local = torch.stack(own).gather(0, blocks.owner[None])[0]
        self._home = blocks.owner * blocks.entries.shape[1] + local  # of every grid point, among all blocks' entries
        wanted = torch.tensor(pde.of_the_stitched_field)
        self._replace = torch.isin(torch.div(blocks.entries, points, rounding_mode="floor"), wanted)

    def __call__(self, fields: torch.Tensor) -> torch.Tensor:
        """Fields of each block's own functions, shape (p, K, q), with the replaced functionals; differentiable."""
        stitched = fields.flatten(1)[:, self._home].reshape(len(fields), *self._pde.shape, 1)
        table = self._pde.table(stitched).squeeze(-1)
        return torch.where(self._replace, table[:, self._entries], fields)
