"""How deformable bodies touch one another."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from simengine.kernels.matter import contact, pair_contact
from simengine.mpm.boundaries import keep

ContactKind = Literal["frictional", "sticky", "none"]
MODES = {"none": pair_contact.NONE, "sticky": pair_contact.STICKY, "frictional": pair_contact.FRICTIONAL}


class Contact(nn.Module):
    """Contact between bodies, each of which has a velocity field of its own where they meet.

    Bodies separate freely, slide against one another by Coulomb's law, and come as near as their particles reach
    (`simengine.kernels.matter.pair_contact`); momentum is kept. Without it all bodies share one velocity field: what
    comes within a cell of another sticks to it.

    Args:
        bodies: Particles of each body; those of a body stand together in the state, in this order.
        kind: `frictional`, `sticky` (they move as one where they meet) or `none` (they pass through each other), for
            all pairs, or by pair, {(0, 1): "sticky"}, the others frictional. `none` for all makes of each body a
            motion by itself, on a copy of the grid with its walls and rigid bodies: many small rollouts in one.
        friction: Coulomb coefficient [1] of frictional pairs: a number, or a tensor or parameter, 0-d or (pairs,) in
            the order (0, 1), (0, 2), ..., (1, 2), ...

    Raises:
        ValueError: There are fewer than two bodies, or a kind, a pair or a coefficient is out of range.
    """

    friction: torch.Tensor

    def __init__(
        self,
        bodies: Sequence[int],
        kind: ContactKind | Mapping[tuple[int, int], ContactKind] = "frictional",
        *,
        friction: float | torch.Tensor = 0.0,
    ) -> None:
        super().__init__()
        self.bodies: tuple[int, ...] = tuple(int(count) for count in bodies)
        if len(self.bodies) < 2 or min(self.bodies) < 1:
            raise ValueError(f"bodies: contact needs two bodies of one particle at least, got {list(bodies)}")
        pairs = list(itertools.combinations(range(len(self.bodies)), 2))
        kinds = dict.fromkeys(pairs, kind) if isinstance(kind, str) else {**dict.fromkeys(pairs, "frictional"), **kind}
        for pair, value in kinds.items():
            if pair not in pairs or value not in MODES:
                raise ValueError(f"kind: expected pairs {pairs} and kinds {tuple(MODES)}, got {pair!r}: {value!r}")
        touching = pairs if set(kinds.values()) != {"none"} else []  # nobody: motions of their own, without pairs
        self.pairs: tuple[tuple[int, int, int], ...] = tuple((a, b, MODES[kinds[a, b]]) for a, b in touching)
        keep(self, "friction", friction, ((), (len(pairs),)))
        if float(self.friction.detach().min()) < 0:
            raise ValueError(f"friction must not be negative, got {self.friction.tolist()}")

    def rows(self, moduli: torch.Tensor, spacings: torch.Tensor) -> torch.Tensor:
        """Frictions, margins and stiffnesses as the kernels read them, (rows, 23).

        Args:
            moduli: Of a wave in each particle [Pa], shape (n,).
            spacings: Edges of the particles' cubes [cells], shape (n,).

        Raises:
            ValueError: There are not as many particles as in the bodies.
        """
        if len(moduli) != sum(self.bodies):
            raise ValueError(f"bodies: {sum(self.bodies)} particles together, the state has {len(moduli)}")
        stiff, wide = (
            torch.stack([part.mean() for part in tensor.split(self.bodies)]) for tensor in (moduli, spacings.square())
        )
        first, second = [a for a, *_ in self.pairs], [b for _, b, _ in self.pairs]
        margin = pair_contact.SPACING * (wide[first] + wide[second]) / 2 - pair_contact.SLACK
        stiffness = pair_contact.STIFFNESS * 2 * stiff[first] * stiff[second] / (stiff[first] + stiff[second])
        rows = -(-len(self.pairs) // contact.COLUMNS)
        padding = moduli.new_zeros(rows * contact.COLUMNS - len(self.pairs))
        columns = (self.friction.to(moduli).expand(len(self.pairs)), margin, stiffness)
        return torch.cat([part for values in columns for part in (values, padding)]).reshape(-1, contact.COLUMNS)
