"""Twin experiments as files: what the instruments of a scene would have written of a world whose numbers are hidden.

The world is solved at another resolution than the one that will be fitted, and what was hidden goes beside the files.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch

from simengine.scene.address import named, numbers
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.grammar import Scene


def write_twin(
    scene: Scene, hidden: Scene, out: Path, *, refine: float | None = None, seed: int = 0, renderer: str = "own"
) -> dict[str, Any]:
    """Write a file for each observation, and reference.toml with what was hidden.

    Args:
        scene: The scene as a user will fit it.
        hidden: The same with the true numbers.
        out: Folder; the files take the names that the observations have in the scene.
        refine: Times the resolution of the scene; None for 2, or as it is of a world without a resolution.
        seed: Of noise and gaps.
        renderer: Of pictures: own, or raycast.

    Raises:
        SceneError: Nothing is observed, there is no such renderer, or an instrument cannot be read the other way round.
    """
    import tomli_w

    if not hidden.observations:
        raise SceneError("observations: there is nothing to observe; add [observations.NAME]")
    if refine is None:
        refine = 1.0 if type(hidden.world).refined is AbstractWorld.refined else 2.0
    generator = torch.Generator().manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    written: dict[str, str] = {}
    notes: list[str] = []
    for name, instrument in hidden.observations.items():
        world = hidden.runs.get(instrument.run, hidden.world)
        if renderer != "own" and hasattr(instrument, "renderer"):
            instrument = dataclasses.replace(instrument, renderer=renderer)  # type: ignore[call-arg]
        template, prepared = instrument.planned(world, generator)
        finer = world if refine == 1 else world.refined(refine)
        asks = prepared.asks(template)
        run = finer.prepare(asks).solve(asks)
        with torch.no_grad():
            values = prepared.predict(run, template)
            sigma = prepared.noise(dataclasses.replace(template, values=values))
            if bool(sigma[values.isfinite()].isnan().any()):
                notes.append(
                    f"observations.{name}: its standard deviation is to be estimated, so its file has no noise where "
                    f"it is not told; --set observations.{name}.sigma=VALUE gives it some"
                )
                sigma = sigma.nan_to_num(nan=0.0)
            noise = torch.randn(values.shape, generator=generator, dtype=torch.float64)
            values = torch.where(template.mask, values + sigma * noise, math.nan)
        file = out / Path(instrument.file.removeprefix("asset:")).name
        prepared.write(file, dataclasses.replace(template, values=values))
        written[name] = str(file)
    reference = _differences(scene, hidden)
    path = out / "reference.toml"
    made = {"refine": refine, "seed": seed, "renderer": renderer}
    path.write_text(tomli_w.dumps({"reference": reference, "made": made}), encoding="utf-8")
    told = {"files": written, "reference": str(path), "hidden": reference}
    return told | {"notes": notes} if notes else told


def _differences(scene: Scene, hidden: Scene) -> dict[str, float]:
    """The numbers that differ, by the name that reports use."""
    was, now = numbers(scene.world), numbers(hidden.world)
    return {named(hidden.world, key): n.value for key, n in now.items() if key in was and was[key].value != n.value}
