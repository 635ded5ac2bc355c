"""Our metal-rough material beside Mitsuba's `principled`, where Mitsuba is installed: pip install mitsuba."""

import math

import numpy as np
import pytest
import torch

from simengine.render import DisneyMaterial, PointLight, psnr, shade

CASES = [(metallic, roughness) for metallic in (0.0, 0.5, 1.0) for roughness in (0.25, 0.5, 0.8)]


def sphere_points(size: int) -> torch.Tensor:
    """The points of a unit sphere that an eye at (0, 0, 4) sees in a picture 40 degrees high, shape (m, 3)."""
    plane = torch.tan(torch.tensor(math.radians(20.0), dtype=torch.float64))
    at = ((torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1) * plane
    y, x = torch.meshgrid(-at, at, indexing="ij")
    ray = torch.nn.functional.normalize(torch.stack([x, y, -torch.ones_like(x)], dim=-1).reshape(-1, 3), dim=-1)
    eye = torch.tensor([0.0, 0.0, 4.0], dtype=torch.float64)
    middle = -(ray @ eye)
    inside = middle**2 - 15
    hit = inside > 0
    return eye + (middle[hit] - inside[hit].sqrt())[:, None] * ray[hit]


@pytest.mark.parametrize(("metallic", "roughness"), CASES)
def test_sphere_beside_mitsuba(metallic: float, roughness: float) -> None:
    mi = pytest.importorskip("mitsuba", reason="Mitsuba is not installed")
    mi.set_variant("scalar_rgb")
    colour = (0.8, 0.5, 0.3)
    bsdf = mi.load_dict(
        {
            "type": "principled",
            "base_color": {"type": "rgb", "value": list(colour)},
            "metallic": metallic,
            "roughness": roughness,
            "specular": 0.5,
        }
    )
    points = sphere_points(64)
    place, eye = torch.tensor([2.0, 3, 4], dtype=torch.float64), torch.tensor([0.0, 0, 4], dtype=torch.float64)
    material = DisneyMaterial(
        base_colour=torch.tensor(colour, dtype=torch.float64).expand(len(points), 3),
        metallic=torch.tensor(metallic, dtype=torch.float64),
        roughness=torch.tensor(roughness, dtype=torch.float64),
    )
    light = PointLight(position=place, intensity=torch.tensor(60.0, dtype=torch.float64))
    ours = shade(points, points, eye, material, [light])
    way = place - points
    unit, view = (torch.nn.functional.normalize(value, dim=-1) for value in (way, eye - points))
    theirs = np.zeros((len(points), 3))
    context, interaction = mi.BSDFContext(), mi.SurfaceInteraction3f()
    for k, normal in enumerate(points.tolist()):
        frame = mi.Frame3f(mi.Normal3f(normal))
        interaction.wi = frame.to_local(mi.Vector3f(view[k].tolist()))
        theirs[k] = np.array(bsdf.eval(context, interaction, frame.to_local(mi.Vector3f(unit[k].tolist()))))
    expected = torch.from_numpy(theirs) * 60 / way.square().sum(-1, keepdim=True)
    # a picture 8 bits deep shows up to 1; brighter gloss of smooth metal counts with its own peak
    peak = max(1.0, float(expected.max()))
    assert psnr(ours, expected, peak=peak) >= 60  # measured 64 (smooth dielectrics) to 155 dB (metals)
