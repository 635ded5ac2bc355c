"""Verification of textured meshes: closed forms, coverage against many samples, gradients against differences."""

import math

import pytest
import torch

from simengine.render import DirectionalLight, PinholeCamera, PointLight, TexturedMesh, orbit, render_mesh
from simengine.render.bodies import sphere_mesh

SQUARE = torch.tensor([[-1.0, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]], dtype=torch.float64)  # upper left first
HALVES = torch.tensor([[0, 2, 1], [0, 3, 2]])
SQUARE_UV = torch.tensor([[[0.0, 0], [1, 1], [1, 0]], [[0, 0], [0, 1], [1, 1]]], dtype=torch.float64)


def ball(dtype: torch.dtype = torch.float64, subdivisions: int = 2) -> TexturedMesh:
    vertices, faces = sphere_mesh(subdivisions, dtype=dtype)
    return TexturedMesh(vertices=vertices, faces=faces, texture=0.5 + 0.4 * vertices)


def test_textured_square_seen_straight_on() -> None:
    # a texel a pixel: the picture is the texture; half a pixel of margin on each side is half covered
    texture = torch.rand(8, 8, 3, dtype=torch.float64)
    mesh = TexturedMesh(vertices=SQUARE, faces=HALVES, texture=texture, corner_uv=SQUARE_UV)
    fov = 2 * math.atan(1 / 4)  # the square fills the picture
    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=8, height=8, fov_y=fov, dtype=torch.float64)
    torch.testing.assert_close(render_mesh(mesh, camera).rgb, texture, rtol=0, atol=1e-12)
    wide = PinholeCamera(
        world_to_camera=camera.world_to_camera,
        intrinsics=camera.intrinsics.new_tensor([16, 16, 8, 8]),
        width=16,
        height=16,
    )
    # a square of 8.8 pixels: the border passes 0.4 inside a pixel
    image = render_mesh(TexturedMesh(vertices=1.1 * SQUARE, faces=HALVES, texture=torch.ones(4, 3).double()), wide)
    expected = torch.tensor([0] * 3 + [0.4] + [1] * 8 + [0.4] + [0] * 3, dtype=torch.float64)
    torch.testing.assert_close(image.alpha[8, :, 0], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(image.rgb[:, 8, 0], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(image.depth[8, 8], torch.tensor([4.0]).double(), rtol=1e-12, atol=0)
    torch.testing.assert_close(image.normal[8, 8], torch.tensor([0.0, 0, -1]).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("subdivisions", [2, 5])  # triangles of 20 pixels, and smaller than a pixel
def test_coverage(subdivisions: int) -> None:
    # alpha beside the mean of 16 x 16 samples of hard pixels, which leave 0.02. Blending is exact for straight
    # outlines, corners of the larger triangles leave more (measured 0.063 and 0.014, RMSE 2.1e-3 and 1.3e-3; without
    # blending 0.5 and 6e-2)
    mesh = ball(torch.float32, subdivisions)
    camera = PinholeCamera.look_at((0.3, 0.8, 4.0), width=48, height=48)
    many = camera.resized(48 * 16, 48 * 16)
    hard = (render_mesh(mesh, many).depth > 0).float().reshape(48, 16, 48, 16).mean((1, 3))
    error = render_mesh(mesh, camera).alpha[..., 0] - hard
    assert float(error.abs().max()) < 0.08 and float(error.square().mean().sqrt()) < 3e-3
    finer = render_mesh(mesh, camera, samples=4).alpha[..., 0] - hard
    assert float(finer.abs().max()) < 0.02


def test_gradcheck_of_everything() -> None:
    vertices, faces = sphere_mesh(0, dtype=torch.float64)
    uv = torch.rand(len(faces), 3, 2, dtype=torch.float64)
    camera = PinholeCamera.look_at((0.4, 0.7, 4.0), width=9, height=8, dtype=torch.float64)
    lamp = torch.tensor([2.0, 3, 4], dtype=torch.float64)
    rows = torch.randn(6, 9 * 8 * 8, dtype=torch.float64)  # of the picture, as many numbers as suffice

    def picture(
        points: torch.Tensor,
        texture: torch.Tensor,
        turn: torch.Tensor,
        shift: torch.Tensor,
        intrinsics: torch.Tensor,
        place: torch.Tensor,
        power: torch.Tensor,
        surface: torch.Tensor,
        background: torch.Tensor,
    ) -> torch.Tensor:
        mesh = TexturedMesh(vertices=points, faces=faces, texture=texture, corner_uv=uv)
        moved = camera.moved(turn, shift)
        view = PinholeCamera(world_to_camera=moved.world_to_camera, intrinsics=intrinsics, width=9, height=8)
        lights = [PointLight(position=place, intensity=power), DirectionalLight(direction=place, irradiance=power)]
        image = render_mesh(
            mesh, view, lights=lights, metallic=surface[0], roughness=surface[1], ambient=0.1, background=background
        )
        values = torch.cat([image.rgb, image.alpha, image.depth, image.normal], dim=-1).flatten()
        return rows @ values

    inputs = [
        vertices,
        torch.rand(2, 3, 3, dtype=torch.float64),
        torch.full((3,), 0.01, dtype=torch.float64),
        torch.full((3,), 0.02, dtype=torch.float64),
        camera.intrinsics.clone(),
        lamp,
        torch.tensor([20.0, 30, 40], dtype=torch.float64),
        torch.tensor([0.3, 0.6], dtype=torch.float64),
        torch.rand(3, dtype=torch.float64),
    ]
    assert torch.autograd.gradcheck(
        picture, [value.requires_grad_() for value in inputs], eps=1e-7, atol=1e-6, rtol=1e-5
    )


def test_silhouette_finds_a_centre() -> None:
    # from its outline alone, a fifth of the radius off in all three directions
    mesh = ball(torch.float64, 3)
    cameras = orbit(2, radius=4.0, elevation=0.4, width=48, height=48, dtype=torch.float64)
    truth = torch.tensor([0.02, -0.01, 0.03], dtype=torch.float64)

    def silhouette(centre: torch.Tensor) -> torch.Tensor:
        return render_mesh(mesh.with_vertices(mesh.vertices + centre), cameras).alpha

    observed = silhouette(truth)
    centre = (truth + torch.tensor([0.2, -0.2, 0.2]) / math.sqrt(3)).requires_grad_()
    search = torch.optim.LBFGS([centre], max_iter=12, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = (silhouette(centre) - observed).square().sum()
        value.backward()
        return value

    search.step(loss)
    assert float((centre.detach() - truth).norm()) < 0.01


def test_outline_moves_the_picture() -> None:
    # a square shifted by d covers d more pixels on one side: the slope of the whole covered area is exact
    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=32, height=32, dtype=torch.float64)
    size = torch.tensor(0.83, dtype=torch.float64, requires_grad=True)
    mesh = TexturedMesh(vertices=size * SQUARE, faces=HALVES, texture=torch.ones(4, 1, dtype=torch.float64))
    area = render_mesh(mesh, camera).alpha.sum()
    pixels = float(camera.intrinsics[0]) / 4  # per metre
    # a corner takes the sum of the shares that its two sides cut off, not less their product: below 0.25 pixels each
    assert float(area.detach()) == pytest.approx((2 * 0.83 * pixels) ** 2, abs=1.0)
    (slope,) = torch.autograd.grad(area, size)
    assert float(slope) == pytest.approx(8 * 0.83 * pixels**2, rel=0.05)


def test_moved_mesh_is_a_new_one_with_the_same_edges() -> None:
    mesh = ball(torch.float32)
    elsewhere = mesh.with_vertices(mesh.vertices + 0.1)
    fresh = TexturedMesh(vertices=mesh.vertices + 0.1, faces=mesh.faces, texture=mesh.texture)
    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=20, height=20)
    assert torch.equal(render_mesh(elsewhere, camera).rgb, render_mesh(fresh, camera).rgb)
    assert not torch.equal(elsewhere.vertices, mesh.vertices) and elsewhere.edges is mesh.edges
    with pytest.raises(ValueError, match=r"faces: expected indices in \[0, 3\)"):
        mesh.with_vertices(mesh.vertices[:3])


def test_batch_of_cameras_is_each_of_them() -> None:
    mesh, cameras = ball(torch.float32), orbit(3, radius=4.0, width=16, height=12)
    together = render_mesh(mesh, cameras, background=0.5)
    for k in range(3):
        alone = render_mesh(mesh, cameras[k], background=0.5)
        assert torch.equal(together.rgb[k], alone.rgb) and torch.equal(together.depth[k], alone.depth)


def test_camera_inside_and_beside_and_nothing_there() -> None:
    mesh = ball(torch.float32)
    inside = render_mesh(mesh, PinholeCamera.look_at((0.0, 0.0, 0.2), width=8, height=8))
    assert (inside.alpha == 1).all() and (inside.depth > 0.5).all() and (inside.normal[..., 2] < 0).all()
    beside = render_mesh(
        mesh, PinholeCamera.look_at((0.0, 0.0, 4.0), (0.0, 0.0, 9.0), width=8, height=8), background=0.3
    )
    assert not beside.alpha.any() and torch.equal(beside.rgb, torch.full((8, 8, 3), 0.3))
    empty = TexturedMesh(vertices=torch.zeros(0, 3), faces=torch.zeros(0, 3).long(), texture=torch.zeros(0, 3))
    assert not render_mesh(empty, PinholeCamera.look_at((0.0, 0.0, 4.0), width=8, height=8)).alpha.any()


def test_bad_input() -> None:
    mesh = ball(torch.float32, 0)
    with pytest.raises(ValueError, match=r"faces: expected indices in \[0, 12\)"):
        TexturedMesh(vertices=mesh.vertices, faces=mesh.faces + 1, texture=mesh.texture)
    with pytest.raises(ValueError, match=r"texture: expected shape \(12, c\)"):
        TexturedMesh(vertices=mesh.vertices, faces=mesh.faces, texture=torch.ones(4, 4, 3))
    with pytest.raises(ValueError, match="corner_uv: expected shape"):
        TexturedMesh(vertices=mesh.vertices, faces=mesh.faces, texture=torch.ones(4, 4, 3), corner_uv=torch.ones(3, 2))
    with pytest.raises(ValueError, match="vertices: not finite at vertex 3"):
        broken = mesh.vertices.clone()
        broken[3] = torch.inf
        TexturedMesh(vertices=broken, faces=mesh.faces, texture=mesh.texture)
    with pytest.raises(ValueError, match="samples: expected at least 1"):
        render_mesh(mesh, orbit(1, radius=4.0)[0], samples=0)
    with pytest.raises(ValueError, match="batch is empty"):
        camera = PinholeCamera(world_to_camera=torch.zeros(0, 4, 4), intrinsics=torch.zeros(0, 4), width=4, height=4)
        render_mesh(mesh, camera)
