"""`simengine view`."""

import http.server
import sys
import webbrowser
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from simengine.view.compare_page import ComparedFilm

LOOPBACK = "127.0.0.1"
SECONDS = 30.0


def view(
    directory: Path,
    beside: Path | None = None,
    *,
    port: Annotated[int, Parameter(help="Port; 0 for any free one.")] = 0,
    browser: Annotated[bool, Parameter(help="Open a browser.")] = True,
) -> int:
    """Show a run in a browser, served on this machine's loopback address only.

    Moving particles get a page with a time slider and colours by speed, height or volume; a fit of pictures one that
    scrubs what was observed beside what was fitted; other runs their report.

    Args:
        directory: A run directory with states or a report.
        beside: Another, to be compared: both at one time, turned together.
    """
    pages = pages_of(directory) if beside is None else pages_of_two(directory, beside)
    try:
        server = make_server(pages, port)
    except (OSError, OverflowError) as error:
        raise ValueError(f"--port {port}: cannot be listened on ({error}); choose another, or 0 for any") from None
    with server:
        address = f"http://{LOOPBACK}:{server.server_port}/"
        print(f"{address}  (Ctrl-C stops)", flush=True)
        if browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def pages_of(directory: Path) -> dict[str, tuple[str, bytes]]:
    """What is served of a run: path -> media type and content.

    Raises:
        ValueError: The directory holds nothing to show.
    """
    report, states = directory / "report.html", directory / "states.npz"
    pages: dict[str, tuple[str, bytes]] = {}
    if report.is_file():
        pages["/report.html"] = ("text/html; charset=utf-8", report.read_bytes())
        pages["/"] = pages["/report.html"]
    if films := films_of(directory):
        from simengine.view.compare_page import compare_page

        links = {"report": "report.html"} if report.is_file() else {}
        compared = compare_page(directory.resolve().name, films, links=links)
        pages["/films.html"] = ("text/html; charset=utf-8", compared.page)
        pages["/"] = pages["/films.html"]
        pages |= {path: ("application/octet-stream", part) for path, part in compared.parts.items()}
    if states.is_file():
        from simengine.scene.loader import load_world
        from simengine.view.particle_page import particle_page
        from simengine.worlds.motion.showing import motion_of, read_states, state_fields

        saved = read_states(directory)
        moving = motion_of(load_world(directory / "scene.toml"))
        links = {"report": "report.html"} if report.is_file() else {}
        links |= {"observed and fitted": "films.html"} if films else {}
        page = particle_page(
            directory.resolve().name,
            saved.get("time", range(len(saved["x"]))),
            saved["x"],
            state_fields(saved),
            size=moving.grid.length if moving else float(saved["x"].max()),
            links=links,
        )
        pages["/"] = ("text/html; charset=utf-8", page.page)
        pages |= {path: ("application/octet-stream", part) for path, part in page.parts.items()}
    if not pages:
        raise ValueError(
            f"{directory}: no report.html or states.npz there; `simengine run` and `simengine fit` write them"
        )
    return pages


def films_of(directory: Path) -> "dict[str, ComparedFilm]":
    """What a fit or a prediction of pictures wrote, by the name of the observation.

    Raises:
        ValueError: A file of it is damaged.
    """
    import numpy as np

    from simengine.io.arrays import read_npz
    from simengine.view.compare_page import ComparedFilm

    films = {}
    for file in sorted((directory / "predictions").glob("*.npz")):
        arrays = read_npz(file)
        observed, fitted = (arrays.get(name) for name in ("measured", "predicted"))
        if observed is None or fitted is None or observed.ndim != 4 or observed.shape != fitted.shape:
            continue
        if observed.shape[-1] not in (1, 3):  # slopes and the like: how large they are
            observed, fitted = (np.linalg.norm(part, axis=-1, keepdims=True) for part in (observed, fitted))
        times = arrays.get("time")
        films[file.stem] = ComparedFilm(observed, fitted, None if times is None else times.tolist())
    return films


def pages_of_two(first: Path, second: Path) -> dict[str, tuple[str, bytes]]:
    """What is served of two runs side by side.

    Raises:
        ValueError: One of them holds nothing to show.
    """
    from simengine.view.particle_page import pair_page

    names = [first.resolve().name, second.resolve().name]
    if names[0] == names[1]:
        names = [str(first), str(second)]
    pages = {"/": ("text/html; charset=utf-8", pair_page(*names))}
    for k, directory in enumerate((first, second)):
        pages |= {f"/{k}{path}": content for path, content in pages_of(directory).items()}
    return pages


def make_server(pages: Mapping[str, tuple[str, bytes]], port: int) -> http.server.ThreadingHTTPServer:
    """A server of fixed pages on the loopback address.

    Requests under other host names are refused: a page of another site that resolves its name to this machine must
    not read a run.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = SECONDS  # of silence, after which a half-open connection is closed and its thread ends

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            if (self.headers.get("Host") or "").rpartition(":")[0].lower() not in (LOOPBACK, "localhost"):
                self.send_error(HTTPStatus.FORBIDDEN, "served to this machine under its own name only")
                return
            kind, content = pages.get(self.path.partition("?")[0], ("", b""))
            if not kind:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Silence; the address is what a user needs."""

    return _Server((LOOPBACK, port), Handler)


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Silence where a browser closed a connection, as it does with a tab; anything else is told as usual."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]
