"""A field of many numbers as the unknown: Gauss-Newton within bounds on its cells, and beside them the few numbers.

The weight of a total variation that is to be estimated is the one that best predicts values kept from the search. The
numbers beside the field (an axis, a gain) move between rounds of it, by the profile of the objective.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from simengine.fit.fields.beside import ProfiledObjective, profile
from simengine.fit.fields.newton import newton_step
from simengine.fit.fields.objective import FieldObjective, Fields
from simengine.fit.fields.points import PointSearch, step_of_points
from simengine.fit.problem import Problem
from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.kept import restore_doubts, saved_doubts
from simengine.scene.base import AbstractWorld, SceneError

if TYPE_CHECKING:
    from simengine.fit.fields.bars import FieldBars
    from simengine.fit.posterior import Posterior
    from simengine.io.run_directory import RunDirectory

TRIED = 1e-2  # relative drop of the objective in a step that ends a trial weight
SETTLED = 1e-5  # and a round
PATH_STEPS = 6  # steps on a trial weight, at most
PATH = 10  # trial weights, at most
FIRST = 0.03  # of the weight beyond which nothing is left but an even field
FINER = math.sqrt(10.0)  # from one trial weight to the next
WORSE = 0.999  # of the best score: a trial weight has to better it by so much
BESIDE = 3  # rounds in which points begin again from what those beside them found
ROUNDS = 12  # of the numbers beside the field and of an estimated sigma
SAME = 0.05  # of a sigma: gradients of two rounds can be compared
LONG = 0.5  # standard deviations: a step along which they tell the curvature
MOVED = 0.02  # of a sigma: less ends the rounds
NEAR = 0.2  # standard deviations: numbers that move by less have arrived
FAR = 3.0  # and by more since the weights were estimated: they are estimated anew, once
HALVINGS = 4  # of a step of the numbers that made the fit worse
RISE = 1e-4  # relative, of the objective: what a search that has not quite settled may be off by
STEP = 0.1  # of a coordinate: the first differences in the numbers
Finish = Callable[["FieldFit", "RunDirectory"], dict[str, Any]]


class FieldFit(AbstractTraining):
    """The search for fields and the numbers beside them.

    Args:
        problem: With at least one unknown that is a field of its world.
        finish: Writes the answer; None for none.

    Attributes:
        x: Cells in units of their scales, (n,).
        z: Coordinates of the numbers beside the fields, (p,).
        profile: The objective about the answer as a quadratic of the numbers; None before the first round ended.
        answer: How sure the numbers and the cells are; set by the report, so that it is computed once.

    Raises:
        SceneError: A prior is none of a field, or nothing is to be compared.
    """

    def __init__(self, problem: Problem, *, finish: Finish | None = None) -> None:
        self.problem = problem
        if any(hasattr(instrument, "settled") for instrument in problem.instruments.values()):
            problem.settle(problem.start())
        self.objective: FieldObjective = FieldObjective(problem)
        self._finish = finish
        self.x: torch.Tensor = self.objective.start
        self.z: torch.Tensor = problem.start()
        self._compare_early()
        self.profile: ProfiledObjective | None = None
        self.answer: tuple[Posterior, dict[str, FieldBars]] | None = None
        self.scores: list[tuple[float, float]] = []
        self._path = bool(self.objective.estimated)
        self._begin_path(FIRST)
        self._before = math.inf  # the objective where the numbers came from, `_from`, by the step `_by`
        self._from, self._by = (self.x, self.z), (torch.zeros_like(self.x), torch.zeros_like(self.z))
        self._round = self._halvings = 0
        self._done = self._same = self._judged_again = False
        self.num_iterations: int = 2 * PATH * PATH_STEPS + ROUNDS * self._most_steps() + 1

    def _compare_early(self) -> None:
        """Put the start beside `[reference]`: a file that does not fit is told now, and not by the report."""
        for key, field in self.fields().items():
            table = self.problem.scene.reference.get(key)
            if isinstance(table, Mapping):
                try:
                    self.world.truth(key, table)
                    self.world.beside(key, field, table)
                except (OSError, ValueError) as error:
                    told = str(error)
                    raise SceneError(told if told.startswith("reference") else f"reference.{key}: {told}") from None

    def _begin_path(self, factor: float) -> None:
        self.objective.judging = self._path
        self.objective.factor = factor if self._path else 1.0
        self._best = (math.inf, self.objective.factor, self.x)  # score, factor of the weights, cells
        self._steps = self._weights_tried = 0

    @property
    def world(self) -> AbstractWorld:
        """The world whose fields are sought."""
        return self.objective.world

    def unit(self, key: str) -> str:
        """Of a field, SI."""
        return self.world.scalars().get(key.rpartition(".")[2], "")

    def fields(self) -> Fields:
        """The fields by key, in the shapes of their cells, SI."""
        return self.objective.fields(self.x)

    def weights(self) -> dict[str, float]:
        """Total variation of each field that the prior finds typical, where it was estimated."""
        own = self.objective
        return {key: 1.0 / (own.factor * own.energies[key].total_variation) for key in own.estimated}

    def estimates(self) -> dict[str, float]:
        """The numbers beside the fields."""
        return self.problem.estimates(self.z)

    @property
    def converged(self) -> bool:
        """Whether the last round moved nothing."""
        return self._done

    # the search

    def step(self) -> dict[str, float]:
        """A step of the cells; at the end of a round one of the numbers."""
        step = step_of_points if self.objective.alone else newton_step
        self.x, value, drop = step(self.objective, self.x, self.z)
        self._steps += 1
        with torch.no_grad():
            r = self.objective.residuals(self.x, self.z)
        figures = {"loss": float(r.square().mean()), "drop": drop, "stage": float(not self._path) + self._round}
        if self._path:
            if drop < TRIED or self._steps >= PATH_STEPS:
                self._judge()
        elif drop < SETTLED or self._steps >= self._most_steps():
            self._settle(value)
        return figures

    def _most_steps(self) -> int:
        return self.problem.scene.inference.iterations

    def _judge(self) -> None:
        """The score of a trial weight, and the next one; the best one where the last was no better."""
        with torch.no_grad():
            r = self.objective.residuals(self.x, self.z, judges=True)
        score = float(r.square().mean()) if len(r) else 0.0
        self.scores.append((self.objective.factor, score))
        self._steps, self._weights_tried = 0, self._weights_tried + 1
        better = score < WORSE * self._best[0]
        if better:
            self._best = (score, self.objective.factor, self.x)
        if better and self._weights_tried < PATH:
            self.objective.factor /= FINER
            return
        _, self.objective.factor, self.x = self._best
        self._path = self.objective.judging = False

    def _settle(self, total: float) -> None:
        """The end of a round at settled cells: back where the numbers made it worse, else on by the profile's step."""
        self._steps, self._round = 0, self._round + 1
        if self.objective.alone and self._round <= BESIDE:
            search = PointSearch(self.objective, self.x, self.z)
            self.x = search.from_beside(self.x)
            total = float(search.sums(self.x).sum())
        if len(self.z):
            total += float(self.problem.prior_rows(self.z)[0].square().sum()) / 2
        if total > self._before + RISE * abs(self._before) and self._halvings < HALVINGS:
            self._halvings += 1
            self._by = tuple(by / 2 for by in self._by)  # type: ignore[assignment]
            self._move()
            return
        change = self.objective.estimate_sigmas(self.x, self.z)
        self._same = change < SAME
        if len(self.z):
            self._renew_profile()
        arrived = change < MOVED and (self.profile is None or self._in_bars(self._by[1]) < NEAR)
        self._done = arrived or self._round >= ROUNDS
        if self.profile is not None and not (self._done and not arrived):
            self._move()  # a last step that nobody judges is not taken
        if self._done and not arrived:
            self.problem.doubts.append(f"the numbers beside the field still moved after {ROUNDS} rounds")
        far = self.profile is not None and self._in_bars(self.z) > FAR
        if arrived and far and self.objective.estimated and not self._judged_again:
            # the weight was judged with the numbers at their start
            self._judged_again, self._done, self._path, self._before = True, False, True, math.inf
            self._begin_path(FINER * self.objective.factor)

    def _renew_profile(self) -> None:
        first = self.profile is None
        widths = torch.full_like(self.z, STEP) if first else self._bars().clamp(1e-4, STEP)
        fresh = profile(self.objective, self.x, self.z, widths)
        if self.profile is not None:
            dz, bend = self.z - self._from[1], self.profile.bend
            told = self.objective.edges and self._same and self._in_bars(dz) > LONG
            fresh = dataclasses.replace(fresh, bend=self.profile.bent(fresh.gradient, dz) if told else bend)
        self.profile = fresh
        value = self.objective.value_and_gradient(self.x, self.z)[0]
        self._before = value + float(self.problem.prior_rows(self.z)[0].square().sum()) / 2
        self._from, self._by, self._halvings = (self.x, self.z), fresh.step(), 0

    def _move(self) -> None:
        low, high = self.objective.limits().T
        self.x = (self._from[0] + self._by[0]).clamp(low, high)
        self.z = self._from[1] + self._by[1]

    def _bars(self) -> torch.Tensor:
        assert self.profile is not None
        return self.profile.covariance().diagonal().clamp_min(1e-300).sqrt()

    def _in_bars(self, dz: torch.Tensor) -> float:
        return float((dz / self._bars()).abs().max())

    # the state

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Everything the next step depends on."""
        counters = [
            self._path,
            self._done,
            self._same,
            self._judged_again,
            self._steps,
            self._weights_tried,
            self._round,
            self._halvings,
            self.problem.runs.solves,
        ]
        figures = [self.objective.factor, *self._best[:2], self._before]
        state = {
            "x": self.x,
            "z": self.z,
            "best_x": self._best[2],
            "from_x": self._from[0],
            "from_z": self._from[1],
            "by_x": self._by[0],
            "by_z": self._by[1],
            "figures": torch.tensor(figures, dtype=torch.float64),
            "counters": torch.tensor([int(c) for c in counters]),
            "scores": torch.tensor(self.scores, dtype=torch.float64).reshape(-1, 2),
            **{f"sigma.{name}": value for name, value in self.problem.sigmas.items()},
            **saved_doubts(self.problem),
        }
        if self.profile is not None:
            own = self.profile
            plain = (f.name for f in dataclasses.fields(own) if f.name not in ("information", "bend"))
            state |= {f"profile.{name}": getattr(own, name) for name in plain}
            state["bend"] = torch.tensor(own.bend, dtype=torch.float64)
            state |= {f"information.{name}": value for name, value in own.information.items()}
        return state

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self.x = state["x"]
        self.z = state["z"]
        self._from, self._by = (state["from_x"], state["from_z"]), (state["by_x"], state["by_z"])
        self.objective.factor, score, factor, self._before = state["figures"].tolist()
        self._best = (score, factor, state["best_x"])
        path, done, same, again, *counts = (int(c) for c in state["counters"])
        self._path, self._done, self._same, self._judged_again = bool(path), bool(done), bool(same), bool(again)
        self._steps, self._weights_tried, self._round, self._halvings, self.problem.runs.solves = counts
        self.objective.judging = self._path
        self.scores = [(float(a), float(b)) for a, b in state["scores"]]
        self.problem.sigmas = {k.removeprefix("sigma."): v for k, v in state.items() if k.startswith("sigma.")}
        restore_doubts(self.problem, state)
        self.objective.renew()
        if "bend" in state:
            own = {k.removeprefix("profile."): v for k, v in state.items() if k.startswith("profile.")}
            told = {k.removeprefix("information."): v for k, v in state.items() if k.startswith("information.")}
            self.profile = ProfiledObjective(**own, information=told, bend=float(state["bend"]))

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write the answer."""
        self.problem.runs.place(self.fields())
        return self._finish(self, out) if self._finish is not None else dict(self.estimates())
