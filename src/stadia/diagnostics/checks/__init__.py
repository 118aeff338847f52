"""The checks that need no training, in the order in which to look. One line a check; adding one is a file and a line.

A check is a function from a Survey to its findings; it raises NotChecked where the recording lacks what it compares
with.
"""

from stadia.core.tables import Table

CHECKS = Table(
    "check",
    {
        "frames": "stadia.diagnostics.checks.frames:frames",
        "timestamps": "stadia.diagnostics.checks.timestamps:timestamps",
        "borders": "stadia.diagnostics.checks.borders:borders",
        "exposure": "stadia.diagnostics.checks.exposure:exposure",
        "intrinsics": "stadia.diagnostics.checks.intrinsics:intrinsics",
        "resize": "stadia.diagnostics.checks.intrinsics:resize",
        "sides": "stadia.diagnostics.checks.rig:sides",
        "baseline": "stadia.diagnostics.checks.rig:baseline",
        "poses": "stadia.diagnostics.checks.poses:poses",
        "ground_truth": "stadia.diagnostics.checks.ground_truth:ground_truth",
    },
)
"""Of each recording by itself."""

SPLIT_CHECKS = Table("check of splits", {"splits": "stadia.diagnostics.checks.splits:splits"})
"""Of the splits together: a function from split name to the surveys of its recordings."""

NEEDS_SOUND = {
    "resize": ("frames", "intrinsics"),
    "sides": ("frames", "intrinsics", "resize"),
    "baseline": ("frames", "intrinsics", "resize", "sides"),
    "poses": ("frames", "intrinsics", "resize"),
    "ground_truth": ("frames", "intrinsics", "resize"),
}
"""Checks that would only measure the symptoms of a stop that another one has found in the same recording."""
