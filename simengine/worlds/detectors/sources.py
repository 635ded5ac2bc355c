"""Views of either kind of world: rendered here, or of given pictures by the law of a network."""

import torch

from simengine.dtn.views import ViewSet
from simengine.scene.base import SceneError
from simengine.worlds.detectors.detector import PictureSet, empty_views, unseen_set
from simengine.worlds.detectors.network import scene_views
from simengine.worlds.detectors.renders import RendersWorld
from simengine.worlds.detectors.renders_network import bare_views, law_of_network, views_by_greys
from simengine.worlds.detectors.world import DTNWorld

Device = torch.device | str


def seen_views_of(world: DTNWorld | RendersWorld, *, device: Device = "cpu") -> ViewSet:
    """The views to train on that show the object, on a device."""
    if isinstance(world, RendersWorld):
        return _by_law(world, unseen=False).to(device)
    return scene_views(world, world.sampler, world.train_views, device=device)


def empty_views_of(world: DTNWorld | RendersWorld, share: float, *, device: Device = "cpu") -> ViewSet | None:
    """Views without the object to train on, as a share of those with it; of given pictures, at most so many."""
    if isinstance(world, RendersWorld):
        return _bare(world, share, unseen=False, device=device)
    return empty_views(world, world.sampler, round(share * world.train_views), device=device)


def unseen_views_of(
    world: DTNWorld | RendersWorld, share: float, number: int | None = None, *, device: Device = "cpu"
) -> PictureSet:
    """The unseen views, `number` of them or all that the world has, and as a share of them such without the object."""
    if isinstance(world, RendersWorld):
        views = _by_law(world, unseen=True)
        empty = _bare(world, share, unseen=True, device=device)
        return PictureSet(views[: number or len(views)].to(device), empty)
    return unseen_set(world, share, number, device=device)


def _by_law(world: RendersWorld, *, unseen: bool) -> ViewSet:
    if world.greys:
        return views_by_greys(world, unseen=unseen)
    if world.network is None:
        raise SceneError(
            "network: name the run that trained one on these pictures (simengine train), or set greys = true"
        )
    return law_of_network(world, world.network, unseen=unseen)


def _bare(world: RendersWorld, share: float, *, unseen: bool, device: Device) -> ViewSet | None:
    pictures = world.empty(share, unseen=unseen)
    return bare_views(pictures, world.tone).to(device) if len(pictures) else None
