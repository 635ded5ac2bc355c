"""Detectors, suppression, average precision and the losses of texture optimisation."""

import math

import pytest
import torch
from scipy.stats import t as student

from simengine.dtn.bodies.paints import NATURAL_PAINTS
from simengine.dtn.camouflage import (
    PaintTexture,
    augment,
    evasion_loss,
    naive_texture,
    palette_distance,
    random_texture,
    total_variation,
)
from simengine.dtn.checks import checked_dense
from simengine.dtn.detector import AbstractDetector, AnchorDetector, CentreDetector, suppress
from simengine.dtn.evaluation import DetectionTable, cells, detect, precision_gap
from simengine.dtn.protocol import Detector, box_iou
from simengine.dtn.sampler import ViewSampler
from simengine.dtn.views import ViewSet
from simengine.worlds.detectors.report import cell_edges

SMALL = [CentreDetector, AnchorDetector]


class Fixed:
    """A detector that returns what it is given."""

    def __init__(self, boxes: torch.Tensor, scores: torch.Tensor) -> None:
        self.boxes, self.scores = boxes, scores

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.boxes, self.scores

    def predict(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        return [suppress(b, s) for b, s in zip(self.boxes, self.scores, strict=True)]


def test_iou_by_hand() -> None:
    a, b = torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 1.0, 3.0, 3.0])
    assert float(box_iou(a, b)) == pytest.approx(1 / 7)
    assert float(box_iou(a, a + 5)) == 0.0


def test_suppression_keeps_the_best_of_a_class() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [0, 0, 10, 10]])
    scores = torch.tensor([[0.6, 0.0], [0.9, 0.0], [0.3, 0.0], [0.0, 0.8]])
    found = suppress(boxes, scores)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.8, 0.3])
    assert found["labels"].tolist() == [0, 1, 0]


def table(scores: list[float], ious: list[float], pictures: int) -> DetectionTable:
    return DetectionTable(torch.arange(len(scores)) % pictures, torch.tensor(scores), torch.tensor(ious), pictures)


def test_average_precision_by_hand() -> None:
    # Four objects; hits at ranks 1 and 3 of 4: precision 1 at recall 1/4, 2/3 at recall 1/2: AP = 1/4 + 2/3 * 1/4.
    found = table([0.9, 0.8, 0.7, 0.6], [0.9, 0.1, 0.8, 0.2], 4)
    assert float(found.average_precision(0.5)) == pytest.approx(0.25 + 0.25 * 2 / 3)
    assert float(found.average_precision(0.85)) == pytest.approx(0.25)
    assert found.missed().tolist() == [False, True, False, True]
    # a second hit on the same picture is a false positive
    twice = table([0.9, 0.8], [0.9, 0.9], 1)
    assert float(twice.average_precision()) == 1.0 and twice.correct(0.5).tolist() == [True, False]


def test_gap_of_a_table_to_itself_is_zero() -> None:
    found = table([0.9, 0.8, 0.7, 0.6], [0.9, 0.1, 0.8, 0.2], 4)
    gap = precision_gap(found, found)
    # that four pictures do not differ says little: the score interval of 0 of n is z^2/(n + z^2) to both sides
    z = float(student.ppf(0.975, 3))
    assert gap.value == 0.0
    assert gap.high == pytest.approx(z**2 / (4 + z**2)) and gap.low == pytest.approx(-gap.high)


def test_cells_of_one_condition_and_of_two() -> None:
    found = table([0.9, 0.8, 0.7, 0.6], [0.9, 0.1, 0.8, 0.2], 4)
    distance = (torch.tensor([1.0, 1.0, 3.0, 3.0]), (0, 2, 4, 6))
    rows = cells(found, {"distance": distance})
    assert [(name, number) for name, number, _ in rows] == [("distance 0 to 2", 2), ("distance 2 to 4", 2)]
    assert rows[0][2].value == pytest.approx(0.5)
    rows = cells(found, {"distance": distance, "pitch": (torch.tensor([5.0, 25.0, 5.0, 25.0]), (0, 20, 40))})
    assert [number for _, number, _ in rows] == [1, 1, 1, 1]
    assert rows[0][0] == "distance 0 to 2, pitch 0 to 20"
    assert [estimate.value for _, _, estimate in rows] == [1.0, 0.0, 1.0, 0.0]


