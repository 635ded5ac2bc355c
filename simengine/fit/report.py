"""The one report of a fit, whatever the world: what was found, measured beside predicted, what is left over."""

import dataclasses
import math
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch

from simengine.fit.certainty.bars import bars_summary, posterior_of
from simengine.fit.certainty.evidence import log_evidence
from simengine.fit.certainty.predictive import MOST, Predictive, predictive
from simengine.fit.certainty.shown import samples_shown
from simengine.fit.certainty.worth import Worth
from simengine.fit.derived import derived
from simengine.fit.observed import observation_blocks, write_predictions
from simengine.fit.posterior import Estimate, Posterior, bands
from simengine.fit.problem import Problem
from simengine.fit.problem.prediction import Prediction, parts, scores
from simengine.fit.spread import spread_of
from simengine.io.tables import file_hash
from simengine.scene.asks import Ask
from simengine.scene.base import Refused
from simengine.scene.own_code import own_scripts
from simengine.view.figures import curves
from simengine.view.report import Block, Picture, ReportTable, write_report

if TYPE_CHECKING:
    from simengine.fit.inference import LeastSquaresFit
    from simengine.io.run_directory import RunDirectory

EXPLAINED = 1.5  # chi-square per degree of freedom up to which a model explains its data
FOUND = "found"  # folder of a prediction's run for what its worlds keep as it is found
MAX_BANDS = 40  # unknowns up to which the bands of predictions are drawn


def answer(fit: "LeastSquaresFit", out: "RunDirectory") -> dict[str, Any]:
    """Write fit.json, report.html and a csv per observation; return what `simengine fit` prints."""
    problem, z = fit.problem, fit.z
    predictions = problem.predict(z)
    found = posterior_of(fit)
    spread = spread_of(problem, z, found)
    found = dataclasses.replace(found, estimates={**found.estimates, **derived(problem, z, found.covariance)})
    widths = _widths(problem, z, found, predictions)
    predictions = {name: dataclasses.replace(p, std=widths.get(name)) for name, p in predictions.items()}
    summary: dict[str, Any] = {
        "estimates": {name: estimate_summary(e) for name, e in found.estimates.items()},
        **misfit_summary(problem, predictions, found.worth),
        "directions": list(found.directions),
        **bars_summary(found),
        "solves": problem.runs.solves,
    }
    evidence, why = log_evidence(problem, z, found.linearised)
    summary |= {"log_evidence": evidence} if evidence is not None else {"no_evidence": why}
    reference = reference_rows(problem, found.estimates)
    if reference:
        summary["reference"] = {name: values for name, *values in reference}
    provenance = provenance_of(problem)
    left_out = predictive(problem, z, found)
    if len(left_out.loo) <= MOST:
        out.write("left_out.npz", {"loo": left_out.loo, "waic": left_out.waic})
    more = {"predictive": left_out.summary(), "covariance": found.covariance, "spread": spread.plain()}
    out.write("fit.json", {**summary, **more, "provenance": provenance})
    if found.samples is not None:
        out.write("samples.npz", {**found.samples.values, "log_density": found.samples.log_density})
    write_predictions(problem, predictions, out)
    shown_samples = samples_shown(problem, found, {name: value for name, value, _ in reference})
    sections: dict[str, Sequence[Block]] = {
        "What was found": [*_found(found, reference), *shown_samples],
        "How well the data are explained": [*_explained(summary, problem), _left_out(left_out)],
    }
    for name, prediction in predictions.items():
        sections[f"Observation {name}"] = observation_blocks(problem, prediction)
    shown: list[Block] = []
    for run, world in problem.worlds.items():
        blocks = world.show(problem.run_at(z, run, _asks(problem, run, z)), out.within(run))
        shown += [*([run] if run and blocks else []), *blocks]
    if shown:
        sections["The world"] = shown
    history = out.events("iteration")
    sections["Convergence"] = _convergence(history)
    sections["Provenance"] = _provenance(provenance, problem)
    _write_page(out, f"{out.path.name}: {problem.scene.kind}", sections)
    return summary


