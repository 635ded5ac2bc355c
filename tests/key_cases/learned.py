"""Networks that are trained on scenes that we render, and laws from videos."""

from typing import Any

from key_cases.judge import Case, build, course, learn, training, whole
from key_cases.motions import mpm

CAMERA = {"eye": [0.5, 0.6, 2.2], "target": [0.5, 0.42, 0.5], "width": 16, "height": 16, "field_of_view": 30.0}
VIDEO: dict[str, Any] = {
    "cameras": [CAMERA],
    "frames": 4,
    "blur": 1,
    "noise": 0.02,
    "stages": [0.5, 1.0],
    "iterations": 2,
}
MOTION = {name: table for name, table in mpm().items() if name != "kind"}


def render(task: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "render", "task": task}


CASES: dict[str, Case] = {
    "law from a video": Case(
        render({"type": "law_video", "motion": MOTION, **VIDEO, "law": {"width": 4}, "combinations": 2}),
        (build, training, course),
        below=tuple(f"task.{key}" for key in ("law", "combinations", "ridge", "frames", "stages", "iterations")),
        slow=True,
    ),
    "shape from pictures": Case(
        learn(
            {"kind": "solids"},
            "shape",
            size=16,
            latent=4,
            width=4,
            iterations=2,
            batch=2,
            contrast_weight=0.1,
            test_scenes=1,
            questions=1,
        ),
        (training, course, whole),
        idle={"training.range_weight": "no depth leaves what is possible in two steps"},
        slow=True,
    ),
    "views from a few": Case(
        learn(
            {"kind": "solids"},
            "views",
            views=2,
            size=16,
            bodies=1,
            planes=4,
            width=4,
            coarse=4,
            fine=2,
            iterations=2,
            test_scenes=1,
            motion=MOTION,
            frames=2,
        ),
        (training, course, whole),
        below=("model", "training", "examples", "test.count", "test.frames"),
        slow=True,
    ),
    "maps from one picture": Case(
        learn({"kind": "samples"}, "maps", size=16, width=4, iterations=2, batch=2, refine=2, test_samples=1),
        (training, course, whole),
    ),
}
