"""Photos of one lens in several sizes and orientations have one map, which holds for the photos as they are."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.sfm.test_map_video import LENS, make_sparse
from tests.sfm.textured_room import TexturedRoom, find_arc_pose

from stadia.data.video.photo_fit import PhotoFit, fit_photos
from stadia.data.video.video_map import MapCamera, find_photo_camera, read_map
from stadia.geometry.image_features import FrameFeatures, find_features
from stadia.predict.inputs import open_inputs
from stadia.sfm.frame_stream import FrameStream, KeyFrames
from stadia.sfm.map_files import VideoMap, write_map
from stadia.sfm.map_parts import CameraEstimate
from stadia.sfm.pair_matching import read_features, write_features
from stadia.sfm.photo_cameras import find_photo_cameras, move_features, move_places
from stadia.sfm.reconstruction import Workers
from stadia.sfm.sparse_map import FrameStatus, LensCamera, PlacedFrame

SIZE = 200, 320
COUNT = 12
SIZES = (200, 320), (320, 200), (100, 160), (480, 300)
CAMERA = MapCamera(
    origin="estimated",
    focal_px=300,
    center_px=(150.0, 104.0),
    distortion=(-0.1, 0.02, 0.003, -0.002),
    height=SIZE[0],
    width=SIZE[1],
)


def to_lens(camera: MapCamera) -> LensCamera:
    return LensCamera(camera.focal_px, camera.center_px, camera.distortion, camera.height, camera.width)


@pytest.mark.parametrize("size", [*SIZES, (50, 80), (160, 100)])
@pytest.mark.parametrize("camera", [SIZE, SIZE[::-1]], ids=["landscape", "portrait"])
def test_a_place_in_the_turned_photo_is_the_same_place_in_the_photo(size, camera):
    """A bright dot moves with the pixels; places return to where they were, and axes turn with them."""
    fit = PhotoFit.find(size, camera)
    image = np.zeros(size, np.uint8)
    row, column = size[0] // 5, size[1] // 3
    image[row, column] = 255
    turned = fit.apply(image, *(size[::-1] if fit.turns else size))
    at = np.argwhere(turned)[:, ::-1] + 0.5
    np.testing.assert_allclose(fit.restore_xy(at, *turned.shape), [[column + 0.5, row + 0.5]])
    before = np.array([[7.0, 3.0], [8.0, 3.0], [7.0, 4.0]])
    moved = fit.restore_xy(before, *turned.shape)
    np.testing.assert_allclose((moved[1:] - moved[0]).T, fit.T[:2, :2], atol=1e-12)
    assert np.linalg.det(fit.T) == pytest.approx(1)
    assert fit.apply(image, *camera).shape == camera


@pytest.mark.parametrize("size", SIZES)
def test_a_point_seen_by_the_turned_camera_is_seen_at_the_same_place_by_the_photo(size):
    points = np.random.default_rng(0).uniform((-1, -0.6, 3), (1, 0.6, 5), (50, 3))
    fit, own = PhotoFit.find(size, SIZE), CAMERA.fit_to_photo(*size)
    seen = fit.restore_xy(to_lens(CAMERA).project(points) + 0.5, *SIZE) - 0.5
    np.testing.assert_allclose(to_lens(own).project(points @ fit.T[:3, :3].T), seen, atol=1e-9)
    assert (own.height, own.width) == size


def test_most_photos_decide_and_other_shapes_have_no_fit():
    found = fit_photos([(40, 30), (40, 30), (30, 40), (90, 160), (80, 60), (180, 320), (16, 9)])
    assert found.sizes == [(40, 30), (180, 320)]
    assert list(found.cameras) == [0, 0, 0, 1, 0, 1, 1]
    assert [fit.turns for fit in found.fits] == [0, 0, -1, 0, 0, 0, 1]
    assert CAMERA.fit_to_photo(*SIZE) is CAMERA
    assert CAMERA.fit_to_photo(90, 120) is None

    start = time.process_time()
    fit_photos([tuple(size) for size in np.random.default_rng(0).integers(500, 4000, (400, 2)).tolist()])
    assert time.process_time() - start < 1


@pytest.mark.parametrize(("distortion", "limit"), [((0.1, -1.5), 0.62), ((-0.15, -0.5), 0.74), ((-0.3, 0.0), 1.05)])
def test_features_beyond_the_lens_of_the_first_camera_are_left_out(tmp_path, distortion, limit):
    """A wide photo sees what the tele lens would fold, beyond where r (1 + k1 r^2 + k2 r^4) is largest."""
    tele = LensCamera(1490.0, (399.5, 265.5), (*distortion, 0.0, 0.0), 532, 800)
    wide = LensCamera(520.0, (399.5, 299.5), (0.02, -0.01, 0.0, 0.0), 600, 800)
    xy = np.stack(np.meshgrid(np.linspace(0, 799, 41), np.linspace(0, 599, 31)), -1).reshape(-1, 2)
    numbers = np.arange(len(xy))[:, None]
    write_features(tmp_path / "0.npz", FrameFeatures(xy.astype(np.float32), numbers, numbers))
    moved = read_features(move_features({0: tmp_path / "0.npz"}, [1], [tele, wide], tmp_path)[0])
    rows = moved.descriptors[:, 0]
    np.testing.assert_allclose(move_places(moved.xy.astype(float), tele, wide), xy[rows], atol=0.6)
    radius = np.hypot(*((xy - wide.center_px) / wide.focal_px).T)
    assert radius[rows].max() < 1.02 * limit
    assert set(np.flatnonzero(radius < 0.95 * limit)) <= set(rows)


def write_mixed(folder: Path, count: int) -> Path:
    """Two boards in a room, since one wall does not show the camera: half of the photos are upright, a third larger."""
    room = TexturedRoom()
    for corner, across, down in (((-3, -2, 7), (2.5, 0, 1), (0, 2.5, 0)), ((0.8, 0.2, 8), (2, 0, -1), (0, 2, 0))):
        room.walls.append((np.array([corner, across, down], float), room.walls[len(room.walls) - 2][1]))
    folder.mkdir()
    for index in range(count):
        image = room.draw(*find_arc_pose(index * 23 / (count - 1)))
        image = np.ascontiguousarray(np.rot90(image, -1)) if index // 2 % 2 else image
        image = cv2.resize(image, None, fx=1.5, fy=1.5) if index % 3 == 2 else image
        cv2.imwrite(str(folder / f"{index:02d}.png"), image)
    return folder


def test_frames_of_a_stream_have_one_size_and_keep_the_photo(tmp_path):
    folder = write_mixed(tmp_path / "photos", 6)
    cv2.imwrite(str(folder / "99.png"), np.zeros((120, 160), np.uint8))
    stream = FrameStream.open(folder)
    *frames, other = stream
    assert {frame.gray.shape for frame in frames} == {stream.small_size}
    assert {frame.image.shape[:2] for frame in frames} == {stream.small_size}
    assert len({frame.filmed.shape for frame in frames}) == 4
    assert (stream.count(), other.gray.shape, stream.find_photo(6)[0]) == (7, (120, 160), 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "camera",
    [
        pytest.param(("data.camera.focal_px=300",), id="given"),
        pytest.param((), id="unknown", marks=pytest.mark.exhaustive),
    ],
)
def test_the_map_of_mixed_photos_is_that_of_the_photos_as_they_are(stadia, tmp_path, camera):
    pycolmap = pytest.importorskip("pycolmap", reason="the extra `map` is not installed")
    folder = write_mixed(tmp_path / "photos", COUNT)
    code, printed, err = stadia("map", folder, *camera, "--views", "--out", tmp_path / "photos.map")
    assert code == 0, err
    assert f"{COUNT} of {COUNT} frames placed" in printed
    found = read_map(tmp_path / "photos.map")
    assert found.camera.focal_px == pytest.approx(300, rel=0.02)
    truth = np.array([np.eye(4)] * COUNT)
    for index in range(COUNT):
        R, center = find_arc_pose(index * 23 / (COUNT - 1))
        roll = PhotoFit.find((320, 200), SIZE).T if index // 2 % 2 else np.eye(4)
        truth[index, :3, :3], truth[index, :3, 3] = (roll[:3, :3] @ R).T, center
    truth = np.linalg.inv(truth[0]) @ truth
    cosine = (np.einsum("nij,nij->n", truth[:, :3, :3], found.poses[:COUNT, :3, :3]) - 1) / 2
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 1
    for model in ("colmap", "views/sparse/0"):
        written = pycolmap.Reconstruction(str(tmp_path / "photos.map" / model))
        assert len(written.cameras) == 4
        errors = [measure_error(written, image) for image in written.images.values()]
        assert max(errors) < 0.5
    views = json.loads((tmp_path / "photos.map" / "views" / "transforms.json").read_text())
    assert "fl_x" not in views
    for view in views["frames"]:
        shown = cv2.imread(str(tmp_path / "photos.map" / "views" / view["file_path"]))
        assert shown.shape[:2] == (view["h"], view["w"])
    photos = {photo.name: photo for photo in open_inputs(folder)}
    for index in (2, 5):
        expected = CAMERA.model_copy(update={"center_px": (159.5, 99.5), "distortion": (0.0,) * 4})
        size = (photos[f"{index:02d}"].intrinsics.height, photos[f"{index:02d}"].intrinsics.width)
        K = expected.fit_to_photo(*size).intrinsics.K
        np.testing.assert_allclose(photos[f"{index:02d}"].intrinsics.K, K, rtol=0.02)
        assert "photos.map" in photos[f"{index:02d}"].describe_camera_origin()


@pytest.mark.slow
def test_photos_of_another_shape_get_their_own_camera(tmp_path):
    """Every third photo is a window of the view: the same focal length in pixels, in a smaller image."""
    pytest.importorskip("pycolmap", reason="the extra `map` is not installed")
    room, folder = TexturedRoom(), tmp_path / "photos"
    folder.mkdir()
    for index in range(12):
        image = room.draw(*find_arc_pose(2 * index))
        image = image[28:172, 32:288] if index % 3 == 1 else image
        cv2.imwrite(str(folder / f"{index:02d}.png"), np.rot90(image) if index % 6 == 1 else image)
    cv2.imwrite(str(folder / "zz.png"), np.random.default_rng(0).integers(0, 255, (90, 320), np.uint8))
    stream, files = FrameStream.open(folder), dict[int, Path]()
    for frame in stream:
        files[frame.index] = tmp_path / f"{frame.index}.npz"
        write_features(files[frame.index], find_features(frame.image, frame.gray))
    cameras = stream.photos.cameras
    lenses = find_photo_cameras(files, cameras, stream.small_sizes(), stream.find_files(), tmp_path, Workers(1))
    assert lenses[2] is None, "noise has no place"
    assert [lens.focal_px for lens in lenses[:2]] == pytest.approx([300, 300], rel=0.04)
    moved = move_features({1: files[1], 2: files[2]}, cameras, lenses[:2], tmp_path)
    assert not np.allclose(read_features(moved[1]).xy, read_features(files[1]).xy, atol=9)
    np.testing.assert_array_equal(read_features(moved[2]).xy, read_features(files[2]).xy)


def test_a_map_of_two_cameras_is_written_for_the_photos_of_each(stadia, tmp_path):
    """Points seen by the first camera are, in the photo of another shape, where its own camera sees them."""
    pycolmap = pytest.importorskip("pycolmap", reason="the extra `map` is not installed")
    folder, sparse = tmp_path / "photos", make_sparse([0, 1, 2])
    folder.mkdir()
    for name, size in (("0", (48, 64)), ("1", (60, 40)), ("2", (96, 128))):
        cv2.imwrite(str(folder / f"{name}.png"), np.zeros(size, np.uint8))
    stream, other = FrameStream.open(folder), LensCamera(55.0, (19.5, 29.5), (0.05, 0.0, 0.0, 0.0), 60, 40)
    assert list(stream.photos.cameras) == [0, 1, 0]
    placed = [PlacedFrame(row, str(row), None, FrameStatus.KEY, sparse.T_camera_world[row]) for row in range(3)]
    estimate = CameraEstimate(LENS.resized(96, 128), "estimated", None)
    first = replace(LENS.resized(96, 128), focal_px=estimate.camera.focal_px)
    sparse = replace(sparse, camera=first, xy=(sparse.xy + 0.5) * 2 - 0.5)
    found = VideoMap(estimate, sparse, placed, KeyFrames(frames=3), None, lenses=[first, other])
    write_map(tmp_path / "photos.map", stream, found)
    model = pycolmap.Reconstruction(str(tmp_path / "photos.map" / "colmap"))
    assert sorted((camera.height, camera.width) for camera in model.cameras.values()) == [(48, 64), (60, 40), (96, 128)]
    assert max(measure_error(model, image) for image in model.images.values()) < 0.01
    assert find_photo_camera(folder / "1.png").focal_px == pytest.approx(55)
    assert find_photo_camera(folder / "0.png").focal_px == pytest.approx(LENS.focal_px)
    code, _, err = stadia("map", folder, "data.camera.focal_px=300", "--out", tmp_path / "new.map")
    assert (code, "several sizes" in err) == (2, True), err


def measure_error(model: object, image: object) -> float:
    """Return the median distance of an image's points from where its own camera and pose see them, pixels."""
    camera = model.cameras[image.camera_id]
    inside = [image.cam_from_world() * model.points3D[point.point3D_id].xyz for point in image.points2D]
    seen = np.array([point.xy for point in image.points2D])
    return float(np.median(np.linalg.norm(camera.img_from_cam(np.array(inside)) - seen, axis=1)))


def test_a_lens_file_and_photos_of_several_sizes_are_refused(stadia, tmp_path):
    folder = write_mixed(tmp_path / "photos", 5)
    lens = {"K": [[300, 0, 160], [0, 300, 100], [0, 0, 1]], "height": 200, "width": 320}
    lens["distortion"] = {"model": "radtan", "coefficients": [0.1, 0, 0, 0]}
    (folder / "K.json").write_text(json.dumps(lens))
    code, _, err = stadia("map", folder)
    assert (code, "several sizes" in err) == (2, True), err
