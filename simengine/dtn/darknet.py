"""Detectors of Darknet: a network's .cfg with its .weights, as YOLO 2 to 4 were published. Differentiable."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from simengine.dtn.detector import suppress
from simengine.dtn.protocol import Detections

Section = tuple[str, int, dict[str, str]]  # name, line in the file, options
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "relu": nn.ReLU,
    "mish": nn.Mish,
}
HIGHEST = 8.0  # exponent of the largest box: exp of a number that an attack drives up would overflow


class DarknetDetector(nn.Module):
    """A detector from Darknet's files.

    Layers: convolutional, maxpool, route (with groups), shortcut, upsample, yolo. The published yolov3-tiny.weights
    were trained with `mask = 1,2,3` in the second [yolo] section, where the .cfg beside them often says 0,1,2: boxes
    then come out half as large.

    Args:
        cfg: The network.
        weights: Its numbers; None leaves them random.
        threshold: Lower scores are dropped.
        overlap: Boxes that overlap a better one of their class by more (IoU) are dropped.

    Attributes:
        names: Label -> class, from a file `coco.names` or the .names of the .cfg's own name beside it; empty without.
        multiple: Sides of the pictures divide by this.

    Raises:
        ValueError: A section is not known, or the weights are too few or too many for the network.
    """

    def __init__(
        self, cfg: Path, weights: Path | None = None, *, threshold: float = 0.05, overlap: float = 0.45
    ) -> None:
        super().__init__()
        self.file: str = cfg.name
        self.threshold: float = threshold
        self.overlap: float = overlap
        self.sections = _sections(cfg)
        self.layers: nn.ModuleList = nn.ModuleList()
        channels = [3]
        for name, line, options in self.sections:
            try:
                layer, out = self._layer(name, options, channels)
            except (KeyError, ValueError, IndexError) as error:
                raise ValueError(f"{cfg.name}:{line}: [{name}]: {type(error).__name__}: {error}") from None
            self.layers.append(layer)
            channels.append(out)
        if not any(name == "yolo" for name, *_ in self.sections):
            raise ValueError(f"{cfg.name}: it has no [yolo] section, so it gives no boxes")
        steps = [int(o.get("stride", "1")) for name, _, o in self.sections if name in ("convolutional", "maxpool")]
        self.multiple: int = min(32, int(np.prod(steps)))
        if weights is not None:
            self._read(weights)
        listed = next((f for f in (cfg.with_suffix(".names"), cfg.with_name("coco.names")) if f.is_file()), None)
        lines = listed.read_text(encoding="utf-8").split("\n") if listed else []
        self.names: dict[int, str] = {k: line.strip() for k, line in enumerate(lines) if line.strip()}
        self.eval()

    def _layer(self, name: str, options: dict[str, str], channels: list[int]) -> tuple[nn.Module, int]:
        """A layer, and how many channels leave it; `channels` holds those of the picture and of all layers before."""
        last, before = channels[-1], channels[1:]
        if name == "convolutional":
            size, out, normalised = (
                int(options["size"]),
                int(options["filters"]),
                int(options.get("batch_normalize", "0")),
            )
            padding = size // 2 if int(options.get("pad", "0")) else int(options.get("padding", "0"))
            stride, groups = int(options.get("stride", "1")), int(options.get("groups", "1"))
            conv = nn.Conv2d(last, out, size, stride, padding, groups=groups, bias=not normalised)
            act = ACTIVATIONS[options.get("activation", "linear")]()
            return nn.Sequential(conv, *([nn.BatchNorm2d(out, eps=1e-5)] if normalised else []), act), out
        if name == "maxpool":
            size, stride = int(options["size"]), int(options.get("stride", "1"))
            extra = size - 1  # as Darknet: half of it before, the rest behind
            pad = nn.ConstantPad2d((extra // 2, extra - extra // 2) * 2, -torch.inf)
            return nn.Sequential(pad, nn.MaxPool2d(size, stride)), last
        if name == "route":
            share = int(options.get("groups", "1"))
            return nn.Identity(), sum(before[int(k)] for k in options["layers"].split(",")) // share
        if name == "shortcut":
            before[int(options["from"])]
            return ACTIVATIONS[options.get("activation", "linear")](), last
        if name == "upsample":
            return nn.Upsample(scale_factor=int(options["stride"]), mode="nearest"), last
        if name == "yolo":
            per_box = last // len(options["mask"].split(","))
            if per_box != 5 + int(options["classes"]):
                raise ValueError(f"expected 5 + classes numbers a box, got {per_box}")
            return nn.Identity(), last
        raise ValueError("no such layer is known")

    def _read(self, weights: Path) -> None:
        """Take the numbers of the layers one after the other; of a normalised one bias, scale, mean, variance first."""
        version = np.fromfile(weights, dtype=np.int32, count=2).tolist()
        if len(version) < 2:
            raise ValueError(
                f"{weights.name}: expected Darknet's weights, got a file of {weights.stat().st_size} bytes"
            )
        head = 5 if version[0] * 10 + version[1] >= 2 else 4  # the count of pictures seen has 64 or 32 bits
        numbers, place = torch.from_numpy(np.fromfile(weights, dtype=np.float32)), head
        for (name, *_), layer in zip(self.sections, self.layers, strict=True):
            if name != "convolutional":
                continue
            parts: Any = layer
            conv, norm = parts[0], parts[1]
            first = [norm.bias, norm.weight, norm.running_mean, norm.running_var] if conv.bias is None else [conv.bias]
            for tensor in (*first, conv.weight):
                some = numbers[place : place + tensor.numel()]
                place += tensor.numel()
                if len(some) == tensor.numel():
                    tensor.data.copy_(some.view_as(tensor))
        if place != len(numbers):
            raise ValueError(f"{weights.name}: {self.file} takes {place} numbers, but it holds {len(numbers)}")

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `simengine.dtn.protocol.Detector.dense`.

        Args:
            images: Encoded pictures in [0, 1], shape (b, 3, h, w); the sides divide by `multiple`.

        Raises:
            ValueError: They do not.
        """
        height, width = images.shape[2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(f"images: expected sides that divide by {self.multiple}, got {height} x {width}")
        x, boxes, scores = images, [], []
        kept: list[torch.Tensor] = []
        for (name, _, options), layer in zip(self.sections, self.layers, strict=True):
            if name == "route":
                x = torch.cat([kept[int(k)] for k in options["layers"].split(",")], 1)
                if "groups" in options:
                    x = x.chunk(int(options["groups"]), 1)[int(options["group_id"])]
            elif name == "shortcut":
                x = layer(x + kept[int(options["from"])])
            elif name == "yolo":
                box, score = _decoded(x, options, (height, width))
                boxes.append(box)
                scores.append(score)
            else:
                x = layer(x)
            kept.append(x)
        return torch.cat(boxes, 1), torch.cat(scores, 1)

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> list[Detections]:
        """See `simengine.dtn.protocol.Detector.predict`."""
        options = {"threshold": self.threshold, "overlap": self.overlap}
        return [suppress(b, s, most=100, candidates=1000, **options) for b, s in zip(*self.dense(images), strict=True)]


def _decoded(x: torch.Tensor, options: dict[str, str], size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (b, n, 4) and scores (b, n, classes) of a map: Redmon and Farhadi (2018), section 2.1."""
    b, _, rows, columns = x.shape
    pairs = torch.tensor([float(v) for v in options["anchors"].split(",")], dtype=x.dtype, device=x.device).view(-1, 2)
    anchors = pairs[[int(k) for k in options["mask"].split(",")]]
    v = x.view(b, len(anchors), -1, rows, columns).permute(0, 1, 3, 4, 2)
    row, column = torch.meshgrid(
        *(torch.arange(n, dtype=x.dtype, device=x.device) for n in (rows, columns)), indexing="ij"
    )
    stretch = float(options.get("scale_x_y", "1"))
    steps = x.new_tensor([size[1] / columns, size[0] / rows])
    shift = torch.sigmoid(v[..., :2]) * stretch - 0.5 * (stretch - 1)
    middle = (shift + torch.stack([column, row], -1)) * steps
    half = v[..., 2:4].clamp(max=HIGHEST).exp() * anchors[:, None, None] / 2
    score = torch.sigmoid(v[..., 4:5]) * torch.sigmoid(v[..., 5:])
    return torch.cat([middle - half, middle + half], -1).reshape(b, -1, 4), score.reshape(b, -1, score.shape[-1])


def _sections(cfg: Path) -> list[Section]:
    """Sections of a .cfg but the first, [net]."""
    sections: list[Section] = []
    for number, raw in enumerate(cfg.read_text(encoding="utf-8").split("\n"), 1):
        line = raw.split("#")[0].strip()
        if line.startswith("["):
            sections.append((line.strip("[] "), number, {}))
        elif line:
            key, equals, value = line.partition("=")
            if not equals or not sections:
                raise ValueError(f"{cfg.name}:{number}: expected [section] or key = value, got {line!r}")
            sections[-1][2][key.strip()] = value.strip()
    if not sections or sections[0][0] not in ("net", "network"):
        raise ValueError(f"{cfg.name}: expected a [net] section first; is it Darknet's .cfg?")
    return sections[1:]
