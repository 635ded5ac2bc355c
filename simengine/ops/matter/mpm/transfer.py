"""Bridge of one step of the MPM transfers: P2G, grid, G2P, from the stress to the trial deformation."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from simengine.ops import bridge
from simengine.ops.matter.constitutive import matrix, still, vector
from simengine.ops.matter.mpm.grid import Grid, Workspace, forget_workspaces, raise_invalid, workspace
from simengine.ops.matter.mpm.launches import TransferLaunches


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
        space, clock = workspace(grid, x), still(x)
        clock[2:].fill_(step)
        x1, v1, C1, F1 = torch.empty_like(x), torch.empty_like(v), torch.empty_like(C), torch.empty_like(F)
        launches = _launches(space, clock, mass, volume, table)
        here = vector(x[None])
        try:
            launches.scatter(here, vector(v[None]), matrix(C[None]), matrix(tau))
            launches.sweep()
            ends = [vector(x1[None]), vector(v1[None]), matrix(C1[None]), matrix(F1[None]), space.no_crowd]
            launches.gather(here, matrix(F[None]), ends)
            space.active_tensor.zero_()
            if not x.is_cuda:
                space.raise_flagged(0, grid.starts)
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
        space = workspace(ctx.grid, x)
        x_bar, v_bar, C_bar, F_bar = (c.contiguous().clone() for c in cotangents)
        tau_bar = torch.empty_like(tau)
        body_bar = torch.zeros(len(x), 2, dtype=torch.float64, device=x.device)
        table_bar = torch.zeros(table.shape, dtype=torch.float64, device=x.device)
        launches = _launches(space, clock, mass, volume, table)
        before, stress = [vector(x[None]), vector(v[None]), matrix(C[None])], matrix(tau)
        bars = vector(x_bar), vector(v_bar), matrix(C_bar), matrix(F_bar)
        crowd_bar = space.no_crowd_bar
        try:
            sent = [bars[0], bars[3], crowd_bar, bars[1], bars[2]]
            launches.scatter_back([*before, matrix(F[None]), stress], sent)
            launches.sweep_back(bridge.array(table_bar))
            launches.gather_back([*before, matrix(C1[None]), stress], crowd_bar, bars, matrix(tau_bar), body_bar)
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


def _launches(
    space: Workspace, clock: torch.Tensor, mass: torch.Tensor, volume: torch.Tensor, table: torch.Tensor
) -> TransferLaunches:
    """Of all particles, in one thread."""
    return TransferLaunches(space, bridge.array(clock), table, mass=mass, volume=volume)


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
