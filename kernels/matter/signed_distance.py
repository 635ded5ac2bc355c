"""Signed distance of rigid bodies of several shapes, its gradient and the adjoint, as Warp functions.

Shapes: the half space z < 0, balls, boxes, capsules along z, and fields: samples of the signed distance of a mesh [m]
in quadratic B-splines, so that the normal is continuous, on nodes that fill the box -size..size of the body's frame.
Row of `kinds` (body, 6): shape, contact, and of a field where its coefficients begin in `field` and their number along
each axis.
"""

# ruff: noqa: UP018 -- int(0) declares a variable of a kernel, 0 a constant

import functools
from types import SimpleNamespace

import warp as wp

from .svd import functions as matrix_functions

PLANE, SPHERE, BOX, CAPSULE, FIELD = 0, 1, 2, 3, 4
KIND_COLUMNS = 6


@functools.cache
def functions(real):
    """`distance` and `distance_adjoint` for wp.float32 or wp.float64."""
    f = matrix_functions(real)
    module, vec3, mat33 = f"simengine_{real.__name__}", f.vec3, f.mat33
    zero, one = real(0.0), real(1.0)

    @wp.func(module=module)
    def spline(d: real, h: real):
        # quadratic B-splines of three nodes a distance h apart: values, derivatives, second derivatives
        a = real(1.5) - d
        b = d - one
        c = d - real(0.5)
        half = real(0.5)
        i = one / h
        return mat33(
            half * a * a, real(0.75) - b * b, half * c * c,
            -a * i, real(-2.0) * b * i, c * i,
            i * i, real(-2.0) * i * i, i * i,
        )  # fmt: skip

    @wp.func(module=module, inline=False)
    def field_distance(y: vec3, size: vec3, b: int, kinds: wp.array2d(dtype=int), field: wp.array(dtype=real)):
        # value, gradient and Hessian of the field of body b; far away outside of its box
        n = wp.vec3i(kinds[b, 3], kinds[b, 4], kinds[b, 5])
        h = vec3(
            real(2.0) * size[0] / real(n[0] - 1),
            real(2.0) * size[1] / real(n[1] - 1),
            real(2.0) * size[2] / real(n[2] - 1),
        )
        s = wp.cw_div(y + size, h)
        inside = bool(True)
        for k in range(3):
            if s[k] < real(0.5) or s[k] >= real(n[k]) - real(1.5):
                inside = False
        phi = real(1.0e9)
        g = vec3()
        H = mat33()
        if inside:
            i = int(wp.floor(s[0] - real(0.5)))
            j = int(wp.floor(s[1] - real(0.5)))
            l = int(wp.floor(s[2] - real(0.5)))
            wx = spline(s[0] - real(i), h[0])
            wy = spline(s[1] - real(j), h[1])
            wz = spline(s[2] - real(l), h[2])
            phi = zero
            for a in range(3):
                for c in range(3):
                    start = kinds[b, 2] + ((i + a) * n[1] + j + c) * n[2] + l
                    z = wz * vec3(field[start], field[start + 1], field[start + 2])  # value and derivatives along z
                    phi += wx[0, a] * wy[0, c] * z[0]
                    g += vec3(wx[1, a] * wy[0, c] * z[0], wx[0, a] * wy[1, c] * z[0], wx[0, a] * wy[0, c] * z[1])
                    xy = wx[1, a] * wy[1, c] * z[0]
                    xz = wx[1, a] * wy[0, c] * z[1]
                    yz = wx[0, a] * wy[1, c] * z[1]
                    H += mat33(
                        wx[2, a] * wy[0, c] * z[0], xy, xz,
                        xy, wx[0, a] * wy[2, c] * z[0], yz,
                        xz, yz, wx[0, a] * wy[0, c] * z[2],
                    )  # fmt: skip
        return phi, g, H

    @wp.func(module=module)
    def distance(y: vec3, size: vec3, b: int, kinds: wp.array2d(dtype=int), field: wp.array(dtype=real)):
        # signed distance and outward normal in the frame of body b
        kind = kinds[b, 0]
        phi = y[2]
        g = vec3(zero, zero, one)
        if kind == SPHERE or kind == CAPSULE:
            q = y
            if kind == CAPSULE:
                q = vec3(y[0], y[1], y[2] - wp.clamp(y[2], -size[1], size[1]))
            length = wp.length(q)
            phi = length - size[0]
            if length > zero:
                g = q / length
        elif kind == BOX:
            a = vec3(wp.abs(y[0]), wp.abs(y[1]), wp.abs(y[2])) - size
            q = vec3(wp.max(a[0], zero), wp.max(a[1], zero), wp.max(a[2], zero))
            phi = wp.length(q)
            if phi > zero:
                g = q / phi
            else:
                phi = wp.max(a[0], wp.max(a[1], a[2]))
                g = vec3()
                if phi == a[0]:
                    g = vec3(one, zero, zero)
                elif phi == a[1]:
                    g = vec3(zero, one, zero)
                else:
                    g = vec3(zero, zero, one)
            g = vec3(
                wp.where(y[0] < zero, -g[0], g[0]),
                wp.where(y[1] < zero, -g[1], g[1]),
                wp.where(y[2] < zero, -g[2], g[2]),
            )
        elif kind == FIELD:
            value, slope, _H = field_distance(y, size, b, kinds, field)
            phi = value
            length = wp.length(slope)
            if length > zero:
                g = slope / length
        return phi, g

    @wp.func(module=module)
    def distance_adjoint(
        y: vec3,
        size: vec3,
        b: int,
        kinds: wp.array2d(dtype=int),
        field: wp.array(dtype=real),
        g: vec3,
        phi_bar: real,
        g_bar: vec3,
    ):
        # cotangent of y from those of the distance and of the normal g
        kind = kinds[b, 0]
        y_bar = g * phi_bar
        if kind == FIELD:
            _value, slope, H = field_distance(y, size, b, kinds, field)
            length = wp.length(slope)
            y_bar = slope * phi_bar
            if length > zero:
                y_bar += H * ((g_bar - g * wp.dot(g, g_bar)) / length)
        else:
            c = g_bar
            length = zero
            if kind == SPHERE:
                length = wp.length(y)
            elif kind == CAPSULE:
                z = y[2] - wp.clamp(y[2], -size[1], size[1])
                length = wp.length(vec3(y[0], y[1], z))
                if z == zero:
                    c = vec3(g_bar[0], g_bar[1], zero)
            elif kind == BOX:
                a = vec3(wp.abs(y[0]), wp.abs(y[1]), wp.abs(y[2])) - size
                q = vec3(wp.max(a[0], zero), wp.max(a[1], zero), wp.max(a[2], zero))
                length = wp.length(q)
                c = vec3(
                    wp.where(a[0] > zero, g_bar[0], zero),
                    wp.where(a[1] > zero, g_bar[1], zero),
                    wp.where(a[2] > zero, g_bar[2], zero),
                )
            if length > zero:
                y_bar += (c - g * wp.dot(g, c)) / length
        return y_bar

    return SimpleNamespace(vec3=vec3, mat33=mat33, distance=distance, distance_adjoint=distance_adjoint)
