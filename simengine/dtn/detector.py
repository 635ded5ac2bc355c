"""Two small detectors that train here in minutes; see `simengine.dtn.protocol` for what is asked of any."""

import abc

import torch
from torch import nn

from simengine.dtn.protocol import Detections, box_iou


def suppress(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    *,
    threshold: float = 0.05,
    overlap: float = 0.5,
    most: int = 20,
    candidates: int = 300,
) -> Detections:
    """Greedy non-maximum suppression of one picture, by class.

    Args:
        boxes: Shape (n, 4), or (n, classes, 4) where each class has a box of its own.
        scores: Shape (n, classes).
        threshold: Lower scores are dropped.
        overlap: Boxes that overlap a better one of their class by more (IoU) are dropped.
        most: Largest number kept.
        candidates: Number of the best among which is suppressed.
    """
    index, label = (scores > threshold).nonzero(as_tuple=True)
    value = scores[index, label]
    order = value.argsort(descending=True, stable=True)[:candidates]
    box = boxes[index][order] if boxes.dim() == 2 else boxes[index, label][order]
    label, value = label[order], value[order]
    overlaps = (box_iou(box[:, None], box[None]) > overlap) & (label[:, None] == label[None])
    kept: list[int] = []
    gone = torch.zeros(len(box), dtype=torch.bool, device=box.device)
    for k in range(len(box)):
        if not gone[k]:
            kept.append(k)
            if len(kept) == most:
                break
            gone |= overlaps[k]
    return {"boxes": box[kept], "labels": label[kept], "scores": value[kept]}


