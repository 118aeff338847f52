"""Check ground-truth depth: is it there, in metres, and of these images?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stadia.core.recording import LEFT
from stadia.diagnostics import lengths
from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.instruments.matching import gray
from stadia.diagnostics.instruments.photometric import warp_identity_ratio
from stadia.diagnostics.instruments.road import camera_height
from stadia.diagnostics.survey import NotChecked, Survey, spread

CHECKED_FRAMES, FEW_SHARE = 24, 0.5
EMPTY_STOP_SHARE = 0.5
LEVELS, LEVELS_FROM_PIXELS = 256, 20_000
WHOLE_SHARE, WHOLE_LEVELS = 0.6, 8
"""In depth of 1/256 m or 1/1000 m at most 0.4 % of the values are whole metres; a few planes may be."""

CAMERA_HEIGHT_M = (0.6, 4.0)
"""Above the road: cars 1.2 to 2 m, lorries below 4. Millimetres read as KITTI's 1/256 m make 6.4 of 1.65 m, the reverse
0.42.
"""
SHIFTS = (-3, -2, -1, 1, 2, 3)
SHIFT_GAIN = 0.85
"""A neighbor's ground truth fits at 1.3 times the spread of the right one (RoadWorld, 1 m a frame), so the wrong one
shows at 0.75.
"""

EXPLAINED_WARN, EXPLAINED_STOP = 0.45, 0.35
MIN_WARPS = 2
FLAT_WARN, FLAT_STOP = 1.05, 1.15
"""Residual of warping by ground truth over that by a flat plane: 0.7 to 0.9 on clean data, 1.2 to 1.5 with inverse
depth.
"""


def ground_truth(survey: Survey) -> Iterator[Finding]:
    """D12 few frames, D11 another size, D05 empty, D08 quantized, D07 other images, else D06 scale."""
    yield from _check_count(survey)
    maps = [survey.recording.depth_m(i, LEFT) for i in survey.anchors]
    if all(depth is None for depth in maps):
        raise NotChecked("no ground-truth depth")
    if (other_size := _check_size(survey)) is not None:
        yield other_size
        return
    empty = _check_empty([depth for depth in maps if depth is not None], survey)
    if empty is not None:
        yield empty
        if empty.severity is Severity.STOP:
            return
    yield from _check_levels(survey)
    mismatch = _compare_with_rig(survey) or _compare_adjacent_frames(survey) or _compare_with_motion(survey)
    if mismatch is None and not lengths.verdicts(survey):
        mismatch = _compare_with_plane(survey)
    if mismatch is not None:
        yield mismatch
    else:
        yield from _check_scale(survey)
    if lengths.proportion(survey) is None and len(flat_warps(survey)) < MIN_WARPS:
        raise NotChecked(
            "whether the ground truth belongs to these frames: no rig, and no motion known well enough to warp along"
        )


def _check_count(survey: Survey) -> Iterator[Finding]:
    checked = sorted(spread(survey.length)[:CHECKED_FRAMES])
    there = [i for i in checked if survey.recording.depth_m(i, LEFT) is not None]
    if 0 < len(there) < FEW_SHARE * len(checked):
        yield finding(
            "D12",
            Severity.WARN,
            measured=f"{len(there)} of {len(checked)} frames have ground truth",
            expected="most of them",
            evidence={"frames_with_ground_truth": there},
            where=[survey.name],
        )


def _check_size(survey: Survey) -> Finding | None:
    for i in survey.anchors:
        depth, size = survey.recording.depth_m(i, LEFT), survey.image(i).shape[:2]
        if depth is not None and depth.shape != size:
            return finding(
                "D11",
                Severity.STOP,
                measured=f"ground truth of {depth.shape[1]}x{depth.shape[0]} for an image of {size[1]}x{size[0]}",
                expected="a value for each pixel of its image",
                evidence={"frame": i},
                where=[survey.name],
            )
    return None


def _check_empty(maps: list[NDArray[np.float32]], survey: Survey) -> Finding | None:
    filled = [depth[np.isfinite(depth) & (depth > 0)] for depth in maps]
    useless = [values.size == 0 or (values.size > 1 and float(np.ptp(values)) == 0) for values in filled]
    if not any(useless):
        return None
    shares = [values.size / depth.size for values, depth in zip(filled, maps, strict=True)]
    return finding(
        "D05",
        Severity.STOP if sum(useless) >= EMPTY_STOP_SHARE * len(maps) else Severity.WARN,
        measured=f"{sum(useless)} of {len(maps)} sampled maps hold no depth, or one constant value",
        expected="depth in every map (projected LiDAR: about 3 % of the pixels, dense ground truth: most)",
        evidence={"frame": list(survey.anchors), "share_of_pixels_with_depth": shares},
        where=[survey.name],
    )


def _check_levels(survey: Survey) -> Iterator[Finding]:
    for i in survey.anchors:
        depth = survey.depth(i)
        known = depth[depth > 0] if depth is not None else np.zeros(0, np.float32)
        if (whole := _share_of_whole_metres(known)) > WHOLE_SHARE:
            yield finding(
                "D08",
                Severity.STOP,
                measured=f"{whole:.0%} of {known.size} pixels are whole metres",
                expected=f"at most {WHOLE_SHARE:.0%}",
                cause="16-bit ground truth (1/256 m) was read as 8 bits, or depth was rounded to integers",
                fix="read the original files with all of their bits (cv2.IMREAD_UNCHANGED), then divide",
                evidence={"frame": i, "share": whole},
                where=[survey.name],
            )
            return
        if known.size > LEVELS_FROM_PIXELS and (count := len(np.unique(known))) <= LEVELS:
            yield finding(
                "D08",
                Severity.WARN,
                measured=f"{count} distinct values among {known.size} pixels",
                expected=f"more than {LEVELS}",
                evidence={"frame": i, "values": count},
                where=[survey.name],
            )
            return


def _share_of_whole_metres(known: NDArray[np.float32]) -> float:
    """Return the share of depths that are whole metres; 0 for few distinct ones, or for another unit."""
    if known.size == 0 or np.median(known) > lengths.PLAUSIBLE[lengths.Ruler.DEPTH][1]:
        return 0.0
    whole = known[known == np.rint(known)]
    return whole.size / known.size if len(np.unique(whole)) >= WHOLE_LEVELS else 0.0


def _check_scale(survey: Survey) -> Iterator[Finding]:
    wrong = [verdict for verdict in lengths.verdicts(survey) if verdict.ruler is lengths.Ruler.DEPTH]
    compared = any(lengths.Ruler.DEPTH in (c.first, c.second) for c in lengths.compare(survey))
    if not wrong and not compared:
        yield from _check_camera_height(survey)
    for verdict in wrong:
        factor = verdict.factor
        low, high = lengths.PLAUSIBLE[verdict.ruler]
        measured, expected = f"a median depth of {verdict.value:.4g} m", f"{low:g} to {high:g} m"
        if factor is not None:
            measured = (
                f"ground truth is {factor:.4g} times as long as {lengths.others(verdict)} give (its median is"
                f" {verdict.value:.4g} m)"
            )
            expected = "1 within the noise"
        yield finding(
            "D06",
            Severity.STOP if verdict.severe else Severity.WARN,
            measured=measured,
            expected=expected,
            cause=verdict.cause,
            fix=verdict.fix or (f"divide the ground truth by {factor:.4g}" if factor is not None else None),
            evidence={"median_m": verdict.value, **lengths.evidence(verdict)},
            where=[survey.name],
        )


def _check_camera_height(survey: Survey) -> Iterator[Finding]:
    """D06 where nothing else measures metres: the height of the camera above the road."""
    seen = [(i, camera_height(depth, survey.K(i))) for i in survey.anchors if (depth := survey.depth(i)) is not None]
    heights = {i: height for i, height in seen if height is not None}
    if len(heights) < EMPTY_STOP_SHARE * len(seen) or not heights:
        return
    height_m = float(np.median(list(heights.values())))
    low, high = CAMERA_HEIGHT_M
    if not low <= height_m <= high:
        yield finding(
            "D06",
            Severity.WARN,
            measured=f"by the ground truth, the camera stands {height_m:.2f} m above the road",
            expected=f"{low:g} to {high:g} m",
            fix="if the camera is that of a car, "
            + (
                "divide the ground truth by what makes this 1.2 to 2 m (millimetres read as 1/256 m: 3.9)"
                if height_m > high
                else "multiply the ground truth by what makes this 1.2 to 2 m (1/256 m read as millimetres: 3.9)"
            ),
            evidence={"frame": list(heights), "camera_height_m": list(heights.values())},
            where=[survey.name],
        )


def _compare_with_rig(survey: Survey) -> Finding | None:
    """D07: compare with the depth of the rig at each point."""
    proportion = lengths.proportion(survey)
    if proportion is None or proportion.straight:
        return None
    falling = proportion.rank < 0
    return finding(
        "D07",
        Severity.STOP,
        measured=(
            f"compared with the depth of the rig, ground truth has a rank correlation of {proportion.rank:.2f}, "
            f"a spread of {proportion.spread:.0%}, and near and far points differ by {abs(proportion.bend):.0%}"
        ),
        expected=(f"at least {lengths.MIN_RANK}, at most {lengths.MAX_SPREAD:.0%}, and at most {lengths.MAX_BEND:.0%}"),
        cause="the ground truth grows where depth falls: it is disparity or inverse depth" if falling else None,
        fix="take its reciprocal, with the factor that makes it metres" if falling else None,
        evidence={
            "points": len(proportion.logs),
            "rank_correlation": proportion.rank,
            "spread": proportion.spread,
            "near_less_far": proportion.bend,
        },
        where=[survey.name],
    )


def _compare_adjacent_frames(survey: Survey) -> Finding | None:
    """D07 where the depth of the rig fits the ground truth of another frame clearly better than that of its own."""
    own = lengths.proportion(survey)
    others = {shift: fit for shift in SHIFTS if (fit := lengths.proportion(survey, shift)) is not None}
    if own is None or not others:
        return None
    best = min(others, key=lambda shift: others[shift].spread)
    if others[best].spread >= SHIFT_GAIN * own.spread:
        return None
    return finding(
        "D07",
        Severity.WARN,
        measured=(
            f"the rig's depth fits the ground truth of {abs(best)} frame(s) {'later' if best > 0 else 'earlier'} better"
            f" than its own: a spread of {others[best].spread:.1%} instead of {own.spread:.1%}"
        ),
        expected="its own fits best",
        cause="the ground truth is counted from another first frame, or frames are missing in one of the two",
        fix="associate ground truth with images by the names of the files",
        evidence={"shift": [0, *others], "spread": [own.spread, *(fit.spread for fit in others.values())]},
        where=[survey.name],
    )


def _compare_with_motion(survey: Survey) -> Finding | None:
    """D07 where no camera motion explains both ground truth and matches, although the matches agree."""
    explained = [step.depth_explains for step in survey.steps if step.depth_explains is not None]
    if len(explained) < MIN_WARPS:
        return None
    share = float(np.median(explained))
    if share >= EXPLAINED_WARN:
        return None
    return finding(
        "D07",
        Severity.STOP if share < EXPLAINED_STOP else Severity.WARN,
        measured=(
            f"one motion of the camera and the ground truth explain {share:.0%} of the matches that agree among"
            " themselves"
        ),
        expected=f"at least {EXPLAINED_WARN:.0%}",
        evidence={
            "step": [f"{s.first} to {s.second}" for s in survey.steps if s.depth_explains is not None],
            "share": explained,
        },
        where=[survey.name],
    )


def flat_warps(survey: Survey) -> list[tuple[int, float, float]]:
    """Return (frame, WIR with ground truth, WIR with a plane at its median) along poses that the images confirm."""
    found = []
    for step in survey.steps:
        depth, T = survey.depth(step.first), step.T_second_first
        if depth is None or T is None or not any(lengths.same_way(T, motion) for motion in step.motions):
            continue
        flat = np.where(depth > 0, np.float32(np.median(depth[depth > 0])) if (depth > 0).any() else 0, 0).astype(
            np.float32
        )
        images = gray(survey.image(step.first)), gray(survey.image(step.second))
        cameras = survey.K(step.first), survey.K(step.second)
        by_truth = warp_identity_ratio(*images, depth, *cameras, T)
        by_plane = warp_identity_ratio(*images, flat, *cameras, T)
        if by_truth is not None and by_plane is not None:
            found.append((step.first, by_truth, by_plane))
    return found


def _compare_with_plane(survey: Survey) -> Finding | None:
    warps = flat_warps(survey)
    if len(warps) < MIN_WARPS:
        return None
    ratio = float(np.median([truth / plane for _, truth, plane in warps]))
    if ratio <= FLAT_WARN:
        return None
    return finding(
        "D07",
        Severity.STOP if ratio > FLAT_STOP else Severity.WARN,
        measured=(
            f"a neighbor warped by the ground truth resembles the target {ratio:.2f} times as badly as by a flat plane"
        ),
        expected=f"at most {FLAT_WARN} times",
        evidence={
            "frame": [i for i, _, _ in warps],
            "wir_ground_truth": [truth for _, truth, _ in warps],
            "wir_flat": [plane for _, _, plane in warps],
        },
        where=[survey.name],
    )
