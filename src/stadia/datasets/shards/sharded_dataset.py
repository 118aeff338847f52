"""Open a sharded data set by folder or URL, as recordings whose frames are read from shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.recording import LEFT, Recording
from stadia.datasets.config import SourceOptions
from stadia.datasets.frame_store import ReportProgress
from stadia.datasets.image_files import check_depth_map
from stadia.datasets.open_dataset import DatasetFormat, select_names
from stadia.datasets.recordings import CalibratedRecording, Intrinsics, check_K
from stadia.datasets.shards.shard_cache import ShardReader
from stadia.datasets.shards.shard_index import (
    INDEX,
    Encoding,
    FrameTable,
    RecordingEntry,
    decode_depth,
    decode_frame,
    read_frames,
    read_index,
)
from stadia.files.remote_store import RemoteStore, is_url

Places = NDArray[np.int64]  # (N, 4) shard, offset, length and CRC-32 of each frame; length 0 without data


class ShardedDataset(DatasetFormat):
    """Shards in a folder or a store, written by `stadia data shard`."""

    layout = "shards.json of `stadia data shard`, or the URL of its folder"
    options = frozenset({"damaged"})

    def recognizes(self, path: Path) -> bool:
        return is_url(path) or (path / INDEX).is_file()

    def open(self, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        store = RemoteStore(path)
        index = read_index(store)
        reader = ShardReader(store, index, options.cache)
        chosen = set(select_names([entry.name for entry in index.recordings], options.recordings, path))
        recordings = list[Recording]()
        for entry in index.recordings:
            if entry.name in chosen:
                table = read_frames(store, index, entry)
                recordings.append(_open_recording(entry, table, reader, index.encoding))
        return recordings

    def splits(self, path: Path) -> dict[str, list[str]]:
        return read_index(RemoteStore(path)).splits if self.recognizes(path) else {}


@dataclass(kw_only=True, eq=False, repr=False)
class ShardRecording(CalibratedRecording):
    """A recording in shards. content: hash of its table of frames."""

    reader: ShardReader
    encoding: Encoding
    places: Mapping[str, Places]
    depth_places: Mapping[str, Places]
    content: str
    is_streamed: bool = True

    def __len__(self) -> int:
        return len(self.places[LEFT])

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        size = self.intrinsics[side]
        what = f"{self.name}, frame {index}, {side}"
        data = self.reader.read(*map(int, self.places[side][index]))
        return decode_frame(what, data, self.encoding, size.height, size.width)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        places = self.depth_places.get(side)
        if places is None or not places[index, 2]:
            return None
        size, what = self.intrinsics[side], f"{self.name}, depth {index}, {side}"
        depth_m = decode_depth(what, self.reader.read(*map(int, places[index])), size.height, size.width)
        return check_depth_map(Path(what), depth_m, size.height, size.width)

    def depth_files(self, index: int, side: str = LEFT) -> tuple[Path, ...]:
        return ()

    def shard_of(self, index: int) -> int:
        return int(self.places[LEFT][index, 0])

    def prefetch(self, index: int) -> None:
        self.reader.prefetch(self.shard_of(index))

    def fingerprint(self) -> str:
        return self.content


def _open_recording(
    entry: RecordingEntry, table: FrameTable, reader: ShardReader, encoding: Encoding
) -> ShardRecording:
    intrinsics = {}
    for side, camera in entry.cameras.items():
        matrices = np.array(camera.K, np.float64).reshape(-1, 3, 3)
        for number, K in enumerate(matrices):
            check_K(f"{entry.name}, camera {side} {number}", K)
        intrinsics[str(side)] = Intrinsics(matrices if len(matrices) > 1 else matrices[0], camera.height, camera.width)
    recording = ShardRecording(
        name=entry.name,
        intrinsics=intrinsics,
        T_right_left=None if entry.T_right_left is None else np.array(entry.T_right_left).reshape(4, 4),
        numbers=table.numbers,
        poses=_read_poses(table),
        times_s=None if table.times_s is None else np.array(table.times_s, np.float64),
        place=entry.place,
        reader=reader,
        encoding=encoding,
        places={side: _to_places(table.images[side]) for side in intrinsics},
        depth_places={side: _to_places(rows) for side, rows in table.depth.items()},
        content=entry.sha256,
    )
    recording.mount, recording.has_metric_depth = entry.mount, entry.has_metric_depth
    return recording


def _to_places(rows: Any) -> Places:
    return np.array([row or (0, 0, 0, 0) for row in rows], np.int64).reshape(-1, 4)


def _read_poses(table: FrameTable) -> NDArray[np.float64] | None:
    if table.poses is None:
        return None
    poses = np.tile(np.eye(4), (len(table.poses), 1, 1))
    for index, row in enumerate(table.poses):
        poses[index, :3] = np.nan if row is None else np.array(row).reshape(3, 4)
    return poses
