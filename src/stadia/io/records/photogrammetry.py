"""Read the poses and cameras of photogrammetry programs, with the names of the images.

A program is one function that lists the images of a parsed file, and one line in PROGRAMS. The numbers of its poses are
described by `stadia.io.records.formats.Format`, and those of its cameras by `CameraFormat`.
"""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.geometry.lens import Lens
from stadia.io.input_files import (
    name_parser_errors,
    natural_sort_key,
    open_input,
    parse_csv,
    read_json,
    read_lines,
    read_text,
)
from stadia.io.number_rows import parse_numbers
from stadia.io.records import formats
from stadia.io.records.camera_keys import convert_xml, flatten_numbers, parse_xml, read_camera_by_keys, walk_mappings
from stadia.io.records.colmap import split_lens
from stadia.io.records.formats import Format
from stadia.io.records.poses import MAX_POSES, count_numbers, make_poses
from stadia.io.records.reconstruction import Reconstruction, make_lenses, make_reconstruction

Array = NDArray[np.float64]

MAX_BYTES = 512 << 20
EXPECTED = (
    "a result of OpenSfM, 3D Gaussian Splatting, OpenMVG, OpenMVS, Meshroom, Bundler, VisualSFM, Metashape, Pix4D or"
    " RealityCapture, exported with its cameras"
)
JSON, BINARY = (".json", ".sfm", ".geojson"), (".mvs",)
XMP = "folder of .xmp"
_REALITY_CAPTURE = re.compile(r"(?:#cameras [0-9]+\s+)?#name,x,y,(?:alt|z),heading,pitch,roll\b", re.IGNORECASE)
_OMEGA_PHI_KAPPA = re.compile(
    r"(?:#.*\n)*?#? ?\w+[ ,\t]+X\w*[ ,\t]+Y\w*[ ,\t]+Z\w*[ ,\t]+Omega[ ,\t]+Phi[ ,\t]+Kappa\b", re.IGNORECASE
)
_CHECK = "export the file again"


@dataclass(frozen=True)
class Shot:
    """An image with its pose and camera, as a program writes them.

    name: name of the image.
    pose: the numbers of the pose in the order of the columns of the program's format, or texts of them; empty for an
        image without a pose.
    camera: key of the image's camera; None without a camera.
    """

    name: str
    pose: Sequence[Any]
    camera: object = None


@dataclass(frozen=True)
class Listing:
    """The content of a program's file.

    format: what the numbers of its poses mean.
    shots: its images.
    cameras: the keys of each camera and their values, as an entry of CAMERA_FORMATS names them.
    notes: sentences for the user about what is left out.
    needs_sizes: whether cameras need the size of their images, which the program does not write.
    """

    format: Format
    shots: Sequence[Shot]
    cameras: Mapping[object, Mapping[str, Any]]
    notes: tuple[str, ...] = ()
    needs_sizes: bool = False


@dataclass(frozen=True)
class Program:
    """How the files of a program are recognized and read.

    suffixes: suffixes of its files; XMP for a folder of XMP files.
    fits: function from the content of a file to whether the program wrote it: parsed JSON, or the start of a text or of
        bytes.
    lists: function from the file and its content to its images and cameras.
    """

    suffixes: tuple[str, ...]
    fits: Callable[[Any], bool]
    lists: Callable[[Path, Any], Listing]


# -- one function for each program


def _list_opensfm(path: Path, content: Any) -> Listing:
    """List the images of reconstruction.json, which may have several reconstructions; the largest one is used."""
    models = [model for model in content if _is_mapping(model)]
    model = max(models, key=lambda one: len(_get_mapping(one, "shots")))
    shots = [
        Shot(str(name), [*_list(shot, "rotation"), *_list(shot, "translation")], shot.get("camera"))
        for name, shot in _get_mapping(model, "shots").items()
    ]
    left = sum(len(_get_mapping(other, "shots")) for other in models) - len(shots)
    notes = (f"the largest of {len(models)} reconstructions is read; {left} images of the others are left out",)
    return Listing(formats.OPENSFM, shots, _get_mapping(model, "cameras"), notes * (len(models) > 1))


