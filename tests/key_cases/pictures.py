"""Pictures of what moves, by a camera as it is: shutter, lens, response."""

from typing import Any

from key_cases.judge import Case, explained, shown
from key_cases.motions import SHORT, mpm

BALL = {"type": "sphere", "center": [0.5, 0.5, 0.5], "radius": 0.2}
EYE = {"eye": [0.6, 0.7, 2.0], "target": [0.5, 0.5, 0.5], "field_of_view": 30.0}
FILM = {"type": "pictures", "file": "films/film_*.png", "camera": EYE, "times": [0.0, 1e-3, 2e-3], "sigma": 0.05}
FILM |= {"exposure": 1.1, "white": [1.0, 0.9, 1.1], "background": [0.2, 0.3, 0.4], "saturated": 0.97}
SOUGHT = {"observations.film.exposure": {"prior": {"lognormal": 0.2}}}


def film(*below: str, **keys: Any) -> Case:
    """A case of a film with more keys, of which those below some are tried."""
    data = mpm(shape=BALL, grid=SHORT | {"num_steps": 16}) | {"observations": {"film": FILM | keys}, "unknowns": SOUGHT}
    return Case(data, (shown, explained), below=tuple(f"observations.film.{key}" for key in below))


CASES: dict[str, Case] = {
    "a film": film(
        *("file", "start", "clock_rate", "gain", "offset", "sigma", "loss", "weight", "compare", "times", "every"),
        *("shrink", "exposure", "white", "background", "saturated", "pyramid", "within", "hold_out", "appearance"),
        loss="huber",
        weight=0.5,
        within={"time": [0.0, 2e-3]},
    ),
    "a film of a moving shutter": film("shutter", "read_out", "moments", shutter=2e-3, read_out=4e-4, moments=3),
    "a film out of focus": film("aperture", "focus", aperture=0.1, focus=1.2),
    "a film through a lens that is dark at its rim": film(
        *("vignetting", "response", "gamma"), vignetting=[-0.2, 0.05], response="gamma", gamma=2.0
    ),
    "a film of a silhouette": film(
        "segment",
        "mask",
        "compare",
        compare="silhouette",
        mask="films/white.png",
        segment={"color": [0.6, 0.5, 0.6], "tolerance": 0.2},
        saturated=None,
    ),
}
