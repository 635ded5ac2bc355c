"""Pictures of the states that a run saved."""

import dataclasses
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from simengine.io.arrays import read_npz
from simengine.io.image import to_srgb8
from simengine.render import PinholeCamera
from simengine.render.looks.shelter import Floor
from simengine.render.meshes import TexturedMesh
from simengine.render.particles import neighbour_distance
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.strict import nearest
from simengine.solve.rotation import rotation_matrix
from simengine.view.offscreen import missing_gl, pyvista_frames
from simengine.view.overlay import (
    field_colours,
    field_limits,
    times_told,
    with_axes,
    with_captions,
    with_colour_bar,
)
from simengine.worlds.motion.room import ground
from simengine.worlds.motion.showing.drawing import BACKGROUND, MOVING, Drawing, Pictured, pictured, write_pictures
from simengine.worlds.motion.specs import CameraSpec
from simengine.worlds.motion.start.sections import edges
from simengine.worlds.motion.world import MPMWorld


def motion_of(scene: AbstractWorld) -> MPMWorld | None:
    """The moving bodies that a run of a scene saved; None where nothing moves."""
    made = getattr(scene, "experiment", None)  # of a kind that describes the motion it makes
    scene = made() if callable(made) else scene
    return scene if isinstance(scene, MPMWorld) else None


