"""From what a camera is answered to what its pictures should hold: lens, depth, exposure, unknown light."""

import math

import torch

from simengine.observe.instruments.picture_exposure import fall_off
from simengine.observe.instruments.picture_settings import PictureSettings
from simengine.render.camera import PinholeCamera
from simengine.render.lens import picture_through
from simengine.scene.instrument import Measured


def through_lens(own: PictureSettings, seen: torch.Tensor, measured: Measured) -> torch.Tensor:
    """Pictures of the pinhole that covers a lens (f, h', w', c), as the lens bends them (f, h, w, c)."""
    glass = own.camera.glass()
    if glass is None or own.made is None or own.made.covering is None:
        return seen
    intrinsics, rows, columns = own.made.covering
    cameras, each = own.pinholes(measured.shape), len(seen) // measured.shape[0]  # pictures that one is the mean of
    frames = []
    for k, picture in enumerate(seen):
        pinhole = PinholeCamera(
            world_to_camera=cameras.world_to_camera[k // each], intrinsics=intrinsics, width=columns, height=rows
        )
        frames.append(picture_through(picture, pinhole, cameras[k // each], glass))
    return torch.stack(frames)


def depth_seen(own: PictureSettings, seen: torch.Tensor, measured: Measured) -> torch.Tensor:
    """Mixtures of the body's depth and of what lies behind it, so that the outline counts too."""
    depth, alpha = seen[..., 0], seen[..., 1]
    if own.recording:  # a sensor tells one surface, no mixture
        return torch.where(alpha > 0.5, own.shown(depth), math.nan)
    told = measured.values[:, 0].reshape(measured.shape)
    whole = told.nan_to_num()
    # where the body should be and is not, the least that can be said is that it is farther than all that is seen
    behind = torch.where(told.isnan(), depth, whole.amax((1, 2), keepdim=True))
    solid = torch.where(depth > 0, depth, whole)
    return own.shown(alpha * solid + (1 - alpha) * behind)


def recorded(own: PictureSettings, seen: torch.Tensor, measured: Measured) -> torch.Tensor:
    """Linear light as the response of the file's reading tells it, (f, h, w, 3)."""
    gain = own.exposure * torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in own.white])
    lit, alpha = seen[..., :3] * gain * fall_off(own, measured.shape), seen[..., 3:4]
    if own.renderer != "own":
        return _reread(own, lit)  # the surroundings are in it
    empty = None if own.made is None else own.made.empty
    if empty is not None and own.response == "gamma" and own.made is not None:
        empty = empty ** (own.gamma / own.made.gamma)  # the file shows the wall, whatever the gamma
    terms = [lit]
    if own.appearance == "fitted":
        turn = own.pinholes(measured.shape).rotation
        normal = torch.einsum("fhwc,fcd->fhwd", seen[..., 4:7], turn)  # of the world: the lamps stand still
        terms += [lit * normal[..., k : k + 1] for k in range(3)]
    fixed = torch.zeros_like(lit) if empty is None else (1 - alpha) * empty
    if empty is None:
        terms.append((1 - alpha).expand(lit.shape))
    if own.appearance == "world" and empty is not None:
        return _reread(own, lit + fixed)
    return _reread(own, _best(own, terms, fixed, measured))


def _best(own: PictureSettings, terms: list[torch.Tensor], fixed: torch.Tensor, measured: Measured) -> torch.Tensor:
    """The combination of light that is nearest to the measured one, channel by channel."""
    known = 0 if own.appearance == "fitted" else 1
    which = measured.fitted.reshape(*measured.shape, -1).all(-1, keepdim=True).expand(fixed.shape)
    if own.compare == "photometric":
        target = measured.values.reshape(fixed.shape)
    else:
        assert own.made is not None and own.made.light is not None
        target = own.made.light
    total = fixed if not known else fixed + terms[0]
    free = terms[known:]
    out = []
    for c in range(3):
        basis = torch.stack([term[..., c] for term in free], -1)
        used = which[..., c]
        a, b = basis[used], (target[..., c] - total[..., c])[used]
        gram = a.T @ a
        ridge = 1e-9 * gram.diagonal().amax().clamp_min(1e-12) * torch.eye(len(gram), dtype=gram.dtype)
        weights = torch.linalg.solve(gram + ridge, a.T @ b)
        out.append(total[..., c] + basis @ weights)
    return torch.stack(out, -1)


def _reread(own: PictureSettings, light: torch.Tensor) -> torch.Tensor:
    """What reading makes of light that was recorded with this gamma: gamma may be sought, the file is read once."""
    if own.response != "gamma" or own.made is None:
        return light
    return light.clamp_min(1e-12) ** (own.made.gamma / own.gamma)
