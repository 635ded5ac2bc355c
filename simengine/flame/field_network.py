"""Networks for any flame: fields by one network, physics in integral form, trained by Gauss-Newton steps.

    y(x) = guess(x) + B(x) scale N(s(x)),    z = z_0 exp(zeta)

B vanishes where values are prescribed, so these hold exactly; s normalises the thin layer; the closing species takes
what the others leave, so mass fractions sum to 1 exactly. The equations are taken over cells,

    0 = F(x) - F(x_0) + int S dx  up to every face x,

with two Gauss points a cell, which needs first derivatives only, conserves what flows, and measures an error by the
flux it makes: by cells or by points the same training stalls at errors of 1 % and more. Derivatives in x go through the
network as one Taylor sweep, those of the physics are the flame's own local Jacobians, so no derivative is nested. Every
residual has its row of the Jacobian in the weights; a Levenberg-Marquardt step solves for all of them. Cells move to
where fields change. A small loss proves nothing by itself: `check` looks at the branch and at the residual on a finer
mesh.
"""

import dataclasses
import math
from collections.abc import Mapping

import torch

from simengine.flame.equations import AbstractFlame
from simengine.flame.free import FreeFlame


@dataclasses.dataclass(frozen=True)
class Points:
    """Where the physics is evaluated, and what does not depend on the weights there.

    Attributes:
        x: Positions [m], shape (n,).
        s: Input of the network, (n,).
        slope: ds/dx, (n,).
        base: First guess and its derivative, (n, m) each.
        bound: B scale and its derivative, (n, m) each.
    """

    x: torch.Tensor
    s: torch.Tensor
    slope: torch.Tensor
    base: tuple[torch.Tensor, torch.Tensor]
    bound: tuple[torch.Tensor, torch.Tensor]


