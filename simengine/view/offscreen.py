"""Pictures of particles by pyvista (VTK) off screen, where this machine has a usable GL."""

import functools
import importlib.util
import os
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simengine.io.child import run_python

_PROBE = (
    "import pyvista; p = pyvista.Plotter(off_screen=True, window_size=(8, 8)); p.add_mesh(pyvista.Sphere()); p.show()"
)


@functools.cache
def missing_gl() -> str | None:
    """Why pyvista cannot draw here, None where it can. Asked in a process of its own: without a usable GL VTK dies."""
    if importlib.util.find_spec("pyvista") is None:
        return "it is not installed; pip install 'simengine[view]'"
    environment = {**os.environ, "VTK_DEFAULT_OPENGL_WINDOW": "vtkEGLRenderWindow"}
    try:
        done = run_python(_PROBE, seconds=120, environment=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__} while it was tried"
    if done.returncode == 0:
        return None
    return f"VTK ended with {done.returncode}; Debian: apt-get install libegl1 libgl1-mesa-dri"


def pyvista_frames(
    positions: Any,
    colours: Any,
    *,
    radius: float,
    eye: Sequence[float],
    target: Sequence[float],
    up: Sequence[float],
    fov_y: float,
    size: tuple[int, int],
    background: Sequence[float],
) -> NDArray[np.uint8]:
    """Frames of shaded balls.

    Args:
        positions: [m], shape (k, n, 3).
        colours: 8-bit sRGB, shape (k, n, 3).
        radius: Of a ball [m].
        eye: Position of the camera [m].
        target: What it looks at [m].
        up: What is up in the picture.
        fov_y: Vertical field of view [degrees].
        size: Width and height [pixel].
        background: sRGB in [0, 1].

    Returns:
        8-bit sRGB, shape (k, h, w, 3).

    Raises:
        RuntimeError: There is no usable GL.
    """
    reason = missing_gl()
    if reason is not None:
        raise RuntimeError(f"pyvista cannot draw here: {reason}")
    os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow"  # before VTK is imported
    import pyvista

    plotter = pyvista.Plotter(off_screen=True, window_size=size)
    plotter.set_background(tuple(background))
    plotter.camera.position, plotter.camera.focal_point = tuple(eye), tuple(target)
    plotter.camera.up, plotter.camera.view_angle = tuple(up), fov_y
    frames = []
    for x, colour in _pairs(positions, colours):
        cloud = pyvista.PolyData(x)
        cloud.point_data["colour"] = colour
        pixels_of = size[1] / (2 * np.tan(np.radians(fov_y) / 2)) / np.linalg.norm(np.subtract(eye, target))
        plotter.add_mesh(
            cloud,
            name="particles",
            scalars="colour",
            rgb=True,
            render_points_as_spheres=True,
            point_size=max(1.0, 2 * radius * float(pixels_of)),
            reset_camera=False,
        )
        plotter.camera.reset_clipping_range()
        frames.append(np.asarray(plotter.screenshot(return_img=True))[..., :3])
    plotter.close()
    return np.stack(frames)


def _pairs(positions: Any, colours: Any) -> Iterable[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    return zip(np.asarray(positions, np.float32), np.asarray(colours, np.uint8), strict=True)
