"""COCO's JSON and YOLO's text files: by hand, round trips, and what is wrong in them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simengine.io.annotations import read_coco, read_yolo, write_coco, write_yolo

COCO: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "a.jpg", "height": 100, "width": 200}, {"id": 3, "file_name": "b.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 2, "bbox": [10, 20, 30, 40], "area": 900.0, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 5, "bbox": [0, 0, 1.5, 2], "iscrowd": 1},
    ],
    "categories": [{"id": 2, "name": "car"}, {"id": 5, "name": "crowd of people"}],
}


def write(path: Path, data: Any) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8-sig")
    return path


def test_coco_by_hand_and_back(tmp_path: Path) -> None:
    first = read_coco(write(tmp_path / "a.json", COCO))
    assert first.boxes.tolist() == [[10, 20, 40, 60], [0, 0, 1.5, 2]] and first.picture.tolist() == [1, 0]
    assert (
        first.labels.tolist() == [2, 5]
        and first.area.tolist() == [900.0, 3.0]
        and first.crowd.tolist() == [False, True]
    )
    assert first.scores is None and first.sizes.tolist() == [[100, 200], [0, 0]] and first.classes[2] == "car"
    again = json.loads(write_coco(tmp_path / "b.json", first).read_text())
    assert [entry["bbox"] for entry in again["annotations"]] == [[10, 20, 30, 40], [0, 0, 1.5, 2]]
    assert [entry["image_id"] for entry in again["annotations"]] == [3, 7] and again["categories"] == COCO["categories"]

    found = [{"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.25}]
    results = read_coco(tmp_path / "a.json", results=write(tmp_path / "r.json", found))
    assert results.scores is not None and results.scores.tolist() == [0.25] and results.boxes.tolist() == [[1, 2, 4, 6]]
    assert json.loads(write_coco(tmp_path / "s.json", results).read_text()) == found


def test_pycocotools_reads_what_is_written(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    write_coco(tmp_path / "b.json", read_coco(write(tmp_path / "a.json", COCO)))
    truth = coco.COCO(str(tmp_path / "b.json"))
    assert truth.anns[1]["bbox"] == [10, 20, 30, 40] and truth.getAnnIds(imgIds=[7]) == [2]


def test_yolo_by_hand_and_back(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "0 0.5 0.25 0.1 0.5\n\n2 1 1 0 0\n")
    read = read_yolo(tmp_path, {"a": (100, 200), "b": (10, 10)}, classes=("car", "van", "sign"))
    assert np.allclose(read.boxes, [[90, 0, 110, 50], [200, 100, 200, 100]]) and read.labels.tolist() == [0, 2]
    assert read.scores is None and len(read.of(1)) == 0 and read.classes[2] == "sign"
    write_yolo(tmp_path / "out", read)
    assert (tmp_path / "out" / "a.txt").read_text() == "0 0.5 0.25 0.1 0.5\n2 1 1 0 0\n"
    assert (tmp_path / "out" / "b.txt").read_text() == ""
    write(tmp_path / "a.txt", "0 0.5 0.25 0.1 0.5 0.75\n")
    scored = read_yolo(tmp_path, {"a": (100, 200)})
    assert scored.scores is not None and scored.scores.tolist() == [0.75]


def changed(**entry: Any) -> dict[str, Any]:
    return {**COCO, "annotations": [{**COCO["annotations"][0], **entry}]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "not readable JSON"),
        ([], "expected a table with images"),
        ({"images": 3}, "images: expected a list of tables"),
        ({"images": [{"id": 1}, {"id": 1}], "annotations": []}, "an id is given twice"),
        (changed(image_id=9), r"annotations\[0\].image_id: no picture has the number 9"),
        (changed(category_id=9), r"annotations\[0\].category_id: no class has the number 9"),
        (changed(category_id="car"), r"annotations\[0\].category_id: expected a number, got 'car'"),
        (changed(bbox=[1, 2, 3]), r"bbox: expected \[x, y, width, height\] in pixels"),
        (changed(bbox=[1, 2, -3, 4]), r"bbox: expected \[x, y, width, height\] in pixels"),
        (changed(bbox=[1, 2, float("nan"), 4]), r"bbox: expected \[x, y, width, height\] in pixels"),
        (changed(area="large"), "area: expected a number"),
    ],
)
def test_what_is_wrong_in_a_coco_file_is_named(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_coco(write(tmp_path / "a.json", data))
    assert "\n" not in str(caught.value) and "a.json" in str(caught.value)


def test_missing_files_and_scores(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_coco(tmp_path / "none.json")
    write(tmp_path / "a.json", COCO)
    write(tmp_path / "r.json", [{"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4]}])
    with pytest.raises(ValueError, match=r"r.json: \[0\].score: expected a number, got None"):
        read_coco(tmp_path / "a.json", results=tmp_path / "r.json")
    with pytest.raises(ValueError, match="no such folder"):
        read_yolo(tmp_path / "none", {})
    with pytest.raises(ValueError, match="expected the size of the picture"):
        write_yolo(tmp_path / "out", read_coco(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", "line 1: expected `class x y width height"),
        ("car 0.5 0.5 0.1 0.1", "line 1: expected `class x y width height"),
        ("0.5 0.5 0.5 0.1 0.1", "line 1: expected `class x y width height"),
        ("0 320 240 30 40", r"line 1: expected shares of the picture in \[0, 1\]"),
        ("0 nan 0.5 0.1 0.1", r"line 1: expected shares of the picture in \[0, 1\]"),
        ("3 0.5 0.5 0.1 0.1", "class 3, but only 2 classes are named"),
        ("0 .5 .5 .1 .1\n0 .5 .5 .1 .1 .9", "some lines have a score and others have none"),
    ],
)
def test_what_is_wrong_in_a_yolo_file_is_named(tmp_path: Path, line: str, message: str) -> None:
    write(tmp_path / "a.txt", line)
    with pytest.raises(ValueError, match=message):
        read_yolo(tmp_path, {"a": (100, 200)}, classes=("car", "van"))


def test_areas_of_yolo_are_in_pixels(tmp_path: Path) -> None:
    """A tenth by a fifth of a picture 200 wide and 100 high: 20 x 20 pixels."""
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.2\n")
    found = read_yolo(tmp_path, {"a": (100, 200)})
    assert found.boxes.tolist() == [pytest.approx([90, 40, 110, 60])] and found.area.tolist() == [pytest.approx(400)]
