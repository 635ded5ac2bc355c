"""Lenses: where a camera that is no pinhole sees a point, forward and back, differentiable in everything.

A lens takes a point (x, y) = (X/Z, Y/Z) of the plane one metre before the camera to the point (x', y') where a pinhole
would have to see it; focal lengths and principal point then give pixels, in the convention of OpenCV and of the files
of COLMAP and nerfstudio.
"""

import abc
import dataclasses

import torch

from simengine.render.camera import PinholeCamera

NEWTON_STEPS = 30
TOLERANCE = 1e-13  # of Newton's step, in focal lengths; float32 stops at its rounding


class Lens(abc.ABC):
    """What all lenses share; `coefficients` may be an unknown of a fit."""

    coefficients: torch.Tensor

    @abc.abstractmethod
    def distort(self, points: torch.Tensor) -> torch.Tensor:
        """Points (x, y) of the plane at one metre, (..., 2), to where they are seen, (..., 2)."""

    @abc.abstractmethod
    def jacobian(self, points: torch.Tensor) -> torch.Tensor:
        """Derivative of `distort`, shape (..., 2, 2), without a gradient of its own."""

    @abc.abstractmethod
    def start(self, seen: torch.Tensor) -> torch.Tensor:
        """Where Newton's method begins."""

    def undistort(self, seen: torch.Tensor) -> torch.Tensor:
        """The points (..., 2) that are seen at (..., 2), by Newton's method.

        Differentiable in `seen` and in the coefficients, by the implicit function theorem.

        Raises:
            ValueError: Some point is beyond what the lens sees: its distortion folds over before it gets there.
        """
        with torch.no_grad():
            x = self.start(seen)
            bound = max(TOLERANCE, 4 * torch.finfo(seen.dtype).eps)
            for _ in range(NEWTON_STEPS):
                step = torch.linalg.solve_ex(self.jacobian(x), (self.distort(x) - seen)[..., None])[0][..., 0]
                x = x - step
                if not bool((step.abs() > bound * (1 + x.abs())).any()):  # not a number passes, and is caught below
                    break
            off = (self.distort(x) - seen).abs().amax(-1)
            good = off <= 1e3 * bound * (1 + seen.abs().amax(-1))
            for part in range(1, 9):  # from the axis to there the picture must not fold
                slopes = self.jacobian(part / 8 * x)
                good &= (torch.linalg.det(slopes) > 0) & (slopes.diagonal(dim1=-2, dim2=-1).sum(-1) > 0)
            if not bool(good.all()):
                place = seen.reshape(-1, 2)[int((~good).reshape(-1).nonzero()[0])].tolist()
                raise ValueError(
                    f"lens: nothing is seen at ({place[0]:.4g}, {place[1]:.4g}) focal lengths from the principal "
                    f"point; its coefficients hold within the picture they were calibrated with"
                )
            inverse = torch.linalg.inv(slopes)
        # one more step of Newton, at a root: 0 in value, the implicit function theorem in its derivatives
        return x - (inverse @ (self.distort(x) - seen)[..., None])[..., 0]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BrownConradyLens(Lens):
    """Radial and tangential distortion, OpenCV's standard model.

    With r^2 = x^2 + y^2: x' = x d + 2 p1 x y + p2 (r^2 + 2 x^2), y' = y d + p1 (r^2 + 2 y^2) + 2 p2 x y,
    d = (1 + k1 r^2 + k2 r^4 + k3 r^6)/(1 + k4 r^2 + k5 r^4 + k6 r^6).

    Attributes:
        coefficients: (k1, k2, p1, p2, k3, k4, k5, k6) in OpenCV's order, of which the last may be left out: shape (4,),
            (5,) or (8,).

    Source: Brown 1971, Close-range camera calibration; OpenCV, calib3d.
    """

    coefficients: torch.Tensor

    def __post_init__(self) -> None:
        if self.coefficients.shape not in ((4,), (5,), (8,)):
            raise ValueError(
                f"coefficients: expected (k1, k2, p1, p2[, k3[, k4, k5, k6]]), "
                f"got shape {tuple(self.coefficients.shape)}"
            )

    def _parts(self, points: torch.Tensor) -> tuple[torch.Tensor, ...]:
        c = self.coefficients.to(points)
        c = torch.cat([c, c.new_zeros(8 - len(c))])
        k1, k2, p1, p2, k3, k4, k5, k6 = c.unbind()
        r2 = points.square().sum(-1)
        above = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        below = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        above_slope = k1 + r2 * (2 * k2 + 3 * r2 * k3)  # by r^2
        below_slope = k4 + r2 * (2 * k5 + 3 * r2 * k6)
        return p1, p2, r2, above / below, (above_slope - above / below * below_slope) / below

    def distort(self, points: torch.Tensor) -> torch.Tensor:
        """See `Lens`."""
        p1, p2, r2, radial, _ = self._parts(points)
        x, y = points.unbind(-1)
        return torch.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
            ],
            dim=-1,
        )

    @torch.no_grad()
    def jacobian(self, points: torch.Tensor) -> torch.Tensor:
        """See `Lens`."""
        p1, p2, _, radial, slope = self._parts(points)
        x, y = points.unbind(-1)
        across = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
        rows = [radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x, across]
        rows += [across, radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x]
        return torch.stack(rows, dim=-1).unflatten(-1, (2, 2))

    def start(self, seen: torch.Tensor) -> torch.Tensor:
        """See `Lens`."""
        return seen.clone()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FisheyeLens(Lens):
    """A lens whose pictures grow with the angle t from the axis: r' = t (1 + k1 t^2 + k2 t^4 + k3 t^6 + k4 t^8).

    It sees what is ahead of the plane of the eye, t < pi/2, as every camera here.

    Attributes:
        coefficients: (k1, k2, k3, k4), shape (4,).

    Source: Kannala and Brandt 2006; OpenCV, fisheye.
    """

    coefficients: torch.Tensor

    def __post_init__(self) -> None:
        if self.coefficients.shape != (4,):
            raise ValueError(f"coefficients: expected (k1, k2, k3, k4), got shape {tuple(self.coefficients.shape)}")

    def _radial(self, t: torch.Tensor) -> torch.Tensor:
        k1, k2, k3, k4 = self.coefficients.to(t).unbind()
        t2 = t * t
        return 1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4)))

    def _slope(self, t: torch.Tensor) -> torch.Tensor:
        """D r'/d t."""
        k1, k2, k3, k4 = self.coefficients.to(t).unbind()
        t2 = t * t
        return 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4)))

    def distort(self, points: torch.Tensor) -> torch.Tensor:
        """See `Lens`."""
        r2 = points.square().sum(-1, keepdim=True)
        middle = r2 < 1e-10  # what follows the term in r^2 is below rounding
        r = torch.where(middle, torch.ones_like(r2), r2).sqrt()
        t = torch.atan(r)
        k1 = self.coefficients.to(points)[0]
        share = torch.where(middle, 1 + (k1 - 1 / 3) * r2, t * self._radial(t) / r)
        return points * share

    @torch.no_grad()
    def jacobian(self, points: torch.Tensor) -> torch.Tensor:
        """See `Lens`."""
        r = points.norm(dim=-1)[..., None, None]
        safe = r.clamp_min(1e-12)
        along = points[..., :, None] * points[..., None, :] / (safe * safe)
        t = torch.atan(r)
        ring = torch.where(r > 1e-6, t * self._radial(t) / safe, torch.ones_like(r))
        outward = self._slope(t) / (1 + r * r)
        return ring * torch.eye(2).to(points) + (outward - ring) * along

    def start(self, seen: torch.Tensor) -> torch.Tensor:
        """See `Lens`: from Newton's method in the angle, in which the function is nearly straight."""
        distance = seen.norm(dim=-1, keepdim=True)
        t = distance.clamp(max=1.5)
        for _ in range(NEWTON_STEPS):
            t = t - (t * self._radial(t) - distance) / self._slope(t)
        return seen * torch.where(distance > 1e-9, torch.tan(t) / distance.clamp_min(1e-9), torch.ones_like(distance))


