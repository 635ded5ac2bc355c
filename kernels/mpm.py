"""Transfers of explicit MLS-MPM (APIC, quadratic B-splines) and their adjoints, for one step of a history.

Particle arrays that vary in time are two-dimensional, (slots, n): a kernel reads slot `clock[0]` and writes slot
`clock[1]`, so that the same captured launches serve every step; `clock[2]` is the number of the step. Grid arrays are
flat, one vec4 per node: momentum and mass, or velocity. Nodes live in blocks of 4x4x4, `active` marks the blocks that
particles touch: only those are swept, and each pass leaves grid and marks zero for the next.

The adjoint of a scatter is a gather and the other way round, with the same weights:
g2p' scatters (v_bar, C_bar) as p2g scatters (m v, A); p2g' gathers as g2p does.

Source: Hu et al. 2018 (MLS-MPM); the semantics of walls follow Ma et al. 2023 (NCLaw), Sec. 3.
"""

# ruff: noqa: UP018, RUF046 -- int(0) declares a variable of a kernel, 0 a constant

import functools
from types import SimpleNamespace

import warp as wp

from .contact import functions as contact_functions

BLOCK = 4  # nodes along a block's edge
LEFT_GRID, BAD_STRESS, BAD_X, BAD_V, BAD_C, BAD_F = 1, 2, 3, 4, 5, 6  # codes in `flag`


