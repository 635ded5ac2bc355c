"""Training of Pix2Shape on scenes that we render, and what it has learned: depth, novel views, mental rotation."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import nn

from simengine.fit.trainings.gradient import GradientTraining, _flatten_optimiser, _restore_optimiser
from simengine.io.model_folder import write_model
from simengine.scene.grammar import Scene
from simengine.view.report import Picture, ReportTable, write_report
from simengine.view.sheets import comparison, contact_sheet, pyramid, summary_rows
from simengine.worlds.learned.pix2shape.chains import all_chains, chain_solids, mirror_images, quarter_turns
from simengine.worlds.learned.pix2shape.networks import (
    Critic,
    Decoder,
    Encoder,
    gradient_penalty,
    hausdorff,
    in_a_mirror,
    picture_of_depth,
    picture_of_solids,
    regularisers,
)
from simengine.worlds.learned.pix2shape.spec import Pix2ShapeSpec
from simengine.worlds.learned.solids import Solids, cameras, random_solids

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

SHOWN = 8
PENALTY = 10.0  # of WGAN-GP
CRITIC_EVERY = 4  # steps: the critic guides what no picture tells, the pictures tell the rest
TEMPERATURE = 0.1  # of InfoNCE
LEVELS = 3  # halvings at which pictures are compared as well: depth is found coarse to fine


def random_scenes(spec: Pix2ShapeSpec, count: int, *, unseen: bool = False) -> Solids:
    """New scenes, from torch's global generator; chains are chiral, unseen ones of groups that no training draws."""
    if spec.bodies == "solids":
        return random_solids(count, bodies=spec.count)
    chains = all_chains(spec.count).part(held_out=unseen)
    return chain_solids(chains.cells[chains.draw(count, chiral=True)])


def random_poses(spec: Pix2ShapeSpec, count: int) -> torch.Tensor:
    """Azimuth and elevation of cameras [rad], shape (count, 2)."""
    low, high = spec.elevation
    azimuth = spec.azimuth * (2 * torch.rand(count) - 1)
    return torch.stack([azimuth, low + (high - low) * torch.rand(count)], dim=-1) * (math.pi / 180)


def training(scene: Scene, *, device: str | None = None) -> "Pix2ShapeTraining":
    """The training of a scene."""
    assert isinstance(scene.learner, Pix2ShapeSpec)
    return Pix2ShapeProblem(scene.learner, seed=scene.world.seed).training()


