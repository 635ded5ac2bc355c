"""The report of a fit of fields: the fields, what was seen beside what they predict, and what was found beside them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from simengine.fit.certainty.worth import Worth, student
from simengine.fit.fields.bars import TOLD, FieldBars, Laplace, bars_of, why_not
from simengine.fit.posterior import Posterior, estimates_of
from simengine.fit.problem.prediction import Prediction
from simengine.fit.report import (
    _asks,
    _convergence,
    _explained,
    _found,
    _provenance,
    _write_page,
    estimate_summary,
    misfit_summary,
    provenance_of,
)
from simengine.scene.base import AbstractRun
from simengine.view.figures import fields as draw
from simengine.view.report import Block, Picture, ReportTable

if TYPE_CHECKING:
    from simengine.fit.fields.training import FieldFit
    from simengine.io.run_directory import RunDirectory


BARS = ("std", "low", "high", "told")  # of each cell, in fields.npz


def field_answer(fit: "FieldFit", out: "RunDirectory") -> dict[str, Any]:
    """Write fit.json, fields.npz, predictions and report.html; return what `simengine fit` prints."""
    problem = fit.problem
    predictions = problem.predict(fit.z)
    found = fit.fields()
    posterior, bars, said = field_posterior(fit, predictions)
    fit.answer = posterior, bars
    parts = {f"{key}.{name}": getattr(own, name) for key, own in bars.items() for name in BARS}
    out.write("fields.npz", {**found, **parts})
    summary: dict[str, Any] = {
        "estimates": {name: estimate_summary(e) for name, e in posterior.estimates.items()},
        "fields": {key: _figures(fit, key, field, bars.get(key)) for key, field in found.items()},
        **misfit_summary(problem, predictions, posterior.worth),
        "directions": [],
        "solves": problem.runs.solves,
    }
    truths: dict[str, torch.Tensor] = {}
    told = {key: value for key, value in problem.scene.reference.items() if key in found and isinstance(value, dict)}
    if told:
        truths = {key: true for key, value in told.items() if (true := fit.world.truth(key, value)) is not None}
        summary["reference"] = {
            key: {**fit.world.beside(key, found[key], value), **_inside(bars.get(key), truths.get(key))}
            for key, value in told.items()
        }
        if direct := _direct(fit, told):
            summary["direct"] = direct
    provenance = provenance_of(problem)
    out.write("fit.json", {**summary, "provenance": provenance})
    for name, p in predictions.items():
        out.write(f"predictions-{name}.npz", {"measured": p.measured.values, "predicted": p.values, "sigma": p.sigma})
    sections: dict[str, Sequence[Block]] = {"What was found": _fields(fit, summary, posterior, bars, said, truths)}
    if fit.scores:
        rows = [(f"{factor:.3g}", f"{score:.5g}") for factor, score in fit.scores]
        text = "One value in 16 was kept from the search; the weight that predicts them best was taken."
        sections["Weight of the prior"] = [
            text,
            ReportTable(("weight, relative", "misfit of the values kept out"), rows),
        ]
    sections["How well the data are explained"] = _explained(summary, problem)
    for name, prediction in predictions.items():
        sections[f"Observation {name}"] = _observation(fit, prediction)
    if shown := [
        block for run, world in problem.worlds.items() for block in world.show(_run_of(fit, run), out.within(run))
    ]:
        sections["The world"] = shown
    sections["Convergence"] = _convergence(out.events("iteration"))
    sections["Provenance"] = _provenance(provenance, problem)
    _write_page(out, f"{out.path.name}: {problem.scene.kind}", sections)
    return summary


def _run_of(fit: "FieldFit", run: str) -> AbstractRun:
    """The answer's own run."""
    return fit.problem.run_at(fit.z, run, _asks(fit.problem, run, fit.z))


def field_posterior(
    fit: "FieldFit", predictions: Mapping[str, Prediction]
) -> tuple[Posterior, dict[str, FieldBars], tuple[str, ...]]:
    """Of the numbers beside the fields, every cell being free, and of the cells; what is to be said of these.

    Rows are counted by what they are worth: less where residuals hang together, or are larger than the noise once the
    degrees of freedom that the cells took are counted.
    """
    problem, own, profile = fit.problem, fit.objective, fit.profile
    why = why_not(own)
    cells = None if why else Laplace(own, fit.x, fit.z)
    degrees = cells.posterior({}, profile).degrees if cells is not None else {}
    names = cells.lengths if cells is not None else profile.information if profile is not None else ()
    worth = {}
    for name in names:
        p, which = predictions[name], problem.rows(name)
        chi, rows = p.chi_square(which)
        residual = torch.where(which, p.residual, torch.nan)
        correlation = problem.instruments[name].rows_as_one(residual, p.measured)
        reduced = chi / max(rows - degrees.get(name, 0.0), 1.0)
        worth[name] = Worth(
            chi_square=chi,
            rows=rows,
            reduced=reduced,
            correlation=correlation,
            estimated=name in problem.sigmas,
            factor=max(reduced, 1.0)
            * correlation
            * (student(rows / correlation - degrees.get(name, 0.0)) if name in problem.sigmas else 1.0),
        )
    factors = {name: one.factor for name, one in worth.items()}
    bars: dict[str, FieldBars] = {}
    said: tuple[str, ...] = (f"The fields have no bars. {why}.",)
    if cells is not None:
        found = cells.posterior(factors, profile)
        bars = bars_of(own, fit.x, found)
        total = sum(found.degrees.values())
        said = (f"The data decide {total:.3g} of {len(fit.x)} degrees of freedom, the prior the others.",)
        if found.least > TOLD:
            said += (
                f"Directions that the data tell less than {found.least:.2g} times as well as the prior are left to the "
                "prior: the bars are too wide by what these would take away.",
            )
    if profile is None:
        return Posterior(estimates={}, covariance=torch.zeros(0, 0), directions=(), worth=worth), bars, said
    told = profile.bend * sum(part / factors[name] for name, part in profile.information.items())
    covariance = profile.covariance(factors)
    assert isinstance(told, torch.Tensor)
    estimates = estimates_of(problem, fit.z, covariance, told, worth)
    return Posterior(estimates=estimates, covariance=covariance, directions=(), worth=worth), bars, said


