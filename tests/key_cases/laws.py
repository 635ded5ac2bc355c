"""Laws of a specimen under its tests, and laws that are learned."""

from typing import Any

import torch

from key_cases.judge import Case, answers, learn, run, steps, training, whole
from simengine.scene.asks import Series

PULL = {"type": "uniaxial"}
FAST = {"rate": 5.0}
METAL = {"type": "metal", "E": 2e9, "nu": 0.3, "yield_stress": 1e6, "rate_effect": {"type": "logarithmic", "C": 0.1}}
METAL["rate_effect"] |= {"reference": 0.2}
PASTE = {"type": "paste", "E": 1e4, "nu": 0.3, "yield_stress": 20.0, "consistency": 5.0, "exponent": 0.5}
MAXWELL = {"type": "maxwell", "times": [0.5, 20.0], "moduli": [100.0, 30.0], "equilibrium": 10.0, "nu": 0.4}
SLOW = {"rate": 0.05}
WEIGHTLESS = {"material.density": "of a body in motion; a point has no mass"}
CLAY = {"type": "cam_clay", "M": 1.1, "compression": 0.12, "swelling": 0.03, "G": 4e6, "preconsolidation": 2e5}
UNFELT = {"test.rate": "an elastic law is driven by its stretch and feels no rate"}


def specimen(material: dict[str, Any], test: dict[str, Any], idle: dict[str, str] | None = None) -> Case:
    return Case(
        {"kind": "specimen", "material": material, "test": test}, (run,), idle or {}, below=("material", "test")
    )


SPECIMENS: dict[str, tuple[Any, ...]] = {
    "ogden": ({"type": "ogden", "mu": [1e5, 2e4], "alpha": [2.0, -1.5], "nu": 0.48}, PULL, UNFELT),
    "mooney_rivlin": ({"type": "mooney_rivlin", "c10": 1e5, "c01": 2e4}, PULL, UNFELT),
    "yeoh": ({"type": "yeoh", "c1": 1e5, "c2": -1e3, "c3": 1e2}, {"type": "equibiaxial"}, UNFELT),
    "gent": ({"type": "gent", "mu": 1e5, "limit": 60.0}, {"type": "planar"}, UNFELT),
    "arruda_boyce": ({"type": "arruda_boyce", "mu": 1e5, "segments": 20.0}, PULL, UNFELT),
    "hyperfoam": ({"type": "hyperfoam", "mu": [1e5, 2e4], "alpha": [2.0, -1.5], "beta": [0.2, 0.1]}, PULL, UNFELT),
    "metal, voce": ({**METAL, "hardening": {"type": "voce", "A": 1e6, "b": 3.0}}, PULL | FAST),
    "metal, power": ({**METAL, "hardening": {"type": "power", "K": 1e6, "n": 0.3}}, PULL | FAST),
    "metal, linear": ({**METAL, "hardening": {"type": "linear", "H": 1e6}}, {"type": "simple_shear"} | FAST),
    "paste, equibiaxial": (PASTE, {"type": "equibiaxial"} | SLOW),
    "paste, planar": (PASTE, {"type": "planar"} | SLOW),
    "paste, triaxial": (PASTE, {"type": "triaxial", "pressure": 50.0} | SLOW),
    "grains": (
        {"type": "grains", "E": 1e6, "nu": 0.3, "diameter": 0.01, "static": 0.3, "fast": 0.6, "number": 0.2},
        {"type": "triaxial", "pressure": 1e3, "rate": 5.0},
        WEIGHTLESS,
    ),
    "grains, steady": (
        {"type": "grains", "E": 1e6, "nu": 0.3, "diameter": 0.01, "static": 0.3, "fast": 0.6, "number": 0.2},
        {"type": "steady_shear", "pressure": 1e3},
        {"material.E": "a formula of steady flow", "material.nu": "as well"} | WEIGHTLESS,
    ),
    "orthotropic": (
        {"type": "orthotropic", "E": [1e4, 8e3, 5e3], "nu": [0.3, 0.2, 0.25], "G": [3e3, 2e3, 4e3]}
        | {"turn": [0.3, -0.2, 0.5]},
        PULL,
        UNFELT | WEIGHTLESS,
    ),
    "cam_clay": (CLAY, {"type": "triaxial", "pressure": 3e5}, {"test.rate": "it feels no rate"}),
    "cam_clay, wet": (CLAY, {"type": "triaxial", "pressure": 3e5, "drained": False}, {"test.rate": "it feels no rate"}),
    "cam_clay, pressed": (CLAY, {"type": "isotropic"}),
    "maxwell, pulled": (MAXWELL, PULL | SLOW),
    "maxwell, relaxing": (MAXWELL, {"type": "relaxation", "shear": 0.02}, {"material.nu": "shear feels no volume"}),
    "maxwell, creeping": (MAXWELL, {"type": "creep", "shear_stress": 2.0}, {"material.nu": "shear feels no volume"}),
}
JELLY = {"type": "jelly", "E": 1e4, "nu": 0.3}
THROWN = {"kind": "nclaw", "material": JELLY, "num_steps": 4}
CASES: dict[str, Case] = {
    **{f"specimen {name}": specimen(*told) for name, told in SPECIMENS.items()},
    "specimen of a size": Case(
        {
            "kind": "specimen",
            "material": SPECIMENS["ogden"][0],
            "test": PULL,
            "size": {"length": 0.05, "area": 2e-5},
        },
        (answers(Series(names=("force",), against="extension", values=torch.tensor([0.01]))),),
        below=("size",),
    ),
    "law that is learned": Case(
        learn(
            THROWN,
            "law",
            observe="states",
            frames=2,
            iterations=2,
            epochs=1,
            width=6,
            further_throws=[[[0.1, -1.0, 0.2], [1.0, 2.0, 3.0]]],
        ),
        (training, steps),
        idle={
            "training.iterations": "states are known, so one round is enough",
            "model.read_out": "reads what has been learned, when all steps are done",
        },
        below=("model", "training", "examples", "num_steps"),
        slow=True,
    ),
    "law that is read out": Case(
        learn(THROWN, "law", observe="states", frames=2, width=6, read_out=True),
        (whole,),
        below=("model.read_out",),
        slow=True,
    ),
    "law that is learned from positions": Case(
        learn(THROWN, "law", frames=2, iterations=2, width=6),
        (training, steps),
        idle={"training.learning_rate": "of rollouts, which start where states are known"},
        below=("training", "examples"),
    ),
}
