"""The reference solver: a flame on a mesh that adapts until the solution is resolved, with implicit gradients."""

import dataclasses

import torch

from simengine.flame.equations import AbstractFlame
from simengine.flame.spectral import SpectralMesh, SpectralProblem
from simengine.solve.block_tridiagonal import BlockFactors
from simengine.solve.implicit import implicit_root
from simengine.solve.newton import newton
from simengine.solve.solution import Result, Solution


@dataclasses.dataclass(frozen=True)
class FlameSolution:
    """A flame resolved on its mesh.

    Attributes:
        flame: Its equations and parameters.
        problem: Its discretisation.
        state: All unknowns, shape (b, K, n m + 1); differentiable in every parameter that requires a gradient.
        factors: Of the Jacobian at the solution.
    """

    flame: AbstractFlame
    problem: SpectralProblem
    state: torch.Tensor
    factors: BlockFactors

    @property
    def eigenvalue(self) -> torch.Tensor:
        """Flame speed, mass flux or pressure curvature of each condition, shape (b,)."""
        return self.state[:, 0, -1]

    @property
    def x(self) -> torch.Tensor:
        """Points [m], shape (b, N); ends of elements occur twice."""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectralSolver:
    """Chebyshev spectral elements, bisected until every tail of coefficients is below a tolerance.

    Attributes:
        n: Points in an element.
        resolution: Largest tail of the Chebyshev coefficients over the scale of its field. The eigenvalue comes out two
            to three digits better, since it averages over the flame.
        max_elements: Where bisection stops.
        tolerance: Of Newton's scaled correction.
    """

    n: int = 14
    resolution: float = 1e-7
    max_elements: int = 80
    tolerance: float = 1e-9

    def solve(
        self, flame: AbstractFlame, *, start: FlameSolution | None = None, throw: bool = True
    ) -> Solution[FlameSolution]:
        """Solve a batch of flames.

        Args:
            flame: Equations with parameters; those that require a gradient get one through the solution.
            start: A solution of a flame of the same kind to start from, on its mesh; None for a cold start.
            throw: Raise where a flame is not found, instead of saying so in the result.

        Returns:
            The flames. `stats`: `num_iterations` in all, `num_points`, `tail` (the largest scaled tail of coefficients,
            an estimate of the error of the fields) and `converged` per condition.

        Raises:
            SolveError: With `throw`, where Newton fails or the mesh is not fine enough.
        """
        fixed = flame.detached()
        if start is None:
            mesh, problem, solved = self._cold(fixed)
        else:
            mesh, problem = start.problem.mesh, SpectralProblem(fixed, start.problem.mesh)
            solved = newton(problem, start.state.detach(), tolerance=self.tolerance)
        total = int(solved.stats["num_iterations"])
        while True:
            state, result = solved.value, solved.result
            y, z = problem.unpack(state)
            with torch.no_grad():
                tails = mesh.tails(y, fixed.limits()[0][:, None, :-1].expand(y.shape[0], 1, -1)[:, 0])
            coarse = (tails > self.resolution).any(0)
            reach = fixed.extent(z[:, 0, 0, 0])
            short = reach is not None and bool((-mesh.edges[:, 0] < reach).any())
            if result is not Result.SUCCESS or not (short or bool(coarse.any())):
                break
            if tails.shape[1] + int(coarse.sum()) > self.max_elements:
                result = Result.MAX_ITERATIONS
                break
            finer = mesh.bisected(coarse)
            if short and reach is not None:
                finer = finer.extended(1.2 * reach)
            fine_y = mesh.interpolate(y, finer.x.flatten(1)).reshape(y.shape[0], -1, self.n, y.shape[-1])
            mesh, problem = finer, SpectralProblem(fixed, finer)
            solved = newton(problem, problem.pack(fine_y, z[:, 0, 0, 0]), tolerance=self.tolerance)
            total += int(solved.stats["num_iterations"])
        with torch.no_grad():
            factors = problem.linearise(state)[1].factor()
        if any(value.requires_grad for value in flame.parameters().values()) and torch.is_grad_enabled():
            problem = SpectralProblem(flame, mesh)
            state = implicit_root(state, problem.residual(state), factors)
        stats = {
            "num_iterations": total,
            "num_points": tails.shape[1] * self.n,
            "tail": tails.amax(1),
            "converged": solved.stats["converged"],
        }
        solution = Solution(FlameSolution(flame, problem, state, factors), result, stats)
        return solution.check(type(flame).__name__) if throw else solution

    def _cold(self, flame: AbstractFlame) -> tuple[SpectralMesh, SpectralProblem, Solution[torch.Tensor]]:
        """The first mesh and the flames on it; those not found from one guess are tried from the next."""
        edges = flame.edges()
        anchor = self._anchor(flame, edges)
        mesh = SpectralMesh(edges, self.n, anchor)
        problem = SpectralProblem(flame, mesh)
        solved = newton(problem, problem.pack(*flame.guess(mesh.x)), tolerance=self.tolerance)
        for other in flame.alternatives():
            if solved.success:
                break
            keep = solved.stats["converged"][:, None]
            mesh = SpectralMesh(torch.where(keep, mesh.edges, other.edges()), self.n, anchor)
            problem = SpectralProblem(flame, mesh)
            state = torch.where(keep[:, None], solved.value, problem.pack(*other.guess(mesh.x)))
            before = solved.stats["num_iterations"]
            solved = newton(problem, state, tolerance=self.tolerance)
            solved.stats["num_iterations"] += before
        return mesh, problem, solved

    @staticmethod
    def _anchor(flame: AbstractFlame, edges: torch.Tensor) -> int:
        if flame.anchor_end == "origin":
            return int(edges[0].abs().argmin())
        return 0 if flame.anchor_end == "left" else edges.shape[1] - 1
