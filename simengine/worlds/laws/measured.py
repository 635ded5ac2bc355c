"""A fit of a shipped scene as one row of a table: its summary, CPU seconds and command, kept in its folder."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simengine.fit.loop import fit
from simengine.io.arrays import write_json
from simengine.io.run_directory import RunDirectory
from simengine.scene import load_world, resolved


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
    command = " ".join([f"simengine fit {scene}", *(f"--set {override}" for override in overrides)])
    file = folder / "measured.json"
    if file.is_file():
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if kept["command"] != command:
            raise ValueError(f"{folder}: holds {kept['command']!r}, not {command!r}; remove it to measure anew")
        return kept
    start = time.process_time()
    loaded = load_world(scene, overrides)
    out = RunDirectory.create(folder, resolved(loaded), overwrite=False, resume=True)
    result = fit(loaded.training(), out, progress=False)
    if result.interrupted:
        raise KeyboardInterrupt
    summary = {**result.summary, "seconds": time.process_time() - start, "command": command}
    write_json(file, summary)
    return summary
