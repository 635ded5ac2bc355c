"""Fields on moving particles: colours and bars in pictures, the page with a time slider, its server."""

import http.client
import json
import shutil
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from simengine.cli.view import make_server, pages_of, pages_of_two, view
from simengine.view.overlay import field_colours, field_limits, with_axes, with_colour_bar
from simengine.view.particle_page import particle_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def moving(frames: int = 3, n: int = 50) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).random((frames, n, 3)) * 0.5 + 0.2
    return np.arange(frames) * 0.1, x, np.linspace(0, 3, frames * n).reshape(frames, n)


def test_colours_run_from_one_end_of_the_bar_to_the_other() -> None:
    limits = field_limits([3.0, 5.0])
    dark, bright = field_colours([3.0, 5.0], limits, srgb=True)
    np.testing.assert_allclose(dark, [0.267004, 0.004874, 0.329415], atol=1e-6)  # the ends of viridis
    np.testing.assert_allclose(bright, [0.993248, 0.906157, 0.143936], atol=1e-6)
    np.testing.assert_allclose(field_colours([-9.0], limits, srgb=True)[0], dark)
    frames = with_colour_bar(np.zeros((2, 400, 40, 3), np.uint8), limits, "speed [m/s]")
    assert frames.shape[:2] == (2, 400) and frames.shape[2] > 80 and frames.dtype == np.uint8
    bar = frames[0, :, 40 + 16].astype(int)  # its ends are the ends of the map, but for a border
    assert (np.abs(bar - np.round(255 * bright)).sum(-1) < 20).any() and (np.abs(bar - 255 * dark).sum(-1) < 20).any()
    assert field_limits([2.0, 2.0]) == (1.5, 2.5)
    with pytest.raises(ValueError, match="not finite"):
        field_limits([1.0, np.nan])


def test_axes_are_drawn_where_they_are_told() -> None:
    blank = np.full((1, 40, 60, 3), 255, np.uint8)
    drawn = with_axes(blank, [[[5, 20], [50, 20]]], [((30, 32), "x 0.5 m")])
    assert (drawn[0, 20, 5:50] < 150).all() and (drawn[0, 26:38] < 150).any() and (drawn[0, :15] == 255).all()


def test_page_hands_over_every_number() -> None:
    times, x, speed = moving()
    page = particle_page("a <run>", times, x, {"speed [m/s]": speed, "J": speed + 1}, size=1.0, links={"report": "/r"})
    text = page.page.decode()
    assert "a &lt;run&gt;" in text and '<a href="/r">report</a>' in text and "@" not in text
    facts = json.loads(text[text.index("const facts = ") + 14 : text.index(";\nconst canvas")])
    assert facts["count"] == 50 and facts["times"] == [0.0, 0.1, 0.2] and facts["limits"] == [[0.0, 3.0], [1.0, 4.0]]
    np.testing.assert_array_equal(np.frombuffer(page.parts["/positions"], "<f4").reshape(x.shape), x.astype("<f4"))
    np.testing.assert_array_equal(np.frombuffer(page.parts["/fields/1"], "<f4"), (speed + 1).astype("<f4").ravel())
    with pytest.raises(ValueError, match="positions, times: expected shapes"):
        particle_page("", times[:2], x, {"a": speed}, size=1.0, links={})
    with pytest.raises(ValueError, match="fields: a: expected shape"):
        particle_page("", times, x, {"a": speed[:2]}, size=1.0, links={})
    with pytest.raises(ValueError, match="positions: some are not finite"):
        particle_page("", times, x * np.nan, {"a": speed}, size=1.0, links={})


