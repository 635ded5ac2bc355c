"""Integrals along straight lines through a grid of cells, each of one value: the exact length in every cell.

The walk from cell to cell is that of Amanatides and Woo 1987, A fast voxel traversal algorithm for ray tracing. The sum
is linear in the values, and its transpose takes the same walk.
"""

import functools

import warp as wp


@functools.cache
def kernel(scalar: type, transposed: bool) -> wp.Kernel:
    """The kernel for wp.float32 or wp.float64 values; the walk itself is in float64.

    Cell (i, j, k) is value (i n1 + j) n2 + k. Rays are given in cells: a point p + t v, t in the unit of lengths.

    Args:
        scalar: Type of the values.
        transposed: Whether each ray's value times its lengths is added to the cells, instead of the integral taken.
    """
    module = wp.get_module(f"simengine.kernels.light.line_integral.{scalar.__name__}.{transposed}")
    module.options.update(enable_backward=False, max_unroll=3)
    vec = wp.vec3d
    zero, never = wp.constant(wp.float64(0.0)), wp.constant(wp.float64(1e300))

    @wp.func(module=module)
    def enter(p: vec, v: vec, n: vec) -> wp.vec2d:
        """Where a ray enters and leaves the box [0, n]; nothing is inside where the first is not below the second."""
        near = -never
        far = never
        for k in range(3):
            if v[k] != zero:
                a = -p[k] / v[k]
                b = (n[k] - p[k]) / v[k]
                near = wp.max(near, wp.min(a, b))
                far = wp.min(far, wp.max(a, b))
            elif p[k] < zero or p[k] >= n[k]:
                far = -never
        return wp.vec2d(near, far)

    @wp.func(module=module)
    def first(x: wp.float64, n: int) -> int:
        return wp.min(wp.max(int(wp.floor(x)), 0), n - 1)

    @wp.func(module=module)
    def border(cell: int, p: wp.float64, v: wp.float64) -> wp.float64:
        """Where the ray leaves a cell along one axis."""
        if v > zero:
            return (wp.float64(cell + 1) - p) / v
        if v < zero:
            return (wp.float64(cell) - p) / v
        return never

    @wp.func(module=module)
    def apart(v: wp.float64) -> wp.float64:
        return wp.where(v != zero, wp.float64(1.0) / wp.abs(v), never)

    @wp.kernel(module=module, enable_backward=False)
    def line_integral(
        # constants
        n0: int,
        n1: int,
        n2: int,
        # inputs
        points: wp.array(dtype=vec),  # (ray,) [cells]
        directions: wp.array(dtype=vec),  # (ray,) [cells per length]
        # in, out; the other way round where transposed
        field: wp.array(dtype=scalar),  # (cell,)
        values: wp.array(dtype=scalar),  # (ray,)
    ):
        ray = wp.tid()
        p = points[ray]
        v = directions[ray]
        span = enter(p, v, vec(wp.float64(n0), wp.float64(n1), wp.float64(n2)))
        t = wp.float64(span[0])
        far = span[1]
        total = wp.float64(0.0)
        if t < far:
            i = int(first(p[0] + t * v[0], n0))
            j = int(first(p[1] + t * v[1], n1))
            k = int(first(p[2] + t * v[2], n2))
            # where the ray leaves the cell along each axis, and how far apart these places are
            a = wp.float64(border(i, p[0], v[0]))
            b = wp.float64(border(j, p[1], v[1]))
            c = wp.float64(border(k, p[2], v[2]))
            da = apart(v[0])
            db = apart(v[1])
            dc = apart(v[2])
            di = wp.where(v[0] > zero, 1, -1)
            dj = wp.where(v[1] > zero, 1, -1)
            dk = wp.where(v[2] > zero, 1, -1)
            while t < far and i >= 0 and j >= 0 and k >= 0 and i < n0 and j < n1 and k < n2:
                ahead = wp.min(wp.min(a, b), wp.min(c, far))
                length = wp.max(ahead - t, zero)
                cell = (i * n1 + j) * n2 + k
                if wp.static(transposed):
                    wp.atomic_add(field, cell, scalar(length) * values[ray])
                else:
                    total += length * wp.float64(field[cell])
                t = wp.max(ahead, t)
                if a <= b and a <= c:
                    i += di
                    a += da
                elif b <= c:
                    j += dj
                    b += db
                else:
                    k += dk
                    c += dc
        if wp.static(not transposed):
            values[ray] = scalar(total)

    return line_integral
