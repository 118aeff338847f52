"""`stadia map` writes a map that others read, states why there is none, and keeps files of the user."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from tests.refusals import refuses
from tests.sfm.textured_room import TexturedRoom, find_arc_pose, write_images

from stadia.batches.ledger import read_rows
from stadia.batches.video_batch import VideoResult
from stadia.core.errors import DataError
from stadia.core.progress import no_progress
from stadia.data.config import DatasetConfig
from stadia.data.frame_selection import KeyFrames
from stadia.data.open_dataset import open_recordings
from stadia.data.video.video_map import (
    find_map,
    find_map_folder,
    find_mapped_camera,
    find_usable_map,
    read_map,
    read_map_geometry,
    read_mapped_camera,
)
from stadia.io.records.read import read_kitti_trajectory
from stadia.io.video_decoding import hash_source
from stadia.sfm.frame_stream import MAX_FRAMES, FrameStream, SmallFrame
from stadia.sfm.map_batch import MapBatchRequest, map_videos
from stadia.sfm.map_files import MOVABLE_SIDE_PX, VideoMap, write_map
from stadia.sfm.map_parts import STANDING_PAIRS, CameraEstimate, check_motion
from stadia.sfm.map_video import hold_stages
from stadia.sfm.sparse_map import FrameStatus, LensCamera, PlacedFrame, SparseMap, place_frames
from stadia.training.recipes.selfsup.recipe import find_reason_against

pytest.importorskip("pycolmap", reason="the extra `map` is not installed")


FRAMES = 16
POSES = [find_arc_pose(23 * index / (FRAMES - 1)) for index in range(FRAMES)]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a room from a camera that moves and turns; K is 300, 159.5, 99.5."""
    folder, view = tmp_path_factory.mktemp("map") / "room", TexturedRoom()
    return write_images(folder, [view.draw(*pose) for pose in POSES])


@pytest.mark.slow
def test_each_video_of_a_list_gets_a_map_and_one_without_motion_fails_alone(room: Path, tmp_path: Path) -> None:
    still = tmp_path / "still"
    shutil.copytree(room, tmp_path / "moving")
    still.mkdir()
    for index in range(4):
        shutil.copy(room / "000000.png", still / f"{index:06d}.png")
    (tmp_path / "list.txt").write_text("moving\nstill\n")
    request = MapBatchRequest(source=tmp_path / "list.txt", out=tmp_path / "maps", workers=0)
    failures = list[str]()
    done = map_videos(request, no_progress, failures.append)
    assert (done.done, done.failed) == (1, 1)
    assert failures[0].startswith("failed: still: ")
    (row,) = (row for row in read_rows(str(tmp_path / "maps"), VideoResult) if row.state == "done")
    assert (row.video, row.frames) == ("moving", FRAMES)
    assert read_map(tmp_path / "maps" / "moving").verdict.grade == row.verdict
    assert map_videos(request, no_progress, failures.append).before == 1


@pytest.mark.parametrize(
    ("error", "stays"), [(None, False), (RuntimeError, False), (KeyboardInterrupt, True)], ids=["done", "error", "stop"]
)
def test_stages_stay_for_the_next_call_only_after_an_interruption(tmp_path, error, stays):
    """An error may come from a damaged stage, so the next call starts without them."""
    work = tmp_path / "map-0"
    with contextlib.suppress(error or ValueError), hold_stages(work) as stages:
        (stages / "keys.json").write_text("{")
        if error is not None:
            raise error
    assert (work / "keys.json").exists() == stays


