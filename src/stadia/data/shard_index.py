"""The index of a sharded dataset (one whose images are packed into large files, the shards).

It stores the shard and the offset of each image (docs/reference/shards.md).
"""

import hashlib
import json
import re
import zlib
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from stadia.core.errors import DataError
from stadia.io.image_io import MAX_IMAGE_BYTES, decode_image
from stadia.io.input_files import parse_json
from stadia.io.remote_store import RemoteStore
from stadia.io.typed_json import validate_content

FORMAT, VERSION = "stadia-shards", 1
INDEX = "shards.json"
MAX_INDEX_BYTES = 1 << 28
Encoding = Literal["png", "jpeg", "raw"]
EXPECTED = "an index of shards"
FIX = "remove the shards, then write them: stadia data shard SOURCE URL"
JPEG_QUALITY, PNG_LEVEL = 95, 1
MAX_SIDE = 1 << 13  # longest side of an image: 8K video is the largest that is read

_NAME = re.compile(r"shards/[0-9]{5,9}\.bin")
_Count = Annotated[int, Field(ge=0, le=1 << 40)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Row = Annotated[list[_Number], Field(min_length=9, max_length=9)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShardEntry(_Entry):
    """A shard in the index: its file name, size in bytes and SHA-256."""

    name: str
    bytes: Annotated[int, Field(ge=1, le=1 << 34)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class CameraEntry(_Entry):
    """A camera in the index.

    K: 9 numbers in row-major order; one K for all video frames, or one per frame.
    height, width: size of the images in pixels.
    """

    K: Annotated[list[_Row], Field(min_length=1)]
    height: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    width: Annotated[int, Field(ge=1, le=MAX_SIDE)]


class RecordingEntry(_Entry):
    """A recording in the index.

    name: name of the recording.
    file, sha256: file with its frames (`FrameTable`), and the hash of this file.
    frames: number of video frames.
    cameras: camera of each side.
    T_right_left: 16 numbers of the motion from the left to the right camera in metres; None for one camera.
    mount: name of the mount, or "".
    place: name that recordings share if they show the same things, or "".
    has_metric_depth: whether depth is in metres.
    """

    name: str
    file: Annotated[str, Field(pattern=r"^recordings/[0-9]{6,9}\.json$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    frames: Annotated[int, Field(ge=1, le=1 << 32)]
    cameras: dict[Literal["left", "right"], CameraEntry]
    T_right_left: Annotated[list[_Number], Field(min_length=16, max_length=16)] | None = None
    mount: str = ""
    place: str = ""
    has_metric_depth: bool = True


class ShardIndex(_Entry):
    """The content of shards.json."""

    format: Literal["stadia-shards"]
    version: int
    encoding: Encoding
    shards: list[ShardEntry]
    recordings: list[RecordingEntry]
    splits: dict[str, list[str]] = {}


class FrameTable(_Entry):
    """The video frames of a recording in the index.

    numbers: number of each frame in its source.
    times_s: time of each frame in seconds, or None.
    poses: 12 numbers of each frame's camera-to-world matrix (3, 4); null for a frame without a pose.
    images, depth: by side, where each frame's data are: (shard, offset, length, CRC-32); null for a frame without
        depth.
    """

    numbers: list[_Count]
    times_s: list[_Number] | None = None
    poses: list[Annotated[list[_Number], Field(min_length=12, max_length=12)] | None] | None = None
    images: dict[str, list[tuple[_Count, _Count, _Count, _Count]]]
    depth: dict[str, list[tuple[_Count, _Count, _Count, _Count] | None]] = {}


def read_index(store: RemoteStore) -> ShardIndex:
    """Read and check the index of a sharded dataset, shards.json.

    store: folder or URL of the dataset.

    Raises DataError if it is missing or damaged.
    """
    text = store.read(INDEX, max_bytes=MAX_INDEX_BYTES)
    content = _parse(store.join(INDEX), text)
    version = content.get("version") if isinstance(content, dict) else None
    if isinstance(content, dict) and content.get("format") == FORMAT and version != VERSION:
        fix = "install the version of stadia that wrote it, or write it again"
        raise DataError(store.join(INDEX), found=f"version {version}", expected=f"version {VERSION}", fix=fix)
    index: ShardIndex = validate_content(store.join(INDEX), content, ShardIndex, expected=EXPECTED, fix=FIX)
    if wrong := next((shard.name for shard in index.shards if not _NAME.fullmatch(shard.name)), None):
        raise DataError(store.join(INDEX), found=f"a shard '{wrong[:60]}'", expected="shards/NUMBER.bin", fix=FIX)
    if wrong := next((entry.name for entry in index.recordings if "left" not in entry.cameras), None):
        raise DataError(store.join(INDEX), found=f"'{wrong[:60]}' without a left camera", expected="one", fix=FIX)
    if not index.recordings:
        raise DataError(store.join(INDEX), found="no recording", expected="at least one", fix=FIX)
    return index


def read_frames(store: RemoteStore, index: ShardIndex, entry: RecordingEntry) -> FrameTable:
    """Read the table of a recording's frames, and check that all their data are inside the shards.

    store: folder or URL of the dataset.
    index: the whole index.
    entry: the recording's entry in it.

    Raises DataError if the table is damaged or does not fit the index.
    """
    where = store.join(entry.file)
    text = store.read(entry.file, max_bytes=MAX_INDEX_BYTES)
    if hashlib.sha256(text).hexdigest() != entry.sha256:
        raise DataError(where, found="content with another hash than in shards.json", expected="its hash", fix=FIX)
    table: FrameTable = validate_content(where, _parse(where, text), FrameTable, expected=EXPECTED, fix=FIX)
    columns: dict[str, Any] = {f"images.{side}": table.images.get(side, []) for side in entry.cameras}
    columns |= {f"depth.{side}": rows for side, rows in table.depth.items()}
    columns |= {"numbers": table.numbers}
    columns |= {name: rows for name in ("times_s", "poses") if (rows := getattr(table, name)) is not None}
    for name, rows in columns.items():
        if len(rows) != entry.frames:
            raise DataError(where, found=f"{len(rows)} {name}", expected=f"{entry.frames}, one per frame", fix=FIX)
        if name.startswith(("images", "depth")):
            _check_places(where, name, [row for row in rows if row is not None], index)
    for side, camera in entry.cameras.items():
        if len(camera.K) not in (1, entry.frames):
            found, expected = f"{len(camera.K)} cameras {side}", f"one, or {entry.frames}"
            raise DataError(store.join(INDEX), found=found, expected=expected, fix=FIX)
    return table


def _check_places(where: str, name: str, rows: list[tuple[int, int, int, int]], index: ShardIndex) -> None:
    places = np.array(rows, np.int64).reshape(-1, 4)
    sizes = np.array([shard.bytes for shard in index.shards] or [0], np.int64)
    is_known = places[:, 0] < len(index.shards)
    ends = places[:, 1] + places[:, 2]
    is_wrong = ~is_known | (ends > sizes[np.where(is_known, places[:, 0], 0)]) | (places[:, 2] == 0)
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        found = f"{name} {row} at {places[row, 1]} to {ends[row]} of shard {places[row, 0]}"
        raise DataError(where, found=found, expected="a place inside a shard", fix=FIX)


def _parse(where: str, data: bytes) -> Any:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise DataError(where, found="bytes that are not text", expected=EXPECTED, fix=FIX) from error
    return parse_json(where, text, EXPECTED, fix=FIX)


def format_content(value: BaseModel) -> bytes:
    """Convert an index or a table of frames to JSON bytes."""
    return json.dumps(value.model_dump(mode="json"), allow_nan=False, separators=(",", ":")).encode()


# -- the content of shards


def encode_image(image: NDArray[np.uint8], encoding: Encoding) -> bytes:
    """Encode an image (H, W, 3) RGB for a shard.

    encoding: "png", "jpeg" or "raw".
    """
    if encoding == "raw":
        return np.ascontiguousarray(image).tobytes()
    suffix, parameters = (".jpg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if encoding == "png":
        suffix, parameters = ".png", [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL]
    _, encoded = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), parameters)
    return encoded.tobytes()


def decode_frame(what: str, data: bytes, encoding: Encoding, height: int, width: int) -> NDArray[np.uint8]:
    """Decode an image of a shard to (height, width, 3) RGB.

    what: name of the image, for messages.
    data: its bytes.
    encoding: "png", "jpeg" or "raw".
    height, width: expected size.

    Raises DataError if the data are damaged or the size differs.
    """
    if encoding == "raw":
        image = np.frombuffer(data, np.uint8) if len(data) == 3 * height * width else np.empty(0, np.uint8)
        found = f"{len(data)} bytes"
        image = image.reshape(height, width, 3) if image.size else image
    else:
        if len(data) > MAX_IMAGE_BYTES:
            raise DataError(what, found=f"an image of {len(data)} bytes", expected=f"{MAX_IMAGE_BYTES}", fix=FIX)
        image = cv2.cvtColor(decode_image(what, data, cv2.IMREAD_COLOR, fix=FIX), cv2.COLOR_BGR2RGB)
        found = f"{image.shape[1]}x{image.shape[0]}"
    if image.shape != (height, width, 3):
        raise DataError(what, found=found, expected=f"an image of {width}x{height}", fix=FIX)
    return image


def encode_depth(depth_m: NDArray[np.float32]) -> bytes:
    """Compress a depth map (H, W) in metres, as float32, to the bytes in a shard."""
    return zlib.compress(np.ascontiguousarray(depth_m, "<f4").tobytes(), 1)


def decode_depth(what: str, data: bytes, height: int, width: int) -> NDArray[np.float32]:
    """Decompress a depth map of a shard to (height, width), in metres.

    what: name of the map, for messages.
    data: its bytes.
    height, width: expected size.

    Raises DataError if the data are damaged or the size differs.
    """
    size = 4 * height * width
    try:
        content = zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise DataError(what, found=f"damaged depth ({error})", expected="a depth map", fix=FIX) from error
    if len(content) != size:
        raise DataError(what, found=f"{len(content)} bytes", expected=f"{size}, of {width}x{height}", fix=FIX)
    return np.frombuffer(content, "<f4").reshape(height, width).astype(np.float32)
