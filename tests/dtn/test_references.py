"""Closed forms from K reference pictures, against every colour and pattern of unseen views."""

import pytest
import torch

from simengine.dtn.metrics import object_psnr, ssim
from simengine.dtn.references import ReferencePredictor
from simengine.dtn.texture import texture_map
from simengine.dtn.views import ViewSet
from simengine.render.tone import ToneCurve, decode_srgb, encode_srgb


def greys(encoded: list[float]) -> torch.Tensor:
    return decode_srgb(torch.tensor(encoded))


def predictor(views: ViewSet, levels: torch.Tensor, *, tone: ToneCurve | None = None) -> ReferencePredictor:
    pictures = torch.stack([views.picture(level.expand(1, 3, 1, 1)) for level in levels], 1)
    return ReferencePredictor(levels, pictures, tone=tone)


# K references equally spaced in sRGB. Measured on 12 views (flat, pattern): 2: 31.5, 31.4; 3: 39.6, 41.4; 4: 52, 54 dB.
# The aims for 3 and 4 are 34 and 45 dB; for 2 the published 30 less the spread of 12 views.
@pytest.mark.parametrize(("number", "least"), [(2, 29.0), (3, 34.0), (4, 45.0)])
def test_polynomial_in_encoded_values(views: ViewSet, number: int, least: float) -> None:
    predict = predictor(views, greys(torch.linspace(0, 1, number).tolist()))
    mask = (views.object > 0).float()
    put_on = texture_map(views, (16, 16), mapping="triplanar")
    levels = torch.arange(0.125, 1.0, 0.25)  # none of them a reference
    flats = [decode_srgb(color[None, :, None, None]) for color in torch.cartesian_prod(levels, levels, levels)]
    generator = torch.Generator().manual_seed(0)
    patterns = [put_on(decode_srgb(torch.rand(16, 16, 3, generator=generator))) for _ in range(6)]
    flat_db, pattern_db = (
        sum(float(object_psnr(predict(p), views.picture(p), mask)) for p in paints) / len(paints)
        for paints in (flats, patterns)
    )
    assert flat_db >= least
    assert pattern_db >= flat_db - 1.0  # patterns are no harder than colours


@pytest.mark.parametrize("levels", [[0.0, 1.0], [0.1, 0.4, 0.8]])
def test_exact_with_the_tone_curve(views: ViewSet, levels: list[float]) -> None:
    predict = predictor(views, torch.tensor(levels), tone=views.tone)
    paint = torch.rand(len(views), 3, *views.size)
    # float32: the curve's inverse amplifies rounding of 6e-8 by at most 1/(1 - x), some ten in these views
    assert float((predict(paint) - views.picture(paint)).abs().max()) < 1e-5


def test_gradient_is_that_of_the_renderer(views: ViewSet) -> None:
    predict = predictor(views, torch.tensor([0.0, 1.0]), tone=views.tone)
    paint = torch.rand(1, 3, *views.size, requires_grad=True)
    weight = torch.rand(len(views), 3, *views.size)
    ours = torch.autograd.grad((predict(paint) * weight).sum(), paint)[0]
    exact = torch.autograd.grad((views.picture(paint) * weight).sum(), paint)[0]
    assert float((ours - exact).norm() / exact.norm()) < 1e-4  # rounding as above


def test_bad_input_is_named(views: ViewSet) -> None:
    with pytest.raises(ValueError, match="at least two different greys"):
        ReferencePredictor(torch.tensor([0.5, 0.5]), torch.zeros(1, 2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"images: expected shape \(n, 2, 3, h, w\)"):
        ReferencePredictor(torch.tensor([0.0, 0.5]), torch.zeros(1, 3, 3, 4, 4))
    with pytest.raises(ValueError, match="empty mask"):
        object_psnr(views.gain, views.gain, torch.zeros_like(views.paint))
    with pytest.raises(ValueError, match="empty mask"):
        ssim(views.gain, views.gain, torch.zeros_like(views.paint))


def test_tone_curve_and_its_inverse() -> None:
    radiance = torch.linspace(0, 5, 101, dtype=torch.float64)
    curve = ToneCurve(exposure=1.3)
    assert torch.allclose(curve.decode(curve.encode(radiance)), radiance, atol=1e-9)
    assert torch.autograd.gradcheck(curve.encode, (radiance[1:].clone().requires_grad_(),))
    x = torch.linspace(0, 1, 50, dtype=torch.float64)
    assert torch.allclose(decode_srgb(encode_srgb(x)), x, atol=1e-7)  # sRGB's two pieces meet to 3e-8


def test_ssim_against_scikit_definition() -> None:
    # Of two constant pictures only the luminance term is left: (2 a b + c1)/(a^2 + b^2 + c1).
    a, b = torch.full((1, 3, 32, 32), 0.4), torch.full((1, 3, 32, 32), 0.6)
    expected = (2 * 0.24 + 1e-4) / (0.16 + 0.36 + 1e-4)
    assert abs(float(ssim(a, b)) - expected) < 1e-4  # float32 variances that cancel to 1e-7, against c2 = 9e-4
    noise = torch.rand(1, 3, 32, 32)
    assert abs(float(ssim(noise, noise)) - 1) < 1e-6
