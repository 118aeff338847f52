"""Read and write the cameras and poses of COLMAP's sparse models, as text and binary."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.geometry.conventions import Direction, write_poses
from stadia.geometry.lens import Lens
from stadia.io.atomic_files import atomic_folder, open_atomic, write_lines
from stadia.io.input_files import name_parser_errors, natural_sort_key, read_bytes, read_text
from stadia.io.number_rows import parse_numbers
from stadia.io.records.formats import COLMAP, EQUIDISTANT, FIRST_PIXEL, FOV, RADTAN, WRITE_COLMAP_TEXT
from stadia.io.records.poses import make_poses
from stadia.io.records.reconstruction import Reconstruction, make_lenses, make_reconstruction

Array = NDArray[np.float64]

MAX_BYTES = 8 << 30  # images.bin has the points of each image
EXPECTED = "a COLMAP model: cameras and images as .txt or .bin"

EQUIRECTANGULAR = "EQUIRECTANGULAR"

MODELS: Mapping[int, tuple[str, int]] = {
    0: ("SIMPLE_PINHOLE", 3), 1: ("PINHOLE", 4), 2: ("SIMPLE_RADIAL", 4), 3: ("RADIAL", 5), 4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8), 6: ("FULL_OPENCV", 12), 7: ("FOV", 5), 8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5), 10: ("THIN_PRISM_FISHEYE", 12), 11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    12: ("SIMPLE_DIVISION", 4), 13: ("DIVISION", 5), 14: ("SIMPLE_FISHEYE", 3), 15: ("FISHEYE", 4),
    16: ("EUCM", 6), 17: (EQUIRECTANGULAR, 2),
}  # fmt: skip
"""Name and number of parameters of COLMAP's camera models by their number in cameras.bin.

Source: colmap/src/colmap/sensor/models.h.
"""

_IDS = {name: number for number, (name, _) in MODELS.items()}
_ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE",
              "SIMPLE_DIVISION", "SIMPLE_FISHEYE")  # fmt: skip
_MAX_NAME, _MAX_IMAGES = 4096, 400_000
_MAX_SIDE_PX = 1 << 20


@dataclass(frozen=True)
class ColmapCamera:
    """One camera of a COLMAP model: the model's name, the image size in pixels, and the parameters as written."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImages:
    """The images of a COLMAP model.

    names: N image names.
    T_world_camera: (N, 4, 4) camera-to-world poses.
    camera_ids: (N,) number of each image's camera.
    """

    names: tuple[str, ...]
    T_world_camera: Array
    camera_ids: NDArray[np.int64]


def find_model(path: Path) -> Path | None:
    """Return the folder of a COLMAP model: a folder, its sparse/0 or sparse, or the folder of a model's file."""
    if path.is_file():
        return path.parent if path.name in ("images.txt", "images.bin", "cameras.txt", "cameras.bin") else None
    folders = (path, path / "sparse" / "0", path / "sparse", path / "0")
    return next((folder for folder in folders if _find_suffix(folder)), None)


def _find_suffix(folder: Path) -> str:
    return next(
        (end for end in (".bin", ".txt") if all((folder / f"{name}{end}").is_file() for name in ("cameras", "images"))),
        "",
    )


def read_colmap(path: Path) -> Reconstruction:
    """Read the cameras and poses of a COLMAP or GLOMAP model, sorted by image name.

    Images of a rig have the pose that COLMAP writes for each of them.

    path: a folder with the model, a project folder with sparse/0, or a file of the model.

    Raises DataError for a damaged model.
    """
    folder = find_model(path)
    if folder is None:
        raise DataError(path, found="no model", expected=EXPECTED, fix="check the path")
    cameras, images = _read_files(folder)
    order = sorted(range(len(images.names)), key=lambda row: natural_sort_key(Path(images.names[row]), whole=True))
    read = dict[int, tuple[Array, Array, Lens | None]]()
    for number in sorted(set(images.camera_ids.tolist())):
        if number not in cameras:
            found = f"an image of camera {number}, which is missing"
            raise DataError(folder, found=found, expected=EXPECTED, fix="copy all files of the model")
        read[number] = split_camera(cameras[number])
    ids = images.camera_ids[order]
    return Reconstruction(
        names=tuple(images.names[row] for row in order),
        T_camera_world=write_poses(images.T_world_camera[order], direction=Direction.WORLD_TO_CAMERA),
        K=np.stack([read[number][0] for number in ids.tolist()]),
        distortion=np.stack([read[number][1] for number in ids.tolist()]),
        lenses=make_lenses([read[number][2] for number in ids.tolist()]),
        sizes=np.array([(cameras[number].width, cameras[number].height) for number in ids.tolist()], np.int64),
        format="colmap",
        pose_format=COLMAP,
        path=path,
        notes=(f"poses of {folder.name} are world-to-camera, in its own scale",),
    )


