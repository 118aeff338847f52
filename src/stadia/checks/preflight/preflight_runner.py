"""Run the checks over recordings within a time limit."""

import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from stadia.checks.catalog import NOT_CHECKED, SAMPLED, NotChecked, make_finding, make_not_checked, sort_findings
from stadia.checks.finding import Finding, Severity, merge_findings
from stadia.checks.preflight import CHECKS, PREREQUISITES, SPLIT_CHECKS
from stadia.checks.preflight.finding_images import add_image, draw_finding
from stadia.checks.preflight.frame_checks import check_interface
from stadia.checks.preflight.recording_survey import BaselineAgreement, RecordingSurvey, spread_order
from stadia.checks.preflight.scale_errors import explain_baseline_by_focal
from stadia.checks.preflight.split_checks import SplitFrames
from stadia.core.errors import DataError, StadiaError, summarize_exception
from stadia.core.recording import Recording
from stadia.data.open_dataset import open_recordings
from stadia.io.image_files import ImageSizeError

MAX_PREFLIGHT_SECONDS = 20.0  # no recording is started later
TEXT_FILE = re.compile(r"\.(txt|ya?ml|json|csv|toml|xml|ini|cfg|tum)\b", re.IGNORECASE)  # names of files without images

Progress = Callable[[str, int, int], None]  # called as (current check, done, total)


def check_data(
    data: Path | str, *, fov_deg: float | None = None, format: str = "auto", **options: Any
) -> list[Finding]:
    """Return the findings of every check of data, worst first; [] if all checks passed.

    data: a video, a folder of images, or a data set.
    fov_deg: horizontal field of view of your own images in degrees, if no file has their camera.
    format: a name of `stadia.data.DATASETS`.
    options: fields of `datasets.config.SourceOptions`.

    Raises DataError for data that cannot be opened.
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
    """Run every check of data on the recordings that fit the time limit. Return sorted findings.

    splits: frames by split name, the training split first.
    checks: names of CHECKS and SPLIT_CHECKS; all by default.
    seconds: no recording is started after this time, except the first one. N02 reports the skipped ones.
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
    return camera.height, camera.width, camera.K.numpy().tobytes(), T_right_left.tobytes()


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
    """Return K04 for another image size, D17 for a file of calibration, poses or times, otherwise D01."""
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
