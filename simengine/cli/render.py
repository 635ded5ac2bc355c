"""`simengine render`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

MOST_VIEWS = 720  # of one turn


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
    size: Annotated[str | None, Parameter(help="Of the picture, WIDTHxHEIGHT, as in 1920x1080.")] = None,
    samples: Annotated[int | None, Parameter(help="Along each side of a pixel; of a run in style surface, 2.")] = None,
    transparent: Annotated[bool, Parameter(help="A .png with opacity in place of a background.", negative=())] = False,
    turntable: Annotated[int, Parameter(help="So many pictures of a turn around the last state.")] = 0,
    light: Annotated[Path | None, Parameter(help="Panorama, .exr or 8 bits, that lights surfaces and meshes.")] = None,
    floor: Annotated[
        bool, Parameter(help="A floor that catches soft shadows; of surfaces and meshes.", negative=())
    ] = False,
    caption: Annotated[bool, Parameter(help="Write the time into the pictures of a run.", negative=())] = False,
) -> int:
    """Picture the states of a run directory again with the scene's camera, or a file of a mesh, particles or a grid.

    Args:
        source: A run directory with states; or a mesh, or an .npz with particles x or a grid density.
    """
    if not fps > 0:
        raise ValueError(f"--fps {fps}: expected a number above 0")
    if samples is not None and (not 1 <= samples <= 8 or style != "surface" or source.is_file()):
        raise ValueError(f"--samples {samples}: expected 1 to 8, and a run pictured with --style surface")
    if turntable and not 2 <= turntable <= MOST_VIEWS:
        raise ValueError(f"--turntable {turntable}: expected 2 to {MOST_VIEWS} pictures")
    if not source.exists():
        raise ValueError(
            f"{source}: not a run directory and not a file; there is nothing of that name "
            f"(a scene has to run first: simengine run {source} --out DIRECTORY)"
        )
    asked: dict[str, Any] = {
        "style": style,
        "field": field,
        "axes": axes,
        "size": None if size is None else _size(size),
        "samples": samples or 2,
        "transparent": transparent,
        "turntable": turntable,
        "caption": caption,
        "panorama": light,
        "floor": floor,
    }
    if source.is_file():
        from simengine.worlds.motion.showing import Pictured, show_file

        file = out or source.with_name(source.stem + ("-render.mp4" if turntable else "-render.png"))
        print(show_file(source, file, Pictured(fps=fps, **asked)))
        return 0
    from simengine.scene.loader import load_world

    recorded = source / "scene.toml"
    if not recorded.is_file():
        raise ValueError(f"{source}: not a run directory (no scene.toml)")
    scene, file = load_world(recorded), out or source / ("render.png" if transparent else "render.mp4")
    plain = {"style": "balls", "samples": 2}
    changed = [
        f"--{name}".replace("panorama", "light") for name, value in asked.items() if value and value != plain.get(name)
    ]
    if changed or file.suffix.lower() not in (".mp4", ".gif"):
        from simengine.worlds.motion.showing import Pictured, motion_of, show_states

        moving = motion_of(scene)
        if moving is not None:
            print(show_states(moving, source, file, Pictured(fps=fps, **asked)))
            return 0
    if changed:
        raise ValueError(f"{changed[0]}: of moving particles, not of a run of kind {scene.kind!r}")
    print(scene.render(source, file, fps=fps))
    return 0


def _size(told: str) -> tuple[int, int]:
    """Columns and rows."""
    parts = told.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and 16 <= int(part) <= 8192 for part in parts):
        raise ValueError(f"--size {told}: expected WIDTHxHEIGHT, each 16 to 8192, as in 1920x1080")
    return int(parts[0]), int(parts[1])
