"""Scenes of moving bodies: grid, walls, bodies of particles, camera."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from simengine.scene.asks import Ask, Cloud, Series, Tracks, View
from simengine.scene.base import AbstractRun, AbstractWorld, SceneError
from simengine.scene.strict import Vector, nearest
from simengine.worlds.motion.between import Touch, contact_of, refuse_overlaps, refuse_wrong
from simengine.worlds.motion.colliders import ColliderSpec
from simengine.worlds.motion.maps import box_of, cells_of, coefficients_of, slices
from simengine.worlds.motion.pull.loads import LoadSpec, loads_of
from simengine.worlds.motion.pull.tilt import TiltSpec
from simengine.worlds.motion.shapes import Laid, Lattice, fill, finer, turned
from simengine.worlds.motion.specs import PERIOD, BodySpec, CameraSpec, GridSpec, OutputSpec, ReleaseSpec
from simengine.worlds.motion.start import sections
from simengine.worlds.motion.start.saved import resumed
from simengine.worlds.motion.supports import ClampSpec, holder, offsets
from simengine.worlds.motion.walls import WallSpec, refuse_beyond

if TYPE_CHECKING:
    import torch

    from simengine.mpm import ImplicitSolver, MPMModel, MPMSolver, MPMState

    Values = Mapping[str, torch.Tensor]

CFL_WARN, CFL_REFUSE = 0.8, 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MPMWorld(AbstractWorld):
    """Bodies of particles that move, deform, flow and touch.

    Attributes:
        grid: Grid and time.
        gravity: Acceleration of everything [m/s^2].
        tilt: How gravity changes with time.
        release: What a hand under the bodies bears of their weight until it lets go.
        start: `given`, undeformed, or `equilibrium`, at rest under gravity with what hangs on them from the start.
        state: The last_state.npz of a run of these bodies, from which they go on in place of their start.
        walls: Of the domain.
        colliders: Rigid bodies that the others touch.
        clamps: Parts of bodies that are held, or moved.
        loads: Masses that hang on parts of bodies, forces and pressures that act on them.
        bodies: What moves.
        contact: "NAME-NAME" -> what happens between two bodies; `*` is any, the nearer name wins. Those without share
            one velocity field: they stick to each other where they come within a cell.
        output: What a run writes.
        camera: Of the pictures.
    """

    kind: ClassVar[str] = "mpm"
    devices: ClassVar[tuple[str, ...]] = ("cuda", "cpu")
    answers: ClassVar[frozenset[type[Ask]]] = frozenset((Tracks, Cloud, Series, View))
    fit_devices: ClassVar[tuple[str, ...]] = ("cpu",)
    grid: GridSpec = dataclasses.field(default_factory=GridSpec)
    gravity: Vector = (0.0, -9.8, 0.0)
    tilt: TiltSpec = dataclasses.field(default_factory=TiltSpec)
    release: ReleaseSpec = dataclasses.field(default_factory=ReleaseSpec)
    start: Literal["given", "equilibrium"] = "given"
    state: Path | None = None
    walls: WallSpec = dataclasses.field(default_factory=WallSpec)
    colliders: tuple[ColliderSpec, ...] = ()
    clamps: tuple[ClampSpec, ...] = ()
    loads: tuple[LoadSpec, ...] = ()
    bodies: tuple[BodySpec, ...]
    contact: dict[str, Touch] = dataclasses.field(default_factory=dict, hash=False)
    output: OutputSpec = dataclasses.field(default_factory=OutputSpec)
    camera: CameraSpec = dataclasses.field(default_factory=CameraSpec)
    lattice: Lattice | None = dataclasses.field(default=None, metadata={"internal": True}, compare=False, repr=False)
    skins: Any = dataclasses.field(default=None, metadata={"internal": True}, compare=False, repr=False)
    maps: tuple[tuple[str, tuple[int, int, int]], ...] = dataclasses.field(default=(), metadata={"internal": True})

    def __post_init__(self) -> None:
        if not self.bodies:
            raise ValueError("bodies: a scene needs at least one [[bodies]]")
        refuse_wrong(self.contact, [body.name for body in self.bodies])
        if self.grid.num_steps % self.output.save_every:
            raise ValueError(
                f"output.save_every: {self.output.save_every} does not divide grid.num_steps = {self.grid.num_steps}"
            )
        if self.grid.lower is None and self.clamps:
            raise ValueError("clamps: they need grid.lower, upper and spacing in place of num_grids and length")
        sections.refuse(self)
        names = [clamp.name for clamp in self.clamps] + [body.name for body in self.bodies]
        if twice := [name for name in names if names.count(name) > 1 and name in [c.name for c in self.clamps]]:
            raise ValueError(f"clamps: the name {twice[0]!r} is taken; choose another")
        held = {clamp.on or self.bodies[0].name for clamp in self.clamps}
        if lying := [body.name for body in self.bodies if any(body.turn) and body.name in held]:
            raise ValueError(f"clamps: the body {lying[0]!r} is turned, and what a clamp holds lies along the axes")

    def lattice_box(self) -> tuple[np.ndarray, tuple[int, int, int]]:
        """Where node 0 of the internal lattice lies [m], (3,), and its nodes per axis."""
        n, margin = self.grid.num_grids, self.walls.bound - 1
        if self.grid.lower is None or self.grid.upper is None:
            return np.zeros(3), (n, n, n)
        lower, upper, h = np.array(self.grid.lower), np.array(self.grid.upper), self.grid.dx
        cells = np.round((upper - lower) / h).astype(int)
        if self.walls.kind == "periodic":
            return lower, (int(cells[0]), int(cells[1]), PERIOD if self.grid.flat else int(cells[2]))
        moved = np.array(offsets(self))
        a, b, c = (int(k) for k in cells + 2 * margin + (moved > 0))
        origin = lower - (margin + moved) * h
        if self.grid.flat:
            origin[2], c = lower[2] - self.grid.depth / 2 * self.grid.turns, PERIOD
        return origin, (a, b, c)

    def particles(self) -> tuple[Any, Any, Any]:
        """Positions (n, 3) [m], volumes (n,) [m^3] and body index (n,) of all bodies.

        Raises:
            SceneError: A body holds no particle or reaches into a wall.
        """
        positions, volumes, ids = self.unturned()
        for index, body in enumerate(self.bodies):
            if any(body.turn):
                own = ids == index
                positions[own] = turned(positions[own], body.shape, body.turn)
        if self.lattice is None:  # on the way of a fit a body may come close to a wall, or to another
            refuse_beyond(*self.room(), positions, ids)
            refuse_overlaps(self.contact, self.bodies, positions, volumes, ids)
        return positions, volumes, ids

    def shapes(self) -> tuple[Laid, ...]:
        """What the particles of each body fill, as it lies without its `turn`."""
        return sections.shapes(self)

    def unturned(self) -> tuple[Any, Any, Any]:
        """The same with every body as its shape lies, without its `turn`."""
        return sections.whole(*self._laid()) if self.grid.turns else self._laid()

    def _laid(self) -> tuple[Any, Any, Any]:
        """What fills `shapes`."""
        if self.lattice is not None:
            return self.lattice.moved(self.shapes())
        positions, volumes, ids = [], [], []
        for index, (body, shape) in enumerate(zip(self.bodies, self.shapes(), strict=True)):
            try:
                x, volume = fill(shape, self.grid.dx / body.particles_per_cell)
            except ValueError as error:
                raise SceneError(f"bodies.{index}.shape: {error}") from error
            positions.append(x)
            volumes.append(volume)
            ids.append(np.full(len(x), index))
        return np.concatenate(positions), np.concatenate(volumes), np.concatenate(ids)

    def room(self) -> tuple[np.ndarray, np.ndarray]:
        """The corners of the room between the walls [m], (3,) each."""
        if self.grid.lower is not None:
            low, high = np.array(self.grid.lower), np.array(self.grid.upper)
            high[2] += self.grid.depth * self.grid.flat
            for corner in (low, high):
                corner[2] -= self.grid.depth / 2 * self.grid.turns
            return low, high
        low = np.full(3, (self.walls.bound - 1) * self.grid.dx)
        return low, self.grid.length - low

    def build(
        self, *, device: str | None = None, double: bool = False, values: "Values | None" = None
    ) -> "tuple[MPMModel, MPMState]":
        """Model and initial state.

        Args:
            device: Torch device; None for the best available.
            double: float64 instead of float32.
            values: Tensors in place of numbers of this scene, by dotted key, as in `bodies.0.material.E` or
                `bodies.0.velocity.1`; gradients pass through them.

        Raises:
            SceneError: A body does not fit, or a key names nothing that can vary.
        """
        import torch

        from simengine.mpm import MPMModel, MPMState, Walls
        from simengine.worlds.motion.pull.hung import hung_on

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        values = dict(values or {})
        if odd := sorted(set(values) - set(self.variables())):
            raise SceneError(f"values: {odd[0]!r} is no number that can vary; {nearest(odd[0], self.variables())}")

        def vector(key: str, start: Vector) -> torch.Tensor:
            parts = [values.get(f"{key}.{k}", torch.tensor(start[k], dtype=torch.float64)) for k in range(3)]
            return torch.stack([part.to(torch.float64).cpu() for part in parts])

        def below(start: str) -> "Values":
            return {key.removeprefix(start): value for key, value in values.items() if key.startswith(start)}

        x, volume, ids = (torch.as_tensor(array) for array in self.particles())
        edge = sections.edges(self, x, volume)
        mass, velocities, materials = hung_on(self, values).at(0), torch.zeros_like(x), []
        for index, body in enumerate(self.bodies):
            own, key = ids == index, f"bodies.{index}"
            given = coefficients_of(self, index, below(f"{key}.material."))
            try:
                materials.append(body.material.make(given, dt=self.grid.time_step))
            except SceneError as error:
                raise type(error)(f"bodies.{body.name or index}.{error}") from None
            arm = x - x[own].mean(0)
            spin = vector(f"{key}.angular_velocity", body.angular_velocity).expand_as(arm)
            motion = vector(f"{key}.velocity", body.velocity) + torch.linalg.cross(spin, arm)
            velocities = torch.where(own[:, None], motion, velocities)
        friction = values.get("walls.friction", self.walls.friction)
        boundaries: list[Any] = [
            Walls(self.walls.on_nodes(flat=self.grid.flat), friction=friction, thickness=self.walls.bound)
        ]
        origin, size = self.lattice_box()
        for index, collider in enumerate(self.colliders):
            try:
                boundaries.append(collider.make(below(f"colliders.{index}."), origin=tuple(origin.tolist())))
            except ValueError as error:
                raise SceneError(f"colliders.{index}: {error}") from error
        for index in range(len(self.clamps)):
            try:
                boundaries.append(holder(self, index, origin, below(f"clamps.{index}.")))
            except ValueError as error:
                raise error if isinstance(error, SceneError) else SceneError(f"clamps.{index}: {error}") from error
        low, high = (corner - origin for corner in self.room())
        boundaries += self.walls.planes(low, high, friction, flat=self.grid.flat).values()
        boundaries += loads_of(self, values, materials)
        try:
            model = MPMModel(
                num_grids=size,
                dt=self.grid.time_step,
                materials=materials,
                volume=volume,
                mass=mass,
                material_ids=ids,
                length=self.grid.dx * size[0] if self.grid.lower is not None else self.grid.length,
                gravity=self.tilt.make(self.gravity, below("tilt.")),
                release=torch.stack(
                    [
                        torch.as_tensor(values.get(f"release.{name}", own), dtype=torch.float64).cpu()
                        for name, own in vars(self.release).items()
                    ]
                ),
                boundaries=boundaries,
                contact=contact_of(
                    self.contact,
                    [body.name for body in self.bodies],
                    torch.bincount(ids, minlength=len(self.bodies)).tolist(),
                    {
                        key: values[f"contact.{key}.friction"]
                        for key in self.contact
                        if f"contact.{key}.friction" in values
                    },
                ),
                epsilon=self.grid.epsilon,
            )
            if self.grid.turns:
                model.set_edge(edge)
            model = model.to(device)
        except ValueError as error:
            raise error if isinstance(error, SceneError) else SceneError(f"grid: {error}") from error
        like = torch.zeros((), dtype=torch.float64 if double else torch.float32, device=device)
        place = x - torch.as_tensor(origin)
        for index in range(len(self.colliders)):
            deep = model.bodies[index].distance(place, self.grid.dx) < -edge
            if bool(deep.any()):
                name = self.bodies[int(ids[deep][0])].name
                raise SceneError(
                    f"colliders.{index}: {int(deep.sum())} particles of {name!r} begin more than a particle deep in it "
                    "and would be thrown out; move one of them"
                )
        if self.state is not None:
            kept = resumed(self, model).to(like.device)
            return model, kept if self.grid.integrator != "explicit" else kept.to(like.dtype)  # others keep float64
        if self.start == "equilibrium":
            from simengine.mpm.equilibrium import at_rest

            if like.dtype != torch.float64 or like.is_cuda:
                return model, self.build(device="cpu", double=True, values=values)[1].to(like.dtype).to(like.device)
            try:
                rest = MPMState.at_rest(place, velocities, branches=model.branches)
                return model, at_rest(model, rest, cells=self.grid.volume == "cells")
            except ValueError as error:
                raise SceneError(f"start: {error}") from error
        return model, MPMState.at_rest(place.to(like), velocities.to(like), branches=model.branches)

    def solver(self, model: "MPMModel") -> "MPMSolver | ImplicitSolver":
        """What makes the steps.

        Raises:
            SceneError: The steps cannot be those of `grid.integrator`.
        """
        from simengine.mpm import AxisymmetricSolver, ImplicitSolver, MPMSolver

        kind = self.grid.integrator
        if kind == "explicit":
            return AxisymmetricSolver(model, -float(self.lattice_box()[0][0])) if self.grid.turns else MPMSolver(model)
        try:
            return ImplicitSolver(model, kind, cells=self.grid.volume == "cells")
        except ValueError as error:
            raise SceneError(f"grid.integrator: {error}") from error

    def variables(self) -> dict[str, float]:
        """Every number of this scene that `build` can take as a tensor, by dotted key."""
        found: dict[str, float] = {"walls.friction": self.walls.friction}
        found.update({f"release.{name}": value for name, value in vars(self.release).items()})
        for index, collider in enumerate(self.colliders):
            found.update({f"colliders.{index}.{name}": value for name, value in collider.variables().items()})
        found.update({f"tilt.{name}": value for name, value in self.tilt.variables().items()})
        for index, load in enumerate(self.loads):
            found.update({f"loads.{index}.{name}": value for name, value in load.variables().items()})
        for index, clamp in enumerate(self.clamps):
            found.update({f"clamps.{index}.{name}": value for name, value in clamp.variables().items()})
        found.update({f"contact.{key}.friction": touch.friction for key, touch in self.contact.items()})
        for index, body in enumerate(self.bodies):
            for name, value in body.material.variables().items():
                found[f"bodies.{index}.material.{name}"] = value
            for name in ("velocity", "angular_velocity"):
                found.update({f"bodies.{index}.{name}.{k}": value for k, value in enumerate(getattr(body, name))})
        return {key: value for key, value in found.items() if sections.varies(self, key)}

    def prepare(self, asks: Sequence[Ask]) -> "MPMWorld":
        """The world with particles made and surfaces bound once; shapes that change move and stretch them."""
        from simengine.worlds.motion.answers import last_step

        last_step(self, asks)
        made = self
        if made.lattice is None:
            self.particles()  # refuses what reaches into a wall
            lattice = Lattice(*self._laid(), self.shapes())
            made = dataclasses.replace(made, lattice=lattice)
        if made.skins is None and any(isinstance(ask, View) for ask in asks):
            from simengine.worlds.motion.view import skins_of

            made = dataclasses.replace(made, skins=skins_of(made))
        return made

    def solve(
        self,
        asks: Sequence[Ask],
        *,
        gradient: bool = False,
        near: AbstractRun | None = None,
        device: str | None = None,
    ) -> AbstractRun:
        """Simulate in float64 and save the steps that the asks need."""
        from simengine.worlds.motion.answers import solve

        return solve(self, asks, gradient=gradient, device=device)

    def traced(self) -> frozenset[str]:
        """What `build` takes as tensors."""
        return frozenset(self.variables())

    def over_body(self, key: str) -> "MPMWorld":
        """A coefficient of a body's law as a field over the body."""
        return dataclasses.replace(self, maps=(*self.maps, (key, cells_of(self, key))))

    def fields(self) -> Mapping[str, tuple[int, ...]]:
        """Those of `over_body`."""
        return dict(self.maps)

    def extent(self, key: str) -> tuple[tuple[float, float], ...]:
        """The box of the body."""
        return box_of(self, key)

    def figures(self, key: str, field: "torch.Tensor") -> "dict[str, torch.Tensor]":
        """Cuts across z, x to the right and y up."""
        return slices(self, key, field)

    def undeformed(self) -> "MPMWorld":
        """Before gravity acts, where it starts at rest under it."""
        return self if self.start == "given" else dataclasses.replace(self, start="given")

    def scalars(self) -> Mapping[str, str]:
        """Centres, extents and velocities of the bodies, and the kinetic energy."""
        from simengine.worlds.motion.answers import scalars

        return scalars(self)

    def sizes(self) -> Mapping[str, float]:
        """Of the bodies and the run."""
        from simengine.worlds.motion.answers import sizes

        return sizes(self)

    def refined(self, factor: float) -> "MPMWorld":
        """Cells, particles per axis and steps in a second, each times `factor`; up to a frame longer."""
        every = max(1, round(self.output.save_every * factor))
        grid = dataclasses.replace(
            self.grid,
            num_grids=20 if self.grid.spacing else round(self.grid.num_grids * factor),
            spacing=self.grid.spacing and self.grid.spacing / factor,
            time_step=self.grid.time_step / factor,
            num_steps=math.ceil(self.grid.num_steps * factor / every - 1e-6) * every,
        )
        walls = dataclasses.replace(self.walls, bound=max(2, round((self.walls.bound - 1) * factor) + 1))
        output = dataclasses.replace(self.output, save_every=every)
        bodies = tuple(dataclasses.replace(body, shape=finer(body.shape, factor)) for body in self.bodies)
        return dataclasses.replace(self, grid=grid, walls=walls, bodies=bodies, output=output, lattice=None, skins=None)

    def before(self, model: "MPMModel", state: "MPMState", step: int) -> None:
        """Called before the steps from one saved state to the next: where a kind of scene changes its model."""
