"""Tables of flame speeds as spreadsheets save them: every column counts, every fault is one line with its place."""

from pathlib import Path

import pytest
import torch

from simengine.flame.solver.solve import GridSolver, SpectralSolver
from simengine.scene import load_world
from simengine.scene.base import SceneError
from simengine.worlds.flames.tables import read_speeds, read_table

GOOD = "phi,flame_speed\n0.8,0.257\n1.0,0.359\n"
SAVED = {
    "plain": GOOD.encode(),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "semicolons": GOOD.replace(",", ";").encode(),
    "semicolons and decimal commas": GOOD.replace(",", ";").replace(".", ",").encode(),
    "tabs, remarks, blank lines": ("# by hand\n\n" + GOOD.replace(",", "\t") + "\n# end\n").encode(),
    "Windows' line ends": GOOD.replace("\n", "\r\n").encode(),
    "cm/s": b"phi,flame_speed [cm/s]\n0.8,25.7\n1.0,35.9\n",
    "other order, quoted": b'"flame_speed (cm/s)" , phi\n25.7,0.8\n"35.9",1.0\n',
}


@pytest.mark.parametrize("case", SAVED)
def test_what_spreadsheets_save_is_read(case: str, tmp_path: Path) -> None:
    (tmp_path / "speeds.csv").write_bytes(SAVED[case])
    data = read_speeds(tmp_path / "speeds.csv")
    assert data["phi"].tolist() == [0.8, 1.0]
    assert data["flame_speed"].tolist() == pytest.approx([0.257, 0.359], rel=1e-14)