class Pix2ShapeProblem:
    """Scenes that no training sees.

    Attributes:
        observed: One picture of each, linear RGB, shape (b, h, w, 3).
        depth: Their true depths [m], shape (b, h, w).
    """

    def __init__(self, spec: Pix2ShapeSpec, *, seed: int) -> None:
        self.spec: Pix2ShapeSpec = spec
        self.seed: int = seed
        torch.manual_seed(seed + 1_000_003)
        self.scenes: Solids = random_scenes(spec, spec.test_scenes, unseen=True)
        self.poses, self.others = (random_poses(spec, spec.test_scenes) for _ in range(2))
        self.observed, self.depth = self.pictured(self.scenes, self.poses)
        self.elsewhere, self.depth_elsewhere = self.pictured(self.scenes, self.others)
        # what an estimator knows that has seen only the training scenes
        typical = self.pictured(random_scenes(spec, 256), random_poses(spec, 256))[1]
        self.mean_depth: float = float(typical.mean())
        self.mean_image: torch.Tensor = typical.mean(0)

    def pictured(self, scenes: Solids, poses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures and depths of scenes, one for each pose."""
        return picture_of_solids(scenes, cameras(poses, self.spec.size))

    def contact_sheet(self, images: torch.Tensor) -> NDArray[Any]:
        """Pictures side by side."""
        return contact_sheet(images)

    def training(self) -> "Pix2ShapeTraining":
        """The training of encoder, decoder and critic."""
        return Pix2ShapeTraining(self)

    def errors(self, depth: torch.Tensor) -> dict[str, float]:
        """Mean Hausdorff distance of points [m] and root mean square error of depth [m] against the truth."""
        rays = cameras(self.poses, self.spec.size).directions()[0]
        distances = [
            hausdorff((rays * a[..., None]).view(-1, 3), (rays * b[..., None]).view(-1, 3))
            for a, b in zip(depth, self.depth, strict=True)
        ]
        rmse = (depth - self.depth).square().mean().sqrt()
        return {"hausdorff": sum(distances) / len(distances), "rmse": float(rmse)}


class Pix2ShapeTraining(GradientTraining):
    """Adam on encoder and decoder in turn with Adam on the critic; new scenes in each step, seen from two places."""

    def __init__(self, problem: Pix2ShapeProblem) -> None:
        spec = problem.spec
        torch.manual_seed(problem.seed)
        sizes = {"size": spec.size, "latent": spec.latent, "width": spec.width}
        self.problem = problem
        self.encoder: Encoder = Encoder(**sizes)
        self.decoder: Decoder = Decoder(**sizes)
        self.critic: Critic = Critic(**sizes)
        self._camera = cameras(torch.zeros(1, 2), spec.size)
        super().__init__(
            nn.ModuleList([self.encoder, self.decoder]),
            self._objective,
            num_iterations=spec.iterations,
            learning_rate=spec.learning_rate,
            cosine=True,
            clip_norm=1.0,
        )
        self._critic_optimiser = torch.optim.Adam(self.critic.parameters(), lr=spec.learning_rate, betas=(0.5, 0.9))

    def _draw(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pictures of new scenes from two poses each."""
        spec = self.problem.spec
        with torch.no_grad():
            scenes = random_scenes(spec, spec.batch)
            first, second = random_poses(spec, spec.batch), random_poses(spec, spec.batch)
            twice = scenes[torch.arange(spec.batch).repeat(2)]
            pictures, _ = self.problem.pictured(twice, torch.cat([first, second]))
        return pictures[: spec.batch], first, pictures[spec.batch :], second

    def step(self) -> dict[str, float]:
        """One step of encoder and decoder, on every fourth after one of the critic."""
        figures = {"critic": self._critic_step()} if self._adversarial else {}
        return {**super().step(), **figures}

    @property
    def _adversarial(self) -> bool:
        return self.problem.spec.critic_weight > 0 and self.iteration % CRITIC_EVERY == 0

    def _critic_step(self) -> float:
        picture, poses, _, _ = self._draw()
        with torch.no_grad():
            code, _ = self.encoder(picture, poses)
            drawn = torch.randn_like(code)
            made = picture_of_depth(self.decoder(drawn, poses), self._camera)[0]
        gap = (self.critic(made, drawn, poses) - self.critic(picture, code, poses)).mean()
        penalty = gradient_penalty(self.critic, (picture, code), (made, drawn), poses)
        self._critic_optimiser.zero_grad()
        (gap + PENALTY * penalty).backward()
        self._critic_optimiser.step()
        return float(gap.detach())

    def _objective(self) -> Mapping[str, torch.Tensor]:
        spec = self.problem.spec
        first, poses, second, others = self._draw()
        code, details = self.encoder(first, poses)
        depth = torch.cat([self.decoder(code, poses, details), self.decoder(code, others)])
        found, normals = picture_of_depth(depth, self._camera)
        seen = torch.cat([first, second])
        levels = zip(pyramid(found, LEVELS), pyramid(seen, LEVELS), strict=True)
        square = torch.stack([(a - b).square().mean((1, 2, 3)) for a, b in levels]).sum(0)
        terms = {
            "picture": 100 * square[: spec.batch].mean(),
            "novel": 100 * spec.novel_weight * square[spec.batch :].mean(),
        }
        weights = {"range": spec.range_weight, "normals": spec.normals_weight, "edges": spec.edges_weight}
        terms |= {name: weights[name] * value for name, value in regularisers(depth, normals, seen).items()}
        if spec.contrast_weight > 0:
            terms["contrast"] = spec.contrast_weight * self._contrast(code, second, others)
        if self._adversarial:
            drawn = torch.randn_like(code)
            made = picture_of_depth(self.decoder(drawn, poses), self._camera)[0]
            gap = self.critic(first, code, poses).mean() - self.critic(made, drawn, poses).mean()
            terms["adversarial"] = spec.critic_weight * gap
        return terms

    def _contrast(self, code: torch.Tensor, second: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """InfoNCE: each scene from the other side against the rest of the batch, of chains their mirror images too."""
        likeness = cosines(code, self.encoder(second, others)[0]) / TEMPERATURE
        own = torch.arange(len(code))
        back = nn.functional.cross_entropy(likeness.T, own)
        if self.problem.spec.bodies == "chain":
            mirrored = self.encoder(*in_a_mirror(second, others))[0]
            likeness = torch.cat([likeness, cosines(code, mirrored) / TEMPERATURE], dim=1)
        return (nn.functional.cross_entropy(likeness, own) + back) / 2

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Networks and both optimisers."""
        critic = {**{f"module.{n}": v.clone() for n, v in self.critic.state_dict().items()}}
        critic |= _flatten_optimiser(self._critic_optimiser)
        return {**super().state_dict(), **{f"critic.{name}": value for name, value in critic.items()}}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        super().load_state_dict({n: v for n, v in state.items() if not n.startswith("critic.")})
        own = {n.removeprefix("critic."): v for n, v in state.items() if n.startswith("critic.")}
        self.critic.load_state_dict({n.removeprefix("module."): v for n, v in own.items() if n.startswith("module.")})
        _restore_optimiser(self._critic_optimiser, own)

    @torch.no_grad()
    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write `model/`, `pictures.png` and a report; the summary holds errors on unseen scenes."""
        problem = self.problem
        code, details = self.encoder(problem.observed, problem.poses)
        depth = self.decoder(code, problem.poses, details)
        found, normals = picture_of_depth(depth, self._camera)
        elsewhere_depth = self.decoder(code, problem.others)
        elsewhere = picture_of_depth(elsewhere_depth, self._camera)[0]
        ours = problem.errors(depth)
        plain = problem.errors(torch.full_like(depth, problem.mean_depth))
        image = problem.errors(problem.mean_image.expand_as(depth))
        summary: dict[str, Any] = {
            "depth": ours,
            "over_mean_depth": {name: value / plain[name] for name, value in ours.items()},
            "over_mean_depth_image": {name: value / image[name] for name, value in ours.items()},
            "picture_rmse": float((found - problem.observed).square().mean().sqrt()),
            "novel_view_rmse": float((elsewhere - problem.elsewhere).square().mean().sqrt()),
            "novel_view_depth_rmse": float((elsewhere_depth - problem.depth_elsewhere).square().mean().sqrt()),
            "mental_rotation": mental_rotation(problem, self.encoder),
        }
        torch.manual_seed(problem.seed)
        count = min(SHOWN, len(depth))
        random_codes, poses = torch.randn(count, problem.spec.latent), problem.poses[:count]
        dreamt = picture_of_depth(self.decoder(random_codes, poses), self._camera)[0]
        rows = {
            "observed": problem.observed,
            "decoded": found,
            "true depth": shown_depth(problem.depth),
            "decoded depth": shown_depth(depth),
            "decoded normals": 0.5 - 0.5 * normals,
            "another view: true": problem.elsewhere,
            "another view: decoded": elsewhere,
            "decoded from random codes": dreamt,
        }
        sheet = comparison({name: images[:count] for name, images in rows.items()})
        out.write("pictures.png", sheet)
        out.write("fit.json", summary)
        spec = problem.spec
        write_model(
            out,
            spec.type,
            self.module.state_dict(),
            reads="a picture of a scene and the pose of its camera",
            gives="a code of the scene, and its depth from any pose",
            options={"size": spec.size, "latent": spec.latent, "width": spec.width},
            trained_on={"bodies": spec.bodies, "count": spec.count, "elevation": spec.elevation},
            tested=summary,
        )
        table = ReportTable(("figure", "value"), summary_rows(summary))
        write_report(
            out.path / "report.html",
            "Shape from pictures alone",
            {"Unseen scenes": [table], "Pictures": [Picture(sheet, "Scenes that no training saw")]},
        )
        return summary


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine of every code (n, d) with every other (m, d), shape (n, m)."""
    return nn.functional.normalize(a, dim=-1) @ nn.functional.normalize(b, dim=-1).T


def shown_depth(depth: torch.Tensor) -> torch.Tensor:
    """Depths as grey, near ones bright, shape (..., 1)."""
    return ((5.5 - depth) / 2.5).clamp(0, 1)[..., None]


@torch.no_grad()
def mental_rotation(problem: Pix2ShapeProblem, encoder: Encoder) -> dict[str, float]:
    """The 3D-IQTT: in which share of questions, of three candidates, the same scene from elsewhere is chosen.

    The answer is the candidate whose code has the largest cosine with that of the reference. Chance is 1/3.

    Returns:
        `others`: the wrong candidates are other random scenes; of chains also `mirror_images`: one is the mirror image,
        the other one the mirror image turned by a quarter about the vertical.
    """
    spec = problem.spec
    torch.manual_seed(problem.seed + 2_000_003)
    n = spec.questions
    shares = {"questions": float(n), "chance": 1 / 3}
    scenes = random_scenes(spec, 3 * n, unseen=True)
    shares["others"] = _share_right(problem, encoder, [scenes[k * n : (k + 1) * n] for k in range(3)])
    if spec.bodies == "chain":
        chains = all_chains(spec.count).part(held_out=True)
        cells = chains.cells[chains.draw(n, chiral=True)]
        mirrored = mirror_images(cells)
        candidates = [chain_solids(c) for c in (cells, mirrored, quarter_turns(mirrored))]
        shares["mirror_images"] = _share_right(problem, encoder, candidates)
    return shares


def _share_right(problem: Pix2ShapeProblem, encoder: Encoder, candidates: list[Solids]) -> float:
    """How often the first candidate, which the reference is, is chosen; everything is seen from a random pose."""

    def codes(scenes: Solids) -> torch.Tensor:
        poses = random_poses(problem.spec, len(scenes))
        return encoder(problem.pictured(scenes, poses)[0], poses)[0]

    reference = codes(candidates[0])
    likeness = torch.stack([nn.functional.cosine_similarity(reference, codes(scenes)) for scenes in candidates])
    return float((likeness.argmax(0) == 0).double().mean())
