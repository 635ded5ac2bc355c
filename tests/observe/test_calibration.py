"""Cameras from checkerboards: pictures cast by rays through known lenses, 8 bits with noise; twins of ours."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simengine.cli import main
from simengine.observe import Camera
from simengine.observe.calibration import Checkerboard, calibrated, find_corners
from simengine.render.camera import PinholeCamera
from simengine.render.lens import BrownConradyLens, FisheyeLens
from simengine.scene.strict import from_plain
from simengine.solve.rotation import rotation_matrix

pytest.importorskip("cv2", reason="OpenCV is an extra")
BOARD = Checkerboard(columns=7, rows=5, square=0.03)
WIDTH, HEIGHT, FINE = 240, 180, 6
TRUE = {
    "brown_conrady": (230.0, 226.0, 123.0, 87.0, -0.25, 0.08, 0.002, -0.003),
    "fisheye": (150.0, 148.0, 118.0, 93.0, 0.05, -0.02, 0.01, 0.0),
}
TURNS = [(0.5, 0.1, 0.0), (-0.5, 0.2, 0.1), (0.1, 0.6, -0.1), (0.0, -0.6, 0.2), (0.35, 0.4, 0.3), (-0.3, -0.4, -0.2)]


def _ways(lens: str) -> torch.Tensor:
    """Where the rays of a camera go, (h, w, 3), for one a metre ahead."""
    numbers = TRUE[lens]
    glass = (BrownConradyLens if lens == "brown_conrady" else FisheyeLens)(
        coefficients=torch.tensor(numbers[4:], dtype=torch.float64)
    )
    camera = PinholeCamera(
        world_to_camera=torch.eye(4, dtype=torch.float64),
        intrinsics=torch.tensor(numbers[:4], dtype=torch.float64),
        width=WIDTH,
        height=HEIGHT,
    )
    flat = glass.undistort(camera.directions()[..., :2])
    fine = torch.nn.functional.interpolate(flat.movedim(-1, 0)[None], scale_factor=FINE, mode="bicubic")[0].movedim(
        0, -1
    )
    return torch.cat([fine, torch.ones_like(fine[..., :1])], -1)


def _photograph(ways: torch.Tensor, turn: tuple[float, ...], shift: tuple[float, ...], seed: int) -> np.ndarray:
    """Means of 6 x 6 rays a pixel, grey board before a light wall, 8 bits with a noise of one per cent."""
    rotation = rotation_matrix(torch.tensor(turn, dtype=torch.float64))
    middle = torch.tensor([0.09, 0.06, 0.0], dtype=torch.float64)
    way = ways @ rotation
    origin = middle - rotation.T @ torch.tensor(shift, dtype=torch.float64)
    place = origin - origin[2] / way[..., 2:] * way
    x, y = (place[..., k] / BOARD.square for k in (0, 1))
    dark = ((x.floor() + y.floor()) % 2 == 0) & (x > -1) & (x < BOARD.columns) & (y > -1) & (y < BOARD.rows)
    light = torch.where(dark, 0.05, 0.7).reshape(HEIGHT, FINE, WIDTH, FINE).mean((1, 3)).numpy()
    noisy = light + 0.01 * np.random.default_rng(seed).standard_normal(light.shape)
    return np.asarray((255 * np.clip(noisy, 0, 1)).round(), np.uint8)


@pytest.fixture(scope="module", params=list(TRUE))
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    from PIL import Image

    path = tmp_path_factory.mktemp(request.param)
    ways, away = _ways(request.param), 0.22 if request.param == "fisheye" else 0.36
    for k, turn in enumerate(TURNS):
        side = 0.06 * (k % 3 - 1)
        Image.fromarray(_photograph(ways, turn, (side, 0.7 * side * (-1) ** k, away), k)).save(path / f"b_{k}.png")
    return request.param, path


def test_a_camera_comes_back(folder: tuple[str, Path], tmp_path: Path) -> None:
    """Recovery: focal length and centre within four bars, which are themselves small; the lens within four too."""
    lens, path = folder
    corners = [find_corners(path / f"b_{k}.png", BOARD)[0] for k in range(len(TURNS))]
    assert all(own is not None for own in corners)
    told = calibrated(BOARD, {str(k): own for k, own in enumerate(corners[:-1])}, (HEIGHT, WIDTH), lens)  # type: ignore
    true = torch.tensor(TRUE[lens], dtype=torch.float64)
    off = (told.numbers - true).abs()
    assert told.rms < 0.1 and not told.doubts()
    assert bool((off < 4 * told.deviations).all()) and bool((told.deviations[:4] < 0.01 * true[0]).all())


def test_the_table_is_a_camera_of_a_scene(folder: tuple[str, Path], tmp_path: Path, capsys: Any) -> None:
    """Used as a user would: its corners are where the camera of the table puts the board's places."""
    lens, path = folder
    out = tmp_path / "camera.toml"
    line = ["calibrate", f"{path}/b_*.png", "--corners", "7x5", "--square", "3cm", "--lens", lens, "--world", "b_1.png"]
    assert main([*line, "--out", str(out)]) == 0
    table = tomllib.loads(out.read_text(encoding="utf-8"))["cameras"]["front"]
    camera = from_plain(Camera, table, locate=str, directory=path).opened(path, (HEIGHT, WIDTH))
    seen, _ = find_corners(path / "b_1.png", BOARD)
    assert seen is not None
    assert float((camera.project(BOARD.points) - seen).norm(dim=-1).square().mean().sqrt()) < 0.1
    assert main([*line, "--out", str(out)]) == 2  # nothing is replaced


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--corners": "9x6"}, "seen whole in 0 pictures"),
        ({"--corners": "seven"}, "expected COLUMNSxROWS"),
        ({"--square": "3"}, "expected a length with its unit"),
        ({"--square": "3kg"}, "expected a length with its unit"),
        ({"--world": "c.png"}, "no board in it"),
        ({"--name": "a b"}, "--name a b"),
    ],
)
def test_mistakes_are_one_line(change: dict[str, str], said: str, folder: tuple[str, Path], capsys: Any) -> None:
    lens, path = folder
    options = {"--corners": "7x5", "--square": "3cm", "--lens": lens, **change}
    assert main(["calibrate", f"{path}/b_*.png", *(part for pair in options.items() for part in pair)]) == 2
    assert said in capsys.readouterr().err
