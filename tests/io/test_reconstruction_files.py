"""Reconstructions: COLMAP's against pycolmap, what is changed and written, images, depth and times of poses."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tests.io.reader_cases import CASES, EXPECTED, K, T
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.geometry.cameras import make_K
from stadia.geometry.conventions import LLFF
from stadia.geometry.lens import Lens, distort
from stadia.geometry.panorama import project_rays as project_panorama
from stadia.geometry.poses import invert_pose
from stadia.io.records.colmap import ColmapCamera, fit_distortion, split_camera
from stadia.io.records.formats import Format
from stadia.io.records.json_scenes import write_transforms
from stadia.io.records.poses import make_poses, write_numbers
from stadia.io.records.read import FORMATS, read_reconstruction, read_trajectory, write_reconstruction
from stadia.io.records.reconstruction import (
    Reconstruction,
    add_depth_folder,
    interpolate_poses,
    make_lenses,
    match_images_to_poses,
)

COUNT, WIDTH, HEIGHT = 4, 64, 48
W2C = np.linalg.inv(T)
GL = np.diag([1.0, -1, -1, 1])
RANDOM = np.random.default_rng(0)


KS = np.stack([K + np.diag([k, k, 0.0]) for k in range(COUNT)])
NAMES = tuple(f"frame_{k:05d}.jpg" for k in range(COUNT))
LENS = (0.1, -0.05, 0.001, 0.002)


@pytest.mark.parametrize(
    "case", ["colmap", "nerfstudio-own-cameras", "polycam", "record3d-with-cameras", "vggt", "mapanything", "tum"]
)
def test_writes_changed_poses_and_cameras(case: str, tmp_path: Path) -> None:
    first = read_reconstruction(CASES / case / EXPECTED[case]["file"])
    turned = Reconstruction(
        names=first.names[1:],
        T_camera_world=GL @ first.T_camera_world[:-1],
        K=2 * first.K[1:] - np.diag([0, 0, 1.0]),
        distortion=first.distortion[1:],
        sizes=2 * first.sizes[1:],
        times_s=None if first.times_s is None else first.times_s[1:] + 0.5,
        format=first.format,
        path=first.path,
    )
    second = read_reconstruction(write_reconstruction(turned, tmp_path / "fixed"))
    np.testing.assert_allclose(second.T_camera_world, turned.T_camera_world, atol=1e-6)
    np.testing.assert_allclose(second.K, turned.K, rtol=1e-6)
    assert [Path(name).name for name in second.names] == [
        Path(name).name for name in turned.names
    ] or case == "record3d-with-cameras"


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("#timestamp,p_x,p_y,p_z,q_w,q_x,q_y,q_z", "{},{}.5,1.25,2.5,1.0,0.0,0.0,0.0"),
        ("# t x y z qx qy qz qw", "{:.9f} {}.5 1.25 2.5 0.0 0.0 0.0 1.0"),
    ],
    ids=["euroc", "tum"],
)
def test_times_keep_their_nanoseconds(head: str, row: str, tmp_path: Path) -> None:
    """A float of seconds since 1970 is off by up to 128 ns."""
    times = [1403636579763555584 + 50_000_001 * k for k in range(COUNT)]
    path = tmp_path / "poses.csv"
    stamps = times if "," in row else [Decimal(t).scaleb(-9) for t in times]
    path.write_text("\n".join([head, *(row.format(stamp, k) for k, stamp in enumerate(stamps))]) + "\n")
    read = read_reconstruction(path)
    written = write_reconstruction(read.rows([0, 2, 3]), tmp_path / "new").read_text().splitlines()
    first = [line.replace(",", " ").split()[0] for line in written if not line.startswith("#")]
    assert [round(Decimal(word) * (1 if "," in row else 10**9)) for word in first] == [times[k] for k in (0, 2, 3)]


def test_a_map_of_stadia_has_all_its_poses_and_its_camera(tmp_path: Path) -> None:
    """The COLMAP model in its folder has the camera, but poses of keyframes alone."""
    model = Reconstruction(
        NAMES[:1], W2C[:1], KS[:1], np.array([LENS]), np.array([[WIDTH, HEIGHT]]), format="colmap", path=tmp_path / "-"
    )
    write_reconstruction(model, tmp_path / "colmap")
    rows = [f"{k} {' '.join(map(repr, T[k, :3].ravel().tolist()))}" for k in range(COUNT)]
    (tmp_path / "trajectory.txt").write_text("\n".join(rows))
    read = read_reconstruction(tmp_path)
    np.testing.assert_allclose(read.T_camera_world, W2C, atol=1e-9)
    np.testing.assert_allclose(read.K, np.tile(KS[0], (COUNT, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(read.distortion, np.tile(LENS, (COUNT, 1)), atol=1e-9)


def test_blender_files_take_the_size_of_their_images(tmp_path: Path) -> None:
    content = json.loads((CASES / "blender-angle" / "transforms.json").read_text())
    path = tmp_path / "transforms.json"
    del content["w"], content["h"]
    content["frames"] = [{**frame, "file_path": f"./r_{k}"} for k, frame in enumerate(content["frames"])]
    path.write_text(json.dumps(content))
    assert np.isnan(read_reconstruction(path).K).all()
    for k in range(COUNT):
        cv2.imwrite(str(tmp_path / f"r_{k}.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    np.testing.assert_allclose(read_reconstruction(path).K[0, 0, 0], 50)


@pytest.mark.parametrize("key", ["transform_matrix", "transform_matrix_start"])
def test_a_pose_may_be_scaled_as_a_whole_or_that_of_a_rolling_shutter(key: str, tmp_path: Path) -> None:
    """16 numbers times a factor are the same projective matrix."""
    path = tmp_path / "transforms.json"
    frames = [{"file_path": name, key: (0.001 * one @ GL).tolist()} for name, one in zip(NAMES, T, strict=True)]
    path.write_text(json.dumps({"fl_x": 50, "cx": 32, "cy": 24, "frames": frames}))
    read = read_reconstruction(path)
    np.testing.assert_allclose(read.T_camera_world, W2C, atol=1e-9)
    again = read_reconstruction(write_reconstruction(read.rows([1, 2]), tmp_path / "new.json"))
    np.testing.assert_allclose(again.T_camera_world, W2C[1:3], atol=1e-9)


def test_newer_stray_scanners_write_the_camera_of_each_frame(tmp_path: Path) -> None:
    lines = (CASES / "stray-scanner" / "odometry.csv").read_text().splitlines()
    wide = [f"{lines[0]}, fx, fy, cx, cy, distortion_center_x, distortion_center_y"]
    wide += [f"{line}, 50, 52, 31.25, 22.5, 0, 0" for line in lines[1:]]
    (tmp_path / "odometry.csv").write_text("\n".join(wide) + "\n")
    np.testing.assert_allclose(read_reconstruction(tmp_path).T_camera_world, W2C, atol=1e-6)


# -- arrays


def write_llff(path: Path, names: tuple[str, ...]) -> None:
    """Write the poses of NAMES in the order of other names as text, with a camera and the depths k and 10 + k."""
    columns = np.concatenate([T[:, :3] @ LLFF.T_axes_camera.T, np.tile([[HEIGHT], [WIDTH], [50]], (COUNT, 1, 1))], 2)
    depths = np.stack([np.arange(COUNT), 10.0 + np.arange(COUNT)], 1)
    np.save(path, np.hstack([columns.reshape(COUNT, 15), depths])[np.argsort(names)])


def test_llff_has_a_camera_and_the_order_of_names_as_text(tmp_path: Path) -> None:
    images = ("1.jpg", "2.jpg", "10.jpg", "20.jpg")
    write_llff(tmp_path / "poses_bounds.npy", images)
    for path in (tmp_path, tmp_path / "poses_bounds.npy"):
        read = read_reconstruction(path)
        found = match_images_to_poses(read.names, images, is_text_order=read.is_text_order)
        np.testing.assert_allclose(read.T_camera_world[found.rows], W2C[found.images], atol=1e-9)
        np.testing.assert_allclose(read.K, np.tile([[50, 0, 31.5], [0, 50, 23.5], [0, 0, 1]], (COUNT, 1, 1)))
        assert read.sizes.tolist() == [[WIDTH, HEIGHT]] * COUNT


def test_llff_is_written_as_it_was_with_the_depths_of_each_pose(tmp_path: Path) -> None:
    images = ("1.jpg", "2.jpg", "10.jpg", "20.jpg")
    write_llff(tmp_path / "poses_bounds.npy", images)
    read = read_reconstruction(tmp_path)
    same = np.load(write_reconstruction(read, tmp_path / "same"))
    before = np.load(tmp_path / "poses_bounds.npy")
    np.testing.assert_allclose(same, before, atol=1e-9)
    named = replace(read.rows([0, 1, 3]), names=("20.jpg", "3.jpg", "2.jpg"))  # pose k in the order of names as text
    fewer = np.load(write_reconstruction(named, tmp_path / "fewer.npy"))
    np.testing.assert_allclose(fewer, before[[3, 0, 1]], atol=1e-9)


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (12,), (16,)])
def test_matrices_are_written_in_the_shape_of_the_original(shape: tuple[int, ...], tmp_path: Path) -> None:
    stored = T[:, : np.prod(shape) // 4].reshape(COUNT, *shape)
    np.save(tmp_path / "a.npy", stored)
    written = np.load(write_reconstruction(read_reconstruction(tmp_path / "a.npy"), tmp_path / "b"))
    assert written.shape == stored.shape
    np.testing.assert_allclose(written, stored, atol=1e-9)


@pytest.mark.parametrize("columns", ["x y z qx qy qz qw", "qx qy qz qw x y z"])
def test_numbers_are_written_in_the_order_of_the_original(columns: str, tmp_path: Path) -> None:
    rows = write_numbers(T, Format("", columns))
    np.save(tmp_path / "a.npy", rows)
    written = np.load(write_reconstruction(read_reconstruction(tmp_path / "a.npy"), tmp_path / "b"))
    np.testing.assert_allclose(written, rows, atol=1e-9)
    np.testing.assert_allclose(make_poses(written, Format("", columns), str), T, atol=1e-9)


@pytest.mark.parametrize(
    ("columns", "is_numbered"),
    [
        ("matrix", False),
        ("matrix", True),
        ("matrix last_row", False),
        ("matrix last_row", True),
        ("matrix.T", False),
        ("x y z qx qy qz qw", False),
        ("qx qy qz qw x y z", False),
    ],
)
def test_rows_are_written_with_the_numbers_of_the_original(columns: str, is_numbered: bool, tmp_path: Path) -> None:
    rows = write_numbers(T, Format("", columns))
    if is_numbered:
        rows = np.column_stack([2 * np.arange(COUNT) + 3, rows])
    np.savetxt(tmp_path / "a.txt", rows)
    written = np.loadtxt(write_reconstruction(read_reconstruction(tmp_path / "a.txt"), tmp_path / "b"))
    np.testing.assert_allclose(written, rows, atol=1e-9)


# -- COLMAP against pycolmap


def make_model(pycolmap: Any, model: str, *, has_rig: bool) -> Any:
    """Return a pycolmap.Reconstruction; with a rig, two cameras share each frame."""
    made = pycolmap.Reconstruction()
    cameras = []
    for number in range(1, 2 + has_rig):
        camera = pycolmap.Camera.create_from_model_name(number, model, 50.0 * number, WIDTH, HEIGHT)
        camera.camera_id = number
        made.add_camera(camera)
        cameras.append(camera)
    rig = pycolmap.Rig(rig_id=1)
    rig.add_ref_sensor(cameras[0].sensor_id)
    if has_rig:
        rig.add_sensor(cameras[1].sensor_id, pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([0.5, 0, 0])))
    made.add_rig(rig)
    for k in range(COUNT):
        frame = pycolmap.Frame(frame_id=k + 1, rig_id=1)
        frame.rig_from_world = pycolmap.Rigid3d(W2C[k, :3])
        images = []
        for camera in cameras:
            number = k * len(cameras) + camera.camera_id
            image = pycolmap.Image(name=f"c{camera.camera_id}/{NAMES[k]}", camera_id=camera.camera_id, image_id=number)
            image.frame_id = k + 1
            image.points2D = pycolmap.Point2DList([pycolmap.Point2D(np.array([1.0, 2.0]))])
            frame.add_data_id(image.data_id)
            images.append(image)
        made.add_frame(frame)
        for image in images:
            made.add_image(image)
    return made


@pytest.mark.parametrize("ending", ["text", "binary"])
@pytest.mark.parametrize(("model", "has_rig"), [("PINHOLE", False), ("SIMPLE_RADIAL", True), ("OPENCV", False)])
def test_colmap_models_agree_with_pycolmap(model: str, has_rig: bool, ending: str, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    made = make_model(pycolmap, model, has_rig=has_rig)
    folder = tmp_path / "sparse" / "0"
    folder.mkdir(parents=True)
    (made.write_text if ending == "text" else made.write_binary)(str(folder))
    found = read_reconstruction(tmp_path)
    images = {image.name: image for image in made.images.values()}
    assert sorted(found.names) == sorted(images)
    for row, name in enumerate(found.names):
        np.testing.assert_allclose(found.T_camera_world[row, :3], images[name].cam_from_world().matrix(), atol=1e-12)
        camera = made.cameras[images[name].camera_id]
        ray = np.array([0.2, -0.1])
        pixel = camera.img_from_cam(np.append(ray, 1)) - 0.5
        own = cv2.projectPoints(np.append(ray, 1)[None], np.zeros(3), np.zeros(3), found.K[row], found.distortion[row])[
            0
        ]
        np.testing.assert_allclose(own.ravel(), pixel, atol=1e-9)
    written = pycolmap.Reconstruction(str(write_reconstruction(found, tmp_path / "fixed")))
    for image in written.images.values():
        np.testing.assert_allclose(
            image.cam_from_world().matrix(), images[image.name].cam_from_world().matrix(), atol=1e-12
        )
        before = made.cameras[images[image.name].camera_id]
        assert image.camera.model == before.model
        np.testing.assert_allclose(image.camera.params, before.params)


LENS_PARAMETERS = {
    "SIMPLE_FISHEYE": (), "FISHEYE": (), "SIMPLE_RADIAL_FISHEYE": (0.05,), "RADIAL_FISHEYE": (0.05, -0.01),
    "OPENCV_FISHEYE": (0.05, -0.01, 0.004, -0.001), "FOV": (0.8,), "SIMPLE_DIVISION": (-0.1,), "DIVISION": (-0.1,),
    "FULL_OPENCV": (-0.12, 0.03, 0.002, -0.001, 0.01, 0.02, -0.03, 0.004), "EUCM": (0.6, 1.1), "EQUIRECTANGULAR": (),
    "THIN_PRISM_FISHEYE": (0.05, -0.01, 0.002, -0.003, 0.004, -0.001, 0.003, -0.002),
    "RAD_TAN_THIN_PRISM_FISHEYE": (0.05, -0.01, 0.004, -0.001, 0.0, 0.0, 0.002, -0.003, 0.003, 0.001, -0.002, 0.01),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".txt", ".bin"])
@pytest.mark.parametrize("model", LENS_PARAMETERS)
def test_every_lens_of_colmap_is_read_without_reduction_and_written_scaled(
    model: str, suffix: str, tmp_path: Path
) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    made = pycolmap.Reconstruction()
    camera = pycolmap.Camera.create_from_model_name(1, model, 400.0, 640, 480)
    if LENS_PARAMETERS[model]:
        camera.params = [*camera.params[: -len(LENS_PARAMETERS[model])], *LENS_PARAMETERS[model]]
    made.add_camera_with_trivial_rig(camera)
    for number in range(1, 5):
        pose = pycolmap.Rigid3d(np.column_stack((np.eye(3), (number, 0, 0))))
        made.add_image_with_trivial_frame(pycolmap.Image(name=f"{number}.jpg", camera_id=1, image_id=number), pose)
    folder = tmp_path / "model"
    folder.mkdir()
    (made.write_text if suffix == ".txt" else made.write_binary)(str(folder))
    for extra in ("rigs", "frames"):
        (folder / f"{extra}{suffix}").unlink()
    found = read_reconstruction(folder)
    assert not any("off" in note for note in found.notes)
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (30, 2))
    pixels = camera.img_from_cam(np.column_stack((points, np.ones(30)))) - 0.5
    assert found.lenses is not None
    K = found.K[0]
    np.testing.assert_allclose(found.lenses[0].distort(points) * K[(0, 1), (0, 1)] + K[:2, 2], pixels, atol=1e-9)
    same = read_reconstruction(write_reconstruction(found, tmp_path / "same"))
    np.testing.assert_array_equal(same.K, found.K)
    assert same.lenses is not None
    assert same.lenses.tolist() == found.lenses.tolist()
    wider = found.K.copy()
    wider[:, 0, 0] *= 1.1  # two focal lengths now
    again = read_reconstruction(write_reconstruction(replace(found, K=wider), tmp_path / "wider"))
    np.testing.assert_allclose(again.K[:, (0, 1), (0, 1)], wider[:, (0, 1), (0, 1)])
    assert again.lenses is not None
    np.testing.assert_allclose(again.lenses[0].distort(points), found.lenses[0].distort(points), atol=1e-12)


TRANSFORMS_LENSES = {
    "OPENCV_FISHEYE": {"camera_model": "OPENCV_FISHEYE", "k1": 0.05, "k2": -0.01, "k3": 0.004, "k4": -0.001},
    "FULL_OPENCV": {"k1": -0.12, "k2": 0.03, "p1": 0.002, "p2": -0.001, "k3": 0.01, "k4": 0.02, "k5": -0.03, "k6": 0.0},
    "EQUIRECTANGULAR": {"camera_model": "EQUIRECTANGULAR"},
}  # fmt: skip


@pytest.mark.parametrize("model", TRANSFORMS_LENSES)
def test_lenses_of_transforms_are_read_without_reduction_and_written_scaled(model: str, tmp_path: Path) -> None:
    keys = {"fl_x": 400.0, "fl_y": 402.0, "cx": 320.0, "cy": 160.0, "w": 640, "h": 320, **TRANSFORMS_LENSES[model]}
    pose = [[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    frames = [{"file_path": f"{number}.jpg", "transform_matrix": pose} for number in range(4)]
    file = tmp_path / "transforms.json"
    file.write_text(json.dumps({**keys, "frames": frames}))
    found = read_reconstruction(file)
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (30, 2))
    rays, zero = np.column_stack((points, np.ones(30))), np.zeros(3)
    K = np.array([[400.0, 0, 319.5], [0, 402.0, 159.5], [0, 0, 1]])
    lens = [value for key, value in TRANSFORMS_LENSES[model].items() if key != "camera_model"]
    if model == "EQUIRECTANGULAR":
        expected = project_panorama(rays, 320, 640)
    elif model == "OPENCV_FISHEYE":
        expected = cv2.fisheye.projectPoints(rays[:, None], zero, zero, K, np.array(lens))[0][:, 0]
    else:
        expected = cv2.projectPoints(rays, zero, zero, K, np.array(lens))[0][:, 0]
    assert found.lenses is not None
    seen = found.lenses[0].distort(points) * found.K[0][(0, 1), (0, 1)] + found.K[0][:2, 2]
    np.testing.assert_allclose(seen, expected, atol=1e-6)
    if model == "EQUIRECTANGULAR":
        return
    wider = found.K.copy()
    wider[:, :2] *= 1.1
    again = read_reconstruction(write_reconstruction(replace(found, K=wider), tmp_path / "wider.json"))
    np.testing.assert_allclose(again.K, wider)
    assert again.lenses is not None
    assert again.lenses.tolist() == found.lenses.tolist()


def test_a_lens_that_transforms_lacks_is_fitted(tmp_path: Path) -> None:
    lens = Lens("EUCM", (0.6, 1.1))
    K = np.array([[900.0, 0, 319.5], [0, 900, 239.5], [0, 0, 1]])
    result = Reconstruction(("1.jpg",) * 3, np.tile(np.eye(4), (3, 1, 1)), np.tile(K, (3, 1, 1)), np.zeros((3, 4)),
                            np.tile((640, 480), (3, 1)), lenses=make_lenses([lens] * 3))  # fmt: skip
    write_transforms(result, tmp_path / "transforms.json")
    again = read_reconstruction(tmp_path / "transforms.json")
    points = np.random.default_rng(0).uniform(-0.3, 0.3, (30, 2))
    before = lens.distort(points) * K[(0, 1), (0, 1)] + K[:2, 2]
    after = distort(points, again.distortion[0]) * again.K[0][(0, 1), (0, 1)] + again.K[0][:2, 2]
    np.testing.assert_allclose(after, before, atol=0.1)


@pytest.mark.parametrize(
    ("model", "lens"),
    [("OPENCV_FISHEYE", (0.02, -0.01, 0.003, 0.0)), ("FULL_OPENCV", (*LENS, 0.01, 0.02, 0.0, 0.0)), ("FOV", (0.6,)),
     ("RADIAL_FISHEYE", (0.02, 0.01))],
)  # fmt: skip
def test_other_lenses_are_fitted_within_the_error_that_is_stated(model: str, lens: tuple[float, ...]) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    focals = (400.0,) if model == "RADIAL_FISHEYE" else (400.0, 410.0)
    params = (*focals, 320.0, 240.0, *lens)
    K, _, known = split_camera(ColmapCamera(model, 640, 480, params))
    assert known is not None
    K, distortion, error_px = fit_distortion(known.distort, K, (640, 480))
    camera = pycolmap.Camera(model=model, width=640, height=480, params=list(params))
    pixels = RANDOM.uniform([0, 0], [640, 480], (200, 2))
    rays = np.array([np.append(camera.cam_from_img(pixel), 1) for pixel in pixels])
    own = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, distortion)[0][:, 0] + 0.5
    assert np.abs(own - pixels).max() < 1.1 * error_px + 0.01
    assert error_px < 5


# -- glb


@pytest.mark.parametrize("nodes", [[{}, {"children": [2]}, {"children": [1]}], [{"children": [1] * 50}, {}]])
def test_nodes_in_a_circle_are_refused(nodes: list[dict[str, Any]], tmp_path: Path) -> None:
    text = json.dumps({"asset": {"version": "2.0"}, "nodes": nodes}).encode()
    text += b" " * (-len(text) % 4)
    chunk = struct.pack("<II", len(text), 0x4E4F534A) + text
    (tmp_path / "a.glb").write_bytes(struct.pack("<III", 0x46546C67, 2, 12 + len(chunk)) + chunk)
    with pytest.raises(DataError):
        read_reconstruction(tmp_path / "a.glb")


# -- images, depth and times


def test_poses_are_matched_by_name_stem_number_and_order() -> None:
    images = ["d/b/2.png", "d/b/10.png", "d/b/1.png"]
    cases: dict[str, tuple[list[str], list[int]]] = {
        "name": (["d/b/1.png", "d/b/2.png", "d/b/10.png"], [2, 0, 1]),
        "stem": (["10.jpg", "2.color.jpg", "1.jpg"], [1, 0, 2]),
        "path": (["b/1.jpg", "b/2.jpg", "b/10.jpg"], [2, 0, 1]),
        "number": (["000001", "000002", "000010"], [2, 0, 1]),
        "order": (["", "", ""], [2, 0, 1]),
    }
    for how, (names, expected) in cases.items():
        found = match_images_to_poses(names, images)
        assert (found.how, found.images.tolist()) == (how, expected)
        assert found.rows.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("names", "images"),
    [(["a.png"] * 4, ["b.png", "c.png"]), (["", ""], ["a.png", "b.png"]), ([""] * 5, ["a.png", "b.png", "c.png"])],
)
def test_fewer_than_three_matches_are_an_error(names: list[str], images: list[str]) -> None:
    with pytest.raises(DataError):
        match_images_to_poses(names, images)


SHAPES = {
    "the same": ((1000, 661), (500, 331), True),
    "cropped": ((1000, 661), (980, 700), True),
    "a quarter turn": ((1000, 661), (661, 1000), True),
    "unknown": ((0, 0), (640, 480), True),
    "another": ((1000, 661), (640, 640), False),
}


@pytest.mark.parametrize("images", [("IMG_1.png", "IMG_2.png", "IMG_3.png"), ("a.png", "b.png", "c.png")])
@pytest.mark.parametrize("shape", SHAPES)
def test_images_of_other_names_and_another_shape_are_not_those_of_the_result(
    shape: str, images: tuple[str, ...]
) -> None:
    """Images of another scene must not be judged by these poses; images that were renamed must be."""
    size, image_size, is_same = SHAPES[shape]
    sizes, image_sizes = np.tile(size, (3, 1)), np.tile(image_size, (3, 1))
    names = ["DSC_0001.jpg", "DSC_0002.jpg", "DSC_0003.jpg"]
    if is_same:
        found = match_images_to_poses(names, images, sizes=sizes, image_sizes=image_sizes)
        assert found.images.tolist() == [0, 1, 2]
        return
    with refuses(DataError, found=("not the images of this result", images[0], names[0])):
        match_images_to_poses(names, images, sizes=sizes, image_sizes=image_sizes)
    assert len(match_images_to_poses(names, names, sizes=sizes, image_sizes=image_sizes).rows) == 3
    assert len(match_images_to_poses([""] * 3, images, sizes=sizes, image_sizes=image_sizes).rows) == 3


def test_images_without_a_pose_are_noted() -> None:
    found = match_images_to_poses(["1.png", "2.png", "3.png", "9.png"], [f"{k}.png" for k in range(6)])
    assert found.images.tolist() == [1, 2, 3]
    assert len(found.notes) == 2


@pytest.mark.parametrize("case", ["bundler", "realitycapture/cameras.csv", "realitycapture-xmp", "visualsfm/model.nvm"])
def test_a_camera_without_the_size_of_its_images_gets_it_from_them(case: str) -> None:
    read = read_reconstruction(CASES / case)
    assert read.has_camera
    center = (31.25, 22.5) if case.startswith("realitycapture") else (31.5, 23.5)
    lens = {"bundler": (0.1, -0.05, 0, 0), "visualsfm/model.nvm": (0.1, 0, 0, 0)}.get(case, LENS)
    for rows in ([0, 1, 2, 3], [3, 1, 0]):
        sized = read.rows(rows).with_image_sizes(NAMES, np.tile([WIDTH, HEIGHT], (COUNT, 1)))
        np.testing.assert_allclose(sized.K, np.tile(make_K("", 50, 50, *center), (len(rows), 1, 1)), rtol=1e-9)
        np.testing.assert_allclose(sized.distortion, np.tile(lens, (len(rows), 1)), atol=1e-9)


def test_one_image_may_lack_a_camera(tmp_path: Path) -> None:
    for file in (CASES / "realitycapture-xmp").glob("*.xmp"):
        text = file.read_text()
        is_first = file.stem == NAMES[0][:-4]
        (tmp_path / file.name).write_text(text.replace("xcr:FocalLength35mm", "xcr:Other") if is_first else text)
    sized = read_reconstruction(tmp_path).with_image_sizes(NAMES, np.tile([WIDTH, HEIGHT], (COUNT, 1)))
    assert np.isfinite(sized.K).all(axis=(1, 2)).tolist() == [False, True, True, True]


def test_a_bundle_without_a_list_of_images_keeps_its_order(tmp_path: Path) -> None:
    """The third of five images has no pose, and the others keep theirs."""
    (tmp_path / "bundle.out").write_bytes((CASES / "bundler" / "bundle" / "bundle.out").read_bytes())
    read = read_reconstruction(tmp_path)
    assert np.isnan(read.T_camera_world[2, :3]).all()
    np.testing.assert_allclose(read.T_camera_world[[0, 1, 3, 4]], W2C, atol=1e-6)
    sized = read.with_image_sizes([*NAMES, "z.jpg"], np.tile([WIDTH, HEIGHT], (COUNT + 1, 1)))
    assert np.isfinite(sized.K).all(axis=(1, 2)).tolist() == [True, True, False, True, True]
    again = read_reconstruction(write_reconstruction(sized, tmp_path / "new"))
    np.testing.assert_allclose(again.T_camera_world, W2C, atol=1e-6)
    assert np.isfinite(again.K).all()


@pytest.mark.parametrize(
    "case", ["opensfm-cameras", "gaussian-splatting-cameras", "openmvg", "meshroom-cameras", "metashape-cameras"]
)
def test_a_trajectory_of_a_photogrammetry_program_is_that_of_its_reconstruction(case: str) -> None:
    files = [file for file in (CASES / case).iterdir() if file.name != "expected.json"]
    np.testing.assert_allclose(read_trajectory(files[0]).T_world_camera, T, atol=1e-6)


def test_a_lens_with_k3_is_used_as_it_is(tmp_path: Path) -> None:
    text = (CASES / "meshroom-cameras" / "cameras.sfm").read_text()
    (tmp_path / "a.sfm").write_text(text.replace('["0.1", "-0.05", "0"]', '["0.1", "-0.05", "0.02"]'))
    read = read_reconstruction(tmp_path / "a.sfm")
    assert read.lenses is not None
    assert not read.distortion.any()
    points = RANDOM.uniform(-0.6, 0.6, (50, 2))
    known = cv2.projectPoints(np.c_[points, np.ones(50)], np.zeros(3), np.zeros(3), np.eye(3), (0.1, -0.05, 0, 0, 0.02))
    np.testing.assert_allclose(read.lenses[0].distort(points), known[0][:, 0], atol=1e-9)


def test_the_focal_lengths_of_metashape_differ_by_b1(tmp_path: Path) -> None:
    text = (CASES / "metashape-cameras" / "cameras.xml").read_text()
    (tmp_path / "a.xml").write_text(text.replace("<cx>-0.25</cx>", "<cx>-0.25</cx><b1>2</b1>"))
    assert read_reconstruction(tmp_path / "a.xml").K[0, [0, 1], [0, 1]].tolist() == [52, 50]


def test_cameras_of_a_rig_of_metashape_have_the_pose_of_their_master(tmp_path: Path) -> None:
    """EyefulTower 10: only the images of the first camera have a transform."""
    mount = "<rotation>0 -1 0 1 0 0 0 0 1</rotation><location>0.5 0 0</location>"
    camera = '<camera id="0" sensor_id="0" label="a"><transform>1 0 0 2 0 1 0 3 0 0 1 4 0 0 0 1</transform></camera>'
    slave = '<camera id="1" sensor_id="1" master_id="0" label="b"/>'
    other = '<camera id="2" sensor_id="1" master_id="7" label="c"/>'
    sensors = f'<sensor id="0"/><sensor id="1" master_id="0">{mount}</sensor>'
    (tmp_path / "cameras.xml").write_text(
        f"<document><chunk><sensors>{sensors}</sensors><cameras>{camera}{slave}{other}</cameras></chunk></document>"
    )
    read = read_reconstruction(tmp_path / "cameras.xml")
    T = invert_pose(read.T_camera_world[read.names.index("b")])
    np.testing.assert_allclose(T[:3], [[0, -1, 0, 2.5], [1, 0, 0, 3], [0, 0, 1, 4]], atol=1e-12)
    assert len(read.trajectory()) == 2
    assert any("poses of 1 images are those of their master" in note for note in read.notes)


def test_an_image_without_a_pose_shifts_no_other_pose(tmp_path: Path) -> None:
    """OpenSfM leaves out the shots that it could not place; the others keep their images and cameras."""
    path = CASES / "opensfm-cameras" / "reconstruction.json"
    content = json.loads(path.read_text())
    for model in content:
        model["shots"].pop("frame_00000.jpg", None)
    (tmp_path / path.name).write_text(json.dumps(content))
    read = read_reconstruction(tmp_path / path.name)
    found = match_images_to_poses(read.names, NAMES)
    np.testing.assert_allclose(read.T_camera_world[found.rows], W2C[found.images], atol=1e-6)
    assert found.images.tolist() == [1, 2, 3]


def test_poses_between_two_times_turn_and_move_uniformly() -> None:
    start, end = np.eye(4), np.eye(4)
    end[:3, :3] = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    end[:3, 3] = 1, 2, 3
    poses = np.linalg.inv(np.stack([start, end]))
    two = Reconstruction(
        ("", ""), poses, np.stack([K, 2 * K]), np.zeros((2, 4)), np.zeros((2, 2), np.int64), np.array([0.0, 1])
    )
    found = interpolate_poses(two, [0.0, 0.25, 1.0, 9.0])
    T_world_camera = np.linalg.inv(found.T_camera_world)
    np.testing.assert_allclose(T_world_camera[1, :3, 3], [0.25, 0.5, 0.75])
    angles = Rotation.from_matrix(T_world_camera[:, :3, :3]).magnitude()
    np.testing.assert_allclose(np.rad2deg(angles), [0, 22.5, 90, 90], atol=1e-9)
    assert found.K[:, 0, 0].tolist() == [50, 50, 100, 100]


def test_depth_maps_belong_to_images_of_their_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        np.save(tmp_path / f"{name}.npy", np.full((2, 2), ord(name), np.float32))
    poses = np.tile(np.eye(4), (2, 1, 1))
    camera = np.tile(K, (2, 1, 1)), np.zeros((2, 4)), np.zeros((2, 2), np.int64)
    named = add_depth_folder(Reconstruction(("x/b.png", "c.png"), poses, *camera), tmp_path)
    assert named.depth is not None
    assert named.depth(0)[0, 0] == ord("b")
    assert np.isnan(named.depth(1)).all()
    assert named.rows([1, 0]).depth(1)[0, 0] == ord("b")  # type: ignore[misc]


@pytest.mark.parametrize("format", [name for name in FORMATS if FORMATS[name].writes is not None])
def test_a_reconstruction_without_an_original_is_written_in_every_format(format: str, tmp_path: Path) -> None:
    first = Reconstruction(
        NAMES,
        W2C,
        KS,
        np.zeros((COUNT, 4)),
        np.tile([WIDTH, HEIGHT], (COUNT, 1)),
        format=format,
        path=tmp_path / "absent",
    )
    second = read_reconstruction(write_reconstruction(first, tmp_path / "new"))
    assert second.format == format
    np.testing.assert_allclose(second.T_camera_world, W2C, atol=1e-9)
    if format not in ("trajectory", "npy"):
        np.testing.assert_allclose(second.K, KS, rtol=1e-9)
    if any(second.names):
        assert match_images_to_poses(second.names, NAMES).images.tolist() == list(range(COUNT))


def test_the_matrix_of_each_frame_is_its_K(tmp_path: Path) -> None:
    """Scannetpp 104: pose_intrinsic_imu.json has K in each frame, and check asked for a camera."""
    content = json.loads((CASES / "scannetpp" / "pose_intrinsic_imu.json").read_text())
    for order, frame in enumerate(content.values()):
        frame["intrinsic"] = [[500.0 + order, 0, 320], [0, 501, 240], [0, 0, 1]]
    (tmp_path / "pose_intrinsic_imu.json").write_text(json.dumps(content))
    read = read_reconstruction(tmp_path / "pose_intrinsic_imu.json")
    assert read.K[:, 0, 0].tolist() == [500.0 + order for order in range(len(content))]
    assert any("of each frame" in note for note in read.notes)
