"""What a robustness evaluation reports: AP before and after hardening, cells, transfer, and the gap to full renders."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from simengine.dtn.camouflage import naive_texture, random_texture
from simengine.dtn.evaluation import (
    DetectionTable,
    average_precision,
    cells,
    coco_average_precision,
    detect,
    error_kinds,
    miss_rate,
    precision_gap,
)
from simengine.dtn.metrics import object_psnr
from simengine.dtn.sampler import CONDITIONS, WEATHER, ViewSampler
from simengine.dtn.texture import TextureMap, texture_picture
from simengine.scene.base import SceneError
from simengine.view.report import Block, Picture, ReportTable, write_report
from simengine.worlds.detectors.appearance import beside_one_another
from simengine.worlds.detectors.attacks import CONTROLS, anew
from simengine.worlds.detectors.conditions import (
    condition_curve,
    paint_sheet,
    provenance,
    worst_cells,
    write_pictures,
)
from simengine.worlds.detectors.detector import Paint, PictureSet, detection_sheet, natural_paint, wear
from simengine.worlds.detectors.painted_files import write_painted
from simengine.worlds.detectors.renders import RendersWorld
from simengine.worlds.detectors.sources import unseen_views_of

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.worlds.detectors.camouflage import CamouflageTraining

PARTS = {
    "distance": (4, 2),
    "pitch": (3, 2),
    "yaw": (4, 4),
    "sun_elevation": (3, 1),
    "sun": (3, 1),
    "sky": (3, 1),
}  # intervals of a condition alone, and with the others
KINDS = ("loose", "duplicate", "alarm", "missed")
DETECTORS = ("detector", "hardened", *CONTROLS, "other")


def write_camouflage_report(training: "CamouflageTraining", out: "RunDirectory") -> dict[str, Any]:
    """Evaluate all detectors in all paints on unseen views; writes `report.html`, pictures and textures.

    Returns:
        By detector/paint: AP@.5, AP@.75 and the share of objects missed; the gap to full renders.
    """
    scene, spec = training.scene, training.spec
    unseen = unseen_views_of(scene, spec.detector.empty, device=training.device)
    put_on, predict = training.map(unseen.views), training.predictor(unseen.views)
    size = (spec.rows, spec.columns)
    block = max(b for b in (1, 2, 4) if size[0] % b == 0 and size[1] % b == 0)
    textures = {
        "random": random_texture(size, 101, block=block),
        "naive": naive_texture(size, 7),
        "optimised": training.found("texture"),
    }
    if spec.hardening:
        textures["optimised anew"] = training.found("anew")
    paints: dict[str, Paint] = {"natural": natural_paint}
    paints |= {name: wear(put_on, texture) for name, texture in textures.items()}
    own = own_paints(training, put_on)

    summary: dict[str, Any] = {"views": len(unseen.views), "views_without": len(unseen.boxes) - len(unseen.views)}
    rows, errors, tables = [], [], {}
    detectors: dict[str, Any] = {name: training.modules[name] for name in DETECTORS if name in training.modules}
    for name, detector in detectors.items():
        for worn, paint in {**paints, **own.get(name, {})}.items():
            torch.manual_seed(scene.seed + 1)
            kind = None if name == "other" else spec.kind  # the other one has a single class
            table = detect(detector, unseen.pictures(paint, predict), unseen.boxes, kind=kind)
            tables[name, worn] = table
            figures = [average_precision(table), average_precision(table, 0.75)]
            missed, coco, kinds = miss_rate(table), coco_average_precision(table), error_kinds(table, score=0.5)
            rows.append((name, worn, str(figures[0]), str(figures[1]), str(coco), str(missed)))
            errors.append((name, worn, *kinds.values()))
            summary[f"{name}/{worn}"] = {
                "AP50": figures[0].value,
                "AP50_low": figures[0].low,
                "AP50_high": figures[0].high,
                "AP75": figures[1].value,
                "missed": missed.value,
                "missed_low": missed.low,
                "missed_high": missed.high,
                "AP": {"value": coco.value, "low": coco.low, "high": coco.high},
                "errors": kinds,
            }
    gains = hardening_gains(tables, [name for name in CONTROLS if name in detectors])
    summary |= {"gains": gains} if gains else {}
    sections: dict[str, list[Block]] = {
        "Average precision": [
            f"{summary['views']} unseen views and {summary['views_without']} without the object; brackets: 95 % "
            "interval; missed: objects without a detection above 0.5",
            ReportTable(("detector", "paint", "AP@.5", "AP@.75", "AP@[.5:.95], as COCO", "missed"), rows),
            "Errors by kind (TIDE) of detections above 0.5: loose overlaps its object by .1 to .5, an alarm none.",
            ReportTable(("detector", "paint", *KINDS), errors),
        ],
        **({"What hardening is worth": [gain_table(gains)]} if gains else {}),
        "Paints": [Picture(paint_sheet(textures), ", ".join(textures))],
    }
    shown = [("detector", "natural"), ("detector", "optimised")]
    if spec.hardening:
        shown += [("hardened", "natural"), ("hardened", "optimised anew")]
    named = {f"{name}, {worn}": tables[name, worn] for name, worn in shown}
    given = isinstance(scene, RendersWorld)
    if not isinstance(scene, RendersWorld):
        sections |= by_conditions(named, unseen.conditions, scene.sampler)
        more = spec.rendered > scene.test_views
        compared = unseen
        if more:
            compared = unseen_views_of(scene, spec.detector.empty, spec.rendered, device=training.device)
        gap, beside, sheet = gap_to_renders(training, compared, textures["optimised"])
    else:
        gap, beside, sheet = gap_to_given(training, scene, unseen)
    summary |= beside
    truth = "the given pictures" if given else "full renders"
    caption = f"AP@.5 in {truth} less AP@.5 in the pipeline: {gap}; {beside['rendered']} pictures with the object"
    sections[f"Predicted beside {'given' if given else 'rendered in full'}"] = [caption, Picture(sheet)]
    few = unseen.views[: min(16, len(unseen.views))]
    for name, detector in detectors.items():
        picture = detection_sheet(detector, few, paints["optimised"])
        caption = "green: truth, and the best detection where it hits, with its score; orange: where it does not"
        sections[f"Detections: {name}, optimised"] = [Picture(picture, caption)]
        out.write(f"detections_{name}.png", picture)
    for name, texture in textures.items():
        out.write(f"texture_{name.replace(' ', '_')}.png", texture_picture(texture))
    if spec.mapping == "uv" and not isinstance(
        scene, RendersWorld
    ):  # the others have no coordinates that a file could hold
        write_painted(scene.surface(), out.path / "texture_optimised.png", out)
    out.write("textures.npz", textures)
    out.write("rendered.png", sheet)
    write_pictures(named, unseen.conditions, out)
    sections["What was run"] = [ReportTable(("", ""), provenance(training))]
    write_report(out.path / "report.html", "Robustness of a detector", sections)
    return summary


def by_conditions(
    named: Mapping[str, DetectionTable], conditions: torch.Tensor, sampler: ViewSampler
) -> dict[str, list[Block]]:
    """Curves along each condition, the worst cells, and AP of all cells.

    Args:
        named: By detector and paint, of the same pictures.
        conditions: Of the pictures, (n, 12), by the names of `CONDITIONS`.
        sampler: Whose ranges are cut into cells.
    """
    sections: dict[str, list[Block]] = {}
    header, chosen = ("cell", "objects", *named), list(named.values())
    alone, together = (cell_edges(sampler, place) for place in (0, 1))
    single = [row for name, edges in alone.items() for row in cell_rows(chosen, conditions, {name: edges})]
    for name, edges in alone.items():
        if blocks := condition_curve(name, named, conditions, edges):
            sections[f"Along {name}"] = blocks
    sections["Worst cells"] = worst_cells(named, conditions, alone)
    sections["AP@.5 by cells of one condition"] = [ReportTable(header, single)]
    sections["AP@.5 by cells of all conditions"] = [ReportTable(header, cell_rows(chosen, conditions, together))]
    return sections


def own_paints(training: "CamouflageTraining", put_on: TextureMap) -> dict[str, dict[str, Paint]]:
    """By detector the paints that were made against it and that no other detector is shown."""
    own: dict[str, dict[str, Paint]] = {}
    for name in CONTROLS:
        if name in training.modules:
            own[name] = {"optimised anew": wear(put_on, training.found(anew(name)))}
    for name in DETECTORS:
        if f"black_box_{name}" in training.modules:
            own.setdefault(name, {})["black box"] = wear(put_on, training.found(f"black_box_{name}"))
    return own


def hardening_gains(
    tables: Mapping[tuple[str, str], DetectionTable], controls: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """AP@.5 of the hardened detector less that of each control, both in what was made against them, by paint.

    The intervals are of the paired difference.
    """
    worn = [paint for paint in ("natural", "optimised anew", "black box") if ("hardened", paint) in tables]
    gains: dict[str, dict[str, dict[str, float]]] = {}
    for control in controls:
        gains[control] = {}
        for paint in worn:
            gap = precision_gap(tables[control, paint], tables["hardened", paint])
            gains[control][paint] = {"value": gap.value, "low": gap.low, "high": gap.high}
    return gains


def gain_table(gains: Mapping[str, Mapping[str, Mapping[str, float]]]) -> ReportTable:
    """The gains beside one another."""
    rows = [
        (control, paint, f"{g['value']:.3f} [{g['low']:.3f}, {g['high']:.3f}]")
        for control, by_paint in gains.items()
        for paint, g in by_paint.items()
    ]
    return ReportTable(("control", "paint", "AP@.5 of the hardened detector less that of the control"), rows)


def cell_edges(sampler: ViewSampler, place: int) -> dict[str, tuple[float, ...]]:
    """Bounds of equal cells over what views have; of haze and weather none or some; `place` as in `PARTS`."""
    edges = {}
    for name, parts in PARTS.items():
        low, high = sampler.span(name)
        if parts[place] == 1 and place:
            continue
        step = (high - low) / parts[place]
        edges[name] = (*(low + k * step for k in range(parts[place])), _beyond(high))
    for name in ("haze", *WEATHER):
        low, high = sampler.span(name)
        if name == "haze" or (high > 0 and not place):
            edges[name] = (0.0, 1e-9, _beyond(max(high, 1e-9))) if low == 0 else (low, (low + high) / 2, _beyond(high))
    return edges


def _beyond(high: float) -> float:
    """An end that holds `high` too in single precision, which conditions have."""
    return high + 1e-6 * max(1.0, abs(high))


def cell_rows(
    tables: list[DetectionTable], conditions: torch.Tensor, edges: Mapping[str, Sequence[float]]
) -> list[tuple[str, ...]]:
    """Rows of a table: cell, objects, AP@.5 of each table.

    Args:
        tables: Of the same pictures.
        conditions: Shape (n, 12), by the names of `CONDITIONS`.
        edges: Bounds of the cells of each condition.
    """
    where = {name: (conditions[:, CONDITIONS.index(name)], bounds) for name, bounds in edges.items()}
    columns = [cells(table, where) for table in tables]
    return [(row[0][0], str(row[0][1]), *(str(c[2]) for c in row)) for row in zip(*columns, strict=True)]


def rendered_in_full(training: "CamouflageTraining", unseen: PictureSet, texture: torch.Tensor) -> torch.Tensor:
    """Encoded pictures of the first `spec.rendered` views, each traced with the texture on the object."""
    scene, spec, views = training.scene, training.spec, unseen.views
    assert not isinstance(scene, RendersWorld)  # whose pictures nobody here can render
    surface, images = scene.surface(), []
    for k in views.index[: spec.rendered].tolist():
        view = scene.test_sampler.render(
            surface,
            k,
            views.size,
            sky_rays=scene.sky_rays,
            paint=texture,
            repetitions_per_metre=0.0 if spec.mapping == "uv" else spec.repetitions,
            device=training.device,
        )
        images.append(views.tone.encode(view.radiance.permute(2, 0, 1)))
    return torch.stack(images).to(training.device)


def gap_to_renders(
    training: "CamouflageTraining", unseen: PictureSet, texture: torch.Tensor
) -> tuple[Any, dict[str, Any], Any]:
    """The gap in AP between the pipeline and full renders, figures of it, and a sheet of both and their difference."""
    rendered = rendered_in_full(training, unseen, texture)
    views = unseen.views
    predict, paint = training.predictor(views), wear(training.map(views), texture)
    index = torch.arange(len(rendered))
    predicted = torch.cat([predict(some, paint(some)) for some in index.split(32)])
    return _gap(training, unseen, index, predicted, rendered)


def gap_to_given(
    training: "CamouflageTraining", scene: RendersWorld, unseen: PictureSet
) -> tuple[Any, dict[str, Any], Any]:
    """The gap in AP between the pipeline and given pictures in their own paints, figures of it, and a sheet."""
    own = scene.pictures
    rows = own.pictures(unseen=True)
    if scene.greys:  # those that the law goes through tell nothing of it
        used = {place for places in own.greys().values() for place in places}
        rows = torch.tensor([k for k in rows.tolist() if k not in used], dtype=torch.long)
    if not len(rows):
        raise SceneError("table: no unseen view has an expected picture to compare with; see the column set")
    rows = rows[: training.spec.rendered]
    place = {k: n for n, k in enumerate(unseen.views.index.tolist())}
    index = torch.tensor([place[int(k)] for k in own.view[rows]])
    predict = training.predictor(unseen.views)
    with torch.no_grad():
        predicted = torch.cat([predict(index[k], own.paint(rows[k])) for k in torch.arange(len(rows)).split(32)])
    return _gap(training, unseen, index, predicted, own.expected[rows].to(training.device))


def _gap(
    training: "CamouflageTraining",
    unseen: PictureSet,
    index: torch.Tensor,
    predicted: torch.Tensor,
    rendered: torch.Tensor,
) -> tuple[Any, dict[str, Any], Any]:
    """Of predicted pictures and true ones of the views `index`; both sets have the same pictures without the object."""
    number, views, spec = len(rendered), unseen.views, training.spec
    boxes = torch.cat([unseen.boxes[index], unseen.boxes[len(views) :]])
    without = list(unseen.empty_pictures())
    detected: Any = training.modules["detector"]
    both = ([*images.split(32), *without] for images in (predicted, rendered))
    tables = [detect(detected, batches, boxes, kind=spec.kind) for batches in both]
    gap = precision_gap(tables[0], tables[1])
    mask = (views.object[index] >= 0.5).to(rendered.dtype)
    figures = {
        "rendered": number,
        "AP50_pipeline": float(tables[0].average_precision()),
        "AP50_rendered": float(tables[1].average_precision()),
        "object_psnr_rendered": float(object_psnr(predicted, rendered, mask)),
        "gap": {"value": gap.value, "low": gap.low, "high": gap.high},
    }
    error = (5 * (predicted[:8] - rendered[:8]).abs()).clamp(0, 1)
    strips = {"predicted": predicted[:8], "rendered in full": rendered[:8], "5 x error": error}
    return gap, figures, beside_one_another(strips)
