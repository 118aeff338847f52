"""Read the calibration files of OpenCV, Kalibr, ROS, EuRoC, KITTI, COLMAP, nerfstudio, ORB-SLAM, VINS, and Record3D."""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stadia.core.errors import ConfigError, DataError
from stadia.geometry.cameras import check_K, make_K
from stadia.geometry.poses import from_rotation_translation, invert_pose, matrix_from_quaternion_wxyz
from stadia.io.array_files import read_npy, read_npz
from stadia.io.input_files import check_no_archive, name_parser_errors, parse_json, read_json, read_lines, read_text
from stadia.io.number_rows import parse_number, parse_numbers, read_rows
from stadia.io.records.camera_keys import (
    UNDISTORT,
    CalibratedCamera,
    flatten_numbers,
    parse_xml_tree,
    read_cameras_by_keys,
    read_text_camera,
    refuse_panorama,
    walk_mappings,
)
from stadia.io.records.colmap import convert_lens, count_focals
from stadia.io.records.formats import EQUIDISTANT, FIRST_PIXEL, FOV, MODELS, RADTAN, REALESTATE, WRITE_COLMAP_TEXT
from stadia.io.records.json_scenes import parse_transforms_camera
from stadia.io.records.kitti_calibration import KittiCalibration, name_projections
from stadia.io.records.poses import count_numbers
from stadia.io.yaml_files import parse_yaml

Array = NDArray[np.float64]

EXPECTED = (
    "a calibration of OpenCV, Kalibr, ROS, EuRoC, KITTI, COLMAP, nerfstudio, ORB-SLAM, VINS, Metashape, OpenSfM, DSO,"
    " Meshroom, OpenMVG, Record3D, Basalt, OKVIS, SVO, Gyroflow, RealSense, ZED, OAK, Azure Kinect, Cityscapes,"
    " ScanNet, BOP, nuScenes, Argoverse or A2D2, or a matrix K"
)
MAX_BYTES = 1 << 20
MAX_CAMERAS = 64
_LENS_MODEL = re.compile(
    r"\b(?:model_type|camera_model|intrinsic_type|projection_model)\W{1,4}([A-Za-z]\w+)", re.IGNORECASE
)
"""Name of a lens model in a file without fx, fy, cx, cy, such as Scaramuzza's polynomial in files of camodocal."""

_FIELD_OF_VIEW = re.compile(r"(\w*(?:fov|field_of_view)\w*)\W{1,4}(\d{1,3}(?:\.\d+)?)\b", re.IGNORECASE)
MAX_WORDS = 8  # words of an unknown file that an error names
MAX_NUMBERS = 64  # numbers of an array of a camera in an .npz, at most
SENSOR = "sensor"  # name of the camera in a sensor.yaml
_PINHOLE_DISTORTION = ("distortion_coeffs", "distortion_coefficients")  # Kalibr writes the first key, EuRoC the second.
_OPENCV_K = ("camera_matrix", "cameraMatrix", "Camera_Matrix", "intrinsic_matrix", "mtx", "K", "M", "CM")
_OPENCV_DISTORTION = (
    "distortion_coefficients",
    "distCoeffs",
    "Distortion_Coefficients",
    "dist_coeffs",
    "dist_coeff",
    "dist",
    "D",
    "kc",
)
_OPENCV_PROJECTION = ("projection_matrix", "P")
_PINHOLE = ("fx", "fy", "cx", "cy")
_TANGENTIAL, _FISHEYE = ("k1", "k2", "p1", "p2"), ("k1", "k2", "k3", "k4")
_OPENCV_COEFFICIENTS: tuple[str, ...] = (*_TANGENTIAL, "k3")


def read_calibration(path: Path) -> list[CalibratedCamera]:
    """Read the cameras of a calibration file of another program; the format is recognized by the content.

    Projections of rectified images take precedence over the matrix of the raw images (P before K in ROS).

    path: a text, YAML, XML or JSON file of one of the programs that EXPECTED names, or a matrix K (3, 3).

    Raises DataError for an unreadable or unknown file.
    """
    cameras = _read_cameras(path)
    if len(cameras) > MAX_CAMERAS:
        found = f"{len(cameras)} cameras, one for each image"
        fix = "estimate one for all images, such as by colmap feature_extractor --ImageReader.single_camera 1"
        raise DataError(path, found=found, expected=f"at most {MAX_CAMERAS}", fix=fix)
    if not cameras:
        fix = 'write its numbers as JSON: {"width": 1280, "height": 720, "fx": 700, "fy": 700, "cx": 640, "cy": 360}'
        is_archive = path.suffix.lower() == ".npz"
        text = " ".join(read_npz(path)) if is_archive else read_text(path, expected=EXPECTED, max_bytes=MAX_BYTES)
        words = list(dict.fromkeys(re.findall(r"[A-Za-z_]\w+", text)))[:MAX_WORDS]
        found = f"0 cameras: no fx, fy, cx, cy and no K among {', '.join(words)}"
        if model := _LENS_MODEL.search(text):
            found = f"the lens model {model[1]}, which is not read"
            fix = (
                "calibrate it as a pinhole or a fisheye (Kalibr: pinhole-radtan, pinhole-equi), or undistort the images"
            )
        if angle := _FIELD_OF_VIEW.search(text):
            degrees = float(angle[2]) if float(angle[2]) > math.pi else math.degrees(float(angle[2]))
            found = f"0 cameras, but a field of view ({angle[1]})"
            fix = f"pass --fov {degrees:g}, if it is from the left to the right edge of the image"
        raise DataError(path, found=found, expected=EXPECTED, fix=fix)
    return cameras


