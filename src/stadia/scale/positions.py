"""Read measured positions from GPX, NMEA, EXIF of photos, OpenDroneMap or a trajectory file, and fit a trajectory."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PureWindowsPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, GeometryError
from stadia.geometry.align import umeyama
from stadia.geometry.geographic import to_local_metres
from stadia.geometry.scale_fit import WITHIN, ScaleFit
from stadia.io.image_files import IMAGE_SUFFIXES, list_images, open_photo
from stadia.io.input_files import read_text
from stadia.io.number_rows import parse_numbers
from stadia.io.records.read import read_trajectory

MAX_GPX_BYTES = 128 << 20
MAX_SRT_BYTES = 64 << 20
MAX_LATITUDE_DEG = 90.0
GPS_EXIF = 0x8825
DAY_S = 86_400.0
OUTLIER = 4.0  # standard deviations of a position from the fitted path
MIN_POSITIONS = 3


@dataclass(frozen=True)
class Positions:
    """Measured positions.

    metres: (N, 3), in a local frame with axes in metres.
    times_s: (N,) times on any clock, seconds; None if unknown.
    names: names of the photos that have the positions; empty for other files.
    """

    metres: NDArray[np.float64]
    times_s: NDArray[np.float64] | None = None
    names: tuple[str, ...] = ()


def read_positions(path: Path) -> Positions:
    """Read measured positions from a GPX or NMEA file, subtitles of a drone of DJI, the EXIF of a folder of photos,
    geo.txt of OpenDroneMap, or a trajectory file in metres.

    Raises DataError if the file cannot be read or has too few positions.
    """
    if path.is_dir():
        return _read_exif(path)
    if path.suffix.lower() == ".gpx":
        return _read_gpx(path)
    if path.suffix.lower() == ".srt":
        return read_srt_positions(path)
    expected = "GPX, NMEA, subtitles of DJI, a folder of photos with positions, or a trajectory in metres"
    lines = read_text(path, expected=expected, max_bytes=MAX_GPX_BYTES).splitlines()
    if any(line.startswith("$") and line[3:6] in ("GGA", "RMC") for line in lines[:200]):
        return _read_nmea(path, lines)
    if lines and _GEO_HEAD.match(lines[0]):
        return _read_geo(path, lines)
    if (named := _read_named(path, lines)) is not None:
        return named
    read = read_trajectory(path, is_reference=True)
    return Positions(read.T_world_camera[:, :3, 3], read.times_s)


def _make_positions(path: Path, rows: Sequence[Any], times: Sequence[float | None], names: Sequence[str] = ()) -> Any:
    """Return positions of rows of latitude, longitude (degrees) and altitude (m). Raises DataError for too few."""
    if len(rows) < MIN_POSITIONS:
        expected = f"{MIN_POSITIONS} or more"
        raise DataError(path, found=f"{len(rows)} positions", expected=expected, fix="check that it was recorded")
    known = np.array([time_s for time_s in times if time_s is not None])
    is_timed = len(known) == len(rows) and bool((np.diff(known) >= 0).all())
    metres = to_local_metres(np.array(rows, np.float64))
    if not is_timed:
        return Positions(metres, None, tuple(names))
    is_new = np.r_[True, (np.diff(metres, axis=0) != 0).any(axis=1) | (np.diff(known) > 0)]
    return Positions(metres[is_new], spread_equal_times(known[is_new]), tuple(names))


def spread_equal_times(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return times (N,) of which several are equal, as a clock of whole seconds writes them, spread until the next one.

    A recording may begin and end within a second, so its first and last times are spread at the rate of the others.

    times_s: (N,) times that never fall, seconds.

    Examples:
        >>> spread_equal_times(np.array([4.0, 5, 5, 6, 6])).tolist()
        [4.5, 5.0, 5.5, 6.0, 6.5]
    """
    instants, first, counts = np.unique(times_s, return_index=True, return_counts=True)
    if counts.max() == 1 or len(instants) < 3:
        return times_s
    steps = np.r_[np.diff(instants), 0] / counts
    steps[[0, -1]] = np.median(steps[1:-1])
    start = instants.copy()
    start[0] = instants[1] - counts[0] * steps[0]
    places = np.arange(len(times_s)) - np.repeat(first, counts)
    return np.repeat(start, counts) + places * np.repeat(steps, counts)


