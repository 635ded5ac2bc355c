"""Evaluation and training on another device: the bits of the CPU on a pretended one, and on CUDA where there is one."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pretended_device import OnDevice, pretended

from simengine.cli.common import pick_device
from simengine.dtn import sampler as sampling
from simengine.dtn.adapters import DETRDetector
from simengine.dtn.bodies.car import car
from simengine.dtn.evaluation import detect
from simengine.dtn.letterbox import Letterbox
from simengine.dtn.references import ReferencePredictor
from simengine.dtn.sampler import ViewSampler
from simengine.dtn.turned.boxes import suppress_turned, turned_iou
from simengine.dtn.views import render_views
from simengine.fit.training import AbstractTraining
from simengine.io.run_directory import RunDirectory
from simengine.ops.light.ray_scene import RaySurface
from simengine.scene.loader import resolved
from simengine.worlds.detectors import report, variety
from simengine.worlds.detectors.camouflage import CamouflageTraining
from simengine.worlds.detectors.network import NetworkTraining
from simengine.worlds.detectors.renders import RendersWorld
from simengine.worlds.detectors.renders_network import RendersTraining
from simengine.worlds.detectors.small import SmallDetector
from simengine.worlds.detectors.world import AppearanceNetworkSpec, CamouflageSpec, DTNWorld, TrainedDetectorSpec
from simengine.worlds.motion.world import MPMWorld

ASSETS = Path(__file__).resolve().parents[3] / "assets"
TINY = DTNWorld(size=48, train_views=4, test_views=3, sky_rays=1)
DETECTOR = TrainedDetectorSpec(iterations=2, batch=4, width=16)
NETWORK = AppearanceNetworkSpec(iterations=2, batch=2, width=4, depth=2, crop=16, structure=0.1, paints="mosaic")
ROBUST = CamouflageSpec(
    detector=DETECTOR,
    pipeline="network",
    network=NETWORK,
    rows=16,
    columns=16,
    iterations=1,
    batch=2,
    hardening=2,
    adversaries=2,
    black_box=1,
    rendered=3,
    transfer=True,
)
Make = Callable[[torch.device | str | None], AbstractTraining]
TRAININGS: dict[str, Make] = {
    "camouflage": lambda device: CamouflageTraining(TINY, ROBUST, device=device),
    "detector of several classes": lambda device: SmallDetector(
        dataclasses.replace(TINY, views=ViewSampler(objects=(1, 2))), DETECTOR, device=device
    ),
    "network": lambda device: NetworkTraining(TINY, dataclasses.replace(NETWORK, varied=True), device=device),
    "pictures of another renderer": lambda device: RendersTraining(
        RendersWorld(table=ASSETS / "renders" / "views.csv"),
        AppearanceNetworkSpec(iterations=2, batch=2, width=4, depth=2, geometry=False, crop=32),
        device=device,
    ),
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The car is made once and stands for all bodies, rays are cast on the CPU, the report has no curves."""
    body = car()
    monkeypatch.setattr(variety, "various", lambda seed: body)
    monkeypatch.setattr(DTNWorld, "surface", lambda self: body)
    monkeypatch.setattr(RaySurface, "to", lambda self, device: self)
    monkeypatch.setattr(report, "by_conditions", lambda *arguments: {})


