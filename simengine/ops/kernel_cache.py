"""A folder for compiled kernels where that of the user's home cannot be written."""

import os
import stat
import sys
import tempfile
from pathlib import Path

_told: set[Path] = set()


def is_writable(folder: str | Path) -> bool:
    """Whether a file can be made in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def temporary_cache(name: str) -> Path:
    """A folder below the system's temporary one, the same in every process of this user, that no other user can write.

    Compiled kernels are code: a folder that somebody else made or may write is not used.

    Args:
        name: Of the folder within it.

    Raises:
        OSError: There is no writable temporary folder either.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    root = Path(tempfile.gettempdir()) / f"simengine-cache-{user}"
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        found = root.lstat()
        own = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
        usable = stat.S_ISDIR(found.st_mode) and own and is_writable(root)
    except OSError:
        usable = False
    folder = (root if usable else Path(tempfile.mkdtemp(prefix="simengine-cache-"))) / name
    folder.mkdir(exist_ok=True)
    if folder not in _told:
        _told.add(folder)
        print(
            f"warning: the folder for compiled kernels cannot be written; they are kept in {folder} "
            f"(WARP_CACHE_PATH names another)",
            file=sys.stderr,
        )
    return folder
