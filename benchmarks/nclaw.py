"""NCLaw's protocol: errors of learned laws on motions not learned from, beside the published ones.

    simengine bench nclaw [ARGUMENTS] [--write PAGE]

    jelly sand plasticine water    only these materials (all of them unless named)
    --only PARTS     of: laws (the 16 cells, from states and from positions), baselines, networks (NCLaw's two,
                     trained by our momentum balance from the same states), outside (hidden laws that our
                     networks do not contain, from states), further (slope, contact, pool,
                     melting), training (NCLaw's own first epochs), momentum (1000 free steps), million, speed;
                     comma-separated; laws,further by default
    --meshes FOLDER  with blub.obj and spot.obj: the published bodies of the geometry test beside a torus
    --weights FOLDER with nclaw_weights_<material>.npz: NCLaw's published networks, under baselines
    --load FOLDER    laws saved before instead of learning them
    --save FOLDER    save the learned laws
    --full           further tests at the published size (hours); one million particles at full length, on a GPU

Position MSE [m^2], smaller is better; least ratio: of the published errors to ours, over the tests.
"""

import argparse
import functools
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from simengine.benchmarks._nclaw_networks import train as train_networks

from simengine.materials import Identity, Material, sand, snow
from simengine.materials.neural import nclaw
from simengine.materials.neural_energy import EnergyNetwork
from simengine.materials.neural_yield import YieldNetwork
from simengine.materials.weights import load_material, save_material
from simengine.mpm import MPMSolver, MPMState, SimulationError
from simengine.solve import rollout
from simengine.worlds.laws import protocol as nclaw_protocol
from simengine.worlds.laws.balance import BalanceTraining, with_material
from simengine.worlds.laws.known_form import identify
from simengine.worlds.laws.published import (
    PUBLISHED,
    VELOCITY_SEEDS,
    admissibility,
    angular_momentum_drift,
    further_tests,
    published_tests,
)
from simengine.worlds.laws.stages import learner
from simengine.worlds.laws.training import RolloutTraining, training
from simengine.worlds.laws.world import LawLearner, NCLawWorld
from simengine.worlds.motion.materials import Jelly, MaterialSpec, Plasticine, Sand, Water
from simengine.worlds.motion.momentum_balance import record
from simengine.worlds.motion.world import MPMWorld

TRUE: dict[str, MaterialSpec] = {
    "jelly": Jelly(E=1e5, nu=0.2),
    "sand": Sand(E=1e6, nu=0.2, friction_angle=25.0, volume_correction=False),  # as published
    "plasticine": Plasticine(E=3e5, nu=0.25, yield_stress=5e3),
    "water": Water(E=1e5, nu=0.3),
}
LAWS: dict[str, dict[str, Any]] = {
    "jelly": {"modulus": 1e5, "strain_scale": 0.3, "width": 64},
    "sand": {"modulus": 1e6, "strain_scale": 0.01, "width": 64, "convexity": "full", "plastic": True},
    "plasticine": {"modulus": 3e5, "strain_scale": 0.03, "width": 64, "convexity": "full", "plastic": True},
    "water": {"modulus": 1e5, "strain_scale": 0.3, "width": 48, "convexity": "shear", "plastic": True},
}
# The reference's own errors with these weights and its own first losses (seed 0)
NCLAW_WEIGHTS = {
    "jelly": {"reconstruction": 2.09e-4, "time": 5.20e-4, "velocity": 2.29e-4},
    "plasticine": {"reconstruction": 6.51e-5, "time": 1.31e-4, "velocity": 4.42e-5},
    "sand": {"reconstruction": 2.64e-5, "time": 3.37e-5, "velocity": 5.90e-5},
}
NCLAW_LOSSES = (0.381752, 0.381774, 0.371805, 0.348184)


def scene(name: str) -> NCLawWorld:
    return NCLawWorld(material=TRUE[name])


def spec(name: str, observe: str = "states", **law: Any) -> LawLearner:
    frames = 80 if observe == "states" else 40
    return LawLearner(**{**LAWS[name], "observe": observe, "frames": frames, "iterations": 5, **law})


def learn(made: NCLawWorld, learner: LawLearner) -> tuple[Material, float]:
    """The learned material and the CPU time it took [s]."""
    start = time.process_time()
    run = training(made, learner, device="cpu")
    for _ in range(run.num_iterations):
        if run.converged:
            break
        run.step()
    return run.stages[-1].model.materials[0], time.process_time() - start  # type: ignore[attr-defined]


