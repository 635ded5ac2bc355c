"""How often 95 % intervals hold the truth, for cheap problems; twins, named as such.

`python benchmarks/coverage.py [cases] [seeds=100] [into=FILE]`: these cases, or all. Every fit is a line of FILE
(coverage.jsonl in the working directory), and one that is there is not done again: it may be stopped at any time.

Data are drawn with another seed each, by closed forms.
`interval` is what the report prints, `joint` the ellipsoid of all numbers sought, `noise alone` the interval of
(J^T J)^-1, which knows of nothing but the noise.
"""

import csv
import dataclasses
import json
import math
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.optimize
import scipy.stats
import torch
from simengine.benchmarks._films import film
from simengine.benchmarks._twins import camera, hydrogen

import simengine as se
from simengine.fit.certainty.bars import posterior_of
from simengine.fit.certainty.worth import student
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.problem import Problem
from simengine.fit.twin import write_twin
from simengine.observe import Curve
from simengine.scene.address import replaced
from simengine.scene.grammar import build_scene

Made = tuple[Problem, dict[str, float]]  # a problem with its data, and the truth

EDGE = (5.0, 10.0)  # degrees by which the middle of an edge is off that the model takes for cold
MARKS = ("time [s]", "name", "x [m]", "y [m]", "z [m]")


class Decay(se.OwnWorld):
    """y = height exp(-rate t)."""

    parameters: ClassVar = {"height": se.OwnNumber(1.5, gt=0), "rate": se.OwnNumber(0.8, gt=0)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 4.0, 81, dtype=torch.float64)
        return se.OwnMotion(t, scalars={"y": values["height"] * (-values["rate"] * t).exp()})


def decay(*, sigma: float | str, off: float = 0.0, discrepancy: bool = False) -> Callable[[Path, int], Made]:
    """A world of one's own; `off` is a slow oscillation in the data that the model does not know."""

    def made(folder: Path, seed: int) -> Made:
        t = np.linspace(0, 4, 41)
        y = 2.0 * np.exp(-t) + off * np.sin(1.3 * t + 0.5) + 0.02 * np.random.default_rng(seed).standard_normal(41)
        _csv(folder / "y.csv", {"time [s]": t, "y": y})
        curve = Curve(
            directory=folder, file="y.csv", columns={"time": "time", "y": "y"}, sigma=sigma, discrepancy=discrepancy
        )
        unknowns = {"height": se.Unknown(), "rate": se.Unknown()}
        return Problem(Decay(), observations={"y": curve}, unknowns=unknowns), {"height": 2.0, "rate": 1.0}

    return made


def paste(*, sigma: str, off: float = 0.0, discrepancy: bool = False) -> Callable[[Path, int], Made]:
    """A flow curve, by the closed form tau_y + K rate^n; `off` is a stress that swings with ln rate."""

    def made(folder: Path, seed: int) -> Made:
        rate = np.logspace(-1, 2, 25)
        random = np.random.default_rng(seed)
        stress = 5.0 + 3.0 * rate**0.5 + off * np.sin(1.5 * np.log(rate)) + 0.1 * random.standard_normal(25)
        _csv(folder / "flow.csv", {"rate": rate, "stress": stress})
        text = f"""
kind = "specimen"
material = {{ type = "paste", E = 1e3, nu = 0.4, yield_stress = 4.0, consistency = 2.5, exponent = 0.55 }}
test.type = "steady_shear"
[observations.flow]
type = "curve"
against = "shear_rate"
file = "flow.csv"
columns = {{ shear_rate = "rate", shear_stress = "stress" }}
sigma = {sigma}
{"discrepancy = true" if discrepancy else ""}
[unknowns]
"material.yield_stress" = {{}}
"material.consistency" = {{}}
"material.exponent" = {{}}
"""
        truth = {"material.yield_stress": 5.0, "material.consistency": 3.0, "material.exponent": 0.5}
        return Problem(_scene(text, folder)), truth

    return made


