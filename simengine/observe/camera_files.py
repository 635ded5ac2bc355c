"""Files of cameras, one entry for each picture: nerfstudio, COLMAP, and json of K, R, t."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from simengine.scene.strict import nearest
from simengine.shown import shown
from simengine.text import read_text

MAX_BYTES = 64 << 20
Lens = Literal["pinhole", "brown_conrady", "fisheye"]
Row = tuple[float, float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture's camera, OpenCV axes, the corner of the picture at (0, 0).

    Attributes:
        name: Of the picture; "" for a camera of all.
        intrinsics: fx, fy, cx, cy [px].
        rotation: World to camera.
        translation: The world's origin in the camera's coordinates.
        width: Of the picture [px], where the file says it.
        height: Of the picture [px].
        lens: As of a camera.
        distortion: Its coefficients.
    """

    name: str
    intrinsics: tuple[float, float, float, float]
    rotation: tuple[Row, Row, Row]
    translation: Row
    width: int | None = None
    height: int | None = None
    lens: Lens = "pinhole"
    distortion: tuple[float, ...] = ()


def read_shots(path: Path) -> list[Shot]:
    """Read a file of cameras.

    Raises:
        ValueError: The file is missing or none of those known.
    """
    if not path.exists():
        raise ValueError(f"{path.name}: no such file in {path.parent}")
    try:
        if path.is_dir() or path.name == "images.txt":
            return _colmap(path if path.is_dir() else path.parent)
        if not path.is_file():  # a pipe that nobody writes to
            raise ValueError(f"{path.name}: not a regular file")
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path.name}: larger than {MAX_BYTES} bytes")
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        if isinstance(data, Mapping) and "frames" in data:
            return _nerfstudio(data)
        if isinstance(data, Mapping) and data:
            return _krt(data)
    except (KeyError, TypeError, IndexError, OverflowError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path.name}: not a file of cameras ({type(error).__name__}: {error})") from None
    except OSError as error:
        raise ValueError(f"{path.name}: {error.strerror}") from None
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(path.name) else f"{path.name}: {text}") from None
    raise ValueError(f"{path.name}: expected nerfstudio's frames, or {{picture: {{K, R, t}}}}")


def pick(shots: Sequence[Shot], names: Sequence[str], file: str) -> list[Shot]:
    """The entry of each picture: by name where the names are known, else by order.

    Raises:
        ValueError: A picture has no entry.
    """
    if len(shots) == 1 and not shots[0].name:
        return [shots[0]] * len(names)
    known = {Path(shot.name).name: shot for shot in shots}
    stems = {Path(shot.name).stem: shot for shot in shots}
    found = [known.get(name) or stems.get(Path(name).stem) for name in names]
    if not any(found) and len(shots) == len(names):
        return list(shots)
    for name, shot in zip(names, found, strict=True):
        if shot is None:
            raise ValueError(f"{file}: no camera for the picture {name}; {nearest(name, known)}")
    return [shot for shot in found if shot is not None]


def _krt(data: Mapping[str, Any]) -> list[Shot]:
    entries = {"": data} if "K" in data else data
    found = []
    for name, entry in entries.items():
        if not isinstance(entry, Mapping) or "K" not in entry:
            raise ValueError(f"the entry {name!r} has no K")
        k = _numbers(entry["K"], (3, 3), f"{name}: K")
        if abs(k[0][1]) > 1e-9 * abs(k[0][0]):
            raise ValueError(f"the entry {name!r}: K has a skew of {k[0][1]:g}, which no camera here has")
        found.append(
            Shot(
                name=str(name),
                intrinsics=(float(k[0][0]), float(k[1][1]), float(k[0][2]), float(k[1][2])),
                rotation=_rows(entry.get("R", [[1, 0, 0], [0, 1, 0], [0, 0, 1]]), str(name)),
                translation=_three(_numbers(entry.get("t", [0, 0, 0]), (3,), f"{name}: t")),
                width=_whole(entry.get("width"), f"{name}: width"),
                height=_whole(entry.get("height"), f"{name}: height"),
                **_distorted(_numbers(entry.get("distortion", entry.get("dist", [])), None, f"{name}: distortion")),
            )
        )
    return found