def _read_cameras(path: Path) -> list[CalibratedCamera]:
    suffix = path.suffix.lower()
    check_no_archive(path)
    if suffix == ".bin":
        raise DataError(path, found="a binary file of COLMAP", expected=EXPECTED, fix=WRITE_COLMAP_TEXT)
    if suffix in (".npy", ".npz"):
        arrays = {"K": read_npy(path)} if suffix == ".npy" else read_npz(path)
        small = {name: values.tolist() for name, values in arrays.items() if values.size <= MAX_NUMBERS}
        return _read_opencv(path, small)
    text = read_text(path, expected=EXPECTED, max_bytes=MAX_BYTES)
    if suffix == ".xml" or text.lstrip().startswith("<"):
        tree = parse_xml_tree(path, text, EXPECTED)
        return _read_opencv(path, _list_xml_numbers(tree)) or read_cameras_by_keys(path, tree)
    printed = (re.search(rf"^{name} *= *\[", text, re.MULTILINE) for name in "DK")
    if suffix != ".toml" and all(printed):  # by ROS's cameracalibrator
        return _read_yaml(path, re.sub(r"^(\w+) *= *\[", r"\1: [", text, flags=re.MULTILINE))
    if suffix in (".yaml", ".yml"):
        return _read_yaml(path, text)
    if suffix == ".toml":  # Anipose and Pose2Sim have a table for each camera
        return read_cameras_by_keys(path, _parse_toml(path, text))
    if suffix == ".jsonl":  # Aria's file has the calibration at each time.
        return _read_keyed_json(path, text.partition("\n")[0]) or []
    is_json = suffix == ".json"
    if is_json and (keyed := _read_keyed_json(path, text)) is not None:
        return keyed
    if sensors := _KAPTURE_LINE.findall(text):
        rows = (f"{number} {values.replace(',', ' ')}" for number, values in enumerate(sensors, 1))
        return list(_read_colmap(path, "\n".join(rows)))
    if "cameraID" in text and (rows_of_frames := _VKITTI_LINE.findall(text)):
        return _read_vkitti(path, rows_of_frames)
    if "camera matrix" in text:
        return _read_opencv(path, _parse_videre(text))
    if _COLMAP_LINE.search(text):
        return list(_read_colmap(path, text))
    if re.search(r"^(P\d|P_rect_\d\d):", text, re.MULTILINE) or name_projections(text):
        return _read_kitti(path, text)
    if not is_json:
        if named := read_text_camera(path, text):
            return named
        if (row := _read_rows(path, text)) is not None:
            return [row]
        if re.match(r"[^#\n]*[A-Za-z]{4}", text.lstrip()):
            return []
    K = read_K(path)
    if K.ndim == 3:
        fix = "in a folder of images, pass it as data.camera.K_file"
        raise DataError(path, found=f"{len(K)} matrices", expected="one camera", fix=fix)
    return [CalibratedCamera("K", K)]


_CAL_LENGTH = 8  # width, height, f, cx, cy, k1, k2, k3: lines of the .cal of Meshroom's CameraCalibration
_ROW_LENGTHS = (4, 8, 9)  # fx fy cx cy, alone or with 4 or 5 distortion coefficients, as in DROID-SLAM


def _read_rows(path: Path, text: str) -> CalibratedCamera | None:
    """Return the camera of a row fx fy cx cy k1 k2 p1 p2 k3, of Meshroom's .cal, or of a 4x4 matrix; else None."""
    lines = [line.partition("#")[0].replace(",", " ").split() for line in text.splitlines()]
    rows = [words for words in lines if words and not words[0].startswith(("[", "http"))]
    if len(rows) == _CAL_LENGTH and all(len(words) == 1 for words in rows):
        width, height, focal, cx, cy, k1, k2, k3 = parse_numbers([words[0] for words in rows])
        if min(width, height) > 1 and all(0.25 < share < 0.75 for share in (cx / width, cy / height)):
            K, size = make_K(path, focal, focal, cx, cy), _check_size(path, (width, height))
            return CalibratedCamera("Meshroom's", K, size, (k1, k2, 0.0, 0.0, k3), model=RADTAN)
    if len(rows) in _ROW_LENGTHS and all(len(words) == 1 for words in rows):  # a number in each line
        rows = [[word for words in rows for word in words]]
    if len(rows) == 1 and len(rows[0]) in _ROW_LENGTHS:
        values = parse_numbers(rows[0])
        if len(values) == len(rows[0]) and values[3] != 0:
            return CalibratedCamera("fx fy cx cy", make_K(path, *values[:4]), distortion=tuple(values[4:].tolist()))
    matrix = [parse_numbers(words) for words in rows]
    shapes = [len(row) for row in matrix]
    if matrix and set(shapes) == {count_numbers(REALESTATE)}:
        x, y = matrix[0][1], matrix[0][2]
        fix = f"write `fx fy cx cy` in pixels to a file: {x:g} WIDTH, {y:g} HEIGHT, WIDTH / 2, HEIGHT / 2"
        raise DataError(path, found="shares of the image, as in RealEstate10K", expected="pixels", fix=fix)
    if shapes == [9, 1]:  # FoundationStereo's, with the baseline in metres below
        return CalibratedCamera("K", check_K(path, matrix[0].reshape(3, 3)))
    if shapes in ([4] * 4, [4] * 3) and matrix[2].tolist() == [0, 0, 1, 0]:
        return CalibratedCamera("K", check_K(path, np.stack(matrix[:3])[:, :3]))
    if shapes == [4] * 5 and matrix[4].tolist() == [0, 0, 0, 1]:  # RobotCar's, with the pose on the car below
        return CalibratedCamera("fx fy cx cy", make_K(path, *matrix[0]))
    if shapes == [3] * 3 and len(rows) < sum(bool(words) for words in lines):
        return CalibratedCamera("K", check_K(path, np.stack(matrix)))
    return None


_COLMAP_LINE = re.compile(r"^\S+ (?:[A-Z_]{3,}) \d+ \d+ [-+.\de]", re.MULTILINE)
"""Camera of COLMAP's cameras.txt, or of an image in lists of hloc."""
_VKITTI_LINE = re.compile(r"^(\d+) (\d+) (\S+) (\S+) (\S+) (\S+)$", re.MULTILINE)
"""Row of Virtual KITTI's intrinsic.txt: frame, camera, fx, fy, cx, cy."""


