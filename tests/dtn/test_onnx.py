"""Detectors in ONNX files: each form of output that is known, on files made here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simengine.observe.detectors import DetectorSpec, make_detector
from simengine.scene import SceneError

onnx: Any = pytest.importorskip("onnx", reason="needs onnx (extra oracles)")
pytest.importorskip("onnxruntime", reason="needs onnxruntime (extra oracles)")

CENTRES = [[20.0, 30.0, 8.0, 12.0], [20.5, 30.0, 8.0, 12.0], [50.0, 10.0, 20.0, 6.0]]  # the first two overlap
SCORES = [[0.9, 0.0], [0.6, 0.0], [0.0, 0.7]]
CORNERS = [[16.0, 24.0, 24.0, 36.0], [40.0, 7.0, 60.0, 13.0]]


def write(file: Path, outputs: dict[str, np.ndarray], size: int | str, scale: np.ndarray | None = None) -> Path:
    """A model whose outputs are constants; where `scale` is not 0 they grow with the brightest pixel."""
    h = onnx.helper
    nodes = [h.make_node("ReduceMax", ["images"], ["most"], keepdims=0)]
    held, out = [], []
    for name, value in outputs.items():
        held.append(onnx.numpy_helper.from_array(value, f"{name}_held"))
        grows = np.zeros_like(value) if scale is None else scale.astype(value.dtype)
        held.append(onnx.numpy_helper.from_array(grows, f"{name}_grows"))
        if value.dtype == np.float32:
            nodes.append(h.make_node("Mul", ["most", f"{name}_grows"], [f"{name}_by"]))
            nodes.append(h.make_node("Add", [f"{name}_held", f"{name}_by"], [name]))
            kind = onnx.TensorProto.FLOAT
        else:
            nodes.append(h.make_node("Identity", [f"{name}_held"], [name]))
            kind = onnx.TensorProto.INT64
        out.append(h.make_tensor_value_info(name, kind, list(value.shape)))
    pictures = h.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, size, size])
    graph = h.make_graph(nodes, "detector", [pictures], out, held)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    onnx.helper.set_model_props(model, {"names": "{0: 'car', 1: 'van'}"})
    onnx.save(model, file)
    return file


def rows(objectness: bool) -> np.ndarray:
    middle = [[1.0]] * 3 if objectness else [[]] * 3
    return np.array([[*c, *m, *s] for c, m, s in zip(CENTRES, middle, SCORES, strict=True)], np.float32)


FORMS = {
    "YOLO 8": {"output0": np.pad(rows(False), ((0, 9), (0, 0))).T[None]},
    "YOLO 5": {"output0": np.pad(rows(True), ((0, 9), (0, 0)))[None]},
    "end to end": {"output0": np.array([[[*CORNERS[1], 0.7, 1], [*CORNERS[0], 0.9, 0], *[[0.0] * 6] * 9]], np.float32)},
    "torchvision": {
        "boxes": np.array(CORNERS, np.float32),
        "labels": np.array([0, 1]),
        "scores": np.array([0.9, 0.7], np.float32),
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [64, "side"])
def test_each_form_gives_its_boxes(tmp_path: Path, form: str, size: int | str) -> None:
    """A picture of twice the fixed input comes back in its own pixels; the double of the first box is suppressed."""
    write(tmp_path / "net.onnx", FORMS[form], size)
    detector = make_detector(DetectorSpec(model="net.onnx"), tmp_path)
    (found,) = detector.predict(torch.rand(1, 3, 128, 128))
    factor = 2.0 if size == 64 else 1.0
    assert torch.allclose(found["boxes"], factor * torch.tensor(CORNERS), atol=1e-5)
    assert found["labels"].tolist() == [0, 1] and torch.allclose(found["scores"], torch.tensor([0.9, 0.7]))
    assert detector.names == {0: "car", 1: "van"}


def test_the_picture_reaches_the_model(tmp_path: Path) -> None:
    base = FORMS["end to end"]["output0"].copy()
    base[0, 0, 4] = 0.0
    grows = np.zeros_like(base)
    grows[0, 0, 4] = 0.5
    write(tmp_path / "net.onnx", {"output0": base}, 64, grows)
    detector = make_detector(DetectorSpec(model="net.onnx"), tmp_path)
    dark, bright = detector.predict(torch.stack([torch.zeros(3, 64, 64), torch.ones(3, 64, 64)]))
    assert dark["scores"].tolist() == pytest.approx([0.9]) and bright["scores"].tolist() == pytest.approx([0.9, 0.5])


def test_what_is_no_detector_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(SceneError, match=r"detector.model: text.onnx: onnxruntime cannot read it"):
        make_detector(DetectorSpec(model="text.onnx"), tmp_path)
    with pytest.raises(SceneError, match="no such file"):
        make_detector(DetectorSpec(model="none.onnx"), tmp_path)
    write(tmp_path / "logits.onnx", {"logits": np.zeros((1, 1000), np.float32)}, 64)
    with pytest.raises(ValueError, match=r"outputs \(logits \(1, 1000\)\) are none of those known"):
        make_detector(DetectorSpec(model="logits.onnx"), tmp_path).predict(torch.rand(1, 3, 64, 64))
