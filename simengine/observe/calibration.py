"""The inside of a camera from pictures of a checkerboard: focal lengths, centre, lens, and how sure they are.

OpenCV finds the corners and the least squares (Zhang 2000); what is told is computed again here, by the lenses of this
package, in whose convention it is used: the left upper corner of a picture is (0, 0), the centre of its first pixel
(0.5, 0.5). Standard deviations are those of the least squares with the scatter that the corners have about their fit,
or, where these are larger, those of leaving out one picture after the other: corners of one picture err together.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from simengine.extras import extra
from simengine.io.pictures import read_stills
from simengine.render.lens import BrownConradyLens, FisheyeLens
from simengine.solve.rotation import rotation_matrix

Glass = Literal["brown_conrady", "fisheye"]
COEFFICIENTS = 4  # a fifth is told by very wide lenses only, and stands for the others where it is not
FEWEST = 3  # pictures of a plane that tell a camera
WINDOW = 0.35  # of the distance between corners
BLURRED = 0.5  # pixels that the corners of one picture may miss by
STEP = 1e-6  # of the differences for the covariance
UNSURE = 0.02  # of the focal length: a larger standard deviation is told as a doubt
REACH = 0.7  # of half the diagonal: where corners end before, the lens beyond is guessed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkerboard:
    """A board of squares.

    Attributes:
        columns: Corners inside the board along its rows.
        rows: Corners along its columns.
        square: Side of a square [m].
    """

    columns: int
    rows: int
    square: float

    @property
    def points(self) -> torch.Tensor:
        """Corners, row by row, (n, 3) [m]; the first is (0, 0, 0), z goes into the board."""
        y, x = torch.meshgrid(torch.arange(self.rows), torch.arange(self.columns), indexing="ij")
        return self.square * torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3).double()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """What pictures of a board tell.

    Attributes:
        lens: Kind of lens.
        size: Rows and columns of the pictures [px].
        numbers: fx, fy, cx, cy [px], then the coefficients of the lens, (4 + c,).
        deviations: Standard deviations of these, (4 + c,).
        turns: Rotation vectors of the boards, (k, 3) [rad].
        shifts: Places of their first corners in the camera's coordinates, (k, 3) [m].
        reach: Distance of the outermost corner from the middle of the picture, over half its diagonal [1].
        gaps: Corners as seen less as they should be, (k, n, 2) [px].
        names: Of the pictures.
    """

    lens: Glass
    size: tuple[int, int]
    numbers: torch.Tensor
    deviations: torch.Tensor
    turns: torch.Tensor
    shifts: torch.Tensor
    reach: float
    gaps: torch.Tensor
    names: tuple[str, ...]

    @property
    def rms(self) -> float:
        """Root mean square distance of the corners [px]."""
        return float(self.gaps.square().sum(-1).mean().sqrt())

    def doubts(self) -> list[str]:
        """What makes the numbers doubtful, a line each."""
        found = []
        share = float((self.deviations[:2] / self.numbers[:2]).max())
        if share > UNSURE:
            found.append(
                f"the focal length is known to {100 * share:.2g} % only: tilt the board more, by 30 to 45 degrees"
            )
        each = self.gaps.square().sum(-1).mean(-1).sqrt()
        if float(each.max()) > max(3 * float(each.median()), BLURRED):
            worst = int(each.argmax())
            found.append(f"{self.names[worst]} misses by {float(each[worst]):.2g} px; leave it out if it is blurred")
        if self.reach < REACH:
            found.append(
                f"corners reach to {100 * self.reach:.0f} % of the half diagonal, and beyond the lens is guessed: hold "
                "the board into the corners of the picture"
            )
        if self.rms > 1:
            found.append(f"corners miss by {self.rms:.2g} px: is the board flat, and the lens {self.lens}?")
        return found

    def text(self, name: str, board: Checkerboard, *, world: str = "") -> str:
        """The table of a scene.

        Args:
            name: Of the camera.
            board: What was seen.
            world: Name of the picture whose board is the scene's frame: its first corner the origin, x and y along
                its rows and columns, z into it; "" for a camera without a place.

        Raises:
            ValueError: The board was not found in that picture.
        """
        height, width = self.size
        digits = [round(float(v), 6) for v in self.numbers]
        bars = [f"{float(v):.2g}" for v in self.deviations]
        lines = [
            f"# {len(self.names)} pictures of a board of {board.columns} x {board.rows} corners, {board.square:g} m "
            f"apart; they miss by {self.rms:.3g} px",
            f"[cameras.{name}]",
            f"width = {width}",
            f"height = {height}",
            f"focal = [{digits[0]}, {digits[1]}]  # +- {bars[0]}, {bars[1]} px",
            f"center = [{digits[2]}, {digits[3]}]  # +- {bars[2]}, {bars[3]} px",
            f'lens = "{self.lens}"',
            f"distortion = {digits[4:]}  # +- {', '.join(bars[4:])}",
        ]
        if world:
            if world not in self.names:
                raise ValueError(f"--world {world}: no board in it; seen in {', '.join(self.names)}")
            k = self.names.index(world)
            pose = torch.cat([rotation_matrix(self.turns[k]), self.shifts[k][:, None]], 1)
            rows = ", ".join(str([round(float(v), 9) for v in row]) for row in pose)
            lines.append(f"view = [{rows}]  # the board of {world} is z = 0")
        else:
            lines.append("# and where it stands: eye and target, or view; --world PICTURE takes the board of a picture")
        return "\n".join(lines) + "\n"


def find_corners(file: Path, board: Checkerboard) -> tuple[torch.Tensor | None, tuple[int, int]]:
    """Corners of the board in a picture, (n, 2) [px], None where it is not seen whole; rows and columns of the picture.

    Raises:
        ValueError: The file is no picture.
        RuntimeError: OpenCV is not installed.
    """
    cv2 = extra("cv2", of="camera", what="finding a checkerboard")
    grey = read_stills([file]).values[0].mean(-1)
    eight = np.ascontiguousarray((255 * np.clip(grey, 0, 1)).round().astype(np.uint8))
    flags = cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY
    seen, corners = cv2.findChessboardCornersSB(eight, (board.columns, board.rows), flags=flags)
    size = (int(grey.shape[0]), int(grey.shape[1]))
    if not seen:
        return None, size
    grid = corners.reshape(board.rows, board.columns, 2)
    apart = min(float(np.linalg.norm(np.diff(grid, axis=axis), axis=-1).min()) for axis in (0, 1))
    half = int(np.clip(WINDOW * apart, 2, 15))  # of the window that a corner is seen in, without its neighbours
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-4)
    sharp = cv2.cornerSubPix(eight, np.ascontiguousarray(corners, np.float32), (half, half), (-1, -1), stop)
    return torch.from_numpy(np.asarray(sharp, np.float64).reshape(-1, 2)) + 0.5, size


def calibrated(
    board: Checkerboard, seen: Mapping[str, torch.Tensor], size: tuple[int, int], lens: Glass = "brown_conrady"
) -> Calibration:
    """The camera that explains corners best.

    Args:
        board: What was seen.
        seen: Name of a picture -> its corners (n, 2) [px].
        size: Rows and columns of the pictures.
        lens: Kind of lens.

    Raises:
        ValueError: Fewer than three pictures, or no camera explains them.
        RuntimeError: OpenCV is not installed.
    """
    if len(seen) < FEWEST:
        raise ValueError(
            f"the board of {board.columns} x {board.rows} corners is seen whole in {len(seen)} pictures; "
            f"{FEWEST} or more are needed, in which it is tilted to different sides (count the corners inside the "
            "board, where four squares meet)"
        )
    corners = torch.stack(list(seen.values()))
    numbers, turns, shifts = _solved(board, corners, size, lens)
    start = torch.cat([numbers, turns.reshape(-1), shifts.reshape(-1)])

    def told(x: torch.Tensor) -> torch.Tensor:
        inside, turn, shift = x.split([len(numbers), turns.numel(), shifts.numel()])
        return _projected(board, inside, turn.reshape(-1, 3), shift.reshape(-1, 3), lens)

    gaps, middle = corners - told(start), torch.tensor([size[1] / 2, size[0] / 2], dtype=torch.float64)
    steps = STEP * torch.eye(len(start), dtype=torch.float64)
    slopes = torch.stack([(told(start + s) - told(start - s)).reshape(-1) / (2 * STEP) for s in steps], 1)
    gram = slopes.T @ slopes
    scale = gram.diagonal().sqrt()
    covariance = torch.linalg.inv(gram / scale[:, None] / scale) / scale[:, None] / scale
    spread = gaps.square().sum() / max(gaps.numel() - len(start), 1)
    deviations = (covariance.diagonal() * spread).sqrt()[: len(numbers)]
    if len(corners) > FEWEST:
        deviations = torch.maximum(deviations, _jackknife(board, corners, size, lens))
    if not bool(deviations.isfinite().all()):
        raise ValueError("these pictures leave the camera undetermined: tilt the board to different sides")
    return Calibration(
        lens=lens,
        size=size,
        numbers=numbers,
        deviations=deviations,
        turns=turns,
        shifts=shifts,
        reach=float((corners - middle).norm(dim=-1).max() / middle.norm()),
        gaps=gaps,
        names=tuple(seen),
    )


def _jackknife(board: Checkerboard, corners: torch.Tensor, size: tuple[int, int], lens: Glass) -> torch.Tensor:
    """Standard deviations of the numbers by leaving out one picture after the other (Efron 1982)."""
    count = len(corners)
    without = [torch.cat([corners[:k], corners[k + 1 :]]) for k in range(count)]
    numbers = torch.stack([_solved(board, rest, size, lens)[0] for rest in without])
    return ((count - 1) * numbers.var(0, correction=0)).sqrt()


def _projected(
    board: Checkerboard, inside: torch.Tensor, turns: torch.Tensor, shifts: torch.Tensor, lens: Glass
) -> torch.Tensor:
    """Where corners should be seen, (k, n, 2) [px]."""
    rotations = torch.stack([rotation_matrix(turn) for turn in turns])
    places = board.points @ rotations.mT + shifts[:, None]
    glass = (BrownConradyLens if lens == "brown_conrady" else FisheyeLens)(coefficients=inside[4:])
    return glass.distort(places[..., :2] / places[..., 2:]) * inside[:2] + inside[2:4]


def _solved(
    board: Checkerboard, corners: torch.Tensor, size: tuple[int, int], lens: Glass
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Numbers of the camera, turns and shifts of the boards, by OpenCV."""
    cv2 = extra("cv2", of="camera", what="calibrating a camera")
    count = len(corners)
    points = [board.points.numpy().astype(np.float32).reshape(1, -1, 3)] * count
    pixels = [(own - 0.5).numpy().astype(np.float32).reshape(1, -1, 2) for own in corners]
    shape = (size[1], size[0])
    try:
        if lens == "fisheye":
            flags = cv2.CALIB_RECOMPUTE_EXTRINSIC | cv2.CALIB_FIX_SKEW
            pinhole, bent = np.eye(3), np.zeros((4, 1))
            _, pinhole, bent, turns, shifts = cv2.fisheye.calibrate(points, pixels, shape, pinhole, bent, flags=flags)
        else:
            _, pinhole, bent, turns, shifts = cv2.calibrateCamera(
                points, pixels, shape, None, None, flags=cv2.CALIB_FIX_K3
            )
    except cv2.error as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"no {lens} camera explains these corners ({reason}); tilt the board more") from None
    inside = [pinhole[0, 0], pinhole[1, 1], pinhole[0, 2] + 0.5, pinhole[1, 2] + 0.5]
    numbers = torch.tensor([*inside, *bent.reshape(-1)[:COEFFICIENTS]], dtype=torch.float64)
    return numbers, _rows(turns), _rows(shifts)


def _rows(vectors: Sequence[Any]) -> torch.Tensor:
    return torch.tensor(np.asarray(vectors, np.float64).reshape(-1, 3))
