"""Every structure of the Jacobian finds what the dense one finds, forward and backward, or says why not."""

import math
from typing import Any

import pytest
import torch

from simengine.solve.least_squares import (
    BlockDiagonal,
    BlockTridiagonal,
    Dense,
    GaussNewton,
    LevenbergMarquardt,
    MatrixFree,
    Sparse,
    least_squares,
)
from simengine.solve.least_squares.adjoint import ImplicitAdjoint, UnrolledAdjoint
from simengine.solve.least_squares.structures.structure import AbstractStructure
from simengine.solve.least_squares.system import ResidualError
from simengine.solve.solution import Result, SolveError

K, N = 4, 2
SOLVER = LevenbergMarquardt(tolerance=1e-12)


def apart(y: torch.Tensor, args: Any) -> torch.Tensor:
    """Blocks of three residuals and two unknowns that know nothing of one another; they do not vanish."""
    a, b = y.reshape(K, N).unbind(1)
    data = args.reshape(K, 3)
    return torch.stack([a * b - data[:, 0], a - b.sin() - data[:, 1], b + 0.3 * a**2 - data[:, 2]], dim=1).flatten()


def chained(y: torch.Tensor, args: Any) -> torch.Tensor:
    """The same, with a row that ties each block to both neighbours."""
    blocks = y.reshape(K, N)
    padded = torch.cat([torch.ones_like(blocks[:1]), blocks, torch.ones_like(blocks[:1])])
    tie = padded[:-2, 0] * blocks[:, 1] - 0.5 * padded[2:, 1]
    return torch.cat([apart(y, args).reshape(K, 3), tie[:, None]], dim=1).flatten()


def mask(residual: Any, m: int) -> torch.Tensor:
    j = torch.func.jacrev(residual)(torch.linspace(0.3, 0.9, K * N, dtype=torch.float64), DATA)
    assert j.shape == (m, K * N)
    return j != 0


