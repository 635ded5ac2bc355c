"""What is said of the errors of a measurement: their size, their tails, what is kept out of the fit."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import torch

from simengine.scene.strict import NonNegative, Positive, Range, nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    """A standard deviation made of parts: sqrt(absolute^2 + (relative |value|)^2), at least `floor`.

    Attributes:
        relative: Share of the measured value [1].
        absolute: In the unit of the value, SI [unit of the value].
        floor: The least it can be, SI [unit of the value].
    """

    relative: NonNegative = 0.0
    absolute: NonNegative = 0.0
    floor: NonNegative = 0.0

    def __post_init__(self) -> None:
        parts = (self.relative, self.absolute, self.floor)
        if all(isinstance(part, float) for part in parts) and not any(parts):
            raise ValueError("expected relative, absolute or floor above 0")

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """The standard deviation of each measured value (SI)."""
        return (self.absolute**2 + (self.relative * values.abs()).square()).sqrt().clamp_min(self.floor)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss with tails: exactly one of the two.

    Attributes:
        huber: Standard deviations beyond which the misfit grows linearly [1].
        student: Degrees of freedom of Student's t [1].
    """

    huber: Positive | None = None
    student: Positive | None = None

    def __post_init__(self) -> None:
        if (self.huber is None) == (self.student is None):
            raise ValueError("expected one of huber and student, as in { huber = 2.0 }")

    def shaped(self, residual: torch.Tensor) -> torch.Tensor:
        """Residuals over sigma whose squares sum to the loss: near zero the residuals themselves."""
        square = residual.square()
        if self.huber is not None:
            far = 2 * self.huber * residual.abs() - self.huber**2
            loss = torch.where(square > self.huber**2, far, square)
        else:
            nu = float(self.student or 1.0)
            loss = (nu + 1) * torch.log1p(square / nu) * nu / (nu + 1)
        # sqrt has no slope at zero, where the loss is the square itself
        small = square < 1e-12
        root = torch.where(small, torch.ones_like(square), loss).sqrt() * residual.sign()
        return torch.where(small, residual, root)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HoldOut:
    """What is predicted and not fitted; the union of what is said.

    Attributes:
        rows: Numbers of rows, from 0, or "first:end" as in "181:720".
        after: Rows whose abscissa lies beyond this, in the file's own unit turned to SI [unit of the abscissa].
        last: Share of the end of the abscissa [1].
        values: Names of measured scalars.
        files: Of a series of pictures, by their names.
        by: Header of a table's column whose cells group the rows, as in the publication they are from.
        share: Of these groups in alphabetical order, spread evenly; 0.5 is every second one [1].
        groups: Cells of that column instead of a share.
    """

    rows: tuple[int, ...] | str = ()
    after: float | None = None
    last: Annotated[float, Range(gt=0, lt=1)] | None = None
    values: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    by: str = ""
    share: Annotated[float, Range(gt=0, lt=1)] | None = None
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.by) != (self.share is not None or bool(self.groups)):
            raise ValueError('by: it goes with share or groups, as in { by = "reference", share = 0.5 }')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Discrepancy:
    """What the model gets wrong along the abscissa or over places: a Gaussian process; what is left out is estimated.

    Attributes:
        over: What the error varies over: the abscissa of a table, or the places of sensors, rows or marks, and the
            time where rows have one; auto is the abscissa where there is one and no more.
        sd: Standard deviation of the error, SI [unit of the value].
        length: Over which the error is alike, SI: metres over places, a pure number along a logarithm [unit of the
            abscissa].
        time: Over which an error over places lasts [s].
        scale: Whether the error runs along the abscissa or its logarithm (for a table over decades); auto takes the
            one in which the rows are spread more evenly.
    """

    over: Literal["auto", "abscissa", "place"] = "auto"
    sd: Positive | None = None
    length: Positive | None = None
    time: Positive | None = None
    scale: Literal["auto", "linear", "log"] = "auto"

    def __post_init__(self) -> None:
        if self.over == "place" and self.scale != "auto":
            raise ValueError("scale: an error over places has none; leave it out")
        if self.over != "place" and self.time is not None:
            raise ValueError('time: how long an error over places lasts; say over = "place", or give length alone')