def test_a_value_at_the_edge_of_two_cells_is_counted_once() -> None:
    found = table([0.9, 0.8, 0.7, 0.6], [0.9, 0.1, 0.8, 0.2], 4)
    rows = cells(found, {"distance": (torch.tensor([2.0, 2.0, 2.0, 1.0]), (1, 2, 3))})
    assert [(name, number) for name, number, _ in rows] == [("distance 1 to 2", 1), ("distance 2 to 3", 3)]


def test_a_cell_of_no_haze_is_named_so() -> None:
    edges = cell_edges(ViewSampler(haze=(0.0, 0.04)), 0)
    rows = cells(table([0.9, 0.8], [0.9, 0.9], 2), {"haze": (torch.tensor([0.0, 0.04]), edges["haze"])})
    assert [name for name, _, _ in rows] == ["haze 0", "haze 0 to 0.04"]


def test_cells_divide_the_ranges_of_a_sampler() -> None:
    """Alone: equal parts of each range, of haze and of what weather there is none or some; together: coarser."""
    sampler = ViewSampler(distance=(4.0, 12.0), pitch=(4.0, 40.0), rain=(0.0, 20.0), lamps=(10.0, 30.0))
    alone, together = cell_edges(sampler, 0), cell_edges(sampler, 1)
    assert list(alone) == ["distance", "pitch", "yaw", "sun_elevation", "sun", "sky", "haze", "rain", "lamps"]
    assert list(together) == ["distance", "pitch", "yaw", "haze"]
    assert alone["distance"] == (4, 6, 8, 10, 12 + 12e-6) and together["distance"] == (4, 8, 12 + 12e-6)
    assert alone["pitch"] == pytest.approx((4, 16, 28, 40 + 40e-6)) and alone["yaw"] == pytest.approx(
        (0, 90, 180, 270, 360 + 360e-6)
    )
    assert alone["haze"] == (0, 1e-9, 0.04 + 1e-6) and alone["rain"] == (0, 1e-9, 20 + 20e-6)
    assert alone["lamps"] == (10, 20, 30 + 30e-6)  # every view has some


def test_pictures_without_the_object_count_as_false_alarms_only() -> None:
    # Two objects found at 0.9 and 0.5; a false alarm at 0.7 in an empty picture: AP = 1/2 + 2/3 * 1/2.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 0, 0]])
    scores = torch.tensor([0.9, 0.5, 0.7]).view(3, 1, 1)
    detector = Fixed(torch.tensor([[0.0, 0, 10, 10]]).expand(3, 1, 4), scores)
    found = detect(detector, [torch.zeros(3, 3, 16, 16)], boxes)
    assert float(found.average_precision()) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert found.missed(score=0.6).tolist() == [False, True]  # of the two objects
    assert [number for _, number, _ in cells(found, {"x": (torch.tensor([0.0, 0.0, 1.0]), (0, 1, 2))})] == [2]
    assert found.part(torch.tensor([1, 2])).average_precision() == pytest.approx(0.5)


@pytest.mark.parametrize("kind", SMALL)
def test_a_picture_without_the_object_is_learned_as_empty(kind: type) -> None:
    torch.manual_seed(0)
    detector = kind(width=16)
    images = torch.rand(2, 3, 32, 32)
    optimiser = torch.optim.Adam(detector.parameters(), lr=4e-3)
    for _ in range(30):
        optimiser.zero_grad()
        loss = detector.loss(images, torch.zeros(2, 4))
        loss.backward()
        optimiser.step()
    assert torch.isfinite(loss) and all(len(found["scores"]) == 0 for found in detector.predict(images))


@pytest.mark.numeric
@pytest.mark.parametrize("kind", SMALL)
def test_a_small_detector_learns_a_few_pictures(views: ViewSet, kind: type) -> None:
    """The surest box of a picture is the object's, and the loss is a fraction of what it was.

    Not the AP of three pictures: it compares scores across pictures, and one false box among the sure ones, which
    comes and goes from step to step, costs 0.08. Measured over four seeds: mean overlaps of 0.74 and more (at the start
    0 to 0.48), losses of 1/12 and less.
    """
    detector = kind(width=16)
    assert isinstance(detector, Detector)
    images, boxes = views.picture(torch.tensor([0.45, 0.05, 0.05]).view(1, 3, 1, 1))[:3], views.boxes()[:3]
    optimiser = torch.optim.Adam(detector.parameters(), lr=4e-3)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = detector.loss(images, boxes)
        losses.append(float(loss.detach()))
        loss.backward()
        optimiser.step()
    found = detector.predict(images)
    surest = torch.stack([each["boxes"][each["scores"].argmax()] for each in found])
    assert float(box_iou(surest[:, None], boxes[:, None]).mean()) >= 0.5
    assert sum(losses[-10:]) / 10 < losses[0] / 4


