"""Combinations of table entries against the reference, forward, backward and twice."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import warp as wp
from simengine.kernels.fields import table_product as kernel_module

from simengine.ops.fields import table_product_reference as reference
from simengine.ops.fields.table_product import add_outer, table_product, table_sums


def problem(e: int, dtype: torch.dtype = torch.float64, n: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(e)
    table = torch.randn(2, 40, n, generator=generator, dtype=torch.float64)
    entries = torch.randint(0, 40, (3, e), generator=generator)
    omega = torch.randn(4, 3, n, generator=generator, dtype=torch.float64)
    fields = torch.randn(4, 3, e, generator=generator, dtype=torch.float64)
    sample = torch.tensor([0, 1, 1, 0])
    return {
        "table": table.to(dtype),
        "entries": entries,
        "omega": omega.to(dtype),
        "fields": fields.to(dtype),
        "sample": sample,
    }


PAIRS: dict[str, tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor], str]] = {
    "product": (table_product, reference.table_product, "omega"),
    "sums": (table_sums, reference.table_sums, "fields"),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("e", [0, 1, 30, 5000])  # 5000: two stretches
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 3e-6)])  # a few roundings
def test_parity(name: str, e: int, dtype: torch.dtype, tolerance: float) -> None:
    ours, theirs, what = PAIRS[name]
    given = problem(e, dtype, n=8 if e == 30 else 5)  # 8: all lanes of a processor
    leaves = [given["table"].requires_grad_(), given[what].requires_grad_()]
    outs = [f(leaves[0], given["entries"], leaves[1], given["sample"]) for f in (ours, theirs)]
    assert outs[0].shape == outs[1].shape
    assert float((outs[0] - outs[1]).detach().norm()) <= tolerance * float(outs[1].detach().norm())
    cotangent = torch.randn_like(outs[1])
    gradients = [torch.autograd.grad(out, leaves, cotangent) for out in outs]
    for a, b in zip(*gradients, strict=True):
        assert a.shape == b.shape and float((a - b).norm()) <= 10 * tolerance * float(b.norm())


@pytest.mark.parametrize("name", PAIRS)
def test_gradcheck(name: str) -> None:
    ours, _, what = PAIRS[name]
    given = problem(4, n=2)
    table, entries, sample = given["table"][:, :6].clone(), given["entries"] % 6, given["sample"]
    assert torch.autograd.gradcheck(
        lambda t, v: ours(t, entries, v, sample), (table.requires_grad_(), given[what].requires_grad_())
    )
    held = table.detach()
    assert torch.autograd.gradgradcheck(lambda v: ours(held, entries, v, sample).square(), (given[what],))


def test_second_derivatives_in_the_table_are_refused() -> None:
    given = problem(4)
    table, omega = given["table"].requires_grad_(), given["omega"].requires_grad_()
    fields = table_product(table, given["entries"], omega, given["sample"])
    first = torch.autograd.grad(fields.square().sum(), table, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once differentiable in its table"):
        first.sum().backward()


def test_views_of_other_memory() -> None:
    given = problem(30)
    table = given["table"].mT.contiguous().mT
    strided = table_product(table, given["entries"], given["omega"].mT.contiguous().mT, given["sample"])
    whole = table_product(given["table"], given["entries"], given["omega"], given["sample"])
    assert torch.equal(strided, whole)
    sums = table_sums(table, given["entries"], whole.mT.contiguous().mT, given["sample"])
    assert torch.equal(sums, table_sums(given["table"], given["entries"], whole, given["sample"]))


def test_outer_products_add() -> None:
    given = problem(30)
    out = torch.ones_like(given["table"])
    add_outer(out, given["entries"], given["fields"], given["omega"], given["sample"])
    expected = torch.ones_like(out)
    for p, s in enumerate(given["sample"].tolist()):
        for k in range(3):
            outer = given["fields"][p, k, :, None] * given["omega"][p, k]
            expected[s].index_add_(0, given["entries"][k], outer)
    assert torch.allclose(out, expected, rtol=1e-13, atol=1e-13)


def test_bad_input() -> None:
    given = problem(6)
    table, entries, omega, fields, sample = given.values()
    with pytest.raises(ValueError, match=r"entries: expected numbers from 0 to 39, got .* to 40"):
        table_product(table, entries.clamp_min(40), omega, sample)
    with pytest.raises(ValueError, match="sample: expected numbers from 0 to 1, got -1 to 1"):
        table_product(table, entries, omega, torch.tensor([-1, 0, 1, 0]))
    with pytest.raises(ValueError, match="entries: expected int64"):
        table_product(table, entries.int(), omega, sample)
    with pytest.raises(ValueError, match=r"omega: expected shape \(4, 3, 5\)"):
        table_product(table, entries, omega[:2], sample)
    with pytest.raises(ValueError, match=r"fields: expected shape \(4, 3, 6\)"):
        table_sums(table, entries, fields.float(), sample)
    with pytest.raises(ValueError, match=r"table \(samples, q, n\)"):
        table_sums(table[0], entries, fields, sample)


@pytest.mark.parametrize("scalar", [wp.float32, pytest.param(wp.float64, marks=pytest.mark.slow)])
def test_ptx(scalar: type, tmp_path: Path) -> None:
    kernels = kernel_module.kernels(scalar, 16)
    wp.compile_aot_module(kernels.products.module, arch=90, use_ptx=True, module_dir=str(tmp_path))
    text = next(tmp_path.glob("*.ptx")).read_text()
    for name in vars(kernels):
        assert len(re.findall(rf"\.entry \w*__{name}_[0-9a-f]{{8}}_", text)) == 1, name
