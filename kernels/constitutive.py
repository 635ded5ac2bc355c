"""Kernels of isotropic constitutive laws: deformation gradient -> Kirchhoff stress, and the plastic return map.

Every law here is a function of b = F F^T through its eigenvalues, T = N diag(g) N^T, or of J = det F. Its derivative is
the exact one (Daleckii and Krein): in the eigenbasis dT_ij = D_ij db_ij with the divided difference
D_ij = (g_i - g_j)/(l_i - l_j), written for each law in a form that has no cancellation, so that it holds at F = I and at
repeated eigenvalues. The strain b - I is formed without cancellation too.

Units: F, strains [1]; tau and moduli [Pa].
"""

import functools
from types import SimpleNamespace

import warp as wp

# Elastic laws and their coefficients
COROTATED, NEO_HOOKEAN, HENCKY, LINEAR_FLUID, TAIT_FLUID = 0, 1, 2, 3, 4  # (mu, lam) x 3, (lam, -), (bulk, gamma)
# Return maps and their coefficients
ELASTIC, VON_MISES, DRUCKER_PRAGER, FLUID, SNOW = 0, 1, 2, 3, 4  # -, (limit, -), (slope, cohesion), -, (stretches)

# Singular values below these are treated as these: the logarithm has no value at 0
MIN_STRETCH = 1e-4
MIN_STRETCH_VON_MISES = 0.05  # NCLaw's


