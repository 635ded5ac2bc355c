"""Scenes of the old form are told the new one in one line, and the list of kinds that still have it only shrinks."""

from pathlib import Path

import pytest

from simengine.scene import SceneError, load_scene
from simengine.scene.kinds import NEW_FORM, OLD_FORM, classes
from simengine.scene.strict import scene_fields

AT_MOST = {"render"}


def test_the_list_is_what_there_is_and_only_shrinks() -> None:
    still = {name: table for name, cls in classes("kind").items() for table in NEW_FORM if table in scene_fields(cls)}
    assert still == OLD_FORM, "scene/kinds.py: a kind without its old table leaves OLD_FORM, and none comes to it"
    assert set(OLD_FORM) <= AT_MOST


@pytest.mark.parametrize("table", sorted(NEW_FORM))
def test_an_old_table_is_answered_by_the_new_form(tmp_path: Path, table: str) -> None:
    kind = next(name for name, cls in classes("kind").items() if table not in scene_fields(cls))
    file = tmp_path / "old.toml"
    file.write_text(f'kind = "{kind}"\n\n[{table}]\niterations = 3\n')
    with pytest.raises(SceneError) as caught:
        load_scene(file)
    message = str(caught.value)
    assert message.startswith(f"{file}:3: {table}: ") and "\n" not in message
    assert "[observations.NAME]" in message and "[unknowns" in message
