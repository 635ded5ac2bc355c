"""What a network is trained on so that it holds beyond one object, one coat and one tone curve."""

import dataclasses

import torch

from simengine.dtn.bodies.various import coat, various
from simengine.dtn.sampler import ViewSampler
from simengine.dtn.views import ViewSet, keep_views, render_views
from simengine.ops.light.ray_scene import RaySurface
from simengine.render.tone import ToneCurve

FIRST = 200_000  # index of the first of these views in its sampler


def coated(surface: RaySurface, roughness: float, reflectance: float) -> RaySurface:
    """An object whose paint has another coat."""
    changed = {"roughness": roughness, "reflectance": reflectance}
    values = {
        name: torch.where(surface.painted, torch.tensor(value), getattr(surface, name))
        for name, value in changed.items()
    }
    return dataclasses.replace(surface, **values)


def random_curve() -> ToneCurve:
    """A tone curve and an exposure that nobody tells the network, from torch's global generator.

    Two of five times the usual one, so that it stays the best known.
    """
    kind, light = torch.rand(2).tolist()
    if kind < 0.4:
        return ToneCurve()
    if kind < 0.6:
        return ToneCurve(exposure=2.0 ** (2 * light - 1))
    if kind < 0.8:
        return ToneCurve(exposure=2.0 ** (1.6 * light - 0.8), shoulder="aces")
    return ToneCurve(exposure=2.0 ** (1.2 * light - 1), shoulder="none")


def varied_views(
    surface: RaySurface,
    sampler: ViewSampler,
    number: int,
    size: tuple[int, int],
    *,
    sky_rays: int,
    device: torch.device | str = "cpu",
) -> list[ViewSet]:
    """Views of the object in other coats, and of as many other bodies, half of `number` each.

    Args:
        surface: The object.
        sampler: Of views of it.
        number: Of these views.
        size: Height and width of the pictures [pixels].
        sky_rays: Of each sample.
        device: That the rays are cast on, and where the views lie.
    """
    sets = []
    for k in range(number):
        index, u = FIRST + k, torch.rand(2, generator=torch.Generator().manual_seed(FIRST + k)).tolist()
        if k % 2:
            body, draw = coated(surface, *coat(*u)), sampler
        else:
            body = various(index)
            draw = dataclasses.replace(sampler, distance=None, aim=None, reach=None)
        one = render_views(body, draw, [index], size, sky_rays=sky_rays, device=device)
        seen = (one.object >= 0.5).flatten(1).any(1) & (one.paint > 0).flatten(1).any(1)
        if bool(seen.all()):
            sets.append(keep_views(one, seen).to(device))
    return sets


def joined(sets: list[ViewSet]) -> ViewSet:
    """One set of several with the same tone curve."""
    names = sets[0].tensors()
    return ViewSet(**{name: torch.cat([views.tensors()[name] for views in sets]) for name in names}, tone=sets[0].tone)
