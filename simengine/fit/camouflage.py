"""Robustness of a detector: how well it sees, the texture it sees worst, and the detector retrained against it.

Four stages in one training: the detector, the texture, the hardened detector, the same attack anew on the hardened one.
"""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from simengine.dtn.camouflage import (
    NATURAL_PAINTS,
    PaintTexture,
    augment,
    evasion_loss,
    naive_texture,
    palette_distance,
    random_texture,
    total_variation,
)
from simengine.dtn.detector import AbstractDetector
from simengine.dtn.evaluation import DetectionTable, average_precision, cells, detect, precision_gap
from simengine.dtn.texture import TextureMap, texture_map
from simengine.dtn.views import CONDITIONS, ViewSet
from simengine.fit.dtn import DetectorTraining, Paint, make_detector, natural_paint, pictures, scene_views, varied_paint
from simengine.fit.gradient import GradientTraining
from simengine.fit.pictures import comparison
from simengine.fit.training import AbstractTraining
from simengine.io import checkpoint
from simengine.render.tone import decode_srgb
from simengine.view.report import Block, Picture, Table, write_report

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.scene.dtn import CamouflageSpec, DetectorSpec, DTNScene

CELLS = {"distance": (6, 8, 10, 12, 14), "pitch": (4, 16, 28, 40), "yaw": (0, 90, 180, 270, 360), "haze": (0, 1e-9, 1)}


class TextureTraining(GradientTraining):
    """Adam on the texels: expectation over views and augmentations of the evasion loss, smoothness and palette.

    Args:
        texture: What is optimised.
        detector: The detector attacked; its parameters stay as they are.
        views: The views.
        put_on: Their texture map.
        spec: Weights and lengths.
    """

    def __init__(
        self,
        texture: PaintTexture,
        detector: AbstractDetector,
        views: ViewSet,
        put_on: TextureMap,
        spec: "CamouflageSpec",
    ) -> None:
        self.texture, self.detector, self.views, self.put_on, self.spec = texture, detector, views, put_on, spec
        self.boxes = views.boxes()
        super().__init__(
            texture, self._objective, num_iterations=spec.iterations, learning_rate=spec.learning_rate, cosine=True
        )

    def _objective(self) -> Mapping[str, torch.Tensor]:
        index = torch.randint(len(self.views), (self.spec.batch,))
        texture = self.texture()
        images, boxes = augment(self.views[index].picture(self.put_on[index](texture)), self.boxes[index])
        terms = {"evasion": evasion_loss(self.detector, images, boxes, overlap=self.spec.overlap)}
        if self.spec.smoothness:
            terms["smoothness"] = self.spec.smoothness * total_variation(texture)
        if self.spec.palette:
            terms["palette"] = self.spec.palette * palette_distance(texture, NATURAL_PAINTS)
        return terms


