"""Read cameras of devices, datasets and photogrammetry programs by the names and the form of their numbers.

A text first becomes nested mappings. A mapping is a camera if it has the keys of an entry of CAMERA_FORMATS, whose
programs have units or centers of their own; else keys that mean a focal length and a center, or a matrix K.
"""

import configparser
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.geometry.cameras import make_K
from stadia.io.input_files import name_parser_errors
from stadia.io.number_rows import parse_numbers
from stadia.io.records import formats
from stadia.io.records.formats import CameraFormat, place_keys

Array = NDArray[np.float64]

NEGLIGIBLE = 1e-9  # distortion coefficients up to this size count as 0
UNDISTORT = "undistort the images: docs/how-to/undistort.md"
CUT_PANORAMA = (
    "cut it into pinhole views of 90 degrees, ffmpeg -i IN -vf v360=e:flat:h_fov=90:v_fov=90:yaw=0:w=640:h=640 OUT,"
    " and pass --fov 90"
)
PANORAMAS = ("equirectangular", "spherical", "panorama")


@dataclass(frozen=True)
class CalibratedCamera:
    """One camera of a calibration file.

    name: name of the camera in the file.
    K: (3, 3) intrinsics in pixels.
    size: (height, width) of its images; None if the file does not contain it.
    distortion: lens distortion coefficients as in the file; empty if K belongs to rectified images.
    T_camera_first: (4, 4) motion from the coordinate frame of the file's first camera to this camera's, in metres; None
        if unknown.
    raw_name, raw_distortion: if K belongs to rectified images, the name of the camera of the raw images and its
        distortion coefficients. They are empty if raw images have this K without distortion, or the file lacks them.
    model: name of the distortion model, from the file or its format.
    K_of_frames: K by the name of an image without its suffix, if images have different K.
    other_sizes: K by (height, width) of other images of this camera: the intrinsics of the whole sensor, without the
        crop (region of interest) and the binning that the file describes.
    notes: sentences for the user about what was used and what was left out.
    """

    name: str
    K: Array
    size: tuple[int, int] | None = None
    distortion: tuple[float, ...] = ()
    T_camera_first: Array | None = None
    raw_name: str = ""
    raw_distortion: tuple[float, ...] = ()
    model: str = formats.RADTAN
    K_of_frames: Mapping[str, Array] | None = None
    other_sizes: Mapping[tuple[int, int], Array] | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_distorted(self) -> bool:
        """Return whether any distortion coefficient is large enough to matter (above NEGLIGIBLE)."""
        return any(abs(coefficient) > NEGLIGIBLE for coefficient in self.distortion)

    def find_distortion(self, where: object) -> tuple[str, tuple[float, ...]] | None:
        """Return the distortion model, a key of `formats.COEFFICIENTS`, and all its coefficients; None without
        distortion.

        where: the file, for messages.

        Raises DataError for an unknown model or a wrong number of coefficients.
        """
        if not self.is_distorted:
            return None
        name = formats.MODELS.get(self.model.lower())
        counts = formats.COEFFICIENTS[name] if name is not None else ()
        count = next((count for count in counts if count >= len(self.distortion)), None)
        if name is None or count is None:
            found = f"{len(self.distortion)} coefficients of the distortion {self.model[:40]!r}"
            raise DataError(where, found=found, expected=f"one of {', '.join(formats.MODELS)}", fix=UNDISTORT)
        return name, self.distortion + (0.0,) * (count - len(self.distortion))


_SIDES = (
    *(("width", "height"), ("w", "h"), ("size.width", "size.height"), ("resw", "resh")),
    ("resolution.width", "resolution.height"),  # PhotonVision
)
_FOCALS = tuple(
    (*(f"{word}{axis}" for word in ("f", "fl", "focal", "focallength")), f"{axis}focallength", f"f{other}",
     *(f"{word}.{index}" for word in ("focallength", "fc")), f"focallength.{axis}", "focallength")
    for axis, other, index in (("x", "u", 0), ("y", "v", 1))
)  # fmt: skip
_CENTERS = tuple(
    (*(f"{word}{axis}" for word in ("c", "pp", "principalpoint", "principal", "center")), f"{other}0", f"c{other}",
     *(f"{word}.{index}" for word in ("principalpoint", "cc", "center")), f"principalpoint.{axis}")
    for axis, other, index in (("x", "u", 0), ("y", "v", 1))
)  # fmt: skip
_ROWS_OF_FOUR = ("intrinsics", "intrinsics.data", "intrinsic", "projection", "calibration")
_FOCALS_MM = ("focallengthmm", "focallength", "lens")
_SENSORS_MM = ("sensorwidth", "horizontalaperture", "aperture.0", "sensorsize.0", "sensorsize.x")
_SIZE_NAME = re.compile("size|resolution|dim")
_LENS_NAME = re.compile("(?<!un)dist|coeff|^kc$|^d$")
_MODEL_NAME = re.compile("model|type|dist|lens|proj")
"""Names, as `normalize_key` returns them, of fx and fy, cx and cy, lists fx fy cx cy (which may continue with the
distortion), focal lengths and sensors in mm, lists of width and height, of distortion coefficients, and models.
"""

