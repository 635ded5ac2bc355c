"""Numbers of a flame from a picture of its light: the gradient goes through the picture and the whole flame.

The flame is solved, its gas shines by temperature and heat release, the sheet is marched as a volume, and the pixels
are compared. The derivative of the flame is implicit: one more solve with the factors of its last Newton step.
"""

import math
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.gradient import GradientTraining
from simengine.fit.trainings.least_squares import LeastSquaresTraining
from simengine.fit.trainings.parameters import Parameter, ParameterSet
from simengine.fit.trainings.staged import StagedTraining
from simengine.flame.emission import Emission
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import SpectralSolver
from simengine.render import Volume, render_volume
from simengine.scene.base import SceneError
from simengine.solve.solution import SolveError
from simengine.view.figures import curves
from simengine.view.report import Block, Picture, Table, write_report
from simengine.view.sheets import comparison, contact_sheet, summary_rows
from simengine.worlds.objects.flame_image_spec import FlameImageSpec

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

Values = dict[str, torch.Tensor]
SHIFT = "shift"  # [m], where the flame stands


class FlameImage:
    """A picture of a true flame, and how those of others differ from it; float64 throughout.

    Attributes:
        observed: Linear RGB, the brightest value about 1, shape (1, h, w, 3).
        truth: The values that the search should find.

    Raises:
        SceneError: A parameter is none of the flame, or a start lies beyond its bounds.
    """

    def __init__(self, spec: FlameImageSpec, *, seed: int) -> None:
        self.spec = spec
        self.flame = spec.flame.flame()
        self._camera = spec.camera.pinhole(double=True)
        self._solver = SpectralSolver(resolution=spec.resolution)
        self._emission = Emission(kappa=spec.kappa, efficiency=spec.efficiency)
        try:
            known = {n: self.flame.parameter(n).detach() for n in spec.parameters if n != SHIFT}
        except ValueError as error:
            raise SceneError(f"task.parameters: {error}") from error
        self.truth = {n: known.get(n, torch.zeros((), dtype=torch.float64)) for n in spec.parameters}
        self._start: FlameSolution | None = None
        self._exposure = torch.ones((), dtype=torch.float64)
        with torch.no_grad():
            exact = self.picture(self.truth)
        self._exposure = 1 / exact.max()
        noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(seed), dtype=exact.dtype)
        self.observed: torch.Tensor = (exact * self._exposure + spec.noise * noise)[None]
        # from now on every flame starts from the one that the search starts at, or cold where that fails
        guess = {n: torch.tensor(entry.initial, dtype=torch.float64) for n, entry in spec.parameters.items()}
        self._start = self._solve({n: value for n, value in guess.items() if n == SHIFT or float(value) > 0})

    def _solve(self, values: Values) -> FlameSolution:
        flame = self.flame.replace(**{n: v for n, v in values.items() if n != SHIFT})
        solved = self._solver.solve(flame, start=self._start, throw=False)
        return solved.value if solved.success else self._solver.solve(flame).value

    def profiles(self, values: Values) -> tuple[torch.Tensor, Values]:
        """Middles of the cells along x [m], shape (q,), and the flame's profiles there, (q,) each."""
        first, last = self.spec.span
        x = first + (last - first) * (torch.arange(self.spec.cells, dtype=torch.float64) + 0.5) / self.spec.cells
        solution = self._solve(values)
        place = x - values[SHIFT] if SHIFT in values else x
        edges = solution.problem.mesh.edges.detach()
        place = place.clamp(float(edges[0, 0]), float(edges[0, -1]))  # fresh and burnt gas go on as they are
        return x, {name: value[0] for name, value in solution.profiles(place).items()}

    def picture(self, values: Values) -> torch.Tensor:
        """Linear RGB of the flame with these values, shape (h, w, 3), differentiable in them."""
        _, profiles = self.profiles(values)
        light = self._emission(profiles["T"], profiles["heat"]) * self._exposure
        (first, last), (across, deep) = self.spec.span, self.spec.extent
        volume = Volume(
            density=torch.zeros(len(light), 1, 1, dtype=light.dtype),
            source=light[:, None, None],
            lower=(first, -across / 2, -deep / 2),
            upper=(last, across / 2, deep / 2),
            emission=True,
        )
        return render_volume(volume, self._camera).rgb

    def residual(self, values: Values) -> torch.Tensor:
        """Differences of the pixels, flat; infinite where there is no such flame and no gradient is asked for."""
        try:
            return (self.picture(values) - self.observed[0]).flatten()
        except SolveError:
            if torch.is_grad_enabled():
                raise
            return torch.full((self.observed.numel(),), torch.inf, dtype=torch.float64)

    def contact_sheet(self, images: torch.Tensor) -> NDArray[Any]:
        """The pictures side by side."""
        return contact_sheet(images.clamp_min(0))

    def training(self) -> AbstractTraining:
        """The search for the parameters."""
        spec = self.spec
        for name, entry in spec.parameters.items():
            if name != SHIFT and entry.initial <= 0:
                raise SceneError(f"task.parameters.{name}: expected a positive start, got {entry.initial:g}")
        entries = {}
        for name, entry in spec.parameters.items():
            least = -math.inf if name == SHIFT else 0.0
            try:
                entries[name] = Parameter(
                    initial=entry.initial,
                    lower=least if entry.lower is None else entry.lower,
                    upper=math.inf if entry.upper is None else entry.upper,
                    scale=entry.scale,
                )
            except ValueError as error:
                raise SceneError(f"task.parameters.{name}: {error}") from error
        parameters = ParameterSet(entries)
        stage: AbstractTraining
        if spec.method == "least_squares":
            stage = LeastSquaresTraining(
                parameters,
                self.residual,
                num_iterations=spec.iterations,
                tolerance=1e-5,
                sigma=spec.noise or None,
            )
        else:
            stage = GradientTraining(
                parameters,
                lambda: {"pixels": self.residual(parameters()).square().sum()},
                num_iterations=spec.iterations,
                optimiser="lbfgs",
                learning_rate=0.1,
            )
        return StagedTraining([stage], finish=lambda last, out: _finish(self, parameters, last, out))