def _list_odm(path: Path, content: Any) -> Listing:
    """List the images of ODM's shots.geojson: rotation vectors of world-to-camera, and positions in metres.

    Source: OpenDroneMap/ODM, opendm/shots.py.
    """
    shots, cameras = list[Shot](), dict[object, Mapping[str, Any]]()
    for feature in _mappings(content, "features"):
        image = feature.get("properties")
        if isinstance(image, Mapping):
            key = tuple(str(image.get(name)) for name in ("focal", "width", "height"))
            cameras[key] = {**image, "projection_type": "perspective"}
            inverse = [-number for number in parse_numbers([str(number) for number in _list(image, "rotation")])]
            shots.append(Shot(str(image.get("filename", "")), [*inverse, *_list(image, "translation")], key))
    return Listing(formats.ODM, shots, cameras)


def _list_gaussian_splatting(path: Path, content: Any) -> Listing:
    """List the images of cameras.json, whose camera is in the entry of each image."""
    entries = [entry for entry in content if _is_mapping(entry, "img_name")]
    shots, cameras = list[Shot](), dict[object, Mapping[str, Any]]()
    for entry in entries:
        camera = {key: entry.get(key) for key in ("fx", "fy", "cx", "cy", "width", "height", "img_name")}
        key = tuple(str(value) for value in list(camera.values())[:-1])
        cameras.setdefault(key, {name: value for name, value in camera.items() if value is not None})
        shots.append(Shot(str(entry["img_name"]), [*_list(entry, "rotation"), *_list(entry, "position")], key))
    return Listing(formats.GAUSSIAN_SPLATTING, shots, cameras)


def _list_openmvg(path: Path, content: Any) -> Listing:
    """List the views of sfm_data.json: each names its intrinsics and its extrinsics."""
    views, cameras, poses = (_list_cereal(content, key) for key in ("views", "intrinsics", "extrinsics"))
    shots = [
        Shot(
            "/".join(filter(None, (str(view.get("local_path", "")), str(view.get("filename", ""))))),
            _pose_of(poses.get(view.get("id_pose")), "rotation", "center"),
            view.get("id_intrinsic"),
        )
        for view in views.values()
    ]
    return Listing(formats.OPENMVG, shots, cameras)


def _list_cereal(content: Mapping[str, Any], key: str) -> dict[object, Mapping[str, Any]]:
    """Return the values of a list [{"key": ..., "value": ...}] of the cereal library by key, with their model."""
    entries = [entry for entry in content.get(key) or [] if _is_mapping(entry, "key", "value")]
    found = dict[object, Mapping[str, Any]]()
    for entry in entries:
        value = entry["value"]
        inner = value.get("ptr_wrapper", {}).get("data", value)
        base = inner.get("value0", {})
        found[entry["key"]] = {"polymorphic_name": value.get("polymorphic_name", ""), **base, **inner}
    return found


def _list_meshroom(path: Path, content: Any) -> Listing:
    """List the views of cameras.sfm; newer versions have the focal length in millimetres."""
    poses = {entry.get("poseId"): entry.get("pose", {}).get("transform") for entry in _mappings(content, "poses")}
    cameras = dict[object, Mapping[str, Any]]()
    for camera in _mappings(content, "intrinsics"):
        values = dict(camera)
        if "pxFocalLength" not in camera and _is_mapping(camera, "focalLength", "sensorWidth", "width"):
            width = float(camera["width"])
            values["pxFocalLength"] = float(camera["focalLength"]) / float(camera["sensorWidth"]) * width
        cameras[camera.get("intrinsicId")] = values
    shots = [
        Shot(str(view.get("path", "")), _pose_of(poses.get(view.get("poseId")), "rotation", "center"), view.get(CAMERA))
        for view in _mappings(content, "views")
    ]
    return Listing(formats.MESHROOM, shots, cameras)


CAMERA = "intrinsicId"  # key of a view of Meshroom


