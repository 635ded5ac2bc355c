"""Sweeps over processes, and the comparison of models, through the command line; the evidence against a closed form."""

import csv
import dataclasses
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

import simengine as se
from simengine.cli import main
from simengine.fit.certainty.evidence import log_evidence
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.joint_prior import JointPrior
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.fit.sweep import combinations, values_of
from simengine.fit.trainings.pool import ATTEMPTS, UNBORN, Ledger
from simengine.observe import Curve

SCENE = """
kind = "specimen"
[material]
type = "ogden"  # neo-Hookean: 2 mu/4 (tr C - 3)
mu = [3.3e5]
alpha = [2.0]
nu = 0.5
[test]
type = "uniaxial"
[observations.tension]
type = "curve"
against = "stretch"
file = "tension.csv"
sigma = 1e4
columns = { stretch = "stretch", nominal_stress = "stress [Pa]" }
"""


class Line(se.OwnWorld):
    """y = a + b t."""

    parameters: ClassVar = {"a": se.OwnNumber(0.0), "b": se.OwnNumber(0.0), "positive": se.OwnNumber(1.0, gt=0)}

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
        return se.OwnMotion(t, scalars={"y": values["a"] + values["b"] * t, "p": values["positive"].log() + 0 * t})


def _curve(folder: Path, name: str, values: list[float]) -> Curve:
    t = np.linspace(0, 1, len(values))
    lines = [f"time [s],{name}", *(f"{a},{b}" for a, b in zip(t, values, strict=True))]
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return Curve(directory=folder, file=f"{name}.csv", columns={"time": "time", name: name}, sigma=0.3)


@pytest.mark.parametrize("column", ["y", "p"])
def test_the_evidence_of_a_line_is_that_of_its_gaussian(tmp_path: Path, column: str) -> None:
    """Linear in what the priors are normal in (the numbers, or a logarithm): y ~ N(X m, sigma^2 + X S X^T)."""
    y = list(0.3 + 0.8 * np.linspace(0, 1, 8) + 0.1 * np.cos(9 * np.arange(8)))
    if column == "y":
        unknowns = {
            "a": se.Unknown(prior=se.Prior(normal=(0.1, 0.5))),
            "b": se.Unknown(prior=se.Prior(normal=(0.2, 2.0))),
        }
        x, m, s = np.stack([np.ones(8), np.linspace(0, 1, 8)], 1), np.array([0.1, 0.2]), np.diag([0.25, 4.0])
    else:
        unknowns = {"positive": se.Unknown(initial=1.7, prior=se.Prior(lognormal=(1.5, 0.7)))}
        x, m, s = np.ones((8, 1)), np.array([math.log(1.5)]), np.diag([0.49])
    problem = Problem(Line(), observations={"o": _curve(tmp_path, column, y)}, unknowns=unknowns)
    fit = LeastSquaresFit(problem)
    while not fit.converged:
        fit.step()
    from scipy.stats import multivariate_normal

    exact = multivariate_normal(x @ m, 0.09 * np.eye(8) + x @ s @ x.T).logpdf(y)
    evidence, why = log_evidence(problem, fit.z)
    assert not why and evidence == pytest.approx(exact, abs=2e-3)
    known, solves = posterior(problem, fit.z, problem.predict(fit.z)).linearised, problem.runs.solves
    assert log_evidence(problem, fit.z, known) == (evidence, "")  # to the bit
    assert problem.runs.solves == solves


