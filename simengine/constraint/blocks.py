"""Decomposition of a space-time grid into blocks, one expert each, and the rows that couple neighbours."""

import dataclasses
import math
from collections.abc import Sequence

import torch

from simengine.constraint.pde import AbstractPDE, Rows


@dataclasses.dataclass(frozen=True)
class BlockRows:
    """Rows dealt out to blocks, the same number to each, entries renumbered within the block.

    Attributes:
        index: Shape (K, m, s), into the table of the block.
        data: Each of shape (K, m, ...).
        position: Shape (K, m), grid points.
    """

    index: torch.Tensor
    data: tuple[torch.Tensor, ...]
    position: torch.Tensor


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Blocks of a grid, with sampled rows, ready for the layer.

    Attributes:
        owner: Block of every grid point, shape (points,).
        entries: Entries of the global table that each block holds, shape (K, q).
        rows: Sampled equations.
        conditions: Initial and boundary conditions, weight 0 where padded.
        condition_weight: Shape (K, l): 1, or 0 where padded.
        pairs: Neighbouring blocks, shape (c, 2).
        interface: Entries of both blocks of a pair that hold the same grid points, shape (c, 2, i).
        interface_weight: Shape (c, i): 1, or 0 where padded.
    """

    owner: torch.Tensor
    entries: torch.Tensor
    rows: BlockRows
    conditions: BlockRows
    condition_weight: torch.Tensor
    pairs: torch.Tensor
    interface: torch.Tensor
    interface_weight: torch.Tensor

    @property
    def num_blocks(self) -> int:
        """K."""
        return len(self.entries)

    @property
    def is_chain(self) -> bool:
        """Whether only consecutive blocks are neighbours, so that the normal matrix is block tridiagonal."""
        return bool((self.pairs[:, 1] - self.pairs[:, 0] == 1).all())


def uniform_cuts(size: int, count: int) -> list[int]:
    """Boundaries of `count` intervals as equal as can be: 0 = c_0 < ... < c_count = size."""
    if not 1 <= count <= size:
        raise ValueError(f"counts: expected 1 to {size} blocks along an axis of {size} points, got {count}")
    return [round(size * k / count) for k in range(count + 1)]


def decompose(
    pde: AbstractPDE,
    cuts: Sequence[Sequence[int]],
    *,
    rows_per_block: int,
    generator: torch.Generator,
    reach: int = 2,
    periodic: Sequence[bool] | None = None,
) -> Blocks:
    """Deal the rows of a PDE out to the blocks that `cuts` make.

    Args:
        pde: The equation.
        cuts: Per axis of the grid the boundaries of the intervals, from 0 to the size of the axis.
        rows_per_block: Rows sampled in every block without replacement; fewer where the smallest block has fewer.
        generator: Of the sample.
        reach: Cells on each side of an interface at which neighbours shall agree (two give value and flux).
        periodic: Per axis, whether its last block is a neighbour of its first.

    Raises:
        ValueError: The cuts do not cover the grid.
    """
    shape = pde.shape
    if len(cuts) != len(shape) or any(c[0] != 0 or c[-1] != n for c, n in zip(cuts, shape, strict=True)):
        raise ValueError(f"cuts: expected boundaries from 0 to the size of each axis of {shape}, got {list(cuts)}")
    counts = [len(c) - 1 for c in cuts]
    axis_owner = [
        torch.bucketize(torch.arange(n), torch.tensor(c[1:]), right=True) for c, n in zip(cuts, shape, strict=True)
    ]
    owner = torch.zeros(shape, dtype=torch.long)
    for axis, (count, own) in enumerate(zip(counts, axis_owner, strict=True)):
        owner = owner * count + own.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    owner = owner.flatten()
    num = math.prod(counts)

    everything = pde.rows()
    block_of_row = owner[everything.position]
    per_block = [(block_of_row == k).nonzero().flatten() for k in range(num)]
    m = min(rows_per_block, *(len(rows) for rows in per_block))
    chosen = torch.stack([rows[torch.randperm(len(rows), generator=generator)[:m]].sort().values for rows in per_block])

    conditions = pde.conditions()
    block_of_condition = owner[conditions.position]
    dealt = [(block_of_condition == k).nonzero().flatten() for k in range(num)]
    chosen_conditions, condition_weight = _pad(dealt)

    pairs, points = _interfaces(shape, cuts, counts, owner, reach, periodic or [False] * len(shape))
    touching, interface_weight = _pad(points)

    # entries of the global table that a block looks at
    lists = []
    for k in range(num):
        parts = [everything.index[chosen[k]].flatten(), (owner == k).nonzero().flatten()]
        if len(conditions.index):
            parts.append(conditions.index[dealt[k]].flatten())
        parts += [touching[c] for c in range(len(pairs)) if k in pairs[c]]
        lists.append(torch.unique(torch.cat(parts)))
    entries, _ = _pad(lists)

    def local(k: int, index: torch.Tensor) -> torch.Tensor:
        return torch.searchsorted(lists[k], index).clamp_max(len(lists[k]) - 1)

    def deal(rows: Rows, chosen: torch.Tensor) -> BlockRows:
        index = torch.stack([local(k, rows.index[chosen[k]]) for k in range(num)])
        return BlockRows(index, tuple(d[chosen] for d in rows.data), rows.position[chosen])

    interface = [torch.stack([local(int(k), touching[c]) for k in pair]) for c, pair in enumerate(pairs)]
    return Blocks(
        owner=owner,
        entries=entries,
        rows=deal(everything, chosen),
        conditions=deal(conditions, chosen_conditions),
        condition_weight=condition_weight,
        pairs=torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
        interface=torch.stack(interface) if interface else torch.zeros(0, 2, 0, dtype=torch.long),
        interface_weight=interface_weight,
    )


def _pad(lists: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Index lists of different length in one array, padded with their last entry (0 if empty), and their weights."""
    longest = max((len(entry) for entry in lists), default=0)
    index = torch.zeros(len(lists), longest, dtype=torch.long)
    weight = torch.zeros(len(lists), longest, dtype=torch.float64)
    for k, entry in enumerate(lists):
        index[k, : len(entry)] = entry
        if len(entry):
            index[k, len(entry) :] = entry[-1]
        weight[k, : len(entry)] = 1.0
    return index, weight