def trained(make: Make, device: torch.device | str | None, folder: Path) -> tuple[list[Any], dict[str, Any], Any]:
    """Figures of each step, summary, and the state after them."""
    training = make(device)
    torch.manual_seed(3)
    figures = [training.step() for _ in range(training.num_iterations)]
    out = RunDirectory.create(folder, resolved(TINY), overwrite=False, resume=True)
    return figures, training.finish(out), training.state_dict()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "camouflage" else ()) for n in TRAININGS]
)
def test_a_run_elsewhere_gives_the_bits_of_the_cpu(name: str, tmp_path: Path, quick: None) -> None:
    """A tensor that is made or left on the CPU meets one that is not, which a GPU refuses, and so does this device."""
    here, summary, state = trained(TRAININGS[name], None, tmp_path / "here")
    with pretended() as device:
        there, other, moved = trained(TRAININGS[name], device, tmp_path / "there")
    assert any(isinstance(value, OnDevice) for value in moved.values())
    assert there == here
    assert other == summary
    for key, value in state.items():
        assert torch.equal(moved[key].cpu(), value), key


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")  # what torch says of its own such device
def test_a_run_goes_on_elsewhere_from_what_lies_on_the_cpu(quick: None) -> None:
    """A checkpoint holds tensors of the CPU."""
    with pretended() as device:
        whole = CamouflageTraining(TINY, ROBUST, device=device)
        torch.manual_seed(3)
        for _ in range(6):
            whole.step()
        state, drawn = {name: value.cpu() for name, value in whole.state_dict().items()}, torch.get_rng_state()
        expected = whole.step()
        again = CamouflageTraining(TINY, ROBUST, device=device)
        again.load_state_dict(state)
        torch.set_rng_state(drawn)
        assert again.step() == expected


def test_rays_are_cast_where_one_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, cast = [], sampling.raycast
    body = car()

    def recorded(surface: RaySurface, **options: Any) -> Any:
        seen.append((surface.vertices.device, surface.faces.device, surface.painted.device))
        return cast(body, **options)

    monkeypatch.setattr(sampling, "raycast", recorded)
    with pretended() as device:
        views = render_views(body, ViewSampler(), [0], (32, 32), sky_rays=1, device=device)
        assert seen == [(device,) * 3]
        assert views.offset.device.type == "cpu"
        assert views.to(device).offset.device == device


class Queries(torch.nn.Module):
    """What a model of DETR's kind gives: here by the means of the picture's channels."""

    def forward(self, pixel_values: torch.Tensor) -> Any:
        mean = pixel_values.mean((2, 3))[:, None]
        logits, boxes = torch.cat([mean, -mean], 2), torch.cat([mean, mean[..., :1]], 2).sigmoid()
        return type("Output", (), {"logits": logits, "pred_boxes": boxes})


def test_other_parts_run_elsewhere() -> None:
    torch.manual_seed(4)
    pictures, boxes = torch.rand(2, 3, 40, 56), torch.tensor([[5.0, 5.0, 30.0, 30.0]] * 2)
    turned, scores = torch.rand(6, 5) + 1, torch.rand(6, 2)
    levels, given = torch.tensor([0.0, 0.4, 1.0]), torch.rand(2, 3, 3, 8, 8)

    def figures(device: str | torch.device) -> list[torch.Tensor]:
        detector = Letterbox(DETRDetector(Queries()), side=64)
        detector.detector.kind = 1
        table = detect(detector, [pictures.to(device)], boxes.to(device))
        t = turned.to(device)
        kept = suppress_turned(t, scores.to(device), threshold=0.1, overlap=0.5, most=9, candidates=9)
        predict = ReferencePredictor(levels, given.to(device))
        loss = detector.loss(pictures.to(device), boxes.to(device))
        return [table.iou, turned_iou(t[:, None], t), kept["turned"], predict(torch.full((3, 1, 1), 0.3)), loss]

    here = figures("cpu")
    with pretended() as device:
        there = figures(device)
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a, b.cpu())


@pytest.mark.parametrize("kind", [DTNWorld, RendersWorld])
def test_cuda_is_taken_when_asked_for(kind: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It was never run on one, so that the CPU is what nobody asks for; a world of motion takes the GPU by itself."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device(None, kind.devices) == pick_device(None, kind.fit_devices) == "cpu"
    assert pick_device(None, MPMWorld.devices) == "cuda"
    assert "cuda" in kind.devices and "cuda" in kind.fit_devices


@pytest.mark.gpu
@pytest.mark.parametrize("name", TRAININGS)
def test_on_cuda(name: str, tmp_path: Path) -> None:
    """What is drawn is the same, so that the first loss is that of the CPU up to sums in another order."""
    here, *_ = trained(TRAININGS[name], None, tmp_path / "here")
    there, *_ = trained(TRAININGS[name], "cuda", tmp_path / "there")
    assert there[0]["loss"] == pytest.approx(here[0]["loss"], rel=1e-3)
