"""A flat sample of a material: a colour, metal, roughness and slope for each texel, seen under a flash in the lens."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from simengine.scene.asks import Ask, View
from simengine.scene.base import AbstractRun, AbstractWorld, SceneError
from simengine.scene.strict import Count, Positive, Range, Unit, resolve_path

if TYPE_CHECKING:
    import torch

    from simengine.io.run_directory import RunDirectory

DEPTH = {"base_color": 3, "metallic": 1, "roughness": 1, "slopes": 2}  # map -> numbers of a texel


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapsSpec:
    """A rectangle in the plane z = 0, its middle at the origin: x right, y up, row 0 on top.

    A map is one number, or a .npy or .npz (under its name) of (rows, columns, numbers), whole times as fine as `cells`.

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
    base_color: Annotated[float, Range(ge=0, le=1), Unit("1")] | Path = 0.5
    metallic: Annotated[float, Range(ge=0, le=1), Unit("1")] | Path = 0.0
    roughness: Annotated[float, Range(ge=0.05, le=1), Unit("1")] | Path = 0.5
    slopes: Annotated[float, Range(), Unit("1")] | Path = 0.0


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
            own = getattr(self.maps, name)
            if isinstance(own, Path):
                found[name] = read_map(own, name, (*self.maps.cells, depth), f"maps.{name}")
                continue
            value = torch.as_tensor(own, dtype=torch.float64)
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

    def refined(self, factor: float) -> "MapsWorld":
        """With `factor` times as many texels along each side, which have to be whole."""
        rows, columns = (n * factor for n in self.maps.cells)
        if not (float(rows).is_integer() and float(columns).is_integer()):
            raise SceneError(f"maps.cells: {list(self.maps.cells)} times {factor:g} are no whole texels")
        return dataclasses.replace(self, maps=dataclasses.replace(self.maps, cells=(int(rows), int(columns))))

    def beside(self, key: str, field: "torch.Tensor", reference: Mapping[str, Any]) -> dict[str, float]:
        """Root mean square of what differs from the map in a { file }, over that of the best even map."""
        if set(reference) != {"file"}:
            raise SceneError(f"reference.{key}: expected {{ file = ... }} of the map beside which it is told")
        name = key.rpartition(".")[2]
        path = resolve_path(str(reference["file"]), self.directory)
        true = read_map(path, name, tuple(field.shape), f"reference.{key}.file")
        even = (true - true.mean((0, 1))).square().mean().sqrt()
        return {"error_over_that_of_the_mean_map": float((field - true).square().mean().sqrt() / even)}

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Write the maps, and a material of other programs."""
        from simengine.worlds.objects.material_files import write_material

        found = self.build()
        out.write("states.npz", found)
        write_material(found, self.maps.size, out)
        return {"texels": list(self.maps.cells)}

    def show(self, run: AbstractRun, out: "RunDirectory") -> list[Any]:
        """The textures of the material that is written for other programs."""
        from simengine.view.report import Picture
        from simengine.worlds.objects.material_files import NAME, OBJ, write_material

        assert isinstance(run, MapsRun)
        textures = write_material(run.maps, self.maps.size, out)
        return [
            f"{NAME} and {OBJ} hold them for other programs.",
            *(Picture(own, name) for name, own in textures.items()),
        ]


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


def read_map(path: Path, name: str, shape: tuple[int, ...], key: str) -> "torch.Tensor":
    """A map (rows, columns, numbers) in float64 of a file that is whole times as fine, each texel a mean.

    Raises:
        SceneError: The file holds no map of that name, or of another shape.
    """
    import numpy as np
    import torch

    from simengine.io.arrays import read_npz

    try:
        if path.suffix.lower() == ".npy":
            arrays = {name: np.load(path, allow_pickle=False)}
        else:
            arrays = dict(read_npz(path))
    except (OSError, ValueError, EOFError) as error:
        raise SceneError(f"{key}: {error}") from None
    if name not in arrays:
        raise SceneError(f"{key}: {path.name} holds no {name!r}; it holds {', '.join(sorted(arrays))}")
    value = torch.from_numpy(np.asarray(arrays[name], dtype=np.float64).copy())
    value = value[..., None] if value.ndim == 2 else value
    rows, columns, depth = shape
    times = value.shape[0] // rows if value.ndim == 3 else 0
    if not times or tuple(value.shape) != (times * rows, times * columns, depth):
        raise SceneError(
            f"{key}: {path.name} holds {list(value.shape)}, and {list(shape)} or whole times as fine is wanted"
        )
    return value.reshape(rows, times, columns, times, depth).mean((1, 3))
