"""Rain, wet ground and lamps in views: their physical quantities, and that the affine law stays."""

import dataclasses
import math

import pytest
import torch

from simengine.dtn.bodies.car import car
from simengine.dtn.sampler import CONDITIONS, GREY, WEATHER, WET, ViewSampler
from simengine.dtn.views import render_views
from simengine.dtn.weather.night import LUX, headlamps, street_lamps
from simengine.dtn.weather.rain import FAR, NEAR, NUMBER, SMALLEST, extinction, fall_speed, slope, streaks
from simengine.ops.light.ray_scene import Environment
from simengine.ops.light.raycast import raycast
from simengine.render.camera import PinholeCamera

LEVEL = PinholeCamera.look_at((0.0, 0.0, 2.0), (5.0, 0.0, 2.0), up=(0.0, 0.0, 1.0), width=96, height=96, fov_y=0.6)
STORM = ViewSampler(seed=2, boxes=0, distance=(8.0, 12.0), rain=(20.0, 50.0), water=(1.0, 2.0), lamps=(800.0, 1500.0))


def drops(weight: float, least: float) -> float:
    """Integral of weight D^2 over the drops of 50 mm/h above a diameter, by Simpson's rule [m^2/m^3]."""
    d = torch.linspace(least, least + 15.0, 20001, dtype=torch.float64)
    f = NUMBER * torch.exp(-slope(50.0) * d) * weight * d**2 * 1e-6
    h = float(d[1] - d[0])
    return h / 3 * float(f[0] + 4 * f[1::2].sum() + 2 * f[2:-1:2].sum() + f[-1])


def test_extinction_is_the_integral_over_the_drops() -> None:
    assert extinction(50.0) == pytest.approx(drops(2 * math.pi / 4, 0.0), rel=1e-9)
    assert extinction(0.0) == 0.0 and extinction(10.0) < extinction(50.0)
    # drops of 1, 2 and 5 mm fall at 4.03, 6.49 and 9.09 m/s (Gunn and Kinzer 1949), the formula within 2 %
    speeds = fall_speed(torch.tensor([1.0, 2.0, 5.0]))
    assert torch.allclose(speeds, torch.tensor([4.03, 6.49, 9.09]), rtol=0.02)
    with pytest.raises(ValueError, match="rate: expected a rain rate of at least 0"):
        extinction(-1.0)


def test_streaks_cover_what_drops_cover() -> None:
    """Their mean over a picture is the cross-section of the drops between two distances, however long they are."""
    nothing = torch.zeros(96, 96)
    expected = drops(math.pi / 4, SMALLEST) * (FAR - NEAR)
    for shutter in (0.002, 0.02):
        views = [streaks(50.0, LEVEL, nothing, shutter=shutter, seed=seed) for seed in range(4)]
        # the largest of the nearest drops dominate: over 40 seeds the mean of four varies by 3 %
        assert float(torch.stack(views).mean()) == pytest.approx(expected, rel=0.12)
    short, long = (streaks(50.0, LEVEL, nothing, shutter=t, seed=0) for t in (0.002, 0.02))
    assert float(long.max()) < float(short.max())  # as much, spread over a longer way
    assert float(streaks(50.0, LEVEL, nothing + NEAR / 2, shutter=0.01, seed=0).max()) == 0  # all are behind a wall
    assert float(streaks(0.0, LEVEL, nothing, shutter=0.01, seed=0).max()) == 0
    tall = long - long.roll(1, 0), long - long.roll(1, 1)  # they run down, not across
    assert float(tall[0].square().mean()) < 0.7 * float(tall[1].square().mean())