def _direct(fit: "FieldFit", told: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Field -> formula -> its scores beside the reference, where an instrument has one."""
    problem, found = fit.problem, {}
    instruments = problem.instruments_at(fit.z)
    for key, reference in told.items():
        shape, extent = fit.objective.shapes[key], fit.world.extent(key)
        answers = [own.direct(key, problem.measured[name], extent, shape) for name, own in instruments.items()]
        scores = {name: fit.world.beside(key, field, reference) for name, field in filter(None, answers)}
        if scores:
            found[key] = scores
    return found


def _inside(bars: FieldBars | None, true: torch.Tensor | None) -> dict[str, float]:
    """The share of the cells whose 95 % band holds the truth."""
    if bars is None or true is None:
        return {}
    return {"share of cells inside the 95 % band": float(((bars.low <= true) & (true <= bars.high)).double().mean())}


def _figures(fit: "FieldFit", key: str, field: torch.Tensor, bars: FieldBars | None) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "cells": list(field.shape),
        "least": float(field.min()),
        "mean": float(field.mean()),
        "greatest": float(field.max()),
        **{name: float(value) for name, value in fit.world.measures(key, field).items()},
    }
    if bars is not None:
        figures["standard deviation, mean"] = float(bars.std.mean())
        figures["told by the data, mean"] = float(bars.told.mean())
        figures.update({f"standard deviation of {name}": std for name, std in bars.figures.items()})
    if key in fit.weights():
        figures["total_variation"] = fit.weights()[key]
    return figures


def _fields(
    fit: "FieldFit",
    summary: Mapping[str, Any],
    posterior: Posterior,
    bars: Mapping[str, FieldBars],
    said: Sequence[str],
    truths: Mapping[str, torch.Tensor],
) -> list[Block]:
    blocks: list[Block] = []

    def pictured(key: str, fields: Mapping[str, torch.Tensor]) -> NDArray[np.uint8]:
        rows = [
            {f"{title}{name}": image.numpy()[::-1] for name, image in fit.world.figures(key, field).items()}
            for title, field in fields.items()
        ]
        if len(rows[0]) == 1:  # one map of each stand side by side
            rows = [{title: image for row in rows for title, image in row.items()}]
        height, width = next(iter(rows[0].values())).shape
        extent = (0.0, float(width), 0.0, float(height))
        return np.concatenate([draw(row, extent=extent, xlabel="cell", ylabel="cell") for row in rows])

    for key, field in fit.fields().items():
        blocks.append(Picture(pictured(key, {"": field}), key))
        if key in bars and fit.world.pictures_cells:
            own = {"standard deviation of ": bars[key].std, "told by the data, of 1: ": bars[key].told}
            blocks.append(Picture(pictured(key, own), f"{key}: what is uncertain, and what the data tell of it"))
        if key in truths:
            own = {"the truth of ": truths[key], "found less true of ": field - truths[key]}
            blocks.append(Picture(pictured(key, own), f"{key} beside the reference"))
        blocks.append(
            ReportTable(
                ("figure", key),
                [(n, " x ".join(map(str, v)) if isinstance(v, list) else v) for n, v in summary["fields"][key].items()],
            )
        )
    blocks += said
    if posterior.estimates:
        blocks += _found(posterior, [])
    for key, scores in summary.get("reference", {}).items():
        direct = summary.get("direct", {}).get(key, {})
        rows = [(name, value, *(own.get(name, "") for own in direct.values())) for name, value in scores.items()]
        blocks.append(ReportTable(("beside the reference", key, *direct), rows))
    return blocks


def _observation(fit: "FieldFit", p: Prediction) -> list[Block]:
    shape = getattr(fit.problem.instruments[p.name], "shape", None)
    if shape is None:
        return []
    views, rows, elements = shape(p.measured)
    pick = (slice(None), 0) if views > 1 else (0, slice(None))

    def panel(values: torch.Tensor) -> NDArray[np.float64]:
        image: NDArray[np.float64] = values.reshape(views, rows, elements)[pick].numpy()
        return image[::-1] if views == 1 else image

    measured, predicted = panel(p.measured.values), panel(p.values)
    panels = {"measured": measured, "predicted": predicted, "(predicted - measured)/sigma": panel(p.residual)}
    limits = {"measured": (0.0, float(np.nanmax(measured))), "predicted": (0.0, float(np.nanmax(measured)))}
    limits["(predicted - measured)/sigma"] = (-5.0, 5.0)
    extent = (0.0, float(elements), 0.0, float(views if views > 1 else rows))
    image = draw(panels, extent=extent, xlabel="element", ylabel="view" if views > 1 else "row", limits=limits)
    return [Picture(image, f"{p.name}: measured, predicted and what is left over")]
