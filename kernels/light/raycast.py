"""Ray casting of a painted triangle mesh under sun, sky, lamps and haze; float32, as Warp's ray queries, forward only.

Every sample follows one primary ray, a shadow ray to the sun, cosine-distributed sky rays with one bounce, and a mirror
ray weighted by Schlick's Fresnel term. Lengths in m, radiance in W/(m^2 sr) per channel up to a common scale.
"""

import warp as wp
from simengine.kernels.light.outdoors import Outdoors, flooded, ground_albedo, lamp_on, sky, soaked

# ruff: noqa: UP018, RUF046 - a Warp variable that a loop changes is declared by int() or float()

wp.set_module_options({"enable_backward": False})

NOTHING = wp.constant(0)
SURFACE = wp.constant(1)
GROUND = wp.constant(2)
OFFSET = wp.constant(1.0e-3)  # [m] where secondary rays start above a surface
PI = wp.constant(3.14159265358979)
WATER = wp.constant(0.02)  # reflectance of a sheet of water at normal incidence, ((n - 1)/(n + 1))^2
RIPPLE = wp.constant(0.12)  # its roughness
WIDE = wp.constant(0.05)  # angle that a secondary ray stands for [rad]
GOLDEN = wp.constant(0.61803398875)


@wp.struct
class SurfaceData:
    mesh: wp.uint64
    corner_normals: wp.array2d(dtype=wp.vec3)  # (faces, 3)
    corner_uv: wp.array2d(dtype=wp.vec2)  # (faces, 3)
    uv_scale: wp.array(dtype=float)  # uv per m, (faces,)
    material: wp.array(dtype=int)  # (faces,)
    albedo: wp.array(dtype=wp.vec3)  # (materials,)
    roughness: wp.array(dtype=float)
    reflectance: wp.array(dtype=float)  # at normal incidence
    painted: wp.array(dtype=int)
    part: wp.array(dtype=int)  # whether it belongs to the object
    instance: wp.array(dtype=int)  # number of the labelled object that it belongs to; 0 for none


@wp.struct
class Hit:
    kind: int
    t: float
    position: wp.vec3
    geometric: wp.vec3
    normal: wp.vec3
    uv: wp.vec2
    face: int


@wp.func
def trace(surface: SurfaceData, env: Outdoors, o: wp.vec3, d: wp.vec3):
    hit = Hit()
    hit.kind = NOTHING
    hit.t = 1.0e6
    query = wp.mesh_query_ray(surface.mesh, o, d, 1.0e6)
    if query.result:
        face = query.face
        a = query.u
        b = query.v
        c = 1.0 - a - b
        g = query.normal
        n = wp.normalize(
            surface.corner_normals[face, 0] * a
            + surface.corner_normals[face, 1] * b
            + surface.corner_normals[face, 2] * c
        )
        if wp.dot(g, d) > 0.0:  # both sides are seen
            g = -g
            n = -n
        if wp.dot(n, d) > 0.0:  # a smoothed normal that looks away from the viewer
            n = g
        hit.kind = SURFACE
        hit.t = query.t
        hit.position = o + d * query.t
        hit.geometric = g
        hit.normal = n
        hit.uv = surface.corner_uv[face, 0] * a + surface.corner_uv[face, 1] * b + surface.corner_uv[face, 2] * c
        hit.face = face
    if env.ground == 1 and d[2] < 0.0:
        t = -o[2] / d[2]
        if t > 0.0 and t < hit.t:
            hit.kind = GROUND
            hit.t = t
            hit.position = o + d * t
            hit.geometric = wp.vec3(0.0, 0.0, 1.0)
            hit.normal = wp.vec3(0.0, 0.0, 1.0)
            hit.uv = wp.vec2(0.0, 0.0)
            hit.face = -1
    return hit


