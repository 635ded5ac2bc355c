"""Photographs by a camera that stands still, each under another far lamp: photometric stereo."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch

from simengine.io.pictures import read_stills
from simengine.io.tables import read_table
from simengine.observe.columns import take
from simengine.observe.mirror_ball import lamp_directions
from simengine.render.brdf import PhongMaterial
from simengine.scene.asks import Ask, View
from simengine.scene.base import SceneError
from simengine.scene.instrument import AbstractInstrument, Measured, files_like
from simengine.scene.noise import held_out
from simengine.scene.strict import NonNegative, Only, Positive, resolve_path

DARK = 1e-4  # of full scale: below, a response has no slope that tells anything


@dataclasses.dataclass(frozen=True, kw_only=True)
class MirrorBall:
    """Photographs of a mirror ball in the place of the surface, under the same lamps in the same order.

    Attributes:
        file: With a star for the number.
        mask: Picture of where the ball is; bright is inside.
    """

    file: str
    mask: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class FarLamps:
    """Lamps at infinity, one for each picture.

    Attributes:
        type: Kind of light.
        file: A table with a row for each lamp.
        columns: `direction`: the three columns of the direction to the lamp (right, up, to the camera).
        mirror: A mirror ball, whose highlights tell the directions.
        direction: To each lamp; need not be of length 1 [1].
        irradiance: Of each lamp, relative [1].
        ambient: Light from all sides while a lamp burns, by walls and table that it meets, in the unit of `irradiance`
            [1].
    """

    type: Literal["directional"] = "directional"
    file: str = ""
    columns: Annotated[dict[str, tuple[str, ...]], Only("direction")] = dataclasses.field(default_factory=dict)
    mirror: MirrorBall | None = None
    direction: tuple[tuple[float, float, float], ...] = ()
    irradiance: tuple[Positive, ...] = ()
    ambient: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lamps(AbstractInstrument):
    """Photographs under far lamps of a surface: value = (albedo (E max(0, n . l) + ambient) + E highlight)^(1/gamma).

    E is the irradiance of the lamp, highlight = gloss max(0, r . v)^shininess with r the mirror image of the direction
    l about the normal n, and v the way to the camera (Phong 1975).

    Attributes:
        light: The lamps, in the order of the pictures.
        mask: Picture of the pixels that count; bright is inside.
        gloss: What a highlight has in its middle, the same for the whole surface, of the irradiance [1].
        shininess: Exponent of the gloss; half as bright is where r misses the camera by sqrt(2 ln 2/shininess)
            rad [1].
        gamma: Of the pictures, after what is taken off by `response` [1].
        saturated: Values of 8 bits from here up are left out [1].
        dark: Values of 8 bits below this are left out, as in shadows, which hold light of the room [1].
    """

    type: Literal["lamps"] = "lamps"
    rows_alone: ClassVar[bool] = True
    light: FarLamps
    mask: str
    gloss: NonNegative = 0.0
    shininess: Positive = 10.0
    gamma: Positive = 1.0
    saturated: Positive = 250.0
    dark: NonNegative = 0.0
    size: tuple[int, int] = dataclasses.field(default=(0, 0), metadata={"internal": True})

    def read(self, *, before: float = 0.0) -> Measured:
        """A row for each picture and pixel of the mask: the mean of its channels, as a share of full scale."""
        paths = files_like(self.file, self.directory, key=f"observations.{self.name}.file")
        try:
            pictures = read_stills(paths)
            mask = read_stills([self.directory / self.mask]).values[0].mean(-1) > 0.5
        except ValueError as error:
            raise SceneError(f"observations.{self.name}: {error}") from None
        grey = torch.from_numpy(pictures.values.mean(-1))
        if mask.shape != tuple(grey.shape[1:]):
            raise SceneError(
                f"observations.{self.name}.mask: {mask.shape}, and the pictures are {tuple(grey.shape[1:])}"
            )
        if not mask.any():
            raise SceneError(f"observations.{self.name}.mask: {self.mask}: nothing in it is bright")
        rows, columns = torch.from_numpy(mask).nonzero(as_tuple=True)
        values = grey[:, rows, columns].reshape(-1, 1)
        bright = torch.from_numpy(pictures.values.max(-1))[:, rows, columns].reshape(-1, 1) * 255 >= self.saturated
        shadow = values * 255 < self.dark
        lost = bright | shadow
        number = torch.arange(len(paths), dtype=torch.float64)
        try:
            out = held_out(self.hold_out, ("value",), number, (len(paths), 1))
        except ValueError as error:
            raise SceneError(f"observations.{self.name}.{error}") from None
        return Measured(
            values=torch.where(lost, torch.nan, values),
            names=("value",),
            units=("1",),
            at={
                "picture": number.repeat_interleave(len(rows)),
                "row": rows.double().repeat(len(paths)),
                "column": columns.double().repeat(len(paths)),
            },
            mask=~lost,
            held_out=out.repeat_interleave(len(rows), 0),
            sigma=torch.full_like(values, torch.nan),
            files=pictures.hashes,
            notes=tuple(
                f"{int(part.sum())} {name} values are left out"
                for name, part in (("saturated", bright), ("dark", shadow))
                if bool(part.any())
            ),
        )

    def _mirrored(self, ball: MirrorBall, key: str) -> tuple[tuple[float, float, float], ...]:
        """Directions by the highlights of a mirror ball."""
        paths = files_like(ball.file, self.directory, key=f"{key}.file")
        try:
            pictures = read_stills(paths).values.mean(-1)
            mask = read_stills([self.directory / ball.mask]).values[0].mean(-1) > 0.5
            if mask.shape != pictures.shape[1:]:
                raise ValueError(f"mask {mask.shape}, and the pictures are {pictures.shape[1:]}")
            found = lamp_directions(pictures, mask)
        except ValueError as error:
            raise SceneError(f"{key}: {error}") from None
        return tuple((float(x), float(y), float(z)) for x, y, z in found)

    def prepared(self, measured: Measured) -> "Lamps":
        """With the lamps of the file, and the size of the pictures."""
        count = int(measured.at["picture"].max()) + 1
        light = self.light
        key = f"observations.{self.name}.light"
        told = [name for name in ("file", "mirror", "direction") if getattr(light, name)]
        if len(told) > 1:
            raise SceneError(f"{key}: {' and '.join(told)} each tell the directions; leave one of them")
        if light.mirror is not None:
            light = dataclasses.replace(light, direction=self._mirrored(light.mirror, f"{key}.mirror"))
        if light.file:
            names = light.columns.get("direction", ())
            if len(names) != 3:
                raise SceneError(f"{key}.columns.direction: expected the names of three columns, got {list(names)}")
            try:
                raw = read_table(resolve_path(light.file, self.directory))
                found = [take(raw, name, key=f"{key}.columns.direction")[0].tolist() for name in names]
            except (OSError, ValueError) as error:
                raise SceneError(f"{key}.file: {str(error).removeprefix(f'{key}.')}") from None
            light = dataclasses.replace(light, direction=tuple(zip(*found, strict=True)))
        if len(light.direction) != count:
            raise SceneError(f"{key}: {len(light.direction)} lamps for {count} pictures")
        light = dataclasses.replace(
            light, irradiance=light.irradiance or (1.0,) * count, ambient=light.ambient or (0.0,) * count
        )
        for name, own in (("irradiance", light.irradiance), ("ambient", light.ambient)):
            if len(own) != count:
                raise SceneError(f"{key}.{name}: {len(own)} lamps for {count} pictures")
        size = tuple(read_stills([self.directory / self.mask]).values.shape[1:3])
        return dataclasses.replace(self, light=light, size=size)

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """The normals, as the one camera sees them."""
        still = torch.eye(4, dtype=torch.float64)[None]
        return (
            View(
                intrinsics=torch.zeros(1, 4, dtype=torch.float64),
                world_to_camera=still,
                size=self.size,
                channels=("albedo_normal",),
            ),
        )

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """Lambert's shading and Phong's gloss through the response of the camera."""
        at = {name: column.long() for name, column in measured.at.items()}
        direction = torch.nn.functional.normalize(torch.tensor(self.light.direction, dtype=torch.float64), dim=1)
        irradiance = torch.tensor(self.light.irradiance, dtype=torch.float64)[at["picture"]][:, None]
        around = torch.tensor(self.light.ambient, dtype=torch.float64)[at["picture"]][:, None]
        seen = answers[0][0][at["row"], at["column"]]
        albedo = (seen.square().sum(1, keepdim=True) + DARK**2).sqrt()  # smooth where it is zero
        paint = PhongMaterial(albedo=albedo, diffuse=1.0, specular=self.gloss, shininess=self.shininess)
        sent = paint.reflectance(seen / albedo, seen.new_tensor([0.0, 0.0, 1.0]), direction[at["picture"]])
        light = irradiance * sent + albedo * around
        return self.shown(light.clamp_min(DARK) ** (1 / self.gamma))

    def write(self, file: Path, measured: Measured) -> None:
        """Refused: pictures are not written yet."""
        raise SceneError(f"observations.{self.name}: photographs under lamps are read, and not written yet")


def pictures_of(values: torch.Tensor, measured: Measured, size: tuple[int, int]) -> Any:
    """Values by row as pictures (pictures, h, w), NaN where nothing is."""
    count = int(measured.at["picture"].max()) + 1
    images = torch.full((count, *size), torch.nan, dtype=torch.float64)
    images[tuple(measured.at[name].long() for name in ("picture", "row", "column"))] = values[:, 0]
    return images
