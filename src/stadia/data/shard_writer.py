"""Write recordings as shards into a folder or a store. The index is written last, and completes the dataset."""

import hashlib
import logging
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stadia.core.config import resolve_config
from stadia.core.errors import DataError, StadiaError
from stadia.core.types import Recording
from stadia.data import shard_index
from stadia.data.config import SourceOptions
from stadia.data.frame_store import ReportProgress, read_resized_frame, resize_depth
from stadia.data.open_dataset import detect_format, open_recordings, read_named_splits
from stadia.data.video.video_list import open_entry, read_entries, select_entries
from stadia.geometry.cameras import resize_K
from stadia.io.input_files import expand_home, find_cache_folder, is_url
from stadia.io.output_files import fill_new_folder
from stadia.io.remote_store import RemoteStore

UNFINISHED = "unfinished.json"  # A store has this file while its shards are written.
SHARD_BYTES = 64 << 20  # a thousand images of 640x192
_THREADS = 4
_CHUNK = 32  # images encoded at a time
Place = tuple[int, int, int, int]


@dataclass
class _ShardWriter:
    store: RemoteStore
    max_bytes: int
    shards: list[shard_index.ShardEntry] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)
    filled: int = 0

    def add(self, data: bytes) -> Place:
        """Append a part; return its shard, offset, length and CRC-32."""
        if self.filled and self.filled + len(data) > self.max_bytes:
            self.flush()
        place = len(self.shards), self.filled, len(data), zlib.crc32(data)
        self.parts.append(data)
        self.filled += len(data)
        return place

    def flush(self) -> None:
        """Write the shard."""
        if not self.filled:
            return
        content = b"".join(self.parts)
        name = f"shards/{len(self.shards):05d}.bin"
        self.store.write(name, content)
        self.shards.append(
            shard_index.ShardEntry(name=name, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        )
        self.parts, self.filled = [], 0


def write_shards(
    recordings: Iterable[Recording],
    store: RemoteStore,
    *,
    splits: Mapping[str, Sequence[str]],
    size: tuple[int, int] | None = None,
    encoding: shard_index.Encoding = "png",
    shard_bytes: int = SHARD_BYTES,
    progress: ReportProgress | None = None,
) -> shard_index.ShardIndex:
    """Write all video frames with camera, pose, time and depth as shards; then write and return the index.

    recordings: opened one by one, with unique names.
    store: folder or URL. It must not contain a dataset. Leftovers of an interrupted call are overwritten.
    splits: names of recordings by split. Names of recordings that are not written are removed.
    size: (height, width) of the resized images, cameras and depth; None keeps the size of each recording.
    encoding: "png" is lossless, "jpeg" has a fifth of its size, "raw" is decoded fastest.
    shard_bytes: size of a shard in bytes.
    progress: called for each frame.

    Raises StadiaError if the store already contains a dataset, and DataError without frames.
    """
    there = [name for name in (shard_index.INDEX, "shards/00000.bin", "recordings/000000.json") if store.exists(name)]
    if there and (there[0] == shard_index.INDEX or not store.exists(UNFINISHED)):
        fix = "choose another URL, or remove the dataset"
        raise StadiaError(store.join(there[0]), found="a file", expected="an empty place", fix=fix)
    store.write(UNFINISHED, b"{}")
    writer, entries = _ShardWriter(store, shard_bytes), list[shard_index.RecordingEntry]()
    with ThreadPoolExecutor(_THREADS) as threads:
        for recording in recordings:
            if not len(recording):
                continue
            table, cameras = _write_recording(recording, writer, threads, size, encoding, progress)
            content, file = shard_index.format_content(table), f"recordings/{len(entries):06d}.json"
            store.write(file, content)
            rig = recording.T_right_left
            entries.append(
                shard_index.RecordingEntry(
                    name=recording.name,
                    file=file,
                    sha256=hashlib.sha256(content).hexdigest(),
                    frames=len(recording),
                    cameras=cameras,  # type: ignore[arg-type]
                    T_right_left=None if rig is None else np.asarray(rig, np.float64).ravel().tolist(),
                    mount=recording.mount,
                    place="" if recording.session == recording.name else recording.session,
                    has_metric_depth=recording.has_metric_depth,
                )
            )
    writer.flush()
    if not entries:
        raise DataError(store.url, found="no frame", expected="recordings with frames", fix="check the source")
    names = [entry.name for entry in entries]
    kept = {split: [name for name in names if _is_named(name, wanted)] for split, wanted in splits.items()}
    index = shard_index.ShardIndex(
        format="stadia-shards",
        version=shard_index.VERSION,
        encoding=encoding,
        shards=writer.shards,
        recordings=entries,
        splits=kept,
    )
    store.write(shard_index.INDEX, shard_index.format_content(index))
    store.remove(UNFINISHED)
    return index


def _is_named(name: str, wanted: Sequence[str]) -> bool:
    return any(f"/{name}".endswith(f"/{one}") for one in wanted)


def _write_recording(
    recording: Recording,
    writer: _ShardWriter,
    threads: ThreadPoolExecutor,
    size: tuple[int, int] | None,
    encoding: shard_index.Encoding,
    progress: ReportProgress | None,
) -> tuple[shard_index.FrameTable, dict[str, shard_index.CameraEntry]]:
    frames = range(len(recording))
    images: dict[str, list[Place]] = {side: [] for side in recording.sides}
    depth: dict[str, list[Place | None]] = {side: [] for side in recording.sides}
    first = {side: recording.camera(0, side) for side in recording.sides}
    sizes = {side: size or (camera.height, camera.width) for side, camera in first.items()}

    def encode(index: int) -> list[tuple[str, bytes, bytes | None]]:
        encoded = []
        for side in recording.sides:
            image = read_resized_frame(recording, index, side, *sizes[side])
            depth_m = recording.depth_m(index, side)
            packed = None if depth_m is None else shard_index.encode_depth(resize_depth(depth_m, *sizes[side]))
            encoded.append((side, shard_index.encode_image(image, encoding), packed))
        return encoded

    for start in range(0, len(frames), _CHUNK):
        for encoded in threads.map(encode, frames[start : start + _CHUNK]):
            for side, image, packed in encoded:
                images[side].append(writer.add(image))
                depth[side].append(None if packed is None else writer.add(packed))
        if progress is not None:
            progress(f"{recording.name}: writing shards", min(start + _CHUNK, len(frames)), len(frames))
    has_poses = recording.has_metric_poses
    poses = [recording.T_world_camera(index) if has_poses else None for index in frames]
    times = [recording.timestamp_s(index) for index in frames]
    known_times = [time_s for time_s in times if time_s is not None]
    table = shard_index.FrameTable(
        numbers=[recording.number(index) for index in frames],
        times_s=known_times if len(known_times) == len(frames) else None,
        poses=[None if pose is None else np.asarray(pose)[:3].ravel().tolist() for pose in poses]
        if any(pose is not None for pose in poses)
        else None,
        images=images,
        depth={side: places for side, places in depth.items() if any(places)},
    )
    return table, {side: _describe_camera(recording, side, sizes[side]) for side in recording.sides}


def _describe_camera(recording: Recording, side: str, size: tuple[int, int]) -> shard_index.CameraEntry:
    camera = recording.camera(0, side)
    matrices = [
        resize_K(np.asarray(recording.K(index, side), np.float64), (camera.height, camera.width), *size)
        for index in range(len(recording))
    ]
    rows = [K.ravel().tolist() for K in matrices]
    return shard_index.CameraEntry(
        K=rows[:1] if all(row == rows[0] for row in rows) else rows, height=size[0], width=size[1]
    )


log = logging.getLogger(__name__)


def shard_dataset(
    source: Path,
    url: str,
    *,
    format: str = "auto",
    options: Mapping[str, Any] | None = None,
    size: tuple[int, int] | None = None,
    encoding: shard_index.Encoding = "png",
    shard_bytes: int = SHARD_BYTES,
    progress: ReportProgress | None = None,
) -> Iterator[str]:
    """Write a dataset as shards. Yield lines for the user: a summary, and a note about what shards do not contain.

    source: path of the dataset.
    url: folder or URL for the shards.
    format: name of the source's format, or "auto".
    options: options of `open_recordings` for the source.
    size: (height, width) of all images; None keeps the size of each recording.
    encoding: "png" is lossless, "jpeg" has a fifth of its size, "raw" is decoded fastest.
    shard_bytes: size of a shard in bytes.
    progress: called for each video frame.
    """
    source, store = expand_home(source), RemoteStore(expand_home(url))
    given = dict(options or {})
    name = detect_format(source, given.pop("format", format))
    if size is not None and name in ("video", "videos"):
        given["size"] = size
    splits = read_named_splits(source, name)
    if name == "videos":
        recordings = _open_one_by_one(source, resolve_config(SourceOptions, given), progress)
    else:
        recordings = iter(open_recordings(source, name, progress=progress, **given))
    left_out: dict[str, int] = {}
    with nullcontext(store) if is_url(store.url) else fill_new_folder(Path(store.url)) as place:
        index = write_shards(
            _count_left_out(recordings, left_out),
            place if isinstance(place, RemoteStore) else RemoteStore(place),
            splits=splits,
            size=size,
            encoding=encoding,
            shard_bytes=shard_bytes,
            progress=progress,
        )
    frames, written = sum(entry.frames for entry in index.recordings), sum(shard.bytes for shard in index.shards)
    counted = f"{len(index.recordings)} recordings, {frames} frames, {len(index.shards)} shards, {written / 1e6:.1f} MB"
    yield f"{store.url}: {counted}"
    if left_out:
        listed = ", ".join(f"{what} ({count} recordings)" for what, count in left_out.items())
        yield f"note: shards do not hold {listed}; pass data.ignore and masks again, or train from the source"


def _count_left_out(recordings: Iterable[Recording], counts: dict[str, int]) -> Iterator[Recording]:
    for recording in recordings:
        has = {
            "the ignored region": recording.ignored() is not None,
            "the masks": recording.mask_reader is not None,
            "the points of the map": len(recording) > 0 and recording.map_points(0) is not None,
            "the poses, which are not in metres": not recording.has_metric_poses,
        }
        for what in (name for name, is_there in has.items() if is_there):
            counts[what] = counts.get(what, 0) + 1
        yield recording


def _open_one_by_one(path: Path, options: SourceOptions, progress: ReportProgress | None) -> Iterator[Recording]:
    folder = find_cache_folder(options.cache.folder)
    folder.mkdir(parents=True, exist_ok=True)
    for entry in select_entries(read_entries(path), options, path):
        with tempfile.TemporaryDirectory(prefix="stadia-shard-", dir=folder) as scratch:
            cache = options.cache.model_copy(update={"folder": scratch})
            try:
                recording = open_entry(entry, options.model_copy(update={"cache": cache}), progress)
            except DataError as error:
                if options.damaged == "stop":
                    raise
                log.warning("%s is left out: %s", entry.name, error.found)
                continue
            yield recording
