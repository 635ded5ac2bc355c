"""The motion of a rigid world: smooth pieces between events, and a run that answers from them.

A ball on a plane slides (Coulomb's friction against the slip of its lowest point) until it rolls, and rolls as long as
friction can hold it. A blow is an impulse: restitution along the normal; along the tangent as much as stops the slip
there, at most friction times the normal impulse. A blow of two balls that lie on a plane is followed at once by the
plane's own.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from simengine.scene.asks import Ask, Cloud, Series, Tracks
from simengine.scene.base import AbstractRun, Refused, SceneError
from simengine.scene.strict import nearest
from simengine.solve.rotation import rotation_matrix

if TYPE_CHECKING:
    from simengine.worlds.motion.rigid.world import RigidContact, RigidWorld

Array = np.ndarray
TOUCH = 1e-9  # of a radius: as near as a ball that lies on a plane is given
STILL = 1e-9  # m/s of slip that is none
LEAST = 1e-4  # m/s of parting below which a ball stays on its plane
EVENTS = 5000  # in a run, at most


@dataclasses.dataclass(frozen=True)
class RigidRun(AbstractRun):
    """Knots of a motion; two at the moment of an event.

    Attributes:
        world: Whose motion.
        times: (knots,) [s].
        x: Centres (knots, bodies, 3) [m].
        v: Velocities (knots, bodies, 3) [m/s].
        w: Spins (knots, bodies, 3) [rad/s].
        turn: Rotations since the start (knots, bodies, 3, 3).
        events: Time [s] and what happened.
    """

    world: "RigidWorld"
    times: torch.Tensor
    x: torch.Tensor
    v: torch.Tensor
    w: torch.Tensor
    turn: torch.Tensor
    events: tuple[tuple[float, str], ...]

    def holds(self, ask: Ask) -> bool:
        """Whether the run is long enough."""
        times = ask.values if isinstance(ask, Series) else getattr(ask, "times", None)
        return times is None or float(times.detach().max()) <= float(self.times[-1]) + 1e-12

    def _piece(self, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Knot before each time, share of the piece (f, 1), its length (f, 1)."""
        k = (torch.searchsorted(self.times, times.detach().contiguous(), right=True) - 1).clamp(0, len(self.times) - 2)
        h = (self.times[k + 1] - self.times[k]).clamp_min(1e-300)
        return k, ((times - self.times[k]) / h)[:, None], h[:, None]

    def center(self, body: int, times: torch.Tensor) -> torch.Tensor:
        """Centre of a body, (f, 3) [m]: the cubic through places and velocities at both ends of a piece."""
        k, s, h = self._piece(times)
        a, b, va, vb = self.x[k, body], self.x[k + 1, body], self.v[k, body], self.v[k + 1, body]
        return a * (1 - s) ** 2 * (1 + 2 * s) + b * s**2 * (3 - 2 * s) + h * s * (1 - s) * (va * (1 - s) - vb * s)

    def turned(self, body: int, times: torch.Tensor) -> torch.Tensor:
        """Rotations of a body since the start, (f, 3, 3)."""
        k, s, h = self._piece(times)
        return rotation_matrix(s * h * self.w[k, body]) @ self.turn[k, body]

    def sample(self, ask: Ask) -> torch.Tensor:
        """Tracks, the centres as a cloud, and series."""
        if isinstance(ask, Tracks):
            body = self.world.number_of(ask.body)
            center = self.center(body, ask.times)[:, None]
            arm = ask.points - self.x[0, body]
            if bool(ask.points.detach().isnan().all()):
                return center.expand(-1, len(ask.points), -1)
            moved = center + torch.einsum("fij,kj->fki", self.turned(body, ask.times), arm.nan_to_num())
            return torch.where(arm.isnan(), center, moved)
        if isinstance(ask, Cloud):
            bodies = range(len(self.world.bodies)) if ask.body is None else [self.world.number_of(ask.body)]
            return torch.stack([self.center(body, ask.times) for body in bodies], 1)
        if isinstance(ask, Series):
            return self._series(ask)
        raise SceneError(f"a rigid world does not answer {type(ask).__name__}")

    def _series(self, ask: Series) -> torch.Tensor:
        if ask.against != "time":
            raise SceneError(f"a motion is solved in time; it cannot be driven through {ask.against!r}")
        known = self.world.scalars()
        columns = []
        for name in ask.names:
            if name not in known:
                raise SceneError(f"{name!r} is no scalar of this world; {nearest(name, known)}")
            _, body, part, axis = name.split(".")
            k, s, _ = self._piece(ask.values)
            number = self.world.number_of(body)
            if part == "center":
                columns.append(self.center(number, ask.values)[:, int(axis)])
                continue
            table = self.v if part == "velocity" else self.w
            column = table[k, number] * (1 - s) + table[k + 1, number] * s
            columns.append(column[:, int(axis)])
        return torch.stack(columns, -1)


