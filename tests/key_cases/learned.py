"""Networks that are trained on scenes that we render."""

from key_cases.judge import Case, course, learn, training, whole
from key_cases.motions import mpm

MOTION = {name: table for name, table in mpm().items() if name != "kind"}


CASES: dict[str, Case] = {
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
