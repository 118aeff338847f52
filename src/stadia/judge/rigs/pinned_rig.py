"""Pin the views of fixed cameras, and check later recordings of them against the pinned views."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.verdict import Verdict, find_worst
from stadia.io.array_files import read_npz
from stadia.io.atomic_files import atomic_write, write_json
from stadia.io.image_files import IMAGE_SUFFIXES
from stadia.io.input_files import natural_sort_key, read_json, safe_join
from stadia.io.records.calibration import read_given_camera
from stadia.io.video_decoding import VIDEO_SUFFIXES
from stadia.judge.error import describe_measured
from stadia.judge.purposes import FIXED_PURPOSES, Purpose, PurposeVerdict, judge_limits
from stadia.judge.rigs.fixed_cameras import (
    MIN_BACKGROUND_MATCHES,
    Background,
    ViewChange,
    match_backgrounds,
    measure_texture,
    measure_view,
    read_background,
)
from stadia.judge.rigs.rig_cause import RigCause, grade_calibration

Array = NDArray[np.float64]

RIG = "rig.json"
"""Record of a folder with pinned cameras."""

MAX_PINNED = 64
"""Most cameras of a rig."""

ASSUMED_FOV_DEG = 65.0
"""Horizontal field of view of a camera that is not given; pixels are measured without it, and degrees scale with it."""

LEAST_SHIFT_SHARE = 0.0006
"""Least displacement that is named, as a share of the image's width: chosen, .4 pixels of 640."""

LEAST_ZOOM = 0.002
"""Least change of the focal length that is named."""

CHANGE_SIGMA = 4.0
"""Least size of a change in deviations that is named."""

MAX_PARALLAX = 0.3
"""Share of matches that no rotation explains, from which the place of a camera changed."""

MIN_SHARPNESS = 0.6
"""Ratio of fine details below which an image is blurred; its inverse is the other limit."""

MIN_STOPS = 0.7
"""Change of brightness, stops, that is noted."""

MIN_COVERED = 0.1
"""Share of the image in one part that shows something else, from which it counts as covered."""

BLANK_TEXTURE = 0.3
"""Details of an image over the pinned ones below which the lens is covered."""

OTHER_MATCHES = 3.0
"""Matches with another camera, or with the mirrored image, over those with its own, from which it is that one."""


@dataclass(frozen=True, slots=True, eq=False)
class PinnedCamera:
    """The pinned view of a camera.

    name: its name.
    background: its background.
    K: (3, 3) intrinsics in pixels of the background.
    has_K: whether they were given; otherwise ASSUMED_FOV_DEG is.
    """

    name: str
    background: Background
    K: Array
    has_K: bool


@dataclass(frozen=True, slots=True, eq=False)
class CameraVerdict:
    """The verdict on a camera of a rig.

    name: its name.
    change: the measured change.
    causes: what happened to it.
    purposes: whether its calibration is still good for each purpose.
    are_asked: whether the user asked for these purposes.
    has_K: whether the camera is given, so that degrees are measured; otherwise they scale with an assumed one.
    """

    name: str
    change: ViewChange
    causes: tuple[RigCause, ...] = ()
    purposes: tuple[PurposeVerdict, ...] = ()
    are_asked: bool = False
    has_K: bool = True

    @property
    def grade(self) -> Verdict:
        """Return unusable for the view of another camera, a mirrored or covered one; else the grade of the purposes."""
        return grade_calibration(self.causes, self.change.reason, self.purposes, are_asked=self.are_asked)


@dataclass(frozen=True, slots=True, eq=False)
class PinnedRigVerdict:
    """The verdict on all cameras of a rig.

    cameras: the verdict on each camera.
    missing: names of pinned cameras without a new recording.
    backgrounds: pinned and new background of each camera, by name.
    """

    cameras: tuple[CameraVerdict, ...]
    missing: tuple[str, ...]
    backgrounds: Mapping[str, tuple[Background, Background]]

    @property
    def grade(self) -> Verdict:
        """Return the worst grade; not judged if a camera is missing."""
        grades = [camera.grade for camera in self.cameras]
        return find_worst([*grades, *[Verdict.NOT_JUDGED] * bool(self.missing)])


