"""A physics-informed network for the simplified flame, forward and inverse.

The inlet conditions and the physical range are exact by construction: with xi = x/delta,

    T = T_in + (T_max - T_in) q/(1 + q),  q = (g delta/(T_max - T_in)) (exp(s) - 1),  s = xi + xi^2 N(xi)/(1 + xi)

has T(0) = T_in and T'(0) = g for any network N, and s is nearly straight where T is a steep front. N is one layer of
tanh units, spread over the domain and later towards where s bends; T and T' come in one Taylor sweep. Energy is taken
in its first integral,

    lam (T' - g) + int omega qF dx = M cp (T - T_in)  up to every x,

relative to the preheating: its growth from the inlet decides where the flame stands. The right end lies on the slow
manifold, where lam T'' follows from the rate, which excludes the branch that blows off. A small residual at the
training points does not prove a solution: `check` looks at the branch and at the residual between the points.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch

from simengine.flame.equations.simplified import SimplifiedFlame
from simengine.flame.network.field_network import OVERLAP, least_squares, spread
from simengine.flame.network.integral_residual import GAUSS
from simengine.flame.network.training import FIRST_WEIGHT, SMALL_GAIN, AbstractTrainer, Data, by_autograd
from simengine.solve.solution import Result, Solution

Taylor = tuple[torch.Tensor, torch.Tensor]  # value and first derivative
FIRST_SPEED = 0.35  # m/s
STARTS = 6  # of a network with data; about a third of them are lost
APART = 1000  # seeds between two starts, so that no member begins where another did
LOST = 100.0  # mean square misfit over the noise of data that are not drawn nearer
CERTIFIED = 1e-3  # root mean square of the scaled energy between the points; 1e-4 goes with errors of T of 1e-5


@dataclasses.dataclass(frozen=True)
class SimplifiedNetwork:
    """T(x) by one layer of tanh, and the flame speed and sought parameters beside its weights.

    The unknowns theta (P,) are the shifts of the units over their widths, the logarithms of their steepness, the outer
    weights, (w,) each, their bias, and the logarithms of sL over `FIRST_SPEED` and of the sought parameters over their
    first values.

    Attributes:
        flame: A single condition, without gradients.
        width: Units.
        length: End of the domain [m]; the last 0.2 mm feel that the end condition is approximate.
        sought: Parameters of the flame that are unknown, name -> first value.
        faces: Between the places of the units, in units of delta, (width + 1,); None for an even spread.
    """

    flame: SimplifiedFlame
    width: int = 36
    length: float = 1.9e-3
    sought: Mapping[str, float] = dataclasses.field(default_factory=dict)
    faces: torch.Tensor | None = None

    def __post_init__(self) -> None:
        for name in self.sought:
            self.flame.parameter(name)
        if self.faces is None:
            even = torch.linspace(0, self.length / self.delta, self.width + 1, dtype=torch.float64)
            object.__setattr__(self, "faces", even)

    @property
    def delta(self) -> float:
        """Length x is measured in [m]."""
        flame = self.flame
        return float(flame.lam / (flame.rho_in * FIRST_SPEED * flame.cp))

    @property
    def num_weights(self) -> int:
        """Of the unknowns."""
        return 3 * self.width + 1

    def initial(self, seed: int) -> torch.Tensor:
        """First unknowns: units a little off their places, small outer weights; shape (P,)."""
        generator = torch.Generator().manual_seed(seed)
        units = 0.05 * torch.randn(3 * self.width, generator=generator, dtype=torch.float64)
        return torch.cat((units, units.new_zeros(2 + len(self.sought))))

    def speed(self, theta: torch.Tensor) -> torch.Tensor:
        """Flame speed [m/s], shape (1,)."""
        return FIRST_SPEED * theta[self.num_weights : self.num_weights + 1].exp()

    def parameters(self, theta: torch.Tensor) -> dict[str, torch.Tensor]:
        """The sought parameters by name."""
        logs = theta[self.num_weights + 1 :]
        return {name: first * logs[k].exp() for k, (name, first) in enumerate(self.sought.items())}

    def physics(self, theta: torch.Tensor) -> SimplifiedFlame:
        """The flame with the sought parameters."""
        return self.flame.replace(**self.parameters(theta)) if self.sought else self.flame

    def _units(self, theta: torch.Tensor, xi: torch.Tensor) -> Taylor:
        """The units and a 1 at xi (n,), and their derivatives, (n, width + 1) each."""
        assert self.faces is not None
        shift, steepness = theta[: 2 * self.width].reshape(2, -1)
        widths = OVERLAP * self.faces.diff()
        v = steepness.exp() / widths
        t = torch.tanh((xi[:, None] - 0.5 * (self.faces[1:] + self.faces[:-1]) - shift * widths) * v)
        one = torch.ones_like(t[:, :1])
        return torch.cat((t, one), dim=1), torch.cat(((1 - t * t) * v, 0 * one), dim=1)

    def exponent(self, theta: torch.Tensor, xi: torch.Tensor) -> Taylor:
        """S and its derivative at xi (n,), each (n,)."""
        units, slopes = self._units(theta, xi)
        outer = theta[2 * self.width : self.num_weights]
        N, dN = units @ outer, slopes @ outer
        inverse = 1 / (1 + xi)  # xi^2/(1 + xi) = xi - 1 + 1/(1 + xi)
        envelope = xi - 1 + inverse, 1 - inverse**2
        return xi + envelope[0] * N, 1 + envelope[1] * N + envelope[0] * dN

    def spread(self, theta: torch.Tensor, count: int, *, samples: int = 600) -> torch.Tensor:
        """Edges of intervals over xi that are shorter where T rises and bends, (count + 1,)."""
        xi = torch.linspace(0, self.length / self.delta, samples, dtype=theta.dtype)
        with torch.no_grad():
            T, _ = self.temperature(theta, xi * self.delta)
        return spread(xi, T[:, None], T[-1:], count)

    def adapted(self, theta: torch.Tensor, *, samples: int = 600) -> tuple["SimplifiedNetwork", torch.Tensor]:
        """The same with its units where s bends, and the unknowns (P,) that fit it as it was."""
        xi = torch.linspace(0, self.length / self.delta, samples, dtype=theta.dtype)
        s, _ = self.exponent(theta, xi)
        other = dataclasses.replace(self, faces=self.spread(theta, self.width))
        outside = torch.cat((theta.new_zeros(2 * self.width), theta[2 * self.width :]))
        units, _ = other._units(outside, xi)
        envelope = (xi**2 / (1 + xi))[:, None]
        outside[2 * self.width : self.num_weights] = least_squares(envelope * units, s - xi, ridge=1e-6)
        return other, outside

    def temperature(self, theta: torch.Tensor, x: torch.Tensor) -> Taylor:
        """T [K] and T' [K/m] at x (n,) [m], each (n,)."""
        flame, delta = self.physics(theta), self.delta
        s, ds = self.exponent(theta, x / delta)
        rise = flame.T_max - flame.T_in
        size = flame.gradient * delta / rise
        q, dq = size * torch.expm1(s), size * s.exp() * ds
        return flame.T_in + rise * (q / (1 + q)), rise * dq / (1 + q) ** 2 / delta

    def residual(self, theta: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Energy up to each but the first of x (n,), which begins at 0, and the slow manifold at the last, scaled."""
        flame, sL, h = self.physics(theta), self.speed(theta), x.diff()
        capacity, rise = flame.rho_in * sL * flame.cp, flame.T_max - flame.T_in
        T, slope = self.temperature(theta, x)
        heat, middle = torch.zeros_like(h), 0.5 * (x[1:] + x[:-1])
        for place, weight in GAUSS:
            inner, _ = self.temperature(theta, middle + place * h)
            heat = heat + weight * h * flame.rate(inner[None, None], sL)[0, 0] * flame.qF
        gained = flame.lam * (slope[1:] - flame.gradient) + heat.cumsum(0)
        carried = T[1:] - flame.T_in
        energy = (gained / capacity - carried) / (0.02 * rise + carried).detach()
        # Slow manifold: M cp T' = heat + lam T'' with T'' = (d heat/dT) T'/(M cp)
        end, dT = T[-1].reshape(1, 1, 1), 1.0
        here, ahead, behind = (flame.rate(end + step, sL)[0, 0, 0] * flame.qF for step in (0.0, dT, -dT))
        growth = (ahead - behind) / (2 * dT)
        manifold = slope[-1] - here / capacity - flame.lam * growth * slope[-1] / capacity**2
        return torch.cat((energy, 10 * self.delta * manifold / rise))


@dataclasses.dataclass(frozen=True)
class TrainedFlame:
    """A trained network.

    Attributes:
        network: Its form.
        theta: Its unknowns.
    """

    network: SimplifiedNetwork
    theta: torch.Tensor

    @property
    def flame(self) -> SimplifiedFlame:
        """The flame with the parameters that were found."""
        return self.network.physics(self.theta)

    @property
    def eigenvalue(self) -> torch.Tensor:
        """Flame speed [m/s], shape (1,)."""
        return self.network.speed(self.theta)

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """The sought parameters by name."""
        return self.network.parameters(self.theta)

    def temperature(self, x: torch.Tensor) -> torch.Tensor:
        """T [K] at x (n,) [m]."""
        return self.network.temperature(self.theta, x)[0]

    def profiles(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """What can be observed at x (q,) [m], by name; (1, q) each."""
        return self.flame.profiles(self.temperature(x)[None, :, None], self.eigenvalue)

    def check(self) -> dict[str, Any]:
        """Whether this is the flame: burnt at the end, never falling, the equation satisfied between the points.

        `burning` refuses what was blown off, `within` what oscillates or burns at the inlet, and `imbalance` (the root
        mean square of the scaled energy on a mesh ten times finer than usual) what merely has a small loss.
        """
        x = torch.linspace(0, self.network.length, 2001, dtype=torch.float64)
        with torch.no_grad():
            T, slope = self.network.temperature(self.theta, x)
            imbalance = float(self.network.residual(self.theta, x)[:-1].square().mean().sqrt())
        burning = bool(T[-1] > 0.9 * self.flame.T_max)
        within = bool((slope > 0).all()) and float(slope[0]) < 0.1 * float(slope.max())
        ok = burning and within and imbalance < CERTIFIED
        return {"burning": burning, "within": within, "imbalance": imbalance, "ok": ok}


class SimplifiedTrainer(AbstractTrainer):
    """Trains the network of a simplified flame, from nothing.

    Args:
        network: Its form.
        points: Up to which energy is balanced; more than the unknowns, of which there are about three a unit.
        seed: Of the first weights.
        adapt: Steps until the units are placed anew, and again until the next time.
        data: x (q,), name of a profile -> values (q,), and their standard deviations; None for none.
    """

    light = 1e-5

    def __init__(
        self,
        network: SimplifiedNetwork,
        *,
        points: int = 181,
        seed: int = 0,
        adapt: int = 12,
        data: Data | None = None,
    ) -> None:
        super().__init__()
        self.data = data
        self.num_weights: int = network.num_weights
        self.adapt: int = adapt
        self.seed: int = seed
        self._begin(network, points)

    def _begin(self, network: SimplifiedNetwork, points: int) -> None:
        """At a start's own first weights, units and points evenly spread."""
        self.network = dataclasses.replace(network, faces=None)
        self.x = torch.linspace(0, network.length, points, dtype=torch.float64)
        self.theta = network.initial(self.seed + APART * (self.starts - 1))
        self.damping, self.gain, self.weight = 1e-2, math.inf, FIRST_WEIGHT

    @property
    def _lost(self) -> bool:
        """Whether the first steps led to the branch that blows off, where the data no longer draw."""
        if self.data is None or self.weight < FIRST_WEIGHT or self.gain > SMALL_GAIN:
            return False
        return not bool(self.misfit(self.theta).square().mean() < LOST)

    def domain(self) -> torch.Tensor:
        """Positions over the whole domain in rising order [m], (n,)."""
        return torch.linspace(0, self.network.length, 400, dtype=torch.float64)

    def found(self, theta: torch.Tensor) -> TrainedFlame:
        """The network with these unknowns."""
        return TrainedFlame(self.network, theta)

    def physics(self, theta: torch.Tensor) -> torch.Tensor:
        """Scaled residuals of the equations, (rows,)."""
        return self.network.residual(theta, self.x) / math.sqrt(len(self.x))

    def linearised_physics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`physics` at the present unknowns and its Jacobian, (rows,) and (rows, P)."""
        return by_autograd(self.physics, self.theta)

    def step(self) -> float:
        """One Levenberg-Marquardt step; returns the loss before it."""
        self.iteration += 1
        if self.adapt and self.iteration % self.adapt == 0:
            self.x = self.network.delta * self.network.spread(self.theta, len(self.x) - 1)
            self.network, self.theta = self.network.adapted(self.theta)
        loss = self.second_order()
        if self._lost and self.starts < STARTS:
            self.starts += 1
            self._begin(self.network, len(self.x))
        return loss

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Unknowns, units and points."""
        assert self.network.faces is not None
        return {**super().state_dict(), "faces": self.network.faces, "x": self.x, "starts": torch.tensor(self.starts)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        self.network = dataclasses.replace(self.network, faces=state["faces"])
        self.x, self.starts = state["x"], int(state["starts"])


def train_flame(
    flame: SimplifiedFlame,
    *,
    width: int = 36,
    points: int = 181,
    length: float = 1.9e-3,
    max_iterations: int = 40,
    tolerance: float = 1e-12,
    seed: int = 0,
    restarts: int = 4,
    throw: bool = True,
) -> Solution[TrainedFlame]:
    """Train a network on the equations of a flame, without data.

    Args:
        flame: A single condition.
        width: Units.
        points: Up to which energy is balanced; more than the unknowns, of which there are about three a unit.
        length: End of the domain [m]; the last 0.2 mm feel that the end condition is approximate.
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
    network, total = SimplifiedNetwork(fixed, width, length), 0
    for start in range(restarts):
        trainer = SimplifiedTrainer(network, points=points, seed=seed + start)
        while trainer.iteration < max_iterations and trainer.loss > tolerance:
            trainer.step()
        total += trainer.iteration
        trained = trainer.found(trainer.theta)
        figures = trained.check()
        if figures["ok"]:
            break
    result = Result.SUCCESS if figures["ok"] else Result.STAGNATED
    solution = Solution(trained, result, {"num_iterations": total, "loss": trainer.loss, **figures})
    return solution.check("flame network") if throw else solution
