"""Read cameras of devices, datasets and photogrammetry programs by one table of the keys of their numbers.

A text first becomes nested mappings. Each mapping that has the keys of an entry of the table is a camera.
"""

import configparser
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.data.lens_distortion import DISTORTION_MODELS, EQUIDISTANT, FOV, RADTAN
from stadia.geometry.numpy_camera import make_K
from stadia.io.array_files import parse_numbers

Array = NDArray[np.float64]

NEGLIGIBLE = 1e-9  # distortion coefficients up to this size count as 0
FIRST_PIXEL = 0.5  # its center in COLMAP, nerfstudio and Metashape, in pixels; 0 in stadia's K
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
    model: str = RADTAN
    K_of_frames: Mapping[str, Array] | None = None
    other_sizes: Mapping[tuple[int, int], Array] | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_distorted(self) -> bool:
        """Return whether any distortion coefficient is large enough to matter (above NEGLIGIBLE)."""
        return any(abs(coefficient) > NEGLIGIBLE for coefficient in self.distortion)

    def find_distortion(self, where: object) -> tuple[str, tuple[float, ...]] | None:
        """Return the distortion model, a name of `DISTORTION_MODELS`, and all its coefficients; None without
        distortion.

        where: the file, for messages.

        Raises DataError for an unknown model or a wrong number of coefficients.
        """
        if not self.is_distorted:
            return None
        name = MODELS.get(self.model.lower())
        counts = DISTORTION_MODELS[name].counts if name is not None else ()
        count = next((count for count in counts if count >= len(self.distortion)), None)
        if name is None or count is None:
            found = f"{len(self.distortion)} coefficients of the distortion {self.model[:40]!r}"
            raise DataError(where, found=found, expected=f"one of {', '.join(MODELS)}", fix=UNDISTORT)
        return name, self.distortion + (0.0,) * (count - len(self.distortion))


MODELS = {  # names in Kalibr, ROS, EuRoC, ORB-SLAM, VINS, nerfstudio and the programs below, in lower case
    **dict.fromkeys(
        (RADTAN, "radtan", "plumb_bob", "rational_polynomial", "brown_conrady", "modified_brown_conrady", "opencv",
         "pinhole", "simple_pinhole", "simple_radial", "radial", "full_opencv", "perspective", "brown", "frame",
         "pinhole-radtan8", "radial1", "radial3", "brown3", "radialk1", "radialk3", "standard", "opencv_standard",
         "radialtangential", "telecam", "none"), RADTAN),
    **dict.fromkeys(
        (EQUIDISTANT, "fisheye", "kannala_brandt", "kannala_brandt4", "kannalabrandt", "kannalabrandt8", "kb4",
         "opencv_fisheye", "fisheye_opencv", "equidist", "fisheye4", "equidistant4"), EQUIDISTANT),
    FOV: FOV,
}  # fmt: skip
"""Distortion model ("radtan", "equidistant" or "fov", as stadia names them) by its name in other programs, in lower
case.
"""

RADIAL, FISHEYE = ("k1", "k2", "p1", "p2", "k3"), ("k1", "k2", "k3", "k4")


@dataclass(frozen=True)
class CameraKeys:
    """Which keys a program uses in its files for the numbers of a camera.

    program: name of the program.
    K: keys of fx, fy, cx and cy. Empty keys of cx and cy mean the middle of the image.
    size: keys of width and height.
    lens: keys of the distortion coefficients in OpenCV's order.
    model: distortion model of the program's cameras.
    model_key: key whose value names the distortion model; "" if there is none.
    unit: unit of the numbers of K: pixels, shares of the longer image side, or shares of width (x) and height (y).
    center: the position that cx = cy = 0 refers to: the first pixel's center ("pixel"), its outer corner ("corner"),
        or the middle of the image ("middle").
    also: keys that the program's cameras have too, if those of the numbers are common.
    name_key: key of the camera's name; "" if the name is the key of the camera's values.
    """

    program: str
    K: tuple[str, ...]
    size: tuple[str, str]
    lens: tuple[str, ...] = RADIAL
    model: str = RADTAN
    model_key: str = ""
    unit: Literal["pixels", "longer side", "sides"] = "pixels"
    center: Literal["pixel", "corner", "middle"] = "pixel"
    also: tuple[str, ...] = ()
    name_key: str = ""

    @property
    def required(self) -> tuple[str, ...]:
        """Return the keys that a camera must have. Metashape leaves out cx and cy if they are 0."""
        numbers = (*self.K[:2], *self.size) if self.program == "Metashape" else filter(None, self.K)
        return (*numbers, *self.also)


