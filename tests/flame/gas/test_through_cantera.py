"""CHEMKIN files and Cantera's own gases, to the rates that Cantera gives."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.flame.gas.mechanism import MechanismError
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas


def _same_rates(gas: Gas, solution, *, rel: float) -> None:
    Y = np.random.default_rng(0).dirichlet(np.ones(len(gas.W)))
    solution.TPY = 1400.0, 2e5, Y
    T, Y = torch.tensor(1400.0, dtype=torch.float64), torch.tensor(Y)
    C = gas.density(torch.tensor(2e5), T, Y) * Y / gas.W
    ours, theirs = gas.production(T, C).numpy(), solution.net_production_rates * 1e3
    assert np.abs(ours - theirs).max() < rel * np.abs(theirs).max()


def test_solution_is_taken_as_it_is() -> None:
    cantera = pytest.importorskip("cantera")
    whole = cantera.Solution("h2o2.yaml")
    # a gas that no file holds: without the last reactions
    parts = {"species": whole.species(), "reactions": whole.reactions()[:20], "transport_model": "mixture-averaged"}
    solution = cantera.Solution(thermo="ideal-gas", kinetics="gas", **parts)
    gas = Gas(load_mechanism(solution))
    assert len(gas.mechanism.reactions.equations) == 20
    _same_rates(gas, solution, rel=1e-9)


def test_chemkin_files_by_their_names(tmp_path: Path) -> None:
    cantera = pytest.importorskip("cantera")
    solution = cantera.Solution("h2o2.yaml")
    places = [tmp_path / name for name in ("chem.inp", "therm.dat", "tran.dat")]
    solution.write_chemkin(*[str(p) for p in places], quiet=True)
    gas = Gas(load_mechanism(places[0]))
    assert gas.fits[0].shape[0] == len(gas.W)  # transport data came along
    _same_rates(gas, cantera.Solution("h2o2.yaml"), rel=1e-4)  # CHEMKIN's columns hold six digits
    places[1].unlink()
    with pytest.raises(MechanismError, match=r"chem\.inp: ck2yaml: .*therm\.dat"):
        load_mechanism(places[0])


def test_chemkin_without_cantera_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chem.inp").write_text("ELEMENTS\nH\nEND\n")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MechanismError, match="read by Cantera, which is not installed"):
        load_mechanism(tmp_path / "chem.inp")
