"""`simengine render`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def render(
    directory: Path,
    *,
    out: Annotated[Path | None, Parameter(help="File to write; <directory>/render.mp4 if not given.")] = None,
    fps: Annotated[float, Parameter(help="Frames per second of a video.")] = 30,
) -> int:
    """Picture the states of a run directory again with the scene's camera.

    Args:
        directory: A run directory with states.
    """
    from simengine.scene.loader import load_scene

    recorded = directory / "scene.toml"
    if not recorded.is_file():
        raise ValueError(f"{directory}: not a run directory (no scene.toml)")
    path = load_scene(recorded).render(directory, out or directory / "render.mp4", fps=fps)
    print(path)
    return 0
