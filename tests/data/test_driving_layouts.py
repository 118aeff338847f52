"""nuScenes, DDAD, BDD100K, Waymo and ROS bags in generated miniatures: what is read, and wrong variants by name."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow
import pytest
from numpy.typing import NDArray
from pyarrow import parquet
from tests.combinations import mark_others
from tests.data.three_steps import check_three_steps
from tests.refusals import refuses

from stadia.core.errors import ConfigError, DataError
from stadia.data.formats.ros_bags import ENCODINGS, decode_message
from stadia.data.formats.street_videos import compute_gps_poses
from stadia.data.open_dataset import detect_format, open_recordings, read_named_splits, sample_recordings

OneLine = Callable[..., None]
Array = NDArray[np.float64]
FRAMES = 6
TIME_0_S = 1_532_402_927

T_EGO_CAMERA = np.array([[0, 0, 1.0, 1.7], [-1, 0, 0, 0.1], [0, -1, 0, 1.5], [0, 0, 0, 1]])
"""A camera that looks along x of a car whose y is left and z up."""

T_EGO_SCAN = np.eye(4)
T_EGO_SCAN[:3, 3] = (0.9, 0, 1.8)


def quaternion(T: Array) -> list[float]:
    """W x y z of the rotation of a (4, 4) matrix."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(T[:3, :3]).as_quat().tolist()
    return [w, x, y, z]


def scan_points(world: Any, T_world_scan: Array, index: int) -> NDArray[np.float32]:
    """Every seventh pixel of the world's depth as a point of the scanner."""
    _, depth = world.render(index)
    rays = world.pinhole_rays(world.K, world.height, world.width)
    points = (rays * depth[..., None]).reshape(-1, 3)[::7]
    in_world = points @ world.pose(index)[:3, :3].T + world.pose(index)[:3, 3]
    T_scan_world = np.linalg.inv(T_world_scan)
    return (in_world @ T_scan_world[:3, :3].T + T_scan_world[:3, 3]).astype(np.float32)


def write_tables(folder: Path, tables: dict[str, list[dict[str, Any]]]) -> None:
    folder.mkdir(parents=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))


FIRST = {"scene-0061": 0, "scene-0103": 10}
"""First frame of the world in each scene: training and validation show different places."""


