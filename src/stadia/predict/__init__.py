"""Predict and evaluate with any network."""

from stadia.core.registry import Registry

DEPTH_RECIPES = ("selfsup", "metric", "supervised")
"""Networks of these recipes predict depth; `predict.run` predicts with them, and with published networks."""

TASKS = Registry(
    "task",
    {
        **dict.fromkeys(DEPTH_RECIPES, "stadia.predict.tasks:DepthTask"),
        "objectpose": "stadia.objectpose.task:ObjectPoseTask",
        "overlay": "stadia.overlay.task:OverlayTask",
    },
)
"""`stadia predict` and `stadia evaluate` run this subclass of `predict.tasks.Task` for each recipe."""