@pytest.mark.slow
def test_a_known_camera_gives_the_path_up_to_scale(stadia, room):
    """The second map takes the place of the first, and no other folder's."""
    out = find_map_folder(room)
    out.mkdir()
    (out / "letter.txt").write_text("of the user")
    code, _, err = stadia("map", room, "data.camera.focal_px=300")
    assert (code, "found letter.txt in it" in err) == (2, True)
    (out / "letter.txt").unlink()
    write_record(out)
    code, printed, err = stadia("map", room, "data.camera.focal_px=300", "--views")
    assert code == 0, err
    assert find_map(room).camera.origin == "given"
    assert not list(out.parent.glob(".*"))
    assert f"{FRAMES} of {FRAMES} frames placed" in printed
    assert "focal length 300 px, given" in printed
    found = read_map(out)
    np.testing.assert_allclose(found.poses[0], np.eye(4), atol=1e-9)
    steps = np.diff(found.poses[:, :3, 3], axis=0)
    expected = np.diff([center for _, center in POSES], axis=0)
    lengths, true_lengths = np.linalg.norm(steps, axis=1), np.linalg.norm(expected, axis=1)
    np.testing.assert_allclose(lengths / lengths.sum(), true_lengths / true_lengths.sum(), atol=0.004)
    points = found.read_points()
    assert len(points["points"]) == len(points["relative_deviation"]) > 100
    assert points["observed"].max(0)[0] < len(points["frames"])
    rows = read_kitti_trajectory(out / "trajectory.txt")
    assert rows.frame_numbers.tolist() == list(range(FRAMES))
    assert cv2.imread(str(out / "trajectory.png")).std() > 10, "the path is drawn"
    pycolmap = pytest.importorskip("pycolmap")
    for folder in (out / "colmap", out / "views" / "sparse" / "0"):
        model = pycolmap.Reconstruction(str(folder))
        assert model.num_points3D() == len(points["points"])
        assert model.compute_mean_reprojection_error() < 1
        assert (folder / "points3D.bin").is_file()
    views = json.loads((out / "views" / "transforms.json").read_text())
    assert (views["fl_x"], views["w"], len(views["frames"])) == (pytest.approx(300), 320, model.num_reg_images())
    images = {f"images/{image.name}": image for image in model.images.values()}
    for view in views["frames"]:
        assert (out / "views" / view["file_path"]).is_file()
        image = images[view["file_path"]]
        T = np.linalg.inv(np.vstack([image.cam_from_world().matrix(), (0, 0, 0, 1)])) @ np.diag([1, -1, -1, 1])
        np.testing.assert_allclose(view["transform_matrix"], T, atol=1e-6)


STANDING, SKY = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8), np.full((96, 128, 3), 200, np.uint8)