def _read_gpx(path: Path) -> Positions:
    expected, rows, times = "a GPX file with track points", list[tuple[float, float, float]](), list[float | None]()
    text = read_text(path, expected=expected, max_bytes=MAX_GPX_BYTES)
    try:
        if "<!DOCTYPE" in text:
            raise ValueError("a document type")
        found = (ElementTree.fromstring(text).findall(f".//{{*}}{tag}") for tag in ("trkpt", "rtept", "wpt"))
        for point in next(filter(None, found), []):
            inside = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in point}
            rows.append((float(point.attrib["lat"]), float(point.attrib["lon"]), float(inside.get("ele") or 0)))
            time = inside.get("time")
            times.append(datetime.fromisoformat(time).timestamp() if time else None)
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise DataError(
            path, found=str(error)[:200], expected=expected, fix="export the positions again from their program"
        ) from error
    return _make_positions(path, rows, times)


def _read_nmea(path: Path, lines: Sequence[str]) -> Positions:
    """Read GGA sentences, and RMC if there is no GGA. Times are seconds of the day, and rise over midnight.

    Sentences without a fix (GGA of quality 0, RMC that is not "A") are left out.
    """
    kind = "GGA" if any(line[3:6] == "GGA" for line in lines) else "RMC"
    first, rows, times, days = (2 if kind == "GGA" else 3), list[tuple[float, float, float]](), list[float](), 0.0
    for number, line in enumerate(lines, 1):
        words = line.partition("*")[0].split(",")
        if line[3:6] != kind or len(words) < 10 or not words[first]:
            continue
        if words[6] in ("", "0") if kind == "GGA" else words[2] != "A":
            continue
        try:
            time_s = int(words[1][:2]) * 3600 + int(words[1][2:4]) * 60 + float(words[1][4:]) + days
            angles = [
                (int(value[:digits]) + float(value[digits:]) / 60) * (-1 if side in "SW" else 1)
                for value, side, digits in (
                    (words[first], words[first + 1], 2),
                    (words[first + 2], words[first + 3], 3),
                )
            ]
            rows.append((angles[0], angles[1], float(words[9] or 0) if kind == "GGA" else 0.0))
        except ValueError as error:
            raise DataError(f"{path}, line {number}", found=line[:80], expected=f"an {kind} sentence") from error
        if times and time_s < times[-1] - DAY_S / 2:
            days, time_s = days + DAY_S, time_s + DAY_S
        times.append(time_s)
    return _make_positions(path, rows, times)


def _read_exif(folder: Path) -> Positions:
    rows, names = list[tuple[float, float, float]](), list[str]()
    for path in list_images(folder):
        with open_photo(path) as photo:
            entries: dict[int, Any] = dict(photo.getexif().get_ifd(GPS_EXIF))
        if not entries.keys() >= {2, 4}:
            continue
        latitude, longitude = (
            sum(float(part) / 60**power for power, part in enumerate(entries[tag])) for tag in (2, 4)
        )
        signs = [-1 if str(entries.get(tag, "")).upper() in ("S", "W") else 1 for tag in (1, 3)]
        below = entries.get(5) in (1, b"\x01")
        rows.append((signs[0] * latitude, signs[1] * longitude, float(entries.get(6, 0)) * (-1 if below else 1)))
        names.append(path.stem)
    return _make_positions(folder, rows, [None] * len(rows), names)


_GEO_HEAD = re.compile(r"\s*(EPSG:|WGS84 UTM|\+proj=)", re.IGNORECASE)
_UTM = re.compile(r"EPSG:32[67]\d\d\s*$|WGS84 UTM|\+proj=utm", re.IGNORECASE)


def _read_geo(path: Path, lines: Sequence[str]) -> Positions:
    """Read positions by the names of images: a projection, then rows of a name, x, y, z, and more that is not used.

    x and y are longitude and latitude, or metres to the east and the north.

    Source: https://docs.opendronemap.org/geo
    """
    projection, rows, names = lines[0].strip(), list[NDArray[np.float64]](), list[str]()
    is_degrees = projection.upper() == "EPSG:4326"
    if not is_degrees and not _UTM.match(projection):
        expected = "EPSG:4326 (degrees), or a zone of UTM (metres)"
        raise DataError(path, found=projection[:80], expected=expected, fix="export the positions in one of these")
    for number, line in enumerate(lines[1:], 2):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        position = parse_numbers((*words[1:4], "0")[:3])  # the height may be missing
        if len(position) != 3:
            raise DataError(f"{path}, line {number}", found=line[:80], expected="a name, x, y and z")
        rows.append(position[[1, 0, 2]] if is_degrees else position)
        names.append(words[0])
    return _make_named(path, rows, names, is_degrees=is_degrees)


