"""The ignition delay of a closed reactor, with exact derivatives in every rate constant and the first state.

The delay is where an event function g of the state vanishes: T - (T_0 + rise), or d2T/dt2, whose change of sign is the
steepest rise. Its derivative follows by implicit differentiation, d tau = -(g_y dy + dg)/(g_y dy/dt), with dy by the
adjoint of the very steps that were taken: one pass backwards for all constants.
"""

import dataclasses
from collections.abc import Callable

import torch

from simengine.flame.reactor.closed import ClosedReactor
from simengine.solve.radau import Step, StiffError, stepped, steps
from simengine.solve.solution import Result, Solution, SolveError

Event = Callable[[ClosedReactor, torch.Tensor], torch.Tensor]
SHARP = 1e-13  # of the delay, to which the event is found on the last step
AT_ONCE = 4_000_000  # entries of matrices
LEAST_RISE = 50.0  # K by which the steepest rise must have warmed the gas: slow heating has none that counts


@dataclasses.dataclass(frozen=True)
class Ignition:
    """An ignition that was found, to be differentiated as often as is wanted.

    Attributes:
        reactor: Whose, without gradients.
        rise: Kelvins by which ignited gas is hotter; None for the steepest rise.
        taken: The steps, the last of which ends at the ignition.
    """

    reactor: ClosedReactor
    rise: float | None
    taken: tuple[Step, ...]

    @property
    def delay(self) -> float:
        """Time until the ignition [s]."""
        return self.taken[-1].t + self.taken[-1].h

    def of(self, reactor: ClosedReactor) -> torch.Tensor:
        """The delay [s], (), with gradients in what of the same reactor requires them."""
        tau = torch.tensor(self.delay, dtype=torch.float64)
        own = [value for value in (reactor.T, reactor.p, reactor.Y, *_rates(reactor)) if value.requires_grad]
        if not own or not torch.is_grad_enabled():
            return tau
        fixed, last, event = self.reactor, self.taken[-1], _event(self.rise)
        at = last.end.detach().requires_grad_()
        (adjoint,) = torch.autograd.grad(event(fixed, at), at)
        backwards = self.taken[::-1]
        many = max(1, AT_ONCE // (3 * len(at) ** 2))  # steps whose matrices are made at once
        pace, seed, weights = None, adjoint, []
        for first in range(0, len(backwards), many):
            part = backwards[first : first + many]
            matrices = fixed.linearised(torch.cat([step.stages for step in part]))[1].unflatten(0, (-1, 3))
            pace = float(adjoint @ last.along(matrices[0])) if pace is None else pace
            for step, J in zip(part, matrices, strict=True):
                seed, weight = step.back(J, seed)
                weights.append(weight)
        assert pace is not None  # the last step, where the gas ignites, is there
        stages = torch.cat([step.stages for step in backwards])
        # what the discrete equations and the event change by at first order, whose gradient is the implicit one
        moved = (torch.cat(weights) * reactor.rate(stages)).sum() + seed @ reactor.start + event(reactor, last.end)
        return tau - (moved - moved.detach()) / pace


def ignite(
    reactor: ClosedReactor,
    *,
    rise: float | None = None,
    longest: float = 10.0,
    rtol: float = 1e-6,
    atol: float = 1e-12,
) -> Ignition:
    """The ignition of a reactor; arguments and errors as of `ignition_delay`."""
    if rise is not None and not 0 < rise < 3000:
        raise ValueError(f"rise={rise!r}: expected kelvins between 0 and 3000, or None for the steepest rise")
    fixed = reactor.detached()
    with torch.no_grad():
        return Ignition(fixed, rise, tuple(_until(fixed, _event(rise), rise, longest, rtol, atol)))


def ignition_delay(
    reactor: ClosedReactor,
    *,
    rise: float | None = None,
    longest: float = 10.0,
    rtol: float = 1e-6,
    atol: float = 1e-12,
) -> torch.Tensor:
    """Time [s] until a reactor ignites, (), with gradients in what of the reactor requires them.

    Args:
        reactor: The reactor and its first state.
        rise: Ignited is what is hotter than at first by so much [K]; None for the steepest rise of the temperature.
        longest: Time to wait [s].
        rtol: Error of a step, relative.
        atol: Error of a step in mass fractions; of temperatures 1e3 times it.

    Raises:
        SolveError: Nothing ignites before `longest`.
    """
    return ignite(reactor, rise=rise, longest=longest, rtol=rtol, atol=atol).of(reactor)


def _rates(reactor: ClosedReactor) -> tuple[torch.Tensor, ...]:
    rates = reactor.rates
    return () if rates is None else tuple(v for v in vars(rates).values() if isinstance(v, torch.Tensor))


def _event(rise: float | None) -> Event:
    return _steepest if rise is None else _above(rise)


def _above(rise: float) -> Event:
    """T - (T_0 + rise)."""

    def event(reactor: ClosedReactor, y: torch.Tensor) -> torch.Tensor:
        return y[0] - reactor.T - rise

    return event


def _steepest(reactor: ClosedReactor, y: torch.Tensor) -> torch.Tensor:
    """-d2T/dt2, in plain torch, since its derivative takes second derivatives of the rates."""
    with torch.enable_grad():
        at = y if y.requires_grad else y.detach().requires_grad_()
        rate = reactor.rate(at, plain=True)
        (slope,) = torch.autograd.grad(rate[0], at, create_graph=True)
        return -(slope * rate).sum()


def _value(event: Event, reactor: ClosedReactor, y: torch.Tensor, rise: float | None) -> float:
    """The event function without gradients, the second derivative by the exact Jacobian."""
    if rise is not None:
        return float(event(reactor, y))
    rate, J = (value[0] for value in reactor.linearised(y[None]))
    return -float(J[0] @ rate)


def _until(
    fixed: ClosedReactor, event: Event, rise: float | None, longest: float, rtol: float, atol: float
) -> list[Step]:
    """Steps to the event, the last of which ends there.

    Raises:
        SolveError: It does not come.
    """
    tolerance = torch.full((len(fixed.Y) + 1,), atol, dtype=torch.float64)
    tolerance[0] = 1e3 * atol
    taken: list[Step] = []
    before: float | None = None
    hottest, first = float(fixed.T), float(fixed.T)
    try:
        for step in steps(fixed.linearised, fixed.start, longest, rtol=rtol, atol=tolerance):
            hottest = max(hottest, float(step.end[0]))
            if rise is not None or float(step.end[0]) > first + LEAST_RISE:
                before = _value(event, fixed, step.y, rise) if before is None else before
                after = _value(event, fixed, step.end, rise)
                if before < 0 <= after:
                    scale = tolerance + rtol * step.y.abs()
                    return [*taken, _shortened(fixed, event, rise, step, before, after, scale)]
                before = after
            taken.append(step)
    except StiffError as error:
        raise _lost(f"the steps failed: {error}") from None
    raise _lost(
        f"no ignition within {longest:g} s: the gas came to {hottest:.0f} K from {float(fixed.T):.0f} K; wait longer, "
        "or start hotter"
    )


def _lost(why: str) -> SolveError:
    return SolveError(f"ignition_delay: {why}", Solution(torch.tensor(torch.nan), Result.WRONG_BRANCH, {}))


def _shortened(
    fixed: ClosedReactor,
    event: Event,
    rise: float | None,
    step: Step,
    before: float,
    after: float,
    scale: torch.Tensor,
) -> Step:
    """The step cut where the event is, by the Illinois form of the rule of false position on its length."""
    low, high, found, side = 0.0, step.h, step, 0
    for _ in range(100):
        h = high - after * (high - low) / (after - before)
        cut = stepped(fixed.linearised, step.t, step.y, h, scale, found.along_polynomial(0.0, h))
        if cut is None:
            raise _lost(f"no step to the event near {step.t:.6g} s")
        moved, found = abs(h - found.h), cut[0]
        value = _value(event, fixed, found.end, rise)
        if value == 0 or moved < SHARP * (step.t + step.h):
            break
        if value * after > 0:
            high, after, before, side = h, value, before / (2 if side > 0 else 1), 1
        else:
            low, before, after, side = h, value, after / (2 if side < 0 else 1), -1
    return found
