"""Transfers of explicit MLS-MPM (APIC, quadratic B-splines) and their adjoints, for one step of a history.

Particle arrays that vary in time are two-dimensional, (slots, n): a kernel reads slot `clock[0]` and writes slot
`clock[1]`, so that the same captured launches serve every step; `clock[2]` is the number of the step. Grid arrays are
flat, one vec4 per node: momentum and mass, or velocity. Nodes live in blocks of 4x4x4, `active` marks the blocks that
particles touch: only those are swept, and each pass leaves the sums zero for the next. Nodes without mass keep what was
there: whatever reads them does so with weight zero.

Copies of the grid that know nothing of one another may follow one another along x, each with walls and rigid bodies;
`size` is that of one, and `copy` tells on which a particle is, or holds nothing where there is but one.

Where threads share the particles, each has sums and marks of its own, the rows of `grid` and `active`, since atomics of
Warp's CPU kernels are not atomic across threads; the sweep adds them in their order, so that bits repeat.

The adjoint of a scatter is a gather and the other way round, with the same weights:
g2p' scatters (v_bar, C_bar) as p2g scatters (m v, A); p2g' gathers as g2p does.

Source: Hu et al. 2018 (MLS-MPM); the semantics of walls follow Ma et al. 2023 (NCLaw), Sec. 3.
"""

# ruff: noqa: UP018, RUF046 -- int(0) declares a variable of a kernel, 0 a constant

import functools
from types import SimpleNamespace

import warp as wp

from .contact import functions as contact_functions
from .mpm_stencil import functions as stencil_functions

LEFT_GRID, BAD_STRESS, BAD_X, BAD_V, BAD_C, BAD_F = 1, 2, 3, 4, 5, 6  # codes in `flag`