def list_cameras(path: Path) -> dict[str, Path]:
    """Return the recording of each camera by name: videos, images, or subfolders of images of a folder.

    A video, an image, or a folder of images is one camera.

    Raises DataError for a folder without recordings.
    """
    if path.is_file():
        return {path.stem: path}
    entries = sorted((entry for entry in path.iterdir() if not entry.name.startswith(".")), key=natural_sort_key)
    videos = {entry.stem: entry for entry in entries if entry.suffix.lower() in VIDEO_SUFFIXES and entry.is_file()}
    folders = {entry.name: entry for entry in entries if entry.is_dir() and _has_images(entry)}
    found = {**videos, **folders}
    if not found and _has_images(path):
        found = {path.name: path}
    if not 0 < len(found) <= MAX_PINNED:
        expected = f"1 to {MAX_PINNED} videos or subfolders of images, one a camera"
        raise DataError(path, found=f"{len(found)} recordings", expected=expected, fix="pass another folder")
    return found


def _has_images(folder: Path) -> bool:
    return any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in folder.iterdir())


def pin_cameras(path: Path, *, camera: str | None = None, track: TrackProgress = no_progress) -> list[PinnedCamera]:
    """Return the pinned views of the cameras of a recording.

    path: recordings, as `list_cameras` finds them.
    camera: the camera of all of them: a file, or numbers such as fx=700,fy=700,cx=640,cy=360; None assumes a field of
        view.
    track: shows progress.
    """
    found = list_cameras(path)
    pinned = []
    for name, source in track(found.items(), len(found), "cameras"):
        background = read_background(source)
        pinned.append(PinnedCamera(name, background, _find_K(background, camera), camera is not None))
    return pinned


def _find_K(background: Background, camera: str | None) -> Array:
    width, height = background.size
    if camera is None:
        focal_px = width / 2 / np.tan(np.radians(ASSUMED_FOV_DEG / 2))
        K = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])
        size = (width, height)
    else:
        K, _, size = read_given_camera(camera, (width, height))
    scale = background.image.shape[1] / (size[0] or width)
    resized = K.copy()
    resized[:2] *= scale
    resized[:2, 2] += (scale - 1) / 2
    return np.asarray(resized, np.float64)


def write_rig(folder: Path, pinned: Sequence[PinnedCamera]) -> Path:
    """Write pinned cameras into a folder: rig.json, and the background of each as .npz. Return the record.

    folder: an existing folder.
    pinned: the cameras.
    """
    entries = []
    for number, camera in enumerate(pinned):
        file = f"camera-{number}.npz"
        with atomic_write(folder / file) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, image=camera.background.image, moving=camera.background.moving)
        entries.append(
            {
                "name": camera.name,
                "background": file,
                "width": camera.background.size[0],
                "height": camera.background.size[1],
                "K": camera.K.tolist(),
                "has_K": camera.has_K,
            }
        )
    write_json(folder / RIG, {"format": "stadia-rig", "cameras": entries})
    return folder / RIG


EXPECTED_RIG = "a rig of `stadia rig pin`"


def read_rig(path: Path) -> list[PinnedCamera]:
    """Read pinned cameras from a folder or its rig.json.

    Raises DataError for any other file.
    """
    file = path / RIG if path.is_dir() else path
    content = read_json(file, expected=EXPECTED_RIG, fix="run stadia rig pin CAMERAS --out FOLDER")
    entries = content.get("cameras") if isinstance(content, dict) and content.get("format") == "stadia-rig" else None
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_PINNED:
        raise DataError(file, found="another JSON file", expected=EXPECTED_RIG, fix="run stadia rig pin")
    try:
        return [_read_camera(file, entry) for entry in entries]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(file, found=f"a damaged camera ({error})", expected=EXPECTED_RIG, fix="pin it again") from error


def _read_camera(file: Path, entry: Mapping[str, Any]) -> PinnedCamera:
    arrays = read_npz(safe_join(file.parent, str(entry["background"])), only=("image", "moving"))
    image, moving = np.asarray(arrays["image"]), np.asarray(arrays["moving"])
    K = np.array(entry["K"], np.float64)
    is_image = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and min(image.shape[:2]) > 16
    if not is_image or moving.shape != image.shape[:2] or K.shape != (3, 3) or not (np.diag(K) > 0).all():
        raise ValueError("sizes of its arrays")
    size = int(entry["width"]), int(entry["height"])
    if min(size) <= 0 or not np.isfinite(K).all():
        raise ValueError("numbers of its camera")
    background = Background(np.ascontiguousarray(image), moving.astype(np.bool_), size)
    return PinnedCamera(str(entry["name"]), background, K, bool(entry["has_K"]))


