"""Turned boxes: overlap against closed forms and another algorithm, average precision, files."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.dtn.coco import Found, Objects, coco_precision, overlaps
from simengine.dtn.turned.boxes import (
    gaussian_overlap,
    hull_of,
    regular,
    suppress_turned,
    turned_corners,
    turned_iou,
    turned_of,
)
from simengine.dtn.turned.reference import turned_iou_reference
from simengine.io.annotations import read_yolo, write_yolo

QUARTER = math.pi / 4


def boxes(number: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs that overlap more or less [pixels]."""
    torch.manual_seed(seed)
    first, second = (
        torch.cat(
            [3000 + 40 * torch.rand(number, 2), 5 + 60 * torch.rand(number, 2), 7 * torch.rand(number, 1)], 1
        ).double()
        for _ in range(2)
    )
    return first, second


def test_parity_with_clipping_side_by_side() -> None:
    a, b = boxes(400)
    ours, reference = turned_iou(a, b), turned_iou_reference(a, b)
    assert 0.05 < float(reference.mean()) < 0.6
    assert torch.allclose(ours, reference, atol=1e-11)
    assert torch.allclose(turned_iou(a.float(), b.float()).double(), reference, atol=1e-4)  # float32 of 3,000 px


def test_closed_forms() -> None:
    def iou(*pair: list[float]) -> float:
        a, b = torch.tensor(pair, dtype=torch.float64)
        return float(turned_iou(a, b))

    octagon = 8 * (math.sqrt(2) - 1)  # common part of a square of side 2 and of itself turned by 45 degrees
    assert iou([3, 4, 2, 2, 0.3], [3, 4, 2, 2, 0.3 + QUARTER]) == pytest.approx(octagon / (8 - octagon), abs=1e-12)
    assert iou([0, 0, 4, 1, 0.0], [0, 0, 4, 1, math.pi / 2]) == pytest.approx(1 / 7, abs=1e-12)  # a cross
    assert iou([0, 0, 4, 2, 0.7], [0, 0, 2, 1, 0.7]) == pytest.approx(0.25, abs=1e-12)  # one in the other
    assert iou([0, 0, 4, 2, 0.7], [0, 0, 2, 4, 0.7 - math.pi / 2]) == pytest.approx(1.0, abs=1e-12)  # the same
    assert iou([0, 0, 2, 2, 0.0], [5, 0, 2, 2, 0.4]) == 0.0
    assert iou([0, 0, 2, 2, 0.0], [2, 0, 2, 2, 0.0]) == pytest.approx(0.0, abs=1e-12)  # they touch


def test_gradcheck() -> None:
    a, b = boxes(12, seed=3)
    assert torch.autograd.gradcheck(turned_iou, (a.requires_grad_(), b.requires_grad_()))


def test_a_box_is_found_again_from_its_corners() -> None:
    a, _ = boxes(50)
    assert torch.allclose(turned_iou(turned_of(turned_corners(a)), a), torch.ones(50).double())
    angles = regular(a)[:, 4]
    assert torch.allclose(turned_iou(regular(a), a), torch.ones(50).double())
    assert float(angles.min()) >= 0 and float(angles.max()) < math.pi / 2
    low, high = turned_corners(a).amin(1), turned_corners(a).amax(1)
    assert torch.equal(hull_of(a), torch.cat([low, high], 1))


def test_overlap_of_gaussians_in_one_dimension() -> None:
    """Closed form: equal shapes d apart have Bhattacharyya's coefficient exp(-d^2 / (8 s^2)), s^2 = w^2 / 12."""
    a = torch.tensor([0.0, 0.0, 6.0, 2.0, 0.4]).double()
    step = torch.tensor([math.cos(0.4), math.sin(0.4), 0, 0, 0]).double()
    expected = 1 - math.sqrt(1 - math.exp(-(2.5**2) / (8 * 36 / 12)))
    assert float(gaussian_overlap(a, a + 2.5 * step)) == pytest.approx(expected, abs=1e-7)


