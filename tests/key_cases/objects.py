"""Things that are pictured."""

import torch

from key_cases.judge import Case, answers, build, course, explained, learn, observed, trained, training, whole
from simengine.scene.asks import Fields, Rays, View

CASES: dict[str, Case] = {}
PLACES = torch.tensor([[11.0, 22.0], [17.0, 24.0], [31.0, 37.0]], dtype=torch.float64)
CROSS = torch.tensor([[0.1, -3.0, 0.05], [0.2, -3.0, 0.1], [0.35, -3.0, 0.3]], dtype=torch.float64)
ALONG = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64).expand(3, 3)
LOOK = {"intrinsics": torch.ones(1, 4), "world_to_camera": torch.eye(4)[None]}
DRAWN = {"drawn": {"type": "labelled", "file": "boxes.csv", "label": "car"}}
DRAWN["drawn"] |= {"columns": {"image": "file", "box": ["l [px]", "t [px]", "r [px]", "b [px]"]}}
BOX = {"center": [0.5, 1.5, 8.0], "size": [4.0, 1.5, 1.8], "yaw": 0.4}
TABLED = {"center": ["x", "y", "z"], "size": ["l", "h", "w"], "yaw": "turn", "file": "cars.csv", "row": 1}
AHEAD = {"eye": [0.0, 0.0, 2.0], "target": [0.0, 0.0, 0.0], "field_of_view": 20.0}
SEEN = {
    name: {"type": "views", "file": file, "camera": AHEAD, "background": [0.0, 0.0, 0.0], "response": "linear"}
    for name, file in (("one", "photograph.png"), ("other", "mask.png"))
}
CASES |= {
    "sheet": Case(
        {
            "kind": "displacement",
            "body": {"lower": [8.0, 16.0], "upper": [40.0, 48.0], "spacing": 8.0, "moments": 2, "displacement": 0.3},
        },
        (build, answers(Fields(names=("u", "v", "u_x"), x=PLACES), field="body.displacement")),
        below=("body",),
    ),
    "surface": Case({"kind": "surface", "surface": {"mask": "mask.png", "normals": 0.8}}, (build,), below=("surface",)),
    **{
        f"photographs under {name}": Case(
            {
                "kind": "surface",
                "surface": {"mask": "ball.png", "normals": 0.8},
                "observations": {
                    "photos": {
                        "type": "lamps",
                        "file": "matt_*.png",
                        "mask": "part.png",
                        "gloss": 0.1,
                        "shininess": 8.0,
                        "gamma": 1.2,
                        "saturated": 180.0,
                        "dark": 20.0,
                        "sigma": 0.02,
                        "light": {**light, "irradiance": [1.0, 1.1, 0.9, 1.0], "ambient": [0.1, 0.0, 0.05, 0.02]},
                    }
                },
                "unknowns": {"surface.normals": {"initial": 0.7}},
            },
            (explained,),
            idle=dict.fromkeys(("photos.start", "photos.clock_rate"), "each picture has its lamp, and none has a time"),
            below=(f"observations.photos{below}",),
        )
        for name, below, light in (
            ("lamps that a mirror tells", "", {"mirror": {"file": "mirror_*.png", "mask": "ball.png"}}),
            ("lamps of a table", ".light", {"file": "lamps.csv", "columns": {"direction": ["r", "u", "c"]}}),
            ("lamps that are told", ".light.direction", {"direction": [[k - 2.0, 0.1 * k, 3.0] for k in range(4)]}),
        )
    },
    "maps": Case(
        {"kind": "maps", "maps": {"size": [0.3, 0.2], "cells": [2, 3], "metallic": 0.2, "slopes": 0.1}},
        (
            build,
            answers(
                View(
                    intrinsics=torch.zeros(1, 4),
                    world_to_camera=torch.tensor([[[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, -0.5], [0, 0, 0, 1.0]]]),
                    size=(2, 3),
                    channels=("flash",),
                )
            ),
        ),
        below=("maps",),
    ),
    "surfels": Case(
        {
            "kind": "surfels",
            "surfels": {"box": [[-0.3, 0.4], [-0.2, 0.3], [-0.4, 0.2]], "count": 400, "every": 2, "visible": 0.5},
        },
        (trained(observations=SEEN, inference={"method": "adam", "iterations": 4}),),
        below=("surfels",),
    ),
    "surfels of a file": Case(
        {"kind": "surfels", "surfels": {"box": [[-1.0, 1.0]] * 3, "file": "discs.ply"}},
        (build,),
        below=("surfels.file",),
    ),
    "cells": Case(
        {
            "kind": "radiance",
            "radiance": {
                "box": [[-0.8, 0.9], [-0.7, 0.8], [-0.4, 0.2]],
                "cells": [8, 6, 7],
                "visible": 0.5,
                "levels": 2,
            },
        },
        (trained(observations=SEEN, inference={"method": "adam", "iterations": 4}),),
        below=("radiance",),
    ),
    "cells of a file": Case(
        {"kind": "radiance", "radiance": {"box": [[-1.0, 1.0]] * 3, "cells": [2, 3, 2], "file": "cells.npz"}},
        (build,),
        below=("radiance.file",),
    ),
    "slice": Case(
        {
            "kind": "volume",
            "volume": {"box": [[0.0, 0.5], [-0.2, 0.4]], "cells": [3, 4], "attenuation": "grid.npz", "emission": 0.4},
        },
        (
            build,
            answers(
                Rays(origins=CROSS, directions=ALONG, quantity="attenuation"),
                Rays(origins=CROSS, directions=ALONG, quantity="emission"),
            ),
        ),
        below=("volume",),
    ),
    "clouds": Case(
        {
            "kind": "volume",
            "volume": {
                "box": [[0.0, 0.5], [-0.4, 0.4], [0.04, 0.4]],
                "cells": [1, 2, 1],
                "clouds": [{"center": [0.2, 0.1, 0.15], "width": 0.2, "peak": 3.0}],
            },
        },
        (answers(Rays(origins=CROSS, directions=ALONG, quantity="attenuation")),),
        below=("volume.clouds", "volume.box"),
    ),
    "cars in a photograph": Case(
        {
            "kind": "pictures",
            "pictures": {"files": "photograph.png"},
            "objects": [
                {
                    "box": BOX,
                    "camera": "camera.json",
                    "paint": {"albedo": [0.2, 0.3, 0.4]},
                    "sun_elevation": 40.0,
                    "sun_azimuth": 20.0,
                    "sun": 0.6,
                    "exposure": 1.1,
                    "picture": "photograph.png",
                },
                {"box": TABLED, "camera": "camera.json", "paint": {"texture": "mask.png"}},
            ],
        },
        (answers(View(**LOOK, size=(12, 24), names=("photograph.png",))),),
        below=("objects",),
    ),
    "a detector of labelled pictures": Case(
        learn(
            {"kind": "pictures", "pictures": {"files": "*.png"}},
            "picture_detector",
            width=16,
            side=64,
            file="squares.csv",
            columns=DRAWN["drawn"]["columns"] | {"class": "c"},
            classes={"0": "square"},
            group="(.*)[.]png",
            hold_out=["mask"],
            crop=32,
            blur=0.5,
            iterations=2,
            batch=2,
            axes={"light": [0.5, 2.0]},
        ),
        (training, course, whole),
        below=("model", "examples", "training", "test"),
        slow=True,
    ),
    "a paint against a detector": Case(
        learn(
            {
                "kind": "pictures",
                "pictures": {"files": "photograph.png"},
                "detector": {"architecture": "bright", "weights": "w", "classes": {"car": 7}},
                "objects": [{"box": BOX, "camera": "camera.json", "picture": "photograph.png"}],
                "unknowns": {"objects.0.paint": {}},
            },
            "score",
            "objective",
            rows=3,
            columns=4,
            restarts=1,
            iterations=3,
        ),
        (training, course, whole),
        below=("objective", "inference"),
    ),
    "a detector and what it sees": Case(
        {
            "kind": "pictures",
            "pictures": {"files": "photograph.png"},
            "detector": {"architecture": "judged", "weights": "w", "classes": {"car": 7}, "side": 40, "multiple": 3},
            "test": {"axes": {"light": [0.5, 2.0]}},
        },
        (observed(observations=DRAWN), observed(report=True, observations=DRAWN)),
        below=("pictures", "detector", "test"),
    ),
}
