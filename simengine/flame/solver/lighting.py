"""Where two opposed streams light: the turning point of their mixing without a flame over a condition.

Gas that branches its chains has hardly a radical before it lights, and a second path, on which there is less than none
of them, begins next to where theirs turns: steps are short, and one that ends there is taken back.
"""

import torch

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.counterflow import CounterflowFlame
from simengine.flame.solver.grid import GridProblem
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import GridSolver
from simengine.flame.solver.turning import LEAST, Family, PathPoint, TurningPoint, corrected, followed, lost

REMEDY = "start with colder ones, or at a higher strain"


def ignition(family: Family, value: float, solver: GridSolver, *, tolerance: float = 1e-7) -> TurningPoint:
    """Where two streams that mix light, as a condition moves the way in which they make more of what neither brings.

    Args:
        family: Condition () -> the streams under it.
        value: A condition under which they mix without burning.
        solver: Its criteria adapt the grid on the way.
        tolerance: As of `extinction`.

    Raises:
        SolveError: They burn, or are not solved, under the condition to start from; or the path ends before it turns.
    """
    with torch.no_grad():
        start = unburnt(family(torch.tensor(value, dtype=torch.float64)), solver)
        problem, zero = start.problem, torch.zeros_like(start.state)
        assert isinstance(problem, GridProblem)
        point = corrected(problem, start.state, value, zero, 1.0, 0.0, family, tolerance)
        if point is not None:
            further = point.state + 1e-3 * max(abs(value), LEAST) * point.ahead
            if _made(problem, further) < _made(problem, point.state):
                point = corrected(problem, start.state, value, zero, -1.0, 0.0, family, tolerance)
        if point is None or point.below_nothing:
            raise lost(f"no streams that mix without burning are found there; {REMEDY}", start)
        found = followed(point, family, solver, tolerance, _burns, lit=False)
    if isinstance(found, TurningPoint):
        return found
    raise lost(f"the path of streams that do not burn {found}", start)


def _burns(point: PathPoint) -> bool:
    return bool(point.problem.flame.burning(point.state).all())


def unburnt(flame: AbstractFlame, solver: GridSolver) -> FlameSolution:
    """Two streams that mix without burning, on a grid that suits them.

    Raises:
        SolveError: They burn.
    """
    if not isinstance(flame, CounterflowFlame) or flame.batch != 1:
        raise ValueError("flame: what ignites are two opposed streams, one condition; expected a CounterflowFlame")
    edges = solver.first_edges(flame)
    problem = solver.problem(flame, edges, solver.anchor(flame, edges))
    y, z = flame.mixing(problem.mesh.x)
    problem = problem.near(y, z)
    found = solver.solve(flame, start=FlameSolution(flame, problem, problem.pack(y, z)), throw=False).value
    if bool(found.burning.all()):
        raise lost(f"the streams to start from burn; {REMEDY}", found)
    return found


def _made(problem: GridProblem, state: torch.Tensor) -> float:
    """Most of what neither stream brings, as a mass fraction."""
    flame = problem.flame
    assert isinstance(flame, CounterflowFlame)
    fed = flame.fed()
    others = [k for k, name in enumerate(flame.gas.mechanism.species) if name not in fed]
    first = flame.fields.index("T") + 1
    return float(state[..., [first + k for k in others]].sum(-1).max())
