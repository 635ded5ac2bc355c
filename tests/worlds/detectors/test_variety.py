"""What a network is trained on beyond one object, one coat and one tone curve; pictures of a run with their labels."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from simengine.cli import main
from simengine.dtn.bodies.car import car
from simengine.render.tone import ToneCurve
from simengine.worlds.detectors.network import NetworkTraining
from simengine.worlds.detectors.variety import coated, joined, random_curve, varied_views
from simengine.worlds.detectors.world import AppearanceNetworkSpec, DTNWorld

TINY = DTNWorld(size=48, train_views=4, test_views=4, sky_rays=1)


def test_coats_change_the_paint_alone() -> None:
    surface = car()
    other = coated(surface, 0.9, 0.0)
    assert torch.equal(other.roughness[~surface.painted], surface.roughness[~surface.painted])
    assert other.roughness[surface.painted].tolist() == pytest.approx([0.9])
    assert other.reflectance[surface.painted].tolist() == [0.0]


def test_curves_are_drawn_as_told() -> None:
    torch.manual_seed(0)
    kinds = Counter((curve.shoulder, curve.exposure == 1) for curve in (random_curve() for _ in range(500)))
    assert 160 < kinds["soft", True] < 240
    assert all(70 < kinds[key] < 130 for key in (("soft", False), ("aces", False), ("none", False)))


def test_half_of_the_views_are_varied_and_no_curve_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import simengine.worlds.detectors.network as module

    training = NetworkTraining(TINY, AppearanceNetworkSpec(varied=True, depth=2, crop=0))
    assert 6 <= len(training.views) <= 8
    assert int((training.views.index >= 200_000).sum()) >= 2
    seen = []
    maps = training.network.maps
    monkeypatch.setattr(training.network, "maps", lambda reference: seen.append(reference) or maps(reference))
    monkeypatch.setattr(module, "random_curve", lambda: ToneCurve(shoulder="aces"))
    torch.manual_seed(0)
    training.step()
    assert seen[0].tone is None
    torch.manual_seed(0)
    index = torch.randint(len(training.views), (4,))
    light = training.views.gain[index] * 0.5 + training.views.offset[index]
    assert torch.allclose(seen[0].picture, ToneCurve(shoulder="aces").encode(light), atol=1e-6)


def test_sets_are_joined_view_by_view() -> None:
    sets = varied_views(TINY.surface(), TINY.sampler, 3, (32, 32), sky_rays=1)
    both = joined(sets)
    assert len(both) == sum(map(len, sets)) and torch.equal(both[1:2].gain, sets[1].gain)


SCENE = """
kind = "pictures"

[pictures]
files = "views/pictures"

[detector]
architecture = "told"

[observations.labels]
type = "labelled"
file = "views/labels.csv"
score = 0.4
tolerated = 0.3

[observations.labels.columns]
image = "image"
class = "class"
box = ["left [px]", "top [px]", "right [px]", "bottom [px]"]
distance = "distance [m]"
haze = "haze [1/m]"

[test]
axes = { light = [0.5] }
"""
SCRIPT = """
import csv
import torch
import simengine as se

@se.detector("told")
def told(weights):
    class Told:
        def predict(self, images):
            k = Told.k = getattr(Told, "k", -1) + 1
            row = rows[k % len(rows)]
            box = torch.tensor([[float(row[s + " [px]"]) for s in ("left", "top", "right", "bottom")]])
            near = float(row["distance [m]"]) < 9.0
            return [{"boxes": box, "labels": torch.zeros(1), "scores": torch.tensor([0.9 if near else 0.1])}]
    with open(FILE) as file:
        rows = list(csv.DictReader(file))
    return Told()
"""


def test_the_pictures_of_a_run_are_labelled_for_any_detector(tmp_path: Path) -> None:
    """A detector that is told the boxes and sees nothing farther than 9 m: cells, worst cell and reach say so."""
    scene = tmp_path / "dtn.toml"
    scene.write_text('kind = "dtn"\nsize = 48\ntrain_views = 24\nsky_rays = 1\n[views]\nseed = 5\nboxes = 2\n')
    assert main(["run", str(scene), "--out", str(tmp_path / "views")]) == 0
    with (tmp_path / "views/labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 20 and all(float(r["left [px]"]) < float(r["right [px]"]) for r in rows)
    (tmp_path / "own.py").write_text(SCRIPT.replace("FILE", repr(str(tmp_path / "views/labels.csv"))))
    (tmp_path / "scene.toml").write_text(SCENE)
    out = tmp_path / "out"
    assert main(["predict", str(tmp_path / "scene.toml"), "--with", str(tmp_path / "own.py"), "--out", str(out)]) == 0
    told = json.loads((out / "predict.json").read_text())["observations"]["labels"]
    far = sum(float(r["distance [m]"]) >= 9 for r in rows)
    assert told["objects"] == len(rows) and told["missed"]["value"] == pytest.approx(far / len(rows))
    assert told["reach"]["tolerated"] == 0.3
    end = float(told["reach"]["distance"]["found"].split(" to ")[1])
    assert 7 < end < 12  # whole cells, none of which misses more than .3
    assert told["reach"]["distance"]["sure"] == "none"  # six objects of a cell do not show so small a rate
    with (out / "pictures/labels_cells.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert told["cells"] == len(cells)
    assert sum(int(c["objects"]) for c in cells if c["condition"] == "distance") == len(rows)
    lowest = {(c["condition"], c["from"]): float(c["low_together"]) for c in cells}
    worst = told["worst_cell"]
    assert worst["missed_at_least"] == pytest.approx(max(lowest.values()), abs=1e-5)
    assert lowest[worst["name"], f"{worst['from']:.6g}"] == max(lowest.values())
    for c in cells:
        bounds = [float(c[k]) for k in ("low_together", "low", "missed", "high", "high_together")]
        assert bounds == sorted(bounds), c
