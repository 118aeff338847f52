"""Predict and evaluate with any network."""

from __future__ import annotations

from stadia.core.registry import Registry

TASKS = Registry(
    "task",
    {
        **dict.fromkeys(("selfsup", "metric", "supervised"), "stadia.predict.depth_task:DepthTask"),
        "objectpose": "stadia.objectpose.task:ObjectPoseTask",
        "overlay": "stadia.overlay.task:OverlayTask",
    },
)
"""What `stadia predict` and `stadia evaluate` do with each recipe: a subclass of `predict.tasks.Task`."""
