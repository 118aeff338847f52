"""Read the speed of a camera from its video file or from a file next to it, and fit predicted motions to it.

GoPro writes GPMF into the video, DJI a subtitle file (SRT), loggers and dashcams GPX or NMEA.
Source: GPMF, github.com/gopro/gpmf-parser (docs/README.md).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.geometry.scale_fit import Lengths
from stadia.io.video_decoding import open_video_file, read_metadata
from stadia.scale.positions import (
    DAY_S,
    MIN_POSITIONS,
    Positions,
    list_srt_positions,
    read_positions,
    read_srt_positions,
)
from stadia.scale.sources import MIN_MOTION_M, SPEED_DEVIATION, MeasuredFrame, ScaleSource, SharedFit

Array = NDArray[np.float64]

SMOOTHING_S = 1.0
"""The speed at a time is the distance from this many seconds before to as many after, if only positions are known."""

MAX_LAG_S, MAX_CLOCK_ERROR_S = 3.0, 60.0
"""Largest error of the clock of a track in the video file, and of one with its own clock (MAX_CLOCK_ERROR_S)."""

OFFSET_STEP_S = 0.1
"""Distance of the clock offsets that are tried."""

MIN_SPREAD = 1e-3
"""Smallest mean deviation of ratios that tells two clock offsets apart; below, the smaller offset is taken."""

MIN_COVERED = 0.6
"""Smallest share of the predicted motions that must fall within the track at a clock offset."""

MIN_SPEED = 0.5
"""Smallest assumed speed of a track, metres per second, in the choice of the time between two frames."""


MIN_STATED = 0.5
"""Smallest share of the subtitles with positions that must state a speed if these speeds are taken."""


@dataclass(frozen=True)
class SpeedTrack:
    """The speed of a camera over time.

    name: name of the source, such as "GPMF" or a file's name.
    times_s: (N,) rising, on the video's clock if it is known, seconds.
    speeds: (N,) metres per second.
    search_s: largest error of this clock, seconds; None if it is unknown.
    """

    name: str
    times_s: Array
    speeds: Array
    search_s: float | None

    def measure(self, start_s: Array, seconds: Array) -> Array:
        """Return the driven metres (N,) from each start, for so many seconds; NaN outside of the track."""
        driven = np.concatenate([[0.0], np.cumsum(np.diff(self.times_s) * (self.speeds[1:] + self.speeds[:-1]) / 2)])
        ends = [np.interp(time_s, self.times_s, driven, np.nan, np.nan) for time_s in (start_s, start_s + seconds)]
        return np.asarray(ends[1] - ends[0])


@dataclass(frozen=True)
class ClockFit:
    """The metres of predicted motions after the clock of a track was fitted.

    offset_s: seconds to add to the video's times to get the track's.
    deviation_s: standard deviation of the offset.
    metres: (N,) of each motion; NaN outside of the track.
    deviation: relative standard deviation of their scale that comes from the offset.
    """

    offset_s: float
    deviation_s: float
    metres: Array
    deviation: float


def fit_clock(track: SpeedTrack, times_s: Array, seconds: Array, lengths: Array) -> ClockFit | None:
    """Find the clock offset at which the ratios of driven metres and predicted lengths vary least.

    Offsets whose fit is equally good within its error give the deviations. A constant speed determines no offset, so
    its offset has a large deviation and its scale a small one.

    track: the speed.
    times_s, seconds, lengths: (N,) start and duration of predicted motions, and their lengths in any unit.

    Returns None if no offset places most motions into the track.
    """
    if track.search_s is None:
        low, high = track.times_s[0] - times_s.min(), track.times_s[-1] - times_s.max()
    else:
        low, high = -track.search_s, track.search_s
    offsets = np.concatenate([[0.0], np.arange(low, high + OFFSET_STEP_S, OFFSET_STEP_S)])
    offsets = offsets[(offsets >= low) & (offsets <= max(high, low))]
    spreads, middles = np.full(len(offsets), np.inf), np.zeros(len(offsets))
    for number, offset_s in enumerate(offsets.tolist()):
        metres = track.measure(times_s + offset_s, seconds)
        usable = np.isfinite(metres) & (metres > 0)
        if usable.sum() < max(MIN_COVERED * len(lengths), 1):
            continue
        ratios = np.log(metres[usable] / lengths[usable])
        middles[number] = np.median(ratios)
        spreads[number] = np.mean(np.abs(ratios - middles[number])) / usable.mean()
    floor = max(float(spreads.min()), MIN_SPREAD)
    if not np.isfinite(floor):
        return None
    best = int(np.argmin(np.where(spreads <= floor, np.abs(offsets), np.inf)))
    with np.errstate(divide="ignore"):
        weights = np.exp(-len(lengths) * np.log(np.maximum(spreads, floor) / floor))
    mean_s = float((weights * offsets).sum() / weights.sum())
    deviation_s = float(np.sqrt((weights * (offsets - mean_s) ** 2).sum() / weights.sum()))
    middle = float((weights * middles).sum() / weights.sum())
    deviation = float(np.sqrt((weights * (middles - middle) ** 2).sum() / weights.sum()))
    offset_s = float(offsets[best])
    return ClockFit(offset_s, deviation_s, track.measure(times_s + offset_s, seconds), deviation)


def find_track(video: Path, *, is_needed: bool = False) -> SpeedTrack | None:
    """Return the speed that a video file or a file next to it records; None without one.

    video: the video.
    is_needed: whether subtitles of a drone without a GPS fix are an error.

    Raises DataError for a damaged track.
    """
    if (track := _read_gpmf(video)) is not None:
        return track
    for suffix, read in TRACK_FILES.items():
        for path in (video.with_suffix(suffix), video.with_suffix(suffix.upper())):
            if path.is_file() and (track := read(path, video)) is not None:
                return track
            if path.is_file() and is_needed and suffix == ".srt":
                read_srt_positions(path)
    return None


def _read_positions_file(path: Path, video: Path) -> SpeedTrack | None:
    found = read_positions(path)
    if found.times_s is None:
        return None
    text = next((value for key, value in read_metadata(video).items() if key.endswith("creation_time")), None)
    times_s = found.times_s
    if text is None:
        return _derive_speed(path.name, found, times_s - times_s[0], None)
    start_s = datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    start_s = start_s if path.suffix.lower() == ".gpx" else start_s % DAY_S
    return _derive_speed(path.name, found, times_s - start_s, MAX_CLOCK_ERROR_S)


def _derive_speed(name: str, found: Positions, times_s: Array, search_s: float | None) -> SpeedTrack | None:
    kept = np.concatenate([[True], np.diff(times_s) > 0])
    times_s, metres = times_s[kept], found.metres[kept]
    if times_s[-1] - times_s[0] < 2 * SMOOTHING_S:
        return None
    ends = [np.clip(times_s + side, times_s[0], times_s[-1]) for side in (-SMOOTHING_S, SMOOTHING_S)]
    at = [np.stack([np.interp(end, times_s, column) for column in metres.T], 1) for end in ends]
    return SpeedTrack(name, times_s, np.linalg.norm(at[1] - at[0], axis=1) / (ends[1] - ends[0]), search_s)


def make_track_source(text: str, track: SpeedTrack) -> ScaleSource:
    """Create the source `file`: the speed that a video records, which is compared with predicted motions.

    text: the text as the user typed it.
    track: the speed.
    """
    motions = list[tuple[float, float, float]]()

    def measure(frame: MeasuredFrame) -> Lengths | None:
        motion, time_s = frame.motion, frame.shown.frame.time_s
        if motion is None or motion.seconds is None or time_s is None:
            return None
        motions.append((time_s, motion.seconds, motion.length))
        return np.array([1 / motion.length]), np.array([motion.length])

    def finish() -> SharedFit | None:
        clock = fit_clock(track, *np.array(motions).T)
        if clock is None:
            return None
        used = [
            (np.array([1 / length]), np.array([metres]))
            for (_, _, length), metres in zip(motions, clock.metres.tolist(), strict=True)
            if metres > MIN_MOTION_M
        ]
        about = f"speed of {track.name}; its clock is {clock.offset_s:+.1f} s +- {clock.deviation_s:.1f} s off"
        return SharedFit(used, clock.deviation, about) if used else None

    speed = max(float(np.median(track.speeds)), MIN_SPEED)
    lacking = f"no motion of the video is within the speed of {track.name}"
    return ScaleSource(
        text, measure, lacking, systematic=SPEED_DEVIATION, motion_s=2 * MIN_MOTION_M / speed, finish=finish
    )


# -- DJI


def _read_srt(path: Path, video: Path) -> SpeedTrack | None:
    rows = list_srt_positions(path)
    stated = [(time_s, speed) for _, time_s, speed in rows if speed is not None]
    if len(stated) >= max(MIN_STATED * len(rows), 2):
        times_s, speeds = np.array(stated).T
        kept = np.concatenate([[True], np.diff(np.maximum.accumulate(times_s)) > 0])
        return SpeedTrack(path.name, times_s[kept], speeds[kept], MAX_LAG_S)
    if len(rows) < MIN_POSITIONS:
        return None
    found = read_srt_positions(path)
    assert found.times_s is not None
    return _derive_speed(path.name, found, found.times_s, MAX_LAG_S)


TRACK_FILES: dict[str, Callable[[Path, Path], SpeedTrack | None]] = {
    ".srt": _read_srt,
    ".gpx": _read_positions_file,
    ".nmea": _read_positions_file,
    ".gps": _read_positions_file,
}
"""For each suffix of a file next to a video, the function that reads its track, given the file and the video."""


# -- GoPro


def _list_entries(data: bytes) -> Iterator[tuple[bytes, str, int, bytes]]:
    """Yield key, type, size of a value and content of each entry of GPMF. Raises ValueError if it is cut off."""
    at = 0
    while at + 8 <= len(data):
        key, kind, size, repeat = struct.unpack_from(">4scBH", data, at)
        if key == b"\0\0\0\0":
            return
        end = at + 8 + size * repeat
        if end > len(data):
            raise ValueError(f"an entry {key!r} that is cut off")
        yield key, kind.decode("latin-1"), size, data[at + 8 : end]
        at += 8 + -(-size * repeat // 4) * 4


_FORMATS = {"l": "i", "L": "I", "s": "h", "S": "H", "b": "b", "B": "B", "f": "f", "d": "d"}


def _unpack(kinds: str, content: bytes) -> list[tuple[float, ...]]:
    return [*struct.iter_unpack(">" + "".join(_FORMATS[kind] for kind in kinds), content)]


def read_gpmf_speeds(payload: bytes) -> list[float]:
    """Return the speeds in space, m/s, of the samples in one payload of GPMF, in order of time; empty without a fix.

    Raises ValueError for a damaged payload.
    """
    speeds = list[float]()
    for key, kind, size, content in _list_entries(payload):
        if kind == "\0":
            speeds += read_gpmf_speeds(content)
            continue
        if key not in (b"GPS5", b"GPS9"):
            continue
        entries = {other: (form, length, value) for other, form, length, value in _list_entries(payload)}
        form, _, value = entries[b"SCAL"]
        scales = [row[0] for row in _unpack(form, value)]
        if key == b"GPS9":
            kinds = entries[b"TYPE"][2].decode("ascii").rstrip("\0")
            speeds += [row[4] / scales[4] for row in _unpack(kinds, content) if row[-1] / scales[-1] >= 2]
        elif b"GPSF" not in entries or int.from_bytes(entries[b"GPSF"][2], "big") >= 2:
            speeds += [row[4] / scales[4] for row in _unpack(kind * (size // 4), content)]
    return speeds


def _read_gpmf(video: Path) -> SpeedTrack | None:
    times, speeds = list[Array](), list[float]()
    with open_video_file(video) as (container, _):
        streams: Sequence[Any] = [stream for stream in container.streams if stream.type == "data"]
        for packet in container.demux(streams) if streams else ():
            payload = bytes(packet)
            if not payload.startswith(b"DEVC") or packet.pts is None:
                continue
            try:
                found = read_gpmf_speeds(payload)
            except (ValueError, KeyError, IndexError, struct.error) as error:
                raise DataError(video, found=f"damaged GPMF: {error}", expected="GoPro's telemetry") from error
            start_s, length_s = (float(value * packet.time_base) for value in (packet.pts, packet.duration or 0))
            times.append(start_s + length_s * np.arange(len(found)) / max(len(found), 1))
            speeds += found
    if len(speeds) < 2:
        return None
    times_s, order = np.unique(np.concatenate(times), return_index=True)
    return SpeedTrack("GPMF", times_s, np.array(speeds)[order], MAX_LAG_S)
