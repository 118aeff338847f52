"""Runs the checks over recordings within a time, and puts what they find in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from stadia.core.errors import DataError, StadiaError, in_one_line
from stadia.core.recording import Recording
from stadia.diagnostics.catalog import finding, in_order
from stadia.diagnostics.checks import CHECKS, NEEDS_SOUND, SPLIT_CHECKS
from stadia.diagnostics.checks.splits import Frames
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.images import evidence_image, image_of_splits
from stadia.diagnostics.promises import broken_promise
from stadia.diagnostics.survey import NotChecked, Survey, spread

log = logging.getLogger(__name__)

SECONDS = 20.0
"""No recording is begun after this. A recording and the splits keep their own time: some seconds, below 20 with slow
images of 4K.
"""

Progress = Callable[[str, int, int], None]
"""Called as (what is checked now, done, total)."""


def preflight(
    recordings: Sequence[Recording],
    splits: Mapping[str, Sequence[Frames]] | None = None,
    *,
    checks: Iterable[str] | None = None,
    seconds: float = SECONDS,
    progress: Progress | None = None,
) -> list[Finding]:
    """Every check that needs no training, on every recording that fits the time; in the order in which to look.

    Args:
        recordings: what will be trained on.
        splits: frames by the name of their split, the training split first; None where there are none to compare.
        checks: names of CHECKS and SPLIT_CHECKS; all by default.
        seconds: no recording is begun after this time (the first one always is); what is left out is said.
        progress: told of each recording before it is checked.

    Raises ConfigError for a check that does not exist. What the recordings themselves refuse to read becomes a finding.
    """
    every = [*CHECKS, *SPLIT_CHECKS]
    wanted = every if checks is None else [name if name in SPLIT_CHECKS else CHECKS.check(name) for name in checks]
    began = time.monotonic()
    found: list[Finding] = []
    order = spread(len(recordings))
    total = len(order) + 1
    for done, position in enumerate(order):
        if done and time.monotonic() - began > seconds:
            found.append(_out_of_time(len(order) - done, len(order), seconds))
            break
        recording = recordings[position]
        if progress is not None:
            progress(recording.name, done, total)
        found = _merged([*found, *_of_recording(recording, [name for name in CHECKS if name in wanted])])
    if progress is not None:
        progress("splits", total - 1, total)
    for name in (name for name in SPLIT_CHECKS if name in wanted):
        of_splits = _collected(name, "", partial(SPLIT_CHECKS.load(name), splits or {}))
        found += [_drawn(one, partial(image_of_splits, one, splits or {})) for one in of_splits]
    return in_order(found)


def _of_recording(recording: Recording, names: Sequence[str]) -> list[Finding]:
    if len(recording) == 0:
        empty = DataError(recording.name, found="no frames", expected="at least one", fix="check the folder")
        return [unreadable(recording.name, empty)]
    survey = Survey(recording)
    if (broken := broken_promise(survey)) is not None:
        why = f"{broken.code} must be mended first"
        return [
            _drawn(broken, partial(evidence_image, broken, survey)),
            *(_not_checked(name, why, recording.name) for name in names),
        ]
    found: list[Finding] = []
    stopped: dict[str, str] = {}
    for name in names:
        blocking = next((stopped[other] for other in NEEDS_SOUND.get(name, ()) if other in stopped), None)
        if blocking is not None:
            found.append(_not_checked(name, f"{blocking} must be mended first", recording.name))
            continue
        mine = _collected(name, recording.name, partial(CHECKS.load(name), survey))
        found += [_drawn(one, partial(evidence_image, one, survey)) for one in mine]
        stops = [f.code for f in mine if f.severity is Severity.STOP]
        if stops:
            stopped[name] = stops[0]
    return found


def _collected(name: str, where: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a check finds; what it cannot compare is a note, what cannot be read is a stop."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except NotChecked as why:
        found.append(_not_checked(name, str(why), where, hides=why.hides))
    except StadiaError as error:
        found.append(unreadable(where, error))
    except OSError as error:  # as a recording of the user's own passes it on
        cannot = DataError(
            error.filename or where, found=in_one_line(error), expected="a file that can be read", fix="fetch it again"
        )
        found.append(unreadable(where, cannot))
    except Exception as error:  # a check that fails in itself is no reason not to train
        found.append(_not_checked(name, f"the check itself failed ({in_one_line(error)})", where))
    return found


def _drawn(one: Finding, draw: Callable[[], bytes]) -> Finding:
    """The finding with its image, where there is one; a drawing that fails is no reason to lose the finding, nor not to
    train.
    """
    try:
        return replace(one, image=draw())
    except Exception as error:
        log.warning("%s has no image (%s: %s)", one.code, type(error).__name__, error)
        return one


def _not_checked(name: str, why: str, where: str, *, hides: str = "") -> Finding:
    return finding(
        "N01",
        Severity.NOTE,
        measured=f"{name}: {why}",
        expected="something to compare with",
        evidence={"hides": hides} if hides else {},
        where=[where] if where else [],
    )


def unreadable(where: str, error: StadiaError) -> Finding:
    """D01: what a recording refuses to read."""
    return finding(
        "D01",
        Severity.STOP,
        measured=f"{error.what}: {error.found}",
        expected=error.expected,
        fix=error.fix,
        where=[where] if where else [],
    )


def _out_of_time(left: int, total: int, seconds: float) -> Finding:
    return finding(
        "N02",
        Severity.NOTE,
        measured=f"sampled: {total - left} of {total} recordings were checked within {seconds:g} s",
        expected="all of them",
        cause="the data has more recordings than fit the time for checking",
    )


def _merged(found: Sequence[Finding]) -> list[Finding]:
    """One finding where several recordings have the same one: the first one's numbers, and all the names."""
    merged: dict[tuple[str, ...], Finding] = {}
    for one in found:
        told_apart = one.measured if one.code in ("N01", "D01") else ""
        key = (one.code, one.severity.value, one.cause, told_apart)
        if key in merged:
            held = merged[key]
            merged[key] = replace(held, where=tuple(dict.fromkeys((*held.where, *one.where))))
        else:
            merged[key] = one
    return list(merged.values())
