"""Kernels of an ideal gas mixture: thermodynamics of species, rates of progress and production, and their derivatives.

One thread computes a species at a point, or a reaction at a point, from lists of the species that take part, so that
the work grows with the mechanism's non-zeros. Derivatives are written by hand:

    q = k (P - P'/K),  k = A T^b exp(-Ea/(R T)) times [M] or the fall-off factor,  P = prod C_k^order_k

with d ln K/dT = sum nu_k h_k/(R T^2) - sum nu_k/T and, in the fall-off, d ln k/d ln Pr = 1/(1 + Pr) + d ln F/d ln Pr.
"""

import functools
from types import SimpleNamespace

import warp as wp


@functools.cache
def kernels(scalar: type) -> SimpleNamespace:
    """The kernels for wp.float32 or wp.float64."""
    module = wp.get_module(f"simengine.kernels.fields.gas.{scalar.__name__}")
    module.options.update(enable_backward=False)
    kernel = functools.partial(wp.kernel, module=module, enable_backward=False)
    func = functools.partial(wp.func, module=module)
    array, matrix, cube = (wp.array(dtype=scalar, ndim=d) for d in (1, 2, 3))
    ints = wp.array(dtype=wp.int32)
    zero, one, two, three, half = (wp.constant(scalar(v)) for v in (0.0, 1.0, 2.0, 3.0, 0.5))
    R = wp.constant(scalar(8.31446261815324))
    ln10 = wp.constant(scalar(2.302585092994046))
    least = wp.constant(scalar(1e-30 if scalar is wp.float32 else 1e-300))
    most = wp.constant(scalar(80.0 if scalar is wp.float32 else 690.0))

    @func
    def power(c: scalar, order: scalar, smoothing: scalar):
        # c^order; orders other than 1, 2, 3 go to zero linearly below the smoothing, as c (c + s)^(order - 1)
        if order == one:
            return c
        if order == two:
            return c * c
        if order == three:
            return c * c * c
        return c * wp.pow(wp.max(c, zero) + smoothing, order - one)

    @func
    def power_slope(c: scalar, order: scalar, smoothing: scalar):
        if order == one:
            return one
        if order == two:
            return two * c
        if order == three:
            return three * c * c
        base = wp.max(c, zero) + smoothing
        slope = wp.pow(base, order - one)
        if c > zero:
            slope += c * (order - one) * wp.pow(base, order - two)
        return slope

    @func
    def product(C: matrix, i: int, first: int, last: int, skip: int, which: ints, order: array, smoothing: scalar):
        value = scalar(1.0)
        for e in range(first, last):
            if e != skip:
                value *= power(C[i, which[e]], order[e], smoothing)
        return value

    @kernel
    def thermo(
        T: array,
        nasa: cube,  # (K, G, 9)
        breaks: matrix,  # (K, G - 1)
        cp_out: matrix,
        h_out: matrix,
        s_out: matrix,
        cp_slope_out: matrix,
    ):
        i, k = wp.tid()
        t = T[i]
        g = wp.int32(0)
        for j in range(breaks.shape[1]):
            if t >= breaks[k, j]:
                g = j + 1
        a0 = nasa[k, g, 0]
        a1 = nasa[k, g, 1]
        a2 = nasa[k, g, 2]
        a3 = nasa[k, g, 3]
        a4 = nasa[k, g, 4]
        a5 = nasa[k, g, 5]
        a6 = nasa[k, g, 6]
        u = one / t
        log_t = wp.log(t)
        cp_out[i, k] = (a0 * u + a1) * u + a2 + t * (a3 + t * (a4 + t * (a5 + t * a6)))
        cp_slope_out[i, k] = (
            -(two * a0 * u + a1) * u * u + a3 + t * (two * a4 + t * (three * a5 + t * scalar(4.0) * a6))
        )
        h_out[i, k] = (
            -a0 * u * u
            + a1 * log_t * u
            + a2
            + t * (a3 / two + t * (a4 / three + t * (a5 / scalar(4.0) + t * a6 / scalar(5.0))))
            + nasa[k, g, 7] * u
        )
        s_out[i, k] = (
            -half * a0 * u * u
            - a1 * u
            + a2 * log_t
            + t * (a3 + t * (a4 / two + t * (a5 / three + t * a6 / scalar(4.0))))
            + nasa[k, g, 8]
        )

    @kernel
    def progress(
        # constants
        smoothing: scalar,
        p_ref: scalar,
        # inputs
        T: array,
        C: matrix,
        h: matrix,  # over R T
        s: matrix,  # over R
        A: array,
        b: array,
        Ea: array,
        kind: ints,  # bits: 1 reversible, 2 third body, 4 fall-off, 8 Troe
        low: matrix,  # A, b, Ea of the low-pressure limit (R, 3)
        troe: matrix,  # a, T3, T1, T2 (R, 4)
        tabled: ints,  # place in `table` of those whose limits or pressures are computed elsewhere, else -1
        table: cube,  # by what k is multiplied, d ln/dT of it, d/d[M], d ln(effective k)/d ln k; (n, S, 4)
        mixed: ints,  # place in `mixture` of those whose colliders a mixture rule weighs, else -1
        mixture: cube,  # d/dC of by what their k is multiplied, (n, B, K)
        collider_start: ints,  # of the efficiencies that are not 0
        collider: ints,
        efficiency: array,
        forward_start: ints,
        forward: ints,
        order: array,
        reverse_start: ints,
        reverse: ints,
        reverse_order: array,
        change_start: ints,
        change: ints,
        nu: array,
        # outputs
        q_out: matrix,
        T_slope_out: matrix,  # dq/dT at constant C
        k_slope_out: matrix,  # dq/d ln of the rate constant
        collider_slope_out: matrix,  # dq/dC of each collider, (n, colliders)
        forward_slope_out: matrix,  # dq/dC of each factor, (n, factors)
        reverse_slope_out: matrix,
    ):
        i, r = wp.tid()
        t = T[i]
        u = one / (R * t)
        log_t = wp.log(t)
        k = A[r] * wp.exp(b[r] * log_t - Ea[r] * u)
        k_T = (b[r] + Ea[r] * u) / t  # d ln k/dT
        k_k = scalar(1.0)  # d ln(effective k)/d ln k
        k_M = scalar(0.0)  # dk/d[M]
        k_mixed = k  # dk/dC over that in `mixture`
        flags = kind[r]
        place = tabled[r]
        if place >= 0:
            k_M = k * table[i, place, 2]
            k = k * table[i, place, 0]
            k_T += table[i, place, 1]
            k_k = table[i, place, 3]
        elif (flags & 6) != 0:
            M = scalar(0.0)
            for e in range(collider_start[r], collider_start[r + 1]):
                M += efficiency[e] * C[i, collider[e]]
            if (flags & 2) != 0:
                k_M = k
                k = k * M
            else:
                k_low = low[r, 0] * wp.exp(low[r, 1] * log_t - low[r, 2] * u)
                low_T = (low[r, 1] + low[r, 2] * u) / t
                reduced = k_low * wp.max(M, zero) / k
                share = one / (one + reduced)  # d ln(Pr/(1 + Pr))/d ln Pr
                blend = scalar(1.0)
                blend_T = scalar(0.0)
                if (flags & 8) != 0:
                    e3 = (one - troe[r, 0]) * wp.exp(-t / troe[r, 1])
                    e1 = troe[r, 0] * wp.exp(-t / troe[r, 2])
                    center = e3 + e1
                    center_T = -e3 / troe[r, 1] - e1 / troe[r, 2]
                    if troe[r, 3] < scalar(1e30):
                        e2 = wp.exp(-troe[r, 3] / t)
                        center += e2
                        center_T += e2 * troe[r, 3] / (t * t)
                    center = wp.max(center, least)
                    level = wp.log(center) / ln10
                    x = wp.log(wp.max(reduced, least)) / ln10 - scalar(0.4) - scalar(0.67) * level
                    n = scalar(0.75) - scalar(1.27) * level
                    den = n - scalar(0.14) * x
                    f = x / den
                    bell = one / (one + f * f)
                    blend = wp.exp(ln10 * level * bell)
                    steep = -two * level * f * bell * bell  # d(log F)/df
                    share += steep * n / (den * den)
                    f_level = (-scalar(0.67) * den - x * (-scalar(1.27) + scalar(0.14) * scalar(0.67))) / (den * den)
                    blend_T = (bell + steep * f_level) * center_T / center
                bare = k_low * blend / (one + reduced)  # effective k over [M]
                k_M = bare * share
                k_k = one - share
                k_T = k_T + (low_T - k_T) * share + blend_T
                k = bare * wp.max(M, zero)
        f0 = forward_start[r]
        f1 = forward_start[r + 1]
        ahead = product(C, i, f0, f1, -1, forward, order, smoothing)
        back = scalar(0.0)
        inverse = scalar(0.0)
        K_T = scalar(0.0)
        r0 = reverse_start[r]
        r1 = reverse_start[r + 1]
        if (flags & 1) != 0:
            log_K = scalar(0.0)
            total = scalar(0.0)
            for e in range(change_start[r], change_start[r + 1]):
                m = change[e]
                log_K -= nu[e] * (h[i, m] - s[i, m])
                K_T += nu[e] * h[i, m]
                total += nu[e]
            log_K += total * wp.log(p_ref * u)
            K_T = (K_T - total) / t
            if log_K > most or log_K < -most:
                K_T = zero
            inverse = wp.exp(-wp.clamp(log_K, -most, most))
            back = inverse * product(C, i, r0, r1, -1, reverse, reverse_order, smoothing)
        net = ahead - back
        q_out[i, r] = k * net
        T_slope_out[i, r] = k * (k_T * net + K_T * back)
        k_slope_out[i, r] = k * net * k_k
        place = mixed[r]
        for e in range(collider_start[r], collider_start[r + 1]):
            k_C = k_M * efficiency[e]
            if place >= 0:
                k_C = k_mixed * mixture[i, place, collider[e]]
            collider_slope_out[i, e] = k_C * net
        for e in range(f0, f1):
            others = product(C, i, f0, f1, e, forward, order, smoothing)
            forward_slope_out[i, e] = k * others * power_slope(C[i, forward[e]], order[e], smoothing)
        for e in range(r0, r1):
            others = product(C, i, r0, r1, e, reverse, reverse_order, smoothing)
            slope = power_slope(C[i, reverse[e]], reverse_order[e], smoothing)
            reverse_slope_out[i, e] = -k * inverse * others * slope

    @kernel
    def gather(q: matrix, made_start: ints, made: ints, made_nu: array, w_out: matrix):
        i, k = wp.tid()
        total = scalar(0.0)
        for e in range(made_start[k], made_start[k + 1]):
            total += made_nu[e] * q[i, made[e]]
        w_out[i, k] = total

    @kernel
    def jacobian(
        T_slope: matrix,
        collider_slope: matrix,
        forward_slope: matrix,
        reverse_slope: matrix,
        made_start: ints,
        made: ints,
        made_nu: array,
        collider_start: ints,
        collider: ints,
        forward_start: ints,
        forward: ints,
        reverse_start: ints,
        reverse: ints,
        T_out: matrix,  # dw/dT (n, K)
        C_out: cube,  # dw_k/dC_l (n, K, K), zero on entry
    ):
        i, k = wp.tid()
        total = scalar(0.0)
        for e in range(made_start[k], made_start[k + 1]):
            r = made[e]
            n = made_nu[e]
            total += n * T_slope[i, r]
            for c in range(collider_start[r], collider_start[r + 1]):
                C_out[i, k, collider[c]] = C_out[i, k, collider[c]] + n * collider_slope[i, c]
            for c in range(forward_start[r], forward_start[r + 1]):
                C_out[i, k, forward[c]] = C_out[i, k, forward[c]] + n * forward_slope[i, c]
            for c in range(reverse_start[r], reverse_start[r + 1]):
                C_out[i, k, reverse[c]] = C_out[i, k, reverse[c]] + n * reverse_slope[i, c]
        T_out[i, k] = total

    @kernel
    def pull(
        w_bar: matrix,
        T_slope: matrix,
        collider_slope: matrix,
        forward_slope: matrix,
        reverse_slope: matrix,
        change_start: ints,
        change: ints,
        nu: array,
        collider_start: ints,
        collider: ints,
        forward_start: ints,
        forward: ints,
        reverse_start: ints,
        reverse: ints,
        q_bar_out: matrix,
        T_bar_out: array,
        C_bar_out: matrix,  # zero on entry
    ):
        i = wp.tid()
        T_bar = scalar(0.0)
        for r in range(T_slope.shape[1]):
            q_bar = scalar(0.0)
            for e in range(change_start[r], change_start[r + 1]):
                q_bar += nu[e] * w_bar[i, change[e]]
            q_bar_out[i, r] = q_bar
            T_bar += q_bar * T_slope[i, r]
            for e in range(collider_start[r], collider_start[r + 1]):
                C_bar_out[i, collider[e]] = C_bar_out[i, collider[e]] + q_bar * collider_slope[i, e]
            for e in range(forward_start[r], forward_start[r + 1]):
                C_bar_out[i, forward[e]] = C_bar_out[i, forward[e]] + q_bar * forward_slope[i, e]
            for e in range(reverse_start[r], reverse_start[r + 1]):
                C_bar_out[i, reverse[e]] = C_bar_out[i, reverse[e]] + q_bar * reverse_slope[i, e]
        T_bar_out[i] = T_bar

    return SimpleNamespace(thermo=thermo, progress=progress, gather=gather, jacobian=jacobian, pull=pull)
