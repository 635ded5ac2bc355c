"""Figures of a table of one object a picture, against those of lists of boxes, which pycocotools has checked."""

import numpy as np
import pytest
import torch

from simengine.dtn.coco import Found, Objects, coco_precision
from simengine.dtn.detector import box_iou
from simengine.dtn.errors import picture_errors
from simengine.dtn.evaluation import DetectionTable, coco_average_precision, error_kinds


@pytest.mark.parametrize("seed", range(4))
def test_cocos_precision_and_kinds_of_errors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, objects, rows = [], [], []
    for k in range(15):
        low = rng.uniform(0, 40, 2)
        truth = np.array([[*low, *(low + rng.uniform(15, 40, 2))]])
        empty = k % 5 == 4
        number = int(rng.integers(0, 4))
        boxes = truth + rng.normal(0, 5, (number, 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = rng.permutation(40)[:number] / 40 + k * 1e-4  # no two alike
        found.append(Found(boxes, np.zeros(number, dtype=int), scores))
        objects.append(Objects(truth[: 0 if empty else 1], np.zeros(0 if empty else 1, dtype=int)))
        iou = box_iou(torch.from_numpy(boxes), torch.from_numpy(truth[0])) * (0.0 if empty else 1.0)
        rows += [(k, float(s), float(o)) for s, o in zip(scores, iou, strict=True)]
    rows.sort(key=lambda row: -row[1])
    picture, score, iou = (torch.tensor(column) for column in zip(*rows, strict=True))
    shown = torch.tensor([bool(len(o.labels)) for o in objects])
    table = DetectionTable(picture, score, iou, len(objects), shown)
    assert coco_average_precision(table).value == pytest.approx(coco_precision(found, objects)["AP"], abs=1e-6)
    errors = [picture_errors(f, o) for f, o in zip(found, objects, strict=True)]
    expected = {n: sum(int((e.kind == n).sum()) for e in errors) for n in ("loose", "duplicate", "alarm")}
    expected["missed"] = sum(int(e.missed.sum()) for e in errors)
    assert error_kinds(table) == expected
