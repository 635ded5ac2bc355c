"""An objective of one's own: what a function makes of a world's answers, wanted to be `target`. For scripts alone."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch

from simengine.scene.asks import Ask
from simengine.scene.base import Refused, SceneError
from simengine.scene.instrument import AbstractInstrument, Measured
from simengine.scene.noise import NoiseSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal(AbstractInstrument):
    """No file: the misfit is (of(answers) - target) / sigma, and stands beside the observations that there are.

    The search is one of least squares. One number that is only to be small, as a cost, is taken too, but rows that can
    each vanish are found in a few solves where their sum of squares takes many.

    Attributes:
        asks_for: What the world is asked, at times and places in its own frame (`simengine.scene.asks`).
        of: Answers, one tensor for each ask -> one number, or one for each of `target`; differentiable or not.
        target: What is wanted, SI; one number for each that `of` returns [unit of the value].
        unit: Of the numbers, for reports.
        sigma: How far off counts as one; bars of what is found say what may change by that [unit of the value].
    """

    type: ClassVar[str] = "goal"
    asks_for: tuple[Ask, ...]
    of: Callable[[Sequence[torch.Tensor]], torch.Tensor] = dataclasses.field(compare=False)
    target: tuple[float, ...] = (0.0,)
    unit: str = "1"
    sigma: NoiseSpec = 1.0

    def __post_init__(self) -> None:
        if not self.asks_for or not all(isinstance(ask, Ask) for ask in self.asks_for):
            raise ValueError(
                "asks_for: expected at least one of simengine.scene.asks, as Tracks(points=..., times=...)"
            )
        if not self.target:
            raise ValueError("target: expected a number for each that `of` returns")
        object.__setattr__(self, "asks_for", tuple(_exact(ask) for ask in self.asks_for))

    def read(self, *, before: float = 0.0) -> Measured:
        """The target."""
        values = torch.tensor(self.target, dtype=torch.float64)[:, None]
        mask = torch.ones_like(values, dtype=torch.bool)
        none = torch.zeros(len(values), dtype=torch.bool)
        _, out = self._masked(values, ("goal",), None, ~none)
        return Measured(
            values=values,
            names=("goal",),
            units=(self.unit,),
            at={},
            mask=mask,
            held_out=out,
            sigma=torch.full_like(values, torch.nan),
        )

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """As they were given."""
        return self.asks_for

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """What the function makes of the answers, (rows, 1).

        Raises:
            SceneError: It is no tensor with a number for each of the target.
            Refused: It is not finite.
        """
        made = self.of(answers)
        rows = len(self.target)
        if not isinstance(made, torch.Tensor) or made.numel() != rows:
            told = f"{made.numel()} numbers" if isinstance(made, torch.Tensor) else type(made).__name__
            raise SceneError(f"observations.{self.name}.of: expected a tensor of {rows}, as many as target, got {told}")
        if not bool(made.isfinite().all()):
            raise Refused(f"observations.{self.name}.of: a number is not finite")
        return self.shown(made.reshape(rows, 1).double())

    def rows_as_one(self, residual: torch.Tensor, measured: Measured) -> float:
        """Each row is a wish of its own."""
        return 1.0

    def write(self, file: Path, measured: Measured) -> None:
        """There is no file.

        Raises:
            SceneError: Always.
        """
        raise SceneError(f"observations.{self.name}: a goal is no measurement, and has no file to write")


def _exact(ask: Ask) -> Ask:
    """The ask with its numbers in float64, as worlds answer them."""

    def exact(value: object) -> object:
        if isinstance(value, Mapping):
            return {key: exact(item) for key, item in value.items()}
        return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    return dataclasses.replace(ask, **{f.name: exact(getattr(ask, f.name)) for f in dataclasses.fields(ask)})
