"""Pictures through the server: what a page shows and offers, and that it is the truth of a world of two depths."""

import io
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from tests.web.conftest import Browser, encode, make_picture

from stadia.predict.run import MeasuredScale, find_expected_error


def test_a_picture_becomes_depth(browser: Browser) -> None:
    reply = browser.upload(encode(make_picture()))
    assert reply.status_code == 200, reply.text
    result = reply.json()
    assert (result["width"], result["height"]) == (128, 96)
    assert (result["depth_scale"], result["fov_source"]) == ("metres", "network")
    assert result["fov_deg"] == pytest.approx(64.0, abs=0.1)
    assert result["verdict"] in ("not judged", "doubtful", "unusable", "usable")
    assert result["licence"] == "CC0-1.0"
    rows, columns = result["values"]
    data = browser.client.get(f"/api/photos/{result['photo']}/values.f32").content
    values = np.frombuffer(data, "<f4").reshape(rows, columns)
    assert values[50, 100] == pytest.approx(1.0, rel=0.01)
    assert values[50, 10] == pytest.approx(20.0, rel=0.01)


@pytest.mark.slow
def test_exif_turns_the_picture_and_sets_the_field_of_view(browser: Browser) -> None:
    """26 mm of a full frame of 4:3 (34.6 mm) see 67.3 degrees along the longer side; here the camera was upright."""
    result = browser.upload(encode(make_picture(96, 128), "JPEG", focal_mm=26, orientation=6)).json()
    assert (result["width"], result["height"], result["fov_source"]) == (96, 128, "photo")
    across_mm = 34.61 * 96 / 128
    assert result["fov_deg"] == pytest.approx(2 * np.degrees(np.arctan(across_mm / 2 / 26)), abs=0.1)


@pytest.mark.slow
def test_the_field_of_view_is_chosen_and_the_picture_kept(browser: Browser) -> None:
    first = browser.upload(encode(make_picture())).json()
    again = browser.post(f"/api/photos/{first['photo']}/predict", json={"fov_deg": 90.0, "network": 1}).json()
    assert (again["photo"], again["fov_source"], again["depth_scale"]) == (first["photo"], "you", "up-to-scale")
    assert again["bar"]["unit"] == "relative"


def test_a_distance_is_that_of_the_world(browser: Browser) -> None:
    """Two pixels 60 apart at 1 m, in a camera of 90 degrees (focal length 64 px)."""
    first = browser.upload(encode(make_picture()), "?fov_deg=90").json()
    base = f"/api/photos/{first['photo']}"
    measured = browser.measure(base, (66, 10), (126, 10)).json()
    assert measured["value"] == pytest.approx(60 / 64, rel=0.02)
    assert measured["unit"] == "m"
    assert "unknown" not in measured["text"]
    assert np.ptp(measured["points"], axis=0) == pytest.approx([60 / 64, 0, 0], abs=0.05)
    assert measured["deviation"] == pytest.approx(0.125 * 60 / 64, rel=0.1)  # the mean error is .1
    refused = browser.measure(base, (66, 10), (300, 10))
    assert (refused.status_code, refused.json()["error"].count("\n")) == (422, 0)


@pytest.mark.slow
@pytest.mark.parametrize("x", [100, 0])
def test_a_known_depth_gives_metres_with_a_receipt(browser: Browser, x: int) -> None:
    photo = browser.upload(encode(make_picture()), "?network=1").json()["photo"]
    known = {"network": 1, "known": [{"kind": "point", "metres": 3.0, "x": x, "y": 50}]}
    result = browser.post(f"/api/photos/{photo}/predict", json=known).json()
    assert result["depth_scale"] == "metres"
    assert result["receipt"][0].startswith("Metres come from the depth of 3 m")
    data = browser.client.get(f"/api/photos/{result['photo']}/values.f32").content
    assert np.frombuffer(data, "<f4").reshape(result["values"])[50, x] == pytest.approx(3.0, rel=0.02)
    measured = browser.measure(f"/api/photos/{photo}", (66, 10), (126, 10)).json()
    assert "error is unknown" in measured["text"], "a known length does not measure the network"


