"""Formats of other libraries' detectors, by stand-ins that return them; none of the libraries is needed."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from simengine.dtn.adapters import (
    DETRDetector,
    LibraryDetector,
    TorchvisionDetector,
    TwoStageDetector,
    UltralyticsDetector,
)
from simengine.dtn.camouflage import evasion_loss
from simengine.dtn.checks import checked_dense
from simengine.dtn.dense_loss import dense_loss, generalised_iou
from simengine.dtn.protocol import Detector, box_iou

IMAGES = torch.full((2, 3, 40, 80), 0.5)


class Yolo(nn.Module):
    """One box about (20, 10), 8 x 4 pixels, whose scores depend on the picture."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        score = images.mean((1, 2, 3))
        columns = [torch.full_like(score, v) for v in (20.0, 10.0, 8.0, 4.0)] + [score, 0.5 * score]
        return torch.stack(columns, 1)[..., None], []


class Detr(nn.Module):
    def forward(self, *, pixel_values: torch.Tensor) -> SimpleNamespace:
        b = len(pixel_values)
        logits = torch.stack([pixel_values.mean((1, 2, 3)), torch.zeros(b), torch.zeros(b)], -1)[:, None]
        return SimpleNamespace(logits=logits, pred_boxes=torch.tensor([0.25, 0.25, 0.1, 0.1]).expand(b, 1, 4))


