"""An observation beside its prediction: a table to go on with, and figures for the report."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from simengine.fit.problem import Problem
from simengine.fit.problem.prediction import Prediction, tables
from simengine.fit.problem.reading import units_of, with_unit
from simengine.view.figures import curves, slices
from simengine.view.report import Block, Picture
from simengine.view.sheets import comparison

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

PANELS = 4  # of a figure
SLICES = 4  # moments, or places, of which a curve is drawn
LINE = 5  # points without which there is no curve
PROFILE = 12  # places of one moment that make a profile; of fewer their histories are shown


def write_predictions(problem: Problem, predictions: Mapping[str, Prediction], out: "RunDirectory") -> None:
    """A csv per observation: coordinates, then measured, predicted, sigma and bar of each column, SI."""
    folder = out.path / "predictions"
    folder.mkdir(exist_ok=True)
    for name, p in predictions.items():
        m = p.measured
        if m.shape:  # a line for each pixel helps nobody
            arrays = {"measured": m.values, "predicted": p.values, "sigma": p.sigma[0]}
            arrays |= {} if p.std is None else {"bar": p.std}
            if "time" in m.at:
                arrays["time"] = m.at["time"].reshape(m.shape[0], -1)[:, 0]
            out.write(
                f"predictions/{name}.npz",
                {key: v.reshape(*m.shape, -1).float() if v.ndim > 1 else v for key, v in arrays.items()},
            )
            continue
        columns: dict[str, Sequence[Any]] = {key: values.tolist() for key, values in m.at.items()}
        if m.row_names:
            columns["row"] = [text.replace(",", ";") for text in m.row_names]
        if m.labels:
            columns["name"] = m.labels * (len(m.values) // len(m.labels))
        for k, column in enumerate(m.names):
            columns[f"{column} measured"] = m.values[:, k].tolist()
            columns[f"{column} predicted"] = p.values[:, k].tolist()
            columns[f"{column} sigma"] = p.sigma[:, k].tolist()
            if p.std is not None:
                columns[f"{column} bar"] = p.std[:, k].tolist()
            columns |= {f"{column} {model}": own[:, k].tolist() for model, own in m.beside.items()}
        lines = [",".join(columns)]
        for row in zip(*columns.values(), strict=True):
            lines.append(
                ",".join(cell if isinstance(cell, str) else "" if cell != cell else f"{cell:.9g}" for cell in row)
            )
        out.claim(f"predictions/{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def observation_blocks(problem: Problem, p: Prediction) -> list[Block]:
    """Figures of an observation for a page: pictures side by side, or curves with their bands and residuals."""
    m, width = p.measured, p.std
    sheets = problem.instruments[p.name].sheets(p.values, m)
    if sheets:
        sheet = comparison({k: v.clamp(0, 1) for k, v in sheets.items()})
        return [Picture(sheet, f"{p.name}: {', '.join(sheets)}", abreast=len(next(iter(sheets.values()))))]
    key = next(iter(m.at), "row")
    x = m.at[key] if m.at else torch.arange(len(m.values), dtype=torch.float64)
    if m.labels and len(m.labels) > 1:
        count = len(m.labels)
        seen = m.mask.all(1).reshape(-1, count).sum(0)
        mark = int(seen.argmax())
        pick = torch.arange(mark, len(m.values), count)
        title = f"mark {m.labels[mark]}, "
    else:
        pick, title = torch.arange(len(m.values)), ""
    if m.row_names:  # experiments under several conditions lie along none of them
        x = torch.arange(len(m.values), dtype=torch.float64)
    world = problem.world_of(p.name)
    along = with_unit(key, world) if m.at else key
    cuts = None if m.row_names or m.labels else sliced(m.at, m.mask.any(1), world.abscissas())
    if cuts:
        x, along = m.at[cuts.along], with_unit(cuts.along, world)
    order = pick[x[pick].argsort()]
    panels: dict[str, dict[str, Any]] = {}
    residuals: dict[str, dict[str, Any]] = {}
    shaded: dict[str, tuple[Any, Any, Any]] = {}
    columns: dict[str, int] = {}
    units = units_of(m, world)
    for k, name in list(enumerate(m.names))[:PANELS]:
        shown = order[m.mask[order, k]]
        if not len(shown):
            continue
        label = f"{title}{name} [{units[k]}]" if units[k] else f"{title}{name}"
        fit = {"measured": (x[shown], m.values[shown, k]), "predicted": (x[shown], p.values[shown, k])}
        if width is not None and float(width[shown, k].max()) > 0:
            half = 1.96 * width[shown, k]
            shaded[label] = (x[shown], p.values[shown, k] - half, p.values[shown, k] + half)
        fit |= {model: (x[shown], own[shown, k]) for model, own in m.beside.items()}
        panels[label], columns[label] = fit, k
        used = p.measured.mask[:, k] & ~m.held_out[:, k]
        entry = {"fitted": (x[used], p.residual[used, k])}
        held = m.mask[:, k] & m.held_out[:, k]
        if bool(held.any()):
            entry["held out"] = (x[held], p.residual[held, k])
        residuals[f"misfit / sigma of {name}"] = entry
    if not panels:
        return ["Nothing of it is compared."]
    points = ("measured", "fitted", "held out", *m.beside)
    if m.row_names:
        points, along = (*points, "predicted"), "row"
    elif len(m.at) > 1 and bool((x[order].diff() == 0).any()):  # many places at one time: no line goes through them
        points, shaded = (*points, "predicted"), {}
    drawn = (
        slices({label: _through(p, k, cuts) for label, k in columns.items()}, xlabel=along)
        if cuts
        else curves(panels, xlabel=along, points=points, bands=shaded)
    )
    return [
        *tables(p, problem.rows(p.name)),
        Picture(drawn, f"{p.name}: measured and predicted"),
        Picture(curves(residuals, xlabel=along, points=points), f"{p.name}: residuals over sigma"),
    ]


@dataclasses.dataclass(frozen=True)
class Slices:
    """Rows of an observation along one of its coordinates, the others held.

    Attributes:
        along: The coordinate.
        rows: What is held, in words -> rows, ascending along the coordinate.
    """

    along: str
    rows: dict[str, torch.Tensor]


def sliced(at: Mapping[str, torch.Tensor], kept: torch.Tensor, units: Mapping[str, str]) -> Slices | None:
    """Profiles over a place at a few moments; histories at a few places where few places are measured.

    Args:
        at: Coordinate -> its value in each row, (n,).
        kept: Rows that may be shown, bool (n,).
        units: Coordinate -> its unit, where it has one.

    Returns:
        None where the rows have one coordinate, or do not lie in lines along any.
    """
    if len(at) < 2:
        return None
    found = [one for name in sorted(at, key=lambda key: key in ("time", "t")) if (one := _lines(name, at, kept, units))]
    profiles = [one for one in found if one.along not in ("time", "t") and _longest(one) >= PROFILE]
    return profiles[0] if profiles else max(found, key=_longest, default=None)


def _longest(cut: Slices) -> int:
    return max(map(len, cut.rows.values()))


def _lines(along: str, at: Mapping[str, torch.Tensor], kept: torch.Tensor, units: Mapping[str, str]) -> Slices | None:
    """Lines along a coordinate at a few values of the first of the others, and the middle ones of the rest."""
    others = sorted((key for key in at if key != along), key=lambda key: key not in ("time", "t"))
    held = torch.stack([at[key] for key in others], 1)
    rows = (kept & held.isfinite().all(1) & at[along].isfinite()).nonzero()[:, 0]
    lines, of, counts = torch.unique(held[rows], dim=0, return_inverse=True, return_counts=True)
    full = (counts >= LINE).nonzero()[:, 0]
    for k in range(1, len(others)):
        if len(full):
            values = lines[full, k]
            full = full[values == values.sort().values[len(values) // 2]]
    if not len(full):
        return None
    picked = full[torch.linspace(0, len(full) - 1, min(SLICES, len(full))).round().long()]
    told: dict[str, torch.Tensor] = {}
    for line in picked.tolist():
        own = rows[of == line]
        words = ", ".join(_said(key, float(lines[line, k]), units.get(key, "")) for k, key in enumerate(others))
        told[words] = own[at[along][own].argsort()]
    return Slices(along, told)


def _said(key: str, value: float, unit: str) -> str:
    return f"{key} = {value:.4g} {unit}" if unit not in ("", "1") else f"{key} = {value:.4g}"


def _through(p: Prediction, k: int, cuts: Slices) -> dict[str, dict[str, tuple[Any, ...]]]:
    """What is held -> measured, predicted and the band of one column along the lines."""
    m, lines = p.measured, {}
    x = m.at[cuts.along]
    for words, rows in cuts.rows.items():
        seen = rows[m.mask[rows, k]]
        entry: dict[str, tuple[Any, ...]] = {
            "measured": (x[seen], m.values[seen, k]),
            "predicted": (x[rows], p.values[rows, k]),
        }
        if p.std is not None and float(p.std[rows, k].max()) > 0:
            half = 1.96 * p.std[rows, k]
            entry["95 %"] = (x[rows], p.values[rows, k] - half, p.values[rows, k] + half)
        entry |= {model: (x[rows], own[rows, k]) for model, own in m.beside.items()}
        lines[words] = entry
    return lines