class Table:
    """Rows as they are made: one for a law, its tests in columns."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, law: str, errors: dict[str, float], reference: dict[str, float] | None = None, **more: Any) -> None:
        """A row with errors [m^2] and other figures, and how many times smaller the former are than a reference's."""
        if reference:
            more["least_ratio"] = min(reference[test] / errors[test] for test in reference if test in errors)
        self.rows.append({"name": law, **errors, **more})
        print(self.rows[-1], file=sys.stderr, flush=True)


class Laws:
    """Learned laws: each is learned once, or loaded."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.load, self.save = options.load, options.save
        self._found: dict[tuple[str, str], tuple[Material, float]] = {}

    def __call__(self, name: str, observe: str) -> tuple[Material, float]:
        """The law of a material, and the CPU time of its learning [s]."""
        if (name, observe) not in self._found:
            file = f"{name}_{observe}.safetensors"
            self._found[name, observe] = found = (
                (load_material(self.load / file), 0.0) if self.load else learn(scene(name), spec(name, observe))
            )
            if self.save:
                save_material(self.save / file, found[0])
        return self._found[name, observe]


def laws(table: Table, names: list[str], learned: Laws, meshes: Path | None) -> None:
    """The published cells, with laws learned from states and from positions."""
    for name in names:
        for observe in ("states", "positions"):
            material, seconds = learned(name, observe)
            errors = published_tests(scene(name), material, meshes=meshes)
            table.add(f"{name}, from {observe}", errors, PUBLISHED[name], learning_cpu_s=round(seconds, 1))
        table.add(f"{name}, NCLaw as published", PUBLISHED[name])


def baselines(table: Table, names: list[str], options: argparse.Namespace) -> None:
    """NCLaw's own networks, the coefficients of the known form, and splines in place of a network."""
    for name in names:
        made = scene(name)
        if options.weights and name in NCLAW_WEIGHTS:
            with np.load(options.weights / f"nclaw_weights_{name}.npz") as file:
                material = nclaw(dict(file))
            table.add(f"{name}, NCLaw's weights", published_tests(made, material, geometry=False))
            table.add(f"{name}, NCLaw's weights in its own code", NCLAW_WEIGHTS[name])
        truth, state = made.experiment().build(device="cpu")
        start = time.process_time()
        known, _ = identify(made, record(truth, state, made.num_steps))
        seconds = round(time.process_time() - start, 1)
        errors = published_tests(made, known, geometry=False)
        table.add(f"{name}, known form from positions", errors, PUBLISHED[name], learning_cpu_s=seconds)
        spline, learning = learn(made, spec(name, form="spline", width=32))
        errors = published_tests(made, spline, geometry=False)
        table.add(f"{name}, splines from states", errors, PUBLISHED[name], learning_cpu_s=round(learning, 1))


def networks(table: Table, names: list[str], *, iterations: int = 200) -> None:
    """NCLaw's networks by the momentum balance, from the frames that ours are solved from."""
    for name in names:
        made = scene(name)
        model, state = made.experiment().build(device="cpu")
        seen = record(model, state, made.num_steps)
        start = time.process_time()
        material, left = train_networks(model, seen, number=spec(name).frames, iterations=iterations, seed=0)
        seconds = time.process_time() - start
        row, figures = f"{name}, NCLaw's networks by our balance", {"learning_cpu_s": round(seconds, 1)}
        try:
            errors = published_tests(made, material, geometry=False)
        except SimulationError as error:
            table.add(row, {}, unexplained=left, failed=str(error), **figures)
        else:
            table.add(row, errors, PUBLISHED[name], unexplained=left, **figures)


class Gent(torch.nn.Module):
    """A rubber whose chains lock at I1 = 3 + J_m: mu/2 of -J_m ln(1 - (I1 - 3)/J_m), and kappa/2 (ln J)^2.

    I1 is that of F / J^(1/3) (Gent, Rubber Chemistry and Technology 69, 1996); tau is mu dev b / (1 - (I1 - 3)/J_m) +
    kappa ln J with b of the same.
    """

    def __init__(self, mu: float, kappa: float, limit: float) -> None:
        super().__init__()
        self.mu, self.kappa, self.limit = mu, kappa, limit

    def forward(self, F: torch.Tensor) -> torch.Tensor:
        """Kirchhoff stress (n, 3, 3) [Pa] of F (n, 3, 3)."""
        J = torch.linalg.det(F)[:, None, None]
        b = F @ F.mT * J ** (-2 / 3)
        excess = b.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] - 3
        unit = torch.eye(3, dtype=F.dtype)
        return self.mu * (b - (excess + 3) / 3 * unit) / (1 - excess / self.limit) + self.kappa * J.log() * unit


