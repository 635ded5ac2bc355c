"""The equations that scenes of hard constraints solve, and the members of their families."""

import abc
import dataclasses
from typing import Annotated, Literal

import numpy as np
import torch

from simengine.constraint.allen_cahn import AllenCahn
from simengine.constraint.burgers import Burgers
from simengine.constraint.diffusion_sorption import U0_MAX, DiffusionSorption
from simengine.constraint.family import AbstractFamily
from simengine.constraint.navier_stokes import NavierStokes
from simengine.scene.strict import Count, Positive, Range

Members = dict[str, torch.Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractProblem(abc.ABC):
    """An equation on a grid, and which members of its family are solved for.

    Attributes:
        members: How many random initial fields.
    """

    members: Count = 2

    @abc.abstractmethod
    def family(self) -> AbstractFamily:
        """The equation."""

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Per axis of the grid, time first."""
        return (False, *getattr(self.family(), "period", (False,)))

    def solved_for(self, seed: int) -> Members:
        """Parameters of the members solved for and tested on."""
        return self.family().draw(self.members, torch.Generator().manual_seed(seed))

    def snapshots(self, count: int, seed: int) -> Members:
        """Parameters whose solutions span a basis: those solved for, so that it contains the truth, and others."""
        tested = self.solved_for(seed)
        others = self.family().draw(max(count - self.members, 0), torch.Generator().manual_seed(seed + 1))
        return {name: torch.cat([tested[name], others[name]])[:count] for name in tested}

    def trained_on(self, count: int, seed: int) -> Members:
        """Parameters of members that serve throughout a training."""
        return self.family().draw(count, torch.Generator().manual_seed(seed + 2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SorptionProblem(AbstractProblem):
    """Diffusion with sorption; see `DiffusionSorption` for what is not described here.

    Attributes:
        nt: Times of the grid, the initial one included.
        nx: Cells of the grid.
        duration: Last time, without dimension [1].
        grading: 1 for equal intervals of time, 2 for times equally spaced in sqrt(t) [1].
        skip: Intervals after t = 0 without residuals: the data there jump at both ends, which no grid resolves.
        implicit: Intervals after those with implicit Euler residuals, which damp such jumps.
        u0: Initial values solved for; they take the place of `members` [1].
    """

    type: Literal["diffusion_sorption"] = "diffusion_sorption"
    nt: Annotated[int, Range(ge=8)] = 101
    nx: Annotated[int, Range(ge=8)] = 1024
    duration: Positive = 500.0
    grading: Annotated[float, Range(ge=1)] = 1.0
    skip: Annotated[int, Range(ge=0)] = 2
    implicit: Annotated[int, Range(ge=0)] = 0
    u0: tuple[Annotated[float, Range(gt=0, lt=0.2)], ...] = (0.03, 0.11, 0.19)

    def __post_init__(self) -> None:
        if self.members != AbstractProblem.members:
            raise ValueError(f"members: {self.members} would do nothing here; u0 lists the members solved for")

    def family(self) -> DiffusionSorption:
        """The equation."""
        names = ("nt", "nx", "duration", "grading", "skip", "implicit")
        return DiffusionSorption(**{name: getattr(self, name) for name in names})

    def solved_for(self, seed: int) -> Members:
        """`u0`."""
        return {"u0": torch.tensor(self.u0, dtype=torch.float64)}

    def snapshots(self, count: int, seed: int) -> Members:
        """Chebyshev nodes in u0."""
        angles = np.pi * (np.arange(count) + 0.5) / count
        return {"u0": torch.tensor(U0_MAX / 2 * (1 + np.cos(angles)))}

    def trained_on(self, count: int, seed: int) -> Members:
        """Chebyshev nodes in u0."""
        return self.snapshots(count, seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NavierStokesProblem(AbstractProblem):
    """Vorticity on the periodic unit square; see `NavierStokes`.

    Attributes:
        nt: Times of the grid, the initial one included.
        size: Cells along each side.
        duration: Last time, without dimension [1].
        viscosity: nu, without dimension [1].
    """

    type: Literal["navier_stokes"] = "navier_stokes"
    nt: Annotated[int, Range(ge=4)] = 64
    size: Annotated[int, Range(ge=8)] = 64
    duration: Positive = 5.0
    viscosity: Positive = 1e-4

    def family(self) -> NavierStokes:
        """The equation."""
        return NavierStokes(nt=self.nt, size=self.size, duration=self.duration, viscosity=self.viscosity)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BurgersProblem(AbstractProblem):
    """Burgers' equation on the periodic unit interval; see `Burgers`.

    Attributes:
        nt: Times of the grid, the initial one included.
        nx: Cells of the grid.
        duration: Last time, without dimension [1].
        viscosity: nu, without dimension [1].
    """

    type: Literal["burgers"] = "burgers"
    nt: Annotated[int, Range(ge=4)] = 101
    nx: Annotated[int, Range(ge=8)] = 128
    duration: Positive = 0.5
    viscosity: Positive = 0.01

    def family(self) -> Burgers:
        """The equation."""
        return Burgers(nt=self.nt, nx=self.nx, duration=self.duration, viscosity=self.viscosity)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AllenCahnProblem(AbstractProblem):
    """The Allen-Cahn equation on the unit interval; see `AllenCahn`.

    Attributes:
        nt: Times of the grid, the initial one included.
        nx: Cells of the grid.
        duration: Last time, without dimension [1].
        epsilon: Width of an interface, of the unit interval [1].
    """

    type: Literal["allen_cahn"] = "allen_cahn"
    nt: Annotated[int, Range(ge=4)] = 101
    nx: Annotated[int, Range(ge=8)] = 128
    duration: Positive = 2.0
    epsilon: Positive = 0.05

    def family(self) -> AllenCahn:
        """The equation."""
        return AllenCahn(nt=self.nt, nx=self.nx, duration=self.duration, epsilon=self.epsilon)


Problem = SorptionProblem | NavierStokesProblem | BurgersProblem | AllenCahnProblem
