"""What was measured, read for a problem: with its window in time, its held-out part, and its doubts."""

import dataclasses
from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch

from simengine.fit.coordinate import Coordinate
from simengine.fit.problem.plausible import check_plausible
from simengine.fit.unknowns import spread_out
from simengine.scene.address import OF_THE_VALUE, resolve
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.grammar import Scene
from simengine.scene.instrument import AbstractInstrument, Measured

WINDOW = 3.0  # standard deviations that a clock may move


def world_of(scene: Scene, observation: str) -> AbstractWorld:
    """The world of the run that an observation saw."""
    return scene.runs.get(scene.observations[observation].run, scene.world)


def with_fields(scene: Scene) -> Scene:
    """The scene with what is sought `over` a body as fields of its worlds, their keys by number.

    Raises:
        SceneError: Such a key names no number that may be a field, or a run has its own.
    """
    spread = {key: unknown for key, unknown in scene.unknowns.items() if unknown.over is not None}
    if not spread:
        return scene
    world, runs, spelled = scene.world, dict(scene.runs), dict[str, str]()
    for key, unknown in spread.items():
        prior = unknown.prior
        if prior is None or prior.lognormal is None or prior.length is None:
            raise SceneError(
                f"unknowns.{key}.prior: a field over a body takes lognormal with a length over which it is alike: "
                "{ lognormal = [1e5, 0.5], length = 0.02 }"
            )
        try:
            found = resolve(world, key)
        except SceneError as error:
            raise SceneError(f"unknowns.{error}") from None
        if len(found) != 1:
            raise SceneError(f"unknowns.{key}.over: {len(found)} numbers are named, and one may be a field; name it")
        try:
            world = world.over_body(found[0])
            runs = {name: own.over_body(found[0]) for name, own in runs.items()}
        except SceneError as error:
            raise SceneError(f"unknowns.{key}.{error}") from None
        for run, told in scene.set_by_run.items():
            if told & {key, found[0]}:
                raise SceneError(f"runs.{run}: sets {key}, which is sought as one field of all runs; leave it out")
        spelled[key] = found[0]
    return dataclasses.replace(
        scene,
        world=world,
        runs=runs,
        unknowns={spelled.get(key, key): unknown for key, unknown in scene.unknowns.items()},
        reference={spelled.get(key, key): value for key, value in scene.reference.items()},
    )


def read(scene: Scene, name: str) -> tuple[Measured, AbstractInstrument, list[str]]:
    """What an observation measured, its instrument prepared for it, and doubts.

    Args:
        scene: The scene.
        name: Of the observation.

    Raises:
        SceneError: The file cannot be read, or the instrument asks what the world does not answer.
    """
    world = world_of(scene, name)
    instrument = scene.observations[name].facing(world)
    measured = _held_out(scene, name, instrument.read(before=_clock_window(scene, name)))
    instrument = spread_out(instrument.prepared(measured), measured, scene.unknowns)
    check_plausible(name, measured, world)
    doubts = [f"observations.{name}: {doubt}" for doubt in instrument.doubts(measured, world.sizes())]
    for ask in instrument.asks(measured):
        if type(ask) not in world.answers:
            raise SceneError(
                f"observations.{name}: a world of kind {world.kind!r} does not answer what "
                f"{instrument.type!r} asks ({type(ask).__name__}); it answers "  # type: ignore[attr-defined]
                f"{', '.join(sorted(a.__name__ for a in world.answers)) or 'no instrument'}"
            )
    return measured, instrument, doubts


def units_of(measured: Measured, world: AbstractWorld) -> tuple[str, ...]:
    """Of the columns, SI: as the instrument knows them, or as the world does."""
    told = {} if all(measured.units) else world.scalars()  # a world of one's own is solved for that
    quantities = [name.partition("#")[0] for name in measured.names]  # several columns of one: T#0, T#1
    return tuple(unit or told.get(name, "") for name, unit in zip(quantities, measured.units, strict=True))


def with_unit(key: str, world: AbstractWorld) -> str:
    """An abscissa as it stands on an axis, SI: `time [s]`, `extension [m]`."""
    unit = world.abscissas().get(key) or world.scalars().get(key, "")
    return f"{key} [{unit}]" if unit and unit != "1" else key


def in_its_unit(coordinate: Coordinate, scene: Scene, measured: Mapping[str, Measured]) -> Coordinate:
    """A number in the unit of what was measured (a noise, an offset), with that unit where the columns agree on one."""
    if coordinate.unit != OF_THE_VALUE:
        return coordinate
    names = {name for place, name, _ in coordinate.targets if place == "observation"}
    units = {unit for name in names for unit in units_of(measured[name], world_of(scene, name))}
    return dataclasses.replace(coordinate, unit=units.pop()) if len(units) == 1 else coordinate


def nuisances(name: str, instrument: AbstractInstrument, measured: Measured) -> list[Coordinate]:
    """Numbers that an instrument seeks by itself, such as where its marks sit."""
    return [
        Coordinate(
            name=f"observations.{name}.{key} {index}",
            targets=(("observation", name, f"{key}.{index}"),),
            start=0.0,
            scale=width,
            mean=0.0,
            sd=width,
            chosen=False,
        )
        for key, width in instrument.nuisances(measured).items()
        for index in range(len(getattr(instrument, key)))
    ]


def _clock_window(scene: Scene, name: str) -> float:
    """How far [s] the clock of an observation may move, by the prior of its start."""
    own = [f"observations.{name}.start", f"instruments.{scene.instrument_of.get(name, '')}.start"]
    for key, unknown in scene.unknowns.items():
        if unknown.prior and any(fnmatchcase(address, key) for address in own):
            width = unknown.prior.normal
            return WINDOW * float(width[-1] if isinstance(width, tuple) else width or 0.0)
    return 0.0


def _held_out(scene: Scene, name: str, measured: Measured) -> Measured:
    """What was measured, with what the scene's inference holds out: an observation by name, or the last part in time.

    Raises:
        SceneError: A name is no observation.
    """
    spec = scene.inference.hold_out
    names = spec if isinstance(spec, list | tuple) else []
    known = {f"observations.{n}" for n in scene.observations} | set(scene.observations)
    for entry in names:
        if entry not in known:
            raise SceneError(f"inference.hold_out: {entry!r} is no observation; known: {', '.join(sorted(known))}")
    if name in names or f"observations.{name}" in names:
        return dataclasses.replace(measured, held_out=torch.ones_like(measured.held_out))
    if isinstance(spec, float) and "time" in measured.at:
        time = measured.at["time"]
        seen = time[measured.mask.any(1)]
        cut = seen.max() - spec * (seen.max() - seen.min())
        return dataclasses.replace(measured, held_out=measured.held_out | (time > cut)[:, None])
    return measured
