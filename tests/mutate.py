"""How many faults the tests see: lines that bear a meaning are changed one at a time, and the nearest tests are run.

    .venv/bin/python tests/mutate.py --seed 1 --count 80 --out mutations.jsonl
    .venv/bin/python tests/mutate.py --again mutations.jsonl --out again.jsonl       # the ones that lived, once more

A mutation is one sign, factor, bound, index, exponent, condition, default or missing term, drawn evenly over the areas
and over these kinds. It is put into a copy of the source; the tests that name what was changed, that import its module
or that lie in its mirrored folder run there, the nearest first, and before them small scenes that run its function
(`scene/test_small_runs.py`), until one falls or the CPU seconds are spent. What fells a mutation must pass without it;
this is looked at in the end. A mutation that lives is a gap, a twin of the original, or out of reach of the tests that
were run: who reads the table has to say which.
"""

import argparse
import dataclasses
import importlib
import inspect
import json
import os
import re
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from mutation.changes import AREAS, Mutation, drawn, mutations
from mutation.nearest import WORD, named, small_runs, small_runs_of, tests_of

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "out", "runs")
HOW = ("-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu")


class NearestFirst:
    """Runs the tests that name what was changed before the others.

    Args:
        names: Of the class and function around it, and of what their module offers.
    """

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort what was collected; of tests that name as much, in the order of the files."""
        named = {id(i): len(self.names & set(WORD.findall(inspect.getsource(i.function)))) for i in items}
        broad = ("test_defaults", "test_small_runs")
        items.sort(key=lambda item: (not item.nodeid.rpartition("/")[2].startswith(broad), -named[id(item)]))


def run(copy: Path, names: Sequence[str], seconds: int, nearest: set[str] = frozenset()) -> tuple[int, str]:
    """Exit status of these tests in the copy, and what fell first; negative where the CPU seconds were spent.

    They run in a fork of this process, which holds torch and warp: reading them anew would cost more than many a test.
    """
    with tempfile.NamedTemporaryFile("r", errors="replace") as told:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(told.name, os.O_WRONLY), 1)
            os.dup2(1, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
            os.chdir(copy)
            os.environ["PYTHONPATH"] = str(copy)
            sys.path[0] = str(copy)
            sys.dont_write_bytecode = True
            code = pytest.main([*HOW, *names], plugins=[NearestFirst(nearest)])
            sys.stdout.flush()
            os._exit(int(code))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        text = told.read()
    fallen = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", text, re.M)
    return code, fallen.group(1) if fallen else (text.strip().splitlines() or [""])[-1]


def in_a_fork(act: Callable[[], Any]) -> Any:
    """What a function gives, of which this process then remembers no module."""
    with tempfile.NamedTemporaryFile("r+") as told:
        child = os.fork()
        if child == 0:
            try:
                Path(told.name).write_text(json.dumps(act()), encoding="utf-8")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        return json.loads(told.read())


def judged(one: Mutation, copy: Path, seconds: int, most: int, ran: dict[str, dict[str, float]]) -> dict[str, object]:
    """What the tests say of a mutation; the copy is as before when this returns."""
    file = copy / one.path
    before = file.read_bytes()
    names = [*small_runs_of(one, ran), *tests_of(one, most, copy)]
    try:
        file.write_bytes(before[: one.start] + one.text.encode() + before[one.end :])
        code, why = run(copy, names, seconds, set.union(*named(one, copy)))
    finally:
        file.write_bytes(before)
    verdict = {0: "lives", 5: "lives", 1: "falls", 2: "falls", 4: "falls"}.get(code, "time")
    return {**dataclasses.asdict(one), "verdict": verdict, "by": why, "tests": names}


def moved(kept: dict[str, object], root: Path) -> Mutation | None:
    """A mutation of an earlier table in the file as it is now."""
    one = Mutation(**{f.name: kept[f.name] for f in dataclasses.fields(Mutation)})  # type: ignore[arg-type]
    alike = [m for m in mutations(one.area, root / one.path, root) if (m.old, m.new) == (one.old, one.new)]
    return min(alike, key=lambda m: abs(m.line - one.line), default=None)


def chosen(told: argparse.Namespace, root: Path) -> list[Mutation]:
    """The mutations that a command asks for, of the sources below `root`."""
    if not told.again:
        return drawn(told.count, told.seed, told.areas, root)
    rows = [json.loads(row) for row in told.again.read_text().splitlines()]
    return [m for m in (moved(row, root) for row in rows if row["verdict"] != "falls") if m is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--areas", nargs="*", default=list(AREAS), choices=list(AREAS))
    parser.add_argument("--seconds", type=int, default=40, help="of CPU for each mutation")
    parser.add_argument("--files", type=int, default=3, help="files of tests for each, at most")
    parser.add_argument("--again", type=Path, help="the mutations of an earlier table that lived, or ran out of time")
    parser.add_argument("--list", action="store_true", help="only show what was drawn")
    parser.add_argument("--out", type=Path, help="table, a line of JSON for each")
    told = parser.parse_args()
    if told.list:
        for position, one in enumerate(chosen(told, ROOT)):
            print(f"{position:3} {one.area:9} {one.kind:12} {one.path}:{one.line}\n      - {one.old.strip()}")
            print(f"      + {one.new.strip()}")
        return
    done = told.out.read_text(encoding="utf-8").splitlines() if told.out and told.out.exists() else []
    results = [json.loads(row) for row in done]  # of a run that was stopped
    os.environ["OMP_NUM_THREADS"] = "1"
    for heavy in ("numpy", "scipy.sparse", "torch", "warp"):
        importlib.import_module(heavy)
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        copy = Path(folder)
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT, dirs_exist_ok=True)  # all is read there: the tree may change
        todo = chosen(told, copy)
        ran = in_a_fork(lambda: small_runs(copy))
        for position, one in enumerate(todo[len(results) :], len(results)):
            results.append(judged(one, copy, told.seconds, told.files, ran))
            row = results[-1]
            print(f"{position:3} {row['verdict']:6} {one.area:9} {one.kind:12} {one.path}:{one.line}  {row['by']}")
            print(f"      - {one.old.strip()}\n      + {one.new.strip()}", flush=True)
            if told.out:
                with told.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
        fell = sorted({str(row["by"]) for row in results if row["verdict"] == "falls" and "::" in str(row["by"])})
        code, why = run(copy, fell, 3600) if fell else (0, "")
        print("without mutations:", why if code else "every test that felled one passes")
    print("\n| area | mutations | fall | live | out of time |\n|---|---|---|---|---|")
    for area in dict.fromkeys(m.area for m in todo):
        count = Counter(str(row["verdict"]) for row in results if row["area"] == area)
        print(f"| {area} | {count.total()} | {count['falls']} | {count['lives']} | {count['time']} |")
    count = Counter(str(row["verdict"]) for row in results)
    print(f"| all | {count.total()} | {count['falls']} | {count['lives']} | {count['time']} |")


if __name__ == "__main__":
    main()
