"""Kept results, words, screens and keys in a real browser."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.web.browser_server import run_server
from tests.web.conftest import encode, make_network, make_picture
from tests.web.test_audit_routes import write_audit, write_rig
from tests.web.test_browser import CHROMIUM, UNREACHED, Page, chromium
from tests.web.test_pictures import make_verdict_page
from tests.web.test_runs import make_run
from tests.web.test_videos import FAILING, make_video

from stadia.report.reconstruction_page import write_reconstruction_page
from stadia.web import networks
from stadia.web import video as videos
from stadia.web.server import make_app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

__all__ = ["chromium"]


@contextmanager
def serve(**folders: Any) -> Iterator[str]:
    """Give the address of a server whose videos get no map, so that their result is there after a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "load_network", make_network)
        patch.setattr(videos, "STADIA", FAILING)
        with run_server(make_app(["metres", "up-to-scale"], **folders)) as address:
            yield address


def keep_cookies(context: Any, address: str) -> None:
    """Give the cookies of a context to a server at another port, whose number is in their names."""
    port = address.rpartition(":")[2]
    cookies = [{**one, "name": re.sub(r"\d+$", port, one["name"])} for one in context.cookies()]
    context.add_cookies(cookies)


def test_kept_photos_open_after_a_restart_in_several_tabs_at_once(chromium: Any, tmp_path: Path) -> None:
    """Each tab requests picture, depth and points at the same time, before any of them is loaded."""
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    with serve(results=tmp_path) as address:
        tab = Page(context, address)
        for number in range(2):
            tab.choose(encode(make_picture()), f"{number}.png")
            tab.wait_for_result()
        tab.page.goto(f"{address}/#picture")
        tab.wait_until("document.querySelectorAll('#results .kept').length === 2")
    with serve(results=tmp_path) as address:
        keep_cookies(context, address)
        tab = Page(context, address)
        tab.wait_until("document.querySelectorAll('#results .kept').length === 2")
        tab.page.click("#results .thumb >> nth=0")
        tab.wait_for_result()
        key = tab.page.evaluate("location.hash")
        tabs = [Page(context, f"{address}/{key}") for _ in range(2)]
        for one in [tab, *tabs]:
            one.page.wait_for_selector("#cloud[data-drawn]")
            assert one.text("#chip").startswith("± 12 %")
            assert not one.page.is_visible("#error")
            assert one.problems == []
    context.close()


def test_the_archive_of_all_results_has_the_size_that_the_page_states(chromium: Any, tmp_path: Path) -> None:
    with serve(results=tmp_path) as address:
        context = chromium.new_context()
        tab = Page(context, address)
        tab.choose(encode(make_picture(1500, 2000)), "a.png")
        tab.wait_for_result()
        tab.page.goto(f"{address}/#picture")
        tab.page.wait_for_selector("#results-all", state="visible")
        found = re.search(r"(\d+) MB of", tab.text("#results-limit"))
        assert found is not None
        with tab.page.expect_download() as started:
            tab.page.click("#results-all")
        assert Path(started.value.path()).stat().st_size <= (int(found[1]) + 1) << 20
        assert tab.problems == []
        context.close()


WORDS_OF_PROGRAMMERS = re.compile(
    r"\b[A-Z]\d\d\b|\+-|\bfound .*; expected|(?<!\w)--\w|\bcv2\.|\bpython -|Error\b|\bNone\b|Traceback"
)
"""Codes of findings, options and parts of errors on a terminal."""


def test_photo_video_and_shared_pages_state_trust_once_and_in_plain_words(chromium: Any, tmp_path: Path) -> None:
    """The sentence of the card is on the shared page, with the number of the chip, and no other number of trust."""
    with serve() as address:
        context = chromium.new_context(viewport={"width": 1400, "height": 900})
        tab = Page(context, address)
        for prefix in ("", "video-"):
            if prefix:
                tab.drop(make_video(tmp_path / "drive.mp4"), "drive.mp4", "video/mp4")
                tab.wait_for_video()
            else:
                tab.choose(encode(make_picture(480, 640)))
                tab.wait_for_result()
            trust, chip = tab.text(f"#{prefix}trust"), tab.text(f"#{prefix}chip")
            assert chip.removeprefix("± ").split(" in ")[0] in trust
            tab.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
            with tab.page.expect_download() as started:
                tab.page.click(f"#{prefix}share")
            started.value.save_as(tmp_path / f"{prefix}shared.html")
            shared = Page(context, f"{address}/#networks")
            shared.page.goto((tmp_path / f"{prefix}shared.html").as_uri())
            shared.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
            assert trust in shared.text(".verdict")
            for text in (tab.text("main"), shared.text("body")):
                assert WORDS_OF_PROGRAMMERS.findall(text) == []
                assert "typically" not in text
                assert "or worse" not in text
            assert tab.problems == shared.problems == []
        context.close()


def test_cookies_are_secure_behind_a_proxy_with_tls(chromium: Any) -> None:
    with serve(public_host="localhost") as address:
        context = chromium.new_context(extra_http_headers={"x-forwarded-proto": "https"})
        page = context.new_page()
        reply = page.goto(address.replace("127.0.0.1", "localhost"))
        assert "; Secure" in reply.all_headers()["set-cookie"]
        assert all(cookie["secure"] and cookie["httpOnly"] for cookie in context.cookies())
        context.close()


# -- every state: nothing is cut off, no fault of access, and every control is reached by the keyboard

