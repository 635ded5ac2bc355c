"""Every scene that ships is tried as it stands; other tests have fewer cells and steps."""

import pytest

from simengine.cli import main
from simengine.scene.loader import named_scenes


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(named_scenes()))
def test_a_shipped_scene_passes_check(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", name]) == 0, capsys.readouterr().err
