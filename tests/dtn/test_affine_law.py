"""The affine law of paint against an independent path tracer (Mitsuba 3; skipped where it is not installed)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.dtn.bodies.car import MATERIALS, car
from simengine.dtn.sampler import ViewSampler

mitsuba = pytest.importorskip("mitsuba", reason="Mitsuba is an independent reference, not a dependency")
trimesh = pytest.importorskip("trimesh")
N, SAMPLES = 48, 128


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A PLY file of the triangles of each material."""
    folder, body = tmp_path_factory.mktemp("parts"), car()
    files = {}
    for k, name in enumerate(MATERIALS):
        triangles = body.triangles[body.material == k].reshape(-1, 3).numpy()
        faces = np.arange(len(triangles)).reshape(-1, 3)
        files[name] = folder / f"{name}.ply"
        trimesh.Trimesh(triangles, faces, process=False).export(files[name])
    return files


def path_traced(parts: dict[str, Path], paint: list[float]) -> torch.Tensor:
    """Linear radiance of the car in this paint under sun, sky and on a grey ground, up to four bounces."""
    mitsuba.set_variant("scalar_rgb")
    sampler = ViewSampler(seed=3)
    camera, env = sampler.camera(2, (N, N)), sampler.environment(2)
    eye = camera.position.tolist()
    forward, up = camera.rotation[2].tolist(), (-camera.rotation[1]).tolist()
    target = [e + f for e, f in zip(eye, forward, strict=True)]

    def matt(colour: list[float]) -> dict:
        return {"type": "twosided", "bsdf": {"type": "diffuse", "reflectance": {"type": "rgb", "value": colour}}}

    scene: dict = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": 5, "rr_depth": 50},
        "sensor": {
            "type": "perspective",
            "fov": sampler.fov,
            "to_world": mitsuba.ScalarTransform4f().look_at(origin=eye, target=target, up=up),
            "film": {"type": "hdrfilm", "width": N, "height": N, "rfilter": {"type": "box"}, "pixel_format": "rgb"},
            "sampler": {"type": "independent", "sample_count": SAMPLES, "seed": 1},
        },
        "sky": {"type": "constant", "radiance": {"type": "rgb", "value": list(env.sky_horizon)}},
        "sun": {
            "type": "directional",
            "direction": [-x for x in env.to_sun],
            "irradiance": {"type": "rgb", "value": list(env.sun_irradiance)},
        },
        "ground": {
            "type": "rectangle",
            "to_world": mitsuba.ScalarTransform4f().scale(200.0),
            "bsdf": matt(list(env.ground_light)),
        },
    }
    for name, file in parts.items():
        look = matt(paint if name == "paint" else list(MATERIALS[name][0]))
        scene[name] = {"type": "ply", "filename": str(file), "face_normals": True, "bsdf": look}
    image = np.array(mitsuba.render(mitsuba.load_dict(scene), seed=1))
    return torch.from_numpy(image.astype(np.float64))


def test_two_paints_give_every_other(parts: dict[str, Path]) -> None:
    # The same seed follows the same paths in every paint, so that their noise cancels; what is left is light from paint
    # to paint, quadratic in c. Measured: 68.8 dB over the picture, 56.6 dB over the paint alone.
    low, high, colour = 0.1, 0.8, [0.55, 0.12, 0.3]
    dark, bright, truth = (path_traced(parts, c) for c in ([low] * 3, [high] * 3, colour))
    predicted = dark + (bright - dark) * (torch.tensor(colour) - low) / (high - low)
    paint = (bright - dark).abs().amax(-1) > 0.02
    assert int(paint.sum()) > 100
    for mask, least in ((torch.ones_like(paint), 60.0), (paint, 50.0)):
        assert float(-10 * torch.log10((predicted - truth)[mask].square().mean())) >= least
