"""Tables of numbers: curves against time or a load, profiles over a place, samples of a field, whole experiments."""

import abc
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from simengine.io.tables import RawTable, read_table
from simengine.observe.columns import ColumnSpec, column_of, find_header, matching_headers, mixture_of, take, told_unit
from simengine.scene.asks import Ask, Fields, Series, Table
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.instrument import AbstractInstrument, Measured
from simengine.scene.noise import DiscrepancySpec

_TIMES = ("time", "t")
_RATES = ("angular_frequency", "shear_rate", "strain_rate")  # what a faster clock makes smaller
_PLACES = ("x", "y", "z")


def quantity(name: str) -> str:
    """What a column is of: the columns that a star names are `T#0`, `T#1`, ... of one quantity T."""
    return re.sub(r"#\d+$", "", name)


def quantities(measured: Measured) -> tuple[str, ...]:
    """What each column is of."""
    return tuple(quantity(name) for name in measured.names)


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
        discrepancy: Whether the model may be off, by a smooth error that the bars then hold: true, or { sd, length }
            of what is known of it [unit of the value].
    """

    columns: dict[str, ColumnSpec] = dataclasses.field(default_factory=dict)
    within: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    where: dict[str, Any] = dataclasses.field(default_factory=dict)
    along: dict[str, tuple[float, float, float]] = dataclasses.field(default_factory=dict)
    discrepancy: DiscrepancySpec | None = None

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
        keep = keep[keep]
        notes = []
        for name, (low, high) in self.within.items():
            if name not in at and name not in names:
                raise SceneError(f"observations.{self.name}.within: {name!r} is no column of `columns`")
            column = at[name] if name in at else table[:, names.index(name)]
            keep &= (column >= float(low)) & (column <= float(high))
        for name, column in at.items():
            if name in _TIMES:
                early = (column - self.start) * self.clock_rate < -before
                if bool((early & keep).any()):
                    notes.append(f"{int((early & keep).sum())} rows before the start are left out")
                keep &= ~early
        abscissa = next(iter(at.values()), None)
        mask, out = self._masked(table, tuple(names), abscissa, keep)
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
            row_names=self.row_names(raw),
        )

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
        return self.shown(answers[0])

    def planned(self, world: AbstractWorld, generator: torch.Generator) -> "tuple[Measured, AbstractTable]":
        """The rows that `along` names, or those of the file where there is one."""
        names = tuple(name for name in self.columns if name not in self.coordinates())
        if self.along:
            (name, grid), *more = self.along.items()
            if more or name not in self.coordinates():
                raise SceneError(f"observations.{self.name}.along: expected one of {', '.join(self.coordinates())}")
            at = {name: torch.linspace(grid[0], grid[1], int(grid[2]), dtype=torch.float64)}
            shape = (int(grid[2]), len(names))
        else:
            read = self.read()
            at, shape = dict(read.at), tuple(read.values.shape)  # type: ignore[assignment]
        told = [column_of(self.columns[name]).sigma for name in names]
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

    def write(self, file: Path, measured: Measured) -> None:
        """A csv with the columns in SI units."""
        columns = {**measured.at, **{name: measured.values[:, k] for k, name in enumerate(measured.names)}}
        lines = [",".join(columns)]
        for row in zip(*columns.values(), strict=True):
            lines.append(",".join("" if torch.isnan(cell) else f"{float(cell):.9g}" for cell in row))
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")

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
                names=quantities(measured),
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
        return (Series(names=quantities(measured), against=self.against, values=place),)


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
                Fields(names=(name,), x=x, times=times) for name, x in zip(quantities(measured), places, strict=True)
            )
        axes = [measured.at[name].nan_to_num() for name in _PLACES if name in measured.at]
        x = torch.stack(axes, 1) if axes else torch.zeros(rows, 0, dtype=torch.float64)
        return (Fields(names=quantities(measured), x=x, times=times),)

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """The answers side by side, by gain and offset."""
        return self.shown(torch.cat(list(answers), 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiments(AbstractTable):
    """A row for each experiment: the conditions that it sets, and what was answered.

    Attributes:
        conditions: Number of the world -> column of the file. A column of words holds mixtures, as in
            `CH4: 9.5%, O2: 19%, N2: 71.5%`, each its own gas.
        measured: Scalar of the world -> column of the file.
        row: Column that names the rows, in the report.
    """

    type: Literal["experiments"] = "experiments"
    conditions: dict[str, ColumnSpec] = dataclasses.field(default_factory=dict)
    measured: dict[str, ColumnSpec] = dataclasses.field(default_factory=dict)
    row: str = ""

    def __post_init__(self) -> None:
        columns = {**self.conditions, **self.measured}
        if self.columns and self.columns != columns:  # they are set here, and copies come with them
            raise ValueError("columns: a table of experiments names `conditions` and `measured`")
        object.__setattr__(self, "columns", columns)

    def coordinates(self) -> tuple[str, ...]:
        """The conditions."""
        return tuple(self.conditions)

    def mixtures(self, raw: RawTable, name: str, spec: ColumnSpec) -> dict[str, torch.Tensor] | None:
        """`name.SPECIES` -> the amount in each row, 0 where a row has none of it."""
        if name not in self.conditions:
            return None
        header, _ = find_header(raw, column_of(spec).column)
        cells = raw.columns[header]
        if cells.dtype.kind in "fiub":
            return None
        rows = []
        for number, cell in enumerate(cells):
            try:
                rows.append(mixture_of(str(cell)))
            except ValueError as error:
                raise ValueError(
                    f"observations.{self.name}.conditions.{name}: {raw.file.name}: column {header!r}, row {number}: "
                    f"{error}"
                ) from None
        species = dict.fromkeys(s for row in rows for s in row)
        return {f"{name}.{s}": torch.tensor([row.get(s, 0.0) for row in rows], dtype=torch.float64) for s in species}

    def row_names(self, raw: RawTable) -> tuple[str, ...]:
        """The cells of the column `row`."""
        if not self.row:
            return ()
        return tuple(str(cell) for cell in raw.columns[find_header(raw, self.row)[0]])

    def write(self, file: Path, measured: Measured) -> None:
        """A csv with the columns in SI units, mixtures as words."""
        mixed = {name: None for name in self.conditions if name not in measured.at}
        columns: dict[str, list[str]] = {}
        for name, values in measured.at.items():
            first = name.partition(".")[0]
            if first in mixed:
                before = columns.get(first, [""] * len(values))
                cells = [f"{name.partition('.')[2]}: {float(v):.9g}" if v else "" for v in values]
                columns[first] = [", ".join(filter(None, pair)) for pair in zip(before, cells, strict=True)]
            else:
                columns[name] = [f"{float(v):.9g}" for v in values]
        for k, name in enumerate(measured.names):
            columns[name] = ["" if torch.isnan(v) else f"{float(v):.9g}" for v in measured.values[:, k]]
        lines = [",".join(columns)]
        for row in zip(*columns.values(), strict=True):
            lines.append(",".join(f'"{cell}"' if "," in cell else cell for cell in row))
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """One table of all rows that count."""
        keep = measured.mask.any(1)
        conditions = {name: column[keep] for name, column in measured.at.items()}
        return (Table(names=quantities(measured), conditions=conditions),)

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """The answers at their rows, by gain and offset."""
        keep = measured.mask.any(1)
        out = torch.zeros_like(measured.values)
        return out.index_copy(0, keep.nonzero()[:, 0], self.shown(answers[0]))


def doubts_of_magnitude(measured: Measured, sizes: Mapping[str, float]) -> list[str]:
    """A time of a file that is a thousand times the scene's, or the other way round."""
    found = []
    if "time" in measured.at and (span := sizes.get("s")):
        longest = float(measured.at["time"].nan_to_num().abs().max())
        if longest > 300 * span:
            found.append(f"time goes to {longest:.3g} s, the scene to {span:.3g} s; is the file in ms?")
    return found
