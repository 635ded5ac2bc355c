"""Scenes of hard constraints, run and fitted on small grids."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from key_cases.fields import FIT
from key_cases.fields import SMALL as TINY
from key_cases.judge import learn

from simengine.constraint import HardConstraint
from simengine.fit import fit
from simengine.fit.trainings.learned import learning_of
from simengine.io.run_directory import RunDirectory
from simengine.scene import Scene, load_scene, load_world, resolved
from simengine.scene.base import SceneError
from simengine.scene.grammar import build_scene
from simengine.worlds.fields.specs import Experts

SMALL = ["problem.nt=41", "problem.nx=64", "experts.rows_per_block=2000"]


def directory(path: Path, scene: object) -> RunDirectory:
    return RunDirectory.create(path, resolved(scene), overwrite=False, resume=True)  # type: ignore[arg-type]


def trained(scene: Scene) -> Any:
    return learning_of(scene)


def test_run(tmp_path: Path) -> None:
    scene = load_world("diffusion_sorption", [*SMALL, "experts.counts=[1,3]"])
    summary = scene.run(directory(tmp_path, scene), device="cpu")
    assert summary["result"] == "SUCCESS" and summary["largest_interface_jump"] < 1e-3
    assert max(summary["relative_error"]) < 5e-3  # dt is 2.5 times that of the scene: 6 times 0.05 %, and some room
    assert {"fields.png", "profiles.png", "solution.npz"} <= {file.name for file in tmp_path.iterdir()}
    with np.load(tmp_path / "solution.npz") as file:
        error = np.linalg.norm(file["u"] - file["reference"]) / np.linalg.norm(file["reference"])
    assert error < 5e-3
    assert scene.check()["experts"] == 3


def test_too_few_snapshots(tmp_path: Path) -> None:
    scene = load_world("diffusion_sorption", [*SMALL, "snapshots=4"])
    with pytest.raises(SceneError, match="4 solutions do not give"):
        scene.run(directory(tmp_path, scene), device="cpu")


SMALL_FIT = [
    "problem.nt=16",
    "problem.nx=16",
    "basis_size=4",
    "problem.u0=[0.1]",
    "training.on.nt=12",
    "training.on.nx=16",
]
SMALL_FIT += ["model.backbone.width=8", "examples.members=2"]
TRAININGS = {
    "lbfgs": ["training.iterations=2"],
    "adam": ["training.optimiser=adam", "training.iterations=6", "training.learning_rate=5e-3"],
    "solver": [
        "training.optimiser=adam",
        "training.iterations=4",
        "training.learning_rate=5e-3",
        "training.through=solver",
    ],
    "soft": ["training.constraint=soft", "model.backbone.branch=true", "training.iterations=2"],
    "independent": ["training.experts.coupled=false", "training.iterations=2"],
    "beyond": ["training.on.duration=400", "training.iterations=2"],
}


SLOW = ("solver", "independent", "beyond")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in TRAININGS])
def test_trainings_lower_their_loss(name: str, tmp_path: Path) -> None:
    scene = load_scene("diffusion_sorption", [*SMALL_FIT, *TRAININGS[name]])
    result = fit(trained(scene), directory(tmp_path, scene), progress=False)
    assert result.history[-1]["loss"] < result.history[0]["loss"]  # of members that stay
    assert len(result.summary["relative_error"]) == 1
    assert ("relative_error_beyond_training" in result.summary) == (name == "beyond")
    assert {"fields.png", "profiles.png", "solution.npz"} <= {file.name for file in tmp_path.iterdir()}


def test_the_cost_that_a_layer_leaves_is_the_mean_square_residual_of_its_field() -> None:
    """What needs no adjoint and what goes through the solver are one number, where there is one block."""
    losses = []
    for through in ("minimum", "solver"):
        changes = [*SMALL_FIT, "training.optimiser=adam", f"training.through={through}"]
        torch.manual_seed(3)
        made = trained(load_scene("diffusion_sorption", [*changes, "training.experts.counts=[1,1]"]))
        losses.append(made.step()["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)  # networks in float32


def test_training_resumes_bitwise_with_learned_cuts(tmp_path: Path) -> None:
    changes = [*SMALL_FIT, "training.optimiser=adam", "examples.fresh=true", "training.experts.counts=[1,3]"]
    changes += ["training.experts.cuts=learned", "training.reroute=2", "training.iterations=5"]
    scene = load_scene("diffusion_sorption", changes)
    torch.manual_seed(6)
    whole = trained(scene)
    torch.manual_seed(7)
    result = fit(whole, directory(tmp_path / "whole", scene), progress=False)
    assert "router" in result.history[1] and "router" not in result.history[0]
    assert whole.layer.blocks.owner.bincount().unique().numel() > 1  # blocks of different widths
    first = trained(scene)
    torch.manual_seed(7)
    for _ in range(3):
        first.step()
    state, random = first.state_dict(), torch.get_rng_state()
    second = trained(scene)
    second.load_state_dict(state)
    torch.set_rng_state(random)
    for _ in range(2):
        second.step()
    ends = zip(whole.state_dict().items(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for (name, a), b in ends if name.startswith(("module.", "router.")))


def test_learned_cuts_are_kept_where_they_lower_the_residual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[list[int]] = []
    plain = Experts.layer

    def layer(self: Experts, *given: Any, **options: Any) -> HardConstraint:
        tried.extend([options["cuts"][1]] if options.get("cuts") else [])
        return plain(self, *given, **options)

    monkeypatch.setattr(Experts, "layer", layer)
    residuals = []
    for cuts in ("uniform", "learned"):
        scene = load_world("diffusion_sorption", [*SMALL, "experts.counts=[1,3]", f"experts.cuts={cuts}", "rounds=2"])
        summary = scene.run(directory(tmp_path / cuts, scene), device="cpu")
        assert summary["result"] == "SUCCESS" and max(summary["relative_error"]) < 5e-3
        with np.load(tmp_path / cuts / "solution.npz") as file:
            field = torch.tensor(file["u"])
        family = scene.problem.family()
        rows, table = family.rows(), family.table(field.unsqueeze(-1)).squeeze(-1)
        residuals.append(float(family.residual(table[:, rows.index], rows.data, {}).square().sum()))
    assert residuals[1] <= residuals[0] * (1 + 1e-9)
    widths = np.diff(tried[0])
    assert widths.sum() == 64 and widths[0] < widths[-1]  # the residual is at the inflow
    assert summary["cuts"][1] in [[0, 21, 43, 64], *tried]


FIELDS = {
    "navier_stokes": ["problem.nt=9", "problem.size=16", "problem.duration=0.5", "model.backbone.modes=[3,3,3]"],
    "burgers": ["problem.nt=21", "problem.nx=32", "problem.viscosity=0.05", "model.backbone.modes=[4,4]"],
    "allen_cahn": ["problem.nt=21", "problem.nx=32"],
}


@pytest.mark.parametrize("name", ["navier_stokes", *(pytest.param(n, marks=pytest.mark.slow) for n in [*FIELDS][1:])])
def test_field_scenes(name: str, tmp_path: Path) -> None:
    scene = load_world(name, [*FIELDS[name], "basis_size=6", "snapshots=6", "problem.members=2"])
    summary = scene.run(directory(tmp_path, scene), device="cpu")
    assert summary["result"] == "SUCCESS" and max(summary["relative_error"]) < 1e-2
    assert max(summary["relative_error"]) < 0.1 * min(summary["no_change_error"])
    assert scene.render(tmp_path, tmp_path / "last.png", fps=5).is_file()
    film = scene.render(tmp_path, tmp_path / "film.gif", fps=5)
    import imageio.v3

    assert len(imageio.v3.imread(film)) == scene.build().pde.shape[0]
    few = [*FIELDS[name], "basis_size=3", "training.iterations=2", "model.backbone.width=4", "problem.members=1"]
    scene = load_scene(name, few)
    result = fit(trained(scene), directory(tmp_path / "fit", scene), progress=False)
    assert len(result.history) == 2 and len(result.summary["relative_error"]) == 1


WINDOWS = ["problem.nt=13", "problem.size=8", "problem.duration=1.0", "problem.members=1", "training.windows=3"]
WINDOWS += ["basis_size=4", "model.backbone.modes=[2,3,3]", "model.backbone.width=4", "training.iterations=4"]


@pytest.mark.parametrize("constraint", ["hard", pytest.param("soft", marks=pytest.mark.slow)])
def test_windows_follow_one_another(constraint: str, tmp_path: Path) -> None:
    scene = load_scene("navier_stokes", [*WINDOWS, f"training.constraint={constraint}"])
    training = trained(scene)
    training.step()
    first = training.state_dict()
    random = torch.get_rng_state()
    training.step()  # from where the first ended
    again = trained(scene)
    again.load_state_dict(first)
    torch.set_rng_state(random)
    again.step()
    assert torch.equal(training.state_dict()["end"], again.state_dict()["end"])
    start = training._last["w0"]
    assert torch.equal(start, first["end"]) and not torch.equal(start, training.state_dict()["end"])
    result = fit(trained(scene), directory(tmp_path, scene), progress=False)
    with np.load(tmp_path / "solution.npz") as file:
        assert file["u"].shape == (1, 13, 8, 8) and np.isfinite(file["u"]).all()
    if constraint == "hard":  # even where hardly trained: its first functions are those of the Taylor series
        assert result.summary["relative_error"][0] < 0.2 * result.summary["no_change_error"][0]


def test_windows_that_do_not_fit() -> None:
    with pytest.raises(
        SceneError, match=r"training.windows: .* intervals that 5 divides; got navier_stokes with nt = 13"
    ):
        trained(load_scene("navier_stokes", [*WINDOWS, "training.windows=5"]))
    with pytest.raises(SceneError, match=r"training.windows: need an initial field"):
        trained(load_scene("diffusion_sorption", ["training={windows=2}"]))


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"experts.counts: expected one number per axis of the grid \(64, 64, 64\)"):
        load_world("navier_stokes", ["problem.nt=64", "problem.size=64", "experts.counts=[1,4]"]).build()
    with pytest.raises(SceneError, match="lbfgs needs members that stay"):
        load_world("diffusion_sorption", ["examples.fresh=true"])
    with pytest.raises(SceneError, match=r'rounds: has no effect with experts.cuts = "uniform"; leave it out'):
        load_world("burgers", ["rounds=3"])
    with pytest.raises(SceneError, match=r'learning_rate: has no effect with optimiser = "lbfgs"'):
        load_world("diffusion_sorption", ["training.learning_rate=0.01"])
    with pytest.raises(SceneError, match=r'training.reroute: has no effect with cuts = "uniform"'):
        trained(load_scene("burgers", ["training.reroute=20"]))
    with pytest.raises(SceneError, match=r"model.backbone.modes: expected 2 numbers"):
        trained(load_scene("burgers", ["model.backbone.modes=[4,4,4]"]))
    with pytest.raises(SceneError, match=r"training.on.type: expected that of the scene"):
        trained(load_scene("burgers", ["training.on.type=allen_cahn"]))
    with pytest.raises(SceneError, match=r"model.type: 'constants' is nothing that is known here; known: "):
        load_world("burgers", ["model={type='constants'}"])
    with pytest.raises(SceneError, match=r"fit: \[fit\] is the old form: .* \[model\]"):
        load_world("burgers", ["fit={type='network'}"])
    with pytest.raises(SceneError, match=r"holds no solution.npz"):
        load_world("burgers").render(tmp_path, tmp_path / "x.png", fps=5)


def test_adam_slows_down_by_half_a_cosine(tmp_path: Path) -> None:
    """Half of the way through four steps its rate is half of what is told."""
    data = learn(TINY, "operator", **{**FIT, "iterations": 4, "learning_rate": 1e-3})
    training = trained(build_scene(data, directory=tmp_path, locate=lambda key: "scene"))
    for _ in range(2):
        training.step()
    assert training.optimiser.param_groups[0]["lr"] == pytest.approx(0.5e-3)


def _by_series(folder: Path, name: str, order: int, windows: int) -> dict[str, Any]:
    sets = ["problem.nx=32", "problem.duration=0.2", "problem.members=2", "experts.counts=[1,1]"]
    more = ["problem.nt=81", "basis.type=taylor", f"basis.order={order}", f"basis.windows={windows}"]
    world = load_world(name, [*sets, *more])
    return world.run(directory(folder / f"{order}-{windows}", world), device="cpu")


@pytest.mark.parametrize("order", [1, 2])
def test_the_series_errs_by_its_order_in_the_window(tmp_path: Path, order: int) -> None:
    """Nothing is solved before and nothing trained; windows of half the length err by 2^order less."""
    found = [_by_series(tmp_path, "allen_cahn", order, w) for w in (5, 10)]
    long, short = (max(each["relative_error"]) for each in found)
    assert long / short == pytest.approx(2**order, rel=0.1)  # the next order is a twentieth of it
    # of how much the fields change, 3 to 6 %; measured 1.1 to 1.3e-2 and 0.6 to 2e-4 for three draws of them
    change = min(found[1]["no_change_error"])
    assert short < (2e-2, 4e-4)[order - 1] * change


def test_four_terms_hold_a_steep_field(tmp_path: Path) -> None:
    found = _by_series(tmp_path, "burgers", 4, 10)
    assert found["result"] == "SUCCESS" and min(found["no_change_error"]) > 0.15
    assert (
        max(found["relative_error"]) < 5e-3
    )  # 9e-5 to 3.2e-3 of six draws: the data drop a third of the frequencies of 32 points
    with pytest.raises(SceneError, match=r"basis\.windows: need .* divides"):
        _by_series(tmp_path, "burgers", 4, 7)


def test_a_jump_has_no_series() -> None:
    with pytest.raises(SceneError, match="no Taylor series"):
        load_world("diffusion_sorption", ["basis.type=taylor"])
    with pytest.raises(SceneError, match=r"snapshots: has no effect with basis\.type"):
        load_world("burgers", ["basis.type=taylor", "snapshots=24"])
