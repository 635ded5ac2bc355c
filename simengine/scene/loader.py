"""Scene files: TOML (data, never imports anything) and Python scripts (code, run as such)."""

import dataclasses
import inspect
import re
import runpy
import tomllib
import traceback
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from simengine.scene.address import replaced, resolve
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.grammar import BASE, Scene, build_scene, make_world, scene_of
from simengine.scene.kinds import KINDS
from simengine.scene.own_code import imports_beside
from simengine.scene.strict import Locate, nearest, to_plain
from simengine.shown import cut, shown
from simengine.text import read_text

MAX_BYTES = 4 << 20


def named_scenes() -> dict[str, Path]:
    """The scenes that ship with simengine, by name."""
    folder = Path(str(files("simengine.scenes")))
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix == ".toml"}


def load_world(source: str | Path, overrides: Sequence[str] = ()) -> AbstractWorld:
    """The world of a scene, without what was observed of it; see `load_scene`.

    Args:
        source: A .toml or .py file, or the name of a shipped scene.
        overrides: As in `bodies.0.material.E=2e5`.

    Raises:
        SceneError: It is no scene, with the file, the line and the key.
    """
    return load_scene(source, overrides).world


def load_scene(source: str | Path, overrides: Sequence[str] = ()) -> Scene:
    """Load a scene: a world, what was observed of it, what is sought.

    Args:
        source: Path of a `.toml` or `.py` file, or the name of a shipped scene. A script defines `scene`, or a function
            `scene()`, and is run: load only scripts you trust.
        overrides: `key=value` with a dotted key and a TOML value, as in `bodies.jelly.material.E=2e5`.

    Raises:
        SceneError: With file, line, key, value and remedy.
    """
    path = _find(source)
    functions: dict[str, Callable[..., Any]] = {}
    if path.suffix == ".py":
        made, functions = _from_script(path)
        if made.kind not in KINDS or (isinstance(made, Scene) and made.observations and not made.tables):
            return _own(made, path, functions, overrides)
        data, locate = resolved(made), _constant(str(path))
    else:
        data, locate = _read_toml(path)
    changed: dict[str, str] = {}
    for override in overrides:
        changed[_apply(data, override)] = override

    def where(key: str) -> str:
        for target, override in changed.items():
            if key == target or key.startswith(target + "."):
                return f"--set {override}"
        return locate(key)

    scene = build_scene(data, directory=path.parent, locate=where)
    return (
        dataclasses.replace(scene, world=dataclasses.replace(scene.world, functions=functions)) if functions else scene
    )


def _own(
    made: AbstractWorld | Scene, path: Path, functions: dict[str, Callable[..., Any]], overrides: Sequence[str]
) -> Scene:
    """A script's scene with a world or instruments made there: no plain data, so overrides may only change numbers."""
    scene = made if isinstance(made, Scene) else scene_of(made)
    values: dict[str, float] = {}
    for override in overrides:
        key, _, text = override.partition("=")
        try:
            value = float(text)
        except ValueError:
            raise SceneError(f"--set {override}: only numbers of a scene that is made in Python can be set") from None
        values |= dict.fromkeys(resolve(scene.world, key), value)
    script = scene.world.script or path  # that of a run names another one, which defines the world
    world = dataclasses.replace(scene.world, directory=script.parent, functions=functions, script=script)
    world = replaced(world, values) if values else world
    beside = {
        name: own if own.directory != Path() else dataclasses.replace(own, directory=path.parent)
        for name, own in scene.observations.items()
    }
    return dataclasses.replace(scene, world=world, runs={BASE: world}, observations=beside)


def make_scene(data: dict[str, Any], *, directory: Path, locate: Locate) -> AbstractWorld:
    """A world of plain data, whose key `kind` (default mpm) names the class."""
    return make_world(data, directory=directory, locate=locate)


def resolved(scene: AbstractWorld | Scene) -> dict[str, Any]:
    """A scene as plain data with every default of its world written out; `load_scene` reads it back.

    Args:
        scene: A scene, or a world alone.
    """
    if isinstance(scene, Scene):
        return {**resolved(scene.world), **scene.tables}
    return {"kind": scene.kind, **to_plain(scene)}


def _constant(text: str) -> Locate:
    return lambda key: text


def _find(source: str | Path) -> Path:
    path = Path(source).expanduser()
    if path.suffix in (".toml", ".py") or path.is_file():
        if not path.is_file():
            raise SceneError(f"{path}: no such file")
        if path.suffix not in (".toml", ".py"):
            raise SceneError(f"{path}: a scene is a .toml or .py file")
        if path.stat().st_size > MAX_BYTES:
            raise SceneError(f"{path}: {path.stat().st_size} bytes; a scene file has at most {MAX_BYTES}")
        return path.resolve()
    known = named_scenes()
    if str(source) not in known:
        raise SceneError(f"{source}: no such scene; {nearest(str(source), known)}")
    return known[str(source)]


