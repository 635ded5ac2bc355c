"""A small detector as a scene of its own: trained on rendered views, of one thing or of several of several classes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simengine.dtn.bodies.labels import boxes_of
from simengine.dtn.coco import Found, Objects
from simengine.dtn.evaluation import average_precision, checked_detections, detect
from simengine.dtn.judgement import assignment, by_class, judge
from simengine.io.model_folder import write_model
from simengine.scene.grammar import Scene
from simengine.view.boxes import draw_boxes, sheet
from simengine.worlds.detectors.detector import (
    DetectorSchedule,
    DetectorTraining,
    PictureSet,
    detection_sheet,
    empty_views,
    make_detector,
    natural_paint,
    paint_of,
    unseen_set,
)
from simengine.worlds.detectors.network import scene_views
from simengine.worlds.detectors.pictures import numbers_of, objects_of

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.worlds.detectors.world import DTNWorld, TrainedDetectorSpec

SHOWN = 16  # pictures of the sheet
SCORE = 0.5  # from which on a detection counts as found


def training(scene: Scene, *, device: str | None = None) -> "SmallDetector":
    """The training of a scene."""
    from simengine.worlds.detectors.world import DTNWorld, TrainedDetectorSpec

    assert isinstance(scene.world, DTNWorld) and isinstance(scene.learner, TrainedDetectorSpec)
    return SmallDetector(scene.world, scene.learner, device=device)


class SmallDetector(DetectorTraining):
    """The detector of a spec, trained on all things that the views label.

    Args:
        scene: Where the views come from; with `views.objects` they show several things.
        spec: Of the detector.
        device: Where it is trained; None for the CPU.
    """

    def __init__(
        self, scene: "DTNWorld", spec: "TrainedDetectorSpec", *, device: torch.device | str | None = None
    ) -> None:
        torch.manual_seed(scene.seed)
        self.scene: DTNWorld = scene
        self.spec: TrainedDetectorSpec = spec
        self.several: bool = scene.views.objects[1] > 0
        self.names, numbers = numbers_of(scene.label_names)
        device = device or "cpu"
        views = scene_views(scene, scene.sampler, scene.train_views, device=device)
        truth = None
        if self.several:
            assert views.labels is not None
            labels = views.labels.cpu()
            truth = boxes_of(labels), numbers[labels[..., 4].clamp(min=0).long()]
        super().__init__(
            make_detector(spec, classes=len(self.names)),
            views,
            paint_of(spec, views),
            schedule=DetectorSchedule(spec.iterations, spec.batch, spec.learning_rate),
            empty=empty_views(scene, scene.sampler, round(spec.empty * scene.train_views), device=device),
            truth=truth,
        )

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """AP on unseen views in natural paints, of each class and their mean, `model/`, and `detections.png`."""
        test = unseen_set(self.scene, self.spec.empty, device=self.device)
        torch.manual_seed(self.scene.seed + 1)
        summary = self._several(test, out) if self.several else self._single(test, out)
        write_model(
            out,
            self.spec.type,
            self.detector.state_dict(),
            reads="pictures whose sides divide by 8",
            gives="boxes with scores",
            options={
                "architecture": self.spec.architecture,
                "width": self.spec.width,
                **({"names": list(self.names)} if self.several else {}),
            },
            trained_on={"paints": self.spec.paints, "views": self.scene.train_views, "size": list(self.scene.shape)},
            tested=summary,
        )
        return summary

    def _single(self, test: PictureSet, out: "RunDirectory") -> dict[str, Any]:
        table = detect(self.detector, test.pictures(natural_paint), test.boxes)
        few = test.views[: min(SHOWN, len(test.views))]
        out.write("detections.png", detection_sheet(self.detector, few, natural_paint))
        return {
            "AP50": str(average_precision(table)),
            "AP75": str(average_precision(table, 0.75)),
            "missed": float(table.missed().float().mean()),
        }

    def _several(self, test: PictureSet, out: "RunDirectory") -> dict[str, Any]:
        empty = Objects(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0))
        objects = objects_of(test.views, self.scene.label_names)
        objects += [empty] * (len(test.boxes) - len(test.views))
        pictures = [picture for batch in test.pictures(natural_paint) for picture in batch]
        found = list(self._found(pictures))
        tiles = [self._drawn(picture, f, o) for picture, f, o in zip(pictures[:SHOWN], found, objects, strict=False)]
        out.write("detections.png", sheet(tiles))
        whole = judge(found, objects, score=SCORE)
        summary: dict[str, Any] = {
            "AP50": str(whole.precision),
            "AP": str(whole.mean_precision),
            "missed": str(whole.missed),
        }
        for label, figures in by_class(found, objects, score=SCORE).items():
            summary[self.names[label]] = {
                "objects": figures.objects,
                "AP50": str(figures.precision),
                "AP": str(figures.mean_precision),
                "missed": str(figures.missed),
            }
        return summary

    def _found(self, pictures: list[torch.Tensor]) -> Iterator[Found]:
        for start in range(0, len(pictures), 32):
            batch = torch.stack(pictures[start : start + 32])
            for boxes, labels, scores in checked_detections(self.detector, batch):
                yield Found(boxes.double().numpy(), labels.numpy(), scores.double().numpy())

    def _drawn(self, picture: torch.Tensor, found: Found, objects: Objects) -> Any:
        """A picture with what is right in green, what is missed in red, and false alarms in orange."""
        who = assignment(found, objects).tolist()
        boxes: list[Any] = []
        for box, label, one in zip(objects.boxes, objects.labels, who, strict=True):
            if one < 0 or found.scores[one] < SCORE:
                boxes.append((box, "missed", self.names[int(label)]))
        for k in np.flatnonzero(np.asarray(found.scores) >= SCORE):
            text = f"{self.names[int(found.labels[k])]} {found.scores[k]:.2f}"
            boxes.append((found.boxes[k], "hit" if k in who else "alarm", text))
        pixels = (255 * picture.permute(1, 2, 0).clamp(0, 1)).round().byte().cpu().numpy()
        return draw_boxes(pixels, boxes, width=2 * pixels.shape[1])
