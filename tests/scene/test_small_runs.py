"""What small scenes come to is what it was: a change of a result has to be wanted.

The other tests say what is right; this one says that nothing has moved. Of everything that each case of
`tests/key_cases` builds, answers or writes, and of the numbers in its report, a norm and a projection stand in
`data/small_runs.json`, as far as two processors agree on them. A wanted change is written there anew by
`python tests/scene/test_small_runs.py`, then `--agree` under `ATEN_CPU_CAPABILITY=default`, and told in CHANGELOG.md;
names of cases behind it leave the others as they are.
"""

import json
import math
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from key_cases.cases import CASES, write_files
from key_cases.judge import scene_of

KEPT = Path(__file__).resolve().parents[1] / "data" / "small_runs.json"
PRIVATE = re.compile(r"\._|\.training$")  # inner parts, which may be built otherwise
Levels = dict[str, dict[str, list[float]]]
CLOSE = 2e-3  # of a norm: float32, and the order of its sums, in a few steps of a training or a run
CLOSE_PAGE = 2e-2  # some last digit of a page may be rounded to the other side


def told(array: np.ndarray) -> list[float]:
    """Size, norm and the projection on a direction that no symmetry knows."""
    flat = np.asarray(array, dtype=np.float64).ravel()
    flat = np.where(np.isfinite(flat), flat, 0.0)
    direction = np.cos(1.0 + 0.7 * np.arange(len(flat)) ** 1.1)
    return [float(array.size), float(np.linalg.norm(flat)), float(flat @ direction)]


def levels(name: str, folder: Path) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Of each level of a case, what it holds."""
    case = CASES[name]
    for position, level in enumerate(case.levels):
        torch.manual_seed(0)
        found: Any = level(scene_of(case.data, folder))
        shown = {place: array for place, array in found.held.items() if not PRIVATE.search(place)}
        of = {place: told(array) for place, array in shown.items() if array.dtype.kind in "biuf" and array.size}
        yield str(position), of


def moved(kept: list[float], now: list[float], close: float = CLOSE) -> bool:
    """Whether what is told differs by more than rounding."""
    size = max(abs(kept[1]), abs(now[1]))
    return kept[0] != now[0] or any(not abs(a - b) <= close * size for a, b in zip(kept[1:], now[1:], strict=True))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the scenes' files lie."""
    path = tmp_path_factory.mktemp("small")
    write_files(path)
    return path


def kept_cases() -> dict[str, Levels]:
    """What is kept, by the names of cases."""
    found: dict[str, Levels] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    return found


@pytest.mark.parametrize("name", kept_cases())
def test_nothing_has_moved(name: str, files: Path) -> None:
    kept = kept_cases()[name]
    for level, now in levels(name, files):
        common = {place: value for place, value in kept.get(level, {}).items() if place in now}
        assert 2 * len(common) >= len(kept.get(level, {})), "the table is old: parts have other names"
        differ = {
            place: (value, now[place])
            for place, value in common.items()
            if moved(value, now[place], close=CLOSE_PAGE if place.endswith(".html") else CLOSE)
        }
        assert not differ, "these have moved; if it is wanted, the docstring says how to write them anew"


def test_most_of_what_small_scenes_hold_is_kept() -> None:
    kept = kept_cases()
    assert len(kept) > 0.8 * len(CASES) and sum(any(of.values()) for of in kept.values()) > 0.9 * len(kept)
    assert math.isclose(told(np.array([3.0, 4.0]))[1], 5.0)
    assert moved([1, 1.0, 0.5], [1, 1.01, 0.5]) and moved([1, 1.0, 0.5], [2, 1.0, 0.5])
    assert not moved([1, 1.0, 0.5], [1, 1.0001, 0.5])


def write(agree: bool, names: list[str]) -> None:
    """Write what is told now; or keep only that part of it that is told here too. Of some cases, or of all."""
    kept: dict[str, Levels] = kept_cases() if agree or names else {}
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        for name in names or list(kept) or CASES:
            found = dict(levels(name, Path(folder)))
            if agree:
                for level, of in kept[name].items():
                    now = found[level]
                    kept[name][level] = {
                        k: v for k, v in of.items() if k in now and not moved(v, now[k], close=CLOSE / 10)
                    }
            else:
                kept[name] = {
                    level: {k: [float(f"{x:.6g}") for x in v] for k, v in of.items()} for level, of in found.items()
                }
    rows = [f"{json.dumps(name)}: {json.dumps(of, separators=(',', ':'))}" for name, of in kept.items()]
    KEPT.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write("--agree" in sys.argv, [name for name in sys.argv[1:] if name != "--agree"])
