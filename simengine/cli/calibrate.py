"""`simengine calibrate`."""

import re
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def calibrate(
    pictures: str,
    *,
    corners: Annotated[str, Parameter(help="Corners inside the board along rows and columns, as in 9x6.")],
    square: Annotated[str, Parameter(help="Side of a square with its unit, as in 25mm.")],
    out: Annotated[Path | None, Parameter(help="File to write, .toml; printed if not given.")] = None,
    name: Annotated[str, Parameter(help="Of the camera.")] = "front",
    lens: Annotated[Literal["brown_conrady", "fisheye"], Parameter(help="Kind of lens.")] = "brown_conrady",
    world: Annotated[str, Parameter(help="Picture whose board is the plane z = 0 of the scene.")] = "",
) -> int:
    """Find a camera's focal length, centre and lens from photographs of a checkerboard; write its table for a scene.

    Args:
        pictures: A folder of photographs, or a path with stars, as in 'board_*.jpg'.
    """
    from simengine.io.pictures import series_files
    from simengine.observe.calibration import Checkerboard, calibrated, find_corners

    parts = corners.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and 3 <= int(part) <= 100 for part in parts):
        raise ValueError(f"--corners {corners}: expected COLUMNSxROWS, each 3 to 100, as in 9x6")
    if not name.isidentifier():
        raise ValueError(f"--name {name}: expected a word of letters, digits and _")
    if out is not None and out.suffix != ".toml":
        raise ValueError(f"--out {out}: a table of a camera is written as .toml")
    board = Checkerboard(columns=int(parts[0]), rows=int(parts[1]), square=_metres(square))
    seen, sizes = {}, {}
    for file in series_files(pictures):
        found, sizes[file.name] = find_corners(file, board)
        if found is not None:
            seen[file.name] = found
        else:
            print(f"{file.name}: no whole board of {corners} corners", file=sys.stderr)
    if len(set(sizes.values())) > 1:
        first, other = list(dict.fromkeys(sizes.values()))[:2]
        raise ValueError(
            f"{pictures}: pictures of {first[1]} x {first[0]} and of {other[1]} x {other[0]}; one size only"
        )
    told = calibrated(board, seen, next(iter(sizes.values())), lens)
    text = told.text(name, board, world=Path(world).name)
    for doubt in told.doubts():
        print(f"doubtful: {doubt}", file=sys.stderr)
    if out is None:
        print(text, end="")
        return 0
    with out.open("x", encoding="utf-8") as sheet:
        sheet.write(text)
    print(f'wrote {out} ({len(seen)} pictures, {told.rms:.3g} px); paste it into a scene, and say camera = "{name}"')
    return 0


def _metres(told: str) -> float:
    """A length with its unit [m].

    Raises:
        ValueError: It is none.
    """
    from simengine.io.units import dimension, to_si

    number = re.match(r"\s*([0-9.eE+-]*[0-9.])\s*(.*)", told)
    try:
        unit = number[2] if number else ""
        side = float(number[1]) * to_si(unit)[0] if number and dimension(unit) == "[length]" else 0.0
    except ValueError:
        side = 0.0
    if not 0 < side < 100:
        raise ValueError(f"--square {told}: expected a length with its unit, as in 25mm")
    return side
