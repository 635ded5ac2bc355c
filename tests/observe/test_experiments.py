"""Tables of experiments: groups of rows, another model beside, a gain for each laboratory."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from simengine.fit.problem.prediction import Prediction, scores, tables
from simengine.fit.unknowns import spread_out
from simengine.observe import Experiments, HoldOut
from simengine.scene import SceneError
from simengine.scene.sought import Prior, Unknown

TABLE = (
    "key,phi,S [cm/s],model [cm/s],bar [cm/s],paper\n"
    "a,0.7,20,19,2,B1990\n"
    "b,0.8,25,26,2,A1980\n"
    "c,0.9,30,,2,C2000\n"
    "d,1.0,35,34,2,B1990\n"
    "e,1.1,30,33,2,D2010\n"
)


def _table(folder: Path, **more: object) -> Experiments:
    (folder / "speeds.csv").write_text(TABLE)
    keys: dict[str, object] = {
        "conditions": {"phi": "phi"},
        "measured": {"flame_speed": "S [cm/s]"},
        "row": "key",
        "sigma": "bar [cm/s]",
        "sigma_level": 2.0,
        **more,
    }
    return Experiments(name="speeds", file="speeds.csv", directory=folder, **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "out"),
    [
        ({"share": 0.5}, "ade"),  # of A, B, C, D the second and the fourth
        ({"share": 0.25}, "e"),
        ({"groups": ("A1980", "C2000")}, "bc"),
    ],
)
def test_whole_groups_are_held_out(tmp_path: Path, spec: dict[str, object], out: str) -> None:
    measured = _table(tmp_path, hold_out=HoldOut(by="paper", **spec)).read()  # type: ignore[arg-type]
    assert [n for n, h in zip(measured.row_names, measured.held_out[:, 0], strict=True) if h] == list(out)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hold_out": HoldOut(by="papers", share=0.5)}, "hold_out.by: speeds.csv has no column 'papers'"),
        ({"hold_out": HoldOut(by="paper", groups=("E",))}, "hold_out.groups: no row of 'paper' is 'E'"),
        ({"hold_out": HoldOut(by="paper", share=0.1)}, "hold_out.share: 0.1 of 4 groups is none"),
        ({"beside": {"theirs": "model [1]"}}, "beside.theirs: tell the unit of both"),
        ({"beside": {"theirs": "models"}}, "beside.theirs: speeds.csv has no column 'models'"),
    ],
)
def test_what_cannot_be_grouped_is_told_in_one_line(tmp_path: Path, keys: dict[str, object], message: str) -> None:
    with pytest.raises(SceneError, match=message) as told:
        _table(tmp_path, **keys).read()
    assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match="it goes with share or groups"):
        HoldOut(share=0.5)


def test_rows_that_are_left_out_keep_names_and_models_in_step(tmp_path: Path) -> None:
    own = _table(tmp_path, where={"paper": ["A1980", "B1990"]}, beside={"theirs": "model [cm/s]"})
    measured = own.read()
    assert measured.row_names == ("a", "b", "d") and measured.words["paper"] == ("B1990", "A1980", "B1990")
    assert measured.beside["theirs"][:, 0].tolist() == pytest.approx([0.19, 0.26, 0.34])
    part = measured.only(torch.tensor([False, True, True]))
    assert part.row_names == ("b", "d") and part.beside["theirs"][:, 0].tolist() == pytest.approx([0.26, 0.34])


def test_another_model_is_scored_where_it_has_an_answer(tmp_path: Path) -> None:
    own = _table(tmp_path, beside={"theirs": "model [cm/s]"})
    measured = own.read()
    predicted = Prediction(name="speeds", values=1.09 * measured.values, measured=measured, sigma=own.noise(measured))
    found = scores(predicted, measured.mask)
    assert found["prediction"]["mean"] == pytest.approx(0.09) and found["prediction"]["rms"] == pytest.approx(0.09)
    assert found["prediction"]["inside"] == 1 and found["theirs"]["rows"] == 4  # 1.8 and more of 2 cm/s
    share = [-1 / 20, 1 / 25, -1 / 35, 3 / 30]
    assert found["theirs"]["rms"] == pytest.approx(math.sqrt(sum(s * s for s in share) / 4))
    assert (
        found["theirs"]["chi_square_per_row"] == pytest.approx((1 + 1 + 1 + 9) / 4) and found["theirs"]["inside"] == 3
    )
    models, rows = tables(predicted, measured.fitted)
    assert [row[1] for row in models.rows] == ["prediction", "theirs"]  # type: ignore[union-attr]
    assert [row[0] for row in rows.rows] == list("abcde")  # type: ignore[union-attr]


def test_each_laboratory_has_its_own_gain(tmp_path: Path) -> None:
    own = _table(tmp_path)
    measured = own.read()
    unknown = {"observations.speeds.gain": Unknown(per="paper", prior=Prior(lognormal=(1.0, 0.03)))}
    spread = spread_out(own, measured, unknown)
    assert isinstance(spread.gain, tuple) and len(spread.gain) == 4
    gains = dataclasses.replace(spread, gain=(1.0, 2.0, 3.0, 4.0))  # of A, B, C, D
    run = SimpleNamespace(sample=lambda ask: torch.ones(5, 1, dtype=torch.float64))
    assert gains.predict(run, measured)[:, 0].tolist() == [2.0, 1.0, 3.0, 2.0, 4.0]  # type: ignore[arg-type]
    with pytest.raises(SceneError, match="'lab' is no column of words"):
        spread_out(own, measured, {"observations.speeds.gain": Unknown(per="lab")})
