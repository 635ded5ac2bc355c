"""The numbers of a formula whose terms are chosen: what follows a motion best, with bars that hold.

What a law misses of the velocities is noise of rounded positions, smoothed by the grid, and a hidden deformation that
was followed through that noise. Two things make numbers and bars out of it that can be trusted.

Derivatives are central differences, so that their noise has nothing to do with the residuals that they are multiplied
by. A forward difference holds the residual itself: where bodies flow, what rounding does to a followed motion depends
on the law to the last digit, and sum((m(p + h) - m(p)) m(p))/h is then not 0 on average but the variance of that
noise over h: numbers of sand were some ten bars off.

Bars are a sandwich over blocks of neighbours (Liang & Zeger 1986): all that a block tells over all times counts as
one observation, so errors may be as dependent as they like in time and over what shares nodes of the grid.
"""

import dataclasses
import math
from collections.abc import Sequence

import torch

from simengine.materials import Identity, Material
from simengine.materials.formula import TERMS, FormulaEnergy
from simengine.materials.neural_yield import YieldNetwork
from simengine.mpm import MPMModel, SimulationError
from simengine.worlds.laws.balance import FLOAT32_STEP, with_material
from simengine.worlds.laws.formula.sparse import free_numbers
from simengine.worlds.motion.momentum_balance import Motion, follow

BLOCKS = 64  # of neighbours in a body; fewer where there would be fewer than four particles in one
STEPS = 8  # of Gauss-Newton at most
SHORT = 0.05  # of the differences that derivatives are made with: a step so short leaves them as they are
SETTLED = 0.05  # of a bar: a step so small is the last
JITTER = 1e-2  # of what is missed: rounding alone moves it by some 1e-3 from law to law, so no more than this may rise


