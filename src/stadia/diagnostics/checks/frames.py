"""Check frames: are they different images, taken while the camera moved?"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stadia.core.recording import LEFT, RIGHT
from stadia.diagnostics.catalog import finding
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.instruments.flow import FLOW_WIDTH, flow_px, small
from stadia.diagnostics.survey import NotChecked, Survey

MAX_FRAMES, WINDOWS = 120, 4
SECONDS = 12.0
"""Time limit of all windows, whatever the size of the images."""

REPEATED_WARN, REPEATED_STOP = 0.02, 0.1
STATIC_WARN, STATIC_STOP = 1 / 3, 0.9
STATIC_FLOW_PX = 0.1


def windows(length: int) -> list[range]:
    """Return all frames of a short recording, else WINDOWS stretches of consecutive frames, spread evenly."""
    if length <= MAX_FRAMES:
        return [range(length)]
    size = MAX_FRAMES // WINDOWS
    return [range(int(start), int(start) + size) for start in np.linspace(0, length - size, WINDOWS)]


def digest(image: NDArray[np.uint8]) -> bytes:
    """Return 16 bytes that are equal only for images with equal pixels."""
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()


def frames(survey: Survey) -> Iterator[Finding]:
    """D02 repeated frames, D03 a static camera, D04 identical left and right images."""
    yield from _check_same_sides(survey)
    if survey.length == 1:
        raise NotChecked("one frame: nothing to compare it with")
    seen: dict[bytes, int] = {}
    repeated: list[tuple[int, int]] = []
    flows: dict[int, float] = {}
    checked = 0
    stretches = windows(survey.length)
    for window in stretches:
        before: NDArray[np.uint8] | None = None
        until = time.monotonic() + SECONDS / len(stretches)
        for i in window:
            if before is not None and time.monotonic() > until:
                break
            image = survey.recording.image(i)
            checked += 1
            key = digest(image)
            if key in seen and seen[key] != i:
                repeated.append((i, seen[key]))
            picture = small(image)
            if key not in seen and before is not None and (flow := flow_px(before, picture)) is not None:
                flows[i] = flow
            seen.setdefault(key, i)
            before = picture
    yield from _check_repeated(survey, repeated, checked)
    yield from _check_static(survey, flows)


def _check_repeated(survey: Survey, repeated: list[tuple[int, int]], checked: int) -> Iterator[Finding]:
    share = len(repeated) / checked
    if share < REPEATED_WARN:
        return
    yield finding(
        "D02",
        Severity.STOP if share >= REPEATED_STOP else Severity.WARN,
        measured=(
            f"{len(repeated)} of {checked} {'sampled ' if checked < survey.length else ''}frames show exactly what an"
            " earlier one shows"
        ),
        expected="distinct frames",
        evidence={"frame": [i for i, _ in repeated[:8]], "same as": [j for _, j in repeated[:8]]},
        where=[survey.name],
    )


def _check_static(survey: Survey, flows: dict[int, float]) -> Iterator[Finding]:
    """flows: by the later frame of each pair."""
    if len(flows) < 3:
        return
    still = [i for i, flow in flows.items() if flow < STATIC_FLOW_PX]
    share = len(still) / len(flows)
    if share < STATIC_WARN:
        return
    yield finding(
        "D03",
        Severity.STOP if share >= STATIC_STOP and not survey.stereo else Severity.WARN,
        measured=(
            f"{len(still)} of {len(flows)} neighboring pairs move less than {STATIC_FLOW_PX} px at {FLOW_WIDTH} px"
            " width"
        ),
        expected=f"fewer than {STATIC_WARN:.0%}",
        evidence={
            "median_flow_px": float(np.median(list(flows.values()))),
            "pairs": {
                "first": [i - 1 for i in still[:8]],
                "second": still[:8],
                "flow_px": [flows[i] for i in still[:8]],
            },
        },
        where=[survey.name],
    )


def _check_same_sides(survey: Survey) -> Iterator[Finding]:
    """Check every sampled instant, so that a right camera that freezes now and then is found too."""
    if RIGHT not in survey.recording.sides:
        return
    same = [i for i in survey.anchors if digest(survey.image(i, LEFT)) == digest(survey.image(i, RIGHT))]
    if same:
        yield finding(
            "D04",
            Severity.STOP,
            measured=f"left and right images are identical in {len(same)} of {len(survey.anchors)} sampled frames",
            expected="two images, apart by the baseline",
            evidence={"frame": same},
            where=[survey.name],
        )
