"""`simengine bench`."""

import datetime
import os
import platform
import re
import runpy
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from simengine.cli.common import AsJson, emit
from simengine.scene.strict import nearest

Write = Annotated[Path | None, Parameter(help="Markdown page in which the table of this benchmark is put or renewed.")]


Arguments = Annotated[str, Parameter(allow_leading_hyphen=True)]


def bench(area: str = "all", *arguments: Arguments, write: Write = None, as_json: AsJson = False) -> int:
    """Run benchmarks side by side with a reference; needs a source checkout.

    Args:
        area: A file of benchmarks/ without its suffix, or all.
        arguments: Of that benchmark, if it takes any: see its file.
    """
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    known = {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}
    if not known:
        raise ValueError("no benchmarks/ folder here: benchmarks come with the source checkout, not with the wheel")
    if area != "all" and area not in known:
        raise ValueError(f"{area}: no such benchmark; {nearest(area, [*known, 'all'])}")
    for name, path in known.items():
        if area in ("all", name):
            main = runpy.run_path(str(path))["main"]
            rows = main(arguments) if arguments else main()
            if write is not None:
                write.write_text(
                    renewed(write.read_text() if write.exists() else "", shlex.join([name, *arguments]), rows),
                    encoding="utf-8",
                )
            table: dict[str, dict[str, Any]] = {}
            for row in rows:
                table.setdefault(row["name"], {}).update({key: value for key, value in row.items() if key != "name"})
            emit(table, as_json=as_json, title=f"bench {name}")
    return 0


def renewed(page: str, name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown page with the table of a benchmark, its command and machine, in place of the one before or at the end.

    Args:
        page: The page as it is.
        name: Of the benchmark, with its arguments.
        rows: Its result; their keys become columns.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [
        f"<!-- bench {name} -->",
        f"`simengine bench {name}`, {datetime.date.today():%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores:",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |" for row in rows),
        f"<!-- end of bench {name} -->",
    ]
    block = "\n".join(lines)
    pattern = re.compile(rf"{re.escape(lines[0])}.*?{re.escape(lines[-1])}", re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: block, page)
    return (page.rstrip() + "\n\n" if page.strip() else "") + block + "\n"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
