"""The table of preflight checks, which need no training, in order.

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
"""For each recording."""

SPLIT_CHECKS = Table("check of splits", {"splits": "stadia.diagnostics.checks.splits:splits"})
"""For all splits together: a function of the frames by split name."""

PREREQUISITES = {
    "resize": ("frames", "intrinsics"),
    "sides": ("frames", "intrinsics", "resize"),
    "baseline": ("frames", "intrinsics", "resize", "sides"),
    "poses": ("frames", "intrinsics", "resize"),
    "ground_truth": ("frames", "intrinsics", "resize"),
}
"""Checks that would only measure symptoms where one of these reported a stop for the same recording."""
