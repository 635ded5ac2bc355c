"""A learned law as a formula: the terms of its energy, the line of its yield surface, each number with its bar.

The learned law tells which deformations are hidden in a motion. Along them a few terms of a library are chosen by the
balance of momentum (`sparse`), the motion is followed with what was chosen, and so on until the choice stays; a term
has to lower what is missed by more than chance. Then all numbers together follow by Gauss-Newton from what `follow`
misses of the velocities, with a covariance in which all that one particle tells counts as one observation (White's, by
clusters).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from simengine.materials import Identity, Material
from simengine.materials.formula import TERMS, FormulaEnergy
from simengine.materials.neural_yield import YieldNetwork
from simengine.mpm import MPMModel, SimulationError
from simengine.worlds.laws.balance import FLOAT32_STEP, with_material
from simengine.worlds.laws.formula.sparse import best_of_each_size, free_numbers
from simengine.worlds.motion.momentum_balance import Motion, follow, frames

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
        return Material(self.energy, _flow(self.line))

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


def _flow(line: dict[str, float] | None) -> torch.nn.Module:
    if line is None:
        return Identity()
    flow = YieldNetwork(strain_scale=1.0)
    with torch.no_grad():  # the line has to hold for all v of a solid: up to the last kink
        flow.kinks.mul_(10.0)
    flow.set_line(line["level"], line["slope"], cap=line["cap"])
    return flow


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
    reader = _Reader(model, motions)
    law = reader.choose_law()
    values, covariance, missed = reader.with_bars(law)
    return Formula(
        *law.set(values), law.names(), values, covariance, missed, reader.learned_missed, tuple(reader.others)
    )


@dataclasses.dataclass(frozen=True)
class _Law:
    """An energy and a line, and which numbers of the line are sought."""

    energy: FormulaEnergy
    line: dict[str, float] | None
    sought: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        terms = self.energy.terms
        double = len(set(terms)) < len(terms)
        called = [f"{name} {k}" if double else name for k, name in enumerate(terms)]
        inside = [f"{called[k]} {TERMS[terms[k]].number}" for k in free_numbers(terms)]
        return (*(f"{name} c" for name in called), *inside, *self.sought)

    def values(self) -> torch.Tensor:
        line = [] if self.line is None else [self.line[name] for name in self.sought]
        inside = self.energy.numbers[free_numbers(self.energy.terms)]
        return torch.cat((self.energy.coefficients, inside, torch.tensor(line, dtype=torch.float64)))

    def set(self, values: torch.Tensor) -> tuple[FormulaEnergy, dict[str, float] | None]:
        terms, inside = self.energy.terms, free_numbers(self.energy.terms)
        count = len(terms)
        numbers = self.energy.numbers.clone()
        numbers[inside] = values[count : count + len(inside)]
        line = self.line
        if line is not None:
            line = {**line, **dict(zip(self.sought, values[count + len(inside) :].tolist(), strict=True))}
        return FormulaEnergy(terms, values[:count].tolist(), numbers.tolist()), line


class _Reader:
    """Follows the motions with one law after another."""

    def __init__(self, model: MPMModel, motions: Sequence[Motion]) -> None:
        self.model = model
        self.motions = list(motions)
        flow = model.materials[0].plasticity
        self.flow = flow if isinstance(flow, YieldNetwork) else None
        self.particles = sum(len(motion.x[0]) for motion in motions)
        learned = model.materials[0]
        assert isinstance(learned, Material)
        self.seen, missed = self._followed(learned)
        if not self.seen:
            raise ValueError("model: the learned law itself does not move as was observed; train it longer")
        self.learned_missed = float(missed.square().mean())
        self.others: list[tuple[str, float]] = []

    def _followed(self, material: Material) -> tuple[list[Motion], torch.Tensor]:
        """Motions with the hidden F, and what is missed, (steps, particles, 3); nothing where no motion bears it."""
        model = with_material(self.model, material)
        try:
            found = [follow(model, motion.x, motion.v[0]) for motion in self.motions]
        except SimulationError:
            return [], torch.full((1, 1, 3), math.inf, dtype=torch.float64)
        steps = min(len(missed) for _, missed in found)
        return [motion for motion, _ in found], torch.cat([m[:steps].double() for _, m in found], dim=1)

    def score(self, missed: float, numbers: int) -> float:
        """To be low: the logarithm of a likelihood in which a particle is one observation, less its price (BIC)."""
        return self.particles * math.log(missed) + numbers * math.log(self.particles) if missed < math.inf else missed

    def choose_law(self) -> _Law:
        """Terms, and the line of the yield surface.

        An energy can make up for a flow that is slightly wrong by a term too many. So a smaller one is given its own
        line before the two are compared.
        """
        best, smaller = self._choose_energy()
        if self.flow is None:
            return _Law(best, None)
        line = self._line_of(self.flow)
        scored = [self.choose_line(_Law(energy, line)) for energy in (*smaller, best)]
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
                seen, left = self._followed(Material(found.energy, flow))
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
            level, slope = torch.linalg.lstsq(rows, flow.radius(v)[reached]).solution.tolist()
        return {"level": level, "slope": slope, "cap": cap}

    def choose_line(self, law: _Law) -> tuple[float, _Law]:
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
            tried.append(min(halves, key=lambda one: float(self._missed(one, one.values()).square().mean())))
        scored = []
        for one in tried:
            values, _, missed = self._step(one, one.values())
            made = dataclasses.replace(one, energy=one.set(values)[0], line=one.set(values)[1])
            scored.append((self.score(float(missed.square().mean()), len(values)), made))
        return min(scored, key=lambda one: one[0])

    def _missed(self, law: _Law, values: torch.Tensor) -> torch.Tensor:
        energy, line = law.set(values)
        return self._followed(Material(energy, _flow(line)))[1]

    def _columns(self, law: _Law, values: torch.Tensor, missed: torch.Tensor) -> torch.Tensor:
        """Derivatives of what is missed, (steps, particles, 3, numbers), by differences."""
        columns = []
        for k, value in enumerate(values.tolist()):
            size = abs(value) if k < len(values) - len(law.sought) else max(abs(value), 1e-2)
            ahead = values.clone()
            ahead[k] += FLOAT32_STEP * size
            columns.append((self._missed(law, ahead) - missed) / (FLOAT32_STEP * size))
        return torch.stack(columns, dim=-1)

    def _step(self, law: _Law, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Numbers after a step of Gauss-Newton where it misses less, the covariance there, and what is missed."""
        missed = self._missed(law, values)
        columns = self._columns(law, values, missed)
        move, inverse = _gauss_newton(columns, missed)
        after = self._missed(law, values + move)
        if float(after.square().mean()) < float(missed.square().mean()):
            values, missed = values + move, after
        told = torch.einsum("sncp,snc->np", columns, missed)  # each particle's pull on the numbers
        factor = len(told) / max(len(told) - len(values), 1)
        return values, factor * inverse @ (told.T @ told) @ inverse, missed

    def with_bars(self, law: _Law) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Numbers, their covariance, and the mean square missed: two steps."""
        values, covariance, missed = self._step(law, law.values())
        if law.line is None:  # a line was found by a step of its own
            values, covariance, missed = self._step(law, values)
        return values, covariance, float(missed.square().mean())


def _gauss_newton(columns: torch.Tensor, missed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The step, and the inverse of J^T J."""
    J = columns.flatten(0, 2)
    scale = J.norm(dim=0).clamp_min(1e-300)
    inverse = torch.linalg.pinv((J / scale).T @ (J / scale), hermitian=True) / scale[:, None] / scale
    return -inverse @ (J.T @ missed.flatten()), inverse
