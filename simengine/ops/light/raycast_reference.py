"""The ray caster in plain torch, float64, every ray against every triangle. Same signature as `ops.raycast.raycast`."""

import math
from functools import partial

import torch

from simengine.ops.light.ray_scene import Environment, RaySurface
from simengine.ops.light.raycast import RayBuffers, check_arguments, sky_jitter

OFFSET = 1e-3
GOLDEN = 0.61803398875
WIDE = 0.05
WATER, RIPPLE = 0.02, 0.12
DAMP, RELIEF, SHORE = 0.05, 2.0, 0.3  # [mm]
ENTERS, INSIDE = 0.066, 0.472


class _Hits:
    """First intersections of rays (n, 3): t (n,), material (n,), ground (n,), positions, normals, uv."""

    def __init__(self, surface: RaySurface, env: Environment, o: torch.Tensor, d: torch.Tensor) -> None:
        # Moeller and Trumbore (1997): solve o + t d = a + u (b - a) + v (c - a)
        a, b, c = surface.triangles.double().unbind(1)
        e, f = b - a, c - a
        p = torch.linalg.cross(d[:, None], f[None])
        det = (p * e).sum(-1)
        det = torch.where(det.abs() < 1e-14, torch.full_like(det, 1e-300), det)
        s = o[:, None] - a[None]
        u = (s * p).sum(-1) / det
        q = torch.linalg.cross(s, e[None].expand_as(s))
        v = (d[:, None] * q).sum(-1) / det
        t = (f * q).sum(-1) / det
        inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
        self.t, self.face = torch.where(inside, t, math.inf).min(1)
        self.surface = torch.isfinite(self.t)
        pick = self.face[:, None]
        u, v = u.gather(1, pick), v.gather(1, pick)
        weights = torch.cat([1 - u - v, u, v], 1)[..., None]
        self.uv = (surface.uv.double()[self.face] * weights).sum(1)
        g = torch.nn.functional.normalize(torch.linalg.cross(e, f), dim=-1)[self.face]
        n = torch.nn.functional.normalize((surface.normals.double()[self.face] * weights).sum(1), dim=-1)
        flip = torch.where((g * d).sum(-1, keepdim=True) > 0, -1.0, 1.0)
        g, n = g * flip, n * flip
        n = torch.where((n * d).sum(-1, keepdim=True) > 0, g, n)
        t_ground = torch.where(d[:, 2] < 0, -o[:, 2] / d[:, 2], torch.full_like(self.t, math.inf))
        self.ground = (t_ground > 0) & (t_ground < self.t) if env.ground else torch.zeros_like(self.surface)
        self.t = torch.where(self.ground, t_ground, self.t)
        self.surface &= ~self.ground
        up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(g)
        self.geometric = torch.where(self.ground[:, None], up, g)
        self.normal = torch.where(self.ground[:, None], up, n)
        self.hit = self.surface | self.ground
        self.position = o + d * torch.where(self.hit, self.t, torch.zeros_like(self.t))[:, None]
        self.material = surface.material.long()[self.face]


