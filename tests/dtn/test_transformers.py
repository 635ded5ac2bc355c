"""The adapter of DETR's kind beside the library's own post-processing, on random weights; skipped without it."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from simengine.dtn.adapters import DETRDetector
from simengine.dtn.checks import check_detector

with pytest.MonkeyPatch.context() as patch:  # it takes any folder `kernels` on the path for a package of that name
    root = Path(__file__).parents[2]
    patch.setattr(sys, "path", [entry for entry in sys.path if Path(entry).resolve() != root])
    transformers: Any = pytest.importorskip("transformers", exc_type=ImportError)
    transformers.utils.import_utils.is_kernels_available()  # and keeps the answer


def detr() -> tuple[Any, Any]:
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1], layer_type="basic", out_features=["stage4"]
    )
    config = transformers.DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        num_queries=12,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_labels=5,
    )
    return transformers.DetrForObjectDetection(config), transformers.DetrImageProcessor()


def yolos() -> tuple[Any, Any]:
    config = transformers.YolosConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[64, 96],
        patch_size=16,
        num_detection_tokens=12,
        num_labels=5,
    )
    return transformers.YolosForObjectDetection(config), transformers.YolosImageProcessor()


def rt_detr() -> tuple[Any, Any]:
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = transformers.RTDetrConfig(
        backbone_config=backbone,
        encoder_hidden_dim=16,
        encoder_in_channels=[16, 16, 16],
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        d_model=16,
        num_queries=12,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        num_labels=5,
        num_denoising=0,
    )
    return transformers.RTDetrForObjectDetection(config), transformers.RTDetrImageProcessor()


@pytest.mark.parametrize("make", [detr, yolos, rt_detr])
def test_equal_to_the_librarys_own_post_processing(make: Any) -> None:
    torch.manual_seed(0)
    model, processor = make()
    for parameter in model.parameters():  # far enough from their start that queries and classes differ
        if parameter.dim() > 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    model.train()
    images = (255 * torch.rand(2, 3, 64, 96)).round() / 255
    adapter = DETRDetector(model)
    adapter.threshold = 0.2
    ours = adapter.predict(images)
    assert model.training  # its mode is left as it was found
    model.eval()
    pictures = [(255 * image).round().byte().permute(1, 2, 0).numpy() for image in images]
    inputs = processor(images=pictures, do_resize=False, do_pad=False, return_tensors="pt")
    with torch.no_grad():
        output = model(pixel_values=inputs["pixel_values"])
    theirs = processor.post_process_object_detection(output, threshold=0.2, target_sizes=[(64, 96)] * 2)
    assert sum(len(one["scores"]) for one in theirs) > 4
    assert adapter.activation == ("sigmoid" if make is rt_detr else "softmax") and len(adapter.names) == 5
    limit = torch.tensor([96.0, 64.0, 96.0, 64.0])
    for a, b in zip(ours, theirs, strict=True):
        order = b["scores"].argsort(descending=True, stable=True)
        assert a["labels"].tolist() == b["labels"][order].tolist()
        assert torch.allclose(a["scores"], b["scores"][order], atol=1e-4)
        cut = torch.minimum(b["boxes"][order].clamp(min=0), limit)
        assert torch.allclose(a["boxes"], cut, atol=1e-4)  # [px]


@pytest.mark.parametrize("make", [detr, yolos, rt_detr])
def test_gradients_and_the_loss_of_hardening_reach_the_picture_and_the_weights(make: Any) -> None:
    torch.manual_seed(1)
    adapter = DETRDetector(make()[0])
    images = torch.rand(1, 3, 64, 96, requires_grad=True)
    check_detector(adapter, images.detach())
    adapter.kind = 2
    adapter.loss(images, torch.tensor([[10.0, 10.0, 60.0, 50.0]])).backward()
    assert images.grad is not None and float(images.grad.abs().max()) > 0
    moved = [p for p in adapter.parameters() if p.grad is not None and bool(p.grad.abs().max() > 0)]
    assert len(moved) > 10