@pytest.mark.parametrize(("image", "words"), [(STANDING, "images that hardly move"), (SKY, "without detail")])
def test_a_video_without_a_map_gets_the_reason(stadia, tmp_path, monkeypatch, image, words):
    monkeypatch.setenv("STADIA_CACHE", str(tmp_path / "cache"))
    folder = write_images(tmp_path / "images", [image + number // 3 for number in range(6)])
    code, out, err = stadia("map", folder)
    assert (code, out) == (2, "")
    assert words in err
    assert "Fix: " in err
    assert not find_map_folder(folder).exists()
    assert not list((tmp_path / "cache").glob("map-*"))


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 3])
def test_a_standing_camera_is_noticed_by_a_few_key_frames(tmp_path, step):
    """A square moves in each image, so that all are keyframes; with a step, the camera moves too."""
    random = np.random.default_rng(0)
    wall = cv2.resize(random.integers(0, 255, (60, 120, 3), np.uint8), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    images = [np.ascontiguousarray(wall[:200, step * row : step * row + 300]) for row in range(40)]
    for row, image in enumerate(images):
        image[80:120, 4 * row : 4 * row + 40] = wall[200:240, 200:240]
    stream = FrameStream.open(write_images(tmp_path / "images", images))
    work = tmp_path / "work"
    work.mkdir()
    if step:
        check_motion(stream, list(range(40)), work, None)
    else:
        with pytest.raises(DataError, match="stands"):
            check_motion(stream, list(range(40)), work, None)
    assert len(list(work.iterdir())) <= 2 * STANDING_PAIRS


def write_record(folder: Path, origin: str = "given", **changes: object) -> Path:
    camera = {"origin": origin, "focal_px": 300, "center_px": [10, 10], "distortion": [0, 0, 0, 0]}
    camera |= {"height": 20, "width": 20}
    frame = {"index": 0, "name": "0", "status": "key", "T_world_camera": np.eye(4)[:3].tolist()}
    images = folder.with_suffix("")
    fingerprint = hash_source(images) if folder.suffix == ".map" else ""
    record = {"format": "stadia-map", "fingerprint": fingerprint, "camera": camera, "frames": [frame], "files": {}}
    (folder / "map.json").write_text(json.dumps(record | changes))
    return folder


def test_a_record_is_read_and_checked(tmp_path):
    assert read_map(write_record(tmp_path)).camera.intrinsics.K[0, 0] == 300
    with refuses(DataError, where="map.json", found="other"):
        read_map(write_record(tmp_path, format="other"))
    for rows in ([[1, 2]], (2 * np.eye(4)[:3]).tolist()):
        frame = {"index": 0, "name": "0", "status": "key", "T_world_camera": rows}
        with refuses(DataError, where="map.json", found="0"):
            read_map(write_record(tmp_path, frames=[frame]))
    frame = {"index": 1, "name": "1", "status": "key", "T_world_camera": None}
    with refuses(DataError, where="map.json", found=("1", "0")):
        read_map(write_record(tmp_path, frames=[frame]))


def make_images(folder: Path) -> Path:
    folder.mkdir()
    for index in range(2):
        cv2.imwrite(str(folder / f"{index}.png"), np.random.default_rng(index).integers(0, 255, (20, 20, 3), np.uint8))
    return folder


@pytest.mark.parametrize("camera", [{}, "estimate"])
def test_the_camera_of_a_map_is_used_where_its_motion_determines_one(tmp_path, camera):
    images = make_images(tmp_path / "images")
    with refuses(DataError, where="images"):
        open_recordings(images, stride=1, camera=camera)
    find_map_folder(images).mkdir()
    write_record(find_map_folder(images))
    (recording,) = open_recordings(images, stride=1, camera=camera)
    np.testing.assert_allclose(recording.K(0), [[300, 0, 10], [0, 300, 10], [0, 0, 1]])


def test_a_camera_that_the_motion_does_not_determine_is_not_used(tmp_path):
    images = make_images(tmp_path / "images")
    find_map_folder(images).mkdir()
    write_record(find_map_folder(images), origin="uncertain")
    with refuses(DataError, where="images"):
        open_recordings(images, stride=1)
    with refuses(DataError, where="images.map"):
        open_recordings(images, stride=1, camera="estimate")
    (images / "K.txt").write_text("9 0 1\n0 9 1\n0 0 1")
    assert open_recordings(images, stride=1)[0].K(0)[0, 0] == 9


@pytest.mark.parametrize(("grade", "is_used"), [("unusable", False), ("doubtful", True)])
def test_an_unusable_map_gives_no_camera_no_points_and_no_motion(tmp_path, grade, is_used):
    images = make_images(tmp_path / "images")
    find_map_folder(images).mkdir()
    write_record(find_map_folder(images), verdict={"grade": grade, "reasons": [{"field": "contradicted"}]})
    assert (find_usable_map(images) is not None, find_mapped_camera(images) is not None) == (is_used, is_used)

    def use_motion(source):
        return find_reason_against(DatasetConfig(path=str(source), camera={"focal_px": 300}, offsets=(-1, 1)))

    if is_used:
        assert use_motion(images) is None
        return
    for use, fix in (
        (use_motion, "motion=network"),
        (read_mapped_camera, "another part"),
        (lambda source: read_map_geometry(source, [0], 15.0), "another part"),
    ):
        with refuses(DataError, where="images.map", found="contradicted", fix=fix):
            use(images)


def test_the_map_of_another_video_is_refused(tmp_path):
    images = make_images(tmp_path / "images")
    folder = find_map_folder(images)
    folder.mkdir()
    write_record(folder)
    cv2.imwrite(str(images / "2.png"), np.zeros((20, 20), np.uint8))
    for use in (find_map, lambda source: open_recordings(source, stride=1, poses="map")):
        with refuses(DataError, where="images.map"):
            use(images)
    video = tmp_path / "images.mp4"
    video.write_bytes(b"frames")
    with refuses(DataError, where="images.map", expected="images.mp4"):
        find_map(video)
    assert find_map(tmp_path / "images.mov") is None, "a file that does not exist has no map"
    photo = tmp_path / "images.jpg"
    photo.write_bytes(b"photo")
    assert find_map(photo) is None, "a photo has no map"


LENS = LensCamera(40.0, (31.5, 23.5), (0, 0, 0, 0), 48, 64)


def make_sparse(keys: list[int]) -> SparseMap:
    """A wall four units away that a camera passes, .1 a frame to the right."""
    points = np.column_stack((np.linspace(-1, 1, 9), np.linspace(-0.5, 0.5, 9), np.full(9, 4.0)))
    T = np.tile(np.eye(4), (len(keys), 1, 1))
    T[:, 0, 3] = -0.1 * np.array(keys)
    observed = np.array([(row, point) for row in range(len(keys)) for point in range(9)])
    xy = np.concatenate([LENS.project(points + T[row, :3, 3]) for row in range(len(keys))])
    return SparseMap(LENS, np.array(keys), T, points, np.zeros((9, 3), np.uint8), observed, xy)


def make_map(folder: Path) -> tuple[FrameStream, VideoMap]:
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), np.random.default_rng(index).integers(0, 255, (48, 64, 3), np.uint8))
    sparse = make_sparse([0, 1, 2])
    placed = [PlacedFrame(row, str(row), None, FrameStatus.KEY, sparse.T_camera_world[row]) for row in range(3)]
    estimate = CameraEstimate(LENS, "given", None)
    return FrameStream.open(folder), VideoMap(estimate, sparse, placed, KeyFrames(frames=3), None)


