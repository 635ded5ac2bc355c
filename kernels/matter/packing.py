"""The packing of grains on the grid, which bounds the volume that they gained while they were apart, and its adjoint.

A return map follows the volume of each grain by the grid's velocity. Where grains rain on a heap they stop as soon as
they share a node with it, so that a heap stays loose though no grain knows of it. What the grid's mass says does not
drift. With M = sum_i w_ip m_i and G = sum_i w_ip m_i 4 (x_i - x_p) / dx, mass and its slope over a cell, r = G / M,

    c = M V_p / (m_p dx^3) * h(r_x) h(r_y) h(r_z),    h(r) = 1 + SURFACE r^2

is the packing over that at rest: h gives back what a B-spline misses beyond a plane surface, so that c is 0.94 to 0.96
from there to a cell and a quarter below (mean over the places of nodes) and 1 inside; without it 0.5 to 0.96. In
edges it is the product. Slopes of a heap that is merely uneven hardly count, being squared. The history q, the
logarithm of the volume gained, is held to what c says: grains below the critical packing have gained
log(critical / c) at least, and press on nothing; none has gained more than log(1 / c).

    q = min(max(q, log(critical / c)), max(0, log(1 / c)))

A critical packing of 0.86 leaves the edges of a heap at rest alone, where c is 0.94^2; above 0.9 they creep together.

Source: volume correction of Tampubolon et al. 2017, Sec. 4.3.4; the bound by the grid's mass is ours.
"""

import functools
from types import SimpleNamespace

import warp as wp

from ..cpu import cpu_module

SURFACE = 0.7


@functools.cache
def kernels(real):
    """Kernels `pack` and `pack_adjoint` for wp.float32 or wp.float64."""
    module = cpu_module(f"simengine_packing_{real.__name__}")
    vec3, vec4, array2d = wp.types.vector(3, real), wp.types.vector(4, real), wp.array2d
    zero, one, surface = real(0.0), real(1.0), real(SURFACE)

    @wp.kernel(module=module, enable_backward=False)
    def pack(
        # constants
        dx: real,
        clock: wp.array(dtype=int),
        mass: wp.array(dtype=real),
        volume: wp.array(dtype=real),
        critical: wp.array(dtype=real),
        # inputs and outputs
        crowd: array2d(dtype=vec4),
        q: array2d(dtype=real),
    ):
        """Bound q at the step's end; `crowd` (G / dx, M), as g2p left it, becomes the derivative of q by it."""
        p = wp.tid()
        t = clock[0]
        t1 = clock[1]
        c = crowd[t, p]
        slope = vec4()
        if critical[p] > zero and c[3] > zero:
            density = mass[p] / volume[p]
            log_packing = wp.log(c[3] / (density * dx * dx * dx))
            by_r = vec3()
            lost = one
            for k in range(3):
                r = c[k] * dx / c[3]
                h = one + surface * r * r
                log_packing += wp.log(h)
                by_r[k] = real(2.0) * surface * r / h
                lost -= r * by_r[k]
            gained = q[t1, p]
            low = wp.log(critical[p]) - log_packing
            high = wp.max(zero, -log_packing)
            if gained < low or (gained > high and high > zero):
                slope = -vec4(by_r[0] * dx, by_r[1] * dx, by_r[2] * dx, lost) / c[3]
            q[t1, p] = wp.min(wp.max(gained, low), high)
        crowd[t, p] = slope

    @wp.kernel(module=module, enable_backward=False)
    def pack_adjoint(
        # constants
        clock: wp.array(dtype=int),
        mass: wp.array(dtype=real),
        volume: wp.array(dtype=real),
        critical: wp.array(dtype=real),
        # inputs
        slope: array2d(dtype=vec4),
        q: array2d(dtype=real),
        # inputs and outputs
        q_bar: wp.array(dtype=real),
        # outputs
        crowd_bar_out: wp.array(dtype=vec4),
        body_bar_out: array2d(dtype=wp.float64),
    ):
        """Cotangents of (G / dx, M), mass and volume, and of q before it was bounded; none where q came to 0."""
        p = wp.tid()
        s = slope[clock[0], p]
        bar = q_bar[p]
        crowd_bar_out[p] = s * bar
        if wp.length_sq(s) > zero:
            body_bar_out[p, 0] += wp.float64(bar / mass[p])
            body_bar_out[p, 1] -= wp.float64(bar / volume[p])
            q_bar[p] = zero
        elif critical[p] > zero and q[clock[1], p] == zero:
            q_bar[p] = zero

    return SimpleNamespace(pack=pack, pack_adjoint=pack_adjoint)