@wp.func
def bilinear(texture: wp.array3d(dtype=float), u: float, v: float):
    """A texture that repeats with period 1; texel centres at (i + 1/2)/n, row 0 at v = 0."""
    rows = texture.shape[0]
    columns = texture.shape[1]
    x = (u - wp.floor(u)) * float(columns) - 0.5
    y = (v - wp.floor(v)) * float(rows) - 0.5
    fx = x - wp.floor(x)
    fy = y - wp.floor(y)
    x0 = (int(wp.floor(x)) + columns) % columns
    y0 = (int(wp.floor(y)) + rows) % rows
    x1 = (x0 + 1) % columns
    y1 = (y0 + 1) % rows
    colour = wp.vec3(0.0, 0.0, 0.0)
    for k in range(3):
        top = texture[y0, x0, k] * (1.0 - fx) + texture[y0, x1, k] * fx
        bottom = texture[y1, x0, k] * (1.0 - fx) + texture[y1, x1, k] * fx
        colour[k] = top * (1.0 - fy) + bottom * fy
    return colour


@wp.func
def paint(texture: wp.array3d(dtype=float), scale: float, hit: Hit):
    """Colour of the paint: by uv for scale = 0, else triplanar with `scale` repetitions per m."""
    if scale == 0.0:
        return bilinear(texture, hit.uv[0], hit.uv[1])
    n = hit.normal
    w = wp.vec3(n[0] * n[0] * n[0] * n[0], n[1] * n[1] * n[1] * n[1], n[2] * n[2] * n[2] * n[2])
    w = w / (w[0] + w[1] + w[2])
    p = hit.position * scale
    return (
        bilinear(texture, p[1], p[2]) * w[0]
        + bilinear(texture, p[0], p[2]) * w[1]
        + bilinear(texture, p[0], p[1]) * w[2]
    )


@wp.func
def albedo_at(
    surface: SurfaceData,
    env: Outdoors,
    texture: wp.array3d(dtype=float),
    scale: float,
    hit: Hit,
    d: wp.vec3,
    angle: float,
):
    """Albedo where a ray along `d`, as wide as `angle` [rad], meets something."""
    if hit.kind == GROUND:
        rho = ground_albedo(env, hit.position, d, angle * hit.t)
        if env.water > 0.0:
            return soaked(rho, env.water)
        return rho
    material = surface.material[hit.face]
    if surface.painted[material] == 1:
        return paint(texture, scale, hit)
    return surface.albedo[material]


@wp.func
def sun_on(surface: SurfaceData, env: Outdoors, p: wp.vec3, n: wp.vec3):
    """Irradiance of the sun at a point, zero in the shadow."""
    cosine = wp.dot(n, env.sun_direction)
    if cosine <= 0.0 or wp.length_sq(env.sun_irradiance) == 0.0:
        return wp.vec3(0.0, 0.0, 0.0)
    if wp.mesh_query_ray_anyhit(surface.mesh, p, env.sun_direction, 1.0e6):
        return wp.vec3(0.0, 0.0, 0.0)
    return env.sun_irradiance * cosine


@wp.func
def lit(surface: SurfaceData, env: Outdoors, k: int, p: wp.vec3):
    """Whether nothing stands between a point and a lamp."""
    way = env.lamp_position[k] - p
    r = wp.length(way)
    return not wp.mesh_query_ray_anyhit(surface.mesh, p, way / r, r)


@wp.func
def lamps_on(surface: SurfaceData, env: Outdoors, p: wp.vec3, n: wp.vec3):
    """Irradiance of the lamps at a point."""
    total = wp.vec3(0.0, 0.0, 0.0)
    for k in range(env.lamps):
        cosine = wp.dot(n, wp.normalize(env.lamp_position[k] - p))
        if cosine > 0.0 and lit(surface, env, k, p):
            total += lamp_on(env, k, p) * cosine
    return total


@wp.func
def arriving(
    surface: SurfaceData, env: Outdoors, texture: wp.array3d(dtype=float), scale: float, o: wp.vec3, d: wp.vec3
):
    """Radiance along a secondary ray: the sky, or a diffuse surface in sun, lamps and open sky."""
    hit = trace(surface, env, o, d)
    if hit.kind == NOTHING:
        return sky(env, d)
    rho = albedo_at(surface, env, texture, scale, hit, d, WIDE)
    start = hit.position + hit.geometric * OFFSET
    light = (sun_on(surface, env, start, hit.normal) + lamps_on(surface, env, start, hit.normal)) / PI
    light += 0.5 * (env.sky_zenith + env.sky_horizon) * (0.5 + 0.5 * hit.normal[2])
    return wp.cw_mul(rho, light)


