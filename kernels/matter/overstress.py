"""The rate of a Herschel-Bulkley fluid beyond its yield stress, as a Warp function generic in the scalar."""

# ruff: noqa: UP018, RUF046 -- int(0) declares a variable of a kernel, 0 a constant

import functools
from types import SimpleNamespace

import warp as wp


@functools.cache
def functions(real):
    """The function for `real` (wp.float32 or wp.float64) in the module `simengine_<real>`."""
    module, zero = f"simengine_{real.__name__}", real(0.0)
    settled = real(1e-14) if real == wp.float64 else real(1e-7)

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

    return SimpleNamespace(overstress_rate=overstress_rate)
