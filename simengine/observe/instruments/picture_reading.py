"""From a file of pictures to what is compared: light, opacity, depth; and what lies behind the bodies."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from simengine.io.pictures import PictureSeries as Series
from simengine.io.pictures import read_series, read_stills, series_files
from simengine.io.units import to_si
from simengine.observe.image_math import normalised, shrunk, slopes
from simengine.observe.instruments.picture_settings import PictureSettings
from simengine.observe.optical_flow import FLOWS, flow_between, read_flows
from simengine.render.tone import encode_srgb


def series_of(own: PictureSettings) -> Series:
    """The pictures of the file, or its flows, (f, h, w, c).

    Raises:
        SceneError: The file is missing.
        ValueError: It cannot be read.
    """
    if not tells_flow(own):
        return read_series(own.path, every=own.every)
    if own.every > 1:
        raise ValueError(f"every: files of flow are of consecutive pictures, got {own.every}; leave it out")
    return read_flows(series_files(own.path))


def tells_flow(own: PictureSettings) -> bool:
    """Whether the file is of flow, not of the pictures that it is to be found in."""
    return own.compare == "flow" and Path(own.file).suffix.lower() in FLOWS


def moments_of(own: PictureSettings, series: Series) -> torch.Tensor | None:
    """Times of the pictures (f,) [s]; None where nothing tells them.

    Raises:
        ValueError: `times` are too many, too few, or do not grow.
    """
    count = len(series.values) + tells_flow(own)  # to the last picture leads a flow, too
    if own.times:
        if len(own.times) != count:
            raise ValueError(f"times: {len(own.times)} for {count} pictures")
        moments = torch.tensor(own.times, dtype=torch.float64)
        if not bool((moments.diff() > 0).all()):
            raise ValueError("times: they must grow")
        return moments
    if own.fps is not None:
        return torch.arange(count, dtype=torch.float64) * (own.every / own.fps)
    return None if series.times is None else torch.from_numpy(series.times)


def holds_light(own: PictureSettings) -> bool:
    """Whether the file's kind stores linear light, as floats do; asked of its first picture alone."""
    suffix = Path(own.file).suffix.lower()
    if own.recording or not own.file:
        return suffix in (".exr", ".npy")
    first = series_files(own.path)[0]
    return first.suffix.lower() in (".exr", ".hdr", ".npy", ".tif", ".tiff") and read_stills([first]).linear


def light_of(own: PictureSettings, series: Series) -> torch.Tensor:
    """Linear light of what the file stores, by the response."""
    return own.responding(linear=series.linear).light(torch.from_numpy(series.values))


def compared(own: PictureSettings, series: Series) -> tuple[torch.Tensor, tuple[int, int, int, int]]:
    """What is compared of the file (f, h, w, columns), NaN where nothing is told."""
    stored = torch.from_numpy(series.values)
    if own.compare == "depth":
        full = 2.0**series.bits - 1 if series.bits else 1.0
        depth = stored[..., :1] * full * to_si(own.unit)[0]
        depth = torch.where((depth > 0) & depth.isfinite(), depth, torch.nan)
        depth = _middles(depth, own.shrink)
        return _with_mask(own, depth), depth.shape  # type: ignore[return-value]
    if own.compare == "flow":
        flow = _flow(own, series)
        return _with_mask(own, flow), flow.shape  # type: ignore[return-value]
    light = shrunk(three(light_of(own, series)), own.shrink)
    empty, light = empty_of(own, light, series)
    if own.compare == "silhouette":
        value = _opacity(own, series, light, empty)[..., None]
    else:
        weight = torch.ones(light.shape[:3], dtype=torch.float64)
        value = transformed(own, light, _with_mask(own, weight[..., None])[..., 0].nan_to_num())
    if own.saturated is not None and own.compare in ("photometric", "gradients"):
        top = shrunk((three(stored) >= own.saturated).double(), own.shrink)[-len(light) :] > 0
        top = top if own.compare == "photometric" else top.any(-1, keepdim=True)
        value = torch.where(top, torch.nan, value)
    return _with_mask(own, value), value.shape  # type: ignore[return-value]


