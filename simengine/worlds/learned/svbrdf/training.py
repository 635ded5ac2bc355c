"""Training of the network that tells the maps of a material from one flash picture, whose answer is then refined."""

from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from simengine.fit.trainings.gradient import GradientTraining
from simengine.io.model_folder import write_model
from simengine.render.material_maps import MaterialMaps
from simengine.scene.grammar import Scene
from simengine.view.report import Picture, ReportTable, write_report
from simengine.view.sheets import comparison, contact_sheet, summary_rows
from simengine.worlds.learned.svbrdf.few_materials import refined
from simengine.worlds.learned.svbrdf.network import (
    MapsNetwork,
    flash_picture,
    layered_materials,
    random_places,
    relit,
    rendering_loss,
)
from simengine.worlds.learned.svbrdf.spec import SVBRDFSpec

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

SHOWN = 6  # samples in the report
TYPICAL = {"normal": 0.2, "base_colour": 0.22, "metallic": 0.47, "roughness": 0.17}  # deviations of the materials
NEW_LIGHTS = 4  # lights and eyes for each sample of the test


def training(scene: Scene, *, device: str | None = None) -> "SVBRDFTraining":
    """The training of a scene."""
    assert isinstance(scene.learner, SVBRDFSpec)
    return SVBRDFProblem(scene.learner, seed=scene.world.seed).training()


class SVBRDFProblem:
    """Materials that no training sees.

    Attributes:
        truth: Their maps, shape (b, n, n, ...).
        observed: Their flash pictures, linear RGB, shape (b, n, n, 3).
    """

    def __init__(self, spec: SVBRDFSpec, *, seed: int) -> None:
        self.spec: SVBRDFSpec = spec
        self.seed: int = seed
        torch.manual_seed(seed + 1_000_003)
        self.truth: MaterialMaps = layered_materials(spec.test_samples, spec.size)
        self.observed: torch.Tensor = flash_picture(self.truth)
        self.places: list[tuple[torch.Tensor, torch.Tensor]] = [
            (random_places(spec.test_samples), random_places(spec.test_samples)) for _ in range(NEW_LIGHTS)
        ]
        self.mean: MaterialMaps = _constant(layered_materials(256, spec.size), spec.test_samples)

    def contact_sheet(self, images: torch.Tensor) -> NDArray[Any]:
        """Pictures side by side, the brightest pixels cut."""
        return contact_sheet(images.clamp(0, 1))

    def training(self) -> "SVBRDFTraining":
        """The training of the network."""
        return SVBRDFTraining(self)

    def errors(self, found: MaterialMaps) -> dict[str, dict[str, float]]:
        """RMSE of each map and of logarithms of pictures under new lights from new places; and over two baselines.

        Returns:
            `rmse`; `over_mean_map`, over that of the mean of all materials; `over_own_mean`, over that of the mean of
            each sample's own maps, which no estimator knows (without a map that is one number in every sample).
        """
        rmse = self._rmse(found)
        mean, own = self._rmse(self.mean), self._rmse(_own_mean(self.truth))
        return {
            "rmse": rmse,
            "over_mean_map": {name: value / mean[name] for name, value in rmse.items()},
            "over_own_mean": {name: value / own[name] for name, value in rmse.items() if own[name] > 1e-6},
        }

    def _rmse(self, maps: MaterialMaps) -> dict[str, float]:
        truth = self.truth.as_dict()
        squares = {name: (value - truth[name]).square().mean() for name, value in maps.as_dict().items()}
        lit = [
            ((relit(maps, *place) + 0.01).log() - (relit(self.truth, *place) + 0.01).log()).square().mean()
            for place in self.places
        ]
        squares["new_lights"] = torch.stack(lit).mean()
        return {name: float(value.sqrt()) for name, value in squares.items()}


