"""The message about a mistake describes the file as its format writes it: its axes, its direction, its quaternions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tests.io.reader_cases import CASES, EXPECTED
from tests.sfm.test_check_reconstruction import COUNT, DISTORTION, LENS, MATCHES, SIZE, T_TRUE

from stadia.geometry.conventions import BODY, OPENCV, OPENGL, Axes, Direction, read_poses, write_poses
from stadia.geometry.poses import invert_pose
from stadia.io.records import formats
from stadia.io.records.formats import JSON_FORMATS, Format
from stadia.io.records.poses import write_numbers
from stadia.io.records.read import read_reconstruction, write_reconstruction
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.reconstructions.convention_search import search_conventions
from stadia.judge.reconstructions.result_convention import (
    POSE_CHANGES,
    Convention,
    change_poses,
    describe_convention,
    list_flat_axes,
)
from stadia.sfm.match_triangulation import pose_images

pytestmark = pytest.mark.slow

Array = NDArray[np.float64]
Write = Callable[[Path, Array], Path]
NAMES = MATCHES.names
WORLD: Array = invert_pose(T_TRUE)
C2W, W2C = Direction.CAMERA_TO_WORLD, Direction.WORLD_TO_CAMERA

# -- files of every program, each with the poses as its format writes them


def write_json(content: Callable[[list[list[float]]], object], format: Format, name: str) -> tuple[Format, Write]:
    """Return the writer of a JSON file whose content is a function of the numbers of the poses."""

    def write(folder: Path, T: Array) -> Path:
        (folder / name).write_text(json.dumps(content(write_numbers(T, format).tolist())))
        return folder / name

    return format, write


def write_text(content: Callable[[list[str]], str], format: Format, name: str) -> tuple[Format, Write]:
    """Return the writer of a text file whose content is a function of the texts of the poses."""

    def write(folder: Path, T: Array) -> Path:
        texts = [" ".join(map(repr, row)) for row in write_numbers(T, format).tolist()]
        (folder / name).write_text(content(texts))
        return folder / name

    return format, write


def write_like(case: str, format: Format) -> tuple[Format, Write]:
    """Return the writer of a format that stadia writes, like the file of a case."""

    def write(folder: Path, T: Array) -> Path:
        original = read_reconstruction(CASES / case / EXPECTED[case]["file"])
        names = ("",) * COUNT if not any(original.names) else NAMES
        times_s = None if original.times_s is None else np.arange(COUNT) + 0.5
        row = np.zeros(COUNT, int)
        changed = replace(
            original.rows(row), names=names, T_camera_world=invert_pose(T), times_s=times_s, times_ns=None
        )
        return write_reconstruction(replace(changed, depth=None), folder / "file")

    return format, write


def write_entry(row: list[float], format: Format) -> dict[str, Any]:
    """Return the JSON of a pose with the keys of a row of JSON_FORMATS."""
    if format.is_scattered:
        return dict(zip(format.keys, row, strict=True))
    sizes = [len(row)] if format.has_matrix else [len(row) - 3, 3]
    parts = np.split(np.array(row), np.cumsum(sizes)[:-1])
    entry: dict[str, Any] = {}
    keyed: dict[str, Any] = {key: part.tolist() for key, part in zip(format.keys, parts, strict=False)}
    for key, value in {**keyed, **({format.time: 0.5} if format.time else {})}.items():
        *outer, last = key.split(".")
        inner = entry
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return entry


def write_entries(format: Format, rows: list[list[float]]) -> dict[str, Any]:
    """Return the JSON of poses with the keys of a row of JSON_FORMATS."""
    return {"list": [write_entry(row, format) for row in rows]}


def name_rows(rows: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Return the name of each image with its row."""
    return zip(NAMES, rows, strict=True)


def write_bundle(texts: list[str]) -> str:
    rows = [text.split() for text in texts]
    blocks = ["\n".join(["1 0 0", *(" ".join(row[3 * k : 3 * k + 3]) for k in range(4))]) for row in rows]
    return "\n".join(["# Bundle file v0.3", f"{COUNT} 0", *blocks, ""])


