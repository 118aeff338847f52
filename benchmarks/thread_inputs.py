"""Make sets of 20 inputs after public threads, run each once, and count what stadia reports.

    python benchmarks/thread_inputs.py [--set 7] [--data FOLDER_OF_REAL_SAMPLES] [--only TEXT] [--show]

The threads of a set were chosen, and its inputs made and judged, before anything was changed for them. The inputs are
drawn, or made of a walk (STADIA_REAL_DATA, or ../shared/data); where a thread prints numbers, the files have them. The
outcomes are those of public_reports.py. The exit status is 1 for any silent or wrong one.
"""

# mypy: disable-error-code="arg-type, attr-defined, operator, union-attr"

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from public_reports import (
    OPENGL,
    REAL_DATA,
    START_S,
    TIMES_S,
    Report,
    Words,
    make_estimate,
    make_path,
    run_report,
    score_path,
    show_saved_camera,
    write_images,
    write_kitti,
    write_results,
    write_tum,
)
from scipy.spatial.transform import Rotation, Slerp

Array = NDArray[np.float64]
Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

THREADS: list[Report] = []
FIRST_SET = 6
SET_SIZE = 20
FRAMES = range(0, 36, 3)
"""Frames of the walk; 540x360."""


def thread(
    source: str, *expected: str, outcome: str = "cure", damaging: str = "", needs: str = "", saved: bool = False
) -> Callable[[Callable[[Path, Path], Words]], Callable[[Path, Path], Words]]:
    """Add the decorated function as the input after a thread; `saved` adds the written camera to the output."""

    def add(make: Callable[[Path, Path], Words]) -> Callable[[Path, Path], Words]:
        order, after = len(THREADS), show_saved_camera if saved else None
        name = f"{FIRST_SET + order // SET_SIZE}-{order % SET_SIZE + 1:02d}"
        THREADS.append(Report(name, source, make, expected, outcome, damaging, needs, after))
        return make

    return add


# -- Results of a walk.


def read_walk(data: Path) -> tuple[Array, Array]:
    """Return T_world_camera (12, 4, 4) and K (3, 3)."""
    return np.loadtxt(data / "walk/poses.txt").reshape(-1, 4, 4)[FRAMES], np.loadtxt(data / "walk/K.txt")


def write_walk(folder: Path, data: Path, change: Change = lambda image: image) -> None:
    """Write the images."""
    (folder / "images").mkdir()
    for frame in FRAMES:
        image = cv2.imread(str(data / f"walk/images/{frame:05d}.jpg"))
        cv2.imwrite(str(folder / f"images/{frame:05d}.jpg"), change(image), [cv2.IMWRITE_JPEG_QUALITY, 95])


def write_model(folder: Path, T: Array, positions: Array, size: tuple[int, int], camera: Array) -> Words:
    """Write rotations of T (N, 4, 4), translations (N, 3) and fx, fy, cx, cy as COLMAP does; return the command."""
    sparse, quaternions = folder / "sparse", np.roll(Rotation.from_matrix(T[:, :3, :3]).as_quat(), 1, axis=1)
    sparse.mkdir()
    (sparse / "points3D.txt").write_text("")
    numbers = " ".join(f"{value:.4f}" for value in camera)
    (sparse / "cameras.txt").write_text(f"1 PINHOLE {size[0]} {size[1]} {numbers}\n")
    rows = np.hstack([quaternions, positions])
    texts = (" ".join(f"{value:.8f}" for value in row) for row in rows)
    lines = (f"{k} {text} 1 {frame:05d}.jpg\n\n" for k, (text, frame) in enumerate(zip(texts, FRAMES, strict=True), 1))
    (sparse / "images.txt").write_text("".join(lines))
    return "check", sparse, "--images", folder / "images"


def pick_numbers(K: Array) -> Array:
    """Return fx, fy, cx, cy."""
    return K[[0, 1, 0, 1], [0, 1, 2, 2]]


