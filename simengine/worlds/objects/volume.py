"""A volume that absorbs or glows: a field on a grid, a slice, a box, or symmetric about an axis."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from simengine.scene.asks import Ask, Rays
from simengine.scene.base import AbstractRun, AbstractWorld, SceneError
from simengine.scene.strict import Count, Positive, Range, Unit, Vector, from_plain, nearest

if TYPE_CHECKING:
    import torch

    from simengine.io.run_directory import RunDirectory

Density = Annotated[float, Range(ge=0), Unit("1/m")] | Path
THRESHOLDS = 60  # tried for the one that the reference likes best
QUANTITIES = ("attenuation", "emission")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CloudSpec:
    """A cloud of attenuation peak exp(-r^2/(2 width^2)), whose integrals are told in closed form.

    Attributes:
        center: Its middle [m].
        width: Its standard deviation [m].
        peak: Attenuation in the middle [1/m].
    """

    center: Vector = (0.0, 0.0, 0.0)
    width: Positive
    peak: Annotated[float, Range(ge=0), Unit("1/m")]

    def at(self, points: "torch.Tensor") -> "torch.Tensor":
        """Attenuation [1/m] at points (..., 3) [m]."""
        import torch

        r2 = (points - torch.tensor(self.center).to(points)).square().sum(-1)
        return self.peak * torch.exp(-r2 / (2 * self.width**2))

    def along(
        self, origins: "torch.Tensor", directions: "torch.Tensor", near: "torch.Tensor", far: "torch.Tensor"
    ) -> "torch.Tensor":
        """Integrals along rays between two distances, (q,): peak exp(-b^2/(2 s^2)) s sqrt(pi/2) [erf] at distance b.

        Args:
            origins: (q, 3) [m].
            directions: Unit vectors (q, 3).
            near: Where they begin, from the origins (q,) [m].
            far: Where they end, (q,) [m].
        """
        import torch

        to_centre = torch.tensor(self.center).to(origins) - origins
        along = (to_centre * directions).sum(-1)
        b2 = to_centre.square().sum(-1) - along.square()
        scale = math.sqrt(2) * self.width
        part = torch.erf((far - along) / scale) - torch.erf((near - along) / scale)
        return self.peak * self.width * math.sqrt(math.pi / 2) * torch.exp(-b2 / (2 * self.width**2)) * part


@dataclasses.dataclass(frozen=True, kw_only=True)
class VolumeSpec:
    """A box of cells, each of one value.

    Attributes:
        box: Least and greatest of each axis [m]: x, y of a slice; x, y, z; or distance from the axis and height.
        cells: Number along each axis.
        symmetry: `axis`: the same all around the axis z.
        attenuation: What a ray loses per length [1/m]; a number, or a file (npz with one array, in the order of
            `cells`).
        emission: What a ray gains per length; a number or a file, as `attenuation`.
        clouds: Beside the cells, in a box of three axes: attenuation of a known form.
    """

    box: tuple[tuple[float, float], ...]
    cells: tuple[Count, ...]
    symmetry: Literal["none", "axis"] = "none"
    attenuation: Density = 0.0
    emission: Density = 0.0
    clouds: tuple[CloudSpec, ...] = ()

    def __post_init__(self) -> None:
        if self.clouds and len(self.box) != 3:
            raise ValueError(f"clouds: they need a box of three axes, got {len(self.box)}")
        axes = (2,) if self.symmetry == "axis" else (2, 3)
        if len(self.box) not in axes or len(self.box) != len(self.cells):
            raise ValueError(
                f"expected {' or '.join(map(str, axes))} axes in box and in cells, "
                f"got {len(self.box)} and {len(self.cells)}"
            )
        if any(not low < high for low, high in self.box):
            raise ValueError(f"box: expected [least, greatest] of each axis, got {[list(b) for b in self.box]}")
        if self.symmetry == "axis" and self.box[0][0] != 0.0:
            raise ValueError(f"box: the distance from the axis begins at 0, got {self.box[0][0]:g}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class VolumeWorld(AbstractWorld):
    """What light or X-rays go through.

    Attributes:
        volume: The field.
    """

    kind: ClassVar[str] = "volume"
    answers: ClassVar[frozenset[type[Ask]]] = frozenset((Rays,))
    volume: VolumeSpec

    def solve(
        self,
        asks: Sequence[Ask],
        *,
        gradient: bool = False,
        near: AbstractRun | None = None,
        device: str | None = None,
    ) -> "VolumeRun":
        """The field itself; nothing is to be solved."""
        return VolumeRun(self.volume, {name: self.field(name) for name in QUANTITIES})

    def field(self, name: str) -> "torch.Tensor":
        """A field in float64, in the shape of `cells`.

        Raises:
            SceneError: A file does not hold it.
        """
        import torch

        value = getattr(self.volume, name)
        if isinstance(value, Path):
            return _read_grid(value, tuple(self.volume.cells), f"volume.{name}")
        if isinstance(value, float) or value.ndim == 0:
            return torch.as_tensor(value, dtype=torch.float64).expand(tuple(self.volume.cells))
        return value.double()

    def traced(self) -> frozenset[str]:
        """The fields."""
        return frozenset(self.fields())

    def fields(self) -> Mapping[str, tuple[int, ...]]:
        """Attenuation and emission."""
        return {f"volume.{name}": tuple(self.volume.cells) for name in QUANTITIES}

    def extent(self, key: str) -> tuple[tuple[float, float], ...]:
        """The box."""
        return self.volume.box

    def figures(self, key: str, field: "torch.Tensor") -> "dict[str, torch.Tensor]":
        """The slice, or the middle one of the third axis, y up."""
        name = key if field.ndim == 2 else f"{key}, middle slice"
        return {f"{name} [1/m]": (field if field.ndim == 2 else field[..., field.shape[2] // 2]).T.flip(0)}

    def beside(self, key: str, field: "torch.Tensor", reference: Mapping[str, Any]) -> dict[str, float]:
        """Matthews' coefficient beside a picture of what is filled: { file, threshold }, the box with y up.

        It is told at this threshold and, for comparison, at the one that suits the reference best.

        Or, beside clouds, { clouds = [...] }: the root mean square over the cells of what differs, over the largest.
        """
        import torch

        from simengine.io.pictures import read_stills

        if "clouds" in reference:
            return self._beside_clouds(key, field, reference["clouds"])
        if reference.get("score", "matthews") != "matthews":
            raise SceneError(f"reference.{key}.score: {reference['score']!r} is none; known: matthews")
        if field.ndim != 2 or not {"file", "threshold"} <= set(reference):
            raise SceneError(f"reference.{key}: expected file and threshold (a cell above it is filled), of a slice")
        try:
            true = torch.from_numpy(read_stills([self.directory / reference["file"]]).values[0].mean(-1) > 0.5)
        except ValueError as error:
            raise SceneError(f"reference.{key}.file: {error}") from None
        image = field.T.flip(0)[None, None]
        fitted = torch.nn.functional.interpolate(image, size=tuple(true.shape), mode="bilinear", align_corners=False)
        scores = {"matthews": matthews(fitted[0, 0] > float(reference["threshold"]), true)}
        levels = torch.linspace(0.0, float(fitted.max()), THRESHOLDS + 1)[1:-1].tolist()
        best = max(levels, key=lambda level: matthews(fitted[0, 0] > level, true))
        return {**scores, "matthews, best threshold": matthews(fitted[0, 0] > best, true), "best threshold": best}

    def _beside_clouds(self, key: str, field: "torch.Tensor", told: Any) -> dict[str, float]:
        import torch

        if field.ndim != 3 or not isinstance(told, list):
            raise SceneError(f"reference.{key}.clouds: expected a list of clouds, of a box of three axes")

        def read(cloud: Any, k: int) -> CloudSpec:
            where = f"reference.{key}.clouds.{k}"
            made: CloudSpec = from_plain(CloudSpec, cloud, locate=lambda _: where, directory=self.directory, key=where)
            return made

        clouds = [read(cloud, k) for k, cloud in enumerate(told)]
        axes = [
            low + (high - low) * (torch.arange(n, dtype=torch.float64) + 0.5) / n
            for (low, high), n in zip(self.volume.box, self.volume.cells, strict=True)
        ]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        true = torch.stack([cloud.at(points) for cloud in clouds]).sum(0)
        return {"relative_rms": float((field - true).square().mean().sqrt() / true.max())}

    def sizes(self) -> Mapping[str, float]:
        """The box, and one over it."""
        size = max(high - low for low, high in self.volume.box)
        return {"m": size, "1/m": 1.0 / size}

    def scalars(self) -> Mapping[str, str]:
        """The fields."""
        return dict.fromkeys(QUANTITIES, "1/m")

    def build(self, *, device: str | None = None) -> Any:
        """The fields by name, tensors in the shape of `cells`."""
        return {name: self.field(name) for name in QUANTITIES}

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Write the fields."""
        found = self.build()
        out.write("states.npz", found)
        return {"cells": list(self.volume.cells), **{f"largest {n}": float(f.max()) for n, f in found.items()}}


