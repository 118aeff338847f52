"""Read EuRoC MAV in its official layout: SEQUENCE/mav0/{cam0, cam1, state_groundtruth_estimate0} (Burri et al., IJRR
2016).

Its images are distorted, and its cameras have different K. They are rectified when read: one K, and T_right_left =
(-baseline, 0, 0) without rotation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.recording import LEFT, RIGHT, Recording
from stadia.datasets.config import SourceOptions
from stadia.datasets.euroc_files import (
    NS_PER_S,
    Array,
    CameraFile,
    Timestamps,
    list_camera_images,
    read_camera,
    read_states,
    read_T_body_sensor,
)
from stadia.datasets.frame_store import ReportProgress
from stadia.datasets.image_files import read_rgb
from stadia.datasets.open_dataset import select_folders
from stadia.datasets.recordings import ImageRecording, Intrinsics
from stadia.datasets.rectification import RectifiedPair, Undistortion, rectify_pair
from stadia.datasets.video.frame_selection import FrameSelection
from stadia.datasets.video.video_files import select_images

CAMERAS = {LEFT: "cam0", RIGHT: "cam1"}
GROUND_TRUTH = "state_groundtruth_estimate0"

D3VO_TRAIN = ("MH_01", "MH_02", "MH_04", "V1_01", "V1_02")
D3VO_TEST = ("MH_03", "MH_05", "V1_03", "V2_01", "V2_02", "V2_03")
"""D3VO's training sequences for depth (Yang et al., CVPR 2020, section 4.1), and the others.

D3VO scores depth on V2_01 and trajectories on the others of TEST. For trajectories it may have trained on V2_01 too;
the paper has both statements.
"""


class Euroc:
    """Sequences of EuRoC; the path is the folder of sequences (or groups), one sequence, or its mav0."""

    layout = "SEQUENCE/mav0 with cam0 and cam1"
    options: frozenset[str] = frozenset({"standing"})

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        return bool(_find_sequences(path))

    @classmethod
    def open(cls, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        chosen = select_folders(_find_sequences(path), options.recordings, path, cls.layout)
        return [_open_sequence(name, mav0, options, progress) for name, mav0 in chosen.items()]

    @classmethod
    def splits(cls, path: Path) -> dict[str, list[str]]:
        """Return D3VO's lists, as far as their sequences exist; none for one sequence."""
        if path.resolve().name == "mav0" or (path / "mav0").is_dir():
            return {}
        found = {
            part: [n for n in _find_sequences(path) if n.startswith(names)]
            for part, names in (("train", D3VO_TRAIN), ("test", D3VO_TEST))
        }
        return {part: names for part, names in found.items() if names}


def _find_sequences(path: Path) -> dict[str, Path]:
    """Return the mav0 folder of every sequence at the path, by name."""
    if not path.is_dir():
        return {}
    if path.resolve().name == "mav0":
        candidates = [path]
    elif (path / "mav0").is_dir():
        candidates = [path / "mav0"]
    else:
        candidates = sorted({*path.glob("*/mav0"), *path.glob("*/*/mav0")})
    return {p.resolve().parent.name: p for p in candidates if any((p / camera).is_dir() for camera in CAMERAS.values())}


def _open_sequence(name: str, mav0: Path, options: SourceOptions, progress: ReportProgress | None) -> Recording:
    for camera in CAMERAS.values():
        if not (mav0 / camera / "data").is_dir():
            found = "no images" if (mav0 / camera).is_dir() else "no such folder"
            fix = "copy it from the dataset: rectifying needs both"
            raise DataError(mav0 / camera, found=found, expected="cameras cam0 (left) and cam1 (right)", fix=fix)
    cameras = {side: read_camera(mav0 / camera / "sensor.yaml") for side, camera in CAMERAS.items()}
    listed = {side: list_camera_images(mav0 / camera) for side, camera in CAMERAS.items()}
    _check_sizes(cameras, {side: next(iter(images.values())) for side, images in listed.items()})
    T_right_left = np.linalg.inv(cameras[RIGHT].T_body_lens) @ cameras[LEFT].T_body_lens
    pair = rectify_pair(cameras[LEFT].lens, cameras[RIGHT].lens, T_right_left, mav0)

    pairs = [(number, stamp) for number, stamp in enumerate(listed[LEFT]) if stamp in listed[RIGHT]]
    if not pairs:
        found = "no timestamp of the left camera"
        fix = "copy both cameras of one sequence"
        raise DataError(mav0 / CAMERAS[RIGHT] / "data.csv", found=found, expected="images of the same times", fix=fix)
    numbers, stamps = (list(column) for column in zip(*pairs, strict=True))
    undistorted = {LEFT: pair.left, RIGHT: pair.right}
    recording = EurocRecording(
        name=f"euroc/{name}",
        images={side: [images[stamp] for stamp in stamps] for side, images in listed.items()},
        intrinsics={side: Intrinsics(how.new_K, how.lens.height, how.lens.width) for side, how in undistorted.items()},
        T_right_left=pair.T_right_left,
        numbers=numbers,
        poses=_read_poses(mav0, np.array(stamps), cameras[LEFT], pair),
        times_s=np.array([stamp / NS_PER_S for stamp in stamps]),
        undistorted=undistorted,
    )
    return _drop_standing(recording, len(listed[LEFT]) - len(pairs), options, progress)


