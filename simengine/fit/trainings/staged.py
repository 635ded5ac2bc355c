"""Trainings one after another: a coarse or short problem first, from whose end the next one starts."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from simengine.fit.training import AbstractTraining

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory


class StagedTraining(AbstractTraining):
    """Drives several trainings of the same parameters in turn; each starts where the one before converged.

    A stage that has nothing to do, since it has converged when its turn comes, is passed over.

    Args:
        stages: At least one; they share the module whose parameters they change.
        finish: Writes results; called with the last stage at the end. None for that of the last stage.
    """

    def __init__(
        self,
        stages: Sequence[AbstractTraining],
        *,
        finish: "Callable[[AbstractTraining, RunDirectory], dict[str, Any]] | None" = None,
    ) -> None:
        if not stages:
            raise ValueError("stages: expected at least one training")
        self.stages: list[AbstractTraining] = list(stages)
        self.num_iterations: int = sum(stage.num_iterations for stage in stages)
        self._finish = finish
        self._current = 0
        self._done = 0  # iterations of the current stage

    @property
    def stage(self) -> AbstractTraining:
        """The training in progress."""
        return self.stages[self._current]

    @property
    def converged(self) -> bool:
        """Whether the last stage has converged."""
        return self._current == len(self.stages) - 1 and self.stage.converged

    def step(self) -> dict[str, float]:
        """One iteration of the current stage."""
        figures = {**self.stage.step(), "stage": float(self._current)}
        self._done += 1
        over = self.stage.converged or self._done >= self.stage.num_iterations
        while over and self._current < len(self.stages) - 1:
            self._current, self._done = self._current + 1, 0
            over = self.stage.converged
        return figures

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The current stage and its state."""
        state = {f"stage.{name}": value for name, value in self.stage.state_dict().items()}
        return {**state, "current": torch.tensor([self._current, self._done])}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self._current, self._done = (int(value) for value in state["current"])
        own = {name.removeprefix("stage."): value for name, value in state.items() if name.startswith("stage.")}
        self.stage.load_state_dict(own)

    def estimates(self) -> dict[str, float]:
        """Those of the current stage."""
        return self.stage.estimates()

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write the results."""
        return self.stage.finish(out) if self._finish is None else self._finish(self.stage, out)
