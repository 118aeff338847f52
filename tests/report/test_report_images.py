"""Images of the report: predicted depth with its scale, drawn predictions, and points of a scored frame."""

import base64
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.report.conftest import build_page, build_words, write_json, write_scores

from stadia.core.types import DepthScale
from stadia.evaluation.point_clouds import write_cloud_sample
from stadia.report.embedded_images import embed_predicted_depth
from stadia.report.point_cloud_figures import PointCloudFigure, load_point_clouds
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
