"""The adjoints of the transfers of `kernels/matter/mpm.py`, which see for the arrays.

A step back is `trial` (where a return map follows), `scatter_adjoint`, `grid_adjoint`, `gather_adjoint`: the grid is
computed again, never stored.
"""

# ruff: noqa: UP018, RUF046 -- int(0) declares a variable of a kernel, 0 a constant

import functools
from types import SimpleNamespace

import warp as wp

from .contact import functions as contact_functions
from .mpm_stencil import functions as stencil_functions
from .mpm_stencil import module_name


@functools.cache
def kernels(real, wraps, packed=False, copies=False):
    """The kernels for `real` (wp.float32 or wp.float64), with periodic axes or (faster) without; `packed` as there."""
    f, c = stencil_functions(real, wraps, packed, copies), contact_functions(real)
    module = module_name(real, wraps, packed, copies, "_adjoint")
    vec3, vec4, mat33, array2d = f.vec3, f.vec4, f.mat33, wp.array2d
    weights = f.weights
    slopes = f.slopes
    first_node = f.first_node
    nodes, nodes_along_x, within_copy = f.nodes, f.nodes_along_x, f.within_copy
    inside = f.inside
    mark = f.mark
    affine = f.affine
    element, vec12 = f.element, f.vec12
    spread = f.spread
    gathered = f.gathered
    load = f.load
    add = f.add
    acceleration = c.acceleration
    interior = c.interior
    boundary_velocity = c.boundary_velocity
    boundary_adjoint = c.boundary_adjoint

    @wp.func(module=module)
    def crowded(o: vec4, ax: vec4, ay: vec4, az: vec4, bar: vec4, d: vec3, dx: real):
        # beside the field of a velocity's cotangent that of the nodes' mass, of a slope of it and of itself
        r = real(4.0) / dx
        at = bar[3] - r * (bar[0] * d[0] + bar[1] * d[1] + bar[2] * d[2])
        return (
            o + vec4(real(0.0), real(0.0), real(0.0), at),
            ax + vec4(real(0.0), real(0.0), real(0.0), r * bar[0]),
            ay + vec4(real(0.0), real(0.0), real(0.0), r * bar[1]),
            az + vec4(real(0.0), real(0.0), real(0.0), r * bar[2]),
        )

    @wp.kernel(module=module, enable_backward=False)
    def trial(
        # constants
        dt: real,
        clock: wp.array(dtype=int),
        # inputs
        C_next: array2d(dtype=mat33),
        F: array2d(dtype=mat33),
        # outputs
        F_out: wp.array(dtype=mat33),
    ):
        """F_trial = (I + dt C) F once more, from the stored C of the step's end."""
        p = wp.tid()
        Fp = F[clock[0], p]
        F_out[p] = Fp + C_next[clock[1], p] * Fp * dt

    @wp.kernel(module=module, enable_backward=False)
    def scatter_adjoint(
        # constants
        size: wp.vec3i,
        periodic: wp.vec3i,
        dx: real,
        dt: real,
        clock: wp.array(dtype=int),
        mass: wp.array(dtype=real),
        volume: wp.array(dtype=real),
        copy: wp.array(dtype=int),
        # inputs
        x: array2d(dtype=vec3),
        v: array2d(dtype=vec3),
        C: array2d(dtype=mat33),
        F: array2d(dtype=mat33),
        tau: wp.array(dtype=mat33),
        x_bar: wp.array(dtype=vec3),
        F_bar: wp.array(dtype=mat33),
        crowd_bar: wp.array(dtype=vec4),
        # inputs and outputs
        v_bar: wp.array(dtype=vec3),
        C_bar: wp.array(dtype=mat33),
        # outputs
        grid_out: wp.array(dtype=element),
        grid_bar_out: wp.array(dtype=element),
        active_out: wp.array(dtype=int),
    ):
        """p2g again, and the adjoint of g2p with respect to the nodes' velocities and masses, in one sweep."""
        p = wp.tid()
        t = clock[0]
        s = x[t, p] / dx
        if not inside(s, size, periodic):
            return
        base = first_node(s)
        d = vec3(s[0] - real(base[0]), s[1] - real(base[1]), s[2] - real(base[2]))
        wx = weights(d[0])
        wy = weights(d[1])
        wz = weights(d[2])
        ix = nodes_along_x(base[0], size[0], periodic[0], copy, p)
        iy = nodes(base[1], size[1], periodic[1])
        iz = nodes(base[2], size[2], periodic[2])
        mark(active_out, size, ix, iy, iz)
        m = mass[p]
        A = tau[p] * (-dt * volume[p] * real(4.0) / (dx * dx)) + C[t, p] * m
        o, ax, ay, az = affine(A, v[t, p] * m, m, d, dx)
        vb = v_bar[p] + x_bar[p] * dt
        Cb = C_bar[p] + F_bar[p] * wp.transpose(F[t, p]) * dt
        v_bar[p] = vb
        C_bar[p] = Cb
        ob, bx, by, bz = affine(Cb * (real(4.0) / (dx * dx)), vb, real(0.0), d, dx)
        if crowd_bar.shape[0] > 0:
            ob, bx, by, bz = crowded(ob, bx, by, bz, crowd_bar[p], d, dx)
        value = spread(o * wz[0], (o + az) * wz[1], (o + az * real(2.0)) * wz[2])
        along_x = spread(ax * wz[0], ax * wz[1], ax * wz[2])
        along_y = spread(ay * wz[0], ay * wz[1], ay * wz[2])
        value_bar = spread(ob * wz[0], (ob + bz) * wz[1], (ob + bz * real(2.0)) * wz[2])
        along_x_bar = spread(bx * wz[0], bx * wz[1], bx * wz[2])
        along_y_bar = spread(by * wz[0], by * wz[1], by * wz[2])
        i = int(0)
        while i < 3:
            u = value * wx[i]
            u_bar = value_bar * wx[i]
            for j in range(3):
                row = (ix[i] * size[1] + iy[j]) * size[2]
                add(grid_out, row, iz, u * wy[j])
                add(grid_bar_out, row, iz, u_bar * wy[j])
                u = u + along_y * wx[i]
                u_bar = u_bar + along_y_bar * wx[i]
            value = value + along_x
            value_bar = value_bar + along_x_bar
            i += 1

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
        table: wp.array3d(dtype=real),
        active: array2d(dtype=int),
        copies: int,
        # inputs and outputs
        grid: array2d(dtype=vec4),
        grid_bar: array2d(dtype=vec4),
        # outputs
        velocity_out: wp.array(dtype=vec4),
        momentum_bar_out: wp.array(dtype=vec4),
        table_bar_out: wp.array3d(dtype=wp.float64),
    ):
        """Velocity of each node again, and the cotangents of its momentum and mass; zeroes both sums."""
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
        fall_bar = vec3()
        k = lane
        while k < 64:
            i = bx + (k >> 4)
            j = by + ((k >> 2) & 3)
            l = bz + (k & 3)
            k += lanes
            if i < size[0] * copies and j < size[1] and l < size[2]:
                node = (i * size[1] + j) * size[2] + l
                g = vec4()
                for t in range(grid.shape[0]):
                    g += grid[t, node]
                if g[3] > real(0.0):
                    v_bar = vec4()
                    for t in range(grid.shape[0]):
                        v_bar += grid_bar[t, node]
                        grid[t, node] = vec4()
                        grid_bar[t, node] = vec4()
                    ijk = wp.vec3i(within_copy(i, size[0]), j, l)
                    inverse = real(1.0) / (g[3] + epsilon)
                    free = vec3(g[0], g[1], g[2]) * inverse
                    u = free + fall
                    u_bar = vec3(v_bar[0], v_bar[1], v_bar[2])
                    if not interior(ijk, size, thickness, kinds):
                        u_bar = boundary_adjoint(
                            u, u_bar, ijk, size, dx, clock[2], faces, thickness, kinds, field, table, table_bar_out
                        )
                        u = boundary_velocity(u, ijk, size, dx, clock[2], faces, thickness, kinds, field, table)
                    velocity_out[node] = vec4(u[0], u[1], u[2], g[3])
                    fall_bar += u_bar
                    u_bar = u_bar * inverse
                    momentum_bar_out[node] = vec4(u_bar[0], u_bar[1], u_bar[2], v_bar[3] - wp.dot(u_bar, free))
        row = wp.min(clock[2], table.shape[0] - 1)
        for a in range(3):
            wp.atomic_add(table_bar_out, row, 0, 6 + a, wp.float64(fall_bar[a] * dt))

    @wp.kernel(module=module, enable_backward=False)
    def gather_adjoint(
        # constants
        size: wp.vec3i,
        periodic: wp.vec3i,
        dx: real,
        dt: real,
        clock: wp.array(dtype=int),
        mass: wp.array(dtype=real),
        volume: wp.array(dtype=real),
        copy: wp.array(dtype=int),
        # inputs
        x: array2d(dtype=vec3),
        v: array2d(dtype=vec3),
        C: array2d(dtype=mat33),
        C_next: array2d(dtype=mat33),
        tau: wp.array(dtype=mat33),
        velocity: wp.array(dtype=element),
        momentum_bar: wp.array(dtype=element),
        crowd_bar: wp.array(dtype=vec4),
        # inputs and outputs: cotangents of the step's end, turned into those of its beginning
        x_bar: wp.array(dtype=vec3),
        v_bar: wp.array(dtype=vec3),
        C_bar: wp.array(dtype=mat33),
        F_bar: wp.array(dtype=mat33),
        # outputs
        tau_bar_out: wp.array(dtype=mat33),
        body_bar_out: array2d(dtype=wp.float64),
    ):
        """The adjoint of p2g, and that of the weights of both transfers; adds to body_bar (mass, volume)."""
        p = wp.tid()
        t = clock[0]
        s = x[t, p] / dx
        if not inside(s, size, periodic):
            tau_bar_out[p] = mat33()
            return
        base = first_node(s)
        d = vec3(s[0] - real(base[0]), s[1] - real(base[1]), s[2] - real(base[2]))
        wx = weights(d[0])
        wy = weights(d[1])
        wz = weights(d[2])
        dwx = slopes(d[0])
        dwy = slopes(d[1])
        dwz = slopes(d[2])
        ix = nodes_along_x(base[0], size[0], periodic[0], copy, p)
        iy = nodes(base[1], size[1], periodic[1])
        iz = nodes(base[2], size[2], periodic[2])
        m = mass[p]
        stress_factor = -dt * volume[p] * real(4.0) / (dx * dx)
        A = tau[p] * stress_factor + C[t, p] * m
        o, ax, ay, az = affine(A, v[t, p] * m, m, d, dx)
        vb = v_bar[p]
        B = C_bar[p] * (real(4.0) / (dx * dx))
        ob, bx, by, bz = affine(B, vb, real(0.0), d, dx)
        if crowd_bar.shape[0] > 0:
            ob, bx, by, bz = crowded(ob, bx, by, bz, crowd_bar[p], d, dx)
        field_g = spread(o, o + az, o + az * real(2.0))  # what p2g scatters, before the weights; g2p' below
        field_v = spread(ob, ob + bz, ob + bz * real(2.0))
        step_gx = spread(ax, ax, ax)
        step_gy = spread(ay, ay, ay)
        step_vx = spread(bx, bx, bx)
        step_vy = spread(by, by, by)
        row_v = vec12()  # sums over the rows of w v_i, of w g_i (g_i: cotangent of momentum and mass of node i) ...
        row_g = vec12()
        row_gx = vec12()  # ... and of its first moments
        row_gy = vec12()
        row_x = vec12()  # cotangents of x through the weights, by component
        row_y = vec12()
        row_z = vec12()
        i = int(0)
        while i < 3:  # not unrolled: the code of nine rows at once compiles for seconds
            now_g = field_g
            now_v = field_v
            for j in range(3):
                row = (ix[i] * size[1] + iy[j]) * size[2]
                v_i = load(velocity, row, iz)
                g_i = load(momentum_bar, row, iz)
                share = wp.cw_mul(g_i, now_g) + wp.cw_mul(v_i, now_v)
                w = wx[i] * wy[j]
                row_x += share * (dwx[i] * wy[j])
                row_y += share * (wx[i] * dwy[j])
                row_z += share * w
                row_v += v_i * w
                g_i = g_i * w
                row_g += g_i
                row_gx += g_i * real(i)
                row_gy += g_i * real(j)
                now_g = now_g + step_gy
                now_v = now_v + step_vy
            field_g = field_g + step_gx
            field_v = field_v + step_vx
            i += 1
        sum_v = gathered(row_v, wz[0], wz[1], wz[2])
        sum_g = gathered(row_g, wz[0], wz[1], wz[2])
        gx = (gathered(row_gx, wz[0], wz[1], wz[2]) - sum_g * d[0]) * dx
        gy = (gathered(row_gy, wz[0], wz[1], wz[2]) - sum_g * d[1]) * dx
        gz = (gathered(row_g, real(0.0), wz[1], wz[2] * real(2.0)) - sum_g * d[2]) * dx
        px = gathered(row_x, wz[0], wz[1], wz[2])
        py = gathered(row_y, wz[0], wz[1], wz[2])
        pz = gathered(row_z, dwz[0], dwz[1], dwz[2])
        A_bar = mat33(gx[0], gy[0], gz[0], gx[1], gy[1], gz[1], gx[2], gy[2], gz[2])
        g = vec3(sum_g[0], sum_g[1], sum_g[2])
        body_bar_out[p, 0] += wp.float64(wp.dot(g, v[t, p]) + sum_g[3] + wp.ddot(A_bar, C[t, p]))
        body_bar_out[p, 1] += wp.float64(-dt * real(4.0) / (dx * dx) * wp.ddot(A_bar, tau[p]))
        tau_bar_out[p] = A_bar * stress_factor
        u = vec3(sum_v[0], sum_v[1], sum_v[2])
        one = vec4(real(1.0), real(1.0), real(1.0), real(1.0))
        along_x = vec3(wp.dot(px, one), wp.dot(py, one), wp.dot(pz, one))
        x_bar[p] = x_bar[p] + along_x / dx - wp.transpose(A) * g - wp.transpose(B) * u
        if crowd_bar.shape[0] > 0:
            slope_bar = vec3(crowd_bar[p][0], crowd_bar[p][1], crowd_bar[p][2])
            x_bar[p] = x_bar[p] - slope_bar * (sum_v[3] * real(4.0) / (dx * dx))
        v_bar[p] = g * m
        C_bar[p] = A_bar * m
        F_bar[p] = F_bar[p] + wp.transpose(C_next[clock[1], p]) * F_bar[p] * dt

    return SimpleNamespace(
        trial=trial, scatter_adjoint=scatter_adjoint, grid_adjoint=grid_adjoint, gather_adjoint=gather_adjoint
    )
