"""A body whose law changes into another one, from below upwards."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, ClassVar

from simengine.scene.strict import Range
from simengine.worlds.motion.materials import MaterialSpec
from simengine.worlds.motion.world import MPMWorld

if TYPE_CHECKING:
    from simengine.mpm import MPMModel, MPMState
    from simengine.worlds.motion.world import Values


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeltingSpec:
    """What changes, and when.

    Attributes:
        body: Number of the body that melts.
        into: Its law once molten; masses stay as they are.
        first_step: When its lowest particle changes.
        last_step: When all have changed: in between those below a level that rises through the body evenly.
    """

    body: Annotated[int, Range(ge=0)] = 0
    into: MaterialSpec
    first_step: Annotated[int, Range(ge=0)]
    last_step: Annotated[int, Range(ge=1)]

    def __post_init__(self) -> None:
        if self.last_step <= self.first_step:
            raise ValueError(f"last_step: {self.last_step} is not after first_step = {self.first_step}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeltingWorld(MPMWorld):
    """Bodies of particles of which one melts: particles take the new law at saved steps (`output.save_every`).

    Attributes:
        melting: What melts.
    """

    kind: ClassVar[str] = "melting"
    melting: MeltingSpec

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.melting.body >= len(self.bodies):
            raise ValueError(f"melting.body: {self.melting.body} is none of the {len(self.bodies)} bodies")
        density = self.bodies[self.melting.body].material.density
        if self.melting.into.density != density:
            raise ValueError(
                f"melting.into.density: {self.melting.into.density:g} would do nothing, since masses stay as they are; "
                f"set it to that of the body, {density:g}"
            )

    def build(
        self, *, device: str | None = None, double: bool = False, values: "Values | None" = None
    ) -> "tuple[MPMModel, MPMState]":
        """As of any MPM scene; the last material is what melts into."""
        model, state = super().build(device=device, double=double, values=values)
        model.materials.append(self.melting.into.make({}, dt=self.grid.time_step).to(state.x.device))
        return model, state

    def before(self, model: "MPMModel", state: "MPMState", step: int) -> None:
        """Give the new law to the particles that the level has passed."""
        spec, ids = self.melting, model.material_ids
        assert ids is not None
        own = (ids == spec.body) & (step >= spec.first_step)
        if not bool(own.any()):
            return
        progress = min((step - spec.first_step) / (spec.last_step - spec.first_step), 1.0)
        height = state.x[:, 1]
        body = own | (ids == len(model.materials) - 1)
        low, high = height[body].min(), height[body].max()
        ids[own & (height <= low + progress * (high - low))] = len(model.materials) - 1