@dataclasses.dataclass(frozen=True)
class VolumeRun(AbstractRun):
    """Fields on the grid of a volume."""

    spec: VolumeSpec
    fields: "Mapping[str, torch.Tensor]"

    def sample(self, ask: Ask) -> "torch.Tensor":
        """Integrals along rays, linear in the field."""
        from simengine.ops.light.line_integral import line_integrals

        if not isinstance(ask, Rays):
            raise SceneError(f"a volume does not answer {type(ask).__name__}")
        if ask.quantity not in self.fields:
            raise SceneError(f"{ask.quantity!r} is no field of a volume; {nearest(ask.quantity, self.fields)}")
        field = self.fields[ask.quantity]
        if self.spec.symmetry == "axis":
            return around_axis(field, self.spec.box, ask.origins, ask.directions)
        lower, upper = ([b[side] for b in self.spec.box] for side in (0, 1))
        if field.ndim == 2:  # a slice goes on along z for ever
            far = 1e6 * max(high - low for low, high in self.spec.box)
            lower, upper, field = [*lower, -far], [*upper, far], field[..., None]
        found = line_integrals(field.contiguous(), lower, upper, ask.origins, ask.directions)
        return found + self._through_clouds(ask) if ask.quantity == "attenuation" and self.spec.clouds else found

    def _through_clouds(self, ask: Rays) -> "torch.Tensor":
        import torch

        from simengine.render.volumes import intersect_box

        lower, upper = (torch.tensor([b[side] for b in self.spec.box]).to(ask.origins) for side in (0, 1))
        near, far = intersect_box(ask.origins, ask.directions, lower, upper)
        return torch.stack([c.along(ask.origins, ask.directions, near, far) for c in self.spec.clouds]).sum(0)


