"""Decomposition of a space-time grid into blocks, one expert each, and the rows that couple neighbours."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from simengine.constraint.pde import AbstractPDE, Rows


@dataclasses.dataclass(frozen=True)
class BlockRows:
    """Rows dealt out to blocks, entries renumbered within the block; m is the number in the block that has most.

    Attributes:
        index: Shape (K, m, s), into the table of the block; in memory the entries of all rows stand together.
        data: Each of shape (K, m, ...).
        position: Shape (K, m), grid points.
        weight: Of every row, shape (K, m), 0 where padded; None where all are 1.
    """

    index: torch.Tensor
    data: tuple[torch.Tensor, ...]
    position: torch.Tensor
    weight: torch.Tensor | None = None

    def part(self, own: slice) -> "BlockRows":
        """The rows of some of the blocks."""
        return self._each(lambda value: value[own])

    def to(self, device: torch.device) -> "BlockRows":
        """The same on a device."""
        return self._each(lambda value: value.to(device))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "BlockRows":
        weight = None if self.weight is None else change(self.weight)
        return BlockRows(change(self.index), tuple(change(d) for d in self.data), change(self.position), weight)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Blocks of a grid, with sampled rows, ready for the layer.

    Attributes:
        owner: Block of every grid point, where none overlap; else the one with the largest window; shape (points,).
        points: Per block the grid points at which the field takes from it.
        windows: Their weights; over all blocks they sum to 1 at every point.
        entries: Entries of the global table that each block holds, shape (K, q).
        rows: Sampled equations.
        conditions: Initial and boundary conditions.
        pairs: Neighbouring blocks, shape (c, 2).
        interface: Entries of both blocks of a pair that hold the same grid points, shape (c, 2, i).
        interface_weight: Shape (c, i): 1, or 0 where padded.
    """

    owner: torch.Tensor
    points: tuple[torch.Tensor, ...]
    windows: tuple[torch.Tensor, ...]
    entries: torch.Tensor
    rows: BlockRows
    conditions: BlockRows
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
        return bool(((self.pairs[:, 1] - self.pairs[:, 0]).abs() == 1).all())

    def to(self, device: torch.device) -> "Blocks":
        """The same on a device; itself where it is there already."""
        if self.owner.device == device:
            return self
        lists = ("points", "windows")
        moved: dict[str, Any] = {name: tuple(t.to(device) for t in getattr(self, name)) for name in lists}
        for field in dataclasses.fields(self):
            if field.name not in lists:
                moved[field.name] = getattr(self, field.name).to(device)
        return Blocks(**moved)


