"""A flat sample of a material: a colour, metal, roughness and slope for each texel, seen under a flash in the lens."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from simengine.scene.asks import Ask, View
from simengine.scene.base import AbstractRun, AbstractWorld, SceneError
from simengine.scene.strict import Count, Positive, Range, Unit

if TYPE_CHECKING:
    import torch

    from simengine.io.run_directory import RunDirectory

DEPTH = {"base_color": 3, "metallic": 1, "roughness": 1, "slopes": 2}  # map -> numbers of a texel


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapsSpec:
    """A rectangle in the plane z = 0, its middle at the origin: x right, y up, row 0 on top.

    Attributes:
        size: Width and height [m].
        cells: Rows and columns of texels.
        base_color: Linear RGB, as of the metal-rough model of glTF [1].
        metallic: 0 for a dielectric, 1 for a metal [1].
        roughness: Square root of the width of the GGX distribution [1].
        slopes: -n_x / n_z and -n_y / n_z of the normal n, the slopes of a height [1].
    """

    size: tuple[Positive, Positive]
    cells: tuple[Count, Count]
    base_color: Annotated[float, Range(ge=0, le=1), Unit("1")] = 0.5
    metallic: Annotated[float, Range(ge=0, le=1), Unit("1")] = 0.0
    roughness: Annotated[float, Range(ge=0.05, le=1), Unit("1")] = 0.5
    slopes: Annotated[float, Range(), Unit("1")] = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapsWorld(AbstractWorld):
    """A flat sample before a camera that carries its lamp.

    Attributes:
        maps: The sample.
    """

    kind: ClassVar[str] = "maps"
    answers: ClassVar[frozenset[type[Ask]]] = frozenset((View,))
    maps: MapsSpec

    def fields(self) -> Mapping[str, tuple[int, ...]]:
        """Each map, (rows, columns, numbers)."""
        return {f"maps.{name}": (*self.maps.cells, depth) for name, depth in DEPTH.items()}

    def traced(self) -> frozenset[str]:
        """The maps."""
        return frozenset(self.fields())

    def extent(self, key: str) -> tuple[tuple[float, float], ...]:
        """Height and width [m]; the numbers of a texel have nothing to do with one another."""
        width, height = self.maps.size
        return ((0.0, height), (0.0, width), (0.0, float("inf")))

    def scalars(self) -> Mapping[str, str]:
        """The maps."""
        return dict.fromkeys(DEPTH, "1")

    def build(self, *, device: str | None = None) -> Any:
        """The maps by name, tensors (rows, columns, numbers) in float64."""
        import torch

        found = {}
        for name, depth in DEPTH.items():
            value = torch.as_tensor(getattr(self.maps, name), dtype=torch.float64)
            found[name] = value.expand(*self.maps.cells, depth) if value.ndim == 0 else value
        return found

    def solve(
        self,
        asks: Sequence[Ask],
        *,
        gradient: bool = False,
        near: AbstractRun | None = None,
        device: str | None = None,
    ) -> "MapsRun":
        """The sample itself; nothing is to be solved."""
        return MapsRun(self.maps, self.build())

    def figures(self, key: str, field: "torch.Tensor") -> "dict[str, torch.Tensor]":
        """Each number of a map, row 0 on top."""
        return {f"{key} {k}": field[..., k] for k in range(field.shape[-1])}

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Write the maps."""
        found = self.build()
        out.write("states.npz", found)
        return {"texels": list(self.maps.cells)}


@dataclasses.dataclass(frozen=True)
class MapsRun(AbstractRun):
    """Maps of a flat sample."""

    spec: MapsSpec
    maps: "Mapping[str, torch.Tensor]"

    def sample(self, ask: Ask) -> "torch.Tensor":
        """Radiance of each texel, (pictures, rows, columns, 3), under a flash of 1 W/sr in the lens of each camera.

        Pictures are rectified: their pixels are the texels, and only the place of the lens counts.
        """
        import torch

        from simengine.render.brdf import DisneyMaterial, shade
        from simengine.render.lights import PointLight

        if not isinstance(ask, View) or set(ask.channels) != {"flash"}:
            raise SceneError(
                "a flat sample answers rectified views under a flash, as the instrument `flashes` asks for"
            )
        rows, columns = self.spec.cells
        if tuple(ask.size) != (rows, columns):
            raise SceneError(f"maps.cells: {rows} x {columns}, and the pictures are {ask.size[0]} x {ask.size[1]}")
        width, height = self.spec.size
        x = ((torch.arange(columns, dtype=torch.float64) + 0.5) / columns - 0.5) * width
        y = (0.5 - (torch.arange(rows, dtype=torch.float64) + 0.5) / rows) * height
        points = torch.stack(
            (x.expand(rows, columns), y[:, None].expand(rows, columns), torch.zeros(rows, columns)), -1
        )
        slopes = self.maps["slopes"]
        normal = torch.nn.functional.normalize(torch.cat((-slopes, torch.ones_like(slopes[..., :1])), -1), dim=-1)
        material = DisneyMaterial(
            base_colour=self.maps["base_color"],
            metallic=self.maps["metallic"],
            roughness=self.maps["roughness"].clamp_min(0.05),
        )
        unit = torch.ones((), dtype=torch.float64)
        pictures = []
        for pose in ask.world_to_camera.double():
            eye = -pose[:3, :3].T @ pose[:3, 3]
            pictures.append(shade(points, normal, eye, material, [PointLight(position=eye, intensity=unit)]))
        return torch.stack(pictures)
