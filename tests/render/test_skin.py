"""Bodies as they look: silhouettes of particles against those of the surface they fill, in closed form."""

import math
from collections.abc import Callable

import pytest
import torch

from simengine.render import PinholeCamera, TexturedMesh, render_mesh
from simengine.render.skin import Skin, SkinRenderer, bind_skin
from simengine.render.solid_surfaces import ball_surface, box_surface, revolved_surface

EYES = [(0.0, 0.2, 3.0), (2.0, 1.5, 1.6), (-0.7, 2.6, 1.0)]
SIZE = torch.tensor([0.9, 1.2, 0.7], dtype=torch.float64)
WHITE = torch.ones(1, dtype=torch.float64)


def camera(eye: tuple[float, ...], pixels: int = 96) -> PinholeCamera:
    return PinholeCamera.look_at(torch.tensor(eye, dtype=torch.float64), fov_y=0.6, width=pixels, height=pixels)


def lattice(n: int, size: torch.Tensor = SIZE) -> torch.Tensor:
    """The middles of n^3 equal parts of a box."""
    place = (torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5
    return torch.cartesian_prod(*(place * length for length in size))


def outline(points: torch.Tensor) -> tuple[float, float]:
    """Area and length [pixel] of the convex hull of points of the picture."""
    from scipy.spatial import ConvexHull

    hull = ConvexHull(points.numpy())
    return hull.volume, hull.area


def ellipse(view: PinholeCamera, radius: float) -> tuple[float, float]:
    """Area and about the length of the picture of a sphere about the origin: its cone of rays cut by the picture."""
    centre = view.to_camera(torch.zeros(1, 3, dtype=torch.float64))[0]
    beyond, depth = float(centre @ centre) - radius**2, float(centre[2]) ** 2 - radius**2
    area = math.pi * (float(view.intrinsics[0]) * radius) ** 2 * math.sqrt(beyond / depth**3)
    return area, 2 * math.sqrt(math.pi * area)


def alpha(skin: Skin, view: PinholeCamera, x: torch.Tensor) -> torch.Tensor:
    return SkinRenderer(view, skin).image(x, WHITE).alpha


@pytest.mark.parametrize("n", [4, 8, 16])
@pytest.mark.parametrize("eye", EYES)
def test_silhouette_of_a_box(n: int, eye: tuple[float, ...]) -> None:
    # discs of 0.9 spacings are off by 3.7, 2.1 and 1.1 pixels all around
    x, view = lattice(n), camera(eye)
    skin = bind_skin(*box_surface(SIZE, edge=0.6 / n), x)
    corners = torch.cartesian_prod(*(length / 2 * torch.tensor([-1.0, 1.0], dtype=torch.float64) for length in SIZE))
    area, length = outline(view.project(corners)[:, :2])
    error = float(alpha(skin, view, x).sum()) - area
    assert abs(error) < 0.5 and abs(error) / length < 0.002  # measured 0.46 and 0.0019 pixel: corners of the outline
    # turned, stretched and sheared it is that of the box with the same map
    A = torch.tensor([[0.7, 0.2, 0.0], [-0.2, 0.6, 0.1], [0.1, 0.0, 0.8]], dtype=torch.float64)
    area, length = outline(view.project(corners @ A.T)[:, :2])
    assert abs(float(alpha(skin, view, x @ A.T).sum()) - area) / length < 0.004


@pytest.mark.parametrize("n", [6, 12, 24])
@pytest.mark.parametrize("eye", EYES)
def test_silhouette_of_a_ball(n: int, eye: tuple[float, ...]) -> None:
    # the particles' own outline is a staircase that no two resolutions share: the surface is the ball's
    x, view = lattice(n, 1.2 * torch.ones(3, dtype=torch.float64)), camera(eye)
    x = x[x.norm(dim=1) < 0.6]
    skin = bind_skin(*ball_surface(0.6, edge=0.1), x)
    area, length = ellipse(view, 0.6)
    assert abs(float(alpha(skin, view, x).sum()) - area) / length < 0.01


def twist(x: torch.Tensor) -> torch.Tensor:
    """Turned about y by 0.8 rad/m, bent along x."""
    a = 0.8 * x[:, 1]
    bent = x[:, 0] * a.cos() - x[:, 2] * a.sin() + 0.3 * x[:, 1] ** 2
    return torch.stack([bent, x[:, 1], x[:, 0] * a.sin() + x[:, 2] * a.cos()], dim=-1)


@pytest.mark.parametrize(("n", "bound"), [(4, 0.1), (8, 0.015), (16, 0.005)])  # measured 0.085, 0.009, 0.003
def test_silhouette_of_a_bent_box(n: int, bound: float) -> None:
    x = lattice(n)
    skin = bind_skin(*box_surface(SIZE, edge=0.6 / n), x)
    vertices, faces = box_surface(SIZE, edge=0.02)
    exact = TexturedMesh(vertices=twist(vertices), faces=faces, texture=WHITE.expand(len(vertices), 1))
    for eye in EYES:
        view = camera(eye)
        picture = render_mesh(exact, view).alpha[..., 0]
        length = float((picture.diff(dim=0)[:, :-1].square() + picture.diff(dim=1)[:-1].square()).sqrt().sum())
        assert abs(float((alpha(skin, view, twist(x))[..., 0] - picture).sum())) / length < bound


@pytest.mark.parametrize("shape", ["box", "ball"])
def test_gradient_of_the_picture(shape: str) -> None:
    # in particles, colours, pose and intrinsics, against differences, where the body is no longer flat: one that is
    # has outlines of collinear edges, which kink; and of the area, 2 A/s of a body s times as large
    size = 1.2 * torch.ones(3, dtype=torch.float64)
    x = lattice(6, size)
    x = x if shape == "box" else x[x.norm(dim=1) < 0.6]
    skin = bind_skin(*(box_surface(size, edge=0.2) if shape == "box" else ball_surface(0.6, edge=0.15)), x)
    view, weight = camera(EYES[1], 24), torch.rand(24, 24, 3, dtype=torch.float64)
    directions = [
        torch.randn_like(x),
        torch.randn_like(x),
        *torch.randn(2, 3, dtype=torch.float64),
        torch.randn(4, dtype=torch.float64),
    ]

    def loss(step: torch.Tensor) -> torch.Tensor:
        turn, shift = (step * 0.05 * value for value in directions[2:4])
        moved = view.moved(turn, shift)
        seen = PinholeCamera(
            world_to_camera=moved.world_to_camera,
            intrinsics=view.intrinsics + step * directions[4],
            width=24,
            height=24,
        )
        colours = 0.5 + 0.2 * x + 0.05 * step * directions[1]
        return (weight * SkinRenderer(seen, skin)(x + 0.02 * step * directions[0], colours=colours)).sum()

    step = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(step), step)
    h = 1e-6
    difference = (loss(step.detach() + h) - loss(step.detach() - h)) / (2 * h)
    assert float(slope) == pytest.approx(float(difference), rel=1e-5)

    far = camera((0.0, 0.0, 300.0), 96)
    far = PinholeCamera(
        world_to_camera=far.world_to_camera,
        intrinsics=far.intrinsics * torch.tensor([100.0, 100, 1, 1]),
        width=96,
        height=96,
    )
    s = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    area = alpha(skin, far, s * x).sum()
    (growth,) = torch.autograd.grad(area, s)
    assert float(growth) == pytest.approx(2 * float(area.detach()), rel=0.03)


