"""`simengine schema`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def schema(
    kind: str | None = None,
    *,
    keys: Annotated[bool, Parameter(help="The page of every key, as Markdown, instead.", negative=())] = False,
    out: Annotated[Path | None, Parameter(help="File to write; the terminal if left out.")] = None,
) -> int:
    """Write the JSON schema of scenes, by which editors complete and check keys.

    With `#:schema ./scene.schema.json` as its first line a scene names the schema beside it.

    Args:
        kind: Of one kind of world; all of them if left out.
    """
    import json

    from simengine.scene.keys_page import keys_page
    from simengine.scene.schema import json_schema

    if keys and kind is not None:
        raise ValueError("--keys: the page tells of all kinds; leave KIND out")
    text = keys_page() if keys else json.dumps(json_schema(kind), indent=1, ensure_ascii=False) + "\n"
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")
        print(out)
    return 0
