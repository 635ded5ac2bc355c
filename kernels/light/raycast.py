"""Ray casting of a painted triangle mesh under sun, sky and haze. Forward only, float32 (Warp's ray queries are).

Every sample follows one primary ray, a shadow ray to the sun, cosine-distributed sky rays with one bounce, and a mirror
ray weighted by Schlick's Fresnel term. Lengths in m, radiance in W/(m^2 sr) per channel up to a common scale.
"""

import warp as wp

# ruff: noqa: UP018, RUF046 - a Warp variable that a loop changes is declared by int() or float()

wp.set_module_options({"enable_backward": False})

NOTHING = wp.constant(0)
SURFACE = wp.constant(1)
GROUND = wp.constant(2)
OFFSET = wp.constant(1.0e-3)  # [m] where secondary rays start above a surface
PI = wp.constant(3.14159265358979)
WIDE = wp.constant(0.05)  # angle that a secondary ray stands for [rad]
GOLDEN = wp.constant(0.61803398875)


@wp.struct
class Environment:
    sun_direction: wp.vec3  # unit vector to the sun
    sun_irradiance: wp.vec3  # on a plane facing the sun
    sky_zenith: wp.vec3  # radiance overhead
    sky_horizon: wp.vec3  # radiance at the horizon
    haze: float  # extinction coefficient [1/m]
    airlight: wp.vec3  # radiance of an infinitely long way through haze
    ground: int  # whether there is a plane z = 0
    ground_dark: wp.vec3  # albedo
    ground_light: wp.vec3  # albedo
    ground_frequency: float  # of the pattern [1/m]
    road: float  # half width of the carriageway along x [m]; 0 for none
    lane: float  # y of its middle [m]
    asphalt: float  # albedo
    clouds: float  # share of the sky
    skyline: wp.vec3  # radiance of what stands at the horizon
    skyline_height: float  # sine of its largest elevation; 0 for none
    pixel: float  # angle of a pixel [rad], which filters the patterns of the ground


@wp.struct
class Surface:
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
def lattice(i: int, j: int):
    """A random number in [0, 1) of a lattice point."""
    h = wp.uint32(i) * wp.uint32(374761393) + wp.uint32(j) * wp.uint32(668265263)
    h = (h ^ (h >> wp.uint32(13))) * wp.uint32(1274126177)
    h = h ^ (h >> wp.uint32(16))
    return float(h & wp.uint32(16777215)) / 16777216.0


@wp.func
def noise(x: float, y: float):
    """Value noise in [0, 1]: smooth between random numbers at whole coordinates."""
    fx = x - wp.floor(x)
    fy = y - wp.floor(y)
    i = int(wp.floor(x))
    j = int(wp.floor(y))
    u = fx * fx * (3.0 - 2.0 * fx)
    v = fy * fy * (3.0 - 2.0 * fy)
    low = lattice(i, j) * (1.0 - u) + lattice(i + 1, j) * u
    high = lattice(i, j + 1) * (1.0 - u) + lattice(i + 1, j + 1) * u
    return low * (1.0 - v) + high * v


@wp.func
def sky(env: Environment, d: wp.vec3):
    if env.skyline_height > 0.0 and d[2] < env.skyline_height:
        azimuth = wp.atan2(d[1], d[0])
        top = 0.35 + 0.4 * noise(azimuth * 6.0, 3.5) + 0.25 * noise(azimuth * 25.0, 9.5)
        if d[2] < env.skyline_height * top:
            return env.skyline
    clear = wp.lerp(env.sky_horizon, env.sky_zenith, wp.sqrt(wp.max(d[2], 0.0)))
    if env.clouds <= 0.0 or d[2] <= 0.0:
        return clear
    x = 1.5 * d[0] / (d[2] + 0.15)
    y = 1.5 * d[1] / (d[2] + 0.15)
    depth = 0.55 * noise(x, y) + 0.3 * noise(2.1 * x + 7.0, 2.1 * y) + 0.15 * noise(4.3 * x, 4.3 * y + 11.0)
    cover = wp.clamp((depth - 1.0 + env.clouds) * 4.0 + 0.5, 0.0, 1.0)
    return wp.lerp(clear, env.sky_horizon * (1.5 - 0.6 * depth), cover)


@wp.func
def stripe(x: float, half: float, blur: float):
    """Share of an interval of length `blur` about x that lies in [-half, half]."""
    low = wp.max(x - 0.5 * blur, -half)
    high = wp.min(x + 0.5 * blur, half)
    return wp.max(high - low, 0.0) / blur


@wp.func
def grain(p: wp.vec3, frequency: float, blur: float):
    """Noise about 0 that fades where a pixel is larger than its cells."""
    f = frequency * blur
    return (noise(p[0] * frequency, p[1] * frequency) - 0.5) / (1.0 + 4.0 * f * f)


