"""Hold the cameras and poses that another program estimated, view them as a trajectory, and match them to images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.geometry.conventions import Direction, read_poses, write_poses
from stadia.geometry.lens import Lens
from stadia.io.depth_files import DepthFile, find_depth_files, read_depth_map
from stadia.io.input_files import natural_sort_key
from stadia.io.records.formats import MATRIX, Format
from stadia.io.records.poses import convert_times, convert_to_nanoseconds, find_nearest_rotations
from stadia.io.records.trajectory import Trajectory

Array = NDArray[np.float64]
CameraOfSize = Callable[[int, tuple[int, int]], tuple[Array, Array, Lens | None]]
ReadDepth = Callable[[int], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Cameras and poses of N images, as another program wrote them, with OpenCV's camera axes.

    names: N image names as the file has them; "" for each if the format has no names. Then pose k belongs to the k-th
        image in natural order, or to the image of its time.
    T_camera_world: (N, 4, 4) world-to-camera poses, camera axes x right, y down, z forward.
    K: (N, 3, 3) intrinsics in pixels, pixel centers at integers; NaN if the format has no intrinsics.
    distortion: (N, 4) OpenCV's coefficients k1, k2, p1, p2.
    sizes: (N, 2) width and height of the images that K belongs to, pixels; 0 if unknown.
    times_s: (N,) times in seconds; None if poses have no times.
    times_ns: (N,) the same times in whole nanoseconds, which a float of seconds since 1970 cannot hold; None if the
        reader has none.
    frames: (N,) rising numbers of the video frames, if the file has them; None if it has not.
    is_text_order: whether pose k of a format without names belongs to the k-th image in the order of names as text (10
        before 2), as LLFF's loader sorts them.
    w_first: whether quaternions were read with w first; None if the file contains matrices.
    camera_of_size: function from a row and its image's (width, height) to K (3, 3), the distortion (4,) and the lens,
        for cameras that need the size of their images, which the file lacks; None otherwise.
    depth: function from a row to its depth map (h, w) as written, NaN where invalid; None without depth.
    format: name of the format, a key of `read.FORMATS`.
    pose_format: how the file writes a pose, with its axes and direction.
    path: the file or folder.
    notes: sentences for the user about what the reader converted or left out.
    lenses: (N,) the Lens of each image that has another model, whose distortion is 0 then, and None of the others;
        None if all images have OpenCV's coefficients.
    """

    names: tuple[str, ...]
    T_camera_world: Array
    K: Array
    distortion: Array
    sizes: NDArray[np.int64]
    times_s: Array | None = None
    times_ns: NDArray[np.int64] | None = None
    frames: NDArray[np.intp] | None = None
    is_text_order: bool = False
    w_first: bool | None = None
    camera_of_size: CameraOfSize | None = None
    depth: ReadDepth | None = None
    format: str = "transforms"
    pose_format: Format = MATRIX
    path: Path = Path()
    notes: tuple[str, ...] = ()
    lenses: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.T_camera_world)

    @property
    def T_world_camera(self) -> Array:
        """Return the camera-to-world poses, (N, 4, 4)."""
        return read_poses(self.T_camera_world, direction=Direction.WORLD_TO_CAMERA)

    @property
    def has_camera(self) -> bool:
        """Return whether the file has intrinsics of at least one image."""
        return bool(np.isfinite(self.K).any()) or self.camera_of_size is not None

    def rows(self, indices: Sequence[int] | NDArray[np.intp]) -> Reconstruction:
        """Return the reconstruction with only the images at these indices (M,), in this order."""
        kept = np.asarray(indices, np.intp)
        read, find_camera = self.depth, self.camera_of_size
        return replace(
            self,
            names=tuple(self.names[row] for row in kept),
            T_camera_world=self.T_camera_world[kept],
            K=self.K[kept],
            distortion=self.distortion[kept],
            lenses=None if self.lenses is None else self.lenses[kept],
            sizes=self.sizes[kept],
            times_s=None if self.times_s is None else self.times_s[kept],
            times_ns=None if self.times_ns is None else self.times_ns[kept],
            frames=None if self.frames is None else self.frames[kept],
            camera_of_size=None if find_camera is None else lambda row, size: find_camera(int(kept[row]), size),
            depth=None if read is None else lambda row: read(int(kept[row])),
        )

    def trajectory(self) -> Trajectory:
        """Return the poses as a trajectory, in the order of their times or frame numbers, or of the images' names.

        Images without a pose are left out. A number or a time in the names of the images counts, if it has gaps.

        Raises DataError if no image has a pose, or a matrix is not a rotation.
        """
        T = self.T_world_camera
        known = np.flatnonzero(np.isfinite(T).all(axis=(1, 2)))
        if not len(known):
            fix = "check that the program which wrote this file tracked the camera"
            raise DataError(self.path, found="no pose", expected="at least one", fix=fix)
        T[known, :3, :3] = find_nearest_rotations(T[known, :3, :3], lambda row: f"{self.path}, pose {known[row]}")
        trajectory = Trajectory(T, self.times_s, self.path.name, self.notes, self.frames, self.w_first, self.times_ns)
        if self.times_s is None and self.frames is None and any(self.names):
            trajectory = _order_by_name(trajectory, self.names)
        if len(known) == len(self):
            return trajectory
        if trajectory.times_s is None:
            trajectory = replace(trajectory, frames=trajectory.frame_numbers)
        return trajectory.rows(np.flatnonzero(np.isfinite(trajectory.T_world_camera).all(axis=(1, 2))))

    def with_camera(
        self, K: Array, distortion: Sequence[float], size: tuple[int, int], lens: Lens | None = None
    ) -> Reconstruction:
        """Return the reconstruction with one camera for all images, or with one K for each.

        K: (3, 3) or (N, 3, 3) intrinsics in pixels, pixel centers at integers.
        distortion: OpenCV's coefficients k1, k2, p1, p2.
        size: width and height of the images that K belongs to, pixels.
        lens: a lens of another model.

        Raises DataError for another number of K than of poses.
        """
        count = len(self)
        if K.ndim == 3 and len(K) != count:
            fix = "write a K for each pose, in their order, or one for all"
            raise DataError(self.path, found=f"{len(K)} K for {count} poses", expected="as many", fix=fix)
        return replace(
            self,
            K=np.broadcast_to(np.asarray(K, np.float64), (count, 3, 3)).copy(),
            distortion=np.tile(np.asarray(distortion, np.float64), (count, 1)),
            lenses=make_lenses([lens] * count),
            sizes=np.tile(np.asarray(size, np.int64), (count, 1)),
            camera_of_size=None,
        )

    def match_images(self, image_names: Sequence[str], image_sizes: NDArray[np.int64]) -> ImageMatching:
        """Match the poses to images by name, by number or by order; see `match_images_to_poses`.

        image_names: M names of the images.
        image_sizes: (M, 2) their width and height in pixels.
        """
        return match_images_to_poses(
            self.names, image_names, is_text_order=self.is_text_order, sizes=self.sizes, image_sizes=image_sizes
        )

    def with_image_sizes(self, image_names: Sequence[str], image_sizes: NDArray[np.int64]) -> Reconstruction:
        """Return the reconstruction with K of cameras that need the size of their images, for images with a pose.

        Images that are not there count as having the median size.

        image_names: M names of the images.
        image_sizes: (M, 2) their width and height in pixels.

        Raises DataError if the images are not those of the reconstruction.
        """
        if self.camera_of_size is None:
            return self
        found = self.match_images(image_names, image_sizes)
        sizes = np.tile(np.median(image_sizes, axis=0).astype(np.int64), (len(self), 1))
        sizes[found.rows] = image_sizes[found.images]
        K, distortion, lenses = self.K.copy(), self.distortion.copy(), list[Lens | None]([None] * len(self))
        for row in np.flatnonzero(np.isfinite(self.T_camera_world).all(axis=(1, 2))).tolist():
            size = int(sizes[row, 0]), int(sizes[row, 1])
            K[row], distortion[row], lenses[row] = self.camera_of_size(row, size)
        made = make_lenses(lenses)
        return replace(self, K=K, distortion=distortion, lenses=made, sizes=sizes, camera_of_size=None)