def test_surfaces_of_solids_are_closed_and_their_size() -> None:
    shapes: list[tuple[tuple[torch.Tensor, torch.Tensor], float, float]] = [
        (box_surface(SIZE, edge=0.1), float(SIZE.prod()), 1e-12),
        (ball_surface(0.5, edge=0.05), 4 / 3 * math.pi * 0.125, 2e-3),
        (revolved_surface([(0, -0.4), (0.3, -0.4), (0.3, 0.4), (0, 0.4)], edge=0.03), math.pi * 0.09 * 0.8, 2e-3),
        (
            revolved_surface(
                [(0.5 + 0.1 * math.cos(a), 0.1 * math.sin(a)) for a in (2 * math.pi * k / 60 for k in range(60))],
                edge=0.02,
                ring=True,
            ),
            2 * math.pi**2 * 0.5 * 0.01,
            5e-3,
        ),
    ]
    for (vertices, faces), volume, tolerance in shapes:
        assert float(torch.linalg.det(vertices[faces]).sum() / 6) == pytest.approx(volume, rel=tolerance)
        sides = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        there, back = ({tuple(side) for side in pairs.tolist()} for pairs in (sides, sides.flip(1)))
        assert there == back and len(there) == len(sides)  # each edge once each way: closed and oriented
    with pytest.raises(ValueError, match="profile: expected to begin and end on the axis"):
        revolved_surface([(0.1, 0), (0.2, 0), (0.2, 1)], edge=0.1)


BAD: list[tuple[Callable[[torch.Tensor], torch.Tensor], str]] = [
    (lambda x: x[:, :2], "positions: expected shape"),
    (lambda x: x[:3], "positions: a skin needs at least 4 particles, got 3"),
    (lambda x: x * x.new_tensor([1.0, 0.0, 1.0]), "positions: the particles around vertex .* lie in a plane"),
    (lambda x: x * math.nan, "positions: not finite at row 0"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD)
def test_bad_particles(spoil: Callable[[torch.Tensor], torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bind_skin(*box_surface(SIZE, edge=0.5), spoil(lattice(4)))
