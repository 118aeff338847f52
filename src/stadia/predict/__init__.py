"""Predict depth and camera motion with any network, and evaluate it."""

from stadia.core.registry import Registry

DEPTH_RECIPES = ("selfsup", "metric", "supervised")
"""Names of the trainings ("recipes") whose networks predict depth: self-supervised, metric, and supervised by depth
maps.

`stadia.predict.run` predicts with these networks, and with published ones.
"""

TASKS = Registry(
    "task",
    {
        **dict.fromkeys(DEPTH_RECIPES, "stadia.predict.tasks:DepthTask"),
        "objectpose": "stadia.objectpose.task:ObjectPoseTask",
        "overlay": "stadia.overlay.task:OverlayTask",
    },
)
"""For each recipe (kind of training), the subclass of `stadia.predict.tasks.Task` that `stadia predict` and `stadia
evaluate` run.
"""
