"""Maps of normal, base colour, metallic and roughness from flash pictures, by descent through the renderer."""

from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import nn

from simengine.fit.gradient import GradientTraining
from simengine.fit.pictures import comparison, contact_sheet, summary_rows
from simengine.render.material_maps import MaterialMaps, flash_pictures, procedural_maps, ring_of_lights
from simengine.scene.render import MaterialMapsSpec
from simengine.view.report import Picture, Table, write_report

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

EYE = (0.0, 0.0, 2.5)  # [m]
LIGHT_HEIGHT = 2.0  # [m]
INTENSITY = 12.0  # [W/sr]
FLOOR = 0.01  # added before logarithms are compared


class MapsModule(nn.Module):
    """Unconstrained maps: slopes of the normal, logits of the others.

    Args:
        n: Texels along each side.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.zeros(n, n, 2))
        self.logits = nn.Parameter(torch.zeros(n, n, 5))

    def forward(self) -> MaterialMaps:
        """The maps."""
        upright = torch.cat([self.slopes, torch.ones_like(self.slopes[..., :1])], dim=-1)
        values = torch.sigmoid(self.logits)
        return MaterialMaps(
            normal=nn.functional.normalize(upright, dim=-1),
            base_colour=values[..., :3],
            metallic=values[..., 3:4],
            roughness=0.05 + 0.95 * values[..., 4:],
        )


class MaterialMapsProblem:
    """Flash pictures of a sample.

    Attributes:
        observed: Pictures, linear RGB, shape (lights, n, n, 3).
        truth: The maps they were made with.
    """

    def __init__(self, spec: MaterialMapsSpec, *, seed: int) -> None:
        self.spec = spec
        self.truth = procedural_maps(spec.size, seed=seed)
        rings = [ring_of_lights(spec.lights + 1, radius=r, height=LIGHT_HEIGHT, turn=r)[1:] for r in spec.radii]
        self.lights = torch.cat(rings)
        self.new_lights = ring_of_lights(7, radius=0.9, height=LIGHT_HEIGHT, turn=0.4)
        exact = self.picture(self.truth, self.lights)
        noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(seed))
        self.observed = (exact * (1 + spec.noise * noise)).clamp_min(0)

    def picture(self, maps: MaterialMaps, lights: torch.Tensor) -> torch.Tensor:
        """Pictures of a sample lit from each of some positions."""
        return flash_pictures(maps, lights, intensity=INTENSITY, eye=torch.tensor(EYE))

    def contact_sheet(self, images: torch.Tensor) -> NDArray[Any]:
        """The pictures side by side."""
        return contact_sheet(images)

    def training(self) -> "MaterialMapsTraining":
        """The search for the maps."""
        return MaterialMapsTraining(self)


class MaterialMapsTraining(GradientTraining):
    """Adam on the difference of logarithms of pictures, with a little smoothness of the maps."""

    def __init__(self, problem: MaterialMapsProblem) -> None:
        spec, module = problem.spec, MapsModule(problem.spec.size)
        target = (problem.observed + FLOOR).log()

        def objective() -> dict[str, torch.Tensor]:
            maps = module()
            rendered = (problem.picture(maps, problem.lights) + FLOOR).log()
            rough = [value.diff(dim=axis).abs().mean() for value in maps.as_dict().values() for axis in (0, 1)]
            return {
                "rendering": (rendered - target).abs().mean(),
                "smoothness": spec.smoothness * torch.stack(rough).sum(),
            }

        super().__init__(
            module, objective, num_iterations=spec.iterations, learning_rate=spec.learning_rate, cosine=True
        )
        self.problem, self.maps = problem, module

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write `maps.npz`, pictures and a report; the summary holds errors relative to those of the mean maps."""
        problem, truth = self.problem, self.problem.truth
        with torch.no_grad():
            found, mean = self.maps(), truth.mean()
            errors = {
                name: _rmse(value, getattr(truth, name)) / _rmse(getattr(mean, name), getattr(truth, name))
                for name, value in found.as_dict().items()
            }
            expected, again, flat = (problem.picture(maps, problem.new_lights) for maps in (truth, found, mean))
        errors["new_lights"] = _rmse(again, expected) / _rmse(flat, expected)
        summary = {"error_over_that_of_the_mean_map": errors}
        out.write("maps.npz", {name: value.numpy() for name, value in found.as_dict().items()})
        rows = {}
        for name, maps in (("true", truth), ("found", found)):
            images = [0.5 + 0.5 * maps.normal, maps.base_colour]
            images += [value.expand(-1, -1, 3) for value in (maps.metallic, maps.roughness)]
            rows[f"{name}: normal, base colour, metallic, roughness"] = torch.stack(images)
        sheet, lit = comparison(rows), comparison({"new lights: true": expected, "new lights: found": again})
        out.write("maps.png", sheet)
        table = Table(("figure", "value"), summary_rows(summary))
        pictures = [Picture(sheet, "Maps"), Picture(lit, "Under lights that were not seen")]
        write_report(
            out.path / "report.html", "Material maps from pictures", {"Figures": [table], "Pictures": pictures}
        )
        return summary


def _rmse(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean().sqrt())
