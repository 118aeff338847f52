"""Survey many videos: facts and faults of each, and a summary. Only first frames are decoded."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

from stadia.core.errors import DataError
from stadia.datasets.config import SourceOptions
from stadia.datasets.frame_store import ReportProgress
from stadia.datasets.image_files import list_images, read_rgb
from stadia.datasets.video.video_camera import NO_CAMERA, read_user_intrinsics
from stadia.datasets.video.video_decoding import VideoHeader, read_video_header
from stadia.datasets.video.video_list import VideoEntry, open_entry

MAX_GROUPS = 8  # sizes and cameras in a summary
MAX_FAULTS = 10  # faults in a summary; the table has all


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """A row of a survey; None if unknown. fault: why the video cannot be used, "" if it can."""

    name: str
    path: str
    frames: int | None = None
    width: int | None = None
    height: int | None = None
    rate_hz: float | None = None
    duration_s: float | None = None
    fx_px: float | None = None
    rig: str = ""
    split: str = ""
    place: str = ""
    masks: bool = False
    track: bool = False
    fault: str = ""


def survey_videos(
    entries: Sequence[VideoEntry], options: SourceOptions, *, workers: int, progress: ReportProgress | None = None
) -> list[VideoFacts]:
    """Return a row for each video, in order; videos that cannot be used have a fault."""
    rows = list[VideoFacts]()
    with ThreadPoolExecutor(workers) as threads:
        for row in threads.map(partial(_survey_video, options=options), entries):
            rows.append(row)
            if progress is not None:
                progress("surveying", len(rows), len(entries))
    return rows


def _survey_video(entry: VideoEntry, options: SourceOptions) -> VideoFacts:
    listed = VideoFacts(
        name=entry.name,
        path=str(entry.path),
        rig=entry.rig,
        split=entry.split,
        place=entry.place,
        masks=entry.masks is not None,
        track=entry.track is not None,
    )
    try:
        return _measure_video(entry, options, listed)
    except DataError as error:
        return replace(listed, fault=f"found {error.found}; expected {error.expected}")


def _measure_video(entry: VideoEntry, options: SourceOptions, listed: VideoFacts) -> VideoFacts:
    if (entry.path / "recording.json").is_file():
        recording = open_entry(entry, options)
        camera = recording.camera(0)
        header = VideoHeader(len(recording), camera.height, camera.width, None)
        fx_px: float | None = float(camera.K[0, 0])
    else:
        header = read_video_header(entry.path) if entry.path.is_file() else _read_folder(entry.path, options)
        fx_px = _find_focal(entry, options, header)
    duration_s = header.frames / header.rate_hz if header.frames and header.rate_hz else None
    return replace(
        listed,
        frames=header.frames,
        width=header.width,
        height=header.height,
        rate_hz=header.rate_hz,
        duration_s=duration_s,
        fx_px=fx_px,
    )


def _find_focal(entry: VideoEntry, options: SourceOptions, header: VideoHeader) -> float | None:
    chosen = entry.camera or options.camera
    try:
        return float(read_user_intrinsics(chosen, entry.path, header.height, header.width).select_K(0)[0, 0])
    except DataError as error:
        if error.found == NO_CAMERA:  # the video is good
            return None
        raise


def _read_folder(path: Path, options: SourceOptions) -> VideoHeader:
    images = list_images(path)
    height, width = read_rgb(images[0]).shape[:2]
    return VideoHeader(len(images), height, width, options.frame_rate_hz)


def format_table(rows: Sequence[VideoFacts]) -> str:
    """Return the rows as CSV."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(VideoFacts)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = asdict(row)
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in values.items()})
    return text.getvalue()


def summarize_survey(rows: Sequence[VideoFacts]) -> Iterator[str]:
    """Yield lines with totals, sizes, cameras, splits, places and faults."""
    usable = [row for row in rows if not row.fault]
    frames = sum(row.frames or 0 for row in usable)
    hours = sum(row.duration_s or 0.0 for row in usable) / 3600
    yield f"{len(usable)} of {len(rows)} videos can be used: {frames} frames, {hours:.2f} hours"
    groups = Counter(_describe_camera(row) for row in usable)
    for text, count in groups.most_common(MAX_GROUPS):
        yield f"  {count} of {text}"
    if len(groups) > MAX_GROUPS:
        yield f"  and {len(groups) - MAX_GROUPS} more sizes or cameras"
    for what in ("split", "place", "rig"):
        counts = Counter(value for row in usable if (value := getattr(row, what)))
        if counts:
            named = ", ".join(f"{name} {count}" for name, count in counts.most_common(MAX_GROUPS))
            yield f"{what}: {named}{f' and {len(counts) - MAX_GROUPS} more' if len(counts) > MAX_GROUPS else ''}"
    faults = [row for row in rows if row.fault]
    for row in faults[:MAX_FAULTS]:
        yield f"damaged: {row.name}: {row.fault}"
    if len(faults) > MAX_FAULTS:
        yield f"damaged: and {len(faults) - MAX_FAULTS} more, see the table (--out)"


def _describe_camera(row: VideoFacts) -> str:
    if not (row.fx_px and row.width):
        return f"{row.width}x{row.height} without a camera: set it with `stadia camera`"
    angle_deg = 2 * math.degrees(math.atan(row.width / (2 * row.fx_px)))
    return f"{row.width}x{row.height}, {angle_deg:.0f} degrees across"
