"""How far networks carry: object PSNR under other tone curves, exposures, coats and objects than the shipped car's.

`simengine bench dtn_elsewhere --write docs/results/dtn.md` renews the table, from the models of `dtn_accuracy`, which
are made where they are missing. Every network sees the same pictures. Half a minute beside that.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from simengine.benchmarks import dtn_accuracy

from simengine.dtn.bodies.builder import MeshBuilder
from simengine.dtn.bodies.car import MATERIALS, car
from simengine.dtn.metrics import object_psnr
from simengine.dtn.network import Reference, TransformationNetwork, paint_share, reference_of
from simengine.dtn.references import ReferencePredictor
from simengine.dtn.views import ViewSet, render_views
from simengine.io.model_folder import read_model
from simengine.ops.light.ray_scene import RaySurface
from simengine.render.tone import ToneCurve, decode_srgb, encode_srgb
from simengine.scene import load_world
from simengine.worlds.detectors.network import UnseenPaints
from simengine.worlds.detectors.variety import coated

VIEWS = 16
COMPARED = (
    "linear (ours)",
    "linear, varied (ours)",
    "linear, same steps",
    "dtn4, residual, with geometry",
    "efe, unet, with geometry",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reinhard(ToneCurve):
    """L / (1 + L), which nothing is trained on."""

    def encode(self, radiance: torch.Tensor) -> torch.Tensor:
        """The picture."""
        return encode_srgb(radiance / (1 + radiance))


def van() -> RaySurface:
    """A box van of 5.2 m with panes and wheels."""
    b = MeshBuilder({name: MATERIALS[name] for name in ("paint", "glass", "tyre", "trim")})
    b.box((-2.6, -0.95, 0.3), (1.3, 0.95, 2.3), "paint")
    b.box((1.3, -0.95, 0.3), (2.6, 0.95, 1.5), "paint")
    b.box((1.25, -0.85, 1.5), (1.9, 0.85, 2.2), "glass")
    b.box((1.2, -0.95, 2.2), (1.9, 0.95, 2.3), "paint")
    b.box((2.55, -0.5, 0.45), (2.63, 0.5, 0.6), "trim")
    for x in (-1.7, 1.7):
        for side in (-1.0, 1.0):
            b.disc(x, (side * 0.7, side * 0.97), 0.35, 0.35, "tyre")
    return b.surface(painted="paint", part=True, crease=0.0)


def tank() -> RaySurface:
    """An upright tank of 3 m with a dome, and a hatch."""
    b = MeshBuilder({name: MATERIALS[name] for name in ("paint", "trim", "chrome")})
    profile = [(1.1, 0.0), (1.1, 0.8), (1.1, 1.6), (1.1, 2.4), (0.95, 2.75), (0.6, 2.95), (0.05, 3.05)]
    turns = [2 * math.pi * k / 24 for k in range(24)]
    b.loft([[(r * math.cos(a), r * math.sin(a), z) for a in turns] for r, z in profile], "paint")
    b.box((-0.4, -1.15, 0.5), (0.4, 1.15, 1.2), "trim")
    b.box((-1.13, -0.3, 0.0), (1.13, 0.3, 0.25), "chrome")
    return b.surface(painted="paint", part=True, crease=0.6)


def pictures() -> dict[str, tuple[ViewSet, bool]]:
    """By name: unseen views, and whether the network is told the tone curve."""
    scene = load_world("dtn_network")
    own = dataclasses.replace(scene.views, seed=scene.test_sampler.seed)

    def views(surface: RaySurface) -> ViewSet:
        return render_views(surface, own, range(VIEWS), (scene.size, scene.size), sky_rays=scene.sky_rays)

    ours, box = views(car()), views(van())

    def under(tone: ToneCurve, of: ViewSet = ours) -> ViewSet:
        return dataclasses.replace(of, tone=tone)

    aces = ToneCurve(shoulder="aces")
    return {
        "as trained": (ours, True),
        "exposure 2, told": (under(ToneCurve(exposure=2)), True),
        "exposure 2": (under(ToneCurve(exposure=2)), False),
        "plain sRGB": (under(ToneCurve(shoulder="none")), False),
        "ACES, told": (under(aces), True),
        "ACES": (under(aces), False),
        "Reinhard": (under(Reinhard()), False),
        "matt paint": (views(coated(car(), 0.9, 0.0)), True),
        "glossier paint": (views(coated(car(), 0.12, 0.06)), True),
        "a box van": (box, True),
        "a tank": (views(tank()), True),
        "a box van under ACES": (under(aces, box), False),
    }


Predictor = Callable[[Reference], Callable[[torch.Tensor], torch.Tensor]]


def of_network(network: TransformationNetwork) -> Predictor:
    """Predicted pictures of a network for a paint."""

    def predictor(reference: Reference) -> Callable[[torch.Tensor], torch.Tensor]:
        maps = network.maps(reference)
        return lambda paint: network.apply_maps(maps, reference, paint)

    return predictor


def guess(reference: Reference) -> Callable[[torch.Tensor], torch.Tensor]:
    """Where `linear` starts."""
    share, head = paint_share(reference)[:, None], TransformationNetwork("linear")
    return lambda paint: head.apply_maps(share, reference, paint)


def of_greys(views: ViewSet, number: int = 3) -> Callable[[torch.Tensor], torch.Tensor]:
    """The closed form from pictures in a few greys, which is told no curve."""
    levels = decode_srgb(torch.linspace(0, 1, number))
    pictures = torch.stack([views.picture(grey.view(1, 1, 1, 1)) for grey in levels], 1)
    return ReferencePredictor(levels, pictures)


def level(views: ViewSet, predict: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """PSNR over the object's pixels of all views and flat paints together [dB]."""
    paints = UnseenPaints(views)
    squares = [10 ** (-object_psnr(predict(p), views.picture(p), paints.mask) / 10) for p in paints.flat]
    return float(-10 * torch.log10(torch.stack(squares).mean()))


def main() -> list[dict[str, Any]]:
    """A row for each kind of pictures: object PSNR in flat paints [dB]."""
    torch.set_num_threads(1)
    predictors: dict[str, Predictor] = {}
    for name in COMPARED:
        dtn_accuracy.measured(name)
        model = read_model(dtn_accuracy.folder_of(name))
        network = TransformationNetwork(**model.options)
        network.load_state_dict(model.tensors())
        predictors[name] = of_network(network)
    predictors["guess, no training"] = guess
    with torch.no_grad():  # not about the trainings above
        return compared(predictors)


def compared(predictors: dict[str, Predictor]) -> list[dict[str, Any]]:
    """A row for each kind of pictures."""
    rows = []
    for kind, (views, told) in pictures().items():
        reference = reference_of(views)
        reference = reference if told else dataclasses.replace(reference, tone=None)
        row: dict[str, Any] = {"name": kind}
        for name, predictor in predictors.items():
            row[f"{name}, dB"] = level(views, predictor(reference))
        row["three greys, no training, dB"] = level(views, of_greys(views))
        rows.append(row)
    return rows


if __name__ == "__main__":
    for entry in main():
        print(entry)
