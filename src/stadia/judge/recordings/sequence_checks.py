"""Check whether the frames of a recording are one sequence: black frames, a feed that froze, cuts, cameras in turns.

Each is measured against the neighbors of the same frames, so that a slow camera or a dark scene is none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.types import Recording
from stadia.geometry.image_features import SiftFeatures, detect_features, match_features, median_flow_px
from stadia.judge.catalog import make_finding
from stadia.judge.finding import Finding, Severity

BLACK_MAX = 24
"""Largest gray level of a black frame, which a codec does not reach; a picture of a dark street has lamps."""

BLACK_MEAN = 12.0
"""Largest mean gray level of a black frame."""

SAME_DIFFERENCE = 0.6
"""Mean difference of gray levels of one image that a codec stored twice."""

SAME_SHARE = 0.25
"""The same, over the median difference of neighboring frames."""

MIN_FROZEN_FRAMES = 3
"""Fewest frames that repeat the one before and count as a feed that froze."""

MIN_SUDDEN_SHARE = 0.7
"""Difference of the frames before and after a freeze, over the median of neighbors: a camera that stops slows down."""

MAX_FOLLOWED = 0.3
"""Share of the corners that are followed to the next frame and back to their place, below which a cut is searched."""

MAX_RETURN_PX = 1.0
"""Distance from its place at which a corner comes back, pixels of the small image."""

MAX_CUT_MATCHES = 0.15
"""Matches across a cut, over the matches of the neighbors on either side."""

MIN_MATCHES_BESIDE = 30
"""Fewest matches of the neighbors on either side by which a cut is judged."""

MAX_CANDIDATES = 4
MAX_SHOWN = 5


@dataclass(frozen=True, slots=True)
class WatchedFrame:
    """A frame that was read.

    index: its index in the recording.
    gray: (h, w) uint8 small gray image.
    """

    index: int
    gray: NDArray[np.uint8]

    @property
    def is_black(self) -> bool:
        """Return whether the frame shows nothing."""
        return bool(self.gray.max() <= BLACK_MAX and self.gray.mean() <= BLACK_MEAN)


def check_sequence(recording: Recording, windows: Sequence[Sequence[WatchedFrame]]) -> Iterator[Finding]:
    """Report frames that break a sequence (D20): black ones, a feed that froze, and cuts.

    recording: the recording.
    windows: stretches of consecutive frames.
    """
    frames = [frame for window in windows for frame in window]
    black = [frame.index for frame in frames if frame.is_black]
    if black and len(black) < len(frames):
        measured = f"{_list_frames(recording, black)} of {len(frames)} are black"
        evidence = {"frame": [number_of(recording, index) for index in black]}
        yield make_finding("D20", Severity.WARN, measured, EXPECTED, case="black", evidence=evidence)
    pairs = [
        (before, after)
        for window in windows
        for before, after in pairwise(window)
        if before.gray.shape == after.gray.shape and not (before.is_black or after.is_black)
    ]
    if len(pairs) < MIN_FROZEN_FRAMES:
        return
    differences = np.array([cv2.absdiff(before.gray, after.gray).mean() for before, after in pairs])
    moving = differences[differences > SAME_DIFFERENCE]
    usual = float(np.median(moving)) if moving.size else 0.0
    if (in_turns := _check_turns(recording, windows)) is not None:
        yield in_turns
        return
    yield from _check_frozen(recording, pairs, differences, usual)
    yield from _check_cuts(recording, pairs, differences)


Pairs = Sequence[tuple[WatchedFrame, WatchedFrame]]


def _check_frozen(
    recording: Recording, pairs: Pairs, differences: NDArray[np.float64], usual: float
) -> Iterator[Finding]:
    """Report stretches of one image between frames that move as much as usual."""
    steps = [number_of(recording, after.index) - number_of(recording, before.index) for before, after in pairs]
    usual_step = float(np.median(steps))
    is_same = differences <= min(SAME_DIFFERENCE, SAME_SHARE * usual)
    run = list[int]()
    stretches = list[tuple[int, int]]()
    for position, (before, after) in enumerate(pairs):
        left_out = steps[position] - 1
        if is_same[position]:
            run.append(number_of(recording, after.index))
            continue
        earlier = position - len(run) - 1
        is_sudden = earlier >= 0 and min(differences[[earlier, position]]) >= MIN_SUDDEN_SHARE * usual
        stretch = None
        if len(run) >= MIN_FROZEN_FRAMES:
            stretch = run[0], run[-1]
        elif left_out >= MIN_FROZEN_FRAMES and left_out > 2 * usual_step and steps[earlier] <= usual_step:
            stretch = number_of(recording, before.index) + 1, number_of(recording, after.index) - 1
        if stretch is not None and is_sudden and _moves(pairs[earlier]) and _moves(pairs[position]):
            stretches.append(stretch)
        run = []
    if stretches:
        shown = ", ".join(f"{first} to {last}" for first, last in stretches[:MAX_SHOWN])
        measured = f"frames {shown} repeat the frame before them, and those around them move"
        evidence = {"first": [first for first, _ in stretches], "last": [last for _, last in stretches]}
        yield make_finding("D20", Severity.WARN, measured, EXPECTED, case="frozen", evidence=evidence)


def _moves(pair: tuple[WatchedFrame, WatchedFrame]) -> bool:
    """Return whether the camera moved between two frames, and not only things in front of it."""
    flow_px = median_flow_px(*(frame.gray for frame in pair))
    return flow_px is None or flow_px >= MIN_FLOW_PX


MIN_FLOW_PX = 0.8
"""Median flow of corners, pixels of the small image, of a camera that moves."""


def _check_turns(recording: Recording, windows: Sequence[Sequence[WatchedFrame]]) -> Finding | None:
    """Return a finding if neighbors do not match, but every second frame does: two cameras take turns."""
    triples = [window[start : start + 3] for window in windows for start in range(len(window) - 2)]
    if len(triples) < MIN_TRIPLES:
        return None
    chosen = [triples[place] for place in np.linspace(0, len(triples) - 1, MIN_TRIPLES).astype(int)]
    if any(follow_corners(first.gray, second.gray) >= MAX_FOLLOWED for first, second, _ in chosen):
        return None
    neighbors, seconds = list[int](), list[int]()
    for triple in chosen:
        first, second, third = (detect_features(recording.image(frame.index)) for frame in triple)
        neighbors.append(len(match_features(first, second)))
        seconds.append(len(match_features(first, third)))
    if min(seconds) < MIN_MATCHES_BESIDE or max(neighbors) > MAX_CUT_MATCHES * min(seconds):
        return None
    start = chosen[0][0].index
    shown = ", ".join(str(number_of(recording, start + 2 * step)) for step in range(3))
    before, after = round(np.median(neighbors)), round(np.median(seconds))
    measured = (
        f"frames {shown} ... have {after} matches from one to the next, and {before} with the frames between them"
    )
    evidence = {"matches of neighbors": neighbors, "matches of every second frame": seconds}
    values = {"before": before, "after": after}
    return make_finding("D20", Severity.STOP, measured, EXPECTED, case="turns", values=values, evidence=evidence)


MIN_TRIPLES = 4
"""Groups of three frames by which two cameras in turns are judged; all must agree."""


def _check_cuts(recording: Recording, pairs: Pairs, differences: NDArray[np.float64]) -> Iterator[Finding]:
    """Report neighbors without matches whose own neighbors match."""
    large = np.flatnonzero((differences >= np.median(differences)) & (differences > SAME_DIFFERENCE)).tolist()
    followed = np.array([follow_corners(*(frame.gray for frame in pairs[position])) for position in large])
    lost = [large[place] for place in np.argsort(followed, kind="stable") if followed[place] < MAX_FOLLOWED]
    features = dict[int, SiftFeatures]()

    def count_matches(before: int, after: int) -> int:
        for index in (before, after):
            if index not in features:
                features[index] = detect_features(recording.image(index))
        return len(match_features(features[before], features[after]))

    cuts = list[int]()
    for position in sorted(lost[:MAX_CANDIDATES]):
        if not 0 < position < len(pairs) - 1 or pairs[position - 1][1] is not pairs[position][0]:
            continue
        if pairs[position + 1][0] is not pairs[position][1]:
            continue
        first, last = pairs[position - 1][0].index, pairs[position + 1][1].index
        before, after = (frame.index for frame in pairs[position])
        needed = max(MIN_MATCHES_BESIDE, count_matches(before, after) / MAX_CUT_MATCHES)
        can_be_cut = needed <= len(features[before].pixels)
        if can_be_cut and all(count_matches(*ends) >= needed for ends in ((first, before), (after, last))):
            cuts.append(after)
    if cuts:
        measured = f"a cut in front of {_list_frames(recording, cuts)}: no matches with the frame before"
        values, evidence = (
            {"parts": f"data.frames=[0,{cuts[0]}]"},
            {"frame": [number_of(recording, one) for one in cuts]},
        )
        yield make_finding("D20", Severity.WARN, measured, EXPECTED, case="cut", values=values, evidence=evidence)


def follow_corners(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Return the share of corners that are found in the next image and from there at their place; 1 without corners.

    It is 0 for images of two shapes, such as an upright and a lying photo.

    before, after: (h, w) uint8 small gray images.
    """
    if before.shape != after.shape:
        return 0.0
    corners = cv2.goodFeaturesToTrack(before, maxCorners=100, qualityLevel=0.01, minDistance=5)
    if corners is None:
        return 1.0
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None)
    returned, found_again, _ = cv2.calcOpticalFlowPyrLK(after, before, moved, None)
    is_near = np.linalg.norm((returned - corners)[:, 0], axis=1) <= MAX_RETURN_PX
    return float((is_near & (found.ravel() > 0) & (found_again.ravel() > 0)).mean())


EXPECTED = "one sequence of a camera that moves"


def number_of(recording: Recording, index: int) -> int:
    """Return the number of a frame in its video; without one, its index."""
    return int(recording.number(index)) if hasattr(recording, "number") else index


def _list_frames(recording: Recording, indices: Sequence[int]) -> str:
    """Return frames as text, such as "frames 0 to 5 and 9"."""
    numbers = [number_of(recording, index) for index in indices]
    runs = list[list[int]]()
    for number, index in zip(numbers, indices, strict=True):
        if runs and index == indices[numbers.index(number) - 1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [str(first) if first == last else f"{first} to {last}" for first, last in runs[:MAX_SHOWN]]
    more = f" and {len(runs) - MAX_SHOWN} more stretches" if len(runs) > MAX_SHOWN else ""
    return f"frame{'s' * (len(indices) > 1)} {', '.join(texts)}{more}"