def outside(table: Table, *, iterations: int = 200, only: str = "") -> None:
    """Hidden laws that are in neither class: ours holds Hencky, von Mises and Drucker-Prager exactly, these not."""
    grains = functools.partial(sand, 1e6, 0.2, 25.0, volume_correction=False)
    hidden: dict[str, tuple[str, Material, dict[str, Material]]] = {
        "Gent rubber, limit 1": ("jelly", Material(Gent(4e4, 6e4, 1.0), Identity()), {}),
        "snow: fixed corotated, exponential hardening": ("plasticine", snow(), {}),
        "Mohr-Coulomb, 25 degrees": (
            "sand", grains(yield_surface="mohr_coulomb"), {"Drucker-Prager of the same angle": grains()}
        ),
    }  # fmt: skip
    for name, (like, material, control) in hidden.items():
        if not name.lower().startswith(only.lower()):
            continue
        made = scene(like)

        def motion_of(moved: MPMWorld, law: Material) -> torch.Tensor:
            model, state = moved.build(device="cpu")
            with torch.no_grad():
                return rollout(
                    MPMSolver(with_material(model, law)), state, moved.grid.num_steps, save_every=5
                ).states.x.double()

        model, state = made.experiment().build(device="cpu")
        seen = record(with_material(model, material), state, made.num_steps)
        start = time.process_time()
        found = with_material(model, learner(spec(like), seed=0))
        step = BalanceTraining(found, [seen], positions_only=False, num_iterations=1, frames=spec(like).frames)
        step.step()
        middle = time.process_time()
        rows: dict[str, tuple[Material | None, float]] = {"ours": (found.materials[0], middle - start)}
        if iterations:
            theirs, _ = train_networks(model, seen, number=spec(like).frames, iterations=iterations, seed=0)
            rows["NCLaw's networks by our balance"] = theirs, time.process_time() - middle
        rows |= {row: (law, 0.0) for row, law in control.items()} | {"a body at rest": (None, 0.0)}
        tests = {"reconstruction": made.experiment(), "velocity": made.thrown(VELOCITY_SEEDS[0])}
        true = {test: motion_of(moved, material) for test, moved in tests.items()}
        for row, (law, seconds) in rows.items():
            errors: dict[str, float] = {}
            failed: dict[str, str] = {}
            for test, moved in tests.items():
                try:
                    found_motion = motion_of(moved, law) if law else true[test][:1]
                except SimulationError as error:  # a law can be so wrong that its body bursts
                    failed[f"{test} failed"] = str(error)
                else:
                    errors[test] = float((found_motion - true[test]).square().mean())
            table.add(f"{name}, {row}", errors, learning_cpu_s=round(seconds, 1), **failed)


def further(table: Table, learned: Laws, *, full: bool) -> None:
    """Slope, contact, pool and melting, with laws learned from positions."""
    found = {name: learned(name, "positions")[0] for name in TRUE}
    for test, error, seconds in further_tests(TRUE, found, full=full):
        table.add(test, {"position MSE, m^2": error}, cpu_s=round(seconds, 1))


def first_epochs(table: Table) -> None:
    """NCLaw's training of jelly as published, seed 0: the losses of epochs 1 to 4."""
    import torch

    truth, state = scene("jelly").experiment().build(device="cpu")
    torch.manual_seed(0)
    run = RolloutTraining(with_material(truth, nclaw()), [record(truth, state, 1000)], num_iterations=300)
    for k, published in enumerate(NCLAW_LOSSES):
        start = time.process_time()
        loss = run.step()["loss"]
        seconds = round(time.process_time() - start, 1)
        table.add(
            f"NCLaw's training of jelly, seed 0, epoch {k + 1}", {"loss": loss, "published": published}, cpu_s=seconds
        )


def momentum(table: Table, names: list[str], learned: Laws) -> None:
    """Drift of the angular momentum over 1000 free steps."""
    for name in names:
        drift = angular_momentum_drift(learned(name, "positions")[0])
        table.add(f"{name}, from positions", {"drift of angular momentum": drift, "published": 1.65e-4})


def million(table: Table, learned: Laws, *, full: bool) -> None:
    """One million particles of learned sand: 200 steps, or the published 10,000 on a GPU."""
    scenery = nclaw_protocol.million(scene("sand"), num_steps=10_000 if full else 200)
    found = admissibility(scenery, learned("sand", "positions")[0], device="cuda" if full else "cpu")
    table.add("sand, one million particles", {key: float(value) for key, value in found.items()})


