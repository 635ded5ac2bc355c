"""Attacks in simulation that a hardened detector has to withstand: by gradients, and by scores alone.

A detector whose gradients lead nowhere looks robust to the first kind and falls to the second (Athalye et al., ICML
2018; Carlini et al. 2019), so an evaluation that means something has both.
"""

import dataclasses
import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from simengine.dtn.bodies.paints import NATURAL_PAINTS
from simengine.dtn.camouflage import (
    Evasion,
    PaintTexture,
    augment,
    evasion_loss,
    naive_texture,
    palette_distance,
    total_variation,
)
from simengine.dtn.evaluation import checked_predict
from simengine.dtn.protocol import Detector, box_iou
from simengine.dtn.texture import TextureMap
from simengine.dtn.views import ViewSet
from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.gradient import GradientTraining
from simengine.worlds.detectors.network import Predictor, affine_predictor

if TYPE_CHECKING:
    from simengine.worlds.detectors.world import CamouflageSpec

LOSSES: tuple[Evasion, ...] = ("soft", "all", "best")  # that restarts take turns through
CONTROLS = ("more", "patterns")  # as many steps on the paints of the detector, and on random colours and patterns
AREAS = ((0.0, 0.8), (0.001, 0.4), (0.005, 0.2), (0.02, 0.1), (0.1, 0.05), (0.2, 0.025), (0.4, 0.0125), (0.6, 0.00625))
KEPT = 20  # proposals that are judged on the same pictures
JUDGED = 32  # pictures that they are judged on: what fools few of them fools no others
BLOTCHES = 8  # camouflages that the attack may start from


def anew(retrained: str) -> str:
    """Prefix of the textures made against a retrained detector."""
    return "anew" if retrained == "hardened" else f"anew_{retrained}"


