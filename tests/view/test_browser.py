"""The report of a fit in a real browser: headless Chromium, where the machine has it."""

import http.server
import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simengine.io import write
from simengine.view.figures import curves
from simengine.view.report import Movie, Picture, ReportTable, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"),
]
# Runs in the page, in real time (Chromium's virtual time does not wait for the video decoder): waits until the video
# has moved and sends back what is seen.
PROBE = """<script>
document.querySelector("video").scrollIntoView();  // muted videos play where they are seen
const timer = setInterval(() => {
  const video = document.querySelector("video"), image = document.querySelector("img");
  if (!(video.currentTime > 0 && video.readyState >= 2 && image.complete)) return;
  clearInterval(timer);
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth, canvas.height = video.videoHeight;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const pixels = Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
  const seen = {text: document.body.innerText, pixels, figure: [image.naturalWidth, image.naturalHeight],
                shown: [video.clientWidth, video.clientHeight]};
  fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
}, 50);
</script>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian: apt-get install chromium")


def browse(page: Path, profile: Path, timeout: float = 120.0) -> dict[str, Any]:
    """What a reader sees: serves the page on loopback to a browser and waits for the probe's answer."""
    answer: dict[str, Any] = {}
    answered = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            if found:
                self.wfile.write(page.read_bytes() + PROBE.encode())

        def do_POST(self) -> None:
            answer.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            answered.set()

        def log_message(self, format: str, *args: Any) -> None:
            """Silence."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            try:
                assert answered.wait(timeout), "the video does not play"
            finally:
                browser.terminate()
        server.shutdown()
    return answer


def test_report_shows_table_figure_and_moving_pictures(tmp_path: Path) -> None:
    frames = np.zeros((8, 64, 96, 3))
    frames[..., 0] = 0.9  # red
    movie = write(tmp_path / "a.mp4", frames, fps=8)
    figure = curves({"loss": {"loss": (np.arange(9), np.exp(-np.arange(9.0)))}}, xlabel="iteration", log=["loss"])
    page = tmp_path / "report.html"
    table = ReportTable(["parameter", "identified"], [["bodies.0.material.E", True]])
    write_report(page, "A fit", {"Parameters": [table], "Pictures": [Picture(figure, "loss"), Movie(movie, "red")]})
    seen = browse(page, tmp_path / "profile")
    assert "bodies.0.material.E" in seen["text"]
    assert seen["figure"] == [figure.shape[1], figure.shape[0]]
    assert seen["shown"][0] >= 96 and seen["shown"][1] >= 64
    pixels = np.reshape(seen["pixels"], (64, 96, 4))
    # 0.9 linear is 243 of 255; chroma is stored at half the resolution, so edges may bleed
    assert (np.abs(pixels[..., :3] - [243, 0, 0]).max(-1) < 30).mean() > 0.95
