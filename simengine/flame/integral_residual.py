"""The equations of a flame over cells, as residuals of a network, with their Jacobian and gradient in its weights."""

import math
from collections.abc import Callable

import torch

from simengine.flame.equations import AbstractFlame
from simengine.flame.field_network import FieldNetwork, Points

Residual = Callable[[torch.Tensor], torch.Tensor]
GAUSS = 0.5 / math.sqrt(3.0)


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
