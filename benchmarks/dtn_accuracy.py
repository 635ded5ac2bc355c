"""Accuracy of predicted pictures, and robustness: every row is a `simengine fit` of its own, resumed where it stopped.

`simengine bench dtn_accuracy --write docs/results/dtn.md` renews the table; finished rows under `runs/dtn_accuracy` are
kept, so that removing a row's folder measures it anew. Some half an hour of one core in all.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from simengine.fit.loop import fit
from simengine.io.arrays import write_json
from simengine.io.run_directory import RunDirectory
from simengine.scene import load_scene, resolved

FOLDER = Path("runs/dtn_accuracy")
PUBLISHED = ("task.geometry=false", "task.width=16", "task.depth=3", "task.iterations=400")
NETWORKS = {
    "linear (ours)": (),
    **{
        f"dtn4, {kind}": ("task.head=dtn4", f"task.extractor={kind}", *PUBLISHED)
        for kind in ("conv", "residual", "dense")
    },
    "dtn4, conv, published loss and paints": (
        "task.head=dtn4",
        "task.extractor=conv",
        "task.loss=bce",
        "task.paints=flat",
        *PUBLISHED,
    ),
    "ntr2, conv": ("task.head=ntr2", "task.extractor=conv", *PUBLISHED),
    "efe, unet": ("task.head=efe", "task.extractor=unet", *PUBLISHED),
}


def measured(name: str, scene: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Summary of a fit with its CPU seconds and command; from its folder where it is finished."""
    folder = FOLDER / "".join(c if c.isalnum() else "_" for c in name)
    file = folder / "measured.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    loaded = load_scene(scene, overrides)
    start = time.process_time()
    training = loaded.training()
    out = RunDirectory.create(folder, resolved(loaded), overwrite=False, resume=True)
    resumed = (folder / "checkpoint").exists()
    result = fit(training, out, progress=False)
    seconds = time.process_time() - start
    command = " ".join([f"simengine fit {scene}", *(f"--set {override}" for override in overrides)])
    summary = {**result.summary, "seconds": "resumed" if resumed else seconds, "command": command}
    write_json(file, summary)
    return summary


def network_rows() -> list[dict[str, Any]]:
    """One row a network, and one a closed form."""
    rows, summary = [], {}
    for name, overrides in NETWORKS.items():
        summary = measured(name, "dtn_network", overrides)
        rows.append(
            {
                "name": name,
                "references": 1,
                "flat [dB]": summary["object_psnr_flat"],
                "pattern [dB]": summary["object_psnr_pattern"],
                "SSIM picture": summary["ssim_picture"],
                "SSIM object": summary["ssim_object"],
                "gradient cosine": summary["gradient_cosine"],
                "CPU [s]": summary["seconds"],
                "command": f"`{summary['command']}`",
            }
        )
    for number in (2, 3, 4):
        closed: Mapping[str, float] = summary[f"references_{number}"]
        row = {"name": "closed form in sRGB", "references": number}
        rows.append({**row, "flat [dB]": closed["flat"], "pattern [dB]": closed["pattern"], "command": "any of these"})
    return rows


def main() -> list[dict]:
    """Rows of the table."""
    torch.set_num_threads(1)
    return network_rows()


if __name__ == "__main__":
    for entry in main():
        print(entry)