def _place(key: str, *indices: int | None) -> tuple[str, ...]:
    """Return the keys of numbers of a list by their places in it; None leaves a number out."""
    return tuple("" if index is None else f"{key}.{index}" for index in indices)


_METASHAPE_LENS = ("k1", "k2", "p2", "p1", "k3")  # its p1 and p2 are OpenCV's p2 and p1
CAMERA_KEYS = (
    CameraKeys("Metashape", ("f", "f", "cx", "cy"), ("resolution.width", "resolution.height"), _METASHAPE_LENS,
               model_key="@type", center="middle"),
    CameraKeys("Metashape", ("f", "f", "cx", "cy"), ("width", "height"), _METASHAPE_LENS, model_key="projection",
               center="middle"),
    CameraKeys("OpenSfM", ("focal_x", "focal_y", "c_x", "c_y"), ("width", "height"), model_key="projection_type",
               unit="longer side", center="middle"),
    CameraKeys("OpenSfM", ("focal", "focal", "", ""), ("width", "height"), model_key="projection_type",
               unit="longer side", center="middle"),
    *(CameraKeys("VINS", tuple(f"projection_parameters.{key}" for key in K), ("image_width", "image_height"), lens,
                 model_key="model_type", name_key="camera_name")
      for K, lens in (
          (("fx", "fy", "cx", "cy"), tuple(f"distortion_parameters.{key}" for key in RADIAL[:4])),
          (("mu", "mv", "u0", "v0"), tuple(f"projection_parameters.k{order}" for order in (2, 3, 4, 5))),
          (("gamma1", "gamma2", "u0", "v0"), ()))),
    CameraKeys("RealSense", ("fx", "fy", "ppx", "ppy"), ("width", "height"), ("coeffs",), model_key="distortion"),
    CameraKeys("Basalt", ("fx", "fy", "cx", "cy"), ("width", "height"), model_key="camera_type", also=("camera_type",)),
    CameraKeys("camera", ("fx", "fy", "cx", "cy"), ("width", "height")),
    CameraKeys("Cityscapes", ("fx", "fy", "u0", "v0"), ("width", "height"), ()),
    CameraKeys("ScanNet", ("fx_color", "fy_color", "mx_color", "my_color"), ("colorWidth", "colorHeight"), ()),
    CameraKeys("Azure Kinect", tuple(f"Intrinsics.ModelParameters.{index}" for index in (2, 3, 0, 1)),
               ("SensorWidth", "SensorHeight"),
               tuple(f"Intrinsics.ModelParameters.{index}" for index in (4, 5, 13, 12, 6, 7, 8, 9)),
               unit="sides", center="corner", name_key="Purpose"),
    CameraKeys("Aria", ("Projection.Params.0", "Projection.Params.0", "Projection.Params.1", "Projection.Params.2"),
               ("width", "height"), tuple(f"Projection.Params.{index}" for index in range(3, 15)),
               model_key="Projection.Name", name_key="Label"),
    *(CameraKeys(program, (f"{key}.0", f"{key}.4", f"{key}.2", f"{key}.5"), ("width", "height"), ())
      for key, program in (("camera_intrinsic", "nuScenes"), ("cam_K", "BOP"), ("intrinsic", "ScanNet++"),
                           ("intrinsics", "3D Scanner App"))),
    CameraKeys("MASt3R-SLAM", tuple(f"calibration.{index}" for index in range(4)), ("width", "height"),
               tuple(f"calibration.{index}" for index in range(4, 9))),
    CameraKeys("3D Gaussian Splatting", ("fx", "fy", "", ""), ("width", "height"), (), center="middle",
               also=("img_name",)),
    CameraKeys("camera", ("intrinsicMatrix.0", "intrinsicMatrix.4", "intrinsicMatrix.2", "intrinsicMatrix.5"),
               ("width", "height"), ("distortionCoeff",)),
    CameraKeys("Gyroflow", ("fisheye_params.camera_matrix.0", "fisheye_params.camera_matrix.4",
                            "fisheye_params.camera_matrix.2", "fisheye_params.camera_matrix.5"),
               ("calib_dimension.w", "calib_dimension.h"), ("fisheye_params.distortion_coeffs",), EQUIDISTANT,
               model_key="distortion_model"),
    CameraKeys("Meshroom", ("pxFocalLength.0", "pxFocalLength.1", "principalPoint.0", "principalPoint.1"),
               ("width", "height"), ("distortionParams",), model_key="type"),
    CameraKeys("Meshroom", ("pxFocalLength", "pxFocalLength", "principalPoint.0", "principalPoint.1"),
               ("width", "height"), ("distortionParams",), model_key="type"),
    CameraKeys("Argoverse", ("focal_length_x_px_", "focal_length_y_px_", "focal_center_x_px_", "focal_center_y_px_"),
               ("width", "height"), _place("distortion_coefficients_", 0, 1, None, None, 2)),
    CameraKeys("A2D2", tuple(f"CamMatrixOriginal.{index}" for index in (0, 4, 2, 5)), ("Resolution.0", "Resolution.1"),
               ("Distortion",), model_key="Lens"),
    CameraKeys("SVO", tuple(f"intrinsics.data.{index}" for index in range(4)), ("image_width", "image_height"),
               ("distortion.parameters.data",), model_key="distortion.type"),
    CameraKeys("OKVIS", (*_place("focal_length", 0, 1), *_place("principal_point", 0, 1)),
               ("image_dimension.0", "image_dimension.1"), ("distortion_coefficients",), model_key="distortion_type",
               also=("image_dimension.1",)),
    *(CameraKeys("OpenMVG", ("focal_length", "focal_length", *_place("principal_point", 0, 1)), ("width", "height"),
                 _place(key, *order), also=(f"{key}.0",))
      for key, order in (("disto_k1", (0,)), ("disto_k3", (0, 1, None, None, 2)), ("disto_t2", (0, 1, 3, 4, 2)))),
    *(CameraKeys(program, (x, y, *_place(center, 0, 1)), size, (*_place("radial_distortion", 0, 1),
                 *_place("tangential_distortion", 0, 1), "radial_distortion.2"))
      for program, x, y, center, size in (
          ("Nerfies", "focal_length", "focal_length", "principal_point", ("image_size.0", "image_size.1")),
          ("Human3.6M", "focal_length.0", "focal_length.1", "center", ("res_w", "res_h")),
          ("SoccerNet", "x_focal_length", "y_focal_length", "principal_point", ("width", "height")))),
)  # fmt: skip
"""The keys of each program whose files can be read. Entries with more specific keys come first, because the first fit
counts.
"""

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


