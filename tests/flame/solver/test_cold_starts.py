"""Cold starts of hydrogen: what settled in one guess starts the next, and tries that came to nothing are left.

Jacobians measured at slope 0.15, curve 0.3; each bound lies between what stands and what was without the change.
"""

import dataclasses
from typing import Any

import pytest
import torch

from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver import adaptive
from simengine.flame.solver.solve import GridSolver
from simengine.solve.solution import SolveError


def _hydrogen(phi: float, p: float) -> FreeFlame:
    pytest.importorskip("cantera")  # for its file
    gas = Gas(load_mechanism("h2o2.yaml"), smoothing=1e-7)
    ratio, pressure, T_in = (torch.tensor(v, dtype=torch.float64) for v in (phi, 101325.0 * p, 300.0))
    flame = FreeFlame(gas=gas, mixture=Mixture({"H2": 1.0}), phi=ratio, p=pressure, T_in=T_in)
    return flame.reduced()  # type: ignore[return-value]


def test_what_settled_in_one_guess_starts_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Radicals at a held temperature: the same in the faster guess, by fewer Jacobians."""
    flame, solver, spent, plain = _hydrogen(2.0, 1.0), GridSolver(), [0], adaptive.newton

    def counted(*arguments: Any, **options: Any) -> Any:
        solved = plain(*arguments, **options)
        spent[0] += int(solved.stats["num_iterations"])
        return solved

    monkeypatch.setattr(adaptive, "newton", counted)

    def settled(guesser: FreeFlame, before: torch.Tensor | None) -> tuple[torch.Tensor, int]:
        edges = solver.first_edges(guesser)
        bare = solver.problem(flame, edges, solver.anchor(flame, edges))
        spent[0] = 0
        problem, state, found = solver._start(guesser, bare, before)
        assert found
        return problem.unpack(state)[0], spent[0]

    first, _ = settled(flame, None)
    faster = flame.faster()[0]
    own, alone = settled(faster, None)  # type: ignore[arg-type]
    again, few = settled(faster, first)  # type: ignore[arg-type]
    assert float((again - own).abs().max()) < 1e-4  # both to a correction of 1e-2 of Newton's, which is quadratic
    assert few < 0.5 * alone  # 4 for 29
    spent[0] = 0
    assert solver.set_refine_criteria(slope=0.15, curve=0.3).solve(flame).success
    assert spent[0] < 45  # of all guesses and finer grids: 32; 57 where each guess settled alone


def test_a_try_that_came_to_nothing_is_not_gone_on_with() -> None:
    """Its corrections are small since its flux has fallen to the bound: it looked like the nearest."""
    solved = GridSolver().set_refine_criteria(slope=0.15, curve=0.3).solve(_hydrogen(4.0, 20.0))
    assert solved.success
    assert solved.stats["num_iterations"] < 150  # 69; 297 where such a try was gone on with


def test_gas_that_is_preheated_above_the_fixed_temperature_takes_another() -> None:
    """T_fix lies between fresh and burnt gas; before, a start at 1050 K had not ended after a minute."""
    flame, solver = _hydrogen(1.0, 1.0), GridSolver().set_refine_criteria(slope=0.15, curve=0.3)
    hot = dataclasses.replace(flame, T_in=torch.tensor(1050.0, dtype=torch.float64))
    with pytest.raises(SolveError, match="T_in = 1050 K lies at or above T_fix = 1000 K"):
        solver.solve(hot)
    assert solver.solve(dataclasses.replace(hot, T_fix=1300.0)).success


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Cantera's profiles
def test_an_upwind_flame_that_is_lost_starts_from_that_of_the_second_order() -> None:
    """Hydrogen at phi 0.35, 20 atm, 700 K: from its own guesses nothing is found. Cantera's speed is the judge."""
    ct = pytest.importorskip("cantera")
    flame = dataclasses.replace(_hydrogen(0.35, 20.0), T_in=torch.tensor(700.0, dtype=torch.float64))
    solver = GridSolver(convection="upwind").set_refine_criteria(slope=0.1, curve=0.2)
    assert not super(GridSolver, solver).solve(flame, throw=False).success
    found = solver.solve(flame).value
    speed = float(flame.flame_speed(found.eigenvalue))
    gas = ct.Solution("h2o2.yaml")
    gas.set_equivalence_ratio(0.35, "H2", "O2:1, N2:3.76")
    gas.TP = 700.0, 20 * 101325.0
    x = found.x[0].numpy()
    theirs = ct.FreeFlame(gas, grid=x - x[0])
    theirs.set_initial_guess()
    profiles, share = found.profiles(found.x[0]), (x - x[0]) / (x[-1] - x[0])
    for name in ("T", *flame.gas.mechanism.species):
        theirs.set_profile(name, share, profiles[name][0].numpy())
    theirs.set_profile("velocity", share, profiles["u"][0].numpy())
    theirs.fixed_temperature = 1000.0
    theirs.solve(loglevel=0, refine_grid=False, auto=False)
    assert speed == pytest.approx(float(theirs.velocity[0]), rel=0.01)
