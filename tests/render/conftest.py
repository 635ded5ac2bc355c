"""Closed forms that renderings are compared with: rays and what they meet, in float64 and without the engine."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[np.float64]
SIZE, DISTANCE, FOV = 256, 4.0, np.deg2rad(40.0)  # a camera at (0, 0, 4) that looks to -z, up +y


def directions(samples: int) -> Iterator[Array]:
    """Unit directions (16, SIZE, samples^2, 3) of rays through a grid of places in each pixel, 16 rows at a time."""
    inside = (np.arange(samples) + 0.5) / samples
    across = np.arange(SIZE)[:, None] + inside - SIZE / 2
    focal = SIZE / 2 / np.tan(FOV / 2)
    for start in range(0, SIZE, 16):
        y, x = np.broadcast_arrays(-across[start : start + 16, None, :, None], across[None, :, None, :])
        d = np.stack([x, y, np.full_like(x, -focal)], -1)
        yield (d / np.linalg.norm(d, axis=-1, keepdims=True)).reshape(16, SIZE, samples**2, 3)


def in_cube(d: Array) -> tuple[Array, Array]:
    """Distances at which rays from the camera enter [-1, 1]^3 and leave it; equal where they miss it."""
    with np.errstate(divide="ignore"):
        ends = (np.array([[-1.0], [1.0]]) - [0.0, 0.0, DISTANCE])[:, None, None, None] / d
    near, far = np.minimum(*ends).max(-1), np.maximum(*ends).min(-1)
    return near, np.maximum(far, near)


@pytest.fixture(scope="session")
def cube() -> Callable[[Array], tuple[Array, Array]]:
    """Where rays cross the cube."""
    return in_cube


@pytest.fixture(scope="session")
def closed_form() -> Callable[..., NDArray[np.float32]]:
    """Means over the rays of a pixel, 16 x 16 unless told, of a function of directions (..., 3): picture (h, w, c)."""

    def picture(light: Callable[[Array], Array], samples: int = 16) -> NDArray[np.float32]:
        return np.concatenate([light(d).mean(2) for d in directions(samples)]).astype(np.float32)

    return picture
