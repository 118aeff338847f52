"""Keep the pictures and videos of each browser on disk, so that they survive a restart of the server."""

import contextlib
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stadia.core.config import StrictModel
from stadia.core.errors import StadiaError
from stadia.io.atomic_files import write_json
from stadia.io.image_files import read_rgb
from stadia.io.image_io import write_image
from stadia.io.input_files import read_bytes, read_json
from stadia.web.decoding import SMALL_SIDE, DecodedPhoto, shrink_image
from stadia.web.forms import parse_form
from stadia.web.networks import NetworkShelf
from stadia.web.photo import KeptPhoto, LengthForm, PhotoCamera, PredictForm, color_prediction
from stadia.web.video import MappedFrames, VideoJob, link_or_copy

MAX_STORED = 40
"""Most results of a browser on disk; the oldest are removed."""

MAX_STORED_BYTES = 4 << 30
"""Most bytes of the results of a browser; the oldest are removed, but not the newest one."""

MAX_AGE_S = 30 * 86400
"""Age after which the results of a browser are removed when a server starts."""

RECORD = "result.json"
PHOTO = "photo.png"
SMALL, SMALL_DEPTH = "small.jpg", "small-depth.jpg"

LEAVE_OUT = ("cache", "upload.mp4", "upload.mkv", "upload.avi")
"""Files of a video that no page needs once it is predicted."""


CHECK_FOLDERS = ("report", "fixed")
"""Folders of a verdict: its page, and the corrected result."""


class ResultRecord(StrictModel):
    """The record of a result on disk.

    kind: "photo", "video" or "check", a verdict on the result of another program.
    name: name of the file on the user's computer.
    time_s: when it was made, seconds since 1970.
    network: name of the network that predicted it.
    form: how a picture was predicted; its network is not used.
    fov_deg: field of view of a picture's EXIF data, degrees.
    filmed_size: (height, width) of the picture in the file.
    known: lengths that set the scale of a video.
    mapped: fields of `stadia.web.video.MappedFrames`.
    other: key of the video whose frames a video shares.
    about: what the page shows of a video, or of the files that were judged.
    """

    kind: Literal["photo", "video", "check"]
    name: str = ""
    time_s: float = 0.0
    network: str = ""
    form: PredictForm = PredictForm()
    fov_deg: float | None = None
    filmed_size: tuple[int, int] = (0, 0)
    known: tuple[LengthForm, ...] = ()
    mapped: dict[str, Any] = Field(default_factory=dict)
    other: str = ""
    about: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class StoredResult:
    """A result on disk; its key, folder and record."""

    key: str
    folder: Path
    record: ResultRecord


