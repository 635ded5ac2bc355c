"""Values in messages: `shown` prints at most some 80 characters of any value, whatever its size or nesting."""

import reprlib

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
