"""`stadia data shard SOURCE URL`: open a data set, and write it as shards."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stadia.core.config import resolve_config
from stadia.core.errors import DataError
from stadia.core.recording import Recording
from stadia.datasets.config import SourceOptions
from stadia.datasets.frame_store import ReportProgress, find_cache_folder
from stadia.datasets.open_dataset import detect_format, open_recordings, read_named_splits
from stadia.datasets.shards.shard_index import Encoding
from stadia.datasets.shards.shard_writer import SHARD_BYTES, write_shards
from stadia.datasets.video.video_list import open_entry, read_entries, select_entries
from stadia.files.paths import expand_home
from stadia.files.remote_store import RemoteStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ShardRequest:
    """`stadia data shard SOURCE URL`.

    options: how to open the source.
    size: (height, width) of all images; None keeps those of each recording.
    """

    source: Path
    url: str
    format: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    encoding: Encoding = "png"
    shard_bytes: int = SHARD_BYTES


def shard_dataset(request: ShardRequest, progress: ReportProgress | None = None) -> Iterator[str]:
    """Write a data set as shards; yield a line about them, and a note on what shards do not hold.

    Of many videos one is decoded at a time.

    Raises the errors of opening the source and of `write_shards`.
    """
    source, store = expand_home(request.source), RemoteStore(expand_home(request.url))
    options = {key: value for key, value in request.options.items() if key != "format"}
    name = detect_format(source, request.options.get("format", request.format))
    if request.size is not None and name in ("video", "videos"):
        options["size"] = request.size
    splits = read_named_splits(source, name)
    if name == "videos":
        recordings = _open_one_by_one(source, resolve_config(SourceOptions, options), progress)
    else:
        recordings = iter(open_recordings(source, name, progress=progress, **options))
    left_out: dict[str, int] = {}
    index = write_shards(
        _count_left_out(recordings, left_out),
        store,
        splits=splits,
        size=request.size,
        encoding=request.encoding,
        shard_bytes=request.shard_bytes,
        progress=progress,
    )
    frames, size = sum(entry.frames for entry in index.recordings), sum(shard.bytes for shard in index.shards)
    counted = f"{len(index.recordings)} recordings, {frames} frames, {len(index.shards)} shards, {size / 1e6:.1f} MB"
    yield f"{store.url}: {counted}"
    if left_out:
        listed = ", ".join(f"{what} ({count} recordings)" for what, count in left_out.items())
        yield f"note: shards do not hold {listed}; pass data.ignore and masks again, or train from the source"


def _count_left_out(recordings: Iterable[Recording], counts: dict[str, int]) -> Iterator[Recording]:
    """Yield the recordings, and count those with masks, an ignored region or a map, which shards do not hold.

    Nor do they hold poses of another unit than metres, as readers take them for metres.
    """
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
    """Yield the videos of a list, each decoded into a folder that is removed when the next one is opened."""
    folder = find_cache_folder(options.cache)
    folder.mkdir(parents=True, exist_ok=True)
    for entry in select_entries(read_entries(path), options.recordings, path):
        with tempfile.TemporaryDirectory(prefix="stadia-shard-", dir=folder) as scratch:
            cache = options.cache.model_copy(update={"folder": scratch})
            try:
                recording = open_entry(entry, options.model_copy(update={"cache": cache}), progress)
            except DataError as error:
                if options.damaged == "stop":
                    raise
                log.warning("%s: left out, found %s", entry.name, error.found)
                continue
            yield recording
