"""What moves in a run as surfaces with their motion, for other programs."""

from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from simengine.io.arrays import read_npz
from simengine.io.geometry.glb import MovingBody
from simengine.render.solid_surfaces import ball_surface, box_surface, revolved_surface
from simengine.scene.base import AbstractWorld, SceneError
from simengine.worlds.motion.colliders import (
    BoxCollider,
    CapsuleCollider,
    ColliderSpec,
    MeshCollider,
    PlaneCollider,
    SphereCollider,
)
from simengine.worlds.motion.rigid.world import RigidWorld
from simengine.worlds.motion.shapes import MeshShape
from simengine.worlds.motion.showing.states import motion_of, read_states
from simengine.worlds.motion.view import skins_of
from simengine.worlds.motion.world import MPMWorld

BALL = (0.1, 0.3, 0.7)  # of a body without a colour
COLLIDER = (0.4, 0.4, 0.4)
CAP = 7  # corners of the profile of a round end
Triangles = tuple[torch.Tensor, torch.Tensor]


def moving_bodies(scene: AbstractWorld, run: Path) -> tuple[list[MovingBody], np.ndarray]:
    """The bodies of a run, and the times of its states (states,) [s].

    Bodies that hold together are the surface that they began with, carried by their particles; what flows or falls
    apart is its particles. Balls that do not deform, and colliders, are solids in frames that move; planes are left
    out.

    Args:
        scene: What ran.
        run: Its directory.

    Raises:
        SceneError: The run has no states of this scene, or a body has no surface that can be bound.
    """
    if isinstance(scene, RigidWorld):
        return _balls(scene, run)
    moving = motion_of(scene)
    if moving is None:
        raise SceneError(f"--surfaces: of bodies that move, not of a run of kind {scene.kind!r}")
    states = read_states(run)
    x, times = torch.as_tensor(states["x"]).double(), states.get("time", np.arange(len(states["x"])))
    _, _, ids = (torch.as_tensor(array) for array in moving.particles())
    if len(ids) != x.shape[1]:
        raise SceneError(f"--surfaces: {run} holds {x.shape[1]} particles, and its scene has {len(ids)}")
    found = []
    for k, (body, skin) in enumerate(zip(moving.bodies, skins_of(moving), strict=True)):
        faces = None if skin is None else skin.faces.numpy()
        # a state at a time, since 48 particles carry each vertex
        places = x[:, ids == k] if skin is None else torch.stack([skin.carried(state) for state in x])
        found.append(MovingBody(x=places.numpy(), faces=faces, colour=body.color, name=body.name or f"body {k}"))
    return found + [part for k, own in enumerate(moving.colliders) for part in _collider(moving, own, k, times)], times


def _balls(scene: RigidWorld, run: Path) -> tuple[list[MovingBody], np.ndarray]:
    file = run / "motion.npz"
    if not file.is_file():
        raise SceneError(f"{run}: no motion.npz there; `simengine run` of a scene of kind rigid writes one")
    motion, found = read_npz(file), []
    for k, body in enumerate(scene.bodies):
        vertices, faces = ball_surface(body.shape.radius, edge=body.shape.radius / 4)
        found.append(
            MovingBody(
                x=vertices[None].numpy(),
                faces=faces.numpy(),
                colour=BALL,
                name=body.name,
                shift=motion["x"][:, k],
                turn=_quaternions(motion["turn"][:, k]),
            )
        )
    return found, motion["time"]


def _collider(scene: MPMWorld, own: ColliderSpec, number: int, times: np.ndarray) -> list[MovingBody]:
    """A collider in its frame; none of a plane, which has no end."""
    if isinstance(own, PlaneCollider):
        return []
    vertices, faces = _solid(own)
    with torch.no_grad():
        rows = own.make({}).rows(torch.as_tensor(times, dtype=torch.float64), scene.grid.dx).numpy()
    return [
        MovingBody(
            x=vertices[None].numpy(),
            faces=faces.numpy(),
            colour=COLLIDER,
            name=own.name or f"collider {number}",
            shift=rows[:, :3],
            turn=_quaternions(rows[:, 3:12].reshape(-1, 3, 3)),
        )
    ]


def _solid(own: SphereCollider | BoxCollider | CapsuleCollider | MeshCollider) -> Triangles:
    """The surface of a collider in its frame: vertices (v, 3) [m] and triangles (f, 3)."""
    if isinstance(own, SphereCollider):
        return ball_surface(own.radius, edge=own.radius / 4)
    if isinstance(own, BoxCollider):
        size = 2 * torch.tensor(own.half_size, dtype=torch.float64)
        return box_surface(size, edge=float(size.max()))
    if isinstance(own, MeshCollider):
        placed = MeshShape(file=own.file, center=(0.0, 0.0, 0.0), size=own.size).triangles()
        return torch.as_tensor(placed[0]), torch.as_tensor(placed[1])
    turns = np.linspace(0, np.pi / 2, CAP)
    upper = [(own.radius * float(np.cos(t)), own.half_length + own.radius * float(np.sin(t))) for t in turns[:-1]]
    profile = [(0.0, -own.half_length - own.radius), *((r, -y) for r, y in reversed(upper)), *upper]
    profile.append((0.0, own.half_length + own.radius))
    vertices, faces = revolved_surface(profile, edge=own.radius / 4)
    return vertices[:, [2, 0, 1]], faces  # turned about y there, and about the third axis here


def _quaternions(turn: np.ndarray) -> np.ndarray:
    """Quaternions xyzw (k, 4) of rotations (k, 3, 3), each on the side of the one before."""
    found = np.asarray(Rotation.from_matrix(turn).as_quat())
    flips = np.where((found[1:] * found[:-1]).sum(-1) < 0, -1.0, 1.0).cumprod()
    found[1:] *= flips[:, None]
    return found
