"""Photograph the pages of `stadia app` and a run's report at 1400 and 390 pixels, by Chromium: for `make gallery`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

WIDTHS = {"wide": (1400, 1100), "phone": (390, 844)}
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WAIT_S = 240.0


def find_chromium() -> str | None:
    """Return the path of Chromium; None where it or playwright is missing."""
    import importlib.util

    if importlib.util.find_spec("playwright") is None:
        return None
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def serve_app(run: Path) -> Iterator[str]:
    """Give the address of `stadia app` with the network of the package, for the runs beside a run."""
    line = [sys.executable, "-P", "-m", "stadia", "app", "base", "--runs", str(run.parent), "--data", str(run.parent)]
    server = subprocess.Popen([*line, "--port", "0", "--no-token"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().partition("page: ")[2].strip()
    finally:
        server.terminate()
        server.wait(20)
        if server.stdout is not None:
            server.stdout.close()


def photograph(address: str, run: Path, report: Path, out: Path) -> dict[str, list[Path]]:
    """Photograph the first screen of each page at both widths; return the files, by the kind of width.

    `shared` is the page of a picture that a user shares, on the wide screen.
    """
    from playwright.sync_api import sync_playwright

    shots: dict[str, list[Path]] = {kind: [] for kind in (*WIDTHS, "shared")}
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        for kind, (width, height) in WIDTHS.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            for name, visit in (("picture", _visit_picture), ("runs", _visit_runs), ("run", _visit_run)):
                visit(page, address, run)
                shots[kind].append(out / f"{kind}-{name}.png")
                page.screenshot(path=str(shots[kind][-1]), full_page=name == "picture")
                if (kind, name) == ("wide", "picture"):
                    with page.expect_download() as started:
                        page.click("#share")
                    started.value.save_as(out / "shared.html")
            page.goto(report.as_uri())
            shots[kind].append(out / f"{kind}-report.png")
            page.screenshot(path=str(shots[kind][-1]))
            if kind == "wide":
                page.goto((out / "shared.html").as_uri())
                _wait(page, "document.querySelector('canvas').dataset.drawn")
                shots["shared"].append(out / "shared.png")
                page.screenshot(path=str(shots["shared"][-1]), full_page=True)
            page.close()
        browser.close()
    return shots


def photograph_file(path: Path, out: Path) -> Path:
    """Photograph the top of a page of a file on a wide screen; return the file of the picture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1100, "height": 1500})
        page.goto(path.as_uri())
        page.screenshot(path=str(out))
        browser.close()
    return out


def _wait(page: Any, condition: str) -> None:
    """Wait for an expression of JavaScript: the page's policy forbids playwright's own way, which is eval."""
    deadline = time.monotonic() + WAIT_S
    while not page.evaluate(condition):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{condition}: not within {WAIT_S:.0f} s")
        page.wait_for_timeout(100)


def _visit_picture(page: Any, address: str, run: Path) -> None:
    page.goto(address)
    _wait(page, "document.getElementById('labels').textContent")
    _wait(page, "document.getElementById('cloud').dataset.drawn")


def _visit_runs(page: Any, address: str, run: Path) -> None:
    page.goto(f"{address}#runs")
    _wait(page, "document.querySelector('#runs-rows tr')")


def _visit_run(page: Any, address: str, run: Path) -> None:
    page.goto(f"{address}#runs/{run.name}")
    _wait(page, "document.querySelector('#run-curves svg')")
    page.evaluate("scrollTo(0, 0)")


def join_shots(paths: list[Path], columns: int, width: int, height: int, out: Path) -> None:
    """Write screenshots in columns as .webp, each scaled to a width and cut at a height."""
    rows = -(-len(paths) // columns)
    sheet = Image.new("RGB", (columns * (width + 8) - 8, rows * (height + 8) - 8), (128, 128, 128))
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            tile = image.convert("RGB").resize((width, round(image.height * width / image.width)), Image.LANCZOS)
        place = number % columns * (width + 8), number // columns * (height + 8)
        sheet.paste(tile.crop((0, 0, width, min(height, tile.height))), place)
    sheet.save(out, quality=75, method=6)
