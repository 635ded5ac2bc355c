"""Several labelled things in a view: none stands in another, and their labels are what is seen of them."""

import dataclasses
import math

import pytest
import torch

from simengine.dtn.bodies.car import car
from simengine.dtn.bodies.labels import COLUMNS, NOWHERE, boxes_of, label_view, samples_alone
from simengine.dtn.bodies.traffic import CLASSES, Footprint, footprint, overlapping, placed
from simengine.dtn.detector import AbstractDetector, AnchorDetector, CentreDetector
from simengine.dtn.protocol import box_iou
from simengine.dtn.sampler import ViewSampler
from simengine.dtn.views import object_crops, render_views
from simengine.ops.light.ray_scene import Environment, RaySurface
from simengine.ops.light.raycast import raycast
from simengine.render.camera import PinholeCamera

STREET = ViewSampler(seed=4, objects=(3, 6), distance=(9.0, 14.0), boxes=2)


def test_a_thing_alone_is_cast_in_its_own_part_of_the_picture() -> None:
    """As many samples show it as in the whole picture: before the camera, at its edge, and about the camera."""
    body = car()
    for eye, target in (
        ((6.0, 5.0, 2.0), (0.0, 0.0, 0.7)),
        ((5.0, -4.0, 2.0), (2.5, 3.0, 0.5)),
        ((0.2, 0.1, 0.8), (9.0, 0.0, 1)),
    ):
        camera = PinholeCamera.look_at(eye, target, up=(0.0, 0.0, 1.0), width=40, height=32)
        whole = raycast(body, NOWHERE, camera.world_to_camera, camera.intrinsics, (32, 40), samples=2, sky_rays=0)
        expected = int((whole.instance > 0).sum())
        assert samples_alone(body, camera, (32, 40), 2) == expected > 50
    away = PinholeCamera.look_at((9.0, 0.0, 1.0), (30.0, 0.0, 1.0), up=(0.0, 0.0, 1.0), width=40, height=32)
    assert samples_alone(body, away, (32, 40), 2) == 0


def test_footprints_meet_where_they_share_a_point() -> None:
    square = Footprint(0.0, 0.0, (1.0, 1.0), 0.0)
    assert not square.meets(Footprint(2.3, 0.0, (1.0, 1.0), 0.0))
    # turned by 45 degrees its corner reaches sqrt 2 = 1.414
    assert square.meets(Footprint(2.3, 0.0, (1.0, 1.0), math.pi / 4))
    assert not square.meets(Footprint(1.8, 1.8, (1.0, 1.0), math.pi / 4))  # its corners point along the axes
    assert overlapping([square, square]) and not overlapping([square])


def test_nothing_stands_in_another_and_all_stand_on_the_ground() -> None:
    body, counts = car(), []
    sampler = STREET.fitted(body)
    for index in range(12):
        things = sampler.things(body, index)
        prints = [footprint(surface) for _, surface in things]  # of boxes along x and y, which hold the turned ones
        lows = [float(surface.vertices[:, 2].min()) for _, surface in things]
        assert all(-0.02 < low < 0.2 for low in lows)
        counts.append(len(things) - 1)
        # two sets of corners: each thing's hull in space has no point within the others' rectangles on the ground
        for k, (_, surface) in enumerate(things):
            for m, (_, other) in enumerate(things):
                if k < m and prints[k].meets(prints[m]):
                    near = torch.cdist(surface.vertices[:, :2], other.vertices[:, :2]).min()
                    assert float(near) > 0.1, index
    assert min(counts) >= 2 and max(counts) == 6  # where there is no room, fewer
    again = sampler.things(body, 3)
    assert all(
        torch.equal(a.vertices, b.vertices) for (_, a), (_, b) in zip(again, sampler.things(body, 3), strict=True)
    )
    only = dataclasses.replace(sampler, classes=("bicycle",)).things(body, 3)
    assert {kind for kind, _ in only} == {0, 1}


def plate(x: float, half: float, *, y: tuple[float, float], instance: int = 1) -> RaySurface:
    """A square of the plane at x, from z = 0 to 2 `half`."""
    low, high = y
    corners = [[x, low, 0.0], [x, high, 0.0], [x, high, 2 * half], [x, low, 2 * half]]
    one = torch.ones(1)
    return RaySurface(
        vertices=torch.tensor(corners),
        faces=torch.tensor([[0, 1, 2], [0, 2, 3]]),
        material=torch.zeros(2, dtype=torch.long),
        albedo=torch.ones(1, 3),
        roughness=one,
        reflectance=0 * one,
        painted=one == 0,
        part=one == 0,
        instance=torch.tensor([instance]),
    )


def test_labels_are_what_is_seen() -> None:
    """A plate at 100 m, of which one at 50 m hides a quarter: its right half in the picture, up to half its height."""
    far, near = plate(0.0, 2.0, y=(-2.0, 2.0)), plate(50.0, 0.5, y=(0.0, 1.0))
    camera = PinholeCamera.look_at(
        (100.0, 0.0, 0.0), (0.0, 0.0, 0.0), up=(0.0, 0.0, 1.0), width=96, height=96, fov_y=0.1
    )
    pose = camera.world_to_camera, camera.intrinsics
    view = raycast(far.joined(near), Environment(ground=False), *pose, (96, 96), samples=2, sky_rays=0)
    labels = label_view(view.instance, [(0, far), (3, near)], camera, rows=4)
    named = [dict(zip(COLUMNS, row.tolist(), strict=True)) for row in labels]
    assert [row["class"] for row in named] == [0, 3, -1, -1]
    f = 48 / math.tan(0.05)  # pixels of 1 m at 1 m
    first = [48 - f * 0.02, 48 - f * 0.04, 48 + f * 0.02, 48]
    assert labels[0, :4].tolist() == pytest.approx(first, abs=0.5)  # samples lie half a pixel apart
    # y grows to the right where one looks along -x with z up
    assert labels[1, :4].tolist() == pytest.approx([48, 48 - f * 0.02, 48 + f * 0.02, 48], abs=0.5)
    assert named[0]["hidden"] == pytest.approx(0.25, abs=0.02) and named[1]["hidden"] == 0.0
    area = (f * 0.04) ** 2
    assert named[0]["pixels"] == pytest.approx(0.75 * area, rel=0.03)
    assert named[0]["away"] == pytest.approx(math.hypot(100, 2), rel=1e-3)
    assert boxes_of(labels)[2:].abs().sum() == 0
    behind = label_view(view.instance * 0, [(0, far)], camera, rows=1)
    assert float(behind[0, 4]) == -1


