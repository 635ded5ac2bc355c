"""Chains of cubes for mental rotation: all there are of a length, which are one body turned or mirrored, their solids.

Two chains are the same *body* if a rotation takes one to the other, and belong to the same *group* if a rotation or a
reflection does. A chain that no rotation takes to its mirror image is chiral.
"""

import dataclasses
import functools
import itertools

import torch

from simengine.worlds.learned.solids import Solids

LONGEST = 8  # cubes; each more makes about four times as many chains
LENGTH = 1.8  # of a straight chain [m]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chains:
    """m chains of cubes on a lattice, each as it lies.

    Attributes:
        cells: Cells of the cubes, at least 0, shape (m, length, 3), int64.
        group: Number of its group, shape (m,).
        chiral: Shape (m,), bool.
    """

    cells: torch.Tensor
    group: torch.Tensor
    chiral: torch.Tensor

    def part(self, *, held_out: bool) -> "Chains":
        """A quarter of the groups, whole ones, or the rest: what is asked about, and what may be learned from."""
        order = torch.randperm(int(self.group.max()) + 1, generator=torch.Generator().manual_seed(0))
        kept = (order[self.group] % 4 == 0) == held_out
        return Chains(cells=self.cells[kept], group=self.group[kept], chiral=self.chiral[kept])

    def draw(self, count: int, *, chiral: bool = False) -> torch.Tensor:
        """Indices of random chains from torch's global generator, shape (count,)."""
        among = self.chiral.nonzero()[:, 0] if chiral else torch.arange(len(self.cells))
        return among[torch.randint(len(among), (count,))]


@functools.cache
def all_chains(length: int) -> Chains:
    """Every chain of so many cubes that touches itself in a row only, in every orientation on the lattice.

    Raises:
        ValueError: The length is not from 4 (shorter ones are their own mirror images) to 8.
    """
    if not 4 <= length <= LONGEST:
        raise ValueError(f"length: expected 4 to {LONGEST} cubes, got {length}")
    steps = torch.cat([torch.eye(3, dtype=torch.long), -torch.eye(3, dtype=torch.long)])
    cells = torch.zeros(1, 1, 3, dtype=torch.long)
    for _ in range(length - 1):
        last = (cells[:, -1:] + steps).flatten(0, 1)
        cells = torch.cat([cells.repeat_interleave(6, dim=0), last[:, None]], dim=1)
        apart = (cells[:, :-2] - last[:, None]).abs().sum(-1)
        cells = cells[(apart >= 2).all(1)]
    cells = _moved(cells)
    _, first = torch.unique(_keys(cells), return_inverse=True)  # a chain walked from its other end is the same
    cells = cells[torch.zeros_like(first).scatter(0, first, torch.arange(len(cells)))[: int(first.max()) + 1]]
    turned = torch.stack([_keys(_moved(cells @ turn)) for turn in _turns()])
    mirrored = torch.stack([_keys(_moved(mirror_images(cells) @ turn)) for turn in _turns()])
    body, image = turned.amin(0), mirrored.amin(0)
    group = torch.unique(torch.minimum(body, image), return_inverse=True)[1]
    return Chains(cells=cells, group=group, chiral=body != image)


def mirror_images(cells: torch.Tensor) -> torch.Tensor:
    """Chains (b, length, 3) seen in a mirror across x."""
    return _moved(cells * torch.tensor([-1, 1, 1]))


def quarter_turns(cells: torch.Tensor) -> torch.Tensor:
    """Chains (b, length, 3) turned by 90 degrees about the vertical y."""
    return _moved(cells[..., [2, 1, 0]] * torch.tensor([1, 1, -1]))


def chain_solids(cells: torch.Tensor) -> Solids:
    """Chains of cubes that stand on the floor y = 0 about the vertical axis; the cells' shape is (b, length, 3)."""
    edge = LENGTH / cells.shape[1]
    low, high = cells.amin(1, keepdim=True), cells.amax(1, keepdim=True) + 1
    centres = edge * (cells + 0.5 - (low + high) / 2)
    centres[..., 1] += edge * (high - low)[..., 1] / 2
    shape = cells.shape[:2]
    return Solids(
        centres=centres,
        axes=torch.eye(3).expand(*shape, 3, 3),
        half=torch.full((*shape, 3), edge / 2),
        ball=torch.zeros(shape, dtype=torch.bool),
        floor=0.0,
    )


def _moved(cells: torch.Tensor) -> torch.Tensor:
    """With the least coordinates at 0."""
    return cells - cells.amin(1, keepdim=True)


def _turns() -> list[torch.Tensor]:
    """The 24 rotations of the lattice."""
    signed = (
        torch.diag(torch.tensor(signs))[list(order)]
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)
    )
    return [matrix for matrix in signed if float(torch.linalg.det(matrix.double())) > 0]


def _keys(cells: torch.Tensor) -> torch.Tensor:
    """A number for each set of cells, whatever their order: a sum of random ones, one for each place; shape (b,)."""
    size = LONGEST
    table = torch.randint(-(2**62), 2**62, (size**3,), generator=torch.Generator().manual_seed(0))
    return table[(cells @ torch.tensor([size * size, size, 1])).flatten()].view(cells.shape[:2]).sum(1)
