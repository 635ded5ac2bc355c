"""Accuracy of predicted pictures: every network is a `simengine train` of its own, resumed where it stopped.

`simengine bench dtn_accuracy --write docs/results/dtn.md` renews the table; finished rows under `runs/dtn_accuracy` are
kept, so that removing a row's folder measures it anew. Some nine minutes of one core in all.
"""

from pathlib import Path
from typing import Any

import torch

from simengine.scene import load_world
from simengine.worlds.detectors.network import evaluate_closed_forms, scene_views
from simengine.worlds.laws.measured import measured_fit

FOLDER = Path("runs/dtn_accuracy")
# of the same width and depth, after as many steps on the same pictures; the first two are ours in full
SAME = ("training.structure=0", "model.width=16", "model.depth=3", "training.iterations=150")
BARE = (*SAME, "model.geometry=false")
NETWORKS = {
    "linear (ours)": (),
    "linear, varied (ours)": ("examples.varied=true",),
    "linear, same steps": SAME,
    "dtn4, residual, with geometry": ("model.head=dtn4", "model.extractor=residual", *SAME),
    "efe, unet, with geometry": ("model.head=efe", "model.extractor=unet", *SAME),
    "dtn4, conv": ("model.head=dtn4", "model.extractor=conv", *BARE),
    "dtn4, residual": ("model.head=dtn4", "model.extractor=residual", *BARE),
    "dtn4, dense": ("model.head=dtn4", "model.extractor=dense", *BARE),
    "ntr2, conv": ("model.head=ntr2", "model.extractor=conv", *BARE),
    "efe, unet": ("model.head=efe", "model.extractor=unet", *BARE),
    "dtn4, conv, mosaics": ("model.head=dtn4", "model.extractor=conv", "examples.paints=mosaic", *BARE),
    "dtn4, conv, published loss and paints": (
        *("model.head=dtn4", "model.extractor=conv", "training.loss=bce", "examples.paints=flat"),
        *BARE,
    ),
}


def folder_of(name: str) -> Path:
    """Where the run of a network lies."""
    return FOLDER / "".join(c if c.isalnum() else "_" for c in name)


def measured(name: str) -> dict[str, Any]:
    """The summary of a network's run, which is made where it is missing."""
    return measured_fit(folder_of(name), "dtn_network", NETWORKS[name])


def network_rows() -> list[dict[str, Any]]:
    """One row a network."""
    rows = []
    for name in NETWORKS:
        summary = measured(name)
        rows.append(
            {
                "name": name,
                "references": 1,
                "flat, dB": summary["object_psnr_flat"],
                "pattern, dB": summary["object_psnr_pattern"],
                "SSIM picture": summary["ssim_picture"],
                "SSIM object": summary["ssim_object"],
                "gradient cosine": summary["gradient_cosine"],
                "CPU, s": summary["seconds"],
                "command": f"`{summary['command']}`",
            }
        )
    return rows


def closed_form_rows() -> list[dict[str, Any]]:
    """One row a closed form."""
    scene = load_world("dtn_network")
    closed = evaluate_closed_forms(scene_views(scene, scene.test_sampler, scene.test_views))
    names = {
        "references_1": ("where linear starts: coat and dark channel, no training", 1),
        "references_2": ("polynomial in sRGB", 2),
        "references_3": ("polynomial in sRGB", 3),
        "references_4": ("polynomial in sRGB", 4),
        "references_2_tone_known": ("affine law, tone curve known", 2),
    }
    return [
        {
            "name": name,
            "references": number,
            "flat, dB": closed[key]["flat"],
            "pattern, dB": closed[key]["pattern"],
            "command": "`simengine bench dtn_accuracy`",
        }
        for key, (name, number) in names.items()
    ]


def main() -> list[dict]:
    """Rows of the table."""
    torch.set_num_threads(1)
    return network_rows() + closed_form_rows()


if __name__ == "__main__":
    for entry in main():
        print(entry)
