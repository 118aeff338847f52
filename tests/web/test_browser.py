"""The page in a real browser: Chromium, at the widths of a desk and of a telephone."""

import base64
import io
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.web.browser_server import run_server
from tests.web.conftest import encode, make_network, make_picture
from tests.web.test_audit_routes import write_audit, write_rig
from tests.web.test_drops import make_wrong_scene, make_zip
from tests.web.test_videos import make_video

from stadia.core.errors import CheckpointError
from stadia.web import networks
from stadia.web.server import STATIC, make_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),  # the browser and its server share the cores with the other tests
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

FLAGS = ["--no-sandbox", "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
FLAGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
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
        patch.setattr(networks, "load_network", load_network)
        with run_server(make_app(["metres", "up-to-scale", "affine-inverse", "/data/someone/broken"])) as address:
            yield address


REAL_LOAD = networks.load_network


def load_network(name: str) -> Any:
    if name == "base":
        return REAL_LOAD(name)
    if name.endswith("broken"):
        raise CheckpointError(name, found="no weights", expected="a run", fix="run stadia train --resume broken")
    return make_network(name)


def find_faults_of_access(page: Any) -> list[str]:
    """Return the findings of axe-core."""
    import axe_playwright_python

    source = next(Path(axe_playwright_python.__file__).parent.rglob("axe.min.js"))
    page.evaluate(source.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({ iframes: false }).then((result) => result.violations)")  # frames are sandboxed
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found]


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
        """Choose a picture; clears the status, whose "Done" of an earlier picture would end `wait_for_result`."""
        self.page.evaluate("document.getElementById('status').textContent = ''")
        self.page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": data})

    def wait_until(self, condition: str, seconds: float = 60.0) -> None:
        """Wait for an expression of JavaScript. The page's policy forbids playwright's own way, which is eval."""
        deadline = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, f"{condition}; {self.text('#error')} {self.problems}"
            self.page.wait_for_timeout(20)

    def wait_for_result(self) -> None:
        self.wait_until("document.getElementById('status').textContent.startsWith('Done')")

    def wait_for_video(self) -> None:
        self.wait_until("!document.getElementById('video-result').hidden", seconds=240)

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def click_points(self, *shares: tuple[float, float]) -> None:
        """Click places of the picture, as shares of its width and height."""
        box = self.page.locator("#stage").bounding_box()
        for x, y in shares:
            position = {"x": x * box["width"], "y": y * box["height"]}
            self.page.locator("#stage").click(position=position)

    def drop(self, data: bytes, name: str, kind: str, *, pastes: bool = False) -> None:
        """Drop a file on the page, as a file manager does, or paste it."""
        script = """([text, name, type, pastes]) => {
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([bytes], name, { type }));
          const about = { dataTransfer, clipboardData: dataTransfer, bubbles: true, cancelable: true };
          const event = pastes ? new ClipboardEvent("paste", about) : new DragEvent("drop", about);
          document.querySelector("main").dispatchEvent(event);
        }"""
        self.page.evaluate(script, [base64.b64encode(data).decode(), name, kind, pastes])

    def find_cut_off(self) -> int:
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")

    def find_faults_of_access(self) -> list[str]:
        return find_faults_of_access(self.page)


@pytest.fixture(params=list(WIDTHS))
def tab(chromium: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": WIDTHS[request.param], "height": 900}, reduced_motion="reduce")
    page = Page(context, address)
    yield page
    assert page.problems == []
    assert all(url.startswith((address, "blob:", "data:", "file:")) for url in page.requests), page.requests
    context.close()


@pytest.fixture
def open_tab(chromium: Any, address: str) -> Iterator[Callable[..., Page]]:
    contexts = []

    def open_one(path: str = "", **settings: Any) -> Page:
        """Open a tab; in the browser of another tab, or in a new one."""
        if (context := settings.pop("context", None)) is None:
            context = chromium.new_context(
                **{"viewport": {"width": 1400, "height": 900}, "reduced_motion": "reduce", **settings}
            )
            contexts.append(context)
        return Page(context, f"{address}/{path}")

    yield open_one
    for context in contexts:
        context.close()


def test_a_picture_at_both_widths(tab: Page) -> None:
    """The first page has examples; a result has depth, points in 3D, an error and a licence, and is not cut off."""
    assert len(tab.page.query_selector_all("#examples button")) == 7
    assert tab.find_faults_of_access() == []
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    assert "of 12 % in" in tab.text("#trust")
    assert tab.text("#chip").startswith("± 12 %"), "the same number"
    assert tab.text("#licence") == "CC0-1.0"
    assert re.findall(r"[\d.]+ m", tab.text("#ticks"))[0] == "1 m", "near at the left, as under the frames of a video"
    tab.page.wait_for_selector("#cloud[data-drawn]")
    tab.page.click("#camera-view")
    tab.page.select_option("#drawn", "normals")
    tab.wait_until(
        "document.getElementById('depth').src.includes('normals') && document.getElementById('depth').complete"
    )
    assert not tab.page.is_visible("#bar"), "its colors are those of depth"
    assert not tab.page.is_visible("#settings")
    assert tab.find_faults_of_access() == []
    assert tab.find_cut_off() <= 0


@pytest.mark.parametrize("tab", ["telephone", pytest.param("desk", marks=pytest.mark.exhaustive)], indirect=True)
def test_two_clicks_measure_the_world(tab: Page) -> None:
    """At 1 m in a camera of 64 degrees (focal length 0.8 of the width): 128 of 640 pixels are 0.25 m.

    Depth is read at the pointer and the length at its line, without scrolling.
    """
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    tab.click_points((360.5 / 640, 0.5), (488.5 / 640, 0.5))
    tab.wait_until("document.getElementById('distance').textContent")
    found = re.match(r"Distance ([\d.]+) ± ([\d.]+) m", tab.text("#distance"))
    assert found is not None
    assert float(found[1]) == pytest.approx(0.25, rel=0.02)
    assert tab.text("#tip") == "1.00 m"
    assert tab.text("#length") == f"{found[1]} ± {found[2]} m"
    assert tab.page.evaluate("scrollY") == 0
    for label in ("#tip", "#length"):
        box = tab.page.locator(label).bounding_box()
        assert 0 <= box["y"] < 900
    tab.page.select_option("#kind", "area")
    tab.click_points((0.6, 0.3), (0.8, 0.3), (0.8, 0.5), (0.6, 0.5), (0.6, 0.3))
    tab.wait_until("document.querySelectorAll('#labels span').length === 2")  # the length stays
    tab.page.select_option("#kind", "length")
    tab.page.wait_for_selector("#cloud[data-drawn]")
    box = tab.page.locator("#cloud").bounding_box()
    tab.page.click("#camera-view")
    for share in (0.55, 0.7):
        tab.page.locator("#cloud").click(position={"x": share * box["width"], "y": 0.6 * box["height"]})
    tab.wait_until("document.querySelectorAll('#labels span').length === 3")
    assert "items" in tab.page.get_attribute("#share", "href")
    tab.page.click("#clear")
    assert tab.page.locator("#labels span").count() == 0


# -- what went wrong for those who tried the page, each by its steps


def test_the_first_page_is_a_measured_picture_with_a_divider(tab: Page) -> None:
    tab.wait_until("document.getElementById('labels').textContent")
    box = tab.page.locator("#handle").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 4
    tab.page.mouse.move(x, y)
    tab.page.mouse.down()
    tab.page.mouse.move(x + 60, y)
    tab.page.mouse.up()
    assert float(tab.page.input_value("#split")) < 50
    assert tab.page.is_visible("#length"), "a drag of the divider sets no point"
    tab.page.mouse.click(x + 70, y)
    tab.wait_until(
        "document.querySelectorAll('#marks line').length == 14"
    )  # halo and mark of a length, and of the new point
    assert tab.find_faults_of_access() == []
    assert tab.find_cut_off() <= 0


def test_settings_belong_to_the_result(open_tab: Callable[..., Page]) -> None:
    """A network and a length of two clicks survive a reload and a move of the lens slider. A result can be removed."""
    tab = open_tab()
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    tab.page.select_option("#result-network", "1")
    tab.wait_until("document.getElementById('chip').textContent.includes('unknown')")
    tab.click_points((360.5 / 640, 0.5), (488.5 / 640, 0.5))
    tab.page.fill("#metres", "2")
    tab.page.click("#apply")
    tab.wait_until("document.getElementById('labels').textContent.startsWith('2.00 ')")
    tab.page.reload()
    tab.wait_for_result()
    tab.page.fill("#fov", "90")
    tab.wait_until("document.getElementById('fov-source').textContent.includes('by hand')")
    assert tab.page.input_value("#result-network") == "1"
    assert "length of 2 m" in tab.text("#receipt")
    tab.page.goto(f"{tab.address}#picture")
    tab.page.wait_for_selector("#results button")
    tab.page.click("#results .kept button:last-child")
    tab.page.wait_for_selector("#results-part", state="hidden")


def test_what_is_changed_while_a_picture_is_sent_is_kept(chromium: Any, address: str) -> None:
    """The end of the first page's requests does not end those of the picture, and its settings are not lost."""
    context, held = chromium.new_context(viewport={"width": 1400, "height": 900}), list[Any]()
    context.route(re.compile(r"/table/cloud\.bin|/api/photos\?"), lambda route: held.append(route))
    tab = Page(context, address)
    while not held:
        tab.page.wait_for_timeout(20)
    tab.choose(encode(make_picture(480, 640)))
    while len(held) < 2:
        tab.page.wait_for_timeout(20)
    held[0].continue_()
    tab.page.wait_for_timeout(200)
    assert not tab.text("#status").startswith("Done")
    tab.page.select_option("#result-network", "1")
    held[1].continue_()
    tab.wait_until("document.getElementById('chip').textContent.includes('unknown')")
    assert tab.problems == []
    context.close()


def test_a_lost_connection_is_tried_again_and_the_picture_stays(open_tab: Callable[..., Page]) -> None:
    tab = open_tab()
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    tab.page.context.set_offline(True)
    tab.click_points((0.6, 0.5), (0.8, 0.5))
    tab.page.wait_for_selector("#connection", state="visible")
    assert tab.page.is_visible("#stage")
    tab.page.context.set_offline(False)
    tab.wait_until("document.getElementById('distance').textContent.startsWith('Distance')")
    assert not tab.page.is_visible("#connection")


def test_a_drop_of_something_else_is_one_line(open_tab: Callable[..., Page]) -> None:
    tab = open_tab()
    link = """() => {
      const dataTransfer = new DataTransfer();
      dataTransfer.setData("text/uri-list", "https://example.org/a.jpg");
      document.querySelector("main").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
    }"""
    tab.page.evaluate(link)
    assert "no file" in tab.text("#error")
    tab.drop(encode(make_picture(), "JPEG"), "photo.mp4", "video/mp4")
    tab.wait_for_result()


def test_a_dropped_result_waits_for_its_images(open_tab: Callable[..., Page]) -> None:
    tab = open_tab()
    tab.drop(b"0 0 0 0 0 0 0 1\n1 1 0 0 0 0 0 1\n", "trajectory.txt", "text/plain")
    tab.wait_until("document.getElementById('result-list').textContent.includes('missing: the images')")
    assert not tab.page.is_visible("#result-ready")
    tab.drop(encode(make_picture()), "1.png", "image/png")
    tab.page.wait_for_selector("#result-ready", state="visible")
    assert "1 images" in tab.text("#result-list")
    tab.page.reload()
    tab.page.wait_for_selector("#result-ready", state="visible")
    assert tab.find_faults_of_access() == []
    tab.page.click("#result-remove")
    assert tab.text("#result-list") == ""
    assert tab.problems == []


def test_a_dropped_result_gets_its_verdict_and_its_correction(open_tab: Callable[..., Page], tmp_path: Path) -> None:
    """The verdict is on top, with the corrected file in its card; its page opens without a server."""
    tab = open_tab()
    tab.drop(make_zip(make_wrong_scene(tmp_path)), "scene.zip", "application/zip")
    tab.page.click("#result-ready .primary")
    tab.page.wait_for_selector("#result-done", state="visible", timeout=240_000)
    frame = tab.page.frame_locator("#result-frame")
    assert frame.locator(".word").inner_text() == "Unusable"
    assert tab.page.locator("#result-frame").bounding_box()["y"] < 200
    frame.locator("canvas[data-drawn]").wait_for()
    hidden = "document.documentElement.scrollHeight - innerHeight"
    assert frame.locator("body").evaluate(hidden) <= 0, "the page scrolls, and not the frame in it"
    with tab.page.expect_download() as started:
        frame.locator("a.button").click()
    with zipfile.ZipFile(started.value.path()) as archive:
        assert archive.namelist() == ["transforms.json"]
    assert tab.find_faults_of_access() == []
    with tab.page.expect_download() as started:
        tab.page.click("#result-page")
    started.value.save_as(tmp_path / "verdict.html")
    assert tab.problems == []
    for width in WIDTHS.values():
        tab.page.set_viewport_size({"width": width, "height": 900})
        tab.page.goto((tmp_path / "verdict.html").as_uri())
        tab.page.wait_for_selector("canvas[data-drawn]")
        tab.page.click(".views-row button >> nth=2")
        assert tab.text(".view-large p >> nth=0").startswith("000002.png: ")
        assert "000002.png and 0000" in tab.text(".view-large p >> nth=1")
        assert tab.page.locator(".matches image").count() == 2
        assert tab.page.locator(".matches line").count() > 10
        assert tab.find_faults_of_access() == []
        assert tab.find_cut_off() <= 0
    tab.page.goto(f"{tab.address}#picture")
    tab.page.wait_for_selector("#results .kept")
    assert "Verdict: transforms.json" in tab.text("#results")


def test_a_picture_is_zoomed_and_measures_the_same(open_tab: Callable[..., Page]) -> None:
    """By double click, wheel and keys: a double click sets no point, and a click in the zoomed picture its pixel."""
    tab = open_tab()
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    box = tab.page.locator("#stage").bounding_box()
    x, y = box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"]
    tab.page.mouse.dblclick(x, y)
    assert tab.page.locator(".stage.zoomed").count() == 1
    assert tab.text("#labels") == "", "its two clicks measure nothing"
    tab.page.mouse.wheel(0, -100)
    tab.wait_until("document.querySelector('.layer').style.transform.includes('scale(3.2')")
    tab.page.keyboard.press("0")
    assert tab.page.locator(".stage.zoomed").count() == 0
    tab.page.mouse.dblclick(box["x"] + 0.7 * box["width"], y)
    shares = [0.7 + 2.5 * (at - 0.7) for at in (416.5 / 640, 496.5 / 640)]  # where these pixels are now
    tab.click_points(*((share, 0.5) for share in shares))
    tab.wait_until("document.getElementById('labels').textContent")
    assert float(tab.text("#length").split()[0]) == pytest.approx(80 / 640 / 0.8, rel=0.02)
    assert tab.problems == []


def test_labels_do_not_cover_each_other(tab: Page) -> None:
    """Of lengths at almost the same place, and at the edge of the picture, which is never wider than its stage."""
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    for row in (0.5, 0.51, 0.52):
        tab.click_points((0.94, row), (0.99, row))
    tab.wait_until("document.querySelectorAll('#labels span').length === 3")
    stage = tab.page.locator("#stage").bounding_box()
    boxes = sorted((one.bounding_box() for one in tab.page.locator("#labels span").all()), key=lambda box: box["y"])
    assert all(box["y"] + box["height"] <= after["y"] for box, after in pairwise(boxes))
    assert all(stage["x"] <= box["x"] and box["x"] + box["width"] <= stage["x"] + stage["width"] for box in boxes)


def test_three_clicks_are_enough(open_tab: Callable[..., Page]) -> None:
    """From a photo to a length: its choice (a click) and two points; the network's time is not counted here."""
    tab, clicks = open_tab(), 0
    with tab.page.expect_file_chooser() as chooser:
        tab.page.click("#choose")
        clicks += 1
    chooser.value.set_files({"name": "a.png", "mimeType": "image/png", "buffer": encode(make_picture(480, 640))})
    tab.wait_for_result()
    for place in ((0.6, 0.5), (0.8, 0.5)):
        tab.click_points(place)
        clicks += 1
    tab.wait_until("document.getElementById('labels').textContent.endsWith(' m')")
    assert clicks <= 3


@pytest.mark.parametrize("tab", ["telephone", pytest.param("desk", marks=pytest.mark.exhaustive)], indirect=True)
def test_a_portrait_keeps_its_shape(tab: Page) -> None:
    tab.choose(encode(make_picture(640, 480)))
    tab.wait_for_result()
    for image in ("#shown", "#depth"):
        box = tab.page.locator(image).bounding_box()
        assert box["width"] / box["height"] == pytest.approx(480 / 640, rel=0.01)
        assert box["height"] < 700


def test_a_tap_shows_depth(open_tab: Callable[..., Page]) -> None:
    tab = open_tab(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    box = tab.page.locator("#stage").bounding_box()
    tab.page.touchscreen.tap(box["x"] + 0.8 * box["width"], box["y"] + 0.5 * box["height"])
    tab.page.wait_for_selector("#tip", state="visible")
    assert tab.text("#tip") == "1.00 m"


def test_a_video_is_dropped_and_each_tab_keeps_its_own_after_a_reload(
    open_tab: Callable[..., Page], tmp_path: Path
) -> None:
    data = make_video(tmp_path / "drive.mp4")
    tab = open_tab()
    tab.drop(data, "drive.mp4", "video/mp4")
    tab.wait_until("location.hash.startsWith('#video/')")
    tab.page.reload()  # in the middle of the work
    other = open_tab(context=tab.page.context)
    other.drop(data, "drive.mp4", "video/mp4")
    for one in (tab, other):
        one.wait_for_video()
    tab.page.reload()
    tab.page.wait_for_selector("#video-cloud[data-drawn]")
    assert tab.page.evaluate("document.getElementById('video-shown').decode().then(() => true)")
    assert tab.problems == other.problems == []


@pytest.mark.parametrize("by", ["field", "calibration"])
def test_a_lens_that_was_set_before_the_picture_is_used(open_tab: Callable[..., Page], by: str) -> None:
    tab = open_tab()
    tab.page.click("#settings-part summary")
    if by == "field":
        tab.page.fill("#first-fov", "90")
    else:
        file = {"name": "K.txt", "mimeType": "text/plain", "buffer": b"320 0 320\n0 320 240\n0 0 1\n"}
        tab.page.set_input_files("#calibration", file)
        tab.wait_until("document.getElementById('first-fov').value")
    tab.choose(encode(make_picture()))
    tab.wait_for_result()
    assert tab.text("#fov-value") == "90°"


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_pictures_of_other_formats(open_tab: Callable[..., Page], kind: str) -> None:
    from PIL import Image, features

    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    stream = io.BytesIO()
    Image.fromarray(make_picture()).save(stream, kind)
    tab = open_tab()
    tab.drop(stream.getvalue(), f"photo.{kind.lower()}", f"image/{kind.lower()}", pastes=kind == "WEBP")
    tab.wait_for_result()
    assert tab.page.evaluate("document.getElementById('shown').naturalWidth") == 128


def test_a_picture_of_the_webcam(open_tab: Callable[..., Page]) -> None:
    tab = open_tab(permissions=["camera"])
    tab.page.click("#webcam")
    tab.wait_until("document.getElementById('camera').videoWidth")
    tab.page.click("#shoot")
    tab.wait_for_result()


def test_a_network_that_cannot_be_loaded_keeps_the_picture(open_tab: Callable[..., Page]) -> None:
    tab = open_tab()
    tab.page.click("#settings-part summary")
    tab.page.select_option("#network", "3")
    tab.choose(encode(make_picture()))
    tab.page.wait_for_selector("#error", state="visible")
    error = tab.text("#error")
    assert "/data" not in error
    assert "--" not in error
    tab.page.select_option("#network", "0")
    tab.wait_for_result()
    assert not tab.page.is_visible("#error")


def test_an_example_is_there_at_once(open_tab: Callable[..., Page]) -> None:
    tab = open_tab()
    tab.page.click("#example-street")
    tab.wait_for_result()
    assert "assumed" in tab.text("#fov-source") or "training" in tab.text("#fov-source")
    tab.page.go_back()
    tab.page.wait_for_selector("#welcome", state="visible")
    assert tab.page.query_selector_all("#results .kept") == [], "an example takes no place of a result"
    tab.page.click("nav a[data-page=networks]")
    tab.page.wait_for_selector("#networks-rows tr")
    assert "Download" in tab.text("#networks-rows")
    assert tab.find_faults_of_access() == []


@pytest.mark.parametrize("width", list(WIDTHS.values()))
def test_a_person_gets_depth_a_width_a_3d_view_and_a_page_to_share(chromium: Any, width: int, tmp_path: Path) -> None:
    """With the network of the package, from the start of the server."""
    with run_server(make_app(["base"])) as address:
        context = chromium.new_context(viewport={"width": width, "height": 844})
        tab = Page(context, address)
        tab.page.set_input_files("#file", str(STATIC / "examples" / "street.jpg"))
        tab.wait_for_result()
        tab.click_points((0.65, 0.62), (0.9, 0.62))
        tab.wait_until("document.getElementById('labels').textContent")
        assert 1.0 < float(tab.text("#length").split()[0]) < 5.0, "the width of a car, m"
        tab.page.wait_for_selector("#cloud[data-drawn]")
        with tab.page.expect_download() as started:
            tab.page.click("#share")
        started.value.save_as(tmp_path / "shared.html")
        tab.page.goto((tmp_path / "shared.html").as_uri())
        tab.page.wait_for_selector("canvas[data-drawn]")
        (mark,) = tab.page.evaluate("JSON.parse(document.querySelector('canvas').dataset.view).marks")
        assert mark["text"].endswith(" m"), "the measured length is in its 3D view too"
        assert tab.find_faults_of_access() == []
        assert tab.problems == []
        context.close()


@pytest.mark.parametrize("tab", ["telephone", pytest.param("desk", marks=pytest.mark.exhaustive)], indirect=True)
def test_the_keyboard_alone_is_enough(tab: Page) -> None:
    """From the top of the page: a picture by Enter on its button, two points, the field of view."""
    page = tab.page
    tab.wait_until("document.getElementById('distance').textContent")  # of the first picture
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "example-desk":
            break
    page.keyboard.press("Enter")
    tab.wait_for_result()
    assert page.evaluate("document.activeElement.id") == "stage", "the focus is not lost"
    page.keyboard.press("Enter")
    for _ in range(5):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    tab.wait_until("document.getElementById('distance').textContent")
    assert "Distance" in tab.text("#distance")
    page.keyboard.press("Escape")
    assert tab.text("#distance") == ""
    page.focus("#fov")
    page.keyboard.press("ArrowRight")
    tab.wait_until("document.getElementById('fov-source').textContent.includes('chosen by hand')")


UNREACHED = """() => {
  const selector = "a[href], button, input, select, summary, [tabindex='0']";
  const isShown = (one) => one.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true });
  return [...document.querySelectorAll(selector)].filter((one) => isShown(one) && !one.disabled && one.tabIndex >= 0
    && !one.dataset.reached).map((one) => one.outerHTML.slice(0, 90));
}"""
"""The controls that are shown and were never in focus."""


def test_every_control_is_reached_by_the_keyboard(open_tab: Callable[..., Page]) -> None:
    """With a visible focus: of the first page, of a measured picture, and of the pages of networks and checks."""
    tab = open_tab()
    tab.page.evaluate("addEventListener('focusin', ({ target }) => { target.dataset.reached = 'yes'; })")

    def tab_through(state: str) -> None:
        tab.page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        for _ in range(120):
            tab.page.keyboard.press("Tab")
        assert tab.page.evaluate(UNREACHED) == [], state

    tab.wait_until("document.getElementById('labels').textContent")
    tab_through("first page")
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    tab.click_points((0.6, 0.5), (0.8, 0.5))
    tab.wait_until("document.getElementById('labels').textContent")
    tab_through("measured picture")
    for name in ("networks", "check"):
        tab.page.click(f"nav a[data-page={name}]")
        tab.page.wait_for_selector(f"#{name}", state="visible")
        tab_through(name)


def test_nothing_is_cut_off_on_small_and_enlarged_screens(open_tab: Callable[..., Page], tmp_path: Path) -> None:
    """The page scrolls down only; a picture and its controls are not wider than the screen."""
    tab = open_tab()

    def check(state: str) -> None:
        for width, height in ((320, 640), (640, 450)):  # a telephone, and a screen that is enlarged twice
            tab.page.set_viewport_size({"width": width, "height": height})
            assert tab.find_cut_off() <= 0, (state, width)

    tab.wait_until("document.getElementById('labels').textContent")
    check("first page")
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    tab.click_points((0.6, 0.5), (0.8, 0.5))
    tab.wait_until("document.getElementById('labels').textContent")
    for summary in tab.page.locator("#result details:not([open]) > summary").all():
        if summary.is_visible():
            summary.click()
    check("measured picture")
    for name in ("networks", "check"):
        tab.page.click(f"nav a[data-page={name}]")
        tab.page.wait_for_selector(f"#{name}", state="visible")
        tab.page.wait_for_timeout(300)
        check(name)
    tab.page.set_input_files(
        "#file", {"name": "a.mp4", "mimeType": "video/mp4", "buffer": make_video(tmp_path / "a.mp4")}
    )
    tab.wait_for_video()
    check("video")
    with tab.page.expect_download() as started:
        tab.page.click("#video-share")
    started.value.save_as(tmp_path / "shared.html")
    tab.page.goto((tmp_path / "shared.html").as_uri())
    tab.page.wait_for_selector("canvas[data-drawn]")
    check("shared page")
    assert tab.find_faults_of_access() == []


def test_lengths_are_measured_in_3d_by_the_keyboard(open_tab: Callable[..., Page]) -> None:
    """Enter picks the point at the cross in the middle of the view, and the arrows turn the view."""
    tab = open_tab()
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    tab.page.wait_for_selector("#cloud[data-drawn]")
    tab.page.focus("#camera-view")
    tab.page.keyboard.press("Enter")
    tab.page.focus("#cloud")
    for key in ("ArrowRight", "ArrowRight", "Enter", "ArrowRight", "Enter"):
        tab.page.keyboard.press(key)
    tab.wait_until("document.getElementById('labels').textContent")
    assert tab.find_faults_of_access() == []
    assert tab.problems == []


def test_a_scene_is_flown_through_and_turned_around_a_point(open_tab: Callable[..., Page]) -> None:
    """W flies ahead and S back, a double click sets the middle of the turns, and brackets change the size of points."""
    tab = open_tab()
    script = """async () => {
      const { CloudView, rotationOf } = await import("/shared/points.js"), canvas = document.createElement("canvas");
      Object.assign(canvas.style, { position: "fixed", left: 0, top: 0, width: "400px", height: "300px" });
      document.body.append(canvas);
      const cloud = new CloudView(canvas, () => {});
      const press = (key) => canvas.dispatchEvent(new KeyboardEvent("keydown", { key }));
      cloud.show(new Float32Array([1, 0, 4, -1, 0, 4]), new Uint8Array(6).fill(200), "m");
      const before = [...cloud.view.target], ahead = rotationOf(cloud.view)[2];
      press("w");
      const moved = cloud.view.target.map((value, axis) => value - before[axis]);
      const along = moved.reduce((sum, value, axis) => sum + value * ahead[axis], 0);
      press("s");
      const isBack = Math.hypot(...cloud.view.target.map((value, axis) => value - before[axis])) < 1e-9;
      press("]");
      cloud.look();
      const x = 200 + 1.3 * 300 / 4;
      canvas.dispatchEvent(new MouseEvent("dblclick", { clientX: x, clientY: 150 }));
      return [along / Math.hypot(...moved), isBack, cloud.size, cloud.view.target];
    }"""
    along, is_back, size, target = tab.page.evaluate(script)
    assert along == pytest.approx(1)
    assert is_back
    assert size == 1.25
    assert target == [1, 0, 4]


def test_a_picture_in_its_frustum_is_clicked(open_tab: Callable[..., Page]) -> None:
    """The nearest one below the pointer; a click next to them chooses none, and picks a point as before."""
    tab = open_tab()
    script = """async () => {
      const { CloudView } = await import("/shared/points.js"), canvas = document.createElement("canvas");
      Object.assign(canvas.style, { position: "fixed", left: 0, top: 0, width: "400px", height: "300px", zIndex: 9 });
      document.body.append(canvas);
      const chosen = [], picked = [], cloud = new CloudView(canvas, () => {}, (point) => picked.push(point));
      cloud.show(new Float32Array([1, 0, 4, -1, 0, 4]), new Uint8Array(6).fill(200), "m");
      const picture = { width: 2, height: 2, colors: new Uint8ClampedArray(16).fill(255) };
      const at = (z) => ({ fov_deg: 60, aspect: 1, picture, T: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, z]] });
      cloud.showPictures([at(3), at(2)], (number) => chosen.push(number));
      cloud.look();
      const click = (clientX, clientY) => {
        const about = { clientX, clientY, pointerId: 1, bubbles: true };
        for (const kind of ["pointerdown", "pointerup"]) canvas.dispatchEvent(new PointerEvent(kind, about));
        canvas.dispatchEvent(new MouseEvent("click", about));
      };
      canvas.setPointerCapture = () => {};
      click(200, 150);
      click(200 + 1.3 * 300 / 4, 150);
      click(20, 20);
      return [chosen, picked];
    }"""
    chosen, picked = tab.page.evaluate(script)
    assert chosen == [1]
    assert picked == [[1, 0, 4]]


def test_lines_in_3d_are_dashed_where_points_hide_them_and_labels_cover_nothing(open_tab: Callable[..., Page]) -> None:
    """A line behind a wall at depth 5 is hidden as a whole, one before it is not, and one through it in part."""
    tab = open_tab()
    script = """async () => {
      const { drawMark, placeLabel } = await import("/shared/points.js"), width = 200, height = 100;
      const draw = (...points) => {
        const depths = new Float32Array(width * height).fill(5), pixels = new Uint32Array(width * height);
        const rows = [[100, 0, 0, 0], [0, 100, 0, 0], [0, 0, 1, 0]];
        const hidden = drawMark({ width, height, pixels, depths }, rows, points, 1, 0.01);
        return [hidden, pixels.filter((one) => one === 0xffffffff).length];
      };
      const [left, right] = [[-2.7, 0, 3], [2.7, 0, 3]], far = ([x]) => [x / 3 * 10, 0, 10];
      const lines = [draw(far(left), far(right)), draw(left, right), draw(left, far(right))];
      const taken = [], canvas = { width: 400, height: 300 };
      for (let i = 0; i < 20; i++) {
        const place = placeLabel([(37 * i) % 500 - 50, (91 * i) % 300], [90, 19], canvas, taken);
        if (place) taken.push(place);
      }
      return [lines, taken];
    }"""
    (behind, before, through), labels = tab.page.evaluate(script)
    assert (behind[0], before[0]) == (181, 0)
    assert 0 < through[0] < 181
    assert 0.4 * before[1] < behind[1] < 0.7 * before[1], "dashes"
    assert len(labels) == 20
    for number, (x, y, width) in enumerate(labels):
        assert 0 <= x - width / 2 <= x + width / 2 <= 400
        assert 0 <= y <= 300 - 19
        assert all(abs(x - other[0]) >= width or abs(y - other[1]) >= 19 for other in labels[:number])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"no picture at all, but a text", "another kind of file", marks=pytest.mark.exhaustive),
        (encode(make_picture())[:200], "cut off"),
    ],
)
def test_a_wrong_file_is_one_line(open_tab: Callable[..., Page], data: bytes, words: str) -> None:
    tab = open_tab()
    tab.choose(encode(make_picture()))
    tab.wait_for_result()
    tab.choose(data, '<img src=x onerror="document.title=1">.png')
    tab.page.wait_for_selector("#error:not([hidden])")
    assert words in tab.text("#error")
    tab.wait_for_result()
    assert tab.page.is_hidden("#welcome"), "the picture before returns"
    assert words in tab.text("#error")
    tab.choose(encode(make_picture()))
    tab.wait_for_result()
    assert not tab.page.is_visible("#error")
    assert tab.page.title() == "stadia"


