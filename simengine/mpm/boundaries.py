"""What stops particles at the faces of the grid; see `simengine.mpm.rigid_bodies` for the rest."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from simengine.kernels.matter import contact

FaceKind = Literal["slip", "sticky", "friction", "periodic", "open"]
Vector = Sequence[float] | torch.Tensor
FACES = ("-x", "+x", "-y", "+y", "-z", "+z")
MODES = {
    "open": 0,
    "periodic": 0,
    "sticky": contact.STICKY,
    "slip": contact.SEPARATING,
    "friction": contact.SEPARATING,
}


def keep(module: nn.Module, name: str, value: float | Vector, shapes: tuple[tuple[int, ...], ...]) -> None:
    """Keep a number or vector as a parameter if it is one, otherwise as a float64 buffer.

    Raises:
        ValueError: It is not finite or of none of the shapes.
    """
    tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(value, dtype=torch.float64)
    if tuple(tensor.shape) not in shapes or not bool(torch.isfinite(tensor.detach()).all()):
        raise ValueError(f"{name}: expected a finite value of shape {shapes[0]}, got {value!r}")
    if isinstance(tensor, nn.Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


class Walls(nn.Module):
    """Contact of the six faces of the grid.

    `slip` stops the velocity into the wall only (approach-only free slip), `sticky` stops all of it, `friction`
    separates freely and slows sliding by Coulomb friction, `periodic` (both faces of an axis) wraps around, `open` does
    nothing: a particle that reaches the edge of the grid is an error.

    Args:
        kind: One kind for all faces, or kinds by face (`"-x"`, `"+x"`, ...), the others slip.
        friction: Coulomb coefficient of faces of kind `friction`; a number, or a tensor or parameter, 0-d or (6,).
        thickness: The layer of a face: nodes with index < thickness, or > num_grids - thickness.

    Raises:
        ValueError: A kind or face is unknown, or only one face of an axis is periodic.
    """

    friction: torch.Tensor

    def __init__(
        self,
        kind: FaceKind | Mapping[str, FaceKind] = "slip",
        *,
        friction: float | torch.Tensor = 0.0,
        thickness: int = 3,
    ) -> None:
        super().__init__()
        kinds = dict.fromkeys(FACES, kind) if isinstance(kind, str) else {**dict.fromkeys(FACES, "slip"), **kind}
        for face, value in kinds.items():
            if face not in FACES or value not in MODES:
                raise ValueError(f"walls: expected faces {FACES} and kinds {tuple(MODES)}, got {face!r}: {value!r}")
        periodic = [kinds[face] == "periodic" for face in FACES]
        for axis in range(3):
            if periodic[2 * axis] != periodic[2 * axis + 1]:
                raise ValueError(f"walls: both faces of axis {'xyz'[axis]} must be periodic, or neither")
        if thickness < 1:
            raise ValueError(f"walls: thickness must be at least 1 node, got {thickness}")
        self.kinds: Mapping[str, str] = kinds
        self.thickness = thickness
        keep(self, "friction", friction, ((), (6,)))

    @property
    def faces(self) -> tuple[int, int, int, int, int, int]:
        """Contact of each face as the kernels number it."""
        a, b, c, d, e, f = (MODES[self.kinds[face]] for face in FACES)
        return a, b, c, d, e, f

    @property
    def periodic(self) -> tuple[bool, bool, bool]:
        """Axes that wrap around."""
        return self.kinds["-x"] == "periodic", self.kinds["-y"] == "periodic", self.kinds["-z"] == "periodic"

    def row(self, like: torch.Tensor) -> torch.Tensor:
        """Coulomb coefficient of each face, 0 where it has none, then zeros; shape (23,)."""
        friction = self.friction.to(like)
        mask = torch.tensor([self.kinds[face] == "friction" for face in FACES], device=like.device)
        values = torch.where(mask, friction, torch.zeros_like(friction)).expand(6)
        return torch.cat((values, like.new_zeros(contact.COLUMNS - 6)))