MAX_POSITION = 1e12
"""Largest coordinate of a position, in the unit of a result; beyond it, squares lose all digits of a path."""

MIN_FOCAL_PX = 1e-3
MAX_PX = 1e7
"""Largest focal length, and largest coordinate of a principal point, of a camera."""

MAX_COEFFICIENT = 1e12
"""Largest coefficient of a lens, of the highest power of a telephoto lens."""


def check_numbers(reconstruction: Reconstruction) -> None:
    """Refuse numbers that no camera has. Poses and intrinsics that are NaN are missing, and pass.

    Raises DataError for a focal length that is not positive or is infinite, for a principal point beyond MAX_PX, for
    coefficients beyond MAX_COEFFICIENT, for rotations of another size than 1, and for positions beyond MAX_POSITION.
    """
    path, T = reconstruction.path, reconstruction.T_camera_world
    K = reconstruction.K[~np.isnan(reconstruction.K).any(axis=(1, 2))]
    focal_px, center_px = K[:, (0, 1), (0, 1)], K[:, (0, 1), (2, 2)]
    wrong = focal_px[~((focal_px >= MIN_FOCAL_PX) & (focal_px <= MAX_PX))]
    if wrong.size:
        fix = "write positive focal lengths; turn the axes of the poses if the image axes point the other way"
        raise DataError(path, found=f"a focal length of {wrong[0]:.4g} px", expected="above 0", fix=fix)
    if center_px.size and not (largest := np.abs(center_px).max()) <= MAX_PX:
        fix = "write the principal point in pixels"
        raise DataError(path, found=f"a principal point at {largest:.1e} px", expected="a point in the image", fix=fix)
    if not np.all(np.abs(reconstruction.distortion) <= MAX_COEFFICIENT):
        found, fix = "coefficients of the lens that are not finite or too large", "calibrate the lens again"
        raise DataError(path, found=found, expected="k1, k2, p1, p2", fix=fix)
    T = T[~np.isnan(T).any(axis=(1, 2))]
    if not np.all(np.abs(T[:, :3, :3]) < MAX_AXIS):
        found, fix = f"rotations with numbers up to {np.abs(T[:, :3, :3]).max():.1e}", "write rotations"
        raise DataError(path, found=found, expected="numbers from -1 to 1", fix=fix)
    if len(T) and not (largest := np.abs(T[:, :3, 3]).max()) < MAX_POSITION:
        fix = "check the unit of the positions, and the program that wrote them"
        raise DataError(path, found=f"positions up to {largest:.1e}", expected="a path", fix=fix)