@dataclasses.dataclass(frozen=True)
class Decomposition:
    """How a grid is dealt out to experts, one a block.

    Attributes:
        counts: Blocks along each axis of the grid (time first); one block if None and `cuts` too; or
        cuts: their boundaries along each axis, from 0 to its size, where they are not uniform.
        coupled: Solve the experts together, with rows that make neighbours agree (in value and flux) at their
            interfaces; False solves each on its own, as in Chalapathi et al., ICLR 2024.
        periodic: Per axis, whether its ends are neighbours.
        overlap: Cells by which blocks reach beyond each cut.
        blend: Where blocks overlap, pass from one to the next along windows that sum to 1 (a partition of unity);
            False takes every point from the block between whose cuts it lies.
        rows_per_block: Equations sampled in each block.
        seed: Of this sample.
    """

    counts: Sequence[int] | None = None
    cuts: Sequence[Sequence[int]] | None = None
    coupled: bool = True
    periodic: Sequence[bool] | None = None
    overlap: int = 0
    blend: bool = True
    rows_per_block: int = 20_000
    seed: int = 0

    def boundaries(self, shape: Sequence[int]) -> Sequence[Sequence[int]]:
        """Of the blocks along each axis of a grid.

        Raises:
            ValueError: `counts` does not fit the grid.
        """
        if self.cuts is not None:
            return self.cuts
        counts = [1] * len(shape) if self.counts is None else self.counts
        if len(counts) != len(shape):
            raise ValueError(f"counts: expected one number per axis of the grid {tuple(shape)}, got {list(counts)}")
        return [uniform_cuts(size, count) for size, count in zip(shape, counts, strict=True)]


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
    overlap: int = 0,
    blend: bool = True,
) -> Blocks:
    """Deal the rows of a PDE out to the blocks that `cuts` make.

    Args:
        pde: The equation.
        cuts: Per axis of the grid the boundaries of the intervals, from 0 to the size of the axis.
        rows_per_block: Rows sampled in every block without replacement; all of them where a block has fewer. Rows of a
            group are sampled together. Rows have weights, so that each stands for as many of the grid's as any other:
            blocks of which all rows, or the same share, are taken have weight 1.
        generator: Of the sample.
        reach: Cells on each side of an interface at which neighbours shall agree (two give value and flux).
        periodic: Per axis, whether its last block is a neighbour of its first.
        overlap: Cells by which blocks, and the rows sampled in them, reach beyond each cut.
        blend: Where blocks overlap, go from one to the next along smooth windows that sum to 1 (a partition of unity);
            False takes each point from the block between whose cuts it lies.

    Raises:
        ValueError: The cuts do not cover the grid, a block holds no row, or the overlap is more than half a block.
    """
    shape = pde.shape
    if len(cuts) != len(shape) or any(c[0] != 0 or c[-1] != n for c, n in zip(cuts, shape, strict=True)):
        raise ValueError(f"cuts: expected boundaries from 0 to the size of each axis of {shape}, got {list(cuts)}")
    counts, around = [len(c) - 1 for c in cuts], list(periodic or [False] * len(shape))
    num = math.prod(counts)
    widths = [b - a for c in cuts if len(c) > 2 for a, b in itertools.pairwise(c)]
    widest = min(widths, default=2 * max(overlap, 0)) // 2
    if not 0 <= overlap <= widest:
        raise ValueError(f"overlap: expected 0 to {widest} cells, half the narrowest block, got {overlap}")
    along = [_windows(c, overlap, wraps) for c, wraps in zip(cuts, around, strict=True)]
    windows = functools.reduce(_outer, along).reshape(num, -1)  # (K, points)
    sharp = functools.reduce(_outer, [_windows(c, 0, False) for c in cuts]).reshape(num, -1)
    owner = sharp.argmax(dim=0)
    reached = windows > 0
    if not blend:
        windows = sharp

    everything = pde.rows()
    per_block = [reached[k, everything.position].nonzero().flatten() for k in range(num)]
    for k, rows in enumerate(per_block):
        if len(rows) == 0:
            raise ValueError(f"cuts: no equation lies in {_extent(k, cuts, counts)}; move or leave out a cut beside it")
    sampled = [_sampled(rows, everything.group, rows_per_block, generator) for rows in per_block]
    chosen, row_weight = _pad(sampled)
    share = sum(len(rows) for rows in per_block) / sum(len(rows) for rows in sampled)
    for k in range(num):
        row_weight[k] *= math.sqrt(len(per_block[k]) / len(sampled[k]) / share)

    conditions = pde.conditions()
    dealt = [reached[k, conditions.position].nonzero().flatten() for k in range(num)]
    chosen_conditions, condition_weight = _pad(dealt)

    pairs, points = _interfaces(shape, cuts, counts, owner, reach, around)
    touching, interface_weight = _pad(points)

    # entries of the global table that a block looks at
    lists = []
    for k in range(num):
        parts = [everything.index[chosen[k]].flatten()]
        if pde.of_the_stitched_field:
            parts.append(reached[k].nonzero().flatten())  # a block's part of the stitched field
        if len(conditions.index):
            parts.append(conditions.index[dealt[k]].flatten())
        parts += [touching[c] for c in range(len(pairs)) if k in pairs[c]]
        lists.append(torch.unique(torch.cat(parts)))
    entries, _ = _pad(lists)

    def local(k: int, index: torch.Tensor) -> torch.Tensor:
        return torch.searchsorted(lists[k], index).clamp_max(len(lists[k]) - 1)

    def deal(rows: Rows, chosen: torch.Tensor, weight: torch.Tensor | None) -> BlockRows:
        index = torch.stack([local(k, rows.index[chosen[k]]) for k in range(num)])
        data = [d[chosen] for d in rows.data]
        # in memory one entry of all rows after the other, as residuals read them
        columns = [t.mT.contiguous().mT if t.ndim == 3 else t for t in (index, *data)]
        return BlockRows(columns[0], tuple(columns[1:]), rows.position[chosen], weight)

    interface = [torch.stack([local(int(k), touching[c]) for k in pair]) for c, pair in enumerate(pairs)]
    return Blocks(
        owner=owner,
        points=tuple((window > 0).nonzero().flatten() for window in windows),
        windows=tuple(window[window > 0] for window in windows),
        entries=entries,
        rows=deal(everything, chosen, None if bool((row_weight == 1).all()) else row_weight),
        conditions=deal(conditions, chosen_conditions, condition_weight),
        pairs=torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
        interface=torch.stack(interface) if interface else torch.zeros(0, 2, 0, dtype=torch.long),
        interface_weight=interface_weight,
    )


