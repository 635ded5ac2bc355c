"""CPU time of the hard-constraint layer: by rows, by experts, against row-by-row Jacobians, by processes.

`python benchmarks/constraint_speed.py [iterations] [kernels] [row_by_row] [flow] [ranks]`: these parts, or all.
"""

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from simengine.constraint import Decomposition, DiffusionSorption, HardConstraint, NavierStokes
from simengine.constraint.basis import principal_basis
from simengine.constraint.system import ExpertSystem
from simengine.ops.fields import table_product_reference
from simengine.ops.fields.normal_equations import _accumulated, _Gathered, normal_equations
from simengine.ops.fields.normal_equations_reference import normal_equations as reference
from simengine.ops.fields.table_product import table_product
from simengine.solve.least_squares import LevenbergMarquardt, least_squares


def _milliseconds(run: Callable[[], Any], repeats: int = 15, clock: Callable[[], float] = time.process_time) -> float:
    """Time of a call by a clock, the least of many: others use the same caches."""
    times = []
    for _ in range(repeats):
        start = clock()
        run()
        times.append(clock() - start)
    return 1e3 * min(times)


def _basis(pde: DiffusionSorption, size: int = 16) -> torch.Tensor:
    """Smooth functions; times do not depend on which."""
    t = torch.linspace(0, 1, pde.nt, dtype=torch.float64)[:, None, None]
    x = ((torch.arange(pde.nx, dtype=torch.float64) + 0.5) / pde.nx)[None, :, None]
    n = torch.arange(size)
    return (torch.exp(-(n % 4) * 3 * x) * torch.cos(torch.div(n, 4, rounding_mode="floor") * 3 * t))[None].contiguous()


def _system(layer: HardConstraint, basis: torch.Tensor) -> ExpertSystem:
    u0 = {"u0": torch.full((len(basis),), 0.05, dtype=torch.float64)}
    table = layer.pde.table(basis)
    return ExpertSystem(layer.pde, layer.blocks, table, None, u0, coupled=layer.coupled, weights=layer.weights)


def _iteration(layer: HardConstraint, basis: torch.Tensor) -> Callable[[], None]:
    """A trial that is taken: residuals at a new place, normal equations there, a step."""
    system = _system(layer, basis)
    state = {"y": system.linear_start()}
    which, damping = torch.arange(len(basis)), torch.full((len(basis),), 1e-3, dtype=torch.float64)

    def run() -> None:
        state["y"] = state["y"] + 1e-12
        system.cost(state["y"], which)
        lin = system.linearise(state["y"], which)
        system.gram.solve(lin, damping, -lin["gradient"])

    return run


