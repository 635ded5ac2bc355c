"""Five hundred spoilt scenes and a hundred spoilt meshes: exit code 0 or 2, one line, never a traceback or a signal."""

import copy
import random
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from simengine.cli import main
from simengine.io.geometry.mesh_file import read_mesh
from simengine.scene import named_scenes

SCENES = [path for path in named_scenes().values() if 'kind = "mpm"' in path.read_text(encoding="utf-8")]
STRANGE: list[Any] = [
    *(-1, 0, 1e-300, 1e300, float("nan"), float("inf"), -0.0, 2**63, True, "", "x" * 300, "ä\u0000b", [], {}),
    *([[]], {"type": "box"}, [1, 2, 3], [1, "a", 2, 3], "asset:none", "/", "..", "1e5", [float("nan")] * 3),
]


def spoil(data: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A scene with one to three of its entries removed, renamed, replaced or doubled."""
    data = copy.deepcopy(data)
    data.setdefault("output", {})["video"] = False
    for _ in range(rng.randint(1, 3)):
        target: Any = data
        while True:
            keys = list(target) if isinstance(target, dict) else list(range(len(target)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(target[key], dict | list) and target[key] and rng.random() < 0.8:
                target = target[key]
                continue
            action = rng.random()
            if action < 0.2:
                del target[key]
            elif action < 0.35 and isinstance(target, dict):
                target[str(key) + rng.choice(["x", "_", ""])[:1] + "s"] = target.pop(key)
            elif action < 0.8:
                target[key] = copy.deepcopy(rng.choice(STRANGE))
            elif isinstance(target[key], int | float) and not isinstance(target[key], bool):
                target[key] = target[key] * rng.choice([-1, 0, 0.1, 10, 1000, 0.5])
            break
    return data


def drawn(number: int) -> str:
    """Scene text number `number`; every tenth is spoilt as text."""
    rng = random.Random(number)
    text = rng.choice(SCENES).read_text(encoding="utf-8")
    if number % 10 == 0:
        at = rng.randrange(len(text))
        return text[:at] + rng.choice(["", "=", "[", '"', "\x00", "]]", "é", "#"]) + text[at + rng.randint(0, 20) :]
    return tomli_w.dumps(spoil(tomllib.loads(text), rng))


@pytest.mark.parametrize("block", range(10))
def test_500_spoilt_scenes(
    block: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # what `check` finds before it simulates; its gradient check has its own tests and would take an hour here
    monkeypatch.setattr("simengine.worlds.motion.preflight.gradient_error", lambda *args, **kwargs: 0.0)
    monkeypatch.setattr("simengine.fit.preflight.PATIENCE", 2.0)  # s: a minute otherwise
    file = tmp_path / "scene.toml"
    for number in range(50 * block, 50 * block + 50):
        file.write_text(drawn(number), encoding="utf-8")
        code = main(["check", str(file), "--device", "cpu", "--json"])
        captured = capsys.readouterr()
        assert code in (0, 2), f"scene {number}: {captured.err}"
        if code == 2 and not captured.out:
            line = captured.err
            assert line.startswith("simengine: ") and line.count("\n") == 1, f"scene {number}: {line}"
            named = (str(file), "bodies.", "colliders.", "observations.", "unknowns.")
            assert any(place in line for place in named), f"scene {number}: {line}"
            assert not re.search("object|unhashable|subscriptable|attribute", line), f"scene {number}: {line}"


@pytest.mark.slow
def test_20_of_them_as_commands(tmp_path: Path) -> None:
    for number in range(0, 500, 25):
        file = tmp_path / "scene.toml"
        file.write_text(drawn(number), encoding="utf-8")
        command = [sys.executable, "-m", "simengine", "check", str(file), "--device", "cpu"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode in (0, 2), f"scene {number}: {done.returncode} {done.stderr}"
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_100_spoilt_meshes(tmp_path: Path) -> None:
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=1)
    for number in range(100):
        rng = random.Random(number)
        suffix = rng.choice([".obj", ".ply", ".stl", ".glb", ".off"])
        file = tmp_path / f"{number}{suffix}"
        ball.export(file)
        data = bytearray(file.read_bytes())
        for _ in range(rng.randint(1, 30)):
            at = rng.randrange(len(data))
            if rng.random() < 0.5:
                data[at] = rng.randrange(256)
            else:
                del data[at : at + rng.randint(1, 40)]
        file.write_bytes(bytes(data))
        try:
            vertices, faces = read_mesh(file)
        except ValueError as error:
            assert "\n" not in str(error)
        else:
            assert faces.min() >= 0 and faces.max() < len(vertices)