def ball(*, sigma: str) -> Callable[[Path, int], Made]:
    """A ball that falls in air, by the closed form vt^2/g ln cosh(g t/vt), tracked by a clock that began late."""

    def made(folder: Path, seed: int) -> Made:
        random, t = np.random.default_rng(seed), np.arange(40) / 60.0
        late, coefficient, mass, radius = 0.03, 0.47, 2.8e-3, 0.02
        square = 2 * mass * 9.81 / (1.2 * coefficient * np.pi * radius**2)
        fallen = square / 9.81 * np.log(np.cosh(9.81 * np.maximum(t - late, 0.0) / np.sqrt(square)))
        columns = {"t": t, "x": 0.0 * t, "y": 2.5 - fallen, "z": 0.0 * t}
        for axis in "xyz":
            columns[axis] = columns[axis] + 2e-3 * random.standard_normal(40)
        _csv(folder / "ball.csv", columns)
        text = f"""
kind = "rigid"
gravity = [0.0, -9.81, 0.0]
duration = 0.7
[[bodies]]
name = "ball"
shape = {{ type = "sphere", center = [0.0, 2.49, 0.0], radius = {radius} }}
mass = {mass}
drag = {{ coefficient = 0.6, density = 1.2 }}
[observations.film]
type = "markers"
file = "ball.csv"
on = "ball"
sigma = {sigma}
columns = {{ time = "t", x = "x", y = "y", z = "z" }}
[unknowns]
"bodies.ball.drag.coefficient" = {{}}
"bodies.ball.shape.center.1" = {{ prior = {{ normal = 0.05 }} }}
"observations.film.start" = {{ initial = 0.02, prior = {{ normal = 0.03 }} }}
"""
        truth = {
            "bodies.ball.drag.coefficient": coefficient,
            "bodies.ball.shape.center.1": 2.5,
            "observations.film.start": late,
        }
        return Problem(_scene(text, folder)), truth

    return made


def rod(*, sigma: str, plate: bool = False) -> Callable[[Path, int], Made]:
    """A hot rod between cold ends that loses heat to the air, by its series of sines; a plate by the product of two."""
    places = [(0.2, 0.3), (0.5, 0.6), (0.7, 0.2)] if plate else [(0.2,), (0.5,), (0.7,)]
    cells = [40, 24, 24] if plate else [120, 60]
    sides = ("left", "right", "bottom", "top") if plate else ("both",)

    def made(folder: Path, seed: int) -> Made:
        random, t = np.random.default_rng(seed), np.linspace(0.05, 0.6, 12)
        columns = {"t": t}
        for k, place in enumerate(places):
            warm = 50.0 * np.exp(-1.5 * t)
            for x in place:
                warm = warm * sum(
                    4 / (n * np.pi) * np.sin(n * np.pi * x) * np.exp(-0.25 * (n * np.pi) ** 2 * t)
                    for n in range(1, 40, 2)
                )
            columns[f"T{k}"] = warm + 0.3 * random.standard_normal(12)
        _csv(folder / "rod.csv", columns)
        walls = "".join(f'[[pde.boundary]]\nat = "{side}"\ntype = "dirichlet"\nvalue = 0.0\n' for side in sides)
        text = f"""
kind = "pde"
[pde]
equation = "heat"
conductivity = 1.4
heat_capacity = 4.0
convection = {{ h = 2.0, perimeter_per_area = 2.0, ambient = 0.0 }}
initial = 50.0
domain = {[[0.0, 1.0]] * len(places[0])}
duration = 0.6
cells = {cells}
{walls}
[observations.rod]
type = "samples"
file = "rod.csv"
columns = {{ t = "t", T = "T*" }}
at = {[list(place) for place in places]}
sigma = {sigma}
[unknowns]
"pde.conductivity" = {{}}
"pde.convection.h" = {{}}
"""
        return Problem(_scene(text, folder)), {"pde.conductivity": 1.0, "pde.convection.h": 3.0}

    return made


