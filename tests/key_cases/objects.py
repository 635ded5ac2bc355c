"""Things that are pictured."""

from key_cases.judge import Case, build, steps, training

CASES: dict[str, Case] = {
    "tomography": Case(
        {
            "kind": "render",
            "task": {
                "type": "tomography",
                "blobs": [{"center": [0.1, 0.2, 0.3]}],
                "orbit": {"views": 2, "size": 8},
                "resolution": 6,
                "noise": 0.01,
                "iterations": 3,
            },
        },
        (build, training, steps),
    ),
    "camera pose": Case(
        {
            "kind": "render",
            "task": {
                "type": "camera_pose",
                "camera": {"width": 24, "height": 16, "up": [0.1, 1.0, 0.2], "eye": [1.3, 1.0, 2.5]},
                "num_points": 200,
                "iterations": 3,
            },
        },
        (build, training, steps),
        idle={"seed": "nothing is random: the points are spread evenly, and there is no noise"},
    ),
    "material maps": Case(
        {
            "kind": "render",
            "task": {"type": "material_maps", "size": 8, "lights": 2, "iterations": 3, "texel_iterations": 2},
        },
        (build, training, steps),
    ),
}
