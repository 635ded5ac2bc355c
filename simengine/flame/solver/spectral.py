"""Spectral elements: Chebyshev collocation in each piece of the domain, joined by value and flux.

In the interior points of an element the equation itself is collocated. Where two elements meet, a second-order field
has equal values and equal fluxes, a first-order field equal values; an algebraic one holds in every point. Each element
carries its own copy of the eigenvalue, equal to its neighbour's, so the Jacobian stays block tridiagonal with one block
an element. For smooth flames the error falls exponentially with the degree; the tail of the Chebyshev coefficients
tells which elements to bisect.
"""

import dataclasses
import math
from functools import cache

import torch

from simengine.flame.equations.base import AbstractFlame, AbstractFlameProblem, Pointwise
from simengine.solve.block_tridiagonal import BlockTridiagonalMatrix


@cache
def chebyshev(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points on [-1, 1] rising, their barycentric weights, and the differentiation matrix; (n,), (n,), (n, n)."""
    k = torch.arange(n, dtype=torch.float64)
    x = torch.sin(math.pi * (2 * k - (n - 1)) / (2 * (n - 1)))  # symmetric to rounding
    w = (-1.0) ** k
    w[0], w[-1] = w[0] / 2, w[-1] / 2
    gaps = x[:, None] - x[None, :] + torch.eye(n, dtype=x.dtype)
    d = (w[None, :] / w[:, None]) / gaps
    d = d - torch.diag(d.diagonal())
    return x, w, d - torch.diag(d.sum(1))  # rows sum to 0: a constant has no slope


@cache
def coefficients_matrix(n: int) -> torch.Tensor:
    """Takes values at the points to Chebyshev coefficients, shape (n, n)."""
    x = chebyshev(n)[0]
    return torch.linalg.inv(torch.cos(torch.arange(n) * torch.arccos(x)[:, None]))


def interpolation_matrix(n: int, at: torch.Tensor) -> torch.Tensor:
    """Takes values at the points to values at `at` in [-1, 1], shape (*at.shape, n)."""
    x, w, _ = chebyshev(n)
    gap = at.unsqueeze(-1) - x
    hit = gap == 0
    weights = w / torch.where(hit, 1.0, gap)
    weights = torch.where(hit.any(-1, keepdim=True), hit.to(w.dtype), weights)
    return weights / weights.sum(-1, keepdim=True)


@dataclasses.dataclass(frozen=True)
class SpectralMesh:
    """Elements with the same number of Chebyshev points.

    Attributes:
        edges: Ends of the elements [m], rising, shape (b, K + 1).
        n: Points in an element, both ends included.
        anchor: The element at whose left end the anchor condition holds; K for the right end of the domain.
    """

    edges: torch.Tensor
    n: int
    anchor: int

    @property
    def x(self) -> torch.Tensor:
        """Points [m], shape (b, K, n); the ends of elements occur twice."""
        left, right = self.edges[:, :-1, None], self.edges[:, 1:, None]
        return left + (right - left) * (chebyshev(self.n)[0] + 1) / 2

    @property
    def slope(self) -> torch.Tensor:
        """Differentiation matrix of each element [1/m], shape (b, K, n, n)."""
        return chebyshev(self.n)[2] * (2 / self.edges.diff(dim=1))[:, :, None, None]

    def tails(self, y: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Size of the last two Chebyshev coefficients over the fields' scales, per element; (b, K)."""
        coefficients = torch.einsum("ij,bkjm->bkim", coefficients_matrix(self.n), y)
        return (coefficients[:, :, -2:].abs().amax(2) / scale.unsqueeze(1)).amax(-1)

    def bisected(self, which: torch.Tensor) -> "SpectralMesh":
        """The mesh with some elements, `which` (K,), cut in halves, in every condition alike."""
        edges, anchor = [self.edges[:, :1]], self.anchor + int(which[: self.anchor].sum())
        for k, cut in enumerate(which.tolist()):
            if cut:
                edges.append(self.edges[:, k : k + 2].mean(1, keepdim=True))
            edges.append(self.edges[:, k + 1 : k + 2])
        return SpectralMesh(torch.cat(edges, dim=1), self.n, anchor)

    def extended(self, left: torch.Tensor) -> "SpectralMesh":
        """The mesh with one element more on the left, from x = -left (b,)."""
        start = torch.minimum(-left[:, None], 2 * self.edges[:, :1] - self.edges[:, 1:2])
        return SpectralMesh(torch.cat((start, self.edges), dim=1), self.n, self.anchor + 1)

    def weights(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The element of each x (b, q) and the weights of its points, (b, q) and (b, q, n)."""
        inner = self.edges[:, 1:-1].contiguous()
        k = torch.searchsorted(inner, x.contiguous())
        left, right = self.edges.gather(1, k), self.edges.gather(1, k + 1)
        # Beyond the ends, where a mesh has just been extended, the end values hold.
        return k, interpolation_matrix(self.n, (2 * (x - left) / (right - left) - 1).clamp(-1.0, 1.0))

    def interpolate(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Fields y (b, K, n, m) at x (b, q); shape (b, q, m)."""
        k, weights = self.weights(x)
        pieces = y.gather(1, k[:, :, None, None].expand(-1, -1, *y.shape[2:]))
        return torch.einsum("bqn,bqnm->bqm", weights, pieces)


class SpectralProblem(AbstractFlameProblem):
    """A flame on a spectral mesh. Unknowns of an element: fields at its points, then the eigenvalue; (b, K, n m + 1).

    Args:
        flame: The equations.
        mesh: The elements.
    """

    mesh: SpectralMesh

    def __init__(self, flame: AbstractFlame, mesh: SpectralMesh) -> None:
        self.flame: AbstractFlame = flame
        self.mesh = mesh
        self.slope: torch.Tensor = mesh.slope
        self.second, self.first = ([a for a, o in enumerate(flame.order) if o == wanted] for wanted in (2, 1))
        self.bounded: list[int] = [a for a, o in enumerate(flame.order) if o > 0]
        self.scale, self.lower, self.upper = (self._spread(limit.detach()) for limit in flame.limits())

    def of(self, flame: AbstractFlame) -> "SpectralProblem":
        """Another flame on the same elements."""
        return SpectralProblem(flame, self.mesh)

    def _spread(self, value: torch.Tensor) -> torch.Tensor:
        fields, z = value[:, :-1], value[:, -1:]
        return torch.cat((fields.repeat(1, self.mesh.n), z), dim=1).unsqueeze(1)

    def pack(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Unknowns of fields (b, K, n, m) and eigenvalue (b,)."""
        return torch.cat((y.flatten(2), z[:, None, None].expand(-1, y.shape[1], 1)), dim=2)

    def unpack(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fields (b, K, n, m) and the eigenvalue of each element (b, K, n, 1)."""
        b, count, _ = state.shape
        y = state[..., :-1].reshape(b, count, self.mesh.n, -1)
        return y, state[..., None, -1:].expand(-1, -1, self.mesh.n, 1)

    @property
    def _anchor(self) -> tuple[int, int]:
        count = self.mesh.edges.shape[1] - 1
        return (self.mesh.anchor, 0) if self.mesh.anchor < count else (count - 1, self.mesh.n - 1)

    def residual(self, y: torch.Tensor) -> torch.Tensor:
        """The collocated equations, shape (b, K, n m + 1)."""
        y, z = self.unpack(y)
        dy = self.slope @ y
        return self._joined(self.flame.flux_and_source(y, dy, z), y, dy, z)

    def _joined(self, values: torch.Tensor, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """The residual from fluxes and sources (b, K, n, 2 m): equations within, joints and conditions at the ends."""
        m = y.shape[-1]
        flux, source = values[..., :m], values[..., m:]
        r = self.slope @ flux + source
        r[:, 1:, 0, self.second] = flux[:, 1:, 0, self.second] - flux[:, :-1, -1, self.second]
        r[:, :-1, -1, self.second] = y[:, :-1, -1, self.second] - y[:, 1:, 0, self.second]
        r[:, 1:, 0, self.first] = y[:, 1:, 0, self.first] - y[:, :-1, -1, self.first]
        left = self.flame.left(y[:, :1, :1], dy[:, :1, :1], z[:, :1, :1])
        right = self.flame.right(y[:, -1:, -1:], dy[:, -1:, -1:], z[:, -1:, -1:])
        r[:, 0, 0, self.bounded] = left[:, 0, 0, self.bounded]
        r[:, -1, -1, self.second] = right[:, 0, 0, self.second]
        e, i = self._anchor
        w = z[:, :, 0, 0]
        at = (slice(None), slice(e, e + 1), slice(i, i + 1))
        anchor = self.flame.anchor(y[at], dy[at], z[at])[:, :, 0, 0]
        chain = torch.cat((w[:, :e] - w[:, 1 : e + 1], anchor, w[:, e + 1 :] - w[:, e:-1]), dim=1)
        return torch.cat((r.flatten(2), chain.unsqueeze(2)), dim=2)

    def linearise(self, y: torch.Tensor) -> tuple[torch.Tensor, BlockTridiagonalMatrix]:
        """Residual and exact Jacobian."""
        y, z = self.unpack(y)
        b, count, n, m = y.shape
        dy = self.slope @ y
        values, local = self.flame.local_jacobian(y, dy, z)
        flux_y, flux_z = self._element(local[..., :m, :])
        rows_y, rows_z = self._element(local[..., m:, :])
        rows_y += (self.slope @ flux_y.reshape(b, count, n, -1)).reshape(flux_y.shape)
        rows_z += self.slope @ flux_z
        size = n * m + 1
        blocks = y.new_zeros(3, b, count, size, size)
        inner = blocks[..., :-1, :-1].unflatten(-1, (n, m)).unflatten(-3, (n, m))
        lower_y, middle_y, upper_y = inner  # (b, K, n, m, n, m) views
        column = blocks[..., :-1, -1].unflatten(-1, (n, m))
        lower_z, middle_z, _ = column
        middle_y[...], middle_z[...] = rows_y, rows_z
        for a in self.second:
            middle_y[:, 1:, 0, a], middle_z[:, 1:, 0, a] = flux_y[:, 1:, 0, a], flux_z[:, 1:, 0, a]
            lower_y[:, 1:, 0, a], lower_z[:, 1:, 0, a] = -flux_y[:, :-1, -1, a], -flux_z[:, :-1, -1, a]
            middle_y[:, :-1, -1, a], middle_z[:, :-1, -1, a] = 0.0, 0.0
            middle_y[:, :-1, -1, a, -1, a], upper_y[:, :-1, -1, a, 0, a] = 1.0, -1.0
        for a in self.first:
            middle_y[:, 1:, 0, a], middle_z[:, 1:, 0, a] = 0.0, 0.0
            middle_y[:, 1:, 0, a, 0, a], lower_y[:, 1:, 0, a, -1, a] = 1.0, -1.0
        for element, point, condition, held in [
            (0, 0, self.flame.left, self.bounded),
            (count - 1, n - 1, self.flame.right, self.second),
        ]:
            row_y, row_z = self._at(condition, y, dy, z, element, point)
            middle_y[:, element, point, held], middle_z[:, element, point, held] = row_y[:, held], row_z[:, held]
        e, i = self._anchor
        row_y, row_z = self._at(self.flame.anchor, y, dy, z, e, i)
        blocks[1, :, e, -1, :-1], blocks[1, :, e, -1, -1] = row_y[:, 0].flatten(1), row_z[:, 0]
        others = [k for k in range(count) if k != e]
        blocks[1, :, others, -1, -1] = 1.0
        blocks[2, :, :e, -1, -1] = -1.0
        blocks[0, :, e + 1 :, -1, -1] = -1.0
        return self._joined(values, y, dy, z), BlockTridiagonalMatrix(blocks[0], blocks[1], blocks[2])

    def mass(self, y: torch.Tensor) -> torch.Tensor:
        """Inertia of the collocated rows; 0 for rows that join or bound."""
        fields, z = self.unpack(y)
        inertia = self.flame.inertia(fields).clone()
        inertia[:, :, 0], inertia[:, :, -1] = 0.0, 0.0
        return torch.cat((inertia.flatten(2), torch.zeros_like(z[:, :, 0])), dim=2)

    def _element(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Derivatives of a pointwise function in all unknowns of its element: (b, K, n, q, n, m) and (b, K, n, q)."""
        m = (local.shape[-1] - 1) // 2
        of_y, of_dy, of_z = local[..., :m], local[..., m : 2 * m], local[..., -1]
        full = of_dy.unsqueeze(-2) * self.slope[:, :, :, None, :, None]
        full.diagonal(dim1=2, dim2=4).add_(of_y.permute(0, 1, 3, 4, 2))
        return full, of_z.clone()

    def _at(
        self, condition: Pointwise, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor, element: int, point: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Derivatives of a condition in the unknowns of its element, (b, q, n, m) and (b, q)."""
        at = (slice(None), slice(element, element + 1), slice(point, point + 1))
        rows, m = self.condition_jacobian(condition, (y[at], dy[at], z[at])), y.shape[-1]
        full = rows[:, :, None, m : 2 * m] * self.slope[:, element, point, None, :, None]
        full[:, :, point] += rows[..., :m]
        return full, rows[..., -1]
