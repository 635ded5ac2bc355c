"""Displacements: windows found again in pictures that were displaced exactly, splines that hold their derivatives."""

from pathlib import Path

import numpy as np
import pytest
import torch

import simengine as se
from simengine.observe.instruments.displacements import Displacements
from simengine.observe.registration import matched
from simengine.scene import load_scene
from simengine.worlds.objects.displacement import DisplacementRun, SheetSpec


def _speckles(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A picture without pixels: a sum of waves, so that a displaced one is exact."""
    g = np.random.default_rng(3)
    total = np.zeros_like(x)
    for _ in range(120):
        k = g.normal(0, 0.45, 2)
        total += np.cos(k[0] * x + k[1] * y + g.uniform(0, 6.283))
    return 0.5 + 0.05 * total


def _pair(h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """The second picture is that of X + u: stretched by 2 % down, contracted by 1 % across, moved by (1.3, -14.6)."""
    x, y = np.meshgrid(np.arange(float(w)), np.arange(float(h)))
    back_x, back_y = (x - 1.3) / 0.99, (y + 14.6) / 1.02
    return _speckles(x, y), 0.8 * _speckles(back_x, back_y) + 0.1


def test_windows_are_found_to_a_part_of_a_pixel() -> None:
    first, second = _pair(160, 100)
    centers = np.stack(np.meshgrid([40.0, 60.0], [60.0, 90.0, 120.0]), -1)
    found, score = matched(first, second, centers, window=25, halvings=2)
    true = np.stack((1.3 - 0.01 * centers[..., 0], -14.6 + 0.02 * centers[..., 1]), -1)
    # 0.037 to 0.056 px over six draws of the speckles; a window finds a mean over itself, 0.24 px wide at this stretch
    assert np.sqrt(np.square(found - true).mean()) < 0.1 and np.abs(found - true).max() < 0.24
    assert score.min() > 0.9


def test_a_stretch_is_read_off_pictures_by_one_scene(tmp_path: Path) -> None:
    from PIL import Image

    for name, picture in zip("ab", _pair(160, 100), strict=True):
        Image.fromarray(np.round(255 * picture.clip(0, 1)).astype(np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "pull.toml").write_text(
        """
        kind = "displacement"
        [body]
        lower = [30.0, 40.0]
        upper = [70.0, 130.0]
        spacing = 90.0
        [observations.camera]
        type = "displacements"
        files = ["a.png", "b.png"]
        window = 25
        step = 10
        lower = [30.0, 40.0]
        upper = [70.0, 130.0]
        pyramid = 2
        [unknowns."body.displacement"]
        prior = { normal = 50.0, length = 200.0 }
        [inference]
        iterations = 200
        """
    )
    result = se.identify(load_scene(tmp_path / "pull.toml"), progress=False)
    found = result.summary["fields"]["body.displacement"]
    # the mean of a gradient is the difference of the ends: windows are 0.1 px off at most, over 90 and 40 px
    assert found["mean strain yy"] == pytest.approx(0.02, abs=2 * 0.1 / 90)
    assert found["mean strain xx"] == pytest.approx(-0.01, abs=2 * 0.1 / 40)


def test_windows_that_are_not_found_again_are_left_out_and_told(tmp_path: Path) -> None:
    """A corner of the second picture is noise to a half: what agrees too little there is not taken."""
    from PIL import Image

    first, second = _pair(160, 100)
    second[:70, :60] += np.random.default_rng(3).normal(0, second.std(), (70, 60))
    for name, picture in (("a", first), ("b", second)):
        Image.fromarray(np.round(255 * picture.clip(0, 1)).astype(np.uint8)).save(tmp_path / f"{name}.png")
    camera = {
        "window": 15,
        "step": 20,
        "lower": (20.0, 25.0),
        "upper": (80.0, 125.0),
        "pyramid": 2,
        "least_correlation": 0.8,
    }
    sheet = Displacements(directory=tmp_path, name="camera", files=("a.png", "b.png"), **camera)  # type: ignore[arg-type]
    measured = sheet.read()
    few = ~(measured.at["correlation"] >= 0.8)  # NaN where there is nothing to agree with
    assert torch.equal(measured.mask, ~few[:, None].expand(-1, 2)) and bool(measured.values[few].isnan().all())
    inside = (measured.at["x"] < 50) & (measured.at["y"] < 65)
    assert bool((measured.at["correlation"][few & inside] > 0.1).any()) and int((~few).sum()) >= len(few) / 2
    assert measured.notes[0].startswith(f"{int(few.sum())} of {len(few)} windows agree too little")


@pytest.mark.parametrize("free", [False, True])
def test_derivatives_of_the_spline(free: bool) -> None:
    spec = SheetSpec(lower=(0.0, 0.0), upper=(30.0, 20.0), spacing=10.0, divergence_free=free)
    field = torch.rand(1, 5, 6, 1 if free else 2, dtype=torch.float64)
    run = DisplacementRun(spec, field)
    x = torch.rand(50, 2, dtype=torch.float64) * torch.tensor([29.0, 19.0]) + 0.5
    values = run.at(("u_x", "u_y", "v_x", "v_y"), x)[0]
    for k, (name, axis) in enumerate((("u", 0), ("u", 1), ("v", 0), ("v", 1))):
        step = torch.zeros(2, dtype=torch.float64)
        step[axis] = 1e-5
        slope = (run.at((name,), x + step) - run.at((name,), x - step))[0, :, 0] / 2e-5
        assert torch.allclose(values[:, k], slope, atol=1e-7)
    if free:
        assert float((values[:, 0] + values[:, 3]).abs().max()) < 1e-12
        assert float(values[:, 0].abs().max()) > 1e-3


def test_a_spline_of_equal_coefficients_is_even() -> None:
    spec = SheetSpec(lower=(0.0, 0.0), upper=(30.0, 20.0), spacing=10.0)
    x = torch.rand(20, 2, dtype=torch.float64) * 20
    values = DisplacementRun(spec, torch.full((1, 5, 6, 2), 7.0, dtype=torch.float64)).at(("u", "v"), x)
    assert torch.allclose(values, torch.full_like(values, 7.0))
