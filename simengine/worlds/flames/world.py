"""Scenes of one-dimensional laminar flames: a flame to solve, and what of it to find from measurements."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch

from simengine.fit.parameters import Parameter, ParameterSet
from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.burner import BurnerFlame
from simengine.flame.equations.free import FreeFlame
from simengine.flame.equations.simplified import SimplifiedFlame
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import AbstractFlameSolver, GridSolver, SpectralSolver
from simengine.scene.base import AbstractScene, SceneError
from simengine.scene.strict import Range
from simengine.worlds.flames.network import FlameNetworkTraining, trainers
from simengine.worlds.flames.specs import (
    Burner,
    Counterflow,
    Diffusion,
    Free,
    FreeSimple,
    Grid,
    NetworkSpec,
    ProfileFit,
    SpeedFit,
)
from simengine.worlds.flames.speed import FlameSpeedTraining
from simengine.worlds.flames.tables import read_speeds, read_table
from simengine.worlds.flames.training import UNITS, FlameTraining

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlameScene(AbstractScene):
    """A flame, and optionally an inverse problem about it.

    Attributes:
        flame: Which flame, under which conditions.
        resolution: Largest tail of the Chebyshev coefficients over the scale of each field [1].
        grid: Solve on an adaptive grid instead of spectral elements.
        network: What `fit` trains instead of solving: a network, on the equations alone without `fit`, else on the data
            of `fit` as well.
        fit: What to find from measurements.
    """

    kind: ClassVar[str] = "flame"
    flame: FreeSimple | Free | Counterflow | Burner | Diffusion = dataclasses.field(default_factory=FreeSimple)
    resolution: Annotated[float, Range(gt=0, lt=1)] = 1e-7
    grid: Grid | None = None
    network: NetworkSpec | None = None
    fit: ProfileFit | SpeedFit | None = None

    def build(self, *, device: str | None = None) -> AbstractFlame:
        """The equations of the flame. They are solved on the CPU, where small factorisations are fastest."""
        return self.flame.flame()

    def solution(self) -> FlameSolution:
        """The flame.

        Raises:
            SolveError: None was found.
        """
        return self.solver().solve(self.build()).value

    def solver(self) -> AbstractFlameSolver:
        """Spectral elements, or the grid."""
        if self.grid is None:
            return SpectralSolver(resolution=self.resolution)
        g = self.grid
        solver = GridSolver(max_points=g.max_points, convection=g.convection)
        return solver.set_refine_criteria(ratio=g.ratio, slope=g.slope, curve=g.curve, prune=g.prune)

    def render(self, run: Path, file: Path, *, fps: float) -> Path:
        """The flame in space: a cone of a free flame, a disc of the others; temperature beside light."""
        from simengine.io.arrays import read_npz
        from simengine.worlds.flames.picture import picture_flame

        profiles = run / "profiles.npz"
        if not profiles.is_file():
            raise SceneError(f"{run}: no profiles.npz; solve the flame with simengine run first")
        shape: Literal["cone", "disc"] = "cone" if isinstance(self.build(), (FreeFlame, SimplifiedFlame)) else "disc"
        return picture_flame(read_npz(profiles), file, shape=shape, fps=fps)

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Solve the flame; write its profiles as `profiles.npz` and `profiles.png`."""
        from simengine.view.figures import curves

        solved = self.solver().solve(self.build())
        flame = solved.value
        x = flame.x[0]
        profiles = {name: value[0].numpy() for name, value in flame.profiles(x).items()}
        out.write("profiles.npz", {"x": x.numpy(), **profiles})
        shown = _interesting(x, flame.profiles(x)["T"][0])
        panels: dict[str, dict[str, Any]] = {}
        for name, value in profiles.items():
            panels.setdefault(UNITS.get(name, "mass fraction"), {})[name] = (x.numpy()[shown] * 1e3, value[shown])
        out.write("profiles.png", curves(panels, xlabel="x [mm]"))
        summary = {
            **{name: float(value) for name, value in flame.flame.figures(flame.eigenvalue).items()},
            "T_max": float(profiles["T"].max()),
            "points": solved.stats["num_points"],
            "newton_iterations": solved.stats["num_iterations"],
            "error_estimate": float(solved.stats["error"].max()),
        }
        out.write("summary.json", summary)
        return summary

    def training(self, *, device: str | None = None) -> FlameTraining | FlameSpeedTraining | FlameNetworkTraining:
        """Least squares over the sought parameters; with a `network`, its training."""
        if self.network is not None:
            return self._network(self.network)
        if self.fit is None:
            raise SceneError("this flame has no [fit] table, so there is nothing to find; add one with parameters")
        wanted, flame = self.fit, self.build()
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
        if isinstance(wanted, SpeedFit):
            return self._speeds(wanted, parameters)
        x, measured, truth = self._measured(wanted)
        return FlameTraining(
            flame,
            parameters,
            x=x,
            measured=measured,
            noise=wanted.noise,
            scaling=wanted.scaling,
            solver=self.solver(),
            truth=truth,
            num_iterations=wanted.num_iterations,
        )

    def _measured(self, wanted: ProfileFit) -> tuple[torch.Tensor, dict[str, torch.Tensor], FlameSolution | None]:
        """Points, profiles, and the flame they were made from, if they were."""
        if wanted.data is not None:
            measured, _ = read_table(wanted.data, ("x", *wanted.profiles), units={"x": "m", "T": "K", "u": "m/s"})
            return measured.pop("x"), measured, None
        truth = self.solution()
        x = torch.linspace(*wanted.span, wanted.points, dtype=torch.float64)
        return x, self.synthetic(truth, x, wanted), truth

    def _network(self, spec: NetworkSpec) -> FlameNetworkTraining:
        flame = self.build()
        if isinstance(flame, BurnerFlame):
            raise SceneError("network: trained for flame.type free_simple, free, counterflow and diffusion")
        data, sought, truth = None, {}, None
        if isinstance(self.fit, ProfileFit):
            x, measured, truth = self._measured(self.fit)
            noise = self.fit.noise or 0.01
            relative = self.fit.scaling == "relative"
            data = (x, measured, {name: noise * (v if relative else v.abs().max()) for name, v in measured.items()})
            sought = {name: s.initial for name, s in self.fit.parameters.items()}
        elif self.fit is not None:
            raise SceneError("network: flame speeds are fitted by the solver; remove the network, or fit profiles")
        else:
            truth = self.solution()
        members = trainers(
            flame,
            sought=sought,
            data=data,
            members=spec.members,
            width=spec.width,
            cells=spec.cells,
            optimiser=spec.optimiser,
            seed=self.seed,
        )
        return FlameNetworkTraining(members, num_iterations=spec.num_iterations, truth=truth)

    def _speeds(self, wanted: SpeedFit, parameters: ParameterSet) -> FlameSpeedTraining:
        flame = self.build()
        if not isinstance(flame, FreeFlame):
            raise SceneError("fit.type: flame speeds are those of a free flame; use flame.type = 'free'")
        data = read_speeds(wanted.data)
        inside = (data["phi"] >= wanted.span[0]) & (data["phi"] <= wanted.span[1])
        if not bool(inside.any()):
            raise SceneError(f"fit.span: no data between {wanted.span[0]:g} and {wanted.span[1]:g}")
        noise: float | torch.Tensor = wanted.noise
        if "sigma" in data:
            if wanted.noise:
                raise SceneError("fit.noise: the data have a column sigma; leave noise at 0, or remove the column")
            noise = (data["sigma"] / data["flame_speed"])[inside]
        batch = flame.replace(**{name: data[name][inside] for name in ("phi", "T_in", "p") if name in data})
        assert isinstance(batch, FreeFlame)
        rest = (data["phi"][~inside], data["flame_speed"][~inside])
        return FlameSpeedTraining(
            batch,
            parameters,
            measured=data["flame_speed"][inside],
            noise=noise,
            solver=self.solver(),
            further=rest if len(rest[0]) else None,
            num_iterations=wanted.num_iterations,
        )

    def synthetic(self, truth: FlameSolution, x: torch.Tensor, wanted: ProfileFit) -> dict[str, torch.Tensor]:
        """Profiles of a flame at x (q,) with the noise of `wanted`, drawn with the scene's seed."""
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
        solved = self.solver().solve(self.build(), throw=False)
        report: dict[str, Any] = {
            "ok": solved.success,
            "result": solved.result.name.lower(),
            "remedy": solved.result.remedy,
        }
        if solved.success:
            figures = solved.value.flame.figures(solved.value.eigenvalue)
            report |= {**{k: float(v) for k, v in figures.items()}, "points": solved.stats["num_points"]}
        return report


def _interesting(x: torch.Tensor, T: torch.Tensor) -> Any:
    """Where the temperature changes, and a margin; what lies outside is flat. A mask as an array."""
    rise = (T - T.min()) / (T.max() - T.min())
    inside = x[(rise > 0.005) & (rise < 0.98)]
    margin = 0.5 * (inside.max() - inside.min())
    return ((x >= inside.min() - margin) & (x <= inside.max() + margin)).numpy()