def misfit_report(
    problem: Problem, out: "RunDirectory", bars: Mapping[str, torch.Tensor] | None = None
) -> dict[str, Any]:
    """The report of a prediction: nothing is moved, the misfits are told.

    Args:
        problem: What is predicted.
        out: Where it is written.
        bars: Standard deviation of each prediction, (rows, columns), by observation, where somebody knows it.
    """
    z = problem.start()
    problem.runs.folder = out.path / FOUND
    problem.settle(z)
    problem.estimate_sigmas(z)
    predictions = {n: dataclasses.replace(p, std=(bars or {}).get(n)) for n, p in problem.predict(z).items()}
    summary = misfit_summary(problem, predictions, None)
    provenance = provenance_of(problem)
    told = {name: found for name in predictions if (found := problem.findings(name, out)) is not None}
    for name, found in told.items():
        summary["observations"][name] = {"rows": summary["observations"][name]["rows"], **found.summary}
    rest = {name: p for name, p in predictions.items() if name not in told}
    if not rest:
        summary.pop("explained")
    out.write("predict.json", {**summary, "provenance": provenance})
    write_predictions(problem, predictions, out)
    sections: dict[str, Sequence[Block]] = {}
    for found in told.values():
        sections |= found.sections
    if rest:
        sections["How well the data are predicted"] = _explained(summary, problem, rest)
    for name, prediction in rest.items():
        sections[f"Observation {name}"] = observation_blocks(problem, prediction)
    sections["Provenance"] = _provenance(provenance, problem)
    _write_page(out, f"{out.path.name}: {problem.scene.kind}", sections)
    return summary


def _asks(problem: Problem, run: str, z: torch.Tensor) -> list[Ask]:
    instruments = problem.instruments_at(z)
    return [a for n, own in instruments.items() if own.run == run for a in own.asks(problem.measured[n])]


def _write_page(out: "RunDirectory", title: str, sections: Mapping[str, Sequence[Block]]) -> None:
    write_report(out.claim("report.html"), title, sections)


def estimate_summary(e: Estimate) -> dict[str, Any]:
    """An estimate as JSON: null where there is no number, with the reason beside it."""
    return {
        "value": e.value,
        "std": e.std,
        "interval": [e.low, e.high],
        "unit": e.unit,
        "identified": e.identified,
        **({"why": e.why} if e.why else {}),
        **({"prior": [e.prior_mean, e.prior_std]} if e.prior_mean is not None else {}),
    }


