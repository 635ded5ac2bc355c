"""Flames."""

import torch

from key_cases.judge import Case, answers, build, solver, steps, training
from simengine.scene.asks import Table, View

LOOK = View(  # from the side, a hand's breadth of pixels
    intrinsics=torch.tensor([[30.0, 30.0, 8.0, 4.0]], dtype=torch.float64),
    world_to_camera=torch.tensor([[[1.0, 0, 0, 1e-4], [0, 1, 0, 2e-4], [0, 0, 1, 4e-3], [0, 0, 0, 1]]]).double(),
    size=(8, 16),
)

LIT = Table(names=("ignition_delay",), conditions={"T_in": torch.tensor([1500.0]).double()})
LONGEST = 7.4e-06  # s, a little longer than it takes

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
            "twin": {},
            "impinging": {"T_wall": 500.0},
            "diffusion": {"dilution": {"N2": 1.0}, "agent": {"CO2": 1.0}, "agent_fraction": 0.1},
        }.items()
    },
    "flame of a mixture as it is given": Case(
        {
            "kind": "flame",
            "gas": {"mechanism": "asset:methane_1step.yaml"},
            "flame": {"type": "free", "composition": {"CH4": 1.0, "O2": 2.1, "N2": 7.5}, "width": 0.05},
        },
        (build,),
        below=("flame.composition", "flame.width"),
    ),
    "flame that loses heat": Case(
        {
            "kind": "flame",
            "gas": {"mechanism": "asset:methane_1step.yaml"},
            "flame": {"type": "burner", "heat_loss": {"knots": [1000.0, 1500.0], "values": [500.0, 900.0]}},
        },
        (build,),
        below=("flame.heat_loss",),
    ),
    "flame of another conductivity": Case(
        {
            "kind": "flame",
            "gas": {
                "mechanism": "asset:methane_1step.yaml",
                "conductivity_law": {"knots": [500.0, 1500.0], "values": [1.0, 1.1]},
            },
            "flame": {"type": "free"},
        },
        (build,),
        below=("gas.conductivity_law",),
    ),
    "flame of another source": Case(
        {
            "kind": "flame",
            "gas": {
                "mechanism": "asset:methane_1step.yaml",
                "rate_law": {"knots": [1200.0, 1600.0], "values": [1.0, 1.1]},
            },
            "flame": {"type": "free"},
        },
        (build,),
        below=("gas.rate_law",),
    ),
    "flame of a source that hangs on composition": Case(
        {
            "kind": "flame",
            "gas": {
                "mechanism": "asset:methane_1step.yaml",
                "rate_law": {"against": "Y_O2", "knots": [0.05, 0.2], "values": [1.0, 1.1]},
            },
            "flame": {"type": "free"},
        },
        (build,),
        below=("gas.rate_law",),
    ),
    "flame of a given temperature": Case(
        {
            "kind": "flame",
            "gas": {"mechanism": "asset:methane_1step.yaml"},
            "grid": {},
            "flame": {
                "type": "burner",
                "temperature": {"knots": [0.0, 0.002, 0.02], "values": [400.0, 1700.0, 1600.0]},
            },
        },
        (build,),
        below=("flame.temperature",),
    ),
    "flame of a temperature from a file": Case(
        {
            "kind": "flame",
            "gas": {"mechanism": "asset:methane_1step.yaml"},
            "grid": {},
            "flame": {"type": "burner", "temperature": {"file": "probe.csv", "columns": {"x": "x", "T": "T"}}},
        },
        (build,),
        below=("flame.temperature",),
    ),
    "vessel": Case(
        {
            "kind": "flame",
            "gas": {"mechanism": "asset:methane_1step.yaml"},
            "flame": {"type": "free", "T_in": 1500.0},
            "reactor": {"hold": "pressure", "rise": 300.0, "longest": LONGEST},
        },
        (answers(LIT),),
        idle={"reactor.residence": "of the stirred one"},
        below=("reactor",),
    ),
    "stirred vessel": Case(
        {
            "kind": "flame",
            "gas": {"mechanism": "asset:methane_1step.yaml"},
            "flame": {"type": "free"},
            "reactor": {"residence": 1e-3},
        },
        (answers(Table(names=("stirred_T",), conditions={"T_in": torch.tensor([400.0]).double()})),),
        below=("reactor.residence",),
    ),
    "diffusion flame by its strain": Case(
        {
            "kind": "flame",
            "gas": {"mechanism": "asset:methane_1step.yaml"},
            "flame": {"type": "diffusion", "strain": 100.0},
        },
        (build,),
        below=("flame.strain",),
    ),
}

METHANE = "CH4 + 2 O2 => CO2 + 2 H2O"
FREE = {
    "kind": "flame",
    "gas": {
        "mechanism": "asset:methane_1step.yaml",
        "phase": "gas",
        "conductivity_factor": 1.1,
        "reactions": {METHANE: {"factor": 1.2, "b": 0.1, "Ea": 1.6e5}},
        "species": {"CH4": {"diffusivity_factor": 1.1}},
    },
    "flame": {"type": "free"},
}
CASES |= {
    "gas": Case(FREE, (build,), below=("gas",)),
    "grid": Case(
        {**FREE, "grid": {"prune": 0.01}}, (solver,), idle={"resolution": "of elements"}, below=("grid", "resolution")
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
            **FREE,
            "resolution": 1e-3,
            "flame": {
                "type": "free",
                "body": {"position": 1e-5, "cells": 20},
                "light": {"kappa": 0.1, "efficiency": 1e-6},
            },
        },
        (answers(LOOK),),
        below=("flame.body", "flame.light"),
    ),
}
