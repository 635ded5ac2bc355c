"""Coefficients of a body that vary from place to place: fields over the box of its shape, on cells of the grid's size.

What a field says at a particle is read where the particle lies in the undeformed body, straight between the middles of
the cells, so that a body of fewer particles than cells has its gradient too.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from simengine.scene.address import joined, named, parts_of
from simengine.scene.base import SceneError
from simengine.worlds.motion.shapes import Laid, Points

if TYPE_CHECKING:
    import torch

    from simengine.worlds.motion.world import MPMWorld

SLICES = 3  # of a body, that a report shows side by side


def cells_of(world: "MPMWorld", key: str) -> tuple[int, int, int]:
    """Cells of a coefficient that may be a field, as wide as those of the grid, about.

    Args:
        world: The world.
        key: As in `bodies.0.material.E`.

    Raises:
        SceneError: The key is no coefficient of a law.
    """
    if world.grid.turns:
        raise SceneError('over: no field over a body that turns around an axis; leave `over = "body"` out')
    parts = parts_of(key)
    names = [] if len(parts) != 4 or parts[0] != "bodies" else list(world.bodies[int(parts[1])].material.coefficients())
    if len(parts) != 4 or parts[2] != "material" or parts[3] not in names:
        known = ", ".join(names) or "a coefficient of its material, as in bodies.NAME.material.E"
        raise SceneError(f'over: no field over a body; what may be one there is {known}; leave `over = "body"` out')
    lower, upper = world.bodies[int(parts[1])].shape.bounds()
    a, b, c = (max(1, math.ceil(float(size) / world.grid.dx - 1e-6)) for size in upper - lower)
    return a, b, c


def box_of(world: "MPMWorld", key: str) -> tuple[tuple[float, float], ...]:
    """Least and greatest of each axis of the undeformed body that a key names [m]."""
    lower, upper = world.shapes()[int(parts_of(key)[1])].bounds()
    return tuple((float(a), float(b)) for a, b in zip(lower, upper, strict=True))


def at_particles(field: "torch.Tensor", shape: Laid, places: Points) -> "torch.Tensor":
    """A field (a, b, c) over the box of a shape at places (n, 3) [m] in it, (n,), differentiable in the field."""
    import torch

    lower, upper = shape.bounds()
    unit = torch.from_numpy(np.asarray(2 * (places - lower) / (upper - lower) - 1)).to(field)
    grid = unit.flip(1)[None, :, None, None]  # grid_sample counts the last axis of the field first
    found = torch.nn.functional.grid_sample(
        field[None, None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return found[0, 0, :, 0, 0]


def slices(world: "MPMWorld", key: str, field: "torch.Tensor") -> "dict[str, torch.Tensor]":
    """Cuts across z through a field, x to the right and y up, from the back to the front."""
    low, high = box_of(world, key)[2]
    layers = sorted({round((k + 0.5) * field.shape[2] / SLICES - 0.5) for k in range(SLICES)})
    places = [low + (layer + 0.5) / field.shape[2] * (high - low) for layer in layers]
    name = joined(parts_of(named(world, key)))
    cuts = [field[..., layer].T.flip(0) for layer in layers]
    return {f"{name}, z = {z:.3g} m": cut for z, cut in zip(places, cuts, strict=True)}


def coefficients_of(
    world: "MPMWorld", index: int, values: "Mapping[str, torch.Tensor]"
) -> "Mapping[str, torch.Tensor]":
    """Coefficients of a body by name, those that are fields as one number for each of its particles."""
    if all(value.ndim < 3 for value in values.values()):
        return values
    x, _, ids = world.unturned()
    places = x[ids == index]
    shape = world.shapes()[index]
    return {n: at_particles(value, shape, places) if value.ndim == 3 else value for n, value in values.items()}