REFUSED = {
    "cm/s without saying so": ("phi,flame_speed\n0.7,18.1\n0.8,25.7\n", r"25\.7 m/s is faster.*flame_speed \[cm/s\]"),
    "infinite": ("phi,flame_speed\n0.8,0.257\n1.0,inf\n", r"speeds\.csv:3: flame_speed: expected columns of numbers"),
    "empty cell": ("phi,flame_speed\n0.8,\n", r":2: flame_speed: .*got ''"),
    "text": ("phi,flame_speed\n\n0.8,fast\n", r":3: flame_speed: .*got 'fast'"),
    "negative": ("phi,flame_speed\n0.8,-0.2\n", "expected positive numbers, got -0.2"),
    "other names": ("phi;SL\n0.8;0.2\n", r"column 'SL' is not known; known: phi, flame_speed, T_in, p, sigma"),
    "nearly the name": ("phi,flame_sped\n0.8,0.2\n", "did you mean 'flame_speed'"),
    "one missing": ("phi,T_in\n0.8,300\n", "expected columns phi, flame_speed, found phi, T_in"),
    "a column twice": ("phi,flame_speed,phi\n0.8,0.2,0.8\n", "'phi' is given twice"),
    "a wrong unit": ("phi,flame_speed [kPa]\n0.8,0.2\n", "is in m/s, not kPa"),
    "an unknown unit": ("phi,flame_speed [knots]\n0.8,0.2\n", "'knots' in 'knots' is not known"),
    "ragged": ("phi,flame_speed\n0.8,0.2,1\n", ":2: 3 values for 2 columns"),
    "degrees": ("phi,flame_speed,T_in\n0.8,0.2,25\n", "T_in: expected values between 150 and 1500 in K, got 25"),
    "atmospheres": ("phi,flame_speed,p\n0.8,0.2,1\n", r"write 'p \[atm\]'"),
    "half a unit": ("phi,flame_speed [cm/s],sigma\n0.8,20,1\n", "unit of both"),
    "nothing": ("\n\n", "empty"),
    "no rows": ("phi,flame_speed\n", "without rows"),
    "a field of megabytes": (f"phi,flame_speed\n0.8,{'1' * 200000}\n", "field larger"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_fault_is_told_in_one_line(case: str, tmp_path: Path) -> None:
    text, message = REFUSED[case]
    (tmp_path / "speeds.csv").write_text(text)
    with pytest.raises(SceneError, match=message) as told:
        read_speeds(tmp_path / "speeds.csv")
    assert "\n" not in str(told.value) and len(str(told.value)) < 400 + len(str(tmp_path))


def test_columns_that_are_not_asked_for_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "profiles.csv").write_text("x [mm],T,comment\n0.5,300,cold\n1.5,1800,hot\n")
    data, _ = read_table(tmp_path / "profiles.csv", ("x", "T"), units={"x": "m"})
    assert data["x"].tolist() == [0.5e-3, 1.5e-3] and set(data) == {"x", "T"}
    (tmp_path / "latin.csv").write_bytes(b"x,T\n1,\xe9\n")
    with pytest.raises(SceneError, match="not UTF-8"):
        read_table(tmp_path / "latin.csv", ("x", "T"))
    with pytest.raises(SceneError, match="No such file"):
        read_table(tmp_path / "none.csv", ("x", "T"))


def _scene(folder: Path, table: str, *further: str):  # type: ignore[no-untyped-def]
    (folder / "speeds.csv").write_text(table)
    return load_world("calibrate_methane", [f'fit.data="{folder / "speeds.csv"}"', "fit.span=[0.1, 5]", *further])


def test_temperature_pressure_and_errors_of_each_row_count(tmp_path: Path) -> None:
    table = "phi,flame_speed [cm/s],T_in,p [atm],sigma [mm/s]\n0.7,18.1,298,1,8\n0.8,37.2,358,2,11\n"
    training = _scene(tmp_path, table).training()
    assert training.flame.T_in.tolist() == [298.0, 358.0]
    assert training.flame.p.tolist() == [101325.0, 202650.0]
    assert training.unit.tolist() == pytest.approx([8 / 181, 11 / 372]) and training.sigma == 1.0
    assert isinstance(training.solver, SpectralSolver)
    assert isinstance(_scene(tmp_path, table, "grid={slope = 0.1}").training().solver, GridSolver)
    with pytest.raises(SceneError, match="column sigma"):
        _scene(tmp_path, table, "fit.noise=0.03").training()


def test_constants_come_back_from_speeds_at_several_conditions(tmp_path: Path) -> None:
    scene = load_world("calibrate_methane", ["resolution=1e-5"])
    T_in, p = torch.tensor([300.0, 420.0, 300.0]), torch.tensor([1e5, 2e5, 3e5])
    flame = scene.build().replace(phi=torch.tensor([0.7, 1.0, 0.9]), T_in=T_in.double(), p=p.double())
    speeds = flame.flame_speed(SpectralSolver(resolution=1e-5).solve(flame).value.eigenvalue).tolist()
    rows = zip(flame.phi.tolist(), speeds, T_in.tolist(), p.tolist(), strict=True)
    table = "phi,flame_speed,T_in,p,sigma\n" + "".join(f"{a!r},{s!r},{T!r},{q!r},0.01\n" for a, s, T, q in rows)
    training = _scene(tmp_path, table, "resolution=1e-5", "fit.parameters.Ea-0.initial=9e4").training()
    while not training.converged:
        training.step()
    # Steps below 1e-6 end the fit; speeds tell what A and Ea share only weakly (correlation 0.99 and more).
    assert training.parameters.values()["Ea-0"] == pytest.approx(83680.0, rel=1e-5)
    r, _ = training.jacobian(training.parameters)
    assert float((r * training.unit).abs().max()) < 1e-6
    assert "warning" not in training.uncertainty()


def test_speeds_of_another_size_end_a_fit_at_its_first_step(tmp_path: Path) -> None:
    slow = "phi,flame_speed\n0.7,8.1\n0.8,9.7\n"  # cm/s; as m/s they could be hydrogen's
    with pytest.raises(ValueError, match="times those of the mechanism at the start; are they in m/s"):
        _scene(tmp_path, slow, "resolution=1e-4").training().step()
