"""Pictures that anybody's renderer made of an object in several paints: one table names them all."""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch

from simengine.dtn.network import Reference
from simengine.io.pictures import read_rgb, read_stills
from simengine.io.tables import RawTable, read_table
from simengine.observe.columns import find_header
from simengine.render.tone import ToneCurve, decode_srgb, encode_srgb
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.strict import Positive, Range, without_effect

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.worlds.detectors.world import CamouflageSpec

COLOUR = ("red", "green", "blue")
UNSEEN_EVERY = 5  # views of a table that does not say which are unseen
MOST = 1 << 30  # numbers of all pictures


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RenderSet:
    """Views of an object in a reference paint, and pictures of them in other paints.

    Attributes:
        names: Of the n views.
        unseen: Which are kept for the test, bool (n,).
        reference: Encoded pictures in the reference paint, (n, 3, h, w).
        mask: Share covered by paint, (n, 1, h, w).
        object: Share covered by the whole object, (n, 1, h, w).
        uv: Texture coordinates, row 0 of a texture at v = 0, (n, 2, h, w); None where the table names none.
        view: View of each of the m pictures, (m,).
        paints: Linear albedo of each, (3, 1, 1) or by pixel (3, h, w).
        expected: The pictures, encoded, (m, 3, h, w).
        empty: Pictures without the object, encoded, (k, 3, h, w).
    """

    names: tuple[str, ...]
    unseen: torch.Tensor
    reference: torch.Tensor
    mask: torch.Tensor
    object: torch.Tensor
    uv: torch.Tensor | None
    view: torch.Tensor
    paints: tuple[torch.Tensor, ...]
    expected: torch.Tensor
    empty: torch.Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width [pixels]."""
        return self.reference.shape[2], self.reference.shape[3]

    def pictures(self, *, unseen: bool) -> torch.Tensor:
        """Places of the pictures of the views to train on, or of the unseen ones."""
        return (self.unseen[self.view] == unseen).nonzero().flatten()

    def greys(self) -> dict[float, list[int]]:
        """By grey paint, the place of a picture of each view in it; greys that a view lacks are left out."""
        found: dict[float, dict[int, int]] = {}
        for place, (view, paint) in enumerate(zip(self.view.tolist(), self.paints, strict=True)):
            if paint.numel() == 3 and bool((paint == paint[0]).all()):
                found.setdefault(float(paint[0]), {}).setdefault(view, place)
        every = range(len(self.names))
        return {grey: [of[k] for k in every] for grey, of in sorted(found.items()) if len(of) == len(self.names)}

    def paint(self, index: torch.Tensor) -> torch.Tensor:
        """Paints of some of the pictures, (b, 3, h, w)."""
        h, w = self.size
        return torch.stack([self.paints[k].expand(3, h, w) for k in index.tolist()])


@dataclasses.dataclass(frozen=True, kw_only=True)
class RendersWorld(AbstractWorld):
    """An object as somebody else's renderer, or camera, shows it.

    Attributes:
        table: A csv with a row for each picture, files beside it: `view` (a name), `reference` (the view in a grey
            paint), `mask` (white where the paint is), `expected` (the same view in another paint) and that paint:
            `red`, `green`, `blue` (linear albedo) or `paint` (a picture of what albedo each pixel sees, in sRGB).
            Optional: `object` (mask of all of the object), `uv` (u and v in the first two channels), `set` (`train` or
            `test`). A row without a mask is a picture without the object.
        grey: Linear albedo of the paint in the references [1].
        shoulder: Of the tone curve of the pictures, before sRGB: `"none"` cuts at 1; see `ToneCurve`.
        exposure: Of that curve [1].
        network: The run that trained a network on such pictures, for `simengine optimise`.
        greys: Whether pictures follow from those of the table in grey paint in place of a network: the reference, and
            one `expected` picture of each view at least whose red, green and blue are one number. No tone curve has to
            be told.
    """

    kind: ClassVar[str] = "renders"
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    fit_devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    table: Path
    grey: Annotated[float, Range(gt=0, le=1)] = 0.5
    shoulder: Literal["none", "soft", "aces"] = "none"
    exposure: Positive = 1.0
    network: Path | None = None
    greys: bool = False

    def __post_init__(self) -> None:
        if self.greys:
            without_effect(self, "network", where="greys = true")

    @property
    def tone(self) -> ToneCurve:
        """From radiance to the pictures."""
        return ToneCurve(exposure=self.exposure, shoulder=self.shoulder)

    @cached_property
    def pictures(self) -> RenderSet:
        """All that the table names.

        Raises:
            SceneError: A file is missing or does not fit the others; the message names the row.
        """
        try:
            return read_renders(self.table)
        except ValueError as error:
            raise SceneError(f"table: {error}") from None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the pictures [pixels]."""
        return self.pictures.size

    @property
    def label_names(self) -> tuple[str, ...]:
        """The class of the object: there is one."""
        return ("object",)

    def reference(self, index: torch.Tensor | slice = slice(None)) -> Reference:
        """References of some of the views, which a network reads."""
        own = self.pictures
        return Reference(picture=own.reference[index], object=own.mask[index], grey=self.grey, tone=self.tone)

    def build(self, *, device: str | None = None) -> RenderSet:
        """The pictures, in main memory whatever the device."""
        return self.pictures

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """What the table holds."""
        own = self.build(device=device)
        return {
            "views": len(own.names),
            "unseen_views": int(own.unseen.sum()),
            "pictures": len(own.view),
            "without_object": len(own.empty),
            "size": list(own.size),
            "paint_share_of_picture": float(own.mask.mean()),
            "uv": own.uv is not None,
        }

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Nothing to render.

        Raises:
            SceneError: Always, with the verbs that do something.
        """
        raise SceneError("a world of given pictures has nothing to run; use `simengine train`, `optimise` or `predict`")

    def check_objective(self, spec: "CamouflageSpec") -> None:
        """Refuse what given pictures cannot do.

        Raises:
            SceneError: In one line, with key and remedy.
        """
        if spec.mapping != "uv":
            raise SceneError(f'objective.mapping: {spec.mapping!r} needs positions, which pictures lack; use "uv"')
        if spec.pipeline != "affine":
            raise SceneError("objective.pipeline: the pictures are those of `network` already; leave pipeline out")

    def told(self) -> list[tuple[str, Any]]:
        """What the report says of the views."""
        own = self.pictures
        seen = len(own.names) - int(own.unseen.sum())
        return [
            ("table", self.table.name),
            ("pictures", f"{own.size[1]} x {own.size[0]} px, {seen} views to train, {int(own.unseen.sum())} unseen"),
        ]

    def empty(self, share: float, *, unseen: bool) -> torch.Tensor:
        """Pictures without the object, encoded, (k, 3, h, w): at most `share` of the views with it.

        The last fifth of the table's is kept for the test.
        """
        own = self.pictures
        first = len(own.empty) - len(own.empty) // UNSEEN_EVERY
        pictures = own.empty[first:] if unseen else own.empty[:first]
        return pictures[: round(share * int((own.unseen == unseen).sum()))]


def read_renders(file: Path) -> RenderSet:
    """Read a table of pictures; see `RendersWorld.table`.

    Raises:
        ValueError: A column, a file or a number is missing or wrong; one line with the row.
    """
    return _Reader(read_table(file)).all()


class _Reader:
    """Goes through the rows of a table; each picture is read once."""

    def __init__(self, raw: RawTable) -> None:
        self.raw: RawTable = raw
        self.read: dict[tuple[str, str], torch.Tensor] = {}
        self.size: tuple[str, tuple[int, int]] | None = None
        self.numbers: int = 0
        for name in ("view", "reference"):
            find_header(raw, name)

    def text(self, name: str, row: int) -> str:
        """A cell; empty where there is no such column."""
        if name not in self.raw.columns:
            return ""
        cell = self.raw.columns[name][row]
        if self.raw.columns[name].dtype.kind == "f":
            return "" if np.isnan(cell) else f"{cell:g}"
        return str(cell).strip()

    def picture(self, name: str, row: int, take: Callable[[Path], torch.Tensor]) -> torch.Tensor:
        """The picture that a cell names, channels first."""
        cell = self.text(name, row)
        if (name, cell) in self.read:
            return self.read[name, cell]
        try:
            found = take(self.raw.file.parent / cell)
        except ValueError as error:
            raise ValueError(f"{self.raw.file.name}: row {row + 1}: {name}: {error}") from None
        size = (found.shape[1], found.shape[2])
        self.size = self.size or (cell, size)
        if size != self.size[1]:
            (first, (h, w)) = self.size
            raise ValueError(
                f"{self.raw.file.name}: row {row + 1}: {name}: {cell} has {size[1]} x {size[0]} pixels, and {first} "
                f"{w} x {h}; all pictures of a table have one size"
            )
        self.numbers += found.numel()
        if self.numbers > MOST:
            raise ValueError(f"{self.raw.file.name}: its pictures hold more than {MOST} numbers; make them smaller")
        self.read[name, cell] = found
        return found

    def paint(self, row: int) -> torch.Tensor:
        """The paint of a row, linear albedo."""
        colour = [self.text(name, row) for name in COLOUR]
        where = f"{self.raw.file.name}: row {row + 1}"
        if self.text("paint", row):
            if any(colour):
                raise ValueError(f"{where}: paint, and red, green and blue; leave out one of them")
            return self.picture("paint", row, lambda path: decode_srgb(_encoded(path)))
        try:
            values = torch.tensor([float(value) for value in colour])
        except ValueError:
            raise ValueError(
                f"{where}: red, green, blue: expected three numbers, got {', '.join(map(repr, colour))}; or name a "
                "picture of the paint in the column paint"
            ) from None
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise ValueError(f"{where}: red, green, blue: expected linear albedos in [0, 1], got {values.tolist()}")
        return values[:, None, None]

    def all(self) -> RenderSet:
        """The set."""
        names: dict[str, int] = {}
        first: list[int] = []
        pictures: list[int] = []
        view: list[int] = []
        empty: list[int] = []
        for row in range(len(self.raw)):
            if not self.text("mask", row):
                empty.append(row)
                continue
            name = self.text("view", row)
            place = names.setdefault(name, len(names))
            if place == len(first):
                first.append(row)
            for column in ("reference", "mask", "object", "uv", "set"):
                if self.text(column, row) != self.text(column, first[place]):
                    raise ValueError(
                        f"{self.raw.file.name}: row {row + 1}: {column}: {self.text(column, row)!r}, and row "
                        f"{first[place] + 1} of the same view says {self.text(column, first[place])!r}"
                    )
            if self.text("expected", row):
                pictures.append(row)
                view.append(place)
        if not first:
            raise ValueError(f"{self.raw.file.name}: no row has a mask, so that nothing shows the object")
        masks = torch.stack([self._mask("mask", row) for row in first])
        whole = "object" in self.raw.columns and all(self.text("object", row) for row in first)
        objects = torch.stack([self._mask("object", row) for row in first]) if whole else masks
        uvs = [bool(self.text("uv", row)) for row in first]
        if any(uvs) and not all(uvs):
            raise ValueError(
                f"{self.raw.file.name}: row {first[uvs.index(False)] + 1}: uv: expected a file, as in others"
            )
        h, w = masks.shape[2:]
        return RenderSet(
            names=tuple(names),
            unseen=self._unseen(first),
            reference=torch.stack([self.picture("reference", row, _encoded) for row in first]),
            mask=masks,
            object=torch.maximum(objects, masks),
            uv=torch.stack([self.picture("uv", row, _coordinates) for row in first]) if all(uvs) else None,
            view=torch.tensor(view, dtype=torch.long),
            paints=tuple(self.paint(row) for row in pictures),
            expected=_stack([self.picture("expected", row, _encoded) for row in pictures], h, w),
            empty=_stack([self.picture("reference", row, _encoded) for row in empty], h, w),
        )

    def _mask(self, name: str, row: int) -> torch.Tensor:
        mask = self.picture(name, row, _share)
        if not bool((mask >= 0.5).any()):
            raise ValueError(
                f"{self.raw.file.name}: row {row + 1}: {name}: {self.text(name, row)} is black all over; leave it out"
            )
        return mask

    def _unseen(self, first: list[int]) -> torch.Tensor:
        words = [self.text("set", row) for row in first]
        if not any(words):
            return torch.arange(len(first)) % UNSEEN_EVERY == UNSEEN_EVERY - 1
        for word, row in zip(words, first, strict=True):
            if word not in ("train", "test"):
                raise ValueError(f"{self.raw.file.name}: row {row + 1}: set: expected train or test, got {word!r}")
        return torch.tensor([word == "test" for word in words])


def _stack(pictures: list[torch.Tensor], h: int, w: int) -> torch.Tensor:
    return torch.stack(pictures) if pictures else torch.zeros(0, 3, h, w)


def _encoded(path: Path) -> torch.Tensor:
    return encode_srgb(torch.from_numpy(read_rgb(path)).clamp(0, 1)).permute(2, 0, 1).contiguous()


def _values(path: Path) -> torch.Tensor:
    """Numbers as they stand in the file, (c, h, w)."""
    return torch.from_numpy(read_stills([path]).values[0]).float().permute(2, 0, 1).contiguous()


def _share(path: Path) -> torch.Tensor:
    return _values(path)[:1].clamp(0, 1)


def _coordinates(path: Path) -> torch.Tensor:
    values = _values(path)
    if len(values) < 2 or not bool(torch.isfinite(values[:2]).all()):
        raise ValueError(
            f"{path.name}: expected finite u and v in its first two channels, got {len(values)} channel(s)"
        )
    return values[:2]
