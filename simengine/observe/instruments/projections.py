"""Projections: integrals of a volume along the rays of a parallel, fan or cone beam, view by view."""

import dataclasses
import hashlib
import math
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
from simengine.observe.beams import FanBeam, ParallelBeam
from simengine.scene.asks import Ask, Rays
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.instrument import AbstractInstrument, Measured
from simengine.scene.noise import held_out
from simengine.scene.strict import Count, Only

MAX_BYTES = 16 << 30  # of a dataset
SHY = 1e-2  # of a view's squares: so much speaks for no drift, which makes the factor smooth where nothing is seen yet


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
        drifting: Whether the beam drifts from view to view, as that of a tube that warms up: the integrals of each view
            are seen times a factor, 1 on average, which suits that view best.
        every: Each so many-th view is taken.
        bin: So many rows and elements are one, their integrals averaged; a ray runs through each.
    """

    rows_alone: ClassVar[bool] = True
    type: Literal["projections"] = "projections"
    columns: Annotated[dict[str, str], Only("values", "angle", "flat", "dark")] = dataclasses.field(
        default_factory=dict
    )
    angles: tuple[float, float] | None = None
    values: Literal["minus_log", "plain", "transmission", "counts"] = "minus_log"
    quantity: str = "attenuation"
    geometry: ParallelBeam | FanBeam
    beam_hardening: float = 0.0
    drifting: bool = False
    every: Count = 1
    bin: tuple[Count, Count] = (1, 1)
    detector: tuple[Count, Count] = (1, 1)
    views: Count | None = None

    def read(self, *, before: float = 0.0) -> Measured:
        """Read the views: a row for each ray, view by view, row by row."""
        arrays, digest = _arrays(self.paths, self.name)
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
        """A ray through each element of the file; those that `bin` makes one follow one another."""
        (r, e), at = self.bin, measured.at
        row = (at["row"][:, None, None] * r + torch.arange(r)[:, None]).expand(-1, r, e).reshape(-1)
        element = (at["element"][:, None, None] * e + torch.arange(e)).expand(-1, r, e).reshape(-1)
        rows, elements = self.detector
        angle = at["angle"].repeat_interleave(r * e)
        origins, directions = self.geometry.rays(angle, row, element, (rows * r, elements * e))
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
        """The integrals, by beam hardening, drift, gain and offset."""
        p = answers[0].reshape(len(measured.values), -1).mean(1)  # as `bin` averages
        seen = p - self.beam_hardening * p.square()
        return self.shown((seen * self._drift(seen, measured) if self.drifting else seen)[:, None])

    def _drift(self, seen: torch.Tensor, measured: Measured) -> torch.Tensor:
        """Factor of each row's view by least squares, (rows,); a view that is not fitted has the nearest one's."""
        _, view = measured.at["angle"].unique(return_inverse=True)
        gain, offset = (torch.as_tensor(own, dtype=torch.float64).reshape(-1)[0] for own in (self.gain, self.offset))
        counts = measured.fitted[:, 0]
        shown = torch.where(counts, (measured.values[:, 0] - offset) / gain, 0.0).to(seen)
        own = torch.where(counts, seen, 0.0)
        empty = seen.new_zeros(int(view.max()) + 1)
        whole = empty.index_add(0, view, shown.square())
        told = whole > 0
        if not bool(told.any()):
            return torch.ones_like(seen)
        least = SHY * whole[told]
        above, below = (empty.index_add(0, view, own * other)[told] for other in (shown, own))
        factors = (above + least) / (below + least)
        nearest = (torch.arange(len(told))[:, None] - told.nonzero()[:, 0]).abs().argmin(1)
        return (factors / factors.mean())[nearest][view]

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
        return measured, dataclasses.replace(self, bin=(1, 1), drifting=False)

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
