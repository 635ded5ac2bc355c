"""Views of an object under many cameras, lights and weathers: what a texture is seen through.

View i of a sampler depends on its seed and on i alone, so that a set can be made in pieces, in any order, and grown.
"""

import dataclasses
import math
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import torch

from simengine.dtn.bodies.labels import COLUMNS, label_view
from simengine.dtn.sampler import CONDITIONS, ViewSampler
from simengine.ops.light.ray_scene import RaySurface
from simengine.ops.light.raycast import RayBuffers
from simengine.render.camera import PinholeCamera
from simengine.render.tone import ToneCurve

BUFFERS = {"offset": 3, "gain": 3, "paint": 1, "object": 1, "normal": 3, "position": 3, "uv": 2, "footprint": 2}
IN_MEMORY = 1 << 30  # bytes of buffers; those of a larger set lie in a file that the system reads and writes as needed


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ViewSet:
    """Buffers of n views, stacked and with the channels first.

    Attributes:
        gain: A, shape (n, 3, h, w).
        offset: B, shape (n, 3, h, w); of views without the object the only buffer with pixels.
        paint: Share covered by paint, shape (n, 1, h, w).
        object: Share covered by the object, shape (n, 1, h, w).
        normal: Shape (n, 3, h, w).
        position: [m], shape (n, 3, h, w).
        uv: Shape (n, 2, h, w).
        footprint: Of a pixel on the surface [m] and in uv, shape (n, 2, h, w).
        eye: Position of the camera [m], shape (n, 3).
        conditions: By the names of CONDITIONS, shape (n, 12).
        index: Of each view in its sampler, shape (n,).
        labels: Of the things in each view, by the COLUMNS of `simengine.dtn.bodies.labels`, shape (n, k, 8); None where
            nobody labelled them.
        tone: From radiance to pictures.
    """

    gain: torch.Tensor
    offset: torch.Tensor
    paint: torch.Tensor
    object: torch.Tensor
    normal: torch.Tensor
    position: torch.Tensor
    uv: torch.Tensor
    footprint: torch.Tensor
    eye: torch.Tensor
    conditions: torch.Tensor
    index: torch.Tensor
    labels: torch.Tensor | None = None
    tone: ToneCurve = dataclasses.field(default_factory=ToneCurve)

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width [pixels]."""
        return self.offset.shape[2], self.offset.shape[3]

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors by name, those that are there."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}

    def to(self, device: torch.device | str) -> "ViewSet":
        """The same on a device; itself where it is there already."""
        if self.offset.device == torch.device(device):
            return self
        moved: dict[str, Any] = {name: value.to(device) for name, value in self.tensors().items()}
        return dataclasses.replace(self, **moved)

    def __getitem__(self, index: torch.Tensor | slice | Sequence[int]) -> "ViewSet":
        some: dict[str, Any] = {name: value[index] for name, value in self.tensors().items()}
        return dataclasses.replace(self, **some)

    def picture(self, paint: torch.Tensor, index: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """Encoded pictures for a paint in linear albedo that broadcasts to (n, 3, h, w): tone(A c + B).

        Args:
            paint: Of the views, on any device.
            index: Which views, all or n of them; the other buffers of these are not looked at.

        Raises:
            ValueError: The paint does not broadcast to this.
        """
        gain, offset = self.gain[index], self.offset[index]
        if not gain.numel():  # nothing to paint
            return self.tone.encode(offset)
        if any(p not in (1, g) and g != 1 for p, g in zip(paint.shape[::-1], gain.shape[::-1], strict=False)):
            raise ValueError(f"paint: expected a shape like {tuple(gain.shape)}, or 1, got {tuple(paint.shape)}")
        return self.tone.encode(gain * paint.to(gain.device) + offset)

    def boxes(self, *, threshold: float = 0.5) -> torch.Tensor:
        """Boxes (x0, y0, x1, y1) [pixels] of the visible object, shape (n, 4).

        Raises:
            ValueError: A view shows no object.
        """
        seen = self.object[:, 0] >= threshold
        empty = (~seen.flatten(1).any(1)).nonzero().flatten().tolist()
        if empty:
            raise ValueError(f"object: views {empty[:5]} show none; move the camera nearer or drop them")
        boxes = []
        for line in (seen.any(1), seen.any(2)):
            low = line.int().argmax(1)
            high = line.shape[1] - line.flip(1).int().argmax(1)
            boxes.append(torch.stack([low, high], 1))
        return torch.stack([boxes[0][:, 0], boxes[1][:, 0], boxes[0][:, 1], boxes[1][:, 1]], 1).float()


def object_crops(views: ViewSet, side: int) -> ViewSet:
    """The parts of `side` x `side` pixels about the middle of the object, shifted to lie within the pictures.

    Raises:
        ValueError: The pictures are smaller, or a view shows no object.
    """
    size = torch.tensor(views.size)
    if not 0 < side <= int(size.min()):
        raise ValueError(f"side: expected 1 to {int(size.min())} pixels, got {side}")
    boxes = views.boxes().cpu()
    middle = ((boxes[:, :2] + boxes[:, 2:]) / 2).long().flip(1)  # row, column
    corners = torch.minimum((middle - side // 2).clamp(min=0), size - side).tolist()

    def cut(value: torch.Tensor) -> torch.Tensor:
        if value.dim() != 4:
            return value
        return torch.stack([v[:, y : y + side, x : x + side] for v, (y, x) in zip(value, corners, strict=True)])

    tensors = {
        name: cut(value) for name, value in views.tensors().items() if name != "labels"
    }  # these are of the whole
    return ViewSet(**tensors, tone=views.tone)


def stack_views(
    buffers: Sequence[RayBuffers],
    cameras: Sequence[PinholeCamera],
    conditions: Sequence[dict[str, float]],
    *,
    tone: ToneCurve,
    indices: Sequence[int] | None = None,
) -> ViewSet:
    """A ViewSet of views rendered one by one."""
    if not buffers:
        raise ValueError("buffers: expected at least one view, got none")
    views = [_planes(b) for b in buffers]
    return _view_set(
        {name: torch.stack([view[name] for view in views]) for name in BUFFERS},
        cameras,
        conditions,
        tone=tone,
        indices=list(indices if indices is not None else range(len(buffers))),
    )


def _planes(buffers: RayBuffers) -> dict[str, torch.Tensor]:
    """The buffers of one view, (channels, h, w)."""
    planes = {}
    for name in BUFFERS:
        value = getattr(buffers, name)
        planes[name] = value.permute(2, 0, 1) if value.dim() == 3 else value[None]
    planes["footprint"] = torch.stack([buffers.footprint, buffers.uv_footprint])
    return planes


def _view_set(
    planes: dict[str, torch.Tensor],
    cameras: Sequence[PinholeCamera],
    conditions: Sequence[dict[str, float]],
    *,
    tone: ToneCurve,
    indices: Sequence[int],
    labels: torch.Tensor | None = None,
) -> ViewSet:
    return ViewSet(
        **planes,
        eye=torch.stack([camera.position for camera in cameras]).float(),
        conditions=torch.tensor([[c[name] for name in CONDITIONS] for c in conditions]),
        index=torch.tensor(indices),
        labels=labels,
        tone=tone,
    )


def render_views(
    surface: RaySurface | None,
    sampler: ViewSampler,
    indices: Sequence[int],
    size: tuple[int, int],
    *,
    tone: ToneCurve | None = None,
    samples: int = 2,
    sky_rays: int = 4,
    device: torch.device | str = "cpu",
) -> ViewSet:
    """Render the views with these indices; without the object where `surface` is None.

    About 0.07 s of CPU a view at 96 x 96 with 2 x 2 samples and 4 sky rays, and 72 bytes of each pixel, of which views
    without the object keep 12. A set of more than 1 GiB lies in a file without a name, in the folder for such files.

    Args:
        surface: What stands there, as rays see it.
        sampler: Draws camera, sun and place of a view by its number.
        indices: Numbers of the views.
        size: Height and width [pixel].
        tone: From light to display; None for the usual curve.
        samples: Rays along each side of a pixel.
        sky_rays: Towards the sky, from each point that is hit.
        device: That the rays are cast on; the set itself lies in main memory.

    Raises:
        OSError: There is no room for that file.
    """
    sampler = sampler if surface is None else sampler.fitted(surface)
    tone, shown = tone or ToneCurve(), BUFFERS if surface is not None else {"offset": 3}
    sizes = {name: (len(indices), count, *(size if name in shown else (0, 0))) for name, count in BUFFERS.items()}
    in_file = 4 * sum(map(math.prod, sizes.values())) > IN_MEMORY
    planes = {name: _room(shape, in_file=in_file and name in shown) for name, shape in sizes.items()}
    cameras, conditions = [sampler.camera(i, size) for i in indices], [sampler.conditions(i) for i in indices]
    rows = 1 + sampler.objects[1]
    labels = torch.zeros(len(indices), rows, len(COLUMNS))
    for place, (index, camera) in enumerate(zip(indices, cameras, strict=True)):
        buffers = sampler.render(surface, index, size, samples=samples, sky_rays=sky_rays, device=device)
        own = _planes(buffers)
        for name in shown:
            planes[name][place] = own[name]
        labels[place] = label_view(buffers.instance, sampler.things(surface, index), camera, rows=rows)
    return _view_set(planes, cameras, conditions, tone=tone, indices=list(indices), labels=labels)


def _room(shape: tuple[int, ...], *, in_file: bool) -> torch.Tensor:
    """A tensor of zeros, float32; in a file that has no name and goes with the tensor, where that is asked for.

    Windows has no files without a name: there it is always memory, which goes to the page file where it is short.
    """
    if not in_file or os.name == "nt":
        return torch.zeros(shape)
    with tempfile.NamedTemporaryFile(prefix="simengine-views-") as file:
        os.truncate(file.name, 4 * math.prod(shape))
        if hasattr(os, "posix_fallocate"):  # now, or a full disk would end the process later
            os.posix_fallocate(file.fileno(), 0, 4 * math.prod(shape))
        return torch.from_file(file.name, shared=True, size=math.prod(shape)).reshape(shape)


def keep_views(views: ViewSet, keep: torch.Tensor) -> ViewSet:
    """Some of the views of a set, bool (n,), which take the places of the others; the set itself is used up."""
    kept = keep.nonzero().flatten().tolist()
    for place, k in enumerate(kept):
        if place != k:
            for value in views.tensors().values():
                value[place] = value[k].clone()
    return views[: len(kept)]
