"""What a scene says of pictures, and what is made of it once."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch

from simengine.observe.camera import Camera
from simengine.observe.image_math import Segment
from simengine.observe.response_curve import CameraResponse
from simengine.render.camera import PinholeCamera
from simengine.scene.instrument import AbstractInstrument
from simengine.scene.strict import Count, NonNegative, Only, Positive, Range, Vector, without_effect

COLUMNS: dict[str, tuple[str, ...]] = {
    "photometric": ("r", "g", "b"),
    "silhouette": ("alpha",),
    "depth": ("depth",),
    "gradients": ("slope_x", "slope_y"),
    "correlation": ("grey",),
    "flow": ("u", "v"),
}
CARRIED = ("first", "texture")  # appearances that the pictures tell themselves
Background = Vector | str
Compared = Literal["photometric", "silhouette", "depth", "gradients", "correlation", "flow"]


@dataclasses.dataclass(frozen=True)
class Made:
    """What pictures take from their data once.

    Attributes:
        empty: Light behind the bodies, (h, w, 3), or None.
        light: Of the pictures, (f, h, w, 3), where what is compared is not light itself; or None.
        covering: Intrinsics, rows and columns of the pinhole whose picture a lens bends; None without a lens.
        response: With which the file was read.
    """

    empty: torch.Tensor | None
    light: torch.Tensor | None
    covering: tuple[torch.Tensor, int, int] | None
    response: CameraResponse


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureSettings(AbstractInstrument):
    """What a scene says of a video, or of a series of stills, of one camera.

    Attributes:
        camera: Who sees it.
        compare: photometric (R, G, B), silhouette (how much of a pixel is covered), depth [m], gradients (slopes of the
            luminance), correlation (luminance of each picture but for gain and offset), or flow (how far what a pixel
            shows moves to the next picture: right, down [px]; of .flo or .npy files (h, w, 2), or found in pictures).
        times: Of the pictures [s]; those of the video's frames where left out.
        fps: Frames a second instead, the first at 0 [1/s].
        frames: For `simengine observe`: how many; until the end of the run where left out.
        every: Of the file's pictures every n-th is read.
        shrink: Pixels along each side that are averaged into one.
        within: { time = [from, to] } that is compared, in the file's time [s].
        response: How light became numbers: srgb, linear, gamma; `file` for what its kind says.
        gamma: Exponent of a response by gamma [1].
        curve: What bends that response, whichever it is: from dark to full scale the logarithm of its slope changes by
            these numbers times Chebyshev's polynomials of the first, second, ... order; it grows whatever they are. A
            camera of unknown response has two or three that are sought [1].
        exposure: Recorded light per light of the world [1].
        white: Of R, G, B over that [1].
        vignetting: What the light of the bodies grows by, times the second, fourth, ... power of the distance from the
            principal point over half the diagonal [1].
        shutter: How long it is open, from the time of the picture on: what moves is blurred [s].
        read_out: From the first row to the last, each of which opens later than the one above: a rolling shutter [s].
        moments: How many of both are looked at; about as many as the pixels by which a body moves meanwhile.
        aperture: Diameter of the lens: what is out of focus is blurred, by 16 places on it [m].
        focus: Depth at which all is sharp [m].
        appearance: `world` for the colours of the bodies as they are; `fitted`, where the light is not known: times
            what fits best among soft lights from all sides, for each channel; `first` for those that the first picture
            shows of them, which their material carries along; `texture` for those that fit all pictures best.
        background: What is behind the bodies, as the file shows it: a colour, a picture, `first` (the first picture,
            which shows no body), `median` (over all pictures); without it a wall of one colour that fits best [1].
        segment: For silhouettes out of colours; without it the file is a mask (or has one as its opacity).
        mask: A picture that is white where pixels count.
        saturated: Share of full scale from which a value tells nothing [1].
        unit: Of depths.
        pyramid: Halvings of the resolution at which a fit begins.
        renderer: For `simengine observe`: own, or raycast.
    """

    folders: ClassVar[bool] = True
    camera: Camera
    compare: Compared = "photometric"
    times: tuple[float, ...] = ()
    fps: Positive | None = None
    frames: Count | None = None
    every: Count = 1
    shrink: Count = 1
    within: Annotated[dict[str, tuple[Any, Any]], Only("time")] = dataclasses.field(default_factory=dict)
    response: Literal["file", "srgb", "linear", "gamma"] = "file"
    gamma: Positive = 2.2
    curve: tuple[float, ...] = ()
    exposure: Positive = 1.0
    white: Annotated[Vector, Range(gt=0)] = (1.0, 1.0, 1.0)
    vignetting: tuple[float, ...] = ()
    shutter: NonNegative = 0.0
    read_out: NonNegative = 0.0
    moments: Annotated[int, Range(ge=2)] = 8
    aperture: NonNegative = 0.0
    focus: Positive = 1.0
    appearance: Literal["world", "fitted", "first", "texture"] = "world"
    background: Background | None = None
    segment: Segment | None = None
    mask: str = ""
    saturated: Annotated[float, Range(gt=0, le=1)] | None = None
    unit: str = "m"
    pyramid: Annotated[int, Range(ge=0, le=8)] = 0
    renderer: Literal["own", "raycast"] = "own"
    recording: bool = dataclasses.field(default=False, metadata={"internal": True}, compare=False, repr=False)
    made: Made | None = dataclasses.field(default=None, metadata={"internal": True}, compare=False, repr=False)

    def __post_init__(self) -> None:
        without_effect(self, "gain", "offset", where="pictures, whose light is scaled by `exposure`")
        if self.compare in ("gradients", "correlation") and self.background is None:
            raise ValueError(f"background: compare = {self.compare!r} needs to know what is behind the bodies")
        if self.shutter == self.read_out == 0:
            without_effect(self, "moments", where="shutter = 0 and read_out = 0")
        if self.aperture == 0:
            without_effect(self, "focus", where="aperture = 0")
        if self.compare in ("silhouette", "depth", "flow"):
            without_effect(self, "appearance", where=f"compare = {self.compare!r}, which shows no colours")
        if self.compare == "flow":
            without_effect(self, "background", where="compare = 'flow', whose wall stands still")
        if self.appearance in CARRIED:
            without_effect(self, "exposure", "white", "vignetting", where=f"appearance = {self.appearance!r}")
        one = {"depth": "a depth is of one surface", "flow": "a flow is of one place a pixel"}.get(self.compare)
        one = one or {"fitted": "fitted light needs one normal a pixel"}.get(self.appearance)
        one = one or ("colours are of one place a pixel" if self.appearance in CARRIED else None)
        mixing = next((name for name in ("shutter", "read_out", "aperture") if getattr(self, name) > 0), "")
        if one is not None and mixing:
            raise ValueError(f"{mixing}: pictures are averaged, and {one}; leave {mixing} out")

    @property
    def path(self) -> Path:
        """The file, a folder, or a path with stars."""
        if "*" in self.file or "?" in self.file:
            return self.located
        return super().path

    def responding(self, *, linear: bool) -> CameraResponse:
        """The response as these numbers have it, which may be tensors.

        Args:
            linear: Whether the file's kind holds linear light.
        """
        base = self.response if self.response != "file" else "linear" if linear else "srgb"
        return CameraResponse(base, self.gamma, self.curve)

    def pinholes(self, shape: tuple[int, ...]) -> PinholeCamera:
        """The cameras of the pictures, a batch."""
        frames, height, width = shape
        size = (height * self.shrink, width * self.shrink)
        return PinholeCamera(
            world_to_camera=self.camera.world_to_camera(frames),
            intrinsics=self.camera.intrinsics(size, frames) / self.shrink,
            width=width,
            height=height,
        )