@thread("colmap 1467: matrix_world of Blender", "the poses are inverted", "axes of OpenGL", needs="walk")
def _blender(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    turned = T.copy()
    turned[:, :3, :3] = T[:, :3, :3] @ OPENGL
    return write_model(folder, turned, T[:, :3, 3], (540, 360), pick_numbers(K))


@thread("glomap 161: positions as translations", "write t = -R c", needs="walk")
def _positions(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    return write_model(folder, np.linalg.inv(T), T[:, :3, 3], (540, 360), pick_numbers(K))


@thread("VGGT-Long 44: K of a network's images", "another size: 518x345", damaging="scale drifts", needs="walk")
def _network_K(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data, lambda image: cv2.resize(image, (1080, 720), interpolation=cv2.INTER_CUBIC))
    world_to_camera = np.linalg.inv(T)
    camera = np.array([K[0, 0] * 518 / 540, K[1, 1] * 518 / 540, 259, 172])
    return write_model(folder, world_to_camera, world_to_camera[:, :3, 3], (1080, 720), camera)


def write_realestate(path: Path, data: Path) -> None:
    """Write the walk as RealEstate10K does."""
    T, K = read_walk(data)
    shares = pick_numbers(K) / (540, 360, 540, 360)
    rows = (np.r_[shares, 0, 0, matrix[:3].ravel()] for matrix in np.linalg.inv(T))
    lines = (f"{49716333 + 100000 * k} " + " ".join(f"{value:.9f}" for value in row) for k, row in enumerate(rows))
    path.write_text("\n".join(["https://www.youtube.com/watch?v=x", *lines]) + "\n")


@thread("synsin 14: RealEstate10K", "is usable", outcome="right", damaging="principal point is|inverted", needs="walk")
def _realestate(folder: Path, data: Path) -> Words:
    write_walk(folder, data)
    write_realestate(folder / "scene.txt", data)
    return "check", folder / "scene.txt", "--images", folder / "images"


@thread("diffusion-forcing-transformer 23: cropped to squares", "fy over fx is 1.5", "write fx 35", needs="walk")
def _squares(folder: Path, data: Path) -> Words:
    write_walk(folder, data, lambda image: cv2.resize(image[:, 90:450], (256, 256), interpolation=cv2.INTER_AREA))
    write_realestate(folder / "scene.txt", data)
    return "check", folder / "scene.txt", "--images", folder / "images"


@thread("PosePipeline 48: a variable frame rate as 120 fps", "one of 4 is new", damaging="is static", needs="walk")
def _repeated_frames(folder: Path, data: Path) -> Words:
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 120, (540, 360))
    for frame in range(30):
        for _ in range((4, 4, 3, 5)[frame % 4]):
            writer.write(cv2.imread(str(data / f"walk/images/{frame:05d}.jpg")))
    writer.release()
    return "check", folder / "clip.mp4", "data.camera.horizontal_fov_deg=57"


# -- Trajectories.


@thread("colmap 3226: transforms of Unity", "left-handed world", "mirror y")
def _unity(folder: Path, data: Path) -> Words:
    T, estimate, mirror = make_path(), make_estimate(), np.diag([1.0, -1, 1])
    estimate[:, :3, 3] = 0.31 * estimate[:, :3, 3] + (1, 2, 3)
    write_tum(folder / "est.txt", estimate)
    quaternions = Rotation.from_matrix(mirror @ T[:, :3, :3] @ mirror).as_quat()
    rows = np.column_stack([TIMES_S, T[:, :3, 3] @ mirror, quaternions])
    lines = (",".join([f"{row[0]:.4f}", *(f"{value:.5f}" for value in row[1:])]) for row in rows)
    header = "timestamp,pos_x,pos_y,pos_z,rot_x,rot_y,rot_z,rot_w"
    (folder / "unity.csv").write_text("\n".join([header, *lines]))
    return score_path(folder, "--align", "sim3", reference="unity.csv")


@thread("S3E 2: UTM of RTK without rotations", r"ATE 0\.0\d+ m", "it has positions only", outcome="right")
def _rtk(folder: Path, data: Path) -> Words:
    yaw, times = np.linspace(0, 2.5, 150), 1660988157.74513 + np.arange(150) / 10
    T = np.tile(np.eye(4), (150, 1, 1))
    T[:, :3, 3] = np.column_stack([30 * np.sin(yaw), 30 * (1 - np.cos(yaw)), 0.2 * np.sin(3 * yaw)])
    reference = T[:, :3, 3] + (744073.322586885, 2553112.01818464, 0.1892)
    lines = (f"{time:.5f} {x:.9f} {y:.8f} {z:.4f} 0 0 0 1\n" for time, (x, y, z) in zip(times, reference, strict=True))
    (folder / "ref.txt").write_text("".join(lines))
    forward = Rotation.from_euler("xyz", [-90, 0, -90], degrees=True)
    T[:, :3, :3] = (Rotation.from_euler("z", yaw[:, None]) * forward).as_matrix()
    T[:, :3, 3] += np.random.default_rng(7).normal(0, 0.05, (150, 3))
    write_tum(folder / "est.txt", T, times)
    return score_path(folder)


@thread("openloris-scene-tools 5: w first under a header", "read as nanoseconds", "--format euroc")
def _openloris(folder: Path, data: Path) -> Words:
    header = "slam:vins_mono\nframe:d400_imu\ntopics:/d400/color /d400/imu0\nseq:1\nscene:cafe\n"
    header += "#DatasetTimestamp position:x y z  quaterniond:x y z w"
    times = [str(round(time * 1e9)) for time in TIMES_S]
    write_tum(folder / "est.txt", make_estimate(), times, w_first=True, header=header, end=" ")
    write_tum(folder / "ref.txt", make_path())
    return score_path(folder)


# -- Cameras.


def add_calibration(
    source: str, name: str, content: str, *expected: str, outcome: str = "right", size: tuple[int, int] = (640, 480)
) -> None:
    """Add a calibration file for images of this width and height."""

    @thread(source, *expected, outcome=outcome, saved=True)
    def make(folder: Path, data: Path) -> Words:
        (folder / name).write_text(content)
        images = write_images(folder / "imgs", width=size[0], height=size[1])
        return "camera", images, "--calibration", folder / name


add_calibration(
    "CollaborativeSLAMDataset 1: calib.txt of InfiniTAM", "calib.txt",
    "480 270\n370.044 369.501\n241.249 134.663\n\n224 172\n215.965 215.965\n111.453 85.0044\n\n"
    "0.999952 -0.009273 0.00302 0.000992\n0.009273 0.999957 -0.000258 -0.011901\n"
    "-0.003018 0.000286 0.999995 0.002581\n\naffine 0.001 0\n",
    r"\[\[370\.044, 0\.0, 241\.249\]", size=(480, 270))  # fmt: skip
add_calibration(
    "mrpt 1225: k1 k2 p1 p2 k3 as k1 k2 k3 p1 p2", "camera.cam",
    '<?xml version="1.0"?>\n<camera>\n<imagesize width="640" height="480" />\n'
    '<focallength x="652.3032180347936" y="647.8789451143271" />\n'
    '<principalpoint x="324.1105454718237" y="235.0098017548972" />\n'
    '<distortion k1="-0.1497031993890412" k2="1.362350091825391" k3="0.003514720345557172" '
    'p1="0.008293638896066356" p2="-3.412437392789501" />\n</camera>\n',
    "under the names k1, k2, k3, p1, p2", outcome="cure")  # fmt: skip
add_calibration(
    "nerfstudio 3714: P1 of Metashape is p2", "calib.xml",
    "<calibration><projection>frame</projection><width>1620</width><height>1080</height><f>1486.7</f><cx>-1.5</cx>"
    "<cy>-32.4</cy><b1>3.2</b1><k1>-0.11</k1><k2>0.05</k2><k3>-0.01</k3><p1>-0.0007</p1><p2>0.0021</p2></calibration>",
    r"0\.05, 0\.0021, -0\.0007, -0\.01", r"\[\[1489\.9", size=(1620, 1080))  # fmt: skip
add_calibration(
    "colmap 163: Camera_Matrix of OpenCV's sample", "out_camera_data.xml",
    '<?xml version="1.0"?>\n<opencv_storage>\n<image_Width>640</image_Width>\n<image_Height>480</image_Height>\n'
    '<Camera_Matrix type_id="opencv-matrix"><rows>3</rows><cols>3</cols><dt>d</dt><data>\n'
    "8.123e+02 0. 3.195e+02 0. 8.123e+02 2.395e+02 0. 0. 1.</data></Camera_Matrix>\n"
    '<Distortion_Coefficients type_id="opencv-matrix"><rows>5</rows><cols>1</cols><dt>d</dt><data>\n'
    "2.9717157478222633e-01 -2.4931471522485045e+00 0. 0. 7.0091780164034398e+00</data></Distortion_Coefficients>\n"
    "</opencv_storage>\n",
    r"-2\.4931471522485045, 0\.0, 0\.0, 7\.009")  # fmt: skip
add_calibration(
    "ros_astra_camera 84: K of 640x400", "camera_info.yaml",
    'height: 480\nwidth: 640\ndistortion_model: "plumb_bob"\nD: [0.0, 0.0, 0.0, 0.0, 0.0]\n'
    "K: [540.9197387695312, 0.0, 318.4385070800781, 0.0, 477.4271545410156, 184.38267517089844, 0.0, 0.0, 1.0]\n"
    "R: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]\n"
    "P: [540.9197387695312, 0.0, 318.4385070800781, 0.0, 0.0, 477.4271545410156, 184.38267517089844, 0.0, 0.0, 0.0, "
    "1.0, 0.0]\nbinning_x: 1\nbinning_y: 1\n---\n",
    "fy is 0.88 times fx", outcome="cure")  # fmt: skip


# -- Depth of the walk.


def add_depth(
    source: str, *expected: str, truth: float, change: Callable[[Array, Array], Array], options: Words = ()
) -> None:
    """Add predicted maps, by a function from true z in metres and noise to 16 bits, and truth in integers a metre."""

    @thread(source, *expected, needs="walk")
    def make(folder: Path, data: Path) -> Words:
        rng = np.random.default_rng(7)
        for name in ("pred", "truth"):
            (folder / name).mkdir()
        for file in sorted((data / "walk/depth").iterdir())[:8]:
            depth = cv2.imread(str(file), cv2.IMREAD_UNCHANGED) / 1000
            written = {"truth": depth * truth, "pred": change(depth, rng.normal(size=depth.shape))}
            for name, values in written.items():
                cv2.imwrite(str(folder / name / f"{file.stem}.png"), values.clip(0, 65535).astype(np.uint16))
        return "evaluate", "--depth", folder / "pred", "--reference", folder / "truth", *options


def stretch(depth: Array, noise: Array) -> Array:
    """Return a z-buffer with -1 for the background, stretched from its least to its greatest value."""
    buffer = np.where(depth > 0, depth * (1 + 0.01 * noise), -1)
    return (buffer - buffer.min()) / np.ptp(buffer) * 65535


add_depth("librealsense 8058: an L515 has 4000 a metre", "--reference-factor 4000", truth=4000.0,
          change=lambda depth, noise: np.where(depth > 0, depth, 2) * (1000 + 40 * noise),
          options=("--depth-factor", 1000))  # fmt: skip
add_depth("openscene 73: each map from its least to its greatest value", "span exactly 0 to 65535", "affine-depth",
          truth=256.0, change=stretch)  # fmt: skip


# -- Robots, GPS and gyroscopes.


@thread(
    "mecheye_python_samples 44: rotation vectors of a UR10e",
    "are millimetres",
    r"(49\.9|50\.\d), -(80|79)",
    outcome="right",
)
def _robot(folder: Path, data: Path) -> Words:
    rng = np.random.default_rng(7)
    board = np.array([0.7, 0.1, 0.02])
    X, T_base_board = np.eye(4), np.eye(4)
    X[:3, :3] = Rotation.from_euler("xyz", [3, -5, 88], degrees=True).as_matrix()
    X[:3, 3] = (0.05, -0.08, 0.06)
    T_base_board[:3, 3] = board
    cameras, hands = list[str](), list[str]()
    for k in range(15):
        T = np.eye(4)
        T[:3, 3] = board + np.r_[rng.uniform(-0.25, 0.25, 2), rng.uniform(0.35, 0.6)]
        z = board - T[:3, 3] + rng.normal(0, 0.03, 3)
        x = np.cross(rng.normal(size=3), z)
        x, z = x / np.linalg.norm(x), z / np.linalg.norm(z)
        T[:3, :3] = np.column_stack([x, np.cross(z, x), z])
        hand, seen = T @ np.linalg.inv(X), np.linalg.inv(T_base_board) @ T
        seen[:3, 3] += rng.normal(0, 0.0003, 3)
        degrees = np.degrees(Rotation.from_matrix(hand[:3, :3]).as_rotvec())
        hands.append(",".join([str(k), *(f"{value:.4f}" for value in np.r_[1000 * hand[:3, 3], degrees])]))
        quaternion = Rotation.from_matrix(seen[:3, :3]).as_quat()
        cameras.append(",".join([str(k), *(f"{value:.6f}" for value in np.r_[seen[:3, 3], quaternion])]))
    (folder / "camera.csv").write_text("\n".join(["image,x,y,z,qx,qy,qz,qw", *cameras]))
    (folder / "robot.csv").write_text("\n".join(["image,x,y,z,rx,ry,rz", *hands]))
    return "rig", "hand-eye", folder / "camera.csv", folder / "robot.csv"


START = datetime(2022, 5, 26, 17, 45, 57, tzinfo=UTC)


def drive(times: Array) -> Array:
    """Return positions (N, 3) of a car, in metres."""
    s = 8 * times + 6 * np.sin(times / 4)
    return np.column_stack([60 * np.sin(s / 60), 60 * (1 - np.cos(s / 60)) + 0.3 * s, 0.5 * np.sin(s / 40)])


def scale_drive(folder: Path, *, has_jumps: bool) -> Words:
    """Write a path of which one unit is 7.3 m, and the track of a GoPro at 18 Hz; return the command."""
    rng = np.random.default_rng(7)
    at, times = np.arange(2, 38, 0.1), np.arange(0, 40, 1 / 18)
    T = np.tile(np.eye(4), (len(at), 1, 1))
    turned = Rotation.from_euler("xyz", [70, 20, 10], degrees=True)
    T[:, :3, :3] = (turned * Rotation.from_euler("z", at[:, None] / 9)).as_matrix()
    T[:, :3, 3] = 0.137 * turned.apply(drive(at)) + rng.normal(0, 0.004, (len(at), 3))
    write_tum(folder / "est.txt", T, START.timestamp() + at)
    track = drive(times) + rng.normal(0, 0.6, (len(times), 3))
    if has_jumps:
        track[:70] += (-9e6, 3.3e6, 20639)
        jumping = rng.choice(np.arange(100, len(times)), 25, replace=False)
        track[jumping] += rng.normal(0, 400, (25, 3))
    lat, lon, radius_m = 47.335287, 8.519083, 6378137.0
    points = list[str]()
    for (east, north, up), time in zip(track, times, strict=True):
        stamp = START + timedelta(seconds=float(time) if has_jumps else int(time))
        place = (lat + np.degrees(north / radius_m), lon + np.degrees(east / radius_m / np.cos(np.radians(lat))))
        text = stamp.isoformat(timespec="milliseconds" if has_jumps else "seconds").replace("+00:00", "Z")
        points.append(
            f'<trkpt lat="{place[0]:.9f}" lon="{place[1]:.9f}"><ele>{480 + up:.2f}</ele><time>{text}</time></trkpt>'
        )
    (folder / "track.gpx").write_text(f"<gpx><trk><trkseg>{''.join(points)}</trkseg></trk></gpx>")
    return "scale", folder / "est.txt", "--scale-from", f"gps={folder / 'track.gpx'}", "--out", folder / "m.txt"


@thread("gopro-dashboard-overlay 125: whole seconds at 18 Hz", r"one unit is 7\.(29|30?\d?) m", outcome="right")
def _whole_seconds(folder: Path, data: Path) -> Words:
    return scale_drive(folder, has_jumps=False)


@thread("gopro-utils 3: positions that jump", r"one unit is 7\.(29|30?\d?)\d* m", outcome="right")
def _jumps(folder: Path, data: Path) -> Words:
    return scale_drive(folder, has_jumps=True)


@thread("VINS-Mono 436: T_ic in place of T_ci", "is from the camera to the gyroscope", "transpose it")
def _gyroscope(folder: Path, data: Path) -> Words:
    rng = np.random.default_rng(7)
    at, times = np.arange(0, 30, 0.05), np.arange(0, 30, 0.005)

    def turn(t: Array) -> Rotation:
        angles = [0.4 * np.sin(1.1 * t), 0.5 * np.sin(0.8 * t + 1), 0.35 * np.sin(1.7 * t + 2)]
        return Rotation.from_euler("xyz", np.column_stack(angles))

    T, mount = np.tile(np.eye(4), (len(at), 1, 1)), Rotation.from_euler("xyz", [91, -2, 88], degrees=True)
    T[:, :3, :3] = (turn(at) * Rotation.from_rotvec(rng.normal(0, 0.0008, (len(at), 3)))).as_matrix()
    T[:, :3, 3] = np.column_stack([np.sin(at), np.cos(0.7 * at), 0.3 * at])
    write_tum(folder / "cam.txt", T, 1e9 + at)
    rates = (turn(times - 0.0005).inv() * turn(times + 0.0005)).as_rotvec() / 0.001
    rates = mount.inv().apply(rates) + np.array([0.01, -0.02, 0.005]) + rng.normal(0, 0.003, (len(times), 3))
    lines = (
        f"{round((1e9 + t) * 1e9)},{x:.6f},{y:.6f},{z:.6f},0.1,0.2,9.8"
        for t, (x, y, z) in zip(times, rates, strict=True)
    )
    header = "#timestamp [ns],w_x [rad s^-1],w_y [rad s^-1],w_z [rad s^-1],a_x [m s^-2],a_y [m s^-2],a_z [m s^-2]"
    (folder / "imu.csv").write_text("\n".join([header, *lines]))
    T_imu_camera = np.eye(4)
    T_imu_camera[:3, :3] = mount.inv().as_matrix()
    np.savetxt(folder / "T.txt", T_imu_camera, fmt="%.8f")
    return "rig", "imu", folder / "cam.txt", folder / "imu.csv", "--calibration", folder / "T.txt"


# -- Set 7: threads of 2024 to 2026. Results of a walk.


def warp_images(K: Array, R: Array) -> Change:
    """Return the images of a camera that is turned by R against the camera of the images."""
    H = K @ R.T @ np.linalg.inv(K)
    return lambda image: cv2.warpPerspective(image, H, image.shape[1::-1], flags=cv2.INTER_CUBIC)


@thread("Depth-Anything-3 174: K scaled twice", "another size: about 2314x1543", damaging="scale drifts", needs="walk")
def _scaled_twice(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data, lambda image: cv2.resize(image, (1080, 720), interpolation=cv2.INTER_CUBIC))
    world_to_camera, ratio = np.linalg.inv(T), 1080 / 504
    camera = ratio * ratio * np.r_[pick_numbers(K)[:2] * 504 / 540, 252, 168]
    return write_model(folder, world_to_camera, world_to_camera[:, :3, 3], (1080, 720), camera)


@thread(
    "vggsfm 36: 2D points of padded images of 1024x1024", "is usable", "2D points|observations|keypoints",
    damaging="inverted|K belongs|focal length is", outcome="right", needs="walk",
)  # fmt: skip
def _padded_points(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    world_to_camera, rng = np.linalg.inv(T), np.random.default_rng(7)
    write_model(folder, world_to_camera, world_to_camera[:, :3, 3], (540, 360), pick_numbers(K))
    points = list[Array]()
    for place, frame in enumerate(FRAMES):
        depth = cv2.imread(str(data / f"walk/depth/{frame:05d}.png"), cv2.IMREAD_UNCHANGED)
        if depth is None:
            continue
        for _ in range(60):
            x, y = rng.uniform(20, 520), rng.uniform(20, 340)
            z = depth[round(y * depth.shape[0] / 360), round(x * depth.shape[1] / 540)] / 1000
            if z:
                points.append((T[place] @ np.r_[np.linalg.inv(K) @ (x, y, 1) * z, 1])[:3])
    seen, tracks = [list[str]() for _ in FRAMES], [list[str]() for _ in points]
    for order, point in enumerate(points):
        for place in range(len(FRAMES)):
            u = K @ (world_to_camera[place] @ np.r_[point, 1])[:3]
            if u[2] > 0 and 0 < u[0] / u[2] < 540 and 0 < u[1] / u[2] < 360:
                pixel = u[:2] / u[2] * 1024 / 540 + (0, (1024 - 360 * 1024 / 540) / 2)
                tracks[order].append(f"{place + 1} {len(seen[place])}")
                seen[place].append(f"{pixel[0]:.2f} {pixel[1]:.2f} {order + 1}")
    lines = (folder / "sparse/images.txt").read_text().split("\n")
    lines[1 : 2 * len(seen) : 2] = [" ".join(texts) for texts in seen]
    (folder / "sparse/images.txt").write_text("\n".join(lines))
    rows = zip(points, tracks, strict=True)
    texts = (f"{k} {x} {y} {z} 90 90 90 0.5 {' '.join(track)}\n" for k, ((x, y, z), track) in enumerate(rows, 1))
    (folder / "sparse/points3D.txt").write_text("".join(texts))
    return "check", folder / "sparse", "--images", folder / "images"


def write_transforms(path: Path, T: Array, K: Array) -> None:
    """Write transforms.json of nerfstudio."""
    names = ("fl_x", "fl_y", "cx", "cy")
    camera = dict(zip(names, pick_numbers(K).tolist(), strict=True)) | {"w": 540, "h": 360}
    frames = [
        {"file_path": f"images/{frame:05d}.jpg", "transform_matrix": matrix.tolist()}
        for frame, matrix in zip(FRAMES, turn_to_opengl(T), strict=True)
    ]
    path.write_text(json.dumps(camera | {"frames": frames}))


def turn_to_opengl(T: Array) -> Array:
    """Return poses (N, 4, 4) with the axes of OpenGL."""
    turned = T.copy()
    turned[:, :3, :3] = T[:, :3, :3] @ OPENGL
    return turned


@thread(
    "nerfstudio 3700: a few frames of Metashape are wrong",
    "00009",
    "00024",
    "take the poses that their matches give",
    needs="walk",
)
def _few_frames(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    for place, angle in ((3, 25), (8, -30)):
        T[place, :3, :3] = T[place, :3, :3] @ Rotation.from_euler("y", angle, degrees=True).as_matrix()
        T[place, :3, 3] += (0.4, 0.1, -0.3)
    write_transforms(folder / "transforms.json", T, K)
    return "check", folder / "transforms.json", "--images", folder / "images"


@thread("EyefulTower 10: cameras.xml of a rig", "24 of 24 images have a pose", outcome="right", needs="walk")
def _metashape_rig(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    turned = Rotation.from_euler("y", 15, degrees=True).as_matrix()
    warp = warp_images(K, turned)
    for frame in FRAMES:
        image = cv2.imread(str(folder / f"images/{frame:05d}.jpg"))
        cv2.imwrite(str(folder / f"images/{frame:05d}.jpg"), image)
        cv2.imwrite(str(folder / f"images/right_{frame:05d}.jpg"), warp(image))
    calibration = (
        '<calibration type="frame" class="adjusted"><resolution width="540" height="360"/>'
        f"<f>{K[0, 0]}</f><cx>{K[0, 2] - 270}</cx><cy>{K[1, 2] - 180}</cy></calibration>"
    )
    sensor = '<resolution width="540" height="360"/>' + calibration
    lines = [f'<sensor id="0" label="a" type="frame">{sensor}</sensor>']
    lines.append(
        f'<sensor id="1" label="b" type="frame" master_id="0">{sensor}<rotation>{" ".join(map(str, turned.ravel()))}'
        "</rotation><location>0 0 0</location></sensor>"
    )
    cameras = list[str]()
    for order, (frame, matrix) in enumerate(zip(FRAMES, T, strict=True)):
        text = " ".join(f"{value:.9f}" for value in matrix.ravel())
        cameras.append(
            f'<camera id="{2 * order}" sensor_id="0" label="{frame:05d}"><transform>{text}</transform></camera>'
        )
        label = f'label="right_{frame:05d}"'
        cameras.append(f'<camera id="{2 * order + 1}" sensor_id="1" master_id="{2 * order}" {label}/>')
    (folder / "cameras.xml").write_text(
        f'<?xml version="1.0"?>\n<document version="2.0.0"><chunk label="c"><sensors>{"".join(lines)}</sensors>'
        f"<cameras>{''.join(cameras)}</cameras></chunk></document>\n"
    )
    return "check", folder / "cameras.xml", "--images", folder / "images"


@thread(
    "CUT3R 67: PyTorch3D's R, and T with x and y mirrored",
    "different axes: x and y",
    "as PyTorch3D has them",
    "transpose",
    damaging="path bends",
    needs="walk",
)
def _pytorch3d(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    world_to_camera, mirror = np.linalg.inv(T), np.diag([-1.0, -1, 1])
    written = world_to_camera.copy()
    written[:, :3, :3] = np.swapaxes(mirror @ world_to_camera[:, :3, :3], 1, 2)
    return write_model(folder, written, world_to_camera[:, :3, 3], (540, 360), pick_numbers(K))


@thread(
    "vggt 239: distorted images, a camera without distortion", "write k1 -0.2[78]", damaging="inverted", needs="walk"
)
def _distorted(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    grid = np.stack(np.meshgrid(np.arange(540.0), np.arange(360.0)), -1).reshape(-1, 1, 2)
    source = cv2.undistortPoints(grid, K, np.array([-0.28, 0.07, 0, 0]), P=K).reshape(360, 540, 2).astype(np.float32)
    write_walk(folder, data, lambda image: cv2.remap(image, source[..., 0], source[..., 1], cv2.INTER_CUBIC))
    world_to_camera = np.linalg.inv(T)
    return write_model(folder, world_to_camera, world_to_camera[:, :3, 3], (540, 360), pick_numbers(K))


@thread(
    "multi-spectral-dataset 10: 5764 poses, 1364 images, other times", "is usable|good", outcome="right",
    damaging="inverted|drifts", needs="walk",
)  # fmt: skip
def _dense_poses(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    times = 1737618000.031 + np.arange(len(T)) * 0.1
    (folder / "rgb").mkdir()
    for frame, time in zip(FRAMES, times, strict=True):
        cv2.imwrite(str(folder / f"rgb/{time:.6f}.png"), cv2.imread(str(data / f"walk/images/{frame:05d}.jpg")))
    between = np.linspace(times[0] - 0.002, times[-1] + 0.003, 4 * len(T) + 3).clip(times[0], times[-1])
    slerp = Slerp(times, Rotation.from_matrix(T[:, :3, :3]))
    dense = np.tile(np.eye(4), (len(between), 1, 1))
    dense[:, :3, :3] = slerp(between).as_matrix()
    dense[:, :3, 3] = np.stack([np.interp(between, times, T[:, k, 3]) for k in range(3)], 1)
    write_tum(folder / "groundtruth.txt", dense, between + np.linspace(-0.002, 0.003, len(between)))
    camera = ",".join(f"{key}={v:.3f}" for key, v in zip(("fx", "fy", "cx", "cy"), pick_numbers(K), strict=True))
    return "check", folder / "groundtruth.txt", "--images", folder / "rgb", "--camera", camera


# -- Set 7: trajectories.


@thread("glim 52: times from 1.1 s in place of the bag's", "clocks start differently|other clock", "add ")
def _relative_times(folder: Path, data: Path) -> Words:
    estimate = make_estimate()
    estimate[:, :3, :3] = estimate[:, :3, :3] @ Rotation.from_euler("xyz", [90, -90, 0], degrees=True).as_matrix()
    write_tum(folder / "ref.txt", make_path(), TIMES_S)
    write_tum(folder / "est.txt", estimate[20:], TIMES_S[20:] - TIMES_S[0] + 0.0999)
    return score_path(folder)


@thread("MASt3R-SLAM 81: every tenth frame, ScanNet's poses with inf", "30 a second", r"ATE is 0\.00\d+ m")
def _stride(folder: Path, data: Path) -> Words:
    write_tum(folder / "est.txt", make_estimate()[::10], [f"{k / 30:.6f}" for k in range(0, 150, 10)])
    poses = make_path()
    poses[141:145] = -np.inf
    np.savez(folder / "poses.npz", poses=poses)
    return score_path(folder, "--align", "sim3", reference="poses.npz")


@thread("Cerberus2.0 6: times of publication, in bursts", "ref.txt are those of a delivery in bursts", r"ATE is 0\.00")
def _bursts(folder: Path, data: Path) -> Words:
    rng = np.random.default_rng(7)
    T, times = make_path(600), START_S + np.arange(600) / 50
    s = np.cumsum(1 + 0.8 * np.sin(np.arange(600) / 20)) / 40
    T[:, :3, 3] = np.stack([3 * np.sin(s / 3), 0.3 * np.cos(s), 3 * np.cos(s / 3) + 0.2 * s], 1)
    published, latest = times.copy(), times[0]
    for k in range(600):
        latest = max(latest + 3e-6, times[k] + (rng.exponential(0.12) if rng.random() < 0.12 else 0.001))
        published[k] = latest
    write_tum(folder / "ref.txt", T, published)
    estimate = T.copy()
    estimate[:, :3, 3] += rng.normal(0, 0.002, (600, 3))
    write_tum(folder / "est.txt", estimate, times)
    return score_path(folder)


@thread("QuestRealityCapture 11: hmd_poses.csv of Unity", "left-handed world", "mirror y")
def _quest(folder: Path, data: Path) -> Words:
    T, mirror = make_path(), np.diag([1.0, 1, -1])
    write_tum(folder / "est.txt", make_estimate())
    opengl = turn_to_opengl(T)
    quaternions = Rotation.from_matrix(mirror @ opengl[:, :3, :3] @ mirror).as_quat()
    rows = zip(TIMES_S, opengl[:, :3, 3] @ mirror, quaternions, strict=True)
    lines = (
        ",".join([str(round(1000 * time)), f"{time - 1403630000:.6f}", *(f"{v:.6f}" for v in np.r_[position, q])])
        for time, position, q in rows
    )
    header = "unix_time,ovr_timestamp,pos_x,pos_y,pos_z,rot_x,rot_y,rot_z,rot_w"
    (folder / "hmd_poses.csv").write_text("\n".join([header, *lines]) + "\n")
    return score_path(folder, reference="hmd_poses.csv")


@thread("nerfstudio 3280: camera_path.json of the world of dataparser_transforms.json", "sim3", r"0\.125|7\.96")
def _dataparser(folder: Path, data: Path) -> Words:
    A = np.eye(4)
    A[:3] = [[0, 1, 0, 0.31386], [1, 0, 0, -0.119792], [0, 0, -1, -0.089697]]
    T = turn_to_opengl(make_path())
    moved = A @ T
    moved[:, :3, 3] *= 0.12556246049140518
    frames = [{"file_path": f"images/{k:05d}.jpg", "transform_matrix": matrix.tolist()} for k, matrix in enumerate(T)]
    camera = {"fl_x": 500, "fl_y": 500, "cx": 320, "cy": 240, "w": 640, "h": 480}
    (folder / "transforms.json").write_text(json.dumps(camera | {"frames": frames}))
    path = [{"camera_to_world": matrix.ravel().tolist(), "fov": 50, "aspect": 1.33} for matrix in moved]
    (folder / "camera_path.json").write_text(json.dumps({"fps": 24, "camera_path": path}))
    return score_path(folder, estimate="camera_path.json", reference="transforms.json")


# -- Set 7: depth, cameras, robots and objects.


add_depth("wavemap 89: rows from the bottom to the top", "upside down",
          truth=1000.0, change=lambda depth, noise: (depth * (1000 + 20 * noise))[::-1],
          options=("--depth-factor", 1000))  # fmt: skip
add_depth("Depth-Anything-3 72: not multiplied by focal / 300", r"multiply them by 1\.649", "focal length",
          truth=1000.0, change=lambda depth, noise: depth * (1000 + 40 * noise) * 300 / 495.5,
          options=("--depth-factor", 1000))  # fmt: skip
add_depth("metropolis_sdk 6: 256 a metre, read as millimetres", "--reference-factor 256", truth=256.0,
          change=lambda depth, noise: depth * (1000 + 40 * noise), options=("--depth-factor", 1000))  # fmt: skip
add_calibration("MoGe 76: normalized K", "intrinsics.txt", "0.9177 0 0.5\n0 1.2236 0.5\n0 0 1\n",
                "if it is normalized, multiply by the image's width and height", outcome="cure")  # fmt: skip
add_calibration("IsaacLab 2972: focal_length and horizontal_aperture", "camera.json",
                json.dumps({"focal_length": 1.93, "focus_distance": 0.8, "horizontal_aperture": 3.896, "width": 1280,
                            "height": 960, "clipping_range": [0.1, 1000000]}),
                r"field of view 90\.5 x 74\.3", outcome="right", size=(1280, 960))  # fmt: skip


@thread("zivid-python 336: a camera on the base, as one on the hand", "--camera-on base", damaging="multiply")
def _eye_to_hand(folder: Path, data: Path) -> Words:
    rng = np.random.default_rng(7)
    T_base_camera, T_hand_board = np.eye(4), np.eye(4)
    T_base_camera[:3, :3] = Rotation.from_quat([0.99943, 0.0019089, 0.0337, -0.0016311]).as_matrix()
    T_base_camera[:3, 3] = (-0.288, -0.896, 1.691)
    T_hand_board[:3, :3] = Rotation.from_euler("xyz", [4, 178, 30], degrees=True).as_matrix()
    T_hand_board[:3, 3] = (0.03, -0.05, 0.08)
    cameras, hands = list[str](), list[str]()
    for k in range(15):
        hand = np.eye(4)
        hand[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-25, 25, 3), degrees=True).as_matrix()
        hand[:3, 3] = np.array([-0.3, -0.9, 0.7]) + rng.uniform(-0.25, 0.25, 3)
        seen = np.linalg.inv(T_base_camera) @ hand @ T_hand_board
        seen[:3, 3] += rng.normal(0, 0.0003, 3)
        for T, lines in ((np.linalg.inv(seen), cameras), (hand, hands)):
            quaternion = Rotation.from_matrix(T[:3, :3]).as_quat()
            lines.append(",".join([str(k), *(f"{value:.6f}" for value in np.r_[T[:3, 3], quaternion])]))
    for name, lines in (("camera", cameras), ("robot", hands)):
        (folder / f"{name}.csv").write_text("\n".join(["image,x,y,z,qx,qy,qz,qw", *lines]))
    return "rig", "hand-eye", folder / "camera.csv", folder / "robot.csv"


@thread(
    "FAST-LIVO 162: the camera in the LiDAR in place of its inverse",
    "says nothing of calib_velo_to_cam",
    needs="kitti_raw",
)
def _inverse_lidar(folder: Path, data: Path) -> Words:
    date = "2011_09_26"
    shutil.copytree(data / "kitti_raw" / date, folder / date)
    rows = dict(
        line.split(": ") for line in (data / f"kitti_raw/{date}/calib_velo_to_cam.txt").read_text().splitlines()
    )
    R, t = (np.array(rows[name].split(), float) for name in "RT")
    R = R.reshape(3, 3)
    written = rows | {"R": " ".join(f"{v:.6e}" for v in R.T.ravel()), "T": " ".join(f"{v:.6e}" for v in -R.T @ t)}
    text = "\n".join(f"{name}: {value}" for name, value in written.items())
    (folder / date / "calib_velo_to_cam.txt").write_text(text + "\n")
    return "rig", "lidar", folder


@thread("FoundationPose 380: a mesh ten times as large", r"multiply t by 0\.(1|0999)", needs="bop")
def _large_mesh(folder: Path, data: Path) -> Words:
    write_results(folder / "est.csv", data, lambda R, t: (R, 10 * t))
    return "evaluate", "--objects", folder / "est.csv", "--reference", data / "bop/lmo", "--split", "test"


# -- The eighth set.


def write_matrices(folder: Path, T: Array, K: Array) -> Words:
    """Write poses (N, 4, 4) as files of 16 numbers, and K; return the command."""
    (folder / "cams").mkdir()
    for matrix, frame in zip(T, FRAMES, strict=True):
        np.savetxt(folder / f"cams/{frame:05d}.txt", matrix, fmt="%.8f")
    np.savetxt(folder / "K.txt", K, fmt="%.4f")
    return "check", folder / "cams", "--images", folder / "images", "--camera", folder / "K.txt"


def write_frames(folder: Path, T: Array, K: Array, size: tuple[int, int], path: str = "images/{}.jpg") -> Words:
    """Write poses with the axes of OpenGL as transforms.json; return the command."""
    turned = T.copy()
    turned[:, :3, :3] = T[:, :3, :3] @ OPENGL
    frames = [
        {"file_path": path.format(f"{frame:05d}"), "transform_matrix": matrix.tolist()}
        for frame, matrix in zip(FRAMES, turned, strict=True)
    ]
    camera = dict(zip(("fl_x", "fl_y", "cx", "cy"), pick_numbers(K).tolist(), strict=True))
    content = {**camera, "w": size[0], "h": size[1], "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(content, indent=1))
    return "check", folder / "transforms.json", "--images", folder / "images"


@thread("Objectron 36: K of the images before they were made smaller", "another size: 1080x720", needs="walk")
def _objectron(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data, lambda image: cv2.resize(image, (360, 240), interpolation=cv2.INTER_AREA))
    return write_matrices(folder, T, np.diag([2, 2, 1]) @ K)


@thread("Align3R 11: pred_traj.txt with w first", "w first|w x y z|qw", needs="walk")
def _align3r(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    write_tum(folder / "pred_traj.txt", T, [f"{k}.0" for k in range(len(T))], w_first=True)
    np.savetxt(folder / "K.txt", K, fmt="%.4f")
    return "check", folder / "pred_traj.txt", "--images", folder / "images", "--camera", folder / "K.txt"


@thread("HandEyeCalibration-using-OpenCV 1: both series of poses inverted", "invert both", r"50, -(80|79)")
def _both_inverted(folder: Path, data: Path) -> Words:
    words = _robot(folder, data)
    for name in ("camera", "robot"):
        rows = [row.split(",") for row in (folder / f"{name}.csv").read_text().splitlines()]
        inverted = [rows[0]]
        for row in rows[1:]:
            numbers, T = np.array(row[1:], float), np.eye(4)
            turn = (
                Rotation.from_quat(numbers[3:]) if name == "camera" else Rotation.from_rotvec(np.radians(numbers[3:]))
            )
            T[:3, :3], T[:3, 3] = turn.as_matrix(), numbers[:3]
            inverse = np.linalg.inv(T)
            turn = Rotation.from_matrix(inverse[:3, :3])
            last = turn.as_quat() if name == "camera" else np.degrees(turn.as_rotvec())
            inverted.append([row[0], *(f"{value:.6f}" for value in np.r_[inverse[:3, 3], last])])
        (folder / f"{name}.csv").write_text("\n".join(",".join(row) for row in inverted))
    return words


@thread(
    "self-supervised-depth-completion 30: half of a crop taken from cy", "principal point", r"\+(2\d|3\d)", needs="walk"
)
def _half_crop(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data, lambda image: image[60:])
    K[1, 2] -= 30
    return write_matrices(folder, T, K)


@thread("NeRFCapture 7: images upright, poses and K sideways", "quarter turn|turned by 90|90 degrees", needs="walk")
def _sideways(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data, lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE))
    return write_frames(folder, T, K, (540, 360))


@thread("Orthophoto_Maps 25: Pix4D's omega, phi, kappa", "is usable", outcome="right", needs="walk")
def _angles(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    world = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    angles = Rotation.from_matrix(world @ T[:, :3, :3] @ OPENGL).as_euler("XYZ", degrees=True)
    rows = np.hstack([T[:, :3, 3] @ world.T, angles])
    lines = [f"{f:05d}.jpg " + " ".join(f"{v:.6f}" for v in row) for f, row in zip(FRAMES, rows, strict=True)]
    path = folder / "calibrated_external_camera_parameters.txt"
    path.write_text("\n".join(["imageName X Y Z Omega Phi Kappa", *lines]) + "\n")
    np.savetxt(folder / "K.txt", K, fmt="%.4f")
    return "check", path, "--images", folder / "images", "--camera", folder / "K.txt"


@thread(
    "AnySplat 37: images squeezed to squares, fx = fy",
    "aspect|fy over fx|fx over fy|stretched|squeezed",
    damaging="scale drifts",
    needs="walk",
)
def _squeezed(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data, lambda image: cv2.resize(image, (448, 448), interpolation=cv2.INTER_AREA))
    return write_matrices(
        folder, T, np.array([[K[0, 0] * 448 / 540, 0, 224], [0, K[0, 0] * 448 / 540, 224], [0, 0, 1]])
    )


@thread("scannetpp 160: transforms.json against images.txt", r"ATE \d\.\d+e-06 m", outcome="right", needs="walk")
def _two_worlds(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    world = np.linalg.inv(T)
    write_model(folder, world, world[:, :3, 3], (540, 360), pick_numbers(K))
    moved, turn = T.copy(), np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
    moved[:, :3, :3], moved[:, :3, 3] = turn @ T[:, :3, :3], 0.4 * T[:, :3, 3] @ turn.T + (0.1, -0.2, 0.3)
    write_frames(folder, moved, K, (540, 360))
    return score_path(folder, "--align", "sim3", estimate="transforms.json", reference="sparse")


@thread("nerfstudio 3488: cameras of ns-export", "is usable", outcome="right", needs="walk")
def _exported(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    words = write_frames(folder, T, K, (540, 360))
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    listed = [{"file_path": one["file_path"], "transform": one["transform_matrix"][:3]} for one in frames]
    (folder / "transforms.json").unlink()
    (folder / "transforms_train.json").write_text(json.dumps(listed))
    np.savetxt(folder / "K.txt", K, fmt="%.4f")
    return words[0], folder / "transforms_train.json", *words[2:], "--camera", folder / "K.txt"


@thread("instant-DexNerf 3: file_path with backslashes", "is usable", outcome="right", needs="walk")
def _backslashes(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    return write_frames(folder, T, K, (540, 360), "./..\\nerf_dataset\\canister\\rgb/{}.jpg")


@thread("openMVG 1350: camera.transform of ARKit as extrinsics", "OpenGL", "invert|transpose", needs="walk")
def _arkit(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    fx, _, cx, cy = pick_numbers(K).tolist()
    camera = {"width": 540, "height": 360, "focal_length": fx, "principal_point": [cx, cy]}
    views, poses = [], []
    for key, (frame, matrix) in enumerate(zip(FRAMES, T, strict=True)):
        about = {"local_path": "", "filename": f"{frame:05d}.jpg", "width": 540, "height": 360}
        about |= {"id_view": key, "id_intrinsic": 0, "id_pose": key}
        views.append({"key": key, "value": {"polymorphic_id": 1073741824, "ptr_wrapper": {"id": key, "data": about}}})
        turned = matrix[:3, :3] @ OPENGL
        poses.append({"key": key, "value": {"rotation": turned.tolist(), "center": matrix[:3, 3].tolist()}})
    wrapped = {"polymorphic_id": 2147483649, "polymorphic_name": "pinhole"}
    intrinsics = [{"key": 0, "value": {**wrapped, "ptr_wrapper": {"id": 99, "data": {"value0": camera, **camera}}}}]
    content = {"sfm_data_version": "0.3", "root_path": "images", "views": views, "intrinsics": intrinsics}
    (folder / "sfm_data.json").write_text(json.dumps({**content, "extrinsics": poses, "structure": []}))
    return "check", folder / "sfm_data.json", "--images", folder / "images"


@thread(
    "OmniVGGT 11: camera-to-world where the README says world-to-camera", "is usable", outcome="right", needs="walk"
)
def _matrices(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    return write_matrices(folder, T, K)


@thread(
    "flowmap 8: K of the cropped image, times the size of the whole one",
    r"focal length is 1[123]",
    damaging="scale drifts",
    needs="walk",
)
def _uncropped(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    world, numbers = np.linalg.inv(T), pick_numbers(K) * (540 / 480, 360 / 320, 1, 1)
    return write_model(folder, world, world[:, :3, 3], (540, 360), numbers)


@thread("DeepGTAV 8: camrot_x, camrot_y, camrot_z", "convert camrot_x")
def _game(folder: Path, data: Path) -> Words:
    T, world = make_estimate(), np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    body = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    angles = Rotation.from_matrix(world @ T[:, :3, :3] @ body.T).as_euler("ZXY", degrees=True)
    rows = np.column_stack([TIMES_S, T[:, :3, 3] @ world.T, angles[:, 1], angles[:, 2], angles[:, 0]])
    lines = (",".join(f"{value:.6f}" for value in row) for row in rows)
    (folder / "est.csv").write_text("\n".join(["timestamp,x,y,z,camrot_x,camrot_y,camrot_z", *lines]))
    write_tum(folder / "ref.txt", make_path())
    return score_path(folder, estimate="est.csv")


@thread("lili-om 52: GNSS time without leap seconds", r"18(\.0\d*)? s")
def _leap_seconds(folder: Path, data: Path) -> Words:
    write_tum(folder / "est.txt", make_estimate())
    write_tum(folder / "ref.txt", make_path(), TIMES_S + 18)
    return score_path(folder)


@thread("Lidar-Odometry-and-Mapping 4: rostopic echo of positions", "rostopic echo -p")
def _rostopic(folder: Path, data: Path) -> Words:
    write_tum(folder / "ref.txt", make_path())
    positions = make_estimate()[:, :3, 3]
    (folder / "est.txt").write_text("".join(f"x: {x:.6f}\ny: {y:.6f}\nz: {z:.6f}\n---\n" for x, y, z in positions))
    return score_path(folder)


def write_survey(folder: Path) -> tuple[Path, list[str], Array]:
    """Write a model of which one unit is 7.3 m; return it, the names of its images, and a noisy track in metres."""
    at = np.arange(0, 60, 1.0)
    places, world = drive(at), Rotation.from_euler("xyz", [70, 20, 10], degrees=True)
    T = np.tile(np.eye(4), (len(at), 1, 1))
    T[:, :3, :3] = (world * Rotation.from_euler("z", at[:, None] / 9)).as_matrix()
    T[:, :3, 3] = 0.137 * world.apply(places)
    inverse = np.linalg.inv(T)
    quaternions = np.roll(Rotation.from_matrix(inverse[:, :3, :3]).as_quat(), 1, axis=1)
    sparse, names = folder / "sparse", [f"DJI_{k:04d}.JPG" for k in range(len(at))]
    sparse.mkdir()
    (sparse / "points3D.txt").write_text("")
    (sparse / "cameras.txt").write_text("1 PINHOLE 4000 3000 3000 3000 2000 1500\n")
    rows = np.hstack([quaternions, inverse[:, :3, 3]])
    texts = (
        f"{k} {' '.join(f'{v:.8f}' for v in row)} 1 {name}\n\n"
        for k, (row, name) in enumerate(zip(rows, names, strict=True), 1)
    )
    (sparse / "images.txt").write_text("".join(texts))
    return sparse, names, places + np.random.default_rng(7).normal(0, 0.5, places.shape)


@thread("ODM 1473: geo.txt", r"one unit is 7\.\d", outcome="right")
def _geo(folder: Path, data: Path) -> Words:
    sparse, names, track = write_survey(folder)
    lat, lon, radius_m = 47.335287, 8.519083, 6378137.0
    lines = ["EPSG:4326"]
    for name, (east, north, up) in zip(names, track, strict=True):
        place = (lon + np.degrees(east / radius_m / np.cos(np.radians(lat))), lat + np.degrees(north / radius_m))
        lines.append(f"{name} {place[0]:.9f} {place[1]:.9f} {480 + up:.3f} 12.5 -88.1 0.3 1.5 3.0")
    (folder / "geo.txt").write_text("\n".join(lines) + "\n")
    return "scale", sparse, "--scale-from", f"gps={folder / 'geo.txt'}", "--out", folder / "metres"


add_calibration(
    "s2m2 36: calib.txt of rectified views of DNA-Rendering", "calib.txt",
    "cam0=[2502.973486913381 0.0 498.3502731323242; 0.0 2502.973486913381 1228.7623138427734; 0 0 1]\n"
    "doffs=1010.828\nbaseline=1.14349e3\nwidth=2048\nheight=2448\n",
    r"\[\[2502\.97348", size=(2048, 2448))  # fmt: skip
add_calibration(
    "realsense-ros 679: a fisheye of T265 as plumb_bob", "camera_info.yaml",
    'height: 800\nwidth: 848\ndistortion_model: "plumb_bob"\n'
    "D: [-0.0021744559053331614, 0.03760552033782005, -0.036404311656951904, 0.005936861969530582, 0.0]\n"
    "K: [285.6466979980469, 0.0, 424.5740051269531, 0.0, 286.68499755859375, 408.1993103027344, 0.0, 0.0, 1.0]\n"
    "R: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]\n"
    "P: [285.6466979980469, 0.0, 424.5740051269531, 0.0, 0.0, 286.68499755859375, 408.1993103027344, 0.0, 0.0, 0.0, "
    "1.0, 0.0]\nbinning_x: 0\nbinning_y: 0\n---\n",
    "fisheye|equidistant", outcome="cure", size=(848, 800))  # fmt: skip


@thread("monodepth2 228: metres of a ZED divided by 256", "256", needs="walk")
def _divided(folder: Path, data: Path) -> Words:
    rng = np.random.default_rng(7)
    for name in ("pred", "truth"):
        (folder / name).mkdir()
    for file in sorted((data / "walk/depth").iterdir())[:8]:
        depth = cv2.imread(str(file), cv2.IMREAD_UNCHANGED).astype(np.float32) / 1000
        np.save(folder / f"truth/{file.stem}.npy", depth / 256)
        predicted = np.where(depth > 0, depth, 2) * (1 + 0.04 * rng.normal(size=depth.shape))
        np.save(folder / f"pred/{file.stem}.npy", predicted.astype(np.float32))
    return "evaluate", "--depth", folder / "pred", "--reference", folder / "truth"


# -- Set 9: threads of 2024 to 2026. Trajectories.


@thread(
    "VSLAM-LAB 160: poses of the camera against those of the body", "two sensors of one rig", "turned by 120 degrees"
)
def _body(folder: Path, data: Path) -> Words:
    body, mount = make_path(), np.eye(4)
    mount[:3, :3] = Rotation.from_euler("xyz", [-90, 0, -90], degrees=True).as_matrix()
    mount[:3, 3] = (0.35, 0, 0.76)
    T = body @ mount
    T[:, :3, 3] += np.random.default_rng(7).normal(0, 0.002, (len(T), 3))
    write_tum(folder / "est.txt", T)
    write_tum(folder / "groundtruth.txt", body)
    return score_path(folder, reference="groundtruth.txt")


@thread("BodySLAM 6: 3x4 against a sheet of EndoSLAM", r"ATE 0\.00", outcome="right")
def _endoslam(folder: Path, data: Path) -> Words:
    T = make_path()
    write_kitti(folder / "est.txt", make_estimate())
    rows = np.column_stack([T[:, :3, 3], Rotation.from_matrix(T[:, :3, :3]).as_quat()])
    header = "trans_x,trans_y,trans_z,quot_x,quot_y,quot_z,quot_w"
    lines = [header, *(",".join(f"{value:.7f}" for value in row) for row in rows)]
    (folder / "colon.csv").write_text("\n".join(lines) + "\n")
    return score_path(folder, reference="colon.csv")


@thread(
    "map-anything 93: world-to-camera, four times as large", "world-to-camera poses", "times as long", "invert each"
)
def _four_times(folder: Path, data: Path) -> Words:
    T = make_estimate()
    T[:, :3, 3] *= 4
    np.savez(folder / "pred.npz", camera_poses=T)
    np.savez(folder / "gt.npz", camera_poses=np.linalg.inv(make_path()))
    return score_path(folder, estimate="pred.npz", reference="gt.npz")


@thread("Align3R 11: pred_traj.txt with w first, against a reference", "w of its quaternions first")
def _align3r_path(folder: Path, data: Path) -> Words:
    write_tum(folder / "pred_traj.txt", make_estimate(), [f"{k}.0" for k in range(150)], w_first=True)
    write_tum(folder / "ref.txt", make_path(), [f"{k}.0" for k in range(150)])
    return score_path(folder, "--align", "sim3", estimate="pred_traj.txt")


@thread("Gaussian-SLAM 27: poses relative to the first one, without alignment", "--align se3|se3", r"0\.00")
def _relative(folder: Path, data: Path) -> Words:
    T = make_path()
    T[:, :3, 3] += (2.5, -1, 4)
    T = Rotation.from_euler("xyz", [0.4, 1.1, -0.3]).as_matrix()[None] @ T[:, :3]
    world = np.concatenate([T, np.tile([[[0.0, 0, 0, 1]]], (len(T), 1, 1))], 1)
    relative = np.linalg.inv(world[0]) @ world
    relative[1:, :3, 3] += np.random.default_rng(7).normal(0, 0.002, (len(T) - 1, 3))
    np.save(folder / "est.npy", relative)
    np.save(folder / "gt.npy", world)
    return score_path(folder, "--align", "none", estimate="est.npy", reference="gt.npy")


@thread("FAST-LIVO2 140: images 0.1 s late", "0.1(00)? s late|late against the reference", "0\\.1", "Fix")
def _late(folder: Path, data: Path) -> Words:
    write_tum(folder / "est.txt", make_estimate(), TIMES_S + 0.1)
    write_tum(folder / "ref.txt", make_path())
    return score_path(folder)


@thread("cslam_experiments 15: keys of GTSAM as times", "keys|GTSAM", damaging="clocks start differently")
def _keys(folder: Path, data: Path) -> Words:
    write_tum(folder / "est.txt", make_estimate(), [str(18295873486192640 + k) for k in range(150)])
    write_tum(folder / "ref.txt", make_path())
    return score_path(folder)


# -- Set 9: results of a walk.


@thread("colmap 3404: poses in the order of image_id", "other order|order of the|shuffled", needs="walk")
def _database_order(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    write_kitti(folder / "poses.txt", T[[4, 2, 11, 10, 3, 0, 7, 1, 9, 5, 8, 6]])
    camera = ",".join(f"{key}={v:.3f}" for key, v in zip(("fx", "fy", "cx", "cy"), pick_numbers(K), strict=True))
    return "check", folder / "poses.txt", "--images", folder / "images", "--camera", camera


@thread("SceneSplat 28: axes of OpenCV in transforms.json", "axes of OpenCV", "turn the camera axes", needs="walk")
def _opencv_transforms(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    write_transforms(folder / "transforms_train.json", turn_to_opengl(T), K)
    return "check", folder / "transforms_train.json", "--images", folder / "images"


@thread(
    "vggt 296: a portrait image, of which the middle was seen", "crop|518x518", damaging="drifts|bends", needs="walk"
)
def _portrait(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data, lambda image: cv2.resize(cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE), (720, 1080)))
    turn = np.eye(4)
    turn[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    world_to_camera, scale = turn @ np.linalg.inv(T), 518 / 360
    fx, fy, cx, cy = K[1, 1] * scale, K[0, 0] * scale, (359 - K[1, 2]) * scale, K[0, 2] * scale - (777 - 518) / 2
    np.savez(
        folder / "predictions.npz", extrinsic=world_to_camera[:, :3],
        intrinsic=np.tile([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], (12, 1, 1)), images=np.zeros((12, 3, 518, 518), "u1"),
    )  # fmt: skip
    return "check", folder / "predictions.npz", "--images", folder / "images"


@thread(
    "gsplat 1039: the principal point as the middle", "principal point is off by", r"subtract \((3|4)\d", needs="walk"
)
def _recentered(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data, lambda image: image[:, 70:])
    world_to_camera = np.linalg.inv(T)
    camera = np.r_[pick_numbers(K)[:2], 470 // 2, 360 // 2]
    return write_model(folder, world_to_camera, world_to_camera[:, :3, 3], (470, 360), camera)


# -- Set 9: cameras and gyroscopes.

add_calibration(
    "hilti-trimble-slam-challenge-2026 27: eucm of Kalibr", "camchain.yaml",
    "cam0:\n  cam_overlaps: [1]\n  camera_model: eucm\n  distortion_coeffs: []\n  distortion_model: none\n"
    "  intrinsics: [0.6880437963470425, 0.892755548067092, 464.2603668172087, 463.8449509540513, 732.1131018844826, "
    "720.6839326443876]\n  resolution: [1472, 1440]\n  rostopic: /cam0/image_raw\n",
    "the model 'eucm'", "undistort the images", outcome="refused", size=(1472, 1440))  # fmt: skip
add_calibration(
    "ORB_SLAM3 930: Camera1 of a D435i", "Realsense_D435i.yaml",
    '%YAML:1.0\nFile.version: "1.0"\nCamera.type: "PinHole"\n'
    "Camera1.fx: 393.83372195014\nCamera1.fy: 393.5142578625567\n"
    "Camera1.cx: 323.41500704616675\nCamera1.cy: 233.14763954717986\nStereo.b: 0.0500614121556282\n"
    "Camera1.k1: 0.011827931955951686\nCamera1.k2: -0.006640593139407507\nCamera1.p1: -0.002598950095099216\n"
    "Camera1.p2: 0.00010859505191597918\nCamera2.fx: 393.83372195014\nCamera2.fy: 393.5142578625567\n"
    "Camera2.cx: 323.41500704616675\nCamera2.cy: 233.14763954717986\nCamera1.k3: 0.0\nCamera2.k3: 0.0\n"
    "Stereo.T_c1_c2: !!opencv-matrix\n  rows: 4\n  cols: 4\n  dt: f\n  data: [1.0, 0.0, 0.0, 0.0500614121556282,\n"
    "          0.0, 1.0, 0.0, 0.0,\n          0.0, 0.0, 1.0, 0.0,\n          0.0, 0.0, 0.0, 1.0]\n"
    "Camera.width: 640\nCamera.height: 480\nCamera.fps: 30\n",
    r"\[\[393\.83", r"-0\.0066405")  # fmt: skip
add_calibration("semantic_nerf 49: fy for 480 as fx for 640", "K.txt", "320 0 320\n0 240 240\n0 0 1\n",
                "fy is 0.75 times fx", outcome="cure")  # fmt: skip


def write_gyroscope(folder: Path, mount: Array, gravity: float) -> None:
    """Write poses of a camera that turns, and rates of a gyroscope whose axes `mount` (3, 3) turns to the camera's."""
    rng, at, times = np.random.default_rng(7), np.arange(0, 30, 0.05), np.arange(0, 30, 0.005)

    def turn(t: Array) -> Rotation:
        angles = [0.4 * np.sin(1.1 * t), 0.5 * np.sin(0.8 * t + 1), 0.35 * np.sin(1.7 * t + 2)]
        return Rotation.from_euler("xyz", np.column_stack(angles))

    T = np.tile(np.eye(4), (len(at), 1, 1))
    T[:, :3, :3] = (turn(at) * Rotation.from_rotvec(rng.normal(0, 0.0008, (len(at), 3)))).as_matrix()
    T[:, :3, 3] = np.column_stack([np.sin(at), np.cos(0.7 * at), 0.3 * at])
    write_tum(folder / "cam.txt", T, 1e9 + at)
    rates = (turn(times - 0.0005).inv() * turn(times + 0.0005)).as_rotvec() / 0.001
    rates = rates @ mount + np.array([0.01, -0.02, 0.005]) + rng.normal(0, 0.003, (len(times), 3))
    force = turn(times).inv().apply([0, -gravity, 0]) @ mount
    rows = zip(1e9 + times, rates, force, strict=True)
    lines = (f"{time:.4f},{','.join(f'{v:.6f}' for v in np.r_[rate, one])}" for time, rate, one in rows)
    (folder / "imu.csv").write_text("\n".join(["timestamp,gx,gy,gz,ax,ay,az", *lines]))


@thread("FAST-LIVO 152: accelerations in g, rates in rad/s", "usable|good for", outcome="right", damaging="deg/s")
def _accelerations_in_g(folder: Path, data: Path) -> Words:
    write_gyroscope(folder, np.eye(3), 1.0)
    return "rig", "imu", folder / "cam.txt", folder / "imu.csv"


@thread("vins-application 22: axes of an OAK's IMU", "90|turned|axes", "fix")
def _axes(folder: Path, data: Path) -> Words:
    write_gyroscope(folder, np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]), 9.81)
    np.savetxt(folder / "T.txt", np.eye(4), fmt="%.3f")
    return "rig", "imu", folder / "cam.txt", folder / "imu.csv", "--calibration", folder / "T.txt"


# -- Set 9: depth of the walk.


def write_depth(folder: Path, data: Path, change: Change, *, as_stack: bool = False) -> Words:
    """Write floats of a network for true z in metres (H, W), as a file for each image or as one stack."""
    rng, maps = np.random.default_rng(7), list[Array]()
    for name in ("pred", "truth"):
        (folder / name).mkdir()
    for file in sorted((data / "walk/depth").iterdir())[:8]:
        depth = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        shutil.copyfile(file, folder / "truth" / file.name)
        filled = np.where(depth > 0, depth, 2000) / 1000
        maps.append(change(filled * (1 + 0.03 * rng.normal(size=depth.shape))).astype(np.float32))
        if not as_stack:
            np.save(folder / "pred" / f"{file.stem}.npy", maps[-1])
    if as_stack:
        np.savez(folder / "depths.npz", depths=np.stack(maps))
    predicted = folder / ("depths.npz" if as_stack else "pred")
    return "evaluate", "--depth", predicted, "--reference", folder / "truth", "--reference-factor", 1000


@thread("kubric 349: codes of a range of 0 to 50", r"codes of a range", r"0\.00075\d* x value \+ 0\.[34]", needs="walk")
def _codes(folder: Path, data: Path) -> Words:
    return write_depth(folder, data, lambda depth: np.rint((depth - 0.4) / (50 - 0.4) * 65535))


@thread("Video-Depth-Anything 65: depths of a metric model in one npz", "abs_rel +0.02", outcome="right", needs="walk")
def _one_npz(folder: Path, data: Path) -> Words:
    return write_depth(folder, data, lambda depth: depth, as_stack=True)


@thread(
    "Depth-Anything 247: another scale for each frame",
    "differs from image to image",
    "--protocol relative",
    needs="walk",
)
def _scale_of_each(folder: Path, data: Path) -> Words:
    factors = iter(np.exp(np.random.default_rng(3).normal(0, 0.35, 8)))
    return write_depth(folder, data, lambda depth: depth * next(factors))


@thread("FoundationPose 385: millimetres as floats", "millimetres", "0.001|1000", needs="walk")
def _millimetre_floats(folder: Path, data: Path) -> Words:
    return write_depth(folder, data, lambda depth: 1000 * depth)


# -- Set 10: threads of 2024 to 2026.


@thread("MatrixCity 22: 65535 for the sky, 100 a metre", r"abs_rel +0\.03", outcome="right", needs="walk")
def _sky(folder: Path, data: Path) -> Words:
    rng = np.random.default_rng(7)
    for name in ("pred", "truth"):
        (folder / name).mkdir()
    for file in sorted((data / "walk/depth").iterdir())[:8]:
        depth = cv2.imread(str(file), cv2.IMREAD_UNCHANGED) / 100
        sky = np.arange(360)[:, None] < 90
        truth = np.where(sky, 65535, np.rint(100 * depth)).astype(np.uint16)
        cv2.imwrite(str(folder / "truth" / file.name), truth)
        predicted = np.where(sky, 120, np.where(depth > 0, depth, 20)) * (1 + 0.04 * rng.normal(size=depth.shape))
        np.save(folder / "pred" / f"{file.stem}.npy", predicted.astype(np.float32))
    return "evaluate", "--depth", folder / "pred", "--reference", folder / "truth", "--reference-factor", 100


@thread("LightwheelOcc 1: 8 bits of 1000 m, 255 where there is none", "8-bit image", outcome="refused", needs="walk")
def _eight_bits(folder: Path, data: Path) -> Words:
    for name in ("pred", "truth"):
        (folder / name).mkdir()
    for file in sorted((data / "walk/depth").iterdir())[:8]:
        depth = cv2.imread(str(file), cv2.IMREAD_UNCHANGED) / 100
        truth = np.where(depth > 0, np.rint(depth * 255 / 1000), 255).astype(np.uint8)
        cv2.imwrite(str(folder / "truth" / file.name), truth)
        np.save(folder / "pred" / f"{file.stem}.npy", np.where(depth > 0, depth, 20).astype(np.float32))
    return "evaluate", "--depth", folder / "pred", "--reference", folder / "truth"


@thread("Depth-Anything-3 73: metric depth, poses without scale_factor", r"3\.6|0\.27", "scale|factor", needs="walk")
def _two_scales(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    frames = range(0, 36, 4)
    T = np.loadtxt(data / "walk/poses.txt").reshape(-1, 4, 4)[frames]
    (folder / "images").mkdir()
    maps = list[Array]()
    for frame in frames:
        shutil.copyfile(data / f"walk/images/{frame:05d}.jpg", folder / f"images/{frame:05d}.jpg")
        maps.append(cv2.imread(str(data / f"walk/depth/{frame:05d}.png"), cv2.IMREAD_UNCHANGED) / 1000)
    extrinsics = np.linalg.inv(T)[:, :3]
    extrinsics[:, :, 3] /= 3.6158
    intrinsics = np.tile(K, (len(frames), 1, 1))
    np.savez(folder / "results.npz", extrinsics=extrinsics, intrinsics=intrinsics, depth=np.stack(maps).astype("f4"))
    return "check", folder / "results.npz", "--images", folder / "images"


@thread("evo 643: ground truth of one pose a second", "--max-difference", "0\\.04|0\\.03")
def _slow_truth(folder: Path, data: Path) -> Words:
    T, times = make_path(600), START_S + np.arange(600) / 10
    write_tum(folder / "gt.csv", T[3::10], times[3::10] + 0.037)
    T[:, :3, 3] += np.random.default_rng(7).normal(0, 0.002, (600, 3))
    write_tum(folder / "est.tum", T, times)
    return score_path(folder, estimate="est.tum", reference="gt.csv")


@thread("evo 740: UTM of a GNSS whose clock differs", "late|early", r"0\.8 s|0\.80")
def _utm_clock(folder: Path, data: Path) -> Words:
    T = make_path()
    positions = 20 * T[:, :3, 3] + (456231.5, 5428765.25, 112.0)
    rows = (f"{t:.3f} {x:.4f} {y:.4f} {z:.4f} 0 0 0 1\n" for t, (x, y, z) in zip(TIMES_S, positions, strict=True))
    (folder / "gnss.txt").write_text("".join(rows))
    T[:, :3, 3] = 20 * T[:, :3, 3] + np.random.default_rng(7).normal(0, 0.02, (150, 3))
    write_tum(folder / "est.txt", T, TIMES_S + 0.8)
    return score_path(folder, reference="gnss.txt")


@thread("LuSNAR-dataset 1: a rover's body and its camera", "two sensors of one rig", r"0\.15[56]")
def _rover(folder: Path, data: Path) -> Words:
    body, mount = make_path(), np.eye(4)
    mount[:3, :3] = Rotation.from_euler("ZX", [90, 90], degrees=True).as_matrix()
    mount[:3, 3] = (1, -0.155, -1.5)
    estimate = body @ mount
    estimate[:, :3, 3] += np.random.default_rng(7).normal(0, 0.002, (150, 3))
    write_tum(folder / "est.txt", estimate)
    write_tum(folder / "gt.txt", body)
    return score_path(folder, reference="gt.txt")


add_calibration(
    "image_undistort 75: omni of Kalibr, with xi", "camchain.yaml",
    "camera_center:\n  camera_model: omni\n"
    "  distortion_coeffs: [-0.05752744139474956, 0.19686400450740277, -0.001746182956769978, 0.0013556967582825739]\n"
    "  distortion_model: radtan\n  intrinsics: [1.7769948506929503, 2190.9268776891236, 2183.373606077044, "
    "1215.7452221822696, 1042.684123840487]\n  resolution: [2448, 2048]\n  rostopic: /camera_center\n",
    "omni", outcome="refused", size=(2448, 2048))  # fmt: skip
add_calibration("IsaacLab 1318: a focal length in other units than the aperture", "camera.json",
                json.dumps({"focal_length": 240.0, "focus_distance": 400.0, "horizontal_aperture": 20.955,
                            "width": 640, "height": 480}),
                "a field of view of 5.0 degrees", outcome="cure")  # fmt: skip


@thread("vipe 45: pose.npz with data and inds", "save the poses as numpy.save", needs="walk")
def _vipe(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    np.savez(folder / "pose.npz", data=T.astype(np.float32), inds=np.arange(12))
    np.savetxt(folder / "K.txt", K, fmt="%.4f")
    return "check", folder / "pose.npz", "--images", folder / "images", "--camera", folder / "K.txt"


@thread(
    "nerfstudio 2719: other names of images than the model's",
    "the same number in their names",
    "no pose",
    outcome="refused",
    needs="walk",
)
def _other_names(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    for order, path in enumerate(sorted((folder / "images").iterdir()), 1):
        path.rename(path.with_name(f"frame_{order:05d}.jpg"))
    world = np.linalg.inv(T)
    words = write_model(folder, world, world[:, :3, 3], (540, 360), pick_numbers(K))
    path = folder / "sparse/images.txt"
    path.write_text(path.read_text().replace(" 1 000", " 1 IMG_20240103_0"))
    return words


@thread(
    "Pi3 60: a focal length that is 20 % short", r"focal length is (1[89]|2[01])", "multiply it by 1\\.2", needs="walk"
)
def _short_focal(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    world, camera = np.linalg.inv(T), pick_numbers(K)
    return write_model(folder, world, world[:, :3, 3], (540, 360), camera * (0.8, 0.8, 1, 1))


@thread("record3d 95: metadata of the app", "is usable", outcome="right", needs="walk")
def _record3d(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    (folder / "rgbd").mkdir()
    for order, frame in enumerate(FRAMES):
        shutil.copyfile(data / f"walk/images/{frame:05d}.jpg", folder / f"rgbd/{order}.jpg")
    turned = turn_to_opengl(T)
    rows = np.hstack([Rotation.from_matrix(turned[:, :3, :3]).as_quat(), turned[:, :3, 3]])
    content = {"w": 540, "h": 360, "fps": 10, "K": K.T.ravel().tolist(), "poses": rows.tolist()}
    (folder / "metadata").write_text(json.dumps(content | {"initPose": [0, 0, 0, 1, 0, 0, 0]}))
    return "check", folder / "metadata", "--images", folder / "rgbd"


@thread("python-example-droid-dataset 9: T_world_camera as world-to-camera", "inverted", "invert each", needs="walk")
def _droid(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    np.savez(folder / "cameras.npz", extrinsics=T[:, :3], intrinsics=np.tile(K, (12, 1, 1)))
    return "check", folder / "cameras.npz", "--images", folder / "images"


@thread("ScanNet 174: poses with -inf", "is usable", "inf", outcome="right", needs="walk")
def _infinite_poses(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    T[4] = -np.inf
    return write_matrices(folder, T, K)


@thread("gaussian-splatting 1090: one image more than poses", "11 (poses|rows)|12 images", needs="walk")
def _one_more(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    write_kitti(folder / "path.txt", T[1:])
    np.savetxt(folder / "K.txt", K, fmt="%.4f")
    return "check", folder / "path.txt", "--images", folder / "images", "--camera", folder / "K.txt"


@thread("potree-sfm 12: pitch and roll exchanged", "pitch", "roll", needs="walk")
def _exchanged_angles(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    world = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    angles = Rotation.from_matrix(world @ T[:, :3, :3] @ OPENGL).as_euler("ZXY", degrees=True)
    places = T[:, :3, 3] @ world.T
    lines = ["#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"]
    for frame, place, (heading, pitch, roll) in zip(FRAMES, places, angles, strict=True):
        numbers = [*place, -heading, roll, pitch, 36 * K[0, 0] / 540, 0, 0, *[0] * 6]
        lines.append(",".join([f"{frame:05d}.jpg", *(f"{value:.6f}" for value in numbers)]))
    (folder / "cameras.csv").write_text("\n".join(lines) + "\n")
    return "check", folder / "cameras.csv", "--images", folder / "images"


@thread("WildAvatar_Toolbox 7: matrices of the other direction", "inverted", "invert each", needs="walk")
def _inverse_matrices(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    return write_matrices(folder, np.linalg.inv(T), K)


@thread("scannetpp 104: poses of some of the frames", "is usable", "12 of 15", outcome="right", needs="walk")
def _some_frames(folder: Path, data: Path) -> Words:
    T, K = read_walk(data)
    write_walk(folder, data)
    for order, path in enumerate(sorted((folder / "images").iterdir())):
        path.rename(path.with_name(f"frame_{order:06d}.jpg"))
    for order in (12, 13, 14):
        shutil.copyfile(data / f"walk/images/{3 * order:05d}.jpg", folder / f"images/frame_{order:06d}.jpg")
    content = {
        f"frame_{order:06d}": {
            "timestamp": 0.1 * order,
            "pose": np.eye(4).tolist(),
            "intrinsic": K.tolist(),
            "aligned_pose": matrix.tolist(),
        }
        for order, matrix in enumerate(T)
    }
    (folder / "pose_intrinsic_imu.json").write_text(json.dumps(content))
    return "check", folder / "pose_intrinsic_imu.json", "--images", folder / "images"


@thread("colmap 2570: geo.txt in UTM", r"one unit is 7\.\d|projected|UTM", outcome="right")
def _utm_file(folder: Path, data: Path) -> Words:
    sparse, names, track = write_survey(folder)
    rows = zip(names, (track + np.array([218248.6, 1925986.4, 179.5])).tolist(), strict=True)
    (folder / "geo.txt").write_text("".join(f"{name}\t{x!r}\t{y!r}\t{z!r}\n" for name, (x, y, z) in rows))
    return "scale", sparse, "--scale-from", f"gps={folder / 'geo.txt'}", "--out", folder / "metres"


@thread("colmap 2647: paths of images with lat, lon and alt", r"one unit is 7\.\d", outcome="right")
def _gps_info(folder: Path, data: Path) -> Words:
    sparse, names, track = write_survey(folder)
    lines = list[str]()
    for name, (east, north, up) in zip(names, track, strict=True):
        lat = 47.335287 + np.degrees(north / 6378137)
        lon = 8.519083 + np.degrees(east / 6378137 / np.cos(np.radians(47.335287)))
        lines.append(f"D:/3DGS/colmap/building_data\\{name} {lat:.9f} {lon:.9f} {480 + up:.3f}")
    (folder / "gps_info.txt").write_text("\n".join(lines) + "\n")
    return "scale", sparse, "--scale-from", f"gps={folder / 'gps_info.txt'}", "--out", folder / "metres"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    parser.add_argument("--set", type=int, help="one of the sets; all by default")
    parser.add_argument("--only", default="", help="part of the name of a thread")
    parser.add_argument("--show", action="store_true", help="print the output of each input that is silent or wrong")
    options = parser.parse_args()
    outcomes = Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"STADIA_CACHE": str(Path(scratch) / "cache"), "COLUMNS": "400"}
        for case in THREADS:
            is_chosen = options.set is None or case.name.startswith(f"{options.set}-")
            if (
                not is_chosen
                or options.only not in case.source
                or (case.needs and not (options.data / case.needs).is_dir())
            ):
                continue
            outcome, output = run_report(case, Path(scratch) / case.name, options.data)
            outcomes[outcome] += 1
            print(f"{case.name} {outcome:7} {case.source}", flush=True)
            if options.show and outcome in ("silent", "wrong"):
                print(f"       {output[:1500]}", flush=True)
    print(json.dumps({name: outcomes[name] for name in ("right", "cure", "refused", "silent", "wrong")}))
    return int(outcomes["silent"] + outcomes["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
