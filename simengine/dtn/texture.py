"""A texture onto the object: by uv, triplanar, or projected along one axis; repeated without seams, mip-mapped.

Where the pixels of a set of views fall in a texture does not depend on the texture, so that the taps (which texels,
with which weights) are computed once and putting on a texture is a product with a sparse matrix, as is its gradient.
"""

import dataclasses
from typing import Any, Literal

import torch

from simengine.dtn.views import ViewSet
from simengine.ops.light.raycast import check_texture

Mapping = Literal["uv", "triplanar", "planar"]
PLANES: dict[str, tuple[tuple[int, int], ...]] = {  # coordinates across each axis
    "triplanar": ((1, 2), (0, 2), (0, 1)),
    "planar": ((0, 2),),
}


def texture_picture(texture: torch.Tensor, *, enlarge: int = 8) -> torch.Tensor:
    """A texture as an image file holds it, for other renderers: the first row of the image is the top, v = 1.

    Args:
        texture: Shape (rows, columns, 3); row 0 is at v = 0, column 0 at u = 0.
        enlarge: Pixels along the side of a texel.

    Returns:
        Shape (enlarge rows, enlarge columns, 3).
    """
    return texture.flip(0).repeat_interleave(enlarge, 0).repeat_interleave(enlarge, 1)