def raycast_reference(
    surface: RaySurface,
    environment: Environment,
    world_to_camera: torch.Tensor,
    intrinsics: torch.Tensor,
    size: tuple[int, int],
    *,
    samples: int = 2,
    sky_rays: int = 4,
    paint: torch.Tensor | None = None,
    repetitions_per_metre: float = 0.0,
    seed: int = 0,
) -> RayBuffers:
    """See `simengine.ops.light.raycast.raycast`. Memory grows with rays times triangles: for small pictures."""
    check_arguments(world_to_camera, intrinsics, size, samples, sky_rays)
    env, (h, w) = environment, size
    texture = (torch.full((1, 1, 3), 0.5) if paint is None else paint).double()
    rotation = world_to_camera[:3, :3].double().T
    eye = -rotation @ world_to_camera[:3, 3].double()
    fx, fy, cx, cy = intrinsics.double()

    def vector(value: tuple[float, float, float]) -> torch.Tensor:
        return torch.tensor(value, dtype=torch.float64)

    sun, irradiance, zenith, horizon = map(vector, (env.to_sun, env.sun_irradiance, env.sky_zenith, env.sky_horizon))
    sky = partial(sky_radiance, env)

    def albedo(hits: _Hits, d: torch.Tensor, angle: float) -> torch.Tensor:
        ground = _soaked(ground_albedo(env, hits.position, d, angle * hits.t), env.water)
        painted = surface.painted.bool()[hits.material][:, None]
        own = torch.where(painted, _paint(texture, repetitions_per_metre, hits), surface.albedo.double()[hits.material])
        return torch.where(hits.ground[:, None], ground, own)

    def sun_on(p: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        blocked = _Hits(surface, Environment(ground=False), p, sun.expand_as(p)).surface
        return irradiance * ((n @ sun).clamp(min=0) * ~blocked)[:, None]

    lamp_position, lamp_axis, lamp_intensity, lamp_spread = env.lamp_tensors()

    def lamps_on(p: torch.Tensor, n: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Of each lamp the unit vectors to it, and its irradiance, (n, 3)."""
        found = []
        for k in range(len(env.lamps)):
            way = lamp_position[k] - p
            r = way.norm(dim=-1)
            towards = way / r[:, None]
            blocked = _Hits(surface, Environment(ground=False), p, towards).t < r
            falls = (-towards @ lamp_axis[k]).clamp(min=0) ** lamp_spread[k] / r**2
            share = falls * (n * towards).sum(-1).clamp(min=0) * ~blocked
            found.append((towards, share[:, None] * lamp_intensity[k]))
        return found

    def arriving(o: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        hits = _Hits(surface, env, o, d)
        above = hits.position + hits.geometric * OFFSET
        light = sun_on(above, hits.normal) + sum(e for _, e in lamps_on(above, hits.normal))
        light = light / math.pi + 0.5 * (zenith + horizon) * (0.5 + 0.5 * hits.normal[:, 2:])
        return torch.where(hits.hit[:, None], albedo(hits, d, WIDE) * light, sky(d))

    i, j = torch.meshgrid(torch.arange(h).double(), torch.arange(w).double(), indexing="ij")
    jitter = sky_jitter(size, seed).double().reshape(-1, 2)
    n_pixels = h * w
    totals = {name: torch.zeros(n_pixels, 3, dtype=torch.float64) for name in ("gain", "offset", "radiance")}
    coverage = torch.zeros(n_pixels, 2, dtype=torch.float64)
    instance = torch.zeros(n_pixels, samples**2, dtype=torch.int32)
    rank = torch.full((n_pixels,), -1)
    shown = torch.zeros(n_pixels, 11, dtype=torch.float64)  # normal, position, uv, footprints, depth
    share = 1 / samples**2
    for s in range(samples**2):
        px = j + (s % samples + 0.5) / samples
        py = i + (s // samples + 0.5) / samples
        d = torch.stack([(px - cx) / fx, (py - cy) / fy, torch.ones_like(px)], -1).reshape(-1, 3)
        stretch = d.norm(dim=-1)
        d = (d / stretch[:, None]) @ rotation.T
        hits = _Hits(surface, env, eye.expand_as(d), d)
        n, v, g = hits.normal, -d, hits.geometric
        start = hits.position + g * OFFSET
        f0 = torch.where(hits.surface, surface.reflectance.double()[hits.material], 0.0)[:, None]
        roughness = torch.where(hits.surface, surface.roughness.double()[hits.material], 1.0)
        flat = ~hits.surface & (env.water > 0)
        f0 = torch.where(flat[:, None], WATER * _flooded(env, hits.position)[:, None], f0)
        roughness = torch.where(flat, RIPPLE, roughness)
        from_sun, from_lamps = sun_on(start, n), lamps_on(start, n)
        diffuse = (from_sun + sum(e for _, e in from_lamps)) / math.pi
        axis = torch.where(n[:, 1:2].abs() > 0.9, vector((1.0, 0.0, 0.0)), vector((0.0, 1.0, 0.0)))
        tangent = torch.nn.functional.normalize(torch.linalg.cross(n, axis), dim=-1)
        bitangent = torch.linalg.cross(n, tangent)
        for ray in range(sky_rays):
            u = ((ray + torch.frac(jitter[:, 1] + s * share)) / sky_rays)[:, None]
            angle = (2 * math.pi * (ray * GOLDEN + jitter[:, 0] + s * GOLDEN))[:, None]
            to_sky = u.sqrt() * (tangent * angle.cos() + bitangent * angle.sin()) + n * (1 - u).sqrt()
            above = ((to_sky * g).sum(-1) > 0)[:, None]
            diffuse = diffuse + arriving(start, to_sky) * above / sky_rays
        diffuse = diffuse * (1 - f0)
        gloss = _gloss(n, v, sun.expand_as(n), roughness, f0) * from_sun
        for towards, e in from_lamps:
            gloss = gloss + _gloss(n, v, towards, roughness, f0) * e
        mirror = d - n * (2 * (d * n).sum(-1, keepdim=True))
        above = ((mirror * g).sum(-1) > 0)[:, None]
        gloss = gloss + arriving(start, mirror) * _fresnel(f0, (n * v).sum(-1, keepdim=True).clamp(min=0)) * above
        t = torch.where(hits.hit, hits.t, torch.zeros_like(hits.t))
        through = torch.exp(-env.haze * t)[:, None]
        air = vector(env.airlight) * (1 - through)
        painted = (hits.surface & surface.painted.bool()[hits.material])[:, None]
        part = hits.surface & surface.part.bool()[hits.material]
        own = albedo(hits, d, 1 / float(fx)) * diffuse
        nothing = (~hits.hit)[:, None]
        miss = vector(env.airlight).expand_as(d) if env.haze > 0 else sky(d)
        totals["gain"] += torch.where(painted, diffuse * through, 0.0) * share
        bare = (torch.where(painted, 0.0, own) + gloss) * through + air
        totals["offset"] += torch.where(nothing, miss, bare) * share
        totals["radiance"] += torch.where(nothing, miss, (own + gloss) * through + air) * share
        instance[:, s] = torch.where(hits.surface, surface.instances[hits.material], 0).int()
        coverage += torch.stack([painted[:, 0], part], -1) * share
        this = torch.where(hits.surface, 1 + part.long() + (part & painted[:, 0]).long(), 0)
        better = hits.hit & (this > rank)
        rank = torch.where(better, this, rank)
        cosine = (g * v).sum(-1).clamp(min=0.05)
        side = t / (fx * fy * stretch**3 * cosine).sqrt()
        uv_side = side * torch.where(hits.surface, surface.uv_scale.double()[hits.face], 0.0)
        uv = torch.where(hits.ground[:, None], 0.0, hits.uv)
        values = torch.cat([n, hits.position, uv, torch.stack([side, uv_side, t / stretch], -1)], -1)
        shown = torch.where(better[:, None], values, shown)

    def image(value: torch.Tensor) -> torch.Tensor:
        return value.reshape(h, w, *value.shape[1:])

    return RayBuffers(
        **{name: image(value) for name, value in totals.items()},
        paint=image(coverage[:, 0]),
        object=image(coverage[:, 1]),
        normal=image(shown[:, :3]),
        position=image(shown[:, 3:6]),
        uv=image(shown[:, 6:8]),
        footprint=image(shown[:, 8]),
        uv_footprint=image(shown[:, 9]),
        depth=image(shown[:, 10]),
        instance=image(instance),
    )


def _fresnel(f0: torch.Tensor, cosine: torch.Tensor) -> torch.Tensor:
    return f0 + ((50 * f0).clamp(max=1) - f0) * (1 - cosine) ** 5


def _gloss(
    n: torch.Tensor, v: torch.Tensor, light: torch.Tensor, roughness: torch.Tensor, f0: torch.Tensor
) -> torch.Tensor:
    """D G F / (4 n.l n.v) of GGX, (n, 1), for unit vectors to the light; 0 for f0 = 0."""
    nl, nv = (n * light).sum(-1).clamp(min=1e-4), (n * v).sum(-1).clamp(min=1e-4)
    half = torch.nn.functional.normalize(v + light, dim=-1)
    a2 = roughness**4
    distribution = a2 / (math.pi * ((n * half).sum(-1) ** 2 * (a2 - 1) + 1) ** 2)
    smith = 2 * nl / (nl + (a2 + (1 - a2) * nl**2).sqrt()) * 2 * nv / (nv + (a2 + (1 - a2) * nv**2).sqrt())
    facet = _fresnel(f0, (half * light).sum(-1).clamp(min=0)[:, None])
    return (distribution * smith / (4 * nl * nv))[:, None] * facet


def _soaked(rho: torch.Tensor, water: float) -> torch.Tensor:
    """Albedo (n, 3) under a film of water (Angstrom 1925, Lekner and Dorf 1988)."""
    wet = rho * (1 - ENTERS) * (1 - INSIDE) / (1 - INSIDE * rho)
    return rho + (wet - rho) * (1 - math.exp(-water / DAMP))


def _flooded(env: Environment, p: torch.Tensor) -> torch.Tensor:
    """Share of the ground about (n, 3) that stands under a level sheet of water, (n,)."""
    broad, fine = _noise(p[:, 0] * 0.9 + 31, p[:, 1] * 0.9), _noise(p[:, 0] * 3.7, p[:, 1] * 3.7 + 17)
    return ((env.water - RELIEF * (0.65 * broad + 0.35 * fine)) / SHORE + 0.5).clamp(0, 1) * (env.water > 0)


def _paint(texture: torch.Tensor, repetitions_per_metre: float, hits: _Hits) -> torch.Tensor:
    if repetitions_per_metre == 0.0:
        return _bilinear(texture, hits.uv)
    weights = hits.normal**4 / (hits.normal**4).sum(-1, keepdim=True)
    p = hits.position * repetitions_per_metre
    planes = torch.stack([_bilinear(texture, p[:, axes]) for axes in ([1, 2], [0, 2], [0, 1])], 1)
    return (planes * weights[..., None]).sum(1)


def _bilinear(texture: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    rows, columns = texture.shape[:2]
    x, y = torch.frac(torch.frac(uv) + 1).unbind(-1)
    x, y = x * columns - 0.5, y * rows - 0.5
    x0, y0 = x.floor().long(), y.floor().long()
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]

    def texel(row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        return texture[row % rows, column % columns]

    top = texel(y0, x0) * (1 - fx) + texel(y0, x0 + 1) * fx
    return top * (1 - fy) + (texel(y0 + 1, x0) * (1 - fx) + texel(y0 + 1, x0 + 1) * fx) * fy


def _noise(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Value noise; the whole numbers are hashed modulo 2**32."""

    def lattice(i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        low = 0xFFFFFFFF
        h = ((i & low) * 374761393 + (j & low) * 668265263) & low
        h = ((h ^ (h >> 13)) * 1274126177) & low
        return ((h ^ (h >> 16)) & 0xFFFFFF).double() / 0x1000000

    i, j = x.floor().long(), y.floor().long()
    u, v = x - x.floor(), y - y.floor()
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    low = lattice(i, j) * (1 - u) + lattice(i + 1, j) * u
    high = lattice(i, j + 1) * (1 - u) + lattice(i + 1, j + 1) * u
    return low * (1 - v) + high * v


def sky_radiance(env: Environment, d: torch.Tensor) -> torch.Tensor:
    """Radiance of the sky, its clouds and the skyline along unit vectors (n, 3)."""
    if env.panorama is not None:
        return _panorama(env.panorama.double(), env.panorama_azimuth, d)
    zenith, horizon, line = (d.new_tensor(value) for value in (env.sky_zenith, env.sky_horizon, env.skyline))
    up = d[:, 2]
    clear = horizon + (zenith - horizon) * up.clamp(min=0).sqrt()[:, None]
    x, y = (1.5 * d[:, k] / (up.clamp(min=0) + 0.15) for k in (0, 1))
    depth = 0.55 * _noise(x, y) + 0.3 * _noise(2.1 * x + 7, 2.1 * y) + 0.15 * _noise(4.3 * x, 4.3 * y + 11)
    cover = ((depth - 1 + env.clouds) * 4 + 0.5).clamp(0, 1) * ((up > 0) & (env.clouds > 0))
    seen = clear + (horizon * (1.5 - 0.6 * depth)[:, None] - clear) * cover[:, None]
    azimuth = torch.atan2(d[:, 1], d[:, 0])
    fixed = torch.ones_like(azimuth)
    top = 0.35 + 0.4 * _noise(azimuth * 6, 3.5 * fixed) + 0.25 * _noise(azimuth * 25, 9.5 * fixed)
    return torch.where((up < env.skyline_height * top)[:, None] & (env.skyline_height > 0), line, seen)


def _panorama(light: torch.Tensor, azimuth: float, d: torch.Tensor) -> torch.Tensor:
    """Radiance of a panorama along unit vectors (n, 3); its rows end at the poles, its columns go on around."""
    rows, columns = light.shape[:2]
    around = torch.remainder(0.5 - (torch.atan2(d[:, 1], d[:, 0]) - azimuth) / (2 * math.pi), 1.0) * columns - 0.5
    down = (torch.acos(d[:, 2].clamp(-1, 1)) / math.pi * rows - 0.5).clamp(0, rows - 1)
    x, y = around.floor().long(), down.floor().long()
    fx, fy = (around - x)[:, None], (down - y)[:, None]

    def line(row: torch.Tensor) -> torch.Tensor:
        return light[row, x % columns] * (1 - fx) + light[row, (x + 1) % columns] * fx

    return line(y) * (1 - fy) + line((y + 1).clamp(max=rows - 1)) * fy


def ground_albedo(env: Environment, p: torch.Tensor, d: torch.Tensor, blur: torch.Tensor) -> torch.Tensor:
    """Albedo of the ground at (n, 3) for rays along `d`, of pixels that are `blur` (n,) wide there."""
    lean = d[:, 2].abs().clamp(min=0.02)
    flat = d[:, :2].norm(dim=-1).clamp(min=1e-6)
    across = (blur * (d[:, 0].abs() + d[:, 1].abs() / lean) / flat).clamp(min=1e-3)
    along = (blur * (d[:, 1].abs() + d[:, 0].abs() / lean) / flat).clamp(min=1e-3)
    wide = torch.maximum(across, along)

    def grain(frequency: float) -> torch.Tensor:
        return (_noise(p[:, 0] * frequency, p[:, 1] * frequency) - 0.5) / (1 + 4 * (frequency * wide) ** 2)

    def stripe(x: torch.Tensor, half: float, width: torch.Tensor) -> torch.Tensor:
        return ((x + 0.5 * width).clamp(max=half) - (x - 0.5 * width).clamp(min=-half)).clamp(min=0) / width

    f = env.ground_frequency
    mix = (0.5 + grain(f) + 0.7 * grain(4.1 * f) + 0.5 * grain(23 * f)).clamp(0, 1)[:, None]
    dark, light = d.new_tensor(env.ground_dark), d.new_tensor(env.ground_light)
    ground = dark + (light - dark) * mix
    if env.road <= 0:
        return ground
    q = p[:, 1] - env.lane
    grey = env.asphalt * (1 + 0.3 * grain(0.6) + 0.4 * grain(9.0) + 0.5 * grain(45.0))
    mark = stripe(q, 0.06, across) * stripe(p[:, 0] - 6 * (p[:, 0] / 6).floor() - 3, 1.5, along)
    mark = mark + stripe(q.abs() - env.road + 0.3, 0.06, across)
    grey = grey + (0.55 - grey) * mark * (0.8 + 0.8 * grain(9.0))
    edge, joint = q.abs() - env.road, p[:, 0] - p[:, 0].floor() - 0.5
    slab = (0.30 + 0.06 * grain(3.0) + 0.10 * grain(30.0)) * (1 - 0.5 * stripe(joint, 0.01, along))
    shares = stripe(q, env.road, across), stripe(edge - 0.08, 0.08, across), stripe(edge - 1.16, 1.0, across)
    paved = grey * shares[0] + 0.42 * shares[1] + slab * shares[2]
    return paved[:, None] * d.new_tensor((1.0, 1.0, 0.97)) + ground * (1 - sum(shares)).clamp(min=0)[:, None]  # type: ignore[union-attr]
