"""Detectors of other libraries behind the `Detector` protocol, by the format of what they return.

None of the libraries is imported: a model is taken as it is, and an attribute or output that is not there is named in
the error. Boxes are (x0, y0, x1, y1) in pixels of the pictures given, scores in [0, 1].
"""

from simengine.dtn.adapters.base import AbstractAdapter
from simengine.dtn.adapters.torchvision import LibraryDetector, TorchvisionDetector, TwoStageDetector
from simengine.dtn.adapters.transformers import DETRDetector
from simengine.dtn.adapters.ultralytics import UltralyticsDetector

__all__ = [
    "AbstractAdapter",
    "DETRDetector",
    "LibraryDetector",
    "TorchvisionDetector",
    "TwoStageDetector",
    "UltralyticsDetector",
]
