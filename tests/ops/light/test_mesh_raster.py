import pytest
import torch

from simengine.ops.light import mesh_raster, mesh_raster_reference

WIDTH, HEIGHT = 30, 20


def corners(f: int, *, dtype: torch.dtype = torch.float64, behind: bool = True) -> torch.Tensor:
    """Random triangles before the eye, some of which reach behind it."""
    points = torch.randn(f, 1, 3, dtype=torch.float64) + torch.randn(f, 3, 3, dtype=torch.float64)
    points[..., 2] = points[..., 2].abs() + 0.5
    if behind:
        points[::5, 0, 2] *= -1
    K = torch.tensor([[30.0, 0, WIDTH / 2], [0, 30, HEIGHT / 2], [0, 0, 1]], dtype=torch.float64)
    return (points @ K.T).to(dtype)


def outlines(c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every edge of every triangle."""
    side = torch.sign(torch.linalg.det(c))
    return torch.cat([c[:, [0, 1]], c[:, [1, 2]], c[:, [2, 0]]]), side.repeat(3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("f", [1, 3, 40])
def test_parity(f: int, dtype: torch.dtype) -> None:
    c = corners(f, dtype=dtype)
    face, depth = mesh_raster.draw_triangles(c, width=WIDTH, height=HEIGHT)
    expected = mesh_raster_reference.draw_triangles(c, width=WIDTH, height=HEIGHT)
    # a pixel centre on an edge to rounding may go either way: none does in float64, one in a thousand in float32
    assert float((face != expected[0]).double().mean()) <= (0 if dtype == torch.float64 else 2e-3)
    same = face == expected[0]
    assert torch.equal(depth[same], expected[1][same])
    assert f < 40 or int((face >= 0).sum()) > 0  # a few may all lie beside the picture
    links = mesh_raster.draw_outlines(*outlines(c), face, depth)
    reference = mesh_raster_reference.draw_outlines(*outlines(c), face, depth)
    for ours, theirs in zip(links, reference, strict=True):
        assert ours.shape == theirs.shape
        assert float((ours != theirs).double().mean()) <= (0 if dtype == torch.float64 else 2e-3)


def test_depth_is_where_the_ray_meets_the_plane() -> None:
    # plane x/4 + z = 3 seen by a camera of focal length 30: z (1 + (px - cx)/(4 f)) = 3
    points = torch.tensor([[[-60.0, -50, 18], [60, -50, -12], [0, 90, 3]]], dtype=torch.float64)
    K = torch.tensor([[30.0, 0, WIDTH / 2], [0, 30, HEIGHT / 2], [0, 0, 1]], dtype=torch.float64)
    face, depth = mesh_raster.draw_triangles(points @ K.T, width=WIDTH, height=HEIGHT)
    x = (torch.arange(WIDTH, dtype=torch.float64) + 0.5 - WIDTH / 2) / 30
    assert (face == 0).all()
    torch.testing.assert_close(depth, (3 / (1 + x / 4)).expand(HEIGHT, WIDTH), rtol=1e-12, atol=0)


def test_nearer_hides_farther_whatever_the_order() -> None:
    c = corners(30, behind=False)
    face, depth = mesh_raster.draw_triangles(c, width=WIDTH, height=HEIGHT)
    order = torch.randperm(30)
    again, same = mesh_raster.draw_triangles(c[order], width=WIDTH, height=HEIGHT)
    assert torch.equal(torch.where(again >= 0, order[again.clamp_min(0)], -1), face) and torch.equal(depth, same)


def test_outline_is_between_inside_and_outside() -> None:
    # one triangle: each change from covered to not along a row or a column is a link of one of its edges
    c = torch.tensor([[[4.3, 2.2, 1], [26.1, 5.7, 1], [9.4, 17.9, 1]]], dtype=torch.float64)
    face, depth = mesh_raster.draw_triangles(c, width=WIDTH, height=HEIGHT)
    down, across = mesh_raster.draw_outlines(*outlines(c), face, depth)
    covered = face >= 0
    assert (covered[1:] ^ covered[:-1])[down >= 0].all() and (covered[:, 1:] ^ covered[:, :-1])[across >= 0].all()
    assert int((down >= 0).sum()) > 10 and int((across >= 0).sum()) > 5


def test_few() -> None:
    nothing = torch.zeros(0, 3, 3)
    face, depth = mesh_raster.draw_triangles(nothing, width=3, height=2)
    assert (face == -1).all() and not depth.any()
    down, across = mesh_raster.draw_outlines(torch.zeros(0, 2, 3), torch.zeros(0), face, depth)
    assert down.shape == (1, 3) and across.shape == (2, 2) and (down == -1).all() and (across == -1).all()
    one = corners(1)
    face, depth = mesh_raster.draw_triangles(one, width=1, height=1)
    assert [link.shape for link in mesh_raster.draw_outlines(*outlines(one), face, depth)] == [(0, 1), (1, 0)]


def test_bad_input() -> None:
    c = corners(2)
    with pytest.raises(ValueError, match=r"corners: expected shape \(f, 3, 3\)"):
        mesh_raster.draw_triangles(c[:, :2], width=4, height=4)
    with pytest.raises(ValueError, match="width, height"):
        mesh_raster.draw_triangles(c, width=0, height=4)
    with pytest.raises(TypeError, match="float32 or float64"):
        mesh_raster.draw_triangles(c.half(), width=4, height=4)
    c[1, 2, 0] = torch.nan
    with pytest.raises(ValueError, match="corners: not finite at triangle 1"):
        mesh_raster.draw_triangles(c, width=4, height=4)
    with pytest.raises(ValueError, match="edges, side: expected shapes"):
        mesh_raster.draw_outlines(c, c[:, 0, 0], torch.zeros(2, 2), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="face, depth: expected one shape"):
        mesh_raster.draw_outlines(c[:, :2], c[:, 0, 0], torch.zeros(2, 2), torch.zeros(2, 3))
