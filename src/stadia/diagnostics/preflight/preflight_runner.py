"""Run the checks over recordings within a time limit, and sort their findings."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np

from stadia.core.errors import DataError, StadiaError, summarize_exception
from stadia.core.recording import Recording
from stadia.datasets.image_files import ImageSizeError
from stadia.diagnostics.catalog import make_finding, sort_findings
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.preflight import CHECKS, PREREQUISITES, SPLIT_CHECKS
from stadia.diagnostics.preflight.finding_images import draw_finding, draw_split_finding
from stadia.diagnostics.preflight.focal_and_baseline import explain_baseline_by_focal
from stadia.diagnostics.preflight.frame_checks import check_interface
from stadia.diagnostics.preflight.incomplete_checks import report_incomplete
from stadia.diagnostics.preflight.recording_survey import (
    BaselineAgreement,
    NotChecked,
    RecordingSurvey,
    make_not_checked,
    spread_order,
)
from stadia.diagnostics.preflight.split_checks import SplitFrames

log = logging.getLogger(__name__)

MAX_PREFLIGHT_SECONDS = 20.0
"""No recording is started after this time. A recording and the splits have limits of their own, below 20 s."""

TEXT_FILE = re.compile(r"\.(txt|ya?ml|json|csv|toml|xml|ini|cfg|tum)\b", re.IGNORECASE)
"""In the name of a file that holds a calibration, poses, times or a list, and no image."""

Progress = Callable[[str, int, int], None]
"""Called as (current check, done, total)."""


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
    """Run every check that needs no training, on every recording that fits the time limit. Return sorted findings.

    Args:
        recordings: what will be trained on.
        splits: frames by the name of their split, the training split first; None where there are none to compare.
        checks: names of CHECKS and SPLIT_CHECKS; all by default.
        seconds: no recording is started after this time, except the first one; skipped ones are reported as N02.
        progress: called with each recording before it is checked.
        one_camera: stereo recordings of which the training uses one camera (`data.stereo=false`).
        report_agreement: called with each comparison of a baseline that gives no finding.

    Raises:
        ConfigError: for a check that does not exist. A recording that cannot be read becomes a finding.
    """
    names = [*CHECKS, *SPLIT_CHECKS] if checks is None else list(checks)
    wanted = [name if name in SPLIT_CHECKS else CHECKS.check(name) for name in names]
    show = progress or (lambda name, done, total: None)
    began, count = time.monotonic(), len(recordings)
    found: list[Finding] = []
    of_rigs: dict[object, list[Finding]] = {}
    for done, position in enumerate(spread_order(count)):
        if done and time.monotonic() - began > seconds:
            measured = f"sampled: {done} of {count} recordings were checked within {seconds:g} s"
            cause = "the data has more recordings than fit the time for checking"
            needed = 10 * math.ceil(1.5 * (time.monotonic() - began) / done * count / 10)
            fix = f"run `stadia check DATA --seconds {needed}` to check all of them, also before a training from"
            fix += " Python: trainings have no setting for this time"
            found.append(make_finding("N02", Severity.NOTE, measured, "all of them", cause=cause, fix=fix))
            report_incomplete(measured)
            break
        show(recordings[position].name, done, count + 1)
        one = recordings[position]
        survey = RecordingSurvey(one, one_camera=any(one is other for other in one_camera))
        new = _check_recording(survey, [name for name in CHECKS if name in wanted])
        of_rigs.setdefault(_find_rig(one) or position, []).extend(new)
        if report_agreement is not None:
            for agreement in survey.agreements:
                report_agreement(agreement)
    found = _merge_findings([*chain.from_iterable(map(explain_baseline_by_focal, of_rigs.values())), *found])
    show("splits", count, count + 1)
    for name in (name for name in SPLIT_CHECKS if name in wanted):
        of_splits = _run_check(name, "", partial(SPLIT_CHECKS.load(name), splits or {}))
        found += [_add_image(one, partial(draw_split_finding, one, splits or {})) for one in of_splits]
    return sort_findings(found)


def _check_recording(survey: RecordingSurvey, checks: Sequence[str]) -> list[Finding]:
    name = survey.recording.name
    if survey.length == 0:
        empty = DataError(name, found="no frames", expected="at least one", fix="check the folder")
        return [make_unreadable_finding(name, empty)]

    def complete(one: Finding) -> Finding:
        """Add the recording's name and the image."""
        return _add_image(replace(one, where=(name,)), partial(draw_finding, one, survey))

    if broken := check_interface(survey):
        why = f"{broken.code} must be fixed first"
        return [complete(broken), *(make_not_checked(check, why, name) for check in checks)]
    found: list[Finding] = []
    stopped: dict[str, str] = {}
    for check in checks:
        if blocking := [stopped[other] for other in PREREQUISITES.get(check, ()) if other in stopped]:
            found.append(make_not_checked(check, f"{blocking[0]} must be fixed first", name))
            continue
        mine = [complete(one) for one in _run_check(check, name, partial(CHECKS.load(check), survey))]
        if stops := [one.code for one in mine if one.severity is Severity.STOP]:
            stopped[check] = stops[0]
        found += mine
    return found


