"""Burgers' equation on the periodic unit interval, its own data generator, and its closed form.

u_t + u u_x = nu u_xx,    u(x, 0) = u0(x)
"""

import dataclasses
import math
from collections.abc import Callable

import torch

from simengine.constraint.family import AbstractFieldFamily
from simengine.constraint.pde import Parameters, Rows
from simengine.constraint.quadrature import integration_matrix, interval_rule

# functionals of u in the table, in this order
_U, _LINEAR, _UX = range(3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Burgers(AbstractFieldFamily):
    """Residuals of every interval with spectral derivatives at (t_n, x_i) = (n dt, i/nx).

    r = u^n+1 - u^n - integral of nu u_xx - u u_x over the interval, by the polynomial through 2 or 4 neighbouring times
    (`interval_rule`).

    Parameters per problem: `"u0"`, initial field, shape (samples, nx).

    Attributes:
        nt: Times, the initial one included.
        nx: Grid points.
        duration: Last time.
        viscosity: nu.
        time_order: 2, Crank-Nicolson, or 4.
    """

    nt: int = 101
    nx: int = 128
    duration: float = 0.5
    viscosity: float = 0.01
    time_order: int = 4
    functionals = 3

    def __post_init__(self) -> None:
        if self.nt < 2 or self.nx < 4 or self.nx % 2:
            raise ValueError(f"expected nt >= 2 and an even nx >= 4, got nt={self.nt}, nx={self.nx}")
        interval_rule(self.nt, self.time_order)

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        """(nt, nx)."""
        return self.nt, self.nx

    @property
    def dt(self) -> float:
        """Distance of two times."""
        return self.duration / (self.nt - 1)

    def _derivatives(self, u: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
        k = 2 * math.pi * torch.arange(self.nx // 2 + 1, dtype=torch.float64)
        k = k.reshape([-1 if axis == dim % u.ndim else 1 for axis in range(u.ndim)])
        odd = torch.where(k == k.max(), 0.0, k)  # the Nyquist frequency has no sine
        hat = torch.fft.rfft(u, dim=dim)
        return torch.fft.irfft(1j * odd * hat, n=self.nx, dim=dim), torch.fft.irfft(
            -k.square() * hat, n=self.nx, dim=dim
        )

    def table(self, basis: torch.Tensor) -> torch.Tensor:
        """U, the change of u less diffusion over the interval that ends at a point, u_x."""
        slope, curvature = self._derivatives(basis, 2)
        rule = (self.viscosity * self.dt * integration_matrix(self.nt, self.time_order)).to(basis)
        change = torch.cat([torch.zeros_like(basis[:, :1]), basis[:, 1:] - basis[:, :-1]], dim=1)
        linear = change - (rule @ curvature.flatten(2)).reshape(basis.shape)
        return torch.cat([field.flatten(1, -2) for field in (basis, linear, slope)], dim=1)

    def rows(self) -> Rows:
        """One row per point and interval: s = 5 or 9 values, the linear part, and u and u_x at 2 or 4 times."""
        points = self.nt * self.nx
        after = torch.arange(self.nx, points)
        first, weights = interval_rule(self.nt, self.time_order)
        interval, place = torch.div(after, self.nx, rounding_mode="floor") - 1, after % self.nx
        seen = (first[interval, None] + torch.arange(self.time_order)) * self.nx + place[:, None]
        index = torch.cat([_LINEAR * points + after[:, None], _U * points + seen, _UX * points + seen], dim=1)
        return Rows(index=index, data=(place, self.dt * weights[interval]), position=after)

    def residual(self, values: torch.Tensor, data: tuple[torch.Tensor, ...], parameters: Parameters) -> torch.Tensor:
        """The change of u over an interval, less diffusion, plus advection."""
        u, slope = values[..., 1:].split(self.time_order, dim=-1)
        return values[..., 0] + (data[1] * u * slope).sum(dim=-1)

    def linearised(
        self, values: torch.Tensor, data: tuple[torch.Tensor, ...], parameters: Parameters
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of a product, by either factor."""
        u, slope = values[..., 1:].split(self.time_order, dim=-1)
        by_slope = data[1] * u
        r = values[..., 0] + (by_slope * slope).sum(dim=-1)
        return r, torch.cat([torch.ones_like(values[..., :1]), data[1] * slope, by_slope], dim=-1)

    def reference_values(self, data: tuple[torch.Tensor, ...], parameters: Parameters) -> torch.Tensor:
        """Those of a field that stays what it was."""
        u0, spot = parameters["u0"].flatten(1), data[0]
        still = [f.gather(1, spot.flatten(1)) for f in (u0, self._derivatives(u0, 1)[0])]
        return torch.stack(
            [torch.zeros_like(still[0]), *(f for f in still for _ in range(self.time_order))], dim=-1
        ).reshape(*spot.shape, 1 + 2 * self.time_order)

    def rate(self, field: torch.Tensor) -> torch.Tensor:
        """Diffusion less advection, the product formed at the points as that of the residual is."""
        slope, curvature = self._derivatives(field, 1)
        return self.viscosity * curvature - field * slope

    # -- data ---------------------------------------------------------------------------------------------------------

    def draw(self, count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """`u0` = a sin 2 pi (x - p) + b sin 4 pi (x - q), random a in (0.5, 1), b in (-0.3, 0.3), p, q in (0, 1)."""
        a, b, p, q = torch.rand(4, count, 1, generator=generator, dtype=torch.float64)
        x = torch.arange(self.nx, dtype=torch.float64) / self.nx
        first, second = (2 * math.pi * (x - p)).sin(), (4 * math.pi * (x - q)).sin()
        return {"u0": (0.5 + 0.5 * a) * first + 0.3 * (2 * b - 1) * second}

    def reference(self, parameters: Parameters) -> torch.Tensor:
        """The data generator."""
        return self.solve(parameters["u0"])

    def solve(self, u0: torch.Tensor, *, step: float = 1e-3) -> torch.Tensor:
        """Solutions on the grid: pseudo-spectral, dealiased, fourth-order Runge-Kutta with an exact diffusion factor.

        Args:
            u0: Initial fields, shape (samples, nx).
            step: Longest step; intervals of the grid are divided evenly.

        Returns:
            Shape (samples, nt, nx); the tests compare it with the closed form.

        Raises:
            RuntimeError: The solution is no longer finite; the step is too long.
        """
        steps = math.ceil(self.dt / step)
        h = self.dt / steps
        frequency = torch.arange(self.nx // 2 + 1, dtype=torch.float64)
        slope = torch.where(frequency < self.nx / 3, -0.5j * 2 * math.pi * frequency, 0.0)
        half = torch.exp(-0.5 * h * self.viscosity * (2 * math.pi * frequency).square())

        def advection(hat: torch.Tensor) -> torch.Tensor:
            return slope * torch.fft.rfft(torch.fft.irfft(hat, n=self.nx).square())

        hat = torch.fft.rfft(u0.double())
        out = [u0.double()]
        for _ in range(self.nt - 1):
            for _ in range(steps):
                a = advection(hat)
                b = advection(half * (hat + 0.5 * h * a))
                c = advection(half * hat + 0.5 * h * b)
                d = advection(half.square() * hat + h * half * c)
                hat = half.square() * (hat + h / 6 * a) + h / 3 * half * (b + c) + h / 6 * d
            out.append(torch.fft.irfft(hat, n=self.nx))
        result = torch.stack(out, dim=1)
        if not bool(result[:, -1].isfinite().all()):
            raise RuntimeError(f"burgers: the solution with a step of {h:g} is not finite; shorten `step`")
        return result


def cole_hopf(
    antiderivative: Callable[[torch.Tensor], torch.Tensor],
    t: float,
    x: torch.Tensor,
    *,
    viscosity: float,
    points: int = 4000,
) -> torch.Tensor:
    """The closed form of Burgers' equation, u = integral (x - y)/t e^-G dy / integral e^-G dy.

    G(y) = (antiderivative(y) + (x - y)^2/(2 t))/(2 nu), by the trapezoidal rule, which converges beyond any power.

    Args:
        antiderivative: Integral of u0 over the real line.
        t: Time, above 0.
        x: Places, shape (n,).
        viscosity: nu.
        points: Of the rule, over x +- 3 sqrt(t) + 1.

    Returns:
        Shape (n,).
    """
    reach = torch.linspace(-1, 1, points, dtype=torch.float64) * (3 * math.sqrt(t) + 1)
    g = (antiderivative(x[:, None] - reach) + reach.square() / (2 * t)) / (2 * viscosity)
    weight = torch.exp(g.amin(dim=1, keepdim=True) - g)
    return (weight * reach / t).sum(dim=1) / weight.sum(dim=1)
