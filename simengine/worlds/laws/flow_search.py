"""Moduli and a yield surface from positions alone: the part of a law that decides which deformations are hidden.

The elastic F of a flowing body is not observed, and it depends on the law that is sought. `follow` carries C and F
along the observed positions with the law at hand; what it misses of each next velocity is a residual without drift or
chaos.
Candidates of different nature (no flow, a fluid, a constant yield, a cone, a limit of the volume) are compared by it,
then the best is refined by Levenberg-Marquardt in its few leading numbers. All else is left to the momentum balance.
"""

import dataclasses
import math
from collections.abc import Mapping

import torch

from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.least_squares import LeastSquaresTraining, Residual, difference_jacobian
from simengine.fit.trainings.parameters import Parameter, ParameterSet
from simengine.materials.neural_energy import EnergyNetwork
from simengine.materials.neural_yield import YieldNetwork
from simengine.mpm import MPMModel, SimulationError
from simengine.worlds.laws.balance import FLOAT32_STEP, laws_state, load_laws
from simengine.worlds.motion.momentum_balance import Motion, follow, rounding_of_velocities

TOLERANCE = 2e-2  # a step that ends the refinement on a part: the next one is far smaller
_NAMES = ("mu", "kappa", "level", "slope", "cap")


@dataclasses.dataclass(frozen=True)
class YieldSurface:
    """A yield surface |D| <= a max(level - slope v/a, 0), in units of the strain scale a; see `YieldNetwork`.

    Attributes:
        name: What it is like.
        level: At v = 0; infinite for no flow.
        slope: Growth under compression.
        cap: Largest volume strain in units of a; infinite for none.
    """

    name: str
    level: float
    slope: float = 0.0
    cap: float = math.inf

    @property
    def fluid(self) -> bool:
        """Whether there is no shear strain at all: only the energy is left to be found, by the balance."""
        return self.level == 0 and self.slope == 0

    def parameters(self) -> dict[str, Parameter]:
        """What is sought beside the moduli; a fluid has nothing."""
        found = {}
        if math.isfinite(self.level) and not self.fluid:
            found = {"level": Parameter(initial=self.level), "slope": Parameter(initial=self.slope)}
        if math.isfinite(self.cap):
            found["cap"] = Parameter(initial=self.cap)
        return found


CANDIDATES = (
    YieldSurface("elastic", math.inf),
    YieldSurface("fluid", 0.0),
    YieldSurface("ductile, weak", 0.3),
    YieldSurface("ductile", 1.0),
    YieldSurface("grains, weak", 0.0, 0.3, 0.0),
    YieldSurface("grains", 0.0, 1.0, 0.0),
    YieldSurface("no tension", math.inf, 0.0, 0.0),
)