@functools.cache
def kernels(real, wraps, packed=False, copies=False):
    """The kernels for `real` (wp.float32 or wp.float64), with periodic axes or (faster) without; `packed` as there."""
    f, c = stencil_functions(real, wraps, packed, copies), contact_functions(real)
    module = f.module
    vec3, vec4, mat33, array2d = f.vec3, f.vec4, f.mat33, wp.array2d
    weights = f.weights
    first_node = f.first_node
    nodes, nodes_along_x, within_copy = f.nodes, f.nodes_along_x, f.within_copy
    inside = f.inside
    raise_flag = f.raise_flag
    finite = f.finite
    mark = f.mark
    affine = f.affine
    acceleration = c.acceleration
    boundary_velocity = c.boundary_velocity
    interior = c.interior
    element, vec12 = f.element, f.vec12
    spread = f.spread
    gathered = f.gathered
    load = f.load
    add = f.add

    @wp.kernel(module=module, enable_backward=False)
    def tick(clock: wp.array(dtype=int), slots: int, by: int, active: wp.array(dtype=int)):
        """Advance (by = 1) or turn back (by = -1) the clock, and clear the marks."""
        block = wp.tid()
        active[block] = 0
        if block == 0:
            slot = (clock[0] + by + slots) % slots
            clock[0] = slot
            clock[1] = (slot + 1) % slots
            clock[2] = clock[2] + by

    @wp.kernel(module=module, enable_backward=False)
    def validate(
        # constants
        size: wp.vec3i,
        periodic: wp.vec3i,
        dx: real,
        clock: wp.array(dtype=int),
        # inputs
        x: array2d(dtype=vec3),
        v: array2d(dtype=vec3),
        C: array2d(dtype=mat33),
        F: array2d(dtype=mat33),
        # outputs
        flag_out: wp.array(dtype=int),
    ):
        """Record a particle that is off the grid or not finite, where no step follows that would."""
        p = wp.tid()
        t = clock[0]
        xp = x[t, p]
        vp = v[t, p]
        if not wp.isfinite(xp[0] + xp[1] + xp[2]):
            raise_flag(flag_out, BAD_X, clock[2], p)
        elif not wp.isfinite(vp[0] + vp[1] + vp[2]):
            raise_flag(flag_out, BAD_V, clock[2], p)
        elif not finite(C[t, p]):
            raise_flag(flag_out, BAD_C, clock[2], p)
        elif not finite(F[t, p]):
            raise_flag(flag_out, BAD_F, clock[2], p)
        elif not inside(xp / dx, size, periodic):
            raise_flag(flag_out, LEFT_GRID, clock[2], p)

    @wp.kernel(module=module, enable_backward=False)
    def p2g(
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
        tau: wp.array(dtype=mat33),
        # outputs
        grid_out: wp.array(dtype=element),
        active_out: wp.array(dtype=int),
        flag_out: wp.array(dtype=int),
    ):
        """Scatter momentum [kg m/s] and mass [kg]; the stress acts as an affine momentum -dt V 4/dx^2 tau."""
        p = wp.tid()
        t = clock[0]
        xp = x[t, p]
        vp = v[t, p]
        Cp = C[t, p]
        s = xp / dx
        if not finite(tau[p]):
            raise_flag(flag_out, BAD_STRESS, clock[2], p)
            return
        if not wp.isfinite(vp[0] + vp[1] + vp[2]):
            raise_flag(flag_out, BAD_V, clock[2], p)
            return
        if not finite(Cp):
            raise_flag(flag_out, BAD_C, clock[2], p)
            return
        if not inside(s, size, periodic):
            if wp.isfinite(xp[0] + xp[1] + xp[2]):
                raise_flag(flag_out, LEFT_GRID, clock[2], p)
            else:
                raise_flag(flag_out, BAD_X, clock[2], p)
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
        A = tau[p] * (-dt * volume[p] * real(4.0) / (dx * dx)) + Cp * m
        o, ax, ay, az = affine(A, vp * m, m, d, dx)
        value = spread(o * wz[0], (o + az) * wz[1], (o + az * real(2.0)) * wz[2])
        along_x = spread(ax * wz[0], ax * wz[1], ax * wz[2])
        along_y = spread(ay * wz[0], ay * wz[1], ay * wz[2])
        for i in range(3):
            row = ix[i] * size[1]
            u = value * wx[i]
            du = along_y * wx[i]
            add(grid_out, (row + iy[0]) * size[2], iz, u * wy[0])
            u = u + du
            add(grid_out, (row + iy[1]) * size[2], iz, u * wy[1])
            u = u + du
            add(grid_out, (row + iy[2]) * size[2], iz, u * wy[2])
            value = value + along_x

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
        table: wp.array3d(dtype=real),
        active: array2d(dtype=int),
        copies: int,
        # inputs and outputs
        grid: array2d(dtype=vec4),
        # outputs
        velocity_out: wp.array(dtype=vec4),
    ):
        """Velocity of each node [m/s] from momentum, gravity and boundaries, and its mass; zeroes the momentum.

        The blocks are every `stride`-th from `first`.
        """
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
                    for t in range(grid.shape[0]):
                        grid[t, node] = vec4()
                    u = fall + vec3(g[0], g[1], g[2]) / (g[3] + epsilon)
                    ijk = wp.vec3i(within_copy(i, size[0]), j, l)
                    if not interior(ijk, size, thickness, kinds):
                        u = boundary_velocity(u, ijk, size, dx, clock[2], faces, thickness, kinds, field, table)
                    velocity_out[node] = vec4(u[0], u[1], u[2], g[3])

    @wp.kernel(module=module, enable_backward=False)
    def g2p(
        # constants
        size: wp.vec3i,
        periodic: wp.vec3i,
        dx: real,
        dt: real,
        clock: wp.array(dtype=int),
        direct: int,
        copy: wp.array(dtype=int),
        # inputs
        x: array2d(dtype=vec3),
        F: array2d(dtype=mat33),
        velocity: wp.array(dtype=element),
        # outputs
        x_out: array2d(dtype=vec3),
        v_out: array2d(dtype=vec3),
        C_out: array2d(dtype=mat33),
        F_out: array2d(dtype=mat33),
        crowd_out: array2d(dtype=vec4),
    ):
        """Gather velocity and its gradient C [1/s], move particles, F_trial = (I + dt C) F.

        `direct` = 1 writes F_trial to slot clock[1] (no return map follows), 0 to slot 0 of a buffer. `crowd_out`,
        where it has slots, gets the slope of the nodes' mass [kg/m] and that mass [kg] at the particle, for `packing`.
        """
        p = wp.tid()
        t = clock[0]
        t1 = clock[1]
        xp = x[t, p]
        s = xp / dx
        if not inside(s, size, periodic):
            x_out[t1, p] = x[t, p]
            v_out[t1, p] = vec3()
            C_out[t1, p] = mat33()
            F_out[t1 * direct, p] = F[t, p]
            if crowd_out.shape[0] > 0:
                crowd_out[t, p] = vec4()
            return
        base = first_node(s)
        d = vec3(s[0] - real(base[0]), s[1] - real(base[1]), s[2] - real(base[2]))
        wx = weights(d[0])
        wy = weights(d[1])
        wz = weights(d[2])
        ix = nodes_along_x(base[0], size[0], periodic[0], copy, p)
        iy = nodes(base[1], size[1], periodic[1])
        iz = nodes(base[2], size[2], periodic[2])
        value = vec12()
        along_x = vec12()
        along_y = vec12()
        for i in range(3):
            row = ix[i] * size[1]
            a = load(velocity, (row + iy[0]) * size[2], iz) * (wx[i] * wy[0])
            b = load(velocity, (row + iy[1]) * size[2], iz) * (wx[i] * wy[1])
            c = load(velocity, (row + iy[2]) * size[2], iz) * (wx[i] * wy[2])
            along_y += b + c + c
            a = a + b + c
            value += a
            if i > 0:
                along_x += a
            if i > 1:
                along_x += a
        v = gathered(value, wz[0], wz[1], wz[2])
        r = real(4.0) / dx
        gx = (gathered(along_x, wz[0], wz[1], wz[2]) - v * d[0]) * r
        gy = (gathered(along_y, wz[0], wz[1], wz[2]) - v * d[1]) * r
        gz = (gathered(value, real(0.0), wz[1], wz[2] * real(2.0)) - v * d[2]) * r
        C = mat33(gx[0], gy[0], gz[0], gx[1], gy[1], gz[1], gx[2], gy[2], gz[2])
        vp = vec3(v[0], v[1], v[2])
        x_out[t1, p] = xp + vp * dt
        v_out[t1, p] = vp
        C_out[t1, p] = C
        Fp = F[t, p]
        F_out[t1 * direct, p] = Fp + C * Fp * dt
        if crowd_out.shape[0] > 0:
            crowd_out[t, p] = vec4(gx[3], gy[3], gz[3], v[3])

    return SimpleNamespace(tick=tick, validate=validate, p2g=p2g, grid_op=grid_op, g2p=g2p)
