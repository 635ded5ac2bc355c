"""Scenes of moving bodies: grid, walls, bodies of particles, camera, and what to fit."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np

from simengine.scene.asks import Ask, Cloud, Series, Tracks, View
from simengine.scene.base import AbstractRun, AbstractScene, SceneError
from simengine.scene.strict import Count, NonNegative, Positive, Range, Vector
from simengine.worlds.motion.colliders import ColliderSpec
from simengine.worlds.motion.materials import MaterialSpec
from simengine.worlds.motion.shapes import Lattice, Shape, fill, finer

if TYPE_CHECKING:
    import torch

    from simengine.mpm import MPMModel, MPMState

    Values = Mapping[str, torch.Tensor]

CFL_WARN, CFL_REFUSE = 0.8, 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridSpec:
    """Grid and time.

    Attributes:
        num_grids: Nodes per axis.
        length: Edge of the cubic domain [m].
        time_step: dt [s].
        num_steps: Steps of a run.
        epsilon: Added to nodal masses [kg], to repeat programs that do so; at most 1e-5 of the lightest particle.
    """

    num_grids: Annotated[int, Range(ge=8, le=1024)] = 20
    length: Positive = 1.0
    time_step: Positive = 5e-4
    num_steps: Count = 1000
    epsilon: NonNegative = 0.0

    @property
    def dx(self) -> float:
        """Node spacing [m]."""
        return self.length / self.num_grids


@dataclasses.dataclass(frozen=True, kw_only=True)
class WallSpec:
    """The six walls of the domain.

    Attributes:
        kind: slip, sticky, friction or periodic.
        bound: Their thickness in cells.
        friction: Coulomb coefficient [1].
    """

    kind: Literal["slip", "sticky", "friction", "periodic"] = "slip"
    bound: Annotated[int, Range(ge=2, le=64)] = 3
    friction: NonNegative = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class BodySpec:
    """A body of one material.

    Attributes:
        name: For messages and pictures.
        shape: What the particles fill.
        particles_per_cell: Along each axis, for shapes filled by a lattice.
        material: What it is made of.
        velocity: Of its centre [m/s].
        angular_velocity: About its centre [rad/s].
        color: Linear RGB [1].
    """

    name: str = "body"
    shape: Shape
    particles_per_cell: Annotated[int, Range(ge=1, le=8)] = 2
    material: MaterialSpec
    velocity: Vector = (0.0, 0.0, 0.0)
    angular_velocity: Vector = (0.0, 0.0, 0.0)
    color: Annotated[Vector, Range(ge=0, le=1)] = (0.15, 0.35, 0.75)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """What a run writes.

    Attributes:
        save_every: Steps between saved states.
        video: Whether to render a video.
        fps: Its frames per second [1/s].
        formats: Of the states, beside states.npz.
    """

    save_every: Count = 10
    video: bool = True
    fps: Positive = 25.0
    formats: tuple[Literal["ply", "vtp"], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class CameraSpec:
    """A pinhole camera.

    Attributes:
        eye: Its position [m].
        target: Where it looks [m].
        up: What is up in the picture [1].
        field_of_view: Vertical [degrees].
        width: Pixels in a row.
        height: Rows.
    """

    eye: Vector = (1.3, 1.0, 1.9)
    target: Vector = (0.5, 0.35, 0.5)
    up: Vector = (0.0, 1.0, 0.0)
    field_of_view: Annotated[float, Range(gt=0, lt=180)] = 38.0
    width: Annotated[int, Range(ge=16, le=8192)] = 320
    height: Annotated[int, Range(ge=16, le=8192)] = 320


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParameterSpec:
    """A parameter sought; see `simengine.fit.Parameter`.

    Attributes:
        initial: Where the search starts [unit of the key].
        lower: Least value; the bounds of the scene's key where it is left out [unit of the key].
        upper: Greatest value; the bounds of the scene's key where it is left out [unit of the key].
        scale: A typical change [unit of the key].
    """

    initial: float
    lower: float | None = None
    upper: float | None = None
    scale: Positive | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherMotion:
    """A further observed motion of the same materials.

    Attributes:
        observations: As of the fit.
        values: What differs from the scene, by dotted key, as in `"bodies.0.velocity.0" = 2.0` [unit of the key].
    """

    observations: Path
    values: dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MPMFitSpec:
    """What to find, from which observations.

    Attributes:
        observations: An .npz with `x` (frames, n, 3) [m] and `time` (frames,) [s].
        parameters: Dotted key of a number in this scene -> where its search starts.
        objective: What is compared: `positions` particle by particle, the `center_of_mass` of all of them, or the
            `distribution` of positions where the particles of the observation are not those of the scene, but as many,
            or a random sample of the whole body, inside and out: not markers, nor the scan of a surface. In a scene
            that is a Python script also the name of a function there: of positions (frames, n, 3) [m], what is to
            agree, a tensor with one row per frame.
        method: least_squares (few parameters, with uncertainty), adam or lbfgs (through the adjoint).
        iterations: At most so many.
        learning_rate: Of adam and lbfgs [1].
        start: `given` searches from the initial values; `momentum_balance` first lets the laws explain the observed
            accelerations, which finds the way from far off (positions particle by particle only).
        others: Further motions, all fitted together.
        stages: Growing parts of the motion to fit one after another, as fractions; the last is 1 [1].
        truth: Known values, only to be told beside the estimates [unit of the key].
    """

    observations: Path
    parameters: dict[str, ParameterSpec]
    objective: str = "positions"
    method: Literal["least_squares", "adam", "lbfgs"] = "least_squares"
    iterations: Count = 40
    learning_rate: Positive = 0.1
    start: Literal["given", "momentum_balance"] = "given"
    others: tuple[OtherMotion, ...] = ()
    stages: tuple[Annotated[float, Range(gt=0, le=1)], ...] = (1.0,)
    truth: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.parameters:
            raise ValueError('parameters: name at least one, as in [fit.parameters."bodies.0.material.E"]')
        if self.start == "momentum_balance" and self.objective != "positions":
            raise ValueError(f'start: "momentum_balance" needs objective = "positions", got {self.objective!r}')
        if not self.stages or self.stages[-1] != 1.0 or list(self.stages) != sorted(set(self.stages)):
            raise ValueError(f"stages: expected growing fractions that end with 1.0, got {list(self.stages)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MPMScene(AbstractScene):
    """Bodies of particles that move, deform, flow and touch.

    Attributes:
        grid: Grid and time.
        gravity: Acceleration of everything [m/s^2].
        walls: Of the domain.
        colliders: Rigid bodies that the others touch.
        bodies: What moves.
        output: What a run writes.
        camera: Of the pictures.
        fit: What to find, in the old form; `observations` and `unknowns` take its place.
    """

    kind: ClassVar[str] = "mpm"
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    answers: ClassVar[frozenset[type[Ask]]] = frozenset((Tracks, Cloud, Series, View))
    fit_devices: ClassVar[tuple[str, ...]] = ("cpu",)
    grid: GridSpec = dataclasses.field(default_factory=GridSpec)
    gravity: Vector = (0.0, -9.8, 0.0)
    walls: WallSpec = dataclasses.field(default_factory=WallSpec)
    colliders: tuple[ColliderSpec, ...] = ()
    bodies: tuple[BodySpec, ...]
    output: OutputSpec = dataclasses.field(default_factory=OutputSpec)
    camera: CameraSpec = dataclasses.field(default_factory=CameraSpec)
    fit: MPMFitSpec | None = None
    lattice: Lattice | None = dataclasses.field(default=None, metadata={"internal": True}, compare=False, repr=False)
    skins: Any = dataclasses.field(default=None, metadata={"internal": True}, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.bodies:
            raise ValueError("bodies: a scene needs at least one [[bodies]]")
        if self.grid.num_steps % self.output.save_every:
            raise ValueError(
                f"output.save_every: {self.output.save_every} does not divide grid.num_steps = {self.grid.num_steps}"
            )

    def particles(self) -> tuple[Any, Any, Any]:
        """Positions (n, 3) [m], volumes (n,) [m^3] and body index (n,) of all bodies.

        Raises:
            SceneError: A body holds no particle or reaches into a wall.
        """
        if self.lattice is not None:
            return self.lattice.moved(tuple(body.shape for body in self.bodies))
        positions, volumes, ids = [], [], []
        low = (self.walls.bound - 1) * self.grid.dx
        high = self.grid.length - low
        for index, body in enumerate(self.bodies):
            try:
                x, volume = fill(body.shape, self.grid.dx / body.particles_per_cell)
            except ValueError as error:
                raise SceneError(f"bodies.{index}.shape: {error}") from error
            if x.min() < low or x.max() > high:
                raise SceneError(
                    f"bodies.{index}.shape: reaches from {x.min():.4g} to {x.max():.4g} m, outside the walls at "
                    f"{low:.4g} and {high:.4g} m; move or shrink the body"
                )
            positions.append(x)
            volumes.append(volume)
            ids.append(np.full(len(x), index))
        return np.concatenate(positions), np.concatenate(volumes), np.concatenate(ids)

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

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        values = dict(values or {})
        unknown = set(values) - set(self.variables())
        if unknown:
            raise SceneError(
                f"fit.parameters: {sorted(unknown)[0]!r} is no number that can vary; {self._known(unknown)}"
            )

        def vector(key: str, start: Vector) -> torch.Tensor:
            parts = [values.get(f"{key}.{k}", torch.tensor(start[k], dtype=torch.float64)) for k in range(3)]
            return torch.stack([part.to(torch.float64).cpu() for part in parts])

        x, volume, ids = (torch.as_tensor(array) for array in self.particles())
        mass, velocities, materials = volume.clone(), torch.zeros_like(x), []
        for index, body in enumerate(self.bodies):
            own = ids == index
            key = f"bodies.{index}"
            given = {
                name: values[f"{key}.material.{name}"]
                for name in body.material.coefficients()
                if f"{key}.material.{name}" in values
            }
            materials.append(body.material.make(given, dt=self.grid.time_step))
            mass[own] *= body.material.density
            arm = x - x[own].mean(0)
            spin = vector(f"{key}.angular_velocity", body.angular_velocity).expand_as(arm)
            motion = vector(f"{key}.velocity", body.velocity) + torch.linalg.cross(spin, arm)
            velocities = torch.where(own[:, None], motion, velocities)
        friction = values.get("walls.friction", self.walls.friction)
        boundaries: list[Any] = [Walls(self.walls.kind, friction=friction, thickness=self.walls.bound)]
        for index, collider in enumerate(self.colliders):
            start = f"colliders.{index}."
            own_values = {key.removeprefix(start): value for key, value in values.items() if key.startswith(start)}
            try:
                boundaries.append(collider.make(own_values))
            except ValueError as error:
                raise SceneError(f"colliders.{index}: {error}") from error
        try:
            model = MPMModel(
                num_grids=self.grid.num_grids,
                dt=self.grid.time_step,
                materials=materials,
                volume=volume,
                mass=mass,
                material_ids=ids,
                length=self.grid.length,
                gravity=self.gravity,
                boundaries=boundaries,
                epsilon=self.grid.epsilon,
            ).to(device)
        except ValueError as error:
            raise SceneError(f"grid: {error}") from error
        like = torch.zeros((), dtype=torch.float64 if double else torch.float32, device=device)
        return model, MPMState.at_rest(x.to(like), velocities.to(like))

    def variables(self) -> dict[str, float]:
        """Every number of this scene that `build` can take as a tensor, by dotted key."""
        found: dict[str, float] = {"walls.friction": self.walls.friction}
        for index, collider in enumerate(self.colliders):
            found.update({f"colliders.{index}.{name}": value for name, value in collider.variables().items()})
        for index, body in enumerate(self.bodies):
            for name, value in body.material.coefficients().items():
                found[f"bodies.{index}.material.{name}"] = value
            for name in ("velocity", "angular_velocity"):
                found.update({f"bodies.{index}.{name}.{k}": value for k, value in enumerate(getattr(body, name))})
        return found

    def _known(self, unknown: set[str]) -> str:
        from simengine.scene.strict import nearest

        return nearest(sorted(unknown)[0], self.variables())

    def prepare(self, asks: Sequence[Ask]) -> "MPMScene":
        """The world with particles made and surfaces bound once; shapes that change move and stretch them."""
        from simengine.worlds.motion.answers import last_step

        last_step(self, asks)
        made = self
        if made.lattice is None:
            lattice = Lattice(*self.particles(), tuple(body.shape for body in self.bodies))
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

    def scalars(self) -> Mapping[str, str]:
        """Centres, extents and velocities of the bodies, and the kinetic energy."""
        from simengine.worlds.motion.answers import scalars

        return scalars(self)

    def sizes(self) -> Mapping[str, float]:
        """Of the bodies and the run."""
        from simengine.worlds.motion.answers import sizes

        return sizes(self)

    def refined(self, factor: float) -> "MPMScene":
        """Cells, particles per axis and steps in a second, each times `factor`."""
        grid = dataclasses.replace(
            self.grid,
            num_grids=round(self.grid.num_grids * factor),
            time_step=self.grid.time_step / factor,
            num_steps=round(self.grid.num_steps * factor),
        )
        walls = dataclasses.replace(self.walls, bound=max(2, round((self.walls.bound - 1) * factor) + 1))
        bodies = tuple(dataclasses.replace(body, shape=finer(body.shape, factor)) for body in self.bodies)
        output = dataclasses.replace(self.output, save_every=round(self.output.save_every * factor))
        return dataclasses.replace(self, grid=grid, walls=walls, bodies=bodies, output=output, lattice=None, skins=None)

    def before(self, model: "MPMModel", state: "MPMState", step: int) -> None:
        """Called before the steps from one saved state to the next: where a kind of scene changes its model."""
