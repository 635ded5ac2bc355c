"""An observation beside its prediction: a table to go on with, and figures for the report."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from simengine.fit.problem import Problem
from simengine.fit.problem.prediction import Prediction, tables
from simengine.fit.problem.reading import units_of, with_unit
from simengine.view.figures import curves
from simengine.view.report import Block, Picture
from simengine.view.sheets import comparison

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

PANELS = 4  # of a figure


def write_predictions(problem: Problem, predictions: Mapping[str, Prediction], out: "RunDirectory") -> None:
    """A csv per observation: coordinates, then measured, predicted, sigma and bar of each column, SI."""
    folder = out.path / "predictions"
    folder.mkdir(exist_ok=True)
    for name, p in predictions.items():
        m = p.measured
        if m.shape:  # a line for each pixel helps nobody
            arrays = {"measured": m.values, "predicted": p.values, "sigma": p.sigma[0]}
            arrays |= {} if p.std is None else {"bar": p.std}
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
    order = pick[x[pick].argsort()]
    panels: dict[str, dict[str, Any]] = {}
    residuals: dict[str, dict[str, Any]] = {}
    shaded: dict[str, tuple[Any, Any, Any]] = {}
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
        panels[label] = fit
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
    return [
        *tables(p, problem.rows(p.name)),
        Picture(curves(panels, xlabel=along, points=points, bands=shaded), f"{p.name}: measured and predicted"),
        Picture(curves(residuals, xlabel=along, points=points), f"{p.name}: residuals over sigma"),
    ]
