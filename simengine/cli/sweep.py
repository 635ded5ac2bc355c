"""`simengine sweep`."""

from typing import Annotated

from cyclopts import Parameter

from simengine.cli.common import AsJson, Out, Overrides, default_out, emit


def sweep(
    scene: str,
    *,
    over: Annotated[list[str], Parameter(negative=())],
    overrides: Overrides = None,
    out: Out = None,
    workers: int = 2,
    cluster: str = "",
    as_json: AsJson = False,
) -> int:
    """Fit, predict or run a scene with many numbers, over local processes or a cluster; the same command resumes.

    Args:
        scene: A .toml or .py file, or the name of a shipped scene. It is fitted if it seeks something, else predicted
            if it observes something, else run.
        over: KEY=linspace(a, b, n), logspace(a, b, n), range(n) or [a, b, ...]; several make all combinations.
        workers: Processes.
        cluster: Address of a Dask scheduler, as tcp://host:8786, whose workers see the same files and take their place.
    """
    from simengine.fit.sweep import sweep as spread
    from simengine.fit.sweep import values_of
    from simengine.scene import load_scene

    first = [f"{key}={values[0]!r}" for key, values in map(values_of, over)]
    loaded = load_scene(scene, [*(overrides or ()), *first])
    verb = "fit" if loaded.unknowns else "predict" if loaded.observations else "run"
    folder = out or default_out(scene).with_name(default_out(scene).name + "-sweep")
    if workers < 1:
        raise ValueError(f"--workers: expected at least 1, got {workers}")
    own = overrides or ()
    result = spread(scene, over, folder, verb=verb, overrides=own, workers=workers, cluster=cluster)
    emit(result, as_json=as_json, title=f"sweep {scene}")
    return 1 if result["failed"] == result["tasks"] else 0
