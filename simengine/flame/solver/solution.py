"""A solved flame: its fields anywhere, its observables, and the factors that its derivatives take."""

import dataclasses
from functools import cached_property

import torch

from simengine.flame.equations.base import AbstractFlame, AbstractFlameProblem
from simengine.notebook import MOST_PICTURES, dots, heading
from simengine.solve.block_tridiagonal import BlockTridiagonalMatrix, Factors


@dataclasses.dataclass(frozen=True)
class FlameSolution:
    """A flame resolved on its mesh.

    Attributes:
        flame: Its equations and parameters.
        problem: Its discretisation.
        state: All unknowns, shape (b, K, n m + 1) or (b, N, m + 1); differentiable in every parameter that requires a
            gradient.
    """

    flame: AbstractFlame
    problem: AbstractFlameProblem
    state: torch.Tensor

    def __repr__(self) -> str:
        told = (
            f"eigenvalue {float(self.eigenvalue[0]):.6g}" if len(self.state) == 1 else f"{len(self.state)} conditions"
        )
        return f"FlameSolution({type(self.flame).__name__}, {told}, {self.x.shape[1]} points)"

    def _repr_html_(self) -> str:
        x = 1e3 * self.x[0].detach()
        page = heading(repr(self))
        for name in self.flame.fields[:MOST_PICTURES]:
            values = self.field(name)[0].detach()
            page += dots([(x, values)], [f"{name}, up to {float(values.max()):.4g}, over x [mm]"], equal=False)
        return page

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What gives this solution back, of the same flame: unknowns, mesh, weights of the intervals of a grid."""
        mesh = self.problem.mesh
        state = {"state": self.state.detach(), "edges": mesh.edges, "anchor": torch.tensor(mesh.anchor)}
        lean = getattr(self.problem, "lean", None)
        return state if lean is None else {**state, "lean": lean}

    @cached_property
    def jacobian(self) -> BlockTridiagonalMatrix:
        """Of the discrete equations at the solution."""
        with torch.no_grad():
            return self.problem.of(self.flame.detached()).linearise(self.state.detach())[1]

    @cached_property
    def factors(self) -> Factors:
        """Of the Jacobian."""
        return self.jacobian.factor()

    @property
    def burning(self) -> torch.Tensor:
        """Whether something burns in each condition, (b,)."""
        with torch.no_grad():
            return self.flame.burning(self.problem.unpack(self.state)[0].flatten(1, 2))

    @property
    def stable(self) -> torch.Tensor:
        """Whether a solution does not run away from itself in time, (b,); where flames do not fold, taken as given.

        det(J - s M) changes its sign between s = 0 and infinity when an odd number of modes grows, of which the
        unstable flame between the burning and the extinguished one has exactly one.
        """
        if not self.flame.folds:
            return torch.ones(self.state.shape[0], dtype=torch.bool)
        fastest = 1e8  # 1/s, faster than anything grows
        with torch.no_grad():
            shift = -fastest * self.problem.mass(self.state.detach())
        return self.factors.sign == self.jacobian.shifted(shift).factor().sign

    @property
    def eigenvalue(self) -> torch.Tensor:
        """Flame speed, mass flux or pressure curvature of each condition, shape (b,)."""
        return self.state[:, 0, -1]

    @property
    def x(self) -> torch.Tensor:
        """Points [m], shape (b, N); ends of spectral elements occur twice."""
        return self.problem.mesh.x.flatten(1)

    @property
    def y(self) -> torch.Tensor:
        """Fields at the points, shape (b, N, m)."""
        return self.problem.unpack(self.state)[0].flatten(1, 2)

    def field(self, name: str) -> torch.Tensor:
        """One field at the points, shape (b, N)."""
        return self.y[..., self._index(name)]

    def at(self, x: torch.Tensor) -> torch.Tensor:
        """Fields at any x [m] of the domain, (q,) or (b, q), by the solution's own polynomials; (b, q, m)."""
        x = torch.as_tensor(x, dtype=self.state.dtype).expand(self.state.shape[0], -1)
        edges = self.problem.mesh.edges
        if bool((x < edges[:, :1] - 1e-12).any() or (x > edges[:, -1:] + 1e-12).any()):
            raise ValueError(
                f"x: expected points within {edges[0, 0]:g} to {edges[0, -1]:g} m, got {x.min():g}, {x.max():g}"
            )
        return self.problem.mesh.interpolate(self.problem.unpack(self.state)[0], x)

    def profiles(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """What can be observed of the flame at x [m], (q,) or (b, q), by name; (b, q) each."""
        return self.flame.profiles(self.at(x), self.eigenvalue)

    def tangents(self, residuals: torch.Tensor) -> torch.Tensor:
        """dy/dtheta of all unknowns from dF/dtheta of c parameters, both (b, K, n m + 1, c): one solve."""
        return -self.factors.solve(residuals)

    def _index(self, name: str) -> int:
        if name not in self.flame.fields:
            raise ValueError(f"name={name!r}: no field of this flame; fields: {', '.join(self.flame.fields)}")
        return self.flame.fields.index(name)