def _cross(a: Array, b: Array) -> Array:
    """The cross product of two vectors; that of NumPy takes ten times as long for one pair."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


@dataclasses.dataclass
class _State:
    """Centres, velocities and spins of the bodies, each (n, 3)."""

    x: Array
    v: Array
    w: Array

    def moved(self, rate: "_State", h: float) -> "_State":
        return _State(self.x + h * rate.x, self.v + h * rate.v, self.w + h * rate.w)


class Mover:
    """The pieces and events of one run."""

    def __init__(self, world: "RigidWorld") -> None:
        self.world = world
        bodies = world.bodies
        self.r = np.array([b.shape.radius for b in bodies])
        self.m = np.array([b.mass for b in bodies])
        self.k = np.array([b.inertia for b in bodies])
        drag = [0.5 * b.drag.density * b.drag.coefficient if b.drag is not None else 0.0 for b in bodies]
        self.drag = np.array(drag) * np.pi * self.r**2 / self.m
        self.g = np.array(world.gravity)
        normals = [np.array(p.normal) / np.linalg.norm(p.normal) for p in world.colliders]
        self.planes = [(np.array(p.point), n, p.name) for p, n in zip(world.colliders, normals, strict=True)]
        self.contacts: dict[tuple[int, int, bool], RigidContact] = {}
        for i, body in enumerate(bodies):
            others = [(j, False, other.name) for j, other in enumerate(bodies) if j > i]
            for j, plane, name in [*others, *((p, True, own.name) for p, own in enumerate(world.colliders))]:
                if (contact := world.between(body.name, name)) is not None:
                    self.contacts[i, j, plane] = contact
        self.on: set[tuple[int, int]] = set()  # body and plane that stay together
        self.ways: dict[tuple[int, int], Array] = {}  # of those that slide
        self.events: list[tuple[float, str]] = []

    def contact(self, a: int, b: int, plane: bool) -> "RigidContact":
        """What happens between a ball and another, or a plane, that it touches."""
        return self.contacts[a, b, plane]

    def start(self) -> _State:
        """At rest on what they touch, or free."""
        bodies = self.world.bodies
        state = _State(*(np.array([getattr(b, name) for b in bodies]) for name in ("velocity", "velocity", "spin")))
        state.x = np.array([b.shape.center for b in bodies])
        for i, body in enumerate(bodies):
            rolls = False
            for p, (_, n, _) in enumerate(self.planes):
                if (i, p, True) not in self.contacts:
                    continue
                if abs(self.plane_gap(state, i, p)) <= TOUCH * self.r[i] and abs(state.v[i] @ n) <= LEAST:
                    if self.g @ n < 0:
                        self.on.add((i, p))
                    if body.rolling:
                        state.w[i], rolls = _cross(n, state.v[i]) / self.r[i], True
            if body.rolling and not rolls:
                raise Refused(
                    f"bodies.{body.name}.rolling: it lies on no plane at the start; move it, or give its spin"
                )
        return state

    def plane_gap(self, s: _State, i: int, p: int) -> float:
        """Between the surface of a ball and a plane [m]."""
        point, n, _ = self.planes[p]
        return float((s.x[i] - point) @ n - self.r[i])

    def slip(self, s: _State, i: int, p: int) -> Array:
        """Velocity of the lowest point of a ball on a plane [m/s]."""
        n = self.planes[p][1]
        v = s.v[i] - self.r[i] * _cross(s.w[i], n)
        return np.asarray(v - (v @ n) * n)

    def rate(self, s: _State) -> _State:
        """Velocities and accelerations."""
        speed = np.linalg.norm(s.v, axis=1, keepdims=True)
        a = self.g - self.drag[:, None] * speed * s.v
        spin = np.zeros_like(a)
        for i, p in self.on:
            n = self.planes[p][1]
            press = -float(a[i] @ n)
            if press <= 0:
                continue
            a[i] = a[i] + press * n
            hold = self.contact(i, p, True).friction * press
            slip, need = self.slip(s, i, p), a[i] - (a[i] @ n) * n
            k = self.k[i]
            way = self.ways.get((i, p))
            if way is None:
                rub = -need * k / (1 + k)
                size = np.linalg.norm(rub)
                rub = rub * min(1.0, hold / size) if size > 0 else rub
            else:
                # past the end of its slip, which ends the piece, friction goes on as before: a piece is smooth
                rub = -hold * (slip / np.linalg.norm(slip) if slip @ way > 0 else way)
            a[i] = a[i] + rub
            spin[i] = spin[i] - _cross(n, rub) / (k * self.r[i])
        return _State(s.v, a, spin)

    def begin(self, s: _State) -> None:
        """Which balls slide in the piece that starts here, and which way."""
        self.ways = {}
        for i, p in self.on:
            slip = self.slip(s, i, p)
            if (size := float(np.linalg.norm(slip))) > STILL:
                self.ways[i, p] = slip / size

    def step(self, s: _State, h: float) -> _State:
        """Runge-Kutta's rule of fourth order."""
        k1 = self.rate(s)
        k2 = self.rate(s.moved(k1, h / 2))
        k3 = self.rate(s.moved(k2, h / 2))
        k4 = self.rate(s.moved(k3, h))
        mean = (
            (getattr(k1, q) + 2 * getattr(k2, q) + 2 * getattr(k3, q) + getattr(k4, q)) / 6 for q in ("x", "v", "w")
        )
        return s.moved(_State(*mean), h)

    def watched(self, s: _State) -> list[tuple[str, int, int, Callable[[_State], float]]]:
        """What must stay above 0 until something happens."""
        found: list[tuple[str, int, int, Callable[[_State], float]]] = []
        count = len(self.r)
        for i in range(count):
            for p in range(len(self.planes)):
                if (i, p, True) not in self.contacts:
                    continue
                if (i, p) not in self.on:
                    found.append(("meets", i, p, lambda q, i=i, p=p: self.plane_gap(q, i, p)))  # type: ignore[misc]
                    continue
                if (i, p) in self.ways and self.contact(i, p, True).friction > 0:
                    way = self.ways[i, p]
                    found.append(("rolls on", i, p, lambda q, i=i, p=p, way=way: float(self.slip(q, i, p) @ way)))  # type: ignore[misc]
            for j in range(i + 1, count):
                if (i, j, False) in self.contacts:
                    found.append(("hits", i, j, lambda q, i=i, j=j: float(self.gap(q, i, j))))  # type: ignore[misc]
        return found

    def gap(self, s: _State, i: int, j: int) -> float:
        """Between the surfaces of two balls [m]."""
        return float(np.linalg.norm(s.x[j] - s.x[i]) - self.r[i] - self.r[j])

    def blow(self, s: _State, i: int, j: int, n: Array, contact: "RigidContact", plane: bool) -> bool:
        """The impulse between a ball and another, or a plane; n points from the other to the ball. Whether they met."""
        ri, inverse = self.r[i], 1 / self.m[i]
        turning = 1 / (self.m[i] * self.k[i])
        u = s.v[i] - ri * _cross(s.w[i], n)
        if not plane:
            u = u - (s.v[j] + self.r[j] * _cross(s.w[j], n))
            inverse += 1 / self.m[j]
            turning += 1 / (self.m[j] * self.k[j])
        approach = -float(u @ n)
        if approach <= 0:
            return False
        restitution = contact.restitution if not plane or contact.restitution * approach > LEAST else 0.0
        normal = (1 + restitution) * approach / inverse
        slip = u + approach * n
        size = float(np.linalg.norm(slip))
        along = min(contact.friction * normal, size / (inverse + turning)) if size > 0 else 0.0
        impulse = normal * n - (along / size * slip if size > 0 else 0.0)
        s.v[i] = s.v[i] + impulse / self.m[i]
        s.w[i] = s.w[i] - _cross(n, impulse) / (self.m[i] * self.k[i] * ri)
        if not plane:
            s.v[j] = s.v[j] - impulse / self.m[j]
            s.w[j] = s.w[j] - _cross(n, impulse) / (self.m[j] * self.k[j] * self.r[j])
        return True

    def happen(self, s: _State, what: str, i: int, j: int) -> _State:
        """The state after an event, and who stays on which plane."""
        s = _State(s.x.copy(), s.v.copy(), s.w.copy())
        if what == "rolls on":
            if np.linalg.norm(self.slip(s, i, j)) > 1e-6:
                return s  # the slip has only turned
            n = self.planes[j][1]
            spin = float(s.w[i] @ n) * n
            s.w[i] = _cross(n, s.v[i]) / self.r[i] + spin
            return s
        if what == "hits":
            n = (s.x[i] - s.x[j]) / np.linalg.norm(s.x[i] - s.x[j])
            self.blow(s, i, j, n, self.contact(i, j, False), False)
        touched = [(i, j)] if what == "meets" else sorted(pair for pair in self.on if pair[0] in (i, j))
        for body, p in touched:
            n = self.planes[p][1]
            self.blow(s, body, p, n, self.contact(body, p, True), True)
            parting = float(s.v[body] @ n)
            if parting <= LEAST and self.g @ n < 0:
                s.v[body] = s.v[body] - parting * n
                self.on.add((body, p))
            else:
                self.on.discard((body, p))
        return s