def test_a_reload_in_the_middle_and_a_cancel(open_tab: Callable[..., Page]) -> None:
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


def test_downloads_of_the_page(open_tab: Callable[..., Page]) -> None:
    tab = open_tab()
    tab.choose(encode(make_picture()))
    tab.wait_for_result()
    tab.page.click("#result summary:text-is('Files')")
    for name in ("depth.npz", "cloud.glb"):
        with tab.page.expect_download() as started:
            tab.page.click(f"#files a:text-is('{name}')")
        assert started.value.suggested_filename == f"stadia-{name}"
        assert Path(started.value.path()).stat().st_size > 1000


def test_an_example_is_scrolled_to(open_tab: Callable[..., Page]) -> None:
    tab = open_tab(viewport={"width": 390, "height": 844})
    tab.page.click("#example-street")
    tab.wait_for_result()
    box = tab.page.locator("#stage").bounding_box()
    assert 0 <= box["y"] < 400
    assert box["y"] + box["height"] <= 844


def test_measurements_stay_after_a_reload_and_go_with_their_result(open_tab: Callable[..., Page]) -> None:
    tab = open_tab()
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    tab.click_points((0.6, 0.5), (0.8, 0.5))
    tab.wait_until("document.getElementById('labels').textContent")
    before = tab.text("#length")
    tab.page.reload()
    tab.wait_until("document.getElementById('labels').textContent")
    assert tab.text("#length") == before
    assert "items" in tab.page.get_attribute("#share", "href")
    tab.choose(encode(make_picture()))
    tab.wait_until("document.getElementById('labels').textContent === ''")  # they were of the picture before
    tab.wait_for_result()
    assert tab.text("#labels") == ""
    kept = "Object.keys(localStorage).filter((name) => name.startsWith('stadia-measured-')).length"
    assert tab.page.evaluate(kept) >= 1
    tab.page.evaluate("localStorage.setItem('stadia-measured-gone', '[]')")
    tab.page.goto(f"{tab.address}#picture")
    tab.wait_until("localStorage.getItem('stadia-measured-gone') === null")
    assert tab.page.evaluate(kept) >= 1


