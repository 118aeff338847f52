"""Pictures of the states of the page are like the kept ones in tests/web/pictures, so that a broken layout fails.

They are compared in blocks of 8 by 8 pixels, with a tolerance for fonts and rendering. After a change that is meant:

    STADIA_KEEP_PICTURES=1 pytest tests/web/test_pictures.py

and look at the pictures before you commit them.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.report.test_scene_figures import make_scene
from tests.web.browser_server import run_server
from tests.web.conftest import encode, make_network, make_picture
from tests.web.test_audit_routes import write_audit, write_rig
from tests.web.test_browser import CHROMIUM, Page, chromium
from tests.web.test_runs import make_run
from tests.web.test_videos import FAILING, make_video

from stadia.report.point_cloud_figures import SceneCamera, SceneView, pack_scene
from stadia.report.reconstruction_page import (
    PairPicture,
    ReconstructionPage,
    ShownCause,
    ShownPurpose,
    write_reconstruction_page,
)
from stadia.web import networks
from stadia.web import video as videos
from stadia.web.server import make_app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

__all__ = ["chromium"]

KEPT = Path(__file__).parent / "pictures"
BLOCK = 8
"""Side of the blocks that are compared, pixels."""

MAX_LEVELS, MAX_SHARE, MAX_LONGER = 28, 0.04, 0.04
"""Largest difference of a block, levels of 255; largest share of blocks above it; largest difference of heights."""

VARIANTS = [(width, scheme) for width in (1400, 390) for scheme in ("light", "dark")]
"""Widths and color schemes in which each state is photographed, after it was reached once."""

VIEWPORT = {"width": VARIANTS[0][0], "height": 900}

RESTS_AFTER_MS = 300
"""Time after which points are drawn in full."""


def shrink(data: bytes) -> np.ndarray:
    """Return the mean colors of the blocks of a PNG (h, w, 3)."""
    with Image.open(io.BytesIO(data)) as picture:
        image = np.asarray(picture.convert("RGB"))
    height, width = (side // BLOCK for side in image.shape[:2])
    return np.asarray(
        cv2.resize(image[: height * BLOCK, : width * BLOCK], (width, height), interpolation=cv2.INTER_AREA)
    )


def compare(name: str, data: bytes) -> None:
    """Compare a picture with the kept one of this name, or keep it."""
    path, shown = KEPT / f"{name}.png", shrink(data)
    if os.environ.get("STADIA_KEEP_PICTURES"):
        KEPT.mkdir(exist_ok=True)
        Image.fromarray(shown).save(path, optimize=True)
        return
    with Image.open(path) as picture:
        kept = np.asarray(picture.convert("RGB"))
    assert abs(len(shown) / len(kept) - 1) <= MAX_LONGER, f"{name} is {len(shown)} blocks high, {len(kept)} before"
    rows = min(len(shown), len(kept))
    differs = np.abs(shown[:rows].astype(int) - kept[:rows]).max(axis=2) > MAX_LEVELS
    assert differs.mean() <= MAX_SHARE, f"{differs.mean():.1%} of {name} looks different"


def photograph(page: Any, state: str) -> None:
    """Compare a state of a page with its kept pictures, in each width and color scheme."""
    for width, scheme in VARIANTS:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.mouse.move(0, 0)
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(RESTS_AFTER_MS)
        compare(f"{state}-{width}-{scheme}", page.screenshot(full_page=True, animations="disabled"))
    page.set_viewport_size(VIEWPORT)  # views in 3D are framed when they open


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    page = chromium.new_page(viewport=VIEWPORT, device_scale_factor=1)
    yield page
    page.close()


@pytest.fixture
def context(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport=VIEWPORT, reduced_motion="reduce", device_scale_factor=1)
    yield context
    context.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("runs")
    make_run(root, "2026-01-31-120000-good", status="finished", predictions="usable")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "load_network", make_network)
        with run_server(make_app(["metres", "up-to-scale"], runs=root, data=root)) as address:
            yield address


def test_states_of_the_app_look_as_before(context: Any, address: str) -> None:
    tab = Page(context, address)

    def photograph_state(state: str) -> None:
        tab.page.evaluate("document.getElementById('status').textContent = 'Done'")
        photograph(tab.page, state)

    tab.wait_until("document.getElementById('labels').textContent")
    tab.page.wait_for_selector("#cloud[data-drawn]")
    tab.wait_until("[...document.images].every((one) => one.complete || one.loading === 'lazy')")
    photograph_state("first")
    tab.page.evaluate("delete document.getElementById('cloud').dataset.drawn")
    tab.choose(encode(make_picture(480, 640)))
    tab.wait_for_result()
    tab.page.wait_for_selector("#cloud[data-drawn]")
    tab.click_points((0.6, 0.5), (0.8, 0.5))
    tab.wait_until("document.getElementById('labels').textContent")
    photograph_state("photo")
    for name, part in (("runs", "#runs-rows tr"), ("check", "#result-form")):
        tab.page.goto(f"{address}/#{name}")
        tab.page.wait_for_selector(part, state="visible")
        photograph_state(name)
    assert tab.problems == []


def make_verdict_page() -> ReconstructionPage:
    """A page with a cause, errors, purposes, pictures and cameras."""
    image, other = make_picture(360, 480), make_picture(360, 480)[:, ::-1]
    xy = np.random.default_rng(0).uniform((20, 20), (460, 340), (40, 2))
    pairs = [
        PairPicture("a.png and b.png: 40 of 40 matches contradict", image, other, xy, xy + 5, np.full(40, is_right), ())
        for is_right in (False, True)
    ]
    points, T = make_scene()
    K = np.array([[60.0, 0, 60], [0, 60, 45], [0, 0, 1]])
    cameras = [SceneCamera(K, 90, 120, one) for one in T]
    cloud = pack_scene(
        points.astype(np.float32),
        np.full((len(points), 3), 160, np.uint8),
        "m",
        lines=[],
        cameras=cameras,
        views=[SceneView(f"{row}.png", "7 points", image, camera) for row, camera in enumerate(cameras)],
        radius=2.0,
    )
    rows = [
        {
            "name": f"{row}.png",
            "rotation": "0.1°",
            "position": "1 %",
            "agree": 3,
            "contradict": 9,
            "share": 0.75,
            "part": 0,
        }
        for row in range(len(T))
    ]
    return ReconstructionPage(
        title="transforms.json",
        grade="unusable",
        finding="The poses have the camera axes of OpenCV, not the axes of the format.",
        errors={"rotation": "0.04 ± 0.01 degrees", "position": "0.2 ± 0.1 % of the extent"},
        measured_after=True,
        causes=[ShownCause("the axes", "turn the camera axes", "99% of the matches fit then, 1% now")],
        purposes=[
            ShownPurpose("splats", False, "a convention is wrong", True),
            ShownPurpose("mesh", None, "few matches"),
        ],
        details=["note: axes are converted"],
        corrected=b"PK",
        corrected_name="transforms.json: usable",
        pair=pairs,
        positions=T[:, :3, 3],
        rows=rows,
        others=pairs[:1],
        cloud=cloud,
    )


def test_the_page_of_a_verdict_looks_as_before(page: Any, tmp_path: Path) -> None:
    write_reconstruction_page(tmp_path / "verdict.html", make_verdict_page())
    page.goto((tmp_path / "verdict.html").as_uri())
    page.wait_for_selector("canvas[data-drawn]")
    photograph(page, "verdict")


def test_the_pages_of_audits_and_rigs_look_as_before(page: Any, tmp_path: Path) -> None:
    for name, file in (
        ("audit", write_audit(tmp_path / "audit") / "audit.html"),
        ("rig", write_rig(tmp_path / "rig") / "rig-check.html"),
    ):
        page.goto(file.as_uri())
        photograph(page, name)


@pytest.fixture(scope="module")
def videos_address() -> Iterator[str]:
    """A server whose videos get no map, so that their result is there after a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "load_network", make_network)
        patch.setattr(videos, "STADIA", FAILING)
        with run_server(make_app(["metres"])) as address:
            yield address


def test_a_video_and_its_shared_page_look_as_before(context: Any, videos_address: str, tmp_path: Path) -> None:
    tab = Page(context, videos_address)
    tab.drop(make_video(tmp_path / "drive.mp4"), "drive.mp4", "video/mp4")
    tab.wait_for_video()
    tab.page.wait_for_selector("#video-cloud[data-drawn]")
    with tab.page.expect_download() as started:
        tab.page.click("#video-share")
    started.value.save_as(tmp_path / "shared.html")
    photograph(tab.page, "video")
    tab.page.goto((tmp_path / "shared.html").as_uri())
    tab.page.wait_for_selector("canvas[data-drawn]")
    photograph(tab.page, "share")
    assert tab.problems == []
