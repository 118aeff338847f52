"""Points of a scored frame in the report: what is kept of the frame, the still, and that the page's script draws the
same.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from stadia import report
from stadia.core.types import DepthScale
from stadia.evaluation.io.point_clouds import MAX_SAMPLE_PIXELS, write_cloud_sample
from stadia.report import report_images
from stadia.report.run_files import read_run

K = np.array([[60.0, 0, 47.5], [0, 60, 23.5], [0, 0, 1]])
RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)
NODE = shutil.which("node")


def keep(run: Path, *, name: str = "drive/000012", depth_scale: DepthScale = DepthScale.METRES) -> Path:
    """A green floor 1.5 m below the camera, before a red wall at 12 m, under a sky at 900 m."""
    row = np.arange(48.0)[:, None].repeat(96, axis=1)
    depth = np.where(row > 31.5, 1.5 * 60 / np.maximum(row - 23.5, 1e-3), 12.0)
    image = np.where((row > 31.5)[..., None], GREEN, RED).astype(np.uint8)
    depth[:8], image[:8] = 900.0, BLUE
    write_cloud_sample(run / "clouds" / "val", name, depth_scale, image, depth, K)
    return run / "clouds" / "val"


def only(run: Path) -> report_images.PointCloudFigure:
    (found,) = report_images.load_point_clouds(read_run(run))
    return found


def points(folder: Path) -> report_images.CloudPoints:
    return report_images._read_points(folder, json.loads((folder / "camera.json").read_text()), folder)


def test_points_come_back_where_they_were(make_run) -> None:
    folder = keep(make_run())
    xyz = points(folder).xyz
    assert len(xyz) == 40 * 96, "the sky is left out"
    wall, floor = xyz[: 24 * 96], xyz[24 * 96 :]
    assert np.allclose(wall[:, 2], 12, atol=1e-3)
    assert np.allclose(floor[:, 1], 1.5, atol=1e-3)
    assert np.ptp(wall[:, 0]) == pytest.approx(95 / 60 * 12, rel=1e-3)


def test_masked_sky_is_no_point(tmp_path: Path) -> None:
    """Sky that was predicted near would hang over the street."""
    depth = np.full((48, 96), 12.0)
    depth[:30] = 0
    write_cloud_sample(tmp_path, "f", DepthScale.METRES, np.zeros((48, 96, 3), np.uint8), depth, K)
    assert len(points(tmp_path).xyz) == 18 * 96


def test_a_large_frame_is_thinned(tmp_path: Path) -> None:
    fine = K.copy()
    fine[:2] *= 8
    write_cloud_sample(
        tmp_path, "f", DepthScale.METRES, np.zeros((384, 768, 3), np.uint8), np.full((384, 768), 5.0), fine
    )
    found = points(tmp_path)
    assert 0.4 * MAX_SAMPLE_PIXELS < found.depth.size <= MAX_SAMPLE_PIXELS
    assert np.ptp(found.xyz[:, 0]) == pytest.approx(768 / 480 * 5, rel=0.01)


def test_the_page_holds_the_points_and_says_their_unit(make_run) -> None:
    run = make_run()
    keep(run)
    cloud, text = only(run), report.build_report(run).read_text()
    assert cloud.points in text
    assert (
        "val: drive/000012: 3840 points with predicted depth. The axes are its camera's, each 2.00 m long."
        in " ".join(text.split())
    )
    keep(run, depth_scale=DepthScale.UP_TO_SCALE)
    assert "no metre" in only(run).axis


def test_still_image_of_a_point_cloud(make_run) -> None:
    still = report_images.draw_point_cloud(points(keep(make_run())))
    row = {color: np.nonzero((still == color).all(-1))[0] for color in (RED, GREEN, BLUE)}
    assert len(row[RED]) > 5000
    assert len(row[GREEN]) > 5000
    assert len(row[BLUE]) == 0
    assert np.median(row[RED]) < np.median(row[GREEN]), "from above, what is farther is higher"


def test_a_name_is_text(make_run) -> None:
    run = make_run()
    keep(run, name='"><script>alert(1)</script>')
    assert "<script>alert" not in report.build_report(run).read_text()


def damage(folder: Path, what: str) -> None:
    about = json.loads((folder / "camera.json").read_text())
    if what == "camera":
        (folder / "camera.json").write_text(json.dumps(about | {"depth_per_count": float("nan")}))
    elif what == "matrix":
        (folder / "camera.json").write_text(json.dumps(about | {"K": [1, 2, 3]}))
    elif what == "size":
        cv2.imwrite(str(folder / "depth.png"), np.ones((48, 95), np.uint16))
    elif what == "large":
        cv2.imwrite(str(folder / "depth.png"), np.ones((300, 300), np.uint16))
        cv2.imwrite(str(folder / "image.png"), np.ones((300, 300, 3), np.uint8))
    elif what == "empty":
        cv2.imwrite(str(folder / "depth.png"), np.zeros((48, 96), np.uint16))
    else:
        (folder / "image.png").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["camera", "matrix", "size", "large", "empty", "no image"])
def test_invalid_point_clouds_are_listed(make_run, what: str) -> None:
    run = make_run()
    damage(keep(run), what)
    text = report.build_report(run).read_text()
    assert "Not read: clouds/val: " in text
    assert "<canvas" not in text


GLUE = """
const fs = require("fs"), given = JSON.parse(fs.readFileSync(0)), view = given.view, size = 960 * 480;
const pixels = new Uint8ClampedArray(4 * size);
const points = pointsOf(Uint8Array.from(Buffer.from(given.points, "base64")), view);
draw(points, view, pixels, new Float64Array(size), 960, 480);
process.stdout.write(Buffer.from(pixels).toString("base64"));
"""


@pytest.mark.skipif(NODE is None, reason="runs the page's script, which needs node")
def test_the_script_draws_the_still(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_images, "_draw_axes", lambda image, view: None)
    run = make_run()
    folder, script = keep(run), (Path(report_images.__file__).parent / "templates" / "cloud.js").read_text()
    cloud = only(run)
    given = json.dumps({"view": json.loads(cloud.view), "points": cloud.points})
    done = subprocess.run(
        [str(NODE), "-e", script + GLUE], input=given, capture_output=True, text=True, check=True, timeout=60
    )
    seen = np.frombuffer(base64.b64decode(done.stdout), np.uint8).reshape(480, 960, 4)
    differs = (seen[..., :3] != report_images.draw_point_cloud(points(folder))).any(-1)
    assert differs.mean() < 1e-3
    assert (seen[..., 3] == 255).all()