@pytest.mark.parametrize("kind", SMALL)
def test_gradient_of_the_dense_scores(kind: type) -> None:
    detector = kind(width=16).double()
    images = torch.rand(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(3, 16, 16, dtype=torch.float64)
    direction = torch.rand_like(images)

    def line(t: torch.Tensor) -> torch.Tensor:
        boxes, scores = detector.dense(images.detach() + t * direction * weight)
        return scores.sum() + 1e-2 * boxes.sum()

    start = torch.zeros((), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(line, (start,), eps=1e-7, atol=1e-5)  # kinks of ReLU lie closer at a larger step


def test_augmentation_moves_the_boxes_with_the_pictures() -> None:
    # A bright rectangle on black; after the transformation its box is where it is seen. A border is a ramp as wide as
    # the scale, 0.8 to 1.2 pixels; its place by sums of samples a pixel apart is off by at most |1 - scale| / 2 = 0.1.
    torch.manual_seed(2)
    boxes = torch.tensor([[20.0, 16.0, 44.0, 40.0]]).repeat(16, 1)
    images = torch.zeros(16, 3, 64, 64)
    images[:, :, 16:40, 20:44] = 1.0
    moved, where = augment(images, boxes, brightness=0.0, contrast=0.0, shift=6.0, scale=0.2)
    for picture, box in zip(moved, where, strict=True):
        columns, rows = picture[0].mean(0), picture[0].mean(1)
        for line, low, high in ((columns, box[0], box[2]), (rows, box[1], box[3])):
            place = torch.arange(64) + 0.5
            middle, mass = float((line * place).sum() / line.sum()), float(line.sum() / line.max())
            assert abs(middle - float(low + high) / 2) < 0.1 and abs(mass - float(high - low)) < 0.2
    assert float((where - boxes).abs().amax(1).min()) > 0.1 and len(where.unique(dim=0)) == 16  # each its own
    same, still = augment(images, boxes, brightness=0.0, contrast=0.0, shift=0.0, scale=0.0)
    assert torch.equal(same, images) and torch.equal(still, boxes)
    gone = augment(images, boxes + 60.0, shift=0.0, scale=0.0)[1]
    assert float(gone.max()) <= 64.0  # cut at the edge


def test_evasion_loss_counts_only_boxes_on_the_object() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [40, 40, 50, 50]]])
    scores = torch.tensor([[[0.5], [0.9]]])
    truth, images = torch.tensor([[0.0, 0, 10, 11]]), torch.zeros(1, 3, 64, 64)
    assert float(evasion_loss(Fixed(boxes, scores), images, truth)) == pytest.approx(0.6931, abs=1e-4)  # -log(1 - 1/2)
    everywhere = evasion_loss(Fixed(boxes, scores), images, truth, overlap=0.0)
    assert float(everywhere) == pytest.approx(2.3026, abs=1e-4)  # -log(1 - 0.9)


def test_soft_evasion_weighs_scores_by_their_overlap() -> None:
    """IoU 10/11 and score .8: -log(1 - .8 w), w logistic in (10/11 - 1/2) / .1; the far box w = 1 / (1 + e^5)."""
    boxes = torch.tensor([[[0.0, 0, 10, 10], [40, 40, 50, 50]]])
    truth, images = torch.tensor([[0.0, 0, 10, 11]]), torch.zeros(1, 3, 64, 64)
    found = evasion_loss(Fixed(boxes, torch.tensor([[[0.8], [0.5]]])), images, truth, over="soft")
    near, far = 1 / (1 + math.exp(-(10 / 11 - 0.5) / 0.1)), 1 / (1 + math.exp(5))
    assert float(found) == pytest.approx(-math.log(1 - 0.8 * near) - math.log(1 - 0.5 * far), rel=1e-5)


