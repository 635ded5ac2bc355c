"""`simengine design`."""

from simengine.cli.common import AsJson, Overrides, emit


def design(
    scene: str, *, overrides: Overrides = None, most: int = 10, by_row: bool = False, as_json: AsJson = False
) -> int:
    """Say which experiment to make next: of what is held out, what would shrink the posterior most.

    A solve for each unknown; nothing is fitted, and what was measured of the candidates is not looked at.

    Args:
        scene: A .toml or .py file with [observations] and [unknowns]; what is held out is what could be measured.
        most: List so many.
        by_row: Each row of an observation that is held out as a whole is a candidate of its own.
    """
    from simengine.fit.certainty.design import candidates
    from simengine.fit.problem import Problem
    from simengine.scene import load_scene

    listed = candidates(Problem(load_scene(scene, overrides or ())), by_row=by_row)
    result = {
        f"{k + 1}. {own.observation}: {own.label}": {
            "shrinks_the_volume": own.shrinks,
            **{f"width of {name}": width for name, width in own.widths.items()},
        }
        for k, own in enumerate(listed[:most])
    }
    emit(result, as_json=as_json, title=f"design {scene}")
    return 0