class Coder:
    """torchvision's box coder: corrections (dx, dy, dw, dh) of a box's middle and log size, with weights.

    `decode_single` takes (n, 4) and (n, 4); `decode` takes (n, 4 k) and a list of boxes, and gives (n, k, 4).
    """

    def __init__(self, weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)) -> None:
        self.weights = torch.tensor(weights)

    def decode_single(self, codes: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        size = boxes[:, 2:] - boxes[:, :2]
        middle = boxes[:, :2] + 0.5 * size
        d = codes.reshape(len(codes), -1, 4) / self.weights
        middle = middle[:, None] + d[..., :2] * size[:, None]
        half = 0.5 * size[:, None] * d[..., 2:].clamp(max=4.135).exp()
        return torch.cat([middle - half, middle + half], -1).reshape(len(codes), -1)

    def decode(self, codes: torch.Tensor, boxes: list[torch.Tensor]) -> torch.Tensor:
        return self.decode_single(codes, torch.cat(boxes)).reshape(len(codes), -1, 4)


class Retina(nn.Module):
    """What is used of torchvision's RetinaNet: two levels of features one after the other, one anchor a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = SimpleNamespace(image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5])
        self.box_coder = Coder()

    def backbone(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"0": nn.functional.avg_pool2d(x, 8), "p6": nn.functional.avg_pool2d(x, 40)}

    def head(self, features: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        flat = torch.cat([level.flatten(2).transpose(1, 2) for level in features], 1)
        shift = torch.tensor([0.25, 0.25, 0.0, 0.0]).expand(*flat.shape[:2], 4)
        falling = -0.01 * torch.arange(flat.shape[1])[:, None]  # the first cell is the surest
        return {"cls_logits": flat[..., :2] + falling, "bbox_regression": shift}

    def anchor_generator(self, images: SimpleNamespace, features: list[torch.Tensor]) -> list[torch.Tensor]:
        assert images.image_sizes == [(40, 80)] * 2 and images.tensors.shape == (2, 3, 40, 80)
        anchors = []
        for level, side in zip(features, (8.0, 40.0), strict=True):
            y, x = torch.meshgrid(*(torch.arange(n) * side for n in level.shape[2:]), indexing="ij")
            anchors.append(torch.stack([x, y, x + side, y + side], -1).reshape(-1, 4))
        return [torch.cat(anchors)] * len(images.image_sizes)


class FasterRCNN(nn.Module):
    """What is used of torchvision's Faster R-CNN: 2 proposals in the first picture, 1 in the second, 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = SimpleNamespace(image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5])
        box = torch.tensor([[0.0, 0.0, 8.0, 8.0], [16.0, 8.0, 24.0, 16.0]])
        self.rpn = lambda images, features: ([box, box[:1]], {})
        self.roi_heads = SimpleNamespace(
            box_roi_pool=lambda features, proposals, sizes: torch.cat(
                [features["0"][k, :, 0, 0].expand(len(p), -1) for k, p in enumerate(proposals)]
            ),
            box_head=lambda pooled: pooled,
            # class 2 of 3 (0 is the background) wins; only its box is shifted, by half a width to the right
            box_predictor=lambda x: (
                torch.stack([0 * x[:, 0], x[:, 0], x[:, 0] + torch.log(torch.tensor(2.0))], -1),
                torch.tensor([0.0] * 8 + [5.0, 0.0, 0.0, 0.0]).expand(len(x), 12),
            ),
            box_coder=Coder((10.0, 10.0, 5.0, 5.0)),
        )

    def backbone(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"0": nn.functional.avg_pool2d(x, 8)}


EXPECTED = {
    "ultralytics": (UltralyticsDetector(Yolo()), [16.0, 8.0, 24.0, 12.0], [0.5, 0.25]),
    # logits ((0.5 - mean)/std averaged, 0 and 0 for no object): the softmax of three without the last
    "detr": (DETRDetector(Detr(), mean=(0.5,) * 3, std=(1.0,) * 3), [16.0, 8.0, 24.0, 12.0], [1 / 3, 1 / 3]),
    "torchvision": (TorchvisionDetector(Retina()), [2.0, 2.0, 10.0, 10.0], [0.5, 0.5]),
    # logits 0, 0, log 2 -> softmax 1/4, 1/4, 1/2; the first is the background, whose label stays in its place
    "two-stage": (TwoStageDetector(FasterRCNN()), [4.0, 0.0, 12.0, 8.0], [0.0, 0.25, 0.5]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_format(name: str) -> None:
    detector, box, scores = EXPECTED[name]
    assert isinstance(detector, Detector)
    found, values = checked_dense(detector, IMAGES)
    assert found[0, 0].tolist() == pytest.approx(box)
    assert values[0, 0].tolist() == pytest.approx(scores)
    best = detector.predict(IMAGES)[1]
    assert best["boxes"][0].tolist() == pytest.approx(box)
    assert scores[int(best["labels"][0])] == max(scores)


def test_levels_and_pictures_with_few_proposals() -> None:
    boxes, scores = checked_dense(EXPECTED["torchvision"][0], IMAGES)
    assert boxes.shape == (2, 5 * 10 + 2, 4) and scores.shape == (2, 52, 2)
    assert boxes[0, 50].tolist() == [10.0, 10.0, 50.0, 40.0]  # a quarter of 40 further on, cut at the lower edge
    boxes, scores = checked_dense(EXPECTED["two-stage"][0], IMAGES)
    assert boxes[0, 1].tolist() == [20.0, 8.0, 28.0, 16.0]
    assert boxes[1, 1].tolist() == [0.0] * 4 and scores[1, 1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_gradient_reaches_the_picture(name: str) -> None:
    detector, box, _ = EXPECTED[name]
    images = IMAGES.clone().requires_grad_()
    evasion_loss(detector, images, torch.tensor([box, box])).backward()
    assert images.grad is not None and float(images.grad.sum()) > 0  # brighter pictures score higher in all three


def test_wrong_models_are_named() -> None:
    with pytest.raises(TypeError, match="no attribute 'transform'"):
        TorchvisionDetector(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="no attribute 'rpn'"):
        TwoStageDetector(Retina())
    with pytest.raises(ValueError, match=r"raw output of shape \(2, 4 \+ classes, n\)"):
        UltralyticsDetector(nn.Identity()).dense(IMAGES)

    class Wrong(nn.Module):
        def forward(self, *, pixel_values: torch.Tensor) -> torch.Tensor:
            return pixel_values

    with pytest.raises(ValueError, match="logits and pred_boxes"):
        DETRDetector(Wrong()).dense(IMAGES)


class Normed(nn.Module):
    """A box as sure as a batch norm of the picture says, of a model that is still in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = torch.sigmoid(self.norm(images).mean((1, 2, 3)))
        return torch.stack([torch.full_like(score, v) for v in (20.0, 10.0, 8.0, 4.0)] + [score], 1)[..., None]


def test_evaluation_leaves_the_model_as_it_was() -> None:
    model = Normed().train()
    detector = UltralyticsDetector(model)
    score = detector.predict(IMAGES)[0]["scores"][0]
    # statistics of a fresh norm are mean 0 and variance 1, not those of the batch, which would give 0.5
    assert float(score) == pytest.approx(float(torch.sigmoid(torch.tensor(0.5))), abs=1e-5)
    assert float(model.norm.running_mean.abs().max()) == 0.0
    assert model.training and model.norm.training and model.norm.weight.requires_grad


class FCOS(Retina):
    """A linear coder without `decode_single`, and centre-ness."""

    def __init__(self) -> None:
        super().__init__()
        # distances from the middle to the four sides, in units of the anchor
        self.box_coder = SimpleNamespace(
            decode=lambda d, a: torch.cat([(a[:, :2] + a[:, 2:]) / 2] * 2, 1) + d * 8 * torch.tensor([-1, -1, 1, 1])
        )

    def head(self, features: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        output = super().head(features)
        return {**output, "bbox_ctrness": torch.full_like(output["cls_logits"][..., :1], math.log(1 / 3))}


def test_fcos_counts_its_centre_ness() -> None:
    boxes, scores = checked_dense(TorchvisionDetector(FCOS()), IMAGES)
    assert boxes[0, 0].tolist() == [2.0, 2.0, 4.0, 4.0]  # a quarter of 8 to the left and above; none on the other sides
    assert float(scores[0, 0, 0]) == pytest.approx(math.sqrt(0.5 * 0.25))


def test_boxes_end_at_the_edge_of_the_picture() -> None:
    class Wide(Yolo):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
            raw, rest = super().forward(images)
            return raw * torch.tensor([1.0, 1.0, 100.0, 2.0, 1.0, 1.0]).view(1, 6, 1), rest

    assert UltralyticsDetector(Wide()).predict(IMAGES)[0]["boxes"][0].tolist() == [0.0, 6.0, 80.0, 14.0]


def test_options_of_suppression() -> None:
    detector = TorchvisionDetector(Retina())
    assert len(detector.predict(IMAGES)[0]["scores"]) == 100  # the most, of 104: 52 boxes of two labels
    detector.threshold = 0.4
    assert len(detector.predict(IMAGES)[0]["scores"]) == 82  # sigmoid(-0.01 k) above 0.4: k up to 40
    detector.threshold, detector.overlap = 0.05, 0.001
    assert (
        len(detector.predict(IMAGES)[0]["scores"]) == 100
    )  # without the two large boxes, which the small ones overlap
    detector.most = 1
    assert detector.predict(IMAGES)[0]["labels"].tolist() == [0]


def test_a_box_of_ultralytics_keeps_its_best_label() -> None:
    """As the library's own `predict`; one without suppression says corners, score and label itself."""
    found = UltralyticsDetector(Yolo()).predict(IMAGES)[0]
    assert found["labels"].tolist() == [0] and found["scores"].tolist() == [0.5]

    class Final(Yolo):
        names = ("a", "b", "c")

        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Sequential(nn.Identity())
            self.model[0].end2end = True  # type: ignore[assignment]

        def forward(self, images: torch.Tensor) -> object:  # type: ignore[override]
            score = images.mean((1, 2, 3))
            columns = [torch.full_like(score, v) for v in (16.0, 8.0, 24.0, 12.0)] + [score, torch.full_like(score, 2)]
            return torch.stack(columns, 1)[:, None], []

    images = IMAGES.clone().requires_grad_()
    boxes, scores = checked_dense(UltralyticsDetector(Final()), images)
    assert boxes[0, 0].tolist() == [16.0, 8.0, 24.0, 12.0] and scores[0, 0].tolist() == [0.0, 0.0, 0.5]
    scores.sum().backward()
    assert images.grad is not None and float(images.grad.sum()) == pytest.approx(2.0)
    assert UltralyticsDetector(Final()).predict(IMAGES)[0]["labels"].tolist() == [2]


def test_models_of_ultralytics_as_they_come() -> None:
    class Segment(Yolo):
        names = ("a", "b")

        def forward(self, images: torch.Tensor) -> object:  # type: ignore[override]
            raw, rest = super().forward(images)
            return ((torch.cat([raw, torch.full_like(raw[:, :3], 9.0)], 1), torch.zeros(2, 3, 4, 4)), rest)

    class Command(nn.Module):
        predictor, overrides = None, {"task": "detect"}

        def __init__(self) -> None:
            super().__init__()
            self.model = Yolo()

    class Turned(Yolo):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Sequential(nn.Identity())
            self.model[0].ne = 1  # type: ignore[assignment]
            self.names = ("a", "b")

        def forward(self, images: torch.Tensor) -> object:  # type: ignore[override]
            raw, rest = super().forward(images)
            return raw[:, :, :6].expand(-1, -1, 6), rest

    for model in (Segment(), Command()):
        _, scores = checked_dense(UltralyticsDetector(model), IMAGES)
        assert scores[0, 0].tolist() == [0.5, 0.25]
    turned = Turned()
    with pytest.raises(ValueError, match="expected 7 numbers of a box, got 6"):
        UltralyticsDetector(turned).dense(IMAGES)
    turned.model[0].end2end = True  # type: ignore[assignment]
    with pytest.raises(ValueError, match="turned boxes"):
        UltralyticsDetector(turned).dense(IMAGES)
    model = Yolo()
    model.stride = torch.tensor([8.0, 32.0])
    with pytest.raises(ValueError, match="sides that divide by 32 for this model, got 40 x 80"):
        UltralyticsDetector(model).dense(IMAGES)


class _Trained(nn.Module):
    """Speaks as torchvision's detectors do: losses of targets in training, detections else."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: list[torch.Tensor], targets: list[dict[str, torch.Tensor]] | None = None) -> object:
        x = self.norm(torch.stack(images))
        if not self.training:
            empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0), "scores": torch.zeros(0)}
            return [empty for _ in images]
        assert targets is not None
        self.seen = targets
        return {"class": self.scale * x.mean(), "box": self.scale * sum(t["boxes"].sum() for t in targets)}


def test_a_library_detector_is_trained_by_the_librarys_own_loss() -> None:
    """Boxes without area are no targets, labels are the class, batch statistics and modes stay as they were."""
    model = _Trained().eval()
    detector = LibraryDetector(model, kind=3)
    boxes = torch.tensor([[1.0, 2.0, 5.0, 6.0], [0.0, 0.0, 0.0, 0.0]])
    loss = detector.loss(torch.rand(2, 3, 8, 8), boxes)
    loss.backward()
    assert float(model.norm.running_mean.abs().max()) == 0 and not model.training and not model.norm.training
    assert [t["labels"].tolist() for t in model.seen] == [[3], []] and model.seen[1]["boxes"].shape == (0, 4)
    assert model.scale.grad is not None and float(loss.detach()) == pytest.approx(14.0, abs=1.0)
    assert detector.predict(torch.rand(2, 3, 8, 8))[0]["boxes"].shape == (0, 4)


def test_generalised_overlap_by_hand() -> None:
    """Squares of side 1 at the same place, side by side, and one side apart: 1, 0 - 0, and 0 - 1/3."""
    here = torch.tensor([0.0, 0.0, 1.0, 1.0])
    moved = here + torch.tensor([[0.0], [1.0], [2.0]]) * torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert generalised_iou(here, moved).tolist() == pytest.approx([1.0, 0.0, -1 / 3])


def test_the_loss_of_dense_boxes_by_hand() -> None:
    """One box is the object with a score of 1/2, one is elsewhere with 0.2; then a picture without an object."""
    found = torch.tensor([[[0.0, 0.0, 4.0, 4.0], [8.0, 8.0, 12.0, 12.0]]])
    scores = torch.tensor([[0.5, 0.2]])
    elsewhere = -0.75 * 0.2**2 * math.log(0.8)
    seen = dense_loss(found, scores, torch.tensor([[0.0, 0.0, 4.0, 4.0]]))
    assert float(seen) == pytest.approx(-math.log(0.5) + elsewhere, rel=1e-5)
    empty = dense_loss(found, scores, torch.zeros(1, 4))
    assert float(empty) == pytest.approx(-0.75 * 0.5**2 * math.log(0.5) + elsewhere, rel=1e-5)


class Learner(nn.Module):
    """As ultralytics' models: eight boxes, the same in every picture, whose scores hang on its brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes = nn.Parameter(torch.rand(8, 4) * 10 + torch.tensor([15.0, 10.0, 10.0, 10.0]))
        self.slope, self.level = nn.Parameter(torch.zeros(8)), nn.Parameter(torch.zeros(8))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = torch.sigmoid(self.slope * images.mean((1, 2, 3))[:, None] + self.level)
        return torch.cat([self.boxes.T.expand(len(images), 4, 8), score[:, None]], 1)


def test_any_adapter_is_trained_by_its_dense_boxes() -> None:
    """Bright pictures show an object, dark ones none; the loss finds its box, and tells the two apart."""
    detector = UltralyticsDetector(Learner())
    images = torch.tensor([0.9, 0.1]).view(2, 1, 1, 1).expand(2, 3, 40, 80)
    boxes = torch.tensor([[12.0, 8.0, 30.0, 26.0], [0.0, 0.0, 0.0, 0.0]])
    optimiser = torch.optim.Adam(detector.parameters(), 0.3)
    for _ in range(150):
        optimiser.zero_grad()
        detector.loss(images, boxes).backward()
        optimiser.step()
    bright, dark = detector.predict(images)
    assert float(box_iou(bright["boxes"][0], boxes[0])) > 0.9 and float(bright["scores"][0]) > 0.8
    assert float(bright["scores"][1:].max().nan_to_num() if len(bright["scores"]) > 1 else 0.0) < 0.2
    assert not len(dark["scores"]) or float(dark["scores"].max()) < 0.2


def test_a_model_of_several_classes_is_told_which_one_to_learn() -> None:
    detector = UltralyticsDetector(Yolo())
    with pytest.raises(ValueError, match="kind: the model has 2 classes; set kind to the label of the object"):
        detector.loss(IMAGES, torch.zeros(2, 4))
    detector.kind = 1
    box = torch.tensor([[16.0, 8.0, 24.0, 12.0]]).expand(2, 4)  # its own, with a score of 0.25 for class 1
    assert float(detector.loss(IMAGES, box)) == pytest.approx(-math.log(0.25), rel=1e-5)