def check_rig(
    pinned: Sequence[PinnedCamera], path: Path, purposes: Sequence[Purpose] = (), track: TrackProgress = no_progress
) -> PinnedRigVerdict:
    """Compare new recordings of fixed cameras with the pinned views.

    pinned: the pinned cameras.
    path: the new recordings, with the names of the pinned cameras; one camera may have any name.
    purposes: what the calibrations are to be good for; empty for all of FIXED_PURPOSES.
    track: shows progress.

    Raises DataError if no recording has the name of a pinned camera.
    """
    found = list_cameras(path)
    if len(found) == len(pinned) == 1:
        found = {pinned[0].name: next(iter(found.values()))}
    known = [camera for camera in pinned if camera.name in found]
    if not known:
        names = f"recordings {', '.join(list(found)[:6])}"
        expected = f"recordings of {', '.join(camera.name for camera in pinned[:6])}"
        raise DataError(path, found=names, expected=expected, fix="give the recordings the names of the cameras")
    fresh = {camera.name: read_background(found[camera.name]) for camera in track(known, len(known), "recordings")}
    cameras = [
        judge_camera(camera, fresh[camera.name], pinned, purposes) for camera in track(known, len(known), "views")
    ]
    missing = tuple(camera.name for camera in pinned if camera.name not in found)
    backgrounds = {camera.name: (camera.background, fresh[camera.name]) for camera in known}
    return PinnedRigVerdict(tuple(cameras), missing, backgrounds)


def judge_camera(
    camera: PinnedCamera, fresh: Background, others: Sequence[PinnedCamera] = (), purposes: Sequence[Purpose] = ()
) -> CameraVerdict:
    """Judge a camera by its pinned and its new background.

    camera: the pinned camera.
    fresh: the new background.
    others: all pinned cameras, with which it may be exchanged.
    purposes: what its calibration is to be good for; empty for all of FIXED_PURPOSES.
    """
    change = measure_view(camera.background, fresh, camera.K)
    verdict = CameraVerdict(camera.name, change, are_asked=bool(purposes), has_K=camera.has_K)
    cause = _find_other_view(camera, fresh, others, change)
    if cause is None and change.reason:
        share = measure_texture(fresh) / max(measure_texture(camera.background), 1e-6)
        if share < BLANK_TEXTURE:
            what = f"the lens is covered or out of focus: {share:.0%} of the details are left"
            cause = RigCause("covered", what, "clean or uncover it")
    if cause is not None:
        return replace(verdict, causes=(cause,))
    if change.reason:
        return verdict
    wanted = list(purposes) or list(FIXED_PURPOSES.values())
    measured = {"shift_px": change.shift_px}
    judged = tuple(judge_limits(purpose, measured.get) for purpose in wanted)
    return replace(verdict, causes=tuple(_list_causes(camera, change)), purposes=judged)


def _find_other_view(
    camera: PinnedCamera, fresh: Background, others: Sequence[PinnedCamera], change: ViewChange
) -> RigCause | None:
    """Return the cause of a view that is mirrored, or belongs to another camera."""
    least = max(MIN_BACKGROUND_MATCHES, OTHER_MATCHES * change.matches)
    for other in others:
        if other is not camera and len(match_backgrounds(other.background, fresh)) > least:
            found = measure_view(other.background, fresh, other.K)
            if _is_view(found, least):
                what = f"the recording is of camera {other.name}"
                return RigCause("swapped", what, "exchange the cables or the names", items=(other.name,))
    if not change.reason and change.matches > 4 * MIN_BACKGROUND_MATCHES:
        return None
    mirrored = Background(np.ascontiguousarray(fresh.image[:, ::-1]), fresh.moving[:, ::-1], fresh.size)
    found = measure_view(camera.background, mirrored, camera.K)
    if _is_view(found, least):
        return RigCause("mirrored", "the image is mirrored from left to right", "turn off the mirroring of the camera")
    return None


def _is_view(found: ViewChange, least: float) -> bool:
    """Return whether a recording shows a view by features; edges of a symmetric house also match its mirror image."""
    return not found.reason and not found.is_by_edges and found.matches > least