def project_through(points: torch.Tensor, camera: PinholeCamera, lens: Lens) -> torch.Tensor:
    """Pixel coordinates (x, y) of world points [m] (n, 3) and their depth z [m], shape (n, 3)."""
    x, y, z = camera.to_camera(points).unbind(-1)
    seen = lens.distort(torch.stack([x / z, y / z], dim=-1))
    return torch.cat([seen * camera.intrinsics[..., :2] + camera.intrinsics[..., 2:], z[..., None]], dim=-1)


def rays_through(camera: PinholeCamera, lens: Lens) -> tuple[torch.Tensor, torch.Tensor]:
    """Origins [m] and unit directions in the world of the rays through the pixel centres, (h, w, 3) each."""
    flat = lens.undistort(camera.directions()[..., :2])
    directions = torch.cat([flat, torch.ones_like(flat[..., :1])], dim=-1) @ camera.rotation
    directions = torch.nn.functional.normalize(directions, dim=-1)
    return camera.position.expand_as(directions), directions


def pinhole_covering(camera: PinholeCamera, lens: Lens, *, oversampling: float = 1.0) -> PinholeCamera:
    """A pinhole camera at the same place that sees all that the lens does, and as finely where it is straight.

    Args:
        camera: Pose, intrinsics and size of the picture behind the lens.
        lens: In front of it.
        oversampling: Pixels of the pinhole's picture per pixel along each axis in the middle.

    Raises:
        ValueError: The picture would have more than 16384 pixels in a row; a fisheye's corners are too far out.
    """
    with torch.no_grad():
        flat = lens.undistort(camera.directions()[..., :2]).reshape(-1, 2)
        focal = camera.intrinsics[:2] * oversampling
        low, high = (flat.amin(0) * focal - 2).floor(), (flat.amax(0) * focal + 2).ceil()
        width, height = (int(n) for n in high - low)
    if max(width, height) > 16384:
        raise ValueError(f"lens: a pinhole that sees as much needs {width} x {height} pixels; lower oversampling")
    return PinholeCamera(
        world_to_camera=camera.world_to_camera,
        intrinsics=torch.cat([camera.intrinsics[:2] * oversampling, -low]),
        width=width,
        height=height,
    )