def _nerfstudio(data: Mapping[str, Any]) -> list[Shot]:
    """Camera-to-world with OpenGL axes; intrinsics for all, or in each frame."""
    found = []
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    if not isinstance(data["frames"], list):
        raise ValueError(f"frames: expected a list, got {shown(data['frames'])}")
    for number, frame in enumerate(data["frames"]):
        if not isinstance(frame, Mapping) or not {"file_path", "transform_matrix"} <= set(frame):
            raise ValueError(f"frames[{number}]: expected file_path and transform_matrix, got {shown(frame)}")
        both = {**data, **frame}
        name = str(frame["file_path"])
        matrix = _numbers(frame["transform_matrix"], (4, 4), f"{name}: transform_matrix")
        pose = torch.tensor(matrix, dtype=torch.float64)
        if not float(torch.linalg.det(pose[:3, :3])) > 0:
            raise ValueError(f"the frame {name}: its transform mirrors")
        rotation = flip @ pose[:3, :3].T
        width, height = _whole(both.get("w"), f"{name}: w"), _whole(both.get("h"), f"{name}: h")

        def told(key: str, other: float, both: Mapping[str, Any] = both, name: str = name) -> float:
            return float(_numbers(both[key], (), f"{name}: {key}")) if key in both else other

        if "fl_x" in both:
            fx = told("fl_x", 0.0)
        elif "camera_angle_x" in both and width:
            fx = width / 2 / math.tan(told("camera_angle_x", 0.0) / 2)
        else:
            raise ValueError(f"the frame {name}: neither fl_x nor camera_angle_x with w")
        if not (width and height) and not {"cx", "cy"} <= set(both):
            raise ValueError(f"the frame {name}: neither cx, cy nor w, h")
        model = str(both.get("camera_model", "OPENCV"))
        if model in ("OPENCV_FISHEYE",):
            lens: dict[str, Any] = {
                "lens": "fisheye",
                "distortion": tuple(told(k, 0.0) for k in ("k1", "k2", "k3", "k4")),
            }
        elif model in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "FULL_OPENCV"):
            lens = _distorted([told(k, 0.0) for k in ("k1", "k2", "p1", "p2", "k3")])
        else:
            raise ValueError(f"camera_model {model} is not read; known: OPENCV, OPENCV_FISHEYE, PINHOLE")
        found.append(
            Shot(
                name=name,
                intrinsics=(
                    fx,
                    told("fl_y", fx),
                    told("cx", (width or 0) / 2),
                    told("cy", (height or 0) / 2),
                ),
                rotation=_rows(rotation.tolist(), name),
                translation=_three((-rotation @ pose[:3, 3]).tolist()),
                width=width,
                height=height,
                **lens,
            )
        )
    if not found:
        raise ValueError("it holds no frame")
    return found


