"""Scenes that learn the law of a material from one motion, after the protocol of NCLaw (Ma et al., ICML 2023)."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np

from simengine.scene.base import AbstractWorld
from simengine.scene.learning import AbstractLearner, stands
from simengine.scene.strict import Count, Positive, Range, Vector
from simengine.worlds.motion.materials import MaterialSpec
from simengine.worlds.motion.shapes import BoxShape, Shape
from simengine.worlds.motion.specs import BodySpec, CameraSpec, GridSpec, OutputSpec
from simengine.worlds.motion.world import MPMWorld

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.mpm import MPMModel, MPMState

CENTER = (0.5, 0.5, 0.5)
VELOCITY_SEEDS = (1, 7, 8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LawSpec:
    """The law that learns.

    Attributes:
        modulus: Physical scale of the stress [Pa].
        strain_scale: Strains at which nonlinearity is resolved [1].
        width: Hidden units of the energy.
        convexity: See `simengine.materials.neural_energy.EnergyNetwork`.
        plastic: Whether the material may flow.
        form: Of the energy: a network, or the splines it is compared with.
        read_out: Whether what was learned is read as a formula too: few terms, each number with its bar.
    """

    modulus: Positive = 1e5
    strain_scale: Positive = 0.3
    width: Annotated[int, Range(ge=1, le=1024)] = 48
    convexity: Literal["none", "shear", "full"] = "none"
    plastic: bool = False
    form: Literal["network", "spline"] = "network"
    read_out: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningSpec:
    """How it learns.

    Attributes:
        observe: "positions" at every step only, or "states" (x, v, C and the hidden F, from which NCLaw restarts).
        iterations: Rounds of following the positions and balancing momentum; one suffices where states are known.
        frames: Steps whose balance is used in a round.
        further_throws: Other motions to learn from, each a velocity [m/s] and an angular velocity [rad/s].
        epochs: Epochs of rollouts from restarts afterwards (NCLaw's schedule).
        learning_rate: Of these [1].
    """

    observe: Literal["positions", "states"] = stands("examples", "positions")
    iterations: Count = stands("training", 6)
    frames: Count = stands("training", 40)
    further_throws: tuple[tuple[Vector, Vector], ...] = stands("examples", ())
    epochs: Annotated[int, Range(ge=0)] = stands("training", 0)
    learning_rate: Positive = stands("training", 1e-3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LawLearner(LawSpec, LearningSpec, AbstractLearner):
    """Learn the law of a material from its motion; what learns and how it learns.

    A kind nclaw makes the motion by a hidden material; of a kind mpm it is a file with the ways of all particles.

    Attributes:
        type: Tells what is trained apart.
    """

    kinds: ClassVar[tuple[str, ...]] = ("nclaw", "mpm")
    recorded: ClassVar[tuple[str, ...]] = ("mpm",)
    type: Literal["law"] = "law"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NCLawWorld(AbstractWorld):
    """A thrown cube, from whose motion the law of its material is learned (`simengine train`).

    Attributes:
        material: The true material; it makes the motion and is hidden from the learner.
        num_steps: Steps of the observed motion.
        camera: Of the pictures.
    """

    kind: ClassVar[str] = "nclaw"
    material: MaterialSpec
    num_steps: Count = 1000
    camera: CameraSpec = dataclasses.field(default_factory=CameraSpec)

    def experiment(
        self,
        *,
        velocity: Vector = (1.0, -1.5, -2.0),
        angular_velocity: Vector = (4.0, 4.0, 4.0),
        shape: Shape | None = None,
        num_grids: int = 20,
        epsilon: float = 1e-7,
        num_steps: int | None = None,
    ) -> MPMWorld:
        """The published throw, or a variation of it.

        Args:
            velocity: Of the centre [m/s].
            angular_velocity: About it [rad/s].
            shape: None for the published cube of 1000 particles.
            num_grids: Nodes per axis.
            epsilon: Added to nodal masses [kg].
            num_steps: None for that of the observed motion.
        """
        cube = BoxShape(center=CENTER, size=(0.5, 0.5, 0.5), counts=(10, 10, 10))
        body = BodySpec(
            name="body",
            shape=shape or cube,
            material=self.material,
            velocity=velocity,
            angular_velocity=angular_velocity,
        )
        steps = num_steps or self.num_steps
        grid = GridSpec(num_grids=num_grids, time_step=5e-4, num_steps=steps, epsilon=epsilon)
        every = next(k for k in (10, 5, 4, 2, 1) if steps % k == 0)
        return MPMWorld(grid=grid, bodies=(body,), output=OutputSpec(save_every=every), camera=self.camera)

    def thrown(self, seed: int, **options: Any) -> MPMWorld:
        """The published test of generalisation over velocities, for one of `VELOCITY_SEEDS`."""
        random = np.random.Generator(np.random.PCG64(seed))
        direction = random.uniform(-1, 1, 3)
        direction[1] = -abs(direction[1])
        velocity = direction / np.linalg.norm(direction) * random.uniform(0, 3)
        spin = random.uniform(0, 3, 3)
        return self.experiment(velocity=_vector(velocity), angular_velocity=_vector(spin), **options)

    def build(self, *, device: str | None = None) -> "tuple[MPMModel, MPMState]":
        """Model and start of the observed motion, with the true material."""
        return self.experiment().build(device=device)

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Simulate the motion with the true material; write states, video and summary."""
        return self.experiment().run(out, device=device, force=force)

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """Pre-flight figures of the motion."""
        return self.experiment().check(device=device)

    def render(self, run: Path, file: Path, *, fps: float) -> Path:
        """Picture the saved states of a run."""
        return self.experiment().render(run, file, fps=fps)


def _vector(values: np.ndarray) -> Vector:
    return (float(values[0]), float(values[1]), float(values[2]))
