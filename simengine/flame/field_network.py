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
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch

from simengine.flame.equations import AbstractFlame
from simengine.flame.free import FreeFlame

Residual = Callable[[torch.Tensor], torch.Tensor]
GAUSS = 0.5 / math.sqrt(3.0)


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


class IntegralResidual:
    """The equations of a flame over cells, for a network.

    Args:
        network: The fields.
        edges: Of the cells [m], shape (c + 1,).
        sizes: What each equation is measured by, shape (m,); None for what the first guess turns over.
    """

    def __init__(self, network: FieldNetwork, edges: torch.Tensor, sizes: torch.Tensor | None = None) -> None:
        self.network, self.edges = network, edges
        h = edges.diff()
        middle = 0.5 * (edges[1:] + edges[:-1])
        self.h = h
        self.faces = network.at(edges)
        self.inner = network.at(torch.cat((middle - GAUSS * h, middle + GAUSS * h)))
        order = network.flame.order
        self.second = [a for a, o in enumerate(order) if o == 2]
        self.rows = [a for a, o in enumerate(order) if o > 0]
        if sizes is None:
            zero = torch.zeros_like(network.initial(0))
            _, S, _ = self._terms(zero)
            sizes = S.abs().sum(0)
            for a, order_of_a in enumerate(order):  # a first guess may satisfy an equation of first order exactly
                sizes[a] = network.scale[a] if order_of_a == 1 else sizes[a].clamp_min(1e-30)
        self.sizes = sizes

    def _expand(self, theta: torch.Tensor, p: Points) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y, dy = self.network.fields(theta, p)
        z = self.network.eigenvalue(theta).expand(1, 1, len(p.x)).unsqueeze(-1)
        return y[None, None], dy[None, None], z

    def _terms(self, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, AbstractFlame]:
        """Flux at the faces (c + 1, m) and source integrated over the cells (c, m)."""
        flame = self.network.physics(theta)
        m, count = len(self.network.scale), len(self.h)
        F = flame.flux_and_source(*self._expand(theta, self.faces))[0, 0, :, :m]
        inner = self._expand(theta, self.inner)
        S = flame.flux_and_source(*inner)[0, 0, :, m:]
        return F, 0.5 * self.h[:, None] * (S[:count] + S[count:]), flame

    def _join(self, F: torch.Tensor, S: torch.Tensor) -> torch.Tensor:
        """Residuals up to each face (c, rows, ...) of fluxes (c + 1, m, ...) and sources (c, m, ...)."""
        r = S.clone()
        r[:, self.second] = r[:, self.second] + F[1:, self.second] - F[:-1, self.second]
        r = (r / self.sizes.reshape(-1, *[1] * (r.dim() - 2)))[:, self.rows]
        return r.cumsum(0)

    def _ends(self, theta: torch.Tensor) -> torch.Tensor:
        """What the form of the fields leaves open: the anchor, and no slope at the end of a free flame."""
        network, flame = self.network, self.network.physics(theta)
        parts = []
        if network.layer is not None:
            at = network.at(torch.zeros(1, dtype=self.edges.dtype))
            y, dy, z = self._expand(theta, at)
            parts.append((flame.anchor(y, dy, z) / network.scale[0]).flatten())
            _, dy = network.fields(theta, network.at(self.edges[-1:]))
            parts.append((dy * network.layer / network.scale)[0, self.second])
        return torch.cat(parts) if parts else theta.new_zeros(0)

    def __call__(self, theta: torch.Tensor) -> torch.Tensor:
        """Scaled residuals of all cells and ends, shape (rows,)."""
        F, S, _ = self._terms(theta)
        return torch.cat((self._join(F, S).flatten(), self._ends(theta)))

    def linearise(self, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Residuals and their Jacobian in all unknowns, (rows,) and (rows, P)."""
        network, count = self.network, len(self.h)
        m, flame = len(network.scale), network.physics(theta).detached()
        values, columns = [], []
        dz = network.eigenvalue(theta)  # dz/dzeta = z
        for p, rows in ((self.faces, slice(0, m)), (self.inner, slice(m, 2 * m))):
            value, local = flame.local_jacobian(*self._expand(theta, p))
            local = local[0, 0, :, rows]
            dy, ddy = network.tangents(theta, p)
            column = local[..., :m] @ dy + local[..., m : 2 * m] @ ddy
            value = value[0, 0, :, rows]
            columns.append(torch.cat((column, (local[..., -1] * dz).unsqueeze(-1)), dim=-1))
            values.append(value)
        half = 0.5 * self.h[:, None]
        S = half * (values[1][:count] + values[1][count:])
        dS = half.unsqueeze(-1) * (columns[1][:count] + columns[1][count:])
        r, j = self._join(values[0], S).flatten(), self._join(columns[0], dS).flatten(0, 1)
        known = network.num_weights + 1
        if network.sought:
            j = torch.cat((j, _columns(lambda p: self._in_parameters(theta, p), theta[known:])), dim=1)
        ends = self._ends(theta)
        if len(ends):
            leaf = theta.detach().clone().requires_grad_()
            with torch.enable_grad():
                rows_ = [torch.autograd.grad(e, leaf, retain_graph=True)[0] for e in self._ends(leaf)]
            r, j = torch.cat((r, ends)), torch.cat((j, torch.stack(rows_)))
        return r.detach(), j.detach()

    def _in_parameters(self, theta: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
        F, S, _ = self._terms(torch.cat((theta[: self.network.num_weights + 1].detach(), logs)))
        return self._join(F, S).flatten()

    def gradient(self, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss (mean square) and its gradient: local Jacobians transposed, one reverse sweep through the network."""
        network, count, m = self.network, len(self.h), len(self.network.scale)
        flame = network.physics(theta).detached()
        leaf = theta.detach().clone().requires_grad_()
        parts = []
        with torch.enable_grad():
            for p in (self.faces, self.inner):
                parts.append(self._expand(leaf, p))
        values = [flame.local_jacobian(*(v.detach() for v in part)) for part in parts]
        F = values[0][0][0, 0, :, :m].requires_grad_()
        raw = values[1][0][0, 0, :, m:].requires_grad_()
        with torch.enable_grad():
            S = 0.5 * self.h[:, None] * (raw[:count] + raw[count:])
            ends = self._ends(leaf)
            r = torch.cat((self._join(F, S).flatten(), ends))
            loss = r.square().mean()
            F_bar, S_bar = torch.autograd.grad(loss, (F, raw), retain_graph=True)
            total = torch.zeros((), dtype=theta.dtype)
            for (y, dy, z), (_, local), bar, rows in (
                (parts[0], values[0], F_bar, slice(0, m)),
                (parts[1], values[1], S_bar, slice(m, 2 * m)),
            ):
                pulled = torch.einsum("na,nak->nk", bar, local[0, 0, :, rows])
                total = total + (torch.cat((y, dy, z), dim=-1)[0, 0] * pulled).sum()
            if len(ends):
                total = total + (ends * (2 / len(r)) * ends.detach()).sum()
            (gradient,) = torch.autograd.grad(total, leaf)
        return loss.detach(), gradient


def _columns(function: Residual, z: torch.Tensor) -> torch.Tensor:
    """Derivatives of a function of a few numbers, (rows, p), by central differences in float64."""
    step, parts = 1e-5, []
    with torch.no_grad():
        for unit in torch.eye(len(z), dtype=z.dtype):
            parts.append((function(z + step * unit) - function(z - step * unit)) / (2 * step))
    return torch.stack(parts, dim=1)


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


@dataclasses.dataclass(frozen=True)
class TrainedFields:
    """A trained network.

    Attributes:
        network: Its form.
        theta: Its unknowns.
    """

    network: FieldNetwork
    theta: torch.Tensor

    @property
    def flame(self) -> AbstractFlame:
        """The flame with the parameters that were found."""
        return self.network.physics(self.theta)

    @property
    def eigenvalue(self) -> torch.Tensor:
        """Z, shape (1,)."""
        return self.network.eigenvalue(self.theta)

    def profiles(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """What can be observed at x (q,) [m], by name; (1, q) each."""
        y, _ = self.network.fields(self.theta, self.network.at(x))
        return self.flame.profiles(y[None], self.eigenvalue)

    def check(self, cells: int = 400) -> dict[str, Any]:
        """Whether this is the flame: it burns to the right temperature, and the equations hold on a fine mesh."""
        edges = spread_cells(self.network, self.theta, cells)
        residual = IntegralResidual(self.network, edges)
        r = residual(self.theta)[: cells * len(residual.rows)].reshape(cells, -1)
        y, _ = self.network.fields(self.theta, self.network.at(edges))
        T = y[:, self.network.flame.fields.index("T")]
        burning = bool(self.network.flame.burning(y[None])[0])
        if self.network.layer is not None and isinstance(self.network.flame, FreeFlame):
            burning = abs(float(T[-1]) / float(self.network.flame.burnt()[0][0]) - 1) < 0.02
        imbalance = float(r.abs().max())  # up to any x, of what the first guess turns over in all
        return {"burning": burning, "imbalance": imbalance, "ok": burning and imbalance < 2e-2}


@dataclasses.dataclass(kw_only=True)
class NetworkTrainer:
    """Steps of a training, forward or inverse; one `step` is one Levenberg-Marquardt step or first-order update.

    Attributes:
        network: The fields.
        cells: Number of cells.
        optimiser: Levenberg-Marquardt, or a first-order method (`soap` needs the package pytorch-optimizer).
        seed: Of the first weights.
        adapt: Steps between two spreadings of the cells; 0 for never.
        data: x (q,), name of a profile -> values (q,), and their standard deviations; None for none.
    """

    network: FieldNetwork
    cells: int = 90
    optimiser: Literal["lm", "adam", "lbfgs", "soap"] = "lm"
    seed: int = 0
    adapt: int = 8
    data: tuple[torch.Tensor, Mapping[str, torch.Tensor], Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        self.theta = self.network.initial(self.seed)
        self.damping, self.iteration, self.loss = 1e-6, 0, math.inf
        self.edges = spread_cells(self.network, torch.zeros_like(self.theta), self.cells)
        self.residual = IntegralResidual(self.network, self.edges)
        self._first: Any = None
        if self.data is not None:
            self.points = self.network.at(self.data[0])

    def warm_start(self, x: torch.Tensor, y: torch.Tensor, z: float, *, steps: int = 25) -> float:
        """Fit the network to fields known roughly, a coarse solution or measurements; returns the mean square left.

        Args:
            x: Positions [m], shape (n,).
            y: Fields there, shape (n, m).
            z: Eigenvalue.
            steps: Levenberg-Marquardt steps at most.
        """
        network, known = self.network, self.network.num_weights
        points, damping = network.at(x), 1e-2
        self.theta[known] = math.log(z / network.z0)
        eye = torch.eye(known, dtype=x.dtype)

        def misfit(theta: torch.Tensor) -> torch.Tensor:
            return ((network.fields(theta, points)[0] - y) / network.scale)[:, network.free].flatten()

        with torch.no_grad():
            r = misfit(self.theta)
            for _ in range(steps):
                tangents = network.tangents(self.theta, points)[0] / network.scale[:, None]
                j = tangents[:, network.free].flatten(0, 1)
                gram, right = j.T @ j, j.T @ r
                for _ in range(8):
                    trial = self.theta.clone()
                    trial[:known] -= torch.linalg.solve(gram + damping * eye, right)
                    after = misfit(trial)
                    if bool(after.square().sum() < r.square().sum()):
                        self.theta, r, damping = trial, after, max(damping / 4, 1e-12)
                        break
                    damping *= 4
                else:
                    break
        self.edges = spread_cells(network, self.theta, self.cells)
        self.residual = IntegralResidual(network, self.edges)
        return float(r.square().mean())

    def _misfit(self, theta: torch.Tensor) -> torch.Tensor:
        """Data over their standard deviations, weighted against the physics; (rows,)."""
        if self.data is None:
            return theta.new_zeros(0)
        y, _ = self.network.fields(theta, self.points)
        profiles = self.network.physics(theta).profiles(y[None], self.network.eigenvalue(theta))
        _, values, spread = self.data
        return DATA_WEIGHT * torch.cat([(profiles[name][0] - v) / spread[name] for name, v in values.items()])

    def all_residuals(self, theta: torch.Tensor) -> torch.Tensor:
        """Physics, then data."""
        return torch.cat((self.residual(theta), self._misfit(theta)))

    def step(self) -> float:
        """One step; returns the loss before it, the sum of squares."""
        self.iteration += 1
        if self.adapt and self.iteration % self.adapt == 0 and self.optimiser == "lm":
            self.edges = spread_cells(self.network, self.theta, self.cells)
            self.residual = IntegralResidual(self.network, self.edges, self.residual.sizes)
        return self._second_order() if self.optimiser == "lm" else self._first_order()

    def _second_order(self) -> float:
        r, j = self.residual.linearise(self.theta)
        if self.data is not None:
            leaf = self.theta.clone().requires_grad_()
            with torch.enable_grad():
                misfit = self._misfit(leaf)
                (rows,) = torch.autograd.grad(
                    misfit, leaf, torch.eye(len(misfit), dtype=leaf.dtype), is_grads_batched=True
                )
            r, j = torch.cat((r, misfit.detach())), torch.cat((j, rows))
        self.loss = float(r.square().sum())
        gram = j @ j.T
        eye = torch.eye(len(r), dtype=r.dtype)
        for _ in range(10):
            step = -(j.T @ torch.linalg.solve(gram + self.damping * eye, r))
            with torch.no_grad():
                after = float(self.all_residuals(self.theta + step).square().sum())
            if after < self.loss:
                self.theta = self.theta + step
                self.damping = max(self.damping / 4, 1e-13)
                break
            self.damping = min(self.damping * 5, 1e6)
        return self.loss

    def _first_order(self) -> float:
        if self._first is None:
            self._leaf = torch.nn.Parameter(self.theta.clone())
            if self.optimiser == "adam":
                self._first = torch.optim.Adam([self._leaf], lr=1e-3)
            elif self.optimiser == "lbfgs":
                self._first = torch.optim.LBFGS([self._leaf], max_iter=20, line_search_fn="strong_wolfe")
            else:
                try:
                    from pytorch_optimizer import SOAP  # type: ignore[import-not-found, unused-ignore]
                except ImportError as error:
                    raise ValueError("optimiser='soap' needs the package pytorch-optimizer; install it") from error
                self._first = SOAP([self._leaf], lr=3e-3)

        def closure() -> torch.Tensor:
            loss, gradient = self.residual.gradient(self._leaf.detach())
            if self.data is not None:
                with torch.enable_grad():
                    leaf = self._leaf.detach().clone().requires_grad_()
                    extra = self._misfit(leaf).square().mean()
                    gradient = gradient + torch.autograd.grad(extra, leaf)[0]
                    loss = loss + extra.detach()
            self._leaf.grad = gradient
            return loss

        self.loss = float(self._first.step(closure))
        self.theta = self._leaf.detach().clone()
        return self.loss

    @property
    def result(self) -> TrainedFields:
        """The network as it is now."""
        return TrainedFields(self.network, self.theta)


DATA_WEIGHT = 1e-2  # of a standard deviation of the data, in units of what the equations turn over
