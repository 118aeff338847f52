"""Survey data before training: the masks of recordings, and the videos of a list."""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import Recording
from stadia.data.config import SourceOptions
from stadia.data.frame_store import ReportProgress
from stadia.data.height_priors import RoadConfig, find_prior
from stadia.data.mask_files import ROAD, clean_masks, find_edge_objects, has_road, select_classes
from stadia.data.mask_objects import find_windows
from stadia.data.video.video_camera import NO_CAMERA, read_user_intrinsics
from stadia.data.video.video_list import VideoEntry, open_entry
from stadia.io.image_files import list_images, read_rgb
from stadia.io.video_decoding import VideoHeader, read_video_header

MASK_MOVES = tuple((down / 64, right / 64) for down in range(-9, 10) for right in range(-9, 10))
"""Moves of a mask that are tried: down and to the right, as shares of the image's height and width."""

COMPARED_WIDTH = 320
"""Width in pixels at which moved masks are compared with the image."""

MIN_OUTLINE_PX = 20  # vertical outlines of a frame, to compare them with the image
MAX_FRAMES, MAX_FRAMES_IN_ALL = 24, 400  # largest numbers of sampled frames: of a recording, and of all recordings


@dataclass(slots=True)
class MaskSurvey:
    """What was found in the masks of some sampled video frames of one recording.

    recording: name of the recording.
    frames: number of sampled frames.
    without_masks: numbers of the frames that have no masks.
    unusable: reason why the masks of a frame are invalid, by the frame's number.
    without_road: numbers of the frames with too little road.
    road_in_lower_half: share of all road pixels that are in the lower half of the image.
    upside_down: numbers of the frames with less than half of their road in the lower half of the image.
    without_object: numbers of the frames with a road but without an object of known height.
    objects: number of objects of known height.
    no_prior: numbers of the frames with objects of a class that should give the scale but has no known height, by
        class.
    as_they_are: for each frame, ln(a / b) with the image gradient a along the outlines of its masks, and b along those
        of the mirrored masks; it is negative if the masks seem to be mirrored.
    moved: for each frame, the log contrast of the image along the outlines of its masks after each of `moves`.
    moves: moves down and to the right, as shares of the image's height and width.
    others: number of objects by class, for the classes whose height is not known.
    """

    recording: str
    frames: int
    without_masks: tuple[int, ...] = ()
    unusable: dict[int, str] = field(default_factory=dict)
    without_road: tuple[int, ...] = ()
    road_in_lower_half: float = 0.0
    upside_down: tuple[int, ...] = ()
    without_object: tuple[int, ...] = ()
    objects: int = 0
    no_prior: dict[str, tuple[int, ...]] = field(default_factory=dict)
    as_they_are: tuple[float, ...] = ()
    moved: tuple[tuple[float, ...], ...] = ()
    moves: tuple[tuple[float, float], ...] = MASK_MOVES
    others: Counter[str] = field(default_factory=Counter)


