"""The tests of NCLaw's protocol: errors of laws on motions, and what must hold in any motion."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simengine.materials import Material
from simengine.materials.neural import determinant
from simengine.materials.neural_energy import hencky_strain
from simengine.mpm import MPMModel, MPMSolver, MPMState, Walls
from simengine.ops.matter import mpm
from simengine.solve import rollout
from simengine.worlds.laws import protocol as scenes
from simengine.worlds.laws.balance import with_material
from simengine.worlds.laws.world import VELOCITY_SEEDS, NCLawWorld
from simengine.worlds.motion.materials import MaterialSpec
from simengine.worlds.motion.melting import MeltingWorld
from simengine.worlds.motion.world import MPMWorld

# Position MSE [m^2] of NCLaw as published (Ma et al. 2023, Table 1).
PUBLISHED = {
    "jelly": {"reconstruction": 2.4e-4, "time": 9.8e-4, "velocity": 2.4e-4, "geometry": 4.1e-4},
    "sand": {"reconstruction": 2.6e-5, "time": 4.2e-5, "velocity": 6.5e-5, "geometry": 3.6e-4},
    "plasticine": {"reconstruction": 6.5e-5, "time": 1.4e-4, "velocity": 4.6e-5, "geometry": 2.3e-4},
    "water": {"reconstruction": 2.0e-5, "time": 3.5e-4, "velocity": 1.9e-5, "geometry": 2.4e-4},
}
FRAME = 5  # errors are means over every fifth step
LONG = {"water": 5000}  # steps of the test "time", else 2000
_truths: dict[tuple[MPMWorld, int], torch.Tensor] = {}


def simulate(scene: MPMWorld, *materials: Material, save_every: int = FRAME) -> torch.Tensor:
    """Positions [m] of a scene's motion every few steps, shape (frames, n, 3).

    Args:
        scene: The scene.
        materials: One for all particles, or one in place of each of its own; none for its own.
        save_every: Steps between frames.
    """
    model, state = scene.build(device="cpu")
    if materials:
        model = with_material(model, *materials)
    solver, steps = MPMSolver(model), scene.grid.num_steps
    stretch = scene.output.save_every if isinstance(scene, MeltingWorld) else steps
    frames = [state.x[None]]
    with torch.no_grad():
        for step in range(0, steps, stretch):
            scene.before(model, state, step)
            part = rollout(solver, state, stretch, save_every=min(save_every, stretch), first_step=step)
            frames.append(part.states.x[1:])
            state = part[-1]
    return torch.cat(frames).double()


def truth(scene: MPMWorld) -> torch.Tensor:
    """The motion of a scene with its own materials; the last few are remembered."""
    key = (scene, FRAME)
    if key not in _truths:
        while len(_truths) >= 8:
            _truths.pop(next(iter(_truths)))
        _truths[key] = simulate(scene)
    return _truths[key]


def position_error(scene: MPMWorld, *materials: Material) -> float:
    """Mean squared position error [m^2] of materials against the scene's own, over every fifth step."""
    return float((simulate(scene, *materials) - truth(scene)).square().mean())


def velocity_error(scene: NCLawWorld, material: Material) -> float:
    """The mean error over the published random throws."""
    return float(np.mean([position_error(scene.thrown(seed), material) for seed in VELOCITY_SEEDS]))


