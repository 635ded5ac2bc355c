"""What an observation should have shown, beside what it did and what another model answered."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from simengine.scene.instrument import Measured
from simengine.solve.correlation import correlation_time
from simengine.view.report import Block, ReportTable

__all__ = ["Prediction", "correlation_time", "parts", "scores", "tables"]

LEVEL = 2.0  # standard deviations of the bar within which a row counts as inside
ROWS = 200  # of a table that a report shows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """One observation and its prediction.

    Attributes:
        name: Of the observation.
        values: Predicted, (rows, columns), SI.
        measured: What was read.
        sigma: Standard deviations of the measured values, (rows, columns), SI.
        std: Of the predicted values, from what is uncertain in the numbers behind them, (rows, columns), SI; None where
            nobody told.
    """

    name: str
    values: torch.Tensor
    measured: Measured
    sigma: torch.Tensor
    std: torch.Tensor | None = None

    @property
    def residual(self) -> torch.Tensor:
        """(predicted - measured)/sigma, (rows, columns); NaN at gaps."""
        return (self.values - self.measured.values) / self.sigma

    def chi_square(self, which: torch.Tensor) -> tuple[float, int]:
        """Sum of squares over sigma, and their number, of some of the values, bool (rows, columns)."""
        r = self.residual[which]
        return float(r.square().sum()), int(which.sum())

    def rms(self, which: torch.Tensor) -> list[float]:
        """Root mean square of predicted minus measured in each column, SI; NaN where nothing is."""
        gap = torch.where(which, (self.values - self.measured.values).square(), torch.zeros_like(self.values))
        return [float(v) for v in (gap.sum(0) / which.sum(0)).sqrt()]


def scores(p: Prediction, which: torch.Tensor) -> dict[str, dict[str, float]]:
    """Mean and root mean square of (predicted - measured)/measured, share inside two sigma, chi-square a value.

    Args:
        p: An observation with its prediction.
        which: The values that are scored, bool (rows, columns).

    Returns:
        "prediction" and the name of each other model -> its scores; a model is scored where it has an answer.
    """
    found = {}
    for name, values in {"prediction": p.values, **p.measured.beside}.items():
        own = which & ~values.isnan()
        if not bool(own.any()):
            continue
        measured, sigma = p.measured.values[own], p.sigma.expand_as(p.values)[own]
        off = values[own] - measured
        share = (off / measured)[measured != 0]
        found[name] = {
            "rows": int(own.sum()),
            "mean": float(share.mean()),
            "rms": float(share.square().mean().sqrt()),
            "inside": int((off.abs() <= LEVEL * sigma).sum()),
            "chi_square_per_row": float((off / sigma).square().mean()),
        }
    return found


def parts(p: Prediction, fitted: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """Which values are fitted and which held out, of those that there are, bool (rows, columns)."""
    named = {"fitted": fitted, "held out": p.measured.mask & p.measured.held_out}
    return {name: which for name, which in named.items() if bool(which.any())}


def tables(p: Prediction, fitted: torch.Tensor) -> list[Block]:
    """The scores, and the rows where these have names; nothing where there is neither."""
    blocks: list[Block] = []
    m = p.measured
    if m.beside:
        rows = [
            [
                part,
                name,
                s["rows"],
                f"{s['mean']:+.1%}",
                f"{s['rms']:.1%}",
                s["inside"],
                f"{s['chi_square_per_row']:.3g}",
            ]
            for part, which in parts(p, fitted).items()
            for name, s in scores(p, which).items()
        ]
        header = ["rows", "model", "values", "mean off", "rms off", "inside two sigma", "chi-square per value"]
        blocks.append(ReportTable(header, rows))
    if m.row_names and len(m.row_names) <= ROWS:
        told: list[list[Any]] = []
        for k, name in enumerate(m.row_names):
            for column in m.mask[k].nonzero()[:, 0].tolist():
                numbers = [m.values, p.sigma.expand_as(p.values), p.values, *m.beside.values()]
                out = "held out" if bool(m.held_out[k, column]) else ""
                told.append([name, m.names[column], *(f"{float(v[k, column]):.4g}" for v in numbers), out])
        blocks.append(ReportTable(["row", "value", "measured", "sigma", "predicted", *m.beside, ""], told))
    return blocks
