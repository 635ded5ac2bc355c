"""Kernels that find which triangle each pixel shows, and where outlines pass between pixel centres. Forward only.

A corner is a row (x z, y z, z) of homogeneous pixel coordinates. Relative to a pixel, w = (x z, y z) - pixel z, the
triangle's barycentric coordinates are b_i = e_i / sum e with e_0 = w_1 x w_2 and so on, and its depth is sum b_i z_i;
where all e_i have the sign of the determinant, the pixel sees the triangle, even one that reaches behind the eye, so
that nothing needs clipping (Olano and Greer 1997, Triangle scan conversion using 2D homogeneous coordinates).

The nearest is found by the least of keys that hold depth above index, so that the result does not depend on the order.

Units: pixel coordinates [pixel], depth z [m].
"""

import functools
from types import SimpleNamespace

import warp as wp

DEPTH_STEPS = 1 << 30  # depths are told apart to this part of the largest
EMPTY = 0x7FFFFFFFFFFFFFFF  # key of a pixel or link that nothing touches


@functools.cache
def kernels(scalar: type) -> SimpleNamespace:
    """The kernels for wp.float32 or wp.float64."""
    module = wp.get_module(f"simengine.kernels.light.mesh_raster.{scalar.__name__}")
    module.options.update(enable_backward=False)
    kernel = functools.partial(wp.kernel, module=module, enable_backward=False)
    func = functools.partial(wp.func, module=module)

    vec2 = wp.types.vector(2, scalar)
    vec3 = wp.types.vector(3, scalar)
    mat33 = wp.types.matrix((3, 3), scalar)
    mat23 = wp.types.matrix((2, 3), scalar)
    zero, half, one = (wp.constant(scalar(value)) for value in (0.0, 0.5, 1.0))
    steps = wp.constant(scalar(DEPTH_STEPS))
    above = wp.constant(wp.int64(1 << 32))

    @func
    def key_of(z: scalar, farthest: scalar, index: int):
        return wp.int64(wp.min(z / farthest, one) * steps) * above + wp.int64(index)

    @func
    def relative(corner: vec3, x: scalar, y: scalar):
        return vec2(corner[0] - x * corner[2], corner[1] - y * corner[2])

    @func
    def cross2(a: vec2, b: vec2):
        return a[0] * b[1] - a[1] * b[0]

    @func
    def span(a: scalar, b: scalar, c: scalar, size: int):
        # first pixel whose centre is not before the least, and one past the last that is not behind the greatest
        low = wp.clamp(wp.min(a, wp.min(b, c)) - half, zero, scalar(size))
        high = wp.clamp(wp.max(a, wp.max(b, c)) - half, scalar(-1.0), scalar(size - 1))
        return int(wp.ceil(low)), int(wp.floor(high)) + 1

    @kernel
    def draw_triangles(
        # constants
        width: int,
        height: int,
        farthest: scalar,  # largest depth of a corner
        # inputs
        corners: wp.array(dtype=mat33),
        # outputs
        key_out: wp.array2d(dtype=wp.int64),  # starts at EMPTY
    ):
        face = wp.tid()
        M = corners[face]
        a = vec3(M[0, 0], M[0, 1], M[0, 2])
        b = vec3(M[1, 0], M[1, 1], M[1, 2])
        c = vec3(M[2, 0], M[2, 1], M[2, 2])
        left = 0
        right = width
        top = 0
        bottom = height
        if a[2] > zero and b[2] > zero and c[2] > zero:
            left, right = span(a[0] / a[2], b[0] / b[2], c[0] / c[2], width)
            top, bottom = span(a[1] / a[2], b[1] / b[2], c[1] / c[2], height)
        if a[2] <= zero and b[2] <= zero and c[2] <= zero:
            right = 0
        for row in range(top, bottom):
            y = scalar(row) + half
            for column in range(left, right):
                x = scalar(column) + half
                p = relative(a, x, y)
                q = relative(b, x, y)
                r = relative(c, x, y)
                e0 = cross2(q, r)
                e1 = cross2(r, p)
                e2 = cross2(p, q)
                total = e0 + e1 + e2
                if (e0 >= zero and e1 >= zero and e2 >= zero) or (e0 <= zero and e1 <= zero and e2 <= zero):
                    if total != zero:
                        z = (e0 * a[2] + e1 * b[2] + e2 * c[2]) / total
                        if z > zero:
                            wp.atomic_min(key_out, row, column, key_of(z, farthest, face))

    @kernel
    def draw_outlines(
        # constants
        width: int,
        height: int,
        farthest: scalar,
        # inputs
        edges: wp.array(dtype=mat23),  # ends of the outlines
        side: wp.array(dtype=scalar),  # sign of the determinant of an edge and its triangle's third corner
        covered: wp.array2d(dtype=wp.bool),
        depth: wp.array2d(dtype=scalar),  # at pixel centres; of no meaning where not covered
        # outputs
        down_out: wp.array2d(dtype=wp.int64),  # links of (row, column) and (row + 1, column), start at EMPTY
        across_out: wp.array2d(dtype=wp.int64),  # links of (row, column) and (row, column + 1)
    ):
        edge = wp.tid()
        E = edges[edge]
        a = vec3(E[0, 0], E[0, 1], E[0, 2])
        b = vec3(E[1, 0], E[1, 1], E[1, 2])
        # the part before the eye; what is nearer than a thousandth of the farther end fills the picture anyway
        near = scalar(1e-3) * wp.max(a[2], b[2])
        if near > zero and a[2] != b[2]:
            if a[2] < near:
                a = a + (near - a[2]) / (b[2] - a[2]) * (b - a)
            elif b[2] < near:
                b = b + (near - b[2]) / (a[2] - b[2]) * (a - b)
        if near > zero:
            ax = a[0] / a[2]
            ay = a[1] / a[2]
            bx = b[0] / b[2]
            by = b[1] / b[2]
            first, last = span(ax, bx, bx, width)
            for column in range(first, last):
                x = scalar(column) + half
                ua = a[0] - x * a[2]
                ub = b[0] - x * b[2]
                if (ua > zero) != (ub > zero):
                    z = (ua * b[2] - ub * a[2]) / (ua - ub)
                    y = (ua * b[1] - ub * a[1]) / (ua * b[2] - ub * a[2])
                    row = int(wp.floor(y - half))
                    if row >= 0 and row < height - 1:
                        # the inner pixel is the one on the side of the triangle
                        outer = row
                        inner = row + 1
                        if (ub * a[2] - ua * b[2]) * side[edge] < zero:
                            outer = row + 1
                            inner = row
                        if covered[inner, column] and not (covered[outer, column] and depth[outer, column] < z):
                            wp.atomic_min(down_out, row, column, key_of(z, farthest, edge))
            first, last = span(ay, by, by, height)
            for row in range(first, last):
                y = scalar(row) + half
                va = a[1] - y * a[2]
                vb = b[1] - y * b[2]
                if (va > zero) != (vb > zero):
                    z = (va * b[2] - vb * a[2]) / (va - vb)
                    x = (va * b[0] - vb * a[0]) / (va * b[2] - vb * a[2])
                    column = int(wp.floor(x - half))
                    if column >= 0 and column < width - 1:
                        outer = column
                        inner = column + 1
                        if (va * b[2] - vb * a[2]) * side[edge] < zero:
                            outer = column + 1
                            inner = column
                        if covered[row, inner] and not (covered[row, outer] and depth[row, outer] < z):
                            wp.atomic_min(across_out, row, column, key_of(z, farthest, edge))

    return SimpleNamespace(draw_triangles=draw_triangles, draw_outlines=draw_outlines)