def test_lamps_are_as_bright_as_their_candela() -> None:
    """Below a lamp of 640 cd at 8 m stand 10 lx; 10 m before a headlamp of 10,000 cd that faces a wall, 100 lx."""
    lamps = street_lamps(640.0, side=0.0, phase=0.0)
    dark = dict.fromkeys(("sun_irradiance", "sky_zenith", "sky_horizon"), (0.0,) * 3)
    grey: dict = {"ground_dark": (0.5,) * 3, "ground_light": (0.5,) * 3}
    view = PinholeCamera.look_at((0.0, -0.01, 6.0), (0.0, 0.0, 0.0), up=(0.0, 1.0, 0.0), width=9, height=9, fov_y=0.02)
    body = dataclasses.replace(car(), vertices=car().vertices + torch.tensor([900.0, 0.0, 0.0]))
    pose = view.world_to_camera, view.intrinsics, (9, 9)
    seen = raycast(body, Environment(**dark, **grey, lamps=lamps), *pose, samples=1, sky_rays=0)
    luminance = seen.offset[4, 4] @ torch.tensor([0.2126, 0.7152, 0.0722])
    neighbours = 2 * 640 * 8.0**2 / (30.0**2 + 8.0**2) ** 2  # I cos^2/r^2 of the two others [lx]
    assert float(luminance) * math.pi / 0.5 * LUX == pytest.approx(10.0 + neighbours, rel=2e-3)
    ahead = headlamps(10_000.0, eye=(0.0, 0.0, 3.0), azimuth=0.0)
    assert len(ahead) == 2 and all(lamp.position[2] == 0.65 and lamp.axis[0] > 0.99 for lamp in ahead)
    luminous = torch.tensor(ahead[0].intensity) @ torch.tensor([0.2126, 0.7152, 0.0722]) * LUX
    assert float(luminous) / 10.0**2 == pytest.approx(100.0, rel=1e-4)
    assert street_lamps(0.0, side=0.0, phase=0.0) == () == headlamps(0.0, eye=(0.0, 0.0, 1.0), azimuth=0.0)


def test_weather_is_drawn_beside_what_was_drawn_before() -> None:
    plain, wet = ViewSampler(seed=3), ViewSampler(seed=3, rain=(0.0, 30.0), lamps=(0.0, 900.0), headlamps=(10.0, 20.0))
    rows = [(plain.conditions(k), wet.conditions(k)) for k in range(60)]
    for before, after in rows:
        assert all(before[name] == after[name] for name in CONDITIONS if name not in WEATHER)
        assert all(before[name] == 0 for name in WEATHER)
        assert after["water"] == (WET if after["rain"] > 0 else 0.0) and 10 <= after["headlamps"] <= 20
    rainy = sum(after["rain"] > 0 for _, after in rows)
    assert 18 <= rainy <= 42 and max(after["rain"] for _, after in rows) > 20  # half of 60, within 3 sigma
    hazes = [wet.environment(k).haze - after["haze"] for k, (_, after) in enumerate(rows)]
    assert hazes == pytest.approx([extinction(after["rain"]) for _, after in rows])


def test_the_law_and_its_gradient_hold_in_any_weather() -> None:
    for sampler in (STORM, dataclasses.replace(STORM, sun=(0.0, 0.0), sky=(1e-5, 1e-5), metering=1e5)):
        fitted = sampler.fitted(car())
        seen = fitted.render(car(), 1, (24, 24), samples=1, sky_rays=1)
        law = 0.5 * seen.gain + seen.offset  # `radiance` is traced in a mid grey
        assert float((law - seen.radiance).abs().max()) < 1e-5 * float(seen.radiance.max())
        views = render_views(car(), sampler, [1], (24, 24), samples=1, sky_rays=1)
        paint = torch.full((1, 3, 1, 1), 0.4, dtype=torch.float64, requires_grad=True)
        double = type(views)(**{k: v.double() for k, v in views.tensors().items()})
        assert torch.autograd.gradcheck(lambda p, v=double: v.picture(p), paint)
        (slope_of,) = torch.autograd.grad(double.picture(paint).sum(), paint)
        assert float(slope_of.abs().min()) > 1.0


def test_a_dark_view_is_brightened_to_grey_and_a_light_one_is_left() -> None:
    night = dataclasses.replace(STORM, sun=(0.0, 0.0), sky=(1e-3, 1e-3), rain=(0.0, 0.0))
    means = []
    for factor in (1.0, 4.0, 1e6):
        sampler = dataclasses.replace(night, metering=factor).fitted(car())
        seen = sampler.render(car(), 0, (32, 32), sky_rays=1).radiance @ torch.tensor([0.2126, 0.7152, 0.0722])
        means.append(float(seen.log().mean().exp()))
    assert means[1] == pytest.approx(4 * means[0], rel=1e-4) and means[2] == pytest.approx(GREY, rel=1e-3)
    day = [dataclasses.replace(STORM, sun=(1, 1), sky=(4, 4), metering=m).fitted(car()) for m in (1.0, 1e6)]
    light = [sampler.render(car(), 0, (16, 16), sky_rays=1).radiance for sampler in day]
    assert float(light[0].mean()) > GREY and torch.equal(light[0], light[1])


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="rain: expected at least 0 mm/h, got -1"):
        ViewSampler(rain=(-1.0, 2.0))
    with pytest.raises(ValueError, match="expected shutter > 0 s and metering >= 1, got 0 and 1"):
        ViewSampler(shutter=0.0)
    with pytest.raises(ValueError, match="lamps: expected a lower and an upper bound in order"):
        ViewSampler(lamps=(5.0, 2.0))