def test_two_photos_are_both_kept(open_tab: Callable[..., Page]) -> None:
    tab, data = open_tab(), encode(make_picture())
    files = [{"name": name, "mimeType": "image/png", "buffer": data} for name in ("a.png", "b.png")]
    tab.page.set_input_files("#file", files)
    tab.wait_until("document.querySelectorAll('#results .kept').length === 2")
    assert "b.png" in tab.text("#status")
    assert {tab.text(f"#results .kept:nth-child({number}) .thumb > .small") for number in (1, 2)} == {"a.png", "b.png"}


def test_a_file_that_is_dragged_over_the_page_moves_nothing(open_tab: Callable[..., Page]) -> None:
    tab = open_tab()
    tab.page.wait_for_selector("#cloud[data-drawn]")
    sizes = "[...document.querySelectorAll('main *')].map((one) => one.getBoundingClientRect().toJSON())"
    before = tab.page.evaluate(sizes)
    script = "document.querySelector('main').dispatchEvent(new DragEvent('dragover', { bubbles: true }))"
    tab.page.evaluate(script)
    assert tab.page.evaluate(sizes) == before


@pytest.mark.parametrize(("typed", "shown"), [("1,5", "1,5"), ("1.5", "1,5")])
def test_numbers_are_in_the_language_of_the_browser(open_tab: Callable[..., Page], typed: str, shown: str) -> None:
    tab = open_tab(locale="de-DE")
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    assert tab.page.input_value("#metres") == ""
    tab.click_points((360.5 / 640, 0.5), (488.5 / 640, 0.5))
    tab.wait_until("document.getElementById('labels').textContent.startsWith('0,2')")
    tab.page.fill("#metres", "1.234,5")
    tab.page.click("#apply")
    assert "2,5" in tab.text("#error"), "it shows how to write a number"
    tab.page.fill("#metres", typed)
    tab.page.click("#apply")
    tab.wait_until("document.getElementById('labels').textContent.startsWith('1,50 ')")
    assert tab.page.input_value("#metres") == shown
    tab.choose(encode(make_picture()))
    tab.wait_until("document.getElementById('metres').value === ''")  # the length was of the picture before
    tab.wait_for_result()
    assert tab.page.input_value("#metres") == ""
    assert tab.problems == []


