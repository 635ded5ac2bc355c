"""`simengine render`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def render(
    source: Path,
    *,
    out: Annotated[Path | None, Parameter(help="File to write, .png, .exr, .gif or .mp4; render.mp4 in a run.")] = None,
    fps: Annotated[float, Parameter(help="Frames per second of a video.")] = 30,
    style: Annotated[
        Literal["balls", "surface", "pyvista"], Parameter(help="How particles are drawn; pyvista needs a GL.")
    ] = "balls",
    field: Annotated[str | None, Parameter(help="Colour particles by speed, height or volume ratio.")] = None,
    axes: Annotated[bool, Parameter(help="Draw the edges of the domain with ticks.", negative=())] = False,
) -> int:
    """Picture the states of a run directory again with the scene's camera, or a file of a mesh, particles or a grid.

    Args:
        source: A run directory with states; or a mesh, or an .npz with particles x or a grid density.
    """
    if not fps > 0:
        raise ValueError(f"--fps {fps}: expected a number above 0")
    if not source.exists():
        raise ValueError(
            f"{source}: not a run directory and not a file; there is nothing of that name "
            f"(a scene has to run first: simengine run {source} --out DIRECTORY)"
        )
    if source.is_file():
        if field is not None or axes:
            raise ValueError("--field and --axes are of run directories; a file has neither")
        from simengine.worlds.motion.showing import show_file

        print(show_file(source, out or source.with_name(source.stem + "-render.png"), style=style, fps=fps))
        return 0
    from simengine.scene.loader import load_world

    recorded = source / "scene.toml"
    if not recorded.is_file():
        raise ValueError(f"{source}: not a run directory (no scene.toml)")
    scene, file = load_world(recorded), out or source / "render.mp4"
    if style != "balls" or field is not None or axes or file.suffix.lower() not in (".mp4", ".gif"):
        from simengine.worlds.motion.showing import motion_of, show_states

        moving = motion_of(scene)
        if moving is not None:
            print(show_states(moving, source, file, style=style, field=field, axes=axes, fps=fps))
            return 0
    if style != "balls" or field is not None or axes:
        raise ValueError(f"--style, --field and --axes picture moving particles, not a run of kind {scene.kind!r}")
    print(scene.render(source, file, fps=fps))
    return 0
