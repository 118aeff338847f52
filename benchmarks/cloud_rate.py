"""Measure how fast the points of `stadia app` or of a report turn in Chromium with its software renderer.

    python benchmarks/cloud_rate.py base
    python benchmarks/cloud_rate.py runs/<date>-demo/report.html

The app predicts a picture of 1600x1200, whose cloud has up to a million points. The points turn by their arrow
keys, one step a frame of the browser.
"""

from __future__ import annotations

import argparse
import io
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from page_journeys import FLAGS, serve_app
from PIL import Image
from playwright.sync_api import sync_playwright

WIDTHS = (1400, 390)
SETTLE_S = 2.0
"""Turning before the measurement: the page finds the number of points that its machine draws."""

TURN = """([selector, seconds]) => new Promise((resolve) => {
  const canvas = document.querySelector(selector), begun = performance.now(), times = [];
  const turn = (now) => {
    times.push(now);
    canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
    if (now - begun < 1000 * seconds) requestAnimationFrame(turn);
    else {
      const steps = times.slice(1).map((time, at) => time - times[at]).sort((a, b) => a - b);
      const rate = 1000 * steps.length / (times.at(-1) - times[0]), slow = steps[Math.floor(steps.length * 0.95)];
      resolve([rate, slow, Number(canvas.dataset.drawn)]);
    }
  };
  requestAnimationFrame(turn);
})"""


def make_picture() -> bytes:
    """Return a PNG of 1600x1200: smooth noise, in which a network sees surfaces without many edges."""
    small = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize((1600, 1200), Image.Resampling.BICUBIC).save(stream, "PNG")
    return stream.getvalue()


def wait_until(page: Any, condition: str) -> None:
    """Wait for an expression of JavaScript."""
    deadline = time.monotonic() + 120
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def show_app_cloud(page: Any, address: str) -> str:
    """Upload the picture and show its points; return the selector of the canvas."""
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": make_picture()})
    wait_until(page, "document.getElementById('status').textContent.startsWith('Done')")
    page.wait_for_selector("#cloud[data-drawn]")
    return "#cloud"


def measure(page: Any, selector: str, seconds: float) -> None:
    """Turn the points of a page and print their number and their rate."""
    page.focus(selector)
    points = page.get_attribute(selector, "data-drawn")
    page.evaluate(TURN, [selector, SETTLE_S])
    rate, slow_ms, drawn = page.evaluate(TURN, [selector, seconds])
    width = page.viewport_size["width"]
    print(f"{width} pixels: {points} points, {drawn} while they turn: {rate:.0f} Hz, 95 % in {slow_ms:.0f} ms")
    page.wait_for_timeout(600)
    print(f"{width} pixels: at rest {page.get_attribute(selector, 'data-drawn')} points", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="a network of the app, or a report.html")
    parser.add_argument("--seconds", type=float, default=3)
    given = parser.parse_args()
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for width in WIDTHS:
            page = browser.new_page(viewport={"width": width, "height": 900})
            if given.source.endswith(".html"):
                page.goto(Path(given.source).resolve().as_uri())
                page.wait_for_selector("canvas[data-drawn]")
                measure(page, "canvas", given.seconds)
            else:
                with serve_app(given.source) as (address, _):
                    measure(page, show_app_cloud(page, address), given.seconds)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
