"""Bodies told from walls by two Gaussians of colour, on discs drawn by area."""

import numpy as np
import pytest
import torch

from simengine.observe.colour_mixture import body_pixels
from simengine.observe.image_math import Segment
from simengine.render.tone import decode_srgb, encode_srgb

SIZE, FINE, RADIUS = 48, 6, 9.3
BLUE, RED, GREEN, GREY = (0.12, 0.28, 0.6), (0.4, 0.16, 0.12), (0.25, 0.4, 0.2), (0.35, 0.35, 0.35)


def _film(
    body: tuple[float, ...], wall: tuple[float, ...], *, noise: float, slope: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Four 8-bit pictures (f, h, w, 3) of a shaded disc on a wall lit from aside, and the covered shares (f, h, w)."""
    rng = np.random.default_rng(1)
    grid = (np.arange(SIZE * FINE) + 0.5) / FINE
    x, y = np.meshgrid(grid, grid)
    pictures, shares = [], []
    for k in range(4):
        away = x - 16 - 5 * k
        inside = away**2 + (y - 22 - 2 * k) ** 2 < RADIUS**2
        lamp = (1 + slope * (x / SIZE - 0.5))[..., None]
        shaded = np.array(body) * (1 + 0.3 * away / RADIUS)[..., None]
        light = lamp * np.where(inside[..., None], shaded, np.array(wall))
        light = light.reshape(SIZE, FINE, SIZE, FINE, 3).mean((1, 3))
        light = np.clip(light + noise * rng.standard_normal(light.shape), 0, 1)
        pictures.append(np.round(255 * encode_srgb(torch.tensor(light)).numpy()) / 255)
        shares.append(inside.reshape(SIZE, FINE, SIZE, FINE).mean((1, 3)))
    return torch.tensor(np.stack(pictures)), torch.tensor(np.stack(shares))


def _off(segment: Segment, stored: torch.Tensor, share: torch.Tensor, wall: tuple[float, ...] | None = None) -> float:
    """Mean error of the covered share, of the body's."""
    empty = None if wall is None else encode_srgb(torch.tensor(wall).double()).expand(SIZE, SIZE, 3)
    lit = None if empty is None else decode_srgb(empty)
    found = segment.opacity(stored, decode_srgb(stored), empty, lit)
    return float((found - share).abs().mean() / share.mean())


@pytest.mark.parametrize(("body", "wall"), [(BLUE, GREY), (RED, GREEN)], ids=["blue on grey", "red on green"])
@pytest.mark.parametrize(("noise", "slope"), [(0.02, 0.0), (0.02, 0.8), (0.05, 0.8)])
def test_no_number_is_told(body: tuple[float, ...], wall: tuple[float, ...], noise: float, slope: float) -> None:
    """In noise and uneven light as good as by hue whose colour is told, or better."""
    stored, share = _film(body, wall, noise=noise, slope=slope)
    shown = tuple(encode_srgb(torch.tensor(body).double()).tolist())
    off = _off(Segment(by="mixture"), stored, share)
    hue = _off(Segment(by="hue", color=shown, tolerance=0.15), stored, share)  # type: ignore[arg-type]
    assert off < (0.03 if noise < 0.03 else 0.09), (off, hue)
    assert off < 1.1 * hue + 1e-3


def test_uneven_light_is_no_body() -> None:
    """A difference to a wall of one colour takes half of the pictures for the body; so does that colour's."""
    stored, share = _film(BLUE, GREY, noise=0.02, slope=0.8)
    assert _off(Segment(tolerance=0.15), stored, share, GREY) > 1
    assert _off(Segment(tolerance=0.15, by="mixture"), stored, share, GREY) < 0.03


def test_grey_on_grey() -> None:
    """Where no hue tells them apart, the wall's mean has to follow the lamp."""
    stored, share = _film((0.48, 0.48, 0.48), (0.3, 0.3, 0.3), noise=0.02, slope=0.8)
    assert _off(Segment(by="mixture"), stored, share) < 0.08


def test_a_colour_begins() -> None:
    """In place of the edges of the pictures, which a body reaches here."""
    stored, share = _film(BLUE, GREY, noise=0.02, slope=0.0)
    stored, share = stored[:, 10:, 6:], share[:, 10:, 6:]
    shown = tuple(encode_srgb(torch.tensor(BLUE).double()).tolist())
    assert _off(Segment(by="mixture", color=shown, tolerance=0.2), stored, share) < 0.03  # type: ignore[arg-type]


def test_one_colour_is_told() -> None:
    light = torch.full((1, 20, 20, 3), 0.3, dtype=torch.float64)
    with pytest.raises(ValueError, match="segment: the pictures show no two colours that are told apart"):
        body_pixels(light, None)
