"""Read images with poses: transforms.json of nerfstudio, and text models of COLMAP (cameras.txt, images.txt).

nerfstudio stores camera-to-world poses with y up and z backwards. COLMAP stores world-to-camera poses. Lengths are in
the scene's own unit.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import LEFT, Recording
from stadia.data.config import SourceOptions
from stadia.data.frame_store import ReportProgress
from stadia.data.lens_distortion import DistortedCamera, make_undistortion, order_frames
from stadia.data.open_dataset import DatasetFormat
from stadia.data.recordings import ImageRecording
from stadia.data.video.video_camera import fit_to_size
from stadia.geometry.cameras import Intrinsics
from stadia.io.image_files import read_rgb
from stadia.io.input_files import natural_sort_key, read_json, read_text, safe_join
from stadia.io.records.calibration import read_calibration
from stadia.io.records.camera_keys import CalibratedCamera

TRANSFORMS = "transforms.json"
MAX_BYTES = 128 << 20  # images.txt lists the points of all images.
MODEL_FOLDERS = ("", "sparse/0", "sparse", "colmap/sparse/0", "model")
IMAGE_FOLDERS = ("images", "")


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
        from stadia.io.records.json_scenes import read_json_poses

        listed = read_json_poses(path, read_json(path))
        names = listed.names
        order = sorted(range(len(names)), key=lambda row: natural_sort_key(Path(names[row])))
        images = [_find_image(folder, names[row]) for row in order]
        return make_recording(
            path, f"nerfstudio/{name}", images, read_calibration(path)[0], listed.T_world_camera[order]
        )


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
            found, fix = (
                f"{len(cameras)} cameras",
                "pass --images FOLDER to judge it; to train, reconstruct with one camera",
            )
            raise DataError(model / "cameras.txt", found=found, expected="one camera", fix=fix)
        from stadia.io.records.colmap import read_image_lines  # imports scipy

        path = model / "images.txt"
        text = read_text(path, expected="images.txt of COLMAP", max_bytes=MAX_BYTES)
        read = read_image_lines(path, text.splitlines())
        order = sorted(range(len(read.names)), key=lambda row: natural_sort_key(Path(read.names[row]), whole=True))
        images = [_find_model_image(folder, read.names[row]) for row in order]
        return make_recording(path, f"colmap/{name}", images, cameras[0], read.T_world_camera[order])


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