def _drop_standing(
    recording: EurocRecording, unpaired: int, options: SourceOptions, progress: ReportProgress | None
) -> EurocRecording:
    """Drop frames of a standing camera if requested, and record the dropped frames."""
    every = FrameSelection(list(range(len(recording))))
    chosen = select_images(recording, "auto", options.cache, progress) if options.standing == "drop" else every
    kept = recording.only(chosen.kept)
    selection = replace(chosen, kept=[recording.number(index) for index in chosen.kept], unpaired=unpaired)
    return replace(kept, selection=selection) if selection.total > len(kept) else kept


def _check_sizes(cameras: Mapping[str, CameraFile], images: Mapping[str, Path]) -> None:
    lenses = [camera.lens for camera in cameras.values()]
    if len({(lens.height, lens.width) for lens in lenses}) > 1:
        sizes = " and ".join(f"{lens.width}x{lens.height}" for lens in lenses)
        raise DataError(
            cameras[RIGHT].path, found=f"cameras of {sizes}", expected="one size", fix="resize one of them with its K"
        )
    for side, camera in cameras.items():
        height, width = read_rgb(images[side]).shape[:2]
        if (height, width) != (camera.lens.height, camera.lens.width):
            expected = f"{camera.lens.width}x{camera.lens.height}, the resolution of {camera.path}"
            fix = "use the original images, or write a sensor.yaml of theirs"
            raise DataError(images[side], found=f"{width}x{height}", expected=expected, fix=fix)


def _read_poses(mav0: Path, stamps: Timestamps, left: CameraFile, pair: RectifiedPair) -> Array | None:
    """Return (N, 4, 4) T_world_camera of the rectified left camera, NaN where missing; None without ground truth."""
    folder = mav0 / GROUND_TRUTH
    if not folder.is_dir():
        return None
    states = read_states(folder / "data.csv")
    T_world_sensor = states.at(stamps)
    if np.isnan(T_world_sensor).all():
        spans = [f"{s[0] / NS_PER_S:.3f} to {s[-1] / NS_PER_S:.3f} s" for s in (states.stamps, stamps)]
        raise DataError(
            folder / "data.csv",
            found=f"ground truth from {spans[0]}",
            expected=f"of the images' time, {spans[1]}",
            fix=(
                "use the ground truth of this sequence, with timestamps of the same clock in nanoseconds, or remove its"
                " folder"
            ),
        )
    T_sensor_body = np.linalg.inv(read_T_body_sensor(folder / "sensor.yaml"))
    T_lens_camera = np.eye(4)
    T_lens_camera[:3, :3] = pair.left.R_new_lens.T
    poses: Array = T_world_sensor @ T_sensor_body @ left.T_body_lens @ T_lens_camera
    return poses


@dataclass(kw_only=True, eq=False, repr=False)
class EurocRecording(ImageRecording):
    """One rectified sequence. Gray images are repeated to three channels.

    undistorted: the remapping of each side.
    selection: the dropped frames; None where every frame is kept.
    """

    undistorted: Mapping[str, Undistortion]
    selection: FrameSelection | None = None

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB, rectified."""
        return self.undistorted[side](super().image(index, side))

    def only(self, indices: Sequence[int]) -> EurocRecording:
        """Return a recording of these frames."""
        kept = list(indices)
        return replace(
            self,
            images={side: [files[index] for index in kept] for side, files in self.images.items()},
            numbers=[self.number(index) for index in kept],
            poses=None if self.poses is None else self.poses[kept],
            times_s=None if self.times_s is None else self.times_s[kept],
        )

    def fingerprint(self) -> str:
        """Return a hash of the files and the remapping."""
        digest = hashlib.blake2b(super().fingerprint().encode(), digest_size=16)
        for undistorted in self.undistorted.values():
            digest.update(undistorted.parameters())
        return digest.hexdigest()
