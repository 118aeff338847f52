"""The page in a real browser: Chromium, at the widths of a desk and of a telephone."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.web.browser_server import run_server
from tests.web.conftest import encode, make_network, make_picture

from stadia.web import networks
from stadia.web.server import make_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
WANTED = os.environ.get("STADIA_BROWSER_TESTS") == "1"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
rest = pytest.mark.skipif(not WANTED, reason="minutes on two cores: STADIA_BROWSER_TESTS=1 runs them")
"""What the suite leaves out: it has a picture at both widths, measuring, a wrong file and downloads."""

FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WIDTHS = {"desk": 1400, "telephone": 390}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "load_network", make_network)
        with run_server(make_app(["metres", "up-to-scale", "affine-inverse"])) as address:
            yield address


class Page:
    """A tab of the page, with what went wrong in it, and which hosts it reached for."""

    def __init__(self, context: Any, address: str) -> None:
        self.page, self.address = context.new_page(), address
        self.problems, self.requests = list[str](), list[str]()
        self.page.set_default_timeout(60_000)
        is_problem = ("error", "warning")
        self.page.on("console", lambda message: message.type in is_problem and self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector("html[data-ready]")

    def choose(self, data: bytes, name: str = "photo.png") -> None:
        self.page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": data})

    def wait_until(self, condition: str, seconds: float = 90.0) -> None:
        """Wait for an expression of JavaScript. The page's policy forbids playwright's own way, which is eval."""
        deadline = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, f"{condition}; {self.text('#error')} {self.problems}"
            self.page.wait_for_timeout(20)

    def wait_for_result(self) -> None:
        self.wait_until("document.getElementById('status').textContent.startsWith('Done')")

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def find_cut_off(self) -> int:
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")

    def find_faults_of_access(self) -> list[str]:
        """Return the serious findings of axe-core."""
        import axe_playwright_python

        source = next(Path(axe_playwright_python.__file__).parent.rglob("axe.min.js"))
        self.page.evaluate(source.read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run().then((result) => result.violations)")
        return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]


@pytest.fixture(params=list(WIDTHS))
def tab(chromium: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": WIDTHS[request.param], "height": 900})
    page = Page(context, address)
    yield page
    assert page.problems == []
    assert all(url.startswith((address, "blob:", "data:", "file:")) for url in page.requests), page.requests
    context.close()


@pytest.fixture
def open_tab(chromium: Any, address: str) -> Iterator[Callable[[], Page]]:
    contexts = []

    def open_one() -> Page:
        contexts.append(chromium.new_context(viewport={"width": 1400, "height": 900}))
        return Page(contexts[-1], address)

    yield open_one
    for context in contexts:
        context.close()


def test_a_picture_at_both_widths(tab: Page) -> None:
    assert tab.find_faults_of_access() == []
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    assert tab.text("#verdict").lower() in ("not judged", "doubtful", "usable", "unusable")
    assert tab.text("#licence") == "CC0-1.0"
    assert tab.find_cut_off() <= 0
    tab.page.click("#show-cloud")
    tab.page.wait_for_selector("#cloud[data-drawn]")
    assert tab.find_faults_of_access() == []
    assert tab.find_cut_off() <= 0


def test_two_clicks_measure_the_world(tab: Page) -> None:
    """At 1 m in a camera of 64 degrees (focal length 0.8 of the width): 128 of 640 pixels are 0.25 m."""
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    box = tab.page.locator("#stage").bounding_box()
    for x in (360, 488):
        tab.page.locator("#stage").click(position={"x": (x + 0.5) * box["width"] / 640, "y": box["height"] / 2})
    tab.wait_until("document.getElementById('distance').textContent")
    found = re.match(r"Distance ([\d.]+) ± ([\d.]+) m", tab.text("#distance"))
    assert found is not None
    assert float(found[1]) == pytest.approx(0.25, rel=0.02)
    assert "1.00 m" in tab.text("#value")


@rest
def test_the_keyboard_alone_is_enough(tab: Page) -> None:
    """From the top of the page: a picture by Enter on its button, two points, the field of view."""
    page = tab.page
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "example":
            break
    page.keyboard.press("Enter")
    tab.wait_for_result()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "stage":
            break
    page.keyboard.press("Enter")
    for _ in range(5):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    tab.wait_until("document.getElementById('distance').textContent")
    assert "Distance" in tab.text("#distance")
    page.keyboard.press("Escape")
    assert tab.text("#distance") == ""
    page.focus("#fov")
    page.evaluate("document.getElementById('status').textContent = ''")
    page.keyboard.press("ArrowRight")
    tab.wait_for_result()
    assert "chosen by hand" in tab.text("#fov-source")


MILLION = """async () => {
  const { CloudView } = await import("/shared/points.js"), canvas = document.createElement("canvas"), count = 1000000;
  const positions = new Float32Array(3 * count), colors = new Uint8Array(3 * count).fill(200);
  for (let i = 0; i < count; i++) positions.set([(i % 1000) / 500 - 1, i / 500000 - 1, 2], 3 * i);
  Object.assign(canvas, { id: "million", className: "points", tabIndex: 0 });
  document.querySelector("main").prepend(canvas);
  window.view = new CloudView(canvas, (text) => { window.about = text; });
  view.show(positions, colors, "m");
}"""

TURN = """(nanoseconds) => {
  Object.assign(view, { step: 1, times: [] });
  for (let frame = 0; frame < 80; frame++) view.measure(nanoseconds * Math.ceil(view.count / view.step) / 1e6);
  view.turn(0.1, 0);
  view.draw();
  return [view.step, Number(view.canvas.dataset.drawn)];
}"""


@rest
def test_a_million_points_are_thinned_until_they_turn(open_tab: Callable[[], Page]) -> None:
    """A machine that takes so long for a point draws as many as take 22 ms, all at rest, and the page names both."""
    tab = open_tab()
    tab.page.evaluate(MILLION)
    tab.wait_until("window.about")
    assert tab.page.get_attribute("#million", "data-drawn") == "1000000"
    step, drawn = tab.page.evaluate(TURN, 60)
    assert (step, drawn) == (3, -(-1_000_000 // 3))
    tab.page.evaluate("window.about = ''")
    tab.wait_until("window.about")
    assert tab.page.get_attribute("#million", "data-drawn") == "1000000"
    assert f"{drawn:,} of them while they turn" in tab.page.evaluate("about")
    assert tab.problems == []


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"no picture at all, but a text", "another kind of file"), (encode(make_picture())[:200], "cut off")],
)
def test_a_wrong_file_is_one_line(open_tab: Callable[[], Page], data: bytes, words: str) -> None:
    tab = open_tab()
    tab.choose(data, '<img src=x onerror="document.title=1">.png')
    tab.page.wait_for_selector("#error:not([hidden])")
    assert words in tab.text("#error")
    tab.choose(encode(make_picture()))
    tab.wait_for_result()
    assert not tab.page.is_visible("#error")
    assert tab.page.title() == "stadia"


@rest
def test_a_huge_file_is_refused_before_it_is_sent(open_tab: Callable[[], Page], tmp_path: Path) -> None:
    tab, path = open_tab(), tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(41 << 20)  # of its path alone: as bytes it would go to the browser through a socket
    tab.page.set_input_files("#file", str(path))
    tab.page.wait_for_selector("#error:not([hidden])")
    assert "41 MB" in tab.text("#error")
    assert not any("/api/photos" in url for url in tab.requests)


@rest
def test_a_reload_in_the_middle_and_a_cancel(open_tab: Callable[[], Page]) -> None:
    tab = open_tab()
    tab.choose(encode(make_picture(480, 640)))
    tab.page.reload()
    tab.page.wait_for_selector("html[data-ready]")
    tab.page.route("**/api/photos?*", lambda route: None)  # a server that takes its time
    tab.choose(encode(make_picture()))
    tab.page.click("#cancel")
    tab.wait_until("document.getElementById('status').textContent === 'Cancelled'")
    tab.page.unroute("**/api/photos?*")
    tab.choose(encode(make_picture()))
    tab.wait_for_result()


def test_downloads_of_the_page(open_tab: Callable[[], Page]) -> None:
    tab = open_tab()
    tab.choose(encode(make_picture()))
    tab.wait_for_result()
    for name in ("depth.npz", "cloud.glb"):
        with tab.page.expect_download() as started:
            tab.page.click(f"#files a:text-is('{name}')")
        assert started.value.suggested_filename == f"stadia-{name}"
        assert Path(started.value.path()).stat().st_size > 1000


@rest
def test_a_shared_page_at_both_widths(tab: Page, tmp_path: Path) -> None:
    """It is a file: it draws its points, is not cut off, loads nothing, and names the measured distance."""
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    box = tab.page.locator("#stage").bounding_box()
    for x in (360, 488):
        tab.page.locator("#stage").click(position={"x": (x + 0.5) * box["width"] / 640, "y": box["height"] / 2})
    tab.wait_until("document.getElementById('distance').textContent")
    tab.page.focus("#share")
    with tab.page.expect_download() as started:
        tab.page.keyboard.press("Enter")
    started.value.save_as(tmp_path / "shared.html")
    tab.page.goto((tmp_path / "shared.html").as_uri())
    tab.page.wait_for_selector("canvas[data-drawn]")
    assert "Distance of the two points: 0.2" in tab.text(".headline")
    assert tab.find_faults_of_access() == []
    assert tab.find_cut_off() <= 0


# -- runs and checks


@pytest.fixture(scope="module")
def address_of_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from tests.web.test_runs import make_run

    root = tmp_path_factory.mktemp("runs")
    for name, status in (("2026-01-31-120000-good", "finished"), ("2026-01-31-130000-other", "interrupted")):
        make_run(root, name, status=status, predictions="usable")
    (root / "2026-01-31-120000-good" / "findings.jsonl").write_text(
        '{"code": "K03", "severity": "warn", "stage": "training", "measured": "<b>1</b>", "expected": "2",'
        ' "cause": "c", "fix": "f", "evidence": {}, "where": []}\n'
    )
    with run_server(make_app([], runs=root, data=root)) as address:
        yield address


@rest
@pytest.mark.parametrize("width", list(WIDTHS.values()))
def test_runs_at_both_widths(chromium: Any, address_of_runs: str, width: int) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 900})
    tab = Page(context, f"{address_of_runs}/#runs")
    tab.page.wait_for_selector("#runs-rows tr")
    assert tab.find_faults_of_access() == []
    assert tab.find_cut_off() <= 0
    for box in tab.page.query_selector_all("#runs-rows input"):
        box.check()
    tab.page.click("#runs-compare")
    tab.page.wait_for_selector("#pair-curves svg")
    assert tab.text("#pair-runs .word").lower() in ("usable", "doubtful", "unusable", "not judged")
    assert "equal" in tab.text("#pair-better")
    assert "AbsRel" in tab.text("#pair-scores")
    tab.page.click("#run-pair details summary")
    assert "abs_rel" in tab.text("#pair-text")
    assert tab.find_faults_of_access() == []
    assert tab.find_cut_off() <= 0
    tab.page.goto(f"{address_of_runs}/#runs/2026-01-31-120000-good")
    tab.page.wait_for_selector("#run-curves svg")
    assert "<b>1</b>" in tab.text("#run-findings"), "text of a file is shown, not obeyed"
    assert not tab.page.is_visible("#run-stop")
    assert tab.find_faults_of_access() == []
    assert tab.find_cut_off() <= 0
    with context.expect_page() as opened:
        tab.page.click("#run-report")
    opened.value.wait_for_selector("h1")
    assert tab.problems == []
    context.close()


@rest
def test_the_page_of_checks(chromium: Any, address_of_runs: str) -> None:
    """A folder that is no data set: one line, and the page stays."""
    context = chromium.new_context(viewport={"width": 390, "height": 900})
    tab = Page(context, f"{address_of_runs}/#check")
    tab.wait_until("document.querySelectorAll('#check-name option').length > 0")
    assert tab.find_faults_of_access() == []
    tab.page.click("#check-form button")
    tab.page.set_default_timeout(90_000)
    tab.page.wait_for_selector("#error:not([hidden])")
    assert "\n" not in tab.text("#error")
    assert tab.find_cut_off() <= 0
    context.close()


@rest
@pytest.mark.parametrize("width", list(WIDTHS.values()))
def test_a_video_at_both_widths(chromium: Any, address: str, width: int, tmp_path: Path) -> None:
    from tests.web.test_videos import make_video

    context = chromium.new_context(viewport={"width": width, "height": 900})
    tab = Page(context, f"{address}/#video")
    make_video(tmp_path / "drive.mp4")
    tab.page.set_input_files("#video-file", str(tmp_path / "drive.mp4"))
    tab.wait_until("document.getElementById('video-status').textContent === 'Done'")
    assert tab.page.is_visible("#video-share")
    assert tab.text("#video-share-about").startswith("Video, path, verdict")
    tab.page.focus("#video-time")
    tab.page.keyboard.press("ArrowRight")
    assert tab.text("#video-number").startswith("2 of")
    tab.page.click("#video-show")
    tab.page.wait_for_selector("#video-cloud[data-drawn]")
    assert tab.find_faults_of_access() == []
    assert tab.find_cut_off() <= 0
    assert tab.problems == []
    context.close()


# -- the report


@rest
@pytest.mark.parametrize("width", list(WIDTHS.values()))
def test_a_report_at_both_widths(chromium: Any, tmp_path: Path, width: int) -> None:
    """One file: it draws its points, is not cut off, loads nothing, and shows the verdict on the first screen."""
    from tests.report.conftest import write_run
    from tests.report.test_report_images import keep

    from stadia.report import build_report

    folder = write_run(tmp_path / "2026-03-02-101500-demo", run={"predictions": "usable"})
    keep(folder)
    context = chromium.new_context(viewport={"width": width, "height": 844})
    page, problems, requests = context.new_page(), list[str](), list[str]()
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: requests.append(request.url))
    page.goto(build_report(folder).as_uri())
    page.wait_for_selector("canvas[data-drawn]")
    assert page.locator(".verdict .word").bounding_box()["y"] < 200
    assert page.locator(".tile").first.bounding_box()["y"] < 700
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert problems == []
    context.close()
