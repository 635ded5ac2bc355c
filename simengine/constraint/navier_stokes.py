"""Two-dimensional Navier-Stokes in vorticity form on the periodic unit square, and its own data generator.

    w_t + u . grad w = nu lap w,    u = (psi_y, -psi_x),    -lap psi = w

Setting of Chalapathi, Du & Krishnapriyan, ICLR 2024: nu = 1e-4, no forcing, smooth random initial vorticity.
"""

import dataclasses
import math

import numpy as np
import torch

from simengine.constraint.family import AbstractFieldFamily
from simengine.constraint.pde import Parameters, Rows

# functionals of w in the table, in this order
_W, _LINEAR, _WX, _WY, _U, _V = range(6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NavierStokes(AbstractFieldFamily):
    """Crank-Nicolson residuals with spectral derivatives at grid points (t_n, y_j, x_i) = (n dt, j/size, i/size).

    r = w^n+1 - w^n - nu dt/2 (lap w^n+1 + lap w^n) + dt/2 ((u . grad w)^n+1 + (u . grad w)^n), at every point.
    Derivatives are those of each expert's own functions; the velocity, which the vorticity of all places determines,
    is that of the stitched field where experts are coupled.

    Parameters per problem: `"w0"`, initial vorticity, shape (samples, size, size), without a mean.

    Attributes:
        nt: Times, the initial one included.
        size: Grid points along y and along x.
        duration: Last time.
        viscosity: nu.
    """

    nt: int = 64
    size: int = 64
    duration: float = 5.0
    viscosity: float = 1e-4
    functionals = 6
    of_the_stitched_field = (_U, _V)
    field = "w0"
    period = (True, True)
    sensors = 8

    def __post_init__(self) -> None:
        if self.nt < 2 or self.size < 4 or self.size % 2:
            raise ValueError(f"expected nt >= 2 and an even size >= 4, got nt={self.nt}, size={self.size}")

    @property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(nt, size, size): t, y, x."""
        return self.nt, self.size, self.size

    @property
    def dt(self) -> float:
        """Distance of two times."""
        return self.duration / (self.nt - 1)

    def table(self, basis: torch.Tensor) -> torch.Tensor:
        """W, the change of w less diffusion over the interval that ends at a point, w_x, w_y, u, v."""
        w = basis
        hat = torch.fft.rfft2(w, dim=(2, 3))
        operators = {name: op.to(w.device).unsqueeze(-1) for name, op in spectral_operators(self.size).items()}

        def back(name: str) -> torch.Tensor:
            return torch.fft.irfft2(hat * operators[name], s=(self.size, self.size), dim=(2, 3))

        diffusion = 0.5 * self.dt * self.viscosity * back("laplacian")
        linear = (w - diffusion)[:, 1:] - (w + diffusion)[:, :-1]
        linear = torch.cat([torch.zeros_like(w[:, :1]), linear], dim=1)
        fields = [w, linear, back("x"), back("y"), back("u"), back("v")]
        return torch.cat([field.flatten(1, -2) for field in fields], dim=1)

    def rows(self) -> Rows:
        """One row per point and interval: s = 9 values, the linear part, and w_x, w_y, u, v at n and n + 1."""
        plane = self.size**2
        points = self.nt * plane
        after = torch.arange(plane, points)
        nonlinear = torch.tensor([_WX, _WY, _U, _V]) * points
        index = torch.cat(
            [_LINEAR * points + after[:, None], (after - plane)[:, None] + nonlinear, after[:, None] + nonlinear], dim=1
        )
        return Rows(index=index, data=(after % plane,), position=after)

    def residual(self, values: torch.Tensor, data: tuple[torch.Tensor, ...], parameters: Parameters) -> torch.Tensor:
        """The change of w over an interval, less diffusion, plus advection."""
        linear, before, after = values[..., 0], values[..., 1:5], values[..., 5:9]
        advection = (before[..., :2] * before[..., 2:]).sum(dim=-1) + (after[..., :2] * after[..., 2:]).sum(dim=-1)
        return linear + 0.5 * self.dt * advection

    def reference_values(self, data: tuple[torch.Tensor, ...], parameters: Parameters) -> torch.Tensor:
        """Those of a vorticity that stays what it was."""
        w0 = parameters["w0"].reshape(-1, self.size, self.size)
        hat, operators = torch.fft.rfft2(w0), spectral_operators(self.size)
        spot = data[0]
        still = [
            torch.fft.irfft2(hat * operators[name], s=w0.shape[1:]).flatten(1).gather(1, spot.flatten(1))
            for name in ("x", "y", "u", "v")
        ]
        return torch.stack([torch.zeros_like(still[0]), *still, *still], dim=-1).reshape(*spot.shape, 9)

    def hints(self, parameters: Parameters) -> torch.Tensor:
        """The first two terms of the Taylor series of w in t, less the power of t that the lifting brings."""
        w0 = parameters["w0"]
        operators = spectral_operators(self.size)

        def parts(w: torch.Tensor) -> dict[str, torch.Tensor]:
            hat = torch.fft.rfft2(w)
            return {name: torch.fft.irfft2(hat * op, s=w.shape[1:]) for name, op in operators.items()}

        a = parts(w0)
        first = self.viscosity * a["laplacian"] - a["u"] * a["x"] - a["v"] * a["y"]
        b = parts(first)
        crossed = a["u"] * b["x"] + a["v"] * b["y"] + b["u"] * a["x"] + b["v"] * a["y"]
        second = 0.5 * (self.viscosity * b["laplacian"] - crossed)
        time = torch.linspace(0, 1, self.nt, dtype=torch.float64)[:, None, None]
        still = torch.ones_like(time)
        return torch.stack([first.unsqueeze(1) * still, second.unsqueeze(1) * time], dim=-1)

    # -- data ---------------------------------------------------------------------------------------------------------

    def draw(self, count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """`w0`: Gaussian random fields with covariance exp(-2 sum_i (sin(pi d_i)/2)^2 / 0.8^2), without their mean.

        They are smooth: a grid of 16 holds them to 1e-4, one of 32 to 1e-8.
        """
        d = torch.arange(self.size, dtype=torch.float64) / self.size
        along = torch.exp(-2 * ((torch.pi * d).sin() / 2 / 0.8).square())
        spectrum = torch.fft.fft2(along[:, None] * along).real.clamp_min(0).sqrt()  # of the covariance, periodic
        spectrum[0, 0] = 0.0
        white = torch.randn(count, self.size, self.size, generator=generator, dtype=torch.float64)
        return {"w0": torch.fft.ifft2(torch.fft.fft2(white) * spectrum).real}

    def reference(self, parameters: Parameters) -> torch.Tensor:
        """The data generator."""
        return self.solve(parameters["w0"])

    def solve(self, w0: torch.Tensor, *, step: float = 5e-3) -> torch.Tensor:
        """Solutions on the grid: pseudo-spectral with 2/3 dealiasing, Crank-Nicolson for diffusion, Heun for advection.

        Args:
            w0: Initial vorticity without a mean, shape (samples, size, size).
            step: Longest step; intervals of the grid are divided evenly.

        Returns:
            Shape (samples, nt, size, size); error of order step^2, 1e-5 relative with the default (see the tests).

        Raises:
            RuntimeError: The solution is no longer finite; the step is too long.
        """
        n, steps = self.size, math.ceil(self.dt / step)
        h, operators = self.dt / steps, spectral_operators(n)
        keep = _dealiasing(n)
        decay = 0.5 * h * self.viscosity * operators["laplacian"].real
        before, after = 1 + decay, 1 / (1 - decay)
        to_space = torch.stack([operators[name] for name in ("u", "v", "x", "y")])

        def advection(hat: torch.Tensor) -> torch.Tensor:
            u, v, wx, wy = torch.fft.irfft2(hat.unsqueeze(1) * to_space, s=(n, n)).unbind(1)
            return -keep * torch.fft.rfft2(u * wx + v * wy)

        hat = torch.fft.rfft2(w0.double())
        hat[:, 0, 0] = 0.0
        out = [w0.double()]
        for _ in range(self.nt - 1):
            for _ in range(steps):
                first = advection(hat)
                guess = after * (before * hat + h * first)
                hat = after * (before * hat + 0.5 * h * (first + advection(guess)))
            out.append(torch.fft.irfft2(hat, s=(n, n)))
        result = torch.stack(out, dim=1)
        if not bool(result[:, -1].isfinite().all()):
            raise RuntimeError(f"navier-stokes: the solution with a step of {h:g} is not finite; shorten `step`")
        return result


def spectral_operators(size: int) -> dict[str, torch.Tensor]:
    """Multipliers of `rfft2` on the periodic unit square: d/dx, d/dy, Laplacian, and the velocity of a vorticity.

    Args:
        size: Grid points along each axis, even. First derivatives drop the Nyquist frequency, which has no sine.

    Returns:
        Each of shape (size, size/2 + 1), complex128.
    """
    ky = 2 * math.pi * torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)[:, None]
    kx = 2 * math.pi * torch.fft.rfftfreq(size, 1 / size, dtype=torch.float64)[None]
    square = kx.square() + ky.square()
    odd_y = torch.where(torch.arange(size)[:, None] == size // 2, 0.0, ky) + 0 * kx
    odd_x = torch.where(torch.arange(size // 2 + 1)[None] == size // 2, 0.0, kx) + 0 * ky
    inverse = torch.where(square > 0, 1 / square.clamp_min(1.0), 0.0)
    return {
        "x": 1j * odd_x,
        "y": 1j * odd_y,
        "laplacian": (-square).to(torch.complex128),
        "u": 1j * odd_y * inverse,
        "v": -1j * odd_x * inverse,
    }


def _dealiasing(size: int) -> torch.Tensor:
    """1 for frequencies below a third of the grid's, else 0; shape (size, size/2 + 1)."""
    ky = np.abs(np.fft.fftfreq(size, 1 / size))[:, None]
    kx = np.fft.rfftfreq(size, 1 / size)[None]
    return torch.tensor((ky < size / 3) & (kx < size / 3), dtype=torch.float64)
