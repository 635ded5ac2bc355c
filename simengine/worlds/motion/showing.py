"""Pictures of saved states, and of files: balls, a surface around them, or pyvista; coloured by a field, with axes."""

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simengine.io import write
from simengine.io.arrays import read_npz
from simengine.io.geometry.splats import is_splats, read_splats
from simengine.io.image import to_srgb8
from simengine.render import (
    DirectionalLight,
    Look,
    PinholeCamera,
    SurfelRenderer,
    TexturedMesh,
    TransferFunction,
    orbit,
    render_mesh,
    render_volume,
)
from simengine.render.particle_surface import particle_surface
from simengine.render.particles import neighbour_distance
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.strict import nearest
from simengine.view.offscreen import missing_gl, pyvista_frames
from simengine.view.overlay import field_colours, field_limits, with_axes, with_colour_bar
from simengine.worlds.motion.world import MPMWorld

STYLES = ("balls", "surface", "pyvista")
LIGHT = (0.5, 0.9, 0.7)  # where the light of surfaces comes from
BACKGROUND = Look().background
MOVING = (".mp4", ".gif")
MOST_SPLATS = 50_000  # of three scales
FEW_SPLATS = 0.01  # share at each end of an axis that may lie beyond the picture


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


def show_states(
    scene: MPMWorld,
    run: Path,
    file: Path,
    *,
    style: str,
    field: str | None,
    axes: bool,
    fps: float,
    size: tuple[int, int] | None = None,
    samples: int = 2,
) -> Path:
    """Picture the saved states of a run.

    Args:
        scene: What ran.
        run: Its directory.
        file: What to write; a still is of the last state.
        style: Of `STYLES`.
        field: Start of the name of one of `state_fields`; None for the colours of the bodies.
        axes: Whether to draw the edges of the domain with ticks.
        fps: Of a video.
        size: Columns and rows; None for those of the scene's camera.
        samples: Along each side of a pixel, of the style `surface`.
    """
    if style not in STYLES:
        raise SceneError(f"style: {style!r} is none; {nearest(style, STYLES)}")
    states = read_states(run)
    chosen = slice(None) if file.suffix.lower() in MOVING else slice(-1, None)
    spec = scene.camera if size is None else dataclasses.replace(scene.camera, width=size[0], height=size[1])
    camera = spec.pinhole()
    x = states["x"][chosen]
    limits, title = None, ""
    if field is None:
        _, _, ids = scene.particles()
        colours = np.broadcast_to(np.array([body.color for body in scene.bodies])[ids], x.shape)
    else:
        title, values = _find_field(state_fields(states), field)
        limits = field_limits(values)
        colours = field_colours(values[chosen], limits)
    if style == "pyvista" and (reason := missing_gl()) is not None:
        print(f"pyvista cannot draw here ({reason}); drawing balls without it", file=sys.stderr)
        style = "balls"
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
    elif style == "surface":
        frames = np.stack([_surface(p, c, camera, samples) for p, c in zip(x, colours, strict=True)])
    else:
        with torch.no_grad():
            drawn = SurfelRenderer(camera)(torch.as_tensor(x).float(), colours=torch.tensor(colours).float())
        frames = to_srgb8(drawn)
    if axes:
        frames = _with_domain(frames, camera, scene.grid.length)
    if limits is not None:
        frames = with_colour_bar(frames, limits, title)
    return _write(file, frames, fps=fps)


def show_file(source: Path, file: Path, *, style: str, fps: float, size: tuple[int, int] | None = None) -> Path:
    """Picture a file: a mesh, splats, or an .npz: particles `x` (n, 3) or (k, n, 3), or a grid `density` (nx, ny, nz).

    A still is seen from one side; a video of what does not move goes around it.
    """
    views, size = 48 if file.suffix.lower() in MOVING else 1, size or (480, 480)
    if source.suffix.lower() == ".ply" and is_splats(source):
        return _write(file, _splats(source, views, size), fps=fps)
    if source.suffix.lower() != ".npz":
        from simengine.io.geometry.mesh_file import read_mesh

        vertices, faces = (torch.as_tensor(array) for array in read_mesh(source))
        mesh = TexturedMesh(
            vertices=vertices.float(), faces=faces, texture=torch.full((len(vertices), 3), 0.6), smooth=False
        )
        return _write(file, _around(mesh, views, size), fps=fps)
    arrays = read_npz(source)
    if "density" in arrays:
        return _write(file, _cloud(arrays["density"], views, source, size), fps=fps)
    x = arrays.get("x")
    if x is None:
        raise SceneError(
            f"{source}: expected particles x of shape (n, 3) or (frames, n, 3), or a grid density (nx, ny, nz); "
            f"it holds {', '.join(arrays) or 'nothing'}"
        )
    if x.ndim not in (2, 3) or x.shape[-1] != 3:
        raise SceneError(f"{source}: x: expected shape (n, 3) or (frames, n, 3), got {x.shape}")
    if 0 in x.shape:
        raise SceneError(f"{source}: x of shape {x.shape} holds no particles, so there is nothing to picture")
    if not np.isfinite(x).all():
        raise SceneError(f"{source}: x: {int((~np.isfinite(x)).any(-1).sum())} positions are not finite")
    frames = torch.as_tensor(x).float().reshape(-1, *x.shape[-2:])
    frames = frames if views > 1 else frames[-1:]
    if style == "surface":
        colour = torch.tensor([0.1, 0.3, 0.7])
        mesh = particle_surface(frames[-1], colours=colour.expand(frames.shape[1], 3))
        return _write(file, _around(mesh, views, size), fps=fps)
    low, high = frames.amin((0, 1)), frames.amax((0, 1))
    camera = _cameras(low, high, 1, size)[0]
    with torch.no_grad():
        return _write(file, to_srgb8(SurfelRenderer(camera)(frames)), fps=fps)


