"""What fits from pictures have in common: pyramids to compare them, sheets to show them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simengine.io.image import to_srgb8
from simengine.view.figures import label

NAME = 80  # pixels that the name of a row is wide


def pyramid(images: torch.Tensor, levels: int) -> list[torch.Tensor]:
    """Images (..., h, w, c) and their halvings by means over 2 x 2 pixels, `levels` of them at most."""
    result = [images]
    for _ in range(levels):
        *batch, h, w, c = result[-1].shape
        if h < 4 or w < 4:
            break
        even = result[-1][..., : h // 2 * 2, : w // 2 * 2, :]
        result.append(even.reshape(*batch, h // 2, 2, w // 2, 2, c).mean(dim=(-4, -2)))
    return result


def contact_sheet(images: torch.Tensor, *, columns: int = 8) -> NDArray[np.uint8]:
    """`images` (..., h, w, 1 or 3) beside and below one another in so many `columns`, 8-bit sRGB."""
    flat = images.detach().reshape(-1, *images.shape[-3:]).float().cpu()
    if flat.shape[-1] == 1:
        flat = flat.expand(-1, -1, -1, 3)
    columns = min(columns, len(flat))
    rows = -(-len(flat) // columns)
    padded = torch.ones(rows * columns, *flat.shape[1:])
    padded[: len(flat)] = flat
    h, w = flat.shape[1:3]
    return to_srgb8(
        padded.reshape(rows, columns, h, w, 3).permute(0, 2, 1, 3, 4).reshape(rows * h, columns * w, 3).numpy()
    )


def comparison(rows: Mapping[str, torch.Tensor]) -> NDArray[np.uint8]:
    """One labelled row of images for each entry of `rows`; the same number of images in each."""
    sheets = []
    for name, images in rows.items():
        flat = images.reshape(-1, *images.shape[-3:])
        sheet = contact_sheet(flat, columns=len(flat))
        spare = max(NAME - sheet.shape[1], 0)
        sheet = np.pad(sheet, ((0, 0), (0, spare), (0, 0)), constant_values=255)
        strip = np.full((16, sheet.shape[1], 3), 255, np.uint8)
        sheets += [label(np.concatenate([strip, strip[:4]]), name), sheet]
    return np.concatenate(sheets)


def summary_rows(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Scalars of a summary as rows of a table; nested ones with dotted names."""
    rows: list[tuple[str, Any]] = []
    for name, value in summary.items():
        if isinstance(value, Mapping):
            rows += [(f"{name}.{key}", entry) for key, entry in summary_rows(value)]
        elif isinstance(value, int | float | str | bool | Path):
            rows.append((name, value))
    return rows
