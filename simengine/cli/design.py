"""`simengine design`."""

from simengine.cli.common import AsJson, Overrides, emit


def design(
    scene: str,
    *,
    overrides: Overrides = None,
    most: int = 10,
    by_row: bool = False,
    draws: int | None = None,
    as_json: AsJson = False,
) -> int:
    """Say which experiment to make next: of what is held out, what would shrink the posterior most.

    A solve for each unknown; nothing is fitted, and what was measured of the candidates is not looked at.

    Args:
        scene: A .toml or .py file with [observations] and [unknowns]; what is held out is what could be measured.
        most: List so many.
        by_row: Each row of an observation that is held out as a whole is a candidate of its own.
        draws: Average over so many draws from the priors of what is sought; else at the scene's own numbers.
    """
    from simengine.fit.certainty.design import candidates, expected
    from simengine.fit.problem import Problem
    from simengine.scene import load_scene

    problem = Problem(load_scene(scene, overrides or ()))
    listed = candidates(problem, by_row=by_row) if draws is None else expected(problem, draws, by_row=by_row)
    result = {
        f"{k + 1}. {own.observation}: {own.label}": {
            "shrinks_the_volume": own.shrinks,
            **({"of_eight_in_ten_draws": list(own.between)} if own.between is not None else {}),
            **{f"width of {name}": width for name, width in own.widths.items()},
        }
        for k, own in enumerate(listed[:most])
    }
    emit(result, as_json=as_json, title=f"design {scene}")
    return 0
