"""Pictures of files: a mesh, splats, particles, a grid."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from simengine.io.arrays import read_npz
from simengine.io.geometry.splats import is_splats, read_splats
from simengine.render import TexturedMesh, TransferFunction, Volume, render_volume
from simengine.render.looks.shelter import Floor
from simengine.render.particle_surface import particle_surface
from simengine.render.particles import DEFAULT_COLOUR
from simengine.scene.base import SceneError
from simengine.view.overlay import field_colours, field_limits, with_colour_bar
from simengine.worlds.motion.painted import painted_mesh
from simengine.worlds.motion.showing.drawing import (
    MOVING,
    Background,
    Drawing,
    Pictured,
    cameras_around,
    pictured,
    surface_picture,
    write_pictures,
)

TURN = 48  # pictures around what stands still
MOST_SPLATS = 50_000  # of three scales
FEW_SPLATS = 0.01  # share at each end of an axis that may lie beyond the picture


def show_file(source: Path, file: Path, how: Pictured) -> Path:
    """Picture a file: a mesh, splats, or an .npz: particles `x` (n, 3) or (k, n, 3), or a grid `density` (nx, ny, nz).

    A grid that has `colour` (nx, ny, nz, 3), and perhaps the corners `lower` and `upper`, is shown in its own light.
    A still is seen from one side; a video of what does not move goes around it.

    Raises:
        SceneError: There is nothing to picture, or not so.
    """
    how.fits(file)
    if how.field is not None or how.axes or how.caption:
        raise SceneError("--field, --axes and --caption are of run directories; a file has none of these")
    moving, size = file.suffix.lower() in MOVING, how.size or (480, 480)
    views = (how.turntable or TURN) if moving else 1
    surface = how.style == "surface" or source.suffix.lower() != ".npz"
    if how.panorama is not None and (not surface or (source.suffix.lower() == ".ply" and is_splats(source))):
        raise SceneError("--light: it falls on meshes, and on particles pictured with --style surface")
    if how.floor and (not surface or (source.suffix.lower() == ".ply" and is_splats(source))):
        raise SceneError("--floor: it catches the shadow of meshes, and of particles pictured with --style surface")
    if source.suffix.lower() == ".ply" and is_splats(source):
        if how.transparent:
            raise SceneError("--transparent: splats are pictured over black, as their file means them")
        return write_pictures(file, _splats(source, views, size), fps=how.fps)
    if source.suffix.lower() != ".npz":
        mesh = _mesh_of(source)
        drawn = pictured(how, lambda background: _around(mesh, views, size, background, how))
        return write_pictures(file, drawn, fps=how.fps)
    arrays = read_npz(source)
    if "colour" in arrays and "density" in arrays:
        return write_pictures(file, _coloured_cloud(arrays, views, source, size, how), fps=how.fps)
    if "density" in arrays:
        return write_pictures(file, _cloud(arrays["density"], views, source, size, how), fps=how.fps)
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
    around = how.turntable > 0 or (how.style == "surface" and moving)
    frames = frames if moving and not around else frames[-1:]
    if how.style == "surface":
        colour = torch.tensor([0.1, 0.3, 0.7])
        mesh = particle_surface(frames[-1], colours=colour.expand(frames.shape[1], 3))
        drawn = pictured(how, lambda background: _around(mesh, views, size, background, how))
        return write_pictures(file, drawn, fps=how.fps)
    cameras = cameras_around(frames.amin((0, 1)), frames.amax((0, 1)), views if around else 1, size)
    drawing = Drawing(frames.numpy(), np.broadcast_to(DEFAULT_COLOUR, frames.shape), how)
    every = [cameras[k] for k in range(views)] if around else [cameras[0]] * len(frames)
    return write_pictures(file, pictured(how, lambda background: drawing(every, background)), fps=how.fps)


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
        cameras = cameras_around(low, high, views, size)
        for camera in (cameras[k] for k in range(views)):
            if flat:
                own = splats.surfels(camera.position)
                pictures.append(render_surfels(own, camera, normals=False, num_threads=2).rgb)
            else:
                pictures.append(render_splats(splats, camera))
    return (255 * torch.stack(pictures).clamp(0, 1)).round().to(torch.uint8).numpy()


def _around(
    mesh: TexturedMesh, views: int, size: tuple[int, int], background: Background, how: Pictured
) -> torch.Tensor:
    """Linear light (views, h, w, 3) from all sides."""
    if not len(mesh.faces):
        raise SceneError("the mesh has no triangles, so there is nothing to picture")
    cameras = cameras_around(mesh.vertices.amin(0), mesh.vertices.amax(0), views, size)
    floor = Floor(torch.tensor([0.0, 1.0, 0.0]), float(mesh.vertices[:, 1].min()))
    with torch.no_grad():
        pictures = [surface_picture(mesh, cameras[k], how, background, floor, 0.3) for k in range(views)]
    return torch.stack(pictures).float()


def _mesh_of(source: Path) -> TexturedMesh:
    """A mesh with what its file says of its materials, if it is glTF that can be read so; else grey."""
    from simengine.io.geometry.gltf import SUFFIXES, read_gltf
    from simengine.io.geometry.mesh_file import read_mesh

    if source.suffix.lower() in SUFFIXES:
        try:
            return painted_mesh(read_gltf(source), dtype=torch.float32)
        except ValueError as error:
            print(f"shown without its materials: {error}", file=sys.stderr)
    vertices, faces = (torch.as_tensor(array) for array in read_mesh(source))
    return TexturedMesh(
        vertices=vertices.float(), faces=faces, texture=torch.full((len(vertices), 3), 0.6), smooth=False
    )


def _cloud(density: np.ndarray, views: int, source: Path, size: tuple[int, int], how: Pictured) -> np.ndarray:
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
    cameras = cameras_around(-half, half, views, size)

    def drawn(background: Background) -> torch.Tensor:
        with torch.no_grad():
            own = torch.tensor(background)
            return torch.stack([render_volume(volume, cameras[k], background=own).rgb for k in range(views)])

    return with_colour_bar(pictured(how, drawn), limits, "density")


def _coloured_cloud(
    arrays: Mapping[str, np.ndarray], views: int, source: Path, size: tuple[int, int], how: Pictured
) -> np.ndarray:
    """A grid of densities [1/m] and linear colours, in its own light."""
    density, colour = arrays["density"], arrays["colour"]
    if density.ndim != 3 or 0 in density.shape or colour.shape != (*density.shape, 3):
        raise SceneError(
            f"{source}: expected density (nx, ny, nz) and colour (nx, ny, nz, 3), "
            f"got {density.shape} and {colour.shape}"
        )
    half = np.array(density.shape) / max(density.shape)
    lower, upper = (torch.as_tensor(arrays.get(k, v)).float() for k, v in (("lower", -half), ("upper", half)))
    try:
        volume = Volume(
            density=torch.as_tensor(density).float(), source=torch.as_tensor(colour).float(), lower=lower, upper=upper
        )
    except ValueError as error:
        raise SceneError(f"{source}: {error}") from None
    cameras = cameras_around(lower, upper, views, size)

    def drawn(background: Background) -> torch.Tensor:
        with torch.no_grad():
            own = torch.tensor(background)
            return torch.stack([render_volume(volume, cameras[k], background=own).rgb for k in range(views)])

    return pictured(how, drawn)
