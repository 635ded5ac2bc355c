"""A density field from pictures of the light that comes through it."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from simengine.fit.trainings.gradient import GradientTraining
from simengine.render import PinholeCamera, Volume, psnr, render_volume
from simengine.render.volumes import intersect_box
from simengine.view.report import Picture, Table, write_report
from simengine.view.sheets import comparison, contact_sheet, summary_rows
from simengine.worlds.objects.specs import BlobSpec, TomographySpec

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

LOWER, UPPER = -1.0, 1.0
INITIAL_DENSITY = 0.1


class DensityField(nn.Module):
    """A positive density on a grid, softplus of what is sought.

    Args:
        resolution: Cells along each side of the box.
    """

    def __init__(self, resolution: int) -> None:
        super().__init__()
        start = math.log(math.expm1(INITIAL_DENSITY))
        self.raw = nn.Parameter(torch.full((resolution,) * 3, start))

    def forward(self) -> torch.Tensor:
        """Density [1/m], shape (n, n, n)."""
        return nn.functional.softplus(self.raw)


class Tomography:
    """Observed pictures of blobs in front of a bright wall, and how a density would look.

    Attributes:
        cameras: Batch of the observing cameras.
        observed: Pictures, linear, shape (views, h, w, 1).
    """

    def __init__(self, spec: TomographySpec, *, seed: int) -> None:
        self.spec = spec
        self.cameras = spec.orbit.cameras()
        exact = transmitted(spec.blobs, self.cameras)
        noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(seed))
        self.observed = exact + spec.noise * noise

    def picture(self, density: torch.Tensor, cameras: PinholeCamera) -> torch.Tensor:
        """Pictures (views, h, w, 1) of a density on a grid before a wall of radiance 1."""
        medium = Volume(density=density, source=torch.zeros(*density.shape, 1))
        return render_volume(medium, cameras, background=1.0, step=(UPPER - LOWER) / len(density)).rgb

    def true_density(self) -> torch.Tensor:
        """Density of the blobs in the middle of the cells, shape (n, n, n)."""
        n = self.spec.resolution
        x = LOWER + (UPPER - LOWER) * (torch.arange(n) + 0.5) / n
        points = torch.stack(torch.meshgrid(x, x, x, indexing="ij"), dim=-1)
        return sum_of_blobs(self.spec.blobs, points)

    def contact_sheet(self, images: torch.Tensor) -> NDArray[np.uint8]:
        """Pictures side by side."""
        return contact_sheet(images)

    def training(self) -> "TomographyTraining":
        """The search for the density."""
        return TomographyTraining(self)


class TomographyTraining(GradientTraining):
    """Adam on the squared difference of pictures plus the roughness of the density."""

    def __init__(self, problem: Tomography) -> None:
        spec = problem.spec
        field = DensityField(spec.resolution)

        def objective() -> dict[str, torch.Tensor]:
            density = field()
            difference = problem.picture(density, problem.cameras) - problem.observed
            steps = [density.diff(dim=axis).square().mean() for axis in range(3)]
            return {"pixels": difference.square().mean(), "roughness": spec.smoothness * torch.stack(steps).sum()}

        super().__init__(
            field, objective, num_iterations=spec.iterations, learning_rate=spec.learning_rate, cosine=True
        )
        self.problem, self.field = problem, field

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write `density.npz`, pictures and a report; the summary tells PSNR of density and of unseen views."""
        problem, spec = self.problem, self.problem.spec
        # the unseen cameras stand halfway between the seen ones
        unseen = spec.orbit.cameras(views=2 * spec.orbit.views)
        between = PinholeCamera.stack([unseen[k] for k in range(1, 2 * spec.orbit.views, 2)])
        with torch.no_grad():
            density, truth = self.field(), problem.true_density()
            fitted, novel = problem.picture(density, problem.cameras), problem.picture(density, between)
            initial = problem.picture(torch.full_like(density, INITIAL_DENSITY), problem.cameras)
            expected = transmitted(spec.blobs, between)
        summary: dict[str, Any] = {
            "psnr_density_dB": psnr(density, truth, peak=float(truth.max())),
            "psnr_seen_dB": psnr(fitted, problem.observed),
            "psnr_unseen_dB": psnr(novel, expected),
        }
        rows = {"observed": problem.observed, "initial": initial, "fitted": fitted}
        seen = comparison(rows)
        new = comparison({"unseen views, in closed form": expected, "unseen views, fitted": novel})
        middle = spec.resolution // 2
        slices = comparison(
            {"density at z = 0: true, fitted": torch.stack([truth, density])[:, :, :, middle, None] / truth.max()}
        )
        out.write("density.npz", {"density": density.numpy(), "lower": np.full(3, LOWER), "upper": np.full(3, UPPER)})
        out.write("pictures.png", seen)
        blocks = [Picture(seen, "Seen views"), Picture(new, "Unseen views"), Picture(slices, "Slices")]
        table = Table(("figure", "value"), summary_rows(summary))
        write_report(out.path / "report.html", "Density from pictures", {"Figures": [table], "Pictures": blocks})
        return summary


def sum_of_blobs(blobs: tuple[BlobSpec, ...], points: torch.Tensor) -> torch.Tensor:
    """Density [1/m] at points (..., 3)."""
    total = torch.zeros_like(points[..., 0])
    for blob in blobs:
        r2 = (points - points.new_tensor(blob.center)).square().sum(-1)
        total = total + blob.peak * torch.exp(-r2 / (2 * blob.width**2))
    return total


def transmitted(blobs: tuple[BlobSpec, ...], cameras: PinholeCamera) -> torch.Tensor:
    """Transmittance of rays through blobs in the box, in closed form, shape (views, h, w, 1).

    The optical depth of a blob from near to far is peak exp(-b^2/(2 s^2)) s sqrt(pi/2) [erf] with the distance b of the
    ray from its centre.
    """
    origins, directions = (value.double() for value in cameras.rays())
    shape = directions.shape[:-1]
    origins, directions = origins.reshape(-1, 3), directions.reshape(-1, 3)
    low, high = torch.full((3,), LOWER, dtype=torch.float64), torch.full((3,), UPPER, dtype=torch.float64)
    near, far = intersect_box(origins, directions, low, high)
    depth = torch.zeros_like(near)
    for blob in blobs:
        to_centre = torch.tensor(blob.center, dtype=torch.float64) - origins
        along = (to_centre * directions).sum(-1)
        b2 = to_centre.square().sum(-1) - along**2
        scale = math.sqrt(2) * blob.width
        part = torch.erf((far - along) / scale) - torch.erf((near - along) / scale)
        depth += blob.peak * torch.exp(-b2 / (2 * blob.width**2)) * blob.width * math.sqrt(math.pi / 2) * part
    return torch.exp(-depth).float().reshape(*shape, 1)
