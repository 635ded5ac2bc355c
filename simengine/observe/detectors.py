"""What turns light into boxes: a detector by name, from a script, from a model folder, or what one found elsewhere."""

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simengine.scene.base import SceneError
from simengine.scene.own_code import own_detectors
from simengine.scene.strict import Count, nearest

Labels = int | tuple[int, ...]
TORCHVISION = ("fasterrcnn", "maskrcnn", "keypointrcnn", "retinanet", "fcos", "ssd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorSpec:
    """A detector; one of `architecture`, `model` and `file`.

    Attributes:
        architecture: A name given by `--with FILE.py`, or of torchvision, as in "retinanet_resnet50_fpn_v2".
        weights: As the detector's maker takes them: of torchvision "COCO_V1", of one's own usually a file.
        model: Folder of a detector that simengine trained, an .onnx file, or Darknet's .cfg with `weights` beside it.
        file: What a detector found elsewhere: COCO's results (json), or a folder of YOLO's text files with scores.
        classes: Class of the labels -> label of the detector, or labels, as in { car = 3 }; without them by its own
            `names`.
        side: Longest side that it sees [pixels]; pictures are scaled to it, and padded.
        multiple: Its sides divide by this.
    """

    architecture: str = ""
    weights: str = ""
    model: str = ""
    file: str = ""
    classes: dict[str, Labels] = dataclasses.field(default_factory=dict)
    side: Count | None = None
    multiple: Count | None = None

    def __post_init__(self) -> None:
        if sum(map(bool, (self.architecture, self.model, self.file))) != 1:
            raise ValueError("expected one of architecture, model and file")

    @property
    def name(self) -> str:
        """What it is called in a report."""
        return self.architecture or self.model or self.file


def make_detector(spec: DetectorSpec, directory: Path) -> Any:
    """The detector of a spec.

    Args:
        spec: Names an architecture or a model folder.
        directory: Where relative paths start.

    Raises:
        SceneError: It is not known, or cannot be made.
    """
    from simengine.dtn.letterbox import Letterbox

    side = spec.side
    if spec.model.lower().endswith(".onnx"):
        made = _onnx(directory / Path(spec.model).expanduser())
        side, multiple = made.side or side, made.multiple
    elif spec.model.lower().endswith(".cfg"):
        made = _darknet(directory / Path(spec.model).expanduser(), directory / Path(spec.weights).expanduser())
        multiple = made.multiple
    elif spec.model:
        made, multiple, trained = _from_folder(directory / Path(spec.model).expanduser())
        side = side or trained
    else:
        made, multiple = _by_name(spec, directory)
    multiple = spec.multiple or multiple
    if side is None and multiple == 1:
        return made
    boxed = Letterbox(made, side=side, multiple=multiple)
    if hasattr(made, "names"):
        boxed.names = made.names
    return boxed


def _by_name(spec: DetectorSpec, directory: Path) -> tuple[Any, int]:
    name = spec.architecture
    if name in own_detectors():
        file = directory / spec.weights
        made = own_detectors()[name](weights=str(file) if spec.weights and file.is_file() else spec.weights)
        if not callable(getattr(made, "predict", None)):
            raise SceneError(
                f"detector.architecture: {name!r} makes {type(made).__name__}, which has no predict(images)"
            )
        return made, int(getattr(made, "multiple", 1))
    if name.startswith(TORCHVISION):
        return _torchvision(name, spec.weights), 1
    known = nearest(name, own_detectors()) if own_detectors() else "give a script that names it: --with FILE.py"
    raise SceneError(f"detector.architecture: no detector is called {name!r}; {known}")


def _torchvision(name: str, weights: str) -> Any:
    try:
        detection: Any = importlib.import_module("torchvision.models.detection")
    except (ImportError, RuntimeError) as error:  # the latter where its operators are of another torch
        raise SceneError(
            f"detector.architecture: {name!r} is torchvision's, which cannot be imported ({error}); install the "
            "torchvision that fits this torch, or give a detector of your own by --with FILE.py"
        ) from None
    from simengine.dtn.adapters import LibraryDetector

    make = getattr(detection, name, None)
    if make is None:
        raise SceneError(f"detector.architecture: torchvision has no {name!r}; {nearest(name, dir(detection))}")
    try:
        return LibraryDetector(make(weights=weights or None, **({} if weights else {"weights_backbone": None})))
    except (ValueError, KeyError) as error:
        raise SceneError(f"detector.weights: {weights!r}: {error}") from None


def _onnx(file: Path) -> Any:
    from simengine.dtn.onnx_model import ONNXDetector

    if not file.is_file():
        raise SceneError(f"detector.model: {file}: no such file")
    try:
        return ONNXDetector(file)
    except ImportError:
        raise SceneError("detector.model: an ONNX file needs onnxruntime; pip install 'simengine[onnx]'") from None
    except ValueError as error:
        raise SceneError(f"detector.model: {error}") from None


def _darknet(file: Path, weights: Path) -> Any:
    from simengine.dtn.darknet import DarknetDetector

    for key, path in (("model", file), ("weights", weights)):
        if not path.is_file():
            raise SceneError(f"detector.{key}: {path.name}: no such file; Darknet's .cfg needs its .weights")
    try:
        return DarknetDetector(file, weights)
    except ValueError as error:
        raise SceneError(f"detector.model: {error}") from None


def _from_folder(folder: Path) -> tuple[Any, int, int | None]:
    """The detector, what its sides divide by, and the longest side that it was trained at."""
    from simengine.dtn.detector import AnchorDetector, CentreDetector
    from simengine.io.model_folder import read_model

    try:
        model = read_model(folder)
    except ValueError as error:
        raise SceneError(f"detector.model: {error}") from None
    kinds: Mapping[str, Any] = {"centre": CentreDetector, "anchor": AnchorDetector}
    if model.type != "detector" or model.options.get("architecture") not in kinds:
        raise SceneError(f"detector.model: {folder}: holds a model of type {model.type!r}, no detector")
    names = list(model.options.get("names", ["object"]))
    made = kinds[model.options["architecture"]](width=model.options["width"], classes=len(names))
    made.load_state_dict(model.tensors())
    if "names" in model.options:
        made.names = names
    return made.eval(), 8, model.options.get("side")
