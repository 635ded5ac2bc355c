"""`simengine new`."""

import re
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def without_truth(text: str) -> str:
    """The text of a scene without its tables `reference` and `truth`: an example's answers are not the reader's."""
    kept, skip = [], False
    for line in text.splitlines(keepends=True):
        if header := re.match(r"\s*\[+([^\[\]]+)\]", line):
            skip = bool({"truth", "reference"} & {part.strip() for part in header[1].split(".")})
        if not skip:
            kept.append(line)
    return "".join(kept).rstrip("\n") + "\n"


def new(
    path: Path,
    *,
    like: Annotated[str | None, Parameter(name="--from", help="The shipped scene to copy; else jelly_drop.")] = None,
    kind: Annotated[str | None, Parameter(help="A commented scene of this kind of world, with --observations.")] = None,
    observations: Annotated[str | None, Parameter(help="The instrument that it was observed by.")] = None,
) -> int:
    """Write a scene file to start from: a copy of one that ships, or a commented one for what you measured.

    An existing file is never replaced.

    Args:
        path: The .toml file to write.
    """
    from simengine.scene import named_scenes
    from simengine.scene.strict import nearest
    from simengine.scene.template import template

    known = named_scenes()
    if kind is not None or observations is not None:
        if like is not None or kind is None or observations is None:
            raise ValueError("new: say --kind and --observations (--kind specimen --observations curve), or --from")
        text, said = template(kind, observations), f"a {kind} observed by {observations}; put your file's name in it"
        return _write(path, text, said)
    like = like or "jelly_drop"
    if like not in known:
        raise ValueError(f"--from {like}: no such scene; {nearest(like, known)}")
    return _write(path, without_truth(known[like].read_text(encoding="utf-8")), f"a copy of {like}")


def _write(path: Path, text: str, said: str) -> int:
    if path.suffix != ".toml":
        raise ValueError(f"{path}: a scene file ends in .toml")
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    print(f"wrote {path}, {said}; next: simengine check {path}")
    return 0
