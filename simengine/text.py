"""Text files of users, as editors of all systems save them."""

import stat
from pathlib import Path

MAX_BYTES = 256 << 20


def read_text(path: Path, *, most: int = MAX_BYTES) -> str:
    """The text of a UTF-8 file, with or without a byte-order mark.

    Args:
        path: The file.
        most: Largest size [B].

    Raises:
        OSError: It cannot be read.
        ValueError: It is no regular file, too large, or not UTF-8; the message names it and the remedy.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited on for ever
        raise ValueError(f"{path}: not a regular file")
    if path.stat().st_size > most:
        raise ValueError(f"{path}: {path.stat().st_size} bytes; at most {most} are read")
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path}: UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}:{line}: not UTF-8 (byte {data[error.start]:#04x}); save it as UTF-8") from None
