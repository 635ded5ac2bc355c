"""Pictures - videos, photographs, masks, depths - against what their camera should have seen of the world."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from simengine.io.pictures import PictureSeries as Series
from simengine.io.pictures import read_series
from simengine.observe.image_math import coarsened, shrunk
from simengine.observe.instruments.picture_exposure import cameras_of, exposed, times_of
from simengine.observe.instruments.picture_places import flow_of
from simengine.observe.instruments.picture_reading import (
    compared,
    empty_of,
    holds_light,
    light_of,
    moments_of,
    series_of,
    three,
    transformed,
)
from simengine.observe.instruments.picture_response import depth_seen, recorded, through_lens
from simengine.observe.instruments.picture_settings import CARRIED, COLUMNS, Made, PictureSettings
from simengine.observe.instruments.picture_twin import planned, write
from simengine.render.lens import pinhole_covering
from simengine.scene.asks import Ask, View
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.instrument import Measured
from simengine.solve.correlation import correlation_time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures(PictureSettings):
    """A video, or a series of stills, of one camera."""

    type: Literal["pictures", "video", "views"] = "pictures"

    # what was measured

    def read(self, *, before: float = 0.0) -> Measured:
        """Rows are picture by picture, from the left upper corner line by line."""
        try:
            series = series_of(self)
            moments = moments_of(self, series)
            values, shape = compared(self, series)
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
        if self.compare == "flow":
            if moments is None:
                raise SceneError(f"observations.{self.name}: flow is of pictures at times; say `fps` or `times`")
            at["until"] = moments[1:].repeat_interleave(height * width)
            moments = moments[:-1]
        if moments is not None:
            keep = (moments - self.start) * self.clock_rate >= -before
            if not bool(keep.all()):
                notes.append(f"{int((~keep).sum())} pictures before the start are left out")
            if "time" in self.within:
                low, high = self.within["time"]
                keep &= (moments >= float(low)) & (moments <= float(high))
            at["time"] = moments.repeat_interleave(height * width)
        if self.appearance in CARRIED and not bool(keep[0]):
            raise SceneError(
                f"observations.{self.name}.appearance: {self.appearance!r} begins with the first picture, which does "
                "not count; cut the film, or mend `start` and `within`"
            )
        if self.appearance == "first":
            keep[0] = False
            notes.append("the first picture tells colours and is not compared")
        flat = values.reshape(rows, columns)
        names = COLUMNS[self.compare]
        every = keep.repeat_interleave(height * width)
        own = list(self._hashes(series))
        mask, out = self._masked(flat, names, at.get("time"), every, own if len(own) == frames else ())
        return Measured(
            values=flat,
            names=names,
            units=({"depth": "m", "flow": "px"}.get(self.compare, "1"),) * columns,
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
        if self.compare == "flow" and camera.shots:
            raise SceneError(f"observations.{self.name}.camera: flow is told of one camera that stands still")
        empty = light = None
        if self.background is not None and self.compare not in ("silhouette", "depth", "flow"):
            fitted = self.appearance != "world" and self.compare != "photometric"
            if isinstance(self.background, tuple) and not fitted:
                empty, _ = empty_of(self, torch.zeros(1, height, width, 3, dtype=torch.float64), None)
            else:
                series = read_series(self.path, every=self.every)
                empty, light = empty_of(self, shrunk(three(light_of(self, series)), self.shrink), series)
        covering = None
        if (glass := camera.glass()) is not None:
            pinhole = pinhole_covering(made.pinholes(measured.shape)[0], glass)
            covering = (pinhole.intrinsics, pinhole.height, pinhole.width)
        response = self.responding(linear=self.compare not in ("depth", "flow") and holds_light(self))
        return dataclasses.replace(made, made=Made(empty, light, covering, response))

    def _channels(self) -> tuple[str, ...]:
        if self.compare == "silhouette":
            return ("alpha",)
        if self.compare == "depth":
            return ("depth", "alpha")
        if self.compare == "flow" or self.appearance in CARRIED:
            return ("place", "alpha")
        return ("rgb", "alpha", "normal") if self.appearance == "fitted" else ("rgb", "alpha")

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """One view of all pictures; of flow, where what they show is now and at the next picture."""
        frames, height, width = measured.shape
        cameras = self.pinholes(measured.shape)
        times = None
        if "time" in measured.at:
            times = self.scene_time(measured.at["time"].reshape(frames, -1)[:, 0])
            times = times_of(self, times)
        size = (height, width)
        if self.made is not None and self.made.covering is not None:
            pinhole, rows, columns = self.made.covering
            size = (rows, columns)
            cameras = dataclasses.replace(cameras, intrinsics=pinhole.expand(frames, 4))
        cameras = cameras_of(self, cameras)
        first = times[:1].expand(len(times)) if times is not None and self.appearance in CARRIED else None
        view = View(
            intrinsics=cameras.intrinsics,
            world_to_camera=cameras.world_to_camera,
            size=size,
            times=times,
            channels=self._channels(),
            renderer=self.renderer,
            place_times=first,
        )
        if self.compare != "flow":
            return (view,)
        until = self.scene_time(measured.at["until"].reshape(frames, -1)[:, 0])
        return tuple(dataclasses.replace(view, place_times=when) for when in (times, until))

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """What the pictures should show, in the shape of what is compared."""
        seen = exposed(self, through_lens(self, answers[0], measured))
        if self.compare == "flow":
            then = through_lens(self, answers[1], measured)
            return flow_of(self, seen, then, measured).reshape(-1, 2)
        shape = measured.shape
        if self.compare == "silhouette":
            return seen.reshape(-1, 1)
        if self.compare == "depth":
            return depth_seen(self, seen, measured).reshape(-1, 1)
        light = recorded(self, seen, measured)
        weight = measured.mask.all(1).reshape(shape).to(light)
        return transformed(self, light, weight).reshape(-1, len(COLUMNS[self.compare]))

    # for fits

    def smoothed(self, gap: torch.Tensor, measured: Measured, level: int) -> torch.Tensor:
        """Means over blocks of pixels: what a fit sees of a gap (rows, columns) before it looks closely.

        A pixel that counts and has no answer leaves its block without one.
        """
        shape = (*measured.shape, gap.shape[1])
        counted = torch.where(measured.mask, gap, 0.0).reshape(shape)
        return coarsened(counted, measured.mask.reshape(shape).to(gap), level).reshape(gap.shape)

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

    def clusters(self, measured: Measured, finer: int = 1) -> torch.Tensor:
        """Some 36 tiles, each through all pictures: what a model misses at an outline it misses as long as it lasts."""
        _, height, width = measured.shape
        side = max(4 // finer, round((height * width) ** 0.5 / 6 / finer))
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
        measured, filming = planned(self, world)
        return measured, filming.prepared(measured)

    def write(self, file: Path, measured: Measured) -> None:
        """Pictures as the suffix says: 8 bit in png and mp4, floats in exr and npy."""
        write(self, file, measured)
