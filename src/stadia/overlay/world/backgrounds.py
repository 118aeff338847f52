"""Read background images with true depth or a teacher's depth. This module does not import torch."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import LEFT, DepthScale, Recording
from stadia.data.config import SourceOptions
from stadia.data.frame_store import ReportProgress, resize_depth, resize_image
from stadia.data.open_dataset import open_recordings, read_named_splits
from stadia.data.recordings import RecordingView
from stadia.data.splits import TargetFrames, all_frames, draw_split
from stadia.geometry.cameras import crop_K, resize_K
from stadia.io.array_files import read_npz
from stadia.io.image_files import encode_name, hash_depth, hash_files, join_hashes
from stadia.io.input_files import expand_home, safe_join
from stadia.io.typed_json import FileEntry, read_typed_json
from stadia.overlay.config import BackgroundConfig

DEPTH_ARRAY_KEYS: Mapping[DepthScale, str] = {DepthScale.METRES: "depth_m", DepthScale.UP_TO_SCALE: "depth"}
"""Name of the depth array in an .npz file, by the scale of the depth.

Affine-invariant inverse depth is not listed, because it does not tell how far away a pasted object is.
"""

PREDICTIONS_RECORD = "predictions.json"
KEY = re.compile(rf"\bdata\.(?=(?:{'|'.join(SourceOptions.model_fields)})\b)")
_CHECKED_FRAMES = 5  # frames of a recording that are searched for depth


@dataclass(frozen=True, slots=True)
class DepthLabel:
    """Describe the origin and the scale of the depth labels of a set of images.

    source: "exact" for rendered or measured depth, or "teacher: NAME" for depth that a network predicted.
    depth_scale: whether the depth is in metres or up to scale.
    """

    source: str = "exact"
    depth_scale: DepthScale = DepthScale.METRES

    def to_dict(self) -> dict[str, str]:
        """Return the label as files contain it."""
        return {"source": self.source, "depth_scale": self.depth_scale.value}

    def __str__(self) -> str:
        return f"depth of '{self.source}', {self.depth_scale}"


class TeacherDepthRecording(RecordingView):
    """A recording with depth that `stadia predict` wrote.

    label: name of the teacher and scale of its depth.
    """

    def __init__(self, recording: Recording, folder: Path) -> None:
        super().__init__(recording)
        self.folder, self.sides = folder, (LEFT,)
        self.label, self._entries = read_teacher_label(folder)
        missing = [stem for index in range(len(recording)) if (stem := recording.stem(index)) not in self._entries]
        if missing:
            found = f"no depth for {len(missing)} of {len(recording)} images of {recording.name}, as '{missing[0]}'"
            fix = "predict them: stadia predict CHECKPOINT IMAGES --out FOLDER"
            raise DataError(folder, found=found, expected="depth for each", fix=fix)

    def K(self, index: int, side: str = LEFT) -> NDArray[np.float64]:
        """Return the K (3, 3) of a frame."""
        return self.recording.K(index, side)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32]:
        """Return the predicted depth (H, W), in metres or up to scale (`label.depth_scale`)."""
        camera = self.recording.camera(index, side)
        depth = read_depth_array(self._map(index, side), DEPTH_ARRAY_KEYS[self.label.depth_scale])
        return resize_depth(depth, camera.height, camera.width)

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        return (self._map(index, side),)

    def fingerprint(self) -> str:
        """Return a hash of the recording and the predicted maps."""
        maps = hash_files({index: self._map(index) for index in range(len(self))})
        digest = hashlib.blake2b(join_hashes(list(maps.values())).encode(), digest_size=16)
        return f"{self.recording.fingerprint()} {self.label.source} {digest.hexdigest()}"

    def _map(self, index: int, side: str = LEFT) -> Path:
        return safe_join(self.folder, f"depth/{self.recording.stem(index, side)}.npz")


def read_depth_array(path: Path, key: str) -> NDArray[np.float32]:
    """Read depth (H, W), 0 for unknown, from an array of an .npz. Raises DataError for a wrong file."""
    arrays = read_npz(path, only=(key,))
    if key not in arrays:
        raise DataError(
            path,
            found=f"no array '{key}'",
            expected=f"an .npz with '{key}'",
            fix="save the background again with this array",
        )
    depth = arrays[key].astype(np.float32, copy=False)
    if depth.ndim != 2 or not np.isfinite(depth).all() or (depth < 0).any():
        found = f"shape {depth.shape}, or values below 0 or not finite"
        raise DataError(
            path,
            found=found,
            expected="(H, W), 0 if there is none",
            fix="save the background again with depth of this shape",
        )
    return depth


class _PredictionsFile(FileEntry):
    depth_scale: DepthScale
    recipe: str
    checkpoint: str
    entries: frozenset[str]
    finished: bool
    crop: str = "none"


def read_teacher_label(folder: Path) -> tuple[DepthLabel, frozenset[str]]:
    """Return the source and scale of a teacher's depth, and the names of its maps.

    Raises DataError for a wrong folder.
    """
    path = folder / PREDICTIONS_RECORD
    record: _PredictionsFile = read_typed_json(
        path, _PredictionsFile, expected="a record of stadia predict", fix="predict again"
    )
    if not record.finished:
        found, expected, fix = "an unfinished prediction", "all entries", "remove it and predict again"
    elif record.crop != "none":
        found, expected, fix = f"depth of the crop '{record.crop}'", "depth of whole images", "take another teacher"
    elif record.depth_scale not in DEPTH_ARRAY_KEYS:
        found, expected = f"the depth scale {record.depth_scale}", "depth at which an object can be placed"
        fix = "take a teacher that predicts depth"
    else:
        return DepthLabel(f"teacher: {record.recipe}, {record.checkpoint}", record.depth_scale), record.entries
    raise DataError(path, found=found, expected=expected, fix=fix)


def attach_teacher_depth(recordings: list[Recording], folder: Path) -> list[TeacherDepthRecording]:
    """Attach a teacher's depth to recordings: FOLDER for one recording, FOLDER/NAME for several.

    Raises DataError for missing maps.
    """
    folder = expand_home(folder)
    if len(recordings) == 1 and (folder / PREDICTIONS_RECORD).is_file():
        return [TeacherDepthRecording(recordings[0], folder)]
    found = [TeacherDepthRecording(recording, safe_join(folder, recording.name)) for recording in recordings]
    first = found[0].label
    for recording in found:
        if recording.label != first:
            expected = f"{first}, as of {found[0].name}"
            fix = "predict all recordings with one checkpoint"
            raise DataError(recording.folder, found=f"{recording.label}", expected=expected, fix=fix)
    return found


@dataclass(frozen=True, slots=True)
class BackgroundImage:
    """A background at the network's size.

    image: (H, W, 3) uint8 RGB.
    depth: (H, W); 0 means unknown.
    K: (3, 3) intrinsics.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    K: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Background:
    """One image of a recording that serves as a background."""

    recording: Recording
    index: int
    side: str

    @property
    def name(self) -> str:
        """Return the name of recording, side and frame."""
        return f"{self.recording.name}/{self.side}/{self.recording.stem(self.index, self.side)}"

    @property
    def file(self) -> Path | None:
        """Return the file of the image, or None."""
        return self.recording.file(self.index, self.side)

    def scenery(self, height: int, width: int) -> BackgroundImage:
        """Return the largest centered window with this aspect ratio, resized, with its camera and depth.

        Raises DataError if the image has no depth.
        """
        image, depth = self.recording.image(self.index, self.side), self.recording.depth_m(self.index, self.side)
        if depth is None or not (depth > 0).any():
            fix = "leave the image out, or set data.backgrounds.teacher"
            raise DataError(self.file or self.name, found="no depth", expected="depth of the background", fix=fix)
        H, W = image.shape[:2]
        h, w = min(H, max(1, round(W * height / width))), min(W, max(1, round(H * width / height)))
        top, left = (H - h) // 2, (W - w) // 2
        window = slice(top, top + h), slice(left, left + w)
        K = resize_K(crop_K(self.recording.K(self.index, self.side), left, top), (h, w), height, width)
        depth = resize_depth(np.ascontiguousarray(depth[window]), height, width)
        return BackgroundImage(resize_image(np.ascontiguousarray(image[window]), height, width), depth, K)


