"""Backgrounds: images of recordings with their depth, and their splits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.recording import Recording
from stadia.data.cache import Progress
from stadia.data.config import SourceOptions
from stadia.data.overlay.config import BackgroundConfig
from stadia.data.overlay.label import Label
from stadia.data.overlay.teacher import taught
from stadia.data.resize import resize_depth, resize_image
from stadia.data.sources import named_splits, open_recordings
from stadia.data.splits import Frames, split_blocks, whole
from stadia.geometry.numpy_camera import cropped_K, resized_K

KEY = re.compile(rf"\bdata\.(?=(?:{'|'.join(SourceOptions.model_fields)})\b)")
_CHECKED_FRAMES = 5


@dataclass(frozen=True, slots=True)
class Scenery:
    """A background at the network's size: (H, W, 3) uint8 RGB, (H, W) depth, 0 = none, and K (3, 3)."""

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    K: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Background:
    """An image of a recording."""

    recording: Recording
    index: int
    side: str

    @property
    def name(self) -> str:
        return f"{self.recording.name}/{self.side}/{self.recording.stem(self.index, self.side)}"

    @property
    def file(self) -> Path | None:
        return self.recording.file(self.index, self.side)

    def scenery(self, height: int, width: int) -> Scenery:
        """Return the largest centered window of this aspect ratio, resized, with its camera and depth.

        Raises DataError where there is no depth.
        """
        image, depth = self.recording.image(self.index, self.side), self.recording.depth_m(self.index, self.side)
        if depth is None or not (depth > 0).any():
            raise DataError(
                self.file or self.name,
                found="no depth",
                expected="depth of the background",
                fix="leave the image out, or set data.backgrounds.teacher to predictions",
            )
        H, W = image.shape[:2]
        h, w = min(H, max(1, round(W * height / width))), min(W, max(1, round(H * width / height)))
        top, left = (H - h) // 2, (W - w) // 2
        window = slice(top, top + h), slice(left, left + w)
        K = resized_K(cropped_K(self.recording.K(self.index, self.side), left, top), (h, w), height, width)
        depth = resize_depth(np.ascontiguousarray(depth[window]), height, width)
        return Scenery(resize_image(np.ascontiguousarray(image[window]), height, width), depth, K)


def open_backgrounds(
    path: Path, config: BackgroundConfig, height: int, width: int, progress: Progress | None = None
) -> tuple[dict[str, list[Background]], Label]:
    """Open the backgrounds of each split. Returns them with the source of their depth.

    A data set that names splits is taken at its word, its test worlds too; of another one whole recordings validate
    where `split_by.val_recordings` names them, else blocks of frames. Raises DataError where images have no depth.
    """
    options = config.model_dump(include=set(SourceOptions.model_fields)) | {
        "size": config.size or (max(height, 32), max(width, 32))
    }
    with _rename_keys_in_errors():
        recordings, label = open_recordings(path, config.format, progress=progress, **options), Label()
    if config.teacher is not None:
        predicted = taught(recordings, Path(config.teacher))
        recordings, label = [*predicted], predicted[0].label
    _check_depth(recordings)
    how, own = config.split_by, named_splits(path, config.format)
    by_split: dict[str, list[Frames]]
    if "train" in own and not how.val_recordings and config.split is None:
        by_split = {
            s: [f for r in recordings if _matches_name(r, names) for f in whole(r, config.sides)]
            for s, names in own.items()
        }
    elif how.val_recordings:
        val = [r for r in recordings if _matches_name(r, how.val_recordings)]
        rest = [r for r in recordings if r not in val]
        by_split = {s: [f for r in some for f in whole(r, config.sides)] for s, some in (("train", rest), ("val", val))}
    else:
        blocks = split_blocks(recordings, how, config.sides)
        by_split = {"train": blocks.train, "val": blocks.val}
    found = {
        split: [Background(part.recording, index, part.side) for part in parts for index in part.indices]
        for split, parts in by_split.items()
    }
    if not found.get("train"):
        raise DataError(
            path, found="no background to train on", expected="one at least", fix="see data.backgrounds.split_by"
        )
    return found, label


@contextmanager
def _rename_keys_in_errors() -> Iterator[None]:
    """Rename keys in errors to those of the backgrounds: "data.camera" is `data.backgrounds.camera` here."""
    try:
        yield
    except DataError as error:
        what, found, expected, fix = (
            KEY.sub("data.backgrounds.", text) for text in (error.what, error.found, error.expected, error.fix)
        )
        raise DataError(what, found=found, expected=expected, fix=fix) from error


def _matches_name(recording: Recording, names: Sequence[str]) -> bool:
    return any(recording.name == name or recording.name.endswith(f"/{name}") for name in names)


def _check_depth(recordings: Sequence[Recording]) -> None:
    """Raise DataError where a recording has no depth in any of a few frames, before anything is composed."""
    bare = [
        recording.name
        for recording in recordings
        if all(
            recording.depth_m(int(i)) is None
            for i in np.unique(np.linspace(0, len(recording) - 1, _CHECKED_FRAMES).astype(int))
        )
    ]
    if bare:
        raise DataError(
            f"depth of {', '.join(bare[:3])}" + f" and {len(bare) - 3} more" * (len(bare) > 3),
            found=f"none in {_CHECKED_FRAMES} frames",
            expected="depth",
            fix="run stadia predict CHECKPOINT IMAGES --out FOLDER, and set data.backgrounds.teacher=FOLDER",
        )


def backgrounds_fingerprint(backgrounds: Sequence[Background]) -> str:
    """Return a hash of the names of backgrounds and the contents of their recordings."""
    digest = hashlib.blake2b(digest_size=16)
    for recording in {id(one.recording): one.recording for one in backgrounds}.values():
        digest.update(recording.fingerprint().encode())
    for one in backgrounds:
        digest.update(f"{one.name}\n".encode())
    return digest.hexdigest()
