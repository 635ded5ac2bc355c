"""Parts of the rasteriser in closed form: how much of a pixel a line cuts off, and what a texture is between texels."""

import pytest
import torch

from simengine.render.looks.metal_rough import sample_texture
from simengine.render.meshes import half_plane_share


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0, 2.5])
def test_the_share_of_a_pixel_beside_a_line(slope: float) -> None:
    """Against 1000 x 1000 points of the pixel that lie where distance + slope y - x > 0."""
    line = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000 - 0.5
    x, y = torch.meshgrid(line, line, indexing="ij")
    distance = torch.linspace(-2.0, 2.0, 41, dtype=torch.float64)
    counted = torch.stack([((d + slope * y - x) > 0).double().mean() for d in distance])
    share = half_plane_share(distance, torch.full_like(distance, slope))
    torch.testing.assert_close(share, counted, rtol=0, atol=2e-3)  # of a thousand rows one is in doubt
    assert float(share[20]) == pytest.approx(0.5)


def test_a_texture_is_itself_at_texels_even_between_them_and_periodic() -> None:
    texture = torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    j, i = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
    uv = torch.stack([(i + 0.5) / 4, (j + 0.5) / 3], -1).reshape(-1, 2).double()
    torch.testing.assert_close(sample_texture(texture, uv), texture.reshape(-1, 2))
    torch.testing.assert_close(sample_texture(texture, uv + torch.tensor([1.0, -2.0])), texture.reshape(-1, 2))
    at = torch.tensor([[1.25 / 4, 1.5 / 3], [1.5 / 4, 1.9 / 3], [0.0, 0.5 / 3]], dtype=torch.float64)
    expected = [
        0.25 * texture[1, 0] + 0.75 * texture[1, 1],
        0.6 * texture[1, 1] + 0.4 * texture[2, 1],
        0.5 * texture[0, 3] + 0.5 * texture[0, 0],
    ]
    torch.testing.assert_close(sample_texture(texture, at), torch.stack(expected))
