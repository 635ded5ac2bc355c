"""J^T J and J^T r against the reference, forward and backward."""

import re
from pathlib import Path

import pytest
import torch
import warp as wp
from simengine.kernels.fields import normal_equations as kernel_module

from simengine.ops.fields.normal_equations import MAX_COLUMNS, _accumulated, normal_equations
from simengine.ops.fields.normal_equations_reference import normal_equations as reference


def problem(m: int, dtype: torch.dtype = torch.float64, p: int = 3, n: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(m)
    table = torch.randn(p, 40, n, generator=generator, dtype=torch.float64)
    index = torch.randint(0, 40, (p, m, 4), generator=generator)
    coefficient = torch.randn(p, m, 4, generator=generator, dtype=torch.float64)
    residual = torch.randn(p, m, generator=generator, dtype=torch.float64)
    return [table.to(dtype), index, coefficient.to(dtype), residual.to(dtype)]


@pytest.mark.parametrize("m", [0, 1, 30, 5000])  # 5000: two chunks of rows
@pytest.mark.parametrize("n", [5, MAX_COLUMNS + 1])  # the kernel, and gathered rows
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 3e-6)])  # a few roundings
def test_parity(m: int, n: int, dtype: torch.dtype, tolerance: float) -> None:
    given = problem(m, dtype, n=n)
    for leaf in (given[0], given[2], given[3]):
        leaf.requires_grad_()
    ours, theirs = normal_equations(*given), reference(*given)
    cotangents = [torch.randn_like(out) for out in theirs]
    leaves = [given[0], given[2], given[3]]
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape and float((a - b).detach().norm()) <= tolerance * float(b.detach().norm())
    if m:
        pairs = zip(
            torch.autograd.grad(ours, leaves, cotangents), torch.autograd.grad(theirs, leaves, cotangents), strict=True
        )
        for a, b in pairs:
            assert float((a - b).norm() / b.norm()) < 10 * tolerance
            assert float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)) > 1 - 10 * tolerance


@pytest.mark.parametrize("m", [1, 30, 1500])
def test_what_cuda_runs_gives_the_same(m: int) -> None:
    given = problem(m)
    for a, b in zip(_accumulated(*given), reference(*given), strict=True):
        assert float((a - b).norm()) <= 1e-14 * float(b.norm())


@pytest.mark.parametrize("n", [3, MAX_COLUMNS + 1])
def test_gradcheck(n: int) -> None:
    table, index, coefficient, residual = problem(4, p=1, n=n)
    table, index = table[:, :6], index % 6
    leaves = [table.requires_grad_(), coefficient.requires_grad_(), residual.requires_grad_()]
    assert torch.autograd.gradcheck(lambda t, c, r: normal_equations(t, index, c, r), leaves, fast_mode=n > 3)


def test_double_backward_is_refused() -> None:
    table, index, coefficient, residual = problem(6, p=1)
    gram, _ = normal_equations(table.requires_grad_(), index, coefficient.requires_grad_(), residual)
    cotangent = torch.ones_like(gram).requires_grad_()
    first = torch.autograd.grad(gram, table, cotangent, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_bad_input() -> None:
    table, index, coefficient, residual = problem(6)
    with pytest.raises(ValueError, match=r"from 0 to 39, got .* to 40"):
        normal_equations(table, index.clamp_min(40), coefficient, residual)
    with pytest.raises(ValueError, match=r"index .* of int64"):
        normal_equations(table, index.int(), coefficient, residual)
    with pytest.raises(ValueError, match="coefficient, residual: expected"):
        normal_equations(table, index, coefficient[:, :5], residual)
    with pytest.raises(ValueError, match="one float type"):
        normal_equations(table.float(), index, coefficient, residual)


@pytest.mark.parametrize("n", [5, MAX_COLUMNS + 1])
def test_one_table_for_all_problems(n: int) -> None:
    table, index, coefficient, residual = problem(30, n=n)
    one = table[:1].clone().requires_grad_()
    many = one.detach().expand(3, -1, -1).clone().requires_grad_()
    found = [normal_equations(leaf, index, coefficient, residual) for leaf in (one, many)]
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    gradients = [
        torch.autograd.grad(out[0].sum() + out[1].sum(), leaf)[0] for out, leaf in zip(found, (one, many), strict=True)
    ]
    assert torch.allclose(gradients[0], gradients[1].sum(dim=0, keepdim=True), rtol=1e-12, atol=1e-12)


def test_no_problems() -> None:
    table, index, coefficient, residual = problem(3)
    gram, gradient = normal_equations(table[:0], index[:0], coefficient[:0], residual[:0])
    assert gram.shape == (0, 5, 5) and gradient.shape == (0, 5)


def test_views_of_other_memory() -> None:
    table, index, coefficient, residual = problem(30)
    strided = normal_equations(table.mT.contiguous().mT, index, coefficient, residual)
    for a, b in zip(strided, normal_equations(table, index, coefficient, residual), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("scalar", [wp.float32, pytest.param(wp.float64, marks=pytest.mark.slow)])
def test_ptx(scalar: type, tmp_path: Path) -> None:
    kernels = kernel_module.kernels(scalar, 16)
    module = kernels.accumulate.module
    wp.compile_aot_module(module, arch=90, use_ptx=True, module_dir=str(tmp_path))
    text = next(tmp_path.glob("*.ptx")).read_text()
    for name in vars(kernels):
        assert len(re.findall(rf"\.entry \w*__{name}_[0-9a-f]{{8}}_", text)) == 1, name
