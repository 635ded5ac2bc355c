"""Tables of what was recorded over time: motions of colliders and clamps, and what pulls on bodies."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from simengine.observe.columns import Column, ColumnSpec
from simengine.scene.strict import Vector, nearest

if TYPE_CHECKING:
    import torch

    from simengine.mpm import RecordedPath

SHIFTS, PLACES = ("shift.0", "shift.1", "shift.2"), ("x", "y", "z")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordedSpec:
    """What was recorded over time: straight between its rows, as at their ends before and after them.

    Attributes:
        file: csv, npz or h5, one row for each time.
        columns: `time`, and what was recorded.
        start: Time of the file at t = 0 [s].
        gain: Multiplies what was recorded [1].
    """

    kinds: ClassVar[tuple[tuple[str, ...], ...]] = ()  # of which one is recorded
    file: Path
    columns: dict[str, ColumnSpec] = dataclasses.field(hash=False)
    start: float = 0.0
    gain: float = 1.0

    def __post_init__(self) -> None:
        known = ("time", *itertools.chain(*self.kinds))
        if wrong := [name for name in self.columns if name not in known]:
            raise ValueError(f"columns: {wrong[0]!r} is none of a path; {nearest(wrong[0], known)}")
        told = " (or ".join(", ".join(names) for names in self.kinds) + ")" * (len(self.kinds) - 1)
        if "time" not in self.columns or len(self.columns) < 2:
            raise ValueError(f"columns: name `time` and at least one of {told}")
        if sum(self.holds(names) for names in self.kinds) > 1:
            raise ValueError("columns: either " + ", or ".join(", ".join(names) for names in self.kinds))
        for name, spec in self.columns.items():
            if isinstance(spec, Column) and spec.sigma is not None:
                raise ValueError(f"columns.{name}.sigma: a path is taken as it was recorded; leave it out")

    def holds(self, names: tuple[str, ...]) -> bool:
        """Whether these are what was recorded."""
        return any(name in self.columns for name in names)

    def variables(self) -> dict[str, float]:
        """The numbers that `recorded` can take as tensors."""
        return {"path.start": self.start, "path.gain": self.gain}

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
        offset = [numbers[f"path.offset.{k}"] for k in range(3) if f"path.offset.{k}" in numbers]
        try:
            return RecordedPath(
                *self.rows(),
                start=numbers["path.start"],
                gain=numbers["path.gain"],
                offset=torch.stack(offset) if offset else (0.0, 0.0, 0.0),
                relative=self.holds(PLACES),
            )
        except ValueError as error:
            raise ValueError(f"path: {error}") from error

    def rows(self) -> "tuple[torch.Tensor, torch.Tensor]":
        """Times (k,) [s] and what was recorded, up to three numbers (k, 3) [SI]; rows with a gap are left out.

        Raises:
            ValueError: As of `recorded`.
        """
        try:
            stamp = self.file.stat().st_mtime_ns
        except OSError:
            stamp = 0  # what reads says what is wrong
        names = next(names for names in self.kinds if self.holds(names))
        return _rows(self.file, stamp, tuple(self.columns.items()), names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PathSpec(RecordedSpec):
    """A motion as a machine or a camera recorded it: straight between its rows, at rest before and after them.

    Attributes:
        columns: `time`, and any of `shift.0`, `shift.1`, `shift.2`, how far it stands along x, y, z from its place in
            the scene; or of `x`, `y`, `z`, where something on it was seen, of which the way since t = 0 counts.
        offset: Added to it, as the slack of a machine [m].
    """

    kinds: ClassVar[tuple[tuple[str, ...], ...]] = (SHIFTS, PLACES)
    offset: Vector = (0.0, 0.0, 0.0)

    def variables(self) -> dict[str, float]:
        """The numbers that `recorded` can take as tensors."""
        return {**super().variables(), **{f"path.offset.{k}": value for k, value in enumerate(self.offset)}}


@functools.lru_cache(maxsize=16)
def _rows(
    file: Path, stamp: int, columns: tuple[tuple[str, ColumnSpec], ...], names: tuple[str, ...]
) -> "tuple[torch.Tensor, torch.Tensor]":
    import torch

    from simengine.io.tables import read_table
    from simengine.observe.columns import take

    del stamp  # of the file, so that a changed one is read anew
    raw = read_table(file)
    found = {name: take(raw, spec, key=f"columns.{name}")[0] for name, spec in columns}
    times = found["time"]
    told = [found.get(name, torch.zeros_like(times)) for name in names]
    shifts = torch.stack([*told, *[torch.zeros_like(times)] * (3 - len(told))], -1)
    whole = ~(times.isnan() | shifts.isnan().any(-1))
    return times[whole], shifts[whole]