def matthews(found: "torch.Tensor", true: "torch.Tensor") -> float:
    """Correlation of two yes-or-no pictures (Matthews 1975), in [-1, 1]; 0 where one of them is even."""
    both, neither = float((found & true).sum()), float((~found & ~true).sum())
    extra, missed = float((found & ~true).sum()), float((~found & true).sum())
    below = (both + extra) * (both + missed) * (neither + extra) * (neither + missed)
    return (both * neither - extra * missed) / math.sqrt(below) if below else 0.0


def around_axis(
    field: "torch.Tensor",
    box: Sequence[tuple[float, float]],
    origins: "torch.Tensor",
    directions: "torch.Tensor",
) -> "torch.Tensor":
    """Integrals through rings (n_r, n_z) about the axis z, along lines across it: the Abel transform.

    Values are constant over a ring's breadth and linear between the middles of its heights.

    Args:
        field: Shape (n_r, n_z).
        box: Of distance and height [m].
        origins: (q, 3) [m].
        directions: Unit vectors (q, 3), perpendicular to z.

    Raises:
        SceneError: A line is not perpendicular to the axis.
    """
    import torch

    if float(directions[:, 2].abs().max()) > 1e-9:
        raise SceneError("volume.symmetry: lines through a volume about an axis have to run across it")
    nr, nz = field.shape
    distance = (origins[:, 0] * directions[:, 1] - origins[:, 1] * directions[:, 0]).abs()
    # lines of one distance share a row; those of a detector differ in the last bits only
    unit = 1e-9 * box[0][1]
    keys, row = (distance / unit).round().unique(return_inverse=True)
    radii = torch.linspace(0.0, box[0][1], nr + 1, dtype=torch.float64)
    half = (radii.square() - (keys * unit)[:, None].square()).clamp_min(0).sqrt()
    chords = (2 * half.diff(dim=1)).to(field.dtype)
    seen = chords @ field
    low, high = box[1]
    height = ((origins[:, 2] - low) / (high - low) * nz - 0.5).clamp(0, nz - 1)
    below = height.floor().long().clamp_max(max(nz - 2, 0))
    share = (height - below).to(field.dtype)
    above = (below + 1).clamp_max(nz - 1)
    inside = (origins[:, 2] >= low) & (origins[:, 2] <= high)
    return ((1 - share) * seen[row, below] + share * seen[row, above]) * inside


def _read_grid(path: Path, shape: tuple[int, ...], key: str) -> "torch.Tensor":
    import numpy as np
    import torch

    from simengine.io.arrays import read_npz

    try:
        if path.suffix.lower() == ".npy":
            arrays = [np.load(path, allow_pickle=False)]
        else:
            arrays = list(read_npz(path).values())
    except (OSError, ValueError, EOFError) as error:
        raise SceneError(f"{key}: {error}") from None
    fitting = [array for array in arrays if array.shape == shape and array.dtype.kind in "fiub"]
    if len(fitting) != 1:
        raise SceneError(f"{key}: {path.name} holds {[a.shape for a in arrays]}, and one array {shape} is wanted")
    return torch.from_numpy(np.asarray(fitting[0], dtype=np.float64).copy())
