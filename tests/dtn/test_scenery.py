"""Cameras of a file and photographs behind the object."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simengine.dtn.sampler import ViewSampler
from simengine.dtn.views import render_views
from simengine.scene.base import SceneError
from simengine.scene.record import record
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
