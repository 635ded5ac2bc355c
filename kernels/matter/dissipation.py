"""Viscosity and Maxwell branches on top of an elastic law, per particle, and their adjoint.

    tau = (1 + sum_b s_b) tau_e - sum_b s_b F A_b F^T + viscosity J (C + C^T - 2/3 tr C I)
    A_b <- A_b + k_b (S - A_b),   S = F^-1 tau_e F^-T,   k_b = 1 - exp(-dt / time_b)

Rayleigh damping: forces -(mass-proportional) m v and -(stiffness-proportional) K v. The latter is a branch that
relaxes within a step, k_b = 1 and s_b = damping / dt, for then s_b (tau_e - F A_b F^T) is damping F dS/dt F^T. The
former slows what a particle hands to the grid, kernel `slow`: v, C <- (1 - k) (v, C), k = 1 - exp(-damping dt).

tau_e is the stress of the law, S the same on the undeformed body (second Piola-Kirchhoff), A_b what of it branch b has
relaxed: a branch carries the share s_b of what it has not. Held still, (1 + sum s) tau_e falls to tau_e.

Columns of `coefficients`: viscosity [Pa s], the shares s_b [1], the k_b [1], the k of `slow` [1].

Source: Simo 1987 (finite linear viscoelasticity), here with the whole stress in the branches: E and G relax alike.
"""

# ruff: noqa: UP018, RUF046 -- int(0) declares a variable of a kernel, 0 a constant

import functools
from types import SimpleNamespace

import warp as wp

from ..cpu import cpu_module
from .svd import functions as matrix_functions


