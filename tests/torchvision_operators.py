"""Lets torchvision's models run beside a torch for the CPU alone, for which PyPI has no torchvision.

PyPI's wheel is linked with the torch for CUDA: beside another one its compiled operators do not load, and the import
ends at the first of them. Of these only `nms` has no twin in Python there, so it is given one here, as torchvision
documents it; models, decoding, resizing and post-processing are the library's own. Where its operators load, nothing
is touched.
"""

import importlib.util
import inspect
from pathlib import Path
from typing import Any

import torch

LIBRARIES: list[torch.library.Library] = []


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Places of the boxes (n, 4) that no better one overlaps by more, by falling score, (k,)."""
    order = scores.argsort(descending=True, stable=True)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        shared = torch.minimum(boxes[order, 2:], boxes[best, 2:]) - torch.maximum(boxes[order, :2], boxes[best, :2])
        inside = shared.clamp(min=0).prod(1)
        order = order[inside <= iou_threshold * (area[order] + area[best] - inside)]
    return torch.stack(kept) if kept else scores.new_zeros(0, dtype=torch.long)


def give_operators() -> None:
    """Define what does not load; called before torchvision is first imported."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    try:
        torch.ops.load_library(str(Path(spec.origin).with_name("_C.so")))
        return
    except OSError:
        pass
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", nms, "CPU")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # named at import, not called
    LIBRARIES.append(library)  # its operators go when nobody holds it
    import torchvision.extension

    # `nms` asks the module each time; the others have taken their own copy and use their twins in Python
    torchvision.extension._has_ops = lambda: True
    alignment: Any = importlib.import_module("torchvision.ops.roi_align")
    alignment._roi_align = inspect.unwrap(alignment._roi_align)  # as written: it would be compiled at its first call