def _read_vkitti(path: Path, rows: Sequence[Sequence[str]]) -> list[CalibratedCamera]:
    K_of = dict[str, dict[str, Array]]()
    for frame, camera, *words in rows:
        K = make_K(f"{path}, frame {frame}", *(_number(path, "K", {"K": word}) for word in words))
        K_of.setdefault(camera, {})[frame] = K
    return [_vary(CalibratedCamera(f"camera {name}", next(iter(Ks.values()))), Ks) for name, Ks in K_of.items()]


_VIDERE_KEYS = {"width": "image_width", "height": "image_height", "camera matrix": "camera_matrix",
                "distortion": "distortion_coefficients", "projection": "projection_matrix"}  # fmt: skip


def _parse_videre(text: str) -> dict[str, Any]:
    """Return the numbers below each name of an .ini of ROS (Videre), by the names of its YAML."""
    content, name = dict[str, Any](), ""
    for line in (line.strip() for line in text.splitlines()):
        if line in _VIDERE_KEYS:
            name = _VIDERE_KEYS[line]
            content[name] = []
        elif name and line and line[0] not in "#;":
            values = parse_numbers(line.split()).tolist()
            content[name] += values
            name = name if values else ""
    sizes = {key: values[0] for key, values in content.items() if key.startswith("image_") and values}
    return content | sizes


_KAPTURE_LINE = re.compile(r"^[^#\n]*, *camera, *([A-Z_]+, *\d+, *\d+,[-+.\de, ]+)$", re.MULTILINE)
"""Camera of kapture's sensors.txt: ID, NAME, camera, MODEL, WIDTH, HEIGHT, PARAMETERS, with COLMAP's models."""
_LENS_OF_COLMAP = {
    **dict.fromkeys(("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"), RADTAN),
    **dict.fromkeys(("SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE"), EQUIDISTANT),
    "FOV": FOV,
}


def _read_colmap(path: Path, text: str) -> Iterator[CalibratedCamera]:
    """Yield the cameras of COLMAP's cameras.txt: ID MODEL WIDTH HEIGHT PARAMETERS."""
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 5:
            continue
        model, values = words[1], parse_numbers(words[4:])
        if model not in _LENS_OF_COLMAP:
            fix = "undistort the images: colmap image_undistorter writes PINHOLE"
            raise DataError(path, found=f"the model {model[:40]}", expected="a pinhole with radial distortion", fix=fix)
        focals = count_focals(model)
        if len(values) < focals + 2:
            fix = "copy the calibration file again, or add the missing parameters"
            raise DataError(path, found=f"{len(values)} parameters of {model}", expected="all", fix=fix)
        name = f"camera {words[0]}" if words[0].isdecimal() else words[0]
        center = values[focals : focals + 2] - FIRST_PIXEL
        K = make_K(f"{path} {name}", values[0], values[focals - 1], *center)
        size, distortion = _check_size(path, parse_numbers(words[2:4])), tuple(values[focals + 2 :].tolist())
        yield CalibratedCamera(name, K, size, distortion, model=_LENS_OF_COLMAP[model])


def _read_keyed_json(path: Path, text: str) -> list[CalibratedCamera] | None:
    content = parse_json(path, text, EXPECTED)
    sensors = _list_sensors(path, content)
    if sensors is None:
        return _read_json_cameras(path, content)
    cameras = read_cameras_by_keys(path, {name: sensor.values for name, sensor in sensors.items()})
    poses = [pose for camera in cameras if (pose := sensors[camera.name].T_vehicle_camera) is not None]
    if not cameras or len(poses) < len(cameras):
        return cameras
    return [
        replace(camera, T_camera_first=np.asarray(invert_pose(pose) @ poses[0], np.float64))
        for camera, pose in zip(cameras, poses, strict=True)
    ]


def _read_json_cameras(path: Path, content: Any) -> list[CalibratedCamera] | None:
    if isinstance(content, list) and content and isinstance(content[0], Mapping):  # reconstruction.json of OpenSfM
        return read_cameras_by_keys(path, content)
    if not isinstance(content, Mapping):
        return None
    if "perFrameIntrinsicCoeffs" in content or ("K" in content and "poses" in content):
        return [_read_record3d(path, content)]
    if "K" in content:
        is_own = content.get("format") == "stadia-camera" or len(flatten_numbers(content["K"])) != 9
        return None if is_own else _read_opencv(path, content)
    frames = [frame for frame in _list(content.get("frames")) if isinstance(frame, Mapping)]
    if "frames" in content or "fl_x" in content or "camera_angle_x" in content:
        return [_read_transforms_camera(path, content, frames)]
    models = [values for _, values in walk_mappings(content) if values.keys() >= set(_COLMAP_KEYS)]
    rows = [flatten_numbers([values[key] for key in _COLMAP_KEYS]) for values in models]
    if rows:
        return list(_read_colmap(path, "\n".join(" ".join(map(str, [k, *row])) for k, row in enumerate(rows))))
    content = _add_basalt_sizes(content)
    found = read_cameras_by_keys(path, content, has_matrices=False) or _read_yaml_content(path, content)
    if found or not (found := read_cameras_by_keys(path, content)):
        return found
    is_of_images = all(_IMAGE_KEY.fullmatch(str(key)) for key in content)
    return [_vary(found[0], {camera.name: camera.K for camera in found})] if is_of_images else found


NUSCENES_SIZE = {"width": 1600, "height": 900}
"""Size of all images of nuScenes (Caesar et al., CVPR 2020), which calibrated_sensor.json lacks."""

MAX_OFF_CENTER = 0.2
"""Distance of a principal point from the middle, over half the width, of images that have the size of the data set."""

DDAD_SIZE = {"width": 1936, "height": 1216}
"""Size of all images of DDAD (github.com/TRI-ML/DDAD), whose calibration lacks it."""


