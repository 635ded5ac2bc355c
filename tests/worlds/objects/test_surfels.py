"""Surfels from photographs by known cameras: of a ball whose pictures and outlines are known in closed form."""

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from simengine.fit.method import training_of
from simengine.fit.problem import Problem
from simengine.io.geometry.splats import read_splats, write_splats
from simengine.io.run_directory import RunDirectory
from simengine.render.camera import PinholeCamera
from simengine.render.splats import render_flat_splats
from simengine.scene import SceneError, load_scene
from simengine.scene.record import open_run
from simengine.worlds.motion.shapes import SurfelsShape, fill
from simengine.worlds.objects.hull import hull_pictures, hull_places, visual_hull
from simengine.worlds.objects.surfel_search import SurfelTraining

RADIUS, FAR, FOCAL, SIDE = 0.5, 3.0, 60.0, 40
SCENE = """
kind = "surfels"
[surfels]
box = [[-0.6, 0.6], [-0.6, 0.6], [-0.6, 0.6]]
count = 900
every = 20
[observations.photos]
type = "views"
file = "ball_*.png"
camera = { file = "cameras.json" }
background = [0.0, 0.0, 0.0]
hold_out = { files = ["ball_6.png"] }
[inference]
method = "adam"
iterations = 150
"""


def _photographs(folder: Path, finer: int = 1) -> None:
    """A ball, red above and blue below its middle, cast ray by ray from seven sides; the last between two others."""
    focal, side = finer * FOCAL, finer * SIDE
    cameras = {}
    for k, turn in enumerate([0, 60, 120, 180, 240, 300, 30]):
        t = np.radians(turn)
        back = np.array([np.sin(t), 0.0, np.cos(t)])  # from the middle to the camera
        right, down = np.array([np.cos(t), 0.0, -np.sin(t)]), np.array([0.0, -1.0, 0.0])
        rotation = np.stack([right, down, -back])
        eye = FAR * back
        u = (np.arange(side) + 0.5 - side / 2) / focal
        ray = u[None, :, None] * right + u[:, None, None] * down - back
        ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
        b = ray @ eye
        inside = b**2 - (FAR**2 - RADIUS**2)
        hit = eye + (-b - np.sqrt(np.maximum(inside, 0)))[..., None] * ray
        colour = np.where(hit[..., 1:2] > 0, [0.9, 0.3, 0.2], [0.2, 0.3, 0.9]) * (inside > 0)[..., None]
        Image.fromarray((255 * colour).round().astype(np.uint8)).save(folder / f"ball_{k}.png")
        centre = side / 2
        cameras[f"ball_{k}.png"] = {
            "K": [[focal, 0, centre], [0, focal, centre], [0, 0, 1]],
            "R": rotation.tolist(),
            "t": (-rotation @ eye).tolist(),
        }
    (folder / "cameras.json").write_text(json.dumps(cameras))
    (folder / "ball.toml").write_text(SCENE)


def _training(folder: Path, *changes: str) -> SurfelTraining:
    made = training_of(Problem(load_scene(folder / "ball.toml", changes)))
    assert isinstance(made, SurfelTraining)
    return made


def test_a_ball_from_six_sides(tmp_path: Path) -> None:
    """Recovery: a side that was held back is predicted, its outline too."""
    _photographs(tmp_path)
    training = _training(tmp_path)
    while training._count < training.num_iterations:
        training.step()
    assert 450 < len(training.cloud["positions"]) <= 900
    out: RunDirectory = open_run(tmp_path / "out", load_scene(tmp_path / "ball.toml"), overwrite=False, resume=False)
    summary = training.finish(out)
    held = summary["held out"]
    for other in summary["held out, without a fit"].values():
        assert held["PSNR [dB]"] > other["PSNR [dB]"] > 12
    assert held["PSNR [dB]"] > 25  # measured 29.9; an even colour has 9
    assert held["outline, overlap"] > 0.88  # measured .92; the hull of six sides alone is 15 % wider there: .87
    assert np.array_equal(read_splats(tmp_path / "out" / "surfels.ply")["scales"], training.cloud["scales"].numpy())
    body = SurfelsShape(file=tmp_path / "out" / "surfels.ply")  # measured .917 of the ball; .68 without
    assert fill(body, 0.03)[1].sum() == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=0.1)
    before = Problem(load_scene(tmp_path / "ball.toml")).predict()["photos"].values
    assert not before.any()  # no discs are there before a fit
    # the file is a world of its own, which shows what was found
    seen = load_scene(tmp_path / "ball.toml", [f"surfels.file={tmp_path / 'out' / 'surfels.ply'}"])
    prediction = Problem(seen).predict()["photos"]
    rms = float((prediction.values - prediction.measured.values)[prediction.measured.held_out].square().mean().sqrt())
    assert rms < 0.15