@wp.func
def fresnel(f0: float, cosine: float):
    """Schlick's approximation; below 2 % reflectance the grazing value falls with it, to 0 for a matt surface."""
    f90 = wp.min(1.0, 50.0 * f0)
    return f0 + (f90 - f0) * wp.pow(1.0 - cosine, 5.0)


@wp.func
def ggx(n: wp.vec3, v: wp.vec3, l: wp.vec3, roughness: float, f0: float):
    """D G F / (4 n.l n.v), alpha = roughness^2, G of Smith (separable)."""
    nl = wp.max(wp.dot(n, l), 1.0e-4)
    nv = wp.max(wp.dot(n, v), 1.0e-4)
    h = wp.normalize(v + l)
    nh = wp.dot(n, h)
    alpha = roughness * roughness
    a2 = alpha * alpha
    q = nh * nh * (a2 - 1.0) + 1.0
    gl = 2.0 * nl / (nl + wp.sqrt(a2 + (1.0 - a2) * nl * nl))
    gv = 2.0 * nv / (nv + wp.sqrt(a2 + (1.0 - a2) * nv * nv))
    return a2 / (PI * q * q) * gl * gv * fresnel(f0, wp.max(wp.dot(l, h), 0.0)) / (4.0 * nl * nv)


@wp.func
def glints(surface: SurfaceData, env: Outdoors, p: wp.vec3, n: wp.vec3, v: wp.vec3, roughness: float, f0: float):
    """Radiance of the lamps by way of the coat."""
    total = wp.vec3(0.0, 0.0, 0.0)
    for k in range(env.lamps):
        to_lamp = wp.normalize(env.lamp_position[k] - p)
        cosine = wp.dot(n, to_lamp)
        if cosine > 0.0 and lit(surface, env, k, p):
            total += lamp_on(env, k, p) * (cosine * ggx(n, v, to_lamp, roughness, f0))
    return total


