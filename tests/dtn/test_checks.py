"""Each wrong wrapping of a detector is named in one line; right ones pass."""

import copy

import pytest
import torch
from torch import nn

from simengine.dtn.camouflage import evasion_loss
from simengine.dtn.checks import check_detector
from simengine.dtn.detector import AnchorDetector, CentreDetector, suppress
from simengine.dtn.evaluation import detect
from simengine.worlds.detectors.camouflage import CamouflageTraining
from simengine.worlds.detectors.world import CamouflageSpec, DTNWorld, TrainedDetectorSpec

TASK = CamouflageSpec(
    detector=TrainedDetectorSpec(empty=0.5),
    rows=16,
    columns=16,
    iterations=3,
    batch=2,
    overlap=0.2,
    hardening=0,
    rendered=2,
)
SCENE = DTNWorld(size=48, train_views=4, test_views=4, sky_rays=1)


class Dark(nn.Module):
    """Boxes of 24 x 16 pixels, as sure as their middle is dark; returned in a wrong way."""

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        self.norm, self.wrong = nn.BatchNorm2d(3), wrong

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.norm(images) if self.wrong == "norm" else images
        cells = nn.functional.avg_pool2d(x.mean(1, keepdim=True), 8)
        scores = torch.sigmoid(8 * (x.mean((1, 2, 3)).view(-1, 1, 1, 1) - cells)).flatten(1)[..., None]
        rows, columns = (8.0 * torch.arange(n) + 4.0 for n in cells.shape[2:])
        y, x0 = torch.meshgrid(rows, columns, indexing="ij")
        boxes = torch.stack([x0 - 12, y - 8, x0 + 12, y + 8], -1).reshape(1, -1, 4).expand(len(images), -1, 4)
        if self.wrong == "corner and size":
            boxes = torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], -1)
        if self.wrong == "middle and size":
            boxes = torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)
        if self.wrong == "shares":
            boxes = boxes / images.shape[2]
        if self.wrong == "yxyx":
            boxes = boxes[..., [1, 0, 3, 2]]
        if self.wrong == "detached":
            scores = scores.detach()
        if self.wrong == "rounded":
            scores = scores.round()
        return boxes, scores

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        return [suppress(b, s, most=80) for b, s in zip(*self.dense(images), strict=True)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("corner and size", r"dense: \d+ % of the boxes have x1 < x0 or y1 < y0"),
        ("middle and size", r"dense: \d+ % of the boxes have x1 < x0 or y1 < y0"),
        ("shares", "dense: no coordinate is above 1.5.*multiply shares by width and height"),
        ("yxyx", r"the boxes look like \(y0, x0, y1, x1\).*swap the axes"),
        ("detached", "dense: the scores carry no gradient to the pictures"),
        ("rounded", "the gradient of the scores to the pictures is 0"),
    ],
)
def test_wrong_wrappings_are_named_before_an_evaluation(wrong: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        CamouflageTraining(SCENE, TASK, detector=Dark(wrong))
    assert "\n" not in str(caught.value)


def test_right_detectors_pass_and_are_left_as_they_were() -> None:
    images = torch.rand(2, 3, 48, 48)
    for detector in (Dark(), CentreDetector(width=16), AnchorDetector(width=16)):
        check_detector(detector, images)
    own = Dark("norm").train()
    before = copy.deepcopy(own.state_dict())
    training = CamouflageTraining(SCENE, TASK, detector=own)
    for _ in range(training.num_iterations):
        training.step()
    training.visibility("texture_0")
    assert own.training and own.norm.training and own.norm.weight.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    # nor do the functions that take a detector itself move its statistics
    detect(own, [images], torch.tensor([[10.0, 10, 40, 40]] * 2))
    evasion_loss(own, images.requires_grad_(), torch.tensor([[10.0, 10, 40, 40]] * 2), overlap=0.0).backward()
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items()) and own.norm.training


def test_a_cut_gradient_is_named_by_the_loss_itself() -> None:
    images = torch.rand(2, 3, 48, 48, requires_grad=True)
    with pytest.raises(ValueError, match="carry no gradient"):
        evasion_loss(Dark("detached"), images, torch.tensor([[10.0, 10, 40, 40]] * 2))


