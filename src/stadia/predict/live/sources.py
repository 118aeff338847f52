"""Read the newest image of a camera, a network stream, a video at its own pace, or a bag; reconnect if a
stream ends.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError, StadiaError, summarize_exception
from stadia.data.config import SourceOptions
from stadia.data.formats.ros_bags import BagTopic, RosBag
from stadia.io.image_io import decode_image
from stadia.io.video_decoding import VIDEO_SUFFIXES, stream_video

FROZEN_S, SILENT_S = 3.0, 2.0
"""Seconds after which a source counts as silent because no image comes (FROZEN_S: as frozen because its image stays
equal).
"""

BLACK_LEVEL, BLACK_SPREAD = 16.0, 4.0
"""Largest standard deviation of the gray levels of an image that counts as black (BLACK_LEVEL: largest mean)."""

FIRST_WAIT_S, MAX_WAIT_S = 0.25, 5.0
"""Longest pause between two attempts to connect, seconds; the first pause is FIRST_WAIT_S, and each is twice the one
before.
"""

TIMEOUT_S = 5.0
"""Seconds without an response or an image after which a stream is opened again."""

CHECK_SIZE = (32, 24)
"""Width and height, pixels, at which images are compared to find frozen and black ones."""


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """An image with the moment of its arrival.

    image: (H, W, 3) uint8 RGB.
    arrived_s: moment of its arrival on the clock `time.monotonic`, seconds.
    time_s: time on the source's own clock, seconds.
    number: number of the image in the stream, counting those that were dropped.
    """

    image: NDArray[np.uint8]
    arrived_s: float
    time_s: float
    number: int


Images = Iterator[tuple[float, NDArray[np.uint8]]]
"""The images of one connection to a live source: times in seconds, and images (H, W, 3) uint8 RGB."""


@dataclass(frozen=True)
class SourceKind:
    """A kind of live source, such as a camera or a video.

    recognizes: returns whether a text names a source of this kind.
    open: returns the images; when they end or an error occurs, the connection is closed.
    reconnects: whether it is opened again then.
    is_local: whether it is at this machine, so that it is not opened again if it never opened.
    is_paced: whether images can be read faster than their times, so that reading waits for them.
    """

    recognizes: Callable[[str], bool]
    open: Callable[[str], Images]
    reconnects: bool = True
    is_local: bool = False
    is_paced: bool = False


def _open_stream(address: str, format: str | None = None, **options: str) -> Images:
    import av

    seconds = str(round(TIMEOUT_S * 1e6))
    with av.open(
        address,
        format=format,
        options={"timeout": seconds, "fflags": "nobuffer", **options},
        timeout=(TIMEOUT_S, TIMEOUT_S),
    ) as container:
        if not container.streams.video:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise DataError(address, found=f"a stream of {kinds}", expected="video", fix="check the address")
        stream: Any = container.streams.video[0]
        stream.thread_type = "SLICE"  # threads of frames would delay each image
        for frame in container.decode(stream):
            time_s = time.monotonic() if frame.pts is None else float(frame.pts * frame.time_base)
            yield time_s, frame.to_ndarray(format="rgb24")


def _find_device(address: str) -> Path:
    number = re.fullmatch(r"([0-9]+)", address)
    return Path(f"/dev/video{number[1]}" if number else address)


def _open_camera(address: str) -> Images:
    return _open_stream(str(_find_device(address)), "v4l2")


def _open_http(address: str) -> Images:
    """Open a stream of JPEG parts, or any other that FFmpeg recognizes."""
    from urllib import parse, request

    parts = parse.urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    accounts = request.HTTPPasswordMgrWithDefaultRealm()
    accounts.add_password(None, host, parse.unquote(name), parse.unquote(password))
    opener = request.build_opener(request.HTTPBasicAuthHandler(accounts), request.HTTPDigestAuthHandler(accounts))
    with opener.open(parse.urlunsplit(parts._replace(netloc=host)), timeout=TIMEOUT_S) as response:
        kind = response.headers.get("Content-Type", "")
        if "multipart" in kind:
            yield from _read_parts(response)
        elif kind.startswith("text/html"):
            fix = "open the page in a browser, and copy the address of its video, such as http://HOST/video"
            raise DataError(address, found="a web page", expected="a stream of images or a video", fix=fix)
        else:
            yield from _open_stream(address)


MAX_PART_BYTES = 64 << 20


def _read_parts(response: Any) -> Images:
    """Yield the JPEG images of a multipart response; each starts with FF D8 and ends with FF D9."""
    data = bytearray()
    while chunk := response.read1(1 << 16):
        data += chunk
        while (start := data.find(b"\xff\xd8")) >= 0 and (end := data.find(b"\xff\xd9", start)) >= 0:
            part = bytes(data[start : end + 2])
            del data[: end + 2]
            with suppress(DataError):  # the next image may be whole
                image = decode_image("the stream", part, cv2.IMREAD_COLOR)
                yield time.monotonic(), np.ascontiguousarray(image[..., ::-1], np.uint8)
        if len(data) > MAX_PART_BYTES:
            raise DataError("stream", found=f"{len(data)} bytes without a JPEG", expected="JPEG images")


def _open_video(address: str) -> Images:
    return ((frame.time_s, frame.image) for frame in stream_video(Path(address)))


def _open_bag(address: str) -> Images:
    topic = next(iter(RosBag().find_recordings(Path(address))))
    frames = BagTopic(f"rosbag/{topic}", Path(address), topic).stream(SourceOptions())
    return ((frame.time_s, frame.image) for frame in frames)


def _is_bag(address: str) -> bool:
    return Path(address).exists() and RosBag().recognizes(Path(address))


SOURCES: dict[str, SourceKind] = {
    "camera": SourceKind(
        lambda text: bool(re.fullmatch(r"[0-9]{1,2}|/dev/(?!shm/)\S+", text)), _open_camera, is_local=True
    ),
    "RTSP stream": SourceKind(
        lambda text: text.startswith(("rtsp://", "rtsps://")), lambda text: _open_stream(text, rtsp_transport="tcp")
    ),
    "HTTP stream": SourceKind(lambda text: text.startswith(("http://", "https://")), _open_http),
    "network stream": SourceKind(lambda text: re.match(r"(?:udp|rtp|tcp|rtmp|srt)://", text) is not None, _open_stream),
    "video": SourceKind(
        lambda text: Path(text).suffix.lower() in VIDEO_SUFFIXES, _open_video, reconnects=False, is_paced=True
    ),
    "bag": SourceKind(_is_bag, _open_bag, reconnects=False, is_paced=True),
}
"""Kinds of live sources by the name that users read; the first one that recognizes a text opens it."""


def find_source(text: str) -> tuple[str, SourceKind]:
    """Return the name and the kind of the live source that opens a text, such as an address or a path.

    Raises ConfigError if no kind recognizes the text, DataError for a camera that the machine does not have.
    """
    found = next(((name, kind) for name, kind in SOURCES.items() if kind.recognizes(text)), None)
    if found is None:
        fix = "for example 0, rtsp://HOST/PATH, http://HOST/PATH, drive.mp4 or drive.mcap"
        raise ConfigError("SOURCE", found=f"'{text}'", expected=", ".join(SOURCES), fix=fix)
    if found[0] == "camera" and not _find_device(text).exists():
        fix = "connect it, and list the cameras: ls /dev/video*"
        raise DataError(_find_device(text), found="no such camera", expected="a camera of this machine", fix=fix)
    return found


@dataclass
class SourceState:
    """What is known about a live source.

    problem: why no useful image comes: "no connection (...)", "no image", "frozen" or "black"; "" if useful images
        come.
    arrived: number of images that came.
    taken: number of images that were used; the others were dropped.
    connections: number of successful connections.
    has_ended: whether no further image will come.
    """

    problem: str = ""
    arrived: int = 0
    taken: int = 0
    connections: int = 0
    has_ended: bool = False

    @property
    def dropped(self) -> float:
        """Return the share (0 to 1) of the arrived images that were not used."""
        return 1 - self.taken / self.arrived if self.arrived else 0.0


class _Watch:
    """Judges images: equal ones for long are frozen, dark and even ones black."""

    def __init__(self) -> None:
        self._before: NDArray[np.uint8] | None = None
        self._changed_s = time.monotonic()

    def judge(self, image: NDArray[np.uint8]) -> str:
        small = cv2.resize(image, CHECK_SIZE, interpolation=cv2.INTER_AREA)
        now = time.monotonic()
        if self._before is None or not np.array_equal(small, self._before):
            self._before, self._changed_s = np.asarray(small, np.uint8), now
        if small.mean() < BLACK_LEVEL and small.std() < BLACK_SPREAD:
            return "black"
        return "frozen" if now - self._changed_s > FROZEN_S else ""


@dataclass(eq=False)
class LiveSource:
    """Hold the newest image of a source, which a thread reads; older images are dropped, never queued.

    Use it in a `with` block. A video or a bag waits after its first image until the event `begins` is set.

    address: text that names the source.
    state: what is known about it.
    """

    address: str
    state: SourceState = field(default_factory=SourceState)

    def __post_init__(self) -> None:
        self.name, self.kind = find_source(self.address)
        self._newest: LiveFrame | None = None
        self._ready = threading.Condition()
        self._stop, self.begins = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="live source", daemon=True)
        self._last_s = time.monotonic()

    def __enter__(self) -> "LiveSource":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self.begins.set()
        with self._ready:
            self._ready.notify_all()
        self._thread.join(timeout=2.0)  # a blocked read ends by its own timeout

    def take(self, wait_s: float = 0.5) -> LiveFrame | None:
        """Return the newest image that was not returned yet; None if none comes within `wait_s` seconds."""
        with self._ready:
            self._ready.wait_for(lambda: self._newest is not None or self.state.has_ended, wait_s)
            frame, self._newest = self._newest, None
        if frame is not None:
            self.state.taken += 1
        elif not self.state.has_ended and not self.state.problem and time.monotonic() - self._last_s > SILENT_S:
            self.state.problem = "no image"
        return frame

    def _run(self) -> None:
        pause_s = FIRST_WAIT_S
        try:
            while not self._stop.is_set():
                before = self.state.arrived
                try:
                    self._read()
                    reason = "the stream ended"
                except (StadiaError, OSError, ValueError, HTTPException) as error:  # PyAV: OSError or ValueError
                    reason = summarize_exception(error)
                if not self.kind.reconnects or (self.kind.is_local and not self.state.connections):
                    self.state.problem = "" if self.state.arrived else f"no image ({reason})"
                    break
                self.state.problem = f"no connection ({reason})"
                pause_s = FIRST_WAIT_S if self.state.arrived > before else min(2 * pause_s, MAX_WAIT_S)
                self._stop.wait(pause_s)
        finally:  # whatever ends this thread, nobody waits for another image
            with self._ready:
                self.state.has_ended = True
                self._ready.notify_all()

    def _read(self) -> None:
        watch, start, first = _Watch(), time.monotonic(), None
        for time_s, image in self.kind.open(self.address):
            if first is None:
                first, start = time_s, time.monotonic()
                self.state.connections += 1
            if self.kind.is_paced and self.state.arrived == 1 and not self.begins.is_set():
                self.begins.wait()  # a video plays when its network is open
                start = time.monotonic() - (time_s - first)
            if self.kind.is_paced and (ahead_s := time_s - first - (time.monotonic() - start)) > 0:
                self._stop.wait(ahead_s)
            if self._stop.is_set():
                return
            problem = watch.judge(image)
            self._last_s = time.monotonic()
            with self._ready:
                self.state.arrived += 1
                self.state.problem = problem
                self._newest = LiveFrame(image, self._last_s, time_s, self.state.arrived - 1)
                self._ready.notify_all()