def _list_bundler(path: Path, text: str) -> Listing:
    """List the cameras of bundle.out, whose names are in a list.txt; a focal length of 0 means no pose."""
    lines = [line for line in text[:_HEAD_CHARACTERS].splitlines() if not line.startswith("#")]
    count = int(lines[0].split()[0])
    if not 0 < count <= MAX_POSES:
        raise DataError(path, found=f"{count} cameras", expected=f"1 to {MAX_POSES}", fix=_CHECK)
    words = text.split("\n", 5 * count + 2)[2:-1]
    rows = [line.split() for line in words[: 5 * count]]
    if len(rows) < 5 * count or {len(row) for row in rows} != {3}:
        expected = "5 rows of 3 numbers for each camera: f k1 k2, R and t"
        raise DataError(path, found="other rows", expected=expected, fix=_CHECK)
    names = _find_bundler_names(path, count)
    shots, cameras = list[Shot](), dict[object, Mapping[str, Any]]()
    for index in range(count):
        (focal, k1, k2), *pose = rows[5 * index : 5 * index + 5]
        is_placed = float(focal) != 0
        if is_placed:
            cameras[index] = {"focal_bundler": focal, "k1": k1, "k2": k2}
        shots.append(Shot(names[index], flatten_numbers(pose) if is_placed else (), index))
    notes = () if names[0] else ("no list.txt names the images: camera k belongs to image k",)
    return Listing(formats.BUNDLER, shots, cameras, notes, needs_sizes=True)


def _find_bundler_names(path: Path, count: int) -> list[str]:
    """Return the names in the list of images of a bundle.out; "" for each without a list of as many images."""
    own = (path.with_name(f"{stem}.list.txt") for stem in (path.name, path.stem))
    usual = (folder / name for folder in (path.parent, path.parent.parent) for name in _BUNDLER_LISTS)
    for file in (*own, *usual):
        if file.is_file():
            words = [line.split() for line in read_lines(file, expected="the images of a bundle.out")]
            names = [row[0] for row in words if row]
            if len(names) == count:
                return names
    return [""] * count


_BUNDLER_LISTS = ("list.txt", "list_imgs.txt", "image_list.txt", "prepare/list.txt")
_HEAD_CHARACTERS = 1 << 16


def _list_metashape(path: Path, text: str) -> Listing:
    """List the cameras of the XML that Metashape exports. Of several components, the largest one is used.

    In a multi-camera system only the images of the master have a pose. An image of another camera gets the pose of its
    master, moved by `location` and turned by `rotation` of its sensor.

    Source: Metashape Python Reference, Sensor.location and Sensor.rotation: the camera in the axes of its master.
    """
    tree = parse_xml(path, text, EXPECTED)
    chunk = next((one for one in (tree, *tree.iter("chunk")) if one.find("cameras") is not None), tree)
    cameras, mounts = dict[object, Mapping[str, Any]](), dict[str | None, Array]()
    for sensor in chunk.iter("sensor"):
        if sensor.get("master_id") is not None and (mount := _read_mount(sensor)) is not None:
            mounts[sensor.get("id")] = mount
        known = {one.get("class", ""): one for one in sensor.iter("calibration")}
        calibration = next((known[name] for name in ("adjusted", "", "initial") if name in known), None)
        if calibration is not None:
            size = sensor.find("resolution")
            values: dict[str, Any] = {"resolution": dict(size.attrib)} if size is not None else {}
            values |= {"@type": sensor.get("type", ""), **convert_xml(calibration)}
            values["f_b1"] = float(values.get("f", 0)) + float(values.pop("b1", 0))  # the focal length across
            cameras[sensor.get("id")] = values
    listed = [camera for camera in chunk.iter("camera") if camera.get("label") is not None]
    components = Counter(camera.get("component_id") for camera in listed if camera.find("transform") is not None)
    largest = components.most_common(1)[0][0] if components else None
    poses: list[Sequence[Any]] = [
        (camera.findtext("transform") or "").split()[:12] if camera.get("component_id") == largest else ()
        for camera in listed
    ]
    pose_of = {camera.get("id"): pose for camera, pose in zip(listed, poses, strict=True)}
    shots, mounted = list[Shot](), 0
    for camera, pose in zip(listed, poses, strict=True):
        master = parse_numbers(pose_of.get(camera.get("master_id", ""), ()))
        mount = mounts.get(camera.get("sensor_id"))
        if not pose and len(master) == _MATRIX_NUMBERS and mount is not None:
            T_world_master = np.vstack([master.reshape(3, 4), [0.0, 0, 0, 1]])
            pose, mounted = (T_world_master @ mount)[:3].ravel().tolist(), mounted + 1
        shots.append(Shot(str(camera.get("label")), pose, camera.get("sensor_id")))
    notes = [f"the largest of {len(components)} components is read"] if len(components) > 1 else []
    if mounted:
        notes.append(f"poses of {mounted} images are those of their master, moved by the mount of their sensor")
    return Listing(formats.METASHAPE, shots, cameras, tuple(notes))


