"""Evaluation: predict to disk, score from disk, with protocols, baselines, files and plots."""

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

MOTIONS = Registry(
    "motion",
    {
        "aligned": "stadia.training.prediction.aligned_motion:align_motion",
        "network": "stadia.predict.predict_frames:predict_motion",
    },
)
