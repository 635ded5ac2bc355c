"""What a flame answers, beside what the flame itself says, beside differences of solves, and as people write tables."""

import dataclasses
from pathlib import Path

import pytest
import torch

from simengine.fit.problem import Problem
from simengine.flame.equations.free import FreeFlame
from simengine.flame.equations.transport import Multicomponent
from simengine.flame.solver.solve import GridSolver
from simengine.observe.columns import mixture_of
from simengine.scene import load_scene, load_world
from simengine.scene.address import replaced, resolve
from simengine.scene.asks import Series, Table
from simengine.scene.base import Refused, SceneError
from simengine.worlds.flames.conditions import under
from simengine.worlds.flames.gas import GasSpec
from simengine.worlds.flames.specs import AdaptiveGrid, Free
from simengine.worlds.flames.world import FlameWorld

REACTION = "CH4 + 2 O2 => CO2 + 2 H2O"
METHANE = Path(__file__).resolve().parents[3] / "assets" / "methane_1step.yaml"


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def by_differences(world: FlameWorld, ask: Series | Table, key: str, step: float) -> torch.Tensor:
    value = dict(world_numbers(world))[key]
    ends = [replaced(world, {key: value * (1 + s * step)}).solve([ask]).sample(ask) for s in (1, -1)]
    return (ends[0] - ends[1]) / (2 * step * value)


def world_numbers(world: FlameWorld) -> list[tuple[str, float]]:
    from simengine.scene.address import numbers

    return [(key, number.value) for key, number in numbers(world).items()]


@pytest.mark.parametrize("against", ["x", "T"])
def test_derivatives_of_profiles_are_those_of_differences(against: str) -> None:
    world = load_world("free_flame_simple", ["resolution=1e-8"])
    values = vector(2e-4, 5e-4, 9e-4) if against == "x" else vector(500.0, 1000.0, 1300.0)
    ask = Series(names=("u", "rho"), against=against, values=values)
    keys = ["flame.lam", "flame.Ea", "flame.p", "flame.T_in"]
    exact = world.solve([ask]).derivatives(ask, keys)
    for k, key in enumerate(keys):
        rough = by_differences(world, ask, key, 1e-4)
        scale = float(rough.abs().max()) or 1.0
        assert float((exact[..., k] - rough).abs().max()) < 3e-5 * scale + 1e-9, key


def test_derivatives_of_speeds_are_those_of_differences() -> None:
    world = load_world("calibrate_methane", ["resolution=1e-7"])
    ask = Table(names=("flame_speed", "T_max"), conditions={"phi": vector(0.7, 1.0), "p": vector(1e5, 2e5)})
    keys = [f"gas.reactions.{REACTION}.factor", f"gas.reactions.{REACTION}.Ea", "gas.species.CH4.diffusivity_factor",
            "gas.conductivity_factor", "flame.T_in"]  # fmt: skip
    run = world.solve([ask])
    exact = run.derivatives(ask, keys)
    speeds = run.sample(ask)[:, 0]
    for k, key in enumerate(keys):
        rough = by_differences(world, ask, key, 1e-4)
        assert exact[:, 0, k].tolist() == pytest.approx(rough[:, 0].tolist(), rel=1e-5, abs=1e-9), key
    assert 0.1 < float(speeds[0]) < 0.5


def test_profiles_against_the_mixture_fraction_are_those_at_its_places() -> None:
    world = load_world("diffusion_flame_methane", ["grid.slope=0.2", "grid.curve=0.4"])
    ask = Series(names=("T", "X_O2", "Y_CO2", "CO2"), against="Z", values=vector(0.0, 0.03, 0.055, 0.2, 1.0))
    run = world.solve([ask])
    answer = run.sample(ask)
    flame = run.flames[()]
    x = torch.linspace(0.0, 0.02, 4001, dtype=torch.float64)
    own = flame.profiles(x)
    for value, row in zip(ask.values, answer, strict=True):
        k = int((own["Z"][0] - value).abs().argmin())
        assert float(row[0]) == pytest.approx(float(own["T"][0, k]), abs=15.0)  # grid of 5 um
        assert float(row[2]) == float(row[3])
    # pure streams: Z is 0 in air, where X_O2 is 1/4.76, and 1 in fuel; the hottest gas is near Z = 0.055
    assert float(answer[0, 1]) == pytest.approx(1 / 4.76, rel=1e-3) and float(answer[-1, 1]) < 1e-4
    assert float(answer[2, 0]) == float(answer[:, 0].max()) > 1800
    with pytest.raises(SceneError, match="turns back"):
        run.sample(dataclasses.replace(ask, against="T"))


