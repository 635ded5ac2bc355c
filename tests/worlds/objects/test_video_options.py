"""Every option of a video fit does what it says: colours, noise and stages."""

import dataclasses
from typing import Any

import pytest
import torch

from simengine.fit.trainings.staged import StagedTraining
from simengine.scene import load_world
from simengine.worlds.objects.video import VideoMisfit, _colours
from simengine.worlds.objects.video_spec import VideoSpec


def spec(**changes: Any) -> VideoSpec:
    """The task of a shipped scene with small pictures."""
    scene = load_world("elasticity_from_video")
    task = getattr(scene, "task", None)
    assert isinstance(task, VideoSpec)
    cameras = tuple(dataclasses.replace(camera, width=12, height=10) for camera in task.cameras)
    motion = dataclasses.replace(task.motion, grid=dataclasses.replace(task.motion.grid, num_steps=4 * task.frames))
    return dataclasses.replace(task, cameras=cameras, motion=motion, **changes)


def test_colours_keep_their_hue() -> None:
    # all channels by one factor, that of the place of the particle in the body
    task = spec()
    x, _, ids = (torch.as_tensor(array) for array in task.motion.particles())
    colours = _colours(task, x, ids)
    for index, body in enumerate(task.motion.bodies):
        own = ids == index
        ratio = colours[own] / torch.tensor(body.color, dtype=torch.float64)
        free = colours[own].amax(1) < 1  # not clipped
        torch.testing.assert_close(ratio[free], ratio[free][:, :1].expand(-1, 3))
        low, high = x[own].sum(1).argmin(), x[own].sum(1).argmax()
        assert float(ratio[low, 0]) == pytest.approx(0.3, abs=0.05) and float(colours[own][high].mean()) > float(
            colours[own][low].mean()
        )


def test_noise_has_its_deviation() -> None:
    exact, noisy = (VideoMisfit(spec(noise=noise), seed=3).observed for noise in (0.0, 0.05))
    difference = noisy - exact
    assert float(difference.std()) == pytest.approx(0.05, rel=4 / (2 * difference.numel()) ** 0.5)
    again = VideoMisfit(spec(noise=0.05), seed=4).observed
    assert not torch.equal(noisy, again)


def test_stages_are_growing_parts_of_the_video(monkeypatch: pytest.MonkeyPatch) -> None:
    task = spec(stages=(0.3, 0.6, 1.0), method="lbfgs")
    misfit = VideoMisfit(task, seed=0)
    training = misfit.training()
    assert isinstance(training, StagedTraining)
    seen: list[int | None] = []

    def residual(values: dict[str, torch.Tensor], *, frames: int | None = None) -> torch.Tensor:
        seen.append(frames)
        return torch.stack(list(values.values()))

    monkeypatch.setattr(misfit, "residual", residual)
    for part, stage in zip((0.3, 0.6, 1.0), training.stages, strict=True):
        seen.clear()
        stage.step()
        assert set(seen) == {round(part * task.frames)}
