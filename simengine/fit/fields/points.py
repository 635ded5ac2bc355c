"""Steps of a field whose values each see one of its points alone: the points are as many small searches.

A step that suits most points makes some worse, and one that does not fit leaves them all where they are; so each takes
as much of its own Gauss-Newton step as lowers its own sum. And each has minima of its own: a pixel whose normal turned
away from a lamp feels that lamp no more, though its photograph is bright. What the points beside it found is a start
that knows better (as in PatchMatch, Barnes et al. 2009).
"""

import torch

from simengine.fit.fields.newton import Linearised
from simengine.fit.fields.objective import FieldObjective

HALVINGS = 8  # of a point's step that does not lower its sum
SETTLED = 1e-6  # of a point's sum: a step that promises less is not taken
STEPS = 6  # from the start that a point beside has given
LOWER = 0.999  # of its sum: what another minimum has to better


class PointSearch:
    """The search of every point by itself, the numbers beside them held.

    Args:
        objective: Of a field with `alone`.
        x: Cells (n,).
        z: Numbers (p,).
    """

    def __init__(self, objective: FieldObjective, x: torch.Tensor, z: torch.Tensor) -> None:
        self.objective = objective
        self.z = z
        self._width = objective.alone
        self._count = len(x) // self._width
        self._seen = self._points(x)

    def _points(self, x: torch.Tensor) -> torch.Tensor:
        """The point that each row sees, (rows,): a row is not a number where its point is none, digit by digit."""
        number, found = torch.arange(self._count), torch.zeros((), dtype=torch.long)
        for digit in range(self._count.bit_length()):
            none = (number >> digit & 1).bool().repeat_interleave(self._width)
            with torch.no_grad():
                rows = self.objective.residuals(x.masked_fill(none, torch.nan), self.z)
            found = found + (rows.isnan().long() << digit)
        return found

    def sums(self, x: torch.Tensor) -> torch.Tensor:
        """Half the squares of each point's residuals, (points,), of cells x (n,)."""
        with torch.no_grad():
            r = self.objective.residuals(x, self.z)
        return r.new_zeros(self._count).index_add(0, self._seen, r.square() / 2)

    def step(self, x: torch.Tensor) -> torch.Tensor:
        """Cells (n,) after a step of every point, of none to a larger sum than it has at x."""
        here = Linearised(self.objective, x, self.z)
        way = -here.preconditioner()((here.slope * here.free)[None])[0]
        low, high = self.objective.limits().T
        least, before = x, self.sums(x)
        waiting = -(here.slope * way).reshape(-1, self._width).sum(1) > SETTLED * before
        for halving in range(HALVINGS):
            there = (x + way / 2**halving).clamp(low, high)
            lower = waiting & (self.sums(there) < before)
            least = torch.where(lower.repeat_interleave(self._width), there, least)
            waiting = waiting & ~lower
            if not bool(waiting.any()):
                break
        return least

    def from_beside(self, x: torch.Tensor) -> torch.Tensor:
        """Cells (n,) where a point has the lower of the minima that it finds from its own place and its neighbours'."""
        for way in (1, -1):
            other = x.reshape(-1, self._width).roll(way, 0).reshape(-1)
            for _ in range(STEPS):
                other = self.step(other)
            lower = self.sums(other) < LOWER * self.sums(x)
            x = torch.where(lower.repeat_interleave(self._width), other, x)
        return x


def step_of_points(objective: FieldObjective, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, float, float]:
    """As `newton_step`, every point by itself."""
    search = PointSearch(objective, x, z)
    there = search.step(x)
    before, after = float(search.sums(x).sum()), float(search.sums(there).sum())
    return there, after, (before - after) / max(after, 1e-300)
