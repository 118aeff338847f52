"""Run the checks over recordings within a time limit; and check that held-out splits share nothing with training."""

import hashlib
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, combinations
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from stadia.core.errors import DataError, StadiaError, summarize_exception
from stadia.core.types import Recording
from stadia.data.open_dataset import open_recordings
from stadia.geometry.image_features import FeatureMatches, detect_features, gray, match_features
from stadia.io.image_files import ImageSizeError
from stadia.io.image_io import MAX_IMAGE_BYTES
from stadia.io.input_files import read_bytes
from stadia.judge.catalog import NOT_CHECKED, SAMPLED, NotChecked, make_finding, make_not_checked, sort_findings
from stadia.judge.finding import Finding, Severity, merge_findings
from stadia.judge.limits import RECORDING_LIMITS
from stadia.judge.recordings import CHECKS, PREREQUISITES, SPLIT_CHECKS
from stadia.judge.recordings.frame_checks import add_image, check_interface, draw_finding, draw_frames, image_digest
from stadia.judge.recordings.recording_survey import (
    ENOUGH_MATCHES,
    Array,
    BaselineAgreement,
    RecordingSurvey,
    spread_order,
)
from stadia.judge.recordings.scale_errors import explain_baseline_by_focal

Item = TypeVar("Item")
Value = TypeVar("Value")

Frame = tuple[Recording, int]
FramePair = tuple[Frame, Frame]
SplitFrames = tuple[Recording, Sequence[int]]  # a recording, and its frames in a split
MAX_HELD_OUT = 1000  # held-out frames that are compared by content
MAX_TRAINED = 100_000  # training frames whose file sizes are compared
MAX_OF_A_SIZE = 400  # training frames of one file size whose content is compared
MAX_SPLIT_SECONDS = 8.0  # time limit for all pairs of splits
MAX_SHOWN_PAIRS = 8  # pairs of frames in the evidence
NEIGHBOR_PROBES = 6  # held-out frames whose neighbor in training is searched
MAX_THUMBNAILS = 400  # training frames that are compared by thumbnail

THUMBNAIL_SIZE = (32, 16)  # width and height of the images that find near frames of two splits

MIN_LIKENESS = 0.85  # correlation of thumbnails from which two images are compared by matches
MIN_EPIPOLAR_AGREEMENT = 0.5  # share of the matches of two images of one place under one epipolar geometry
MIN_MOVED_PX = 1.0  # displacement to the next frame; less is a static camera
MAX_NEAR_SHARE = 0.8  # share of the displacement to the next own frame: a training frame with less is nearer


@dataclass(frozen=True, slots=True)
class Split:
    """A named split: recordings with the indices of their frames."""

    name: str
    recordings: Sequence[SplitFrames]

    @property
    def frames(self) -> list[Frame]:
        """The frames of the split."""
        return [(recording, index) for recording, indices in self.recordings for index in indices]


@dataclass(frozen=True, slots=True)
class SharedFrames:
    """Pairs of (held-out frame, training frame) with equal content, and the numbers of compared frames."""

    pairs: list[FramePair]
    compared: int
    total: int
    trained_compared: int
    trained_total: int


def check_splits(
    named: Mapping[str, Sequence[SplitFrames]], *, seconds: float = MAX_SPLIT_SECONDS
) -> Iterator[Finding]:
    """Report splits that share frames (D09), contain adjacent frames (D10), or share drives (D13).

    Each pair of splits gets at most one finding: the first of these.
    """
    splits = [Split(name, recordings) for name, recordings in named.items()]
    splits = [split for split in splits if any(len(indices) for _, indices in split.recordings)]
    if len(splits) < 2:
        raise NotChecked("the data has no splits to compare")
    pairs = list(combinations(splits, 2))
    began = time.monotonic()
    for number, (train, held_out) in enumerate(pairs):
        start, end = (began + seconds * (number + done) / len(pairs) for done in (0, 1))
        shared = _find_shared_frames(train, held_out, (start + end) / 2)
        if shared.pairs:
            severity = Severity.stop_if(
                len(shared.pairs) >= RECORDING_LIMITS["shared_frames"].unusable * shared.compared
            )
            sampled = "sampled " if shared.compared < shared.total else ""
            measured = f"{len(shared.pairs)} of the {shared.compared} {sampled}frames of '{held_out.name}' are "
            measured += f"identical to frames of '{train.name}'"
            yield _report_pairs("D09", severity, measured, "0", train, held_out, shared.pairs)
        elif finding := _check_adjacent_frames(train, held_out, end) or _check_shared_drives(train, held_out):
            yield finding
        if shared.compared < shared.total or shared.trained_compared < shared.trained_total:
            measured = f"splits, sampled: {shared.compared} of {shared.total} frames of '{held_out.name}' were "
            measured += f"compared with {shared.trained_compared} of {shared.trained_total} of '{train.name}'"
            yield make_finding(SAMPLED, Severity.NOTE, measured, "all of them", case="splits")


