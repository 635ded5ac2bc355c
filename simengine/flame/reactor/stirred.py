"""The perfectly stirred reactor: adiabatic, at constant pressure, fed with fresh gas for a residence time.

    0 = (Y_in - Y)/tau + W w/rho,    0 = h(T, Y) - h_in

(R. J. Kee, M. E. Coltrin, P. Glarborg, "Chemically Reacting Flow", Wiley 2003, chapter 9). The burning branch is
followed from equilibrium, to which it tends at long residence times, down to the time asked for.
"""

import dataclasses

import torch

from simengine.flame.gas.equilibrium import equilibrium
from simengine.flame.gas.thermochemistry import Gas, RateParameters
from simengine.flame.gas.units import R
from simengine.solve.solution import Result, Solution, SolveError

SLOWEST = 100.0  # s, where the path begins
LEAST = 1e-3  # of ln tau, the shortest step along it


@dataclasses.dataclass(frozen=True, kw_only=True)
class StirredReactor:
    """A stirred reactor. Every tensor may require a gradient.

    Attributes:
        gas: Mechanism and properties.
        T_in: Temperature of the feed [K], ().
        p: Pressure [Pa], ().
        Y_in: Mass fractions of the feed, (K,).
        residence: Mass within over mass flux [s], ().
        rates: Rate parameters; None for the mechanism's.
    """

    gas: Gas
    T_in: torch.Tensor
    p: torch.Tensor
    Y_in: torch.Tensor
    residence: torch.Tensor
    rates: RateParameters | None = None

    def __post_init__(self) -> None:
        for name in ("T_in", "p", "Y_in", "residence"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float64))
        for name in ("T_in", "p", "residence"):
            value = getattr(self, name)
            if value.dim() or not float(value.detach()) > 0:
                raise ValueError(f"{name}: expected one positive number, got {value.tolist()}")
        count = len(self.gas.W)
        if self.Y_in.shape != (count,) or abs(float(self.Y_in.detach().sum()) - 1) > 1e-6:
            raise ValueError(f"Y_in: expected {count} mass fractions that sum to 1")

    def detached(self) -> "StirredReactor":
        """The same without gradients."""
        rates = None if self.rates is None else self.rates.detached()
        own = {name: getattr(self, name).detach() for name in ("T_in", "p", "Y_in", "residence")}
        return dataclasses.replace(self, rates=rates, **own)

    def residual(self, y: torch.Tensor) -> torch.Tensor:
        """The equations at a state T, Y (K + 1,), with gradients: enthalpy over R T_in/W, species times tau."""
        gas, T, Y = self.gas, y[0], y[1:]
        rho = gas.density(self.p, T, Y)
        made = gas.production(T[None], (rho * Y / gas.W)[None], self.rates or gas.rate_parameters)[0]
        heat = (gas.h(T, Y) - gas.h(self.T_in, self.Y_in)) * gas.mean_W(self.Y_in) / (R * self.T_in)
        return torch.cat((heat[None], self.Y_in - Y + self.residence * gas.W * made / rho))

    def linearised(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The equations and their exact derivative in y, (K + 1, K + 1); without gradients."""
        gas, T, Y = self.gas, y[0], y[1:]
        with torch.no_grad():
            f = self.residual(y)
            rho = gas.density(self.p, T, Y)
            C = rho * Y / gas.W
            made, of_T, of_C = (value[0] for value in gas.production_jacobian(T[None], C[None], self.rates))
            log_Y, along = -gas.mean_W(Y) / gas.W, of_C @ C
            share = self.residence * gas.W / rho
            J = torch.empty(len(y), len(y), dtype=y.dtype)
            unit = gas.mean_W(self.Y_in) / (R * self.T_in)
            J[0, 0], J[0, 1:] = gas.cp(T, Y) * unit, gas.h_species(T) * unit
            J[1:, 0] = share * (of_T - along / T + made / T)
            J[1:, 1:] = share[:, None] * (of_C * (rho / gas.W) + (along - made)[:, None] * log_Y)
            J[1:, 1:] -= torch.eye(len(Y), dtype=y.dtype)
            return f, J


@dataclasses.dataclass(frozen=True)
class Stirred:
    """What burns in a stirred reactor.

    Attributes:
        reactor: The reactor, without gradients.
        state: T, then Y; (K + 1,).
    """

    reactor: StirredReactor
    state: torch.Tensor

    def of(self, reactor: StirredReactor) -> tuple[torch.Tensor, torch.Tensor]:
        """T [K], (), and Y, (K,), with implicit gradients in what requires them of a reactor of the same numbers."""
        f = reactor.residual(self.state)
        if not (torch.is_grad_enabled() and f.requires_grad):
            return self.state[0], self.state[1:]
        y = self.state - torch.linalg.solve(self.reactor.linearised(self.state)[1], f - f.detach())
        return y[0], y[1:]


def stirred(reactor: StirredReactor) -> tuple[torch.Tensor, torch.Tensor]:
    """T [K], (), and Y, (K,), within a burning reactor, with gradients in what of it requires them.

    Raises:
        SolveError: It does not burn at this residence time.
    """
    return stir(reactor).of(reactor)


def stir(reactor: StirredReactor) -> Stirred:
    """The burning state of a reactor; errors as of `stirred`."""
    fixed = reactor.detached()
    target = float(fixed.residence)
    h = fixed.gas.h(fixed.T_in, fixed.Y_in)
    T, Y = equilibrium(fixed.gas, h[None], fixed.p[None], fixed.Y_in[None])
    log_tau, goal, stride = max(torch.log(torch.tensor(SLOWEST)).item(), _log(target)), _log(target), 2.0
    y = _newton(_at(fixed, log_tau), torch.cat((T, Y[0])))
    if y is None:
        raise _out(f"no burning state near equilibrium at {SLOWEST:g} s", torch.cat((T, Y[0])))
    slope: torch.Tensor | None = None
    while log_tau > goal:
        ahead = max(log_tau - stride, goal)
        guess = y if slope is None else y + slope * (ahead - log_tau)
        found = _newton(_at(fixed, ahead), guess)
        if found is None or float(found[0]) < float(fixed.T_in) + 0.3 * (float(T[0]) - float(fixed.T_in)):
            stride /= 3
            if stride < LEAST:
                raise _out(
                    f"it goes out at a residence time of {torch.exp(torch.tensor(log_tau)):.4g} s, above the "
                    f"{target:.4g} s asked for",
                    y,
                )
            continue
        slope, y, log_tau, stride = (found - y) / (ahead - log_tau), found, ahead, min(2 * stride, 2.0)
    return Stirred(fixed, y)


def _log(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float64).log())


def _at(fixed: StirredReactor, log_tau: float) -> StirredReactor:
    return dataclasses.replace(fixed, residence=torch.tensor(log_tau, dtype=torch.float64).exp())


def _newton(reactor: StirredReactor, y: torch.Tensor) -> torch.Tensor | None:
    """The root near y, or None."""
    scale = torch.full_like(y, 1e-3)
    scale[0] = 1000.0
    least = torch.full_like(y, -1e-8)
    least[0] = 200.0
    for _ in range(40):
        f, J = reactor.linearised(y)
        step = torch.linalg.solve(J, -f)
        size = float((step / scale).abs().max())
        if not size < 1e12:
            return None
        room = torch.where(step < 0, (y - least).clamp_min(1e-12) / step.abs().clamp_min(1e-300), torch.inf)
        length = min(1.0, float(room.min()), 200.0 / max(abs(float(step[0])), 1e-300))
        y = y + max(length, 1e-3) * step
        if length == 1.0 and size < 1e-10:
            return y
    return None


def _out(why: str, y: torch.Tensor) -> SolveError:
    return SolveError(f"stirred: {why}", Solution(y, Result.WRONG_BRANCH, {}))
