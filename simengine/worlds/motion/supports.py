"""Parts of bodies, and clamps that hold one.

A clamp holds nodes of the grid. A bar of particles that ends at a held node is a little softer than a bar that ends at
a wall: its grid reaches beyond it. So the lattice is laid such that the nodes held last lie `held_depth` cells
inside the body, the depth at which a long bar of particles has exactly its own stiffness.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simengine.scene.base import SceneError
from simengine.scene.strict import Vector, nearest
from simengine.worlds.motion.paths import PathSpec
from simengine.worlds.motion.shapes import Points

if TYPE_CHECKING:
    import torch

    from simengine.mpm.rigid_bodies import AbstractBody
    from simengine.worlds.motion.world import MPMWorld

_HARD = 1e-3  # of a cell: the layer of a clamp's edge, between two nodes
_NEAR = 0.75  # of the spacing of particles: so near a region they belong to it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Region:
    """A box in the body's own coordinates: flat along an axis it is a face, along two an edge, along three a point.

    Attributes:
        lower: Its lower corner [m].
        upper: Its upper corner [m].
    """

    lower: Vector
    upper: Vector

    def __post_init__(self) -> None:
        if any(a > b for a, b in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"upper: {list(self.upper)} lies below lower = {list(self.lower)}")

    @property
    def flat(self) -> list[int]:
        """Axes along which it has no extent."""
        return [k for k in range(3) if self.upper[k] == self.lower[k]]

    def holds(self, x: Points, spacing: float) -> NDArray[np.bool_]:
        """Which particles (n, 3) lie in it: along a flat axis, those of the layer nearest to it."""
        inside = np.ones(len(x), dtype=bool)
        for k in range(3):
            margin = (_NEAR if k in self.flat else 1e-6) * spacing
            inside &= (x[:, k] >= self.lower[k] - margin) & (x[:, k] <= self.upper[k] + margin)
        return inside


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractOnBody:
    """What clamps and loads have.

    Attributes:
        name: For messages, scalars and markers.
        on: Name of the body; "" for the only one.
        region: The part of it.
    """

    name: str
    on: str = ""
    region: Region

    def body(self, names: Sequence[str], key: str) -> int:
        """Index of the body.

        Raises:
            SceneError: There is none of that name.
        """
        if self.on in names:
            return list(names).index(self.on)
        if not self.on and len(names) == 1:
            return 0
        told = f"{self.on!r} is no body" if self.on else "which body is meant?"
        raise SceneError(f"{key}.on: {told}; {nearest(self.on, names)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClampSpec(AbstractOnBody):
    """A part of a body that is held, or moved without turning.

    Attributes:
        velocity: With which it moves [m/s].
        path: A recorded motion that it follows, beside its velocity.
    """

    velocity: Vector = (0.0, 0.0, 0.0)
    path: PathSpec | None = None

    def variables(self) -> dict[str, float]:
        """The numbers that can be tensors, by key below the clamp's own."""
        found = {f"velocity.{k}": value for k, value in enumerate(self.velocity)}
        return {**found, **(self.path.variables() if self.path is not None else {})}


