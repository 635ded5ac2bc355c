"""Whatever is fitted, trained or optimised goes on to the bit: a step, a checkpoint, another seed, a step from there.

The cases of `tests/key_cases` that seek something, one of each kind and method, so that a new one is tried as it comes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from key_cases.cases import CASES, write_files
from key_cases.judge import begun, scene_of

from simengine.fit.method import training_of
from simengine.fit.problem import Problem
from simengine.fit.training import AbstractTraining
from simengine.io import checkpoint


def sought() -> list[str]:
    """The first case of each kind of world, and of what is sought of it."""
    found: dict[tuple[str, str], str] = {}
    for name, case in CASES.items():
        for table in ("model", "objective", "unknowns"):
            if table in case.data:
                of = case.data.get("inference" if table == "unknowns" else table, {})
                found.setdefault((case.data["kind"], f"{table} {of.get('type', of.get('method'))}"), name)
    return list(dict.fromkeys(found.values()))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resume")
    write_files(path)
    return path


def started(data: dict[str, Any], files: Path) -> AbstractTraining:
    scene = scene_of(data, files)
    return begun(scene) if {"model", "objective"} & data.keys() else training_of(Problem(scene))


def equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Whether two states are one; their `counters` tell how often was solved."""
    counted = {key: value for key, value in one.items() if key != "counters"}
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in counted.items())


@pytest.mark.parametrize("name", sought())
def test_it_goes_on_to_the_bit(name: str, files: Path, tmp_path: Path) -> None:
    data = CASES[name].data
    torch.manual_seed(3)
    whole = started(data, files)
    whole.step()
    checkpoint.save(tmp_path, {**whole.state_dict(), "rng": torch.get_rng_state()}, {}, tag=1)
    figures, estimates, after = whole.step(), whole.estimates(), whole.state_dict()

    torch.manual_seed(99)  # must not matter
    parts = started(data, files)
    tensors, _ = checkpoint.load(tmp_path)
    state = tensors.pop("rng")
    parts.load_state_dict(tensors)
    torch.set_rng_state(state)
    assert {**parts.step(), "solves": 0} == {**figures, "solves": 0}  # a run in memory is solved again
    assert parts.estimates() == estimates
    assert equal(parts.state_dict(), after)
