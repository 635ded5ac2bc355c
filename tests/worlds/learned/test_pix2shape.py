"""Scenes of solids, and Pix2Shape's path and parts."""

import math

import pytest
import torch

from simengine.render import PinholeCamera
from simengine.worlds.learned.pix2shape.chains import all_chains, chain_solids, mirror_images, quarter_turns
from simengine.worlds.learned.pix2shape.networks import (
    Critic,
    Decoder,
    Encoder,
    gradient_penalty,
    hausdorff,
    in_a_mirror,
    picture_of_depth,
    picture_of_solids,
    plane_normals,
    regularisers,
)
from simengine.worlds.learned.solids import Solids, cameras, cast, random_solids

POSES = torch.tensor([[0.3, 0.8], [-0.5, 0.7]])


def one_solid(*, ball: bool) -> Solids:
    return Solids(
        centres=torch.tensor([[[0.1, 0.2, -0.3]]]),
        axes=torch.eye(3).view(1, 1, 3, 3),
        half=torch.tensor([[[0.5, 0.5, 0.5]]]),
        ball=torch.tensor([[ball]]),
    )


def test_ball_is_met_where_it_is() -> None:
    solids = one_solid(ball=True)
    hits = cast(solids, PinholeCamera.stack([PinholeCamera.look_at((0.1, 0.2, 3.7), (0.1, 0.2, 0.0), width=33)]))
    met = hits.index[0] == 0
    from_centre = hits.points[0][met] - solids.centres[0, 0]
    torch.testing.assert_close(from_centre.norm(dim=-1), torch.full((int(met.sum()),), 0.5), atol=1e-5, rtol=0)
    torch.testing.assert_close(hits.normals[0][met], from_centre / 0.5, atol=1e-4, rtol=0)
    assert float(hits.depth[0, 128, 16]) == pytest.approx(3.5, abs=1e-3)  # 4 m to the centre


def test_box_faces_and_floor() -> None:
    solids = random_solids(2)
    hits = cast(solids, cameras(POSES, 32))
    on_floor = hits.index == 2
    assert bool(on_floor.any()) and float(hits.points[on_floor][:, 1].abs().max()) < 1e-5
    # what is met is on the surface of its solid, in the solid's own coordinates
    for scene in range(2):
        for k in range(2):
            own = hits.index[scene] == k
            local = (hits.points[scene][own] - solids.centres[scene, k]) @ solids.axes[scene, k].T
            local = local / solids.half[scene, k]
            size = local.norm(dim=-1) if bool(solids.ball[scene, k]) else local.abs().amax(-1)
            torch.testing.assert_close(size, torch.ones_like(size), atol=1e-4, rtol=0)


def test_cast_needs_a_camera_for_each_scene() -> None:
    with pytest.raises(ValueError, match="one for each scene"):
        cast(random_solids(3), cameras(POSES, 16))


def test_chains_touch_in_a_row_only() -> None:
    chains = all_chains(5)
    apart = (chains.cells[:, :, None] - chains.cells[:, None]).abs().sum(-1)
    order = (torch.arange(5)[:, None] - torch.arange(5)[None]).abs()
    assert bool((apart[:, order == 1] == 1).all()) and bool((apart[:, order >= 2] >= 2).all())
    assert len({frozenset(map(tuple, cells)) for cells in chains.cells.tolist()}) == len(chains.cells) == 267
    solids = chain_solids(chains.cells)
    assert float((solids.centres - solids.half)[..., 1].amin(1).abs().max()) < 1e-6


def test_chains_of_four_cubes_are_known() -> None:
    # a rod (3 ways to lie), an L (24), an S (12), and the two screws (12 each), which are each other's mirror images
    chains = all_chains(4)
    sizes = torch.bincount(chains.group)
    assert sorted(sizes.tolist()) == [3, 12, 24, 24]
    assert chains.chiral.sum() == 24 and len(chains.group[chains.chiral].unique()) == 1
    with pytest.raises(ValueError, match="4 to 8"):
        all_chains(3)


def test_what_is_asked_about_is_not_learned_from() -> None:
    chains = all_chains(6)
    asked, learned = chains.part(held_out=True), chains.part(held_out=False)
    assert not set(asked.group.tolist()) & set(learned.group.tolist())
    assert len(asked.cells) + len(learned.cells) == len(chains.cells)
    bodies = {frozenset(map(tuple, cells)) for cells in learned.cells.tolist()}
    for moved in (mirror_images(asked.cells), quarter_turns(asked.cells)):
        assert not bodies & {frozenset(map(tuple, cells)) for cells in moved.tolist()}
    assert bool(asked.chiral[asked.draw(50, chiral=True)].all())


