"""Cameras of a file and photographs behind the object."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simengine.dtn.sampler import CONDITIONS, ViewSampler
from simengine.dtn.scenery.skies import MEAN, SkyPanorama, panorama_directions
from simengine.dtn.views import render_views
from simengine.dtn.weather.light import SUN
from simengine.scene.base import SceneError
from simengine.scene.record import record
from simengine.worlds.detectors.report import cell_edges
from simengine.worlds.detectors.world import DTNWorld

FIXED = ViewSampler(yaw=(30.0, 30.0), pitch=(20.0, 20.0), distance=(8.0, 8.0), offset=0.0, haze=(0.0, 0.0), seed=2)
SMALL = {"size": 48, "width": 64, "train_views": 3, "test_views": 2, "sky_rays": 1}


def poses(folder: Path, text: str = "yaw [deg],pitch [deg],distance [m]\n30,20,8\n200,10,7\n") -> Path:
    file = folder / "poses.csv"
    file.write_text(text)
    return file


def photograph(folder: Path, size: tuple[int, int] = (128, 96)) -> Path:
    """A bright one with a gradient, in which nothing is at an end of the tone curve."""
    folder.mkdir(exist_ok=True)
    x, y = np.meshgrid(np.linspace(120, 200, size[0]), np.linspace(0, 30, size[1]))
    Image.fromarray(np.stack([x, x - y, 130 + y], -1).astype(np.uint8)).save(folder / "yard.png")
    return folder


def test_a_listed_camera_sees_what_the_drawn_one_does(tmp_path: Path) -> None:
    drawn = DTNWorld(views=FIXED, **SMALL).sampler
    listed = DTNWorld(
        cameras=poses(tmp_path), views=dataclasses.replace(ViewSampler(), haze=(0.0, 0.0), seed=2), **SMALL
    )
    ours, theirs = listed.sampler.camera(0, (48, 64)), drawn.camera(0, (48, 64))
    assert torch.allclose(ours.world_to_camera, theirs.world_to_camera, atol=1e-12)
    assert torch.allclose(ours.intrinsics, theirs.intrinsics, atol=1e-9)
    for name, value in {"yaw": 30.0, "pitch": 20.0, "distance": 8.0}.items():
        assert listed.sampler.conditions(2)[name] == pytest.approx(value, abs=1e-9)  # the third starts again
    assert listed.sampler.conditions(1)["yaw"] == pytest.approx(200.0)
    assert listed.sampler.conditions(0)["sun"] == drawn.conditions(0)["sun"]  # light and weather are drawn


def test_frames_of_nerfstudio_are_cameras(tmp_path: Path) -> None:
    drawn = DTNWorld(views=FIXED, **SMALL).sampler.camera(0, (48, 64))
    to_world = torch.linalg.inv(drawn.world_to_camera) @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]).double())
    fx, fy, cx, cy = (4 * drawn.intrinsics).tolist()
    frame = {"file_path": "a.png", "transform_matrix": to_world.tolist()}
    data = {"w": 256, "h": 192, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "frames": [frame]}
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    listed = DTNWorld(cameras=tmp_path / "transforms.json", **SMALL).sampler.camera(5, (48, 64))
    assert torch.allclose(listed.world_to_camera, drawn.world_to_camera, atol=1e-9)
    assert torch.allclose(listed.intrinsics, drawn.intrinsics, atol=1e-9)
    (tmp_path / "transforms.json").write_text(json.dumps(data | {"k1": 0.1}))
    with pytest.raises(SceneError, match=r"cameras: .* 'a.png' has a lens that distorts"):
        _ = DTNWorld(cameras=tmp_path / "transforms.json", **SMALL).sampler


def test_a_photograph_stands_behind_the_object_and_takes_its_shadow(tmp_path: Path) -> None:
    low = dataclasses.replace(FIXED, pitch=(6.0, 6.0))
    world = DTNWorld(photographs=photograph(tmp_path / "photos"), views=low, **SMALL)
    sampler = dataclasses.replace(world.sampler, sun=(1.0, 1.0), sun_elevation=(50.0, 50.0))
    views = render_views(world.surface(), sampler, range(1), world.shape, sky_rays=1)
    bare = render_views(None, sampler, range(1), world.shape, sky_rays=1)
    plain = dataclasses.replace(sampler, photographs=())
    shown = render_views(world.surface(), plain, range(1), world.shape, sky_rays=1)
    picture, alone = views.picture(torch.full((1, 3, 1, 1), 0.2)), bare.picture(torch.zeros(1, 3, 1, 1))
    file = np.asarray(Image.open(tmp_path / "photos" / "yard.png").resize((64, 48), Image.Resampling.BOX)) / 255
    assert float((alone[0].permute(1, 2, 0) - torch.from_numpy(file)).abs().max()) < 0.01  # the photograph as it is
    away = views.object[0, 0] == 0
    above = away.clone()
    above[12:] = False  # above the horizon, where nothing of the object falls
    assert float((picture - alone)[0][:, above].abs().max()) < 1e-5
    darker = (alone - picture)[0].mean(0)[away]
    assert float(darker.max()) > 0.05 and float(darker.min()) > -0.05  # a shadow, and hardly anything brighter
    within = (views.object == 1).expand_as(views.offset)
    assert torch.allclose(views.offset[within], shown.offset[within], atol=1e-6)  # the object itself is as it was
    assert torch.equal(views.gain, shown.gain)


def test_further_things_stand_before_the_photograph(tmp_path: Path) -> None:
    """Each labelled thing looks as in the scene without a photograph; they had gone all but their shadows."""
    far = dataclasses.replace(FIXED, objects=(2, 2), distance=(14.0, 14.0))
    world = DTNWorld(photographs=photograph(tmp_path / "photos"), views=far, **SMALL)
    sampler, surface = world.sampler, world.surface()
    view = sampler.render(surface, 0, world.shape, sky_rays=1)
    plain = dataclasses.replace(sampler, photographs=()).render(surface, 0, world.shape, sky_rays=1)
    alone = (view.instance > 1).all(-1)
    assert int(alone.sum()) > 10
    assert torch.allclose(view.offset[alone], plain.offset[alone], atol=1e-6)
    photo = sampler.photographs[0].behind(world.shape)
    sky = (view.instance == 0).all(-1) & (view.depth == 0)
    assert torch.allclose(view.offset[sky], photo[sky], atol=1e-6)


def panorama(rows: int, azimuth: float, elevation: float, *, irradiance: float) -> torch.Tensor:
    """A sky brighter towards the horizon, and a sun of 1.5 degrees, or a pixel, in radius and `irradiance` in all."""
    directions, solid = panorama_directions(rows)
    sky = (1.4 - directions[..., 2:].abs()) * torch.tensor([0.5, 0.7, 1.0])
    across = math.cos(elevation)
    towards = torch.tensor([math.cos(azimuth) * across, math.sin(azimuth) * across, math.sin(elevation)])
    disc = torch.acos((directions @ towards).clamp(-1, 1)) < math.radians(max(1.5, 180 / rows))
    return sky + (irradiance / float(solid[disc].sum())) * disc[..., None]


def test_the_sun_of_a_panorama_is_taken_out_of_it() -> None:
    """Direction and light are those it was made with; sky and sun together send what the file holds."""
    radiance = panorama(256, 2.0, 0.6, irradiance=5.0)
    sky = SkyPanorama.of("a", radiance)
    scale = float((sky.light[-1] / radiance[-1]).mean())
    assert sky.azimuth == pytest.approx(2.0, abs=0.03) and sky.elevation == pytest.approx(0.6, abs=0.03)
    assert (sky.sun / scale).tolist() == pytest.approx([5.0] * 3, rel=0.01)
    solid = panorama_directions(256)[1][..., None]
    both = (sky.light * solid).sum((0, 1)) + sky.sun
    assert torch.allclose(both, scale * (radiance * solid).sum((0, 1)), rtol=1e-4)
    assert float(sky.ambient @ torch.tensor([0.2126, 0.7152, 0.0722])) == pytest.approx(MEAN, rel=1e-4)
    finer = SkyPanorama.of("b", panorama(512, 2.0, 0.6, irradiance=5.0))
    assert finer.light.shape == sky.light.shape and torch.allclose(finer.sun, sky.sun, rtol=0.03)
    clouded = SkyPanorama.of("c", panorama(64, 0.0, 0.5, irradiance=0.0))
    assert float(clouded.sun.max()) == 0.0


def test_views_stand_under_the_panorama(tmp_path: Path) -> None:
    """The sky behind is that of the file, turned so that its sun stands where the view's does; shadows fall from it."""
    np.save(tmp_path / "dome.npy", panorama(64, 2.0, 0.6, irradiance=3.0).numpy())
    low = dataclasses.replace(FIXED, pitch=(5.0, 5.0), sun_azimuth=(80.0, 80.0), sky=(0.8, 0.8), boxes=0)
    world = DTNWorld(skies=tmp_path / "dome.npy", views=low, **SMALL)
    sampler = world.sampler
    (sky,), environment, conditions = sampler.skies, sampler.environment(1), sampler.conditions(1)
    assert environment.to_sun[2] == pytest.approx(math.sin(sky.elevation))
    assert math.degrees(math.atan2(environment.to_sun[1], environment.to_sun[0])) == pytest.approx(80.0, abs=1e-4)
    assert conditions["sun_elevation"] == pytest.approx(math.degrees(sky.elevation))
    assert SUN * conditions["sun"] == pytest.approx(0.8 * float(sky.sun.mean()), rel=1e-3)
    camera, view = sampler.camera(1, world.shape), sampler.render(world.surface(), 1, world.shape, sky_rays=1)
    above = (view.depth == 0).nonzero()[0].tolist()
    fx, fy, cx, cy = camera.intrinsics.tolist()
    ray = torch.tensor([(above[1] + 0.5 - cx) / fx, (above[0] + 0.5 - cy) / fy, 1.0], dtype=torch.float64)
    direction = torch.nn.functional.normalize(camera.world_to_camera[:3, :3].T @ ray, dim=0).tolist()
    turned = math.atan2(direction[1], direction[0]) - math.radians(80.0) + sky.azimuth
    row = math.acos(direction[2]) / math.pi * 64
    column = ((0.5 - turned / (2 * math.pi)) % 1.0) * 128
    expected = 0.8 * sky.light[int(row), int(column)]
    assert torch.allclose(view.offset[above[0], above[1]], expected, rtol=0.05)
    with pytest.raises(ValueError, match=r"views\.sun: has no effect with skies"):
        DTNWorld(skies=tmp_path, views=ViewSampler(sun=(0.2, 0.3)), **SMALL)
    np.save(tmp_path / "square.npy", np.ones((4, 4, 3)))
    with pytest.raises(SceneError, match=r"skies: square\.npy: 4 x 4 pixels; expected a panorama"):
        _ = DTNWorld(skies=tmp_path / "square.npy", **SMALL).sampler