def test_pictures_and_truths_in_other_units() -> None:
    truth = torch.tensor([[10.0, 10, 40, 40]] * 2)
    with pytest.raises(ValueError, match=r"images: expected values in \[0, 1\], got .*divide them by 255"):
        detect(Dark(), [255 * torch.rand(2, 3, 48, 48)], truth)
    with pytest.raises(ValueError, match=r"images: expected shape \(b, 3, h, w\)"):
        detect(Dark(), [torch.rand(2, 48, 48, 3)], truth)
    with pytest.raises(ValueError, match=r"the true box of picture 1 is .*x1 < x0"):
        detect(Dark(), [torch.rand(2, 3, 48, 48)], torch.tensor([[10.0, 10, 40, 40], [40, 10, 10, 40]]))
    with pytest.raises(ValueError, match="a true box is not finite"):
        detect(Dark(), [torch.rand(2, 3, 48, 48)], truth * float("nan"))
    with pytest.raises(ValueError, match=r"boxes: no coordinate is above 1.5.*multiply shares"):
        detect(Dark(), [torch.rand(2, 3, 48, 48)], truth / 48)
    with pytest.raises(ValueError, match=r"the true box of picture 3 is .*outside its 48 x 48 pixels; scale boxes"):
        detect(Dark(), [torch.rand(2, 3, 48, 48)] * 2, torch.cat([truth, truth[:1], truth[:1] + 40]))


def test_lists_and_arrays_are_named() -> None:
    images, truth = torch.rand(2, 3, 48, 48), torch.tensor([[10.0, 10, 40, 40]] * 2)
    with pytest.raises(ValueError, match=r"boxes: expected a tensor, got list; torch.stack makes one"):
        detect(Dark(), [images], list(truth))
    with pytest.raises(ValueError, match=r"boxes: expected a tensor, got ndarray; torch.as_tensor makes one"):
        detect(Dark(), [images], truth.numpy())
    with pytest.raises(ValueError, match=r"got \(2, 3, 4\); several objects of a picture go to .*judge"):
        detect(Dark(), [images], truth[:, None].expand(-1, 3, -1))
    with pytest.raises(ValueError, match="images: expected a tensor, got ndarray"):
        detect(Dark(), [images.numpy()], truth)
    with pytest.raises(ValueError, match=r"images: expected shape \(b, 3, h, w\), got \(3, 48, 48\)"):
        detect(Dark(), [images[0]], truth[:1])


NEAR_THE_SIDE = torch.tensor([[1.0, 30, 9, 46], [2.0, 25, 14, 45], [3.0, 20, 12, 44], [0.0, 28, 10, 44]])
LARGE = torch.tensor([[20.0, 18, 42, 38], [19.0, 20, 40, 42], [21.0, 16, 44, 34], [20.0, 20, 46, 44]])


@pytest.mark.parametrize(
    ("truth", "returned", "message"),
    [
        (NEAR_THE_SIDE, NEAR_THE_SIDE[:, [1, 0, 3, 2]], r"only when read as \(y0, x0, y1, x1\)"),
        # sizes above the corner pass for corners
        (LARGE, torch.cat([LARGE[:, :2], LARGE[:, 2:] - LARGE[:, :2]], 1), "only when read as corner and size"),
    ],
)
def test_boxes_that_fit_the_truth_in_another_convention_only(
    truth: torch.Tensor, returned: torch.Tensor, message: str
) -> None:
    class Known(Dark):
        def predict(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
            return [{"boxes": b[None], "labels": torch.zeros(1), "scores": torch.ones(1)} for b in self.answer]

    detector, images = Known(), torch.rand(4, 3, 48, 48)
    detector.answer = returned
    with pytest.raises(ValueError, match=message):
        detect(detector, [images], truth)
    detector.answer = truth
    assert float(detect(detector, [images], truth).average_precision()) == pytest.approx(1.0)
    detector.answer = truth.flip(0) * 0.1 + 2  # wrong, and in no convention right
    assert float(detect(detector, [images], truth).average_precision()) == 0.0


def test_the_class_of_the_object_is_chosen() -> None:
    class Two(Dark):
        """Class 0 knows nothing; class 1 is what it was."""

        def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            boxes, scores = super().dense(images)
            return boxes, torch.cat([0 * scores + 0.55, scores], -1)

    with pytest.raises(ValueError, match="kind: expected a label of the detector, 0 to 1, got 2"):
        check_detector(Two(), torch.rand(2, 3, 48, 48), kind=2)
    images, box = torch.rand(2, 3, 48, 48), torch.tensor([[10.0, 10, 40, 40]] * 2)
    with pytest.raises(ValueError, match="the gradient of the scores to the pictures is 0"):
        check_detector(Two(), images, kind=0)
    chosen = evasion_loss(Two(), images, box, kind=1, overlap=0.0)
    assert float(chosen) == pytest.approx(float(evasion_loss(Dark(), images, box, overlap=0.0)))
    assert torch.equal(detect(Two(), [images], box, kind=1).score, detect(Dark(), [images], box).score)
    assert bool((detect(Two(), [images], box).score == 0.55).any())
