"""Attacks in simulation: by scores alone, by several losses; controls of hardening and what they are compared by."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from simengine.dtn.camouflage import PaintTexture
from simengine.dtn.evaluation import DetectionTable
from simengine.dtn.texture import texture_map
from simengine.fit.loop import fit
from simengine.io.run_directory import RunDirectory
from simengine.scene.base import SceneError
from simengine.scene.loader import load_world, resolved
from simengine.worlds.detectors.attacks import LOSSES, SquareTraining, Target, loss_of
from simengine.worlds.detectors.camouflage import CamouflageTraining
from simengine.worlds.detectors.network import scene_views
from simengine.worlds.detectors.report import hardening_gains
from simengine.worlds.detectors.world import CamouflageSpec, DTNWorld, TrainedDetectorSpec

TINY = DTNWorld(size=48, train_views=8, test_views=4, sky_rays=1)
SPEC = CamouflageSpec(
    detector=TrainedDetectorSpec(iterations=2, batch=4, width=16),
    iterations=2,
    batch=2,
    hardening=2,
    rendered=4,
    restarts=2,
    evasion="each",
    controls=True,
    black_box=3,
)


class Masked(nn.Module):
    """As sure as the picture is red and not blue, without a gradient that tells: rounded to 1/500."""

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        warm = (0.5 + images[:, 0] - images[:, 2]).mean((1, 2)).clamp(0, 1)
        score = (warm * 500).round().detach() / 500 + 0 * warm
        return torch.tensor([[0.0, 0.0, 48.0, 48.0]]).expand(len(images), 1, 4), score.view(-1, 1, 1)

    def predict(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        pairs = zip(*self.dense(images), strict=True)
        return [{"boxes": b, "labels": torch.zeros(1), "scores": s[:, 0]} for b, s in pairs]


def square(iterations: int) -> SquareTraining:
    views = scene_views(TINY, TINY.sampler, TINY.train_views)
    spec = CamouflageSpec(batch=4, overlap=0.0)
    texture = PaintTexture((16, 16), seed=1)
    return SquareTraining(Target(texture, Masked(), views, texture_map(views, (16, 16)), spec), iterations=iterations)


def test_scores_alone_lead_where_gradients_do_not() -> None:
    """Blue paint is what this detector does not see; its gradient is zero everywhere."""
    torch.manual_seed(0)
    attack = square(100)
    attack.step()
    bluest = [0.03, 0.06, 0.25]  # of the natural paints
    assert attack.target.texture()[0, 0].tolist() == pytest.approx(bluest, abs=0.01)
    for _ in range(99):
        attack.step()
    red, _, blue = attack.target.texture().detach().mean((0, 1)).tolist()
    assert red < 0.06 and blue > 0.35
    views, leaf = attack.target.views, attack.target.texture().detach().requires_grad_()
    _, scores = Masked().dense(views.picture(attack.target.put_on(leaf)))
    (slope,) = torch.autograd.grad(scores.sum(), leaf)
    assert not bool(slope.any())


def test_a_proposal_stays_only_if_the_loss_falls() -> None:
    torch.manual_seed(1)
    attack, last = square(40), 0.0
    for k in range(40):
        before = attack.target.texture().detach().clone()
        figures = attack.step()
        moved = not torch.equal(before, attack.target.texture().detach())
        if k % 20:  # else other pictures
            assert moved == (figures["proposed"] < last)
            assert figures["loss"] == min(figures["proposed"], last)
        last = figures["loss"]
        # what was accepted is what the texture holds, to rounding of the logistic function
        assert attack.loss(attack.target.texture().detach()) == pytest.approx(figures["loss"], abs=1e-2)


def test_every_stage_resumes_bitwise() -> None:
    whole = CamouflageTraining(TINY, SPEC)
    torch.manual_seed(3)
    states = []
    for _ in range(whole.num_iterations):
        states.append(torch.get_rng_state())
        whole.step()
    names = [name for name, length in whole.stages for _ in range(length)]
    for cut in (names.index("more_0") + 1, names.index("anew_patterns_1") + 1, names.index("black_box_hardened") + 2):
        first, second = CamouflageTraining(TINY, SPEC), CamouflageTraining(TINY, SPEC)
        torch.manual_seed(3)
        for _ in range(cut):
            first.step()
        second.load_state_dict(first.state_dict())
        torch.set_rng_state(states[cut])
        for _ in range(whole.num_iterations - cut):
            second.step()
        for name, value in whole.state_dict().items():
            assert torch.equal(value, second.state_dict()[name]), f"{name} after a cut at {cut}"


def test_controls_start_from_the_detector_and_are_attacked_by_the_same_losses() -> None:
    training = CamouflageTraining(TINY, SPEC)
    names = [name for name, _ in training.stages]
    assert names[names.index("more_0") :][:3] == ["more_0", "anew_more_0", "anew_more_1"]
    own: Any = training.modules["detector"]
    while training.stages[training._position][0] != "more_0":
        training.step()
    start: Any = training.modules["more"]
    gone = [bool((a - b).abs().max() > 0.01) for a, b in zip(own.parameters(), start.parameters(), strict=True)]
    assert not any(gone)  # one step of Adam away
    lengths = dict(training.stages)
    assert lengths["hardened_0"] == lengths["more_0"] == lengths["patterns_0"] == 2
    assert [loss_of(SPEC, k) for k in range(4)] == [*LOSSES, LOSSES[0]]
    assert loss_of(dataclasses.replace(SPEC, evasion="best"), 1) == "best"
    patterns = training._start(names.index("patterns_0"))
    assert not patterns.adversaries and not patterns.found and patterns.climb == 0  # type: ignore[attr-defined]


def table(found: list[float]) -> DetectionTable:
    """A picture each, its object found with this score, or with a loose box for 0."""
    score = torch.tensor([s or 0.5 for s in found])
    order = score.argsort(descending=True, stable=True)
    iou = torch.tensor([0.9 if s else 0.2 for s in found])
    return DetectionTable(order, score[order], iou[order], len(found))


def test_gains_are_paired_differences() -> None:
    good, poor = table([0.9] * 20), table([0.9] * 10 + [0.0] * 10)
    tables = {("hardened", "natural"): good, ("hardened", "black box"): good, ("more", "natural"): good}
    gains = hardening_gains({**tables, ("more", "black box"): poor}, ["more"])
    assert set(gains["more"]) == {"natural", "black box"}
    assert gains["more"]["natural"]["value"] == 0.0
    assert gains["more"]["black box"]["value"] == pytest.approx(0.5) and gains["more"]["black box"]["low"] > 0.15


def test_a_report_with_controls(tmp_path: Path) -> None:
    out = RunDirectory.create(tmp_path / "run", resolved(TINY), overwrite=False, resume=True)
    summary = fit(CamouflageTraining(TINY, SPEC), out, progress=False).summary
    expected = {f"{d}/{p}" for d in ("hardened", "more", "patterns") for p in ("optimised anew", "black box")}
    assert expected | {"detector/black box", "gains"} <= set(summary)
    assert "What hardening is worth" in (tmp_path / "run/report.html").read_text()
    with pytest.raises(SceneError, match="controls: has no effect with hardening = 0"):
        load_world("camouflage", ["inference.hardening=0", "inference.rounds=1", "objective.controls=true"])
