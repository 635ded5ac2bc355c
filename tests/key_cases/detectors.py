"""Detectors: views of an object, and what is trained on them."""

from typing import Any

from key_cases.judge import Case, course, run, training, whole

VIEWS = {
    "seed": 3,
    "boxes": 2,
    "yaw": [10.0, 50.0],
    "pitch": [10.0, 20.0],
    "distance": [6.0, 8.0],
    "sun": [0.5, 0.9],
    "haze": [0.001, 0.01],
}
MESH = {"type": "mesh", "file": "painted.obj", "paint": "paint", "length": 4.0, "up": "y"}
NARROW = {"boxes": 0, "yaw": [10.0, 50.0], "pitch": [10.0, 20.0], "distance": [6.0, 7.0]}


def dtn(task: dict[str, Any], **more: Any) -> dict[str, Any]:
    small = {"size": 32, "train_views": 2, "test_views": 2, "sky_rays": 1, "views": NARROW}
    return {"kind": "dtn", **small, "task": task, **more}


LEARNT = {"iterations": 2, "batch": 2}
DETECTOR = {"width": 16, "iterations": 1, "batch": 2, "empty": 0.0}
CASES: dict[str, Case] = {
    "views": Case(
        dtn({"type": "network"}, views=VIEWS, object=MESH, train_views=1),
        (run,),
        below=("views", "object", "size", "train_views", "sky_rays"),
    ),
    "network of views": Case(
        dtn(
            {
                "type": "network",
                "extractor": "conv",
                "width": 4,
                "depth": 2,
                "crop": 16,
                "structure": 0.1,
                "paints": "mosaic",
                **LEARNT,
            }
        ),
        (training, course, whole),
        below=("task", "seed", "test_views"),
        slow=True,
    ),
    "detector": Case(
        dtn({"type": "detector", "width": 16, "paints": "all", **LEARNT}, views={**NARROW, "boxes": 1}),
        (training, course, whole),
        below=("task",),
        slow=True,
    ),
    "camouflage": Case(
        dtn(
            {
                "type": "camouflage",
                "detector": DETECTOR,
                "rows": 4,
                "columns": 4,
                "mapping": "triplanar",
                "restarts": 1,
                "iterations": 2,
                "batch": 2,
                "palette": 0.1,
                "hardening": 2,
                "rounds": 2,
                "sparring": 1,
                "adversaries": 1,
                "attack_views": 1,
                "rendered": 1,
            }
        ),
        (training, course, whole),
        below=("task",),
        slow=True,
    ),
}
