"""Isotropic laws in the Hencky strain, per particle: all of them but the functions that are learned.

F = U diag(s) V^T, H = U diag(log s) U^T = v/3 I + D, s taken as at least 0.01, q = tr D^2, j = tr D^3, r^2 = q + a^2.
The energy is M [mu q + kappa/2 v^2 + a^2 f(z)] with z = (v/a, r/a - 1, j/(r^2 a)), and S = df/dz comes from outside:

    tau = M [alpha D + beta I + 3 theta D^2],  theta = a S_3 / r^2,
    alpha = 2 mu + a S_2/r - 2 a theta z_3,  beta = kappa v + a (S_1 - rest) - theta q.

One pass makes U, s and z, one tau of S; backward, one makes the cotangent of S, and one, given that of z, that of F.
`moduli` holds mu, kappa and rest. In the frame of U all these matrices but cotangents are diagonal.

The return map takes |D| back to at most `radius` and v to v - `excess`, which come from outside as functions of v:

    H -> (v - excess)/3 I + c D,  c = min(1, (v - excess)/v, radius/|D|),  s taken as at least 0.05 there.
"""

# ruff: noqa: UP018, RUF046 -- int(0) declares a variable of a kernel, 0 a constant

import functools
from types import SimpleNamespace

import warp as wp

from ..cpu import cpu_module
from .svd import functions as matrix_functions


