"""Batched nonlinear least squares of a residual function, with constraints, and the covariance of what it finds."""

from collections.abc import Callable
from typing import Any

import torch
from torch._compile import _disable_dynamo  # what torch.compiler.disable wraps, without importing the compiler here
from torch.utils import _pytree as pytree

from simengine.solve.least_squares.adjoint import AbstractSolveAdjoint, ImplicitAdjoint, UnrolledAdjoint
from simengine.solve.least_squares.bounded import BoundedSystem
from simengine.solve.least_squares.constrained import ConstrainedSystem
from simengine.solve.least_squares.iteration import checked, named_error, solve_system
from simengine.solve.least_squares.matrix_free import MatrixFree, MatrixFreeSystem
from simengine.solve.least_squares.solvers import AbstractLeastSquaresSolver, GaussNewton, LevenbergMarquardt
from simengine.solve.least_squares.structures.sparse import Sparse
from simengine.solve.least_squares.structures.structure import AbstractStructure, BlockDiagonal, BlockTridiagonal, Dense
from simengine.solve.least_squares.system import FunctionSystem, LinearRows, Residual, ResidualError
from simengine.solve.solution import Solution

Bound = float | torch.Tensor

__all__ = [
    "AbstractLeastSquaresSolver",
    "BlockDiagonal",
    "BlockTridiagonal",
    "Dense",
    "GaussNewton",
    "LevenbergMarquardt",
    "MatrixFree",
    "Sparse",
    "covariance",
    "least_squares",
    "solve_system",
]


