"""`simengine view`."""

import http.server
import webbrowser
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

LOOPBACK = "127.0.0.1"


def view(
    directory: Path,
    *,
    port: Annotated[int, Parameter(help="Port; 0 for any free one.")] = 0,
    browser: Annotated[bool, Parameter(help="Open a browser.")] = True,
) -> int:
    """Show a run directory in a browser, served on this machine's loopback address only.

    Args:
        directory: A run directory with a report.
    """
    page = directory / "report.html"
    if not page.is_file():
        raise ValueError(f"{directory}: no report.html there; `simengine run` and `simengine fit` write one")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer((LOOPBACK, port), handler) as server:
        address = f"http://{LOOPBACK}:{server.server_port}/{page.name}"
        print(f"{address}  (Ctrl-C stops)", flush=True)
        if browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0
