"""Where batches and networks go."""

from __future__ import annotations

import torch


def device_of(accelerator: str = "auto") -> torch.device:
    """The process's GPU where there is one and `training.accelerator` lets it be used, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda") else "cpu")
