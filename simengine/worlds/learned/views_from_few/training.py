"""Training of the synthesis of new views on random scenes, and how well it does on unseen and on moving ones."""

import time
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from simengine.dtn.metrics import ssim
from simengine.fit.trainings.gradient import GradientTraining
from simengine.io.model_folder import write_model
from simengine.scene.grammar import Scene
from simengine.view.report import Block, Picture, ReportTable, write_report
from simengine.view.sheets import comparison, contact_sheet, summary_rows
from simengine.worlds.learned.views_from_few.examples import (
    Example,
    moving_examples,
    random_example,
    random_particle_example,
)
from simengine.worlds.learned.views_from_few.network import FORMULATIONS, Formulation, SourceViews, ViewSynthesis
from simengine.worlds.learned.views_from_few.spec import ViewSynthesisSpec

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

SHOWN = 6
RAYS = 1024  # of the other view, in each step
SPEED_SIZES = (64, 128, 256)
PARTICLE_SHARE = 0.4  # of the training scenes: bent bodies of particles


def training(scene: Scene, *, device: str | None = None) -> "ViewSynthesisTraining":
    """The training of a scene."""
    assert isinstance(scene.learner, ViewSynthesisSpec)
    return ViewSynthesisProblem(scene.learner, seed=scene.world.seed).training()


class ViewSynthesisProblem:
    """Scenes that no training sees.

    Attributes:
        examples: Of random scenes.
        moving: Frames of a motion.
        observed: All pictures that are given, shape (scenes, v, h, w, 3).
    """

    def __init__(self, spec: ViewSynthesisSpec, *, seed: int) -> None:
        self.spec: ViewSynthesisSpec = spec
        self.seed: int = seed
        torch.manual_seed(seed + 1_000_003)
        self.examples: list[Example] = [random_example(spec) for _ in range(spec.test_scenes)]
        self.moving: list[Example] = [] if spec.motion is None else moving_examples(spec, spec.motion, seed=seed + 5)
        self.observed: torch.Tensor = torch.stack([example.given[0] for example in self.examples])

    def contact_sheet(self, images: torch.Tensor) -> NDArray[Any]:
        """The pictures of each scene in a row."""
        return contact_sheet(images, columns=images.shape[-4])

    def training(self) -> "ViewSynthesisTraining":
        """The training of the network."""
        return ViewSynthesisTraining(self)