def survey_masks(recordings: Sequence[Recording], config: RoadConfig) -> list[MaskSurvey]:
    """Examine the masks of some video frames of each recording before a training.

    recordings: the recordings.
    config: which classes give the scale.
    """
    frames = max(min(MAX_FRAMES, MAX_FRAMES_IN_ALL // max(len(recordings), 1)), 2)
    return [_survey_recording(recording, config, frames) for recording in recordings]


def _survey_recording(recording: Recording, config: RoadConfig, frames: int) -> MaskSurvey:
    names = {} if recording.mask_reader is None else recording.mask_reader.classes
    sampled = np.unique(np.linspace(0, len(recording) - 1, frames).astype(int)).tolist()
    survey = MaskSurvey(recording.name, len(sampled))
    road_px, lower_px = 0, 0
    for index in sampled:
        frame = recording.number(index)
        try:
            masks = recording.masks(index)
        except DataError as error:
            survey.unusable[frame] = str(error)
            continue
        if masks is None:
            survey.without_masks += (frame,)
            continue
        road = select_classes(masks.semantic, names, {ROAD})
        road_count, lower = int(road.sum()), int(road[road.shape[0] // 2 :].sum())
        road_px, lower_px = road_px + road_count, lower_px + lower
        if not has_road(masks.semantic, names):
            survey.without_road += (frame,)
            continue
        if 2 * lower < road_count:
            survey.upside_down += (frame,)
        clean = clean_masks(masks, config)
        outlined = np.where(road | (clean.instance > 0), masks.semantic, 0)
        if (ratio := _compare_with_mirrored(recording.image(index), outlined)) is not None:
            survey.as_they_are += (ratio,)
        if (contrasts := _compare_with_moved(recording.image(index), outlined)) is not None:
            survey.moved += (contrasts,)
        edge, known = find_edge_objects(clean.instance, config.border_px), 0
        for number, window in find_windows(clean.instance).items():
            if number in edge:
                continue
            name = names.get(int(clean.semantic[window][clean.instance[window] == number][0]), "")
            if name not in config.objects:
                survey.others[name] += 1
            elif find_prior(name, config.height_priors) is None:
                survey.no_prior[name] = (*survey.no_prior.get(name, ()), frame)
            else:
                known += 1
        survey.objects += known
        if not known:
            survey.without_object += (frame,)
    survey.road_in_lower_half = lower_px / max(road_px, 1)
    return survey


def _compare_with_mirrored(image: NDArray[np.uint8], semantic: NDArray[np.integer]) -> float | None:
    """Return the log ratio of mean gradients along vertical mask outlines and mirrored ones; None for few outlines."""
    size = (semantic.shape[1], semantic.shape[0])
    gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    strength = np.abs(cv2.Sobel(gray, cv2.CV_32F, 1, 0))
    outline = np.zeros(semantic.shape, bool)
    outline[:, 1:] = semantic[:, 1:] != semantic[:, :-1]
    if outline.sum() < MIN_OUTLINE_PX:
        return None
    # One gray level is added: a blank image gives a ratio of 1.
    along, mirrored = (1 + float(strength[edge].mean()) for edge in (outline, outline[:, ::-1]))
    return math.log(along / mirrored)


def _compare_with_moved(image: NDArray[np.uint8], semantic: NDArray[np.integer]) -> tuple[float, ...] | None:
    """Return the log contrast of the image along the mask outlines after each of `MASK_MOVES`; None for few outlines.

    The contrast is the gradient over its mean in the neighborhood, so that textured regions attract no outline.
    """
    width = min(COMPARED_WIDTH, semantic.shape[1])
    height = max(round(semantic.shape[0] * width / semantic.shape[1]), 1)
    gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (width, height), interpolation=cv2.INTER_AREA)
    small = cv2.resize(semantic.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    across, along = (cv2.Sobel(gray.astype(np.float32), cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    strength = 1 + cv2.blur(np.hypot(across, along), (3, 3))  # one gray level: a blank image has contrast 1
    contrast = np.log(strength / cv2.blur(strength, (width // 8 | 1, width // 8 | 1)))
    outline = np.zeros(small.shape, bool)
    outline[:, 1:] |= small[:, 1:] != small[:, :-1]
    outline[1:] |= small[1:] != small[:-1]
    rows, columns = outline.nonzero()
    if len(rows) < MIN_OUTLINE_PX:
        return None
    found = []
    for down, right in MASK_MOVES:
        moved_rows, moved_columns = rows + round(down * height), columns + round(right * width)
        inside = (moved_rows >= 0) & (moved_rows < height) & (moved_columns >= 0) & (moved_columns < width)
        values = contrast[moved_rows[inside], moved_columns[inside]]
        found.append(float(values.mean()) if 2 * len(values) > len(rows) else 0.0)
    return tuple(found)


MAX_GROUPS = 8  # sizes and cameras in a summary
MAX_FAULTS = 10  # faults in a summary; the table has all


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """A row of a survey of videos; values that are unknown are None.

    name, path: name and path of the video.
    frames: number of frames.
    width, height: size of the frames in pixels.
    rate_hz: frame rate.
    duration_s: duration in seconds.
    fx_px: focal length in pixels.
    rig: name of the mount, or "".
    split: name of the split, or "".
    place: name of the place, or "".
    masks: whether masks are listed for the video.
    track: whether poses are listed for the video.
    fault: why the video cannot be used; "" if it can.
    """

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
    """Read the header and camera of each video of a list, in parallel; return one row per video, in order.

    Rows of videos that cannot be used have a fault.

    entries: the videos.
    options: options for reading, such as the camera.
    workers: number of threads.
    progress: called for each video.
    """
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
    """Format the rows of a survey of videos as the text of a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(VideoFacts)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = asdict(row)
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in values.items()})
    return text.getvalue()


def summarize_survey(rows: Sequence[VideoFacts]) -> Iterator[str]:
    """Yield lines of text with the totals, sizes, cameras, splits, places and faults of a survey of videos."""
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