@wp.func
def ground_albedo(env: Environment, p: wp.vec3, d: wp.vec3, blur: float):
    """What the ray along `d` sees of the ground at `p`; `blur` is the width of its pixel there [m].

    A carriageway of asphalt with markings, between kerbs, pavements, and the pattern beyond.
    """
    lean = wp.max(wp.abs(d[2]), 0.02)
    flat = wp.max(wp.sqrt(d[0] * d[0] + d[1] * d[1]), 1.0e-6)
    across = wp.max(blur * (wp.abs(d[0]) + wp.abs(d[1]) / lean) / flat, 1.0e-3)
    along = wp.max(blur * (wp.abs(d[1]) + wp.abs(d[0]) / lean) / flat, 1.0e-3)
    wide = wp.max(across, along)
    f = env.ground_frequency
    mix = 0.5 + grain(p, f, wide) + 0.7 * grain(p, 4.1 * f, wide) + 0.5 * grain(p, 23.0 * f, wide)
    ground = wp.lerp(env.ground_dark, env.ground_light, wp.clamp(mix, 0.0, 1.0))
    if env.road <= 0.0:
        return ground
    q = p[1] - env.lane
    worn = 1.0 + 0.3 * grain(p, 0.6, wide) + 0.4 * grain(p, 9.0, wide) + 0.5 * grain(p, 45.0, wide)
    grey = env.asphalt * worn
    dash = p[0] - 6.0 * wp.floor(p[0] / 6.0) - 3.0
    mark = stripe(q, 0.06, across) * stripe(dash, 1.5, along)
    mark += stripe(wp.abs(q) - env.road + 0.3, 0.06, across)
    grey = grey + (0.55 - grey) * mark * (0.8 + 0.8 * grain(p, 9.0, wide))
    edge = wp.abs(q) - env.road
    joint = p[0] - wp.floor(p[0]) - 0.5
    slab = (0.30 + 0.06 * grain(p, 3.0, wide) + 0.10 * grain(p, 30.0, wide)) * (1.0 - 0.5 * stripe(joint, 0.01, along))
    on_road = stripe(q, env.road, across)
    on_kerb = stripe(edge - 0.08, 0.08, across)
    on_pavement = stripe(edge - 1.16, 1.0, across)
    rest = wp.max(1.0 - on_road - on_kerb - on_pavement, 0.0)
    paved = grey * on_road + 0.42 * on_kerb + slab * on_pavement
    return wp.vec3(paved, paved, 0.97 * paved) + ground * rest


@wp.func
def trace(surface: Surface, env: Environment, o: wp.vec3, d: wp.vec3):
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
    surface: Surface,
    env: Environment,
    texture: wp.array3d(dtype=float),
    scale: float,
    hit: Hit,
    d: wp.vec3,
    angle: float,
):
    """Albedo where a ray along `d`, as wide as `angle` [rad], meets something."""
    if hit.kind == GROUND:
        return ground_albedo(env, hit.position, d, angle * hit.t)
    material = surface.material[hit.face]
    if surface.painted[material] == 1:
        return paint(texture, scale, hit)
    return surface.albedo[material]


@wp.func
def sun_on(surface: Surface, env: Environment, p: wp.vec3, n: wp.vec3):
    """Irradiance of the sun at a point, zero in the shadow."""
    cosine = wp.dot(n, env.sun_direction)
    if cosine <= 0.0:
        return wp.vec3(0.0, 0.0, 0.0)
    query = wp.mesh_query_ray(surface.mesh, p, env.sun_direction, 1.0e6)
    if query.result:
        return wp.vec3(0.0, 0.0, 0.0)
    return env.sun_irradiance * cosine


@wp.func
def arriving(
    surface: Surface, env: Environment, texture: wp.array3d(dtype=float), scale: float, o: wp.vec3, d: wp.vec3
):
    """Radiance along a secondary ray: the sky, or a diffuse surface in sun and open sky."""
    hit = trace(surface, env, o, d)
    if hit.kind == NOTHING:
        return sky(env, d)
    rho = albedo_at(surface, env, texture, scale, hit, d, WIDE)
    start = hit.position + hit.geometric * OFFSET
    light = sun_on(surface, env, start, hit.normal) / PI + 0.5 * (env.sky_zenith + env.sky_horizon) * (
        0.5 + 0.5 * hit.normal[2]
    )
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


@wp.kernel
def raycast(
    # constants
    surface: Surface,
    env: Environment,
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
        sun = sun_on(surface, env, start, n)
        diffuse = sun / PI  # what an albedo of 1 sends to the eye
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
