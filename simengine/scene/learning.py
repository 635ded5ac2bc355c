"""What a scene trains or optimises, where nothing measured is explained.

`[model]` names what is trained; beside it stand `[examples]`, what it is trained on, `[training]`, how, and `[test]`.
`[objective]` names what is made small, beside `[inference]`. Either is one dataclass, of which each field says in which
of these tables it stands.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from simengine.scene.errors import SceneError
from simengine.scene.strict import Locate, from_plain, nearest, scene_fields
from simengine.shown import shown


def stands(table: str, default: Any = dataclasses.MISSING, *, key: str = "", factory: Any = dataclasses.MISSING) -> Any:
    """A field that stands in a table other than the first one.

    Args:
        table: "examples", "training", "test" or "inference".
        default: Of the field.
        key: As the table writes it; the name of the field if empty.
        factory: Makes the default.
    """
    given: dict[str, Any] = {} if default is dataclasses.MISSING else {"default": default}
    given |= {} if factory is dataclasses.MISSING else {"default_factory": factory}
    return dataclasses.field(**given, metadata={"table": table, "key": key})


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractLearner:
    """What `simengine train` makes: the tables `[model]`, `[examples]`, `[training]` and `[test]` of a scene.

    Attributes:
        type: Tells what is trained apart.
    """

    type: str
    kinds: ClassVar[tuple[str, ...]] = ()  # of worlds that it learns from
    recorded: ClassVar[tuple[str, ...]] = ()  # of them, those that are observed, by files
    first: ClassVar[str] = "model"
    tables: ClassVar[tuple[str, ...]] = ("model", "examples", "training", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractObjective:
    """What `simengine optimise` makes small: the tables `[objective]` and `[inference]` of a scene.

    Attributes:
        type: Tells what is made small apart.
        seeks: The key in `[unknowns]` that is sought.
    """

    type: str
    kinds: ClassVar[tuple[str, ...]] = ()
    first: ClassVar[str] = "objective"
    tables: ClassVar[tuple[str, ...]] = ("objective", "inference")
    seeks: ClassVar[str] = ""


def places(cls: type) -> dict[str, str]:
    """Of each field of a learner or an objective the dotted key in a scene."""
    first: str = cls.first  # type: ignore[attr-defined]
    return {
        name: f"{field.metadata.get('table', first)}.{field.metadata.get('key') or name}"
        for name, field in scene_fields(cls).items()
    }


def from_tables(cls: type, tables: Mapping[str, Any], *, locate: Locate, directory: Path) -> Any:
    """A learner or an objective from its tables.

    Raises:
        SceneError: A key is unknown, missing or wrong; one line with place, key, value and remedy.
    """
    where = places(cls)
    back = {dotted: name for name, dotted in where.items()}
    data = {}
    for table, own in tables.items():
        if not isinstance(own, Mapping):
            raise SceneError(f"{locate(table)}: {table}: expected a table, got {shown(own)}")
        for key, value in own.items():
            if f"{table}.{key}" not in back:
                known = [dotted.partition(".")[2] for dotted in back if dotted.startswith(f"{table}.")]
                other = [dotted for dotted in back if dotted.partition(".")[2] == key]
                remedy = (
                    f"it stands in {other[0]}" if other else nearest(str(key), known) if known else "it has no keys"
                )
                raise SceneError(f"{locate(f'{table}.{key}')}: {table}.{key}: unknown key; {remedy}")
            data[back[f"{table}.{key}"]] = value
    return from_plain(cls, data, locate=locate, directory=directory, names=where)
