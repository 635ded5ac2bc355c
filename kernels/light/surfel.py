"""Kernels that composite oriented Gaussian discs (`surfel_disc.py`) front to back, tile by tile, and their adjoint.

A thread owns a tile and walks through its discs, nearest first. The backward pass walks the same way, holding the sum
of what has been composited so far, so that nothing but the pictures is stored; it writes one row of gradients for each
pair of a tile and a disc, so that there are no atomics and the bits repeat. Adjoints are written by hand.
"""

import functools
from types import SimpleNamespace

import warp as wp
from simengine.kernels.light import surfel_disc
from simengine.kernels.light.surfel_disc import AHEAD

CUTOFF = surfel_disc.CUTOFF
MAX_ALPHA = 0.999  # so that the light behind can be recovered by division in the backward pass
MIN_TRANSMITTANCE = 1e-4  # a pixel that lets less through is finished


@functools.cache
def kernels(scalar: type, channels: int) -> SimpleNamespace:
    """The kernels for wp.float32 or wp.float64 and a number of feature channels."""
    module = wp.get_module(f"simengine.kernels.light.surfel.{scalar.__name__}.{channels}")
    module.options.update(enable_backward=False, max_unroll=16)
    kernel = functools.partial(wp.kernel, module=module, enable_backward=False)

    vec2 = wp.types.vector(2, scalar)
    vec3 = wp.types.vector(3, scalar)
    mat33 = wp.types.matrix((3, 3), scalar)
    vecf = wp.types.vector(channels, scalar)
    disc_functions = surfel_disc.functions(scalar, channels)
    prefetch, clip, slopes = disc_functions.prefetch, disc_functions.clip, disc_functions.slopes
    blot, meet = disc_functions.blot, disc_functions.meet
    cut, edge, gain = disc_functions.cut, disc_functions.edge, disc_functions.gain
    zero, half, one = (wp.constant(scalar(value)) for value in (0.0, 0.5, 1.0))
    max_alpha = wp.constant(scalar(MAX_ALPHA))
    min_transmittance = wp.constant(scalar(MIN_TRANSMITTANCE))

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
        area = clip(wp.vec4i(0, width, 0, height), tile, width, height)
        open = (area[1] - area[0]) * (area[3] - area[2])
        k = start[tile]
        while k < start[tile + 1] and open > 0:
            i = disc[k]
            prefetch(
                transforms, opacity, features, boxes, disc[wp.min(k + wp.int64(AHEAD), start[tile + 1] - wp.int64(1))]
            )
            M = transforms[i]
            Tu = vec3(M[0, 0], M[0, 1], M[0, 2])
            Tv = vec3(M[1, 0], M[1, 1], M[1, 2])
            Tw = vec3(M[2, 0], M[2, 1], M[2, 2])
            centre = vec2(Tu[2] / Tw[2], Tv[2] / Tw[2])
            strength = opacity[i] * gain
            f = features[i]
            b = clip(boxes[i], tile, width, height)
            for row in range(b[2], b[3]):
                y = scalar(row) + half
                hv = y * Tw - Tv
                dy = y - centre[1]
                for column in range(b[0], b[1]):
                    light = transmittance_out[row, column]
                    if light > min_transmittance:
                        x = scalar(column) + half
                        dx = x - centre[0]
                        near = blot(dx, dy, sharpness, Tw[2])
                        m = meet(wp.cross(x * Tw - Tu, hv), Tw, near)
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
        area = clip(wp.vec4i(0, width, 0, height), tile, width, height)
        open = (area[1] - area[0]) * (area[3] - area[2])
        k = start[tile]
        while k < start[tile + 1] and open > 0:
            i = disc[k]
            prefetch(
                transforms, opacity, features, boxes, disc[wp.min(k + wp.int64(AHEAD), start[tile + 1] - wp.int64(1))]
            )
            M = transforms[i]
            Tu = vec3(M[0, 0], M[0, 1], M[0, 2])
            Tv = vec3(M[1, 0], M[1, 1], M[1, 2])
            Tw = vec3(M[2, 0], M[2, 1], M[2, 2])
            centre = vec2(Tu[2] / Tw[2], Tv[2] / Tw[2])
            strength = opacity[i] * gain
            f = features[i]
            b = clip(boxes[i], tile, width, height)
            gf = vecf()
            gu = vec3()
            gv = vec3()
            gw = vec3()
            go = scalar(0.0)
            for row in range(b[2], b[3]):
                y = scalar(row) + half
                hv = y * Tw - Tv
                dy = y - centre[1]
                for column in range(b[0], b[1]):
                    light = transmittance_out[row, column]
                    if light > min_transmittance:
                        x = scalar(column) + half
                        dx = x - centre[0]
                        hu = x * Tw - Tu
                        near = blot(dx, dy, sharpness, Tw[2])
                        m = meet(wp.cross(hu, hv), Tw, near)
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

    return SimpleNamespace(composite=composite, composite_adjoint=composite_adjoint, add_pairs=add_pairs)