class FieldNetwork:
    """Two hidden layers of tanh from s to the fields of one flame.

    Args:
        flame: A single condition, without gradients.
        width: Of the hidden layers.
        sought: Parameters of the flame that are unknown, name -> first value; sought in their logarithms.
    """

    def __init__(self, flame: AbstractFlame, *, width: int = 20, sought: Mapping[str, float] | None = None) -> None:
        if flame.batch != 1:
            raise ValueError(f"flame: expected a single condition, got a batch of {flame.batch}")
        self.flame, self.width, self.sought = flame, width, dict(sought or {})
        for name in self.sought:
            flame.parameter(name)
        self.edges = flame.edges()[0]
        self.scale = flame.limits()[0][0, :-1]
        order = flame.order
        self.closing = next((a for a, o in enumerate(order) if o == 0), None)
        self.free = [a for a, o in enumerate(order) if o > 0]
        self.z0 = float(flame.guess(self.edges[None, None])[1][0])
        self.layer = 5 * float(flame.thickness(flame.first_flux())[0]) if isinstance(flame, FreeFlame) else None
        w, out = width, len(self.free)
        self.sizes: list[tuple[int, ...]] = [(w, 1), (w,), (w, w), (w,), (out, w), (out,)]
        self.num_weights = sum(math.prod(size) for size in self.sizes)

    def initial(self, seed: int) -> torch.Tensor:
        """First unknowns: weights, zeta, and logarithms of the sought parameters over their first values; (P,)."""
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for k, size in enumerate(self.sizes):
            spread = math.sqrt(2 / sum(size)) if len(size) == 2 else 0.0
            spread = (3.0, 1.0, 0.0, 0.0, 0.01, 0.0)[k] * (spread or 1.0)
            parts.append(spread * torch.randn(size, generator=generator, dtype=torch.float64).flatten())
        return torch.cat([*parts, torch.zeros(1 + len(self.sought), dtype=torch.float64)])

    def eigenvalue(self, theta: torch.Tensor) -> torch.Tensor:
        """z, shape (1,)."""
        return self.z0 * theta[self.num_weights : self.num_weights + 1].exp()

    def parameters(self, theta: torch.Tensor) -> dict[str, torch.Tensor]:
        """The sought parameters by name."""
        logs = theta[self.num_weights + 1 :]
        return {name: first * logs[k].exp() for k, (name, first) in enumerate(self.sought.items())}

    def physics(self, theta: torch.Tensor) -> AbstractFlame:
        """The flame with the sought parameters."""
        return self.flame.replace(**self.parameters(theta)) if self.sought else self.flame

    def at(self, x: torch.Tensor) -> Points:
        """Everything about positions x (n,) that does not depend on the weights."""
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            guess = self.flame.guess(leaf[None, None])[0][0, 0]
            slopes = []
            for field in guess.unbind(-1):
                (slope,) = torch.autograd.grad(field.sum(), leaf, retain_graph=True, allow_unused=True)
                slopes.append(torch.zeros_like(x) if slope is None else slope)
        first, last = self.edges[0], self.edges[-1]
        if self.layer is not None:
            root = (x * x + self.layer**2).sqrt()
            s, ds = x / root, self.layer**2 / root**3
            decay = torch.exp(-(x - first) / self.layer)
            bound, slope = 1 - decay, decay / self.layer
        else:
            unit = (x - first) / (last - first)
            s, ds = 2 * unit - 1, torch.full_like(x, 2 / float(last - first))
            bound, slope = 4 * unit * (1 - unit), 4 * (1 - 2 * unit) / (last - first)
        scale = self.scale
        return Points(
            x.detach(),
            s,
            ds,
            (guess.detach(), torch.stack(slopes, dim=-1).detach()),
            (bound[:, None] * scale, slope[:, None] * scale),
        )

    def _network(self, theta: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """N and dN/ds, shape (..., fields that are free), by one Taylor sweep; s of shape (...)."""
        parts, start = [], 0
        for size in self.sizes:
            parts.append(theta[start : start + math.prod(size)].reshape(size))
            start += math.prod(size)
        W1, b1, W2, b2, W3, b3 = parts
        h = torch.tanh(s[..., None] * W1[:, 0] + b1)
        dh = (1 - h * h) * W1[:, 0]
        g = torch.tanh(h @ W2.T + b2)
        dg = (1 - g * g) * (dh @ W2.T)
        return g @ W3.T + b3, dg @ W3.T

    def _fields(self, N: torch.Tensor, dN: torch.Tensor, p: Points) -> tuple[torch.Tensor, torch.Tensor]:
        """Change of y and y' from the network's outputs (n, f, ...): (n, m, ...) each."""
        more = N.dim() - 2
        bound, slope = (v[:, self.free].reshape(*v.shape[:1], -1, *[1] * more) for v in p.bound)
        part, part_slope = bound * N, slope * N + bound * dN * p.slope.reshape(-1, 1, *[1] * more)
        y = N.new_zeros(len(p.x), len(self.scale), *N.shape[2:])
        dy = torch.zeros_like(y)
        y[:, self.free], dy[:, self.free] = part, part_slope
        if self.closing is not None:
            species = [a for a in self.free if a > self.flame.fields.index("T")]
            y[:, self.closing], dy[:, self.closing] = -y[:, species].sum(1), -dy[:, species].sum(1)
        return y, dy

    def fields(self, theta: torch.Tensor, p: Points) -> tuple[torch.Tensor, torch.Tensor]:
        """Y and y' at points, (n, m) each."""
        y, dy = self._fields(*self._network(theta, p.s), p)
        return p.base[0] + y, p.base[1] + dy

    def tangents(self, theta: torch.Tensor, p: Points) -> tuple[torch.Tensor, torch.Tensor]:
        """Derivatives of y and y' in the weights, (n, m, weights) each."""

        def both(weights: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
            return torch.cat(self._network(weights, s))

        weights = theta[: self.num_weights].detach()
        rows = torch.func.vmap(torch.func.jacrev(both), (None, 0))(weights, p.s)
        half = rows.shape[1] // 2
        return self._fields(rows[:, :half], rows[:, half:], p)


def spread_cells(network: FieldNetwork, theta: torch.Tensor, count: int) -> torch.Tensor:
    """Edges of cells (count + 1,) that share the change of the fields evenly."""
    first, last = float(network.edges[0]), float(network.edges[-1])
    if network.layer is not None:
        low, high = (end / math.hypot(end, network.layer) for end in (first, last))
        s = torch.linspace(low, high, 1201, dtype=torch.float64)
        x = s * network.layer / (1 - s * s).sqrt()
    else:
        x = torch.linspace(first, last, 1201, dtype=torch.float64)
    with torch.no_grad():
        y, _ = network.fields(theta, network.at(x))
    span = (y.amax(0) - y.amin(0)).clamp_min(1e-3 * network.scale)
    change = (y.diff(dim=0).abs() / span).amax(1) + 1 / 1200  # and some everywhere
    total = torch.cat((change.new_zeros(1), change.cumsum(0)))
    wanted = torch.linspace(0, 1, count + 1, dtype=torch.float64) * total[-1]
    k = torch.searchsorted(total, wanted).clamp(1, 1200)
    share = (wanted - total[k - 1]) / (total[k] - total[k - 1])
    edges = x[k - 1] + share * (x[k] - x[k - 1])
    edges[0], edges[-1] = first, last
    return edges
