"""Scenes of kind rigid: balls that do not deform, in air, between planes and among each other.

Between events the motion is smooth and integrated by Runge-Kutta's rule of fourth order; the moment of each event (a
contact, the end of a slip) is found exactly, so that what is measured depends smoothly on the numbers.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch

from simengine.scene.asks import Ask, Cloud, Series, Tracks
from simengine.scene.base import AbstractRun, AbstractWorld, SceneError
from simengine.scene.strict import NonNegative, Positive, Range, Vector, nearest

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.worlds.motion.rigid.motion import RigidRun


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ball:
    """A sphere.

    Attributes:
        center: At the start [m].
        radius: Of the surface [m].
    """

    type: Literal["sphere"] = "sphere"
    center: Vector
    radius: Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drag:
    """Against air at rest: 1/2 density coefficient pi radius^2 speed^2.

    Attributes:
        coefficient: Of drag [1].
        density: Of the air [kg/m^3].
    """

    coefficient: NonNegative
    density: Positive = 1.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class RigidBody:
    """A body.

    Attributes:
        name: As keys, marks and contacts call it.
        shape: Its surface.
        mass: Of the body [kg].
        velocity: Of its centre at the start [m/s].
        spin: Angular velocity at the start [rad/s].
        rolling: Whether its spin at the start is that of rolling on the plane that it touches.
        inertia: Moment of inertia over mass radius^2 [1]: 0.4 of a solid ball, 0.667 of a thin shell.
        drag: Of the air; None for none.
    """

    name: str
    shape: Ball
    mass: Positive
    velocity: Vector = (0.0, 0.0, 0.0)
    spin: Vector = (0.0, 0.0, 0.0)
    rolling: bool = False
    inertia: Annotated[float, Range(gt=0, le=1)] = 0.4
    drag: Drag | None = None

    def __post_init__(self) -> None:
        if self.rolling and any(self.spin):
            raise ValueError("spin: rolling = true tells it; leave one of them out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RigidPlane:
    """A plane that stands still; bodies are on the side to which its normal points.

    Attributes:
        name: As contacts call it.
        point: On it [m].
        normal: Direction, of any length [1].
    """

    name: str
    type: Literal["plane"] = "plane"
    point: Vector
    normal: Vector

    def __post_init__(self) -> None:
        if not any(self.normal):
            raise ValueError(f"normal: expected a direction, got {list(self.normal)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RigidContact:
    """What happens between two that touch.

    Attributes:
        restitution: Speed of parting over that of meeting, along the normal [1].
        friction: Coulomb's coefficient [1].
    """

    restitution: Annotated[float, Range(ge=0, le=1)] = 0.5
    friction: NonNegative = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RigidWorld(AbstractWorld):
    """Bodies that do not deform.

    Attributes:
        gravity: On all [m/s^2].
        duration: Of a run [s].
        step: Of the integration between events [s].
        bodies: That move.
        colliders: That stand still.
        contact: "NAME-NAME" -> what happens between them; `*` is any, the nearer name wins. Those without pass through
            each other, as bodies of different experiments do.
    """

    kind: ClassVar[str] = "rigid"
    answers: ClassVar[frozenset[type[Ask]]] = frozenset((Tracks, Cloud, Series))
    gravity: Vector = (0.0, -9.81, 0.0)
    duration: Positive
    step: Positive = 5e-3
    bodies: tuple[RigidBody, ...]
    colliders: tuple[RigidPlane, ...] = ()
    contact: dict[str, RigidContact] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [body.name for body in self.bodies] + [plane.name for plane in self.colliders]
        if not self.bodies:
            raise ValueError("bodies: a scene needs at least one [[bodies]]")
        if len(set(names)) < len(names):
            raise ValueError(f"names of bodies and colliders must differ, got {', '.join(names)}")
        if odd := [name for name in names if "-" in name]:
            raise ValueError(f"a name must hold no '-', which parts the two of a contact, got {odd[0]!r}")
        for pair in self.contact:
            for name in pair.split("-") if pair.count("-") == 1 else [pair]:
                if name != "*" and name not in names:
                    raise ValueError(f"contact: {pair!r}: {name!r} is no body or collider; {nearest(name, names)}")
        for plane in self.colliders:
            if not any(self.between(body.name, plane.name) for body in self.bodies):
                raise ValueError(
                    f'contact: nothing touches {plane.name!r}; add "*-{plane.name}" = {{ restitution = 0.5 }}'
                )

    def between(self, a: str, b: str) -> RigidContact | None:
        """What happens between two: the entry that names both, then one, then none; None where they never touch."""
        for pair in ((a, b), ("*", b), (a, "*"), ("*", "*")):
            for key in ("-".join(pair), "-".join(reversed(pair))):
                if key in self.contact:
                    return self.contact[key]
        return None

    def has_center(self, body: str | None) -> bool:
        """Marks on a ball that nobody placed follow its centre."""
        return True

    def number_of(self, body: str | None) -> int:
        """Number of a body by its name; None for the only one.

        Raises:
            SceneError: There is none, or several.
        """
        names = [own.name for own in self.bodies]
        if body is None and len(names) == 1:
            return 0
        if body not in names:
            told = f"{body!r} is no body of this world" if body is not None else "name the body that is meant, `on`"
            raise SceneError(f"{told}; {nearest(str(body), names)}")
        return names.index(body)

    def prepare(self, asks: Sequence[Ask]) -> "RigidWorld":
        """Nothing is frozen; an ask beyond the run is told."""
        for ask in asks:
            times = getattr(ask, "times", None)
            times = ask.values if isinstance(ask, Series) else times
            if times is not None and float(times.detach().max()) > self.duration * (1 + 1e-9):
                raise SceneError(
                    f"duration: {self.duration:g} s, and the observation goes to {float(times.detach().max()):g} s; "
                    f"lengthen it, or leave rows out by `within`"
                )
        return self

    def solve(
        self,
        asks: Sequence[Ask],
        *,
        gradient: bool = False,
        near: AbstractRun | None = None,
        device: str | None = None,
    ) -> "RigidRun":
        """Move the bodies, in float64 on the CPU; a clock may have moved beyond the end."""
        from simengine.worlds.motion.rigid.motion import move

        ends = [ask.values if isinstance(ask, Series) else getattr(ask, "times", None) for ask in asks]
        return move(self, max([self.duration, *(float(end.detach().max()) for end in ends if end is not None)]))

    def scalars(self) -> Mapping[str, str]:
        """Centres, velocities and spins of the bodies."""
        parts = {"center": "m", "velocity": "m/s", "spin": "rad/s"}
        return {
            f"bodies.{body.name}.{part}.{axis}": unit
            for body in self.bodies
            for part, unit in parts.items()
            for axis in range(3)
        }

    def sizes(self) -> Mapping[str, float]:
        """Of the scene and the run."""
        centers = torch.tensor([body.shape.center for body in self.bodies], dtype=torch.float64)
        radius = max(body.shape.radius for body in self.bodies)
        fall = 0.5 * sum(g * g for g in self.gravity) ** 0.5 * self.duration**2
        spread = float((centers.max(0).values - centers.min(0).values).max())
        length = max(radius, min(spread + fall, 1e3 * radius))
        return {
            "m": length,
            "s": self.duration,
            "m/s": length / self.duration,
            "rad/s": length / self.duration / radius,
        }

    def refined(self, factor: float) -> "RigidWorld":
        """Shorter steps."""
        return dataclasses.replace(self, step=self.step / factor)

    def build(self, *, device: str | None = None) -> "RigidRun":
        """The motion."""
        return self.solve(())

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """Bodies, steps, and what overlaps at the start."""
        from simengine.worlds.motion.rigid.motion import overlaps

        return {"bodies": len(self.bodies), "steps": round(self.duration / self.step), "overlaps": overlaps(self)}

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Move the bodies; write `motion.csv` (time, name, x, y, z), `motion.npz` and the events.

        `motion.npz` has time [s], x (times, bodies, 3) [m] and turn (times, bodies, 3, 3), rotations since the start.
        """
        moved = self.solve(())
        times = torch.linspace(0, self.duration, 101, dtype=torch.float64)
        turns = torch.stack([moved.turned(k, times) for k in range(len(self.bodies))], 1)
        out.write("motion.npz", {"time": times, "x": moved.sample(Cloud(times=times, body=None)), "turn": turns})
        lines = ["time,name,x,y,z"]
        for body in self.bodies:
            track = moved.sample(Cloud(times=times, body=body.name))[:, 0]
            for time, row in zip(times.tolist(), track.tolist(), strict=True):
                lines.append(",".join([f"{time:.9g}", body.name, *(f"{v:.9g}" for v in row)]))
        (out.path / "motion.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return {"bodies": len(self.bodies), "events": [f"{time:.6g} s {what}" for time, what in moved.events]}
