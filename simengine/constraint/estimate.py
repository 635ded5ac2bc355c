"""The error of a field on a grid: its residual through the inverse of the linearised equation."""

import numpy as np
import torch

from simengine.constraint.norm import constants
from simengine.constraint.pde import AbstractPDE, Parameters

_CONDITIONS = 1e3  # weight of conditions beside equations, each row scaled to length 1: they hold nearly exactly


def nodal_error(pde: AbstractPDE, field: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """Estimate of field - solution on the grid, shape (*shape): one step of Gauss-Newton on all values.

    Points that no row sees stay 0.

    Args:
        pde: The equation.
        field: On the grid, shape (*shape), float64.
        parameters: Constants, each of shape (1, ...).

    Raises:
        ValueError: The equation sees more of the field than values at grid points.
    """
    from scipy.sparse import csc_matrix, identity, vstack
    from scipy.sparse.linalg import splu

    if pde.functionals != 1 or pde.of_the_stitched_field:
        raise ValueError("error: the estimate needs an equation of values at grid points (functionals = 1)")
    n = field.numel()
    named = constants(parameters)
    rows, conditions = pde.rows(), pde.conditions()
    u = field.flatten()
    r, slopes = pde.linearised(u[rows.index][None, None], tuple(d[None, None] for d in rows.data), named)
    target = pde.targets(tuple(d[None, None] for d in conditions.data), conditions.position[None, None], named)
    coefficients = conditions.data[0]
    missed = (coefficients * u[conditions.index]).sum(-1) - target[0, 0]

    def sparse(
        index: torch.Tensor, values: torch.Tensor, rest: torch.Tensor, weight: float
    ) -> tuple[csc_matrix, np.ndarray]:
        lengths = values.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
        row = torch.arange(len(index))[:, None].expand_as(index)
        entries = (weight * values / lengths).flatten().numpy()
        matrix = csc_matrix((entries, (row.flatten().numpy(), index.flatten().numpy())), shape=(len(index), n))
        return matrix, (weight * rest / lengths[:, 0]).numpy()

    a, ra = sparse(rows.index, slopes[0, 0], r[0, 0], 1.0)
    c, rc = sparse(conditions.index, coefficients, missed, _CONDITIONS)
    both, rest = vstack([a, c]).tocsc(), np.concatenate([ra, rc])
    normal = (both.T @ both).tocsc()
    normal = normal + 1e-14 * normal.diagonal().max() * identity(n, format="csc")
    factor = splu(normal)
    step = factor.solve(both.T @ rest)
    step = step + factor.solve(both.T @ (rest - both @ step))  # one refinement: the normal equations lose digits
    return torch.from_numpy(step).reshape(field.shape)
