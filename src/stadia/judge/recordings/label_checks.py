"""Check masks of roads and objects from statistics of their files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from stadia.judge.catalog import make_finding, sort_findings
from stadia.judge.finding import Finding, Severity

if TYPE_CHECKING:
    from stadia.data.surveys import MaskSurvey

MAX_WITHOUT_ROAD = 0.5  # share of the frames without a road
MAX_WITHOUT_OBJECT = 0.9  # share of the frames without an object of known height
MIN_IN_LOWER_HALF = 0.9  # share of the road pixels in the lower half of the image
MIN_OUTLINES = 4  # frames with mask outlines that show whether they are mirrored
MIN_MIRRORED = 0.9  # share of these frames that fit better mirrored
MIN_MIRRORED_GAIN = 1.1  # factor by which mirrored masks fit better
MIN_MOVED = 2 / 64  # smallest move of masks that is reported, as a share of the image's side
MIN_MOVED_GAIN = 1.2  # factor by which contrast along moved outlines is larger; masks that fit have 1, moved ones 1.5
MAX_OTHER_CLASSES = 4  # other classes in the message

MAX_LISTED_FILES = 10  # files in the evidence


def list_columns(names: Sequence[str], rows: Sequence[Sequence[object]]) -> dict[str, list[Any]]:
    """Return the first rows as columns by name."""
    columns = zip(*rows[:MAX_LISTED_FILES], strict=True)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def check_masks(surveys: Sequence[MaskSurvey]) -> list[Finding]:
    """Report faults of the masks of roads and objects (H01 to H05, H16, H21).

    H03 is a stop if no recording has masks, because the depth would never be in metres.
    """
    if surveys and all(len(_frames_without_masks(survey)) == survey.frames for survey in surveys):
        frames = sum(survey.frames for survey in surveys)
        where = [survey.recording for survey in surveys]
        reasons = [reason for survey in surveys for reason in survey.unusable.values()]
        measured = f"0 of {frames} sampled frames have masks: {next(iter(reasons), 'no mask file')}"
        expected = "masks of road and objects"
        return [make_finding("H03", Severity.STOP, measured, expected, where=where, case="no_masks")]
    by_recording = [finding for survey in surveys for finding in _check_recording_masks(survey)]
    return sort_findings([*by_recording, *_check_known_objects(surveys)])


def _frames_without_masks(survey: MaskSurvey) -> tuple[int, ...]:
    return (*survey.unusable, *survey.without_masks)


def _check_recording_masks(survey: MaskSurvey) -> Iterator[Finding]:
    def warn(code: str, measured: str, expected: str, frames: Sequence[int] = ()) -> Finding:
        evidence = {"frames": {"frame": list(frames)}} if frames else {}
        return make_finding(code, Severity.WARN, measured, expected, where=survey.recording, evidence=evidence)

    bare, without_road = _frames_without_masks(survey), survey.without_road
    if bare:
        reason = next(iter(survey.unusable.values()), "no mask file")
        measured = f"masks of {len(bare)} of {survey.frames} frames cannot be used, such as frame {bare[0]}: {reason}"
        yield warn("H03", measured, "masks of every frame", bare)
    if len(without_road) > MAX_WITHOUT_ROAD * survey.frames:
        measured = f"{len(without_road)} of {survey.frames} frames show no road, such as frame {without_road[0]}"
        yield warn("H01", measured, "a road in most frames", without_road)
    if survey.road_in_lower_half < MIN_IN_LOWER_HALF and len(without_road) + len(bare) < survey.frames:
        such = f", of frame {survey.upside_down[0]} less than half" if survey.upside_down else ""
        measured = f"{survey.road_in_lower_half:.0%} of the road is in the lower half of the images{such}"
        yield warn("H05", measured, f"at least {MIN_IN_LOWER_HALF:.0%}", survey.upside_down)
    if survey.no_prior:
        classes = sorted(survey.no_prior.items())
        counts = ", ".join(f"{len(at)} of class {name}, such as in frame {at[0]}" for name, at in classes)
        frames = sorted({frame for _, at in classes for frame in at})
        yield warn("H04", f"objects without a height: {counts}", "a height of each class in road.objects", frames)
    fits, count = survey.as_they_are, len(survey.as_they_are)
    mirrored = sum(value < 0 for value in fits)
    if count >= MIN_OUTLINES and mirrored >= MIN_MIRRORED * count and sum(fits) / count <= -math.log(MIN_MIRRORED_GAIN):
        measured = f"in {mirrored} of {count} frames the mirrored masks fit the image's edges better, "
        measured += f"{math.exp(-sum(fits) / count):.2f} times overall"
        yield warn("H16", measured, "edges along the unmirrored masks")
        return
    if moved := _find_move(survey):
        yield warn("H21", moved, "edges along the masks where they are")


def _find_move(survey: MaskSurvey) -> str:
    """Return in words how the masks must move so that they fit the edges of the images; "" if they fit."""
    if len(survey.moved) < MIN_OUTLINES:
        return ""
    count, frames = len(survey.moves), len(survey.moved)
    means = [sum(frame[number] for frame in survey.moved) / frames for number in range(count)]
    best, still = max(range(count), key=means.__getitem__), survey.moves.index((0.0, 0.0))
    gain, (down, right) = means[best] - means[still], survey.moves[best]
    better = sum(frame[best] > frame[still] for frame in survey.moved)
    is_edge = means[best] > 0  # contrast above that of the neighborhood
    if max(abs(down), abs(right)) < MIN_MOVED or gain < math.log(MIN_MOVED_GAIN) or not is_edge:
        return ""
    if better < MIN_MIRRORED * frames:
        return ""
    steps = [
        f"{abs(share):.0%} {name[share < 0]}"
        for share, name in ((down, ("down", "up")), (right, ("to the right", "to the left")))
        if share
    ]
    return (
        f"in {better} of {frames} frames masks moved {' and '.join(steps)} fit the image's edges better, "
        f"{math.exp(gain):.2f} times overall"
    )


def _check_known_objects(surveys: Sequence[MaskSurvey]) -> Iterator[Finding]:
    """Report that too few frames show an object of known height (H02)."""
    frames = sum(survey.frames for survey in surveys)
    bare_frames = sum(map(_count_without_object, surveys))
    if bare_frames <= MAX_WITHOUT_OBJECT * frames:
        return
    worst = max(surveys, key=lambda survey: len(survey.without_object))
    count = sum(survey.objects for survey in surveys)
    others = sum((Counter(survey.others) for survey in surveys), Counter())
    measured = f"{bare_frames} of {frames} frames show no object of known height ({count} objects)"
    if worst.without_object:
        measured += f", such as frame {worst.without_object[0]} of {worst.recording}"
    if others:
        most = others.most_common(MAX_OTHER_CLASSES)
        listed = ", ".join(f"{times} of class {name or 'without a name'}" for name, times in most)
        measured += f"; of other classes than road.objects: {listed}"
    expected = f"one in at least {1 - MAX_WITHOUT_OBJECT:.0%} of the frames"
    frames_of_worst = list(worst.without_object)
    table = {"recording": [worst.recording] * len(frames_of_worst), "frame": frames_of_worst}
    where = [survey.recording for survey in surveys if _count_without_object(survey)]
    yield make_finding("H02", Severity.WARN, measured, expected, where=where, evidence={"frames": table})


def _count_without_object(survey: MaskSurvey) -> int:
    """Return the number of frames that do not contribute to the scale: without masks, road or a usable object."""
    return sum(map(len, (survey.without_masks, survey.unusable, survey.without_road, survey.without_object)))