def read_cameras_by_keys(path: Path, content: Any) -> list[CalibratedCamera]:
    """Find the cameras in nested mappings, such as parsed JSON, by the keys that CAMERA_KEYS lists for each program.

    The result is empty if no program's keys are present.

    path: the file, for messages.
    content: nested mappings and lists.

    Raises DataError if a number of a camera is missing or wrong.
    """
    found = list[CalibratedCamera]()
    for name, values in _walk(content, "", 0):
        flat = _flatten_keys(values)
        for keys in CAMERA_KEYS:
            if all(key in flat for key in keys.required):
                found.append(_make_camera(path, str(flat.get(keys.name_key, name)) or keys.program, keys, flat))
                break
    found.sort(key=lambda camera: camera.name.endswith("Depth"))  # images are of the color camera
    adjusted = [camera for camera in found if camera.name.endswith("adjusted")]
    found = adjusted or found
    if found and all(_is_same(camera, found[0]) for camera in found):  # one camera in the entry of each image
        return found[:1]
    names = {camera.name for camera in found}
    is_unique = len(names) == len(found)
    return found if is_unique else [replace(camera, name=f"{camera.name}-{k}") for k, camera in enumerate(found)]


def _is_same(camera: CalibratedCamera, other: CalibratedCamera) -> bool:
    keys = (camera.name, camera.size, camera.distortion, camera.model)
    return keys == (other.name, other.size, other.distortion, other.model) and np.array_equal(camera.K, other.K)


