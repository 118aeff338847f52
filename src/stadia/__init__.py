"""stadia: images in; metric depth, camera motion, object pose and masks out.

    network = stadia.open_network("base")
    photo = network.predict("photo.jpg", scale_from=["height=1.4"])
    mapped = stadia.map_video("drive.mp4")
    better = stadia.adapt("base", "drive.mp4", minutes=5)
    scores = stadia.evaluate(network, "kitti_raw", protocol="kitti-eigen")

Importing it loads no torch: a name is loaded when it is used. `__init__.pyi` lists the same names with their types.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

NAMES = {
    "open_network": "stadia.predict.network:open_network",
    "Network": "stadia.predict.network:Network",
    "Prediction": "stadia.predict.prediction:Prediction",
    "PredictOptions": "stadia.predict.options:PredictOptions",
    "EvaluateOptions": "stadia.predict.options:EvaluateOptions",
    "Evaluation": "stadia.predict.tasks:Evaluation",
    "evaluate": "stadia.predict.tasks:evaluate",
    "MappedVideo": "stadia.sfm.map_video:MappedVideo",
    "Adaptation": "stadia.training.adapt:Adaptation",
    "map_video": "stadia.sfm.map_video:map_video",
    "adapt": "stadia.training.adapt:adapt_network",
    "check_reconstruction": "stadia.judge.reconstructions.check_reconstruction:check_reconstruction",
    "assert_poses": "stadia.judge.reconstructions.pose_assertion:assert_poses",
    "refine_reconstruction": "stadia.judge.reconstructions.refine_reconstruction:refine_reconstruction",
    "check": "stadia.judge.recordings.preflight_runner:check_data",
    "configure": "stadia.training.recipes:configure",
    "train": "stadia.training.workflow:train",
    "StadiaError": "stadia.core.errors:StadiaError",
}
"""Public names, and the module that defines each one."""

__all__ = sorted(NAMES)


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module 'stadia' has no attribute '{name}'")
    from stadia.core.floors import name_missing_floor

    module, _, attribute = NAMES[name].partition(":")
    with name_missing_floor():
        return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return [*globals(), *NAMES]
