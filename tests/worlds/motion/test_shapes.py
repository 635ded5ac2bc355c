"""Bodies of particles: volumes against closed forms, meshes good and bad."""

import math
from pathlib import Path

import numpy as np
import pytest

from simengine.io.geometry.mesh_file import read_mesh
from simengine.worlds.motion.shapes import BoxShape, CylinderShape, MeshShape, SphereShape, TorusShape, fill

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
