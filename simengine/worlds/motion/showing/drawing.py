"""How things are pictured: what may be asked for, particles drawn, what is cut out, what is written."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simengine.io import write
from simengine.io.image import to_srgb8
from simengine.io.pictures import read_rgb
from simengine.render import DirectionalLight, HarmonicLight, Look, PinholeCamera, SurfelRenderer, orbit, render_mesh
from simengine.render.lights import Light
from simengine.render.looks.shelter import Floor, Shelter, floor_picture
from simengine.render.meshes import TexturedMesh
from simengine.render.particle_surface import particle_surface
from simengine.render.particles import neighbour_distance
from simengine.scene.base import SceneError
from simengine.scene.strict import nearest
from simengine.view.overlay import cut_out

STYLES = ("balls", "surface", "pyvista")
LIGHT = (0.5, 0.9, 0.7)  # where the light of surfaces comes from
Background = tuple[float, float, float]
BACKGROUND: Background = Look().background
MOVING = (".mp4", ".gif")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictured:
    """How something is pictured.

    Attributes:
        style: Of `STYLES`.
        field: Start of the name of one of `state_fields`; None for the colours of the bodies.
        axes: Whether to draw the edges of the domain with ticks.
        fps: Of a video [1/s].
        size: Columns and rows; None for those of the scene's camera, or 480 x 480 of a file.
        samples: Along each side of a pixel, of the style `surface`.
        transparent: Whether a still has opacity in place of a background.
        turntable: Pictures of one turn around what stands still; 0 for none.
        caption: Whether pictures tell their time.
        panorama: Picture of all directions, twice as wide as high, whose light falls on surfaces in place of a lamp's.
        floor: Whether surfaces stand on a floor that catches their soft shadow, and shade one another.

    Raises:
        SceneError: Two of these do not go together.
    """

    style: str = "balls"
    field: str | None = None
    axes: bool = False
    fps: float = 30.0
    size: tuple[int, int] | None = None
    samples: int = 2
    transparent: bool = False
    turntable: int = 0
    caption: bool = False
    panorama: Path | None = None
    floor: bool = False

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise SceneError(f"style: {self.style!r} is none; {nearest(self.style, STYLES)}")
        if self.transparent and (self.axes or self.style == "pyvista"):
            raise SceneError("--transparent: not with --axes, which need a background, nor with --style pyvista")
        if self.turntable and self.style == "pyvista":
            raise SceneError("--turntable: of the styles balls and surface")
        if self.floor and self.axes:
            raise SceneError("--floor: not with --axes, whose edges would lie behind it")

    def lamps(self, ambient: float = 0.4) -> tuple[list[Light], float]:
        """What lights surfaces, and how much of their colour they show without it.

        Args:
            ambient: Of the usual lamp.

        Raises:
            SceneError: The panorama cannot be read, or is none.
        """
        if self.panorama is None:
            return [DirectionalLight(direction=torch.tensor(LIGHT), irradiance=torch.tensor(2.2))], ambient
        try:
            return [HarmonicLight.of_panorama(torch.from_numpy(read_rgb(self.panorama)))], 0.0
        except ValueError as error:
            raise SceneError(f"--light {self.panorama}: {error}") from None

    def fits(self, file: Path) -> None:
        """Look whether a file can hold it.

        Raises:
            SceneError: It cannot.
        """
        suffix = file.suffix.lower()
        if self.transparent and suffix != ".png":
            raise SceneError(f"--transparent: a picture without a background is written as .png, got {file.name}")
        if self.turntable and suffix not in MOVING:
            raise SceneError(f"--turntable: it is written as .mp4 or .gif, got {file.name}")


def surface_picture(
    mesh: TexturedMesh,
    camera: PinholeCamera,
    how: Pictured,
    background: Background,
    floor: Floor | None,
    ambient: float,
) -> torch.Tensor:
    """Linear light (h, w, 3) of a surface in the light of figures.

    Args:
        mesh: The surface.
        camera: A single one.
        how: With which lamps, samples, and whether shaded.
        background: Linear RGB.
        floor: What it stands on, if `how` asks for one.
        ambient: Of the usual lamp.
    """
    lamps, ambient = how.lamps(ambient)
    behind = torch.tensor(background)
    shade: dict[str, Any] = {}
    if how.floor and floor is not None:
        shelter = Shelter(mesh, tuple(lamps), floor=floor)
        behind = floor_picture(floor, camera, shelter, lights=tuple(lamps), ambient=ambient, background=behind)
        shade = {"sheltered": shelter}
    light: dict[str, Any] = {"lights": lamps, "ambient": ambient, "roughness": 0.4, "samples": how.samples}
    return render_mesh(mesh, camera.to(mesh.vertices.dtype), background=behind, **light, **shade).rgb


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Particles to be drawn: places (k, n, 3) or (1, n, 3) for all pictures, linear colours of the same shape.

    Attributes:
        x: Places [m].
        colours: Linear RGB.
        how: How.
        surface: The surface of particles at places (n, 3) with colours (n, 3), of the style `surface`; None for one
            around them.
        floor: What they stand on.
    """

    x: np.ndarray
    colours: np.ndarray
    how: Pictured
    surface: Callable[[torch.Tensor, torch.Tensor], TexturedMesh] | None = None
    floor: Floor | None = None

    def __call__(self, cameras: Sequence[PinholeCamera], background: Background) -> torch.Tensor:
        """Linear light (k, h, w, 3)."""
        x, tint = torch.as_tensor(self.x).float(), torch.tensor(self.colours).float()
        x, tint = (part.expand(len(cameras), -1, -1) for part in (x, tint))
        radius = 0.7 * neighbour_distance(x[0])
        look = dataclasses.replace(Look(), background=background)
        pictures = []
        with torch.no_grad():
            for place, colour, camera in zip(x, tint, cameras, strict=True):
                if self.how.style == "surface":
                    made = self.surface or (lambda at, tints: particle_surface(at, colours=tints))
                    mesh = made(place, colour)
                    pictures.append(surface_picture(mesh, camera, self.how, background, self.floor, 0.4).float())
                else:
                    pictures.append(SurfelRenderer(camera, radius=radius, look=look)(place, colours=colour))
        return torch.stack(pictures)


def pictured(how: Pictured, drawn: Callable[[Background], torch.Tensor]) -> np.ndarray:
    """8-bit pictures (k, h, w, 3), or with opacity (k, h, w, 4), of what draws linear light over a background."""
    if how.transparent:
        return cut_out(drawn((0.0, 0.0, 0.0)).numpy(), drawn((1.0, 1.0, 1.0)).numpy())
    return to_srgb8(drawn(BACKGROUND))


def cameras_around(low: torch.Tensor, high: torch.Tensor, views: int, size: tuple[int, int]) -> PinholeCamera:
    """Cameras around a box that all of it fits into."""
    middle, across = (low + high) / 2, float((high - low).norm().clamp_min(1e-6))
    return orbit(
        views,
        radius=1.5 * across,
        target=tuple(middle.tolist()),
        elevation=0.4,
        fov_y=math.radians(42),
        width=size[0],
        height=size[1],
    )


def write_pictures(file: Path, frames: np.ndarray, *, fps: float) -> Path:
    """Write all pictures as a video, or the last one; .exr in linear light."""
    if file.suffix.lower() in MOVING:
        return write(file, frames, fps=fps)
    if file.suffix.lower() == ".exr":
        linear = frames[-1] / 255.0
        return write(file, np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4))
    return write(file, frames[-1])
