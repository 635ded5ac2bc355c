"""`check` of a table of flames predicts a few rows where all would take long, and says which and how long."""

from pathlib import Path

import pytest

from simengine.cli.check import check
from simengine.fit import preflight
from simengine.fit.preflight import check_observations
from simengine.fit.problem import Problem
from simengine.observe import Experiments
from simengine.scene import Prior, SceneError, Unknown, load_world
from simengine.worlds.flames.world import FlameWorld

ROWS = [300.0, 310.0, 320.0, 330.0, 340.0, 350.0]


def problem(folder: Path) -> Problem:
    lines = ["name,T [K],S [m/s]", *(f"no{k},{T},0.4" for k, T in enumerate(ROWS))]
    (folder / "speeds.csv").write_text("\n".join(lines) + "\n")
    table = Experiments(
        directory=folder,
        file="speeds.csv",
        row="name",
        conditions={"T_in": "T"},
        measured={"flame_speed": "S"},
        sigma=0.02,
    )
    return Problem(load_world("free_flame_simple", ["resolution=1e-6"]), observations={"speeds": table})


@pytest.mark.parametrize(("patience", "count"), [(1e9, 6), (0.0, 2)])
def test_rows_that_are_predicted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    patience: float,
    count: int,
) -> None:
    monkeypatch.setattr(preflight, "PATIENCE", patience)
    seen = problem(tmp_path)
    told = check_observations(seen, seconds_of_one=120.0 if count == 2 else 1.0)
    said = "check: 6 rows would take some 12.0 min at least; 2 are predicted" in capsys.readouterr().err
    assert said is (count == 2)
    assert int(seen.measured["speeds"].mask.sum()) == count == int(seen.predict()["speeds"].values.isfinite().sum())
    if count == 6:
        assert "rows_predicted" not in told
    else:  # the second of the first three, the second of the last three
        assert told["rows_predicted"]["speeds"].startswith("2 of 6 (no1, no4); `simengine predict` does all, in some")


def test_rows_that_turn_out_quick_are_all_predicted(tmp_path: Path) -> None:
    """The flame of the scene took a day: its rows do not."""
    seen = problem(tmp_path)
    assert "rows_predicted" not in check_observations(seen, seconds_of_one=86400.0)
    assert int(seen.measured["speeds"].mask.sum()) == 6


def test_the_time_of_a_fit_counts_no_solve_for_a_number_whose_derivative_is_implicit(tmp_path: Path) -> None:
    seen = problem(tmp_path)
    keys = ("flame.lam", "flame.Ea", "flame.p")
    seen = Problem(seen.scene, unknowns={key: Unknown(prior=Prior(lognormal=0.3)) for key in keys})
    told = check_observations(seen)
    assert told["seconds_of_a_fit_about"] <= 2 * 5 * 2 * told["seconds_of_a_solve"]  # of two stages at most


def test_a_file_that_is_missing_is_told_before_a_flame_is_solved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.toml").write_text(
        'kind = "flame"\nflame.type = "free_simple"\n[observations.speeds]\ntype = "experiments"\nfile = "no.csv"\n'
        'conditions = { T_in = "T" }\nmeasured = { flame_speed = "S" }\n'
    )
    solved: list[object] = []
    monkeypatch.setattr(FlameWorld, "check", lambda self, device=None: solved.append(self) or {"ok": True})
    with pytest.raises(SceneError, match=r"no\.csv"):
        check(str(tmp_path / "s.toml"))
    assert not solved