class SVBRDFTraining(GradientTraining):
    """Adam on the rendering loss and the squared error of the maps, new materials in each step."""

    def __init__(self, problem: SVBRDFProblem) -> None:
        spec = problem.spec
        torch.manual_seed(problem.seed)
        self.problem = problem
        self.network: MapsNetwork = MapsNetwork(width=spec.width)
        super().__init__(
            self.network,
            self._objective,
            num_iterations=spec.iterations,
            learning_rate=spec.learning_rate,
            cosine=True,
            clip_norm=1.0,
        )

    def _objective(self) -> dict[str, torch.Tensor]:
        spec = self.problem.spec
        with torch.no_grad():
            true = layered_materials(spec.batch, spec.size)
            picture = flash_picture(true)
        found = self.network(picture)
        truth = true.as_dict()
        squares = [
            (value - truth[name]).square().mean() / TYPICAL[name] ** 2 for name, value in found.as_dict().items()
        ]
        return {
            "rendering": rendering_loss(found, true, pairs=1),
            "maps": spec.maps_weight * torch.stack(squares).mean(),
        }

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write `model/`, pictures and a report; the summary holds the errors on unseen samples.

        Its keys: `estimate`, the network's answer, and `refined`, that answer made to agree with the picture.
        """
        problem = self.problem
        with torch.no_grad():
            found = {"estimate": self.network(problem.observed)}
            if problem.spec.refine:
                found["refined"] = refined(found["estimate"], problem.observed, steps=problem.spec.refine)[0]
            summary: dict[str, Any] = {name: problem.errors(maps) for name, maps in found.items()}
            found = {"true": problem.truth, **found}
            sheet = comparison({"flash picture": problem.observed[:SHOWN].clamp(0, 1), **_rows(found)})
            light, eye = problem.places[0]
            lit = {name: relit(maps, light, eye)[:SHOWN] for name, maps in found.items()}
        again = comparison({f"new light and place: {name}": value.clamp(0, 1) for name, value in lit.items()})
        out.write("maps.png", sheet)
        out.write("new_lights.png", again)
        out.write("fit.json", summary)
        write_model(
            out,
            problem.spec.type,
            self.network.state_dict(),
            reads="a flash photograph of a flat sample, the camera over its middle, linear RGB",
            gives="normal, base colour, metallic and roughness of each pixel",
            options={"width": problem.spec.width, "refine": problem.spec.refine},
            trained_on={"size": problem.spec.size, "materials": "random layered ones, two to a sample"},
            tested=summary,
        )
        figures = ReportTable(("figure", "value"), summary_rows(summary))
        pictures = [Picture(sheet, "Unseen materials"), Picture(again, "The same, lit and seen from elsewhere")]
        write_report(
            out.path / "report.html", "Material from one picture", {"Figures": [figures], "Pictures": pictures}
        )
        return summary


def _rows(found: dict[str, MaterialMaps]) -> dict[str, torch.Tensor]:
    """Rows of pictures: each map, what was found below what is true."""
    rows = {}
    for name in ("normal", "base_colour", "metallic", "roughness"):
        for which, maps in found.items():
            value = getattr(maps, name)[:SHOWN]
            rows[f"{name.replace('_', ' ')}, {which}"] = (
                0.5 + 0.5 * value if name == "normal" else value.expand(*value.shape[:-1], 3)
            )
    return rows


def _constant(maps: MaterialMaps, count: int) -> MaterialMaps:
    """The mean over all samples and texels, in every texel of `count` samples."""
    n = maps.normal.shape[1]
    values = {name: value.mean((0, 1, 2)).expand(count, n, n, -1) for name, value in maps.as_dict().items()}
    values["normal"] = torch.nn.functional.normalize(values["normal"], dim=-1)
    return MaterialMaps(**values)


def _own_mean(maps: MaterialMaps) -> MaterialMaps:
    values = {name: value.mean((1, 2), keepdim=True).expand_as(value) for name, value in maps.as_dict().items()}
    values["normal"] = torch.nn.functional.normalize(values["normal"], dim=-1)
    return MaterialMaps(**values)
