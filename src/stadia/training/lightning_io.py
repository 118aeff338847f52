"""The two seams to Lightning: our checkpoints as its plugin, and its chatter silenced."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import stadia.core.torchvision_shim  # noqa: F401

# isort: split
from lightning.pytorch.plugins.io import CheckpointIO

from stadia.training import checkpoint as checkpoints


class SafetensorsIO(CheckpointIO):
    """Writes and reads Lightning's checkpoints as ours. `storage_options` is the header (`Trainer.save_checkpoint`
    passes it).
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: checkpoints.CheckpointHeader | None = None
    ) -> None:
        if storage_options is None:
            raise TypeError("save_checkpoint needs a Header as storage_options")
        kept = checkpoint if storage_options.kind == "training" else {"state_dict": checkpoint["state_dict"]}
        checkpoints.write_checkpoint(Path(path), storage_options, kept)

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        return checkpoints.Checkpoint.open(Path(path)).state()

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)
        Path(path).with_suffix(".json").unlink(missing_ok=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No tips, no advertisements, no advice that does not hold here. Warnings of other parts pass."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for advice in (
            r"module\(s\) in eval mode",  # frozen on purpose
            "have no `val_dataloader`",
            "GPU available but not used",
            "LeafSpec.*deprecated",  # Lightning on a newer torch
        ):
            warnings.filterwarnings("ignore", message=f".*{advice}")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
