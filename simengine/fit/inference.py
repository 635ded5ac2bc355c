"""Levenberg-Marquardt on a `Problem`, trial by trial, in stages: what `simengine fit` drives.

Growing parts of the time come first, with the instruments' numbers held - freed from the start, a clock and a place
swallow the misfit of a wrong modulus -, then everything at once. Standard deviations that are estimated, and where
marks sit, change between stages only.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from simengine.fit.certainty.worth import inverse
from simengine.fit.derived import Expression
from simengine.fit.problem import Problem, Stage
from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.kept import (
    restore_doubts,
    restore_estimates,
    restore_runs,
    saved_doubts,
    saved_estimates,
    saved_runs,
)
from simengine.scene.base import Refused, SceneError
from simengine.solve.least_squares.black_box import BlackBoxSystem
from simengine.solve.least_squares.iteration import advance, begin
from simengine.solve.least_squares.solvers import LevenbergMarquardt
from simengine.solve.least_squares.state import IterationState
from simengine.solve.solution import Result

if TYPE_CHECKING:
    from simengine.fit.posterior import Posterior
    from simengine.fit.trainings.elsewhere import Elsewhere
    from simengine.io.run_directory import RunDirectory

MAX_STEP = 2.0  # of a coordinate in one trial
FAR = 4.0  # standard deviations of a prior that a number is hardly off
SETTLED = 0.02  # relative change of an estimated sigma that ends its rounds
_PREFIX = "iteration."
LARGE = 0.5  # of what a column varies by: an estimated noise beyond it is doubted
ROUNDS = 8  # of estimated sigmas, at most
Finish = Callable[[Any, "RunDirectory"], dict[str, Any]]


def refuse_late(problem: Problem) -> None:
    """Say before anything is solved what would stop the fit, or its answer.

    Raises:
        SceneError: Nothing is to be compared, a standard deviation is 0, or a table asks for what cannot be told.
    """
    if not any(bool(problem.rows(name).any()) for name in problem.measured):
        raise SceneError(
            "observations: nothing is left to fit; everything is held out. Hold out less, or use `predict`"
        )
    for name, instrument in problem.instruments.items():
        zeros = problem.rows(name) & (instrument.noise(problem.measured[name]) <= 0)
        if bool(zeros.any()):
            raise SceneError(
                f"observations.{name}.sigma: it is 0 for {int(zeros.sum())} values, which would count without end; "
                'give an absolute part, or "estimate"'
            )
    scene = problem.scene
    for key, text in scene.derived.items():
        if isinstance(text, str):
            Expression(text, f"derived.{key}")
    coarse = scene.inference.coarse
    for key, factor in (("refine", scene.inference.refine), ("coarse", None if coarse is None else 1 / coarse)):
        if factor is None:
            continue
        try:
            for world in (scene.world, *scene.runs.values()):
                world.refined(factor)
        except ValueError as error:
            raise SceneError(f"inference.{key}: {error}") from None


class LeastSquaresFit(AbstractTraining):
    """The search for the best fit of a problem.

    Args:
        problem: What to fit.
        start: Coordinates (p,) at which to begin; None for the scene's own numbers.
        finish: Writes the answer; None for none.

    Raises:
        SceneError: Nothing is sought, or the world has no run at the start.
    """

    found: "Posterior | None" = None  # set by the report, so that it is computed once
    elsewhere: "Elsewhere | None" = None  # where replicas of a bootstrap are refitted; here if there is none

    def __init__(self, problem: Problem, *, start: torch.Tensor | None = None, finish: Finish | None = None) -> None:
        if not any(c.chosen for c in problem.coordinates):
            raise SceneError("unknowns: nothing is sought; add [unknowns], or use `predict` for the misfit")
        refuse_late(problem)
        self.problem = problem
        self.stages: list[Stage] = stages_of(problem)
        self.num_iterations: int = problem.scene.inference.iterations * len(self.stages) + ROUNDS
        self._finish = finish
        self.refine: float | None = problem.scene.inference.refine  # times the resolution, for the bars
        self.z: torch.Tensor = problem.start() if start is None else start.clone()
        self._stage = 0
        self._round = 0
        self._state: IterationState | None = None
        self._done = False
        self._refusal = ""
        self._begin()

    @property
    def stage(self) -> Stage:
        """The stage in progress."""
        return self.stages[self._stage]

    @property
    def converged(self) -> bool:
        """Whether the last stage predicts no drop that matters."""
        return self._done

    def _begin(self) -> None:
        self.problem.see(self.stage)
        self.problem.errors.clear()
        try:
            self.problem.settle(self.z)
            self.problem.estimate_sigmas(self.z)
        except Refused as error:
            raise SceneError(f"the world has no run at the start of the search: {error}") from None
        self._state, self._refusal = None, ""

    @property
    def solver(self) -> LevenbergMarquardt:
        """Of the stage in progress: early stages need not be sharp."""
        inference = self.problem.scene.inference
        sharp = self.stage is self.stages[-1]
        return LevenbergMarquardt(
            max_step=MAX_STEP,
            drop=inference.tolerance * (1.0 if sharp else 100.0),
            patience=1,
            max_iterations=inference.iterations,
        )

    @property
    def _system(self) -> BlackBoxSystem:
        """The problem in the coordinates that move."""
        free = list(self.stage.free)

        def whole(moving: torch.Tensor) -> torch.Tensor:
            z = self.z.clone()
            z[free] = moving
            return z

        return BlackBoxSystem(
            lambda moving: self.problem.residual(whole(moving)),
            lambda moving: self.problem.linearise(whole(moving), free),
            refused=(Refused,),
            linearised_at_the_end=False,
        )

    def step(self) -> dict[str, float]:
        """One trial of the current stage."""
        free, solver, system = list(self.stage.free), self.solver, self._system
        state = begin(system, self.z[free][None], solver) if self._state is None else self._state
        state = advance(system, state, solver)
        if system.refusal is not None:  # the first one asks for most
            self._refusal = self._refusal or str(system.refusal)
        self.z = self.z.clone()
        self.z[free] = state.y[0]
        self._state = state
        figures = {
            "loss": 2 * float(state.cost) / max(self._rows(), 1),
            "stage": float(self._stage),
            "round": float(self._round),
            "solves": float(self.problem.runs.solves),
        }
        if not len(state.active) or int(state.iterations) >= solver.max_iterations:
            self._next()
        return figures

    def _rows(self) -> int:
        rows = sum(int(self.problem.rows(name).sum()) for name in self.problem.instruments)
        return rows + len(self.problem.prior_rows(self.z)[0])

    def _next(self) -> None:
        if self._stage < len(self.stages) - 1:
            self._stage += 1
            self._begin()
            return
        change = self.problem.estimate_sigmas(self.z, told=self._told())
        self._round += 1
        if change > SETTLED and self._round < ROUNDS:
            self._state, self._refusal = None, ""
            return
        self._done = True
        status = None if self._state is None else int(self._state.status[0])
        if status not in (None, Result.SUCCESS):  # a refusal keeps a search from where no drop is predicted
            self.problem.doubts.append(self._unfinished())
        self.problem.doubts += large_noise(self.problem, self.z) + far_from_priors(self.problem, self.z)

    def _told(self) -> float:
        """Degrees of freedom that the data decide at the end of a stage, rather than the priors."""
        if self._state is None:
            return float(len(self.stage.free))
        gram, slopes = self._state.linearisation["gram"][0], self.problem.prior_slopes(self.z)[:, list(self.stage.free)]
        return float((inverse(gram) * (gram - slopes.T @ slopes)).sum())

    def _unfinished(self) -> str:
        """Why the last stage ended where a drop that matters was still predicted."""
        if self._refusal:
            return f"the search ended at the edge of what has a run: {self._refusal}"
        if self._state is not None and int(self._state.status[0]) == Result.STAGNATED:
            return "the search found no smaller misfit where its slopes predict one: a kink, or noise of the solver"
        return (
            f"the search was still falling after the {self.solver.max_iterations} trials of inference.iterations; "
            "allow more, or begin elsewhere"
        )

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Everything the next trial depends on."""
        counters = [self._stage, self._round, int(self._done), self.problem.runs.solves]
        state = {"z": self.z, "counters": torch.tensor(counters)}
        if self._state is not None:
            state |= {_PREFIX + name: value for name, value in self._state.state_dict().items()}
        if self._refusal:
            state["refusal"] = torch.tensor(list(self._refusal.encode()), dtype=torch.uint8)
        return state | saved_estimates(self.problem) | saved_runs(self.problem) | saved_doubts(self.problem)

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self.z = state["z"]
        self._stage, self._round, done, self.problem.runs.solves = (int(v) for v in state["counters"])
        self._done = bool(done)
        self._refusal = bytes(state["refusal"].tolist()).decode() if "refusal" in state else ""
        held = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
        self._state = IterationState.from_state_dict(held) if held else None
        self.problem.see(self.stage)
        restore_runs(self.problem, state)
        restore_doubts(self.problem, state)
        restore_estimates(self.problem, state)

    def estimates(self) -> dict[str, float]:
        """What the scene asks for."""
        return self.problem.estimates(self.z)

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write the answer."""
        return self._finish(self, out) if self._finish is not None else dict(self.estimates())


def large_noise(problem: Problem, z: torch.Tensor) -> list[str]:
    """Doubts where an estimated noise swallows what was to be explained: no chi-square can tell a far minimum then."""
    found = []
    for name, p in problem.predict(z, list(problem.sigmas)).items():
        for k, column in enumerate(p.measured.names):
            used = problem.rows(name)[:, k]
            values = p.measured.values[used, k]
            left, spread = float((p.values[used, k] - values).square().mean().sqrt()), float(values.std())
            if len(values) > 2 and left > LARGE * spread:
                found.append(
                    f"observations.{name}: the noise of {column} was estimated as {left:.3g}, {left / spread:.0%} of "
                    "what it varies by: the model explains little of it; try other first numbers, or inference.starts"
                )
    return found


def far_from_priors(problem: Problem, z: torch.Tensor) -> list[str]:
    """Doubts where a number ends where its prior says that it hardly can be."""
    found = []
    for c, own in zip(problem.coordinates, z, strict=True):
        value = c.value(own)
        far = c.prior_residual(value) if c.chosen else None
        if far is not None and abs(float(far)) > FAR:
            unit = f" {c.unit}" if c.unit not in ("", "1") else ""
            found.append(
                f"{c.name} = {float(value):.4g}{unit} lies {abs(float(far)):.2g} standard deviations from the middle "
                "of its prior: another minimum, a wrong model or prior; try other first numbers, or inference.starts"
            )
    return found


def stages_of(problem: Problem) -> list[Stage]:
    """Growing parts of the time with the instruments' numbers held, then all of it with everything free.

    Where the search begins on a coarser grid all of that is done there first, and the end again on the scene's own.
    """
    stages, coarse = _stages(problem), problem.scene.inference.coarse
    if coarse is None:
        return stages
    return [*(dataclasses.replace(stage, coarse=coarse) for stage in stages), stages[-1]]


def _stages(problem: Problem) -> list[Stage]:
    movable = [k for k in range(len(problem.coordinates)) if k not in problem.sought_sigmas]
    world = [k for k in movable if problem.coordinates[k].of_world]
    timed = any("time" in measured.at for measured in problem.measured.values())
    fractions = problem.scene.inference.stages or ((0.2, 1.0) if timed and world else (1.0,))
    pyramids = [getattr(instrument, "pyramid", 0) for instrument in problem.instruments.values()]
    coarse = max(problem.scene.inference.pyramid, *pyramids)
    if problem.scene.inference.together and not coarse:
        return [Stage(f, tuple(movable), False) for f in fractions]
    first = world or movable
    stages = [Stage(f, tuple(world), True, coarse) for f in fractions[:-1] if world]
    stages += [Stage(1.0, tuple(first), bool(world), level) for level in range(coarse, 0, -1)]
    if len(world) < len(movable) and world and timed and not coarse:
        stages.append(Stage(1.0, tuple(world), True))
    return [*stages, Stage(1.0, tuple(movable), False)]
