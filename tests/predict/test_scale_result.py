"""Metres for results of other programs: each format is scaled in place, and each source finds a drawn factor."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock, patch

import cv2
import numpy as np
import pycolmap
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.refusals import refuses
from tests.sound import write_video

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.data.frame_preparation import Frame
from stadia.data.open_dataset import open_recordings
from stadia.geometry.geographic import EARTH_RADIUS_M
from stadia.io.records.read import read_trajectory
from stadia.scale.foreign_results import FORMATS, ForeignResult, open_result, write_scaled
from stadia.scale.positions import fit_positions, read_positions
from stadia.scale.scale_result import ResultImages, find_images, read_depth_frames, scale_result

FACTOR = 4.25
Stadia = Callable[..., tuple[int, str, str]]


def make_poses(count: int = 12) -> NDArray[np.float64]:
    """T_world_camera (N, 4, 4) of a drive in a curve, in metres."""
    T = np.tile(np.eye(4), (count, 1, 1))
    for row, angle in enumerate(np.linspace(0, 0.4, count)):
        T[row, :3, :3] = cv2.Rodrigues(np.array([0, angle, 0.0]))[0]
        T[row, :3, 3] = 30 * math.sin(angle), 0.05 * row, 40 * math.sin(1.3 * angle)
    return T


def write_rows(path: Path, T: NDArray[np.float64], format: str) -> Path:
    q = np.array([pycolmap.Rotation3d(one[:3, :3]).quat for one in T])  # x y z w
    t, times = T[:, :3, 3], 1.5e9 + 0.1 * np.arange(len(T))
    rows = {
        "kitti": T[:, :3].reshape(-1, 12),
        "numbered": np.column_stack((np.arange(len(T)), T[:, :3].reshape(-1, 12))),
        "tum": np.column_stack((times, t, q)),
        "euroc": np.column_stack((times * 1e9, t, q[:, [3, 0, 1, 2]], np.ones((len(T), 9)))),
    }[format]
    header = "timestamp,p_x,p_y,p_z,q_w,q_x,q_y,q_z" + ",v" * 9 if format == "euroc" else ""
    np.savetxt(path, rows, fmt="%.12g", delimiter="," if format == "euroc" else " ", header=header)
    return path


def write_model(folder: Path, T: NDArray[np.float64], *, binary: bool = False) -> Path:
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(camera_id=1, model="PINHOLE", width=100, height=80, params=[90.0, 90, 50, 40])
    model.add_camera_with_trivial_rig(camera)
    for row, one in enumerate(T):
        image = pycolmap.Image(
            image_id=row + 1, camera_id=1, name=f"{'left' if row % 2 else 'right'}/{row // 2:04d}.png"
        )
        inverse = np.linalg.inv(one)
        model.add_image_with_trivial_frame(
            image, pycolmap.Rigid3d(pycolmap.Rotation3d(inverse[:3, :3]), inverse[:3, 3])
        )
    model.add_point3D(np.array([1.0, 2, 30]), pycolmap.Track(), np.zeros(3, np.uint8))
    folder.mkdir()
    (model.write_binary if binary else model.write_text)(str(folder))
    return folder


def make_ply_header(layout: str, *properties: str, count: int) -> str:
    lines = ["ply", f"format {layout} 1.0", f"element vertex {count}", *(f"property {one}" for one in properties)]
    return "\n".join([*lines, "element face 0", "property list uchar int vertex_index", "end_header\n"])


@pytest.mark.parametrize("format", ["kitti", "numbered", "tum", "euroc"])
def test_a_trajectory_is_scaled_in_its_own_rows(format: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "poses.txt", make_poses(), format)
    write_scaled(open_result(path), tmp_path / "out.txt", FACTOR)
    before, after = read_trajectory(path), read_trajectory(tmp_path / "out.txt")
    np.testing.assert_allclose(after.T_world_camera[:, :3, 3], FACTOR * before.T_world_camera[:, :3, 3], rtol=1e-9)
    np.testing.assert_array_equal(after.T_world_camera[:, :3, :3], before.T_world_camera[:, :3, :3])
    assert len(after.notes) == len(before.notes)
    for one, two in zip(path.read_text().splitlines(), (tmp_path / "out.txt").read_text().splitlines(), strict=True):
        assert one == two or len(one.split()) == len(two.split())
    assert format != "euroc" or two.split(",")[8:] == [f"{FACTOR:g}"] * 3 + ["1"] * 6


@pytest.mark.parametrize("binary", [False, True])
def test_a_colmap_model_is_scaled(binary: bool, tmp_path: Path) -> None:
    model = write_model(tmp_path / "sparse", make_poses(), binary=binary)
    scaled = scale_result(model, ["baseline=2"])
    expected = np.median(np.linalg.norm(make_poses()[1::2, :3, 3] - make_poses()[::2, :3, 3], axis=1))
    assert scaled.receipt.factor == pytest.approx(2 / expected, rel=1e-3)
    assert scaled.copy == tmp_path / "sparse.metres"
    assert (scaled.copy / ("points3D.bin" if binary else "points3D.txt")).is_file()
    after, before = open_result(scaled.copy), open_result(model)
    np.testing.assert_allclose(after.points, scaled.receipt.factor * before.points)
    assert after.names == before.names
    mapped = tmp_path / "drive.map"
    shutil.copytree(model, mapped / "colmap")
    (mapped / "map.json").write_text("{}")
    assert open_result(mapped).names == before.names


def test_transforms_and_their_cloud_are_scaled(tmp_path: Path) -> None:
    axes = np.diag([1.0, -1, -1, 1])
    frames = [
        {"file_path": f"images/{row}.png", "transform_matrix": (T @ axes).tolist()}
        for row, T in enumerate(make_poses())
    ]
    cloud = make_ply_header("ascii", "float x", "float y", "float z", "float scale_0", count=2)
    (tmp_path / "points.ply").write_text(cloud + "1 2 3 0\n-4 5 6 1\n")
    path = tmp_path / "transforms.json"
    path.write_text(json.dumps({"fl_x": 90, "ply_file_path": "points.ply", "frames": frames}))
    length = float(np.linalg.norm(make_poses()[7, :3, 3] - make_poses()[2, :3, 3]))
    scaled = scale_result(path, [f"distance=2.png..7:{FACTOR * length}"], out=tmp_path / "metres.json")
    np.testing.assert_allclose(
        open_result(scaled.copy).T_world_camera[:, :3, 3], FACTOR * make_poses()[:, :3, 3], atol=1e-9
    )
    content = json.loads(scaled.copy.read_text())
    assert content["fl_x"] == 90
    np.testing.assert_allclose(
        open_result(tmp_path / content["ply_file_path"]).points, FACTOR * np.array([[1, 2, 3], [-4, 5, 6]])
    )
    assert f"{math.log(FACTOR):.6g}"[:6] in (tmp_path / content["ply_file_path"]).read_text(), "sizes of Gaussians"


def test_the_nearest_point_of_a_pixel_is_its_depth() -> None:
    points = np.array([[0.0, 0, 9], [0, 0, 2], [0, 0, 5], [1, 0, 4]])
    observed = {"a": np.arange(4)}
    result = ForeignResult(Path("model"), "COLMAP model", ("a",), np.eye(4)[None], points=points, observed=observed)
    frame = Frame("a", np.zeros((3, 5, 3), np.uint8), np.array([[4.0, 0, 2], [0, 4, 1], [0, 0, 1]]))
    recording = MagicMock(mask_reader=None)
    with patch("stadia.scale.scale_result.read_frames", return_value=iter([frame])):
        (measured,) = read_depth_frames(result, ResultImages(recording, {0: 0}))
    np.testing.assert_allclose(measured.inverse_depth[1], [0, 0, 0.5, 0.25, 0])


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_binary_cloud_is_scaled_by_two_picked_points(order: str, tmp_path: Path) -> None:
    points = np.zeros(5, [("x", f"{order}f4"), ("y", f"{order}f4"), ("z", f"{order}f4"), ("red", "u1")])
    points["x"], points["red"] = np.arange(5), 9
    name = "little" if order == "<" else "big"
    properties = ("float x", "float y", "float z", "uchar red")
    header = make_ply_header(f"binary_{name}_endian", *properties, count=5)
    path = tmp_path / "cloud.ply"
    path.write_bytes(header.encode() + points.tobytes() + b"rest")
    scaled = scale_result(path, ["distance=1,0,0..3,0,0:5", "distance=0,0,0..0,0,1:9"])
    assert set(scaled.receipt.fused.contradictions[0]) == set(scaled.receipt.fits)  # type: ignore[union-attr]
    assert scaled.receipt.verdict == "doubtful"
    data = scaled.copy.read_bytes()
    read = np.frombuffer(data[len(header) : -4], points.dtype)
    np.testing.assert_allclose(read["x"], scaled.receipt.factor * np.arange(5), rtol=1e-6)
    assert (read["red"] == 9).all()
    assert data.endswith(b"rest")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".npy", ".npz", ".pfm", ".tiff"])
def test_depth_maps_are_scaled_with_their_suffix(suffix: str, tmp_path: Path, real_data: Path) -> None:
    folder, images = tmp_path / "depth", real_data / "sevenscenes" / "kitchen"
    folder.mkdir()
    (recording,) = open_recordings(images, "auto")
    for index in range(2):
        depth = recording.depth_m(index)
        assert depth is not None
        name, depth = recording.stem(index), depth / np.float32(FACTOR)
        match suffix:
            case ".png":
                cv2.imwrite(str(folder / f"{name}.png"), (depth * 256).astype(np.uint16))
            case ".npy":
                np.save(folder / f"{name}.npy", depth)
            case ".npz":
                np.savez(folder / f"{name}.npz", depth=depth)
            case _:
                cv2.imwrite(str(folder / f"{name}{suffix}"), depth)
    scaled = scale_result(folder, ["lidar"], images=images)
    assert scaled.receipt.factor == pytest.approx(FACTOR, rel=0.01)
    copies = open_result(scaled.copy)
    assert {Path(str(file)).suffix for file in copies.depths.values()} == {suffix}


def make_gpx(rows: NDArray[np.float64]) -> str:
    points = "".join(f'<trkpt lat="{a:.9f}" lon="{o:.9f}"><ele>{e:.3f}</ele></trkpt>' for a, o, e in rows)
    return f'<?xml version="1.0"?><gpx xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{points}</trkseg></trk></gpx>'


def make_nmea(rows: NDArray[np.float64]) -> str:
    def angle(value: float, digits: int, sides: str) -> str:
        whole = int(abs(value))
        return f"{whole:0{digits}d}{60 * (abs(value) - whole):011.8f},{sides[int(value < 0)]}"

    times = [f"{235955 + row if row < 5 else row - 5:06d}.00" for row in range(len(rows))]  # over midnight
    return "".join(
        f"$GPGGA,{time},{angle(a, 2, 'NS')},{angle(o, 3, 'EW')},1,08,0.9,{e:.3f},M,46.9,M,,*47\r\n$GPGSV,3,1,11*74\r\n"
        for time, (a, o, e) in zip(times, rows, strict=True)
    )


def write_photos(folder: Path, rows: NDArray[np.float64]) -> Path:
    folder.mkdir()
    for row, (latitude, longitude, altitude) in enumerate(rows):
        exif = Image.Exif()
        ifd = exif.get_ifd(0x8825)
        for tag, value, sides in ((1, latitude, "NS"), (3, longitude, "EW")):
            minutes = 60 * (abs(value) - int(abs(value)))
            ifd |= {
                tag: sides[int(value < 0)],
                tag + 1: (float(int(abs(value))), float(int(minutes)), 60 * (minutes - int(minutes))),
            }
        exif[0x8825] = ifd | {5: b"\x01" if altitude < 0 else b"\x00", 6: abs(altitude)}
        Image.new("RGB", (8, 8)).save(folder / f"{row:06d}.jpg", exif=exif)
    return folder


def test_a_track_whose_clock_has_whole_seconds_is_spread_over_them(tmp_path: Path) -> None:
    seconds = np.repeat([0, 1, 2, 3], [3, 4, 5, 2])
    rows = [*range(11), 10, 12, 13]
    moved = np.delete(np.arange(len(rows)), 11)
    points = [
        f'<trkpt lat="{row / 1000}" lon="8"><time>2022-05-26T17:45:0{second}Z</time></trkpt>'
        for row, second in zip(rows, seconds, strict=True)
    ]
    (tmp_path / "a.gpx").write_text(f"<gpx><trk><trkseg>{''.join(points)}</trkseg></trk></gpx>")
    read = read_positions(tmp_path / "a.gpx")
    assert len(read.metres) == len(moved), "a repeated position is no measurement"
    assert read.times_s is not None
    np.testing.assert_allclose(np.diff(read.times_s), 0.25)
    np.testing.assert_allclose(read.times_s[3] % 60, 1)


@pytest.mark.parametrize("unit", ["degrees", "metres"])
def test_names_of_images_with_positions_give_metres(unit: str, tmp_path: Path) -> None:
    """Colmap 2647 and 2570: rows of a name and latitude, longitude and altitude, or UTM, without a header."""
    at = make_poses()[:, :3, 3]
    rows = at[:, [0, 2, 1]] + (218248.6, 1925986.4, 179.5)
    if unit == "degrees":
        turn = np.degrees(at / EARTH_RADIUS_M)
        rows = np.column_stack((10 + turn[:, 2], 8 + turn[:, 0] / math.cos(math.radians(10)), 30 - at[:, 1]))
    lines = (f"D:/data\\DJI_{k:04d}.JPG {x:.9f} {y:.9f} {z:.3f}" for k, (x, y, z) in enumerate(rows.tolist()))
    (tmp_path / "geo.txt").write_text("\n".join(lines))
    read = read_positions(tmp_path / "geo.txt")
    assert read.names[0] == "DJI_0000"
    length = float(np.linalg.norm(at[-1] - at[0]))
    assert np.linalg.norm(read.metres[-1] - read.metres[0]) == pytest.approx(length, rel=0.01)


@pytest.mark.parametrize("projection", ["EPSG:4326", "EPSG:32632"])
def test_positions_of_opendronemap_give_metres(projection: str, tmp_path: Path) -> None:
    at = make_poses()[:, :3, 3]
    rows = at[:, [0, 2, 1]] + (400000, 5200000, 500)
    if projection == "EPSG:4326":
        turn = np.degrees(at / EARTH_RADIUS_M)
        rows = np.column_stack((8 + turn[:, 0] / math.cos(math.radians(60)), 60 + turn[:, 2], 30 - at[:, 1]))
    lines = [f"DJI_{k:04d}.JPG {x:.9f} {y:.9f} {z:.3f} 12.5 -88 0.3" for k, (x, y, z) in enumerate(rows.tolist())]
    path = tmp_path / "geo.txt"
    path.write_text("\n".join([projection, *lines]))
    read = read_positions(path)
    assert read.names[0] == "DJI_0000"
    length = float(np.linalg.norm(at[-1] - at[0]))
    assert np.linalg.norm(read.metres[-1] - read.metres[0]) == pytest.approx(length, rel=0.01)
    for wrong, found in (("EPSG:31468", "EPSG:31468"), (f"{projection}\na.jpg nan 1 2", "a.jpg nan")):
        path.write_text(wrong)
        with refuses(DataError, found=found):
            read_positions(path)


@pytest.mark.parametrize("kind", ["gpx", "nmea", "photos"])
def test_a_track_gives_metres(kind: str, tmp_path: Path) -> None:
    at = make_poses()[:, :3, 3]
    rows = np.column_stack(
        (
            -33.9 + np.degrees(at[:, 2] / EARTH_RADIUS_M),
            -70.6 + np.degrees(at[:, 0] / EARTH_RADIUS_M / math.cos(math.radians(33.9))),
            30 - at[:, 1],
        )
    )
    track = tmp_path / kind
    if kind == "photos":
        write_photos(track, rows)
    else:
        track = track.with_suffix(f".{kind}")
        track.write_text(make_gpx(rows) if kind == "gpx" else make_nmea(rows))
    metres = read_positions(track).metres
    assert np.linalg.norm(metres[-1]) == pytest.approx(float(np.linalg.norm(at[-1] - at[0])), rel=0.006)
    if kind == "nmea":
        times = read_positions(track).times_s
        assert times is not None
        np.testing.assert_allclose(np.diff(times), 1)
    path = write_rows(tmp_path / "path.txt", scale_poses(make_poses(), 1 / FACTOR), "kitti")
    assert scale_result(path, [f"gps={track}"]).receipt.factor == pytest.approx(FACTOR, rel=0.01)


def scale_poses(T: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    scaled = T.copy()
    scaled[:, :3, 3] *= factor
    return scaled


@pytest.mark.slow
def test_the_deviation_of_positions_is_that_of_their_noise() -> None:
    random, at = np.random.default_rng(0), make_poses(50)[:, :3, 3]
    fits = [fit_positions(at / FACTOR, at + random.normal(0, 1, at.shape)) for _ in range(400)]
    errors = np.array([fit.factor / FACTOR - 1 for fit in fits])
    held = np.mean(np.abs(errors) <= [fit.deviation for fit in fits])
    assert 0.60 <= held <= 0.76
    far = at.copy()
    far[7] += 500
    assert fit_positions(at / FACTOR, far).factor == pytest.approx(FACTOR, rel=1e-6), "a position far off"


def test_speed_and_its_contradiction(tmp_path: Path, stadia: Stadia) -> None:
    T = np.tile(np.eye(4), (10, 1, 1))
    T[:, 2, 3] = np.arange(10) / FACTOR
    path = write_rows(tmp_path / "path.txt", T, "tum")
    code, out, _ = stadia("scale", path, "--scale-from", "speed=10", "--scale-from", "distance=0..9:20")
    assert code == 0
    receipt = json.loads((tmp_path / "path.metres.txt.receipt.json").read_text())
    assert receipt["sources"]["speed=10"]["factor"] == pytest.approx(FACTOR)
    assert receipt["fused"]["contradictions"] == [["speed=10", "distance=0..9:20"]] or "distance" in out
    code, _, error = stadia("scale", path, "--scale-from", "speed=10")
    assert code == 2, error


@pytest.mark.slow
def test_kitti_06_by_height_and_by_noisy_positions(real_data: Path, tmp_path: Path) -> None:
    data, random = real_data / "kitti_odometry", np.random.default_rng(5)
    truth = read_trajectory(data / "poses" / "06.txt").T_world_camera[:51]
    factor = math.exp(random.uniform(-3, 3))
    path = write_rows(tmp_path / "path.txt", scale_poses(truth, 1 / factor), "kitti")
    noisy = truth.copy()
    noisy[:, :3, 3] += random.normal(0, 1, (51, 3))
    track = write_rows(tmp_path / "track.txt", noisy, "kitti")
    scaled = scale_result(path, ["height=1.65", f"gps={track}", "distance=000000..000050:75"], images=data)
    fits = scaled.receipt.fits
    assert fits["height=1.65"].factor == pytest.approx(factor, rel=0.05)
    assert fits[f"gps={track}"].factor == pytest.approx(factor, rel=0.05)
    assert fits["height=1.65"].deviation < 0.05
    named = {name for pair in scaled.receipt.fused.contradictions for name in pair}  # type: ignore[union-attr]
    assert "distance=000000..000050:75" in named


def test_the_images_of_a_path_may_be_a_video(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "path.txt", make_poses(), "kitti")
    write_video(tmp_path / "drive.mp4")
    images = find_images(open_result(path), tmp_path / "drive.mp4", {"camera": {"horizontal_fov_deg": 70}})
    assert images is not None
    assert images.index_of == {row: row for row in range(12)}
    (tmp_path / "drive.mp4").rename(photo := tmp_path / "photo.jpg")
    with refuses(DataError, where=photo):
        find_images(open_result(path), photo, {})


def test_wrong_input_is_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "path.txt", make_poses(), "kitti")
    with refuses(ConfigError, where="--scale-from"):
        scale_result(path, [])
    with refuses(DataError, where=tmp_path / "none"):
        scale_result(tmp_path / "none", ["height=1"])
    with refuses(StadiaError, where="--scale-from"):
        scale_result(path, ["height=1.5"])  # no images
    with refuses(StadiaError, where="--scale-from"):
        scale_result(path, ["lidar"])
    scale_result(path, ["distance=000000..000003:9"], out=tmp_path / "out.txt")
    with refuses(StadiaError, where=tmp_path / "out.txt"):
        scale_result(path, ["distance=000000..000003:9"], out=tmp_path / "out.txt")
    (tmp_path / "bad.gpx").write_text('<!DOCTYPE x [<!ENTITY a "b">]><gpx/>')
    with refuses(DataError, where=tmp_path / "bad.gpx"):
        read_positions(tmp_path / "bad.gpx")


def test_a_wrong_copy_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_rows(tmp_path / "path.txt", make_poses(), "kitti")
    recognizes, read, write = FORMATS["trajectory"]
    monkeypatch.setitem(
        FORMATS, "trajectory", (recognizes, read, lambda result, out, factor: write(result, out, 2 * factor))
    )
    with refuses(StadiaError, where=tmp_path / "out.txt"):
        write_scaled(open_result(path), tmp_path / "out.txt", FACTOR)
    assert list(tmp_path.iterdir()) == [path]