@pytest.mark.parametrize("sky", [(0.5, 1.2), (1.0, 1.0)])
def test_cells_hold_every_view_of_listed_skies_and_cameras(tmp_path: Path, sky: tuple[float, float]) -> None:
    """Suns of the files are lower, higher and brighter than `views.sun` and `views.sun_elevation` are by themselves."""
    for k, (elevation, irradiance) in enumerate([(0.1, 0.2), (0.9, 9.0), (1.5, 40.0)]):
        np.save(tmp_path / f"sky_{k}.npy", panorama(64, 2.0, elevation, irradiance=irradiance).numpy())
    cameras = poses(tmp_path, "yaw [deg],pitch [deg],distance [m]\n359,2,30\n10,80,25\n")
    for world in (
        DTNWorld(skies=tmp_path, views=ViewSampler(sky=sky), **SMALL),
        DTNWorld(cameras=cameras, views=ViewSampler(sky=sky), **SMALL),
    ):
        sampler = world.sampler
        conditions = torch.tensor([[sampler.conditions(i)[name] for name in CONDITIONS] for i in range(24)])
        for place in (0, 1):
            for name, edges in cell_edges(sampler, place).items():
                values = conditions[:, CONDITIONS.index(name)]
                assert bool(((values >= edges[0]) & (values < edges[-1])).all()), name
        # and no more than these: listed values are the bounds themselves
    assert sampler.span("yaw") == pytest.approx((10, 359)) and sampler.span("distance") == pytest.approx((25, 30))


