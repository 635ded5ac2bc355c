"""Networks that predict, from one picture of a grey object, how any texture would look in that view.

An extractor sees the reference once and gives maps; a head applies the maps to a texture pixel by pixel, so that a
texture and its gradient cost a few multiplications a pixel. Heads:

* `dtn4`, as published (Suryanto et al., CVPR 2022): subtractor, adder, multiplier, final adder,
  ReLU((ReLU(c - S) + A) M + F) in encoded values.
* `ntr2` (ACTIVE, ICCV 2023): c M + F.
* `efe` (RAUCA, ICML 2024): clamp(c M + F), from a U-Net.
* `linear`, ours: the law of rendering, L = A c + B in linear radiance, with B = L_ref - A c_ref, so that the reference
  itself is met exactly and only the share of its radiance that is paint, s = A c_ref / L_ref in [0, 1], is learned.
"""

import dataclasses
from typing import Literal

import torch
from torch import nn

from simengine.dtn.views import ViewSet
from simengine.render.tone import ToneCurve, encode_srgb

Head = Literal["dtn4", "ntr2", "efe", "linear"]
Extractor = Literal["conv", "residual", "dense", "unet"]
MAPS = {"dtn4": 4, "ntr2": 2, "efe": 2, "linear": 1}
GEOMETRY_CHANNELS = 11
COAT, SKY = 0.04, (0.28, 0.33, 0.41)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """One picture of each view with the object painted grey, and what else is known of the view.

    Attributes:
        picture: Encoded, in [0, 1], shape (n, 3, h, w).
        object: Share covered by the object, shape (n, 1, h, w).
        grey: Linear albedo of the paint in the picture.
        geometry: Paint coverage, normal, cosine to the viewer, distance / 10 m, height [m], direction that a mirror
            there shows, Schlick's (1 - cosine)^5, over the object, shape (n, 11, h, w); None where only the picture is
            at hand.
        tone: The tone curve of the picture; None where unknown.
    """

    picture: torch.Tensor
    object: torch.Tensor
    grey: float = 0.5
    geometry: torch.Tensor | None = None
    tone: ToneCurve | None = None

    def __post_init__(self) -> None:
        n, _, h, w = self.picture.shape if self.picture.dim() == 4 else (0, 0, 0, 0)
        if self.picture.shape != (n, 3, h, w) or self.object.shape != (n, 1, h, w):
            raise ValueError(
                f"picture, object: expected shapes (n, 3, h, w) and (n, 1, h, w), got {tuple(self.picture.shape)} and "
                f"{tuple(self.object.shape)}"
            )
        if self.geometry is not None and self.geometry.shape != (n, GEOMETRY_CHANNELS, h, w):
            raise ValueError(
                f"geometry: expected shape {(n, GEOMETRY_CHANNELS, h, w)}, got {tuple(self.geometry.shape)}"
            )
        if n and not bool((self.object > 0).flatten(1).any(1).all()):
            raise ValueError("object: a mask is empty; drop the views that show no object")
        if not 0 < self.grey <= 1:
            raise ValueError(f"grey: expected a linear albedo in (0, 1], got {self.grey}")

    def __len__(self) -> int:
        return len(self.picture)

    @property
    def radiance(self) -> torch.Tensor:
        """Of the picture; by the usual curve where its own is unknown."""
        return (self.tone or ToneCurve()).decode(self.picture)

    def to(self, device: torch.device | str) -> "Reference":
        """The same on a device."""
        geometry = None if self.geometry is None else self.geometry.to(device)
        return dataclasses.replace(
            self, picture=self.picture.to(device), object=self.object.to(device), geometry=geometry
        )

    def __getitem__(self, index: torch.Tensor | slice) -> "Reference":
        geometry = None if self.geometry is None else self.geometry[index]
        return dataclasses.replace(self, picture=self.picture[index], object=self.object[index], geometry=geometry)