def test_mirror_images_need_not_be_rendered() -> None:
    cells = all_chains(5).cells[[10, 100]]
    straight, _ = picture_of_solids(chain_solids(cells), cameras(POSES, 16))
    mirrored, poses = in_a_mirror(straight, POSES)
    expected, _ = picture_of_solids(chain_solids(mirror_images(cells)), cameras(poses, 16))
    assert float((mirrored - expected).abs().median()) < 1e-6 and float((mirrored - straight).abs().max()) > 0.1


def test_normals_of_a_plane_and_their_gradient() -> None:
    camera = cameras(POSES[:1].double(), 24)
    rays = camera.directions()
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, -1.0], dtype=torch.float64), dim=0)
    depth = 4 * normal[2] / (rays @ normal)
    # exact everywhere, at the border too
    found = plane_normals(rays * depth[..., None])
    torch.testing.assert_close(found, normal.expand_as(found), atol=1e-9, rtol=0)
    small = cameras(POSES[:1].double(), 4)

    def picture(z: torch.Tensor) -> torch.Tensor:
        return picture_of_depth(z, small)[0]

    rough = (4 + 0.2 * torch.rand(1, 4, 4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(picture, (rough,), atol=1e-5)


def test_picture_of_depth_agrees_with_exact_normals() -> None:
    # away from edges a ball's picture by planes through neighbours tends to that with exact normals, as the square
    errors = []
    for size in (32, 64):
        ahead = PinholeCamera.look_at((0.1, 0.2, 3.2), (0.1, 0.2, 0.0), width=size, height=size)
        camera = PinholeCamera.stack([ahead])
        solids = one_solid(ball=True)
        exact, depth = picture_of_solids(solids, camera)
        found, _ = picture_of_depth(depth.clamp_max(6.0), camera)
        x = camera.directions()[0, ..., :2] * 3.5
        inner = x.norm(dim=-1) < 0.3
        errors.append(float((found - exact)[0][inner].abs().mean()))
    assert math.log2(errors[0] / errors[1]) > 1.5 and errors[1] < 5e-3


def test_regularisers_fall_for_what_is_real() -> None:
    # the published code maximises them: here a true scene has less of each than the same with noise on its depth
    camera = cameras(POSES, 32)
    picture, depth = picture_of_solids(random_solids(2), camera)
    noisy = depth + 0.3 * torch.randn_like(depth)
    _, normals = picture_of_depth(depth, camera)
    _, rough = picture_of_depth(noisy, camera)
    true, false = regularisers(depth, normals, picture), regularisers(noisy, rough, picture)
    assert true["range"] == 0 and regularisers(depth + 5, normals, picture)["range"] > 1
    assert true["normals"] < 0.3 * false["normals"] and true["edges"] < 0.3 * false["edges"]


def test_regularisers_see_every_picture() -> None:
    depth = torch.full((3, 8, 8), 4.0)
    depth[0] = 1.0  # only the first one is out of range: 1 m nearer than allowed
    normals = torch.tensor([0.0, 0.0, -1.0]).expand(3, 8, 8, 3)
    found = regularisers(depth, normals, torch.zeros(3, 8, 8, 3))
    assert float(found["range"]) == pytest.approx(1 / 3)


def test_networks_and_penalty() -> None:
    sizes = {"size": 16, "latent": 6, "width": 4}
    encoder, decoder, critic = Encoder(**sizes), Decoder(**sizes), Critic(**sizes)
    picture = torch.rand(2, 16, 16, 3)
    code, details = encoder(picture, POSES)
    depth, sharper = decoder(code, POSES), decoder(code, POSES, details)
    assert sharper.shape == depth.shape and bool((sharper != depth).any())
    assert code.shape == (2, 6) and depth.shape == (2, 16, 16) and bool((depth > 2).all())
    penalty = gradient_penalty(critic, (picture, code), (picture.flip(0), code.flip(0)), POSES)
    penalty.backward()
    assert all(bool(p.grad.isfinite().all()) for p in critic.parameters() if p.grad is not None)
    # the penalty vanishes for a critic whose slope has length 1
    w = torch.randn(6)

    class Plane(Critic):
        def forward(self, picture: torch.Tensor, code: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
            return code @ (w / w.norm()) + 0 * picture.sum((1, 2, 3))

    assert float(gradient_penalty(Plane(**sizes), (picture, code), (picture, code), POSES)) < 1e-9


def test_hausdorff_distance() -> None:
    a = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    b = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 3.0, 0.0]])
    assert hausdorff(a, b) == pytest.approx(3.0) and hausdorff(b, a) == pytest.approx(3.0) and hausdorff(a, a) == 0
