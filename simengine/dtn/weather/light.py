"""Light, weather and ground of a view, from its conditions and twelve numbers drawn for it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import torch

from simengine.dtn.scenery.skies import SkyPanorama
from simengine.dtn.weather.night import headlamps, street_lamps
from simengine.dtn.weather.rain import extinction
from simengine.ops.light.ray_scene import Environment

SUN = 4.0  # irradiance of a sun of 1, across its rays [W/m^2]
# albedo of what lies beside a road, light and dark: grass, dry grass, gravel, concrete, soil
GROUNDS = (
    ((0.13, 0.19, 0.06), (0.05, 0.09, 0.03)),
    ((0.28, 0.25, 0.13), (0.14, 0.13, 0.06)),
    ((0.30, 0.29, 0.26), (0.17, 0.16, 0.15)),
    ((0.36, 0.35, 0.33), (0.28, 0.27, 0.26)),
    ((0.22, 0.16, 0.11), (0.12, 0.09, 0.06)),
)


def drawn_environment(
    view: Mapping[str, float], u: Sequence[float], *, eye: tuple[float, float, float], bearing: float
) -> Environment:
    """A sun, a clear or clouded sky, and a road or the ground beside it.

    Args:
        view: Its conditions, by the names and in the units of `simengine.dtn.sampler.UNITS`.
        u: Twelve numbers in [0, 1): of the ground, the road, the skyline, the clouds and the lamps.
        eye: Where the camera stands [m], which headlamps are beside.
        bearing: Azimuth of the middle of what it sees [rad].
    """
    azimuth, elevation = math.radians(view["sun_azimuth"]), math.radians(view["sun_elevation"])
    warm = 1.0 - math.sin(elevation)
    sun, sky = SUN * view["sun"], view["sky"]
    light, dark = GROUNDS[int(u[0] * len(GROUNDS))]
    shade = 0.75 + 0.5 * u[1]
    haze_light = sky * (0.55 + 0.25 * view["sun"])
    green, height = (0.05 + 0.15 * u[2]) * (0.5 * sky + 0.4 * view["sun"]), 0.02 + 0.10 * u[3] * u[3]
    half = 3.0 + 1.5 * u[4]  # two lanes; the object stands on its right one, or at its edge
    lane = half * (0.35 + 0.3 * u[5])
    lane = lane if u[8] < 0.5 else -lane
    return Environment(
        sun_direction=_direction(azimuth, elevation),
        sun_irradiance=(sun, sun * (1 - 0.15 * warm), sun * (1 - 0.35 * warm)),
        sky_zenith=(0.20 * sky, 0.34 * sky, 0.62 * sky),
        sky_horizon=(0.52 * sky, 0.60 * sky, 0.69 * sky),
        haze=view["haze"] + extinction(view["rain"]),
        airlight=(haze_light, haze_light, 1.05 * haze_light),
        ground_light=(shade * light[0], shade * light[1], shade * light[2]),
        ground_dark=(shade * dark[0], shade * dark[1], shade * dark[2]),
        ground_frequency=0.3 + 1.2 * u[6],
        road=half if u[7] < 0.8 else 0.0,
        lane=lane,
        asphalt=0.06 + 0.12 * u[9],
        clouds=min(max(0.9 - 0.6 * view["sun"] + 0.3 * (u[10] - 0.5), 0.0), 1.0),
        skyline=(0.85 * green, green, 0.75 * green),
        skyline_height=height,
        water=view["water"],
        lamps=(
            *street_lamps(view["lamps"], side=lane + half + 0.8, phase=u[11] - 0.5),
            *headlamps(view["headlamps"], eye=eye, azimuth=bearing),
        ),
    )


def under(environment: Environment, sky: SkyPanorama, view: Mapping[str, float]) -> Environment:
    """An environment under a panorama, whose sun stands at the `sun_azimuth` of the view; `sky` is its factor."""
    azimuth, factor = math.radians(view["sun_azimuth"]), view["sky"]
    ambient = _triple(factor * sky.ambient)
    return dataclasses.replace(
        environment,
        sun_direction=_direction(azimuth, sky.elevation),
        sun_irradiance=_triple(factor * sky.sun),
        sky_zenith=ambient,
        sky_horizon=ambient,
        panorama=factor * sky.light,
        panorama_azimuth=azimuth - sky.azimuth,
    )


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    across = math.cos(elevation)
    return math.cos(azimuth) * across, math.sin(azimuth) * across, math.sin(elevation)


def _triple(colour: torch.Tensor) -> tuple[float, float, float]:
    red, green, blue = colour.tolist()
    return red, green, blue
