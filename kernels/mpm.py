"""Kernels of explicit MLS-MPM with APIC and quadratic B-splines (Hu et al. 2018), and their hand-written adjoints.

The adjoint of a scatter is a gather and the other way round. Weights and nodes are those of a dense cubic grid of n^3
nodes at spacing dx; a node holds momentum [kg m/s] and mass [kg] in one 4-vector. All kernels exist per scalar type.

Units: x [m], v [m/s], C [1/s], F [1], tau [Pa] (Kirchhoff), volume [m^3], mass [kg].
"""

import functools
from types import SimpleNamespace

import warp as wp

# What a boundary plane does to a node behind it
SLIP, STICKY, FRICTION = 0, 1, 2
# What is recorded in a status array (code, particle, step)
OK, OFF_GRID, NON_FINITE = 0, 1, 2


@functools.cache
def kernels(scalar: type) -> SimpleNamespace:
    """The kernels for wp.float32 or wp.float64."""
    module = wp.get_module(f"simengine.kernels.mpm.{scalar.__name__}")
    module.options.update(enable_backward=False, max_unroll=3)
    kernel = functools.partial(wp.kernel, module=module, enable_backward=False)
    func = functools.partial(wp.func, module=module)

    vec3 = wp.types.vector(3, scalar)
    vec4 = wp.types.vector(4, scalar)
    mat33 = wp.types.matrix((3, 3), scalar)

    @func
    def base_node(x: vec3, inv_dx: scalar):
        half = scalar(0.5)
        return wp.vec3i(int(x[0] * inv_dx - half), int(x[1] * inv_dx - half), int(x[2] * inv_dx - half))

    @func
    def weights(f: vec3):
        # row k: weight of node base + k along each axis; f is x/dx - base in [0.5, 1.5]
        w = mat33()
        for a in range(3):
            r = scalar(1.5) - f[a]
            s = f[a] - scalar(1.0)
            t = f[a] - scalar(0.5)
            w[0, a] = scalar(0.5) * r * r
            w[1, a] = scalar(0.75) - s * s
            w[2, a] = scalar(0.5) * t * t
        return w

    @func
    def weight_slopes(f: vec3, inv_dx: scalar):
        d = mat33()
        for a in range(3):
            d[0, a] = (f[a] - scalar(1.5)) * inv_dx
            d[1, a] = scalar(-2.0) * (f[a] - scalar(1.0)) * inv_dx
            d[2, a] = (f[a] - scalar(0.5)) * inv_dx
        return d

    @func
    def fraction(x: vec3, base: wp.vec3i, inv_dx: scalar):
        return vec3(
            x[0] * inv_dx - scalar(base[0]), x[1] * inv_dx - scalar(base[1]), x[2] * inv_dx - scalar(base[2])
        )

    @func
    def on_grid(base: wp.vec3i, n: int):
        return (
            base[0] >= 0 and base[1] >= 0 and base[2] >= 0 and base[0] + 2 < n and base[1] + 2 < n and base[2] + 2 < n
        )

    @kernel
    def p2g(
        # constants
        n: int,
        dx: scalar,
        dt: scalar,
        step: int,
        # inputs
        x: wp.array(dtype=vec3),
        v: wp.array(dtype=vec3),
        C: wp.array(dtype=mat33),
        tau: wp.array(dtype=mat33),
        volume: wp.array(dtype=scalar),
        mass: wp.array(dtype=scalar),
        # outputs
        grid_out: wp.array(dtype=vec4),
        status_out: wp.array(dtype=int),
    ):
        p = wp.tid()
        inv_dx = scalar(1.0) / dx
        xp = x[p]
        finite = wp.isfinite(xp[0]) and wp.isfinite(xp[1]) and wp.isfinite(xp[2])
        finite = finite and wp.isfinite(wp.ddot(tau[p], tau[p])) and wp.isfinite(wp.dot(v[p], v[p]))
        base = wp.vec3i(-1, -1, -1)
        if finite:
            base = base_node(xp, inv_dx)
        if not on_grid(base, n):
            # an access off the grid is skipped and told; the first particle to do so is recorded
            code = OFF_GRID
            if not finite:
                code = NON_FINITE
            if wp.atomic_cas(status_out, 0, OK, code) == OK:
                status_out[1] = p
                status_out[2] = step
            return
        f = fraction(xp, base, inv_dx)
        w = weights(f)
        m = mass[p]
        affine = -dt * volume[p] * scalar(4.0) * inv_dx * inv_dx * tau[p] + m * C[p]
        momentum = m * v[p]
        for i in range(3):
            for j in range(3):
                wij = w[i, 0] * w[j, 1]
                row = ((base[0] + i) * n + base[1] + j) * n + base[2]
                for k in range(3):
                    d = dx * vec3(scalar(i) - f[0], scalar(j) - f[1], scalar(k) - f[2])
                    q = wij * w[k, 2] * (momentum + affine * d)
                    wp.atomic_add(grid_out, row + k, vec4(q[0], q[1], q[2], wij * w[k, 2] * m))

    @func
    def contact(u: vec3, kind: int, normal: vec3, velocity: vec3, friction: scalar):
        # velocity of a node behind one plane; only what approaches the plane is changed, unless it sticks
        if kind == STICKY:
            return velocity
        r = u - velocity
        approach = wp.dot(r, normal)
        if approach >= scalar(0.0):
            return u
        t = r - approach * normal
        if kind == SLIP:
            return velocity + t
        speed = wp.length(t)
        limit = -friction * approach  # Coulomb
        if speed <= limit:
            return velocity
        return velocity + (scalar(1.0) - limit / speed) * t

    @func
    def node_position(i: int, n: int, dx: scalar):
        return dx * vec3(scalar(i // (n * n)), scalar((i // n) % n), scalar(i % n))

    @func
    def free_velocity(node: vec4, dt: scalar, gravity: vec3, eps: scalar):
        u = dt * gravity
        if node[3] > scalar(0.0):
            u = vec3(node[0], node[1], node[2]) / (node[3] + eps) + u
        return u

    @kernel
    def grid_op(
        # constants
        n: int,
        dx: scalar,
        dt: scalar,
        eps: scalar,
        # inputs
        gravity: wp.array(dtype=vec3),
        grid: wp.array(dtype=vec4),
        plane_kind: wp.array(dtype=int),
        plane_point: wp.array(dtype=vec3),
        plane_normal: wp.array(dtype=vec3),
        plane_velocity: wp.array(dtype=vec3),
        plane_friction: wp.array(dtype=scalar),
        # outputs
        velocity_out: wp.array(dtype=vec3),
    ):
        i = wp.tid()
        node = grid[i]
        if node[3] <= scalar(0.0):
            return  # no particle gathers from a node without mass
        u = free_velocity(node, dt, gravity[0], eps)
        xi = node_position(i, n, dx)
        for k in range(plane_kind.shape[0]):
            if wp.dot(xi - plane_point[k], plane_normal[k]) < scalar(0.0):
                u = contact(u, plane_kind[k], plane_normal[k], plane_velocity[k], plane_friction[k])
        velocity_out[i] = u

    @kernel
    def g2p(
        # constants
        n: int,
        dx: scalar,
        dt: scalar,
        # inputs
        x: wp.array(dtype=vec3),
        F: wp.array(dtype=mat33),
        velocity: wp.array(dtype=vec3),
        # outputs
        x_out: wp.array(dtype=vec3),
        v_out: wp.array(dtype=vec3),
        C_out: wp.array(dtype=mat33),
        F_out: wp.array(dtype=mat33),
    ):
        p = wp.tid()
        inv_dx = scalar(1.0) / dx
        xp = x[p]
        base = base_node(xp, inv_dx)
        if not on_grid(base, n):
            x_out[p] = xp
            v_out[p] = vec3()
            C_out[p] = mat33()
            F_out[p] = F[p]
            return
        f = fraction(xp, base, inv_dx)
        w = weights(f)
        vp = vec3()
        B = mat33()
        for i in range(3):
            for j in range(3):
                wij = w[i, 0] * w[j, 1]
                row = ((base[0] + i) * n + base[1] + j) * n + base[2]
                for k in range(3):
                    wv = wij * w[k, 2] * velocity[row + k]
                    vp += wv
                    B += wp.outer(wv, vec3(scalar(i) - f[0], scalar(j) - f[1], scalar(k) - f[2]))
        Cp = scalar(4.0) * inv_dx * B
        x_out[p] = xp + dt * vp
        v_out[p] = vp
        C_out[p] = Cp
        F_out[p] = F[p] + dt * (Cp * F[p])

    @kernel
    def g2p_adjoint_scatter(
        # constants
        n: int,
        dx: scalar,
        dt: scalar,
        # inputs
        x: wp.array(dtype=vec3),
        F: wp.array(dtype=mat33),
        adj_x: wp.array(dtype=vec3),
        adj_v: wp.array(dtype=vec3),
        adj_C: wp.array(dtype=mat33),
        adj_F: wp.array(dtype=mat33),
        # outputs
        adj_velocity_out: wp.array(dtype=vec3),
    ):
        # v' = sum w v_i, C' = 4/dx^2 sum w v_i d^T, F' = (I + dt C') F, x' = x + dt v'
        p = wp.tid()
        inv_dx = scalar(1.0) / dx
        base = base_node(x[p], inv_dx)
        if not on_grid(base, n):
            return
        f = fraction(x[p], base, inv_dx)
        w = weights(f)
        a = adj_v[p] + dt * adj_x[p]
        A = scalar(4.0) * inv_dx * (adj_C[p] + dt * (adj_F[p] * wp.transpose(F[p])))
        for i in range(3):
            for j in range(3):
                wij = w[i, 0] * w[j, 1]
                row = ((base[0] + i) * n + base[1] + j) * n + base[2]
                for k in range(3):
                    d = vec3(scalar(i) - f[0], scalar(j) - f[1], scalar(k) - f[2])
                    wp.atomic_add(adj_velocity_out, row + k, wij * w[k, 2] * (a + A * d))

    @kernel
    def grid_op_adjoint(
        # constants
        n: int,
        dx: scalar,
        dt: scalar,
        eps: scalar,
        # inputs
        gravity: wp.array(dtype=vec3),
        grid: wp.array(dtype=vec4),
        plane_kind: wp.array(dtype=int),
        plane_point: wp.array(dtype=vec3),
        plane_normal: wp.array(dtype=vec3),
        plane_velocity: wp.array(dtype=vec3),
        plane_friction: wp.array(dtype=scalar),
        adj_velocity: wp.array(dtype=vec3),
        # outputs
        adj_grid_out: wp.array(dtype=vec4),
        adj_planes_out: wp.array(dtype=scalar, ndim=2),
    ):
        # adj_planes_out: per plane normal (3), velocity (3), friction (1), added up over nodes and steps
        i = wp.tid()
        node = grid[i]
        if node[3] <= scalar(0.0):
            return
        xi = node_position(i, n, dx)
        g = adj_velocity[i]
        for reverse in range(plane_kind.shape[0]):
            k = plane_kind.shape[0] - 1 - reverse
            if wp.dot(xi - plane_point[k], plane_normal[k]) < scalar(0.0):
                u = free_velocity(node, dt, gravity[0], eps)  # the velocity that plane k met
                for j in range(k):
                    if wp.dot(xi - plane_point[j], plane_normal[j]) < scalar(0.0):
                        u = contact(u, plane_kind[j], plane_normal[j], plane_velocity[j], plane_friction[j])
                normal = plane_normal[k]
                friction = plane_friction[k]
                r = u - plane_velocity[k]
                approach = wp.dot(r, normal)
                to_u = g
                to_normal = vec3()
                to_friction = scalar(0.0)
                if plane_kind[k] == STICKY:
                    to_u = vec3()
                elif approach < scalar(0.0):
                    t = r - approach * normal
                    speed = wp.length(t)
                    limit = -friction * approach
                    if plane_kind[k] == FRICTION and speed <= limit:
                        to_u = vec3()
                    else:
                        to_t = g
                        to_approach = scalar(0.0)
                        if plane_kind[k] == FRICTION:
                            along = wp.dot(g, t) / speed
                            to_t = (scalar(1.0) - limit / speed) * g + (limit / (speed * speed)) * along * t
                            to_approach = friction * along
                            to_friction = approach * along
                        # t = r - approach n, approach = r . n
                        to_normal = -approach * to_t
                        to_approach -= wp.dot(to_t, normal)
                        to_u = to_t + to_approach * normal
                        to_normal += to_approach * r
                to_velocity = g - to_u
                for a in range(3):
                    wp.atomic_add(adj_planes_out, k, a, to_normal[a])
                    wp.atomic_add(adj_planes_out, k, 3 + a, to_velocity[a])
                wp.atomic_add(adj_planes_out, k, 6, to_friction)
                g = to_u
        inverse = scalar(1.0) / (node[3] + eps)
        momentum = vec3(node[0], node[1], node[2])
        adj_grid_out[i] = vec4(
            g[0] * inverse, g[1] * inverse, g[2] * inverse, -wp.dot(g, momentum) * inverse * inverse
        )

    @kernel
    def p2g_adjoint_gather(
        # constants
        n: int,
        dx: scalar,
        dt: scalar,
        # inputs
        x: wp.array(dtype=vec3),
        v: wp.array(dtype=vec3),
        C: wp.array(dtype=mat33),
        F: wp.array(dtype=mat33),
        tau: wp.array(dtype=mat33),
        volume: wp.array(dtype=scalar),
        mass: wp.array(dtype=scalar),
        C_next: wp.array(dtype=mat33),
        velocity: wp.array(dtype=vec3),
        adj_x_next: wp.array(dtype=vec3),
        adj_v_next: wp.array(dtype=vec3),
        adj_C_next: wp.array(dtype=mat33),
        adj_F_next: wp.array(dtype=mat33),
        adj_grid: wp.array(dtype=vec4),
        # outputs
        adj_x_out: wp.array(dtype=vec3),
        adj_v_out: wp.array(dtype=vec3),
        adj_C_out: wp.array(dtype=mat33),
        adj_F_out: wp.array(dtype=mat33),
        adj_tau_out: wp.array(dtype=mat33),
    ):
        # completes the adjoints of g2p (its weights, its F) and takes those of p2g, in one pass over the nodes
        p = wp.tid()
        inv_dx = scalar(1.0) / dx
        base = base_node(x[p], inv_dx)
        to_x = adj_x_next[p]
        adj_F = adj_F_next[p]
        adj_F_out[p] = adj_F + dt * (wp.transpose(C_next[p]) * adj_F)
        if not on_grid(base, n):
            adj_x_out[p] = to_x
            adj_v_out[p] = vec3()
            adj_C_out[p] = mat33()
            adj_tau_out[p] = mat33()
            return
        f = fraction(x[p], base, inv_dx)
        w = weights(f)
        s = weight_slopes(f, inv_dx)
        a = adj_v_next[p] + dt * adj_x_next[p]
        A = scalar(4.0) * inv_dx * inv_dx * (adj_C_next[p] + dt * (adj_F * wp.transpose(F[p])))
        m = mass[p]
        stress_scale = -dt * volume[p] * scalar(4.0) * inv_dx * inv_dx
        affine = stress_scale * tau[p] + m * C[p]
        momentum = m * v[p]
        to_momentum = vec3()
        to_affine = mat33()
        pull = vec3()
        for i in range(3):
            for j in range(3):
                row = ((base[0] + i) * n + base[1] + j) * n + base[2]
                for k in range(3):
                    weight = w[i, 0] * w[j, 1] * w[k, 2]
                    slope = vec3(
                        s[i, 0] * w[j, 1] * w[k, 2], w[i, 0] * s[j, 1] * w[k, 2], w[i, 0] * w[j, 1] * s[k, 2]
                    )
                    d = dx * vec3(scalar(i) - f[0], scalar(j) - f[1], scalar(k) - f[2])
                    vi = velocity[row + k]
                    node = adj_grid[row + k]
                    q = vec3(node[0], node[1], node[2])
                    scatter = wp.dot(q, momentum + affine * d) + node[3] * m
                    gather = wp.dot(vi, a + A * d)
                    to_x += (scatter + gather) * slope
                    pull += weight * (wp.transpose(A) * vi + wp.transpose(affine) * q)
                    to_momentum += weight * q
                    to_affine += wp.outer(weight * q, d)
        adj_x_out[p] = to_x - pull
        adj_v_out[p] = m * to_momentum
        adj_C_out[p] = m * to_affine
        adj_tau_out[p] = stress_scale * to_affine

    return SimpleNamespace(
        p2g=p2g,
        grid_op=grid_op,
        g2p=g2p,
        g2p_adjoint_scatter=g2p_adjoint_scatter,
        grid_op_adjoint=grid_op_adjoint,
        p2g_adjoint_gather=p2g_adjoint_gather,
        vec3=vec3,
        vec4=vec4,
        mat33=mat33,
    )
