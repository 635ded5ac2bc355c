"""Hard contact of particles with rigid bodies, by their own surface and stress, and its adjoint.

A particle stands for a ball of radius r = s/2, s the edge of its cube at rest, which the deformation F turns into an
ellipsoid. Towards a body with outward normal n and distance phi (of the particle's centre) it reaches h = r |F^T n|, at
the point x + a, a = -r F F^T n / |F^T n|, over the area A = s^2 / |F^T n|. The body pushes it there with

    N = max(0, k (h - phi) - A n.tau n)                      the pressure of the material itself, and a spring beside it
    T = -A (tau n)_t - c w_t,  w = v + C a - v_body          shortened to mu N (friction); whole (sticky); none (slip)

Since the traction that the material has goes in as it is, the spring carries only what is left, and the depth to which
a body sinks in does not hang on k, on the step, or on where the body stands between nodes (Nitsche's method: Chouly,
Hild 2013, the variant without the variation of the stress). `sticky` also pulls,
the less the wider the gap, up to r/2.

The force f = N n + T at x + a acts as momentum, v + dt f / m, and as affine momentum, tau - f a^T / V: what the
transfers take in place of v and tau.
"""

# ruff: noqa: UP018, RUF046 -- int(0) declares a variable of a kernel, 0 a constant

import functools
from types import SimpleNamespace

import warp as wp

from ..cpu import cpu_module
from .contact import HARD, HARD_STICKY
from .contact import functions as contact_functions
from .signed_distance import functions as distance_functions

STIFFNESS = 8.0  # alpha of k = alpha M s^2 / dx, with M the modulus of a wave [Pa]: per area alpha M / dx
GRIP = 0.5  # of c = GRIP m / dt: what of a sliding velocity goes in a step, while friction can


