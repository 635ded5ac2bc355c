"""Bridge of one step of the MPM transfers to the Taichi kernels: the signature of `simengine.ops.matter.mpm.step`."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from simengine.ops import taichi_bridge
from simengine.ops.matter.mpm.grid import Grid, rigid_bodies


class _Kernels:
    """The kernels for a tensor's dtype, and the arguments that describe a grid to them."""

    def __init__(self, grid: Grid, step: int, table: torch.Tensor) -> None:
        ti = taichi_bridge.start(table.device)
        from simengine.kernels.matter import mpm_taichi

        real = taichi_bridge.scalar(table)
        exact = ti.lang.impl.current_cfg().arch not in (
            ti.vulkan,
            ti.metal,
        )  # these add float64 at best without atomics
        self.wide = torch.float64 if exact else torch.float32
        self.k = mpm_taichi.kernels(real, ti.f64 if exact else ti.f32)
        self.ti, self.real, self.grid = ti, real, grid
        size = ti.Vector(grid.size)
        kinds, field = rigid_bodies(grid, table)
        if not len(kinds):
            kinds = kinds.new_zeros(1, kinds.shape[1])  # Taichi takes no empty arrays
        faces = torch.tensor(grid.faces, dtype=torch.int32, device=table.device)
        self.transfer = [size, ti.Vector([int(p) for p in grid.periodic]), grid.dx, grid.dt]
        self.motion = [size, grid.dx, grid.dt, grid.epsilon, ti.Vector(grid.gravity), step]
        self.motion += [faces, grid.thickness, len(grid.kinds), kinds, field, table]

    def nodes(self) -> Any:
        """One vec4 per node, zero, on the device."""
        count = self.grid.size[0] * self.grid.size[1] * self.grid.size[2]
        return self.ti.ndarray(self.ti.types.vector(4, self.real), count)


class _TaichiStep(torch.autograd.Function):
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
        ctx.save_for_backward(x, v, C, F, tau, mass, volume, table)
        ctx.grid, ctx.step = grid, step
        x, v, C, F, tau, mass, volume, table = (t.detach() for t in (x, v, C, F, tau, mass, volume, table))
        a = _Kernels(grid, step, table)
        momentum, velocity = a.nodes(), a.nodes()
        x1, v1, C1, F1 = torch.empty_like(x), torch.empty_like(v), torch.empty_like(C), torch.empty_like(F)
        a.k.p2g(*a.transfer, mass, volume, x, v, C, tau, momentum)
        a.k.grid_op(*a.motion, momentum, velocity)
        a.k.g2p(*a.transfer, x, F, velocity, x1, v1, C1, F1)
        ctx.C_next = C1.clone()
        return x1, v1, C1, F1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, v, C, F, tau, mass, volume, table = (t.detach() for t in ctx.saved_tensors)  # Taichi looks for .grad
        a = _Kernels(ctx.grid, ctx.step, table)
        x_bar, v_end, C_end, F_bar = (c.contiguous().clone() for c in cotangents)
        v_node, C_node = torch.empty_like(v), torch.empty_like(C)
        v_bar, C_bar, tau_bar = torch.empty_like(v), torch.empty_like(C), torch.empty_like(tau)
        body_bar = torch.zeros(len(x), 2, dtype=a.wide, device=x.device)
        table_bar = torch.zeros(table.shape, dtype=a.wide, device=x.device)
        momentum, velocity, velocity_bar, momentum_bar = (a.nodes() for _ in range(4))
        a.k.p2g(*a.transfer, mass, volume, x, v, C, tau, momentum)
        a.k.grid_op(*a.motion, momentum, velocity)
        a.k.scatter_adjoint(*a.transfer, x, F, x_bar, v_end, C_end, F_bar, velocity_bar, v_node, C_node)
        a.k.grid_adjoint(*a.motion, momentum, velocity_bar, momentum_bar, table_bar)
        inputs = [mass, volume, x, v, C, ctx.C_next, tau, velocity, momentum_bar, v_node, C_node, x_bar, F_bar]
        a.k.gather_adjoint(*a.transfer, *inputs, v_bar, C_bar, tau_bar, body_bar)
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
    """As `simengine.ops.matter.mpm.step`, which checks the arguments and that every particle is on the grid.

    The bits of sums over particles repeat only on one thread: the scatters add atomically.

    Raises:
        RuntimeError: Taichi is not installed.
    """
    return _TaichiStep.apply(x, v, C, F, tau, mass, volume, table, grid, number)
