"""A whole view of a scene as another path tracer has it (Mitsuba 3; skipped where it is not installed)."""

import runpy
from pathlib import Path

import pytest
import torch

from simengine.dtn.bodies.car import car
from simengine.dtn.metrics import object_psnr
from simengine.dtn.sampler import ViewSampler
from simengine.render.tone import ToneCurve

BENCH = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks/dtn_traced.py"))
SIZE = (32, 32)


def test_a_view_looks_as_mitsuba_traces_it() -> None:
    """Sun, sky, ground, road, coats and texture come over: other turns of texture or sky would cost decibels."""
    mitsuba = pytest.importorskip("mitsuba", reason="Mitsuba is an independent reference, not a dependency")
    mitsuba.set_variant("scalar_rgb")
    body, tone = car(), ToneCurve()
    sampler = ViewSampler(seed=112, boxes=10, haze=(0.0, 0.0)).fitted(body)
    texture = 0.03 + 0.7 * (torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    theirs = tone.encode(BENCH["traced"](mitsuba, sampler, body, 1, SIZE, texture, 64).float())[None]

    def likeness(paint: torch.Tensor) -> tuple[float, float]:
        ours = sampler.render(body, 1, SIZE, samples=4, sky_rays=8, paint=paint)
        picture, mask = tone.encode(ours.radiance.permute(2, 0, 1))[None], (ours.object >= 0.5).float()[None, None]
        return float(object_psnr(picture, theirs, mask)), float(object_psnr(picture, theirs, 1 - mask))

    on_it, around = likeness(texture)
    # measured: 27.5 and 33.2 dB; the texture turned in any way 19.9 to 21.1 on the object
    assert on_it >= 25 and around >= 30
    assert all(likeness(turned)[0] < 23 for turned in (texture.flip(0), texture.flip(1), texture.transpose(0, 1)))
