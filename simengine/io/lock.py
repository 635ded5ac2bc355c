"""A lock on a file: one process at a time, given back by the system when that process ends, however it ends."""

import errno
import os
import threading
import weakref
from pathlib import Path

_FAR = 1 << 30  # Windows locks bytes, and keeps others from reading them: one beyond the end
_held: "weakref.WeakValueDictionary[Path, Lock]" = weakref.WeakValueDictionary()
_guard = threading.Lock()


class LockedError(ValueError):
    """Another process holds the lock."""


class Lock:
    """An exclusive lock on a file, held until the object is gone. Within one process it may be taken again."""

    def __init__(self, file: Path) -> None:
        self.descriptor: int = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        self._release = weakref.finalize(self, os.close, self.descriptor)
        try:
            _lock(self.descriptor)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                self._release()
                raise LockedError(
                    f"{file.parent}: in use by another process; wait for it, or choose another --out"
                ) from None
            # a file system without locks, as some network ones: two processes are not told apart there


def lock(file: Path) -> Lock:
    """Take the lock on `file`, which is made if missing.

    Raises:
        LockedError: Another process holds it.
        OSError: The file cannot be written.
    """
    with _guard:
        key = file.resolve()
        held = _held.get(key)
        if held is None:
            held = _held[key] = Lock(key)
        return held


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:
        import msvcrt

        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
