"""Ten rate constants of hydrogen from 30 flame speeds and 20 ignition delays with 3 % noise: do 95 % intervals hold?

`python benchmarks/hydrogen_twin.py [seeds=100] [fits=3] [into=FOLDER]`: a twin, named as such. The truth's factors are
drawn from the prior; its experiments are solved once, on a grid of two thirds of the criteria. The fit of these without
noise, by what `simengine fit` runs, gives the exact sensitivities at its answer. Each seed of noise is refitted from
there by **one Gauss-Newton step**; some seeds are refitted in full, from the start, and stand beside their step.
"""

import csv
import dataclasses
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from simengine.fit.inference import LeastSquaresFit
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.fit.twin import write_twin
from simengine.scene.address import replaced
from simengine.scene.grammar import Scene
from simengine.scene.loader import load_scene
from simengine.scene.noise import Noise

NOISE, SPREAD, TRUTH = 0.03, 2.0, 7  # relative; factor at two standard deviations of the prior; seed of the truth
SOUGHT = (  # of 29, those whose priors these experiments narrow most, by their sensitivities as published
    "H + O2 <=> O + OH",
    "H + O2 + AR <=> HO2 + AR",
    "H + O2 + N2 <=> HO2 + N2",
    "H + O2 + H2O <=> HO2 + H2O",
    "H + O2 + M <=> HO2 + M",
    "H + HO2 <=> O2 + H2",
    "OH + H2 <=> H + H2O",
    "H + HO2 <=> 2 OH",
    "2 OH (+M) <=> H2O2 (+M)",
    "H + H2O2 <=> HO2 + H2",
)
AIR, ARGON, THIN = ("O2: 1, N2: 3.76", "O2: 1, AR: 5", "O2: 1, N2: 6")
FLAMES = ((300, 1, AIR), (400, 1, AIR), (300, 5, AIR), (300, 1, ARGON), (350, 2, THIN))  # K, atm, oxidiser
RATIOS = (0.6, 0.8, 1.0, 1.3, 1.7, 2.2)
TUBES = (
    (1, "H2: 2, O2: 1, AR: 12"),
    (4, "H2: 2, O2: 1, AR: 27"),
    (16, "H2: 2, O2: 1, N2: 15"),
    (33, "H2: 2, O2: 1, AR: 97"),
)
HOT = (1000, 1075, 1150, 1250, 1400)  # K; some 60 K more with pressure
SCENE = f"""
kind = "flame"
[gas]
mechanism = "h2o2.yaml"
[flame]
type = "free"
fuel = {{ H2 = 1.0 }}
[grid]
slope = 0.1
curve = 0.2
[observations.speeds]
type = "experiments"
file = "speeds.csv"
conditions = {{ phi = "phi", T_in = "T_in", p = "p", oxidiser = "oxidiser" }}
measured = {{ flame_speed = "flame_speed" }}
sigma = {{ relative = {NOISE} }}
[observations.delays]
type = "experiments"
file = "delays.csv"
conditions = {{ T_in = "T_in", p = "p", composition = "composition" }}
measured = {{ ignition_delay = "ignition_delay" }}
sigma = {{ relative = {NOISE} }}
[unknowns]
""" + "\n".join(
    f"'gas.reactions.\"{equation}\".factor' = {{ prior = {{ uncertainty_factor = {SPREAD}, level = 2 }} }}"
    for equation in SOUGHT
)


def _conditions(folder: Path) -> None:
    """The experiments as tables, SI, with 1 where something will be measured."""
    speeds = [[phi, T, 101325.0 * p, gas, 1.0] for T, p, gas in FLAMES for phi in RATIOS]
    delays = [[T + 60 * math.log(p) / math.log(4), 101325.0 * p, gas, 1.0] for p, gas in TUBES for T in HOT]
    _write(folder / "speeds.csv", ("phi", "T_in", "p", "oxidiser", "flame_speed"), speeds)
    _write(folder / "delays.csv", ("T_in", "p", "composition", "ignition_delay"), delays)


