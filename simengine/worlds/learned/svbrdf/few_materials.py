"""The maps of samples that consist of few materials under smooth bumps, found from one flash picture each.

What a network tells of each texel by itself is made consistent: one colour, one metallic and one roughness for each
material, patches of them with sharp borders, bumps wider than texels, and little else; then the picture that the
renderer makes of it is compared with the one that was taken. Whether a material is a metal is not a question of degree,
so every answer is tried, and the most likely one kept.
"""

import functools
import itertools
import math
from collections.abc import Mapping

import torch
from torch import nn

from simengine.render.material_maps import MaterialMaps
from simengine.worlds.learned.svbrdf.network import (
    BUMPS,
    FLOOR,
    LEAST_ROUGHNESS,
    flash_picture,
    normals_of_height,
    smooth_map,
)

MOST_MATERIALS = 4
NUMBERS = 6.0  # of a material: colour, metallic, roughness, relief
NOISE = 0.03  # of logarithms of radiance: what the model leaves out
MOTTLE = 0.025  # deviation of the logarithm of the colour within a material
HEIGHT = 0.05  # of the bumps [m]
RELIEF = 0.02  # of a patch [m]
TRUST = 0.2  # deviation of the colours and roughnesses that an estimate tells
WEIGHT = 0.1  # of what it tells of a material, against what a texel tells
STEPS = 150
BORDER = 2.0  # of a texel's side between two materials
DOUBT = 4.0  # nats a texel; a fit that has come near the truth leaves about 2
GLOSSY = (0.2, 0.3)  # where the roughness of dielectrics starts anew, as a share of its range
RATES = {"patch": 0.15, "bumps": 1e-3, "relief": 1e-3, "mottle": 5e-3}  # of Adam
RATES |= dict.fromkeys(("colour", "metallic", "roughness"), 0.05)

Numbers = Mapping[str, torch.Tensor]


