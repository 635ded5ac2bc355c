"""Training of the synthesis of new views on random scenes, and how well it does on unseen and on moving ones."""

import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from simengine.dtn.metrics import ssim
from simengine.fit.gradient import GradientTraining
from simengine.fit.pictures import comparison, contact_sheet, summary_rows
from simengine.io import checkpoint
from simengine.mpm import MPMSolver
from simengine.render import PinholeCamera, Surfels, render_surfels
from simengine.render.solids import FAR, Paint, Solids, cameras, cast, painted, random_paint, random_solids
from simengine.render.view_synthesis import FORMULATIONS, Formulation, SourceViews, ViewSynthesis
from simengine.render.visibility import inside
from simengine.scene.mpm import MPMScene
from simengine.scene.pictures import ViewSynthesisSpec
from simengine.solve import rollout
from simengine.view.report import Block, Picture, Table, write_report

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

SHOWN = 6
HIDDEN = 0.15  # [m], how far behind the surface that a camera sees a point must be to count as hidden from it
SPEED_SIZES = (64, 128, 256)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A scene as the given cameras see it, and as another one does.

    Attributes:
        camera: The given cameras and, last, the other one: a batch of v + 1.
        pictures: Linear RGB, shape (v + 1, h, w, 3).
        depth: True depths [m], shape (v + 1, h, w).
    """

    camera: PinholeCamera
    pictures: torch.Tensor
    depth: torch.Tensor

    @property
    def given(self) -> tuple[torch.Tensor, PinholeCamera]:
        """Pictures and cameras that are given."""
        return self.pictures[:-1], _part(self.camera, slice(None, -1))

    def hidden(self) -> torch.Tensor:
        """Pixels of the other view whose surface some given camera does not see and another one does, (h, w), bool."""
        target = self.camera[-1]
        along = target.directions() @ target.rotation
        points = (target.position + along * self.depth[-1][..., None]).view(-1, 3)
        pictures, given = self.given
        projected = given.project(points)
        pixel, z = projected[..., :2], projected[..., 2]
        known = inside(pixel, z, given)
        h, w = pictures.shape[1:3]
        column, row = pixel[..., 0].long().clamp(0, w - 1), pixel[..., 1].long().clamp(0, h - 1)
        surface = self.depth[torch.arange(len(pictures))[:, None], row, column]
        behind = known & (z > surface + HIDDEN)
        seen = known & ~behind
        return (behind.any(0) & seen.any(0)).view(target.height, target.width)


def _part(camera: PinholeCamera, index: slice) -> PinholeCamera:
    return dataclasses.replace(
        camera, world_to_camera=camera.world_to_camera[index], intrinsics=camera.intrinsics[index]
    )


def random_views(spec: ViewSynthesisSpec) -> torch.Tensor:
    """Poses [rad] of the given cameras and, last, of another one among them, shape (v + 1, 2)."""
    low, high = spec.elevation
    even = torch.linspace(-0.5, 0.5, spec.views)
    azimuth = torch.cat([spec.spread * even, spec.spread * (torch.rand(1) - 0.5) * 0.8]) + 360 * torch.rand(1)
    elevation = low + (high - low) * torch.rand(spec.views + 1)
    return torch.stack([azimuth, elevation], dim=-1) * (math.pi / 180)


def pictured(solids: Solids, paint: Paint, camera: PinholeCamera) -> Example:
    """One scene seen by a batch of cameras."""
    views = len(camera.world_to_camera)
    hits = cast(solids.repeated(views), camera)
    again = torch.zeros(views, dtype=torch.long)
    return Example(camera=camera, pictures=painted(hits, paint[again]).clamp(0, 1), depth=hits.depth.clamp_max(FAR))


def random_example(spec: ViewSynthesisSpec) -> Example:
    """A new scene, from torch's global generator."""
    solids = random_solids(1, bodies=spec.bodies)
    return pictured(solids, random_paint(solids), cameras(random_views(spec), spec.size))


