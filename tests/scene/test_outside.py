"""A kind of world and an instrument that simengine does not know: a module of one's own and a line each in a table."""

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import simengine as se
from simengine.cli import main
from simengine.fit.problem import Problem
from simengine.scene.kinds import _GROUPS, INSTRUMENTS, KINDS, register
from simengine.scene.schema import json_schema

MODULE = '''
import dataclasses, json
from typing import Annotated, ClassVar
import torch
from simengine.scene.asks import Series
from simengine.scene.base import AbstractRun, AbstractWorld
from simengine.scene.instrument import AbstractInstrument, Measured
from simengine.scene.strict import Positive, Range, Unit


@dataclasses.dataclass(frozen=True)
class Shadow(AbstractRun):
    height: object
    ground: object

    def sample(self, ask):
        return (self.height / torch.tan(ask.values) - self.ground)[:, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gnomon(AbstractWorld):
    """A rod in the sun.

    Attributes:
        height: Of the rod.
        ground: How far the shadow's ruler starts from the rod [m].
    """

    kind: ClassVar[str] = "gnomon"
    answers: ClassVar = frozenset((Series,))
    height: Annotated[float, Range(gt=0), Unit("m")]
    ground: float = 0.0

    def build(self, *, device=None):
        return self

    def solve(self, asks, *, gradient=False, near=None, device=None):
        return Shadow(self.height, self.ground)

    def scalars(self):
        return {"shadow": "m"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ruler(AbstractInstrument):
    """A ruler that writes JSON.

    Attributes:
        stretch: Of the ruler [1].
    """

    type: str = "ruler"
    stretch: Positive = 1.0

    def read(self, *, before=0.0):
        data = json.loads(self.path.read_text())
        values = torch.tensor(data["mm"], dtype=torch.float64)[:, None] / 1e3
        mask, out = self._masked(values, ("shadow",), None, torch.ones(len(values), dtype=torch.bool))
        return Measured(
            values=values, names=("shadow",), units=("m",), at={"sun": torch.tensor(data["sun"], dtype=torch.float64)},
            mask=mask, held_out=out, sigma=torch.full_like(values, torch.nan), files={self.path.name: "0"},
        )

    def asks(self, measured):
        return (Series(names=("shadow",), against="sun", values=measured.at["sun"]),)

    def respond(self, answers, measured):
        return answers[0] / self.stretch

    def write(self, file, measured):
        raise NotImplementedError
'''
SCENE = """
kind = "gnomon"
height = 1.0

[observations.noon]
type = "ruler"
file = "shadow.json"
sigma = 1e-3

[unknowns.height]
[unknowns.ground]
prior.normal = 0.2
"""
ENTRIES = "[simengine.kinds]\ngnomon = outside_sundial:Gnomon\n[simengine.instruments]\nruler = outside_sundial:Ruler\n"
HEIGHT, GROUND = 1.37, 0.12


@pytest.fixture(params=["registered", "entry point"])
def sundial(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A scene of a module that is installed beside simengine, and a measured file: heights by trigonometry alone."""
    kept = [dict(table) for _, table in _GROUPS.values()]
    package = tmp_path / "site"
    package.mkdir()
    (package / "outside_sundial.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(package))
    if request.param == "registered":
        register("kind", "gnomon", "outside_sundial:Gnomon")
        register("type", "ruler", "outside_sundial:Ruler")
    else:
        info = package / "outside_sundial-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-sundial\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(ENTRIES)
    noise = random.Random(3)
    sun = [math.radians(20 + 2 * k) for k in range(25)]
    shadow = [1e3 * (HEIGHT / math.tan(a) - GROUND) + noise.gauss(0, 1.0) for a in sun]
    (tmp_path / "shadow.json").write_text(json.dumps({"sun": sun, "mm": shadow}))
    (tmp_path / "sundial.toml").write_text(SCENE)
    yield tmp_path / "sundial.toml"
    monkeypatch.delitem(__import__("sys").modules, "outside_sundial", raising=False)
    for (_, table), before in zip(_GROUPS.values(), kept, strict=True):
        table.clear()
        table.update(before)


def test_both_are_found_and_fitted_by_one_command(sundial: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    out = tmp_path / "fit"
    assert main(["fit", str(sundial), "--out", str(out), "--json"]) == 0, capfd.readouterr().err
    estimates = json.loads(capfd.readouterr().out)["estimates"]
    for name, true in (("height", HEIGHT), ("ground", GROUND)):
        e = estimates[name]
        assert abs(e["value"] - true) < 3.5 * e["std"] < 0.01 and e["unit"] == "m"
    assert (out / "report.html").is_file()


def test_numbers_of_both_can_be_sought_in_python(sundial: Path) -> None:
    scene = se.load_scene(sundial)
    problem = Problem(scene, unknowns={"height": se.Unknown(), "observations.noon.stretch": se.Unknown(initial=1.01)})
    result = se.identify(problem, progress=False)
    assert set(result.estimates) == {"height", "observations.noon.stretch"}
    assert not any(e.identified for e in result.estimates.values())  # only their ratio is told
    assert "Infinity" not in result.to_json()
    assert not result.summary["explained"]  # the ruler starts 12 cm from the rod, which no stretch imitates


def test_the_schema_knows_them(sundial: Path) -> None:
    schema = json_schema()
    assert "gnomon" in schema["properties"]["kind"]["enum"]
    types = [part["properties"]["type"] for part in schema["definitions"]["observation"]["anyOf"][:-1]]
    assert {"const": "ruler"} in types


def test_nothing_is_left_in_the_tables() -> None:
    assert "gnomon" not in KINDS and "ruler" not in INSTRUMENTS
    with pytest.raises(se.scene.SceneError, match="no kind of scene"):
        se.scene.kinds.named_class("kind", "gnomon")
