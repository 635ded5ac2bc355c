"""Robustness of a detector: how well it sees, the texture it sees worst, and the detector retrained against it.

Stages of one training: the detector, the textures, the hardened detector in rounds with a short attack before each but
the first, the same attack anew on the hardened one. Where the scene asks for them: a network as the pipeline of the
attacks; controls, retrained for as long without any attack, and attacked anew as well; an attack that sees scores alone
on each of these; a second detector, shown what fools the first.
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from simengine.dtn.camouflage import PaintTexture
from simengine.dtn.checks import check_detector
from simengine.dtn.evaluation import detect
from simengine.dtn.protocol import Detector
from simengine.dtn.texture import TextureMap, texture_map
from simengine.dtn.views import ViewSet
from simengine.fit.training import AbstractTraining
from simengine.io import checkpoint
from simengine.io.model_folder import write_model
from simengine.scene.base import SceneError
from simengine.scene.grammar import Scene
from simengine.worlds.detectors.appearance import make_network
from simengine.worlds.detectors.attacks import CONTROLS, SquareTraining, Target, TextureTraining, anew, loss_of
from simengine.worlds.detectors.detector import (
    DetectorSchedule,
    DetectorTraining,
    HardeningTraining,
    PictureSet,
    make_detector,
    paint_of,
    wear,
)
from simengine.worlds.detectors.network import (
    NetworkTraining,
    Predictor,
    affine_predictor,
    network_predictor,
)
from simengine.worlds.detectors.renders import RendersWorld
from simengine.worlds.detectors.sources import empty_views_of, seen_views_of

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.worlds.detectors.world import CamouflageSpec, DTNWorld


def training(scene: Scene, *, device: str | None = None) -> "CamouflageTraining":
    """The optimisation of a scene; the bounds of the unknown are those of the albedo."""
    from simengine.worlds.detectors.world import CamouflageSpec, DTNWorld

    spec = scene.objective
    assert isinstance(scene.world, DTNWorld | RendersWorld) and isinstance(spec, CamouflageSpec)
    sought = scene.unknowns[spec.seeks]
    low, high = spec.albedo
    bounds = (low if sought.lower is None else sought.lower, high if sought.upper is None else sought.upper)
    try:
        spec = dataclasses.replace(spec, albedo=bounds)
    except ValueError as error:
        raise SceneError(f'unknowns."{spec.seeks}": {error}') from None
    return CamouflageTraining(scene.world, spec, device=device)


class CamouflageTraining(AbstractTraining):
    """The stages one after another; all modules are part of the state.

    Args:
        scene: Object and views, rendered here or, by a network trained on them, of files.
        spec: Lengths and weights.
        detector: A detector of one's own to evaluate instead of the scene's, as it is: an `nn.Module` of the protocol
            `Detector`. A copy in evaluation mode is used, so that nothing of it moves or is frozen. With
            `spec.hardening` it must have a training loss, `loss(images, boxes)` as of `AbstractDetector`; the class
            of the object is `spec.kind`.
        device: Where views, detectors and textures lie; None for the CPU. Rays are cast there too, and what is counted
            is counted on the CPU.

    Raises:
        ValueError: The detector does not fit the protocol (`simengine.dtn.checks` names how), or cannot be hardened.
    """

    def __init__(
        self,
        scene: "DTNWorld | RendersWorld",
        spec: "CamouflageSpec",
        *,
        detector: nn.Module | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        torch.manual_seed(scene.seed)
        self.device = torch.device(device or "cpu")
        self.scene: DTNWorld | RendersWorld = scene
        self.spec: CamouflageSpec = spec
        self.given: bool = detector is not None
        if scene.label_names[0] in scene.label_names[1:]:
            raise ValueError(
                f"views.classes: further objects of the class {scene.label_names[0]!r} would be counted as "
                "false alarms; leave it out of views.classes, or set views.objects = [0, 0]"
            )
        if detector is not None and not isinstance(detector, nn.Module):
            raise ValueError(
                f"detector: expected an nn.Module, got {type(detector).__name__}; derive it from nn.Module"
            )
        if detector is not None and not isinstance(detector, Detector):
            raise ValueError(f"detector: expected the methods dense and predict, which {type(detector).__name__} lacks")
        if detector is not None and spec.hardening and not callable(getattr(detector, "loss", None)):
            raise ValueError(
                f"detector: hardening needs a method loss(images, boxes), which {type(detector).__name__} lacks; "
                "give it one (simengine.dtn's adapters of other libraries have it), or set hardening = 0"
            )
        if isinstance(scene, RendersWorld):
            scene.check_objective(spec)
        self.views: ViewSet = seen_views_of(scene, device=self.device)
        self.empty: ViewSet | None = empty_views_of(scene, spec.detector.empty, device=self.device)
        self.attacked: ViewSet = self.views[torch.arange(min(spec.attack_views, len(self.views)))]
        self.put_on: TextureMap = self.map(self.attacked)
        own: Any = make_detector(spec.detector) if detector is None else copy.deepcopy(detector).eval()
        own.to(self.device)
        if getattr(own, "kind", 0) is None:  # an adapter learns the class whose detections count
            own.kind = spec.kind
        check_detector(own, self.attacked[:2].picture(torch.full((1, 3, 1, 1), 0.4)), kind=spec.kind)
        self.modules: nn.ModuleDict = nn.ModuleDict({"detector": own})
        self.stages = [] if detector is not None else [("detector", spec.detector.iterations)]
        if spec.pipeline == "network":
            self._add("network", make_network(spec.network), spec.network.iterations)
        self.targets: dict[str, str] = {}  # whom the texture of a stage is made against
        self._add_textures("texture", scene.seed, "detector")
        if spec.hardening:
            self.modules["adversaries"] = nn.ModuleList(self._texture(scene.seed) for _ in range(spec.adversaries))
            lengths = [len(part) for part in torch.arange(spec.hardening).tensor_split(spec.rounds)]
            for name in self.retrained:
                self.modules[name] = copy.deepcopy(own)
                for k, length in enumerate(lengths):
                    if k and name == "hardened":
                        self._add_texture(f"sparring_{k}", scene.seed + 1000 + k, spec.sparring, name)
                    self.stages.append((f"{name}_{k}", length))
                self._add_textures(anew(name), scene.seed + spec.restarts, name)
        if spec.black_box:
            for k, name in enumerate(("detector", *self.retrained)):
                self._add_texture(f"black_box_{name}", scene.seed + 2000 + k, spec.black_box, name)
        if spec.transfer:
            architecture = {"centre": "anchor", "anchor": "centre"}[spec.detector.architecture]
            other = type(spec.detector)(**{**vars(spec.detector), "architecture": architecture})
            self._add("other", make_detector(other), spec.detector.iterations)
        self.modules.to(self.device)
        self.num_iterations: int = sum(length for _, length in self.stages)
        self._position = 0
        self._done = 0
        self._stage = self._start(0)

    def _add(self, name: str, module: nn.Module, length: int) -> None:
        self.modules[name] = module
        self.stages.append((name, length))

    def _texture(self, seed: int) -> PaintTexture:
        return PaintTexture((self.spec.rows, self.spec.columns), albedo=self.spec.albedo, seed=seed)

    def _add_texture(self, name: str, seed: int, length: int, target: str) -> None:
        self.targets[name] = target
        self._add(name, self._texture(seed), length)

    def _add_textures(self, prefix: str, seed: int, target: str) -> None:
        for k in range(self.spec.restarts):
            self._add_texture(f"{prefix}_{k}", seed + k, self.spec.iterations, target)

    @property
    def retrained(self) -> tuple[str, ...]:
        """The detectors that start from the first: hardened, and its controls."""
        return () if not self.spec.hardening else ("hardened", *(CONTROLS if self.spec.controls else ()))

    def map(self, views: ViewSet) -> TextureMap:
        """The texture map of views, as the scene puts textures on."""
        size = (self.spec.rows, self.spec.columns)
        return texture_map(views, size, mapping=self.spec.mapping, repetitions_per_metre=self.spec.repetitions)

    def predictor(self, views: ViewSet) -> Predictor:
        """What predicts pictures of the views inside the pipeline."""
        if "network" not in self.modules:
            return affine_predictor(views)
        network: Any = self.modules["network"]
        return network_predictor(network, views)

    def _attack(self, name: str, length: int) -> AbstractTraining:
        texture: Any = self.modules[name]
        detector: Any = self.modules[self.targets[name]]
        spec = dataclasses.replace(self.spec, iterations=length)
        target = Target(texture, detector, self.attacked, self.put_on, spec, self.predictor(self.attacked))
        if name.startswith("black_box"):
            return SquareTraining(target, iterations=length)
        restart = int(name.rpartition("_")[2])
        return TextureTraining(target, evasion=loss_of(spec, 0 if name.startswith("sparring") else restart))

    @torch.no_grad()
    def visibility(self, name: str) -> float:
        """AP@.5 of the detector that a texture was made against, over the attacked views that wear it."""
        attacked, paint = PictureSet(self.attacked, self.empty), wear(self.put_on, self.modules[name]())
        images = attacked.pictures(paint, self.predictor(self.attacked))
        target: Any = self.modules[self.targets[name]]
        return float(detect(target, images, attacked.boxes, kind=self.spec.kind).average_precision())

    def found(self, prefix: str) -> torch.Tensor:
        """Of the textures of a prefix, `"texture"` or what `anew` names, the one that leaves the lowest AP.

        Also the single one of a stage, by its name.
        """
        names = [name for name in self.targets if name == prefix or name.rpartition("_")[0] == prefix]
        best = min(names, key=self.visibility) if len(names) > 1 else names[0]
        with torch.no_grad():
            return self.modules[best]()

    def _start(self, position: int) -> AbstractTraining:
        name, length = self.stages[position]
        stem = name.rpartition("_")[0]
        module: Any = self.modules[name if name in self.modules else stem]
        self.modules.requires_grad_(False)
        module.requires_grad_(True)
        if isinstance(module, PaintTexture):
            return self._attack(name, length)
        if name == "network":
            assert not isinstance(self.scene, RendersWorld)  # refused before
            return NetworkTraining(self.scene, self.spec.network, network=module, views=self.views, device=self.device)
        spec = self.spec.detector
        rate = spec.learning_rate / 2 if stem in self.retrained else spec.learning_rate
        schedule = DetectorSchedule(length, spec.batch, rate)
        if stem in ("hardened", "patterns"):
            adversaries: Any = self.modules["adversaries"] if stem == "hardened" else []
            with torch.no_grad():
                earlier = [self.modules[before] for before, _ in self.stages[:position] if before in self.modules]
                found = [texture() for texture in earlier if isinstance(texture, PaintTexture)]
            return HardeningTraining(
                module,
                self.views,
                self.map(self.views),
                found if stem == "hardened" else [],
                adversaries,
                climb=self.spec.adversary if stem == "hardened" else 0.0,
                schedule=schedule,
                empty=self.empty,
            )
        paint = paint_of(spec, self.views)
        return DetectorTraining(module, self.views, paint, schedule=schedule, empty=self.empty)

    def step(self) -> dict[str, float]:
        """One iteration of the current stage."""
        if self._done == self.stages[self._position][1]:
            self._position, self._done = self._position + 1, 0
            name, _, number = self.stages[self._position][0].rpartition("_")
            if name in self.retrained and number == "0":
                self.modules[name].load_state_dict(self.modules["detector"].state_dict())
            self._stage = self._start(self._position)
        self._done += 1
        return {**self._stage.step(), "stage": float(self._position)}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """All modules, and the optimiser of the current stage."""
        state = {f"modules.{name}": value.clone() for name, value in self.modules.state_dict().items()}
        state |= {f"stage.{name}": value for name, value in self._stage.state_dict().items()}
        return {**state, "position": torch.tensor([self._position, self._done])}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""

        def under(prefix: str) -> dict[str, torch.Tensor]:
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

        self.modules.load_state_dict(under("modules."))
        self._position, self._done = state["position"].tolist()
        self._stage = self._start(self._position)
        self._stage.load_state_dict(under("stage."))

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """AP of every detector for every paint, cells, gap to full renders; `report.html`, textures, weights."""
        from simengine.worlds.detectors.report import write_camouflage_report

        self.modules.requires_grad_(False)
        checkpoint.save(
            out.path / "models", self.modules.state_dict(), {"architecture": self.spec.detector.architecture}, tag=0
        )
        summary = write_camouflage_report(self, out)
        if self.spec.hardening:
            self._write_hardened(summary, out)
        return summary

    def _write_hardened(self, summary: Mapping[str, Any], out: "RunDirectory") -> None:
        """The hardened detector: a model folder as `train` writes one; of a detector of one's own its weights."""
        weights = self.modules["hardened"].state_dict()
        if self.given:
            from safetensors.torch import save

            file = out.claim("hardened.safetensors")
            file.write_bytes(save({name: value.contiguous().clone() for name, value in weights.items()}))
            return
        spec = self.spec.detector
        write_model(
            out,
            spec.type,
            weights,
            reads="pictures whose sides divide by 8",
            gives="boxes with scores",
            options={"architecture": spec.architecture, "width": spec.width},
            trained_on={"hardening": self.spec.hardening, "views": len(self.views), "size": list(self.scene.shape)},
            tested={name: figures for name, figures in summary.items() if name.startswith("hardened/")},
        )
