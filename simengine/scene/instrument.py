"""What every instrument has: a file, a clock, a gain, what is said of its errors."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from simengine.scene.asks import Ask
from simengine.scene.base import AbstractRun, AbstractScene, SceneError
from simengine.scene.noise import HoldOutSpec, Loss, LossSpec, Noise, NoiseSpec, held_out, loss_of
from simengine.scene.strict import Positive


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

    def only(self, rows: torch.Tensor) -> "Measured":
        """Some of the rows, bool (rows,)."""
        parts = {name: getattr(self, name)[rows] for name in ("values", "mask", "held_out", "sigma")}
        return dataclasses.replace(self, **parts, at={name: column[rows] for name, column in self.at.items()})

    @property
    def fitted(self) -> torch.Tensor:
        """Values that the fit sees, bool (rows, columns)."""
        return self.mask & ~self.held_out


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractInstrument(abc.ABC):
    """What was measured and with what; its numbers are addressed as `observations.NAME.<key>`.

    Attributes:
        name: Of the observation; set by the loader.
        file: What is read, beside the scene.
        run: Name of the run that it saw; set by the loader.
        start: Time in the file at which the scene begins [s].
        clock_rate: Scene seconds per second of the file [1].
        gain: Of the measured values over what is (a loading of the sample, a scale) [1].
        offset: Added to what is, SI unit of the value.
        sigma: Standard deviation of a value: a number (SI), a column of the file, {relative, absolute, floor}, or
            "estimate".
        sigma_level: How many standard deviations the file's errors are [1].
        loss: square, huber, student, or { huber = 2.0 }.
        hold_out: What is predicted and not fitted: true, a share of the end, or { rows, after, last, values }.
        correlation: Rows nearer than this in the abscissa count as one, SI.
        weight: Share of the rows that count as independent [1].
        directory: Where `file` lies; set by the loader.
    """

    rows_alone: ClassVar[bool] = False  # whether a part of the rows can be asked for by itself
    name: str = dataclasses.field(default="", metadata={"internal": True})
    run: str = dataclasses.field(default="", metadata={"internal": True})
    directory: Path = dataclasses.field(default=Path(), metadata={"internal": True})
    file: str = ""
    start: float = 0.0
    clock_rate: Positive = 1.0
    gain: Positive = 1.0
    offset: float = 0.0
    sigma: NoiseSpec = "estimate"
    sigma_level: Positive = 1.0
    loss: LossSpec = "square"
    hold_out: HoldOutSpec = False
    correlation: Positive | None = None
    weight: Positive | None = None

    @property
    def path(self) -> Path:
        """The file.

        Raises:
            SceneError: There is none.
        """
        if not self.file:
            raise SceneError(f"observations.{self.name}: file: name the file that was measured")
        path = self.directory / Path(self.file).expanduser()
        if not path.exists():
            raise SceneError(f"observations.{self.name}.file: {self.file}: no such file in {self.directory}")
        return path

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

    @abc.abstractmethod
    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """What the instrument shows of the answers, in the shape of `measured.values`."""

    def predict(self, run: AbstractRun, measured: Measured) -> torch.Tensor:
        """What the instrument should have shown of a run, in the shape of `measured.values`."""
        return self.respond([run.sample(ask) for ask in self.asks(measured)], measured)

    @abc.abstractmethod
    def write(self, file: Path, measured: Measured) -> None:
        """Write such a file, as `simengine observe` does; `read` reads it back."""

    def planned(self, world: AbstractScene, generator: torch.Generator) -> "tuple[Measured, AbstractInstrument]":
        """What this instrument would measure of a world, values left empty, and the instrument prepared for it.

        `simengine observe` uses an observation the other way round: `file` is what is written.

        Raises:
            SceneError: The observation does not say where and when it looks.
        """
        raise SceneError(f"observations.{self.name}: an instrument of this type cannot be used to observe a world yet")

    def nuisances(self, measured: Measured) -> dict[str, float]:
        """Numbers of this instrument that are sought without being asked: key -> prior standard deviation, SI."""
        return {}

    def groups(self, key: str, measured: Measured) -> torch.Tensor | None:
        """Which entry of a vector of numbers moves which row, (rows,); None where any moves all.

        Columns of many numbers (the seats of markers) then cost as few evaluations as one.
        """
        return None

    def doubts(self, measured: Measured, sizes: Mapping[str, float]) -> list[str]:
        """Plausible mistakes of unit, axis and clock, one line each."""
        return []

    def scene_time(self, file_time: torch.Tensor) -> torch.Tensor:
        """Times of the scene [s] of times of the file [s]; before the start the start is held."""
        return ((file_time - self.start) * self.clock_rate).clamp_min(0.0)

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
        return torch.where(told, measured.sigma, sigma) / self.sigma_level

    @property
    def shape_of_loss(self) -> Loss | None:
        """The loss with tails; None for squares."""
        return loss_of(self.loss)

    def _masked(self, values: torch.Tensor, names: tuple[str, ...], abscissa: torch.Tensor | None, keep: Any) -> Any:
        """Mask and held-out values of a table."""
        mask = ~values.isnan() & keep[:, None]
        try:
            out = held_out(self.hold_out, names, abscissa, values.shape)
        except ValueError as error:
            raise SceneError(f"observations.{self.name}.{error}") from None
        if not bool(mask.any()):
            raise SceneError(f"observations.{self.name}: {self.file}: no row is left to compare; widen `within`")
        return mask, out