def mip_levels(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Sizes of the mip levels: halved while both sides are even.

    Args:
        size: Rows and columns of the texture.
    """
    levels = [size]
    while levels[-1][0] % 2 == 0 and levels[-1][1] % 2 == 0:
        levels.append((levels[-1][0] // 2, levels[-1][1] // 2))
    return levels


def mip_pyramid(texture: torch.Tensor) -> torch.Tensor:
    """Texels of all mip levels one after the other, each level the mean of 2 x 2 of the one before.

    Args:
        texture: Shape (rows, columns, 3).

    Returns:
        Shape (texels, 3).
    """
    level, flat = texture.permute(2, 0, 1)[None], []
    for number, _ in enumerate(mip_levels((texture.shape[0], texture.shape[1]))):
        level = torch.nn.functional.avg_pool2d(level, 2) if number else level
        flat.append(level[0].permute(1, 2, 0).reshape(-1, 3))
    return torch.cat(flat)


def taps(uv: torch.Tensor, footprint: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Texels and weights of trilinear sampling of a texture that repeats with period 1.

    Args:
        uv: Texture coordinates, u along the columns, shape (p, 2).
        footprint: Side of what a sample averages, in uv, shape (p,).
        size: Rows and columns.

    Returns:
        Indices into `mip_pyramid` and weights that sum to 1, both of shape (p, 8).
    """
    levels = mip_levels(size)
    starts = [0]
    for rows, columns in levels:
        starts.append(starts[-1] + rows * columns)
    texels = footprint * (size[0] * size[1]) ** 0.5
    level = torch.log2(texels.clamp(min=1.0)).clamp(max=len(levels) - 1)
    lower = level.floor().long()
    blend = level - lower
    table = uv.new_tensor(levels)
    indices, weights = [], []
    for step, share in ((0, 1 - blend), (1, blend)):
        number = (lower + step).clamp(max=len(levels) - 1)
        height, width = table[number].unbind(-1)
        x, y = torch.frac(torch.frac(uv) + 1).unbind(-1)
        x, y = x * width - 0.5, y * height - 0.5
        x0, y0 = x.floor(), y.floor()
        start = torch.tensor(starts, device=uv.device)[number]
        for dy, wy in ((0, 1 - (y - y0)), (1, y - y0)):
            for dx, wx in ((0, 1 - (x - x0)), (1, x - x0)):
                row, column = torch.remainder(y0 + dy, height).long(), torch.remainder(x0 + dx, width).long()
                indices.append(start + row * width.long() + column)
                weights.append(share * wy * wx)
    return torch.stack(indices, 1), torch.stack(weights, 1)


class _Taps(torch.autograd.Function):
    """Weighted sums of texels; their gradient is added up unsorted, in half the time of that of `embedding_bag`."""

    @staticmethod
    def forward(ctx: Any, flat: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Sums (p, 3) of texels (t, 3) by indices and weights (p, k)."""
        ctx.save_for_backward(indices, weights)
        ctx.texels = len(flat)
        return torch.nn.functional.embedding_bag(indices, flat, mode="sum", per_sample_weights=weights)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Of the texels: each sum's gradient times its weights."""
        indices, weights = ctx.saved_tensors
        parts = (weights[..., None] * gradient[:, None]).flatten(0, 1)
        return gradient.new_zeros(ctx.texels, gradient.shape[1]).index_add_(0, indices.flatten(), parts), None, None


@dataclasses.dataclass(frozen=True, eq=False)
class TextureMap:
    """How the painted pixels of a set of views see a texture.

    Attributes:
        pixels: Flat index n h w of each painted pixel, shape (p,).
        indices: Texels of the mip pyramid, shape (p, k).
        weights: Shape (p, k).
        shape: n, h, w.
        texture_size: Rows and columns the map was made for.
    """

    pixels: torch.Tensor
    indices: torch.Tensor
    weights: torch.Tensor
    shape: tuple[int, int, int]
    texture_size: tuple[int, int]

    def __call__(self, texture: torch.Tensor) -> torch.Tensor:
        """The paint of each pixel, differentiable in the texture; 0 where there is none.

        Args:
            texture: Linear albedo, shape (rows, columns, 3), on any device.

        Returns:
            Shape (n, 3, h, w), on the device of the map.

        Raises:
            ValueError: The texture has not the size this map was made for, or values outside [0, 1].
        """
        if not isinstance(texture, torch.Tensor):
            raise ValueError(f"texture: expected a tensor, got {type(texture).__name__}; use torch.as_tensor")
        if tuple(texture.shape) != (*self.texture_size, 3):
            expected = (*self.texture_size, 3)
            raise ValueError(f"texture: expected shape {expected}, got {tuple(texture.shape)}; make a map of its size")
        check_texture(texture)
        n, h, w = self.shape
        flat = mip_pyramid(texture.to(self.pixels.device))
        seen: torch.Tensor = _Taps.apply(flat, self.indices, self.weights.to(flat.dtype))
        image = flat.new_zeros(n * h * w, 3).index_copy(0, self.pixels, seen)
        return image.reshape(n, h, w, 3).permute(0, 3, 1, 2)

    def __getitem__(self, views: torch.Tensor) -> "TextureMap":
        """The map of some of the views, in the given order; shape (m,), integers."""
        (n, h, w), device = self.shape, self.pixels.device
        ends = torch.searchsorted(self.pixels, torch.arange(n + 1, device=device) * (h * w)).tolist()
        where, shift = [], []
        for place, view in enumerate(views.tolist()):
            where.append(torch.arange(ends[view], ends[view + 1], device=device))
            shift.append(torch.full((len(where[-1]),), (place - view) * h * w, device=device))
        kept = torch.cat(where)
        pixels = self.pixels[kept] + torch.cat(shift)
        return TextureMap(pixels, self.indices[kept], self.weights[kept], (len(views), h, w), self.texture_size)


def texture_map(
    views: ViewSet, texture_size: tuple[int, int], *, mapping: Mapping = "uv", repetitions_per_metre: float = 1.0
) -> TextureMap:
    """Make the map of a set of views.

    Args:
        views: Their positions, normals, uv and footprints are used.
        texture_size: Rows and columns of the textures to come.
        mapping: `"uv"`; `"triplanar"` blends projections along the axes by the fourth power of the normal (Suryanto et
            al., ICCV 2023); `"planar"` projects along y alone, which smears on top, front and rear (CVPR 2022).
        repetitions_per_metre: Of the pattern [1/m], for all but `"uv"`.

    Raises:
        ValueError: An argument is out of range, or no view shows any paint.
    """
    if mapping not in ("uv", "triplanar", "planar"):
        raise ValueError(f"mapping={mapping!r}: expected 'uv', 'triplanar' or 'planar'")
    if min(texture_size) < 1:
        raise ValueError(f"texture_size: expected at least one row and column, got {texture_size}")
    if not repetitions_per_metre > 0:
        raise ValueError(f"repetitions_per_metre: expected a number above 0, got {repetitions_per_metre}")
    n, h, w = len(views), *views.size
    pixels = (views.paint.reshape(-1) > 0).nonzero().flatten()
    if not len(pixels):
        raise ValueError("views: no pixel shows paint; name the paint material of the mesh, or move the camera")

    which, place = torch.div(pixels, h * w, rounding_mode="floor"), pixels % (h * w)

    def at(value: torch.Tensor) -> torch.Tensor:
        return value.flatten(2)[which, :, place]

    footprint = at(views.footprint)
    if mapping == "uv":
        uv = at(views.uv)
        if len(uv) > 1 and bool((uv == uv[0]).all()):
            raise ValueError("views: the paint has no texture coordinates; use mapping='triplanar', or a mesh with uv")
        indices, weights = taps(uv, footprint[:, 1], texture_size)
    else:
        position = at(views.position) * repetitions_per_metre
        spread = footprint[:, 0] * repetitions_per_metre
        parts = [taps(position[:, axes], spread, texture_size) for axes in PLANES[mapping]]
        share = at(views.normal) ** 4 if mapping == "triplanar" else position.new_ones(len(pixels), 1)
        share = share / share.sum(-1, keepdim=True)
        indices = torch.cat([part[0] for part in parts], 1)
        weights = torch.cat([part[1] * share[:, k : k + 1] for k, part in enumerate(parts)], 1)
    return TextureMap(pixels, indices, weights, (n, h, w), (texture_size[0], texture_size[1]))
