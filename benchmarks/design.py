"""The next experiment: whether what is proposed tells what was promised, and more than experiments chosen at random.

    simengine bench design [matter flame]

matter: which of 60 marks on a falling jelly to track as well, where one is tracked; E and nu are sought. flame: at
which equivalence ratio to measure a flame speed, where three are measured; the rate factor and the activation energy
of one-step methane are sought. Data are twins with noise, of other numbers than the scene says. What is fitted gives
the numbers at which the next experiment is proposed; then it is made, everything is fitted again, and the volume of
the posterior before over that after is what was got, at the stated noise. What 50 random choices would have got is told
at that last answer, and so is what the scene's own numbers, and
the average over its priors, would have proposed before any fit.
"""

import dataclasses
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from simengine.fit.certainty.design import candidates, expected
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.scene import load_scene
from simengine.scene.grammar import Scene
from simengine.scene.noise import HoldOut

RANDOM = 50
DRAWS = 16  # of the prior
MARKS, TIMES = 61, (0.05, 0.1, 0.15, 0.2)
JELLY = """
kind = "mpm"
[grid]
num_grids = 20
time_step = 1e-3
num_steps = 200
[[bodies]]
name = "jelly"
velocity = [0.0, -2.0, 0.0]
shape = {{ type = "box", center = [0.5, 0.36, 0.5], size = [0.3, 0.4, 0.3], counts = [6, 8, 6] }}
material = {{ type = "jelly", E = {E}, nu = {nu} }}
[observations.data]
type = "markers"
file = "marks.csv"
sigma = 5e-4
columns = {{ time = "time [s]", name = "name", x = "x [m]", y = "y [m]", z = "z [m]" }}
[observations.data.markers]
{marks}
[unknowns]
"bodies.jelly.material.E" = {{ prior.lognormal = 0.7 }}
"bodies.jelly.material.nu" = {{ prior.normal = 0.1 }}
"""
PHI = [round(0.6 + 0.05 * k, 2) for k in range(11)]
FLAME = """
kind = "flame"
resolution = 1e-5
[gas]
mechanism = "asset:methane_1step.yaml"
[gas.reactions."CH4 + 2 O2 => CO2 + 2 H2O"]
factor = {factor}
[flame]
type = "free"
T_in = 298.0
[observations.data]
type = "experiments"
file = "speeds.csv"
conditions = {{ phi = "phi" }}
measured = {{ flame_speed = "flame_speed [m/s]" }}
sigma = 5e-3
[unknowns]
'gas.reactions."CH4 + 2 O2 => CO2 + 2 H2O".factor' = {{ prior.lognormal = 1.0 }}
'gas.reactions."CH4 + 2 O2 => CO2 + 2 H2O".Ea' = {{ prior.lognormal = 0.1 }}
"""


def jelly(folder: Path, E: float, nu: float) -> Path:
    """The scene with marks all over the body; the first one is tracked."""
    generator = random.Random(1)
    lower, size = (0.35, 0.16, 0.35), (0.3, 0.4, 0.3)
    seats = [[round(a + s * generator.random(), 4) for a, s in zip(lower, size, strict=True)] for _ in range(MARKS)]
    scene = folder / f"jelly{E:.0f}.toml"
    marks = "\n".join(f'm{k:02d} = {{ on = "jelly", at = {seat} }}' for k, seat in enumerate(seats))
    scene.write_text(JELLY.format(E=E, nu=nu, marks=marks), encoding="utf-8")
    lines = [f"{t},m{k:02d},{seat[0]},{seat[1]},{seat[2]}" for t in TIMES for k, seat in enumerate(seats)]
    (folder / "marks.csv").write_text("\n".join(["time [s],name,x [m],y [m],z [m]", *lines]) + "\n", encoding="utf-8")
    return scene


def flame(folder: Path, factor: float) -> Path:
    """The scene with speeds at many equivalence ratios."""
    scene = folder / f"flame{factor:g}.toml"
    scene.write_text(FLAME.format(factor=factor), encoding="utf-8")
    (folder / "speeds.csv").write_text(
        "\n".join(["phi,flame_speed [m/s]", *(f"{phi},0.2" for phi in PHI)]) + "\n", encoding="utf-8"
    )
    return scene


