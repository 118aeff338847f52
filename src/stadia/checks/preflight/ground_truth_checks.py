"""Check ground-truth depth: presence, size, unit, quantization, and whether it matches the images."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.checks.catalog import NotChecked, make_finding
from stadia.checks.finding import Finding, Severity
from stadia.checks.preflight.recording_survey import RecordingSurvey, spread_order
from stadia.checks.preflight.scale_errors import (
    MAX_BEND,
    MAX_SPREAD,
    MIN_RANK,
    PLAUSIBLE,
    LengthSource,
    check_scale,
    compare_depth_with_rig,
    compare_scales,
    find_scale_errors,
    has_comparison,
    has_same_direction,
    is_inverse_by_poses,
    rank_depth_with_poses,
)
from stadia.checks.preflight.two_view_geometry import Array, gray, warp_identity_ratio
from stadia.core.recording import LEFT
from stadia.geometry.ground.road_plane import fit_plane_ransac, height_above_plane

MIN_ROAD_POINTS = 200  # points in the lower middle of the image for a search of the road
MAX_TILT_DEG = 15.0  # angle of a road's normal from the vertical of the image
ROAD_TOLERANCE = 0.03  # a point is on the road within this share of the camera's height
MIN_ROAD_POINT_SHARE = 0.35  # share of points on the road; KITTI's LiDAR has .41
COUNTED_FRAMES = 24  # frames that are counted as with or without ground truth
FEW_SHARE = 0.5  # share of frames with ground truth
EMPTY_STOP_SHARE = 0.5  # share of the sampled maps without depth
MAX_LEVELS = 256  # distinct values of an 8-bit image
LEVELS_PER_METRE, MIN_USED_LEVELS = 256, 0.6  # of KITTI's PNG, and the used share in a map's range
MIN_LEVEL_PIXELS = 20_000  # pixels for which so few values are no coincidence
MAX_WHOLE_SHARE = 0.6  # share of whole metres
MIN_WHOLE_LEVELS = 8  # distinct whole metres: synthetic scenes have a few planes
CAMERA_HEIGHT_M = (0.6, 4.0)  # cars 1.2 to 2, lorries below 4; a wrong unit gives 6.4 or 0.42
NEIGHBOR_SHIFTS = (-3, -2, -1, 1, 2, 3)  # frames whose ground truth is tried
MAX_NEIGHBOR_SPREAD = 0.85  # of a neighbor's ground truth over its own; correct 1.3, wrong .75
EXPLAINED_WARN = 0.45  # share of the matches that one motion and the ground truth explain; clean data have .61
EXPLAINED_STOP = 0.35  # inverse depth has 0 to .3
MIN_WARPS = 2  # frames that are warped by their ground truth
FLAT_WARN = 1.05  # residual of warping by ground truth over a flat plane's; clean data have .20 to .84
FLAT_STOP = 1.15  # inverse depth has 1.2 to 1.5


def check_ground_truth(survey: RecordingSurvey) -> Iterator[Finding]:
    """D12 few frames, D11 another size, D05 empty, D08 quantized, D07 other images, otherwise D06 scale."""
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
    mismatch = (
        _compare_with_rig(survey)
        or _compare_with_poses(survey)
        or _compare_adjacent_frames(survey)
        or _compare_with_motion(survey)
    )
    comparisons = [] if mismatch is not None else compare_scales(survey)
    if mismatch is None and not find_scale_errors(survey, comparisons):
        mismatch = _compare_with_plane(survey)
    if mismatch is not None:
        yield mismatch
    else:
        wrong = check_scale(survey, LengthSource.DEPTH, comparisons)
        yield from wrong if wrong or has_comparison(comparisons, LengthSource.DEPTH) else _check_camera_height(survey)
    if compare_depth_with_rig(survey) is None and len(compare_warps_with_plane(survey)) < MIN_WARPS:
        raise NotChecked("whether the ground truth fits these frames: no rig, and no reliable motion")


def _check_count(survey: RecordingSurvey) -> Iterator[Finding]:
    checked = sorted(spread_order(survey.length)[:COUNTED_FRAMES])
    there = [i for i in checked if survey.recording.depth_m(i, LEFT) is not None]
    if 0 < len(there) < FEW_SHARE * len(checked):
        measured = f"{len(there)} of {len(checked)} frames have ground truth"
        yield make_finding("D12", Severity.WARN, measured, "most of them", evidence={"frames_with_ground_truth": there})


def _check_size(survey: RecordingSurvey) -> Finding | None:
    for i in survey.anchors:
        depth, size = survey.recording.depth_m(i, LEFT), survey.image(i).shape[:2]
        if depth is not None and depth.shape != size:
            measured = f"ground truth of {depth.shape[1]}x{depth.shape[0]} for an image of {size[1]}x{size[0]}"
            expected = "a value for each pixel of its image"
            return make_finding("D11", Severity.STOP, measured, expected, evidence={"frame": i})
    return None


def _check_empty(maps: list[NDArray[np.float32]], survey: RecordingSurvey) -> Finding | None:
    filled = [depth[np.isfinite(depth) & (depth > 0)] for depth in maps]
    useless = [values.size == 0 or (values.size > 1 and float(np.ptp(values)) == 0) for values in filled]
    if not any(useless):
        return None
    shares = [values.size / depth.size for values, depth in zip(filled, maps, strict=True)]
    severity = Severity.stop_if(sum(useless) >= EMPTY_STOP_SHARE * len(maps))
    measured = f"{sum(useless)} of {len(maps)} sampled maps have no depth, or one constant value"
    expected = "depth in every map (projected LiDAR: about 3 % of the pixels)"
    evidence = {"frame": list(survey.anchors), "share_of_pixels_with_depth": shares}
    return make_finding("D05", severity, measured, expected, evidence=evidence)


def _check_levels(survey: RecordingSurvey) -> Iterator[Finding]:
    """D08, of the first sampled frame with whole metres or few distinct values."""
    for i in survey.anchors:
        depth = survey.depth(i)
        known = depth[depth > 0] if depth is not None else np.zeros(0, np.float32)
        if (whole := _share_of_whole_metres(known)) > MAX_WHOLE_SHARE:
            measured = f"{whole:.0%} of {known.size} pixels are whole metres"
            expected = f"at most {MAX_WHOLE_SHARE:.0%}"
            evidence = {"frame": i, "share": whole}
            yield make_finding("D08", Severity.STOP, measured, expected, case="whole_metres", evidence=evidence)
            return
        if known.size > MIN_LEVEL_PIXELS and _is_coarse(known):
            count = len(np.unique(known))
            measured, evidence = f"{count} distinct values among {known.size} pixels", {"frame": i, "values": count}
            yield make_finding("D08", Severity.WARN, measured, f"more than {MAX_LEVELS}", evidence=evidence)
            return


def _is_coarse(known: NDArray[np.float32]) -> bool:
    count = len(np.unique(known))
    return count <= MAX_LEVELS and count < MIN_USED_LEVELS * (float(np.ptp(known)) * LEVELS_PER_METRE + 1)


def _share_of_whole_metres(known: NDArray[np.float32]) -> float:
    """Return the share of depths that are whole metres; 0 for few distinct ones or another unit."""
    if known.size == 0 or np.median(known) > PLAUSIBLE[LengthSource.DEPTH][1]:
        return 0.0
    whole = known[known == np.rint(known)]
    return whole.size / known.size if len(np.unique(whole)) >= MIN_WHOLE_LEVELS else 0.0


def _check_camera_height(survey: RecordingSurvey) -> Iterator[Finding]:
    """D06 by the camera's height above the road, if nothing else measures metres."""
    maps = {i: depth for i in survey.anchors if (depth := survey.depth(i)) is not None}
    fits = {i: fit_camera_height(depth, survey.K(i)) for i, depth in maps.items()}
    heights = {i: height for i, height in fits.items() if height is not None}
    if len(heights) < EMPTY_STOP_SHARE * len(fits) or not heights:
        return
    height_m = float(np.median(list(heights.values())))
    low, high = CAMERA_HEIGHT_M
    if not low <= height_m <= high:
        measured = f"by the ground truth, the camera is {height_m:.2f} m above the road"
        case = "camera_too_low" if height_m < low else "camera_too_high"
        evidence = {"frame": list(heights), "camera_height_m": list(heights.values())}
        yield make_finding("D06", Severity.WARN, measured, f"{low:g} to {high:g} m", case=case, evidence=evidence)


