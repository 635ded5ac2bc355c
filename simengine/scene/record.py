"""What repeats a run anywhere: the scene without absolute paths, and every file that it names."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from simengine.io.pictures import STILLS
from simengine.io.run_directory import RunDirectory
from simengine.scene.address import numbers
from simengine.scene.base import AbstractWorld
from simengine.scene.grammar import Scene
from simengine.scene.own_code import modules_beside, own_scripts
from simengine.scene.strict import to_plain

FOLDER = "inputs"
MOST = 1 << 30  # bytes of a file that is copied; a larger one stays where it is, and its hash tells whether it changed

_SCRIPT = '''"""The scene of this run with the functions of the script it came from: `simengine run` takes this file."""

import runpy
from pathlib import Path

from simengine.scene import load_scene

for _name in {names!r}:
    globals().update({{n: f for n, f in runpy.run_path(str(Path(__file__).parent / _name)).items() if callable(f)}})
scene = load_scene(Path(__file__).with_name("scene.toml"))
'''


_OWN = '''"""The scene of this run, by the script that defines its world: `simengine fit` takes this file."""

from pathlib import Path

from simengine.scene import load_scene

scene = load_scene(Path(__file__).parent / {name!r}, {values!r})
'''


@dataclasses.dataclass(frozen=True)
class SceneRecord:
    """A scene as a run directory keeps it.

    Attributes:
        data: The resolved scene as plain data; its paths are `asset:name` or lie within the run directory.
        inputs: What to copy or write there, by name.
        sources: Folders that the inputs come from.
    """

    data: dict[str, Any]
    inputs: dict[str, Path | bytes]
    sources: frozenset[Path]


def record(scene: AbstractWorld | Scene) -> SceneRecord:
    """The record of a scene, or of a world alone. Files are named by their content.

    Raises:
        OSError: A file cannot be read.
    """
    own_world = scene.world if isinstance(scene, Scene) else scene
    if own_world.script is not None:
        return _of_script(scene, own_world.script)
    tables = scene.tables if isinstance(scene, Scene) else {}
    scene = scene.world if isinstance(scene, Scene) else scene
    assets = Path(str(files("simengine.assets"))).resolve()
    inputs: dict[str, Path | bytes] = {}
    hashes: dict[str, str] = {}
    sources = set()

    def keep(path: Path) -> str:
        path = path.resolve()
        if path.is_relative_to(assets):
            return "asset:" + path.relative_to(assets).as_posix()
        if path.is_dir() and (there := _within(path)):
            digest = hashlib.sha256()
            for file in there:
                digest.update(hashlib.sha256(file.read_bytes()).digest())
            folder = f"{FOLDER}/{digest.hexdigest()[:12]}"
            inputs.update({f"{folder}/{file.name}": file for file in there})
            sources.add(path)
            return folder
        if not path.is_file():  # what needs it will say so
            inside = path.is_relative_to(scene.directory.resolve())
            return path.relative_to(scene.directory.resolve()).as_posix() if inside else str(path)
        together = sorted({path, *_companions(path)})
        digest = hashlib.sha256()
        for file in together:
            with file.open("rb") as stream:
                own = hashlib.file_digest(stream, "sha256")
            digest.update(own.digest())
            hashes[file.relative_to(path.parent).as_posix()] = own.hexdigest()
        sources.add(path.parent)
        if sum(file.stat().st_size for file in together) > MOST:
            return str(path)
        folder = f"{FOLDER}/{digest.hexdigest()[:12]}"
        for file in together:
            inputs[f"{folder}/{file.relative_to(path.parent).as_posix()}"] = file
        return f"{folder}/{path.name}"

    def keep_named(name: str) -> str:
        """A file of an observation, or the files that a star names, which stay together."""
        if name.startswith("asset:"):
            return name
        whole = (scene.directory / Path(name).expanduser()).is_dir()
        name = f"{name}/*" if whole else name
        if "*" not in name:
            return keep(scene.directory / Path(name).expanduser())
        kept = {keep(path) for path in sorted(scene.directory.glob(name))}
        folder = f"{FOLDER}/{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        for path in kept:
            if path in inputs:
                inputs[f"{folder}/{Path(path).name}"] = inputs.pop(path)
        return folder if whole else f"{folder}/{Path(name).name}"

    def kept_table(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: kept_table(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [kept_table(item, key) for item in value]
        if not isinstance(value, str) or not value:
            return value
        return keep_named(value) if key in ("file", "files", "model", "weights") or names_a_file(value) else value

    def names_a_file(text: str) -> bool:
        """Whatever key it stands under: places of markers, a mask, a file that a run has in another's place."""
        try:
            return bool(Path(text).suffix) and (scene.directory / Path(text).expanduser()).is_file()
        except (OSError, ValueError, RuntimeError):  # too long a name, a zero byte, no such home
            return False

    data = {"kind": scene.kind, **to_plain(scene, path=keep)}
    data |= {name: kept_table(own) for name, own in tables.items()}
    for script in own_scripts():
        keep(script)
    if data["kind"] == "pictures":
        data |= {name: kept_table(data[name]) for name in ("pictures", "detector") if name in data}
    own = (f for f in scene.functions.values() if f.__module__ == "<run_path>")  # the script's, not what it imports
    scripts = sorted({f.__code__.co_filename for f in own})
    if scripts:
        names = [keep(Path(script)) for script in scripts]
        inputs["scene.py"] = _SCRIPT.format(names=names).encode()
    if hashes:
        inputs[f"{FOLDER}/sha256.json"] = (json.dumps(hashes, indent=2, sort_keys=True) + "\n").encode()
    return SceneRecord(data, inputs, frozenset(sources))


