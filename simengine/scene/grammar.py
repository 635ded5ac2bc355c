"""From the flat top level of a scene file to a `Scene`: a world, its runs, what was observed, what is sought.

What is shared has a name at the top: `[instruments.NAME]`, `[cameras.NAME]`. A run is a partial scene laid over the
world: `[runs.NAME]`, or inside an observation `run.KEY = value`.
"""

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from simengine.scene.address import joined
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.instrument import AbstractInstrument
from simengine.scene.kinds import GONE_TASKS, INSTRUMENTS, NEW_FORM, learned_class, named_class
from simengine.scene.learning import AbstractLearner, AbstractObjective, from_tables
from simengine.scene.sought import Inference, Unknown
from simengine.scene.strict import Locate, from_plain, nearest, scene_fields
from simengine.shown import shown

_TABLES = ("observations", "instruments", "cameras", "lights", "runs", "unknowns", "inference", "reference", "derived")
_LEARNED = {"model": AbstractLearner.tables, "objective": AbstractObjective.tables[:1]}  # tables beside the world
BASE = ""  # name of the run that is the world as it stands


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """A world beside what was observed of it and what is sought.

    Attributes:
        world: What is believed.
        runs: Name -> the world of that run; "" is the world as it stands.
        set_by_run: Name -> the keys that this run sets itself, as the file writes them.
        observations: Name -> instrument, its file named and not yet read.
        instrument_of: Name of an observation -> name of the shared instrument that it comes from, "" for none.
        camera_of: Name of an observation -> name of the shared camera that it looks through, "" for none.
        light_of: Name of an observation -> name of the shared lights that it was made under, "" for none.
        unknowns: Key -> what is sought.
        inference: How.
        reference: Key -> a published or hidden value; only reports read it.
        derived: Name, as in "diffusivity [m2/s]" -> an expression in keys; only reports evaluate it.
        learner: What is trained, where nothing measured is explained.
        objective: What is made small, likewise.
        tables: The tables beside the world, as the file has them.
    """

    world: AbstractWorld
    runs: Mapping[str, AbstractWorld] = dataclasses.field(default_factory=dict)
    set_by_run: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    observations: Mapping[str, AbstractInstrument] = dataclasses.field(default_factory=dict)
    instrument_of: Mapping[str, str] = dataclasses.field(default_factory=dict)
    camera_of: Mapping[str, str] = dataclasses.field(default_factory=dict)
    light_of: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unknowns: Mapping[str, Unknown] = dataclasses.field(default_factory=dict)
    inference: Inference = dataclasses.field(default_factory=Inference)
    reference: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    derived: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    learner: AbstractLearner | None = None
    objective: AbstractObjective | None = None
    tables: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        """Of the world."""
        return self.world.kind


def scene_of(
    world: AbstractWorld,
    *,
    observations: Mapping[str, AbstractInstrument] | None = None,
    unknowns: Mapping[str, Unknown] | None = None,
    inference: Inference | None = None,
) -> Scene:
    """A scene of a world made in Python, as a script hands it to the command line.

    Args:
        world: What is believed.
        observations: Name -> instrument, its files beside the script where their folder is not said.
        unknowns: Key -> what is sought.
        inference: How.
    """
    named = {name: dataclasses.replace(own, name=name) for name, own in (observations or {}).items()}
    return Scene(
        world=world,
        runs={BASE: world},
        set_by_run={BASE: frozenset()},
        observations=named,
        instrument_of=dict.fromkeys(named, ""),
        unknowns=unknowns or {},
        inference=inference or Inference(),
    )


