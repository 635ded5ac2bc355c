"""Compositing of oriented Gaussian discs (surfels), nearest first, with gradients to everything."""

import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
import warp as wp
from torch.autograd.function import once_differentiable

from simengine.kernels.light import surfel as kernel_module
from simengine.kernels.light import surfel_binning
from simengine.ops import bridge
from simengine.ops.light import surfel_reference

TILE = surfel_binning.TILE
CUTOFF = kernel_module.CUTOFF


def composite_surfels(
    transforms: torch.Tensor,
    opacity: torch.Tensor,
    features: torch.Tensor,
    *,
    width: int,
    height: int,
    least_width: float = 0.5**0.5,
    num_threads: int = 1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Composite oriented 2-D Gaussian discs front to back, in the order of the depths of their centres.

    Of discs that reach behind the plane of the eye (floors, walls) what lies ahead of it is seen; they are ordered by
    the depth of their farthest point, so that what stands on a floor is before it. Discs that cut one another, or large
    ones with others in between, want to be cut up: the order is one for all pixels. The same input gives the same bits,
    whatever the number of threads.

    Args:
        transforms: Disc coordinates (u, v, 1) to homogeneous pixels (x z, y z, z): K [s_u t_u, s_v t_v, p] with the
            camera matrix K, tangents and centre in camera coordinates; shape (n, 3, 3).
        opacity: Opacity of the centres in [0, 1], shape (n,).
        features: What is blended (colours, normals), 1 to 16 channels, shape (n, c).
        width: Pixels in a row.
        height: Rows.
        least_width: Smallest standard deviation of a disc in the picture [pixel], which keeps small and tilted discs
            from falling between pixels; small numbers give point samples.
        num_threads: Threads that share the tiles on a CPU.

    Returns:
        Blended features (h, w, c), alpha (h, w), depth times alpha [m] (h, w), and the depth at which the
        transmittance passes 1/2 [m] (h, w), 0 where it does not, without a gradient.

    Raises:
        ValueError: A shape is wrong or a value not finite.
        TypeError: The dtypes differ, or are not float32 or float64.

    Source: Huang et al. 2024, 2D Gaussian Splatting; weights fall to 0 continuously at 3 standard deviations.
    """
    _check(transforms, opacity, features, width, height, least_width)
    if bridge.backend("warp") == "reference":
        return surfel_reference.composite_surfels(
            transforms, opacity, features, width=width, height=height, least_width=least_width
        )
    blended, alpha, depth, median, *_ = _CompositeSurfels.apply(
        transforms, opacity, features, width, height, least_width, num_threads
    )
    return blended, alpha, depth, median


class _CompositeSurfels(torch.autograd.Function):
    @staticmethod
    def forward(
        transforms: torch.Tensor,
        opacity: torch.Tensor,
        features: torch.Tensor,
        width: int,
        height: int,
        least_width: float,
        num_threads: int,
    ) -> tuple[torch.Tensor, ...]:
        transforms, opacity, features = (value.contiguous() for value in (transforms, opacity, features))
        boxes = pixel_boxes(transforms, width, height, least_width)
        start, disc = bin_discs(transforms, boxes, width, height)
        blended = transforms.new_zeros(height, width, features.shape[1])
        transmittance = transforms.new_ones(height, width)
        depth, median = transforms.new_zeros(height, width), transforms.new_zeros(height, width)
        types = _types(features)
        _launch_tiles(
            types.kernels.composite,
            width,
            height,
            num_threads,
            [
                least_width**-2,
                *_inputs(types, transforms, opacity, features, boxes, start, disc),
                bridge.array(blended, types.features),
                *(bridge.array(value) for value in (transmittance, depth, median)),
            ],
            on=transforms,
        )
        return blended, 1 - transmittance, depth, median, boxes, start, disc

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        transforms, opacity, features, ctx.width, ctx.height, ctx.least_width, ctx.num_threads = inputs
        ctx.save_for_backward(transforms, opacity, features, *output)
        ctx.mark_non_differentiable(*output[3:])

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, adj_blended: torch.Tensor, adj_alpha: torch.Tensor, adj_depth: torch.Tensor, *_: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        transforms, opacity, features, blended, alpha, depth, _median, boxes, start, disc = ctx.saved_tensors
        transforms, opacity, features = (value.contiguous() for value in (transforms, opacity, features))
        adj_blended, adj_alpha, adj_depth = (value.contiguous() for value in (adj_blended, adj_alpha, adj_depth))
        rest = (adj_blended * blended).sum(-1) + adj_alpha * alpha + adj_depth * depth
        transmittance = torch.ones_like(alpha)
        pairs, types = len(disc), _types(features)
        adj_pair = (
            transforms.new_zeros(pairs, 3, 3),
            transforms.new_zeros(pairs),
            features.new_zeros(pairs, features.shape[1]),
        )
        _launch_tiles(
            types.kernels.composite_adjoint,
            ctx.width,
            ctx.height,
            ctx.num_threads,
            [
                ctx.least_width**-2,
                *_inputs(types, transforms, opacity, features, boxes, start, disc),
                bridge.array(adj_blended, types.features),
                *(bridge.array(value) for value in (adj_alpha, adj_depth, rest, transmittance)),
                bridge.array(adj_pair[0], types.matrix),
                bridge.array(adj_pair[1]),
                bridge.array(adj_pair[2], types.features),
            ],
            on=transforms,
        )
        return (
            *_sum_pairs(types, *adj_pair, disc=disc, n=len(transforms)),  # transforms, opacity, features
            None,  # width
            None,  # height
            None,  # least_width
            None,  # num_threads
        )


def pixel_boxes(transforms: torch.Tensor, width: int, height: int, least_width: float) -> torch.Tensor:
    """Pixels that each disc may touch: first and one past the last, (x0, x1, y0, y1), shape (n, 4), int32.

    The ellipse u^2 + v^2 <= CUTOFF^2 has the tangent lines x = c +- sqrt(c^2 - T_u.D T_u / T_w.D T_w) with
    c = T_u.D T_w / T_w.D T_w and D = diag(CUTOFF^2, CUTOFF^2, -1). A disc that reaches behind the eye is seen as the
    inside of a hyperbola, without end towards where it passes beside the eye. Discs behind the eye get empty boxes.
    """
    with torch.no_grad():
        Tu, Tv, Tw = transforms.unbind(1)
        D = transforms.new_tensor([CUTOFF**2, CUTOFF**2, -1.0])
        seen = surfel_reference.visible(transforms)
        whole = surfel_reference.wholly_ahead(transforms)
        scale = torch.where(whole, (Tw * Tw * D).sum(-1), -torch.ones_like(Tw[:, 2]))
        sides = []
        for T, size in ((Tu, width), (Tv, height)):
            middle = (T * Tw * D).sum(-1) / scale
            extent = (middle**2 - (T * T * D).sum(-1) / scale).clamp_min(0).sqrt()
            low, high = middle - extent, middle + extent
            cut = seen & ~whole
            if bool(cut.any()):
                low[cut], high[cut] = _hyperbola(T[cut], Tw[cut])
            ahead = Tw[:, 2] > 0
            point = T[:, 2] / torch.where(ahead, Tw[:, 2], torch.ones_like(Tw[:, 2]))
            smallest = CUTOFF * least_width
            low = torch.where(ahead, torch.minimum(low, point - smallest), low)
            high = torch.where(ahead, torch.maximum(high, point + smallest), high)
            low = torch.where(seen, (low - 0.5).clamp(0, size).ceil(), torch.zeros_like(low))
            high = torch.where(seen, (high - 0.5).clamp(-1, size - 1).floor() + 1, torch.zeros_like(high))
            sides += [low, high]
        return torch.stack(sides, dim=-1).to(torch.int32).contiguous()


def _hyperbola(T: torch.Tensor, Tw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and greatest T.p / T_w.p over the part T_w.p > 0 of discs that the plane of the eye T_w.p = 0 cuts.

    They end at infinity of the sign that T.p has on the chord T_w.p = 0, where it has one, and begin at a tangent.
    """
    dtype = T.dtype
    T, Tw = T.double(), Tw.double()
    square = Tw[:, :2].square().sum(-1).clamp_min(1e-300)
    foot = torch.cat([-(Tw[:, 2] / square)[:, None] * Tw[:, :2], torch.ones_like(square)[:, None]], dim=-1)
    half = (CUTOFF**2 - Tw[:, 2] ** 2 / square).clamp_min(0).sqrt() / square.sqrt()
    across = half * (T[:, 1] * Tw[:, 0] - T[:, 0] * Tw[:, 1]).abs()
    at_foot = (T * foot).sum(-1)
    D = T.new_tensor([CUTOFF**2, CUTOFF**2, -1.0])
    a, b, c = ((left * right * D).sum(-1) for left, right in ((Tw, Tw), (T, Tw), (T, T)))
    q = b + torch.where(b < 0, -1.0, 1.0) * (b * b - a * c).clamp_min(0).sqrt()
    roots = torch.stack([q / a.clamp_min(1e-300), c / torch.where(q == 0, torch.ones_like(q), q)])
    endless = torch.full_like(a, math.inf)
    low = torch.where(at_foot > across, roots.amax(0), -endless)
    high = torch.where(at_foot < -across, roots.amin(0), endless)
    return low.to(dtype), high.to(dtype)


def bin_discs(
    transforms: torch.Tensor, boxes: torch.Tensor, width: int, height: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The discs of each tile, nearest first.

    Args:
        transforms: As in `composite_surfels`, shape (n, 3, 3).
        boxes: Of `pixel_boxes`, shape (n, 4).
        width: Pixels in a row.
        height: Rows.

    Returns:
        Where the list of each tile starts, shape (tiles + 1,), int64, and the lists one after another, int32.
    """
    tiles_x, tiles_y = -(-width // TILE), -(-height // TILE)
    order = torch.argsort(surfel_reference.depth_keys(transforms), stable=True)
    start = torch.zeros(tiles_x * tiles_y + 1, dtype=torch.int64, device=transforms.device)
    if not transforms.is_cuda:
        kernels = surfel_binning.kernels()
        counts = torch.zeros(tiles_x * tiles_y, dtype=torch.int64)
        box_array = bridge.array(boxes, wp.vec4i)
        bridge.launch(kernels.count_tiles, 1, [tiles_x, box_array], [bridge.array(counts)], on=boxes)
        torch.cumsum(counts, 0, out=start[1:])
        disc = torch.empty(int(start[-1]), dtype=torch.int32)
        outputs = [bridge.array(start[:-1].clone()), bridge.array(disc)]
        bridge.launch(kernels.fill_tiles, 1, [tiles_x, box_array, bridge.array(order)], outputs, on=boxes)
        return start, disc
    x0, x1, y0, y1 = boxes.long()[order].unbind(-1)
    tx, ty = x0 // TILE, y0 // TILE
    across = torch.where(x1 > x0, (x1 - 1) // TILE + 1 - tx, 0)
    down = torch.where(y1 > y0, (y1 - 1) // TILE + 1 - ty, 0)
    count = across * down
    owner = torch.repeat_interleave(torch.arange(len(order), device=order.device), count)
    position = torch.arange(len(owner), device=order.device) - (count.cumsum(0) - count)[owner]
    tile = (ty[owner] + position // across[owner]) * tiles_x + tx[owner] + position % across[owner]
    by_tile = torch.argsort(tile, stable=True)
    start[1:] = torch.bincount(tile, minlength=tiles_x * tiles_y).cumsum(0)
    return start, order[owner[by_tile]].to(torch.int32)


def _sum_pairs(
    types: "_Types",
    transforms: torch.Tensor,
    opacity: torch.Tensor,
    features: torch.Tensor,
    *,
    disc: torch.Tensor,
    n: int,
) -> tuple[torch.Tensor, ...]:
    """Sums over the tiles of each disc of the gradients of pairs, in a fixed order."""
    pairs = transforms, opacity, features
    if transforms.is_cuda:
        by_disc = torch.argsort(disc, stable=True)
        lengths = torch.bincount(disc, minlength=n)
        flat = torch.cat([value.reshape(len(value), -1) for value in pairs], dim=1)[by_disc]
        total = torch.segment_reduce(flat, "sum", lengths=lengths, initial=0.0)
        return total[:, :9].reshape(n, 3, 3), total[:, 9], total[:, 10:]
    sums = tuple(value.new_zeros(n, *value.shape[1:]) for value in pairs)
    element = (types.matrix, None, types.features)
    arrays = [[bridge.array(value, kind) for value, kind in zip(side, element, strict=True)] for side in (pairs, sums)]
    bridge.launch(types.kernels.add_pairs, 1, [bridge.array(disc), *arrays[0]], arrays[1], on=transforms)
    return sums


class _Types:
    """Kernels and element types for a dtype and a number of channels."""

    def __init__(self, scalar: type, channels: int) -> None:
        self.kernels = kernel_module.kernels(scalar, channels)
        self.matrix = wp.types.matrix((3, 3), scalar)
        self.features = wp.types.vector(channels, scalar)


@cache
def _types_of(scalar: type, channels: int) -> _Types:
    return _Types(scalar, channels)


def _types(features: torch.Tensor) -> _Types:
    return _types_of(bridge.scalar(features), features.shape[1])


def _inputs(
    types: _Types,
    transforms: torch.Tensor,
    opacity: torch.Tensor,
    features: torch.Tensor,
    boxes: torch.Tensor,
    start: torch.Tensor,
    disc: torch.Tensor,
) -> list[Any]:
    return [
        bridge.array(transforms, types.matrix),
        bridge.array(opacity),
        bridge.array(features, types.features),
        bridge.array(boxes, wp.vec4i),
        bridge.array(start),
        bridge.array(disc),
    ]


def _launch_tiles(
    kernel: Any, width: int, height: int, num_threads: int, arguments: list[Any], *, on: torch.Tensor
) -> None:
    """Launch over the tiles, in slices on threads of their own; the slices share no output."""
    tiles = -(-width // TILE) * -(-height // TILE)

    def part(first: int, last: int) -> None:
        bridge.launch(kernel, last - first, [width, height, first, *arguments], on=on)

    slice_work(part, tiles, 1 if on.is_cuda else num_threads)


def slice_work(part: Callable[[int, int], None], count: int, num_threads: int) -> None:
    """Call `part(first, last)` over slices of `count` items, each slice on a thread of its own."""
    if num_threads <= 1 or count < num_threads:
        part(0, count)
        return
    pieces = 4 * num_threads  # more slices than threads: rows of tiles differ in work
    bounds = [count * k // pieces for k in range(pieces + 1)]
    with ThreadPoolExecutor(num_threads) as pool:
        for future in [pool.submit(part, a, b) for a, b in itertools.pairwise(bounds) if b > a]:
            future.result()


def _check(
    transforms: torch.Tensor,
    opacity: torch.Tensor,
    features: torch.Tensor,
    width: int,
    height: int,
    least_width: float,
) -> None:
    n = len(transforms)
    if transforms.shape != (n, 3, 3):
        raise ValueError(f"transforms: expected shape (n, 3, 3), got {tuple(transforms.shape)}")
    if opacity.shape != (n,):
        raise ValueError(f"opacity: expected shape ({n},), got {tuple(opacity.shape)}")
    if features.ndim != 2 or len(features) != n or not 1 <= features.shape[1] <= 16:
        raise ValueError(f"features: expected shape ({n}, 1 to 16), got {tuple(features.shape)}")
    if width < 1 or height < 1:
        raise ValueError(f"width, height: expected at least 1 pixel each, got {width} x {height}")
    if not least_width > 0:
        raise ValueError(f"least_width: expected a positive number of pixels, got {least_width}")
    bridge.scalar(transforms)
    if not transforms.dtype == opacity.dtype == features.dtype:
        raise TypeError(
            f"transforms, opacity, features: expected one dtype, got "
            f"{transforms.dtype}, {opacity.dtype}, {features.dtype}"
        )
    for name, value in (("transforms", transforms), ("opacity", opacity), ("features", features)):
        if not bridge.all_finite(value):
            row = int((~torch.isfinite(value.reshape(n, -1))).any(dim=1).nonzero()[0])
            raise ValueError(f"{name}: not finite at surfel {row}")
