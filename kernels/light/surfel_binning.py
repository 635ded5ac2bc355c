"""Kernels that list the discs of each tile of a picture in depth order, one after the other: for the CPU."""

import functools
from types import SimpleNamespace

import warp as wp

TILE = 16  # pixels along the side of a tile


@functools.cache
def kernels() -> SimpleNamespace:
    """The kernels; launched over a single thread."""
    module = wp.get_module("simengine.kernels.light.surfel_binning")
    module.options.update(enable_backward=False)
    kernel = functools.partial(wp.kernel, module=module, enable_backward=False)

    @kernel
    def count_tiles(
        # constants
        tiles_x: int,
        # inputs
        boxes: wp.array(dtype=wp.vec4i),  # first and last pixel (x0, x1, y0, y1), last exclusive
        # outputs
        count_out: wp.array(dtype=wp.int64),
    ):
        for i in range(boxes.shape[0]):
            b = boxes[i]
            if b[1] > b[0] and b[3] > b[2]:
                for ty in range(b[2] // TILE, (b[3] - 1) // TILE + 1):
                    for tx in range(b[0] // TILE, (b[1] - 1) // TILE + 1):
                        t = ty * tiles_x + tx
                        count_out[t] = count_out[t] + wp.int64(1)

    @kernel
    def fill_tiles(
        # constants
        tiles_x: int,
        # inputs
        boxes: wp.array(dtype=wp.vec4i),
        order: wp.array(dtype=wp.int64),  # discs, nearest first
        # outputs
        next_out: wp.array(dtype=wp.int64),  # where the next disc of a tile goes; starts at the tile's first
        disc_out: wp.array(dtype=wp.int32),
    ):
        for k in range(order.shape[0]):
            i = int(order[k])
            b = boxes[i]
            if b[1] > b[0] and b[3] > b[2]:
                for ty in range(b[2] // TILE, (b[3] - 1) // TILE + 1):
                    for tx in range(b[0] // TILE, (b[1] - 1) // TILE + 1):
                        t = ty * tiles_x + tx
                        disc_out[next_out[t]] = i
                        next_out[t] = next_out[t] + wp.int64(1)

    return SimpleNamespace(count_tiles=count_tiles, fill_tiles=fill_tiles)
