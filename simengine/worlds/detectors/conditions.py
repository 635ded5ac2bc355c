"""What a robustness report tells beside its tables: curves over conditions, worst cells, pictures, what was run."""

import itertools
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simengine.dtn.evaluation import DetectionTable, cells, miss_rate
from simengine.dtn.intervals import IntervalEstimate, rate_interval
from simengine.dtn.sampler import CONDITIONS, UNITS
from simengine.dtn.texture import texture_picture
from simengine.io.image import to_srgb8
from simengine.view.figures import curves
from simengine.view.report import Block, Picture, ReportTable

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.worlds.detectors.camouflage import CamouflageTraining

SIDE = 192  # of a texture in the report [pixels]


def _inside(conditions: torch.Tensor, name: str, low: float, high: float) -> torch.Tensor:
    values = conditions[:, CONDITIONS.index(name)]
    return ((values >= low) & (values < high)).nonzero().flatten()


def condition_curve(
    name: str, tables: Mapping[str, DetectionTable], conditions: torch.Tensor, edges: Sequence[float]
) -> list[Block]:
    """AP and miss rate along one condition, each with its 95 % band; nothing where one cell alone holds objects.

    Args:
        name: Of the condition.
        tables: By detector and paint, of the same pictures.
        conditions: Of the pictures, (n, 12), by the names of `CONDITIONS`.
        edges: Bounds of the cells.
    """
    panels: dict[str, dict[str, Any]] = {"AP@.5": {}, "missed": {}}
    bands: dict[str, dict[str, Any]] = {title: {} for title in tables}
    for title, table in tables.items():
        points: dict[str, list[tuple[float, IntervalEstimate]]] = {"AP@.5": [], "missed": []}
        for low, high in itertools.pairwise(edges):
            part = table.part(_inside(conditions, name, low, high))
            if not bool(part.objects.any()):
                continue
            middle = (low + high) / 2
            values = (conditions[:, CONDITIONS.index(name)], (low, high))
            points["AP@.5"].append((middle, cells(table, {name: values})[0][2]))
            points["missed"].append((middle, miss_rate(part)))
        for label, line in points.items():
            if len(line) > 1:
                x = [at for at, _ in line]
                panels[label][title] = (x, [e.value for _, e in line])
                bands[title][label] = (x, [e.low for _, e in line], [e.high for _, e in line])
    if not panels["missed"]:
        return []
    label = f"{name} [{UNITS[name]}]"
    pictures: list[Block] = []
    for title in tables:
        own = {k: {n: c for n, c in panel.items() if n == title} for k, panel in panels.items()}
        pictures.append(Picture(curves(own, xlabel=label, bands=bands[title]), f"{title}, with 95 % bands"))
    return pictures


def worst_cells(
    tables: Mapping[str, DetectionTable], conditions: torch.Tensor, alone: Mapping[str, Sequence[float]]
) -> list[Block]:
    """Of each detector and paint the cell whose miss rate is surely highest: by the lower bound of its interval."""
    rows, number = [], 0
    for title, table in tables.items():
        found = []
        for name, edges in alone.items():
            for low, high in itertools.pairwise(edges):
                part = table.part(_inside(conditions, name, low, high))
                if bool(part.objects.any()):
                    found.append((part.missed(), f"{name} {low:.3g} to {high:.3g}"))
        number = len(found) * len(tables)
        bounds = [rate_interval(int(missed.sum()), len(missed), comparisons=number) for missed, _ in found]
        worst = max(range(len(found)), key=lambda k: bounds[k].low)
        rows.append((title, found[worst][1], len(found[worst][0]), str(bounds[worst])))
    note = f"The intervals hold for all {number} cells that were looked at together (Bonferroni)."
    return [ReportTable(("detector, paint", "cell", "objects", "missed"), rows), note]


def paint_sheet(textures: Mapping[str, torch.Tensor]) -> np.ndarray:
    """The textures beside one another, 8-bit."""
    tiles = []
    for texture in textures.values():
        tile = to_srgb8(texture_picture(texture.cpu(), enlarge=max(1, SIDE // texture.shape[0])).numpy())
        pad = [(0, max(0, SIDE - tile.shape[0])), (0, 8), (0, 0)]
        tiles.append(np.pad(tile, pad, constant_values=255))
    height = max(tile.shape[0] for tile in tiles)
    return np.concatenate(
        [np.pad(t, [(0, height - t.shape[0]), (0, 0), (0, 0)], constant_values=255) for t in tiles], 1
    )


def write_pictures(tables: Mapping[str, DetectionTable], conditions: torch.Tensor, out: "RunDirectory") -> None:
    """`pictures.csv`: a row for each unseen picture: its conditions, best score on the object and on none."""
    shown = next(iter(tables.values())).objects
    lines = [",".join(["picture", "object", *CONDITIONS, *(f'"{t}: {k}"' for t in tables for k in ("hit", "alarm"))])]
    columns: list[torch.Tensor] = []
    for table in tables.values():
        for which in (table.iou >= 0.5, table.iou < 0.1):
            best = torch.zeros(table.pictures)
            columns.append(best.scatter_reduce(0, table.picture[which], table.score[which].float(), "amax"))
    for k in range(len(shown)):
        cells_of = [f"{float(v):.6g}" for v in (*conditions[k], *(c[k] for c in columns))]
        lines.append(",".join([str(k), str(int(shown[k])), *cells_of]))
    out.claim("pictures.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def provenance(training: "CamouflageTraining") -> list[tuple[str, Any]]:
    """What repeats the run: command, versions, seeds, lengths, the size of the detector."""
    scene, spec = training.scene, training.spec
    detector = training.modules["detector"]
    return [
        ("command", shlex.join(["simengine", *sys.argv[1:]])),
        ("time", time.strftime("%Y-%m-%dT%H:%M:%S%z")),
        ("versions", ", ".join(f"{n} {metadata.version(n)}" for n in ("simengine", "torch", "warp-lang", "numpy"))),
        ("python, machine", f"{platform.python_version()}, {platform.machine()}"),
        ("detector", f"{type(detector).__name__}, {sum(p.numel() for p in detector.parameters())} numbers"),
        ("class", "every label" if spec.kind is None else f"label {spec.kind}"),
        ("stages", ", ".join(f"{name} {length}" for name, length in training.stages)),
        *scene.told(),
    ]
