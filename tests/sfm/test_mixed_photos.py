"""Photos of one lens in several sizes and orientations have one map, which holds for the photos as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.sfm.test_map_video import LENS, make_sparse
from tests.sfm.textured_room import TexturedRoom, find_arc_pose

from stadia.data.frame_selection import KeyFrames
from stadia.data.video.photo_fit import PhotoFit
from stadia.data.video.video_map import MapCamera, find_photo_camera
from stadia.geometry.image_features import FrameFeatures, find_features
from stadia.sfm.frame_stream import FrameStream
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
