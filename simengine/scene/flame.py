"""Scenes of one-dimensional laminar flames: a flame to solve, and what of it to find from measurements."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch

from simengine.fit.flame import UNITS, FlameTraining
from simengine.fit.parameters import Parameter, ParameterSet
from simengine.flame.simplified import SimplifiedFlame
from simengine.flame.solver import FlameSolution, SpectralSolver
from simengine.scene.base import AbstractScene, SceneError
from simengine.scene.strict import Count, Positive, Range

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True, kw_only=True)
class FreeSimple:
    """The simplified freely propagating flame; see `SimplifiedFlame` for the keys and units."""

    type: Literal["free_simple"] = "free_simple"
    lam: Positive = 2.6e-2
    cp: Positive = 1000.0
    qF: Positive = 5e7
    A: Positive = 1.4e8
    Ea: Positive = 1.214172e5
    W: Positive = 28.97e-3
    phi: Positive = 0.42
    p: Positive = 101325.0
    T_in: Positive = 298.0
    gradient: Positive = 1e5

    def flame(self) -> SimplifiedFlame:
        """The equations."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "type"}
        return SimplifiedFlame(**{k: torch.tensor(v, dtype=torch.float64) for k, v in values.items()})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sought:
    """One parameter to find.

    Attributes:
        initial: Where the search starts.
        lower: Exclusive lower bound.
        upper: Exclusive upper bound; None for none.
    """

    initial: float
    lower: float = 0.0
    upper: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlameFit:
    """What to find, from what.

    Attributes:
        parameters: Parameter of the flame -> where to look for it.
        profiles: Measured profiles, by name.
        data: CSV file with a header, a column `x` [m] and one for each profile [SI]; None to make data from the scene's
            own flame with the scene's seed.
        points: How many points of made data, spread evenly over `span`.
        span: First and last point of made data [m].
        noise: Relative standard deviation of the data; 0 to estimate it from the residual.
        scaling: What the noise is relative to: each value, or the largest of its profile.
        num_iterations: At most so many steps.
    """

    parameters: dict[str, Sought]
    profiles: tuple[str, ...] = ("T", "u")
    data: Path | None = None
    points: Count = 10
    span: tuple[float, float] = (0.0, 1.5e-3)
    noise: Annotated[float, Range(ge=0, lt=1)] = 0.02
    scaling: Literal["relative", "absolute"] = "relative"
    num_iterations: Count = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlameScene(AbstractScene):
    """A flame, and optionally an inverse problem about it.

    Attributes:
        flame: Which flame, under which conditions.
        resolution: Largest tail of the Chebyshev coefficients over the scale of each field.
        fit: What to find from measurements.
    """

    kind: ClassVar[str] = "flame"
    flame: FreeSimple = dataclasses.field(default_factory=FreeSimple)
    resolution: Annotated[float, Range(gt=0, lt=1)] = 1e-7
    fit: FlameFit | None = None

    def build(self, *, device: str | None = None) -> SimplifiedFlame:
        """The equations of the flame. They are solved on the CPU, where small factorisations are fastest."""
        return self.flame.flame()

    def solve(self) -> FlameSolution:
        """The flame.

        Raises:
            SolveError: None was found.
        """
        return SpectralSolver(resolution=self.resolution).solve(self.build()).value

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Solve the flame; write its profiles as `profiles.npz` and `profiles.png`."""
        from simengine.view.figures import curves

        solved = SpectralSolver(resolution=self.resolution).solve(self.build())
        flame = solved.value
        x = flame.x[0]
        profiles = {name: value[0].numpy() for name, value in flame.profiles(x).items()}
        out.write("profiles.npz", {"x": x.numpy(), **profiles})
        shown = (x < 0.4 * x.max()).numpy()
        panels = {
            UNITS.get(name, name): {name: (x.numpy()[shown] * 1e3, value[shown])} for name, value in profiles.items()
        }
        out.write("profiles.png", curves(panels, xlabel="x [mm]"))
        summary = {
            "eigenvalue": float(flame.eigenvalue[0]),
            "T_max": float(profiles["T"].max()),
            "points": solved.stats["num_points"],
            "newton_iterations": solved.stats["num_iterations"],
            "error_estimate": float(solved.stats["tail"].max()),
        }
        out.write("summary.json", summary)
        return summary

    def training(self, *, device: str | None = None) -> FlameTraining:
        """Least squares over the sought parameters."""
        if self.fit is None:
            raise SceneError("this flame has no [fit] table, so there is nothing to find; add one with parameters")
        wanted, flame, truth = self.fit, self.build(), None
        try:
            parameters = ParameterSet(
                {
                    name: Parameter(
                        initial=s.initial, lower=s.lower, upper=float("inf") if s.upper is None else s.upper
                    )
                    for name, s in wanted.parameters.items()
                }
            )
        except ValueError as error:
            raise SceneError(f"fit.parameters: {error}") from error
        if wanted.data is not None:
            x, measured = _read(wanted.data, wanted.profiles)
        else:
            truth = self.solve()
            x = torch.linspace(*wanted.span, wanted.points, dtype=torch.float64)
            measured = self._synthetic(truth, x, wanted)
        return FlameTraining(
            flame,
            parameters,
            x=x,
            measured=measured,
            noise=wanted.noise,
            scaling=wanted.scaling,
            solver=SpectralSolver(resolution=self.resolution),
            truth=truth,
            num_iterations=wanted.num_iterations,
        )

    def _synthetic(self, truth: FlameSolution, x: torch.Tensor, wanted: FlameFit) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        profiles, measured = truth.profiles(x), {}
        for name in wanted.profiles:
            if name not in profiles:
                raise SceneError(f"fit.profiles: {name!r} is no profile of this flame; known: {', '.join(profiles)}")
            value = profiles[name][0].detach()
            error = wanted.noise * torch.randn(len(x), generator=generator, dtype=torch.float64)
            measured[name] = value * error.exp() if wanted.scaling == "relative" else value + error * value.abs().max()
        return measured

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """Whether the flame is found cold, and how well it is resolved."""
        solved = SpectralSolver(resolution=self.resolution).solve(self.build(), throw=False)
        report: dict[str, Any] = {
            "ok": solved.success,
            "result": solved.result.name.lower(),
            "remedy": solved.result.remedy,
        }
        if solved.success:
            report |= {"eigenvalue": float(solved.value.eigenvalue[0]), "points": solved.stats["num_points"]}
        return report


def _read(file: Path, profiles: tuple[str, ...]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    import csv

    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        columns = {
            name: torch.tensor([float(row[name]) for row in rows], dtype=torch.float64) for name in ("x", *profiles)
        }
    except OSError as error:
        raise SceneError(f"fit.data: {file}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise SceneError(f"fit.data: {file}: expected columns of numbers x, {', '.join(profiles)}: {error}") from error
    return columns.pop("x"), columns
