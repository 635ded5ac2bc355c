"""The kernels of `volume.py` in Taichi: for GPUs that Warp does not reach, and for CPUs of many cores.

The same walks, formulas and arguments. Rays run in parallel; the gradient of the grid is summed by atomic additions
in no fixed order, or, `private`, by plain ones into a grid for each part of the rays, which takes less than half of the
time on a CPU and gives the same bits for the same number of parts. Taichi takes literals as float32, so that series are
written with quotients of integers.
"""

import functools
from types import SimpleNamespace
from typing import Any

import taichi as ti

BRICK = 8  # cells along a side


@functools.cache
def kernels(scalar: Any, channels: int, private: bool) -> SimpleNamespace:
    """The kernels for ti.f32 or ti.f64; `channels` counts density and source; `private`: a gradient for each part."""
    small = 10 if scalar == ti.f32 else 100  # the series are exact to rounding below 1/small
    vecf = ti.types.vector(channels, scalar)
    vec3 = ti.types.vector(3, scalar)
    floats1, floats2, floats3 = (ti.types.ndarray(dtype=scalar, ndim=n) for n in (1, 2, 3))
    places = ti.types.ndarray(dtype=ti.i32, ndim=1)
    marks = ti.types.ndarray(dtype=ti.i32, ndim=3)

    @ti.func
    def phi(x):
        value = 1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5 * (1 - x / 6))))
        if ti.abs(x) * small >= 1:
            value = (1 - ti.exp(-x)) / x
        return value

    @ti.func
    def phi_slope(x):
        value = -(1 - x * 2 / 3 * (1 - x * 3 / 8 * (1 - x * 4 / 15 * (1 - x * 5 / 24)))) / 2
        if ti.abs(x) * small >= 1:
            value = (ti.exp(-x) * (1 + x) - 1) / (x * x)
        return value

    @ti.func
    def node(field: ti.template(), q):
        value = vecf(0)
        for c in ti.static(range(channels)):
            value[c] = field[q, c]
        return value

    @ti.func
    def add(field: ti.template(), part, q, value):
        for c in ti.static(range(channels)):
            if ti.static(private):
                field[part, q, c] = field[part, q, c] + value[c]
            else:
                ti.atomic_add(field[part, q, c], value[c])

    @ti.func
    def row3(array: ti.template(), ray):
        return vec3(array[ray, 0], array[ray, 1], array[ray, 2])

    @ti.func
    def num_steps(near, far, step):
        count = 0
        if far > near:
            count = ti.max(ti.cast(ti.ceil((far - near) / step - ti.cast(1, scalar) / 1000), ti.i32), 1)
        return count

    @ti.func
    def locate(x, n):
        return ti.min(ti.max(x, ti.cast(0, scalar)), ti.cast(n - 1, scalar))

    @ti.func
    def inside(x, n):
        value = ti.cast(0, scalar)
        if x > 0 and x < n - 1:
            value = ti.cast(1, scalar)
        return value

    @ti.func
    def steps_out(x, slope, first, n):
        low = first * BRICK
        high = low + BRICK
        way = ti.cast(1e30, scalar)
        if slope > 0 and high < n - 1:
            way = (high - x) / slope
        elif slope < 0 and low > 0:
            way = (low - x) / slope
        return way

    @ti.func
    def steps_to_pass(p, direction, i, j, k, n0, n1, n2, d):
        way = steps_out(p[0], direction[0], i, n0)
        way = ti.min(way, steps_out(p[1], direction[1], j, n1))
        way = ti.min(way, steps_out(p[2], direction[2], k, n2))
        return ti.max(ti.cast(ti.min(way / d, ti.cast(1000000, scalar)), ti.i32), 1)

    @ti.kernel
    def find_bricks(emission: ti.i32, n0: ti.i32, n1: ti.i32, n2: ti.i32, field: floats2, busy_out: marks):
        for a, b, c in ti.ndrange(busy_out.shape[0], busy_out.shape[1], busy_out.shape[2]):
            found = 0
            for i in range(a * BRICK, ti.min(a * BRICK + BRICK + 1, n0)):
                for j in range(b * BRICK, ti.min(b * BRICK + BRICK + 1, n1)):
                    for k in range(c * BRICK, ti.min(c * BRICK + BRICK + 1, n2)):
                        f = node(field, (i * n1 + j) * n2 + k)
                        if f[0] != 0 or (emission != 0 and f.dot(f) != 0):
                            found = 1
            busy_out[a, b, c] = found

    @ti.kernel
    def march(
        step: scalar,
        emission: ti.i32,
        n0: ti.i32,
        n1: ti.i32,
        n2: ti.i32,
        field: floats2,
        origins: floats2,
        directions: floats2,
        near: floats1,
        far: floats1,
        busy: marks,
        blended_out: floats2,
        transmittance_out: floats1,
    ):
        across_i = ti.min(n0 - 1, 1) * n1 * n2
        across_j = ti.min(n1 - 1, 1) * n2
        across_k = ti.min(n2 - 1, 1)
        for ray in range(near.shape[0]):
            start = near[ray]
            count = num_steps(start, far[ray], step)
            d = (far[ray] - start) / ti.cast(ti.max(count, 1), scalar)
            o = row3(origins, ray)
            direction = row3(directions, ray)
            blended = vecf(0)
            light = ti.cast(1, scalar)
            number = 0
            while number < count:
                t = start + (ti.cast(number, scalar) + 0.5) * d
                p = o + t * direction
                a = locate(p[0], n0)
                b = locate(p[1], n1)
                c = locate(p[2], n2)
                i = ti.min(ti.cast(a, ti.i32), ti.max(n0 - 2, 0))
                j = ti.min(ti.cast(b, ti.i32), ti.max(n1 - 2, 0))
                k = ti.min(ti.cast(c, ti.i32), ti.max(n2 - 2, 0))
                if busy[i // BRICK, j // BRICK, k // BRICK] == 0:
                    number += steps_to_pass(p, direction, i // BRICK, j // BRICK, k // BRICK, n0, n1, n2, d)
                else:
                    a -= scalar(i)
                    b -= scalar(j)
                    c -= scalar(k)
                    q00 = (i * n1 + j) * n2 + k
                    q01 = q00 + across_j
                    q10 = q00 + across_i
                    q11 = q10 + across_j
                    f00 = (1 - c) * node(field, q00) + c * node(field, q00 + across_k)
                    f01 = (1 - c) * node(field, q01) + c * node(field, q01 + across_k)
                    f10 = (1 - c) * node(field, q10) + c * node(field, q10 + across_k)
                    f11 = (1 - c) * node(field, q11) + c * node(field, q11 + across_k)
                    f = (1 - a) * ((1 - b) * f00 + b * f01) + a * ((1 - b) * f10 + b * f11)
                    x = f[0] * d
                    factor = phi(x)
                    absorbed = x * factor
                    share = light * absorbed
                    if emission != 0:
                        share = light * d * factor
                    f[0] = 0
                    blended += share * f
                    blended[0] += light * absorbed * t
                    light = light * (1 - absorbed)
                    number += 1
            for channel in ti.static(range(channels)):
                blended_out[ray, channel] = blended[channel]
            transmittance_out[ray] = light

    @ti.func
    def ray_adjoint(
        ray,
        slot,
        step,
        emission,
        sparse,
        n0,
        n1,
        n2,
        field: ti.template(),
        origins: ti.template(),
        directions: ti.template(),
        near: ti.template(),
        far: ti.template(),
        busy: ti.template(),
        blended: ti.template(),
        transmittance: ti.template(),
        adj_blended: ti.template(),
        adj_transmittance: ti.template(),
        adj_field_out: ti.template(),
        adj_origins_out: ti.template(),
        adj_directions_out: ti.template(),
        adj_near_out: ti.template(),
        adj_far_out: ti.template(),
    ):
        across_i = ti.min(n0 - 1, 1) * n1 * n2
        across_j = ti.min(n1 - 1, 1) * n2
        across_k = ti.min(n2 - 1, 1)
        start = near[ray]
        count = num_steps(start, far[ray], step)
        d = (far[ray] - start) / ti.cast(ti.max(count, 1), scalar)
        o = row3(origins, ray)
        direction = row3(directions, ray)
        g = node(adj_blended, ray)
        g_distance = g[0]
        g[0] = 0
        g_end = adj_transmittance[ray] * transmittance[ray]
        seen = node(blended, ray)
        rest = g.dot(seen) + g_distance * seen[0]
        light = ti.cast(1, scalar)
        g_origin = vec3(0)
        g_direction = vec3(0)
        g_near = ti.cast(0, scalar)
        g_far = ti.cast(0, scalar)
        g_d = ti.cast(0, scalar)
        number = 0
        while number < count:
            part = (ti.cast(number, scalar) + 0.5) / ti.cast(count, scalar)
            t = start + (ti.cast(number, scalar) + 0.5) * d
            p = o + t * direction
            a = locate(p[0], n0)
            b = locate(p[1], n1)
            c = locate(p[2], n2)
            i = ti.min(ti.cast(a, ti.i32), ti.max(n0 - 2, 0))
            j = ti.min(ti.cast(b, ti.i32), ti.max(n1 - 2, 0))
            k = ti.min(ti.cast(c, ti.i32), ti.max(n2 - 2, 0))
            if sparse != 0 and busy[i // BRICK, j // BRICK, k // BRICK] == 0:
                number += steps_to_pass(p, direction, i // BRICK, j // BRICK, k // BRICK, n0, n1, n2, d)
            else:
                a -= scalar(i)
                b -= scalar(j)
                c -= scalar(k)
                q00 = (i * n1 + j) * n2 + k
                q01 = q00 + across_j
                q10 = q00 + across_i
                q11 = q10 + across_j
                v000 = node(field, q00)
                v001 = node(field, q00 + across_k)
                v010 = node(field, q01)
                v011 = node(field, q01 + across_k)
                v100 = node(field, q10)
                v101 = node(field, q10 + across_k)
                v110 = node(field, q11)
                v111 = node(field, q11 + across_k)
                f00 = (1 - c) * v000 + c * v001
                f01 = (1 - c) * v010 + c * v011
                f10 = (1 - c) * v100 + c * v101
                f11 = (1 - c) * v110 + c * v111
                f = (1 - a) * ((1 - b) * f00 + b * f01) + a * ((1 - b) * f10 + b * f11)
                s = f[0]
                f[0] = 0
                x = s * d
                factor = phi(x)
                absorbed = x * factor
                passed = 1 - absorbed
                g_c = g.dot(f)
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
                p00 = (1 - a) * (1 - b) * g_f
                p01 = (1 - a) * b * g_f
                p10 = a * (1 - b) * g_f
                p11 = a * b * g_f
                add(adj_field_out, slot, q00, (1 - c) * p00)
                add(adj_field_out, slot, q00 + across_k, c * p00)
                add(adj_field_out, slot, q01, (1 - c) * p01)
                add(adj_field_out, slot, q01 + across_k, c * p01)
                add(adj_field_out, slot, q10, (1 - c) * p10)
                add(adj_field_out, slot, q10 + across_k, c * p10)
                add(adj_field_out, slot, q11, (1 - c) * p11)
                add(adj_field_out, slot, q11 + across_k, c * p11)
                across = (1 - b) * (f10 - f00) + b * (f11 - f01)
                down = (1 - a) * (f01 - f00) + a * (f11 - f10)
                front = (1 - a) * ((1 - b) * (v001 - v000) + b * (v011 - v010))
                back = front + a * ((1 - b) * (v101 - v100) + b * (v111 - v110))
                g_p = vec3(
                    inside(p[0], n0) * g_f.dot(across),
                    inside(p[1], n1) * g_f.dot(down),
                    inside(p[2], n2) * g_f.dot(back),
                )
                g_t = g_p.dot(direction) + light * absorbed * g_distance
                g_origin += g_p
                g_direction += t * g_p
                g_near += (1 - part) * g_t
                g_far += part * g_t
                light = light * passed
                number += 1
        for axis in ti.static(range(3)):
            adj_origins_out[ray, axis] = g_origin[axis]
            adj_directions_out[ray, axis] = g_direction[axis]
        adj_near_out[ray] = g_near - g_d / ti.cast(ti.max(count, 1), scalar)
        adj_far_out[ray] = g_far + g_d / ti.cast(ti.max(count, 1), scalar)

    @ti.kernel
    def march_adjoint(
        step: scalar,
        emission: ti.i32,
        sparse: ti.i32,
        n0: ti.i32,
        n1: ti.i32,
        n2: ti.i32,
        field: floats2,
        origins: floats2,
        directions: floats2,
        near: floats1,
        far: floats1,
        busy: marks,
        blended: floats2,
        transmittance: floats1,
        adj_blended: floats2,
        adj_transmittance: floats1,
        bounds: places,  # of the parts
        adj_field_out: floats3,
        adj_origins_out: floats2,
        adj_directions_out: floats2,
        adj_near_out: floats1,
        adj_far_out: floats1,
    ):
        if ti.static(private):
            for part in range(bounds.shape[0] - 1):
                for ray in range(bounds[part], bounds[part + 1]):
                    ray_adjoint(
                        ray,
                        part,
                        step,
                        emission,
                        sparse,
                        n0,
                        n1,
                        n2,
                        field,
                        origins,
                        directions,
                        near,
                        far,
                        busy,
                        blended,
                        transmittance,
                        adj_blended,
                        adj_transmittance,
                        adj_field_out,
                        adj_origins_out,
                        adj_directions_out,
                        adj_near_out,
                        adj_far_out,
                    )
        else:
            for ray in range(near.shape[0]):
                ray_adjoint(
                    ray,
                    0,
                    step,
                    emission,
                    sparse,
                    n0,
                    n1,
                    n2,
                    field,
                    origins,
                    directions,
                    near,
                    far,
                    busy,
                    blended,
                    transmittance,
                    adj_blended,
                    adj_transmittance,
                    adj_field_out,
                    adj_origins_out,
                    adj_directions_out,
                    adj_near_out,
                    adj_far_out,
                )

    return SimpleNamespace(find_bricks=find_bricks, march=march, march_adjoint=march_adjoint)
