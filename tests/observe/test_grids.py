"""Fields on grids in files as others write them: PDEBench's of one and of many runs, netCDF's layout, npz."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit import observed
from simengine.fit.problem import Problem
from simengine.observe import Grids
from simengine.scene import SceneError
from simengine.scene.grammar import build_scene, make_world

T, X = np.linspace(0, 0.5, 11), (np.arange(16) + 0.5) / 16
RATE = 0.03


def heat(rate: float) -> np.ndarray:
    """cos(pi x) decays at pi^2 k; insulated ends, (t, x)."""
    return 2.0 + np.exp(-(np.pi**2) * rate * T)[:, None] * np.cos(np.pi * X)


def grids(folder: Path, file: str, columns: dict[str, str] | None = None, **more: Any) -> Grids:
    return Grids(
        name="g", directory=folder, file=file, columns=columns or {"t": "t", "x": "x", "u": "u"}, sigma=1e-3, **more
    )


def test_a_file_of_many_runs_whose_times_are_edges(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "many.hdf5", "w") as file:
        file["tensor"] = np.stack([heat(RATE * k) for k in (1, 2, 3)]).astype(np.float32)
        file["t-coordinate"], file["x-coordinate"] = np.append(T, 0.55), X
    names = {"t": "t-coordinate", "x": "x-coordinate", "u": "tensor"}
    read = grids(tmp_path, "many.hdf5", names, member=2, every={"t": 2, "x": 4}).read()
    assert read.values.shape == (6 * 4, 1)
    assert read.values[:, 0].numpy() == pytest.approx(heat(3 * RATE)[::2, ::4].ravel(), abs=1e-6)
    assert read.at["t"].tolist() == pytest.approx(np.repeat(T[::2], 4).tolist())
    assert read.at["x"].tolist() == pytest.approx(np.tile(X[::4], 6).tolist())
    with pytest.raises(SceneError, match=r"g\.file: many\.hdf5: 'tensor' has the shape \(3, 11, 16\).*; give `member`"):
        grids(tmp_path, "many.hdf5", names).read()
    with pytest.raises(SceneError, match="member: expected 0 to 2"):
        grids(tmp_path, "many.hdf5", names, member=3).read()


def test_groups_of_one_run_with_a_channel_and_units(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "runs.h5", "w") as file:
        file["0007/data"] = heat(RATE)[..., None]
        file["0007/grid/t"], file["0007/grid/x"] = T * 1e3, X * 100
    read = grids(tmp_path, "runs.h5", {"t": "grid/t [ms]", "x": "grid/x [cm]", "u": "data"}, group="0007").read()
    assert read.values[:, 0].numpy() == pytest.approx(heat(RATE).ravel())
    assert read.at["t"].amax() == pytest.approx(0.5) and read.at["x"].amax() == pytest.approx(X[-1])
    with pytest.raises(SceneError, match=r"has no array 'dta'; did you mean '0007/data'"):
        grids(tmp_path, "runs.h5", {"t": "grid/t", "x": "grid/x", "u": "dta"}, group="0007").read()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"t": "t", "u": "u"}}, r"shape \(11, 16\), and the axes are t 11"),
        ({"columns": {"x": "x", "t": "t", "u": "u"}}, "the axes are x 16, t 11"),
        ({"columns": {"t": "t", "x": "x"}}, "name the axes and a field"),
        ({"columns": {"t": "t", "x": "x", "u": "w"}}, "'w' holds <U1, no numbers"),
        ({"every": {"y": 2}}, "every: 'y' is no axis"),
        ({"group": "a"}, "group: an .npz has none"),
        ({"file": "u.csv"}, "a grid is an HDF5"),
        ({"file": "broken.h5"}, "not a readable HDF5 file"),
    ],
)
def test_what_is_no_grid_is_told_in_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "u.npz", t=T, x=X, u=heat(RATE), w=np.array(["a", "b"]))
    (tmp_path / "u.csv").write_text("t,x,u\n0,0,0\n")
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90))
    with pytest.raises(SceneError, match=message) as told:
        grids(tmp_path, **{"file": "u.npz", **change}).read()
    assert "\n" not in str(told.value) and str(told.value).startswith("observations.g")


KNOTS = np.linspace(0, 1, 101)
HEAT: dict[str, Any] = {
    "kind": "pde",
    "pde": {
        "equation": "heat",
        "conductivity": 0.1,
        "heat_capacity": 1.0,
        "initial": {"of": "x", "knots": KNOTS.tolist(), "values": (2 + np.cos(np.pi * KNOTS)).tolist()},
        "domain": [[0.0, 1.0]],
        "duration": 0.5,
        "cells": [40, 60],
        "boundary": [{"at": "both", "type": "neumann"}],
    },
}


def test_a_conductivity_from_a_grid(tmp_path: Path) -> None:
    """From the closed form, which no cells made; noise 1e-3 beside amplitudes of 1."""
    noise = 1e-3 * np.random.default_rng(0).standard_normal((11, 16))
    np.savez(tmp_path / "u.npz", t=T, x=X, u=heat(RATE) + noise)
    scene = {
        **HEAT,
        "observations": {
            "grid": {
                "type": "grids",
                "file": "u.npz",
                "columns": {"t": "t", "x": "x", "T": "u"},
                "every": {"t": 2},
                "sigma": 1e-3,
            }
        },
        "unknowns": {"pde.conductivity": {}},
    }
    found = se.identify(build_scene(scene, directory=tmp_path, locate=lambda key: key), progress=False)
    told = found.estimates["pde.conductivity"]
    assert told.value == pytest.approx(RATE, rel=0.01) and abs(told.value - RATE) < 4 * told.std
    assert 0.7 < found.summary["observations"]["grid"]["chi_square_per_degree"] < 1.5


def test_profiles_at_a_few_moments_or_histories_at_few_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines go along one coordinate; through the places of one moment, or the moments of one place."""
    np.savez(tmp_path / "u.npz", t=T, x=X, u=heat(RATE))
    drawn: list[tuple[Any, str]] = []

    def slices(panels: Any, *, xlabel: str) -> np.ndarray:
        drawn.append((panels, xlabel))
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(observed, "slices", slices)
    for every, along in ({"t": 1, "x": 1}, "x [m]"), ({"t": 1, "x": 4}, "t [s]"):
        problem = Problem(
            make_world(HEAT, directory=tmp_path, locate=lambda key: key),
            observations={"g": grids(tmp_path, "u.npz", {"t": "t", "x": "x", "T": "u"}, every=every)},
        )
        prediction = problem.predict(problem.start())["g"]
        observed.observation_blocks(problem, prediction)
        ((label, lines),), xlabel = drawn[-1][0].items(), drawn[-1][1]
        assert label.startswith("T") and xlabel == along and len(lines) == 4
        for words, entry in lines.items():
            held = float(words.split()[2])
            t, x = (held, X) if along == "x [m]" else (T, held)
            exact = 2.0 + np.exp(-(np.pi**2) * RATE * t) * np.cos(np.pi * x)
            assert entry["measured"][0].numpy() == pytest.approx(X if along == "x [m]" else T)
            assert entry["measured"][1].numpy() == pytest.approx(exact, abs=3e-4)  # words have four digits
            assert entry["predicted"][1].shape == exact.shape
    scattered = {"t": torch.linspace(0, 1, 9), "x": torch.linspace(0, 1, 9)}
    assert observed.sliced(scattered, torch.ones(9, dtype=torch.bool), {}) is None
