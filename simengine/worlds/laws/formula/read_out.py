"""A learned law as a formula: the terms of its energy, the line of its yield surface, each number with its bar.

The learned law tells which deformations are hidden in a motion. Along them a few terms of a library are chosen by the
balance of momentum (`sparse`), the motion is followed with what was chosen, and so on until the choice stays; a term
has to lower what is missed by more than chance. Then all numbers together follow by Gauss-Newton from what `follow`
misses of the velocities (`numbers`).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from simengine.materials import Identity, Material
from simengine.materials.formula import TERMS, FormulaEnergy
from simengine.materials.neural_yield import YieldNetwork
from simengine.mpm import MPMModel
from simengine.worlds.laws.formula.numbers import Follower, Law, nearer, numbers_of
from simengine.worlds.laws.formula.sparse import best_of_each_size, free_numbers
from simengine.worlds.motion.momentum_balance import Motion, frames

ROUNDS = 4  # of choosing terms and following with them
HOPELESS = 100.0  # times as much unexplained as the best leaves: not followed
FRAMES = 25  # of each motion whose balance is used
NO_TENSION = 1e-4  # a volume strain so small that it is said to be none
LINE = ("level", "slope", "cap")


@dataclasses.dataclass(frozen=True)
class Formula:
    """What was read.

    Attributes:
        energy: Its terms.
        line: Level, slope and cap of the yield surface |D| <= level - slope v, v <= cap [1]; None where nothing flows.
        names: Of the numbers that were found.
        values: Of them, in the unit of each.
        covariance: Of them.
        missed: Mean square of the velocities that the formula misses [m^2/s^2].
        learned_missed: The same of the learned law.
        others: Energies of other sizes, and the mean square that each misses.
    """

    energy: FormulaEnergy
    line: dict[str, float] | None
    names: tuple[str, ...]
    values: torch.Tensor
    covariance: torch.Tensor
    missed: float
    learned_missed: float
    others: tuple[tuple[str, float], ...]

    def material(self) -> Material:
        """The formula as a material."""
        return Law(self.energy, self.line).material()

    def table(self) -> list[dict[str, Any]]:
        """Numbers with standard deviation and unit, those that follow from them at the end."""
        std = self.covariance.diagonal().sqrt().tolist()
        rows: list[dict[str, Any]] = []
        for name, value, sd in zip(self.names, self.values.tolist(), std, strict=True):
            rows.append({"name": name, "value": value, "std": sd, "unit": "Pa" if name.endswith(" c") else "1"})
        for name, unit, of in _derived(self):
            slope = torch.autograd.functional.jacobian(of, self.values)
            sd = float((slope @ self.covariance @ slope).sqrt())
            rows.append({"name": name, "value": float(of(self.values)), "std": sd, "unit": unit})
        return rows

    def words(self) -> str:
        """Energy and flow in one line."""
        if self.line is None:
            return f"psi = {self.energy}"
        level, slope, cap = (self.line[name] for name in LINE)
        flow = []
        if math.isfinite(level):
            flow.append(f"|D| <= {level:.4g}" + (f" - {slope:.4g} ln J" if slope else ""))
        if math.isfinite(cap):
            flow.append(f"ln J <= {cap:.4g}")
        return f"psi = {self.energy}; " + (" and ".join(flow) or "no flow")


def _derived(formula: Formula) -> list[tuple[str, str, Callable[[torch.Tensor], torch.Tensor]]]:
    """Numbers of the books that follow from those found, where the energy is one shape and one volume term."""
    places = {name: k for k, name in enumerate(formula.names)}
    shapes = [t for t in formula.energy.terms if not TERMS[t].volume]
    volumes = [t for t in formula.energy.terms if TERMS[t].volume]
    if formula.line is None or len(shapes) != 1 or len(volumes) != 1:
        return []
    mu, kappa = places[f"{shapes[0]} c"], places[f"{volumes[0]} c"]
    found: list[tuple[str, str, Callable[[torch.Tensor], torch.Tensor]]] = []
    if "level" in places and not formula.line["slope"]:
        found.append(("yield stress, 2 mu level", "Pa", lambda p: 2 * p[mu] * p[places["level"]]))
    if "slope" in places:

        def angle(p: torch.Tensor) -> torch.Tensor:
            cone = p[places["slope"]] * 2 * p[mu] / (3 * p[kappa])  # alpha of Drucker and Prager
            ratio = cone / math.sqrt(2 / 3) / 2
            return torch.asin(3 * ratio / (1 + ratio)) * (180 / math.pi)

        found.append(("friction angle", "degrees", angle))
    return found


def read_out(model: MPMModel, motions: Sequence[Motion]) -> Formula:
    """The law of a model as a formula.

    Args:
        model: Its one material is the learned law.
        motions: What it was learned from: nothing but `x` and `v[0]` is read.

    Raises:
        ValueError: No formula of the library moves as was observed.
    """
    reader = _LawReader(model, motions)
    found = numbers_of(reader.follower, reader.choose_law())
    law, others = found.law, tuple(reader.others)
    return Formula(
        law.energy, law.line, law.names(), law.values(), found.covariance, found.missed, reader.learned_missed, others
    )


class _LawReader:
    """Follows the motions with one law after another."""

    def __init__(self, model: MPMModel, motions: Sequence[Motion]) -> None:
        self.model = model
        self.follower = Follower(model, motions)
        flow = model.materials[0].plasticity
        self.flow = flow if isinstance(flow, YieldNetwork) else None
        self.particles = sum(len(motion.x[0]) for motion in motions)
        learned = model.materials[0]
        assert isinstance(learned, Material)
        self.seen, missed = self.follower.followed(learned)
        if not self.seen:
            raise ValueError("model: the learned law itself does not move as was observed; train it longer")
        self.learned_missed = float(missed.square().mean())
        self.others: list[tuple[str, float]] = []

    def score(self, missed: float, numbers: int) -> float:
        """To be low: the logarithm of a likelihood in which a particle is one observation, less its price (BIC)."""
        return self.particles * math.log(missed) + numbers * math.log(self.particles) if missed < math.inf else missed

    def choose_law(self) -> Law:
        """Terms, and the line of the yield surface.

        An energy can make up for a flow that is slightly wrong by a term too many. So a smaller one is given its own
        line before the two are compared.
        """
        best, smaller = self._choose_energy()
        if self.flow is None:
            return Law(best, None)
        line = self._line_of(self.flow)
        scored = [self.choose_line(Law(energy, line)) for energy in (*smaller, best)]
        return min(scored, key=lambda one: one[0])[1]

    def _choose_energy(self) -> tuple[FormulaEnergy, list[FormulaEnergy]]:
        """Rounds of choosing and following, until the terms stay; the smaller energies of the last one beside it."""
        flow = self.flow or Identity()
        kept: tuple[str, ...] = ()
        best: tuple[float, FormulaEnergy] | None = None
        smaller = list[FormulaEnergy]()
        for _ in range(ROUNDS):
            part = [
                frames(self.model, motion, range(0, len(motion), max(1, len(motion) // FRAMES))) for motion in self.seen
            ]
            fluid = self.flow is not None and self.flow.fluid
            tried = []
            sizes = best_of_each_size(self.seen, part, volume_only=fluid)
            least = min(found.unexplained for found in sizes)
            for found in sizes:
                if found.unexplained > HOPELESS * least:
                    continue
                seen, left = self.follower.followed(Material(found.energy, flow))
                missed = float(left.square().mean())
                numbers = len(found.energy.terms) + len(free_numbers(found.energy.terms))
                tried.append((self.score(missed, numbers), found.energy, seen, missed))
            self.others = [(str(energy), missed) for _, energy, _, missed in tried if missed < math.inf]
            score, energy, seen, _ = min(tried, key=lambda one: one[0])
            if not seen:
                break
            self.seen = seen
            if best is None or score < best[0]:
                best = score, energy
                smaller = [one for _, one, _, _ in tried if len(one.terms) < len(energy.terms)]
            if energy.terms == kept:
                break
            kept = energy.terms
        if best is None:
            raise ValueError("model: no energy of the library moves as was observed; train the law longer")
        return best[1], smaller

    def _line_of(self, flow: YieldNetwork) -> dict[str, float]:
        """Level, slope and cap of a learned surface, by the strains at which it was reached."""
        from simengine.worlds.motion.momentum_balance import strains

        cap = float(flow.cap.detach())
        if flow.fluid:
            return {"level": 0.0, "slope": 0.0, "cap": cap}
        with torch.no_grad():
            v, size = strains(torch.cat([m.F[::20].flatten(0, 1) for m in self.seen]).double())
            reached = (size > 0.98 * flow.radius(v)) & (size > 1e-4)
            if int(reached.sum()) < 10:
                return {"level": math.inf, "slope": 0.0, "cap": cap}
            rows = torch.stack((torch.ones_like(v), -v), dim=1)[reached]
            level, slope = torch.linalg.lstsq(rows, flow.radius(v)[reached], driver="gelsd").solution.tolist()
        return {"level": level, "slope": slope, "cap": cap}

    def choose_line(self, law: Law) -> tuple[float, Law]:
        """Leave out of the line what lowers nothing that is missed, slope or level; the law and its score."""
        assert law.line is not None
        line = law.line
        if math.isfinite(line["level"]) and not (line["level"] == 0 and line["slope"] == 0):
            law = dataclasses.replace(law, sought=("level", "slope"))
        if line["cap"] < NO_TENSION:
            line = {**line, "cap": 0.0}
        tried = [dataclasses.replace(law, line=line)]
        if law.sought:
            halves = [
                dataclasses.replace(law, line={**line, left: 0.0}, sought=(kept,))
                for left, kept in (("slope", "level"), ("level", "slope"))
            ]
            tried.append(min(halves, key=self.misses))
        scored = []
        for one in tried:
            closer, missed = nearer(self.follower, one)
            scored.append((self.score(missed, len(one.names())), closer))
        return min(scored, key=lambda one: one[0])

    def misses(self, law: Law) -> float:
        """Mean square of the velocities missed [m^2/s^2]."""
        return float(self.follower.missed(law).square().mean())
