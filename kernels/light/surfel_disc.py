"""What the kernels of oriented Gaussian discs share: where a ray meets a disc, and the slopes of that.

A disc is a 3 x 3 matrix with rows T_u, T_v, T_w that takes its local coordinates (u, v, 1) to homogeneous pixel
coordinates (x z, y z, z). The ray of pixel (x, y) meets it at u = k_0/k_2, v = k_1/k_2 with k = h_u x h_v,
h_u = x T_w - T_u, h_v = y T_w - T_v (Huang et al. 2024, 2D Gaussian Splatting, eq. 8-10). Its weight there is

    w = (exp(-rho/2) - c) / (1 - c),  c = exp(-CUTOFF^2/2),  rho = min(u^2 + v^2, sharpness |pixel - centre|^2)

which falls to 0 continuously at rho = CUTOFF^2; the second term of rho keeps a disc at least
1/sqrt(sharpness) pixels wide, where its centre is ahead of the eye. Only what the ray meets ahead of the eye counts,
k . T_w / k_2 > 0: a floor reaches from below the camera to the horizon.

Units: pixel coordinates [pixel], depth z [m].
"""

import functools
import math
from types import SimpleNamespace

import warp as wp
from simengine.kernels.light.surfel_binning import TILE

CUTOFF = 3.0  # standard deviations at which a disc ends
AHEAD = 2  # discs between that which is drawn and that which is fetched from memory


@functools.cache
def functions(scalar: type, channels: int) -> SimpleNamespace:
    """Functions and constants for wp.float32 or wp.float64 and a number of feature channels."""
    module = wp.get_module(f"simengine.kernels.light.surfel_disc.{scalar.__name__}.{channels}")
    func = functools.partial(wp.func, module=module)

    vec2 = wp.types.vector(2, scalar)
    vec3 = wp.types.vector(3, scalar)
    mat33 = wp.types.matrix((3, 3), scalar)
    vecf = wp.types.vector(channels, scalar)
    zero, one, two = (wp.constant(scalar(value)) for value in (0.0, 1.0, 2.0))
    cut = wp.constant(scalar(CUTOFF**2))
    edge = wp.constant(scalar(math.exp(-(CUTOFF**2) / 2)))
    gain = wp.constant(scalar(1.0 / (1.0 - math.exp(-(CUTOFF**2) / 2))))
    # discs of a tile lie anywhere in memory: a processor that waits for each loses a tenth of its time
    prefetch_code = """
#if !defined(__CUDA_ARCH__)
    __builtin_prefetch(transforms.data + i);
    __builtin_prefetch((const char*)(transforms.data + i + 1) - 1);
    __builtin_prefetch(opacity.data + i);
    __builtin_prefetch(features.data + i);
    __builtin_prefetch(boxes.data + i);
#endif
"""

    @wp.func_native(prefetch_code)
    def prefetch(
        transforms: wp.array(dtype=mat33),
        opacity: wp.array(dtype=scalar),
        features: wp.array(dtype=vecf),
        boxes: wp.array(dtype=wp.vec4i),
        i: int,
    ): ...

    @func
    def clip(box: wp.vec4i, tile: int, width: int, height: int):
        # the part of a box (x0, x1, y0, y1) within a tile of the picture
        tiles_x = (width + TILE - 1) // TILE
        left = (tile % tiles_x) * TILE
        top = (tile // tiles_x) * TILE
        return wp.vec4i(
            wp.max(box[0], left),
            wp.min(box[1], wp.min(left + TILE, width)),
            wp.max(box[2], top),
            wp.min(box[3], wp.min(top + TILE, height)),
        )

    @func
    def blot(dx: scalar, dy: scalar, sharpness: scalar, depth: scalar):
        # rho of a pixel at (dx, dy) from the centre's by the least width; a centre behind the eye is in no pixel
        if depth > zero:
            return sharpness * (dx * dx + dy * dy)
        return cut

    @func
    def meet(k: vec3, Tw: vec3, near: scalar):
        # (u, v, k_2) where the ray meets the disc ahead of the eye, if that is nearer to its centre than rho = near
        # is; k_2 = 0 tells that it is not, as for a disc seen edge-on
        s = k[2] * k[2]
        if s > zero and k[0] * k[0] + k[1] * k[1] <= wp.min(near, cut) * s and wp.dot(k, Tw) * k[2] > zero:
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

    return SimpleNamespace(
        prefetch=prefetch, clip=clip, blot=blot, meet=meet, slopes=slopes, cut=cut, edge=edge, gain=gain
    )
