"""Tasks of the kind `render`: clouds, cameras and flat samples, found from pictures."""

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Literal

from simengine.scene.strict import Count, NonNegative, Positive, Range, Vector
from simengine.worlds.motion.world import CameraSpec

if TYPE_CHECKING:
    from simengine.render import PinholeCamera


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrbitSpec:
    """Cameras evenly around the vertical axis.

    Attributes:
        views: Number of cameras.
        radius: Their distance from the origin [m].
        elevation: Their height above the horizontal plane [degrees].
        field_of_view: Vertical [degrees].
        size: Pixels along each side of a picture.
    """

    views: Count = 8
    radius: Positive = 4.0
    elevation: Annotated[float, Range(gt=-90, lt=90)] = 20.0
    field_of_view: Annotated[float, Range(gt=0, lt=180)] = 40.0
    size: Annotated[int, Range(ge=8, le=4096)] = 64

    def cameras(self, *, views: int | None = None) -> "PinholeCamera":
        """The cameras as a batch."""
        from simengine.render import orbit

        return orbit(
            views or self.views,
            radius=self.radius,
            elevation=math.radians(self.elevation),
            fov_y=math.radians(self.field_of_view),
            width=self.size,
            height=self.size,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlobSpec:
    """A cloud of density peak exp(-r^2/(2 width^2)).

    Attributes:
        center: Its middle [m].
        width: Its standard deviation [m].
        peak: Density in the middle [1/m].
    """

    center: Vector = (0.0, 0.0, 0.0)
    width: Positive = 0.35
    peak: Positive = 4.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TomographySpec:
    """A density field from pictures of the light it lets through.

    The pictures are evaluated in closed form, not by the renderer that the fit uses.

    Attributes:
        type: Tells the tasks apart.
        blobs: What is in the box [-1, 1]^3.
        orbit: The cameras.
        resolution: Cells of the fitted density along each side of the box.
        noise: Standard deviation of the noise of the pictures [1].
        iterations: Steps of Adam.
        learning_rate: Of Adam [1].
        smoothness: Weight of the squared differences of neighbouring cells [1].
    """

    type: Literal["tomography"] = "tomography"
    blobs: tuple[BlobSpec, ...] = (BlobSpec(),)
    orbit: OrbitSpec = dataclasses.field(default_factory=OrbitSpec)
    resolution: Annotated[int, Range(ge=4, le=512)] = 32
    noise: NonNegative = 0.0
    iterations: Count = 150
    learning_rate: Positive = 0.3
    smoothness: NonNegative = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class CameraPoseSpec:
    """Where a camera stood, from the silhouette of a known body.

    Attributes:
        type: Tells the tasks apart.
        camera: The true camera.
        num_points: Discs on the surface of the body.
        initial_turn: How far the search starts from the truth, as a rotation vector [degrees].
        initial_shift: And as a displacement in camera coordinates [m].
        iterations: Steps of L-BFGS.
    """

    type: Literal["camera_pose"] = "camera_pose"
    camera: CameraSpec
    num_points: Annotated[int, Range(ge=100, le=1_000_000)] = 20000
    initial_turn: Vector = (3.0, -4.0, 5.0)
    initial_shift: Vector = (0.05, -0.04, 0.15)
    iterations: Count = 25


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaterialMapsSpec:
    """Maps of a material from flash pictures of a flat sample.

    Attributes:
        type: Tells the tasks apart.
        size: Texels along each side.
        lights: Pictures with the light on each ring, each with the light elsewhere.
        radii: Of the rings of lights [m].
        noise: Standard deviation of the noise over the radiance [1].
        iterations: Steps of Adam.
        learning_rate: Of Adam [1].
        smoothness: Weight of differences between neighbouring texels [1].
        texel_iterations: Steps of Levenberg-Marquardt in the numbers of each texel afterwards.
    """

    type: Literal["material_maps"] = "material_maps"
    size: Annotated[int, Range(ge=8, le=2048)] = 64
    lights: Annotated[int, Range(ge=1, le=64)] = 6
    radii: tuple[Positive, ...] = (0.5, 1.3, 2.2)
    noise: NonNegative = 0.01
    iterations: Count = 300
    learning_rate: Positive = 0.05
    smoothness: NonNegative = 0.02
    texel_iterations: Annotated[int, Range(ge=0)] = 40
