"""Levenberg-Marquardt on a `Problem`, trial by trial, in stages: what `simengine fit` drives.

Growing parts of the time come first, with the instruments' numbers held - freed from the start, a clock and a place
swallow the misfit of a wrong modulus -, then everything at once. Standard deviations that are estimated, and where
marks sit, change between stages only.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from simengine.fit.problem import Problem, Stage
from simengine.fit.training import AbstractTraining
from simengine.scene.base import Refused, SceneError

if TYPE_CHECKING:
    from simengine.fit.posterior import Posterior
    from simengine.fit.starts import SeveralStarts
    from simengine.io.run_directory import RunDirectory

MAX_STEP = 2.0  # of a coordinate in one trial
SETTLED = 0.02  # relative change of an estimated sigma that ends its rounds
ROUNDS = 8  # of estimated sigmas, at most
Finish = Callable[[Any, "RunDirectory"], dict[str, Any]]


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
    refine: float | None = None  # times the resolution at which the best fit is fitted again, for its bars

    def __init__(self, problem: Problem, *, start: torch.Tensor | None = None, finish: Finish | None = None) -> None:
        if not any(c.chosen for c in problem.coordinates):
            raise SceneError("unknowns: nothing is sought; add [unknowns], or use `predict` for the misfit")
        self.problem = problem
        self.stages = stages_of(problem)
        self.num_iterations = problem.scene.inference.iterations * len(self.stages) + ROUNDS
        self._finish = finish
        self.z = problem.start() if start is None else start.clone()
        self._stage = 0
        self._round = 0
        self._trials = 0
        self._damping, self._growth = 1e-3, 2.0
        self._r: torch.Tensor | None = None
        self._j: torch.Tensor | None = None
        self._done = False
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
        self.problem.fraction = self.stage.fraction
        try:
            self.problem.settle(self.z)
            self.problem.estimate_sigmas(self.z)
        except Refused as error:
            raise SceneError(f"the world has no run at the start of the search: {error}") from None
        self._r = self._j = None
        self._damping, self._growth, self._trials = 1e-3, 2.0, 0

    def step(self) -> dict[str, float]:
        """One trial of the current stage."""
        free = list(self.stage.free)
        if self._r is None or self._j is None:
            self._r, self._j = self.problem.linearise(self.z, free)
        r, j = self._r, self._j
        chi = float(r.square().sum())
        gram, gradient = j.T @ j, j.T @ r
        diagonal = gram.diagonal().clamp_min(1e-30)
        delta = -torch.linalg.solve(gram + torch.diag(self._damping * diagonal), gradient)
        undamped = -torch.linalg.lstsq(gram + torch.diag(1e-12 * diagonal), gradient[:, None]).solution[:, 0]
        possible = -float(gradient @ undamped)  # drop of chi-square that the linear model promises
        delta = delta * min(1.0, MAX_STEP / max(float(delta.abs().max()), 1e-300))
        predicted = -float(2 * gradient @ delta + delta @ gram @ delta)
        trial = self.z.clone()
        trial[free] += delta
        try:
            fresh = self.problem.residual(trial)
            after = float(fresh.square().sum())
        except Refused:
            after = math.inf
        gain = (chi - after) / predicted if predicted > 0 and math.isfinite(after) else -math.inf
        self._trials += 1
        taken, drop = gain > 1e-4, chi - after
        if taken:
            self.z, chi = trial, after
            self._r = self._j = None
            self._damping = max(self._damping * max(0.1, 1 - (2 * gain - 1) ** 3), 1e-12)
            self._growth = 2.0
        else:
            self._damping, self._growth = self._damping * self._growth, 2 * self._growth
        tolerance = self.problem.scene.inference.tolerance
        tolerance *= 1.0 if self.stage.fraction == 1 and not self.stage.only_world else 100.0
        small = possible < tolerance or (taken and drop < tolerance)
        stuck = self._damping > 1e10
        if (small and (taken or self._damping < 1e-2 or possible < 1e-6)) or stuck or self._exhausted():
            self._next()
        rows = max(len(r), 1)
        return {"loss": chi / rows, "stage": float(self._stage), "solves": float(self.problem.solves)}

    def _exhausted(self) -> bool:
        return self._trials >= self.problem.scene.inference.iterations

    def _next(self) -> None:
        if self._stage < len(self.stages) - 1:
            self._stage += 1
            self._begin()
            return
        change = self.problem.estimate_sigmas(self.z)
        self._round += 1
        if change > SETTLED and self._round < ROUNDS:
            self._r = self._j = None
            self._damping, self._growth, self._trials = 1e-3, 2.0, 0
            return
        self._done = True

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Everything the next trial depends on."""
        counters = [
            self._stage,
            self._round,
            self._trials,
            int(self._done),
            int(self._r is not None),
            self.problem.solves,
        ]
        state = {
            "z": self.z,
            "counters": torch.tensor(counters),
            "damping": torch.tensor([self._damping, self._growth], dtype=torch.float64),
        }
        if self._r is not None and self._j is not None:
            state |= {"r": self._r, "j": self._j}
        state |= {f"sigma.{name}": value for name, value in self.problem.sigmas.items()}
        for name, instrument in self.problem.instruments.items():
            seen = getattr(instrument, "seen", None)
            if seen is not None:
                state[f"places.{name}"] = seen.places
        return state

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        import dataclasses

        self.z = state["z"]
        self._stage, self._round, self._trials, done, kept, self.problem.solves = (int(v) for v in state["counters"])
        self._done = bool(done)
        self._damping, self._growth = (float(v) for v in state["damping"])
        self._r, self._j = (state["r"], state["j"]) if kept else (None, None)
        self.problem.fraction = self.stage.fraction
        self.problem.sigmas = {k.removeprefix("sigma."): v for k, v in state.items() if k.startswith("sigma.")}
        for name, instrument in self.problem.instruments.items():
            if f"places.{name}" in state:
                seen = dataclasses.replace(instrument.seen, places=state[f"places.{name}"])  # type: ignore[attr-defined]
                self.problem.instruments[name] = dataclasses.replace(instrument, seen=seen)  # type: ignore[call-arg]

    def estimates(self) -> dict[str, float]:
        """What the scene asks for."""
        return self.problem.estimates(self.z)

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write the answer."""
        return self._finish(self, out) if self._finish is not None else dict(self.estimates())


def training_of(problem: Problem) -> "LeastSquaresFit | SeveralStarts":
    """The fit of a problem by the method that its scene names, with the one report at its end.

    Raises:
        SceneError: There is no such method.
    """
    from simengine.fit.report import answer

    method = problem.scene.inference.method
    if method != "least_squares":
        raise SceneError(
            f"inference.method: {method!r} is not one that a scene with observations has; use least_squares"
        )
    if problem.scene.inference.starts > 1:
        from simengine.fit.starts import SeveralStarts

        return SeveralStarts(problem, problem.scene.inference.starts, LeastSquaresFit, finish=answer)
    return LeastSquaresFit(problem, finish=answer)


def stages_of(problem: Problem) -> list[Stage]:
    """Growing parts of the time with the instruments' numbers held, then all of it with everything free."""
    movable = [k for k in range(len(problem.coordinates)) if k not in problem._sought_sigmas]
    world = [k for k in movable if problem.coordinates[k].of_world]
    timed = any("time" in measured.at for measured in problem.measured.values())
    fractions = problem.scene.inference.stages or ((0.2, 1.0) if timed and world else (1.0,))
    stages = [Stage(f, tuple(world), True) for f in fractions[:-1] if world]
    if len(world) < len(movable) and world and timed:
        stages.append(Stage(1.0, tuple(world), True))
    return [*stages, Stage(1.0, tuple(movable), False)]
