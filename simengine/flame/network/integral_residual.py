"""The equations of a flame over cells, as residuals of a network, with their Jacobian and gradient in its weights.

    0 = F(x) - F(x_0) + int S dx  up to every face x,

with three Gauss points a cell. This needs first derivatives only, conserves what flows, and measures an error by the
flux it makes: by cells or by points the same training stalls at errors of 1 % and more. The Jacobian is that of the
flame's own local Jacobians and the network's tangents, so no derivative is nested.
"""

import math
from collections.abc import Callable

import torch

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.network.field_network import CollocationPoints, FieldNetwork

Residual = Callable[[torch.Tensor], torch.Tensor]
GAUSS = ((-0.5 * math.sqrt(0.6), 5 / 18), (0.0, 8 / 18), (0.5 * math.sqrt(0.6), 5 / 18))  # places in a cell, weights


class IntegralResidual:
    """The equations of a flame over cells, for a network.

    Args:
        network: The fields.
        edges: Of the cells [m], shape (c + 1,).
        sizes: What each equation is measured by, shape (m,); see `of_turnover`.
    """

    def __init__(self, network: FieldNetwork, edges: torch.Tensor, sizes: torch.Tensor) -> None:
        self.network: FieldNetwork = network
        self.edges: torch.Tensor = edges
        self.sizes: torch.Tensor = sizes
        h = edges.diff()
        middle = 0.5 * (edges[1:] + edges[:-1])
        self.h = h
        self.faces: CollocationPoints = network.at(edges)
        self.inner: CollocationPoints = network.at(torch.cat([middle + place * h for place, _ in GAUSS]))
        order = network.flame.order
        self.second: list[int] = [a for a, o in enumerate(order) if o == 2]
        self.rows: list[int] = [a for a, o in enumerate(order) if o > 0]

    @classmethod
    def of_turnover(cls, network: FieldNetwork, theta: torch.Tensor, edges: torch.Tensor) -> "IntegralResidual":
        """Measured by what each equation's sources turn over in these fields; by the field's scale at first order."""
        residual = cls(network, edges, torch.ones_like(network.scale))
        with torch.no_grad():
            _, S, _ = residual._terms(theta)
        order = torch.tensor(network.flame.order)
        residual.sizes = torch.where(order == 1, network.scale, S.abs().sum(0).clamp_min(1e-30))
        return residual

    def _expand(self, theta: torch.Tensor, p: CollocationPoints) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y, dy = self.network.fields(theta, p)
        z = self.network.eigenvalue(theta).expand(1, 1, len(p.x)).unsqueeze(-1)
        return y[None, None], dy[None, None], z

    def _terms(self, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, AbstractFlame]:
        """Flux at the faces (c + 1, m) and source integrated over the cells (c, m)."""
        flame = self.network.physics(theta)
        m = len(self.network.scale)
        F = flame.flux_and_source(*self._expand(theta, self.faces))[0, 0, :, :m]
        S = flame.flux_and_source(*self._expand(theta, self.inner))[0, 0, :, m:]
        return F, self._integrated(S), flame

    def _integrated(self, S: torch.Tensor) -> torch.Tensor:
        """Over each cell (c, ...), of values at the inner points (3 c, ...)."""
        h = self.h.reshape(-1, *[1] * (S.dim() - 1))
        return sum((weight * h * part for (_, weight), part in zip(GAUSS, S.chunk(len(GAUSS)), strict=True)), 0 * h)

    def _join(self, F: torch.Tensor, S: torch.Tensor) -> torch.Tensor:
        """Residuals up to each face (c, rows, ...) of fluxes (c + 1, m, ...) and sources (c, m, ...)."""
        r = S.clone()
        r[:, self.second] = r[:, self.second] + F[1:, self.second] - F[:-1, self.second]
        r = (r / self.sizes.reshape(-1, *[1] * (r.dim() - 2)))[:, self.rows]
        return r.cumsum(0)

    def _ends(self, theta: torch.Tensor) -> torch.Tensor:
        """What the form of the fields leaves open: the anchor, and the conditions at an open right end."""
        network, flame = self.network, self.network.physics(theta)
        if network.held_right:
            return theta.new_zeros(0)
        first, last = self.edges[:1], self.edges[-1:]
        here = network.at(first if flame.anchor_end == "left" else torch.zeros_like(first))
        y, dy, z = self._expand(theta, here)
        size = flame.anchor(torch.zeros_like(y), torch.zeros_like(dy), z).abs().detach()
        anchor = (flame.anchor(y, dy, z) / size).flatten()
        right = flame.right(*self._expand(theta, network.at(last)))[0, 0, 0]
        return torch.cat((anchor, (right * network.layer / network.scale)[self.second]))

    def __call__(self, theta: torch.Tensor) -> torch.Tensor:
        """Scaled residuals of all cells and ends, shape (rows,)."""
        F, S, _ = self._terms(theta)
        return torch.cat((self._join(F, S).flatten(), self._ends(theta)))

    def linearise(self, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Residuals and their Jacobian in all unknowns, (rows,) and (rows, P)."""
        network = self.network
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
        r = self._join(values[0], self._integrated(values[1])).flatten()
        j = self._join(columns[0], self._integrated(columns[1])).flatten(0, 1)
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
        network, m = self.network, len(self.network.scale)
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
            ends = self._ends(leaf)
            r = torch.cat((self._join(F, self._integrated(raw)).flatten(), ends))
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
