"""One implicit increment of a body of particles: the displacements of the nodes at which all forces balance.

r_i(u) = sum_p (w_ip f_p + S_p g_ip) + M_i (a u_i - b_i) + (weak terms) = 0 at every node that nothing holds, with f
and S from `Response`; at rest a = b = 0. Newton's method with a line search; each step by conjugate gradients or, where
the tangent is not symmetric, GMRES, on products with the cells' tangents. Their preconditioner is a sparse
factorisation, used until it is stale, or of many nodes the block of each. Nodes that may only be pushed from one side
(slip walls) are closed or open by the sign of what they bear.

Two weak terms keep nodes apart from nothing: a spring to where the increment began, and a stiffness against the bending
of rows of nodes (a ghost penalty: Burman 2010), which ties a node that hardly a particle reaches to those beside it and
leaves affine motion free. Both act on the increment alone, so they are gone from a state that no increment moves.

The result depends on model and state by the implicit function theorem (`simengine.solve.implicit`).
"""

import copy
import dataclasses

import torch

from simengine.mpm.model import MPMModel
from simengine.mpm.patch import Patch
from simengine.mpm.response import Response, Tangent
from simengine.mpm.state import MPMState
from simengine.solve.conjugate_gradients import conjugate_gradients
from simengine.solve.gmres import gmres
from simengine.solve.implicit import implicit_root, inner_graph
from simengine.solve.solution import Result, Solution

BENT = 1e-3  # ghost stiffness over that of a cell in shear
SPRING = 1e-6  # spring over what a node's mass is at the rate at which shear crosses a cell
FACTORED = 8000  # unknowns up to which the tangent is factorised
STALE = 12  # products of a solve after which it is factorised anew
STRAIN = 1e-6  # whose forces on a cell count at least as the size of what balances, where hardly anything is loaded
CLOSED = 12  # rounds of opening and closing at walls


class Increment:
    """The balance of one increment.

    Args:
        model: What is constant.
        state: From which it goes.
        number: Of the step at whose beginning rigid bodies are.
        span: Time that it takes [s], 0 for a state of rest.
        share: Of gravity and loads that acts.
        cells: Whether the volume is kept cell by cell, against locking.
        relaxed: Whether branches have relaxed.
    """

    def __init__(
        self,
        model: MPMModel,
        state: MPMState,
        *,
        number: float = 0,
        span: float = 0.0,
        share: float = 1.0,
        cells: bool = False,
        relaxed: bool = True,
    ) -> None:
        self.model: MPMModel = model
        self.state: MPMState = state
        self.patch: Patch = Patch(model, state, number=number, span=span, whole=cells)
        mean = self.patch.cell if cells else None
        self.response: Response = Response(
            model, state, number=number, span=span, share=share, mean=mean, relaxed=relaxed
        )
        modulus = model.modulus(state.x, 1).mean()
        mass, volume = model.body(state.x)
        h = model.grid.dx
        self.least: float = STRAIN * float(modulus.detach()) * h**2
        across = h * max(model.grid.size)  # places are known to its rounding, and springs of contact make forces of it
        self.rounding: float = torch.finfo(state.x.dtype).eps * across * float(self.response.stiffness.detach().norm())
        self.ghost: torch.Tensor = BENT * modulus * h
        self.spring: torch.Tensor = SPRING * modulus * volume.mean() / (mass.mean() * h**2) * self.patch.mass[:, None]
        self.rate: torch.Tensor = torch.zeros_like(self.patch.mass)  # of the forces of inertia [kg/s^2]
        self.past = torch.zeros_like(self.patch.told)

    def throw(self, state: MPMState, span: float) -> torch.Tensor:
        """Give matter inertia, and the nodes the particles' velocities, (m, 3) [m/s]: M (u / span - v) / span acts.

        Mass-proportional damping acts beside it, on u / span.
        """
        v = torch.cat((state.v[..., None], state.C * (self.model.grid.dx**2 / 4)), -1)
        mass, _ = self.model.body(state.x)
        before = self.patch.gathered(mass[:, None, None] * v) / self.patch.mass[:, None]
        self.rate = self.patch.mass * span**-2
        if self.model.slows:
            drag = torch.zeros_like(v)
            drag[..., 0] = (mass * self.model.drag(len(mass)).to(mass))[:, None]
            self.rate = self.rate + self.patch.gathered(drag)[:, 0] / span
        self.past = self.patch.mass[:, None] * before / span
        return before

    def residual(self, u: torch.Tensor) -> torch.Tensor:
        """Forces on the nodes that nothing balances [N], (m, 3)."""
        patch = self.patch
        r = patch.gathered(self.response.forces(patch.motion(u)))
        return r + self.rate[:, None] * u - self.past + self.spring * u + self.ghost * patch.bent(u)

    def size(self, u: torch.Tensor) -> float:
        """Of the forces that balance one another, to judge what is left of them [N]."""
        s = self.response.forces(self.patch.motion(u))
        parts = torch.einsum("nak,nik->nia", s.abs(), self.patch.b.abs())
        whole = s.new_zeros(self.patch.count, 3).index_add(
            0, self.patch.of[self.patch.cell].flatten(), parts.flatten(0, 1)
        )
        return max(float((whole + (self.rate[:, None] * u - self.past).abs()).norm()), self.least)

    def tangent(self, u: torch.Tensor) -> "CellTangent":
        """The derivative of `residual` at u."""
        with inner_graph():
            local = self.response.tangent(self.patch.motion(u))
        return CellTangent(self, local)


