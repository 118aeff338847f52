"""Predict to disk, score from disk: protocols, baselines, files and plots."""

from __future__ import annotations

from stadia.core.registry import Registry

MOTIONS = Registry(
    "motion",
    {
        "aligned": "stadia.evaluation.predict.frame_to_frame:align_motion",
        "network": "stadia.evaluation.predict.frame_to_frame:predict_motion",
    },
)