def test_discs_end_where_the_outlines_do(tmp_path: Path) -> None:
    """Verification: looked at closely, discs of a ball of 20 pixels' radius are as wide as it, and fill it."""
    _photographs(tmp_path, 2)
    training = _training(tmp_path)
    while training._count < training.num_iterations:
        training.step()
    camera = training.fitted[0].camera
    near = PinholeCamera(
        world_to_camera=camera.world_to_camera, intrinsics=4 * camera.intrinsics, width=8 * SIDE, height=8 * SIDE
    )
    covered = int((render_flat_splats(training.splats(), near)[1] > 0.5).sum())
    true = math.pi * (8 * FOCAL * RADIUS) ** 2 / (FAR**2 - RADIUS**2)
    assert covered == pytest.approx(true, rel=0.015)  # measured .993; discs of .71 pixel at least: .973
    file = tmp_path / "surfels.ply"
    write_splats(file, {name: v.numpy() for name, v in training.cloud.items()})
    volume = fill(SurfelsShape(file=file), 0.03)[1].sum()
    assert volume == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=0.1)  # measured .913


def test_the_hull_holds_the_ball(tmp_path: Path) -> None:
    """Verification: nothing of the ball is carved away, and little beside it is left where the outlines see it."""
    _photographs(tmp_path)
    training = _training(tmp_path)
    hull = visual_hull(training.fitted, training.box, 0.08)
    x = -0.6 + 1.2 / 96 * (torch.arange(96, dtype=torch.float64) + 0.5)
    r = torch.stack(torch.meshgrid(x, x, x, indexing="ij"), -1).norm(dim=-1)
    pixel = FAR / FOCAL  # at the ball
    assert bool(hull[r < RADIUS - pixel].all())
    level = (x.abs() < 0.05)[None, :, None]
    assert not bool((hull & level & (r > RADIUS / np.cos(np.pi / 6) + pixel)).any())  # a hexagon about the circle


def test_where_rays_meet_a_hull() -> None:
    """Verification: a box of cells of which the upper half is gone, from above and from the side."""
    box = torch.tensor([[-0.5, 0.5], [-0.5, 0.5], [-0.5, 0.5]], dtype=torch.float64)
    hull = torch.ones(96, 96, 96, dtype=torch.bool)
    hull[:, 48:] = False
    for eye, axis, met in (((0.0, 3.0, 0.001), 1, 0.0), ((3.0, -0.2, 0.001), 0, 0.5)):
        target = (0.0, 0.0, 0.0) if axis == 1 else (0.0, -0.2, 0.0)
        up = (0.0, 0.0, 1.0)
        camera = PinholeCamera.look_at(eye, target, up=up, fov_y=0.1, width=5, height=5, dtype=torch.float64)
        places, far = hull_places(hull, box, camera)
        assert float((places[..., axis] - met).abs().max()) < 0.5 / 96 + 1e-9
        assert torch.allclose((places - camera.position).norm(dim=-1), far)
    away = PinholeCamera.look_at((0.0, 0.3, 3.0), (0.0, 0.3, 0.0), fov_y=0.02, width=3, height=3, dtype=torch.float64)
    assert bool(hull_places(hull, box, away)[1].isinf().all())