def with_data(believed: Scene, hidden: Scene, rewrite: Callable[[torch.Tensor], None]) -> None:
    """What the hidden scene shows, with noise of its sigma, into the file of the believed one."""
    problem = Problem(hidden)
    z = problem.start()
    problem.settle(z)
    shown = problem.predict(z)["data"]
    noise = torch.randn(shown.values.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rewrite(shown.values + shown.sigma * noise)


def without(scene: Scene, rows: Sequence[int]) -> Problem:
    held = dataclasses.replace(scene.observations["data"], hold_out=HoldOut(rows=tuple(rows)))
    return Problem(dataclasses.replace(scene, observations={"data": held}))


def fitted(problem: Problem) -> tuple[torch.Tensor, float]:
    """The answer (p,), and the logarithm of the volume of its posterior."""
    fit = LeastSquaresFit(problem)
    while not fit.converged:
        fit.step()
    found = posterior(problem, fit.z, problem.predict(fit.z))
    assert found.linearised is not None
    slopes = found.linearised[1]  # rows of data and priors over their widths, by central differences
    return fit.z, -float(torch.logdet(slopes.T @ slopes)) / 2


def judge(name: str, scene: Scene, tracked: Sequence[int], count: int) -> dict[str, Any]:
    """A row: what was promised, what was got, what random choices would have got."""
    start = time.process_time()
    everything = [k for k in range(count) if k not in tracked]
    first = without(scene, everything)
    z, before = fitted(first)
    best, unfitted = candidates(first, z)[0], candidates(without(scene, everything))[0]
    averaged = expected(without(scene, everything), DRAWS)[0]
    own = set(best.rows.any(1).nonzero().flatten().tolist())
    second = without(scene, [k for k in everything if k not in own])
    z, after = fitted(second)
    got = torch.tensor(before - after).exp().item()
    at_the_end = {c.label: c.shrinks for c in candidates(first, z)}
    labels = sorted(at_the_end)
    drawn = random.Random(0).choices(labels, k=RANDOM)
    others = sorted(at_the_end[label] for label in drawn)
    return {
        "name": name, "proposed": best.label, "promised": best.shrinks, "got": got,
        "got over promised": got / best.shrinks, "proposed before any fit": unfitted.label,
        "promised before any fit": unfitted.shrinks, "got by that": at_the_end[unfitted.label],
        "proposed over the prior": averaged.label, "promised over the prior": averaged.shrinks,
        "eight draws of ten": averaged.between, "got by the one over the prior": at_the_end[averaged.label],
        "median of 50 at random": others[RANDOM // 2], "best of 50 at random": others[-1],
        "the proposed at the end": at_the_end[best.label],
        "random ones that tell less": sum(value <= at_the_end[best.label] for value in others),
        "cpu_s": round(time.process_time() - start, 1),
    }  # fmt: skip


def matter() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        believed, hidden = jelly(folder, 6e4, 0.3), jelly(folder, 4e4, 0.36)

        def rewrite(values: torch.Tensor) -> None:
            rows = values.reshape(len(TIMES), MARKS, 3).tolist()
            lines = [
                f"{t},m{k:02d},{x},{y},{z}"
                for t, row in zip(TIMES, rows, strict=True)
                for k, (x, y, z) in enumerate(row)
            ]
            (folder / "marks.csv").write_text(
                "\n".join(["time [s],name,x [m],y [m],z [m]", *lines]) + "\n", encoding="utf-8"
            )

        with_data(load_scene(str(believed)), load_scene(str(hidden)), rewrite)
        rows = len(TIMES) * MARKS
        return judge("matter", load_scene(str(believed)), range(0, rows, MARKS), rows)


def flames() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        believed, hidden = flame(folder, 1.0), flame(folder, 0.8)

        def rewrite(values: torch.Tensor) -> None:
            lines = [f"{phi},{value}" for phi, value in zip(PHI, values.flatten().tolist(), strict=True)]
            (folder / "speeds.csv").write_text("\n".join(["phi,flame_speed [m/s]", *lines]) + "\n", encoding="utf-8")

        with_data(load_scene(str(believed)), load_scene(str(hidden)), rewrite)
        return judge("flame", load_scene(str(believed)), (6, 7, 8), len(PHI))


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    rows = list[dict[str, Any]]()
    for name in arguments or ("matter", "flame"):
        rows.append({"matter": matter, "flame": flames}[name]())
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
