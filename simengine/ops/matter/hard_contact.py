"""Bridge of hard contact: what rigid bodies do to particles, as velocity and stress that the transfers take."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from simengine.kernels.matter import contact
from simengine.kernels.matter import hard_contact as kernels
from simengine.ops import bridge
from simengine.ops.matter.constitutive import matrix, still, vector
from simengine.ops.matter.mpm.grid import Grid, rigid_bodies


def is_hard(grid: Grid) -> bool:
    """Whether a rigid body touches the particles themselves."""
    return any(mode >= contact.HARD for _, mode in grid.kinds)


class _HardContact(torch.autograd.Function):
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
        stiffness: torch.Tensor,
        table: torch.Tensor,
        grid: Grid,
        step: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        clock = still(x)
        clock[2:].fill_(step)
        kinds, field = rigid_bodies(grid, x)
        saved = (x, v, C, F, tau, mass, volume, stiffness, table, clock, kinds, field)
        ctx.save_for_backward(*saved)
        ctx.dt = grid.dt
        v_out, tau_out = torch.empty_like(v), torch.empty_like(tau)
        kernel = kernels.kernels(bridge.scalar(x)).hard_contact
        bridge.launch(kernel, len(x), _inputs(ctx.dt, *saved), [vector(v_out), matrix(tau_out)], on=x)
        return v_out, tau_out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        saved = ctx.saved_tensors  # read once: a checkpoint gives them once
        x, _, C, F, _, mass, volume, stiffness, table, *_ = saved
        v_bar, tau_bar = (c.contiguous().clone() for c in cotangents)
        x_bar, C_bar, F_bar = torch.zeros_like(x), torch.zeros_like(C), torch.zeros_like(F)
        wide = {"dtype": torch.float64, "device": x.device}
        body_bar, stiffness_bar = torch.zeros(len(x), 2, **wide), torch.zeros(len(x), **wide)
        table_bar = torch.zeros(table.shape, **wide)
        kernel = kernels.kernels(bridge.scalar(x)).hard_contact_adjoint
        inputs = [*_inputs(ctx.dt, *saved), vector(v_bar), matrix(tau_bar)]
        outputs = [vector(x_bar), matrix(C_bar), matrix(F_bar)]
        outputs += [bridge.array(t) for t in (body_bar, stiffness_bar, table_bar)]
        bridge.launch(kernel, len(x), inputs, outputs, on=x)
        return (
            x_bar,  # x
            v_bar,  # v
            C_bar,  # C
            F_bar,  # F
            tau_bar,  # tau
            body_bar[:, 0].to(mass.dtype),  # mass
            body_bar[:, 1].to(volume.dtype),  # volume
            stiffness_bar.to(stiffness.dtype),  # stiffness
            table_bar.to(table.dtype),  # table
            None,  # grid
            None,  # step
        )


def _inputs(
    dt: float,
    x: torch.Tensor,
    v: torch.Tensor,
    C: torch.Tensor,
    F: torch.Tensor,
    tau: torch.Tensor,
    mass: torch.Tensor,
    volume: torch.Tensor,
    stiffness: torch.Tensor,
    table: torch.Tensor,
    clock: torch.Tensor,
    kinds: torch.Tensor,
    field: torch.Tensor,
) -> list[Any]:
    constants = [bridge.array(t) for t in (clock, mass, volume, stiffness, kinds, field, table)]
    return [dt, *constants, vector(x[None]), vector(v[None]), matrix(C[None]), matrix(F[None]), matrix(tau)]


def hard_contact(
    x: torch.Tensor,
    v: torch.Tensor,
    C: torch.Tensor,
    F: torch.Tensor,
    tau: torch.Tensor,
    *,
    mass: torch.Tensor,
    volume: torch.Tensor,
    stiffness: torch.Tensor,
    table: torch.Tensor,
    grid: Grid,
    number: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `simengine.ops.matter.mpm.step` takes in place of v and tau where rigid bodies touch particles.

    Args:
        x: Positions [m], shape (n, 3), float32 or float64; all other floats have its dtype.
        v: Velocities [m/s], shape (n, 3).
        C: Velocity gradients of APIC [1/s], shape (n, 3, 3).
        F: Deformation gradients [1], shape (n, 3, 3).
        tau: Kirchhoff stresses [Pa], shape (n, 3, 3).
        mass: Masses [kg], shape (n,).
        volume: Volumes at rest [m^3], shape (n,).
        stiffness: Of the spring beside the material's own pressure [N/m], shape (n,).
        table: As of `step`.
        grid: The time step and the bodies; those whose contact is not hard are left out.
        number: Number of the step: the row of `table`.

    Returns:
        Velocity [m/s] (n, 3) and stress [Pa] (n, 3, 3).

    Raises:
        ValueError: A shape does not fit.
    """
    for name, tensor in (("mass", mass), ("volume", volume), ("stiffness", stiffness)):
        if tensor.shape != x.shape[:1]:
            raise ValueError(f"{name} must have shape {tuple(x.shape[:1])}, got {tuple(tensor.shape)}")
    tensors = [t.contiguous() for t in (x, v, C, F, tau, mass, volume, stiffness, table.to(x.dtype))]
    if bridge.backend("warp", on=x) == "warp":
        return _HardContact.apply(*tensors, grid, number)
    from simengine.ops.matter import hard_contact_reference

    x, v, C, F, tau, mass, volume, stiffness, table = tensors
    return hard_contact_reference.hard_contact(
        x, v, C, F, tau, mass=mass, volume=volume, stiffness=stiffness, table=table, grid=grid, number=number
    )