def _walk(content: Any, name: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name and values of each mapping, the outermost first. A camera's own parts are not yielded again."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(content, Mapping):
        yield name, content
        own = content.get("key")  # of an entry {"key": ..., "value": ...}
        inner = [(own if isinstance(own, str) else str(key), value) for key, value in content.items()]
    elif isinstance(content, list):
        named = [value.get("id") if isinstance(value, Mapping) else None for value in content[:MAX_MAPPINGS]]
        inner = [(own if isinstance(own, str) else name, value) for own, value in zip(named, content, strict=False)]
    else:
        return
    for key, value in inner:
        if isinstance(value, Mapping | list):
            yield from _walk(value, key, depth + 1)


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


def _number(path: Path, flat: Mapping[str, Any], key: str) -> float:
    value = flat[key]
    numbers = parse_numbers([str(value[0] if isinstance(value, list) and value else value)])
    if len(numbers) != 1:
        raise DataError(path, found=f"{key} = {str(value)[:40]}", expected="a finite number")
    return float(numbers[0])


def _make_camera(path: Path, name: str, keys: CameraKeys, flat: Mapping[str, Any]) -> CalibratedCamera:
    where = f"{path} {name}"
    model = str(flat.get(keys.model_key) or keys.model) if keys.model_key else keys.model
    model = model.replace(" ", "_")
    refuse_panorama(where, model)
    if model.lower() in ("ds", "eucm", "ucm", "mei", "scaramuzza", "unified"):
        fix = f"calibrate with a model that is read (pinhole-radtan, pinhole-equi of Kalibr), or {UNDISTORT}"
        raise DataError(where, found=f"the camera model {model}", expected=f"one of {', '.join(MODELS)}", fix=fix)
    size = None
    if all(key in flat for key in keys.size):
        width, height = (int(_number(path, flat, key)) for key in keys.size)
        size = (height, width)
    fx, fy = (_number(path, flat, key) for key in keys.K[:2])
    cx, cy = (_number(path, flat, key) if key in flat else 0.0 for key in keys.K[2:])
    if size is None and (keys.unit != "pixels" or keys.center == "middle"):
        expected = f"{keys.size[0]} and {keys.size[1]} of the images"
        raise DataError(where, found="no size", expected=expected, fix="export the calibration again with the size")
    height, width = size or (0, 0)
    scales = {"pixels": (1.0, 1.0), "longer side": (float(max(height, width)),) * 2, "sides": (width, height)}[
        keys.unit
    ]
    middle = ((width - 1) / 2, (height - 1) / 2) if keys.center == "middle" else (0.0, 0.0)
    if keys.program == "Meshroom" and abs(cx) < width / 4 and abs(cy) < height / 4:
        middle = ((width - 1) / 2, (height - 1) / 2)  # newer versions store the offset from the middle
    shift = FIRST_PIXEL if keys.center == "corner" else 0.0
    center = scales[0] * cx + middle[0] - shift, scales[1] * cy + middle[1] - shift
    K = make_K(where, scales[0] * fx, scales[1] * fy, *center)
    distortion, lens, notes = _read_lens(path, keys, flat, model)
    names = (*filter(None, keys.K), *(lens if any(distortion) else ()))
    used = f"{keys.program}: {', '.join(dict.fromkeys(_INDEX.sub('', key) for key in names))}"
    return CalibratedCamera(name, K, size, distortion, model=model, notes=(f"note: used {used} of {name}", *notes))


_INDEX = re.compile(r"\.\d+$")


def _read_lens(
    path: Path, keys: CameraKeys, flat: Mapping[str, Any], model: str
) -> tuple[tuple[float, ...], tuple[str, ...], list[str]]:
    """Return the coefficients, the keys that state them, and notes about coefficients that no model uses."""
    is_fisheye = MODELS.get(model.lower()) == EQUIDISTANT
    lens = keys.lens
    if lens in (RADIAL, _METASHAPE_LENS) and is_fisheye:
        lens = FISHEYE
    if len(lens) == 1:
        values = flatten_numbers(flat.get(lens[0], flat.get(f"{lens[0]}.0", [])))
        distortion = tuple(float(value) for value in parse_numbers([str(value) for value in values]))
        if keys.program == "Meshroom" and not is_fisheye and 0 < len(distortion) <= 5:
            k1, k2, k3, p1, p2 = distortion + (0.0,) * (5 - len(distortion))
            distortion = (k1, k2, p1, p2, k3)
        return distortion[:4] if is_fisheye else distortion, lens, []
    distortion = tuple(_number(path, flat, key) if key in flat else 0.0 for key in lens)
    unused = [key for key in _IGNORED_LENS if key in flat and key not in lens and abs(_number(path, flat, key)) > 1e-9]
    notes = [f"note: {', '.join(unused)} of {path.name} have no place in the model and are not used"] if unused else []
    return distortion, tuple(key for key in lens if key in flat), notes


# -- texts that become mappings


def parse_xml_tree(path: Path, text: str, expected: str) -> Any:
    """Parse XML to nested mappings: keys "@name" for attributes, lists for repeated tags, text for leaves.

    path: the file, for messages.
    text: its content.
    expected: what the file should be, for messages.

    Raises DataError for invalid XML, or XML with a document type.
    """
    if "<!" in text.replace("<!--", ""):  # entities of a document type may expand without end
        raise DataError(path, found="a document type in XML", expected=expected, fix="remove the line <!DOCTYPE ...>")
    try:
        return _xml_values(ElementTree.fromstring(text))
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise DataError(path, found=f"invalid XML ({error})", expected=expected, fix="copy the file again") from error


def _xml_values(element: ElementTree.Element) -> Any:
    children = list(element)
    if not children and not element.attrib:
        return (element.text or "").strip()
    values: dict[str, Any] = {f"@{key}" if key in ("type", "class") else key: v for key, v in element.attrib.items()}
    for child in children:
        name = f"{child.tag} {child.attrib['class']}" if "class" in child.attrib else child.tag
        entry = _xml_values(child)
        if name in values:
            before = values[name] if isinstance(values[name], list) else [values[name]]
            values[name] = [*before, entry]
        else:
            values[name] = entry
    return values


_DSO_MODELS = {"fov": (FOV, 1), "pinhole": (RADTAN, 0), "radtan": (RADTAN, 4), "equidistant": (EQUIDISTANT, 4),
               "kannalabrandt": (EQUIDISTANT, 4), "": (FOV, 1)}  # fmt: skip


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
    if len(rows) >= 2 and (camera := _read_dso(path, rows)) is not None:
        return [camera]
    if matrices := _MIDDLEBURY_MATRIX.findall(text):
        return _read_middlebury(path, matrices, dict(_KEY_LINE.findall(text)))
    if re.search(r"^\s*\[(LEFT|RIGHT)_CAM_", text, re.MULTILINE):
        return _read_zed(path, text)
    if re.search(r"^\s*PPX\s*:", text, re.MULTILINE | re.IGNORECASE):
        return _read_realsense(path, text)
    return read_cameras_by_keys(path, {key: value.strip() for key, value in _KEY_LINE.findall(text)})


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
        model, count = FOV, 1
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


_KEY_LINE = re.compile(r"^[ \t]*(\w+)[ \t]*[=:][ \t]*(.*)$", re.MULTILINE)  # ScanNet's SCENE.txt has such lines.
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
