"""Flow that hangs on its rate, implicit in a step, as Warp functions generic in the scalar.

A Herschel-Bulkley fluid beyond its yield stress: the rate g of stiffness g + k g^n = excess.

Grains by mu(I), what a step leaves of the deviator's norm |d|:

sqrt(s:s / 2) = p mu(I), mu(I) = mu_s + (mu_2 - mu_s) / (I_0 / I + 1), I = rate d sqrt(rho_s / p) (Jop, Forterre,
Pouliquen 2006), implicit in the rate (Dunatunga, Kamrin 2015): the shear strain g of the step is the positive root of

    f(g) = (sqrt(2) mu |d| - mu_s p - mu g) (g + c sqrt(p)) - p (mu_2 - mu_s) g,    c = I_0 dt / (d sqrt(rho_s)),

with p = -(3 lam + 2 mu) mean e, and |d| becomes |d| - g / sqrt(2).
"""

# ruff: noqa: UP018, RUF046 -- int(0) declares a variable of a kernel, 0 a constant

import functools
from types import SimpleNamespace

import warp as wp


@functools.cache
def functions(real):
    """The functions for `real` (wp.float32 or wp.float64) in the module `simengine_<real>`."""
    module = f"simengine_{real.__name__}"
    vec5 = wp.types.vector(5, real)
    zero, half, one, two, three = real(0.0), real(0.5), real(1.0), real(2.0), real(3.0)
    root2 = real(2.0**0.5)
    settled = real(1e-14) if real == wp.float64 else real(1e-7)

    @wp.func(module=module)
    def sheared(norm: real, mean: real, c: vec5):
        # the root g, 0 where nothing flows, without cancellation; mean < 0
        p = -(three * c[1] + two * c[0]) * mean
        excess = root2 * c[0] * norm - c[2] * p
        g = zero
        if excess > zero:
            slow = c[4] * wp.sqrt(p)
            b = excess - c[0] * slow - p * (c[3] - c[2])
            root = wp.sqrt(b * b + real(4.0) * c[0] * slow * excess)
            g = half * (b + root) / c[0]
            if b < zero:
                g = two * slow * excess / (root - b)
        return g

    @wp.func(module=module)
    def kept(norm: real, mean: real, c: vec5):
        # what is left of the norm, over it
        g = sheared(norm, mean, c)
        r = one
        if g > zero:
            r = one - g / (root2 * norm)
        return r

    @wp.func(module=module)
    def slopes(norm: real, mean: real, c: vec5):
        # derivatives of the new norm in norm, mean and the five coefficients; of a point that flows
        stiff = three * c[1] + two * c[0]
        p = -stiff * mean
        slow = c[4] * wp.sqrt(p)
        g = sheared(norm, mean, c)
        left = root2 * c[0] * norm - c[2] * p - c[0] * g
        whole = g + slow
        # -1 / sqrt(2) over -df/dg
        scale = -one / (root2 * (c[0] * whole - left + p * (c[3] - c[2])))
        by_p = scale * (half * slow / p * left - (c[3] - c[2]) * g - c[2] * whole)
        by_mu = scale * whole * (root2 * norm - g) - two * mean * by_p
        by_c = vec5(by_mu, -three * mean * by_p, -scale * p * slow, -scale * p * g, scale * left * wp.sqrt(p))
        return one + scale * whole * root2 * c[0], -stiff * by_p, by_c

    @wp.func(module=module)
    def overstress_rate(excess: real, stiffness: real, k: real, n: real):
        # the root g > 0 of stiffness g + k g^n = excess; Newton in log g: convex and monotone there
        g = excess / (stiffness + k)
        if g <= zero:
            g = zero
        else:
            z = wp.log(g)
            count = int(0)
            while count < 60:
                g = wp.exp(z)
                kg = k * wp.pow(g, n)
                step = (wp.log(stiffness * g + kg) - wp.log(excess)) * (stiffness * g + kg) / (stiffness * g + n * kg)
                z -= step
                count += 1
                if wp.abs(step) < settled:
                    count = 60
            g = wp.exp(z)
        return g

    return SimpleNamespace(vec5=vec5, kept=kept, slopes=slopes, overstress_rate=overstress_rate)
