"""From what a camera is answered to what its pictures should hold: lens, depth, exposure, unknown light."""

import dataclasses
import math

import torch

from simengine.observe.instruments.picture_exposure import fall_off
from simengine.observe.instruments.picture_places import carried, textured
from simengine.observe.instruments.picture_settings import CARRIED, PictureSettings
from simengine.observe.response_curve import CameraResponse
from simengine.render.camera import PinholeCamera
from simengine.render.lens import picture_through
from simengine.scene.instrument import Measured


def through_lens(own: PictureSettings, seen: torch.Tensor, measured: Measured) -> torch.Tensor:
    """Pictures of the pinhole that covers a lens (f, h', w', c), as the lens bends them (f, h, w, c)."""
    glass = own.camera.glass()
    if glass is None or own.made is None or own.made.covering is None:
        return seen
    intrinsics, rows, columns = own.made.covering
    cameras, count = own.pinholes(measured.shape), measured.shape[0]
    together = count if not own.camera.shots else 1  # pictures behind one lens at one zoom are bent alike
    each, channels = len(seen) // count, seen.shape[-1]  # pictures that one is the mean of
    bent = []
    for k in range(0, count, together):
        pinhole = PinholeCamera(
            world_to_camera=cameras.world_to_camera[k], intrinsics=intrinsics, width=columns, height=rows
        )
        layers = seen[k * each : (k + together) * each].permute(1, 2, 0, 3).flatten(2)
        through = picture_through(layers, pinhole, cameras[k], glass)
        bent.append(through.unflatten(2, (-1, channels)).permute(2, 0, 1, 3))
    return torch.cat(bent)


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
    if own.appearance in CARRIED:
        return _with_colours_of_its_own(own, seen, measured)
    gain = own.exposure * torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in own.white])
    lit, alpha = seen[..., :3] * gain * fall_off(own, measured.shape), seen[..., 3:4]
    if own.renderer != "own":
        return _reread(own, lit)  # the surroundings are in it
    empty = None if own.made is None else own.made.empty
    if empty is not None and own.made is not None and (now := _sought(own)) is not None:
        empty = now.light(own.made.response.stored(empty))  # the file shows the wall, whatever the response
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


def _with_colours_of_its_own(own: PictureSettings, seen: torch.Tensor, measured: Measured) -> torch.Tensor:
    """What the pictures show of a body whose colours they tell themselves, (f, h, w, 3)."""
    taken = _taken(own, measured)
    if own.appearance == "texture":
        return textured(own, seen, taken, measured)
    lit, wall = carried(own, seen, taken, measured), 1 - seen[..., 3:4]
    empty = None if own.made is None else own.made.empty
    if empty is not None:
        return lit + wall * empty
    return _best(own, [lit, wall.expand(lit.shape)], torch.zeros_like(lit), measured)


def _taken(own: PictureSettings, measured: Measured) -> torch.Tensor:
    """Light of the pictures as they were taken, (f, h, w, 3)."""
    if own.compare == "photometric":
        return measured.values.reshape(*measured.shape, 3)
    assert own.made is not None and own.made.light is not None
    return own.made.light


def _best(own: PictureSettings, terms: list[torch.Tensor], fixed: torch.Tensor, measured: Measured) -> torch.Tensor:
    """The combination of light that is nearest to the measured one, channel by channel."""
    known = 0 if own.appearance == "fitted" else 1
    which = measured.fitted.reshape(*measured.shape, -1).all(-1, keepdim=True).expand(fixed.shape)
    target = _taken(own, measured)
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
    """What reading makes of light that was recorded by this response, which may be sought: the file is read once."""
    now = _sought(own)
    return light if now is None or own.made is None else own.made.response.light(now.stored(light))


def _sought(own: PictureSettings) -> CameraResponse | None:
    """The response that these numbers have, where it is none that the file was read by."""
    if own.made is None:
        return None
    read = own.made.response
    now = dataclasses.replace(read, gamma=own.gamma, curve=own.curve)
    return None if now == read else now
