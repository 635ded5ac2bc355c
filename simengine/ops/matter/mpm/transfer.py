"""Bridge of one step of the MPM transfers: P2G, grid, G2P, from the stress to the trial deformation."""

import itertools
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from simengine.ops import bridge
from simengine.ops.matter.constitutive import matrix, still, vector
from simengine.ops.matter.mpm.grid import Grid, forget_workspaces, raise_invalid, workspace
from simengine.ops.matter.mpm.moments import Moments, cut


class _WarpStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        v: torch.Tensor,
        C: torch.Tensor,
        F: torch.Tensor,
        tau: torch.Tensor,
        mass: torch.Tensor,
        volume: torch.Tensor,
        table: torch.Tensor,
        grid: Grid,
        step: int,
    ) -> tuple[torch.Tensor, ...]:
        n, space = len(x), workspace(grid, x)
        k, shares = space.kernels, grid.shares(0, n)
        clock = still(x)
        clock[2:].fill_(step)
        x1, v1, C1, F1 = torch.empty_like(x), torch.empty_like(v), torch.empty_like(C), torch.empty_like(F)
        constants = [*space.transfer, bridge.array(clock)]
        particles = [vector(x[None]), vector(v[None]), matrix(C[None]), matrix(tau)]
        body = [bridge.array(mass), bridge.array(volume)]
        try:
            for index, own in shares:
                outputs = [space.momentum.parts[0][index].rows, space.active_parts[0], space.flags[index]]
                inputs = [*constants, *(cut(array, own) for array in (*body, *particles))]
                bridge.launch(k.p2g, own.stop - own.start, inputs, outputs, on=x)
            if space.between:
                Moments(space, volume, shares, 0, constants[-1], 1).scatter(particles[0])
            space.launch_sweep(constants[-1], bridge.array(table))
            ends = [vector(x1[None]), vector(v1[None]), matrix(C1[None]), matrix(F1[None])]
            for index, own in shares:
                inputs = [cut(particles[0], own), cut(matrix(F[None]), own), space.velocity.parts[index].rows]
                outputs = [*(cut(array, own) for array in ends), space.no_crowd]
                bridge.launch(k.g2p, own.stop - own.start, [*constants, 1, *inputs], outputs, on=x)
            space.active_tensor.zero_()
            if not x.is_cuda:
                space.raise_flagged(0, [0, *itertools.accumulate(grid.bodies[:-1])])
        except BaseException:
            forget_workspaces()
            raise
        ctx.save_for_backward(x, v, C, F, tau, mass, volume, table, C1, clock)
        ctx.grid = grid
        return x1, v1, C1, F1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, v, C, F, tau, mass, volume, table, C1, clock = ctx.saved_tensors
        n, space = len(x), workspace(ctx.grid, x)
        shares = ctx.grid.shares(0, n)
        x_bar, v_bar, C_bar, F_bar = (c.contiguous().clone() for c in cotangents)
        tau_bar = torch.empty_like(tau)
        body_bar = torch.zeros(n, 2, dtype=torch.float64, device=x.device)
        table_bar = torch.zeros(table.shape, dtype=torch.float64, device=x.device)
        constants = [*space.transfer, bridge.array(clock)]
        body = [bridge.array(mass), bridge.array(volume)]
        xw, vw, Cw, tauw = vector(x[None]), vector(v[None]), matrix(C[None]), matrix(tau)
        bars = vector(x_bar), vector(v_bar), matrix(C_bar), matrix(F_bar)
        try:
            velocity_bar, momentum_bar = space.bars
            for index, own in shares:
                fields = (*body, xw, vw, Cw, matrix(F[None]), tauw, bars[0], bars[3])
                sent = [space.no_crowd_bar, cut(bars[1], own), cut(bars[2], own)]
                outputs = [space.momentum.parts[0][index].rows, velocity_bar.parts[0][index].rows]
                inputs = [*constants, *(cut(array, own) for array in fields), *sent]
                count, kernel = own.stop - own.start, space.adjoint.scatter_adjoint
                bridge.launch(kernel, count, inputs, [*outputs, space.active_parts[0]], on=x)
            moments = Moments(space, volume, shares, 0, constants[-1], 1) if space.between else None
            if moments:
                moments.scatter(xw)
            space.launch_sweep_back(constants[-1], bridge.array(table), bridge.array(table_bar))
            for index, own in shares:
                ours = [cut(array, own) for array in (*body, xw, vw, Cw, matrix(C1[None]), tauw)]
                nodes = [space.velocity.parts[index].rows, momentum_bar.parts[index].rows, space.no_crowd_bar]
                inputs = [*constants, *ours, *nodes, *(cut(array, own) for array in bars)]
                outputs = [cut(matrix(tau_bar), own), bridge.array(body_bar[own])]
                bridge.launch(space.adjoint.gather_adjoint, own.stop - own.start, inputs, outputs, on=x)
            if moments:
                moments.pull_back(xw, bars[0], body_bar)
            space.active_tensor.zero_()
        except BaseException:
            forget_workspaces()
            raise
        return (
            x_bar,  # x
            v_bar,  # v
            C_bar,  # C
            F_bar,  # F
            tau_bar,  # tau
            body_bar[:, 0].to(mass.dtype),  # mass
            body_bar[:, 1].to(volume.dtype),  # volume
            table_bar.to(table.dtype),  # table
            None,  # grid
            None,  # step
        )


