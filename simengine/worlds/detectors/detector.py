"""Training of small detectors on views in random paints, and the pictures they are tested with."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from simengine.dtn.bodies.paints import NATURAL_PAINTS
from simengine.dtn.camouflage import PaintTexture, random_texture
from simengine.dtn.detector import AbstractDetector, AnchorDetector, CentreDetector, shown
from simengine.dtn.evaluation import checked_predict
from simengine.dtn.protocol import box_iou
from simengine.dtn.sampler import ViewSampler
from simengine.dtn.texture import TextureMap, texture_map
from simengine.dtn.views import ViewSet, render_views
from simengine.fit.trainings.gradient import GradientTraining
from simengine.view.boxes import draw_boxes, sheet
from simengine.worlds.detectors.network import PATTERN, Predictor, affine_predictor, random_colours, scene_views

if TYPE_CHECKING:
    from simengine.worlds.detectors.world import DTNWorld, TrainedDetectorSpec

Paint = Callable[[torch.Tensor], torch.Tensor]  # indices of views (b,) -> paint that broadcasts to (b, 3, h, w)
FIRST_EMPTY = 500_000  # index of the first view without the object in its sampler
RENEWED = 60  # steps after which the next of the textures of a retraining starts again


def empty_views(
    scene: "DTNWorld", sampler: ViewSampler, number: int, *, device: torch.device | str = "cpu"
) -> ViewSet | None:
    """Views of the surroundings alone, on a device, to tell the object from; None for a number of 0."""
    if number == 0:
        return None
    indices = range(FIRST_EMPTY, FIRST_EMPTY + number)
    sampler = dataclasses.replace(sampler, objects=(0, 0))
    return render_views(None, sampler, indices, scene.shape, sky_rays=scene.sky_rays, device=device).to(device)


def natural_paint(index: torch.Tensor) -> torch.Tensor:
    """One of the seven natural paints for each view, with 10 % of variation in brightness, shape (b, 3, 1, 1)."""
    paints = torch.tensor(NATURAL_PAINTS)
    chosen = paints[torch.randint(len(paints), (len(index),))]
    return (chosen * (0.9 + 0.2 * torch.rand(len(index), 1)))[..., None, None]


def wear(put_on: TextureMap, texture: torch.Tensor) -> Paint:
    """The paint of views with a texture on the object."""
    return lambda index: put_on[index](texture)


def varied_paint(put_on: TextureMap, found: list[torch.Tensor]) -> Paint:
    """A third each of natural paints, of random flat colours, and of patterns: random ones and those found to fool."""
    size = put_on.texture_size
    blocks = [block for block in (1, 2, 4, 8, 16) if size[0] % block == 0 and size[1] % block == 0]

    def paint(index: torch.Tensor) -> torch.Tensor:
        b = len(index)
        kind = torch.rand(b, 1, 1, 1)
        seed = int(torch.randint(1 << 30, ()))
        pattern = random_texture(size, seed, block=blocks[seed % len(blocks)])
        if found and float(torch.rand(())) < 0.5:
            pattern = found[int(torch.randint(len(found), ()))]
        if float(torch.rand(())) < 0.5:
            pattern = pattern.roll(torch.randint(max(size), (2,)).tolist(), (0, 1))
        flat = torch.where(kind < 1 / 3, natural_paint(index), random_colours(b))
        worn = put_on[index](pattern)
        return torch.where((kind > 2 / 3).to(worn.device), worn, flat.to(worn.device))

    return paint


def paint_of(spec: "TrainedDetectorSpec", views: ViewSet) -> Paint:
    """The paints that a detector of a spec is trained in."""
    if spec.paints == "all":
        return varied_paint(texture_map(views, PATTERN, mapping="triplanar"), [])
    return natural_paint


def make_detector(spec: "TrainedDetectorSpec", *, classes: int = 1) -> AbstractDetector:
    """The detector of a spec, untrained, of so many classes."""
    return (CentreDetector if spec.architecture == "centre" else AnchorDetector)(width=spec.width, classes=classes)


@dataclasses.dataclass(frozen=True)
class DetectorSchedule:
    """Of a detector's training.

    Attributes:
        iterations: Steps of Adam.
        batch: Pictures a step.
        learning_rate: Of Adam.
    """

    iterations: int
    batch: int
    learning_rate: float


class DetectorTraining(GradientTraining):
    """Pictures of random views in random paints, flipped at random; augmented in brightness, contrast and noise.

    It happens where the views lie. What is drawn is drawn on the CPU, so that a run repeats on any device.

    Args:
        detector: Trained in place.
        views: Each shows the object.
        paint: Draws the paints.
        empty: Views without the object; a quarter of the pictures of a step are of these. None for none.
        truth: Boxes (n, k, 4) [px] and classes (n, k) of all that the views show; the object alone, class 0, if None.
        schedule: How long and how fast.
    """

    def __init__(
        self,
        detector: AbstractDetector,
        views: ViewSet,
        paint: Paint,
        *,
        schedule: DetectorSchedule,
        empty: ViewSet | None = None,
        truth: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> None:
        self.views: ViewSet = views
        self.paint = paint
        self.batch: int = schedule.batch
        self.empty: ViewSet | None = empty
        self.detector: AbstractDetector = detector
        if truth is None:
            truth = views.boxes()[:, None], torch.zeros(len(views), 1, dtype=torch.long)
        self.device = views.offset.device
        self.boxes, self.labels = (value.to(self.device) for value in truth)
        super().__init__(
            detector.to(self.device),
            self._objective,
            num_iterations=schedule.iterations,
            learning_rate=schedule.learning_rate,
            cosine=True,
            clip_norm=5.0,
        )

    def _objective(self) -> Mapping[str, torch.Tensor]:
        without = self.batch // 4 if self.empty is not None else 0
        index = torch.randint(len(self.views), (self.batch - without,))
        images, boxes, labels = self.views.picture(self.paint(index), index), self.boxes[index], self.labels[index]
        if self.empty is not None:
            other = self.empty.offset[torch.randint(len(self.empty), (without,))]
            images = torch.cat([images, self.empty.tone.encode(other)])
            boxes = torch.cat([boxes, boxes.new_zeros(without, *boxes.shape[1:])])
            labels = torch.cat([labels, labels.new_zeros(without, labels.shape[1])])
        gain, shift = 0.8 + 0.4 * torch.rand(self.batch, 1, 1, 1), 0.2 * torch.rand(self.batch, 1, 1, 1)
        images = (images * gain.to(self.device) + shift.to(self.device) - 0.1).clamp(0, 1)
        images = images + 0.01 * torch.randn(images.shape).to(self.device)
        flip = (torch.rand(self.batch) < 0.5).to(self.device)
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
        width = images.shape[3]
        mirrored = torch.stack([width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]], -1)
        boxes = torch.where((flip[:, None] & shown(boxes))[..., None], mirrored, boxes)
        return {"detection": self._loss(images, boxes, labels)}

    def _loss(self, images: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Of a detector of several classes, or of one of anybody's, which is told of one box a picture."""
        if boxes.shape[1] == 1:
            return self.detector.loss(images, boxes[:, 0])
        return self.detector.loss(images, boxes, labels)


