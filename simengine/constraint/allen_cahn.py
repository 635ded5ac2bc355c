"""The Allen-Cahn equation on the unit interval with insulated ends, its own data generator, and a closed form.

u_t = epsilon^2 u_xx + u - u^3,    u_x(0, t) = u_x(1, t) = 0,    u(x, 0) = u0(x)
"""

import dataclasses
import math

import numpy as np
import torch

from simengine.constraint.family import AbstractFieldFamily
from simengine.constraint.pde import Parameters, Rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class AllenCahn(AbstractFieldFamily):
    """Crank-Nicolson residuals on cell centres x_i = (i + 1/2)/nx at t_n = n dt, ghost cells at the ends.

    r = u^n+1 - u^n - dt/2 (f^n+1 + f^n) with f = epsilon^2 (second difference of u)/dx^2 + u - u^3.

    Parameters per problem: `"u0"`, initial field, shape (samples, nx).

    Attributes:
        nt: Times, the initial one included.
        nx: Cells.
        duration: Last time.
        epsilon: Width of an interface.
    """

    nt: int = 101
    nx: int = 128
    duration: float = 2.0
    epsilon: float = 0.05
    period = (False,)

    def __post_init__(self) -> None:
        if self.nt < 2 or self.nx < 3:
            raise ValueError(f"expected nt >= 2 and nx >= 3, got nt={self.nt}, nx={self.nx}")

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        """(nt, nx)."""
        return self.nt, self.nx

    @property
    def dt(self) -> float:
        """Distance of two times."""
        return self.duration / (self.nt - 1)

    def rows(self) -> Rows:
        """One row per cell and interval: s = 6 values, (i - 1, i, i + 1) at n and n + 1."""
        n, i = torch.arange(self.nt - 1)[:, None, None], torch.arange(self.nx)[:, None]
        cells = torch.cat([(i - 1).clamp_min(0), i, (i + 1).clamp_max(self.nx - 1)], dim=1)
        index = torch.cat([n * self.nx + cells, (n + 1) * self.nx + cells], dim=-1).flatten(0, 1)
        return Rows(index=index, data=(index[:, 4] % self.nx,), position=index[:, 4])

    def residual(self, values: torch.Tensor, data: tuple[torch.Tensor, ...], parameters: Parameters) -> torch.Tensor:
        """The change of u over an interval, less diffusion and reaction."""
        before, after = values[..., :3], values[..., 3:]
        second = (before + after)[..., 0] - 2 * (before + after)[..., 1] + (before + after)[..., 2]
        u, v = before[..., 1], after[..., 1]
        return v - u - 0.5 * self.dt * ((self.epsilon * self.nx) ** 2 * second + u - u**3 + v - v**3)

    def reference_values(self, data: tuple[torch.Tensor, ...], parameters: Parameters) -> torch.Tensor:
        """Those of a field that stays what it was."""
        spot = data[0]
        return parameters["u0"].flatten(1).gather(1, spot.flatten(1)).reshape(*spot.shape, 1)

    def rate(self, field: torch.Tensor) -> torch.Tensor:
        """Diffusion and reaction."""
        before, after = field[:, :1], field[:, -1:]
        second = torch.cat([before, field, after], dim=1).diff(n=2, dim=1)
        return (self.epsilon * self.nx) ** 2 * second + field - field**3

    # -- data ---------------------------------------------------------------------------------------------------------

    def draw(self, count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """`u0` = 0.9 tanh(2 s), s a sum of the cosines cos(k pi x), k = 0 to 4, with normal weights of variance 1/4."""
        x = (torch.arange(self.nx, dtype=torch.float64) + 0.5) / self.nx
        cosines = (math.pi * torch.arange(5, dtype=torch.float64)[:, None] * x).cos()
        weights = 0.5 * torch.randn(count, 5, generator=generator, dtype=torch.float64)
        return {"u0": 0.9 * (2 * weights @ cosines).tanh()}

    def reference(self, parameters: Parameters) -> torch.Tensor:
        """The data generator."""
        return torch.stack([torch.tensor(self.solve(u0.numpy())) for u0 in parameters["u0"].detach()])

    def solve(self, u0: np.ndarray, *, rtol: float = 1e-8) -> np.ndarray:
        """Solution on the grid by the method of lines and a banded stiff integrator (LSODA).

        Args:
            u0: Initial field, shape (nx,).
            rtol: Relative tolerance of the integrator; the absolute one is a hundredth of it.

        Returns:
            Shape (nt, nx).

        Raises:
            RuntimeError: The integrator failed.
        """
        from scipy.integrate import odeint

        rate = (self.epsilon * self.nx) ** 2

        def slope(u: np.ndarray, t: float) -> np.ndarray:
            second = np.empty_like(u)
            second[1:-1] = u[2:] - 2 * u[1:-1] + u[:-2]
            second[0], second[-1] = u[1] - u[0], u[-2] - u[-1]
            return rate * second + u - u**3

        times = np.linspace(0.0, self.duration, self.nt)
        options = {"ml": 1, "mu": 1, "rtol": rtol, "atol": rtol * 1e-2, "mxstep": 20000, "full_output": True}
        u, info = odeint(slope, np.asarray(u0, dtype=np.float64), times, **options)
        if not np.isfinite(u).all() or "successful" not in info["message"]:
            raise RuntimeError(f"allen-cahn: LSODA: {info['message']}")
        return u


def travelling_front(t: float, x: torch.Tensor, *, epsilon: float, start: float) -> torch.Tensor:
    """The closed form of a front from 1 (left) into 0 that moves to the right at the speed 3 epsilon/sqrt 2.

    Args:
        t: Time.
        x: Places, far from the ends, which the form knows nothing of.
        epsilon: Of the equation.
        start: Place of u = 1/2 at t = 0.
    """
    return 0.5 * (1 - ((x - start - 3 * epsilon / math.sqrt(2) * t) / (2 * math.sqrt(2) * epsilon)).tanh())
