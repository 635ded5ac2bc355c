"""What every instrument has: a file, a clock, a gain, what is said of its errors."""

import abc
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from simengine.scene.asks import Ask
from simengine.scene.base import AbstractRun, AbstractWorld, SceneError
from simengine.scene.noise import HoldOutSpec, Loss, LossSpec, Noise, NoiseSpec, held_out, loss_of
from simengine.scene.strict import Positive, resolve_path
from simengine.shown import ShortRepr
from simengine.solve.correlation import correlation_time

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.view.report import Block


def quantity(name: str) -> str:
    """What a column is of: the columns that a star names are `T#0`, `T#1`, ... of one quantity T."""
    return re.sub(r"#\d+$", "", name)


def files_like(pattern: str, directory: Path, *, key: str) -> list[Path]:
    """The files that a name with stars picks, in the order of the numbers in their names.

    Args:
        pattern: Beside the scene, or absolute; `asset:` lies in simengine's own assets.
        directory: Of the scene.
        key: Where it stands in the scene, for the message.

    Raises:
        SceneError: There are none.
    """
    from simengine.io.pictures import series_files

    try:
        return series_files(resolve_path(pattern, directory))
    except ValueError as error:
        raise SceneError(f"{key}: {error}") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What was read, in SI units, a row per moment (or place, or condition) and a column per quantity.

    Attributes:
        values: (rows, columns), float64; NaN at a gap.
        names: Of the columns.
        units: Of the columns, SI.
        at: Coordinates of the rows by name, (rows,), as the file tells them, SI.
        mask: Values that exist and count, (rows, columns).
        held_out: Values that are predicted and not fitted, (rows, columns).
        sigma: Standard deviations that a column of the file tells, (rows, columns), NaN elsewhere.
        labels: Of the rows, where they have names (markers).
        files: Name -> SHA-256 of what was read.
        notes: What was passed over, one line each.
        shape: How the rows are arranged, where they are pictures: (pictures, rows, columns) of pixels.
        told: Coordinate or column -> the unit that the file or the scene tells of it.
        row_names: Of the rows, for notes; () for their numbers.
        beside: Name of another model -> its answer, (rows, columns), SI.
        words: Column of words of the file -> its cells, by which rows are grouped.
    """

    values: torch.Tensor
    names: tuple[str, ...]
    units: tuple[str, ...]
    at: Mapping[str, torch.Tensor]
    mask: torch.Tensor
    held_out: torch.Tensor
    sigma: torch.Tensor
    labels: tuple[str, ...] = ()
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    told: Mapping[str, str] = dataclasses.field(default_factory=dict)
    row_names: tuple[str, ...] = ()
    beside: Mapping[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def only(self, rows: torch.Tensor) -> "Measured":
        """Some of the rows, bool (rows,)."""
        parts = {name: getattr(self, name)[rows] for name in ("values", "mask", "held_out", "sigma")}
        at = {name: column[rows] for name, column in self.at.items()}
        beside = {name: column[rows] for name, column in self.beside.items()}
        words = {name: tuple(_chosen(cells, rows)) for name, cells in self.words.items()}
        names = tuple(_chosen(self.row_names, rows))
        return dataclasses.replace(self, **parts, at=at, beside=beside, words=words, row_names=names)

    @property
    def fitted(self) -> torch.Tensor:
        """Values that the fit sees, bool (rows, columns)."""
        return self.mask & ~self.held_out

    @property
    def quantities(self) -> tuple[str, ...]:
        """What each column is of."""
        return tuple(quantity(name) for name in self.names)

    @property
    def noises(self) -> torch.Tensor:
        """Number of the standard deviation of each column, (columns,): columns of one quantity have one noise."""
        of = self.quantities
        first = list(dict.fromkeys(of))
        return torch.tensor([first.index(name) for name in of], dtype=torch.long)


def _chosen(cells: Sequence[str], rows: torch.Tensor) -> list[str]:
    """The cells of some rows, bool (rows,)."""
    return [cell for cell, keep in zip(cells, rows.tolist(), strict=True) if keep] if cells else []


@dataclasses.dataclass(frozen=True)
class Findings:
    """What an instrument tells of a run in its own words.

    Attributes:
        summary: For `predict.json`.
        sections: Heading -> blocks of the report.
    """

    summary: Mapping[str, Any]
    sections: "Mapping[str, Sequence[Block]]"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractInstrument(ShortRepr, abc.ABC):
    """What was measured and with what; its numbers are addressed as `observations.NAME.<key>`.

    Attributes:
        name: Of the observation; set by the loader.
        run: Name of the run that it saw; set by the loader.
        directory: Where `file` lies; set by the loader.
        file: What is read, beside the scene.
        start: Time in the file at which the scene begins [s].
        clock_rate: Scene seconds per second of the file [1].
        gain: Of the measured values over what is (a loading of the sample, a scale) [1].
        offset: Added to what is, SI; gain and offset may be a list, one for each column [unit of the value].
        quantum: Step of the converter: adds quantum^2/12 to the variance, SI [unit of the value].
        sigma: Standard deviation of a value: a number (SI), a column of the file, {relative, absolute, floor}, or
            "estimate" [unit of the value].
        sigma_level: How many standard deviations the file's errors are [1].
        loss: square, huber, student, or { huber = 2.0 }.
        hold_out: What is predicted and not fitted: true, a share of the end, or { rows, after, last, values } [1].
        correlation: Rows nearer than this in the abscissa count as one, SI [unit of the abscissa].
        weight: Share of the rows that count as independent [1].
    """

    folders: ClassVar[bool] = False  # whether `file` may be a folder
    rows_alone: ClassVar[bool] = False  # whether a part of the rows can be asked for by itself
    name: str = dataclasses.field(default="", metadata={"internal": True})
    run: str = dataclasses.field(default="", metadata={"internal": True})
    directory: Path = dataclasses.field(default=Path(), metadata={"internal": True})
    file: str = ""
    start: float = 0.0
    clock_rate: Positive = 1.0
    gain: Positive | tuple[Positive, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0
    quantum: Positive | None = None
    sigma: NoiseSpec = "estimate"
    sigma_level: Positive = 1.0
    loss: LossSpec = "square"
    hold_out: HoldOutSpec = False
    correlation: Positive | None = None
    weight: Positive | None = None

    @property
    def located(self) -> Path:
        """Where `file` lies, be it there or not; a pattern of several files stays one.

        Raises:
            SceneError: No file can have this name.
        """
        try:
            return resolve_path(self.file, self.directory)
        except SceneError as error:
            raise SceneError(f"observations.{self.name}.file: {error}") from None

    @property
    def path(self) -> Path:
        """The file.

        Raises:
            SceneError: There is none.
        """
        if not self.file:
            raise SceneError(f"observations.{self.name}: file: name the file that was measured")
        path = self.located
        if not path.exists():
            raise SceneError(f"observations.{self.name}.file: {self.file}: no such file in {self.directory}")
        if path.is_dir() and not self.folders:
            raise SceneError(f"observations.{self.name}.file: {self.file}: a folder; name the file in it")
        return path

    @property
    def paths(self) -> list[Path]:
        """The file, or the files that its stars pick, in the order of the numbers in their names.

        Raises:
            SceneError: There is none.
        """
        if "*" not in self.file:
            return [self.path]
        return files_like(self.file, self.directory, key=f"observations.{self.name}.file")

    def facing(self, world: AbstractWorld) -> "AbstractInstrument":
        """The instrument before the world that it looks at, before anything is read."""
        return self

    @abc.abstractmethod
    def read(self, *, before: float = 0.0) -> Measured:
        """Read the file.

        Args:
            before: Rows up to this long [s] before the start are kept: the clock may move by that.

        Raises:
            SceneError: In one line that names file, column and remedy.
        """

    def prepared(self, measured: Measured) -> "AbstractInstrument":
        """The instrument with what it takes from its own data once: a registration, seats of markers."""
        return self

    @abc.abstractmethod
    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """What the world is asked, at the instrument's own times and places, in the world's frame."""

    def asked(self, measured: Measured) -> "tuple[torch.Tensor, ...]":
        """Numbers of the rows of each ask, for those that ask for the rows that count."""
        return tuple(measured.mask.any(1).nonzero()[:, 0] for _ in self.asks(measured))

    @abc.abstractmethod
    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """What the instrument shows of the answers, in the shape of `measured.values`."""

    def predict(self, run: AbstractRun, measured: Measured) -> torch.Tensor:
        """What the instrument should have shown of a run, in the shape of `measured.values`."""
        return self.respond([run.sample(ask) for ask in self.asks(measured)], measured)

    @abc.abstractmethod
    def write(self, file: Path, measured: Measured) -> None:
        """Write such a file, as `simengine observe` does; `read` reads it back."""

    def planned(self, world: AbstractWorld, generator: torch.Generator) -> "tuple[Measured, AbstractInstrument]":
        """What this instrument would measure of a world, values left empty, and the instrument prepared for it.

        `simengine observe` uses an observation the other way round: `file` is what is written.

        Raises:
            SceneError: The observation does not say where and when it looks.
        """
        raise SceneError(f"observations.{self.name}: an instrument of this type cannot be used to observe a world yet")

    def nuisances(self, measured: Measured) -> dict[str, float]:
        """Numbers of this instrument that are sought without being asked: key -> prior standard deviation, SI."""
        return {}

    def places(self, measured: Measured) -> torch.Tensor | None:
        """Where each value was measured, (rows, columns, axes) [m]; None where values have no place."""
        return None

    def groups(self, key: str, measured: Measured) -> torch.Tensor | None:
        """Which entry of a vector of numbers moves which row, (rows,); None where any moves all.

        Columns of many numbers (the seats of markers) then cost as few evaluations as one.
        """
        return None

    def smoothed(self, gap: torch.Tensor, measured: Measured, level: int) -> torch.Tensor:
        """What a coarse stage of a fit sees of predicted less measured, (rows, columns)."""
        return gap

    def rows_as_one(self, residual: torch.Tensor, measured: Measured) -> float:
        """How many of the rows count as one, by the correlation of their residuals (rows, columns), NaN at gaps."""
        labels = len(measured.labels) or 1
        return correlation_time(
            residual.reshape(-1, labels * residual.shape[1]) if len(residual) % labels == 0 else residual
        )

    def clusters(self, measured: Measured, finer: int = 1) -> torch.Tensor | None:
        """Which rows may share an error, (rows,): the bars then rest on how these groups scatter; None for none.

        Args:
            measured: What was read.
            finer: Times by which groups are smaller than is wanted: where too few of them tell anything.
        """
        return None

    def sheets(self, values: torch.Tensor, measured: Measured) -> "dict[str, torch.Tensor]":
        """Rows of pictures that a report shows of a prediction, by name; none where values are no pictures."""
        return {}

    def doubts(self, measured: Measured, sizes: Mapping[str, float]) -> list[str]:
        """Plausible mistakes of unit, axis and clock, one line each."""
        return []

    def scene_time(self, file_time: torch.Tensor) -> torch.Tensor:
        """Times of the scene [s] of times of the file [s]; before the start the start is held."""
        return ((file_time - self.start) * self.clock_rate).clamp_min(0.0)

    def findings(self, run: AbstractRun, measured: Measured, out: "RunDirectory") -> "Findings | None":
        """What this instrument tells of a run beside the misfits of its values; files go to `out`. None for nothing."""
        return None

    def direct(
        self, key: str, measured: Measured, extent: Sequence[tuple[float, float]], shape: Sequence[int]
    ) -> "tuple[str, torch.Tensor] | None":
        """What a formula makes of the fitted rows without a fit, for comparison: its name and a field. None for none.

        Args:
            key: Of the field that is sought, `volume.attenuation`.
            measured: What was read.
            extent: Least and greatest of each axis [m].
            shape: Of the field that is wanted.
        """
        return None

    def noise(self, measured: Measured) -> torch.Tensor:
        """Standard deviations of the values, (rows, columns); NaN where they are to be estimated."""
        values = measured.values.nan_to_num()  # gaps are masked; their sigma is never used
        if isinstance(self.sigma, Noise):
            sigma = self.sigma.of(values)
        elif isinstance(self.sigma, str):
            sigma = torch.full_like(values, torch.nan)
        else:
            sigma = torch.ones_like(values) * self.sigma
        told = ~measured.sigma.isnan()
        found = torch.where(told, measured.sigma, sigma) / self.sigma_level
        least = self.least_sigma()
        return (found.square() + least**2).sqrt() if least else found

    def least_sigma(self) -> float:
        """What rounding by the converter alone leaves: quantum/sqrt(12)."""
        return 0.0 if self.quantum is None else self.quantum / 12**0.5

    def shown(self, values: torch.Tensor) -> torch.Tensor:
        """What is, (rows, columns), as the instrument shows it: times gain, plus offset."""
        gain, offset = (
            torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in own]) if isinstance(own, tuple) else own
            for own in (self.gain, self.offset)
        )
        for name, own in (("gain", gain), ("offset", offset)):
            if isinstance(own, torch.Tensor) and own.ndim == 1 and len(own) != values.shape[-1]:
                raise SceneError(f"observations.{self.name}.{name}: {len(own)} numbers for {values.shape[-1]} columns")
        shown: torch.Tensor = gain * values + offset
        return shown

    @property
    def shape_of_loss(self) -> Loss | None:
        """The loss with tails; None for squares."""
        return loss_of(self.loss)

    def _masked(
        self,
        values: torch.Tensor,
        names: tuple[str, ...],
        abscissa: torch.Tensor | None,
        keep: Any,
        files: Sequence[str] = (),
        cells: Sequence[str] | None = None,
    ) -> Any:
        """Mask and held-out values of a table."""
        mask = ~values.isnan() & keep[:, None]
        try:
            out = held_out(self.hold_out, names, abscissa, values.shape, files, cells)
        except ValueError as error:
            raise SceneError(f"observations.{self.name}.{error}") from None
        if not bool(mask.any()):
            raise SceneError(f"observations.{self.name}: {self.file}: no row is left to compare; widen `within`")
        return mask, out
