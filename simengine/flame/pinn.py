"""A physics-informed network for the simplified flame, trained by Levenberg-Marquardt.

The inlet conditions and the physical range are exact by construction: with xi = x/delta,

    T = T_in + (T_max - T_in) q/(1 + q),  q = (g delta/(T_max - T_in)) (exp(s) - 1),  s = xi + xi^2 N(xi)/(1 + xi)

has T(0) = T_in and T'(0) = g for any network N, and s is nearly straight where T is a steep front. Derivatives in x are
carried through the network as truncated Taylor series, one sweep instead of nested differentiation. The right end lies
on the slow manifold, where lam T'' follows from the rate, which excludes the branch that blows off. A small residual at
the training points does not prove a solution: `check` looks at the branch and at the residual between the points.
"""

import dataclasses
import math

import torch

from simengine.flame.simplified import SimplifiedFlame
from simengine.solve.solution import Result, Solution

Taylor = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # value, first and second derivative


@dataclasses.dataclass(frozen=True)
class FlameNetwork:
    """T(x) by a network of two hidden layers of tanh, and the flame speed beside its weights.

    Attributes:
        flame: A single condition, without gradients.
        width: Of the hidden layers.
        delta: Length x is measured in [m].
        length: End of the domain [m].
    """

    flame: SimplifiedFlame
    width: int
    delta: float
    length: float

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        """Shapes of the weights and biases, and of ln sL."""
        w = self.width
        return [(w, 1), (w,), (w, w), (w,), (1, w), (1,), ()]

    def initial(self, *, seed: int, speed: float) -> torch.Tensor:
        """First parameters: Glorot's normal weights, no biases, the given flame speed; shape (P,)."""
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for size in self.sizes[:-1]:
            spread = math.sqrt(2 / sum(size)) if len(size) == 2 else 0.0
            parts.append(spread * torch.randn(size, generator=generator, dtype=torch.float64).flatten())
        return torch.cat([*parts, torch.tensor([math.log(speed)], dtype=torch.float64)])

    def speed(self, theta: torch.Tensor) -> torch.Tensor:
        """Flame speed [m/s]."""
        return theta[-1].exp()

    def temperature(self, theta: torch.Tensor, x: torch.Tensor) -> Taylor:
        """T, T' and T'' at x (n,) [m], each (n,)."""
        W1, b1, W2, b2, W3, b3 = self._weights(theta)
        xi = x / self.delta
        span = self.length / self.delta / 2
        hidden = _tanh(
            _affine(((xi / span - 1)[:, None], torch.ones_like(xi)[:, None] / span, 0 * xi[:, None]), W1, b1)
        )
        hidden = _tanh(_affine(hidden, W2, b2))
        net = tuple(part[:, 0] for part in _affine(hidden, W3, b3))
        one, zero = torch.ones_like(xi), torch.zeros_like(xi)
        # xi^2/(1 + xi) = xi - 1 + 1/(1 + xi)
        inverse = 1 / (1 + xi)
        envelope = (xi - 1 + inverse, 1 - inverse**2, 2 * inverse**3)
        bend = _times(envelope, (net[0], net[1], net[2]))
        s = (xi + bend[0], one + bend[1], zero + bend[2])
        rise = self.flame.T_max - self.flame.T_in
        size = self.flame.gradient * self.delta / rise
        growth = s[0].exp()
        q = (size * torch.expm1(s[0]), size * growth * s[1], size * growth * (s[1] ** 2 + s[2]))
        below = 1 / (1 + q[0])
        T = self.flame.T_in + rise * q[0] * below
        first = rise * q[1] * below**2
        second = rise * (q[2] * below**2 - 2 * q[1] ** 2 * below**3)
        return T, first / self.delta, second / self.delta**2

    def residual(self, theta: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The energy equation at x (n,) and the condition at the right end, scaled; (n + 1,)."""
        flame, sL = self.flame, self.speed(theta)
        capacity = flame.rho_in * sL * flame.cp
        scale = flame.rho_in * flame.cp * (flame.T_max - flame.T_in) * 0.3 / (3 * self.delta)
        T, slope, curvature = self.temperature(theta, torch.cat((x, x.new_tensor([self.length]))))
        heat = flame.rate(T[None, None], sL)[0, 0] * flame.qF
        # Relative to the preheating where that is small: its growth from the inlet decides where the flame stands.
        warm = 0.02 + ((T - flame.T_in) / (flame.T_max - flame.T_in)).detach()
        inside = ((capacity * slope - flame.lam * curvature - heat) / warm)[:-1] / scale
        # Slow manifold: M cp T' = heat + lam T'' with T'' = (d heat/dT) T'/(M cp)
        h = 1.0
        end = T[-1].reshape(1, 1, 1)
        growth = (flame.rate(end + h, sL) - flame.rate(end - h, sL))[0, 0, 0] * flame.qF / (2 * h)
        manifold = capacity * slope[-1] - heat[-1] - flame.lam * growth * slope[-1] / capacity
        return torch.cat((inside, 10 * manifold[None] / scale))

    def _weights(self, theta: torch.Tensor) -> list[torch.Tensor]:
        parts, start = [], 0
        for size in self.sizes[:-1]:
            parts.append(theta[start : start + math.prod(size)].reshape(size))
            start += math.prod(size)
        return parts


def _affine(v: Taylor, weight: torch.Tensor, bias: torch.Tensor) -> Taylor:
    return v[0] @ weight.T + bias, v[1] @ weight.T, v[2] @ weight.T


def _tanh(v: Taylor) -> Taylor:
    t = v[0].tanh()
    slope = 1 - t * t
    return t, slope * v[1], slope * (v[2] - 2 * t * v[1] ** 2)


def _times(a: Taylor, b: Taylor) -> Taylor:
    return a[0] * b[0], a[1] * b[0] + a[0] * b[1], a[2] * b[0] + 2 * a[1] * b[1] + a[0] * b[2]


@dataclasses.dataclass(frozen=True)
class TrainedFlame:
    """A trained network.

    Attributes:
        network: Its form.
        theta: Its parameters.
    """

    network: FlameNetwork
    theta: torch.Tensor

    @property
    def flame_speed(self) -> float:
        """Flame speed [m/s]."""
        return float(self.network.speed(self.theta))

    def temperature(self, x: torch.Tensor) -> torch.Tensor:
        """T [K] at x (n,) [m]."""
        return self.network.temperature(self.theta, x)[0]

    def check(self) -> dict[str, float | bool]:
        """Whether this is the flame: burnt at the end, never falling, the equation satisfied between the points.

        `residual` is the root mean square of the scaled equation on a mesh ten times finer than usual; 1.2e-3 goes with
        an error of T of 3e-4, 3e-4 with 8e-5.
        """
        x = torch.linspace(0, self.network.length, 2001, dtype=torch.float64)
        T, slope, _ = self.network.temperature(self.theta, x)
        burnt = bool(T[-1] > 0.9 * self.network.flame.T_max)
        rising = bool((slope > 0).all())
        residual = float(self.network.residual(self.theta, x)[:-1].square().mean().sqrt())
        return {"burnt": burnt, "rising": rising, "residual": residual, "ok": burnt and rising and residual < 2e-3}


def train_flame(
    flame: SimplifiedFlame,
    *,
    width: int = 16,
    points: int = 161,
    length: float = 1.5e-3,
    max_iterations: int = 200,
    tolerance: float = 1e-12,
    seed: int = 0,
    restarts: int = 4,
    throw: bool = True,
) -> Solution[TrainedFlame]:
    """Train a network on the equations of a flame, without data.

    Args:
        flame: A single condition.
        width: Of the two hidden layers.
        points: Collocation points, spread evenly.
        length: End of the domain [m].
        max_iterations: Levenberg-Marquardt steps of a start.
        tolerance: Of the mean square residual, where training stops.
        seed: Of the first weights; start r has seed + r.
        restarts: How many starts are tried until one passes the check.
        throw: Raise where none passes.

    Returns:
        The network. `stats`: `num_iterations`, `loss` and the figures of `TrainedFlame.check`.

    Raises:
        SolveError: With `throw`, where no start passes the check of branch and residual.
    """
    fixed = flame.replace(**{name: value.detach() for name, value in flame.parameters().items()})
    delta = float(fixed.lam / (fixed.rho_in * 0.35 * fixed.cp))
    network = FlameNetwork(fixed, width, delta, length)
    x = torch.linspace(0, length, points, dtype=torch.float64)
    total = 0
    for start in range(restarts):
        theta, loss, iterations = _minimise(network, x, seed + start, max_iterations, tolerance)
        total += iterations
        trained = TrainedFlame(network, theta)
        figures = trained.check()
        if figures["ok"]:
            break
    result = Result.SUCCESS if figures["ok"] else Result.STAGNATED
    solution = Solution(trained, result, {"num_iterations": total, "loss": loss, **figures})
    return solution.check("flame network") if throw else solution


def _minimise(
    network: FlameNetwork, x: torch.Tensor, seed: int, max_iterations: int, tolerance: float
) -> tuple[torch.Tensor, float, int]:
    theta, damping = network.initial(seed=seed, speed=0.35), 1e-2
    identity = torch.eye(len(x) + 1, dtype=torch.float64)
    iteration, loss = 0, math.inf
    for iteration in range(1, max_iterations + 1):  # noqa: B007 - reported
        leaf = theta.clone().requires_grad_()
        r = network.residual(leaf, x)
        (jacobian,) = torch.autograd.grad(r, leaf, identity, is_grads_batched=True)
        r = r.detach()
        loss = float(r.square().mean())
        if loss < tolerance:
            break
        gram, gradient = jacobian.T @ jacobian, jacobian.T @ r
        for _ in range(10):
            step = torch.linalg.solve(gram + damping * torch.eye(len(theta), dtype=torch.float64), -gradient)
            after = float(network.residual(theta + step, x).square().mean())
            if after < loss:
                theta, damping = theta + step, max(damping / 3, 1e-14)
                break
            damping *= 4
        else:
            break
    return theta, loss, iteration
