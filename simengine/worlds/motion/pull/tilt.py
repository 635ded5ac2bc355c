"""Gravity that turns, or does what an accelerometer recorded."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from simengine.scene.base import SceneError
from simengine.scene.strict import NonNegative, Vector
from simengine.worlds.motion.paths import RecordedSpec

if TYPE_CHECKING:
    import torch

    from simengine.mpm import Tilt


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShakeSpec(RecordedSpec):
    """Accelerations as they were recorded, added to gravity: of a vessel that is shaken, less its own.

    Attributes:
        columns: `time`, and any of `gravity.0`, `gravity.1`, `gravity.2`.
    """

    kinds: ClassVar[tuple[tuple[str, ...], ...]] = (("gravity.0", "gravity.1", "gravity.2"),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TiltSpec:
    """How gravity changes, as seen from a vessel that is tilted or shaken; walls and colliders stand in the vessel.

    Attributes:
        rate: Angular velocity with which gravity turns [rad/s]; the vessel turns the other way.
        begins: When it begins to turn [s].
        until: When it stops [s]; left out, never.
        path: Accelerations over time, beside it.
    """

    rate: Vector = (0.0, 0.0, 0.0)
    begins: NonNegative = 0.0
    until: NonNegative | None = None
    path: ShakeSpec | None = None

    def __post_init__(self) -> None:
        if self.until is not None and self.until < self.begins:
            raise ValueError(f"until: {self.until:g} s lies before begins = {self.begins:g} s")

    @property
    def acts(self) -> bool:
        """Whether gravity changes."""
        return any(self.rate) or self.path is not None

    def variables(self) -> dict[str, float]:
        """The numbers that can be tensors, by key below its own."""
        found = {f"rate.{k}": value for k, value in enumerate(self.rate)} | {"begins": self.begins}
        found |= {} if self.until is None else {"until": self.until}
        return {**found, **(self.path.variables() if self.path is not None else {})}

    def make(self, gravity: Vector, values: "Mapping[str, torch.Tensor]") -> "Tilt | Vector":
        """What the model takes as gravity, of that at rest [m/s^2], with tensors in place of some of its numbers.

        Raises:
            SceneError: Its path cannot be read.
        """
        import torch

        from simengine.mpm import Tilt

        if not self.acts and not any(key.startswith("rate") for key in values):
            return gravity
        numbers = {
            key: values.get(key, torch.tensor(own, dtype=torch.float64)).double().cpu()
            for key, own in self.variables().items()
        }
        try:
            return Tilt(
                gravity,
                rate=torch.stack([numbers[f"rate.{k}"] for k in range(3)]),
                begins=numbers["begins"],
                until=numbers.get("until"),
                path=None if self.path is None else self.path.recorded(values),
            )
        except ValueError as error:
            raise SceneError(f"tilt.{error}") from error
