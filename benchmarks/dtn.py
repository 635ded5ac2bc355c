"""What the affine law, the sparse texture map and small detectors cost, in CPU seconds of one core.

References: the same pictures rendered one by one; the ray caster in plain torch; and, for whole trainings, the figures
published for a re-implementation on an RTX 3090 (data and training 8 h, attack 49 min).
"""

import time
from collections.abc import Callable
from typing import Any

import torch

from simengine.dtn.bodies.car import car
from simengine.dtn.camouflage import PaintTexture
from simengine.dtn.detector import CentreDetector
from simengine.dtn.sampler import ViewSampler
from simengine.dtn.texture import texture_map
from simengine.dtn.views import render_views
from simengine.ops.light.raycast import raycast
from simengine.ops.light.raycast_reference import raycast_reference
from simengine.scene import load_scene
from simengine.worlds.detectors.attacks import Target, TextureTraining

VIEWS, COLOURS = 20, 50


def cpu(action: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    action()
    return time.process_time() - start


def main() -> list[dict]:
    """Rows: name, ours, reference, ratio."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    body, sampler = car(), ViewSampler(seed=1)
    render_views(body, sampler, [0], (128, 128))  # compiles
    rows = []

    def row(name: str, ours: float, reference: float | str) -> None:
        ratio = reference / ours if isinstance(reference, float) else ""
        rows.append({"name": name, "ours": ours, "reference": reference, "ratio": ratio})

    paints = torch.rand(COLOURS, 1, 3, 1, 1)
    kept = []

    def data() -> None:
        views = render_views(body, sampler, range(VIEWS), (128, 128))
        kept.append(views)
        for paint in paints:
            views.picture(paint)

    ours = cpu(data) * 100 / VIEWS
    one = cpu(lambda: sampler.render(body, 3, (128, 128), paint=torch.full((1, 1, 3), 0.3)))
    row("50 colours x 100 views at 128 px, seconds (reference: each rendered)", ours, one * 100 * COLOURS)

    camera, env = sampler.camera(2, (24, 24)), sampler.environment(2)
    arguments = (body, env, camera.world_to_camera, camera.intrinsics, (24, 24))
    kernel = min(cpu(lambda: raycast(*arguments)) for _ in range(3))
    row("ray casting at 24 px, seconds (reference: plain torch)", kernel, cpu(lambda: raycast_reference(*arguments)))

    views = kept[0]
    texture = torch.rand(64, 64, 3, requires_grad=True)
    put_on = texture_map(views, (64, 64))
    weight = torch.rand(VIEWS, 3, 128, 128)

    def sparse() -> None:
        (put_on(texture) * weight).sum().backward()

    def plain() -> None:
        uv = views.uv.permute(0, 2, 3, 1) * 2 - 1
        seen = torch.nn.functional.grid_sample(
            texture.permute(2, 0, 1)[None].expand(VIEWS, -1, -1, -1), uv, align_corners=False
        )
        (seen * (views.paint > 0) * weight).sum().backward()

    both = [min(cpu(action) for _ in range(3)) for action in (sparse, plain)]
    row("texture onto 20 views, forward and backward, seconds (reference: grid_sample, no mips, seams)", *both)

    few = render_views(body, sampler, range(40), (96, 96), sky_rays=2)
    spec = load_scene("camouflage").objective
    detector = CentreDetector().requires_grad_(False)  # as every evaluation has it
    attack = TextureTraining(Target(PaintTexture((64, 64)), detector, few, texture_map(few, (64, 64)), spec))
    attack.step()
    steps = cpu(lambda: [attack.step() for _ in range(40)]) * 10
    row(
        f"400 attack steps of {spec.batch} views at 96 px, seconds (reference: published, GPU, wall time)",
        steps,
        49 * 60.0,
    )
    return rows


if __name__ == "__main__":
    for entry in main():
        print(entry)
