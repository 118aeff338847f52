"""Map many videos, each by itself: `stadia map LIST --each`. The same command resumes.

OUT/NAME/map.json, which is written with its whole folder, marks a video as done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from stadia.batches.video_batch import BatchSummary, VideoBatch, VideoResult, attempt, work_on_videos
from stadia.core.errors import mask_values
from stadia.core.progress import TrackProgress
from stadia.data.config import CacheConfig, CameraConfig
from stadia.data.video.video_list import VideoEntry, read_entries
from stadia.data.video.video_map import MAX_RECORD_BYTES, RECORD
from stadia.io.input_files import expand_home, make_absolute, read_json, safe_join
from stadia.sfm.frame_stream import is_panorama_video
from stadia.sfm.map_files import PredictDepth
from stadia.sfm.map_video import map_video
from stadia.sfm.sparse_map import FrameStatus


@dataclass(frozen=True, kw_only=True)
class MapBatchRequest:
    """The arguments of `stadia map LIST --each`.

    source: a folder, glob or list of videos.
    out: folder of the maps.
    camera: camera of the videos that have none of their own; None estimates it.
    format: format of the videos, or "auto".
    options: further fields of `SourceOptions`, such as frames.
    cache: folder of intermediate results.
    has_views: whether to write undistorted keyframes.
    depth: name of the network of their depth; None writes no depth.
    open_depth: opens that network in a process, and returns the function that predicts depth.
    workers: number of processes; 0 maps in this process.
    engine: what runs the processes, see `stadia.batches.engines.run_items`.
    """

    source: Path
    out: Path
    camera: CameraConfig | None = None
    format: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    cache: CacheConfig = field(default_factory=CacheConfig)
    has_views: bool = False
    depth: str | None = None
    open_depth: Callable[[str], PredictDepth] | None = None
    workers: int = 1
    engine: str = "local"

    @property
    def threads(self) -> int:
        """Return the number of threads of each process."""
        return max((os.cpu_count() or 1) // max(self.workers, 1), 1)


def map_videos(request: MapBatchRequest, track: TrackProgress, on_failure: Callable[[str], None]) -> BatchSummary:
    """Map every video of a list that is not done yet; videos that failed before are tried again.

    request: the arguments.
    track: shows progress.
    on_failure: called with a line of text for each failed video.

    Raises DataError for a wrong list, RunError if the output folder belongs to another batch.
    """
    out = make_absolute(request.out)
    camera = None if request.camera is None else request.camera.model_dump(exclude_defaults=True)
    batch = VideoBatch[VideoEntry](
        out=str(out),
        described=mask_values({
            "command": "map",
            "camera": camera,
            "source_format": request.format,
            "options": dict(request.options),
            "views": request.has_views,
            "depth": request.depth,
        }),
        make_work=partial(make_mapper, request, out),
        find_finished=partial(find_map, out),
        workers=request.workers,
        engine=request.engine,
    )  # fmt: skip
    return work_on_videos(batch, read_entries(expand_home(request.source)), track, on_failure)


def make_mapper(request: MapBatchRequest, out: Path) -> Callable[[VideoEntry], VideoResult]:
    """Return the function that maps a video of a batch; a network of depth is opened once."""
    network = None if request.open_depth is None or request.depth is None else request.open_depth(request.depth)
    return lambda entry: attempt(entry.name, partial(_map_entry, request, out, network, entry))


def _map_entry(request: MapBatchRequest, out: Path, depth: PredictDepth | None, entry: VideoEntry) -> VideoResult:
    if (done := find_map(out, entry.name)) is not None:
        return done
    folder, camera = safe_join(out, entry.name), entry.camera or request.camera
    if camera is None and is_panorama_video(entry.path):
        from stadia.sfm.panorama_map import map_panorama

        map_panorama(entry.path, out=folder, has_views=request.has_views)
    else:
        map_video(
            entry.path,
            camera=camera,
            format=request.format,
            options=request.options,
            out=folder,
            masks=entry.masks,
            has_views=request.has_views or depth is not None,
            predict_depth=depth,
            cache=request.cache,
            threads=request.threads,
        )
    found = find_map(out, entry.name)
    assert found is not None
    return found


def find_map(out: Path, name: str) -> VideoResult | None:
    """Return the result of a video with a map in the folder of a batch; None without one.

    out: folder of the batch.
    name: name of the video.
    """
    file = safe_join(out, name) / RECORD
    if not file.is_file():
        return None
    record = read_json(file, max_bytes=MAX_RECORD_BYTES)
    record = record if isinstance(record, dict) else {}
    statuses = [frame.get("status") for frame in record.get("frames", ()) if isinstance(frame, dict)]
    verdict = record.get("verdict")
    return VideoResult(
        video=name,
        state="done",
        frames=len(statuses) - statuses.count(FrameStatus.LOST),
        verdict=str(verdict.get("grade", "")) if isinstance(verdict, dict) else "",
    )
