"""Code in a process of its own: the user's folder and environment lead it nowhere."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from simengine.io.child import run_python
from simengine.io.geometry.mesh_file import read_mesh

CUBE = """v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0 0 1
v 1 0 1
v 1 1 1
v 0 1 1
"""
FACES = ["1 3 2", "1 4 3", "5 6 7", "5 7 8", "1 2 6", "1 6 5", "4 7 3", "4 8 7", "1 5 8", "1 8 4", "2 3 7", "2 7 6"]


def obj(vertices: str = CUBE, faces: list[str] = FACES) -> str:
    return vertices + "".join(f"f {face}\n" for face in faces)


@pytest.mark.parametrize("name", ["json", "trimesh", "numpy", "sitecustomize"])
def test_code_of_the_working_folder_does_not_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (tmp_path / "cube.obj").write_text(obj())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", str(tmp_path)]))
    vertices, faces = read_mesh(Path("cube.obj"))  # a relative path is read beside the caller
    assert len(vertices) == 8 and len(faces) == 12
    assert not (tmp_path / "ran").exists()


def test_what_a_child_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("PYTHONSTARTUP", "x")
    monkeypatch.chdir(tmp_path)
    code = "import json, os, sys; print(json.dumps([os.getcwd(), os.listdir(), sys.path, dict(os.environ)]))"
    folder, there, path, environment = json.loads(run_python(code, seconds=60).stdout)
    assert folder != str(tmp_path) and there == [] and "" not in path and str(tmp_path) not in path
    assert not {"SECRET_TOKEN", "PYTHONSTARTUP"} & set(environment) and "PATH" in environment


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (obj(CUBE.replace("v 0 1 1", "v nan 1 1")), "a vertex is not finite"),
        (obj(CUBE.replace("v 0 1 1", "v inf 1 1")), "a vertex is not finite"),
        (obj(faces=[*FACES, "0 1 2"]), "line 21: a face names vertex 0, but OBJ counts from 1"),
        (obj(faces=[*FACES, "1 2 99"]), "not a readable mesh"),
    ],
)
def test_a_damaged_mesh_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.obj"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_mesh(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_vertices_of_an_stl_are_joined(tmp_path: Path) -> None:
    import trimesh

    trimesh.creation.box().export(tmp_path / "box.stl")  # every triangle with corners of its own
    vertices, faces = read_mesh(tmp_path / "box.stl")
    assert vertices.shape == (8, 3) and faces.shape == (12, 3)
    corners = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T
    assert {tuple(v) for v in vertices} == {tuple(c) for c in corners}
