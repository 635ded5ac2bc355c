"""What a scene says of marks: where each sits, which points are marked, and when one looks."""

import dataclasses

from simengine.scene.strict import Count, NonNegative, Positive, Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class Marker:
    """One mark.

    Attributes:
        on: Name of its body; None for that of the instrument.
        at: Where it nominally sits on the body at t = 0, in the world [m]; None where it is seen at the start, and for
            the centre of a ball.
    """

    on: str | None = None
    at: Vector | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarkedPoints:
    """Which points `simengine observe` marks.

    Attributes:
        on: Name of the body that carries them; None for that of the instrument.
        count: How many, drawn from the particles [1].
        surface: Whether they lie on the surface.
    """

    on: str | None = None
    count: Count = 30
    surface: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Times:
    """When `simengine observe` looks.

    Attributes:
        rate: Frames a second [1/s].
        jitter: Standard deviation of the moment of a frame [s].
        last: Of the last frame [s]; None for the end of the run.
    """

    rate: Positive = 60.0
    jitter: NonNegative = 0.0
    last: Positive | None = None