def _read_toml(path: Path) -> tuple[dict[str, Any], Locate]:
    try:
        text = read_text(path)
    except OSError as error:
        raise SceneError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise SceneError(str(error)) from error
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError alone: an integer of more digits than Python reads
        reason = re.sub(r"\s+", " ", cut(str(error))) if isinstance(error, ValueError) else "nested too deeply"
        raise SceneError(f"{path}: not valid TOML: {reason}") from error
    lines = key_lines(text)

    def locate(key: str) -> str:
        while key and key not in lines:  # inside an inline table or array: the line of what holds it
            key = key.rpartition(".")[0]
        return f"{path}:{lines[key]}" if key in lines else str(path)

    return data, locate


def _from_script(path: Path) -> tuple[AbstractWorld | Scene, dict[str, Callable[..., Any]]]:
    """A script's scene, and its functions."""
    try:
        with imports_beside(path):
            names = runpy.run_path(str(path))
        found = names.get("scene")
        scene = found() if callable(found) else found
    except (KeyboardInterrupt, SceneError):
        raise
    except BaseException as error:  # SystemExit too: a script's mistake is told as one of a scene file is
        raise SceneError(f"{_place(path, error)}: {type(error).__name__}: {cut(str(error))}") from error
    if not isinstance(scene, AbstractWorld | Scene):
        raise SceneError(f"{path}: expected a Scene named `scene`, or a function `scene()` that returns one")
    functions: dict[str, Callable[..., Any]] = {name: f for name, f in names.items() if inspect.isfunction(f)}
    return scene, functions


def _place(path: Path, error: BaseException) -> str:
    """`file:line` of the last line of the script that an error went through."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path):
            line = frame.lineno
    return f"{path}:{line}" if line else str(path)


def _apply(data: dict[str, Any], override: str) -> str:
    """Set one dotted key in `data`; returns the key."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SceneError(f"--set {override}: expected key=value, as in bodies.0.material.E=2e5")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    *parents, last = _key_parts(key, override)
    target: Any = data
    for part in parents:
        target = _child(target, part, override, create=True)
    if isinstance(target, list):
        _child(target, last, override)
        target[int(last)] = value
    elif isinstance(target, dict):
        target[last] = value
    else:
        raise SceneError(f"--set {override}: {'.'.join(parents)} is {shown(target)}, which has no keys")
    return ".".join([*parents, last])


def _key_parts(key: str, override: str) -> list[str]:
    """The parts of a dotted TOML key, of which any may be quoted."""
    try:
        table: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        raise SceneError(f"--set {override}: {shown(key)} is no key; quote parts that hold dots or spaces") from None
    parts = []
    while isinstance(table, dict):
        ((part, table),) = table.items()
        parts.append(part)
    return parts


def _child(target: Any, part: str, override: str, *, create: bool = False) -> Any:
    if isinstance(target, list):
        names = [item.get("name") if isinstance(item, dict) else None for item in target]
        if part in names:
            return target[names.index(part)]
        if not part.isdigit() or int(part) >= len(target):
            raise SceneError(f"--set {override}: {part!r} is no index of a list of {len(target)}")
        return target[int(part)]
    if isinstance(target, dict):
        return target.setdefault(part, {}) if create else target.get(part)
    raise SceneError(f"--set {override}: {part!r} is looked up in {shown(target)}, which has no keys")


def key_lines(text: str) -> dict[str, int]:
    """The line of each dotted key in a TOML text, for messages; arrays of tables are counted from 0.

    `tomllib` tells no positions. This reads headers and `key =` at the start of statements, which is what a message
    needs; what stands inside inline tables is reported at their line.
    """
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    prefix, depth, quote = "", 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        fresh = depth == 0 and not quote
        if fresh and (header := re.match(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$", line)):
            prefix = _indexed(_unquote(header[2]), counts, append=header[1] == "[[")
            lines[prefix] = number
            continue
        if fresh and (key := re.match(r"\s*([A-Za-z0-9_\-.\"' ]+?)\s*=", line)):
            full = ".".join(filter(None, (prefix, _unquote(key[1]))))
            lines[full] = number
        depth, quote = _scan(line, depth, quote)
    return lines


def _unquote(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))


def _indexed(header: str, counts: dict[str, int], *, append: bool) -> str:
    """A header with the index of each array of tables it goes through, as in bodies.0.material."""
    full = ""
    parts = header.split(".")
    for position, part in enumerate(parts):
        full = f"{full}.{part}" if full else part
        if append and position == len(parts) - 1:
            counts[full] = counts.get(full, -1) + 1
        if full in counts:
            full = f"{full}.{counts[full]}"
    return full


def _scan(line: str, depth: int, quote: str) -> tuple[int, str]:
    """The bracket depth and the open multi-line string after a line."""
    position = 0
    while position < len(line):
        if quote:
            end = line.find(quote, position)
            if end < 0:
                return depth, quote if len(quote) == 3 else ""
            position, quote = end + len(quote), ""
            continue
        character = line[position]
        if character == "#":
            break
        if character in "\"'":
            quote = character * 3 if line.startswith(character * 3, position) else character
            position += len(quote)
            continue
        depth += (character in "[{") - (character in "]}")
        position += 1
    return max(depth, 0), quote if len(quote) == 3 else ""