def _report_pairs(
    code: str,
    severity: Severity,
    measured: str,
    expected: str,
    train: Split,
    held_out: Split,
    pairs: Sequence[FramePair],
) -> Finding:
    held_out_names, names = ([f"{frame[0].name} {frame[1]}" for frame in column] for column in zip(*pairs, strict=True))
    where = sorted({frame[0].name for frame, _ in pairs})
    evidence = {held_out.name: held_out_names[:MAX_SHOWN_PAIRS], train.name: names[:MAX_SHOWN_PAIRS]}
    finding = make_finding(code, severity, measured, expected, where=where, evidence=evidence)
    return add_image(finding, lambda: draw_frames(dict(zip((held_out.name, train.name), pairs[0], strict=True))))


def _find_shared_frames(train: Split, held_out: Split, until: float) -> SharedFrames:
    """Find frames of the same recording and index, or with the same file (pixels for video)."""
    trained, probed = train.frames, held_out.frames
    known = _identify_recordings([recording for recording, _ in (*train.recordings, *held_out.recordings)])
    own = {(known[id(recording)], index) for recording, index in trained}
    same_index = [frame for frame in probed if (known[id(frame[0])], frame[1]) in own]
    others = [frame for frame in probed if (known[id(frame[0])], frame[1]) not in own]
    now = time.monotonic()
    sizes = _measure_within_time(_sample(others, MAX_HELD_OUT), _file_size, now + (until - now) / 8)
    by_size: dict[int, list[Frame]] = {size: [] for _, size in sizes}
    listed = _measure_within_time(_sample(trained, MAX_TRAINED), _file_size, now + (until - now) / 4)
    for frame, size in listed:
        if size in by_size:
            by_size[size].append(frame)
    alike = [frame for frames in by_size.values() for frame in _sample(frames, MAX_OF_A_SIZE)]
    read = _measure_within_time(alike, _hash_content, now + (until - now) * 5 / 8)
    same = {content: frame for frame, content in read}
    alone = [frame for frame, size in sizes if not by_size[size]]
    compared = _measure_within_time([frame for frame, size in sizes if by_size[size]], _hash_content, until)
    return SharedFrames(
        pairs=[(frame, frame) for frame in same_index] + [(frame, same[key]) for frame, key in compared if key in same],
        compared=len(same_index) + len(alone) + len(compared),
        total=len(probed),
        trained_compared=len(listed) - sum(map(len, by_size.values())) + len(read),
        trained_total=len(trained),
    )


def _identify_recordings(recordings: Sequence[Recording]) -> dict[int, tuple[str, str]]:
    """Return what identifies a recording, by its `id`: its name, and its fingerprint if others share the name."""
    unique = {id(recording): recording for recording in recordings}
    count = Counter(recording.name for recording in unique.values())
    return {
        number: (recording.name, recording.fingerprint() if count[recording.name] > 1 else "")
        for number, recording in unique.items()
    }


def _measure_within_time(
    frames: Sequence[Frame], measure: Callable[[Recording, int], Value], until: float
) -> list[tuple[Frame, Value]]:
    """Measure all frames in order, or evenly spread ones that fit the time limit."""
    measured = {}
    for position in spread_order(len(frames)):
        measured[position] = measure(*frames[position])
        if len(measured) < len(frames) and time.monotonic() > until:
            break
    return [(frames[position], measured[position]) for position in sorted(measured)]


