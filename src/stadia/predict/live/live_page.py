"""A web page on this machine that shows a live prediction: images next to their depth, and a status line."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

from stadia.data.frame_preparation import PredictedFrame
from stadia.evaluation.plots.videos import draw_side_by_side

WIDTH = 640
"""Width of the shown image, and of the shown depth, pixels."""

NEAR_PERCENTILE = 95.0
"""Percentile of the inverse depth of an image that gets the brightest color."""

MAX_WATCHERS = 4
WAIT_S = 1.0

PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>stadia live</title>
<style>body{margin:0;background:#111;color:#eee;font:1rem system-ui}img{width:100%}p{padding:0 1rem}</style>
<main><h1 hidden>stadia live</h1><img src="stream" alt="Images of the camera next to their depth, bright is near">
<p id="status" role="status"></p></main>
<script>const timer = setInterval(async () => {
  const show = (text) => { document.getElementById("status").textContent = text; };
  try { show(await (await fetch("status")).text()); } catch { clearInterval(timer); show("stadia live has ended."); }
}, 500);</script></html>"""


class LivePage:
    """What the page of `stadia live` shows.

    address: URL of the page. It has a secret, so that no other user of this machine, and no other page in its browser,
        can open the page.
    """

    def __init__(self, address: str) -> None:
        self.address, self.status, self.watchers = address, "", 0
        self._jpeg, self._number, self._ready = b"", 0, threading.Condition()

    def show(self, status: str, predicted: PredictedFrame | None) -> None:
        """Take the newest status line and prediction; the prediction is drawn only if somebody watches."""
        self.status = status
        if predicted is None or not self.watchers:
            return
        image, inverse = predicted.frame.image, predicted.inverse_depth
        top, height = float(np.percentile(inverse, NEAR_PERCENTILE)), round(WIDTH * image.shape[0] / image.shape[1])
        drawn = draw_side_by_side(image, inverse, top, height, WIDTH, predicted.depth_scale)
        with self._ready:
            self._jpeg, self._number = cv2.imencode(".jpg", drawn[..., ::-1])[1].tobytes(), self._number + 1
            self._ready.notify_all()

    def stream(self) -> Iterator[bytes]:
        """Yield the newest image as JPEG whenever there is a new one; b"" after a second without one."""
        seen = 0
        while True:
            with self._ready:
                is_new = self._ready.wait_for(lambda before=seen: self._number != before, WAIT_S)  # type: ignore[misc]
                seen = self._number
                data = self._jpeg if is_new else b""
            yield data


@contextmanager
def serve_live_page() -> Iterator[LivePage]:
    """Serve the page on a free port of 127.0.0.1 while the `with` block lasts."""
    secret, ended = secrets.token_urlsafe(16), threading.Event()

    class _Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            part = self.path.removeprefix(f"/{secret}/")
            if part == "":
                self.reply("text/html", PAGE)
            elif part == "status":
                self.reply("text/plain; charset=utf-8", page.status.encode())
            elif part == "stream" and page.watchers < MAX_WATCHERS:
                self.send_images()
            else:
                self.send_error(404)

        def reply(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def send_images(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            page.watchers += 1
            try:
                with suppress(OSError):  # the browser has gone
                    for data in page.stream():
                        if ended.is_set():
                            break
                        if data:
                            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + data + b"\r\n")
            finally:
                page.watchers -= 1

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    page = LivePage(f"http://127.0.0.1:{server.server_port}/{secret}/")
    thread = threading.Thread(target=server.serve_forever, name="live page", daemon=True)
    thread.start()
    try:
        yield page
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
