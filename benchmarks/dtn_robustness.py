"""Robustness of a detector before and after hardening: a row for each detector and paint, and the gap to full renders.

`simengine bench dtn_robustness --write docs/results/dtn.md` renews the table; a run finished in `runs/dtn_robustness`
is kept. Some sixteen minutes of one core.
"""

from pathlib import Path
from typing import Any

import torch

from simengine.worlds.laws.measured import measured_fit

FOLDER = Path("runs/dtn_robustness")
ANCHOR = Path("runs/dtn_detectors/anchor")
OVERRIDES = ("objective.transfer=true",)


def anchor_row() -> dict[str, Any]:
    """The anchor-based detector of the shipped scene by itself, in natural paints."""
    summary = measured_fit(ANCHOR, "car_detector")
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
    gap = summary["gap"]
    value = f"{gap['value']:.4f} [{gap['low']:.4f}, {gap['high']:.4f}]"
    rows.append({"name": f"gap to {summary['rendered']} full renders, optimised", "AP@.5": value})
    rows.append({"name": f"`{summary['command']}`, {summary['seconds']:.0f} s of CPU"})
    return [*rows, anchor_row()]


if __name__ == "__main__":
    for entry in main():
        print(entry)
