"""Several things of several classes: from a scene to labels, COCO's file, and figures of each class."""

import contextlib
import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.dtn.coco import Found, Objects, coco_precision
from simengine.dtn.judgement import by_class, judge
from simengine.dtn.sampler import ViewSampler
from simengine.fit.loop import fit
from simengine.io.annotations import Annotations, read_coco, write_coco
from simengine.io.run_directory import RunDirectory
from simengine.observe.detectors import DetectorSpec as AnyDetector
from simengine.observe.detectors import make_detector
from simengine.scene.base import SceneError
from simengine.scene.loader import resolved
from simengine.worlds.detectors.camouflage import CamouflageTraining
from simengine.worlds.detectors.pictures import numbers_of, write_labelled
from simengine.worlds.detectors.small import SmallDetector
from simengine.worlds.detectors.world import CamouflageSpec, DTNWorld, TrainedDetectorSpec

VIEWS = ViewSampler(seed=9, objects=(2, 4), distance=(9.0, 13.0), boxes=1)
WORLD = DTNWorld(size=64, train_views=6, test_views=4, sky_rays=1, views=VIEWS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several") / "run"
    out = RunDirectory.create(folder, resolved(WORLD), overwrite=False, resume=True)
    assert WORLD.run(out)["labelled"] > 12
    return folder


def test_labels_and_cocos_file_say_the_same(run: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((run / "labels.csv").read_text(encoding="utf-8"))))
    truth = read_coco(run / "labels.json")
    assert len(rows) == len(truth.boxes) and set(truth.classes.values()) == {"car", "van", "bicycle", "stop sign"}
    sides = np.array([[float(row[f"{side} [px]"]) for side in ("left", "top", "right", "bottom")] for row in rows])
    assert np.allclose(sides, truth.boxes, atol=1e-4)
    assert [row["class"] for row in rows] == [truth.classes[int(k)] for k in truth.labels]
    assert [row["image"] for row in rows] == [truth.names[k] for k in truth.picture]
    assert {"car", "van"} < {row["class"] for row in rows}
    assert all(0 <= float(row["hidden [1]"]) < 1 and float(row["away [m]"]) > 4 for row in rows)
    assert all((run / "pictures" / name).is_file() for name in truth.names)


def found_near(truth: Annotations, seed: int) -> Annotations:
    """Detections about the truth: moved, some of another class, some twice, some of nothing."""
    rng = np.random.default_rng(seed)
    place = np.repeat(np.arange(len(truth.boxes)), rng.integers(0, 3, len(truth.boxes)))
    boxes = truth.boxes[place] + rng.normal(0, 1.5, (len(place), 4))
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1)
    labels = np.where(rng.random(len(place)) < 0.8, truth.labels[place], rng.integers(1, 5, len(place)))
    scores = np.round(rng.random(len(place)), 3)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    crowd = np.zeros(len(place), dtype=bool)
    parts = {"picture": truth.picture[place], "boxes": boxes, "labels": labels, "scores": scores, "area": area}
    return dataclasses.replace(truth, **parts, crowd=crowd)


def test_figures_of_each_class_are_cocos(run: Path, tmp_path: Path) -> None:
    coco, cocoeval = (pytest.importorskip(f"pycocotools.{name}") for name in ("coco", "cocoeval"))
    truth = read_coco(run / "labels.json")
    for seed in range(8):
        write_coco(tmp_path / "found.json", found_near(truth, seed))
        a = read_coco(run / "labels.json", results=tmp_path / "found.json")
        assert a.scores is not None
        n = range(len(truth.names))
        objects = [Objects(truth.boxes[k], truth.labels[k], truth.area[k], truth.crowd[k]) for k in map(truth.of, n)]
        found = [Found(a.boxes[k], a.labels[k], a.scores[k]) for k in map(a.of, n)]
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = coco.COCO(str(run / "labels.json"))
            evaluation = cocoeval.COCOeval(theirs, theirs.loadRes(str(tmp_path / "found.json")), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        table = evaluation.eval["precision"][..., 0, 2]  # overlaps, recalls, classes
        ours = [coco_precision(found, objects, labels=[k]) for k in sorted(truth.classes)]
        for k, figures in enumerate(ours):
            for name, value in (("AP", table[..., k]), ("AP50", table[0, :, k]), ("AP75", table[5, :, k])):
                if (value > -1).all():
                    assert figures[name] == pytest.approx(value.mean(), abs=1e-6), (seed, k, name)
        whole = coco_precision(found, objects)
        assert whole["AP50"] == pytest.approx(np.nanmean([f["AP50"] for f in ours]), abs=1e-12)
        assert whole["AP50"] == pytest.approx(evaluation.stats[1], abs=1e-6)
        parts = by_class(found, objects)
        assert sum(c.objects for c in parts.values()) == len(truth.boxes)
        missed = sum(c.objects * c.missed.value for c in parts.values())
        assert missed == pytest.approx(judge(found, objects).missed.value * len(truth.boxes))


def test_a_detector_of_several_classes_is_trained_written_and_read(tmp_path: Path) -> None:
    spec = TrainedDetectorSpec(iterations=2, batch=4, width=16)
    training = SmallDetector(WORLD, spec)
    assert training.names == ("car", "van", "bicycle", "stop sign") and training.detector.classes == 4
    assert training.boxes.shape == (6, 5, 4) and int(training.labels.max()) > 0
    out = RunDirectory.create(tmp_path / "run", resolved(WORLD), overwrite=False, resume=True)
    summary = fit(training, out, progress=False).summary
    assert {"AP50", "AP", "missed", "car", "van"} <= set(summary) and summary["car"]["objects"] >= 4
    read = make_detector(AnyDetector(model=str(tmp_path / "run")), tmp_path)
    assert list(read.names) == list(training.names)
    picture = torch.rand(1, 3, 64, 64)
    assert set(read.dense(picture)[1].shape) == {1, 256, 4}
    assert (tmp_path / "run/detections.png").is_file()


def test_what_cannot_be_counted_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"views\.classes: further objects of the class 'car'"):
        CamouflageTraining(WORLD, CamouflageSpec(hardening=0))
    classes, numbers = numbers_of(("car", "van", "car"))
    assert classes == ("car", "van") and numbers.tolist() == [0, 1, 0]
    old = tmp_path / "views-00000.npz"
    np.savez(old, **{k: v for k, v in np.load(run / "views-00000.npz").items() if k != "labels"})
    out = RunDirectory.create(tmp_path / "run", resolved(WORLD), overwrite=False, resume=True)
    with pytest.raises(SceneError, match=r"views-00000.npz: rendered by an earlier version, without labels"):
        write_labelled([old], ("car",), out)
