"""What judges the keys of a scene: each is changed, and what comes of the scene is looked at."""

import copy
import dataclasses
import functools
import html
import math
import re
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from key_cases.digest import digest
from simengine.fit.method import training_of
from simengine.fit.problem import Problem
from simengine.fit.report import misfit_report
from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.learned import learning_of
from simengine.io.run_directory import RunDirectory
from simengine.scene.address import replaced
from simengine.scene.asks import Ask
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.grammar import Scene, build_scene
from simengine.scene.kinds import learned_class
from simengine.scene.learning import places
from simengine.scene.loader import make_scene, resolved
from simengine.scene.strict import OneOf, hints, scene_fields, to_plain

MARKUP = re.compile(r"<(style|script)\b.*?</\1>|<[^>]*>", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.])")


def holds_tables(hint: Any) -> bool:
    """Whether a key is a table, or holds some: its own keys are judged."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return True
    marks = getattr(hint, "__metadata__", ())
    return any(isinstance(mark, OneOf) for mark in marks) or any(holds_tables(a) for a in typing.get_args(hint))


def told_by(cls: type, key: str) -> type:
    """The class of the family that says what a key is."""
    return next(base for base in reversed(cls.__mro__) if key in vars(base).get("__annotations__", {}))


def build(scene: AbstractWorld) -> str:
    return digest(scene.build(device="cpu"))


def begun(scene: Any) -> AbstractTraining:
    """The training of a world of its own, or of its `[model]` or `[objective]`, from one state of the generator."""
    torch.manual_seed(0)
    if not isinstance(scene, Scene):
        made: AbstractTraining = scene.training(device="cpu")
        return made
    return learning_of(scene, table="model" if scene.objective is None else "objective", device="cpu")


def training(scene: AbstractWorld) -> str:
    return digest(begun(scene))


def steps(scene: AbstractWorld) -> str:
    """Two iterations and what the fit says in the end, whether or not it is there."""
    made = begun(scene)
    figures = [made.step() for _ in range(min(2, made.num_iterations))]
    return digest(figures, made.num_iterations, made.state_dict(), made.estimates())


def _folder(scene: AbstractWorld, act: Callable[[RunDirectory], Any]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        summary = act(RunDirectory.create(folder, resolved(scene), overwrite=False, resume=False))
        kept: dict[str, Any] = {}
        for file in sorted(Path(folder).rglob("*")):
            if file.suffix == ".npz":
                with np.load(file) as data:
                    kept[file.name] = dict(data)
            elif file.suffix in (".png", ".mp4", ".ply", ".vtp", ".pvd", ".safetensors", ".csv"):
                kept[file.relative_to(folder).as_posix()] = file.read_bytes()
        found = digest(summary, kept)
        for page in sorted(Path(folder).rglob("*.html")):
            shown = html.unescape(MARKUP.sub(" ", page.read_text(encoding="utf-8")))
            found.held[page.name] = np.arcsinh([1e3 * float(number) for number in NUMBER.findall(shown)])  # each counts
        return found


def finish(scene: AbstractWorld) -> str:
    made = begun(scene)
    made.step()
    return _folder(scene, made.finish)


def course(scene: AbstractWorld) -> str:
    """Every iteration, without the results."""
    made = begun(scene)
    return digest([made.step() for _ in range(made.num_iterations)], made.state_dict())


def whole(scene: AbstractWorld) -> str:
    """Every iteration, and the results."""
    made = begun(scene)
    figures = [made.step() for _ in range(made.num_iterations)]
    return digest(figures, made.state_dict(), _folder(scene, made.finish))


def run(scene: AbstractWorld) -> str:
    return _folder(scene, lambda out: scene.run(out, device="cpu", force=True))


def picture(scene: AbstractWorld) -> str:
    from simengine.worlds.motion.run import pictures

    return digest(pictures(scene, scene.particles()[0][None]))  # type: ignore[arg-type,attr-defined]


def members(scene: AbstractWorld) -> str:
    return digest(scene.problem.solved_for(scene.seed))  # type: ignore[attr-defined]


def fields(scene: AbstractWorld) -> str:
    return digest(scene.fields())


def scalars(scene: AbstractWorld) -> str:
    return digest(scene.scalars())


def solver(scene: AbstractWorld) -> str:
    return digest(scene.solver())  # type: ignore[attr-defined]


def check(scene: AbstractWorld) -> str:
    return digest(scene.check(device="cpu"))


def answers(*asks: Ask, field: str = "") -> Callable[[AbstractWorld], str]:
    """What the solved world answers; with a field in place of its number, that is not even."""

    def level(scene: AbstractWorld) -> str:
        world = scene
        if field:
            uneven = torch.sin(torch.arange(math.prod(scene.fields()[field]), dtype=torch.float64))
            world = replaced(scene, {field: uneven.reshape(scene.fields()[field])})
        solved = world.solve(asks)
        return digest([solved.sample(ask) for ask in asks])

    return level


def observed(report: bool = False, **tables: Any) -> Callable[[AbstractWorld], str]:
    """What observations beside the world should have shown; with a report also what it tells of them."""

    def level(scene: AbstractWorld) -> str:
        data = {**resolved(scene), **tables}
        problem = Problem(build_scene(data, directory=scene.directory, locate=lambda key: "scene"))
        if report:
            return _folder(scene, lambda out: misfit_report(problem, out))
        found = problem.predict(problem.start())
        return digest({name: prediction.values for name, prediction in found.items()})

    return level


def shown(scene: Scene) -> str:
    """What was read, what should have been, and how sure either is."""
    problem = Problem(scene)
    found = problem.predict(problem.start())
    read = {n: (m.values, m.mask, m.held_out, m.sigma, m.notes, m.files) for n, m in problem.measured.items()}
    noise = {name: own.noise(problem.measured[name]) for name, own in problem.instruments.items()}
    return digest(read, {name: p.values for name, p in found.items()}, noise)


def explained(scene: Scene) -> str:
    """The same, and two steps of the fit."""
    made = training_of(Problem(scene))
    return digest(shown(scene), [made.step() for _ in range(2)])


def trained(**tables: Any) -> Callable[[AbstractWorld], str]:
    """Every iteration of the fit that observations and inference beside the world ask for."""

    def level(scene: AbstractWorld) -> str:
        data = {**resolved(scene), **tables}
        made = training_of(Problem(build_scene(data, directory=scene.directory, locate=lambda key: "scene")))
        return digest([made.step() for _ in range(made.num_iterations)], made.state_dict())

    return level


@dataclasses.dataclass(frozen=True)
class Case:
    """A small scene.

    Attributes:
        data: The scene.
        levels: Where a key may show, the cheapest first.
        idle: Ends of dotted keys that have no effect here, and why.
        below: Only keys below these are tried; of the others another case knows.
        slow: Whether that takes more than some eight seconds of CPU.
    """

    data: dict[str, Any]
    levels: tuple[Callable[[AbstractWorld], str], ...]
    idle: dict[str, str] = dataclasses.field(default_factory=dict)
    below: tuple[str, ...] = ("",)
    slow: bool = False


def learn(world: dict[str, Any], kind: str, table: str = "model", **values: Any) -> dict[str, Any]:
    """A world with the tables of what is trained on it, each value in the table where it belongs."""
    data, where = copy.deepcopy(world), places(learned_class(table, kind))
    for name, value in {"type": kind, **values}.items():
        own, _, key = where[name].partition(".")
        data.setdefault(own, {})[key] = value
    return data


def written(scene: AbstractWorld | Scene) -> dict[str, Any]:
    """A scene as plain data, every default written out."""
    data = resolved(scene)
    if isinstance(scene, Scene):
        learned = scene.learner or scene.objective
        if learned is None:  # observations: a default that is not written is added where it is changed
            return data
        values = to_plain(learned)
        for name, dotted in places(type(learned)).items():
            if name in values:
                own, _, key = dotted.partition(".")
                data.setdefault(own, {})[key] = values[name]
    return data


def leaves(value: Any, hint: Any, key: str = "") -> Iterator[tuple[str, Any, Any, tuple[type, str]]]:
    """Dotted key, value, type hint and the (class, field) it belongs to, of every number, word and path of a scene."""

    def inside(value: Any, hint: Any, key: str, owner: tuple[type, str]) -> Iterator[Any]:
        if isinstance(value, Scene):
            yield from inside(value.world, type(value.world), key, owner)
            for name, instrument in value.observations.items():
                yield from inside(instrument, type(instrument), f"observations.{name}", owner)
            learned = value.learner or value.objective
            if learned is None:
                return
            for name, dotted in places(type(learned)).items():
                if name != "type":
                    own = (type(learned), name)
                    yield from inside(getattr(learned, name), hints(type(learned))[name], dotted, own)
        elif dataclasses.is_dataclass(value):
            for name in scene_fields(type(value)):
                if name != "type":
                    yield from inside(
                        getattr(value, name), hints(type(value))[name], f"{key}.{name}".strip("."), (type(value), name)
                    )
        elif isinstance(value, Mapping):
            for name, item in value.items():
                yield from inside(item, hint, f'{key}."{name}"', owner)
        elif isinstance(value, tuple):
            for position, item in enumerate(value):
                yield from inside(item, hint, f"{key}.{position}", owner)
        elif value is not None:
            yield key, value, hint, owner

    yield from inside(value, hint, key, (type(value), ""))


def others(value: Any, hint: Any) -> Iterator[Any]:
    """Other values that may be valid, the likely ones first."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value * 2, value - 1, value // 2)
    elif isinstance(value, float):
        yield from (value * 1.2 if value else 0.05, value * 0.8, value + 0.1, value + 1.0, value * 0.3, value * 1.9)
    elif isinstance(value, Path):
        yield value.with_name("nowhere" + value.suffix)
    else:
        words: set[str] = set()

        def find(hint: Any) -> None:
            if typing.get_origin(hint) is Literal:
                words.update(typing.get_args(hint))
            for argument in typing.get_args(hint):
                if not isinstance(argument, str):
                    find(argument)

        find(hint)
        yield from (sorted(words - {value}) if value in words else [value + "x"])


