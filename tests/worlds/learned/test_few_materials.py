"""Maps of few materials under smooth bumps, and their fit to a flash picture."""

import pytest
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
    found, surprises, counts = refined(estimate, flash_picture(true), steps=120)
    assert float(surprises) < 1.5 and int(counts) == 2
    error = {name: (value - getattr(true, name)).abs().mean() for name, value in found.as_dict().items()}
    before = {name: (value - getattr(true, name)).abs().mean() for name, value in estimate.as_dict().items()}
    assert all(error[name] < 0.5 * before[name] for name in error), (error, before)


def several(n: int) -> tuple[MaterialMaps, MaterialMaps]:
    """Samples of one, two, three and four materials in cells about random places, and estimates that blur them."""
    generator = torch.Generator().manual_seed(3)
    place = torch.stack(torch.meshgrid(*2 * [torch.arange(n) / n], indexing="ij"), -1).reshape(-1, 2)
    colours = torch.tensor([[0.75, 0.6, 0.35], [0.5, 0.15, 0.12], [0.12, 0.25, 0.55], [0.55, 0.55, 0.5]])
    metallic, roughness = torch.tensor([1.0, 0.0, 0.0, 1.0]), torch.tensor([0.6, 0.35, 0.8, 0.4])
    seeds = torch.tensor([[0.25, 0.3], [0.75, 0.3], [0.3, 0.8], [0.8, 0.75]])
    label = torch.stack([torch.cdist(place, seeds[:k]).argmin(1).reshape(n, n) for k in (1, 2, 3, 4)])
    height = smooth_map(0.02 * (2 * torch.rand(4, BUMPS + 3, BUMPS + 3, generator=generator) - 1), n)
    true = MaterialMaps(
        normal=normals_of_height(height),
        base_colour=colours[label],
        metallic=metallic[label][..., None],
        roughness=roughness[label][..., None],
    )
    noise = 0.05 * torch.randn(4, n, n, 1, generator=generator)
    estimate = MaterialMaps(
        normal=torch.tensor([0.0, 0.0, 1.0]).expand(4, n, n, 3),
        base_colour=(0.6 * true.base_colour + 0.15 + noise).clamp(0.02, 0.98),
        metallic=(0.5 * true.metallic + 0.2 + noise).clamp(0, 1),
        roughness=(0.5 + 0.3 * (true.roughness - 0.5) + noise).clamp(0.1, 1),
    )
    return true, estimate


@pytest.mark.slow
def test_as_many_materials_as_there_are() -> None:
    """Recovery: nobody says how many; and their roughness is nearer than the estimate has it."""
    true, estimate = several(20)
    found, surprises, counts = refined(estimate, flash_picture(true), steps=80)
    error, before = ((maps.roughness - true.roughness).square().mean((1, 2, 3)).sqrt() for maps in (found, estimate))
    assert counts.tolist() == [1, 2, 3, 4]
    assert bool((error < 0.5 * before).all()) and bool((surprises < 1.5).all())  # measured .15 to .31; .14 to .90
