"""What was learned or found is used: models as folders, and `simengine predict RUN --on SOMETHING`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simengine.cli import main
from simengine.fit.carry import carried
from simengine.fit.loop import fit
from simengine.fit.trainings.learned import learning_of
from simengine.io.model_folder import read_model
from simengine.io.run_directory import RunDirectory
from simengine.render import PinholeCamera
from simengine.scene import SceneError, load_scene, resolved
from simengine.worlds.learned.views_from_few.use import _about_the_middle

CASES: dict[str, tuple[str, ...]] = {
    "dtn_network": (
        *("size=32", "train_views=3", "test_views=2", "sky_rays=1"),
        *("training.iterations=2", "examples.crop=32", "model.depth=2"),
    ),
    "car_detector": (
        *("size=32", "train_views=3", "test_views=2", "sky_rays=1"),
        *("training.iterations=2", "training.batch=2", "model.width=16"),
    ),
    "diffusion_sorption": (
        *("problem.nt=16", "problem.nx=16", "basis_size=4", "problem.u0=[0.1]"),
        *("training.on.nt=12", "training.on.nx=16", "model.backbone.width=8", "examples.members=2"),
        "training.iterations=2",
    ),
    "learn_jelly": ("num_steps=150", "model.width=6", "training.iterations=1", "examples.observe=states"),
    "material_from_one_picture": (
        *("examples.size=16", "model.width=4", "model.refine=4"),
        *("training.batch=2", "training.iterations=2", "test.count=2"),
    ),
    "new_views": (
        *("examples.size=16", "model.width=4", "model.planes=6", "model.coarse=6", "model.fine=2"),
        *("test.count=1", "test.motion.grid.num_steps=30", "training.iterations=2"),
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs of tiny trainings, each made once."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def run(name: str) -> Path:
        if name not in made:
            scene = load_scene(name, CASES[name])
            out = RunDirectory.create(folder / name, resolved(scene), overwrite=False, resume=True)
            fit(learning_of(scene), out, progress=False)
            del out  # its lock
            made[name] = folder / name
        return made[name]

    return run


def used(run: Path, on: object, out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["predict", str(run), "--on", str(on), "--out", str(out), "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return answer


def refused(run: Path, on: object, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["predict", str(run), "--on", str(on), "--out", str(run.parent / "refused"), "--overwrite"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    return said


def picture(file: Path, size: tuple[int, int]) -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray((255 * rng.random((*size, 3))).astype(np.uint8)).save(file)
    return file


def test_a_network_predicts_a_new_texture(runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = used(runs("dtn_network"), picture(tmp_path / "t.png", (8, 8)), tmp_path / "out", capsys)
    # the network starts as the alpha blend in linear light, some 25 dB for any paint
    assert answer["object_psnr"] > 20 and answer["views"] == 2
    assert answer["sha256"] == read_model(runs("dtn_network")).sha256
    assert (tmp_path / "out" / "predicted.png").is_file() and (tmp_path / "out" / "report.html").is_file()
    assert "nowhere.png" in refused(runs("dtn_network"), "nowhere.png", capsys)


def test_a_detector_boxes_a_folder(runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        picture(folder / name, (41, 55))  # sides that do not divide by 8
    answer = used(runs("car_detector"), folder, tmp_path / "out", capsys)
    boxes = json.loads((tmp_path / "out" / "boxes.json").read_text())["boxes"]
    assert answer["pictures"] == 2 and answer["boxes"] == len(boxes)
    for entry in boxes:
        x0, y0, x1, y1 = entry["box"]
        assert entry["picture"] in ("a.png", "b.png") and -1 <= x0 <= x1 <= 56 and -1 <= y0 <= y1 <= 42


def test_an_operator_solves_a_new_member(runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The member of the training's test again gives the same field; another one its own."""
    run = runs("diffusion_sorption")
    np.savez(tmp_path / "same.npz", u0=np.array([0.1]))
    answer = used(run, tmp_path / "same.npz", tmp_path / "same", capsys)
    assert answer["relative_error"] == read_model(run).tested["relative_error"]
    with np.load(tmp_path / "same" / "solution.npz") as file:
        found = file["u"]
    np.savez(tmp_path / "told.npz", u0=np.array([0.1]), u=1.01 * found)
    again = used(run, tmp_path / "told.npz", tmp_path / "told", capsys)
    assert again["relative_error_of_the_file"][0] == pytest.approx(0.01 / 1.01)
    np.savez(tmp_path / "other.npz", u0=np.array([0.05]))
    assert used(run, tmp_path / "other.npz", tmp_path / "other", capsys)["relative_error"] != answer["relative_error"]
    np.savez(tmp_path / "bad.npz", w=1.0)
    assert "holds no array 'u0'" in refused(run, tmp_path / "bad.npz", capsys)


