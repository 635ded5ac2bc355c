"""`simengine completion`."""

from typing import Annotated, Literal

from cyclopts import Parameter


def completion(
    shell: Literal["bash", "zsh", "fish"] | None = None,
    *,
    install: Annotated[bool, Parameter(help="Put it where the shell finds it.", negative=())] = False,
) -> int:
    """Print the script by which a shell completes commands and options.

    Args:
        shell: The shell; the one that this runs in if left out.
    """
    from simengine.cli import app

    if install:
        print(app.install_completion(shell=shell))
    else:
        print(app.generate_completion(shell=shell), end="")
    return 0
