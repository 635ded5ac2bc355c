"""Recorded motions of colliders and clamps: a table of displacements over time."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from simengine.observe.columns import Column, ColumnSpec
from simengine.scene.strict import Vector, nearest

if TYPE_CHECKING:
    import torch

    from simengine.mpm import RecordedPath

SHIFTS, PLACES = ("shift.0", "shift.1", "shift.2"), ("x", "y", "z")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PathSpec:
    """A motion as a machine or a camera recorded it: straight between its rows, at rest before and after them.

    Attributes:
        file: csv, npz or h5, one row for each time.
        columns: `time`, and any of `shift.0`, `shift.1`, `shift.2`, how far it stands along x, y, z from its place in
            the scene; or of `x`, `y`, `z`, where something on it was seen, of which the way since t = 0 counts.
        start: Time of the file at t = 0 [s].
        gain: Multiplies what was recorded [1].
        offset: Added to it, as the slack of a machine [m].
    """

    file: Path
    columns: dict[str, ColumnSpec] = dataclasses.field(hash=False)
    start: float = 0.0
    gain: float = 1.0
    offset: Vector = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        known = ("time", *SHIFTS, *PLACES)
        if wrong := [name for name in self.columns if name not in known]:
            raise ValueError(f"columns: {wrong[0]!r} is none of a path; {nearest(wrong[0], known)}")
        if "time" not in self.columns or len(self.columns) < 2:
            raise ValueError("columns: name `time` and at least one of shift.0, shift.1, shift.2 (or x, y, z)")
        if any(name in self.columns for name in SHIFTS) and any(name in self.columns for name in PLACES):
            raise ValueError("columns: either shift.0, shift.1, shift.2, or x, y, z")

        for name, spec in self.columns.items():
            if isinstance(spec, Column) and spec.sigma is not None:
                raise ValueError(f"columns.{name}.sigma: a path is taken as it was recorded; leave it out")

    def variables(self) -> dict[str, float]:
        """The numbers that `recorded` can take as tensors."""
        return {
            "path.start": self.start,
            "path.gain": self.gain,
            **{f"path.offset.{k}": value for k, value in enumerate(self.offset)},
        }

    def recorded(self, values: "Mapping[str, torch.Tensor]") -> "RecordedPath":
        """The path, with tensors in place of some of its numbers, keys as of `variables`.

        Raises:
            ValueError: The file is no such table.
        """
        import torch

        from simengine.mpm import RecordedPath

        numbers = {
            key: values.get(key, torch.tensor(own, dtype=torch.float64)).double().cpu()
            for key, own in self.variables().items()
        }
        try:
            return RecordedPath(
                *self.rows(),
                start=numbers["path.start"],
                gain=numbers["path.gain"],
                offset=torch.stack([numbers[f"path.offset.{k}"] for k in range(3)]),
                relative=any(name in self.columns for name in PLACES),
            )
        except ValueError as error:
            raise ValueError(f"path: {error}") from error

    def rows(self) -> "tuple[torch.Tensor, torch.Tensor]":
        """Times (k,) [s] and displacements or places (k, 3) [m] of the file; rows with a gap are left out.

        Raises:
            ValueError: As of `recorded`.
        """
        try:
            stamp = self.file.stat().st_mtime_ns
        except OSError:
            stamp = 0  # what reads says what is wrong
        return _rows(self.file, stamp, tuple(self.columns.items()))


@functools.lru_cache(maxsize=16)
def _rows(file: Path, stamp: int, columns: tuple[tuple[str, ColumnSpec], ...]) -> "tuple[torch.Tensor, torch.Tensor]":
    import torch

    from simengine.io.tables import read_table
    from simengine.observe.columns import take

    del stamp  # of the file, so that a changed one is read anew
    raw = read_table(file)
    found = {name: take(raw, spec, key=f"columns.{name}")[0] for name, spec in columns}
    times = found["time"]
    names = SHIFTS if any(name in found for name in SHIFTS) else PLACES
    shifts = torch.stack([found.get(name, torch.zeros_like(times)) for name in names], -1)
    whole = ~(times.isnan() | shifts.isnan().any(-1))
    return times[whole], shifts[whole]