@_disable_dynamo
def least_squares(
    residual: Residual,
    y0: torch.Tensor,
    args: Any = None,
    *,
    jacobian: Residual | None = None,
    structure: AbstractStructure | MatrixFree | None = None,
    linear: LinearRows | None = None,
    equality: Residual | None = None,
    inequality: Residual | None = None,
    bounds: tuple[Bound, Bound] | None = None,
    feasibility: float = 1e-8,
    shared: bool = False,
    solver: AbstractLeastSquaresSolver | None = None,
    adjoint: AbstractSolveAdjoint | None = None,
    throw: bool = False,
) -> Solution[torch.Tensor]:
    """Minimise 1/2 |residual(y, args)|^2 over y, for one problem or a batch of independent ones.

    Optionally subject to equality(y, args) = 0 and inequality(y, args) <= 0, or to bounds.

        line = lambda y, args: y[0] + y[1] * args["t"] - args["data"]
        solution = least_squares(line, torch.zeros(2, dtype=torch.float64), {"t": t, "data": data})

    Each problem has its own damping and stops on its own; finished ones leave the batch. An iteration costs a solve and
    a residual, and one Jacobian where the trial is taken. In float32, residual and Jacobian are computed in float32 and
    everything from J^T J on in float64.

    Args:
        residual: `residual(y, args)` of one problem: y (n,) -> r (m,), made of torch functions.
        y0: Start, shape (n,), or (b, n) for a batch; unknowns of another form by `Nest`.
        args: Nest of tuples, lists, dicts, tensors and plain values; gradients flow to its tensors. In a batch the
            first dimension of every tensor runs over the problems.
        jacobian: `jacobian(y, args)`: y (n,) -> J, shape (m, n) or as `structure` lays it out; None for forward-mode
            differentiation.
        structure: `Dense()` if None, `Dense(qr=True)` for a J of high condition; `BlockDiagonal(K)`,
            `BlockTridiagonal(K)`, `Sparse(rows, columns)` where J is known to be, or `MatrixFree()` where it is not to
            be formed. A residual that breaks its promise raises.
        linear: `linear(args)` -> A (p, n), b (p,): further residuals A y - b, whose A^T A is computed once.
        equality: `equality(y, args)`: y (n,) -> c (p,), constraints c = 0.
        inequality: `inequality(y, args)`: y (n,) -> h (q,), constraints h <= 0. The gradient of the solution is that of
            the constraints active there.
        bounds: Least and largest values of y, numbers or tensors of shape (n,) or (b, n), infinite for none. Steps are
            projected and every point lies within; an unknown at its bound moves with it, also in the gradient. For a
            dense J, and not beside other constraints, whose rows can hold bounds too.
        feasibility: Largest violation of a constraint, in its own unit, that counts as satisfied.
        shared: In a batch, `args` is the same for all problems and has no batch dimension.
        solver: `LevenbergMarquardt()` if None.
        adjoint: `ImplicitAdjoint()` if None.
        throw: Raise `SolveError` where a problem does not converge, instead of returning its status.

    Returns:
        The minimiser in the shape of `y0`. `stats`, tensors of shape (b,) or (): `status` (a `Result` each), `cost`
        1/2 |r|^2, `gradient_norm` |J^T r|, `num_iterations`, `damping`; with constraints also `violation`, the largest,
        and `multipliers` (p + q,), instead of the gradient's norm and the damping; with bounds `multipliers` (2 n,) of
        the lower and the upper ones, and the gradient's norm is that of the free unknowns.

    Raises:
        ValueError: y0 or args have a wrong shape or dtype, or options do not go together.
        ResidualError: The residual raises, or returns what is no residual; names iteration, problems and shapes.
        SolveError: With `throw`.
    """
    if not isinstance(y0, torch.Tensor) or not y0.dtype.is_floating_point or y0.ndim not in (1, 2) or 0 in y0.shape:
        got = f"shape {tuple(y0.shape)}, {y0.dtype}" if isinstance(y0, torch.Tensor) else type(y0).__name__
        raise ValueError(f"y0: expected a float tensor of shape (n,) or (b, n) with n, b >= 1, got {got}")
    single = y0.ndim == 1
    batch = 1 if single else y0.shape[0]
    leaves = [leaf for leaf in pytree.tree_flatten(args)[0] if isinstance(leaf, torch.Tensor)]
    if not single and not shared:
        for leaf in leaves:
            if leaf.ndim == 0 or leaf.shape[0] != batch:
                raise ValueError(
                    f"args: expected a first dimension of {batch} (problems) in every tensor, got shape "
                    f"{tuple(leaf.shape)}; use expand, or shared=True where all problems have the same args"
                )
    independent = single or shared
    y = y0.reshape(batch, -1)
    given: dict[str, Any] = {"batch": batch, "batched": lambda t: not independent, "linear": linear}
    if bounds is not None:
        if equality is not None or inequality is not None:
            raise ValueError("bounds: not beside equality or inequality; write them as rows of inequality")
        _refuse_with_constraints(jacobian, structure, adjoint)
        lower, upper = _both(bounds, y, independent)
        bounded = BoundedSystem(residual, args, lower=lower, upper=upper, **given)
        _refuse_hidden_gradients(bounded, y.detach())
        solution = _solve_constrained(bounded, y.detach(), solver, adjoint or ImplicitAdjoint(), throw)
    elif equality is not None or inequality is not None:
        _refuse_with_constraints(jacobian, structure, adjoint)
        constrained = ConstrainedSystem(
            residual, args, equality=equality, inequality=inequality, tolerance=feasibility, **given
        )
        _refuse_hidden_gradients(constrained, y.detach(), constrained.constraints)
        solution = _solve_constrained(constrained, y.detach(), solver, adjoint or ImplicitAdjoint(), throw)
    else:
        system = (
            MatrixFreeSystem(residual, args, options=structure, jacobian=jacobian, **given)
            if isinstance(structure, MatrixFree)
            else FunctionSystem(residual, args, structure=structure, jacobian=jacobian, **given)
        )
        _refuse_hidden_gradients(system, y.detach())
        solution = solve_system(system, y, solver=solver, adjoint=adjoint, throw=throw)
    if not single:
        return solution
    stats = {name: value[0] for name, value in solution.stats.items()}
    return Solution(solution.value[0], solution.result, stats)


