"""Small films of jellies thrown to a floor, by another renderer, of finer particles: each case its own truth."""

import tomllib
from pathlib import Path

import numpy as np

import simengine as se
from simengine.fit.problem import Problem
from simengine.fit.twin import write_twin
from simengine.scene.grammar import build_scene

SCENE = """
kind = "mpm"
[grid]
num_grids = 16
time_step = 1.5e-3
num_steps = 120
[walls]
hard = {hard}
[[bodies]]
name = "jelly"
velocity = [{vx:.3f}, -2.0, {vz:.3f}]
angular_velocity = [{wx:.2f}, {wy:.2f}, {wz:.2f}]
shape = {{ type = "box", center = [0.5, 0.45, 0.5], size = [0.36, 0.36, 0.36], counts = [{n}, {n}, {n}] }}
material = {{ type = "jelly", E = 2e5, nu = 0.2 }}
[cameras.front]
eye = [0.5, 0.6, 2.2]
target = [0.5, 0.4, 0.5]
field_of_view = 32.0
width = 48
height = 48
[observations.film]
type = "pictures"
file = "film_*.png"
times = [0.06, 0.09, 0.12, 0.15, 0.18]
camera = "front"
compare = "silhouette"
segment = {{ color = [0.42, 0.63, 0.88], tolerance = 0.15, by = "hue" }}
pyramid = 1
[unknowns]
"bodies.jelly.material.E" = {{ prior = {{ lognormal = [1.5e5, 0.7] }} }}
"""
FILMED, FITTED = 12, 8  # particles along each side


def film(folder: Path, seed: int, *, finer: float = 1.0, hard: bool = False) -> tuple[Problem, dict[str, float]]:
    """One film: modulus, throw, spin, exposure and noise of its own, in a lit grey room that the fit is not told of.

    Args:
        folder: Where its pictures go.
        seed: Of all of these.
        finer: Times the cells of the fit along each side, and as many times the particles told by `FILMED`.
        hard: Whether the floor is a plane; else layers of nodes, as thick as the cells.
    """
    draw = np.random.default_rng(seed)
    true = float(np.exp(draw.uniform(np.log(7e4), np.log(3e5))))
    numbers = {name: draw.uniform(-0.5, 0.5) for name in ("vx", "vz")}
    numbers |= {name: draw.uniform(-4, 4) for name in ("wx", "wy", "wz")}

    def scene(n: int, **tables: float) -> se.Scene:
        data = tomllib.loads(SCENE.format(n=n, hard=str(hard).lower(), **numbers))
        data["bodies"][0]["material"]["E"] = tables.get("E", 2e5)
        film = data["observations"]["film"]
        film |= {"exposure": tables["exposure"], "sigma": 0.02} if "exposure" in tables else {}
        return build_scene(data, directory=folder, locate=lambda key: "scene.toml")

    hidden = scene(FILMED, E=true, exposure=draw.uniform(0.7, 1.0))
    write_twin(scene(FILMED), hidden, folder, refine=finer, seed=seed, renderer="raycast")
    return Problem(scene(FITTED)), {"bodies.jelly.material.E": true}