def _interfaces(
    shape: Sequence[int],
    cuts: Sequence[Sequence[int]],
    counts: Sequence[int],
    owner: torch.Tensor,
    reach: int,
    periodic: Sequence[bool],
) -> tuple[list[tuple[int, int]], list[torch.Tensor]]:
    """Pairs of neighbouring blocks and the grid points within `reach` cells of the face they share."""
    grid = torch.arange(math.prod(shape)).reshape(tuple(shape))
    blocks = torch.arange(math.prod(counts)).reshape(tuple(counts))
    pairs: list[tuple[int, int]] = []
    points: list[torch.Tensor] = []
    for axis, (boundaries, count) in enumerate(zip(cuts, counts, strict=True)):
        size = shape[axis]
        faces = list(range(1, count)) + ([0] if periodic[axis] and count > 1 else [])
        for face in faces:
            layer = (boundaries[face] + torch.arange(-reach, reach)) % size
            low, high = blocks.select(axis, face - 1).flatten(), blocks.select(axis, face % count).flatten()
            for a, b in zip(low.tolist(), high.tolist(), strict=True):
                # the part of the layer beside these two blocks: their extent along the other axes
                near = grid.index_select(axis, layer)
                other = torch.isin(owner.reshape(tuple(shape)).index_select(axis, layer), torch.tensor([a, b]))
                pairs.append((a, b))
                points.append(near[other])
    return pairs, points
