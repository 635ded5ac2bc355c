"""The gap of a robustness evaluation to pictures that another program traced: Mitsuba 3, where it is installed.

`simengine bench dtn_traced [run=runs/dtn_robustness] [views=80] [paths=32] --write docs/results/dtn.md`: first unseen
views of a finished `optimise camouflage`, without haze, its car in the texture that was found against the hardened
detector, translated whole: meshes with their coats, road and ground as a picture of their albedo, the sky with clouds
and skyline as a panorama, the sun; up to five bounces. Beside them what the run's own pipeline shows of the same views,
and both before each of the run's detectors. Traced views are kept in the folder `traced` of the run. 3 s of CPU a view.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simengine.dtn.evaluation import detect, precision_gap
from simengine.dtn.metrics import object_psnr
from simengine.dtn.sampler import ViewSampler
from simengine.dtn.texture import texture_map
from simengine.io import checkpoint
from simengine.ops.light.ray_scene import Environment, RaySurface
from simengine.ops.light.raycast_reference import ground_albedo, sky_radiance
from simengine.scene import load_scene
from simengine.worlds.detectors.detector import make_detector, unseen_set, wear
from simengine.worlds.detectors.world import CamouflageSpec, DTNWorld

RUN = "runs/dtn_robustness"
DETECTORS = {"detector": "the first detector", "hardened": "hardened", "more": "`more`", "patterns": "`patterns`"}
BOUNCES = 5
PANORAMA = 128  # rows
GROUNDS = ((20.0, 512, 0.0), (160.0, 512, -0.01), (3000.0, 128, -0.05))  # half a side [m], texels, height [m]


def coat(mi: Any, albedo: Any, roughness: float, reflectance: float) -> dict[str, Any]:
    """A material: diffuse under a dielectric coat, or beside a mirror where it reflects more than such coats do.

    Args:
        mi: Mitsuba.
        albedo: Its texture.
        roughness: Alpha of GGX is its square.
        reflectance: At normal incidence.
    """
    matt = {"type": "diffuse", "reflectance": albedo}
    alpha = max(roughness**2, 0.005)
    if reflectance <= 0:
        own: dict[str, Any] = matt
    elif reflectance <= 0.1:
        index = (1 + math.sqrt(reflectance)) / (1 - math.sqrt(reflectance))
        own = {"type": "roughplastic", "diffuse_reflectance": albedo, "int_ior": index, "alpha": alpha}
    else:
        mirror = {"type": "roughconductor", "material": "none", "alpha": alpha}
        own = {"type": "blendbsdf", "weight": reflectance, "first": matt, "second": mirror}
    return {"type": "twosided", "bsdf": own}


def colour(value: Sequence[float]) -> dict[str, Any]:
    """A colour as Mitsuba takes it."""
    return {"type": "rgb", "value": [float(v) for v in value]}


def picture(mi: Any, values: torch.Tensor) -> dict[str, Any]:
    """A texture of linear values (rows, columns, 3), row 0 at v = 0."""
    bitmap = mi.Bitmap(np.ascontiguousarray(values.float().numpy()))
    return {"type": "bitmap", "bitmap": bitmap, "raw": True, "wrap_mode": "repeat"}


def meshes(mi: Any, body: RaySurface, paint: torch.Tensor) -> dict[str, Any]:
    """The triangles of each material."""
    found: dict[str, Any] = {}
    for k in body.material.unique().tolist():
        own = body.material == k
        points, number = body.triangles[own].reshape(-1, 3), 3 * int(own.sum())
        albedo = picture(mi, paint) if bool(body.painted[k]) else colour(body.albedo[k].tolist())
        given = mi.Properties()
        given["bsdf"] = mi.load_dict(coat(mi, albedo, float(body.roughness[k]), float(body.reflectance[k])))
        mesh = mi.Mesh(f"m{k}", number, number // 3, has_vertex_normals=True, has_vertex_texcoords=True, props=given)
        values = mi.traverse(mesh)
        values["vertex_positions"] = points.flatten().float().numpy()
        values["vertex_normals"] = body.normals[own].flatten().float().numpy()
        values["vertex_texcoords"] = body.uv[own].flatten().float().numpy()
        values["faces"] = np.arange(number, dtype=np.uint32)
        values.update()
        found[f"m{k}"] = mesh
    return found


def sky(mi: Any, env: Environment) -> dict[str, Any]:
    """The panorama of the sky, z up."""
    row, column = torch.meshgrid(torch.arange(PANORAMA), torch.arange(2 * PANORAMA), indexing="ij")
    down = (row.double() + 0.5) / PANORAMA * math.pi
    around = (column.double() + 0.5) / PANORAMA * math.pi
    # Mitsuba: row 0 at +y, the middle of a row at +z, its columns towards -x; +y, +z, -x become z, x, y
    across = torch.pi - around
    d = torch.stack([down.sin() * across.cos(), down.sin() * across.sin(), down.cos()], -1)
    light = sky_radiance(env, d.reshape(-1, 3)).reshape(PANORAMA, 2 * PANORAMA, 3)
    turn = mi.ScalarTransform4f(np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))
    return {"type": "envmap", "bitmap": mi.Bitmap(light.float().numpy()), "to_world": turn}


def grounds(mi: Any, env: Environment) -> dict[str, Any]:
    """Squares about the object in the colours of road and ground, a fine one over a coarse one."""
    found = {}
    for number, (half, texels, height) in enumerate(GROUNDS):
        place = ((torch.arange(texels).double() + 0.5) / texels * 2 - 1) * half
        y, x = torch.meshgrid(place, place, indexing="ij")
        points = torch.stack([x, y, 0 * x], -1).reshape(-1, 3)
        aslant = torch.tensor([0.5, 0.5, -(0.5**0.5)], dtype=torch.float64).expand_as(points)
        width = torch.full((len(points),), 2 * half / texels / (1 + 2**0.5), dtype=torch.float64)
        albedo = ground_albedo(env, points, aslant, width).reshape(texels, texels, 3)
        found[f"ground{number}"] = {
            "type": "rectangle",
            "to_world": mi.ScalarTransform4f().translate([0, 0, height]).scale([half, half, 1]),
            "bsdf": {"type": "twosided", "bsdf": {"type": "diffuse", "reflectance": picture(mi, albedo)}},
        }
    return found


def traced(
    mi: Any,
    sampler: ViewSampler,
    surface: RaySurface,
    index: int,
    size: tuple[int, int],
    paint: torch.Tensor,
    paths: int,
) -> torch.Tensor:
    """Linear radiance of a view, (3, h, w)."""
    camera, env = sampler.camera(index, size), sampler.environment(index)
    eye, rotation = camera.position.tolist(), camera.rotation
    target = [e + f for e, f in zip(eye, rotation[2].tolist(), strict=True)]
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": BOUNCES + 1, "rr_depth": 50},
        "sensor": {
            "type": "perspective",
            "fov_axis": "y",
            "fov": sampler.fov,
            "to_world": mi.ScalarTransform4f().look_at(origin=eye, target=target, up=(-rotation[1]).tolist()),
            "film": {
                "type": "hdrfilm",
                "width": size[1],
                "height": size[0],
                "rfilter": {"type": "box"},
                "pixel_format": "rgb",
            },
            "sampler": {"type": "independent", "sample_count": paths},
        },
        "sky": sky(mi, env),
        "sun": {
            "type": "directional",
            "direction": [-x for x in env.to_sun],
            "irradiance": colour(env.sun_irradiance),
        },
        **grounds(mi, env),
        **meshes(mi, sampler.standing(surface, index), paint),
    }
    image = np.array(mi.render(mi.load_dict(scene), seed=index))
    return torch.from_numpy(image).permute(2, 0, 1)


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of the table: both average precisions of each detector, and the gap."""
    torch.set_num_threads(1)
    options = {"run": RUN, "views": "80", "paths": "32"} | dict(a.split("=", 1) for a in arguments)
    run, number, paths = Path(options["run"]), int(options["views"]), int(options["paths"])
    try:
        import mitsuba
    except ImportError:
        raise ValueError("Mitsuba is not installed; pip install mitsuba") from None
    mitsuba.set_variant("scalar_rgb")
    loaded = load_scene(str(run / "scene.toml"), ("views.haze=[0, 0]",))
    world, spec = loaded.world, loaded.objective
    assert isinstance(world, DTNWorld) and isinstance(spec, CamouflageSpec)
    surface, unseen = world.surface(), unseen_set(world, spec.detector.empty, number)
    views, sampler = unseen.views, world.test_sampler.fitted(world.surface())
    with np.load(run / "textures.npz") as textures:
        texture = torch.from_numpy(textures["optimised anew"]).float()
    paint = wear(texture_map(views, (spec.rows, spec.columns), mapping="uv"), texture)
    index, kept = torch.arange(len(views)), run / "traced"
    kept.mkdir(exist_ok=True)
    for k in views.index.tolist():
        if not (file := kept / f"{k}_{paths}.npy").is_file():
            np.save(file, traced(mitsuba, sampler, surface, k, views.size, texture, paths).numpy())
    light = torch.stack([torch.from_numpy(np.load(kept / f"{k}_{paths}.npy")) for k in views.index.tolist()])
    with torch.no_grad():
        pictures = {
            "pipeline": torch.cat([views.picture(paint(some), some) for some in index.split(32)]),
            "Mitsuba": views.tone.encode(light.float()),
        }
    mask = (views.object >= 0.5).to(light.dtype)
    decibels = float(object_psnr(pictures["pipeline"], pictures["Mitsuba"], mask))
    weights, _ = checkpoint.load(run / "models")
    rows = []
    for name, title in DETECTORS.items():
        own = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
        if not own:
            continue
        detector: Any = make_detector(spec.detector)
        detector.load_state_dict(own)
        tables = [
            detect(detector, [*images.split(32), *unseen.empty_pictures()], unseen.boxes, kind=spec.kind)
            for images in pictures.values()
        ]
        found = {f"AP@.5, {k}": f"{float(t.average_precision()):.3f}" for k, t in zip(pictures, tables, strict=True)}
        rows.append({"name": title, **found, "Mitsuba less pipeline": str(precision_gap(*tables))})
    return [*rows, {"name": f"object pixels of {len(views)} views, dB", "Mitsuba less pipeline": f"{decibels:.1f}"}]


if __name__ == "__main__":
    import sys

    for entry in main(sys.argv[1:]):
        print(entry)