DROP = """
kind = "mpm"
[grid]
num_grids = 16
time_step = 5e-4
num_steps = 4
[output]
save_every = 4
video = false
[[bodies]]
shape = { type = "sphere", center = [0.5, 0.5, 0.5], radius = 0.15 }
material = { type = "jelly", E = 1e5, nu = 0.3, density = 1234.0 }
"""


def test_a_law_moves_a_new_scene(runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By --on, and as a material that names the run: the same states to the bit, which are not those of a formula."""
    run = runs("learn_jelly")
    (tmp_path / "drop.toml").write_text(DROP)
    used(run, tmp_path / "drop.toml", tmp_path / "on", capsys)
    named = DROP.replace('{ type = "jelly", E = 1e5, nu = 0.3, ', f'{{ type = "neural", weights = "{run}", ')
    (tmp_path / "named.toml").write_text(named)
    for name in ("named", "drop"):
        assert main(["run", str(tmp_path / f"{name}.toml"), "--out", str(tmp_path / name), "--device", "cpu"]) == 0
    states = {}
    for name in ("on", "named", "drop"):
        with np.load(tmp_path / name / "states.npz") as file:
            states[name] = file["x"]
    np.testing.assert_array_equal(states["on"], states["named"])
    assert np.isfinite(states["on"]).all() and states["on"].shape == states["drop"].shape
    (tmp_path / "flame.toml").write_text('kind = "flame"\n[flame]\ntype = "free_simple"\n')
    told = refused(run, tmp_path / "flame.toml", capsys)
    assert "a law moves scenes of kind mpm, this one is of kind 'flame'" in told


def test_maps_of_a_photograph(runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of any size and exposure; the answer of a picture twice as bright in linear light is the same."""
    run = runs("material_from_one_picture")
    rng = np.random.default_rng(1)
    light = 0.05 + 0.3 * rng.random((20, 30, 3))
    for name, factor in {"a": 1.0, "b": 2.0}.items():
        np.save(tmp_path / f"{name}.npy", factor * light)
        answer = used(run, tmp_path / f"{name}.npy", tmp_path / name, capsys)
        figures = answer["photographs"][f"{name}.npy"]
        assert figures["log_rms"] > 0 and figures["plain"] > 0 and "surprise" in figures
    found = []
    for name in "ab":
        with np.load(tmp_path / name / "maps.npz") as file:
            found.append(dict(file))
    assert found[0]["base_colour"].shape == (1, 16, 16, 3)
    np.testing.assert_allclose(found[0]["picture"], found[1]["picture"], rtol=1e-2)  # of the floor under the logarithm
    assert "8 x 8 pixels; the model needs 16" in refused(run, picture(tmp_path / "s.png", (8, 8)), capsys)


def test_views_of_a_moving_body(runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "drop.toml").write_text(
        DROP.replace("num_steps = 4", "num_steps = 6").replace("save_every = 4", "save_every = 6")
    )
    answer = used(runs("new_views"), tmp_path / "drop.toml", tmp_path / "out", capsys)
    assert set(answer["moving"]) >= {"shadow", "none", "depth_rmse"} and (tmp_path / "out" / "pictures.png").is_file()
    told = refused(runs("new_views"), "free_flame_simple", capsys)
    assert "expected [observations] of pictures with cameras, or a scene of kind mpm" in told


def test_views_of_photographs(runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Photographs with cameras in a file, one of them held out."""
    shots = {}
    for k in range(5):
        picture(tmp_path / f"v{k}.png", (24, 32))
        turn = 0.2 * (k - 2)
        rotation = [[np.cos(turn), 0.0, np.sin(turn)], [0.0, 1.0, 0.0], [-np.sin(turn), 0.0, np.cos(turn)]]
        shots[f"v{k}.png"] = {"K": [[60.0, 0, 16.0], [0, 60.0, 12.0], [0, 0, 1.0]], "R": rotation, "t": [0, 0, 0.5]}
    (tmp_path / "cameras.json").write_text(json.dumps(shots))
    scene = """
kind = "mpm"
[[bodies]]
shape = { type = "sphere", center = [0.5, 0.5, 0.5], radius = 0.15 }
material = { type = "jelly", E = 1e5, nu = 0.3 }
[observations.photos]
type = "views"
file = "v*.png"
camera = { file = "cameras.json" }
hold_out = { files = ["v2.png"] }
"""
    (tmp_path / "photos.toml").write_text(scene)
    answer = used(runs("new_views"), tmp_path / "photos.toml", tmp_path / "out", capsys)
    ((name, figures),) = answer["photographs"].items()
    assert name == "v2.png" and figures["degrees_to_the_nearest"] == pytest.approx(np.rad2deg(0.2), abs=0.1)
    assert all(np.isfinite(value) for value in figures.values())
    (tmp_path / "photos.toml").write_text(scene.replace('hold_out = { files = ["v2.png"] }', ""))
    assert "hold_out: name photographs to predict" in refused(runs("new_views"), tmp_path / "photos.toml", capsys)


def test_cameras_are_scaled_to_where_the_network_learned_to_look() -> None:
    """Distances from the point that all look at become 4 m on the mean; what falls on a pixel stays there."""
    eyes = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 3.5], [-2.5, 1.0, 0.0]], dtype=torch.float64)
    cameras = PinholeCamera.look_at(eyes, torch.tensor([0.5, 0.2, 0.1], dtype=torch.float64), width=40, height=30)
    moved = _about_the_middle(cameras)
    distances = moved.position.norm(dim=1)
    torch.testing.assert_close(distances.mean(), torch.tensor(4.0))
    scale = float(distances[0]) / float((eyes[0] - torch.tensor([0.5, 0.2, 0.1])).norm())
    point = torch.tensor([[0.7, 0.4, -0.2]], dtype=torch.float64)
    there = (scale * (point - torch.tensor([0.5, 0.2, 0.1]))).float()
    before, after = cameras.project(point), moved.project(there)
    torch.testing.assert_close(after[..., :2], before[..., :2].float(), atol=1e-3, rtol=0)
    torch.testing.assert_close(after[..., 2], scale * before[..., 2].float(), rtol=1e-4, atol=0)


def test_a_damaged_model_is_refused(runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    shutil.copytree(runs("diffusion_sorption") / "model", tmp_path / "model")
    assert read_model(tmp_path / "model").type == "operator"  # the folder alone
    file = tmp_path / "model" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert "the SHA-256 differs" in refused(tmp_path / "model", "x.npz", capsys)
    (tmp_path / "empty").mkdir()
    assert "holds neither a model nor a finished fit" in refused(tmp_path / "empty", "x.npz", capsys)


def test_what_a_fit_found_goes_into_another_scene() -> None:
    other = load_scene("rubber_treloar")
    values = {"material.mu 0": 1.25e6, "observations.tension.gain": 2.0, "bodies.0.material.E": 3.0}
    made = carried(values, other)
    assert made.values == {"material.mu 0": 1.25e6}
    assert all(world.material.mu[0] == 1.25e6 for world in made.scene.runs.values())  # type: ignore[attr-defined]
    assert "instruments" in made.left["observations.tension.gain"] and "no number" in made.left["bodies.0.material.E"]
    assert not made.scene.unknowns
    with pytest.raises(SceneError, match="nothing that was found has a place in the new scene"):
        carried({"bodies.0.material.E": 3.0}, other)
