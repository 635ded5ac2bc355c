"""The walls of the domain: layers of nodes, or planes that particles touch as they touch a collider."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from simengine.scene.base import SceneError
from simengine.scene.strict import NonNegative, Range

if TYPE_CHECKING:
    import torch

    from simengine.mpm import Plane

FACES = ("-x", "+x", "-y", "+y", "-z", "+z")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WallSpec:
    """The six walls of the domain.

    Attributes:
        kind: slip, sticky, friction or periodic.
        bound: Their thickness in cells.
        friction: Coulomb coefficient [1].
        open: Faces without a wall, as in ["+y"].
        hard: Whether they are planes that particles touch where they are, as colliders are; false for layers of nodes,
            into which a body at rest sinks by a quarter of a cell.
    """

    kind: Literal["slip", "sticky", "friction", "periodic", "open"] = "slip"
    bound: Annotated[int, Range(ge=2, le=64)] = 3
    friction: NonNegative = 0.0
    open: tuple[Literal["-x", "+x", "-y", "+y", "-z", "+z"], ...] = ()
    hard: bool = False

    def __post_init__(self) -> None:
        if self.kind == "periodic" and self.open:
            raise ValueError(f"open: {self.open[0]!r} cannot be open where the walls are periodic; leave it out")
        if self.hard and self.kind in ("periodic", "open"):
            raise ValueError(f"hard: {self.kind} walls stop nothing; leave it out, or choose slip, sticky or friction")

    def by_face(self, *, flat: bool) -> dict[str, Any]:
        """The kind of each face; across a plane section they are periodic."""
        kinds = {face: "open" if face in self.open else self.kind for face in FACES}
        return kinds | ({"-z": "periodic", "+z": "periodic"} if flat else {})

    def on_nodes(self, *, flat: bool) -> dict[str, Any]:
        """The kind of each face as nodes know it: where walls are hard, they stop nothing."""
        kinds = self.by_face(flat=flat)
        return {face: "open" if self.hard and kind != "periodic" else kind for face, kind in kinds.items()}

    def numbers(self, *, flat: bool) -> list[int]:
        """The faces whose walls are hard, by their numbers."""
        kinds = self.by_face(flat=flat).values()
        return [k for k, kind in enumerate(kinds) if self.hard and kind not in ("open", "periodic")]

    def planes(
        self, lower: np.ndarray, upper: np.ndarray, friction: "float | torch.Tensor", *, flat: bool
    ) -> "Mapping[int, Plane]":
        """Where walls are hard, the plane of each face by its number.

        Args:
            lower: Corner of the room between them, in the coordinates of the lattice [m], (3,).
            upper: The other corner [m], (3,).
            friction: Coulomb coefficient [1].
            flat: Whether nothing moves along z.
        """
        from simengine.mpm import Plane, Surface

        found = {}
        for number in self.numbers(flat=flat):
            axis, high = divmod(number, 2)
            normal = [0.0, 0.0, 0.0]
            normal[axis] = -1.0 if high else 1.0
            kind: Any = self.by_face(flat=flat)[FACES[number]]
            point: Sequence[float] = (upper if high else lower).tolist()
            found[number] = Plane(point=point, normal=normal, surface=Surface(kind, friction))
        return found


def refuse_beyond(low: np.ndarray, high: np.ndarray, positions: np.ndarray, ids: np.ndarray) -> None:
    """Refuse bodies that reach beyond the room between the walls.

    Args:
        low: Lower corner of the room [m], (3,).
        high: Upper corner [m], (3,).
        positions: Of all particles [m], (n, 3).
        ids: Their bodies, (n,).

    Raises:
        SceneError: It names the body.
    """
    for index in np.unique(ids):
        x = positions[ids == index]
        beyond = np.maximum(low - x.min(0), x.max(0) - high)
        k = int(beyond.argmax())
        if beyond[k] > 0:
            raise SceneError(
                f"bodies.{index}.shape: reaches from {x[:, k].min():.4g} to {x[:, k].max():.4g} m, outside the "
                f"walls at {low[k]:.4g} and {high[k]:.4g} m; move or shrink the body"
            )
