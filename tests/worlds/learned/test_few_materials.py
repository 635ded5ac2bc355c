"""Maps of few materials under smooth bumps, and their fit to a flash picture."""

import torch

from simengine.render.material_maps import MaterialMaps
from simengine.worlds.learned.svbrdf.few_materials import _bumps, _inverse_slopes, maps_of, refined, surprise
from simengine.worlds.learned.svbrdf.network import BUMPS, flash_picture, normals_of_height, smooth_map


def sample(n: int) -> dict[str, torch.Tensor]:
    """A rough metal beside a glossy red dielectric, on whose side the highlight is, under bumps."""
    torch.manual_seed(1)
    left = (torch.arange(n) < n // 2).float().expand(1, n, n)
    return {
        "patch": 20 * torch.stack([left, 1 - left], dim=-1) - 10,
        "colour": torch.tensor([[[0.8, 0.7, 0.4], [0.6, 0.2, 0.15]]]).logit(),
        "metallic": torch.tensor([[[6.0], [-6.0]]]),
        "roughness": torch.tensor([[[0.6], [0.3]]]).logit(),
        "relief": torch.zeros(1, 2),
        "bumps": 0.03 * (2 * torch.rand(1, BUMPS + 3, BUMPS + 3) - 1),
        "mottle": torch.zeros(1, n, n),
    }


def test_smooth_maps_are_bicubic() -> None:
    coarse = torch.rand(2, 7, 7)
    expected = torch.nn.functional.interpolate(coarse[:, None], size=(20, 20), mode="bicubic", align_corners=True)
    torch.testing.assert_close(smooth_map(coarse, 20), expected[:, 0])


def test_bumps_from_normals() -> None:
    height = smooth_map(sample(32)["bumps"], 32)
    normals = normals_of_height(height)
    found = smooth_map(_bumps(normals), 32)
    torch.testing.assert_close(normals_of_height(found), normals, atol=1e-4, rtol=0)
    torch.testing.assert_close(found - found.mean(), height - height.mean(), atol=1e-4, rtol=0)
    assert _inverse_slopes(32).shape == ((BUMPS + 3) ** 2, 2 * 32**2)


def test_maps_of_numbers() -> None:
    maps = maps_of(sample(16))
    torch.testing.assert_close(maps.base_colour[0, :, 0], torch.tensor([0.8, 0.7, 0.4]).expand(16, 3))
    assert float(maps.metallic[0, :, :8].min()) > 0.99 and float(maps.metallic[0, :, 8:].max()) < 0.01
    torch.testing.assert_close(maps.normal.norm(dim=-1), torch.ones(1, 16, 16))


def test_truth_surprises_least() -> None:
    true = sample(16)
    picture = flash_picture(maps_of(true))
    told = {"base_colour": true["colour"].sigmoid(), "metallic": true["metallic"].sigmoid()}
    told["roughness"] = 0.1 + 0.9 * true["roughness"].sigmoid()
    least = surprise(true, picture, told)
    others = {
        "colour": true["colour"] + 1,
        "metallic": 0.1 * true["metallic"],  # 0.65 and 0.35
        "roughness": true["roughness"] + 1,
        "bumps": -true["bumps"],
        "patch": -true["patch"],
    }
    for name, other in others.items():
        assert float(surprise({**true, name: other}, picture, told)) > float(least) + 0.05, name


def test_a_wrong_estimate_is_set_right() -> None:
    # the estimate takes the metal for half a metal, both for equally rough, and sees no bumps
    n = 16
    true = maps_of(sample(n))
    estimate = MaterialMaps(
        normal=torch.tensor([0.0, 0.0, 1.0]).expand(1, n, n, 3),
        base_colour=0.5 * true.base_colour + 0.2,
        metallic=0.4 * true.metallic,
        roughness=torch.full((1, n, n, 1), 0.5),
    )
    found, surprises = refined(estimate, flash_picture(true), steps=120)
    assert float(surprises) < 1.5
    error = {name: (value - getattr(true, name)).abs().mean() for name, value in found.as_dict().items()}
    before = {name: (value - getattr(true, name)).abs().mean() for name, value in estimate.as_dict().items()}
    assert all(error[name] < 0.5 * before[name] for name in error), (error, before)
