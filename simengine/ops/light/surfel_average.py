"""Means over the discs of a surface: without the order that compositing gives to discs of one surface."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from simengine.kernels.light import surfel_average as kernel_module
from simengine.ops import bridge
from simengine.ops.light import surfel_reference
from simengine.ops.light.surfel import _check, _inputs, _launch_tiles, _sum_pairs, _types, bin_discs, pixel_boxes


def average_surfels(
    transforms: torch.Tensor,
    opacity: torch.Tensor,
    features: torch.Tensor,
    front: torch.Tensor,
    *,
    thickness: float,
    width: int,
    height: int,
    least_width: float = 0.5**0.5,
    num_threads: int = 1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums over the discs that cross a pixel's ray near a surface, with the weights of the discs.

    Divided by the sum of weights they are means, which have an error of second order in the size of the discs; what
    compositing blends has one of first order on slanted surfaces.

    Args:
        transforms: As of `composite_surfels`, shape (n, 3, 3).
        opacity: Shape (n,).
        features: Shape (n, c).
        front: Depth of the surface [m], 0 where there is none, shape (h, w); without a gradient.
        thickness: Discs count that cross the ray within this distance in depth of `front` [m].
        width: Pixels in a row.
        height: Rows.
        least_width: As of `composite_surfels`.
        num_threads: Threads on a CPU; the bits do not depend on it.

    Returns:
        Sums of features (h, w, c), of weights (h, w), and of depths [m] (h, w).

    Raises:
        ValueError: A shape is wrong or a value not finite.
        TypeError: The dtypes differ, or are not float32 or float64.

    Source: the normalised blending of Zwicker et al. 2001, Surface splatting, section 6.
    """
    _check(transforms, opacity, features, width, height, least_width)
    if front.shape != (height, width) or front.dtype != transforms.dtype:
        raise ValueError(
            f"front: expected shape {(height, width)} and dtype {transforms.dtype}, "
            f"got {tuple(front.shape)} and {front.dtype}"
        )
    if not thickness > 0:
        raise ValueError(f"thickness: expected a positive length in metres, got {thickness}")
    if bridge.backend("warp") == "reference":
        return surfel_reference.average_surfels(
            transforms, opacity, features, front, thickness=thickness, least_width=least_width
        )
    constants = (width, height, least_width, thickness, num_threads)
    sums, weight, depth, *_ = _AverageSurfels.apply(transforms, opacity, features, front.detach(), constants)
    return sums, weight, depth


class _AverageSurfels(torch.autograd.Function):
    @staticmethod
    def forward(
        transforms: torch.Tensor,
        opacity: torch.Tensor,
        features: torch.Tensor,
        front: torch.Tensor,
        constants: tuple[int, int, float, float, int],
    ) -> tuple[torch.Tensor, ...]:
        width, height, least_width, thickness, num_threads = constants
        transforms, opacity, features = (value.contiguous() for value in (transforms, opacity, features))
        boxes = pixel_boxes(transforms, width, height, least_width)
        start, disc = bin_discs(transforms, boxes, width, height)
        types = _types(features)
        sums = features.new_zeros(height, width, features.shape[1])
        weight, depth = features.new_zeros(height, width), features.new_zeros(height, width)
        arguments = [
            least_width**-2,
            thickness,
            *_inputs(types, transforms, opacity, features, boxes, start, disc),
            bridge.array(front.contiguous()),
            bridge.array(sums, types.features),
            bridge.array(weight),
            bridge.array(depth),
        ]
        _launch_tiles(_kernels(features).average, width, height, num_threads, arguments, on=transforms)
        return sums, weight, depth, boxes, start, disc

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        *tensors, ctx.constants = inputs
        ctx.save_for_backward(*tensors, *output[3:])
        ctx.mark_non_differentiable(*output[3:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        transforms, opacity, features, front, boxes, start, disc = ctx.saved_tensors
        transforms, opacity, features = (value.contiguous() for value in (transforms, opacity, features))
        adj_sums, adj_weight, adj_depth = (value.contiguous() for value in cotangents[:3])
        width, height, least_width, thickness, num_threads = ctx.constants
        types, pairs = _types(features), len(disc)
        adj_transforms, adj_opacity = transforms.new_zeros(pairs, 3, 3), transforms.new_zeros(pairs)
        adj_features = features.new_zeros(pairs, features.shape[1])
        arguments = [
            least_width**-2,
            thickness,
            *_inputs(types, transforms, opacity, features, boxes, start, disc),
            bridge.array(front.contiguous()),
            bridge.array(adj_sums, types.features),
            bridge.array(adj_weight),
            bridge.array(adj_depth),
            bridge.array(adj_transforms, types.matrix),
            bridge.array(adj_opacity),
            bridge.array(adj_features, types.features),
        ]
        _launch_tiles(_kernels(features).average_adjoint, width, height, num_threads, arguments, on=transforms)
        sums = _sum_pairs(types, adj_transforms, adj_opacity, adj_features, disc=disc, n=len(transforms))
        return (
            *sums,  # transforms (n, 3, 3), opacity (n,), features (n, c)
            None,  # front
            None,  # constants
        )


def _kernels(features: torch.Tensor) -> Any:
    return kernel_module.kernels(bridge.scalar(features), features.shape[1])