def published_tests(
    scene: NCLawWorld, material: Material, *, meshes: Path | None = None, geometry: bool = True
) -> dict[str, float]:
    """Errors [m^2] of the tests reconstruction, time, velocity and geometry.

    Args:
        scene: Of the true material.
        material: What is tested.
        meshes: Folder with the published bodies: a material with one is tested on it under "geometry", and on the torus
            under "geometry, torus". Without them all materials are tested on the torus, under "geometry".
        geometry: Whether to do that test, the dearest.
    """
    steps = LONG.get(scene.material.type, 2000)
    long = scene.experiment(num_steps=steps)  # the observed motion and its continuation
    squares = (simulate(long, material) - truth(long)).square()
    errors = {
        "reconstruction": float(squares[: scene.num_steps // FRAME + 1].mean()),
        "time": float(squares.mean()),
        "velocity": velocity_error(scene, material),
    }
    if geometry:
        errors["geometry"] = position_error(scenes.geometry(scene, meshes=meshes), material)
        if meshes is not None and scene.material.type in scenes.MESHES:
            errors["geometry, torus"] = position_error(scenes.geometry(scene), material)
    return errors


def further_tests(
    true: Mapping[str, MaterialSpec], learned: Mapping[str, Material], *, full: bool = False
) -> Iterator[tuple[str, float, float]]:
    """Errors [m^2] of the tests pool, slope, contact and melting, one after another.

    Args:
        true: jelly, sand, plasticine and water.
        learned: A law of each.
        full: At the published size: hours.

    Yields:
        Name with the size, error and CPU time [s].
    """
    jelly, sand, plasticine, water = (true[name] for name in ("jelly", "sand", "plasticine", "water"))
    tests: dict[str, tuple[MPMWorld, tuple[str, ...]]] = {
        "pool: jelly into water": (scenes.pool(jelly, water, full=full), ("water", "jelly")),
        "slope: water": (scenes.slope(water, full=full), ("water",)),
        "contact: one body of each": (scenes.contact(true, full=full), tuple(true)),
        "melting: plasticine into sand": (scenes.melting(plasticine, sand, full=full), ("plasticine", "sand")),
    }
    for name, (scene, laws) in tests.items():
        start = time.process_time()
        error = position_error(scene, *(learned[law] for law in laws))
        size = f"{len(scene.particles()[0])} particles, {scene.grid.num_steps} steps"
        yield f"{name}, {size}", error, time.process_time() - start


def angular_momentum_drift(material: Material, *, num_steps: int = 1000) -> float:
    """Relative change of the angular momentum of a spinning, deforming cube in free flight [1], float32.

    Args:
        material: Of its 216 particles.
        num_steps: Of 5e-4 s.
    """
    line, dx, mass = torch.linspace(0.35, 0.65, 6), 0.05, 0.125
    x = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    model = MPMModel(
        num_grids=20,
        dt=5e-4,
        materials=[material],
        volume=1.25e-4,
        mass=mass,
        gravity=(0.0, 0.0, 0.0),
        boundaries=[Walls("open")],
        epsilon=0.0,
    )
    gradient = torch.tensor([[0.3, 0.5, 0.0], [-0.5, -0.2, 0.0], [0.0, 0.0, -0.1]])

    def momentum(s: MPMState) -> torch.Tensor:
        x, v, C = (t.double() for t in (s.x, s.v, s.C))
        spin = torch.linalg.cross(x - x.mean(0), v).sum(0)
        # what APIC holds within a particle: D = dx^2 / 4
        inner = torch.stack((C[:, 2, 1] - C[:, 1, 2], C[:, 0, 2] - C[:, 2, 0], C[:, 1, 0] - C[:, 0, 1]), 1).sum(0)
        return mass * (spin + dx**2 / 4 * inner)

    with torch.no_grad():
        solver = MPMSolver(model)
        first = solver.step(MPMState.at_rest(x, (x - x.mean(0)) @ gradient.T))
        last = rollout(solver, first, num_steps, save_every=num_steps)[-1]
    before, after = momentum(first), momentum(last)
    return float((after - before).norm() / before.norm())


def admissibility(scene: MPMWorld, material: Material, *, every: int = 10, device: str = "cpu") -> dict[str, Any]:
    """Run a scene with one material and look at every few steps for what must never happen.

    Args:
        scene: The scene.
        material: Of all particles.
        every: Steps between looks.
        device: Where to simulate.

    Returns:
        particles, steps, CPU seconds; smallest det F; smallest and largest plastic work of a particle in a step,
        tau_new : (H_trial - H_new) [J/m^3], and what rounding of the strains alone can make of it.
    """
    start = time.process_time()
    built, state = scene.build(device=device)
    model = with_material(built, material).to(device)
    solver = MPMSolver(model)
    mass, volume = model.body(state.x)
    volumes, works, stress = list[float](), list[tuple[float, float]](), 0.0
    with torch.no_grad():
        for k in range(scene.grid.num_steps):
            if (k + 1) % every:
                state = solver.step(state, k)
                continue
            x, v, C, trial = mpm.step(
                state.x,
                state.v,
                state.C,
                state.F,
                model.stress(state.F, state.q),
                mass=mass,
                volume=volume,
                table=model.table(state.x, k),
                grid=model.grid,
                number=k,
            )
            F, q = model.return_map(trial, state.q)
            state = MPMState(x, v, C, F, q)
            flowed = hencky_strain(trial) - hencky_strain(F)
            tau = model.stress(F, q)
            work = (tau * flowed).sum((1, 2))
            stress = max(stress, float(tau.flatten(1).norm(dim=1).max()))
            works.append((float(work.min()), float(work.max())))
            volumes.append(float(determinant(F).min()))
    return {
        "particles": len(state.x),
        "steps": scene.grid.num_steps,
        "cpu_s": round(time.process_time() - start, 1),
        "smallest_det_F": min(volumes),
        "smallest_work": min(low for low, _ in works),
        "largest_work": max(high for _, high in works),
        # two strains of size one, each rounded where it is made and where F is kept
        "rounding_of_work": 4 * torch.finfo(torch.float32).eps * stress,
    }
