"""Photographs of a flat sample by a camera with a flash beside its lens, rectified to the plane of the sample."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch

from simengine.io.image import from_srgb
from simengine.io.pictures import read_stills, write_series
from simengine.io.tables import read_table
from simengine.observe.columns import take
from simengine.scene.asks import Ask, View
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.instrument import AbstractInstrument, Measured
from simengine.scene.noise import held_out
from simengine.scene.strict import Count, Only, Positive, resolve_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eyes:
    """Where the lens, and the flash in it, stood for each picture, in the order of the pictures.

    Attributes:
        file: A table with a row for each picture.
        columns: `eye`: the three columns of its place over the middle of the sample, as "x_cm [cm]".
        eye: Right, up and above [m].
    """

    file: str = ""
    columns: Annotated[dict[str, tuple[str, ...]], Only("eye")] = dataclasses.field(default_factory=dict)
    eye: tuple[tuple[float, float, float], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flashes(AbstractInstrument):
    """Rectified photographs under a flash: value = sRGB(intensity times radiance), its pixels are texels.

    Attributes:
        camera: Where it stood.
        intensity: Of the flash, in units in which radiance 1 is the white of the pictures [m^2].
        bin: So many rows and columns of pixels are one, their light averaged.
        saturated: Pixels with a value of 8 bits from here up are left out [1].
    """

    rows_alone: ClassVar[bool] = True
    type: Literal["flashes"] = "flashes"
    camera: Eyes
    intensity: Positive
    bin: Count = 1
    saturated: Positive = 252.0
    size: tuple[int, int] = dataclasses.field(default=(0, 0), metadata={"internal": True})

    def read(self, *, before: float = 0.0) -> Measured:
        """A row for each picture, texel and channel, as a share of full scale, encoded as sRGB."""
        paths = self.paths
        try:
            pictures = read_stills(paths)
        except ValueError as error:
            raise SceneError(f"observations.{self.name}: {error}") from None
        values = torch.from_numpy(pictures.values[..., :3])
        count, height, width = values.shape[:3]
        if height % self.bin or width % self.bin:
            raise SceneError(f"observations.{self.name}.bin: {self.bin} does not divide {height} x {width} pixels")
        rows, columns = height // self.bin, width // self.bin
        lost = (values.amax(-1) * 255 >= self.saturated).reshape(count, rows, self.bin, columns, self.bin)
        light = torch.from_numpy(from_srgb(values.numpy()))
        light = light.reshape(count, rows, self.bin, columns, self.bin, 3).mean((2, 4))
        bright = lost.any(4).any(2)[..., None].expand(count, rows, columns, 3).reshape(-1, 1)
        flat = _encoded(light.double()).reshape(-1, 1)
        number = torch.arange(count, dtype=torch.float64)
        try:
            out = held_out(self.hold_out, ("value",), number, (count, 1))
        except ValueError as error:
            raise SceneError(f"observations.{self.name}.{error}") from None
        each = rows * columns * 3
        return Measured(
            values=torch.where(bright, torch.nan, flat),
            names=("value",),
            units=("1",),
            at={
                "picture": number.repeat_interleave(each),
                "place": torch.arange(each, dtype=torch.float64).repeat(count),
            },
            mask=~bright,
            held_out=out.repeat_interleave(each, 0),
            sigma=torch.full_like(flat, torch.nan),
            files=pictures.hashes,
            notes=(f"{int(bright.sum())} values at saturated pixels are left out",) if bool(bright.any()) else (),
        )

    def prepared(self, measured: Measured) -> "Flashes":
        """With the places of the file, and the size of the pictures."""
        count = int(measured.at["picture"].max()) + 1
        camera = self._placed()
        if len(camera.eye) != count:
            raise SceneError(f"observations.{self.name}.camera: {len(camera.eye)} places for {count} pictures")
        height, width = read_stills(self.paths[:1]).values.shape[1:3]
        return dataclasses.replace(self, camera=camera, size=(height // self.bin, width // self.bin))

    def _placed(self) -> Eyes:
        """With the places that the file tells."""
        key, camera = f"observations.{self.name}.camera", self.camera
        if not camera.file:
            return camera
        names = camera.columns.get("eye", ())
        if len(names) != 3:
            raise SceneError(f"{key}.columns.eye: expected the names of three columns, got {list(names)}")
        try:
            raw = read_table(resolve_path(camera.file, self.directory))
            found = [take(raw, name, key=f"{key}.columns.eye")[0].tolist() for name in names]
        except (OSError, ValueError) as error:
            raise SceneError(f"{key}.file: {str(error).removeprefix(f'{key}.')}") from None
        return dataclasses.replace(camera, eye=tuple(zip(*found, strict=True)))

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """A rectified view from each place."""
        poses = torch.eye(4, dtype=torch.float64).repeat(len(self.camera.eye), 1, 1)
        poses[:, :3, 3] = -torch.tensor(self.camera.eye, dtype=torch.float64)
        none = torch.zeros(len(poses), 4, dtype=torch.float64)
        return (View(intrinsics=none, world_to_camera=poses, size=self.size, channels=("flash",)),)

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """The radiance as the pictures hold it."""
        light = answers[0].flatten(1)[measured.at["picture"].long(), measured.at["place"].long()]
        return self.shown(_encoded(self.intensity * light)[:, None])

    def planned(self, world: AbstractWorld, generator: torch.Generator) -> "tuple[Measured, Flashes]":
        """A picture from each place; `bin` pixels along each side of a texel of the scene.

        Raises:
            SceneError: The world has no texels, or nobody says where the lens stood.
        """
        camera, cells = self._placed(), getattr(getattr(world, "maps", None), "cells", None)
        if cells is None:
            raise SceneError(f"observations.{self.name}: only a flat sample (kind 'maps') is seen under a flash")
        if not camera.eye:
            raise SceneError(f"observations.{self.name}.camera: eye, or a file, says from where it is observed")
        rows, columns = (n * self.bin for n in cells)
        each, count = rows * columns * 3, len(camera.eye)
        values = torch.zeros(count * each, 1, dtype=torch.float64)
        measured = Measured(
            values=values,
            names=("value",),
            units=("1",),
            at={
                "picture": torch.arange(count, dtype=torch.float64).repeat_interleave(each),
                "place": torch.arange(each, dtype=torch.float64).repeat(count),
            },
            mask=torch.ones_like(values, dtype=torch.bool),
            held_out=torch.zeros_like(values, dtype=torch.bool),
            sigma=torch.full_like(values, torch.nan),
            shape=(count, rows, columns),
        )
        return measured, dataclasses.replace(self, camera=camera, size=(rows, columns))

    def write(self, file: Path, measured: Measured) -> None:
        """Pictures of 8 bits, with their number in place of the star."""
        pictures = (255 * measured.values.clamp(0, 1)).round().reshape(*measured.shape, 3).numpy().astype(np.uint8)
        try:
            write_series(file, pictures)
        except ValueError as error:
            raise SceneError(f"observations.{self.name}.file: {error}") from None


def _encoded(light: torch.Tensor) -> torch.Tensor:
    """Linear light as sRGB, going on beyond 1; its slope is finite at 0."""
    low = 12.92 * light
    return torch.where(light <= 0.0031308, low, 1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)
