"""Make 20 inputs after public threads, run each once, and count what stadia reports.

    python benchmarks/thread_inputs.py [--data FOLDER_OF_REAL_SAMPLES] [--only TEXT] [--show]

The threads were chosen, and the inputs were made and judged, before anything was changed for them. The inputs are
drawn, or made of a walk (STADIA_REAL_DATA, or ../shared/data); where a thread prints numbers, the files have them. The
outcomes are those of public_reports.py. The exit status is 1 for any silent or wrong one.
"""

# mypy: disable-error-code="arg-type, attr-defined, operator, union-attr"

from __future__ import annotations

import argparse
import json
import os
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
    TIMES_S,
    Report,
    Words,
    make_estimate,
    make_path,
    run_report,
    score_path,
    show_saved_camera,
    write_images,
    write_tum,
)
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]
Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

THREADS: list[Report] = []
FRAMES = range(0, 36, 3)
"""Frames of the walk; 540x360."""


def thread(
    source: str, *expected: str, outcome: str = "cure", damaging: str = "", needs: str = "", saved: bool = False
) -> Callable[[Callable[[Path, Path], Words]], None]:
    """Add the decorated function as the input after a thread; `saved` adds the written camera to the output."""

    def add(make: Callable[[Path, Path], Words]) -> None:
        name, after = f"{len(THREADS) + 1:02d}", show_saved_camera if saved else None
        THREADS.append(Report(name, source, make, expected, outcome, damaging, needs, after))

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    parser.add_argument("--only", default="", help="part of the name of a thread")
    parser.add_argument("--show", action="store_true", help="print the output of each input that is silent or wrong")
    options = parser.parse_args()
    outcomes = Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"STADIA_CACHE": str(Path(scratch) / "cache"), "COLUMNS": "400"}
        for case in THREADS:
            if options.only not in case.source or (case.needs and not (options.data / case.needs).is_dir()):
                continue
            outcome, output = run_report(case, Path(scratch) / case.name, options.data)
            outcomes[outcome] += 1
            print(f"{case.name} {outcome:7} {case.source}", flush=True)
            if options.show and outcome in ("silent", "wrong"):
                print(f"       {output[:1500]}", flush=True)
    print(json.dumps({name: outcomes[name] for name in ("right", "cure", "silent", "wrong")}))
    return int(outcomes["silent"] + outcomes["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
