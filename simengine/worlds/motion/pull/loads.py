"""Masses, forces and pressures on parts of bodies."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from simengine.scene.base import SceneError
from simengine.scene.strict import NonNegative, Vector
from simengine.worlds.motion.paths import RecordedSpec
from simengine.worlds.motion.shapes import Points, turned
from simengine.worlds.motion.supports import AbstractOnBody, outward

if TYPE_CHECKING:
    import torch

    from simengine.materials import Material
    from simengine.mpm import Loads
    from simengine.worlds.motion.world import MPMWorld

FORCES, PRESSURES = ("force.0", "force.1", "force.2"), ("pressure",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadPathSpec(RecordedSpec):
    """Forces or a pressure as a load cell or a gauge recorded them, added to those of the load.

    Attributes:
        columns: `time`, and any of `force.0`, `force.1`, `force.2`; or `pressure`.
    """

    kinds: ClassVar[tuple[tuple[str, ...], ...]] = (FORCES, PRESSURES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadSpec(AbstractOnBody):
    """What hangs on a part of a body, pulls on it or presses against it.

    Attributes:
        mass: Spread over the part, with its weight and its inertia [kg].
        force: On the whole part, whose direction stays as it is [N].
        pressure: Against the face that the region is, as that is deformed; below 0 it sucks [Pa].
        begins: When all this sets in [s]; a mass is at rest until then.
        path: Forces or pressures over time beside these.
    """

    mass: NonNegative = 0.0
    force: Vector = (0.0, 0.0, 0.0)
    pressure: float = 0.0
    begins: NonNegative = 0.0
    path: LoadPathSpec | None = None

    @property
    def presses(self) -> bool:
        """Whether a pressure acts, now or along its path."""
        return self.pressure != 0 or (self.path is not None and self.path.holds(PRESSURES))

    @property
    def pulls(self) -> bool:
        """Whether anything but a mass acts."""
        return self.presses or any(self.force) or self.path is not None

    def variables(self) -> dict[str, float]:
        """The numbers that can be tensors, by key below the load's own."""
        found = {"mass": self.mass, "begins": self.begins, "pressure": self.pressure}
        found |= {f"force.{k}": value for k, value in enumerate(self.force)}
        return {**found, **(self.path.variables() if self.path is not None else {})}


def loaded(world: "MPMWorld", index: int, x: Points, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which particles (n,), at x (n, 3) of the bodies `ids`, a load is on.

    Raises:
        SceneError: None.
    """
    load, key = world.loads[index], f"loads.{index}"
    body = load.body([b.name for b in world.bodies], key)
    spacing = world.grid.dx / world.bodies[body].particles_per_cell
    part: NDArray[np.bool_] = load.region.holds(x, spacing) & (ids == body)
    if not part.any():
        own = x[ids == body]
        raise SceneError(
            f"{key}.region: no particle of {world.bodies[body].name!r} lies within {0.75 * spacing:.3g} m of it; "
            f"particles reach from {own.min(0).round(5).tolist()} to {own.max(0).round(5).tolist()}"
        )
    return part


def loads_of(world: "MPMWorld", values: "Mapping[str, torch.Tensor]", materials: "Sequence[Material]") -> "list[Loads]":
    """The forces and pressures of a world, with tensors in place of some of its numbers; one or none.

    Args:
        world: The world.
        values: Tensors by dotted key.
        materials: Of its bodies.

    Raises:
        SceneError: A pressure has no face, or is on what flows; a path cannot be read.
    """
    import torch

    from simengine.mpm import Load, Loads

    x, _, ids = world.unturned()
    found = []
    for index, load in enumerate(world.loads):
        key = f"loads.{index}"
        own = {name: values[f"{key}.{name}"] for name in load.variables() if f"{key}.{name}" in values}
        if not load.pulls and not any(name.split(".")[0] in ("force", "pressure") for name in own):
            continue
        presses = load.presses or "pressure" in own

        def number(name: str, start: float, own: "Mapping[str, torch.Tensor]" = own) -> "torch.Tensor":
            return own.get(name, torch.tensor(start, dtype=torch.float64)).double().cpu()

        try:
            found.append(
                Load(
                    torch.as_tensor(loaded(world, index, x, ids)),
                    force=torch.stack([number(f"force.{k}", start) for k, start in enumerate(load.force)]),
                    pressure=number("pressure", load.pressure),
                    normal=_normal(world, index, materials, presses=presses),
                    depth=_depth(world, index),
                    begins=number("begins", load.begins),
                    path=None if load.path is None else load.path.recorded(own),
                    presses=load.path is not None and load.path.holds(PRESSURES),
                )
            )
        except ValueError as error:
            raise error if isinstance(error, SceneError) else SceneError(f"{key}.{error}") from error
    return [Loads(found)] if found else []


def _depth(world: "MPMWorld", index: int) -> float:
    body = world.bodies[world.loads[index].body([b.name for b in world.bodies], f"loads.{index}")]
    return world.grid.dx / body.particles_per_cell


def _normal(world: "MPMWorld", index: int, materials: "Sequence[Material]", *, presses: bool) -> tuple[float, ...]:
    """Outward, of the face that a load is on, as the body lies at the start; 0 where it is on no face."""
    from simengine.materials import Identity

    load, key = world.loads[index], f"loads.{index}"
    number = load.body([b.name for b in world.bodies], key)
    body = world.bodies[number]
    lower, upper = body.shape.bounds()
    face = outward(load.region, lower, upper, _depth(world, index))
    flows = not isinstance(materials[number].plasticity, Identity)
    if not presses and (face is None or flows):
        return 0.0, 0.0, 0.0
    if face is None:
        raise SceneError(
            f"{key}.pressure: {list(load.region.lower)}..{list(load.region.upper)} is no face of the body, which "
            f"reaches from {lower.tolist()} to {upper.tolist()}; give it a region flat along one axis, or a force"
        )
    if flows:
        raise SceneError(
            f"{key}.pressure: {body.material.type} flows and forgets how its faces were deformed; give a force"
        )
    normal = np.zeros((2, 3))
    normal[0, face[0]] = 1.0 if face[1] else -1.0
    ends = turned(normal, body.shape, body.turn) if any(body.turn) else normal
    return tuple((ends[0] - ends[1]).tolist())