class CellTangent:
    """A tangent as one matrix for each cell, and what is diagonal.

    Args:
        increment: Whose tangent it is.
        local: That of each particle.
    """

    def __init__(self, increment: Increment, local: Tangent) -> None:
        self.patch: Patch = increment.patch
        self.response: Response = increment.response
        patch = self.patch
        b = patch.b.detach()
        self.dofs: int = 3 * b.shape[1]
        self.matrix: torch.Tensor = self._summed(local.motion, b)
        if local.volume is not None:
            self._mean(local, b)
        diagonal = (increment.rate[:, None] + increment.spring).detach()
        self.diagonal: torch.Tensor = diagonal.expand(patch.count, 3)
        self.ghost: float = float(increment.ghost.detach())
        skew = (self.matrix - self.matrix.mT).norm() / self.matrix.norm()
        self.symmetric: bool = float(skew) < 1e-9

    def _summed(self, motion: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """What the particles' own tangents are on the nodes: one product of matrices for each cell."""
        cell, cells, (n, nodes, _) = self.patch.cell, len(self.patch.of), b.shape
        counts, order = torch.bincount(cell, minlength=cells), torch.argsort(cell, stable=True)
        most = int(counts.max())
        of_cell = torch.full((cells, most), n)  # n: nobody
        of_cell[cell[order], torch.arange(n) - (counts.cumsum(0) - counts)[cell[order]]] = order
        b, motion = (torch.cat((tensor, tensor.new_zeros(1, *tensor.shape[1:]))) for tensor in (b, motion))
        found = b.new_empty(cells, self.dofs, self.dofs)
        for part in torch.arange(cells).split(max(1, 2**23 // (36 * most * nodes))):
            own = of_cell[part]
            seen = b[own]  # (cells, particles, nodes, 4)
            half = torch.einsum("cpaxek,cpjk->cpxaje", motion[own].unflatten(3, (3, 4)).unflatten(2, (3, 4)), seen)
            left = seen.permute(0, 2, 1, 3).reshape(len(part), nodes, 4 * most)
            found[part] = torch.bmm(left, half.reshape(len(part), 4 * most, -1)).view(len(part), self.dofs, self.dofs)
        return found

    def _mean(self, local: Tangent, b: torch.Tensor) -> None:
        """What couples the particles of a cell by its mean volume and pressure: two outer products."""
        cell, count = self.patch.cell, len(self.patch.of)
        volume = self.response.volume
        share = volume / volume.new_zeros(count).index_add(0, cell, volume)[cell]

        def row(part: torch.Tensor) -> torch.Tensor:
            on_nodes = torch.einsum("nak,nik->nia", part.unflatten(1, (3, 4)), b).flatten(1)
            return on_nodes.new_zeros(count, self.dofs).index_add(0, cell, on_nodes)

        assert local.volume is not None and local.by_volume is not None and local.by_pressure is not None
        assert local.pressure is not None and local.pressure_by_volume is not None
        volumes = row(share[:, None] * local.volume)
        slope = share.new_zeros(count).index_add(0, cell, share * local.pressure_by_volume)
        pressures = row(share[:, None] * local.pressure) + slope[:, None] * volumes
        self.matrix += row(local.by_volume)[:, :, None] * volumes[:, None, :]
        self.matrix += row(local.by_pressure)[:, :, None] * pressures[:, None, :]

    def product(self, v: torch.Tensor, *, transposed: bool = False) -> torch.Tensor:
        """K v, or K^T v, of displacements (m, 3)."""
        patch = self.patch
        matrix = self.matrix.mT if transposed else self.matrix
        parts = torch.bmm(matrix, v[patch.of].reshape(-1, self.dofs, 1)).reshape(-1, 3)
        whole = torch.zeros_like(v).index_add(0, patch.of.flatten(), parts)
        return whole + self.diagonal * v + self.ghost * patch.bent(v)

    def blocks(self) -> torch.Tensor:
        """The 3 x 3 block of each node, (m, 3, 3)."""
        patch = self.patch
        own = (
            self.matrix.unflatten(2, (-1, 3))
            .unflatten(1, (-1, 3))
            .diagonal(dim1=1, dim2=3)
            .permute(0, 3, 1, 2)
            .reshape(-1, 3, 3)
        )
        found = own.new_zeros(patch.count, 3, 3).index_add(0, patch.of.flatten(), own)
        bend = own.new_zeros(patch.count)
        for k, weight in enumerate((1.0, 4.0, 1.0)):
            bend = bend.index_add(0, patch.triples[:, k], torch.full((len(patch.triples),), weight).to(bend))
        return found + torch.diag_embed(self.diagonal + self.ghost * bend[:, None])

    def assembled(self, free: torch.Tensor) -> "object":
        """K on the free displacements (m, 3) as a sparse matrix of scipy."""
        from scipy.sparse import bsr_array, coo_array

        patch, m, nodes = self.patch, self.patch.count, self.dofs // 3
        pairs, place = torch.unique((patch.of[:, :, None] * m + patch.of[:, None, :]).flatten(), return_inverse=True)
        blocks = self.matrix.view(-1, nodes, 3, nodes, 3).transpose(2, 3).reshape(-1, 3, 3)
        data = blocks.new_zeros(len(pairs), 3, 3).index_add(0, place, blocks).numpy()
        rows = torch.searchsorted(pairs, torch.arange(m + 1) * m).numpy()
        cells = bsr_array((data, (pairs % m).numpy(), rows), shape=(3 * m, 3 * m)).tocsr()
        kept = torch.tensor([1.0, -2.0, 1.0], dtype=self.matrix.dtype)
        t = (3 * patch.triples[:, None, :] + torch.arange(3)[None, :, None]).flatten(0, 1)
        gi, gj = t[:, :, None].expand(-1, -1, 3), t[:, None, :].expand(-1, 3, -1)
        g = (self.ghost * kept[:, None] * kept).expand(len(t), 3, 3)
        own = torch.arange(3 * m)
        entries = torch.cat((g.flatten(), self.diagonal.flatten())).numpy()
        at = torch.cat((gi.flatten(), own)).numpy(), torch.cat((gj.flatten(), own)).numpy()
        keep = free.flatten().numpy()
        return (cells + coo_array((entries, at), shape=(3 * m, 3 * m)).tocsr())[keep][:, keep].tocsc()


class TangentSolves:
    """Solves with tangents one after another, the last factorisation as preconditioner as long as it serves."""

    def __init__(self) -> None:
        self.factors: object = None
        self.free: torch.Tensor | None = None
        self.products: int = 0
        self.factorisations: int = 0

    def solve(
        self, tangent: CellTangent, r: torch.Tensor, free: torch.Tensor, tolerance: float, *, transposed: bool = False
    ) -> torch.Tensor:
        """The v (m, 3), zero where not free, with K v = r on what is free."""
        small = int(free.sum()) <= FACTORED
        if small and (self.factors is None or self.free is None or not torch.equal(self.free, free)):
            self._factor(tangent, free)
        inverse = None if small else torch.linalg.inv(self._on_free(tangent.blocks(), free))
        for attempt in range(2):
            v, count, well = self._krylov(tangent, r, free, tolerance, inverse, transposed=transposed)
            self.products += count
            if not small or (well and count <= STALE) or attempt:
                break
            self._factor(tangent, free)  # stale
        return v

    def _factor(self, tangent: CellTangent, free: torch.Tensor) -> None:
        from scipy.sparse.linalg import splu

        self.factors, self.free = (
            splu(
                tangent.assembled(free),
                options={"SymmetricMode": True},
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.1,
            ),
            free,
        )
        self.factorisations += 1

    @staticmethod
    def _on_free(blocks: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
        mask = free.to(blocks)
        kept = blocks * mask[:, :, None] * mask[:, None, :] + torch.diag_embed(1 - mask)
        return (kept + kept.mT) / 2

    def _krylov(
        self,
        tangent: CellTangent,
        r: torch.Tensor,
        free: torch.Tensor,
        tolerance: float,
        inverse: torch.Tensor | None,
        *,
        transposed: bool,
    ) -> tuple[torch.Tensor, int, bool]:
        count, most = 0, STALE + 30 if inverse is None else 4000

        def product(v: torch.Tensor) -> torch.Tensor:
            nonlocal count
            count += 1
            whole = torch.zeros_like(r)
            whole[free] = v.flatten()
            return tangent.product(whole, transposed=transposed)[free].reshape(v.shape)

        def precondition(v: torch.Tensor) -> torch.Tensor:
            if inverse is None:
                solved = self.factors.solve(v.flatten().numpy(), trans="T" if transposed else "N")  # type: ignore[attr-defined]
                return torch.from_numpy(solved).reshape(v.shape)
            whole = torch.zeros_like(r)
            whole[free] = v.flatten()
            return torch.einsum("nij,nj->ni", inverse, whole)[free].reshape(v.shape)

        b, out = r[free], torch.zeros_like(r)
        x = None
        if tangent.symmetric:
            x = conjugate_gradients(
                product, b[None], precondition=precondition, tolerance=tolerance, max_iterations=most
            )[0]
        if x is None or bool(x.isnan().any()):
            x, _ = gmres(product, b, precondition=precondition, tolerance=tolerance, max_iterations=most)
        left = float((product(x) - b).norm()) / max(float(b.norm()), 1e-300)
        out[free] = x
        return out, count, left <= 10 * tolerance


@dataclasses.dataclass(frozen=True)
class _Factors:
    """The tangent at a root, for the implicit function theorem; what solves is its own, for many rows go back."""

    linear: TangentSolves
    tangent: CellTangent
    free: torch.Tensor

    def solve_transposed(self, b: torch.Tensor) -> torch.Tensor:
        """K^-T b on what is free, (1, m, 3)."""
        return self.linear.solve(self.tangent, b[0], self.free, 1e-10, transposed=True)[None]


def settle(
    increment: Increment, *, tolerance: float = 1e-9, max_iterations: int = 60, linear: TangentSolves | None = None
) -> tuple[torch.Tensor, Solution[torch.Tensor]]:
    """Displacements of the nodes at which the increment balances, (m, 3), with their gradient.

    Args:
        increment: What is to balance.
        tolerance: On what is left of the forces over their size.
        max_iterations: Tangents at most.
        linear: What solves; given again, its factorisation is used again.

    Returns:
        The displacements, and how they were found; not converged they have no gradient.
    """
    patch, linear = increment.patch, linear or TangentSolves()
    closed = patch.stop != 0
    u = torch.zeros_like(patch.told.detach())
    with torch.no_grad():
        held = patch.held | closed
        u = torch.where(patch.held, patch.told, u)
        iterations, result, round_ = 0, Result.SUCCESS, 0
        for round_ in range(CLOSED):  # noqa: B007 - reported
            u, more, result = _newton(increment, u, ~held, tolerance, max_iterations - iterations, linear)
            iterations += more
            if result is not Result.SUCCESS or not bool((patch.stop != 0).any()):
                break
            r = increment.residual(u)
            small = max(tolerance * increment.size(u), increment.rounding)
            pulled = closed & (r * patch.stop < -small)
            through = (patch.stop != 0) & ~closed & (u * patch.stop < 0)
            if not bool((pulled | through).any()):
                break
            closed = (closed & ~pulled) | through
            u = torch.where(through & ~patch.held, 0.0, u)
            held = patch.held | closed
    stats = {
        "num_iterations": iterations,
        "products": linear.products,
        "factorisations": linear.factorisations,
        "rounds": round_ + 1,
    }
    if result is Result.SUCCESS and torch.is_grad_enabled():
        r = increment.residual(torch.where(patch.held, patch.told, u))
        if r.requires_grad:
            free = ~held
            factors = _Factors(copy.copy(linear), increment.tangent(u), free)
            r = torch.where(free, r, 0.0)
            root = implicit_root(u[None], r[None], factors)[0]
            u = torch.where(patch.held, patch.told, torch.where(free, root, u))
    return u, Solution(u, result, stats)


def _newton(
    increment: Increment, u: torch.Tensor, free: torch.Tensor, tolerance: float, most: int, linear: TangentSolves
) -> tuple[torch.Tensor, int, Result]:
    r = torch.where(free, increment.residual(u), 0.0)
    for iteration in range(most):
        left, size = float(r.norm()), increment.size(u)
        if left <= max(tolerance * size, increment.rounding):
            return u, iteration, Result.SUCCESS
        tangent = increment.tangent(u)
        step = -linear.solve(tangent, r, free, 1e-10 if iteration == 0 else min(1e-2, max(left / size, 1e-10)))
        if not bool(step.isfinite().all()):
            return u, iteration, Result.SINGULAR
        slope, length = float((r * step).sum()), 1.0
        for _ in range(14):
            ahead = u + length * step
            y = increment.patch.motion(ahead)
            if float(torch.linalg.det(torch.eye(3).to(y) + y[..., 1:]).min()) > 0.05:
                fresh = torch.where(free, increment.residual(ahead), 0.0)
                smaller = float(fresh.norm()) < (1 - 1e-4 * length) * left
                flatter = slope < 0 and abs(float((fresh * step).sum())) < 0.9 * abs(slope)
                if bool(fresh.isfinite().all()) and (smaller or flatter):
                    break
            length /= 2
        else:
            return u, iteration, Result.STAGNATED
        u, r = ahead, fresh
    return u, most, Result.MAX_ITERATIONS