def write_nvm(texts: list[str]) -> str:
    rows = [text.split() for text in texts]
    lines = [
        " ".join([name, "500", row[0], *(str(-float(word)) for word in row[1:4]), *row[4:], "0", "0"])
        for name, row in name_rows(rows)
    ]
    return "\n".join(["NVM_V3", "", str(COUNT), *lines, ""])


def write_idr(folder: Path, T: Array) -> Path:
    matrices = write_numbers(T, formats.IDR).reshape(COUNT, 3, 4)
    np.savez(folder / "cameras.npz", **{f"world_mat_{k}": LENS @ matrix for k, matrix in enumerate(matrices)})
    return folder / "cameras.npz"


def write_metashape(texts: list[str]) -> str:
    cameras = (
        f'<camera label="{name}"><transform>{text} 0 0 0 1</transform></camera>'
        for name, text in zip(NAMES, texts, strict=True)
    )
    return f"<document><chunk><cameras>{''.join(cameras)}</cameras></chunk></document>"


def write_xmp(folder: Path, T: Array) -> Path:
    for name, row in zip(NAMES, write_numbers(T, formats.REALITY_CAPTURE_XMP).tolist(), strict=True):
        R, c = (" ".join(map(repr, part)) for part in (row[:9], row[9:]))
        (folder / f"{name[:-4]}.xmp").write_text(
            f'<a xmlns:xcr="b"><d><xcr:Rotation>{R}</xcr:Rotation><xcr:Position>{c}</xcr:Position></d></a>'
        )
    return folder


def write_llff(folder: Path, T: Array) -> Path:
    rows = write_numbers(T, formats.LLFF).reshape(COUNT, 3, 4)
    columns = np.concatenate([rows, np.tile([[[400.0], [640.0], [500.0]]], (COUNT, 1, 1))], 2)
    np.save(folder / "poses_bounds.npy", np.hstack([columns.reshape(COUNT, 15), np.ones((COUNT, 2))]))
    return folder


FILES: dict[str, tuple[Format, Write]] = {
    **{
        f"{format.program} {format.keys[0]}": write_json(
            partial(write_entries, format), format, "a.json"
        )
        for format in JSON_FORMATS
    },
    "OpenSfM": write_json(
        lambda rows: [{"shots": {n: {"rotation": row[:3], "translation": row[3:]} for n, row in name_rows(rows)}}],
        formats.OPENSFM,
        "reconstruction.json",
    ),
    "3D Gaussian Splatting": write_json(
        lambda rows: [
            {"img_name": name, "rotation": row[:9], "position": row[9:], "fx": 9, "fy": 9, "width": 9, "height": 9}
            for name, row in name_rows(rows)
        ],
        formats.GAUSSIAN_SPLATTING,
        "cameras.json",
    ),
    "OpenMVG": write_json(
        lambda rows: {
            "sfm_data_version": "0.3",
            "views": [
                {"key": k, "value": {"ptr_wrapper": {"data": {"filename": name, "id_pose": k}}}}
                for k, name in enumerate(NAMES)
            ],
            "extrinsics": [
                # the rotation is world-to-camera row by row, which `write_numbers` has column by column
                {"key": k, "value": {"rotation": np.reshape(row[:9], (3, 3)).tolist(), "center": row[9:]}}
                for k, row in enumerate(rows)
            ],
        },
        formats.OPENMVG,
        "sfm_data.json",
    ),
    "Meshroom": write_json(
        lambda rows: {
            "views": [{"poseId": k, "path": name} for k, name in enumerate(NAMES)],
            "intrinsics": [],
            "poses": [
                {"poseId": k, "pose": {"transform": {"rotation": row[:9], "center": row[9:]}}}
                for k, row in enumerate(rows)
            ],
        },
        formats.MESHROOM,
        "cameras.sfm",
    ),
    "Bundler": write_text(write_bundle, formats.BUNDLER, "bundle.out"),
    "VisualSFM": write_text(write_nvm, formats.VISUAL_SFM, "a.nvm"),
    "Middlebury": write_text(
        lambda texts: "\n".join([str(COUNT), *(f"{n} 9 0 1 0 9 1 0 0 1 {t}" for n, t in name_rows(texts))]),
        formats.MIDDLEBURY,
        "a_par.txt",
    ),
    "IDR": (formats.IDR, write_idr),
    "Metashape": write_text(write_metashape, formats.METASHAPE, "cameras.xml"),
    "RealityCapture": write_text(
        lambda texts: "\n".join(
            ["#name,x,y,alt,heading,pitch,roll", *(f"{n},{t.replace(' ', ',')}" for n, t in name_rows(texts))]
        ),
        formats.REALITY_CAPTURE,
        "cameras.csv",
    ),
    "RealityCapture's XMP": (formats.REALITY_CAPTURE_XMP, write_xmp),
    "LLFF": (formats.LLFF, write_llff),
    "KITTI": write_text("\n".join, formats.KITTI, "a.txt"),
    "TUM": write_like("tum", formats.TUM),
    "EuRoC": write_like("euroc", formats.EUROC),
    "COLMAP": write_like("colmap", formats.COLMAP),
    "nerfstudio": write_like("nerfstudio", JSON_FORMATS[0]),
    "Record3D": write_like("record3d-with-cameras", formats.RECORD3D),
    "Polycam": write_like("polycam", formats.POLYCAM),
    "VGGT": write_like("vggt", formats.NPZ_FORMATS[0]),
    "MapAnything": write_like("mapanything", formats.NPZ_FORMATS[1]),
    ".npy": write_like("npy-4x4", formats.KITTI),
    "a folder of matrices": write_like("folder-of-matrices", formats.MATRIX_FILE),
}  # fmt: skip

