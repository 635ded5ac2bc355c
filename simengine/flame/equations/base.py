"""The form every one-dimensional flame here is written in.

    0 = d/dx F(y, y', z) + S(y, y', z)

for the fields y(x), shape (m,), and one eigenvalue z (the flame speed, the pressure curvature), with conditions at both
ends and one more, the anchor, that fixes the eigenvalue. F, S and the conditions are functions of a point, so that one
discretisation serves every flame and every flame has exact local Jacobians.
"""

import abc
from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch

from simengine.solve.newton import AbstractRootProblem

Pointwise = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class AbstractFlame(abc.ABC):
    """Equations of a flame, batched over conditions.

    Fields have shape (b, K, n, m): conditions, pieces of the mesh, points of a piece, fields. Parameters are tensors of
    shape () or (b,), any of which may require a gradient.

    Attributes:
        fields: Names of the fields; m of them.
        order: Order of the equation of each field in x: 2, 1 (condition at the left end) or 0 (algebraic, S alone).
        anchor_end: Where the anchor condition holds: at the left or right end, or at x = 0 within the domain.
        inflow: Fields whose condition at the left end is on their flux through it.
        held: Fields that a cold start on a grid first holds at their guess, with the eigenvalue; the others settle.
        pieces: Intervals of a first grid in each element of the first mesh.
        folds: Whether there can be an unstable solution between burning and extinguished ones.
        start_on_grid: Whether a coarse solution on a grid is the way to one on spectral elements.
        positive: Fields that no step of pseudo-time takes below 0.
        affine: Whether the conditions at the ends and the anchor have constant derivatives.
    """

    fields: tuple[str, ...]
    order: tuple[Literal[0, 1, 2], ...]
    anchor_end: Literal["left", "right", "origin"]
    inflow: tuple[int, ...] = ()
    pieces: int = 3
    held: tuple[int, ...] = ()
    folds: bool = False
    start_on_grid: bool = False
    positive: tuple[int, ...] = ()
    affine: bool = True

    @property
    @abc.abstractmethod
    def batch(self) -> int:
        """Number of conditions b."""

    @abc.abstractmethod
    def parameters(self) -> dict[str, torch.Tensor]:
        """Every tensor the equations depend on, by name."""

    @abc.abstractmethod
    def flux(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """F, shape (b, K, n, m); 0 for fields of order below 2.

        Args:
            y: Fields, shape (b, K, n, m).
            dy: Their derivatives in x [1/m].
            z: Eigenvalue, shape (b, K, n, 1).
        """

    @abc.abstractmethod
    def source(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """S, shape (b, K, n, m)."""

    def flux_and_source(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """F and S together, shape (b, K, n, 2 m); flames that share work between the two override it."""
        return torch.cat((self.flux(y, dy, z), self.source(y, dy, z)), dim=-1)

    def local_jacobian(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`flux_and_source` and its derivatives in (y, y', z), (b, K, n, 2 m) and (b, K, n, 2 m, 2 m + 1)."""
        return local_jacobian(self.flux_and_source, y, dy, z)

    @abc.abstractmethod
    def left(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """What vanishes at the left end, shape (b, 1, 1, m); entries of order 0 are not used."""

    @abc.abstractmethod
    def right(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """What vanishes at the right end, shape (b, 1, 1, m); only entries of order 2 are used."""

    @abc.abstractmethod
    def anchor(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """What vanishes at the anchor, shape (b, 1, 1, 1)."""

    @abc.abstractmethod
    def inertia(self, y: torch.Tensor) -> torch.Tensor:
        """Coefficient of dy/dt in each equation, shape (b, K, n, m); 0 where it has none."""

    def settled(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """A better guess of the eigenvalue (b,) from fields (b, N, m) at x (b, N) that settled with others held."""
        return z

    def imposed(self, x: torch.Tensor) -> dict[int, torch.Tensor]:
        """Fields that are given along x (b, N), by number, in place of their equations; (b, N) each. Grids only."""
        return {}

    def drift(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Mass flux times specific heat over conductivity [1/m], signed, (b, K, n); what a grid is upwinded by."""
        return torch.zeros_like(y[..., 0])

    @abc.abstractmethod
    def edges(self) -> torch.Tensor:
        """Edges of a first mesh [m], shape (b, K + 1); x = 0 is one of them where the anchor is there."""

    def extent(self, z: torch.Tensor) -> torch.Tensor | None:
        """How far the domain must reach to the left of x = 0 [m], (b,), for eigenvalues z (b,); None: as it is."""
        return None

    def obstacle(self, solve: Callable[..., Any]) -> str | None:
        """Why there can be no flame under these conditions; None where nothing forbids it.

        Args:
            solve: The solver's own `solve`, for what another flame can tell.
        """
        return None

    def burning(self, y: torch.Tensor) -> torch.Tensor:
        """Whether fields (b, N, m) are those of a flame, not of gas that mixes without burning; bool (b,)."""
        return torch.ones(y.shape[0], dtype=torch.bool)

    def alternatives(self) -> list["AbstractFlame"]:
        """The same flame with other first guesses, for where Newton does not get on from its own."""
        return []

    def faster(self) -> list["AbstractFlame"]:
        """The same flame with first guesses that are faster by far, to try for a while before anything slow."""
        return []

    def eased(self) -> "AbstractFlame | None":
        """A flame close to this one that Newton finds more easily, to start from; None where it needs none."""
        return None

    def simpler(self) -> "AbstractFlame | None":
        """This flame under a law of transport that costs less, to start from its solution; None where its own is."""
        return None

    def tail(self, z: torch.Tensor) -> torch.Tensor | None:
        """How far the domain must reach to the right of x = 0 [m], (b,); None: as it is. For grids."""
        return None

    @abc.abstractmethod
    def guess(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cold start: fields (b, K, n, m) at x (b, K, n), and the eigenvalue (b,)."""

    @abc.abstractmethod
    def limits(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scale, least and largest admissible value of each field and, last, the eigenvalue; (b or 1, m + 1) each."""

    @abc.abstractmethod
    def profiles(self, y: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """What can be observed, by name: fields and what follows from them, (b, q) each, in SI units.

        Args:
            y: Fields at q points, shape (b, q, m).
            z: Eigenvalue, shape (b,).
        """

    @abc.abstractmethod
    def figures(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the eigenvalue z (b,) means, by name: the flame speed [m/s], the pressure curvature [Pa/m^2]; (b,)."""

    def parameter(self, name: str) -> torch.Tensor:
        """One parameter by name.

        Raises:
            ValueError: There is none of this name.
        """
        known = self.parameters()
        if name not in known:
            raise ValueError(f"{name}: no parameter of this flame; known: {', '.join(known)}")
        return known[name]

    def detached(self) -> "AbstractFlame":
        """The same flame without gradients."""
        return self.replace(**{name: value.detach() for name, value in self.parameters().items()})

    @abc.abstractmethod
    def replace(self, **parameters: torch.Tensor) -> "AbstractFlame":
        """The same flame with some parameters replaced.

        Raises:
            ValueError: A name is none of `parameters()`.
        """


class Mesh(Protocol):
    """Where a discretised flame has its unknowns."""

    @property
    def edges(self) -> torch.Tensor:
        """Ends of elements, or points [m], (b, ...)."""

    @property
    def anchor(self) -> int:
        """Which of them holds the anchor."""

    @property
    def x(self) -> torch.Tensor:
        """Points [m], shape (b, K, n)."""

    def interpolate(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Fields y (b, K, n, m) at x (b, q); (b, q, m)."""


class AbstractFlameProblem(AbstractRootProblem):
    """A flame on a mesh; the last unknown of each block is a copy of the eigenvalue.

    Attributes:
        flame: The equations.
        mesh: The mesh.
    """

    flame: AbstractFlame
    mesh: Mesh

    @abc.abstractmethod
    def pack(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Unknowns of fields (b, K, n, m) and eigenvalue (b,)."""

    @abc.abstractmethod
    def unpack(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fields (b, K, n, m) and the eigenvalue (b, K, n, 1)."""

    @abc.abstractmethod
    def of(self, flame: AbstractFlame) -> "AbstractFlameProblem":
        """Another flame on the same mesh."""

    def condition_jacobian(self, condition: Pointwise, at: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Derivatives of a condition of the flame at a point (y, y', z), (b, q, 2 m + 1); once where it is affine."""
        known = self.__dict__.setdefault("_conditions", {})
        if condition not in known:
            jacobian = local_jacobian(condition, *at)[1][:, 0, 0]
            if not self.flame.affine:
                return jacobian
            known[condition] = jacobian
        return known[condition]

    def near(self, y: torch.Tensor, z: torch.Tensor) -> "AbstractFlameProblem":
        """The same, with what it takes from a first guess of fields (b, K, n, m) and eigenvalues (b,)."""
        return self


def local_jacobian(
    function: Pointwise, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A pointwise function and its derivatives in (y, y', z): (..., q) and (..., q, 2 m + 1).

    One reverse sweep over all points for each of the q entries, without gradients in anything else.
    """
    m = y.shape[-1]
    with torch.enable_grad():
        point = torch.cat((y, dy, z), dim=-1).detach().requires_grad_()
        value = function(point[..., :m], point[..., m : 2 * m], point[..., 2 * m :])
        rows = []
        for entry in value.unbind(-1):
            row = None
            if entry.requires_grad:
                (row,) = torch.autograd.grad(entry.sum(), point, retain_graph=True, allow_unused=True)
            rows.append(torch.zeros_like(point) if row is None else row)
    return value.detach(), torch.stack(rows, dim=-2)
