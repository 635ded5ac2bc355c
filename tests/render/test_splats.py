"""Splats of other programs: their files bit by bit, their colours and pictures by their formula, here in numpy."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.io import read_splats, write_splats
from simengine.render import PinholeCamera, Splats, render_splats

G = np.random.default_rng(3)


def _file(path: Path, degree: int, scales: int, n: int = 6) -> np.ndarray:
    """A file as the original program lays it out, by struct."""
    count = 3 * ((degree + 1) ** 2 - 1)
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    names += [f"f_rest_{k}" for k in range(count)] + ["opacity"]
    names += [f"scale_{k}" for k in range(scales)] + [f"rot_{k}" for k in range(4)]
    table = G.normal(0, 0.4, (n, len(names))).astype(np.float32)
    table[:, 3:6] = 0
    table[:, names.index("scale_0") :][:, :scales] = G.uniform(-2.5, -1.0, (n, scales))
    table[:, names.index("opacity")] = G.uniform(-1, 4, n)
    head = "\n".join(["ply", "format binary_little_endian 1.0", f"element vertex {n}"])
    head += "\n" + "\n".join(f"property float {name}" for name in names) + "\nend_header\n"
    path.write_bytes(head.encode() + b"".join(struct.pack(f"<{len(names)}f", *row) for row in table))
    return table


@pytest.mark.parametrize(("degree", "scales"), [(0, 3), (1, 3), (2, 2), (3, 3)])
def test_a_file_comes_back_bit_by_bit(tmp_path: Path, degree: int, scales: int) -> None:
    table = _file(tmp_path / "a.ply", degree, scales)
    arrays = read_splats(tmp_path / "a.ply")
    assert arrays["harmonics"].shape == (6, (degree + 1) ** 2, 3)
    if degree:  # channel by channel: f_rest_1 is red's second
        assert np.array_equal(arrays["harmonics"][:, 2, 0], table[:, 10])
    write_splats(tmp_path / "b.ply", arrays)
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


def _colour(f: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The program's own polynomials, with its rounded constants."""
    x, y, z = d
    xx, yy, zz = x * x, y * y, z * z
    basis = [
        0.28209479177387814,
        -0.4886025119029199 * y,
        0.4886025119029199 * z,
        -0.4886025119029199 * x,
        1.0925484305920792 * x * y,
        -1.0925484305920792 * y * z,
        0.31539156525252005 * (2 * zz - xx - yy),
        -1.0925484305920792 * x * z,
        0.5462742152960396 * (xx - yy),
        -0.5900435899266435 * y * (3 * xx - yy),
        2.890611442640554 * x * y * z,
        -0.4570457994644658 * y * (4 * zz - xx - yy),
        0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
        -0.4570457994644658 * x * (4 * zz - xx - yy),
        1.445305721320277 * z * (xx - yy),
        -0.5900435899266435 * x * (xx - 3 * yy),
    ]
    return np.maximum(np.array(basis[: len(f)]) @ f + 0.5, 0)


def _picture(a: dict[str, np.ndarray], eye: np.ndarray, focal: float, w: int, h: int) -> np.ndarray:
    """Pixel by pixel and splat by splat, the camera at `eye` looking along +z with x right and y down."""
    order = np.argsort(a["positions"][:, 2] - eye[2])
    image = np.zeros((h, w, 3))
    for row in range(h):
        for column in range(w):
            left = 1.0
            for k in order:
                x, y, z = a["positions"][k] - eye
                if z <= 0.2:
                    continue
                q = a["rotations"][k] / np.linalg.norm(a["rotations"][k])
                r, i, j, k3 = q
                turn = np.array(
                    [
                        [1 - 2 * (j * j + k3 * k3), 2 * (i * j - r * k3), 2 * (i * k3 + r * j)],
                        [2 * (i * j + r * k3), 1 - 2 * (i * i + k3 * k3), 2 * (j * k3 - r * i)],
                        [2 * (i * k3 - r * j), 2 * (j * k3 + r * i), 1 - 2 * (i * i + j * j)],
                    ]
                )
                m = turn @ np.diag(np.exp(a["scales"][k]))
                sx = z * np.clip(x / z, -1.3 * w / 2 / focal, 1.3 * w / 2 / focal)
                sy = z * np.clip(y / z, -1.3 * h / 2 / focal, 1.3 * h / 2 / focal)
                slope = np.array([[focal / z, 0, -focal * sx / z**2], [0, focal / z, -focal * sy / z**2]])
                covariance = slope @ m @ m.T @ slope.T + 0.3 * np.eye(2)
                d = np.array([column + 0.5 - (focal * x / z + w / 2), row + 0.5 - (focal * y / z + h / 2)])
                weight = np.exp(-0.5 * d @ np.linalg.solve(covariance, d))
                alpha = min(0.99, weight / (1 + np.exp(-a["opacities"][k])))
                if alpha < 1 / 255:
                    continue
                if left * (1 - alpha) < 1e-4:
                    break
                to = np.array([x, y, z]) / np.linalg.norm([x, y, z])
                image[row, column] += left * alpha * _colour(a["harmonics"][k], to)
                left *= 1 - alpha
    return image