def fit_camera_height(depth: NDArray[np.float32], K: Array) -> float | None:
    """Return the camera's distance from the plane in the lower middle of depth (H, W), 0 = unknown, if any."""
    height, width = depth.shape
    top, left = int(0.6 * height), width // 4
    rows, columns = np.nonzero(depth[top:, left : width - left] > 0)
    if len(rows) < MIN_ROAD_POINTS:
        return None
    y, x = rows + top, columns + left
    z = depth[y, x].astype(np.float64)
    points = torch.from_numpy(np.stack([(x - K[0, 2]) / K[0, 0] * z, (y - K[1, 2]) / K[1, 1] * z, z], 1))
    plane = fit_plane_ransac(points, tolerance=ROAD_TOLERANCE)
    share = float((height_above_plane(plane, points).abs() < ROAD_TOLERANCE * plane[3]).double().mean())
    level = -float(plane[1]) > np.cos(np.radians(MAX_TILT_DEG))  # the normal points up, which is -y
    return float(plane[3]) if level and share >= MIN_ROAD_POINT_SHARE else None


def _compare_with_rig(survey: RecordingSurvey) -> Finding | None:
    """D07: compare with the rig's depth at each point."""
    proportion = compare_depth_with_rig(survey)
    if proportion is None or proportion.straight:
        return None
    measured = f"compared with the rig's depth, ground truth has a rank correlation of {proportion.rank:.2f}, a "
    measured += f"spread of {proportion.spread:.0%}, and near and far points differ by {abs(proportion.bend):.0%}"
    expected = f"at least {MIN_RANK}, at most {MAX_SPREAD:.0%}, and at most {MAX_BEND:.0%}"
    case = "inverse_depth" if proportion.rank < 0 else ""
    evidence = {"points": len(proportion.logs), "rank_correlation": proportion.rank}
    evidence |= {"spread": proportion.spread, "near_less_far": proportion.bend}
    return make_finding("D07", Severity.STOP, measured, expected, case=case, evidence=evidence)


