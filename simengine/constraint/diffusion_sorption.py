"""Diffusion with Freundlich sorption in one dimension, in conservative form, and its own data generator.

    theta(u)_t = D u_xx,    theta(u) = u + (1 - phi)/phi rho_s k u^n_f,    0 < x < 1
    u(0, t) = 1,    u(1, t) = -D u_x(1, t),    u(x, 0) = u0

equivalent to u_t = D/R(u) u_xx with the retardation R = theta'. The outflow condition stands here with the sign that is
well posed (outward flux equal to u); setting of PDEBench (Takamoto et al., 2022).
"""

import dataclasses

import numpy as np
import torch

from simengine.constraint.family import AbstractFamily
from simengine.constraint.pde import Parameters, Rows

U0_MAX = 0.2  # initial values are U(0, 0.2), as in PDEBench


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionSorption(AbstractFamily):
    """Crank-Nicolson residuals on cell centres x_i = (i + 1/2)/nx and times t_n = duration (n/(nt - 1))^grading.

    r = theta(u_i^n+1) - theta(u_i^n) - D dt/(2 dx^2) (second differences of u at n and n + 1), ghost cells at the ends.

    Parameters per problem: `"u0"`, initial concentration; `"D"` and `"k"` where not the constants below.

    Attributes:
        nt: Times, the initial one included.
        nx: Cells.
        duration: Last time.
        grading: 1 for equal intervals; 2 for times equally spaced in sqrt(t), as diffusion from a jump asks for.
        skip: Intervals after t = 0 without residuals: the data there jump at both ends, which no grid resolves. Only
            for bases whose functions tie later times to the initial ones, as principal components of solutions do.
        implicit: Intervals after those with implicit Euler residuals, which damp such jumps (Rannacher's start-up).
        porosity: phi.
        bulk_density: rho_s.
        sorption: Freundlich coefficient k.
        exponent: Freundlich exponent n_f.
        diffusivity: D.
        smoothing: Concentration below which the isotherm passes over into a straight line through 0, where its slope
            would be infinite and a basis may undershoot: u^n_f is u (u^2 + smoothing^2)^((n_f - 1)/2).
    """

    nt: int = 101
    nx: int = 1024
    duration: float = 500.0
    grading: float = 1.0
    skip: int = 2
    implicit: int = 0
    porosity: float = 0.29
    bulk_density: float = 2880.0
    sorption: float = 3.5e-4
    exponent: float = 0.874
    diffusivity: float = 5e-4
    smoothing: float = 1e-3

    def __post_init__(self) -> None:
        if self.nt < self.skip + 2 or self.nx < 3:
            raise ValueError(f"expected nt >= skip + 2 and nx >= 3, got nt={self.nt}, skip={self.skip}, nx={self.nx}")

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        """(nt, nx)."""
        return self.nt, self.nx

    @property
    def times(self) -> np.ndarray:
        """Shape (nt,)."""
        return self.duration * np.linspace(0.0, 1.0, self.nt) ** self.grading

    @property
    def dt(self) -> float:
        """Mean distance of two times."""
        return self.duration / (self.nt - 1)

    @property
    def sorption_capacity(self) -> float:
        """(1 - phi)/phi rho_s, what k is multiplied by in theta."""
        return (1 - self.porosity) / self.porosity * self.bulk_density

    @property
    def _outflow(self) -> float:
        """Ghost value beyond x = 1 over the last one: (g + u)/2 = -D (g - u)/dx."""
        d = self.diffusivity * self.nx
        return (d - 0.5) / (d + 0.5)

    def theta(self, u: torch.Tensor, k: torch.Tensor | float) -> torch.Tensor:
        """Total concentration, dissolved and sorbed."""
        return u * (1 + self.sorption_capacity * k * self._slackening(u.square() + self.smoothing**2))

    def _slackening(self, square: torch.Tensor) -> torch.Tensor:
        """u^(n_f - 1) from u^2; exp(log) rather than a power, whose derivatives need further ones."""
        return square.log().mul((self.exponent - 1) / 2).exp()

    def rows(self) -> Rows:
        """One row per cell and interval: s = 6 values, (i - 1, i, i + 1) at n and n + 1."""
        n = torch.arange(self.skip, self.nt - 1)[:, None, None]
        i = torch.arange(self.nx)[:, None]
        cells = torch.cat([(i - 1).clamp_min(0), i, (i + 1).clamp_max(self.nx - 1)], dim=1)
        index = torch.cat([n * self.nx + cells, (n + 1) * self.nx + cells], dim=-1)
        # weights of a second difference; a ghost value 2 - u on the left, outflow u on the right
        second = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64).repeat(self.nx, 1)
        second[0, 0], second[-1, 2] = -1.0, self._outflow
        source = torch.zeros(self.nx, dtype=torch.float64)
        source[0] = 2.0
        intervals = self.nt - 1 - self.skip
        later = torch.full((intervals, self.nx), 0.5, dtype=torch.float64)  # weight of the flux at n + 1
        later[: self.implicit] = 1.0
        rate = self.nx**2 * torch.tensor(np.diff(self.times)[self.skip :]).unsqueeze(1)
        flux = [(rate * w).unsqueeze(-1) * second for w in (1 - later, later)]
        return Rows(
            index=index.flatten(0, 1),
            data=(torch.cat(flux, dim=-1).flatten(0, 1), (rate * source).flatten()),
            position=index[..., 4].flatten(),
        )

    def residual(self, values: torch.Tensor, data: tuple[torch.Tensor, ...], parameters: Parameters) -> torch.Tensor:
        """Change of theta over an interval, less the mean divergence of the flux."""
        flux, source = data
        k, diffusivity = parameters.get("k", self.sorption), parameters.get("D", self.diffusivity)
        change = self.theta(values[..., 4], k) - self.theta(values[..., 1], k)
        return change - diffusivity * ((flux * values).sum(dim=-1) + source)

    def linearised(
        self, values: torch.Tensor, data: tuple[torch.Tensor, ...], parameters: Parameters
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """With theta' = R; the one power of a concentration serves both."""
        flux, source = data
        k, diffusivity = parameters.get("k", self.sorption), parameters.get("D", self.diffusivity)
        scale = diffusivity.unsqueeze(-1) if isinstance(diffusivity, torch.Tensor) else diffusivity
        slopes = flux * -scale
        r = source * -diffusivity
        for place in range(6):
            r.addcmul_(slopes[..., place], values[..., place])
        for place, sign in (
            (1, -1),
            (4, 1),
        ):
            # theta = u + sorbed u, and theta' = 1 + sorbed (n - (n - 1) smoothing^2/square)
            u, slope = values[..., place], slopes[..., place]
            square = u.square().add_(self.smoothing**2)
            sorbed = self._slackening(square).mul_(self.sorption_capacity * k)
            bent = square.reciprocal_().mul_((1 - self.exponent) * self.smoothing**2).add_(self.exponent)
            r.addcmul_(u, sorbed, value=sign).add_(u, alpha=sign)
            slope.addcmul_(sorbed, bent, value=sign).add_(sign)
        return r, slopes

    def conditions(self) -> Rows:
        """U = u0 at t = 0."""
        cells = torch.arange(self.nx)
        return Rows(index=cells[:, None], data=(torch.ones(self.nx, 1, dtype=torch.float64),), position=cells)

    def targets(self, data: tuple[torch.Tensor, ...], position: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """u0."""
        return parameters["u0"].expand(position.shape)

    def reference_values(self, data: tuple[torch.Tensor, ...], parameters: Parameters) -> torch.Tensor:
        """A concentration in the middle of the range."""
        return torch.tensor(0.3, dtype=torch.float64)

    # -- the family ---------------------------------------------------------------------------------------------------

    def draw(self, count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """`u0`, uniform in (0, 0.2)."""
        return {"u0": U0_MAX * torch.rand(count, generator=generator, dtype=torch.float64)}

    def reference(self, parameters: Parameters) -> torch.Tensor:
        """The method of lines."""
        return torch.stack([torch.tensor(self.solve(float(u0))) for u0 in parameters["u0"]])

    def inputs(self, parameters: Parameters) -> torch.Tensor:
        """`u0` between -1 and 1."""
        return 2 * parameters["u0"].unsqueeze(1) / U0_MAX - 1

    def _places(self) -> tuple[torch.Tensor, torch.Tensor]:
        """X, and the length sqrt(4 t D/R) to which diffusion reaches, R at u = 1/2; both (nt, nx)."""
        x = (torch.arange(self.nx, dtype=torch.float64) + 0.5) / self.nx
        retardation = 1 + self.sorption_capacity * self.sorption * self.exponent * 0.5 ** (self.exponent - 1)
        reach = torch.tensor(4 * self.diffusivity / retardation * self.times).sqrt()
        places, reaches = torch.broadcast_tensors(x, reach.unsqueeze(1))
        return places, reaches

    def coordinates(self) -> torch.Tensor:
        """Similarity variables l/(x + l) and l/(1 - x + l) of both ends, where l is the reach of diffusion; x and l."""
        x, reach = self._places()
        return torch.stack([reach / (x + reach), reach / (1 - x + reach), x, reach], dim=-1) * 2 - 1

    def lifting(self, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """`u0` + (1 - u0) erfc(x/l), and a factor that vanishes at t = 0 and at x = 0."""
        x, reach = self._places()
        left, right = reach / (x + reach), reach / (1 - x + reach)
        inflow = torch.where(reach > 0, torch.erfc(x / reach.clamp_min(1e-300)), 0.0)
        u0 = parameters["u0"].reshape(-1, 1, 1)
        return u0 + (1 - u0) * inflow, (1 - left) * (left + right)

    # -- data ---------------------------------------------------------------------------------------------------------

    def solve(self, u0: float, *, D: float | None = None, k: float | None = None, rtol: float = 1e-6) -> np.ndarray:
        """Solution on the grid by the method of lines and a banded stiff integrator (LSODA).

        Args:
            u0: Initial concentration.
            D: Diffusivity; that of the equation if None (the outflow condition keeps that of the equation).
            k: Freundlich coefficient; that of the equation if None.
            rtol: Relative tolerance of the integrator; the absolute one is a thousandth of it.

        Returns:
            Shape (nt, nx).

        Raises:
            RuntimeError: The integrator failed.
        """
        from scipy.integrate import odeint

        D = self.diffusivity if D is None else D
        a = self.sorption_capacity * (self.sorption if k is None else k)
        rate, outflow, n, small = D * self.nx**2, self._outflow, self.exponent, self.smoothing**2

        def slope(u: np.ndarray, t: float) -> np.ndarray:
            second = np.empty_like(u)
            second[1:-1] = u[2:] - 2 * u[1:-1] + u[:-2]
            second[0] = 2 - 3 * u[0] + u[1]
            second[-1] = u[-2] - 2 * u[-1] + outflow * u[-1]
            square = u * u
            return rate * second / (1 + a * (n * square + small) * (square + small) ** ((n - 3) / 2))

        u, info = odeint(
            slope,
            np.full(self.nx, float(u0)),
            self.times,
            ml=1,
            mu=1,
            rtol=rtol,
            atol=rtol * 1e-3,
            mxstep=20000,
            full_output=True,
        )
        if not np.isfinite(u).all() or "successful" not in info["message"]:
            raise RuntimeError(f"diffusion-sorption with u0={u0:g}, D={D:g}: LSODA: {info['message']}")
        return u