MAX_AXIS = 1e6
"""Largest number in a rotation, which may still be times a scale."""


def make_lenses(lenses: Sequence[Lens | None]) -> NDArray[np.object_] | None:
    """Return the lenses of images as an array (N,); None if no image has one."""
    if not any(lenses):
        return None
    made = np.empty(len(lenses), np.object_)
    made[:] = lenses
    return made


def make_reconstruction(
    path: Path,
    T_world_camera: Array,
    note: str,
    *,
    names: Sequence[str] | None = None,
    times_s: Array | None = None,
    format: str = "trajectory",
    pose_format: Format = MATRIX,
) -> Reconstruction:
    """Return a reconstruction without cameras.

    path: the file or folder.
    T_world_camera: (N, 4, 4) camera-to-world poses; NaN for an image without a pose.
    note: what the reader converted.
    names: N names of the images; None without names.
    times_s: (N,) times in seconds, which are left out unless they rise.
    format: name of the format, a key of `read.FORMATS`.
    pose_format: how the file writes a pose.
    """
    count = len(T_world_camera)
    return Reconstruction(
        names=("",) * count if names is None else tuple(names),
        T_camera_world=write_poses(T_world_camera, direction=Direction.WORLD_TO_CAMERA),
        K=np.full((count, 3, 3), np.nan),
        distortion=np.zeros((count, 4)),
        sizes=np.zeros((count, 2), np.int64),
        times_s=times_s if times_s is not None and (np.diff(times_s) > 0).all() else None,
        format=format,
        pose_format=pose_format,
        path=path,
        notes=(note,) if note else (),
    )


_TIME_IN_NAME = re.compile(r"[0-9]{9,10}\.[0-9]+|[0-9]{16,19}")
_SUFFIX_OF_IMAGES = re.compile(r"\.(?:png|jpe?g|tiff?|exr|bmp|webp)$", re.IGNORECASE)