def _list_causes(camera: PinnedCamera, change: ViewChange) -> Iterator[RigCause]:
    shift, angle, zoom = change.shift_px, change.angle_deg, change.zoom_share
    assert shift is not None
    assert angle is not None
    assert zoom is not None
    is_shifted = shift.is_above(LEAST_SHIFT_SHARE * camera.background.size[0], CHANGE_SIGMA)
    if zoom.is_above(LEAST_ZOOM, CHANGE_SIGMA):
        what = f"the focal length changed by {zoom.show(100, '+')} %"
        yield RigCause("zoomed", what, "set the zoom back, or calibrate again", size=zoom, unit="share", is_fault=False)
    turn_px = np.radians(angle.value) * camera.K[0, 0] * camera.background.size[0] / camera.background.image.shape[1]
    is_turned = turn_px > LEAST_SHIFT_SHARE * camera.background.size[0] and angle.is_above(0.0, CHANGE_SIGMA)
    if is_shifted and is_turned:
        what = f"the camera turned by {angle.show()} degrees, {shift.show()} px"
        fix = "turn it back, or correct its calibration by this rotation"
        yield RigCause("moved", what, fix, size=angle, unit="degrees", is_fault=False)
    if change.parallax_share > MAX_PARALLAX:
        what = f"the place of the camera changed: no rotation explains {change.parallax_share:.0%} of the matches"
        yield RigCause("displaced", what, "calibrate it again")
    if change.sharpness is not None and not MIN_SHARPNESS < change.sharpness < 1 / MIN_SHARPNESS:
        what = f"fine details have {change.sharpness:.0%} of their former contrast"
        yield RigCause("refocused", what, "focus again, or clean the lens", is_fault=False)
    if change.stops is not None and abs(change.stops) > MIN_STOPS:
        what = f"the image is {abs(change.stops):.1f} stops {'brighter' if change.stops > 0 else 'darker'}"
        yield RigCause("exposure", what, "no change of the calibration is needed", is_fault=False)
    if change.covered_share is not None and change.covered_share > MIN_COVERED:
        what = f"{change.covered_share:.0%} of the image shows something else"
        is_fault = change.covered_share > 0.5
        yield RigCause("covered", what, "remove what is in front of the camera", is_fault=is_fault)


def describe_change(camera: CameraVerdict) -> dict[str, str]:
    """Return the measured change of a camera as texts by name; empty if it cannot be measured."""
    change = camera.change
    if change.rotation_deg is None or change.zoom_share is None or change.shift_px is None:
        return {}
    up, right, clockwise = (turn.show(sign="+") for turn in change.rotation_deg)
    matches = "patches of edges" if change.is_by_edges else "matches"
    assumed = "" if camera.has_K else " (a field of view of 65 degrees is assumed)"
    return {
        "turned": f"up {up}, right {right}, clockwise {clockwise} degrees{assumed}",
        "focal length": f"{change.zoom_share.show(100, '+')} %",
        "displacement": f"{change.shift_px.show()} px, by {change.matches} {matches} of the background",
    }


def describe_rig(verdict: PinnedRigVerdict) -> dict[str, Any]:
    """Return all fields of a verdict for JSON."""
    cameras = []
    for camera in verdict.cameras:
        change = camera.change
        turns = change.rotation_deg or (None, None, None)
        cameras.append(
            {
                "name": camera.name,
                "grade": camera.grade,
                "not_measurable": change.reason or None,
                "up_deg": describe_measured(turns[0]),
                "right_deg": describe_measured(turns[1]),
                "clockwise_deg": describe_measured(turns[2]),
                "angle_deg": describe_measured(change.angle_deg),
                "shift_px": describe_measured(change.shift_px),
                "zoom_share": describe_measured(change.zoom_share),
                "sharpness": change.sharpness,
                "stops": change.stops,
                "covered_share": change.covered_share,
                "matches": change.matches,
                "is_by_edges": change.is_by_edges,
                "is_camera_given": camera.has_K,
                "causes": [cause.to_json() for cause in camera.causes],
                "purposes": [one.to_json() for one in camera.purposes],
            }
        )
    return {"grade": verdict.grade, "cameras": cameras, "missing": list(verdict.missing)}
