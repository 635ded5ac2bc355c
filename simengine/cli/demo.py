"""`simengine demo`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from simengine.cli.common import Quiet

SCENES = {
    "motion": "identify_jelly",
    "materials": "rubber_treloar",
    "flames": "calibrate_methane",
    "fields": "diffusion_sorption_inverse",
    "pictures": "jelly_from_video",
}
Area = Literal["motion", "materials", "flames", "fields", "pictures"]


def demo(
    area: Area = "motion",
    *,
    out: Annotated[Path | None, Parameter(help="Run directory; runs/demo-AREA if not given.")] = None,
    quiet: Quiet = False,
) -> int:
    """Fit a scene that ships, from its file to the report; what an earlier demo left there is replaced.

    Args:
        area: motion (a jelly's stiffness), materials (rubber), flames (a rate), fields (sorption), pictures (a film).
    """
    from simengine.cli.fit import fit

    folder = out or Path("runs") / f"demo-{area}"
    return fit(SCENES[area], out=folder, overwrite=True, quiet=quiet)