def _find_rig(recording: Recording) -> tuple[object, ...] | None:
    """Return what recordings of one rig have in common: size and K of the left camera, and the place of the right one.

    None where there is one camera, or none that can be read.
    """
    if recording.T_right_left is None or len(recording) == 0:
        return None
    try:
        camera = recording.camera(0)
        T_right_left = np.asarray(recording.T_right_left, dtype=np.float64)
    except Exception:  # its checks have reported why
        return None
    return camera.height, camera.width, camera.K.numpy().tobytes(), T_right_left.tobytes()


def _run_check(name: str, where: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return the findings of a check; what it cannot compare is a note, what it cannot read is a stop."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except NotChecked as why:
        found.append(make_not_checked(name, str(why), where, hides=why.hides))
    except StadiaError as error:
        report_incomplete(f"{name}: {error}")
        found.append(make_unreadable_finding(where, error))
    except OSError as error:  # as a recording of the user's own passes it on
        what, why_not = error.filename or where, summarize_exception(error)
        unreadable = DataError(what, found=why_not, expected="a file that can be read", fix="fetch it again")
        report_incomplete(f"{name}: {unreadable}")
        found.append(make_unreadable_finding(where, unreadable))
    except Exception as error:  # a check that fails in itself is no reason not to train
        report_incomplete(f"{name}: the check itself failed")
        found.append(make_not_checked(name, f"the check itself failed ({summarize_exception(error)})", where))
    return found


def _add_image(one: Finding, draw: Callable[[], bytes]) -> Finding:
    """Add the image to a finding; a drawing that fails must not lose the finding."""
    try:
        return replace(one, image=draw())
    except Exception as error:
        report_incomplete(f"{one.code}: no image")
        log.warning("%s has no image (%s: %s)", one.code, type(error).__name__, error)
        return one


def make_unreadable_finding(where: str, error: StadiaError) -> Finding:
    """Return D01, a frame that cannot be read, D17, a file of the calibration, poses or times, or K04, another size."""
    if isinstance(error, ImageSizeError):
        cause = "the image can be read, and its size is not that of its camera: images were rescaled, and K was not"
        measured = f"{error.what}: the image is {error.found}"
        return make_finding("K04", Severity.STOP, measured, error.expected, where=where, cause=cause, fix=error.fix)
    measured, code = f"{error.what}: {error.found}", "D17" if TEXT_FILE.search(error.what) else "D01"
    return make_finding(code, Severity.STOP, measured, error.expected, where=where, fix=error.fix)


def _merge_findings(found: Sequence[Finding]) -> list[Finding]:
    """Merge the same finding of several recordings: the numbers of the first one, and all names."""
    merged: dict[tuple[str, ...], Finding] = {}
    for one in found:
        distinct = one.measured if one.code in ("N01", "D01", "D17") else ""
        key = (one.code, one.severity.value, one.cause, distinct)
        if key in merged:
            first = merged[key]
            merged[key] = replace(first, where=tuple(dict.fromkeys((*first.where, *one.where))))
        else:
            merged[key] = one
    return list(merged.values())
