"""Tables of experiments: a row is a run of its own under the conditions that it names."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch

from simengine.io.tables import RawTable
from simengine.observe.columns import ColumnSpec, column_of, find_header, mixture_of
from simengine.observe.instruments.table import AbstractTable
from simengine.scene.asks import Ask, Table
from simengine.scene.instrument import Measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiments(AbstractTable):
    """A row for each experiment: the conditions that it sets, and what was answered.

    Attributes:
        conditions: Number of the world -> column of the file. A column of words holds mixtures, as in
            `CH4: 9.5%, O2: 19%, N2: 71.5%`, each its own gas.
        measured: Scalar of the world -> column of the file.
        row: Column that names the rows, in the report.
        labels: Condition of mixtures -> word of the file -> the mixture that it stands for, as in fuel.Methane = "CH4".
    """

    type: Literal["experiments"] = "experiments"
    conditions: dict[str, ColumnSpec] = dataclasses.field(default_factory=dict)
    measured: dict[str, ColumnSpec] = dataclasses.field(default_factory=dict)
    row: str = ""
    labels: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

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
        key = f"observations.{self.name}.conditions.{name}"
        header, _ = find_header(raw, column_of(spec).column, key=key)
        cells = raw.columns[header]
        if cells.dtype.kind in "fiub":
            return None
        rows = []
        for number, cell in enumerate(cells):
            try:
                rows.append(mixture_of(self.labels.get(name, {}).get(str(cell), str(cell))))
            except ValueError as error:
                raise ValueError(f"{key}: {raw.file.name}: column {header!r}, row {number}: {error}") from None
        species = dict.fromkeys(s for row in rows for s in row)
        return {f"{name}.{s}": torch.tensor([row.get(s, 0.0) for row in rows], dtype=torch.float64) for s in species}

    def row_names(self, raw: RawTable) -> tuple[str, ...]:
        """The cells of the column `row`."""
        if not self.row:
            return ()
        header, _ = find_header(raw, self.row, key=f"observations.{self.name}.row")
        return tuple(str(cell) for cell in raw.columns[header])

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """A table of all rows that count; one for each set of rows where the columns have cells in different ones."""
        return tuple(
            Table(
                names=tuple(measured.quantities[k] for k in columns),
                conditions={name: column[keep] for name, column in measured.at.items()},
            )
            for keep, columns in self._groups(measured)
        )

    def asked(self, measured: Measured) -> tuple[torch.Tensor, ...]:
        """Numbers of the rows of each ask."""
        return tuple(keep.nonzero()[:, 0] for keep, _ in self._groups(measured))

    @staticmethod
    def _groups(measured: Measured) -> list[tuple[torch.Tensor, list[int]]]:
        """Rows, bool (rows,), and numbers of the columns that have their cells in them."""
        found: list[tuple[torch.Tensor, list[int]]] = []
        for k, keep in enumerate(measured.mask.unbind(1)):
            like = next((columns for rows, columns in found if torch.equal(rows, keep)), None)
            if like is not None:
                like.append(k)
            elif bool(keep.any()):
                found.append((keep, [k]))
        return found

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """The answers at their rows, by gain and offset; NaN at rows that were not asked for."""
        out, asked = torch.zeros_like(measured.values), torch.zeros_like(measured.mask)
        for answer, (keep, columns) in zip(answers, self._groups(measured), strict=True):
            at = keep.nonzero()[:, :1], torch.tensor(columns)[None]
            out, asked[at] = out.index_put(at, answer), True
        return torch.where(asked, self.by_group(out, measured, None), torch.nan)
