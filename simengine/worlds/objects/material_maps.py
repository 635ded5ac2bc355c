"""Maps of normal, base colour, metallic and roughness from flash pictures, by descent through the renderer.

Adam on all maps at once comes near. What is left (a trace of metal stands in for another roughness) is a narrow valley,
which it crawls along; but a texel shares nothing with its neighbours except smoothness, so Levenberg-Marquardt in the
seven numbers of each texel walks it in a few steps, all texels together.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import nn

from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.gradient import GradientTraining
from simengine.fit.trainings.staged import StagedTraining
from simengine.render.material_maps import MaterialMaps, flash_pictures, procedural_maps, ring_of_lights
from simengine.solve.least_squares.system import load_forward_mode
from simengine.view.report import Picture, Table, write_report
from simengine.view.sheets import comparison, contact_sheet, summary_rows
from simengine.worlds.objects.specs import MaterialMapsSpec

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
        self.slopes: nn.Parameter = nn.Parameter(torch.zeros(n, n, 2))
        self.logits: nn.Parameter = nn.Parameter(torch.zeros(n, n, 5))

    def forward(self) -> MaterialMaps:
        """The maps."""
        return self.of(self.slopes, self.logits)

    @staticmethod
    def of(slopes: torch.Tensor, logits: torch.Tensor) -> MaterialMaps:
        """Maps of slopes (n, n, 2) and logits (n, n, 5)."""
        upright = torch.cat([slopes, torch.ones_like(slopes[..., :1])], dim=-1)
        values = torch.sigmoid(logits)
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
        self.truth: MaterialMaps = procedural_maps(spec.size, seed=seed)
        rings = [ring_of_lights(spec.lights + 1, radius=r, height=LIGHT_HEIGHT, turn=r)[1:] for r in spec.radii]
        self.lights: torch.Tensor = torch.cat(rings)
        self.new_lights: torch.Tensor = ring_of_lights(7, radius=0.9, height=LIGHT_HEIGHT, turn=0.4)
        exact = self.picture(self.truth, self.lights)
        noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(seed))
        self.observed: torch.Tensor = (exact * (1 + spec.noise * noise)).clamp_min(0)

    def picture(self, maps: MaterialMaps, lights: torch.Tensor) -> torch.Tensor:
        """Pictures of a sample lit from each of some positions."""
        return flash_pictures(maps, lights, intensity=INTENSITY, eye=torch.tensor(EYE))

    def contact_sheet(self, images: torch.Tensor) -> NDArray[Any]:
        """The pictures side by side."""
        return contact_sheet(images)

    def training(self) -> AbstractTraining:
        """The search for the maps: Adam, then each texel by itself."""
        first = MaterialMapsTraining(self)
        stages: list[AbstractTraining] = [first]
        if self.spec.texel_iterations:
            stages.append(TexelTraining(self, first.maps))
        return StagedTraining(stages, finish=lambda last, out: _finish(self, first.maps, out))


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
        self.maps = module


class TexelTraining(AbstractTraining):
    """Levenberg-Marquardt in the numbers of each texel: squares of differences of logarithms of its radiance.

    A texel's radiance depends on its own numbers only, so seven directional derivatives give the Jacobians of all.
    Each texel has a damping of its own, and takes a step only if that lowers its sum of squares.
    """

    def __init__(self, problem: MaterialMapsProblem, module: MapsModule) -> None:
        load_forward_mode()
        self.problem, self.module = problem, module
        self.num_iterations = problem.spec.texel_iterations
        self._target = (problem.observed + FLOOR).log()
        self._damping = torch.full(module.slopes.shape[:2], 1e-2)

    def _residual(self, numbers: torch.Tensor) -> torch.Tensor:
        """Shape (lights, n, n, 3), of numbers (n, n, 7)."""
        maps = self.module.of(*numbers.split([2, 5], dim=-1))
        return (self.problem.picture(maps, self.problem.lights) + FLOOR).log() - self._target

    @torch.no_grad()
    def step(self) -> dict[str, float]:
        """One step of every texel."""
        numbers = torch.cat([self.module.slopes, self.module.logits], dim=-1)
        units = torch.eye(numbers.shape[-1])
        r = self._residual(numbers).permute(1, 2, 0, 3).flatten(2)
        columns = [torch.func.jvp(self._residual, (numbers,), (u.expand_as(numbers),))[1] for u in units]
        j = torch.stack([column.permute(1, 2, 0, 3).flatten(2) for column in columns], dim=-1)
        gram, slope = j.mT @ j, (j.mT @ r[..., None])[..., 0]
        scale = gram.diagonal(dim1=-2, dim2=-1) + 1e-6
        damped = gram + torch.diag_embed(self._damping[..., None] * scale)
        trial = numbers - torch.linalg.solve(damped, slope).clamp(-1.0, 1.0)
        before, after = r.square().sum(-1), self._residual(trial).square().sum((0, 3))
        better = after < before
        self._damping = torch.where(better, self._damping / 3, self._damping * 4).clamp(1e-6, 1e6)
        slopes, logits = torch.where(better[..., None], trial, numbers).split([2, 5], dim=-1)
        self.module.slopes.copy_(slopes)
        self.module.logits.copy_(logits)
        return {"loss": float(torch.minimum(after, before).mean() / r.shape[-1]), "moved": float(better.float().mean())}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Maps and damping."""
        return {"slopes": self.module.slopes.detach(), "logits": self.module.logits.detach(), "damping": self._damping}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self.module.load_state_dict({name: state[name] for name in ("slopes", "logits")})
        self._damping = state["damping"]


def _finish(problem: MaterialMapsProblem, module: MapsModule, out: "RunDirectory") -> dict[str, Any]:
    """Write `maps.npz`, pictures and a report; the summary holds errors relative to those of the mean maps."""
    truth = problem.truth
    with torch.no_grad():
        found, mean = module(), truth.mean()
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
    write_report(out.path / "report.html", "Material maps from pictures", {"Figures": [table], "Pictures": pictures})
    return summary


def _rmse(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean().sqrt())