def make_world(data: Mapping[str, Any], *, directory: Path, locate: Locate) -> AbstractWorld:
    """A world of plain data, whose key `kind` (default mpm) names the class."""
    task = data.get("task", {})
    known = GONE_TASKS.get(str(task.get("type"))) if isinstance(task, Mapping) else None
    if data.get("kind") == "render" or known is not None:
        key = "kind" if known is None else "task.type"
        example = "" if known is None else f"; the shipped scene {known} shows it"
        told = shown("render" if known is None else task["type"])
        raise SceneError(f"{locate(key)}: {key}: {told} is the old form: {NEW_FORM['task']}{example}")
    try:
        cls = named_class("kind", data.get("kind", "mpm"))
    except SceneError as error:
        raise SceneError(f"{locate('kind')}: {error}") from None
    rest = {key: value for key, value in data.items() if key != "kind"}
    for table in NEW_FORM.keys() & rest.keys() - scene_fields(cls).keys():
        raise SceneError(f"{locate(table)}: {table}: [{table}] is the old form: {NEW_FORM[table]}")
    world: AbstractWorld = from_plain(cls, rest, locate=locate, directory=directory)
    return world


def build_scene(data: Mapping[str, Any], *, directory: Path, locate: Locate) -> Scene:
    """A scene of plain data.

    Args:
        data: As `tomllib` gives it.
        directory: Where relative paths start.
        locate: Tells where a dotted key stands, for messages.

    Raises:
        SceneError: In one line with place, key, value and remedy.
    """
    tables = {name: _table(data.get(name, {}), name, locate) for name in _TABLES}
    learned = _learned(data, directory, locate)
    beside = {*_TABLES, *(part for table in learned for part in _LEARNED[table])}
    world_data = {key: value for key, value in data.items() if key not in beside}
    incomplete: SceneError | None = None  # why the world as it stands is none: runs may hold what it lacks
    try:
        world = make_world(world_data, directory=directory, locate=locate)
    except SceneError as error:
        if not tables["runs"]:
            raise
        incomplete, world = error, _first_run(world_data, tables["runs"], directory, locate, error)
    overlays: dict[str, Mapping[str, Any]] = {BASE: {}}
    overlays |= {name: _table(own, f"runs.{name}", locate) for name, own in tables["runs"].items()}
    observations: dict[str, AbstractInstrument] = {}
    instrument_of: dict[str, str] = {}
    shared_of: dict[str, dict[str, str]] = {"camera": {}, "light": {}}
    used: list[str] = []
    for name, entry in _named(tables["observations"], "observations", locate):
        key = f"observations.{name}"
        own = dict(_table(entry, key, locate))
        shared = own.pop("instrument", "")
        for word, value in (("instrument", shared), ("run", own.get("run", BASE))):
            if not isinstance(value, str | Mapping) or (word == "instrument" and not isinstance(value, str)):
                raise SceneError(f"{locate(key)}: {key}.{word}: expected a name, got {shown(value)}")
        if shared:
            if shared not in tables["instruments"]:
                raise SceneError(f"{locate(key)}: {key}.instrument: {nearest_of(shared, tables['instruments'])}")
            own = overlaid(tables["instruments"][shared], own, key)
        run = own.pop("run", BASE)
        if isinstance(run, Mapping):
            overlays[name], run = run, name
        elif run not in overlays:
            raise SceneError(f"{locate(key)}: {key}.run: {nearest_of(run, tables['runs'])}")
        if incomplete is not None and run == BASE:
            raise incomplete
        used.append(run)
        camera = own.get("camera", "") if isinstance(own.get("camera"), str) else ""
        if camera and camera not in tables["cameras"]:
            raise SceneError(f"{locate(key)}: {key}.camera: {nearest_of(camera, tables['cameras'])}")
        parts = {}
        for part in shared_of:
            parts[part] = own[part] if isinstance(own.get(part), str) and own[part] in tables[f"{part}s"] else ""
            if parts[part]:
                own[part] = tables[f"{part}s"][parts[part]]
        lent = _lend(world, world_data, own)
        own |= {table: world_data[table] for table in lent}
        layers = [("", key, entry), ("", f"instruments.{shared}", tables["instruments"].get(shared, {}))]
        layers += [(part, f"{part}s.{of}", tables[f"{part}s"][of]) for part, of in parts.items() if of]
        layers += [(table, table, world_data[table]) for table in lent]
        stands = _where_it_stands(locate, key, layers)
        for full, file in _files(name, own.get("file", ""), directory, f"{locate(key)}: {key}"):
            observations[full] = _instrument({**own, "file": file}, full, run, directory, stands, key)
            instrument_of[full] = shared
            for part, name_of_part in parts.items():
                shared_of[part][full] = name_of_part
    named_runs = [name for name in overlays if name != BASE]
    runs = {}
    for name in [BASE, *named_runs]:
        merged = overlaid(world_data, overlays[name], f"runs.{name}")
        runs[name] = world if name == BASE else make_world(merged, directory=directory, locate=_within(locate, name))
    if BASE not in used and named_runs:
        del runs[BASE]
    unknowns = {
        name: from_plain(
            Unknown,
            _table(own, f"unknowns.{name}", locate),
            locate=locate,
            directory=directory,
            key=f"unknowns.{joined([name])}",
        )
        for name, own in tables["unknowns"].items()
    }
    return Scene(
        world=world,
        runs=runs,
        set_by_run={name: frozenset(joined(path) for path in _leaves(own, ())) for name, own in overlays.items()},
        observations=observations,
        instrument_of=instrument_of,
        camera_of=shared_of["camera"],
        light_of=shared_of["light"],
        unknowns=unknowns,
        inference=Inference()
        if "objective" in learned
        else from_plain(Inference, tables["inference"], locate=locate, directory=directory, key="inference"),
        reference=tables["reference"],
        derived=tables["derived"],
        learner=learned.get("model"),
        objective=learned.get("objective"),
        tables={name: data[name] for name in data if name in beside},
    )