MIN_FOCAL_PX = 8.0  # smaller ones are shares of the image, or metres

ZED_SIZES = {"2K": (2208, 1242), "FHD": (1920, 1080), "FHD1200": (1920, 1200), "QHDPLUS": (3200, 1800),
             "HD": (1280, 720), "SVGA": (960, 600), "VGA": (672, 376)}  # fmt: skip
"""Width and height for the resolutions in the section names of a ZED's .conf, such as LEFT_CAM_HD."""

_IGNORED_LENS = ("k4", "k5", "k6", "b1", "b2", "s1", "s2")  # named in a note if a program states them and no model fits
_MAX_DEPTH, MAX_MAPPINGS = 8, 2000


def refuse_panorama(where: object, model: str) -> None:
    """Raise DataError if a camera model is panoramic, or orthographic and so has no focal length.

    where: the file that an error message names.
    model: name of the camera model in the file.
    """
    name = model.lower()
    if any(word in name for word in (*PANORAMAS, "omnidirectional", "vr180")):
        raise DataError(where, found=f"the camera model {model[:40]}, which is not a pinhole",
                        expected="a pinhole camera, or a fisheye lens", fix=CUT_PANORAMA)  # fmt: skip
    if "orthophoto" in name or "orthographic" in name:
        raise DataError(where, found=f"the camera model {model[:40]}, which has no focal length",
                        expected="a pinhole camera", fix="render the views as PERSPECTIVE")  # fmt: skip


@lru_cache(maxsize=4096)
def normalize_key(key: str) -> str:
    """Return a key in small letters, without the signs between its words, a word for camera in front, and "_px".

    Examples:
        >>> normalize_key("focal_length_x"), normalize_key("cameraFocalLengthX"), normalize_key("K.data")
        ('focallengthx', 'focallengthx', 'k.data')
    """
    return re.sub(r"_px_?$|[^a-z0-9.]+", "", _CAMERA_WORD.sub(r"\1", key).lower())


_CAMERA_WORD = re.compile(r"(^|\.)(?:camera|cam|image|img)_?(?=[A-Za-z]\w)")


def read_cameras_by_keys(path: Path, content: Any, *, has_matrices: bool = True) -> list[CalibratedCamera]:
    """Find the cameras in nested mappings, such as parsed JSON, by their keys and the form of their numbers.

    The result is empty if no mapping is a camera.

    path: the file, for messages.
    content: nested mappings and lists.
    has_matrices: whether matrices and lists of numbers count too, under any key.

    Raises DataError if a number of a camera is missing or wrong.
    """
    found, known = list[CalibratedCamera](), set[tuple[str, bytes]]()
    for name, values in walk_mappings(content):
        flat = _flatten_keys(values)
        rows = _find_keys(flat, has_matrices=has_matrices)
        for keys in rows:
            own = str(flat.get(keys.name_key) or name)
            matrix = _INDEX.sub("", keys.K[0]).removesuffix(".data")
            own = f"{own} {matrix}".strip() if len(rows) > 1 else own
            camera = _make_camera(path, own or keys.program or "camera", keys, flat)
            identity = (camera.name, camera.K.tobytes())
            # a matrix of OpenCV, {"K_1": {"data": ...}}, is met in the mapping around it first, next to its lens
            if any(camera.distortion) or identity not in known:
                found.append(camera)
            known.add(identity)
    found.sort(key=lambda camera: camera.name.lower().endswith("depth"))  # images are of the color camera
    adjusted = [camera for camera in found if camera.name.endswith("adjusted")]
    found = adjusted or found
    if found and all(_is_same(camera, found[0]) for camera in found):  # one camera in the entry of each image
        return found[:1]
    names = {camera.name for camera in found}
    is_unique = len(names) == len(found)
    return found if is_unique else [replace(camera, name=f"{camera.name}-{k}") for k, camera in enumerate(found)]


