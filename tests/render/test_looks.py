"""Metal-rough textures and normal maps beside a plain reference, closed forms and Mitsuba; gradients; soft shadows."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from simengine.render import (
    DirectionalLight,
    DisneyMaterial,
    PinholeCamera,
    PointLight,
    TexturedMesh,
    psnr,
    render_mesh,
    shade,
)
from simengine.render.bodies import sphere_mesh
from simengine.render.lights import Light
from simengine.render.looks.metal_rough import FaceMaterials, MetalRoughTextures
from simengine.render.looks.shelter import Floor, Shelter, floor_picture

SQUARE = torch.tensor([[-1.0, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]], dtype=torch.float64)  # upper left first
HALVES = torch.tensor([[0, 2, 1], [0, 3, 2]])
SQUARE_UV = torch.tensor([[[0.0, 0], [1, 1], [1, 0]], [[0, 0], [0, 1], [1, 1]]], dtype=torch.float64)
UP = torch.tensor([0.0, 1.0, 0.0])


def random_material(seed: int, *, bumps: bool = True, size: int = 3) -> MetalRoughTextures:
    random = torch.Generator().manual_seed(seed)

    def texture(channels: int, rows: int = size) -> torch.Tensor:
        return torch.rand(rows, size + 1, channels, generator=random, dtype=torch.float64)

    normal = torch.cat([texture(2) - 0.5, 0.5 + texture(1)], -1) if bumps else None
    rough = 0.3 + 0.6 * texture(1)
    return MetalRoughTextures(base_colour=texture(3, 2), metallic=texture(1, 5), roughness=rough, normal=normal)


def two_materials(subdivisions: int = 1) -> TexturedMesh:
    """A ball of two materials, one with bumps, with random texture coordinates, some mirrored."""
    vertices, faces = sphere_mesh(subdivisions, dtype=torch.float64)
    random = torch.Generator().manual_seed(5)
    materials = FaceMaterials(
        materials=(random_material(1), random_material(2, bumps=False)),
        of_face=(torch.arange(len(faces)) % 3 == 0).long(),
        corner_uv=2 * torch.rand(len(faces), 3, 2, generator=random, dtype=torch.float64) - 0.5,
        normal_of_corner=faces,
    )
    return TexturedMesh(vertices=vertices, faces=faces, texture=torch.zeros_like(vertices), materials=materials)


def reference(mesh: TexturedMesh, camera: PinholeCamera, lights: list[Light]) -> torch.Tensor:
    """What the rays through pixel centres meet, ray by ray and triangle by triangle; NaN where that is nothing."""
    assert mesh.materials is not None
    look, corners = mesh.materials, mesh.vertices[mesh.faces]
    flat = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    slopes = []  # of the place along u and v, by least squares in the plane of each triangle
    for triangle, uv in zip(corners, look.corner_uv, strict=True):
        slopes.append(torch.linalg.lstsq(uv[1:] - uv[0], triangle[1:] - triangle[0]).solution)
    origins, ways = (part.reshape(-1, 3) for part in camera.rays())
    found = torch.full((len(ways), 3), torch.nan, dtype=torch.float64)

    def texel(texture: torch.Tensor, u: float, v: float) -> torch.Tensor:
        h, w, _ = texture.shape
        x, y = u * w - 0.5, v * h - 0.5
        value = torch.zeros(texture.shape[-1], dtype=torch.float64)
        for i in (math.floor(x), math.floor(x) + 1):
            for j in (math.floor(y), math.floor(y) + 1):
                value = value + (1 - abs(x - i)) * (1 - abs(y - j)) * texture[j % h, i % w]
        return value

    for k, (origin, way) in enumerate(zip(origins, ways, strict=True)):
        near = math.inf
        for f, triangle in enumerate(corners):
            system = torch.stack([triangle[1] - triangle[0], triangle[2] - triangle[0], -way], 1)
            b, c, t = torch.linalg.solve(system, origin - triangle[0]).tolist()
            if min(b, c, 1 - b - c) < 0 or t < 0 or t > near:
                continue
            near, weight = t, torch.tensor([1 - b - c, b, c], dtype=torch.float64)
            normal, along = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
            mirrored = bool(torch.linalg.cross(slopes[f][0], slopes[f][1]) @ flat[f] > 0)
            for corner in range(3):
                touching = (mesh.faces == mesh.faces[f, corner]).any(1).nonzero()[:, 0].tolist()
                mean = sum(flat[g] for g in touching)
                alike = [
                    g for g in touching if bool(torch.linalg.cross(*slopes[g]) @ flat[g] > 0) == mirrored
                ]  # sides of one handedness
                tangent = sum(flat[g].norm() * slopes[g][0] / slopes[g][0].norm() for g in alike)
                normal, along = normal + weight[corner] * mean, along + weight[corner] * tangent
            normal = normal / normal.norm()
            along = along - (along @ normal) * normal
            along = along / along.norm()
            up = torch.linalg.cross(normal, along) * (-1 if mirrored else 1)
            material = look.materials[int(look.of_face[f])]
            u, v = (weight @ look.corner_uv[f]).tolist()
            bumped = normal
            if material.normal is not None:
                x, y, z = texel(material.normal, u, v)
                bumped = x * along + y * up + z * normal
            bumped = bumped / bumped.norm() * (-1 if float(normal @ way) > 0 else 1)
            parts = {name: texel(getattr(material, name), u, v) for name in ("base_colour", "metallic", "roughness")}
            found[k] = shade(origin + t * way, bumped, origin, DisneyMaterial(**parts), lights, ambient=0.1)
    return found.reshape(camera.height, camera.width, 3)


def test_beside_a_plain_reference() -> None:
    mesh = two_materials()
    camera = PinholeCamera.look_at((0.4, 0.7, 3.2), width=9, height=8, dtype=torch.float64)
    place = torch.tensor([2.0, 3, 4], dtype=torch.float64)
    lights: list[Light] = [PointLight(position=place, intensity=torch.tensor([60.0, 40, 50], dtype=torch.float64))]
    expected = reference(mesh, camera, lights)
    image = render_mesh(mesh, camera, lights=lights, ambient=0.1)
    inside = image.alpha[..., 0] == 1  # outlines are blended
    inside &= ~expected.isnan().any(-1)
    assert int(inside.sum()) > 20
    torch.testing.assert_close(image.rgb[inside], expected[inside], rtol=1e-9, atol=1e-12)


def test_gradcheck_of_textures_and_vertices() -> None:
    mesh = two_materials(0)
    assert mesh.materials is not None
    look = mesh.materials
    camera = PinholeCamera.look_at((0.4, 0.7, 3.2), width=6, height=5, dtype=torch.float64)
    lamp = torch.tensor([2.0, 3, 4], dtype=torch.float64)
    rows = torch.randn(5, 6 * 5 * 6, dtype=torch.float64)

    def picture(points: torch.Tensor, uv: torch.Tensor, place: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
        base, metal, rough, normal = parts
        own = MetalRoughTextures(base_colour=base, metallic=metal, roughness=rough, normal=normal)
        materials = FaceMaterials(
            materials=(own, look.materials[1]),
            of_face=look.of_face,
            corner_uv=uv,
            normal_of_corner=look.normal_of_corner,
        )
        own_mesh = TexturedMesh(vertices=points, faces=mesh.faces, texture=mesh.texture, materials=materials)
        lights = [PointLight(position=place, intensity=torch.tensor(40.0, dtype=torch.float64))]
        image = render_mesh(own_mesh, camera, lights=lights, ambient=0.1)
        assert image.normal is not None
        return rows @ torch.cat([image.rgb, image.normal], -1).flatten()

    first = look.materials[0]
    assert first.normal is not None
    inputs = [mesh.vertices, look.corner_uv, lamp, first.base_colour, first.metallic, first.roughness, first.normal]
    leaves = [value.clone().requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(picture, leaves, eps=1e-7, atol=1e-6, rtol=1e-5, fast_mode=True)


@pytest.mark.parametrize(
    ("uv", "expected"),
    [
        (SQUARE_UV, (0.6, -0.0)),  # a picture seen from its front: its right is right
        (SQUARE_UV * torch.tensor([-1.0, 1.0]), (-0.6, 0.0)),  # mirrored
        (SQUARE_UV.flip(-1) * torch.tensor([1.0, -1.0]), (0.0, 0.6)),  # turned by a quarter: its right is down
    ],
)
def test_bumps_of_a_square(uv: torch.Tensor, expected: tuple[float, float]) -> None:
    # a normal that leans to the right of its texture; the camera's x is right, its y down
    leaning = MetalRoughTextures(
        base_colour=torch.ones(1, 1, 3).double(),
        metallic=torch.zeros(1, 1, 1).double(),
        roughness=torch.ones(1, 1, 1).double(),
        normal=torch.tensor([[[0.6, 0.0, 0.8]]], dtype=torch.float64),
    )
    look = FaceMaterials(
        materials=(leaning,), of_face=torch.zeros(2).long(), corner_uv=uv.double(), normal_of_corner=HALVES
    )
    mesh = TexturedMesh(vertices=SQUARE, faces=HALVES, texture=torch.zeros(4, 3).double(), materials=look)
    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=8, height=8, dtype=torch.float64)
    image = render_mesh(mesh, camera)
    assert image.normal is not None
    torch.testing.assert_close(
        image.normal[4, 4], torch.tensor([*expected, -0.8], dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_wrong_materials_are_told() -> None:
    with pytest.raises(ValueError, match=r"metallic: expected shape \(th, tw, 1\)"):
        MetalRoughTextures(base_colour=torch.ones(2, 2, 3), metallic=torch.ones(2, 2), roughness=torch.ones(1, 1, 1))
    plain = MetalRoughTextures.plain(torch.ones(3))
    with pytest.raises(ValueError, match=r"of_face: expected indices in \[0, 1\)"):
        FaceMaterials(materials=(plain,), of_face=torch.ones(2).long(), corner_uv=SQUARE_UV, normal_of_corner=HALVES)
    look = FaceMaterials(
        materials=(plain,), of_face=torch.zeros(1).long(), corner_uv=SQUARE_UV[:1], normal_of_corner=HALVES[:1]
    )
    with pytest.raises(ValueError, match="materials: expected one for each of 2 triangles"):
        TexturedMesh(vertices=SQUARE, faces=HALVES, texture=torch.zeros(4, 3), materials=look)


def test_bumpy_square_beside_mitsuba() -> None:
    mi = pytest.importorskip("mitsuba", reason="Mitsuba is not installed")
    mi.set_variant("scalar_rgb")
    n, size = 24, 32
    y, x = np.mgrid[0:n, 0:n] / n
    slope = 0.5 * np.stack([np.cos(2 * np.pi * x), np.sin(2 * np.pi * y)], -1)
    normal = np.concatenate([slope, np.ones((n, n, 1))], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    base = np.stack([0.5 + 0.4 * np.sin(2 * np.pi * x), 0.5 + 0 * x, 0.5 + 0.4 * np.cos(2 * np.pi * y)], -1)
    metal, rough = 0.5 + 0.4 * np.sin(2 * np.pi * (x + y)), 0.55 + 0.15 * np.cos(2 * np.pi * x)

    def bitmap(values: np.ndarray) -> dict[str, Any]:
        rows = np.ascontiguousarray(values[::-1], dtype=np.float32)  # its first row is at v = 0, the lower edge
        return {"type": "bitmap", "bitmap": mi.Bitmap(rows), "raw": True}

    scene = mi.load_dict(
        {
            "type": "scene",
            "integrator": {"type": "direct", "hide_emitters": True},
            "sensor": {
                "type": "perspective",
                "fov": math.degrees(2 * math.atan(1 / 4)),  # the square fills the picture
                "to_world": mi.ScalarTransform4f().look_at(origin=[0, 0, 4], target=[0, 0, 0], up=[0, 1, 0]),
                "film": {"type": "hdrfilm", "width": size, "height": size, "rfilter": {"type": "box"}},
                "sampler": {"type": "stratified", "sample_count": 64},
            },
            "light": {"type": "point", "position": [1.5, 2.0, 2.5], "intensity": 40.0},
            "square": {
                "type": "rectangle",
                "bsdf": {
                    "type": "normalmap",
                    "normalmap": bitmap((normal + 1) / 2),
                    "bsdf": {
                        "type": "principled",
                        "base_color": bitmap(base),
                        "metallic": bitmap(metal[..., None]),
                        "roughness": bitmap(rough[..., None]),
                        "specular": 0.5,
                    },
                },
            },
        }
    )
    theirs = torch.from_numpy(np.array(mi.render(scene))[..., :3]).double()
    parts = {"base_colour": base, "metallic": metal[..., None], "roughness": rough[..., None], "normal": normal}
    look = FaceMaterials(
        materials=(MetalRoughTextures(**{name: torch.from_numpy(value) for name, value in parts.items()}),),
        of_face=torch.zeros(2).long(),
        corner_uv=SQUARE_UV,
        normal_of_corner=HALVES,
    )
    mesh = TexturedMesh(vertices=SQUARE, faces=HALVES, texture=torch.zeros(4, 3).double(), materials=look)
    fov = 2 * math.atan(1 / 4)
    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=size, height=size, fov_y=fov, dtype=torch.float64)
    lamp = PointLight(position=torch.tensor([1.5, 2.0, 2.5]).double(), intensity=torch.tensor(40.0).double())
    ours = render_mesh(mesh, camera, lights=[lamp], samples=4).rgb
    inner = slice(1, -1)
    # measured 52; with green down 15
    assert psnr(ours[inner, inner], theirs[inner, inner], peak=float(theirs.max())) >= 40


def disc(radius: float, height: float) -> TexturedMesh:
    """A round plate above y = 0, of 96 triangles."""
    turn = torch.arange(96, dtype=torch.float64) * (2 * math.pi / 96)
    ring = torch.stack([radius * turn.cos(), torch.full_like(turn, height), radius * turn.sin()], 1)
    vertices = torch.cat([torch.tensor([[0.0, height, 0.0]]).double(), ring])
    k = torch.arange(96)
    faces = torch.stack([torch.zeros_like(k), 1 + (k + 1) % 96, 1 + k], 1)
    return TexturedMesh(vertices=vertices, faces=faces, texture=torch.ones(97, 3).double())


@pytest.mark.parametrize("height", [0.5, 1.0, 2.0])
def test_shade_under_a_plate(height: float) -> None:
    # under the middle of a disc of radius r at height h a matt floor loses r^2/(r^2 + h^2) of an even sky
    shelter = Shelter(disc(1.0, height), (), floor=Floor(UP, 0.0))
    _, sky = shelter(torch.zeros(1, 3), UP[None])
    # one of the 80 sides of the sky weighs up to 2/80
    assert float(sky) == pytest.approx(height**2 / (1 + height**2), abs=0.025)
    _, far = shelter(torch.tensor([[40.0, 0.0, 0.0]]), UP[None])
    assert float(far) > 0.99


def test_penumbra_of_a_wide_lamp() -> None:
    # a lamp that is 2 s wide, straight above: the shade of an edge at height h falls off over 2 h tan s
    lamp = DirectionalLight(direction=UP, irradiance=torch.tensor(1.0))
    spread = 0.1
    shelter = Shelter(disc(1.0, 1.0), (lamp,), floor=Floor(UP, 0.0), spread=spread)
    width = math.tan(spread)
    at = torch.tensor([0.0, 1 - 1.3 * width, 1 - 0.5 * width, 1.0, 1 + 0.5 * width, 1 + 1.3 * width])
    points = torch.stack([at, torch.zeros(6), torch.zeros(6)], 1)
    (lit,), _ = shelter(points, UP.expand(6, 3))

    def beyond(x: float) -> float:  # share of a round lamp beyond a straight edge at x of its radius
        return (math.acos(x) - x * math.sqrt(1 - x * x)) / math.pi

    expected = torch.tensor([0.0, 0.0, beyond(0.5), 0.5, beyond(-0.5), 1.0])
    # 24 places on the lamp, and an edge that bends
    torch.testing.assert_close(lit[:, 0], expected, rtol=0, atol=0.06)


def test_floor_shows_nothing_but_shade() -> None:
    lamp = DirectionalLight(direction=torch.tensor([0.4, 1.0, 0.2]), irradiance=torch.tensor(2.0))
    mesh, floor = disc(0.3, 0.5), Floor(UP, 0.0)
    shelter = Shelter(mesh, (lamp,), floor=floor)
    camera = PinholeCamera.look_at((0.0, 1.0, 4.0), (0.0, 0.2, 0.0), width=48, height=36)
    background = torch.tensor([0.9, 0.8, 0.7])
    picture = floor_picture(floor, camera, shelter, lights=(lamp,), ambient=0.3, background=background)
    darkest = (picture / background).amin()
    torch.testing.assert_close(picture[0], background.expand(48, 3))  # above the horizon
    assert float((picture / background)[-1, 0].min()) > 0.98  # far from the plate
    # in the middle of its shadow the lamp is gone, 2 cos(angle)/pi of it, and some of .3 of ambient light
    cosine = 1 / math.sqrt(1 + 0.4**2 + 0.2**2)
    assert 0.5 * 0.3 < float(darkest) * (0.3 + 2 * cosine / math.pi) < 0.3
    place = camera.project(torch.tensor([[-0.2, 0.0, -0.1]]))[0]  # where the lamp throws the plate's middle
    assert float((picture / background)[int(place[1]), int(place[0])].mean()) < float(darkest) + 0.05
    below = PinholeCamera.look_at((0.0, -1.0, 4.0), (0.0, 0.2, 0.0), width=8, height=6)
    hidden = floor_picture(floor, below, shelter, lights=(lamp,), ambient=0.3, background=background)
    torch.testing.assert_close(hidden, background.expand(6, 8, 3))
