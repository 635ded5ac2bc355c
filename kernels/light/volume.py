"""Kernels that march rays through a grid of density and source, and their hand-written adjoint.

With density s_i [1/m] and source c_i in the middle of step i of length d, e_i = exp(-s_i d) and T_{i+1} = e_i T_i:

    C = sum_i T_i w_i c_i,   w_i = 1 - e_i              (c: source function, the radiance of an opaque body)
                          or w_i = (1 - e_i)/s_i        (c: emission, radiance per length)

The adjoint walks the same way, holding g.C minus what has been passed, so that a ray stores nothing. Neither walk uses
generated adjoints, which are wrong for such loops.

Rays are in grid coordinates: node (i, j, k) at position (i, j, k), values constant beyond the outermost nodes. The
parameter t along a ray is a length [m] whatever the grid's spacing.

Steps through bricks of BRICK^3 cells whose nodes hold nothing are passed over: they change neither the picture nor the
gradient to the rays. They have a gradient to the density, which the adjoint leaves out where it is told to.
"""

import functools
import math
from types import SimpleNamespace

import warp as wp
from simengine.kernels.light import trilinear

BRICK = 8  # cells along a side


@functools.cache
def kernels(scalar: type, channels: int) -> SimpleNamespace:
    """The kernels for wp.float32 or wp.float64; `channels` counts density and source."""
    module = wp.get_module(f"simengine.kernels.light.volume.{scalar.__name__}.{channels}")
    module.options.update(enable_backward=False, max_unroll=16, cpu_compiler_flags="-march=native -ffp-contract=fast")
    kernel = functools.partial(wp.kernel, module=module, enable_backward=False)
    func = functools.partial(wp.func, module=module)
    grid = trilinear.functions(scalar, channels)
    fetch, slope, scatter = grid.fetch, grid.slope, grid.scatter

    vec3 = wp.types.vector(3, scalar)
    vecf = wp.types.vector(channels, scalar)
    zero, half, one = (wp.constant(scalar(value)) for value in (0.0, 0.5, 1.0))
    endless = wp.constant(scalar(1e30))
    # series of phi and of its derivative, exact to rounding below `small`
    small = wp.constant(scalar(1e-1 if scalar is wp.float32 else 1e-2))
    c1, c2, c3, c4, c5 = (wp.constant(scalar((-1.0) ** k / math.factorial(k + 1))) for k in range(1, 6))
    d2, d3, d4, d5 = (wp.constant(scalar(k * (-1.0) ** k / math.factorial(k + 1))) for k in range(2, 6))

    @func
    def num_steps(near: scalar, far: scalar, step: scalar):
        if far <= near:
            return 0
        return wp.max(int(wp.ceil((far - near) / step - scalar(1e-3))), 1)

    @func
    def phi(x: scalar):
        # (1 - exp(-x))/x
        if wp.abs(x) < small:
            return one + x * (c1 + x * (c2 + x * (c3 + x * (c4 + x * c5))))
        return (one - wp.exp(-x)) / x

    @func
    def phi_slope(x: scalar):
        if wp.abs(x) < small:
            return c1 + x * (d2 + x * (d3 + x * (d4 + x * d5)))
        return (wp.exp(-x) * (one + x) - one) / (x * x)

    @func
    def steps_out(x: scalar, slope: scalar, first: int, n: int):
        # length until x leaves the cells of its brick; the outermost bricks reach on beyond the grid
        low = first * BRICK
        high = low + BRICK
        if slope > zero and high < n - 1:
            return (scalar(high) - x) / slope
        if slope < zero and low > 0:
            return (scalar(low) - x) / slope
        return endless

    @func
    def brick_of(x: scalar, n: int):
        return wp.min(int(wp.clamp(x, zero, scalar(n - 1))), n - 2) / BRICK

    @func
    def next_steps(
        number: int,
        count: int,
        p: vec3,
        direction: vec3,
        d: scalar,
        n0: int,
        n1: int,
        n2: int,
        busy: wp.array3d(dtype=wp.uint8),
    ):
        # the first step that counts, and the one after the last, in the brick around the position p of step `number`
        i = brick_of(p[0], n0)
        j = brick_of(p[1], n1)
        k = brick_of(p[2], n2)
        way = steps_out(p[0], direction[0], i, n0)
        way = wp.min(way, steps_out(p[1], direction[1], j, n1))
        way = wp.min(way, steps_out(p[2], direction[2], k, n2))
        stop = wp.min(number + wp.max(int(wp.min(way / d, scalar(1e6))), 1), count)
        if busy[i, j, k] == wp.uint8(0):
            return stop, stop
        return number, stop

    @kernel
    def find_bricks(
        # constants
        emission: int,
        # inputs
        n0: int,
        n1: int,
        n2: int,
        field: wp.array(dtype=vecf),
        # outputs
        busy_out: wp.array3d(dtype=wp.uint8),
    ):
        # which bricks hold a density, or with emission anything, at one of their nodes
        a, b, c = wp.tid()
        found = wp.uint8(0)
        i = a * BRICK
        while i < wp.min(a * BRICK + BRICK + 1, n0) and found == wp.uint8(0):
            for j in range(b * BRICK, wp.min(b * BRICK + BRICK + 1, n1)):
                for k in range(c * BRICK, wp.min(c * BRICK + BRICK + 1, n2)):
                    f = field[(i * n1 + j) * n2 + k]
                    if f[0] != zero or (emission != 0 and wp.dot(f, f) != zero):
                        found = wp.uint8(1)
            i += 1
        busy_out[a, b, c] = found

    @kernel
    def march(
        # constants
        first_ray: int,
        step: scalar,
        emission: int,
        skip: int,  # whether to look for empty bricks
        # inputs
        n0: int,
        n1: int,
        n2: int,
        field: wp.array(dtype=vecf),  # density and source, node (i, j, k) at (i n1 + j) n2 + k
        origins: wp.array(dtype=vec3),
        directions: wp.array(dtype=vec3),
        near: wp.array(dtype=scalar),
        far: wp.array(dtype=scalar),
        busy: wp.array3d(dtype=wp.uint8),  # of find_bricks
        # outputs
        blended_out: wp.array(dtype=vecf),  # distance t, source
        transmittance_out: wp.array(dtype=scalar),
    ):
        ray = first_ray + wp.tid()
        start = near[ray]
        count = num_steps(start, far[ray], step)
        d = (far[ray] - start) / scalar(wp.max(count, 1))
        o = origins[ray]
        direction = directions[ray]
        blended = vecf()
        light = scalar(1.0)
        number = int(0)  # noqa: UP018, RUF046 (a variable to Warp, not a constant)
        while number < count:
            stop = count
            if skip != 0:
                p = o + (start + (scalar(number) + half) * d) * direction
                number, stop = next_steps(number, count, p, direction, d, n0, n1, n2, busy)
            while number < stop:
                t = start + (scalar(number) + half) * d
                number += 1
                p = o + t * direction
                f = fetch(field, p, n0, n1, n2)
                x = f[0] * d
                factor = phi(x)
                absorbed = x * factor
                f[0] = zero
                if emission == 0:
                    blended += light * absorbed * f
                else:
                    blended += light * d * factor * f
                blended[0] = blended[0] + light * absorbed * t
                light = light * (one - absorbed)
        blended_out[ray] = blended
        transmittance_out[ray] = light

    @kernel
    def march_adjoint(
        # constants
        first_ray: int,
        step: scalar,
        emission: int,
        skip: int,  # whether to pass over empty bricks
        with_rays: int,  # whether the gradient to the rays is wanted
        # inputs
        n0: int,
        n1: int,
        n2: int,
        field: wp.array(dtype=vecf),
        origins: wp.array(dtype=vec3),
        directions: wp.array(dtype=vec3),
        near: wp.array(dtype=scalar),
        far: wp.array(dtype=scalar),
        busy: wp.array3d(dtype=wp.uint8),
        blended: wp.array(dtype=vecf),
        transmittance: wp.array(dtype=scalar),
        adj_blended: wp.array(dtype=vecf),
        adj_transmittance: wp.array(dtype=scalar),
        # outputs
        adj_field_out: wp.array(dtype=vecf),  # starts at 0
        adj_origins_out: wp.array(dtype=vec3),
        adj_directions_out: wp.array(dtype=vec3),
        adj_near_out: wp.array(dtype=scalar),
        adj_far_out: wp.array(dtype=scalar),
    ):
        ray = first_ray + wp.tid()
        start = near[ray]
        count = num_steps(start, far[ray], step)
        d = (far[ray] - start) / scalar(wp.max(count, 1))
        o = origins[ray]
        direction = directions[ray]
        g = adj_blended[ray]
        g_distance = g[0]
        g[0] = zero
        g_end = adj_transmittance[ray] * transmittance[ray]
        rest = wp.dot(g, blended[ray]) + g_distance * blended[ray][0]
        light = scalar(1.0)
        g_origin = vec3()
        g_direction = vec3()
        g_near = scalar(0.0)
        g_far = scalar(0.0)
        g_d = scalar(0.0)
        number = int(0)  # noqa: UP018, RUF046 (a variable to Warp, not a constant)
        while number < count:
            stop = count
            if skip != 0:
                p = o + (start + (scalar(number) + half) * d) * direction
                number, stop = next_steps(number, count, p, direction, d, n0, n1, n2, busy)
            while number < stop:
                middle = scalar(number) + half
                number += 1
                t = start + middle * d
                p = o + t * direction
                f = fetch(field, p, n0, n1, n2)
                s = f[0]
                f[0] = zero
                x = s * d
                factor = phi(x)
                absorbed = x * factor
                passed = one - absorbed
                g_c = wp.dot(g, f)
                w = absorbed
                w_s = d * passed
                w_d = s * passed
                if emission != 0:
                    w = d * factor
                    w_s = d * d * phi_slope(x)
                    w_d = passed
                rest -= light * (w * g_c + absorbed * g_distance * t)
                behind = rest + g_end
                g_f = (light * w) * g
                g_f[0] = light * (w_s * g_c + d * passed * g_distance * t) - d * behind
                g_d += light * (w_d * g_c + s * passed * g_distance * t) - s * behind
                scatter(adj_field_out, p, n0, n1, n2, g_f)
                if with_rays != 0:
                    share = middle / scalar(count)
                    g_p = slope(field, p, n0, n1, n2, g_f)
                    g_t = wp.dot(g_p, direction) + light * absorbed * g_distance
                    g_origin += g_p
                    g_direction += t * g_p
                    g_near += (one - share) * g_t
                    g_far += share * g_t
                light = light * passed
        adj_origins_out[ray] = g_origin
        adj_directions_out[ray] = g_direction
        adj_near_out[ray] = g_near - g_d / scalar(wp.max(count, 1))
        adj_far_out[ray] = g_far + g_d / scalar(wp.max(count, 1))

    return SimpleNamespace(find_bricks=find_bricks, march=march, march_adjoint=march_adjoint)