def _first_run(
    data: Mapping[str, Any], runs: Mapping[str, Any], directory: Path, locate: Locate, error: SceneError
) -> AbstractWorld:
    """The world of the first run, for a scene whose runs say what its own tables do not.

    Raises:
        SceneError: What is wrong with the scene's own tables, where the run cannot mend it.
    """
    name, own = next(iter(runs.items()))
    try:
        merged = overlaid(data, _table(own, f"runs.{name}", locate), f"runs.{name}")
        return make_world(merged, directory=directory, locate=_within(locate, name))
    except SceneError:
        raise error from None


def _learned(data: Mapping[str, Any], directory: Path, locate: Locate) -> dict[str, Any]:
    """What the scene trains, and what it makes small, by the table that says so.

    Raises:
        SceneError: It trains and measures at once, or its kind of world is none that such a model learns from.
    """
    made: dict[str, Any] = {}
    for table in _LEARNED.keys() & data.keys():
        name = data[table].get("type") if isinstance(data[table], Mapping) else None
        try:
            cls = learned_class(table, name)
        except SceneError as error:
            raise SceneError(f"{locate(table)}: {error}") from None
        kind = data.get("kind", "mpm")
        if kind not in cls.kinds:
            raise SceneError(f"{locate('kind')}: kind: {name!r} goes with {' or '.join(cls.kinds)}, got {kind!r}")
        own = {part: data[part] for part in cls.tables if part in data}
        made[table] = from_tables(cls, own, locate=locate, directory=directory)
    of_files = "model" in made and data.get("kind", "mpm") in made["model"].recorded
    if made and (("observations" in data and not of_files) or len(made) > 1):
        raise SceneError(
            f"{locate(next(iter(made)))}: a scene has one of [observations], [model] and [objective]; cut it in two"
        )
    return made


