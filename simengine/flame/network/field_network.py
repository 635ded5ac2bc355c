"""Networks for any flame: one layer of tanh, its units placed where the fields change.

    y(x) = ends(x) + B(x) scale (A tanh((x - c) v) + b),    z = z_0 exp(zeta)

B vanishes where values are prescribed, so these hold exactly; the closing species takes what the others leave, so mass
fractions sum to 1 exactly. The centres c and steepnesses v of the units begin at places that share the change and the
curvature of a first guess evenly: each thin layer is normalised by units of its own width. With the units placed, the
outer weights of a warm start follow from linear least squares, of order 1 and well conditioned; all of c, v, A, b are
then trained. (A network of two hidden layers in a single normalised coordinate fits the *exact* solution of a
counterflow flame, 60 thicknesses long with two layers, to 1e-3 only, in half a minute of Levenberg-Marquardt; sixty
placed units fit it to 3e-5 at once.) Derivatives in x come in the same sweep as the values.
"""

import copy
import dataclasses
from collections.abc import Mapping

import torch

from simengine.flame.equations.base import AbstractFlame

SAMPLES = 1200  # of the fields, where units and cells are placed
OVERLAP = 1.75  # width of a unit over the distance of its neighbours; errors are flat between 1.5 and 2


@dataclasses.dataclass(frozen=True)
class CollocationPoints:
    """Where the physics is evaluated, and what does not depend on the weights there.

    Attributes:
        x: Positions [m], shape (n,).
        base: What the ends prescribe and its derivative, (n, m) each.
        bound: B scale and its derivative, (n, m) each.
    """

    x: torch.Tensor
    base: tuple[torch.Tensor, torch.Tensor]
    bound: tuple[torch.Tensor, torch.Tensor]