def reference_of(views: ViewSet, *, grey: float = 0.5) -> Reference:
    """The reference of rendered views, with all geometry buffers."""
    offset = views.eye[:, :, None, None] - views.position
    distance = offset.norm(dim=1, keepdim=True)
    covered = views.object > 0
    to_eye = offset / distance.clamp(min=1e-6)
    facing = (views.normal * to_eye).sum(1, keepdim=True)
    mirrored = 2 * facing * views.normal - to_eye
    grazing = (1 - facing.clamp(0, 1)) ** 5
    values = (views.normal, facing, distance / 10, views.position[:, 2:], mirrored, grazing)
    geometry = torch.cat([views.paint, *(value * covered for value in values)], 1)
    picture = views.picture(torch.full((1, 3, 1, 1), grey))
    return Reference(picture=picture, object=views.object, grey=grey, geometry=geometry, tone=views.tone)


def paint_share(reference: Reference) -> torch.Tensor:
    """A first guess of the share of each pixel's radiance that is paint, shape (n, 3, h, w): where `linear` starts.

    Paint under a clear coat (reflectance COAT at normal incidence, Schlick) that mirrors sky and houses of radiance
    SKY, behind haze as bright as the darkest pixel of the object, some tyre or pane (the dark channel of He et al.,
    CVPR 2009).
    """
    if reference.geometry is None:
        raise ValueError("reference: the geometry buffers are needed, got none")
    coverage, grazing = reference.geometry[:, :1], reference.geometry[:, -1:]
    radiance = reference.radiance
    outside = torch.where(reference.object >= 0.5, 0.0, torch.inf)
    near = (radiance - (radiance + outside).amin((2, 3), keepdim=True)).clamp(min=0)
    mirrored = (COAT + (1 - COAT) * grazing) * radiance.new_tensor(SKY).view(3, 1, 1)
    return coverage * near / radiance.clamp(min=1e-6) * near / (near + mirrored)


