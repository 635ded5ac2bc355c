"""Pictures - videos, photographs, masks, depths - against what their camera should have seen of the world."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch

from simengine.io.pictures import Pictures as Series
from simengine.io.pictures import read_series, write_series
from simengine.io.units import to_si
from simengine.observe.camera import Camera
from simengine.observe.image_math import Segment, coarsened, normalised, shrunk, slopes
from simengine.render.camera import PinholeCamera
from simengine.render.lens import picture_through, pinhole_covering
from simengine.render.tone import decode_srgb, encode_srgb
from simengine.scene.asks import Ask, View
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.instrument import AbstractInstrument, Measured
from simengine.scene.strict import Count, Positive, Range, Vector
from simengine.solve.correlation import correlation_time

_COLUMNS = {
    "photometric": ("r", "g", "b"),
    "silhouette": ("alpha",),
    "depth": ("depth",),
    "gradients": ("slope_x", "slope_y"),
    "correlation": ("grey",),
}
Background = Vector | str
Compared = Literal["photometric", "silhouette", "depth", "gradients", "correlation"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures(AbstractInstrument):
    """A video, or a series of stills, of one camera.

    Attributes:
        camera: Who sees it.
        compare: photometric (R, G, B), silhouette (how much of a pixel is covered), depth [m], gradients (slopes of the
            luminance), or correlation (luminance of each picture but for gain and offset).
        times: Of the pictures [s]; those of the video's frames where left out.
        fps: Frames a second instead, the first at 0 [1/s].
        frames: For `simengine observe`: how many; until the end of the run where left out.
        every: Of the file's pictures every n-th is read.
        shrink: Pixels along each side that are averaged into one.
        within: { time = [from, to] } that is compared, in the file's time [s].
        response: How light became numbers: srgb, linear, gamma; `file` for what its kind says.
        gamma: Exponent of a response by gamma [1].
        exposure: Recorded light per light of the world [1].
        white: Of R, G, B over that [1].
        appearance: `world` for the colours of the bodies as they are; `fitted`, where the light is not known: times
            what fits best among soft lights from all sides, for each channel.
        background: What is behind the bodies, as the file shows it: a colour, a picture, `first` (the first picture,
            which shows no body), `median` (over all pictures); without it a wall of one colour that fits best [1].
        segment: For silhouettes out of colours; without it the file is a mask (or has one as its opacity).
        mask: A picture that is white where pixels count.
        saturated: Share of full scale from which a value tells nothing [1].
        unit: Of depths.
        pyramid: Halvings of the resolution at which a fit begins.
        renderer: For `simengine observe`: own, or raycast.
    """

    type: Literal["pictures", "video", "views"] = "pictures"
    camera: Camera
    compare: Compared = "photometric"
    times: tuple[float, ...] = ()
    fps: Positive | None = None
    frames: Count | None = None
    every: Count = 1
    shrink: Count = 1
    within: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    response: Literal["file", "srgb", "linear", "gamma"] = "file"
    gamma: Positive = 2.2
    exposure: Positive = 1.0
    white: Annotated[Vector, Range(gt=0)] = (1.0, 1.0, 1.0)
    appearance: Literal["world", "fitted"] = "world"
    background: Background | None = None
    segment: Segment | None = None
    mask: str = ""
    saturated: Annotated[float, Range(gt=0, le=1)] | None = None
    unit: str = "m"
    pyramid: Annotated[int, Range(ge=0, le=8)] = 0
    renderer: Literal["own", "raycast"] = "own"
    recording: bool = dataclasses.field(default=False, metadata={"internal": True}, compare=False, repr=False)
    made: Any = dataclasses.field(default=None, metadata={"internal": True}, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.compare in ("gradients", "correlation") and self.background is None:
            raise ValueError(f"background: compare = {self.compare!r} needs to know what is behind the bodies")

    @property
    def path(self) -> Path:
        """The file, a folder, or a path with stars."""
        if "*" in self.file or "?" in self.file:
            return self.located
        return super().path

    # what was measured

    def read(self, *, before: float = 0.0) -> Measured:
        """Rows are picture by picture, from the left upper corner line by line."""
        try:
            series = read_series(self.path, every=self.every)
            moments = self._moments(series)
            values, shape = self._compared(series)
        except SceneError:
            raise
        except ValueError as error:
            raise SceneError(f"observations.{self.name}: {error}") from None
        frames, height, width, columns = shape
        if self.background == "first":
            moments = moments if moments is None else moments[1:]
        rows = frames * height * width
        keep = torch.ones(frames, dtype=torch.bool)
        notes: list[str] = []
        at: dict[str, torch.Tensor] = {}
        if moments is not None:
            keep = (moments - self.start) * self.clock_rate >= -before
            if not bool(keep.all()):
                notes.append(f"{int((~keep).sum())} pictures before the start are left out")
            if "time" in self.within:
                low, high = self.within["time"]
                keep &= (moments >= float(low)) & (moments <= float(high))
            at["time"] = moments.repeat_interleave(height * width)
        flat = values.reshape(rows, columns)
        names = _COLUMNS[self.compare]
        every = keep.repeat_interleave(height * width)
        own = list(self._hashes(series))
        mask, out = self._masked(flat, names, at.get("time"), every, own if len(own) == frames else ())
        return Measured(
            values=flat,
            names=names,
            units=("m" if self.compare == "depth" else "1",) * columns,
            at=at,
            mask=mask,
            held_out=out,
            sigma=torch.full_like(flat, torch.nan),
            files=self._hashes(series),
            notes=tuple(notes),
            shape=(frames, height, width),
        )

    def _hashes(self, series: Series) -> dict[str, str]:
        skip = 1 if self.background == "first" and len(series.hashes) > 1 else 0
        return dict(list(series.hashes.items())[skip:])

    def _moments(self, series: Series) -> torch.Tensor | None:
        count = len(series.values)
        if self.times:
            if len(self.times) != count:
                raise ValueError(f"times: {len(self.times)} for {count} pictures")
            moments = torch.tensor(self.times, dtype=torch.float64)
            if not bool((moments.diff() > 0).all()):
                raise ValueError("times: they must grow")
            return moments
        if self.fps is not None:
            return torch.arange(count, dtype=torch.float64) * (self.every / self.fps)
        return None if series.times is None else torch.from_numpy(series.times)

    def _light(self, series: Series) -> torch.Tensor:
        """Linear light of what the file stores, by the response."""
        stored = torch.from_numpy(series.values)
        if self.response == "gamma":
            return stored.clamp_min(0) ** float(self.gamma)
        srgb = self.response == "srgb" or (self.response == "file" and not series.linear)
        return decode_srgb(stored) if srgb else stored

    def _compared(self, series: Series) -> tuple[torch.Tensor, tuple[int, int, int, int]]:
        """What is compared of the file (f, h, w, columns), NaN where nothing is told."""
        stored = torch.from_numpy(series.values)
        if self.compare == "depth":
            full = 2.0**series.bits - 1 if series.bits else 1.0
            depth = stored[..., :1] * full * to_si(self.unit)[0]
            depth = torch.where((depth > 0) & depth.isfinite(), depth, torch.nan)
            depth = _middles(depth, self.shrink)
            return self._with_mask(depth), depth.shape  # type: ignore[return-value]
        light = shrunk(_three(self._light(series)), self.shrink)
        empty, light = self._empty(light, series)
        if self.compare == "silhouette":
            value = self._opacity(series, light, empty)[..., None]
        else:
            weight = torch.ones(light.shape[:3], dtype=torch.float64)
            value = self._transformed(light, self._with_mask(weight[..., None])[..., 0].nan_to_num())
        if self.saturated is not None and self.compare in ("photometric", "gradients"):
            top = shrunk((_three(stored) >= self.saturated).double(), self.shrink)[-len(light) :] > 0
            top = top if self.compare == "photometric" else top.any(-1, keepdim=True)
            value = torch.where(top, torch.nan, value)
        return self._with_mask(value), value.shape  # type: ignore[return-value]

    def _opacity(self, series: Series, light: torch.Tensor, empty: torch.Tensor | None) -> torch.Tensor:
        if self.segment is None:
            whole = series.alpha if series.alpha is not None else series.values.mean(-1)
            return shrunk(torch.from_numpy(whole)[..., None], self.shrink)[-len(light) :, ..., 0]
        as_shown = encode_srgb(light.clamp(0, 1))
        shown_empty = None if empty is None else encode_srgb(empty.clamp(0, 1))
        sharp = not series.colours_are_halved or self.shrink > 1
        return self.segment.opacity(as_shown, light, shown_empty, empty, sharp=sharp)

    def _empty(self, light: torch.Tensor, series: Series | None) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Light behind the bodies (h, w, 3), and the pictures that show bodies."""
        if self.background is None:
            return None, light
        if isinstance(self.background, tuple):
            shown = torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in self.background])
            linear = self.response == "linear" or (self.response == "file" and series is not None and series.linear)
            one = shown if linear else shown**self.gamma if self.response == "gamma" else decode_srgb(shown)
            return one.expand(*light.shape[1:3], 3), light
        if self.background == "first":
            if len(light) < 2:
                raise ValueError("background: `first` needs a picture beside the first")
            return light[0], light[1:]
        if self.background == "median":
            return light.median(0).values, light
        file = self.directory / Path(self.background).expanduser()
        picture = shrunk(_three(self._light(read_series(file))), self.shrink)[0]
        if picture.shape != light.shape[1:]:
            raise ValueError(
                f"background: {file.name} has another size ({picture.shape[1]} x {picture.shape[0]}) than the pictures"
            )
        return picture, light

    def _with_mask(self, value: torch.Tensor) -> torch.Tensor:
        if not self.mask:
            return value
        mask = read_series(self.directory / Path(self.mask).expanduser())
        white = shrunk(torch.from_numpy(mask.values.mean(-1))[..., None], self.shrink)[..., 0] > 0.5
        if white.shape[1:] != value.shape[1:3]:
            raise ValueError(f"mask: {self.mask} has another size than the pictures")
        return torch.where(white[..., None], value, torch.nan)

    # what should have been

    def prepared(self, measured: Measured) -> "Pictures":
        """With the camera's pose for each picture, the background, and the pinhole that covers a lens."""
        frames, height, width = measured.shape
        names = list(measured.files) if len(measured.files) == frames else [f"#{k}" for k in range(frames)]
        size = (height * self.shrink, width * self.shrink)
        try:
            camera = self.camera.opened(self.directory, size, names)
        except SceneError as error:
            raise SceneError(f"observations.{self.name}.{error}") from None
        made = dataclasses.replace(self, camera=camera)
        empty = light = None
        if self.background is not None and self.compare not in ("silhouette", "depth"):
            fitted = self.appearance == "fitted" and self.compare != "photometric"
            if isinstance(self.background, tuple) and not fitted:
                empty, _ = self._empty(torch.zeros(1, height, width, 3, dtype=torch.float64), None)
            else:
                series = read_series(self.path, every=self.every)
                empty, light = self._empty(shrunk(_three(self._light(series)), self.shrink), series)
        covering = None
        if (glass := camera.glass()) is not None:
            pinhole = pinhole_covering(made.pinholes(measured.shape)[0], glass)
            covering = (pinhole.intrinsics, pinhole.height, pinhole.width)
        return dataclasses.replace(made, made=Made(empty, light, covering, float(self.gamma)))

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

    def _channels(self) -> tuple[str, ...]:
        if self.compare == "silhouette":
            return ("alpha",)
        if self.compare == "depth":
            return ("depth", "alpha")
        return ("rgb", "alpha", "normal") if self.appearance == "fitted" else ("rgb", "alpha")

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """One view of all pictures."""
        frames, height, width = measured.shape
        cameras = self.pinholes(measured.shape)
        times = None
        if "time" in measured.at:
            times = self.scene_time(measured.at["time"].reshape(frames, -1)[:, 0])
        intrinsics, size = cameras.intrinsics, (height, width)
        if self.made is not None and self.made.covering is not None:
            pinhole, rows, columns = self.made.covering
            intrinsics, size = pinhole.expand(frames, 4), (rows, columns)
        return (
            View(
                intrinsics=intrinsics,
                world_to_camera=cameras.world_to_camera,
                size=size,
                times=times,
                channels=self._channels(),
                renderer=self.renderer,
            ),
        )

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """What the pictures should show, in the shape of what is compared."""
        seen = self._through_lens(answers[0], measured)
        shape = measured.shape
        if self.compare == "silhouette":
            return seen.reshape(-1, 1)
        if self.compare == "depth":
            return self._depth(seen, measured).reshape(-1, 1)
        light = self._recorded(seen, measured)
        weight = measured.mask.all(1).reshape(shape).to(light)
        return self._transformed(light, weight).reshape(-1, len(_COLUMNS[self.compare]))

    def _transformed(self, light: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if self.compare == "gradients":
            return slopes(light)
        if self.compare == "correlation":
            return normalised(light, weight)
        return light

    def _through_lens(self, seen: torch.Tensor, measured: Measured) -> torch.Tensor:
        glass = self.camera.glass()
        if glass is None or self.made is None or self.made.covering is None:
            return seen
        intrinsics, rows, columns = self.made.covering
        cameras = self.pinholes(measured.shape)
        frames = []
        for k, picture in enumerate(seen):
            pinhole = PinholeCamera(
                world_to_camera=cameras.world_to_camera[k], intrinsics=intrinsics, width=columns, height=rows
            )
            frames.append(picture_through(picture, pinhole, cameras[k], glass))
        return torch.stack(frames)

    def _depth(self, seen: torch.Tensor, measured: Measured) -> torch.Tensor:
        """Mixtures of the body's depth and of what lies behind it, so that the outline counts too."""
        depth, alpha = seen[..., 0], seen[..., 1]
        if self.recording:  # a sensor tells one surface, no mixture
            return torch.where(alpha > 0.5, self.shown(depth), 0.0)
        told = measured.values[:, 0].reshape(measured.shape)
        whole = told.nan_to_num()
        # where the body should be and is not, the least that can be said is that it is farther than all that is seen
        behind = torch.where(told.isnan(), depth, whole.amax((1, 2), keepdim=True))
        solid = torch.where(depth > 0, depth, whole)
        return self.shown(alpha * solid + (1 - alpha) * behind)

    def _recorded(self, seen: torch.Tensor, measured: Measured) -> torch.Tensor:
        """Linear light as the response of the file's reading tells it, (f, h, w, 3)."""
        gain = self.exposure * torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in self.white])
        own, alpha = seen[..., :3] * gain, seen[..., 3:4]
        if self.renderer != "own":
            return self._reread(own)  # the surroundings are in it
        empty = None if self.made is None else self.made.empty
        if empty is not None and self.response == "gamma" and self.made is not None:
            empty = empty ** (self.gamma / self.made.gamma)  # the file shows the wall, whatever the gamma
        terms = [own]
        if self.appearance == "fitted":
            turn = self.pinholes(measured.shape).rotation
            normal = torch.einsum("fhwc,fcd->fhwd", seen[..., 4:7], turn)  # of the world: the lamps stand still
            terms += [own * normal[..., k : k + 1] for k in range(3)]
        fixed = torch.zeros_like(own) if empty is None else (1 - alpha) * empty
        if empty is None:
            terms.append((1 - alpha).expand(own.shape))
        if self.appearance == "world" and empty is not None:
            return self._reread(own + fixed)
        return self._reread(self._best(terms, fixed, measured))

    def _best(self, terms: list[torch.Tensor], fixed: torch.Tensor, measured: Measured) -> torch.Tensor:
        """The combination of light that is nearest to the measured one, channel by channel."""
        known = 0 if self.appearance == "fitted" else 1
        which = measured.fitted.reshape(*measured.shape, -1).all(-1, keepdim=True).expand(fixed.shape)
        if self.compare == "photometric":
            target = measured.values.reshape(fixed.shape)
        else:
            assert self.made is not None
            target = self.made.light
        total = fixed if not known else fixed + terms[0]
        free = terms[known:]
        out = []
        for c in range(3):
            basis = torch.stack([term[..., c] for term in free], -1)
            used = which[..., c]
            a, b = basis[used], (target[..., c] - total[..., c])[used]
            gram = a.T @ a
            ridge = 1e-9 * gram.diagonal().amax().clamp_min(1e-12) * torch.eye(len(gram), dtype=gram.dtype)
            weights = torch.linalg.solve(gram + ridge, a.T @ b)
            out.append(total[..., c] + basis @ weights)
        return torch.stack(out, -1)

    def _reread(self, light: torch.Tensor) -> torch.Tensor:
        """What reading makes of light that was recorded with this gamma: gamma may be sought, the file is read once."""
        if self.response != "gamma" or self.made is None:
            return light
        return light.clamp_min(1e-12) ** (self.made.gamma / self.gamma)

    # for fits

    def smoothed(self, gap: torch.Tensor, measured: Measured, level: int) -> torch.Tensor:
        """Means over blocks of pixels: what a fit sees of a gap (rows, columns) before it looks closely."""
        shape = (*measured.shape, gap.shape[1])
        weight = measured.mask.reshape(shape).to(gap)
        return coarsened(gap.nan_to_num().reshape(shape), weight, level).reshape(gap.shape)

    def rows_as_one(self, residual: torch.Tensor, measured: Measured) -> float:
        """Neighbours along columns, rows and time are alike: the product of the three counts, and of the channels'."""
        columns = residual.shape[1]
        r = residual.reshape(*measured.shape, columns)
        count = 1.0
        for axis in range(3):
            count *= correlation_time(r.movedim(axis, 0).reshape(r.shape[axis], -1))
        known = r.nan_to_num()
        power = float(known.square().sum())
        alike = float(known.sum(-1).square().sum()) / power if power > 0 else 1.0
        return min(count * min(max(alike, 1.0), float(columns)), float(residual.shape[0]) / 2)

    def clusters(self, measured: Measured) -> torch.Tensor:
        """Some 36 tiles, each through all pictures: what a model misses at an outline it misses as long as it lasts."""
        _, height, width = measured.shape
        side = max(4, round((height * width) ** 0.5 / 6))
        rows, columns = (torch.arange(n) // side for n in (height, width))
        tiles = rows[:, None] * (int(columns.max()) + 1) + columns[None, :]
        return tiles.expand(measured.shape).reshape(-1)

    def doubts(self, measured: Measured, sizes: Mapping[str, float]) -> list[str]:
        """A depth in millimetres, a video in slow motion."""
        found = []
        if self.compare == "depth" and "m" in sizes:
            depth = float(measured.values[measured.mask].median())
            if depth > 300 * sizes["m"]:
                found.append(f'depths of {depth:.3g} m beside a world of {sizes["m"]:.3g} m; say unit = "mm"?')
        if "time" in measured.at and "s" in sizes:
            longest = float(measured.at["time"].max())
            if longest > 100 * sizes["s"]:
                found.append(f"time goes to {longest:.3g} s in a run of {sizes['s']:.3g} s; was it filmed faster?")
        return found

    def sheets(self, values: torch.Tensor, measured: Measured) -> dict[str, torch.Tensor]:
        """Measured and predicted pictures and their difference, (f, h, w, 1 or 3) in [0, 1], at most eight."""
        frames = measured.shape[0]
        some = torch.linspace(0, frames - 1, min(8, frames)).round().long()

        def pictures(flat: torch.Tensor) -> torch.Tensor:
            whole = flat.nan_to_num().reshape(*measured.shape, -1)[some]
            return whole if whole.shape[-1] in (1, 3) else whole.norm(dim=-1, keepdim=True)

        seen, told = pictures(measured.values), pictures(values)
        used = pictures(measured.mask.to(values))
        low, high = float(seen.min()), float(seen.max())
        if self.compare == "photometric":
            low, high = 0.0, max(1.0, high)
        scale = max(high - low, 1e-12)
        gap = 0.5 + 0.5 * used * (told - seen) / scale
        return {"measured": (seen - low) / scale, "fitted": (told - low) / scale, "difference": gap}

    # twins

    def planned(self, world: AbstractWorld, generator: torch.Generator) -> "tuple[Measured, Pictures]":
        """Pictures at the times of the scene, as the camera would record them."""
        camera = self.camera
        if camera.width is None or camera.height is None:
            raise SceneError(f"observations.{self.name}.camera: width and height say what is observed")
        recorded: Compared = "photometric"
        if self.compare == "depth" or (self.compare == "silhouette" and self.segment is None):
            recorded = self.compare
        background = self.background if isinstance(self.background, tuple) else (1.0, 1.0, 1.0)
        own = dataclasses.replace(
            self,
            compare=recorded,
            appearance="world",
            background=background,
            mask="",
            segment=None,
            every=1,
            recording=True,
        )
        moments = self._planned_times(world)
        frames, columns = 1 if moments is None else len(moments), len(_COLUMNS[recorded])
        height, width = camera.height // self.shrink, camera.width // self.shrink
        shape = (frames * height * width, columns)
        at = {} if moments is None else {"time": moments.repeat_interleave(height * width)}
        measured = Measured(
            values=torch.zeros(shape, dtype=torch.float64),
            names=_COLUMNS[recorded],
            units=("1",) * columns,
            at=at,
            mask=torch.ones(shape, dtype=torch.bool),
            held_out=torch.zeros(shape, dtype=torch.bool),
            sigma=torch.full(shape, torch.nan, dtype=torch.float64),
            shape=(frames, height, width),
        )
        return measured, own.prepared(measured)

    def _planned_times(self, world: AbstractWorld) -> torch.Tensor | None:
        if self.times:
            return torch.tensor(self.times, dtype=torch.float64)
        if self.fps is None:
            return None
        last = world.sizes().get("s", 0.0)
        count = self.frames or int((last / self.clock_rate + self.start) * self.fps + 1e-9) + 1
        return torch.arange(count, dtype=torch.float64) / self.fps

    def write(self, file: Path, measured: Measured) -> None:
        """Pictures as the suffix says: 8 bit in png and mp4, floats in exr and npy."""
        values = measured.values.reshape(*measured.shape, -1)
        floats = file.suffix.lower() in (".npy", ".exr")
        if self.compare == "depth" and not floats:
            raise SceneError(f"observations.{self.name}.file: depth is written as .npy or .exr, got {file.name}")
        if floats:
            scale = 1 / to_si(self.unit)[0] if self.compare == "depth" else 1.0
            write_series(file, (values * scale).numpy(), fps=self.fps)
            return
        shown = values.clamp(0, 1)
        if self.compare != "silhouette":
            if self.response == "gamma":
                shown = shown ** (1 / self.gamma)
            elif self.response != "linear":
                shown = encode_srgb(shown)
        eight = (255 * shown).round().numpy().astype(np.uint8)
        write_series(file, eight, fps=self.fps)


@dataclasses.dataclass(frozen=True)
class Made:
    """What pictures take from their data once.

    Attributes:
        empty: Light behind the bodies, (h, w, 3), or None.
        light: Of the pictures, (f, h, w, 3), where what is compared is not light itself; or None.
        covering: Intrinsics, rows and columns of the pinhole whose picture a lens bends; None without a lens.
        gamma: With which the file was read.
    """

    empty: torch.Tensor | None
    light: torch.Tensor | None
    covering: tuple[torch.Tensor, int, int] | None
    gamma: float


def _three(light: torch.Tensor) -> torch.Tensor:
    return light if light.shape[-1] == 3 else light.expand(*light.shape[:3], 3)


def _middles(depth: torch.Tensor, factor: int) -> torch.Tensor:
    """Depth in the middle of each block: means over an outline are no depth."""
    half = factor // 2
    rows, columns = (n // factor * factor for n in depth.shape[1:3])
    return depth[:, half:rows:factor, half:columns:factor]
