"""Select the device of a process."""

from __future__ import annotations

import torch


def device_of(accelerator: str = "auto") -> torch.device:
    """Return the GPU of this process where there is one and `training.accelerator` allows it, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda") else "cpu")
