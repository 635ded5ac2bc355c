"""Boxes of pictures in files: COCO's JSON, annotations or results, and YOLO's text files; plain arrays in and out."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIDES = ("height", "width")
ORIENTED = 9  # numbers in a line of an oriented box: class and four corners


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Annotations:
    """Boxes of a set of pictures, true or found.

    Attributes:
        names: File name of each picture, n of them.
        sizes: Height and width of each [pixels], shape (n, 2); 0 where it is not known.
        picture: Index of the picture of each box, shape (k,).
        boxes: Corners (x0, y0, x1, y1) [pixels], shape (k, 4).
        labels: Class of each as the file numbers them, shape (k,).
        scores: Of found ones, shape (k,); None for true ones.
        area: [pixels squared], shape (k,); that of the box where a file gives none.
        crowd: Which stand for a crowd, shape (k,).
        classes: Label -> name, as far as the file names them.
        ids: Number of each picture in COCO's file, shape (n,).
        corners: Of oriented boxes, in order [pixels], shape (k, 4, 2), about which `boxes` are upright; None where a
            file has upright ones.
    """

    names: Sequence[str]
    sizes: np.ndarray
    picture: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    area: np.ndarray
    crowd: np.ndarray
    classes: Mapping[int, str]
    ids: np.ndarray
    corners: np.ndarray | None = None

    def of(self, picture: int) -> np.ndarray:
        """Indices of the boxes of a picture."""
        return np.flatnonzero(self.picture == picture)


def read_coco(path: str | Path, *, results: str | Path | None = None) -> Annotations:
    """Read COCO's JSON of annotations; or the results of a detector, a list of boxes with scores, beside it.

    Args:
        path: The annotations, which hold images, categories and, unless results are read, annotations.
        results: A list of {image_id, category_id, bbox, score}.

    Raises:
        ValueError: A file is missing or damaged, or an entry lacks a key, has a wrong value or names no picture.
    """
    path = Path(path)
    data = _json(path)
    images = _entries(path, data, "images")
    ids = [_get(path, f"images[{k}]", image, "id", int) for k, image in enumerate(images)]
    place = {number: k for k, number in enumerate(ids)}
    if len(place) < len(ids):
        raise ValueError(f"{path}: images: an id is given twice; expected one for each picture")
    names = [str(image.get("file_name", number)) for number, image in zip(ids, images, strict=True)]
    sizes = [
        [_get(path, f"images[{k}]", image, side, float) if image.get(side) is not None else 0.0 for side in SIDES]
        for k, image in enumerate(images)
    ]
    categories = _entries(path, data, "categories") if "categories" in data else []
    classes = {_get(path, f"categories[{k}]", c, "id", int): str(c.get("name", "")) for k, c in enumerate(categories)}
    where = path if results is None else Path(results)
    found = _entries(path, data, "annotations") if results is None else _json(where, list)
    rows: list[tuple[Any, ...]] = []
    for k, entry in enumerate(found):
        name = f"annotations[{k}]" if results is None else f"[{k}]"
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: {name}: expected a table with image_id, category_id and bbox")
        number = _get(where, name, entry, "image_id", int)
        if number not in place:
            raise ValueError(f"{where}: {name}.image_id: no picture has the number {number}")
        x, y, w, h = _box(where, name, entry.get("bbox"))
        label = _get(where, name, entry, "category_id", int)
        if classes and label not in classes:
            raise ValueError(f"{where}: {name}.category_id: no class has the number {label}")
        score = 0.0 if results is None else _get(where, name, entry, "score", float)
        area = _get(where, name, entry, "area", float) if "area" in entry else w * h
        rows.append((place[number], (x, y, x + w, y + h), label, score, area, bool(entry.get("iscrowd", 0))))
    return _packed(names, sizes, rows, classes, ids, scored=results is not None)


def write_coco(path: str | Path, annotations: Annotations) -> Path:
    """Write COCO's JSON: annotations, or where there are scores the list of results of the same pictures.

    Returns:
        The file.
    """
    a = annotations
    boxes = np.concatenate([a.boxes[:, :2], a.boxes[:, 2:] - a.boxes[:, :2]], 1).tolist()
    entries: list[dict[str, Any]] = []
    for k, box in enumerate(boxes):
        entry = {"image_id": int(a.ids[a.picture[k]]), "category_id": int(a.labels[k]), "bbox": box}
        if a.scores is None:
            entry |= {"id": k + 1, "area": float(a.area[k]), "iscrowd": int(a.crowd[k])}
        else:
            entry |= {"score": float(a.scores[k])}
        entries.append(entry)
    images = [
        {"id": int(number), "file_name": name, "height": int(h), "width": int(w)}
        for number, name, (h, w) in zip(a.ids, a.names, a.sizes, strict=True)
    ]
    names = {int(label): str(label) for label in np.unique(a.labels)} | dict(a.classes)
    categories = [{"id": label, "name": name} for label, name in sorted(names.items())]
    whole = {"images": images, "annotations": entries, "categories": categories}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole if a.scores is None else entries) + "\n", encoding="utf-8")
    return path


def read_yolo(folder: str | Path, sizes: Mapping[str, tuple[int, int]], *, classes: Sequence[str] = ()) -> Annotations:
    """Read YOLO's text files: a line `class x y width height [score]` for each box, shares of the picture, its middle.

    Lines of oriented boxes are `class x1 y1 x2 y2 x3 y3 x4 y4 [score]`: four corners in order.

    Args:
        folder: Holds `<name>.txt` for each picture; a picture without a file shows nothing.
        sizes: Name of each picture without its suffix -> height and width [pixels].
        classes: Names of the classes, numbered from 0.

    Raises:
        ValueError: A line has not five or six numbers, or nine or ten; one lies outside [0, 1]; or lines of a folder
            have not one form.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    rows: list[tuple[Any, ...]] = []
    columns: set[int] = set()
    quadrilaterals: list[np.ndarray] = []
    for picture, (name, (height, width)) in enumerate(sizes.items()):
        path = folder / f"{name}.txt"
        lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            values = _numbers(path, number, line)
            columns.add(len(values))
            label = values[0]
            if classes and not label < len(classes):
                raise ValueError(f"{path}: line {number}: class {label:g}, but only {len(classes)} classes are named")
            if len(values) >= ORIENTED:
                corner = np.array(values[1:ORIENTED]).reshape(4, 2) * [width, height]
                quadrilaterals.append(corner)
                after = np.roll(corner, -1, 0)
                area = 0.5 * abs(float((corner[:, 0] * after[:, 1] - corner[:, 1] * after[:, 0]).sum()))
                score = values[ORIENTED] if len(values) > ORIENTED else 0.0
                rows.append((picture, (*corner.min(0), *corner.max(0)), int(label), score, area, False))
                continue
            x, y, w, h = values[1:5]
            corners = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            score = values[5] if len(values) == 6 else 0.0
            rows.append((picture, corners, int(label), score, w * h * width * height, False))
    if len(columns) > 1:
        if min(columns) < ORIENTED <= max(columns):
            raise ValueError(f"{folder}: some lines have four corners and others an upright box; give two folders")
        raise ValueError(f"{folder}: some lines have a score and others have none")
    numbers = list(range(1, len(sizes) + 1))
    size = [list(map(float, value)) for value in sizes.values()]
    scored = columns <= {6, ORIENTED + 1} and bool(columns)
    packed = _packed(list(sizes), size, rows, dict(enumerate(classes)), numbers, scored=scored)
    return dataclasses.replace(packed, corners=np.stack(quadrilaterals)) if quadrilaterals else packed