def test_textures_and_their_penalties() -> None:
    flat = torch.tensor(NATURAL_PAINTS[0]).expand(4, 4, 3)
    assert float(total_variation(flat)) == 0.0
    assert float(palette_distance(flat, NATURAL_PAINTS)) < 0.02  # within 0.01 log 7 of zero
    assert float(palette_distance(random_texture((4, 4), 0), NATURAL_PAINTS)) > 0.02
    stripes = torch.tensor([0.0, 1.0]).repeat(2).view(1, 4, 1).expand(4, 4, 3)
    assert float(total_variation(stripes)) == 1.0
    texture = PaintTexture((8, 8), albedo=(0.1, 0.6), seed=1, spread=3.0)().detach()
    assert float(texture.min()) >= 0.1 and float(texture.max()) <= 0.6
    naive = naive_texture((32, 32), 3)
    assert naive.shape == (32, 32, 3) and len(naive.reshape(-1, 3).unique(dim=0)) in (2, 3)  # a third may lead nowhere
    assert torch.equal(naive, naive_texture((32, 32), 3))
    large = naive_texture((96, 64), 3)  # without a seam: across it as few texels change as elsewhere
    for axis in (0, 1):
        changes = (large != large.roll(1, axis)).any(-1).sum(1 - axis).float()
        assert 0 < float(changes.mean()) < 8 and float(changes[0]) <= float(changes.max())
        assert float(changes[0]) < 3 * float(changes.mean()) + 3


def test_levels_of_a_texture() -> None:
    texture = PaintTexture((8, 4), albedo=(0.2, 0.8), seed=1, levels=9)
    assert [tuple(level.shape) for level in texture.levels] == [(8, 4, 3), (4, 2, 3), (2, 1, 3)]  # until a side is odd
    start = torch.randn(8, 4, 3, generator=torch.Generator().manual_seed(1)) * 0.5  # coarser ones start at 0
    assert torch.allclose(texture(), 0.2 + 0.6 * torch.sigmoid(start))
    # one step of the sign: a texel moves by it once a level, with its whole patch
    texture.set(torch.full((8, 4, 3), 0.5))
    texture()[:4, :2].sum().backward()
    texture.climb(0.1)
    moved = torch.logit((texture().detach() - 0.2) / 0.6)
    assert torch.allclose(moved[:4, :2], torch.tensor(0.3), atol=1e-5)
    assert torch.allclose(moved[:4, 2:], torch.tensor(0.1), atol=1e-5)  # of the same patch on the coarsest level
    assert torch.allclose(moved[4:], torch.zeros(4, 4, 3), atol=1e-5)
    assert all(level.grad is None for level in texture.levels)
    worn = random_texture((8, 4), 3, albedo=(0.25, 0.7))
    texture.set(worn)  # leaves nothing on the coarser levels
    assert torch.allclose(texture(), worn, atol=1e-5)
    torch.manual_seed(0)
    texture.scatter()
    finest, *coarser = (level.detach() for level in texture.levels)
    assert float(finest.std()) > 0.7 and not any(bool(level.any()) for level in coarser)


NONSENSE = {
    "boxes of shape": (torch.zeros(1, 3), torch.zeros(1, 3, 1)),
    "n at least 1": (torch.zeros(1, 0, 4), torch.zeros(1, 0, 1)),
    "scores of shape": (torch.zeros(1, 3, 4), torch.zeros(1, 2, 1)),
    "not finite": (torch.full((1, 3, 4), float("nan")), torch.zeros(1, 3, 1)),
    r"scores in \[0, 1\]": (torch.zeros(1, 3, 4), torch.full((1, 3, 1), 7.0)),
}