_MATRIX_NUMBERS = 12


def _read_mount(sensor: ElementTree.Element) -> Array | None:
    """Return the pose (4, 4) of a sensor in the axes of its master; None without its rotation and location."""
    R, t = (parse_numbers((sensor.findtext(name) or "").split()) for name in ("rotation", "location"))
    if len(R) != 9 or len(t) != 3:
        return None
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R.reshape(3, 3), t
    return T


def _list_realitycapture(path: Path, text: str) -> Listing:
    """List the rows of "Internal/External camera parameters": a comment with the names of columns, then the values."""
    lines = [line for line in text.splitlines() if not line.startswith("#cameras")]
    rows = parse_csv(path, "\n".join([lines[0].lower().lstrip("#"), *lines[1:]]), EXPECTED)
    shots, cameras = list[Shot](), dict[object, Mapping[str, Any]]()
    for row in rows:
        key = tuple(row.get(name, "0") for name in _REALITY_CAPTURE_CAMERA)
        focal, x, y, *lens = key
        if "f" in row:
            center = {"PrincipalPointU": x, "PrincipalPointV": y}
            cameras[key] = {"FocalLength35mm": focal, **center, "DistortionCoeficients": lens}
        position = [row["x"], row["y"], row["alt" if "alt" in row else "z"]]
        shots.append(Shot(row["name"], [*position, row["heading"], row["pitch"], row["roll"]], key))
    return Listing(formats.REALITY_CAPTURE, shots, cameras, needs_sizes=True)


def _list_omega_phi_kappa(path: Path, text: str) -> Listing:
    """List rows of a name, x, y, z and three angles, as Pix4D and Metashape export them."""
    head = _OMEGA_PHI_KAPPA.match(text)
    assert head is not None
    separator = "," if "," in head[0].splitlines()[-1] else "\t" if "\t" in head[0].splitlines()[-1] else None
    lines = [line for line in text[head.end() :].splitlines()[1:] if line.strip() and not line.startswith("#")]
    rows = [[word.strip() for word in line.split(separator)] for line in lines]
    return Listing(formats.OMEGA_PHI_KAPPA, [Shot(row[0], row[1:7]) for row in rows], {})


_REALITY_CAPTURE_CAMERA = ("f", "px", "py", "k1", "k2", "k3", "k4", "t1", "t2")
"""Columns of a camera; the lens of the XMP files has the same order."""


def _list_xmp(path: Path, texts: Mapping[str, str]) -> Listing:
    """List the XMP files of RealityCapture, one for each image."""
    shots, cameras, notes = list[Shot](), dict[object, Mapping[str, Any]](), dict[str, None]()
    for name, text in texts.items():
        tree = convert_xml(parse_xml(path / f"{name}.xmp", text, EXPECTED))
        values = next((one for _, one in walk_mappings(tree) if "Rotation" in one and "Position" in one), {})
        lens = str(values.get("DistortionCoeficients", "")).split()
        if str(values.get("DistortionModel", "")).startswith("division") and any(float(word) for word in lens):
            notes["a lens with RealityCapture's division model is left out: export the cameras with a Brown model"] = (
                None
            )
            lens = []
        cameras[name] = {"PrincipalPointU": "0", "PrincipalPointV": "0", **values, "DistortionCoeficients": lens}
        shots.append(Shot(name, [word for key in ("Rotation", "Position") for word in str(values.get(key, "")).split()],
                          name if "FocalLength35mm" in values else None))  # fmt: skip
    return Listing(formats.REALITY_CAPTURE_XMP, shots, cameras, tuple(notes), needs_sizes=True)


