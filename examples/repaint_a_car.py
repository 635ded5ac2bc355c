"""Two pictures of a car, in black and in white, give every other paint of that view: radiance is affine in it."""

import torch
from matplotlib import pyplot as plt

from simengine.dtn.bodies.car import car
from simengine.dtn.metrics import object_psnr
from simengine.dtn.references import ReferencePredictor
from simengine.dtn.sampler import ViewSampler
from simengine.dtn.texture import texture_map
from simengine.dtn.views import render_views


def main() -> dict:
    """Object PSNR [dB] of a pattern predicted from two references, with the tone curve known and unknown."""
    views = render_views(car(), ViewSampler(seed=3), range(4), (64, 64), sky_rays=2)
    levels = torch.tensor([0.0, 1.0])
    references = torch.stack([views.picture(level.view(1, 1, 1, 1)) for level in levels], 1)
    texture = torch.rand(16, 16, 3, generator=torch.Generator().manual_seed(0))
    pattern = texture_map(views, (16, 16), mapping="triplanar")(texture)
    true, mask = views.picture(pattern), (views.object >= 0.5).float()
    exact = ReferencePredictor(levels, references, tone=views.tone)(pattern)
    shown = [*references[0], exact[0], true[0]]
    for k, (name, one) in enumerate(zip(("black", "white", "predicted", "rendered"), shown, strict=True)):
        plt.subplot(1, 4, k + 1, title=name, xticks=[], yticks=[])
        plt.imshow(one.movedim(0, -1).clamp(0, 1).numpy())
    known = object_psnr(ReferencePredictor(levels, references, tone=views.tone)(pattern), true, mask)
    unknown = object_psnr(ReferencePredictor(levels, references)(pattern), true, mask)
    assert known > 90.0, f"expected an exact prediction, got {known:.1f} dB"
    assert unknown > 25.0, f"expected a usable prediction, got {unknown:.1f} dB"
    return {"tone_curve_known_db": float(known), "tone_curve_unknown_db": float(unknown)}


if __name__ == "__main__":
    print(main())
    plt.savefig("repaint_a_car.png")
