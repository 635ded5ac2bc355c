"""Wrong wrappings of a detector, each named in one line before hours are spent on it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from simengine.dtn.protocol import Detector, box_iou

CORNERS = "expected corners (x0, y0, x1, y1) in pixels"
REVERSED = (
    0.2  # largest share of boxes whose corners may lie in the wrong order before they are taken for another format
)
ASTRAY, FITTING = 0.05, 0.4  # mean overlap with the truth of boxes as they came, and in the order they should have


@contextlib.contextmanager
def evaluation_mode(detector: object) -> Iterator[None]:
    """Every part of a module in evaluation mode, so that no batch statistics move; afterwards each as it was found."""
    modules = list(detector.modules()) if isinstance(detector, nn.Module) else []
    found = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, training in zip(modules, found, strict=True):
            module.training = training


def check_pictures(images: torch.Tensor) -> None:
    """Encoded pictures (b, 3, h, w) with values in [0, 1].

    Raises:
        ValueError: It is no tensor, the shape is another, or a value lies outside or is not finite.
    """
    _check_tensor("images", images)
    if images.dim() != 4 or images.shape[1] != 3:
        raise ValueError(f"images: expected shape (b, 3, h, w), got {tuple(images.shape)}; channels come second")
    if not images.numel():
        return
    low, high = (float(v) for v in images.detach().aminmax())
    if not (low >= -0.01 and high <= 1.01):  # also refuses NaN
        remedy = "; divide them by 255" if high > 2 else ""
        raise ValueError(f"images: expected values in [0, 1], got {low:g}..{high:g}{remedy}")


def _check_tensor(name: str, value: object) -> None:
    """Say what to do with arrays and lists."""
    if not isinstance(value, torch.Tensor):
        remedy = "torch.stack" if isinstance(value, list | tuple) else "torch.as_tensor"
        raise ValueError(f"{name}: expected a tensor, got {type(value).__name__}; {remedy} makes one")


def check_corners(name: str, boxes: torch.Tensor, size: tuple[int, int]) -> None:
    """Boxes that look like corners in pixels.

    Args:
        name: Of the method that they come from.
        boxes: Shape (..., 4).
        size: Height and width of the pictures [pixels].

    Raises:
        ValueError: They look like middle (or corner) and size, or like shares of the picture.
    """
    boxes = boxes.detach().reshape(-1, 4)
    boxes = boxes[(boxes != 0).any(-1)]  # without what fills a batch up
    if not len(boxes):
        return
    turned = float((boxes[:, 2:] < boxes[:, :2]).any(-1).double().mean())
    if turned > REVERSED:
        raise ValueError(
            f"{name}: {100 * turned:.0f} % of the boxes have x1 < x0 or y1 < y0, {CORNERS}; "
            "turn corner and size, or middle and size, into corners"
        )
    if float(boxes.abs().max()) <= 1.5 and min(size) > 3:
        raise ValueError(f"{name}: no coordinate is above 1.5, {CORNERS}; multiply shares by width and height")


def check_truth(boxes: torch.Tensor) -> None:
    """True boxes (n, 4), of no area where there is no object.

    Raises:
        ValueError: It is no tensor, the shape is another, a value is not finite, corners lie in the wrong order, or
            they look like shares of the picture.
    """
    _check_tensor("boxes", boxes)
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"boxes: expected one of shape (4,) for each picture, (n, 4), got {tuple(boxes.shape)}; several objects of "
            "a picture go to simengine.dtn.judgement.judge"
        )
    if not bool(torch.isfinite(boxes).all()):
        raise ValueError("boxes: a true box is not finite")
    turned = (boxes[:, 2:] < boxes[:, :2]).any(-1).nonzero().flatten().tolist()
    if turned:
        raise ValueError(
            f"boxes: the true box of picture {turned[0]} is {boxes[turned[0]].tolist()}, with x1 < x0 or y1 < y0, "
            f"{CORNERS}; give no object as (0, 0, 0, 0)"
        )
    if 0 < float(boxes.abs().max() if boxes.numel() else 0) <= 1.5:
        raise ValueError(f"boxes: no coordinate is above 1.5, {CORNERS}; multiply shares by width and height")


def check_inside(boxes: torch.Tensor, size: tuple[int, int], *, first: int = 0) -> None:
    """True boxes of which some part lies in the picture.

    Args:
        boxes: Shape (n, 4), of no area where there is no object.
        size: Height and width of the pictures [pixels].
        first: Number of the first picture, for the message.

    Raises:
        ValueError: One lies outside: it was drawn on a picture of another size.
    """
    h, w = size
    beyond = (boxes[:, 0] >= w) | (boxes[:, 1] >= h) | (boxes[:, 2:] < 0).any(-1)
    if bool(beyond.any()):
        k = int(beyond.nonzero()[0])
        raise ValueError(
            f"boxes: the true box of picture {first + k} is {boxes[k].tolist()}, outside its {w} x {h} pixels; "
            "scale boxes as the pictures were scaled"
        )


def check_convention(found: torch.Tensor, truth: torch.Tensor, size: tuple[int, int]) -> None:
    """The best boxes of pictures against the truth: refused where they miss it, but fit it in another convention.

    Args:
        found: Best box of each of some pictures with the object, shape (n, 4).
        truth: True boxes of these, shape (n, 4).
        size: Height and width [pixels].

    Raises:
        ValueError: Names the convention.
    """
    if len(found) < 4:
        return
    if float(box_iou(found, truth).mean()) > ASTRAY:
        return
    h, w = size
    scale = found.new_tensor([w, h, w, h])
    middle = torch.cat([found[:, :2] - found[:, 2:] / 2, found[:, :2] + found[:, 2:] / 2], 1)
    corner = torch.cat([found[:, :2], found[:, :2] + found[:, 2:]], 1)
    others = {
        "(y0, x0, y1, x1)": found[:, [1, 0, 3, 2]],
        "corner and size": corner,
        "middle and size": middle,
        "shares of the picture": found * scale,
        "middle and size as shares of the picture": middle * scale,
    }
    for name, boxes in others.items():
        if float(box_iou(boxes, truth).mean()) >= FITTING:
            raise ValueError(f"predict: the boxes fit the truth only when read as {name}; {CORNERS}")


def checked_dense(detector: Detector, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`detector.dense(images)` in evaluation mode, refused where it is not what the protocol says.

    Raises:
        ValueError: Names what was expected and what came.
    """
    check_pictures(images)
    with evaluation_mode(detector):
        output = detector.dense(images)
    if not (isinstance(output, tuple) and len(output) == 2 and all(isinstance(v, torch.Tensor) for v in output)):
        raise ValueError(f"dense: expected a pair of tensors (boxes, scores), got {type(output).__name__}")
    boxes, scores = output
    b = len(images)
    if boxes.dim() != 3 or boxes.shape[0] != b or boxes.shape[1] == 0 or boxes.shape[2] != 4:
        raise ValueError(f"dense: expected boxes of shape ({b}, n, 4), n at least 1, got {tuple(boxes.shape)}")
    if scores.dim() != 3 or scores.shape[:2] != boxes.shape[:2] or scores.shape[2] == 0:
        raise ValueError(f"dense: expected scores of shape ({b}, {boxes.shape[1]}, classes), got {tuple(scores.shape)}")
    if not bool(torch.isfinite(boxes.detach()).all()):
        raise ValueError("dense: a box is not finite")
    check_corners("dense", boxes, (images.shape[2], images.shape[3]))
    low, high = float(scores.detach().min()), float(scores.detach().max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"dense: expected scores in [0, 1], got {low:g}..{high:g}; apply a sigmoid or softmax to them")
    return boxes, scores


