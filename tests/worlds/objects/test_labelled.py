"""A detector trained on labelled pictures: crops and their boxes, what is kept back, the model that is left."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simengine.cli import main
from simengine.fit.loop import fit
from simengine.fit.trainings.learned import learning_of
from simengine.io.model_folder import read_model
from simengine.observe.detectors import DetectorSpec, make_detector
from simengine.scene import SceneError, load_scene
from simengine.scene.record import open_run
from simengine.worlds.objects.labelled import LabelledTraining

SCENE = """
kind = "pictures"
[pictures]
files = "*.png"
[examples]
file = "boxes.csv"
columns = { image = "image", class = "class", box = ["left [px]", "top [px]", "right [px]", "bottom [px]"] }
classes = { 0 = "square" }
group = "(.*)_.*"
hold_out = ["b"]
crop = 32
light = [1.0, 1.0]
blur = 0.0
turn = true
[model]
type = "picture_detector"
width = 16
side = 64
[training]
iterations = 3
batch = 4
[test]
axes = { light = [0.5, 1.0] }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Bright squares on a dark ground, two to a picture; each twice as large as after scaling."""
    rows = ["image,class,left,top,right,bottom"]
    rng = np.random.default_rng(0)
    for name in ("a_0", "a_1", "a_2", "b_0"):
        picture = np.full((128, 128, 3), 30, np.uint8)
        for x in (8, 72):
            left, top = x + int(rng.integers(0, 16)), 16 + int(rng.integers(0, 64))
            picture[top : top + 32, left : left + 32] = 220
            rows.append(f"{name}.png,0,{left},{top},{left + 32},{top + 32}")
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "scene.toml").write_text(SCENE)
    return tmp_path


def test_crops_show_what_their_boxes_say(folder: Path) -> None:
    """However they are cut, turned and mirrored: bright inside the boxes, dark outside all of them."""
    training = learning_of(load_scene(folder / "scene.toml"))
    assert isinstance(training, LabelledTraining) and len(training.pictures) == 3
    torch.manual_seed(0)
    seen = 0
    for _ in range(40):
        image, boxes = training.drawn_crop()
        inside = torch.zeros(32, 32, dtype=torch.bool)
        for x0, y0, x1, y1 in boxes.round().long().tolist():
            inside[y0:y1, x0:x1] = True
            core = image[:, min(y0 + 2, 31) : max(y1 - 2, y0 + 3), min(x0 + 2, 31) : max(x1 - 2, x0 + 3)]
            assert float(core.mean()) > 0.7
            seen += 1
        whole = len(boxes) == 0 or float(image[:, ~inside].mean()) < 0.35  # less than half of a square may stick in
        assert whole, boxes
    assert seen > 20


def test_training_leaves_a_model_that_is_used(folder: Path) -> None:
    scene = load_scene(folder / "scene.toml")
    out = open_run(folder / "run", scene, overwrite=False, resume=True)
    summary = fit(learning_of(scene), out, progress=False).summary
    assert summary["trained_on"] == 3 and summary["tested_on"] == 1
    model = read_model(folder / "run")
    assert model.type == "detector" and model.options["side"] == 64 and model.tested["tested_on"] == 1
    assert (folder / "run" / "report.html").is_file()
    assert summary["detector"] == "model"  # no path of this machine
    for name in ("model/tested.json", "report.html"):
        assert str(folder) not in (folder / "run" / name).read_text()
    detector = make_detector(DetectorSpec(model=str(folder / "run")), Path())
    assert len(detector.predict(torch.rand(1, 3, 50, 70))) == 1  # of any size
    again = load_scene(folder / "run" / "scene.toml")  # with the labels that it copied
    assert isinstance(learning_of(again), LabelledTraining)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('examples.hold_out=["c"]', r"examples.hold_out: there is no 'c'; known: a, b"),
        ('examples.hold_out=["a","b"]', "0 pictures to train on and 4 to test with"),
        ('examples.group="a_(.*)"', r"examples.group: 'b_0.png' is not like"),
        ('examples.group="a_.*"', "group: expected one pair of brackets"),
        ("examples.crop=36", "crop: expected a multiple of 8"),
        ('examples.file="no.csv"', "examples"),
        ('model.start="nowhere"', "model.start: .*nowhere"),
    ],
)
def test_mistakes_are_named(folder: Path, change: str, message: str) -> None:
    with pytest.raises(SceneError, match=message):
        learning_of(load_scene(folder / "scene.toml", [change]))


def test_check_reads_the_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder / "scene.toml"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["trained on"] == "3 pictures, 6 boxes" and told["kept back"] == "1 pictures, 2 boxes"
    assert main(["check", str(folder / "scene.toml"), "--set", 'examples.hold_out=["c"]']) == 2


@pytest.mark.parametrize("name", ["kitti_camouflage", "drone_detector"])
def test_the_targets_pass_their_check(name: str, shared: Path, tmp_path: Path) -> None:
    data = {"kitti_camouflage": "kitti_cars_000008", "drone_detector": "drone_view_cars"}[name]
    if not (shared / "real" / data).is_dir():
        pytest.skip("the pictures are not at hand")
    shutil.copytree(shared / "real" / data, tmp_path / "t")
    shutil.copy(Path(__file__).parents[3] / "docs" / "results" / "targets" / f"{name}.toml", tmp_path / "t")
    assert main(["check", str(tmp_path / "t" / f"{name}.toml")]) == 0
