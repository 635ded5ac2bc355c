"""The reference solvers: a flame on spectral elements or on a grid, refined until the solution is resolved."""

import dataclasses
from typing import Literal

import torch

from simengine.flame.equations.base import AbstractFlame, AbstractFlameProblem
from simengine.flame.solver.adaptive import AbstractFlameSolver, onto
from simengine.flame.solver.grid import GridMesh, GridProblem
from simengine.flame.solver.refine import RefineCriteria
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.spectral import SpectralMesh, SpectralProblem
from simengine.flame.solver.upwind import UpwindProblem
from simengine.solve.newton import newton
from simengine.solve.solution import Result, Solution, SolveError

QUICK = 20  # Jacobians from a first guess before faster ones are tried
PATIENCE = 30  # Jacobians on a first grid before the grid follows the flame


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectralSolver(AbstractFlameSolver):
    """Chebyshev spectral elements, bisected until every tail of coefficients is below a tolerance.

    Attributes:
        n: Points in an element.
        resolution: Largest tail of the Chebyshev coefficients over the scale of its field. The eigenvalue comes out two
            to three digits better, since it averages over the flame.
        max_elements: Where bisection stops.
    """

    n: int = 14
    resolution: float = 1e-7
    max_elements: int = 80

    def _cold(self, flame: AbstractFlame) -> tuple[AbstractFlameProblem, Solution[torch.Tensor]]:
        """From the guess where that takes few steps, else from a coarse solution on a grid."""
        edges = self.first_edges(flame)
        problem = self.problem(flame, edges, self.anchor(flame, edges))
        few = 0 if flame.start_on_grid else min(20, self.max_iterations)
        quick = dataclasses.replace(self, max_iterations=few)
        solved = quick._newton(problem, problem.pack(*flame.guess(problem.mesh.x)), False)
        found = self._found(problem, solved)
        if bool(found.all()):
            return problem, solved
        coarse = GridSolver().set_refine_criteria(slope=0.15, curve=0.3).solve(flame, throw=False)
        if coarse.result not in (Result.SUCCESS, Result.WRONG_BRANCH):
            return super()._cold(flame)
        x = problem.mesh.x
        y = coarse.value.problem.mesh.interpolate(coarse.value.problem.unpack(coarse.value.state)[0], x.flatten(1))
        fresh = problem.pack(y.reshape(*x.shape, -1), coarse.value.eigenvalue)
        return problem, self._again(problem, solved, found, fresh)

    def problem(self, flame: AbstractFlame, edges: torch.Tensor, anchor: int) -> SpectralProblem:
        """A flame on elements.

        Raises:
            ValueError: Fields of it are imposed, which is not smooth.
        """
        if flame.imposed(edges):
            raise ValueError("SpectralSolver: a profile that is imposed has kinks; solve the flame with GridSolver")
        return SpectralProblem(flame, SpectralMesh(edges, self.n, anchor))

    def first_edges(self, flame: AbstractFlame) -> torch.Tensor:
        """Those of the flame."""
        return flame.edges()

    def adapted(
        self, problem: AbstractFlameProblem, state: torch.Tensor
    ) -> tuple[AbstractFlameProblem | None, torch.Tensor, bool]:
        """Elements whose coefficients have not decayed are cut in halves."""
        assert isinstance(problem, SpectralProblem)
        mesh, flame = problem.mesh, problem.flame
        y, z = problem.unpack(state)
        tails = mesh.tails(y, flame.limits()[0][:, None, :-1].expand(y.shape[0], 1, -1)[:, 0])
        coarse = (tails > self.resolution).any(0)
        reach = flame.extent(z[:, 0, 0, 0])
        short = reach is not None and bool((-mesh.edges[:, 0] < reach).any())
        if not (short or bool(coarse.any())):
            return None, tails.amax(1), True
        finer = mesh.bisected(coarse)
        if short and reach is not None:
            finer = finer.extended(1.2 * reach)
        room = tails.shape[1] + int(coarse.sum()) <= self.max_elements
        return SpectralProblem(flame, finer), tails.amax(1), room


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridSolver(AbstractFlameSolver):
    """Linear finite elements on a grid that refines itself where slope or curvature are large.

        solution = GridSolver().set_refine_criteria(ratio=3, slope=0.05, curve=0.1).solve(flame)

    For any mechanism, at an accuracy of the second order in the size of the intervals; for smooth flames of few species
    `SpectralSolver` is more accurate.

    Attributes:
        criteria: Where the grid is refined.
        max_points: Where refinement stops.
        first: Intervals of the first grid in each piece of the flame's own first mesh; None for the flame's choice.
        convection: `"second_order"`, or `"upwind"` of first order, to compare with solvers that upwind.
    """

    tolerance: float = 1e-7
    criteria: RefineCriteria = dataclasses.field(default_factory=RefineCriteria)
    max_points: int = 1000
    first: int | None = None
    convection: Literal["second_order", "upwind"] = "second_order"

    def set_refine_criteria(
        self, *, ratio: float = 3.0, slope: float = 0.05, curve: float = 0.1, prune: float = 0.0
    ) -> "GridSolver":
        """The same solver with other criteria; see `RefineCriteria`."""
        return dataclasses.replace(self, criteria=RefineCriteria(ratio, slope, curve, prune))

    def solve(
        self, flame: AbstractFlame, *, start: FlameSolution | None = None, throw: bool = True
    ) -> Solution[FlameSolution]:
        """As of any solver; upwind a flame that is not found cold is sought from that of the second order."""
        if self.convection != "upwind" or start is not None or flame.batch > 1:
            return super().solve(flame, start=start, throw=throw)
        solved = super().solve(flame, throw=False)
        if not solved.success and solved.stats["num_iterations"]:
            other = dataclasses.replace(self, convection="second_order").solve(flame.detached(), throw=False)
            if other.success:
                near = other.value
                bare = self.problem(flame.detached(), near.problem.mesh.edges, near.problem.mesh.anchor)
                again = super().solve(
                    flame, start=FlameSolution(flame, *onto(bare, near.problem, near.state)), throw=False
                )
                again.stats["num_iterations"] += other.stats["num_iterations"] + solved.stats["num_iterations"]
                solved = again if again.success else solved
        if throw and (obstacle := solved.stats["obstacle"]):
            raise SolveError(f"{type(flame).__name__}: {obstacle}", solved)
        return solved.check(type(flame).__name__) if throw else solved

    def _cold(self, flame: AbstractFlame) -> tuple[AbstractFlameProblem, Solution[torch.Tensor]]:
        """For a while from the guess and from faster ones, then on from the nearest by stretches of pseudo-time."""
        spent, nearest, least, settled, quick = 0, None, torch.inf, None, min(QUICK, self.max_iterations)
        for guesser in (flame, *flame.faster()) if flame.batch == 1 and flame.faster() else ():
            edges = self.first_edges(guesser)
            bare = self.problem(flame, edges, self.anchor(flame, edges))
            problem, state, found = self._start(guesser, bare, settled)
            settled = problem.unpack(state)[0] if found else None
            solved = newton(problem, state, tolerance=self.tolerance**0.5, max_iterations=quick)
            spent += int(solved.stats["num_iterations"])
            solved.stats["num_iterations"] = spent
            if bool(self._found(problem, solved).all()):
                return problem, solved
            if not _gone(problem, solved.value) and least > (left := float(solved.stats["correction"])):
                nearest, least = (problem, solved.value), left
        if nearest is not None:
            problem, solved = self._first(*nearest, until_gone=True)
            spent += int(solved.stats["num_iterations"])
            solved.stats["num_iterations"] = spent
            if bool(self._found(problem, solved).all()):
                return problem, solved
        problem, solved = super()._cold(flame)
        solved.stats["num_iterations"] += spent
        return problem, solved

    def _first(
        self, problem: AbstractFlameProblem, state: torch.Tensor, *, until_gone: bool = False
    ) -> tuple[AbstractFlameProblem, Solution[torch.Tensor]]:
        """The flame on a first grid, which follows where it has got to every `PATIENCE` Jacobians.

        A first guess may be ten times too thick, as that of rich hydrogen is: pseudo-time then makes a flame that its
        grid cannot hold.
        """
        if problem.flame.batch > 1:
            return super()._first(problem, state)
        crude = self.set_refine_criteria(slope=0.15, curve=0.3)
        spent = 0
        while True:
            most = min(PATIENCE, self.max_iterations - spent)
            solved = newton(problem, state, tolerance=self.tolerance**0.5, max_iterations=most)
            spent += int(solved.stats["num_iterations"])
            state = solved.value
            lost = not bool(state.isfinite().all()) or (until_gone and _gone(problem, state))
            if solved.success or lost or spent >= self.max_iterations:
                solved.stats["num_iterations"] = spent
                return problem, solved
            with torch.no_grad():
                finer, _, room = crude.adapted(problem, state)
            if finer is not None and room:
                problem, state = onto(finer, problem, state)

    def problem(self, flame: AbstractFlame, edges: torch.Tensor, anchor: int) -> GridProblem:
        """A flame on points."""
        kind = UpwindProblem if self.convection == "upwind" else GridProblem
        return kind(flame, GridMesh(edges, anchor))

    def first_edges(self, flame: AbstractFlame) -> torch.Tensor:
        """Every piece of the flame's first mesh in `first` intervals."""
        edges, pieces = flame.edges(), self.first or flame.pieces
        share = torch.arange(pieces, dtype=edges.dtype) / pieces
        inner = edges[:, :-1, None] + (edges[:, 1:] - edges[:, :-1]).unsqueeze(-1) * share
        return torch.cat((inner.flatten(1), edges[:, -1:]), dim=1)

    def adapted(
        self, problem: AbstractFlameProblem, state: torch.Tensor
    ) -> tuple[AbstractFlameProblem | None, torch.Tensor, bool]:
        """Points are added and removed by the criteria, and on the left where the domain is too short."""
        assert isinstance(problem, GridProblem)
        mesh, flame = problem.mesh, problem.flame
        y, z = problem.unpack(state)
        scale = flame.limits()[0][:, None, :-1]
        at_left = flame.anchor_end == "left"
        own = [a for a in range(len(flame.order)) if a not in flame.imposed(mesh.edges)]  # kinks of data need no points
        edges, anchor, error = self.criteria.apply(
            mesh.edges, mesh.anchor, y[:, 0][..., own], scale[..., own], by_left_slope=at_left
        )
        changed = edges.shape != mesh.edges.shape or not torch.equal(edges, mesh.edges)
        reach, tail = flame.extent(z[:, 0, 0, 0]), flame.tail(z[:, 0, 0, 0])
        if tail is not None and bool((edges[:, -1] < tail).any()):
            changed = True
            while bool((edges[:, -1] < tail).any()):
                edges = torch.cat((edges, 3 * edges[:, -1:] - 2 * edges[:, -2:-1]), 1)  # twice the last interval
        if reach is not None and bool((-edges[:, 0] < reach).any()):
            step = 2 * edges[:, :1] - edges[:, 1:2]
            edges, anchor, changed = torch.cat((torch.minimum(-1.2 * reach[:, None], step), edges), 1), anchor + 1, True
        if not changed:
            return None, error, True
        return self.problem(flame, edges, anchor), error, edges.shape[1] <= self.max_points


def _gone(problem: AbstractFlameProblem, state: torch.Tensor) -> bool:
    """Whether an eigenvalue lies near its least: such a try has come to nothing, however small its corrections."""
    return bool((state[..., -1] < 10 * problem.lower[..., -1]).any())