def test_the_evidence_knows_what_of_a_prior_hangs_together(tmp_path: Path) -> None:
    """The line again, its numbers with a correlation of 0.6 before anything is measured."""
    y = list(0.3 + 0.8 * np.linspace(0, 1, 8) + 0.1 * np.cos(9 * np.arange(8)))
    x, m, s = np.stack([np.ones(8), np.linspace(0, 1, 8)], 1), np.array([0.1, 0.2]), np.array([[0.25, 0.6], [0.6, 4.0]])
    priors = [se.Unknown(prior=se.Prior(normal=(float(m[k]), float(s[k, k] ** 0.5)))) for k in (0, 1)]
    problem = Problem(
        Line(), observations={"o": _curve(tmp_path, "y", y)}, unknowns=dict(zip("ab", priors, strict=True))
    )
    joint = JointPrior(mean=torch.from_numpy(m), covariance=torch.from_numpy(s), logarithmic=False)
    problem.coordinates = type(problem.coordinates)(dataclasses.replace(c, joint=joint) for c in problem.coordinates)
    fit = LeastSquaresFit(problem)
    while not fit.converged:
        fit.step()
    from scipy.stats import multivariate_normal

    exact = multivariate_normal(x @ m, 0.09 * np.eye(8) + x @ s @ x.T).logpdf(y)
    assert log_evidence(problem, fit.z)[0] == pytest.approx(exact, abs=2e-3)


def test_a_number_without_a_prior_leaves_no_evidence(tmp_path: Path) -> None:
    problem = Problem(
        Line(), observations={"o": _curve(tmp_path, "y", [1.0, 2.0])}, unknowns={"a": se.Unknown(scale=1.0)}
    )
    assert log_evidence(problem, problem.start()) == (None, "a has no prior")


def test_what_a_sweep_goes_over_is_spelled_out() -> None:
    assert values_of("a.0.E=logspace(1e4, 1e6, 3)") == ("a.0.E", pytest.approx([1e4, 1e5, 1e6]))
    assert values_of("seed=range(3)") == ("seed", [0, 1, 2]) and values_of("k=[1.5, 'x']") == ("k", [1.5, "x"])
    assert combinations(["a=linspace(0,1,2)", "b=range(2)"]) == [
        {"a": 0.0, "b": 0},
        {"a": 0.0, "b": 1},
        {"a": 1.0, "b": 0},
        {"a": 1.0, "b": 1},
    ]
    for wrong in ("a", "a=", "=range(3)", "a=open('x')", "a=linspace(1,2)", "a=range(0)", "a=3"):
        with pytest.raises(ValueError, match="--over"):
            values_of(wrong)


def _scene(folder: Path, more: str = "", hold_out: str = "") -> Path:
    stretch = np.linspace(1.1, 2.0, 10)
    stress = 0.3e6 * (stretch - stretch**-2)
    lines = ["stretch,stress [Pa]", *(f"{a},{b}" for a, b in zip(stretch, stress, strict=True))]
    (folder / "tension.csv").write_text("\n".join(lines) + "\n")
    path = folder / f"scene{len(list(folder.glob('*.toml')))}.toml"
    path.write_text(SCENE + hold_out + more)
    return path


