"""Equations on boxes, fields that are sought, hard constraints."""

import dataclasses
from typing import Any

from key_cases.judge import Case, build, course, fields, learn, members, run, training, whole


def pde(equation: str, boundary: list[dict[str, Any]], **more: Any) -> Case:
    box = {"domain": [[0.1, 1.0]], "duration": 0.3, "cells": [6, 5], "initial": 0.4}
    data = {"kind": "pde", "pde": {"equation": equation, **box, "boundary": boundary, **more}}
    return Case(data, (run,), below=("pde",))


AIR = {"h": 3.0, "perimeter_per_area": 2.0, "ambient": 5.0}
HEATER = {"at": "left", "type": "source", "power": 2.0, "area": 0.7, "on": [0.07, 0.21]}
TABLE = {"of": "c", "knots": [0.0, 0.5, 1.0], "values": [3.0, 2.0, 1.5]}
ISOTHERM = {"type": "freundlich", "K": 0.1, "N": 0.8, "porosity": 0.3, "density": 20.0, "floor": 0.1}
CASES: dict[str, Case] = {
    "heat": pde(
        "heat",
        [{"at": "right", "type": "convection"}, HEATER],
        conductivity=2.0,
        heat_capacity=4.0,
        heating=0.3,
        convection=AIR,
    ),
    "heat by its series": dataclasses.replace(
        pde(
            "heat",
            [HEATER],
            conductivity={"of": "T", "knots": [0.2, 0.8], "values": [0.2, 0.3]},
            heat_capacity=4.0,
            march={"type": "taylor", "order": 3, "tolerance": 1e-4},
        ),
        below=("pde.march",),
    ),
    "heat in a plane": pde(
        "heat",
        [{"at": "both", "type": "periodic"}, {"at": "top", "type": "neumann", "inflow": 0.3, "field": "T"}],
        conductivity={"of": "y", "knots": [0.2, 0.8], "values": [2.0, 3.0]},
        heat_capacity=4.0,
        domain=[[0.1, 1.0], [0.0, 0.9]],
        cells=[4, 4, 5],
        initial={"of": "x", "knots": [0.2, 0.8], "values": [2.0, 3.0]},
    ),
    "heat at points": Case(
        {
            "kind": "pde",
            "pde": {
                "equation": "heat",
                "conductivity": 2.0,
                "heat_capacity": 4.0,
                "duration": 0.3,
                "cells": [2],
                "initial": 0.4,
                "boundary": [
                    {"at": "right", "type": "dirichlet", "value": 1.0},
                    {"at": "hole", "type": "robin", "coefficient": 0.6},
                ],
                "points": {
                    "type": "outline",
                    "corners": [[0.0, 0.0], [1.0, 0.0], [1.0, 0.9], [0.0, 0.9]],
                    "sides": ["low", "right", "high", "left"],
                    "spacing": 0.16,
                    "degree": 2,
                    "holes": [{"name": "hole", "center": [0.5, 0.45], "radius": 0.18}],
                },
            },
        },
        (run,),
        below=("pde.points",),
        slow=True,
    ),
    "heat at points of a file": Case(
        {
            "kind": "pde",
            "pde": {
                "equation": "heat",
                "conductivity": 2.0,
                "heat_capacity": 4.0,
                "duration": 0.3,
                "cells": [2],
                "boundary": [{"at": "a", "type": "dirichlet", "value": 1.0}, {"at": "b", "type": "dirichlet"}],
                "points": {"type": "file", "file": "points.csv", "degree": 2},
            },
        },
        (run,),
        below=("pde.points",),
    ),
    "heat on cells": dataclasses.replace(
        pde(
            "heat",
            [{"at": "left", "type": "dirichlet", "value": 1.0}],
            conductivity={"type": "cells", "cells": [4], "values": 2.0},
            heat_capacity=4.0,
        ),
        levels=(fields, run),
        below=("pde.conductivity",),
    ),
    "sorption": pde(
        "diffusion_sorption",
        [
            {"at": "left", "type": "dirichlet", "value": 1.0},
            {"at": "right", "type": "robin", "coefficient": 0.6, "value": 0.2},
        ],
        D=0.4,
        retardation=TABLE,
        decay=0.3,
    ),
    "sorption by Freundlich": pde(
        "diffusion_sorption",
        [{"at": "left", "type": "dirichlet", "value": 1.0}],
        D=0.4,
        retardation=ISOTHERM,
    ),
    **{
        f"constraint {name}": Case(
            {"kind": "constraint", "problem": {"type": name, **more}, "experts": {"counts": counts}},
            (build, members),
            below=("problem",),
        )
        for name, more, counts in (
            ("diffusion_sorption", {"nt": 9, "nx": 16}, [1, 2]),
            ("navier_stokes", {"nt": 6, "size": 8}, [1, 1, 1]),
            ("burgers", {"nt": 9, "nx": 16}, [1, 2]),
            ("allen_cahn", {"nt": 9, "nx": 16}, [1, 2]),
        )
    },
}

BURGERS = {"type": "burgers", "nt": 9, "nx": 16}
EXPERTS = {"counts": [1, 2], "rows_per_block": 20, "iterations": 3}
FRONT = {"type": "diffusion_sorption", "nt": 9, "nx": 24, "u0": [0.1]}
SMALL = {"kind": "constraint", "problem": BURGERS, "experts": EXPERTS, "basis_size": 3, "snapshots": 4}
TRUNK = {"type": "branch_trunk", "modes": 3, "width": 4, "depth": 2}
FIT = {"backbone": TRUNK, "members": 2, "iterations": 2}
CASES |= {
    "experts": Case({**SMALL, "problem": FRONT}, (build, run), below=("experts", "basis", "snapshots")),
    "experts whose cuts move": Case(
        {**SMALL, "problem": FRONT, "experts": {**EXPERTS, "cuts": "learned"}, "rounds": 1},
        (run,),
        idle={"rounds": "no move of the cuts of so few cells is kept; tests/worlds/fields/test_scene.py keeps one"},
        below=("rounds", "seed"),
        slow=True,
    ),
    "experts on the terms of a series": Case(
        {
            **{name: value for name, value in SMALL.items() if name != "snapshots"},
            "basis": {"type": "taylor", "order": 3, "windows": 2},
        },
        (run,),
        below=("basis.order", "basis.windows"),
    ),
    "network of experts": Case(
        learn(SMALL, "operator", **FIT), (training, course, whole), below=("model", "training", "examples", "test")
    ),
    "operator of experts": Case(
        learn(
            SMALL,
            "operator",
            **{**FIT, "backbone": {"type": "fno", "modes": [2, 2], "width": 2, "depth": 1}},
            experts={**EXPERTS, "cuts": "learned"},
            reroute=1,
        ),
        (training, course, whole),
        below=("model.backbone", "training.reroute", "training.experts.cuts"),
    ),
}
