"""Kernels that composite oriented Gaussian discs front to back, tile by tile, and their hand-written adjoint.

A disc is a 3 x 3 matrix with rows T_u, T_v, T_w that takes its local coordinates (u, v, 1) to homogeneous pixel
coordinates (x z, y z, z). The ray of pixel (x, y) meets it at u = k_0/k_2, v = k_1/k_2 with k = h_u x h_v,
h_u = x T_w - T_u, h_v = y T_w - T_v (Huang et al. 2024, 2D Gaussian Splatting, eq. 8-10). Its weight there is

    w = (exp(-rho/2) - c) / (1 - c),  c = exp(-CUTOFF^2/2),  rho = min(u^2 + v^2, sharpness |pixel - centre|^2)

which falls to 0 continuously at rho = CUTOFF^2; the second term of rho keeps a disc at least
1/sqrt(sharpness) pixels wide.

A thread owns a tile and walks through its discs, nearest first. The backward pass walks the same way, holding the sum
of what has been composited so far, so that nothing but the pictures is stored; it writes one row of gradients for each
pair of a tile and a disc, so that there are no atomics and the bits repeat.

Units: pixel coordinates [pixel], depth z [m].
"""

import functools
import math
from types import SimpleNamespace

import warp as wp
from simengine.kernels.surfel_binning import TILE

CUTOFF = 3.0  # standard deviations at which a disc ends
MAX_ALPHA = 0.999  # so that the light behind can be recovered by division in the backward pass
MIN_TRANSMITTANCE = 1e-4  # a pixel that lets less through is finished