@dataclass(frozen=True)
class _Sensor:
    """A camera among the sensors of a vehicle.

    values: focal lengths, center and size by their keys.
    T_vehicle_camera: (4, 4) its pose; None if unknown.
    """

    values: Mapping[str, Any]
    T_vehicle_camera: Array | None


def _list_sensors(path: Path, content: Any) -> dict[str, _Sensor] | None:
    """Return the cameras among the sensors of nuScenes and DDAD by name; None for other content.

    A LiDAR has no focal length.
    """
    if isinstance(content, list):
        return _list_nuscenes_sensors(path, content) or None
    if not isinstance(content, Mapping):
        return None
    names, values = _list(content.get("names")), _list(content.get("intrinsics"))
    if not names or len(names) != len(values) or not all(isinstance(one, Mapping) for one in values):
        return None
    size = DDAD_SIZE if all("skew" in one for one in values) else {}
    placed = _list(content.get("extrinsics"))
    poses = placed if len(placed) == len(names) else [None] * len(names)
    return {
        str(name): _Sensor({**size, **one}, _read_sensor_pose(path, str(name), pose))
        for name, one, pose in zip(names, values, poses, strict=True)
        if one.get("fx")
    }


def _list_nuscenes_sensors(path: Path, content: Sequence[Any]) -> dict[str, _Sensor]:
    """Return the cameras of calibrated_sensor.json by the channel that sensor.json next to it has, such as CAM_FRONT.

    If a channel was calibrated several times, in several logs, cameras have the names of their tokens, and no poses.
    """
    sensors, channels = dict[str, _Sensor](), dict[str, str]()
    table = path.with_name("sensor.json")
    rows = _list(read_json(table, expected="sensors of nuScenes")) if table.is_file() and table != path else []
    names = {str(row.get("token")): str(row.get("channel")) for row in rows if isinstance(row, Mapping)}
    for sensor in content:
        K = flatten_numbers(sensor.get("camera_intrinsic", ())) if isinstance(sensor, Mapping) else []
        if len(K) == 9:
            fx, _, cx, _, fy, cy = K[:6]
            size = NUSCENES_SIZE if abs(2 * cx / NUSCENES_SIZE["width"] - 1) < MAX_OFF_CENTER else {}
            token = str(sensor.get("token"))
            pose = _read_sensor_pose(path, token, sensor)
            sensors[token] = _Sensor({"fx": fx, "fy": fy, "cx": cx, "cy": cy, **size}, pose)
            channels[token] = names.get(str(sensor.get("sensor_token")), token)
    if len(set(channels.values())) < len(channels):
        return {token: replace(sensor, T_vehicle_camera=None) for token, sensor in sensors.items()}
    return {channels[token]: sensor for token, sensor in sensors.items()}


def _read_sensor_pose(path: Path, name: str, pose: Any) -> Array | None:
    """Return the pose (4, 4) of a sensor: a quaternion w, x, y, z, and a translation, as lists or by key; else None."""
    if not isinstance(pose, Mapping) or not {"rotation", "translation"} <= pose.keys():
        return None
    numbers = [
        _numbers(
            path, f"{key} of {name}", [part[one] for one in keys] if isinstance(part, Mapping) else part, len(keys)
        )
        for key, keys in (("rotation", ("qw", "qx", "qy", "qz")), ("translation", ("x", "y", "z")))
        if not isinstance(part := pose[key], Mapping) or set(keys) <= part.keys()
    ]
    return make_rigid(path, *numbers) if len(numbers) == 2 else None


MAX_QUATERNION_ERROR = 0.01
"""Largest difference of the length of a quaternion from 1."""


def make_rigid(what: object, quaternion_wxyz: ArrayLike, translation_m: ArrayLike) -> Array:
    """Return the rigid motion (4, 4) with a rotation given by a quaternion, and a translation in metres.

    what: what the motion belongs to, for messages.
    quaternion_wxyz: (4,) unit quaternion w, x, y, z.
    translation_m: (3,) translation.

    Raises DataError if the quaternion's length differs from 1 by more than MAX_QUATERNION_ERROR.

    Examples:
        >>> make_rigid("pose", (1, 0, 0, 0), (0, 0, 2))[2].tolist()
        [0.0, 0.0, 1.0, 2.0]
    """
    quaternion = np.asarray(quaternion_wxyz, np.float64)
    norm = float(np.linalg.norm(quaternion))
    if not abs(norm - 1) <= MAX_QUATERNION_ERROR:
        found = f"a quaternion of length {norm:.3g}"
        raise DataError(what, found=found, expected="a unit quaternion w x y z", fix="copy the official file")
    R = matrix_from_quaternion_wxyz(quaternion)
    return np.asarray(from_rotation_translation(R, np.asarray(translation_m, np.float64)), np.float64)


_COLMAP_KEYS = ("model", "width", "height", "params")  # of a camera in JSON, as EPIC-Fields and pycolmap have it
_IMAGE_KEY = re.compile(r"\d+|.*\d{4,}(?:\.\w+)?")
"""Key of an image in a file with a camera for each image, such as BOP's scene_camera.json."""


def _list(values: Any) -> list[Any]:
    return values if isinstance(values, list) else []


