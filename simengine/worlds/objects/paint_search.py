"""The paint of a car placed in a photograph that a detector sees worst: what hardening has to withstand on the screen.

The picture is linear in the paint, so each step costs a look of the detector and no rendering. The expectation goes
over light and noise of the camera.
"""

from typing import Any

import torch

from simengine.dtn.camouflage import PaintTexture, evasion_loss, total_variation
from simengine.dtn.checks import check_detector
from simengine.dtn.texture import texture_map
from simengine.dtn.views import CONDITIONS, stack_views
from simengine.render.camera import PinholeCamera
from simengine.render.tone import ToneCurve, encode_srgb
from simengine.worlds.objects.placed import Placement


def painter(placement: Placement, size: tuple[int, int]) -> Any:
    """From a texture (rows, columns, 3) to the linear picture (3, h, w), differentiable.

    Args:
        placement: The car over its photograph.
        size: Rows and columns of the texture.
    """
    h, w, _ = placement.photograph.shape
    camera = PinholeCamera(
        world_to_camera=torch.eye(4), intrinsics=torch.tensor([1.0, 1.0, 0.0, 0.0]), width=w, height=h
    )
    nothing = dict.fromkeys(CONDITIONS, 0.0)
    view = stack_views([placement.buffers], [camera], [nothing], tone=ToneCurve())
    put_on = texture_map(view, size)

    def picture(texture: torch.Tensor) -> torch.Tensor:
        paint = put_on(texture)[0].permute(1, 2, 0)
        lit = placement.buffers.gain * _spread(paint, placement.buffers.paint) + placement.buffers.offset
        return placement.picture(lit).permute(2, 0, 1)

    return picture


def _spread(paint: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Paint where there is some; the gain carries the share of a pixel that is painted."""
    return torch.where(share[..., None] > 0, paint, torch.zeros_like(paint))


def search_paint(
    placement: Placement,
    detector: Any,
    box: torch.Tensor,
    *,
    size: tuple[int, int] = (64, 64),
    kind: int | None = None,
    iterations: int = 100,
    learning_rate: float = 0.15,
    smoothness: float = 0.02,
    light: tuple[float, float] = (0.6, 1.3),
    noise: float = 0.02,
    restarts: int = 1,
    seed: int = 0,
) -> tuple[torch.Tensor, list[float]]:
    """Descend the detector's score on the car over its paint.

    Args:
        placement: The car over its photograph.
        detector: Of the protocol, with `dense`.
        box: Corners of the car [px], (4,).
        size: Rows and columns of the texture.
        kind: Label of the car; None for any.
        iterations: Steps of Adam in each restart.
        learning_rate: Of Adam.
        smoothness: Weight of the total variation.
        light: Range of the gain of the light.
        noise: Largest standard deviation of the encoded picture's noise.
        restarts: Starts; the one that ends with the lowest loss in the light as it is counts.
        seed: Of starts, light and noise.

    Returns:
        The texture (rows, columns, 3), and the loss of every step of its restart.

    Raises:
        ValueError: The detector does not fit the protocol or carries no gradient.
    """
    picture = painter(placement, size)
    with torch.no_grad():
        plain = encode_srgb(picture(torch.full((*size, 3), 0.4)).clamp(0, 1))
    check_detector(detector, plain[None], kind=kind)
    best: tuple[float, torch.Tensor, list[float]] | None = None
    for start in range(restarts):
        texture = PaintTexture(size, seed=seed + start)
        adam = torch.optim.Adam(texture.parameters(), lr=learning_rate)
        generator = torch.Generator().manual_seed(seed + start)
        history = []
        for _ in range(iterations):
            gain, strength = torch.rand(2, generator=generator).tolist()
            value = texture()
            seen = encode_srgb(picture(value).mul(light[0] + (light[1] - light[0]) * gain).clamp(1e-6, 1))
            seen = (seen + noise * strength * torch.randn(seen.shape, generator=generator)).clamp(0, 1)
            loss = evasion_loss(detector, seen[None], box[None], kind=kind, over="all")
            adam.zero_grad()
            (loss + smoothness * total_variation(value)).backward()
            adam.step()
            history.append(float(loss.detach()))
        with torch.no_grad():
            found = texture()
            seen = encode_srgb(picture(found).clamp(0, 1))
            final = float(evasion_loss(detector, seen[None], box[None], kind=kind, over="all"))
        if best is None or final < best[0]:
            best = final, found, history
    assert best is not None
    return best[1], best[2]
