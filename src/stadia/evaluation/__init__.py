"""Predict to disk, score from disk: protocols, baselines, files and plots."""

from __future__ import annotations

from stadia.core.registry import Registry

MOTIONS = Registry(
    "motion",
    {
        "aligned": "stadia.evaluation.predict.predict_frames:align_motion",
        "network": "stadia.evaluation.predict.predict_frames:predict_motion",
    },
)
