"""Bodies of particles: volumes against closed forms, meshes good and bad."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simengine.io.geometry.mesh_file import read_mesh
from simengine.io.geometry.splats import write_splats
from simengine.worlds.motion.shapes import (
    BoxShape,
    CylinderShape,
    MeshShape,
    SphereShape,
    SurfelsShape,
    TorusShape,
    fill,
)

CENTER = (0.5, 0.4, 0.6)


@pytest.mark.parametrize(
    ("shape", "volume"),
    [
        (BoxShape(center=CENTER, size=(0.3, 0.2, 0.1)), 0.006),
        (SphereShape(center=CENTER, radius=0.2), 4 / 3 * math.pi * 0.2**3),
        (CylinderShape(center=CENTER, radius=0.2, height=0.3), math.pi * 0.04 * 0.3),
        (TorusShape(center=CENTER, major_radius=0.2, minor_radius=0.08), 2 * math.pi**2 * 0.2 * 0.08**2),
    ],
    ids=lambda value: getattr(value, "type", ""),
)
def test_verification_volume_and_centre(
    shape: BoxShape | SphereShape | CylinderShape | TorusShape, volume: float
) -> None:
    points, volumes = fill(shape, 0.01)
    # a lattice counts the volume of a body to about the cube of spacing over size; 2 % is 3 times what is seen
    assert volumes.sum() == pytest.approx(volume, rel=0.02)
    assert np.allclose(points.mean(0), CENTER, atol=1e-9)


def test_counts_place_particles_on_the_faces() -> None:
    points, volumes = fill(BoxShape(center=(0.5, 0.5, 0.5), size=(0.5, 0.5, 0.5), counts=(10, 10, 10)), 0.1)
    expected = np.linspace(0.25, 0.75, 10)
    assert np.allclose(points[:, 0].reshape(10, 100)[:, 0], expected) and np.allclose(points[:10, 2], expected)
    assert np.allclose(volumes, 1.25e-4)


def test_too_few_and_too_many() -> None:
    with pytest.raises(ValueError, match="lattice points"):
        fill(BoxShape(center=CENTER, size=(1.0, 1.0, 1.0)), 1e-4)


def _icosphere(path: Path) -> Path:
    import trimesh

    trimesh.creation.icosphere(subdivisions=3).export(path)
    return path


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".stl", ".glb", ".off"])
def test_a_mesh_is_filled(suffix: str, tmp_path: Path) -> None:
    shape = MeshShape(file=_icosphere(tmp_path / f"ball{suffix}"), center=CENTER, size=0.4)
    points, volumes = fill(shape, 0.02)
    assert volumes.sum() == pytest.approx(4 / 3 * math.pi * 0.2**3, rel=0.03)  # polyhedron inside the sphere, lattice
    assert np.linalg.norm(points - CENTER, axis=1).max() <= 0.2 + 1e-9


def test_mesh_of_others(shared: Path) -> None:
    _, volumes = fill(MeshShape(file=shared / "meshes" / "spot.obj", center=CENTER, size=0.6), 0.02)
    vertices, faces = read_mesh(shared / "meshes" / "spot.obj")
    scale = 0.6 / (vertices.max(0) - vertices.min(0)).max()
    a, b, c = (vertices[faces[:, k]] * scale for k in range(3))
    exact = np.einsum("fi,fi->", a, np.cross(b, c)) / 6  # divergence theorem
    assert volumes.sum() == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.obj", b"", "no triangles"),
        ("a.obj", b"v 0 0 0\nf 1 2 3\n", "not a readable mesh"),
        ("a.obj", b"\x00\xff" * 500, "not a readable mesh"),
        ("a.stl", b"solid x\n", "not a readable mesh"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 99999999999\n", "not a readable mesh"),
        ("a.glb", b"glTF" + bytes(50), "not a readable mesh"),
        ("a.fbx", b"x", "not a mesh format that is read"),
    ],
)
def test_bad_meshes_are_told_in_one_line(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_mesh(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_mesh(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_mesh(tmp_path / "none.obj")


def _ball(n: int, g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    normals = g.normal(size=(n, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return np.array([3.0, -1.0, 2.0]) + 0.7 * normals, normals


def _crate(n: int, g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Edges 1, 0.8, 0.6, as many discs on each face as it is large."""
    axis = g.choice(3, n, p=[0.48 / 1.88, 0.6 / 1.88, 0.8 / 1.88])
    side = g.choice([-1.0, 1.0], n)
    u = g.uniform(-1, 1, (n, 3))
    u[np.arange(n), axis] = side
    normals = np.zeros((n, 3))
    normals[np.arange(n), axis] = side
    return 0.5 * u * [1.0, 0.8, 0.6], normals


