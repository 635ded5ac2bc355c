"""Return maps F -> F of the shipped plastic laws, per particle, and their adjoint.

F = U diag(s) V^T -> U diag(g(s)) V^T; e = log s, d = dev e. The columns of `coefficients` are those after the name.

    0 IDENTITY
    1 VON_MISES       (mu, sigma_y, H)          2 mu |d| is brought back to sigma_y + H q (q: accumulated plastic
                                                strain; linear isotropic hardening), s taken as at least 0.05
    2 DRUCKER_PRAGER  (mu, lam, alpha, c, 0)    cone |d| <= -alpha (3 lam + 2 mu) / (2 mu) tr(e - c), tip at e = c I;
                                                Klar et al. 2016, cohesion c as a strain; with a fifth coefficient
                                                of 1 the volume that grains gained while they were apart is q and goes
                                                before they press again: tr e + q takes the place of tr e, and q becomes
                                                what of it lies beyond the tip (Tampubolon et al. 2017, Sec. 4.3.4)
    3 FLUID           ()                        F -> J^(1/3) I
    4 SNOW            (theta_c, theta_s)        s clamped to [1 - theta_c, 1 + theta_s], q = log det F_plastic;
                                                Stomakhin et al. 2013, Sec. 5
    5 HERSCHEL_BULKLEY (mu, sigma_y, k, n, dt)  2 mu |d'| = 2 mu |d| - 2 mu dt g with the rate g [1/s] that solves
                                                2 mu |d| - 2 mu dt g = sigma_y + k g^n (implicit overstress)
    6 MOHR_COULOMB    (mu, lam, sin phi, c, 0)  the hexagon of `mohr_coulomb` in place of the cone; tip and q as there
    7 INERTIAL        (mu, lam, mu_s, mu_2, c)  grains in rapid flow, mu(I): `rates`; tip at 0 and q as there

-1 is a law of the user: its result is left as it stands.
"""

# ruff: noqa: UP018, RUF046 -- int(0) declares a variable of a kernel, 0 a constant

import functools
from types import SimpleNamespace

import warp as wp

from ..cpu import cpu_module
from .mohr_coulomb import functions as hexagon_functions
from .rates import functions as rate_functions
from .svd import functions as matrix_functions

IDENTITY, VON_MISES, DRUCKER_PRAGER, FLUID, SNOW, HERSCHEL_BULKLEY, MOHR_COULOMB, INERTIAL = range(8)
NUM_COEFFICIENTS = 5


