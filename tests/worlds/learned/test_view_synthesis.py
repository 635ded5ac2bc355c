"""Visibility in three formulations, and the synthesis of views from true and from estimated depth."""

import dataclasses
import math

import pytest
import torch

from simengine.render import PinholeCamera
from simengine.worlds.learned.solids import cameras, random_paint, random_solids
from simengine.worlds.learned.views_from_few.examples import Example, pictured, random_particle_example, random_views
from simengine.worlds.learned.views_from_few.network import SourceViews, ViewSynthesis, plane_sweep
from simengine.worlds.learned.views_from_few.spec import ViewSynthesisSpec
from simengine.worlds.learned.views_from_few.training import measure, surprise
from simengine.worlds.learned.views_from_few.visibility import (
    density_of_probability,
    inverse_planes,
    plane_edges,
    sample,
    shadow_visibility,
    surfel_density,
    transmittance_visibility,
)

PLANES = inverse_planes(1.0, 5.0, 16, dtype=torch.float64)
PIXELS = torch.tensor([[[3.5, 2.5], [1.25, 4.0], [6.0, 6.5]]], dtype=torch.float64)


def test_transmittance_of_a_homogeneous_cube() -> None:
    # exp(-sigma (z - near)) in closed form, also between planes, and 1 in front of it
    edges = plane_edges(PLANES)
    density = torch.full((1, 16, 8, 8), 0.7, dtype=torch.float64)
    z = torch.tensor([[1.7, 3.3, 0.5]], dtype=torch.float64)
    expected = torch.exp(-0.7 * (z - edges[0]).clamp_min(0))
    torch.testing.assert_close(transmittance_visibility(density, PLANES, PIXELS, z), expected, atol=1e-12, rtol=0)


def test_density_stops_rays_with_the_given_probability() -> None:
    probability = torch.rand(2, 16, 8, 8, dtype=torch.float64).softmax(1)
    density = density_of_probability(probability, PLANES)
    edges = plane_edges(PLANES)
    middle = torch.tensor([[[3.5, 2.5]], [[3.5, 2.5]]], dtype=torch.float64)
    for k in (1, 7, 12):
        left = transmittance_visibility(density, PLANES, middle, edges[k].expand(2, 1))
        torch.testing.assert_close(left[:, 0], 1 - probability[:, :k, 2, 3].sum(1), atol=1e-9, rtol=0)


def test_shadow_is_half_at_its_bias() -> None:
    depth, spread = torch.full((1, 8, 8), 3.0).double(), torch.full((1, 8, 8), 0.1).double()
    z = torch.tensor([[3.2, 2.0, 4.0]], dtype=torch.float64)
    found = shadow_visibility(depth, spread, PIXELS, z, bias=torch.tensor(2.0).double())
    torch.testing.assert_close(found, torch.tensor([[0.5, 1.0, 0.0]]).double(), atol=1e-3, rtol=0)


def test_surfels_in_front_hide() -> None:
    camera = PinholeCamera.stack([PinholeCamera.look_at((0.0, 0.0, 3.0), width=8, height=8, dtype=torch.float64)])
    along = camera.directions()[0].reshape(-1, 3)
    wall = camera.position[0] + (along * 2.5) @ camera.rotation[0]  # a surfel in each pixel at a depth of 2.5 m
    density = surfel_density(wall, camera, PLANES, opacity=0.8)
    z = torch.tensor([[1.8, 4.0, 4.0]], dtype=torch.float64)
    inner = torch.tensor([[[3.5, 2.5], [3.5, 2.5], [4.5, 4.5]]], dtype=torch.float64)
    seen = transmittance_visibility(density, PLANES, inner, z)[0]
    assert float(seen[0]) == pytest.approx(1.0) and float(seen[1]) == pytest.approx(0.2, abs=1e-6)


def test_a_surfel_on_a_plane_is_in_its_layer() -> None:
    # in the middle of a pixel and on a plane: -log(1 - opacity) of optical depth there, and nothing elsewhere
    camera = PinholeCamera.stack([PinholeCamera.look_at((0.0, 0.0, 3.0), width=8, height=8, dtype=torch.float64)])
    edges = plane_edges(PLANES)
    for k in (1, 5, len(PLANES) - 2):
        at = camera.directions()[0, 3, 2] * PLANES[k]
        density = surfel_density(
            (camera.position[0] + at @ camera.rotation[0])[None], camera, PLANES, opacity=0.8
        ) * edges.diff().view(1, -1, 1, 1)
        expected = torch.zeros_like(density)
        expected[0, k, 3, 2] = -math.log(0.2)
        torch.testing.assert_close(density, expected, rtol=0, atol=1e-6)