def _both(bounds: tuple[Bound, Bound], y: torch.Tensor, shared: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Both bounds in the shape that args have: (n,) where shared, (b, n) where each problem has its own."""
    shape = y.shape[1:] if shared else y.shape
    sides = [torch.as_tensor(side, dtype=y.dtype, device=y.device) for side in bounds]
    for side in sides:
        if side.shape not in (torch.Size(), y.shape[1:], shape):
            raise ValueError(
                f"bounds: expected numbers or shape {tuple(y.shape[1:])}, or a row per problem where args have one, "
                f"got {tuple(side.shape)}"
            )
    lower, upper = sides[0].expand(shape), sides[1].expand(shape)
    if not bool((lower < upper).all()):
        raise ValueError(f"bounds: expected lower < upper, got {lower.tolist()} and {upper.tolist()}")
    return lower, upper


def _solve_constrained(
    system: ConstrainedSystem,
    y: torch.Tensor,
    solver: AbstractLeastSquaresSolver | None,
    adjoint: AbstractSolveAdjoint,
    throw: bool,
) -> Solution[torch.Tensor]:
    def run(system: ConstrainedSystem, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        try:
            return system.solve(y, solver or LevenbergMarquardt())
        except ResidualError:
            raise
        except Exception as error:
            raise named_error(error, 0, torch.arange(len(y)), y) from error

    system.size = y.shape[1]
    (z, status, stats), worst = adjoint.run(run, system, y)
    return checked(Solution(z[:, : y.shape[1]], worst, {"status": status, **stats}), throw)


def _refuse_with_constraints(
    jacobian: Residual | None, structure: AbstractStructure | MatrixFree | None, adjoint: AbstractSolveAdjoint | None
) -> None:
    if jacobian is not None or structure not in (None, Dense()):
        raise ValueError("equality, inequality: constrained problems take a dense Jacobian by forward mode; leave out")
    if isinstance(adjoint, UnrolledAdjoint) or (isinstance(adjoint, ImplicitAdjoint) and adjoint.gauss_newton):
        raise ValueError(f"adjoint: constrained problems take ImplicitAdjoint() with the exact Hessian, got {adjoint}")


def _refuse_hidden_gradients(
    system: FunctionSystem, y: torch.Tensor, others: Callable[..., tuple[torch.Tensor, ...]] | None = None
) -> None:
    if not torch.is_grad_enabled():
        return
    try:
        tensors = [t.detach() for t in system.tensors]
        seen = [system.residual(y, tensors), *(others(y, tensors) if others else ())]
    except Exception as error:
        raise named_error(error, 0, torch.arange(len(y)), y) from error
    if any(value.requires_grad for value in seen):
        raise ValueError(
            "residual or constraint: depends on a tensor with requires_grad that is not in args, so no gradient would "
            "reach it; pass it in args, or detach it"
        )


def covariance(
    jacobian: torch.Tensor, residual: torch.Tensor, *, sigma: float | None = None, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Covariance sigma^2 (J^T J)^-1 of a least-squares estimate.

    Args:
        jacobian: J at the solution, shape (m, n) or (b, m, n).
        residual: r at the solution, shape (m,) or (b, m).
        sigma: Standard deviation of the noise; None to estimate sigma^2 = |r|^2 / (m - n).
        weights: Weights w of the rows, where J and r do not hold them yet; sqrt(w) multiplies both.

    Returns:
        Shape (n, n) or (b, n, n); infinite variances where J is rank deficient.

    Raises:
        ValueError: Shapes do not fit, or m <= n without `sigma`.
    """
    m, n = jacobian.shape[-2:]
    if residual.shape != jacobian.shape[:-1]:
        raise ValueError(f"residual: expected shape {tuple(jacobian.shape[:-1])}, got {tuple(residual.shape)}")
    if sigma is None and m <= n:
        raise ValueError(f"{m} residuals cannot tell the noise of {n} parameters; give sigma")
    j, r = jacobian.double(), residual.double()
    if weights is not None:
        j, r = weights.sqrt().unsqueeze(-1) * j, weights.sqrt() * r
    lengths = j.norm(dim=-2)
    unit = j / lengths.clamp_min(torch.finfo(torch.float64).tiny).unsqueeze(-2)
    _, singular, vh = torch.linalg.svd(unit, full_matrices=False)
    deficient = singular <= max(m, n) * torch.finfo(torch.float64).eps * singular[..., :1]
    scaled = vh.mT / torch.where(deficient, 1.0, singular).unsqueeze(-2)
    unscaled = torch.where(deficient.any(dim=-1)[..., None, None], torch.inf, scaled @ scaled.mT)
    variance = (r.square().sum(dim=-1) / (m - n)) if sigma is None else torch.full_like(r[..., 0], sigma**2)
    return variance[..., None, None] * unscaled / (lengths.unsqueeze(-1) * lengths.unsqueeze(-2))
