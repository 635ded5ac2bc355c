"""Meshes of bodies: areas, volumes and normals in closed form."""

import math

import pytest
import torch

from simengine.dtn.bodies.builder import VEHICLE, MeshBuilder, smooth_normals


def area_and_volume(builder: MeshBuilder) -> tuple[float, float]:
    """Area, and volume by the divergence theorem with each triangle turned away from the middle of a convex body."""
    a, b, c = torch.tensor(builder.triangles, dtype=torch.float64).unbind(1)
    normal = torch.linalg.cross(b - a, c - a) / 2
    middle = (a + b + c) / 3
    out = middle - torch.cat([a, b, c]).mean(0)
    normal = normal * (normal * out).sum(1, keepdim=True).sign()
    return float(normal.norm(dim=1).sum()), float((normal * middle).sum() / 3)


def test_a_box_has_its_area_and_volume() -> None:
    builder = MeshBuilder(VEHICLE)
    builder.box((1.0, -2.0, 0.5), (4.0, 0.0, 1.0), "trim")
    assert area_and_volume(builder) == pytest.approx((2 * (3 * 2 + 3 * 0.5 + 2 * 0.5), 3.0))
    assert len(builder.triangles) == 12 and set(builder.names) == {"trim"}


def test_a_disc_is_a_prism_about_an_axis_along_y() -> None:
    """A polygon of n corners at r: area n r^2 sin(2 pi/n)/2, each side 2 r sin(pi/n)."""
    builder, r, n = MeshBuilder(VEHICLE), 0.3, 20
    builder.disc(1.0, (0.2, 0.7), 2.0, r, "tyre")
    face = n * r * r * math.sin(2 * math.pi / n) / 2
    assert area_and_volume(builder) == pytest.approx((2 * face + n * 2 * r * math.sin(math.pi / n) * 0.5, face * 0.5))
    corners = torch.tensor(builder.triangles).reshape(-1, 3)
    assert torch.allclose((corners[:, [0, 2]] - torch.tensor([1.0, 2.0])).norm(dim=1), torch.tensor(r))
    assert corners[:, 1].unique().tolist() == pytest.approx([0.2, 0.7])


def test_a_surface_of_revolution_has_the_radii_of_its_profile() -> None:
    """A cone of 28 sides from radius 1 to 1/2 over 1: each side a trapezium."""
    builder, n = MeshBuilder(VEHICLE), 28
    builder.revolve(1.0, 2.0, [(0.0, 1.0), (1.0, 0.5)], "rim")
    edges = [2 * r * math.sin(math.pi / n) for r in (1.0, 0.5)]
    height = math.hypot(1.0, 0.5 * math.cos(math.pi / n))
    assert area_and_volume(builder)[0] == pytest.approx(n * sum(edges) / 2 * height)
    corners = torch.tensor(builder.triangles).reshape(-1, 3)
    radius = (corners[:, [0, 2]] - torch.tensor([1.0, 2.0])).norm(dim=1)
    assert torch.allclose(radius, 1 - corners[:, 1] / 2) and len(builder.triangles) == 2 * n


def test_parts_of_a_loft_have_their_own_material() -> None:
    """Of three stretches along x the middle one, and of its four columns the second."""
    square = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    builder = MeshBuilder(VEHICLE)
    rings = [[(float(x), *corner) for corner in square] for x in range(4)]
    builder.loft(rings, "trim", parts=[("glass", (1.0, 2.0), (1,))])
    glass = [t for t, name in zip(builder.triangles, builder.names, strict=True) if name == "glass"]
    assert len(glass) == 2 and len(builder.triangles) == 3 * 4 * 2 + 2 * 2
    assert {p[0] for t in glass for p in t} == {1.0, 2.0} and {p[1] for t in glass for p in t} == {1.0}
    assert area_and_volume(builder) == pytest.approx((3 * 4 + 2, 3.0))


def test_normals_are_smooth_up_to_the_crease() -> None:
    """A cube's stay flat below 90 degrees; above, those of a corner are weighed by area."""
    builder = MeshBuilder(VEHICLE)
    builder.box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "trim")
    triangles = torch.tensor(builder.triangles)
    a, b, c = triangles.unbind(1)
    flat = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
    sharp = smooth_normals(triangles, crease=1.5)
    torch.testing.assert_close(sharp, flat[:, None].expand(-1, 3, -1))
    builder = MeshBuilder(VEHICLE)
    builder.disc(0.0, (0.0, 1.0), 0.0, 1.0, "tyre", sides=40)
    shown = builder.surface(painted="tyre", part=True, crease=0.6)
    mantle = shown.vertices.reshape(-1, 3, 3)[:, :, 1].unique(dim=1).shape[1] > 1
    assert mantle and shown.corner_normals is not None
    corners, normals = shown.vertices.reshape(-1, 3, 3), shown.corner_normals
    on_mantle = (corners[:, :, 1].amax(1) - corners[:, :, 1].amin(1)) > 0.5
    radial = corners[on_mantle] * torch.tensor([1.0, 0.0, 1.0])
    cosine = (normals[on_mantle] * radial).sum(-1).abs()
    assert float(cosine.min()) > math.cos(math.pi / 40)  # the weights of two triangles of one side and one of the next
    assert (normals[~on_mantle][..., 1].abs() > 0.999).all()
    assert shown.painted.tolist() == [name == "tyre" for name in VEHICLE] and bool(shown.part.all())
    assert (shown.material == list(VEHICLE).index("tyre")).all()
    assert builder.surface(painted=None, part=False, crease=0.0).corner_normals is None
    # two triangles of areas 1/2 and 2 that meet at 45 degrees: (n1/2 + 2 n2), normalised
    s = math.sqrt(0.5)
    pair = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0.0, 0, 0], [0, 2, 0], [-2 * s, 0, 2 * s]]])
    normals = smooth_normals(pair, crease=1.0)
    n1, n2 = torch.tensor([0.0, 0, 1]), torch.tensor([s, 0, s])
    expected = torch.nn.functional.normalize(0.5 * n1 + 2 * n2, dim=0)
    torch.testing.assert_close(normals[0, 0].abs(), expected)
    torch.testing.assert_close(normals[0, 1], n1)