def test_a_composition_is_the_mixture_that_it_says() -> None:
    """CH4 and air at phi = 0.8, once by phi, once species by species in percent."""
    world = load_world("calibrate_methane", ["resolution=1e-4"])
    moles = {"CH4": 0.8, "O2": 2.0, "N2": 2 * 3.76}
    percent = {f"composition.{k}": vector(100 * n / sum(moles.values())) for k, n in moles.items()}
    by_phi = Table(names=("flame_speed",), conditions={"phi": vector(0.8)})
    by_species = Table(names=("flame_speed",), conditions={**percent, "composition.H2O": vector(0.0)})
    run = world.solve([by_phi, by_species])
    assert float(run.sample(by_species)) == pytest.approx(float(run.sample(by_phi)), rel=1e-6)


def test_factors_multiply_rates_and_names_reach_them() -> None:
    gas = GasSpec(mechanism=METHANE)
    world = FlameWorld(gas=gas, flame=load_world("calibrate_methane").flame)
    (key,) = resolve(world, f'gas.reactions."{REACTION}".factor')
    assert resolve(world, "gas.reactions.*.factor") == [key]
    twice = replaced(world, {key: 2.0}).build()
    assert torch.equal(twice.A, 2 * world.build().A)
    with pytest.raises(ValueError, match=r"'CH4 => C' is not in methane_1step\.yaml"):
        GasSpec(mechanism=METHANE, reactions={"CH4 => C": gas.reactions[REACTION]})


WRITTEN = {
    "CH4: 9.5%, O2: 19%, N2: 71.5 %": {"CH4": 9.5, "O2": 19.0, "N2": 71.5},
    "H2=2; CO=1": {"H2": 2.0, "CO": 1.0},
    "{NH3: 1}": {"NH3": 1.0},
    "CH4": {"CH4": 1.0},
    "AR : 0.5, CH2(S): 1e-3": {"AR": 0.5, "CH2(S)": 1e-3},
}


@pytest.mark.parametrize("text", WRITTEN)
def test_mixtures_as_people_write_them(text: str) -> None:
    assert mixture_of(text) == WRITTEN[text]


def test_a_scene_says_which_gas_of_a_file() -> None:
    pytest.importorskip("cantera")
    file = Path("ammonia-CO-H2-Alzueta-2023.yaml")
    plain, mixed = (GasSpec(mechanism=file, phase=phase).gas.mechanism.reactions for phase in (None, "linear-Burke"))
    assert plain.mixtures is None and mixed.mixtures is not None and len(mixed.mixtures.which) == 6
    with pytest.raises(ValueError, match="no phase 'burke'; phases: baseline, linear-Burke"):
        GasSpec(mechanism=file, phase="burke")


@pytest.mark.parametrize("text", ["", "CH4, O2", "CH4: much", "CH4: 1, CH4: 2", "CH4: -1, O2: 2", "CH4: 0"])
def test_what_is_no_mixture_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        mixture_of(text)


PLAIN = [  # the shipped scene's own table has more columns
    *(f"observations.speeds.{key}={{}}" for key in ("within", "where", "beside")),
    *('observations.speeds.row=""', "observations.speeds.hold_out=false", "observations.speeds.sigma_level=1"),
    *('observations.speeds.sigma="estimate"', 'observations.speeds.conditions={ phi = "phi" }'),
    'observations.speeds.measured={ flame_speed = "flame_speed [m/s]" }',
]


def scene(folder: Path, table: str, *changes: str):  # type: ignore[no-untyped-def]
    (folder / "speeds.csv").write_text(table)
    file = [f'observations.speeds.file="{folder / "speeds.csv"}"', "resolution=1e-4"]
    return load_scene("calibrate_methane", [*file, *PLAIN, *changes])


