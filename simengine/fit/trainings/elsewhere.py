"""Starts of a fit and replicas of a bootstrap as tasks of several processes, or of a Dask cluster.

A worker reads the scene itself; what it finds comes back as numbers that JSON keeps to the bit.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from simengine.fit.certainty.process import ModelError
from simengine.fit.problem import Problem
from simengine.fit.trainings.kept import restore_estimates, saved_estimates
from simengine.fit.trainings.pool import Task, result_of, shared
from simengine.scene.base import Refused, SceneError

if TYPE_CHECKING:
    from simengine.fit.starts import Minimum, SeveralStarts

REPLICAS = 20  # of a task
_STATE = "fitted.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Where tasks of a fit are done.

    Attributes:
        scene: File or name.
        overrides: `--set` of the fit.
        own: Files of code of one's own.
        folder: Of the results: what is there is not done again.
        workers: Processes.
        cluster: Address of a Dask scheduler, whose workers see the same files; "" for none.
    """

    scene: str
    overrides: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    folder: Path
    workers: int = 1
    cluster: str = ""

    def _done(self, what: str, tasks: Mapping[int, tuple[Any, ...]]) -> list[dict[str, Any]]:
        """Results of tasks by their numbers.

        Raises:
            SceneError: One of them could not be done.
        """
        of = (self.scene, list(self.overrides), list(self.own))
        given: dict[int, Task] = {number: (f"{__name__}:{what}", *of, *task) for number, task in tasks.items()}
        folder = self.folder / what
        shared(given, folder, workers=self.workers, cluster=self.cluster)
        results = [result_of(folder, number) for number in given]
        for number, result in zip(given, results, strict=True):
            if "error" in result:
                raise SceneError(f"--workers: {what} {number}: {result['error']}")
        return results

    def ends(self, fit: "SeveralStarts", begins: "Mapping[int, torch.Tensor | None]") -> "list[Minimum]":
        """Where starts of a fit end, in their order.

        Args:
            fit: Of the same scene.
            begins: Number of a start -> where it begins, (p,); None for the scene's own and those drawn from priors.
        """
        tasks = {n: (n, None if begin is None or n == 0 else begin.tolist()) for n, begin in begins.items()}
        return [_minimum(fit.problem, result) for result in self._done("start", tasks)]

    def replicas(self, problem: Problem, z: torch.Tensor, asked: int, seed: int) -> dict[int, torch.Tensor]:
        """Best fits of replicas of a bootstrap, by their numbers.

        Args:
            problem: At its last stage.
            z: The best fit, (p,).
            asked: How many.
            seed: Of all of them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.contiguous() for name, value in saved_estimates(problem).items()}
        save_file({"z": z.contiguous(), **state}, self.folder / _STATE)
        file = str((self.folder / _STATE).resolve())
        firsts = range(0, asked, REPLICAS)
        tasks = {k: (file, first, min(first + REPLICAS, asked), seed) for k, first in enumerate(firsts)}
        found = [result["ends"] for result in self._done("replicas", tasks)]
        return {int(n): torch.tensor(end, dtype=torch.float64) for ends in found for n, end in ends.items()}


def _problem(scene: str, overrides: Sequence[str], own: Sequence[str]) -> Problem:
    from simengine.scene import load_scene
    from simengine.scene.own_code import run_own

    run_own([Path(file) for file in own])
    return Problem(load_scene(scene, overrides))


def start(
    scene: str, overrides: Sequence[str], own: Sequence[str], number: int, begin: list[float] | None
) -> dict[str, Any]:
    """Task: one start of a fit, to its end."""
    from simengine.fit.inference import LeastSquaresFit
    from simengine.fit.starts import SeveralStarts

    try:
        problem = _problem(scene, overrides, own)
        several = SeveralStarts(problem, problem.scene.inference.starts, LeastSquaresFit)
        end = several.end_of(number, None if begin is None else torch.tensor(begin, dtype=torch.float64))
    except (SceneError, Refused) as error:
        return {"error": str(error)}
    return {
        "z": end.z.tolist(),
        "misfit": end.misfit,
        "sigmas": {name: value.tolist() for name, value in end.sigmas.items()},
        "errors": {name: value.tensor().tolist() for name, value in end.errors.items()},
        "doubts": list(end.doubts),
    }


def _minimum(problem: Problem, told: Mapping[str, Any]) -> "Minimum":
    from simengine.fit.starts import Minimum

    z = torch.tensor(told["z"], dtype=torch.float64)
    sigmas = {name: torch.tensor(value, dtype=torch.float64) for name, value in told["sigmas"].items()}
    held = {name: torch.tensor(value, dtype=torch.float64) for name, value in told["errors"].items()}
    errors = {name: ModelError.from_tensor(value) for name, value in held.items()}
    problem.sigmas = dict(sigmas)  # a sought one is what the residuals of this end made it
    values = problem.estimates(z)
    return Minimum(z, told["misfit"], values, sigmas=sigmas, errors=errors, doubts=tuple(told["doubts"]))


def replicas(
    scene: str, overrides: Sequence[str], own: Sequence[str], file: str, first: int, end: int, seed: int
) -> dict[str, Any]:
    """Task: some replicas of a bootstrap, refitted."""
    from simengine.fit.certainty.bootstrap import refitted

    try:
        problem = _problem(scene, overrides, own)
        state = load_file(file)
        restore_estimates(problem, state)
        found = refitted(problem, state["z"], range(first, end), seed)
    except (SceneError, Refused) as error:
        return {"error": str(error)}
    return {"ends": {str(number): z.tolist() for number, z in found.items()}}