def check_detector(detector: Detector, images: torch.Tensor, *, kind: int | None = None) -> None:
    """Try a detector on a few pictures before an evaluation: formats, the gradient, the class.

    Args:
        detector: Of the protocol.
        images: Encoded pictures (b, 3, h, w) that show the object.
        kind: Label of the object; None for any.

    Raises:
        ValueError: Names what is wrong.
    """
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        boxes, scores = checked_dense(detector, leaf)
        check_gradient(scores)
        score = scores if kind is None else scores[..., _column(kind, scores)]
        (slope,) = torch.autograd.grad(score.sum(), leaf, allow_unused=True)
    if slope is None or not bool((slope != 0).any()):
        raise ValueError("dense: the gradient of the scores to the pictures is 0; do not detach, round or cut them")
    if not bool(torch.isfinite(slope).all()):
        raise ValueError("dense: the gradient of the scores to the pictures is not finite")
    _check_axes(detector, images.detach(), boxes)


def check_gradient(scores: torch.Tensor) -> None:
    """Scores that hang on their pictures.

    Raises:
        ValueError: They carry no gradient, so that no attack could move them: a detector would look robust.
    """
    if not scores.requires_grad:
        raise ValueError("dense: the scores carry no gradient to the pictures; take off no_grad, detach and numpy")


def _column(kind: int, scores: torch.Tensor) -> int:
    if not 0 <= kind < scores.shape[-1]:
        raise ValueError(f"kind: expected a label of the detector, 0 to {scores.shape[-1] - 1}, got {kind}")
    return kind


def _check_axes(detector: Detector, images: torch.Tensor, boxes: torch.Tensor) -> None:
    """Show pictures twice as wide: middles beyond the lower edge, all of them inside when turned, are (y, x)."""
    wide = torch.cat([images, images], 3)
    h, w = wide.shape[2:]
    try:
        with torch.no_grad(), evaluation_mode(detector):
            dense: Any = detector.dense(wide)[0]
    except (RuntimeError, ValueError):
        return  # it takes pictures of one size only, and there is nothing to tell the axes by
    middle = (dense[..., :2] + dense[..., 2:]) / 2
    limit = middle.new_tensor([w, h])
    beyond = [float((m > limit).any(-1).double().mean()) for m in (middle, middle.flip(-1))]
    if beyond[0] > 0.2 and beyond[1] < 0.25 * beyond[0]:
        raise ValueError(f"dense: the boxes look like (y0, x0, y1, x1), {CORNERS}; swap the axes")