def read_camera_by_keys(where: str, values: Mapping[str, Any]) -> CalibratedCamera:
    """Return the camera whose numbers a mapping has under the keys of an entry of CAMERA_FORMATS.

    where: the file and the camera, for messages.
    values: the values by key.

    Raises DataError if a number is missing or wrong, or the camera is a panorama.
    """
    flat = _flatten_keys(values)
    rows = _find_keys(flat, has_matrices=False)
    if not rows:
        model = next((str(value) for key, value in values.items() if "type" in key and isinstance(value, str)), "")
        refuse_panorama(where, model)
        found = f"no focal length among {', '.join(map(str, list(values)[:8]))}"
        raise DataError(where, found=found, expected="a camera", fix="export the cameras again")
    return _make_camera(where, "camera", rows[0], flat)


def _find_keys(flat: Mapping[str, Any], *, has_matrices: bool) -> list[CameraFormat]:
    """Return the keys of a mapping's cameras as the mapping spells them: one, or one for each matrix K."""
    spelled = {normalize_key(key): key for key in list(flat)[::-1]}

    def spell(key: str) -> str:
        return key if key in flat or not key else spelled.get(normalize_key(key), key)

    for row in formats.CAMERA_FORMATS:
        if all(spell(key) in flat for key in row.required):
            sensor = spell(row.sensor_mm) if isinstance(row.sensor_mm, str) else row.sensor_mm
            row = replace(row, K=tuple(map(spell, row.K)), lens=tuple(map(spell, row.lens)), sensor_mm=sensor)
            size = spell(row.size[0]), spell(row.size[1])
            return [replace(row, size=size, model_key=spell(row.model_key), name_key=spell(row.name_key))]
    names = (*_FOCALS, *_CENTERS, _FOCALS_MM, _SENSORS_MM)
    *K, focal, sensor = (next((spelled[one] for one in group if one in spelled), "") for group in names)
    if focal and sensor and (not all(K) or focal == K[0]):
        row = _complete_keys(flat, spelled, "", (focal, focal, "", ""))
        return [replace(row, lens=(), unit="sides", center="middle", sensor_mm=sensor)]
    if all(K):
        return [_complete_keys(flat, spelled, "", tuple(K))]
    if not has_matrices:
        return []
    for key in (spelled.get(name, "") for name in _ROWS_OF_FOUR):
        numbers = parse_numbers([str(value) for value in flat[key]]) if isinstance(flat.get(key), list) else np.empty(0)
        if 4 <= len(numbers) <= 12 and numbers[:2].min() > MIN_FOCAL_PX and 0.5 < numbers[0] / numbers[1] < 2:
            further = place_keys(key, *range(4, len(numbers)))
            return [_complete_keys(flat, spelled, "", place_keys(key, *range(4)), further)]
    places = {key: _find_places(value) for key, value in flat.items() if "." not in key.removesuffix(".data")}
    return [_complete_keys(flat, spelled, key, place_keys(key, *place)) for key, place in places.items() if place]


def _find_places(value: Any) -> tuple[int, ...]:
    """Return the places of fx, fy, cx and cy if a list has the 9, 12 or 16 numbers of a K, in rows or columns."""
    numbers = parse_numbers([str(number) for number in value]) if isinstance(value, list) else np.empty(0)
    shape = {9: (3, 3), 12: (3, 4), 16: (4, 4)}.get(len(numbers))
    if shape is None:
        return ()
    M, side = numbers.reshape(shape), shape[1]
    for K, places in ((M, (0, side + 1, 2, side + 2)), (M.T, (0, side + 1, 2 * side, 2 * side + 1))):
        is_upper = not K[1:, 0].any() and not K[2, :2].any() and not K[:3, 3:].any()
        is_pixels = min(K[0, 0], K[1, 1]) > MIN_FOCAL_PX or K[:2, 2].max() < 1  # else no camera, or shares of the image
        if is_upper and K[2, 2] == 1 and min(K[0, 0], K[1, 1], *K[:2, 2]) > 0 and is_pixels:
            return places
    return ()