def _hash_content(recording: Recording, index: int) -> bytes:
    file = recording.file(index)
    if file is not None and file.is_file():
        data = read_bytes(file, expected="an image", max_bytes=MAX_IMAGE_BYTES)
        return hashlib.blake2b(data, digest_size=16).digest()
    return image_digest(recording.image(index))


def _file_size(recording: Recording, index: int) -> int:
    file = recording.file(index)
    return file.stat().st_size if file is not None and file.is_file() else 0


def _sample(items: Sequence[Item], count: int) -> list[Item]:
    return [items[int(k)] for k in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))]


def _thumbnail(recording: Recording, index: int) -> Array:
    """Return (N,) pixels of a small image with mean 0 and length 1."""
    small = cv2.resize(gray(recording.image(index)), THUMBNAIL_SIZE, interpolation=cv2.INTER_AREA)
    small = small.astype(np.float64).ravel()
    small -= small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-9))


def _check_adjacent_frames(train: Split, held_out: Split, until: float) -> Finding | None:
    """Report training frames that are nearer to a held-out frame than the next frame of its own split (D10)."""
    probes = [(recording, indices, k) for recording, indices in held_out.recordings for k in range(len(indices))]
    now = time.monotonic()
    read = _measure_within_time(_sample(train.frames, MAX_THUMBNAILS), _thumbnail, now + (until - now) / 2)
    compared, thumbnails = [frame for frame, _ in read], np.stack([thumbnail for _, thumbnail in read])
    chosen, near = 0, []
    sample = _sample(probes, NEIGHBOR_PROBES)
    for recording, indices, k in (sample[position] for position in spread_order(len(sample))):
        if chosen and time.monotonic() > until:
            break
        chosen, index = chosen + 1, indices[k]
        likeness = thumbnails @ _thumbnail(recording, index)
        candidate = _nearest_trained_frame(recording, index, train)
        if candidate is None and likeness.max() >= MIN_LIKENESS:
            candidate = compared[int(likeness.argmax())]
        following = indices[k + 1] if k + 1 < len(indices) else indices[k - 1]
        if candidate is not None and following != index and _is_nearer(recording, index, candidate, following):
            near.append(((recording, index), candidate))
    if len(near) < max(2, RECORDING_LIMITS["near_frames"].doubtful * chosen):
        return None
    measured = f"{len(near)} of {chosen} sampled frames of '{held_out.name}' "
    measured += f"have a frame of '{train.name}' nearer than the next of their own"
    return _report_pairs(
        "D10",
        Severity.WARN,
        measured,
        f"fewer than {RECORDING_LIMITS['near_frames'].doubtful:.0%}",
        train,
        held_out,
        near,
    )


def _check_shared_drives(train: Split, held_out: Split) -> Finding | None:
    """Report training frames from held-out drives (D13); None for a single recording."""
    trained = [(recording, indices[0]) for recording, indices in train.recordings if len(indices)]
    pairs: list[FramePair] = []
    for recording, indices in held_out.recordings:
        same_drive = [frame for frame in trained if frame[0].session == recording.session]
        if len(indices) and same_drive:
            another = next((frame for frame in same_drive if frame[0].name != recording.name), same_drive[0])
            pairs.append(((recording, indices[0]), _nearest_trained_frame(another[0], indices[0], train) or another))
    if not pairs or len({recording.name for recording, _ in (*train.recordings, *held_out.recordings)}) == 1:
        return None
    shared = {frame[0].name: trained_frame[0].name for frame, trained_frame in pairs}
    total = len({recording.name for recording, indices in held_out.recordings if len(indices)})
    renamed = next(((first, second) for first, second in shared.items() if first != second), None)
    measured = f"{len(shared)} of the {total} recordings of '{held_out.name}' share drives with "
    measured += f"'{train.name}'" + (f", under another name: '{renamed[0]}' and '{renamed[1]}'" if renamed else "")
    severity = Severity.WARN if renamed else Severity.NOTE
    expected = "0, for scores of other places"
    return _report_pairs("D13", severity, measured, expected, train, held_out, pairs)


