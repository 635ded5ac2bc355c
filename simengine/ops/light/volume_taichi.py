"""The bridge of `simengine.ops.light.volume` to the Taichi kernels: any device that Taichi reaches."""

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from simengine.ops import taichi_bridge

if TYPE_CHECKING:
    from simengine.ops.light.volume import Options


def march(*inputs: Any) -> tuple[torch.Tensor, ...]:
    """Same arguments and results as the bridge to the Warp kernels."""
    return _TaichiRays.apply(*inputs)


class _TaichiRays(torch.autograd.Function):
    @staticmethod
    def forward(
        field: torch.Tensor,
        origins: torch.Tensor,
        directions: torch.Tensor,
        near: torch.Tensor,
        far: torch.Tensor,
        options: "Options",
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        kernels, channels = _kernels(field), field.shape[-1]
        inputs = [value.detach().contiguous() for value in (field, origins, directions, near, far)]
        blended, transmittance = near.new_zeros(len(near), channels), torch.ones_like(near)
        busy = torch.zeros(options.bricks, dtype=torch.int32, device=field.device)
        if len(near):
            flat = inputs[0].reshape(-1, channels)
            kernels.find_bricks(options.emission, *field.shape[:3], flat, busy)
            constants = options.step, options.emission, *field.shape[:3]
            kernels.march(*constants, flat, *inputs[1:], busy, blended, transmittance)
        return blended, transmittance, busy

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        *tensors, ctx.options = inputs
        ctx.save_for_backward(*tensors, *output)
        ctx.mark_non_differentiable(output[2])

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, adj_blended: torch.Tensor, adj_transmittance: torch.Tensor, _adj_busy: None
    ) -> tuple[torch.Tensor | None, ...]:
        *inputs, blended, transmittance, busy = (value.detach().contiguous() for value in ctx.saved_tensors)
        field, *rays = inputs
        kernels, channels, options = _kernels(field), field.shape[-1], ctx.options
        parts = max(options.num_threads, torch.get_num_threads()) if _private(field) else 1
        adj_fields = field.new_zeros(parts, field.numel() // channels, channels)
        adj_rays = [torch.zeros_like(value) for value in rays]
        bounds = torch.linspace(0, len(blended), parts + 1).round().int()
        if len(blended):
            kernels.march_adjoint(
                *(options.step, options.emission, options.sparse, *field.shape[:3]),
                *(field.reshape(-1, channels), *rays, busy, blended, transmittance),
                *(adj_blended.detach().contiguous(), adj_transmittance.detach().contiguous()),
                *(bounds.to(field.device), adj_fields, *adj_rays),
            )
        return (
            adj_fields.sum(0).reshape(field.shape),  # field (n0, n1, n2, 1 + c)
            *adj_rays,  # origins (m, 3), directions (m, 3), near (m,), far (m,)
            None,  # options
        )


def _kernels(field: torch.Tensor) -> Any:
    scalar = taichi_bridge.scalar(field)  # starts Taichi before its kernels are imported
    from simengine.kernels.light import volume_taichi

    return volume_taichi.kernels(scalar, field.shape[-1], _private(field))


def _private(field: torch.Tensor) -> bool:
    """Whether each thread gets a gradient of the grid of its own: on CPUs, where atomic additions are slow."""
    ti = taichi_bridge.start(field.device)
    return ti.lang.impl.current_cfg().arch in (ti.x64, ti.arm64)
