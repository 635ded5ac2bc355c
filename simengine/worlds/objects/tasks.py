"""Tasks of the kind `render` that learn from many pictures, or find more than numbers of a body from a few."""

import abc
import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from simengine.flame.equations.free import FreeFlame
from simengine.scene.strict import Count, NonNegative, Positive, Range
from simengine.worlds.flames.gas import GasSpec
from simengine.worlds.flames.specs import Free, FreeSimple
from simengine.worlds.laws.world import LawSpec
from simengine.worlds.motion.world import CameraSpec, MPMScene, ParameterSpec
from simengine.worlds.objects.video_spec import VideoSpec

Elevation = Annotated[float, Range(ge=30, le=85)]  # [degrees]; from lower down the horizon would be seen


class AbstractPictureTask(abc.ABC):
    """A task that knows its problem: an object with `observed`, `contact_sheet(images)` and `training()`."""

    @abc.abstractmethod
    def problem(self, *, seed: int) -> Any:
        """The problem; `seed` is that of the scene."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LitFlame(Free):
    """A free flame with a mechanism of its own.

    Attributes:
        mechanism: As in the table `[gas]` of scenes of kind flame.
    """

    mechanism: Path

    def flame(self, gas: GasSpec | None = None) -> FreeFlame:
        """The equations."""
        return super().flame(gas or GasSpec(mechanism=self.mechanism))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlameImageSpec(AbstractPictureTask):
    """Numbers of a flame from one picture of its light; the gradient goes through picture and flame.

    The flame is a flat sheet that is seen from its side: fresh gas at negative x, burnt gas at positive x.

    Attributes:
        type: Tells the tasks apart.
        flame: The true flame, as in scenes of kind flame.
        camera: Who sees it; flames are thin, so it stands millimetres away.
        parameters: Name of a number of the flame, or `shift` (where it stands along x [m]) -> where its search starts.
        span: First and last x of the sheet that is pictured [m].
        extent: Of the sheet across x, in the picture and along the line of sight [m].
        cells: Of the volume along x.
        kappa: Absorption coefficient of the gas [1/m]; how much it glows.
        efficiency: Share of the heat release given off as light of reaction.
        noise: Standard deviation of the noise of the picture, over its brightest value.
        resolution: Of the flame, as in scenes of kind flame.
        method: least_squares (with uncertainty), or lbfgs through the adjoint.
        iterations: At most so many.
    """

    type: Literal["flame_image"] = "flame_image"
    flame: FreeSimple | LitFlame
    camera: CameraSpec
    parameters: dict[str, ParameterSpec]
    span: tuple[float, float] = (-0.5e-3, 1e-3)
    extent: tuple[Positive, Positive] = (1e-3, 1e-3)
    cells: Annotated[int, Range(ge=8, le=4096)] = 240
    kappa: NonNegative = 0.1
    efficiency: NonNegative = 1e-6
    noise: NonNegative = 0.02
    resolution: Annotated[float, Range(gt=0, lt=1)] = 1e-5
    method: Literal["least_squares", "lbfgs"] = "least_squares"
    iterations: Count = 15

    def __post_init__(self) -> None:
        if not self.parameters:
            raise ValueError("parameters: name at least one, as in [task.parameters.phi]")
        if not self.span[0] < self.span[1]:
            raise ValueError(f"span: expected a first x below the last, got {list(self.span)}")

    def problem(self, *, seed: int) -> Any:
        """The picture of the true flame, and what pictures another."""
        from simengine.worlds.objects.flame_image import FlameImage

        return FlameImage(self, seed=seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LawVideoSpec(AbstractPictureTask):
    """The law of an elastic body from a video of it: an energy network, with the loss on pixels alone.

    Attributes:
        type: Tells the tasks apart.
        motion: The true motion, a scene of kind mpm of one elastic body; its material is hidden from the learner.
        cameras: Who sees it.
        law: The network that learns.
        combinations: Combinations of the network's last weights that are sought.
        ridge: Weight of the squares of these combinations in their usual size, beside the mean square of the pixels;
            the variance of the noise over the number of pixels would be the least.
        frames: Pictures of the video, evenly over the motion, the start left out.
        blur: Halvings of the resolution at which the pictures are compared as well.
        noise: Standard deviation of the noise of the pictures.
        stages: Growing parts of the motion to fit one after another, as fractions; the last is 1.
        iterations: Of each stage.
    """

    type: Literal["law_video"] = "law_video"
    motion: MPMScene
    cameras: tuple[CameraSpec, ...]
    law: LawSpec = dataclasses.field(default_factory=LawSpec)
    combinations: Annotated[int, Range(ge=1, le=64)] = 8
    ridge: NonNegative = 1e-8
    frames: Count = 10
    blur: Annotated[int, Range(ge=0, le=6)] = 2
    noise: NonNegative = 0.02
    stages: tuple[Annotated[float, Range(gt=0, le=1)], ...] = (0.5, 1.0)
    iterations: Count = 4

    def __post_init__(self) -> None:
        if len(self.motion.bodies) != 1:
            raise ValueError(f"motion.bodies: expected one body, whose law is sought, got {len(self.motion.bodies)}")
        if self.law.plastic:
            raise ValueError("law.plastic: flow is not learned from videos; leave it out")
        if self.combinations > self.law.width:
            raise ValueError(f"combinations: {self.combinations} are more than the {self.law.width} hidden units")
        self.video()

    def video(self) -> VideoSpec:
        """How the motion is filmed; says what is wrong with frames, stages and cameras."""
        body = {name: ParameterSpec(initial=1.0) for name in ("bodies.0.velocity.0",)}  # not sought
        keys = ("motion", "cameras", "frames", "blur", "noise", "stages", "iterations")
        return VideoSpec(parameters=body, **{key: getattr(self, key) for key in keys})

    def other_throw(self) -> MPMScene:
        """The same body, thrown into another direction and turning the other way."""
        body = self.motion.bodies[0]
        x, y, z = body.velocity
        a, b, c = body.angular_velocity
        thrown = dataclasses.replace(body, velocity=(-0.7 * z, 1.2 * y, 0.7 * x), angular_velocity=(-b, c, -a))
        return dataclasses.replace(self.motion, bodies=(thrown,))

    def problem(self, *, seed: int) -> Any:
        """The video, and what films other laws."""
        from simengine.worlds.laws.from_video import LawMisfit

        return LawMisfit(self, seed=seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pix2ShapeSpec(AbstractPictureTask):
    """Learn shape from pictures alone: encoder, decoder of depth and critic, on random scenes that we render.

    Attributes:
        type: Tells the tasks apart.
        bodies: What stands on the floor: boxes and balls, or a chain of cubes.
        count: Boxes and balls in a scene, or cubes in a chain, then 4 to 8.
        size: Pixels along each side, a power of two.
        latent: Length of the code of a scene.
        width: Channels of the networks at half the size.
        iterations: Steps of Adam; a critic takes one on every fourth.
        batch: Scenes a step, each new and seen from two places.
        learning_rate: Of Adam; falls to 0 by a half cosine.
        azimuth: Cameras stand at most this far around the vertical to either side [degrees].
        elevation: Lowest and highest elevation of the cameras [degrees].
        novel_weight: Weight of the second picture of a scene, decoded from the code of the first.
        contrast_weight: Of telling which code belongs to the same scene (InfoNCE), not to a chain's mirror image.
        critic_weight: Of the adversarial term; 0 for no critic.
        range_weight: Of depths beyond what is possible.
        normals_weight: Of turns between neighbouring normals.
        edges_weight: Of steps of depth where the picture is even.
        test_scenes: Unseen scenes that depth is measured on.
        questions: Of each mental rotation test (3D-IQTT): which of three is the reference from another side.
    """

    type: Literal["pix2shape"] = "pix2shape"
    bodies: Literal["solids", "chain"] = "solids"
    count: Annotated[int, Range(ge=1, le=12)] = 1
    size: Annotated[int, Range(ge=16, le=256)] = 32
    latent: Annotated[int, Range(ge=2, le=1024)] = 64
    width: Annotated[int, Range(ge=4, le=256)] = 24
    iterations: Count = 1500
    batch: Annotated[int, Range(ge=2, le=1024)] = 12
    learning_rate: Positive = 2e-3
    azimuth: Annotated[float, Range(gt=0, le=180)] = 35.0
    elevation: tuple[Elevation, Elevation] = (50.0, 70.0)
    novel_weight: NonNegative = 0.5
    contrast_weight: NonNegative = 0.0
    critic_weight: NonNegative = 1e-4
    range_weight: NonNegative = 0.05
    normals_weight: NonNegative = 2e-2
    edges_weight: NonNegative = 2e-2
    test_scenes: Count = 48
    questions: Count = 300

    def __post_init__(self) -> None:
        if self.size & (self.size - 1):
            raise ValueError(f"size: expected a power of two, got {self.size}")
        if self.bodies == "chain" and not 4 <= self.count <= 8:
            raise ValueError(f"count: expected 4 to 8 cubes in a chain, got {self.count}")
        if not self.elevation[0] <= self.elevation[1]:
            raise ValueError(f"elevation: expected the lowest first, got {list(self.elevation)}")

    def problem(self, *, seed: int) -> Any:
        """Unseen scenes and the training."""
        from simengine.worlds.learned.pix2shape.training import Pix2ShapeProblem

        return Pix2ShapeProblem(self, seed=seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewSynthesisSpec(AbstractPictureTask):
    """Train a network that makes new views from a few pictures, with explicit visibility, on random scenes.

    Attributes:
        type: Tells the tasks apart.
        views: Pictures that are given.
        size: Pixels along each side, divisible by 4.
        bodies: Boxes and balls in a scene.
        visibility: Formulation used in training; all are measured afterwards.
        planes: Of depth.
        width: Channels of the network at full size, divisible by 4.
        coarse: Samples of a ray that find its depth.
        fine: Samples around it that give the colour.
        spread: The given cameras stand evenly over this angle around the vertical [degrees].
        elevation: Lowest and highest elevation of the cameras [degrees].
        iterations: Steps of Adam, each on a new scene.
        learning_rate: Of Adam; falls to 0 by a half cosine.
        depth_weight: Weight of how surprising the true depths of the given pictures are, known as we render them.
        test_scenes: Unseen scenes that the pictures are measured on.
        motion: A moving body, a scene of kind mpm, whose frames are seen from elsewhere afterwards; None for none.
        frames: Of it.
    """

    type: Literal["view_synthesis"] = "view_synthesis"
    views: Annotated[int, Range(ge=2, le=16)] = 4
    size: Annotated[int, Range(ge=16, le=1024)] = 48
    bodies: Annotated[int, Range(ge=1, le=16)] = 4
    visibility: Literal["shadow", "transmittance", "surfels", "none"] = "shadow"
    planes: Annotated[int, Range(ge=4, le=256)] = 24
    width: Annotated[int, Range(ge=4, le=256)] = 16
    coarse: Annotated[int, Range(ge=4, le=512)] = 32
    fine: Annotated[int, Range(ge=1, le=64)] = 4
    spread: Annotated[float, Range(gt=0, le=360)] = 75.0
    elevation: tuple[Elevation, Elevation] = (35.0, 55.0)
    iterations: Count = 500
    learning_rate: Positive = 3e-3
    depth_weight: NonNegative = 0.1
    test_scenes: Count = 12
    motion: MPMScene | None = None
    frames: Count = 6

    def __post_init__(self) -> None:
        if self.size % 4:
            raise ValueError(f"size: expected a multiple of 4, got {self.size}")
        if self.width % 4:
            raise ValueError(f"width: expected a multiple of 4, got {self.width}")
        if not self.elevation[0] <= self.elevation[1]:
            raise ValueError(f"elevation: expected the lowest first, got {list(self.elevation)}")
        if self.motion is not None and self.motion.grid.num_steps % self.frames:
            steps = self.motion.grid.num_steps
            raise ValueError(f"frames: {self.frames} does not divide the {steps} steps of the motion")

    def problem(self, *, seed: int) -> Any:
        """Unseen scenes and the training."""
        from simengine.worlds.learned.views_from_few.training import ViewSynthesisProblem

        return ViewSynthesisProblem(self, seed=seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SVBRDFSpec(AbstractPictureTask):
    """Train a network that tells the maps of a material from one flash picture, on procedural materials.

    Attributes:
        type: Tells the tasks apart.
        size: Texels along each side, divisible by 8.
        width: Channels of the network at full size.
        iterations: Steps of Adam that train it.
        batch: Materials a step, each new.
        learning_rate: Of Adam; falls to 0 by a half cosine.
        maps_weight: Weight of the squared error of the maps over their variances, beside the rendering loss.
        refine: Steps of Adam that make the answer of the network agree with the picture, from each start; 0 for none.
        test_samples: Unseen materials that the errors are measured on.
    """

    type: Literal["svbrdf"] = "svbrdf"
    size: Annotated[int, Range(ge=16, le=512)] = 32
    width: Annotated[int, Range(ge=4, le=256)] = 16
    iterations: Count = 3000
    batch: Count = 8
    learning_rate: Positive = 3e-3
    maps_weight: NonNegative = 1.5
    refine: Annotated[int, Range(ge=0, le=100_000)] = 150
    test_samples: Count = 64

    def __post_init__(self) -> None:
        if self.size % 8:
            raise ValueError(f"size: expected a multiple of 8, got {self.size}")

    def problem(self, *, seed: int) -> Any:
        """Unseen materials and the training."""
        from simengine.worlds.learned.svbrdf.training import SVBRDFProblem

        return SVBRDFProblem(self, seed=seed)


PictureTask = FlameImageSpec | LawVideoSpec | Pix2ShapeSpec | ViewSynthesisSpec | SVBRDFSpec