@functools.cache
def kernels(real):
    """Kernels `hard_contact` and `hard_contact_adjoint` for wp.float32 or wp.float64."""
    f, b = distance_functions(real), contact_functions(real)
    module = cpu_module(f"simengine_hard_contact_{real.__name__}")
    vec3, mat33, array2d = f.vec3, f.mat33, wp.array2d
    distance, distance_adjoint, column3, rotation_of, add3 = (
        f.distance, f.distance_adjoint, b.column3, b.rotation_of, b.add3,
    )  # fmt: skip
    zero, one, two = real(0.0), real(1.0), real(2.0)
    half, third = real(0.5), real(1.0 / 3.0)

    @wp.func(module=module)
    def glue(depth: real, r: real, mode: int):
        # how firmly it sticks
        out = zero
        if mode == HARD_STICKY:
            out = wp.clamp(one + two * depth / r, zero, one)
        return out

    @wp.func(module=module)
    def grip(z: vec3, n: vec3, N: real, mu: real, sticks: real, mode: int):
        # T and the part of it that acts
        Q = n * wp.dot(n, z) - z
        share = one
        if mode == HARD_STICKY:
            share = sticks
        else:
            length = wp.length(Q)
            if length > zero and length >= mu * N:
                share = mu * N / length
            elif mu <= zero:
                share = zero
        return Q, share

    @wp.kernel(module=module, enable_backward=False)
    def hard_contact(
        # constants
        dt: real,
        clock: wp.array(dtype=int),
        mass: wp.array(dtype=real),
        volume: wp.array(dtype=real),
        stiffness: wp.array(dtype=real),
        kinds: array2d(dtype=int),
        field: wp.array(dtype=real),
        table: wp.array3d(dtype=real),
        # inputs
        x: array2d(dtype=vec3),
        v: array2d(dtype=vec3),
        C: array2d(dtype=mat33),
        F: array2d(dtype=mat33),
        tau: wp.array(dtype=mat33),
        # outputs
        v_out: wp.array(dtype=vec3),
        tau_out: wp.array(dtype=mat33),
    ):
        """Velocity [m/s] and stress [Pa] with what rigid bodies do to a particle."""
        p = wp.tid()
        t = clock[0]
        row = wp.min(clock[2], table.shape[0] - 1)
        xp = x[t, p]
        vp = v[t, p]
        Fp = F[t, p]
        stress = tau[p]
        s = wp.pow(volume[p], third)
        r = half * s
        push = vec3()
        moment = mat33()
        k = int(0)
        while k < kinds.shape[0]:
            mode = kinds[k, 1]
            if mode >= HARD:
                rho = xp - column3(table, row, k + 1, 0)
                R = rotation_of(table, row, k + 1)
                phi, g = distance(wp.transpose(R) * rho, column3(table, row, k + 1, 19), k, kinds, field)
                n = R * g
                m = wp.transpose(Fp) * n
                reach = wp.length(m)
                depth = r * reach - phi
                if depth > -s and reach > zero:
                    area = s * s / reach
                    pull = stress * n
                    N = stiffness[p] * wp.min(depth, s) - area * wp.dot(n, pull)
                    sticks = glue(depth, r, mode)
                    if N > zero or sticks > zero:
                        a = Fp * m * (-r / reach)
                        w = vp + C[t, p] * a - column3(table, row, k + 1, 12)
                        w = w - wp.cross(column3(table, row, k + 1, 15), rho + a)
                        z = pull * area + w * (real(GRIP) * mass[p] / dt)
                        Q, share = grip(z, n, N, table[row, k + 1, 18], sticks, mode)
                        force = n * (wp.max(N, zero) + sticks * wp.min(N, zero)) + Q * share
                        push += force
                        moment += wp.outer(force, a)
            k += 1
        v_out[p] = vp + push * (dt / mass[p])
        tau_out[p] = stress - moment / volume[p]

    @wp.kernel(module=module, enable_backward=False)
    def hard_contact_adjoint(
        # constants
        dt: real,
        clock: wp.array(dtype=int),
        mass: wp.array(dtype=real),
        volume: wp.array(dtype=real),
        stiffness: wp.array(dtype=real),
        kinds: array2d(dtype=int),
        field: wp.array(dtype=real),
        table: wp.array3d(dtype=real),
        # inputs
        x: array2d(dtype=vec3),
        v: array2d(dtype=vec3),
        C: array2d(dtype=mat33),
        F: array2d(dtype=mat33),
        tau: wp.array(dtype=mat33),
        # inputs and outputs: of what went out, turned into those of what came in
        v_bar: wp.array(dtype=vec3),
        tau_bar: wp.array(dtype=mat33),
        # outputs
        x_bar_out: wp.array(dtype=vec3),
        C_bar_out: wp.array(dtype=mat33),
        F_bar_out: wp.array(dtype=mat33),
        body_bar_out: array2d(dtype=wp.float64),
        stiffness_bar_out: wp.array(dtype=wp.float64),
        table_bar_out: wp.array3d(dtype=wp.float64),
    ):
        """Cotangents of the state, the stress, mass, volume, stiffness and the table."""
        p = wp.tid()
        t = clock[0]
        row = wp.min(clock[2], table.shape[0] - 1)
        xp = x[t, p]
        vp = v[t, p]
        Cp = C[t, p]
        Fp = F[t, p]
        stress = tau[p]
        V = volume[p]
        s = wp.pow(V, third)
        r = half * s
        out_v = v_bar[p]
        out_tau = tau_bar[p]
        x_bar = vec3()
        in_v = vec3()
        in_tau = mat33()
        C_bar = mat33()
        F_bar = mat33()
        mass_bar = zero
        volume_bar = zero
        stiffness_bar = zero
        k = int(0)
        while k < kinds.shape[0]:
            mode = kinds[k, 1]
            if mode >= HARD:
                rho = xp - column3(table, row, k + 1, 0)
                R = rotation_of(table, row, k + 1)
                size = column3(table, row, k + 1, 19)
                y = wp.transpose(R) * rho
                phi, g = distance(y, size, k, kinds, field)
                n = R * g
                m = wp.transpose(Fp) * n
                reach = wp.length(m)
                depth = r * reach - phi
                if depth > -s and reach > zero:
                    area = s * s / reach
                    pull = stress * n
                    N = stiffness[p] * wp.min(depth, s) - area * wp.dot(n, pull)
                    sticks = glue(depth, r, mode)
                    if N > zero or sticks > zero:
                        a = Fp * m * (-r / reach)
                        spin = column3(table, row, k + 1, 15)
                        mu = table[row, k + 1, 18]
                        c = real(GRIP) * mass[p] / dt
                        w = vp + Cp * a - column3(table, row, k + 1, 12) - wp.cross(spin, rho + a)
                        z = pull * area + w * c
                        Q, share = grip(z, n, N, mu, sticks, mode)
                        normal = wp.max(N, zero) + sticks * wp.min(N, zero)
                        force = n * normal + Q * share
                        # the two sums
                        force_bar = out_v * (dt / mass[p]) - out_tau * a / V
                        a_bar = wp.transpose(out_tau) * force / (-V)
                        mass_bar -= wp.dot(out_v, force) * dt / (mass[p] * mass[p])
                        volume_bar += wp.dot(force, out_tau * a) / (V * V)
                        # normal and friction
                        N_bar = wp.dot(force_bar, n)
                        n_bar = force_bar * normal
                        Q_bar = force_bar * share
                        sticks_bar = zero
                        if mode == HARD_STICKY:
                            sticks_bar = N_bar * wp.min(N, zero) + wp.dot(Q, force_bar)
                            if N < zero:
                                N_bar = N_bar * sticks
                        elif share < one:
                            length = wp.max(wp.length(Q), real(1.0e-30))
                            along = wp.dot(Q, force_bar) / length
                            Q_bar = (force_bar - Q * (along / length)) * share
                            N_bar += mu * along
                            wp.atomic_add(table_bar_out, row, k + 1, 18, wp.float64(N * along))
                        across = wp.dot(n, Q_bar)
                        z_bar = n * across - Q_bar
                        n_bar += Q_bar * wp.dot(n, z) + z * across
                        area_bar = wp.dot(z_bar, pull) - N_bar * wp.dot(n, pull)
                        pull_bar = z_bar * area - n * (N_bar * area)
                        n_bar += wp.transpose(stress) * pull_bar - pull * (N_bar * area)
                        in_tau += wp.outer(pull_bar, n)
                        mass_bar += wp.dot(z_bar, w) * real(GRIP) / dt
                        w_bar = z_bar * c
                        # the velocity of sliding
                        turn_bar = wp.cross(w_bar, spin)
                        in_v += w_bar
                        C_bar += wp.outer(w_bar, a)
                        a_bar += wp.transpose(Cp) * w_bar - turn_bar
                        rho_bar = -turn_bar
                        add3(table_bar_out, row, k + 1, 12, -w_bar)
                        add3(table_bar_out, row, k + 1, 15, -wp.cross(rho + a, w_bar))
                        # the particle's extent
                        m_bar = wp.transpose(Fp) * a_bar * (-r / reach)
                        reach_bar = -(wp.dot(a_bar, a) + area_bar * area) / reach
                        F_bar += wp.outer(a_bar, m) * (-r / reach)
                        s_bar = half * wp.dot(a_bar, a) / r + area_bar * two * s / reach
                        stiffness_bar += wp.min(depth, s) * N_bar
                        depth_bar = zero
                        if depth < s:
                            depth_bar = stiffness[p] * N_bar
                        else:
                            s_bar += stiffness[p] * N_bar
                        if sticks > zero and sticks < one:
                            depth_bar += sticks_bar * two / r
                            s_bar -= sticks_bar * depth / (r * r)
                        phi_bar = -depth_bar
                        reach_bar += r * depth_bar
                        s_bar += half * reach * depth_bar
                        m_bar += m * (reach_bar / reach)
                        F_bar += wp.outer(n, m_bar)
                        n_bar += Fp * m_bar
                        volume_bar += s_bar * s / (real(3.0) * V)
                        # the body's pose
                        y_bar = distance_adjoint(y, size, k, kinds, field, g, phi_bar, wp.transpose(R) * n_bar)
                        rho_bar += R * y_bar
                        R_bar = wp.outer(n_bar, g) + wp.outer(rho, y_bar)
                        x_bar += rho_bar
                        add3(table_bar_out, row, k + 1, 0, -rho_bar)
                        add3(table_bar_out, row, k + 1, 3, R_bar[0])
                        add3(table_bar_out, row, k + 1, 6, R_bar[1])
                        add3(table_bar_out, row, k + 1, 9, R_bar[2])
            k += 1
        v_bar[p] = out_v + in_v
        tau_bar[p] = out_tau + in_tau
        x_bar_out[p] = x_bar_out[p] + x_bar
        C_bar_out[p] = C_bar_out[p] + C_bar
        F_bar_out[p] = F_bar_out[p] + F_bar
        body_bar_out[p, 0] += wp.float64(mass_bar)
        body_bar_out[p, 1] += wp.float64(volume_bar)
        stiffness_bar_out[p] += wp.float64(stiffness_bar)

    return SimpleNamespace(hard_contact=hard_contact, hard_contact_adjoint=hard_contact_adjoint)