def iterations() -> list[dict[str, Any]]:
    """By experts at 80,000 rows in all, and by rows at four experts."""
    pde, rows = DiffusionSorption(), []
    basis = _basis(pde)
    for experts, per_block in [
        *((k, 80_000 // k) for k in (1, 2, 4, 8, 16, 32)),
        *((4, m) for m in (2500, 5000, 10_000)),
    ]:
        layer = HardConstraint(pde, Decomposition(counts=(1, experts), rows_per_block=per_block))
        row: dict[str, Any] = {
            "name": f"iteration, {experts} experts x {per_block} rows, n = 16",
            "ms": _milliseconds(_iteration(layer, basis)),
        }
        if experts in (1, 4, 16) and per_block * experts == 80_000:
            leaf = basis.clone().requires_grad_()
            total = layer(leaf, {"u0": torch.tensor([0.05], dtype=torch.float64)}).field.square().sum()
            row["backward ms"] = _milliseconds(lambda total=total: total.backward(retain_graph=True), 5)
        rows.append(row)
    return rows


def kernels() -> list[dict[str, Any]]:
    """Each op at 4 x 20,000 rows of 6 entries, against gathered rows and plain indexing."""
    rows = []
    for n in (16, 32, 64):
        generator = torch.Generator().manual_seed(0)
        start = torch.randint(0, 27_000, (4, 20_000, 1), generator=generator).sort(dim=1).values
        table = torch.randn(4, 27_006, n, generator=generator, dtype=torch.float64)
        coefficient = torch.randn(4, 20_000, 6, generator=generator, dtype=torch.float64)
        given = table, start + torch.arange(6), coefficient, coefficient[..., 0].contiguous()
        rows.append(
            {
                "name": f"normal_equations, n = {n}",
                "kernel ms": _milliseconds(lambda given=given: normal_equations(*given)),
                "one row at a time ms": _milliseconds(lambda given=given: _accumulated(*given)),
                "gathered ms": _milliseconds(lambda given=given: _Gathered.apply(*given)),
                "reference ms": _milliseconds(lambda given=given: reference(*given), 5),
            }
        )
    entries, omega = torch.arange(27_000).expand(4, -1).contiguous(), torch.randn(1, 4, 16, dtype=torch.float64)
    one = table[:1, :, :16].contiguous(), entries, omega, torch.zeros(1, dtype=torch.int64)
    rows.append(
        {
            "name": "table_product, 4 x 27,000 entries, n = 16",
            "kernel ms": _milliseconds(lambda: table_product(*one)),
            "reference ms": _milliseconds(lambda: table_product_reference.table_product(*one)),
        }
    )
    return rows


def row_by_row() -> list[dict[str, Any]]:
    """An iteration at 1,000 rows and 16 unknowns, with the Jacobian by one backward pass per row as reference."""
    pde = DiffusionSorption(nt=21, nx=64)
    basis = _basis(pde)
    layer = HardConstraint(pde, Decomposition(rows_per_block=1000))
    flat, picked = basis[0].flatten(0, 1), layer.blocks.rows
    index, data = layer.blocks.entries[0][picked.index[0]], tuple(d[0] for d in picked.data)

    def residual(y: torch.Tensor, args: Any) -> torch.Tensor:
        return pde.residual((flat @ y)[index], data, {})

    y0 = torch.full((16,), 0.05, dtype=torch.float64)

    def by_rows() -> torch.Tensor:
        y = y0.clone().requires_grad_()
        r = residual(y, None)
        j = torch.stack([torch.autograd.grad(value, y, retain_graph=True)[0] for value in r])
        return torch.linalg.solve(j.mT @ j + 1e-3 * torch.eye(16, dtype=j.dtype), -j.mT @ r.detach())

    def solve(count: int) -> None:
        with torch.no_grad():
            least_squares(residual, y0, solver=LevenbergMarquardt(max_iterations=count, tolerance=1e-14))

    reference_ms = _milliseconds(by_rows, 3)
    general = (_milliseconds(lambda: solve(9), 5) - _milliseconds(lambda: solve(1), 5)) / 8
    ours = _milliseconds(_iteration(layer, basis), 30)
    return [
        {
            "name": "iteration, 1,000 rows, n = 16",
            "row by row ms": reference_ms,
            "least_squares ms": general,
            "layer ms": ours,
            "row by row / least_squares": reference_ms / general,
            "row by row / layer": reference_ms / ours,
        }
    ]


def flow() -> list[dict[str, Any]]:
    """Navier-Stokes on 64^3 points with 64 functions that hold the solution: the table, and a whole forward."""
    pde = NavierStokes()
    w0 = pde.draw(64, torch.Generator().manual_seed(0))["w0"]
    basis = principal_basis(pde.solve(w0), 64)
    start = time.process_time()
    pde.table(basis)
    rows: list[dict[str, Any]] = [{"name": "navier-stokes, functionals", "s": time.process_time() - start}]
    for counts in ((1, 1, 1), (1, 2, 2)):
        for tolerance in (1e-8, 1e-6):
            solver = LevenbergMarquardt(tolerance=tolerance, max_iterations=50)
            layer = HardConstraint(pde, Decomposition(counts=counts, periodic=(False, True, True)), solver=solver)
            start = time.process_time()
            with torch.no_grad():
                found = layer(basis, {"w0": w0[:1]})
            rows.append(
                {
                    "name": f"navier-stokes, {math.prod(counts)} x 20,000 rows, n = 64, to {tolerance:g}",
                    "s": time.process_time() - start,
                    "iterations": int(found.solution.stats["num_iterations"].max()),
                }
            )
    return rows


def _rank(folder: str) -> None:
    """What torchrun starts in every process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    pde = DiffusionSorption()
    layer = HardConstraint(
        pde, Decomposition(counts=(1, 4)), group=dist.group.WORLD, solver=LevenbergMarquardt(max_iterations=5)
    )
    basis, u0 = _basis(pde), torch.tensor([0.05], dtype=torch.float64)
    with torch.no_grad():
        own = [_milliseconds(lambda: layer(basis, {"u0": u0}), clock=c) for c in (time.process_time, time.perf_counter)]
    torch.save(own, f"{folder}/{dist.get_world_size()}-{dist.get_rank()}.pt")
    dist.destroy_process_group()


def ranks(sizes: Sequence[int] = (1, 2, 4)) -> list[dict[str, Any]]:
    """Forward with 4 x 20,000 rows, five iterations: time of the slowest process; by wall only where cores are free."""
    times: dict[int, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
            subprocess.run([*torchrun, __file__, folder], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            each = [torch.load(Path(folder) / f"{size}-{rank}.pt") for rank in range(size)]
            times[size] = (max(cpu for cpu, _ in each), max(wall for _, wall in each))
    return [
        {
            "name": f"forward, 4 x 20,000 rows, {size} processes",
            "CPU ms": cpu,
            "ratio": times[1][0] / cpu,
            "wall ms": wall,
            "ratio of wall": times[1][1] / wall,
        }
        for size, (cpu, wall) in times.items()
    ]


def main() -> list[dict[str, Any]]:
    """Rows of the tables in docs/performance/constraint.md."""
    torch.set_num_threads(1)
    parts = {"iterations": iterations, "kernels": kernels, "row_by_row": row_by_row, "flow": flow, "ranks": ranks}
    wanted = [name for name in sys.argv[1:] if name in parts] if __name__ == "__main__" else []
    return [row for name in wanted or parts for row in parts[name]()]


if __name__ == "__main__" and "LOCAL_RANK" in os.environ:
    _rank(sys.argv[1])
elif __name__ == "__main__":
    for row in main():
        print({key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()})