# Runs in a process of its own, so that its peak is that of one gradient: prints MB beyond what was loaded, what was
# forecast, and the forecast for 1000 steps
MEMORY = """
import sys, torch
from simengine.materials import Material
from simengine.materials.neural_energy import EnergyNetwork
from simengine.materials.neural_yield import YieldNetwork
from simengine.worlds.laws.balance import BalanceTraining, with_material
from simengine.mpm import MPMSolver, forecast_memory
from simengine.worlds.motion.materials import Jelly
from simengine.worlds.laws.world import NCLawWorld
from simengine.worlds.motion.shapes import Box
from simengine.solve import CheckpointAdjoint, rollout
torch.set_num_threads(1)
side, steps, every, grids = map(int, sys.argv[1:])
def status(key):
    with open("/proc/self/status", encoding="utf-8") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))
def gradient(side, steps):
    cube = Box(center=(0.5, 0.5, 0.5), size=(0.5, 0.5, 0.5), counts=(side,) * 3)
    scene = NCLawWorld(material=Jelly(E=1e5, nu=0.2)).experiment(shape=cube, num_grids=grids)
    model, state = scene.build(device="cpu")
    model = with_material(model, Material(EnergyNetwork(convexity="full"), YieldNetwork(strain_scale=0.03)))
    adjoint = CheckpointAdjoint(every or None)
    end = rollout(MPMSolver(model), state, steps, save_every=steps, adjoint=adjoint)[-1]
    end.x.square().mean().backward()
    return [forecast_memory(model, len(state.x), k, save_every=k, adjoint=a) / 2**20
            for k, a in ((steps, adjoint), (1000, CheckpointAdjoint()))]
gradient(4, 1)
open("/proc/self/clear_refs", "w", encoding="utf-8").write("5")  # the peak starts anew (Linux)
before = status("VmRSS")
forecast = gradient(side, steps)
print(status("VmHWM") - before, *forecast)
"""


def _memory(*arguments: int) -> list[float]:
    command = [sys.executable, "-W", "ignore", "-c", MEMORY, *map(str, arguments)]
    return [float(word) for word in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


def speed(table: Table) -> None:
    """CPU time of a training step and memory of a gradient."""
    import torch

    made = scene("plasticine")
    truth, state = made.experiment().build(device="cpu")
    start = record(truth, state, 225)
    state = MPMState(start.x[200], start.v[200], start.C[200], start.F[200], state.q)
    flowing = Material(EnergyNetwork(convexity="full", modulus=3e5), YieldNetwork(strain_scale=0.03))
    known = TRUE["plasticine"].make({"E": torch.nn.Parameter(torch.tensor(3e5))}, dt=5e-4)
    kinds = {
        "known form": known,
        "energy": Material(EnergyNetwork(modulus=3e5), Identity()),
        "energy and flow": flowing,
        "NCLaw's networks": nclaw(),
    }
    for name, material in kinds.items():
        solver, times = MPMSolver(with_material(truth, material)), []
        for _ in range(12):
            begin = time.thread_time()
            x = rollout(solver, state, 25).states.x
            (x[1:] - start.x[201:226]).square().mean().backward()
            times.append((time.thread_time() - begin) / 25 * 1e3)
        table.add(name, {"training step, 1000 particles, CPU ms (best of 12 x 25)": min(times)})
    measured, forecast, _ = _memory(10, 1000, 0, 20)
    table.add("energy and flow", {"gradient of 1000 x 1000, MB": measured, "forecast": forecast})
    measured, forecast, long = _memory(46, 12, 12, 64)  # 97,336 particles
    table.add("energy and flow", {"gradient of 100k x 12, MB": measured, "forecast": forecast})
    table.add("energy and flow", {"gradient of 100k x 1000, MB, forecast": long})


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(prog="bench nclaw", description=__doc__)
    parser.add_argument("materials", nargs="*", choices=[*TRUE, []])
    parser.add_argument("--only", default="laws,further")
    for name in ("meshes", "weights", "load", "save"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--iterations", type=int, default=200, help="of NCLaw's networks in outside; 0 leaves them out")
    parser.add_argument("--hidden", default="", help="only the law of outside whose name begins so: gent, snow, mohr")
    options = parser.parse_args(list(arguments))
    names, table, learned = options.materials or list(TRUE), Table(), Laws(options)
    parts = options.only.split(",")
    if "laws" in parts:
        laws(table, names, learned, options.meshes)
    if "baselines" in parts:
        baselines(table, names, options)
    if "networks" in parts:
        networks(table, names)
    if "outside" in parts:
        outside(table, iterations=options.iterations, only=options.hidden)
    if "further" in parts:
        further(table, learned, full=options.full)
    if "training" in parts:
        first_epochs(table)
    if "momentum" in parts:
        momentum(table, names, learned)
    if "million" in parts:
        million(table, learned, full=options.full)
    if "speed" in parts:
        speed(table)
    return table.rows


if __name__ == "__main__":
    main(sys.argv[1:])
