"""Find stereo cameras and poses that are some frames late or early."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stadia.core.recording import RIGHT
from stadia.diagnostics.catalog import make_finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.preflight.recording_survey import PairMatches, RecordingSurvey, Step
from stadia.diagnostics.preflight.two_view_geometry import Array, epipolar_distance_px, rotation_deg

MAX_SHIFT = 3  # frames, late and early, that are searched
MIN_SHIFTED_PX = 0.15  # from the epipolar lines; one frame late has .25 to 3
MIN_SHIFTED_SHARE = 0.0003  # the same, over the width
MAX_SHIFTED_RATIO = 0.4  # of the distance at the best shift; late pairs have .03 to .15
MAX_ALIKE = 1.5  # error of a shift over the best error, below which both are named
MIN_SHIFTED_PAIRS = 2  # pairs that a shift needs
MIN_SHIFTED_MATCHES = 30  # matches of each of these pairs
MIN_SHIFT_AGREEMENT = 0.75  # share of the pairs, or steps, that fit better at a shift
MIN_SHIFTED_STEPS = 3  # steps that a shift of poses needs
MAX_SHIFTED_ROTATION = 0.4  # error at the best shift over the error as given; late poses have .02 to .28
MIN_ROTATION_GAIN_DEG = 0.06  # rotation error as given, less the error at the best shift


def describe_shift(frames: int) -> str:
    """Describe a shift in words: above 0 is late."""
    return f"{abs(frames)} frame{'s' * (abs(frames) != 1)} {'late' if frames > 0 else 'early'}"


def describe_shifts(best: int, alike: Sequence[int]) -> str:
    """Describe the best shift, and the shifts that fit equally well."""
    also = f" (undecided: it could also be {', or '.join(map(describe_shift, alike))})" if alike else ""
    return describe_shift(best) + also


def choose_shift(errors: Mapping[int, float]) -> tuple[int, list[int]]:
    """Return the shift with the smallest error, and others whose errors are about the same."""
    best = min(errors, key=lambda shift: errors[shift])
    return best, [shift for shift in errors if shift != best and errors[shift] < MAX_ALIKE * errors[best]]


@dataclass(frozen=True, slots=True)
class ShiftedDistances:
    """(P,) median distance to the epipolar lines for each pair, as given and at `shift`, pixels."""

    shift: int
    as_given: Array
    shifted: Array

    @property
    def distance_px(self) -> float:
        """Median distance at `shift` over the pairs."""
        return float(np.median(self.shifted))

    @property
    def fits(self) -> bool:
        """Whether the shift explains the distances as given."""
        is_nearer = self.shifted < self.as_given
        ratio = float(np.median(self.shifted)) / float(np.median(self.as_given))
        return ratio <= MAX_SHIFTED_RATIO and float(is_nearer.mean()) >= MIN_SHIFT_AGREEMENT


def check_synchronization(survey: RecordingSurvey) -> Iterator[Finding]:
    """E10: right images of other frames are on the epipolar lines, but not the images of the same frames."""
    if not survey.stereo:
        return  # `sides` reports what is missing
    as_given = _measure_distances(survey, survey.pairs)
    width = survey.recording.camera(survey.anchors[0]).width
    if len(as_given) < MIN_SHIFTED_PAIRS or survey.length < 2:
        return
    given_px = float(np.median(list(as_given.values())))
    limit_px = max(MIN_SHIFTED_PX, MIN_SHIFTED_SHARE * width)
    if (later := _find_later_shift(survey, as_given, limit_px)) is not None:
        yield later
        return
    if given_px < limit_px:
        return
    shifted = []
    for shift in (s for s in range(-MAX_SHIFT, MAX_SHIFT + 1) if s != 0):
        there = _measure_distances(survey, survey.match_shifted(shift))
        common = sorted(there.keys() & as_given.keys())
        if len(common) >= MIN_SHIFTED_PAIRS:
            before, after = (np.array([distances[i] for i in common]) for distances in (as_given, there))
            shifted.append(ShiftedDistances(shift, before, after))
    fitting = {distances.shift: distances for distances in shifted if distances.fits}
    if not fitting:
        return
    shift, alike = choose_shift({shift: distances.distance_px for shift, distances in fitting.items()})
    best = fitting[shift]
    measured = f"matches are {given_px:.2f} px from their epipolar lines, and {best.distance_px:.2f} px if left "
    measured += f"image i is paired with right image i{best.shift:+d} (medians of {len(best.shifted)} pairs)"
    case = "undecided" if alike else "shifted"
    values = {"frames": describe_shifts(best.shift, alike), "shift": f"{best.shift:+d}"}
    table = {0: given_px, **{distances.shift: distances.distance_px for distances in shifted}}
    evidence = {
        "shift_frames": best.shift,
        "shifts": {
            "hypothesis": ["as given" if shift == 0 else describe_shift(shift) for shift in sorted(table)],
            "distance to the line, px": [table[shift] for shift in sorted(table)],
        },
    }
    expected = "the smallest distance at the same frame"
    yield make_finding("E10", Severity.STOP, measured, expected, case=case, values=values, evidence=evidence)


MIN_LATER_RATIO = 4.0  # of the distances after and before a lost frame


def _find_later_shift(survey: RecordingSurvey, as_given: Mapping[int, float], limit_px: float) -> Finding | None:
    """E10 if pairs fit up to a frame, and then fit at another shift: one camera lost a frame."""
    indices = sorted(as_given)
    fits = [as_given[i] < max(limit_px, MIN_LATER_RATIO * min(as_given.values())) for i in indices]
    start = next((k for k in range(len(fits)) if not any(fits[k:])), len(fits))
    before, after = indices[:start], indices[start:]
    if not before or len(after) < MIN_SHIFTED_PAIRS or not all(fits[:start]):
        return None
    found: dict[int, float] = {}
    for shift in (s for s in range(-MAX_SHIFT, MAX_SHIFT + 1) if s != 0):
        pairs = [survey.match_pair(i, shift) for i in after if 0 <= i + shift < survey.length]
        there = _measure_distances(survey, pairs)
        is_enough = len(there) >= MIN_SHIFTED_PAIRS
        if is_enough and all(there[i] <= MAX_SHIFTED_RATIO * as_given[i] for i in there):
            found[shift] = float(np.median(list(there.values())))
    if not found:
        return None
    shift, alike = choose_shift(found)
    first = _find_first_shifted(survey, before[-1], after[0], shift)
    given_px = float(np.median([as_given[i] for i in after]))
    measured = f"up to frame {before[-1]} matches are {max(as_given[i] for i in before):.2f} px from their epipolar "
    measured += f"lines; from frame {first} on {given_px:.2f} px, and {found[shift]:.2f} px if left image i is "
    measured += f"paired with right image i{shift:+d}"
    values = {"frames": describe_shifts(shift, alike), "shift": f"{shift:+d}", "start": first}
    pixels = {"frame": indices, "distance to the line, px": [as_given[i] for i in indices]}
    evidence = {"shift_frames": shift, "first_frame": first, "pairs": pixels}
    expected = "the smallest distance at the same frame, in the whole recording"
    return make_finding("E10", Severity.STOP, measured, expected, case="later", values=values, evidence=evidence)


def _find_first_shifted(survey: RecordingSurvey, good: int, late: int, shift: int) -> int:
    """Return the first frame whose shifted pair is nearer than the given one, by bisection."""
    while late - good > 1:
        middle = (good + late) // 2
        pairs = {0: survey.match_pair(middle)}
        if 0 <= middle + shift < survey.length:
            pairs[shift] = survey.match_pair(middle, shift)
        px = {s: _measure_distances(survey, [pair]).get(middle, np.inf) for s, pair in pairs.items()}
        if px.get(shift, np.inf) < px[0]:
            late = middle
        else:
            good = middle
    return late


def _measure_distances(survey: RecordingSurvey, pairs: list[PairMatches]) -> dict[int, float]:
    """Return the median distance to the epipolar lines by left index, for pairs with enough matches."""
    medians = {}
    for pair in pairs:
        if len(pair.matches) >= MIN_SHIFTED_MATCHES:
            rig = survey.K(pair.index), survey.K(pair.index, RIGHT), survey.T_right_left
            distances = epipolar_distance_px(pair.matches.first_px, pair.matches.second_px, *rig)
            medians[pair.index] = float(np.median(distances))
    return medians


def find_pose_shift(survey: RecordingSurvey, steps: list[Step]) -> tuple[int, list[int], dict[int, float]] | None:
    """Return the shift of the poses in frames, others that fit equally, and errors by shift; None if none is clear."""
    errors = {shift: _rotation_errors_deg(survey, steps, shift) for shift in range(-MAX_SHIFT, MAX_SHIFT + 1)}
    as_given, fitting = errors[0], {}
    for shift, there in errors.items():
        common = sorted(there.keys() & as_given.keys())
        if shift == 0 or len(common) < MIN_SHIFTED_STEPS:
            continue
        before, after = (np.array([errors_deg[i] for i in common]) for errors_deg in (as_given, there))
        least = min(MAX_SHIFTED_ROTATION * np.median(before), np.median(before) - MIN_ROTATION_GAIN_DEG)
        if np.median(after) <= least and float((after < before).mean()) >= MIN_SHIFT_AGREEMENT:
            fitting[shift] = float(np.median(after))
    if not fitting:
        return None
    table = {
        shift: float(np.median(list(errors_deg.values())))
        for shift, errors_deg in errors.items()
        if len(errors_deg) >= MIN_SHIFTED_STEPS
    }
    return *choose_shift(fitting), table


def _rotation_errors_deg(survey: RecordingSurvey, steps: list[Step], shift: int) -> dict[int, float]:
    """Return the rotation errors by the first frame of each step, with the poses of `shift` frames later."""
    errors_deg = {}
    for step in steps:
        first, second = step.first + shift, step.second + shift
        if step.measured is None or min(first, second) < 0 or max(first, second) >= survey.length:
            continue
        T = survey.given_motion(first, second)
        if T is not None:
            errors_deg[step.first] = rotation_deg(step.measured.R.T @ T[:3, :3])
    return errors_deg
