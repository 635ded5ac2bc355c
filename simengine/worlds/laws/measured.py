"""A fit or training of a scene as one row of a table: its summary, CPU seconds and command, kept in its folder."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simengine.fit.loop import fit
from simengine.fit.trainings.learned import learning_of
from simengine.io.arrays import write_json
from simengine.io.run_directory import RunDirectory
from simengine.scene import load_scene, resolved


def measured_fit(folder: Path, scene: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The summary of a fit, with `seconds` of CPU and the `command` that repeats it.

    Args:
        folder: Where the run is kept; one that is finished is read, one that was interrupted goes on, and then its
            `seconds` are those since.
        scene: A scene file or the name of a shipped scene.
        overrides: As given to `--set`.

    Raises:
        ValueError: The folder holds another scene.
    """
    loaded = load_scene(scene, overrides)
    verb = "train" if loaded.learner is not None else "optimise" if loaded.objective is not None else "fit"
    command = " ".join([f"simengine {verb} {scene}", *(f"--set {override}" for override in overrides)])
    file = folder / "measured.json"
    if file.is_file():
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if kept["command"] != command:
            raise ValueError(f"{folder}: holds {kept['command']!r}, not {command!r}; remove it to measure anew")
        return kept
    start = time.process_time()
    out = RunDirectory.create(folder, resolved(loaded), overwrite=False, resume=True)
    table = {"train": "model", "optimise": "objective"}.get(verb)
    training = loaded.world.training() if table is None else learning_of(loaded, table=table)
    result = fit(training, out, progress=False)
    if result.interrupted:
        raise KeyboardInterrupt
    summary = {**result.summary, "seconds": time.process_time() - start, "command": command}
    write_json(file, summary)
    return summary
