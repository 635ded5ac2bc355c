"""E of a jelly with a pattern that nobody tells, from a film by another renderer.

`python benchmarks/textured_film.py`. A jelly is thrown to a hard floor and cast by rays in a grey room with a lamp,
from twice the cells of the fit and three times its particles along each side; 8 bits, noise of 2 %, exposure .8. The
pattern is waves of three colours, painted for the film alone. Each row is a whole fit from 1.7 times the modulus.
"""

import dataclasses
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import simengine as se
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.fit.twin import write_twin
from simengine.scene.grammar import build_scene
from simengine.worlds.motion import view

SCENE = """
kind = "mpm"
[grid]
num_grids = 16
time_step = 1.5e-3
num_steps = 120
[walls]
hard = true
[[bodies]]
name = "jelly"
velocity = [0.2, -2.0, 0.1]
angular_velocity = [0.0, 0.0, 2.0]
shape = { type = "box", center = [0.5, 0.45, 0.5], size = [0.36, 0.36, 0.36], counts = [8, 8, 8] }
material = { type = "jelly", E = 1e5, nu = 0.2 }
[cameras.front]
eye = [0.7, 0.75, 2.15]
target = [0.5, 0.4, 0.5]
field_of_view = 32.0
width = 64
height = 64
[observations.film]
type = "pictures"
file = "film_*.png"
times = [0.0, 0.03, 0.06, 0.09, 0.12, 0.15, 0.18]
camera = "front"
[unknowns]
"bodies.jelly.material.E" = { prior = { lognormal = [1.7e5, 0.7] } }
"""
TRUE, WAVE = 1e5, 0.12
COMPARED: dict[str, dict[str, Any]] = {
    "one colour": {},
    "one colour, light fitted": {"appearance": "fitted", "background": "median"},
    "colours of the first picture": {"appearance": "first", "background": "median"},
    "the same, gradients": {"appearance": "first", "background": "median", "compare": "gradients"},
    "texture that fits best": {"appearance": "texture", "background": "median"},
    "flow found in the pictures": {"compare": "flow", "loss": "student"},
}


def scene(folder: Path, n: int, **film: Any) -> se.Scene:
    """The scene with `n` particles along each side and more keys of its film."""
    data = tomllib.loads(SCENE)
    data["bodies"][0]["shape"]["counts"] = [n, n, n]
    data["observations"]["film"] |= film
    return build_scene(data, directory=folder, locate=lambda key: "scene.toml")


def filmed(folder: Path, *, refine: float = 2.0, seed: int = 0) -> None:
    """The film, of a body that is painted for it alone."""
    plain = view.MotionViewer.__init__

    def painted(self: Any, world: Any, skins: Any, *rest: Any) -> None:
        plain(self, world, skins, *rest)
        at = torch.cat([skin.carried(torch.as_tensor(world.particles()[0])) for skin in skins])
        waves = torch.sin(2 * torch.pi * at[:, [0, 1, 2]] / WAVE) * torch.sin(2 * torch.pi * at[:, [1, 2, 0]] / WAVE)
        self._mesh = dataclasses.replace(self._mesh, texture=0.45 + 0.4 * waves)

    view.MotionViewer.__init__ = painted  # type: ignore[method-assign]
    try:
        hidden = scene(folder, 12, exposure=0.8, sigma=0.02)
        write_twin(scene(folder, 12), hidden, folder, refine=refine, seed=seed, renderer="raycast")
    finally:
        view.MotionViewer.__init__ = plain  # type: ignore[method-assign]


def found(folder: Path, **how: Any) -> tuple[float, float, int, float]:
    """E and its bar [kPa], solves and seconds of CPU of one fit."""
    began = time.process_time()
    problem = Problem(scene(folder, 8, **how))
    fit = LeastSquaresFit(problem)
    while not fit.converged and problem.runs.solves < 60:
        fit.step()
    told = posterior(problem, fit.z, problem.predict(fit.z)).estimates
    (one,) = told.values()
    return one.value / 1e3, one.std / 1e3, problem.runs.solves, time.process_time() - began


def main(arguments: Sequence[str] = ()) -> None:
    """Each way of comparison once; those whose names hold the first argument, where there is one."""
    only = arguments[0] if arguments else ""
    with tempfile.TemporaryDirectory() as name:  # the film
        folder = Path(name)
        filmed(folder)
        for way, how in COMPARED.items():
            if only in way:
                value, bar, solves, cpu = found(folder, **how)
                off = 100 * (value * 1e3 / TRUE - 1)
                print(f"{way:32s} E = {value:6.1f} +- {bar:5.2f} kPa, {off:+.1f} %, {solves} solves, {cpu:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
