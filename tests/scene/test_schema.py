"""What scenes may hold, as told to editors and people, is what the loader takes; nothing is told without a unit."""

import copy
import dataclasses
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simengine.cli import main
from simengine.io.units import to_si
from simengine.scene import SceneError, named_scenes
from simengine.scene.grammar import build_scene
from simengine.scene.keys_page import keys_page
from simengine.scene.kinds import classes
from simengine.scene.schema import holds, json_schema, keys_of, tables_below
from simengine.scene.sought import Inference, Unknown

ROOT = Path(__file__).resolve().parents[2]
# units that depend on what the number belongs to
DEPENDENT = {
    *("unit of the key", "unit of the value", "unit of the abscissa", "unit of the knots", "Pa s^n"),
    *("unit of diffusivity times gradient", "unit of diffusivity over length"),
}
TABLES = tables_below([*classes("kind").values(), *classes("type").values(), Unknown, Inference])


def test_every_kind_and_instrument_is_looked_at() -> None:
    assert len(TABLES) >= 85
    assert {"mpm", "flame", "constraint", "maps", "dtn"} <= set(classes("kind"))


@pytest.mark.parametrize("table", TABLES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_every_number_has_a_unit_and_every_key_a_sentence(table: type) -> None:
    for key in keys_of(table):
        where = f"{table.__module__}.{table.__name__}.{key.name}"
        if key.name != "type":
            assert key.sentence, f"{where}: say what it is under Attributes: in the docstring"
        if holds(key.hint, float):
            assert key.unit, f"{where}: say its unit in the docstring, as in [Pa], [1] for a pure number"
            if key.unit not in DEPENDENT:
                to_si(key.unit)  # raises where it is no unit


def test_a_number_without_a_unit_is_seen() -> None:
    @dataclasses.dataclass(frozen=True)
    class Bare:
        """A table.

        Attributes:
            a: A width [m].
            b: One of [least, most].
        """

        a: float = 1.0
        b: tuple[float, float] = (0.0, 1.0)
        c: int = 1

    assert [(key.unit, bool(key.sentence)) for key in keys_of(Bare)] == [("m", True), ("", True), ("", False)]


def test_the_shipped_schema_is_in_step() -> None:
    shipped = json.loads((ROOT / "assets" / "scene.schema.json").read_text(encoding="utf-8"))
    assert shipped == json_schema(), "run: simengine schema --out assets/scene.schema.json"


def test_the_page_of_keys_is_in_step() -> None:
    shipped = (ROOT / "docs" / "keys.md").read_text(encoding="utf-8")
    assert shipped == keys_page(), "run: simengine schema --keys --out docs/keys.md"


def test_links_of_the_page_lead_somewhere() -> None:
    page = keys_page()
    headings = [line.lstrip("# ").strip() for line in page.splitlines() if line.startswith("#")]
    anchors = {"".join(c for c in heading.lower() if c.isalnum() or c in "-_") for heading in headings}
    targets = {part.split(")")[0] for part in page.split("](#")[1:]}
    assert len(targets) > 50 and targets <= anchors


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "flame.schema.json"
    assert main(["schema", "flame", "--out", str(file)]) == 0
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written["properties"]["kind"]["const"] == "flame" and "kind" in written["required"]
    capsys.readouterr()
    assert main(["schema", "flam"]) == 2
    assert "did you mean 'flame'" in capsys.readouterr().err
    assert main(["schema", "flame", "--keys"]) == 2


def _mutants(node: Any, root: Any) -> Iterator[tuple[str, Any]]:
    """A scene with one thing wrong each: an unknown key in a table, text for a number, a number below every range."""

    def at(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
        yield path, node
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for name, item in items:
            yield from at(item, (*path, name))

    def put(path: tuple[Any, ...], value: Any) -> Any:
        new = copy.deepcopy(root)
        inside = new
        for part in path[:-1]:
            inside = inside[part]
        inside[path[-1]] = value
        return new

    for path, value in at(node, ()):
        if isinstance(value, dict):
            yield f"{path}: unknown", put((*path, "no_such_key"), 1)
        if isinstance(value, int | float) and not isinstance(value, bool) and path:
            yield f"{path}: text", put(path, "text")
            yield f"{path}: low", put(path, -1e9)


@pytest.mark.parametrize("name", ["identify_jelly", "sand_column", "free_flame_methane", "burgers", "learned_melting"])
def test_schema_and_loader_agree(name: str) -> None:
    fastjsonschema = pytest.importorskip("fastjsonschema")
    file = named_scenes()[name]
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    validate = fastjsonschema.compile(json_schema(data.get("kind", "mpm")), use_default=False)
    validate(data)
    refused = 0
    for what, mutant in _mutants({k: v for k, v in data.items() if k not in FREE}, data):
        try:
            validate(mutant)
            by_schema = False
        except fastjsonschema.JsonSchemaException:
            by_schema = True
        try:
            build_scene(mutant, directory=file.parent, locate=lambda key: key)
            by_loader = False
        except SceneError:
            by_loader = True
        # the loader also knows what no single key tells, as that bodies fit between the walls
        assert by_loader or not by_schema, f"{what}: only the schema refuses it"
        if what.endswith(("unknown", "text")):
            assert by_schema == by_loader, f"{what}: the loader refuses it and the schema does not"
        refused += by_schema
    assert refused > 10


FREE = {"reference", "unknowns"}  # their keys are addresses


def test_all_shipped_scenes_are_valid() -> None:
    fastjsonschema = pytest.importorskip("fastjsonschema")
    # defaults that the validator writes for one alternative would stay in what it gives to the next
    validate = fastjsonschema.compile(json_schema(), use_default=False)
    scenes = named_scenes()
    assert len(scenes) >= 40
    for file in scenes.values():
        validate(tomllib.loads(file.read_text(encoding="utf-8")))
    with pytest.raises(fastjsonschema.JsonSchemaException, match="kind"):
        validate({"kind": "mpn"})