# -- mistakes: functions of right poses (N, 4, 4) as a format writes them


def turn_axes(axes: Axes) -> Callable[[Array, Format], Array]:
    """Return the mistake of poses with the camera axes of another program."""
    return lambda P, format: write_poses(read_poses(P, format.axes, format.direction), axes, format.direction)


def take_inverse_translations(P: Array, format: Format) -> Array:
    """Return a matrix with its own rotation and the translation of its inverse."""
    changed = P.copy()
    changed[:, :3, 3] = invert_pose(P)[:, :3, 3]
    return changed


def transpose(P: Array, format: Format) -> Array:
    changed = P.copy()
    changed[:, :3, :3] = P[:, :3, :3].swapaxes(1, 2)
    return changed


def swap_quaternions(P: Array, format: Format) -> Array:
    """Return the rotations of a file whose quaternions have w in the other place than its format."""
    w_first = "qw qx" in format.columns
    q = Rotation.from_matrix(P[:, :3, :3]).as_quat(scalar_first=not w_first)
    changed = P.copy()
    changed[:, :3, :3] = Rotation.from_quat(q, scalar_first=w_first).as_matrix()
    return changed


MISTAKES: dict[str, Callable[[Array, Format], Array]] = {
    "inverted": lambda P, format: invert_pose(P),
    "transposed": transpose,
    "translations": take_inverse_translations,
    "quaternions": swap_quaternions,
    "axes of OpenCV": turn_axes(OPENCV),
    "axes of OpenGL": turn_axes(OPENGL),
    "axes of a body": turn_axes(BODY),
}


def expect(mistake: str, format: Format) -> str | None:
    """Return the words with which a mistake of a file begins; None if the format cannot have it."""
    is_c2w = format.direction is C2W
    w_first = "qw qx" in format.columns
    others = {
        "inverted": f"inverted: {W2C if is_c2w else C2W} in place of {format.direction}",
        "transposed": f"transposed (conjugate quaternions) next to right {'positions' if is_c2w else 'translations'}",
        "translations": "the positions of camera-to-world poses are translations of world-to-camera"
        if is_c2w
        else "the translations of world-to-camera poses are positions of the camera",
        "axes of OpenCV": "the camera axes of OpenCV (x right, y down, z forward)",
        "axes of OpenGL": "the camera axes of OpenGL (x right, y up, z backward",
        "axes of a body": "the axes of a LiDAR or a body (x forward, y left, z up)",
    }
    if mistake == "quaternions":
        return f"the quaternions have w {'last' if w_first else 'first'}" if "qw" in format.columns else None
    own = {"axes of OpenCV": OPENCV, "axes of OpenGL": OPENGL}.get(mistake)
    return None if own is format.axes else others[mistake]


def measure_motions(T_camera_world: Array) -> Array:
    """Return the motions (..., N - 1, 12) between successive images: they are the same in any world."""
    motions = T_camera_world[..., 1:, :, :] @ invert_pose(T_camera_world[..., :-1, :, :])
    return motions[..., :3, :].reshape(*motions.shape[:-2], 12)


