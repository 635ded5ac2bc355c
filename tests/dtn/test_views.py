"""The car, the distribution of views, and what a set of them holds."""

import dataclasses

import pytest
import torch

from simengine.dtn import views as views_module
from simengine.dtn.bodies.car import MATERIALS, car
from simengine.dtn.bodies.surroundings import surroundings
from simengine.dtn.sampler import CONDITIONS, ViewSampler
from simengine.dtn.views import ViewSet, keep_views, object_crops, render_views


def test_car_has_its_size_and_fits_its_atlas() -> None:
    body = car()
    low, high = body.vertices.min(0).values, body.vertices.max(0).values
    size = (high - low).tolist()
    assert 4.3 < size[0] < 4.6 and 1.75 < size[1] < 2.1 and 1.4 < size[2] < 1.55
    assert float(low[2]) >= 0  # on the ground
    paint = body.material == list(MATERIALS).index("paint")
    assert float(body.uv[paint].min()) >= 0 and float(body.uv[paint].max()) <= 1
    assert torch.allclose(body.normals.norm(dim=-1), torch.ones(()), atol=1e-5)
    assert 3000 < len(body.faces) < 6000
    # charts are orthogonal projections: no triangle is magnified beyond 1/6.4 a metre
    assert float(body.uv_scale[paint].max()) <= 1 / 6.4 * (1 + 1e-4)  # corners of strips 1 cm wide, in float32


def test_a_view_depends_on_seed_and_index_alone() -> None:
    body, sampler = car(), ViewSampler(seed=5)
    forward = render_views(body, sampler, [3, 4], (24, 24))
    backward = render_views(body, sampler, [4, 3], (24, 24))
    for name, value in forward.tensors().items():
        assert torch.equal(value, backward.tensors()[name].flip(0)), name
    other = render_views(body, ViewSampler(seed=6), [3], (24, 24))
    assert not torch.equal(other.gain, forward.gain[:1])


def test_views_of_two_seeds_have_nothing_in_common() -> None:
    """Each of camera, light and weather, the aim and the ground differ, whether the seeds are near or far apart."""
    for a, b in ((0, 1), (7, 8), (3, 3 + 2**32)):
        one, other = ViewSampler(seed=a), ViewSampler(seed=b)
        for index in (0, 5, 500_000):
            pair = one.conditions(index), other.conditions(index)
            assert all(abs(pair[0][name] - pair[1][name]) > 1e-9 for name in ("yaw", "pitch", "distance", "sun", "sky"))
            assert one.environment(index).ground_light != other.environment(index).ground_light
            cameras = [s.camera(index, (8, 8)) for s in (one, other)]
            assert not torch.allclose(cameras[0].rotation, cameras[1].rotation)


def test_conditions_fill_their_ranges() -> None:
    sampler = ViewSampler(yaw=(30.0, 60.0), haze=(0.0, 0.02))
    values = [sampler.conditions(i) for i in range(200)]
    yaw = [v["yaw"] for v in values]
    assert 30 <= min(yaw) < 32 and 58 < max(yaw) <= 60
    assert 0.35 < sum(v["haze"] == 0 for v in values) / 200 < 0.65


def test_masks_and_boxes(views: ViewSet) -> None:
    assert bool((views.paint <= views.object + 1e-6).all())
    assert bool((views.gain[views.paint.expand_as(views.gain) == 0] == 0).all())
    boxes = views.boxes()
    for box, cover in zip(boxes.int().tolist(), views.object[:, 0], strict=True):
        inside = cover[box[1] : box[3], box[0] : box[2]]
        assert int((inside >= 0.5).sum()) == int((cover >= 0.5).sum())
        for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
            assert float(edge.max()) >= 0.5  # no smaller box holds it


def test_views_without_the_object_show_its_surroundings() -> None:
    sampler = ViewSampler(seed=5, boxes=6)
    empty = render_views(None, sampler, range(6), (32, 32))
    whole = render_views(car(), sampler, range(6), (32, 32))
    assert empty.object.numel() == empty.gain.numel() == 0
    assert torch.equal(empty.picture(torch.ones(1, 3, 1, 1)), empty.tone.encode(empty.offset))
    # far from the object and its shadow both show the same; how much of a picture that is hangs on the camera
    same = (empty.offset - whole.offset).abs().amax(1)[whole.object[:, 0] == 0] < 1e-3
    assert float(same.float().mean()) > 0.35  # 0.49 to 0.6 over six seeds
    with pytest.raises(ValueError, match=r"needs other bodies to show, got 0; set views.boxes"):
        render_views(None, ViewSampler(boxes=0), [0], (16, 16))


