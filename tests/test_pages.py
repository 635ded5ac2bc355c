"""The pages keep their word: their Python runs, their commands are understood and run, their tables are TOML.

A block of a page is fenced, or indented by four after an empty line. It is Python, a command line, TOML, a file of the
reader (```csv), what is printed (```text), or a directive of the site (```{...}): another kind is a fault of the page,
so that nothing stands there unread. The Python of a page runs in order in one namespace, its commands in order in one
folder that is empty at the start. The how-tos are followed word for word: a block whose first line is `# NAME.SUFFIX`
is that file, and the numbers that a page prints are those that come out.
"""

import ast
import contextlib
import importlib
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from simengine.cli import app, main
from simengine.scene import load_world
from simengine.scene.loader import named_scenes

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = ("simengine", "make", "open", "python", "python3", "torchrun", "pip", "apt-get")
FOLLOWED = [ROOT / "docs" / "start.md", *sorted((ROOT / "docs" / "howto").glob("*.md"))]
NOT_OURS = ("x.py", "script.py", "FILE.py", "own.py", "growing.py", "photos.py", "scan.py")  # files of the reader
PATIENCE = 60.0  # [s] a command may run before it is stopped as by ctrl-C, which must save; servers end no other way


@dataclass(frozen=True)
class Block:
    """A block of a page."""

    page: Path
    line: int
    kind: str  # "python", "commands", "toml", "text"
    text: str

    @property
    def place(self) -> str:
        """Where it stands: docs/mpm.md:6."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def kind_of(text: str) -> str:
    """What an unmarked block holds."""
    first = text.split(maxsplit=1)[0]
    if first in COMMANDS:
        return "commands"
    if first.startswith("["):
        return "toml"
    try:
        ast.parse(text)
    except SyntaxError:
        return "unknown"
    return "python"


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    k = 0
    while k < len(lines):
        start = k
        if lines[k].startswith("```"):
            mark = lines[k][3:].strip()
            k += 1
            while not lines[k].startswith("```"):
                k += 1
            text = "\n".join(lines[start + 1 : k])
            k += 1
            mark = "text" if mark.startswith("{") else {"sh": "commands", "csv": "text"}.get(mark, mark)
            yield Block(page, start + 1, mark or kind_of(text), text)
        elif lines[k].startswith("    ") and (k == 0 or not lines[k - 1].strip()):
            while k < len(lines) and (lines[k].startswith("    ") or not lines[k].strip()):
                k += 1
            text = textwrap.dedent("\n".join(lines[start:k]))
            yield Block(page, start + 1, kind_of(text), text)
        else:
            k += 1


BLOCKS = [block for page in PAGES for block in blocks(page)]


def of_kind(kind: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind == kind]


def lines_of(block: Block) -> list[str]:
    """The command lines of a block, without comments."""
    lines = (line.partition(" #")[0].strip() for line in block.text.splitlines())
    return [part.strip() for line in lines if line for part in line.split("&&")]


def mentioned() -> list[tuple[str, str]]:
    """(place, command line) of every `simengine ...` of every page, in blocks and between backticks."""
    found = [(block.place, line) for block in of_kind("commands") for line in lines_of(block)]
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"`(simengine [^`]+)`", text):
            place = f"{page.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}"
            command, *others = " ".join(match[1].split()).split(" | ")
            found += [(place, command), *((place, f"{command.rsplit(' ', 1)[0]} {other}") for other in others)]
    return [(place, line) for place, line in found if line.startswith("simengine ") and len(line.split()) > 2]


def test_every_kind_of_block_is_found_and_none_is_unknown() -> None:
    assert len(of_kind("python")) >= 11 and len(of_kind("commands")) >= 8 and len(of_kind("toml")) >= 2
    unknown = [block.place for block in BLOCKS if block.kind not in ("python", "commands", "toml", "text")]
    assert not unknown, f"neither Python, commands, TOML nor marked text: {unknown}"


@pytest.mark.parametrize("page", sorted({block.page for block in of_kind("python")}), ids=lambda page: page.name)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)  # as torchrun sets them
    namespace: dict[str, object] = {}
    try:
        for block in of_kind("python"):
            if block.page == page:
                code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
                exec(code, namespace)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if page.name == "README.md":
        assert (tmp_path / "out" / "jelly.mp4").stat().st_size > 1000


@pytest.mark.parametrize("block", of_kind("toml"), ids=lambda block: block.place)
def test_tables_are_toml(block: Block) -> None:
    assert tomllib.loads(block.text)


@pytest.mark.parametrize(("place", "line"), mentioned(), ids=lambda text: text[:60])
def test_commands_are_understood(place: str, line: str) -> None:
    """The verb takes these options, and the scene that is named takes what is set."""
    tokens = shlex.split(line)[1:]
    _, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    scene = bound.arguments.get("scene")
    if scene in named_scenes():
        load_world(scene, bound.arguments.get("overrides") or ())


def test_ctrl_c_is_answered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(*_: object) -> int:
        raise KeyboardInterrupt

    for place in ("simengine.scene", "simengine.scene.loader"):
        monkeypatch.setattr(f"{place}.load_scene", stopped)
    assert main(["check", "jelly_drop"]) == 1
    assert "interrupted; the same command resumes" in capsys.readouterr().err


def finished(line: str, folder: Path, environment: Mapping[str, str], seconds: float = PATIENCE) -> tuple[str, str]:
    """Runs a command line; what became of it ("done", "stopped" or the fault), and what it said."""
    name, *options = shlex.split(line)
    started = {"torchrun": ["-m", "torch.distributed.run"], "python": []}.get(name, ["-m", "simengine.cli"])
    command = [sys.executable, *started, *options]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
        return ("stopped" if process.returncode == 0 or "interrupted" in said else said), said
    return ("done" if process.returncode == 0 else f"exit {process.returncode}: {said}"), said


def is_importable(name: str) -> bool:
    """Whether a dotted name leads to a module of simengine or to something in one."""
    parts = name.split(".")
    parts = parts if parts[0] == "simengine" else ["simengine", *parts]
    module, rest = importlib.import_module(parts[0]), parts[1:]
    while rest and hasattr(module, "__path__") and importlib.util.find_spec(f"{module.__name__}.{rest[0]}"):
        module, rest = importlib.import_module(f"{module.__name__}.{rest[0]}"), rest[1:]
    found: object = module
    for part in rest:
        found = getattr(found, part, None)
    return found is not None


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_modules_that_are_named_exist(page: Path) -> None:
    """Paths from the root, simengine/, the area of the page, or beside the file named before; and dotted modules."""
    missing = []
    for line in page.read_text(encoding="utf-8").splitlines():
        places = [ROOT, ROOT / "simengine", ROOT / "simengine" / page.stem]
        for name in re.findall(r"[\w/*]*\w\*?\.py\b", re.sub(r"\S*<\w+>\S*", "", line)):
            found = [file for place in places for file in place.glob(name)]
            missing += [] if found or name in NOT_OURS else [name]
            places = [*places[:3], *(file.parent for file in found[:1])]
        for name in re.findall(r"\b(?:simengine|kernels|ops|worlds)(?:\.[A-Za-z]\w*)+", line):
            missing += [] if is_importable(name) or name.rpartition(".")[2] in ("py", "md") else [name]
    assert not missing, f"{page.name} names what is not there: {missing}"


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    "page",
    sorted({block.page for block in of_kind("commands") if "simengine" in block.text} - set(FOLLOWED)),
    ids=lambda page: page.name,
)
def test_commands_run(page: Path, tmp_path: Path) -> None:
    """Every command line ends well, or is stopped after a minute and says that it can go on."""
    environment = {**os.environ, "BROWSER": "true"}
    for block in of_kind("commands"):
        for line in lines_of(block) if block.page == page else ():
            if line.startswith("simengine ") and not re.search(r"\b[A-Z]{4,}\b", line):  # FOLDER is the reader's
                outcome, _ = finished(line, tmp_path, environment)
                assert outcome in ("done", "stopped"), f"{block.place}: {line}: {outcome}"


def rows_of(text: str) -> dict[str, list[float]]:
    """First cell -> the number in the second, and its interval `[low, high]`, of the rows of printed tables.

    And of lines `name = number`.
    """
    found = {}
    for line in text.splitlines():
        if told := re.fullmatch(r"(\w[\w ]*) = (\S+)", line):
            line = f"│ {told[1]} │ {told[2]} │"
        cells = [cell.strip() for cell in line.split("│")[1:]]
        if len(cells) > 1 and cells[0] and cells[1]:
            with contextlib.suppress(ValueError):
                found[cells[0]] = [float(part) for part in re.sub(r"[\[\],]", " ", cells[1]).split()]
    return found


def test_rows_of_printed_tables_are_read() -> None:
    told = rows_of("│ a b │ 2.5e+02 │ yes │\n│ c │ none │\nd │ 1 │\n│ e │ 0.5 [0.1, 1.0] │\nf of g = -2e3\nh = i")
    assert told == {"a b": [250.0], "e": [0.5, 0.1, 1.0], "f of g": [-2000.0]}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.name)
def test_a_page_is_followed_word_for_word(page: Path, tmp_path: Path) -> None:
    environment, said, compared = {**os.environ, "BROWSER": "true"}, "", 0
    for block in (block for block in BLOCKS if block.page == page):
        name = re.match(r"# (\w+\.\w+)\n", block.text)
        if name:
            (tmp_path / name[1]).write_text(block.text + "\n", encoding="utf-8")
        if block.kind == "python" and name:
            subprocess.run([sys.executable, name[1]], cwd=tmp_path, check=True, timeout=300)
        elif block.kind == "commands":
            said = ""
            for line in lines_of(block):
                known = line.split()[0] in ("simengine", "torchrun", "python")
                assert known, f"{block.place}: {line}: only our own commands, torchrun and python are followed"
                outcome, more = finished(line, tmp_path, environment, seconds=400)  # its numbers are compared
                assert outcome == "done", f"{block.place}: {line}: {outcome}"
                said += more
        elif block.kind == "text" and said:
            printed, told = rows_of(said), rows_of(block.text)
            for key, value in told.items():
                assert printed[key] == pytest.approx(value, rel=0.05), f"{block.place}: {key}"
            compared += len(told)
    assert compared or page.stem == "video", f"{page.name} shows nothing that comes out"