MAX_SPREAD_DEG = 1.0
"""Largest spread of degrees of a survey: 100 km. Local metres spread more."""


def _read_named(path: Path, lines: Sequence[str]) -> Positions | None:
    """Read rows of the name of an image, and latitude, longitude and altitude, or metres; None for another file.

    Source: https://colmap.github.io/faq.html#geo-registration
    """
    words = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    if not words or any(len(row) < 4 or Path(row[-4]).suffix.lower() not in IMAGE_SUFFIXES for row in words):
        return None
    rows = [parse_numbers(row[-3:]) for row in words]
    if any(len(row) != 3 for row in rows):
        return None
    angles = np.array(rows)[:, :2]
    is_degrees = bool((np.abs(angles) <= (90, 180)).all() and (np.ptp(angles, axis=0) < MAX_SPREAD_DEG).all())
    return _make_named(path, rows, [row[-4] for row in words], is_degrees=is_degrees)


def _make_named(
    path: Path, rows: Sequence[NDArray[np.float64]], names: Sequence[str], *, is_degrees: bool
) -> Positions:
    """Return positions by the names of images, of rows of latitude, longitude and altitude, or of metres."""
    stems = tuple(PureWindowsPath(name).stem for name in names)
    if is_degrees or len(rows) < MIN_POSITIONS:
        found: Positions = _make_positions(path, rows, [None] * len(rows), stems)
        return found
    return Positions(np.array(rows) - np.mean(rows, axis=0), None, stems)


# -- subtitles of DJI

_SRT_TIME = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d{3})\s*-->")
_NUMBER = r"\s*:?\s*(-?\d+\.?\d*)"
_SRT_LATITUDE, _SRT_LONGITUDE = re.compile(rf"latitude{_NUMBER}"), re.compile(rf"longt?itude{_NUMBER}")
_SRT_ALTITUDE = re.compile(rf"(?:rel_alt|altitude){_NUMBER}")
_SRT_GPS = re.compile(r"GPS\s*\(\s*(-?\d+\.?\d*)\s*,\s*(-?\d+\.?\d*)\s*,\s*(-?\d+\.?\d*)(M?)", re.IGNORECASE)
_SRT_SPEEDS = re.compile(r"H\.S\s*(-?\d+\.?\d*)m/s,?\s*V\.S\s*(-?\d+\.?\d*)m/s")


def read_srt_positions(path: Path) -> Positions:
    """Read the positions that a drone of DJI writes as subtitles.

    Three forms exist: `[latitude: 47.1] [longitude: 8.2] [rel_alt: 9.8 ...]`; `GPS(8.2,47.1,15)`, with longitude first
    and the number of satellites; and `GPS(47.1,8.2,15.0M)` of Matrice, with latitude first and a height.

    Raises DataError for other subtitles, and without a GPS fix.
    """
    found = list_srt_positions(path)
    if len(found) < MIN_POSITIONS:
        text = read_text(path, expected="subtitles of DJI", max_bytes=MAX_SRT_BYTES)
        has_keys = _SRT_LATITUDE.search(text) is not None or _SRT_GPS.search(text) is not None
        what = "no GPS fix: latitude and longitude are 0" if has_keys else "no latitude and longitude"
        fix = "record after the receiver has a fix, or pass another source of metres"
        raise DataError(path, found=what, expected="positions of a drone", fix=fix)
    rows, times = np.array([row for row, _, _ in found]), np.array([time_s for _, time_s, _ in found])
    return Positions(to_local_metres(rows), times)