@wp.kernel
def raycast(
    # constants
    surface: SurfaceData,
    env: Outdoors,
    origin: wp.vec3,
    rotation: wp.mat33,  # camera to world; x right, y down, z forward
    intrinsics: wp.vec4,  # fx, fy, cx, cy [pixels]
    samples: int,  # per pixel and axis
    sky_rays: int,  # per sample
    texture_scale: float,
    # inputs
    texture: wp.array3d(dtype=float),  # linear albedo of the paint, (rows, columns, 3)
    jitter: wp.array2d(dtype=wp.vec2),  # in [0, 1), (h, w): offsets of the sky rays
    # outputs
    gain_out: wp.array2d(dtype=wp.vec3),
    offset_out: wp.array2d(dtype=wp.vec3),
    radiance_out: wp.array2d(dtype=wp.vec3),
    coverage_out: wp.array2d(dtype=wp.vec2),  # paint, object
    normal_out: wp.array2d(dtype=wp.vec3),
    position_out: wp.array2d(dtype=wp.vec3),
    uv_out: wp.array2d(dtype=wp.vec2),
    footprint_out: wp.array2d(dtype=wp.vec2),  # of a pixel, in m and in uv
    depth_out: wp.array2d(dtype=float),
    instance_out: wp.array3d(dtype=int),  # of each sample, (h, w, samples^2)
):
    i, j = wp.tid()
    gain = wp.vec3(0.0, 0.0, 0.0)
    offset = wp.vec3(0.0, 0.0, 0.0)
    radiance = wp.vec3(0.0, 0.0, 0.0)
    coverage = wp.vec2(0.0, 0.0)
    rank = int(-1)  # of what the geometry shows: sky -1, ground 0, surface 1, object 2, paint 3
    count = samples * samples
    share = 1.0 / float(count)
    for s in range(count):
        px = float(j) + (float(s % samples) + 0.5) / float(samples)
        py = float(i) + (float(s // samples) + 0.5) / float(samples)
        d = rotation * wp.vec3((px - intrinsics[2]) / intrinsics[0], (py - intrinsics[3]) / intrinsics[1], 1.0)
        stretch = wp.length(d)
        d = d / stretch
        hit = trace(surface, env, origin, d)
        if hit.kind == NOTHING:
            seen = sky(env, d)
            if env.haze > 0.0:
                seen = env.airlight
            offset += seen * share
            radiance += seen * share
            continue
        n = hit.normal
        v = -d
        start = hit.position + hit.geometric * OFFSET
        f0 = float(0.0)
        roughness = float(1.0)
        painted = int(0)
        part = int(0)
        if hit.kind == SURFACE:
            material = surface.material[hit.face]
            f0 = surface.reflectance[material]
            roughness = surface.roughness[material]
            painted = surface.painted[material]
            part = surface.part[material]
            instance_out[i, j, s] = surface.instance[material]
        elif env.water > 0.0:
            f0 = WATER * flooded(env, hit.position)
            roughness = RIPPLE
        sun = sun_on(surface, env, start, n)
        diffuse = (sun + lamps_on(surface, env, start, n)) / PI  # what an albedo of 1 sends to the eye
        tangent = wp.normalize(wp.cross(n, wp.vec3(0.0, 1.0, 0.0)))
        if wp.abs(n[1]) > 0.9:
            tangent = wp.normalize(wp.cross(n, wp.vec3(1.0, 0.0, 0.0)))
        bitangent = wp.cross(n, tangent)
        shift = jitter[i, j] + wp.vec2(float(s) * GOLDEN, float(s) * share)
        for k in range(sky_rays):  # cosine distribution: radius sqrt(u), angle 2 pi w
            u = (float(k) + shift[1] - wp.floor(shift[1])) / float(sky_rays)
            w = 2.0 * PI * (float(k) * GOLDEN + shift[0])
            r = wp.sqrt(u)
            to_sky = tangent * (r * wp.cos(w)) + bitangent * (r * wp.sin(w)) + n * wp.sqrt(wp.max(1.0 - u, 0.0))
            if wp.dot(to_sky, hit.geometric) > 0.0:
                diffuse += arriving(surface, env, texture, texture_scale, start, to_sky) / float(sky_rays)
        diffuse = diffuse * (1.0 - f0)
        gloss = wp.vec3(0.0, 0.0, 0.0)
        if f0 > 0.0:
            gloss = sun * ggx(n, v, env.sun_direction, roughness, f0)
            gloss += glints(surface, env, start, n, v, roughness, f0)
            mirror = d - n * (2.0 * wp.dot(d, n))
            if wp.dot(mirror, hit.geometric) > 0.0:
                gloss += arriving(surface, env, texture, texture_scale, start, mirror) * fresnel(
                    f0, wp.max(wp.dot(n, v), 0.0)
                )
        through = wp.exp(-env.haze * hit.t)  # transmittance of the haze
        air = env.airlight * (1.0 - through)
        rho = albedo_at(surface, env, texture, texture_scale, hit, d, env.pixel)
        if painted == 1:
            gain += diffuse * (through * share)
            offset += (gloss * through + air) * share
            coverage[0] = coverage[0] + share
        else:
            offset += ((wp.cw_mul(rho, diffuse) + gloss) * through + air) * share
        if part == 1:
            coverage[1] = coverage[1] + share
        radiance += ((wp.cw_mul(rho, diffuse) + gloss) * through + air) * share
        this = int(0)
        if hit.kind == SURFACE:
            this = 1 + part + part * painted
        if this > rank:
            rank = this
            # solid angle of a pixel 1/(fx fy stretch^3), area on the surface t^2/cos of it
            cosine = wp.max(wp.dot(hit.geometric, v), 0.05)
            size = hit.t / wp.sqrt(intrinsics[0] * intrinsics[1] * stretch * stretch * stretch * cosine)
            footprint = wp.vec2(size, 0.0)
            if hit.kind == SURFACE:
                footprint[1] = size * surface.uv_scale[hit.face]
            normal_out[i, j] = n
            position_out[i, j] = hit.position
            uv_out[i, j] = hit.uv
            footprint_out[i, j] = footprint
            depth_out[i, j] = hit.t / stretch
    gain_out[i, j] = gain
    offset_out[i, j] = offset
    radiance_out[i, j] = radiance
    coverage_out[i, j] = coverage