def overlaps(world: "RigidWorld") -> list[str]:
    """Who lies within another at the start."""
    mover = Mover(world)
    s = mover.start()
    found = []
    for i, body in enumerate(world.bodies):
        for p, plane in enumerate(world.colliders):
            if (i, p, True) in mover.contacts and mover.plane_gap(s, i, p) < -TOUCH * mover.r[i]:
                found.append(f"{body.name}-{plane.name}")
        for j in range(i + 1, len(world.bodies)):
            if (i, j, False) in mover.contacts and mover.gap(s, i, j) < -TOUCH * mover.r[i]:
                found.append(f"{body.name}-{world.bodies[j].name}")
    return found


def move(world: "RigidWorld", duration: float) -> RigidRun:
    """The motion to a time [s].

    Raises:
        Refused: Bodies overlap at the start, or events follow one another without end.
    """
    if inside := overlaps(world):
        raise Refused(f"bodies: {inside[0]} overlap at the start; move one")
    mover = Mover(world)
    s, t = mover.start(), 0.0
    knots = [(t, s)]
    while t < duration - 1e-12:
        h = min(world.step, duration - t)
        mover.begin(s)
        after = mover.step(s, h)
        first, happened = h, None
        for what, i, j, value in mover.watched(s):
            if value(after) >= 0 or (what != "rolls on" and value(s) < -TOUCH):
                continue
            moment = _crossing(mover, s, h, value)
            approaching = value(mover.step(s, moment + 1e-3 * h)) < value(s if moment == 0 else mover.step(s, moment))
            if approaching and moment <= first:
                first, happened = moment, (what, i, j)
        if happened is None:
            t, s = t + h, after
            knots.append((t, s))
            continue
        t, s = t + first, mover.step(s, first)
        knots.append((t, s))
        s = mover.happen(s, *happened)
        knots.append((t, s))
        what, i, j = happened
        other = world.bodies[j].name if what == "hits" else world.colliders[j].name
        mover.events.append((t, f"{world.bodies[i].name} {what} {other}"))
        if len(mover.events) > EVENTS:
            raise Refused(f"events follow one another without end at {t:.6g} s")
    return _run(world, knots, tuple(mover.events))


