"""Read the camera that a user gives for poses without one: a calibration file, or numbers such as fx=700."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError
from stadia.data.formats.calibration_files import read_calibration
from stadia.data.formats.camera_tables import MODELS
from stadia.data.lens_distortion import EQUIDISTANT, FOV, RADTAN
from stadia.io.input_files import read_json
from stadia.io.records.colmap import FIRST_PIXEL, ColmapCamera, convert_camera

Array = NDArray[np.float64]

KEYS = ("fx", "fy", "cx", "cy", "width", "height", "k1", "k2", "p1", "p2")
_MODELS = {EQUIDISTANT: ("OPENCV_FISHEYE", 4), FOV: ("FOV", 1)}


def read_given_camera(given: str, size: tuple[int, int] = (0, 0)) -> tuple[Array, Array, tuple[int, int]]:
    """Read a camera from a file, or from numbers such as fx=700,fy=700,cx=640,cy=360,width=1280,height=720,k1=0.1.

    Without fy, it is fx; without cx and cy, they are the middle of the image. Other lenses than OpenCV's four
    coefficients are fitted by them.

    given: path of a calibration file that `read_calibration` reads, a file of `stadia camera`, or the numbers.
    size: width and height that hold if `given` has none; (0, 0) if they are unknown.

    Returns K (3, 3), the coefficients k1, k2, p1, p2 (4,), and (width, height), which is (0, 0) if unknown: what
    `stadia.io.records.reconstruction.Reconstruction.with_camera` takes.

    Raises ConfigError for wrong numbers, DataError for a wrong file.

    Examples:
        >>> read_given_camera("fx=700,cx=640,cy=360")[0].tolist()
        [[700.0, 0.0, 640.0], [0.0, 700.0, 360.0], [0.0, 0.0, 1.0]]
    """
    path = Path(given)
    if "=" in given and not path.is_file():
        values = _parse_numbers(given, size)
        K = np.array([[values["fx"], 0, values["cx"]], [0, values["fy"], values["cy"]], [0, 0, 1]])
        lens = np.array([values.get(key, 0.0) for key in ("k1", "k2", "p1", "p2")])
        return K, lens, (int(values["width"]), int(values["height"]))
    camera = read_calibration(path)[0]
    size = (camera.size[1], camera.size[0]) if camera.size is not None else size
    found = camera.find_distortion(path)
    stored = read_json(path) if path.suffix.lower() == ".json" else None
    if isinstance(stored, dict) and stored.get("format") == "stadia-camera":
        size = int(stored["width"]), int(stored["height"])
        lens_keys = stored.get("distortion") or {"model": RADTAN, "coefficients": ()}
        found = MODELS.get(str(lens_keys["model"]).lower(), RADTAN), tuple(map(float, lens_keys["coefficients"]))
    model, coefficients = found if found is not None else (RADTAN, ())
    return *_convert(path, camera.K, model, coefficients, size), size


def _parse_numbers(given: str, size: tuple[int, int]) -> Mapping[str, float]:
    fix = "pass fx=700,fy=700,cx=640,cy=360, and width, height, k1, k2, p1, p2 if they are known"
    values = dict[str, float](width=size[0], height=size[1])
    for part in given.replace(" ", ",").split(","):
        key, _, text = part.partition("=")
        try:
            number = float(text) if key else math.nan
        except ValueError:
            number = math.nan
        if part and (key not in KEYS or not math.isfinite(number)):
            raise ConfigError(given, found=part, expected=f"{', '.join(KEYS)} = a number", fix=fix)
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


def _convert(
    path: Path, K: Array, model: str, coefficients: tuple[float, ...], size: tuple[int, int]
) -> tuple[Array, Array]:
    """Return K and OpenCV's four coefficients for a lens of stadia."""
    if model == RADTAN and not any(coefficients[4:]):
        return K, np.array((*coefficients, 0.0, 0.0, 0.0, 0.0)[:4])
    name, count = _MODELS.get(model, ("FULL_OPENCV", 8))
    if not all(size):
        expected = "width and height next to the lens"
        raise DataError(path, found="a lens without the size of its images", expected=expected, fix="add them")
    values = (*coefficients, *(0.0,) * count)[:count]
    center = K[0, 2] + FIRST_PIXEL, K[1, 2] + FIRST_PIXEL
    converted = convert_camera(path, ColmapCamera(name, *size, (K[0, 0], K[1, 1], *center, *values)))
    return converted[0], converted[1]