def edge(*, discrepancy: str) -> Callable[[Path, int], Made]:
    """A hot plate one edge of which, drawn by chance, is warmer or colder in its middle than the model has it.

    In closed form: with a the diffusivity and b the loss to the air an upper edge at sin(pi x) adds sin(pi x) v(y, t)
    with v_t = a v_yy - (a pi^2 + b) v, v = 1 at the edge.
    """
    places = [((i + 0.5) / 5, (j + 0.5) / 5) for i in range(5) for j in range(5)]
    times, n, a, b = np.linspace(0.1, 0.6, 6), np.arange(1, 60)[:, None], 0.25, 1.5

    def cooling(x: float, y: float) -> np.ndarray:
        own, odd = 50.0 * np.exp(-b * times), n[::2]
        for along in (x, y):
            waves = np.sin(odd * np.pi * along) * np.exp(-a * (odd * np.pi) ** 2 * times)
            own = own * (4 / (odd * np.pi) * waves).sum(0)
        return own

    def by_edge(x: float, y: float) -> np.ndarray:
        m = math.sqrt(math.pi**2 + b / a)
        fading = np.exp(-(a * (n * np.pi) ** 2 + a * np.pi**2 + b) * times)
        waves = 2 * (-1.0) ** n * n * np.pi / ((n * np.pi) ** 2 + m**2) * np.sin(n * np.pi * y) * fading
        return math.sin(math.pi * x) * (math.sinh(m * y) / math.sinh(m) + waves.sum(0))

    def made(folder: Path, seed: int) -> Made:
        random, columns = np.random.default_rng(seed), {"t": times}
        side, size = random.integers(4), random.choice([-1.0, 1.0]) * random.uniform(*EDGE)
        for k, (x, y) in enumerate(places):
            here = [(x, y), (x, 1 - y), (y, x), (y, 1 - x)][side]
            columns[f"T{k}"] = cooling(x, y) + size * by_edge(*here) + 0.2 * random.standard_normal(len(times))
        _csv(folder / "plate.csv", columns)
        sides = ("left", "right", "bottom", "top")
        walls = "".join(f'[[pde.boundary]]\nat = "{side}"\ntype = "dirichlet"\nvalue = 0.0\n' for side in sides)
        text = f"""
kind = "pde"
[pde]
equation = "heat"
conductivity = 1.2
heat_capacity = 4.0
convection = {{ h = 2.5, perimeter_per_area = 2.0, ambient = 0.0 }}
initial = 50.0
domain = [[0.0, 1.0], [0.0, 1.0]]
duration = 0.6
cells = [60, 20, 20]
{walls}
[observations.plate]
type = "samples"
file = "plate.csv"
columns = {{ t = "t", T = "T*" }}
at = {[list(place) for place in places]}
sigma = 0.2
{discrepancy}
[unknowns]
"pde.conductivity" = {{}}
"pde.convection.h" = {{}}
"""
        return Problem(_scene(text, folder)), {"pde.conductivity": 1.0, "pde.convection.h": 3.0}

    return made


def flame(*, sigma: str) -> Callable[[Path, int], Made]:
    """Profiles of a flame with simplified physics, of our own at four times the points, read once and given noise."""
    clean: dict[str, np.ndarray] = {}

    def made(folder: Path, seed: int) -> Made:
        text = f"""
kind = "flame"
[flame]
type = "free_simple"
phi = 0.42
[observations.profiles]
type = "profiles"
file = "flame.csv"
columns = {{ x = "x [m]", T = "T [K]", u = "u [m/s]" }}
sigma = {sigma}
along = {{ x = [0.0, 1.5e-3, 10] }}
[unknowns]
"flame.lam" = {{ initial = 0.03 }}
"flame.Ea" = {{ initial = 1.5e5 }}
"flame.gradient" = {{ initial = 2e5 }}
"""
        truth = {"flame.lam": 2.6e-2, "flame.Ea": 1.214172e5, "flame.gradient": 1e5}
        if not clean:
            hidden = _scene(text.replace(sigma, "{ absolute = 1e-12 }").replace("flame.csv", "clean.csv"), folder)
            hidden = dataclasses.replace(hidden, world=replaced(hidden.world, truth))
            write_twin(hidden, hidden, folder, refine=4.0)
            with (folder / "clean.csv").open(encoding="utf-8") as file:
                names = file.readline().strip().split(",")
                rows = np.loadtxt(file, delimiter=",")
            clean.update({name: rows[:, k] for k, name in enumerate(names)})
        random = np.random.default_rng(seed)
        noisy = {
            n: v if n.startswith("x") else v * (1 + 0.02 * random.standard_normal(len(v))) for n, v in clean.items()
        }
        _csv(folder / "flame.csv", noisy)
        return Problem(_scene(text, folder)), truth

    return made