def _flow(own: PictureSettings, series: Series) -> torch.Tensor:
    """Between consecutive pictures, right and down [px], NaN where none is told, (f, h, w, 2)."""
    if tells_flow(own):
        return shrunk(torch.from_numpy(series.values), own.shrink) / own.shrink
    if len(series.values) < 2:
        raise ValueError(f"compare: flow is found between two pictures, and {own.file} is one")
    shown = shrunk(torch.from_numpy(series.values), own.shrink).mean(-1).numpy()
    if series.linear:
        shown = encode_srgb(torch.from_numpy(shown).clamp(0, 1)).numpy()
    try:
        flows = [flow_between(first, second) for first, second in pairwise(shown)]
    except RuntimeError as error:  # OpenCV is missing
        raise ValueError(str(error)) from None
    return torch.from_numpy(np.stack(flows))


def _opacity(own: PictureSettings, series: Series, light: torch.Tensor, empty: torch.Tensor | None) -> torch.Tensor:
    if own.segment is None:
        whole = series.alpha if series.alpha is not None else series.values.mean(-1)
        return shrunk(torch.from_numpy(whole)[..., None], own.shrink)[-len(light) :, ..., 0]
    as_shown = encode_srgb(light.clamp(0, 1))
    shown_empty = None if empty is None else encode_srgb(empty.clamp(0, 1))
    sharp = not series.colours_are_halved or own.shrink > 1
    return own.segment.opacity(as_shown, light, shown_empty, empty, sharp=sharp)


def empty_of(
    own: PictureSettings, light: torch.Tensor, series: Series | None
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Light behind the bodies (h, w, 3), and the pictures that show bodies."""
    if own.background is None:
        return None, light
    if isinstance(own.background, tuple):
        shown = torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in own.background])
        one = own.responding(linear=holds_light(own) if series is None else series.linear).light(shown)
        return one.expand(*light.shape[1:3], 3), light
    if own.background == "first":
        if len(light) < 2:
            raise ValueError("background: `first` needs a picture beside the first")
        return light[0], light[1:]
    if own.background == "median":
        return light.median(0).values, light
    file = own.directory / Path(own.background).expanduser()
    picture = shrunk(three(light_of(own, read_series(file))), own.shrink)[0]
    if picture.shape != light.shape[1:]:
        raise ValueError(
            f"background: {file.name} has another size ({picture.shape[1]} x {picture.shape[0]}) than the pictures"
        )
    return picture, light


def _with_mask(own: PictureSettings, value: torch.Tensor) -> torch.Tensor:
    if not own.mask:
        return value
    mask = read_series(own.directory / Path(own.mask).expanduser())
    white = shrunk(torch.from_numpy(mask.values.mean(-1))[..., None], own.shrink)[..., 0] > 0.5
    if white.shape[1:] != value.shape[1:3]:
        raise ValueError(f"mask: {own.mask} has another size than the pictures")
    return torch.where(white[..., None], value, torch.nan)


def transformed(own: PictureSettings, light: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What is compared of linear light (f, h, w, 3), where pixels of weight (f, h, w) count."""
    if own.compare == "gradients":
        return slopes(light)
    if own.compare == "correlation":
        return normalised(light, weight)
    return light


def three(light: torch.Tensor) -> torch.Tensor:
    """Grey light (f, h, w, 1) in three channels."""
    return light if light.shape[-1] == 3 else light.expand(*light.shape[:3], 3)


def _middles(depth: torch.Tensor, factor: int) -> torch.Tensor:
    """Depth in the middle of each block: means over an outline are no depth."""
    half = factor // 2
    rows, columns = (n // factor * factor for n in depth.shape[1:3])
    return depth[:, half:rows:factor, half:columns:factor]