@pytest.mark.slow
def test_a_sweep_does_all_once_and_survives_its_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, out = _scene(tmp_path), tmp_path / "out"
    line = ["sweep", str(scene), "--over", "material.mu.0=linspace(2e5, 4e5, 5)", "--out", str(out), "--json"]
    killed: list[int] = []
    take = Ledger.take

    def kill(ledger: Ledger) -> int | None:  # all workers, as the first of them is given a task: the others only start
        number = take(ledger)
        if not killed:
            for child in multiprocessing.active_children():
                assert child.pid
                os.kill(child.pid, signal.SIGKILL)
                killed.append(child.pid)
        return number

    monkeypatch.setattr(Ledger, "take", kill)
    assert main(line) == 0
    said = json.loads(capsys.readouterr().out)
    assert killed and said["retried"] == 1 and (said["tasks"], said["done"], said["failed"]) == (5, 5, 0)
    with (out / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    moduli = np.linspace(2e5, 4e5, 5)
    assert [float(row["material.mu.0"]) for row in rows] == pytest.approx(list(moduli))
    # the stress is mu (stretch - stretch^-2), so chi-square is that of the difference of two such curves
    shape = np.linspace(1.1, 2.0, 10) - np.linspace(1.1, 2.0, 10) ** -2
    chi = [float(np.mean(((own - 0.3e6) * shape / 1e4) ** 2)) for own in moduli]
    assert [float(row["observations.tension.chi_square_per_row"]) for row in rows] == pytest.approx(chi, rel=1e-5)
    (out / "tasks" / "0003.json").unlink()
    assert main(line) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 1
    assert main([*line[:3], "material.mu.0=[1e5]", *line[4:]]) == 2
    assert "another sweep" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_on_a_cluster_survives_its_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distributed = pytest.importorskip("distributed")
    scene, out = _scene(tmp_path), tmp_path / "out"
    over = "material.mu.0=linspace(2e5, 4e5, 6)"
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        first = next(iter(cluster.workers.values()))
        seen = first.pid
        done = out / "tasks"

        def kill() -> None:  # a worker at its work
            until = time.monotonic() + 120
            while not list(done.glob("*.json")) and time.monotonic() < until:
                time.sleep(0.05)
            os.kill(seen, signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        line = ["sweep", str(scene), "--over", over, "--out", str(out), "--json", "--cluster"]
        assert main([*line, cluster.scheduler_address]) == 0
        thread.join()
        said = json.loads(capsys.readouterr().out)
        assert (said["tasks"], said["done"], said["failed"]) == (6, 6, 0)
        assert seen != first.pid  # its nanny began another
        (done / "0003.json").unlink()
        assert main([*line, cluster.scheduler_address]) == 0
        assert json.loads(capsys.readouterr().out)["done"] == 1
    with (out / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["material.mu.0"]) for row in rows] == pytest.approx(list(np.linspace(2e5, 4e5, 6)))
    assert all(float(row["observations.tension.chi_square_per_row"]) >= 0 for row in rows)
    (done / "0001.json").unlink()
    assert main([*line, "tcp://127.0.0.1:9"]) == 2
    assert "no Dask scheduler answers" in capsys.readouterr().err


@pytest.mark.slow
def test_the_workers_of_a_sweep_end_with_it_and_the_next_call_does_the_rest(tmp_path: Path) -> None:
    scene, out = _scene(tmp_path), tmp_path / "out"
    over = "material.mu.0=linspace(2e5, 4e5, 30)"
    line = [sys.executable, "-m", "simengine", "sweep", str(scene), "--over", over, "--out", str(out), "--json"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 240
    while len(list((out / "tasks").glob("*.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in (out / "tasks").glob("*.json")}
    assert 3 <= len(kept) < 30
    said = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
    assert said["done"] == 30 - len(kept) and said["failed"] == 0
    assert all((out / "tasks" / name).stat().st_mtime_ns == when for name, when in kept.items())
    with (out / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["material.mu.0"]) for row in rows] == pytest.approx(list(np.linspace(2e5, 4e5, 30)))


def test_only_a_death_at_its_task_is_counted_against_it() -> None:
    """However many workers die at their start in between; what lost its worker goes behind the others."""
    ledger = Ledger(range(3))
    for _ in range(UNBORN - 1):
        assert not ledger.lost(None)
    assert ledger.take() == 0 and list(ledger.waiting) == [1, 2]
    assert not ledger.lost(0) and list(ledger.waiting) == [1, 2, 0]
    for death in range(2, ATTEMPTS + 1):
        assert not any(ledger.lost(None) for _ in range(UNBORN - 1))
        assert [ledger.take() for _ in range(3)] == [1, 2, 0]
        ledger.waiting.extend((1, 2))
        assert ledger.lost(0) == (death == ATTEMPTS)
    assert ledger.retried == ATTEMPTS - 1 and list(ledger.waiting) == [1, 2]
    assert (ledger.take(), ledger.take(), ledger.take()) == (1, 2, None)


def test_workers_that_die_at_their_start_end_a_sweep_and_no_task() -> None:
    ledger = Ledger([7])
    for _ in range(UNBORN - 1):
        assert not ledger.lost(None)
    with pytest.raises(RuntimeError, match="before they were ready"):
        ledger.lost(None)
    assert list(ledger.waiting) == [7] and ledger.retried == 0


DIES = """
import multiprocessing, os, pathlib
from simengine.scene import load_scene

if multiprocessing.parent_process() is not None:  # a worker
    deaths = pathlib.Path(__file__).with_name("deaths")
    so_far = len(deaths.read_text()) if deaths.exists() else 0
    if so_far < {times}:
        deaths.write_text("x" * (so_far + 1))
        os._exit(9)

scene = load_scene(str(pathlib.Path(__file__).with_name("{name}")))
"""


@pytest.mark.parametrize("times", [2, 100])
def test_a_task_that_kills_its_worker_is_given_again_and_then_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], times: int
) -> None:
    out, scene = tmp_path / "out", _scene(tmp_path)
    script = tmp_path / "dies.py"
    script.write_text(DIES.format(times=times, name=scene.name))
    code = main(["sweep", str(script), "--over", "material.mu.0=[2e5]", "--out", str(out), "--workers", "1", "--json"])
    said, deaths = json.loads(capsys.readouterr().out), min(times, ATTEMPTS)
    assert len((tmp_path / "deaths").read_text()) == deaths
    told = (out / "tasks" / "0000.json").read_text()
    if times < ATTEMPTS:
        assert (code, said["retried"], said["failed"]) == (0, 2, 0) and "chi_square" in told
    else:
        assert (code, said["retried"], said["failed"]) == (1, ATTEMPTS - 1, 1) and "died 5 times" in told


def test_fits_are_compared_by_held_out_data_and_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = "hold_out = { rows = [8, 9] }\n"
    free = _scene(tmp_path, "[unknowns.'material.mu.0']\nprior.lognormal = 0.5\n", held)
    wrong = _scene(tmp_path, "[unknowns.'material.mu.0']\nprior.lognormal = 0.01\n", held)
    for scene, out in ((free, "a"), (wrong, "b")):
        assert main(["fit", str(scene), "--out", str(tmp_path / out), "--quiet"]) == 0
    entry = json.loads((tmp_path / "b" / "fit.json").read_text())["observations"]["tension"]["held_out"]
    with next((tmp_path / "b" / "predictions").glob("*.csv")).open() as stream:
        rows = [{k.split()[-1]: float(v) for k, v in row.items()} for row in csv.DictReader(stream)][8:10]
    for name, bar in (("chi_square_per_row", 0.0), ("chi_square_per_row_with_bars", 1.0)):
        off = [(row["predicted"] - row["measured"]) ** 2 / (row["sigma"] ** 2 + bar * row["bar"] ** 2) for row in rows]
        assert entry[name] == pytest.approx(sum(off) / 2, rel=1e-5)
    assert entry["chi_square_per_row_with_bars"] < 0.99 * entry["chi_square_per_row"]
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    a, b = table.values()
    assert a["log evidence"] > b["log evidence"] + 3 and b["times less probable than the best"] > 20
    name = "tension: held out, chi-square per value"
    assert a[name] < 1e-2 < b[name]
    assert main(["compare", str(tmp_path / "a"), str(tmp_path), "--json"]) == 2
    assert "fit.json" in capsys.readouterr().err


def test_the_best_next_row_is_told_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The stress grows with the stretch, and so does what it tells of mu: the last candidate tells most."""
    scene = _scene(tmp_path, "[unknowns.'material.mu.0']\nprior.lognormal = 0.5\n", "hold_out = { rows = [4, 8, 9] }\n")
    assert main(["design", str(scene), "--json"]) == 0
    listed = list(json.loads(capsys.readouterr().out))
    assert listed == ["1. tension: stretch = 2", "2. tension: stretch = 1.9", "3. tension: stretch = 1.5"]
