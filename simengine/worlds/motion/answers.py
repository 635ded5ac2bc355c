"""What a moving world answers: where material points and clouds are, scalars of its bodies over time, and views.

Between two steps a particle moves exactly linearly, x(t) = x' - (t' - t) v' with x', v' after the next step t', so any
time is answered, with its gradient, from the row of the next step. A material point follows the particles around it:
sum of w_i (x_i + F_i (X - X_i)) over the twelve nearest at rest, w a Gaussian of 0.6 spacings made exact for affine
motion.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from simengine.mpm import MPMModel, MPMState, SimulationError
from simengine.scene.address import floats_in, tensors_in
from simengine.scene.asks import Ask, Cloud, Series, Tracks, View
from simengine.scene.base import AbstractRun, Refused, SceneError
from simengine.scene.strict import nearest
from simengine.solve import CheckpointAdjoint
from simengine.worlds.motion import forces
from simengine.worlds.motion.pull.hung import Hung, hung_on, run
from simengine.worlds.motion.start.saved import refuse_clocks
from simengine.worlds.motion.start.sections import edges

if TYPE_CHECKING:
    from simengine.render.skin import Skin
    from simengine.worlds.motion.view import MotionViewer
    from simengine.worlds.motion.world import MPMWorld

NEIGHBOURS, WIDTH = 12, 0.6  # of the interpolation; width in spacings of the particles
ON_BODY = 3**0.5 / 2  # spacings: a point farther from every particle lies off the body
BUDGET = 400e6  # bytes of saved rows up to which every step is kept, so that a clock never asks for another solve
_ROW = 24 * 8  # bytes of x, v, C, F of a particle in float64; 72 more for each Maxwell branch
_ROUNDING = 1e-9  # of a step: a time that is meant to be a multiple of it


@dataclasses.dataclass(frozen=True)
class MotionRun(AbstractRun):
    """Saved steps of a motion.

    Attributes:
        world: Whose motion it is, with floats.
        rest: Particles at t = 0 (n, 3) [m].
        ids: Body of each, (n,).
        hung: Masses of the particles.
        spacing: Of the particles of each body [m].
        steps: Those saved, growing, (rows,).
        x: Positions (rows, n, 3) [m].
        v: Velocities (rows, n, 3) [m/s].
        C: Affine velocities (rows, n, 3, 3) [1/s]; empty where no track was asked for, as F.
        F: Deformation gradients (rows, n, 3, 3).
        skins: Surfaces of the bodies, where a view was asked for.
        states: The same in the coordinates of the lattice, with the rest of the state.
        model: What was solved; None where forces are not asked for.
    """

    world: "MPMWorld"
    rest: torch.Tensor
    ids: torch.Tensor
    hung: Hung
    spacing: tuple[float, ...]
    steps: torch.Tensor
    x: torch.Tensor
    v: torch.Tensor
    C: torch.Tensor
    F: torch.Tensor
    states: MPMState
    model: MPMModel
    skins: "tuple[Skin | None, ...] | None" = None

    @cached_property
    def viewer(self) -> "MotionViewer":
        """Draws its particles."""
        from simengine.worlds.motion.view import MotionViewer, skins_of

        skins = self.skins if self.skins is not None else skins_of(self.world)
        return MotionViewer(self.world, skins, self.ids, self.spacing)

    def holds(self, ask: Ask) -> bool:
        """Whether the steps that the ask needs were saved."""
        if isinstance(ask, Tracks) and not len(self.F):
            return False
        times = times_of(ask)
        if times is None:
            return True
        step, _ = self._step(times.detach())
        if isinstance(ask, Series) and any(forces.is_force(name) for name in ask.names):
            step = torch.cat([step, (step - 1).clamp_min(0)])
        row = torch.searchsorted(self.steps, step)
        return bool((row < len(self.steps)).all()) and bool(
            (self.steps[row.clamp_max(len(self.steps) - 1)] == step).all()
        )

    def sample(self, ask: Ask) -> torch.Tensor:
        """Tracks, clouds, series and views."""
        if isinstance(ask, View):
            from simengine.worlds.motion.view import pictures

            return pictures(self, ask)
        if isinstance(ask, Tracks):
            return self._tracks(ask)
        if isinstance(ask, Cloud):
            row, back = self.rows(ask.times)
            own = self._particles(ask.body)
            return self.x[row][:, own] - back[:, None, None] * self.v[row][:, own]
        if isinstance(ask, Series):
            return self._series(ask)
        raise SceneError(f"a motion does not answer {type(ask).__name__}")

    def _step(self, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The step at or after each time, and how far it lies ahead [s], with the gradient of the time."""
        dt = self.world.grid.time_step
        step = torch.ceil(times.detach() / dt - _ROUNDING).clamp_min(0).to(torch.int64)
        return step, step * dt - times

    def rows(self, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The saved row at or after each time, and how far it lies ahead [s]."""
        step, back = self._step(times)
        return torch.searchsorted(self.steps, step), torch.where(step > 0, back, 0.0)

    def _particles(self, body: str | None) -> torch.Tensor:
        if body is None:
            return torch.arange(len(self.ids))
        names = [b.name for b in self.world.bodies]
        if body not in names:
            raise SceneError(
                f"{body!r} is no body of this world; {nearest(body, [*names, *(c.name for c in self.world.clamps)])}"
            )
        return (self.ids == names.index(body)).nonzero()[:, 0]

    def _tracks(self, ask: Tracks) -> torch.Tensor:
        if any(clamp.name == ask.body for clamp in self.world.clamps):
            return ask.points + self._shift(f"clamps.{ask.body}", ask.times)[:, None]
        own = self._particles(ask.body)
        rest = self.rest[own]
        row, back = self.rows(ask.times)
        back = back[:, None, None]
        distance, nearest_one = torch.cdist(ask.points.detach(), rest).min(1)
        spacing = self.spacing[int(self.ids[own[0]])]
        if bool((distance < 1e-6 * spacing).all()) and not ask.points.requires_grad:
            p = own[nearest_one]  # the points are particles
            at = row[:, None], p
            return self.x[at] - back * self.v[at]
        # a mark off the surface is an arm on the place below it, half a cell's diagonal from the nearest particle
        arm = ask.points.detach() - rest[nearest_one]
        length = arm.norm(dim=1, keepdim=True).clamp_min(1e-30)
        place = ask.points - arm * (1 - ON_BODY * spacing / length).clamp_min(0.0)
        near = torch.cdist(place.detach(), rest).topk(min(NEIGHBOURS, len(own)), largest=False).indices  # (k, 12)
        away, offset = rest[near] - place[:, None], ask.points[:, None] - rest[near]
        basis = torch.cat([torch.ones_like(away[..., :1]), away / spacing], -1)
        w = torch.exp(-(away / (WIDTH * spacing)).square().sum(-1))
        gram = torch.einsum("kna,kn,knb->kab", basis, w, basis)
        # in a flat or thin neighbourhood the first moment stays; the arms make it exact for affine motion all the same
        gram = gram + 1e-8 * gram[:, :1, :1] * torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=gram.dtype).diag()
        first = torch.zeros(len(w), 4, 1, dtype=w.dtype)
        first[:, 0] = 1.0
        w = w * torch.einsum("kna,ka->kn", basis, torch.linalg.solve(gram, first)[..., 0])
        w = w / w.sum(1, keepdim=True)
        p = own[near]
        total: torch.Tensor | None = None
        for q in range(p.shape[1]):  # one neighbour at a time, for memory
            i = p[:, q]
            at = row[:, None], i  # of each frame those particles alone
            arm = self.F[at] @ offset[:, q, :, None]
            x = self.x[at] + arm[..., 0] - back * (self.v[at] + (self.C[at] @ arm)[..., 0])
            term = w[:, q, None] * x
            total = term if total is None else total + term
        assert total is not None
        return total

    def _series(self, ask: Series) -> torch.Tensor:
        if ask.against != "time":
            raise SceneError(f"a motion is solved in time; it cannot be driven through {ask.against!r}")
        row, back = self.rows(ask.values)
        known = self.world.scalars()
        columns = []
        for name in ask.names:
            if name not in known:
                raise SceneError(f"{name!r} is no scalar of this world; {nearest(name, known)}")
            if forces.is_shift(name):
                support, _, axis = name.rpartition(".shift.")
                columns.append(self._shift(support, ask.values)[:, int(axis)])
                continue
            value = self._scalar(name, row, back)
            if self.world.grid.section == "plane_strain" and (name.startswith("energy") or forces.is_force(name)):
                value = value / self.world.grid.depth  # of a metre across
            columns.append(value)
        return torch.stack(columns, -1)

    def _shift(self, support: str, times: torch.Tensor) -> torch.Tensor:
        """How far a collider or clamp stands from its place, (times, 3) [m]; before t = 0 it stands."""
        body = self.model.bodies[forces.bodies_of(self.world).index(support)]
        return body.shift(times.clamp_min(0.0))

    def _force(self, name: str, row: torch.Tensor) -> torch.Tensor:
        """The force of matter on a support over the step that leads to each row, (rows,) [N]."""
        number, axis = forces.number_of(self.world, name)
        still = self.world.grid.integrator == "quasistatic"
        found: dict[int, torch.Tensor] = {}
        for step in self.steps[row].tolist():
            start = step if still else max(step - 1, 0)
            if start not in found:
                held = int(torch.searchsorted(self.steps, start))
                faces = self.world.walls.numbers(flat=self.world.grid.flat)
                cells = self.world.grid.volume == "cells"
                solver = self.world.solver(self.model)
                whole = forces.forces(solver, self.states, held, start, self.hung, faces, still=still, cells=cells)
                found[start] = whole[number, axis]
        return torch.stack([found[step if still else max(step - 1, 0)] for step in self.steps[row].tolist()])

    def _masses(self, row: torch.Tensor) -> torch.Tensor:
        """Of the particles in saved rows, (rows, n), or (n,) where none comes late."""
        if not self.hung.late:
            return self.hung.own
        return torch.stack([self.hung.at(max(step - 1, 0)) for step in self.steps[row].tolist()])

    def _scalar(self, name: str, row: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        if name == "energy.kinetic":
            return 0.5 * (self._masses(row)[..., None] * self.v[row].square()).sum((1, 2))
        if forces.is_force(name):
            return self._force(name, row)
        _, body, what, axis = name.split(".")
        own, k = self._particles(body), int(axis)
        x = self.x[row][:, own, k] - back[:, None] * self.v[row][:, own, k]
        mass = self._masses(row)[..., own]
        if what == "center":
            return (x * mass).sum(1) / mass.sum(-1)
        if what == "velocity":
            return (self.v[row][:, own, k] * mass).sum(1) / mass.sum(-1)
        half = 0.5 * self.spacing[int(self.ids[own[0]])]  # matter reaches half a spacing beyond the outermost particle
        return x.max(1).values + half if what == "upper" else x.min(1).values - half


def times_of(ask: Ask) -> torch.Tensor | None:
    """The times that an ask names."""
    if isinstance(ask, View) and ask.times is not None and ask.place_times is not None:
        return torch.cat([ask.times, ask.place_times])
    if isinstance(ask, Tracks | Cloud | View):
        return ask.times
    return ask.values if isinstance(ask, Series) and ask.against == "time" else None


def last_step(world: "MPMWorld", asks: Sequence[Ask]) -> int:
    """The last step that the asks need.

    Raises:
        SceneError: A time lies beyond the run.
    """
    dt, latest = world.grid.time_step, 0.0
    for ask in asks:
        times = times_of(ask)
        if times is not None and len(times):
            latest = max(latest, float(times.detach().max()))
    steps = math.ceil(latest / dt - _ROUNDING)
    if steps > world.grid.num_steps:
        raise SceneError(
            f"grid.num_steps: the run ends at {world.grid.num_steps * dt:.4g} s, and {latest:.4g} s is asked for; "
            f"raise num_steps to {steps}, or cut the observation by `within`"
        )
    return max(steps, 1)


def solve(world: "MPMWorld", asks: Sequence[Ask], *, gradient: bool, device: str | None) -> MotionRun:
    """Simulate and save what the asks need.

    Raises:
        Refused: A time, such as that of a clock which is sought, lies beyond the run, or the motion ends in a particle
            off the grid or a field that is not finite.
    """
    try:
        steps = last_step(world, asks)
    except SceneError as error:
        raise Refused(str(error)) from None
    held = tensors_in(world)
    plain = floats_in(world) if held else world
    if plain.state is not None:
        refuse_clocks(plain)
    rest, volume, ids = (torch.as_tensor(array) for array in plain.particles())
    saved = _saved_steps(world, asks, steps, len(rest), gradient=gradient)
    try:
        model, state = plain.build(device=device or "cpu", double=True, values=held)
        hung = hung_on(plain, held)
        states = run(plain.solver(model), hung, state, saved, CheckpointAdjoint())
    except (SimulationError, SceneError) as error:
        raise Refused(str(error)) from None
    origin = torch.as_tensor(plain.lattice_box()[0]).to(states.x)
    edge = edges(plain, rest, volume)
    spacing = tuple(
        float(edge[ids == k].mean()) if bool((ids == k).any()) else plain.grid.dx for k in range(len(plain.bodies))
    )
    tracked = any(isinstance(ask, Tracks) for ask in asks)  # C and F are three quarters of a row
    return MotionRun(
        world=plain,
        rest=rest.double(),
        ids=ids,
        hung=hung,
        spacing=spacing,
        steps=torch.tensor(saved),
        x=states.x + origin if bool(origin.any()) else states.x,
        v=states.v,
        C=states.C if tracked else states.C[:0].clone(),
        F=states.F if tracked else states.F[:0].clone(),
        states=states,
        model=model,
        skins=plain.skins,
    )


def _saved_steps(world: "MPMWorld", asks: Sequence[Ask], steps: int, n: int, *, gradient: bool) -> tuple[int, ...]:
    branches = max(
        len(getattr(body.material, "relaxation", None) or ()) + (getattr(body.material, "damping", None) is not None)
        for body in world.bodies
    )
    if not gradient and (steps + 1) * n * (_ROW + 72 * branches) <= BUDGET:
        return tuple(range(steps + 1))
    dt, needed = world.grid.time_step, {0, steps}
    for ask in asks:
        times = times_of(ask)
        if times is not None:
            at = torch.ceil(times.detach() / dt - _ROUNDING).to(torch.int64)
            for offset in (-1, 0, 1):  # the steps beside it: a difference in the clock costs no solve
                needed.update((at + offset).clamp(0, steps).tolist())
    return tuple(sorted(needed))


def scalars(world: "MPMWorld") -> Mapping[str, str]:
    """Scalars of a motion and their units."""
    found = {"energy.kinetic": "J"}
    for body in world.bodies:
        for axis in range(3):
            for what, unit in (("center", "m"), ("velocity", "m/s"), ("upper", "m"), ("lower", "m")):
                found[f"bodies.{body.name}.{what}.{axis}"] = unit
    return {**found, **forces.scalars(world)}


def sizes(world: "MPMWorld") -> Mapping[str, float]:
    """Typical sizes of a motion."""
    x = world.particles()[0]
    length = float((x.max(0) - x.min(0)).max())
    duration = world.grid.num_steps * world.grid.time_step
    fall = math.sqrt(sum(g * g for g in world.gravity) * length)
    speed = max([fall, *(math.sqrt(sum(v * v for v in body.velocity)) for body in world.bodies)]) or length / duration
    return {"m": length, "s": duration, "m/s": speed, "rad/s": speed / length, "m/s^2": 9.8, "rad": 0.1, "1": 1.0}
