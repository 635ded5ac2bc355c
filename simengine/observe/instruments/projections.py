"""Projections: integrals of a volume along the rays of a parallel, fan or cone beam, view by view."""

import dataclasses
import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from simengine.io.arrays import read_npz
from simengine.io.pictures import read_stills
from simengine.io.tables import read_hdf5
from simengine.io.units import to_si
from simengine.observe.back_projection import filtered_back_projection
from simengine.scene.asks import Ask, Rays
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.instrument import AbstractInstrument, Measured
from simengine.scene.noise import held_out
from simengine.scene.strict import Count, Positive, Unit

MAX_BYTES = 16 << 30  # of a dataset
Metres = Annotated[float, Unit("m")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelBeam:
    """Rays side by side.

    At angle t the detector's elements follow one another along (cos t, sin t) and the rays run along (-sin t, cos t);
    rows of a detector with several go down, against z, which is the axis of turning.

    Attributes:
        pitch: From one element to the next [m]; negative where they follow one another the other way.
        row_pitch: From one row to the next [m]; `pitch` where it is left out.
        axis_offset: Where the axis meets the detector, from its middle along the elements [m].
        row_offset: Where z = 0 meets the detector, from its middle upwards [m].
        turn: Which way the views turn the rays about the axis, seen from +z.
        first_angle: Added to all angles [degrees].
    """

    type: Literal["parallel"] = "parallel"
    pitch: Metres
    row_pitch: Metres | None = None
    axis_offset: Metres = 0.0
    row_offset: Metres = 0.0
    turn: Literal["counterclockwise", "clockwise"] = "counterclockwise"
    first_angle: float = 0.0

    def __post_init__(self) -> None:
        if self.pitch == 0.0:
            raise ValueError("pitch: expected the distance between two elements, got 0")

    def rays(
        self, angles: torch.Tensor, row: torch.Tensor, element: torch.Tensor, size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Origins and unit directions of rays, (q, 3).

        Args:
            angles: Of their views, as in the file, (q,) [rad].
            row: Of the detector, (q,).
            element: Of the row, (q,).
            size: Rows and elements of the detector.
        """
        sense = 1.0 if self.turn == "counterclockwise" else -1.0
        t = sense * angles + math.radians(self.first_angle)
        u = (element - (size[1] - 1) / 2) * self.pitch - self.axis_offset
        row_pitch = abs(self.pitch) if self.row_pitch is None else self.row_pitch
        z = ((size[0] - 1) / 2 - row) * row_pitch - self.row_offset
        cos, sin, zero = t.cos(), t.sin(), torch.zeros_like(t)
        along = torch.stack((-sin, cos, zero), -1)
        return self._lines(torch.stack((u * cos, u * sin, z), -1), along)

    def _lines(self, place: torch.Tensor, along: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return place, along


@dataclasses.dataclass(frozen=True, kw_only=True)
class FanBeam(ParallelBeam):
    """Rays from a point to a flat detector; with several rows, a cone.

    The source stands at -`source_to_axis` along the rays of the parallel beam.

    Attributes:
        source_to_axis: From the source to the axis [m].
        source_to_detector: From the source to the detector [m].
    """

    type: Literal["fan"] = "fan"  # type: ignore[assignment]
    source_to_axis: Positive
    source_to_detector: Positive

    def _lines(self, place: torch.Tensor, along: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        source = -self.source_to_axis * along
        to = place + (self.source_to_detector - self.source_to_axis) * along - source
        return source, to / to.norm(dim=-1, keepdim=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Projections(AbstractInstrument):
    """Views of a detector, one row or many, at angles about the axis z.

    Attributes:
        columns: `values`: name of the array in an npz or HDF5 file, (views, elements) or (views, rows, elements), or
            one picture (rows, elements); `angle`: name of the array of angles, `"angles [deg]"`; `flat` and `dark`:
            pictures without the volume and without the beam.
        angles: [first, last] of evenly turned views, both counted [degrees], where the file has none.
        views: For `simengine observe`: how many.
        detector: Its rows and elements, for `simengine observe`; of a file they are found.
        values: What the file holds: integrals along rays (`minus_log` of transmission, or light that was gathered, as
            `plain`), `transmission`, or `counts` with columns `flat` and `dark`.
        quantity: Field that is integrated.
        geometry: Of the beam.
        beam_hardening: b of a beam that is not of one colour: p - b p^2 is seen of an integral p [1].
        every: Each so many-th view is taken.
        bin: So many rows and elements are one, their integrals averaged.
    """

    rows_alone: ClassVar[bool] = True
    type: Literal["projections"] = "projections"
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    angles: tuple[float, float] | None = None
    values: Literal["minus_log", "plain", "transmission", "counts"] = "minus_log"
    quantity: str = "attenuation"
    geometry: ParallelBeam | FanBeam
    beam_hardening: float = 0.0
    every: Count = 1
    bin: tuple[Count, Count] = (1, 1)
    detector: tuple[Count, Count] = (1, 1)
    views: Count | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.columns) - {"values", "angle", "flat", "dark"}:
            raise ValueError(f"columns: {sorted(unknown)[0]!r} is not one of values, angle, flat and dark")

    def read(self, *, before: float = 0.0) -> Measured:
        """Read the views: a row for each ray, view by view, row by row."""
        arrays, digest = _arrays(self._paths(), self.name)
        values = self._array(arrays, "values", sole=True).astype(np.float64)
        views = values[None, None] if values.ndim == 1 else values
        if views.ndim == 2:
            one_row = "angle" in self.columns or self.angles is not None
            views = views[:, None] if one_row else views[None]
        if views.ndim != 3:
            raise SceneError(
                f"observations.{self.name}.columns.values: expected (views, rows, elements), got {values.shape}"
            )
        angles = self._angles(arrays, len(views))
        notes: list[str] = []
        views = self._integrals(views, arrays, notes)
        views, angles = self._binned(views[:: self.every]), angles[:: self.every]
        shape = views.shape
        flat = torch.from_numpy(np.ascontiguousarray(views)).reshape(-1, 1)
        try:
            out = held_out(self.hold_out, ("values",), angles, (shape[0], 1))
        except ValueError as error:
            raise SceneError(f"observations.{self.name}.{error}") from None
        rays = math.prod(shape[1:])
        mask = flat.isfinite()
        if not bool(mask.any()):
            raise SceneError(f"observations.{self.name}: {self.file}: no value is a number")
        return Measured(
            values=torch.where(mask, flat, torch.nan),
            names=(self.quantity,),
            units=("1",),
            at=self._places(angles, shape[1], shape[2]),
            mask=mask,
            held_out=out.repeat_interleave(rays, 0),
            sigma=torch.full_like(flat, torch.nan),
            files=digest,
            notes=tuple(notes),
        )

    @staticmethod
    def _places(angles: torch.Tensor, rows: int, elements: int) -> dict[str, torch.Tensor]:
        """Angle [rad], row and element of each value."""
        views = len(angles)
        return {
            "angle": angles.repeat_interleave(rows * elements),
            "row": torch.arange(rows, dtype=torch.float64).repeat_interleave(elements).repeat(views),
            "element": torch.arange(elements, dtype=torch.float64).repeat(views * rows),
        }

    def _paths(self) -> list[Path]:
        if "*" not in self.file:
            return [self.path]
        found = sorted(self.directory.glob(self.file), key=lambda p: [int(n) for n in re.findall(r"\d+", p.name)])
        if not found:
            raise SceneError(f"observations.{self.name}.file: no file is like {self.file} in {self.directory}")
        return found

    def _array(self, arrays: dict[str, NDArray[Any]], role: str, *, sole: bool = False) -> NDArray[Any]:
        name = self.columns.get(role, "")
        if not name and sole and len(arrays) == 1:
            return next(iter(arrays.values()))
        header = name.partition("[")[0].strip()
        if header not in arrays:
            raise SceneError(
                f"observations.{self.name}.columns.{role}: {self.file} has no array {header!r}; "
                f"it has {', '.join(arrays)}"
            )
        if arrays[header].dtype.kind not in "fiub":
            raise SceneError(
                f"observations.{self.name}.columns.{role}: {header!r} holds {arrays[header].dtype}, no numbers"
            )
        return arrays[header]

    def _angles(self, arrays: dict[str, NDArray[Any]], views: int) -> torch.Tensor:
        """(views,) [rad]."""
        if spec := self.columns.get("angle"):
            unit = spec.partition("[")[2].rstrip("] ") or "rad"
            angles = self._array(arrays, "angle").astype(np.float64) * to_si(unit)[0]
        elif self.angles is not None:
            angles = np.radians(np.linspace(*self.angles, views))
        elif views == 1:
            angles = np.zeros(1)
        else:
            raise SceneError(f"observations.{self.name}: name the angles: columns.angle, or angles = [first, last]")
        if angles.shape != (views,):
            raise SceneError(f"observations.{self.name}.columns.angle: {angles.size} angles for {views} views")
        if np.ptp(angles) > 50.0:
            raise SceneError(f'observations.{self.name}.columns.angle: up to {angles.max():g} rad; add "[deg]"')
        return torch.from_numpy(np.ascontiguousarray(angles))

    def _integrals(self, views: NDArray[Any], arrays: dict[str, NDArray[Any]], notes: list[str]) -> NDArray[Any]:
        """What was seen as integrals; NaN where no light came through."""
        if self.values in ("minus_log", "plain"):
            return views
        share = views
        if self.values == "counts":
            if "flat" not in self.columns:
                raise SceneError(f"observations.{self.name}.columns: counts want the column `flat`")
            dark = self._field(arrays, "dark") if "dark" in self.columns else np.zeros(())
            share = (views - dark) / (self._field(arrays, "flat") - dark)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(share > 0, -np.log(share), np.nan)
        if lost := int(np.isnan(found).sum()):
            notes.append(f"{lost} values through which no light came are left out")
        return found

    def _field(self, arrays: dict[str, NDArray[Any]], role: str) -> NDArray[Any]:
        """A flat or dark picture; the mean of several."""
        field = self._array(arrays, role).astype(np.float64)
        return field.mean(0) if field.ndim == 3 else field

    def prepared(self, measured: Measured) -> "Projections":
        """With the size of its detector."""
        size = (int(measured.at["row"].max()) + 1, int(measured.at["element"].max()) + 1)
        return dataclasses.replace(self, detector=size)

    def shape(self, measured: Measured) -> tuple[int, int, int]:
        """Views, rows, elements."""
        rows, elements = self.detector
        return len(measured.values) // (rows * elements), rows, elements

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """A ray for each row."""
        r, e = self.bin
        row_pitch = abs(self.geometry.pitch) if self.geometry.row_pitch is None else self.geometry.row_pitch
        beam = dataclasses.replace(self.geometry, pitch=self.geometry.pitch * e, row_pitch=row_pitch * r)
        at = measured.at
        origins, directions = beam.rays(at["angle"], at["row"], at["element"], self.detector)
        return (Rays(origins=origins, directions=directions, quantity=self.quantity),)

    def _binned(self, views: NDArray[Any]) -> NDArray[Any]:
        r, e = self.bin
        v, rows, elements = views.shape
        if rows % r or elements % e:
            raise SceneError(
                f"observations.{self.name}.bin: {r} and {e} do not divide {rows} rows, {elements} elements"
            )
        binned: NDArray[Any] = views.reshape(v, rows // r, r, elements // e, e).mean((2, 4))
        return binned

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """The integrals, by beam hardening, gain and offset."""
        p = answers[0]
        return self.shown((p - self.beam_hardening * p.square())[:, None])

    def direct(
        self, key: str, measured: Measured, extent: Sequence[tuple[float, float]], shape: Sequence[int]
    ) -> tuple[str, torch.Tensor] | None:
        """A slice by filtered back-projection of the views that are fitted whole, axis and beam as they stand."""
        views, rows, _ = self.shape(measured)
        whole = measured.fitted.reshape(views, -1).all(1)
        if key.rpartition(".")[2] != self.quantity or rows != 1 or len(shape) != 2 or int(whole.sum()) < 2:
            return None
        g = self.geometry
        sense = 1.0 if g.turn == "counterclockwise" else -1.0
        angles = sense * measured.at["angle"].reshape(views, -1)[whole, 0] + math.radians(g.first_angle)
        axes = [
            low + (high - low) * (torch.arange(n, dtype=torch.float64) + 0.5) / n
            for (low, high), n in zip(extent, shape, strict=True)
        ]
        fan = (
            {"source_to_axis": g.source_to_axis, "source_to_detector": g.source_to_detector}
            if isinstance(g, FanBeam)
            else {}
        )
        found = filtered_back_projection(
            measured.values.reshape(views, -1)[whole],
            angles,
            g.pitch * self.bin[1],
            torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2),
            axis_offset=g.axis_offset,
            **fan,
        )
        return "filtered back-projection", found.reshape(tuple(shape))

    def noise(self, measured: Measured) -> torch.Tensor:
        """As of any instrument; `sigma = "poisson"` for counts: the root of their mean over five elements.

        Values that are means of binned counts scatter by the root of the sum over its number.
        """
        if self.sigma != "poisson":
            return super().noise(measured)
        views, rows, elements = self.shape(measured)
        lines = measured.values.nan_to_num().reshape(views * rows, 1, elements)
        counts = math.prod(self.bin) * torch.nn.functional.avg_pool1d(lines, 5, 1, 2, count_include_pad=False)
        return counts.clamp_min(1.0).sqrt().reshape(-1, 1) / (math.prod(self.bin) * self.sigma_level)

    def planned(self, world: AbstractWorld, generator: torch.Generator) -> "tuple[Measured, Projections]":
        """Views evenly over `angles`, of the whole detector."""
        if self.views is None or self.angles is None:
            raise SceneError(f"observations.{self.name}: views, angles and detector say what is observed")
        rays = math.prod(self.detector)
        values = torch.zeros(self.views * rays, 1, dtype=torch.float64)
        first, last = (math.radians(angle) for angle in self.angles)
        angles = torch.linspace(first, last, self.views, dtype=torch.float64)
        measured = Measured(
            values=values,
            names=(self.quantity,),
            units=("1",),
            at=self._places(angles, *self.detector),
            mask=torch.ones_like(values, dtype=torch.bool),
            held_out=torch.zeros_like(values, dtype=torch.bool),
            sigma=torch.full_like(values, torch.nan),
        )
        return measured, dataclasses.replace(self, bin=(1, 1))

    def write(self, file: Path, measured: Measured) -> None:
        """An npz with the views as integrals and the angles in degrees."""
        views, rows, elements = self.shape(measured)
        angles = measured.at["angle"][:: rows * elements]
        np.savez_compressed(
            file,
            values=measured.values.reshape(views, rows, elements).float().numpy(),
            angles_deg=np.degrees(angles.numpy()),
        )


def _arrays(paths: Sequence[Path], name: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Arrays of a file by name, or one stack of pictures, and the hashes of what was read."""
    digest = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    suffix = paths[0].suffix.lower()
    try:
        if suffix == ".npz":
            return read_npz(paths[0]), digest
        if suffix in (".h5", ".hdf5"):
            return read_hdf5(paths[0], most=MAX_BYTES), digest
        stack = read_stills(paths).values.mean(-1)
        return {"pictures": stack if len(stack) > 1 else stack[0]}, digest
    except (OSError, ValueError) as error:
        raise SceneError(f"observations.{name}.file: {error}") from None