def read_colmap_images(folder: Path) -> ColmapImages:
    """Read the images of a model. Raises DataError for a damaged model."""
    return _read_files(folder)[1]


def read_colmap_poses(path: Path, images: ColmapImages) -> Reconstruction:
    """Return the poses of COLMAP's images without cameras; of the cameras of a rig, those of the first folder.

    path: the file, for messages.
    images: its images.
    """
    note = f"poses of {path.name} are inverted: COLMAP writes world-to-camera, in its own scale"
    rows_of = dict[str, list[int]]()
    for row, name in enumerate(images.names):
        rows_of.setdefault(str(PurePosixPath(name).parent), []).append(row)
    in_folders = {tuple(sorted(PurePosixPath(images.names[row]).name for row in rows)) for rows in rows_of.values()}
    rows = list(range(len(images.names)))
    if len(rows_of) > 1 and len(in_folders) == 1:  # images of one name are of one instant
        first = min(rows_of)
        rows, note = rows_of[first], f"{note}; poses of {first} are used, the first of {len(rows_of)} cameras"
    names = [images.names[row] for row in rows]
    return make_reconstruction(
        path, images.T_world_camera[rows], note, names=names, format="colmap", pose_format=COLMAP
    )


def _read_files(folder: Path) -> tuple[dict[int, ColmapCamera], ColmapImages]:
    suffix = _find_suffix(folder)
    cameras_path, images_path = folder / f"cameras{suffix}", folder / f"images{suffix}"
    if suffix == ".txt":
        text = read_text(images_path, expected=EXPECTED, max_bytes=MAX_BYTES)
        images = read_image_lines(images_path, text.splitlines())
        return _read_camera_lines(cameras_path), images
    with name_parser_errors(folder, expected=EXPECTED):
        return _parse_cameras(cameras_path), _parse_images(images_path)


# -- text


