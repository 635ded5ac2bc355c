"""Stiff initial value problems by the three-stage Radau IIA method, of order 5, with what its adjoint takes.

E. Hairer & G. Wanner, "Solving Ordinary Differential Equations II", Springer 1996, sections IV.5 and IV.8: collocation
at c = (4 -+ sqrt 6)/10 and 1. Every step solves its stages by full Newton steps, so that the step is a smooth function
of where it starts and of its length, and what it gives can be differentiated exactly as it stands.

`stepping` and `walking` ask for their evaluations and are sent them, so that many problems can be evaluated at once.
"""

import dataclasses
from collections.abc import Callable, Generator, Iterator

import torch

ROOT = 6.0**0.5
A = torch.tensor(
    [
        [(88 - 7 * ROOT) / 360, (296 - 169 * ROOT) / 1800, (-2 + 3 * ROOT) / 225],
        [(296 + 169 * ROOT) / 1800, (88 + 7 * ROOT) / 360, (-2 - 3 * ROOT) / 225],
        [(16 - ROOT) / 36, (16 + ROOT) / 36, 1 / 9],
    ],
    dtype=torch.float64,
)
REAL = 3 + 3 ** (2 / 3) - 3 ** (1 / 3)  # the real eigenvalue of the inverse of A
EMBEDDED = torch.tensor([-13 - 7 * ROOT, -13 + 7 * ROOT, -1.0], dtype=torch.float64) / 3
NODES = torch.tensor([0.0, (4 - ROOT) / 10, (4 + ROOT) / 10, 1.0], dtype=torch.float64)  # the start and the stages
NEWTON = 12  # iterations of a step
ENOUGH = 1e-2  # last change over the scale: of relative 1e-5, what full Newton leaves is of the order of its square
Evaluated = tuple[torch.Tensor, torch.Tensor]  # dy/dt of states (k, n), and its derivative
Linearised = Callable[[torch.Tensor], Evaluated]