def list_srt_positions(path: Path) -> list[tuple[tuple[float, float, float], float, float | None]]:
    """Return (latitude, longitude, height), the time in seconds, and the stated speed in m/s of each subtitle with a
    GPS fix.
    """
    text = read_text(path, expected="subtitles of DJI", max_bytes=MAX_SRT_BYTES)
    found = list[tuple[tuple[float, float, float], float, float | None]]()
    for block in re.split(r"\r?\n\s*\r?\n", text):
        at = _SRT_TIME.search(block)
        latitude, longitude = _SRT_LATITUDE.search(block), _SRT_LONGITUDE.search(block)
        altitude, old, speeds = _SRT_ALTITUDE.search(block), _SRT_GPS.search(block), _SRT_SPEEDS.search(block)
        if at is None:
            continue
        if latitude and longitude:
            row = float(latitude[1]), float(longitude[1]), float(altitude[1]) if altitude else 0.0
        elif old:
            first, second, third = map(float, old.groups()[:3])
            row = (first, second, third) if old[4] else (second, first, 0.0)
        else:
            continue
        if row[:2] == (0.0, 0.0):  # The receiver had no fix.
            continue
        if abs(row[0]) > MAX_LATITUDE_DEG:
            fix = "correct the file: latitude is between -90 and 90 degrees"
            raise DataError(path, found=f"latitude {row[0]:g}", expected="latitude and longitude of DJI", fix=fix)
        time_s = int(at[1]) * 3600 + int(at[2]) * 60 + int(at[3]) + int(at[4]) / 1000
        found.append((row, time_s, math.hypot(float(speeds[1]), float(speeds[2])) if speeds else None))
    return found


def associate_positions(
    positions: Positions, names: Sequence[str], times_s: NDArray[np.float64] | None, offset_s: float = 0.0
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find the measured position of camera poses: by the photo's name, by time, or row by row.

    positions: the measured positions.
    names: names of the poses' images.
    times_s: times of the poses, seconds; None if unknown.
    offset_s: seconds to add to the times of the positions.

    Returns the rows of the poses that have a position, and these positions (M, 3).

    Raises GeometryError if neither names, times nor numbers fit.
    """
    if positions.names:
        place = {name: row for row, name in enumerate(positions.names)}
        rows = np.array([row for row, name in enumerate(names) if name in place], np.intp)
        return rows, positions.metres[[place[names[row]] for row in rows]]
    if positions.times_s is not None and times_s is not None:
        clock = positions.times_s + offset_s
        rows = np.flatnonzero((times_s >= clock[0]) & (times_s <= clock[-1]))
        if len(rows) >= MIN_POSITIONS:
            columns = [np.interp(times_s[rows], clock, column) for column in positions.metres.T]
            return rows, np.stack(columns, 1)
    if len(positions.metres) == len(names) and not offset_s:
        return np.arange(len(names)), positions.metres
    found = f"{len(positions.metres)} positions for {len(names)} poses"
    if positions.times_s is not None and times_s is not None:
        found += f", at {positions.times_s[0]:.3f} to {positions.times_s[-1]:.3f} s for {times_s[0]:.3f} to "
        found += f"{times_s[-1]:.3f} s"
    fix = "give the seconds to add to the times of the positions: gps=FILE@SECONDS"
    raise GeometryError("positions", found=found, expected="common times, equal numbers, or photos' names", fix=fix)


def fit_positions(path: NDArray[np.float64], metres: NDArray[np.float64]) -> ScaleFit:
    """Fit a camera trajectory to measured positions by a similarity transform, without outliers; returns its scale.

    The residuals give the uncertainty; similar successive residuals count as fewer measurements.

    path: (N, 3) camera positions in any unit.
    metres: (N, 3) measured positions, metres.

    Raises GeometryError for fewer than 3 positions, or a camera that does not move.
    """
    kept = np.ones(len(path), np.bool_)
    for _ in range(3):
        fitted = umeyama(path[kept], metres[kept], "sim3")
        off = fitted.apply(path) - metres
        distance = np.linalg.norm(off, axis=1)
        kept = distance <= max(OUTLIER * 1.4826 * float(np.median(distance)), 1e-9)
    inside, centered = off[kept], path[kept] - path[kept].mean(0)
    count = int(kept.sum())
    noise = math.sqrt(float((inside**2).sum()) / max(3 * count - 7, 1))
    variance = float((inside**2).mean())
    correlation = float((inside[1:] * inside[:-1]).mean()) / variance if variance > 0 else 0.0
    correlation = min(max(correlation, 0.0), 0.95)
    length = math.sqrt(float((centered**2).sum())) * float(fitted.scale)
    if length < 1e-6:  # metres, from rounding
        raise GeometryError("positions", found="one place", expected="positions of a camera that moves")
    deviation = noise * math.sqrt((1 + correlation) / (1 - correlation)) / length
    near = np.linalg.norm(off, axis=1) < (WITHIN - 1) * length / math.sqrt(count)
    return ScaleFit(float(fitted.scale), deviation, noise / length, float(near.mean()), len(path), count)
