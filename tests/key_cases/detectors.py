"""Detectors: views of an object, and what is trained on them."""

from key_cases.judge import Case, course, learn, run, training, whole

VIEWS = {
    "seed": 3,
    "boxes": 2,
    "yaw": [10.0, 50.0],
    "pitch": [10.0, 20.0],
    "distance": [6.0, 8.0],
    "sun": [0.05, 0.09],
    "sky": [0.02, 0.05],
    "haze": [0.001, 0.01],
    "aim": 0.7,
    "reach": 2.5,
    "rain": [5.0, 30.0],
    "water": [0.5, 1.5],
    "lamps": [500.0, 1500.0],
    "headlamps": [5000.0, 9000.0],
    "metering": 4.0,
    "objects": [1, 2],
    "classes": ["van", "bicycle"],
}
MESH = {"type": "mesh", "file": "painted.obj", "paint": "paint", "length": 4.0, "up": "y", "label": "bus"}
NARROW = {"boxes": 0, "yaw": [10.0, 50.0], "pitch": [10.0, 20.0], "distance": [6.0, 7.0]}


WORLD = {"kind": "dtn", "size": 32, "train_views": 2, "test_views": 2, "sky_rays": 1, "views": NARROW}
LEARNT = {"iterations": 2, "batch": 2}
DETECTOR = {"width": 16, "iterations": 1, "batch": 2, "empty": 0.0}
CASES: dict[str, Case] = {
    "views": Case(
        {**WORLD, "views": VIEWS, "object": MESH, "train_views": 1, "width": 48},
        (run,),
        below=("views", "object", "size", "width", "train_views", "sky_rays"),
    ),
    "views of listed cameras": Case(
        {**WORLD, "train_views": 1, "views": {"seed": 3}, "cameras": "orbit.csv", "photographs": "yard"},
        (run,),
        below=("cameras", "photographs"),
    ),
    "views under a panorama": Case({**WORLD, "train_views": 1, "skies": "dome.npy"}, (run,), below=("skies",)),
    "network of views": Case(
        learn(
            WORLD,
            "transformation",
            extractor="conv",
            width=4,
            depth=2,
            crop=16,
            structure=0.1,
            paints="mosaic",
            **LEARNT,
        ),
        (training, course, whole),
        below=("model", "training", "examples", "seed", "test_views"),
        slow=True,
    ),
    "detector": Case(
        learn({**WORLD, "views": {**NARROW, "boxes": 1}}, "detector", width=16, paints="all", **LEARNT),
        (training, course, whole),
        below=("model", "training", "examples"),
        slow=True,
    ),
    "network of pictures": Case(
        learn(
            {"kind": "renders", "table": "given/renders.csv", "shoulder": "soft"},
            "transformation",
            extractor="conv",
            geometry=False,
            width=4,
            depth=2,
            crop=16,
            structure=0.1,
            **LEARNT,
        ),
        (training, course, whole),
        below=("table", "grey", "shoulder", "exposure"),
    ),
    "camouflage of pictures": Case(
        learn(
            {
                "kind": "renders",
                "table": "given/renders.csv",
                "network": "given/network",
                "unknowns": {"object.paint": {}},
            },
            "camouflage",
            "objective",
            detector={**DETECTOR, "empty": 0.5},
            rows=4,
            columns=4,
            hardening=2,
            adversaries=1,
            rendered=1,
            **LEARNT,
        ),
        (training, course, whole),
        below=("network",),
    ),
    "camouflage of pictures by greys": Case(
        learn(
            {"kind": "renders", "table": "given/greys.csv", "greys": True, "unknowns": {"object.paint": {}}},
            "camouflage",
            "objective",
            detector=DETECTOR,
            rows=4,
            columns=4,
            hardening=0,
            rendered=1,
            **LEARNT,
        ),
        (training, course, whole),
        below=("greys",),
    ),
    "camouflage": Case(
        learn(
            {**WORLD, "unknowns": {"object.paint": {}}},
            "camouflage",
            "objective",
            detector=DETECTOR,
            rows=4,
            columns=4,
            mapping="triplanar",
            palette=0.1,
            hardening=2,
            rounds=2,
            sparring=1,
            adversaries=1,
            attack_views=1,
            rendered=1,
            **LEARNT,
        ),
        (training, course, whole),
        below=("objective", "inference"),
        slow=True,
    ),
}