def test_what_hides_is_not_seen_through(tmp_path: Path) -> None:
    """Photographs of one colour each, upon the hull: nothing is in the colour of a camera behind it."""
    _photographs(tmp_path)
    training = _training(tmp_path)
    colours = torch.eye(6, dtype=torch.float64)[:, :3] + 0.1  # of the cameras at 180, 240, 300 degrees .1 alike
    shots = [
        dataclasses.replace(shot, picture=torch.ones(SIDE, SIDE, 1, dtype=torch.float64) * colour)
        for shot, colour in zip(training.fitted, colours, strict=True)
    ]
    backwards = [shots[k] for k in (3, 0)]
    for order in (backwards, backwards[::-1]):
        mean, nearest = hull_pictures(training.hull, training.box, order, [shots[0].camera])[0]
        middle = (slice(SIDE // 2 - 4, SIDE // 2 + 4),) * 2
        assert torch.allclose(nearest[middle], colours[0]) and torch.allclose(mean[middle], colours[0])
        assert not bool(nearest[0].any())  # beside the ball is what is behind it
    mean, nearest = hull_pictures(training.hull, training.box, shots, [training.photographs[6].camera])[0]
    at = SIDE // 2, SIDE // 2
    assert torch.allclose(mean[at], (colours[0] + colours[1]) / 2)  # at 0 and 60 degrees, from 30
    assert torch.allclose(nearest[at], colours[0]) or torch.allclose(nearest[at], colours[1])


def test_an_interrupted_search_goes_on_bitwise(tmp_path: Path) -> None:
    _photographs(tmp_path)
    first, second = (_training(tmp_path, "surfels.every=2") for _ in range(2))
    for _ in range(3):
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        assert first.step() == second.step()
    assert all(torch.equal(v, second.cloud[name]) for name, v in first.cloud.items())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("observations.photos.compare=silhouette", "compare = photometric"),
        ("observations.photos.hold_out=true", "two photographs or more"),
        ("observations.photos.aperture=0.02", "leave aperture out"),
        ("surfels.visible=0.99", "nothing in common"),
        ("surfels.box=[[5.0, 6.0], [0.0, 1.0], [0.0, 1.0]]", "nothing in common"),
    ],
)
def test_scenes_that_cannot_be_meant(tmp_path: Path, change: str, match: str) -> None:
    _photographs(tmp_path)
    with pytest.raises(SceneError, match=match):
        _training(tmp_path, change)


def test_the_hull_is_what_some_outline_shows_and_none_excludes() -> None:
    """Cell by cell: two cameras in the box, whose pictures are random masks, that see some cells and not others."""
    generator = torch.Generator().manual_seed(0)
    box = torch.tensor([[-0.5, 0.5], [-0.3, 0.4], [0.0, 1.0]], dtype=torch.float64)
    turns = (torch.eye(3), torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]))
    shots, cells = [], 96
    for turn, shift in zip(turns, ([0.1, 0.0, -0.3], [-0.4, 0.05, 0.1]), strict=True):
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3], pose[:3, 3] = turn, torch.tensor(shift)
        camera = PinholeCamera(
            world_to_camera=pose, intrinsics=torch.tensor([9.03, 11.07, 4.013, 3.517]).double(), width=8, height=7
        )
        mask = torch.rand(7, 8, generator=generator) > 0.4
        shots.append(SimpleNamespace(camera=camera, outline=lambda visible, mask=mask: mask, mask=mask))
    found = visual_hull(shots, box, 0.1)  # type: ignore[arg-type]
    sizes = [math.ceil(float(high - low) * cells - 1e-9) for low, high in box]
    grid = np.stack(
        np.meshgrid(*[float(box[k, 0]) + (np.arange(n) + 0.5) / cells for k, n in enumerate(sizes)], indexing="ij"), -1
    )
    shown, excluded = np.zeros(grid.shape[:3], bool), np.zeros(grid.shape[:3], bool)
    for shot in shots:
        pose = shot.camera.world_to_camera.numpy()
        x, y, z = np.moveaxis(grid @ pose[:3, :3].T + pose[:3, 3], -1, 0)
        column, row = np.floor(9.03 * x / z + 4.013), np.floor(11.07 * y / z + 3.517)
        seen = (z > 0) & (column >= 0) & (column <= 7) & (row >= 0) & (row <= 6)
        inside = np.zeros_like(seen)
        inside[seen] = shot.mask.numpy()[row[seen].astype(int), column[seen].astype(int)]
        shown |= inside
        excluded |= seen & ~inside
    assert 0.02 < (shown & ~excluded).mean() < 0.9 and (~shown & ~excluded).any()
    assert (found.numpy() == (shown & ~excluded)).mean() > 0.9999  # some cell may lie on the edge of a pixel