def _list_visualsfm(path: Path, text: str) -> Listing:
    """List the cameras of an .nvm: name, focal length, quaternion of world-to-camera, position, and a radial lens.

    Source: ccwu.me/vsfm/doc.html, the format of NVM_V3. Its lens undoes distortion, x = (1 + r |x'|^2) x', so -r is k1.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    count = int(lines[1].split()[0]) if len(lines) > 1 else 0
    rows = [line.rsplit(maxsplit=_NVM_NUMBERS) for line in lines[2 : 2 + count]]
    if not 0 < count <= MAX_POSES or len(rows) < count or {len(row) for row in rows} != {_NVM_NUMBERS + 1}:
        expected = "a name, f, qw qx qy qz, x y z, r and 0 for each camera"
        raise DataError(path, found=f"other rows of {count} cameras", expected=expected, fix=_CHECK)
    shots, cameras = list[Shot](), dict[object, Mapping[str, Any]]()
    for name, focal, w, *xyz, r, _ in rows:
        conjugate = [w, *(-float(number) for number in xyz[:3])]
        cameras[focal, r] = {"focal_bundler": focal, "k1": -float(r)}
        shots.append(Shot(name, [*conjugate, *xyz[3:]], (focal, r)))
    return Listing(formats.VISUAL_SFM, shots, cameras, needs_sizes=True)


_NVM_NUMBERS = 10  # numbers after the name of an image


def _list_openmvs(path: Path, data: bytes) -> Listing:
    """List the images of a scene.mvs: platforms have cameras and poses, and an image names one of each.

    Source: cdcseacave/openMVS, libs/MVS/Interface.h: a text or list starts with its length in 8 bytes.
    """
    version, at = struct.unpack_from("<I", data, 4)[0], 12

    def take(layout: str) -> tuple[Any, ...]:
        nonlocal at
        values = struct.unpack_from(f"<{layout}", data, at)
        at += struct.calcsize(f"<{layout}")
        return values

    def take_count() -> int:
        (count,) = take("Q")
        if count > len(data) - at:
            raise ValueError(f"a list of {count} entries in {len(data)} bytes")
        return int(count)

    def take_text() -> str:
        count = take_count()
        return bytes(take(f"{count}s")[0]).decode("utf-8", "replace")

    platforms = list[tuple[list[_MvsCamera], list[tuple[Array, Array]]]]()
    for _ in range(take_count()):
        take_text()
        own, poses = list[_MvsCamera](), list[tuple[Array, Array]]()
        for _ in range(take_count()):
            take_text()
            if version > 3:
                take_text()
            width, height = take("II") if version > 0 else (0, 0)
            if not width:  # K is in units of a side that is unknown
                fix = "export it with OpenMVS 2.0 or later"
                raise DataError(path, found="cameras without sizes", expected="the size of their images", fix=fix)
            K, R, center = (np.array(take(f"{count}d")) for count in (9, 9, 3))
            own.append(_MvsCamera(width, height, K.reshape(3, 3), R.reshape(3, 3), center))
        for _ in range(take_count()):
            R, center = (np.array(take(f"{count}d")) for count in (9, 3))
            poses.append((R.reshape(3, 3), center))
        platforms.append((own, poses))
    shots, cameras = list[Shot](), dict[object, Mapping[str, Any]]()
    for _ in range(take_count()):
        name = take_text()
        if version > 4:
            take_text()
        platform, number, pose = take("III")
        if version > 2:
            take("I")
        if version > 6:
            take("3f")
            for _ in range(take_count()):
                take(_MVS_VIEW)
        own, poses = platforms[platform]
        camera = own[number]
        cameras[platform, number] = camera.describe()
        numbers = list[float]()
        if pose < len(poses):
            R, center = poses[pose]
            numbers = [*(camera.R @ R).ravel().tolist(), *(center + R.T @ camera.center).tolist()]
        shots.append(Shot(name, numbers, (platform, number)))
    return Listing(formats.OPENMVS, shots, cameras)


_MVS_VIEW = "2I5f"  # of the images that an image is matched with: its number, points, scale, angle, area, score


@dataclass(frozen=True)
class _MvsCamera:
    """A camera of a platform: the size of its images, K (3, 3), and its rotation (3, 3) and position (3,) on it."""

    width: int
    height: int
    K: Array
    R: Array
    center: Array

    def describe(self) -> dict[str, Any]:
        values = dict(zip(("fx", "fy", "cx", "cy"), self.K[(0, 1, 0, 1), (0, 1, 2, 2)].tolist(), strict=True))
        return {**values, "width": self.width, "height": self.height}


def _list_middlebury(path: Path, text: str) -> Listing:
    """List the lines of Middlebury's multi-view *_par.txt: name, K, R and t, row by row."""
    shots, cameras = list[Shot](), dict[object, Mapping[str, Any]]()
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) == _PAR_WORDS:
            key = tuple(words[1:10])
            cameras[key] = dict(zip(("fx", "fy", "cx", "cy"), (key[0], key[4], key[2], key[5]), strict=True))
            shots.append(Shot(words[0], words[10:], key))
    return Listing(formats.MIDDLEBURY, shots, cameras)


