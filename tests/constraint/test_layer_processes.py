"""Experts dealt out to processes: the same numbers, forward and backward, from 1, 2 and 4 of them."""

import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from simengine.constraint import Decomposition, DiffusionSorption, HardConstraint, NavierStokes
from simengine.constraint.shard import Shard
from simengine.solve.least_squares import LevenbergMarquardt


def problem() -> tuple[DiffusionSorption, torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
    """A basis far from the truth, so that the residual at the optimum is large."""
    pde = DiffusionSorption(nt=10, nx=24)
    t = torch.linspace(0, 1, 10, dtype=torch.float64)[:, None]
    x = ((torch.arange(24, dtype=torch.float64) + 0.5) / 24)[None]
    fields = [x**0 + 0 * t, x + 0 * t, torch.exp(-6 * x) + 0 * t, t * x]
    basis = torch.stack(fields, dim=-1).expand(2, -1, -1, -1).clone()
    parameters = {"u0": [0.05, 0.15], "D": [5e-4, 6e-4], "k": [3.5e-4, 3e-4]}
    base = 0.01 * (1 - x).expand(2, 10, 24) * t
    return pde, basis, {k: torch.tensor(v, dtype=torch.float64) for k, v in parameters.items()}, base.clone()


def vorticity() -> tuple[NavierStokes, torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
    """A few waves, whose velocity comes from the stitched field."""
    pde = NavierStokes(nt=4, size=8, duration=0.5, viscosity=1e-2)
    t = torch.linspace(0, 1, 4, dtype=torch.float64)[:, None, None]
    angle = 2 * torch.pi * torch.arange(8, dtype=torch.float64) / 8
    x, y = angle[None, None], angle[None, :, None]
    basis = torch.stack([t * torch.sin(x + y), t * torch.cos(x) + 0 * y, t**2 * torch.sin(2 * y - x)], dim=-1)[None]
    w0 = (torch.sin(x) * torch.cos(y) + 0.5 * torch.cos(2 * x + y))[:, 0:8].reshape(1, 8, 8)
    return pde, basis.clone(), {"w0": w0.clone()}, w0[:, None].expand(1, 4, 8, 8).clone()


def solve(
    group: Any, *, coupled: bool, overlap: int, flow: bool = False, counts: tuple[int, ...] = (1, 4)
) -> list[torch.Tensor]:
    """Field, weights, status and gradients."""
    pde, basis, parameters, base = vorticity() if flow else problem()
    leaves = [basis, base, *parameters.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    layer = HardConstraint(
        pde,
        Decomposition(counts=counts, coupled=coupled, overlap=overlap),
        group=group,
        solver=LevenbergMarquardt(tolerance=1e-12, max_iterations=100),
        throw=True,
    )
    found = layer(basis, parameters, base)
    cotangent = torch.linspace(-1, 1, found.field.numel(), dtype=torch.float64).reshape(found.field.shape)
    loss = (found.field * cotangent).sum() + found.weights.square().sum()
    gradients = torch.autograd.grad(loss, leaves)
    _, cost = layer.minimum(basis, parameters, base)
    at_minimum = torch.autograd.grad(cost.sum(), leaves)
    status = found.solution.stats["status"].double()
    return [t.detach() for t in (found.field, found.weights, status, *gradients, cost, *at_minimum)]


CASES: dict[str, dict[str, Any]] = {
    "coupled": {"coupled": True, "overlap": 0},
    "independent": {"coupled": False, "overlap": 2},
    "stitched velocity": {"coupled": True, "overlap": 0, "flow": True, "counts": (1, 2, 2)},
}


def _worker(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size, timeout=datetime.timedelta(seconds=120)
    )
    found = {name: solve(dist.group.WORLD, **options) for name, options in CASES.items()}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()  # who leaves while another still sends aborts it
    dist.destroy_process_group()


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spawned processes import this file by its name within the repository, whatever pytest was started as."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


def check(size: int, folder: Path) -> None:
    mp.start_processes(_worker, args=(size, str(folder)), nprocs=size, start_method="spawn")
    for name, options in CASES.items():
        alone = solve(None, **options)
        for rank in range(size):
            together = torch.load(folder / f"{rank}.pt")[name]
            for k, (a, b) in enumerate(zip(together, alone, strict=True)):
                off = float((a - b).norm() / b.norm().clamp_min(1e-300))
                assert a.shape == b.shape and off < 1e-10, (name, rank, k, off)  # sums in another order; measured 1e-15


def test_two_processes(tmp_path: Path) -> None:
    check(2, tmp_path)


@pytest.mark.slow
def test_four_processes(tmp_path: Path) -> None:
    check(4, tmp_path)


def test_one_process_is_a_group_too(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        for options in CASES.values():
            for a, b in zip(solve(dist.group.WORLD, **options), solve(None, **options), strict=True):
                assert torch.equal(a, b)
    finally:
        dist.destroy_process_group()


def test_parts_of_a_group_cover_it() -> None:
    class Fake(Shard):
        size = 3  # type: ignore[assignment]

    assert Fake().bounds(4) == [0, 1, 2, 4] and Fake().sizes(7) == [2, 2, 3]
    assert Shard().own(5) == slice(0, 5)
