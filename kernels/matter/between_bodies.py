"""The sweep over the grid where deformable bodies have velocity fields of their own, and its adjoint.

Sums have a row per thread and body, (threads, bodies, nodes): momentum and mass as of one body, and moments of volume,
G and V, scattered by the same transfers, of which `pair_contact` tells bodies apart. The rest is as in `mpm`, for each
body by itself.
"""

# ruff: noqa: UP018, RUF046 -- int(0) declares a variable of a kernel, 0 a constant

import functools
from types import SimpleNamespace

import warp as wp

from ..cpu import cpu_module
from .contact import COLUMNS
from .contact import functions as contact_functions
from .pair_contact import NONE
from .pair_contact import functions as pair_functions


@functools.cache
def kernels(real):
    """Kernels `grid_op` and `grid_adjoint` of several bodies for wp.float32 or wp.float64."""
    c, f = contact_functions(real), pair_functions(real)
    module = cpu_module(f"simengine_between_bodies_{real.__name__}")
    vec3, vec4, array2d, array3d = f.vec3, f.vec4, wp.array2d, wp.array3d
    first3, change, change_adjoint = f.first3, f.change, f.change_adjoint
    acceleration, boundary_velocity, boundary_adjoint = c.acceleration, c.boundary_velocity, c.boundary_adjoint
    interior = c.interior
    zero, one, three = real(0.0), real(1.0), real(3.0)

    @wp.func(module=module)
    def place_of(number: int, k: int, count: int, kinds: array2d(dtype=int)):
        # the row of the table with friction (0), margin (1) or stiffness (2) of a pair
        return 1 + kinds.shape[0] + number * ((count + COLUMNS - 1) // COLUMNS) + k // COLUMNS

    @wp.func(module=module)
    def numbers_of(k: int, count: int, row: int, kinds: array2d(dtype=int), table: array3d(dtype=real)):
        return vec3(
            table[row, place_of(0, k, count, kinds), k % COLUMNS],
            table[row, place_of(1, k, count, kinds), k % COLUMNS],
            table[row, place_of(2, k, count, kinds), k % COLUMNS],
        )

    @wp.func(module=module, inline=False)
    def settle(
        node: int,
        count: int,
        row: int,
        rest: real,
        epsilon: real,
        fall: vec3,
        pairs: array2d(dtype=int),
        kinds: array2d(dtype=int),
        table: array3d(dtype=real),
        grid: array3d(dtype=vec4),
        moments: array3d(dtype=vec4),
        velocity: array2d(dtype=vec4),
    ):
        # velocities of all bodies at a node, and masses beside them, after the first `count` pairs
        present = int(0)
        for k in range(velocity.shape[0]):
            g = grid[0, k, node]
            u = fall
            if g[3] > zero:
                u += first3(g) / (g[3] + epsilon)
                present += 1
            velocity[k, node] = vec4(u[0], u[1], u[2], g[3])
        if present > 1:
            for k in range(count):
                a = pairs[k, 0]
                b = pairs[k, 1]
                ua = velocity[a, node]
                ub = velocity[b, node]
                mode = pairs[k, 2]
                if mode != NONE and ua[3] > zero and ub[3] > zero:
                    own = numbers_of(k, pairs.shape[0], row, kinds, table)
                    push = rest * own[2] * (one / ua[3] + one / ub[3])
                    w = first3(ub) - first3(ua)
                    step = change(w, moments[0, a, node], moments[0, b, node], mode, own[0], own[1], push)
                    left = step * (-ub[3] / (ua[3] + ub[3]))
                    right = step * (ua[3] / (ua[3] + ub[3]))
                    velocity[a, node] = ua + vec4(left[0], left[1], left[2], zero)
                    velocity[b, node] = ub + vec4(right[0], right[1], right[2], zero)
        return present

    @wp.func(module=module)
    def collect(node: int, scale: real, sums: array3d(dtype=vec4)):
        # what the threads have added, into the first of them; times a power of the scale, one more for the moments
        for k in range(sums.shape[1]):
            g = vec4()
            for t in range(sums.shape[0]):
                g += sums[t, k, node]
                sums[t, k, node] = vec4()
            sums[0, k, node] = g * scale

    @wp.func(module=module)
    def in_cells(node: int, dx: real, moments: array3d(dtype=vec4)):
        # volume and moments in units of a cell
        collect(node, one / (dx * dx * dx * dx), moments)
        for k in range(moments.shape[1]):
            c = moments[0, k, node]
            moments[0, k, node] = vec4(c[0], c[1], c[2], c[3] * dx)

    @wp.func(module=module)
    def forget(node: int, sums: array3d(dtype=vec4)):
        for k in range(sums.shape[1]):
            sums[0, k, node] = vec4()

    @wp.kernel(module=module, enable_backward=False)
    def grid_op(
        # constants
        size: wp.vec3i,
        lanes: int,
        first: int,
        stride: int,
        dx: real,
        dt: real,
        epsilon: real,
        gravity: vec3,
        clock: wp.array(dtype=int),
        faces: wp.array(dtype=int),
        thickness: int,
        kinds: array2d(dtype=int),
        field: wp.array(dtype=real),
        table: array3d(dtype=real),
        active: array2d(dtype=int),
        pairs: array2d(dtype=int),
        # inputs and outputs
        grid: array3d(dtype=vec4),
        moments: array3d(dtype=vec4),
        # outputs
        velocity_out: array2d(dtype=vec4),
    ):
        """Velocity of each body at each node [m/s], with contact between them, and its mass; zeroes the sums."""
        index, lane = wp.tid()
        block = first + index * stride
        touched = int(0)
        for t in range(active.shape[0]):
            touched += active[t, block]
        if touched == 0:
            return
        ny = (size[1] + 3) >> 2
        nz = (size[2] + 3) >> 2
        bx = (block // (ny * nz)) * 4
        by = ((block // nz) % ny) * 4
        bz = (block % nz) * 4
        fall = acceleration(gravity, table, clock[2]) * dt
        row = wp.min(clock[2], table.shape[0] - 1)
        rest = three * dx * dx * dt
        k = lane
        while k < 64:
            i = bx + (k >> 4)
            j = by + ((k >> 2) & 3)
            l = bz + (k & 3)
            k += lanes
            if i < size[0] and j < size[1] and l < size[2]:
                node = (i * size[1] + j) * size[2] + l
                ijk = wp.vec3i(i, j, l)
                collect(node, one, grid)
                in_cells(node, dx, moments)
                settle(
                    node, pairs.shape[0], row, rest, epsilon, fall, pairs, kinds, table, grid, moments,
                    velocity_out,
                )  # fmt: skip
                free = interior(ijk, size, thickness, kinds)
                for b in range(velocity_out.shape[0]):
                    u = first3(velocity_out[b, node])
                    if not free:
                        u = boundary_velocity(u, ijk, size, dx, clock[2], faces, thickness, kinds, field, table)
                    velocity_out[b, node] = vec4(u[0], u[1], u[2], grid[0, b, node][3])
                forget(node, grid)
                forget(node, moments)

    @wp.kernel(module=module, enable_backward=False)
    def grid_adjoint(
        # constants
        size: wp.vec3i,
        lanes: int,
        first: int,
        stride: int,
        dx: real,
        dt: real,
        epsilon: real,
        gravity: vec3,
        clock: wp.array(dtype=int),
        faces: wp.array(dtype=int),
        thickness: int,
        kinds: array2d(dtype=int),
        field: wp.array(dtype=real),
        table: array3d(dtype=real),
        active: array2d(dtype=int),
        pairs: array2d(dtype=int),
        # inputs and outputs
        grid: array3d(dtype=vec4),
        moments: array3d(dtype=vec4),
        grid_bar: array3d(dtype=vec4),
        # outputs
        velocity_out: array2d(dtype=vec4),
        momentum_bar_out: array2d(dtype=vec4),
        moments_bar_out: array2d(dtype=vec4),
        table_bar_out: array3d(dtype=wp.float64),
    ):
        """Velocities again, and cotangents of momenta and masses, and of the moments; zeroes the sums."""
        index, lane = wp.tid()
        block = first + index * stride
        touched = int(0)
        for t in range(active.shape[0]):
            touched += active[t, block]
        if touched == 0:
            return
        ny = (size[1] + 3) >> 2
        nz = (size[2] + 3) >> 2
        bx = (block // (ny * nz)) * 4
        by = ((block // nz) % ny) * 4
        bz = (block % nz) * 4
        fall = acceleration(gravity, table, clock[2]) * dt
        row = wp.min(clock[2], table.shape[0] - 1)
        rest = three * dx * dx * dt
        fall_bar = vec3()
        in3 = one / (dx * dx * dx)
        l0 = lane
        while l0 < 64:
            i = bx + (l0 >> 4)
            j = by + ((l0 >> 2) & 3)
            l = bz + (l0 & 3)
            l0 += lanes
            if i < size[0] and j < size[1] and l < size[2]:
                node = (i * size[1] + j) * size[2] + l
                ijk = wp.vec3i(i, j, l)
                collect(node, one, grid)
                collect(node, one, grid_bar)
                in_cells(node, dx, moments)
                present = settle(
                    node, pairs.shape[0], row, rest, epsilon, fall, pairs, kinds, table, grid, moments,
                    velocity_out,
                )  # fmt: skip
                free = interior(ijk, size, thickness, kinds)
                for b in range(velocity_out.shape[0]):
                    u = first3(velocity_out[b, node])
                    u_bar = first3(grid_bar[0, b, node])
                    if not free:
                        u_bar = boundary_adjoint(
                            u, u_bar, ijk, size, dx, clock[2], faces, thickness, kinds, field, table, table_bar_out
                        )
                    momentum_bar_out[b, node] = vec4(u_bar[0], u_bar[1], u_bar[2], grid_bar[0, b, node][3])
                    moments_bar_out[b, node] = vec4()
                k = pairs.shape[0] - 1
                if present < 2:
                    k = -1
                while k >= 0:
                    a = pairs[k, 0]
                    b = pairs[k, 1]
                    mode = pairs[k, 2]
                    settle(node, k, row, rest, epsilon, fall, pairs, kinds, table, grid, moments, velocity_out)
                    ua = velocity_out[a, node]
                    ub = velocity_out[b, node]
                    if mode != NONE and ua[3] > zero and ub[3] > zero:
                        own = numbers_of(k, pairs.shape[0], row, kinds, table)
                        w = first3(ub) - first3(ua)
                        total = ua[3] + ub[3]
                        la = -ub[3] / total
                        lb = ua[3] / total
                        ua_bar = momentum_bar_out[a, node]
                        ub_bar = momentum_bar_out[b, node]
                        light = one / ua[3] + one / ub[3]
                        push = rest * own[2] * light
                        step = change(w, moments[0, a, node], moments[0, b, node], mode, own[0], own[1], push)
                        share_bar = wp.dot(step, first3(ua_bar) + first3(ub_bar)) / (total * total)
                        w_bar, a_bar, b_bar, own_bar = change_adjoint(
                            w, moments[0, a, node], moments[0, b, node], mode, own[0], own[1], push,
                            first3(ua_bar) * la + first3(ub_bar) * lb,
                        )  # fmt: skip
                        light_bar = own_bar[2] * rest * own[2]  # of the sum of the inverse masses
                        ua_bar += vec4(-w_bar[0], -w_bar[1], -w_bar[2], share_bar * ub[3] - light_bar / (ua[3] * ua[3]))
                        ub_bar += vec4(w_bar[0], w_bar[1], w_bar[2], -share_bar * ua[3] - light_bar / (ub[3] * ub[3]))
                        momentum_bar_out[a, node] = ua_bar
                        momentum_bar_out[b, node] = ub_bar
                        moments_bar_out[a, node] = moments_bar_out[a, node] + a_bar
                        moments_bar_out[b, node] = moments_bar_out[b, node] + b_bar
                        own_bar[2] = own_bar[2] * rest * light
                        for number in range(3):
                            wp.atomic_add(
                                table_bar_out,
                                row, place_of(number, k, pairs.shape[0], kinds), k % COLUMNS,
                                wp.float64(own_bar[number]),
                            )  # fmt: skip
                    k -= 1
                settle(
                    node, pairs.shape[0], row, rest, epsilon, fall, pairs, kinds, table, grid, moments,
                    velocity_out,
                )  # fmt: skip
                for b in range(velocity_out.shape[0]):
                    u = first3(velocity_out[b, node])
                    if not free:
                        u = boundary_velocity(u, ijk, size, dx, clock[2], faces, thickness, kinds, field, table)
                    velocity_out[b, node] = vec4(u[0], u[1], u[2], grid[0, b, node][3])
                    bar = momentum_bar_out[b, node]
                    fall_bar += first3(bar)
                    g = grid[0, b, node]
                    inverse = zero
                    if g[3] > zero:
                        inverse = one / (g[3] + epsilon)
                    u_bar = first3(bar) * inverse
                    mass_bar = bar[3] - wp.dot(u_bar, first3(g)) * inverse
                    momentum_bar_out[b, node] = vec4(u_bar[0], u_bar[1], u_bar[2], mass_bar)
                    c_bar = moments_bar_out[b, node] * in3
                    moments_bar_out[b, node] = vec4(c_bar[0] / dx, c_bar[1] / dx, c_bar[2] / dx, c_bar[3])
                forget(node, grid)
                forget(node, moments)
                forget(node, grid_bar)
        for axis in range(3):
            wp.atomic_add(table_bar_out, row, 0, 6 + axis, wp.float64(fall_bar[axis] * dt))

    return SimpleNamespace(grid_op=grid_op, grid_adjoint=grid_adjoint)