@functools.cache
def kernels(real, wraps):
    """The kernels for `real` (wp.float32 or wp.float64), with periodic axes or (faster) without."""
    f = contact_functions(real)
    module = f"simengine_mpm_{real.__name__}{'_periodic' if wraps else ''}"
    vec3, mat33, vec4 = f.vec3, f.mat33, wp.types.vector(4, real)
    boundary_velocity, boundary_adjoint = f.boundary_velocity, f.boundary_adjoint
    array2d = wp.array2d

    @wp.func(module=module)
    def weights(d: real):
        a = real(1.5) - d
        b = d - real(1.0)
        c = d - real(0.5)
        return vec3(real(0.5) * a * a, real(0.75) - b * b, real(0.5) * c * c)

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
    def mark(active: wp.array(dtype=int), size: wp.vec3i, x: wp.vec3i, y: wp.vec3i, z: wp.vec3i, value: int):
        ny = (size[1] + 3) >> 2
        nz = (size[2] + 3) >> 2
        x0 = (x[0] >> 2) * ny
        x1 = (x[2] >> 2) * ny
        y0 = y[0] >> 2
        y1 = y[2] >> 2
        z0 = z[0] >> 2
        z1 = z[2] >> 2
        active[(x0 + y0) * nz + z0] = value
        active[(x0 + y0) * nz + z1] = value
        active[(x0 + y1) * nz + z0] = value
        active[(x0 + y1) * nz + z1] = value
        active[(x1 + y0) * nz + z0] = value
        active[(x1 + y0) * nz + z1] = value
        active[(x1 + y1) * nz + z0] = value
        active[(x1 + y1) * nz + z1] = value

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

    @wp.kernel(module=module, enable_backward=False)
    def tick(clock: wp.array(dtype=int), slots: int, by: int):
        """Advance (by = 1) or turn back (by = -1) the clock."""
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
        # inputs
        x: array2d(dtype=vec3),
        v: array2d(dtype=vec3),
        C: array2d(dtype=mat33),
        tau: wp.array(dtype=mat33),
        # outputs
        grid_out: wp.array(dtype=vec4),
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
        ix = nodes(base[0], size[0], periodic[0])
        iy = nodes(base[1], size[1], periodic[1])
        iz = nodes(base[2], size[2], periodic[2])
        mark(active_out, size, ix, iy, iz, 1)
        m = mass[p]
        A = tau[p] * (-dt * volume[p] * real(4.0) / (dx * dx)) + Cp * m
        o, ax, ay, az = affine(A, vp * m, m, d, dx)
        for i in range(3):
            for j in range(3):
                w = wx[i] * wy[j]
                row = (ix[i] * size[1] + iy[j]) * size[2]
                a = (o + ax * real(i) + ay * real(j)) * w
                b = az * w
                grid_out[row + iz[0]] += a * wz[0]
                grid_out[row + iz[1]] += (a + b) * wz[1]
                grid_out[row + iz[2]] += (a + b * real(2.0)) * wz[2]

    @wp.kernel(module=module, enable_backward=False)
    def grid_op(
        # constants
        size: wp.vec3i,
        lanes: int,
        dx: real,
        dt: real,
        epsilon: real,
        gravity: vec3,
        clock: wp.array(dtype=int),
        faces: wp.array(dtype=int),
        thickness: int,
        kinds: array2d(dtype=int),
        table: wp.array3d(dtype=real),
        active: wp.array(dtype=int),
        # inputs and outputs
        grid: wp.array(dtype=vec4),
        # outputs
        velocity_out: wp.array(dtype=vec4),
    ):
        """Velocity of each node [m/s] from momentum, gravity and boundaries; zeroes the momentum."""
        block, lane = wp.tid()
        if active[block] == 0:
            return
        ny = (size[1] + 3) >> 2
        nz = (size[2] + 3) >> 2
        bx = (block // (ny * nz)) * 4
        by = ((block // nz) % ny) * 4
        bz = (block % nz) * 4
        k = lane
        while k < 64:
            i = bx + (k >> 4)
            j = by + ((k >> 2) & 3)
            l = bz + (k & 3)
            k += lanes
            if i < size[0] and j < size[1] and l < size[2]:
                node = (i * size[1] + j) * size[2] + l
                g = grid[node]
                u = gravity * dt
                if g[3] > real(0.0):
                    u += vec3(g[0], g[1], g[2]) / (g[3] + epsilon)
                u = boundary_velocity(u, wp.vec3i(i, j, l), size, dx, clock[2], faces, thickness, kinds, table)
                velocity_out[node] = vec4(u[0], u[1], u[2], real(0.0))
                grid[node] = vec4()

    @wp.kernel(module=module, enable_backward=False)
    def g2p(
        # constants
        size: wp.vec3i,
        periodic: wp.vec3i,
        dx: real,
        dt: real,
        clock: wp.array(dtype=int),
        direct: int,
        # inputs
        x: array2d(dtype=vec3),
        F: array2d(dtype=mat33),
        velocity: wp.array(dtype=vec4),
        # outputs
        x_out: array2d(dtype=vec3),
        v_out: array2d(dtype=vec3),
        C_out: array2d(dtype=mat33),
        F_out: array2d(dtype=mat33),
        active_out: wp.array(dtype=int),
    ):
        """Gather velocity and its gradient C [1/s], move particles, F_trial = (I + dt C) F.

        `direct` = 1 writes F_trial to slot clock[1] (no return map follows), 0 to slot 0 of a buffer.
        """
        p = wp.tid()
        t = clock[0]
        t1 = clock[1]
        s = x[t, p] / dx
        if not inside(s, size, periodic):
            x_out[t1, p] = x[t, p]
            v_out[t1, p] = vec3()
            C_out[t1, p] = mat33()
            F_out[t1 * direct, p] = F[t, p]
            return
        base = first_node(s)
        d = vec3(s[0] - real(base[0]), s[1] - real(base[1]), s[2] - real(base[2]))
        wx = weights(d[0])
        wy = weights(d[1])
        wz = weights(d[2])
        ix = nodes(base[0], size[0], periodic[0])
        iy = nodes(base[1], size[1], periodic[1])
        iz = nodes(base[2], size[2], periodic[2])
        v = vec4()
        gx = vec4()
        gy = vec4()
        gz = vec4()
        for i in range(3):
            for j in range(3):
                w = wx[i] * wy[j]
                row = (ix[i] * size[1] + iy[j]) * size[2]
                b = velocity[row + iz[1]] * wz[1]
                c = velocity[row + iz[2]] * wz[2]
                a = (velocity[row + iz[0]] * wz[0] + b + c) * w
                v += a
                gx += a * real(i)
                gy += a * real(j)
                gz += (b + c * real(2.0)) * w
        r = real(4.0) / dx
        gx = (gx - v * d[0]) * r
        gy = (gy - v * d[1]) * r
        gz = (gz - v * d[2]) * r
        C = mat33(gx[0], gy[0], gz[0], gx[1], gy[1], gz[1], gx[2], gy[2], gz[2])
        vp = vec3(v[0], v[1], v[2])
        x_out[t1, p] = x[t, p] + vp * dt
        v_out[t1, p] = vp
        C_out[t1, p] = C
        F_out[t1 * direct, p] = F[t, p] + C * F[t, p] * dt
        mark(active_out, size, ix, iy, iz, 0)

    @wp.kernel(module=module + "_adjoint", enable_backward=False)
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

    @wp.kernel(module=module + "_adjoint", enable_backward=False)
    def scatter_adjoint(
        # constants
        size: wp.vec3i,
        periodic: wp.vec3i,
        dx: real,
        dt: real,
        clock: wp.array(dtype=int),
        mass: wp.array(dtype=real),
        volume: wp.array(dtype=real),
        # inputs
        x: array2d(dtype=vec3),
        v: array2d(dtype=vec3),
        C: array2d(dtype=mat33),
        F: array2d(dtype=mat33),
        tau: wp.array(dtype=mat33),
        x_bar: wp.array(dtype=vec3),
        F_bar: wp.array(dtype=mat33),
        # inputs and outputs
        v_bar: wp.array(dtype=vec3),
        C_bar: wp.array(dtype=mat33),
        # outputs
        grid_out: wp.array(dtype=vec4),
        grid_bar_out: wp.array(dtype=vec4),
        active_out: wp.array(dtype=int),
    ):
        """p2g again, and the adjoint of g2p with respect to the nodes' velocities, in one sweep."""
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
        ix = nodes(base[0], size[0], periodic[0])
        iy = nodes(base[1], size[1], periodic[1])
        iz = nodes(base[2], size[2], periodic[2])
        mark(active_out, size, ix, iy, iz, 1)
        m = mass[p]
        A = tau[p] * (-dt * volume[p] * real(4.0) / (dx * dx)) + C[t, p] * m
        o, ax, ay, az = affine(A, v[t, p] * m, m, d, dx)
        vb = v_bar[p] + x_bar[p] * dt
        Cb = C_bar[p] + F_bar[p] * wp.transpose(F[t, p]) * dt
        v_bar[p] = vb
        C_bar[p] = Cb
        ob, bx, by, bz = affine(Cb * (real(4.0) / (dx * dx)), vb, real(0.0), d, dx)
        i = int(0)
        while i < 3:
            for j in range(3):
                w = wx[i] * wy[j]
                row = (ix[i] * size[1] + iy[j]) * size[2]
                a = (o + ax * real(i) + ay * real(j)) * w
                b = az * w
                grid_out[row + iz[0]] += a * wz[0]
                grid_out[row + iz[1]] += (a + b) * wz[1]
                grid_out[row + iz[2]] += (a + b * real(2.0)) * wz[2]
                a = (ob + bx * real(i) + by * real(j)) * w
                b = bz * w
                grid_bar_out[row + iz[0]] += a * wz[0]
                grid_bar_out[row + iz[1]] += (a + b) * wz[1]
                grid_bar_out[row + iz[2]] += (a + b * real(2.0)) * wz[2]
            i += 1

    @wp.kernel(module=module + "_adjoint", enable_backward=False)
    def grid_adjoint(
        # constants
        size: wp.vec3i,
        lanes: int,
        dx: real,
        dt: real,
        epsilon: real,
        gravity: vec3,
        clock: wp.array(dtype=int),
        faces: wp.array(dtype=int),
        thickness: int,
        kinds: array2d(dtype=int),
        table: wp.array3d(dtype=real),
        active: wp.array(dtype=int),
        # inputs and outputs
        grid: wp.array(dtype=vec4),
        grid_bar: wp.array(dtype=vec4),
        # outputs
        velocity_out: wp.array(dtype=vec4),
        momentum_bar_out: wp.array(dtype=vec4),
        table_bar_out: wp.array3d(dtype=wp.float64),
    ):
        """Velocity of each node again, and the cotangents of its momentum and mass; zeroes both sums."""
        block, lane = wp.tid()
        if active[block] == 0:
            return
        ny = (size[1] + 3) >> 2
        nz = (size[2] + 3) >> 2
        bx = (block // (ny * nz)) * 4
        by = ((block // nz) % ny) * 4
        bz = (block % nz) * 4
        k = lane
        while k < 64:
            i = bx + (k >> 4)
            j = by + ((k >> 2) & 3)
            l = bz + (k & 3)
            k += lanes
            if i < size[0] and j < size[1] and l < size[2]:
                node = (i * size[1] + j) * size[2] + l
                ijk = wp.vec3i(i, j, l)
                g = grid[node]
                v_bar = grid_bar[node]
                free = vec3()
                inverse = real(0.0)
                if g[3] > real(0.0):
                    inverse = real(1.0) / (g[3] + epsilon)
                    free = vec3(g[0], g[1], g[2]) * inverse
                u = boundary_velocity(free + gravity * dt, ijk, size, dx, clock[2], faces, thickness, kinds, table)
                velocity_out[node] = vec4(u[0], u[1], u[2], real(0.0))
                u_bar = boundary_adjoint(
                    free + gravity * dt,
                    vec3(v_bar[0], v_bar[1], v_bar[2]),
                    ijk,
                    size,
                    dx,
                    clock[2],
                    faces,
                    thickness,
                    kinds,
                    table,
                    table_bar_out,
                )
                u_bar = u_bar * inverse
                momentum_bar_out[node] = vec4(u_bar[0], u_bar[1], u_bar[2], -wp.dot(u_bar, free))
                grid[node] = vec4()
                grid_bar[node] = vec4()

    @wp.kernel(module=module + "_adjoint", enable_backward=False)
    def gather_adjoint(
        # constants
        size: wp.vec3i,
        periodic: wp.vec3i,
        dx: real,
        dt: real,
        clock: wp.array(dtype=int),
        mass: wp.array(dtype=real),
        volume: wp.array(dtype=real),
        # inputs
        x: array2d(dtype=vec3),
        v: array2d(dtype=vec3),
        C: array2d(dtype=mat33),
        C_next: array2d(dtype=mat33),
        tau: wp.array(dtype=mat33),
        velocity: wp.array(dtype=vec4),
        momentum_bar: wp.array(dtype=vec4),
        # inputs and outputs: cotangents of the step's end, turned into those of its beginning
        x_bar: wp.array(dtype=vec3),
        v_bar: wp.array(dtype=vec3),
        C_bar: wp.array(dtype=mat33),
        F_bar: wp.array(dtype=mat33),
        # outputs
        tau_bar_out: wp.array(dtype=mat33),
        body_bar_out: array2d(dtype=wp.float64),
        active_out: wp.array(dtype=int),
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
        ix = nodes(base[0], size[0], periodic[0])
        iy = nodes(base[1], size[1], periodic[1])
        iz = nodes(base[2], size[2], periodic[2])
        m = mass[p]
        stress_factor = -dt * volume[p] * real(4.0) / (dx * dx)
        A = tau[p] * stress_factor + C[t, p] * m
        o, ax, ay, az = affine(A, v[t, p] * m, m, d, dx)
        vb = v_bar[p]
        B = C_bar[p] * (real(4.0) / (dx * dx))
        ob, bx, by, bz = affine(B, vb, real(0.0), d, dx)
        sum_v = vec4()  # sum w v_i
        sum_g = vec4()  # sum w g_i, g_i the cotangent of (momentum, mass) of node i
        gx = vec4()
        gy = vec4()
        gz = vec4()
        px = vec4()  # cotangents of x through the weights, still to be summed over the components
        py = vec4()
        pz = vec4()
        i = int(0)
        while i < 3:  # not unrolled: the code of nine rows at once compiles for seconds
            for j in range(3):
                w = wx[i] * wy[j]
                row = (ix[i] * size[1] + iy[j]) * size[2]
                a = o + ax * real(i) + ay * real(j)
                b = ob + bx * real(i) + by * real(j)
                v0 = velocity[row + iz[0]]
                v1 = velocity[row + iz[1]]
                v2 = velocity[row + iz[2]]
                g0 = momentum_bar[row + iz[0]]
                g1 = momentum_bar[row + iz[1]]
                g2 = momentum_bar[row + iz[2]]
                e0 = wp.cw_mul(g0, a) + wp.cw_mul(v0, b)
                a = a + az
                b = b + bz
                e1 = wp.cw_mul(g1, a) + wp.cw_mul(v1, b)
                a = a + az
                b = b + bz
                e2 = wp.cw_mul(g2, a) + wp.cw_mul(v2, b)
                along = e0 * wz[0] + e1 * wz[1] + e2 * wz[2]
                px += along * (dwx[i] * wy[j])
                py += along * (wx[i] * dwy[j])
                pz += (e0 * dwz[0] + e1 * dwz[1] + e2 * dwz[2]) * w
                sum_v += (v0 * wz[0] + v1 * wz[1] + v2 * wz[2]) * w
                g1 = g1 * wz[1]
                g2 = g2 * wz[2]
                g0 = (g0 * wz[0] + g1 + g2) * w
                sum_g += g0
                gx += g0 * real(i)
                gy += g0 * real(j)
                gz += (g1 + g2 * real(2.0)) * w
            i += 1
        gx = (gx - sum_g * d[0]) * dx
        gy = (gy - sum_g * d[1]) * dx
        gz = (gz - sum_g * d[2]) * dx
        A_bar = mat33(gx[0], gy[0], gz[0], gx[1], gy[1], gz[1], gx[2], gy[2], gz[2])
        g = vec3(sum_g[0], sum_g[1], sum_g[2])
        body_bar_out[p, 0] += wp.float64(wp.dot(g, v[t, p]) + sum_g[3] + wp.ddot(A_bar, C[t, p]))
        body_bar_out[p, 1] += wp.float64(-dt * real(4.0) / (dx * dx) * wp.ddot(A_bar, tau[p]))
        tau_bar_out[p] = A_bar * stress_factor
        u = vec3(sum_v[0], sum_v[1], sum_v[2])
        one = vec4(real(1.0), real(1.0), real(1.0), real(1.0))
        along_x = vec3(wp.dot(px, one), wp.dot(py, one), wp.dot(pz, one))
        x_bar[p] = x_bar[p] + along_x / dx - wp.transpose(A) * g - wp.transpose(B) * u
        v_bar[p] = g * m
        C_bar[p] = A_bar * m
        F_bar[p] = F_bar[p] + wp.transpose(C_next[clock[1], p]) * F_bar[p] * dt
        mark(active_out, size, ix, iy, iz, 0)

    return SimpleNamespace(
        tick=tick,
        validate=validate,
        p2g=p2g,
        grid_op=grid_op,
        g2p=g2p,
        trial=trial,
        scatter_adjoint=scatter_adjoint,
        grid_adjoint=grid_adjoint,
        gather_adjoint=gather_adjoint,
    )
