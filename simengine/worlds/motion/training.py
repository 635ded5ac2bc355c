"""The inverse problem of a moving body: parameters of a scene from observed positions over time."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.gradient import GradientTraining
from simengine.fit.trainings.least_squares import LeastSquaresTraining
from simengine.fit.trainings.parameters import ParameterSet
from simengine.fit.trainings.staged import StagedTraining
from simengine.io.arrays import read_npz
from simengine.mpm import MPMSolver
from simengine.scene.errors import SceneError, nothing_to_fit
from simengine.scene.strict import nearest
from simengine.solve import CheckpointAdjoint, rollout
from simengine.worlds.motion.sought import scene_parameters
from simengine.worlds.motion.weak_form import MomentumBalance
from simengine.worlds.motion.world import MPMFitSpec, MPMScene

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

Values = dict[str, torch.Tensor]


FEWEST_POINTS = 200  # of a distribution: the means of fewer scatter by more than 2 % of the body's size
CERTAIN = 2.5  # KS statistic of 17 comparisons beyond which samples of one body differ, at a level of 1e-4

LATTICES = 0.15  # by which the statistic of two lattices of one body may differ: the share of their outer layers


def misfits_start(observed: np.ndarray, start: np.ndarray, objective: str) -> str | None:
    """Why an objective cannot compare observed points with a scene of another number of particles, or None.

    At the start both are to be the same body at rest in the same place, whatever its material: what differs there is a
    difference of what the points are, and would be taken for one of the material.

    Args:
        observed: Points of the first frame [m], shape (n, 3).
        start: Particles of the scene [m], shape (m, 3).
        objective: That of the fit; functions of a script are left alone.
    """
    from scipy.stats import ks_2samp

    middle, size = start.mean(0), float(start.std(0).max())
    if objective == "positions":
        return "positions are compared particle by particle"
    if objective == "center_of_mass":
        off = float(np.abs(observed.mean(0) - middle).max())
        return None if off <= 2e-3 * size else f"their centre lies {off:.3g} m off that of the body at the start"
    if objective == "distribution":
        if len(observed) < FEWEST_POINTS:
            return f"a distribution wants at least {FEWEST_POINTS}, all over the body"
        directions = np.random.default_rng(0).standard_normal((3, 16))
        views = [(observed @ d, start @ d) for d in (directions / np.linalg.norm(directions, axis=0)).T]
        scatter = np.sqrt(1 / len(observed) + 1 / len(start))
        worst = max(float(ks_2samp(a, b, method="asymp").statistic) for a, b in views)
        # and the share of those near the middle, where the scan of a surface has none
        deep = [np.abs((x - middle) / start.std(0)).max(1) for x in (observed, start)]
        near = float(np.quantile(deep[1], 0.3)) * (1 + 1e-9)
        worst = max(worst, abs(float((deep[0] <= near).mean() - (deep[1] <= near).mean())))
        if worst > max(CERTAIN * scatter, LATTICES):
            return "at the start they are no random sample of all of the body (as the scan of a surface is none)"
    return None


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
        if x.shape[1] == 0:
            raise SceneError(f"fit.observations: {path}: x {x.shape} holds no point")
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
        start = scene.particles()[0]
        if x.shape[1] != len(start) and (wrong := misfits_start(x[0], start, spec.objective)):
            raise SceneError(
                f"fit.observations: {path}: {x.shape[1]} points, the scene has {len(start)} particles: {wrong}; make "
                "the scene a Python script and name a function there that picks what was observed, as docs/mpm.md shows"
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

    @property
    def series(self) -> tuple[int, int]:
        """Shape of the residual as moments in time and values at each; one moment where an objective tells none."""
        shape = tuple(self._target.shape)
        moments = shape[0] if shape and shape[0] == self.num_frames - 1 else 1
        return moments, self._target.numel() // moments

    def residual(self, values: Values) -> torch.Tensor:
        """Differences [m], flat."""
        return (self._feature(self.simulate(values)[1:]) - self._target).flatten()


Others = list[tuple[ObservedMotion, dict[str, float]]]


def problem(scene: MPMScene) -> tuple[MPMFitSpec, ObservedMotion, Others, ParameterSet]:
    """What a scene's `[fit]` compares and seeks, read and found to fit the scene.

    Returns:
        The table, the motion, the further ones with what differs in them, and the parameters.

    Raises:
        SceneError: The observations or a parameter do not fit the scene.
    """
    assert scene.fit is not None
    spec = scene.fit
    observed = ObservedMotion(scene, spec, spec.observations)
    others = [(ObservedMotion(scene, spec, other.observations), other.values) for other in spec.others]
    variables = scene.variables()
    for name in [*spec.parameters, *(name for _, values in others for name in values)]:
        if name not in variables:
            scene.build(device="cpu", values={name: torch.zeros(())})  # raises, naming the nearest key
    parameters = scene_parameters(spec.parameters, key="fit.parameters", scene=scene)
    MotionMisfit(scene, observed, 2, spec.objective)
    return spec, observed, others, parameters


def training(scene: MPMScene, *, device: str | None = None) -> AbstractTraining:
    """The training of a scene's `[fit]`.

    Args:
        scene: The scene.
        device: None or the CPU: a fit of a motion simulates there, in float64.

    Raises:
        SceneError: There is no `[fit]`, the observations or a parameter do not fit the scene, or another device is
            asked for.
    """
    if scene.fit is None:
        raise nothing_to_fit(scene.kind)
    if torch.device(device or "cpu").type != "cpu":
        raise SceneError(f"device: a fit of a motion runs on the CPU, in float64; got {device!r}")
    spec, observed, others, parameters = problem(scene)
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
                LeastSquaresTraining(
                    parameters,
                    residual,
                    num_iterations=spec.iterations,
                    tolerance=tolerance,
                    series=[one.series for one in together],
                )
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