def write_yolo(folder: str | Path, annotations: Annotations) -> Path:
    """Write a text file for each picture, an empty one where it shows nothing; four corners of oriented boxes.

    Returns:
        The folder.

    Raises:
        ValueError: The size of a picture is not known.
    """
    folder, a = Path(folder), annotations
    folder.mkdir(parents=True, exist_ok=True)
    for picture, name in enumerate(a.names):
        h, w = a.sizes[picture]
        if not (h > 0 and w > 0):
            raise ValueError(f"{name}: expected the size of the picture, got {h:g} x {w:g}; YOLO writes shares of it")
        lines = []
        for k in a.of(picture):
            x0, y0, x1, y1 = a.boxes[k] / [w, h, w, h]
            values = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
            if a.corners is not None:
                values = (a.corners[k] / [w, h]).ravel().tolist()
            values += [] if a.scores is None else [float(a.scores[k])]
            lines.append(" ".join([str(int(a.labels[k])), *(f"{value:.9g}" for value in values)]) + "\n")
        (folder / f"{Path(name).stem}.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def _packed(
    names: Sequence[str],
    sizes: Sequence[Sequence[float]],
    rows: Sequence[tuple[Any, ...]],
    classes: Mapping[int, str],
    ids: Sequence[int],
    *,
    scored: bool,
) -> Annotations:
    picture, boxes, labels, scores, area, crowd = zip(*rows, strict=True) if rows else [()] * 6
    return Annotations(
        names=names,
        sizes=np.array(sizes, dtype=np.float64).reshape(-1, 2),
        picture=np.array(picture, dtype=np.int64),
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        labels=np.array(labels, dtype=np.int64),
        scores=np.array(scores, dtype=np.float64) if scored else None,
        area=np.array(area, dtype=np.float64),
        crowd=np.array(crowd, dtype=bool),
        classes=classes,
        ids=np.array(ids, dtype=np.int64),
    )


def _json(path: Path, kind: type = dict) -> Any:
    if path.exists() and not path.is_file():  # a folder, or a pipe that nobody writes to
        raise ValueError(f"{path}: not a regular file")
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(data, kind):
        expected = "a table with images, annotations and categories" if kind is dict else "a list of results"
        raise ValueError(f"{path}: expected {expected}, got {type(data).__name__}")
    return data


def _entries(path: Path, data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = data.get(key)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"{path}: {key}: expected a list of tables; is this a file of COCO's annotations?")
    return value


def _get(path: Path, name: str, entry: Mapping[str, Any], key: str, kind: type) -> Any:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{path}: {name}.{key}: expected a number, got {value!r:.40}")
    if kind is int and value != int(value):
        raise ValueError(f"{path}: {name}.{key}: expected a whole number, got {value!r:.40}")
    return kind(value)


def _box(path: Path, name: str, box: Any) -> tuple[float, float, float, float]:
    right = isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) and math.isfinite(v) for v in box)
    if not right or box[2] < 0 or box[3] < 0:
        raise ValueError(f"{path}: {name}.bbox: expected [x, y, width, height] in pixels, got {box!r:.60}")
    x, y, w, h = map(float, box)
    return x, y, w, h


def _numbers(path: Path, number: int, line: str) -> list[float]:
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    if len(values) not in (5, 6, ORIENTED, ORIENTED + 1) or not (0 <= values[0] < 1e9 and values[0] == int(values[0])):
        raise ValueError(
            f"{path}: line {number}: expected `class x y width height [score]` or four corners, got "
            f"{line.strip()!r:.60}"
        )
    if not all(-1e-6 <= value <= 1 + 1e-6 for value in values[1:]):
        raise ValueError(f"{path}: line {number}: expected shares of the picture in [0, 1], got {line.strip()!r:.60}")
    return values
