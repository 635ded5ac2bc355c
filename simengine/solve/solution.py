"""What every iterative solver returns: a value, how it ended, and figures of the way there."""

import dataclasses
import enum
from typing import Any, Generic, TypeVar

import torch

from simengine.notebook import described, dots, heading

T = TypeVar("T")


class Result(enum.IntEnum):
    """How a solve ended. Larger is worse, so the result of a batch is the maximum over its problems."""

    SUCCESS = 0
    RANK_DEFICIENT = 1
    STAGNATED = 2
    MAX_ITERATIONS = 3
    SINGULAR = 4
    NONFINITE = 5
    WRONG_BRANCH = 6
    INFEASIBLE = 7

    @property
    def remedy(self) -> str:
        """What happened, and what to do about it."""
        return _REMEDIES[self]


_REMEDIES = {
    Result.SUCCESS: "converged",
    Result.RANK_DEFICIENT: "a stationary point was reached, but the Jacobian there is rank deficient, so the minimiser "
    "is not unique and has no implicit gradient; add observations or a regularising row",
    Result.STAGNATED: "no step lowered the residual although its gradient is not zero; check that the Jacobian is that "
    "of the residual and that both are smooth, or loosen the tolerance towards the rounding of the residual",
    Result.MAX_ITERATIONS: "the iteration limit was reached before the tolerance; raise max_iterations, start nearer, "
    "or loosen the tolerance",
    Result.SINGULAR: "the linear system of a step is singular; add damping or a regularising row",
    Result.NONFINITE: "the residual or its Jacobian is NaN or infinite; start inside the domain of the residual",
    Result.WRONG_BRANCH: "a solution of the equations, but not of the kind that was asked for; start nearer to the one "
    "sought, if there is one",
    Result.INFEASIBLE: "no point was found at which the constraints hold; start elsewhere, or check that they do not "
    "contradict one another",
}


class SolveError(RuntimeError):
    """A solve with `throw=True` did not succeed.

    Attributes:
        solution: Where it ended.
    """

    def __init__(self, message: str, solution: "Solution[Any]") -> None:
        super().__init__(message)
        self.solution = solution


@dataclasses.dataclass(frozen=True)
class Solution(Generic[T]):
    """The end of a solve.

    Attributes:
        value: The solution, or the best point reached.
        result: How it ended; of a batch the worst.
        stats: Figures by name, such as `num_iterations`; for a batch tensors with one entry per problem.
    """

    value: T
    result: Result
    stats: dict[str, Any]

    def __repr__(self) -> str:
        figures = {n: v for n, v in self.stats.items() if isinstance(v, int | float)}
        told = ", ".join([described(self.value), *(f"{name} {value:.6g}" for name, value in figures.items())])
        return f"Solution({self.result.name}, {told})"

    def _repr_html_(self) -> str:
        value = self.value
        if not isinstance(value, torch.Tensor) or value.ndim not in (1, 2) or value.shape[-1] < 2:
            return heading(repr(self))
        rows = value.detach().reshape(-1, value.shape[-1])[:3]
        index = torch.arange(rows.shape[1], dtype=torch.float64)
        titles = [f"entries {float(row.min()):.4g} to {float(row.max()):.4g}" for row in rows]
        return heading(repr(self)) + dots([(index, row) for row in rows], titles, equal=False)

    @property
    def success(self) -> bool:
        """Whether the solve (of a batch: every problem) converged."""
        return self.result is Result.SUCCESS

    def check(self, what: str = "solve") -> "Solution[T]":
        """This solution if it succeeded.

        Raises:
            SolveError: It did not; names what was solved, how it ended and the remedy.
        """
        if not self.success:
            raise SolveError(f"{what}: {self.result.name}: {self.result.remedy}", self)
        return self