def _of_script(scene: AbstractWorld | Scene, script: Path) -> SceneRecord:
    """The record of a world of one's own: its script, the modules beside it that it imports, and its observations.

    What the script opens by itself is not seen, and stays where it is.
    """
    world = scene.world if isinstance(scene, Scene) else scene
    home = script.parent.resolve()
    named = {script.resolve(), *modules_beside(script)}
    for instrument in scene.observations.values() if isinstance(scene, Scene) else ():
        for text in _texts(to_plain(instrument)):
            pattern = instrument.directory / Path(text).expanduser()
            files_there = pattern.rglob("*") if pattern.is_dir() else pattern.parent.glob(pattern.name)
            named |= {path.resolve() for path in files_there if path.is_file()}
    together = sorted(path for path in named if path.is_relative_to(home) and path.stat().st_size <= MOST)
    hashes = {path.relative_to(home).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in together}
    folder = f"{FOLDER}/{hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:12]}"
    inputs: dict[str, Path | bytes] = {f"{folder}/{path.relative_to(home).as_posix()}": path for path in together}
    values = [f"{key}={number.value!r}" for key, number in numbers(world).items()]
    inputs["scene.py"] = _OWN.format(name=f"{folder}/{script.name}", values=values).encode()
    inputs[f"{FOLDER}/sha256.json"] = (json.dumps(hashes, indent=2, sort_keys=True) + "\n").encode()
    return SceneRecord({"kind": world.kind, **to_plain(world)}, inputs, frozenset({home}))


def _texts(value: Any) -> Iterator[str]:
    """The texts in plain data that may name a file."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif isinstance(value, str) and 0 < len(value) < 256 and not value.startswith("asset:"):
        yield value


def open_run(folder: Path, scene: AbstractWorld | Scene, *, overwrite: bool, resume: bool) -> RunDirectory:
    """The run directory of a scene, with all that the scene reads; see `RunDirectory.create`."""
    kept = record(scene)
    world = scene.world if isinstance(scene, Scene) else scene
    return RunDirectory.create(
        folder,
        kept.data,
        overwrite=overwrite,
        resume=resume,
        inputs=kept.inputs,
        protected=(world.directory, *kept.sources),
    )


def _within(folder: Path) -> list[Path]:
    """What a scene reads of a folder that it names: a model, else pictures."""
    for place in (folder, folder / "model"):
        if (place / "model.toml").is_file():
            return sorted(file for file in place.iterdir() if file.is_file())
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in STILLS)


def _companions(path: Path) -> Iterator[Path]:
    """Files beside a mesh or a table that it names and a reader looks at: materials, pictures and buffers."""
    if path.suffix.lower() == ".obj":
        pattern = r"^\s*mtllib\s+(.+?)\s*$"
    elif path.suffix.lower() == ".mtl":
        pattern = r"^\s*(?:map_\w+|bump|disp|norm)\s+(?:.*\s)?(\S+)\s*$"
    elif path.suffix.lower() == ".gltf":
        pattern = r'"uri"\s*:\s*"((?!data:)[^"]+)"'
    elif path.suffix.lower() == ".csv":
        pattern = r"(?:^|[,;\t\"])([^,;\t\"\n]+\.(?:png|jpe?g|bmp|tiff?|exr|npy))(?=$|[,;\t\"])"
    else:
        return
    found = re.findall(pattern, path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    for name in found:
        file = (path.parent / name).resolve()
        if file.is_file() and file.is_relative_to(path.parent):
            yield file
            yield from _companions(file)
