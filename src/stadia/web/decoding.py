"""Start the processes that decode uploads, with limits of time, and use each for a bounded number of them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stadia.core.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UPLOAD = "the upload"
"""What errors call a file: names of users and of folders on this machine do not reach a page."""

PHOTO_S = 20.0
"""Time for one photo. 50 megapixels take 2 s on one core."""

VIDEO_S = 300.0
"""Time for the frames of a video: a minute of 1080p takes 20 s on one core."""

MAX_UPLOADS = 50
"""Uploads of one process. A new one has nothing that an earlier upload may have left in it."""

Kind = Literal["photo", "video"]


@dataclass(frozen=True)
class DecodedPhoto:
    """A decoded picture.

    image: (H, W, 3) RGB, upright, with sides of at most MAX_SIDE pixels.
    filmed_size: (height, width) as in the file, upright.
    fov_deg: angle from its left to its right edge by its EXIF; None where that has no focal length.
    """

    image: NDArray[np.uint8]
    filmed_size: tuple[int, int]
    fov_deg: float | None


def find_upload_kind(head: bytes) -> tuple[Kind, str]:
    r"""Return what a file is by its first 16 bytes, and the suffix that readers expect. Raises DataError.

    Examples:
        >>> find_upload_kind(b"\xff\xd8\xff\xe0" + bytes(12))
        ('photo', '.jpg')
    """
    from stadia.files.image_io import JPEG_SIGNATURE, PNG_SIGNATURE

    if head.startswith(PNG_SIGNATURE):
        return "photo", ".png"
    if head.startswith(JPEG_SIGNATURE):
        return "photo", ".jpg"
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    if brand in (b"heic", b"heix", b"mif1", b"avif", b"hevc"):
        raise _make_error("a HEIC or AVIF picture", "save it as JPEG: telephones share it so")
    if brand:
        return "video", ".mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "video", ".avi"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "video", ".mkv"
    found = "an empty file" if not head else "a file that is no picture and no video"
    raise _make_error(found, "choose a PNG or JPEG picture, or an MP4, MOV, MKV or AVI video")


def _make_error(found: str, fix: str) -> DataError:
    return DataError(UPLOAD, found=found, expected="a picture or a video", fix=fix)


class UploadDecoder:
    """Decodes uploads, one at a time, in a process that is started anew after a failure and after MAX_UPLOADS.

    The next process is started before it is needed, because Python and its libraries take half a second.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        self._is_closed = False

    def start(self) -> None:
        """Start the process, so that the first upload does not wait for it."""
        with self._lock:
            if not self._is_closed:
                self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._is_closed:
            raise DataError(UPLOAD, found="a server that ends", expected="one that runs", fix="start it again")
        if self._process is None:
            self._process, self._count = _start_process(), 0
        return self._process

    def decode_photo(self, path: Path) -> DecodedPhoto:
        """Return a decoded photo. Raises DataError, without the name of the file, where it cannot be decoded."""
        reply, data = self._exchange({"kind": "photo", "path": str(path)}, PHOTO_S)
        import numpy as np

        shape = tuple(reply["shape"])
        image: NDArray[np.uint8] = np.frombuffer(data, np.uint8).reshape(shape)
        height, width = reply["filmed_size"]
        return DecodedPhoto(image, (height, width), reply["fov_deg"])

    def decode_video(
        self, path: Path, folder: Path, *, every: int, max_frames: int, max_side: int
    ) -> Mapping[str, Any]:
        """Write every n-th frame of a video into a folder as JPEGs of a number.

        Returns `frames`, `size` (height, width), `rate_hz`, `fov_deg` (None where unknown) and `has_more`. Raises
        DataError, without the name of the file.
        """
        about = {"every": every, "max_frames": max_frames, "max_side": max_side}
        header = {"kind": "video", "path": str(path), "folder": str(folder), **about}
        return self._exchange(header, VIDEO_S)[0]

    def close(self) -> None:
        """End the process, also while it decodes."""
        self._is_closed = True
        process = self._process
        if process is not None:
            process.kill()
        with self._lock:
            if self._process is not None:
                _end_process(self._process)
                self._process = None

    def _exchange(self, header: Mapping[str, Any], limit_s: float) -> tuple[Any, bytes]:
        """Send a request and return the reply, with the bytes behind it."""
        from stadia.evaluation.graph_worker import read_header, write_message

        with self._lock:
            late, process = threading.Event(), self._start()

            def stop() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(limit_s, stop)
            timer.daemon = True
            timer.start()
            reply, data, has_ended = None, b"", False
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                write_message(process.stdin, header)  # type: ignore[arg-type]
                message = read_header(process.stdout)  # type: ignore[arg-type]
                if message is not None:
                    reply, size = message
                    data = process.stdout.read(size)
                    has_ended = len(data) < size
            except OSError:
                has_ended = True
            finally:
                timer.cancel()
            self._count += 1
            if reply is None or has_ended or self._count >= MAX_UPLOADS:
                _end_process(process)
                self._process = None
                if not self._is_closed:
                    self._start()
        if reply is None or has_ended:
            found = f"a file that takes more than {limit_s:.0f} s" if late.is_set() else "a file that ends its decoder"
            raise DataError(UPLOAD, found=found, expected="a whole picture or video", fix="save it again, or smaller")
        if "found" in reply:
            raise DataError(UPLOAD, found=reply["found"], expected=reply["expected"], fix=reply["fix"])
        return reply, data


def _start_process() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "stadia.web.decode_worker"]  # -P: no module of the current folder
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _end_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