def jelly(*, noise: float) -> Callable[[Path, int], Made]:
    """Marks on a jelly that falls on a floor, of our own engine on twice as fine a grid, read once and given noise.

    A body of six cells: what the grid errs by is several times the smaller noise.
    """
    clean: list[list[Any]] = []

    def made(folder: Path, seed: int) -> Made:
        seats = np.random.default_rng(7).uniform(0.1, 0.9, (12, 3)) * 0.4 + (0.3, 0.17, 0.3)
        marks = "\n".join(
            f'm{k:02d} = {{ on = "jelly", at = {[round(float(c), 4) for c in s]} }}' for k, s in enumerate(seats)
        )
        text = f"""
kind = "mpm"
[grid]
num_grids = 16
time_step = 1.25e-3
num_steps = 130
[[bodies]]
name = "jelly"
velocity = [0.3, -2.0, 0.0]
shape = {{ type = "box", center = [0.5, 0.37, 0.5], size = [0.4, 0.4, 0.4], counts = [6, 6, 6] }}
material = {{ type = "jelly", E = 6e4, nu = 0.3 }}
[observations.film]
type = "markers"
file = "marks.csv"
sigma = {noise}
columns = {{ time = "time [s]", name = "name", x = "x [m]", y = "y [m]", z = "z [m]" }}
[observations.film.markers]
{marks}
[unknowns]
"bodies.jelly.material.E" = {{ prior.lognormal = 1.0 }}
"bodies.jelly.material.nu" = {{ prior.normal = 0.1 }}
"""
        truth = {"bodies.jelly.material.E": 4e4, "bodies.jelly.material.nu": 0.36}
        keys = {"bodies.0.material.E": 4e4, "bodies.0.material.nu": 0.36}
        if not clean:
            rows = [[f"{t:.2f}", f"m{k:02d}", *seat] for t in np.arange(9) * 2e-2 for k, seat in enumerate(seats)]
            _rows(folder / "marks.csv", MARKS, rows)
            problem = Problem(_scene(text, folder))
            asks = problem.instruments["film"].asks(problem.measured["film"])
            run = replaced(problem.scene.world, keys).refined(2.0).prepare(asks).solve(asks)
            shown = problem.instruments["film"].predict(run, problem.measured["film"]).reshape(-1, 3).tolist()
            clean.extend([*row[:2], *place] for row, place in zip(rows, shown, strict=True))
        random = np.random.default_rng(seed)
        noisy = [[*row[:2], *(float(v) + noise * random.standard_normal() for v in row[2:])] for row in clean]
        _rows(folder / "marks.csv", MARKS, noisy)
        return Problem(_scene(text, folder)), truth

    return made


CASES: dict[str, Callable[[Path, int], Made]] = {
    "own world, noise given": decay(sigma=0.02),
    "own world, noise estimated": decay(sigma="estimate"),
    "own world, model off": decay(sigma=0.02, off=0.15),
    "own world, model off, discrepancy": decay(sigma="estimate", off=0.15, discrepancy=True),
    "specimen, noise given": paste(sigma="0.1"),
    "specimen, noise estimated": paste(sigma='"estimate"'),
    "specimen, model off": paste(sigma="0.1", off=1.0),
    "specimen, model off, discrepancy": paste(sigma='"estimate"', off=1.0, discrepancy=True),
    "rigid, noise given": ball(sigma="2e-3"),
    "rigid, noise estimated": ball(sigma='"estimate"'),
    "field, noise given": rod(sigma="0.3"),
    "field, noise estimated": rod(sigma='"estimate"'),
    "plate, noise given": rod(sigma="0.3", plate=True),
    "plate, noise estimated": rod(sigma='"estimate"', plate=True),
    "plate, an edge wrong": edge(discrepancy=""),
    "plate, an edge wrong, discrepancy over place": edge(discrepancy='discrepancy = { over = "place" }'),
    "flame, noise given": flame(sigma="{ relative = 0.02 }"),
    "matter, another grid, noise of 50 mm": jelly(noise=5e-2),
    "matter, another grid, noise of 2 mm": jelly(noise=2e-3),
    "matter, another grid, noise of 2 mm, refined": jelly(noise=2e-3),
    "camera from an outline, another renderer": camera,
    "hydrogen's rate constants, another grid": hydrogen,
    "film, another renderer": film,
    "film, another renderer, refined": film,
    "film, another renderer and grid": partial(film, finer=2.0),
    "film, another renderer and grid, refined": partial(film, finer=2.0),
    "film, another renderer and grid, hard floor, refined": partial(film, finer=2.0, hard=True),
}
REFINED = {  # `--refine`
    "matter, another grid, noise of 2 mm, refined": 2.0,
    "film, another renderer, refined": 1.5,
    "film, another renderer and grid, refined": 1.5,
    "film, another renderer and grid, hard floor, refined": 1.5,
}


