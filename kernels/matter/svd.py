"""Singular values, rotations and divided differences of 3x3 matrices, as Warp functions generic in the scalar.

Derivatives of isotropic functions are built from divided differences in closed form, which have exact limits where
singular values repeat; no difference of squared singular values is ever divided by.
"""

# ruff: noqa: UP018, RUF046 -- int(0) declares a variable of a kernel, 0 a constant

import functools
from types import SimpleNamespace

import warp as wp


@functools.cache
def functions(real):
    """The functions for `real` (wp.float32 or wp.float64) in the module `simengine_svd_<real>`."""
    module = f"simengine_{real.__name__}"
    vec3 = wp.types.vector(3, real)
    mat33 = wp.types.matrix((3, 3), real)
    tiny = 1e-30 if real == wp.float32 else 1e-150
    eps = 1e-7 if real == wp.float32 else 2e-16
    settled = 1e-9 if real == wp.float32 else 1e-18  # squared step after which Newton's next one is below rounding

    @wp.func(module=module)
    def columns(a: vec3, b: vec3, c: vec3):
        return mat33(a[0], b[0], c[0], a[1], b[1], c[1], a[2], b[2], c[2])

    @wp.func(module=module)
    def cofactor(F: mat33):
        a = vec3(F[0, 0], F[1, 0], F[2, 0])
        b = vec3(F[0, 1], F[1, 1], F[2, 1])
        c = vec3(F[0, 2], F[1, 2], F[2, 2])
        return columns(wp.cross(b, c), wp.cross(c, a), wp.cross(a, b))

    @wp.func(module=module)
    def orthogonaliser(a: vec3, b: vec3):
        # tangent of the angle that makes the columns a, b orthogonal (one-sided Jacobi, Hestenes 1958)
        gamma = wp.dot(a, b)
        alpha = wp.dot(a, a)
        beta = wp.dot(b, b)
        t = real(0.0)
        if wp.abs(gamma) > real(eps) * wp.sqrt(alpha * beta) + real(tiny):
            zeta = (beta - alpha) / (real(2.0) * gamma)
            t = real(1.0) / (wp.abs(zeta) + wp.sqrt(real(1.0) + zeta * zeta))
            if zeta < real(0.0):
                t = -t
        return t

    @wp.func(module=module)
    def perpendicular(u: vec3):
        # a unit vector perpendicular to the unit vector u
        w = vec3(real(1.0), real(0.0), real(0.0))
        if wp.abs(u[0]) > real(0.7):
            w = vec3(real(0.0), real(1.0), real(0.0))
        return wp.normalize(w - u * wp.dot(u, w))

    @wp.func(module=module, inline=False)
    def svd(F: mat33):
        # F = U diag(s) V^T with rotations U, V and s[0] >= s[1] >= |s[2]|; s[2] has the sign of det F
        a = vec3(F[0, 0], F[1, 0], F[2, 0])
        b = vec3(F[0, 1], F[1, 1], F[2, 1])
        c = vec3(F[0, 2], F[1, 2], F[2, 2])
        va = vec3(real(1.0), real(0.0), real(0.0))
        vb = vec3(real(0.0), real(1.0), real(0.0))
        vc = vec3(real(0.0), real(0.0), real(1.0))
        sweep = int(0)
        while sweep < 12:
            t = orthogonaliser(a, b)
            moved = wp.abs(t)
            k = real(1.0) / wp.sqrt(real(1.0) + t * t)
            h = k * t
            w = a * k - b * h
            b = a * h + b * k
            a = w
            w = va * k - vb * h
            vb = va * h + vb * k
            va = w
            t = orthogonaliser(a, c)
            moved = wp.max(moved, wp.abs(t))
            k = real(1.0) / wp.sqrt(real(1.0) + t * t)
            h = k * t
            w = a * k - c * h
            c = a * h + c * k
            a = w
            w = va * k - vc * h
            vc = va * h + vc * k
            va = w
            t = orthogonaliser(b, c)
            moved = wp.max(moved, wp.abs(t))
            k = real(1.0) / wp.sqrt(real(1.0) + t * t)
            h = k * t
            w = b * k - c * h
            c = b * h + c * k
            b = w
            w = vb * k - vc * h
            vc = vb * h + vc * k
            vb = w
            sweep += 1
            if moved < real(10.0) * real(eps):
                sweep = 12
        if wp.dot(a, a) < wp.dot(b, b):
            w = a
            a = b
            b = -w
            w = va
            va = vb
            vb = -w
        if wp.dot(a, a) < wp.dot(c, c):
            w = a
            a = c
            c = -w
            w = va
            va = vc
            vc = -w
        if wp.dot(b, b) < wp.dot(c, c):
            w = b
            b = c
            c = -w
            w = vb
            vb = vc
            vc = -w
        s0 = wp.length(a)
        ua = vec3(real(1.0), real(0.0), real(0.0))
        if s0 > real(tiny):
            ua = a / s0
        b2 = b - ua * wp.dot(ua, b)
        s1 = wp.length(b2)
        ub = vec3(real(0.0), real(1.0), real(0.0))
        if s1 > real(eps) * s0 + real(tiny):
            ub = b2 / s1
        else:
            ub = perpendicular(ua)
        uc = wp.cross(ua, ub)
        return columns(ua, ub, uc), vec3(s0, wp.dot(b, ub), wp.dot(c, uc)), columns(va, vb, vc)

    @wp.func(module=module)
    def rotation(F: mat33):
        # the rotation nearest to F: Newton's iteration (Higham 1986) where F is well conditioned, the SVD elsewhere
        X = F
        det = wp.determinant(F)
        scale = wp.ddot(F, F) / real(3.0)
        if det * det > real(1e-4) * scale * scale * scale and det > real(0.0):
            step = real(1.0)
            count = int(0)
            while count < 20:
                K = cofactor(X)
                det = X[0, 0] * K[0, 0] + X[1, 0] * K[1, 0] + X[2, 0] * K[2, 0]
                Y = X * real(0.5) + K * (real(0.5) / det)
                D = Y - X
                step = wp.ddot(D, D)
                X = Y
                count += 1
                if step < real(settled):
                    count = 20
        else:
            U, _s, V = svd(F)
            X = U * wp.transpose(V)
        return X

    @wp.func(module=module)
    def skew(w: vec3):
        return mat33(real(0.0), -w[2], w[1], w[2], real(0.0), -w[0], -w[1], w[0], real(0.0))

    @wp.func(module=module)
    def rotation_adjoint(F: mat33, R: mat33, R_bar: mat33):
        # dR = R [w] with (tr S - S) w = axial(R^T dF - dF^T R), S = R^T F: no singular values, exact at F = I
        S = wp.transpose(R) * F
        S = (S + wp.transpose(S)) * real(0.5)
        trace = S[0, 0] + S[1, 1] + S[2, 2]
        G = wp.identity(n=3, dtype=real) * trace - S
        M = wp.transpose(R) * R_bar
        m = vec3(M[2, 1] - M[1, 2], M[0, 2] - M[2, 0], M[1, 0] - M[0, 1])
        K = cofactor(G)
        det = G[0, 0] * K[0, 0] + G[1, 0] * K[1, 0] + G[2, 0] * K[2, 0]
        F_bar = mat33()
        # no derivative where two singular values cancel: none is given rather than an unbounded one
        if wp.abs(det) > real(eps) * wp.abs(trace * trace * trace) + real(tiny):
            F_bar = R * skew(K * m / det)
        return F_bar

    @wp.func(module=module)
    def log_difference(a: real, b: real):
        # (log a - log b) / (a - b) for a, b > 0; 1/a at a = b
        q = (a - b) / (a + b)
        q2 = q * q
        if q2 < real(0.01):
            odd = real(1.0 / 9.0) + q2 * (real(1.0 / 11.0) + q2 * (real(1.0 / 13.0) + q2 / real(15.0)))
            odd = real(1.0) + q2 * (real(1.0 / 3.0) + q2 * (real(1.0 / 5.0) + q2 * (real(1.0 / 7.0) + q2 * odd)))
            return real(2.0) * odd / (a + b)
        return (wp.log(a) - wp.log(b)) / (a - b)

    @wp.func(module=module)
    def exp_difference(a: real, b: real):
        # (exp a - exp b) / (a - b); exp(a) at a = b
        h = real(0.5) * (a - b)
        h2 = h * h
        if h2 < real(0.25):
            series = real(1.0) + h2 / real(110.0) * (real(1.0) + h2 / real(156.0) * (real(1.0) + h2 / real(210.0)))
            series = real(1.0) + h2 / real(20.0) * (
                real(1.0) + h2 / real(42.0) * (real(1.0) + h2 / real(72.0) * series)
            )
            return wp.exp(real(0.5) * (a + b)) * (real(1.0) + h2 / real(6.0) * series)
        return (wp.exp(a) - wp.exp(b)) / (a - b)

    @wp.func(module=module)
    def map_adjoint(U: mat33, s: vec3, V: mat33, G: mat33, g: vec3, diagonal: vec3, apart: vec3):
        # F_bar of U diag(g(s)) V^T from G = U^T bar V, the cotangent of s and (g_i - g_j) / (s_i - s_j), at the third k
        hat = wp.diag(diagonal)
        for k in range(3):
            i = (k + 1) % 3
            j = (k + 2) % 3
            plus = real(0.5) * apart[k] * (G[i, j] + G[j, i])
            minus = real(0.0)
            together = s[i] + s[j]
            if wp.abs(together) > real(1e-6):
                minus = real(0.5) * (g[i] + g[j]) / together * (G[i, j] - G[j, i])
            hat[i, j] = plus + minus
            hat[j, i] = plus - minus
        return U * hat * wp.transpose(V)

    @wp.func(module=module)
    def ratio(a: real, b: real):
        # a / b, 0 where b vanishes
        c = real(0.0)
        if wp.abs(b) > real(tiny):
            c = a / b
        return c

    @wp.func(module=module)
    def log_over_squares(a: real, b: real, ca: real, cb: real):
        # (log ca - log cb) / (a^2 - b^2), where c is a or b but for a lower limit
        out = log_difference(ca, cb) / (ca + cb)
        if ca != a or cb != b:
            out = ratio(wp.log(ca) - wp.log(cb), a * a - b * b)
        return out

    @wp.func(module=module)
    def exp_apart(s: vec3, e: vec3, h: vec3, r: vec3, low: real):
        # (exp h_i - exp h_j) / (s_i - s_j) for (1, 2), (0, 2), (0, 1); e = log max(s, low), r: rise of h over that of e
        apart = vec3()
        for k in range(3):
            i = (k + 1) % 3
            j = (k + 2) % 3
            value = exp_difference(h[i], h[j]) * r[k]
            if s[i] > low and s[j] > low:
                value = value * log_difference(s[i], s[j])
            else:
                value = value * ratio(e[i] - e[j], s[i] - s[j])
            apart[k] = value
        return apart

    @wp.func(module=module)
    def strain_adjoint(U: mat33, s: vec3, V: mat33, G: mat33, low: real):
        # F_bar of H = U diag(log max(s, low)) U^T from G = U^T H_bar U, symmetric
        c = vec3(wp.max(s[0], low), wp.max(s[1], low), wp.max(s[2], low))
        d = vec3()
        for j in range(3):
            if s[j] > low:
                d[j] = G[j, j] / s[j]
        # dH_ij = k_ij (dF_ij s_j + s_i dF_ji) in the frames of U, V; k = (log s_i - log s_j) / (s_i^2 - s_j^2)
        k01 = real(2.0) * log_over_squares(s[0], s[1], c[0], c[1]) * G[0, 1]
        k02 = real(2.0) * log_over_squares(s[0], s[2], c[0], c[2]) * G[0, 2]
        k12 = real(2.0) * log_over_squares(s[1], s[2], c[1], c[2]) * G[1, 2]
        hat = mat33(
            d[0], k01 * s[1], k02 * s[2],
            k01 * s[0], d[1], k12 * s[2],
            k02 * s[0], k12 * s[1], d[2],
        )  # fmt: skip
        return U * hat * wp.transpose(V)

    return SimpleNamespace(**{k: v for k, v in locals().items() if k not in ("tiny", "eps", "settled", "real")})


