"""Images of the report: predicted depth with its scale, drawn predictions, and points of a scored frame."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.report.conftest import build_page, build_words, write_json, write_scores

from stadia.core.types import DepthScale
from stadia.evaluation.point_clouds import MAX_SAMPLE_PIXELS, write_cloud_sample
from stadia.report.report_page import TEMPLATE_FOLDER, PointCloudFigure, embed_predicted_depth, load_point_clouds
from stadia.report.run_files import read_run

# -- Predicted depth, and drawn predictions.


def write_prediction(folder: Path, depth: np.ndarray, **changes: object) -> None:
    (folder / "depth").mkdir(parents=True)
    cv2.imwrite(str(folder / "depth" / "000001.png"), depth)
    record = {"recipe": "selfsup", "finished": True, "source": f"kitti/{folder.name}", "entries": ["000000", "000001"]}
    write_json(folder / "predictions.json", record | changes)


def test_scored_depth_is_shown(make_run):
    """Near is bright, none is black; a baseline, half-written predictions and names that leave the folder are not
    shown.
    """
    folder = make_run(without=("images", "findings.jsonl"))
    depth = np.full((20, 40), 80 * 256, np.uint16)
    depth[10:], depth[:, :4] = 2 * 256, 0
    write_prediction(folder / "predictions" / "val" / "06", depth)
    write_prediction(folder / "predictions" / "test-mean" / "06", depth, recipe="mean-depth", source="mean")
    write_prediction(folder / "predictions" / "val" / "07", depth, finished=False)
    write_prediction(folder / "predictions" / "val" / "08", depth, entries=["../../../../config"])
    run = read_run(folder)
    (shown,) = embed_predicted_depth(run)
    jpeg = np.frombuffer(base64.b64decode(shown.depth.uri.partition(",")[2]), np.uint8)
    image = cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)
    assert (shown.frame, shown.picture) == ("kitti/06/000001", None)
    assert image[15, 30] > 150 > image[3, 30] > image[15, 1]
    assert [line.split(":")[0] for line in run.unreadable] == ["predictions/val/08/predictions.json"]
    words = build_words(folder)
    assert "kitti/06/000001" in words
    assert "Depth of frames that were scored, bright is near" in words
    words = build_words(write_scores(folder, {}))
    assert "Predicted depth, not scored, bright is near" in words
    assert "that were scored" not in words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth_scale", "labels", "unit"),
    [("metres", ["2", "5", "10", "∞"], "metres"), ("up-to-scale", ["1", "2", "5", "∞"], "relative")],
)
def test_depth_has_its_picture_and_a_color_scale(make_run, depth_scale, labels, unit):
    folder = make_run(without=("images", "findings.jsonl"))
    where = folder / "predictions" / "val" / "06"
    write_prediction(where, np.full((20, 40), 2 * 256, np.uint16), depth_scale=depth_scale)
    (where / "images").mkdir()
    cv2.imwrite(str(where / "images" / "000001.png"), np.full((20, 40, 3), 90, np.uint8))
    (shown,) = embed_predicted_depth(read_run(folder))
    assert [label for _, label in shown.ticks] == labels
    assert shown.ticks[1][0] == pytest.approx(100 * (1 - float(labels[0]) / float(labels[1])))
    page = build_page(folder)
    assert 'alt="picture of kitti/06/000001"' in page
    assert f"kitti/06/000001. Depth: {unit}" in page
    assert "linear-gradient(to right, rgb(252, 253, 191)" in page


# -- Points of a scored frame.

K = np.array([[60.0, 0, 47.5], [0, 60, 23.5], [0, 0, 1]])
RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)


def keep(run: Path, *, name: str = "drive/000012", depth_scale: DepthScale = DepthScale.METRES) -> Path:
    """A green floor 1.5 m below the camera, before a red wall at 12 m, under a sky at 900 m."""
    row = np.arange(48.0)[:, None].repeat(96, axis=1)
    depth = np.where(row > 31.5, 1.5 * 60 / np.maximum(row - 23.5, 1e-3), 12.0)
    image = np.where((row > 31.5)[..., None], GREEN, RED).astype(np.uint8)
    depth[:8], image[:8] = 900.0, BLUE
    write_cloud_sample(run / "clouds" / "val", name, depth_scale, image, depth, K)
    return run / "clouds" / "val"


def load(run: Path) -> PointCloudFigure:
    (cloud,) = load_point_clouds(read_run(run))
    return cloud


def unpack(cloud: PointCloudFigure) -> np.ndarray:
    """Return the points (N, 3) of the page's data, in the camera's frame."""
    view = json.loads(cloud.view)
    size = view["rows"] * view["columns"]
    depth = np.frombuffer(base64.b64decode(cloud.points), "<u2", size).reshape(view["rows"], view["columns"])
    row, column = np.nonzero(depth)
    z = depth[row, column] * view["perCount"]
    return np.stack([(column - view["cx"]) / view["fx"] * z, (row - view["cy"]) / view["fy"] * z, z], axis=1)


def test_points_come_back_where_they_were(make_run) -> None:
    run = make_run()
    keep(run)
    xyz = unpack(load(run))
    assert len(xyz) == 40 * 96, "the sky is left out"
    wall, floor = xyz[: 24 * 96], xyz[24 * 96 :]
    assert np.allclose(wall[:, 2], 12, atol=1e-3)
    assert np.allclose(floor[:, 1], 1.5, atol=1e-3)
    assert np.ptp(wall[:, 0]) == pytest.approx(95 / 60 * 12, rel=1e-3)


def test_masked_sky_is_no_point_and_a_large_frame_is_thinned(make_run) -> None:
    """Sky that was predicted near would hang over the street."""
    run, fine = make_run(), K.copy()
    fine[:2] *= 8
    depth = np.full((384, 768), 5.0)
    depth[:192] = 0
    write_cloud_sample(run / "clouds" / "val", "f", DepthScale.METRES, np.zeros((384, 768, 3), np.uint8), depth, fine)
    xyz = unpack(load(run))
    assert 0.2 * MAX_SAMPLE_PIXELS < len(xyz) <= 0.5 * MAX_SAMPLE_PIXELS
    assert xyz[:, 1].min() > -0.1
    assert np.ptp(xyz[:, 0]) == pytest.approx(768 / 480 * 5, rel=0.01)


@pytest.mark.slow
def test_the_page_holds_the_points_and_their_unit(make_run) -> None:
    run = make_run()
    keep(run, name='"><script>alert(1)</script>')
    page = build_page(run)
    assert load(run).points in page
    assert "<script>alert" not in page, "a name is text"
    keep(run)
    assert "val: drive/000012, with predicted depth." in build_words(run)
    assert load(run).unit == "m"
    keep(run, depth_scale=DepthScale.UP_TO_SCALE)
    assert load(run).unit == "units of depth"


def damage(folder: Path, what: str) -> None:
    about = json.loads((folder / "camera.json").read_text())
    if what == "camera":
        write_json(folder / "camera.json", about | {"depth_per_count": float("nan")})
    elif what == "matrix":
        write_json(folder / "camera.json", about | {"K": [1, 2, 3]})
    elif what == "size":
        cv2.imwrite(str(folder / "depth.png"), np.ones((48, 95), np.uint16))
    elif what == "large":
        cv2.imwrite(str(folder / "depth.png"), np.ones((300, 300), np.uint16))
        cv2.imwrite(str(folder / "image.png"), np.ones((300, 300, 3), np.uint8))
    elif what == "empty":
        cv2.imwrite(str(folder / "depth.png"), np.zeros((48, 96), np.uint16))
    else:
        (folder / "image.png").unlink()


@pytest.mark.parametrize("what", ["camera", "matrix", "size", "large", "empty", "no image"])
def test_invalid_point_clouds_are_listed(make_run, what: str) -> None:
    folder = make_run()
    damage(keep(folder), what)
    run = read_run(folder)
    assert load_point_clouds(run) == []
    assert run.unreadable[0].startswith("clouds/val: ")


SCRIPT = """
const given = JSON.parse(require("fs").readFileSync(0)), view = given.view;
const [positions, colors] = pointsOf(Uint8Array.from(Buffer.from(given.points, "base64")), view);
const rows = projectionOf({ target: [0, 0, 2], yaw: 0.3, pitch: 0.35, distance: 4 }, 480);
const drawn = [];
for (let i = 0; i < positions.length; i += 3) {
  const point = [...positions.slice(i, i + 3), 1];
  const [x, y, z] = rows.map((row) => point.reduce((sum, value, k) => sum + row[k] * value, 0));
  drawn.push([x / z, y / z, z, ...colors.slice(i, i + 3)]);
}
process.stdout.write(JSON.stringify(drawn));
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="runs the page's scripts, which needs node")
def test_the_scripts_place_the_points(make_run) -> None:
    run = make_run()
    keep(run)
    cloud, folder = load(run), TEMPLATE_FOLDER.parent
    parts = [(folder / name).read_text() for name in ("shared/points.js", "templates/report.js")]
    script = "const document = { querySelectorAll: () => [] };\n" + "\n".join(parts).replace("export ", "") + SCRIPT
    given = json.dumps({"view": json.loads(cloud.view), "points": cloud.points})
    done = subprocess.run(["node", "-e", script], input=given, capture_output=True, text=True, check=True, timeout=600)
    drawn = np.array(json.loads(done.stdout))
    assert (drawn[:, 2] > 0).all(), "in front of the eye"
    height = {color: drawn[(drawn[:, 3:] == color).all(-1), 1] for color in (RED, GREEN, BLUE)}
    assert min(len(height[RED]), len(height[GREEN])) > 500
    assert len(height[BLUE]) == 0
    assert np.median(height[RED]) < np.median(height[GREEN]), "from above, what is farther is higher"
