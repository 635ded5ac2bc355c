"""Learning a law from a motion that was recorded: the way of every particle in a file, whatever made it."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.staged import StagedTraining
from simengine.io.model_folder import write_model
from simengine.materials import Material
from simengine.materials.weights import save_material
from simengine.mpm import MPMModel, MPMSolver, MPMState
from simengine.observe.instruments.marks.markers import Markers
from simengine.scene.base import SceneError
from simengine.scene.grammar import Scene
from simengine.solve.rollout import rollout
from simengine.view.figures import curves
from simengine.view.report import Block, Picture, ReportTable, write_report
from simengine.worlds.laws.balance import with_material
from simengine.worlds.laws.stages import learner, stages_of
from simengine.worlds.laws.world import LawLearner
from simengine.worlds.motion.momentum_balance import Motion
from simengine.worlds.motion.world import MPMWorld

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

OFF = 0.2  # of the speeds at the start: by more, the scene says another start than the file


class Recording:
    """Ways of the particles of the one body of a world, and the motion between the frames.

    Frames may be rarer than the steps of the world: between them the ways are cubic splines, as smooth as a motion is
    that its frames resolve.

    Attributes:
        times: Of the frames, from 0 [s], (f,).
        frames: Positions [m], (f, n, 3), float64.
        learned: Frames that are learned from; those behind them are held out.
        motion: Positions and velocities at the steps of the frames that are learned from.

    Raises:
        SceneError: It is not the whole motion of one body from its undeformed shape, thrown as the scene says.
    """

    def __init__(self, scene: Scene) -> None:
        world = scene.world
        assert isinstance(world, MPMWorld)
        if len(scene.observations) != 1:
            raise SceneError(f"observations: a law is learned from one recording, got {len(scene.observations)}")
        ((name, markers),) = scene.observations.items()
        key = f"observations.{name}"
        if not isinstance(markers, Markers) or markers.camera is not None:
            raise SceneError(f"{key}.type: a law is learned from the positions of all particles, which are markers")
        if len(world.bodies) != 1:
            raise SceneError(f"bodies: expected one body, whose law is sought, got {len(world.bodies)}")
        measured = markers.read()
        count = len(measured.labels)
        self.frames: torch.Tensor = markers.place.to_world(measured.values).reshape(-1, count, 3)
        self.times: torch.Tensor = markers.scene_time(measured.at["time"]).reshape(-1, count)[:, 0]
        if bool(self.frames.isnan().any()) or len(measured.names) != 3:
            raise SceneError(
                f"{key}.file: marks are missing in some frames; every particle has to be seen in every one"
            )
        if not float(self.times[0]) == 0.0 or not bool((self.times.diff() > 0).all()) or len(self.times) < 4:
            raise SceneError(f"{key}.file: expected four frames and more, the first at time 0, undeformed")
        self.model, self.start = world.build(device="cpu")
        if count != len(self.start.x):
            raise SceneError(
                f"bodies.0.shape: {len(self.start.x)} particles, and the file follows {count}; each is a particle"
            )
        out = measured.held_out.reshape(len(self.times), -1).any(1)
        self.learned: int = int(out.nonzero()[0]) if bool(out.any()) else len(self.times)
        self.motion: Motion = self._between(world)

    def _between(self, world: MPMWorld) -> Motion:
        from scipy.interpolate import CubicSpline

        dt = world.grid.time_step
        ways = CubicSpline(self.times[: self.learned].numpy(), self.frames[: self.learned].numpy(), axis=0)
        steps = int(float(self.times[self.learned - 1]) / dt + 1e-6)
        x = torch.from_numpy(ways(np.arange(steps + 1) * dt)).to(self.start.x)
        body, arm = world.bodies[0], x[0] - x[0].mean(0)
        spin, speed = (torch.tensor(v).to(x) for v in (body.angular_velocity, body.velocity))
        v0 = speed + torch.linalg.cross(spin.expand_as(arm), arm)
        seen = torch.from_numpy(ways(0.0, 1)).to(x)  # the end of a spline knows its slope roughly
        off, size = float((seen - v0).square().mean().sqrt()), float(seen.square().mean().sqrt())
        if off > OFF * size:
            raise SceneError(
                f"bodies.0.velocity: the ways in the file start at {_three(seen.mean(0))} m/s in the mean, {off:.3g} "
                f"m/s from what velocity {_three(speed)} and angular_velocity {_three(spin)} make of them"
            )
        v = torch.cat((v0[None], x.diff(dim=0) / dt))
        hidden = x.new_zeros(*x.shape, 3)
        return Motion(x, v, hidden, hidden)

    def missed(self, model: MPMModel) -> torch.Tensor:
        """Root mean square distance of a simulated motion from the recorded one at each frame, (f,) [m]."""
        dt = model.grid.dt
        state = MPMState.at_rest(self.motion.x[0], self.motion.v[0])
        with torch.no_grad():
            x = rollout(MPMSolver(model), state, round(float(self.times[-1]) / dt)).states.x
        at = self.times / dt
        below = at.long().clamp_max(len(x) - 2)
        share = (at - below)[:, None, None]
        seen = (1 - share) * x[below].double() + share * x[below + 1].double()
        return (seen - self.frames).square().sum(-1).mean(-1).sqrt()


def _three(v: torch.Tensor) -> str:
    return "[" + ", ".join(f"{float(part):.3g}" for part in v) + "]"


def training(scene: Scene, spec: LawLearner) -> AbstractTraining:
    """The learning of a law from the recording that a scene of kind mpm observes.

    Raises:
        SceneError: The recording is not what a law is learned from, or states are asked for.
    """
    for key, value, default in (
        ("examples.observe", spec.observe, "positions"),
        ("examples.further_throws", spec.further_throws, ()),
        ("training.epochs", spec.epochs, 0),
    ):
        if value != default:
            raise SceneError(f"{key}: a file tells one motion by its positions; leave it out")
    recording = Recording(scene)
    model = with_material(recording.model, learner(spec, seed=scene.world.seed))
    stages = stages_of(model, [recording.motion], spec)

    def finish(last: AbstractTraining, out: "RunDirectory") -> dict[str, Any]:
        return _told(spec, recording, model, out)

    return StagedTraining(stages, finish=finish)


def _told(spec: LawLearner, recording: Recording, model: MPMModel, out: "RunDirectory") -> dict[str, Any]:
    """Write the folder model and a page; the summary says how far the learned law's motion is from the recorded one."""
    missed, learned = recording.missed(model), recording.learned
    size = (recording.frames - recording.frames[0]).square().sum(-1).mean(-1).sqrt()
    summary: dict[str, Any] = {
        "position_rms": float(missed[:learned].square().mean().sqrt()),
        "moved_rms": float(size.square().mean().sqrt()),
    }
    if learned < len(missed):
        summary["held_out_position_rms"] = float(missed[learned:].square().mean().sqrt())
    material = model.materials[0]
    assert isinstance(material, Material)
    read: dict[str, list[Block]] = {}
    if spec.read_out:
        from simengine.worlds.laws.formula.read_out import read_out
        from simengine.worlds.laws.formula.report import tell

        formula = read_out(model, [recording.motion])
        told, blocks = tell(formula, out)
        moved = recording.missed(with_material(model, formula.material()))
        told["position_rms"] = float(moved[:learned].square().mean().sqrt())
        if learned < len(moved):
            told["held_out_position_rms"] = float(moved[learned:].square().mean().sqrt())
        summary["formula"] = told
        rows = [[name, f"{value:.4g} m"] for name, value in told.items() if name.endswith("rms")]
        read = {"As a formula": [*blocks, ReportTable(("the formula's motion", "value"), rows)]}
    write_model(
        out,
        spec.type,
        lambda file: save_material(file, material),
        reads="the deformation of a material point",
        gives="its stress, and where it yields",
        trained_on={"observed": "positions", "frames": learned, "steps": len(recording.motion)},
        tested=summary,
    )
    curve = (recording.times.numpy(), 1e3 * missed.numpy())
    panels = {"distance from the recorded motion [mm]": {"learned law": curve}}
    lengths = {name: value for name, value in summary.items() if name != "formula"}
    table = ReportTable(("figure", "value"), [[name, f"{value:.4g} m"] for name, value in lengths.items()])
    figure = Picture(curves(panels, xlabel="time [s]"), "The motion of the learned law, from the start on")
    write_report(
        out.path / "report.html", "simengine train: a law from a recording", {"Errors": [table, figure], **read}
    )
    return summary