class FlowSearch(AbstractTraining):
    """The first iteration chooses a candidate, the others refine it on a part, then on the whole of the motion.

    The laws of the model are set after each.

    Args:
        model: Its one material holds an `EnergyNetwork` and a `YieldNetwork`.
        motion: What was observed: nothing but `x` and `v[0]` is read.
        num_iterations: Of the refinement, at most; the last two are on the whole motion.
        parts: Of the motion used for the choice and for the first refinement.
    """

    def __init__(
        self,
        model: MPMModel,
        motion: Motion,
        *,
        num_iterations: int = 8,
        parts: tuple[float, float] = (0.2, 0.3),
    ) -> None:
        self.model: MPMModel = model
        self.motion: Motion = motion
        self.parts: tuple[float, float] = parts
        self.num_iterations: int = num_iterations + 1
        self.iteration: int = 0
        self.choice: int = -1
        self.whole: bool = False
        energy, flow = model.materials[0].elasticity, model.materials[0].plasticity
        if not isinstance(energy, EnergyNetwork) or not isinstance(flow, YieldNetwork):
            raise TypeError(f"model: expected an EnergyNetwork and a YieldNetwork, got {energy} and {flow}")
        self.energy: EnergyNetwork = energy
        self.flow: YieldNetwork = flow
        self.search: LeastSquaresTraining | None = None
        self.start: dict[str, float] = {}
        with torch.no_grad():
            energy.raw_weights.zero_()

    def _steps(self, part: float) -> int:
        return max(2, round(part * len(self.motion)))

    def _residual(self, steps: int, candidate: YieldSurface) -> Residual:
        def residual(values: dict[str, torch.Tensor]) -> torch.Tensor:
            self._set(candidate, values)
            try:
                missed = follow(self.model, self.motion.x[: steps + 1], self.motion.v[0])[1]
            except SimulationError:
                return torch.full((steps * self.motion.x[0].numel(),), math.inf)
            return missed.flatten().double()

        return residual

    def _set(self, candidate: YieldSurface, values: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for k, name in enumerate(("mu", "kappa")):
                if name in values:
                    self.energy.log_moduli[k] = values[name].log()
            level, slope, cap = (values.get(n, getattr(candidate, n)) for n in ("level", "slope", "cap"))
            self.flow.set_line(float(level), float(slope), cap=float(cap))

    def _begin(self, candidate: YieldSurface, steps: int, start: Mapping[str, float] | None) -> None:
        mu, kappa = self.energy.log_moduli.detach().exp().tolist()
        sought = {"kappa": Parameter(initial=kappa, lower=0.0), **candidate.parameters()}
        if not candidate.fluid:  # which shows no shear modulus
            sought["mu"] = Parameter(initial=mu, lower=0.0)
        if start is not None:
            sought = {name: dataclasses.replace(p, initial=start[name]) for name, p in sought.items()}
        self.start = {name: p.initial for name, p in sought.items()}
        parameters, residual = ParameterSet(sought), self._residual(steps, candidate)
        self.search = LeastSquaresTraining(
            parameters,
            residual,
            jacobian=difference_jacobian(residual, central=False, step=FLOAT32_STEP),
            num_iterations=self.num_iterations,
        )

    def step(self) -> dict[str, float]:
        """Choose, or one step of Levenberg-Marquardt; `loss` is the mean square of the velocity missed [m^2/s^2]."""
        if self.iteration == 0:
            steps = self._steps(self.parts[0])
            values = dict(zip(("mu", "kappa"), self.energy.log_moduli.detach().exp(), strict=True))
            scores: list[float] = []
            for candidate in CANDIDATES:
                own = {name: torch.tensor(p.initial) for name, p in candidate.parameters().items()}
                scores.append(float(self._residual(steps, candidate)({**values, **own}).square().mean()))
            self.choice = min(range(len(scores)), key=lambda k: scores[k])
            self._set(CANDIDATES[self.choice], values)
            self._begin(CANDIDATES[self.choice], self._steps(self.parts[1]), None)
            figures = {"loss": scores[self.choice], "candidate": float(self.choice)}
        else:
            assert self.search is not None
            if not self.whole and (self._settled or self.iteration >= self.num_iterations - 2):
                self.whole = True
                self._begin(CANDIDATES[self.choice], len(self.motion), self.search.estimates())
                loss = float(self.search.residual(self.search.parameters()).square().mean())
                figures = {"loss": loss}
                if loss <= rounding_of_velocities(self.motion, self.model.grid.dt):
                    self.search.last_step.zero_()
            else:
                figures = self.search.step()
        assert self.search is not None
        self._set(CANDIDATES[self.choice], self.search.parameters())
        self.iteration += 1
        return figures

    @property
    def converged(self) -> bool:
        """Whether the refinement on the whole motion has come to rest; a fluid leaves nothing to refine."""
        if self.iteration and CANDIDATES[self.choice].fluid:
            return True
        return self.whole and self._settled

    @property
    def _settled(self) -> bool:
        """Whether the last step was so small that Levenberg-Marquardt's next one would not matter."""
        return self.search is not None and float(self.search.last_step) < TOLERANCE

    def estimates(self) -> dict[str, float]:
        """Moduli in units of M, level, slope and cap in units of the strain scale."""
        return {} if self.search is None else self.search.estimates()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The laws, the candidate and its search."""
        search = {} if self.search is None else {f"search.{k}": v for k, v in self.search.state_dict().items()}
        place = torch.tensor([self.iteration, self.choice, int(self.whole)])
        start = torch.tensor([self.start.get(name, 0.0) for name in _NAMES], dtype=torch.float64)
        return {**laws_state(self.model), **search, "start": start, "place": place}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self.iteration = int(state["place"][0])
        self.choice = int(state["place"][1])
        self.whole = bool(state["place"][2])
        load_laws(self.model, state)
        if self.choice >= 0:
            steps = len(self.motion) if self.whole else self._steps(self.parts[1])
            self._begin(CANDIDATES[self.choice], steps, dict(zip(_NAMES, state["start"].tolist(), strict=True)))
            assert self.search is not None
            self.search.load_state_dict({k.removeprefix("search."): v for k, v in state.items() if "search." in k})
