"""What turns light into boxes: a detector by name, from a script, from a model folder, or what one found elsewhere."""

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from simengine.scene.base import SceneError
from simengine.scene.own_code import own_detectors
from simengine.scene.strict import Count, Range, nearest

Labels = int | tuple[int, ...]
TORCHVISION = ("fasterrcnn", "maskrcnn", "keypointrcnn", "retinanet", "fcos", "ssd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorSpec:
    """A detector; one of `architecture`, `model` and `file`.

    Attributes:
        architecture: A name given by `--with FILE.py`, or of torchvision, as in "retinanet_resnet50_fpn_v2".
        weights: As the detector's maker takes them: of torchvision "COCO_V1", of one's own usually a file.
        model: Folder of a detector that simengine trained.
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

    if spec.model:
        made, multiple = _from_folder(directory / Path(spec.model).expanduser())
    else:
        made, multiple = _by_name(spec, directory)
    multiple = spec.multiple or multiple
    if spec.side is None and multiple == 1:
        return made
    boxed = Letterbox(made, side=spec.side, multiple=multiple)
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
    except ImportError as error:
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


def _from_folder(folder: Path) -> tuple[Any, int]:
    from simengine.dtn.detector import AnchorDetector, CentreDetector
    from simengine.io.model_folder import read_model

    try:
        model = read_model(folder)
    except ValueError as error:
        raise SceneError(f"detector.model: {error}") from None
    kinds: Mapping[str, Any] = {"centre": CentreDetector, "anchor": AnchorDetector}
    if model.type != "detector" or model.options.get("architecture") not in kinds:
        raise SceneError(f"detector.model: {folder}: holds a model of type {model.type!r}, no detector")
    made = kinds[model.options["architecture"]](width=model.options["width"])
    made.load_state_dict(model.tensors())
    return made.eval(), 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestSpec:
    """Along what the pictures are changed to see what it costs.

    Attributes:
        axes: `light` (gain of the linear light [1]), `blur` (standard deviation [px]), `noise` (standard deviation of
            the encoded picture [1]), `scale` (size over that as given [1]) -> values.
    """

    __test__ = False  # no test of pytest's
    axes: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in self.axes.items():
            if name not in NEUTRAL:
                raise ValueError(f"axes: {name!r} is no axis; {nearest(name, NEUTRAL)}")
            least = Range(gt=0) if NEUTRAL[name] else Range(ge=0)
            for value in values:
                if isinstance(value, bool) or not isinstance(value, int | float) or (told := least.check(value)):
                    raise ValueError(f"axes.{name}: {told if isinstance(value, float) else 'expected numbers'}")


NEUTRAL = {"light": 1.0, "blur": 0.0, "noise": 0.0, "scale": 1.0}
UNITS = {"light": "1", "blur": "px", "noise": "1", "scale": "1"}


def changed(linear: torch.Tensor, axis: str, value: float, *, seed: int = 0) -> torch.Tensor:
    """An encoded picture under one changed condition; boxes move under `scale` alone.

    Args:
        linear: Linear light, (3, h, w).
        axis: See `TestSpec`.
        value: Along it.
        seed: Of the noise.

    Returns:
        SRGB in [0, 1], (3, h', w').
    """
    from simengine.render.tone import encode_srgb

    if axis == "light":
        linear = linear * value
    elif axis == "blur" and value > 0:
        linear = gaussian_blur(linear, value)
    elif axis == "scale" and value != 1:
        h, w = linear.shape[1:]
        size = max(round(h * value), 1), max(round(w * value), 1)
        linear = torch.nn.functional.interpolate(linear[None], size, mode="bilinear", antialias=value < 1)[0]
    encoded = encode_srgb(linear.clamp(0, 1))
    if axis == "noise" and value > 0:
        generator = torch.Generator().manual_seed(seed)
        encoded = encoded + value * torch.randn(encoded.shape, generator=generator)
    return encoded.clamp(0, 1)


def gaussian_blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """An image (c, h, w) through a Gaussian of standard deviation `sigma` [px], borders continued."""
    reach = max(round(4 * sigma), 1)
    x = torch.arange(-reach, reach + 1, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    columns = torch.nn.functional.pad(image[:, None], (reach, reach, 0, 0), mode="replicate")
    rows = torch.nn.functional.conv2d(columns, kernel.view(1, 1, 1, -1))
    rows = torch.nn.functional.pad(rows, (0, 0, reach, reach), mode="replicate")
    return torch.nn.functional.conv2d(rows, kernel.view(1, 1, -1, 1))[:, 0]