def open_backgrounds(
    path: Path, config: BackgroundConfig, height: int, width: int, progress: ReportProgress | None = None
) -> tuple[dict[str, list[Background]], DepthLabel]:
    """Open the backgrounds of each split, and return them with the source of their depth.

    Splits that a dataset itself defines are kept. Otherwise `split_by` names recordings, or blocks of frames validate.

    Raises DataError for images without depth.
    """
    options = config.model_dump(include=set(SourceOptions.model_fields))
    options["size"] = config.size or (max(height, 32), max(width, 32))
    try:
        recordings, label = open_recordings(path, config.format, progress=progress, **options), DepthLabel()
    except DataError as error:  # "data.camera" is `data.backgrounds.camera` here
        texts = (error.where, error.found, error.expected, error.fix or "")
        where, found, expected, fix = (KEY.sub("data.backgrounds.", text) for text in texts)
        raise DataError(where, found=found, expected=expected, fix=fix or None) from error
    if config.teacher is not None:
        predicted = attach_teacher_depth(recordings, Path(config.teacher))
        recordings, label = [*predicted], predicted[0].label
    _check_depth(recordings)
    by_split = _split_frames(recordings, config, read_named_splits(path, config.format))
    backgrounds = {
        split: [Background(part.recording, index, part.side) for part in parts for index in part.indices]
        for split, parts in by_split.items()
    }
    if not backgrounds.get("train"):
        found, fix = "no background to train on", "see data.backgrounds.split_by"
        raise DataError(path, found=found, expected="one at least", fix=fix)
    return backgrounds, label