def changed(data: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    from simengine.scene.loader import _key_parts

    data = copy.deepcopy(data)
    *parents, last = _key_parts(key, key)
    target: Any = data
    for part in parents:
        target = target[int(part)] if isinstance(target, list) else target[part]
    target[int(last) if isinstance(target, list) else last] = str(value) if isinstance(value, Path) else value
    return data


def scene_of(data: dict[str, Any], folder: Path) -> Any:
    if {"model", "objective", "observations"} & data.keys():
        return build_scene(data, directory=folder, locate=lambda key: "scene")
    return make_scene(data, directory=folder, locate=lambda key: "scene")


def acting(case: Case, folder: Path) -> tuple[dict[str, tuple[type, str]], dict[str, tuple[type, str]]]:
    """The keys of a case that act, and those that do not."""
    scene = scene_of(case.data, folder)
    data = written(scene)

    @functools.cache
    def base(level: Callable[[AbstractWorld], str]) -> str:
        first = level(scene)
        assert level(scene_of(data, folder)) == first, "the same scene gives the same"
        return first

    found: tuple[dict[str, tuple[type, str]], dict[str, tuple[type, str]]] = {}, {}
    for key, value, hint, owner in leaves(scene, type(scene)):
        if not key.startswith(case.below):
            continue
        acts = tried = False
        for other in others(value, hint):
            if other == value:
                continue
            try:
                variant = scene_of(changed(data, key, other), folder)
            except SceneError:
                continue  # not a valid value
            tried = True
            for level in case.levels:
                before = base(level)  # out of what may be refused: a scene that is itself refused judges nothing
                try:
                    acts = level(variant) != before
                except (ValueError, RuntimeError):  # refused, by what takes it
                    acts = True
                if acts:
                    break
            if acts:
                break
        if tried:
            found[0 if acts else 1][key] = owner
    return found