def test_depth_of_views_is_in_the_unit_of_the_map_as_nerfstudio_reads_it(tmp_path, monkeypatch):
    """A wall four units away: depth is 4 whatever scale the network has; nerfstudio multiplies by .001."""
    monkeypatch.setattr("stadia.sfm.map_files.MIN_DEPTH_POINTS", 5)
    stream, found = make_map(tmp_path / "images")
    seen = []

    def predict_depth(image, K):
        seen.append((image.shape, K[0, 0]))
        return np.full(image.shape[:2], 7.0 * len(seen), np.float32)

    write_map(tmp_path / "drive.map", stream, found, has_views=True, predict_depth=predict_depth)
    views = tmp_path / "drive.map" / "views"
    frames = json.loads((views / "transforms.json").read_text())["frames"]
    assert seen == [((48, 64, 3), 40.0)] * 3
    for frame in frames:
        depth = np.load(views / frame["depth_file_path"])
        assert depth.shape == (48, 64)
        np.testing.assert_allclose(0.001 * depth, 4.0, rtol=1e-6)
    monkeypatch.setattr("stadia.sfm.map_files.MIN_DEPTH_POINTS", 50)
    write_map(tmp_path / "drive.map", stream, found, has_views=True, predict_depth=predict_depth)
    assert not any(
        "depth_file_path" in frame for frame in json.loads((views / "transforms.json").read_text())["frames"]
    )


@pytest.mark.parametrize("k1", [-0.15, 0.15])
def test_a_map_keeps_what_its_masks_call_movable_where_a_training_sees_it(tmp_path, monkeypatch, k1):
    """The distortion that the map found is gone from frames and masks; frame 2 has no mask."""
    stream, found = make_map(tmp_path / "images")
    found = replace(found, estimate=CameraEstimate(replace(LENS, distortion=(k1, 0, 0, 0)), "estimated", None))
    car = np.zeros((48, 64), bool)
    car[28:44, 3:13] = True
    cv2.imwrite(str(tmp_path / "images" / "1.png"), np.uint8(200) * car)
    monkeypatch.setattr(FrameStream, "find_movable", lambda stream, index: {0: car & False, 1: car}.get(index))
    write_map(tmp_path / "images.map", stream, found)
    assert find_map(tmp_path / "images").open_movable() is None
    write_map(tmp_path / "images.map", replace(stream, masks=SimpleNamespace()), found)
    (recording,) = open_recordings(tmp_path / "images", poses="map", stride=1, cache={"enabled": False})
    seen, movable = recording.image(1)[..., 0] > 100, recording.map_movable(1)
    assert 0.98 < (seen & movable).sum() / seen.sum() <= movable.sum() / seen.sum() < 1.4
    assert (seen & car).sum() < 0.9 * seen.sum(), "the frame as filmed has the car elsewhere"
    assert not (recording.map_movable(0) | recording.map_movable(2)).any()
    assert find_map(tmp_path / "images").open_movable().values is None, "a frame is read at a time"
    assert MAX_FRAMES * MOVABLE_SIDE_PX**2 / 8 < 1 << 31, "a zip archive is read up to this size"


def test_an_earlier_map_stays_until_the_new_one_is_complete(tmp_path, monkeypatch):
    stream, found = make_map(tmp_path / "images")
    folder = tmp_path / "drive.map"
    write_map(folder, stream, found)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("stadia.sfm.map_files.write_json", fail)
    with pytest.raises(MemoryError):
        write_map(folder, stream, found)
    assert len(read_map(folder).names) == 3


def test_a_lost_frame_has_a_row_and_moves_no_other():
    pytest.importorskip("pycolmap", reason="the extra `map` is not installed")
    gray = np.full((48, 64), 128, np.uint8)
    frames = [SmallFrame(index, f"{index:06d}", index / 10, gray, np.dstack([gray] * 3)) for index in (1, 2, 4, 5, 6)]
    placed = list(place_frames(frames, make_sparse([1, 6]), frozenset(), frozenset()))
    assert [frame.index for frame in placed] == list(range(7))
    assert [frame.index for frame in placed if frame.status is FrameStatus.LOST] == [0, 3]
    assert placed[4].T_camera_world is not None
    assert placed[4].T_camera_world[0, 3] == pytest.approx(-0.4)
