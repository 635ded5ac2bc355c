"""MPM on one CPU core: ours beside a plain Taichi MLS-MPM and the plain torch reference, in process CPU time.

The Taichi program is the usual one (scatter with atomics, dense grid, `ti.svd` polar factor), with the same scheme,
laws and walls as ours. Its result is compared with ours before anything is measured.
"""

import functools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import taichi as ti
import torch

from simengine import materials, mpm, solve
from simengine.ops.matter import constitutive_reference
from simengine.ops.matter.mpm import transfer_reference

E, NU, RHO = 1e5, 0.2, 1000.0
MU, LAM = E / (2 * (1 + NU)), E * NU / ((1 + NU) * (1 - 2 * NU))


def seconds(function: Callable[[], object], steps: int, repeat: int = 3) -> float:
    """CPU seconds of this process per step, the best of some."""
    function()
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best / steps


def body(edge: int, low: float, high: float, dtype: torch.dtype = torch.float32) -> mpm.MPMState:
    line = torch.linspace(low, high, edge, dtype=torch.float64)
    x = torch.cartesian_prod(line, line, line)
    v = torch.tensor([1.0, -1.5, -2.0]).double() + torch.linalg.cross(torch.full_like(x, 4.0), x - 0.5)
    return mpm.MPMState.at_rest(x.to(dtype), v.to(dtype))


def model(num_grids: int, dt: float, volume: float, modulus: float | torch.Tensor = E) -> mpm.MPMModel:
    return mpm.MPMModel(
        num_grids=num_grids,
        dt=dt,
        materials=[materials.jelly(E=modulus, nu=NU)],
        volume=volume,
        mass=RHO * volume,
        epsilon=0.0,
    )


class TaichiMPM:
    """A plain MLS-MPM with the jelly's law in Taichi."""

    def __init__(self, state: mpm.MPMState, n_grid: int, dt: float, volume: float) -> None:
        n = len(state.x)
        self.x, self.v = ti.Vector.field(3, ti.f32, n), ti.Vector.field(3, ti.f32, n)
        self.C, self.F = ti.Matrix.field(3, 3, ti.f32, n), ti.Matrix.field(3, 3, ti.f32, n)
        grid_v, grid_m = ti.Vector.field(3, ti.f32, (n_grid,) * 3), ti.field(ti.f32, (n_grid,) * 3)
        for field, tensor in ((self.x, state.x), (self.v, state.v), (self.C, state.C), (self.F, state.F)):
            field.from_numpy(tensor.numpy())
        x, v, C, F = self.x, self.v, self.C, self.F
        inv_dx, dx, mass, bound = float(n_grid), 1.0 / n_grid, RHO * volume, 3

        @ti.kernel
        def substep():
            for i, j, k in grid_m:
                grid_v[i, j, k] = ti.Vector.zero(ti.f32, 3)
                grid_m[i, j, k] = 0.0
            for p in x:
                base = (x[p] * inv_dx - 0.5).cast(int)
                fx = x[p] * inv_dx - base.cast(ti.f32)
                w = [0.5 * (1.5 - fx) ** 2, 0.75 - (fx - 1.0) ** 2, 0.5 * (fx - 0.5) ** 2]
                U, sig, V = ti.svd(F[p])
                J = sig[0, 0] * sig[1, 1] * sig[2, 2]
                tau = 2 * MU * (F[p] - U @ V.transpose()) @ F[p].transpose()
                tau += ti.Matrix.identity(ti.f32, 3) * (LAM * J * (J - 1))
                affine = -dt * volume * 4 * inv_dx * inv_dx * tau + mass * C[p]
                for i, j, k in ti.static(ti.ndrange(3, 3, 3)):
                    offset = ti.Vector([i, j, k])
                    dpos = (offset.cast(ti.f32) - fx) * dx
                    weight = w[i][0] * w[j][1] * w[k][2]
                    grid_v[base + offset] += weight * (mass * v[p] + affine @ dpos)
                    grid_m[base + offset] += weight * mass
            for i, j, k in grid_m:
                if grid_m[i, j, k] > 0:
                    u = grid_v[i, j, k] / grid_m[i, j, k]
                    u[1] += -9.8 * dt
                    index = ti.Vector([i, j, k])
                    for a in ti.static(range(3)):
                        if index[a] < bound and u[a] < 0:
                            u[a] = 0.0
                        if index[a] > n_grid - bound and u[a] > 0:
                            u[a] = 0.0
                    grid_v[i, j, k] = u
            for p in x:
                base = (x[p] * inv_dx - 0.5).cast(int)
                fx = x[p] * inv_dx - base.cast(ti.f32)
                w = [0.5 * (1.5 - fx) ** 2, 0.75 - (fx - 1.0) ** 2, 0.5 * (fx - 0.5) ** 2]
                new_v = ti.Vector.zero(ti.f32, 3)
                new_C = ti.Matrix.zero(ti.f32, 3, 3)
                for i, j, k in ti.static(ti.ndrange(3, 3, 3)):
                    offset = ti.Vector([i, j, k])
                    dpos = (offset.cast(ti.f32) - fx) * dx
                    weight = w[i][0] * w[j][1] * w[k][2]
                    g = grid_v[base + offset]
                    new_v += weight * g
                    new_C += 4 * inv_dx * inv_dx * weight * g.outer_product(dpos)
                v[p], C[p] = new_v, new_C
                F[p] = (ti.Matrix.identity(ti.f32, 3) + dt * new_C) @ F[p]
                x[p] += dt * new_v

        self.substep = substep

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.substep()
        ti.sync()