@pytest.mark.parametrize("message", NONSENSE)
def test_nonsense_of_a_detector_is_named(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_dense(Fixed(*NONSENSE[message]), torch.zeros(1, 3, 32, 32))


FOUND = {"boxes": torch.zeros(1, 4), "labels": torch.zeros(1), "scores": torch.full((1,), 0.5)}
WRONG = {
    "expected a list of 2 detections, got Tensor": torch.zeros(2, 4),
    "expected a list of 2 detections, got list": [FOUND],
    "expected dicts with boxes, labels and scores": [FOUND, {"boxes": torch.zeros(1, 4)}],
    r"expected finite boxes \(k, 4\), got \(1, 5\)": [FOUND, {**FOUND, "boxes": torch.zeros(1, 5)}],
    "expected finite boxes": [FOUND, {**FOUND, "boxes": torch.full((1, 4), float("inf"))}],
    "expected tensors, got Tensor, Tensor, list": [FOUND, {**FOUND, "scores": [0.5]}],
    "expected a label for each of 1 boxes, got 2": [FOUND, {**FOUND, "labels": torch.zeros(2)}],
    r"expected scores in \[0, 1\], got 3..3": [FOUND, {**FOUND, "scores": torch.full((1,), 3.0)}],
    r"expected scores in \[0, 1\], got nan..nan": [FOUND, {**FOUND, "scores": torch.full((1,), float("nan"))}],
}


@pytest.mark.parametrize("message", WRONG)
def test_nonsense_of_predict_is_named(message: str) -> None:
    detector = Fixed(torch.zeros(0), torch.zeros(0))
    detector.predict = lambda images: WRONG[message]  # type: ignore[assignment,method-assign,return-value]
    with pytest.raises(ValueError, match=message):
        detect(detector, [torch.zeros(2, 3, 16, 16)], torch.zeros(2, 4))


def test_other_labels_are_left_out() -> None:
    boxes, scores = torch.tensor([[[0.0, 0, 8, 8], [0, 0, 8, 8]]]), torch.tensor([[[0.0, 0.9], [0.4, 0.0]]])
    detector, truth = Fixed(boxes, scores), torch.tensor([[0.0, 0, 8, 8]])
    images = [torch.zeros(1, 3, 16, 16)]
    assert detect(detector, images, truth).score.tolist() == pytest.approx([0.9, 0.4])
    assert detect(detector, images, truth, kind=0).score.tolist() == pytest.approx([0.4])
    assert detect(detector, images, truth, kind=1).missed().tolist() == [False]
    assert detect(detector, images, truth, kind=2).missed().tolist() == [True]


def test_numbers_of_pictures_and_boxes_must_agree() -> None:
    detector = Fixed(torch.zeros(1, 1, 4), torch.full((1, 1, 1), 0.5))
    for boxes in (torch.zeros(2, 4), torch.zeros(0, 4)):
        with pytest.raises(ValueError, match="boxes: expected one for every picture"):
            detect(detector, [torch.zeros(1, 3, 16, 16)], boxes)


def test_bad_textures_and_pictures_are_named() -> None:
    with pytest.raises(ValueError, match="albedo: expected two bounds in order"):
        PaintTexture(albedo=(0.5, 0.2))
    with pytest.raises(ValueError, match=r"texture: expected shape \(4, 4, 3\), got \(2, 2, 3\)"):
        PaintTexture((4, 4)).set(torch.zeros(2, 2, 3))
    with pytest.raises(ValueError, match=r"texture: expected albedos in \[0.02, 0.85\], got 1..1"):
        PaintTexture((4, 4)).set(torch.ones(4, 4, 3))
    with pytest.raises(ValueError, match=r"boxes: expected shape \(2, 4\), got \(1, 4\)"):
        augment(torch.zeros(2, 3, 8, 8), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="block: expected a divisor"):
        random_texture((4, 4), 0, block=3)
    for kind in SMALL:
        with pytest.raises(ValueError, match=r"sides that divide by 8, got \(1, 3, 20, 16\)"):
            kind(width=16).dense(torch.zeros(1, 3, 20, 16))


@pytest.mark.parametrize("kind", [CentreDetector, AnchorDetector])
def test_the_loss_of_several_objects(kind: type[AbstractDetector]) -> None:
    """One object told as a list of one, or beside empty boxes, is the same; a second one that is there counts."""
    torch.manual_seed(2)
    detector, images = kind(width=16), torch.rand(2, 3, 48, 64)
    one = torch.tensor([[8.0, 10.0, 30.0, 24.0], [0.0, 0.0, 0.0, 0.0]])
    listed = torch.stack([one, torch.zeros(2, 4)], 1)
    with torch.no_grad():
        single = detector.loss(images, one)
        torch.testing.assert_close(detector.loss(images, listed), single)
        other = torch.tensor([[[36.0, 26.0, 58.0, 40.0]], [[0.0, 0.0, 0.0, 0.0]]])
        both = detector.loss(images, torch.cat([listed[:, :1], other], 1))
        swapped = detector.loss(images, torch.cat([other, listed[:, :1]], 1))
    torch.testing.assert_close(both, swapped)
    assert abs(float(both - single)) > 1e-3
