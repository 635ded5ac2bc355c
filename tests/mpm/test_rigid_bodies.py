"""Rigid bodies given by a mesh (verification): their signed distance, and the motion they cause."""

import pytest
import torch

from simengine import mpm
from simengine.materials import jelly
from simengine.ops.light.mesh import signed_distance
from simengine.solve import rollout


def ball(radius: float, subdivisions: int) -> tuple[torch.Tensor, torch.Tensor]:
    trimesh = pytest.importorskip("trimesh")
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return torch.as_tensor(mesh.vertices), torch.as_tensor(mesh.faces)


def test_signed_distance_of_a_ball() -> None:
    x = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    vertices, faces = ball(0.6, 4)
    error = signed_distance(x, vertices, faces) - (x.norm(dim=1) - 0.6)
    sagitta = 0.6 - float(vertices[faces].mean(1).norm(dim=1).min())  # the triangles lie so far inside the ball
    assert sagitta < 1e-3 and error.min() > -1e-6 and error.max() < sagitta + 1e-6


def drop(collider: torch.nn.Module) -> torch.Tensor:
    """Final positions of a jelly cube that falls on a body and rolls off it."""
    axes = torch.arange(8, dtype=torch.float64) / 40
    x = torch.stack(torch.meshgrid(axes, axes, axes, indexing="ij"), -1).reshape(-1, 3)
    x = x + torch.tensor([0.45, 0.6, 0.42], dtype=torch.float64)
    model = mpm.MPMModel(
        num_grids=20, dt=1e-3, materials=[jelly(E=1e4)], volume=40.0**-3, mass=40.0**-3 * 1000, boundaries=[collider]
    )
    v = torch.zeros_like(x)
    v[:, 1] = -1.0
    return rollout(mpm.MPMSolver(model), mpm.MPMState.at_rest(x, v), 150, save_every=150)[-1].x


def test_a_mesh_of_a_ball_acts_as_the_ball() -> None:
    options = {"center": (0.5, 0.4, 0.5), "surface": mpm.Surface("friction", 0.3), "angular_velocity": (0.0, 0.0, 3.0)}
    exact = drop(mpm.Sphere(radius=0.15, **options))
    free = drop(mpm.Sphere(radius=0.01, **{**options, "center": (0.8, 0.8, 0.8)}))
    errors = []
    for resolution, subdivisions in ((10, 2), (40, 4)):
        errors.append(
            float((drop(mpm.MeshBody(*ball(0.15, subdivisions), resolution=resolution, **options)) - exact).abs().max())
        )
    assert (exact - free).abs().max() > 0.05  # the ball matters
    assert errors[1] < 2e-3 and errors[1] < errors[0] / 4  # of a ball of 0.15 m: 4x the samples, 1/16 of the sagitta


def test_what_is_no_body_is_refused() -> None:
    vertices, faces = ball(0.1, 1)
    with pytest.raises(ValueError, match="enclose no volume"):
        mpm.MeshBody(vertices, faces.flip(1)[:0].reshape(0, 3).new_tensor([[0, 1, 2]]), center=(0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="resolution must lie in"):
        mpm.MeshBody(vertices, faces, center=(0.5, 0.5, 0.5), resolution=4)
    tiny = mpm.MeshBody(vertices * 0.1, faces, center=(0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="width: a layer"):
        drop(tiny)


def test_only_faces_with_friction_have_their_coefficient() -> None:
    kinds = {"-x": "friction", "+y": "friction", "-z": "sticky", "+z": "open"}
    six = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=torch.float64)
    for friction, wanted in ((six, [0.1, 0.0, 0.0, 0.4, 0.0, 0.0]), (0.7, [0.7, 0.0, 0.0, 0.7, 0.0, 0.0])):
        row = mpm.Walls(kinds, friction=friction).row(six)  # type: ignore[arg-type]
        assert row[:6].tolist() == wanted and not bool(row[6:].any())


def test_each_edge_of_a_box_has_its_own_length() -> None:
    """Points before the middle of each face, and one beyond an edge."""
    box = mpm.Box(center=(0.5, 0.5, 0.5), half_size=(0.1, 0.2, 0.3))
    x = torch.tensor([[0.65, 0.5, 0.5], [0.5, 0.75, 0.5], [0.5, 0.5, 0.85], [0.63, 0.74, 0.5], [0.5, 0.5, 0.5]])
    assert box.distance(x, 0.05).tolist() == pytest.approx([0.05, 0.05, 0.05, 0.05, -0.1], abs=1e-6)
    assert box.thickness == pytest.approx(0.2)
