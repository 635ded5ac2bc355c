"""The ignition delay of a closed reactor, with exact derivatives in every rate constant and the first state.

The delay is where an event function g of the state vanishes: T - (T_0 + rise), or d2T/dt2, whose change of sign is the
steepest rise. Its derivative follows by implicit differentiation, d tau = -(g_y dy + dg)/(g_y dy/dt), with dy by the
adjoint of the very steps that were taken: one pass backwards for all constants.
"""

import dataclasses
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

import torch

from simengine.flame.reactor.closed import ClosedReactor
from simengine.solve.radau import Evaluated, Step, StiffError, stepping, walking
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
    (found,) = ignite_all([reactor], rise=rise, longest=longest, rtol=rtol, atol=atol)
    if isinstance(found, SolveError):
        raise found
    return found


def ignite_all(
    reactors: Sequence[ClosedReactor],
    *,
    rise: float | None = None,
    longest: float = 10.0,
    rtol: float = 1e-6,
    atol: float = 1e-12,
) -> list[Ignition | SolveError]:
    """The ignitions of reactors of one gas, or why there is none; other arguments as of `ignition_delay`.

    Each takes its own steps, and what these ask for is evaluated for all at once.

    Raises:
        ValueError: A `rise` that is none, or reactors of several gases.
    """
    if rise is not None and not 0 < rise < 3000:
        raise ValueError(f"rise={rise!r}: expected kelvins between 0 and 3000, or None for the steepest rise")
    fixed = [reactor.detached() for reactor in reactors]
    if not all(alike(fixed[0], one) for one in fixed):
        raise ValueError("reactors: expected one gas, with the same rates, and one thing that is held")
    found: dict[int, Ignition | SolveError] = {}
    with torch.no_grad():
        walks = {k: _until(one, _event(rise), rise, longest, rtol, atol) for k, one in enumerate(fixed)}
        values: dict[int, Evaluated | None] = dict.fromkeys(walks)
        while walks:
            asked: dict[int, torch.Tensor] = {}
            for k, walk in list(walks.items()):
                try:
                    asked[k] = walk.send(values[k])  # type: ignore[arg-type] # None at first
                except StopIteration as end:
                    found[k] = Ignition(fixed[k], rise, tuple(end.value))
                except SolveError as error:
                    found[k] = error
                if k in found:
                    del walks[k]
            values = dict(zip(asked, _evaluated(fixed, asked), strict=True))
    return [found[k] for k in range(len(fixed))]


def alike(one: ClosedReactor, other: ClosedReactor) -> bool:
    """Whether two reactors differ in nothing but their first state."""
    if one.hold != other.hold or one.gas.mechanism.species != other.gas.mechanism.species:
        return False
    rates = [vars(reactor.rates or reactor.gas.rate_parameters).values() for reactor in (one, other)]
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(*rates, strict=True))


def _evaluated(fixed: Sequence[ClosedReactor], asked: Mapping[int, torch.Tensor]) -> Iterator[Evaluated]:
    """dy/dt and its derivative of the states that each reactor asks for."""
    if not asked:
        return iter(())
    rho = torch.cat([fixed[k].density(y[:, 0], y[:, 1:]) for k, y in asked.items()])
    sizes = [len(y) for y in asked.values()]
    rate, J = fixed[next(iter(asked))].linearised(torch.cat(list(asked.values())), rho)
    return zip(rate.split(sizes), J.split(sizes), strict=True)


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


def _value(
    event: Event, reactor: ClosedReactor, y: torch.Tensor, rise: float | None
) -> Generator[torch.Tensor, Evaluated, float]:
    """The event function without gradients, the second derivative by the exact Jacobian."""
    if rise is not None:
        return float(event(reactor, y))
    rate, J = (value[0] for value in (yield y[None]))
    return -float(J[0] @ rate)


def _until(
    fixed: ClosedReactor, event: Event, rise: float | None, longest: float, rtol: float, atol: float
) -> Generator[torch.Tensor, Evaluated, list[Step]]:
    """Steps to the event, the last of which ends there.

    Yields:
        States (k, K + 1), to be sent what they are evaluated to.

    Raises:
        SolveError: It does not come.
    """
    tolerance = torch.full((len(fixed.Y) + 1,), atol, dtype=torch.float64)
    tolerance[0] = 1e3 * atol
    taken: list[Step] = []
    before: float | None = None
    hottest, first = float(fixed.T), float(fixed.T)
    walk = walking(fixed.start, longest, rtol=rtol, atol=tolerance)
    try:
        step = yield from _next(walk)
        while step is not None:
            hottest = max(hottest, float(step.end[0]))
            if rise is not None or float(step.end[0]) > first + LEAST_RISE:
                if before is None:
                    before = yield from _value(event, fixed, step.y, rise)
                after = yield from _value(event, fixed, step.end, rise)
                if before < 0 <= after:
                    scale = tolerance + rtol * step.y.abs()
                    cut = yield from _shortened(fixed, event, rise, step, before, after, scale)
                    return [*taken, cut]
                before = after
            taken.append(step)
            step = yield from _next(walk)
    except StiffError as error:
        raise _lost(f"the steps failed: {error}") from None
    raise _lost(
        f"no ignition within {longest:g} s: the gas came to {hottest:.0f} K from {float(fixed.T):.0f} K; wait longer, "
        "or start hotter"
    )


def _next(
    walk: Generator[torch.Tensor | Step, Evaluated, None],
) -> Generator[torch.Tensor, Evaluated, Step | None]:
    """The next step of a walk; None behind the last."""
    asked = next(walk, None)
    while isinstance(asked, torch.Tensor):
        values = yield asked
        try:
            asked = walk.send(values)
        except StopIteration:
            return None
    return asked


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
) -> Generator[torch.Tensor, Evaluated, Step]:
    """The step cut where the event is, by the Illinois form of the rule of false position on its length."""
    low, high, found, side = 0.0, step.h, step, 0
    for _ in range(100):
        h = high - after * (high - low) / (after - before)
        cut = yield from stepping(step.t, step.y, h, scale, found.along_polynomial(0.0, h))
        if cut is None:
            raise _lost(f"no step to the event near {step.t:.6g} s")
        moved, found = abs(h - found.h), cut[0]
        value = yield from _value(event, fixed, found.end, rise)
        if value == 0 or moved < SHARP * (step.t + step.h):
            break
        if value * after > 0:
            high, after, before, side = h, value, before / (2 if side > 0 else 1), 1
        else:
            low, before, after, side = h, value, after / (2 if side < 0 else 1), -1
    return found