def test_suppression_keeps_the_best_of_a_heap_and_other_classes() -> None:
    one = torch.tensor([50.0, 50.0, 40.0, 10.0, 0.5])
    heap = torch.stack([one, one + torch.tensor([1.0, 0, 0, 0, 0]), one + torch.tensor([0, 0, 0, 0, 1.5]), one])
    scores = torch.tensor([[0.8, 0.0], [0.9, 0.0], [0.7, 0.0], [0.0, 0.6]])
    kept = suppress_turned(heap, scores, threshold=0.1, overlap=0.7, most=10, candidates=10)
    assert kept["scores"].tolist() == pytest.approx([0.9, 0.7, 0.6]) and kept["labels"].tolist() == [0, 0, 1]
    assert kept["turned"].shape == (3, 5) and torch.equal(kept["boxes"], hull_of(kept["turned"]))


def test_precision_tells_turned_boxes_apart_that_upright_ones_do_not() -> None:
    """Two crossed needles: their upright boxes are the same, so upright AP is 1 however they are mixed up."""
    needle = np.array([[50.0, 50.0, 60.0, 6.0, QUARTER]])
    other = np.array([[50.0, 50.0, 60.0, 6.0, -QUARTER]])
    label, score = np.zeros(1, dtype=int), np.array([0.9])
    upright = [hull_of(torch.from_numpy(box)).numpy() for box in (needle, other)]
    assert coco_precision([Found(upright[1], label, score)], [Objects(upright[0], label)])["AP"] == 1.0
    assert coco_precision([Found(other, label, score)], [Objects(needle, label)])["AP50"] == 0.0
    figures = coco_precision([Found(needle, label, score)], [Objects(needle, label)])
    assert figures["AP"] == 1.0 and figures["AP_small"] == 1.0  # 360 square pixels; its upright box has 2,178


def test_with_an_angle_of_zero_it_is_the_upright_one() -> None:
    random = np.random.default_rng(4)
    low = random.uniform(0, 80, (30, 2))
    upright = np.concatenate([low, low + random.uniform(5, 40, (30, 2))], 1)
    turned = np.concatenate(
        [(upright[:, :2] + upright[:, 2:]) / 2, upright[:, 2:] - upright[:, :2], np.zeros((30, 1))], 1
    )
    crowd = np.arange(20) % 3 == 0
    expected = overlaps(upright[:10], upright[10:], crowd)
    assert np.allclose(overlaps(turned[:10], turned[10:], crowd), expected, atol=1e-12) and expected.max() > 0.3
    with pytest.raises(ValueError, match="turned ones and upright ones do not compare"):
        overlaps(turned[:2], upright[:3], crowd[:3])
    with pytest.raises(ValueError, match="expected finite turned boxes"):
        Objects(np.array([[0.0, 0, -1, 2, 0]]), np.zeros(1, dtype=int))


def test_files_of_oriented_boxes_come_back(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.txt").write_text("2 0.1 0.1 0.3 0.2 0.25 0.4 0.05 0.3\n0 0.5 0.5 0.6 0.5 0.6 0.7 0.5 0.7\n")
    read = read_yolo(tmp_path / "a", {"one": (100, 200), "two": (50, 50)})
    assert read.corners is not None and read.labels.tolist() == [2, 0] and read.scores is None
    assert np.allclose(read.corners[0], [[20, 10], [60, 20], [50, 40], [10, 30]])
    assert np.allclose(read.boxes[1], [100, 50, 120, 70]) and read.area[1] == pytest.approx(400)
    again = read_yolo(write_yolo(tmp_path / "b", read), {"one": (100, 200), "two": (50, 50)})
    assert again.corners is not None and np.allclose(again.corners, read.corners)
    turned = turned_of(torch.from_numpy(read.corners))
    assert turned[1].tolist()[:2] == pytest.approx([110, 60])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.1 0.1 0.2 0.2 0.3 0.3", r"line 1: expected .* or four corners"),
        ("0 0.1 0.1 1.4 0.2 0.25 0.4 0.05 0.3", r"line 1: expected shares of the picture"),
        ("0 0.5 0.5 0.1 0.1\n0 0.1 0.1 0.3 0.2 0.25 0.4 0.05 0.3", "some lines have four corners"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "one.txt").write_text(line + "\n")
    with pytest.raises(ValueError, match=said):
        read_yolo(tmp_path, {"one": (100, 200)})