def _compare_with_poses(survey: RecordingSurvey) -> Finding | None:
    """D07 if ground truth is inverse to depth by the poses: disparity or inverse depth."""
    ranked = rank_depth_with_poses(survey)
    if ranked is None or not is_inverse_by_poses(survey):
        return None
    rank, count = ranked
    measured = f"compared with depth by the poses, ground truth has a rank correlation of {rank:.2f} ({count} points)"
    expected = f"at least {MIN_RANK} (the poses fit the images)"
    evidence = {"points": count, "rank_correlation": rank}
    return make_finding("D07", Severity.STOP, measured, expected, case="inverse_depth", evidence=evidence)


def _compare_adjacent_frames(survey: RecordingSurvey) -> Finding | None:
    """D07 if the rig's depth fits the ground truth of another frame clearly better."""
    own = compare_depth_with_rig(survey)
    others = {shift: fit for shift in NEIGHBOR_SHIFTS if (fit := compare_depth_with_rig(survey, shift)) is not None}
    if own is None or not others:
        return None
    best = min(others, key=lambda shift: others[shift].spread)
    if others[best].spread >= MAX_NEIGHBOR_SPREAD * own.spread:
        return None
    measured = f"the rig's depth fits the ground truth of {abs(best)} frame(s) {'later' if best > 0 else 'earlier'} "
    measured += f"better than its own: a spread of {others[best].spread:.1%} instead of {own.spread:.1%}"
    evidence = {"shift": [0, *others], "spread": [own.spread, *(fit.spread for fit in others.values())]}
    return make_finding("D07", Severity.WARN, measured, "its own fits best", case="other_frames", evidence=evidence)


def _compare_with_motion(survey: RecordingSurvey) -> Finding | None:
    """D07 if the matches agree, but no camera motion explains them with the ground truth."""
    explained = {f"{s.first} to {s.second}": s.depth_explains for s in survey.steps if s.depth_explains is not None}
    if len(explained) < MIN_WARPS or (share := float(np.median(list(explained.values())))) >= EXPLAINED_WARN:
        return None
    measured = f"one camera motion and the ground truth explain {share:.0%} of the matches that agree with each other"
    expected = f"at least {EXPLAINED_WARN:.0%}"
    evidence = {"step": list(explained), "share": list(explained.values())}
    return make_finding("D07", Severity.stop_if(share < EXPLAINED_STOP), measured, expected, evidence=evidence)


def compare_warps_with_plane(survey: RecordingSurvey) -> list[tuple[int, float, float]]:
    """Return (frame, WIR with ground truth, WIR with a plane at its median) for poses that the images confirm."""
    warps = []
    for step in survey.steps:
        depth, T = survey.depth(step.first), step.T_second_first
        if depth is None or T is None or not any(has_same_direction(T, motion) for motion in step.motions):
            continue
        median = np.median(depth[depth > 0]) if (depth > 0).any() else 0
        flat = np.where(depth > 0, median, 0).astype(np.float32)
        images = gray(survey.image(step.first)), gray(survey.image(step.second))
        cameras = survey.K(step.first), survey.K(step.second)
        by_truth, by_plane = (warp_identity_ratio(*images, surface, *cameras, T) for surface in (depth, flat))
        if by_truth is not None and by_plane is not None:
            warps.append((step.first, by_truth, by_plane))
    return warps


def _compare_with_plane(survey: RecordingSurvey) -> Finding | None:
    warps = compare_warps_with_plane(survey)
    ratios = [truth / plane for _, truth, plane in warps]
    if len(ratios) < MIN_WARPS or (ratio := float(np.median(ratios))) <= FLAT_WARN:
        return None
    measured = f"a neighbor warped by the ground truth fits {ratio:.2f} times worse than a flat plane"
    expected = f"at most {FLAT_WARN} times"
    columns = (list(column) for column in zip(*warps, strict=True))
    evidence = dict(zip(("frame", "wir_ground_truth", "wir_flat"), columns, strict=True))
    return make_finding("D07", Severity.stop_if(ratio > FLAT_STOP), measured, expected, evidence=evidence)