class FieldNetwork:
    """One hidden layer of tanh from x to the fields of one flame.

    The unknowns theta (P,) are the shifts of the units over their first widths, the logarithms of their steepness over
    the first, A (f, width), b (f,) for the f fields that are free, zeta, and the logarithms of the sought parameters
    over their first values.

    Args:
        flame: A single condition, without gradients.
        width: Units of the hidden layer.
        sought: Parameters of the flame that are unknown, name -> first value; sought in their logarithms.

    Raises:
        ValueError: More than one condition, or a name that is no parameter of the flame or one of its ends.
    """

    def __init__(
        self,
        flame: AbstractFlame,
        *,
        width: int = 60,
        sought: Mapping[str, float] | None = None,
    ) -> None:
        if flame.batch != 1:
            raise ValueError(f"flame: expected a single condition, got a batch of {flame.batch}")
        self.flame: AbstractFlame = flame
        self.width: int = width
        self.sought: dict[str, float] = dict(sought or {})
        self.edges: torch.Tensor = flame.edges()[0]
        self.scale: torch.Tensor = flame.limits()[0][0, :-1]
        order = flame.order
        self.closing: int | None = next((a for a, o in enumerate(order) if o == 0), None)
        self.free: list[int] = [a for a, o in enumerate(order) if o > 0]
        self.held_right: bool = flame.anchor_end == "right"  # else the right end is open
        x = self.samples()
        guess, z = flame.guess(x[None, None])
        self.z0: float = float(z[0])
        self._place(*self._places(x, guess[0, 0]))
        self._ends = _ends(flame, z)
        for name in self.sought:
            other = flame.replace(**{name: 1.01 * flame.parameter(name)})
            if any(not torch.equal(*pair) for pair in zip(self._ends, _ends(other, z), strict=True)):
                raise ValueError(f"{name}: changes what the ends prescribe, which a network holds; fit by the solver")
        self.num_weights: int = 2 * width + len(self.free) * (width + 1)

    def _places(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        faces = spread(x, y, self.scale, self.width)
        return 0.5 * (faces[1:] + faces[:-1]), OVERLAP * faces.diff()

    def _place(self, centres: torch.Tensor, widths: torch.Tensor) -> None:
        self.centres: torch.Tensor = centres
        self.widths: torch.Tensor = widths
        self.layer: float = float(widths.median())

    def with_units(self, centres: torch.Tensor, widths: torch.Tensor, z0: float) -> "FieldNetwork":
        """The same with units elsewhere [m], (width,) each, and another first eigenvalue."""
        other = copy.copy(self)
        other._place(centres, widths)
        other.z0 = z0
        return other

    def placed(self, x: torch.Tensor, y: torch.Tensor) -> "FieldNetwork":
        """The same with its units where fields y (n, m), roughly known at x (n,) in rising order [m], need them."""
        return self.with_units(*self._places(x, y), self.z0)

    def samples(self) -> torch.Tensor:
        """Positions over the whole domain, closer where the flame's first mesh is, about `SAMPLES` of them [m]."""
        edges, each = self.edges, SAMPLES // (len(self.edges) - 1)
        share = torch.arange(each, dtype=edges.dtype) / each
        return torch.cat(((edges[:-1, None] + edges.diff()[:, None] * share).flatten(), edges[-1:]))

    def initial(self, seed: int) -> torch.Tensor:
        """First unknowns, (P,): units a little off their places, differently for each seed; no outer weights."""
        generator = torch.Generator().manual_seed(seed)
        units = 0.05 * torch.randn(2 * self.width, generator=generator, dtype=torch.float64)
        return torch.cat((units, units.new_zeros(self.num_weights - 2 * self.width + 1 + len(self.sought))))

    def fitted(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor, *, ridge: float = 1e-3) -> torch.Tensor:
        """Theta with the outer weights that fit fields y (n, m) at x (n,) best: linear least squares.

        Args:
            theta: Unknowns whose units are kept, (P,).
            x: Positions [m].
            y: Fields there.
            ridge: Keeps the weights small against errors of `y`; of a weight, in units of the fields' scales.
        """
        p = self.at(x)
        t, _ = self._units(theta, x)[:2]
        features = torch.cat((t, torch.ones_like(t[:, :1])), dim=1)
        weights = []
        for a in self.free:
            rows = features * (p.bound[0][:, a] / self.scale[a])[:, None]
            weights.append(least_squares(rows, (y[:, a] - p.base[0][:, a]) / self.scale[a], ridge=ridge))
        outer = torch.stack(weights)
        start = 2 * self.width
        theta = theta.clone()
        theta[start : self.num_weights] = torch.cat((outer[:, :-1].flatten(), outer[:, -1]))
        return theta

    def split(self, theta: torch.Tensor) -> list[torch.Tensor]:
        """The unknowns as matrices and vectors: units (2, w), A (f, w), b (f,), and zeta with the sought parameters."""
        f, w = len(self.free), self.width
        parts = theta.split([2 * w, f * w, f, 1 + len(self.sought)])
        return [parts[0].reshape(2, w), parts[1].reshape(f, w), parts[2], parts[3]]

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

    def at(self, x: torch.Tensor) -> CollocationPoints:
        """Everything about positions x (n,) that does not depend on the weights."""
        x = x.detach()
        first, length = self.edges[0], self.edges[-1] - self.edges[0]
        left, right = self._ends
        if self.held_right:
            unit = ((x - first) / length)[:, None]
            base, base_slope = left + (right - left) * unit, ((right - left) / length).expand(len(x), -1)
            bound, slope = 4 * unit * (1 - unit), 4 * (1 - 2 * unit) / length
        else:
            base, base_slope = left.expand(len(x), -1), torch.zeros(len(x), len(left), dtype=x.dtype)
            decay = torch.exp(-(x - first) / self.layer)[:, None]
            bound, slope = 1 - decay, decay / self.layer
        return CollocationPoints(x, (base, base_slope), (bound * self.scale, slope * self.scale))

    def _units(self, theta: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Values of the units, derivatives in their arguments, and the arguments over x - c: (n, w), (n, w), (w,)."""
        shift, steepness = theta[: self.width], theta[self.width : 2 * self.width]
        v = steepness.exp() / self.widths
        t = torch.tanh((x[:, None] - self.centres - shift * self.widths) * v)
        return t, 1 - t * t, v

    def _complete(self, N: torch.Tensor, dN: torch.Tensor, p: CollocationPoints) -> tuple[torch.Tensor, torch.Tensor]:
        """Change of y and y' from the network's outputs and their slopes (n, f, ...): (n, m, ...) each."""
        more = N.dim() - 2
        bound, slope = (v[:, self.free].reshape(*v.shape[:1], -1, *[1] * more) for v in p.bound)
        y = N.new_zeros(len(p.x), len(self.scale), *N.shape[2:])
        dy = torch.zeros_like(y)
        y[:, self.free], dy[:, self.free] = bound * N, slope * N + bound * dN
        if self.closing is not None:
            species = [a for a in self.free if a > self.flame.fields.index("T")]
            y[:, self.closing], dy[:, self.closing] = -y[:, species].sum(1), -dy[:, species].sum(1)
        return y, dy

    def _outer(self, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A (f, w) and b (f,)."""
        start, f = 2 * self.width, len(self.free)
        end = start + f * self.width
        return theta[start:end].reshape(f, self.width), theta[end : end + f]

    def fields(self, theta: torch.Tensor, p: CollocationPoints) -> tuple[torch.Tensor, torch.Tensor]:
        """Y and y' at points, (n, m) each."""
        (t, dt, v), (A, b) = self._units(theta, p.x), self._outer(theta)
        y, dy = self._complete(t @ A.T + b, (dt * v) @ A.T, p)
        return p.base[0] + y, p.base[1] + dy

    def tangents(self, theta: torch.Tensor, p: CollocationPoints) -> tuple[torch.Tensor, torch.Tensor]:
        """Derivatives of y and y' in the weights, (n, m, weights) each."""
        theta = theta.detach()
        (t, dt, v), (A, _) = self._units(theta, p.x), self._outer(theta)
        count, f, w = len(p.x), len(self.free), self.width
        argument = (p.x[:, None] - self.centres - theta[:w] * self.widths) * v
        slope, bend = dt * v, -2 * t * dt * v
        one = torch.eye(f, dtype=p.x.dtype)
        N, dN = p.x.new_zeros(2, count, f, self.num_weights)
        shifted = self.widths * v  # minus what a shift does to the argument
        N[..., :w], dN[..., :w] = -A * (dt * shifted)[:, None], -A * (bend * shifted)[:, None]
        N[..., w : 2 * w] = A * (dt * argument)[:, None]
        dN[..., w : 2 * w] = A * (slope + bend * argument)[:, None]
        end = 2 * w + f * w
        N[..., 2 * w : end] = (one[:, :, None] * t[:, None, None]).flatten(2)
        dN[..., 2 * w : end] = (one[:, :, None] * slope[:, None, None]).flatten(2)
        N[..., end:] = one
        return self._complete(N, dN, p)


def _ends(flame: AbstractFlame, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Fields that the conditions at the left and right end prescribe, (m,) each; 0 where they prescribe slopes."""
    zero = torch.zeros(1, 1, 1, len(flame.fields), dtype=torch.float64)
    return -flame.left(zero, zero, z).detach()[0, 0, 0], -flame.right(zero, zero, z).detach()[0, 0, 0]


def least_squares(rows: torch.Tensor, right: torch.Tensor, *, ridge: float) -> torch.Tensor:
    """Weights (k,) with the least |rows @ weights - right|^2 + ridge^2 |weights|^2, of rows (n, k)."""
    count = rows.shape[1]
    rows = torch.cat((rows, ridge * torch.eye(count, dtype=rows.dtype)))
    right = torch.cat((right, right.new_zeros(count)))[:, None]
    return torch.linalg.lstsq(rows, right, driver="gelsd").solution[:, 0]


def spread(x: torch.Tensor, y: torch.Tensor, scale: torch.Tensor, count: int) -> torch.Tensor:
    """Edges of intervals that share change and curvature of fields evenly, and some of the samples, (count + 1,).

    Args:
        x: Samples in rising order [m], shape (n,).
        y: Fields there, shape (n, m).
        scale: Of the fields; what varies by less than a thousandth of it does not count, (m,).
        count: Of the intervals.
    """
    h = x.diff()
    slope = y.diff(dim=0) / (y.amax(0) - y.amin(0)).clamp_min(1e-3 * scale) / h[:, None]
    change = slope.abs().amax(1) * h
    bend = slope.diff(dim=0).abs().amax(1) * 0.5 * (h[1:] + h[:-1])
    curvature = torch.cat((bend, bend[-1:])).sqrt()
    density = change / change.sum() + curvature / curvature.sum().clamp_min(0.1) + 1 / len(h)
    reach = max(len(h) // 40, 1)
    kernel = torch.exp(-(torch.linspace(-3, 3, 2 * reach + 1, dtype=x.dtype) ** 2))
    padded = torch.nn.functional.pad(density[None, None], (reach, reach), mode="replicate")
    density = torch.nn.functional.conv1d(padded, (kernel / kernel.sum())[None, None])[0, 0]
    total = torch.cat((density.new_zeros(1), density.cumsum(0)))
    wanted = torch.linspace(0, 1, count + 1, dtype=x.dtype) * total[-1]
    k = torch.searchsorted(total, wanted).clamp(1, len(h))
    edges = x[k - 1] + (wanted - total[k - 1]) / (total[k] - total[k - 1]) * h[k - 1]
    edges[0], edges[-1] = x[0], x[-1]
    return edges


def spread_cells(network: FieldNetwork, theta: torch.Tensor, count: int) -> torch.Tensor:
    """Edges of cells (count + 1,) that suit the fields of a network."""
    x = network.samples()
    with torch.no_grad():
        y, _ = network.fields(theta, network.at(x))
    return spread(x, y, network.scale, count)