def misfit_summary(
    problem: Problem, predictions: Mapping[str, Prediction], worth: Mapping[str, Worth] | None
) -> dict[str, Any]:
    """Chi-square, root mean square and held-out prediction of each observation."""
    each: dict[str, Any] = {}
    for name, p in predictions.items():
        fitted, out = problem.rows(name), p.measured.mask & p.measured.held_out
        chi, rows = p.chi_square(fitted)
        entry: dict[str, Any] = {"rows": rows}
        estimated = name in problem.sigmas
        if rows:
            entry["rms"] = dict(zip(p.measured.names, map(_finite, p.rms(fitted)), strict=True))
            entry["sigma"] = "estimated" if estimated else "given"
            entry["chi_square_per_row"] = chi / rows
            if worth and name in worth:
                entry["chi_square_per_degree"] = worth[name].reduced
                entry["rows_that_count_as_one"] = worth[name].correlation
            if name in problem.errors:
                entry["model_error"] = problem.errors[name].plain(p.measured.names)
        if bool(out.any()):
            held, count = p.chi_square(out)
            entry["held_out"] = {
                "rows": count,
                "chi_square_per_row": held / count,
                "rms": dict(zip(p.measured.names, map(_finite, p.rms(out)), strict=True)),
            }
            if p.std is not None:  # a prediction is as far off as its own bar and that of the measurement let it be
                both = dataclasses.replace(p, sigma=(p.sigma.square() + p.std.square()).sqrt())
                entry["held_out"]["chi_square_per_row_with_bars"] = both.chi_square(out)[0] / count
        if p.std is not None:
            bar = torch.where(p.measured.mask, p.std.square(), 0.0).sum(0) / p.measured.mask.sum(0).clamp_min(1)
            entry["bar"] = dict(zip(p.measured.names, bar.sqrt().tolist(), strict=True))
        if p.measured.beside:
            entry["beside"] = {part: scores(p, which) for part, which in parts(p, fitted).items()}
        if p.measured.notes:
            entry["notes"] = list(p.measured.notes)
        each[name] = entry
    told = [e["chi_square_per_row"] for e in each.values() if e.get("sigma") == "given" and "chi_square_per_row" in e]
    explained = all(value <= EXPLAINED for value in told)
    return {
        "observations": each,
        "explained": explained if told else None,
        **({"doubts": problem.doubts} if problem.doubts else {}),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def reference_rows(problem: Problem, estimates: Mapping[str, Estimate]) -> list[tuple[str, float, float | None]]:
    """Name, published or hidden value, and how many standard deviations the estimate lies off."""
    rows: list[tuple[str, float, float | None]] = []
    for name, estimate in estimates.items():
        key, _, entry = name.rpartition(" ")  # an entry of a vector is told by its number
        value = problem.scene.reference.get(name)
        if value is None and entry.isdigit() and isinstance(whole := problem.scene.reference.get(key), list):
            value = whole[int(entry)] if int(entry) < len(whole) else None
        if isinstance(value, dict):
            value = value.get("value")
        if isinstance(value, int | float):
            off = (estimate.value - value) / estimate.std if estimate.std else None
            rows.append((name, float(value), off))
    return rows


def provenance_of(problem: Problem) -> dict[str, Any]:
    """Command, versions, files with hashes, seed and time."""
    versions = {name: metadata.version(name) for name in ("simengine", "torch", "warp-lang", "numpy")}
    files = {f"{name}: {file}": digest for name, m in problem.measured.items() for file, digest in m.files.items()}
    return {
        "command": shlex.join(["simengine", *sys.argv[1:]]),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": versions,
        "files": files,
        "seed": problem.scene.world.seed,
        **({"own code": {p.name: file_hash(p) for p in own_scripts()}} if own_scripts() else {}),
    }


def _widths(
    problem: Problem, z: torch.Tensor, found: Posterior, predictions: Mapping[str, Prediction]
) -> dict[str, torch.Tensor]:
    if sum(c.chosen for c in problem.coordinates) > MAX_BANDS or len(z) > MAX_BANDS:
        return {}
    try:
        return bands(problem, z, found.covariance, list(predictions))
    except Refused:  # a band reaches beyond what has a run; the report goes without
        return {}


def number(value: float | None, std: float | None = None) -> str:
    """A number with the digits that its standard deviation leaves."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "no bound"
    if std is None or not std > 0 or not math.isfinite(std):
        return f"{value:.6g}"
    digits = max(1, min(10, math.floor(math.log10(max(abs(value), std))) - math.floor(math.log10(std)) + 2))
    return f"{value:.{digits}g}"


def _found(found: Posterior, reference: Sequence[tuple[str, float, float | None]]) -> list[Block]:
    published = {name: (value, off) for name, value, off in reference}
    header = ["unknown", "value", "standard deviation", "95 % interval", "unit", "prior s.d.", "told by the data"]
    rows = []
    for name, e in found.estimates.items():
        interval = "-" if e.low is None else f"{number(e.low, e.std)} to {number(e.high, e.std)}"
        row: list[Any] = [
            name,
            number(e.value, e.std),
            "-" if e.std is None else f"{e.std:.2g}",
            interval,
            e.unit,
            "-" if e.prior_std is None else f"{e.prior_std:.3g}",
            e.identified,
        ]
        if published:
            value, off = published.get(name, (None, None))
            row += ["-" if value is None else f"{value:.6g}", "-" if off is None else f"{off:+.1f}"]
        rows.append(row)
    if published:
        header += ["reference", "off by [s.d.]"]
    blocks: list[Block] = [ReportTable(header, rows)]
    if len(found.minima) > 1:
        names = list(found.minima[0].values)
        ends = [
            [f"{m.misfit - found.minima[0].misfit:.3g}", m.starts, *(f"{m.values[n]:.5g}" for n in names)]
            for m in found.minima
        ]
        blocks.append(ReportTable(["chi-square above the best", "starts that ended here", *names], ends))
    if found.samples is not None and found.samples.converged:
        least = min(found.samples.effective.values())
        how = {"ellipse": "draws from Laplace's ellipse, judged by the density"}.get(
            method := found.samples.method, method
        )
        blocks.append(f"Bars from samples ({how}): {least:.0f} effective ones at least.")
    return blocks + [f"{text}." for text in found.directions]


def _left_out(found: Predictive) -> str:
    told = found.summary()
    hard = f"; {found.hard} of them decide too much for that to be trusted" if found.hard else ""
    return (
        f"Values left out one by one: log density {told['loo']:.5g} +- {told['loo_standard_error']:.2g} over "
        f"{told['rows']}, {found.numbers:.3g} effective numbers{hard}. It compares models of the same data "
        "(simengine compare), as does WAIC: " + f"{told['waic']:.5g}."
    )


def _explained(
    summary: Mapping[str, Any], problem: Problem, only: Mapping[str, Prediction] | None = None
) -> list[Block]:
    rows = []
    for name, entry in summary["observations"].items():
        if only is not None and name not in only:
            continue
        held = entry.get("held_out", {})
        rms = ", ".join(f"{key} {value:.3g}" for key, value in entry.get("rms", {}).items() if value is not None)
        out = ", ".join(f"{key} {value:.3g}" for key, value in held.get("rms", {}).items() if value is not None)
        rows.append(
            [
                name,
                entry["rows"],
                entry.get("sigma", "-"),
                _short(entry.get("chi_square_per_degree", entry.get("chi_square_per_row"))),
                _short(entry.get("rows_that_count_as_one")),
                rms,
                out,
                _short(held.get("chi_square_per_row")),
                _short(held.get("chi_square_per_row_with_bars")),
            ]
        )
    header = [
        "observation",
        "values",
        "sigma",
        "chi-square per degree",
        "values that count as one",
        "rms, SI",
        "held out: rms, SI",
        "held out: chi-square per value",
        "with the bars of the prediction",
    ]
    if all(row[-1] == "-" for row in rows):  # no bars were drawn
        header, rows = header[:-1], [row[:-1] for row in rows]
    if all(row[6:8] == ["", "-"] for row in rows):  # nothing was held out
        header, rows = header[:6], [row[:6] for row in rows]
    blocks: list[Block] = [ReportTable(header, rows)]
    if summary["explained"] is False:
        blocks.append(
            "The model does not explain the data within their noise: chi-square per value is above "
            f"{EXPLAINED:g} where sigma was given. The bars are widened by the misfit; look at the residuals below for "
            "where the model fails, and free what may be wrong (a start, a place, a law)."
        )
    elif summary["explained"] is None:
        blocks.append(
            "The noise was estimated from the residuals, so chi-square judges nothing; the residuals below do."
        )
    blocks += [f"Doubt: {text}." for text in problem.doubts]
    blocks += [f"{name}: {note}." for name, m in problem.measured.items() for note in m.notes]
    return blocks


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _convergence(history: Sequence[Mapping[str, Any]]) -> list[Block]:
    if not history:
        return []
    loss = [entry["figures"]["loss"] for entry in history]
    stage = [(entry["figures"].get("stage", 0.0), entry["figures"].get("round", 0.0)) for entry in history]
    curve: dict[str, Any] = {}
    for value in sorted(set(stage)):
        own = [k for k, s in enumerate(stage) if s == value]
        again = f", noise estimated {int(value[1])} times" if value[1] else ""
        curve[f"stage {int(value[0]) + 1}{again}"] = ([k + 1 for k in own], [loss[k] for k in own])
    label = "chi-square per row"
    single = tuple(name for name, (x, _) in curve.items() if len(x) == 1)
    log = (label,) if min(loss) > 0 else ()
    return [Picture(curves({label: curve}, xlabel="trial", points=single, log=log), "Convergence by stage")]


def _provenance(provenance: Mapping[str, Any], problem: Problem) -> list[Block]:
    rows: list[tuple[str, Any]] = [
        ("command", provenance["command"]),
        ("time", provenance["time"]),
        ("seed", provenance["seed"]),
        ("versions", ", ".join(f"{k} {v}" for k, v in provenance["versions"].items())),
    ]
    rows += [(file, f"sha256 {digest[:16]}...") for file, digest in provenance["files"].items()]
    rows += [(f"own code: {f}", f"sha256 {d[:16]}...") for f, d in provenance.get("own code", {}).items()]
    rows.append(("solves of the world", problem.runs.solves))
    return [ReportTable(("", ""), rows)]
