"""What contact changes in the velocities of two deformable bodies at a node of the grid, and its adjoint.

Where two bodies a, b reach the same node with masses m_a, m_b, the moments of their volume there tell them apart,
G = sum_p V_p w_ip (x_i - x_p) and V = sum_p V_p w_ip (in cells): r = G / V leads from the middle of what the node sees
of a body to the node. The normal from a to b is that from one middle to the other,

    n = d / |d|,  d = r_a - r_b

A half space whose middle lies xi before the node ends at s(xi), a cubic in sqrt(xi) that holds to 0.01 cells for
quadratic B-splines, so the bodies overlap by s(r_a.n) + s(-r_b.n); with `margin` for what particles err by. Where they
do, a spring pushes them apart over the interface's share of the node, of which V_a V_b is about a third, and they slide
by Coulomb's law. With w = u_b - u_a, m = m_a m_b / (m_a + m_b) and the stiffness k [Pa] a cell thick:

    p = 3 k V_a V_b dx^2 max(0, overlap + margin) dt / m     what is added to w.n [m/s]
    w -> w + p n - w_t min(1, mu p / |w_t|)                  w_t, the sliding, is shortened by mu p at most

A spring, not a stop of the approach: that would take energy from all that comes within a cell, the more the smaller the
step. `sticky` is w -> 0. Both bodies get opposite momenta, m times the change, so their sum stays to rounding. With
several bodies at a node the pairs follow one another.

Source: Bardenhagen et al. 2000 (contact of fields on the grid); Nairn 2013 (gaps from extrapolated positions).
"""

import functools
from types import SimpleNamespace

import warp as wp

NONE, STICKY, FRICTIONAL = 0, 1, 2
SURFACE = (1.3845913, -2.6587502, 1.3149253, -0.8740080)  # s(xi) in powers of sqrt(xi) [cells]
NEAREST, FARTHEST = 0.01, 1.5  # what xi is held between [cells]
SLACK = 0.005  # overlap without a force [cells]: by so much s may err
SPACING = 0.22  # of squared spacings of particles: how far a body of them seems to end before it does [cells]
STIFFNESS = 8.0  # k over the modulus of a wave of the bodies


@functools.cache
def functions(real):
    """`change` and `change_adjoint` for wp.float32 or wp.float64."""
    module, vec3, vec4 = f"simengine_{real.__name__}", wp.types.vector(3, real), wp.types.vector(4, real)
    zero, one, two, three = real(0.0), real(1.0), real(2.0), real(3.0)
    s0, s1, s2, s3 = (real(value) for value in SURFACE)
    nearest, farthest = real(NEAREST), real(FARTHEST)

    @wp.func(module=module)
    def first3(a: vec4):
        return vec3(a[0], a[1], a[2])

    @wp.func(module=module)
    def surface(xi: real):
        # where a body ends, and the slope of it
        q = wp.sqrt(wp.clamp(xi, nearest, farthest))
        slope = zero
        if xi > nearest and xi < farthest:
            slope = (s1 + q * (two * s2 + q * three * s3)) / (two * q)
        return s0 + q * (s1 + q * (s2 + q * s3)), slope

    @wp.func(module=module, inline=False)
    def change(w: vec3, a: vec4, b: vec4, mode: int, mu: real, margin: real, push: real):
        # what is added to the relative velocity; push is 3 k dx^2 dt / m
        out = -w
        if mode == FRICTIONAL:
            out = vec3()
            ra = first3(a) / a[3]
            rb = first3(b) / b[3]
            d = ra - rb
            length = wp.length(d)
            if length > zero:
                n = d / length
                xa = wp.dot(ra, n)
                xb = -wp.dot(rb, n)
                sa, _ea = surface(xa)
                sb, _eb = surface(xb)
                p = push * a[3] * b[3] * (sa + sb + margin)
                if p > zero and xa > zero and xb > zero:
                    sliding = w - n * wp.dot(w, n)
                    size = wp.length(sliding)
                    share = one
                    if mu * p < size:
                        share = mu * p / size
                    out = n * p - sliding * share
        return out

    @wp.func(module=module, inline=False)
    def change_adjoint(w: vec3, a: vec4, b: vec4, mode: int, mu: real, margin: real, push: real, out_bar: vec3):
        # cotangents of w, the moments of both bodies, and of mu, margin and push
        w_bar = -out_bar
        a_bar = vec4()
        b_bar = vec4()
        numbers_bar = vec3()
        if mode == FRICTIONAL:
            w_bar = vec3()
            ra = first3(a) / a[3]
            rb = first3(b) / b[3]
            d = ra - rb
            length = wp.length(d)
            if length > zero:
                n = d / length
                xa = wp.dot(ra, n)
                xb = -wp.dot(rb, n)
                sa, slope_a = surface(xa)
                sb, slope_b = surface(xb)
                p = push * a[3] * b[3] * (sa + sb + margin)
                if p > zero and xa > zero and xb > zero:
                    across = wp.dot(w, n)
                    sliding = w - n * across
                    size = wp.length(sliding)
                    mu_bar = zero
                    p_bar = wp.dot(out_bar, n)
                    n_bar = out_bar * p
                    slide_bar = -out_bar
                    if mu * p < size:
                        unit = sliding / size
                        along = wp.dot(unit, out_bar)
                        slide_bar = (unit * along - out_bar) * (mu * p / size)
                        p_bar -= mu * along
                        mu_bar = -p * along
                    turned = wp.dot(n, slide_bar)
                    w_bar = slide_bar - n * turned
                    n_bar -= slide_bar * across + w * turned
                    margin_bar = p_bar * push * a[3] * b[3]
                    numbers_bar = vec3(mu_bar, margin_bar, p_bar * p / push)
                    xa_bar = margin_bar * slope_a
                    xb_bar = margin_bar * slope_b
                    n_bar += ra * xa_bar - rb * xb_bar
                    d_bar = (n_bar - n * wp.dot(n, n_bar)) / length
                    ra_bar = n * xa_bar + d_bar
                    rb_bar = -n * xb_bar - d_bar
                    Ga_bar = ra_bar / a[3]
                    Gb_bar = rb_bar / b[3]
                    a_bar = vec4(Ga_bar[0], Ga_bar[1], Ga_bar[2], (p_bar * p - wp.dot(ra_bar, ra)) / a[3])
                    b_bar = vec4(Gb_bar[0], Gb_bar[1], Gb_bar[2], (p_bar * p - wp.dot(rb_bar, rb)) / b[3])
        return w_bar, a_bar, b_bar, numbers_bar

    return SimpleNamespace(vec3=vec3, vec4=vec4, first3=first3, change=change, change_adjoint=change_adjoint)
