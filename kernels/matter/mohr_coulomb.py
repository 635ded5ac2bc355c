"""Mohr-Coulomb's hexagon in the plane of the deviator of a Hencky strain, as Warp functions generic in the scalar.

The flow keeps the volume: of the principal strains the mean m is given (m < 0 above the tip), and the deviator alone
moves, d_1 >= d_2 >= d_3 in the order of `svd`. With s = sin(phi) and k = s (3 lam + 2 mu) / mu the yield condition
tau_1 - tau_3 + s (tau_1 + tau_3) <= 0 of tau_i = 3 lam m + 2 mu (m + d_i) is d_1 - d_3 <= w = s d_2 - k m. A face is
left along (1, 0, -1), so that d_2 stays; above -k m / (3 - s) the corner d_1 = d_2 is reached, below k m / (3 + s) the
corner d_2 = d_3 (de Souza Neto, Peric and Owen, Computational Methods for Plasticity, 2008, Sec. 8.2).
"""

import functools
from types import SimpleNamespace

import warp as wp

from .svd import functions as matrix_functions


@functools.cache
def functions(real):
    """The functions for `real` (wp.float32 or wp.float64) in the module `simengine_<real>`."""
    module, vec3 = f"simengine_{real.__name__}", matrix_functions(real).vec3
    zero, half, two, three = real(0.0), real(0.5), real(2.0), real(3.0)

    @wp.func(module=module)
    def excess(d: vec3, m: real, k: real, s: real):
        # d_1 - d_3 beyond the hexagon
        return d[0] - d[2] - (s * d[1] - k * m)

    @wp.func(module=module)
    def flowed(d: vec3, m: real, k: real, s: real):
        # the deviator on the hexagon; in a corner two entries are equal to the last bit: their difference is divided
        low = k * m / (three + s)
        high = -k * m / (three - s)
        out = vec3(high, high, -two * high)
        if d[1] < low:
            out = vec3(-two * low, low, low)
        elif d[1] < high:
            w = s * d[1] - k * m
            out = vec3(half * (w - d[1]), d[1], -half * (w + d[1]))
        return out

    @wp.func(module=module)
    def pulled_back(d: vec3, m: real, k: real, s: real, bar: vec3):
        # cotangents of d_2, m, k and s from `bar` of `flowed`
        low = k * m / (three + s)
        high = -k * m / (three - s)
        middle = wp.clamp(d[1], low, high)
        w_bar = half * (bar[0] - bar[2])
        middle_bar = bar[1] - half * (bar[0] + bar[2]) + s * w_bar
        own = zero
        m_bar = -k * w_bar
        k_bar = -m * w_bar
        s_bar = middle * w_bar
        if d[1] >= high:
            m_bar -= k / (three - s) * middle_bar
            k_bar -= m / (three - s) * middle_bar
            s_bar += high / (three - s) * middle_bar
        elif d[1] < low:
            m_bar += k / (three + s) * middle_bar
            k_bar += m / (three + s) * middle_bar
            s_bar -= low / (three + s) * middle_bar
        else:
            own = middle_bar
        return own, m_bar, k_bar, s_bar

    return SimpleNamespace(excess=excess, flowed=flowed, pulled_back=pulled_back)
