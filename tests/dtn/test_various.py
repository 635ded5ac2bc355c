"""Bodies of no particular kind: on the ground, of the sizes told, each another, all of them an object with paint."""

import torch

from simengine.dtn.bodies.various import coat, various
from simengine.dtn.sampler import ViewSampler
from simengine.dtn.views import render_views


def test_bodies_stand_on_the_ground_and_differ() -> None:
    bodies = [various(seed) for seed in range(40)]
    for body in bodies:
        low, high = body.vertices.min(0).values, body.vertices.max(0).values
        assert float(low[2]) > -1e-6 and 0.5 < float(high[2]) < 6.0
        assert 1.4 < float((high - low)[:2].max()) < 6.1
        assert bool(body.part.all()) and int(body.painted.sum()) == 1
        assert float(body.normals.norm(dim=-1).sub(1).abs().max()) < 1e-3
    assert len({len(body.faces) for body in bodies}) > 4
    assert len({float(body.roughness[body.painted]) for body in bodies}) > 15
    assert 5 < sum(float(body.reflectance[body.painted]) == 0 for body in bodies) < 25  # a third is matt


def test_coats_are_within_what_paint_is() -> None:
    looks = [coat(u, v) for u in (0.0, 0.34, 0.7, 1.0) for v in (0.0, 1.0)]
    assert looks[0] == (0.9, 0.0)
    assert all(0.02 <= rough <= 1 and 0 <= mirror <= 0.081 for rough, mirror in looks)


def test_a_body_is_seen_in_its_paint() -> None:
    views = render_views(various(3), ViewSampler(seed=2, boxes=0), range(2), (32, 32), sky_rays=1)
    assert float(views.paint.sum() / views.object.sum()) > 0.5
    assert torch.isfinite(views.gain).all() and float(views.gain.max()) > 0