def test_views_hold_their_labels() -> None:
    views = render_views(car(), STREET, range(3), (48, 48), sky_rays=0)
    assert views.labels is not None and views.labels.shape == (3, 7, 8)
    own = views.labels[:, 0, :4]
    assert float((own - views.boxes()).abs().max()) <= 1.0  # of samples beside that of pixels half covered
    assert views[1:].labels is not None and torch.equal(views[1:].labels, views.labels[1:])
    assert object_crops(views, 32).labels is None  # they would be of the whole pictures
    kinds = views.labels[..., 4][views.labels[..., 4] > 0]
    assert len(kinds) > 4 and int(kinds.max()) <= len(CLASSES)
    alone = render_views(car(), dataclasses.replace(STREET, objects=(0, 0)), range(1), (16, 16), sky_rays=0)
    assert alone.labels is not None and alone.labels.shape == (1, 1, 8)


def test_of_a_sign_the_plate_is_labelled_and_not_its_pole() -> None:
    sign = CLASSES["stop sign"]((0.3, 0.3, 0.3))
    camera = PinholeCamera.look_at((8.0, 0.0, 1.5), (0.0, 0.0, 1.5), up=(0.0, 0.0, 1.0), width=96, height=96, fov_y=0.5)
    view = raycast(sign, Environment(ground=False), camera.world_to_camera, camera.intrinsics, (96, 96), sky_rays=0)
    box = label_view(view.instance, [(4, sign)], camera, rows=1)[0, :4]
    f = 48 / math.tan(0.25) / 8.0  # pixels of 1 m
    plate = [48 - f * 0.375, 48 - f * (2.2 + 0.375 - 1.5), 48 + f * 0.375, 48 - f * (2.2 - 0.375 - 1.5)]
    assert box.tolist() == pytest.approx(plate, abs=0.7)
    assert all(bool((CLASSES[name]((0.1,) * 3).instances == 1).any()) for name in CLASSES)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"objects: expected two numbers in order, 0 or more, got \(3, 1\)"):
        ViewSampler(objects=(3, 1))
    with pytest.raises(ValueError, match=r"classes: expected some of car, van, bicycle, stop sign, got \['tram'\]"):
        ViewSampler(classes=("car", "tram"))


def test_a_turned_surface_keeps_its_size() -> None:
    body = CLASSES["van"]((0.5, 0.5, 0.5))
    moved = placed(body, 3.0, -2.0, 0.7)
    at = footprint(body, x=3.0, y=-2.0, yaw=0.7)
    edges = [(s.triangles[:, 1] - s.triangles[:, 0]).norm(dim=-1) for s in (body, moved)]
    assert torch.allclose(edges[0], edges[1], atol=1e-5)
    c, s = math.cos(0.7), math.sin(0.7)
    away = moved.vertices[:, :2] - torch.tensor([at.x, at.y])
    along = away @ torch.tensor([[c, -s], [s, c]])
    assert torch.allclose(along.abs().max(0).values, torch.tensor(at.half), atol=1e-4)


@pytest.mark.parametrize("kind", [CentreDetector, AnchorDetector])
def test_several_classes_are_learned_apart(kind: type[AbstractDetector]) -> None:
    """A red, a green and a blue block in a picture: each is found as its own class, at its place."""
    torch.manual_seed(0)
    images, boxes = (
        torch.full((1, 3, 48, 48), 0.3),
        torch.tensor([[[4, 4, 24, 20], [26, 8, 46, 22], [10, 28, 32, 44.0]]]),
    )
    for k, (x0, y0, x1, y1) in enumerate(boxes[0].int().tolist()):
        images[0, k, y0:y1, x0:x1] = 1.0
    detector: AbstractDetector = kind(width=16, classes=3)  # type: ignore[call-arg]
    padded, labels = torch.cat([boxes, torch.zeros(1, 1, 4)], 1), torch.tensor([[0, 1, 2, 0]])
    optimiser = torch.optim.Adam(detector.parameters(), 4e-3)
    for _ in range(100):
        optimiser.zero_grad()
        detector.loss(images, padded, labels).backward()
        optimiser.step()
    (found,) = detector.predict(images)
    best = [int(found["scores"].where(found["labels"] == k, torch.tensor(-1.0)).argmax()) for k in range(3)]
    assert float(found["scores"][best].min()) > 0.5
    assert float((found["boxes"][best] - boxes[0]).abs().max()) < 4.0
    # whatever is found surely is of the class of the block that it overlaps most, if loosely
    near = box_iou(found["boxes"][:, None], boxes[0][None]).argmax(1)
    assert bool((near == found["labels"])[found["scores"] > 0.4].all())
