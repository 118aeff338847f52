"""Measure what a visitor of `stadia app` waits for, in Chromium with its software renderer, and film two visits.

    python benchmarks/page_journeys.py base --photo photo.jpg --video video.mp4 --films films
    python benchmarks/page_journeys.py base --only paint --times 5
    python benchmarks/page_journeys.py base --only check --result scene.zip
    python benchmarks/page_journeys.py base --only memory --photo photo.jpg

paint: from the address to the first paint, and to the picture in it. photo: from the chosen file to its depth, then two
clicks to a length. video: from the chosen file to the first depth, to its first scene of several frames, to its result,
and two clicks to a length; the longest time without a change of the shown text, and of what it counts; its shared page,
opened without a server. check: from the dropped result of another program to its corrected file. memory: of the
server and of the tab's scripts after the uploads of MEMORY_AFTER. slow: a line of SLOW_BYTES_S. Processor seconds are
those of the server and of the commands that it ran to their end.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from app_load import count_megabytes
from playwright.sync_api import sync_playwright

FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
SIZE = {"width": 1400, "height": 900}
FILM_HZ = 10
SLOW_BYTES_S = 40_000
STEP_S = 0.05
MEMORY_AFTER = (5, 15, 30, 60)
"""Numbers of photos that one tab uploaded in a row when the memory is read."""

POINTS = ((0.2, 0.75), (0.4, 0.8))
"""Places of the two points, as shares of the picture, left of its divider."""

PAINTED = """(() => {
  const [paint] = performance.getEntriesByType("paint"), image = document.getElementById("shown");
  const [read] = performance.getEntriesByName(image?.currentSrc ?? "");
  return paint && read?.responseEnd && image.complete ? [paint.startTime, read.responseEnd] : null;
})()"""
"""Milliseconds until the first paint, and until the picture in it is read; null before."""


def read_processor_s(process: int) -> float:
    """Return the processor seconds of a process and of its children that ended."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serve_app(network: str) -> Iterator[tuple[str, int]]:
    """Give address and process of `stadia app` with a network, once it has predicted the first page's picture."""
    with tempfile.TemporaryDirectory() as results:
        line = [sys.executable, "-m", "stadia", "app", network, "--port", "0", "--no-token", "--results", results]
        server = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert server.stdout is not None
        try:
            yield server.stdout.readline().removeprefix("page:").strip(), server.pid
        finally:
            server.terminate()
            server.wait(20)


class Visit:
    """A visitor of the page: a tab of their own, the clicks, and the time since the first one.

    browser, address: where.
    film: path of the film, or None.
    """

    def __init__(self, browser: Any, address: str, film: Path | None = None) -> None:
        self.page, self.clicks, self.begun = browser.new_context(viewport=SIZE).new_page(), 0, time.monotonic()
        self.session, self.film = self.page.context.new_cdp_session(self.page), film
        self.frames = list[tuple[float, bytes]]()
        self.page.set_default_timeout(900_000)
        if film is not None:
            self.session.on("Page.screencastFrame", self._keep_frame)
            self.session.send("Page.startScreencast", {"format": "jpeg", "quality": 80})
        self.address = address

    def open(self) -> None:
        """Open the page, and wait until the first page's picture is measured."""
        self.page.goto(self.address)
        self.wait("document.getElementById('labels').textContent")

    def _keep_frame(self, frame: dict[str, Any]) -> None:
        self.frames.append((frame["metadata"]["timestamp"], base64.b64decode(frame["data"])))
        self.session.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})

    def wait(self, condition: str, watch: Callable[[], None] = lambda: None) -> float:
        """Wait for an expression of JavaScript; return the seconds since the first click."""
        while not self.page.evaluate(condition):
            watch()
            self.page.wait_for_timeout(1000 * STEP_S)
        return time.monotonic() - self.begun

    def choose(self, path: Path) -> None:
        """Click "Choose photos or a video", and choose a file."""
        with self.page.expect_file_chooser() as chooser:
            self.page.click("#choose")
        self.clicks, self.begun = 1, time.monotonic()
        chooser.value.set_files(path)

    def measure(self, prefix: str) -> float:
        """Click two points of the picture; return the seconds since the first click until their distance is shown."""
        box = self.page.locator(f"#{prefix}stage").bounding_box()
        for x, y in POINTS:
            self.page.locator(f"#{prefix}stage").click(position={"x": x * box["width"], "y": y * box["height"]})
            self.clicks += 1
        return self.wait(f"/[0-9] ± [0-9]/.test(document.getElementById('{prefix}distance').textContent)")

    def close(self) -> None:
        """Write the film, and close the tab."""
        if self.film is not None:
            self.page.wait_for_timeout(1500)
            write_film(self.film, self.frames)
        self.page.context.close()