def _open_crate(n: int, g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The crate whose bottom no camera saw."""
    points, normals = _crate(n, g)
    seen = normals[:, 1] >= 0
    return points[seen], normals[seen]


def _splats(
    path: Path, points: np.ndarray, normals: np.ndarray, columns: int, hidden: int, g: np.random.Generator
) -> Path:
    """A file of discs whose normals point to either side, among faint ones outside and hidden ones within."""
    from scipy.spatial.transform import Rotation

    normals = normals * g.choice([-1.0, 1.0], (len(points), 1))
    middle, size = (points.min(0) + points.max(0)) / 2, np.ptp(points, axis=0)
    within = middle + size * g.uniform(-0.2, 0.2, (hidden, 3))
    faint = middle + size * g.uniform(-1.0, 1.0, (100, 3))
    places = np.concatenate([points, within, faint])
    axes = np.concatenate([normals, g.normal(size=(hidden + 100, 3))])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    across = np.cross(axes, g.normal(size=axes.shape))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    frame = np.stack([across, np.cross(axes, across), axes], -1)
    scales = np.full((len(places), columns), -3.5)
    if columns == 3:  # the thin axis is not the last
        frame, scales[:, 0] = np.stack([axes, across, np.cross(axes, across)], -1), -8.0
    turns = Rotation.from_matrix(frame).as_quat()[:, [3, 0, 1, 2]] * g.uniform(0.5, 2.0, (len(places), 1))
    opacities = np.full(len(places), 3.0)
    opacities[-len(faint) :] = -3.0
    arrays = {
        "positions": places,
        "harmonics": np.zeros((len(places), 1, 3)),
        "opacities": opacities,
        "scales": scales,
        "rotations": turns,
    }
    write_splats(path, {name: value.astype(np.float32) for name, value in arrays.items()})
    return path


@pytest.mark.parametrize(
    ("made", "volume", "columns", "close"),
    [
        (_ball, 4 / 3 * math.pi * 0.7**3, 2, 0.02),  # measured 1.0045
        (_crate, 0.48, 3, 0.03),  # measured .995: edges are rounded
        (_open_crate, 0.48, 2, 0.06),  # measured .969: over a hole the winding number falls slowly
    ],
)
def test_discs_are_filled(
    made: Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]],
    volume: float,
    columns: int,
    close: float,
    tmp_path: Path,
) -> None:
    """Verification: volumes of a ball and of crates, of discs that do not say which side is out."""
    g = np.random.default_rng(1)
    points, normals = made(1500, g)
    points = points + g.normal(0, 0.004, points.shape)
    shape = SurfelsShape(file=_splats(tmp_path / "body.ply", points, normals, columns, 75 * (made is _ball), g))
    particles, volumes = fill(shape, 0.04)
    assert volumes.sum() == pytest.approx(volume, rel=close)
    assert len(particles) == pytest.approx(volume / 0.04**3, rel=0.12)  # a layer of a lattice is a fifteenth
    assert np.allclose(particles.mean(0), (points.min(0) + points.max(0)) / 2, atol=0.02)
    placed = SurfelsShape(file=shape.file, center=CENTER, size=0.5)
    lower, upper = placed.bounds()
    assert np.allclose((lower + upper) / 2, CENTER) and (upper - lower).max() == pytest.approx(0.5)
    assert fill(placed, 0.04 * 0.5 / np.ptp(points, axis=0).max())[0].shape == pytest.approx(particles.shape, rel=0.1)
    vertices, faces = shape.triangles()
    a, b, c = vertices[faces].transpose(1, 0, 2)
    assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 == pytest.approx(volume, rel=close)  # and it faces outwards


def test_files_that_hold_no_surface(tmp_path: Path) -> None:
    g = np.random.default_rng(1)
    few = _splats(tmp_path / "few.ply", *_ball(20, g), 2, 0, g)
    with pytest.raises(ValueError, match=r"few.ply: 20 discs .* are no surface"):
        SurfelsShape(file=few).bounds()
    with pytest.raises(ValueError, match="no such file"):
        SurfelsShape(file=tmp_path / "absent.ply").bounds()
