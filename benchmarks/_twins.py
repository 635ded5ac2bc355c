"""Twins with truths of their own for `coverage`: cameras that stand elsewhere, mechanisms with other constants."""

import csv
from pathlib import Path

import numpy as np

import simengine as se
from simengine.fit.problem import Problem
from simengine.fit.twin import write_twin

PHOTOGRAPH = "camera_from_silhouette"
SPEEDS = """
kind = "flame"
[gas]
mechanism = "h2o2.yaml"
[flame]
type = "free"
fuel = {{ H2 = 1.0 }}
[grid]
slope = {slope}
curve = {curve}
[observations.speeds]
type = "experiments"
file = "speeds.csv"
conditions = {{ T_in = "T_in [K]", phi = "phi" }}
measured = {{ flame_speed = "flame_speed [m/s]" }}
sigma = {{ relative = {noise} }}
[unknowns]
{unknowns}
"""
REACTIONS = ("H + O2 <=> O + OH", "OH + H2 <=> H + H2O", "H + HO2 <=> 2 OH")
WIDTH = np.log(2) / 2  # of the factors' priors: a factor of 2 at two standard deviations
NOISE = 0.03


def camera(folder: Path, seed: int) -> tuple[Problem, dict[str, float]]:
    """The outline of a known body, photographed from elsewhere by the other renderer, in a room that is not told."""
    draw = np.random.default_rng(seed)
    hidden = {"turn": draw.normal(0, 0.05, 3), "shift": draw.normal(0, 0.08, 3)}
    small = ["cameras.front.width=64", "cameras.front.height=64", "observations.photograph.pyramid=2", "reference={}"]
    told = [f"cameras.front.{key}={value.tolist()}" for key, value in hidden.items()]
    told += [f"observations.photograph.exposure={draw.uniform(0.7, 1.0)}", "observations.photograph.sigma=0.01"]
    write_twin(
        se.load_scene(PHOTOGRAPH, small),
        se.load_scene(PHOTOGRAPH, [*small, *told]),
        folder,
        refine=1.0,
        seed=seed,
        renderer="raycast",
    )
    file = f"observations.photograph.file='{folder / 'camera_photograph.png'}'"
    truth = {f"cameras.front.{key} {k}": float(v) for key, value in hidden.items() for k, v in enumerate(value)}
    return Problem(se.load_scene(PHOTOGRAPH, [*small, file])), truth


def hydrogen(folder: Path, seed: int) -> tuple[Problem, dict[str, float]]:
    """Burning velocities of hydrogen, on twice as fine a grid, by constants drawn from their priors: full chemistry."""
    draw = np.random.default_rng(seed)
    truth = {name: float(np.exp(WIDTH * draw.standard_normal())) for name in REACTIONS}

    def problem(values: dict[str, float], speeds: list[float], slope: float) -> Problem:
        rows = [[298.0, phi, speed] for phi, speed in zip((0.6, 0.9, 1.3, 2.0, 3.0), speeds, strict=True)]
        with (folder / "speeds.csv").open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows([["T_in [K]", "phi", "flame_speed [m/s]"], *rows])
        prior = "{ uncertainty_factor = 2.0, level = 2 }"
        unknowns = "\n".join(
            f"'gas.reactions.\"{name}\".factor' = {{ prior = {prior}, initial = {value} }}"
            for name, value in values.items()
        )
        scene = folder / "scene.toml"
        scene.write_text(SPEEDS.format(slope=slope, curve=2 * slope, noise=NOISE, unknowns=unknowns), encoding="utf-8")
        return Problem(se.load_scene(scene))

    twin = problem(truth, [1.0] * 5, 0.1)
    clean = twin.predict(twin.start())["speeds"].values[:, 0].numpy()
    speeds = clean * (1 + NOISE * draw.standard_normal(5))
    return problem(dict.fromkeys(REACTIONS, 1.0), speeds.tolist(), 0.2), {
        f"gas.reactions.{name}.factor": value for name, value in truth.items()
    }