def _order_by_name(trajectory: Trajectory, names: Sequence[str]) -> Trajectory:
    """Return poses sorted by image name, with the times or frame numbers in the names, if these have gaps."""
    order = sorted(range(len(names)), key=lambda index: natural_sort_key(Path(names[index])))
    stems = [_SUFFIX_OF_IMAGES.sub("", PurePosixPath(names[index]).name) for index in order]
    trajectory = trajectory.rows(np.array(order, np.intp))
    if all(_TIME_IN_NAME.fullmatch(stem) for stem in stems):
        times, unit = convert_times(stems)
        times_ns = convert_to_nanoseconds(stems, unit)
        return replace(trajectory, times_s=times, times_ns=times_ns) if (np.diff(times) > 0).all() else trajectory
    digits = [re.search(r"([0-9]{1,12})[^0-9]*$", stem) for stem in stems]
    numbers = np.array([int(match[1]) for match in digits if match is not None], np.intp)
    if len(numbers) < len(stems) or not (np.diff(numbers) > 0).all() or (np.diff(numbers) == 1).all():
        return trajectory
    base = int(numbers[0] == 1)
    text = "the frame of a pose is the number in its image's name" + (", less 1" if base else "")
    return replace(trajectory, frames=numbers - base, notes=(*trajectory.notes, text))


MILLIMETRES = 1000.0
"""Integers per metre in depth maps of phones, ScanNet and HoloLens."""


