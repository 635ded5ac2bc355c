"""How the steps of least squares are chosen: damping, stop and limits, apart from the iteration that obeys them."""

import abc
import dataclasses
import math
from collections.abc import Callable

import torch

from simengine.solve.least_squares.state import IterationState

SMALLEST_DAMPING = 1e-15


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractLeastSquaresSolver(abc.ABC):
    """How steps are chosen.

    Attributes:
        tolerance: A problem has converged when the undamped step would change J y, in the norm, by less than this
            fraction of |r| + |J y|, or where the sum of squares cannot tell any more
            and Newton steps on the gradient have done the rest.
        absolute: The same as a number in the unit of the residual, where that is known; the larger one counts.
        gradient: Converged also where no column of J makes an angle with r whose cosine exceeds this: 0 for never.
        max_iterations: Trials per problem.
        drop: A problem has also converged when `patience` trials in a row, and the undamped steps there, were predicted
            to lower |r|^2 by less than this: 1e-2 is a tenth of a standard deviation where rows are divided by theirs.
        patience: Trials in a row that `drop` asks for.
        max_step: Largest change of an unknown in a trial, a number or shape (n,); each is held back by itself.
        scale: Squares of the units of the unknowns, a positive tensor of shape () or (n,), in place of the
            largest diag(J^T J) seen so far (Moré 1978): damping is relative to it.
        callback: Called with the state after every trial of `least_squares` (unknowns, costs, damping, statuses), to
            show or to keep; what it raises ends the solve. A constrained solve shows its inner problems.
    """

    tolerance: float = 1e-10
    absolute: float = 0.0
    gradient: float = 0.0
    max_iterations: int = 500
    drop: float = 0.0
    patience: int = 2
    max_step: float | torch.Tensor = math.inf
    scale: torch.Tensor | None = dataclasses.field(default=None, compare=False)
    callback: Callable[[IterationState], None] | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.tolerance > 0 or self.max_iterations < 1:
            raise ValueError(
                f"expected tolerance > 0 and max_iterations >= 1, got {self.tolerance} and {self.max_iterations}"
            )
        if not self.absolute >= 0 or not self.gradient >= 0:
            raise ValueError(f"expected absolute and gradient >= 0, got {self.absolute} and {self.gradient}")
        if self.patience < 1:
            raise ValueError(f"expected patience >= 1, got {self.patience}")
        if not self.drop >= 0 or not bool((torch.as_tensor(self.max_step) > 0).all()):
            raise ValueError(f"expected drop >= 0 and max_step > 0, got {self.drop} and {self.max_step}")
        if self.scale is not None and (
            self.scale.ndim > 1 or not bool(((self.scale > 0) & self.scale.isfinite()).all())
        ):
            raise ValueError(f"scale: expected positive finite numbers of shape () or (n,), got {self.scale.tolist()}")

    accelerated = False  # whether steps follow the residual's curvature along them
    finished = False  # whether Newton steps may end what did not converge

    @property
    def bounded(self) -> bool:
        """Whether steps are held back."""
        return isinstance(self.max_step, torch.Tensor) or self.max_step < math.inf

    def shortened(self, step: torch.Tensor) -> torch.Tensor:
        """The step (b, n), no unknown changed by more than `max_step`."""
        most = torch.as_tensor(self.max_step, dtype=step.dtype, device=step.device)
        return step.minimum(most).maximum(-most)

    def scaled(self, before: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor:
        """The scale (p, n) from that before and diag(J^T J) at a new point."""
        if self.scale is None:
            return before.maximum(diagonal)
        return self.scale.to(diagonal).expand_as(diagonal)

    @property
    @abc.abstractmethod
    def initial_damping(self) -> float:
        """Damping of the first step, relative to diag(J^T J)."""

    @abc.abstractmethod
    def accept(self, gain: torch.Tensor) -> torch.Tensor:
        """Which trials to take; `gain` (b,) is the actual over the predicted reduction, NaN where not finite."""

    def failed(self, well: torch.Tensor) -> torch.Tensor:
        """Which problems end because their trial was not `well` (b,): none, where damping can still help."""
        return torch.zeros_like(well)

    @abc.abstractmethod
    def next_damping(self, damping: torch.Tensor, growth: torch.Tensor, gain: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Damping and growth factor after a trial of that gain."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevenbergMarquardt(AbstractLeastSquaresSolver):
    """Damped by the gain ratio (Nielsen 1999), in the units of each unknown (Marquardt's scaling).

    Steps bend with the residual's second derivative along them, and one that would turn too far is refused (geodesic
    acceleration, Transtrum & Sethna 2012): curved valleys take tens of trials instead of thousands. Where a dense
    problem still did not converge, as where a large residual makes J^T J a poor Hessian, Newton steps finish it.

    Attributes:
        damping: The first one, relative to diag(J^T J).
        accelerated: Whether steps bend; costs three residuals a trial, for dense problems only.
        finished: Whether Newton steps may finish; dense problems only.
    """

    damping: float = 1e-3
    accelerated: bool = True
    finished: bool = True

    @property
    def initial_damping(self) -> float:
        """The option `damping`."""
        return self.damping

    def accept(self, gain: torch.Tensor) -> torch.Tensor:
        """Trials that lower the sum of squares."""
        return gain > 1e-4

    def next_damping(self, damping: torch.Tensor, growth: torch.Tensor, gain: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A good step divides the damping by up to 10; a bad one multiplies it by 2, 4, 8, ..."""
        taken = self.accept(gain)
        factor = torch.where(taken, (1 - (2 * gain - 1) ** 3).clamp(0.1, 4.0), growth)
        return (damping * factor).clamp_min(SMALLEST_DAMPING), torch.where(taken, 2.0, 2 * growth)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussNewton(AbstractLeastSquaresSolver):
    """Full undamped steps: one step for a linear residual, quadratic convergence near a small residual.

    May diverge from a far start, and needs a Jacobian of full rank; where in doubt use `LevenbergMarquardt`.
    """

    @property
    def initial_damping(self) -> float:
        """None."""
        return 0.0

    def accept(self, gain: torch.Tensor) -> torch.Tensor:
        """Every finite trial."""
        return gain.isfinite()

    def next_damping(self, damping: torch.Tensor, growth: torch.Tensor, gain: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """No damping."""
        return damping, growth

    def failed(self, well: torch.Tensor) -> torch.Tensor:
        """Whichever are not well."""
        return ~well