def _add_basalt_sizes(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return Basalt's calibration with the size and the model of each camera next to its numbers."""
    inner = content.get("value0")
    if not isinstance(inner, Mapping) or "intrinsics" not in inner:
        return content
    cameras, sizes = _list(inner["intrinsics"]), _list(inner.get("resolution"))
    named = dict[str, Any]()
    for index, camera in enumerate(camera for camera in cameras if isinstance(camera, Mapping)):
        size = sizes[index] if index < len(sizes) and len(_list(sizes[index])) == 2 else (None, None)
        values = {**camera.get("intrinsics", {}), "camera_type": camera.get("camera_type", "")}
        named[f"cam{index}"] = values | ({} if size[0] is None else {"width": size[0], "height": size[1]})
    return named


def _read_record3d(path: Path, content: Mapping[str, Any]) -> CalibratedCamera:
    """Return the camera of Record3D's metadata: K column by column, and fx, fy, cx, cy of each frame."""
    K = np.array(_numbers(path, "K", content.get("K"), 9)).reshape(3, 3).T
    size = _check_size(path, [content.get("w"), content.get("h")])
    if np.array_equal(K[2], (0, 0, 1)) is False:
        K = K.T
    rows = [_numbers(path, "perFrameIntrinsicCoeffs", row, 4) for row in _list(content.get("perFrameIntrinsicCoeffs"))]
    of_frames = {str(index): make_K(path, *row) for index, row in enumerate(rows)}
    notes = ("note: used K of Record3D, which is column by column",)
    return _vary(CalibratedCamera("K", check_K(path, K), size, notes=notes), of_frames)


def _vary(camera: CalibratedCamera, K_of_frames: Mapping[str, Array]) -> CalibratedCamera:
    """Return the camera with a K for each frame, if they differ."""
    if not K_of_frames:
        return camera
    stacked = np.stack(list(K_of_frames.values()))
    if np.allclose(stacked, stacked[0], rtol=1e-9):
        return replace(camera, K=stacked[0])
    fx = stacked[:, 0, 0]
    note = f"note: used the K of each frame: fx from {fx.min():.1f} to {fx.max():.1f} px"
    return replace(camera, K=stacked[0], K_of_frames=K_of_frames, notes=(*camera.notes, note))


_SHARED_ONLY = ("camera_model", "k1", "k2", "k3", "k4", "p1", "p2", "is_fisheye", "w", "h")


def _read_transforms_camera(
    path: Path, content: Mapping[str, Any], frames: Sequence[Mapping[str, Any]]
) -> CalibratedCamera:
    """Return the camera of a transforms.json, whose frames may have a K of their own."""
    own = {Path(str(frame.get("file_path", index))).stem: {**content, **frame} for index, frame in enumerate(frames)
           if "fl_x" in frame or "camera_angle_x" in frame}  # fmt: skip
    if own and len(own) < len(frames) and "fl_x" not in content and "camera_angle_x" not in content:
        found = f"intrinsics in {len(own)} of {len(frames)} frames"
        raise DataError(path, found=found, expected="fl_x in all frames", fix="add fl_x to the other frames")
    camera = _read_shared_camera(path, next(iter(own.values())) if own else content)
    if not own:
        return camera
    for key in _SHARED_ONLY:
        if len({str(values.get(key)) for values in own.values()}) > 1:
            fix = "put the frames of each camera into a folder of their own"
            raise DataError(path, found=f"frames with different {key}", expected="one lens and size", fix=fix)
    of_frames = {stem: _read_shared_camera(path, values).K for stem, values in own.items()}
    if len(own) < len(frames):
        shared = _read_shared_camera(path, content).K
        stems = [Path(str(frame.get("file_path", index))).stem for index, frame in enumerate(frames)]
        of_frames = {stem: of_frames.get(stem, shared) for stem in stems}
    return _vary(camera, of_frames)


def _read_shared_camera(path: Path, values: Mapping[str, Any]) -> CalibratedCamera:
    refuse_panorama(f"{path} camera_model", str(values.get("camera_model", "")))
    frames = (values, *(frame for frame in _list(values.get("frames"))[:1] if isinstance(frame, Mapping)))
    image = next((frame["file_path"] for frame in frames if "file_path" in frame), "")  # the scenes of NeRF lack a size
    camera = parse_transforms_camera(str(path), {**values, "file_path": image}, path.parent)
    if camera.center is None:
        expected = "fl_x, or camera_angle_x with w and h or with the images at their file_path"
        fix = "add fl_x in pixels, or w and h of the images"
        raise DataError(path, found="no fl_x", expected=expected, fix=fix)
    K = make_K(path, *camera.focals, *(value - FIRST_PIXEL for value in camera.center))
    notes = tuple[str, ...]()
    if not camera.is_fisheye and abs(_number(path, "k4", {"k4": 0, **values})) > 0:
        notes = ("note: k4 of nerfstudio (of the 8th power) has no place in the model and is not used",)
    size = camera.size[::-1] if all(camera.size) else None
    model = RADTAN if camera.model == "PINHOLE" else camera.model
    return CalibratedCamera("transforms", K, size, tuple(camera.lens), model=model, notes=notes)


def _number(path: Path, key: str, values: Mapping[str, Any]) -> float:
    return float(_numbers(path, key, values.get(key), 1)[0])


def _read_coefficients(path: Path, values: Mapping[str, Any], keys: Sequence[str]) -> tuple[float, ...]:
    given = [key for number, key in enumerate(keys) if number < 4 or key in values]
    return tuple(_number(path, key, {key: 0, **values}) for key in given)


def _read_dotted(path: Path, content: Mapping[str, Any]) -> list[CalibratedCamera]:
    cameras = []
    for name in ("Camera", "Camera1", "Camera2"):
        if f"{name}.fx" not in content:
            continue
        K = make_K(f"{path} {name}", *(_number(path, f"{name}.{key}", content) for key in _PINHOLE))
        size = _check_size(path, [content.get("Camera.width"), content.get("Camera.height")])
        keys, model = _OPENCV_COEFFICIENTS, RADTAN
        if content.get("Camera.type") == "KannalaBrandt8":
            keys, model = _FISHEYE, EQUIDISTANT
        distortion = _read_coefficients(path, content, [f"{name}.{key}" for key in keys])
        cameras.append(CalibratedCamera(name, K, size, distortion, model=model))
    return cameras


def _read_kitti(path: Path, text: str) -> list[CalibratedCamera]:
    calibration = KittiCalibration(path)
    cameras = []
    for name in re.findall(r"^(P\d|P_rect_\d\d):", text, re.MULTILINE) or name_projections(text):
        K, T = calibration.projection(name)
        size_name = name.replace("P_rect", "S_rect")
        row = re.search(rf"^{size_name}: *(\S+) +(\S+) *$", text, re.MULTILINE) if size_name != name else None
        numbers = parse_numbers(row.groups()) if row else ()
        cameras.append(CalibratedCamera(name, K, _check_size(path, numbers), T_camera_first=T))
    return cameras


def _parse_toml(path: Path, text: str) -> dict[str, Any]:
    with name_parser_errors(path, expected=EXPECTED):
        return tomllib.loads(text)


def _check_size(path: Path, width_height: Sequence[Any] | Array) -> tuple[int, int] | None:
    """Return (height, width); None without both."""
    if len(width_height) != 2 or any(side is None for side in width_height):
        return None
    width, height = width_height
    if any(not isinstance(side, int | float | np.floating) or not 1 <= side <= 1 << 16 for side in (width, height)):
        found = f"a size of {str(width)[:20]}x{str(height)[:20]}"
        raise DataError(path, found=found, expected="width and height in pixels")
    return int(height), int(width)


def _read_yaml(path: Path, text: str) -> list[CalibratedCamera]:
    text = re.sub(r"^%YAML.*$", "", text, flags=re.MULTILINE).replace("!!opencv-matrix", "")
    parts = re.split(r"^(?:---|\.\.\.)\s*$", text, flags=re.MULTILINE)
    first, *others = [part for part in parts if part.strip()] or [""]
    content = parse_yaml(path, first, EXPECTED)
    if not isinstance(content, Mapping):
        raise DataError(
            path, found=type(content).__name__, expected=EXPECTED, fix="pass a calibration file with these entries"
        )
    cameras = _read_yaml_content(path, content) or read_cameras_by_keys(path, content)
    if not others:
        return cameras
    note = f"note: used the first of {len(others) + 1} messages in {path.name}"
    return [replace(camera, notes=(*camera.notes, note)) for camera in cameras]


def _read_yaml_content(path: Path, content: Mapping[str, Any]) -> list[CalibratedCamera]:
    if dotted := _read_dotted(path, content):
        return dotted
    chain = {name: entry for name, entry in content.items() if re.fullmatch(r"cam\d+", str(name))}
    if chain:
        return list(_read_kalibr(path, chain))
    named = {name: entry for name, entry in content.items() if _is_pinhole(entry)}
    if named:
        return [_read_pinhole(path, str(name), entry) for name, entry in named.items()]
    if "camera_model" in content and "intrinsics" in content:
        return [_read_pinhole(path, SENSOR, content)]
    inside = {str(name): entry for name, entry in content.items() if isinstance(entry, Mapping)}
    return _read_opencv(path, content) or [  # else one camera_info per name
        replace(camera, name=f"{name}.{camera.name}") for name in inside for camera in _read_opencv(path, inside[name])
    ]


def _is_pinhole(entry: Any) -> bool:
    return isinstance(entry, Mapping) and {"camera_model", "intrinsics", "resolution"} <= entry.keys()


def _read_kalibr(path: Path, chain: Mapping[str, Any]) -> Iterator[CalibratedCamera]:
    T_first: Array | None = np.eye(4)
    T_imu_first = _read_imu_motion(path, next(iter(chain.values())))
    for index, (name, entry) in enumerate(chain.items()):
        values = entry if isinstance(entry, Mapping) else {}
        camera = _read_pinhole(path, str(name), values)
        if index and T_first is not None and "T_cn_cnm1" in values:
            T_first = _numbers(path, f"{name}.T_cn_cnm1", values["T_cn_cnm1"], 16).reshape(4, 4) @ T_first
        elif index:
            T_imu_camera = _read_imu_motion(path, values)
            if T_imu_camera is None or T_imu_first is None:
                T_first = None
            else:
                T_first = np.asarray(invert_pose(T_imu_camera) @ T_imu_first)
        yield replace(camera, T_camera_first=T_first)


def _read_imu_motion(path: Path, values: Any) -> Array | None:
    """Return the camera's pose on the IMU, which Kalibr writes as T_cam_imu, its inverse; None without it."""
    for key in ("T_imu_cam", "T_cam_imu"):
        if isinstance(values, Mapping) and key in values:
            T = _numbers(path, key, values[key], 16).reshape(4, 4)
            return np.asarray(T if key == "T_imu_cam" else invert_pose(T))
    return None


def _read_pinhole(path: Path, name: str, values: Mapping[str, Any]) -> CalibratedCamera:
    model = values.get("camera_model")
    if model != "pinhole":
        found = f"{name} with the model {str(model)[:40]!r}"
        raise DataError(path, found=found, expected="camera_model: pinhole", fix=UNDISTORT)
    K = make_K(f"{path} {name}", *_numbers(path, f"{name}.intrinsics", values.get("intrinsics"), 4))
    size = _check_size(path, _numbers(path, f"{name}.resolution", values.get("resolution"), 2))
    key = next((key for key in _PINHOLE_DISTORTION if key in values), "")
    given = _flatten(values.get(key, ()))
    distortion = tuple(_numbers(path, f"{name}.{key}", given, len(given)).tolist())
    model = str(values.get("distortion_model", RADTAN))
    return CalibratedCamera(name, K, size, distortion, model=model)


def _numbers(path: Path, key: str, values: Any, count: int) -> Array:
    numbers = parse_numbers([str(value) for value in _flatten(values)])
    if len(numbers) != count:
        raise DataError(path, found=f"{len(numbers)} numbers in {key}", expected=f"{count} finite numbers")
    return numbers


def _flatten(values: Any) -> list[Any]:
    """Return the numbers of a matrix or of coefficients as a list: nested lists, or a mapping with known keys."""
    if isinstance(values, Mapping):
        if {"fx", "fy", "cx", "cy"} <= values.keys():
            return [values["fx"], 0, values["cx"], 0, values["fy"], values["cy"], 0, 0, 1]
        values = values.get("data", [values[key] for key in _OPENCV_COEFFICIENTS if key in values])
    return flatten_numbers(values)


def _read_opencv(path: Path, content: Mapping[str, Any]) -> list[CalibratedCamera]:
    size = _find_size(path, content)
    cameras = []
    for suffix in ("", "1", "2", "_left", "_right"):
        K_key = _find(content, _OPENCV_K, suffix)
        P_key = _find(content, _OPENCV_PROJECTION, suffix)
        if K_key is None and P_key is None:
            continue
        distortion = _read_distortion(path, content, suffix)
        raw, notes = None, tuple[str, ...]()
        P = np.zeros((3, 4)) if P_key is None else _numbers(path, P_key, content[P_key], 12).reshape(3, 4)
        K = None if K_key is None else _numbers(path, K_key, content[K_key], 9).reshape(3, 3)
        if K is not None and not K.any() and P.any():  # ROS drivers write zeros without a calibration
            K, notes = None, (f"note: {K_key} is all zeros, so it is not used",)
        if K is not None:
            if K_key == "intrinsic_matrix" and np.array_equal(K[:, 2], (0, 0, 1)):
                K = K.T  # Open3D stores columns
            K = check_K(f"{path} {K_key}", K)
            raw = CalibratedCamera(str(K_key), K, size, distortion, model=_find_opencv_model(content))
        if P_key is not None and P.any():
            K, T = check_K(f"{path} {P_key}", P[:, :3].copy()), np.eye(4)
            T[:3, 3] = np.linalg.solve(K, P[:, 3])
            is_same = raw is not None and not raw.is_distorted and np.allclose(raw.K, K, rtol=1e-6)
            lens = ("", ()) if is_same else ("" if raw is None else raw.name, distortion)
            cameras.append(CalibratedCamera(P_key, K, size, (), T, *lens, notes=notes))
        cameras += [] if raw is None else [raw]
    return [_apply_region(path, camera, content) for camera in cameras]


def _apply_region(path: Path, camera: CalibratedCamera, content: Mapping[str, Any]) -> CalibratedCamera:
    """Return the camera of published images: ROS crops the sensor's `roi`, then bins it (sensor_msgs/CameraInfo)."""
    region = content.get("roi")
    region = region if isinstance(region, Mapping) else {}
    x, y, width, height = (_whole(region.get(key)) for key in ("x_offset", "y_offset", "width", "height"))
    bins = np.array([max(_whole(content.get(key)), 1) for key in ("binning_x", "binning_y")])
    if camera.size is None or (not (width and height) and (bins == 1).all()):
        return camera
    sensor = (width or camera.size[1], height or camera.size[0])
    size = (int(sensor[1] // bins[1]), int(sensor[0] // bins[0]))
    if min(size) < 1:
        raise DataError(path, found=f"a region of {sensor} with a binning of {bins}", expected="an image")
    K = camera.K.copy()
    K[:2, 2] -= (x, y)
    K[:2] /= bins[:, None]
    K[:2, 2] += (1 / bins - 1) / 2  # centers of pixels
    middle = (np.array(size[::-1]) - 1) / 2
    parts = [f"a region of {sensor[0]}x{sensor[1]} at ({x}, {y})"] if width and height else []
    parts += [f"a binning of {bins[0]}x{bins[1]}"] if (bins > 1).any() else []
    note = f"note: used {' and '.join(parts)} of {path.name}: the images are {size[1]}x{size[0]}"
    if np.linalg.norm(camera.K[:2, 2] - middle) < np.linalg.norm(K[:2, 2] - middle):
        K = camera.K
        note += f". {camera.name} is of these images already, because its principal point is near their middle"
        return replace(camera, size=size, notes=(*camera.notes, note))
    return replace(camera, K=K, size=size, other_sizes={camera.size: camera.K}, notes=(*camera.notes, note))


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value <= 1 << 16 else 0


def _find_opencv_model(content: Mapping[str, Any]) -> str:
    is_fisheye = content.get("fisheye_model") in (1, 1.0, [1.0], True)
    return str(content.get("distortion_model", EQUIDISTANT if is_fisheye else RADTAN))


def _read_distortion(path: Path, content: Mapping[str, Any], suffix: str) -> tuple[float, ...]:
    key = _find(content, _OPENCV_DISTORTION, suffix)
    values = [] if key is None else _flatten(content[key])
    if key is None and not suffix and not content.keys().isdisjoint(_OPENCV_COEFFICIENTS):
        values = [content.get(name, 0) for name in _OPENCV_COEFFICIENTS]
    return tuple(_numbers(path, "distortion", values, len(values)).tolist())


def _find(content: Mapping[str, Any], names: Sequence[str], suffix: str) -> str | None:
    exact = {f"{name}{suffix}" for name in names}
    wanted = {name.lower() for name in exact if not suffix or len(name) > 2}
    return next((key for key in content if key in exact or str(key).lower() in wanted), None)


def _find_size(path: Path, content: Mapping[str, Any]) -> tuple[int, int] | None:
    lower = {str(key).lower(): value for key, value in content.items()}
    for width, height in (("image_width", "image_height"), ("width", "height")):
        if width in lower and height in lower:
            return _check_size(path, [lower[width], lower[height]])
    for name in ("imagesize", "image_size", "img_size", "size"):
        if isinstance(lower.get(name), Mapping):
            return _find_size(path, lower[name])
        if name in lower:
            return _check_size(path, [float(side) for side in _numbers(path, name, lower[name], 2)])
    return None


def _list_xml_numbers(tree: Any) -> dict[str, Any]:
    """Return the numbers of the matrices and values in XML that OpenCV wrote, by name."""
    content, entries = dict[str, Any](), tree if isinstance(tree, Mapping) else {}
    for name, entry in entries.items():
        text = entry.get("data") if isinstance(entry, Mapping) else entry
        numbers = parse_numbers(text.split()).tolist() if isinstance(text, str) else []
        if numbers:
            content[name] = numbers if len(numbers) > 1 or isinstance(entry, Mapping) else numbers[0]
    return content


def read_K(path: Path, frames: int | None = None) -> NDArray[np.float64]:
    """Read intrinsics from a text or JSON file: K (3, 3), or one per frame (N, 3, 3).

    path: text with 3x3 numbers, or a line with 9 numbers or with fx, fy, cx, cy for each frame; or JSON with a matrix,
        alone or under the key "K".
    frames: expected number of matrices if there are several; None does not check it.

    Raises DataError for a damaged file, impossible intrinsics or a wrong number of matrices.
    """
    if path.suffix.lower() == ".json":
        stored = read_json(path)
        if isinstance(stored, dict) and "K" not in stored:
            found = f"keys {', '.join(map(repr, list(stored)[:4]))}" if stored else "no key"
            fix = "rename it to K, or convert another program's file: stadia camera INPUT --calibration FILE"
            raise DataError(path, found=found, expected="a key 'K', or only the matrix", fix=fix)
        values = stored["K"] if isinstance(stored, dict) else stored
        try:
            K = np.array(values, dtype=np.float64)
        except (TypeError, ValueError):
            K = np.empty(0)
    else:
        expected = "K, 3x3, or 9 numbers or fx fy cx cy per frame"
        lines = [line for line in read_lines(path, expected=expected) if line.lstrip()[0] != "#"]
        columns = len(lines[0].replace(",", " ").split()) if lines else 3
        is_list = columns == 4 and len(lines) > 4  # of VGGT-Long; 3 and 4 rows of 4 are a projection or a pose
        K = read_rows(path, 4 if is_list else columns if columns in (3, 9) else 3, expected)
        if is_list:
            K = np.stack([make_K(f"{path}, frame {index}", *row) for index, row in enumerate(K.tolist())])
        K = K.reshape(-1, 3, 3) if columns == 9 else K
    if K.ndim != 3:
        return check_K(path, K)
    if len(K) == 1:
        return check_K(path, K[0])
    if frames is not None and len(K) != frames:
        raise DataError(path, found=f"{len(K)} matrices", expected=f"one matrix, or {frames} (one per frame)")
    return np.stack([check_K(f"{path}, frame {index}", matrix) for index, matrix in enumerate(K)])


# -- a camera that a user gives

GIVEN_KEYS = ("fx", "fy", "cx", "cy", "width", "height", "k1", "k2", "p1", "p2")


def read_given_camera(given: str, size: tuple[int, int] = (0, 0)) -> tuple[Array, Array, tuple[int, int]]:
    """Read a camera from a file, or from numbers such as fx=700,fy=700,cx=640,cy=360,width=1280,height=720,k1=0.1.

    Without fy, it is fx; without cx and cy, they are the middle of the image. Other lenses than OpenCV's four
    coefficients are fitted by them.

    given: path of a calibration file that `read_calibration` reads, a file of `stadia camera`, or the numbers.
    size: width and height that hold if `given` has none; (0, 0) if they are unknown.

    Returns K (3, 3), or (N, 3, 3) if a file has that of each image, the coefficients k1, k2, p1, p2 (4,), and (width,
    height), which is (0, 0) if unknown: what `stadia.io.records.reconstruction.Reconstruction.with_camera` takes.

    Raises ConfigError for wrong numbers, DataError for a wrong file.

    Examples:
        >>> read_given_camera("fx=700,cx=640,cy=360")[0].tolist()
        [[700.0, 0.0, 640.0], [0.0, 700.0, 360.0], [0.0, 0.0, 1.0]]
    """
    path = Path(given)
    if "=" in given and not path.is_file():
        values = _parse_given(given, size)
        K = np.array([[values["fx"], 0, values["cx"]], [0, values["fy"], values["cy"]], [0, 0, 1]])
        lens = np.array([values.get(key, 0.0) for key in ("k1", "k2", "p1", "p2")])
        return K, lens, (int(values["width"]), int(values["height"]))
    if path.suffix.lower() == ".txt" and _has_K_of_images(path):
        return read_K(path), np.zeros(4), size
    camera = read_calibration(path)[0]
    size = (camera.size[1], camera.size[0]) if camera.size is not None else size
    found = camera.find_distortion(path)
    stored = read_json(path) if path.suffix.lower() == ".json" else None
    if isinstance(stored, dict) and stored.get("format") == "stadia-camera":
        size = int(stored["width"]), int(stored["height"])
        lens_keys = stored.get("distortion") or {"model": RADTAN, "coefficients": ()}
        found = MODELS.get(str(lens_keys["model"]).lower(), RADTAN), tuple(map(float, lens_keys["coefficients"]))
    model, coefficients = found if found is not None else (RADTAN, ())
    K, lens = convert_lens(path, camera.K, model, coefficients, size)
    return K, lens, size


def _has_K_of_images(path: Path) -> bool:
    """Return whether a text file has a row of 4 or 9 numbers for each of many images."""
    lines = [line.split() for line in read_lines(path, expected="a camera") if not line.lstrip().startswith("#")]
    return len(lines) > 4 and {len(line) for line in lines} in ({4}, {9})


def _parse_given(given: str, size: tuple[int, int]) -> Mapping[str, float]:
    fix = "pass fx=700,fy=700,cx=640,cy=360, and width, height, k1, k2, p1, p2 if they are known"
    values = dict[str, float](width=size[0], height=size[1])
    for part in given.replace(" ", ",").split(","):
        key, _, text = part.partition("=")
        try:
            number = parse_number(text) if key else math.nan
        except ValueError:
            number = math.nan
        if part and (key not in GIVEN_KEYS or not math.isfinite(number)):
            raise ConfigError(given, found=part, expected=f"{', '.join(GIVEN_KEYS)} = a number", fix=fix)
        values |= {key: number} if part else {}
    values.setdefault("fy", values.get("fx", math.nan))
    for center, side in (("cx", "width"), ("cy", "height")):
        if values[side]:
            values.setdefault(center, (values[side] - 1) / 2)
    missing = [key for key in ("fx", "cx", "cy") if key not in values]
    if missing or min(values["fx"], values["fy"]) <= 0:
        found = f"no {' and '.join(missing)}" if missing else "a focal length that is not positive"
        raise ConfigError(given, found=found, expected="fx, cx and cy in pixels", fix=fix)
    return values