CONDITIONS = 'observations.speeds.conditions={ phi = "phi", T_in = "T_in", p = "p" }'
SPEED = 'observations.speeds.measured={ flame_speed = "flame_speed" }'
REFUSED = {
    "cm/s without saying so": ("phi,flame_speed\n0.7,18.1\n0.8,25.7\n", [SPEED], r"25\.7 m/s .*flame_speed \[cm/s\]"),
    "a wrong unit": ("phi,flame_speed [kPa]\n0.8,0.2\n", [SPEED], r"flame_speed is told in kPa; .* in m/s"),
    "degrees": ("phi,flame_speed,T_in,p\n.8,.2,25,1e5\n", [SPEED, CONDITIONS], r"T_in: 25 K is beyond .*degC"),
    "atmospheres": ("phi,flame_speed,T_in,p\n.8,.2,300,1\n", [SPEED, CONDITIONS], r"p: 1 Pa is beyond .*\[atm\]"),
    "half a unit": (
        "phi,flame_speed [cm/s],sigma\n0.8,20,1\n",
        [SPEED, 'observations.speeds.sigma="sigma"'],
        "tell the unit of both",
    ),
    "no number of the flame": (
        "phi,flame_speed,swirl\n0.8,0.2,1\n",
        [SPEED, 'observations.speeds.conditions={ phi = "phi", swirl = "swirl" }'],
        "'swirl' is no number of this flame",
    ),
    "no mixture": (
        "gas,flame_speed\nlean,0.2\nrich: x,0.3\n",
        [SPEED, 'observations.speeds.conditions={ composition = "gas" }'],
        "row 1: 'rich: x' is no mixture",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_fault_of_a_table_is_told_in_one_line(case: str, tmp_path: Path) -> None:
    table, changes, message = REFUSED[case]
    with pytest.raises((SceneError, Refused), match=message) as told:
        Problem(scene(tmp_path, table, *changes)).predict()
    assert "\n" not in str(told.value)


def test_rows_without_an_answer_are_named_left_out_and_counted(tmp_path: Path) -> None:
    """Helium is no species of this mechanism, and pure nitrogen with a trace of fuel does not burn."""
    air = "O2: 19.0%, N2: 71.5%"
    table = (
        "key,gas,T [K],flame_speed [cm/s],sigma [cm/s]\n"
        f'a,"CH4: 9.5%, {air}",300,36.0,1\n'
        'b,"CH4: 9.5%, O2: 19%, HE: 71.5%",300,90,1\n'
        f'c,"CH4: 0.5%, {air}",300,5,1\n'
        f'd,"CH4: 8.0%, {air}",300,30.0,1\n'
    )
    conditions = 'observations.speeds.conditions={ composition = "gas", T_in = "T [K]" }'
    changes = [conditions, 'observations.speeds.row="key"', 'observations.speeds.sigma="sigma [cm/s]"']
    problem = Problem(scene(tmp_path, table, *changes))
    problem.settle(problem.start())
    measured = problem.measured["speeds"]
    assert measured.mask[:, 0].tolist() == [True, False, False, True]
    helium, cold = measured.notes
    assert helium.startswith("1 rows are left out") and "'HE'" in helium and helium.endswith(": b")
    assert "outside the range that can burn" in cold and cold.endswith(": c")
    r, j = problem.linearise(problem.start())
    assert len(r) == 2 and bool(r.isfinite().all()) and bool(j.isfinite().all()) and problem.runs.solves == 1
    lines = table.splitlines()
    with pytest.raises(SceneError, match="no row is answered; 1 rows are left out"):
        other = Problem(scene(tmp_path, f"{lines[0]}\n{lines[2]}\n", *changes))
        other.settle(other.start())


def test_columns_of_constants_cost_no_solve_and_are_those_of_differences(tmp_path: Path) -> None:
    table = "phi,flame_speed [cm/s],T_in [degC],p [atm],sigma [mm/s]\n0.7,18.1,25,1,8\n0.8,37.2,85,2,11\n"
    conditions = 'observations.speeds.conditions={ phi = "phi", T_in = "T_in [degC]", p = "p [atm]" }'
    own = scene(tmp_path, table, conditions, 'observations.speeds.sigma="sigma [mm/s]"', "resolution=1e-7")
    problem = Problem(own)
    measured = problem.measured["speeds"]
    assert measured.at["T_in"].tolist() == pytest.approx([298.15, 358.15])
    assert measured.at["p"].tolist() == [101325.0, 202650.0]
    z = problem.start()
    _, j = problem.linearise(z)
    assert problem.runs.solves == 1
    for k in range(len(z)):
        unit = torch.zeros_like(z)
        unit[k] = 1e-4
        slope = (problem.residual(z + unit) - problem.residual(z - unit)) / 2e-4
        assert j[:, k].tolist() == pytest.approx(slope.tolist(), rel=1e-5)
    far = under(own.world, (("T_in", 400.0), ("phi", 1.2)))
    assert (far.flame.T_in, far.flame.phi) == (400.0, 1.2)


def test_scene_says_how_the_gas_diffuses_and_radiates() -> None:
    gas = GasSpec(mechanism=METHANE, transport="multicomponent", soret=True)
    flame = FlameWorld(gas=gas, flame=Free(radiation="optically_thin", width=0.05)).build()
    assert isinstance(flame, FreeFlame) and flame.radiation == "optically_thin"
    assert flame.transport == Multicomponent(soret=True)
    M = flame.first_flux()
    assert float(flame.tail(M)) == pytest.approx(0.05 - float(flame.extent(M)))


def test_a_row_starts_from_a_close_neighbour_and_one_without_a_flame_is_not_sought_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The flame is that of a cold start, to what the grid leaves; phi 0.2 burns to too little, below T_fix."""
    world = FlameWorld(gas=GasSpec(mechanism=METHANE), flame=Free(), grid=AdaptiveGrid(slope=0.1, curve=0.2))
    asked = vector(0.8, 0.84, 0.2)
    ask = Table(names=("flame_speed",), conditions={"phi": asked})
    starts: list[tuple[float, bool]] = []
    solve = GridSolver.solve

    def told(self: GridSolver, flame: FreeFlame, *, start: object = None, throw: bool = True) -> object:
        starts.append((round(float(flame.phi), 2), start is None))
        return solve(self, flame, start=start, throw=throw)  # type: ignore[arg-type]

    monkeypatch.setattr(GridSolver, "solve", told)
    run = world.solve([ask])
    assert starts == [(0.8, True), (0.84, False), (0.2, True), (0.2, False)]  # moved, at the last
    assert list(run.gaps(ask)) == [2]
    alone = world.solve([Table(names=("flame_speed",), conditions={"phi": vector(0.84)})])
    cold = alone.sample(Table(names=("flame_speed",), conditions={"phi": vector(0.84)}))
    assert float(run.sample(ask)[1, 0]) == pytest.approx(float(cold), rel=1e-3)
    starts.clear()
    again = replaced(world, {"gas.conductivity_factor": 1.01}).solve([ask], near=run)
    assert starts == [(0.8, False), (0.84, False)]
    assert again.gaps(ask) == run.gaps(ask)


def test_a_flame_that_went_out_at_a_trial_is_sought_from_its_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a shorter step of a fit: not cold, and after a restart too; a fit of ammonia had no second step before."""
    world = FlameWorld(gas=GasSpec(mechanism=METHANE), flame=Free(phi=0.8), grid=AdaptiveGrid(slope=0.15, curve=0.3))
    ask = Table(names=("flame_speed",), conditions={"T_in": vector(300.0)})
    run = world.solve([ask])
    out = replaced(world, {"flame.phi": 0.2}).solve([ask], near=run)
    out = replaced(world, {"flame.phi": 0.2}).solve([ask], near=out)  # of two such trials one after the other
    assert list(out.gaps(ask)) == [0]
    monkeypatch.setattr(GridSolver, "_cold", None)
    for near in (out, world.resumed(out.state_dict())):
        again = world.solve([ask], near=near)
        assert float(again.sample(ask)) == pytest.approx(float(run.sample(ask)), rel=1e-6)
