"""Free flames beside Cantera's on the same points: fuels, mixtures, pressures, temperatures, laws of transport.

`simengine bench flame_cantera [into=FILE.csv] [seconds=1200] [fuel=hydrogen] [law=soret] [phi=1] [p=1,40] [T=700]`:
rows of the values that are wanted, of all unless given. Each is solved cold by us, upwind as Cantera is and by the
same criteria (slope 0.1, curve 0.2); by Cantera on our points, from our fields (its speed); by us in the second order
(what both converge to); and by Cantera cold by the same criteria (its time). With `into` rows are appended as they are
found, and rows that stand there are not solved again; after `seconds` of CPU no further row is begun.
"""

import csv
import itertools
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.equations.transport import MixtureAveraged, Multicomponent
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import GridSolver
from simengine.solve.solution import SolveError

FUELS: dict[str, tuple[str, dict[str, float], tuple[float, ...]]] = {  # mechanism, fuel, phi from limit to limit
    "hydrogen": ("h2o2.yaml", {"H2": 1.0}, (1.0, 0.5, 2.0, 0.35, 4.0, 6.0)),
    "syngas": ("gri30.yaml", {"H2": 0.5, "CO": 0.5}, (1.0, 0.5, 3.0)),
    "methane": ("gri30.yaml", {"CH4": 1.0}, (1.0, 0.6, 1.4)),
    "ammonia": ("example_data/ammonia-CO-H2-Alzueta-2023.yaml", {"NH3": 1.0}, (1.0, 0.8, 1.2)),
    "propane": ("gri30.yaml", {"C3H8": 1.0}, (1.0, 0.7, 1.4)),
}
LAWS = ("mixture", "multicomponent", "soret", "radiation")
STATES = ((1, 300), (5, 300), (20, 300), (40, 300), (1, 700), (20, 700))  # atm, K
COLUMNS = (
    *("fuel", "law", "phi", "p [atm]", "T [K]", "points", "ours [m/s]", "Cantera's [m/s]", "off [%]"),
    *("second order [m/s]", "ours, CPU [s]", "Cantera's cold, CPU [s]", "ratio"),
)
WIDTH = 0.03  # m, of Cantera's first grid


class Case(NamedTuple):
    """A row: which flame."""

    fuel: str
    law: str
    phi: float
    p: int
    T: int


def cases() -> Iterator[Case]:
    """All rows: the mixture-averaged ones first, each fuel in turn; the other laws at phi 1 and two pressures."""
    most = max(len(own[2]) for own in FUELS.values())
    for (p, T), k in itertools.product(STATES, range(most)):
        for fuel, (_, _, phis) in FUELS.items():
            if k < len(phis):
                yield Case(fuel, "mixture", phis[k], p, T)
    for law, p, fuel in itertools.product(LAWS[1:], (1, 20), FUELS):
        yield Case(fuel, law, 1.0, p, 300)


def flame_of(case: Case, gas: Gas) -> FreeFlame:
    """Our flame of a row."""
    phi, p, T_in = (torch.tensor(v, dtype=torch.float64) for v in (case.phi, 101325.0 * case.p, float(case.T)))
    transport = MixtureAveraged() if case.law in ("mixture", "radiation") else Multicomponent(soret=case.law == "soret")
    return FreeFlame(
        gas=gas,
        mixture=Mixture(FUELS[case.fuel][1]),
        phi=phi,
        p=p,
        T_in=T_in,
        transport=transport,
        radiation="optically_thin" if case.law == "radiation" else None,
    ).reduced()  # type: ignore[return-value]


def speed_of(found: FlameSolution) -> float:
    """Of the flame, without gradients [m/s]."""
    return float(found.flame.figures(found.eigenvalue.detach())["flame_speed"])


def theirs_of(case: Case, grid: Any = None) -> Any:
    """Cantera's flame of a row, on a grid or to be refined."""
    import cantera as ct

    mechanism, fuel, _ = FUELS[case.fuel]
    gas = ct.Solution(mechanism)
    gas.set_equivalence_ratio(case.phi, fuel, "O2:1, N2:3.76")
    gas.TP = float(case.T), 101325.0 * case.p
    flame = ct.FreeFlame(gas, width=WIDTH) if grid is None else ct.FreeFlame(gas, grid=grid)
    flame.transport_model = "mixture-averaged" if case.law in ("mixture", "radiation") else "multicomponent"
    flame.soret_enabled = case.law == "soret"
    flame.radiation_enabled = case.law == "radiation"
    flame.set_refine_criteria(ratio=3, slope=0.1, curve=0.2)
    return flame