class StiffError(RuntimeError):
    """The steps became too short, or too many."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        t: Where it starts [s].
        h: Its length [s].
        y: State at its start, (n,).
        Z: Stages less the start, (3, n); the last is where it ends.
    """

    t: float
    h: float
    y: torch.Tensor
    Z: torch.Tensor

    @property
    def stages(self) -> torch.Tensor:
        """States at the three stages, (3, n)."""
        return self.y + self.Z

    @property
    def end(self) -> torch.Tensor:
        """State at its end, (n,)."""
        return self.y + self.Z[2]

    @property
    def last_rate(self) -> torch.Tensor:
        """dy/dt at its end, (n,), as the equations of the stages have it."""
        return torch.linalg.solve(A, self.Z)[2] / self.h

    def along_polynomial(self, start: float, h: float) -> torch.Tensor:
        """Stages less the start (3, n) that its polynomial has of a step of length h, `start` after its own start."""
        at = (start + NODES * h) / self.h
        weights = torch.ones(4, 4, dtype=torch.float64)  # of Lagrange: place, node
        for k in range(4):
            for j in range(4):
                if j != k:
                    weights[:, k] *= (at - NODES[j]) / (NODES[k] - NODES[j])
        values = weights[:, 1:] @ self.Z
        return values[1:] - values[0]

    def matrix(self, J: torch.Tensor) -> torch.Tensor:
        """Derivative of the equations of the stages, I - h A x J, (3 n, 3 n), for J (3, n, n)."""
        n = len(self.y)
        blocks = -self.h * A[:, :, None, None] * J[None]  # i, j, n, n
        return torch.eye(3 * n, dtype=self.y.dtype) + blocks.permute(0, 2, 1, 3).reshape(3 * n, 3 * n)

    def back(self, J: torch.Tensor, adjoint: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The adjoint (n,) at its start from that at its end, and the weights (3, n) of dy/dt at the stages."""
        seed = torch.zeros_like(self.Z)
        seed[2] = adjoint
        mu = torch.linalg.solve(self.matrix(J).T, seed.flatten()).reshape(3, -1)
        weights = self.h * A.T @ mu
        return adjoint + torch.einsum("jab,ja->b", J, weights), weights

    def along(self, J: torch.Tensor) -> torch.Tensor:
        """Derivative of its end in its length, (n,)."""
        return torch.linalg.solve(self.matrix(J), (self.Z / self.h).flatten()).reshape(3, -1)[2]


def stepped(
    f: Linearised, t: float, y: torch.Tensor, h: float, scale: torch.Tensor, guess: torch.Tensor | None = None
) -> tuple[Step, torch.Tensor] | None:
    """As `stepping`, of the equations f."""
    asks, values = stepping(t, y, h, scale, guess), None
    try:
        while True:
            values = f(asks.send(values))  # type: ignore[arg-type] # None at first
    except StopIteration as end:
        return end.value


def stepping(
    t: float, y: torch.Tensor, h: float, scale: torch.Tensor, guess: torch.Tensor | None = None
) -> Generator[torch.Tensor, Evaluated, tuple[Step, torch.Tensor] | None]:
    """One step of length h and the derivative J (n, n) of dy/dt about its end; None where Newton does not converge.

    Args:
        t: Where it starts.
        y: State there, (n,).
        h: Its length.
        scale: Size of a noticeable change of each unknown, (n,).
        guess: Of the stages less the start, (3, n).

    Yields:
        States (k, n), to be sent what they are evaluated to.
    """
    step = Step(t, h, y, torch.zeros(3, len(y), dtype=y.dtype) if guess is None else guess)
    before = torch.inf
    for _ in range(NEWTON):
        rate, J = yield step.stages
        residual = step.Z - h * A @ rate
        change = torch.linalg.solve(step.matrix(J), -residual.flatten()).reshape(3, -1)
        size = float((change / scale).abs().max())
        step = dataclasses.replace(step, Z=step.Z + change)
        if size < ENOUGH:
            return step, J[2]
        if not size < 1e15 or size > 2 * before:
            return None
        before = size
    return None


def steps(
    f: Linearised, y: torch.Tensor, end: float, *, rtol: float, atol: torch.Tensor, most: int = 20000
) -> Iterator[Step]:
    """As `walking`, of the equations f."""
    asks, values = walking(y, end, rtol=rtol, atol=atol, most=most), None
    try:
        while True:
            asked = asks.send(values)  # type: ignore[arg-type] # None at first
            values = None if isinstance(asked, Step) else f(asked)
            if isinstance(asked, Step):
                yield asked
    except StopIteration:
        return


def walking(
    y: torch.Tensor, end: float, *, rtol: float, atol: torch.Tensor, most: int = 20000
) -> Generator[torch.Tensor | Step, Evaluated, None]:
    """Steps from y (n,) at t = 0 to `end`, each as long as its error (of an embedded formula of order 3) allows.

    Args:
        y: First state.
        end: Last time [s].
        rtol: Error of a step, relative.
        atol: Absolute, (n,).
        most: Steps.

    Yields:
        Each step, and before it states (k, n), to be sent what they are evaluated to.

    Raises:
        StiffError: They became too short, or too many.
    """
    t, n = 0.0, len(y)
    identity = torch.eye(n, dtype=y.dtype)
    rate, J = (value[0] for value in (yield y[None]))
    h = min(end, 0.1 / max(float((rate / (atol + rtol * y.abs())).abs().max()), 1e-30))
    last: Step | None = None
    grown = True  # the step before was accepted at once
    for _ in range(most):
        if t >= end * (1 - 1e-12):
            return
        h = min(h, end - t)
        if h < 1e-15 * t or h < 1e-25:
            raise StiffError(f"steps of {h:.3g} s at t = {t:.6g} s are too short")
        scale = atol + rtol * y.abs()
        found = yield from stepping(t, y, h, scale, None if last is None else last.along_polynomial(last.h, h))
        if found is None:
            h, last = 0.25 * h, None
            continue
        step, J_end = found
        toward = REAL / h * identity - J
        error = torch.linalg.solve(toward, rate + EMBEDDED @ step.Z / h)
        size = float((error / (atol + rtol * torch.maximum(y.abs(), step.end.abs()))).square().mean().sqrt())
        if size > 1:  # damped once more, for stiff beginnings
            again, _ = yield (y + error)[None]
            error = torch.linalg.solve(toward, again[0] + EMBEDDED @ step.Z / h)
            size = float((error / (atol + rtol * torch.maximum(y.abs(), step.end.abs()))).square().mean().sqrt())
        if size > 1:
            h, grown = h * max(0.2, 0.9 * size**-0.25), False
            continue
        yield step
        t, y, last = t + h, step.end, step
        rate, J = step.last_rate, J_end
        h *= min(5.0 if grown else 1.0, 0.9 * max(size, 1e-8) ** -0.25)
        grown = True
    raise StiffError(f"more than {most} steps before t = {end:g} s")