def picture_through(picture: torch.Tensor, pinhole: PinholeCamera, camera: PinholeCamera, lens: Lens) -> torch.Tensor:
    """A pinhole's picture as the lens shows it, bilinear; differentiable in the picture, the lens and the intrinsics.

    Args:
        picture: Of `pinhole`, shape (h, w, c).
        pinhole: At the same place, see `pinhole_covering`; what it does not see takes the value of its border.
        camera: Pose, intrinsics and size of the picture behind the lens.
        lens: In front of it.

    Returns:
        Shape (camera.height, camera.width, c).

    Raises:
        ValueError: The picture is not the pinhole's.
    """
    if picture.ndim != 3 or picture.shape[:2] != (pinhole.height, pinhole.width):
        raise ValueError(
            f"picture: expected shape ({pinhole.height}, {pinhole.width}, c) of the pinhole, got {tuple(picture.shape)}"
        )
    flat = lens.undistort(camera.directions()[..., :2])
    pixels = flat * pinhole.intrinsics[:2] + pinhole.intrinsics[2:]
    at = 2 * pixels / pixels.new_tensor([pinhole.width, pinhole.height]) - 1
    sampled = torch.nn.functional.grid_sample(
        picture.permute(2, 0, 1)[None], at[None].to(picture), padding_mode="border", align_corners=False
    )
    return sampled[0].permute(1, 2, 0)