def _complete_keys(
    flat: Mapping[str, Any], spelled: Mapping[str, str], key: str, K: tuple[str, ...], lens: tuple[str, ...] = ()
) -> CameraFormat:
    """Return the keys of a camera with those of its size, distortion and model, which a mapping has under known names.

    key: key of its matrix, whose words, such as color, may be in the key of the size; "" without a matrix.
    """
    name = normalize_key(key)
    words = sorted((one.removesuffix("width") for one in spelled if one.endswith("width")), reverse=True)
    sides = [*((f"{word}width", f"{word}height") for word in words if word and word in name), *_SIDES]
    size = next(((spelled[one], spelled[two]) for one, two in sides if one in spelled and two in spelled), ("", ""))
    pairs = (key for one, key in spelled.items() if _SIZE_NAME.search(one) and np.size(flat[key]) == 2)
    if (pair := next(pairs, "")) and not all(size):  # height and width, if the center is then nearer to the middle
        numbers = [parse_numbers([str(flat.get(one, 0))]) for one in (*K[2:], f"{pair}.0", f"{pair}.1")]
        x, y, *sides_px = (float(number.sum()) for number in numbers)
        swapped = [abs(x - one / 2) + abs(y - two / 2) for one, two in (sides_px, sides_px[::-1])]
        size = (f"{pair}.0", f"{pair}.1") if swapped[0] <= swapped[1] else (f"{pair}.1", f"{pair}.0")
    lists = [key for one, key in spelled.items() if _LENS_NAME.search(one) and isinstance(flat[key], list)]
    if number := _LAST_NUMBER.search(key):  # K_1 has dist_1, and not dist_2
        lists = [one for one in lists if (last := _LAST_NUMBER.search(one)) is None or last[1] == number[1]]
    radial, tangential = (next((key for key in lists if word in normalize_key(key)), "") for word in ("radi", "tang"))
    if radial and tangential:
        lens = (*place_keys(radial, 0, 1), *place_keys(tangential, 0, 1), f"{radial}.2")
    texts = (key for one, key in spelled.items() if _MODEL_NAME.search(one) and isinstance(flat[key], str))
    model_key = next((key for key in texts if find_model(flat[key])), "")
    is_fisheye = bool(model_key) and find_model(flat[model_key]) == formats.EQUIDISTANT
    scalars = _DIGITS if "d0" in spelled else formats.FISHEYE if is_fisheye else formats.RADIAL
    within = {one.rpartition(".")[2]: key for one, key in spelled.items() if "." in one and _LENS_NAME.search(one)}
    lens = lens or tuple(lists[:1]) or tuple(spelled.get(one, within.get(one, one)) for one in scalars)
    return CameraFormat("", K, size, lens, model_key=model_key)


_LAST_NUMBER = re.compile(r"(\d+)(?:\.data)?$")
_DIGITS = tuple(f"d{index}" for index in range(5))


def find_model(name: str) -> str:
    """Return "radtan", "equidistant" or "fov" for the name of a model in another program; the name itself if the model
    is known and cannot be read; "" for another word.
    """
    known = formats.MODELS.get(name.lower().replace(" ", "_"))
    if known is None and re.search("equidistant|fisheye|kannala", name, re.IGNORECASE):
        return formats.EQUIDISTANT
    if known is None and re.search("distortedpinhole", name, re.IGNORECASE):  # Kalibr's results
        return formats.RADTAN
    is_other = name.lower() in _UNREADABLE or any(word in name.lower() for word in PANORAMAS)
    return known or (name if is_other else "")


_UNREADABLE = ("ds", "eucm", "ucm", "mei", "scaramuzza", "unified", "ftheta")
_MODEL_AS_KEY = re.compile(rf"{'|'.join(_UNREADABLE)}|kannala\w+", re.IGNORECASE)
"""Name of a mapping that is the model of its camera."""


def _is_same(camera: CalibratedCamera, other: CalibratedCamera) -> bool:
    keys = (camera.name, camera.size, camera.distortion, camera.model)
    return keys == (other.name, other.size, other.distortion, other.model) and np.array_equal(camera.K, other.K)


