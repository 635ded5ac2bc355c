"""What the shipped fits find on twins: data of our own making, at twice the resolution of the fit, and at the same.

    simengine bench identify [NAME ...] [--seed N]

The four materials of NCLaw by 60 marks with a noise of 0.1 mm, every search wrong by a factor of two to three at its
start, and shipped scenes by what their own instruments would have written. `observe` writes the files, of pictures with
the other renderer; `fit` reads them. For each number sought: how far it is off as a share of the truth (of 1 where that
is 0), and in standard deviations. At the same resolution the discretisation errs alike on both sides: that column tells
of the search, the other of the answer.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import simengine as se
from simengine.fit.result import FitResult
from simengine.fit.twin import write_twin
from simengine.scene.grammar import Scene

MATERIALS = {  # the table of a material as it is known, the true values, the starting values
    "jelly": ('type="jelly"', {"E": 1e5, "nu": 0.2}, {"E": 3e5, "nu": 0.07}),
    "plasticine": (
        'type="plasticine"',
        {"E": 3e5, "nu": 0.25, "yield_stress": 5e3},
        {"E": 1e5, "nu": 0.1, "yield_stress": 1e4},
    ),
    "sand": (
        'type="sand", volume_correction=false',
        {"E": 1e6, "nu": 0.2, "friction_angle": 25.0},
        {"E": 5e5, "nu": 0.1, "friction_angle": 40.0},
    ),
    "water": ('type="water", nu=0.3', {"E": 1e5}, {"E": 3e4}),
}
SHIPPED = (
    *("free_flame_simple", "diffusion_sorption_inverse", "flame_from_image"),
    *("camera_from_silhouette", "throw_from_video", "pose_from_video"),
    *("elasticity_from_video", "plasticine_from_video", "sand_from_video"),
)
MARKS = [
    "observations.particles.points={on='jelly',count=60,surface=false}",
    "observations.particles.times={rate=200.0}",
    "observations.particles.sigma=1e-4",
]


def _said(key: str, value: Any) -> str:
    return f"{key}={value}"


def _material(name: str) -> tuple[list[str], dict[str, Any]]:
    """Changes of `identify_jelly` that seek the numbers of a material, and the truth."""
    table, truth, start = MATERIALS[name]
    entries = ", ".join(f"{key}={value}" for key, value in start.items())
    sought = ", ".join(f'"bodies.jelly.material.{key}"={{}}' for key in truth)
    changes = [f"bodies.0.material={{{table}, {entries}}}", f"unknowns={{{sought}}}", "reference={}", *MARKS]
    return changes, {f"bodies.jelly.material.{key}": value for key, value in truth.items()}


def _twin(source: str, changes: list[str], truth: Mapping[str, Any], refine: float, seed: int) -> FitResult:
    """The answer of a scene to a twin of its own files."""
    scene = se.load_scene(source, changes)
    hidden = se.load_scene(source, [*changes, *(_said(key, value) for key, value in truth.items())])
    with tempfile.TemporaryDirectory() as folder:
        renderer = "raycast" if any(hasattr(own, "renderer") for own in scene.observations.values()) else "own"
        write_twin(scene, hidden, Path(folder), refine=refine, seed=seed, renderer=renderer)
        return se.identify(se.load_scene(source, [*changes, *_files(scene, Path(folder))]), progress=False)


def _files(scene: Scene, folder: Path) -> list[str]:
    """The files of the observations, in a folder."""
    return [
        _said(f"observations.{name}.file", f"'{folder / Path(own.file.removeprefix('asset:')).name}'")
        for name, own in scene.observations.items()
    ]


def _rows(name: str, seed: int) -> list[dict[str, Any]]:
    """A row for each number sought."""
    if name in MATERIALS:
        source, (changes, truth) = "identify_jelly", _material(name)
    else:
        source, changes, truth = name, [], dict(se.load_scene(name).reference)
    rows: dict[str, dict[str, Any]] = {}
    for column, refine in (("twice", 2.0), ("same", 1.0)):
        start = time.process_time()
        result = _twin(source, list(changes), truth, refine, seed)
        seconds = time.process_time() - start
        for key, true in _numbers(truth).items():
            found = result.estimates[key]
            row = rows.setdefault(key, {"name": f"{name}: {key}", "true": true})
            row[f"{column}: off"] = f"{abs(found.value - true) / (abs(true) or 1.0):.1e}"
            row[f"{column}: deviations"] = f"{abs(found.value - true) / found.std:.1f}" if found.std else "-"
            row[f"{column}: CPU s"] = f"{seconds:.0f}"
    return list(rows.values())


def _numbers(truth: Mapping[str, Any]) -> dict[str, float]:
    """Vectors by their entries, as reports name them."""
    found: dict[str, float] = {}
    for key, value in truth.items():
        entries = np.atleast_1d(np.asarray(value, dtype=float))
        names = [key] if np.ndim(value) == 0 else [f"{key} {k}" for k in range(len(entries))]
        found |= dict(zip(names, entries.tolist(), strict=True))
    return found


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of the scenes that are named, or of all."""
    parser = argparse.ArgumentParser(prog="simengine bench identify")
    parser.add_argument("names", nargs="*", default=[], choices=[[], *MATERIALS, *SHIPPED])
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(list(arguments))
    torch.set_num_threads(1)
    return [row for name in chosen.names or (*MATERIALS, *SHIPPED) for row in _rows(name, chosen.seed)]


if __name__ == "__main__":
    for row in main():
        print(row)
