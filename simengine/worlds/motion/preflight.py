"""What `simengine check` tells of a scene of moving bodies, without running it."""

import dataclasses
import math
from typing import Any

import torch

from simengine.mpm import MPMSolver, SimulationError
from simengine.mpm.memory import forecast_memory
from simengine.mpm.stability import cfl_numbers, swept_numbers
from simengine.solve import CheckpointAdjoint, rollout
from simengine.worlds.motion.paths import RecordedSpec
from simengine.worlds.motion.run import output_bytes
from simengine.worlds.motion.world import CFL_REFUSE, MPMWorld


def preflight(scene: MPMWorld, *, device: str | None) -> dict[str, Any]:
    """Particles, stability numbers, memory, and the gradient against finite differences."""
    model, state = scene.build(device=device)
    sound, speed = cfl_numbers(model, state)
    cells = torch.unique((state.x / scene.grid.dx).long(), dim=0)
    threads = MPMSolver(model).num_threads(len(state.x))
    report: dict[str, Any] = {
        "particles": len(state.x),
        "particles_per_cell": len(state.x) / len(cells),
        "cfl_sound": sound,
        "cfl_particle": speed,
        "forecast_run_bytes": output_bytes(scene, len(state.x))
        + forecast_memory(
            model,
            len(state.x),
            scene.grid.num_steps,
            save_every=scene.output.save_every,
            gradient=False,
            threads=threads,
            state=state,
        ),
        "forecast_gradient_bytes": None  # of steps in torch it is not known
        if scene.grid.turns
        else forecast_memory(
            model,
            len(state.x),
            scene.grid.num_steps,
            save_every=scene.output.save_every,
            adjoint=CheckpointAdjoint(),
            threads=threads,
            state=state,
        ),
        "largest_stable_time_step": scene.grid.time_step / max(sound, speed, 1e-12),
        "ok": (max(sound, speed) if scene.grid.integrator == "explicit" else speed) <= CFL_REFUSE,
    }
    if scene.grid.integrator != "explicit":
        report["largest_stable_time_step"] = None
    elif model.bodies:
        report["collider_sweep"] = max(swept_numbers(model, state))
        report["ok"] = report["ok"] and report["collider_sweep"] <= 1
    if len(scene.bodies) > 1 and not scene.contact:
        report["contact"] = "bodies share one velocity field and stick where they meet; see the key contact"
    report |= path_ends(scene)
    report["gradient_error"] = None
    if not report["ok"]:
        report["gradient_test"] = "not made: the time step is unstable or a collider lets matter through"
        return report
    scene.solver(model)  # says what its steps cannot do
    if scene.grid.integrator == "quasistatic":
        report["gradient_test"] = "not made: equilibria do not hang on the velocities, in which it is tried"
        return report
    try:
        report["gradient_error"] = gradient_error(
            scene, num_steps=min(20 if scene.grid.integrator == "explicit" else 2, scene.grid.num_steps)
        )
    except SimulationError as error:
        report |= {"ok": False, "gradient_test": f"failed: {error}"}
    return report


def path_ends(scene: MPMWorld) -> dict[str, str]:
    """Which records end before the run does: colliders and clamps then stand still, loads and gravity stay."""
    found, duration = {}, scene.grid.num_steps * scene.grid.time_step
    paths: dict[str, tuple[RecordedSpec | None, str]] = {"tilt.path": (scene.tilt.path, "stays as it is")}
    for index, load in enumerate(scene.loads):
        paths[f"loads.{load.name or index}.path"] = load.path, "stays as it is"
    for kind, specs in (("colliders", scene.colliders), ("clamps", scene.clamps)):
        for index, spec in enumerate(specs):
            paths[f"{kind}.{spec.name or index}.path"] = spec.path, "stands still"
    for key, (path, then) in paths.items():
        end = math.inf if path is None else float(path.rows()[0][-1]) - path.start
        if end < duration * (1 - 1e-9):
            found[key] = f"recorded until {end:.4g} s, the run ends at {duration:.4g} s: it then {then}"
    return found


def gradient_error(scene: MPMWorld, *, num_steps: int, directions: int = 3) -> float:
    """Largest relative error of the adjoint against central differences, along random directions, in float64.

    Of a random linear function of the final positions, with respect to the initial velocities; these are disturbed by
    0.1 m/s first, since laws with a yield surface have no derivative at a state of rest that lies on it.
    """
    model, state = scene.build(device="cpu", double=True)
    solver, generator = scene.solver(model), torch.Generator().manual_seed(scene.seed)

    def random() -> torch.Tensor:
        return torch.randn(state.x.shape, generator=generator, dtype=torch.float64)

    probe = random()
    state = dataclasses.replace(state, v=state.v + 0.1 * random())

    def value(v: torch.Tensor) -> torch.Tensor:
        start = dataclasses.replace(state, v=v)
        return (probe * rollout(solver, start, num_steps, save_every=num_steps)[-1].x).sum()

    v = state.v.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(v), v)
    worst, h = 0.0, 1e-6
    with torch.no_grad():
        for _ in range(directions):
            d = random()
            difference = (value(state.v + h * d) - value(state.v - h * d)) / (2 * h)
            exact = (gradient * d).sum()
            worst = max(worst, float((difference - exact).abs() / exact.abs().clamp_min(1e-30)))
    return worst