def _split_frames(
    recordings: Sequence[Recording], config: BackgroundConfig, named: Mapping[str, Sequence[str]]
) -> dict[str, list[TargetFrames]]:
    if "train" in named and not config.split_by.val_recordings and config.split is None:
        by_split = {split: [r for r in recordings if _matches_name(r, names)] for split, names in named.items()}
    elif config.split_by.val_recordings:
        val = [r for r in recordings if _matches_name(r, config.split_by.val_recordings)]
        by_split = {"train": [r for r in recordings if r not in val], "val": val}
    else:
        blocks = draw_split(recordings, config.split_by, config.sides)
        return {"train": blocks.train, "val": blocks.val}
    return {split: [f for r in some for f in all_frames(r, config.sides)] for split, some in by_split.items()}


def _matches_name(recording: Recording, names: Sequence[str]) -> bool:
    return any(recording.name == name or recording.name.endswith(f"/{name}") for name in names)


def _check_depth(recordings: Sequence[Recording]) -> None:
    without = []
    for recording in recordings:
        frames = np.unique(np.linspace(0, len(recording) - 1, _CHECKED_FRAMES).astype(int)).tolist()
        if all(recording.depth_m(frame) is None for frame in frames):
            without.append(recording.name)
    if without:
        what = f"depth of {', '.join(without[:3])}" + f" and {len(without) - 3} more" * (len(without) > 3)
        fix = "run stadia predict CHECKPOINT IMAGES --out FOLDER, and set data.backgrounds.teacher=FOLDER"
        raise DataError(what, found=f"none in {_CHECKED_FRAMES} frames", expected="depth", fix=fix)


def describe_background_depth(backgrounds: Sequence[Background]) -> dict[str, str | None]:
    """Return a hash of the backgrounds' depth files for each recording; None without files."""
    found: dict[str, list[Background]] = {}
    for background in backgrounds:
        found.setdefault(background.recording.name, []).append(background)
    return {name: hash_depth(some[0].recording, [(b.index, b.side) for b in some]) for name, some in found.items()}


def fingerprint_backgrounds(backgrounds: Sequence[Background]) -> str:
    """Return a hash of the names of backgrounds and the contents of their recordings."""
    digest = hashlib.blake2b(digest_size=16)
    for recording in {id(background.recording): background.recording for background in backgrounds}.values():
        digest.update(recording.fingerprint().encode())
    for background in backgrounds:
        digest.update(encode_name(f"{background.name}\n"))
    return digest.hexdigest()