def moving_examples(spec: ViewSynthesisSpec, motion: MPMScene, *, seed: int) -> list[Example]:
    """Frames of a simulated motion on a painted floor; the unit cube of the simulation is 2.4 m wide in the scene."""
    torch.manual_seed(seed)
    poses = random_views(spec)
    every = motion.grid.num_steps // spec.frames
    model, state = motion.build(device="cpu")
    with torch.no_grad():
        x = rollout(MPMSolver(model), state, motion.grid.num_steps, save_every=every).states.x[1:]
    scale = 2.4 / motion.grid.length
    floor = motion.grid.dx * motion.walls.bound
    x = (x - torch.tensor([0.5 * motion.grid.length, floor, 0.5 * motion.grid.length])) * scale
    start = x[0]
    sines = (13 * start @ torch.randn(3, 3)).sin()
    colours = (torch.tensor([body.color for body in motion.bodies]).mean(0) + 0.25 + 0.25 * sines).clamp(0, 1)
    nothing = Solids(  # a body under the floor
        centres=torch.tensor([[[0.0, -9.0, 0.0]]]),
        axes=torch.eye(3).view(1, 1, 3, 3),
        half=torch.full((1, 1, 3), 0.1),
        ball=torch.ones(1, 1, dtype=torch.bool),
        floor=0.0,
    )
    camera = cameras(poses, spec.size)
    empty = pictured(nothing, random_paint(nothing), camera)
    radius = 0.6 * scale * motion.grid.dx / motion.bodies[0].particles_per_cell
    examples = []
    for frame in x:
        pictures, depths = [], []
        for k in range(len(poses)):
            towards = camera[k].position - frame
            discs = Surfels.oriented(frame, towards, scale=radius, colours=colours)
            image = render_surfels(discs, camera[k])
            solid = image.alpha
            pictures.append(image.rgb + (1 - solid) * empty.pictures[k])
            depths.append(torch.where(solid[..., 0] > 0.5, image.depth[..., 0], empty.depth[k]))
        examples.append(Example(camera=camera, pictures=torch.stack(pictures).clamp(0, 1), depth=torch.stack(depths)))
    return examples


class ViewSynthesisProblem:
    """Scenes that no training sees.

    Attributes:
        examples: Of random scenes.
        moving: Frames of a motion.
        observed: All pictures that are given, shape (scenes, v, h, w, 3).
    """

    def __init__(self, spec: ViewSynthesisSpec, *, seed: int) -> None:
        self.spec, self.seed = spec, seed
        torch.manual_seed(seed + 1_000_003)
        self.examples = [random_example(spec) for _ in range(spec.test_scenes)]
        self.moving = [] if spec.motion is None else moving_examples(spec, spec.motion, seed=seed + 5)
        self.observed = torch.stack([example.given[0] for example in self.examples])

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
        self.network = ViewSynthesis(num_planes=spec.planes, width=spec.width, coarse=spec.coarse, fine=spec.fine)
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
            example = random_example(spec)
        views = self.network.look(*example.given)
        found, _ = self.network(views, example.camera[-1], formulation=spec.visibility)
        error = (views.depth - example.depth[:-1]) / views.spread.detach().clamp_min(0.1)
        return {
            "picture": (found - example.pictures[-1]).abs().mean(),
            "depth": spec.depth_weight * nn_huber(error),
        }

    @torch.no_grad()
    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write `network/`, pictures, a video of the motion and a report; the summary holds what was measured."""
        problem, spec = self.problem, self.problem.spec
        meta = {"planes": spec.planes, "width": spec.width, "coarse": spec.coarse, "fine": spec.fine}
        checkpoint.save(out.path / "network", self.network.state_dict(), meta, tag=0)
        summary: dict[str, Any] = {"unseen": measure(self.network, problem.examples)}
        sheets = [Picture(shown(self.network, problem.examples[:SHOWN], spec.visibility), "Unseen scenes")]
        out.write("pictures.png", sheets[0].pixels)
        if problem.moving:
            summary["moving"] = measure(self.network, problem.moving)
            sheets.append(Picture(shown(self.network, problem.moving[:SHOWN], spec.visibility), "A moving body"))
            out.write("moving.png", sheets[1].pixels)
        summary["frames_per_cpu_second"] = frames_per_second(self.network, problem.examples[0], spec.visibility)
        out.write("fit.json", summary)
        table = Table(("figure", "value"), summary_rows(summary))
        blocks: dict[str, list[Block]] = {"Figures": [table], "Pictures": [*sheets]}
        write_report(out.path / "report.html", "New views with explicit visibility", blocks)
        return summary


def nn_huber(error: torch.Tensor) -> torch.Tensor:
    """Mean of Huber's function of an error."""
    return torch.nn.functional.huber_loss(error, torch.zeros_like(error))


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
