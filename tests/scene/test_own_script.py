"""A world of one's own in a script goes through the command line like any other."""

import json
from pathlib import Path

import pytest

from simengine.cli import main

SCRIPT = '''
from typing import ClassVar
import torch
import simengine as se

class Decay(se.OwnWorld):
    """y = exp(-rate t)."""
    parameters: ClassVar = {"rate": se.OwnNumber(1.0, "1/s", gt=0)}

    def simulate(self, values):
        t = torch.linspace(0.0, 3.0, 301, dtype=torch.float64)
        return se.OwnMotion(t, scalars={"y": torch.exp(-values["rate"] * t)})

scene = se.scene_of(
    Decay(),
    observations={"y": se.observe.Curve(file="y.csv", columns={"time": "t", "y": "y"}, sigma=1e-3)},
    unknowns={"rate": se.Unknown()},
)
'''


def test_a_script_is_fitted_checked_and_overridden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """y falls to a half every second: rate = ln 2; the file's four digits are what is known of it."""
    (tmp_path / "decay.py").write_text(SCRIPT)
    rows = "".join(f"{0.1 * k:.1f},{0.5 ** (0.1 * k):.4f}\n" for k in range(1, 30))
    (tmp_path / "y.csv").write_text("t,y\n" + rows)
    script = str(tmp_path / "decay.py")
    assert main(["fit", script, "--out", str(tmp_path / "run"), "--json", "--quiet"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["parameters"]["rate"] == pytest.approx(0.693147, abs=3e-4)
    assert main(["predict", script, "--out", str(tmp_path / "p"), "--set", "rate=2.0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["explained"] is False
    assert main(["predict", script, "--out", str(tmp_path / "q"), "--set", "rat=2.0"]) == 2
    assert "did you mean 'rate'" in capsys.readouterr().err


HELPER = """
import torch

def falling(rate, t):
    return torch.exp(-rate * t)
"""


def test_the_run_of_a_script_repeats_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Script, the module that it imports and the observation go along; what was set stays set."""
    home = tmp_path / "home"
    home.mkdir()
    script = SCRIPT.replace("import simengine as se", "import simengine as se\nfrom laws_of_mine import falling")
    (home / "decay.py").write_text(script.replace('torch.exp(-values["rate"] * t)', 'falling(values["rate"], t)'))
    (home / "laws_of_mine.py").write_text(HELPER)
    rows = "".join(f"{0.1 * k:.1f},{0.5 ** (0.1 * k):.4f}\n" for k in range(1, 30))
    (home / "y.csv").write_text("t,y\n" + rows)
    command = ["fit", str(home / "decay.py"), "--out", str(tmp_path / "run"), "--json", "--quiet", "--set", "rate=0.9"]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    home.rename(tmp_path / "gone")
    (tmp_path / "run").rename(tmp_path / "moved")
    again = str(tmp_path / "moved" / "scene.py")
    assert main(["fit", again, "--out", str(tmp_path / "again"), "--json", "--quiet"]) == 0
    second = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert second["parameters"] == first["parameters"] and second["loss"] == first["loss"]
    assert (tmp_path / "again" / "scene.toml").read_text() == (tmp_path / "moved" / "scene.toml").read_text()
    # the same name beside another script is another module
    other = tmp_path / "other"
    other.mkdir()
    (other / "decay.py").write_text((tmp_path / "gone" / "decay.py").read_text())
    (other / "laws_of_mine.py").write_text(HELPER.replace("-rate * t", "-2 * rate * t"))
    (other / "y.csv").write_text("t,y\n" + rows)
    assert main(["fit", str(other / "decay.py"), "--out", str(tmp_path / "o"), "--json", "--quiet"]) == 0
    half = json.loads(capsys.readouterr().out.splitlines()[-1])["parameters"]["rate"]
    assert half == pytest.approx(first["parameters"]["rate"] / 2, rel=1e-6)
