"""Values in messages: `shown` prints at most some 80 characters of any value, whatever its size or nesting."""

import dataclasses
import reprlib
from typing import Any

MOST = 80  # characters of one value
MESSAGE = 300  # characters of a whole message

_short = reprlib.Repr()
_short.maxlevel = 3
_short.maxdict = _short.maxlist = _short.maxtuple = _short.maxset = _short.maxfrozenset = 6
_short.maxstring = _short.maxother = _short.maxlong = MOST


def shown(value: object) -> str:
    """`repr(value)` on one line, cut to a readable length; never builds the text of more than a few entries."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4 * MOST:
        return f"an integer of {value.bit_length()} bits"  # `repr` refuses 4300 digits and more
    return cut(" ".join(_short.repr(value).split()), MOST)


def cut(text: str, most: int = MESSAGE) -> str:
    """`text` with its middle left out where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    head = 2 * (most - 3) // 3
    return f"{text[:head]}...{text[len(text) - (most - 3 - head) :]}"


class ShortRepr:
    """A dataclass whose `repr` is a line: what differs from its defaults, as one would write it."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in cls.__dict__:  # so that the decorator `dataclass` leaves it alone
            cls.__repr__ = ShortRepr.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return _changed(self)


def _changed(own: Any) -> str:
    told = []
    for field in dataclasses.fields(own):
        value = getattr(own, field.name)
        if field.repr and not field.metadata.get("internal") and not _is_default(field, value):
            nested = dataclasses.is_dataclass(value) and not isinstance(value, type | ShortRepr)
            told.append(f"{field.name}={_changed(value) if nested else shown(value)}")
    return cut(f"{type(own).__name__}({', '.join(told)})")


def _is_default(field: "dataclasses.Field[Any]", value: Any) -> bool:
    default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    try:
        return bool(value == default)
    except (TypeError, ValueError, RuntimeError):  # tensors and arrays are compared entry by entry
        return False
