"""Scene files: strictness, positions, overrides, round trip."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest

from simengine.observe import Curve
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.loader import _apply, key_lines, load_scene, load_world, make_scene, named_scenes, resolved
from simengine.scene.strict import Count, Only, Positive, Range, Vector, from_plain, resolve_path, to_plain


@dataclasses.dataclass(frozen=True, kw_only=True)
class Box:
    type: Literal["box"] = "box"
    size: Annotated[Vector, Range(gt=0)] = (1.0, 1.0, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ball:
    type: Literal["ball"] = "ball"
    radius: Positive = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy(AbstractWorld):
    kind: ClassVar[str] = "toy"
    count: Count = 3
    width: Positive
    method: Literal["a", "b"] = "a"
    bodies: tuple[Box | Ball, ...] = ()
    target: float | None = None
    table: dict[str, float] = dataclasses.field(default_factory=dict)
    roles: Annotated[dict[str, str], Only("time", "x")] = dataclasses.field(default_factory=dict)
    file: Path | None = None

    def build(self, *, device: str | None = None) -> Any:
        return None

    def run(self, out: Any, *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        return {}


def read(data: dict[str, Any]) -> Toy:
    return from_plain(Toy, data, locate=lambda key: "toy.toml", directory=Path("/somewhere"))


def test_round_trip() -> None:
    data = {
        "width": 2,
        "bodies": [{"type": "ball", "radius": 0.5}, {"type": "box"}],
        "table": {"k": 1},
        "file": "a.npz",
    }
    toy = read(data)
    assert toy.width == 2.0 and isinstance(toy.width, float)
    assert toy.bodies == (Ball(radius=0.5), Box())
    assert toy.file == Path("/somewhere/a.npz")
    assert read(to_plain(toy)) == toy


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "'width' is missing"),
        ({"width": 1, "cuont": 2}, "did you mean 'count'"),
        ({"width": 0}, "width: expected a number above 0, got 0"),
        ({"width": float("nan")}, "expected a finite number"),
        ({"width": True}, "expected a number, got True"),
        ({"width": 1, "count": 0}, "count: expected a number at least 1, got 0"),
        ({"width": 1, "count": 1.5}, "expected an integer, got 1.5"),
        ({"width": 1, "method": "c"}, "expected one of a, b"),
        ({"width": 1, "bodies": [{"type": "bal"}]}, "bodies.0: type 'bal' is unknown; did you mean 'ball'"),
        ({"width": 1, "bodies": [{"radius": 1}]}, "key 'type' is missing"),
        ({"width": 1, "bodies": [{"type": "box", "size": [1, 2]}]}, "bodies.0.size: expected 3 values, got 2"),
        ({"width": 1, "bodies": [{"type": "box", "size": [1, 2, -1]}]}, "expected a number above 0, got -1"),
        ({"width": 1, "bodies": {"type": "box"}}, "expected a list"),
        ({"width": 1, "target": "x"}, "target: expected a number, got 'x'"),
        ({"width": 1, "directory": "/"}, "unknown key"),
        ({"width": 1, "roles": {"tmie": "t"}}, "roles.tmie: unknown name; did you mean 'time'?"),
    ],
)
def test_bad_data_is_one_line_that_names_the_key(data: dict[str, Any], message: str) -> None:
    with pytest.raises(SceneError) as caught:
        read(data)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_key_lines() -> None:
    text = (
        'a = 1\n# b = 2\n[t]\nx = """\ny = 3\n"""\nlist = [\n  1,\n]\nz.w = 4\n'
        "[[bodies]]\nr = 1\n[[bodies]]\nr = 2\n[bodies.material]\nE = 3\n"
    )
    lines = key_lines(text)
    assert lines["a"] == 1 and lines["t"] == 3 and lines["t.x"] == 4 and lines["t.list"] == 7 and lines["t.z.w"] == 10
    assert lines["bodies.0.r"] == 12 and lines["bodies.1.r"] == 14 and lines["bodies.1.material.E"] == 16
    assert "b" not in lines and "t.y" not in lines


def test_overrides() -> None:
    data: dict[str, Any] = {"bodies": [{"E": 1.0}]}
    assert _apply(data, "bodies.0.E=2e5") == "bodies.0.E"
    _apply(data, "fit.method=adam")
    _apply(data, "size=[1, 2]")
    _apply(data, 'sought."bodies.0.E".initial=3')
    assert data.pop("sought") == {"bodies.0.E": {"initial": 3}}
    assert data == {"bodies": [{"E": 2e5}], "fit": {"method": "adam"}, "size": [1, 2]}
    for wrong in ("x", "a b=1", "a..b=1", "bodies.3.E=1", "bodies.0.E.y=1", "=3"):
        with pytest.raises(SceneError, match="--set"):
            _apply(data, wrong)


def test_unknown_kind_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="did you mean 'mpm'"):
        make_scene({"kind": "mpn"}, directory=tmp_path, locate=lambda key: "x.toml:1")
    with pytest.raises(SceneError, match="no such file"):
        load_world(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("a = [")
    with pytest.raises(SceneError, match="not valid TOML"):
        load_world(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(SceneError, match="save it as UTF-8"):
        load_world(broken)


def test_error_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('kind = "mpm"\n\nnonsense = 3\n')
    with pytest.raises(SceneError, match=r"s\.toml:3: nonsense: unknown key"):
        load_world(file)


@pytest.mark.parametrize("name", named_scenes())
def test_shipped_scenes_load_and_resolve(name: str) -> None:
    scene = load_world(name)
    again = make_scene(resolved(scene), directory=Path("/"), locate=lambda key: name)
    assert resolved(again) == resolved(scene)


def test_a_name_too_long_for_a_file_is_told_by_its_key(tmp_path: Path) -> None:
    """Found by the spoilt scenes: the system's own words name no key."""
    with pytest.raises(SceneError, match="more than 255 bytes"):
        resolve_path("x" * 300, tmp_path)
    curve = Curve(name="y", directory=tmp_path, file="x" * 300 + ".csv")
    with pytest.raises(SceneError, match=r"^observations\.y\.file: .*more than 255 bytes"):
        curve.read()


def test_what_is_no_file_is_told_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="a zero byte"):
        resolve_path("a\0b", tmp_path)
    with pytest.raises(SceneError, match=r"^observations\.y\.file: \.: a folder; name the file in it"):
        Curve(name="y", directory=tmp_path, file=".").read()


@pytest.mark.parametrize(
    ("shared", "own", "line"),
    [
        ("sigm = 0.1", "start = 0.0", 5),
        ("start = 0.0", "sigm = 0.1", 8),
        ("clock_rate = -1.0", "start = 0.0", 5),
        ("clock_rate = -1.0", "clock_rate = -2.0", 8),
    ],
)
def test_a_shared_key_is_told_where_it_stands(tmp_path: Path, shared: str, own: str, line: int) -> None:
    """In the instrument's table, unless the observation itself says it."""
    path = tmp_path / "shared.toml"
    path.write_text(
        "kind = 'specimen'\nmaterial = { type = 'jelly', E = 1e5, nu = 0.3 }\n"
        f"[instruments.gauge]\ntype = 'curve'\n{shared}\n[observations.y]\ninstrument = 'gauge'\n{own}\n"
    )
    with pytest.raises(SceneError, match=rf"^{path}:{line}: observations\.y\.(sigm|clock_rate): "):
        load_scene(path)
