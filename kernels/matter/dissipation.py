"""Viscosity and Maxwell branches on top of an elastic law, per particle, and their adjoint.

    tau = (1 + sum_b s_b) tau_e - sum_b s_b F A_b F^T + viscosity J (C + C^T - 2/3 tr C I)
    A_b <- A_b + k_b (S - A_b),   S = F^-1 tau_e F^-T,   k_b = 1 - exp(-dt / time_b)

tau_e is the stress of the law, S the same on the undeformed body (second Piola-Kirchhoff), A_b what of it branch b has
relaxed: a branch carries the share s_b of what it has not. Held still, (1 + sum s) tau_e falls to tau_e.

Columns of `coefficients`: viscosity [Pa s], the shares s_b [1], the k_b [1].

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
    """Kernels `dissipation` and `dissipation_adjoint` for wp.float32 or wp.float64."""
    f = matrix_functions(real)
    module, mat33, cofactor = cpu_module(f"simengine_dissipation_{real.__name__}"), f.mat33, f.cofactor
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

    return SimpleNamespace(dissipation=dissipation, dissipation_adjoint=dissipation_adjoint)
