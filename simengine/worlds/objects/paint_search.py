"""The paint of a car placed in a photograph that a detector sees worst: what hardening has to withstand on the screen.

The picture is linear in the paint, so each step costs a look of the detector and no rendering. The expectation goes
over light and noise of the camera.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from simengine.dtn.camouflage import PaintTexture, evasion_loss, total_variation
from simengine.dtn.checks import check_detector
from simengine.dtn.evaluation import checked_detections
from simengine.dtn.protocol import box_iou
from simengine.dtn.sampler import CONDITIONS
from simengine.dtn.texture import texture_map, texture_picture
from simengine.dtn.views import stack_views
from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.gradient import _flatten_optimiser, _restore_optimiser
from simengine.io.image import to_srgb8
from simengine.observe.detectors import make_detector
from simengine.render.camera import PinholeCamera
from simengine.render.tone import ToneCurve, encode_srgb
from simengine.scene.base import SceneError
from simengine.scene.grammar import Scene
from simengine.scene.learning import AbstractObjective, stands
from simengine.scene.strict import Count, NonNegative, Positive, Range
from simengine.view.boxes import draw_boxes
from simengine.view.report import Block, Picture, ReportTable, write_report
from simengine.worlds.objects.given import PicturesRun, PicturesWorld
from simengine.worlds.objects.placed import PlacedSpec, Placement, box_corners, camera_matrix, place

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

GREY = 0.4  # albedo that a found paint is compared with
SEEN = 0.3  # score from which a detection of something else is followed


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreObjective(AbstractObjective):
    """The score of a detector on a rendered car in a photograph, in the mean over light and noise of the camera.

    Attributes:
        type: Tells what is made small apart.
        rows: Of the texture.
        columns: Of the texture.
        smoothness: Weight of the total variation [1].
        light: Least and greatest gain of the light [1].
        noise: Largest standard deviation of the encoded picture's noise [1].
        restarts: Starts; the one that ends with the lowest loss in the light as it is counts.
        iterations: Steps of Adam in each.
        learning_rate: Of Adam [1].
    """

    kinds: ClassVar[tuple[str, ...]] = ("pictures",)
    seeks: ClassVar[str] = "objects.0.paint"
    type: Literal["score"] = "score"
    rows: Annotated[int, Range(ge=2)] = 64
    columns: Annotated[int, Range(ge=2)] = 64
    smoothness: NonNegative = 0.02
    light: tuple[Positive, Positive] = (0.6, 1.3)
    noise: NonNegative = 0.02
    restarts: Count = stands("inference", 1)
    iterations: Count = stands("inference", 100)
    learning_rate: Positive = stands("inference", 0.15)


def training(scene: Scene, *, device: str | None = None) -> "PaintSearch":
    """The search of a scene: the paint of its first object; the bounds of the unknown are those of the albedo.

    Raises:
        SceneError: There is no object or no detector.
    """
    world, spec = scene.world, scene.objective
    assert isinstance(world, PicturesWorld) and isinstance(spec, ScoreObjective)
    if not world.objects or world.detector is None:
        raise SceneError("objective: its world needs [[objects]], whose first one is painted, and a [detector]")
    files = world.files()
    own = world.objects[0]
    name = own.picture or next(iter(files))
    photograph = PicturesRun(files, world.objects[1:]).shown(name)
    labels = world.detector.classes.get("car")
    sought = scene.unknowns[spec.seeks]
    return PaintSearch(
        place(own, photograph),
        make_detector(world.detector, world.directory),
        box_of(own, photograph.shape[:2]),
        spec,
        kind=labels[0] if isinstance(labels, tuple) else labels,
        albedo=(0.02 if sought.lower is None else sought.lower, 0.85 if sought.upper is None else sought.upper),
        seed=world.seed,
    )


def check(scene: Scene) -> dict[str, Any]:
    """Where in its photograph the car stands [px].

    Args:
        scene: With `[objective] type = "score"`.

    Raises:
        SceneError: There is no object, its box cannot be read, or it is out of the picture.
    """
    from simengine.io.pictures import picture_size

    world = scene.world
    assert isinstance(world, PicturesWorld)
    if not world.objects:
        raise SceneError("objective: its world needs [[objects]], whose first one is painted")
    own, files = world.objects[0], world.files()
    corners = box_of(own, picture_size(files[own.picture or next(iter(files))]))
    if not bool((corners[2:] > corners[:2]).all()):
        raise SceneError("objects.0.box: it lies outside the photograph")
    return {"box of the painted car [px]": [round(v) for v in corners.tolist()]}


def box_of(spec: PlacedSpec, size: "torch.Size | tuple[int, int]") -> torch.Tensor:
    """Corners [px] in the picture of what the box of a car projects to, (4,)."""
    pixels = box_corners(*spec.box.numbers()) @ camera_matrix(spec.camera).T
    pixels = pixels[:, :2] / pixels[:, 2:] + 0.5
    h, w = size
    corners = np.concatenate([pixels.min(0), pixels.max(0)]).clip(0, [w, h, w, h])
    return torch.from_numpy(corners).float()


def painter(placement: Placement, size: tuple[int, int]) -> Any:
    """From a texture (rows, columns, 3) to the linear picture (3, h, w), differentiable.

    Args:
        placement: The car over its photograph.
        size: Rows and columns of the texture.
    """
    h, w, _ = placement.photograph.shape
    camera = PinholeCamera(
        world_to_camera=torch.eye(4), intrinsics=torch.tensor([1.0, 1.0, 0.0, 0.0]), width=w, height=h
    )
    nothing = dict.fromkeys(CONDITIONS, 0.0)
    view = stack_views([placement.buffers], [camera], [nothing], tone=ToneCurve())
    put_on = texture_map(view, size)

    def picture(texture: torch.Tensor) -> torch.Tensor:
        paint = put_on(texture)[0].permute(1, 2, 0)
        lit = placement.buffers.gain * _spread(paint, placement.buffers.paint) + placement.buffers.offset
        return placement.picture(lit).permute(2, 0, 1)

    return picture


def _spread(paint: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Paint where there is some; the gain carries the share of a pixel that is painted."""
    return torch.where(share[..., None] > 0, paint, torch.zeros_like(paint))


