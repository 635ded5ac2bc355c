"""`simengine run`."""

import sys
from typing import Annotated

from cyclopts import Parameter

from simengine.cli.common import AsJson, Device, Out, Overrides, Overwrite, With, default_out, emit, pick_device


def run(
    scene: str,
    *,
    overrides: Overrides = None,
    own: With = None,
    out: Out = None,
    overwrite: Overwrite = False,
    device: Device = None,
    force: Annotated[bool, Parameter(help="Run although a stability number is above 1.", negative=())] = False,
    as_json: AsJson = False,
) -> int:
    """Simulate or solve a scene.

    Ctrl-C, SIGTERM and SIGHUP end a motion with its next saved state and write what there is until then, with exit
    code 1; a second one stops at once, as the first does where a scene is solved in one piece.

    Args:
        scene: A .toml or .py file, or the name of a shipped scene.
    """
    from simengine.interrupt import signals_interrupt
    from simengine.scene import load_scene
    from simengine.scene.own_code import run_own
    from simengine.scene.record import open_run

    run_own(own or [])
    loaded = load_scene(scene, overrides or ())
    chosen = pick_device(device, loaded.world.devices)
    folder = out or default_out(scene)
    directory = open_run(folder, loaded, overwrite=overwrite, resume=False)
    try:
        with signals_interrupt():
            summary = {**loaded.world.run(directory, device=chosen, force=force), "directory": str(folder)}
    except KeyboardInterrupt:
        print(f"interrupted; {folder} holds what was written until then", file=sys.stderr)
        return 1
    directory.write("summary.json", summary)
    if "interrupted" in summary:
        print(f"interrupted {summary['interrupted']}; what was found until then is in {folder}", file=sys.stderr)
        return 1
    emit(summary, as_json=as_json, title=f"run {scene}")
    return 0
