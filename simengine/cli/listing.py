"""`simengine list` and `simengine explain`."""

import itertools
import re
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from simengine.cli.common import AsJson, Overrides, emit

What = Literal["scenes", "kinds", "instruments", "numbers", "scalars"]
ENOUGH = 60  # letters that tell of a scene


def listing(
    what: Annotated[What, Parameter(help="What to list.")] = "scenes",
    scene: str | None = None,
    *,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> int:
    """List what there is: shipped scenes, kinds of worlds, instruments; numbers or scalars of a scene.

    Args:
        what: What to list.
        scene: Whose numbers or scalars; a file or the name of a shipped scene.
    """
    from simengine.scene import load_world, named_scenes
    from simengine.scene.address import named, numbers
    from simengine.scene.kinds import INSTRUMENTS, KINDS

    if what in ("numbers", "scalars"):
        if scene is None:
            raise ValueError(f"list {what}: name a scene, as in simengine list {what} jelly_drop")
        world = load_world(scene, overrides or ())
        if what == "scalars":
            emit(dict(world.scalars()), as_json=as_json, title=f"what {scene} answers")
        else:
            rows = {named(world, key): f"{n.value:g} {n.unit}" for key, n in numbers(world).items()}
            emit(rows, as_json=as_json, title=f"numbers of {scene}")
        return 0
    tables = {"kinds": KINDS, "instruments": INSTRUMENTS}
    found = tables[what] if what in tables else {name: _about(path) for name, path in named_scenes().items()}
    emit(dict(found), as_json=as_json, title=what)
    return 0


def _about(path: Path) -> str:
    """The first sentences of the comment that a scene begins with: a line of them or so, none cut short."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    text = " ".join(line.lstrip("# ") for line in lines)
    ends = [found.end() for found in re.finditer(r"[.?!](?= |$)", text)]
    return text[: next((end for end in ends if end >= ENOUGH), len(text))]


def explain(key: str, scene: str, *, overrides: Overrides = None, as_json: AsJson = False) -> int:
    """Say what a number of a scene is: its value, unit, bounds and meaning.

    Args:
        key: Dotted key, as in bodies.jelly.material.E.
        scene: A file, or the name of a shipped scene.
    """
    from simengine.scene import load_world
    from simengine.scene.address import named, numbers, resolve
    from simengine.scene.schema import in_words

    world = load_world(scene, overrides or ())
    table = numbers(world)
    found = {}
    for one in resolve(world, key):
        n = table[one]
        found[named(world, one)] = {
            "value": n.value,
            "unit": n.unit,
            "range": in_words(n.range) or "any number",
            "meaning": n.sentence,
        }
    emit(found, as_json=as_json, title=f"{key} of {scene}")
    return 0