@dataclasses.dataclass(frozen=True)
class Law:
    """An energy, a line of the yield surface, and which numbers of the line are sought.

    Attributes:
        energy: Its terms.
        line: Level, slope and cap of the yield surface |D| <= level - slope v, v <= cap [1]; None where nothing flows.
        sought: Names of the numbers of the line that are sought.
    """

    energy: FormulaEnergy
    line: dict[str, float] | None
    sought: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Of the numbers, in the order of `values`."""
        terms = self.energy.terms
        double = len(set(terms)) < len(terms)
        called = [f"{name} {k}" if double else name for k, name in enumerate(terms)]
        inside = [f"{called[k]} {TERMS[terms[k]].number}" for k in free_numbers(terms)]
        return (*(f"{name} c" for name in called), *inside, *self.sought)

    def values(self) -> torch.Tensor:
        """The numbers, (p,) float64, each in its unit."""
        line = [] if self.line is None else [self.line[name] for name in self.sought]
        inside = self.energy.numbers[free_numbers(self.energy.terms)]
        return torch.cat((self.energy.coefficients, inside, torch.tensor(line, dtype=torch.float64)))

    def set(self, values: torch.Tensor) -> "Law":
        """The law with other numbers, (p,)."""
        terms, inside = self.energy.terms, free_numbers(self.energy.terms)
        count = len(terms)
        numbers = self.energy.numbers.clone()
        numbers[inside] = values[count : count + len(inside)]
        line = self.line
        if line is not None:
            line = {**line, **dict(zip(self.sought, values[count + len(inside) :].tolist(), strict=True))}
        energy = FormulaEnergy(terms, values[:count].tolist(), numbers.tolist())
        return dataclasses.replace(self, energy=energy, line=line)

    def material(self) -> Material:
        """The law as a material."""
        return Material(self.energy, flow_of(self.line))


def flow_of(line: dict[str, float] | None) -> torch.nn.Module:
    """What flows along a line |D| <= level - slope v, v <= cap; nothing where it is None."""
    if line is None:
        return Identity()
    flow = YieldNetwork(strain_scale=1.0)
    with torch.no_grad():  # the line has to hold for all v of a solid: up to the last kink
        flow.kinks.mul_(10.0)
    flow.set_line(line["level"], line["slope"], cap=line["cap"])
    return flow


class Follower:
    """Follows observed motions with one law after another.

    Args:
        model: Its material is not used.
        motions: Nothing but `x` and `v[0]` is read.
    """

    def __init__(self, model: MPMModel, motions: Sequence[Motion]) -> None:
        self.model = model
        self.motions = list(motions)

    def followed(self, material: Material) -> tuple[list[Motion], torch.Tensor]:
        """Motions with the hidden F, what is missed [m/s], (steps, particles, 3); none where one does not bear it."""
        model = with_material(self.model, material)
        try:
            found = [follow(model, motion.x, motion.v[0]) for motion in self.motions]
        except SimulationError:
            return [], torch.full((1, 1, 3), math.inf, dtype=torch.float64)
        steps = min(len(missed) for _, missed in found)
        return [motion for motion, _ in found], torch.cat([m[:steps].double() for _, m in found], dim=1)

    def missed(self, law: Law) -> torch.Tensor:
        """What a law misses of the velocities [m/s], (steps, particles, 3)."""
        return self.followed(law.material())[1]

    def lengths(self, law: Law) -> torch.Tensor:
        """Of the differences by which derivatives are taken, (p,), each in the unit of its number."""
        values = law.values().abs()
        values[len(values) - len(law.sought) :].clamp_(min=1e-2)  # a line may go through 0
        return FLOAT32_STEP * values

    def columns(self, law: Law) -> torch.Tensor:
        """Derivatives of what is missed by the numbers, (steps, particles, 3, p), by central differences."""
        values, columns = law.values(), []
        for k, length in enumerate(self.lengths(law).tolist()):
            ahead, behind = values.clone(), values.clone()
            ahead[k] += length
            behind[k] -= length
            columns.append((self.missed(law.set(ahead)) - self.missed(law.set(behind))) / (2 * length))
        return torch.stack(columns, dim=-1)

    def blocks(self) -> torch.Tensor:
        """Block of each particle of all motions, (particles,): halves of halves along the longest side at first."""
        found, count = [], 0
        for motion in self.motions:
            own = _halved(motion.x[0].double(), min(BLOCKS, max(1, len(motion.x[0]) // 4)))
            found.append(own + count)
            count += int(own.max()) + 1
        return torch.cat(found)


def _halved(x: torch.Tensor, count: int) -> torch.Tensor:
    block = torch.zeros(len(x), dtype=torch.long)
    if count >= 2:
        side = int((x.amax(0) - x.amin(0)).argmax())
        upper = torch.zeros(len(x), dtype=torch.bool)
        upper[x[:, side].argsort(stable=True)[len(x) // 2 :]] = True
        block[~upper] = _halved(x[~upper], count // 2)
        block[upper] = _halved(x[upper], count // 2) + int(block.max()) + 1
    return block


@dataclasses.dataclass(frozen=True)
class FollowingLaw:
    """A law with the numbers that follow best.

    Attributes:
        law: With these numbers.
        covariance: Of its values, (p, p).
        missed: Mean square of the velocities that it misses [m^2/s^2].
    """

    law: Law
    covariance: torch.Tensor
    missed: float


def numbers_of(follower: Follower, law: Law) -> FollowingLaw:
    """The numbers of a law by Gauss-Newton from its own, with bars.

    Derivatives are taken anew until steps are short beside the differences that they were made with. After that they
    stay: where J^T r is 0 does not hang on small errors of J. What is left of the way at the end is in the bars.

    Args:
        follower: Of the motions.
        law: Near the answer: by a few per cent.
    """
    missed, columns = follower.missed(law), follower.columns(law)
    blocks = follower.blocks()
    for _ in range(STEPS):
        move, covariance = _step(columns, missed, blocks)
        moved = law.set(law.values() + move)
        after = follower.missed(moved)
        if not float(after.square().mean()) < (1 + JITTER) * float(missed.square().mean()):
            break
        law, missed = moved, after
        if bool((move.abs() > SHORT * follower.lengths(law)).any()):
            columns = follower.columns(law)
        elif bool((move.abs() <= SETTLED * covariance.diagonal().sqrt()).all()):
            break
    left, covariance = _step(columns, missed, blocks)
    return FollowingLaw(law, covariance + torch.outer(left, left), float(missed.square().mean()))


def nearer(follower: Follower, law: Law) -> tuple[Law, float]:
    """The law after one step of Gauss-Newton where that misses less, and the mean square that is missed [m^2/s^2]."""
    missed = follower.missed(law)
    move, _ = _step(follower.columns(law), missed, follower.blocks())
    moved = law.set(law.values() + move)
    before, after = (float(one.square().mean()) for one in (missed, follower.missed(moved)))
    return (moved, after) if after < before else (law, before)


def _step(columns: torch.Tensor, missed: torch.Tensor, blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gauss-Newton's move (p,), and the covariance by the pull of each block on the numbers."""
    J = columns.flatten(0, 2)
    scale = J.norm(dim=0).clamp_min(1e-300)
    inverse = torch.linalg.pinv((J / scale).T @ (J / scale), hermitian=True) / scale[:, None] / scale
    pulls = torch.einsum("sncp,snc->np", columns, missed)
    count = int(blocks.max()) + 1
    told = torch.zeros(count, len(scale), dtype=pulls.dtype).index_add_(0, blocks, pulls)
    factor = count / max(count - len(scale), 1)
    return -inverse @ told.sum(0), factor * inverse @ (told.T @ told) @ inverse