def write_film(path: Path, frames: list[tuple[float, bytes]]) -> None:
    """Write JPEG images with their times as a video at FILM_HZ."""
    times = np.array([time_s for time_s, _ in frames])
    size = SIZE["width"], SIZE["height"]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FILM_HZ, size)
    for now in np.arange(times[0], times[-1], 1 / FILM_HZ):
        data = frames[int(np.searchsorted(times, now, "right")) - 1][1]
        writer.write(cv2.resize(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), size))
    writer.release()


def measure_paint(browser: Any, address: str, times: int) -> None:
    """Print the times of the first paint and of its picture, ms: of the first visit, and the others' median."""
    paints, pictures = list[float](), list[float]()
    for _ in range(times + 1):
        visit = Visit(browser, address)
        visit.page.goto(address)
        visit.wait(PAINTED)
        paint, picture = visit.page.evaluate(PAINTED)
        paints.append(paint)
        pictures.append(picture)
        if not paints[1:]:
            visit.wait("document.getElementById('labels').textContent")  # the server is ready from then on
        visit.close()
    print(f"first paint: {statistics.median(paints[1:]):.0f} ms, the picture {statistics.median(pictures[1:]):.0f} ms")
    print(f"of Chromium's first page: {paints[0]:.0f} ms, the picture {pictures[0]:.0f} ms")


def measure_photo(browser: Any, address: str, process: int, photo: Path, times: int, film: Path | None) -> None:
    """Print the time from a chosen photo to its depth, and to a length between two clicked points.

    browser, address, process: where, and the process of the server.
    photo, times: the photo, and how often it is chosen.
    film: path of the film, or None.
    """
    depths, lengths, spent = list[float](), list[float](), list[float]()
    for number in range(times):
        visit = Visit(browser, address, film if number == times - 1 else None)
        visit.open()
        before = read_processor_s(process)
        visit.choose(photo)
        visit.page.wait_for_selector("#result.working", state="attached")
        depths.append(visit.wait("!document.getElementById('result').matches('.working, .opening')"))
        lengths.append(visit.measure(""))
        spent.append(read_processor_s(process) - before)
        clicks = visit.clicks
        visit.close()
    print(f"photo: depth after {statistics.median(depths):.2f} s (median of {times})")
    print(f"photo: a length after {statistics.median(lengths):.2f} s and {clicks} clicks", end="")
    print(f", {statistics.median(spent):.2f} s of the server's processor")


def measure_video(browser: Any, address: str, process: int, video: Path, film: Path | None) -> None:
    """Print the times from a chosen video to its first depth, its result, and a length; and the longest silence.

    browser, address, process: where, and the process of the server.
    video: the video.
    film: path of the film, or None.
    """
    visit, scenes = Visit(browser, address, film), dict[str, tuple[float, float]]()
    before = read_processor_s(process)
    visit.open()
    visit.choose(video)
    changes = {"text": [(visit.begun, "")], "count": [(visit.begun, "")]}

    def watch() -> None:
        text = visit.page.inner_text("#video-status")
        for name, shown in (("text", text), ("count", re.sub(r"\. (\d+ min ?)?(\d+ s)? so far.*", "", text))):
            if shown != changes[name][-1][1]:
                changes[name].append((time.monotonic(), shown))
        if (scene := visit.page.inner_text("#preview-about")).startswith("A first scene") and scene not in scenes:
            scenes[scene] = time.monotonic() - visit.begun, read_processor_s(process) - before

    first = visit.wait(
        "document.getElementById('preview-depth').naturalWidth > 0 && !document.getElementById('video-preview').hidden",
        watch,
    )
    in_3d = visit.wait("document.getElementById('preview-cloud').dataset.drawn", watch)
    done = visit.wait("!document.getElementById('video-result').hidden", watch)
    spent = read_processor_s(process) - before
    length = visit.measure("video-")
    print(f"video: first depth after {first:.1f} s, in 3D after {in_3d:.1f} s, result after {done:.0f} s")
    for scene, (seconds, processor) in scenes.items():
        print(f"video: {scene.partition(',')[0]}: after {seconds:.1f} s, {processor:.1f} s of the server's processor")
    print(f"video: {spent:.0f} s of processor until its result")
    for name, shown in changes.items():
        times = [*(time_s for time_s, _ in shown), visit.begun + done]
        silence, text = max((after - at, text) for (at, text), after in zip(shown, times[1:], strict=True))
        print(f"video: longest time without a new {name} {silence:.1f} s, at '{text}'")
    print(f"video: a length after {length:.0f} s and {visit.clicks} clicks, {length - done:.1f} s after its result")
    open_shared(visit)
    visit.close()


def open_shared(visit: Visit) -> None:
    """Download the shared page of a visit's video, and print how large it is, and when it draws its scene offline."""
    with tempfile.TemporaryDirectory() as folder:
        with visit.page.expect_download() as started:
            visit.page.click("#video-share")
        path = Path(folder) / "shared.html"
        started.value.save_as(path)
        visit.page.context.set_offline(True)
        begun = time.monotonic()
        visit.page.goto(path.as_uri())
        visit.page.wait_for_selector("canvas[data-drawn]")
        print(
            f"share: {path.stat().st_size / 2**20:.1f} MB, its scene is drawn {time.monotonic() - begun:.2f} s offline"
        )


