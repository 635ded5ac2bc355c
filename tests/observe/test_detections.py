"""A detector as an instrument: labels as people write them, pictures on disc, a detector from a script."""

import csv
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from scipy.special import stdtrit
from scipy.stats import beta

from simengine.cli import main
from simengine.dtn.coco import Found, Objects, coco_precision
from simengine.dtn.judgement import WeightedPrecision, assignment, judge
from simengine.dtn.letterbox import Letterbox
from simengine.observe.conditions import changed, defocus_blur, gaussian_blur, motion_blur
from simengine.scene import SceneError, load_scene
from simengine.scene.own_code import own_detectors, run_own

SCRIPT = '''
import numpy as np
import torch
from scipy import ndimage

import simengine as se


class Blobs:
    """Boxes of connected bright regions: label 7, the score their mean brightness."""

    def predict(self, images):
        found = []
        for image in images.numpy():
            grey = image.mean(0)
            areas, number = ndimage.label(grey > 0.3)
            places = ndimage.find_objects(areas)
            boxes = [[x.start, y.start, x.stop, y.stop] for y, x in places]
            scores = ndimage.mean(grey, areas, range(1, number + 1)) if number else []
            found.append(
                {
                    "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                    "labels": torch.full((number,), 7),
                    "scores": torch.tensor(np.array(scores), dtype=torch.float32),
                }
            )
        return found


@se.detector("blobs")
def blobs(weights):
    return Blobs()
'''
SCENE = """
kind = "pictures"

[pictures]
files = "*.png"

[detector]
architecture = "blobs"
classes = { car = 7 }

[observations.labels]
type = "labelled"
file = "boxes.csv"
columns = { image = "file", box = ["l [px]", "t [px]", "r [px]", "b [px]"], hidden = "hidden" }
label = "car"
ignore = { hidden = [0.5, 1.0] }
"""
BOXES = {  # picture -> corner boxes and grey values
    "a.png": [((4, 6, 24, 18), 200), ((40, 10, 60, 30), 160)],
    "b.png": [((10, 20, 34, 36), 220)],
    "night.png": [((20, 8, 44, 28), 60)],  # too dark to be found
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, things in BOXES.items():
        pixels = np.zeros((48, 72, 3), np.uint8)
        for (x0, y0, x1, y1), grey in things:
            pixels[y0:y1, x0:x1] = grey
        Image.fromarray(pixels).save(tmp_path / name)
    rows = [(name, *box, 0) for name, things in BOXES.items() for box, _ in things]
    rows.append(("b.png", 50, 2, 60, 12, 1))  # labelled, and ignored
    text = "\ufefffile;l;t;r;b;hidden\r\n" + "".join(";".join(map(str, row)) + "\r\n" for row in rows)
    (tmp_path / "boxes.csv").write_text(text, encoding="utf-8")
    (tmp_path / "own.py").write_text(SCRIPT)
    (tmp_path / "scene.toml").write_text(SCENE)
    return tmp_path


def _predict(folder: Path, *more: str) -> dict:
    out = folder / "run"
    code = main(
        [
            *("predict", str(folder / "scene.toml"), "--with", str(folder / "own.py"), "--out", str(out)),
            "--overwrite",
            *more,
        ]
    )
    assert code == 0
    return json.loads((out / "predict.json").read_text())


def test_from_a_folder_of_pictures_to_a_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three of four objects are found; the dark one is missed, the hidden one not asked for."""
    told = _predict(folder, "--set", "test.axes={light=[0.02,8.0]}")
    summary = told["observations"]["labels"]
    assert summary["objects"] == 4 and summary["pictures"] == 3
    assert summary["missed"]["value"] == 0.25
    # missed 0 of 2, 0 of 1, 1 of 1: variance 3/2 (1/4 + 1/16 + 9/16) / 4^2, of 2.29 objects; Student's factors
    effective = (3 / 16) / (1.5 * (14 / 16) / 16) * (stdtrit(3, 0.975) / stdtrit(2, 0.975)) ** 2
    shape = effective / 4, effective * 3 / 4
    assert summary["missed"]["low"] == pytest.approx(beta.ppf(0.025, shape[0], shape[1] + 1), abs=1e-6)
    assert summary["missed"]["high"] == pytest.approx(beta.ppf(0.975, shape[0] + 1, shape[1]), abs=1e-6)
    assert summary["AP50"]["value"] == pytest.approx(76 / 101)  # full precision up to a recall of 3/4
    assert summary["errors"]["missed"]["count"] == 1 and summary["false_alarms"] == 0
    missed = {row["at"]: row["missed"]["value"] for row in summary["along"]["light"]}
    assert missed == {0.02: 1.0, 1.0: 0.25, 8.0: 0.0}
    with (folder / "run/pictures/labels.csv").open() as file:
        rows = {row["picture"]: row for row in csv.DictReader(file)}
    assert rows["night.png"]["missed"] == "1" and rows["a.png"]["missed"] == "0"
    page = (folder / "run/report.html").read_text()
    assert "the worst pictures" in page and "along light" in page and "own.py" in page
    assert (folder / "run/worst/labels-night.png").is_file()
    capsys.readouterr()
    again = main(
        ["predict", str(folder / "run/scene.toml"), "--with", str(folder / "own.py"), "--out", str(folder / "2")]
    )
    assert again == 0  # the run directory holds the pictures and the labels
    repeated = json.loads((folder / "2/predict.json").read_text())["observations"]["labels"]
    assert {k: repeated[k] for k in ("AP", "AP50", "missed")} == {k: summary[k] for k in ("AP", "AP50", "missed")}


def test_coco_and_yolo_labels_say_the_same(folder: Path) -> None:
    _predict(folder)
    run_own([folder / "own.py"])
    names = list(BOXES)
    flat = [(k, box) for k, name in enumerate(names) for box, _ in BOXES[name]]
    coco = {
        "images": [
            {"id": 10 + k, "file_name": f"photos/{name}", "width": 72, "height": 48} for k, name in enumerate(names)
        ],
        "categories": [{"id": 3, "name": "car"}],
        "annotations": [
            {"id": i, "image_id": 10 + k, "category_id": 3, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            for i, (k, (x0, y0, x1, y1)) in enumerate(flat)
        ],
    }
    (folder / "coco.json").write_text(json.dumps(coco))
    (folder / "labels").mkdir()
    for k, name in enumerate(names):
        lines = [
            f"0 {(b[0] + b[2]) / 144} {(b[1] + b[3]) / 96} {(b[2] - b[0]) / 72} {(b[3] - b[1]) / 48}\n"
            for j, b in flat
            if j == k
        ]
        (folder / f"labels/{Path(name).stem}.txt").write_text("".join(lines))
    base = SCENE.replace("ignore = { hidden = [0.5, 1.0] }\n", "").split("columns =")[0]
    for file in ("coco.json", "labels"):
        (folder / "scene.toml").write_text(base.replace("boxes.csv", file) + 'label = "car"\n')
        summary = _predict(folder)["observations"]["labels"]
        assert summary["objects"] == 4 and summary["missed"]["value"] == 0.25, file


def test_detections_made_elsewhere(folder: Path) -> None:
    """A folder of texts with scores takes the place of a detector; the empty picture has no text."""
    (folder / "found").mkdir()
    (folder / "found/a.txt").write_text(f"0 {14 / 72} {12 / 48} {20 / 72} {12 / 48} 0.9\n0 0.9 0.9 0.1 0.1 0.6\n")
    scene = SCENE.replace('architecture = "blobs"\nclasses = { car = 7 }', 'file = "found"')
    (folder / "scene.toml").write_text(scene)
    summary = _predict(folder)["observations"]["labels"]
    assert summary["missed"]["value"] == 0.75 and summary["false_alarms"] == 1


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("classes = { car = 7 }", "classes = { van = 7 }", "which labels of the detector are 'car'"),
        ('"blobs"', '"blob"', "did you mean 'blobs'"),
        ('"blobs"', '"retinanet_resnet50_fpn_v2"', "torchvision"),
        ('image = "file", ', "", "name the column of theirs"),
        ("hidden = [0.5", "veiled = [0.5", "'veiled' is no column"),
        ('files = "*.png"', 'files = "*.jpg"', "no picture"),
        (
            "[observations.labels]",
            "[test]\naxes = { jpeg = [0] }\n[observations.labels]",
            "axes.jpeg: expected a number at",
        ),
        ("[observations.labels]", "[test]\naxes = { jpg = [50] }\n[observations.labels]", "did you mean 'jpeg'"),
        ('"boxes.csv"', '"boxes2.csv"', "boxes2.csv"),
    ],
)
def test_mistakes_are_named(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    after: str,
    message: str,
) -> None:
    assert before in SCENE
    # As where it is not installed; another test of this process may have brought its parts in already.
    for name in ["torchvision", "torchvision.models.detection", *sys.modules]:
        if name.partition(".")[0] == "torchvision":
            monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    (folder / "scene.toml").write_text(SCENE.replace(before, after))
    args = ["predict", str(folder / "scene.toml"), "--with", str(folder / "own.py"), "--out", str(folder / "run")]
    assert main(args) == 2
    told = capsys.readouterr().err
    assert message in told and len(told.strip().splitlines()) == 1


def test_a_script_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = 1\nraise ValueError('no weights')\n")
    with pytest.raises(SceneError, match=r"bad.py:2: ValueError: no weights"):
        run_own([tmp_path / "bad.py"])


def test_regions_excuse_alarms_and_nothing_else(folder: Path) -> None:
    run_own([folder / "own.py"])
    assert "blobs" in own_detectors()
    pixels = np.asarray(Image.open(folder / "b.png")).copy()
    pixels[40:46, 60:70] = 255  # far cars that nobody labelled
    Image.fromarray(pixels).save(folder / "b.png")
    assert _predict(folder)["observations"]["labels"]["false_alarms"] == 1
    told = _predict(folder, "--set", "observations.labels.regions=[[58.0,38.0,72.0,48.0]]")["observations"]["labels"]
    assert told["false_alarms"] == 0 and told["objects"] == 4


def _random_set(seed: int, pictures: int = 12) -> tuple[list[Found], list[Objects]]:
    rng = np.random.default_rng(seed)
    found, objects = [], []
    for _ in range(pictures):
        n, k = rng.integers(0, 4), rng.integers(0, 6)
        low = rng.uniform(0, 60, (n, 2))
        boxes = np.concatenate([low, low + rng.uniform(10, 40, (n, 2))], 1)
        labels = rng.integers(0, 2, n)
        objects.append(Objects(boxes, labels, crowd=rng.uniform(size=n) < 0.2))
        pick = rng.integers(0, max(n, 1), k) if n else np.zeros(0, dtype=int)
        seen = boxes[pick] + rng.normal(0, 4, (len(pick), 4)) * [1, 1, 0.5, 0.5]
        seen[:, 2:] = np.maximum(seen[:, 2:], seen[:, :2])
        found.append(Found(seen, rng.integers(0, 2, len(pick)), rng.choice([0.3, 0.5, 0.9], len(pick))))
    return found, objects


@pytest.mark.parametrize("seed", range(6))
def test_weighted_precision_is_cocos_of_repeated_pictures(seed: int) -> None:
    """Verification: a weight of 2 is the picture twice; a weight of 0 is the set without it.

    Where scores are equal the order of the copies is anybody's, and what COCO counts with it.
    """
    tied, objects = _random_set(seed)
    rng = np.random.default_rng(seed)
    found = [dataclasses.replace(f, scores=rng.uniform(size=len(f.scores))) for f in tied]
    weight = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (1, len(found)))).double()
    twice = [k for k, w in enumerate(weight[0]) for _ in range(int(w))]
    ours = WeightedPrecision(found, objects)
    expected = coco_precision([found[k] for k in twice], [objects[k] for k in twice], labels=None)["AP"]
    assert float(ours(weight)[0]) == pytest.approx(expected, abs=1e-9)
    once = WeightedPrecision(tied, objects)(torch.ones(1, len(tied)))
    assert float(once[0]) == pytest.approx(coco_precision(tied, objects)["AP"], abs=1e-9)


def test_an_object_goes_to_the_best_score_once() -> None:
    objects = Objects(np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]]), np.array([0, 0]))
    found = Found(
        np.array([[0.0, 0, 10, 9], [0, 0, 10, 10], [20, 0, 30, 10]]), np.array([0, 0, 1]), np.array([0.9, 0.8, 1.0])
    )
    assert assignment(found, objects).tolist() == [0, -1]  # the perfect one comes second, the third is another class
    judged = judge([found], [objects])
    assert judged.errors.count["duplicate"] == 1 and judged.errors.count["class"] == 1
    assert judged.missed.value == 0.5 and judged.alarms.tolist() == [2]  # three found, one hit


def test_letterbox_gives_boxes_back_in_the_given_picture() -> None:
    class Bright:
        def predict(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
            assert images.shape[2] % 32 == 0 and images.shape[3] % 32 == 0
            ((y, x),) = ndimage.find_objects((images[0, 0].numpy() > 0.7).astype(int))
            box = torch.tensor([[x.start, y.start, x.stop, y.stop]], dtype=torch.float32)
            return [{"boxes": box, "labels": torch.zeros(1), "scores": torch.ones(1)}]

    image = torch.zeros(1, 3, 100, 150)
    image[..., 20:60, 30:120] = 1.0
    for side in (None, 75, 300):
        box = Letterbox(Bright(), side=side).predict(image)[0]["boxes"][0]
        assert torch.allclose(box, torch.tensor([30.0, 20.0, 120.0, 60.0]), atol=2.1), (side, box)


def test_a_letterbox_scales_each_side_by_its_own_rounded_pixels() -> None:
    """A strip 10 high and 1000 wide, seen 50 wide, is one pixel high: its whole comes back as its whole."""

    class Whole:
        def predict(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
            return [{"boxes": torch.tensor([[0.0, 0.0, 50.0, 1.0]]), "labels": torch.zeros(1), "scores": torch.ones(1)}]

    (found,) = Letterbox(Whole(), side=50).predict(torch.rand(1, 3, 10, 1000))
    assert found["boxes"].tolist() == [pytest.approx([0, 0, 1000, 10])]


def test_blur_is_scipys() -> None:
    """Parity with an independent Gaussian, borders continued."""
    image = torch.rand(3, 20, 31, dtype=torch.float64)
    expected = np.stack([ndimage.gaussian_filter(c, 1.7, mode="nearest", truncate=7 / 1.7) for c in image.numpy()])
    assert np.allclose(gaussian_blur(image, 1.7).numpy(), expected, atol=1e-12)


def test_light_is_changed_in_linear_light() -> None:
    """Twice the light of mid grey 0.2140 linear is 0.428 linear, in sRGB 1.055 x 0.7022 - 0.055 = 0.6858."""
    grey = torch.full((3, 4, 4), 0.2140)
    assert float(changed(grey, "light", 2.0)[0, 0, 0]) == pytest.approx(0.6858, abs=2e-4)
    assert changed(grey, "scale", 0.5).shape == (3, 2, 2)
    noisy = changed(torch.full((3, 64, 64), 0.2140), "noise", 0.05)
    assert float(noisy.std()) == pytest.approx(0.05, rel=0.05)


def test_movement_and_defocus_spread_light_evenly() -> None:
    """A bright point: along `motion` a level bar of its length, in `defocus` a disc, of variance r^2 / 4."""
    point = torch.zeros(3, 41, 41, dtype=torch.float64)
    point[:, 20, 20] = 1.0
    bar = motion_blur(point, 6.5)[0]
    assert torch.allclose(bar[20, 17:24], torch.full((7,), 1 / 6.5, dtype=torch.float64) * _ends(7, 0.75))
    assert float(bar.sum()) == pytest.approx(1) and float(bar[19].sum()) == 0
    x = torch.arange(41, dtype=torch.float64) - 20
    for radius in (4.3, 9.0):
        disc = defocus_blur(point, radius)[1]
        assert float(disc.sum()) == pytest.approx(1)
        # of the disc, and of the pixels that it is summed in
        assert float((disc.sum(0) * x**2).sum()) == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.03)


def _ends(number: int, value: float) -> torch.Tensor:
    weights = torch.ones(number, dtype=torch.float64)
    weights[0] = weights[-1] = value
    return weights


def test_compression_and_what_hides() -> None:
    picture = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0))
    fine = changed(picture, "light", 1.0)
    errors = [float((changed(picture, "jpeg", q) - fine).square().mean()) for q in (100, 90, 50, 5)]
    assert errors[0] == 0 and errors[1] < errors[2] < errors[3]
    hidden = changed(picture, "hidden", 0.25, boxes=np.array([[8.0, 4.0, 24.0, 24.0]]))
    differs = (hidden != fine).any(0)
    assert differs[19:24, 8:24].all() and int(differs.sum()) == 5 * 16  # the lowest quarter of twenty rows


def test_real_street_cars(shared: Path) -> None:
    """The labels of a KITTI picture as they were handed out: one of six is cut by the border and ignored."""
    folder = shared / "real" / "kitti_cars_000008"
    if not folder.is_dir():
        pytest.skip("the KITTI picture is not at hand")
    from simengine.observe.detectors import DetectorSpec
    from simengine.observe.instruments.boxes.detections import Detections, PicturesAt

    labels = Detections(
        name="labels",
        directory=folder,
        file="cars.csv",
        pictures=PicturesAt(files="000008.png"),
        detector=DetectorSpec(architecture="blobs"),
        columns={"box": ("left [px]", "top [px]", "right [px]", "bottom [px]"), "truncated": "truncated"},
        label="car",
        ignore={"truncated": (0.5, 1.0)},
    )
    measured = labels.read()
    assert measured.mask[:, 0].tolist() == [False, True, True, True, True, True]
    assert float(measured.at["bottom"][3] - measured.at["top"][3]) == pytest.approx(84.96)


def test_tables_of_the_scene_are_lent(folder: Path) -> None:
    """An observation takes the detector of the scene, or has its own."""
    assert load_scene(folder / "scene.toml").observations["labels"].detector.architecture == "blobs"  # type: ignore[attr-defined]
    own = load_scene(folder / "scene.toml", ['observations.labels.detector={file="found"}'])
    assert own.observations["labels"].detector.file == "found"  # type: ignore[attr-defined]
