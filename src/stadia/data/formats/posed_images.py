"""Read images with poses: transforms.json of nerfstudio, and text models of COLMAP (cameras.txt, images.txt).

nerfstudio stores camera-to-world poses with y up and z backwards. COLMAP stores world-to-camera poses. Lengths are in
the scene's own unit.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.errors import DataError
from stadia.core.types import LEFT, Recording
from stadia.data.config import SourceOptions
from stadia.data.formats.calibration_files import read_calibration
from stadia.data.formats.camera_tables import CalibratedCamera
from stadia.data.formats.rgbd_cameras import rotations_from_xyzw
from stadia.data.frame_store import ReportProgress
from stadia.data.lens_distortion import DistortedCamera, make_undistortion, order_frames
from stadia.data.open_dataset import DatasetFormat
from stadia.data.recordings import ImageRecording
from stadia.data.video.video_camera import fit_to_size
from stadia.geometry.numpy_camera import Intrinsics
from stadia.io.array_files import FileEntry, parse_numbers, read_typed_json
from stadia.io.image_files import read_rgb
from stadia.io.input_files import MAX_TEXT_BYTES, natural_sort_key, read_lines, safe_join

TRANSFORMS = "transforms.json"
CAMERA_AXES = np.diag([1.0, -1.0, -1.0, 1.0])  # to the axes of nerfstudio: x right, y up, z backwards
MODEL_FOLDERS = ("", "sparse/0", "sparse", "colmap/sparse/0", "model")
IMAGE_FOLDERS = ("images", "")
_Row = tuple[float, float, float, float]


class _TransformsFrame(FileEntry):
    file_path: Annotated[str, Field(min_length=1, max_length=4096)]
    transform_matrix: tuple[_Row, _Row, _Row, _Row]


class _TransformsFile(FileEntry):
    frames: Annotated[list[_TransformsFrame], Field(min_length=1)]


class Nerfstudio(DatasetFormat):
    """The reader of nerfstudio's scenes, folders with transforms.json. The path is one scene or a folder of scenes."""

    layout = "SCENE/transforms.json with its images"

    def find_recordings(self, path: Path) -> dict[str, Path]:
        alone = (path / TRANSFORMS).is_file()
        folders = [path] if alone else sorted(file.parent for file in path.glob(f"*/{TRANSFORMS}"))
        return {folder.resolve().name: folder for folder in folders}

    def open_recording(
        self, name: str, folder: Path, options: SourceOptions, progress: ReportProgress | None
    ) -> Recording:
        path = folder / TRANSFORMS
        expected, fix = "frames with file_path and transform_matrix", "write it again with ns-process-data"
        content: _TransformsFile = read_typed_json(path, _TransformsFile, expected=expected, fix=fix)
        frames = sorted(content.frames, key=lambda frame: natural_sort_key(Path(frame.file_path)))
        images = [_find_image(folder, frame.file_path) for frame in frames]
        poses = np.array([frame.transform_matrix for frame in frames], np.float64) @ CAMERA_AXES
        return make_recording(path, f"nerfstudio/{name}", images, read_calibration(path)[0], poses)


