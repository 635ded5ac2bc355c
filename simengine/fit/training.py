"""What `fit` drives: anything that improves by steps and can be saved between two of them."""

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory


class AbstractTraining(abc.ABC):
    """One inverse problem or training. The loop, progress, checkpoints, resume and log are `fit`'s, not its own.

    Attributes:
        num_iterations: The iteration at which the loop ends, unless `converged` is true before.
    """

    num_iterations: int

    @abc.abstractmethod
    def step(self) -> dict[str, float]:
        """Do one iteration; return the named figures to log, `"loss"` among them."""

    @abc.abstractmethod
    def state_dict(self) -> dict[str, torch.Tensor]:
        """Everything the next `step` depends on, flat; an interrupted run resumes bitwise from it (CPU)."""

    @abc.abstractmethod
    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""

    @property
    def converged(self) -> bool:
        """Whether further steps would change nothing that matters."""
        return False

    def estimates(self) -> dict[str, float]:
        """Current values of the scalar parameters sought, by name, in SI units; shown in the progress line."""
        return {}

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write results, uncertainty and pictures to `out`; return the summary printed by `simengine fit`."""
        return dict(self.estimates())
