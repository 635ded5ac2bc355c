"""Columns of a Jacobian from derivatives that a run knows without being solved again."""

from collections.abc import Callable, Mapping, Sequence

import torch

from simengine.scene.asks import Ask
from simengine.scene.base import AbstractRun, AbstractWorld, SceneError
from simengine.scene.instrument import Measured

STEP = 1e-6  # of the difference through the instrument; the answers themselves are linear in it


class Shifted(AbstractRun):
    """A run whose answers are moved to first order."""

    def __init__(self, run: AbstractRun, moved: Callable[[Ask], torch.Tensor]) -> None:
        self.run, self.moved = run, moved

    def sample(self, ask: Ask) -> torch.Tensor:
        """The answer, moved."""
        return self.run.sample(ask) + self.moved(ask)


class Derivatives:
    """Derivatives of the answers of one run in some numbers of its world, each ask once.

    Args:
        run: The run.
        keys: The numbers.
    """

    def __init__(self, run: AbstractRun, keys: Sequence[str]) -> None:
        self.run, self.keys = run, list(keys)
        self._known: list[tuple[Ask, torch.Tensor]] = []

    def of(self, ask: Ask) -> torch.Tensor | None:
        """(..., p); None where the run knows none."""
        for known, derivative in self._known:
            if known is ask or _same(known, ask):
                return derivative
        found = self.run.derivatives(ask, self.keys)
        if found is not None:
            self._known.append((ask, found))
        return found

    def moved(self, rates: Mapping[str, float], step: float) -> Shifted:
        """The run after `step` with these rates of the numbers."""
        direction = torch.tensor([rates.get(key, 0.0) for key in self.keys], dtype=torch.float64)

        def shift(ask: Ask) -> torch.Tensor:
            found = self.of(ask)
            assert found is not None
            return step * (found @ direction)

        return Shifted(self.run, shift)


def _same(one: Ask, other: Ask) -> bool:
    if type(one) is not type(other):
        return False
    for name, value in vars(one).items():
        theirs = getattr(other, name)
        if isinstance(value, Mapping):
            if value.keys() != theirs.keys() or not all(torch.equal(value[k], theirs[k]) for k in value):
                return False
        elif not (torch.equal(value, theirs) if isinstance(value, torch.Tensor) else value == theirs):
            return False
    return True


def check_plausible(name: str, measured: Measured, world: AbstractWorld) -> None:
    """Refuse a column that is in no unit it can be in, or beyond what it can be without telling a unit.

    Raises:
        SceneError: It names the column, the value and how to tell the unit.
    """
    from simengine.io.units import dimension

    used = measured.mask.any(1)
    columns = {**measured.at, **{c: measured.values[:, k] for k, c in enumerate(measured.names)}}
    for column, (unit, least, most) in world.plausible().items():
        if column not in columns:
            continue
        told = measured.told.get(column, "")
        if told and not _is_number(told) and dimension(told) != dimension(unit):
            raise SceneError(f"observations.{name}: {column} is told in {told}; it has to be in {unit} or the like")
        values = columns[column][used]
        values = values[~values.isnan()]
        if not told and len(values) and not (least <= float(values.min()) and float(values.max()) <= most):
            worst = float(values.max()) if float(values.max()) > most else float(values.min())
            raise SceneError(
                f"observations.{name}: {column}: {worst:g} {unit} is beyond {least:g} to {most:g}; tell the unit of "
                f"the column, as in '{column} [{_EXAMPLES.get(unit, unit)}]' (or '[{unit}]' if that is meant)"
            )


_EXAMPLES = {"m/s": "cm/s", "K": "degC", "Pa": "atm"}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
