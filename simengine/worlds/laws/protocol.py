"""The scenes of NCLaw's protocol beyond one cube thrown on one grid: other bodies, slopes, contacts, mixtures, melting.

Sizes: the published ones where `full`, else coarser grids and shorter motions that one core does in a minute or two.
What is not published (the shape and place of some bodies) is chosen here.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from simengine.worlds.laws.world import CENTER, NCLawWorld
from simengine.worlds.motion.materials import MaterialSpec
from simengine.worlds.motion.melting import MeltingSpec, MeltingWorld
from simengine.worlds.motion.shapes import BoxShape, MeshShape, Shape, TorusShape
from simengine.worlds.motion.specs import BodySpec, GridSpec, OutputSpec
from simengine.worlds.motion.world import MPMWorld

MESHES = {"sand": "blub.obj", "water": "spot.obj"}  # published bodies of the geometry test
MESH_SIZE = 0.8  # as published, shrunk where it would reach into the walls
MILLION = (100, 100, 100)
TIME_STEP = 5e-4
COLORS = {
    "jelly": (0.7, 0.15, 0.15),
    "sand": (0.62, 0.42, 0.18),
    "plasticine": (0.2, 0.5, 0.25),
    "water": (0.1, 0.3, 0.75),
}


def geometry(scene: NCLawWorld, *, meshes: Path | None = None) -> MPMWorld:
    """Another body on the finer grid, 2000 steps.

    Args:
        scene: Of the material.
        meshes: Folder with the published bodies; without it, and for materials without one, a torus is thrown.
    """
    name = MESHES.get(scene.material.type)
    shape: Shape = TorusShape(center=CENTER, major_radius=0.2, minor_radius=0.09)
    if meshes is not None and name is not None:
        shape = MeshShape(file=meshes / name, center=CENTER, size=MESH_SIZE)
    return scene.experiment(
        velocity=(1.0, -1.5, -1.5),
        angular_velocity=(1.0, 1.0, 1.0),
        shape=shape,
        num_grids=32,
        epsilon=0.0,
        num_steps=2000,
    )


def slope(material: MaterialSpec, *, full: bool = False) -> MPMWorld:
    """A block on an inclined plane: gravity leans by 41 degrees against the floor."""
    body = _box("block", material, (0.5, 0.2, 0.35), (0.4, 0.25, 0.4), density=5e3, particles=2 if full else 1)
    grid = _grid(128 if full else 32, 1500 if full else 750)
    return MPMWorld(grid=grid, gravity=(0.0, -1.0, 0.866), bodies=(body,), output=OutputSpec(save_every=5))


def contact(materials: Mapping[str, MaterialSpec], *, full: bool = False) -> MPMWorld:
    """Four bodies, one of each material (repeated where there are fewer), that meet in the middle."""
    names = [list(materials)[k % len(materials)] for k in range(4)]
    places = ((0.3, 0.5, 0.3), (0.7, 0.5, 0.3), (0.7, 0.5, 0.7), (0.3, 0.5, 0.7))
    bodies = []
    for name, place in zip(names, places, strict=True):
        inward = tuple(2.0 if c < 0.5 else -2.0 for c in place)
        body = _box(name, materials[name], place, (0.25, 0.25, 0.25), particles=2 if full else 1)
        bodies.append(dataclasses.replace(body, velocity=(inward[0], 0.0, inward[2])))
    return MPMWorld(grid=_grid(32, 1000), bodies=tuple(bodies), output=OutputSpec(save_every=5))


def pool(body: MaterialSpec, liquid: MaterialSpec, *, full: bool = False) -> MPMWorld:
    """A body that falls into a basin."""
    particles = 2 if full else 1
    water = _box("liquid", liquid, (0.5, 0.25, 0.5), (0.85, 0.3, 0.85), particles=particles)
    cube = _box("body", body, (0.5, 0.65, 0.5), (0.25, 0.25, 0.25), density=3e3, particles=particles)
    grid = _grid(64 if full else 32, 3000 if full else 1500)
    return MPMWorld(grid=grid, bodies=(water, cube), output=OutputSpec(save_every=5))


def melting(solid: MaterialSpec, molten: MaterialSpec, *, full: bool = False) -> MeltingWorld:
    """A block that changes its law from below between steps 500 and 1500 of 2000."""
    body = _box("block", solid, (0.5, 0.4, 0.5), (0.4, 0.6, 0.4), particles=2 if full else 1)
    spec = MeltingSpec(into=molten, first_step=500, last_step=1500)
    grid = _grid(64 if full else 32, 2000)
    return MeltingWorld(grid=grid, bodies=(body,), melting=spec, output=OutputSpec(save_every=5))


def million(scene: NCLawWorld, *, num_steps: int = 200) -> MPMWorld:
    """The training's cube of one million particles on the finest grid; it meets the floor at about step 130."""
    cube = BoxShape(center=CENTER, size=(0.5, 0.5, 0.5), counts=MILLION)
    return scene.experiment(shape=cube, num_grids=64, epsilon=0.0, num_steps=num_steps)


def _grid(num_grids: int, num_steps: int) -> GridSpec:
    return GridSpec(num_grids=num_grids, time_step=TIME_STEP, num_steps=num_steps)


def _box(
    name: str,
    material: MaterialSpec,
    center: tuple[float, float, float],
    size: tuple[float, float, float],
    *,
    particles: int,
    density: float | None = None,
) -> BodySpec:
    if density is not None:
        material = dataclasses.replace(material, density=density)
    color = COLORS.get(material.type, COLORS.get(name, (0.3, 0.3, 0.3)))
    shape = BoxShape(center=center, size=size)
    return BodySpec(name=name, shape=shape, material=material, particles_per_cell=particles, color=color)