def serve(pages: dict[str, tuple[str, bytes]]) -> http.server.ThreadingHTTPServer:
    server = make_server(pages, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_server_answers_this_machine_only() -> None:
    server = serve({"/": ("text/html", b"<p>here")})
    assert server.server_address[0] == "127.0.0.1"

    def status(path: str, host: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        return connection.getresponse().status

    own = f"127.0.0.1:{server.server_port}"
    assert [status("/", own), status("/?a", own), status("/../etc/passwd", own)] == [200, 200, 404]
    assert status("/", f"elsewhere.example:{server.server_port}") == 403  # a name that was made to resolve to us
    with pytest.raises(OSError):
        make_server({}, server.server_port)
    server.shutdown()
    server.server_close()


def test_server_bears_closed_tabs_and_half_open_connections(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("simengine.cli.view.SECONDS", 0.2)
    before = threading.active_count()
    server = serve({"/": ("text/html", b"x" * 20_000_000)})
    own = f"Host: LOCALHOST:{server.server_port}"
    for _ in range(5):  # a tab that closes with a reset amid the page
        with socket.create_connection(server.server_address[:2]) as tab:
            tab.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            tab.sendall(f"GET / HTTP/1.1\r\n{own}\r\n\r\n".encode())
            tab.recv(1)
    silent = [socket.create_connection(server.server_address[:2]) for _ in range(10)]
    with socket.create_connection(server.server_address[:2]) as head:
        head.sendall(f"HEAD / HTTP/1.1\r\n{own}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: head.recv(4096), b""))
    assert b" 200 " in answer and b"Content-Length: 20000000" in answer and answer.endswith(b"\r\n\r\n")
    deadline = time.monotonic() + 30
    while threading.active_count() > before + 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before + 1  # the server's own: none waits for the silent ones
    for connection in silent:
        assert connection.recv(1) == b""
        connection.close()
    assert not capsys.readouterr().err
    server.shutdown()
    server.server_close()


def test_nothing_to_show_is_told(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "report.html").write_text("<p>a report")
    with pytest.raises(ValueError, match=r"--port 99999: cannot be listened on .*choose another, or 0"):
        view(tmp_path / "own", port=99999, browser=False)
    with pytest.raises(ValueError, match=r"no report.html or states.npz there"):
        pages_of(tmp_path)
    (tmp_path / "report.html").write_text("<p>a report")
    assert pages_of(tmp_path)["/"] == ("text/html; charset=utf-8", b"<p>a report")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian: apt-get install chromium")
def test_browser_draws_the_particles(tmp_path: Path) -> None:
    times, x, speed = moving(n=400)
    page = particle_page("run", times, x, {"speed [m/s]": speed}, size=1.0, links={})
    pages = {path: ("application/octet-stream", part) for path, part in page.parts.items()}
    pages["/"] = ("text/html; charset=utf-8", page.page)
    server = serve(pages)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--hide-scrollbars"]
    flags += ["--disable-background-networking", "--disable-component-update", "--window-size=1000,900"]
    flags += [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=10000",
        f"--screenshot={tmp_path / 'seen.png'}",
    ]
    command = [str(CHROMIUM), *flags, f"http://127.0.0.1:{server.server_port}/"]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    server.shutdown()
    server.server_close()
    from PIL import Image

    seen = np.asarray(Image.open(tmp_path / "seen.png").convert("RGB")).astype(int)
    # the colours of the bar are on the page, and those of the first frame, the slower half of the map, on the balls
    ends = np.round(255 * field_colours([0.0, 1.0], (0, 1), srgb=True))
    assert all((np.abs(seen - end).sum(-1) < 8).sum() > 10 for end in ends)
    ball = seen[:, : seen.shape[1] - 150]
    assert ((ball[..., 2] > ball[..., 1] + 15) & (ball[..., 2] > 60)).sum() > 2000


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    """Served under the names that the page asks for; pages of one run ask for what lies beside them."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.html").write_text(f"<p>{name}</p>", encoding="utf-8")
    pages = pages_of_two(tmp_path / "one", tmp_path / "two")
    assert set(pages) == {"/", "/0/", "/0/report.html", "/1/", "/1/report.html"}
    told = pages["/"][1].decode()
    assert 'src="0/" title="one"' in told and 'src="1/" title="two"' in told and "@" not in told
    with pytest.raises(ValueError, match=r"no report\.html or states\.npz"):
        pages_of_two(tmp_path / "one", tmp_path)
