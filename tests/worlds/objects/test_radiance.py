"""Cells of density and colour from photographs by known cameras: of a cloud whose light is integrated in numpy."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simengine.fit.method import training_of
from simengine.fit.problem import Problem
from simengine.render.tone import decode_srgb
from simengine.scene import SceneError, load_scene
from simengine.scene.record import open_run
from simengine.worlds.motion.showing.drawing import Pictured
from simengine.worlds.motion.showing.files import show_file
from simengine.worlds.objects.radiance_search import RadianceTraining

FAR, FOCAL, SIDE, STEPS = 3.0, 66.0, 36, 400
BLOBS = (((-0.2, 0.1, 0.1), 0.16, 9.0, (0.9, 0.3, 0.1)), ((0.2, -0.15, -0.1), 0.12, 14.0, (0.1, 0.4, 0.8)))
SIDES = ((0, 0), (60, 25), (120, 0), (180, 25), (240, 0), (300, 25), (20, 70), (200, -60), (95, 10))  # turn, rise [deg]
BACKGROUND = (0.5, 0.5, 0.5)  # linear: the cloud both lightens and darkens it
SCENE = """
kind = "radiance"
[radiance]
box = [[-0.75, 0.75], [-0.75, 0.75], [-0.75, 0.75]]
cells = [20, 20, 20]
levels = 2
hull = false
[observations.photos]
type = "views"
file = "cloud_*.png"
camera = { file = "cameras.json" }
background = [0.5, 0.5, 0.5]
hold_out = { files = ["cloud_8.png"] }
[inference]
method = "adam"
iterations = 200
"""


def _cloud(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Density [1/m] and the light of a depth that lets nothing through, at points (..., 3)."""
    parts = [p * np.exp(-((x - np.array(c)) ** 2).sum(-1) / (2 * w**2)) for c, w, p, _ in BLOBS]
    density = sum(parts)
    light = sum(part[..., None] * np.array(colour) for part, (*_, colour) in zip(parts, BLOBS, strict=True))
    return density, light / np.maximum(density, 1e-12)[..., None]