def test_gradients_of_visibility() -> None:
    density = (0.5 * torch.rand(1, 16, 8, 8, dtype=torch.float64)).requires_grad_()
    z = torch.tensor([[1.9, 3.1, 2.3]], dtype=torch.float64, requires_grad=True)
    pixels = (PIXELS + 0.2).requires_grad_()  # bilinear weights have kinks at the centres of pixels

    def marched(d: torch.Tensor, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return transmittance_visibility(d, PLANES, p, t)

    assert torch.autograd.gradcheck(marched, (density, pixels, z), fast_mode=True)
    camera = PinholeCamera.stack([PinholeCamera.look_at((0.0, 0.0, 3.0), width=6, height=6, dtype=torch.float64)])
    points = (0.4 * torch.rand(5, 3, dtype=torch.float64)).requires_grad_()
    weight = torch.rand(1, 16, 6, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda p: (surfel_density(p, camera, PLANES, opacity=0.5) * weight).sum(), (points,), fast_mode=True
    )


def test_samples_at_pixel_centres() -> None:
    maps = torch.rand(2, 3, 5, 7)
    at = torch.tensor([[[2.5, 3.5]], [[0.5, 0.5]]])
    torch.testing.assert_close(sample(maps, at)[:, 0], torch.stack([maps[0, :, 3, 2], maps[1, :, 0, 0]]))


def spec(**changes: object) -> ViewSynthesisSpec:
    return dataclasses.replace(ViewSynthesisSpec(), **{"size": 32, "planes": 16, "width": 4, **changes})


def test_planes_agree_at_the_true_depth() -> None:
    task = spec(spread=30.0)
    solids = random_solids(1, bodies=2)
    example = pictured(solids, random_paint(solids), cameras(random_views(task), task.size))
    pictures, given = example.given
    planes = inverse_planes(2.6, 6.8, 16)
    cost = plane_sweep(pictures, given, planes)[:, :16]
    nearest = (1 / example.depth[:-1, None] - 1 / planes[None, :, None, None]).abs().argmin(1, keepdim=True)
    assert float(cost.gather(1, nearest).median()) < 0.5 * float(cost.median())


def looked_at(planes: torch.Tensor, example: Example) -> SourceViews:
    """What a perfect first look would know: all probability on the plane nearest to the true depth."""
    pictures, given = example.given
    place = (1 / example.depth[:-1, None] - 1 / planes[None, :, None, None]).abs().argmin(1, keepdim=True)
    probability = torch.zeros(len(pictures), len(planes), *pictures.shape[1:3]).scatter(1, place, 1.0)
    return SourceViews.likely(given, pictures, planes, probability)


def test_second_look_knows_who_sees_a_plane() -> None:
    task = spec(spread=40.0)
    torch.manual_seed(0)
    example = random_particle_example(task)
    planes = inverse_planes(2.6, 6.8, 32)
    views = looked_at(planes, example)
    pictures, given = example.given
    first, second = plane_sweep(pictures, given, planes), plane_sweep(pictures, given, planes, views)
    assert first.shape == second.shape == (4, 128, 32, 32) and float(first[:, 64:].abs().max()) == 0.0
    nearest = views.probability.argmax(1, keepdim=True)

    def at_surface(part: torch.Tensor) -> float:
        return float(part.gather(1, nearest).mean())

    # colours of those that see the surface agree better, they have found it there, and none looks through it
    assert at_surface(second[:, 32:64]) < 0.8 * at_surface(first[:, 32:64])
    assert at_surface(second[:, 64:96]) > 2 * float(second[:, 64:96].mean())
    assert at_surface(second[:, 96:]) < 0.5 * float(second[:, 96:].mean())


def test_surprise_is_least_for_the_truth() -> None:
    task = spec()
    torch.manual_seed(0)
    example = random_particle_example(task)
    views = looked_at(inverse_planes(2.6, 6.8, 32), example)
    exact = views.depth  # on planes
    # rounding moves a depth by 1e-6 of the way to the next plane, which costs -log(1e-8) times that
    assert float(surprise(views, exact)) < 1e-4 < 1 < float(surprise(views, exact + 0.5))
    assert float(example.pictures.min()) >= 0 and float(example.pictures.max()) <= 1
    assert float((views.depth - example.depth[:-1]).abs().median()) < 0.1


def test_views_of_true_depth_need_visibility() -> None:
    # with the true depth of the given views, what is left is the mixing of colours: of pixels that some cameras cannot
    # see, visibility makes at least 1 dB of difference, in each formulation (measured 3 to 8 dB)
    task = spec(bodies=4)
    network = ViewSynthesis(num_planes=64, width=4)
    gains = {name: [] for name in ("shadow", "transmittance", "surfels")}
    for _ in range(3):
        solids = random_solids(1, bodies=4)
        example = pictured(solids, random_paint(solids), cameras(random_views(task), task.size))
        pictures, given = example.given
        with torch.no_grad():
            looked = network.look(pictures, given)
            place = (1 / example.depth[:-1, None] - 1 / looked.planes[None, :, None, None]).abs()
            true = dataclasses.replace(
                looked,
                depth=example.depth[:-1],
                spread=torch.full_like(looked.spread, 0.03),
                probability=torch.zeros_like(looked.probability).scatter(1, place.argmin(1, keepdim=True), 1.0),
            )
            hidden = example.hidden()
            square = {}
            for name in (*gains, "none"):
                made, depth = network(true, example.camera[-1], formulation=name)
                square[name] = (made - example.pictures[-1]).square().mean(-1)[hidden].mean()
            assert float((depth - example.depth[-1]).abs().median()) < 0.06
        for name, values in gains.items():
            values.append(float(10 * torch.log10(square["none"] / square[name])))
    assert all(sum(values) / 3 > 1 for values in gains.values()), gains


def test_look_refuses_other_shapes() -> None:
    network = ViewSynthesis(num_planes=4, width=4)
    camera = cameras(torch.tensor([[0.0, 0.8], [0.3, 0.8]]), 16)
    with pytest.raises(ValueError, match="divisible by 4"):
        network.look(torch.rand(2, 16, 12, 3), camera)
    with pytest.raises(ValueError, match="at least 2 cameras"):
        network.look(torch.rand(1, 16, 16, 3), cameras(torch.tensor([[0.0, 0.8]]), 16))


def test_measure_tells_formulations_apart() -> None:
    task = spec(bodies=4)
    solids = random_solids(1, bodies=4)
    example = pictured(solids, random_paint(solids), cameras(random_views(task), task.size))
    found = measure(ViewSynthesis(num_planes=16, width=4), [example])
    assert 0 < found["hidden_share"] < 1 and found["none"]["psnr"] > 5 and -1 <= found["none"]["ssim"] <= 1