def _lend(world: AbstractWorld, data: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Tables of the world that an observation shares, unless it has its own and where it knows such a key."""
    lent = [name for name in world.lends if name in data and name not in own]
    if not lent or own.get("type") not in INSTRUMENTS:
        return []
    known = scene_fields(named_class("type", own["type"]))
    return [name for name in lent if name in known]


def _where_it_stands(locate: Locate, key: str, layers: Iterable[tuple[str, str, Any]]) -> Locate:
    """Places of an observation's keys, which it may share: the first table that says a key is where it stands.

    Args:
        locate: Tells where a dotted key stands.
        key: Of the observation.
        layers: Below which key of the observation a table is laid, the table's own key, and the table.
    """

    def where(full: str) -> str:
        for below, origin, table in layers:
            rest = full.removeprefix(f"{key}.{below}." if below else f"{key}.")
            if rest != full and _holds(table, rest.split(".")):
                return locate(f"{origin}.{rest}")
        return locate(full)

    return where


def _holds(node: Any, path: list[str]) -> bool:
    for name in path:
        if isinstance(node, list) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, Mapping) and name in node:
            node = node[name]
        else:
            return False
    return True


def nearest_of(name: Any, table: Mapping[str, Any]) -> str:
    """`'x' is not defined; did you mean 'y'?`."""
    known = nearest(str(name), table) if table else "nothing of that kind is defined in this scene"
    return f"{shown(name)} is not defined; {known}"


def _instrument(
    own: dict[str, Any], name: str, run: str, directory: Path, locate: Locate, key: str
) -> AbstractInstrument:
    kind = own.get("type")
    if kind is None:
        raise SceneError(
            f"{locate(key)}: {key}: the key 'type' is missing; name an instrument, as in type = \"markers\""
        )
    try:
        cls = named_class("type", kind)
    except SceneError as error:
        raise SceneError(f"{locate(key)}: {key}.{error}") from None
    made: AbstractInstrument = from_plain(cls, own, locate=locate, directory=directory, key=key)
    return dataclasses.replace(made, name=name, run=run, directory=directory)


def _files(name: str, file: Any, directory: Path, where: str) -> Iterator[tuple[str, Any]]:
    """An observation for each file that a star names: name.0, name.1, ...; series of pictures stay one."""
    suffixes = (".csv", ".tsv", ".txt", ".c3d", ".trc", ".npz", ".h5", ".hdf5")
    if isinstance(file, str) and "*" in file and file.lower().endswith(suffixes):
        found = sorted(directory.glob(file))
        if not found:
            raise SceneError(f"{where}.file: no file is like {file} in {directory}")
        for index, path in enumerate(found):
            yield f"{name}.{index}", path.relative_to(directory).as_posix()
    else:
        yield name, file


def _table(value: Any, key: str, locate: Locate) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) and not (key in ("observations", "runs") and isinstance(value, list)):
        raise SceneError(f"{locate(key)}: {key}: expected a table, got {shown(value)}")
    if isinstance(value, list):
        return dict(_named(value, key, locate))
    return value


def _named(value: Any, key: str, locate: Locate) -> Iterator[tuple[str, Any]]:
    """Entries of a table by name; a list of tables with a key `name` is taken too."""
    if isinstance(value, Mapping):
        yield from value.items()
        return
    for index, entry in enumerate(value):
        if not isinstance(entry, Mapping):
            raise SceneError(f"{locate(f'{key}.{index}')}: {key}.{index}: expected a table, got {shown(entry)}")
        rest = dict(entry)
        yield str(rest.pop("name", index)), rest


def _within(locate: Locate, run: str) -> Locate:
    return lambda key: f"{locate(f'runs.{run}.{key}')}: runs.{run}" if run else locate(key)


def _leaves(node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(node, Mapping):
        for name, item in node.items():
            yield from _leaves(item, (*path, str(name)))
    else:
        yield path


def overlaid(base: Any, over: Any, key: str) -> Any:
    """Plain data laid over other plain data: tables are merged, elements of lists picked by name or number.

    Raises:
        SceneError: A list has no such element.
    """
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        if "type" in over and over["type"] != base.get("type", over["type"]):
            return copy.deepcopy(dict(over))  # another type has other keys
        merged = {**base}
        for name, value in over.items():
            merged[name] = overlaid(base[name], value, f"{key}.{name}") if name in base else copy.deepcopy(value)
        return merged
    if isinstance(base, list) and isinstance(over, Mapping):
        items = list(base)
        for name, value in over.items():
            names = [item.get("name") if isinstance(item, Mapping) else None for item in items]
            index = names.index(name) if name in names else int(name) if str(name).isdigit() else -1
            if not 0 <= index < len(items):
                known = [n for n in names if n]
                raise SceneError(f"{key}: {shown(name)} names no element; {nearest(str(name), known or ['0'])}")
            items[index] = overlaid(items[index], value, f"{key}.{name}")
        return items
    return copy.deepcopy(over)