def _nearest_trained_frame(recording: Recording, index: int, train: Split) -> Frame | None:
    """Return the nearest training frame of the same recording."""
    own = [i for trained, indices in train.recordings if trained.name == recording.name for i in indices]
    return (recording, min(own, key=lambda i: abs(i - index))) if own else None


def _is_nearer(recording: Recording, index: int, candidate: Frame, following: int) -> bool:
    """Return whether the candidate shows the same place from nearer than the next frame of its split."""
    here = detect_features(recording.image(index))
    there = match_features(here, detect_features(candidate[0].image(candidate[1])))
    if len(there) < ENOUGH_MATCHES or _epipolar_share(there) < MIN_EPIPOLAR_AGREEMENT:
        return False
    own = match_features(here, detect_features(recording.image(following)))
    return len(own) < ENOUGH_MATCHES or (
        own.displacement_px > MIN_MOVED_PX and there.displacement_px < MAX_NEAR_SHARE * own.displacement_px
    )


def _epipolar_share(matches: FeatureMatches) -> float:
    """Return the share of matches under one epipolar geometry."""
    _, mask = cv2.findFundamentalMat(matches.first_px, matches.second_px, cv2.FM_RANSAC, 1.5, 0.99)
    return float(mask.mean()) if mask is not None else 0.0


# -- all checks

MAX_PREFLIGHT_SECONDS = 20.0  # After this time, no recording is started.
TEXT_FILE = re.compile(r"\.(txt|ya?ml|json|csv|toml|xml|ini|cfg|tum)\b", re.IGNORECASE)  # names of files without images

Progress = Callable[[str, int, int], None]  # called as (current check, done, total)


def check_data(
    data: Path | str, *, fov_deg: float | None = None, format: str = "auto", **options: Any
) -> list[Finding]:
    """Check a dataset before training, and return the findings.

    The checks cover images, camera, poses, depth and the splits.

    data: path of a video, a folder of images, or a dataset.
    fov_deg: horizontal field of view of your own images, degrees, if no file contains their camera.
    format: a name of `stadia.data.DATASETS`, or "auto" to detect it.
    options: fields of `stadia.data.config.SourceOptions`.

    Returns the findings, the worst first; an empty list if all checks passed. Raises DataError if the data cannot be
    opened.
    """
    if fov_deg is not None:
        options["camera"] = {"horizontal_fov_deg": fov_deg}
    return run_preflight(open_recordings(Path(data), format, **options))


def run_preflight(
    recordings: Sequence[Recording],
    splits: Mapping[str, Sequence[SplitFrames]] | None = None,
    *,
    checks: Iterable[str] | None = None,
    seconds: float = MAX_PREFLIGHT_SECONDS,
    progress: Progress | None = None,
    one_camera: Collection[Recording] = (),
    report_agreement: Callable[[BaselineAgreement], None] | None = None,
) -> list[Finding]:
    """Run every check of data on recordings within a time limit, and return the findings, the worst first.

    recordings: the recordings.
    splits: frames by split name, the training split first.
    checks: names of CHECKS and SPLIT_CHECKS; all by default.
    seconds: time limit. No recording is started after it, except the first one. The finding N02 lists the skipped ones.
    progress: called with each recording before it is checked.
    one_camera: stereo recordings that train with one camera (`data.stereo=false`).
    report_agreement: called with each baseline that agrees with poses or ground truth.

    Raises ConfigError for a check that does not exist. A recording that cannot be read becomes a finding.
    """
    names = [*CHECKS, *SPLIT_CHECKS] if checks is None else list(checks)
    wanted = [name if name in SPLIT_CHECKS else CHECKS.check(name) for name in names]
    show = progress or (lambda name, done, total: None)
    began, count = time.monotonic(), len(recordings)
    by_rig: dict[object, list[Finding]] = {}
    sampled: list[Finding] = []
    for done, position in enumerate(spread_order(count)):
        if done and time.monotonic() - began > seconds:
            measured = f"sampled: {done} of {count} recordings were checked within {seconds:g} s"
            needed = 10 * math.ceil(1.5 * (time.monotonic() - began) / done * count / 10)
            values = {"seconds": needed}
            sampled = [make_finding(SAMPLED, Severity.NOTE, measured, "all of them", case="recordings", values=values)]
            break
        recording = recordings[position]
        show(recording.name, done, count + 1)
        survey = RecordingSurvey(recording, one_camera=any(recording is single for single in one_camera))
        findings = _check_recording(survey, [name for name in CHECKS if name in wanted])
        by_rig.setdefault(_find_rig(recording) or position, []).extend(findings)
        if report_agreement is not None:
            for agreement in survey.agreements:
                report_agreement(agreement)
    of_recordings = chain.from_iterable(map(explain_baseline_by_focal, by_rig.values()))
    merged = merge_findings([*of_recordings, *sampled], _key)
    show("splits", count, count + 1)
    for name in SPLIT_CHECKS:
        if name in wanted:
            merged += _run_check(name, "", partial(SPLIT_CHECKS.load(name), splits or {}))
    return sort_findings(merged)