def _extent(k: int, cuts: Sequence[Sequence[int]], counts: Sequence[int]) -> str:
    """Block k in words: the intervals between its cuts, per axis of the grid."""
    place: list[str] = []
    for boundaries, count in zip(reversed(cuts), reversed(counts), strict=True):
        k, j = divmod(k, count)
        place.insert(0, f"{boundaries[j]} to {boundaries[j + 1]}")
    return f"the block of points ({', '.join(place)})"


def _windows(boundaries: Sequence[int], overlap: int, wraps: bool) -> torch.Tensor:
    """Weights of the intervals of an axis at its points, shape (count, size), columns sum to 1.

    Within `overlap` cells of a cut the weight passes over by a cubic with horizontal ends, elsewhere it is 0 or 1.
    """
    count, size = len(boundaries) - 1, boundaries[-1]
    place = torch.arange(size, dtype=torch.float64) + 0.5

    def step(cut: int) -> torch.Tensor:
        distance = place - cut
        if wraps:
            distance = (distance + size / 2).remainder(size) - size / 2
        s = (0.5 + distance / (2 * overlap)).clamp(0, 1) if overlap else (distance > 0).double()
        return s * s * (3 - 2 * s)

    weights = torch.zeros(count, size, dtype=torch.float64)
    for k, (low, high) in enumerate(itertools.pairwise(boundaries)):
        weights[k, low:high] = 1.0
    for k, cut in enumerate(boundaries[:-1]):
        if overlap == 0 or count == 1 or (k == 0 and not wraps):
            continue
        near = torch.arange(cut - overlap, cut + overlap) % size
        rising = step(cut)[near]
        weights[k, near] = rising
        weights[k - 1, near] = 1 - rising
    return weights / weights.sum(dim=0)


def _outer(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Windows of a grid from those of its axes: (K, points) and (count, size) -> (K count, points size)."""
    return torch.einsum("ki,cj->kcij", a, b).reshape(len(a) * len(b), -1)


def _sampled(rows: torch.Tensor, group: torch.Tensor | None, count: int, generator: torch.Generator) -> torch.Tensor:
    """So many of these rows at random, without replacement; whole groups, but for the last, one after the other."""
    if group is None:
        return rows[torch.randperm(len(rows), generator=generator)[:count]].sort().values
    groups, number = group[rows].unique(return_inverse=True)
    turn = torch.randperm(len(groups), generator=generator)[number]
    return rows[turn.argsort(stable=True)[:count]]


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
