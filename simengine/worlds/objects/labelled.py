"""A detector trained on labelled pictures, some of which are kept back to test it."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch

from simengine.dtn.detector import AbstractDetector, AnchorDetector, CentreDetector
from simengine.fit.trainings.gradient import GradientTraining
from simengine.io.model_folder import read_model, write_model
from simengine.io.pictures import read_rgb
from simengine.observe.columns import ColumnSpec
from simengine.observe.conditions import TestSpec, gaussian_blur
from simengine.observe.detectors import DetectorSpec, make_detector
from simengine.observe.instruments.boxes.detections import Detections, PicturesAt
from simengine.observe.labels import DrawnBoxes, find_pictures, read_boxes
from simengine.render.tone import encode_srgb
from simengine.scene.base import SceneError
from simengine.scene.grammar import Scene
from simengine.scene.learning import AbstractLearner, stands
from simengine.scene.strict import Count, NonNegative, Positive, Range
from simengine.view.report import write_report
from simengine.worlds.objects.given import PicturesRun, PicturesWorld

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

KINDS: Mapping[str, type[AbstractDetector]] = {"centre": CentreDetector, "anchor": AnchorDetector}
SHOWN = 0.5  # share of an object that a crop has to show for it to count


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureDetector(AbstractLearner):
    """Train a small detector of one class on labelled pictures of anybody's.

    Attributes:
        type: Tells what is trained apart.
        architecture: Anchor-free (`"centre"`) or anchor-based (`"anchor"`); anchors are 20 to 56 pixels wide.
        width: Channels at stride 4.
        side: Longest side that the pictures are brought to, here and whenever the detector is used [pixels].
        start: Folder of a detector of the same sizes to start from; none if empty.
        file: The labels: a table, COCO's json, or a folder of YOLO's text files.
        columns: Of a table: `box` (four), `image` and `class`.
        classes: Name or number of a class in the file -> class.
        group: Regular expression on the names of the pictures whose first bracket names their group, as "(.*)_.*".
        hold_out: Groups, or names of pictures without `group`, that are kept back for the test.
        crop: Side of the part of a picture that a step sees [pixels].
        light: Least and greatest gain of the light [1].
        blur: Largest standard deviation of a blur [px].
        turn: Whether pictures are turned by quarters, as they may be from above; else they are mirrored.
        iterations: Steps of Adam.
        batch: Crops a step.
        learning_rate: Of Adam; falls to 0 by a half cosine [1].
        overlap: Smallest overlap (IoU) of a hit in the test [1].
        axes: Along what the pictures of the test are changed -> values; see the instrument `labelled` [1].
    """

    kinds: ClassVar[tuple[str, ...]] = ("pictures",)
    type: Literal["picture_detector"] = "picture_detector"
    architecture: Literal["centre", "anchor"] = "centre"
    width: Annotated[int, Range(ge=16)] = 32
    side: Annotated[int, Range(ge=32)] = 320
    start: str = ""
    file: str = stands("examples")
    columns: dict[str, tuple[str, ...] | ColumnSpec] = stands("examples", factory=dict)
    classes: dict[str, str] = stands("examples", factory=dict)
    group: str = stands("examples", "")
    hold_out: tuple[str, ...] = stands("examples")
    crop: Annotated[int, Range(ge=32)] = stands("examples", 128)
    light: tuple[Positive, Positive] = stands("examples", (0.6, 1.4))
    blur: NonNegative = stands("examples", 1.5)
    turn: bool = stands("examples", False)
    iterations: Count = stands("training", 1500)
    batch: Count = stands("training", 8)
    learning_rate: Positive = stands("training", 2e-3)
    overlap: Annotated[float, Range(gt=0, lt=1)] = stands("test", 0.5)
    axes: dict[str, tuple[Any, ...]] = stands("test", factory=dict)

    def __post_init__(self) -> None:
        for name, unit in {"width": 16, "crop": 8}.items():
            if getattr(self, name) % unit:
                raise ValueError(f"{name}: expected a multiple of {unit}, got {getattr(self, name)}")
        TestSpec(axes=self.axes)
        try:
            if self.group and not re.compile(self.group).groups:
                raise ValueError('group: expected one pair of brackets, as in "(.*)_.*"')
        except re.error as error:
            raise ValueError(f"group: no regular expression: {error}") from None


def training(scene: Scene, *, device: str | None = None) -> "LabelledTraining":
    """The training of a scene."""
    assert isinstance(scene.world, PicturesWorld) and isinstance(scene.learner, PictureDetector)
    return LabelledTraining(scene.world, scene.learner)


def check(scene: Scene) -> dict[str, Any]:
    """How many pictures and boxes there are to train on, and how many are kept back.

    Args:
        scene: With `[model] type = "picture_detector"`.
    """
    assert isinstance(scene.world, PicturesWorld) and isinstance(scene.learner, PictureDetector)
    drawn, rest, kept = labelled(scene.world, scene.learner)
    parts = {"trained on": drawn.only(rest), "kept back": drawn.only(kept)}
    return {name: f"{len(own.pictures)} pictures, {len(own.boxes)} boxes" for name, own in parts.items()}


def labelled(world: PicturesWorld, spec: PictureDetector) -> tuple[DrawnBoxes, list[int], list[int]]:
    """What people drew, and the numbers of the pictures to train on and of those kept back.

    Raises:
        SceneError: The labels cannot be read, are of several classes, or nothing is left on one side.
    """
    try:
        pictures = find_pictures(world.pictures.files, world.directory)
        drawn = read_boxes(
            world.directory / Path(spec.file).expanduser(),
            pictures,
            columns=spec.columns,
            label="",
            classes=spec.classes,
            key="examples",
        )
    except ValueError as error:
        raise error if isinstance(error, SceneError) else SceneError(f"examples: {error}") from None
    if len(set(drawn.classes)) != 1:
        raise SceneError(f"examples.classes: expected one class, got {', '.join(sorted(set(drawn.classes))) or 'none'}")
    names = [path.name for path in drawn.pictures]
    found = [re.fullmatch(spec.group, name) if spec.group else None for name in names]
    if spec.group and (unlike := [name for name, match in zip(names, found, strict=True) if match is None]):
        raise SceneError(f"examples.group: {unlike[0]!r} is not like {spec.group!r}")
    groups = [name if match is None else match[1] for name, match in zip(names, found, strict=True)]
    if missing := [group for group in spec.hold_out if group not in groups]:
        raise SceneError(f"examples.hold_out: there is no {missing[0]!r}; known: {', '.join(sorted(set(groups)))}")
    kept = [k for k, group in enumerate(groups) if group in spec.hold_out]
    rest = [k for k in range(len(names)) if k not in kept]
    if not kept or not rest:
        raise SceneError(f"examples.hold_out: {len(rest)} pictures to train on and {len(kept)} to test with")
    return drawn, rest, kept


class LabelledTraining(GradientTraining):
    """Adam on random crops of labelled pictures, turned or mirrored, in random light, blurred.

    Args:
        world: The pictures.
        spec: Detector, labels and lengths.

    Raises:
        SceneError: See `labelled`; or `start` holds another detector.
    """

    def __init__(self, world: PicturesWorld, spec: PictureDetector) -> None:
        torch.manual_seed(world.seed)
        self.world: PicturesWorld = world
        self.spec: PictureDetector = spec
        self.drawn, chosen, self.kept = labelled(world, spec)
        own = self.drawn.only(chosen)
        self.pictures: list[Any] = []
        self.boxes: list[Any] = []
        for k, path in enumerate(own.pictures):
            light = torch.from_numpy(read_rgb(path)).permute(2, 0, 1)
            ratio = spec.side / max(light.shape[1:])
            size = [max(round(n * ratio), spec.crop) for n in light.shape[1:]]
            small = torch.nn.functional.interpolate(light[None], size, mode="bilinear", antialias=True)[0]
            self.pictures.append(small)
            self.boxes.append(torch.from_numpy(own.boxes[own.picture == k]).float() * ratio)
        self.detector: AbstractDetector = KINDS[spec.architecture](width=spec.width)
        if spec.start:
            try:
                before = read_model(world.directory / Path(spec.start).expanduser())
                self.detector.load_state_dict(before.tensors())
            except (ValueError, RuntimeError) as error:
                raise SceneError(f"model.start: {str(error).splitlines()[0]}") from None
        super().__init__(
            self.detector,
            self._objective,
            num_iterations=spec.iterations,
            learning_rate=spec.learning_rate,
            cosine=True,
            clip_norm=5.0,
        )

    def _objective(self) -> Mapping[str, torch.Tensor]:
        pairs = [self.drawn_crop() for _ in range(self.spec.batch)]
        most = max(1, *(len(boxes) for _, boxes in pairs))
        boxes = torch.stack([torch.cat([own, own.new_zeros(most - len(own), 4)]) for _, own in pairs])
        return {"detection": self.detector.loss(torch.stack([image for image, _ in pairs]), boxes)}

    def drawn_crop(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A random crop, encoded, (3, crop, crop), and the boxes (k, 4) [pixels] of the objects that it shows."""
        spec = self.spec
        k = int(torch.randint(len(self.pictures), ()))
        light, boxes, n = self.pictures[k], self.boxes[k], spec.crop
        h, w = light.shape[1:]
        corner = [int(torch.randint(size - n + 1, ())) for size in (w, h)]
        if len(boxes) and float(torch.rand(())) < 0.75:  # about an object
            x0, y0, x1, y1 = boxes[int(torch.randint(len(boxes), ()))].tolist()
            share = torch.rand(2).tolist()
            middle = ((x0 + x1) / 2 - n * share[0], (y0 + y1) / 2 - n * share[1])
            corner = [min(max(round(c), 0), size - n) for c, size in zip(middle, (w, h), strict=True)]
        x, y = corner
        image, own = light[:, y : y + n, x : x + n], boxes - boxes.new_tensor([x, y, x, y])
        inside = own.clamp(0, n)
        area = (own[:, 2:] - own[:, :2]).prod(1).clamp(min=1e-6)
        own = inside[(inside[:, 2:] - inside[:, :2]).prod(1) / area >= SHOWN]
        for _ in range(int(torch.randint(4, ())) if spec.turn else 0):
            image = image.rot90(1, (1, 2))
            own = torch.stack([own[:, 1], n - own[:, 2], own[:, 3], n - own[:, 0]], 1)
        if float(torch.rand(())) < 0.5:
            image, own = image.flip(2), torch.stack([n - own[:, 2], own[:, 1], n - own[:, 0], own[:, 3]], 1)
        low, high = spec.light
        image = image * (low + (high - low) * float(torch.rand(())))
        sigma = spec.blur * float(torch.rand(()))
        image = gaussian_blur(image, sigma) if sigma > 0.1 else image
        return encode_srgb(image.clamp(0, 1)), own

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """The model, and the report of the pictures kept back, as `simengine predict` makes it for any detector."""
        spec, world = self.spec, self.world
        own = self.drawn.only(self.kept)
        self._write(out, {})  # which the instrument looks through
        detector = DetectorSpec(model="model")  # in this folder, which may be anywhere
        instrument = Detections(
            name="kept back",
            directory=world.directory,
            file=spec.file,
            pictures=PicturesAt(files=world.pictures.files),
            detector=detector,
            test=TestSpec(axes=spec.axes),
            columns=spec.columns,
            classes=spec.classes,
            overlap=spec.overlap,
            kept={"drawn": own, "detector": make_detector(detector, out.path)},
        )
        measured = instrument.read()
        found = instrument.findings(PicturesRun({path.name: path for path in own.pictures}), measured, out)
        write_report(out.claim("report.html"), "A detector, on pictures that no training saw", found.sections)
        summary = {"trained_on": len(self.pictures), "tested_on": len(own.pictures), **found.summary}
        self._write(out, summary)
        return summary

    def _write(self, out: "RunDirectory", tested: Mapping[str, Any]) -> None:
        spec = self.spec
        write_model(
            out,
            "detector",
            self.detector.state_dict(),
            reads="pictures",
            gives=f"boxes of {self.drawn.classes[0]}",
            options={"architecture": spec.architecture, "width": spec.width, "side": spec.side},
            trained_on={"pictures": len(self.pictures), "boxes": sum(map(len, self.boxes)), "light": spec.light},
            tested=tested,
        )
