"""Kirchhoff stress tau(F) [Pa] of the shipped elastic laws, per particle, and its adjoint.

F = U diag(s) V^T, J = det F, R = U V^T, b = F F^T, e = log s. The columns of `coefficients` are those after the name.

    0 FIXED_COROTATED (mu, lam)  2 mu (F - R) F^T + lam J (J - 1) I                           Stomakhin et al. 2012
    1 HENCKY          (mu, lam)  U diag(2 mu e + lam tr e) U^T, s taken as at least 0.01      Klar et al. 2016
    2 NEO_HOOKEAN     (mu, lam)  mu (b - I) + lam / 2 (J^2 - 1) I                             Ciarlet 1988
    3 FLUID           (lam)      lam J (J - 1) I                                              Ma et al. 2023
    4 TAIT            (K, gamma) K / gamma (J - J^(1 - gamma)) I, J taken as at least 0.1     Monaghan 1994
    5 SNOW            (mu, lam, xi)  exp(xi (1 - exp q)) FIXED_COROTATED, q = log det F_plastic  Stomakhin et al. 2013
    6 ORTHOTROPIC     F S F^T, S = Q (C : Q^T E Q) Q^T, E = (F^T F - I) / 2; its 18 coefficients: `orthotropic`

-1 is a law of the user: its stress is left as it stands.
"""

import functools
from types import SimpleNamespace

import warp as wp

from ..cpu import cpu_module
from .orthotropic import functions as orthotropic_functions
from .svd import functions as matrix_functions

FIXED_COROTATED, HENCKY, NEO_HOOKEAN, FLUID, TAIT, SNOW, ORTHOTROPIC = range(7)
NUM_COEFFICIENTS = 3  # at least; ORTHOTROPIC has 18


