"""Read training sets of MiDaS (arXiv 1907.01341): ReDWeb, HRWSI and BlendedMVS.

ReDWeb and HRWSI (Xian et al., CVPR 2018 and 2020) are web images without cameras, with inverse depth up to scale and
shift. BlendedMVS (Yao et al., CVPR 2020) has rendered depth, cameras and poses; each scene has its own unit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import LEFT, Recording
from stadia.data.config import SourceOptions
from stadia.data.frame_store import ReportProgress
from stadia.data.mask_files import resize_labels
from stadia.data.open_dataset import DatasetFormat
from stadia.data.recordings import ImageRecording
from stadia.geometry.cameras import ASSUMED_HORIZONTAL_FOV_DEG, Intrinsics, centered_K, focal_px_from_fov
from stadia.geometry.poses import invert_pose
from stadia.io.image_files import check_depth_map, list_images, read_image_header, read_label_png
from stadia.io.image_io import read_float_image
from stadia.io.input_files import read_lines

NEAREST = 0.25  # depth, without unit, of the largest stored number; number 0 is at least 64 times as far


@dataclass(kw_only=True, eq=False, repr=False)
class RelativeDepthRecording(ImageRecording):
    """Single images of one size whose stored inverse depth is known up to scale and shift; it is larger for nearer
    points.

    maps: file of the inverse depth of each image.
    valid: file of the mask of valid depth of each image; empty without masks.
    """

    has_metric_depth = False

    maps: list[Path]
    valid: list[Path]

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return a depth map (H, W) with the order of the stored inverse depth, in an arbitrary unit; 0 means unknown.

        index: index of the image in the recording.
        side: "left", the only camera.
        """
        path, size = self.maps[index], self.intrinsics[side]
        if not path.exists():
            return None
        numbers = resize_labels(read_label_png(path), size.height, size.width)
        largest = 255 if numbers.max(initial=0) <= 255 else 65535
        depth = (NEAREST * (largest + 1) / (numbers + 1)).astype(np.float32)
        if self.valid:
            depth[resize_labels(read_label_png(self.valid[index]), size.height, size.width) == 0] = 0
        return check_depth_map(path, depth, size.height, size.width)

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        return (self.maps[index],)


