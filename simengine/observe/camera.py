"""The camera of an observation: where it stands, how it looks, its lens; one table for markers and pictures.

Camera coordinates are p = turn (R X + T) + shift, with R, T of `eye`, `target` and `up`, of `view`, or of a file;
`axes` says where their x, y, z point. Pixels are focal (right, down)/forward + center, behind a lens distorted before
that, and the left upper corner of a picture is (0, 0): the centre of its first pixel is (0.5, 0.5). Every number may be
sought; turn and shift lie on top of what is given.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from simengine.observe.camera_files import Shot, pick, read_shots
from simengine.render.camera import PinholeCamera, rigid
from simengine.render.lens import BrownConradyLens, FisheyeLens, Lens
from simengine.scene.base import SceneError
from simengine.scene.strict import Count, Positive, Range, Vector
from simengine.solve.rotation import rotation_matrix

_WAYS = {
    "right": (0, 1.0),
    "left": (0, -1.0),
    "down": (1, 1.0),
    "up": (1, -1.0),
    "forward": (2, 1.0),
    "back": (2, -1.0),
}
_NAMED = {"opencv": ("right", "down", "forward"), "opengl": ("right", "up", "back")}
_ORTHOGONAL = 1e-2  # that rounded digits of a rotation may miss
Matrix = tuple[Vector, Vector, Vector]
Pose = tuple[tuple[float, float, float, float], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera, or one for each picture by a file.

    Attributes:
        eye: Where it stands [m].
        target: What is in the middle of the picture [m].
        up: What is up in the picture.
        field_of_view: Vertical, of the whole picture [degrees].
        focal: Focal length, or of columns and rows [px].
        center: Where the axis meets the picture [px]; its middle where it is left out.
        width: Of the whole picture [px]; that of the files where it is left out.
        height: Of the whole picture [px].
        crop: Left upper corner of the files in the whole picture [px].
        pixel_origin: Where pixel (0, 0) of `center` is: the picture's `corner`, or the `centre` of its first pixel.
        axes: Where x, y, z of the camera point, of right, left, up, down, forward, back; or opencv, opengl.
        view: R and T as rows [R | T] instead of eye and target.
        turn: Rotation vector on top [rad]; or, instead of `view`, the whole rotation as a matrix.
        shift: On top, in the camera's coordinates [m]; with `turn` a matrix the world's origin there.
        zoom: Times the focal length [1].
        lens: What is before the pinhole: brown_conrady (OpenCV's k1, k2, p1, p2, k3, ...) or fisheye (k1 to k4).
        distortion: Coefficients of the lens [1].
        file: Of cameras by picture: transforms.json (nerfstudio), images.txt beside cameras.txt (COLMAP), or a json of
            K, R, t (axes opencv).
    """

    eye: Vector | None = None
    target: Vector | None = None
    up: Vector = (0.0, 1.0, 0.0)
    field_of_view: Annotated[float, Range(gt=0, lt=180)] | None = None
    focal: Positive | tuple[Positive, Positive] | None = None
    center: tuple[float, float] | None = None
    width: Count | None = None
    height: Count | None = None
    crop: tuple[float, float] = (0.0, 0.0)
    pixel_origin: Literal["corner", "centre"] = "corner"
    axes: Literal["opencv", "opengl"] | tuple[str, str, str] = "opencv"
    view: Pose | None = None
    turn: Vector | Matrix = (0.0, 0.0, 0.0)
    shift: Vector = (0.0, 0.0, 0.0)
    zoom: Positive = 1.0
    lens: Literal["pinhole", "brown_conrady", "fisheye"] = "pinhole"
    distortion: tuple[float, ...] = ()
    file: str = ""
    base: Any = dataclasses.field(default=None, metadata={"internal": True}, repr=False)
    shots: tuple[Shot, ...] = dataclasses.field(default=(), metadata={"internal": True}, repr=False, compare=False)

    def __post_init__(self) -> None:
        ways = self.ways
        if unknown := [way for way in ways if way not in _WAYS]:
            raise ValueError(f"axes: {unknown[0]!r} is no direction; known: {', '.join(_WAYS)}")
        if sorted(_WAYS[way][0] for way in ways) != [0, 1, 2]:
            raise ValueError(f"axes: expected three directions across each other, got {list(ways)}")
        if self.view is not None:
            if len(self.view) not in (3, 4):
                raise ValueError(f"view: expected three rows of [R | T], got {len(self.view)}")
            rows = self.view[:3]
            object.__setattr__(self, "base", _rotation("view", [row[:3] for row in rows]))
            object.__setattr__(self, "shift", tuple(float(row[3]) for row in rows))
            object.__setattr__(self, "view", None)
        if isinstance(self.turn[0], tuple):
            if self.base is not None:
                raise ValueError("turn: beside `view` it is a rotation vector")
            object.__setattr__(self, "base", _rotation("turn", self.turn))
            object.__setattr__(self, "turn", (0.0, 0.0, 0.0))
        if (self.eye is None) != (self.target is None):
            raise ValueError("eye: it needs a target, and a target an eye")
        told = [n for n in ("eye", "base", "file") if getattr(self, n) not in (None, "")]
        if len(told) > 1:
            raise ValueError("camera: one of eye and target, view (or turn as a matrix), and file says where it stands")
        if self.file and (self.focal is not None or self.field_of_view is not None):
            raise ValueError("focal: the file says it; use zoom")
        if not self.file and (self.focal is None) == (self.field_of_view is None):
            raise ValueError("focal: expected one of focal [px] and field_of_view [degrees]")
        expected = {"pinhole": (0,), "brown_conrady": (4, 5, 8), "fisheye": (4,)}[self.lens]
        if len(self.distortion) not in expected:
            counts = " or ".join(map(str, expected))
            raise ValueError(f"distortion: {self.lens} takes {counts} coefficients, got {len(self.distortion)}")

    @property
    def ways(self) -> tuple[str, str, str]:
        """Where x, y, z of the camera point."""
        return _NAMED[self.axes] if isinstance(self.axes, str) else self.axes

    def opened(self, directory: Path, size: tuple[int, int], names: Sequence[str] = ("",)) -> "Camera":
        """The camera with what the pictures and its file tell: size, centre, a pose for each picture.

        Args:
            directory: Where `file` lies.
            size: Rows and columns of the pictures [px].
            names: Of the pictures.

        Raises:
            SceneError: The file cannot be read, has no entry for a picture, or the size does not fit.
        """
        made = self
        if self.file:
            path = directory / Path(self.file).expanduser()
            try:
                shots = pick(read_shots(path), names, path.name)
            except ValueError as error:
                raise SceneError(f"camera.file: {error}") from None
            first = shots[0]
            made = dataclasses.replace(
                made,
                shots=tuple(shots),
                width=self.width or first.width,
                height=self.height or first.height,
                lens=first.lens if self.lens == "pinhole" else self.lens,
                distortion=self.distortion or first.distortion,
            )
        height, width = size
        whole = (made.width or width, made.height or height)
        if any(self.crop):
            if whole[0] < self.crop[0] + width or whole[1] < self.crop[1] + height:
                raise SceneError(
                    f"camera.crop: pictures of {width} x {height} at {list(self.crop)} reach beyond {whole[0]} x "
                    f"{whole[1]}"
                )
        elif abs(whole[0] * height - whole[1] * width) > max(whole):
            raise SceneError(
                f"camera.width: the pictures are {width} x {height}, the camera {whole[0]} x {whole[1]}; if they are "
                f"cut out, say `crop`"
            )
        center = made.center
        if center is None and not made.shots:
            center = (whole[0] / 2, whole[1] / 2)
            made = dataclasses.replace(made, pixel_origin="corner")  # the middle is meant as it is
        return dataclasses.replace(made, width=whole[0], height=whole[1], center=center)

    def intrinsics(self, size: tuple[int, int] | None = None, count: int = 1) -> torch.Tensor:
        """Focal lengths and centre (fx, fy, cx, cy) [px] of each picture, (count, 4).

        Args:
            size: Rows and columns of the pictures; None for the whole picture.
            count: Of the pictures.
        """
        assert self.width is not None and self.height is not None, "opened() comes first"
        if self.shots:
            pinholes = torch.tensor([shot.intrinsics for shot in self.shots], dtype=torch.float64)
            focal, middle = pinholes[:, :2], pinholes[:, 2:]
            if self.center is not None:
                middle = _vector(self.center).expand(len(middle), 2)
        else:
            if self.field_of_view is not None:
                half = torch.as_tensor(self.field_of_view, dtype=torch.float64) * (math.pi / 360)
                focal = (self.height / 2 / torch.tan(half)).expand(2)
            else:
                focal = _vector(self.focal if isinstance(self.focal, tuple) else (self.focal, self.focal))
            middle = _vector(self.center if self.center is not None else (self.width / 2, self.height / 2))
            focal, middle = focal.expand(count, 2), middle.expand(count, 2)
        middle = middle + (0.5 if self.pixel_origin == "centre" else 0.0) - _vector(self.crop)
        found = torch.cat([focal * self.zoom, middle], 1)
        if size is not None and not any(self.crop):
            found = found * torch.tensor([size[1] / self.width, size[0] / self.height] * 2, dtype=torch.float64)
        return found

    def world_to_camera(self, count: int = 1) -> torch.Tensor:
        """OpenCV poses of each picture, (count, 4, 4)."""
        rotation = torch.eye(3, dtype=torch.float64)
        translation = torch.zeros(3, dtype=torch.float64)
        axes = self._axes()
        if self.eye is not None and self.target is not None:
            pose = PinholeCamera.look_at(_vector(self.eye), _vector(self.target), up=_vector(self.up)).world_to_camera
            rotation, translation, axes = pose[:3, :3], pose[:3, 3], torch.eye(3, dtype=torch.float64)
        elif self.base is not None:
            rotation = torch.tensor(self.base, dtype=torch.float64)
        elif self.shots:
            rotation = torch.tensor([shot.rotation for shot in self.shots], dtype=torch.float64)
            translation = torch.tensor([shot.translation for shot in self.shots], dtype=torch.float64)
            axes = torch.eye(3, dtype=torch.float64)
        turn = rotation_matrix(_vector(self.turn))
        pose = rigid(axes @ turn @ rotation, (translation @ turn.T + _vector(self.shift)) @ axes.T)
        return pose if self.shots else pose.expand(count, 4, 4)

    def _axes(self) -> torch.Tensor:
        """Camera coordinates to right, down, forward."""
        matrix = torch.zeros(3, 3, dtype=torch.float64)
        for column, way in enumerate(self.ways):
            row, sign = _WAYS[way]
            matrix[row, column] = sign
        return matrix

    def glass(self) -> Lens | None:
        """The lens; None for a pinhole."""
        if self.lens == "pinhole":
            return None
        kind = BrownConradyLens if self.lens == "brown_conrady" else FisheyeLens
        return kind(coefficients=_vector(self.distortion))

    def project(self, points: torch.Tensor) -> torch.Tensor:
        """Pixels (..., 2) of the first picture that points of the world (..., 3) [m] are seen at; NaN behind it."""
        pose = self.world_to_camera()[0]
        right, down, forward = (points @ pose[:3, :3].T + pose[:3, 3]).unbind(-1)
        ahead = torch.where(forward > 0, forward, torch.nan)
        seen = torch.stack((right, down), -1) / ahead[..., None]
        glass = self.glass()
        seen = seen if glass is None else glass.distort(seen)
        pinhole = self.intrinsics()[0]
        return seen * pinhole[:2] + pinhole[2:]


def _rotation(key: str, rows: Sequence[Sequence[float]]) -> Matrix:
    """The rotation nearest to a matrix of rounded digits; turning mirror images and shears away."""
    base = torch.tensor([list(row) for row in rows], dtype=torch.float64)
    u, _, vt = torch.linalg.svd(base)
    if float((base - u @ vt).abs().max()) > _ORTHOGONAL or float(torch.linalg.det(base)) < 0:
        raise ValueError(f"{key}: the matrix is no rotation (its rows must be unit vectors across each other)")
    a, b, c = (tuple(row) for row in (u @ vt).tolist())
    return (a, b, c)


def _vector(values: Any) -> torch.Tensor:
    return torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in values])
