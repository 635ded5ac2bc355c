"""A surface seen from the front: a normal and an albedo for each pixel of a mask."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from simengine.scene.asks import Ask, View
from simengine.scene.base import AbstractRun, AbstractWorld, SceneError
from simengine.scene.strict import Range, Unit

if TYPE_CHECKING:
    import torch

    from simengine.io.run_directory import RunDirectory

KEY = "surface.normals"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurfaceSpec:
    """A surface as a camera in front of it sees it, pixel by pixel.

    Attributes:
        form: `normals`: of each pixel by itself.
        mask: Picture of where the surface is; bright is inside.
        normals: Albedo times the unit normal (right, up, to the camera), for each pixel of the mask (Woodham 1980); a
            number faces the camera everywhere [1].
    """

    form: Literal["normals"] = "normals"
    mask: Path
    normals: Annotated[float, Range(), Unit("1")] = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurfaceWorld(AbstractWorld):
    """A surface in front of a camera that stands still.

    Attributes:
        surface: The surface.
    """

    kind: ClassVar[str] = "surface"
    answers: ClassVar[frozenset[type[Ask]]] = frozenset((View,))
    pictures_cells: ClassVar[bool] = False
    surface: SurfaceSpec

    def inside(self) -> "torch.Tensor":
        """Pixels of the mask, bool (h, w)."""
        return _mask(self.surface.mask)

    def solve(
        self,
        asks: Sequence[Ask],
        *,
        gradient: bool = False,
        near: AbstractRun | None = None,
        device: str | None = None,
    ) -> "SurfaceRun":
        """The surface itself."""
        import torch

        value = self.surface.normals
        field = self.field_of(KEY, value) if isinstance(value, float) else value
        if isinstance(field, torch.Tensor) and field.ndim == 0:
            field = self.field_of(KEY, float(field))
        return SurfaceRun(self.inside(), field)

    def field_of(self, key: str, value: float) -> "torch.Tensor":
        """A surface that faces the camera."""
        import torch

        shape = self.fields()[key]
        return torch.tensor([0.0, 0.0, value], dtype=torch.float64).expand(shape).clone()

    def traced(self) -> frozenset[str]:
        """The normals."""
        return frozenset((KEY,))

    def fields(self) -> Mapping[str, tuple[int, ...]]:
        """The normals, (pixels of the mask, 3)."""
        return {KEY: (int(self.inside().sum()), 3)}

    def extent(self, key: str) -> tuple[tuple[float, float], ...]:
        """Numbers of pixels and of axes: a field without a place."""
        return ((0.0, float(self.fields()[key][0])), (0.0, 3.0))

    def by_points(self, key: str) -> bool:
        """A pixel sees its own normal."""
        return True

    def figures(self, key: str, field: "torch.Tensor") -> "dict[str, torch.Tensor]":
        """Maps (h, w), row 0 on top: components of the unit normals, and albedo."""
        import torch

        inside = self.inside()
        albedo = field.norm(dim=1)
        unit = field / albedo.clamp_min(1e-12)[:, None]
        maps = {}
        for name, values in {
            "right": unit[:, 0],
            "up": unit[:, 1],
            "to the camera": unit[:, 2],
            "albedo": albedo,
        }.items():
            image = torch.full(inside.shape, torch.nan, dtype=torch.float64)
            image[inside] = values
            maps[name] = image
        return maps

    def beside(self, key: str, field: "torch.Tensor", reference: Mapping[str, Any]) -> dict[str, float]:
        """Angles [degrees] to the normals of a sphere: { center = [right, down], radius, inside = 0.95 } in pixels."""
        import torch

        sphere = reference.get("sphere")
        if not isinstance(sphere, Mapping) or not {"center", "radius"} <= set(sphere):
            raise SceneError(f"reference.{key}: expected sphere = {{ center = [right, down], radius, inside = 0.95 }}")
        rows, columns = self.inside().nonzero(as_tuple=True)
        x = (columns - float(sphere["center"][0])) / float(sphere["radius"])
        y = (float(sphere["center"][1]) - rows) / float(sphere["radius"])
        r2 = x.square() + y.square()
        near = r2 < float(sphere.get("inside", 0.95)) ** 2
        true = torch.stack((x, y, (1 - r2).clamp_min(0).sqrt()), 1)[near].double()
        unit = torch.nn.functional.normalize(field[near], dim=1)
        angle = (unit * true).sum(1).clamp(-1, 1).acos() * (180 / math.pi)
        albedo = field[near].norm(dim=1)
        return {
            "mean angle [degrees]": float(angle.mean()),
            "median angle [degrees]": float(angle.median()),
            "spread of the albedo, relative": float(albedo.std() / albedo.mean()),
        }

    def scalars(self) -> Mapping[str, str]:
        """The normals."""
        return {"normals": "1"}

    def build(self, *, device: str | None = None) -> Any:
        """Mask and normals."""
        run = self.solve(())
        return {"mask": run.inside, "normals": run.field}

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Write mask and normals."""
        out.write("states.npz", self.build())
        return {"pixels": int(self.inside().sum())}


@cache
def _mask(path: Path) -> "torch.Tensor":
    import torch

    from simengine.io.pictures import read_stills

    try:
        picture = read_stills([path]).values[0].mean(-1)
    except ValueError as error:
        raise SceneError(f"surface.mask: {error}") from None
    inside = torch.from_numpy(picture > 0.5)
    if not bool(inside.any()):
        raise SceneError(f"surface.mask: {path.name}: nothing in it is bright")
    return inside


@dataclasses.dataclass(frozen=True)
class SurfaceRun(AbstractRun):
    """Normals, times albedo, of the pixels of a mask."""

    inside: "torch.Tensor"
    field: "torch.Tensor"

    def sample(self, ask: Ask) -> "torch.Tensor":
        """Albedo times normal, (1, h, w, 3), zero outside the mask; the camera is the one that the mask belongs to."""
        import torch

        if not isinstance(ask, View) or set(ask.channels) != {"albedo_normal"}:
            raise SceneError("a surface of pixels answers a view of its normals, as the instrument `lamps` asks for")
        if tuple(ask.size) != tuple(self.inside.shape):
            raise SceneError(f"surface.mask: {tuple(self.inside.shape)}, and the pictures are {tuple(ask.size)}")
        image = torch.zeros((*self.inside.shape, 3), dtype=torch.float64)
        rows, columns = self.inside.nonzero(as_tuple=True)
        return image.index_put((rows, columns), self.field)[None]
