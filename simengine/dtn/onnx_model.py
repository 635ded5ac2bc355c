"""A detector in an ONNX file, for evaluation: onnxruntime gives boxes, and no gradient to attack or harden with."""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simengine.dtn.adapters.base import corners
from simengine.dtn.detector import suppress
from simengine.dtn.protocol import Detections

END_TO_END = 1000  # no more rows than these: boxes after suppression


class ONNXDetector:
    """Pictures of any size in a model's own: scaled to its fixed input, if it has one, by the letterbox around it.

    Outputs that are known: `boxes`, `labels` and `scores` (torchvision's export); rows of centre, size and a score for
    each class, (1, 4 + classes, n) (YOLO 8 and later) or with an objectness before them, (1, n, 5 + classes) (YOLO 5);
    rows of corners, score and label, (1, n, 6) (YOLO 10 and later). Their pixels are those of the input.

    Args:
        file: The .onnx file.
        threshold: Lower scores are dropped.
        overlap: Boxes that overlap a better one of their class by more (IoU) are dropped, where the model has not.

    Attributes:
        names: Label -> class, as ultralytics writes them into the file; empty without.
        side: Longest side of its input [pixels]; None where it takes any.
        multiple: Sides of the input divide by this.

    Raises:
        ValueError: The file is not read, or its input is not one batch of coloured pictures.
        ImportError: onnxruntime is not installed.
    """

    def __init__(self, file: Path, *, threshold: float = 0.05, overlap: float = 0.5) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self.session: Any = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own kinds, which it does not export
            raise ValueError(f"{file.name}: onnxruntime cannot read it: {str(error).splitlines()[0]}") from None
        inputs = self.session.get_inputs()
        shape = inputs[0].shape if inputs else []
        if len(inputs) != 1 or len(shape) != 4 or shape[1] not in (3, "channels", None):
            told = ", ".join(f"{one.name} {one.shape}" for one in inputs)
            raise ValueError(f"{file.name}: expected one input of pictures (batch, 3, height, width), got {told}")
        if inputs[0].type not in TYPES:
            raise ValueError(f"{file.name}: expected pictures of {' or '.join(TYPES)}, got {inputs[0].type}")
        self.input: Any = inputs[0].name
        self.type: Any = TYPES[inputs[0].type]
        fixed = [n for n in shape[2:] if isinstance(n, int)]
        if len(fixed) == 2 and fixed[0] != fixed[1]:
            raise ValueError(
                f"{file.name}: its input is {fixed[0]} x {fixed[1]}; export it with a square one, or a free one"
            )
        self.side: int | None = fixed[0] if len(fixed) == 2 else None
        self.multiple: int = self.side or 32
        self.threshold: float = threshold
        self.overlap: float = overlap
        self.names: dict[int, str] = _names(self.session.get_modelmeta().custom_metadata_map.get("names", ""))

    def predict(self, images: torch.Tensor) -> list[Detections]:
        """See `simengine.dtn.protocol.Detector.predict`.

        Raises:
            ValueError: What comes out is none of the known forms.
        """
        return [self._one(image[None]) for image in images]

    def _one(self, image: torch.Tensor) -> Detections:
        names = [one.name for one in self.session.get_outputs()]
        out = self.session.run(None, {self.input: image.cpu().numpy().astype(self.type)})
        by_name = {name: _tensor(value) for name, value in zip(names, out, strict=True)}
        if {"boxes", "labels", "scores"} <= set(by_name):
            kept = by_name["scores"].reshape(-1) > self.threshold
            found = {
                "boxes": by_name["boxes"].reshape(-1, 4)[kept],
                "labels": by_name["labels"].reshape(-1)[kept].long(),
                "scores": by_name["scores"].reshape(-1)[kept],
            }
            order = found["scores"].argsort(descending=True, stable=True)
            return {name: value[order] for name, value in found.items()}
        raw = next(iter(by_name.values()))
        if raw.dim() != 3 or raw.shape[0] != 1 or min(raw.shape[1:]) < 5:
            told = ", ".join(f"{name} {tuple(value.shape)}" for name, value in by_name.items())
            raise ValueError(f"onnx: its outputs ({told}) are none of those known; see `simengine.dtn.ONNXDetector`")
        if raw.shape[1] < raw.shape[2]:  # one row a number
            rows = raw[0].T
            return self._suppressed(rows[:, :4], rows[:, 4:])
        rows = raw[0]
        if rows.shape[1] == 6 and len(rows) <= END_TO_END:
            rows = rows[rows[:, 4] > self.threshold]
            rows = rows[rows[:, 4].argsort(descending=True, stable=True)]
            return {"boxes": rows[:, :4], "labels": rows[:, 5].long(), "scores": rows[:, 4]}
        return self._suppressed(rows[:, :4], rows[:, 4:5] * rows[:, 5:])

    def _suppressed(self, boxes: torch.Tensor, scores: torch.Tensor) -> Detections:
        return suppress(
            corners(boxes), scores, threshold=self.threshold, overlap=self.overlap, most=100, candidates=1000
        )


TYPES: dict[str, Any] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def _tensor(value: Any) -> torch.Tensor:
    out = torch.from_numpy(np.ascontiguousarray(value))
    return out.float() if out.is_floating_point() else out


def _names(text: str) -> dict[int, str]:
    """Classes as ultralytics writes them: a dict or list of Python's as text."""
    try:
        told = ast.literal_eval(text) if text else {}
    except (ValueError, SyntaxError):
        return {}
    pairs: Any = told.items() if isinstance(told, dict) else enumerate(told) if isinstance(told, Sequence) else ()
    return {int(k): str(v) for k, v in pairs}
