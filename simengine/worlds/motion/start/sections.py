"""Bodies of which only a section is computed: plane strain, and rings around the axis x = z = 0.

Of what turns around the axis the section z = 0 is filled, on both sides, since the axis is then nothing special to the
grid. Each side is that of half a turn, so that masses, energies and forces along the axis are those of the whole.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simengine.worlds.motion.shapes import BoxShape, CylinderShape, Half, Laid, Points, Shape, SphereShape, TorusShape

if TYPE_CHECKING:
    from simengine.worlds.motion.colliders import ColliderSpec
    from simengine.worlds.motion.specs import BodySpec
    from simengine.worlds.motion.world import MPMWorld

_ASIDE = ("velocity", "angular_velocity", "point", "normal", "center", "orientation", "offset")


def across(shape: Shape, lower: float, depth: float) -> Shape:
    """A box without extent along z as one that reaches from `lower` [m] over `depth` [m] there."""
    assert isinstance(shape, BoxShape)
    x, y, _ = shape.center
    return dataclasses.replace(shape, center=(x, y, lower + depth / 2), size=(*shape.size[:2], depth))


def shapes(world: "MPMWorld") -> tuple[Laid, ...]:
    """What the particles of each body fill."""
    if world.grid.turns:
        return tuple(
            Half(body.shape, world.grid.dx / body.particles_per_cell)  # type: ignore[arg-type]
            for body in world.bodies
        )
    if not world.grid.flat or world.grid.lower is None:
        return tuple(body.shape for body in world.bodies)
    return tuple(across(body.shape, world.grid.lower[2], world.grid.depth) for body in world.bodies)


def whole(x: Points, volume: Points, ids: NDArray[np.int64]) -> tuple[Points, Points, NDArray[np.int64]]:
    """Both sides of what fills halves, the rings of half a turn: positions [m], volumes [m^3] and bodies.

    Args:
        x: Positions [m], (n, 3).
        volume: Of cubes there [m^3], (n,).
        ids: Their bodies, (n,).
    """
    both, ids = np.repeat(x, 2, axis=0), np.repeat(ids, 2)
    both[1::2, 0] *= -1
    return both, np.repeat(volume ** (2 / 3) * math.pi * np.abs(x[:, 0]), 2), ids


def edges(world: "MPMWorld", x: Any, volume: Any) -> Any:
    """Widths of particles [m], (n,), at the places x (n, 3) [m] where they were laid, of volumes (n,) [m^3]."""
    return (volume / (math.pi * abs(x[:, 0]))) ** 0.5 if world.grid.turns else volume ** (1 / 3)


def varies(world: "MPMWorld", key: str) -> bool:
    """Whether a number can be another one without what is the same all around an axis being so no more."""
    *_, name, axis = key.split(".")
    return (
        not world.grid.turns or name not in _ASIDE or (axis == "1" and name not in ("angular_velocity", "orientation"))
    )


def refuse(world: "MPMWorld") -> None:
    """Refuse what a section does not know.

    Raises:
        ValueError: It names the key.
    """
    grid = world.grid
    for index, body in enumerate(world.bodies):
        flat = isinstance(body.shape, BoxShape) and body.shape.size[2] == 0
        if grid.flat and not grid.turns and not (flat and not any(body.turn)):
            raise ValueError(
                f"bodies.{index}.shape: with grid.section plane_strain a box of size 0 along z, not turned"
            )
        if not grid.flat and flat:
            raise ValueError(f'bodies.{index}.shape.size: 0 along z is for grid.section = "plane_strain" alone')
    if grid.flat and (world.clamps or world.loads):
        raise ValueError("grid.section: clamps and loads need a solid section; hold a body by colliders instead")
    if not grid.turns:
        return
    for index, body in enumerate(world.bodies):
        if wrong := _uneven(body):
            raise ValueError(f"bodies.{index}.{wrong}")
    for index, collider in enumerate(world.colliders):
        if wrong := _askew(collider):
            raise ValueError(
                f"colliders.{index}.{wrong}; rigid bodies too must be the same all around the axis x = z = 0"
            )
    if world.tilt.acts:
        raise ValueError("tilt: what is the same all around an axis falls along it; leave it out")
    if world.gravity[0] or world.gravity[2]:
        raise ValueError(
            f"gravity: of what is the same all around the axis x = z = 0 along y alone, got {list(world.gravity)}"
        )
    if grid.integrator != "explicit" or world.start != "given":
        key = "start" if world.start != "given" else "grid.integrator"
        raise ValueError(f"{key}: rings around an axis know explicit steps alone; leave it out")
    if world.contact:
        raise ValueError("contact: rings around an axis share one velocity field; leave it out")
    if world.walls.kind == "periodic":
        raise ValueError("walls.kind: nothing is periodic across an axis; choose slip, sticky, friction or open")


def _uneven(body: "BodySpec") -> str | None:
    """What of a body is not the same all around the axis, or not known there."""
    shape = body.shape
    if isinstance(shape, BoxShape):
        if shape.counts is not None:
            return "shape.counts: rings are laid by particles_per_cell; leave it out"
        if shape.size[2] != 0 or shape.center[2] != 0 or shape.bounds()[0][0] < 0:
            return "shape: a box that turns around the axis has size and center 0 along z and lies at x >= 0"
    elif not isinstance(shape, SphereShape | CylinderShape | TorusShape):
        return f"shape.type: {shape.type!r} may not be the same all around; give a sphere, cylinder, torus or flat box"
    elif shape.center[0] or shape.center[2]:
        return f"shape.center: a {shape.type} that is the same all around stands on the axis x = z = 0"
    if any(body.turn) or any(body.angular_velocity) or body.velocity[0] or body.velocity[2]:
        return "velocity: what is the same all around the axis moves along y alone, without turn or angular_velocity"
    if getattr(body.material, "critical_packing", 0.0):
        return "material.critical_packing: not known to rings around an axis; leave it out"
    return None


def _askew(collider: "ColliderSpec") -> str | None:
    """What of a collider is not the same all around the axis."""
    if collider.type in ("capsule", "mesh"):
        return f"type: no {collider.type} is known there; give a plane, a sphere or a box, whose section turns"
    for name in ("normal", "center", "velocity", "angular_velocity", "orientation"):
        place = getattr(collider, name, (0.0, 0.0, 0.0))
        aside = place[1:] if name == "orientation" else place if name == "angular_velocity" else (place[0], place[2])
        if any(aside):
            return f"{name}: got {list(place)}"
    if collider.path is not None and {"shift.0", "shift.2", "x", "z"} & set(collider.path.columns):
        return "path.columns: it goes along y alone"
    return None
