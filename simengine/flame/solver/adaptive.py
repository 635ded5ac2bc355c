"""Newton on meshes that adapt until a flame is resolved, with implicit gradients: what the reference solvers share."""

import abc
import dataclasses
from collections.abc import Mapping

import torch

from simengine.flame.equations.base import AbstractFlame, AbstractFlameProblem
from simengine.flame.solver.grid import GridProblem
from simengine.flame.solver.solution import FlameSolution
from simengine.solve.implicit import implicit_root
from simengine.solve.newton import newton
from simengine.solve.solution import Result, Solution, SolveError


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractFlameSolver(abc.ABC):
    """Newton on meshes that adapt.

    Attributes:
        tolerance: Of Newton's scaled correction.
        max_iterations: Newton and pseudo-time steps on a mesh.
    """

    tolerance: float = 1e-9
    max_iterations: int = 200

    @abc.abstractmethod
    def problem(self, flame: AbstractFlame, edges: torch.Tensor, anchor: int) -> AbstractFlameProblem:
        """A flame on a mesh given by its edges (b, ...) and the number of the one that holds the anchor."""

    @abc.abstractmethod
    def first_edges(self, flame: AbstractFlame) -> torch.Tensor:
        """Of the first mesh [m], shape (b, ...)."""

    @abc.abstractmethod
    def adapted(
        self, problem: AbstractFlameProblem, state: torch.Tensor
    ) -> tuple[AbstractFlameProblem | None, torch.Tensor, bool]:
        """A finer problem, None where this one is fine enough; the error estimate (b,); whether there is room left."""

    def solve(
        self, flame: AbstractFlame, *, start: FlameSolution | None = None, throw: bool = True
    ) -> Solution[FlameSolution]:
        """Solve a batch of flames.

        Args:
            flame: Equations with parameters; those that require a gradient get one through the solution.
            start: A solution of a flame of the same kind to start from, on its mesh; None for a cold start.
            throw: Raise where a flame is not found, instead of saying so in the result.

        Returns:
            The flames. `stats`: `num_iterations` (Jacobians, after a first guess has settled), `num_points`, `error`
            (an estimate of the relative error), `converged`, `burning` and `stable` per condition, and `obstacle`, why
            there can be no flame, or None.

        Raises:
            SolveError: With `throw`, where there can be no flame, Newton fails, the mesh is not fine enough, or what
                was found does not burn.
        """
        fixed = flame.detached()
        if obstacle := fixed.obstacle(self.solve):
            return self._none(fixed, obstacle, throw)
        if start is None and (simpler := fixed.simpler()) is not None:
            near = self.solve(simpler, throw=False)
            if near.success and (moved := self.solve(flame, start=near.value, throw=False)).success:
                moved.stats["num_iterations"] += near.stats["num_iterations"]
                return moved
        final = start is not None  # on meshes on the way the square root of the tolerance will do
        if start is None:
            problem, solved = self._cold(fixed)
        else:
            problem = start.problem.of(fixed)
            solved = self._newton(problem, start.state.detach(), final)
        total = int(solved.stats["num_iterations"])
        while True:
            state, result = solved.value, solved.result
            with torch.no_grad():
                finer, error, room = self.adapted(problem, state)
            if result is not Result.SUCCESS or (finer is None and final):
                break
            final = finer is None
            if finer is not None:
                if not room:
                    result = Result.MAX_ITERATIONS
                    break
                problem, state = onto(finer, problem, state)
            solved = self._newton(problem, state, final)
            total += int(solved.stats["num_iterations"])
        found = FlameSolution(flame, problem, state)
        burning, stable, converged = found.burning, found.stable, solved.stats["converged"]
        lost = ~burning if result is Result.SUCCESS else ~burning & ~converged
        obstacle = None
        if bool(lost.any()):
            obstacle = _went_out(lost)
        elif result is Result.SUCCESS and not bool(stable.all()):
            obstacle = _unstable(stable)
        if obstacle is not None:
            result = Result.WRONG_BRANCH
        if any(value.requires_grad for value in flame.parameters().values()) and torch.is_grad_enabled():
            problem = problem.of(flame)
            found = FlameSolution(flame, problem, implicit_root(state, problem.residual(state), found.factors))
        stats = {
            "num_iterations": total,
            "num_points": problem.mesh.x.shape[1:].numel(),
            "error": error,
            "converged": converged & burning & stable,
            "burning": burning,
            "stable": stable,
            "obstacle": obstacle,
        }
        solution = Solution(found, result, stats)
        if throw and obstacle is not None:
            raise SolveError(f"{type(flame).__name__}: {obstacle}", solution)
        return solution.check(type(flame).__name__) if throw else solution

    def resumed(self, flame: AbstractFlame, state: Mapping[str, torch.Tensor]) -> FlameSolution:
        """The solution that a `state_dict` is of.

        Args:
            flame: Its equations and parameters.
            state: As `FlameSolution.state_dict` returned it.
        """
        problem = self.problem(flame.detached(), state["edges"], int(state["anchor"]))
        if isinstance(problem, GridProblem):
            problem = type(problem)(problem.flame, problem.mesh, state["lean"])
        return FlameSolution(flame, problem, state["state"])

    def _newton(self, problem: AbstractFlameProblem, state: torch.Tensor, final: bool) -> Solution[torch.Tensor]:
        tolerance = self.tolerance if final else self.tolerance**0.5
        return newton(problem, state, tolerance=tolerance, max_iterations=self.max_iterations)

    def _none(self, flame: AbstractFlame, obstacle: str, throw: bool) -> Solution[FlameSolution]:
        """The answer where there can be no flame: the first guess, marked as wrong."""
        edges = self.first_edges(flame)
        problem = self.problem(flame, edges, self.anchor(flame, edges))
        state, b = problem.pack(*flame.guess(problem.mesh.x)), edges.shape[0]
        no = torch.zeros(b, dtype=torch.bool)
        stats = {
            "num_iterations": 0,
            "num_points": problem.mesh.x.shape[1:].numel(),
            "error": torch.full((b,), torch.inf, dtype=torch.float64),
            "converged": no,
            "burning": no,
            "stable": no,
            "obstacle": obstacle,
        }
        solution = Solution(FlameSolution(flame, problem, state), Result.WRONG_BRANCH, stats)
        if throw:
            raise SolveError(f"{type(flame).__name__}: no flame: {obstacle}", solution)
        return solution

    def _cold(self, flame: AbstractFlame) -> tuple[AbstractFlameProblem, Solution[torch.Tensor]]:
        """The first mesh and the flames on it; those not found from one guess are tried from the next."""
        edges = self.first_edges(flame)
        anchor = self.anchor(flame, edges)
        problem, solved = self._first(*self._start(flame, self.problem(flame, edges, anchor))[:2])
        for other in flame.alternatives():
            found = self._found(problem, solved)
            if bool(found.all()):
                break
            edges = torch.where(found[:, None], edges, self.first_edges(other))
            problem, fresh, _ = self._start(other, self.problem(flame, edges, anchor))
            if flame.batch == 1:
                before = solved.stats["num_iterations"]
                problem, solved = self._first(problem, fresh)
                solved.stats["num_iterations"] += before
            else:
                solved = self._again(problem, solved, found, fresh)
        return problem, solved

    def _first(
        self, problem: AbstractFlameProblem, state: torch.Tensor
    ) -> tuple[AbstractFlameProblem, Solution[torch.Tensor]]:
        """The flame on a first mesh."""
        return problem, self._newton(problem, state, False)

    @staticmethod
    def _found(problem: AbstractFlameProblem, solved: Solution[torch.Tensor]) -> torch.Tensor:
        """Which conditions need no other guess, (b,): those with a flame, or gone out where flames can."""
        found = FlameSolution(problem.flame, problem, solved.value)
        return solved.stats["converged"] & (found.burning | problem.flame.folds) & found.stable

    def _again(
        self, problem: AbstractFlameProblem, solved: Solution[torch.Tensor], found: torch.Tensor, fresh: torch.Tensor
    ) -> Solution[torch.Tensor]:
        """Newton from `fresh` where no flame is found yet."""
        before = solved.stats["num_iterations"]
        solved = self._newton(problem, torch.where(found[:, None, None], solved.value, fresh), False)
        solved.stats["num_iterations"] += before
        return solved

    @staticmethod
    def _start(
        guesser: AbstractFlame, problem: AbstractFlameProblem, settled: torch.Tensor | None = None
    ) -> tuple[AbstractFlameProblem, torch.Tensor, bool]:
        """The problem near the first guess, the guess, and whether what forms only in the flame has settled in it.

        Fields that have settled in a guess of another thickness, on a mesh as much thicker, are a start for that.
        """
        y, z = guesser.guess(problem.mesh.x)
        problem = problem.near(y, z)
        state, found = problem.pack(y if settled is None else settled, z), False
        if guesser.held and isinstance(problem, GridProblem):
            holding = problem.holding(state, [*guesser.held, len(guesser.order)])
            solved = newton(holding, state, tolerance=1e-2, max_iterations=80)
            y, found = problem.unpack(solved.value)[0], solved.success
            z = guesser.settled(problem.mesh.x[:, 0], y[:, 0], z)
            problem = problem.near(y, z)
            state = problem.pack(y, z)
        if easier := guesser.eased():
            state = newton(problem.of(easier), state, tolerance=1e-3, max_iterations=80).value
        return problem, state, found

    @staticmethod
    def anchor(flame: AbstractFlame, edges: torch.Tensor) -> int:
        """Number of the edge that holds the anchor."""
        if flame.anchor_end == "origin":
            return int(edges[0].abs().argmin())
        return 0 if flame.anchor_end == "left" else edges.shape[1] - 1


def onto(
    finer: AbstractFlameProblem, problem: AbstractFlameProblem, state: torch.Tensor
) -> tuple[AbstractFlameProblem, torch.Tensor]:
    """Another mesh near a state of this one, and the state on it."""
    y, z = problem.unpack(state)
    fine_y = problem.mesh.interpolate(y, finer.mesh.x.flatten(1)).reshape(*finer.mesh.x.shape, y.shape[-1])
    finer = finer.near(fine_y, z[:, 0, 0, 0])
    return finer, finer.pack(fine_y, z[:, 0, 0, 0])


def _unstable(stable: torch.Tensor) -> str:
    which = [k for k, kept in enumerate(stable.tolist()) if not kept]
    return (
        f"conditions {which}: the solution found is the unstable one between a burning and an extinguished flame; "
        "start from a solution at lower strain"
    )


def _went_out(lost: torch.Tensor) -> str:
    which = [k for k, out in enumerate(lost.tolist()) if out]
    return (
        f"conditions {which}: the only solution found does not burn (extinguished); lower the strain (smaller mass "
        "fluxes, longer distance) or move the mixture towards stoichiometric"
    )