@functools.cache
def held_depth(per_cell: int) -> float:
    """How far inside the body, from the clamped face, the last held nodes lie [cells], for so many particles a cell.

    The count is that along each axis.

    From a bar of particles in one dimension, with the gradient of MLS-MPM, 4 / h^2 sum w v (x_i - x_p) (Hu et al.
    2018): where its displacement under a pull, carried on from the middle, vanishes at the face.
    """
    cells, low, high = 24, 0.0, 0.5
    for _ in range(40):
        depth = (low + high) / 2
        x = (np.arange(cells * per_cell) + 0.5) / per_cell - depth  # node 0 is the last held one
        base = np.floor(x - 0.5).astype(int)
        d = x - base
        weights = np.stack([0.5 * (1.5 - d) ** 2, 0.75 - (d - 1) ** 2, 0.5 * (d - 0.5) ** 2])
        slope = np.zeros((len(x), cells + 3))  # of nodes -1, 0, 1, ...
        for k in range(3):
            slope[np.arange(len(x)), base + k + 1] += 4 * weights[k] * (k - d)
        free = slope[:, 2:]
        pull = free.sum(0)
        pull[: cells // 2] = 0.0  # what balances a stress of 1 at the far end
        u = np.linalg.lstsq(free.T @ free, pull, rcond=1e-10)[0]
        middle = cells // 2
        begins = middle + 1 - u[middle] * 4 / (u[middle] - u[middle - 4])  # where the straight middle part begins
        low, high = (depth, high) if begins < -depth else (low, depth)
    return (low + high) / 2


def outward(region: Region, lower: Points, upper: Points, spacing: float) -> tuple[int, int] | None:
    """Axis, and 0 for the lower or 1 for the upper side, of the face of a body that a region is; None for no face."""
    if len(region.flat) != 1:
        return None
    axis = region.flat[0]
    for side, bound in enumerate((lower[axis], upper[axis])):
        if abs(region.lower[axis] - bound) <= _NEAR * spacing:
            return axis, side
    return None


def _bounds(world: "MPMWorld", spec: AbstractOnBody, key: str) -> tuple[Points, Points, float, int]:
    """Corners of the body, spacing and particles per cell."""
    body = world.bodies[spec.body([b.name for b in world.bodies], key)]
    lower, upper = body.shape.bounds()
    return lower, upper, world.grid.dx / body.particles_per_cell, body.particles_per_cell


def offsets(world: "MPMWorld") -> tuple[float, float, float]:
    """How far the lattice is moved down along each axis, 0..1 cells, so that clamped faces have the depth they need.

    Raises:
        SceneError: Two clamps want different lattices, or a flat clamp is no face of its body.
    """
    found: dict[int, float] = {}
    for index, clamp in enumerate(world.clamps):
        key = f"clamps.{index}"
        lower, upper, spacing, per_cell = _bounds(world, clamp, key)
        if not clamp.region.flat:
            continue
        face = outward(clamp.region, lower, upper, spacing)
        if face is None:
            raise SceneError(
                f"{key}.region: {list(clamp.region.lower)}..{list(clamp.region.upper)} is no face of the body, which "
                f"reaches from {lower.tolist()} to {upper.tolist()}; give it a face of the body, or a thickness"
            )
        axis, side = face
        assert world.grid.lower is not None
        depth = held_depth(per_cell)
        node = (clamp.region.lower[axis] - world.grid.lower[axis]) / world.grid.dx + (depth if side == 0 else -depth)
        found.setdefault(axis, -node % 1.0)  # of two faces along one axis the second has a depth of its own
    return found.get(0, 0.0), found.get(1, 0.0), found.get(2, 0.0)


def holder(world: "MPMWorld", index: int, origin: Points, values: "Mapping[str, torch.Tensor]") -> "AbstractBody":
    """The rigid box that holds the nodes of a clamp, in the coordinates of the lattice.

    Args:
        world: The world.
        index: Of the clamp.
        origin: Node 0 of the lattice [m].
        values: Tensors in place of some of the numbers of the clamp, keys as of its `variables`.

    Raises:
        ValueError: Its path cannot be read.
    """
    import torch

    from simengine.mpm import Box, Surface

    clamp, h = world.clamps[index], world.grid.dx
    body_lower, body_upper, spacing, _ = _bounds(world, clamp, f"clamps.{index}")
    lower, upper = np.array(clamp.region.lower), np.array(clamp.region.upper)
    face = outward(clamp.region, body_lower, body_upper, spacing)
    for k in range(3):
        if face is not None and k == face[0]:
            node = lower[k] + (0.5 * h if face[1] == 0 else -0.5 * h)  # the held one lies a third of a cell before it
            lower[k], upper[k] = (node - 4 * h, node) if face[1] == 0 else (node, node + 4 * h)
            continue
        if lower[k] <= body_lower[k] + _NEAR * spacing:
            lower[k] -= 2 * h  # the nodes beside the body too
        if upper[k] >= body_upper[k] - _NEAR * spacing:
            upper[k] += 2 * h
    velocity = [
        values.get(f"velocity.{k}", torch.tensor(own, dtype=torch.float64)).double().cpu()
        for k, own in enumerate(clamp.velocity)
    ]
    box = Box(
        center=((lower + upper) / 2 - origin).tolist(),
        half_size=((upper - lower) / 2).tolist(),
        velocity=torch.stack(velocity),
        surface=Surface("sticky", width=_HARD * h),
    )
    return box if clamp.path is None else box.follow(clamp.path.recorded(values))
