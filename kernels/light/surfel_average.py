"""Kernels that sum the discs (`surfel_disc.py`) near a surface with their weights, tile by tile, and their adjoint."""

import functools
from types import SimpleNamespace

import warp as wp
from simengine.kernels.light import surfel_disc
from simengine.kernels.light.surfel_disc import AHEAD


@functools.cache
def kernels(scalar: type, channels: int) -> SimpleNamespace:
    """The kernels for wp.float32 or wp.float64 and a number of feature channels."""
    module = wp.get_module(f"simengine.kernels.light.surfel_average.{scalar.__name__}.{channels}")
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
    zero, half = wp.constant(scalar(0.0)), wp.constant(scalar(0.5))

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
        for k in range(int(start[tile]), int(start[tile + 1])):
            i = disc[k]
            prefetch(transforms, opacity, features, boxes, disc[wp.min(k + AHEAD, int(start[tile + 1]) - 1)])
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
                    surface = front[row, column]
                    if surface > zero:
                        x = scalar(column) + half
                        dx = x - centre[0]
                        near = blot(dx, dy, sharpness, Tw[2])
                        m = meet(wp.cross(x * Tw - Tu, hv), Tw, near)
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
        for k in range(int(start[tile]), int(start[tile + 1])):
            i = disc[k]
            prefetch(transforms, opacity, features, boxes, disc[wp.min(k + AHEAD, int(start[tile + 1]) - 1)])
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
                    surface = front[row, column]
                    if surface > zero:
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

    return SimpleNamespace(average=average, average_adjoint=average_adjoint)
