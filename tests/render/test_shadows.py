"""Soft shadows, and pictures of lit surfels with gradients to material, lights and camera at once."""

import pytest
import torch

from simengine.render import (
    DirectionalLight,
    DisneyMaterial,
    PinholeCamera,
    PointLight,
    Surfels,
    TexturedMesh,
    render_mesh,
    render_surfels,
    shade,
    shadow_of,
)
from simengine.render.surfels import rotation_matrix

SQUARE = torch.tensor([[-1.0, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]], dtype=torch.float64)


def lamp_view(size: int = 64) -> PinholeCamera:
    """From 4 m above the origin downwards."""
    return PinholeCamera.look_at((0.0, 4.0, 0.0), up=(0.0, 0.0, -1.0), width=size, height=size, dtype=torch.float64)


def test_shadow_of_a_square_is_a_square_twice_as_large() -> None:
    # a square of half side 0.4 at height 2, halfway to the floor: its shadow there has the half side 0.8
    vertices = 0.4 * SQUARE + torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64)
    mesh = TexturedMesh(
        vertices=vertices, faces=torch.tensor([[0, 1, 2], [0, 2, 3]]), texture=torch.ones(4, 1).double()
    )
    camera = lamp_view()
    seen = render_mesh(mesh, camera)
    x = torch.linspace(-1.4, 1.4, 57, dtype=torch.float64)
    floor = torch.stack([x, torch.zeros_like(x), 0.1 + torch.zeros_like(x)], dim=-1)
    lit = shadow_of(floor, seen, camera, bias=0.05, softness=0.01)[:, 0]
    pixel = 4 / float(camera.intrinsics[0])  # on the floor [m]
    assert (lit[x.abs() < 0.8 - pixel] < 1e-3).all() and (lit[x.abs() > 0.8 + pixel] > 1 - 1e-3).all()
    # the blocker itself, what is above it, behind the lamp and beyond its picture are lit
    others = torch.tensor([[0.0, 2.0, 0.0], [0, 3, 0], [0, 9, 0], [50, 0, 0]], dtype=torch.float64)
    assert (shadow_of(others, seen, camera, bias=0.05, softness=0.01) > 0.99).all()


def test_gradcheck_of_lit_surfels_in_a_shadow() -> None:
    # discs with a Disney material under two lights, one of them shadowed: material, normals, lights and camera at once
    n = 3
    camera = PinholeCamera.look_at((0.4, 0.3, 3.0), fov_y=0.5, width=6, height=5, dtype=torch.float64)
    rows = torch.randn(5, 6 * 5 * 3, dtype=torch.float64)  # of the picture, as many numbers as suffice
    above = lamp_view(8)
    hidden = render_mesh(
        TexturedMesh(
            vertices=SQUARE * 0.3 + torch.tensor([0.1, 1.0, 0.0], dtype=torch.float64),
            faces=torch.tensor([[0, 1, 2], [0, 2, 3]]),
            texture=torch.ones(4, 1).double(),
        ),
        above,
    ).detach()

    def picture(
        positions: torch.Tensor,
        rotations: torch.Tensor,
        surface: torch.Tensor,
        place: torch.Tensor,
        power: torch.Tensor,
        sun: torch.Tensor,
        turn: torch.Tensor,
        intrinsics: torch.Tensor,
    ) -> torch.Tensor:
        moved = camera.moved(turn, torch.zeros(3, dtype=torch.float64))
        view = PinholeCamera(world_to_camera=moved.world_to_camera, intrinsics=intrinsics, width=6, height=5)
        material = DisneyMaterial(
            base_colour=surface[:, :3].sigmoid(), metallic=surface[:, 3:4].sigmoid(), roughness=surface[:, 4:].sigmoid()
        )
        lights = [PointLight(position=place, intensity=power), DirectionalLight(direction=sun, irradiance=power)]
        shadow = shadow_of(positions, hidden, above, bias=0.05, softness=0.4)
        normals = rotation_matrix(rotations)[:, :, 2]
        colours = shade(
            positions, normals, view.position, material, lights, visibility=[shadow, torch.ones_like(shadow)]
        )
        opacities = positions.new_full((n,), 0.8)
        discs = Surfels(
            positions=positions,
            rotations=rotations,
            scales=positions.new_full((n, 2), 0.3),
            opacities=opacities,
            colours=colours,
        )
        return rows @ render_surfels(discs, view, normals=False).rgb.flatten()

    inputs = [
        0.4 * torch.rand(n, 3, dtype=torch.float64) - 0.2,
        torch.tensor([[1.0, 0, 0, 0]]).double() + 0.2 * torch.randn(n, 4, dtype=torch.float64),
        torch.randn(n, 5, dtype=torch.float64),
        torch.tensor([0.3, 2.0, 2.5], dtype=torch.float64),
        torch.tensor([9.0, 8, 7], dtype=torch.float64),
        torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64),
        torch.full((3,), 0.01, dtype=torch.float64),
        camera.intrinsics.clone(),
    ]
    assert torch.autograd.gradcheck(
        picture, [value.requires_grad_() for value in inputs], eps=1e-6, atol=1e-6, rtol=1e-5
    )


def test_bad_input() -> None:
    camera = lamp_view(8)
    square = TexturedMesh(vertices=SQUARE, faces=torch.tensor([[0, 1, 2]]), texture=torch.ones(4, 1).double())
    seen = render_mesh(square, camera)
    with pytest.raises(ValueError, match="expected one camera and its picture of 9 x 9"):
        shadow_of(SQUARE, seen, lamp_view(9), bias=0.1, softness=0.1)
    with pytest.raises(ValueError, match="bias, softness"):
        shadow_of(SQUARE, seen, camera, bias=0.1, softness=0.0)
