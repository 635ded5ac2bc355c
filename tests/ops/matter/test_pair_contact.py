"""Contact between deformable bodies against plain torch and its autograd, and against finite differences."""

import dataclasses

import pytest
import torch

from simengine.ops.matter import mpm as op
from simengine.ops.matter.mpm import transfer_reference as reference

GRID = op.Grid(size=(12, 10, 16), dx=0.1, dt=1e-3, gravity=(0.3, -9.8, 0.1))
NAMES = ("x", "v", "C", "F", "tau", "mass", "volume", "table")
MODES = {"sticky": 1, "frictional": 2}
COUNTS = (40, 30, 20)


@pytest.fixture(autouse=True)
def _warp(monkeypatch) -> None:
    monkeypatch.setenv("SIMENGINE_KERNELS", "warp")


def inputs(counts: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Bodies beside one another that come closer, some of them touching."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    n = sum(counts)
    x, v = 0.3 + 0.25 * uniform(n, 3), normal(n, 3)
    start = 0
    for index, count in enumerate(counts):
        x[start : start + count] += torch.tensor([(0.0, 0.0, 0.0), (0.0, 0.0, 0.15), (0.0, 0.12, 0.07)][index]).double()
        v[start : start + count, 2] -= 3.0 * index
        start += count
    table = torch.zeros(1, 4, 23, dtype=torch.float64)
    table[0, 0, :6] = 0.3
    table[0, 1, :3] = torch.tensor([0.3, 0.1, 0.6])
    table[0, 2, :3] = torch.tensor([0.1, 0.2, 0.3])
    table[0, 3, :3] = torch.tensor([1e5, 3e5, 2e5])
    return {
        "x": x,
        "v": v,
        "C": 3 * normal(n, 3, 3),
        "F": torch.eye(3, dtype=torch.float64) + 0.1 * normal(n, 3, 3),
        "tau": 1e3 * normal(n, 3, 3),
        "mass": 0.1 + uniform(n),
        "volume": 1e-4 * (1 + uniform(n)),
        "table": table,
    }


def grid_of(counts: tuple[int, ...], mode: int) -> op.Grid:
    pairs = [(a, b, mode) for a in range(len(counts)) for b in range(a + 1, len(counts))]
    return dataclasses.replace(GRID, bodies=counts, pairs=tuple(pairs))


def call(step, values: dict[str, torch.Tensor], grid: op.Grid) -> tuple[torch.Tensor, ...]:
    keywords = {name: values[name] for name in ("mass", "volume", "table")}
    return step(*(values[name] for name in NAMES[:5]), **keywords, grid=grid)


def with_gradients(step, values, grid):
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    outputs = call(step, leaves, grid)
    generator = torch.Generator().manual_seed(5)
    loss = sum((o * torch.randn(o.shape, generator=generator, dtype=torch.float64)).sum() for o in outputs)
    return outputs, torch.autograd.grad(loss, list(leaves.values()))


def error(value: torch.Tensor, expected: torch.Tensor) -> float:
    value, expected = value.detach(), expected.detach()
    return float((value - expected).norm() / expected.norm().clamp_min(1e-300))


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("counts", [COUNTS[:2], COUNTS])
def test_parity(mode: str, counts: tuple[int, ...]) -> None:
    """Forward and every gradient of two and of three bodies (float64)."""
    grid, values = grid_of(counts, MODES[mode]), inputs(counts)
    ours, ours_bar = with_gradients(op.step, values, grid)
    theirs, theirs_bar = with_gradients(reference.step, values, grid)
    apart = call(reference.step, values, grid_of(counts, 0))
    assert error(apart[1], theirs[1]) > 1e-3  # there is contact
    for name, a, b in zip("xvCF", ours, theirs, strict=True):
        assert error(a, b) < 1e-13, name
    for name, a, b in zip(NAMES, ours_bar, theirs_bar, strict=True):
        assert error(a, b) < 1e-10, name
    if mode == "frictional":
        assert float(ours_bar[-1][0, 1, :3].abs().min()) > 0 or len(counts) == 2


def test_gradcheck() -> None:
    counts = (6, 5)
    grid, values = grid_of(counts, 2), inputs(counts)
    leaves = [values[name].requires_grad_() for name in NAMES]

    def function(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return call(op.step, dict(zip(NAMES, tensors, strict=True)), grid)

    assert torch.autograd.gradcheck(function, leaves, eps=1e-8, atol=1e-3, rtol=1e-4)


def test_momentum_goes_from_one_to_the_other() -> None:
    """What contact takes from one body the other gets, to rounding (float64)."""
    grid, values = dataclasses.replace(grid_of(COUNTS, 2), gravity=(0.0, 0.0, 0.0), faces=(0,) * 6), inputs(COUNTS)
    v = call(op.step, values, grid)[1]
    before, after = ((values["mass"][:, None] * w).sum(0) for w in (values["v"], v))
    assert float((after - before).abs().max()) < 1e-13 * float((values["mass"][:, None] * values["v"]).abs().sum())
