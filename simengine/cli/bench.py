"""`simengine bench`."""

import csv
import datetime
import importlib
import os
import pkgutil
import platform
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from simengine.cli.common import AsJson, emit
from simengine.scene.strict import nearest

Write = Annotated[Path | None, Parameter(help="Markdown page in which the table of this benchmark is put or renewed.")]


Track = Annotated[Path | None, Parameter(help="csv to which the numbers are added, with day, commit and processor.")]

Arguments = Annotated[str, Parameter(allow_leading_hyphen=True)]


def bench(
    area: str = "all", *arguments: Arguments, write: Write = None, track: Track = None, as_json: AsJson = False
) -> int:
    """Run benchmarks side by side with a reference.

    Args:
        area: A module of `simengine.benchmarks` (benchmarks/ of a checkout), or all.
        arguments: Of that benchmark, if it takes any: see its file.
    """
    folder = importlib.import_module("simengine.benchmarks").__path__
    known = sorted(name for _, name, _ in pkgutil.iter_modules(folder) if not name.startswith("_"))
    if area != "all" and area not in known:
        raise ValueError(f"{area}: no such benchmark; {nearest(area, [*known, 'all'])}")
    for name in known:
        if area in ("all", name):
            main = importlib.import_module(f"simengine.benchmarks.{name}").main
            rows = main(arguments) if arguments else main()
            if write is not None:
                write.write_text(
                    renewed(
                        write.read_text(encoding="utf-8") if write.exists() else "",
                        shlex.join([name, *arguments]),
                        rows,
                    ),
                    encoding="utf-8",
                )
            if track is not None:
                add(track, shlex.join([name, *arguments]), rows)
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


def add(file: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add the numbers of a benchmark to a csv, a line each, so that they can be followed over commits.

    Args:
        file: The csv; made where it does not exist.
        name: Of the benchmark, with its arguments.
        rows: Its result.
    """
    here = [f"{datetime.date.today():%Y-%m-%d}", commit(), processor(), name]
    new = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if new:
            writer.writerow(["day", "commit", "processor", "benchmark", "row", "column", "value"])
        for row in rows:
            for column, value in row.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    writer.writerow([*here, row["name"], column, f"{value:.6g}"])


def commit() -> str:
    """Of the checkout, short, with a + where files differ from it; empty where there is none."""
    command = ["git", "describe", "--always", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:  # no git
        return ""
    return done.stdout.strip()


def processor() -> str:
    """The name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