@pytest.fixture
def nuscenes(tmp_path: Path, world: Any) -> Path:
    """Two scenes of v1.0-mini with six frames, of which every second is a keyframe with a scan 20 ms later."""
    root = tmp_path / "nuscenes"
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in ("scene", "sample", "sample_data", "ego_pose")}
    sensors = {"CAM_FRONT": T_EGO_CAMERA, "LIDAR_TOP": T_EGO_SCAN, "RADAR_FRONT": np.eye(4)}
    tables["sensor"] = [{"token": f"s{name}", "channel": name, "modality": "camera"} for name in sensors]
    tables["calibrated_sensor"] = [
        {
            "token": f"c{name}",
            "sensor_token": f"s{name}",
            "translation": T[:3, 3].tolist(),
            "rotation": quaternion(T),
            "camera_intrinsic": world.K.tolist() if name == "CAM_FRONT" else [],
        }
        for name, T in sensors.items()
    ]
    tables["log"] = [{"token": "log", "logfile": "n015-2018-07-24-11-22-45+0800", "location": "singapore-onenorth"}]

    def add(scene: str, index: int, channel: str, is_key: bool, name: str, late_s: float = 0.0) -> Array:
        T_world_camera = world.pose(index + FIRST[scene] + late_s * 10)
        T_world_ego = T_world_camera @ np.linalg.inv(T_EGO_CAMERA)
        token = f"{scene}{channel}{index}"
        time_us = int((TIME_0_S + 0.1 * index + late_s) * 1e6)
        ego = {"token": f"e{token}", "timestamp": time_us, "translation": T_world_ego[:3, 3].tolist()}
        tables["ego_pose"].append({**ego, "rotation": quaternion(T_world_ego)})
        row = {"token": token, "sample_token": f"{scene}{index // 2}", "ego_pose_token": f"e{token}"}
        row |= {"calibrated_sensor_token": f"c{channel}", "timestamp": time_us, "filename": name}
        size = (world.height, world.width) if channel == "CAM_FRONT" else (0, 0)
        tables["sample_data"].append(row | {"is_key_frame": is_key, "height": size[0], "width": size[1]})
        return np.asarray(T_world_ego @ sensors[channel])

    for scene, first in FIRST.items():
        tables["scene"].append(
            {"token": scene, "name": scene, "log_token": "log", "nbr_samples": FRAMES // 2, "description": "rain"}
        )
        for index in range(FRAMES):
            is_key = index % 2 == 0
            file = f"{'samples' if is_key else 'sweeps'}/CAM_FRONT/{scene}_{index}.jpg"
            add(scene, index, "CAM_FRONT", is_key, file)
            world.save(root / file, world.render(first + index)[0])
            if is_key:
                tables["sample"].append({"token": f"{scene}{index // 2}", "scene_token": scene, "timestamp": 0})
                scan = f"samples/LIDAR_TOP/{scene}_{index}.pcd.bin"
                points = scan_points(world, add(scene, index, "LIDAR_TOP", True, scan, 0.02), first + index)
                (root / scan).parent.mkdir(parents=True, exist_ok=True)
                np.pad(points, ((0, 0), (0, 2))).astype(np.float32).tofile(root / scan)
    write_tables(root / "v1.0-mini", tables)
    return root


@pytest.fixture
def ddad(tmp_path: Path, world: Any) -> Path:
    """Two scenes of one split each, in the DGP layout."""
    root = tmp_path / "ddad_train_val"

    def pose(T: Array) -> dict[str, Any]:
        q = dict(zip(("qw", "qx", "qy", "qz"), quaternion(T), strict=True))
        return {"translation": dict(zip("xyz", T[:3, 3].tolist(), strict=True)), "rotation": q}

    splits = {"0": {"filenames": ["000000/scene_5c.json"]}, "1": {"filenames": ["000150/scene_9e.json"]}}
    for number, part in splits.items():
        scene = root / part["filenames"][0]
        data, samples = [], []
        for index in range(10 * int(number), 10 * int(number) + FRAMES):
            stamp = datetime.fromtimestamp(TIME_0_S, UTC) + timedelta(seconds=0.1 * index)
            image, cloud = f"rgb/CAMERA_01/{index}.png", f"point_cloud/LIDAR/{index}.npz"
            T_world_car = world.pose(index) @ np.linalg.inv(T_EGO_CAMERA)
            world.save(scene.parent / image, world.render(index)[0])
            (scene.parent / cloud).parent.mkdir(parents=True, exist_ok=True)
            points = scan_points(world, T_world_car, index)
            np.savez(scene.parent / cloud, data=np.pad(points, ((0, 0), (0, 1))))
            content = {"filename": image, "height": world.height, "width": world.width, "channels": 3}
            for name, datum in (
                ("CAMERA_01", {"image": content | {"annotations": {}, "pose": pose(world.pose(index))}}),
                ("LIDAR", {"point_cloud": {"filename": cloud, "pose": pose(T_world_car)}}),
            ):
                key = f"{name}{index}"
                time = stamp.isoformat().replace("+00:00", "Z")
                data.append({"key": key, "id": {"name": name, "timestamp": time, "log": "x"}, "datum": datum})
            keys = [f"CAMERA_01{index}", f"LIDAR{index}"]
            samples.append({"id": {"index": str(index)}, "datum_keys": keys, "calibration_key": "ab12"})
        scene.write_text(json.dumps({"name": scene.parent.name, "data": data, "samples": samples}))
        (scene.parent / "calibration").mkdir()
        K = {"fx": world.K[0, 0], "fy": world.K[1, 1], "cx": world.K[0, 2], "cy": world.K[1, 2], "skew": 0.0}
        zero = dict.fromkeys(K, 0.0)
        calibration = {"names": ["LIDAR", "CAMERA_01"], "intrinsics": [zero, K], "extrinsics": [pose(np.eye(4))] * 2}
        (scene.parent / "calibration" / "ab12.json").write_text(json.dumps(calibration))
    (root / "ddad.json").write_text(json.dumps({"metadata": {"name": "DDAD", "version": "1"}, "scene_splits": splits}))
    return root


@pytest.fixture
def bdd(tmp_path: Path, world: Any) -> Path:
    """Three videos in two splits; the car drives 2 m/s to the north-east."""
    root = tmp_path / "bdd100k"
    for split, name, ride in (
        ("train", "0000f77c-a", "r1"),
        ("train", "0000f77c-b", "r1"),
        ("val", "b1c66a42-c", "r2"),
    ):
        video = root / "videos" / "100k" / split / f"{name}.mov"
        video.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(video), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"qp": "5", "preset": "ultrafast", "g": "5"})
            stream.height, stream.width, stream.pix_fmt = world.height, world.width, "yuv420p"
            for index in range(2 * FRAMES):
                rgb = world.render(index + 15 * (split == "val"))[0]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            container.mux(stream.encode())
        start_ms = TIME_0_S * 1000
        fixes = [
            {"timestamp": start_ms + 1000 * second, "speed": 2.0, "course": 45.0, "latitude": 40.7, "accuracy": 5.0}
            for second in range(3)
        ]
        info = {"rideID": ride, "startTime": start_ms, "endTime": start_ms + 1200, "locations": fixes, "gps": []}
        (root / "info" / "100k" / split).mkdir(parents=True, exist_ok=True)
        (root / "info" / "100k" / split / f"{name}.json").write_text(json.dumps(info))
    return root