def _srgb(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


def _photographs(folder: Path) -> None:
    """Nine sides of the cloud, by the midpoint rule along each ray; the last is between others."""
    cameras = {}
    for k, (turn, rise) in enumerate(SIDES):
        t, e = np.radians(turn), np.radians(rise)
        back = np.array([np.sin(t) * np.cos(e), np.sin(e), np.cos(t) * np.cos(e)])
        right = np.array([np.cos(t), 0.0, -np.sin(t)])
        rotation = np.stack([right, -np.cross(back, right), -back])
        u = (np.arange(SIDE) + 0.5 - SIDE / 2) / FOCAL
        ray = u[None, :, None] * rotation[0] + u[:, None, None] * rotation[1] + rotation[2]
        ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
        length = 2.6 / STEPS
        light, left = np.zeros((SIDE, SIDE, 3)), np.ones((SIDE, SIDE, 1))
        for s in FAR - 1.3 + length * (np.arange(STEPS) + 0.5):
            density, source = _cloud(FAR * back + s * ray)
            passed = np.exp(-density * length)[..., None]
            light, left = light + left * (1 - passed) * source, left * passed
        picture = _srgb(light + left * np.array(BACKGROUND))
        Image.fromarray((255 * picture).round().astype(np.uint8)).save(folder / f"cloud_{k}.png")
        cameras[f"cloud_{k}.png"] = {
            "K": [[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]],
            "R": rotation.tolist(),
            "t": (-rotation @ (FAR * back)).tolist(),
        }
    (folder / "cameras.json").write_text(json.dumps(cameras))
    (folder / "cloud.toml").write_text(SCENE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cloud")
    _photographs(made)
    return made


def _training(folder: Path, *changes: str) -> RadianceTraining:
    made = training_of(Problem(load_scene(folder / "cloud.toml", changes)))
    assert isinstance(made, RadianceTraining)
    return made


def test_a_cloud_from_eight_sides(folder: Path, tmp_path: Path) -> None:
    """Recovery: a side that was held back, and the density itself, of another renderer's cloud."""
    training = _training(folder)
    while training._count < training.num_iterations:
        training.step()
    out = open_run(tmp_path / "out", load_scene(folder / "cloud.toml"), overwrite=False, resume=False)
    summary = training.finish(out)
    found = dict(np.load(tmp_path / "out" / "radiance.npz"))
    middles = -0.75 + 1.5 / 20 * (np.arange(20) + 0.5)
    density, colour = _cloud(np.stack(np.meshgrid(middles, middles, middles, indexing="ij"), -1))
    rms = np.sqrt(((found["density"] - density) ** 2).mean()) / density.max()
    dense = density > 3.0
    off = np.abs(found["colour"] - colour)[dense].mean()
    assert summary["held out"]["PSNR [dB]"] > 25  # measured 27.9; the photographs on a hull 20
    assert rms < 0.09 and off < 0.13  # measured .063 (without coarser grids .21), .09
    assert found["density"].min() >= 0 and found["colour"].min() >= 0 and found["colour"].max() <= 1
    # the file is a world of its own, which shows what was found, and `render` shows it too
    seen = load_scene(folder / "cloud.toml", [f"radiance.file={tmp_path / 'out' / 'radiance.npz'}"])
    prediction = Problem(seen).predict()["photos"]
    with torch.no_grad():
        own = torch.stack([decode_srgb(training.pictured(shot)) for shot in training.photographs])
    assert np.allclose(prediction.values.reshape(own.shape), own, atol=1e-3)
    still = show_file(tmp_path / "out" / "radiance.npz", tmp_path / "still.png", Pictured(size=(48, 48)))
    pixels = np.asarray(Image.open(still)).astype(float)
    assert (pixels[..., 0] - pixels[..., 2]).max() > 60 and (pixels[..., 2] - pixels[..., 0]).max() > 60


def test_an_interrupted_search_goes_on_bitwise(folder: Path) -> None:
    """Across the step where the grid becomes finer."""
    first, second = (_training(folder, "inference.iterations=6") for _ in range(2))
    for _ in range(2):
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        assert first.step() == second.step()
    assert first.cells["density"].shape == (20, 20, 20)
    assert all(torch.equal(v, second.cells[name]) for name, v in first.cells.items())


def test_nothing_is_put_where_an_outline_shows_none(folder: Path) -> None:
    training = _training(folder, "radiance.hull=true", "radiance.visible=0.3", "inference.iterations=4")
    for _ in range(4):
        training.step()
    beyond = ~torch.nn.functional.adaptive_max_pool3d(
        torch.nn.functional.max_pool3d(training.hull.double()[None, None], 3, 1, 1), 20
    ).bool()[0, 0]
    density = training.volume().density
    assert 0.1 < float(beyond.double().mean()) < 0.99
    assert float(density[beyond].max()) < 1e-6 < float(density[~beyond].min())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("observations.photos.compare=silhouette", "compare = photometric"),
        ("observations.photos.hold_out=true", "two photographs or more"),
        ("radiance.levels=9", "levels"),
        ("radiance.box=[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]", "box: expected"),
        ("radiance.file=cloud_1.png", "radiance.file"),
    ],
)
def test_scenes_that_cannot_be_meant(folder: Path, change: str, match: str) -> None:
    with pytest.raises(SceneError, match=match):
        _training(folder, change)


def test_files_that_hold_no_grid(folder: Path, tmp_path: Path) -> None:
    for arrays, match in (
        ({"density": np.ones((20, 20, 20))}, "colour"),
        ({"density": np.ones((4, 4, 4)), "colour": np.ones((4, 4, 4, 3))}, "is wanted"),
        ({"density": -np.ones((20, 20, 20)), "colour": np.ones((20, 20, 20, 3))}, "negative"),
    ):
        np.savez(tmp_path / "grid.npz", **arrays)
        with pytest.raises(SceneError, match=match):
            load_scene(folder / "cloud.toml", [f"radiance.file={tmp_path / 'grid.npz'}"]).world.build()
    np.savez(tmp_path / "odd.npz", density=np.ones((4, 4, 4)), colour=np.ones((4, 4, 3)))
    with pytest.raises(SceneError, match="colour \\(nx, ny, nz, 3\\)"):
        show_file(tmp_path / "odd.npz", tmp_path / "odd.png", Pictured())
