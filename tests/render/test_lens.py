"""Lenses: closed forms, there and back, derivatives, and pictures through them."""

import math

import pytest
import torch

from simengine.render import PinholeCamera
from simengine.render.lens import (
    BrownConradyLens,
    FisheyeLens,
    Lens,
    picture_through,
    pinhole_covering,
    project_through,
    rays_through,
)

BROWN = [0.12, -0.2, 1.5e-3, -8e-4, 0.05, 0.02, -0.01, 0.004]
FISHEYE = [0.05, -0.01, 0.004, -0.001]


def brown(coefficients: list[float] = BROWN) -> BrownConradyLens:
    return BrownConradyLens(coefficients=torch.tensor(coefficients, dtype=torch.float64))


def fisheye(coefficients: list[float] = FISHEYE) -> FisheyeLens:
    return FisheyeLens(coefficients=torch.tensor(coefficients, dtype=torch.float64))


def square(half: float, n: int = 21) -> torch.Tensor:
    side = torch.linspace(-half, half, n, dtype=torch.float64)
    return torch.cartesian_prod(side, side)


def test_closed_forms() -> None:
    # each coefficient alone at (0.3, 0.4), r^2 = 1/4
    point = torch.tensor([0.3, 0.4], dtype=torch.float64)
    expected = [
        (1 + 0.1 / 4) * point,
        (1 + 0.1 / 16) * point,
        point + 0.1 * torch.tensor([2 * 0.12, 0.25 + 2 * 0.16], dtype=torch.float64),
        point + 0.1 * torch.tensor([0.25 + 2 * 0.09, 2 * 0.12], dtype=torch.float64),
        (1 + 0.1 / 64) * point,
        point / (1 + 0.1 / 4),
        point / (1 + 0.1 / 16),
        point / (1 + 0.1 / 64),
    ]
    for k, where in enumerate(expected):
        torch.testing.assert_close(brown([0.1 * (k == j) for j in range(8)]).distort(point), where, rtol=1e-14, atol=0)
    # equidistant: the distance is the angle; at 45 degrees t^2k of each coefficient
    side = torch.tensor([1.0, 0.0], dtype=torch.float64)
    t = math.pi / 4
    assert float(fisheye([0.0] * 4).distort(side)[0]) == pytest.approx(t, rel=1e-14)
    for k in range(4):
        seen = fisheye([0.1 * (k == j) for j in range(4)]).distort(side)
        assert float(seen[0]) == pytest.approx(t + 0.1 * t ** (2 * k + 3), rel=1e-14) and float(seen[1]) == 0


@pytest.mark.parametrize(("lens", "half"), [(brown(), 0.8), (brown(BROWN[:4]), 0.6), (fisheye(), 3.0)])
def test_there_and_back(lens: Lens, half: float) -> None:
    points = square(half)
    torch.testing.assert_close(lens.undistort(lens.distort(points)), points, rtol=1e-11, atol=1e-12)
    jacobian = torch.autograd.functional.jacobian(lambda x: lens.distort(x).sum(0), points).permute(1, 0, 2)
    torch.testing.assert_close(lens.jacobian(points), jacobian, rtol=1e-9, atol=1e-12)
    back = lens.undistort(lens.distort(points.float()))
    torch.testing.assert_close(back, points.float(), rtol=3e-5, atol=3e-6)


@pytest.mark.parametrize("kind", [BrownConradyLens, FisheyeLens])
def test_gradients(kind: type) -> None:
    coefficients = torch.tensor(BROWN if kind is BrownConradyLens else FISHEYE, dtype=torch.float64)
    points = torch.tensor([[0.0, 0.0], [0.2, -0.3], [-0.5, 0.1], [1e-7, 2e-7]], dtype=torch.float64)
    for direction in ("distort", "undistort"):
        assert torch.autograd.gradcheck(
            lambda c, x, d=direction: getattr(kind(coefficients=c), d)(x),
            (coefficients.clone().requires_grad_(), points.clone().requires_grad_()),
            atol=1e-8,
        )