@functools.cache
def kernels(scalar: type) -> SimpleNamespace:
    """The kernels for wp.float32 or wp.float64."""
    module = wp.get_module(f"simengine.kernels.constitutive.{scalar.__name__}")
    module.options.update(enable_backward=False, max_unroll=3)
    kernel = functools.partial(wp.kernel, module=module, enable_backward=False)
    func = functools.partial(wp.func, module=module)

    vec2 = wp.types.vector(2, scalar)
    vec3 = wp.types.vector(3, scalar)
    mat33 = wp.types.matrix((3, 3), scalar)
    sweeps = wp.constant(5 if scalar is wp.float32 else 7)
    zero, one, half, two, third = (wp.constant(scalar(value)) for value in (0.0, 1.0, 0.5, 2.0, 1.0 / 3.0))

    @func
    def identity():
        return mat33(one, zero, zero, zero, one, zero, zero, zero, one)

    @func
    def strain(F: mat33):
        # F F^T - I without cancellation near F = I
        D = F - identity()
        return D + wp.transpose(D) + D * wp.transpose(D)

    @func
    def cofactor(F: mat33):
        # d det F / dF
        r0 = vec3(F[0, 0], F[0, 1], F[0, 2])
        r1 = vec3(F[1, 0], F[1, 1], F[1, 2])
        r2 = vec3(F[2, 0], F[2, 1], F[2, 2])
        c0 = wp.cross(r1, r2)
        c1 = wp.cross(r2, r0)
        c2 = wp.cross(r0, r1)
        return mat33(c0[0], c0[1], c0[2], c1[0], c1[1], c1[2], c2[0], c2[1], c2[2])

    @func
    def eigensystem(A: mat33):
        # cyclic Jacobi: eigenvalues on the diagonal, eigenvectors in the columns
        N = identity()
        for sweep in range(sweeps):
            off = A[0, 1] * A[0, 1] + A[0, 2] * A[0, 2] + A[1, 2] * A[1, 2]
            if off == zero:
                break
            for pair in range(3):
                p = 0
                q = 1
                r = 2
                if pair == 1:
                    q = 2
                    r = 1
                if pair == 2:
                    p = 1
                    q = 2
                    r = 0
                apq = A[p, q]
                if apq != zero:
                    theta = (A[q, q] - A[p, p]) / (two * apq)
                    t = one / (wp.abs(theta) + wp.sqrt(theta * theta + one))
                    if theta < zero:
                        t = -t
                    c = one / wp.sqrt(t * t + one)
                    s = t * c
                    arp = A[r, p]
                    arq = A[r, q]
                    A[p, p] = A[p, p] - t * apq
                    A[q, q] = A[q, q] + t * apq
                    A[p, q] = zero
                    A[q, p] = zero
                    A[r, p] = c * arp - s * arq
                    A[p, r] = A[r, p]
                    A[r, q] = s * arp + c * arq
                    A[q, r] = A[r, q]
                    for row in range(3):
                        nrp = N[row, p]
                        nrq = N[row, q]
                        N[row, p] = c * nrp - s * nrq
                        N[row, q] = s * nrp + c * nrq
        return vec3(A[0, 0], A[1, 1], A[2, 2]), N

    @func
    def log1p(x: scalar):
        if wp.abs(x) < scalar(0.02):
            total = zero
            for k in range(8):
                total = one / scalar(8 - k) - x * total
            return x * total
        return wp.log(one + x)

    @func
    def log_ratio(r: scalar):
        # log(1 + r)/r
        if wp.abs(r) < scalar(0.02):
            total = zero
            for k in range(8):
                total = one / scalar(8 - k) - r * total
            return total
        return wp.log(one + r) / r

    @func
    def exp_ratio(x: scalar):
        # (exp(x) - 1)/x
        if wp.abs(x) < scalar(0.05):
            total = one
            for k in range(7):
                total = one + x * total / scalar(8 - k)
            return total
        return (wp.exp(x) - one) / x

    @func
    def log_strain_slope(li: scalar, lj: scalar):
        # (e_i - e_j)/(l_i - l_j) with e = log(l)/2
        return half * log_ratio((li - lj) / lj) / lj

    @func
    def compose(N: mat33, g: vec3):
        return N * wp.diag(g) * wp.transpose(N)

    @func
    def stretches(lam: vec3, J: scalar):
        # singular values; the smallest takes the sign of J, so that the polar factor stays a rotation
        s = vec3(wp.sqrt(wp.max(lam[0], zero)), wp.sqrt(wp.max(lam[1], zero)), wp.sqrt(wp.max(lam[2], zero)))
        if J < zero:
            if s[0] <= s[1] and s[0] <= s[2]:
                s[0] = -s[0]
            elif s[1] <= s[2]:
                s[1] = -s[1]
            else:
                s[2] = -s[2]
        return s

    @func
    def away_from_zero(x: scalar):
        # the derivative of the polar factor does not exist where two stretches cancel; it is bounded there
        least = scalar(1e-6)
        if wp.abs(x) < least:
            return wp.where(x < zero, -least, least)
        return x

    @func
    def floored(delta: vec3, least: scalar):
        # eigenvalues of b from those of b - I, at least `least`^2
        floor = least * least
        return vec3(
            wp.max(one + delta[0], floor), wp.max(one + delta[1], floor), wp.max(one + delta[2], floor)
        )

    @func
    def log_strain(delta: vec3, least: scalar):
        bound = least * least - one
        e = vec3()
        for i in range(3):
            e[i] = half * log1p(wp.max(delta[i], bound))
        return e

    @kernel
    def stress(
        # inputs
        F: wp.array(dtype=mat33),
        kind: wp.array(dtype=int),
        coefficients: wp.array(dtype=vec2),
        # outputs
        tau_out: wp.array(dtype=mat33),
    ):
        p = wp.tid()
        Fp = F[p]
        c = coefficients[p]
        law = kind[p]
        J = wp.determinant(Fp)
        tau = mat33()
        if law == COROTATED:
            # 2 mu (F - R) F^T + lam J (J - 1) I = 2 mu (b - V) + ...
            delta, N = eigensystem(strain(Fp))
            s = stretches(vec3(one + delta[0], one + delta[1], one + delta[2]), J)
            g = vec3()
            for i in range(3):
                if s[i] > zero:
                    g[i] = two * c[0] * s[i] * delta[i] / (s[i] + one)
                else:
                    g[i] = two * c[0] * s[i] * (s[i] - one)
            tau = compose(N, g) + c[1] * J * (J - one) * identity()
        elif law == NEO_HOOKEAN:
            # mu (b - I) + lam log(J) I
            tau = c[0] * strain(Fp) + c[1] * wp.log(wp.max(J, scalar(MIN_STRETCH))) * identity()
        elif law == HENCKY:
            delta, N = eigensystem(strain(Fp))
            e = log_strain(delta, scalar(MIN_STRETCH))
            trace = c[1] * (e[0] + e[1] + e[2])
            tau = compose(N, two * c[0] * e + vec3(trace, trace, trace))
        elif law == LINEAR_FLUID:
            tau = c[0] * J * (J - one) * identity()
        elif law == TAIT_FLUID:
            # -J p I with p = bulk/gamma (J^-gamma - 1)
            Jc = wp.max(J, scalar(MIN_STRETCH))
            tau = c[0] / c[1] * (Jc - wp.pow(Jc, one - c[1])) * identity()
        tau_out[p] = tau

    @kernel
    def stress_adjoint(
        # inputs
        F: wp.array(dtype=mat33),
        kind: wp.array(dtype=int),
        coefficients: wp.array(dtype=vec2),
        adj_tau: wp.array(dtype=mat33),
        # outputs, added to
        adj_F_out: wp.array(dtype=mat33),
        adj_coefficients_out: wp.array(dtype=vec2),
    ):
        p = wp.tid()
        Fp = F[p]
        c = coefficients[p]
        law = kind[p]
        J = wp.determinant(Fp)
        g = adj_tau[p]
        trace = wp.trace(g)
        to_F = mat33()
        to_c = vec2()
        if law == COROTATED or law == HENCKY:
            delta, N = eigensystem(strain(Fp))
            G = wp.transpose(N) * (half * (g + wp.transpose(g))) * N
            if law == COROTATED:
                s = stretches(vec3(one + delta[0], one + delta[1], one + delta[2]), J)
                for i in range(3):
                    to_c[0] = to_c[0] + two * G[i, i] * s[i] * (s[i] - one)
                    for j in range(3):
                        G[i, j] = two * c[0] * (one - one / away_from_zero(s[i] + s[j])) * G[i, j]
                to_c[1] = trace * J * (J - one)
                to_F = c[1] * (two * J - one) * trace * cofactor(Fp)
            else:
                e = log_strain(delta, scalar(MIN_STRETCH))
                lam = floored(delta, scalar(MIN_STRETCH))
                to_c[0] = two * (G[0, 0] * e[0] + G[1, 1] * e[1] + G[2, 2] * e[2])
                to_c[1] = trace * (e[0] + e[1] + e[2])
                for i in range(3):
                    for j in range(3):
                        G[i, j] = two * c[0] * log_strain_slope(lam[i], lam[j]) * G[i, j]
                    G[i, i] = G[i, i] + half * c[1] * trace / lam[i]
            to_F += two * (N * G * wp.transpose(N)) * Fp
        elif law == NEO_HOOKEAN:
            Jc = wp.max(J, scalar(MIN_STRETCH))
            sym = half * (g + wp.transpose(g))
            to_c = vec2(wp.ddot(g, strain(Fp)), trace * wp.log(Jc))
            to_F = two * c[0] * sym * Fp
            if J > scalar(MIN_STRETCH):
                to_F += c[1] * trace / J * cofactor(Fp)
        elif law == LINEAR_FLUID:
            to_c[0] = trace * J * (J - one)
            to_F = c[0] * (two * J - one) * trace * cofactor(Fp)
        elif law == TAIT_FLUID:
            Jc = wp.max(J, scalar(MIN_STRETCH))
            power = wp.pow(Jc, one - c[1])
            to_c[0] = trace * (Jc - power) / c[1]
            to_c[1] = trace * c[0] / c[1] * (power * wp.log(Jc) - (Jc - power) / c[1])
            if J > scalar(MIN_STRETCH):
                to_F = trace * c[0] / c[1] * (one - (one - c[1]) * power / Jc) * cofactor(Fp)
        adj_F_out[p] = adj_F_out[p] + to_F
        adj_coefficients_out[p] = adj_coefficients_out[p] + to_c

    @func
    def flow(e: vec3, law: int, c: vec2):
        # Deviatoric flow e' - e = -(1 - k) dev e: returns k, the mode and |dev e|.
        # mode 0: elastic; 1: back to the cone or cylinder; 2: to the tip of the cone, e' = cohesion/3
        trace = e[0] + e[1] + e[2]
        dev = e - vec3(trace, trace, trace) * third
        size = wp.length(dev)
        mode = int(0)
        k = one
        if law == VON_MISES:
            if size > c[0]:
                mode = 1
                k = c[0] / size
        else:
            if trace >= c[1]:
                mode = 2
            elif size + c[0] * (trace - c[1]) > zero:
                mode = 1
                k = -c[0] * (trace - c[1]) / size
        return mode, k, size

    @func
    def least_stretch(law: int):
        return wp.where(law == VON_MISES, scalar(MIN_STRETCH_VON_MISES), scalar(MIN_STRETCH))

    @func
    def stretch_change(e: vec3, mode: int, k: scalar, c: vec2):
        # e' - e
        if mode == 2:
            return vec3(c[1], c[1], c[1]) * third - e
        trace = e[0] + e[1] + e[2]
        return (k - one) * (e - vec3(trace, trace, trace) * third)

    @kernel
    def return_map(
        # inputs
        F: wp.array(dtype=mat33),
        kind: wp.array(dtype=int),
        coefficients: wp.array(dtype=vec2),
        # outputs
        F_out: wp.array(dtype=mat33),
    ):
        p = wp.tid()
        Fp = F[p]
        c = coefficients[p]
        law = kind[p]
        if law == VON_MISES or law == DRUCKER_PRAGER:
            delta, N = eigensystem(strain(Fp))
            least = least_stretch(law)
            e = log_strain(delta, least)
            mode, k, size = flow(e, law, c)
            clamped = wp.min(delta) < least * least - one
            if mode > 0 or clamped:
                h = stretch_change(e, mode, k, c)
                g = vec3()
                for i in range(3):
                    g[i] = wp.exp(h[i])
                    if delta[i] < least * least - one:  # a flattened direction comes back to the least stretch
                        g[i] = g[i] * least / wp.sqrt(wp.max(one + delta[i], scalar(1e-12)))
                Fp = compose(N, g) * Fp
        elif law == FLUID:
            J = wp.max(wp.determinant(Fp), scalar(MIN_STRETCH))
            Fp = wp.pow(J, third) * identity()
        elif law == SNOW:
            delta, N = eigensystem(strain(Fp))
            g = vec3()
            for i in range(3):
                s = wp.sqrt(wp.max(one + delta[i], scalar(1e-12)))
                g[i] = wp.clamp(s, c[0], c[1]) / s
            Fp = compose(N, g) * Fp
        F_out[p] = Fp

    @func
    def snow_slope(si: scalar, sj: scalar, c: vec2):
        # divided difference of clamp(s)/s in l = s^2
        if si >= c[0] and si <= c[1] and sj >= c[0] and sj <= c[1]:
            return zero
        if si < c[0] and sj < c[0]:
            return -c[0] / (si * sj * (si + sj))
        if si > c[1] and sj > c[1]:
            return -c[1] / (si * sj * (si + sj))
        return (wp.clamp(si, c[0], c[1]) / si - wp.clamp(sj, c[0], c[1]) / sj) / (si * si - sj * sj)

    @kernel
    def return_map_adjoint(
        # inputs
        F: wp.array(dtype=mat33),
        kind: wp.array(dtype=int),
        coefficients: wp.array(dtype=vec2),
        adj_F_new: wp.array(dtype=mat33),
        # outputs
        adj_F_out: wp.array(dtype=mat33),
        # outputs, added to
        adj_coefficients_out: wp.array(dtype=vec2),
    ):
        p = wp.tid()
        Fp = F[p]
        c = coefficients[p]
        law = kind[p]
        g_new = adj_F_new[p]
        to_F = g_new
        to_c = vec2()
        if law == VON_MISES or law == DRUCKER_PRAGER:
            delta, N = eigensystem(strain(Fp))
            least = least_stretch(law)
            e = log_strain(delta, least)
            mode, k, size = flow(e, law, c)
            if mode > 0:
                lam = floored(delta, least)
                h = stretch_change(e, mode, k, c)
                g = vec3(wp.exp(h[0]), wp.exp(h[1]), wp.exp(h[2]))
                T = compose(N, g)
                M = g_new * wp.transpose(Fp)
                G = wp.transpose(N) * (half * (M + wp.transpose(M))) * N
                # off the diagonal: h_i - h_j = a (e_i - e_j), so g has the divided difference below
                a = k - one
                if mode == 2:
                    a = -one
                to_e = vec3()
                total = zero
                along = zero
                trace = e[0] + e[1] + e[2]
                for i in range(3):
                    total += G[i, i] * g[i]
                    along += G[i, i] * g[i] * (e[i] - trace * third)
                for j in range(3):
                    weight = G[j, j] * g[j]
                    if mode == 2:
                        to_e[j] = -weight
                    else:
                        dev = e[j] - trace * third
                        slope = -k * dev / (size * size)  # dk/de_j
                        if law == DRUCKER_PRAGER:
                            slope -= c[0] / size
                        to_e[j] = along * slope + a * (weight - total * third)
                if mode == 2:
                    to_c[1] = total * third
                elif law == VON_MISES:
                    to_c[0] = along / size
                else:
                    to_c[0] = -along * (trace - c[1]) / size
                    to_c[1] = along * c[0] / size
                for i in range(3):
                    for j in range(3):
                        if i != j:
                            slope = log_strain_slope(lam[i], lam[j])
                            G[i, j] = g[j] * a * exp_ratio(a * (e[i] - e[j])) * slope * G[i, j]
                for i in range(3):
                    G[i, i] = half * to_e[i] / lam[i]
                to_F = T * g_new + two * (N * G * wp.transpose(N)) * Fp
        elif law == FLUID:
            J = wp.determinant(Fp)
            to_F = mat33()
            if J > scalar(MIN_STRETCH):
                to_F = third * wp.pow(J, -two * third) * wp.trace(g_new) * cofactor(Fp)
        elif law == SNOW:
            delta, N = eigensystem(strain(Fp))
            s = vec3()
            g = vec3()
            for i in range(3):
                s[i] = wp.sqrt(wp.max(one + delta[i], scalar(1e-12)))
                g[i] = wp.clamp(s[i], c[0], c[1]) / s[i]
            M = g_new * wp.transpose(Fp)
            G = wp.transpose(N) * (half * (M + wp.transpose(M))) * N
            for i in range(3):
                if s[i] < c[0]:
                    to_c[0] = to_c[0] + G[i, i] / s[i]
                if s[i] > c[1]:
                    to_c[1] = to_c[1] + G[i, i] / s[i]
            for i in range(3):
                for j in range(3):
                    G[i, j] = snow_slope(s[i], s[j], c) * G[i, j]
            to_F = compose(N, g) * g_new + two * (N * G * wp.transpose(N)) * Fp
        adj_F_out[p] = to_F
        adj_coefficients_out[p] = adj_coefficients_out[p] + to_c

    return SimpleNamespace(
        stress=stress,
        stress_adjoint=stress_adjoint,
        return_map=return_map,
        return_map_adjoint=return_map_adjoint,
        vec2=vec2,
        mat33=mat33,
    )