def test_a_huge_picture_is_refused_before_it_is_decoded(open_tab: Callable[..., Page]) -> None:
    """Its header states its size, so that neither the browser nor the server reads its pixels."""
    tab, header = open_tab(), bytearray(encode(make_picture()))
    header[16:24] = (20_000).to_bytes(4, "big") * 2
    tab.choose(bytes(header))
    tab.page.wait_for_selector("#error", state="visible")
    assert "400 megapixels (20000 x 20000)" in tab.text("#error")
    assert not any("/api/photos?" in url for url in tab.requests)
    assert tab.page.get_attribute("#shown", "src") == "/static/examples/table.jpg"
    tab.choose(encode(make_picture(), "JPEG"))
    tab.wait_for_result()


def test_without_a_connection_the_page_stays_and_has_one_message(open_tab: Callable[..., Page]) -> None:
    tab = open_tab()
    tab.page.wait_for_selector("#cloud[data-drawn]")
    tab.page.wait_for_timeout(300)  # the other pages are read
    tab.page.context.set_offline(True)
    tab.page.click("nav a[data-page=networks]")
    tab.page.wait_for_selector("#connection", state="visible")
    assert tab.page.is_visible("#networks")
    assert not tab.page.is_visible("#error")
    tab.page.context.set_offline(False)
    tab.page.wait_for_selector("#networks-rows tr")
    assert not tab.page.is_visible("#connection")