class Gallery:
    """The results of all browsers in a folder, each browser's in a subfolder that is named by a hash of its cookie.

    root: the folder; created with access for its owner alone.
    shelf: the networks.
    """

    def __init__(self, root: Path, shelf: NetworkShelf) -> None:
        self.root, self.shelf = root, shelf
        self._lock = threading.Lock()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in root.iterdir():
            if folder.is_dir() and time.time() - folder.stat().st_mtime > MAX_AGE_S:
                shutil.rmtree(folder, ignore_errors=True)

    def find_folder(self, session: str) -> Path:
        """Return the folder of the results of a browser with this cookie."""
        return self.root / hashlib.blake2b(session.encode(), digest_size=16).hexdigest()

    def has(self, session: str) -> bool:
        """Return whether a browser with this cookie has results."""
        return bool(session) and self.find_folder(session).is_dir()

    def list_results(self, session: str) -> list[StoredResult]:
        """Return the results of a browser, newest first; unreadable ones are left out."""
        return sorted(self._read(self.find_folder(session)), key=lambda one: -one.record.time_s)

    def _read(self, folder: Path) -> Iterator[StoredResult]:
        for path in sorted(folder.glob("*/")):
            try:
                record = parse_form(ResultRecord, read_json(path / RECORD, expected="a result"))
            except StadiaError:
                continue
            yield StoredResult(path.name, path, record)

    def find(self, session: str, key: str, kind: str) -> StoredResult | None:
        """Return a result of a browser; None if it is gone."""
        found = (one for one in self.list_results(session) if (one.key, one.record.kind) == (key, kind))
        return next(found, None)

    def measure_bytes(self, session: str) -> int:
        """Return the bytes of the results of a browser."""
        size = 0
        for folder, _, names in os.walk(self.find_folder(session)):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # A result may be removed meanwhile.
                    size += (Path(folder) / name).stat().st_size
        return size

    def remove(self, session: str, key: str) -> None:
        """Remove a result."""
        for one in self.list_results(session):
            if one.key == key:
                shutil.rmtree(one.folder, ignore_errors=True)

    def _find_network(self, name: str) -> int:
        self.shelf.add(name)
        return self.shelf.names.index(name)

    def save_photo(self, session: str, key: str, kept: KeptPhoto) -> None:
        """Store a predicted picture, and its settings; of too many results, remove the oldest."""
        assert kept.prediction is not None
        with self._lock:
            folder = self.find_folder(session) / key
            before = self.find(session, key, "photo")
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if before is None:
                write_image(folder / PHOTO, kept.decoded.image[..., ::-1], (cv2.IMWRITE_PNG_COMPRESSION, 1))
                write_image(folder / SMALL, shrink_image(kept.decoded.image, SMALL_SIDE)[..., ::-1])
            drawn = shrink_image(color_prediction(kept.prediction), SMALL_SIDE)
            write_image(folder / SMALL_DEPTH, drawn[..., ::-1])
            record = ResultRecord(
                kind="photo",
                name=kept.name,
                time_s=time.time() if before is None else before.record.time_s,
                network=self.shelf.names[kept.form.network],
                form=kept.form,
                fov_deg=kept.decoded.fov_deg,
                filmed_size=kept.decoded.filmed_size,
            )
            write_json(folder / RECORD, record.model_dump())
            self._limit(session)

    def load_photo(self, stored: StoredResult) -> KeptPhoto:
        """Return a stored picture with its settings; it is to be predicted again."""
        record = stored.record
        image = np.asarray(read_rgb(stored.folder / PHOTO), np.uint8)
        decoded = DecodedPhoto(image, record.filmed_size, record.fov_deg)
        form = record.form.model_copy(update={"network": self._find_network(record.network)})
        return KeptPhoto(decoded, form=form, name=record.name)

    def save_video(self, session: str, key: str, job: VideoJob) -> None:
        """Move a predicted video and its settings to its place on disk; of too many results, remove the oldest."""
        assert job.mapped is not None
        with self._lock:
            folder = self.find_folder(session) / key
            before = self.find(session, key, "video")
            if before is None:
                for name in LEAVE_OUT:
                    shutil.rmtree(job.folder / name, ignore_errors=True)
                    (job.folder / name).unlink(missing_ok=True)
                folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                source = job.folder
                shutil.copytree(source, folder, copy_function=link_or_copy)
                job.folder, job.is_stored = folder, True  # From now on, requests read this folder.
                shutil.rmtree(source, ignore_errors=True)
                image = read_rgb(job.frames / "000000.jpg")
                write_image(folder / SMALL, shrink_image(image, SMALL_SIDE)[..., ::-1])
                (folder / SMALL_DEPTH).write_bytes(job.preview)
            record = ResultRecord(
                kind="video",
                name=job.name,
                time_s=time.time() if before is None else before.record.time_s,
                network=self.shelf.names[job.network],
                known=job.known,
                mapped={**asdict(job.mapped), "camera": asdict(job.mapped.camera)},
                other=job.other,
                about=job.about,
            )
            write_json(folder / RECORD, record.model_dump(mode="json"))
            self._limit(session)

    def load_video(self, stored: StoredResult) -> VideoJob:
        """Return a stored video, which is done."""
        record = stored.record
        mapped = MappedFrames(**{**record.mapped, "camera": PhotoCamera(**record.mapped["camera"])})
        job = VideoJob(stored.folder, name=record.name, state="done", other=record.other, about=dict(record.about))
        job.is_stored, job.mapped, job.known = True, mapped, record.known
        job.network = self._find_network(record.network)
        job.about["settings"] = {**record.about["settings"], "network": job.network}
        job.preview = read_bytes(stored.folder / SMALL_DEPTH, expected="an image", max_bytes=1 << 20)
        return job

    def save_check(self, session: str, key: str, record: ResultRecord, folder: Path, image: NDArray[np.uint8]) -> None:
        """Store the verdict on the result of another program; of too many results, remove the oldest.

        record: its record.
        folder: folder with the folders of CHECK_FOLDERS.
        image: one of its images (H, W, 3) RGB.
        """
        with self._lock:
            place = self.find_folder(session) / key
            shutil.rmtree(place, ignore_errors=True)  # of an earlier verdict on the same files
            place.mkdir(mode=0o700, parents=True)
            for name in CHECK_FOLDERS:
                if (folder / name).is_dir():
                    shutil.copytree(folder / name, place / name)
            write_image(place / SMALL, shrink_image(image, SMALL_SIDE)[..., ::-1])
            write_json(place / RECORD, record.model_dump())
            self._limit(session)

    def _limit(self, session: str) -> None:
        """Remove the oldest results above the limits."""
        stored = self.list_results(session)
        while len(stored) > MAX_STORED or (len(stored) > 1 and self.measure_bytes(session) > MAX_STORED_BYTES):
            shutil.rmtree(stored.pop().folder, ignore_errors=True)
