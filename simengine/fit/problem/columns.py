"""The Jacobian of a problem: each column by the cheapest way that is exact enough.

Seats of marks each move rows of their own and share three evaluations; numbers of worlds whose runs know their
derivatives cost no solve; the others are differences of predictions, which cost a solve where the number is a world's.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from simengine.fit.problem.implicit import STEP as MOVED
from simengine.fit.problem.implicit import AnswerDerivatives
from simengine.fit.problem.prediction import Prediction
from simengine.scene.base import Refused

if TYPE_CHECKING:
    from simengine.fit.problem.problem import Problem

STEP = 1e-5  # of a one-sided difference in z: truncation and the rounding of a solve in float64 balance
CENTRAL = 1e-4
JUMP = 0.01  # standard deviations by which two changes over CENTRAL differ where the prediction jumps between
JUMP_RATIO = 10.0  # and times the smaller of the two


class Columns:
    """Derivatives of the rows of a problem's observations at one point.

    Args:
        problem: The problem.
        z: Coordinates (p,).
        blocks: Observation -> its residual at z, (its rows,); their order is that of the rows.
        central: Central differences for the numbers of worlds: twice the solves.
    """

    def __init__(
        self, problem: "Problem", z: torch.Tensor, blocks: Mapping[str, torch.Tensor], *, central: bool
    ) -> None:
        self.problem: Problem = problem
        self.z: torch.Tensor = z
        self.blocks: Mapping[str, torch.Tensor] = blocks
        self.central: bool = central
        self._at: dict[str, slice] = {}
        end = 0
        for name, block in blocks.items():
            self._at[name] = slice(end, end + len(block))
            end += len(block)
        self.rows = end

    def of(self, free: Sequence[int]) -> torch.Tensor:
        """Columns of some coordinates, (rows, len(free))."""
        self._solve_ahead(free)
        found = self._grouped(free)
        found |= self._implicit([index for index in free if index not in found])
        for index in free:
            if index not in found:
                found[index] = self._difference(index)
        self.problem.runs.forget_ahead()
        return torch.stack([found[index] for index in free], 1) if len(free) else torch.zeros(self.rows, 0).double()

    def _zeros(self) -> torch.Tensor:
        return torch.zeros(self.rows, dtype=torch.float64)

    def _solve_ahead(self, free: Sequence[int]) -> None:
        """Solve where the differences in the numbers of worlds will be taken, together where a world can."""
        points = []
        for index in free:
            if self.problem.coordinates[index].of_world:
                for step in (CENTRAL, -CENTRAL) if self.central else (STEP,):
                    points.append(self.z.clone())
                    points[-1][index] += step
        self.problem.solve_ahead(points)

    def _difference(self, index: int) -> torch.Tensor:
        problem, c = self.problem, self.problem.coordinates[index]
        names = [
            name
            for name in self.blocks
            if any(
                (place == "run" and problem.instruments[name].run == own) or (place != "run" and own == name)
                for place, own, _ in c.targets
            )
        ]
        central = self.central and c.of_world
        step = CENTRAL if central else STEP
        unit = torch.zeros_like(self.z)
        unit[index] = step

        def residuals(z: torch.Tensor) -> dict[str, torch.Tensor]:
            return {name: problem.residual_of(p) for name, p in problem.predict(z, names).items()}

        column, both = self._zeros(), central
        try:
            ahead: Mapping[str, torch.Tensor] = residuals(self.z + unit)
            behind, width = (residuals(self.z - unit), 2 * step) if central else (self.blocks, step)
        except Refused:  # at an edge of what has a run: the other side
            ahead, behind, width, both = self.blocks, residuals(self.z - unit), step, False
        for name in names:
            change = ahead[name] - behind[name]
            if both:
                change = self._beside_jumps(c.name, ahead[name] - self.blocks[name], self.blocks[name] - behind[name])
            column[self._at[name]] = change / width
        return column

    def _beside_jumps(self, unknown: str, ahead: torch.Tensor, behind: torch.Tensor) -> torch.Tensor:
        """Both changes together; twice the smaller one where the other holds a jump of the prediction.

        As a contact that opens or closes within the step makes one, which divided by the step would pass for a slope of
        thousands of standard deviations, and so for an unknown that is known without error.
        """
        least = torch.minimum(ahead.abs(), behind.abs())
        jumps = ((ahead - behind).abs() > JUMP) & ((ahead - behind).abs() > JUMP_RATIO * least)
        if bool(jumps.any()):
            largest = float((ahead - behind)[jumps].abs().max())
            self.problem.doubt(
                f"{unknown}: the prediction jumps by {largest:.2g} standard deviations within {CENTRAL:g} of it, "
                "as where a contact opens or closes; its bar is that of the slope beside the jump"
            )
        return torch.where(jumps, 2 * torch.where(ahead.abs() < behind.abs(), ahead, behind), ahead + behind)

    def _grouped(self, free: Sequence[int]) -> dict[int, torch.Tensor]:
        """Columns of vectors whose entries each move rows of their own: three evaluations for all seats."""
        problem, found = self.problem, dict[int, torch.Tensor]()
        for name in self.blocks:
            own: dict[str, list[tuple[int, int]]] = {}
            for index in free:
                c = problem.coordinates[index]
                if len(c.targets) == 1 and c.targets[0][:2] == ("observation", name) and not c.chosen:
                    key, _, last = c.targets[0][2].rpartition(".")
                    own.setdefault(key, []).append((index, int(last)))
            for key, entries in own.items():
                groups = problem.instruments[name].groups(key, problem.measured[name])
                if groups is None:
                    continue
                rows = problem.rows(name)
                selected = groups[:, None].expand_as(rows)[rows]
                here = problem.predict(self.z, [name])[name]
                for axis in range(3):
                    moved = [(index, entry) for index, entry in entries if entry % 3 == axis]
                    unit = torch.zeros_like(self.z)
                    unit[[index for index, _ in moved]] = STEP
                    ahead = problem.predict(self.z + unit, [name])[name]
                    slope = (problem.residual_of(ahead) - self.blocks[name]) / STEP
                    for index, entry in moved:
                        found[index] = self._zeros()
                        if name in problem.errors:  # whitened rows hang together, answers do not
                            mine = (groups == entry // 3)[:, None]
                            own_ahead = dataclasses.replace(ahead, values=torch.where(mine, ahead.values, here.values))
                            change = problem.residual_of(own_ahead) - self.blocks[name]
                            found[index][self._at[name]] = change / STEP
                        else:
                            found[index][self._at[name]] = torch.where(selected == entry // 3, slope, 0.0)
        return found

    def _implicit(self, free: Sequence[int]) -> dict[int, torch.Tensor]:
        """Columns of numbers of worlds whose runs know their derivatives; none where one of the runs does not."""
        problem = self.problem
        rates: dict[int, float] = {}
        own: dict[str, list[str]] = {}
        for index in free:
            c = problem.coordinates[index]
            if all(place == "run" for place, _, _ in c.targets):
                rates[index] = c.rate(self.z[index])
                for _, run, key in c.targets:
                    own.setdefault(run, []).append(key)
        instruments = problem.instruments_at(self.z)
        known: dict[str, AnswerDerivatives] = {}
        for name in self.blocks:
            run, instrument = problem.instruments[name].run, instruments[name]
            if run not in own:
                continue
            asks = instrument.asks(problem.measured[name])
            run_here = problem.run_at(self.z, run, asks)
            derivatives = known.setdefault(run, AnswerDerivatives(run_here, list(dict.fromkeys(own[run]))))
            if any(derivatives.of(ask) is None for ask in asks):
                return {}
        found = {index: self._zeros() for index in rates}
        for index, rate in rates.items():
            for name, block in self.blocks.items():
                run = problem.instruments[name].run
                keys = [key for _, where, key in problem.coordinates[index].targets if where == run]
                if not keys:
                    continue
                moved = known[run].moved(dict.fromkeys(keys, rate), MOVED)
                ahead = Prediction(
                    name=name,
                    values=instruments[name].predict(moved, problem.measured[name]),
                    measured=problem.measured[name],
                    sigma=problem.sigma(name, instruments[name]),
                )
                found[index][self._at[name]] = (problem.residual_of(ahead) - block) / MOVED
        return found
