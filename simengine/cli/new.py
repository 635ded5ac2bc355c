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
    like: Annotated[str, Parameter(name="--from", help="The shipped scene to start from.")] = "jelly_drop",
) -> int:
    """Write a scene file to start from; an existing file is never replaced.

    Args:
        path: The .toml file to write.
    """
    from simengine.scene import named_scenes
    from simengine.scene.strict import nearest

    known = named_scenes()
    if like not in known:
        raise ValueError(f"--from {like}: no such scene; {nearest(like, known)}")
    if path.suffix != ".toml":
        raise ValueError(f"{path}: a scene file ends in .toml")
    with path.open("x", encoding="utf-8") as file:
        file.write(without_truth(known[like].read_text(encoding="utf-8")))
    print(f"wrote {path}, a copy of {like}; next: simengine check {path}")
    return 0
