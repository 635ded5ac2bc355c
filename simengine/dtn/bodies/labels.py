"""What is labelled in a view: box, class, share hidden and distance of each thing, from what the rays met."""

import math
from collections.abc import Sequence

import torch

from simengine.ops.light.ray_scene import Environment, RaySurface
from simengine.ops.light.raycast import raycast
from simengine.render.camera import PinholeCamera

# corners [px], class (0 for the object, k for the k-th of the sampler's classes, -1 for none), pixels seen, share
# hidden by other things, distance of the middle from the camera [m]
UNITS = {"pixels": "px^2", "hidden": "1", "away": "m"}  # of what is told beside the box
COLUMNS = ("left", "top", "right", "bottom", "class", "pixels", "hidden", "away")
NEAR = 0.05  # from the camera [m]
NOWHERE = Environment(sun_irradiance=(0.0,) * 3, sky_zenith=(0.0,) * 3, sky_horizon=(0.0,) * 3, ground=False)


def label_view(
    instance: torch.Tensor, things: Sequence[tuple[int, RaySurface]], camera: PinholeCamera, *, rows: int
) -> torch.Tensor:
    """Labels of a view, shape (rows, 8), by COLUMNS; rows without a thing have class -1.

    A box is that of the samples that show the thing, so it is as fine as these, and of what can be seen of it only. A
    thing of which less than a pixel is seen has class -1 as well.

    Args:
        instance: Number of the thing that each sample shows, shape (h, w, samples^2), as of `RayBuffers`.
        things: Class and surface, the first being instance 1.
        camera: Of the view.
        rows: Of the result.
    """
    labels = torch.zeros(rows, len(COLUMNS))
    labels[:, 4] = -1
    h, w, count = instance.shape
    side = round(count**0.5)
    # by rows and columns of samples: sample s of a pixel lies at column s % side, row s // side
    fine = instance.reshape(h, w, side, side).permute(0, 2, 1, 3).reshape(h * side, w * side)
    for k, (kind, surface) in enumerate(things[:rows]):
        seen = fine == k + 1
        if int(seen.sum()) < count:
            continue
        whole = float(samples_alone(surface, camera, (h, w), side))
        ys, xs = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
        box = torch.tensor([int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1]) / side
        middle = (surface.vertices.min(0).values + surface.vertices.max(0).values).double() / 2
        away = float((middle - camera.position.double()).norm())
        share = float(seen.sum()) / max(whole, 1.0)
        labels[k] = torch.tensor([*box.tolist(), kind, float(seen.sum()) / count, max(0.0, 1.0 - share), away])
    return labels


def samples_alone(surface: RaySurface, camera: PinholeCamera, size: tuple[int, int], side: int) -> int:
    """Samples of a picture that show a thing which nothing hides; only its part of the picture is cast.

    Args:
        surface: The thing.
        camera: Of the picture.
        size: Height and width [pixels].
        side: Samples per pixel and axis.
    """
    pose, intrinsics = camera.world_to_camera.double(), camera.intrinsics.double()
    x, y, z = (surface.vertices.double() @ pose[:3, :3].T + pose[:3, 3]).unbind(1)
    low, high = [0, 0], [size[1], size[0]]
    if float(z.min()) > NEAR:  # else a part lies behind the camera, whose place in the picture is none
        for axis, value in enumerate((x, y)):
            place = intrinsics[axis] * value / z + intrinsics[2 + axis]
            low[axis] = max(0, math.floor(float(place.min())) - 1)
            high[axis] = min(high[axis], math.ceil(float(place.max())) + 1)
    shift = intrinsics.new_tensor([0.0, 0.0, *low])
    part = max(high[1] - low[1], 0), max(high[0] - low[0], 0)
    alone = raycast(surface, NOWHERE, pose, intrinsics - shift, part, samples=side, sky_rays=0)
    return int((alone.instance > 0).sum())


def boxes_of(labels: torch.Tensor) -> torch.Tensor:
    """Boxes (n, k, 4) [px] of labels (n, k, 8), of no area where there is no thing."""
    return torch.where(labels[..., 4:5] >= 0, labels[..., :4], torch.zeros_like(labels[..., :4]))
