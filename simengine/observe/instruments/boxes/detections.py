"""A detector is an instrument: light to boxes. What it should have found is what people drew."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch

from simengine.dtn.coco import Found, Objects
from simengine.dtn.evaluation import checked_detections, checked_turned
from simengine.dtn.judgement import assignment
from simengine.dtn.turned.boxes import stretched, turned_of
from simengine.io.pictures import picture_size
from simengine.io.tables import file_hash
from simengine.observe.columns import ColumnSpec
from simengine.observe.conditions import TestSpec, changed
from simengine.observe.detectors import DetectorSpec, make_detector
from simengine.observe.labels import DrawnBoxes, find_pictures, read_boxes
from simengine.scene.asks import Ask, View
from simengine.scene.base import AbstractRun, SceneError
from simengine.scene.instrument import AbstractInstrument, Findings, Measured
from simengine.scene.strict import Range, without_effect

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

Share = Annotated[float, Range(gt=0, lt=1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PicturesAt:
    """Where the pictures lie.

    Attributes:
        files: A file, a folder, or a name with a star.
    """

    files: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detections(AbstractInstrument):
    """Boxes that people drew, and a detector that should find them.

    Of every object the overlap with its detection and the score of that are predicted; both are measured as 1.

    Attributes:
        pictures: Where the pictures lie; those of the world if it has some.
        detector: What turns light into boxes; that of the scene if it has one.
        test: Along what the pictures are changed.
        columns: Of a table: `box` (four), `image`, `class`, and further numbers by name (`center` (three) [m], `size`
            (length, height, width) [m]).
        label: Class of every box, where the file names none.
        classes: Name or number of a class in the file -> class.
        ignore: Column -> [least, most] of the objects that are neither a hit nor a miss [unit of the value].
        regions: Boxes [px] in every picture in which nothing is labelled: what is found there is no false alarm.
        turned: Whether turned boxes are compared, as models of oriented boxes find them: of YOLO's lines of four
            corners, or of detections with `turned` (k, 5); the upright boxes about them otherwise.
        overlap: Smallest overlap (IoU) of a hit [1].
        score: From which on a detection counts as found [1].
        tolerated: Miss rate up to which the report tells how far each condition may go [1].
        camera: Its `file` (json) holds K, for distances.
    """

    folders: ClassVar[bool] = True
    type: Literal["detections", "labelled"] = "detections"
    pictures: PicturesAt
    detector: DetectorSpec
    test: TestSpec = dataclasses.field(default_factory=TestSpec)
    columns: dict[str, tuple[str, ...] | ColumnSpec] = dataclasses.field(default_factory=dict)
    label: str = ""
    classes: dict[str, str] = dataclasses.field(default_factory=dict)
    ignore: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    regions: tuple[tuple[float, float, float, float], ...] = ()
    turned: bool = False
    overlap: Share = 0.5
    score: Share = 0.5
    tolerated: Share = 0.1
    camera: dict[str, Any] | None = None
    kept: dict[Any, Any] = dataclasses.field(
        default_factory=dict, metadata={"internal": True}, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        without_effect(self, "gain", "offset", where="detections, which are boxes")
        if self.turned:
            without_effect(self, "camera", where="turned boxes, whose height tells no distance")

    def drawn(self) -> DrawnBoxes:
        """What people drew, read once.

        Raises:
            SceneError: In one line.
        """
        if "drawn" not in self.kept:
            key = f"observations.{self.name}"
            try:
                pictures = find_pictures(self.pictures.files, self.directory)
                self.kept["drawn"] = read_boxes(
                    self.path, pictures, columns=self.columns, label=self.label, classes=self.classes, key=key
                )
            except ValueError as error:
                raise error if isinstance(error, SceneError) else SceneError(f"{key}: {error}") from None
            if self.turned and self.kept["drawn"].turned is None:
                raise SceneError(
                    f"{key}.turned: {self.file} has upright boxes; expected YOLO's lines of four corners, "
                    "class x1 y1 x2 y2 x3 y3 x4 y4"
                )
        found: DrawnBoxes = self.kept["drawn"]
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, in the order in which they are numbered."""
        return tuple(sorted(set(self.drawn().classes)))

    def ignored(self) -> np.ndarray:
        """Which boxes are neither hit nor miss, bool (n,).

        Raises:
            SceneError: `ignore` names no column.
        """
        drawn = self.drawn()
        out = np.zeros(len(drawn.boxes), dtype=bool)
        for name, (low, high) in self.ignore.items():
            if name not in drawn.numbers:
                raise SceneError(f"observations.{self.name}.ignore: {name!r} is no column of `columns`")
            out |= (drawn.numbers[name] >= low) & (drawn.numbers[name] <= high)
        return out

    def objects(self, scale: float = 1.0) -> tuple[Objects, ...]:
        """What each picture shows; boxes in pixels of the picture as given."""
        return self.drawn().objects(self.names, self.ignored(), self.regions, turned=self.turned)

    def read(self, *, before: float = 0.0) -> Measured:
        """A row for each box: overlap 1 and score 1, or masked where it is ignored."""
        drawn = self.drawn()
        n = len(drawn.boxes)
        if not n:
            raise SceneError(f"observations.{self.name}: {self.file}: it holds no box")
        out = torch.from_numpy(self.ignored() | drawn.crowd)
        if bool(out.all()):
            raise SceneError(f"observations.{self.name}: every box is ignored; narrow `ignore`")
        sides = dict(zip(("left", "top", "right", "bottom"), drawn.boxes.T, strict=True))
        at = {name: torch.from_numpy(np.array(v)) for name, v in {"picture": drawn.picture, **sides}.items()}
        at |= {name: torch.from_numpy(np.array(values)) for name, values in drawn.numbers.items()}
        values = torch.ones(n, 2, dtype=torch.float64)
        hashes = {path.name: file_hash(path) for path in drawn.pictures}
        return Measured(
            values=values,
            names=("overlap", "score"),
            units=("1", "1"),
            at=at,
            mask=~out[:, None].expand(n, 2),
            held_out=torch.zeros(n, 2, dtype=torch.bool),
            sigma=torch.full((n, 2), torch.nan, dtype=torch.float64),
            files={**drawn.files, **hashes},
            notes=(f"{int(out.sum())} boxes are ignored",) if bool(out.any()) else (),
        )

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """A look at each picture."""
        drawn = self.drawn()
        camera = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
        pose = torch.eye(4, dtype=torch.float64)[None]
        return tuple(
            View(intrinsics=camera, world_to_camera=pose, size=picture_size(path), names=(path.name,))
            for path in drawn.pictures
        )

    def seek(self, run: AbstractRun, measured: Measured, axis: str = "light", value: float = 1.0) -> list[Found]:
        """What the detector finds in each picture, under one changed condition; kept for the run."""
        key = (id(run), axis, value)
        if key not in self.kept:
            self.kept["run"] = run  # so that its id stays its own
            self.kept[key] = (
                self._elsewhere()
                if self.detector.file
                else self._found((run.sample(ask) for ask in self.asks(measured)), axis, value)
            )
        found: list[Found] = self.kept[key]
        return found

    def _found(self, pictures: Iterable[torch.Tensor], axis: str = "light", value: float = 1.0) -> list[Found]:
        """What the detector finds in pictures (1, h, w, 3), which are looked at one after another."""
        if "detector" not in self.kept:
            self.kept["detector"] = make_detector(self.detector, self.directory)
        detector = self.kept["detector"]
        numbers, drawn = self._numbers(detector), self.drawn()
        found = []
        for index, picture in enumerate(pictures):
            light = picture[0].permute(2, 0, 1).float()
            image = changed(light, axis, value, seed=index, boxes=drawn.boxes[drawn.picture == index])
            ratio = light.shape[2] / image.shape[2], light.shape[1] / image.shape[1]
            if self.turned:
                ((boxes, labels, scores),) = checked_turned(detector, image[None])
                boxes = stretched(boxes, ratio)
            else:
                ((boxes, labels, scores),) = checked_detections(detector, image[None])
                boxes = boxes * boxes.new_tensor([*ratio, *ratio])
            found.append(_renumbered(boxes, labels, scores, numbers))
        return found

    def _numbers(self, detector: Any) -> Mapping[int, int] | None:
        """Label of the detector -> number of the class; None where every label stands for the only class."""
        names = self.names
        own = getattr(detector, "names", None)
        by_label = dict(own) if isinstance(own, Mapping) else dict(enumerate(own)) if own else {}
        numbers = {}
        for name in names:
            told = self.detector.classes.get(name)
            labels = (told,) if isinstance(told, int) else told or [k for k, v in by_label.items() if v == name]
            if not labels and len(names) == 1 and not self.detector.classes and not by_label:
                return None
            if not labels:
                raise SceneError(
                    f"observations.{self.name}.detector.classes: which labels of the detector are {name!r}? "
                    f"Write classes = {{ {name} = 3 }}"
                )
            numbers.update(dict.fromkeys((int(v) for v in labels), names.index(name)))
        return numbers

    def _elsewhere(self) -> list[Found]:
        """Detections of a file, of the same pictures."""
        from simengine.io.annotations import read_coco, read_yolo

        drawn, spec = self.drawn(), self.detector
        path = self.directory / Path(spec.file).expanduser()
        try:
            if path.is_dir():
                a = read_yolo(path, {p.stem: picture_size(p) for p in drawn.pictures})
            elif self.path.suffix.lower() == ".json":
                a = read_coco(self.path, results=path)
            else:
                raise ValueError("COCO's results belong to labels in COCO's json; else give a folder of YOLO's texts")
            if a.scores is None:
                raise ValueError("the detections have no scores")
            if self.turned and a.corners is None:
                raise ValueError("the detections are upright; expected YOLO's lines of four corners and a score")
        except ValueError as error:
            raise SceneError(f"observations.{self.name}.detector.file: {error}") from None
        place = {path.stem: k for k, path in enumerate(drawn.pictures)}
        numbers: Mapping[int, int] | None = {
            int(k): self.names.index(a.classes[k]) for k in a.classes if a.classes[k] in self.names
        }
        if not numbers or spec.classes:
            numbers = self._numbers(None)
        boxes = torch.from_numpy(a.boxes)
        if self.turned:
            boxes = turned_of(torch.from_numpy(np.asarray(a.corners, dtype=np.float64)))
        found: list[Any] = [None] * len(drawn.pictures)
        for k, name in enumerate(a.names):
            own = a.of(k)
            found[place[Path(name).stem]] = _renumbered(
                boxes[own],
                torch.from_numpy(a.labels[own]),
                torch.from_numpy(a.scores[own]),
                numbers,
            )
        empty = Found(np.zeros((0, boxes.shape[1])), np.zeros(0, dtype=np.int64), np.zeros(0))
        return [one if one is not None else empty for one in found]

    def predict(self, run: AbstractRun, measured: Measured) -> torch.Tensor:
        """Overlap and score of each object's detection, 0 where there is none; one picture after another."""
        return self._told(self.seek(run, measured), measured)

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """Overlap and score of each object's detection in the pictures, 0 where there is none."""
        return self._told(self._elsewhere() if self.detector.file else self._found(answers), measured)

    def _told(self, detected: Sequence[Found], measured: Measured) -> torch.Tensor:
        from simengine.dtn.coco import overlaps

        drawn = self.drawn()
        boxes = drawn.turned if self.turned and drawn.turned is not None else drawn.boxes
        values = torch.zeros_like(measured.values)
        for k, (found, objects) in enumerate(zip(detected, self.objects(), strict=True)):
            own = np.flatnonzero(drawn.picture == k)
            who = assignment(found, objects, overlap=self.overlap)[: len(own)]
            iou = overlaps(np.asarray(found.boxes), boxes[own], np.zeros(len(own), dtype=bool))
            for row, (one, number) in enumerate(zip(who, own, strict=True)):
                if one >= 0:
                    values[number] = torch.tensor([iou[one, row], found.scores[one]], dtype=torch.float64)
        return values

    def findings(self, run: AbstractRun, measured: Measured, out: "RunDirectory") -> Findings:
        """AP, misses, kinds of errors, curves, the worst pictures."""
        from simengine.observe.instruments.boxes.report import tell

        return tell(self, run, measured, out)

    def write(self, file: Path, measured: Measured) -> None:
        """COCO's json of the boxes drawn."""
        from simengine.io.annotations import Annotations, write_coco

        drawn = self.drawn()
        if self.turned:
            raise SceneError(f"observations.{self.name}.turned: COCO's json, which is written, has upright boxes alone")
        names = self.names
        extent = drawn.boxes[:, 2:] - drawn.boxes[:, :2]
        write_coco(
            file,
            Annotations(
                names=[path.name for path in drawn.pictures],
                sizes=np.array([picture_size(path) for path in drawn.pictures], dtype=np.float64),
                picture=drawn.picture,
                boxes=drawn.boxes,
                labels=np.array([names.index(c) + 1 for c in drawn.classes], dtype=np.int64),
                area=extent.prod(1),
                crowd=drawn.crowd,
                classes={k + 1: name for k, name in enumerate(names)},
                ids=np.arange(1, len(drawn.pictures) + 1),
            ),
        )


def _renumbered(
    boxes: torch.Tensor, labels: torch.Tensor, scores: torch.Tensor, numbers: Mapping[int, int] | None
) -> Found:
    """Detections of the classes that are labelled, numbered as these; others are left out."""
    own = [0 if numbers is None else numbers.get(int(v), -1) for v in labels]
    label = np.array(own, dtype=np.int64)
    keep = label >= 0
    return Found(boxes.double().numpy()[keep], label[keep], scores.double().numpy()[keep])
