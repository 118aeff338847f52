"""Checks of data that need no training: the tables of all checks, in order.

A check returns the findings of a RecordingSurvey, or raises NotChecked.
"""

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

CHECKS = Registry(  # These checks run for each recording.
    "check",
    {
        "frames": "stadia.judge.recordings.frame_checks:check_frames",
        "timestamps": "stadia.judge.recordings.frame_checks:check_timestamps",
        "borders": "stadia.judge.recordings.frame_checks:check_black_bars",
        "exposure": "stadia.judge.recordings.frame_checks:check_exposure",
        "intrinsics": "stadia.judge.recordings.intrinsics_checks:check_intrinsics",
        "resize": "stadia.judge.recordings.intrinsics_checks:check_intrinsics_size",
        "parallax": "stadia.judge.recordings.pose_checks:check_parallax",
        "synchronization": "stadia.judge.recordings.pose_checks:check_synchronization",
        "sides": "stadia.judge.recordings.stereo_checks:check_sides",
        "baseline": "stadia.judge.recordings.stereo_checks:check_baseline",
        "poses": "stadia.judge.recordings.pose_checks:check_poses",
        "ground_truth": "stadia.judge.recordings.stereo_checks:check_ground_truth",
    },
)

SPLIT_CHECKS = Registry("check of splits", {"splits": "stadia.judge.recordings.preflight_runner:check_splits"})
"""The checks that compare splits. Each is a function of the frames by split name."""

PREREQUISITES = {  # checks that would only measure symptoms of their stops in the same recording
    "resize": ("frames", "intrinsics"),
    "parallax": ("frames", "intrinsics", "resize"),
    "synchronization": ("frames", "intrinsics", "resize"),
    "sides": ("frames", "intrinsics", "resize", "synchronization"),
    "baseline": ("frames", "intrinsics", "resize", "synchronization", "sides"),
    "poses": ("frames", "intrinsics", "resize", "synchronization", "sides"),
    "ground_truth": ("frames", "intrinsics", "resize", "synchronization", "sides"),
}