def _write(file: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([header, *rows])


def _scene(folder: Path) -> Scene:
    (folder / "twin.toml").write_text(SCENE, encoding="utf-8")
    return load_scene(folder / "twin.toml")


def _key(equation: str) -> str:
    return f"gas.reactions.{equation}.factor"


def truth() -> dict[str, float]:
    """The factors that the experiments are made with, drawn from the prior."""
    z = torch.randn(len(SOUGHT), generator=torch.Generator().manual_seed(TRUTH), dtype=torch.float64)
    factors = (0.5 * math.log(SPREAD) * z).exp().tolist()
    return {_key(equation): factor for equation, factor in zip(SOUGHT, factors, strict=True)}


def experiments(folder: Path) -> None:
    """The truth's experiments without noise, on the finer grid, into a folder where they are not yet."""
    if (folder / "reference.toml").is_file():
        return
    with tempfile.TemporaryDirectory() as empty:
        _conditions(Path(empty))
        scene = _scene(Path(empty))
        world = replaced(scene.world, truth())
        hidden = dataclasses.replace(
            scene,
            world=world,
            runs=dict.fromkeys(scene.runs, world),
            observations={
                name: dataclasses.replace(own, sigma=Noise(relative=1e-12)) for name, own in scene.observations.items()
            },
        )
        write_twin(scene, hidden, folder, refine=1.5, seed=0)


def noisy(made: Path, folder: Path, seed: int) -> None:
    """The experiments with noise; seed 0 has none."""
    generator = torch.Generator().manual_seed(seed)
    for name in ("speeds.csv", "delays.csv"):
        with (made / name).open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        noise = torch.randn(len(rows), generator=generator, dtype=torch.float64).tolist()
        for row, e in zip(rows, noise, strict=True):
            row[-1] = f"{float(row[-1]) * (1 + NOISE * e * bool(seed)):.12g}"
        _write(folder / name, header, rows)


def fitted(folder: Path) -> tuple[Problem, torch.Tensor, list[float], list[float], float]:
    """What `simengine fit` does: the problem, its answer z, ln of the factors with their deviations, CPU seconds."""
    began = time.process_time()
    problem = Problem(_scene(folder))
    training = LeastSquaresFit(problem)
    while not training.converged:
        training.step()
    found = posterior(problem, training.z, problem.predict(training.z)).estimates
    own = [found[_key(equation)] for equation in SOUGHT]
    widths = [math.log((e.high or math.nan) / (e.low or math.nan)) / (2 * 1.96) for e in own]
    return problem, training.z, [math.log(e.value) for e in own], widths, time.process_time() - began


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row for each constant: how often its interval holds the truth, and how far the full refits lie from a step."""
    given = dict(argument.split("=") for argument in arguments)
    seeds, fits = int(given.get("seeds", 100)), int(given.get("fits", 3))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        made = Path(given.get("into", place))
        made.mkdir(parents=True, exist_ok=True)
        experiments(made)
        return _compared(made, seeds, fits)


def _compared(made: Path, seeds: int, fits: int) -> list[dict[str, Any]]:
    true = torch.tensor([math.log(factor) for factor in truth().values()], dtype=torch.float64)
    with tempfile.TemporaryDirectory() as folder:
        noisy(made, Path(folder), 0)
        problem, z, _, alone, seconds = fitted(Path(folder))
        r, j = problem.linearise(z, central=True)
    print(f"without noise: {seconds:.0f} s of CPU; chi-square {float(r[: -len(z)].square().sum()):.3g}", flush=True)
    n, scale = len(r) - len(z), 0.5 * math.log(SPREAD)  # rows of data, then those of the prior; z are ln of the factors
    order = [[c.name for c in problem.coordinates].index(_key(equation)) for equation in SOUGHT]
    centre, slopes, prior = z[order], j[:n, order], torch.eye(len(z), dtype=torch.float64) / scale**2
    steps = []
    for seed in range(1, seeds + 1):
        generator = torch.Generator().manual_seed(seed)
        e = torch.cat([torch.randn(k, generator=generator, dtype=torch.float64) for k in (30, n - 30)])
        weight = 1 / (1 + NOISE * e)  # sigma is a share of what was measured
        own, slope = (r[:n] - e) * weight, slopes * weight[:, None]
        information = slope.T @ slope
        covariance = torch.linalg.inv(information + prior)
        step = -covariance @ (slope.T @ own + prior @ centre)
        left = own + slope @ step
        reduced = float(left.square().sum()) / (n - len(z))
        told = torch.linalg.inv(information / max(reduced, 1.0) + prior)  # as the report widens its bars
        steps.append((centre + step, covariance.diagonal().sqrt(), told.diagonal().sqrt()))
    found, noise_alone, reported = (torch.stack(column) for column in zip(*steps, strict=True))
    beside, times = [], []
    for seed in range(1, fits + 1):
        with tempfile.TemporaryDirectory() as folder:
            noisy(made, Path(folder), seed)
            _, _, values, widths, seconds = fitted(Path(folder))
        off = (torch.tensor(values, dtype=torch.float64) - found[seed - 1]) / reported[seed - 1]
        beside.append((off, torch.tensor(widths, dtype=torch.float64) / reported[seed - 1]))
        times.append(seconds)
        print(f"seed {seed}: full refit {seconds:.0f} s of CPU; off by {float(off.abs().max()):.3f} sd", flush=True)
    rows = []
    for k, equation in enumerate(SOUGHT):
        held = (found[:, k] - true[k]).abs()
        rows.append(
            {
                "name": equation,
                "truth": math.exp(float(true[k])),
                "sd over prior's": alone[k] / scale,
                "held": int((held < 1.96 * reported[:, k]).sum()),
                "held, noise alone": int((held < 1.96 * noise_alone[:, k]).sum()),
                "off, full refits": max((abs(float(o[k])) for o, _ in beside), default=math.nan),
                "width, full refits": max((abs(float(w[k]) - 1) for _, w in beside), default=math.nan),
            }
        )
    for row in rows:
        print(", ".join(f"{k} {v if isinstance(v, str | int) else format(v, '.3g')}" for k, v in row.items()))
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