class CamouflageTraining(AbstractTraining):
    """The stages one after another; all modules are part of the state."""

    def __init__(self, scene: "DTNScene", spec: "CamouflageSpec") -> None:
        torch.manual_seed(scene.seed)
        self.scene, self.spec = scene, spec
        self.views = scene_views(scene, scene.views, scene.train_views)
        self.attacked = self.views[torch.arange(min(spec.attack_views, len(self.views)))]
        self.put_on = self._map(self.attacked)
        size = (spec.rows, spec.columns)
        self.detector = make_detector(spec.detector)
        self.modules = nn.ModuleDict(
            {
                "detector": self.detector,
                "texture": PaintTexture(size, albedo=spec.albedo, seed=scene.seed),
                "hardened": copy.deepcopy(self.detector),
                "anew": PaintTexture(size, albedo=spec.albedo, seed=scene.seed + 1),
            }
        )
        names = ["detector", "texture"] + (["hardened", "anew"] if spec.hardening else [])
        other: DetectorSpec | None = None
        if spec.transfer:
            architecture = {"centre": "anchor", "anchor": "centre"}[spec.detector.architecture]
            other = type(spec.detector)(**{**vars(spec.detector), "architecture": architecture})
            self.modules["other"] = make_detector(other)
            names.append("other")
        lengths = {
            "detector": spec.detector.iterations,
            "texture": spec.iterations,
            "hardened": spec.hardening,
            "anew": spec.iterations,
            "other": spec.detector.iterations,
        }
        self.stages = [(name, lengths[name]) for name in names]
        self.num_iterations = sum(length for _, length in self.stages)
        self._position = 0
        self._done = 0
        self._stage = self._start(0)

    def _map(self, views: ViewSet) -> TextureMap:
        size = (self.spec.rows, self.spec.columns)
        return texture_map(views, size, mapping=self.spec.mapping, repetitions_per_metre=self.spec.repetitions)

    def _texture(self, name: str) -> torch.Tensor:
        with torch.no_grad():
            return self.modules[name]()

    def _start(self, position: int) -> GradientTraining:
        name, length = self.stages[position]
        module: Any = self.modules[name]
        if name in ("texture", "anew"):
            target: Any = self.modules["detector" if name == "texture" else "hardened"]
            for other in (self.modules["detector"], self.modules["hardened"]):
                other.requires_grad_(False)
            return TextureTraining(module, target, self.attacked, self.put_on, self.spec)
        module.requires_grad_(True)
        paint: Paint = natural_paint
        views, rate = self.views, self.spec.detector.learning_rate
        if name == "hardened":
            views, rate = self.attacked, rate / 2
            paint = varied_paint(self.put_on, [self._texture("texture")])
        batch = self.spec.detector.batch
        return DetectorTraining(module, views, paint, iterations=length, batch=batch, learning_rate=rate)

    def step(self) -> dict[str, float]:
        """One iteration of the current stage."""
        if self._done == self.stages[self._position][1]:
            self._position, self._done = self._position + 1, 0
            if self.stages[self._position][0] == "hardened":
                self.modules["hardened"].load_state_dict(self.modules["detector"].state_dict())
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
        self.modules.requires_grad_(False)
        checkpoint.save(
            out.path / "models", self.modules.state_dict(), {"architecture": self.spec.detector.architecture}, tag=0
        )
        test = scene_views(self.scene, self.scene.test_sampler, self.scene.test_views)
        size, put_on = (self.spec.rows, self.spec.columns), self._map(test)
        block = max(b for b in (1, 2, 4) if size[0] % b == 0 and size[1] % b == 0)
        textures = {
            "random": random_texture(size, 101, block=block),
            "naive": naive_texture(size, 7),
            "optimised": self._texture("texture"),
        }
        if self.spec.hardening:
            textures["optimised anew"] = self._texture("anew")
        paints: dict[str, Paint] = {"natural": natural_paint}
        paints |= {name: _worn(put_on, texture) for name, texture in textures.items()}
        boxes, summary, rows = test.boxes(), {}, []
        tables: dict[tuple[str, str], DetectionTable] = {}
        detectors: dict[str, Any] = {name: self.modules[name] for name, _ in self.stages if name in _DETECTORS}
        for name, detector in detectors.items():
            for worn, paint in paints.items():
                torch.manual_seed(self.scene.seed + 1)
                table = detect(detector, pictures(test, paint), boxes)
                tables[name, worn] = table
                figures = [average_precision(table), average_precision(table, 0.75)]
                missed = float(table.missed().float().mean())
                rows.append((name, worn, str(figures[0]), str(figures[1]), f"{missed:.3f}"))
                summary[f"{name}/{worn}"] = {"AP50": figures[0].value, "AP75": figures[1].value, "missed": missed}
        sections: dict[str, list[Block]] = {
            "Average precision": [
                f"{len(test)} unseen views; brackets: 95 % bootstrap interval; missed: no detection above 0.5",
                Table(("detector", "paint", "AP@.5", "AP@.75", "missed"), rows),
            ]
        }
        by_cell = []
        for name, edges in CELLS.items():
            values = test.conditions[:, CONDITIONS.index(name)]
            for cell, number, plain in cells(tables["detector", "natural"], values, edges):
                worst = {c: e for c, _, e in cells(tables["detector", "optimised"], values, edges)}[cell]
                by_cell.append((name, cell, number, str(plain), str(worst)))
        header = ("condition", "cell", "views", "natural", "optimised")
        sections["Cells (detector, AP@.5)"] = [Table(header, by_cell)]
        gap, sheet = self._rendered_in_full(test, put_on, tables["detector", "optimised"])
        summary["gap"] = {"value": gap.value, "low": gap.low, "high": gap.high}
        caption = f"AP@.5 in full renders less AP@.5 in predicted pictures: {gap}"
        sections["Predicted beside rendered in full"] = [caption, Picture(sheet)]
        for name, texture in textures.items():
            out.write(f"texture_{name.replace(' ', '_')}.png", texture.repeat_interleave(8, 0).repeat_interleave(8, 1))
        out.write("textures.npz", textures)
        out.write("rendered.png", sheet)
        write_report(out.path / "report.html", "Robustness of a detector", sections)
        return summary

    def _rendered_in_full(self, test: ViewSet, put_on: TextureMap, table: DetectionTable) -> tuple[Any, Any]:
        """The gap in AP to pictures traced with the texture on the object, and a sheet of both."""
        texture, scene, spec = self._texture("texture"), self.scene, self.spec
        number = min(spec.rendered, len(test))
        index = torch.arange(number)
        surface, images = scene.surface(), []
        for k in index.tolist():
            view = scene.test_sampler.render(
                surface,
                int(test.index[k]),
                test.size,
                sky_rays=scene.sky_rays,
                paint=texture,
                repetitions_per_metre=0.0 if spec.mapping == "uv" else spec.repetitions,
            )
            images.append(test.tone.encode(view.radiance.permute(2, 0, 1)))
        rendered = torch.stack(images)
        detector: Any = self.modules["detector"]
        few = test[index]
        predicted = detect(detector, pictures(few, _worn(put_on[index], texture)), few.boxes())
        full = detect(detector, rendered.split(32), few.boxes())
        strip = torch.arange(min(8, number))
        rows = {"predicted": test[strip].picture(put_on[strip](texture)), "rendered in full": rendered[strip]}
        rows["5 x error"] = (5 * (rows["predicted"] - rows["rendered in full"]).abs()).clamp(0, 1)
        sheet = comparison({name: decode_srgb(row).permute(0, 2, 3, 1) for name, row in rows.items()})
        return precision_gap(predicted, full), sheet


_DETECTORS = ("detector", "hardened", "other")


def _worn(put_on: TextureMap, texture: torch.Tensor) -> Paint:
    return lambda index: put_on[index](texture)