@functools.cache
def kernels(real):
    """Kernels `dissipation`, `slow` and their adjoints for wp.float32 or wp.float64."""
    f = matrix_functions(real)
    module, vec3, mat33 = cpu_module(f"simengine_dissipation_{real.__name__}"), f.vec3, f.mat33
    cofactor = f.cofactor
    array2d, array3d = wp.array2d, wp.array3d
    one, third = real(1.0), real(1.0 / 3.0)

    @wp.func(module=module)
    def deviator(a: mat33):
        # twice the deviator of the symmetric part
        b = a + wp.transpose(a)
        p = (b[0, 0] + b[1, 1] + b[2, 2]) * third
        return b - mat33(p, real(0.0), real(0.0), real(0.0), p, real(0.0), real(0.0), real(0.0), p)

    @wp.kernel(module=module, enable_backward=False)
    def dissipation(
        # constants
        clock: wp.array(dtype=int),
        coefficients: array2d(dtype=wp.float64),
        # inputs
        F: array2d(dtype=mat33),
        C: array2d(dtype=mat33),
        tau: wp.array(dtype=mat33),
        # inputs and outputs
        A: array3d(dtype=mat33),
        # outputs
        tau_out: wp.array(dtype=mat33),
    ):
        """The whole stress [Pa] at slot clock[0], and what has relaxed by slot clock[1]."""
        p = wp.tid()
        t = clock[0]
        n = A.shape[2]
        Fp = F[t, p]
        elastic = tau[p]
        viscosity = real(coefficients[p, 0])
        out = elastic
        if viscosity > real(0.0):
            out = out + deviator(C[t, p]) * (viscosity * wp.determinant(Fp))
        G = mat33()
        if n > 0:
            G = wp.inverse(Fp)
        S = G * elastic * wp.transpose(G)
        b = int(0)
        while b < n:
            relaxed = A[t, p, b]
            out = out + (elastic - Fp * relaxed * wp.transpose(Fp)) * real(coefficients[p, 1 + b])
            A[clock[1], p, b] = relaxed + (S - relaxed) * real(coefficients[p, 1 + n + b])
            b += 1
        tau_out[p] = out

    @wp.kernel(module=module, enable_backward=False)
    def dissipation_adjoint(
        # constants
        clock: wp.array(dtype=int),
        coefficients: array2d(dtype=wp.float64),
        # inputs
        F: array2d(dtype=mat33),
        C: array2d(dtype=mat33),
        A: array3d(dtype=mat33),
        tau: wp.array(dtype=mat33),
        # inputs and outputs: of the whole stress, turned into that of the law's; of A at the end, into the beginning's
        tau_bar: wp.array(dtype=mat33),
        A_bar: array2d(dtype=mat33),
        # outputs
        F_bar_out: wp.array(dtype=mat33),
        C_bar_out: wp.array(dtype=mat33),
        coefficients_bar_out: array2d(dtype=wp.float64),
    ):
        """Cotangents of F, C, A, the law's stress and the coefficients."""
        p = wp.tid()
        t = clock[0]
        n = A.shape[2]
        Fp = F[t, p]
        elastic = tau[p]
        T = tau_bar[p]
        viscosity = real(coefficients[p, 0])
        rate = deviator(C[t, p])
        J = wp.determinant(Fp)
        along = wp.ddot(T, rate)
        coefficients_bar_out[p, 0] += wp.float64(along * J)
        elastic_bar = T
        F_bar = cofactor(Fp) * (viscosity * along)
        C_bar_out[p] = C_bar_out[p] + deviator(T) * (viscosity * J)
        if n > 0:
            G = wp.inverse(Fp)
            Gt = wp.transpose(G)
            S = G * elastic * Gt
            S_bar = mat33()
            b = int(0)
            while b < n:
                relaxed = A[t, p, b]
                after_bar = A_bar[p, b]
                share = real(coefficients[p, 1 + b])
                k = real(coefficients[p, 1 + n + b])
                elastic_bar = elastic_bar + T * share
                F_bar = F_bar - (T * Fp * wp.transpose(relaxed) + wp.transpose(T) * Fp * relaxed) * share
                S_bar = S_bar + after_bar * k
                A_bar[p, b] = after_bar * (one - k) - wp.transpose(Fp) * T * Fp * share
                coefficients_bar_out[p, 1 + b] += wp.float64(wp.ddot(T, elastic - Fp * relaxed * wp.transpose(Fp)))
                coefficients_bar_out[p, 1 + n + b] += wp.float64(wp.ddot(after_bar, S - relaxed))
                b += 1
            elastic_bar = elastic_bar + Gt * S_bar * G
            F_bar = F_bar - Gt * (S_bar * wp.transpose(S) + wp.transpose(S_bar) * S)
        tau_bar[p] = elastic_bar
        F_bar_out[p] = F_bar_out[p] + F_bar

    @wp.kernel(module=module, enable_backward=False)
    def slow(
        # constants
        clock: wp.array(dtype=int),
        coefficients: array2d(dtype=wp.float64),
        # inputs
        v: array2d(dtype=vec3),
        C: array2d(dtype=mat33),
        # outputs
        v_out: wp.array(dtype=vec3),
        C_out: wp.array(dtype=mat33),
    ):
        """Velocity [m/s] and its gradient [1/s] at slot clock[0] with what mass-proportional damping leaves of them."""
        p = wp.tid()
        left = one - real(coefficients[p, coefficients.shape[1] - 1])
        v_out[p] = v[clock[0], p] * left
        C_out[p] = C[clock[0], p] * left

    @wp.kernel(module=module, enable_backward=False)
    def slow_adjoint(
        # constants
        clock: wp.array(dtype=int),
        coefficients: array2d(dtype=wp.float64),
        # inputs
        v: array2d(dtype=vec3),
        C: array2d(dtype=mat33),
        # inputs and outputs: of what was left, turned into those of the whole
        v_bar: wp.array(dtype=vec3),
        C_bar: wp.array(dtype=mat33),
        # outputs
        coefficients_bar_out: array2d(dtype=wp.float64),
    ):
        """Cotangents of v, C and the coefficient."""
        p = wp.tid()
        last = coefficients.shape[1] - 1
        left = one - real(coefficients[p, last])
        lost = wp.dot(v_bar[p], v[clock[0], p]) + wp.ddot(C_bar[p], C[clock[0], p])
        coefficients_bar_out[p, last] -= wp.float64(lost)
        v_bar[p] = v_bar[p] * left
        C_bar[p] = C_bar[p] * left

    return SimpleNamespace(
        dissipation=dissipation, dissipation_adjoint=dissipation_adjoint, slow=slow, slow_adjoint=slow_adjoint
    )
