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

TRAIN_FLOOR = Registry(
    "part of the train floor",
    {
        "check_predictions": "stadia.training.prediction.validation:check_predictions",
        "count_downloaded_bytes": "stadia.networks.hub_download:count_downloaded_bytes",
        "depth_networks": "stadia.networks:DEPTH_NETWORKS",
        "find_cache": "stadia.networks.hub_download:find_cache",
        "find_published_files": "stadia.networks.published_files:find_published_files",
        "find_focals": "stadia.training.recipes.base.depth_predictor:find_focals",
        "finish_validation": "stadia.training.prediction.validation:finish_validation",
        "list_presets_of": "stadia.training.recipes.presets:list_presets_of",
        "load_panoptic_model": "stadia.networks.segmentation:load_panoptic_model",
        "load_recipe": "stadia.training.recipes.base.build_recipe:load_recipe",
        "load_size_prior": "stadia.networks.size_prior:load_size_prior",
        "make_predictor": "stadia.training.recipes.base.depth_predictor:make_predictor",
        "open_backend": "stadia.training.prediction.backend_predictor:open_backend",
        "open_checkpoint": "stadia.training.loop.checkpoint:open_checkpoint",
        "open_network": "stadia.training.recipes.base.build_recipe:open_network_checkpoint",
        "open_validation": "stadia.training.prediction.validation:open_validation",
        "read_steps": "stadia.training.loop.checkpoint:read_steps",
        "run": "stadia.training.loop.run_folder:Run",
    },
)
"""Functions and tables of the train floor that predicting uses if a network needs PyTorch."""
