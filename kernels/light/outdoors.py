"""What is outdoors around a ray-cast object: the sky, clouds, the skyline, lamps, a road with its ground, dry or wet.

Lengths in m, radiance in W/(m^2 sr) per channel up to a common scale.
"""

import warp as wp

wp.set_module_options({"enable_backward": False})

DAMP = wp.constant(0.05)  # mean depth of water that fills the pores of the ground [mm]
RELIEF = wp.constant(2.0)  # height of the unevenness of the ground that water fills from below [mm]
SHORE = wp.constant(0.3)  # depth over which a puddle's edge goes from dry to level [mm]
ENTERS = wp.constant(
    0.066
)  # diffuse reflectance of water (n = 1.33) from outside, Fresnel averaged over the hemisphere
INSIDE = wp.constant(0.472)  # and from inside: 1 - (1 - ENTERS)/n^2


PI = wp.constant(3.14159265358979)


@wp.struct
class Outdoors:
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
    water: float  # mean depth of the water on the ground [mm]; 0 where it is dry
    lamps: int
    lamp_position: wp.array(dtype=wp.vec3)  # (lamps,)
    lamp_axis: wp.array(dtype=wp.vec3)  # unit vectors along which they shine most
    lamp_intensity: wp.array(dtype=wp.vec3)  # along the axis
    lamp_spread: wp.array(dtype=float)  # the intensity falls with cos^spread of the angle to the axis
    panorama: wp.array2d(
        dtype=wp.vec3
    )  # radiance of all directions, in place of sky, clouds and skyline; (0, 0) for none
    panorama_azimuth: float  # of its middle column [rad]
    pixel: float  # angle of a pixel [rad], which filters the patterns of the ground


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
def panorama(env: Outdoors, d: wp.vec3):
    """Radiance along `d`: row 0 is up, the right half of the picture lies clockwise of its middle, seen from above."""
    rows = env.panorama.shape[0]
    columns = env.panorama.shape[1]
    turn = 0.5 - (wp.atan2(d[1], d[0]) - env.panorama_azimuth) / (2.0 * PI)
    x = (turn - wp.floor(turn)) * float(columns) - 0.5
    y = wp.clamp(wp.acos(wp.clamp(d[2], -1.0, 1.0)) / PI * float(rows) - 0.5, 0.0, float(rows - 1))
    fx = x - wp.floor(x)
    fy = y - wp.floor(y)
    x0 = (int(wp.floor(x)) + columns) % columns
    x1 = (x0 + 1) % columns
    y0 = int(wp.floor(y))
    y1 = wp.min(y0 + 1, rows - 1)
    top = env.panorama[y0, x0] * (1.0 - fx) + env.panorama[y0, x1] * fx
    bottom = env.panorama[y1, x0] * (1.0 - fx) + env.panorama[y1, x1] * fx
    return top * (1.0 - fy) + bottom * fy


@wp.func
def sky(env: Outdoors, d: wp.vec3):
    if env.panorama.shape[0] > 0:
        return panorama(env, d)
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
def ground_albedo(env: Outdoors, p: wp.vec3, d: wp.vec3, blur: float):
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
def soaked(rho: wp.vec3, water: float):
    """Albedo under a film of water, from which light comes out only in part (Angstrom 1925, Lekner and Dorf 1988)."""
    share = 1.0 - wp.exp(-water / DAMP)
    wet = wp.vec3(0.0, 0.0, 0.0)
    for k in range(3):
        wet[k] = rho[k] * (1.0 - ENTERS) * (1.0 - INSIDE) / (1.0 - INSIDE * rho[k])
    return wp.lerp(rho, wet, share)


@wp.func
def flooded(env: Outdoors, p: wp.vec3):
    """Share of the ground about `p` that stands under a level sheet of water."""
    if env.water <= 0.0:
        return 0.0
    height = RELIEF * (0.65 * noise(p[0] * 0.9 + 31.0, p[1] * 0.9) + 0.35 * noise(p[0] * 3.7, p[1] * 3.7 + 17.0))
    return wp.clamp((env.water - height) / SHORE + 0.5, 0.0, 1.0)


@wp.func
def lamp_on(env: Outdoors, k: int, p: wp.vec3):
    """Irradiance of a lamp on a plane at `p` that faces it, without shadows."""
    away = p - env.lamp_position[k]
    r = wp.max(wp.length(away), 1.0e-3)
    cosine = wp.max(wp.dot(away, env.lamp_axis[k]) / r, 0.0)
    return env.lamp_intensity[k] * (wp.pow(cosine, env.lamp_spread[k]) / (r * r))