def step(
    x: torch.Tensor,
    v: torch.Tensor,
    C: torch.Tensor,
    F: torch.Tensor,
    tau: torch.Tensor,
    *,
    mass: torch.Tensor,
    volume: torch.Tensor,
    table: torch.Tensor,
    grid: Grid,
    number: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """One step of MLS-MPM from the stress to the trial deformation gradient; see `simengine.kernels.matter.mpm`.

    Args:
        x: Positions [m], shape (n, 3), float32 or float64; all other floats have its dtype.
        v: Velocities [m/s], shape (n, 3).
        C: Velocity gradients of APIC [1/s], shape (n, 3, 3).
        F: Deformation gradients [1], shape (n, 3, 3).
        tau: Kirchhoff stresses [Pa], shape (n, 3, 3).
        mass: Masses [kg], shape (n,).
        volume: Volumes at rest [m^3], shape (n,).
        table: Frictions and poses of boundaries, shape (rows, 1 + bodies, 23), see `simengine.kernels.matter.contact`.
        grid: The rest.
        number: Number of the step: the row of `table`, and what an error names.

    Returns:
        x, v, C at the end of the step and F_trial = (I + dt C) F. On CUDA a flagged error is raised by the caller
        (`workspace(grid, x).raise_flagged()`), since reading it synchronises.

    Raises:
        ValueError: A shape does not fit.
        SimulationError: A particle left the grid or a field is not finite (CPU).
        RuntimeError: Taichi is to run and is not installed.
    """
    n = len(x)
    expected = {
        "x": (n, 3),
        "v": (n, 3),
        "C": (n, 3, 3),
        "F": (n, 3, 3),
        "tau": (n, 3, 3),
        "mass": (n,),
        "volume": (n,),
    }
    for (name, shape), tensor in zip(expected.items(), (x, v, C, F, tau, mass, volume), strict=True):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
        if tensor.dtype != x.dtype:
            raise TypeError(f"{name} must be {x.dtype} as x is, got {tensor.dtype}; convert with .to(x.dtype)")
    if table.ndim != 3 or table.shape[1] != grid.rows or table.shape[2] != 23 or not len(table):
        raise ValueError(f"table must have shape (rows, {grid.rows}, 23), got {tuple(table.shape)}")
    if grid.bodies and sum(grid.bodies) != n:
        raise ValueError(f"grid: its bodies have {sum(grid.bodies)} particles together, the state has {n}")
    x, v, C, F, tau, mass, volume = (t.contiguous() for t in (x, v, C, F, tau, mass, volume))
    table = table.to(x.dtype).contiguous()
    chosen = bridge.backend("warp", "taichi", on=x)
    if chosen == "taichi" and grid.bodies:
        raise ValueError("grid: Taichi's kernels know one velocity field; leave contact between bodies out")
    if chosen == "warp":
        return _WarpStep.apply(x, v, C, F, tau, mass, volume, table, grid, number)
    raise_invalid(x, v, C, tau, grid, number)
    if chosen == "taichi" and n:
        from simengine.ops.matter.mpm import transfer_taichi

        return transfer_taichi.step(x, v, C, F, tau, mass=mass, volume=volume, table=table, grid=grid, number=number)
    from simengine.ops.matter.mpm import transfer_reference

    return transfer_reference.step(x, v, C, F, tau, mass=mass, volume=volume, table=table, grid=grid, number=number)