@functools.cache
def kernels(real):
    """Kernels `return_map` and `return_map_adjoint` for wp.float32 or wp.float64."""
    f = matrix_functions(real)
    module, vec3, mat33 = cpu_module(f"simengine_plastic_{real.__name__}"), f.vec3, f.mat33
    svd, cofactor = f.svd, f.cofactor
    exp_apart, map_adjoint, ratio = f.exp_apart, f.map_adjoint, f.ratio
    hexagon = hexagon_functions(real)
    beyond, flowed, pulled_back = hexagon.excess, hexagon.flowed, hexagon.pulled_back
    rates = rate_functions(real)
    kept, slopes, overstress_rate = rates.kept, rates.slopes, rates.overstress_rate
    zero, one, two, third = real(0.0), real(1.0), real(2.0), real(1.0 / 3.0)
    s_min, J_min, tiny = real(0.05), real(1e-6), real(1e-12)
    array2d, vec5 = wp.array2d, rates.vec5

    @wp.func(module=module)
    def five(coefficients: array2d(dtype=wp.float64), p: int):
        out = vec5()
        for k in range(5):
            out[k] = real(coefficients[p, k])
        return out

    @wp.kernel(module=module, enable_backward=False)
    def return_map(
        # constants
        clock: wp.array(dtype=int),
        law: wp.array(dtype=int),
        coefficients: array2d(dtype=wp.float64),
        # inputs
        F_trial: wp.array(dtype=mat33),
        q: array2d(dtype=real),
        # outputs
        F_out: array2d(dtype=mat33),
        q_out: array2d(dtype=real),
    ):
        """F [1] and the history variable after the step, from F_trial and the history before it."""
        p = wp.tid()
        kind = law[p]
        if kind < 0:
            return
        t1 = clock[1]
        q0 = q[wp.min(clock[0], q.shape[0] - 1), p]
        q1 = q0
        F = F_trial[p]
        if kind == FLUID:
            J = wp.max(wp.determinant(F), J_min)
            a = wp.pow(J, third)
            F = mat33(a, zero, zero, zero, a, zero, zero, zero, a)
        elif kind != IDENTITY:
            U, s, V = svd(F)
            g = s
            changed = bool(False)
            if kind == SNOW:
                low = one - real(coefficients[p, 0])
                high = one + real(coefficients[p, 1])
                g = vec3(wp.clamp(s[0], low, high), wp.clamp(s[1], low, high), wp.clamp(s[2], low, high))
                changed = g[0] != s[0] or g[1] != s[1] or g[2] != s[2]
                if changed:
                    J = wp.max(s[0] * s[1] * s[2], J_min)
                    q1 = q0 + wp.log(J / (g[0] * g[1] * g[2]))
            else:
                low = s_min
                c = vec3(wp.max(s[0], low), wp.max(s[1], low), wp.max(s[2], low))
                e = vec3(wp.log(c[0]), wp.log(c[1]), wp.log(c[2]))
                mean = (e[0] + e[1] + e[2]) * third
                d = vec3(e[0] - mean, e[1] - mean, e[2] - mean)
                norm = wp.length(d)
                mu = real(coefficients[p, 0])
                changed = c[2] != s[2] or c[1] != s[1] or c[0] != s[0]
                r = one
                if kind == VON_MISES:
                    H = real(coefficients[p, 2])
                    excess = two * mu * norm - real(coefficients[p, 1]) - H * q0
                    if excess > zero:
                        q1 = q0 + excess / (two * mu + H)
                        r = one - excess / ((two * mu + H) * norm)
                        changed = True
                elif kind == HERSCHEL_BULKLEY:
                    excess = two * mu * norm - real(coefficients[p, 1])
                    if excess > zero:
                        dt = real(coefficients[p, 4])
                        rate = overstress_rate(
                            excess, two * mu * dt, real(coefficients[p, 2]), real(coefficients[p, 3])
                        )
                        q1 = q0 + dt * rate
                        r = one - dt * rate / norm
                        changed = True
                elif kind == DRUCKER_PRAGER or kind == MOHR_COULOMB or kind == INERTIAL:
                    lam = real(coefficients[p, 1])
                    tip = real(coefficients[p, 3])
                    if kind == INERTIAL:
                        tip = zero
                    if coefficients[p, 4] > wp.float64(0.0) and q0 != zero:
                        mean += q0 * third
                        q1 = zero
                        changed = True
                    trace = real(3.0) * (mean - tip)
                    if trace >= zero:
                        mean = tip
                        r = zero
                        changed = True
                        if coefficients[p, 4] > wp.float64(0.0):
                            q1 = trace
                    elif kind == MOHR_COULOMB:
                        sine = real(coefficients[p, 2])
                        steep = sine * (real(3.0) * lam + two * mu) / mu
                        if beyond(d, mean - tip, steep, sine) > zero:
                            d = flowed(d, mean - tip, steep, sine)
                            changed = True
                    elif kind == INERTIAL:
                        r = kept(norm, mean, five(coefficients, p))
                        if r < one:
                            changed = True
                    else:
                        excess = norm + (real(3.0) * lam + two * mu) / (two * mu) * real(coefficients[p, 2]) * trace
                        if excess > zero:
                            r = one - excess / norm
                            changed = True
                g = vec3(wp.exp(mean + r * d[0]), wp.exp(mean + r * d[1]), wp.exp(mean + r * d[2]))
            if changed:
                F = U * wp.diag(g) * wp.transpose(V)
        F_out[t1, p] = F
        q_out[wp.min(t1, q_out.shape[0] - 1), p] = q1

    @wp.kernel(module=cpu_module(module + "_adjoint"), enable_backward=False)
    def return_map_adjoint(
        # constants
        clock: wp.array(dtype=int),
        law: wp.array(dtype=int),
        coefficients: array2d(dtype=wp.float64),
        # inputs
        F_trial: wp.array(dtype=mat33),
        q: array2d(dtype=real),
        # inputs and outputs: cotangents of the results, turned into those of F_trial and of the history before
        F_bar: wp.array(dtype=mat33),
        q_bar: wp.array(dtype=real),
        # outputs, added to
        coefficients_bar_out: array2d(dtype=wp.float64),
    ):
        """Cotangents of F_trial, q and the coefficients; divided differences have their exact limits."""
        p = wp.tid()
        kind = law[p]
        if kind < 0 or kind == IDENTITY:
            return
        F = F_trial[p]
        if kind == FLUID:
            B = F_bar[p]
            J = wp.determinant(F)
            out = mat33()
            if J > J_min:
                out = cofactor(F) * (third * wp.pow(J, -two * third) * (B[0, 0] + B[1, 1] + B[2, 2]))
            F_bar[p] = out
            return
        q0 = q[wp.min(clock[0], q.shape[0] - 1), p]
        qb = q_bar[p]
        U, s, V = svd(F)
        G = wp.transpose(U) * F_bar[p] * V
        g = s
        changed = bool(False)
        diagonal = vec3(G[0, 0], G[1, 1], G[2, 2])  # cotangent of s
        apart = vec3(one, one, one)  # (g_i - g_j) / (s_i - s_j) for (1, 2), (0, 2), (0, 1)
        if kind == SNOW:
            low = one - real(coefficients[p, 0])
            high = one + real(coefficients[p, 1])
            g = vec3(wp.clamp(s[0], low, high), wp.clamp(s[1], low, high), wp.clamp(s[2], low, high))
            changed = g[0] != s[0] or g[1] != s[1] or g[2] != s[2]
            if changed:
                low_bar = zero
                high_bar = zero
                volume_bar = zero
                if s[0] * s[1] * s[2] > J_min:
                    volume_bar = qb
                for j in range(3):
                    value = G[j, j] - qb / g[j]
                    own = zero
                    if s[j] < low:
                        low_bar += value
                    elif s[j] > high:
                        high_bar += value
                    else:
                        own = value
                    diagonal[j] = own + ratio(volume_bar, s[j])
                coefficients_bar_out[p, 0] += wp.float64(-low_bar)
                coefficients_bar_out[p, 1] += wp.float64(high_bar)
                for k in range(3):
                    i = (k + 1) % 3
                    j = (k + 2) % 3
                    difference = s[i] - s[j]
                    if difference != zero:
                        apart[k] = (g[i] - g[j]) / difference
                    else:
                        apart[k] = wp.where(g[i] == s[i], one, zero)
        else:
            c = vec3(wp.max(s[0], s_min), wp.max(s[1], s_min), wp.max(s[2], s_min))
            e = vec3(wp.log(c[0]), wp.log(c[1]), wp.log(c[2]))
            mean = (e[0] + e[1] + e[2]) * third
            d = vec3(e[0] - mean, e[1] - mean, e[2] - mean)
            norm = wp.length(d)
            mu = real(coefficients[p, 0])
            changed = c[2] != s[2] or c[1] != s[1] or c[0] != s[0]
            # e'_i = mean' + r d_i: mean' = keep mean + ..., norm' = r norm with slopes in norm and mean
            r = one
            keep = one
            slope_norm = one  # d norm' / d norm
            slope_mean = zero  # d norm' / d mean
            by_five = vec5()  # of norm' in the coefficients
            mode = int(0)
            corrects = bool(False)
            if kind == VON_MISES:
                H = real(coefficients[p, 2])
                excess = two * mu * norm - real(coefficients[p, 1]) - H * q0
                if excess > zero:
                    changed = True
                    mode = 1
                    r = one - excess / ((two * mu + H) * norm)
                    slope_norm = H / (two * mu + H)
            elif kind == HERSCHEL_BULKLEY:
                excess = two * mu * norm - real(coefficients[p, 1])
                if excess > zero:
                    changed = True
                    mode = 2
            elif kind == DRUCKER_PRAGER or kind == MOHR_COULOMB or kind == INERTIAL:
                corrects = coefficients[p, 4] > wp.float64(0.0)
                tip = real(coefficients[p, 3])
                if kind == INERTIAL:
                    tip = zero
                if corrects:
                    mean += q0 * third
                    changed = True
                trace = real(3.0) * (mean - tip)
                if trace >= zero:
                    changed = True
                    mode = 3
                    r = zero
                    keep = zero
                    mean = tip
                elif kind == INERTIAL:
                    r = kept(norm, mean, five(coefficients, p))
                    if r < one:
                        changed = True
                        mode = 6
                        slope_norm, slope_mean, by_five = slopes(norm, mean, five(coefficients, p))
                elif kind == MOHR_COULOMB:
                    sine = real(coefficients[p, 2])
                    steep = sine * (real(3.0) * real(coefficients[p, 1]) + two * mu) / mu
                    if beyond(d, mean - real(coefficients[p, 3]), steep, sine) > zero:
                        changed = True
                        mode = 5
                else:
                    slope = (real(3.0) * real(coefficients[p, 1]) + two * mu) / (two * mu)
                    excess = norm + slope * real(coefficients[p, 2]) * trace
                    if excess > zero:
                        changed = True
                        mode = 4
                        r = one - excess / norm
                        slope_norm = zero
                        slope_mean = -real(3.0) * slope * real(coefficients[p, 2])
            dt_rate_excess = zero
            rate = zero
            if mode == 2:
                dt = real(coefficients[p, 4])
                k_hb = real(coefficients[p, 2])
                n_hb = real(coefficients[p, 3])
                rate = overstress_rate(two * mu * norm - real(coefficients[p, 1]), two * mu * dt, k_hb, n_hb)
                r = one - dt * rate / norm
                dt_rate_excess = dt / (two * mu * dt + n_hb * k_hb * wp.pow(rate, n_hb - one))  # d(dt g) / d excess
                slope_norm = one - two * mu * dt_rate_excess
            if changed:
                new_d = r * d
                if mode == 5:
                    sine = real(coefficients[p, 2])
                    steep = sine * (real(3.0) * real(coefficients[p, 1]) + two * mu) / mu
                    new_d = flowed(d, mean - real(coefficients[p, 3]), steep, sine)
                new_e = vec3(mean + new_d[0], mean + new_d[1], mean + new_d[2])
                g = vec3(wp.exp(new_e[0]), wp.exp(new_e[1]), wp.exp(new_e[2]))
                eb = vec3(G[0, 0] * g[0], G[1, 1] * g[1], G[2, 2] * g[2])  # cotangent of e'
                sum_eb = eb[0] + eb[1] + eb[2]
                unit = vec3()
                if norm > tiny:
                    unit = d / norm
                norm_bar = wp.dot(eb, unit)  # cotangent of norm'
                mean_bar = sum_eb * keep + norm_bar * slope_mean
                # cotangent of e: mean, then the deviator: along unit by slope_norm, across it by r
                across = vec3(eb[0] - sum_eb * third, eb[1] - sum_eb * third, eb[2] - sum_eb * third)
                across = (across - unit * norm_bar) * r + unit * (norm_bar * slope_norm)
                if mode == 1:
                    H = real(coefficients[p, 2])
                    sum_mu = two * mu + H
                    excess = two * mu * norm - real(coefficients[p, 1]) - H * q0
                    step_bar = qb - norm_bar  # cotangent of the plastic step excess / (2 mu + H)
                    across += unit * (qb * two * mu / sum_mu)
                    coefficients_bar_out[p, 0] += wp.float64(step_bar * two * (norm - excess / sum_mu) / sum_mu)
                    coefficients_bar_out[p, 1] += wp.float64(-step_bar / sum_mu)
                    coefficients_bar_out[p, 2] += wp.float64(step_bar * (-q0 - excess / sum_mu) / sum_mu)
                    q_bar[p] = qb - step_bar * H / sum_mu
                elif mode == 2:
                    step_bar = qb - norm_bar
                    across += unit * (qb * two * mu * dt_rate_excess)
                    dt = real(coefficients[p, 4])
                    n_hb = real(coefficients[p, 3])
                    power = wp.pow(rate, n_hb)
                    logarithm = zero
                    if rate > zero:
                        logarithm = wp.log(rate)
                    step_bar = step_bar * dt_rate_excess
                    coefficients_bar_out[p, 0] += wp.float64(step_bar * two * (norm - dt * rate))
                    coefficients_bar_out[p, 1] += wp.float64(-step_bar)
                    coefficients_bar_out[p, 2] += wp.float64(-step_bar * power)
                    coefficients_bar_out[p, 3] += wp.float64(-step_bar * real(coefficients[p, 2]) * power * logarithm)
                elif mode == 3:
                    across = vec3()
                    tip_bar = sum_eb
                    if corrects:
                        tip_bar -= real(3.0) * qb
                        mean_bar = real(3.0) * qb
                    if kind != INERTIAL:
                        coefficients_bar_out[p, 3] += wp.float64(tip_bar)
                elif mode == 4:
                    lam = real(coefficients[p, 1])
                    alpha = real(coefficients[p, 2])
                    trace = real(3.0) * (mean - real(coefficients[p, 3]))
                    slope = (real(3.0) * lam + two * mu) / (two * mu)
                    coefficients_bar_out[p, 0] += wp.float64(norm_bar * alpha * trace * real(1.5) * lam / (mu * mu))
                    coefficients_bar_out[p, 1] += wp.float64(-norm_bar * alpha * trace * real(1.5) / mu)
                    coefficients_bar_out[p, 2] += wp.float64(-norm_bar * slope * trace)
                    coefficients_bar_out[p, 3] += wp.float64(norm_bar * slope * alpha * real(3.0))
                elif mode == 6:
                    for k in range(5):
                        coefficients_bar_out[p, k] += wp.float64(norm_bar * by_five[k])
                elif mode == 5:
                    lam = real(coefficients[p, 1])
                    sine = real(coefficients[p, 2])
                    tip = real(coefficients[p, 3])
                    steep = sine * (real(3.0) * lam + two * mu) / mu
                    middle_bar, m_bar, k_bar, sine_bar = pulled_back(d, mean - tip, steep, sine, eb)
                    across = vec3(-middle_bar * third, two * middle_bar * third, -middle_bar * third)
                    mean_bar = sum_eb + m_bar
                    coefficients_bar_out[p, 0] += wp.float64(-real(3.0) * k_bar * sine * lam / (mu * mu))
                    coefficients_bar_out[p, 1] += wp.float64(real(3.0) * k_bar * sine / mu)
                    coefficients_bar_out[p, 2] += wp.float64(sine_bar + k_bar * (real(3.0) * lam + two * mu) / mu)
                    coefficients_bar_out[p, 3] -= wp.float64(m_bar)
                if corrects:
                    q_bar[p] = mean_bar * third
                for j in range(3):
                    value = zero
                    if s[j] > s_min:
                        value = (across[j] + mean_bar * third) / s[j]
                    diagonal[j] = value
                rates = vec3(r, r, r)
                if mode == 5:
                    for k in range(3):
                        i = (k + 1) % 3
                        j = (k + 2) % 3
                        rates[k] = ratio(new_d[i] - new_d[j], d[i] - d[j])
                apart = exp_apart(s, e, new_e, rates, s_min)
        if changed:
            F_bar[p] = map_adjoint(U, s, V, G, g, diagonal, apart)

    return SimpleNamespace(return_map=return_map, return_map_adjoint=return_map_adjoint)