def measure_check(browser: Any, address: str, process: int, result: Path) -> None:
    """Print the times from a result of another program, with its images in one .zip, to its verdict and corrected file.

    browser, address, process: where, and the process of the server.
    result: the archive.
    """
    visit, before = Visit(browser, address), read_processor_s(process)
    visit.page.goto(f"{address}#check")
    visit.page.wait_for_selector("#result-form", state="visible")
    with visit.page.expect_file_chooser() as chooser:
        visit.page.click("#result-choose")
    visit.begun = time.monotonic()
    chooser.value.set_files(result)
    visit.page.wait_for_selector("#result-ready", state="visible")
    visit.page.click("#result-ready .primary")
    done = visit.wait("!document.getElementById('result-done').hidden")
    spent = read_processor_s(process) - before
    clicks = 2
    if visit.page.is_visible("#result-fixed"):
        with visit.page.expect_download():
            visit.page.click("#result-fixed")
        clicks += 1
    text = visit.page.frame_locator("#result-frame").locator(".finding").inner_text()
    seconds = time.monotonic() - visit.begun
    print(
        f"check: verdict after {done:.1f} s, file after {seconds:.1f} s and {clicks} clicks, {spent:.0f} s of processor"
    )
    print(f"check: {text}")
    visit.close()


def measure_memory(browser: Any, address: str, process: int, photo: Path) -> None:
    """Print the memory of the server, and of the scripts of the tab, after some numbers of uploads of a photo in a row.

    browser, address, process: where, and the process of the server.
    photo: the photo.
    """
    visit, server = Visit(browser, address), psutil.Process(process)
    visit.session.send("Performance.enable")
    visit.open()
    for number in range(1, max(MEMORY_AFTER) + 1):
        visit.page.set_input_files("#file", photo)  # "Open a file" in the head of the page, which all results have
        visit.page.wait_for_selector("#result.working", state="attached")
        visit.wait("!document.getElementById('result').matches('.working, .opening')")
        visit.page.wait_for_selector("#cloud[data-drawn]")
        if number in MEMORY_AFTER:
            visit.session.send("HeapProfiler.collectGarbage")
            metrics = {one["name"]: one["value"] for one in visit.session.send("Performance.getMetrics")["metrics"]}
            sizes = (
                f"server {count_megabytes(server):.0f} MB, the tab's scripts {metrics['JSHeapUsedSize'] / 1e6:.1f} MB"
            )
            print(f"memory after {number} photos: {sizes}")
    visit.close()


def measure_slow(browser: Any, address: str, out: Path | None) -> None:
    """Print when a line of SLOW_BYTES_S shows the first paint, the picture, and the measured picture."""
    visit = Visit(browser, address)
    line = {"offline": False, "latency": 100, "downloadThroughput": SLOW_BYTES_S, "uploadThroughput": SLOW_BYTES_S}
    visit.session.send("Network.enable")
    visit.session.send("Network.emulateNetworkConditions", line)
    begun = time.monotonic()
    visit.page.goto(address, wait_until="commit")
    visit.wait(PAINTED)
    paint, picture = visit.page.evaluate(PAINTED)
    if out is not None:
        visit.page.wait_for_timeout(max(5 - (time.monotonic() - begun), 0) * 1000)
        visit.page.screenshot(path=str(out))
    visit.wait("document.getElementById('labels').textContent")
    print(f"{SLOW_BYTES_S} bytes/s: first paint {paint / 1000:.1f} s, the picture {picture / 1000:.1f} s", end="")
    print(f", a length in it {time.monotonic() - begun:.1f} s")
    visit.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--result", type=Path, help="a result of another program with its images, as .zip")
    parser.add_argument("--films", type=Path, help="folder for films of the two visits")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--only", choices=("paint", "photo", "video", "check", "memory", "slow"), action="append")
    given = parser.parse_args()
    if given.films:
        given.films.mkdir(parents=True, exist_ok=True)
    chosen = given.only or ["paint", "slow", *["photo", "memory"] * bool(given.photo), *["video"] * bool(given.video)]
    chosen += ["check"] * bool(given.result and "check" not in chosen)
    films = {name: given.films and given.films / name for name in ("photo.mp4", "video.mp4", "slow.png")}
    with serve_app(given.network) as (address, process), sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        if "paint" in chosen:
            measure_paint(browser, address, given.times)
        if "slow" in chosen:
            measure_slow(browser, address, films["slow.png"])
        if "photo" in chosen:
            measure_photo(browser, address, process, given.photo, given.times, films["photo.mp4"])
        if "video" in chosen:
            measure_video(browser, address, process, given.video, films["video.mp4"])
        if "check" in chosen:
            measure_check(browser, address, process, given.result)
        if "memory" in chosen:
            measure_memory(browser, address, process, given.photo)
        browser.close()


if __name__ == "__main__":
    main()
