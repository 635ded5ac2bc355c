"""The inverse problem of a moving body: parameters of a scene from observed positions over time."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simengine.fit.gradient import GradientTraining
from simengine.fit.least_squares_training import LeastSquaresTraining
from simengine.fit.staged import StagedTraining
from simengine.fit.training import AbstractTraining
from simengine.io.arrays import read_npz
from simengine.mpm import MPMSolver
from simengine.scene.base import SceneError
from simengine.scene.strict import nearest
from simengine.solve import CheckpointAdjoint, rollout
from simengine.worlds.motion.sought import scene_parameters
from simengine.worlds.motion.weak_form import MomentumBalance
from simengine.worlds.motion.world import MPMFitSpec, MPMScene

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

Values = dict[str, torch.Tensor]


class ObservedMotion:
    """Observed positions and the steps of the simulation they belong to.

    Attributes:
        x: Positions [m], shape (frames, n, 3), float64; the first frame is the start.
        steps: Step of each frame, multiples of `every`.
        every: Steps between the frames to save.

    Raises:
        SceneError: The file does not fit the scene.
    """

    def __init__(self, scene: MPMScene, spec: MPMFitSpec, path: Path) -> None:
        data = read_npz(path)
        for name, dim in (("x", 3), ("time", 1)):
            if name not in data or data[name].ndim != dim:
                raise SceneError(f"fit.observations: {path}: expected `x` (frames, n, 3) and `time` (frames,)")
        x, times = data["x"].astype(np.float64), data["time"].astype(np.float64)
        if len(x) != len(times) or len(x) < 2 or x.shape[2] != 3:
            raise SceneError(f"fit.observations: {path}: x {x.shape} does not go with time {times.shape}")
        if not np.isfinite(x).all() or not np.isfinite(times).all():
            raise SceneError(f"fit.observations: {path}: a value is not finite")
        steps = np.round(times / scene.grid.time_step).astype(int)
        if np.abs(steps * scene.grid.time_step - times).max() > 1e-3 * scene.grid.time_step + 1e-6 * times.max():
            raise SceneError(f"fit.observations: {path}: times are no multiples of grid.time_step")
        if steps[0] != 0 or (np.diff(steps) <= 0).any():
            raise SceneError(f"fit.observations: {path}: time must start at 0 and grow")
        if steps[-1] > scene.grid.num_steps:
            raise SceneError(
                f"grid.num_steps: {scene.grid.num_steps} steps end before the observations do, at step {steps[-1]}"
            )
        if spec.objective == "positions" and x.shape[1] != len(scene.particles()[0]):
            raise SceneError(
                f"fit.observations: {path}: {x.shape[1]} particles, the scene has {len(scene.particles()[0])}; "
                'use objective = "distribution" or "center_of_mass"'
            )
        self.x = torch.from_numpy(x)
        self.steps = steps
        self.every = int(np.gcd.reduce(steps))

    def up_to(self, fraction: float) -> int:
        """Number of frames within a fraction of the motion, at least two."""
        return max(2, int(np.searchsorted(self.steps, fraction * self.steps[-1], side="right")))


class MotionMisfit:
    """Simulated minus observed, of the first frames of a motion.

    Args:
        scene: The scene whose numbers are varied.
        observed: The observations.
        num_frames: Frames compared.
        objective: `positions`, `center_of_mass`, `distribution`, or a function of the scene's script.
        fixed: Numbers of the scene that are different in this motion, by dotted key.
    """

    def __init__(
        self,
        scene: MPMScene,
        observed: ObservedMotion,
        num_frames: int,
        objective: str,
        fixed: Mapping[str, float] | None = None,
    ) -> None:
        self.scene = scene
        self._fixed = {name: torch.tensor(value, dtype=torch.float64) for name, value in (fixed or {}).items()}
        self.observed = observed
        self.num_frames = num_frames
        directions = torch.randn(16, 3, generator=torch.Generator().manual_seed(scene.seed), dtype=torch.float64)
        self._directions = directions / directions.norm(dim=1, keepdim=True)
        known: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "positions": lambda x: x,
            "center_of_mass": lambda x: x.mean(1),
            "distribution": self._quantiles,
            **scene.functions,
        }
        if objective not in known:
            raise SceneError(
                f"fit.objective: {objective!r} is none; {nearest(objective, known)}, or make the scene a Python script "
                "and name a function in it"
            )
        self._feature = known[objective]
        self._target = self._feature(observed.x[1:num_frames])

    def _quantiles(self, x: torch.Tensor) -> torch.Tensor:
        """Quantiles of positions along fixed directions (sliced Wasserstein distance), no correspondence needed."""
        levels = torch.linspace(0.005, 0.995, 100, dtype=x.dtype)
        return torch.quantile(x @ self._directions.T, levels, dim=1)

    def simulate(self, values: Values) -> torch.Tensor:
        """Positions at the frames [m], shape (num_frames, n, 3), float64, differentiable in `values`."""
        model, state = self.scene.build(device="cpu", double=True, values={**self._fixed, **values})
        steps = self.observed.steps[: self.num_frames]
        trajectory = rollout(
            MPMSolver(model), state, int(steps[-1]), save_every=self.observed.every, adjoint=CheckpointAdjoint()
        )
        return trajectory.states.x[torch.as_tensor(steps // self.observed.every)]

    def residual(self, values: Values) -> torch.Tensor:
        """Differences [m], flat."""
        return (self._feature(self.simulate(values)[1:]) - self._target).flatten()


def training(scene: MPMScene, *, device: str | None = None) -> AbstractTraining:
    """The training of a scene's `[fit]`.

    Args:
        scene: With a `fit`.
        device: Where to simulate; the CPU, in float64, is used for now whatever is asked for.

    Raises:
        SceneError: The observations or a parameter do not fit the scene.
    """
    assert scene.fit is not None
    spec = scene.fit
    observed = ObservedMotion(scene, spec, spec.observations)
    others = [(ObservedMotion(scene, spec, other.observations), other.values) for other in spec.others]
    variables = scene.variables()
    for name in spec.parameters:
        if name not in variables:
            scene.build(device="cpu", values={name: torch.zeros(())})  # raises, naming the nearest key
    parameters = scene_parameters(spec.parameters, key="fit.parameters")
    misfits = [MotionMisfit(scene, observed, observed.up_to(f), spec.objective) for f in spec.stages]
    stages: list[AbstractTraining] = []
    if spec.start == "momentum_balance":
        balance = MomentumBalance(scene, observed.x, observed.steps)
        stages.append(
            LeastSquaresTraining(parameters, balance.residual, num_iterations=spec.iterations, tolerance=1e-2)
        )
    for fraction, misfit in zip(spec.stages, misfits, strict=True):
        together = [misfit]
        for seen, values in others:
            together.append(MotionMisfit(scene, seen, seen.up_to(fraction), spec.objective, values))

        def residual(values: Values, together: list[MotionMisfit] = together) -> torch.Tensor:
            return torch.cat([one.residual(values) for one in together])

        if spec.method == "least_squares":
            tolerance = 1e-6 if misfit is misfits[-1] else 1e-2
            stages.append(
                LeastSquaresTraining(parameters, residual, num_iterations=spec.iterations, tolerance=tolerance)
            )
        else:

            def objective(residual: Callable[[Values], torch.Tensor] = residual) -> Values:
                return {"misfit": residual(parameters()).square().mean()}

            stages.append(
                GradientTraining(
                    parameters,
                    objective,
                    num_iterations=spec.iterations,
                    optimiser=spec.method,
                    learning_rate=spec.learning_rate,
                )
            )

    def finish(last: AbstractTraining, out: "RunDirectory") -> dict[str, Any]:
        from simengine.worlds.motion.report import write_results

        return write_results(scene, misfits[-1], parameters, last, out)

    return StagedTraining(stages, finish=finish)
