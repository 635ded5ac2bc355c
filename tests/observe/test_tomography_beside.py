"""Filtered back-projection beside scikit-image's, of the benchmark's ellipses."""

import numpy as np
import pytest
from simengine.benchmarks import tomography


@pytest.mark.parametrize(("views", "arc"), [(90, 180.0), (60, 60.0)])
def test_parity_with_iradon(views: int, arc: float) -> None:
    """Cell by cell; theirs counts any arc as half a turn."""
    pytest.importorskip("skimage")
    s = tomography._middles(41)
    angle = np.radians(np.arange(views) * arc / views)
    values = tomography.integrals(angle[:, None], s[None])
    ours, theirs = (method(values, angle, 2 / 41) for method in (tomography.back_projected, tomography.iradon))
    inside = np.hypot(s[:, None], s[None]) < 1 - 2 / 41
    assert np.abs(ours - arc / 180 * theirs)[inside].max() < 1e-6 * np.abs(ours).max()


def test_integrals_are_those_of_the_ellipses() -> None:
    """Verification: chords in closed form beside sums along the rays."""
    t = (np.arange(20_000) + 0.5) / 10_000 - 1
    for angle, s in ((0.3, 0.1), (2.0, -0.4), (1.1, 0.55)):
        x, y = s * np.cos(angle) - t * np.sin(angle), s * np.sin(angle) + t * np.cos(angle)
        summed = tomography.attenuation(x, y).sum() * 1e-4
        assert tomography.integrals(np.array(angle), np.array(s)) == pytest.approx(summed, abs=2e-3)