def _csv(file: Path, columns: dict[str, np.ndarray]) -> None:
    rows = zip(*columns.values(), strict=True)
    file.write_text(
        "\n".join([",".join(columns), *(",".join(f"{v:.12g}" for v in row) for row in rows)]) + "\n", encoding="utf-8"
    )


def _rows(file: Path, titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([titles, *rows])


def _scene(text: str, folder: Path) -> Any:
    return build_scene(tomllib.loads(text), directory=folder, locate=lambda key: "scene.toml")


def judged(problem: Problem, truth: dict[str, float], refine: float | None = None) -> dict[str, Any]:
    """Whether the intervals of one fit hold the truth."""
    fit = LeastSquaresFit(problem)
    fit.refine = refine
    while not fit.converged:
        fit.step()
    found = posterior_of(fit)
    _, j = problem.linearise(fit.z)
    spread = 1.96 * torch.linalg.inv(j.T @ j).diagonal().sqrt()
    held: dict[str, Any] = {"interval": {}, "noise alone": {}, "off": {}, "half": {}}
    off, which = [], []
    for k, c in enumerate(problem.coordinates):
        if c.name not in truth:
            continue
        e, true = found.estimates[c.name], truth[c.name]
        held["interval"][c.name] = bool(e.low is not None and e.high is not None and e.low <= true <= e.high)
        held["off"][c.name] = (e.value - true) / abs(true)
        if e.low is not None and e.high is not None:
            held["half"][c.name] = (e.high - e.low) / 2 / abs(true)
        ends = sorted(float(c.value(fit.z[k] + side * spread[k])) for side in (-1, 1))
        held["noise alone"][c.name] = bool(ends[0] <= true <= ends[1])

        def gap(z: float, c: Any = c, true: float = true) -> float:
            return float(c.value(torch.tensor(z, dtype=torch.float64))) - true

        off.append(scipy.optimize.brentq(gap, -20, 20) - float(fit.z[k]))
        which.append(k)
    own = found.covariance[which][:, which]
    square = float(torch.tensor(off, dtype=torch.float64) @ torch.linalg.solve(own, torch.tensor(off).double()))
    degrees = min(worth.degrees for worth in found.worth.values())
    bound = float(scipy.stats.chi2.ppf(0.95, len(off)))
    if math.isfinite(degrees):  # Hotelling's; the covariance is Student's for one number already
        bound = len(off) * float(scipy.stats.f.ppf(0.95, len(off), degrees)) / student(degrees)
    return {**held, "joint": bool(square <= bound), "square": square, "bound": bound}


def row_of(case: str, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares over the seeds, of all numbers together."""

    def share(kind: str) -> str:
        flags = [flag for line in lines for flag in line[kind].values()]
        return f"{100 * sum(flags) / len(flags):.0f}"

    def median(kind: str) -> str:
        values = [abs(value) for line in lines for value in line.get(kind, {}).values()]
        return f"{100 * float(np.median(values)):.2g}" if values else ""

    joint = 100 * sum(line["joint"] for line in lines) / len(lines)
    return {
        "name": case,
        "seeds": len(lines),
        "interval [%]": share("interval"),
        "joint [%]": f"{joint:.0f}",
        "noise alone [%]": share("noise alone"),
        "off, median [%]": median("off"),
        "half an interval, median [%]": median("half"),
    }


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    wanted = [argument for argument in arguments if "=" not in argument]
    file, seeds = Path(options.get("into", "coverage.jsonl")), int(options.get("seeds", "100"))
    cases = [case for case in CASES if not wanted or any(case.startswith(one) for one in wanted)]
    known = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    done = {(line["case"], line["seed"]): line for line in known}
    for case in cases:
        for seed in range(seeds):
            if (case, seed) in done:
                continue
            with tempfile.TemporaryDirectory() as folder:
                problem, truth = CASES[case](Path(folder), seed)
                line = {"case": case, "seed": seed, **judged(problem, truth, REFINED.get(case))}
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            done[case, seed] = line
    return [row_of(case, own) for case in cases if (own := [v for (name, _), v in done.items() if name == case])]


if __name__ == "__main__":
    for row in main(sys.argv[1:]):
        print(row)