def test_beyond_what_the_lens_sees() -> None:
    # a barrel folds over where d(r - 0.3 r^3)/dr = 0, r = 1.054, at 0.703; equidistant pictures end at pi/2
    folded = brown([-0.3, 0.0, 0.0, 0.0])
    assert bool(torch.isfinite(folded.undistort(torch.tensor([[0.69, 0.0]], dtype=torch.float64))).all())
    with pytest.raises(ValueError, match=r"lens: nothing is seen at \(0.72, 0\) focal lengths"):
        folded.undistort(torch.tensor([[0.1, 0.0], [0.72, 0.0]], dtype=torch.float64))
    # a moustache falls from r = 0.82 to 1.07 and rises again: what only the far branch sees is refused as well
    moustache = brown([-0.6, 0.0, 0.0, 0.0, 0.1])
    with pytest.raises(ValueError, match="lens: nothing is seen at"):
        moustache.undistort(torch.tensor([[1.2, 0.0]], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"lens: nothing is seen at \(1.6, 0\)"):
        fisheye([0.0] * 4).undistort(torch.tensor([[1.6, 0.0]], dtype=torch.float64))
    with pytest.raises(ValueError, match="coefficients: expected"):
        brown([0.1, 0.2])
    with pytest.raises(ValueError, match="coefficients: expected"):
        fisheye([0.1])


def view() -> PinholeCamera:
    camera = PinholeCamera.look_at(
        torch.tensor([0.4, 0.3, 2.0], dtype=torch.float64), fov_y=1.0, width=40, height=30, dtype=torch.float64
    )
    shift = torch.tensor([0.0, 0.0, 1.3, -0.8], dtype=torch.float64)
    return PinholeCamera(
        world_to_camera=camera.world_to_camera, intrinsics=camera.intrinsics + shift, width=40, height=30
    )


@pytest.mark.parametrize("lens", [brown(), fisheye()])
def test_rays_and_projection_are_inverse(lens: Lens) -> None:
    camera = view()
    origins, directions = rays_through(camera, lens)
    depth = 1 + torch.rand(30, 40, 1, dtype=torch.float64)
    seen = project_through((origins + depth * directions).reshape(-1, 3), camera, lens).reshape(30, 40, 3)
    rows, columns = torch.meshgrid(torch.arange(30), torch.arange(40), indexing="ij")
    torch.testing.assert_close(seen[..., :2], torch.stack([columns, rows], dim=-1) + 0.5, check_dtype=False)


@pytest.mark.parametrize("lens", [brown(), fisheye()])
def test_picture_through_a_lens(lens: Lens) -> None:
    # of a field that is linear on the plane z = 1 bilinear sampling is exact: the field at the undistorted points
    camera = view()
    pinhole = pinhole_covering(camera, lens)
    slope = torch.tensor([[0.3, -0.2], [0.1, 0.4]], dtype=torch.float64)
    picture = pinhole.directions()[..., :2] @ slope
    expected = lens.undistort(camera.directions()[..., :2]) @ slope
    torch.testing.assert_close(picture_through(picture, pinhole, camera, lens), expected, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="picture: expected shape"):
        picture_through(picture[1:], pinhole, camera, lens)


def test_distortion_is_found_from_a_picture() -> None:
    # of smooth stripes: k1 and k2 start at 0 and come back
    camera, truth = view(), brown([0.1, -0.05, 0.0, 0.0])
    pinhole = pinhole_covering(camera, brown([0.2, 0.0, 0.0, 0.0]), oversampling=4.0)

    def seen(coefficients: torch.Tensor) -> torch.Tensor:
        picture = (12 * pinhole.directions()[..., :2]).sin()
        lens = BrownConradyLens(coefficients=torch.cat([coefficients, torch.zeros(2).double()]))
        return picture_through(picture, pinhole, camera, lens)

    observed = seen(truth.coefficients[:2])
    found = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([found], max_iter=60, line_search_fn="strong_wolfe", tolerance_change=1e-14)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = (seen(found) - observed).square().mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    torch.testing.assert_close(found.detach(), truth.coefficients[:2], rtol=0, atol=1e-3)
