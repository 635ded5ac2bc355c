"""`simengine check`."""

import time
from typing import Any

from simengine.cli.common import AsJson, Device, Overrides, With, emit, pick_device


def check(
    scene: str, *, overrides: Overrides = None, own: With = None, device: Device = None, as_json: AsJson = False
) -> int:
    """Check a scene before it runs: what is read, stability, memory, gradient.

    Args:
        scene: A .toml or .py file, or the name of a shipped scene.
    """
    from simengine.scene import load_scene
    from simengine.scene.kinds import learned_method
    from simengine.scene.own_code import run_own

    run_own(own or [])
    loaded = load_scene(scene, overrides or ())
    chosen = pick_device(device, loaded.world.devices)
    report: dict[str, Any] = {"kind": loaded.kind}
    opened: Any = None
    if loaded.observations:  # first: a file that does not fit is told before minutes of solving
        from simengine.fit.preflight import check_observations, open_observations

        opened = open_observations(loaded)
    began = time.perf_counter()
    if "" in loaded.runs:
        report |= loaded.world.check(device=chosen)
    else:  # a world that only its runs complete
        for name, world in loaded.runs.items():
            found = world.check(device=chosen)
            report["ok"] = report.get("ok", True) and found.pop("ok", True)
            report[f"run {name}"] = found
    seconds = (time.perf_counter() - began) / max(len(loaded.runs), 1)
    for table, asked in {"model": loaded.learner, "objective": loaded.objective}.items():
        if asked is not None:
            report[table] = asked.type
            preflight = learned_method(table, asked.type, "check")
            report |= {} if preflight is None else preflight(loaded)
    if isinstance(opened, dict):
        report |= opened
    elif opened is not None:
        report |= check_observations(opened, seconds_of_one=seconds)
    emit(report, as_json=as_json, title=f"check {scene}")
    return 0 if report.get("ok", True) else 2
