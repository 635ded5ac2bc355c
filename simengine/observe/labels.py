"""Boxes that people drew on pictures: a table, COCO's json or YOLO's text files, beside a folder of pictures."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simengine.dtn.coco import Objects
from simengine.dtn.turned.boxes import turned_of
from simengine.io.annotations import Annotations, read_coco, read_yolo
from simengine.io.pictures import STILLS, picture_size
from simengine.io.tables import RawTable, file_hash, read_table
from simengine.observe.columns import ColumnSpec, column_of, find_header, take

BOX = 4


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class DrawnBoxes:
    """Boxes by picture, in the order of the file.

    Attributes:
        pictures: The pictures, each once.
        picture: Number of the picture of each box, (n,).
        boxes: Corners (left, top, right, bottom) [px], (n, 4).
        classes: Of each box.
        crowd: Which stand for many objects, bool (n,).
        numbers: Further columns by name, (n,), SI.
        files: Name -> SHA-256.
        turned: Middle, sides and angle, as `simengine.dtn.turned.boxes`, about which `boxes` are upright, (n, 5); None
            where upright ones were drawn.
    """

    pictures: tuple[Path, ...]
    picture: np.ndarray
    boxes: np.ndarray
    classes: tuple[str, ...]
    crowd: np.ndarray
    numbers: Mapping[str, np.ndarray]
    files: Mapping[str, str]
    turned: np.ndarray | None = None

    def only(self, chosen: Sequence[int]) -> "DrawnBoxes":
        """The boxes of some of the pictures."""
        place = {number: k for k, number in enumerate(chosen)}
        own = np.array([k for k, number in enumerate(self.picture) if int(number) in place], dtype=np.int64)
        return dataclasses.replace(
            self,
            pictures=tuple(self.pictures[number] for number in chosen),
            picture=np.array([place[int(self.picture[k])] for k in own], dtype=self.picture.dtype),
            boxes=self.boxes[own],
            turned=None if self.turned is None else self.turned[own],
            classes=tuple(self.classes[k] for k in own),
            crowd=self.crowd[own],
            numbers={name: values[own] for name, values in self.numbers.items()},
        )

    def objects(
        self, names: Sequence[str], ignored: np.ndarray, regions: Sequence[Sequence[float]], *, turned: bool = False
    ) -> tuple[Objects, ...]:
        """What each picture shows, classes numbered by `names`; `regions` are crowds of every class.

        Args:
            names: Of the classes.
            ignored: Which boxes are neither hit nor miss, bool (n,).
            regions: Upright boxes [px].
            turned: Whether the boxes are the turned ones.
        """
        found = []
        zone = np.array(regions, dtype=np.float64).reshape(-1, BOX)
        boxes = self.boxes
        if turned:
            assert self.turned is not None
            boxes, side = self.turned, zone[:, 2:] - zone[:, :2]
            zone = np.concatenate([zone[:, :2] + side / 2, side, np.zeros((len(zone), 1))], 1)
        for k in range(len(self.pictures)):
            own = np.flatnonzero(self.picture == k)
            labels = [names.index(self.classes[i]) for i in own]
            more = np.tile(zone, (len(names), 1))
            found.append(
                Objects(
                    boxes=np.concatenate([boxes[own], more]),
                    labels=np.array([*labels, *np.repeat(np.arange(len(names)), len(zone))], dtype=np.int64),
                    crowd=np.concatenate([self.crowd[own], np.ones(len(more), dtype=bool)]),
                    ignore=np.concatenate([ignored[own], np.zeros(len(more), dtype=bool)]),
                )
            )
        return tuple(found)


def find_pictures(pattern: str, directory: Path) -> tuple[Path, ...]:
    """The pictures of a file, a folder or a name with a star, sorted.

    Raises:
        ValueError: There is none.
    """
    path = directory / Path(pattern).expanduser()
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in STILLS]
    elif "*" in pattern:
        found = [p for p in directory.glob(pattern) if p.suffix.lower() in STILLS]
    else:
        found = [path] if path.is_file() else []
    if not found:
        raise ValueError(f"{pattern}: no picture ({', '.join(STILLS)}) is there")
    return tuple(sorted(found))


def read_boxes(
    path: Path,
    pictures: Sequence[Path],
    *,
    columns: Mapping[str, ColumnSpec | tuple[str, ...]],
    label: str,
    classes: Mapping[str, str],
    key: str,
) -> DrawnBoxes:
    """Read drawn boxes.

    Args:
        path: A table, COCO's .json, or a folder of YOLO's .txt.
        pictures: The pictures at hand; those that no box names show nothing.
        columns: Of a table: `box` (four), and `image`, `class` and any number by name.
        label: Class of every box, where the file names none.
        classes: Name or number in the file -> class.
        key: Of the observation, for messages.

    Raises:
        ValueError: In one line.
    """
    by_name = {picture.name: k for k, picture in enumerate(pictures)}
    if path.is_dir():
        stems = {picture.stem: picture_size(picture) for picture in pictures}
        return _annotated(read_yolo(path, stems), path, pictures, label, classes)
    if path.suffix.lower() == ".json":
        return _annotated(read_coco(path), path, pictures, label, classes)
    raw = read_table(path)
    box = columns.get("box")
    if not isinstance(box, tuple) or len(box) != BOX:
        raise ValueError(f'{key}.columns.box: name four columns, as in box = ["left [px]", "top [px]", ...]')
    corners = np.stack([take(raw, column, key=f"{key}.columns.box")[0].numpy() for column in box], 1)
    bad = ~np.isfinite(corners).all(1) | (corners[:, 2:] <= corners[:, :2]).any(1)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"{key}: {path.name}: row {row}: {corners[row].tolist()} are no corners left < right, top < bottom"
        )
    if "image" in columns:
        cells = _words(raw, columns["image"])
        missing = [cell for cell in cells if cell not in by_name]
        if missing:
            raise ValueError(f"{key}: {path.name} names the picture {missing[0]!r}, which is not among the pictures")
        picture = np.array([by_name[cell] for cell in cells], dtype=np.int64)
    elif len(pictures) == 1:
        picture = np.zeros(len(raw), dtype=np.int64)
    else:
        raise ValueError(f'{key}.columns: with {len(pictures)} pictures name the column of theirs: image = "..."')
    words = _words(raw, columns["class"]) if "class" in columns else [label] * len(raw)
    numbers: dict[str, np.ndarray] = {}
    for name, spec in columns.items():
        if name in ("box", "image", "class"):
            continue
        many = spec if isinstance(spec, tuple) else (spec,)
        for index, one in enumerate(many):
            full = f"{name}.{index}" if isinstance(spec, tuple) else name
            numbers[full] = take(raw, one, key=f"{key}.columns.{name}")[0].numpy()
    return DrawnBoxes(
        pictures=tuple(pictures),
        picture=picture,
        boxes=corners,
        classes=tuple(_class(word, classes, label) for word in words),
        crowd=np.zeros(len(raw), dtype=bool),
        numbers=numbers,
        files={path.name: raw.sha256},
    )


def _words(raw: RawTable, spec: Any) -> list[str]:
    header = find_header(raw, column_of(spec).column)[0]
    cells = raw.columns[header]
    return [f"{cell:g}" if cells.dtype.kind == "f" else str(cell) for cell in cells]


def _class(word: str, classes: Mapping[str, str], label: str) -> str:
    return classes.get(word, word) or label or "object"


def _annotated(
    a: Annotations, path: Path, pictures: Sequence[Path], label: str, classes: Mapping[str, str]
) -> DrawnBoxes:
    """From annotations; their pictures are found by name, with or without folder or suffix."""
    by_name = {picture.name: picture for picture in pictures} | {picture.stem: picture for picture in pictures}
    files = []
    for name in a.names:
        picture = by_name.get(Path(name).name) or by_name.get(Path(name).stem)
        if picture is None:
            raise ValueError(f"{path.name} names the picture {name!r}, which is not among the pictures")
        files.append(picture)
    names = {int(k): a.classes.get(int(k)) or str(int(k)) for k in a.labels}
    texts = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    turned = None if a.corners is None else turned_of(torch.from_numpy(np.asarray(a.corners, dtype=np.float64))).numpy()
    return DrawnBoxes(
        turned=turned,
        pictures=tuple(files),
        picture=a.picture,
        boxes=a.boxes,
        classes=tuple(
            _class(
                classes.get(str(int(k)), label if label and names[int(k)].isdigit() else names[int(k)]), classes, label
            )
            for k in a.labels
        ),
        crowd=a.crowd,
        numbers={},
        files={file.name: file_hash(file) for file in texts},
    )
