"""Every key of a scene, changed to another valid value, changes what comes of the scene, or is refused.

A key may show in what is built, in the inverse problem, in its first steps, or in the results of a run; the cheap ones
are looked at first. The specs themselves are not looked into: a key must reach what computes. What a case lists as
`idle` has no effect there, for the reason told; that every key acts in some case is a test of its own.
"""

from pathlib import Path

import pytest
from key_cases.cases import CASES, write_files
from key_cases.digest import SCHEMA
from key_cases.judge import acting, holds_tables, leaves, scene_of, told_by

from simengine.scene.kinds import KINDS
from simengine.scene.strict import hints


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the scenes' files lie."""
    path = tmp_path_factory.mktemp("keys")
    write_files(path)
    return path


def test_every_table_is_judged(folder: Path) -> None:
    judged = {type(scene_of(case.data, folder)) for case in CASES.values() if "" in case.below}
    for case in CASES.values():
        scene = scene_of(case.data, folder)
        judged |= {owner for key, _, _, (owner, _) in leaves(scene, type(scene)) if key.startswith(case.below)}
    kinds = {"Column"} | {target.rpartition(":")[2] for target in KINDS.values()}
    unjudged = [cls for cls in SCHEMA if SCHEMA[cls] and not any(issubclass(own, cls) for own in judged)]
    assert not [cls for cls in unjudged if cls.__name__ not in kinds]


def test_every_key_is_judged(folder: Path) -> None:
    """A key that no case writes and that has no default is tried nowhere: no value of it is ever changed."""
    tried: set[tuple[type, str]] = set()
    for case in CASES.values():
        scene = scene_of(case.data, folder)
        owners = [owner for key, _, _, owner in leaves(scene, type(scene)) if key.startswith(case.below)]
        tried |= {(told_by(cls, key), key) for cls, key in owners}
    elsewhere = {
        "Column": "tests/observe/test_tables.py",
        "CamouflageSpec.kind": "tests/dtn/test_checks.py, tests/worlds/detectors/test_training.py: several classes",
    }
    untried = [
        f"{cls.__name__}.{key}"
        for cls, keys in SCHEMA.items()
        for key in sorted(keys)
        if (told_by(cls, key), key) not in tried and not holds_tables(hints(cls)[key])
    ]
    assert not [key for key in untried if key not in elsewhere and key.partition(".")[0] not in elsewhere]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * case.slow) for n, case in CASES.items()])
def test_every_key_acts_or_is_refused(name: str, folder: Path) -> None:
    case = CASES[name]
    acts, idle = acting(case, folder)
    known = {key: reason for key in idle for end, reason in case.idle.items() if key.endswith(end)}
    assert not set(idle) - set(known), "these keys are accepted and do nothing"
    assert not [end for end in case.idle if any(key.endswith(end) for key in acts)], "listed as idle, but it acts"