def maps_of(numbers: Numbers) -> MaterialMaps:
    """Maps (b, n, n, ...) of the numbers that describe samples.

    Args:
        numbers: `patch` (b, n, n, k) logits of which material it is; `colour` (b, k, 3), `metallic` and `roughness`
            (b, k, 1) logits of each material; `relief` (b, k) its height [m]; `bumps` (b, c, c) a smooth height [m] by
            its coarse numbers; `mottle` (b, n, n), a logarithm.
    """
    share = numbers["patch"].softmax(-1)
    n = share.shape[1]

    def mixed(values: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bijk,bkc->bijc", share, values)

    height = smooth_map(numbers["bumps"], n) + mixed(numbers["relief"][..., None])[..., 0]
    return MaterialMaps(
        normal=normals_of_height(height),
        base_colour=(mixed(numbers["colour"].sigmoid()) * numbers["mottle"].exp()[..., None]).clamp(0.02, 0.98),
        metallic=mixed(numbers["metallic"].sigmoid()),
        roughness=_roughness(mixed(numbers["roughness"].sigmoid())),
    )


def _roughness(share: torch.Tensor) -> torch.Tensor:
    return LEAST_ROUGHNESS + (1 - LEAST_ROUGHNESS) * share


def surprise(numbers: Numbers, pictures: torch.Tensor, told: Numbers) -> torch.Tensor:
    """How little likely samples are, given their pictures (b, n, n, 3): minus the logarithm for a texel, shape (b,).

    Args:
        numbers: As of `maps_of`.
        pictures: Linear RGB, shape (b, n, n, 3).
        told: What the estimate tells of each material: `base_colour` (b, k, 3), `metallic`, `roughness` (b, k, 1).
    """
    rendered = flash_picture(maps_of(numbers))
    error = ((rendered + FLOOR) / (pictures + FLOOR)).log() / NOISE
    fit = 4 * ((1 + error.square() / 4).sqrt() - 1).sum(-1).mean((1, 2))  # few large errors, at borders, count less
    share = numbers["patch"].softmax(-1)
    borders = BORDER * (share.diff(dim=1).abs().sum(-1).mean((1, 2)) + share.diff(dim=2).abs().sum(-1).mean((1, 2)))
    mixing = 2 * (share * (1 - share)).sum(-1).mean((1, 2))
    texels = share[..., 0].numel() / len(share)
    bumps = (numbers["bumps"] / HEIGHT).square().sum((1, 2)) + (numbers["relief"] / RELIEF).square().sum(1)
    mottle = (numbers["mottle"] / MOTTLE).square().mean((1, 2))
    is_metal = numbers["metallic"][..., 0].sigmoid()
    metal = told["metallic"][..., 0].clamp(0.05, 0.95)
    kind = -(is_metal * metal.log() + (1 - is_metal) * (1 - metal).log()) + 4 * is_metal * (1 - is_metal)
    colour = (numbers["colour"].sigmoid() - told["base_colour"]).square().sum(-1) / (2 * TRUST**2)
    rough = (_roughness(numbers["roughness"].sigmoid()) - told["roughness"])[..., 0].square() / (2 * TRUST**2)
    return fit + borders + mixing + bumps / texels + mottle + WEIGHT * (kind + colour + rough).sum(1)


def refined(
    estimate: MaterialMaps, pictures: torch.Tensor, *, steps: int = STEPS
) -> tuple[MaterialMaps, torch.Tensor, torch.Tensor]:
    """The most likely maps near an estimate, of as many materials as the pictures are worth.

    One material, two, and more are tried for as long as some sample is the better for it by Bayes' criterion (Schwarz
    1978): half a logarithm of the texels for each number that another material brings.

    Args:
        estimate: Maps that a network tells, shape (b, n, n, ...).
        pictures: The flash pictures, linear RGB, shape (b, n, n, 3).
        steps: Of Adam, from each start.

    Returns:
        Maps of the same shape, how surprising the fit is, shape (b,), and how many materials there are, (b,). Where the
        surprise is more than `DOUBT`, it has not come near, and the materials are those of the estimate, under the
        bumps that were found.
    """
    texels = pictures.shape[1] * pictures.shape[2]
    price = NUMBERS / 2 * math.log(texels) / texels
    label = torch.zeros(pictures.shape[:3], dtype=torch.long)
    best, least = estimate, torch.full(pictures.shape[:1], torch.inf)
    surprises, counts = least, torch.zeros(len(pictures), dtype=torch.long)
    for count in range(1, MOST_MATERIALS + 1):
        label = _split(label, count, estimate, pictures)
        maps, own = _refined_of(nn.functional.one_hot(label, count).to(pictures), estimate, pictures, steps)
        better = own + count * price < least
        if count > 2 and not bool(better.any()):
            break
        least = torch.where(better, own + count * price, least)
        surprises, counts = torch.where(better, own, surprises), torch.where(better, count, counts)
        chosen = better[:, None, None, None]
        kept = best.as_dict()
        best = MaterialMaps(**{name: torch.where(chosen, value, kept[name]) for name, value in maps.as_dict().items()})
    return best, surprises, counts


def _refined_of(
    share: torch.Tensor, estimate: MaterialMaps, pictures: torch.Tensor, steps: int
) -> tuple[MaterialMaps, torch.Tensor]:
    """The most likely maps of given patches (b, n, n, k), and how surprising they are, (b,).

    Answers to which materials are metals are followed for half of the steps, and the best of them goes on: every one of
    two materials; of more, what the estimate says and each material taken for the other kind. The best then starts anew
    with glossy dielectrics, whose highlights are so small that nothing leads to them; the better one stays.
    """
    told = {name: _means(share, getattr(estimate, name)) for name in ("base_colour", "metallic", "roughness")}
    bumps = _bumps(estimate.normal)
    count = share.shape[-1]
    if count <= 2:
        answers = [torch.tensor(answer) for answer in itertools.product((0.0, 1.0), repeat=count)]
    else:
        said = (told["metallic"][..., 0] > 0.5).to(pictures)
        answers = [said, *((said - flip).abs() for flip in torch.eye(count))]
    starts = [_started(share, told, bumps, pictures, answer) for answer in answers]
    numbers, _ = _best(starts, pictures, told, steps // 2)
    for gloss in GLOSSY:
        glossy = torch.where(numbers["metallic"] < 0, torch.tensor(gloss).logit(), numbers["roughness"])
        numbers, surprises = _best([numbers, {**numbers, "roughness": glossy}], pictures, told, steps)
    with torch.no_grad():
        maps = maps_of(numbers).as_dict()
    doubtful = (surprises > DOUBT)[:, None, None, None]
    kept = {name: torch.where(doubtful, getattr(estimate, name), maps[name]) for name in told}
    return MaterialMaps(**{**maps, **kept}), surprises


def _best(
    starts: list[dict[str, torch.Tensor]], pictures: torch.Tensor, told: Numbers, steps: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Of each sample what is least surprising at the end of a descent from each start."""
    best, least = starts[0], torch.full(pictures.shape[:1], torch.inf)
    for start in starts:
        with torch.enable_grad():
            found, surprises = _descended(start, pictures, told, steps)
        better = surprises < least
        least = torch.where(better, surprises, least)
        best = {
            name: torch.where(better.view(-1, *[1] * (value.ndim - 1)), value, best[name])
            for name, value in found.items()
        }
    return best, least


def _descended(
    numbers: Numbers, pictures: torch.Tensor, told: Numbers, steps: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    leaves = {name: value.clone().requires_grad_() for name, value in numbers.items()}
    optimiser = torch.optim.Adam([{"params": [leaf], "lr": RATES[name]} for name, leaf in leaves.items()])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        surprise(leaves, pictures, told).sum().backward()
        optimiser.step()
        schedule.step()
    found = {name: leaf.detach() for name, leaf in leaves.items()}
    with torch.no_grad():
        return found, surprise(found, pictures, told)


def _started(
    share: torch.Tensor, told: Numbers, bumps: torch.Tensor, pictures: torch.Tensor, metal: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Numbers to start from. Colours of materials that the estimate took for another kind are the picture's."""
    b, n = pictures.shape[:2]
    k = share.shape[-1]
    hue = (_means(share, (pictures + FLOOR).log())).exp()
    bright = 0.85 * hue / hue.amax(-1, keepdim=True)
    white = MaterialMaps(
        normal=pictures.new_tensor([0.0, 0.0, 1.0]).expand_as(pictures),
        base_colour=torch.ones_like(pictures),
        metallic=torch.zeros_like(pictures[..., :1]),
        roughness=torch.ones_like(pictures[..., :1]),
    )
    matt = _means(share, ((pictures + FLOOR) / (flash_picture(white) + FLOOR)).log()).exp()
    is_metal = metal[..., None] > 0.5
    agreed = (told["metallic"] > 0.5) == is_metal
    colour = torch.where(agreed, told["base_colour"], torch.where(is_metal, bright, matt))
    roughness = (told["roughness"] - LEAST_ROUGHNESS) / (1 - LEAST_ROUGHNESS)
    return {
        "patch": 2.0 * (2 * share - 1),
        "colour": colour.clamp(0.05, 0.95).logit(),
        "metallic": (4 * metal - 2)[..., None].expand(b, k, 1),
        "roughness": roughness.clamp(0.05, 0.95).logit(),
        "relief": pictures.new_zeros(b, k),
        "bumps": bumps,
        "mottle": pictures.new_zeros(b, n, n),
    }


@functools.cache
def _inverse_slopes(n: int) -> torch.Tensor:
    """The coarse numbers of the smooth height that best has given slopes, ((BUMPS + 3)^2, 2 n^2)."""
    count = (BUMPS + 3) ** 2
    heights = smooth_map(torch.eye(count).view(count, BUMPS + 3, BUMPS + 3), n)
    down, across = torch.gradient(heights, spacing=2 / n, dim=(-2, -1))
    return torch.linalg.pinv(torch.stack([-across, down], dim=-1).flatten(1).T, rtol=1e-4)


def _bumps(normals: torch.Tensor) -> torch.Tensor:
    """Coarse numbers (b, c, c) of the smooth height whose normals are nearest to given ones (b, n, n, 3)."""
    slopes = (normals[..., :2] / normals[..., 2:]).flatten(1)
    return (slopes @ _inverse_slopes(normals.shape[1]).to(slopes).T).unflatten(1, (BUMPS + 3, BUMPS + 3))


def _means(share: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Means (b, k, c) of values (b, n, n, c) over each material (b, n, n, k)."""
    return torch.einsum("bijk,bijc->bkc", share, values) / (share.sum((1, 2))[..., None] + 1e-6)


def _split(label: torch.Tensor, count: int, estimate: MaterialMaps, pictures: torch.Tensor) -> torch.Tensor:
    """Which of `count` materials each texel is, (b, n, n): of one fewer, the widest cut across, then k-means."""
    if count == 1:
        return label
    around = nn.functional.avg_pool2d(pictures.permute(0, 3, 1, 2), 3, 1, 1).permute(0, 2, 3, 1)  # few are black then
    hue = (around + 1e-3) / (around + 1e-3).sum(-1, keepdim=True)
    known = torch.cat([3 * hue, 2 * estimate.base_colour, estimate.metallic, 2 * estimate.roughness], dim=-1).flatten(
        1, 2
    )
    label = label.flatten(1)
    share = nn.functional.one_hot(label, count).to(known)
    middles = (share.mT @ known) / share.sum(1)[..., None].clamp_min(1)
    centred = known - middles.gather(1, label[..., None].expand_as(known))
    spread = share.mT @ centred.square().sum(-1, keepdim=True)  # (b, count, 1)
    widest_of = spread[..., 0].argmax(1, keepdim=True)
    own = (label == widest_of)[..., None] * centred
    across = torch.linalg.eigh(own.mT @ own)[1][..., -1:]
    label = torch.where((label == widest_of) & ((own @ across)[..., 0] > 0), count - 1, label)
    for _ in range(12):
        share = nn.functional.one_hot(label, count).to(known)
        middles = (share.mT @ known) / share.sum(1)[..., None].clamp_min(1)
        label = torch.cdist(known, middles).argmin(-1)
    return label.unflatten(1, pictures.shape[1:3])