def _splats(source: Path, views: int, size: tuple[int, int]) -> np.ndarray:
    """Pictures of splats over black, in the values that their file holds, (views, h, w, 3) of 8 bits."""
    from simengine.render.splats import Splats, render_splats
    from simengine.render.surfels import render_surfels

    splats = Splats.of(read_splats(source), dtype=torch.float32)
    count, flat = len(splats.positions), splats.scales.shape[1] == 2
    if not count:
        raise SceneError(f"{source}: it holds no splats, so there is nothing to picture")
    if not flat and count > MOST_SPLATS:
        raise SceneError(
            f"{source}: {count} Gaussians of three scales, and a picture costs splats times pixels; expected "
            f"{MOST_SPLATS} at most (flat ones, with two scales, may be millions)"
        )
    far = torch.tensor([FEW_SPLATS, 1 - FEW_SPLATS])  # splats far off do not make the rest small
    low, high = torch.quantile(splats.positions[:: max(count // 10**6, 1)], far, dim=0)
    pictures = []
    with torch.no_grad():
        cameras = _cameras(low, high, views, size)
        for camera in (cameras[k] for k in range(views)):
            if flat:
                own = splats.surfels(camera.position)
                pictures.append(render_surfels(own, camera, normals=False, num_threads=2).rgb)
            else:
                pictures.append(render_splats(splats, camera))
    return (255 * torch.stack(pictures).clamp(0, 1)).round().to(torch.uint8).numpy()


def _find_field(fields: dict[str, np.ndarray], name: str) -> tuple[str, np.ndarray]:
    found = next((title for title in fields if title.lower().startswith(name.lower())), None)
    if found is None:
        raise SceneError(f"field: {name!r} is none of this run; {nearest(name, fields)}")
    return found, fields[found]


def _surface(x: np.ndarray, colours: np.ndarray, camera: PinholeCamera, samples: int) -> np.ndarray:
    mesh = particle_surface(torch.as_tensor(x).float(), colours=torch.tensor(colours).float())
    light = DirectionalLight(direction=torch.tensor(LIGHT), irradiance=torch.tensor(2.2))
    look: dict[str, Any] = {"roughness": 0.4, "ambient": 0.4, "background": torch.tensor(BACKGROUND)}
    with torch.no_grad():
        image = render_mesh(mesh, camera, lights=[light], samples=samples, **look)
    return to_srgb8(image.rgb)


def _cameras(low: torch.Tensor, high: torch.Tensor, views: int, size: tuple[int, int]) -> PinholeCamera:
    """Cameras around a box that all of it fits into."""
    middle, across = (low + high) / 2, float((high - low).norm().clamp_min(1e-6))
    return orbit(
        views,
        radius=1.5 * across,
        target=tuple(middle.tolist()),
        elevation=0.4,
        fov_y=math.radians(42),
        width=size[0],
        height=size[1],
    )


def _around(mesh: TexturedMesh, views: int, size: tuple[int, int]) -> np.ndarray:
    if not len(mesh.faces):
        raise SceneError("the mesh has no triangles, so there is nothing to picture")
    cameras = _cameras(mesh.vertices.amin(0), mesh.vertices.amax(0), views, size)
    light = DirectionalLight(direction=torch.tensor(LIGHT), irradiance=torch.tensor(2.2))
    options: dict[str, Any] = {"lights": [light], "ambient": 0.3, "background": torch.tensor(BACKGROUND)}
    with torch.no_grad():
        return np.stack([to_srgb8(render_mesh(mesh, cameras[k], **options)) for k in range(views)])


def _cloud(density: np.ndarray, views: int, source: Path, size: tuple[int, int]) -> np.ndarray:
    """A grid from transparent and dark to dense and bright, with the bar of its values."""
    if density.ndim != 3 or 0 in density.shape:
        raise SceneError(f"{source}: density: expected shape (nx, ny, nz), got {density.shape}")
    try:
        limits = field_limits(density)
    except ValueError as error:
        raise SceneError(f"{source}: density: {error}") from None
    shares = np.linspace(0, 1, 33)
    function = TransferFunction(
        values=torch.tensor(shares).float(),
        density=6 * torch.linspace(0, 1, 33),
        source=torch.tensor(field_colours(shares, (0.0, 1.0))).float(),
    )
    field = torch.as_tensor((density.astype(float) - limits[0]) / (limits[1] - limits[0])).float()
    half = torch.tensor(density.shape).float() / max(density.shape)
    volume = function(field, lower=-half, upper=half)
    cameras = _cameras(-half, half, views, size)
    with torch.no_grad():
        frames = [render_volume(volume, cameras[k], background=torch.tensor(BACKGROUND)).rgb for k in range(views)]
    return with_colour_bar(to_srgb8(torch.stack(frames)), limits, "density")


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


def _write(file: Path, frames: np.ndarray, *, fps: float) -> Path:
    if file.suffix.lower() in MOVING:
        return write(file, frames, fps=fps)
    if file.suffix.lower() == ".exr":
        linear = frames[-1] / 255.0
        return write(file, np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4))
    return write(file, frames[-1])