MARK_REACHED = "addEventListener('focusin', ({ target }) => { target.dataset.reached = 'yes'; })"

SCREENS = {"320px": (320, 640, "light"), "200percent": (640, 450, "light"), "dark": (1400, 900, "dark")}
"""Width, height and color scheme. A page that is enlarged twice has half of the screen's pixels."""


def check_state(tab: Page, state: str) -> None:
    """Check a state on each screen, and by the keyboard on the last one."""
    for screen, (width, height, scheme) in SCREENS.items():
        tab.page.set_viewport_size({"width": width, "height": height})
        tab.page.emulate_media(color_scheme=scheme)
        assert tab.find_cut_off() <= 0, (state, screen)
        assert tab.find_faults_of_access() == [], (state, screen)
    check_keys(tab, state)


def check_keys(tab: Page, state: str) -> None:
    """Press Tab until the focus is back at the start; each control that is shown was in focus."""
    tab.page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    for _ in range(
        tab.page.evaluate("document.querySelectorAll('a, button, input, select, summary, canvas').length + 9")
    ):
        tab.page.keyboard.press("Tab")
    assert tab.page.evaluate(UNREACHED) == [], state


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an audit, a rig, two runs and the page of a verdict."""
    root = tmp_path_factory.mktemp("files")
    write_audit(root / "campus")
    write_rig(root / "rig")
    make_run(root, "2026-01-31-120000-good", status="finished", predictions="usable")
    make_run(root, "2026-01-31-130000-other", status="interrupted")
    write_reconstruction_page(root / "verdict.html", make_verdict_page())
    make_video(root / "drive.mp4")
    return root


@pytest.fixture(scope="module")
def address(files: Path) -> Iterator[str]:
    with serve(runs=files, data=files) as address:
        yield address


def test_all_states(chromium: Any, address: str, files: Path, tmp_path: Path) -> None:
    """Pages of files, of a video with two networks, of runs, and of audits and rigs in the app."""
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, reduced_motion="reduce")
    context.add_init_script(MARK_REACHED)
    tab = Page(context, address)
    tab.page.set_input_files("#file", str(files / "drive.mp4"))
    tab.wait_for_video()
    tab.page.wait_for_selector("#video-cloud[data-drawn]")
    for summary in tab.page.locator("#video details:not([open]) > summary").all():
        if summary.is_visible():
            summary.click()
    check_state(tab, "video")
    with tab.page.expect_download() as started:
        tab.page.click("#video-share")
    started.value.save_as(tmp_path / "shared.html")
    tab.page.select_option("#second-network", "1")
    tab.page.click("#video-second button")
    tab.page.wait_for_selector("#video-pair a")
    check_state(tab, "two networks")
    for place, part in {
        "#runs": "#runs-rows tr",
        "#runs/2026-01-31-120000-good": "#run-curves svg",
        "#check": "#pages-list a",
        "#check/@campus": "#result-frame",
    }.items():
        tab.page.goto(f"{address}/{place}")
        tab.page.wait_for_selector(part, state="visible")
        check_state(tab, place)
    saved = {"shared": tmp_path / "shared.html", "verdict": files / "verdict.html"}
    saved |= {"audit": files / "campus" / "audit.html", "rig": files / "rig" / "rig-check.html"}
    for name, file in saved.items():
        tab.page.goto(file.as_uri())
        if name in ("shared", "verdict"):
            tab.page.wait_for_selector("canvas[data-drawn]")
        check_state(tab, name)
    assert tab.problems == []
    context.close()


def test_the_video_page_is_used_by_the_keyboard_alone(chromium: Any, address: str, files: Path, tmp_path: Path) -> None:
    """From its top: play and stop, choose a frame, measure in it and in 3D, follow the path, and take the page away."""
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, reduced_motion="reduce")
    tab = Page(context, address)
    tab.page.set_input_files("#file", str(files / "drive.mp4"))
    tab.wait_for_video()
    tab.page.wait_for_selector("#video-cloud[data-drawn]")
    press = tab.page.keyboard.press

    def go_to(name: str) -> None:
        for _ in range(60):
            if tab.page.evaluate("document.activeElement.id") == name:
                return
            press("Tab")
        raise AssertionError(name)

    tab.page.evaluate("document.activeElement.blur()")
    go_to("video-share")
    with tab.page.expect_download() as started:
        press("Enter")
    started.value.save_as(tmp_path / "shared.html")
    go_to("video-cloud")
    for key in ("0", "ArrowRight", "Enter", "ArrowRight", "ArrowRight", "Enter"):
        press(key)
    tab.wait_until("document.getElementById('video-measured').children.length === 1")
    go_to("video-follow")
    press("Enter")
    assert tab.text("#video-play") == "Pause"
    press("Enter")
    assert tab.text("#video-play") == "Play"
    go_to("video-stage")
    press("Enter")
    for _ in range(3):
        press("Shift+ArrowRight")
    press("Enter")
    tab.wait_until("document.getElementById('video-distance').textContent")
    go_to("video-play")
    press("Space")
    assert tab.text("#video-play") == "Pause"
    press("Space")
    go_to("video-time")
    press("Home")
    press("ArrowRight")
    assert tab.text("#video-number").startswith("2 of")
    go_to("video-fov")
    press("Control+A")
    tab.page.keyboard.type("70")
    press("Enter")
    tab.wait_until("document.getElementById('video-lens').textContent.includes('by hand')", seconds=120)
    assert tab.problems == []
    context.close()
