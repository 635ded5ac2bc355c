"""Scenes of the old form are told the new one in one line, and no kind has it any more."""

from pathlib import Path

import pytest

from simengine.scene import SceneError, load_scene
from simengine.scene.kinds import GONE_TASKS, NEW_FORM, classes
from simengine.scene.strict import scene_fields


def test_no_kind_has_an_old_table() -> None:
    assert not {
        name: table for name, cls in classes("kind").items() for table in NEW_FORM if table in scene_fields(cls)
    }


@pytest.mark.parametrize("task", [*sorted(GONE_TASKS), "", "never"])
def test_the_kind_render_is_answered_by_the_new_form(tmp_path: Path, task: str) -> None:
    file = tmp_path / "old.toml"
    file.write_text('kind = "render"\n' + (f'[task]\ntype = "{task}"\n' if task else ""))
    with pytest.raises(SceneError, match=r"is the old form: .*\[observations.NAME\]") as caught:
        load_scene(file)
    message, where = str(caught.value), "3: task.type" if task in GONE_TASKS else "1: kind"
    assert message.startswith(f"{file}:{where}: ") and "\n" not in message
    if task in GONE_TASKS:
        assert f"the shipped scene {GONE_TASKS[task]} shows it" in message
        load_scene(GONE_TASKS[task])


@pytest.mark.parametrize("table", sorted(NEW_FORM))
def test_an_old_table_is_answered_by_the_new_form(tmp_path: Path, table: str) -> None:
    kind = next(iter(classes("kind")))
    file = tmp_path / "old.toml"
    file.write_text(f'kind = "{kind}"\n\n[{table}]\niterations = 3\n')
    with pytest.raises(SceneError) as caught:
        load_scene(file)
    message = str(caught.value)
    assert message.startswith(f"{file}:3: {table}: ") and "\n" not in message
    assert "[observations.NAME]" in message and "[unknowns" in message