@functools.cache
def kernels(real):
    """Kernels `polar_svd` and `polar_svd_adjoint` for wp.float32 or wp.float64."""
    f = functions(real)
    module, vec3, mat33 = f"simengine_polar_{real.__name__}", f.vec3, f.mat33
    svd, rotation_adjoint = f.svd, f.rotation_adjoint

    @wp.kernel(module=module, enable_backward=False)
    def polar_svd(
        # inputs
        F: wp.array(dtype=mat33),
        # outputs
        R_out: wp.array(dtype=mat33),
        s_out: wp.array(dtype=vec3),
        U_out: wp.array(dtype=mat33),
        V_out: wp.array(dtype=mat33),
    ):
        """R = U V^T and the signed singular values s of F = U diag(s) V^T [1]."""
        p = wp.tid()
        U, s, V = svd(F[p])
        R_out[p] = U * wp.transpose(V)
        s_out[p] = s
        U_out[p] = U
        V_out[p] = V

    @wp.kernel(module=module, enable_backward=False)
    def polar_svd_adjoint(
        # inputs
        F: wp.array(dtype=mat33),
        R: wp.array(dtype=mat33),
        U: wp.array(dtype=mat33),
        V: wp.array(dtype=mat33),
        R_bar: wp.array(dtype=mat33),
        s_bar: wp.array(dtype=vec3),
        # outputs
        F_bar_out: wp.array(dtype=mat33),
    ):
        """Cotangent of F from those of R and s."""
        p = wp.tid()
        F_bar = U[p] * wp.diag(s_bar[p]) * wp.transpose(V[p])
        F_bar_out[p] = F_bar + rotation_adjoint(F[p], R[p], R_bar[p])

    return SimpleNamespace(polar_svd=polar_svd, polar_svd_adjoint=polar_svd_adjoint)
