"""Robustness of a detector before and after hardening beside controls: a row for each detector and paint, gains, gap.

`simengine bench dtn_robustness --write docs/results/dtn.md` renews the table; a run finished in `runs/dtn_robustness`
is kept. At a reduced size, the same for all rows; some six minutes of one core.
"""

from pathlib import Path
from typing import Any

import torch

from simengine.worlds.laws.measured import measured_fit

FOLDER = Path("runs/dtn_robustness")
ANCHOR = Path("runs/dtn_detectors/anchor")
OVERRIDES = (
    *("train_views=200", "test_views=200", "objective.rendered=200", "objective.detector.iterations=300"),
    *("objective.evasion=each", "inference.restarts=3", "inference.iterations=100", "inference.batch=8"),
    *("inference.hardening=400", "inference.rounds=2", "objective.controls=true", "inference.black_box=200"),
)
SMALLER = ("train_views=200", "training.iterations=300")


def anchor_row() -> dict[str, Any]:
    """The anchor-based detector of the shipped scene by itself, in natural paints."""
    summary = measured_fit(ANCHOR, "car_detector", SMALLER)
    figures = {"AP@.5": summary["AP50"], "AP@.75": summary["AP75"].split()[0], "missed": f"{summary['missed']:.3f}"}
    return {"name": f"`{summary['command']}`, {summary['seconds']:.0f} s of CPU", **figures}


def main() -> list[dict]:
    """Rows of the table."""
    torch.set_num_threads(1)
    summary = measured_fit(FOLDER, "camouflage", OVERRIDES)
    rows: list[dict[str, Any]] = []
    for name, figures in summary.items():
        if isinstance(figures, dict) and "AP50" in figures:
            detector, paint = name.split("/")
            bounds = f"{figures['AP50']:.3f} [{figures['AP50_low']:.3f}, {figures['AP50_high']:.3f}]"
            row = {"name": f"{detector}, {paint}", "AP@.5": bounds}
            rows.append({**row, "AP@.75": f"{figures['AP75']:.3f}", "missed": f"{figures['missed']:.3f}"})
    for control, by_paint in summary["gains"].items():
        for paint, gain in by_paint.items():
            value = f"{gain['value']:.3f} [{gain['low']:.3f}, {gain['high']:.3f}]"
            rows.append({"name": f"hardened less {control}, {paint}", "AP@.5": value})
    gap = summary["gap"]
    value = f"{gap['value']:.4f} [{gap['low']:.4f}, {gap['high']:.4f}]"
    rows.append({"name": f"gap to {summary['rendered']} full renders, optimised", "AP@.5": value})
    rows.append({"name": f"`{summary['command']}`, {summary['seconds']:.0f} s of CPU"})
    return [*rows, anchor_row()]


if __name__ == "__main__":
    for entry in main():
        print(entry)