def torch_rollout(model: mpm.MPMModel, state: mpm.MPMState, steps: int) -> torch.Tensor:
    mass, volume = model.body(state.x)
    x, v, C, F, q = state.x, state.v, state.C, state.F, state.q
    for number in range(steps):
        tau = constitutive_reference.stress(F, q, *model.packed(len(x), "elasticity"))
        x, v, C, F = transfer_reference.step(
            x, v, C, F, tau, mass=mass, volume=volume, table=model.table(x), grid=model.grid, number=number
        )
    return x


def ours(model: mpm.MPMModel, state: mpm.MPMState, steps: int, adjoint: Any = None) -> torch.Tensor:
    return solve.rollout(mpm.MPMSolver(model), state, steps, save_every=steps, adjoint=adjoint).states.x[-1]


def alternating(functions: list[Callable[[], object]], repeat: int = 5) -> list[float]:
    """Median wall seconds of each, called in turn: what else runs on the machine falls on all of them."""
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(repeat):
        for function, found in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def threads_rows(row: Callable[..., None]) -> None:
    """Two threads against one, in wall time: only a machine with two idle cores shows what they are worth."""
    edge, steps = 46, 20
    volume = (0.5 / (edge - 1)) ** 3
    state = body(edge, 0.25, 0.75)
    modulus = torch.tensor(E, dtype=torch.float64, requires_grad=True)
    scene, learn = model(64, 2e-4, volume), model(64, 2e-4, volume, modulus)

    def run(which: mpm.MPMModel, threads: int, backward: bool) -> None:
        solver = mpm.MPMSolver(which, threads=threads)
        with torch.set_grad_enabled(backward):
            last = solve.rollout(solver, state, steps, save_every=steps).states.x[-1]
        if backward:
            last.sum().backward()

    for label, which, backward in (("forward", scene, False), ("forward + backward", learn, True)):
        one, two = alternating([functools.partial(run, which, k, backward) for k in (1, 2)])
        rates = [len(state.x) * steps / t / 1e6 for t in (two, one)]
        name = f"jelly 97,336 on 64^3, {label}, 2 threads, wall time [M particle-steps/s]"
        row(name, rates[0], "1 thread", rates[1], higher_is_better=True)


def cuda_rows(row: Callable[..., None]) -> None:
    """A million particles on a CUDA device, by the device's own clock."""
    edge, steps = 100, 50
    volume = (0.5 / (edge - 1)) ** 3
    state = body(edge, 0.25, 0.75).to("cuda")
    modulus = torch.tensor(E, dtype=torch.float64, device="cuda", requires_grad=True)
    learn = model(128, 1e-4, volume, modulus).to("cuda")
    for label, backward, goal in (("forward", False, 100.0), ("forward + backward", True, 20.0)):
        best = float("inf")
        for _ in range(4):  # the first compiles
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            with torch.set_grad_enabled(backward):
                last = solve.rollout(mpm.MPMSolver(learn), state, steps, save_every=steps).states.x[-1]
            if backward:
                last.sum().backward()
            end.record()
            end.synchronize()
            best = min(best, start.elapsed_time(end) / 1e3)
        name = f"jelly 1,000,000 on 128^3, {torch.cuda.get_device_name()}, {label} [M particle-steps/s]"
        row(name, len(state.x) * steps / best / 1e6, "goal", goal, higher_is_better=True)


PEAK = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import mpm as bench
from simengine import solve

def status(name):
    line = next(l for l in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if l.startswith(name))
    return int(line.split()[1]) / 1024