def gradient_check(problem: FlameImage, parameters: ParameterSet, *, step: float = 1e-4) -> dict[str, float]:
    """The adjoint of the loss on pixels, through picture and flame, against central differences.

    Taken a little off the current point (3 % in each coordinate), where the gradient is not zero.
    """
    z = parameters.z.detach() + 0.03

    def loss(point: torch.Tensor) -> torch.Tensor:
        return problem.residual(parameters(point)).square().sum()

    leaf = z.clone().requires_grad_()
    (adjoint,) = torch.autograd.grad(loss(leaf), leaf)
    with torch.no_grad():
        units = torch.eye(len(z), dtype=z.dtype)
        difference = torch.stack([(loss(z + step * u) - loss(z - step * u)) / (2 * step) for u in units])
    return {"relative_error": float((adjoint - difference).norm() / difference.norm())}


def _finish(
    problem: FlameImage, parameters: ParameterSet, last: AbstractTraining, out: "RunDirectory"
) -> dict[str, Any]:
    """Write pictures, profiles and a report; return estimates, their errors and the check of the gradient."""
    found, truth = parameters.values(), {name: float(value) for name, value in problem.truth.items()}
    start = {name: torch.tensor(entry.initial, dtype=torch.float64) for name, entry in parameters.entries.items()}
    with torch.no_grad():
        initial, fitted = problem.picture(start)[None], problem.picture(parameters())[None]
        x, ours = problem.profiles(parameters())
        theirs = problem.profiles(problem.truth)[1]
    summary: dict[str, Any] = {
        "truth": truth,
        "relative_error": {n: abs(value - truth[n]) / abs(truth[n]) for n, value in found.items() if truth[n] != 0},
        "pixel_rmse": float((fitted - problem.observed).square().mean().sqrt()),
        "initial_pixel_rmse": float((initial - problem.observed).square().mean().sqrt()),
        "gradient_check": gradient_check(problem, parameters),
    }
    if isinstance(last, LeastSquaresTraining):
        summary.update(last.uncertainty())
    sheet = comparison({"observed": problem.observed, "initial guess": initial, "fitted": fitted})
    millimetres = x.numpy() * 1e3
    panels: dict[str, dict[str, tuple[Any, Any]]] = {
        label: {"true": (millimetres, theirs[name].numpy()), "found": (millimetres, ours[name].numpy())}
        for name, label in (("T", "T [K]"), ("heat", "heat release [W/m^3]"))
    }
    figure = curves(panels, xlabel="x [mm]")
    out.write("pictures.png", sheet)
    out.write("profiles.png", figure)
    out.write("fit.json", {"parameters": found, **summary})
    blocks: dict[str, list[Block]] = {
        "Figures": [Table(("figure", "value"), summary_rows({"found": found, **summary}))],
        "Pictures": [Picture(sheet, "observed, initial, fitted")],
        "Flame": [Picture(figure, "The flame that the picture tells of")],
    }
    write_report(out.path / "report.html", "A flame from its picture", blocks)
    return {"parameters": found, **summary}
