"""Depth that `stadia predict` wrote, as the label of images without true depth. Imports no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.files import inside, read_json
from stadia.core.recording import LEFT, Recording
from stadia.core.types import Camera, Claim
from stadia.data.contents import contents_of, joined
from stadia.data.overlay.label import MAP_KEY, Label
from stadia.data.resize import resize_depth

RECORD = "predictions.json"


class TaughtRecording(Recording):
    """A recording with a teacher's depth. `label` has the teacher's name and the scale."""

    def __init__(self, recording: Recording, folder: Path) -> None:
        self.recording, self.folder = recording, folder
        self.name, self.mount = recording.name, recording.mount
        self.label, self._entries = read_label(folder)
        missing = [stem for index in range(len(recording)) if (stem := recording.stem(index)) not in self._entries]
        if missing:
            raise DataError(
                folder,
                found=f"no depth of {len(missing)} of {len(recording)} images of {recording.name}, as '{missing[0]}'",
                expected="one of each",
                fix="predict these images: stadia predict CHECKPOINT IMAGES --out FOLDER",
            )

    def __len__(self) -> int:
        return len(self.recording)

    @property
    def session(self) -> str:
        return self.recording.session

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        return self.recording.image(index, side)

    def camera(self, index: int, side: str = LEFT) -> Camera:
        return self.recording.camera(index, side)

    def K(self, index: int, side: str = LEFT) -> NDArray[np.float64]:
        return self.recording.K(index, side)

    def number(self, index: int) -> int:
        return self.recording.number(index)

    def file(self, index: int, side: str = LEFT) -> Path | None:
        return self.recording.file(index, side)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32]:
        """Return predicted depth: in metres or up to scale, see `label.claim`."""
        camera = self.recording.camera(index, side)
        return resize_depth(read_named(self._map(index, side), MAP_KEY[self.label.claim]), camera.height, camera.width)

    def fingerprint(self) -> str:
        """Hash the recording and the predicted maps: two teachers of one recipe and step have one name."""
        maps = contents_of({index: self._map(index) for index in range(len(self))})
        digest = hashlib.blake2b(joined(list(maps.values())).encode(), digest_size=16)
        return f"{self.recording.fingerprint()} {self.label.source} {digest.hexdigest()}"

    def _map(self, index: int, side: str = LEFT) -> Path:
        return inside(self.folder, f"depth/{self.recording.stem(index, side)}.npz")


def read_named(path: Path, key: str) -> NDArray[np.float32]:
    """Read (h, w) depth, 0 = none, from an array of an .npz. Raises DataError with the file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            depth = np.asarray(arrays[key], np.float32)
    except FileNotFoundError as error:
        raise DataError(path, found="no such file", expected="a map of depth", fix="write the set again") from error
    except (KeyError, ValueError, EOFError, OSError) as error:
        raise DataError(path, found=f"{error}", expected=f"an .npz with '{key}'", fix="write it again") from error
    if depth.ndim != 2 or not np.isfinite(depth).all() or (depth < 0).any():
        found = f"shape {depth.shape}, or values below 0 or not finite"
        raise DataError(path, found=found, expected="(H, W), 0 where there is none", fix="write it again")
    return depth


def read_label(folder: Path) -> tuple[Label, frozenset[str]]:
    """Read source and scale of a teacher's depth, and the names of its maps.

    Raises DataError for an invalid record.
    """
    path = folder / RECORD
    record: Any = read_json(path)
    try:
        claim, entries, who = (
            Claim(record["claim"]),
            frozenset(map(str, record["entries"])),
            f"{record['recipe']}, {record['checkpoint']}",
        )
        finished, crop = record["finished"], record.get("crop", "none")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            path, found=f"no predictions ({error})", expected="what stadia predict wrote", fix="predict again"
        ) from error
    if finished is not True:
        raise DataError(
            path, found="an unfinished prediction", expected="all entries", fix="remove it and predict again"
        )
    if crop != "none":
        raise DataError(
            path, found=f"depth of the crop '{crop}'", expected="depth of whole images", fix="take another teacher"
        )
    if claim not in MAP_KEY:
        fix = "take a teacher that claims metres, or depth up to scale"
        raise DataError(path, found=f"the claim {claim}", expected="depth, for something to stand at", fix=fix)
    return Label(f"teacher: {who}", claim), entries


def taught(recordings: list[Recording], folder: Path) -> list[TaughtRecording]:
    """Attach a teacher's depth to recordings: FOLDER for one, FOLDER/NAME for several.

    Raises DataError for mixed teachers.
    """
    folder = folder.expanduser()
    if len(recordings) == 1 and (folder / RECORD).is_file():
        return [TaughtRecording(recordings[0], folder)]
    found = [TaughtRecording(recording, inside(folder, recording.name)) for recording in recordings]
    first = found[0].label
    if other := next((one for one in found if one.label != first), None):
        raise DataError(
            other.folder,
            found=f"depth of '{other.label.source}', {other.label.claim}",
            expected=f"that of '{first.source}', {first.claim}, as of {found[0].name}",
            fix="predict all recordings by one checkpoint: a set has one label",
        )
    return found