def _read_camera_lines(path: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    for number, line in enumerate(read_text(path, expected=EXPECTED).splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        where, ids = f"{path}, line {number}", parse_numbers(words[:1])
        if not len(ids):
            expected = "CAMERA_ID MODEL WIDTH HEIGHT PARAMS"
            raise DataError(where, found=f"'{line[:60]}'", expected=expected, fix=WRITE_COLMAP_TEXT)
        cameras[int(ids[0])] = read_camera_words(where, words[1:])
    return cameras


def read_camera_words(where: str, words: Sequence[str]) -> ColmapCamera:
    """Return the camera of the words MODEL WIDTH HEIGHT PARAMS. Raises DataError for others."""
    values = parse_numbers(words[1:])
    if len(values) < 3 or len(values) != len(words) - 1:
        found, expected = f"'{' '.join(words)[:60]}'", "MODEL WIDTH HEIGHT PARAMS"
        raise DataError(where, found=found, expected=expected, fix=WRITE_COLMAP_TEXT)
    return _check_camera(where, ColmapCamera(words[0], int(values[0]), int(values[1]), tuple(values[2:].tolist())))


def _check_camera(where: str, camera: ColmapCamera) -> ColmapCamera:
    count = MODELS[_IDS[camera.model]][1] if camera.model in _IDS else 0
    is_sized = min(camera.width, camera.height) >= 1 and max(camera.width, camera.height) <= _MAX_SIDE_PX
    if len(camera.params) != count or not np.isfinite(camera.params).all() or not is_sized:
        found = f"{len(camera.params)} parameters of {camera.model[:40]} at {camera.width}x{camera.height}"
        raise DataError(where, found=found, expected="a camera model of COLMAP", fix=WRITE_COLMAP_TEXT)
    return camera


def read_image_lines(path: Path, lines: Sequence[str]) -> ColmapImages:
    """Parse the lines of COLMAP's images.txt, in the order of the file. Every second line has the image's points.

    path: the file, for messages.
    lines: its lines.

    Raises DataError for a damaged line.
    """
    names, rows, is_image = list[str](), list[list[float]](), True
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("#") or (is_image and not line.strip()):
            continue
        if is_image:
            words = line.split(maxsplit=9)
            values = parse_numbers(words[:9])
            if len(words) < 10 or len(values) < 9:
                where, expected = f"{path}, line {number}", "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"
                raise DataError(where, found=f"'{line[:60]}'", expected=expected, fix="copy the COLMAP model again")
            rows.append(values[1:].tolist())
            names.append(words[9].strip())
        is_image = not is_image
    return _make_images(path, names, np.array(rows).reshape(-1, 8))


def _make_images(path: Path, names: Sequence[str], rows: Array) -> ColmapImages:
    """Return images with rows qw qx qy qz tx ty tz camera."""
    if not len(rows):
        raise DataError(path, found="no image", expected=EXPECTED, fix="check that the reconstruction succeeded")
    if not np.isfinite(rows).all() or (np.linalg.norm(rows[:, :4], axis=1) < 1e-6).any():
        raise DataError(
            path, found="a quaternion without length", expected="a rotation for each image", fix=WRITE_COLMAP_TEXT
        )
    rows[:, :4] /= np.linalg.norm(rows[:, :4], axis=1, keepdims=True)
    T_world_camera = make_poses(rows, COLMAP, lambda row: f"{path}, image {names[row]}")
    return ColmapImages(tuple(names), T_world_camera, rows[:, 7].astype(np.int64))


# -- binary


class _Bytes:
    """The bytes of a binary file, which are read record by record."""

    def __init__(self, path: Path) -> None:
        self.data = read_bytes(path, expected=EXPECTED, max_bytes=MAX_BYTES)
        self.at = 0

    def take(self, layout: str) -> tuple[float, ...]:
        values = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return values

    def skip(self, size: int) -> None:
        if self.at + size > len(self.data):
            raise ValueError(f"cut off after {len(self.data)} of at least {self.at + size} bytes")
        self.at += size

    def take_name(self) -> str:
        end = self.data.index(b"\0", self.at, self.at + _MAX_NAME)
        name = self.data[self.at : end].decode("utf-8", "replace")
        self.at = end + 1
        return name


def _parse_cameras(path: Path) -> dict[int, ColmapCamera]:
    stream, cameras = _Bytes(path), dict[int, ColmapCamera]()
    for _ in range(_check_count(path, int(stream.take("<Q")[0]), 40, len(stream.data))):
        number, model, width, height = (int(value) for value in stream.take("<iiQQ"))
        if model not in MODELS:
            raise DataError(
                path, found=f"camera model {model}", expected="a camera model of COLMAP", fix=WRITE_COLMAP_TEXT
            )
        name, count = MODELS[model]
        cameras[number] = _check_camera(str(path), ColmapCamera(name, width, height, stream.take(f"<{count}d")))
    return cameras


def _parse_images(path: Path) -> ColmapImages:
    stream, names, rows = _Bytes(path), list[str](), list[list[float]]()
    for _ in range(_check_count(path, int(stream.take("<Q")[0]), 72, len(stream.data))):
        values = stream.take("<i7di")
        rows.append(list(values[1:]))
        names.append(stream.take_name())
        stream.skip(24 * int(stream.take("<Q")[0]))
    return _make_images(path, names, np.array(rows).reshape(-1, 8))


MAX_POINTS = 3_000_000
"""Most points of a model that are read."""


def read_colmap_points(path: Path) -> tuple[Array, NDArray[np.uint8]]:
    """Return the points (N, 3) of a COLMAP model in its world, and their RGB colors (N, 3); N is 0 without points.

    path: a folder or file, as for `read_colmap`.

    Raises DataError for a damaged file, or more than MAX_POINTS points.
    """
    folder = find_model(path)
    files = [] if folder is None else [folder / f"points3D{end}" for end in (".bin", ".txt")]
    file = next((one for one in files if one.is_file()), None)
    rows = list[Sequence[float]]()
    if file is not None:
        with name_parser_errors(file, expected=EXPECTED):
            rows = _parse_points(file) if file.suffix == ".bin" else _parse_point_lines(file)
    values = np.array(rows, np.float64).reshape(-1, 6)
    return values[:, :3], np.clip(values[:, 3:], 0, 255).astype(np.uint8)


def _parse_points(path: Path) -> list[Sequence[float]]:
    stream, rows = _Bytes(path), list[Sequence[float]]()
    count = int(stream.take("<Q")[0])
    _check_points(path, min(count, len(stream.data) // 43))
    for _ in range(count):
        rows.append(stream.take("<Q3d3Bd")[1:7])
        stream.skip(8 * int(stream.take("<Q")[0]))
    return rows


def _parse_point_lines(path: Path) -> list[Sequence[float]]:
    text = read_text(path, expected=EXPECTED, max_bytes=MAX_BYTES)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    _check_points(path, len(lines))
    return [[float(word) for word in line.split(maxsplit=7)[1:7]] for line in lines]


def _check_points(path: Path, count: int) -> None:
    if count > MAX_POINTS:
        fix = "reduce them: colmap model_cleaner, or a smaller model"
        raise DataError(path, found=f"{count} points", expected=f"at most {MAX_POINTS}", fix=fix)


def _check_count(path: Path, count: int, least_bytes: int, size: int) -> int:
    if count > min(_MAX_IMAGES, size // least_bytes):
        raise DataError(
            path, found=f"a header of {count} records", expected=EXPECTED, fix="copy the COLMAP model again"
        )
    return count


# -- lenses

_GRID = 65  # rays per side to which coefficients are fitted
_MAX_TANGENT = 2.0  # tangent of the largest angle of the fit: 63 degrees


def count_focals(model: str) -> int:
    """Return how many of the parameters of a camera model are focal lengths; cx, cy and the lens follow them."""
    return 1 if model in _ONE_FOCAL else 2


_OPENCV_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")


def split_camera(camera: ColmapCamera) -> tuple[Array, Array, Lens | None]:
    """Return K (3, 3) with pixel centers at integers, OpenCV's k1, k2, p1, p2 (4,), and the lens of another model."""
    values = camera.params
    if camera.model == EQUIRECTANGULAR:
        width, height = values
        middle = width / 2 - FIRST_PIXEL, height / 2 - FIRST_PIXEL
        K = np.array([[width / (2 * np.pi), 0, middle[0]], [0, height / np.pi, middle[1]], [0, 0, 1]])
        return K, np.zeros(4), Lens(EQUIRECTANGULAR)
    focals = count_focals(camera.model)
    fx, fy, (cx, cy) = values[0], values[focals - 1], values[focals : focals + 2]
    K, lens = np.array([[fx, 0, cx - FIRST_PIXEL], [0, fy, cy - FIRST_PIXEL], [0, 0, 1]]), values[focals + 2 :]
    if camera.model in _OPENCV_MODELS:
        return K, np.array((*lens, 0, 0, 0, 0)[:4]), None
    return K, np.zeros(4), Lens(camera.model, tuple(lens))


def split_lens(model: str, coefficients: Sequence[float]) -> tuple[Array, Lens | None]:
    """Return OpenCV's k1, k2, p1, p2 (4,), and the lens of another model or with more coefficients.

    model: the distortion model, a key of `formats.COEFFICIENTS`.
    coefficients: all its coefficients.
    """
    if model == RADTAN and not any(coefficients[4:]):
        return np.array((*coefficients, 0.0, 0.0, 0.0, 0.0)[:4]), None
    name, count = {EQUIDISTANT: ("OPENCV_FISHEYE", 4), FOV: ("FOV", 1)}.get(model, ("FULL_OPENCV", 8))
    return np.zeros(4), Lens(name, tuple(map(float, (*coefficients, *(0.0,) * count)[:count])))


def convert_lens(
    where: object, K: Array, model: str, coefficients: Sequence[float], size: tuple[int, int]
) -> tuple[Array, Array]:
    """Convert a lens of stadia to OpenCV's coefficients k1, k2, p1, p2; another lens is fitted by them.

    where: the file, for messages.
    K: (3, 3) intrinsics in pixels.
    model: the distortion model, a key of `formats.COEFFICIENTS`.
    coefficients: all its coefficients.
    size: width and height of the images; (0, 0) if unknown.

    Returns K (3, 3) and the coefficients (4,).

    Raises DataError for a lens that has to be fitted without the size of its images.
    """
    distortion, lens = split_lens(model, coefficients)
    if lens is None:
        return K, distortion
    if not all(size):
        expected = "width and height next to the lens"
        raise DataError(where, found="a lens without the size of its images", expected=expected, fix="add them")
    return fit_distortion(lens.distort, K, size)[:2]


def fit_distortion(distort: Callable[[Array], Array], K: Array, size: tuple[int, int]) -> tuple[Array, Array, float]:
    """Fit a focal length and OpenCV's coefficients k1, k2, p1, p2 to another lens by linear least squares.

    distort: function from rays (N, 2) with z = 1 to distorted rays (N, 2), which K maps to pixels.
    K: (3, 3) intrinsics in pixels.
    size: width and height of the image.

    Returns the new K (3, 3), the coefficients (4,), and the largest error inside the image in pixels.
    """
    focal = np.array([K[0, 0], K[1, 1]])
    low, high = np.full(2, -_MAX_TANGENT), np.full(2, _MAX_TANGENT)
    for _ in range(3):  # the grid shrinks to the rays of the image
        axes = [np.linspace(low[axis], high[axis], _GRID) for axis in range(2)]
        xy = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
        xy = xy[np.linalg.norm(xy, axis=1) <= _MAX_TANGENT]
        bent = distort(xy)
        step = (high - low) / (_GRID - 1)
        inside = ((bent * focal + K[:2, 2] >= -1) & (bent * focal + K[:2, 2] <= np.array(size))).all(axis=1)
        xy, bent = xy[inside], bent[inside]
        low, high = np.maximum(xy.min(axis=0) - step, low), np.minimum(xy.max(axis=0) + step, high)
    x, y, squared = xy[:, 0], xy[:, 1], (xy**2).sum(axis=1)
    across = np.stack([x, x * squared, x * squared**2, 2 * x * y, squared + 2 * x**2], -1) * focal[0]
    down = np.stack([y, y * squared, y * squared**2, squared + 2 * y**2, 2 * x * y], -1) * focal[1]
    A, b = np.concatenate([across, down]), (bent * focal).T.ravel()
    factor, *coefficients = np.linalg.lstsq(A, b, rcond=None)[0]
    fitted = K.copy()
    fitted[[0, 1], [0, 1]] *= factor
    error_px = float(np.abs(A @ np.array([factor, *coefficients]) - b).max(initial=0))
    return fitted, np.array(coefficients) / factor, error_px


# -- writing


def write_colmap(reconstruction: Reconstruction, out: Path) -> None:
    """Write a reconstruction as a folder with a COLMAP model, as text or binary like the original.

    The model has cameras and poses, and no points: `colmap point_triangulator` adds them. A camera that equals the
    original's keeps its model and parameters. Others become PINHOLE or OPENCV, or keep the model of their lens.

    reconstruction: cameras and poses, each with a name and a size.
    out: the new folder.
    """
    folder = find_model(reconstruction.path)
    suffix = (_find_suffix(folder) if folder is not None else "") or ".txt"
    known = _read_files(folder) if folder is not None else None
    original = {} if known is None else dict(zip(known[1].names, known[1].camera_ids.tolist(), strict=True))
    cameras, ids = dict[ColmapCamera, int](), list[int]()
    for row, name in enumerate(reconstruction.names):
        camera = _make_camera(reconstruction, row)
        if known is not None and name in original:
            before = known[0][original[name]]
            K, distortion, lens = split_camera(before)
            is_same = np.allclose(K, reconstruction.K[row]) and np.allclose(distortion, reconstruction.distortion[row])
            is_same &= lens == (None if reconstruction.lenses is None else reconstruction.lenses[row])
            is_same &= (before.width, before.height) == tuple(reconstruction.sizes[row].tolist())
            camera = before if is_same else camera
        ids.append(cameras.setdefault(camera, len(cameras) + 1))
    with atomic_folder(out) as made:
        write = _write_text if suffix == ".txt" else _write_binary
        write(made, reconstruction, cameras, ids)


def _make_camera(reconstruction: Reconstruction, row: int) -> ColmapCamera:
    K, lens = reconstruction.K[row], reconstruction.distortion[row]
    width, height = reconstruction.sizes[row].tolist()
    if not np.isfinite(K).all() or min(width, height) < 1 or not reconstruction.names[row]:
        lacks = "focal length" if not np.isfinite(K).all() else "size" if min(width, height) < 1 else "name"
        fix = (
            "add --images FOLDER" if lacks == "name" else "add --camera fx=700,fy=700,cx=640,cy=360 and --images FOLDER"
        )
        found, expected = f"image {row} without a {lacks}", f"a {lacks} for a COLMAP model"
        raise DataError(reconstruction.path, found=found, expected=expected, fix=fix)
    other = None if reconstruction.lenses is None else reconstruction.lenses[row]
    return join_camera(K, lens, other, (width, height))


_TWO_FOCALS = {
    "SIMPLE_FISHEYE": ("FISHEYE", 0), "SIMPLE_RADIAL_FISHEYE": ("OPENCV_FISHEYE", 3),
    "RADIAL_FISHEYE": ("OPENCV_FISHEYE", 2), "SIMPLE_DIVISION": ("DIVISION", 0),
}  # fmt: skip
"""Model with two focal lengths for each model with one, and how many zeros its parameters have more."""


def join_camera(K: Array, distortion: Array, lens: Lens | None, size: tuple[int, int]) -> ColmapCamera:
    """Return the camera of COLMAP that `split_camera` splits into these parts.

    K: (3, 3) intrinsics in pixels, pixel centers at integers.
    distortion: (4,) OpenCV's coefficients k1, k2, p1, p2.
    lens: a lens of another model.
    size: width and height in pixels.
    """
    params: tuple[float, ...] = K[0, 0], K[1, 1], K[0, 2] + FIRST_PIXEL, K[1, 2] + FIRST_PIXEL
    model, values = ("OPENCV", tuple(distortion.tolist())) if distortion.any() else ("PINHOLE", ())
    if lens is not None and lens.model == EQUIRECTANGULAR:
        model, values, params = EQUIRECTANGULAR, (), (2 * np.pi * K[0, 0], np.pi * K[1, 1])
    elif lens is not None:
        model, values = lens.model, lens.params
        if model in _TWO_FOCALS and np.isclose(K[0, 0], K[1, 1], rtol=1e-9):
            params = params[1:]
        elif model in _TWO_FOCALS:
            model, zeros = _TWO_FOCALS[model]
            values = (*values, *(0.0,) * zeros)
    return ColmapCamera(model, *size, tuple(map(float, (*params, *values))))


def _list_rows(reconstruction: Reconstruction, ids: Sequence[int]) -> Iterator[tuple[int, list[float], int, str]]:
    from scipy.spatial.transform import Rotation  # slow to import

    T = reconstruction.T_camera_world
    quaternions = Rotation.from_matrix(T[:, :3, :3]).as_quat()[:, [3, 0, 1, 2]]
    for row, name in enumerate(reconstruction.names):
        yield row + 1, [*quaternions[row].tolist(), *T[row, :3, 3].tolist()], ids[row], name


def _write_text(
    folder: Path, reconstruction: Reconstruction, cameras: Mapping[ColmapCamera, int], ids: Sequence[int]
) -> None:
    lines = ["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS"]
    for camera, number in cameras.items():
        params = " ".join(map(repr, camera.params))
        lines.append(f"{number} {camera.model} {camera.width} {camera.height} {params}")
    write_lines(folder / "cameras.txt", lines)
    lines = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line with its points"]
    for number, values, camera_id, name in _list_rows(reconstruction, ids):
        lines += [f"{number} {' '.join(map(repr, values))} {camera_id} {name}", ""]
    write_lines(folder / "images.txt", lines)
    write_lines(folder / "points3D.txt", ["# POINT3D_ID X Y Z R G B ERROR TRACK"])


def _write_binary(
    folder: Path, reconstruction: Reconstruction, cameras: Mapping[ColmapCamera, int], ids: Sequence[int]
) -> None:
    with open_atomic(folder / "cameras.bin") as stream:
        stream.write(struct.pack("<Q", len(cameras)))
        for camera, number in cameras.items():
            stream.write(struct.pack("<iiQQ", number, _IDS[camera.model], camera.width, camera.height))
            stream.write(struct.pack(f"<{len(camera.params)}d", *camera.params))
    with open_atomic(folder / "images.bin") as stream:
        stream.write(struct.pack("<Q", len(reconstruction)))
        for number, values, camera_id, name in _list_rows(reconstruction, ids):
            stream.write(
                struct.pack("<i7di", number, *values, camera_id) + name.encode() + b"\0" + struct.pack("<Q", 0)
            )
    with open_atomic(folder / "points3D.bin") as stream:
        stream.write(struct.pack("<Q", 0))
