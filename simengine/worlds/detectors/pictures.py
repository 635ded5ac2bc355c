"""Labelled pictures of views, for detectors of any kind."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from simengine.dtn.bodies.labels import COLUMNS
from simengine.dtn.bodies.labels import UNITS as OWN
from simengine.dtn.bodies.paints import NATURAL_PAINTS
from simengine.dtn.coco import Objects
from simengine.dtn.sampler import CONDITIONS, UNITS
from simengine.dtn.views import ViewSet
from simengine.io.annotations import Annotations, write_coco
from simengine.io.arrays import read_npz
from simengine.render.tone import ToneCurve, decode_srgb
from simengine.scene.base import SceneError

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory


def numbers_of(names: Sequence[str]) -> tuple[tuple[str, ...], torch.Tensor]:
    """The classes, each once, and the number among them of each label of a view.

    Args:
        names: By label, as of `DTNWorld.label_names`; the object may be of one of the classes around it.
    """
    classes = tuple(dict.fromkeys(names))
    return classes, torch.tensor([classes.index(name) for name in names])


def objects_of(views: ViewSet, names: Sequence[str]) -> list[Objects]:
    """What each view shows, by the numbers of `numbers_of`; areas are those of the pixels seen."""
    assert views.labels is not None
    _, numbers = numbers_of(names)
    shown = []
    for rows in views.labels.cpu().double():
        own = rows[rows[:, 4] >= 0]
        kinds = numbers[own[:, 4].long()]
        shown.append(Objects(own[:, :4].numpy(), kinds.numpy(), own[:, COLUMNS.index("pixels")].numpy()))
    return shown


def write_labelled(shards: Sequence[Path], names: Sequence[str], out: "RunDirectory") -> int:
    """Write `pictures/`, `labels.csv` and `labels.json`; pictures that show nothing that is labelled are left out.

    Args:
        shards: Files of views.
        names: Class of each label of a view, the object's first.
        out: Where they go.

    Returns:
        Number of the things labelled.

    Raises:
        SceneError: The views were rendered before they had labels.
    """
    classes, numbers = numbers_of(names)
    extra = COLUMNS[5:]
    sides = [f"{side} [px]" for side in COLUMNS[:4]]
    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    conditions = [f"{name} [{UNITS[name]}]" for name in CONDITIONS]
    lines.writerow(["image", "class", *sides, *conditions, *(f"{name} [{OWN[name]}]" for name in extra)])
    (out.path / "pictures").mkdir(exist_ok=True)
    files: list[str] = []
    every: list[tuple[int, torch.Tensor]] = []
    size = (0, 0)
    for shard in shards:
        tensors = {k: torch.from_numpy(v) for k, v in read_npz(shard).items()}
        if "labels" not in tensors:
            raise SceneError(f"{shard.name}: rendered by an earlier version, without labels; run with --overwrite")
        views = ViewSet(**tensors, tone=ToneCurve())
        paints = torch.tensor(NATURAL_PAINTS)[views.index % len(NATURAL_PAINTS)]
        pictures, size = decode_srgb(views.picture(paints[:, :, None, None])), views.size
        for k, rows in enumerate(tensors["labels"]):
            own = rows[rows[:, 4] >= 0]
            if not len(own):
                continue
            name = f"{int(views.index[k]):05d}.png"
            out.write(f"pictures/{name}", pictures[k].permute(1, 2, 0).numpy())
            for row in own:
                kind = names[int(row[4])]
                values = [*row[:4].tolist(), *views.conditions[k].tolist(), *row[5:].tolist()]
                lines.writerow([name, kind, *(f"{v:.6g}" for v in values)])
                every.append((len(files), row))
            files.append(name)
    out.claim("labels.csv").write_text(table.getvalue(), encoding="utf-8")
    labels = torch.stack([row for _, row in every]).double() if every else torch.zeros(0, len(COLUMNS)).double()
    write_coco(
        out.claim("labels.json"),
        Annotations(
            names=files,
            sizes=np.tile(np.array(size, dtype=np.float64), (len(files), 1)),
            picture=np.array([place for place, _ in every], dtype=np.int64),
            boxes=labels[:, :4].numpy(),
            labels=1 + numbers[labels[:, 4].long()].numpy(),
            area=labels[:, COLUMNS.index("pixels")].numpy(),
            crowd=np.zeros(len(every), dtype=bool),
            classes={k + 1: name for k, name in enumerate(classes)},
            ids=np.arange(1, len(files) + 1),
        ),
    )
    return len(every)
