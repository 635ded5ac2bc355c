"""Parts of a flame's equations that are told by tables: laws that are sought, a temperature that was measured."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, ClassVar

import torch

from simengine.io.tables import read_table
from simengine.observe.columns import ColumnSpec, take
from simengine.scene.strict import Positive


def tensor(value: Any) -> torch.Tensor:
    """A number or numbers, float64."""
    return torch.as_tensor(value, dtype=torch.float64)


def _filled(table: "HeatLoss | ConductivityLaw") -> None:
    """One weight for all units becomes as many.

    Raises:
        ValueError: Knots do not grow, or values are not as many.
    """
    if isinstance(table.values, float):
        object.__setattr__(table, "values", (table.values,) * len(table.knots))
    if not table.knots or list(table.knots) != sorted(set(table.knots)):
        raise ValueError(f"knots: expected growing temperatures, got {list(table.knots)}")
    if len(table.values) != len(table.knots):  # type: ignore[arg-type]
        raise ValueError(f"values: {len(table.values)} for {len(table.knots)} knots")  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeatLoss:
    """Heat that the gas loses in a way nobody wrote down: T less that of the fresh gas, times a network of T.

    Attributes:
        knots: Temperatures at which the units of the network stand, growing [K].
        values: Weights of the units, or one for all: about the coefficient there [W/(m^3 K)].
    """

    entries: ClassVar[str] = "values"  # `flame.heat_loss` names these
    abscissa: ClassVar[str] = "knots"
    knots: tuple[Positive, ...]
    values: tuple[float, ...] | float = 0.0

    def __post_init__(self) -> None:
        _filled(self)

    def parameters(self) -> dict[str, torch.Tensor]:
        """What a flame takes."""
        assert isinstance(self.values, tuple)
        return {"heat_loss": torch.stack([tensor(v) for v in self.values]), "heat_loss_units": tensor(self.knots)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConductivityLaw:
    """How the conductivity hangs on T besides, in a way nobody wrote down: a network of T that multiplies it.

    Attributes:
        knots: Temperatures at which the units of the network stand, growing [K].
        values: Weights of the units, or one for all: about the factor there; 1 leaves the law of the mixture [1].
    """

    entries: ClassVar[str] = "values"  # `gas.conductivity_law` names these
    abscissa: ClassVar[str] = "knots"
    named: ClassVar[str] = "conductivity_law"  # in the flame
    knots: tuple[Positive, ...]
    values: tuple[Positive, ...] | Positive = 1.0

    def __post_init__(self) -> None:
        _filled(self)

    def parameters(self) -> dict[str, Any]:
        """What a flame takes."""
        assert isinstance(self.values, tuple)
        weights = torch.stack([tensor(v) for v in self.values])
        return {self.named: weights, f"{self.named}_units": tensor(self.knots)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RateLaw(ConductivityLaw):
    """How the rates of all reactions hang on T or composition besides, in a way nobody wrote down: a network on them.

    Attributes:
        against: What the network hangs on, T or the mass fraction of a species, as in "Y_O2".
        knots: Temperatures, or mass fractions, at which the units of the network stand, growing [K].
        values: Weights of the units, or one for all: about the factor there; 1 leaves the mechanism's rates [1].
    """

    named: ClassVar[str] = "rate_law"
    against: str = "T"

    def parameters(self) -> dict[str, Any]:
        """What a flame takes."""
        return {**super().parameters(), "rate_law_against": self.against}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImposedTemperature:
    """A temperature along x as thermocouples or light measured it, straight between its rows, even beyond them.

    Attributes:
        file: Table with a row for each place; read where `knots` are not told.
        columns: Which of its columns hold the place `x` and the temperature `T`, as in { x = "HAB [mm]", T = "T [K]" };
            unset, those of these names.
        knots: Growing distances from the burner [m].
        values: Temperatures there [K].
    """

    entries: ClassVar[str] = "values"  # `flame.temperature` names these
    abscissa: ClassVar[str] = "knots"
    file: Path | None = None
    columns: dict[str, ColumnSpec] = dataclasses.field(default_factory=dict, hash=False)
    knots: tuple[float, ...] = ()
    values: tuple[Positive, ...] = ()

    def __post_init__(self) -> None:
        if self.columns and (self.file is None or set(self.columns) != {"x", "T"}):
            raise ValueError(f"columns: expected x and T of a `file`, got {sorted(self.columns)} of {self.file}")
        if self.file is not None:
            x, T = self._read()
            if not self.knots and not self.values:
                object.__setattr__(self, "knots", tuple(x))
                object.__setattr__(self, "values", tuple(T))
            elif list(self.knots) != x:  # a scene of a run tells both; of these the values may have been found anew
                raise ValueError(
                    f"knots: are not the places of {self.file.name}; leave out `file`, or knots and values"
                )
        if not self.knots or list(self.knots) != sorted(set(self.knots)):
            raise ValueError(f"knots: expected growing distances, or a `file`; got {list(self.knots)[:8]}")
        if len(self.values) != len(self.knots):
            raise ValueError(f"values: {len(self.values)} for {len(self.knots)} knots")

    def _read(self) -> tuple[list[float], list[float]]:
        """Places [m] and temperatures [K] of the file, whole rows in growing order."""
        assert self.file is not None
        stamp = self.file.stat().st_mtime_ns if self.file.is_file() else 0
        return _rows(self.file, stamp, tuple((self.columns or {"x": "x", "T": "T"}).items()))

    def parameters(self) -> dict[str, Any]:
        """What a burner's flame takes."""
        return {"temperature": torch.stack([tensor(v) for v in self.values]), "temperature_at": tensor(self.knots)}


@functools.lru_cache(maxsize=16)
def _rows(file: Path, stamp: int, columns: tuple[tuple[str, ColumnSpec], ...]) -> tuple[list[float], list[float]]:
    del stamp  # of the file, so that a changed one is read anew
    raw, specs = read_table(file), dict(columns)
    x, T = (take(raw, specs[name], key=f"columns.{name}")[0] for name in ("x", "T"))
    whole = ~(x.isnan() | T.isnan())
    order = x[whole].argsort(stable=True)
    x, T = x[whole][order], T[whole][order]
    if not len(x) or bool((x.diff() <= 0).any()) or bool((T <= 0).any()):
        raise ValueError(f"file: {file.name}: expected temperatures above 0 K, each at a place of its own")
    return x.tolist(), T.tolist()