def test_a_length_of_a_picture_that_was_replaced_meanwhile_is_no_error(open_tab: Callable[..., Page]) -> None:
    """The server measures the length of the first page's picture while another picture is chosen and refused."""
    tab, held = open_tab(), list[Any]()
    tab.wait_until("document.getElementById('labels').textContent")
    tab.page.route("**/measure?*", lambda route: held.append(route))
    tab.click_points((0.6, 0.5), (0.8, 0.5))
    while not held:
        tab.page.wait_for_timeout(20)
    tab.page.route("**/api/photos?*", lambda route: None)
    tab.choose(encode(make_picture()))
    held[0].continue_()
    tab.page.wait_for_timeout(300)
    assert not tab.page.is_visible("#error")
    assert tab.problems == []


def test_an_error_of_the_page_is_not_a_lost_connection(open_tab: Callable[..., Page]) -> None:
    tab = open_tab()
    tab.page.evaluate("import('/static/api.js').then(({ showError }) => showError(new TypeError('x is null')))")
    assert tab.text("#error").startswith("This page has an error (x is null).")
    (problem,) = tab.problems
    assert "x is null" in problem


def test_a_moving_picture_has_a_message_without_commands(open_tab: Callable[..., Page]) -> None:
    from PIL import Image

    stream, tab = io.BytesIO(), open_tab()
    frames = [Image.fromarray(make_picture() // count) for count in (1, 2)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    tab.choose(stream.getvalue(), "a.gif")
    tab.page.wait_for_selector("#error", state="visible")
    error = tab.text("#error")
    assert "animated GIF of 2 frames" in error
    assert not any(word in error for word in ("python", "found ", "expected", "import ", "Image", "[f."))


def test_a_public_page_names_no_options_and_no_runs(chromium: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "load_network", load_network)
        with run_server(make_app(["metres"], public_host="localhost")) as address:
            context = chromium.new_context()
            tab = Page(context, address.replace("127.0.0.1", "localhost"))
            tab.page.goto(f"{tab.address}/#runs")
            tab.page.wait_for_selector("#cloud[data-drawn]")
            assert not tab.page.is_visible("#error")
            tab.page.click("nav a[data-page=check]")
            tab.page.wait_for_selector("#result-form", state="visible")
            assert "--data" not in tab.text("main")
            assert tab.problems == []
            context.close()


def test_a_link_with_the_token_works_from_another_site(chromium: Any) -> None:
    """Of a chat or a mail in the browser; the page stays open after a reload."""
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse
    from starlette.routing import Route

    token = "a-token-of-the-test-suite"
    with run_server(make_app([], token=token)) as address:
        other = Starlette(routes=[Route("/", lambda _: HTMLResponse(f'<a href="{address}/?token={token}">app</a>'))])
        with run_server(other) as site:
            context = chromium.new_context()
            page = context.new_page()
            page.goto(site.replace("127.0.0.1", "localhost"))
            page.click("a")
            page.wait_for_selector("html[data-ready]")
            page.reload()
            page.wait_for_selector("html[data-ready]")
            assert page.evaluate("fetch('/api/session').then((reply) => reply.status)") == 200
            assert token not in page.url
            context.close()


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
    assert "equal" in tab.text("#pair-better").lower()
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
    if width == WIDTHS["telephone"]:
        tab.page.on("dialog", lambda dialog: dialog.accept())
        tab.page.click("#run-delete")
        tab.wait_until("document.querySelectorAll('#runs-rows tr').length === 1")
    assert tab.problems == []
    context.close()


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


@pytest.mark.parametrize("width", list(WIDTHS.values()))
def test_audits_and_rigs_in_the_page(chromium: Any, tmp_path: Path, width: int) -> None:
    """They are listed below the form, and shown as their own pages; an audit's items are filtered."""
    write_audit(tmp_path / "audit campus")
    write_rig(tmp_path / "rig-june")
    with run_server(make_app([], data=tmp_path)) as address:
        context = chromium.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce")
        tab = Page(context, f"{address}/#check")
        tab.page.wait_for_selector("#pages-list a")
        assert re.search("Audit, .*: 3 bad items", tab.text("#pages-list"))
        assert tab.find_faults_of_access() == []
        tab.page.click("#pages-list a:has-text('audit campus')")
        frame = tab.page.frame_locator("#result-frame")
        frame.locator("#filter").fill("opengl")
        assert frame.locator("#count").inner_text() == "3 of 12 items"
        frame.locator("#filter").fill("")
        frame.locator("input[value=usable]").uncheck()
        assert frame.locator("#count").inner_text() == "5 of 12 items"
        assert not tab.page.is_visible("#result-form")
        assert tab.find_cut_off() <= 0
        tab.page.click("#result-back")
        tab.page.wait_for_selector("#result-form", state="visible")
        assert not tab.page.is_visible("#result-frame")
        tab.page.click("#pages-list a:has-text('rig-june')")
        assert "gate" in frame.locator(".camera h2").first.inner_text()
        assert tab.find_faults_of_access() == []
        assert tab.problems == []
        for name in ("audit campus/audit.html", "rig-june/rig-check.html"):
            tab.page.goto((tmp_path / name).as_uri())
            assert tab.find_cut_off() <= 0
            assert tab.find_faults_of_access() == []
            for box in (one.bounding_box() for one in tab.page.locator("#items td:nth-child(4):not(:empty)").all()):
                assert 0 <= box["x"] <= box["x"] + box["width"] <= width, "faults are not cut off"
        context.close()


def test_a_video_at_both_widths(open_tab: Callable[..., Page], tmp_path: Path) -> None:
    tab = open_tab()
    make_video(tmp_path / "drive.mp4")
    tab.page.set_input_files("#file", str(tmp_path / "drive.mp4"))
    tab.page.wait_for_selector("#preview-cloud[data-drawn]")  # before the path is found
    assert re.match(r"Step \d of 3: .* so far", tab.text("#video-status"))
    assert tab.find_faults_of_access() == []
    tab.wait_for_video()
    with tab.page.expect_download() as started:
        tab.page.click("#video-share")
    started.value.save_as(tmp_path / "shared.html")
    assert "data-points" in (tmp_path / "shared.html").read_text(), "its 3D view"
    tab.page.focus("#video-time")
    tab.page.keyboard.press("ArrowRight")
    assert tab.text("#video-number").startswith("2 of")
    tab.page.wait_for_selector("#video-cloud[data-drawn]")
    tab.page.click("#video-follow")
    assert tab.text("#video-play") == "Pause", "the view moves along the path"
    tab.page.click("#video-reset-view")
    assert (tab.text("#video-play"), tab.page.get_attribute("#video-follow", "aria-pressed")) == ("Play", "false")
    for width in WIDTHS.values():
        tab.page.set_viewport_size({"width": width, "height": 900})
        parts = ("#video-verdict-card", "#video-cloud-part", "#video-stage", "#video-panel")
        boxes = [tab.page.locator(part).bounding_box() for part in parts]
        assert all(box["y"] + box["height"] <= after["y"] + 1 for box, after in pairwise(boxes)), "verdict and 3D first"
        assert tab.page.locator("#video-cloud").bounding_box()["width"] > 0.9 * width
        shown, depth = (tab.page.locator(f"#video-{name}").bounding_box() for name in ("stage", "beside"))
        assert (shown["width"], shown["height"]) == (depth["width"], depth["height"]), "depth is next to the frame"
        assert tab.page.locator("#video-depth").evaluate("one => one.style.clipPath") == "", "all of it"
        assert tab.find_faults_of_access() == []
    first = tab.page.evaluate("location.hash")
    tab.page.select_option("#second-network", "1")
    tab.page.click("#video-second button")
    tab.page.wait_for_selector("#video-pair a")
    assert tab.page.get_attribute("#video-pair a", "href") == first
    tab.wait_until("document.getElementById('video-depth-other').naturalWidth > 0")
    for width in WIDTHS.values():
        tab.page.set_viewport_size({"width": width, "height": 900})
        assert tab.find_faults_of_access() == []
        assert tab.find_cut_off() <= 0
    assert tab.problems == []


# -- the report


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
    assert find_faults_of_access(page) == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert problems == []
    context.close()
