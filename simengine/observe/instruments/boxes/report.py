"""What a detector's instrument tells: AP, misses, kinds of errors, curves over conditions, the worst pictures."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simengine.dtn.coco import Found, Objects
from simengine.dtn.intervals import IntervalEstimate
from simengine.dtn.judgement import Judgement, ScoreBin, above, assignment, by_class, counted, judge, reliability
from simengine.io.arrays import read_json
from simengine.observe.conditions import AXES
from simengine.observe.instruments.boxes.cells import Cell, cells_csv, number_cells, tell_cells
from simengine.scene.base import AbstractRun, SceneError
from simengine.scene.instrument import Findings, Measured
from simengine.view.boxes import draw_boxes
from simengine.view.figures import curves
from simengine.view.report import Block, Picture, ReportTable

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.observe.instruments.boxes.detections import Detections

WORST = 6  # pictures shown
MEANING = {
    "class": "on an object of another class",
    "loose": "overlaps its object by .1 to the overlap of a hit",
    "both": "wrong class and loose",
    "duplicate": "a better one has the object",
    "alarm": "on nothing",
    "missed": "no detection at all",
}


def tell(own: "Detections", run: AbstractRun, measured: Measured, out: "RunDirectory") -> Findings:
    """Judge the detector; writes a csv of the pictures, all detections, and the worst pictures."""
    found, objects = own.seek(run, measured), own.objects()
    judged = judge(found, objects, score=own.score, overlap=own.overlap)
    summary: dict[str, Any] = {
        "detector": own.detector.name,
        "pictures": len(objects),
        "objects": int(sum(counted(o).sum() for o in objects)),
        **_figures(judged),
    }
    sections: dict[str, list[Block]] = {f"{own.name}: what {own.detector.name} finds": _overview(own, judged, summary)}
    if len(own.names) > 1:
        table, summary["classes"] = _classes(own, found, objects)
        sections[f"{own.name}: by class"] = [table]
    axes: dict[str, list[tuple[float, Judgement]]] = {}
    if not own.detector.file:
        axes = {axis: _along(own, run, measured, axis, values) for axis, values in own.test.axes.items()}
        for axis, rows in axes.items():
            sections[f"{own.name}: along {axis}"] = _curve(axis, rows, own.overlap)
        if axes:
            summary["along"] = {axis: [_row(value, j) for value, j in rows] for axis, rows in axes.items()}
    cells, told = _cells(own, judged, axes, out)
    if cells:
        sections[f"{own.name}: misses by condition"] = cells
        summary |= told
    bins, error = reliability(found, objects, overlap=own.overlap)
    if bins:
        sections[f"{own.name}: what a score is worth"] = _calibration(bins, error)
        summary["calibration_error"] = error
    if distances := _distances(own, found):
        header = ("picture", "distance, labelled [m]", "nearest face [m]", "by box height and lens [m]", "score")
        sections[f"{own.name}: distances"] = [
            "z = f H / h, H the labelled height and h that of the box found; it tells the nearest face.",
            ReportTable(header, distances),
        ]
        summary["distance_rms_m"] = float(np.sqrt(np.mean([(float(r[3]) - float(r[2])) ** 2 for r in distances])))
    worst = _worst(judged, found)
    pictures = [_drawn(own, run, measured, k, found[k], objects[k], judged) for k in worst]
    for k, picture in zip(worst, pictures, strict=True):
        out.write(f"worst/{own.name}-{own.drawn().pictures[k].stem}.png", picture)
    legend = "green: a hit with its score; red: missed; orange: false alarm; grey: ignored or below the score"
    sections[f"{own.name}: the worst pictures"] = [
        legend,
        *(
            Picture(picture, f"{own.drawn().pictures[k].name}: {_count(judged, k)}")
            for k, picture in zip(worst, pictures, strict=True)
        ),
    ]
    _write_pictures(own, judged, found, objects, out)
    return Findings(summary, sections)


def _figures(j: Judgement) -> dict[str, Any]:
    at = f"AP{round(100 * j.overlap):d}"
    return {
        at: _estimate(j.precision),
        "AP": _estimate(j.mean_precision),
        **{name: value if math.isfinite(value) else None for name, value in j.by_size.items()},
        "missed": _estimate(j.missed),
        "false_alarms": int(j.alarms.sum()),
        "errors": {kind: {"count": n, "costs_AP": j.errors.cost[kind]} for kind, n in j.errors.count.items()},
    }


def _estimate(e: IntervalEstimate) -> dict[str, float]:
    return {"value": e.value, "low": e.low, "high": e.high}


def _row(value: float, j: Judgement) -> dict[str, Any]:
    return {"at": value, "AP50": _estimate(j.precision), "missed": _estimate(j.missed), "alarms": int(j.alarms.sum())}


def _overview(own: "Detections", j: Judgement, summary: dict[str, Any]) -> list[Block]:
    ignored = int(own.ignored().sum())
    text = (
        f"{summary['objects']} objects ({', '.join(own.names)}) in {summary['pictures']} pictures"
        + (f", {ignored} more are ignored" if ignored else "")
        + (f", {len(own.regions)} regions are not judged" if own.regions else "")
        + (". Boxes are turned" if own.turned else "")
        + f". A hit overlaps its object by {own.overlap:g}; found means a score of at least {own.score:g}. "
        "Brackets: 95 % interval; of AP by resampling pictures, of the miss rate Clopper and Pearson's, "
        "of as many objects as would vary independently as the pictures do."
    )
    if len(own.names) == 1 and not own.detector.classes:
        text += f" Unless the detector names its labels, every one of them is taken for {own.names[0]!r}."
    if summary["pictures"] < 5:
        text += (
            " So few pictures cannot be resampled: the interval of AP takes objects for independent, and is too short."
        )
    rows: list[tuple[str, Any]] = [
        (f"AP@.{round(100 * j.overlap):02d}", str(j.precision)),
        ("AP@[.5:.95]", str(j.mean_precision)),
        *((name.replace("_", ", "), f"{v:.3f}" if math.isfinite(v) else "-") for name, v in j.by_size.items()),
        ("missed", f"{j.missed} ({sum(int(v.sum()) for v in j.lost)} of {summary['objects']})"),
        ("false alarms a picture", f"{j.alarms.mean():.2f}"),
    ]
    errors = [(kind, MEANING[kind], j.errors.count[kind], f"{j.errors.cost[kind]:+.3f}") for kind in j.errors.count]
    return [
        text,
        ReportTable(("figure", "value"), rows),
        "Errors of all detections by kind (TIDE), and what AP would gain without them:",
        ReportTable(("kind", "what it is", "number", "AP gained"), errors),
    ]


def _classes(
    own: "Detections", found: Sequence[Found], objects: Sequence[Objects]
) -> tuple[ReportTable, dict[str, dict[str, Any]]]:
    """The figures of each class, whose means are those of the overview; the same as numbers."""
    rows, numbers = [], {}
    at = f"AP{round(100 * own.overlap):d}"
    for label, c in by_class(found, objects, score=own.score, overlap=own.overlap).items():
        name = own.names[label]
        rows.append((name, c.objects, str(c.precision), str(c.mean_precision), str(c.missed)))
        parts = {at: c.precision, "AP": c.mean_precision, "missed": c.missed}
        numbers[name] = {"objects": c.objects, **{key: _estimate(e) for key, e in parts.items()}}
    header = ("class", "objects", f"AP@.{round(100 * own.overlap):02d}", "AP@[.5:.95]", "missed")
    return ReportTable(header, rows), numbers


def _along(
    own: "Detections", run: AbstractRun, measured: Measured, axis: str, values: Sequence[float]
) -> list[tuple[float, Judgement]]:
    rows = []
    for value in sorted({float(v) for v in values} | {AXES[axis].neutral}):
        same = value == AXES[axis].neutral
        found = own.seek(run, measured) if same else own.seek(run, measured, axis, value)
        rows.append((value, judge(found, own.objects(), score=own.score, overlap=own.overlap)))
    return rows


def _curve(axis: str, rows: Sequence[tuple[float, Judgement]], overlap: float) -> list[Block]:
    x = [value for value, _ in rows]
    at = f"AP@.{round(100 * overlap):02d}"
    panels, bands = {}, {}
    for label, pick in ((at, "precision"), ("missed", "missed")):
        line: list[IntervalEstimate] = [getattr(j, pick) for _, j in rows]
        panels[label] = {label: (x, [e.value for e in line])}
        bands[label] = (x, [e.low for e in line], [e.high for e in line])
    table = [(f"{v:g}", str(j.precision), str(j.mean_precision), str(j.missed), int(j.alarms.sum())) for v, j in rows]
    return [
        Picture(
            curves(panels, xlabel=f"{axis} [{AXES[axis].unit}]", bands=bands),
            f"{axis}; the pictures as given at {AXES[axis].neutral:g}",
        ),
        ReportTable((f"{axis} [{AXES[axis].unit}]", at, "AP@[.5:.95]", "missed", "false alarms"), table),
    ]


def _calibration(bins: Sequence[ScoreBin], error: float) -> list[Block]:
    x = [b.score for b in bins]
    lines = {"right": (x, [b.right.value for b in bins]), "score": (x, x)}
    band = (x, [b.right.low for b in bins], [b.right.high for b in bins])
    rows = [(f"{b.score:.3f}", b.number, str(b.right)) for b in bins]
    return [
        f"Share of the detections that are right, by their score. Expected calibration error: {error:.3f}.",
        Picture(
            curves({"right": lines}, xlabel="score", bands={"right": band}),
            "a score that is the probability lies on the diagonal",
        ),
        ReportTable(("mean score", "detections", "right"), rows),
    ]


def _cells(
    own: "Detections", j: Judgement, axes: dict[str, list[tuple[float, Judgement]]], out: "RunDirectory"
) -> tuple[list[Block], dict[str, Any]]:
    """Miss rates by each number of the labels, by the height of the box, and along each axis; `pictures/..cells.csv`.

    The pictures as they are stand in the cells of the axes once for each.
    """
    drawn, lost = own.drawn(), _per_box(own, j.lost)
    use = ~own.ignored() & ~drawn.crowd
    numbers = {"height of the box [px]": drawn.boxes[:, 3] - drawn.boxes[:, 1]}
    if "center.2" in drawn.numbers:
        numbers["distance [m]"] = np.sqrt(sum(drawn.numbers[f"center.{k}"] ** 2 for k in range(3)))
    numbers |= {n: v for n, v in drawn.numbers.items() if "." not in n and n not in own.ignore and n != "yaw"}
    pictures = len(drawn.pictures)
    by_name: dict[str, list[Cell]] = {}
    for cell in number_cells(numbers, use, lost, drawn.picture, pictures):
        by_name.setdefault(cell.name, []).append(cell)
    starts = {name: cells[0].low for name, cells in by_name.items()}
    if "height of the box [px]" in by_name:  # the nearest objects are the tallest
        starts["height of the box [px]"] = by_name["height of the box [px]"][-1].high
    shown = np.array([int(counted(o).sum()) for o in own.objects()])
    for axis, rows in axes.items():
        name = f"{axis} [{AXES[axis].unit}]"
        cells = [Cell(name, v, v, np.array([int(one.sum()) for one in k.lost]), shown) for v, k in rows]
        by_name[name], starts[name] = cells, AXES[axis].neutral
    if not by_name:
        return [], {}
    (out.path / "pictures").mkdir(exist_ok=True)
    out.claim(f"pictures/{own.name}_cells.csv").write_text(cells_csv(by_name), encoding="utf-8")
    return tell_cells(by_name, starts, own.tolerated)


def _per_box(own: "Detections", lost: Sequence[np.ndarray]) -> np.ndarray:
    """What is told of the objects of each picture, in the order of the file."""
    drawn = own.drawn()
    values = np.zeros(len(drawn.boxes), dtype=bool)
    for k, of_picture in enumerate(lost):
        number = np.flatnonzero(drawn.picture == k)
        values[number] = of_picture[: len(number)]
    return values


def _distances(own: "Detections", found: Sequence[Found]) -> list[tuple[str, str, str, str, str]]:
    """Picture, labelled distance, nearest face, distance by the lens, score of each found object."""
    drawn = own.drawn()
    if own.camera is None or not {"center.2", "size.1"} <= set(drawn.numbers):
        return []
    focal = intrinsics(own)[1, 1]
    rows = []
    for k, objects in enumerate(own.objects()):
        number = np.flatnonzero(drawn.picture == k)
        who = assignment(above(found[k], own.score), objects, overlap=own.overlap)[: len(number)]
        sure = above(found[k], own.score)
        for row, one in zip(number, who, strict=True):
            if one < 0:
                continue
            z = drawn.numbers["center.2"][row]
            near = z - _half_depth(drawn.numbers, int(row))
            h = sure.boxes[one, 3] - sure.boxes[one, 1]
            estimate = focal * drawn.numbers["size.1"][row] / h
            rows.append(
                (drawn.pictures[k].name, f"{z:.2f}", f"{near:.2f}", f"{estimate:.2f}", f"{sure.scores[one]:.2f}")
            )
    return rows


def _half_depth(numbers: Any, row: Any) -> float:
    """Half the extent along the view of a box of length, height, width turned by its yaw [m]."""
    if "yaw" not in numbers or "size.2" not in numbers:
        return 0.0
    yaw = numbers["yaw"][row]
    return float(abs(math.sin(yaw)) * numbers["size.0"][row] + abs(math.cos(yaw)) * numbers["size.2"][row]) / 2


def intrinsics(own: "Detections") -> np.ndarray:
    """K of the camera, (3, 3) [px].

    Raises:
        SceneError: The file has no K.
    """
    file = (own.camera or {}).get("file")
    key = f"observations.{own.name}.camera"
    if not isinstance(file, str):
        raise SceneError(f'{key}: name the file of its K, as in file = "camera.json"')
    try:
        matrix = np.asarray(read_json(own.directory / file).get("K"), dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise SceneError(f"{key}.file: {error}") from None
    if matrix.shape != (3, 3):
        raise SceneError(f"{key}.file: {file}: expected K, three rows of three numbers")
    return matrix


def _worst(j: Judgement, found: Sequence[Found]) -> list[int]:
    """The pictures with the most misses, then the most false alarms."""
    order = sorted(range(len(found)), key=lambda k: (-int(j.lost[k].sum()), -int(j.alarms[k]), k))
    return order[:WORST]


def _count(j: Judgement, k: int) -> str:
    return f"{int(j.lost[k].sum())} missed, {int(j.alarms[k])} false alarms"


def _drawn(
    own: "Detections", run: AbstractRun, measured: Measured, k: int, found: Found, objects: Objects, j: Judgement
) -> Any:
    from simengine.io.image import to_srgb8

    light = run.sample(own.asks(measured)[k])[0].numpy()
    who = assignment(found, objects, overlap=j.overlap)
    use, taken = counted(objects), {}
    boxes: list[tuple[Sequence[float], str, str]] = []
    for row, box in enumerate(objects.boxes):
        kind = "ignored" if not use[row] else "missed" if j.lost[k][row] else "hit"
        score = float(found.scores[who[row]]) if who[row] >= 0 else 0.0
        text = f"{own.names[int(objects.labels[row])]} missed" if kind == "missed" else ""
        boxes.append((box, kind, text + (f" ({score:.2f})" if text and score else "")))
        if who[row] >= 0:
            taken[int(who[row])] = row
    for one, box in enumerate(found.boxes):
        if found.scores[one] >= own.score:
            kind = "hit" if one in taken else "alarm"
            boxes.append((box, kind, f"{own.names[int(found.labels[one])]} {found.scores[one]:.2f}"))
    return draw_boxes(to_srgb8(light), boxes)


def _write_pictures(
    own: "Detections", j: Judgement, found: Sequence[Found], objects: Sequence[Objects], out: "RunDirectory"
) -> None:
    """`pictures/NAME.csv`, a row for each picture, and all detections beside it."""
    drawn = own.drawn()
    (out.path / "pictures").mkdir(exist_ok=True)
    lines = ["picture,objects,missed,false_alarms,detections,best_score"]
    sides_of = "x,y,width,height,angle" if own.turned else "left,top,right,bottom"
    every = [f"picture,class,{sides_of},score"]
    for k, path in enumerate(drawn.pictures):
        scores = found[k].scores
        best = f"{scores.max():.4f}" if len(scores) else ""
        sure = int((scores >= own.score).sum())
        number = int(counted(objects[k]).sum())
        lines.append(f"{_cell(path.name)},{number},{int(j.lost[k].sum())},{int(j.alarms[k])},{sure},{best}")
        for box, label, score in zip(found[k].boxes, found[k].labels, scores, strict=True):
            sides = ",".join(f"{v:.4f}" if own.turned else f"{v:.2f}" for v in box)
            every.append(f"{_cell(path.name)},{_cell(own.names[int(label)])},{sides},{score:.5f}")
    out.claim(f"pictures/{own.name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    out.claim(f"pictures/{own.name}_detections.csv").write_text("\n".join(every) + "\n", encoding="utf-8")


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text