def on_our_points(case: Case, found: FlameSolution) -> float:
    """Cantera's speed on our points, from our fields [m/s]."""
    x = (found.x[0] - found.x[0, 0]).numpy()
    flame = theirs_of(case, x)
    profiles = {"velocity": found.profiles(found.x[0])["u"], "T": found.field("T")}
    profiles |= {name: found.field(name) for name in found.flame.fields[1:]}
    flame.set_initial_guess()
    for name, values in profiles.items():
        flame.set_profile(name, x / x[-1], values[0].detach().numpy())
    flame.fixed_temperature = 1000.0
    flame.solve(0, refine_grid=False, auto=False)
    return float(flame.velocity[0])


def row_of(case: Case, gas: Gas) -> dict[str, Any]:
    """One row; a cell is empty where nothing was found."""
    row: dict[str, Any] = dict(zip(COLUMNS, (*case, *[""] * 8), strict=True))
    flame = flame_of(case, gas)
    solver = GridSolver(convection="upwind").set_refine_criteria(ratio=3, slope=0.1, curve=0.2)
    began = time.process_time()
    try:
        solved = solver.solve(flame)
    except SolveError as error:
        row["points"] = str(error).splitlines()[0][:80]
        return row
    row["ours, CPU [s]"] = time.process_time() - began
    found = solved.value
    row["points"], row["ours [m/s]"] = solved.stats["num_points"], speed_of(found)
    try:
        row["Cantera's [m/s]"] = on_our_points(case, found)
        row["off [%]"] = 100 * (row["ours [m/s]"] / row["Cantera's [m/s]"] - 1)
    except RuntimeError as error:
        row["Cantera's [m/s]"] = "none: " + str(error).strip().splitlines()[1][:60]
    second = GridSolver().set_refine_criteria(ratio=3, slope=0.1, curve=0.2)
    y, z = found.problem.unpack(found.state)
    problem = second.problem(flame, found.problem.mesh.edges, found.problem.mesh.anchor).near(y, z[:, 0, 0, 0])
    start = FlameSolution(flame, problem, problem.pack(y, z[:, 0, 0, 0]))
    again = second.solve(flame, start=start, throw=False)
    row["second order [m/s]"] = speed_of(again.value) if again.success else ""
    cold = theirs_of(case)
    began = time.process_time()
    try:
        cold.solve(0, auto=True)
        row["Cantera's cold, CPU [s]"] = time.process_time() - began
        row["ratio"] = row["ours, CPU [s]"] / row["Cantera's cold, CPU [s]"]
    except RuntimeError:
        row["Cantera's cold, CPU [s]"] = f"none after {time.process_time() - began:.0f}"
    return row


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row for each flame."""
    given = dict(argument.split("=") for argument in arguments)
    wanted = {name: given[name].split(",") for name in Case._fields if name in given}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DeprecationWarning)
    file = Path(given["into"]) if "into" in given else None
    rows: list[dict[str, Any]] = []
    if file is not None and file.is_file():
        with file.open(encoding="utf-8", newline="") as text:
            rows = list(csv.DictReader(text))
    done = {tuple(str(row[name]) for name in COLUMNS[:5]) for row in rows}
    gases: dict[str, Gas] = {}
    for case in cases():
        if time.process_time() > float(given.get("seconds", 1200)):
            break
        own = {name: value if isinstance(value, str) else f"{value:g}" for name, value in case._asdict().items()}
        unwanted = any(own[name] not in values for name, values in wanted.items())
        if tuple(map(str, case)) in done or unwanted:
            continue
        mechanism = FUELS[case.fuel][0]
        gas = gases.setdefault(mechanism, Gas(load_mechanism(Path(mechanism).name), smoothing=1e-8))
        row = row_of(case, gas)
        rows.append(row)
        told = (f"{k} {v if isinstance(v, str | int) else format(v, '.4g')}" for k, v in row.items())
        print(", ".join(told), flush=True)
        if file is not None:
            lines = [] if file.is_file() else [list(COLUMNS)]
            lines.append([format(v, ".5g") if isinstance(v, float) else str(v) for v in row.values()])
            with file.open("a", encoding="utf-8", newline="") as out:
                csv.writer(out).writerows(lines)
    return [{"name": f"{r['fuel']}, {r['law']}, phi {r['phi']}, {r['p [atm]']} atm, {r['T [K]']} K", **r} for r in rows]


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
