"""`simengine observe`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from simengine.cli.common import AsJson, Overrides, With, emit


def observe(
    scene: str,
    *,
    overrides: Overrides = None,
    own: With = None,
    out: Annotated[Path, Parameter(help="Folder for the files.")] = Path("obs"),
    refine: Annotated[
        float | None,
        Parameter(help="Times the resolution of the scene at which the world is solved; 2 of a world that has one."),
    ] = None,
    seed: Annotated[int, Parameter(help="Of the noise and the gaps.")] = 0,
    renderer: Annotated[
        Literal["own", "raycast"],
        Parameter(help="Of pictures: raycast is another than the one that fits, with lamp, shadows and a grey room."),
    ] = "own",
    as_json: AsJson = False,
) -> int:
    """Write the files that the instruments of a scene would have written: a twin experiment.

    What `--set` changes is hidden: it goes beside the files as reference.toml, which only reports read.

    Args:
        scene: A .toml or .py file with [observations], or the name of a shipped scene.
    """
    from simengine.fit.twin import write_twin
    from simengine.scene import load_scene
    from simengine.scene.own_code import run_own

    run_own(own or [])
    plain, hidden = load_scene(scene), load_scene(scene, overrides or ())
    emit(
        write_twin(plain, hidden, out, refine=refine, seed=seed, renderer=renderer),
        as_json=as_json,
        title=f"observe {scene}",
    )
    return 0
