"""Lamps at night: their intensities in candela, on the scale on which full sun is 100 klx."""

import math

from simengine.ops.light.ray_scene import Lamp, Vector

LUX = 25_000.0  # illuminance of one unit of irradiance: the sun's 4 units are 100 klx on a plane that faces it
WARM, COOL = (
    (1.2174, 0.9779, 0.5788),
    (1.0186, 0.9986, 0.9587),
)  # colours of a luminance of 1, of street lamps and of headlamps
HEIGHT, APART = 8.0, 30.0  # of street lamps [m]
HEADLAMP = (0.65, 0.6, 60.0)  # height, half their distance [m], and how narrow they are


def _units(candela: float, colour: Vector) -> Vector:
    r, g, b = (candela / LUX * c for c in colour)
    return r, g, b


def street_lamps(candela: float, *, side: float, phase: float) -> tuple[Lamp, ...]:
    """Three lamps in a row along x above the road, 30 m from one another and 8 m high, shining down (Lambert).

    Below one stand candela / 64 lux.

    Args:
        candela: Luminous intensity straight down [cd].
        side: Their y [m].
        phase: Where the middle one is, in [-0.5, 0.5] of their distance.
    """
    if candela <= 0:
        return ()
    return tuple(
        Lamp(position=(APART * (k + phase), side, HEIGHT), intensity=_units(candela, WARM)) for k in (-1, 0, 1)
    )


def headlamps(candela: float, *, eye: Vector, azimuth: float) -> tuple[Lamp, ...]:
    """The two headlamps of a vehicle on the ground below the camera, dipped by 1 degree.

    Args:
        candela: Luminous intensity of each along its axis [cd].
        eye: Position of the camera [m].
        azimuth: Of its view [rad].
    """
    if candela <= 0:
        return ()
    height, half, spread = HEADLAMP
    c, s, dip = math.cos(azimuth), math.sin(azimuth), math.radians(1.0)
    axis = (c * math.cos(dip), s * math.cos(dip), -math.sin(dip))
    places = [(eye[0] - side * s, eye[1] + side * c, height) for side in (-half, half)]
    return tuple(Lamp(position=place, axis=axis, intensity=_units(candela, COOL), spread=spread) for place in places)
