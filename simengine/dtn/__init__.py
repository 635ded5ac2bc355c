"""What a scene does to a texture: views, differentiable networks, detectors, robustness. Built on `render`."""

from typing import TYPE_CHECKING

from simengine.exports import on_use

if TYPE_CHECKING:
    from simengine.dtn.adapters import DETRDetector, TorchvisionDetector, TwoStageDetector, UltralyticsDetector
    from simengine.dtn.camouflage import PaintTexture, evasion_loss
    from simengine.dtn.checks import check_detector
    from simengine.dtn.coco import Found, Objects, coco_precision
    from simengine.dtn.detector import AnchorDetector, CentreDetector, suppress
    from simengine.dtn.evaluation import average_precision, detect, miss_rate, precision_gap
    from simengine.dtn.metrics import object_psnr, ssim
    from simengine.dtn.network import TransformationNetwork
    from simengine.dtn.onnx_model import ONNXDetector
    from simengine.dtn.protocol import Detections, Detector, box_iou
    from simengine.dtn.references import ReferencePredictor
    from simengine.dtn.sampler import ViewSampler
    from simengine.dtn.texture import TextureMap, texture_map
    from simengine.dtn.views import ViewSet, render_views
else:  # a checker that sees __getattr__ takes any name
    __getattr__, __dir__ = on_use(
        __name__,
        {
            **dict.fromkeys(
                ("DETRDetector", "TorchvisionDetector", "TwoStageDetector", "UltralyticsDetector"),
                "simengine.dtn.adapters",
            ),
            **dict.fromkeys(("PaintTexture", "evasion_loss"), "simengine.dtn.camouflage"),
            **dict.fromkeys(("check_detector",), "simengine.dtn.checks"),
            **dict.fromkeys(("Found", "Objects", "coco_precision"), "simengine.dtn.coco"),
            **dict.fromkeys(("AnchorDetector", "CentreDetector", "suppress"), "simengine.dtn.detector"),
            **dict.fromkeys(("average_precision", "detect", "miss_rate", "precision_gap"), "simengine.dtn.evaluation"),
            **dict.fromkeys(("object_psnr", "ssim"), "simengine.dtn.metrics"),
            **dict.fromkeys(("TransformationNetwork",), "simengine.dtn.network"),
            **dict.fromkeys(("ONNXDetector",), "simengine.dtn.onnx_model"),
            **dict.fromkeys(("Detections", "Detector", "box_iou"), "simengine.dtn.protocol"),
            **dict.fromkeys(("ReferencePredictor",), "simengine.dtn.references"),
            **dict.fromkeys(("TextureMap", "texture_map"), "simengine.dtn.texture"),
            **dict.fromkeys(("ViewSampler",), "simengine.dtn.sampler"),
            **dict.fromkeys(("ViewSet", "render_views"), "simengine.dtn.views"),
        },
    )

__all__ = [
    "AnchorDetector",
    "CentreDetector",
    "DETRDetector",
    "Detections",
    "Detector",
    "Found",
    "ONNXDetector",
    "Objects",
    "PaintTexture",
    "ReferencePredictor",
    "TextureMap",
    "TorchvisionDetector",
    "TransformationNetwork",
    "TwoStageDetector",
    "UltralyticsDetector",
    "ViewSampler",
    "ViewSet",
    "average_precision",
    "box_iou",
    "check_detector",
    "coco_precision",
    "detect",
    "evasion_loss",
    "miss_rate",
    "object_psnr",
    "precision_gap",
    "render_views",
    "ssim",
    "suppress",
    "texture_map",
]
