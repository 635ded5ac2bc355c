"""Bodies that move and deform, rigid ones, and their fits."""

from typing import Any

from key_cases.judge import Case, build, check, picture, run, scalars

BOX = {"type": "box", "center": [0.45, 0.5, 0.5], "size": [0.2, 0.2, 0.2]}
JELLY = {"type": "jelly", "E": 1e4, "nu": 0.3}
SHORT = {"num_grids": 12, "time_step": 5e-4, "num_steps": 4}
QUIET = {"save_every": 2, "video": False}
SPIN = {"angular_velocity": [1.0, 2.0, 3.0]}
FRICTION = {"kind": "friction", "friction": 0.3, "velocity": [0.1, 0.2, 0.3]}
TURNED = {"orientation": [0.9, 0.1, 0.2, 0.3]}


def mpm(material: dict[str, Any] = JELLY, shape: dict[str, Any] = BOX, **more: Any) -> dict[str, Any]:
    body = {"shape": shape, "material": material, "velocity": [0.1, -1.0, 0.2], **SPIN}
    return {"kind": "mpm", "grid": SHORT, "output": QUIET, "bodies": [body], **more}


MATERIALS: dict[str, dict[str, Any]] = {
    "rubber": {"E": 1e4, "nu": 0.3, "viscosity": 2.0, "relaxation": {"times": [0.01, 0.1], "shares": [0.2, 0.3]}},
    "plasticine": {"E": 1e4, "nu": 0.3, "yield_stress": 1e3, "hardening": 10.0},
    "orthotropic": {"E": [1e4, 8e3, 5e3], "nu": [0.3, 0.2, 0.25], "G": [3e3, 2e3, 4e3], "turn": [0.3, -0.2, 0.5]},
    "grains": {"E": 1e4, "nu": 0.3, "static": 0.3, "fast": 0.6, "number": 0.2, "diameter": 0.05},
    "sand": {"E": 1e4, "nu": 0.3, "friction_angle": 30.0, "cohesion": 0.01, "critical_packing": 0.9},
    "cam_clay": {
        "M": 1.1,
        "compression": 0.12,
        "swelling": 0.03,
        "G": 1e4,
        "preconsolidation": 700.0,
        "reference": 600.0,
    },
    "water": {"E": 1e4, "nu": 0.3},
    "tait_water": {"K": 1e4},
    "snow": {"E": 1e4, "nu": 0.3},
    "paste": {"E": 1e4, "nu": 0.3, "yield_stress": 1e3, "consistency": 10.0, "exponent": 0.5},
    "energy_network": {"numbers": [0.1, -0.2], "width": 6},
    "neural": {"weights": "asset:jelly_law.safetensors"},
}
SHAPES: list[dict[str, Any]] = [
    {**BOX, "counts": [3, 4, 5]},
    {"type": "sphere", "center": [0.45, 0.5, 0.5], "radius": 0.15},
    {"type": "cylinder", "center": [0.45, 0.5, 0.5], "radius": 0.15, "height": 0.2},
    {"type": "torus", "center": [0.45, 0.5, 0.5], "major_radius": 0.15, "minor_radius": 0.08},
    {"type": "mesh", "center": [0.45, 0.5, 0.5], "size": 0.3, "file": "asset:drum.obj"},
    {"type": "surfels", "file": "ball.ply", "center": [0.45, 0.5, 0.5], "size": 0.3},
    {"type": "points", "file": "cloud.csv", "unit": "cm", "spacing": 0.05},
]
COLLIDERS: list[dict[str, Any]] = [
    {"type": "plane", "point": [0.5, 0.3, 0.5], "normal": [0.1, 1.0, 0.2], **FRICTION},
    {"type": "sphere", "center": [0.5, 0.2, 0.5], "radius": 0.2, **FRICTION, **SPIN},
    {"type": "box", "center": [0.5, 0.2, 0.5], "half_size": [0.2, 0.15, 0.1], **FRICTION, **SPIN, **TURNED},
    {"type": "capsule", "center": [0.5, 0.2, 0.5], "radius": 0.1, "half_length": 0.1, **FRICTION, **SPIN, **TURNED},
    {"type": "mesh", "file": "asset:drum.obj", "center": [0.5, 0.3, 0.5], "size": 0.4, "resolution": 12}
    | {**FRICTION, **SPIN, **TURNED},
]