def data(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3 * K, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.5


DATA = data(1)[0]
CASES = {
    "block-diagonal": (apart, BlockDiagonal(K)),
    "block-tridiagonal": (chained, BlockTridiagonal(K)),
    "sparse": (chained, Sparse.from_mask(mask(chained, 4 * K))),
    "matrix-free": (chained, MatrixFree(tolerance=1e-13)),
}


@pytest.mark.parametrize("case", CASES)
def test_solution_and_gradient_are_those_of_the_dense_jacobian(case: str) -> None:
    residual, structure = CASES[case]
    y0 = torch.full((2, K * N), 0.6, dtype=torch.float64)
    values, gradients = [], []
    for given in (Dense(), structure):
        leaf = data().requires_grad_()
        found = least_squares(residual, y0, leaf, structure=given, solver=SOLVER, throw=True)
        assert float(found.stats["cost"].min()) > 1e-2  # the residual does not vanish: the exact Hessian matters
        values.append(found.value)
        cotangent = torch.linspace(-1, 1, K * N, dtype=torch.float64)
        gradients.append(torch.autograd.grad((found.value * cotangent).sum(), leaf, retain_graph=True)[0])
    # two iterations that stop at 1e-12 of the residual; conditioning of order ten
    assert torch.allclose(values[1], values[0], rtol=0, atol=1e-10)
    assert torch.allclose(gradients[1], gradients[0], rtol=1e-8, atol=1e-8)
    with pytest.raises(RuntimeError, match="once differentiable"):
        torch.autograd.grad(found.value.sum(), leaf, create_graph=True)


@pytest.mark.parametrize("case", ["block-diagonal", "block-tridiagonal", "sparse"])
def test_products_and_normal_equations_are_those_of_the_dense_jacobian(case: str) -> None:
    residual, structure = CASES[case]
    assert isinstance(structure, AbstractStructure)
    y = torch.linspace(0.3, 0.9, K * N, dtype=torch.float64)
    j = torch.func.jacfwd(residual)(y, DATA)
    seeds = structure.seeds(K * N)
    assert len(seeds) < K * N  # fewer products than unknowns
    stored = structure.unpack((seeds @ j.T)[None])
    assert tuple(stored.shape[1:]) == structure.shape(*j.shape)
    v, r = torch.randn(1, K * N, dtype=torch.float64), torch.randn(1, len(j), dtype=torch.float64)
    assert torch.allclose(structure.product(stored, v), v @ j.T, atol=1e-13)
    lin = structure.normal_equations(stored, r)
    assert torch.allclose(lin["gradient"], r @ j, atol=1e-13)
    assert torch.allclose(lin["diagonal"][0], (j.T @ j).diagonal(), atol=1e-13)
    assert torch.allclose(structure.gram.product(lin, v), v @ j.T @ j, atol=1e-12)
    damping = torch.tensor([0.1], dtype=torch.float64)
    damped = j.T @ j + 0.1 * torch.diag((j.T @ j).diagonal())
    assert torch.allclose(structure.gram.solve(lin, damping, v), torch.linalg.solve(damped, v[0])[None], atol=1e-10)
    assert structure.gram.rank_deficient(lin).tolist() == [False]
    blind = structure.normal_equations(torch.zeros_like(stored), r)
    assert structure.gram.rank_deficient(blind).tolist() == [True]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_blocks_in_a_row(count: int) -> None:
    def residual(y: torch.Tensor, args: Any) -> torch.Tensor:
        padded = torch.cat([y[:1], y, y[-1:]])
        return 2 * y - 0.3 * padded[:-2] * padded[2:] - 1

    y0 = torch.zeros(count, dtype=torch.float64)
    found = least_squares(residual, y0, structure=BlockTridiagonal(count), throw=True)
    assert torch.allclose(found.value, least_squares(residual, y0, throw=True).value, atol=1e-10)


def test_given_jacobians_in_every_layout() -> None:
    y0 = torch.full((K * N,), 0.6, dtype=torch.float64)
    for name in ("block-diagonal", "block-tridiagonal", "sparse"):
        residual, structure = CASES[name]
        assert isinstance(structure, AbstractStructure)

        def jacobian(y: torch.Tensor, args: Any, residual: Any = residual, structure: Any = structure) -> torch.Tensor:
            dense = torch.func.jacfwd(residual)(y, args)
            return structure.unpack((structure.seeds(K * N) @ dense.T)[None])[0]

        ours = least_squares(residual, y0, DATA, structure=structure, jacobian=jacobian, solver=SOLVER, throw=True)
        assert torch.allclose(ours.value, least_squares(residual, y0, DATA, solver=SOLVER).value, atol=1e-10)
    with pytest.raises(ResidualError, match="entries outside it, or the given one is not"):
        least_squares(apart, y0, DATA, structure=BlockDiagonal(K), jacobian=lambda y, a: torch.ones(K, 3, N).to(y))
    with pytest.raises(ResidualError, match=r"jacobian: expected shape \(4, 3, 2\), got \(12, 8\)"):
        least_squares(apart, y0, DATA, structure=BlockDiagonal(K), jacobian=torch.func.jacfwd(apart))


@pytest.mark.parametrize("structure", [BlockDiagonal(K), Sparse.from_mask(mask(apart, 3 * K))])
def test_a_promise_of_structure_that_the_residual_breaks(structure: AbstractStructure) -> None:
    def broken(y: torch.Tensor, args: Any) -> torch.Tensor:
        return apart(y, args) + 1e-3 * y[-1]

    with pytest.raises(ResidualError, match=r"iteration 0, problems \[0\].*entries outside it"):
        least_squares(broken, torch.full((K * N,), 0.6, dtype=torch.float64), DATA, structure=structure)


def test_structures_that_do_not_fit() -> None:
    y0 = torch.zeros(K * N, dtype=torch.float64)
    with pytest.raises(ResidualError, match="5 blocks need numbers of residuals and unknowns that 5 divides, got 12"):
        least_squares(apart, y0, DATA, structure=BlockDiagonal(5))
    with pytest.raises(ResidualError, match="every unknown needs an entry"):
        least_squares(apart, y0, DATA, structure=Sparse(torch.tensor([0]), torch.tensor([0])))
    with pytest.raises(ValueError, match="named twice"):
        Sparse(torch.tensor([0, 0]), torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="one shape"):
        Sparse(torch.tensor([0, 0]), torch.tensor([1]))
    with pytest.raises(ValueError, match="at least 1"):
        BlockDiagonal(0)
    with pytest.raises(ValueError, match="tolerance > 0"):
        MatrixFree(tolerance=0)
    with pytest.raises(ValueError, match="linear: rows of their own need a dense Jacobian"):
        least_squares(
            apart, y0, DATA, structure=BlockDiagonal(K), linear=lambda a: (torch.eye(K * N).to(a), torch.zeros(K * N))
        )


def test_sparse_and_matrix_free_have_no_unrolled_gradient() -> None:
    leaf = data(1)[0].requires_grad_()
    y0 = torch.full((K * N,), 0.6, dtype=torch.float64)
    for name in ("sparse", "matrix-free"):
        residual, structure = CASES[name]
        with pytest.raises(ResidualError, match="use ImplicitAdjoint"):
            least_squares(residual, y0, leaf, structure=structure, adjoint=UnrolledAdjoint())


@pytest.mark.parametrize("case", ["block-diagonal", "block-tridiagonal"])
def test_unrolled_gradient_through_blocks(case: str) -> None:
    residual, structure = CASES[case]
    y0, gradients = torch.full((K * N,), 0.6, dtype=torch.float64), []
    for adjoint in (ImplicitAdjoint(), UnrolledAdjoint()):
        leaf = data(1)[0].requires_grad_()
        found = least_squares(residual, y0, leaf, structure=structure, solver=SOLVER, adjoint=adjoint)
        gradients.append(torch.autograd.grad(found.value.sum(), leaf)[0])
    assert torch.allclose(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_rank_deficiency_is_seen_in_every_structure(case: str) -> None:
    _, structure = CASES[case]
    if isinstance(structure, Sparse):
        structure = Sparse.from_mask(torch.kron(torch.eye(K), torch.ones(2, N)) > 0)

    def sums(y: torch.Tensor, args: Any) -> torch.Tensor:
        both = y.reshape(K, N).sum(dim=1)
        return torch.stack([both - 1, both.square() - 1], dim=1).flatten()

    target = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    found = least_squares(
        lambda y, t: sums(y, None) * t, torch.zeros(K * N, dtype=torch.float64), target, structure=structure
    )
    assert found.result is Result.RANK_DEFICIENT
    assert torch.allclose(found.value.reshape(K, N).sum(dim=1), torch.ones(K, dtype=torch.float64), atol=1e-6)
    with pytest.raises(SolveError, match="RANK_DEFICIENT"):
        found.value.sum().backward()


def test_linear_rows_are_evaluated_once() -> None:
    calls: list[int] = []
    matrix = torch.randn(4, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def nonlinear(y: torch.Tensor, args: Any) -> torch.Tensor:
        return torch.stack([y[0] * y[1] - args["d"][0], y[2].exp() - args["d"][1]])

    def linear(args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(1)
        return args["a"], args["a"].sum(dim=1) * args["d"][0]

    def together(y: torch.Tensor, args: Any) -> torch.Tensor:
        return torch.cat([nonlinear(y, args), args["a"] @ (y - args["d"][0])])

    results = []
    for options in ({"linear": linear}, {}):
        args = {
            "a": matrix.clone().requires_grad_(),
            "d": torch.tensor([0.4, 1.7], dtype=torch.float64).requires_grad_(),
        }
        found = least_squares(
            nonlinear if options else together,
            torch.ones(3, dtype=torch.float64),
            args,
            solver=SOLVER,
            throw=True,
            **options,
        )
        first = torch.autograd.grad(found.value.square().sum(), list(args.values()), create_graph=True)
        results.append((found.value, *first, *torch.autograd.grad(first[0].sum(), list(args.values()))))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-8, atol=1e-9)
    with pytest.raises(ResidualError, match=r"linear: expected A of shape \(p, 3\)"):
        least_squares(nonlinear, torch.ones(3, dtype=torch.float64), args, linear=lambda a: (a["a"].T, a["d"]))


def test_float32_in_every_structure() -> None:
    for name, (residual, structure) in CASES.items():
        exact = least_squares(residual, torch.full((K * N,), 0.6, dtype=torch.float64), DATA, solver=SOLVER).value
        structure = MatrixFree(tolerance=1e-5) if name == "matrix-free" else structure
        single = least_squares(
            residual,
            torch.full((K * N,), 0.6),
            DATA.float(),
            structure=structure,
            solver=LevenbergMarquardt(tolerance=1e-5),
        )
        assert single.success and single.value.dtype == torch.float32, name
        assert torch.allclose(single.value.double(), exact, atol=2e-3), name  # sqrt(float32 eps), well conditioned


def test_many_unknowns_without_a_jacobian() -> None:
    # 4000 unknowns: J would hold 16 million numbers, its normal matrix as many
    n = 4000
    target = torch.sin(torch.linspace(0, 6, n, dtype=torch.float64))

    def residual(y: torch.Tensor, args: Any) -> torch.Tensor:
        return torch.cat([y + 0.1 * y**3 - args, 0.5 * (y[1:] - y[:-1])])

    places = torch.arange(n)
    rows = torch.cat([places, n + places[:-1], n + places[:-1]])
    columns = torch.cat([places, places[:-1], places[1:]])
    y0 = torch.zeros(n, dtype=torch.float64)
    free = least_squares(residual, y0, target, structure=MatrixFree(), solver=GaussNewton(tolerance=1e-8), throw=True)
    sparse = least_squares(residual, y0, target, structure=Sparse(rows, columns), throw=True)
    assert torch.allclose(free.value, sparse.value, atol=1e-7)


@pytest.mark.parametrize("condition", [1e4, 1e9, 1e10])
def test_linear_problems_of_high_condition_by_qr(condition: float) -> None:
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(40, 8, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))
    j = u * torch.logspace(0, -math.log10(condition), 8, dtype=torch.float64) @ v.T
    truth = torch.randn(8, generator=generator, dtype=torch.float64)
    data = (j @ truth).requires_grad_()
    start = torch.zeros(8, dtype=torch.float64)
    found = least_squares(lambda y, a: j @ y - a, start, data, structure=Dense(qr=True))
    assert found.success
    assert float((found.value.detach() - truth).norm() / truth.norm()) < 1e-6
    # the closed form: dy/da is the pseudo-inverse
    cotangent = torch.randn(8, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((found.value * cotangent).sum(), data)
    expected = torch.linalg.pinv(j, rtol=1e-14).T @ cotangent
    assert float((gradient - expected).norm() / expected.norm()) < 1e-5
    if condition > 1e8:  # what J^T J cannot do, and says so; default settings go on with J itself
        plain = LevenbergMarquardt(finished=False)
        assert not least_squares(lambda y, a: j @ y - a, start, data.detach(), solver=plain).success
        again = least_squares(lambda y, a: j @ y - a, start, data.detach())
        assert again.success
        assert float((again.value - truth).norm() / truth.norm()) < 1e-6
