"""A page for a browser that scrubs films: what was observed beside what was fitted, and what is left over."""

import dataclasses
import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simengine.io.image import to_srgb8
from simengine.view.particle_page import ParticlePage

MOST = 64 << 20  # values of an observation that are shown; of more, every k-th picture


@dataclasses.dataclass(frozen=True)
class ComparedFilm:
    """A film and its prediction, linear light or a share.

    Attributes:
        observed: (f, h, w, 1 or 3); not finite where nothing is compared.
        fitted: Of the same shape.
        times: Of the pictures [s], or None.
    """

    observed: NDArray[Any]
    fitted: NDArray[Any]
    times: Sequence[float] | None = None

    def __post_init__(self) -> None:
        shape = self.observed.shape
        if len(shape) != 4 or shape[-1] not in (1, 3) or 0 in shape or self.fitted.shape != shape:
            raise ValueError(
                f"observed, fitted: expected one shape (f, h, w, 1 or 3), got {shape}, {self.fitted.shape}"
            )
        if self.times is not None and len(self.times) != shape[0]:
            raise ValueError(f"times: expected {shape[0]}, one for each picture, got {len(self.times)}")


def compare_page(title: str, films: Mapping[str, ComparedFilm], *, links: Mapping[str, str]) -> ParticlePage:
    """Build the page; one slider moves all pictures of an observation.

    Args:
        title: Its heading.
        films: By the name of the observation, at least one.
        links: Text -> address of further pages.

    Raises:
        ValueError: There are none.
    """
    if not films:
        raise ValueError("films: expected at least one")
    facts: list[dict[str, Any]] = []
    parts: dict[str, bytes] = {}
    for index, whole in enumerate(films.values()):
        every = -(-whole.observed.size // MOST)
        times = None if whole.times is None else whole.times[::every]
        film = ComparedFilm(whole.observed[::every], whole.fitted[::every], times)
        seen = np.isfinite(film.observed)
        low, high = float(film.observed[seen].min(initial=0.0)), float(film.observed[seen].max(initial=0.0))
        span = max(high - low, 1e-12)
        gap = np.where(seen, film.fitted - film.observed, 0.0)
        most = max(float(np.abs(gap).max()), 1e-12)
        shown = {
            "observed": to_srgb8(_rgb((film.observed - low) / span)),
            "fitted": to_srgb8(_rgb((film.fitted - low) / span)),
            "over": np.round(255 * _rgb(0.5 + 0.5 * gap / most)).astype(np.uint8),
        }
        parts |= {f"/films/{index}/{name}": pixels.tobytes() for name, pixels in shown.items()}
        told = None if times is None else [float(t) for t in times]
        facts.append(
            {"count": len(film.observed), "size": list(film.observed.shape[1:3]), "times": told, "scale": most}
        )
    options = "".join(f'<option value="{k}">{html.escape(name)}</option>' for k, name in enumerate(films))
    anchors = " ".join(f'<a href="{html.escape(to)}">{html.escape(text)}</a>' for text, to in links.items())
    page = (resources.files("simengine.assets") / "compare_page.html").read_text(encoding="utf-8")
    words = {"@TITLE@": html.escape(title), "@OPTIONS@": options, "@LINKS@": anchors}
    for mark, text in words.items():
        page = page.replace(mark, text)
    return ParticlePage(page.replace("@FACTS@", json.dumps(facts).replace("<", "\\u003c")).encode(), parts)


def _rgb(values: NDArray[Any]) -> NDArray[Any]:
    """Values (..., 1 or 3) as three channels in [0, 1]; 0 for what is not finite."""
    plain = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0).clip(0.0, 1.0)
    return np.broadcast_to(plain, (*plain.shape[:-1], 3)) if plain.shape[-1] == 1 else plain