@pytest.fixture
def waymo(tmp_path: Path, world: Any) -> Path:
    """A segment in each of two splits, with images of two cameras, not in the order of their times."""
    root = tmp_path / "waymo"
    T_axes = np.eye(4)
    T_axes[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    T_car_camera = T_EGO_CAMERA @ np.linalg.inv(T_axes)
    for split, segment, first in (("training", "100_000_120_000", 0), ("validation", "200_000_220_000", 10)):
        rows: list[dict[str, Any]] = []
        for index in reversed(range(FRAMES)):
            T_world_car = world.pose(first + index) @ np.linalg.inv(T_EGO_CAMERA)
            _, png = cv2.imencode(".png", world.render(first + index)[0][..., ::-1])
            rows += [
                {
                    "key.segment_context_name": segment,
                    "key.camera_name": camera,
                    "key.frame_timestamp_micros": TIME_0_S * 10**6 + index * 10**5,
                    "[CameraImageComponent].image": png.tobytes() if camera == 1 else b"another camera",
                    "[CameraImageComponent].pose.transform": T_world_car.ravel().tolist(),
                }
                for camera in (2, 1)
            ]
        write_parquet(root / split / "camera_image" / f"{segment}.parquet", rows)
        intrinsic = dict(zip(("f_u", "f_v", "c_u", "c_v"), world.K[[0, 1, 0, 1], [0, 1, 2, 2]].tolist(), strict=True))
        intrinsic |= dict.fromkeys(("k1", "k2", "p1", "p2", "k3"), 0.0)
        calibration = {
            "key.segment_context_name": segment,
            **{f"[CameraCalibrationComponent].intrinsic.{name}": value for name, value in intrinsic.items()},
            "[CameraCalibrationComponent].extrinsic.transform": T_car_camera.ravel().tolist(),
            "[CameraCalibrationComponent].height": world.height,
            "[CameraCalibrationComponent].width": world.width,
        }
        rows = [{"key.camera_name": camera, **calibration} for camera in (1, 2)]
        write_parquet(root / split / "camera_calibration" / f"{segment}.parquet", rows)
    return root


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def change_parquet(path: Path, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    (file,) = path.glob("*.parquet")
    rows = parquet.read_table(file).to_pylist()
    edit(rows)
    write_parquet(file, rows)


def write_bag(
    path: Path, world: Any, *, topic: str = "/front/image_raw", size: Any = None, D: Any = (0.0,) * 5
) -> Path:
    """A bag of one topic of images with its camera: ROS 1 by the suffix .bag, else ROS 2."""
    from rosbags.rosbag1 import Writer as Writer1
    from rosbags.rosbag2 import StoragePlugin
    from rosbags.rosbag2 import Writer as Writer2
    from rosbags.typesys import Stores, get_typestore

    is_ros1 = path.suffix == ".bag"
    types = get_typestore(Stores.ROS1_NOETIC if is_ros1 else Stores.ROS2_HUMBLE)
    kinds = types.types
    plugin = StoragePlugin.SQLITE3 if path.name.endswith("sqlite") else StoragePlugin.MCAP
    seq = {"seq": 0} if is_ros1 else {}

    def header(time_ns: int) -> Any:
        stamp = kinds["builtin_interfaces/msg/Time"](sec=time_ns // 10**9, nanosec=time_ns % 10**9)
        return kinds["std_msgs/msg/Header"](stamp=stamp, frame_id="front", **seq)

    def dump(message: Any) -> bytes:
        kind = message.__msgtype__
        return bytes(types.serialize_ros1(message, kind) if is_ros1 else types.serialize_cdr(message, kind))

    height, width = size or (world.height, world.width)
    matrices = {"D": np.array(D), "K": world.K.ravel(), "R": np.eye(3).ravel(), "P": np.eye(3, 4).ravel()}
    named = matrices if is_ros1 else {key.lower(): value for key, value in matrices.items()}
    with Writer1(path) if is_ros1 else Writer2(path, version=9, storage_plugin=plugin) as bag:
        images = bag.add_connection(topic, "sensor_msgs/msg/Image", typestore=types)
        infos = bag.add_connection(topic.rpartition("/")[0] + "/camera_info", CAMERA_INFO, typestore=types)
        for index in range(FRAMES):
            time_ns = TIME_0_S * 10**9 + index * 10**8
            rgb = world.render(index)[0]
            image = kinds["sensor_msgs/msg/Image"](
                header=header(time_ns),
                height=rgb.shape[0],
                width=rgb.shape[1],
                encoding="bgr8",
                is_bigendian=0,
                step=3 * rgb.shape[1],
                data=np.ascontiguousarray(rgb[..., ::-1]).ravel(),
            )
            roi = kinds["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
            sizes = {"height": height, "width": width, "binning_x": 0, "binning_y": 0}
            info = kinds[CAMERA_INFO](header=header(time_ns), distortion_model="plumb_bob", roi=roi, **sizes, **named)
            bag.write(images, time_ns, dump(image))
            bag.write(infos, time_ns, dump(info))
    return path


CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
BAGS = ("drive.bag", "drive_mcap", "drive_sqlite")


@pytest.fixture
def ros1(tmp_path: Path, world: Any) -> Path:
    return write_bag(tmp_path / "drive.bag", world)


@pytest.fixture
def ros2(tmp_path: Path, world: Any) -> Path:
    return write_bag(tmp_path / "drive_mcap", world)


CAMERA: dict[str, dict[str, Any]] = {"bdd": {"camera": {"horizontal_fov_deg": 67.0}}}


@pytest.mark.parametrize("fixture", mark_others(["nuscenes", "ddad", "bdd", "waymo", "ros1", "ros2"], ["ros1"]))
@pytest.mark.slow
def test_miniature_passes_the_checks_and_trains_three_steps(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    check_three_steps(request.getfixturevalue(fixture), tmp_path / "runs", **CAMERA.get(fixture, {}))


def test_nuscenes(nuscenes: Path, world: Any) -> None:
    assert detect_format(nuscenes) == detect_format(nuscenes / "v1.0-mini") == "nuscenes"
    assert read_named_splits(nuscenes) == {"train": ["scene-0061"], "val": ["scene-0103"]}
    first, second = open_recordings(nuscenes)
    assert [first.name, second.name] == ["nuscenes/scene-0061", "nuscenes/scene-0103"]
    assert first.session == second.session == "nuscenes/n015-2018-07-24-11-22-45+0800"
    assert len(first) == FRAMES
    np.testing.assert_allclose(first.T_world_camera(3), world.pose(3), atol=1e-9)
    np.testing.assert_allclose(first.K(0), world.K)
    assert first.timestamp_s(1) - first.timestamp_s(0) == pytest.approx(0.1, abs=1e-5)
    depth = first.depth_m(2)
    assert depth is not None
    assert first.depth_m(1) is None, "a sweep"
    assert (depth > 0).mean() > 0.1
    true = world.render(2)[1]
    np.testing.assert_allclose(depth[depth > 0], true[depth > 0], rtol=0.02)


def test_ddad(ddad: Path, world: Any) -> None:
    assert detect_format(ddad) == "ddad"
    assert read_named_splits(ddad) == {"train": ["000000"], "val": ["000150"]}
    first = open_recordings(ddad)[0]
    assert (first.name, len(first)) == ("ddad/000000", FRAMES)
    np.testing.assert_allclose(first.T_world_camera(3), world.pose(3), atol=1e-9)
    np.testing.assert_allclose(first.K(0), world.K)
    assert first.timestamp_s(1) - first.timestamp_s(0) == pytest.approx(0.1, abs=1e-5)
    depth, true = first.depth_m(1), world.render(1)[1]
    assert depth is not None
    assert (depth > 0).mean() > 0.1
    np.testing.assert_allclose(depth[depth > 0], true[depth > 0], rtol=1e-4)


@pytest.mark.slow
def test_bdd100k(bdd: Path) -> None:
    assert detect_format(bdd) == "bdd100k"
    splits = read_named_splits(bdd)
    assert splits == {"train": ["train/0000f77c-a", "train/0000f77c-b"], "val": ["val/b1c66a42-c"]}
    recordings = open_recordings(bdd, stride=2, **CAMERA["bdd"])
    assert [one.session for one in recordings] == ["bdd100k/r1", "bdd100k/r1", "bdd100k/r2"]
    first, last = recordings[0].T_world_camera(0), recordings[0].T_world_camera(5)
    np.testing.assert_allclose(last[:3, 3] - first[:3, 3], np.array([1, 0, 1]) * 2.0 * np.sqrt(0.5), atol=1e-6)
    np.testing.assert_allclose(last[:3, 2], np.array([1, 0, 1]) * np.sqrt(0.5), atol=1e-6)


@pytest.mark.slow
def test_waymo(waymo: Path, world: Any) -> None:
    assert detect_format(waymo) == detect_format(waymo / "training") == "waymo"
    assert read_named_splits(waymo) == {"train": ["training/100_000_120_000"], "val": ["validation/200_000_220_000"]}
    first, second = open_recordings(waymo, stride=2)
    assert [first.name, second.name] == ["waymo/training/100_000_120_000", "waymo/validation/200_000_220_000"]
    assert len(first) == FRAMES // 2
    assert np.array_equal(first.image(1), world.render(2)[0]), "in the order of times"
    np.testing.assert_allclose(first.T_world_camera(1), world.pose(2), atol=1e-9)
    np.testing.assert_allclose(first.K(0), world.K)
    assert first.timestamp_s(1) == pytest.approx(0.2)
    (segment,) = sample_recordings(waymo / "validation", stride=1)
    assert np.array_equal(segment.image(3), world.render(13)[0])
    np.testing.assert_allclose(segment.T_world_camera(3), world.pose(13), atol=1e-9)


def test_distortion_of_waymo_is_removed(waymo: Path, world: Any) -> None:
    key = "[CameraCalibrationComponent].intrinsic.k1"
    change_parquet(waymo / "training" / "camera_calibration", lambda rows: [row.update({key: -0.1}) for row in rows])
    (recording,) = open_recordings(waymo / "training", stride=1)
    assert not np.array_equal(recording.K(0), world.K)
    assert not np.array_equal(recording.image(0), world.render(0)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", BAGS)
def test_ros_bag(name: str, tmp_path: Path, world: Any) -> None:
    bag = write_bag(tmp_path / name, world)
    assert detect_format(bag) == "rosbag"
    (recording,) = open_recordings(bag, stride=1)
    assert (recording.name, len(recording)) == (f"rosbag/{bag.stem}/front/image_raw", FRAMES)
    assert np.array_equal(recording.image(3), world.render(3)[0])
    np.testing.assert_allclose(recording.K(0), world.K)
    assert recording.timestamp_s(2) == pytest.approx(0.2)
    (segment,) = sample_recordings(bag, stride=1)
    assert np.array_equal(segment.image(1), world.render(1)[0])


def test_path_of_gps_has_the_measured_speed_and_turns_with_the_course() -> None:
    seconds = np.arange(21.0)
    fixes = np.column_stack([seconds, np.full(21, 5.0), (350 + 4.5 * seconds) % 360])  # a turn over north
    times_s = np.linspace(0, 20, 601)
    poses = compute_gps_poses(times_s, fixes)
    assert poses is not None
    lengths = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    np.testing.assert_allclose(lengths * 30, 5.0, rtol=2e-3)
    np.testing.assert_allclose(
        poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.tile(np.eye(3), (601, 1, 1)), atol=1e-12
    )
    turned = np.degrees(np.arctan2(poses[-1, 0, 2], poses[-1, 2, 2]))
    assert turned == pytest.approx(80)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_encoding_of_an_image_gives_its_color(encoding: str) -> None:
    """A uniform color in a frame with padded rows, which a Bayer pattern keeps too."""

    class Message:
        height, width, step, data = 6, 8, 0, b""

    channels, _ = ENCODINGS[encoding]
    values = {"r": 200, "g": 120, "b": 40, "a": 255}
    order = {"8UC3": "bgr", "8UC1": "g", "mono8": "g"}.get(encoding, encoding.removesuffix("8").split("_")[-1])
    pixels = np.zeros((6, 8, channels), np.uint8)
    if encoding.startswith("bayer"):
        for place, color in enumerate(order):
            pixels[place // 2 :: 2, place % 2 :: 2, 0] = values[color]
    else:
        pixels[:] = [values[color] for color in order]
    message = Message()
    message.encoding, message.step = encoding, channels * 8 + 5  # type: ignore[attr-defined]
    message.data = np.pad(pixels.reshape(6, -1), ((0, 0), (0, 5))).tobytes()
    image = decode_message("image", message)
    expected = (120, 120, 120) if channels == 1 and not encoding.startswith("bayer") else (200, 120, 40)
    assert image.shape == (6, 8, 3)
    assert image[2:4, 2:6].reshape(-1, 3).max(0).tolist() == list(expected)


def change(path: Path, edit: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


WRONG: dict[str, tuple[str, Callable[[Path], object], tuple[str, ...]]] = {
    "nuscenes, version": (
        "nuscenes",
        lambda p: (p / "v1.0-mini").rename(p / "train_data"),
        ("train_data", "v1.0-mini"),
    ),
    "nuscenes, missing image": (
        "nuscenes",
        lambda p: next((p / "sweeps" / "CAM_FRONT").iterdir()).unlink(),
        ("CAM_FRONT/scene-",),
    ),
    "nuscenes, unknown pose": (
        "nuscenes",
        lambda p: change(p / "v1.0-mini" / "ego_pose.json", lambda rows: rows[0].update(token="other")),
        ("ego_pose.json",),
    ),
    "nuscenes, missing row": (
        "nuscenes",
        lambda p: change(p / "v1.0-mini" / "sample_data.json", lambda rows: rows.pop(0)),
        ("2", "CAM_FRONT", "scene-0061", "3"),
    ),
    "ddad, other index": (
        "ddad",
        lambda p: change(p / "ddad.json", lambda c: c.update(agents_splits=c.pop("scene_splits"))),
        ("scene_splits",),
    ),
    "ddad, scan without points": (
        "ddad",
        lambda p: np.savez(p / "000000/point_cloud/LIDAR/0.npz", other=np.zeros(3)),
        ("data",),
    ),
    "bdd, gps of another video": (
        "bdd",
        lambda p: change(next(p.glob("info/100k/train/*a.json")), lambda c: c.update(startTime=0, endTime=40_000)),
        (),
    ),
    "waymo, cut": ("waymo", lambda p: cut(next(p.glob("training/camera_image/*"))), ("100_000_120_000.parquet",)),
    "waymo, pose": (
        "waymo",
        lambda p: change_parquet(
            p / "training/camera_image",
            lambda rows: rows[1].update({"[CameraImageComponent].pose.transform": [2.0] * 16}),
        ),
        ("5", "FRONT"),
    ),
    "ros 1, cut": ("ros1", cut, ("drive.bag",)),
    "ros 2, lying index": (
        "ros2",
        lambda p: (p / "metadata.yaml").write_text(
            (p / "metadata.yaml").read_text().replace(f"message_count: {FRAMES}", "message_count: 9")
        ),
        ("6", "/front/image_raw", "9"),
    ),
}


def read_all(path: Path, **options: Any) -> None:
    for recording in open_recordings(path, **options):
        for index in range(len(recording)):
            recording.image(index)
            recording.depth_m(index)


def test_ddad_as_people_keep_it(ddad: Path) -> None:
    """Of DDAD_tiny, without scans; and a scene's folder leads to the data set."""
    (ddad / "ddad.json").rename(ddad / "ddad_tiny.json")
    with refuses(DataError, fix=str(ddad)):
        open_recordings(ddad / "000000")
    for scans in ddad.glob("*/point_cloud"):
        shutil.rmtree(scans)
    assert all(recording.depth_m(0) is None and recording.depth_files(0) == () for recording in open_recordings(ddad))


@pytest.mark.parametrize("name", WRONG)
def test_wrong_variant_is_named(name: str, request: pytest.FixtureRequest, one_line: OneLine) -> None:
    fixture, damage, message = WRONG[name]
    path = request.getfixturevalue(fixture)
    options = CAMERA.get(fixture, {})
    format = detect_format(path)
    damage(path)
    with refuses(DataError, names=message) as caught:
        read_all(path, format=format, stride=1 if format in ("bdd100k", "rosbag", "waymo") else "auto", **options)
    one_line(caught.value)


@pytest.mark.parametrize("name", ["drive.bag", "drive_mcap"])
def test_distortion_of_a_bag_is_removed_when_it_is_decoded(name: str, tmp_path: Path, world: Any) -> None:
    bag = write_bag(tmp_path / name, world, D=(-0.2, 0.03, 0.0, 0.0, 0.0))
    (recording,) = open_recordings(bag, stride=1)
    (raw,) = open_recordings(bag, stride=1, camera={"undistort": False})
    np.testing.assert_allclose(raw.K(0), world.K)
    assert np.array_equal(raw.image(0), world.render(0)[0])
    expected, _ = world.paint(world.pose(0), world.pinhole_rays(recording.K(0), world.height, world.width))
    assert not np.array_equal(recording.K(0), world.K)
    assert recording.image(0).shape == expected.shape


def test_bag_without_the_package_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_line: OneLine) -> None:
    (tmp_path / "a.bag").write_bytes(b"#ROSBAG V2.0\n")
    monkeypatch.setitem(__import__("sys").modules, "rosbags", None)
    with refuses(ConfigError, where="a.bag", fix="stadia[ros]") as caught:
        open_recordings(tmp_path / "a.bag")
    one_line(caught.value)
