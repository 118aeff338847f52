"""Refuse old configuration keys, options and keys of files, and give the new names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stadia.core.errors import DataError

RENAMED_KEYS: Mapping[str, str] = {
    "optimiser.*": "optimizer.*",
    "training.pictures_every": "training.images_every",
    "data.colour.*": "data.color.*",
    "data.augmentation.colour.*": "data.augmentation.color.*",
    "data.backgrounds.colour": "data.backgrounds.color",
    "data.extra_datasets.NAME.colour.*": "data.extra_datasets.NAME.color.*",
    "data.extra_datasets.NAME.augmentation.colour.*": "data.extra_datasets.NAME.augmentation.color.*",
    "loss.centre": "loss.center",
    "data.others.*": "data.extra_datasets.*",
    "road.least_share": "road.min_object_share",
    "road.most_hidden": "road.max_occlusion",
    "model.start_depth_m": "model.init_depth_m",
    "model.answer_stride": "model.output_stride",
    "model.allow_initialised": "model.allow_missing",
    "model.allow_left_over": "model.allow_unexpected",
    "loss.uncertainty_sizes": "loss.num_uncertainty_sizes",
    "loss.smoothness_kind": "loss.smoothness_type",
    "reinitialise_at_epoch": "reinitialize_at_epoch",
    "most_epochs": "max_height_epochs",
    "hand_over_epochs": "scale_schedule_epochs",
    "training.accumulate": "training.grad_accumulation_steps",
    "training.stage_lr": "training.stage_lr_scaling",
    "heights.fewest_frames": "heights.min_frames",
    "heights.fewest_share": "heights.min_frame_share",
    "heights.least_kept": "heights.min_inlier_share",
    "heights.most_spread": "heights.max_spread",
    "heights.most_disagreement": "heights.max_horizon_disagreement",
    "heights.most_apart": "heights.max_height_mismatch",
    "heights.most_change": "heights.max_change",
    "heights.oddness_spread": "heights.outlier_sigma",
    "depth_claim": "depth_scale",
    "finding.*": "detection.*",
    "detection.fewest_px": "detection.min_px",
    "least_px": "min_px",
}
"""Old dotted key to new one. NAME is a part that the user chose; `.*` marks a group whose keys move with it."""

RENAMED_OPTIONS: Mapping[str, str] = {"--picture": "--image", "--claim": "--depth-scale"}
"""Old option or command of the command line to the new one."""

RENAMED_FILE_KEYS: Mapping[str, str] = {"claim": "depth_scale"}
"""Old key of predictions.json, dataset.json, run.json and score files to the new one."""


RENAMED_WEIGHTS: Mapping[str, str] = {"camera_m": "camera_height_m", "said_m": "predicted_height_m"}
"""Old name of a tensor in checkpoints to the new one."""


def check_file_keys(path: Path, values: Any) -> None:
    """Raise DataError for the object of a JSON file that has an old key."""
    for old, new in RENAMED_FILE_KEYS.items():
        if isinstance(values, Mapping) and old in values and new not in values:
            fix = f"rename the key to '{new}' in this file, or write the file again"
            raise DataError(path, found=f"'{old}', a key of an earlier version", expected=f"'{new}'", fix=fix)


def find_new_key(key: str) -> str | None:
    """Return the new name of an old dotted key, or None for a key that was not renamed.

    The longest old name counts first, and a new name may itself have been renamed later: `optimiser.lr` gives
    `optimizer.lr`.
    """
    new = key
    for _ in RENAMED_KEYS:  # no chain of renames is longer than the table
        following = _rename_once(new)
        if following is None:
            break
        new = following
    return None if new == key else new


def find_new_option(option: str) -> str | None:
    """Return the new name of an old option or command, or None for one that was not renamed."""
    return RENAMED_OPTIONS.get(option)


def _rename_once(key: str) -> str | None:
    words = key.split(".")
    for old in sorted(RENAMED_KEYS, key=lambda old: -old.count(".")):
        pattern = old.removesuffix(".*").split(".")
        head, tail = words[: len(pattern)], words[len(pattern) :]
        if len(head) < len(pattern):
            continue
        if any(part not in (word, "NAME") for part, word in zip(pattern, head, strict=True)):
            continue
        names = (word for part, word in zip(pattern, head, strict=True) if part == "NAME")
        new = RENAMED_KEYS[old].removesuffix(".*").split(".")
        return ".".join([*(next(names) if part == "NAME" else part for part in new), *tail])
    return None