class HardeningTraining(DetectorTraining):
    """Retraining on natural paints and, in half of the pictures, on textures that climb the detector's loss.

    The others are clean, since these are what clean accuracy is kept by: with a sixth of them, and textures, random
    colours and patterns for the rest, it falls below that of as many steps on clean ones alone; with three quarters
    the detector may fall to the attack anew.

    A texture takes a step up by the sign of the gradient that the detector's own step leaves behind, so that it costs
    nothing (universal adversarial training: Shafahi et al., AAAI 2020). One after the other they start again, from one
    of the textures found before or at random.

    Args:
        detector: Trained in place.
        views: Each shows one object.
        put_on: Their texture map.
        found: Textures found before.
        adversaries: The textures that are trained against the detector, in place.
        climb: Their step before the logistic function; 0 leaves them out, for varied paints and the textures found.
        schedule: How long and how fast.
        empty: Views without the object.
    """

    def __init__(
        self,
        detector: AbstractDetector,
        views: ViewSet,
        put_on: TextureMap,
        found: list[torch.Tensor],
        adversaries: Sequence[PaintTexture],
        *,
        climb: float,
        schedule: DetectorSchedule,
        empty: ViewSet | None = None,
    ) -> None:
        self.put_on: TextureMap = put_on
        self.found: list[torch.Tensor] = found
        self.adversaries: Sequence[PaintTexture] = adversaries
        self.climb: float = climb
        for adversary in adversaries:
            adversary.requires_grad_(True)
        self.varied = varied_paint(put_on, found)
        super().__init__(detector, views, self._paint, schedule=schedule, empty=empty)

    def _paint(self, index: torch.Tensor) -> torch.Tensor:
        if not self.climb:
            return self.varied(index)
        few = max(1, len(index) // 2)
        worn = self._worn(few)
        parts = zip(index[:few].tensor_split(len(worn)), worn, strict=True)
        attacked = [self.put_on[part](adversary()) for part, adversary in parts]
        natural = natural_paint(index[few:]).to(self.device)
        return torch.cat([*attacked, natural.expand(-1, -1, *self.views.size)])

    def _worn(self, pictures: int) -> list[PaintTexture]:
        """The textures of a step: all, or where there are fewer pictures than textures, so many of them in turn."""
        number = len(self.adversaries)
        first = self.iteration * pictures if pictures < number else 0
        return [self.adversaries[(first + k) % number] for k in range(min(pictures, number))]

    def step(self) -> dict[str, float]:
        """One step of the detector down, and one of the textures up."""
        if self.climb and self.iteration % RENEWED == 0:
            self._renew(self.adversaries[self.iteration // RENEWED % len(self.adversaries)])
        figures = super().step()
        for adversary in self.adversaries:
            adversary.climb(self.climb)
        return figures

    def _renew(self, adversary: PaintTexture) -> None:
        pick = int(torch.randint(len(self.found) + 1, ()))
        if pick < len(self.found):
            adversary.set(self.found[pick])
        else:
            adversary.scatter()


class PictureSet:
    """Views with the object, and others without it; boxes and conditions of both lie in main memory.

    Args:
        views: With the object.
        empty: Without it; None for none.
    """

    def __init__(self, views: ViewSet, empty: ViewSet | None) -> None:
        self.views: ViewSet = views
        self.empty: ViewSet | None = empty
        self.boxes, self.conditions = views.boxes().cpu(), views.conditions.cpu()
        if empty is not None:
            self.boxes = torch.cat([self.boxes, self.boxes.new_zeros(len(empty), 4)])
            self.conditions = torch.cat([self.conditions, empty.conditions.cpu()])

    def pictures(self, paint: Paint, predict: Predictor | None = None, *, batch: int = 32) -> Iterator[torch.Tensor]:
        """Batches of pictures of all views, those with the object in the given paint first.

        Args:
            paint: Of the views.
            predict: What makes the pictures; the affine law of the views if None.
            batch: Pictures in a batch.
        """
        predict = predict or affine_predictor(self.views)
        for index in torch.arange(len(self.views)).split(batch):
            yield predict(index, paint(index))
        yield from self.empty_pictures(batch=batch)

    def empty_pictures(self, *, batch: int = 32) -> Iterator[torch.Tensor]:
        """Batches of the pictures without the object."""
        if self.empty is not None:
            yield from self.empty.tone.encode(self.empty.offset).split(batch)


def unseen_set(
    scene: "DTNWorld", empty: float, number: int | None = None, *, device: torch.device | str = "cpu"
) -> PictureSet:
    """Unseen views of a scene.

    Args:
        scene: Where they come from.
        empty: Number of views without the object as a share of those with it.
        number: Of the views with it; the scene's if None.
        device: Where they lie.
    """
    number = number or scene.test_views
    without = empty_views(scene, scene.test_sampler, round(empty * number), device=device)
    return PictureSet(scene_views(scene, scene.test_sampler, number, device=device), without)


def detection_sheet(detector: Any, views: ViewSet, paint: Paint, *, columns: int = 4) -> Any:
    """Pictures with the true box in green, and the best detection: green with its score where it hits, else orange."""
    images = views.picture(paint(torch.arange(len(views)))).clone()
    tiles = []
    found_in = checked_predict(detector, images)
    for image, box, (found, scores) in zip(images.cpu(), views.boxes().cpu(), found_in, strict=True):
        drawn: list[Any] = [(box.tolist(), "hit", "")]
        if len(scores):
            best = int(scores.argmax())
            hit = float(box_iou(found[best], box)) >= 0.5
            drawn.append((found[best].tolist(), "hit" if hit else "alarm", f"{float(scores[best]):.2f}"))
        pixels = (255 * image.permute(1, 2, 0).clamp(0, 1)).round().byte().numpy()
        tiles.append(draw_boxes(pixels, drawn, width=2 * pixels.shape[1]))
    return sheet(tiles, columns=columns)