@pytest.mark.slow
def test_every_file_is_read_back(browser: Browser) -> None:
    trimesh = pytest.importorskip("trimesh")
    result = browser.upload(encode(make_picture()), "?fov_deg=90").json()
    base = f"/api/photos/{result['photo']}/files"
    files = {name: browser.client.get(f"{base}/{name}").content for name in result["files"]}
    named = {
        "picture.png",
        "depth.png",
        "depth.npz",
        "normals.png",
        "cloud.ply",
        "cloud.glb",
        "mesh.glb",
        "verdict.json",
    }
    assert set(files) == named | {"verdict.json"}
    maps = np.load(io.BytesIO(files["depth.npz"]), allow_pickle=False)
    assert maps["depth_m"][50, 100] == pytest.approx(1.0, rel=0.01)
    assert maps["K"][0, 0] == pytest.approx(64)
    counts = cv2.imdecode(np.frombuffer(files["depth.png"], np.uint8), cv2.IMREAD_UNCHANGED)
    assert (counts.dtype, counts[50, 100]) == (np.uint16, 256)
    normals = cv2.imdecode(np.frombuffer(files["normals.png"], np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_allclose(
        normals[50, 100], (255, 128, 128), atol=2, err_msg="a plane that faces the camera is blue"
    )
    assert cv2.imdecode(np.frombuffer(files["picture.png"], np.uint8), cv2.IMREAD_COLOR).shape[1] == 256
    ply = trimesh.load(io.BytesIO(files["cloud.ply"]), file_type="ply")
    glb = trimesh.load(io.BytesIO(files["cloud.glb"]), file_type="glb")
    np.testing.assert_allclose(next(iter(glb.geometry.values())).vertices * (1, -1, -1), ply.vertices, atol=1e-5)
    assert json.loads(files["verdict.json"])["network"] == "metres"
    assert browser.client.get(f"{base}/other.txt").status_code == 422


def test_the_cloud_leaves_out_edges(browser: Browser) -> None:
    key = browser.upload(encode(make_picture())).json()["photo"]
    few, every = (
        len(browser.client.get(f"/api/photos/{key}/cloud.bin?edges={edges}").content) // 15 for edges in (0.02, 10)
    )
    assert 0 < few < every
    assert len(browser.client.get(f"/api/photos/{key}/cloud.bin?points=100").content) == 1500


@pytest.mark.slow
def test_users_do_not_see_each_other(open_browser: Callable[[], Browser]) -> None:
    one, other = open_browser(), open_browser()
    result = one.upload(encode(make_picture())).json()
    assert one.client.get(f"/api/photos/{result['photo']}/image.jpg").status_code == 200
    for path in (f"/api/photos/{result['photo']}/image.jpg", f"/api/photos/{result['photo']}/colors/depth.jpg"):
        assert other.client.get(path).status_code == 422
    assert one.session["csrf"] != other.session["csrf"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "form", [{"network": 99}, {"fov_deg": 500}, {"fov_deg": "wide"}, {"known": [{"kind": "gps", "metres": 1}]}, [], "x"]
)
def test_a_wrong_form_is_one_line(browser: Browser, form: Any) -> None:
    photo = browser.upload(encode(make_picture())).json()["photo"]
    reply = browser.post(f"/api/photos/{photo}/predict", json=form)
    assert reply.status_code == 422
    assert "Needed: " in reply.json()["error"]
    assert "\n" not in reply.json()["error"]


def test_a_calibration_gives_the_field_of_view(browser: Browser) -> None:
    reply = browser.post("/api/calibration", json={"suffix": ".txt", "text": "320 0 320\n0 320 240\n0 0 1\n"})
    assert reply.status_code == 200, reply.json()
    assert reply.json()["fov_deg"] == pytest.approx(90.0)


@pytest.mark.parametrize(
    ("suffix", "text"), [(".txt", "no matrix"), (".json", "{"), (".yaml", "a: &a [*a]"), (".exe", "x"), (".txt", "")]
)
def test_another_file_is_refused_in_a_line_without_paths(browser: Browser, suffix: str, text: str) -> None:
    reply = browser.post("/api/calibration", json={"suffix": suffix, "text": text})
    assert reply.status_code == 422
    assert "\n" not in reply.json()["error"]
    assert "stadia-app-" not in reply.json()["error"], "the folder of uploads"


@pytest.mark.slow
def test_settings_come_back_with_the_result(browser: Browser) -> None:
    photo = browser.upload(encode(make_picture()), "?network=1&name=room.png").json()["photo"]
    form = {
        "network": 1,
        "fov_deg": 80.0,
        "known": [{"kind": "distance", "metres": 2, "x": 70, "y": 9, "x2": 99, "y2": 9}],
    }
    browser.post(f"/api/photos/{photo}/predict", json=form)
    settings = browser.client.get(f"/api/photos/{photo}").json()["settings"]
    assert (settings["network"], settings["fov_deg"], settings["known"][0]["x2"]) == (1, 80.0, 99)
    measured = browser.measure(f"/api/photos/{photo}", (70, 9), (99, 9)).json()
    assert measured["value"] == pytest.approx(2.0, rel=0.02)
    assert browser.client.get("/api/results").json()["results"][0]["name"] == "room.png"


@pytest.mark.slow
def test_a_failed_scale_keeps_the_result_and_speaks_no_command_line(browser: Browser) -> None:
    photo = browser.upload(encode(make_picture()), "?network=1").json()["photo"]
    sky = {"kind": "distance", "metres": 2, "x": 5, "y": 5, "x2": 5, "y2": 5}
    refused = browser.post(f"/api/photos/{photo}/predict", json={"network": 1, "known": [sky]})
    assert refused.status_code == 422
    assert not any(word in refused.json()["error"] for word in ("--", "distance=", "docs/"))
    assert browser.client.get(f"/api/photos/{photo}").json()["settings"]["known"] == []


def test_a_picture_at_the_limit_of_familiarity_is_doubtful() -> None:
    """A score of exactly 0 is a score: larger than the limit, and no missing one."""
    network = SimpleNamespace(relative_error=0.25, label="base")
    session: Any = SimpleNamespace(
        network=network, receipt=None, count=1, scale=MeasuredScale(Mock(), Mock(), strangeness=0.0)
    )
    assert find_expected_error(session).is_doubtful
    session.scale = MeasuredScale(Mock(), Mock())
    assert not find_expected_error(session).is_doubtful
