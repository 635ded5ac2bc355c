"""Pictures that nobody has taken yet: what `simengine observe` asks a camera for, and the files it writes."""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from simengine.io.pictures import write_series
from simengine.io.units import to_si
from simengine.observe.instruments.picture_reading import tells_flow
from simengine.observe.instruments.picture_settings import COLUMNS, Compared, PictureSettings
from simengine.observe.optical_flow import write_flows
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.instrument import Measured

Filming = TypeVar("Filming", bound=PictureSettings)


def planned(own: Filming, world: AbstractWorld) -> tuple[Measured, Filming]:
    """Pictures at the times of the scene, as the camera would record them."""
    camera = own.camera
    if camera.width is None or camera.height is None:
        raise SceneError(f"observations.{own.name}.camera: width and height say what is observed")
    recorded: Compared = "photometric"
    if own.compare == "depth" or tells_flow(own) or (own.compare == "silhouette" and own.segment is None):
        recorded = own.compare
    background = own.background if isinstance(own.background, tuple) else (1.0, 1.0, 1.0)
    shown: dict[str, Any] = {} if recorded == "flow" else {"background": background}
    filming = dataclasses.replace(
        own,
        compare=recorded,
        appearance="world",
        **shown,
        mask="",
        segment=None,
        every=1,
        recording=True,
    )
    moments = _times(own, world)
    at: dict[str, torch.Tensor] = {}
    frames, columns = 1 if moments is None else len(moments), len(COLUMNS[recorded])
    height, width = camera.height // own.shrink, camera.width // own.shrink
    if recorded == "flow":
        if moments is None or frames < 2:
            raise SceneError(f"observations.{own.name}: flow is between two pictures or more; say `fps` or `times`")
        at["until"] = moments[1:].repeat_interleave(height * width)
        frames, moments = frames - 1, moments[:-1]
    shape = (frames * height * width, columns)
    if moments is not None:
        at["time"] = moments.repeat_interleave(height * width)
    measured = Measured(
        values=torch.zeros(shape, dtype=torch.float64),
        names=COLUMNS[recorded],
        units=("px" if recorded == "flow" else "1",) * columns,
        at=at,
        mask=torch.ones(shape, dtype=torch.bool),
        held_out=torch.zeros(shape, dtype=torch.bool),
        sigma=torch.full(shape, torch.nan, dtype=torch.float64),
        shape=(frames, height, width),
    )
    return measured, filming


def _times(own: PictureSettings, world: AbstractWorld) -> torch.Tensor | None:
    if own.times:
        return torch.tensor(own.times, dtype=torch.float64)
    if own.fps is None:
        return None
    last = world.sizes().get("s", 0.0)
    count = own.frames or int((last / own.clock_rate + own.start) * own.fps + 1e-9) + 1
    return torch.arange(count, dtype=torch.float64) / own.fps


def write(own: PictureSettings, file: Path, measured: Measured) -> None:
    """Pictures as the suffix says: 8 bit in png and mp4, floats in exr and npy; a depth of 0 where none is."""
    values = measured.values.reshape(*measured.shape, -1)
    if tells_flow(own):
        write_flows(file, values.numpy())
        return
    floats = file.suffix.lower() in (".npy", ".exr")
    if own.compare == "depth" and not floats:
        raise SceneError(f"observations.{own.name}.file: depth is written as .npy or .exr, got {file.name}")
    if floats:
        scale = 1 / to_si(own.unit)[0] if own.compare == "depth" else 1.0
        write_series(file, (values.nan_to_num() * scale).numpy(), fps=own.fps)
        return
    shown = values.clamp(0, 1)
    if own.compare != "silhouette":
        shown = own.responding(linear=False).stored(shown)
    eight = (255 * shown).round().numpy().astype(np.uint8)
    write_series(file, eight, fps=own.fps)
