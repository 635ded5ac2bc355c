"""A texture onto the object: closed forms of the sampling, the renderer as an oracle, the gradient."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simengine.dtn.bodies.car import car
from simengine.dtn.sampler import ViewSampler
from simengine.dtn.texture import mip_pyramid, taps, texture_map, texture_picture
from simengine.dtn.views import ViewSet, render_views, stack_views
from simengine.io import write
from simengine.ops.light.ray_scene import Environment
from simengine.ops.light.raycast import raycast
from simengine.render.tone import ToneCurve
from simengine.worlds.detectors.painted_mesh import read_painted_mesh


def sample(texture: torch.Tensor, uv: torch.Tensor, footprint: float) -> torch.Tensor:
    index, weight = taps(uv, torch.full((len(uv),), footprint, dtype=uv.dtype), tuple(texture.shape[:2]))
    return (mip_pyramid(texture)[index] * weight[..., None]).sum(1)


def test_texel_centres_and_the_mean() -> None:
    texture = torch.rand(8, 16, 3, dtype=torch.float64)
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(16), indexing="ij")
    uv = torch.stack([(columns + 0.5) / 16, (rows + 0.5) / 8], -1).reshape(-1, 2).double()
    assert torch.allclose(sample(texture, uv, 0.0), texture.reshape(-1, 3))
    # 8 x 16 halves to 1 x 2: there a sample on a texel's middle is the mean of half the texture
    assert torch.allclose(sample(texture, uv.new_tensor([[0.25, 0.5]]), 10.0)[0], texture[:, :8].mean((0, 1)))


@pytest.mark.parametrize("size", [(16, 16), (8, 32)])
def test_level_of_a_footprint(size: tuple[int, int]) -> None:
    # a square of 4^k texels takes level k, where a texel's middle is their mean; between levels the mean of both
    texture = torch.rand(*size, 3, dtype=torch.float64)
    texel = (size[0] * size[1]) ** -0.5
    for level in (0, 1, 2):
        side = 2**level
        uv = torch.tensor([[2.5 * side / size[1], 1.5 * side / size[0]]], dtype=torch.float64)
        blocks = texture[side : 2 * side, 2 * side : 3 * side].mean((0, 1))
        torch.testing.assert_close(sample(texture, uv, side * texel)[0], blocks)
    uv = torch.tensor([[0.3, 0.7]], dtype=torch.float64)
    fine, coarse = (sample(texture, uv, factor * texel) for factor in (1.0, 2.0))
    torch.testing.assert_close(sample(texture, uv, 2**0.25 * texel), 0.75 * fine + 0.25 * coarse)


def test_repeats_without_a_seam() -> None:
    texture = torch.rand(8, 8, 3, dtype=torch.float64)
    uv = torch.rand(50, 2, dtype=torch.float64)
    for shift in (-3.0, 1.0, 2.0):
        assert torch.allclose(sample(texture, uv + shift, 0.2), sample(texture, uv, 0.2), atol=1e-12)
    across = torch.linspace(-0.02, 0.02, 401, dtype=torch.float64)
    line = sample(texture, torch.stack([across, torch.full_like(across, 0.3)], -1), 0.0)
    # bilinear: the slope is at most 8 texels per unit times a difference of at most 1
    assert float((line[1:] - line[:-1]).abs().max()) <= 8 * 1e-4 + 1e-12


@pytest.mark.parametrize(("mapping", "repetitions"), [("uv", 0.0), ("triplanar", 0.7)])
def test_agrees_with_the_texture_traced_by_the_renderer(mapping: str, repetitions: float) -> None:
    # One sample a pixel, no ground and no sky rays: no light from paint to paint, no averaging over a pixel's area.
    sampler, texture = ViewSampler(seed=3), torch.rand(16, 16, 3)
    camera = sampler.camera(2, (64, 64))
    view = raycast(
        car(),
        Environment(ground=False),
        camera.world_to_camera,
        camera.intrinsics,
        (64, 64),
        samples=1,
        sky_rays=0,
        paint=texture,
        repetitions_per_metre=repetitions,
    )
    views = stack_views([view], [camera], [sampler.conditions(2)], tone=ToneCurve())
    views.footprint.zero_()
    seen = texture_map(views, (16, 16), mapping=mapping, repetitions_per_metre=repetitions or 1.0)(texture)  # type: ignore[arg-type]
    radiance = (views.gain * seen + views.offset)[0].permute(1, 2, 0)
    error = (radiance - view.radiance).abs().amax(-1)
    # the mirror ray may meet other paint (wheel arches, mirrors): its light is in both; float32 uv times 16 texels
    assert float(error.max()) < 2e-5


def test_flat_texture_is_the_flat_colour(views: ViewSet) -> None:
    colour = torch.tensor([0.2, 0.5, 0.7])
    for mapping in ("uv", "triplanar", "planar"):
        seen = texture_map(views, (8, 8), mapping=mapping)(colour.expand(8, 8, 3))  # type: ignore[arg-type]
        assert torch.allclose(seen, colour.view(1, 3, 1, 1) * (views.paint > 0), atol=1e-6)


WALL = """mtllib w.mtl
usemtl P
v -2 -.5 0
v 2 -.5 0
v 2 -.5 2
v -2 -.5 2
v -2 .5 0
v 2 .5 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
f 1/1 2/2 3/3
f 1/1 3/3 4/4
usemtl Q
f 1/1 5/1 6/1
"""


def test_a_written_texture_has_its_top_where_other_programs_look_for_it(tmp_path: Path) -> None:
    # A wall from v = 0 at the ground to v = 1 on top; viewers show the first row of a PNG at v = 1, its left at u = 0.
    (tmp_path / "w.mtl").write_text("newmtl P\nKd .5 .5 .5\nnewmtl Q\nKd .2 .2 .2\n")
    (tmp_path / "w.obj").write_text(WALL)
    surface = read_painted_mesh(tmp_path / "w.obj", paint="P", up="z", length=4.0)
    sampler = ViewSampler(yaw=(-90, -90), pitch=(4, 4), distance=(6, 6), offset=0.0, haze=(0, 0))
    views = render_views(surface, sampler, range(1), (96, 96), sky_rays=1)
    texture = torch.full((8, 8, 3), 0.02)
    texture[6:, :2, 0] = 0.85  # red in the rows of large v, the columns of small u
    write(tmp_path / "t.png", texture_picture(texture))
    with Image.open(tmp_path / "t.png") as file:
        red = torch.from_numpy(np.asarray(file)[..., 0] > 128).nonzero().double() / file.size[0]
    assert red.mean(0).tolist() == pytest.approx([0.125, 0.125], abs=0.01)  # above and to the left
    seen = (texture_map(views, (8, 8))(texture)[0, 0] > 0.5).nonzero().double()
    wall = (views.paint[0, 0] > 0.5).nonzero().double()
    low, high = wall.min(0).values, wall.max(0).values
    place = (seen.mean(0) - low) / (high - low)
    assert place.tolist() == pytest.approx([0.125, 0.125], abs=0.08)  # perspective; sampling blurs the patch


@pytest.mark.parametrize("mapping", ["uv", "triplanar", "planar"])
def test_gradient(views: ViewSet, mapping: str) -> None:
    put_on = texture_map(views[:1], (4, 8), mapping=mapping)  # type: ignore[arg-type]
    double = views[:1]
    gain, offset = double.gain.double(), double.offset.double()
    weight = torch.rand_like(gain)

    def loss(texture: torch.Tensor) -> torch.Tensor:
        return (double.tone.encode(gain * put_on(texture) + offset) * weight).sum()

    texture = torch.rand(4, 8, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (texture,), rtol=1e-6)  # weights are float32 numbers, the product is float64


def test_bad_input_is_named(views: ViewSet) -> None:
    with pytest.raises(ValueError, match=r"texture: expected shape \(8, 8, 3\), got \(4, 4, 3\)"):
        texture_map(views, (8, 8))(torch.zeros(4, 4, 3))
    for value in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"texture: expected linear albedo in \[0, 1\], got .*clamp it"):
            texture_map(views, (4, 4))(torch.full((4, 4, 3), value))
    with pytest.raises(ValueError, match="texture: expected a tensor, got ndarray"):
        texture_map(views, (4, 4))(torch.zeros(4, 4, 3).numpy())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="repetitions_per_metre: expected a number above 0"):
        texture_map(views, (4, 4), mapping="triplanar", repetitions_per_metre=0.0)
    with pytest.raises(ValueError, match="no pixel shows paint"):
        bare = {name: value.clone() for name, value in views.tensors().items()}
        bare["paint"].zero_()
        texture_map(ViewSet(**bare), (8, 8))
    with pytest.raises(ValueError, match="no texture coordinates; use mapping='triplanar'"):
        texture_map(dataclasses.replace(views, uv=torch.zeros_like(views.uv)), (8, 8))
    with pytest.raises(ValueError, match="mapping='cube'"):
        texture_map(views, (8, 8), mapping="cube")  # type: ignore[arg-type]
