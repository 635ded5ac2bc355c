"""A Gauss-Newton step of the cells: exact of few rows, else preconditioned conjugate gradients; bounds by projection.

The matrix is A'A + R. A is by what is seen, told by products alone. R is of the prior: of a total variation its
quadratic majorant, diffusion that lags behind the gradient (Vogel & Oman 1996). Cells at a bound that the slope pushes
outwards stand still, the others are clamped to it (Bertsekas 1982). The preconditioner is the diagonal of A'A, by
random signs of the rows (Bekas, Kokiopoulou & Saad 2007), plus R, factorised where the field is a plane. Where each
value sees one point of the field alone, and no prior joins points, A'A falls into blocks and is its own preconditioner.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from simengine.fit.fields.objective import FieldObjective
from simengine.solve.conjugate_gradients import conjugate_gradients

NEAR = 1e-6  # of x: a difference along a direction; the residuals are smooth in the cells
PROBES = 16  # signs of the rows: each entry of the diagonal to a third
LEAST = 1e-3  # of the mean of the diagonal: cells that nothing sees
EXACT = 600  # rows, at most, with which a step beside Gaussian priors is exact
TOGETHER = 128  # rows that go back at once
TOLERANCE, PRODUCTS = 0.03, 80  # of the conjugate gradients in a step
ARMIJO, HALVINGS = 1e-4, 12
Linear = Callable[[torch.Tensor], torch.Tensor]


class Linearised:
    """Residuals and prior about cells x, the numbers z beside them held.

    Args:
        objective: What is made small.
        x: Cells (n,).
        z: Numbers (p,).

    Attributes:
        r: Residuals (rows,).
        value: The objective.
        slope: By the cells (n,).
        free: Cells that no bound holds, bool (n,).
    """

    def __init__(self, objective: FieldObjective, x: torch.Tensor, z: torch.Tensor) -> None:
        self.objective: FieldObjective = objective
        self.x: torch.Tensor = x.detach()
        self.z: torch.Tensor = z
        self._own = x.detach().clone().requires_grad_()
        self._seen = objective.residuals(self._own, z)
        self.r: torch.Tensor = self._seen.detach()
        energy = objective.energy(self._own)
        self.value: float = float(self.r.square().sum() / 2 + energy.detach())
        self.slope: torch.Tensor = self.back(self.r)
        if energy.requires_grad:
            self.slope = self.slope + torch.autograd.grad(energy, self._own)[0]
        low, high = objective.limits().T
        self.free: torch.Tensor = ~(((x <= low) & (self.slope > 0)) | ((x >= high) & (self.slope < 0)))

    def across(self, v: torch.Tensor) -> torch.Tensor:
        """A v, (rows,), of v (n,)."""
        step = NEAR / float(v.abs().max().clamp_min(1e-300))
        with torch.no_grad():
            return (self.objective.residuals(self.x + step * v, self.z) - self.r) / step

    def back(self, w: torch.Tensor) -> torch.Tensor:
        """A' w, (n,), of w (rows,)."""
        (found,) = torch.autograd.grad(self._seen, self._own, w, retain_graph=True)
        return found

    def rows(self) -> torch.Tensor:
        """A itself, (rows, n): all rows back at once where the world can, else one by one."""
        every = torch.eye(len(self.r), dtype=self.r.dtype)
        try:
            found: torch.Tensor = torch.func.vmap(self.back, chunk_size=TOGETHER)(every)
        except RuntimeError:  # a kernel that takes one gradient at a time
            return torch.stack([self.back(row) for row in every])
        return found

    def ways(self) -> tuple[torch.Tensor, torch.Tensor]:
        """To the minimum of the quadratic (n,), -(A'A + R)^-1 slope by a matrix of A's rows; and the way down."""
        rows, own = self.rows(), self.objective
        moved = own.prior_covariance(torch.cat([rows, self.slope[None]]))
        gram = rows @ moved[:-1].T
        root = torch.linalg.cholesky(torch.eye(len(rows), dtype=rows.dtype) + (gram + gram.T) / 2)
        seen = torch.cholesky_solve((rows @ moved[-1])[:, None], root)[:, 0]
        return moved[:-1].T @ seen - moved[-1], -moved[-1]

    def preconditioner(self) -> Linear:
        """About (A'A + R)^-1 among the free cells, symmetric positive definite, of (b, n)."""
        from scipy.sparse import diags
        from scipy.sparse.linalg import splu

        if alone := self.objective.alone:
            return self._by_points(alone)
        g = torch.Generator().manual_seed(0)
        diagonal = torch.zeros_like(self.x)
        for _ in range(PROBES):
            signs = torch.randint(0, 2, self.r.shape, generator=g).to(self.r) * 2 - 1
            diagonal += self.back(signs).square() / PROBES
        diagonal = diagonal.clamp_min(max(LEAST * float(diagonal.mean()), 1e-300))
        stiffness = self.objective.stiffness(self.x)
        planes = all(sum(n > 1 for n in shape) <= 2 for shape in self.objective.shapes.values())
        if not stiffness.nnz or not planes:
            whole = diagonal + torch.from_numpy(stiffness.diagonal())
            return lambda v: v / whole * self.free
        free = self.free.numpy()
        matrix = (diags(diagonal.numpy()) + stiffness).tocsr()[free][:, free].tocsc()
        factor = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})

        def solve(v: torch.Tensor) -> torch.Tensor:
            found = torch.zeros_like(v)
            found[:, self.free] = torch.from_numpy(np.ascontiguousarray(factor.solve(v[:, self.free].numpy().T).T))
            return found

        return solve

    def _by_points(self, width: int) -> Linear:
        """(A'A)^-1, exact, where each value sees one point of `width` cells: a block is seen through ones."""
        ones = torch.eye(width, dtype=self.x.dtype).repeat(1, len(self.x) // width)
        blocks = torch.stack([self.back(self.across(each)).reshape(-1, width) for each in ones], -1)
        sizes, axes = torch.linalg.eigh((blocks + blocks.mT) / 2)
        sizes = sizes.clamp_min(max(LEAST * float(sizes.mean()), 1e-300))

        def solve(v: torch.Tensor) -> torch.Tensor:
            own = v.reshape(len(v), -1, width, 1)
            return (axes @ (axes.mT @ own / sizes[..., None])).reshape(v.shape) * self.free

        return solve


def newton_step(objective: FieldObjective, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, float, float]:
    """Cells after one step within their bounds.

    Args:
        objective: What is made small.
        x: Cells (n,), within their bounds.
        z: Numbers beside them (p,).

    Returns:
        The cells (n,); the objective there; its drop over its size.
    """
    here = Linearised(objective, x, z)
    if not bool(here.free.any()):
        return x, here.value, 0.0
    gaussian = all(energy.gaussian for energy in objective.energies.values())
    exact = gaussian and len(here.r) <= EXACT and bool(here.free.all())
    low, high = objective.limits().T
    for direction in here.ways() if exact else _inexact(here):
        if not bool(direction.isfinite().all()):
            continue
        for halving in range(HALVINGS):
            there = (x + direction / 2**halving).clamp(low, high)
            with torch.no_grad():
                value = float(objective.residuals(there, z).square().sum() / 2 + objective.energy(there))
            if value <= here.value + ARMIJO * float(here.slope @ (there - x)) and value < here.value:
                return there, value, (here.value - value) / max(abs(value), 1e-300)
    return x, here.value, 0.0


def _inexact(here: Linearised) -> tuple[torch.Tensor, torch.Tensor]:
    """The step by conjugate gradients among the free cells, and the way down: known where the model is wrong."""
    stiffness = here.objective.stiffness(here.x)

    def product(v: torch.Tensor) -> torch.Tensor:
        return torch.stack([(here.back(here.across(row)) + times(stiffness, row)) * here.free for row in v])

    precondition, down = here.preconditioner(), -(here.slope * here.free)[None]
    step = conjugate_gradients(
        product,
        down,
        precondition=precondition,
        tolerance=TOLERANCE,
        max_iterations=PRODUCTS,
        truncated=True,
    )[0]
    return step, precondition(down)[0]


def times(matrix: Any, v: torch.Tensor) -> torch.Tensor:
    """A sparse matrix of scipy times v (n,)."""
    return torch.from_numpy(matrix @ v.numpy())
