"""Flames."""

from key_cases.judge import Case, build, solver, steps, training

CASES: dict[str, Case] = {
    "simplified flame": Case(
        {"kind": "flame", "flame": {"type": "free_simple"}},
        (build,),
        below=("flame",),
    ),
    **{
        f"flame {name}": Case(
            {
                "kind": "flame",
                "gas": {"mechanism": "asset:methane_1step.yaml"},
                "flame": {"type": name, **more},
            },
            (build,),
            below=("flame",),
        )
        for name, more in {
            "free": {},
            "counterflow": {"opposed": {"N2": 1.0, "O2": 0.1}},
            "burner": {},
            "diffusion": {"dilution": {"N2": 1.0}},
        }.items()
    },
}

METHANE = "CH4 + 2 O2 => CO2 + 2 H2O"
FREE = {
    "kind": "flame",
    "gas": {
        "mechanism": "asset:methane_1step.yaml",
        "conductivity_factor": 1.1,
        "reactions": {METHANE: {"factor": 1.2, "b": 0.1, "Ea": 1.6e5}},
        "species": {"CH4": {"diffusivity_factor": 1.1}},
    },
    "flame": {"type": "free"},
}
CASES |= {
    "gas": Case(FREE, (build,), below=("gas",)),
    "grid": Case(
        {**FREE, "grid": {"prune": 0.01}}, (solver,), idle={"resolution": "of elements"}, below=("grid", "re")
    ),
    "elements": Case({**FREE, "resolution": 1e-6}, (solver,), below=("resolution",)),
    "network of a flame": Case(
        {"kind": "flame", "network": {"members": 1, "width": 6, "cells": 20, "num_iterations": 2}},
        (training, steps),
        below=("network", "seed"),
    ),
    "network of a flame of a gas": Case(
        {**FREE, "network": {"members": 1, "width": 4, "cells": 12, "num_iterations": 2, "optimiser": "adam"}},
        (steps,),
        below=("network.optimiser",),
    ),
    "light of a flame": Case(
        {
            "kind": "render",
            "task": {
                "type": "flame_image",
                "flame": {"type": "free", "mechanism": "asset:methane_1step.yaml", "phi": 0.9},
                "camera": {"eye": [0.0, 0.0, 4e-3], "target": [0.0, 0.0, 0.0], "width": 16, "height": 16},
                "parameters": {"phi": {"initial": 0.95, "lower": 0.6, "upper": 1.4, "scale": 0.1}},
                "cells": 20,
                "resolution": 1e-3,
                "iterations": 2,
            },
        },
        (build, training, steps),
        below=tuple(f"task.{key}" for key in ("flame.mech", "span", "ext", "cells", "kappa", "eff", "noise", "res"))
        + tuple(f"task.{key}" for key in ("method", "iter", "parameters")),
        slow=True,
    ),
}
