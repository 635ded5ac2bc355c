"""A pinhole camera that projects points of the world to pixels: u to the right, v down."""

import dataclasses
from typing import Any, Literal

import torch

from simengine.scene.strict import Count, Positive, Vector
from simengine.solve.rotation import rotation_matrix

_WAYS = {
    "right": (0, 1.0),
    "left": (0, -1.0),
    "down": (1, 1.0),
    "up": (1, -1.0),
    "forward": (2, 1.0),
    "back": (2, -1.0),
}
_NAMED = {"opencv": ("right", "down", "forward"), "opengl": ("right", "up", "back")}
_ORTHOGONAL = 1e-2  # that rounded digits of a rotation may miss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pinhole:
    """Camera coordinates are rotation X + shift, pixels focal (right, down)/forward + center.

    Attributes:
        focal: Focal length [px].
        width: Of the picture [px].
        height: Of the picture [px].
        center: Where the axis meets the picture, u and v [px]; its middle where it is left out.
        axes: Where x, y, z of the camera point, of right, left, up, down, forward, back; or opencv, opengl.
        turn: Rotation of the world into the camera: a rotation vector on top of `base` [rad], or the whole as a matrix,
            which becomes `base`.
        base: Matrix of the rotation under `turn` [1].
        shift: The world's origin in the camera's coordinates [m].
    """

    focal: Positive
    width: Count
    height: Count
    center: tuple[float, float] | None = None
    axes: Literal["opencv", "opengl"] | tuple[str, str, str] = "opencv"
    turn: Vector | tuple[Vector, Vector, Vector] = (0.0, 0.0, 0.0)
    base: tuple[Vector, Vector, Vector] | None = None
    shift: Vector = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        ways = self.ways
        if unknown := [way for way in ways if way not in _WAYS]:
            raise ValueError(f"axes: {unknown[0]!r} is no direction; known: {', '.join(_WAYS)}")
        if sorted(_WAYS[way][0] for way in ways) != [0, 1, 2]:
            raise ValueError(f"axes: expected three directions across each other, got {list(ways)}")
        if isinstance(self.turn[0], tuple):
            if self.base is not None:
                raise ValueError("turn: with `base` it is a rotation vector")
            object.__setattr__(self, "base", self.turn)
            object.__setattr__(self, "turn", (0.0, 0.0, 0.0))
        if self.base is not None:
            base = torch.tensor(self.base, dtype=torch.float64)
            u, _, vt = torch.linalg.svd(base)
            if float((base - u @ vt).abs().max()) > _ORTHOGONAL or float(torch.linalg.det(base)) < 0:
                raise ValueError("turn: the matrix is no rotation (its rows must be unit vectors across each other)")

    @property
    def ways(self) -> tuple[str, str, str]:
        """Where x, y, z of the camera point."""
        return _NAMED[self.axes] if isinstance(self.axes, str) else self.axes

    def project(self, points: torch.Tensor) -> torch.Tensor:
        """Pixels (..., 2) of points of the world (..., 3) [m]; NaN behind the camera."""
        rotation = rotation_matrix(_vector(self.turn))
        if self.base is not None:
            u, _, vt = torch.linalg.svd(torch.tensor(self.base, dtype=torch.float64))
            rotation = rotation @ (u @ vt)
        own = points @ rotation.T + _vector(self.shift)
        parts: list[Any] = [None, None, None]
        for k, way in enumerate(self.ways):
            axis, sign = _WAYS[way]
            parts[axis] = sign * own[..., k]
        right, down, forward = parts
        middle = _vector(self.center if self.center is not None else (self.width / 2, self.height / 2))
        ahead = torch.where(forward > 0, forward, torch.nan)
        return torch.stack((right, down), -1) * self.focal / ahead[..., None] + middle


def _vector(values: Any) -> torch.Tensor:
    return torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in values])