class _EncoderBlock(nn.Module):
    """Two 3 x 3 convolutions: plain, with a residual connection, or densely connected."""

    def __init__(self, inputs: int, outputs: int, kind: Extractor, normalise: bool) -> None:
        super().__init__()
        self.kind = kind
        grown = inputs + outputs if kind == "dense" else outputs
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(grown, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if kind == "residual" else None
        self.norm = nn.GroupNorm(min(8, outputs // 4), outputs) if normalise else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        y = self.norm(self.second(torch.cat([x, y], 1) if self.kind == "dense" else y))
        return torch.relu(y + self.skip(x) if self.skip is not None else y)


class _EncoderDecoder(nn.Module):
    """Halves the picture `depth` times and doubles it again; `across` hands the finer features across."""

    def __init__(
        self, inputs: int, outputs: int, *, kind: Extractor, width: int, depth: int, across: bool, normalise: bool
    ) -> None:
        super().__init__()
        block: Extractor = "residual" if kind == "unet" else kind
        self.across: bool = across or kind == "unet"
        widths = [width * min(2**k, 4) for k in range(depth + 1)]
        self.stem: nn.Conv2d = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.down: nn.ModuleList = nn.ModuleList(
            _EncoderBlock(widths[k], widths[k + 1], block, normalise) for k in range(depth)
        )
        extra = [widths[k] if self.across else 0 for k in range(depth)]
        self.up: nn.ModuleList = nn.ModuleList(
            _EncoderBlock(widths[k + 1] + extra[k], widths[k], block, normalise) for k in reversed(range(depth))
        )
        self.out: nn.Conv2d = nn.Conv2d(widths[0], outputs, 3, padding=1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = [torch.relu(self.stem(x))]
        for block in self.down:
            skips.append(block(nn.functional.avg_pool2d(skips[-1], 2)))
        y = skips.pop()
        for block in self.up:
            finer = skips.pop()
            y = nn.functional.interpolate(y, scale_factor=2.0)
            y = block(torch.cat([y, finer], 1) if self.across else y)
        return self.out(y)


class TransformationNetwork(nn.Module):
    """Extractor and head; see the module.

    Args:
        head: How the maps act on a texture.
        extractor: `"conv"`, `"residual"` and `"dense"` as published; `"unet"` for `efe` and `linear`.
        geometry: Whether the extractor also sees the geometry buffers.
        width: Channels at full size; up to four times as many below.
        depth: How often the picture is halved; both its sides must divide by 2 to this power.
        skips: Whether the extractor hands its finer features across, encoder to decoder; `"unet"` always does.
        normalise: Whether its blocks normalise groups of channels; then what a pixel gets depends on how much of the
            picture the object fills.
    """

    def __init__(
        self,
        head: Head = "linear",
        *,
        extractor: Extractor = "unet",
        geometry: bool = True,
        width: int = 16,
        depth: int = 4,
        skips: bool = True,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        if head not in MAPS:
            raise ValueError(f"head={head!r}: expected one of {', '.join(MAPS)}")
        if extractor not in ("conv", "residual", "dense", "unet"):
            raise ValueError(f"extractor={extractor!r}: expected 'conv', 'residual', 'dense' or 'unet'")
        self.head = head
        self.geometry: bool = geometry
        self.depth: int = depth
        # the published networks see the object alone; ours the whole picture, since haze shows on what is behind
        inputs = 4 + (GEOMETRY_CHANNELS if geometry else 0) + (3 if geometry and head == "linear" else 0)
        self.extract: _EncoderDecoder = _EncoderDecoder(
            inputs,
            3 * MAPS[head],
            kind=extractor,
            width=width,
            depth=depth,
            across=skips,
            normalise=normalise,
        )

    def maps(self, reference: Reference) -> torch.Tensor:
        """What the views do to a texture, shape (n, k, 3, h, w), k as in MAPS.

        Raises:
            ValueError: Geometry is needed but missing, or the picture cannot be halved `depth` times.
        """
        h, w = reference.picture.shape[2:]
        if h % 2**self.depth or w % 2**self.depth:
            raise ValueError(f"picture: expected sides that divide by {2**self.depth}, got {h} x {w}; pad or resize it")
        mask = (reference.object >= 0.5).to(reference.picture.dtype)
        if self.head == "linear":  # always sees the usual curve, so that one that is told makes no difference
            picture = ToneCurve().encode(reference.radiance)
        else:
            picture = reference.picture * mask
        channels = [picture - 0.5 * mask, mask]
        if self.geometry:
            if reference.geometry is None:
                raise ValueError("reference: this network needs the geometry buffers; give them, or geometry=False")
            channels.append(reference.geometry)
            if self.head == "linear":
                channels.append(paint_share(reference))
        maps = self.extract(torch.cat(channels, 1))
        maps = maps.view(len(reference), MAPS[self.head], 3, h, w)
        if self.head == "linear":
            if reference.geometry is None:
                return torch.sigmoid(maps + torch.logit(mask[:, None], eps=0.02))
            start = paint_share(reference)[:, None]
            return torch.sigmoid(maps + torch.logit(start, eps=1e-3)) * (start > 0)  # no paint, no share of it
        neutral = {"dtn4": (0.0, 0.0, 1.0, 0.0), "ntr2": (1.0, 0.0), "efe": (1.0, 0.0)}[self.head]
        return maps + maps.new_tensor(neutral)[:, None, None, None]

    def apply_maps(self, maps: torch.Tensor, reference: Reference, paint: torch.Tensor) -> torch.Tensor:
        """Pictures of the views with another paint, object in front of the reference's background.

        Args:
            maps: From `maps`.
            reference: The views.
            paint: Linear albedo, broadcast to shape (n, 3, h, w), on any device.

        Returns:
            Encoded pictures in [0, 1], shape (n, 3, h, w).
        """
        paint = paint.to(maps.device)
        if self.head == "linear":
            tone = reference.tone or ToneCurve()
            radiance = reference.radiance
            # L = A c + L_ref - A c_ref with A = s L_ref / c_ref
            return tone.encode(radiance * (1 + maps[:, 0] * (paint / reference.grey - 1)))
        mask = (reference.object >= 0.5).to(maps.dtype)
        colour = encode_srgb(paint) * mask
        if self.head == "dtn4":
            subtractor, adder, multiplier, final = maps.unbind(1)
            seen = torch.relu((torch.relu(colour - subtractor) + adder) * multiplier + final)
        else:
            multiplier, final = maps.unbind(1)
            seen = colour * multiplier + final
        return seen.clamp(0, 1) * mask + reference.picture * (1 - mask)

    def forward(self, reference: Reference, paint: torch.Tensor) -> torch.Tensor:
        """`apply_maps` of `maps`."""
        return self.apply_maps(self.maps(reference), reference, paint)
