"""Start the processes that decode uploads, one for each, with limits of time."""

from __future__ import annotations

import json
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
    """Decodes uploads, one at a time, each in a process of its own: nothing of an upload stays for the next one.

    The next process is started before it is needed, because Python and its libraries take half a second.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: subprocess.Popen[bytes] | None = None
        self._decoding: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def start(self) -> None:
        """Start the process, so that the first upload does not wait for it."""
        with self._lock:
            self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        """Return the process that waits for the next upload."""
        if self._is_closed:
            raise DataError(UPLOAD, found="a server that ends", expected="one that runs", fix="start it again")
        if self._next is None:
            command = [sys.executable, "-P", "-m", "stadia.web.decode_worker"]  # -P: no module of the current folder
            pipe = subprocess.PIPE
            self._next = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        return self._next

    def decode_photo(self, path: Path) -> DecodedPhoto:
        """Return a decoded photo. Raises DataError, without the name of the file, where it cannot be decoded."""
        reply, data = self._exchange({"kind": "photo", "path": str(path)}, PHOTO_S)
        import numpy as np

        image: NDArray[np.uint8] = np.frombuffer(data, np.uint8).reshape(tuple(reply["shape"]))
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
        request = {"kind": "video", "path": str(path), "folder": str(folder), **about}
        return self._exchange(request, VIDEO_S)[0]

    def close(self) -> None:
        """End the processes, also while one decodes."""
        self._is_closed = True
        if self._decoding is not None:
            self._decoding.kill()
        with self._lock:
            if self._next is not None:
                _end_process(self._next)
                self._next = None

    def _exchange(self, request: Mapping[str, Any], limit_s: float) -> tuple[Any, bytes]:
        """Send a request to a process and return its reply, with the bytes behind it."""
        with self._lock:
            process = self._decoding = self._start()
            self._next = None
            found = "a file that ends its decoder"
            try:
                output, _ = process.communicate(json.dumps(request).encode(), timeout=limit_s)
            except subprocess.TimeoutExpired:
                _end_process(process)
                output, found = b"", f"a file that takes more than {limit_s:.0f} s"
            self._decoding = None
            if not self._is_closed:
                self._start()
        if process.returncode != 0 or not output:
            raise DataError(UPLOAD, found=found, expected="a whole picture or video", fix="save it again, or smaller")
        line, _, data = output.partition(b"\n")
        reply = json.loads(line)
        if "found" in reply:
            raise DataError(UPLOAD, found=reply["found"], expected=reply["expected"], fix=reply["fix"])
        return reply, data


def _end_process(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, and close its pipes."""
    with suppress(OSError), process:
        process.kill()