def _crossing(mover: Mover, s: _State, h: float, value: Callable[[_State], float]) -> float:
    """The moment within a step at which a watched value reaches 0, to the last digits (Illinois)."""
    low, high = 0.0, h
    f_low, f_high = max(value(s), 0.0), value(mover.step(s, h))
    if f_low <= 0:
        return 0.0
    for _ in range(60):
        mid = (low * f_high - high * f_low) / (f_high - f_low)
        f = value(mover.step(s, mid))
        if abs(f) < 1e-15 or high - low < 1e-15 * h:
            return mid
        if f > 0:
            low, f_low, f_high = mid, f, f_high / 2
        else:
            high, f_high, f_low = mid, f, f_low / 2
    return 0.5 * (low + high)


def _run(world: "RigidWorld", knots: list[tuple[float, _State]], events: tuple[tuple[float, str], ...]) -> RigidRun:
    times = torch.tensor([t for t, _ in knots], dtype=torch.float64)
    x, v, w = (torch.from_numpy(np.array([getattr(s, q) for _, s in knots])) for q in ("x", "v", "w"))
    turns = [torch.eye(3, dtype=torch.float64).expand(len(world.bodies), 3, 3)]
    steps = rotation_matrix(times.diff()[:, None, None] * (w[:-1] + w[1:]) / 2)
    for turn in steps:
        turns.append(turn @ turns[-1])
    return RigidRun(world, times, x, v, w, torch.stack(turns), events)