def test_bad_files_are_named_in_a_line(tmp_path: Path) -> None:
    for text, said in (
        ("yaw [deg],pitch [deg]\n1,2\n", "cameras: poses.csv has no column 'distance'"),
        ("yaw [deg],pitch [deg],distance [m]\n1,95,4\n", "cameras: poses.csv: row 1: expected angles, pitch within"),
    ):
        with pytest.raises(SceneError, match=said):
            _ = DTNWorld(cameras=poses(tmp_path, text), **SMALL).sampler
    with pytest.raises(SceneError, match=r"cameras: .*no such file"):
        _ = DTNWorld(cameras=tmp_path / "none.json", **SMALL).sampler
    with pytest.raises(ValueError, match=r"views\.yaw: has no effect with cameras"):
        DTNWorld(cameras=poses(tmp_path), views=FIXED, **SMALL)
    with pytest.raises(ValueError, match=r"views\.boxes: has no effect"):
        DTNWorld(photographs=tmp_path, views=ViewSampler(boxes=3), **SMALL)
    with pytest.raises(SceneError, match=r"photographs: yard.png: 40 x 30 pixels; expected 64 x 48 or more"):
        _ = DTNWorld(photographs=photograph(tmp_path / "tiny", (40, 30)), **SMALL).sampler


def test_a_run_keeps_cameras_and_photographs(tmp_path: Path) -> None:
    world = DTNWorld(photographs=photograph(tmp_path / "photos"), cameras=poses(tmp_path), directory=tmp_path, **SMALL)
    kept = record(world)
    assert {Path(name).name for name in kept.inputs} >= {"poses.csv", "yard.png"}
    assert kept.data["photographs"] in {str(Path(name).parent) for name in kept.inputs}
    assert math.isclose(world.sampler.conditions(0)["distance"], 8.0)
