"""Displacements: windows found again in pictures that were displaced exactly, splines that hold their derivatives."""

from pathlib import Path

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit.fields import bars
from simengine.fit.fields.newton import Linearised
from simengine.fit.fields.training import FieldFit
from simengine.fit.problem import Problem
from simengine.observe.instruments.displacements import Displacements
from simengine.observe.registration import matched
from simengine.scene import SceneError, load_scene
from simengine.scene.loader import make_scene
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


def test_levels_too_coarse_to_hold_a_window_are_passed_over() -> None:
    """Halved five times, 160 x 100 pixels are 5 x 3; halved three times, windows near the edge leave the picture."""
    first, second = _pair(160, 100)
    centers = np.stack(np.meshgrid([15.0, 40.0, 60.0], [60.0, 90.0, 140.0]), -1)
    found, score = matched(first, second, centers, window=25, halvings=5)
    true = np.stack((1.3 - 0.01 * centers[..., 0], -14.6 + 0.02 * centers[..., 1]), -1)
    assert score.min() > 0.9 and np.abs(found - true).max() < 0.24  # as above


def _written(folder: Path) -> Path:
    from PIL import Image

    for name, picture in zip("ab", _pair(160, 100), strict=True):
        Image.fromarray(np.round(255 * picture.clip(0, 1)).astype(np.uint8)).save(folder / f"{name}.png")
    (folder / "pull.toml").write_text(
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
    return folder / "pull.toml"


def test_a_stretch_is_read_off_pictures_by_one_scene(tmp_path: Path) -> None:
    x, y = (axis.ravel() for axis in np.meshgrid([35.0, 50.0, 65.0, 90.0], [45.0, 80.0, 125.0]))
    rows = [f"{a},{b},{1.3 - 0.01 * a},{-14.6 + 0.02 * b}" for a, b in zip(x, y, strict=True)]
    (tmp_path / "told.csv").write_text("\n".join(["x_px,y_px,u_px,v_px", *rows]) + "\n")
    scene = _written(tmp_path)
    columns = ", ".join(f'{name} = "{name}_px [px]"' for name in "xyuv")
    told = f'[reference."body.displacement"]\nvectors = ["told.csv"]\ncolumns = {{ {columns} }}\n'
    scene.write_text(scene.read_text() + told)
    result = se.identify(load_scene(scene), progress=False)
    found = result.summary["fields"]["body.displacement"]
    beside = result.summary["reference"]["body.displacement"]
    assert max(beside["rms of u [px]"], beside["rms of v [px]"]) < 0.1  # beyond the body is left out
    assert beside["strain xx by it"] == pytest.approx(-0.01) and beside["strain yy by it"] == pytest.approx(0.02)
    assert beside["strain yy at its places"] == pytest.approx(0.02, abs=2 * 0.1 / 80)
    assert 0 < found["standard deviation of mean strain yy"] < 2 * 0.1 / 90
    # the mean of a gradient is the difference of the ends: windows are 0.1 px off at most, over 90 and 40 px
    assert found["mean strain yy"] == pytest.approx(0.02, abs=2 * 0.1 / 90)
    assert found["mean strain xx"] == pytest.approx(-0.01, abs=2 * 0.1 / 40)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ('files = ["a.csv"]', "expected vectors"),
        ('vectors = ["a.csv"]\ncolumns = { w = "w" }', "expected some of x, y, u, v"),
        ('vectors = ["a.csv"]', "no such file"),
        ('vectors = ["b.csv"]', "b.csv has no column 'u'"),
        ('vectors = ["c.csv"]', "fewer than three"),
    ],
)
def test_a_table_of_displacements_that_does_not_fit(told: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("x [px],y [px]\n50,60\n")
    (tmp_path / "c.csv").write_text("x [px],y [px],u [px],v [px]\n500,60,0,0\n")
    scene = _written(tmp_path)
    scene.write_text(f'{scene.read_text()}[reference."body.displacement"]\n{told}\n')
    own = load_scene(scene)
    reference = own.reference["body.displacement"]
    with pytest.raises(SceneError, match=words):
        own.world.beside("body.displacement", own.world.field_of("body.displacement", 0.0), reference)


@pytest.mark.parametrize("exact", [True, False])
def test_bars_of_strains_are_those_of_the_dense_matrix(
    exact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exact:
        monkeypatch.setattr(bars, "EXACT", 0)
    fit = FieldFit(Problem(load_scene(_written(tmp_path))))
    fit.step()
    own, key = fit.objective, "body.displacement"
    laplace = bars.Laplace(own, fit.x, fit.z)
    told = bars.bars_of(own, fit.x, laplace.posterior({"camera": 2.0}))[key].figures
    rows = Linearised(own, fit.x, fit.z).rows()
    covariance = torch.linalg.inv(rows.T @ rows / 2 + torch.from_numpy(own.stiffness(fit.x).toarray()))
    cells = fit.x.clone().requires_grad_()
    figures = own.world.measures(key, own.fields(cells)[key])
    assert set(figures) == set(told) and "transverse ratio -xx/yy" in told
    for name, value in figures.items():
        (slope,) = torch.autograd.grad(value, cells, retain_graph=True)
        assert told[name] == pytest.approx(float((slope @ covariance @ slope).sqrt()), rel=1e-3), name


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


def test_coefficients_stand_where_the_world_says(tmp_path: Path) -> None:
    """Cubic B-splines reproduce a straight line from its values in the middles of the cells of `extent`."""
    body = {"lower": [8.0, 16.0], "upper": [40.0, 56.0], "spacing": 8.0}
    world = make_scene({"kind": "displacement", "body": body}, directory=tmp_path, locate=lambda key: "scene")
    _, rows, columns, _ = world.fields()["body.displacement"]
    _, down, right, _ = world.extent("body.displacement")
    middles = (
        low + (torch.arange(n, dtype=torch.float64) + 0.5) / n * (high - low)
        for n, (low, high) in ((rows, down), (columns, right))
    )
    y, x = torch.meshgrid(*middles, indexing="ij")
    field = torch.stack((2 + 0.1 * x - 0.3 * y, 1 - 0.2 * x + 0.05 * y), -1)[None]
    places = torch.tensor([[8.0, 16.0], [17.3, 50.1], [40.0, 56.0]], dtype=torch.float64)
    found = DisplacementRun(world.body, field).at(("u", "v", "u_x", "v_y"), places)[0]
    a, b = places.T
    slope = torch.ones(3, dtype=torch.float64)
    expected = torch.stack((2 + 0.1 * a - 0.3 * b, 1 - 0.2 * a + 0.05 * b, 0.1 * slope, 0.05 * slope), -1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
