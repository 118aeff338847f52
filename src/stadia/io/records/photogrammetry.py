"""Read the poses and cameras of photogrammetry programs, with the names of the images.

A program is one function that lists the images of a parsed file, and one line in PROGRAMS. The numbers of its poses are
described by `stadia.io.records.formats.Format`, and those of its cameras by `CameraFormat`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.io.input_files import name_parser_errors, read_json
from stadia.io.number_rows import parse_numbers
from stadia.io.records import formats
from stadia.io.records.camera_keys import flatten_numbers, read_camera_by_keys
from stadia.io.records.colmap import MAX_FIT_ERROR_PX, convert_lens
from stadia.io.records.formats import Format
from stadia.io.records.poses import MAX_POSES, count_numbers, make_poses
from stadia.io.records.reconstruction import Reconstruction, make_reconstruction

Array = NDArray[np.float64]

MAX_BYTES = 512 << 20
EXPECTED = "a result of OpenSfM or 3D Gaussian Splatting"
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
    """

    format: Format
    shots: Sequence[Shot]
    cameras: Mapping[object, Mapping[str, Any]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Program:
    """How the files of a program are recognized and read.

    fits: function from the parsed content of a file to whether the program wrote it.
    lists: function from the file and its content to its images and cameras.
    """

    fits: Callable[[Any], bool]
    lists: Callable[[Path, Any], Listing]


# -- one function for each program


def _list_opensfm(path: Path, content: Any) -> Listing:
    """List the images of reconstruction.json, which may have several reconstructions; the largest one is used."""
    models = [model for model in content if _is_mapping(model, "shots")]
    model = max(models, key=lambda one: len(one["shots"]))
    shots = [
        Shot(str(name), [*_list(shot, "rotation"), *_list(shot, "translation")], shot.get("camera"))
        for name, shot in _get_mapping(model, "shots").items()
    ]
    left = sum(len(other["shots"]) for other in models) - len(model["shots"])
    notes = (f"the largest of {len(models)} reconstructions is read; {left} images of the others are left out",)
    return Listing(formats.OPENSFM, shots, _get_mapping(model, "cameras"), notes * (len(models) > 1))


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


PROGRAMS: Mapping[str, Program] = {
    "OpenSfM": Program(lambda content: _is_list_of(content, "shots"), _list_opensfm),
    "3D Gaussian Splatting": Program(
        lambda content: _is_list_of(content, "img_name", "rotation", "position"), _list_gaussian_splatting
    ),
}
"""Programs by name."""

# -- reading


def find_photogrammetry(path: Path) -> str | None:
    """Return the program of PROGRAMS that wrote a file; None for another file."""
    if not path.is_file() or path.suffix.lower() != ".json":
        return None
    return _find_program(read_json(path, expected=EXPECTED, max_bytes=MAX_BYTES))


def _find_program(content: Any) -> str | None:
    return next((name for name, program in PROGRAMS.items() if program.fits(content)), None)


def read_photogrammetry(path: Path) -> Reconstruction:
    """Read the images of a file of a program of PROGRAMS, with their names and cameras.

    Images without a pose are left out.

    path: the file.

    Raises DataError for a damaged file, and for one without poses.
    """
    content = read_json(path, expected=EXPECTED, max_bytes=MAX_BYTES)
    program = _find_program(content)
    assert program is not None
    with name_parser_errors(path, expected=EXPECTED):
        listing = PROGRAMS[program].lists(path, content)
    posed = [shot for shot in listing.shots if len(shot.pose)]
    if not posed or len(posed) > MAX_POSES:
        found = f"{len(posed)} images with a pose of {len(listing.shots)}"
        raise DataError(path, found=found, expected=f"1 to {MAX_POSES}", fix="export the images that are aligned")
    numbers = np.stack([_parse_pose(path, listing.format, shot) for shot in posed])
    T = make_poses(numbers, listing.format, lambda row: f"{path}, image {posed[row].name}")
    notes = [f"poses of {path.name} are read as {program}'s, in its own scale", *listing.notes]
    if len(posed) < len(listing.shots):
        notes.append(f"{len(listing.shots) - len(posed)} of {len(listing.shots)} images have no pose")
    read = make_reconstruction(
        path, T, "", names=[shot.name for shot in posed], format="photogrammetry", pose_format=listing.format
    )
    return _add_cameras(replace(read, notes=tuple(notes)), listing, posed)


def _parse_pose(path: Path, format: Format, shot: Shot) -> Array:
    numbers = parse_numbers([str(number) for number in shot.pose])
    count = count_numbers(format)
    if len(numbers) != count:
        expected = f"{count} numbers: {format.columns}"
        found = f"{len(numbers)} numbers of a pose"
        raise DataError(f"{path}, image {shot.name}", found=found, expected=expected, fix=_CHECK)
    return numbers


def _add_cameras(read: Reconstruction, listing: Listing, posed: Sequence[Shot]) -> Reconstruction:
    """Return the reconstruction with the camera of each image, if the file has it."""
    K, distortion, sizes = read.K.copy(), read.distortion.copy(), read.sizes.copy()
    notes = list(read.notes)
    rows_of = dict[object, list[int]]()
    for row, shot in enumerate(posed):
        rows_of.setdefault(shot.camera, []).append(row)
    for key, rows in rows_of.items():
        if key not in listing.cameras:
            notes.append(f"{len(rows)} images have no camera in {read.path.name}")
            continue
        where = f"{read.path}, camera of {posed[rows[0]].name}"
        K[rows], distortion[rows], sizes[rows], lost = _read_camera(where, listing.cameras[key])
        notes += [note for note in lost if note not in notes]
    return replace(read, K=K, distortion=distortion, sizes=sizes, notes=tuple(notes))


def _read_camera(where: str, values: Mapping[str, Any]) -> tuple[Array, Array, tuple[int, int], list[str]]:
    """Return K (3, 3), the distortion (4,), (width, height), and notes on what four coefficients cannot hold."""
    camera = read_camera_by_keys(where, values)
    assert camera.size is not None
    size = camera.size[1], camera.size[0]
    model, coefficients = camera.find_distortion(where) or (formats.RADTAN, ())
    K, distortion, error_px = convert_lens(where, camera.K, model, coefficients, size)
    notes = [note.removeprefix("note: ") for note in camera.notes[1:]]
    if error_px > MAX_FIT_ERROR_PX:
        notes.append(f"a lens ({camera.model}) is read as k1, k2, p1, p2, up to {error_px:.1f} px off")
    return K, distortion, size, notes