@functools.cache
def kernels(real):
    """The kernels for wp.float32 or wp.float64."""
    f = matrix_functions(real)
    module, vec3, mat33 = cpu_module(f"simengine_isotropic_{real.__name__}"), f.vec3, f.mat33
    svd, log_adjoint, exp_apart, map_adjoint, cofactor = f.svd, f.strain_adjoint, f.exp_apart, f.map_adjoint, f.cofactor
    zero, half, one, two, three, third = real(0.0), real(0.5), real(1.0), real(2.0), real(3.0), real(1.0 / 3.0)
    s_min, flow_min, flat = real(0.01), real(0.05), real(1e-2)
    J_min = real(1e-4)  # below the product of three stretches of 0.05

    @wp.struct
    class PrincipalStrain:
        v: real
        q: real
        r: real
        z: vec3
        d: vec3  # principal values of D

    @wp.func(module=module)
    def strains(s: vec3, a: real):
        h = vec3(wp.log(wp.max(s[0], s_min)), wp.log(wp.max(s[1], s_min)), wp.log(wp.max(s[2], s_min)))
        e = PrincipalStrain()
        e.v = h[0] + h[1] + h[2]
        mean = e.v * third
        e.d = vec3(h[0] - mean, h[1] - mean, h[2] - mean)
        e.q = wp.dot(e.d, e.d)
        square = e.q + a * a
        e.r = wp.sqrt(square)
        j = e.d[0] * e.d[0] * e.d[0] + e.d[1] * e.d[1] * e.d[1] + e.d[2] * e.d[2] * e.d[2]
        e.z = vec3(e.v / a, e.r / a - one, j / (square * a))
        return e

    @wp.func(module=module)
    def frames(F: mat33, U: mat33, s: vec3):
        # U and V; V from U and F, unless F is flat along two directions
        if s[1] < flat * s[0]:
            U1, _s, V1 = svd(F)
            return U1, V1
        b = wp.transpose(F) * U
        v0 = vec3(b[0, 0], b[1, 0], b[2, 0]) / s[0]
        v1 = vec3(b[0, 1], b[1, 1], b[2, 1]) / s[1]
        v2 = wp.cross(v0, v1)
        return U, mat33(v0[0], v1[0], v2[0], v0[1], v1[1], v2[1], v0[2], v1[2], v2[2])

    @wp.kernel(module=module, enable_backward=False)
    def strain(
        # constants
        a: real,
        # inputs
        F: wp.array(dtype=mat33),
        # outputs
        U_out: wp.array(dtype=mat33),
        s_out: wp.array(dtype=vec3),
        z_out: wp.array(dtype=vec3),
    ):
        """The left singular vectors and the singular values of F [1], and what the function takes, z [1]."""
        p = wp.tid()
        U, s, _V = svd(F[p])
        U_out[p] = U
        s_out[p] = s
        z_out[p] = strains(s, a).z

    @wp.kernel(module=module, enable_backward=False)
    def stress(
        # constants
        a: real,
        modulus: real,
        moduli: wp.array(dtype=real),
        # inputs
        U: wp.array(dtype=mat33),
        s: wp.array(dtype=vec3),
        S: wp.array(dtype=vec3),
        # outputs
        tau_out: wp.array(dtype=mat33),
    ):
        """Kirchhoff stress [Pa]."""
        p = wp.tid()
        e = strains(s[p], a)
        theta = a * S[p][2] / (e.r * e.r)
        alpha = two * moduli[0] + a * S[p][1] / e.r - two * a * theta * e.z[2]
        beta = moduli[1] * e.v + a * (S[p][0] - moduli[2]) - theta * e.q
        t = (e.d * alpha + vec3(beta, beta, beta) + wp.cw_mul(e.d, e.d) * (three * theta)) * modulus
        tau = U[p] * wp.diag(t) * wp.transpose(U[p])
        tau_out[p] = (tau + wp.transpose(tau)) * half

    @wp.kernel(module=module, enable_backward=False)
    def slope_adjoint(
        # constants
        a: real,
        modulus: real,
        # inputs
        U: wp.array(dtype=mat33),
        s: wp.array(dtype=vec3),
        tau_bar: wp.array(dtype=mat33),
        # outputs
        S_bar_out: wp.array(dtype=vec3),
    ):
        """The cotangent of S; those of the moduli follow from it and z."""
        p = wp.tid()
        e = strains(s[p], a)
        W = wp.cw_mul(U[p], tau_bar[p] * U[p]) * modulus
        g = vec3(W[0, 0] + W[1, 0] + W[2, 0], W[0, 1] + W[1, 1] + W[2, 1], W[0, 2] + W[1, 2] + W[2, 2])
        alpha_bar = wp.dot(g, e.d)
        beta_bar = g[0] + g[1] + g[2]
        theta_bar = three * wp.dot(g, wp.cw_mul(e.d, e.d)) - two * a * e.z[2] * alpha_bar - e.q * beta_bar
        S_bar_out[p] = vec3(beta_bar, alpha_bar / e.r, theta_bar / (e.r * e.r)) * a

    @wp.kernel(module=module, enable_backward=False)
    def strain_adjoint(
        # constants
        a: real,
        modulus: real,
        moduli: wp.array(dtype=real),
        # inputs
        F: wp.array(dtype=mat33),
        U: wp.array(dtype=mat33),
        s: wp.array(dtype=vec3),
        S: wp.array(dtype=vec3),
        tau_bar: wp.array(dtype=mat33),
        S_bar: wp.array(dtype=vec3),
        z_bar: wp.array(dtype=vec3),
        # outputs
        F_bar_out: wp.array(dtype=mat33),
    ):
        """The cotangent of F from those of tau, S and z."""
        p = wp.tid()
        sp = s[p]
        Fp = F[p]
        e = strains(sp, a)
        square = e.r * e.r
        theta = a * S[p][2] / square
        alpha = two * moduli[0] + a * S[p][1] / e.r - two * a * theta * e.z[2]
        alpha_bar = S_bar[p][1] * e.r / a
        beta_bar = S_bar[p][0] / a
        z3_bar = z_bar[p][2] - two * a * theta * alpha_bar
        r_bar = z_bar[p][1] / a - S_bar[p][1] * S[p][1] / e.r
        q_bar = half * r_bar / e.r - (S_bar[p][2] * S[p][2] + e.z[2] * z3_bar) / square - theta * beta_bar
        v_bar = moduli[1] * beta_bar + z_bar[p][0] / a
        j_bar = z3_bar / (square * a)
        Up, V = frames(Fp, U[p], sp)
        d = e.d
        G = wp.transpose(Up) * ((tau_bar[p] + wp.transpose(tau_bar[p])) * (half * modulus)) * Up
        turn = three * theta
        own = vec3(d[0] * j_bar * three, d[1] * j_bar * three, d[2] * j_bar * three) + vec3(one, one, one) * (
            two * q_bar
        )
        x = G[0, 0] * (alpha + two * turn * d[0]) + own[0] * d[0]
        y = G[1, 1] * (alpha + two * turn * d[1]) + own[1] * d[1]
        z = G[2, 2] * (alpha + two * turn * d[2]) + own[2] * d[2]
        g01 = G[0, 1] * (alpha + turn * (d[0] + d[1]))
        g02 = G[0, 2] * (alpha + turn * (d[0] + d[2]))
        g12 = G[1, 2] * (alpha + turn * (d[1] + d[2]))
        inward = v_bar - (x + y + z) * third
        H_bar = mat33(x + inward, g01, g02, g01, y + inward, g12, g02, g12, z + inward)
        F_bar_out[p] = log_adjoint(Up, sp, V, H_bar, s_min)

    @wp.kernel(module=module, enable_backward=False)
    def volume(
        # inputs
        F: wp.array(dtype=mat33),
        # outputs
        v_out: wp.array(dtype=real),
    ):
        """The volume strain log det F [1], with det F taken as at least 1e-4."""
        p = wp.tid()
        v_out[p] = wp.log(wp.max(wp.determinant(F[p]), J_min))

    @wp.kernel(module=module, enable_backward=False)
    def volume_adjoint(
        # inputs
        F: wp.array(dtype=mat33),
        v_bar: wp.array(dtype=real),
        # outputs
        F_bar_out: wp.array(dtype=mat33),
    ):
        """The cotangent of F from that of v."""
        p = wp.tid()
        J = wp.determinant(F[p])
        F_bar = mat33()
        if J > J_min:
            F_bar = cofactor(F[p]) * (v_bar[p] / J)
        F_bar_out[p] = F_bar

    @wp.func(module=module)
    def logarithms(s: vec3):
        return vec3(wp.log(wp.max(s[0], flow_min)), wp.log(wp.max(s[1], flow_min)), wp.log(wp.max(s[2], flow_min)))

    @wp.func(module=module)
    def kept(norm: real, v: real, excess: real, radius: real):
        # c, and which of the three it is
        c = one
        which = int(0)
        if excess > zero:
            c = one - excess / v
            which = 1
        if norm * c > radius:
            c = radius / norm
            which = 2
        return c, which

    @wp.kernel(module=module, enable_backward=False)
    def flow(
        # inputs
        F: wp.array(dtype=mat33),
        v: wp.array(dtype=real),
        excess: wp.array(dtype=real),
        radius: wp.array(dtype=real),
        # outputs
        F_out: wp.array(dtype=mat33),
        U_out: wp.array(dtype=mat33),
        s_out: wp.array(dtype=vec3),
    ):
        """F [1] after plastic flow; the left singular vectors and the singular values of F."""
        p = wp.tid()
        Fp = F[p]
        U, s, V = svd(Fp)
        U_out[p] = U
        s_out[p] = s
        e = logarithms(s)
        mean = (e[0] + e[1] + e[2]) * third
        d = e - vec3(mean, mean, mean)
        c, which = kept(wp.length(d), v[p], excess[p], radius[p])
        if which > 0 or s[0] < flow_min or s[1] < flow_min or s[2] < flow_min:
            mean -= excess[p] * third
            g = vec3(wp.exp(mean + c * d[0]), wp.exp(mean + c * d[1]), wp.exp(mean + c * d[2]))
            Fp = U * wp.diag(g) * wp.transpose(V)
        F_out[p] = Fp

    @wp.kernel(module=module, enable_backward=False)
    def flow_adjoint(
        # inputs
        F: wp.array(dtype=mat33),
        v: wp.array(dtype=real),
        excess: wp.array(dtype=real),
        radius: wp.array(dtype=real),
        U: wp.array(dtype=mat33),
        s: wp.array(dtype=vec3),
        F_new_bar: wp.array(dtype=mat33),
        # outputs
        F_bar_out: wp.array(dtype=mat33),
        v_bar_out: wp.array(dtype=real),
        excess_bar_out: wp.array(dtype=real),
        radius_bar_out: wp.array(dtype=real),
    ):
        """The cotangents of F, v, excess and radius from that of the result."""
        p = wp.tid()
        sp = s[p]
        e = logarithms(sp)
        mean = (e[0] + e[1] + e[2]) * third
        d = e - vec3(mean, mean, mean)
        norm = wp.length(d)
        c, which = kept(norm, v[p], excess[p], radius[p])
        F_bar = F_new_bar[p]
        v_bar = zero
        excess_bar = zero
        radius_bar = zero
        if which > 0 or sp[0] < flow_min or sp[1] < flow_min or sp[2] < flow_min:
            Fp = F[p]
            Up, V = frames(Fp, U[p], sp)
            G = wp.transpose(Up) * F_bar * V
            mean -= excess[p] * third
            h = vec3(mean + c * d[0], mean + c * d[1], mean + c * d[2])
            g = vec3(wp.exp(h[0]), wp.exp(h[1]), wp.exp(h[2]))
            h_bar = vec3(G[0, 0] * g[0], G[1, 1] * g[1], G[2, 2] * g[2])
            mean_bar = (h_bar[0] + h_bar[1] + h_bar[2]) * third
            excess_bar = -mean_bar
            across = (h_bar - vec3(mean_bar, mean_bar, mean_bar)) * c
            along = wp.dot(h_bar, d)  # cotangent of c
            if which == 2:
                radius_bar = along / norm
                across -= d * (c * along / (norm * norm))
            elif which == 1:
                excess_bar -= along / v[p]
                v_bar = along * excess[p] / (v[p] * v[p])
            diagonal = vec3()
            for j in range(3):
                if sp[j] > flow_min:
                    diagonal[j] = (across[j] + mean_bar) / sp[j]
            F_bar = map_adjoint(Up, sp, V, G, g, diagonal, exp_apart(sp, e, h, vec3(c, c, c), flow_min))
        F_bar_out[p] = F_bar
        v_bar_out[p] = v_bar
        excess_bar_out[p] = excess_bar
        radius_bar_out[p] = radius_bar

    return SimpleNamespace(
        strain=strain,
        stress=stress,
        slope_adjoint=slope_adjoint,
        strain_adjoint=strain_adjoint,
        volume=volume,
        volume_adjoint=volume_adjoint,
        flow=flow,
        flow_adjoint=flow_adjoint,
    )