def state_fields(states: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numbers of each particle to colour it by, name with unit -> (k, n), from saved states."""
    fields = {"height y [m]": states["x"][..., 1]}
    if "v" in states:
        fields["speed [m/s]"] = np.linalg.norm(states["v"], axis=-1)
    if "F" in states:
        fields["volume ratio J [1]"] = np.linalg.det(states["F"].astype(float))
    return fields


def read_states(run: Path) -> dict[str, np.ndarray]:
    """The saved states of a run directory.

    Raises:
        SceneError: There are none, or none that can be pictured.
    """
    file = run / "states.npz"
    if not file.is_file():
        raise SceneError(f"{run}: no states.npz there; `simengine run` of a scene of kind mpm writes one")
    states = read_npz(file)
    x = states.get("x")
    if x is None or x.ndim != 3 or x.shape[2] != 3 or not x.shape[0] or not np.isfinite(x).all():
        raise SceneError(f"{file}: expected finite positions x of shape (frames, n, 3)")
    return states


def show_states(scene: MPMWorld, run: Path, file: Path, how: Pictured) -> Path:
    """Picture the saved states of a run.

    Args:
        scene: What ran.
        run: Its directory.
        file: What to write; a still, or a turn around, is of the last state.
        how: How.

    Raises:
        SceneError: There is nothing to picture, or not so.
    """
    how.fits(file)
    if how.panorama is not None and how.style != "surface":
        raise SceneError("--light: it falls on surfaces; say --style surface")
    if how.floor and how.style != "surface":
        raise SceneError("--floor: it catches the shadow of surfaces; say --style surface")
    states = read_states(run)
    moving = file.suffix.lower() in MOVING and not how.turntable
    chosen = slice(None) if moving else slice(-1, None)
    spec = scene.camera
    if how.size is not None:
        spec = dataclasses.replace(spec, width=how.size[0], height=how.size[1])
    x = states["x"][chosen]
    limits, title = None, ""
    if how.field is None:
        _, _, ids = scene.particles()
        colours = np.broadcast_to(np.array([body.color for body in scene.bodies])[ids], x.shape)
    else:
        title, values = _find_field(state_fields(states), how.field)
        limits = field_limits(values)
        colours = field_colours(values[chosen], limits)
    style = how.style
    if style == "pyvista" and (reason := missing_gl()) is not None:
        print(f"pyvista cannot draw here ({reason}); drawing balls without it", file=sys.stderr)
        style = "balls"
    cameras = _turned(spec, how.turntable) if how.turntable else [spec.pinhole()] * len(x)
    if style == "pyvista":
        frames = pyvista_frames(
            x,
            to_srgb8(colours),
            radius=0.7 * neighbour_distance(torch.as_tensor(x[0])),
            eye=spec.eye,
            target=spec.target,
            up=spec.up,
            fov_y=spec.field_of_view,
            size=(spec.width, spec.height),
            background=(to_srgb8(np.array(BACKGROUND).reshape(1, 1, 3)).ravel() / 255).tolist(),
        )
    else:
        surface = _surfaces(scene, x.shape[1], colour=how.field is not None) if style == "surface" else None
        drawing = Drawing(x, colours, dataclasses.replace(how, style=style), surface, _floor(scene))
        frames = pictured(how, lambda background: drawing(cameras, background))
    if how.axes:
        frames = np.stack([_with_domain(f, c, scene.grid.length) for f, c in zip(frames, cameras, strict=True)])
    if how.caption:
        frames = with_captions(frames, _captions(states, run, chosen, len(frames)))
    if limits is not None:
        frames = with_colour_bar(frames, limits, title)
    return write_pictures(file, frames, fps=how.fps)


def _surfaces(
    scene: MPMWorld, count: int, *, colour: bool
) -> Callable[[torch.Tensor, torch.Tensor], TexturedMesh] | None:
    """What makes the surfaces of bodies from particles; None where these are not the scene's own, or have no surface.

    Bodies that hold together keep the surface they began with, corners and materials included.

    Args:
        scene: What ran.
        count: Particles of its states.
        colour: Whether the colours of the particles are shown, in place of the bodies' looks.
    """
    from simengine.worlds.motion.view import MotionViewer, skins_of

    x, volumes, ids = (torch.as_tensor(array) for array in scene.particles())
    if len(ids) != count:
        return None
    spacing = tuple(float(edges(scene, x, volumes)[ids == k].mean()) for k in range(len(scene.bodies)))
    try:
        viewer = MotionViewer(scene, skins_of(scene), ids, spacing)
    except SceneError:
        return None
    return lambda x, colours: viewer.solid(x.double(), colours.double() if colour else None)


def _floor(scene: MPMWorld) -> Floor:
    """The wall that gravity points to."""
    up, height = ground(scene)
    return Floor(up.float(), height)


def _captions(states: dict[str, np.ndarray], run: Path, chosen: slice, count: int) -> list[str]:
    """The times of the pictures; one for all of a turn around.

    Raises:
        SceneError: The states have none.
    """
    times = states.get("time")
    if times is None or len(times) != len(states["x"]):
        raise SceneError(f"--caption: {run / 'states.npz'} tells no times")
    told = times_told(times)[chosen]
    return told * count if len(told) == 1 else told


def _turned(spec: CameraSpec, count: int) -> list[PinholeCamera]:
    """Cameras evenly around what a camera looks at, about what is up; the first is that camera."""
    eye, target, up = (torch.tensor(v, dtype=torch.float64) for v in (spec.eye, spec.target, spec.up))
    axis = torch.nn.functional.normalize(up, dim=0)
    turns = [rotation_matrix(2 * math.pi * k / count * axis) for k in range(count)]
    eyes = [(target + turn @ (eye - target)).tolist() for turn in turns]
    return [dataclasses.replace(spec, eye=tuple(place)).pinhole() for place in eyes]


def _find_field(fields: dict[str, np.ndarray], name: str) -> tuple[str, np.ndarray]:
    found = next((title for title in fields if title.lower().startswith(name.lower())), None)
    if found is None:
        raise SceneError(f"field: {name!r} is none of this run; {nearest(name, fields)}")
    return found, fields[found]


def _with_domain(frames: np.ndarray, camera: PinholeCamera, length: float) -> np.ndarray:
    """The far edges of the cube [0, length]^3 with ticks, behind what is pictured."""
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    closest = corners[(camera.position / length - corners).norm(dim=1).argmin()]
    lines, labels = [], []
    for a in corners:
        for axis in range(3):
            b = a.clone()
            b[axis] = 1
            if a[axis] == 0 and not (a == closest).all() and not (b == closest).all():
                lines.append(torch.stack([a, b]))
    for axis, name in enumerate("xyz"):
        # along the lower edge at the far side of the other axes
        for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
            place = torch.where(torch.arange(3) == 1, 0.0, 1 - closest)
            place[axis] = share
            labels.append((place, f"{name} {share * length:g} m"))
    ends = camera.project(length * torch.stack(lines).reshape(-1, 3)).reshape(-1, 2, 3)
    ahead = (ends[..., 2] > 0).all(1)
    spots = camera.project(length * torch.stack([place for place, _ in labels]))
    texts = [(spot[:2].tolist(), text) for spot, (_, text) in zip(spots, labels, strict=True) if float(spot[2]) > 0]
    empty = (frames == to_srgb8(np.array(BACKGROUND).reshape(1, 1, 3))).all(-1, keepdims=True)
    return np.where(empty, with_axes(frames, ends[ahead][..., :2], texts), frames)
