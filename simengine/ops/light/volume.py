"""Emission and absorption along rays through a grid, with gradients to the grid and to the rays."""

import dataclasses
from typing import Any

import torch
import warp as wp
from torch.autograd.function import once_differentiable

from simengine.kernels.light import volume as kernel_module
from simengine.ops import bridge
from simengine.ops.light import volume_reference
from simengine.ops.light.surfel import slice_work

SLICES = 2  # of the rays, each with a gradient of the grid of its own, so that bits do not depend on threads


def march_rays(
    field: torch.Tensor,
    origins: torch.Tensor,
    directions: torch.Tensor,
    near: torch.Tensor,
    far: torch.Tensor,
    *,
    step: float,
    emission: bool = False,
    sparse: bool = False,
    num_threads: int = 1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """March rays through a grid of density and source.

    A ray is cut into equal steps of at most `step`, with density and source of the middle of each, trilinear between
    nodes; exact where both are constant. Memory is that of the rays and the grid, whatever the number of steps. On a
    CPU the bits repeat; on GPUs the gradient of the grid is summed in no fixed order. Bricks of 8^3 cells that hold
    nothing are passed over, which leaves the picture as it is.

    Args:
        field: Density [1/m] and 1 to 15 channels of source at the nodes, shape (n0, n1, n2, 1 + c).
        origins: In grid coordinates (node (i, j, k) at (i, j, k)), shape (m, 3).
        directions: Change of grid coordinates per metre, shape (m, 3).
        near: Distance at which a ray enters [m], shape (m,).
        far: Distance at which it leaves [m], shape (m,); a ray with far <= near sees nothing.
        step: Longest step [m].
        emission: Whether the source is radiance per metre; otherwise it is the source function, the radiance of a
            body that lets nothing through.
        sparse: Whether what such a brick might hold is no parameter: its steps are passed over by the gradient to
            `field` too, which is 0 there.
        num_threads: Threads that share the rays on a CPU, at most 2 of Warp's.

    Returns:
        Radiance (m, c), absorbed fraction (m,), and distance times absorbed fraction [m] (m,).

    Raises:
        ValueError: A shape is wrong, a value not finite, or `step` not positive.
        TypeError: The dtypes differ, or are not float32 or float64.

    Source: Max 1995, Optical models for direct volume rendering, eq. 11.
    """
    _check(field, origins, directions, near, far, step)
    language = bridge.backend("warp", "taichi", on=field)
    if language == "reference":
        return volume_reference.march_rays(
            field, origins, directions, near, far, step=step, emission=emission, sparse=sparse
        )
    for axis in range(3):  # a cell has two nodes along each axis
        if field.shape[axis] == 1:
            field = field.repeat_interleave(2, dim=axis)
    bricks = tuple(-(-(n - 1) // kernel_module.BRICK) for n in field.shape[:3])
    options = Options(step=step, emission=int(emission), sparse=int(sparse), bricks=bricks, num_threads=num_threads)
    if language == "taichi":
        from simengine.ops.light.volume_taichi import march
    else:
        march = _MarchRays.apply
    blended, transmittance, *_ = march(field, origins, directions, near, far, options)
    return blended[:, 1:], 1 - transmittance, blended[:, 0]


@dataclasses.dataclass(frozen=True)
class Options:
    """What is not differentiated.

    Attributes:
        step: Longest step [m].
        emission: Whether the source is radiance per metre.
        sparse: Whether empty bricks have no gradient.
        bricks: Number of bricks of the grid along each axis.
        num_threads: On a CPU.
    """

    step: float
    emission: int
    sparse: int
    bricks: tuple[int, ...]
    num_threads: int


class _MarchRays(torch.autograd.Function):
    @staticmethod
    def forward(
        field: torch.Tensor,
        origins: torch.Tensor,
        directions: torch.Tensor,
        near: torch.Tensor,
        far: torch.Tensor,
        options: Options,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        inputs = [value.contiguous() for value in (field, origins, directions, near, far)]
        blended, transmittance = field.new_empty(len(near), field.shape[-1]), torch.empty_like(near)
        vector = wp.types.vector(field.shape[-1], bridge.scalar(field))
        outputs = [bridge.array(blended, vector), bridge.array(transmittance)]
        kernels = kernel_module.kernels(bridge.scalar(field), field.shape[-1])
        arrays = _arrays(inputs)
        busy = torch.empty(options.bricks, dtype=torch.uint8, device=field.device)
        array = bridge.array(busy)
        bridge.launch(kernels.find_bricks, busy.shape, [options.emission, *arrays[:4]], [array], on=field)
        skip = int(not bool(busy.all()))

        def part(first: int, last: int) -> None:
            constants = [first, options.step, options.emission, skip]
            bridge.launch(kernels.march, last - first, [*constants, *arrays, array], outputs, on=field)

        slice_work(part, len(near), 1 if field.is_cuda else options.num_threads)
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
        *inputs, blended, transmittance, busy = ctx.saved_tensors
        options = ctx.options
        inputs = [value.contiguous() for value in inputs]
        field, origins, directions, near, far = inputs
        cotangents = adj_blended.contiguous(), adj_transmittance.contiguous()
        slices = 1 if field.is_cuda else SLICES
        adj_fields = field.new_empty(slices, *field.shape)
        adj_rays = [torch.empty_like(value) for value in (origins, directions, near, far)]
        scalar = bridge.scalar(field)
        vector, vec3 = wp.types.vector(field.shape[-1], scalar), wp.types.vector(3, scalar)
        kernel = kernel_module.kernels(scalar, field.shape[-1]).march_adjoint
        arrays = [
            *_arrays(inputs),
            bridge.array(busy),
            bridge.array(blended, vector),
            bridge.array(transmittance),
            bridge.array(cotangents[0], vector),
            bridge.array(cotangents[1]),
        ]
        ray_outputs = [bridge.array(adj_rays[0], vec3), bridge.array(adj_rays[1], vec3)]
        ray_outputs += [bridge.array(adj_rays[2]), bridge.array(adj_rays[3])]
        with_rays = int(any(ctx.needs_input_grad[1:5]))
        # of the same length of rays, whatever part of the picture sees the box
        way = (far - near).clamp_min(0).double().cumsum(0)
        inner = [int(torch.searchsorted(way, way[-1] * k / slices)) for k in range(1, slices) if len(way)]
        bounds = [0, *(inner or [0] * (slices - 1)), len(near)]

        def part(first: int, last: int) -> None:
            for k in range(first, last):
                own = adj_fields[k].zero_()  # here, so that threads share this too
                outputs = [bridge.array(own.reshape(-1, field.shape[-1]), vector), *ray_outputs]
                constants = [bounds[k], options.step, options.emission, options.sparse, with_rays]
                bridge.launch(kernel, bounds[k + 1] - bounds[k], [*constants, *arrays], outputs, on=field)

        slice_work(part, slices, 1 if field.is_cuda else min(options.num_threads, slices))
        total = adj_fields[0]
        for other in adj_fields[1:]:
            total += other
        return (
            total,  # field (n0, n1, n2, 1 + c)
            adj_rays[0],  # origins (m, 3)
            adj_rays[1],  # directions (m, 3)
            adj_rays[2],  # near (m,)
            adj_rays[3],  # far (m,)
            None,  # options
        )


def _arrays(inputs: list[torch.Tensor]) -> list[Any]:
    field, origins, directions, near, far = inputs
    scalar = bridge.scalar(field)
    vec3 = wp.types.vector(3, scalar)
    return [
        *field.shape[:3],
        bridge.array(field.reshape(-1, field.shape[-1]), wp.types.vector(field.shape[-1], scalar)),
        bridge.array(origins, vec3),
        bridge.array(directions, vec3),
        bridge.array(near),
        bridge.array(far),
    ]


def _check(
    field: torch.Tensor,
    origins: torch.Tensor,
    directions: torch.Tensor,
    near: torch.Tensor,
    far: torch.Tensor,
    step: float,
) -> None:
    if field.ndim != 4 or not 2 <= field.shape[-1] <= 16 or 0 in field.shape:
        raise ValueError(f"field: expected shape (n0, n1, n2, 2 to 16), got {tuple(field.shape)}")
    m = len(near)
    for name, value, shape in (
        ("origins", origins, (m, 3)),
        ("directions", directions, (m, 3)),
        ("near", near, (m,)),
        ("far", far, (m,)),
    ):
        if value.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {tuple(value.shape)}")
        if value.dtype != field.dtype:
            raise TypeError(f"{name}: expected the dtype of field, {field.dtype}, got {value.dtype}")
        if not bridge.all_finite(value):
            raise ValueError(f"{name}: {int((~torch.isfinite(value)).sum())} values are not finite")
    bridge.scalar(field)
    if not bridge.all_finite(field):
        node = (~torch.isfinite(field).all(dim=-1)).nonzero()[0].tolist()
        raise ValueError(f"field: density or source is not finite at node {tuple(node)}")
    if not step > 0:
        raise ValueError(f"step: expected a positive length in metres, got {step}")
    longest = float((far - near).detach().max()) if m else 0.0
    if longest / step > 1e6:
        raise ValueError(f"step: {step:g} m cuts {longest:g} m into more than a million steps; use longer ones")