@functools.cache
def kernels(real):
    """Kernels `stress` and `stress_adjoint` for wp.float32 or wp.float64."""
    f = matrix_functions(real)
    module, vec3, mat33 = cpu_module(f"simengine_elastic_{real.__name__}"), f.vec3, f.mat33
    svd, rotation, rotation_adjoint, cofactor = f.svd, f.rotation, f.rotation_adjoint, f.cofactor
    strain_adjoint = f.strain_adjoint
    own_axes = orthotropic_functions(real)
    axes_of, stiffened, stiffness_adjoint = own_axes.axes_of, own_axes.stiffened, own_axes.stiffness_adjoint
    one, two, half = real(1.0), real(2.0), real(0.5)
    s_min, J_min = real(0.01), real(0.1)

    @wp.func(module=module)
    def spherical(a: real):
        return mat33(a, real(0.0), real(0.0), real(0.0), a, real(0.0), real(0.0), real(0.0), a)

    @wp.func(module=module)
    def symmetric(a: mat33):
        return (a + wp.transpose(a)) * half

    @wp.func(module=module)
    def green(F: mat33):
        return (wp.transpose(F) * F - spherical(one)) * half

    @wp.kernel(module=module, enable_backward=False)
    def stress(
        # constants
        clock: wp.array(dtype=int),
        law: wp.array(dtype=int),
        coefficients: wp.array2d(dtype=wp.float64),
        # inputs
        F: wp.array2d(dtype=mat33),
        q: wp.array2d(dtype=real),
        # outputs
        tau_out: wp.array(dtype=mat33),
    ):
        """Kirchhoff stress [Pa] from F [1] and the history variable q."""
        p = wp.tid()
        kind = law[p]
        if kind < 0:
            return
        Fp = F[clock[0], p]
        mu = real(coefficients[p, 0])
        lam = real(coefficients[p, 1])
        tau = mat33()
        if kind == HENCKY:
            U, s, _V = svd(Fp)
            e = vec3(wp.log(wp.max(s[0], s_min)), wp.log(wp.max(s[1], s_min)), wp.log(wp.max(s[2], s_min)))
            trace = lam * (e[0] + e[1] + e[2])
            t = e * (two * mu)
            tau = U * wp.diag(t) * wp.transpose(U) + spherical(trace)
        elif kind == ORTHOTROPIC:
            FQ = Fp * axes_of(coefficients, p)
            tau = FQ * stiffened(coefficients, p, green(FQ)) * wp.transpose(FQ)
        else:
            J = wp.determinant(Fp)
            if kind == FIXED_COROTATED or kind == SNOW:
                tau = (Fp - rotation(Fp)) * wp.transpose(Fp) * (two * mu) + spherical(lam * J * (J - one))
                if kind == SNOW:
                    tau = tau * wp.exp(
                        real(coefficients[p, 2]) * (one - wp.exp(q[wp.min(clock[0], q.shape[0] - 1), p]))
                    )
            elif kind == NEO_HOOKEAN:
                tau = Fp * wp.transpose(Fp) * mu + spherical(half * lam * (J * J - one) - mu)
            elif kind == FLUID:
                tau = spherical(mu * J * (J - one))
            elif kind == TAIT:
                Jc = wp.max(J, J_min)
                tau = spherical(mu / lam * (Jc - wp.pow(Jc, one - lam)))
        tau_out[p] = symmetric(tau)

    @wp.kernel(module=cpu_module(module + "_adjoint"), enable_backward=False)
    def stress_adjoint(
        # constants
        clock: wp.array(dtype=int),
        law: wp.array(dtype=int),
        coefficients: wp.array2d(dtype=wp.float64),
        # inputs
        F: wp.array2d(dtype=mat33),
        q: wp.array2d(dtype=real),
        tau_bar: wp.array(dtype=mat33),
        # outputs, added to
        F_bar_out: wp.array(dtype=mat33),
        q_bar_out: wp.array(dtype=real),
        coefficients_bar_out: wp.array2d(dtype=wp.float64),
    ):
        """Cotangents of F, q and the coefficients from that of tau."""
        p = wp.tid()
        kind = law[p]
        if kind < 0:
            return
        Fp = F[clock[0], p]
        mu = real(coefficients[p, 0])
        lam = real(coefficients[p, 1])
        T = symmetric(tau_bar[p])
        trace = T[0, 0] + T[1, 1] + T[2, 2]
        F_bar = mat33()
        mu_bar = real(0.0)
        lam_bar = real(0.0)
        if kind == HENCKY:
            U, s, V = svd(Fp)
            c = vec3(wp.max(s[0], s_min), wp.max(s[1], s_min), wp.max(s[2], s_min))
            e = vec3(wp.log(c[0]), wp.log(c[1]), wp.log(c[2]))
            G = wp.transpose(U) * T * U
            mu_bar = two * (e[0] * G[0, 0] + e[1] * G[1, 1] + e[2] * G[2, 2])
            lam_bar = (e[0] + e[1] + e[2]) * trace
            F_bar = strain_adjoint(U, s, V, G * (two * mu) + spherical(lam * trace), s_min)
        elif kind == ORTHOTROPIC:
            Q = axes_of(coefficients, p)
            FQ = Fp * Q
            strain = green(FQ)
            S_bar = wp.transpose(FQ) * T * FQ
            stiffness_adjoint(coefficients_bar_out, p, strain, S_bar)
            # E_bar = C : S_bar, for C is symmetric; F_bar and Q_bar through F Q
            FQ_bar = T * FQ * stiffened(coefficients, p, strain) * two + FQ * stiffened(coefficients, p, S_bar)
            F_bar = FQ_bar * wp.transpose(Q)
            Q_bar = wp.transpose(Fp) * FQ_bar
            for k in range(9):
                coefficients_bar_out[p, 9 + k] += wp.float64(Q_bar[k // 3, k % 3])
        else:
            J = wp.determinant(Fp)
            J_bar = real(0.0)
            if kind == FIXED_COROTATED or kind == SNOW:
                R = rotation(Fp)
                h = one
                if kind == SNOW:
                    h = wp.exp(real(coefficients[p, 2]) * (one - wp.exp(q[wp.min(clock[0], q.shape[0] - 1), p])))
                D = symmetric((Fp - R) * wp.transpose(Fp))
                TF = T * Fp
                F_bar = (TF + T * (Fp - R) - rotation_adjoint(Fp, R, TF)) * (two * mu * h)
                J_bar = lam * (two * J - one) * trace * h
                mu_bar = two * wp.ddot(T, D) * h
                lam_bar = J * (J - one) * trace * h
                if kind == SNOW:
                    h_bar = mu * mu_bar + lam * lam_bar  # equals h dL/dh
                    xi = real(coefficients[p, 2])
                    expq = wp.exp(q[wp.min(clock[0], q.shape[0] - 1), p])
                    q_bar_out[p] = q_bar_out[p] - h_bar * xi * expq
                    coefficients_bar_out[p, 2] += wp.float64(h_bar * (one - expq))
            elif kind == NEO_HOOKEAN:
                F_bar = T * Fp * (two * mu)
                J_bar = lam * J * trace
                mu_bar = wp.ddot(T, Fp * wp.transpose(Fp)) - trace
                lam_bar = half * (J * J - one) * trace
            elif kind == FLUID:
                J_bar = mu * (two * J - one) * trace
                mu_bar = J * (J - one) * trace
            elif kind == TAIT:
                Jc = wp.max(J, J_min)
                power = wp.pow(Jc, one - lam)
                if J > J_min:
                    J_bar = mu / lam * (one - (one - lam) * power / Jc) * trace
                mu_bar = (Jc - power) / lam * trace
                lam_bar = mu / lam * (power * wp.log(Jc) - (Jc - power) / lam) * trace
            F_bar = F_bar + cofactor(Fp) * J_bar
        F_bar_out[p] = F_bar_out[p] + F_bar
        coefficients_bar_out[p, 0] += wp.float64(mu_bar)
        coefficients_bar_out[p, 1] += wp.float64(lam_bar)

    return SimpleNamespace(stress=stress, stress_adjoint=stress_adjoint)