def test_crops_hold_the_object(views: ViewSet) -> None:
    crops = object_crops(views, 48)
    assert crops.size == (48, 48) and len(crops) == len(views)
    for k, (x0, y0, x1, y1) in enumerate(views.boxes().int().tolist()):
        if x1 - x0 <= 47 and y1 - y0 <= 47:
            inside, whole = (int((v.object[k] >= 0.5).sum()) for v in (crops, views))
            assert inside == whole
    with pytest.raises(ValueError, match="side: expected 1 to 64 pixels, got 65"):
        object_crops(views, 65)


def test_bad_input_is_named(views: ViewSet) -> None:
    with pytest.raises(ValueError, match="distance: expected more than 0 m"):
        ViewSampler(distance=(0.0, 4.0))
    with pytest.raises(ValueError, match="boxes: expected a number of other bodies, 0 or more, got -1"):
        ViewSampler(boxes=-1)
    with pytest.raises(ValueError, match="fov: expected an angle"):
        ViewSampler(fov=180.0)
    with pytest.raises(ValueError, match="yaw"):
        ViewSampler(yaw=(10.0, 5.0))
    bare = {name: value.clone() for name, value in views.tensors().items()}
    bare["object"][1] = 0
    with pytest.raises(ValueError, match=r"object: views \[1\] show none"):
        ViewSet(**bare).boxes()
    with pytest.raises(ValueError, match=r"paint: expected a shape like \(12, 3, 64, 64\), or 1, got \(5, 3, 1, 1\)"):
        views.picture(torch.zeros(5, 3, 1, 1))
    assert views[:1].picture(torch.zeros(5, 3, 1, 1)).shape == (5, 3, 64, 64)  # five paints of one view


def test_large_sets_lie_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits; views without the object keep one buffer; those that are dropped leave no copy behind."""
    sampler = ViewSampler(seed=5, boxes=1)
    whole = render_views(car(), sampler, range(3), (32, 32), sky_rays=1)
    monkeypatch.setattr(views_module, "IN_MEMORY", 0)
    in_file = render_views(car(), sampler, range(3), (32, 32), sky_rays=1)
    assert all(torch.equal(value, in_file.tensors()[name]) for name, value in whole.tensors().items())
    empty = render_views(None, sampler, [0], (32, 32), sky_rays=1)
    assert (
        empty.size == (32, 32)
        and sum(v.numel() for v in empty.tensors().values()) == 3 * 32 * 32 + 3 + len(CONDITIONS) + 1 + 8
    )  # of labels
    kept = keep_views(in_file, torch.tensor([True, False, True]))
    assert all(torch.equal(value[[0, 2]], kept.tensors()[name]) for name, value in whole.tensors().items())
    assert kept.gain.data_ptr() == in_file.gain.data_ptr()


def test_cameras_and_surroundings_follow_the_size_of_the_object() -> None:
    body = car()
    fitted = ViewSampler(seed=5).fitted(body)
    unfitted = ViewSampler(seed=5)
    for index in range(3):  # before it is fitted, a sampler is that of the car that ships
        a, b = (s.camera(index, (32, 32)).position for s in (fitted, unfitted))
        assert torch.allclose(a, b, atol=0.2)
    assert fitted.aim == pytest.approx(0.73, abs=0.01) and fitted.reach == pytest.approx(2.3, abs=0.1)
    large = dataclasses.replace(body, vertices=10 * body.vertices)
    sampler = ViewSampler(seed=5, haze=(0.0, 0.0), boxes=9)
    shares = [render_views(b, sampler, range(3), (48, 48), sky_rays=1).object.mean((1, 2, 3)) for b in (body, large)]
    assert torch.allclose(*shares, rtol=0.05)  # ten times as large and as far away: as large in the picture
    around = surroundings(4, number=9, away_from=0.3, reach=sampler.fitted(large).reach or 0.0)
    assert float(around.vertices[:, :2].norm(dim=-1).min()) > 10 * 2.3  # none sticks in the object
    with pytest.raises(ValueError, match="outside the object"):
        ViewSampler(distance=(6.0, 14.0)).fitted(large)
