"""Python code in a process of its own that the folder and the environment of the user cannot lead astray."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping

# What a child needs to find libraries and a place for temporary files; nothing that tells secrets or loads modules
_KEPT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "USERPROFILE", "APPDATA"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
)


def run_python(
    code: str, *arguments: str, seconds: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python code with the interpreter and the libraries of this process.

    Nothing is imported from the working folder (`-P`), the child works in an empty folder, and `PYTHON...` variables
    do not reach it, but for the absolute entries of `PYTHONPATH` other than the working folder: where some machines
    keep their libraries.

    Args:
        code: As of `python -c`.
        arguments: `sys.argv[1:]` of the child; paths must be absolute.
        seconds: Longest time it may take.
        environment: All of the child's variables, `PYTHON...` left out; None for the few that it needs.

    Raises:
        OSError: The process cannot be started.
        subprocess.TimeoutExpired: It took longer; it is killed.
    """
    given = {name: os.environ[name] for name in _KEPT if name in os.environ} if environment is None else environment
    clean = {name: value for name, value in given.items() if not name.startswith("PYTHON")}
    libraries = [
        entry
        for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if os.path.isabs(entry) and os.path.realpath(entry) != os.path.realpath(os.curdir)
    ]
    if libraries:
        clean["PYTHONPATH"] = os.pathsep.join(libraries)
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [sys.executable, "-P", "-c", code, *arguments],
            cwd=folder,
            env=clean,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
