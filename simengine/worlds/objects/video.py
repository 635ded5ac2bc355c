"""Physics from pixels: numbers of a moving body from videos of it, with gradients through pictures and motion."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.gradient import GradientTraining
from simengine.fit.trainings.least_squares import LeastSquaresTraining
from simengine.fit.trainings.parameters import ParameterSet
from simengine.fit.trainings.staged import StagedTraining
from simengine.mpm import MPMModel, MPMSolver, MPMState
from simengine.render import Look, SurfelRenderer
from simengine.scene.base import SceneError
from simengine.solve import CheckpointAdjoint, rollout
from simengine.view.report import Block, Picture, Table, write_report
from simengine.view.sheets import comparison, contact_sheet, pyramid, summary_rows
from simengine.worlds.motion.shapes import Box
from simengine.worlds.motion.sought import scene_parameters
from simengine.worlds.objects.camera_pose import camera_of
from simengine.worlds.objects.video_spec import VideoSpec

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

Values = dict[str, torch.Tensor]


# Where a motion starts: turned [rad] about the middle of its particles by a rotation vector, and shifted [m].
POSE = tuple(f"pose.{name}.{axis}" for name in ("turn", "shift") for axis in range(3))


def moved(state: MPMState, *, turn: torch.Tensor, shift: torch.Tensor) -> MPMState:
    """A start whose bodies, and their velocities, are turned together about their middle, then shifted.

    Args:
        state: Undeformed bodies.
        turn: Rotation vector [rad], shape (3,).
        shift: [m], shape (3,).
    """
    zero = torch.zeros_like(turn[0])
    x, y, z = turn.unbind()
    rotation = torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3))
    middle = state.x.mean(0)
    return dataclasses.replace(state, x=(state.x - middle) @ rotation.T + middle + shift, v=state.v @ rotation.T)


class VideoMisfit:
    """Videos of a true motion, and how those of another differ from them.

    Everything is computed in float64, so that differences check the adjoint.

    Attributes:
        observed: Linear RGB, shape (cameras, frames, h, w, 3).
        truth: The values that the search should find.
    """

    def __init__(self, spec: VideoSpec, *, seed: int) -> None:
        known = {**spec.motion.variables(), **dict.fromkeys(POSE, 0.0)}
        unknown = set(spec.parameters) - set(known)
        if unknown:
            raise SceneError(
                f"task.parameters: {sorted(unknown)[0]!r} is no number of the motion; known: {', '.join(sorted(known))}"
            )
        self.spec = spec
        self.truth = {name: known[name] for name in spec.parameters}
        cameras = [camera_of(camera, dtype=torch.float64) for camera in spec.cameras]
        radius = 0.9 * min(spec.motion.grid.dx / body.particles_per_cell for body in spec.motion.bodies)
        x, _, ids = (torch.as_tensor(array) for array in spec.motion.particles())
        shape = spec.motion.bodies[0].shape
        if isinstance(shape, Box) and shape.counts is not None:  # a lattice of its own
            radius = 0.9 * max(a / b for a, b in zip(shape.size, shape.counts, strict=True))
        look = Look(background=(1.0, 1.0, 1.0), shading=False)
        self._renderers = [SurfelRenderer(camera, radius=radius, look=look) for camera in cameras]
        self._colours = _colours(spec, x, ids)
        with torch.no_grad():
            exact = self.pictures({})
        for number, video in enumerate(exact):
            if bool((video == 1.0).all()):
                raise SceneError(f"task.cameras.{number}: it sees nothing but background; turn it to the motion")
        noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(seed), dtype=exact.dtype)
        self.observed = exact + spec.noise * noise

    def simulate(self, values: Values, *, frames: int | None = None) -> torch.Tensor:
        """Positions [m] at the first so many frames of the video, shape (frames, n, 3)."""
        frames = frames or self.spec.frames
        every = self.spec.motion.grid.num_steps // self.spec.frames
        model, state = self.build(values)
        trajectory = rollout(MPMSolver(model), state, frames * every, save_every=every, adjoint=CheckpointAdjoint())
        positions: torch.Tensor = trajectory.states.x[1:]
        return positions

    def build(self, values: Values) -> tuple[MPMModel, MPMState]:
        """Model and start of the motion with some numbers replaced, float64, differentiable in them."""
        model, state = self.spec.motion.build(
            device="cpu", double=True, values={name: v for name, v in values.items() if name not in POSE}
        )
        if any(name in values for name in POSE):
            nothing = torch.zeros((), dtype=torch.float64)
            pose = torch.stack([values.get(name, nothing) for name in POSE])
            state = moved(state, turn=pose[:3], shift=pose[3:])
        return model, state

    def pictures(self, values: Values, *, frames: int | None = None) -> torch.Tensor:
        """Videos of the motion with some numbers replaced, shape (cameras, frames, h, w, 3)."""
        positions = self.simulate(values, frames=frames)
        return torch.stack([renderer(positions, colours=self._colours) for renderer in self._renderers])

    def residual(self, values: Values, *, frames: int | None = None) -> torch.Tensor:
        """Differences of the pictures and of their halvings, each resolution with the same weight, flat."""
        frames = frames or self.spec.frames
        ours = pyramid(self.pictures(values, frames=frames), self.spec.blur)
        theirs = pyramid(self.observed[:, :frames], self.spec.blur)
        return torch.cat([((a - b) / math.sqrt(a.numel())).flatten() for a, b in zip(ours, theirs, strict=True)])

    def contact_sheet(self, images: torch.Tensor) -> NDArray[Any]:
        """The pictures of each camera in a row."""
        return contact_sheet(images, columns=images.shape[-4])

    def parameters(self) -> ParameterSet:
        """What is sought, where the search starts.

        Raises:
            SceneError: A start lies beyond the bounds of its parameter.
        """
        return scene_parameters(self.spec.parameters, key="task.parameters", scene=self.spec.motion)

    def training(self) -> AbstractTraining:
        """The search for the parameters, over growing parts of the video."""
        spec, parameters = self.spec, self.parameters()
        stages = [self._stage(parameters, max(1, round(part * spec.frames))) for part in spec.stages]
        return StagedTraining(stages, finish=lambda last, out: _finish(self, parameters, last, out))

    def _stage(self, parameters: ParameterSet, frames: int) -> AbstractTraining:
        spec = self.spec
        if spec.method == "least_squares":
            return LeastSquaresTraining(
                parameters,
                lambda values: self.residual(values, frames=frames),
                num_iterations=spec.iterations,
                tolerance=1e-5,
            )
        return GradientTraining(
            parameters,
            lambda: {"pixels": self.residual(parameters(), frames=frames).square().sum()},
            num_iterations=spec.iterations,
            optimiser=spec.method,
            learning_rate=spec.learning_rate,
        )


def gradient_check(misfit: VideoMisfit, parameters: ParameterSet, *, step: float = 1e-3) -> dict[str, float]:
    """The adjoint of the loss on pixels, through all steps of the motion, against central differences.

    Taken a little off the current point (5 % in each coordinate), where the gradient is not zero. Steps are long enough
    to pass over the jumps of the loss, of some 1e-8, where two particles change places in the order of compositing.
    """
    z = parameters.z.detach() + 0.05

    def loss(point: torch.Tensor) -> torch.Tensor:
        return misfit.residual(parameters(point)).square().sum()

    leaf = z.clone().requires_grad_()
    (adjoint,) = torch.autograd.grad(loss(leaf), leaf)
    with torch.no_grad():
        units = torch.eye(len(z), dtype=z.dtype)
        difference = torch.stack([(loss(z + step * u) - loss(z - step * u)) / (2 * step) for u in units])
    return {
        "relative_error": float((adjoint - difference).norm() / difference.norm()),
        "steps": misfit.spec.motion.grid.num_steps,
    }


def check_gradient(misfit: VideoMisfit) -> dict[str, float]:
    """`gradient_check` where the search starts."""
    return gradient_check(misfit, misfit.parameters())


def _finish(
    misfit: VideoMisfit, parameters: ParameterSet, last: AbstractTraining, out: "RunDirectory"
) -> dict[str, Any]:
    """Write pictures, videos and a report; return estimates, their errors and the check of the gradient."""
    found, truth = parameters.values(), misfit.truth
    start = {name: torch.tensor(entry.initial, dtype=torch.float64) for name, entry in parameters.entries.items()}
    with torch.no_grad():
        initial, fitted = misfit.pictures(start), misfit.pictures(parameters())
    summary: dict[str, Any] = {
        "truth": {name: truth[name] for name in found},
        "relative_error": {n: abs(value - truth[n]) / abs(truth[n]) for n, value in found.items() if truth[n] != 0},
        "absolute_error": {name: abs(value - truth[name]) for name, value in found.items()},
        "pixel_rmse": float((fitted - misfit.observed).square().mean().sqrt()),
        "initial_pixel_rmse": float((initial - misfit.observed).square().mean().sqrt()),
        "gradient_check": gradient_check(misfit, parameters),
    }
    if isinstance(last, LeastSquaresTraining):
        summary.update(last.uncertainty())
    rows = {"observed": misfit.observed[0], "initial guess": initial[0], "fitted": fitted[0]}
    sheet = comparison(rows)
    out.write("pictures.png", sheet)
    out.write("fit.json", {"parameters": found, **summary})
    out.write("comparison.mp4", torch.cat(list(rows.values()), dim=2), fps=10)
    table = Table(("figure", "value"), summary_rows({"found": found, **summary}))
    blocks: dict[str, list[Block]] = {
        "Figures": [table],
        "Pictures of the first camera": [Picture(sheet, "observed, initial, fitted")],
    }
    write_report(out.path / "report.html", "Physics from pixels", blocks)
    return summary


def _colours(spec: VideoSpec, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Linear RGB of the particles, (n, 3): the body's colour, brighter towards one corner, so that turns are seen.

    All channels by the same factor, 0.3 at the lowest corner of a body's bounds and 1.5 at the highest, the mean of
    its places along x, y and z.
    """
    colours = torch.tensor([body.color for body in spec.motion.bodies], dtype=torch.float64)[ids]
    for index in range(len(spec.motion.bodies)):
        own = ids == index
        place = (x[own] - x[own].amin(0)) / (x[own].amax(0) - x[own].amin(0)).clamp_min(1e-9)
        colours[own] *= 0.3 + 1.2 * place.mean(dim=1, keepdim=True)
    return colours.clamp(0, 1)