def _find_image(folder: Path, file_path: str) -> Path:
    path = safe_join(folder, file_path)
    for candidate in (path, path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.jpg")):
        if candidate.is_file():
            return candidate
    raise DataError(path, found="no such image", expected=f"a file that {TRANSFORMS} names", fix="copy the images")


class ColmapModel(DatasetFormat):
    """The reader of text models of COLMAP with one camera. The path is one scene or a folder of scenes."""

    layout = "SCENE/sparse/0/{cameras.txt, images.txt} and SCENE/images"

    def find_recordings(self, path: Path) -> dict[str, Path]:
        alone = _find_model(path) is not None
        folders = [path] if alone else [folder for folder in sorted(path.glob("*")) if _find_model(folder) is not None]
        return {folder.resolve().name: folder for folder in folders}

    def open_recording(
        self, name: str, folder: Path, options: SourceOptions, progress: ReportProgress | None
    ) -> Recording:
        model = _find_model(folder)
        assert model is not None
        cameras = read_calibration(model / "cameras.txt")
        if len(cameras) > 1:
            found, fix = f"{len(cameras)} cameras", "reconstruct with one camera (--ImageReader.single_camera 1)"
            raise DataError(model / "cameras.txt", found=found, expected="one camera", fix=fix)
        rows = sorted(_read_images(model / "images.txt"), key=lambda row: natural_sort_key(Path(row[0]), whole=True))
        images = [_find_model_image(folder, name) for name, _ in rows]
        return make_recording(
            model / "images.txt", f"colmap/{name}", images, cameras[0], np.stack([pose for _, pose in rows])
        )


def _find_model(folder: Path) -> Path | None:
    places = (folder / name for name in MODEL_FOLDERS)
    return next((p for p in places if (p / "images.txt").is_file() and (p / "cameras.txt").is_file()), None)


def _find_model_image(folder: Path, name: str) -> Path:
    for place in IMAGE_FOLDERS:
        path = safe_join(folder / place, name)
        if path.is_file():
            return path
    path = folder / IMAGE_FOLDERS[0] / name
    raise DataError(path, found="no such image", expected="a file that images.txt names", fix="copy the images")


def _read_images(path: Path) -> list[tuple[str, NDArray[np.float64]]]:
    """Return name and camera-to-world (4, 4) of each image, from lines IMAGE_ID QW QX QY QZ TX TY TZ ID NAME."""
    lines = read_lines(path, expected="images.txt of COLMAP", max_bytes=8 * MAX_TEXT_BYTES)
    rows: list[tuple[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        words = line.split(maxsplit=9)
        values = parse_numbers(words[1:8])
        if line.lstrip().startswith("#") or not _is_image_line(words):
            continue
        norm = float(np.linalg.norm(values[:4])) if len(values) == 7 else 0.0
        if abs(norm - 1) > 0.01:
            expected, fix = "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME", "export the model as text again"
            raise DataError(path, found=f"'{line[:60]}' in line {number}", expected=expected, fix=fix)
        T_camera_world = np.eye(4)
        T_camera_world[:3, :3] = rotations_from_xyzw(np.roll(values[None, :4], -1, axis=1))[0]
        T_camera_world[:3, 3] = values[4:]
        rows.append((words[9].strip(), np.linalg.inv(T_camera_world)))
    if not rows:
        raise DataError(path, found="no image", expected="images.txt of COLMAP", fix="export the model as text again")
    return rows


def _is_image_line(words: list[str]) -> bool:
    """Return whether a line is an image's: it ends with a name, and lines of points only have numbers."""
    return len(words) == 10 and not len(parse_numbers(words[9].split()))


def make_recording(
    path: Path, name: str, images: list[Path], camera: CalibratedCamera, poses: NDArray[np.float64]
) -> Recording:
    """Make a recording of images of one camera with known poses.

    Images are undistorted when read if the camera has a distortion.

    path: file with the poses, for messages.
    name: name of the recording.
    images: image files.
    camera: the camera, whose K is scaled to the size of the images.
    poses: (N, 4, 4) camera-to-world poses.

    Raises DataError if the images do not have the camera's aspect ratio, or a pose has no valid rotation.
    """
    height, width = read_rgb(images[0]).shape[:2]
    intrinsics, undistortion = Intrinsics(camera.K, *(camera.size or (height, width))), None
    if camera.K_of_frames is not None:
        intrinsics = order_frames(intrinsics, dict(camera.K_of_frames), [image.stem for image in images], path)
    intrinsics = fit_to_size(intrinsics, path, height, width)
    if (distortion := camera.find_distortion(path)) is not None:
        model, coefficients = distortion
        if intrinsics.K.ndim == 3:
            found, fix = "distortion with a K for each frame", "undistort the images: docs/how-to/undistort.md"
            raise DataError(path, found=found, expected="one K, or no distortion", fix=fix)
        lens = DistortedCamera(intrinsics.K, model, np.array(coefficients), height, width)
        undistortion = make_undistortion(lens, path)
        intrinsics = undistortion.intrinsics
    rotations = poses[:, :3, :3]
    if (wrong := np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max((1, 2)) > 1e-3).any():
        index = int(np.argmax(wrong))
        found = f"no rotation for {images[index].name}"
        raise DataError(path, found=found, expected="rotations R with R R^T = I", fix="write the poses again")
    return ImageRecording(
        name=name,
        images={LEFT: images},
        intrinsics={LEFT: intrinsics},
        poses=poses,
        undistortion=undistortion,
        is_scene=True,
    )