class ViewSynthesisTraining(GradientTraining):
    """Adam on the picture of another view and the depths of the given ones; a new scene in each step."""

    def __init__(self, problem: ViewSynthesisProblem) -> None:
        spec = problem.spec
        torch.manual_seed(problem.seed)
        self.problem = problem
        self.network: ViewSynthesis = ViewSynthesis(
            num_planes=spec.planes, width=spec.width, coarse=spec.coarse, fine=spec.fine
        )
        super().__init__(
            self.network,
            self._objective,
            num_iterations=spec.iterations,
            learning_rate=spec.learning_rate,
            cosine=True,
            clip_norm=1.0,
        )

    def _objective(self) -> dict[str, torch.Tensor]:
        spec = self.problem.spec
        with torch.no_grad():
            draw = random_particle_example if torch.rand(()) < PARTICLE_SHARE else random_example
            example = draw(spec)
        looks = self.network.looks(*example.given)
        camera = example.camera[-1]
        rays = torch.randperm(spec.size**2)[:RAYS]
        along = (camera.directions() @ camera.rotation).view(-1, 3)[rays]
        found, _ = self.network.rays(looks[-1], camera.position, along, formulation=spec.visibility)
        depth = torch.stack([surprise(views, example.depth[:-1]) for views in looks]).mean()
        return {
            "picture": (found - example.pictures[-1].view(-1, 3)[rays]).abs().mean(),
            "depth": spec.depth_weight * depth,
        }

    @torch.no_grad()
    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write `model/`, pictures, a video of the motion and a report; the summary holds what was measured."""
        problem, spec = self.problem, self.problem.spec
        summary: dict[str, Any] = {"unseen": measure(self.network, problem.examples)}
        sheets = [Picture(shown(self.network, problem.examples[:SHOWN], spec.visibility), "Unseen scenes")]
        out.write("pictures.png", sheets[0].pixels)
        if problem.moving:
            summary["moving"] = measure(self.network, problem.moving)
            sheets.append(Picture(shown(self.network, problem.moving[:SHOWN], spec.visibility), "A moving body"))
            out.write("moving.png", sheets[1].pixels)
        summary["frames_per_cpu_second"] = frames_per_second(self.network, problem.examples[0], spec.visibility)
        out.write("fit.json", summary)
        write_model(
            out,
            spec.type,
            self.network.state_dict(),
            reads="photographs with their cameras",
            gives="the picture of a camera among them",
            options={
                **{"planes": spec.planes, "width": spec.width, "coarse": spec.coarse, "fine": spec.fine},
                "visibility": spec.visibility,
            },
            trained_on={"views": spec.views, "size": spec.size, "spread": spec.spread, "elevation": spec.elevation},
            tested=summary,
        )
        table = ReportTable(("figure", "value"), summary_rows(summary))
        blocks: dict[str, list[Block]] = {"Figures": [table], "Pictures": [*sheets]}
        write_report(out.path / "report.html", "New views with explicit visibility", blocks)
        return summary


def surprise(views: SourceViews, depth: torch.Tensor) -> torch.Tensor:
    """Mean of -log p of true depths [m], shape (v, h, w), each shared by the two planes around it."""
    z = 1 / views.planes
    place = ((1 / depth - z[0]) / (z[-1] - z[0]) * (len(z) - 1)).clamp(0, len(z) - 1)
    shares = (1 - (place[:, None] - torch.arange(len(z))[None, :, None, None]).abs()).clamp_min(0)
    return -(shares * (views.probability + 1e-8).log()).sum(1).mean()


def _decibels(square: torch.Tensor) -> float:
    return float(-10 * torch.log10(square.clamp_min(1e-12)))


@torch.no_grad()
def measure(network: ViewSynthesis, examples: list[Example]) -> dict[str, Any]:
    """PSNR and SSIM of the other views by formulation of visibility, over all pixels and over the hidden ones.

    Returns:
        By formulation `psnr`, `psnr_hidden` [dB] and `ssim`; `hidden_share` of the pixels; `depth_rmse` of the given
        views [m].
    """
    looked = [network.look(*example.given) for example in examples]
    hidden = torch.stack([example.hidden() for example in examples])
    true = torch.stack([example.pictures[-1] for example in examples])
    result: dict[str, Any] = {"hidden_share": float(hidden.double().mean())}
    errors = [(v.depth - e.depth[:-1]).square().mean() for v, e in zip(looked, examples, strict=True)]
    result["depth_rmse"] = float(torch.stack(errors).mean().sqrt())
    for formulation in FORMULATIONS:
        made = torch.stack(
            [network(v, e.camera[-1], formulation=formulation)[0] for v, e in zip(looked, examples, strict=True)]
        )
        square = (made - true).square().mean(-1)
        result[formulation] = {
            "psnr": _decibels(square.mean()),
            "psnr_hidden": _decibels(square[hidden].mean()),
            "ssim": float(ssim(made.permute(0, 3, 1, 2), true.permute(0, 3, 1, 2))),
        }
    return result


@torch.no_grad()
def shown(network: ViewSynthesis, examples: list[Example], formulation: Formulation) -> NDArray[Any]:
    """True and made pictures side by side, without and with visibility, and which pixels some camera cannot see."""
    rows: dict[str, list[torch.Tensor]] = {}
    for example in examples:
        views = network.look(*example.given)
        with_it, depth = network(views, example.camera[-1], formulation=formulation)
        without, _ = network(views, example.camera[-1], formulation="none")
        for name, image in (
            ("given (first)", example.pictures[0]),
            ("its depth, estimated", ((5.5 - views.depth[0]) / 2.5)[..., None].expand(-1, -1, 3)),
            ("another view: true", example.pictures[-1]),
            (f"made, visibility: {formulation}", with_it),
            ("made without visibility", without),
            ("its depth", ((5.5 - depth) / 2.5)[..., None].expand(-1, -1, 3)),
            ("hidden from some", example.hidden().to(depth)[..., None].expand(-1, -1, 3)),
        ):
            rows.setdefault(name, []).append(image.clamp(0, 1))
    return comparison({name: torch.stack(images) for name, images in rows.items()})


@torch.no_grad()
def frames_per_second(network: ViewSynthesis, example: Example, formulation: Formulation) -> dict[str, float]:
    """New views per second of CPU time by resolution, once the given views have been looked at."""
    views: SourceViews = network.look(*example.given)
    rates = {}
    for size in SPEED_SIZES:
        camera = example.camera[-1].resized(size, size)
        network(views, camera, formulation=formulation)
        start = time.process_time()
        network(views, camera, formulation=formulation)
        rates[str(size)] = 1 / (time.process_time() - start)
    return rates
