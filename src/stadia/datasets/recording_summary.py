"""Describe recordings in a line: what was read, so that a wrong camera or rig is seen before hours of training."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

from stadia.core.recording import LEFT, RIGHT, Recording


def summarize_recordings(recordings: Sequence[Recording]) -> list[str]:
    """Return `read: 51 frames 1226x370, fx 707.1 px (81.9 degrees), stereo baseline 0.537 m, poses, no ground truth`.

    Recordings with equal properties share a line.
    """
    groups: dict[str, list[Recording]] = {}
    for recording in recordings:
        if len(recording):
            groups.setdefault(_describe_properties(recording), []).append(recording)
    lines = []
    for properties, members in groups.items():
        count = f"{len(members)} recordings, " if len(members) > 1 else ""
        lines.append(f"read: {count}{sum(map(len, members))} frames {properties}")
    return lines


def _describe_properties(recording: Recording) -> str:
    """Describe the first frame; a part that cannot be read is left out, since the checks report it."""
    parts = []
    for describe in (_describe_camera, _describe_rig, _describe_poses, _describe_ground_truth):
        with contextlib.suppress(Exception):  # a recording of the user's own may raise anything
            parts.append(describe(recording))
    return ", ".join(parts)


def _describe_camera(recording: Recording) -> str:
    camera = recording.camera(0, LEFT)
    fx = float(camera.K[0, 0])
    angle_deg = math.degrees(2 * math.atan(camera.width / (2 * fx)))
    return f"{camera.width}x{camera.height}, fx {fx:.1f} px ({angle_deg:.1f} degrees)"


def _describe_rig(recording: Recording) -> str:
    if RIGHT not in recording.sides:
        return "one camera"
    if recording.T_right_left is None:
        return "two cameras without a baseline"
    return f"stereo baseline {math.hypot(*map(float, recording.T_right_left[:3, 3])):.3f} m"


def _describe_poses(recording: Recording) -> str:
    return "no poses" if recording.T_world_camera(0, LEFT) is None else "poses"


def _describe_ground_truth(recording: Recording) -> str:
    return "no ground truth" if recording.depth_m(0, LEFT) is None else "ground truth"