class _WebImages(DatasetFormat):
    images: ClassVar[str]
    maps: ClassVar[str]
    masks: ClassVar[str] = ""
    name: ClassVar[str]

    def find_recordings(self, path: Path) -> dict[str, Path]:
        folders = [path, *sorted(path.glob("*"))]
        found = [folder for folder in folders if (folder / self.images).is_dir() and (folder / self.maps).is_dir()]
        return {folder.resolve().name: folder for folder in found}

    def open(self, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        folders = self.find_recordings(path) if path.is_dir() else {}
        if not folders:
            raise DataError(path, found="no recording", expected=self.layout, fix="pass the folder that holds it")
        opened: list[Recording] = []
        for name, folder in folders.items():
            by_size: dict[tuple[int, int], list[Path]] = {}
            for file in list_images(folder / self.images):
                header = read_image_header(file)
                if header is None:
                    fix = "copy it again, or remove it"
                    raise DataError(file, found="no image header", expected="PNG or JPEG", fix=fix)
                by_size.setdefault((header.height, header.width), []).append(file)
            opened += [self._open_size(f"{self.name}/{name}", folder, size, files) for size, files in by_size.items()]
        wanted = options.recordings
        return [one for one in opened if not wanted or any(one.name.endswith(name) for name in wanted)]

    def _open_size(self, name: str, folder: Path, size: tuple[int, int], files: Iterable[Path]) -> Recording:
        images, (height, width) = list(files), size
        K = centered_K(focal_px_from_fov(ASSUMED_HORIZONTAL_FOV_DEG, width), height, width)
        masks = [folder / self.masks / f"{file.stem}.png" for file in images] if self.masks else []
        return RelativeDepthRecording(
            name=f"{name}/{width}x{height}",
            images={LEFT: images},
            intrinsics={LEFT: Intrinsics(K, height, width)},
            maps=[folder / self.maps / f"{file.stem}.png" for file in images],
            valid=masks,
        )

    def splits(self, path: Path) -> dict[str, list[str]]:
        found = self.find_recordings(path) if path.is_dir() else {}
        if not {"train", "val"} <= found.keys():
            return {}
        names = [recording.name for recording in self.open(path, SourceOptions())]
        return {part: [name for name in names if name.split("/")[1] == part] for part in ("train", "val")}


class ReDWeb(_WebImages):
    """The reader of ReDWeb_V1, a folder with images Imgs/*.jpg and inverse depth RDs/*.png."""

    layout = "Imgs/*.jpg with RDs/*.png"
    images, maps, name = "Imgs", "RDs", "redweb"


class Hrwsi(_WebImages):
    """The reader of HRWSI: folders train and val, each with images, inverse depth and masks of valid depth.

    The subfolders are imgs, gts and valid_masks.
    """

    layout = "train/imgs/*.jpg with train/gts/*.png and train/valid_masks/*.png"
    images, maps, masks, name = "imgs", "gts", "valid_masks", "hrwsi"


@dataclass(kw_only=True, eq=False, repr=False)
class BlendedRecording(ImageRecording):
    """One scene of BlendedMVS: images around an object or a place, with depth and poses in a unit that only this scene
    has.

    folder: folder of the scene.
    """

    has_metric_depth = False

    folder: Path

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        """Return the rendered depth (H, W) of an image in the scene's unit of length; 0 means unknown. None without the
        file.

        index: index of the image in the recording.
        side: "left", the only camera.
        """
        (path,), size = self.depth_files(index, side), self.intrinsics[side]
        if not path.exists():
            return None
        depth = np.asarray(read_float_image(path), np.float32)
        depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
        return check_depth_map(path, depth, size.height, size.width)

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        return (self.folder / "rendered_depth_maps" / f"{self.images[side][index].stem}.pfm",)


class BlendedMvs(DatasetFormat):
    """The reader of BlendedMVS, whose scenes have folders blended_images, rendered_depth_maps and cams."""

    layout = "PID/blended_images/*.jpg with PID/cams/*_cam.txt and PID/rendered_depth_maps/*.pfm"

    def find_recordings(self, path: Path) -> dict[str, Path]:
        folders = [path, *sorted(path.glob("*"))]
        found = [one for one in folders if (one / "blended_images").is_dir() and (one / "cams").is_dir()]
        return {folder.resolve().name: folder for folder in found}

    def open_recording(
        self, name: str, folder: Path, options: SourceOptions, progress: ReportProgress | None
    ) -> Recording:
        images = [file for file in list_images(folder / "blended_images") if not file.stem.endswith("_masked")]
        cameras = [_read_camera(folder / "cams" / f"{file.stem}_cam.txt") for file in images]
        header = read_image_header(images[0])
        if header is None:
            raise DataError(images[0], found="no image header", expected="JPEG", fix="copy the image again, as JPEG")
        K = np.stack([camera[1] for camera in cameras])
        return BlendedRecording(
            name=f"blendedmvs/{name}",
            folder=folder,
            images={LEFT: images},
            intrinsics={LEFT: Intrinsics(K, header.height, header.width)},
            poses=np.stack([invert_pose(camera[0]) for camera in cameras]),
            is_scene=True,
        )


def _read_camera(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return T_camera_world (4, 4), and K (3, 3) with the center of the first pixel at 0."""
    expected, fix = "extrinsic, 4 rows, intrinsic, 3 rows", "copy the file again"
    words = [line.split() for line in read_lines(path, expected=expected) if line.strip()]
    try:
        first, second = words.index(["extrinsic"]), words.index(["intrinsic"])
        T = np.array(words[first + 1 : first + 5], np.float64)
        K = np.array(words[second + 1 : second + 4], np.float64)
    except ValueError as error:
        raise DataError(path, found="other lines", expected=expected, fix=fix) from error
    if T.shape != (4, 4) or K.shape != (3, 3) or not (np.isfinite(T).all() and np.isfinite(K).all()):
        raise DataError(path, found=f"matrices of {T.shape} and {K.shape}", expected=expected, fix=fix)
    if abs(np.linalg.det(T[:3, :3]) - 1) > 1e-2 or min(K[0, 0], K[1, 1]) <= 0:
        raise DataError(path, found="no rotation, or a focal length of 0", expected=expected, fix=fix)
    return T, K