class AbstractDetector(nn.Module, abc.ABC):
    """A small detector; sub-classes give `dense` and a training loss.

    Attributes:
        classes: Their number.
    """

    classes: int

    @abc.abstractmethod
    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `simengine.dtn.protocol.Detector.dense`."""

    @abc.abstractmethod
    def loss(self, images: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Training loss.

        Args:
            images: Encoded pictures, shape (b, 3, h, w).
            boxes: Of one thing [pixels], shape (b, 4), or of several, (b, k, 4); no area for none.
            labels: Their classes, shape (b, k), integers; 0 if None.
        """

    def _ones_of(self, boxes: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """Class of each box as 0 and 1, shape (b, k, classes); all 0 where there is no box."""
        label = boxes.new_zeros(boxes.shape[:2], dtype=torch.long) if labels is None else labels.long()
        return nn.functional.one_hot(label.clamp(min=0), self.classes).to(boxes) * shown(boxes)[..., None]

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> list[Detections]:
        """See `simengine.dtn.protocol.Detector.predict`."""
        boxes, scores = self.dense(images)
        return [suppress(b, s) for b, s in zip(boxes, scores, strict=True)]


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first: nn.Conv2d = nn.Conv2d(channels, channels, 3, padding=1)
        self.second: nn.Conv2d = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm: nn.Module = nn.GroupNorm(8, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.norm(self.second(torch.relu(self.first(x)))))


class _Backbone(nn.Module):
    """Features at strides 4 and 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem: nn.Sequential = nn.Sequential(
            nn.Conv2d(3, width // 2, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, 2, 1),
            nn.ReLU(),
        )
        self.fine: _Residual = _Residual(width)
        self.down: nn.Conv2d = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.coarse: nn.Sequential = nn.Sequential(
            _Residual(2 * width), nn.Conv2d(2 * width, 2 * width, 3, 1, 2, dilation=2), nn.ReLU()
        )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fine = self.fine(self.stem(images - 0.5))
        return fine, self.coarse(torch.relu(self.down(fine)))


def _cells(h: int, w: int, stride: int, like: torch.Tensor) -> torch.Tensor:
    """Middles (x, y) of the cells [pixels], shape (h w, 2), row by row."""
    y, x = torch.meshgrid(*(torch.arange(n, device=like.device) for n in (h, w)), indexing="ij")
    return ((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride).to(like)


def shown(boxes: torch.Tensor) -> torch.Tensor:
    """Which boxes (..., 4) have an area; those without stand for pictures that show no object."""
    return (boxes[..., 2:] > boxes[..., :2]).all(-1)


def _check_size(images: torch.Tensor) -> None:
    if images.dim() != 4 or images.shape[1] != 3 or images.shape[2] % 8 or images.shape[3] % 8:
        raise ValueError(f"images: expected shape (b, 3, h, w) with sides that divide by 8, got {tuple(images.shape)}")


def focal_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Penalty-reduced focal loss (Law and Deng, CornerNet, eq. 1; alpha 2, beta 4) over the number of peaks."""
    p = torch.sigmoid(logits)
    peak = (target == 1).to(p.dtype)
    positive = (1 - p) ** 2 * nn.functional.logsigmoid(logits) * peak
    negative = (1 - target) ** 4 * p**2 * nn.functional.logsigmoid(-logits) * (1 - peak)
    return -(positive + negative).sum() / peak.sum().clamp(min=1)


class CentreDetector(AbstractDetector):
    """Anchor-free: a heat map of centres at stride 4, with size and offset (Zhou et al., Objects as Points, 2019).

    Args:
        width: Channels at stride 4, divisible by 8.
        classes: Their number.
    """

    stride = 4

    def __init__(self, *, width: int = 32, classes: int = 1) -> None:
        super().__init__()
        self.classes = classes
        self.backbone: _Backbone = _Backbone(width)
        self.join: nn.Conv2d = nn.Conv2d(3 * width, width, 3, padding=1)
        self.head: nn.Sequential = nn.Sequential(_Residual(width), nn.Conv2d(width, classes + 4, 1))
        nn.init.constant_(self.head[-1].bias[:classes], -3.0)  # type: ignore[index]

    def _maps(self, images: torch.Tensor) -> torch.Tensor:
        _check_size(images)
        fine, coarse = self.backbone(images)
        coarse = nn.functional.interpolate(coarse, scale_factor=2.0)
        return self.head(torch.relu(self.join(torch.cat([fine, coarse], 1))))

    def _boxes(self, maps: torch.Tensor) -> torch.Tensor:
        """Boxes of all cells, shape (b, h w, 4)."""
        values = maps[:, self.classes :].flatten(2).transpose(1, 2)
        centre = _cells(maps.shape[2], maps.shape[3], self.stride, maps) + self.stride * values[..., :2]
        half = 8.0 * torch.exp(values[..., 2:].clamp(-4, 4))
        return torch.cat([centre - half, centre + half], -1)

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `simengine.dtn.protocol.Detector.dense`; one box a cell."""
        maps = self._maps(images)
        return self._boxes(maps), torch.sigmoid(maps[:, : self.classes]).flatten(2).transpose(1, 2)

    def loss(self, images: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Focal loss of the heat maps plus L1 of centre and log size at and about the centre."""
        maps = self._maps(images)
        h, w = maps.shape[2:]
        boxes = boxes.unsqueeze(1) if boxes.ndim == 2 else boxes
        present = shown(boxes).to(maps.dtype)  # (b, k)
        kind = self._ones_of(boxes, labels).to(maps.dtype)  # (b, k, classes)
        centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, ((boxes[..., 2:] - boxes[..., :2]) / 2).clamp(min=0.5)
        cells = _cells(h, w, self.stride, maps)
        column = (centre[..., 0] / self.stride).long().clamp(0, w - 1)
        row = (centre[..., 1] / self.stride).long().clamp(0, h - 1)
        peak = row * w + column
        sigma = (half / 3).clamp(min=self.stride / 2)
        away = (cells - cells[peak][:, :, None]) / sigma[:, :, None]  # (b, k, h w, 2)
        each = torch.exp(-(away**2).sum(-1) / 2) * present[..., None]
        gauss, own = each.max(1)  # the object that a cell belongs to
        heat = (each[:, :, None] * kind[..., None]).amax(1)  # (b, classes, h w)
        peaks = peak[:, None].expand(-1, self.classes, -1)
        heat = heat.scatter_reduce(2, peaks, kind.transpose(1, 2), reduce="amax")
        values = maps.flatten(2).transpose(1, 2)
        near = gauss * (gauss > 0.4)
        picked = own[..., None].expand(-1, -1, 2)
        offset = (centre.gather(1, picked) - cells) / self.stride
        target = torch.cat([offset, torch.log(half / 8.0).gather(1, picked)], -1)
        error = (values[..., self.classes :] - target).abs() * values.new_tensor([0.5, 0.5, 2.0, 2.0])
        return focal_loss(values[..., : self.classes], heat.transpose(1, 2)) + (
            error.sum(-1) * near
        ).sum() / near.sum().clamp(min=1.0)


ANCHORS = ((20.0, 14.0), (34.0, 20.0), (34.0, 34.0), (56.0, 30.0))  # width, height [pixels]


class AnchorDetector(AbstractDetector):
    """Anchor-based: four boxes a cell at stride 8, each with scores and a correction (Liu et al., SSD, 2016).

    Args:
        width: Channels at stride 4, divisible by 8.
        classes: Their number.
    """

    stride = 8

    def __init__(self, *, width: int = 32, classes: int = 1) -> None:
        super().__init__()
        self.classes = classes
        self.backbone: _Backbone = _Backbone(width)
        channels = (classes + 4) * len(ANCHORS)
        self.head: nn.Sequential = nn.Sequential(_Residual(2 * width), nn.Conv2d(2 * width, channels, 1))
        bias = self.head[-1].bias.data.view(len(ANCHORS), -1)  # type: ignore[operator]
        bias[:, :classes] = -3.0

    def _values(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and corrections (b, n, classes + 4), and anchors (n, 4) as centre and size."""
        _check_size(images)
        maps = self.head(self.backbone(images)[1])
        b, _, h, w = maps.shape
        cells = _cells(h, w, self.stride, maps)
        sizes = maps.new_tensor(ANCHORS)
        anchors = torch.cat([cells.repeat(len(sizes), 1), sizes.repeat_interleave(len(cells), 0)], 1)
        values = maps.view(b, len(ANCHORS), -1, h * w).transpose(2, 3)
        return values.reshape(b, -1, self.classes + 4), anchors

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `simengine.dtn.protocol.Detector.dense`; four boxes a cell."""
        values, anchors = self._values(images)
        scores, shifts = values.split([self.classes, 4], -1)
        centre = anchors[:, :2] + anchors[:, 2:] * shifts[..., :2]
        half = anchors[:, 2:] / 2 * torch.exp(shifts[..., 2:].clamp(-3, 3))
        return torch.cat([centre - half, centre + half], -1), torch.sigmoid(scores)

    def loss(self, images: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Focal loss of the scores plus L1 of the corrections of the anchors that overlap the object."""
        values, anchors = self._values(images)
        corners = torch.cat([anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], 1)
        boxes = boxes.unsqueeze(1) if boxes.ndim == 2 else boxes
        each = box_iou(corners, boxes[:, :, None])  # (b, k, n)
        best = each.max(2, keepdim=True).values
        right = ((each >= 0.5) | (each == best)) & shown(boxes)[..., None]
        positive = right.any(1)
        own = each.argmax(1)  # the object that an anchor belongs to
        kind = self._ones_of(boxes, labels)[:, :, None] > 0  # (b, k, 1, classes)
        near = ((each > 0.35)[..., None] & kind).any(1)
        target = torch.where((right[..., None] & kind).any(1), 1.0, torch.where(near, 0.7, 0.0))  # (b, n, classes)
        mine = boxes.gather(1, own[..., None].expand(-1, -1, 4))
        centre = (mine[..., :2] + mine[..., 2:]) / 2
        size = (mine[..., 2:] - mine[..., :2]).clamp(min=1.0)
        wanted = torch.cat([(centre - anchors[:, :2]) / anchors[:, 2:], torch.log(size / anchors[:, 2:])], -1)
        error = ((values[..., self.classes :] - wanted).abs().sum(-1) * positive).sum() / positive.sum().clamp(min=1)
        return focal_loss(values[..., : self.classes], target) + 2.0 * error
