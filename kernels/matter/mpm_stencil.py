"""The stencil of quadratic B-splines on the grid, rows of its nodes, marks of touched blocks, as Warp functions."""

# ruff: noqa: UP018 -- bool(True) declares a variable of a kernel, True a constant

import functools
from types import SimpleNamespace

import warp as wp

from ..cpu import cpu_module

BLOCK = 4  # nodes along a block's edge


def module_name(real, wraps, packed, copies, suffix=""):
    """The name of the module of kernels."""
    parts = ("_periodic" if wraps else "", "_packed" if packed else "", "_copies" if copies else "", suffix)
    name = f"simengine_mpm_{real.__name__}{''.join(parts)}"
    return cpu_module(name)


@functools.cache
def functions(real, wraps, packed, copies):
    """The functions for `real` (wp.float32 or wp.float64), with periodic axes or (faster) without, of one grid or more.

    A row is three nodes along z, four numbers each. `packed`: arrays of nodes are given as overlapping rows, so that
    one is a single load or store, the way of a CPU; not for periodic axes.
    """
    module = module_name(real, wraps, packed, copies)
    vec12 = wp.types.vector(12, real)
    vec3 = wp.types.vector(3, real)
    vec4 = wp.types.vector(4, real)
    mat33 = wp.types.matrix((3, 3), real)

    @wp.func(module=module)
    def weights(d: real):
        # the middle one so that they sum to 1 to the last bit: what mass and momentum lose is rounding there
        a = real(1.5) - d
        c = d - real(0.5)
        low = real(0.5) * a * a
        high = real(0.5) * c * c
        return vec3(low, real(1.0) - low - high, high)

    @wp.func(module=module)
    def slopes(d: real):
        return vec3(d - real(1.5), real(2.0) - real(2.0) * d, d - real(0.5))

    @wp.func(module=module)
    def first_node(s: vec3):
        # the lowest of the three nodes per axis, not wrapped
        h = real(0.5)
        return wp.vec3i(int(wp.floor(s[0] - h)), int(wp.floor(s[1] - h)), int(wp.floor(s[2] - h)))

    if wraps:

        @wp.func(module=module)
        def nodes(base: int, n: int, periodic: int):
            # the three nodes of an axis, modulo n where it is periodic
            k = base
            if periodic != 0:
                k = base % n
                if k < 0:
                    k += n
            return wp.vec3i(k, wp.where(k + 1 >= n, k + 1 - n, k + 1), wp.where(k + 2 >= n, k + 2 - n, k + 2))
    else:

        @wp.func(module=module)
        def nodes(base: int, n: int, periodic: int):
            return wp.vec3i(base, base + 1, base + 2)

    if copies:

        @wp.func(module=module)
        def nodes_along_x(base: int, n: int, periodic: int, copy: wp.array(dtype=int), p: int):
            # on the particle's copy of the grid
            own = nodes(base, n, periodic)
            first = copy[p] * n
            return wp.vec3i(own[0] + first, own[1] + first, own[2] + first)

        @wp.func(module=module)
        def within_copy(i: int, n: int):
            return i % n
    else:

        @wp.func(module=module)
        def nodes_along_x(base: int, n: int, periodic: int, copy: wp.array(dtype=int), p: int):
            return nodes(base, n, periodic)

        @wp.func(module=module)
        def within_copy(i: int, n: int):
            return i

    @wp.func(module=module)
    def spread(a: vec4, b: vec4, c: vec4):
        # a row
        return vec12(a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3])

    @wp.func(module=module)
    def gathered(s: vec12, a: real, b: real, c: real):
        # the weighted sum of the nodes of a row
        return vec4(
            a * s[0] + b * s[4] + c * s[8],
            a * s[1] + b * s[5] + c * s[9],
            a * s[2] + b * s[6] + c * s[10],
            a * s[3] + b * s[7] + c * s[11],
        )

    if packed:
        element = vec12

        @wp.func(module=module)
        def load(nodes: wp.array(dtype=vec12), row: int, z: wp.vec3i):
            return nodes[row + z[0]]

        @wp.func(module=module)
        def add(nodes: wp.array(dtype=vec12), row: int, z: wp.vec3i, value: vec12):
            nodes[row + z[0]] = nodes[row + z[0]] + value
    else:
        element = vec4

        @wp.func(module=module)
        def load(nodes: wp.array(dtype=vec4), row: int, z: wp.vec3i):
            return spread(nodes[row + z[0]], nodes[row + z[1]], nodes[row + z[2]])

        @wp.func(module=module)
        def add(nodes: wp.array(dtype=vec4), row: int, z: wp.vec3i, value: vec12):
            nodes[row + z[0]] += vec4(value[0], value[1], value[2], value[3])
            nodes[row + z[1]] += vec4(value[4], value[5], value[6], value[7])
            nodes[row + z[2]] += vec4(value[8], value[9], value[10], value[11])

    @wp.func(module=module)
    def inside(s: vec3, size: wp.vec3i, periodic: wp.vec3i):
        # every node of the stencil exists; false for NaN and for numbers no integer holds
        ok = bool(True)
        for a in range(3):
            t = s[a] - real(0.5)
            if periodic[a] == 0:
                if not (t >= real(0.0) and t < real(size[a] - 2)):
                    ok = False
            else:
                if not (wp.abs(t) < real(1.0e6)):
                    ok = False
        return ok

    @wp.func(module=module)
    def raise_flag(flag: wp.array(dtype=int), code: int, step: int, particle: int):
        if wp.atomic_cas(flag, 0, 0, code) == 0:
            flag[1] = step
            flag[2] = particle

    @wp.func(module=module)
    def finite(a: mat33):
        t = a[0, 0] + a[0, 1] + a[0, 2] + a[1, 0] + a[1, 1] + a[1, 2] + a[2, 0] + a[2, 1] + a[2, 2]
        return wp.isfinite(t)

    @wp.func(module=module)
    def mark(active: wp.array(dtype=int), size: wp.vec3i, x: wp.vec3i, y: wp.vec3i, z: wp.vec3i):
        # the blocks that the stencil touches
        ny = (size[1] + 3) >> 2
        nz = (size[2] + 3) >> 2
        x0 = (x[0] >> 2) * ny
        x1 = (x[2] >> 2) * ny
        y0 = y[0] >> 2
        y1 = y[2] >> 2
        z0 = z[0] >> 2
        z1 = z[2] >> 2
        active[(x0 + y0) * nz + z0] = 1
        active[(x0 + y0) * nz + z1] = 1
        active[(x0 + y1) * nz + z0] = 1
        active[(x0 + y1) * nz + z1] = 1
        active[(x1 + y0) * nz + z0] = 1
        active[(x1 + y0) * nz + z1] = 1
        active[(x1 + y1) * nz + z0] = 1
        active[(x1 + y1) * nz + z1] = 1

    @wp.func(module=module)
    def affine(A: mat33, q: vec3, m: real, d: vec3, dx: real):
        # q + A (x_i - x_p) as a field over the stencil: value at its first node and increments along the axes
        o = q - A * (d * dx)
        return (
            vec4(o[0], o[1], o[2], m),
            vec4(A[0, 0], A[1, 0], A[2, 0], real(0.0)) * dx,
            vec4(A[0, 1], A[1, 1], A[2, 1], real(0.0)) * dx,
            vec4(A[0, 2], A[1, 2], A[2, 2], real(0.0)) * dx,
        )

    return SimpleNamespace(
        module=module,
        element=element,
        vec12=vec12,
        spread=spread,
        gathered=gathered,
        load=load,
        add=add,
        vec3=vec3,
        vec4=vec4,
        mat33=mat33,
        weights=weights,
        slopes=slopes,
        first_node=first_node,
        nodes=nodes,
        nodes_along_x=nodes_along_x,
        within_copy=within_copy,
        inside=inside,
        raise_flag=raise_flag,
        finite=finite,
        mark=mark,
        affine=affine,
    )
