"""Check masks of roads and objects for metric scale."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from stadia.diagnostics.catalog import make_finding, sort_findings
from stadia.diagnostics.finding import Finding, Severity

MAX_WITHOUT_ROAD, MAX_WITHOUT_OBJECT, MIN_IN_LOWER_HALF = 0.5, 0.9, 0.9
MIN_OUTLINES, MIN_MIRRORED, MIN_MIRRORED_GAIN = 4, 0.9, 1.1
"""RoadWorld's masks fit 1.3 to 1.7 times better unmirrored, in each of 128 frames."""

MAX_OTHER_CLASSES = 4
"""Other classes that are named in the message."""


class MaskSurveyResult(Protocol):
    """Statistics of the masks of a recording (`datasets.surveys.MaskSurvey`)."""

    @property
    def recording(self) -> str: ...
    @property
    def frames(self) -> int: ...
    @property
    def without_masks(self) -> tuple[int, ...]: ...
    @property
    def unusable(self) -> Mapping[int, str]: ...
    @property
    def without_road(self) -> tuple[int, ...]: ...
    @property
    def road_in_lower_half(self) -> float: ...
    @property
    def upside_down(self) -> tuple[int, ...]: ...
    @property
    def without_object(self) -> tuple[int, ...]: ...
    @property
    def objects(self) -> int: ...
    @property
    def no_prior(self) -> Mapping[str, tuple[int, ...]]: ...
    @property
    def as_they_are(self) -> tuple[float, ...]: ...
    @property
    def others(self) -> Mapping[str, int]: ...


class HeightEstimateResult(Protocol):
    """Camera height of a group in an epoch (`recipes.metric.camera_heights.EpochEstimate`)."""

    @property
    def refused(self) -> str: ...
    @property
    def apart(self) -> str: ...
    @property
    def locked_height(self) -> str: ...


def check_masks(surveys: Sequence[MaskSurveyResult]) -> list[Finding]:
    """Return H01 to H05 and H16, with the frames: training continues, but cannot use them."""
    found = []
    for one in surveys:
        bare = (*one.unusable, *one.without_masks)
        if bare:
            why = next(iter(one.unusable.values()), "no mask file")
            measured = f"masks of {len(bare)} of {one.frames} frames cannot be used, such as frame {bare[0]}: {why}"
            found.append(_make_finding(one, "H03", measured, "masks of every frame", bare))
        if len(one.without_road) > MAX_WITHOUT_ROAD * one.frames:
            measured = f"{len(one.without_road)} of {one.frames} frames show no road, such as frame "
            measured += f"{one.without_road[0]}"
            found.append(_make_finding(one, "H01", measured, "a road in most frames", one.without_road))
        if one.road_in_lower_half < MIN_IN_LOWER_HALF and len(one.without_road) + len(bare) < one.frames:
            such = f", of frame {one.upside_down[0]} less than half" if one.upside_down else ""
            measured = f"{one.road_in_lower_half:.0%} of the road is in the lower half of the images{such}"
            found.append(_make_finding(one, "H05", measured, f"at least {MIN_IN_LOWER_HALF:.0%}", one.upside_down))
        if one.no_prior:
            counted = ", ".join(
                f"{len(at)} of class {name}, such as in frame {at[0]}" for name, at in sorted(one.no_prior.items())
            )
            where = sorted({frame for at in one.no_prior.values() for frame in at})
            found.append(
                _make_finding(
                    one, "H04", f"objects without a height: {counted}", "a height of each class in road.objects", where
                )
            )
        found += _check_mirrored(one)
    frames, bare_frames = sum(one.frames for one in surveys), sum(map(_count_without_object, surveys))
    if bare_frames > MAX_WITHOUT_OBJECT * frames:
        worst = max(surveys, key=lambda one: len(one.without_object))
        such = f", such as frame {worst.without_object[0]} of {worst.recording}" if worst.without_object else ""
        count, others = sum(one.objects for one in surveys), sum((Counter(one.others) for one in surveys), Counter())
        beside = ", ".join(
            f"{times} of class {name or 'without a name'}" for name, times in others.most_common(MAX_OTHER_CLASSES)
        )
        measured = (
            f"{bare_frames} of {frames} frames show no object of known height ({count} objects){such}"
            + f"; of other classes than road.objects: {beside}" * bool(beside)
        )
        expected = f"one in at least {1 - MAX_WITHOUT_OBJECT:.0%} of the frames"
        evidence = {
            "frames": {"recording": [worst.recording] * len(worst.without_object), "frame": list(worst.without_object)}
        }
        found.append(
            make_finding(
                "H02",
                Severity.WARN,
                measured,
                expected,
                where=[one.recording for one in surveys if _count_without_object(one)],
                evidence=evidence,
            )
        )
    return sort_findings(found)


def _check_mirrored(one: MaskSurveyResult) -> list[Finding]:
    """H16: image edges fit the mirrored outlines better."""
    fits, count = one.as_they_are, len(one.as_they_are)
    mirrored = sum(value < 0 for value in fits)
    if count < MIN_OUTLINES or mirrored < MIN_MIRRORED * count or sum(fits) / count > -math.log(MIN_MIRRORED_GAIN):
        return []
    better = math.exp(-sum(fits) / count)
    measured = f"in {mirrored} of {count} frames the image's edges fit the masks better mirrored, {better:.2f} times "
    measured += "on the whole"
    return [_make_finding(one, "H16", measured, "edges along the unmirrored masks", ())]


def _count_without_object(one: MaskSurveyResult) -> int:
    """Count frames that do not contribute to the scale, for any reason."""
    return len(one.without_masks) + len(one.unusable) + len(one.without_road) + len(one.without_object)


def _make_finding(one: MaskSurveyResult, code: str, measured: str, expected: str, frames: Sequence[int]) -> Finding:
    evidence = {"frames": {"frame": list(frames)}} if frames else {}
    return make_finding(code, Severity.WARN, measured, expected, where=one.recording, evidence=evidence)