class PaintSearch(AbstractTraining):
    """Descends a detector's score on a car over its paint, start after start.

    Args:
        placement: The car over its photograph.
        detector: Of the protocol, with `dense`.
        box: Corners of the car [px], (4,).
        spec: Sizes and lengths.
        kind: Label of the car; None for any.
        albedo: Least and greatest.
        seed: Of starts, light and noise.

    Raises:
        ValueError: The detector does not fit the protocol or carries no gradient.
    """

    def __init__(
        self,
        placement: Placement,
        detector: Any,
        box: torch.Tensor,
        spec: ScoreObjective,
        *,
        kind: int | None = None,
        albedo: tuple[float, float] = (0.02, 0.85),
        seed: int = 0,
    ) -> None:
        self.detector: Any = detector
        self.box: torch.Tensor = box
        self.spec: ScoreObjective = spec
        self.kind: int | None = kind
        self.seed: int = seed
        size = (spec.rows, spec.columns)
        self._picture = painter(placement, size)
        check_detector(detector, self.shown(torch.full((*size, 3), GREY))[None], kind=kind)
        self.textures: nn.ModuleList = nn.ModuleList(
            PaintTexture(size, albedo=albedo, seed=seed + start) for start in range(spec.restarts)
        )
        self.num_iterations: int = spec.restarts * spec.iterations
        self.iteration: int = 0
        self._begin(0)

    def _begin(self, start: int) -> None:
        self._adam = torch.optim.Adam(self.textures[start].parameters(), lr=self.spec.learning_rate)
        self._generator = torch.Generator().manual_seed(self.seed + start)

    @torch.no_grad()
    def shown(self, texture: torch.Tensor) -> torch.Tensor:
        """The encoded picture (3, h, w) with the car in a texture."""
        return encode_srgb(self._picture(texture).clamp(0, 1))

    def _loss(self, seen: torch.Tensor) -> torch.Tensor:
        return evasion_loss(self.detector, seen[None], self.box[None], kind=self.kind, over="all")

    def step(self) -> dict[str, float]:
        """One step of Adam, in a light and with a noise of its own."""
        start, done = divmod(self.iteration, self.spec.iterations)
        if start and not done:
            self._begin(start)
        low, high = self.spec.light
        gain, strength = torch.rand(2, generator=self._generator).tolist()
        value = self.textures[start]()
        seen = encode_srgb(self._picture(value).mul(low + (high - low) * gain).clamp(1e-6, 1))
        noise = self.spec.noise * strength * torch.randn(seen.shape, generator=self._generator)
        loss = self._loss((seen + noise).clamp(0, 1))
        self._adam.zero_grad()
        (loss + self.spec.smoothness * total_variation(value)).backward()
        self._adam.step()
        self.iteration += 1
        return {"loss": float(loss.detach()), "start": float(start)}

    @torch.no_grad()
    def found(self) -> torch.Tensor:
        """The texture (rows, columns, 3) of the start that ends with the lowest loss in the light as it is."""
        textures = [texture() for texture in self.textures]
        losses = [float(self._loss(self.shown(texture))) for texture in textures]
        return textures[losses.index(min(losses))]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Textures, the optimiser and the generator of the start in progress."""
        state = {f"textures.{name}": value.clone() for name, value in self.textures.state_dict().items()}
        state |= {"iteration": torch.tensor(self.iteration), "generator": self._generator.get_state()}
        return {**state, **_flatten_optimiser(self._adam)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        head = "textures."
        self.textures.load_state_dict({k.removeprefix(head): v for k, v in state.items() if k.startswith(head)})
        self.iteration = int(state["iteration"])
        self._begin(max(self.iteration - 1, 0) // self.spec.iterations)
        _restore_optimiser(self._adam, state)
        self._generator.set_state(state["generator"])

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Scores of this car and of all else that is found, in grey and in the found paint; `texture.npy`, a report."""
        texture = self.found()
        paints = {"grey": torch.full_like(texture, GREY), "found": texture}
        pictures = {name: self.shown(paint) for name, paint in paints.items()}
        seen = {name: self._detections(picture) for name, picture in pictures.items()}
        scores = {name: self._score(*found) for name, found in seen.items()}
        others = self._others(*seen["grey"], *seen["found"])
        summary = {"score_grey": scores["grey"], "score_found": scores["found"], "others": len(others)}
        summary |= {"largest_change_of_others": max((abs(a - b) for a, b in others), default=0.0)}
        out.write("texture.npz", {"albedo": texture.flip(0)})
        blocks: list[Block] = [ReportTable(("paint", "score of the car"), [(n, f"{v:.3f}") for n, v in scores.items()])]
        if others:
            rows = [(f"{a:.3f}", f"{b:.3f}") for a, b in others]
            blocks.append(ReportTable(("score of another, car in grey", "car in the found paint"), rows))
        for name, picture in pictures.items():
            pixels = (255 * picture.permute(1, 2, 0)).round().byte().numpy()
            boxes, values = seen[name]
            drawn = [(b, "hit", f"{v:.2f}") for b, v in zip(boxes.tolist(), values.tolist(), strict=True) if v >= SEEN]
            blocks.append(Picture(draw_boxes(pixels, [(self.box.tolist(), "ignored", ""), *drawn]), name))
        blocks.append(Picture(to_srgb8(texture_picture(texture).numpy()), "the found paint"))
        write_report(out.claim("report.html"), "The paint that a detector sees worst", {"In the photograph": blocks})
        return summary

    @torch.no_grad()
    def _detections(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ((boxes, labels, scores),) = checked_detections(self.detector, picture[None])
        keep = torch.ones(len(scores), dtype=torch.bool) if self.kind is None else labels == self.kind
        return boxes[keep], scores[keep]

    def _score(self, boxes: torch.Tensor, scores: torch.Tensor) -> float:
        """The best score on the car; 0 where it is not found."""
        on = scores[box_iou(boxes, self.box) >= 0.5]
        return float(on.max()) if len(on) else 0.0

    def _others(
        self, boxes: torch.Tensor, scores: torch.Tensor, boxes_after: torch.Tensor, scores_after: torch.Tensor
    ) -> list[tuple[float, float]]:
        """Scores before and after of what is not the car; 0 where it is lost."""
        pairs = []
        for box, score in zip(boxes, scores, strict=True):
            if float(score) < SEEN or float(box_iou(box, self.box)) >= 0.3:
                continue
            same = scores_after[box_iou(boxes_after, box) >= 0.5]
            pairs.append((float(score), float(same.max()) if len(same) else 0.0))
        return pairs