_PAR_WORDS = 22  # a name, 9 numbers of K, 9 of R, 3 of t
_PAR = re.compile(r"\d+\s*\n\S+\.\w+(?: +[-+.\deE]+){21} *$", re.MULTILINE)


def _pose_of(value: Any, *keys: str) -> list[Any]:
    """Return the numbers under keys of a mapping, one after another; empty for a value that is no mapping."""
    return [number for key in keys for number in _list(value, key)] if isinstance(value, Mapping) else []


def _mappings(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Return the mappings in the list under a key; empty without the key."""
    inner = value.get(key)
    return [one for one in inner if isinstance(one, Mapping)] if isinstance(inner, list) else []


def _is_mapping(value: Any, *keys: str) -> bool:
    """Return whether a value is a mapping with these keys."""
    return isinstance(value, Mapping) and all(key in value for key in keys)


def _list(values: Mapping[str, Any], key: str) -> list[Any]:
    """Return the numbers under a key, of nested lists too, as one list; empty without the key."""
    return flatten_numbers(values.get(key))


def _get_mapping(value: Mapping[str, Any], key: str) -> dict[object, Mapping[str, Any]]:
    """Return the mappings inside the mapping under a key; empty without the key."""
    inner = value.get(key)
    return {name: one for name, one in inner.items() if isinstance(one, Mapping)} if isinstance(inner, Mapping) else {}


def _is_list_of(content: Any, *keys: str) -> bool:
    """Return whether a value is a list whose first entry is a mapping with these keys."""
    return isinstance(content, list) and bool(content) and _is_mapping(content[0], *keys)


def _is_of_odm(content: Any) -> bool:
    """Return whether JSON is a shots.geojson of ODM."""
    features = _mappings(content, "features") if isinstance(content, Mapping) else []
    return bool(features) and _is_mapping(features[0].get("properties"), "filename", "rotation", "translation")


PROGRAMS: Mapping[str, Program] = {
    "OpenSfM": Program(JSON, lambda content: _is_list_of(content, "shots"), _list_opensfm),
    "ODM": Program((".geojson",), _is_of_odm, _list_odm),
    "3D Gaussian Splatting": Program(
        JSON, lambda content: _is_list_of(content, "img_name", "rotation", "position"), _list_gaussian_splatting
    ),
    "OpenMVG": Program(JSON, lambda content: _is_mapping(content, "sfm_data_version", "extrinsics"), _list_openmvg),
    "Meshroom": Program(JSON, lambda content: _is_mapping(content, "views", "intrinsics", "poses"), _list_meshroom),
    "Bundler": Program((".out",), lambda text: text.startswith("# Bundle file"), _list_bundler),
    "VisualSFM": Program((".nvm",), lambda text: text.startswith("NVM_V3"), _list_visualsfm),
    "OpenMVS": Program(BINARY, lambda data: data.startswith(b"MVSI"), _list_openmvs),
    "Middlebury": Program((".txt",), lambda text: bool(_PAR.match(text)), _list_middlebury),
    "Metashape": Program((".xml",), lambda text: "<document" in text and "<chunk" in text, _list_metashape),
    "RealityCapture": Program((".csv",), lambda text: bool(_REALITY_CAPTURE.match(text)), _list_realitycapture),
    "Pix4D, Metashape": Program(
        (".txt", ".csv"), lambda text: bool(_OMEGA_PHI_KAPPA.match(text)), _list_omega_phi_kappa
    ),
    "RealityCapture's XMP": Program(
        (XMP,), lambda texts: any("xcr:Rotation" in text for text in texts.values()), _list_xmp
    ),
}
"""Programs by name."""

# -- reading

USUAL_FILES = ("reconstruction.json", "opensfm/reconstruction.json", "sfm_data.json", "cameras.sfm", "sfm.json",
               "bundle.out", "bundle/bundle.out", "cameras.xml", "cameras.json")  # fmt: skip
"""Names of the files of programs in a folder."""

MAX_XMP_FILES = 100_000
MAX_XMP_BYTES = 1 << 20
HEAD_BYTES = 1 << 16  # of a text, which show its program


def find_photogrammetry(path: Path) -> tuple[Path, str] | None:
    """Return the file, or the folder of XMP files, and the program of PROGRAMS that wrote it; None for another path.

    path: the file, or a folder with one of USUAL_FILES or with XMP files.
    """
    usual = [path / name for name in USUAL_FILES if (path / name).is_file()] if path.is_dir() else []
    for file in (*usual, path):
        suffix = XMP if file.is_dir() else file.suffix.lower()
        if any(suffix in program.suffixes for program in PROGRAMS.values()):
            name = find_program(suffix, _read_content(file, is_head=True))
            if name is not None:
                return file, name
    return None


def find_program(suffix: str, content: Any) -> str | None:
    """Return the program of PROGRAMS that wrote a file; None for another file.

    suffix: suffix of the file, or XMP.
    content: its parsed JSON, the start of its text, or the texts of the XMP files by name.
    """
    known = ((name, program) for name, program in PROGRAMS.items() if suffix in program.suffixes)
    return next((name for name, program in known if program.fits(content)), None)


def _read_content(path: Path, *, is_head: bool = False) -> Any:
    """Return parsed JSON, a text, or the texts of a folder's XMP files by name; only the start with `is_head`."""
    if path.is_dir():
        files = sorted(path.glob("*.xmp"), key=natural_sort_key)[: 1 if is_head else MAX_XMP_FILES]
        return {file.stem: read_text(file, expected=EXPECTED, max_bytes=MAX_XMP_BYTES) for file in files}
    if path.suffix.lower() in JSON:
        return read_json(path, expected=EXPECTED, max_bytes=MAX_BYTES)
    if path.suffix.lower() in BINARY:
        with open_input(path, expected=EXPECTED, max_bytes=MAX_BYTES) as stream:
            return stream.read(HEAD_BYTES if is_head else MAX_BYTES)
    if not is_head:
        return read_text(path, expected=EXPECTED, max_bytes=MAX_BYTES)
    with open_input(path, expected=EXPECTED, max_bytes=1 << 62) as stream:
        return stream.read(HEAD_BYTES).decode("utf-8-sig", "replace")


def read_photogrammetry(path: Path, *, has_cameras: bool = True) -> Reconstruction:
    """Read the images of a file of a program of PROGRAMS, with their names and cameras.

    Images without a pose are left out if the others have names.

    path: the file, or a folder with it.
    has_cameras: whether cameras are read too; a camera that is no pinhole raises an error.

    Raises DataError for a damaged file, and for one without poses.
    """
    found = find_photogrammetry(path)
    assert found is not None
    file, program = found
    content = _read_content(file)
    with name_parser_errors(file, expected=EXPECTED):
        listing = PROGRAMS[program].lists(file, content)
    posed = [shot for shot in listing.shots if len(shot.pose)]
    if not posed or len(listing.shots) > MAX_POSES:
        found_text = f"{len(posed)} images with a pose of {len(listing.shots)}"
        raise DataError(file, found=found_text, expected=f"1 to {MAX_POSES}", fix="export the images that are aligned")
    notes = [f"poses of {file.name} are read as {listing.format.program}'s, in its own scale", *listing.notes]
    if len(posed) < len(listing.shots):
        notes.append(f"{len(listing.shots) - len(posed)} of {len(listing.shots)} images have no pose in {file.name}")
    shots = posed if all(shot.name for shot in listing.shots) else listing.shots
    numbers = np.stack([_parse_pose(file, listing.format, shot) for shot in shots])
    T = make_poses(numbers, listing.format, lambda row: f"{file}, image {shots[row].name or row}")
    names = [shot.name for shot in shots]
    read = make_reconstruction(path, T, "", names=names, format="photogrammetry", pose_format=listing.format)
    read = replace(read, notes=tuple(notes))
    return _add_cameras(read, listing, shots) if has_cameras else read


def _parse_pose(path: Path, format: Format, shot: Shot) -> Array:
    """Return the numbers (C,) of the pose of an image; NaN without a pose."""
    count = count_numbers(format)
    if not len(shot.pose):
        return np.full(count, np.nan)
    numbers = parse_numbers([str(number) for number in shot.pose])
    if len(numbers) != count:
        expected = f"{count} numbers: {format.columns}"
        found = f"{len(numbers)} numbers of a pose"
        raise DataError(f"{path}, image {shot.name}", found=found, expected=expected, fix=_CHECK)
    return numbers


def _add_cameras(read: Reconstruction, listing: Listing, shots: Sequence[Shot]) -> Reconstruction:
    """Return the reconstruction with the camera of each image, as far as the file has it.

    Cameras without the size of their images get K with `Reconstruction.with_image_sizes`.
    """
    K, distortion, sizes = read.K.copy(), read.distortion.copy(), read.sizes.copy()
    lenses: list[Lens | None] = [None] * len(shots)
    notes, known = list(read.notes), dict[tuple[object, tuple[int, int]], _Camera]()

    def find(row: int, size: tuple[int, int]) -> _Camera:
        key = shots[row].camera, size
        if key[0] not in listing.cameras:
            return _Camera(np.full((3, 3), np.nan), np.zeros(4), None, size, [])
        if key not in known:
            sides = {"width": size[0], "height": size[1]} if all(size) else {}
            where = f"{read.path}, camera of {shots[row].name or row}"
            known[key] = _read_camera(where, {**listing.cameras[shots[row].camera], **sides})
        return known[key]

    without = 0
    for row, shot in enumerate(shots):
        if shot.camera not in listing.cameras:
            without += len(shot.pose) > 0
        elif not listing.needs_sizes:
            camera = find(row, (0, 0))
            K[row], distortion[row], sizes[row] = camera.K, camera.distortion, camera.size
            lenses[row] = camera.lens
            notes += [note for note in camera.notes if note not in notes]
    notes += [f"{without} images have no camera in {read.path.name}"] if without else []

    def find_by_size(row: int, size: tuple[int, int]) -> tuple[Array, Array, Lens | None]:
        camera = find(row, size)
        return camera.K, camera.distortion, camera.lens

    return replace(
        read,
        K=K,
        distortion=distortion,
        lenses=make_lenses(lenses),
        sizes=sizes,
        camera_of_size=find_by_size if listing.needs_sizes else None,
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Camera:
    """K (3, 3), the distortion (4,), a lens of another model, width and height, and notes on what is not used."""

    K: Array
    distortion: Array
    lens: Lens | None
    size: tuple[int, int]
    notes: list[str]


def _read_camera(where: str, values: Mapping[str, Any]) -> _Camera:
    camera = read_camera_by_keys(where, values)
    height, width = camera.size or (0, 0)
    model, coefficients = camera.find_distortion(where) or (formats.RADTAN, ())
    distortion, lens = split_lens(model, coefficients)
    notes = [note.removeprefix("note: ") for note in camera.notes[1:]]
    return _Camera(camera.K, distortion, lens, (width, height), notes)
