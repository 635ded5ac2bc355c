"""Running MPM scenes: stability before and on the way, states, pictures."""

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simengine.interrupt import deferred_interrupt
from simengine.io import write
from simengine.io.arrays import read_npz
from simengine.mpm import MPMModel, MPMState, SimulationError
from simengine.mpm.stability import cfl_numbers, swept_numbers
from simengine.scene.asks import Cloud
from simengine.scene.base import SceneError
from simengine.solve import DirectAdjoint, rollout
from simengine.view.figures import curves
from simengine.view.report import Block, Movie, Picture, ReportTable, write_report
from simengine.worlds.motion.answers import MotionRun
from simengine.worlds.motion.forces import bodies_of
from simengine.worlds.motion.pull.hung import hung_on, run
from simengine.worlds.motion.start.saved import first_step, to_save
from simengine.worlds.motion.world import CFL_REFUSE, CFL_WARN, MPMWorld

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.scene.base import AbstractRun

CRUSHED = 0.05  # of its volume: less is no state of a solid or a liquid
MAX_FRAMES = 50  # of the film in the report of a fit


def check_stability(model: MPMModel, state: MPMState, *, where: str, force: bool, told: float = 0.0) -> float:
    """Warn from 0.8 and refuse above 1 cell a step, of sound or of the fastest particle.

    Args:
        model: The model.
        state: The state that counts.
        where: What the message begins with.
        force: Warn instead of refusing.
        told: The number last warned of; the next warning comes when it has grown by a fifth.

    Returns:
        The number last warned of.

    Raises:
        SceneError: A number is above 1 and `force` is not set; tells the time step that would do.
    """
    sound, speed = cfl_numbers(model, state)
    worst = max(sound, speed)
    if worst <= max(CFL_WARN, 1.2 * told) or not math.isfinite(worst):
        return told
    what = f"sound crosses {sound:.2f} and the fastest particle {speed:.2f} cells a step"
    advice = f"grid.time_step = {model.grid.dt * CFL_WARN / worst:.2g} would do"
    if worst > CFL_REFUSE and not force:
        raise SceneError(f"{where}: unstable: {what}; {advice}, or --force")
    print(f"warning: {where}: {what}; {advice}", file=sys.stderr)
    return worst


def check_sweep(
    scene: MPMWorld, model: MPMModel, state: MPMState, *, where: str, force: bool, told: float = 1.0
) -> float:
    """Warn, or refuse, where matter meets a collider so fast that it may come out behind it.

    Args:
        scene: Whose colliders, clamps and hard walls the bodies of the model are.
        model: The model.
        state: The state that counts.
        where: What the message begins with.
        force: Warn instead of refusing.
        told: The number last warned of; the next warning comes when it has grown by a fifth.

    Returns:
        The number last warned of.

    Raises:
        SceneError: `force` is not set.
    """
    numbers = swept_numbers(model, state)
    worst = max(numbers, default=0.0)
    if worst <= (1.0 if told == 1 else 1.2 * told):
        return told
    what = (
        f"{where}: {bodies_of(scene)[numbers.index(worst)]}: matter comes at it with {worst:.2g} times what it can stop"
    )
    what += " and may come out behind it; use a smaller time step, a stiffer body, or a slower or thicker collider"
    if not force:
        raise SceneError(f"{what}, or --force")
    print(f"warning: {what}", file=sys.stderr)
    return worst


def check_volume(state: MPMState, *, where: str, told: bool) -> bool:
    """Warn once where matter is pressed to less than `CRUSHED` of its volume; returns whether it was told.

    Args:
        state: The state that counts.
        where: What the message begins with.
        told: Whether it was told before.
    """
    least = float(torch.linalg.det(state.F.double()).min()) if len(state.F) else 1.0
    if told or least >= CRUSHED:
        return told
    print(
        f"warning: {where}: matter is pressed to {max(least, 0.0):.2g} of its volume, where no law here holds; "
        "use a stiffer material, tait_water for water, or slower bodies",
        file=sys.stderr,
    )
    return True


def pictures(scene: MPMWorld, positions: Any) -> Any:
    """Frames (k, h, w, 3), linear RGB, of positions (k, n, 3) [m] seen by the scene's camera."""
    from simengine.render import SurfelRenderer

    camera = scene.camera.pinhole()
    _, _, ids = scene.particles()
    colors = torch.tensor([body.color for body in scene.bodies], dtype=torch.float32)[torch.as_tensor(ids)]
    x = torch.as_tensor(np.asarray(positions), dtype=torch.float32)
    with torch.no_grad():
        return SurfelRenderer(camera)(x, colours=colors)


def render(scene: MPMWorld, run: Path, file: Path, *, fps: float) -> Path:
    """Picture the saved states of a run; the suffix of `file` is the format."""
    return write(file, pictures(scene, read_npz(run / "states.npz")["x"]), fps=fps)


