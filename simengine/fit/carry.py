"""What a fit found, put into another scene: a law in a new scene, a drag in another fall."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from simengine.fit.problem import Problem
from simengine.fit.problem.prediction import Prediction
from simengine.fit.spread import Spread, predicted_bars
from simengine.io.arrays import read_json
from simengine.scene.address import parts_of, replaced, resolve
from simengine.scene.base import AbstractWorld, Refused, SceneError
from simengine.scene.grammar import BASE, Scene
from simengine.shown import cut

_OF_INSTRUMENTS = ("observations", "instruments", "cameras", "lights", "runs")


@dataclasses.dataclass(frozen=True)
class Carried:
    """A scene with numbers that were found elsewhere.

    Attributes:
        scene: Its worlds hold them, and nothing is sought in it any more.
        values: What was put in, by key.
        left: Why others were not, by name.
        places: Keys of the worlds that hold each of `values`.
    """

    scene: Scene
    values: dict[str, float]
    left: dict[str, str]
    places: dict[str, tuple[str, ...]]

    def bars(self, spread: Spread | None) -> dict[str, torch.Tensor]:
        """Standard deviation of each prediction, (rows, columns), by observation.

        Raises:
            SceneError: Why there are none.
        """
        if spread is None:
            raise SceneError("the run tells no covariance of what it found; fit it again with this version")
        try:
            return predicted_bars(self.scene, self.places, spread)
        except Refused as error:
            raise SceneError(f"there is no run a little off what was found ({cut(str(error))})") from None


def found_in(run: Path) -> dict[str, float]:
    """Estimates of a finished fit by name, SI.

    Raises:
        ValueError: The folder holds no finished fit.
    """
    file = next((f for f in (run / "summary.json", run / "fit.json") if f.is_file()), run / "summary.json")
    try:
        summary: Any = read_json(file)
    except ValueError as error:
        raise ValueError(f"{run}: holds neither a model nor a finished fit ({cut(str(error))})") from None
    estimates = summary.get("estimates") if isinstance(summary, dict) else None
    if not isinstance(estimates, dict) or not estimates:
        raise ValueError(f"{run}: {file.name} holds no estimates; finish `simengine fit` there first")
    return {name: float(e["value"]) for name, e in estimates.items() if e.get("value") is not None}


def carried(values: dict[str, float], scene: Scene) -> Carried:
    """A scene with what a fit found in place of its own numbers.

    Numbers of instruments, of single runs and of what the new world does not have stay where they were found; what a
    run of the new scene sets itself stays set.

    Args:
        values: Key -> value, SI.
        scene: The other scene.

    Raises:
        SceneError: None of them has a place in it.
    """
    used: dict[str, float] = {}
    places: dict[str, tuple[str, ...]] = {}
    left: dict[str, str] = {}
    worlds = dict(scene.runs) or {BASE: scene.world}
    for name, value in values.items():
        if parts_of(name)[0] in _OF_INSTRUMENTS:
            left[name] = "belongs to the instruments or runs of the fit"
            continue
        for run, world in worlds.items():
            if name in scene.set_by_run.get(run, ()):
                continue
            try:
                keys = _places(world, name)
                worlds[run] = replaced(world, dict.fromkeys(keys, value))
                used[name] = value
                places[name] = tuple(dict.fromkeys((*places.get(name, ()), *keys)))
            except SceneError as error:
                left[name] = cut(str(error))
    if not used:
        raise SceneError(f"nothing that was found has a place in the new scene: {cut('; '.join(left.values()))}")
    made = dataclasses.replace(scene, world=worlds.get(BASE, scene.world), runs=worlds, unknowns={})
    return Carried(made, used, {name: why for name, why in left.items() if name not in used}, places)


def _places(world: AbstractWorld, name: str) -> list[str]:
    """The numbers of a world that an estimate is of; entries of vectors are told as "material.mu 0"."""
    base, _, entry = name.rpartition(" ")
    if base and entry.isdigit():
        entries = resolve(world, base)
        if int(entry) >= len(entries):
            raise SceneError(f"{base}: has {len(entries)} entries here")
        return [entries[int(entry)]]
    return resolve(world, name)


def predicted(values: dict[str, float], spread: Spread | None, scene: Scene) -> dict[str, Prediction]:
    """The new scene's observations against what was found elsewhere, with bars where the fit tells some."""
    made = carried(values, scene)
    problem = Problem(made.scene)
    problem.settle(problem.start())
    bars = {} if spread is None else made.bars(spread)
    return {name: dataclasses.replace(p, std=bars.get(name)) for name, p in problem.predict().items()}