def walk_mappings(
    content: Any, name: str = "", depth: int = 0, size: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name and values of each mapping in nested mappings and lists, the outermost first.

    Keys with dots become nested mappings, and mappings have the width and height of those around them.
    """
    if depth > _MAX_DEPTH:
        return
    if isinstance(content, Mapping):
        content = _nest_keys(content)
        own_names = {normalize_key(key) for key in content}
        content |= {key: value for key, value in (size or {}).items() if normalize_key(key) not in own_names}
        yield name, content
        size = {key: value for key, value in content.items() if normalize_key(key) in ("width", "height")}
        own = content.get("key")  # of an entry {"key": ..., "value": ...}
        inner = [(own if isinstance(own, str) else str(key), value) for key, value in content.items()]
    elif isinstance(content, list):
        named = [_find_own_name(value, name) for value in content[:MAX_MAPPINGS]]
        inner = [(own if isinstance(own, str) else name, value) for own, value in zip(named, content, strict=False)]
    else:
        return
    for key, value in inner:
        if isinstance(value, Mapping | list):
            yield from walk_mappings(value, key, depth + 1, size)


def _find_own_name(value: Any, name: str) -> Any:
    """Return the id of an entry of a list, or the name with the number of a pair [number, values], as OAK has it."""
    if isinstance(value, Mapping):
        return value.get("id")
    is_pair = isinstance(value, list) and len(value) == 2 and type(value[0]) is int and isinstance(value[1], Mapping)
    return f"{name}-{value[0]}" if is_pair else None


def _nest_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with {"a": {"b": value}} for keys "a.b", as tables of pandas have them."""
    nested = dict[str, Any]()
    for key, value in values.items():
        first, _, rest = str(key).partition(".")
        if rest and not isinstance(value, Mapping | list) and isinstance(nested.setdefault(first, {}), dict):
            nested[first][rest] = value
        else:
            nested[str(key)] = value
    return nested


def _flatten_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers and texts of a mapping, with "key.inner" for those one level below and "key.0" in lists."""
    flat = dict[str, Any]()
    for key, value in values.items():
        if isinstance(value, Mapping):
            inner = {f"{key}.{name}": entry for name, entry in _flatten_keys(value).items()}
            flat |= {name: entry for name, entry in inner.items() if name.count(".") <= 2}
        elif isinstance(value, list):
            numbers = flatten_numbers(value)
            flat[key] = numbers
            flat |= {f"{key}.{index}": number for index, number in enumerate(numbers[:16])}
        else:
            flat[str(key)] = value
    return flat


def flatten_numbers(values: Any) -> list[Any]:
    """Return the entries of arbitrarily nested lists as one list, in order; None gives an empty list."""
    if not isinstance(values, list | tuple):
        return [] if values is None else [values]
    return [number for value in values for number in flatten_numbers(value)]


def _number(path: object, flat: Mapping[str, Any], key: str) -> float:
    value = flat[key]
    numbers = parse_numbers([str(value[0] if isinstance(value, list) and value else value)])
    if len(numbers) != 1:
        raise DataError(path, found=f"{key} = {str(value)[:40]}", expected="a finite number")
    return float(numbers[0])


def _make_camera(path: object, name: str, keys: CameraFormat, flat: Mapping[str, Any]) -> CalibratedCamera:
    where = f"{path} {name}"
    model = str(flat.get(keys.model_key) or keys.model) if keys.model_key else keys.model
    if not keys.model_key and _MODEL_AS_KEY.fullmatch(name):  # {"EUCM": {"fx": ...}}, as camera-intrinsic-model has it
        model = name
    model = model.replace(" ", "_")
    model = model if model.lower() in formats.MODELS else find_model(model) or model
    refuse_panorama(where, model)
    if model.lower() in _UNREADABLE:
        fix = f"calibrate with a model that is read (pinhole-radtan, pinhole-equi of Kalibr), or {UNDISTORT}"
        raise DataError(
            where, found=f"the camera model {model}", expected=f"one of {', '.join(formats.MODELS)}", fix=fix
        )
    size = None
    if all(key in flat for key in keys.size):
        width, height = (int(_number(path, flat, key)) for key in keys.size)
        size = (height, width)
    fx, fy = (_number(path, flat, key) for key in keys.K[:2])
    if keys.program == "Metashape" and "b1" in flat:
        fx += _number(path, flat, "b1")  # of a file of the calibration alone
    cx, cy = (_number(path, flat, key) if key in flat else 0.0 for key in keys.K[2:])
    sensor_mm = keys.sensor_mm or 0.0
    sensor_mm = _number(path, flat, sensor_mm) if isinstance(sensor_mm, str) else sensor_mm
    if size is None and sensor_mm:
        found, expected = f"{keys.K[0]} = {fx:g} mm, and no size of the images", "a focal length in pixels"
        raise DataError(where, found=found, expected=expected, fix=f"pass --focal-mm {fx * 36 / sensor_mm:g}")
    if size is None and (keys.unit != "pixels" or keys.center == "middle"):
        expected = f"{keys.size[0]} and {keys.size[1]} of the images"
        raise DataError(where, found="no size", expected=expected, fix="export the calibration again with the size")
    height, width = size or (0, 0)
    scales = {"pixels": (1.0, 1.0), "longer side": (float(max(height, width)),) * 2, "sides": (width, height)}[
        keys.unit
    ]
    if sensor_mm:
        fx, fy = fx / sensor_mm, fy * scales[0] / scales[1] / sensor_mm
    middle = ((width - 1) / 2, (height - 1) / 2) if keys.center == "middle" else (0.0, 0.0)
    if keys.program == "Meshroom" and abs(cx) < width / 4 and abs(cy) < height / 4:
        middle = ((width - 1) / 2, (height - 1) / 2)  # newer versions store the offset from the middle
    shift = {"corner": formats.FIRST_PIXEL, "one": 1.0}.get(keys.center, 0.0)
    center = scales[0] * cx + middle[0] - shift, scales[1] * cy + middle[1] - shift
    K = make_K(where, scales[0] * fx, scales[1] * fy, *center)
    distortion, lens, notes = _read_lens(path, keys, flat, model)
    names = (*filter(None, keys.K), *(lens if any(distortion) else ()))
    program = f"{keys.program}: " if keys.program else ""
    used = program + ", ".join(dict.fromkeys(_INDEX.sub("", key) for key in names))
    if not (keys.program or keys.model_key) and len(distortion) == 4 and any(distortion):
        notes.append("note: no model is named: the four coefficients are read as k1, k2, p1, p2, not as a fisheye lens")
    return CalibratedCamera(name, K, size, distortion, model=model, notes=(f"note: used {used} of {name}", *notes))


_INDEX = re.compile(r"\.\d+$")


def _read_lens(
    path: object, keys: CameraFormat, flat: Mapping[str, Any], model: str
) -> tuple[tuple[float, ...], tuple[str, ...], list[str]]:
    """Return the coefficients, the keys that state them, and notes about coefficients that no model uses."""
    is_fisheye = formats.MODELS.get(model.lower()) == formats.EQUIDISTANT
    lens = keys.lens
    if lens in (formats.RADIAL, formats.METASHAPE_LENS) and is_fisheye:
        lens = formats.FISHEYE
    if len(lens) == 1:
        values = flatten_numbers(flat.get(lens[0], flat.get(f"{lens[0]}.0", [])))
        distortion = tuple(float(value) for value in parse_numbers([str(value) for value in values]))
        if keys.program == "Meshroom" and not is_fisheye and 0 < len(distortion) <= 5:
            k1, k2, k3, p1, p2 = distortion + (0.0,) * (5 - len(distortion))
            distortion = (k1, k2, p1, p2, k3)
        return distortion[:4] if is_fisheye else distortion, lens, []
    distortion = tuple(_number(path, flat, key) if key in flat else 0.0 for key in lens)
    unused = [key for key in _IGNORED_LENS if key in flat and key not in lens and abs(_number(path, flat, key)) > 1e-9]
    unused = [key for key in unused if (keys.program, key) != ("Metashape", "b1")]  # a part of fx
    notes = [f"note: {', '.join(unused)} have no place in the model and are not used"] if unused else []
    return distortion, tuple(key for key in lens if key in flat), notes


# -- texts that become mappings


def parse_xml_tree(path: Path, text: str, expected: str) -> Any:
    """Parse XML to nested mappings, as `convert_xml` returns them.

    Takes the same arguments and raises the same exceptions as `parse_xml`.
    """
    tree = parse_xml(path, text, expected)
    with name_parser_errors(path, expected=expected):
        return convert_xml(tree)


def parse_xml(path: Path, text: str, expected: str) -> ElementTree.Element:
    """Parse XML without a document type, so that no entity can expand or read a file.

    path: the file, for messages.
    text: its content.
    expected: what the file should be, for messages.

    Raises DataError for invalid XML, or XML with a document type.
    """
    if "<!" in text.replace("<!--", ""):  # entities of a document type may expand without end
        raise DataError(path, found="a document type in XML", expected=expected, fix="remove the line <!DOCTYPE ...>")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise DataError(path, found=f"invalid XML ({error})", expected=expected, fix="copy the file again") from error


def convert_xml(element: ElementTree.Element) -> Any:
    """Return an element as nested mappings: attributes and tags as keys, lists for repeated tags, text for leaves.

    The keys of the attributes type and class begin with "@"; tags with a class have it behind them.
    """
    children = list(element)
    if not children and not element.attrib:
        return (element.text or "").strip()
    own = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    values: dict[str, Any] = {f"@{key}" if key in ("type", "class") else key: value for key, value in own.items()}
    repeated = dict[str, list[Any]]()
    for child in children:
        tag = child.tag.rpartition("}")[2]  # without its namespace
        name = f"{tag} {child.attrib['class']}" if "class" in child.attrib else tag
        repeated.setdefault(name, []).append(convert_xml(child))
    return values | {name: entries if len(entries) > 1 else entries[0] for name, entries in repeated.items()}


_DSO_MODELS = {
    "fov": (formats.FOV, 1),
    "pinhole": (formats.RADTAN, 0),
    "radtan": (formats.RADTAN, 4),
    "equidistant": (formats.EQUIDISTANT, 4),
    "kannalabrandt": (formats.EQUIDISTANT, 4),
    "": (formats.FOV, 1),
}


def read_text_camera(path: Path, text: str) -> list[CalibratedCamera]:
    """Read the cameras of a plain text file of DSO, LSD-SLAM (camera.txt), a .pincam, ZED (.conf) or RealSense.

    The list is empty if the text has another form.

    path: the file, for messages.
    text: its content.
    """
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    rows = [words for words in lines if words]
    if len(rows) == 1 and len(row := parse_numbers(rows[0])) == 6 and row[0] > row[2] / 8 and row[0] == int(row[0]):
        K = make_K(path, *row[2:])
        return [CalibratedCamera("pincam", K, (int(row[1]), int(row[0])), notes=(
            "note: used width, height, fx, fy, cx, cy of the .pincam",))]  # fmt: skip
    if len(rows) >= 6 and all(len(words) == 2 for words in rows[:6]) and (both := _read_infinitam(path, rows)):
        return both
    if len(rows) >= 2 and (camera := _read_dso(path, rows)) is not None:
        return [camera]
    if matrices := _MIDDLEBURY_MATRIX.findall(text):
        return _read_middlebury(path, matrices, dict(_KEY_LINE.findall(text)))
    if re.search(r"^\s*\[(LEFT|RIGHT)_CAM_", text, re.MULTILINE):
        return _read_zed(path, text)
    if re.search(r"^\s*PPX\s*:", text, re.MULTILINE | re.IGNORECASE):
        return _read_realsense(path, text)
    return read_cameras_by_keys(path, _parse_key_lines(text))


def _read_infinitam(path: Path, rows: Sequence[Sequence[str]]) -> list[CalibratedCamera]:
    """Return the color and the depth camera of InfiniTAM's calib.txt: rows of the size, fx fy, and cx cy of each."""
    numbers = parse_numbers([word for words in rows[:6] for word in words])
    if len(numbers) != 12:
        return []
    cameras = list[CalibratedCamera]()
    for name, (size, focal, center) in zip(("color", "depth"), numbers.reshape(2, 3, 2), strict=True):
        width, height = map(int, size)
        note = f"note: used the {name} camera of InfiniTAM"
        cameras.append(CalibratedCamera(name, make_K(path, *focal, *center), (height, width), notes=(note,)))
    return cameras


def _parse_key_lines(text: str) -> dict[str, Any]:
    """Return the values of lines "key: value" or "key = value", below the name of a line "name:" before them.

    Several numbers are a list; the standard deviations after +- of Kalibr and MATLAB are left out.
    """
    content = dict[str, Any]()
    inner = content
    for key, text_of_value in _KEY_LINE.findall(text):
        value = re.split(r"\+/?-", text_of_value)[0].strip()
        numbers = parse_numbers(re.sub(r"[\[\](),;]", " ", value).split())
        if not value:
            inner = content.setdefault(key, {})
        else:
            inner.setdefault(key, numbers.tolist() if len(numbers) > 1 else value)
    return content


def _read_dso(path: Path, rows: Sequence[Sequence[str]]) -> CalibratedCamera | None:
    named = not len(parse_numbers(rows[0][:1]))
    name = rows[0][0].lower() if named else ""
    values, size = parse_numbers(rows[0][1:] if named else rows[0]), parse_numbers(rows[1])
    if name not in _DSO_MODELS or len(size) != 2 or (size < 2).any() or (size != np.rint(size)).any():
        return None
    model, count = _DSO_MODELS[name]
    count = 4 if name == "pinhole" and len(values) == 8 else count
    if not len(values) and named is False:
        return None
    if name == "pinhole" and len(values) == 5:
        model, count = formats.FOV, 1
    if len(values) != 4 + count:
        return None
    width, height = size
    fx, fy, cx, cy = values[:4]
    unit = "pixels"
    if cx < 1 and cy < 1:
        fx, fy, cx, cy, unit = fx * width, fy * height, cx * width - 0.5, cy * height - 0.5, "shares of the size"
    distortion = tuple(float(value) for value in values[4:])
    note = f"note: used the first two rows of {path.name}: {rows[0][0] if named else 'FOV'}, in {unit}"
    left = "; the output size in rows 3 and 4 is not used" if len(rows) > 2 else ""
    K = make_K(path, fx, fy, cx, cy)
    return CalibratedCamera("camera.txt", K, (int(height), int(width)), distortion, model=model, notes=(note + left,))


_MIDDLEBURY_MATRIX = re.compile(r"^(cam\d) *= *\[([-+.\deE; ]+)\]", re.MULTILINE)


def _read_middlebury(
    path: Path, matrices: Sequence[Sequence[str]], values: Mapping[str, str]
) -> list[CalibratedCamera]:
    """Return the rectified cameras of Middlebury's calib.txt, whose baseline is in millimetres."""
    size = [int(_number(path, values, key)) for key in ("height", "width") if key in values]
    cameras = list[CalibratedCamera]()
    for name, text in matrices:
        K, T = parse_numbers(text.replace(";", " ").split()), np.eye(4)
        T[0, 3] = -_number(path, values, "baseline") / 1000 if cameras and "baseline" in values else 0
        if len(K) != 9:
            raise DataError(f"{path} {name}", found=f"{len(K)} numbers", expected="9, [fx 0 cx; 0 fy cy; 0 0 1]")
        K = make_K(f"{path} {name}", *K[[0, 4, 2, 5]])
        cameras.append(CalibratedCamera(name, K, (size[0], size[1]) if len(size) == 2 else None, T_camera_first=T))
    return cameras


def _read_zed(path: Path, text: str) -> list[CalibratedCamera]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise DataError(
            path, found="an invalid .conf of a ZED", expected="sections such as [LEFT_CAM_HD] with fx and fy"
        ) from error
    content = dict[str, Any]()
    for section in parser.sections():
        side, _, resolution = section.partition("_CAM_")
        if side in ("LEFT", "RIGHT") and resolution in ZED_SIZES:
            width, height = ZED_SIZES[resolution]
            content[section] = {**parser[section], "width": width, "height": height}
    return read_cameras_by_keys(path, content)


_KEY_LINE = re.compile(r"^[ \t]*(\w+)(?:[ \t]*\([^)\n]*\))?[ \t]*[=:][ \t]*(.*)$", re.MULTILINE)
_REALSENSE_BLOCK = re.compile(r"^ *Intrinsic of (.*?)\s*/\s*(\d+x\d+)", re.MULTILINE)


def _read_realsense(path: Path, text: str) -> list[CalibratedCamera]:
    starts = [match.start() for match in _REALSENSE_BLOCK.finditer(text)] or [0]
    content = dict[str, Any]()
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        block = text[start:end]
        name = _REALSENSE_BLOCK.match(block)
        values: dict[str, Any] = {
            key.strip().lower(): value.strip() for key, value in re.findall(r"^ *([A-Za-z]+) *: *(.*)$", block, re.M)
        }
        values["coeffs"] = str(values.get("coeffs", "")).split()
        content.setdefault(re.sub(r'[" ]', "", "-".join(name.groups())) if name else "camera", values)
    return read_cameras_by_keys(path, content)