def loss_of(spec: "CamouflageSpec", restart: int) -> Evasion:
    """The loss of a restart."""
    return LOSSES[restart % len(LOSSES)] if spec.evasion == "each" else spec.evasion


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """What an attack works on, of either kind.

    Attributes:
        texture: What is sought.
        detector: The detector attacked; its parameters stay as they are.
        views: The views.
        put_on: Their texture map.
        spec: Weights, lengths, pictures a step.
        predictor: What predicts the pictures; the affine law of the views if None.
    """

    texture: PaintTexture
    detector: Detector
    views: ViewSet
    put_on: TextureMap
    spec: "CamouflageSpec"
    predictor: Predictor | None = None

    @cached_property
    def boxes(self) -> torch.Tensor:
        """Of the object in each view [pixels], (n, 4)."""
        return self.views.boxes()

    def pictures(self, index: torch.Tensor, texture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures of some of the views in a texture, moved, scaled and lit at random, and the object's boxes there."""
        predict = self.predictor or affine_predictor(self.views)
        return augment(predict(index, self.put_on[index](texture)), self.boxes[index])


class TextureTraining(GradientTraining):
    """Adam on the texels: expectation over views and augmentations of the evasion loss, smoothness and palette.

    Args:
        target: Texture, detector and views.
        evasion: The loss; the first of `target.spec` if None.
    """

    def __init__(self, target: Target, *, evasion: Evasion | None = None) -> None:
        spec = target.spec
        self.target: Target = target
        self.evasion: Evasion = evasion or loss_of(spec, 0)
        super().__init__(
            target.texture,
            self._objective,
            num_iterations=spec.iterations,
            learning_rate=spec.learning_rate,
            cosine=True,
        )

    def _objective(self) -> Mapping[str, torch.Tensor]:
        target, spec, texture = self.target, self.target.spec, self.target.texture()
        images, boxes = target.pictures(torch.randint(len(target.views), (spec.batch,)), texture)
        loss = evasion_loss(target.detector, images, boxes, overlap=spec.overlap, kind=spec.kind, over=self.evasion)
        terms = {"evasion": loss}
        if spec.smoothness:
            terms["smoothness"] = spec.smoothness * total_variation(texture)
        if spec.palette:
            terms["palette"] = spec.palette * palette_distance(texture, NATURAL_PAINTS)
        return terms


class SquareTraining(AbstractTraining):
    """Square attack on the texels: sees boxes and scores of `predict`, no gradient and nothing before suppression.

    It starts from what is seen worst of the natural paints and of blotches in three colours. A square of the texture
    takes an extreme colour at random, and stays if the loss falls; its share of the texture shrinks as in AutoAttack
    (Andriushchenko et al., ECCV 2020; Croce and Hein, ICML 2020). Views and transformations of them are drawn anew
    every KEPT proposals, so that what stays helps on all of them.

    Args:
        target: Texture, detector and views.
        iterations: Proposals; each costs one look of the detector at JUDGED pictures.
    """

    def __init__(self, target: Target, *, iterations: int) -> None:
        self.target: Target = target
        self.num_iterations = iterations
        self.iteration: int = 0
        low, high = target.texture.albedo
        self.bounds: torch.Tensor = torch.tensor(
            [low + 0.01 * (high - low), high - 0.01 * (high - low)]
        )  # as `PaintTexture.set`
        self._index, self._seed, self._best = torch.arange(min(JUDGED, len(target.views))), 0, math.inf

    def _extreme(self, *shape: int) -> torch.Tensor:
        return self.bounds[torch.randint(2, (*shape, 3))]

    def _views(self) -> torch.Tensor:
        """Numbers of the views that the next proposals are judged on."""
        return torch.randperm(len(self.target.views))[:JUDGED]

    def _start(self) -> torch.Tensor:
        """What the detector sees worst of the natural paints, over all of the object, and of blotches."""
        size, (low, high) = self.target.texture.size, self.bounds.tolist()
        flat = [torch.tensor(paint).expand(*size, 3) for paint in NATURAL_PAINTS]
        blotched = [naive_texture(size, seed) for seed in range(BLOTCHES)]
        return min((texture.clamp(low, high) for texture in (*flat, *blotched)), key=self.loss)

    def _proposal(self) -> torch.Tensor:
        rows, columns = self.target.texture.size
        done = self.iteration / self.num_iterations
        area = next(area for start, area in reversed(AREAS) if done >= start)
        side = max(1, min(rows, columns, round(math.sqrt(area * rows * columns))))
        row, column = int(torch.randint(rows - side + 1, ())), int(torch.randint(columns - side + 1, ()))
        proposal = self.target.texture().detach().clone()
        proposal[row : row + side, column : column + side] = self._extreme().to(proposal.device)
        return proposal

    @torch.no_grad()
    def loss(self, texture: torch.Tensor) -> float:
        """Mean over the pictures of the sum of -log(1 - s), s the scores times how surely they are of the object."""
        target, spec = self.target, self.target.spec
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            images, boxes = target.pictures(self._index, texture)
        total = 0.0
        found_in = checked_predict(target.detector, images, spec.kind)
        for (found, scores), box in zip(found_in, boxes.cpu(), strict=True):
            counts = torch.sigmoid((box_iou(found, box) - spec.overlap) / 0.1)
            total -= float(torch.log1p(-(scores * counts).clamp(max=1 - 1e-6)).sum())
        return total / len(images)

    def step(self) -> dict[str, float]:
        """One proposal."""
        if self.iteration % KEPT == 0:
            self._index = self._views()
            self._seed = int(torch.randint(1 << 30, ()))
            if self.iteration == 0:
                self.target.texture.set(self._start())
            self._best = self.loss(self.target.texture())
        proposal = self._proposal()
        value = self.loss(proposal)
        if value < self._best:
            self.target.texture.set(proposal)
            self._best = value
        self.iteration += 1
        return {"loss": self._best, "proposed": value}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Texture, counter, and the pictures that proposals are judged on."""
        state = {f"texture.{name}": value.clone() for name, value in self.target.texture.state_dict().items()}
        counters = torch.tensor([self.iteration, self._seed])
        return {**state, "counters": counters, "index": self._index, "best": torch.tensor(self._best).double()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        prefix = "texture."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        self.target.texture.load_state_dict(own)
        self.iteration, self._seed = (int(v) for v in state["counters"])
        self._index, self._best = state["index"], float(state["best"])
