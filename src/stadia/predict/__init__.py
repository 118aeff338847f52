"""Predict and evaluate with any network."""

from stadia.core.registry import Registry

TASKS = Registry(
    "task",
    {
        **dict.fromkeys(("selfsup", "metric", "supervised"), "stadia.predict.depth_task:DepthTask"),
        "objectpose": "stadia.objectpose.task:ObjectPoseTask",
        "overlay": "stadia.overlay.task:OverlayTask",
    },
)
"""`stadia predict` and `stadia evaluate` run this subclass of `predict.tasks.Task` for each recipe."""
