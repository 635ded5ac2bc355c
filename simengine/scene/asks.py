"""What an instrument asks of a solved world. There are seven asks, in three faces: numbers, matter and light.

Worlds know asks, not instruments; instruments know asks, not worlds. The float tensors of an ask may carry gradients
(times, places, cameras). Everything is in SI units and in the world's own coordinates.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ask:
    """What is wanted of a run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series(Ask):
    """Scalars of the world along an abscissa: `time`, or what drives it (a stretch, a shear rate). -> (m, names).

    Attributes:
        names: Scalars, as in `bodies.water.upper.0` or `nominal_stress`.
        against: Name of the abscissa.
        values: Its values, in the order in which the world goes through them, (m,).
    """

    names: tuple[str, ...]
    against: str
    values: "Tensor"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fields(Ask):
    """Fields of the world at places and times. -> (q, names).

    Attributes:
        names: Fields, as in `T` or `c`.
        x: Places, (q, d) [m].
        times: (q,) [s]; None where the world has no time.
    """

    names: tuple[str, ...]
    x: "Tensor"
    times: "Tensor | None" = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table(Ask):
    """Scalars under conditions, each row an experiment of its own. -> (b, names).

    Attributes:
        names: Scalars, as in `flame_speed`.
        conditions: Key of a number of the world -> its value in each row, (b,).
    """

    names: tuple[str, ...]
    conditions: Mapping[str, "Tensor"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracks(Ask):
    """Where material points are. -> (f, k, 3) [m].

    Attributes:
        points: Where they lie on the body at t = 0, (k, 3) [m]; NaN for the centre of a body that has one.
        times: (f,) [s].
        body: Name of the body; None for the only one.
    """

    points: "Tensor"
    times: "Tensor"
    body: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cloud(Ask):
    """All matter, without names of its points. -> (f, n, 3) [m].

    Attributes:
        times: (f,) [s].
        body: Name of the body; None for all.
    """

    times: "Tensor"
    body: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class View(Ask):
    """What cameras see. -> (f, h, w, channels), those of each name one after another.

    Attributes:
        intrinsics: fx, fy, cx, cy [px] of each picture, (f, 4).
        world_to_camera: (f, 4, 4), OpenCV axes: right, down, forward.
        size: Rows and columns [px].
        times: (f,) [s]; None where nothing moves.
        channels: Of rgb (linear light over black), alpha, depth [m] (0 where nothing is), normal (camera's axes), place
            [m] (where the material that a pixel shows is at `place_times`, over 0 as light is over black).
        renderer: own; or raycast, where a world has it: another renderer, the surroundings included, for twins.
        names: Of pictures that are given and not rendered, (f,); each then has its own size, whatever the camera.
        place_times: Of the channel place, (f,) [s]; None where nothing moves.
    """

    intrinsics: "Tensor"
    world_to_camera: "Tensor"
    size: tuple[int, int]
    times: "Tensor | None" = None
    channels: tuple[str, ...] = ("rgb",)
    renderer: str = "own"
    names: tuple[str, ...] = ()
    place_times: "Tensor | None" = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rays(Ask):
    """Integrals along straight lines. -> (q,).

    Attributes:
        origins: (q, 3) [m].
        directions: Unit vectors, (q, 3).
        quantity: Field that is integrated, as in `attenuation`.
    """

    origins: "Tensor"
    directions: "Tensor"
    quantity: str