@cache
def list_changes(format: Format) -> list[Convention]:
    """Return the conventions of poses and axes that mirror no image, those with the fewest changes first."""
    turns = [axes for axes in list_flat_axes() if np.linalg.det(np.reshape(axes, (3, 3))) > 0]
    found = [Convention(poses=poses, axes=axes) for poses, axes in product(POSE_CHANGES, turns)]
    return sorted(found, key=lambda convention: convention.count_changes(format.axes))


def explain(read: Reconstruction) -> Convention:
    """Return the simplest convention with which a file has the right motions."""
    right = measure_motions(T_TRUE)
    changes = list_changes(read.pose_format)
    return next(
        one
        for one in changes
        if np.abs(measure_motions(change_poses(read.T_camera_world, one, read.pose_format)) - right).max() < 1e-4
    )


@pytest.mark.parametrize(
    ("file", "mistake"),
    [(file, mistake) for file, mistake in product(FILES, MISTAKES) if expect(mistake, FILES[file][0])],
)
def test_the_message_names_the_mistake_of_the_file(file: str, mistake: str, tmp_path: Path) -> None:
    format, write = FILES[file]
    wrong = MISTAKES[mistake](write_poses(WORLD, format.axes, format.direction), format)
    read = read_reconstruction(write(tmp_path, read_poses(wrong, format.axes, format.direction)))
    assert (read.pose_format.axes, read.pose_format.direction) == (format.axes, format.direction)
    named = read if any(read.names) else replace(read, names=NAMES)
    named = named.with_camera(LENS, DISTORTION.tolist(), SIZE)
    convention = explain(named)
    what, fix = describe_convention(convention, named, pose_images(named, MATCHES))
    assert str(expect(mistake, format)) in what
    assert ";" not in what.partition("(")[0], "one mistake is named as one"
    assert fix


@pytest.mark.parametrize("file", FILES)
def test_a_right_file_has_no_mistake(file: str, tmp_path: Path) -> None:
    read = read_reconstruction(FILES[file][1](tmp_path, WORLD))
    assert explain(read) == Convention()
    assert len(read) == COUNT


@pytest.mark.parametrize("mistake", ["inverted", "axes of OpenCV", "translations"])
@pytest.mark.parametrize("file", ["nerfstudio", "COLMAP", "Bundler", "LLFF"])
def test_the_search_finds_the_mistake_of_the_file(file: str, mistake: str, tmp_path: Path) -> None:
    format, write = FILES[file]
    if (text := expect(mistake, format)) is None:
        return
    wrong = MISTAKES[mistake](write_poses(WORLD, format.axes, format.direction), format)
    read = read_reconstruction(write(tmp_path, read_poses(wrong, format.axes, format.direction)))
    found = search_conventions(read.with_camera(LENS, DISTORTION.tolist(), SIZE), MATCHES).found
    assert found is not None
    assert text in found.what


@pytest.mark.parametrize("axes", [OPENGL, BODY])
@pytest.mark.parametrize("format", [formats.COLMAP, JSON_FORMATS[0], formats.LLFF])
def test_the_fix_of_axes_turns_the_matrices_of_the_file(format: Format, axes: Axes) -> None:
    """The 3x3 matrix in the text, multiplied from the side that the text names, makes the file right."""
    right = write_poses(WORLD, format.axes, format.direction)
    wrong = write_poses(WORLD, axes, format.direction)
    if axes is format.axes:
        return
    T = invert_pose(read_poses(wrong, format.axes, format.direction))
    read = Reconstruction(
        NAMES, T, np.tile(LENS, (COUNT, 1, 1)), np.tile(DISTORTION, (COUNT, 1)), MATCHES.sizes, pose_format=format
    )
    _, fix = describe_convention(explain(read), read, pose_images(read, MATCHES))
    factor = np.eye(4)
    factor[:3, :3] = [[float(word) for word in row.split()] for row in fix.partition("[")[2].rstrip("]").split(";")]
    fixed = wrong @ factor if "from the right" in fix else factor @ wrong
    np.testing.assert_allclose(fixed, right, atol=1e-9)
