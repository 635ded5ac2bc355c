"""The transfers of `kernels/matter/mpm.py` and their adjoints in Taichi, for one step: Vulkan, Metal, many cores.

The whole grid is swept, one vec4 per node: momentum and mass, or velocity; particle arrays are (n,). The caller sees to
it that every stencil lies on the grid. Sums over particles are atomic, so their bits do not repeat where there is more
than one thread.

Source: Hu et al. 2018 (MLS-MPM); the semantics of walls follow Ma et al. 2023 (NCLaw), Sec. 3.
"""

import functools
from types import SimpleNamespace

import taichi as ti

from .contact_taichi import functions as contact_functions

vec3i = ti.types.vector(3, ti.i32)


@functools.cache
def kernels(real, wide):
    """The kernels for `real` (ti.f32 or ti.f64); gradients of shared numbers are summed in `wide`."""
    c = contact_functions(real, wide)
    vec3, mat33, vec4 = c.vec3, c.mat33, ti.types.vector(4, real)
    boundary_velocity, boundary_adjoint = c.boundary_velocity, c.boundary_adjoint
    scalars = ti.types.ndarray(dtype=real, ndim=1)
    vectors = ti.types.ndarray(dtype=vec3, ndim=1)
    matrices = ti.types.ndarray(dtype=mat33, ndim=1)
    nodes = ti.types.ndarray(dtype=vec4, ndim=1)
    integers = ti.types.ndarray(dtype=ti.i32, ndim=1)
    integers2d = ti.types.ndarray(dtype=ti.i32, ndim=2)
    table3d = ti.types.ndarray(dtype=real, ndim=3)
    sums3d = ti.types.ndarray(dtype=wide, ndim=3)
    sums2d = ti.types.ndarray(dtype=wide, ndim=2)

    @ti.func
    def stencil(s):
        # the lowest node per axis, not wrapped, and the distance from it [cells]
        base = ti.cast(ti.floor(s - 0.5), ti.i32)
        return base, s - ti.cast(base, real)

    @ti.func
    def offset(q):
        # of node q of the stencil from the lowest one; loops over q stay loops, unrolled they compile for minutes
        return vec3i(q // 9, q // 3 % 3, q % 3)

    @ti.func
    def splines(u):
        # the quadratic B-spline of each component of u [cells], and its slope
        value = vec3(0)
        slope = vec3(0)
        for a in ti.static(range(3)):
            t = ti.abs(u[a])
            value[a] = 0.5 * (1.5 - t) ** 2
            slope[a] = ti.select(u[a] > 0, t - 1.5, 1.5 - t)
            if t < 0.5:
                value[a] = 0.75 - t * t
                slope[a] = -2 * u[a]
        return value, slope

    @ti.func
    def node(ijk, size, periodic):
        # the flat number of a node, modulo the size of periodic axes
        i = ijk
        for a in ti.static(range(3)):
            if periodic[a] != 0:
                i[a] = (ijk[a] % size[a] + size[a]) % size[a]
        return (i[0] * size[1] + i[1]) * size[2] + i[2]

    @ti.func
    def extended(a, b):
        return vec4(a[0], a[1], a[2], b)

    @ti.func
    def acceleration(gravity, step, table: ti.template()):
        # gravity and what the table adds to it [m/s^2]
        row = ti.min(step, table.shape[0] - 1)
        return gravity + vec3(table[row, 0, 6], table[row, 0, 7], table[row, 0, 8])

    @ti.func
    def position(n, size):
        return vec3i(n // (size[1] * size[2]), n // size[2] % size[1], n % size[2])

    @ti.kernel
    def p2g(
        size: vec3i,
        periodic: vec3i,
        dx: real,
        dt: real,
        mass: scalars,
        volume: scalars,
        x: vectors,
        v: vectors,
        C: matrices,
        tau: matrices,
        grid_out: nodes,
    ):
        """Scatter momentum [kg m/s] and mass [kg]; the stress acts as an affine momentum -dt V 4/dx^2 tau."""
        for p in x:
            base, d = stencil(x[p] / dx)
            A = tau[p] * (-dt * volume[p] * 4 / (dx * dx)) + C[p] * mass[p]
            for q in range(27):
                o = offset(q)
                w, _ = splines(d - o)
                r = (o - d) * dx
                weight = w[0] * w[1] * w[2]
                value = extended(v[p] * mass[p] + A @ r, mass[p]) * weight
                ti.atomic_add(grid_out[node(base + o, size, periodic)], value)

    @ti.kernel
    def grid_op(
        size: vec3i,
        dx: real,
        dt: real,
        epsilon: real,
        gravity: vec3,
        step: int,
        faces: integers,
        thickness: int,
        bodies: int,
        kinds: integers2d,
        field: scalars,
        table: table3d,
        grid: nodes,
        velocity_out: nodes,
    ):
        """Velocity of each node [m/s] from momentum, gravity and boundaries."""
        for n in grid:
            g = grid[n]
            u = acceleration(gravity, step, table) * dt
            if g[3] > 0:
                u += vec3(g[0], g[1], g[2]) / (g[3] + epsilon)
            ijk = position(n, size)
            u = boundary_velocity(u, 6 + bodies, ijk, size, dx, step, faces, thickness, kinds, field, table)
            velocity_out[n] = extended(u, 0)

    @ti.kernel
    def g2p(
        size: vec3i,
        periodic: vec3i,
        dx: real,
        dt: real,
        x: vectors,
        F: matrices,
        velocity: nodes,
        x_out: vectors,
        v_out: vectors,
        C_out: matrices,
        F_out: matrices,
    ):
        """Gather velocity and its gradient C [1/s], move particles, F_trial = (I + dt C) F."""
        for p in x:
            base, d = stencil(x[p] / dx)
            v = vec3(0)
            C = mat33(0)
            for q in range(27):
                o = offset(q)
                w, _ = splines(d - o)
                u = velocity[node(base + o, size, periodic)] * (w[0] * w[1] * w[2])
                value = vec3(u[0], u[1], u[2])
                v += value
                C += value.outer_product(o - d)
            C *= 4 / dx
            x_out[p] = x[p] + v * dt
            v_out[p] = v
            C_out[p] = C
            F_out[p] = F[p] + C @ F[p] * dt

    @ti.kernel
    def scatter_adjoint(
        size: vec3i,
        periodic: vec3i,
        dx: real,
        dt: real,
        x: vectors,
        F: matrices,
        x_bar: vectors,
        v_bar: vectors,
        C_bar: matrices,
        F_bar: matrices,
        grid_bar_out: nodes,
        v_bar_out: vectors,
        C_bar_out: matrices,
    ):
        """The adjoint of g2p with respect to the nodes' velocities; v_bar and C_bar gain what x and F hand on."""
        for p in x:
            base, d = stencil(x[p] / dx)
            vb = v_bar[p] + x_bar[p] * dt
            Cb = C_bar[p] + F_bar[p] @ F[p].transpose() * dt
            v_bar_out[p] = vb
            C_bar_out[p] = Cb
            for q in range(27):
                o = offset(q)
                w, _ = splines(d - o)
                weight = w[0] * w[1] * w[2]
                value = (vb + Cb @ (o - d) * (4 / dx)) * weight
                ti.atomic_add(grid_bar_out[node(base + o, size, periodic)], extended(value, 0))

    @ti.kernel
    def grid_adjoint(
        size: vec3i,
        dx: real,
        dt: real,
        epsilon: real,
        gravity: vec3,
        step: int,
        faces: integers,
        thickness: int,
        bodies: int,
        kinds: integers2d,
        field: scalars,
        table: table3d,
        grid: nodes,
        grid_bar: nodes,
        momentum_bar_out: nodes,
        table_bar_out: sums3d,
    ):
        """The cotangents of the momentum and mass of each node, from that of its velocity."""
        for n in grid:
            g, u_bar = grid[n], grid_bar[n]
            free = vec3(0)
            inverse = ti.cast(0, real)
            if g[3] > 0:
                inverse = 1 / (g[3] + epsilon)
                free = vec3(g[0], g[1], g[2]) * inverse
            ijk = position(n, size)
            back = boundary_adjoint(
                free + acceleration(gravity, step, table) * dt,
                vec3(u_bar[0], u_bar[1], u_bar[2]),
                6 + bodies,
                ijk,
                size,
                dx,
                step,
                faces,
                thickness,
                kinds,
                field,
                table,
                table_bar_out,
            )
            for a in ti.static(range(3)):
                if back[a] != 0:
                    ti.atomic_add(
                        table_bar_out[ti.min(step, table.shape[0] - 1), 0, 6 + a], ti.cast(back[a] * dt, wide)
                    )
            momentum_bar_out[n] = extended(back * inverse, -back.dot(free) * inverse)

    @ti.kernel
    def gather_adjoint(
        size: vec3i,
        periodic: vec3i,
        dx: real,
        dt: real,
        mass: scalars,
        volume: scalars,
        x: vectors,
        v: vectors,
        C: matrices,
        C_next: matrices,
        tau: matrices,
        velocity: nodes,
        momentum_bar: nodes,
        v_bar: vectors,
        C_bar: matrices,
        x_bar: vectors,
        F_bar: matrices,
        v_bar_out: vectors,
        C_bar_out: matrices,
        tau_bar_out: matrices,
        body_bar_out: sums2d,
    ):
        """The adjoint of p2g, and that of the weights of both transfers; x_bar and F_bar are turned in place."""
        for p in x:
            base, d = stencil(x[p] / dx)
            m = mass[p]
            factor = -dt * volume[p] * 4 / (dx * dx)
            A = tau[p] * factor + C[p] * m
            B = C_bar[p] * (4 / (dx * dx))
            sum_g = vec4(0)
            sum_v = vec3(0)
            along = vec3(0)
            A_bar = mat33(0)
            for q in range(27):
                o = offset(q)
                w, slope = splines(d - o)
                n = node(base + o, size, periodic)
                r = (o - d) * dx
                weight = w[0] * w[1] * w[2]
                g, u = momentum_bar[n], vec3(velocity[n][0], velocity[n][1], velocity[n][2])
                g3 = vec3(g[0], g[1], g[2])
                share = g3.dot(v[p] * m + A @ r) + g[3] * m + u.dot(v_bar[p] + B @ r)
                along[0] += share * slope[0] * w[1] * w[2]
                along[1] += share * w[0] * slope[1] * w[2]
                along[2] += share * w[0] * w[1] * slope[2]
                sum_g += g * weight
                sum_v += u * weight
                A_bar += (g3 * weight).outer_product(r)
            g = vec3(sum_g[0], sum_g[1], sum_g[2])
            body_bar_out[p, 0] = ti.cast(g.dot(v[p]) + sum_g[3] + (A_bar * C[p]).sum(), wide)
            body_bar_out[p, 1] = ti.cast(-dt * 4 / (dx * dx) * (A_bar * tau[p]).sum(), wide)
            tau_bar_out[p] = A_bar * factor
            x_bar[p] += along / dx - A.transpose() @ g - B.transpose() @ sum_v
            v_bar_out[p] = g * m
            C_bar_out[p] = A_bar * m
            F_bar[p] += C_next[p].transpose() @ F_bar[p] * dt

    return SimpleNamespace(
        p2g=p2g,
        grid_op=grid_op,
        g2p=g2p,
        scatter_adjoint=scatter_adjoint,
        grid_adjoint=grid_adjoint,
        gather_adjoint=gather_adjoint,
    )
