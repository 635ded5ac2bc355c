"""Two-dimensional Navier-Stokes in vorticity form on the periodic unit square, and its own data generator.

    w_t + u . grad w = nu lap w,    u = (psi_y, -psi_x),    -lap psi = w

Setting of Chalapathi, Du & Krishnapriyan, ICLR 2024: nu = 1e-4, no forcing, smooth random initial vorticity.
"""

import dataclasses
import functools
import math

import torch

from simengine.constraint.family import AbstractFieldFamily
from simengine.constraint.pde import Parameters, Rows
from simengine.constraint.quadrature import integration_matrix, interval_rule

# functionals of w in the table, in this order
_W, _LINEAR, _WX, _WY, _U, _V = range(6)
_CACHED = 2**18  # numbers of a field that are worked on at a time
_RUN = 8  # points along x whose rows, at all times, are sampled together: what they look at lies together in memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class NavierStokes(AbstractFieldFamily):
    """Residuals of every interval with spectral derivatives at grid points (t_n, y_j, x_i) = (n dt, j/size, i/size).

    r = w^n+1 - w^n - integral of nu lap w - u . grad w over the interval, by the polynomial through 2 or 4 neighbouring
    times (`interval_rule`). Derivatives are those of each expert's own functions; the velocity, which the vorticity of
    all places determines, is that of the stitched field where experts are coupled.

    Parameters per problem: `"w0"`, initial vorticity, shape (samples, size, size), without a mean.

    Attributes:
        nt: Times, the initial one included.
        size: Grid points along y and along x.
        duration: Last time.
        viscosity: nu.
        time_order: 2, Crank-Nicolson, or 4.
    """

    nt: int = 64
    size: int = 64
    duration: float = 5.0
    viscosity: float = 1e-4
    time_order: int = 4
    functionals = 6
    of_the_stitched_field = (_U, _V)
    field = "w0"
    period = (True, True)
    sensors = 8

    def __post_init__(self) -> None:
        if self.nt < 2 or self.size < 4 or self.size % 2:
            raise ValueError(f"expected nt >= 2 and an even size >= 4, got nt={self.nt}, size={self.size}")
        interval_rule(self.nt, self.time_order)

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
        if torch.is_grad_enabled() and basis.requires_grad:
            fields = self._fields(basis)
            fields[_LINEAR] = self._change(basis, fields[_LINEAR])
            return torch.stack(fields, dim=1).flatten(1, -2)
        room = basis.new_empty(len(basis), self.functionals, *basis.shape[1:])
        piece = max(1, _CACHED // basis[0, 0].numel())
        for n in range(0, self.nt, piece):  # a few times whose fields stay in the cache
            for k, field in enumerate(self._fields(basis[:, n : n + piece])):
                room[:, k, n : n + piece] = field
        piece = max(1, _CACHED // basis[0, :, 0].numel())
        for j in range(0, self.size, piece):
            part = slice(None), slice(None), slice(j, j + piece)
            room[:, _LINEAR][part] = self._change(basis[part], room[:, _LINEAR][part])
        return room.flatten(1, -2)

    def _fields(self, w: torch.Tensor) -> list[torch.Tensor]:
        """The functionals of times that are given, with the Laplacian in the place of the linear part."""
        matrices = {name: m.to(w) for name, m in _matrices(self.size).items()}
        x, xx, modes, slopes = (matrices[name] for name in ("x", "xx", "modes", "slopes"))
        # cosines and sines are eigenfunctions of the Laplacian: -lap psi = w, then psi_y and -psi_x
        stream = _along(1, modes, _along(2, modes, w)) * matrices["inverse"].unsqueeze(-1)
        return [
            w,
            _along(1, xx, w) + _along(2, xx, w),
            _along(2, x, w),
            _along(1, x, w),
            _along(1, slopes, _along(2, modes.mT, stream)),
            _along(1, -modes.mT, _along(2, slopes, stream)),
        ]

    def _change(self, w: torch.Tensor, laplacian: torch.Tensor) -> torch.Tensor:
        """The linear part."""
        rule = (self.viscosity * self.dt * integration_matrix(self.nt, self.time_order)).to(w)
        change = torch.cat([torch.zeros_like(w[:, :1]), w[:, 1:] - w[:, :-1]], dim=1)
        return change - _along(0, rule, laplacian)

    def rows(self) -> Rows:
        """One row per point and interval: s = 9 or 17 values, the linear part, and w_x, w_y, u, v at 2 or 4 times."""
        plane = self.size**2
        points = self.nt * plane
        after = torch.arange(plane, points)
        first, weights = interval_rule(self.nt, self.time_order)
        interval, place = torch.div(after, plane, rounding_mode="floor") - 1, after % plane
        seen = (first[interval, None] + torch.arange(self.time_order)) * plane + place[:, None]
        nonlinear = torch.tensor([_WX, _WY, _U, _V]) * points
        index = torch.cat([_LINEAR * points + after[:, None], *(seen + offset for offset in nonlinear)], dim=1)
        return Rows(index=index, data=(place, self.dt * weights[interval]), position=after, group=place // _RUN)

    def residual(self, values: torch.Tensor, data: tuple[torch.Tensor, ...], parameters: Parameters) -> torch.Tensor:
        """The change of w over an interval, less diffusion, plus advection."""
        linear, wx, wy, u, v = self._parts(values)
        return linear + (data[1] * (u * wx + v * wy)).sum(dim=-1)

    def linearised(
        self, values: torch.Tensor, data: tuple[torch.Tensor, ...], parameters: Parameters
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of products, each by the other factor."""
        linear, wx, wy, u, v = self._parts(values)
        weight = data[1]
        by_wx, by_wy = weight * u, weight * v
        r = linear + (by_wx * wx + by_wy * wy).sum(dim=-1)
        return r, torch.cat([torch.ones_like(linear).unsqueeze(-1), by_wx, by_wy, weight * wx, weight * wy], dim=-1)

    def _parts(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return values[..., 0], *values[..., 1:].split(self.time_order, dim=-1)

    def reference_values(self, data: tuple[torch.Tensor, ...], parameters: Parameters) -> torch.Tensor:
        """Those of a vorticity that stays what it was."""
        w0 = parameters["w0"].reshape(-1, self.size, self.size)
        hat, operators = torch.fft.rfft2(w0), spectral_operators(self.size)
        spot = data[0]
        still = [
            torch.fft.irfft2(hat * operators[name], s=w0.shape[1:]).flatten(1).gather(1, spot.flatten(1))
            for name in ("x", "y", "u", "v")
        ]
        return torch.stack(
            [torch.zeros_like(still[0]), *(f for f in still for _ in range(self.time_order))], dim=-1
        ).reshape(*spot.shape, 1 + 4 * self.time_order)

    def hints(self, parameters: Parameters) -> torch.Tensor:
        """The first two terms of the Taylor series of w in t, less the power of t that the lifting brings.

        Products are formed at the points, as those of the residual are; `series` forms them without aliasing.
        """
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

    def rate(self, field: torch.Tensor) -> torch.Tensor:
        """Diffusion less advection, whose products are formed without aliasing."""
        return self.series(field, 1)[0]

    def series(self, w0: torch.Tensor, order: int) -> torch.Tensor:
        """Coefficients of the Taylor series of w in t, from the equation alone.

        Args:
            w0: Initial vorticity, shape (samples, size, size).
            order: Highest power of t.

        Returns:
            Those of t, t^2, ..., t^order, shape (order, samples, size, size).
        """
        laplacian, hats = spectral_operators(self.size)["laplacian"], [torch.fft.rfft2(w0)]
        fields: list[torch.Tensor] = []
        for q in range(order):
            fields.append(_on_wide_grid(hats[q]))
            advection = torch.zeros_like(fields[0][:, 0])
            for a, b in zip(fields, reversed(fields), strict=True):
                advection = advection + a[:, 0] * b[:, 2] + a[:, 1] * b[:, 3]
            hats.append((self.viscosity * laplacian * hats[q] - _from_wide_grid(advection, self.size)) / (q + 1))
        return torch.fft.irfft2(torch.stack(hats[1:]), s=w0.shape[1:])

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

    def solve(self, w0: torch.Tensor, *, step: float = 2e-2) -> torch.Tensor:
        """Solutions on the grid: pseudo-spectral, fourth-order Runge-Kutta with an exact diffusion factor.

        Products are formed on a grid of 3/2 as many points along each axis, so that all frequencies of the grid are
        kept and none is aliased.

        Args:
            w0: Initial vorticity without a mean, shape (samples, size, size).
            step: Longest step; intervals of the grid are divided evenly.

        Returns:
            Shape (samples, nt, size, size); error of order step^4, below 1e-6 with the default (see the tests).

        Raises:
            RuntimeError: The solution is no longer finite; the step is too long.
        """
        n, steps = self.size, math.ceil(self.dt / step)
        h, operators = self.dt / steps, spectral_operators(n)
        half = torch.exp(0.5 * h * self.viscosity * operators["laplacian"].real)

        def slope(hat: torch.Tensor) -> torch.Tensor:
            u, v, wx, wy = _on_wide_grid(hat).unbind(1)
            return -_from_wide_grid(u * wx + v * wy, n)

        hat = torch.fft.rfft2(w0.double())
        hat[:, 0, 0] = 0.0
        out = [w0.double()]
        for _ in range(self.nt - 1):
            for _ in range(steps):
                a = slope(hat)
                b = slope(half * (hat + 0.5 * h * a))
                c = slope(half * hat + 0.5 * h * b)
                d = slope(half.square() * hat + h * half * c)
                hat = half.square() * (hat + h / 6 * a) + h / 3 * half * (b + c) + h / 6 * d
            out.append(torch.fft.irfft2(hat, s=(n, n)))
        result = torch.stack(out, dim=1)
        if not bool(result[:, -1].isfinite().all()):
            raise RuntimeError(f"navier-stokes: the solution with a step of {h:g} is not finite; shorten `step`")
        return result


@functools.cache
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


def _on_wide_grid(hat: torch.Tensor) -> torch.Tensor:
    """Velocity and slopes (u, v, dw/dx, dw/dy) of a vorticity (samples, n, n/2 + 1) on 3/2 as many points per axis.

    Frequencies below the Nyquist frequency of n; shape (samples, 4, wide, wide). Products of two are not aliased there.
    """
    n = hat.shape[1]
    low, wide, operators = n // 2, _wide(n), spectral_operators(n)
    fields = hat.unsqueeze(1) * torch.stack([operators[name] for name in ("u", "v", "x", "y")])
    padded = hat.new_zeros(len(hat), 4, wide, wide // 2 + 1)
    padded[:, :, :low, :low], padded[:, :, 1 - low :, :low] = fields[:, :, :low, :low], fields[:, :, 1 - low :, :low]
    return torch.fft.irfft2(padded, s=(wide, wide)) * (wide / n) ** 2


def _from_wide_grid(product: torch.Tensor, n: int) -> torch.Tensor:
    """Frequencies (samples, n, n/2 + 1) below the Nyquist frequency of what stands on the wide grid."""
    hat, low = torch.fft.rfft2(product), n // 2
    out = hat.new_zeros(len(hat), n, low + 1)
    out[:, :low, :low], out[:, 1 - low :, :low] = hat[:, :low, :low], hat[:, 1 - low :, :low]
    return out / (_wide(n) / n) ** 2


def _wide(n: int) -> int:
    return 3 * n // 2 + 3 * n // 2 % 2  # even


@functools.cache
def _matrices(size: int) -> dict[str, torch.Tensor]:
    """Spectral operators along one axis of `size` points, and what the two axes need together; float64.

    `x`, `xx`: first and second derivative; `modes`: values to cosines and sines, orthonormal; `slopes`: those to the
    derivative at the points; `inverse`: of -lap for a pair of modes, (y, x). Products with them are faster than Fourier
    transforms of many functions that stand next to one another.
    """
    place = torch.arange(size, dtype=torch.float64) / size
    wave = torch.div(torch.arange(size) + 1, 2, rounding_mode="floor").double()  # 0, 1, 1, 2, 2, ..., size/2
    angle = 2 * math.pi * wave[:, None] * place
    sine = torch.arange(size)[:, None] % 2 == 0
    sine[0] = False
    modes = torch.where(sine, angle.sin(), angle.cos())
    modes = modes / modes.norm(dim=1, keepdim=True)
    k = 2 * math.pi * wave
    turned = 2 * math.pi * wave[:, None] * torch.where(sine, angle.cos(), -angle.sin())
    turned = turned / torch.where(sine, angle.sin(), angle.cos()).norm(dim=1, keepdim=True)
    turned[-1] = 0.0  # the Nyquist frequency has no sine
    square = k.square()[:, None] + k.square()
    return {
        "x": turned.mT @ modes,
        "xx": -(modes.mT * k.square()) @ modes,
        "modes": modes,
        "slopes": turned.mT.contiguous(),
        "inverse": torch.where(square > 0, 1 / square.clamp_min(1.0), 0.0),
    }


def _along(axis: int, matrix: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """A matrix applied to fields (samples, t, y, x, n) along t (0), y (1) or x (2)."""
    if axis == 2 and field.shape[-1] == 1:
        return (field.squeeze(-1) @ matrix.mT).unsqueeze(-1)
    return (matrix @ field.flatten(axis + 2)).reshape(field.shape)