def simulate(scene: MPMWorld, out: "RunDirectory", *, device: str | None, force: bool) -> dict[str, Any]:
    """Run a scene into a run directory; see `MPMWorld.run`."""
    from rich.console import Console
    from rich.progress import track

    model, state = scene.build(device=device)
    spec, grid = scene.output, scene.grid
    explicit = grid.integrator == "explicit"
    told, swept, crushed = 0.0, 1.0, False
    if explicit:
        told = check_stability(model, state, where="grid.time_step", force=force)
        swept = check_sweep(scene, model, state, where="start", force=force)
    saved, last, begin = [state], time.perf_counter(), first_step(scene)
    solver, hung = scene.solver(model), hung_on(scene, {})
    with torch.no_grad(), deferred_interrupt() as interrupt:
        steps = range(0, grid.num_steps, spec.save_every)
        for step in track(steps, description="run", console=Console(stderr=True), transient=True):
            if interrupt.pending:
                break
            scene.before(model, state, step)
            try:
                if hung.late:
                    stretch = (0, spec.save_every)
                    last_state = run(solver, hung, state, stretch, DirectAdjoint(), first_step=begin + step).map(
                        lambda t: t[-1]
                    )
                else:
                    last_state = rollout(
                        solver, state, spec.save_every, save_every=spec.save_every, first_step=begin + step
                    )[-1]
                # a state of its own: a view would hold the first state of the stretch too, twice the memory
                state = MPMState(**{name: tensor.clone() for name, tensor in vars(last_state).items()})
            except SimulationError as error:
                out.write("last_good_state.npz", vars(saved[-1]))
                raise RuntimeError(f"{error} (after step {step}; last good state in {out.path})") from error
            where = f"step {step + spec.save_every}"
            crushed = check_volume(state, where=where, told=crushed)
            if explicit:
                told = check_stability(model, state, where=where, force=True, told=told)
                swept = check_sweep(scene, model, state, where=where, force=True, told=swept)
            saved.append(state)
    seconds, done = time.perf_counter() - last, (len(saved) - 1) * spec.save_every
    times = (begin + np.arange(len(saved)) * spec.save_every) * grid.time_step
    arrays = {name: torch.stack([getattr(s, name) for s in saved]).cpu().numpy() for name in ("x", "v", "F")}
    origin = scene.lattice_box()[0]
    arrays["x"] = arrays["x"] + origin.astype(arrays["x"].dtype)
    out.write("states.npz", {"time": times, **arrays})
    out.write("last_state.npz", to_save(scene, state, begin + done))
    for suffix in spec.formats:
        for k, s in enumerate(saved):
            out.write(
                f"states/{k:04d}.{suffix}",
                {"x": s.x + torch.as_tensor(origin).to(s.x), "v": s.v, "J": torch.linalg.det(s.F)},
            )
    if "vtp" in spec.formats:
        out.write("states.pvd", [(float(t), f"states/{k:04d}.vtp") for k, t in enumerate(times)])
    mass = model.mass.cpu().expand(len(state.x))
    summary = {
        "particles": len(state.x),
        "steps": done,
        "seconds": seconds,
        "particle_steps_per_second": len(state.x) * done / seconds,
        "mass": float(mass.sum()),
        "center_of_mass": (origin + ((mass[:, None] * state.x.double().cpu()).sum(0) / mass.sum()).numpy()).tolist(),
        "kinetic_energy": float(0.5 * (mass * state.v.double().cpu().square().sum(1)).sum()),
        "smallest_J": float(torch.linalg.det(state.F).min()),
    }
    if done < grid.num_steps:
        summary["interrupted"] = f"after step {done} of {grid.num_steps}"
    blocks: list[Block] = []
    if spec.video:
        blocks.append(Movie(out.write("video.mp4", pictures(scene, arrays["x"]), fps=spec.fps), "the bodies"))
    kinetic = [0.5 * float((mass * s.v.double().cpu().square().sum(1)).sum()) for s in saved]
    figure = curves({"kinetic energy [J]": {"all bodies": (times, kinetic)}}, xlabel="time [s]")
    table = ReportTable(["", "value"], [[name, value] for name, value in summary.items()])
    sections: dict[str, list[Block]] = {"Motion": [*blocks, Picture(figure, "kinetic energy")], "Summary": [table]}
    write_report(out.path / "report.html", "simengine run", sections)
    return summary


def film(world: MPMWorld, run: "AbstractRun", out: "RunDirectory") -> list[Block]:
    """For the report of a fit: write fitted.mp4 and fitted.npz; the film, or its middle frame without a codec."""
    assert isinstance(run, MotionRun)
    steps = run.steps[torch.as_tensor(np.unique(np.linspace(0, len(run.steps) - 1, MAX_FRAMES).astype(int)))]
    times = steps.double() * world.grid.time_step  # of integers the product would be float32
    x = run.sample(Cloud(times=times))
    out.write("fitted.npz", {"time": times, "x": x})
    frames = pictures(run.world, x)
    file = out.write("fitted.mp4", frames, fps=world.output.fps)
    if file.is_file():
        return [Movie(file, f"the fitted motion, {float(times[-1]):.3g} s")]
    return [Picture(frames[len(frames) // 2], "the fitted motion, half way")]


def output_bytes(scene: MPMWorld, num_particles: int) -> int:
    """Bytes that `simulate` holds beside the rollout: saved states stacked for the file, and the film's frames."""
    frames = scene.grid.num_steps // scene.output.save_every + 1
    arrays = frames * num_particles * 4 * (3 + 3 + 9)
    pixels = frames * scene.camera.width * scene.camera.height * 3
    film = pixels * (4 + 4 + 8 + 8 + 1) if scene.output.video else 0  # linear, clipped, encoded twice over, 8-bit
    return arrays + film