def _check_recording(survey: RecordingSurvey, checks: Sequence[str]) -> list[Finding]:
    name = survey.recording.name
    if survey.length == 0:
        empty = DataError(name, found="no frames", expected="at least one", fix="check the folder")
        return [make_unreadable_finding(name, empty)]

    def complete(finding: Finding) -> Finding:
        return add_image(replace(finding, where=(name,)), partial(draw_finding, finding, survey))

    if broken := check_interface(survey):
        reason = f"{broken.code} must be fixed first"
        return [complete(broken), *(make_not_checked(check, reason, name) for check in checks)]
    findings: list[Finding] = []
    stopped: dict[str, str] = {}
    for check in checks:
        if blocking := [stopped[needed] for needed in PREREQUISITES.get(check, ()) if needed in stopped]:
            findings.append(make_not_checked(check, f"{blocking[0]} must be fixed first", name))
            continue
        of_check = [complete(finding) for finding in _run_check(check, name, partial(CHECKS.load(check), survey))]
        if stops := [finding.code for finding in of_check if finding.severity is Severity.STOP]:
            stopped[check] = stops[0]
        findings += of_check
    return findings


def _find_rig(recording: Recording) -> tuple[object, ...] | None:
    """Return what recordings of one rig have in common; None for one camera, or one that cannot be read."""
    if recording.T_right_left is None or len(recording) == 0:
        return None
    try:
        camera = recording.camera(0)
        T_right_left = np.asarray(recording.T_right_left, dtype=np.float64)
    except Exception:  # its checks have reported why
        return None
    return camera.height, camera.width, camera.K.tobytes(), T_right_left.tobytes()


def _run_check(name: str, where: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except NotChecked as lack:
        findings.append(make_not_checked(name, str(lack), where, hides=lack.hides))
    except StadiaError as error:
        findings.append(make_unreadable_finding(where, error))
    except OSError as error:
        found, expected = summarize_exception(error), "a file that can be read"
        unreadable = DataError(error.filename or where, found=found, expected=expected, fix="fetch it again")
        findings.append(make_unreadable_finding(where, unreadable))
    except Exception as error:  # a failing check must not prevent training
        findings.append(make_not_checked(name, f"the check itself failed ({summarize_exception(error)})", where))
    return findings


def make_unreadable_finding(where: str, error: StadiaError) -> Finding:
    """Create the finding about a file that cannot be read.

    Its code is K04 for another image size, D17 for a file of calibration, poses or times, and D01 otherwise.

    where: the recording.
    error: the error of the reader.
    """
    if isinstance(error, ImageSizeError):
        measured, values = f"{error.where}: the image is {error.found}", {"fix": error.fix or ""}
        return make_finding(
            "K04", Severity.STOP, measured, error.expected, case="image_size", values=values, where=where
        )
    code = "D17" if TEXT_FILE.search(error.where) else "D01"
    measured = f"{error.where}: {error.found}"
    return make_finding(code, Severity.STOP, measured, error.expected, where=where, fix=error.fix)


def _key(finding: Finding) -> tuple[str, ...]:
    distinct = finding.measured if finding.code in (NOT_CHECKED, "D01", "D17") else ""
    return finding.code, finding.severity.value, finding.cause, distinct