modulus = torch.tensor(1e5, dtype=torch.float64, requires_grad=True)
model, state = bench.model(20, 5e-4, 1.25e-4, modulus), bench.body(10, 0.25, 0.75)
bench.ours(model, state, 4, solve.CheckpointAdjoint()).sum().backward()
for adjoint in (solve.CheckpointAdjoint(), solve.DirectAdjoint()):
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the high-water mark starts again
    start = status("VmRSS")
    bench.ours(model, state, 1000, adjoint).sum().backward()
    print("=", status("VmHWM") - start)
"""
COLD = """
import sys, tempfile, time
import warp
warp.config.kernel_cache_dir = tempfile.mkdtemp()
sys.path.insert(0, sys.argv[1])
import torch, mpm as bench
modulus = torch.tensor(1e5, dtype=torch.float64, requires_grad=True)
start = time.process_time()
bench.ours(bench.model(20, 5e-4, 1.25e-4, modulus), bench.body(10, 0.25, 0.75), 2).sum().backward()
print('=', time.process_time() - start)
"""


def child(code: str) -> list[float]:
    """Numbers printed by a fresh process, in lines that begin with =."""
    folder = __file__.rpartition("/")[0] or "."
    result = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    return [float(line[1:]) for line in result.stdout.splitlines() if line.startswith("=")]


def main() -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    ti.init(arch=ti.cpu, cpu_max_num_threads=1, offline_cache=False, log_level=ti.ERROR)
    rows: list[dict[str, Any]] = []

    def row(name: str, value: float, against: str, other: float, *, higher_is_better: bool = False) -> None:
        ratio = value / other if higher_is_better else other / value
        rows.append({"name": name, "ours": value, "against": against, "reference": other, "ratio": ratio})

    small, scene = body(10, 0.25, 0.75), model(20, 5e-4, 1.25e-4)
    plain = TaichiMPM(small, 20, 5e-4, 1.25e-4)
    plain.run(100)
    with torch.no_grad():
        difference = (torch.from_numpy(plain.x.to_numpy()) - ours(scene, small, 100)).abs().max()
    if difference > 1e-4:  # float32 and another SVD over 100 steps
        raise RuntimeError(f"the Taichi program differs by {float(difference):.1e} after 100 steps")
    with torch.no_grad():
        forward = seconds(lambda: ours(scene, small, 300), 300) * 1e3
        eager = seconds(lambda: torch_rollout(scene, small, 10), 10, 1) * 1e3
    taichi = seconds(lambda: plain.run(100), 100) * 1e3
    row("jelly 1000 on 20^3, forward [ms/step]", forward, "Taichi", taichi)
    row("jelly 1000 on 20^3, forward [ms/step]", forward, "torch", eager)
    modulus = torch.tensor(E, dtype=torch.float64, requires_grad=True)
    learn = model(20, 5e-4, 1.25e-4, modulus)

    def both(adjoint: Any) -> None:
        ours(learn, small, 300, adjoint).sum().backward()

    def both_torch() -> None:
        torch_rollout(learn, small, 10).sum().backward()

    eager = seconds(both_torch, 10, 1) * 1e3
    for label, adjoint in (("direct", solve.DirectAdjoint()), ("checkpoints", solve.CheckpointAdjoint())):
        value = seconds(lambda adjoint=adjoint: both(adjoint), 300) * 1e3
        row(f"jelly 1000 on 20^3, forward + backward, {label} [ms/step]", value, "torch", eager)
    volume = (0.4 / 31) ** 3
    large, scene = body(32, 0.3, 0.7), model(64, 2e-4, volume)
    plain = TaichiMPM(large, 64, 2e-4, volume)
    with torch.no_grad():
        value = len(large.x) / seconds(lambda: ours(scene, large, 50), 50) / 1e6
        eager = len(large.x) / seconds(lambda: torch_rollout(scene, large, 2), 2, 1) / 1e6
    taichi = len(large.x) / seconds(lambda: plain.run(20), 20) / 1e6
    name = "jelly 32,768 on 64^3, forward [M particle-steps/s]"
    row(name, value, "Taichi", taichi, higher_is_better=True)
    row(name, value, "torch", eager, higher_is_better=True)
    threads_rows(row)
    if torch.cuda.is_available():
        cuda_rows(row)
    checkpoints, direct = child(PEAK)
    row("1000 x 1000 steps, forward + backward, checkpoints [MB above start]", checkpoints, "limit", 200.0)
    row("1000 x 1000 steps, forward + backward, direct [MB above start]", direct, "limit", 200.0)
    row("cold start of kernels, CPU time [s]", child(COLD)[0], "limit", 10.0)
    return rows


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
