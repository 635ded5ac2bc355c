"""What the places of a body tell of its pictures: colours that it carries along, and how far its points move.

A world answers where the material that a pixel shows is at another time (the channel `place`). Seen by the camera that
is a pixel of another picture: whose colours the material has, or to which it moves.
"""

from itertools import product

import torch

from simengine.observe.instruments.picture_settings import PictureSettings
from simengine.render.camera import PinholeCamera
from simengine.render.lens import project_through
from simengine.scene.instrument import Measured

LEAST = 1e-3  # of a pixel that a body covers, from which the pixel tells of it
WHOLE = 0.999
BAND = 5  # pixels around each that are within a body, or off it, where flow is compared
FAINT = 0.01  # weight of the mean of as many pixels beside the colours of the nearest
HIDDEN = (3.0, 6.0)  # widths of a pixel behind what the first picture shows, from which a point is not seen, is hidden
TEXEL = 2.0  # pixels along an edge
TEXELS = 1000  # at most
SMOOTH = 0.02  # of the weight of a mean texel, by which neighbours are held alike


def placed(seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Places (f, h, w, 3), 0 where nothing is, and covered shares (f, h, w) of the channels place and alpha."""
    alpha = seen[..., 3]
    there = (alpha > LEAST)[..., None]
    return torch.where(there, seen[..., :3] / torch.where(there, alpha[..., None], 1.0), 0.0), alpha


def seen_at(own: PictureSettings, camera: PinholeCamera, points: torch.Tensor) -> torch.Tensor:
    """Pixel coordinates and depth [m] of points of the world (n, 3) [m], (n, 3)."""
    if (glass := own.camera.glass()) is not None:
        return project_through(points, camera, glass)
    return camera.project(points)


def flow_of(own: PictureSettings, now: torch.Tensor, then: torch.Tensor, measured: Measured) -> torch.Tensor:
    """How far what each pixel shows moves to the next picture [px], (f, h, w, 2); the wall behind stands still.

    Within two pixels of an outline, where flow is that of either side,
    it is what was measured (a file that is made has none).

    Args:
        own: Of the pictures.
        now: Channels place and alpha, at the times of the pictures, (f, h, w, 4).
        then: At those of the next ones.
        measured: What is compared.
    """
    camera = own.pinholes(measured.shape)[0]
    (here, alpha), (there, _) = placed(now), placed(then)
    least, most = (
        way * torch.nn.functional.max_pool2d(way * alpha.detach()[:, None], BAND, 1, BAND // 2)[:, 0] for way in (-1, 1)
    )
    body = least > WHOLE
    moved = seen_at(own, camera, there[body])[:, :2] - seen_at(own, camera, here[body])[:, :2]
    flow = measured.values.nan_to_num().reshape(*alpha.shape, 2)
    if own.recording:
        flow = torch.full_like(flow, torch.nan)
    return torch.where((most > LEAST)[..., None], flow, 0.0).index_put((body,), moved)


def carried(own: PictureSettings, seen: torch.Tensor, light: torch.Tensor, measured: Measured) -> torch.Tensor:
    """Light over black (f, h, w, 3) of bodies that keep the colours which the first picture shows of them.

    Args:
        own: Of the pictures.
        seen: Channels place, at the time of the first picture, and alpha, (f, h, w, 4).
        light: Of the pictures as they were taken, (f, h, w, 3), NaN where it is not known.
        measured: What is compared.

    What that picture does not show has the mean of what it does.
    """
    camera = own.pinholes(measured.shape)[0]
    place, alpha = placed(seen)
    told = light[0].isfinite().all(-1, keepdim=True)
    first = torch.where(told, light[0], 0.0)
    share = alpha[0, ..., None]
    empty = None if own.made is None else own.made.empty
    if empty is None:  # at the edge nobody knows what is the wall's
        weight = (told & (share > WHOLE)).to(share)
    else:
        weight = share * (told & (share > 0.5))
        first = first - (1 - share) * empty
    body = torch.where(share > LEAST, first / share.clamp_min(LEAST), 0.0)
    depth = camera.to_camera(place[0])[..., 2:]
    source = torch.cat([weight * body, weight * depth, weight], -1).permute(2, 0, 1)[None]
    source = source + FAINT * torch.nn.functional.avg_pool2d(source, BAND, 1, BAND // 2)  # beyond the rim, what is near
    covered = alpha > LEAST
    at = seen_at(own, camera, place[covered])
    size = torch.tensor([camera.width, camera.height], dtype=torch.float64)
    found = torch.nn.functional.grid_sample(source, (2 * at[:, :2] / size - 1)[None, None], align_corners=False)[
        0, :, 0
    ].T
    known = found[:, 4:].clamp_min(1e-9)
    behind = (at[:, 2:] - found[:, 3:4] / known) / (at[:, 2:] / camera.intrinsics[0])
    near, far = HIDDEN
    trust = ((far - behind) / (far - near)).clamp(0, 1) * (found[:, 4:] / (0.1 * FAINT)).clamp(0, 1)
    fill = (weight * body).sum((0, 1)) / weight.sum().clamp_min(1e-9)
    colour = trust * found[:, :3] / known + (1 - trust) * fill
    return torch.zeros(*alpha.shape, 3, dtype=torch.float64).index_put((covered,), alpha[covered][:, None] * colour)


def textured(own: PictureSettings, seen: torch.Tensor, light: torch.Tensor, measured: Measured) -> torch.Tensor:
    """The pictures (f, h, w, 3) that the texture which fits them all best would give, wall included.

    Args:
        own: Of the pictures.
        seen: Channels place, at the time of the first picture, and alpha, (f, h, w, 4).
        light: Of the pictures as they were taken, (f, h, w, 3), NaN where it is not known.
        measured: What is compared.

    The texture is linear between the corners of cubes of some pixels, through which the surface runs; neighbours are
    held alike, weakly. Without a background the wall is of one colour that fits best, too.
    """
    place, alpha = placed(seen)
    covered = alpha > LEAST
    points, shares = place[covered], alpha[covered]
    corners, weights, count, beside = _lattice(own, points, measured)
    empty = None if own.made is None else own.made.empty
    fixed = torch.zeros(*alpha.shape, 3, dtype=torch.float64)
    if empty is not None:
        fixed = fixed + (1 - alpha[..., None]) * empty
    counts = measured.fitted.reshape(*measured.shape, -1).all(-1) & light.isfinite().all(-1)
    gap = torch.where(counts[..., None], light - fixed, 0.0)
    used = counts[covered].to(shares)
    rows = weights * shares[:, None]  # of the system, (m, 8)
    size = count + (empty is None)
    gram = torch.zeros(size * size, dtype=torch.float64)
    pairs = (corners[:, :, None] * size + corners[:, None, :]).reshape(-1)
    gram = gram.index_add(0, pairs, (used[:, None, None] * rows[:, :, None] * rows[:, None, :]).reshape(-1))
    right = torch.zeros(size, 3, dtype=torch.float64)
    told = (used[:, None] * rows)[..., None] * gap[covered][:, None]
    right = right.index_add(0, corners.reshape(-1), told.reshape(-1, 3))
    gram = gram.reshape(size, size)
    hold = SMOOTH * gram.diagonal()[:count].mean()
    a, b = beside.T
    alike = torch.zeros(size, size, dtype=torch.float64)
    for i, j, sign in ((a, a, 1.0), (b, b, 1.0), (a, b, -1.0), (b, a, -1.0)):
        alike.index_put_((i, j), torch.full((len(a),), sign, dtype=torch.float64), accumulate=True)
    if empty is None:
        wall = torch.where(counts, 1 - alpha, 0.0)
        cross = torch.zeros(size, dtype=torch.float64)
        mixed = (used * (1 - shares))[:, None] * rows
        cross = cross.index_add(0, corners.reshape(-1), mixed.reshape(-1))
        last = torch.zeros(size, dtype=torch.float64)
        last[-1] = 1.0
        gram = gram + last[:, None] * cross + cross[:, None] * last + wall.square().sum() * last[:, None] * last
        right = right + last[:, None] * (wall[..., None] * gap).sum((0, 1, 2))
    gram = gram + hold * (alike + 1e-6 * torch.eye(size, dtype=torch.float64))
    colours = torch.cholesky_solve(right, torch.linalg.cholesky(gram))
    if empty is None:
        fixed = (1 - alpha[..., None]) * colours[-1]
    return fixed.index_put((covered,), fixed[covered] + (rows[..., None] * colours[corners]).sum(1))


def _lattice(
    own: PictureSettings, points: torch.Tensor, measured: Measured
) -> tuple[torch.Tensor, torch.Tensor, int, torch.Tensor]:
    """Corners of the cubes around points (m, 3): numbers and weights (m, 8), how many, and those beside (k, 2)."""
    camera = own.pinholes(measured.shape)[0]
    with torch.no_grad():
        depth = camera.to_camera(points)[:, 2].mean() if len(points) else torch.ones(())
        pixel = float(depth / camera.intrinsics[0])
        edge = 2.0 ** (round(2 * torch.log2(torch.tensor(TEXEL * pixel)).item()) / 2)  # one that does not tremble
    while True:
        unit = points / edge
        low = unit.detach().floor()
        part = unit - low
        offset = torch.tensor(list(product((0, 1), repeat=3)))
        nodes = low[:, None].long() + offset
        weights = torch.where(offset.bool(), part[:, None], 1 - part[:, None]).prod(-1)
        found, number = torch.unique(nodes.reshape(-1, 3), dim=0, return_inverse=True)
        if len(found) <= TEXELS:
            break
        edge *= 2**0.5
    index = {tuple(node): k for k, node in enumerate(found.tolist())}
    steps = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    pairs = [
        (k, index[after])
        for node, k in index.items()
        for step in steps
        if (after := tuple(n + s for n, s in zip(node, step, strict=True))) in index
    ]
    return number.reshape(-1, 8), weights, len(found), torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