_COLMAP = {  # focal lengths, then cx, cy, then coefficients, as COLMAP lists them
    "SIMPLE_PINHOLE": (1, ()),
    "PINHOLE": (2, ()),
    "SIMPLE_RADIAL": (1, ("k1",)),
    "RADIAL": (1, ("k1", "k2")),
    "OPENCV": (2, ("k1", "k2", "p1", "p2")),
    "OPENCV_FISHEYE": (2, ("k1", "k2", "k3", "k4")),
    "FULL_OPENCV": (2, ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")),
}


def _colmap(folder: Path) -> list[Shot]:
    for name in ("cameras.txt", "images.txt"):
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing in {folder.name}; export COLMAP's model as text")
    cameras: dict[str, dict[str, Any]] = {}
    for line in _lines(folder / "cameras.txt"):
        if len(line.split()) < 5:
            raise ValueError(f"cameras.txt: expected id, model, width, height and numbers, got {shown(line)}")
        number, model, width, height, *numbers = line.split()
        if model not in _COLMAP:
            raise ValueError(f"cameras.txt: the model {model} is not read; known: {', '.join(_COLMAP)}")
        count, names = _COLMAP[model]
        size = _numbers([width, height], (2,), f"cameras.txt: camera {number}")
        values = _numbers(numbers, None, f"cameras.txt: camera {number}")
        if len(values) != count + 2 + len(names):
            raise ValueError(f"cameras.txt: {model} has {count + 2 + len(names)} numbers, got {len(values)}")
        coefficients = dict(zip(names, values[count + 2 :], strict=True))
        fisheye = model == "OPENCV_FISHEYE"
        wanted = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
        own = tuple(coefficients.get(name, 0.0) for name in wanted)
        cameras[number] = {
            "intrinsics": (values[0], values[count - 1], values[count], values[count + 1]),
            "width": _whole(size[0], f"cameras.txt: camera {number}: width"),
            "height": _whole(size[1], f"cameras.txt: camera {number}: height"),
            **({"lens": "fisheye", "distortion": own} if fisheye else _distorted(own)),
        }
    found = []
    for line in _lines(folder / "images.txt", every_second=True):
        _, *numbers = line.split(maxsplit=9)
        if len(numbers) < 9:
            raise ValueError(f"images.txt: expected id, turn (4), shift (3), camera and name, got {shown(line)}")
        w, x, y, z, *shift = _numbers(numbers[:7], (7,), f"images.txt: {numbers[8].strip()}")
        if numbers[7] not in cameras:
            raise ValueError(f"images.txt: {numbers[8].strip()}: cameras.txt has no camera {shown(numbers[7])}")
        length = math.sqrt(w * w + x * x + y * y + z * z)
        if not length > 0:
            raise ValueError(f"images.txt: {numbers[8].strip()}: its turn is 0 0 0 0")
        w, x, y, z = w / length, x / length, y / length, z / length
        rotation = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        found.append(
            Shot(
                name=numbers[8].strip(),
                rotation=_rows(rotation, numbers[8]),
                translation=_three(shift),
                **cameras[numbers[7]],
            )
        )
    if not found:
        raise ValueError("images.txt: it holds no picture")
    return found


def _lines(file: Path, *, every_second: bool = False) -> list[str]:
    """Lines without comments; of images.txt the first of each pair, the second (its points) may be empty."""
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"{file.name}: larger than {MAX_BYTES} bytes")
    lines = [line for line in read_text(file).splitlines() if not line.startswith("#")]
    if every_second:
        return [line for line in lines[::2] if line.strip()]
    return [line for line in lines if line.strip()]


def _distorted(values: Sequence[float]) -> dict[str, Any]:
    """Brown and Conrady's lens of coefficients (k1, k2, p1, p2, ...), none where they are 0."""
    own = [float(v) for v in values]
    if not any(own):
        return {}
    size = next((n for n in (4, 5, 8) if len(own) <= n or not any(own[n:])), 0)
    if not size:
        raise ValueError(f"{len(own)} coefficients of distortion; at most 8 are known")
    return {"lens": "brown_conrady", "distortion": tuple((own + [0.0] * size)[:size])}


def _numbers(value: Any, shape: tuple[int, ...] | None, where: str) -> Any:
    """Finite numbers of a shape, or of any length, as nested lists; a column stands for a row."""
    try:
        found = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        found = np.array(np.nan)
    if shape is not None and len(shape) == 1 and found.size == shape[0]:
        found = found.reshape(shape)
    told = "numbers" if shape is None else f"{' x '.join(map(str, shape))} numbers" if shape else "a number"
    if (shape is None and found.ndim != 1) or (shape is not None and found.shape != shape):
        raise ValueError(f"{where}: expected {told}, got {shown(value)}")
    if not np.isfinite(found).all() or (isinstance(value, str | bool)):
        raise ValueError(f"{where}: expected {told}, got {shown(value)}")
    return found.tolist()


def _rows(matrix: Any, name: str) -> tuple[Row, Row, Row]:
    rotation = torch.tensor(_numbers(matrix, (3, 3), f"the rotation of {name or 'the camera'}"), dtype=torch.float64)
    u, _, vt = torch.linalg.svd(rotation)
    if (
        rotation.shape != (3, 3)
        or float((rotation - u @ vt).abs().max()) > 1e-2
        or float(torch.linalg.det(rotation)) < 0
    ):
        raise ValueError(f"the rotation of {name or 'the camera'} is none")
    a, b, c = (_three(row) for row in (u @ vt).tolist())
    return a, b, c


def _three(values: Sequence[float]) -> Row:
    a, b, c = (float(v) for v in values)
    return a, b, c


def _whole(value: Any, where: str) -> int | None:
    if value is None:
        return None
    found = _numbers(value, (), where)
    if found < 1 or found != int(found) or found > 1e6:
        raise ValueError(f"{where}: expected a whole number of pixels, got {shown(value)}")
    return int(found)