CASES: dict[str, Case] = {
    **{
        f"material {name}": Case(mpm({"type": name, **values}), (build, run), below=("bodies.0.material",))
        for name, values in MATERIALS.items()
    },
    "going on": Case(mpm(shape={**BOX, "counts": [2, 2, 2]}, state="last_state.npz"), (build,), below=("state",)),
    "damping": Case(
        mpm({**JELLY, "damping": {"mass": 3.0, "stiffness": 1e-3}}), (build, run), below=("bodies.0.material.damping",)
    ),
    **{f"shape {shape['type']}": Case(mpm(shape=shape), (build,), below=("bodies.0.shape",)) for shape in SHAPES},
    "colliders": Case(
        mpm(colliders=COLLIDERS), (build,), below=("colliders",), idle={".name": "names its force for observations"}
    ),
    "mpm": Case(
        mpm(
            output={"save_every": 2, "formats": ["ply"]},
            camera={"width": 24, "height": 16, "up": [0.1, 1.0, 0.2]},
            walls={"kind": "friction", "friction": 0.2},
            gravity=[0.1, -9.8, 0.2],
            release={"share": 0.5, "until": 2e-3},
            tilt={
                **{"rate": [0.1, 0.2, 0.3], "begins": 1e-3, "until": 0.5},
                "path": {"file": "press.csv", "columns": {"time": "time [s]", "gravity.1": "way"}}
                | {"start": 0.1, "gain": 1.1},
            },
        ),
        (build, picture, run, check),
        idle={"bodies.0.name": "for messages"},
    ),
    "paths": Case(
        mpm(
            colliders=[
                {
                    **COLLIDERS[0],
                    "path": {
                        "file": "press.csv",
                        "columns": {"time": "time [s]", "shift.1": {"column": "way", "unit": "mm"}},
                        "start": 0.1,
                        "gain": 1.1,
                        "offset": [0.001, 0.002, 0.003],
                    },
                }
            ]
        ),
        (build,),
        below=("colliders.0.path",),
    ),
    "hard walls": Case(mpm(walls={"hard": True, "kind": "friction"}), (build,), below=("walls.hard",)),
    "open walls": Case(mpm(walls={"open": ["+y"]}), (build,), below=("walls.open",)),
    "contact": Case(
        {
            **mpm(),
            "bodies": [
                {**mpm()["bodies"][0], "name": "first"},
                {"name": "second", "shape": {**BOX, "center": [0.45, 0.7, 0.5]}, "material": JELLY},
            ],
            "contact": {"first-second": {"kind": "frictional", "friction": 0.3}},
        },
        (build,),
        below=("contact",),
    ),
    "melting": Case(
        {
            **mpm(),
            "kind": "melting",
            "bodies": [mpm()["bodies"][0], {"shape": {**BOX, "center": [0.7, 0.5, 0.5]}, "material": JELLY}],
            "melting": {"body": 0, "into": {"type": "water", "E": 1e4, "nu": 0.3}, "first_step": 1, "last_step": 3},
        },
        (build, run),
        below=("melting",),
    ),
}
CASES |= {
    "supports": Case(
        {
            **mpm(shape={"type": "box", "center": [0.5, 0.2, 0.2], "size": [0.4, 0.2, 0.2]}),
            "grid": {"lower": [0.0, 0.0, 0.0], "upper": [1.0, 0.4, 0.4], "spacing": 0.1}
            | {"time_step": 5e-4, "num_steps": 4},
            "clamps": [
                {
                    "name": "left",
                    "on": "body",
                    "region": {"lower": [0.3, 0.1, 0.1], "upper": [0.3, 0.3, 0.3]},
                    "velocity": [0.1, 0.2, 0.3],
                }
            ],
            "loads": [
                {
                    "name": "hook",
                    "on": "body",
                    "region": {"lower": [0.6, 0.1, 0.1], "upper": [0.65, 0.3, 0.3]},
                    "mass": 2.0,
                    "force": [1.0, 2.0, -3.0],
                },
                {
                    "name": "wind",
                    "on": "body",
                    "region": {"lower": [0.7, 0.1, 0.1], "upper": [0.7, 0.3, 0.3]},
                    "pressure": 500.0,
                    "path": {"file": "press.csv", "columns": {"time": "time [s]", "pressure": {"column": "way"}}}
                    | {"start": 0.1, "gain": 1.1},
                },
            ],
        },
        (build, scalars),
        idle={"grid.num_steps": "shows in a run", "grid.integrator": "as well", "loads.0.name": "for messages"}
        | {"loads.1.name": "for messages"},
        below=("grid", "clamps", "loads", "start"),
    ),
    "balances": Case(
        {
            **mpm(shape={"type": "box", "center": [0.5, 0.2, 0.2], "size": [0.2, 0.2, 0.2]}),
            "grid": {"lower": [0.0, 0.0, 0.0], "upper": [1.0, 0.4, 0.4], "spacing": 0.1, "integrator": "implicit"}
            | {"volume": "cells", "time_step": 5e-4, "num_steps": 2},
        },
        (run,),
        below=("grid.integrator", "grid.volume"),
    ),
    "rings": Case(
        {
            **mpm(),
            "bodies": [
                {
                    "shape": {"type": "cylinder", "center": [0.0, 0.5, 0.0], "radius": 0.15, "height": 0.2},
                    "material": JELLY,
                    "velocity": [0.0, -1.0, 0.0],
                }
            ],
            "grid": {"lower": [-0.5, 0.0, 0.0], "upper": [0.5, 1.0, 0.0], "spacing": 0.1, "time_step": 5e-4}
            | {"section": "axisymmetric", "num_steps": 4},
        },
        (build, run),
        below=("grid.section",),
    ),
    "rigid": Case(
        {
            "kind": "rigid",
            "gravity": [0.3, -9.8, 0.2],
            "duration": 0.4,
            "step": 0.02,
            "bodies": [
                {
                    "name": "ball",
                    "shape": {"type": "sphere", "center": [0.1, 0.4, 0.2], "radius": 0.1},
                    "mass": 0.2,
                    "velocity": [1.0, 0.1, -0.1],
                    "spin": [1.0, 2.0, 3.0],
                    "inertia": 0.5,
                    "drag": {"coefficient": 0.4, "density": 2.0},
                },
                {
                    "name": "roller",
                    "shape": {"type": "sphere", "center": [0.5, 0.1, 0.1], "radius": 0.1},
                    "mass": 0.3,
                    "velocity": [0.2, 0.0, 0.1],
                    "rolling": True,
                },
            ],
            "colliders": [{"name": "floor", "point": [0.3, 0.0, 0.2], "normal": [0.0, 2.0, 0.0]}],
            "contact": {
                "*-floor": {"restitution": 0.6, "friction": 0.3},
                "ball-roller": {"restitution": 0.7, "friction": 0.2},
            },
        },
        (build,),
        idle={
            "colliders.0.point.0": "along the plane",
            "colliders.0.point.2": "along the plane",
            "colliders.0.normal.1": "its length does not count",
            "seed": "nothing is random",
        },
    ),
}
