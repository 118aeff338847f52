"""The page that a user shares: one file that loads nothing, with what its reader needs to rely on it."""

import base64
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from tests.web.conftest import Browser, encode, make_picture

from stadia.web.share_page import draw_shapes


def share(browser: Browser, result: Any, query: str = "") -> str:
    reply = browser.client.get(f"/api/photos/{result['photo']}/share{query}")
    assert reply.headers["content-disposition"] == 'attachment; filename="stadia-result.html"', reply.text
    return reply.text


@pytest.mark.slow
def test_a_shared_picture_has_verdict_camera_licence_and_distance(browser: Browser) -> None:
    """Two pixels 60 apart at 1 m, in a camera of 90 degrees (focal length 64 px)."""
    result = browser.upload(encode(make_picture()), "?fov_deg=90").json()
    items = [
        {"kind": "length", "points": [[66, 10], [126, 10]]},
        {"kind": "angle", "points": [[80, 9], [90, 9], [90, 5]]},
    ]
    page = share(browser, result, f"?{urlencode({'form': json.dumps({'items': items})})}")
    assert result["verdict"] == "not judged"
    assert f'<p class="word">Depth {result["chip"]}</p>' in page, "the error stands in the place of the verdict"
    for text in ("CC0-1.0", "90.0° from left to right, chosen by hand", "focal lengths 64, 64", "128x96 pixels"):
        assert text in page
    distance = re.search(r"Distance ([\d.]+) ± [\d.]+ m, of", page)
    assert distance is not None
    assert float(distance[1]) == pytest.approx(60 / 64, rel=0.02)
    assert re.search(r"Angle 90(?:\.0)? ± [\d.]+°<", page)
    assert page.count("data:image/jpeg") == 2
    assert not re.search(r"(?:src|href)=[\"'](?!data:)", page), "the page loads nothing"


@pytest.mark.slow
def test_points_of_a_shared_picture_lie_in_the_world(browser: Browser) -> None:
    """The far half, 20 times as deep as the median, and the edge between both are left out."""
    page = share(browser, browser.upload(encode(make_picture()), "?fov_deg=90").json())
    view = json.loads(re.search(r'data-view="([^"]*)"', page)[1].replace("&#34;", '"'))
    data = base64.b64decode(re.search(r'data-points="([^"]*)"', page)[1])
    rows, columns = view["rows"], view["columns"]
    depth = np.frombuffer(data[: 2 * rows * columns], "<u2").reshape(rows, columns) * view["perCount"]
    assert (rows, columns, view["fx"]) == (96, 128, pytest.approx(64))
    assert depth[50, 100] == pytest.approx(1.0, rel=0.01)
    assert depth[50, 64] == 0


def test_text_of_a_shared_page_is_escaped_and_names_no_folder(tmp_path: Path) -> None:
    from stadia.report.result_page import ResultPage, render_result

    image = np.zeros((32, 48, 3), np.uint8)
    lines = ["<script>mug</script>", f"fix: stadia train --config {tmp_path}/secret/one/config.json"]
    page = render_result(
        ResultPage(
            title="Depth", images=[("Picture", image)], verdict="usable", lines=lines, trust="", depth_scale="metres",
            facts={"Network": "<b>run</b>"},
        )
    )  # fmt: skip
    assert "&lt;script&gt;mug" in page
    assert "&lt;b&gt;run" in page
    assert "secret" not in page, "a shared page names no folder of the machine"


def test_labels_of_lengths_at_one_place_cover_none_of_each_other() -> None:
    """Two labels at the same place take twice the white of one."""
    image = np.full((300, 400, 3), 90, np.uint8)
    lengths = [("length", [(200, 150), (201, 150)], "1.23 ± 0.4 m")] * 3
    white = [int((draw_shapes(image, lengths[:count]) == 255).all(2).sum()) for count in (0, 1, 2, 3)]
    added = np.diff(white)
    assert added[1] > 0.9 * added[0]
    assert added[2] > 0.9 * added[0]
