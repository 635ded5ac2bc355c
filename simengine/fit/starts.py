"""A fit from several starts; what it finds is one answer or several.

The first start is the scene's own, the others are drawn from the priors, or are the best basins of a global search over
them. Two ends are one minimum where they differ by less than a standard deviation of the better one in every direction
that the data tell.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from simengine.fit.certainty.process import ModelError
from simengine.fit.problem import Problem, Stage
from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.search import Trials
from simengine.scene.base import SceneError

if TYPE_CHECKING:
    from simengine.fit.inference import Finish, LeastSquaresFit
    from simengine.fit.posterior import Posterior
    from simengine.fit.trainings.elsewhere import Elsewhere
    from simengine.io.run_directory import RunDirectory

DRAWS = 20  # for one start, before a world without runs there is an error
SAME = 9.0  # chi-square between two ends, by the curvature at the better one, below which they are one minimum
RIVAL = 12.0  # above the best in -2 log posterior (e^-6 of its height) beyond which a minimum is no answer


@dataclasses.dataclass(frozen=True)
class Minimum:
    """An end of the search.

    Attributes:
        z: Coordinates, (p,).
        misfit: -2 log posterior at its best, up to a constant that all share.
        values: What is sought there, by name, SI.
        starts: How many starts ended here.
        sigmas: Estimated standard deviations there, by observation.
        errors: What models get wrong there, by observation, where that is sought.
        answer: Whether it explains the data about as well as the best one.
        doubts: What the search that ended here said of its end.
    """

    z: torch.Tensor
    misfit: float
    values: Mapping[str, float]
    starts: int = 1
    sigmas: Mapping[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    errors: Mapping[str, ModelError] = dataclasses.field(default_factory=dict)
    answer: bool = True
    doubts: tuple[str, ...] = ()


def misfit(problem: Problem, z: torch.Tensor) -> float:
    """Chi-square with the priors, plus 2 log sigma of each row, so that estimated sigmas compare."""
    total = float(problem.residual(z).square().sum())
    for name, sigma in problem.sigmas.items():
        rows = problem.rows(name)
        total += 2 * float(sigma.log().expand_as(rows)[rows].sum())
    return total


def drawn(problem: Problem, generator: torch.Generator) -> torch.Tensor:
    """Coordinates (p,) with each number that the scene asks for drawn from its prior."""
    z = problem.start()
    for k, c in enumerate(problem.coordinates):
        if c.chosen and k not in problem.sought_sigmas:
            z[k] = c.coordinate(c.drawn(generator))
    return z


class SeveralStarts(AbstractTraining):
    """One fit after another, from starts drawn from the priors, or from the best trials of a global search.

    Args:
        problem: What to fit.
        starts: Their number, the scene's own included.
        begin: Makes the fit of a problem from a start.
        finish: Writes the answer; None for none.

    Raises:
        SceneError: The world has no run at the scene's own start, or a search lacks its package.
    """

    found: "Posterior | None" = None
    elsewhere: "Elsewhere | None" = None  # where starts are taken side by side; here one after another if there is none

    def __init__(
        self, problem: Problem, starts: int, begin: "Callable[..., LeastSquaresFit]", *, finish: "Finish | None" = None
    ) -> None:
        self.problem: Problem = problem
        self.refine: float | None = problem.scene.inference.refine
        self._begin = begin
        self._finish = finish
        self._count = starts
        self._ends: list[Minimum] = []
        self._attempt = 0
        self._trials: Trials | None = None
        if trials := problem.scene.inference.search:
            moving = {k: c for k, c in enumerate(problem.coordinates) if c.chosen and k not in problem.sought_sigmas}
            self._trials = Trials(moving, trials, problem.start(), self._height, seed=self._seed)
        self._fit = begin(problem)
        self._said = len(problem.doubts)  # of the data; those of a search go with its end
        self.num_iterations: int = starts * self._fit.num_iterations + trials
        self._best: list[Minimum] = []

    @property
    def z(self) -> torch.Tensor:
        """The best end; before the last, where the search is."""
        return self._best[0].z if self._best else self._fit.z

    @property
    def minima(self) -> tuple[Minimum, ...]:
        """Different ends, best first; empty before the last start has ended."""
        return tuple(self._best)

    @property
    def converged(self) -> bool:
        """Whether every start has ended."""
        if self._trials is not None and not self._trials.done:
            return False
        return len(self._ends) >= self._starts

    @property
    def _starts(self) -> int:
        """How many there are: of a search those that it found, with the scene's own."""
        return self._count if self._trials is None else 1 + len(self._trials.best(self._count - 1))

    def step(self) -> dict[str, float]:
        """One trial of the start in progress, or of the global search that follows the scene's own."""
        if self._trials is not None and self._ends and not self._trials.done:
            self._trials.step()
            if self._trials.done:
                self._go_on()
            return {"loss": min(self._ends[0].misfit, self._trials.least), "trial": float(len(self._trials))}
        if self.elsewhere is not None and (self._trials is None or self._trials.done):
            left = range(len(self._ends), self._starts)
            self._ends += self.elsewhere.ends(
                self, {k: None if self._trials is None else self._begins(k, 0) for k in left}
            )
            self._close()
            return {"loss": self._best[0].misfit, "start": float(len(self._ends))}
        figures = {**self._fit.step(), "start": float(len(self._ends))}
        if self._fit.converged:
            self._ends.append(self._ended())
            if self._trials is None or self._trials.done:
                self._go_on()
        return figures

    def _go_on(self) -> None:
        if self.converged:
            self._close()
        else:
            self._attempt = 0
            self._fit = self._begun(len(self._ends))

    def _height(self, z: torch.Tensor) -> float:
        """-2 log posterior of a trial at z (p,), of all the time and the sharp pictures."""
        problem = self.problem
        problem.see(Stage(1.0, (), False))
        problem.sigmas = {}
        problem.errors.clear()
        problem.settle(z)
        problem.estimate_sigmas(z)
        return misfit(problem, z)

    def _ended(self) -> Minimum:
        sigmas = {name: value.clone() for name, value in self.problem.sigmas.items()}
        doubts = tuple(self.problem.doubts[self._said :])
        del self.problem.doubts[self._said :]
        height = misfit(self.problem, self._fit.z)
        errors, found = dict(self.problem.errors), self._fit.estimates()
        return Minimum(self._fit.z.clone(), height, found, sigmas=sigmas, errors=errors, doubts=doubts)

    @property
    def _seed(self) -> int:
        return 1_000_003 * (self.problem.scene.world.seed + 1)

    def _begins(self, number: int, attempt: int) -> torch.Tensor:
        """Where a start begins, (p,)."""
        if self._trials is not None and number:
            return self._trials.best(self._count - 1)[number - 1]
        seed = self._seed + DRAWS * number + attempt
        return drawn(self.problem, torch.Generator().manual_seed(seed))

    def end_of(self, number: int, begin: torch.Tensor | None = None) -> Minimum:
        """Where one start ends: what a worker does of them.

        Args:
            number: Of the start; 0 is the scene's own.
            begin: Where it begins, (p,), where a search found that.
        """
        if begin is not None:
            self._fit = self._begin(self.problem, start=begin)
        elif number:
            self._fit = self._begun(number)
        while not self._fit.converged:
            self._fit.step()
        return self._ended()

    def _begun(self, number: int) -> "LeastSquaresFit":
        while True:
            self.problem.sigmas = {}
            try:
                return self._begin(self.problem, start=self._begins(number, self._attempt))
            except SceneError:
                self._attempt += 1
                if self._attempt >= DRAWS:
                    raise SceneError(
                        f"inference.starts: the world has no run at {DRAWS} starts drawn from the priors; narrow them"
                    ) from None

    def _close(self) -> None:
        """Sort the ends into different minima, and put the problem at the best."""
        ends = sorted(self._ends, key=lambda end: end.misfit)
        self._put(ends[0])
        self._best = []
        curvature: list[torch.Tensor] = []
        for end in ends:
            for k, (own, j) in enumerate(zip(self._best, curvature, strict=True)):
                if float((j @ (end.z - own.z)).square().sum()) < SAME:
                    self._best[k] = dataclasses.replace(own, starts=own.starts + 1)
                    break
            else:
                self._put(end)
                _, j = self.problem.linearise(end.z)
                self._best.append(dataclasses.replace(end, answer=end.misfit < ends[0].misfit + RIVAL))
                curvature.append(j)
        self._put(ends[0])
        self.problem.doubts[self._said :] = ends[0].doubts

    def _put(self, end: Minimum) -> None:
        self.problem.see(Stage(1.0, (), False))
        self.problem.settle(end.z)
        self.problem.sigmas = {name: value.clone() for name, value in end.sigmas.items()}
        self.problem.errors = dict(end.errors)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The ends so far and the start in progress."""
        state = {f"fit.{name}": value for name, value in self._fit.state_dict().items()}
        if self._trials is not None:
            state |= {f"trials.{name}": value for name, value in self._trials.state_dict().items()}
        state["attempt"] = torch.tensor([len(self._ends), self._attempt])
        for k, end in enumerate(self._ends):
            state[f"end.{k}.z"] = end.z
            state[f"end.{k}.misfit"] = torch.tensor(end.misfit, dtype=torch.float64)
            state[f"end.{k}.doubts"] = torch.tensor(list("\n".join(end.doubts).encode()), dtype=torch.uint8)
            state |= {f"end.{k}.sigma.{name}": value for name, value in end.sigmas.items()}
            state |= {f"end.{k}.error.{name}": value.tensor() for name, value in end.errors.items()}
        return state

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        count, self._attempt = (int(v) for v in state["attempt"])
        inner = {k.removeprefix("fit."): v for k, v in state.items() if k.startswith("fit.")}
        self._fit.load_state_dict(inner)
        if self._trials is not None:
            tried = {k.removeprefix("trials."): v for k, v in state.items() if k.startswith("trials.")}
            self._trials.load_state_dict(tried)
        self._ends = []
        now = dict(self.problem.sigmas)
        for k in range(count):
            head, error = f"end.{k}.sigma.", f"end.{k}.error."
            sigmas = {name.removeprefix(head): v for name, v in state.items() if name.startswith(head)}
            held = {name.removeprefix(error): v for name, v in state.items() if name.startswith(error)}
            errors = {name: ModelError.from_tensor(v) for name, v in held.items()}
            self.problem.sigmas = sigmas
            z = state[f"end.{k}.z"]
            misfit_there = float(state[f"end.{k}.misfit"])
            doubts = tuple(bytes(state[f"end.{k}.doubts"].tolist()).decode().splitlines())
            found = self.problem.estimates(z)
            self._ends.append(Minimum(z, misfit_there, found, sigmas=sigmas, errors=errors, doubts=doubts))
        self.problem.sigmas = now
        if self.converged:
            self._close()

    def estimates(self) -> dict[str, float]:
        """At the best end, or where the search is."""
        return dict(self._best[0].values) if self._best else self._fit.estimates()

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write the answer."""
        return self._finish(self, out) if self._finish is not None else dict(self.estimates())


def told(minima: tuple[Minimum, ...]) -> tuple[str, ...]:
    """Several answers in words; none for one."""
    answers = [m for m in minima if m.answer]
    if len(answers) < 2:
        return ()
    best = answers[0].misfit
    each = "; ".join(
        f"({', '.join(f'{name} = {value:.4g}' for name, value in m.values.items())}; chi-square "
        f"{'the least' if m is answers[0] else f'{m.misfit - best:+.2g}'}, {m.starts} starts)"
        for m in answers
    )
    return (f"There are {len(answers)} answers, and the data do not tell which: {each}",)
