"""Files of every program are read. Each folder of `cases` has one file or folder, and what it contains.

All poses of `cases` are those of `cases/path.json`, and most cameras are its camera. A new format is a folder more.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.io.reader_cases import CASES, EXPECTED, PATH, K, T
from tests.refusals import refuses

from stadia.core.errors import DataError, StadiaError
from stadia.geometry.conventions import write_poses
from stadia.io.records.calibration import read_calibration
from stadia.io.records.camera_keys import read_cameras_by_keys
from stadia.io.records.formats import CAMERA_FORMATS, JSON_FORMATS, NPZ_FORMATS, CameraFormat, Format, TrajectoryFormat
from stadia.io.records.json_scenes import read_json_poses
from stadia.io.records.read import FORMATS, read_reconstruction, read_trajectory, write_reconstruction
from stadia.io.records.reconstruction import Reconstruction

RECONSTRUCTIONS = [name for name, expected in EXPECTED.items() if expected["read"] == "reconstruction"]


def check_notes(notes: tuple[str, ...], expected: list[str]) -> None:
    assert len(notes) >= len(expected)
    for pattern in expected:
        assert any(re.search(pattern, note) for note in notes), (pattern, notes)


def make_K(numbers: Any) -> np.ndarray:
    """Return (..., 3, 3) from fx, fy, cx, cy (..., 4)."""
    values = np.asarray(numbers)
    matrices = np.zeros((*values.shape[:-1], 3, 3))
    matrices[..., [0, 1, 0, 1], [0, 1, 2, 2]] = values
    matrices[..., 2, 2] = 1
    return matrices


def check_trajectory(path: Path, expected: dict[str, Any]) -> None:
    format = expected.get("format")
    read = read_trajectory(path, None if format is None else TrajectoryFormat(format))
    np.testing.assert_allclose(read.T_world_camera, T, atol=2e-6)
    assert (read.times_s is None) == ("times_s" not in expected)
    if read.times_s is not None:
        np.testing.assert_allclose(read.times_s, expected["times_s"], atol=1e-6)
    assert (None if read.frames is None else read.frames.tolist()) == expected.get("frames")
    if expected["notes"]:
        check_notes(read.notes, expected["notes"])
    else:
        assert read.notes == () or read.notes == ("",)


def check_reconstruction(path: Path, expected: dict[str, Any]) -> None:
    read = read_reconstruction(path)
    assert read.format == expected["format_of"]
    np.testing.assert_allclose(read.T_camera_world, np.linalg.inv(T), atol=1e-5)
    known = expected.get("K")
    known_K = np.full((3, 3), np.nan) if known is None else K if known == "K" else make_K(known)
    np.testing.assert_allclose(read.K, np.broadcast_to(known_K, read.K.shape), rtol=1e-4)
    np.testing.assert_allclose(read.distortion, np.broadcast_to(expected.get("lens", [0] * 4), (len(T), 4)), atol=1e-9)
    assert read.sizes.tolist() == [expected.get("size", PATH["size"])] * len(T)
    assert list(read.names) == expected.get("names", [""] * len(T))
    assert (read.depth is None) == ("depth" not in expected)
    if read.depth is not None:
        assert read.depth(expected["depth"] - 1)[0, 0] == expected["depth"]
    check_notes(read.notes, expected.get("notes", []))


def check_calibration(path: Path, expected: dict[str, Any]) -> None:
    cameras = read_calibration(path)
    assert [camera.name for camera in cameras] == [one["name"] for one in expected["cameras"]]
    for camera, one in zip(cameras, expected["cameras"], strict=True):
        np.testing.assert_allclose(camera.K, make_K(one["K"]), rtol=1e-9)
        assert camera.size == (tuple(one["size"]) if "size" in one else None)
        assert list(camera.distortion) == pytest.approx(one.get("distortion", [0] * len(camera.distortion)))
        lens = camera.find_distortion(path)
        assert (None if lens is None else lens[0]) == one.get("model")
        position = [0, 0, 0] if camera.T_camera_first is None else camera.T_camera_first[:3, 3]
        np.testing.assert_allclose(position, one.get("position", [0, 0, 0]), atol=1e-9)
        assert camera.raw_name == one.get("raw_name", "")
        of_frames = None if camera.K_of_frames is None else {key: M[0, 0] for key, M in camera.K_of_frames.items()}
        assert of_frames == one.get("fx_of_frames")


CHECKS = {"trajectory": check_trajectory, "reconstruction": check_reconstruction, "calibration": check_calibration}


@pytest.mark.parametrize("case", EXPECTED)
def test_a_file_of_each_program_is_read(case: str) -> None:
    expected = EXPECTED[case]
    CHECKS[expected["read"]](CASES / case / expected["file"], expected)


def test_every_format_of_reconstructions_has_a_case() -> None:
    assert set(FORMATS) == {EXPECTED[case]["format_of"] for case in RECONSTRUCTIONS}


@pytest.mark.parametrize("case", [*RECONSTRUCTIONS, "tum", "euroc", "kitti", "kitti-frame-numbers"])
def test_what_is_read_is_written_again(case: str, tmp_path: Path) -> None:
    first = read_reconstruction(CASES / case / EXPECTED[case]["file"])
    out = write_reconstruction(first, tmp_path / "out" / "fixed")
    second = read_reconstruction(out)
    assert second.format == ("transforms" if FORMATS[first.format].writes is None else first.format)
    np.testing.assert_allclose(second.T_camera_world, first.T_camera_world, atol=1e-6)
    np.testing.assert_allclose(second.K, first.K, rtol=1e-9)
    np.testing.assert_allclose(second.distortion, first.distortion, atol=1e-12)
    if any(first.names):
        assert [Path(name).stem for name in second.names] == [Path(name).stem for name in first.names]
    if first.times_s is not None:
        assert second.times_s is not None
        np.testing.assert_allclose(second.times_s, first.times_s, atol=1e-6)
    with pytest.raises(StadiaError):
        write_reconstruction(first, out)


# -- the tables: each row is read as it says


def write_entry(format: Format, T_world_camera: np.ndarray) -> dict[str, Any]:
    """Return the JSON of one pose as a row of the table describes it."""
    from scipy.spatial.transform import Rotation

    M = write_poses(T_world_camera, format.axes, format.direction)
    q = Rotation.from_matrix(M[:3, :3]).as_quat()
    rotations = {"qw": q[[3, 0, 1, 2]], "rx": Rotation.from_matrix(M[:3, :3]).as_rotvec(), "R": M[:3, :3]}
    if format.is_scattered:
        return dict(zip(format.keys, M[:3].ravel().tolist(), strict=True))
    values = [M] if format.has_matrix else [rotations[format.columns.split()[0]], M[:3, 3]]
    entry: dict[str, Any] = {}
    keyed = dict(zip(format.keys, (value.tolist() for value in values), strict=True))
    for key, value in {**keyed, **({format.time: 0.5} if format.time else {})}.items():
        *outer, last = key.split(".")
        inner = entry
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return entry


@pytest.mark.parametrize("format", JSON_FORMATS, ids=lambda format: f"{format.program} {format.keys[0]}")
def test_each_row_of_json_formats(format: Format, tmp_path: Path) -> None:
    read = read_json_poses(tmp_path / "a.json", {"frames": [write_entry(format, one) for one in T]})
    np.testing.assert_allclose(read.T_world_camera, T, atol=1e-8)


@pytest.mark.parametrize(("format", "name"), [(format, name) for format in NPZ_FORMATS for name in format.keys])
def test_each_name_of_poses_in_an_archive(format: Format, name: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{name: write_poses(T, format.axes, format.direction)})  # type: ignore[arg-type]
    np.testing.assert_allclose(read_trajectory(tmp_path / "a.npz").T_world_camera, T, atol=1e-9)


SCALES = {"pixels": (1, 1), "longer side": (640, 640), "sides": (640, 480)}
SHIFTS = {"pixel": (0, 0), "one": (1, 1), "corner": (0.5, 0.5), "middle": (-319.5, -239.5)}


@pytest.mark.parametrize("format", CAMERA_FORMATS, ids=lambda format: f"{format.program} {format.K[0]}")
def test_each_row_of_camera_formats(format: CameraFormat, tmp_path: Path) -> None:
    sensor = format.sensor_mm if isinstance(format.sensor_mm, float) else 1.0
    known = (600.0, 600.0 if format.K[0] == format.K[1] else 610.0, 310.0, 250.0)
    known = known if format.K[2] else (*known[:2], 319.5, 239.5)
    written = [focal / scale * sensor for focal, scale in zip(known[:2], SCALES[format.unit], strict=True)]
    centers = zip(known[2:], SHIFTS[format.center], SCALES[format.unit], strict=True)
    written += [(center + shift) / scale for center, shift, scale in centers]
    values: dict[str, Any] = {key: "a" if key == "img_name" else 0 for key in format.also}
    values |= dict(zip(format.size, (640, 480), strict=True))
    values |= {key: value for key, value in zip(format.K, written, strict=True) if key}
    camera = read_cameras_by_keys(tmp_path / "a.json", {"camera": values})[0]
    assert camera.size == (480, 640)
    np.testing.assert_allclose(camera.K, make_K(known))


# -- refusals: read, file, content, then parts of the error's fields

IDENTITY = "1 0 0 0 0 1 0 0 0 0 1 0"
KALIBR = (CASES / "camera-kalibr" / "camchain.yaml").read_text()
ROS = (CASES / "camera-ros" / "left.yaml").read_text()
KINEMATICS = "time,easting,northing,altitude,roll,pitch,heading\n" + "1,2,3,4,0.1,0.2,0.3\n" * 3
REALESTATE = "https://video\n" + "1 0.5 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0\n" * 3
READERS: dict[str, Callable[[Path], Any]] = {
    "trajectory": read_trajectory,
    "reference": lambda path: read_trajectory(path, is_reference=True),
    "kitti": lambda path: read_trajectory(path, TrajectoryFormat.KITTI),
    "tum": lambda path: read_trajectory(path, TrajectoryFormat.TUM),
    "reconstruction": read_reconstruction,
    "calibration": read_calibration,
}
REFUSALS: list[tuple[str, str, str | bytes, dict[str, Any]]] = [
    ("kitti", "a.txt", IDENTITY[:-4], {"found": "10 columns", "expected": "12 numbers"}),
    ("kitti", "a.txt", IDENTITY.replace("1", "one", 1), {"found": "could not convert", "expected": "12 numbers"}),
    ("kitti", "a.txt", IDENTITY.replace("1", "nan", 1), {"found": "no pose"}),
    ("kitti", "a.txt", IDENTITY.replace("1", "2", 1), {"where": "line 1", "found": "are 1 to 2", "fix": "columns"}),
    ("kitti", "a.txt", f"{IDENTITY[:-3]}-1 0", {"where": "line 1", "found": "determinant -1 of 1"}),
    ("kitti", "a.txt", "1 0 0 0 0 0 1 0 0 1 0 0\n" * 3, {"found": "-1 of 3 of 3 rotations: two axes are swapped"}),
    ("kitti", "a.txt", "# nothing\n", {"found": "no pose"}),
    ("tum", "a.txt", "1 0 0 0 0 0 0\n", {"found": "7 columns", "expected": "t x y z qx qy qz qw"}),
    ("tum", "a.txt", "1 0 0 0 0 0 0 0", {"found": "length 0", "expected": "length 1"}),
    ("tum", "a.txt", "1 0 0 0 0 0 0 1\n1 2 0 0 0 0 0 1", {"found": "duplicated timestamp", "where": "line 2"}),
    ("tum", "a.txt", "2 0 0 0 0 0 0 1\n1 2 0 0 0 0 0 1", {"found": "goes back", "where": "line 2"}),
    ("tum", "a.txt", "1 inf 0 0 0 0 0 1", {"found": "no pose"}),
    ("kitti", "a.txt", f"0.5 {IDENTITY}", {"where": "line 1", "found": "0.5"}),
    ("kitti", "a.txt", f"1 {IDENTITY}\n1 {IDENTITY}", {"where": "line 2", "expected": "an integer above 1"}),
    ("kitti", "a.txt", f"-1 {IDENTITY}", {"where": "line 1", "expected": "an integer from 0"}),
    ("kitti", "a.txt", f"0 {IDENTITY}\n{IDENTITY}", {"where": "line 2", "found": "a row without a frame number"}),
    ("kitti", "a.txt", f"{IDENTITY}\n0 {IDENTITY}", {"where": "line 2", "found": "after one without"}),
    ("trajectory", "a.txt", "1 2 3 4 5 6 7 8 9 10 11 1e30", {"where": "line 1", "found": "1e+30"}),
    ("trajectory", "a.txt", "0 1 2 3 0 0 0 0\n" * 3, {"found": "length 0 in each of 3"}),
    ("trajectory", "a.txt", "1.403636e+18 1 2 3 0 0 0 1\n" * 12, {"found": ("12", "1.403636e+18"), "fix": "%.9f"}),
    ("trajectory", "a.txt", "a b\nc d\n", {"found": "2 lines of words"}),
    ("trajectory", "a.kml", "<?xml version='1.0'?>\n<kml></kml>", {"found": "degrees", "fix": "write"}),
    ("trajectory", "a.geojson", '{"type": "FeatureCollection", "features": []}', {"found": "degrees", "fix": "write"}),
    ("trajectory", "a.csv", KINEMATICS, {"found": "roll and pitch", "fix": "as_quat"}),
    ("trajectory", "images.bin", b"\0", {"where": "images.bin", "fix": "model_converter"}),
    ("trajectory", "drive.bag", b"\0", {"fix": "evo_traj"}),
    ("trajectory", "a.txt", "0 1 2 3 4 5 6\n1 2 3 4 5 6 7\n2 3 4 5 6 7 8", {"found": "7 columns", "fix": "qx qy"}),
    ("reference", "a.txt", "0 1 2 3\n1 2 3 4\n2 3 4 5", {"found": "4 columns", "fix": "write t x y z"}),
    ("trajectory", "a.xml", "<document/>", {"found": "XML without poses"}),
    ("trajectory", "a.g2o", "EDGE_SE2 0 1", {"found": "no VERTEX_SE3:QUAT"}),
    ("trajectory", "a.json", '{"a": [1]}', {"found": "no poses", "fix": "transforms.json"}),
    ("trajectory", "a.json", "{}", {"found": "an empty object"}),
    ("trajectory", "a.json", '[{"rotation": [2, 0, 0, 0], "translation": [0, 0, 0], "timestamp": 1}]',
     {"found": "length 2", "where": "frame 0"}),
    ("reconstruction", "transforms.json", '{"frames": []}', {"where": "transforms.json"}),
    ("reconstruction", "transforms.json", json.dumps({"fl_x": "a", "frames": [{"transform_matrix": T[0].tolist()}]}),
     {"found": "fl_x = a", "expected": "a number"}),
    ("reconstruction", "a.glb", struct.pack("<IIIII", 0x46546C67, 2, 99, 99, 0x4E4F534A), {"where": "a.glb"}),
    ("reconstruction", "a.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><document><chunk>&b;</chunk></document>",
     {"found": "a document type in XML"}),
    ("reconstruction", "a.xml", "<document><chunk><cameras>", {"found": "invalid XML"}),
    ("reconstruction", "a.xml", "<document><chunk/></document>", {"found": "0 images with a pose of 0"}),
    ("reconstruction", "a.xml", "<document><chunk><camera label='a'><transform>1 2 3</transform></camera></chunk>"
     "</document>", {"found": "3 numbers of a pose", "where": "image a"}),
    ("reconstruction", "bundle.out", "# Bundle file v0.3\n99 0\n1 0 0\n", {"expected": "5 rows of 3 numbers"}),
    ("reconstruction", "bundle.out", "# Bundle file v0.3\n999999999 0\n1 0 0\n", {"found": "999999999 cameras"}),
    ("reconstruction", "bundle.out", "# Bundle file v0.3\nmany\n", {"found": "a damaged file"}),
    ("reconstruction", "a.nvm", "NVM_V3\n\n2\na.jpg 1 2 3\n", {"found": "other rows of 2 cameras"}),
    ("reconstruction", "a.nvm", "NVM_V3", {"found": "other rows of 0 cameras"}),
    ("reconstruction", "a.mvs", b"MVSI" + struct.pack("<IIQ", 3, 0, 1 << 60), {"found": "a damaged file"}),
    ("reconstruction", "a.mvs", (CASES / "openmvs" / "scene.mvs").read_bytes()[:300], {"found": "a damaged file"}),
    ("reconstruction", "a.mvs", b"MVSI" + struct.pack("<IIQQQQ", 0, 0, 1, 0, 1, 0), {"found": "without sizes"}),
    ("reconstruction", "a.geojson", '{"features": [{"properties": {"filename": "", "rotation": 1, "translation": 2}}]}',
     {"found": "2 numbers of a pose"}),
    ("reconstruction", "a_cam.txt", "extrinsic\n", {"where": "a_cam.txt"}),
    ("reconstruction", "a.csv", "#name,x,y,alt,heading,pitch,roll\na.jpg,1,2\n", {"found": "shorter or longer"}),
    ("reconstruction", "a.csv", "#name,x,y,alt,heading,pitch,roll\na.jpg,1,2,3,4,5,b\n", {"where": "image a.jpg"}),
    ("reconstruction", "sfm_data.json", '{"sfm_data_version": "0.3", "extrinsics": []}', {"found": "0 images"}),
    ("reconstruction", "a.json", '[{"shots": 3}]', {"found": "0 images"}),
    ("reconstruction", "a.json", '[{"shots": {"a": {"rotation": [1, 2], "translation": 3}}}]', {"found": "3 numbers"}),
    ("trajectory", "a.txt", "x: 1\ny: 2\nz: 3\n---\nx: 1\ny: 2\nz: 4\n---\n",
     {"found": "rostopic echo", "fix": "rostopic echo -p"}),
    ("trajectory", "a.csv", "timestamp,x,y,z,camrot_x,camrot_y,camrot_z\n" + "1,2,3,4,5,6,7\n" * 3,
     {"found": "7 columns", "fix": "convert camrot_x, camrot_y, camrot_z"}),
    ("reconstruction", "a.txt", "#Label,X,Y,Z,Omega,Phi,Kappa\na.jpg,1,2\n", {"where": "image a.jpg"}),
    ("reconstruction", "absent", b"", {"found": "no such file"}),
    ("calibration", "a.yaml", "a: 1", {"found": "0 cameras"}),
    ("calibration", "a.yaml", "- 1", {"found": "list"}),
    ("calibration", "a.yaml", "a: [", {"found": "invalid YAML"}),
    ("calibration", "a.yaml", KALIBR.replace("pinhole", "omni"), {"found": "cam0 with the model 'omni'"}),
    ("calibration", "a.yaml", KALIBR.replace("[700, 710, 319.5, 239.5]", "[700]"), {"found": "in cam0.intrinsics"}),
    ("calibration", "a.yaml", KALIBR.replace("[640, 480]", "[640, -480]"), {"found": "a size of 640.0x-480.0"}),
    ("calibration", "a.yaml", "cam0: 3", {"found": "cam0 with the model 'None'"}),
    ("calibration", "a.yaml", ROS.replace("[700, 0", "[.nan, 0"), {"found": "0 numbers in camera_matrix"}),
    ("calibration", "a.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", {"found": "a document type in XML"}),
    ("calibration", "a.xml", "<a>", {"found": "invalid XML"}),
    ("calibration", "a.xml", "<a/>", {"found": "0 cameras"}),
    ("calibration", "calib.txt", "P0: 1 2 3", {"found": "P0: '1 2 3'"}),
    ("calibration", "a.txt", REALESTATE, {"found": "RealEstate10K", "fix": ("0.5 WIDTH", "0.9 HEIGHT")}),
    *(("calibration", "transforms.json", json.dumps({"camera_model": model, "fl_x": 320, "w": 640, "h": 320}),
       {"found": model, "fix": ""}) for model in ("EQUIRECTANGULAR", "ORTHOPHOTO", "VR180_L")),
]  # fmt: skip


@pytest.mark.parametrize(("read", "name", "content", "parts"), REFUSALS)
def test_a_damaged_file_is_refused(
    read: str, name: str, content: str | bytes, parts: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / name
    if name != "absent":
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with refuses(DataError, **{"where": str(path), **parts}) as refused:
        READERS[read](path)
    assert "\n" not in str(refused.value)


ARRAYS = {
    "pickle": {"extrinsic": np.array([{"a": 1}], object)},
    "NaN": {"extrinsic": np.full((3, 3, 4), np.nan)},
    "fewer K than poses": {"extrinsic": T, "intrinsic": np.tile(K, (2, 1, 1))},
    "no rotation": {"extrinsic": 2 * T},
    "no poses": {"depth": np.ones((3, 4, 4))},
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_wrong_arrays_are_refused(kind: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **ARRAYS[kind])  # type: ignore[arg-type]
    with refuses(DataError, where="a.npz"):
        read_reconstruction(tmp_path / "a.npz")


def test_a_projection_without_a_camera_is_refused(tmp_path: Path) -> None:
    for wrong in (np.zeros((4, 4)), np.full((4, 4), np.nan), np.ones(3)):
        np.savez(tmp_path / "a.npz", world_mat_0=wrong)
        with refuses(DataError, where="world_mat_0", expected="a projection matrix"):
            read_reconstruction(tmp_path / "a.npz")


@pytest.mark.parametrize("images", [struct.pack("<Q", 1) + b"\0" * 80, struct.pack("<Q", 1 << 60)])
def test_a_cut_model_of_colmap_is_refused(images: bytes, tmp_path: Path) -> None:
    (tmp_path / "cameras.bin").write_bytes(struct.pack("<QiiQQ4d", 1, 1, 1, 64, 48, 50, 50, 32, 24))
    (tmp_path / "images.bin").write_bytes(images)
    with pytest.raises(DataError):
        read_reconstruction(tmp_path)


def test_the_numbers_that_an_error_names_are_a_calibration(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"lens": "unknown"}')
    with refuses(DataError, found="0 cameras") as refused:
        read_calibration(path)
    path.write_text(str(refused.value.fix).partition(": ")[2])
    (camera,) = read_calibration(path)
    assert (camera.size, camera.K[0, 0]) == ((720, 1280), 700)


def test_a_view_of_a_reconstruction_has_the_order_of_its_images() -> None:
    shuffled = Reconstruction(
        names=("b/10.png", "a/2.png"),
        T_camera_world=np.linalg.inv(T[[1, 0]]),
        K=np.tile(K, (2, 1, 1)),
        distortion=np.zeros((2, 4)),
        sizes=np.zeros((2, 2), np.int64),
    )
    np.testing.assert_allclose(shuffled.trajectory().T_world_camera, T[[0, 1]], atol=1e-12)


def make_rows(count: int = 12) -> np.ndarray:
    """Return rows t x y z qx qy qz qw of a camera that turns, (N, 8)."""
    times = 10 + np.arange(count) / 10
    half = 1 + np.arange(count) / 20
    zeros = np.zeros(count)
    return np.stack([times, times, zeros, zeros, zeros, np.sin(half), zeros, np.cos(half)], 1)


def test_rows_that_repeat_the_row_before_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "est.txt"
    np.savetxt(path, np.repeat(make_rows(), 3, axis=0), fmt="%.6f")
    read = read_trajectory(path)
    assert len(read.T_world_camera) == 12
    assert any("24 of 36 rows" in note for note in read.notes)
    changed = np.repeat(make_rows(), 3, axis=0)
    changed[1, 1] += 0.5
    np.savetxt(path, changed, fmt="%.6f")
    with refuses(DataError, found="duplicated timestamp"):
        read_trajectory(path)


@pytest.mark.parametrize("width", [8, 12, 16])
def test_a_row_that_is_cut_off_is_named_with_the_numbers_it_should_have(width: int, tmp_path: Path) -> None:
    rows = make_rows() if width == 8 else np.tile(np.eye(4).ravel()[:width], (12, 1))
    lines = [" ".join(map(str, row)) for row in rows.tolist()]
    path = tmp_path / "est.txt"
    path.write_text("\n".join([*lines[:-1], lines[-1][: len(lines[-1]) // 2]]))
    with refuses(DataError, where="est.txt, line 12", found="last row, which is cut off", expected=f"{width} numbers"):
        read_trajectory(path)


def test_a_covariance_behind_a_pose_leaves_w_last(tmp_path: Path) -> None:
    rows = np.hstack([make_rows(), np.tile(np.diag([1e-4] * 6).ravel(), (12, 1))])
    np.savetxt(tmp_path / "est.txt", rows, fmt="%.6f")
    np.savetxt(tmp_path / "ref.txt", make_rows(), fmt="%.6f")
    read, right = (read_trajectory(tmp_path / name) for name in ("est.txt", "ref.txt"))
    np.testing.assert_allclose(read.T_world_camera, right.T_world_camera, atol=1e-5)


def test_rows_of_realestate_have_poses_and_shares_of_the_images(tmp_path: Path) -> None:
    x = np.arange(4.0)
    rows = [f"{100 * k} 0.5 0.9 0.5 0.4 0 0 1 0 0 {-k} 0 1 0 0 0 0 1 0" for k in range(4)]
    (tmp_path / "scene.txt").write_text("\n".join(["https://video", *rows]))
    read = read_reconstruction(tmp_path / "scene.txt")
    np.testing.assert_allclose(read.T_world_camera[:, 0, 3], x)
    assert read.times_s is not None
    np.testing.assert_allclose(read.times_s, x / 1e4)
    sized = read.with_image_sizes([f"{100 * k}.jpg" for k in range(4)], np.tile([640, 360], (4, 1)))
    np.testing.assert_allclose(sized.K[0], [[320, 0, 319.5], [0, 324, 143.5], [0, 0, 1]])
    assert sized.names == ("0", "100", "200", "300")
    np.testing.assert_allclose(read_trajectory(tmp_path / "scene.txt").T_world_camera[:, 0, 3], x)


def test_cameras_of_infinitam_are_color_and_depth(tmp_path: Path) -> None:
    path = tmp_path / "calib.txt"
    pose = "1 0 0 .1\n0 1 0 0\n0 0 1 0\n"
    path.write_text(f"480 270\n370 369\n241 134\n\n224 172\n215 216\n111 85\n\n{pose}\naffine 0.001 0\n")
    color, depth = read_calibration(path)
    assert (color.name, depth.name, color.size, depth.size) == ("color", "depth", (270, 480), (172, 224))
    np.testing.assert_allclose([color.K[0, 0], color.K[1, 1], color.K[0, 2], color.K[1, 2]], [370, 369, 241, 134])
    np.testing.assert_allclose(depth.K[[0, 1], [0, 1]], [215, 216])


def test_attributes_of_xml_are_a_camera_with_its_lens(tmp_path: Path) -> None:
    lens = '<distortion k1="-.1" k2=".02" k3=".003" p1=".001" p2=".002"/>'
    sizes = '<imagesize width="640" height="480"/><focallength x="650" y="640"/><principalpoint x="324" y="235"/>'
    (tmp_path / "a.cam").write_text(f'<?xml version="1.0"?><camera>{sizes}{lens}</camera>')
    (camera,) = read_calibration(tmp_path / "a.cam")
    assert (camera.size, camera.distortion) == ((480, 640), (-0.1, 0.02, 0.001, 0.002, 0.003))
    np.testing.assert_allclose(camera.K, [[650, 0, 324], [0, 640, 235], [0, 0, 1]])


def test_b1_of_metashape_is_a_part_of_fx(tmp_path: Path) -> None:
    numbers = "<width>800</width><height>600</height><f>610</f><cx>4</cx><cy>-3</cy><b1>2.5</b1><p1>.001</p1>"
    (tmp_path / "a.xml").write_text(f"<calibration><projection>frame</projection>{numbers}</calibration>")
    (camera,) = read_calibration(tmp_path / "a.xml")
    np.testing.assert_allclose(camera.K, [[612.5, 0, 403.5], [0, 610, 296.5], [0, 0, 1]])
    assert camera.distortion[2:4] == (0, 0.001)
    assert not any("b1" in note for note in camera.notes)


def test_poses_with_a_time_are_sorted_by_it(tmp_path: Path) -> None:
    poses = [
        {"token": f"{7 * k % 12:x}", "timestamp": int(1e6 * t), "rotation": [w, x, y, z], "translation": [a, b, c]}
        for k, (t, a, b, c, x, y, z, w) in enumerate(make_rows().tolist())
    ]
    path = tmp_path / "ego_pose.json"
    path.write_text(json.dumps([poses[5 * k % 12] for k in range(12)]))
    read = read_trajectory(path)
    assert read.times_s is not None
    np.testing.assert_allclose(read.T_world_camera[:, 0, 3], make_rows()[:, 1])


def test_a_file_of_utf_16_is_read(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "est.txt", make_rows(), fmt="%.6f")
    text = (tmp_path / "est.txt").read_text()
    (tmp_path / "est.txt").write_bytes(text.encode("utf-16"))
    assert len(read_trajectory(tmp_path / "est.txt").T_world_camera) == 12


@pytest.mark.parametrize(("kind", "count"), [(np.float32, 1), (np.float64, 0)])
def test_steps_of_float32_far_from_zero_are_noted(tmp_path: Path, kind: type, count: int) -> None:
    rows = make_rows()
    rows[:, 1:4] += [500_123.456, 4_649_776.224, 200.5]
    rows[:, 1:4] = rows[:, 1:4].astype(kind)
    np.savetxt(tmp_path / "est.txt", rows, fmt="%.6f")
    notes = [note for note in read_trajectory(tmp_path / "est.txt").notes if "in steps of 0.5" in note]
    assert len(notes) == count