def clean_depth(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return a depth map (h, w) as float32, with NaN for values that are not finite or not positive.

    Examples:
        >>> clean_depth(np.array([[2.0, 0.0]])).tolist()
        [[2.0, nan]]
    """
    depth = np.array(values, np.float32)
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


def read_one_depth(file: DepthFile, png_per_metre: float = MILLIMETRES) -> NDArray[np.float32]:
    """Read a depth map (h, w) as float32, with NaN where unknown.

    file: the depth file.
    png_per_metre: integers per metre in a file of integers.
    """
    return clean_depth(read_depth_map(file, key="depth", png_per_metre=png_per_metre, is_truth=True))


def add_depth_folder(
    reconstruction: Reconstruction, folder: Path, png_per_metre: float = MILLIMETRES
) -> Reconstruction:
    """Return the reconstruction with the depth maps of a folder, or of one file with N maps.

    Maps belong to images of the same name without suffix. Without names, map k belongs to pose k; if there are fewer
    maps than poses, the number in the map's name is the number of the pose. Images without a depth map get maps of
    shape (1, 1) with NaN.

    folder: the folder, which may have a subfolder `depth`.
    png_per_metre: integers per metre in files of integers.

    Raises DataError if no depth map is found, or if names differ and so do the numbers of maps and poses.
    """
    files = find_depth_files(folder)
    by_key: dict[str, DepthFile] = {find_image_key(name): file for name, file in files.items()}
    found = [by_key.get(find_image_key(name)) if name else None for name in reconstruction.names]
    numbers = {int(key): file for key, file in by_key.items() if key.isdecimal()}
    if not any(found) and not any(reconstruction.names) and len(numbers) == len(files) < len(reconstruction):
        found = [numbers.get(row) for row in range(len(reconstruction))]
    elif not any(found):
        if len(files) != len(reconstruction):
            expected = f"{len(reconstruction)}, one for each pose, or the names of the images"
            fix = "name the depth maps as the images"
            raise DataError(folder, found=f"{len(files)} depth maps of other names", expected=expected, fix=fix)
        found = [files[name] for name in sorted(files, key=lambda name: natural_sort_key(Path(name)))]

    def read(row: int) -> NDArray[np.float32]:
        file = found[row]
        if file is None:
            return np.full((1, 1), np.nan, np.float32)
        return read_one_depth(file, png_per_metre)

    return replace(reconstruction, depth=read)


def interpolate_poses(reconstruction: Reconstruction, times_s: Sequence[float] | Array) -> Reconstruction:
    """Return the reconstruction at other times: rotations by Slerp, positions linearly, cameras of the nearest pose.

    Times outside of the reconstruction get the pose at its end.

    times_s: (M,) times in seconds, of the clock of the reconstruction.

    Raises DataError if the poses have no rising times.
    """
    from scipy.spatial.transform import Rotation, Slerp  # slow to import

    known = reconstruction.times_s
    if known is None or len(known) < 2 or not (np.diff(known) > 0).all():
        found, fix = "poses without rising times", "use a trajectory with times, such as TUM's"
        raise DataError(reconstruction.path, found=found, expected="a time for each pose", fix=fix)
    times = np.clip(np.asarray(times_s, np.float64), known[0], known[-1])
    T_world_camera = reconstruction.T_world_camera
    T = np.tile(np.eye(4), (len(times), 1, 1))
    T[:, :3, :3] = Slerp(known, Rotation.from_matrix(T_world_camera[:, :3, :3]))(times).as_matrix()
    T[:, :3, 3] = np.stack([np.interp(times, known, T_world_camera[:, axis, 3]) for axis in range(3)], -1)
    after = np.searchsorted(known, times).clip(1, len(known) - 1)
    nearest = np.where(times - known[after - 1] < known[after] - times, after - 1, after)
    at_times = reconstruction.rows(nearest)
    return replace(
        at_times,
        names=("",) * len(times),
        T_camera_world=write_poses(T, direction=Direction.WORLD_TO_CAMERA),
        times_s=np.asarray(times_s, np.float64),
    )


@dataclass(frozen=True, eq=False)
class ImageMatching:
    """The assignment of poses to images.

    rows: (M,) rows of the reconstruction.
    images: (M,) index of the image of each row.
    how: "name", "path" (folder and stem), "stem", "number" or "order".
    notes: sentences for the user.
    """

    rows: NDArray[np.intp]
    images: NDArray[np.intp]
    how: str
    notes: tuple[str, ...] = ()


MIN_MATCHED = 3
"""Smallest number of images with poses that can contradict each other."""

MIN_SHARE = 0.9
"""Smallest share of the most matches that a stricter comparison of names needs."""

_IMAGE_SUFFIX = re.compile(r"\.(?:png|jpe?g|tiff?|exr|bmp|webp|heic|txt|npy|npz|json|pfm)$", re.IGNORECASE)
_KIND = re.compile(r"[._-](?:pose|color|colour|rgb|cam|depth|image|frame)$", re.IGNORECASE)
_KIND_BEFORE = re.compile(r"^(?:pose|color|colour|rgb|cam|depth|image|frame|img)[._-]?(?=\d+$)", re.IGNORECASE)


def find_image_key(name: str) -> str:
    """Return the part of a file name that the files of one image have in common.

    Folders, suffixes and words such as color, depth and pose are left out.

    Examples:
        >>> [find_image_key(name) for name in ("color/frame-000012.color.png", "frame-000012.pose.txt", "pose_7.txt")]
        ['000012', '000012', '7']
    """
    stem = _IMAGE_SUFFIX.sub("", PurePosixPath(name.replace("\\", "/")).name)
    return _KIND_BEFORE.sub("", _KIND.sub("", stem))


def match_images_to_poses(
    names: Sequence[str],
    image_names: Sequence[str],
    *,
    is_text_order: bool = False,
    sizes: NDArray[np.int64] | None = None,
    image_sizes: NDArray[np.int64] | None = None,
) -> ImageMatching:
    """Match poses to images by name, by folder and stem, by stem, by number, or by order.

    The order decides only if poses have no names, or no name fits: pose k belongs to image k in natural order, or in
    the order of names as text.

    names: N names of poses, or "" for each.
    image_names: M names of images, which may have folders.
    is_text_order: whether the order is that of names as text.
    sizes: (N, 2) width and height of the images that the poses belong to, pixels; 0 if unknown.
    image_sizes: (M, 2) width and height of the images.

    Raises DataError if fewer than 3 pairs are found, if poses without names are more than the images, or if these are
    not the images of the poses: neither names nor shapes agree.

    Examples:
        >>> match_images_to_poses(["a/1.png", "a/2.png", "a/3.png"], ["3.jpg", "2.jpg", "1.jpg"]).images.tolist()
        [2, 1, 0]
    """
    tries: dict[str, Callable[[str], str]] = {
        "name": lambda name: name,
        "path": lambda name: f"{PurePosixPath(name).parent.name}/{find_image_key(name)}" if name else "",
        "stem": find_image_key,
        "number": lambda name: "" if (number := find_image_number(name)) is None else str(number),
    }
    found = {
        how: _match_by_key([make_key(name) for name in names], [make_key(name) for name in image_names])
        for how, make_key in tries.items()
    }
    most = max(len(rows) for rows, _ in found.values())
    if most >= MIN_MATCHED:
        how = next(how for how, (rows, _) in found.items() if len(rows) >= MIN_SHARE * most)
        rows, images = found[how]
        if how == "number":
            _check_shapes(names, image_names, rows, images, sizes, image_sizes)
        notes = list[str]()
        if how == "number":
            notes.append("poses belong to the images with the same number in their names")
        if len(rows) < len(names):
            notes.append(f"{len(names) - len(rows)} of {len(names)} poses have no image")
        if len(rows) < len(image_names):
            notes.append(f"{len(image_names) - len(rows)} of {len(image_names)} images have no pose")
        return ImageMatching(rows, images, how, tuple(notes))
    matched = _match_by_order(names, image_names, is_text_order=is_text_order)
    if any(names):
        _check_shapes(names, image_names, matched.rows, matched.images, sizes, image_sizes)
    return matched


MAX_SHAPE_DIFFERENCE = 0.1
"""Largest difference of two ratios of width to height, as a natural logarithm, of an image and of one that was cropped
or undistorted.
"""


def _check_shapes(
    names: Sequence[str],
    image_names: Sequence[str],
    rows: NDArray[np.intp],
    images: NDArray[np.intp],
    sizes: NDArray[np.int64] | None,
    image_sizes: NDArray[np.int64] | None,
) -> None:
    """Raise DataError if images without the names of the poses have other shapes too; a quarter turn is no other one.

    Takes the arguments of `match_images_to_poses`, and the rows and images that belong together.
    """
    if sizes is None or image_sizes is None:
        return
    pairs = np.stack([sizes[rows], image_sizes[images]])
    pairs = pairs[:, (pairs > 0).all(axis=(0, 2))].astype(np.float64)
    if not pairs.size:
        return
    ratios = np.abs(np.log(pairs[..., 0] / pairs[..., 1]))
    if np.median(np.abs(ratios[0] - ratios[1])) <= MAX_SHAPE_DIFFERENCE:
        return
    (width, height), (image_width, image_height) = pairs[:, 0].astype(int).tolist()
    found = f"images such as {image_names[images[0]]} of {image_width}x{image_height}, which are not the images of this"
    found += f" result: its poses belong to {names[rows[0]]} of {width}x{height}"
    fix = "pass the images that were reconstructed, with their names"
    raise DataError("poses", found=found, expected="images of the same names or of the same shape", fix=fix)


def find_image_number(name: str) -> int | None:
    """Return the last number in the name of an image; None without a number.

    Examples:
        >>> find_image_number("cam0/frame-000012.color.png")
        12
    """
    digits = re.search(r"([0-9]{1,18})[^0-9]*$", find_image_key(name))
    return int(digits[1]) if digits else None


def _match_by_key(keys: Sequence[str], image_keys: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and images with the same key; keys that are empty or repeated match nothing."""
    counts, image_counts = Counter(keys), Counter(image_keys)
    place = {key: index for index, key in enumerate(image_keys) if key and image_counts[key] == 1}
    rows = [row for row, key in enumerate(keys) if counts[key] == 1 and key in place]
    return np.array(rows, np.intp), np.array([place[keys[row]] for row in rows], np.intp)


def _match_by_order(names: Sequence[str], image_names: Sequence[str], *, is_text_order: bool) -> ImageMatching:
    named = sum(bool(name) for name in names)
    fix = "pass the images that were reconstructed, with their names"
    if named and len(names) != len(image_names):
        example = next(name for name in names if name)
        found = (
            f"images such as {image_names[0]}, which are not the images of this result: fewer than {MIN_MATCHED} have"
        )
        found += f" the names of its poses, such as {example}"
        raise DataError("poses", found=found, expected="images with the names of the poses", fix=fix)
    count = min(len(names), len(image_names))
    if count < MIN_MATCHED or len(names) > len(image_names):
        found = f"{len(names)} poses without names, and {len(image_names)} images"
        raise DataError("poses", found=found, expected=f"as many, at least {MIN_MATCHED}", fix=fix)
    order = sorted(range(len(image_names)), key=lambda index: natural_sort_key(Path(image_names[index]), whole=True))
    note = "pose k belongs to image k in natural order"
    if is_text_order:
        order = sorted(range(len(image_names)), key=image_names.__getitem__)
        note = "pose k belongs to image k in the order of names as text, as the format's own loader sorts them"
    if len(names) < len(image_names):
        note += f": {len(image_names) - len(names)} images at the end have no pose"
    return ImageMatching(np.arange(count), np.array(order[:count], np.intp), "order", (note,))