@functools.cache
def kernels(scalar: type, channels: int) -> SimpleNamespace:
    """The kernels for wp.float32 or wp.float64 and a number of feature channels."""
    module = wp.get_module(f"simengine.kernels.surfel.{scalar.__name__}.{channels}")
    module.options.update(enable_backward=False, max_unroll=16)
    kernel = functools.partial(wp.kernel, module=module, enable_backward=False)
    func = functools.partial(wp.func, module=module)

    vec2 = wp.types.vector(2, scalar)
    vec3 = wp.types.vector(3, scalar)
    mat33 = wp.types.matrix((3, 3), scalar)
    vecf = wp.types.vector(channels, scalar)
    zero, half, one, two = (wp.constant(scalar(value)) for value in (0.0, 0.5, 1.0, 2.0))
    cut = wp.constant(scalar(CUTOFF**2))
    edge = wp.constant(scalar(math.exp(-(CUTOFF**2) / 2)))
    gain = wp.constant(scalar(1.0 / (1.0 - math.exp(-(CUTOFF**2) / 2))))
    max_alpha = wp.constant(scalar(MAX_ALPHA))
    min_transmittance = wp.constant(scalar(MIN_TRANSMITTANCE))

    @func
    def meet(k: vec3, near: scalar):
        # (u, v, k_2) where the ray meets the disc, if that is nearer to its centre than rho = near is; k_2 = 0 tells
        # that it is not, as for a disc seen edge-on
        s = k[2] * k[2]
        if s > zero and k[0] * k[0] + k[1] * k[1] <= wp.min(near, cut) * s:
            return vec3(k[0] / k[2], k[1] / k[2], k[2])
        return vec3(zero, zero, zero)

    @func
    def slopes(
        hu: vec3,
        hv: vec3,
        Tw: vec3,
        m: vec3,
        tilted: bool,
        centre: vec2,
        x: scalar,
        y: scalar,
        g_rho: scalar,
        g_z: scalar,
        sharpness: scalar,
    ):
        # cotangents of rho and z of a pixel taken to the rows T_u, T_v, T_w
        if tilted:
            g0 = two * g_rho * m[0] + g_z * Tw[0]
            g1 = two * g_rho * m[1] + g_z * Tw[1]
            q = vec3(g0, g1, -(g0 * m[0] + g1 * m[1])) / m[2]
            dhu = wp.cross(hv, q)
            dhv = wp.cross(q, hu)
            gw = x * dhu + y * dhv + g_z * vec3(m[0], m[1], one)
            return mat33(-dhu[0], -dhu[1], -dhu[2], -dhv[0], -dhv[1], -dhv[2], gw[0], gw[1], gw[2])
        gx = -two * sharpness * g_rho * (x - centre[0]) / Tw[2]
        gy = -two * sharpness * g_rho * (y - centre[1]) / Tw[2]
        g_last = g_z - gx * centre[0] - gy * centre[1]
        return mat33(zero, zero, gx, zero, zero, gy, zero, zero, g_last)

    @kernel
    def composite(
        # constants
        width: int,
        height: int,
        first_tile: int,
        sharpness: scalar,
        # inputs
        transforms: wp.array(dtype=mat33),
        opacity: wp.array(dtype=scalar),
        features: wp.array(dtype=vecf),
        boxes: wp.array(dtype=wp.vec4i),
        start: wp.array(dtype=wp.int64),
        disc: wp.array(dtype=wp.int32),
        # outputs
        features_out: wp.array2d(dtype=vecf),
        transmittance_out: wp.array2d(dtype=scalar),  # starts at 1
        depth_out: wp.array2d(dtype=scalar),
        median_out: wp.array2d(dtype=scalar),
    ):
        tile = first_tile + wp.tid()
        tiles_x = (width + TILE - 1) // TILE
        left = (tile % tiles_x) * TILE
        top = (tile // tiles_x) * TILE
        right = wp.min(left + TILE, width)
        bottom = wp.min(top + TILE, height)
        open = (right - left) * (bottom - top)
        k = start[tile]
        while k < start[tile + 1] and open > 0:
            i = disc[k]
            M = transforms[i]
            Tu = vec3(M[0, 0], M[0, 1], M[0, 2])
            Tv = vec3(M[1, 0], M[1, 1], M[1, 2])
            Tw = vec3(M[2, 0], M[2, 1], M[2, 2])
            centre = vec2(Tu[2] / Tw[2], Tv[2] / Tw[2])
            strength = opacity[i] * gain
            f = features[i]
            b = boxes[i]
            for row in range(wp.max(b[2], top), wp.min(b[3], bottom)):
                y = scalar(row) + half
                hv = y * Tw - Tv
                dy = y - centre[1]
                for column in range(wp.max(b[0], left), wp.min(b[1], right)):
                    light = transmittance_out[row, column]
                    if light > min_transmittance:
                        x = scalar(column) + half
                        dx = x - centre[0]
                        near = sharpness * (dx * dx + dy * dy)
                        m = meet(wp.cross(x * Tw - Tu, hv), near)
                        rho = near
                        z = Tw[2]
                        if m[2] != zero:
                            rho = m[0] * m[0] + m[1] * m[1]
                            z = Tw[0] * m[0] + Tw[1] * m[1] + Tw[2]
                        if rho < cut:
                            alpha = wp.min(strength * (wp.exp(-half * rho) - edge), max_alpha)
                            weight = light * alpha
                            rest = light * (one - alpha)
                            features_out[row, column] = features_out[row, column] + weight * f
                            depth_out[row, column] = depth_out[row, column] + weight * z
                            if light > half and rest <= half:
                                median_out[row, column] = z
                            transmittance_out[row, column] = rest
                            if rest <= min_transmittance:
                                open -= 1
            k += wp.int64(1)

    @kernel
    def composite_adjoint(
        # constants
        width: int,
        height: int,
        first_tile: int,
        sharpness: scalar,
        # inputs
        transforms: wp.array(dtype=mat33),
        opacity: wp.array(dtype=scalar),
        features: wp.array(dtype=vecf),
        boxes: wp.array(dtype=wp.vec4i),
        start: wp.array(dtype=wp.int64),
        disc: wp.array(dtype=wp.int32),
        adj_features: wp.array2d(dtype=vecf),
        adj_alpha: wp.array2d(dtype=scalar),
        adj_depth: wp.array2d(dtype=scalar),
        # outputs
        rest_out: wp.array2d(dtype=scalar),  # starts at the sum over discs of cotangent times contribution
        transmittance_out: wp.array2d(dtype=scalar),  # starts at 1
        adj_transforms_out: wp.array(dtype=mat33),  # of each pair of a tile and a disc
        adj_opacity_out: wp.array(dtype=scalar),
        adj_disc_features_out: wp.array(dtype=vecf),
    ):
        tile = first_tile + wp.tid()
        tiles_x = (width + TILE - 1) // TILE
        left = (tile % tiles_x) * TILE
        top = (tile // tiles_x) * TILE
        right = wp.min(left + TILE, width)
        bottom = wp.min(top + TILE, height)
        open = (right - left) * (bottom - top)
        k = start[tile]
        while k < start[tile + 1] and open > 0:
            i = disc[k]
            M = transforms[i]
            Tu = vec3(M[0, 0], M[0, 1], M[0, 2])
            Tv = vec3(M[1, 0], M[1, 1], M[1, 2])
            Tw = vec3(M[2, 0], M[2, 1], M[2, 2])
            centre = vec2(Tu[2] / Tw[2], Tv[2] / Tw[2])
            strength = opacity[i] * gain
            f = features[i]
            b = boxes[i]
            gf = vecf()
            gu = vec3()
            gv = vec3()
            gw = vec3()
            go = scalar(0.0)
            for row in range(wp.max(b[2], top), wp.min(b[3], bottom)):
                y = scalar(row) + half
                hv = y * Tw - Tv
                dy = y - centre[1]
                for column in range(wp.max(b[0], left), wp.min(b[1], right)):
                    light = transmittance_out[row, column]
                    if light > min_transmittance:
                        x = scalar(column) + half
                        dx = x - centre[0]
                        hu = x * Tw - Tu
                        near = sharpness * (dx * dx + dy * dy)
                        m = meet(wp.cross(hu, hv), near)
                        tilted = m[2] != zero
                        rho = near
                        z = Tw[2]
                        if tilted:
                            rho = m[0] * m[0] + m[1] * m[1]
                            z = Tw[0] * m[0] + Tw[1] * m[1] + Tw[2]
                        if rho < cut:
                            bell = wp.exp(-half * rho)
                            free = strength * (bell - edge)
                            alpha = wp.min(free, max_alpha)
                            weight = light * alpha
                            cotangent = adj_features[row, column]
                            adj_z = adj_depth[row, column]
                            value = wp.dot(cotangent, f) + adj_z * z + adj_alpha[row, column]
                            rest = rest_out[row, column] - weight * value
                            rest_out[row, column] = rest
                            through = light * (one - alpha)
                            transmittance_out[row, column] = through
                            if through <= min_transmittance:
                                open -= 1

                            gf += weight * cotangent
                            gz = adj_z * weight
                            g_rho = zero
                            if free < max_alpha:
                                g_alpha = light * value - rest / (one - alpha)
                                go += g_alpha * gain * (bell - edge)
                                g_rho = -half * g_alpha * strength * bell
                            g = slopes(hu, hv, Tw, m, tilted, centre, x, y, g_rho, gz, sharpness)
                            gu += vec3(g[0, 0], g[0, 1], g[0, 2])
                            gv += vec3(g[1, 0], g[1, 1], g[1, 2])
                            gw += vec3(g[2, 0], g[2, 1], g[2, 2])
            adj_transforms_out[k] = mat33(gu[0], gu[1], gu[2], gv[0], gv[1], gv[2], gw[0], gw[1], gw[2])
            adj_opacity_out[k] = go
            adj_disc_features_out[k] = gf
            k += wp.int64(1)

    @kernel
    def average(
        # constants
        width: int,
        height: int,
        first_tile: int,
        sharpness: scalar,
        thickness: scalar,
        # inputs
        transforms: wp.array(dtype=mat33),
        opacity: wp.array(dtype=scalar),
        features: wp.array(dtype=vecf),
        boxes: wp.array(dtype=wp.vec4i),
        start: wp.array(dtype=wp.int64),
        disc: wp.array(dtype=wp.int32),
        front: wp.array2d(dtype=scalar),  # depth of the surface, 0 where there is none
        # outputs
        features_out: wp.array2d(dtype=vecf),  # sums with the weights of the discs on the surface
        weight_out: wp.array2d(dtype=scalar),
        depth_out: wp.array2d(dtype=scalar),
    ):
        tile = first_tile + wp.tid()
        tiles_x = (width + TILE - 1) // TILE
        left = (tile % tiles_x) * TILE
        top = (tile // tiles_x) * TILE
        right = wp.min(left + TILE, width)
        bottom = wp.min(top + TILE, height)
        for k in range(int(start[tile]), int(start[tile + 1])):
            i = disc[k]
            M = transforms[i]
            Tu = vec3(M[0, 0], M[0, 1], M[0, 2])
            Tv = vec3(M[1, 0], M[1, 1], M[1, 2])
            Tw = vec3(M[2, 0], M[2, 1], M[2, 2])
            centre = vec2(Tu[2] / Tw[2], Tv[2] / Tw[2])
            strength = opacity[i] * gain
            f = features[i]
            b = boxes[i]
            for row in range(wp.max(b[2], top), wp.min(b[3], bottom)):
                y = scalar(row) + half
                hv = y * Tw - Tv
                dy = y - centre[1]
                for column in range(wp.max(b[0], left), wp.min(b[1], right)):
                    surface = front[row, column]
                    if surface > zero:
                        x = scalar(column) + half
                        dx = x - centre[0]
                        near = sharpness * (dx * dx + dy * dy)
                        m = meet(wp.cross(x * Tw - Tu, hv), near)
                        rho = near
                        z = Tw[2]
                        if m[2] != zero:
                            rho = m[0] * m[0] + m[1] * m[1]
                            z = Tw[0] * m[0] + Tw[1] * m[1] + Tw[2]
                        if rho < cut and wp.abs(z - surface) < thickness:
                            weight = strength * (wp.exp(-half * rho) - edge)
                            features_out[row, column] = features_out[row, column] + weight * f
                            weight_out[row, column] = weight_out[row, column] + weight
                            depth_out[row, column] = depth_out[row, column] + weight * z

    @kernel
    def average_adjoint(
        # constants
        width: int,
        height: int,
        first_tile: int,
        sharpness: scalar,
        thickness: scalar,
        # inputs
        transforms: wp.array(dtype=mat33),
        opacity: wp.array(dtype=scalar),
        features: wp.array(dtype=vecf),
        boxes: wp.array(dtype=wp.vec4i),
        start: wp.array(dtype=wp.int64),
        disc: wp.array(dtype=wp.int32),
        front: wp.array2d(dtype=scalar),
        adj_features: wp.array2d(dtype=vecf),
        adj_weight: wp.array2d(dtype=scalar),
        adj_depth: wp.array2d(dtype=scalar),
        # outputs
        adj_transforms_out: wp.array(dtype=mat33),  # of each pair of a tile and a disc
        adj_opacity_out: wp.array(dtype=scalar),
        adj_disc_features_out: wp.array(dtype=vecf),
    ):
        tile = first_tile + wp.tid()
        tiles_x = (width + TILE - 1) // TILE
        left = (tile % tiles_x) * TILE
        top = (tile // tiles_x) * TILE
        right = wp.min(left + TILE, width)
        bottom = wp.min(top + TILE, height)
        for k in range(int(start[tile]), int(start[tile + 1])):
            i = disc[k]
            M = transforms[i]
            Tu = vec3(M[0, 0], M[0, 1], M[0, 2])
            Tv = vec3(M[1, 0], M[1, 1], M[1, 2])
            Tw = vec3(M[2, 0], M[2, 1], M[2, 2])
            centre = vec2(Tu[2] / Tw[2], Tv[2] / Tw[2])
            strength = opacity[i] * gain
            f = features[i]
            b = boxes[i]
            gf = vecf()
            gu = vec3()
            gv = vec3()
            gw = vec3()
            go = scalar(0.0)
            for row in range(wp.max(b[2], top), wp.min(b[3], bottom)):
                y = scalar(row) + half
                hv = y * Tw - Tv
                dy = y - centre[1]
                for column in range(wp.max(b[0], left), wp.min(b[1], right)):
                    surface = front[row, column]
                    if surface > zero:
                        x = scalar(column) + half
                        dx = x - centre[0]
                        hu = x * Tw - Tu
                        near = sharpness * (dx * dx + dy * dy)
                        m = meet(wp.cross(hu, hv), near)
                        tilted = m[2] != zero
                        rho = near
                        z = Tw[2]
                        if tilted:
                            rho = m[0] * m[0] + m[1] * m[1]
                            z = Tw[0] * m[0] + Tw[1] * m[1] + Tw[2]
                        if rho < cut and wp.abs(z - surface) < thickness:
                            bell = wp.exp(-half * rho)
                            weight = strength * (bell - edge)
                            cotangent = adj_features[row, column]
                            adj_z = adj_depth[row, column]
                            g_weight = wp.dot(cotangent, f) + adj_z * z + adj_weight[row, column]
                            gf += weight * cotangent
                            gz = adj_z * weight
                            go += g_weight * gain * (bell - edge)
                            g_rho = -half * g_weight * strength * bell
                            g = slopes(hu, hv, Tw, m, tilted, centre, x, y, g_rho, gz, sharpness)
                            gu += vec3(g[0, 0], g[0, 1], g[0, 2])
                            gv += vec3(g[1, 0], g[1, 1], g[1, 2])
                            gw += vec3(g[2, 0], g[2, 1], g[2, 2])
            adj_transforms_out[k] = mat33(gu[0], gu[1], gu[2], gv[0], gv[1], gv[2], gw[0], gw[1], gw[2])
            adj_opacity_out[k] = go
            adj_disc_features_out[k] = gf

    @kernel
    def add_pairs(
        # inputs
        disc: wp.array(dtype=wp.int32),
        adj_transforms: wp.array(dtype=mat33),  # of each pair of a tile and a disc
        adj_opacity: wp.array(dtype=scalar),
        adj_features: wp.array(dtype=vecf),
        # outputs
        adj_transforms_out: wp.array(dtype=mat33),  # of each disc, start at 0
        adj_opacity_out: wp.array(dtype=scalar),
        adj_features_out: wp.array(dtype=vecf),
    ):
        # one thread, so that the order is fixed
        for k in range(disc.shape[0]):
            i = disc[k]
            adj_transforms_out[i] = adj_transforms_out[i] + adj_transforms[k]
            adj_opacity_out[i] = adj_opacity_out[i] + adj_opacity[k]
            adj_features_out[i] = adj_features_out[i] + adj_features[k]

    return SimpleNamespace(
        composite=composite,
        composite_adjoint=composite_adjoint,
        average=average,
        average_adjoint=average_adjoint,
        add_pairs=add_pairs,
    )
