"""How the coordinates of a file lie in the world."""

import dataclasses
from typing import Any

import torch

from simengine.scene.strict import Positive, Vector
from simengine.solve.rotation import rotation_matrix

_SIGNED = {
    f"{sign}{axis}": (k, -1.0 if sign == "-" else 1.0) for k, axis in enumerate("xyz") for sign in ("", "+", "-")
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """World = scale * turn * axes * file + shift, after the registration if there is one.

    Attributes:
        axes: Axes of the world that the file's x, y, z point along, as in ["x", "-z", "y"].
        shift: Where the file's origin lies in the world [m].
        turn: Rotation vector about the origin, on top [rad].
        scale: World metres per metre of the file [1].
        register: Take the rigid motion that brings all marks at the start nearest to their `at`.
    """

    axes: tuple[str, str, str] = ("x", "y", "z")
    shift: Vector = (0.0, 0.0, 0.0)
    turn: Vector = (0.0, 0.0, 0.0)
    scale: Positive = 1.0
    register: bool = False
    registration: Any = dataclasses.field(default=None, metadata={"internal": True}, compare=False, repr=False)

    def __post_init__(self) -> None:
        used = [_SIGNED[a][0] for a in self.axes if a in _SIGNED]
        if sorted(used) != [0, 1, 2]:
            raise ValueError(f"axes: expected three of x, y, z with signs, each once, got {list(self.axes)}")

    def _axes(self) -> torch.Tensor:
        matrix = torch.zeros(3, 3, dtype=torch.float64)
        for column, axis in enumerate(self.axes):
            row, sign = _SIGNED[axis]
            matrix[row, column] = sign
        return matrix

    def base_to_world(self, points: torch.Tensor) -> torch.Tensor:
        """File to world by axes and scale alone, (..., 3)."""
        return self.scale * points @ self._axes().T

    def with_registration(self, turn: torch.Tensor, shift: torch.Tensor) -> "Place":
        """The place with a rigid motion, found once, after axes and scale."""
        return dataclasses.replace(self, registration=(turn, shift))

    def _motion(self) -> tuple[torch.Tensor, torch.Tensor]:
        turn = rotation_matrix(_vector(self.turn))
        shift = _vector(self.shift)
        if self.registration is not None:
            base, offset = self.registration
            return turn @ base, turn @ offset + shift
        return turn, shift

    def to_world(self, points: torch.Tensor) -> torch.Tensor:
        """Points of the file in the world, (..., 3) [m]."""
        turn, shift = self._motion()
        return self.base_to_world(points) @ turn.T + shift

    def to_file(self, points: torch.Tensor) -> torch.Tensor:
        """Points of the world in the file's coordinates, (..., 3) [m]."""
        turn, shift = self._motion()
        return ((points - shift) @ turn) @ self._axes() / self.scale


def _vector(values: tuple[Any, ...]) -> torch.Tensor:
    return torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in values])
