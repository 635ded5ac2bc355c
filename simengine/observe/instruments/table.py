"""Tables of numbers: curves against time or a load, profiles over a place, samples of a field, whole experiments."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from simengine.io.tables import RawTable, read_table
from simengine.observe.columns import ColumnSpec, column_of, find_header, matching_headers, take, told_unit
from simengine.observe.written import column_as_read, rows_as_they_stand, write_csv
from simengine.scene.asks import Ask, Fields, Series
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.instrument import AbstractInstrument, Measured, quantity
from simengine.scene.noise import DiscrepancySpec, HoldOut

_TIMES = ("time", "t")
_RATES = ("angular_frequency", "shear_rate", "strain_rate")  # what a faster clock makes smaller
_PLACES = ("x", "y", "z")


def _kept(cells: Sequence[str], keep: torch.Tensor) -> list[str]:
    """The cells of the rows that are kept, bool (rows,)."""
    return [cell for cell, own in zip(cells, keep.tolist(), strict=True) if own] if cells else []


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractTable(AbstractInstrument):
    """A table with a column for each quantity.

    Attributes:
        columns: Scalar or field of the world -> column of the file: `"load [N]"`, or { column, unit, sigma, gain,
            offset }.
        within: Column of the scene -> [least, most] that is compared, SI.
        where: Column of the file -> the text or number of the rows that count, or a list of them.
        along: For `simengine observe`: coordinate -> [first, last, count] of the rows that are written
            [unit of the abscissa].
        beside: Name of another model -> column of its answers, drawn and scored beside ours.
        discrepancy: Whether the model may be off, by a smooth error that the bars then hold: true, or { over, sd,
            length } of what is known of it [unit of the value].
    """

    columns: dict[str, ColumnSpec] = dataclasses.field(default_factory=dict)
    within: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    where: dict[str, Any] = dataclasses.field(default_factory=dict)
    along: dict[str, tuple[float, float, float]] = dataclasses.field(default_factory=dict)
    beside: dict[str, ColumnSpec] = dataclasses.field(default_factory=dict)
    discrepancy: DiscrepancySpec | None = None
    gain_by: str = dataclasses.field(default="", metadata={"internal": True})  # column of words that `gain` is per

    @abc.abstractmethod
    def coordinates(self) -> tuple[str, ...]:
        """The columns that are no measurement."""

    def raw(self) -> RawTable:
        """The file as it stands."""
        try:
            return read_table(self.path)
        except SceneError:
            raise
        except ValueError as error:
            raise SceneError(f"observations.{self.name}.file: {error}") from None

    def read(self, *, before: float = 0.0) -> Measured:
        """Read the columns named, in SI units."""
        raw = self.raw()
        key = f"observations.{self.name}.columns"
        at: dict[str, torch.Tensor] = {}
        names: list[str] = []
        values, sigmas = [], []
        told: dict[str, str] = {}
        try:
            for name, spec in self.columns.items():
                if (mixtures := self.mixtures(raw, name, spec)) is not None:
                    at |= mixtures
                    continue
                headers: list[ColumnSpec] = [*matching_headers(raw, spec)] if isinstance(spec, str) else [spec]
                for position, header in enumerate(headers):
                    column, sigma = take(raw, header, key=f"{key}.{name}")
                    told[name] = told_unit(raw, header)
                    if name in self.coordinates():
                        at[name] = column
                    else:
                        names.append(name if len(headers) == 1 else f"{name}#{position}")
                        values.append(column)
                        sigmas.append(sigma)
            if isinstance(self.sigma, str) and self.sigma != "estimate":
                if len(names) != 1:
                    raise ValueError(f"observations.{self.name}.sigma: a column for each value goes into `columns`")
                sigmas = [take(raw, self.sigma, key=f"observations.{self.name}.sigma")[0]]
                if (told[names[0]] in ("", "1")) != (told_unit(raw, self.sigma) in ("", "1")):
                    raise ValueError(
                        f"observations.{self.name}: {names[0]} and sigma: tell the unit of both, or of neither"
                    )
            keep = self._rows(raw)
            beside = {name: self._beside(raw, name, spec, names, told) for name, spec in self.beside.items()}
            cells = self._grouping(raw)
        except ValueError as error:
            raise error if isinstance(error, SceneError) else SceneError(str(error)) from None
        if missing := [name for name in self.required() if name not in at]:
            raise SceneError(f'{key}: the column {missing[0]!r} is missing, as in {missing[0]} = "..."')
        if not names:
            raise SceneError(f"{key}: name what was measured beside {', '.join(at) or 'the coordinates'}")
        for column in at.values():
            keep &= ~column.isnan()
        if not bool(keep.any()):
            raise SceneError(f"observations.{self.name}: {self.file}: no row is left to compare; look at `where`")
        # rows of another specimen, or without an abscissa, are no part of the path that the world is driven along
        table, spread = torch.stack(values, 1)[keep], torch.stack(sigmas, 1)[keep]
        at = {name: column[keep] for name, column in at.items()}
        beside = {name: column[keep, None] for name, column in beside.items()}
        row_names, cells = (tuple(_kept(own, keep)) for own in (self.row_names(raw), cells or ()))
        words = {
            h: tuple(_kept([str(c) for c in own], keep)) for h, own in raw.columns.items() if own.dtype.kind in "UO"
        }
        keep = keep[keep]
        notes = []
        for name, (low, high) in self.within.items():
            if name not in at and name not in names:
                raise SceneError(f"observations.{self.name}.within: {name!r} is no column of `columns`")
            column = at[name] if name in at else table[:, names.index(name)]
            keep &= (column >= float(low)) & (column <= float(high))
        if bool(keep.any()) and any(name in _TIMES for name in self.within):
            end = int(keep.nonzero()[-1, 0]) + 1  # what comes later drives nothing that is asked for; it has no run
            table, spread, keep, row_names, cells = table[:end], spread[:end], keep[:end], row_names[:end], cells[:end]
            at, beside = ({name: column[:end] for name, column in own.items()} for own in (at, beside))
            words = {header: own[:end] for header, own in words.items()}
        for name, column in at.items():
            if name in _TIMES:
                early = (column - self.start) * self.clock_rate < -before
                if bool((early & keep).any()):
                    notes.append(f"{int((early & keep).sum())} rows before the start are left out")
                keep &= ~early
        abscissa = next(iter(at.values()), None)
        mask, out = self._masked(table, tuple(names), abscissa, keep, cells=cells or None)
        return Measured(
            values=table,
            names=tuple(names),
            units=("",) * len(names),
            at=at,
            mask=mask,
            held_out=out,
            sigma=spread,
            files={self.path.name: raw.sha256},
            notes=tuple(notes),
            told={name: unit for name, unit in told.items() if unit},
            row_names=row_names,
            beside=beside,
            words=words,
        )

    def _grouping(self, raw: RawTable) -> tuple[str, ...]:
        """The cells of the column by which rows are held out; () without one."""
        if not isinstance(self.hold_out, HoldOut) or not self.hold_out.by:
            return ()
        header, _ = find_header(raw, self.hold_out.by, key=f"observations.{self.name}.hold_out.by")
        return tuple(str(cell) for cell in raw.columns[header])

    def _beside(
        self, raw: RawTable, name: str, spec: ColumnSpec, names: Sequence[str], told: Mapping[str, str]
    ) -> torch.Tensor:
        """Another model's answers (n,), SI."""
        key = f"observations.{self.name}.beside.{name}"
        if len(names) != 1:
            raise ValueError(f"{key}: it goes with one measured column, and there are {len(names)}")
        values, _ = take(raw, spec, key=key)
        if (told.get(names[0], "") in ("", "1")) != (told_unit(raw, spec) in ("", "1")):
            raise ValueError(f"{key}: tell the unit of both {names[0]} and {name}, or of neither")
        return values

    def mixtures(self, raw: RawTable, name: str, spec: ColumnSpec) -> dict[str, torch.Tensor] | None:
        """A coordinate for each species of a column of mixtures; None of a column of numbers."""
        return None

    def row_names(self, raw: RawTable) -> tuple[str, ...]:
        """What the rows are called in notes; () for their numbers."""
        return ()

    def required(self) -> tuple[str, ...]:
        """Coordinates without which nothing can be asked."""
        return ()

    def _rows(self, raw: RawTable) -> torch.Tensor:
        keep = torch.ones(len(raw), dtype=torch.bool)
        for header, wanted in self.where.items():
            if header not in raw.columns:
                raise ValueError(f"observations.{self.name}.where: {raw.file.name} has no column {header!r}")
            any_of = wanted if isinstance(wanted, list | tuple) else [wanted]
            if isinstance(wanted, list | tuple) and not wanted:
                raise ValueError(f"observations.{self.name}.where: {header!r}: the list is empty")
            cells = raw.columns[header]
            keep &= torch.tensor([any(str(cell) == str(one) or cell == one for one in any_of) for cell in cells])
        return keep

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """The answers, by gain and offset."""
        return self.by_group(answers[0], measured, None)

    def by_group(self, values: torch.Tensor, measured: Measured, keep: torch.Tensor | None) -> torch.Tensor:
        """What is shown of values (rows, columns), where each group of rows may have a gain of its own.

        Args:
            values: Of the rows that are kept.
            measured: What was read.
            keep: Rows that are kept, bool (rows,); None for all.
        """
        if not self.gain_by:
            return self.shown(values)
        cells = measured.words[self.gain_by]
        names = sorted(set(cells))
        index = torch.tensor([names.index(cell) for cell in cells])
        index = index if keep is None else index[keep]
        gains = torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in self.gain])  # type: ignore[union-attr]
        return dataclasses.replace(self, gain=1.0, gain_by="").shown(gains[index][:, None] * values)

    def planned(self, world: AbstractWorld, generator: torch.Generator) -> "tuple[Measured, AbstractTable]":
        """The rows that `along` names, or those of the file where there is one."""
        names = self._planned_names()
        if self.along:
            (name, grid), *more = self.along.items()
            if more or name not in self.coordinates():
                raise SceneError(f"observations.{self.name}.along: expected one of {', '.join(self.coordinates())}")
            at = {name: torch.linspace(grid[0], grid[1], int(grid[2]), dtype=torch.float64)}
            shape = (int(grid[2]), len(names))
        else:
            read = self.read()
            return dataclasses.replace(read, values=torch.zeros_like(read.values)), self
        told = [column_of(self.columns[quantity(name)]).sigma for name in names]
        sigma = torch.tensor([s if isinstance(s, float) else torch.nan for s in told], dtype=torch.float64)
        measured = Measured(
            values=torch.zeros(shape, dtype=torch.float64),
            names=names,
            units=("",) * len(names),
            at=at,
            mask=torch.ones(shape, dtype=torch.bool),
            held_out=torch.zeros(shape, dtype=torch.bool),
            sigma=sigma.expand(shape),
        )
        return measured, self

    def _planned_names(self) -> tuple[str, ...]:
        """The columns that are written."""
        return tuple(name for name in self.columns if name not in self.coordinates())

    def write(self, file: Path, measured: Measured) -> None:
        """A csv that this table reads: columns by their headers and in their units, beside others of its own file."""
        raw = None if self.along else self.raw()
        columns = {} if raw is None else rows_as_they_stand(raw, self._rows_read(raw))
        for name, values in measured.at.items():
            if name in self.columns:  # else a part of a mixture, whose column of words stays
                columns |= column_as_read(self.columns[name], values, raw=raw)
        for k, name in enumerate(measured.names):
            role, _, number = name.partition("#")
            spec = self.columns[role]
            if number and isinstance(spec, str):
                spec = spec.replace("*", number, 1) if raw is None else matching_headers(raw, spec)[int(number)]
            columns |= column_as_read(spec, measured.values[:, k], measured.sigma[:, k], raw=raw)
        write_csv(file, columns)

    def _rows_read(self, raw: RawTable) -> torch.Tensor:
        """Rows of the file that are kept when it is read, bool (rows,)."""
        keep = self._rows(raw)
        for name, spec in self.columns.items():
            if name in self.coordinates() and self.mixtures(raw, name, spec) is None:
                keep &= ~take(raw, spec, key=f"observations.{self.name}.columns.{name}")[0].isnan()
        return keep

    def abscissa(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """An abscissa in the scene's clock."""
        if name in _TIMES:
            return self.scene_time(values)
        return values / self.clock_rate if name in _RATES else values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve(AbstractTable):
    """Scalars against time, or against what drives the world.

    Attributes:
        against: The abscissa: `time`, or a scalar through whose values of the file the world is driven.
    """

    type: Literal["curve"] = "curve"
    against: str = "time"

    def coordinates(self) -> tuple[str, ...]:
        """The abscissa."""
        return (self.against,)

    def required(self) -> tuple[str, ...]:
        """The abscissa."""
        return (self.against,)

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """One series of all that was measured."""
        return (
            Series(
                names=measured.quantities,
                against=self.against,
                values=self.abscissa(self.against, measured.at[self.against].nan_to_num()),
            ),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profiles(AbstractTable):
    """Fields over a place, or over a field that takes its part (a mixture fraction).

    Attributes:
        against: Coordinate of the world: `x`, or a scalar field that grows along it.
        shift: What the file's coordinate reads where the world's is 0, SI [unit of the abscissa].
    """

    type: Literal["profiles"] = "profiles"
    against: str = "x"
    shift: float = 0.0

    def coordinates(self) -> tuple[str, ...]:
        """The coordinate."""
        return (self.against,)

    def required(self) -> tuple[str, ...]:
        """The coordinate."""
        return (self.against,)

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """One series over the coordinate."""
        place = measured.at[self.against].nan_to_num() - self.shift
        return (Series(names=measured.quantities, against=self.against, values=place),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples(AbstractTable):
    """Values of fields at places and times; columns t, x, y, z are coordinates.

    Attributes:
        at: Place of each measured column [m], where sensors stand still and the file has a column for each.
    """

    type: Literal["samples"] = "samples"
    at: tuple[tuple[float, ...] | float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", tuple(p if isinstance(p, tuple) else (p,) for p in self.at))

    def coordinates(self) -> tuple[str, ...]:
        """Time and place."""
        return (*_TIMES, *_PLACES)

    def _planned_names(self) -> tuple[str, ...]:
        """One for each sensor where a star names them all."""
        names = super()._planned_names()
        spec = self.columns[names[0]] if len(names) == 1 else ""
        several = isinstance(spec, str) and "*" in spec and len(self.at) > 1
        return tuple(f"{names[0]}#{k}" for k in range(len(self.at))) if several else names

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """The fields: at each row's place, or one ask for each sensor."""
        time = next((measured.at[name] for name in _TIMES if name in measured.at), None)
        times = None if time is None else self.scene_time(time.nan_to_num())
        rows = len(measured.values)
        if self.at:
            if len(self.at) != len(measured.names):
                raise SceneError(
                    f"observations.{self.name}.at: {len(self.at)} places for {len(measured.names)} measured columns"
                )
            places = [torch.tensor([place], dtype=torch.float64).expand(rows, -1) for place in self.at]
            return tuple(
                Fields(names=(name,), x=x, times=times) for name, x in zip(measured.quantities, places, strict=True)
            )
        axes = [measured.at[name].nan_to_num() for name in _PLACES if name in measured.at]
        x = torch.stack(axes, 1) if axes else torch.zeros(rows, 0, dtype=torch.float64)
        return (Fields(names=measured.quantities, x=x, times=times),)

    def places(self, measured: Measured) -> torch.Tensor | None:
        """Of the sensors, or of the rows."""
        rows, columns = measured.values.shape
        if self.at:
            return torch.tensor(self.at, dtype=torch.float64).expand(rows, columns, -1)
        axes = [measured.at[name].nan_to_num() for name in _PLACES if name in measured.at]
        return torch.stack(axes, 1)[:, None, :].expand(rows, columns, -1) if axes else None

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """The answers side by side, by gain and offset."""
        return self.shown(torch.cat(list(answers), 1))


def doubts_of_magnitude(measured: Measured, sizes: Mapping[str, float]) -> list[str]:
    """A time of a file that is a thousand times the scene's, or the other way round."""
    found = []
    if "time" in measured.at and (span := sizes.get("s")):
        longest = float(measured.at["time"].nan_to_num().abs().max())
        if longest > 300 * span:
            found.append(f"time goes to {longest:.3g} s, the scene to {span:.3g} s; is the file in ms?")
    return found
