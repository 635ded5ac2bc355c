"""A slice from its projections: ours, our filtered back-projection, and scikit-image's iradon and iradon_sart.

    simengine bench tomography
    simengine bench tomography -- cells=129 noise=0.01

Parallel rays through ellipses of known attenuation, integrated in closed form: no program's grid is in the data. All
get the same values and angles, and as many cells as detector elements (an odd number: iradon turns about the middle of
an element). Ours are told
that nothing is below 0; iradon_sart clips at 0 as well, and takes two rounds, as its documentation has it. Errors are
those of the cells' means against the ellipses averaged over 8 x 8 points of a cell, in root mean square over the disc
that all views see, as a share of the largest attenuation.

ASTRA is not here: its wheel wants CUDA's libraries, some 200 MB, even for what it computes on a CPU.
"""

import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import simengine as se
from simengine.observe.back_projection import filtered_back_projection

# x, y, half axes [half of the box], turn [rad], attenuation that is added [1/m]
ELLIPSES = (
    (0.0, 0.0, 0.72, 0.88, 0.1, 1.0),
    (0.0, -0.03, 0.66, 0.80, 0.1, -0.6),
    (0.24, 0.1, 0.12, 0.33, -0.35, -0.3),
    (-0.24, 0.1, 0.16, 0.40, 0.3, 0.4),
    (0.02, -0.45, 0.20, 0.08, 0.0, 0.5),
    (0.30, -0.45, 0.04, 0.04, 0.0, 0.8),
    (0.05, 0.55, 0.05, 0.09, 0.6, 0.6),
)
SCENE = """
kind = "volume"
[volume]
box = [[-1.0, 1.0], [-1.0, 1.0]]
cells = [{cells}, {cells}]
attenuation = 0.1
[observations.scan]
type = "projections"
file = "scan.npz"
columns = {{ values = "values", angle = "angle [deg]" }}
geometry = {{ type = "parallel", pitch = {pitch} }}
sigma = "estimate"
[unknowns."volume.attenuation"]
lower = 0.0
prior = {{ total_variation = "estimate" }}
[inference]
iterations = 12
"""


def attenuation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of the ellipses, at points [1/m]."""
    total = np.zeros(np.broadcast(x, y).shape)
    for cx, cy, a, b, turn, value in ELLIPSES:
        u = (x - cx) * math.cos(turn) + (y - cy) * math.sin(turn)
        v = (y - cy) * math.cos(turn) - (x - cx) * math.sin(turn)
        total += value * ((u / a) ** 2 + (v / b) ** 2 <= 1)
    return total


def integrals(angle: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Along the rays at distance s [m] and angle [rad] (broadcast): chords of the ellipses times their attenuation."""
    total = np.zeros(np.broadcast(angle, s).shape)
    for cx, cy, a, b, turn, value in ELLIPSES:
        at = s - cx * np.cos(angle) - cy * np.sin(angle)
        width = (a * np.cos(angle - turn)) ** 2 + (b * np.sin(angle - turn)) ** 2
        total += value * 2 * a * b * np.sqrt(np.maximum(width - at**2, 0)) / width
    return total


def ours(values: np.ndarray, angle: np.ndarray, pitch: float) -> np.ndarray:
    """(x, y): least squares from nothing but the file, with a total variation whose weight it judges itself."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "scan.npz", values=values, angle=np.degrees(angle))
        scene = Path(folder) / "box.toml"
        scene.write_text(SCENE.format(cells=values.shape[1], pitch=pitch), encoding="utf-8")
        found = se.identify(se.load_scene(scene), progress=False)
    return np.asarray(found.fields["volume.attenuation"])


def back_projected(values: np.ndarray, angle: np.ndarray, pitch: float) -> np.ndarray:
    """(x, y): ours, by the ramp filter."""
    import torch

    middles = torch.from_numpy(_middles(values.shape[1]))
    points = torch.stack(torch.meshgrid(middles, middles, indexing="ij"), -1).reshape(-1, 2)
    found = filtered_back_projection(torch.from_numpy(values), torch.from_numpy(angle), pitch, points)
    return found.reshape(values.shape[1], -1).numpy()


def iradon(values: np.ndarray, angle: np.ndarray, pitch: float) -> np.ndarray:
    """(x, y): scikit-image's, by the ramp filter."""
    from skimage.transform import iradon as theirs

    return _as_ours(theirs(values.T / pitch, theta=np.degrees(angle), filter_name="ramp", circle=True))


def iradon_sart(values: np.ndarray, angle: np.ndarray, pitch: float) -> np.ndarray:
    """(x, y): scikit-image's, two rounds, clipped at 0."""
    from skimage.transform import iradon_sart as theirs

    found = None
    for _ in range(2):
        found = theirs(np.ascontiguousarray(values.T / pitch), np.degrees(angle), image=found, clip=(0.0, 10.0))
    return _as_ours(np.asarray(found))


def _as_ours(image: np.ndarray) -> np.ndarray:
    """Rows of theirs go down, and columns to the right."""
    return image[::-1].T


def _middles(n: int) -> np.ndarray:
    return (np.arange(n) + 0.5) * 2 / n - 1


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {
    "ours, total variation": ours,
    "ours, filtered back-projection": back_projected,
    "scikit-image, iradon": iradon,
    "scikit-image, iradon_sart": iradon_sart,
}


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of errors; of scikit-image where it is installed."""
    told = {"cells": 97.0, "noise": 0.01, **{k: float(v) for k, _, v in (a.partition("=") for a in arguments)}}
    n, noise = int(told["cells"]) | 1, told["noise"]
    pitch = 2.0 / n
    s = _middles(n)
    fine = _middles(8 * n)
    true = attenuation(fine[:, None], fine[None]).reshape(n, 8, n, 8).mean((1, 3))
    disc = np.hypot(s[:, None], s[None]) < 1 - pitch
    try:
        import skimage  # noqa: F401
    except ImportError:
        print(
            "scikit-image is not installed: its rows are left out (pip install 'simengine[oracles]')", file=sys.stderr
        )
        methods = {name: method for name, method in METHODS.items() if "scikit" not in name}
    else:
        methods = METHODS
    rows = []
    for views, arc in ((180, 180.0), (24, 180.0), (60, 60.0)):
        angle = np.radians(np.arange(views) * arc / views)
        values = integrals(angle[:, None], s[None])
        values = values + noise * values.max() * np.random.default_rng(0).standard_normal(values.shape)
        for name, method in methods.items():
            began = time.process_time()
            found = method(values, angle, pitch)
            took = time.process_time() - began
            error = float(np.sqrt(((found - true)[disc] ** 2).mean()) / true.max())
            rows.append({"name": f"{name}, {views} views over {arc:g} degrees", "rms": error, "cpu [s]": took})
    return rows


if __name__ == "__main__":
    for line in main(sys.argv[1:]):
        print(line)
