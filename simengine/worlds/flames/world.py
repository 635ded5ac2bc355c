"""Scenes of one-dimensional laminar flames: a flame to solve, which instruments observe."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.burner import BurnerFlame
from simengine.flame.equations.counterflow import CounterflowFlame
from simengine.flame.equations.detailed import AbstractDetailedFlame
from simengine.flame.equations.free import FreeFlame
from simengine.flame.equations.simplified import SimplifiedFlame
from simengine.flame.solver.adaptive import AbstractFlameSolver
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import GridSolver, SpectralSolver
from simengine.scene.asks import Ask, Series, Table, View
from simengine.scene.base import AbstractRun, AbstractWorld, SceneError
from simengine.scene.strict import Range
from simengine.worlds.flames.gas import GasSpec
from simengine.worlds.flames.network import UNITS, FlameNetworkTraining, trainers
from simengine.worlds.flames.reactors import Reactor, scalars_within
from simengine.worlds.flames.specs import AdaptiveGrid, Burner, FlameNetworkSpec, Free, FreeSimple
from simengine.worlds.flames.stagnation import Counterflow, Diffusion, Impinging, Twin

if TYPE_CHECKING:
    from simengine.fit.problem import Problem
    from simengine.fit.training import AbstractTraining
    from simengine.io.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlameWorld(AbstractWorld):
    """A flame.

    Attributes:
        gas: Its gas; a simplified flame has none.
        flame: Which flame, under which conditions.
        resolution: Largest tail of the Chebyshev coefficients over the scale of each field [1].
        grid: Solve on an adaptive grid instead of spectral elements.
        reactor: The vessels in which `ignition_delay` and `stirred_T`, `stirred_X_CO`, ... of a table are measured.
        network: What `fit` trains on the equations where nothing is observed; with `inference.method = "network"` on
            the observations as well.
    """

    kind: ClassVar[str] = "flame"
    answers: ClassVar[frozenset[type[Ask]]] = frozenset((Series, Table, View))
    moved: ClassVar[Mapping[str, str]] = {
        "fit": "is now [observations.NAME], with a file, and [unknowns]; see the shipped scene free_flame_methane"
    }
    gas: GasSpec | None = None
    flame: FreeSimple | Free | Counterflow | Burner | Diffusion | Twin | Impinging = dataclasses.field(
        default_factory=FreeSimple
    )
    resolution: Annotated[float, Range(gt=0, lt=1)] = 1e-7
    grid: AdaptiveGrid | None = None
    reactor: Reactor = dataclasses.field(default_factory=Reactor)
    network: FlameNetworkSpec | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.flame, FreeSimple) and self.gas is None:
            raise ValueError('gas: this flame needs a mechanism, as in [gas] mechanism = "gri30.yaml"')
        if isinstance(self.flame, FreeSimple) and self.gas is not None:
            raise ValueError("gas: a simplified flame has no mechanism; remove [gas], or choose flame.type = 'free'")
        if isinstance(self.flame, Burner) and self.flame.temperature is not None and self.grid is None:
            raise ValueError("flame.temperature: spectral elements cannot follow its kinks; add a table [grid]")
        if self.grid is not None and self.resolution != FlameWorld.resolution:
            raise ValueError("resolution: is that of spectral elements, and [grid] has criteria of its own; remove one")

    def build(self, *, device: str | None = None) -> AbstractFlame:
        """The equations of the flame. They are solved on the CPU, where small factorisations are fastest.

        Raises:
            ValueError: The fresh gas is of species that the mechanism lacks, or does not burn.
        """
        if isinstance(self.flame, Free) and self.gas is not None:
            self.flame.refuse_unknown_species(self.gas.gas.mechanism)
        return self.flame.flame(self.gas)  # type: ignore[arg-type]

    def reduced(self) -> AbstractFlame:
        """The same flame without the species that nothing fed can become, for tables, which ask for no species."""
        flame = self.build()
        return flame.reduced() if isinstance(flame, AbstractDetailedFlame) else flame

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

    def prepare(self, asks: Sequence[Ask]) -> "FlameWorld":
        """Itself, after a look at what is asked.

        Raises:
            SceneError: A scalar, a field or a condition is none of this flame.
        """
        from simengine.worlds.flames.answers import check_asks

        check_asks(self, asks)
        return self

    def solve(
        self,
        asks: Sequence[Ask],
        *,
        gradient: bool = False,
        near: AbstractRun | None = None,
        device: str | None = None,
    ) -> AbstractRun:
        """The flame as it stands, and one for each row of a table."""
        from simengine.worlds.flames.answers import solve

        return solve(self, asks, near=near)

    def solve_kept(self, asks: Sequence[Ask], folder: Path, *, near: AbstractRun | None = None) -> AbstractRun:
        """Each flame starts from its like in the folder: one that an earlier process found costs a step or two."""
        from simengine.worlds.flames.answers import solve
        from simengine.worlds.flames.kept import KeptFlames

        kept = KeptFlames(self, folder)
        return solve(self, asks, near=near or kept.before, keep=kept.keep)

    def resumed(self, state: "Mapping[str, torch.Tensor]") -> AbstractRun:
        """Flames start from their like, so those that were solved are kept."""
        from simengine.worlds.flames.answers import resumed

        return resumed(self, state)

    def scalars(self) -> Mapping[str, str]:
        """Speed or pressure curvature, T_max, thickness; fields T, u, ..., Y_*, X_*; what vessels tell."""
        from simengine.worlds.flames.readings import scalars_of

        flame = self.build()
        return {**scalars_of(flame), **scalars_within(flame)}

    def plausible(self) -> Mapping[str, tuple[str, float, float]]:
        """Speeds, temperatures and pressures of flames."""
        from simengine.worlds.flames.readings import PLAUSIBLE

        return PLAUSIBLE

    def sizes(self) -> Mapping[str, float]:
        """Of laminar flames."""
        return {"m": 1e-3, "m/s": 1.0, "K": 1000.0, "Pa": 1e5, "J/mol": 1e4, "1": 1.0}

    def refined(self, factor: float) -> "FlameWorld":
        """Criteria of the grid over `factor`; of spectral elements, tails 100 times smaller for a factor of two.

        Of a body in space as many more cells.
        """
        if self.flame.body is not None:
            body = dataclasses.replace(self.flame.body, cells=round(self.flame.body.cells * factor))
            own = dataclasses.replace(self, flame=dataclasses.replace(self.flame, body=None, light=None))
            spec = dataclasses.replace(self.flame, body=body)
            return dataclasses.replace(own.refined(factor), flame=spec)
        if self.grid is not None:
            grid = dataclasses.replace(self.grid, slope=self.grid.slope / factor, curve=self.grid.curve / factor)
            return dataclasses.replace(self, grid=grid)
        return dataclasses.replace(self, resolution=self.resolution * 10.0 ** (2 - 2 * factor))

    def methods(self, problem: "Problem") -> "Mapping[str, Callable[[], AbstractTraining]]":
        """A network that finds the unknowns while it is trained on the equations."""
        return {"network": lambda: self._network_on(problem)}

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

    def training(self, *, device: str | None = None) -> "AbstractTraining":
        """A network on the equations alone."""
        if self.network is None:
            raise SceneError(
                "this flame has neither [observations] nor [network], so there is nothing to find; add one of them"
            )
        return self._network(self.network, {}, None, self.solution())

    def _network_on(self, problem: "Problem") -> FlameNetworkTraining:
        """The network with the data and unknowns of a problem.

        Raises:
            SceneError: Several observations, no profiles over x, or an unknown that the equations have no name for.
        """
        spec = self.network or FlameNetworkSpec()
        name, *more = problem.instruments
        measured = problem.measured[name]
        if more or "x" not in measured.at:
            raise SceneError("inference.method: a network is trained on one observation, profiles against x")
        instrument = problem.instruments[name]
        sigma = instrument.noise(measured)
        if bool(sigma.isnan().any()) or not bool(measured.fitted.all()):
            raise SceneError(f"observations.{name}: a network needs a sigma, and rows without gaps or hold_out")
        x = measured.at["x"] - getattr(instrument, "shift", 0.0)
        fields = [c.removeprefix("Y_") for c in measured.names]
        data = (
            x,
            {c: measured.values[:, k] for k, c in enumerate(fields)},
            {c: sigma[:, k] for k, c in enumerate(fields)},
        )
        sought = {}
        for coordinate in problem.coordinates:
            sought[self._name_in_flame(coordinate.targets)] = coordinate.start
        return self._network(spec, sought, data, None)

    def _name_in_flame(self, targets: Sequence[tuple[str, str, str]]) -> str:
        from simengine.scene.address import parts_of

        if len(targets) == 1 and targets[0][0] == "run":
            parts = parts_of(targets[0][2])
            found = parts[1] if parts[0] == "flame" and len(parts) == 2 else None
            if parts[0] == "gas" and self.gas is not None:
                found = self.gas.name_in_flame(parts)
            if found is not None:
                return found
        raise SceneError(f"unknowns.{targets[0][2]}: a network does not seek it; use inference.method = least_squares")

    def _network(
        self, spec: FlameNetworkSpec, sought: Any, data: Any, truth: FlameSolution | None
    ) -> FlameNetworkTraining:
        flame = self.build()
        if not isinstance(flame, SimplifiedFlame | FreeFlame | CounterflowFlame) or isinstance(flame, BurnerFlame):
            raise SceneError("network: trained for flame.type free_simple, free, counterflow and diffusion")
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
