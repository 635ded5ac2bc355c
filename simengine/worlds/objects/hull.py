"""The visual hull of a body (Laurentini 1994), and what it shows without a fit: photographs cast upon it.

What a fit of discs has to better: each place of the hull in the mean colour of the photographs that see it, or in that
of the nearest of them, as in image-based visual hulls (Matusik et al. 2000).
"""

import dataclasses
import math
from collections.abc import Sequence

import torch

from simengine.render.camera import PinholeCamera
from simengine.render.volumes import intersect_box
from simengine.scene.base import SceneError

CELLS = 96  # of the hull along its longest side
BEHIND = 2.0  # cells behind what a camera sees first: still the surface that it sees


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A picture and who took it.

    Attributes:
        name: Of the file.
        picture: Encoded, (h, w, 3); beyond the box the background.
        camera: Its camera.
        background: Encoded, behind the body.
        held_out: Whether it is predicted only.
    """

    name: str
    picture: torch.Tensor
    camera: PinholeCamera
    background: torch.Tensor | float
    held_out: bool

    def outline(self, visible: float) -> torch.Tensor:
        """Pixels that show the body, holes filled, bool (h, w)."""
        from scipy.ndimage import binary_fill_holes, binary_opening

        bright = (self.picture - self.background).abs().amax(-1) > visible
        return torch.from_numpy(binary_fill_holes(binary_opening(bright.numpy())))


def cell_of(box: torch.Tensor) -> float:
    """Side of the cells of a box (3, 2) [m]."""
    return float((box[:, 1] - box[:, 0]).max()) / CELLS


def visual_hull(shots: Sequence[Photograph], box: torch.Tensor, visible: float) -> torch.Tensor:
    """Cells that no outline excludes, bool (nx, ny, nz); cells are cubes.

    Args:
        shots: Photographs.
        box: Least and greatest of each axis (3, 2) [m].
        visible: Brightest channel above which a pixel shows the body [1].

    Raises:
        SceneError: Nothing is left.
    """
    cell = cell_of(box)
    axes = [low + cell * (torch.arange(math.ceil((high - low) / cell)) + 0.5) for low, high in box.tolist()]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).double()
    left, looked_at = torch.ones(points.shape[:3], dtype=torch.bool), torch.zeros(points.shape[:3], dtype=torch.bool)
    for shot in shots:
        outline = shot.outline(visible)
        row, column, seen = _pixels(points, shot)
        left &= ~seen | outline[row, column]  # what a camera does not see it does not exclude
        looked_at |= seen
    left &= looked_at
    if not bool(left.any()):
        raise SceneError("visible: the outlines have nothing in common within the box; are the cameras right?")
    return left


def _pixels(points: torch.Tensor, shot: Photograph) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Row and column of the pixels that points (..., 3) fall on, and whether they are in the picture."""
    right, down, forward = shot.camera.to_camera(points).unbind(-1)
    fx, fy, cx, cy = shot.camera.intrinsics.unbind(-1)
    column, row = (fx * right / forward + cx).floor().long(), (fy * down / forward + cy).floor().long()
    h, w = shot.camera.height, shot.camera.width
    seen = (forward > 0) & (column >= 0) & (column < w) & (row >= 0) & (row < h)
    return row.clamp(0, h - 1), column.clamp(0, w - 1), seen


def hull_places(hull: torch.Tensor, box: torch.Tensor, camera: PinholeCamera) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the rays of a camera meet the hull first, (h, w, 3) [m], and how far along them [m]; infinite where not.

    Args:
        hull: Cells, bool (nx, ny, nz).
        box: Least and greatest of each axis (3, 2) [m].
        camera: Its camera.
    """
    origins, directions = (ray.double() for ray in camera.rays())
    shape, lower, cell = origins.shape, box[:, 0], cell_of(box)
    origins, directions = origins.reshape(-1, 3), directions.reshape(-1, 3)
    along, far = intersect_box(origins, directions, *box.T)
    found = torch.full_like(along, torch.inf)
    going, last = (far > along).nonzero()[:, 0], torch.tensor(hull.shape) - 1
    while len(going):
        place = ((origins[going] + along[going, None] * directions[going] - lower) / cell).floor().long()
        inside = ((place >= 0) & (place <= last)).all(1) & hull[tuple(place.clamp_min(0).minimum(last).T)]
        found[going[inside]] = along[going[inside]]
        along[going] += cell / 2
        going = going[~inside & (along[going] < far[going])]
    return (origins + found[:, None] * directions).reshape(shape), found.reshape(shape[:2])


def colours_seen(
    places: torch.Tensor, hull: torch.Tensor, box: torch.Tensor, shots: Sequence[Photograph]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encoded colours of places in each photograph (k, n, 3), and whether no part of the hull hides them (k, n).

    Args:
        places: On the hull (n, 3) [m].
        hull: Cells, bool (nx, ny, nz).
        box: Least and greatest of each axis (3, 2) [m].
        shots: Photographs.
    """
    colours, free = [], []
    for shot in shots:
        first = hull_places(hull, box, shot.camera)[1]
        row, column, within = _pixels(places, shot)
        reach, limit = (places - shot.camera.position).norm(dim=-1), first[row, column] + BEHIND * cell_of(box)
        colours.append(shot.picture[row, column].double())
        free.append(within & (reach < limit) & ~limit.isinf())
    return torch.stack(colours), torch.stack(free)


def mean_colours(colours: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """Of what `colours_seen` says: the mean of the photographs that see a place (n, 3); of all where none does."""
    weight = free.double()[..., None]
    every = (weight * colours).sum((0, 1)) / weight.sum().clamp_min(1.0)
    mean = (weight * colours).sum(0) / weight.sum(0).clamp_min(1.0)
    return torch.where(free.any(0)[:, None], mean, every)


def hull_pictures(
    hull: torch.Tensor, box: torch.Tensor, shots: Sequence[Photograph], cameras: Sequence[PinholeCamera]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Encoded pictures (h, w, 3) of the hull by other cameras: in the mean colours, and in those of the nearest view.

    Args:
        hull: Cells, bool (nx, ny, nz).
        box: Least and greatest of each axis (3, 2) [m].
        shots: Photographs, cast upon the hull.
        cameras: By which to look.
    """

    def side(camera: PinholeCamera) -> torch.Tensor:
        return torch.nn.functional.normalize(camera.position.double() - box.mean(1), dim=-1)

    found = []
    for camera in cameras:
        places, far = hull_places(hull, box, camera)
        there = ~far.isinf()
        colours, free = colours_seen(places[there], hull, box, shots)
        mean = mean_colours(colours, free)
        nearest = mean
        for k in sorted(range(len(shots)), key=lambda k: float(side(shots[k].camera) @ side(camera))):
            nearest = torch.where(free[k, :, None], colours[k], nearest)  # the nearest one last
        pictures = []
        for shown in (mean, nearest):
            picture = (places.new_zeros(places.shape) + shots[0].background).double()
            picture[there] = shown
            pictures.append(picture)
        found.append((pictures[0], pictures[1]))
    return found
