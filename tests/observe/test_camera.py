"""Cameras against projections written out by hand and by scipy, in each of the conventions that files have."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from simengine.observe.camera import Camera
from simengine.scene import SceneError
from simengine.scene.address import numbers, replaced
from simengine.scene.strict import from_plain

POINTS = np.array([[0.1, 0.2, 0.05], [-0.3, 0.1, 0.2], [0.2, -0.25, -0.1]])
R = Rotation.from_euler("xyz", [0.3, -0.5, 0.2]).as_matrix()
T = np.array([0.05, -0.1, 1.7])


def _by_hand(r: np.ndarray, t: np.ndarray, k: np.ndarray) -> np.ndarray:
    p = (POINTS @ r.T + t) @ k.T
    return p[:, :2] / p[:, 2:]


def _pixels(camera: Camera) -> np.ndarray:
    return camera.project(torch.tensor(POINTS)).numpy()


def test_eye_and_target() -> None:
    camera = Camera(eye=(0.0, 0.0, 2.0), target=(0.0, 0.0, 0.0), field_of_view=60.0).opened(Path(), (100, 200))
    f = 50 / math.tan(math.pi / 6)  # seen from +z: x to the right, y up
    expected = [[100 + f * x / (2 - z), 50 - f * y / (2 - z)] for x, y, z in POINTS]
    assert np.allclose(_pixels(camera), expected)


@pytest.mark.parametrize("axes", ["opencv", "opengl", ("left", "down", "back"), ("forward", "left", "up")])
def test_axes_of_a_matrix(axes: str | tuple[str, str, str]) -> None:
    ways = {"right": (1, 0, 0), "down": (0, 1, 0), "forward": (0, 0, 1), "left": (-1, 0, 0), "up": (0, -1, 0)}
    ways["back"] = (0, 0, -1)
    names = {"opencv": ("right", "down", "forward"), "opengl": ("right", "up", "back")}.get(axes, axes)  # type: ignore[call-overload]
    to_cv = np.array([ways[name] for name in names]).T
    own, shift = to_cv.T @ R, to_cv.T @ T  # the camera's own coordinates, which the file is in
    camera = Camera(turn=_rows(own), shift=tuple(shift), focal=300.0, center=(41.0, 22.0), axes=axes)
    k = np.array([[300, 0, 41], [0, 300, 22], [0, 0, 1.0]])
    assert np.allclose(_pixels(camera.opened(Path(), (64, 80))), _by_hand(R, T, k))
    view = Camera(view=tuple((*row, s) for row, s in zip(_rows(own), shift, strict=True)), focal=300.0, axes=axes)  # type: ignore[arg-type]
    view = view.opened(Path(), (64, 80))
    assert np.allclose(_pixels(view), _by_hand(R, T, k) + np.array([40 - 41, 32 - 22]))


def _rows(matrix: np.ndarray) -> tuple[tuple[float, float, float], ...]:
    return tuple(tuple(float(v) for v in row) for row in matrix)  # type: ignore[misc]


def test_crop_zoom_pixel_origin_and_smaller_files() -> None:
    base = {"view": tuple((*row, s) for row, s in zip(_rows(R), T, strict=True)), "focal": (300.0, 310.0)}
    whole = Camera(**base, center=(40.0, 30.0), width=100, height=80)  # type: ignore[arg-type]
    k = np.array([[300, 0, 40], [0, 310, 30], [0, 0, 1.0]])
    assert np.allclose(_pixels(whole.opened(Path(), (80, 100))), _by_hand(R, T, k))
    half = whole.opened(Path(), (40, 50)).intrinsics((40, 50))[0]
    assert half.tolist() == [150, 155, 20, 15]
    cut = Camera(**base, center=(40.0, 30.0), width=100, height=80, crop=(10.0, 20.0)).opened(Path(), (40, 50))  # type: ignore[arg-type]
    assert np.allclose(_pixels(cut), _by_hand(R, T, k) - [10, 20])
    counted = Camera(**base, center=(40.0, 30.0), pixel_origin="centre", zoom=2.0).opened(Path(), (80, 100))  # type: ignore[arg-type]
    assert counted.intrinsics((80, 100))[0].tolist() == [600, 620, 40.5, 30.5]
    with pytest.raises(SceneError, match="crop"):
        whole.opened(Path(), (80, 50))


def test_a_smaller_picture_may_be_off_by_a_rounded_side() -> None:
    """Of 640 x 480 pixels 106.7 are as wide as 80 are high: 106 to 108 is a side that somebody rounded."""
    camera = Camera(eye=(0.0, 0.0, 2.0), target=(0.0, 0.0, 0.0), focal=500.0, width=640, height=480)
    for width in (106, 107, 108):
        assert camera.opened(Path(), (80, width)).intrinsics((80, width))[0, 0] == pytest.approx(500 * width / 640)
    for width in (104, 110):
        with pytest.raises(SceneError, match="say `crop`"):
            camera.opened(Path(), (80, width))


def test_lens_is_opencvs() -> None:
    camera = Camera(
        view=tuple((*row, s) for row, s in zip(_rows(R), T, strict=True)),  # type: ignore[arg-type]
        focal=300.0,
        lens="brown_conrady",
        distortion=(-0.2, 0.05, 0.003, -0.002),
    ).opened(Path(), (80, 100))
    p = POINTS @ R.T + T
    x, y = p[:, 0] / p[:, 2], p[:, 1] / p[:, 2]
    r2 = x * x + y * y
    d = 1 - 0.2 * r2 + 0.05 * r2**2
    u = x * d + 2 * 0.003 * x * y - 0.002 * (r2 + 2 * x * x)
    v = y * d + 0.003 * (r2 + 2 * y * y) + 2 * -0.002 * x * y
    assert np.allclose(_pixels(camera), np.stack([300 * u + 50, 300 * v + 40], 1))


def test_numbers_can_be_sought() -> None:
    camera = Camera(eye=(0.0, 0.0, 2.0), target=(0.0, 0.0, 0.0), field_of_view=60.0).opened(Path(), (100, 200))
    assert {"eye.0", "target.2", "field_of_view", "turn.1", "shift.2", "zoom", "center.0"} <= set(numbers(camera))
    turned = replaced(camera, {"turn.2": 0.1, "shift.0": 0.02})
    start, now = _pixels(camera) - [100, 50], _pixels(turned) - [100, 50]
    angle = np.array([[math.cos(0.1), -math.sin(0.1)], [math.sin(0.1), math.cos(0.1)]])
    f = 50 / math.tan(math.pi / 6)
    assert np.allclose(now, start @ angle.T + np.stack([f * 0.02 / (2 - POINTS[:, 2]), np.zeros(3)], 1))
    matrix = Camera(turn=_rows(R), shift=tuple(T), focal=300.0).opened(Path(), (64, 80))
    moved = replaced(matrix, {"turn.0": 0.1})
    assert np.allclose(moved.world_to_camera()[0, :3, :3], Rotation.from_rotvec([0.1, 0, 0]).as_matrix() @ R)


def _k(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def test_json_of_k_r_t(tmp_path: Path) -> None:
    other = Rotation.from_rotvec([0, 0.4, 0]).as_matrix() @ R
    entries = {
        "b.png": {"K": _k(300, 310, 40, 30).tolist(), "R": R.tolist(), "t": T.tolist()},
        "a.png": {"K": _k(200, 210, 41, 31).tolist(), "R": other.tolist(), "t": [[0], [0], [2]]},
    }
    (tmp_path / "c.json").write_text(json.dumps(entries))
    camera = Camera(file="c.json", pixel_origin="centre").opened(tmp_path, (60, 80), ("a.png", "b.png"))
    poses, pinholes = camera.world_to_camera(2), camera.intrinsics((60, 80), 2)
    assert np.allclose(poses[0, :3, :3], other) and np.allclose(poses[1, :3, 3], T)
    assert pinholes.tolist() == [[200, 210, 41.5, 31.5], [300, 310, 40.5, 30.5]]
    with pytest.raises(SceneError, match=r"no camera for the picture d\.png"):
        Camera(file="c.json").opened(tmp_path, (60, 80), ("d.png",))


def test_nerfstudio(tmp_path: Path) -> None:
    """Camera to world, x right, y up, z back."""
    pose = np.eye(4)
    pose[:3, :3] = R.T @ np.diag([1, -1, -1])
    pose[:3, 3] = -R.T @ T
    data = {"fl_x": 300, "fl_y": 310, "cx": 40, "cy": 30, "w": 80, "h": 60, "k1": 0.1}
    frames = [{"file_path": "images/a.png", "transform_matrix": pose.tolist()}]
    (tmp_path / "transforms.json").write_text(json.dumps({**data, "frames": frames}))
    camera = Camera(file="transforms.json").opened(tmp_path, (60, 80), ("a.png",))
    assert camera.lens == "brown_conrady" and camera.distortion == (0.1, 0, 0, 0)
    pinhole = replaced(camera, {"distortion.0": 0.0})
    assert np.allclose(_pixels(pinhole), _by_hand(R, T, _k(300, 310, 40, 30)))


def test_colmap(tmp_path: Path) -> None:
    x, y, z, w = Rotation.from_matrix(R).as_quat()
    (tmp_path / "cameras.txt").write_text(
        "# cameras\n1 PINHOLE 80 60 300 310 40 30\n2 SIMPLE_RADIAL 80 60 250 40 30 0.1\n"
    )
    pose = " ".join(f"{v:.17g}" for v in (2 * w, 2 * x, 2 * y, 2 * z, *T))  # of any length
    (tmp_path / "images.txt").write_text(f"# images\n1 {pose} 1 a b.png\n1.0 2.0 -1\n2 {pose} 1 c.png\n\n")
    camera = Camera(file="images.txt").opened(tmp_path, (60, 80), ("c.png", "a b.png"))
    assert np.allclose(_pixels(camera), _by_hand(R, T, _k(300, 310, 40, 30))) and len(camera.shots) == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"eye": [0, 0, 1], "focal": 100.0}, "target"),
        ({"eye": [0, 0, 1], "target": [0, 0, 0]}, "focal"),
        ({"focal": 100.0, "turn": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]}, "no rotation"),
        ({"focal": 100.0, "axes": ["right", "left", "up"]}, "across"),
        ({"focal": 100.0, "lens": "fisheye"}, "4 coefficients"),
        ({"file": "x.json", "focal": 100.0}, "zoom"),
    ],
)
def test_what_is_no_camera_is_named(data: dict[str, object], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        from_plain(Camera, data, locate=lambda key: "a.toml", directory=Path())


def test_photographs_of_a_temple(shared: Path) -> None:
    """The box of the temple, as its authors tell it, lies inside all eight pictures, and its middle on the temple."""
    from simengine.io.pictures import read_series

    folder = shared / "real" / "temple_photos_known_cameras"
    photos = read_series(folder / "templeSR*.png")
    size = photos.values.shape[1:3]
    camera = Camera(file="cameras.json", pixel_origin="centre").opened(folder, (size[0], size[1]), photos.names)
    box = torch.tensor([[-0.0736, 0.0289], [0.0217, 0.1819], [-0.0124, 0.0627]], dtype=torch.float64)
    corners = torch.cartesian_prod(*box)
    for pose, k, picture in zip(camera.world_to_camera(8), camera.intrinsics(None, 8), photos.values, strict=True):
        p = torch.cat([corners, box.mean(1)[None]]) @ pose[:3, :3].T + pose[:3, 3]
        uv = p[:, :2] / p[:, 2:] * k[:2] + k[2:]
        assert bool((uv > -5).all()) and bool((uv < torch.tensor([size[1], size[0]]) + 5).all())
        lit = picture.mean(-1) > 0.3  # the background is not black
        rows, columns = np.nonzero(lit)
        low, high = uv[:-1].amin(0), uv[:-1].amax(0)  # what is bright lies inside the box's outline
        inside = (
            (columns > float(low[0])) & (columns < float(high[0])) & (rows > float(low[1])) & (rows < float(high[1]))
        )
        assert inside.mean() > 0.999