@pytest.mark.parametrize("degree", [0, 3])
def test_a_picture_is_that_of_the_formula(tmp_path: Path, degree: int) -> None:
    _file(tmp_path / "a.ply", degree, 3, n=8)
    arrays = {name: value.astype(np.float64) for name, value in read_splats(tmp_path / "a.ply").items()}
    eye, focal, w, h = np.array([0.1, -0.2, -1.5]), 20.0, 17, 13
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = -torch.from_numpy(eye)
    intrinsics = torch.tensor([focal, focal, w / 2, h / 2], dtype=torch.float64)
    camera = PinholeCamera(world_to_camera=pose, intrinsics=intrinsics, width=w, height=h)
    picture = render_splats(Splats.of(arrays), camera).numpy()
    exact = _picture(arrays, eye, focal, w, h)
    assert exact.max() > 0.3
    assert np.abs(picture - exact).max() < 1e-9  # both in float64; 45 dB would be 6e-3


def test_flat_splats_are_surfels_and_have_gradients(tmp_path: Path) -> None:
    _file(tmp_path / "a.ply", 1, 2)
    flat = Splats.of(read_splats(tmp_path / "a.ply"))
    discs = flat.surfels(torch.zeros(3, dtype=torch.float64))
    assert torch.allclose(discs.scales.log(), flat.scales)
    camera = PinholeCamera.look_at((0.0, 0.0, -3.0), width=8, height=8, dtype=torch.float64)
    with pytest.raises(ValueError, match="these are flat"):
        render_splats(flat, camera)
    _file(tmp_path / "b.ply", 1, 3, n=3)
    solid = Splats.of(read_splats(tmp_path / "b.ply"))

    def picture(positions: torch.Tensor, scales: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
        moved = Splats(
            positions=positions,
            harmonics=solid.harmonics,
            opacities=solid.opacities,
            scales=scales,
            rotations=rotations,
        )
        return render_splats(moved, camera)[2:6:2, 2:6:2]

    inputs = [v.clone().requires_grad_() for v in (solid.positions, solid.scales, solid.rotations)]
    assert torch.autograd.gradcheck(picture, inputs)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 0\nend_header\n")
    with pytest.raises(ValueError, match="binary_little_endian"):
        read_splats(tmp_path / "a.ply")
    _file(tmp_path / "b.ply", 0, 3)
    cut = (tmp_path / "b.ply").read_bytes()
    (tmp_path / "b.ply").write_bytes(cut[:-1])
    with pytest.raises(ValueError, match="are announced and not there"):
        read_splats(tmp_path / "b.ply")
    (tmp_path / "b.ply").write_bytes(cut.replace(b"f_dc_1", b"f_dc_9"))
    with pytest.raises(ValueError, match="a splat has f_dc_1"):
        read_splats(tmp_path / "b.ply")


@pytest.mark.parametrize("axes", [2, 3])
def test_a_file_is_pictured(tmp_path: Path, axes: int) -> None:
    """Verification: over black the middle of one opaque splat is its colour times its opacity, the corner black."""
    from PIL import Image

    from simengine.io.geometry.splats import is_splats, write_splats
    from simengine.worlds.motion.showing import Pictured, show_file

    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    positions = np.concatenate([np.zeros((1, 3)), 1.0 * corners]).astype(np.float32)  # eight faint ones frame it
    turn = np.array([math.cos(0.2), -math.sin(0.2), 0, 0])  # towards the eye, 0.4 above
    arrays = {
        "positions": positions,
        "harmonics": np.full((9, 1, 3), [1.0, -0.5, 0.3], np.float32),
        "opacities": np.array([2.0] + [-12.0] * 8, np.float32),
        "scales": np.full((9, axes), math.log(0.4), np.float32),
        "rotations": np.tile(turn, (9, 1)).astype(np.float32),
    }
    write_splats(tmp_path / "one.ply", arrays)
    assert is_splats(tmp_path / "one.ply")
    show_file(tmp_path / "one.ply", tmp_path / "one.png", Pictured())
    seen = np.asarray(Image.open(tmp_path / "one.png"))[..., :3] / 255
    colour = 0.5 + np.array([1.0, -0.5, 0.3]) / math.sqrt(4 * math.pi)
    assert seen.shape[:2] == (480, 480)
    assert np.allclose(seen[240, 240], colour / (1 + math.exp(-2.0)), atol=0.01)
    assert not seen[5, 5].any()
