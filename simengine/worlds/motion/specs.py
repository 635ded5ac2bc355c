"""Tables of a scene of moving bodies: its grid, a body, what is saved, the camera of its pictures."""

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Literal

from simengine.scene.strict import Count, NonNegative, Positive, Range, Vector
from simengine.worlds.motion.materials import MaterialSpec
from simengine.worlds.motion.shapes import Shape

if TYPE_CHECKING:
    from simengine.render import PinholeCamera

PERIOD = 4  # cells across a plane section, the least that the grid's blocks allow


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridSpec:
    """Grid and time.

    Attributes:
        num_grids: Nodes per axis.
        length: Edge of the cubic domain [m].
        lower: Lower corner of a free box in coordinates of your own [m]; its walls lie on its faces.
        upper: Its upper corner [m], a whole number of cells away.
        spacing: Of its nodes [m].
        time_step: dt [s].
        num_steps: Steps of a run.
        integrator: `explicit`; `quasistatic`, each step a balance without inertia; `implicit`, the midpoint rule.
        volume: What keeps it: `particles` each its own, or `cells`, so that a nearly incompressible body does not lock;
            in steps that are not explicit.
        section: With `plane_strain` nothing moves or changes along z, where the box and the bodies, boxes too, have no
            extent; forces and energies are those of a metre. With `axisymmetric` the body is the same all around the
            axis x = z = 0, lower = -upper along x and both 0 along z; forces and energies are those of the whole, along
            x forces of one half.
        epsilon: Added to nodal masses [kg], to repeat programs that do so; at most 1e-5 of the lightest particle.
    """

    num_grids: Annotated[int, Range(ge=8, le=1024)] = 20
    length: Positive = 1.0
    lower: Vector | None = None
    upper: Vector | None = None
    spacing: Positive | None = None
    time_step: Positive = 5e-4
    num_steps: Count = 1000
    integrator: Literal["explicit", "quasistatic", "implicit"] = "explicit"
    volume: Literal["particles", "cells"] = "particles"
    section: Literal["solid", "plane_strain", "axisymmetric"] = "solid"
    epsilon: NonNegative = 0.0

    def __post_init__(self) -> None:
        if self.volume == "cells" and self.integrator == "explicit":
            raise ValueError('volume: cells keep it in steps that are not explicit; set integrator = "implicit"')
        box = (self.lower, self.upper, self.spacing)
        if box == (None, None, None):
            if self.flat:
                raise ValueError(f"section: {self.section} needs lower, upper and spacing")
            return
        if self.lower is None or self.upper is None or self.spacing is None:
            raise ValueError("lower, upper and spacing belong together: give all three, or num_grids and length")
        if (self.num_grids, self.length) != (20, 1.0):
            raise ValueError("num_grids and length: leave them out where lower, upper and spacing are given")
        if self.flat and self.lower[2] != self.upper[2]:
            raise ValueError(
                f"section: {self.section} has nothing across, so upper along z must be lower, {self.lower[2]:g}, got "
                f"{self.upper[2]:g}"
            )
        if self.turns and (self.lower[0] != -self.upper[0] or self.lower[2] != 0):
            raise ValueError(
                "section: an axisymmetric one has both sides of the axis x = z = 0: lower along x must be "
                f"{-self.upper[0]:g} and along z 0, got {self.lower[0]:g} and {self.lower[2]:g}"
            )
        for k, name in enumerate("xy" if self.flat else "xyz"):
            cells = (self.upper[k] - self.lower[k]) / self.spacing
            if cells < 1 - 1e-6 or abs(cells - round(cells)) > 1e-6:
                fits = self.lower[k] + max(round(cells), 1) * self.spacing
                raise ValueError(
                    f"upper: along {name} the box holds {cells:.6g} cells of {self.spacing:g} m, which must be a whole "
                    f"number; upper = {fits:.6g} would do"
                )

    @property
    def flat(self) -> bool:
        """Whether nothing moves along z."""
        return self.section != "solid"

    @property
    def turns(self) -> bool:
        """Whether the section turns around the axis x = z = 0."""
        return self.section == "axisymmetric"

    @property
    def depth(self) -> float:
        """What is computed across where nothing moves there: a period of so much [m]."""
        return PERIOD * self.dx

    @property
    def dx(self) -> float:
        """Node spacing [m]."""
        return self.length / self.num_grids if self.spacing is None else self.spacing


@dataclasses.dataclass(frozen=True, kw_only=True)
class BodySpec:
    """A body of one material.

    Attributes:
        name: For messages and pictures.
        shape: What the particles fill.
        particles_per_cell: Along each axis, for shapes filled by a lattice.
        material: What it is made of.
        turn: Rotation vector about the middle of its shape, as it lies at the start [rad].
        velocity: Of its centre [m/s].
        angular_velocity: About its centre [rad/s].
        color: Linear RGB [1].
    """

    name: str = "body"
    shape: Shape
    particles_per_cell: Annotated[int, Range(ge=1, le=8)] = 2
    material: MaterialSpec
    turn: Vector = (0.0, 0.0, 0.0)
    velocity: Vector = (0.0, 0.0, 0.0)
    angular_velocity: Vector = (0.0, 0.0, 0.0)
    color: Annotated[Vector, Range(ge=0, le=1)] = (0.15, 0.35, 0.75)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleaseSpec:
    """How bodies are let go by a hand under them: what it bears of their weight falls to nothing, evenly in time.

    Attributes:
        share: Of the weight of everything, what it bears at t = 0 [1].
        until: When it bears nothing any more [s].
    """

    share: Annotated[float, Range(ge=0, le=1)] = 1.0
    until: NonNegative = 0.0


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

    def pinhole(self, *, double: bool = False) -> "PinholeCamera":
        """The camera of the renderers, in float64 where `double`."""
        import torch

        from simengine.render import PinholeCamera

        return PinholeCamera.look_at(
            torch.tensor(self.eye, dtype=torch.float64 if double else torch.float32),
            self.target,
            up=self.up,
            fov_y=math.radians(self.field_of_view),
            width=self.width,
            height=self.height,
        )