NoiseSpec = NonNegative | str | Noise
LossSpec = Literal["square", "huber", "student"] | Loss
DiscrepancySpec = bool | Discrepancy
HoldOutSpec = bool | Annotated[float, Range(gt=0, lt=1)] | HoldOut


def loss_of(spec: LossSpec) -> Loss | None:
    """The loss with its usual number: 1.345 standard deviations, 4 degrees of freedom; None for squares."""
    if isinstance(spec, Loss):
        return spec
    return {"square": None, "huber": Loss(huber=1.345), "student": Loss(student=4.0)}[spec]


def held_out(
    spec: HoldOutSpec,
    names: tuple[str, ...],
    abscissa: torch.Tensor | None,
    shape: Any,
    files: Sequence[str] = (),
    cells: Sequence[str] | None = None,
) -> torch.Tensor:
    """Which values are held out, bool (rows, columns).

    Args:
        spec: As the scene says it.
        names: Of the columns.
        abscissa: Of the rows, or None.
        shape: Rows and columns.
        files: Of a series of pictures, each with as many rows as the others.
        cells: Of the column that groups the rows, or None where there is no such column.

    Raises:
        ValueError: A row or a name does not exist, or there is no abscissa to cut.
    """
    out = torch.zeros(shape, dtype=torch.bool)
    if isinstance(spec, bool):
        return out | spec
    parts = spec if isinstance(spec, HoldOut) else HoldOut(last=spec)
    for row in _row_numbers(parts.rows):
        if not -len(out) <= row < len(out):
            raise ValueError(f"hold_out.rows: there is no row {row} among {len(out)}")
        out[row] = True
    for name in parts.values:
        if name not in names:
            raise ValueError(f"hold_out.values: {name!r} is not measured; known: {', '.join(names)}")
        out[:, names.index(name)] = True
    for name in parts.files:
        if name not in files:
            raise ValueError(f"hold_out.files: {name!r} is no file of this series; known: {', '.join(files) or 'none'}")
        each = len(out) // len(files)
        for k in [k for k, other in enumerate(files) if other == name]:
            out[k * each : (k + 1) * each] = True
    if parts.by:
        if cells is None:
            raise ValueError("hold_out.by: only the rows of a table are grouped by a column")
        out |= _grouped(parts, cells)[:, None]
    if parts.after is not None or parts.last is not None:
        if abscissa is None:
            raise ValueError("hold_out: there is no abscissa to cut; name rows")
        low, high = float(abscissa.min()), float(abscissa.max())
        cut = parts.after if parts.after is not None else high - (parts.last or 0.0) * (high - low)
        out |= (abscissa > cut)[:, None]
    return out


def _grouped(parts: HoldOut, cells: Sequence[str]) -> torch.Tensor:
    """Rows of the groups that are held out, (rows,)."""
    names = sorted(set(cells))
    for name in parts.groups:
        if name not in names:
            raise ValueError(f"hold_out.groups: no row of {parts.by!r} is {name!r}; {nearest(name, names)}")
    chosen = set(parts.groups)
    if parts.share is not None:
        whole = [int((k + 1) * parts.share + 1e-9) for k in range(-1, len(names))]
        chosen |= {name for k, name in enumerate(names) if whole[k + 1] > whole[k]}
        if not chosen:
            raise ValueError(f"hold_out.share: {parts.share:g} of {len(names)} groups is none; name them by `groups`")
    return torch.tensor([cell in chosen for cell in cells])


def _row_numbers(rows: tuple[int, ...] | str) -> Iterable[int]:
    """The numbers of a list, or of "first:end"."""
    if not isinstance(rows, str):
        return rows
    first, _, end = rows.partition(":")
    if not (first.strip().isdigit() and end.strip().isdigit() and int(first) < int(end)):
        raise ValueError(f'hold_out.rows: expected numbers or "first:end" as in "181:720", got {rows!r}')
    return range(int(first), int(end))
