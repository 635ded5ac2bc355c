"""A motion for the report of a fit: the bodies as a film, at most fifty frames."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from simengine.scene.asks import Cloud
from simengine.view.report import Block, Movie, Picture
from simengine.worlds.motion.answers import MotionRun
from simengine.worlds.motion.run import pictures

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.scene.base import AbstractRun
    from simengine.worlds.motion.world import MPMWorld

MAX_FRAMES = 50


def film(world: "MPMWorld", run: "AbstractRun", out: "RunDirectory") -> list[Block]:
    """Write fitted.mp4 and fitted.npz; the film, or its middle frame where no codec is at hand."""
    assert isinstance(run, MotionRun)
    steps = run.steps[torch.as_tensor(np.unique(np.linspace(0, len(run.steps) - 1, MAX_FRAMES).astype(int)))]
    times = steps.double() * world.grid.time_step  # of integers the product would be float32
    x = run.sample(Cloud(times=times))
    out.write("fitted.npz", {"time": times, "x": x})
    frames = pictures(run.world, x)
    file = out.write("fitted.mp4", frames, fps=world.output.fps)
    if file.is_file():
        return [Movie(file, f"the fitted motion, {float(times[-1]):.3g} s")]
    return [Picture(frames[len(frames) // 2], "the fitted motion, half way")]
