"""Map names of parts to the modules that define them, without importing these, and old names of keys to new ones."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stadia.core.errors import ConfigError, DataError, summarize_exception


def find_nearest_name(name: str, valid: Mapping[str, object] | list[str], *, similarity: float = 0.65) -> str | None:
    """Return the valid name closest to a misspelt one, or None where nothing is close.

    Examples:
        >>> find_nearest_name("optimser", ["optimizer", "schedule"])
        'optimizer'
    """
    found = difflib.get_close_matches(name, list(valid), n=1, cutoff=similarity)
    return found[0] if found else None


class Registry(Mapping[str, str]):
    """A read-only table from a part's name to `"module:attribute"`, which users extend with parts of their own.

    Where `entry_points` is given, a name may also be an entry point of an installed package, or `module:attribute` of
    any module on Python's path. The current folder is on it only where the user says so: `PYTHONPATH=. stadia ...`.
    So no name in a checkpoint runs a file that happens to lie there.

    Args:
        kind: the singular name of the parts for error messages ("loss", "dataset").
        parts: name to `"package.module:attribute"`.
        refused: names of known mistakes, and why there is no such part.
        entry_points: group of entry points of other packages, such as "stadia.depth_networks".
    """

    def __init__(
        self,
        kind: str,
        parts: Mapping[str, str],
        refused: Mapping[str, str] | None = None,
        *,
        entry_points: str | None = None,
    ) -> None:
        self.kind = kind
        self.entry_points = entry_points
        self._parts = dict(parts)
        self._refused = dict(refused or {})

    def __getitem__(self, name: str) -> str:
        self.check(name)
        return self._find(name) or name

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def check(self, name: str) -> str:
        """Return the name itself. Raises ConfigError with the nearest valid one. Imports nothing."""
        if name not in self._refused and (self._find(name) or self._is_own(name)):
            return name
        near = find_nearest_name(name, self._parts)
        fix = self._refused.get(name) or (f"did you mean '{near}'?" if near else "see `stadia list`")
        own = " or module:attribute of your own" if self.entry_points else ""
        raise ConfigError(self.kind, found=f"'{name}'", expected=f"one of {', '.join(self._parts)}{own}", fix=fix)

    def load(self, name: str) -> Any:
        """Import the part and return it. Raises ConfigError where a part of the user's own cannot be imported."""
        module, _, attribute = self[name].partition(":")
        if self._find(name) in self._parts.values():
            return getattr(importlib.import_module(module), attribute)
        return self._load_own(name, module, attribute)

    def _find(self, name: str) -> str | None:
        """Return the place of a name in the table or of an entry point; None without one."""
        if name in self._parts or self.entry_points is None:
            return self._parts.get(name)
        found = importlib.metadata.entry_points(group=self.entry_points, name=name)
        return next((entry_point.value for entry_point in found), None)

    def _is_own(self, name: str) -> bool:
        return self.entry_points is not None and OWN_PART.fullmatch(name) is not None

    def _load_own(self, name: str, module: str, attribute: str) -> Any:
        expected = f"a {self.kind} on Python's path"
        try:
            loaded = importlib.import_module(module)
        except ModuleNotFoundError as error:
            found = f"'{name}', and there is no module '{error.name}'"
            fix = "install its package, or put its folder on the path: PYTHONPATH=FOLDER stadia ..."
            raise ConfigError(self.kind, found=found, expected=expected, fix=fix) from error
        except Exception as error:
            found = f"'{name}', whose import fails ({summarize_exception(error)})"
            raise ConfigError(self.kind, found=found, expected=expected, fix="correct the module") from error
        if not hasattr(loaded, attribute):
            near = find_nearest_name(attribute, [key for key in vars(loaded) if not key.startswith("_")])
            fix = f"did you mean '{module}:{near}'?" if near else f"define it in {module}"
            found = f"'{name}', and {module} has no '{attribute}'"
            raise ConfigError(self.kind, found=found, expected=expected, fix=fix)
        return getattr(loaded, attribute)


OWN_PART = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""The form `module:attribute` of a part that users define themselves."""


# -- Configuration keys, options and keys of files that were renamed.

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
"""Old option of the command line to the new one."""

SPELLINGS: Mapping[str, str] = {"optimiser": "optimizer", "colour": "color", "centre": "center"}
"""British words of keys, which are American here."""

COMMON_NAMES: Mapping[str, str] = {
    "learning_rate": "lr",
    "epochs": "max_epochs",
    "steps": "max_steps",
    "num_workers": "workers",
}
"""Names of other programs for keys of a configuration."""

OPTIONS_OF_CAMERA = ("--fov", "--focal-px", "--focal-mm")
"""Options of `stadia camera` that users pass to other commands, which read the camera's file."""

RENAMED_COMMANDS: Mapping[str, str] = {"parts": "list"}
"""Old command to the new one."""

RENAMED_FILE_KEYS: Mapping[str, str] = {"claim": "depth_scale", "after_a_look": "post_hoc_choices"}
"""Old key of predictions.json, dataset.json, run.json, study.yaml and score files to the new one."""

RENAMED_WEIGHTS: Mapping[str, str] = {"camera_m": "camera_height_m", "said_m": "predicted_height_m"}
"""Old name of a tensor in checkpoints to the new one."""


def check_file_keys(path: Path, values: Any) -> None:
    """Raise DataError for the object of a JSON or YAML file that has an old key."""
    for old, new in RENAMED_FILE_KEYS.items():
        if isinstance(values, Mapping) and old in values and new not in values:
            fix = f"rename the key to '{new}' in this file, or write the file again"
            raise DataError(path, found=f"'{old}', a key of an earlier version", expected=f"'{new}'", fix=fix)


def is_spelling(old: str, new: str) -> bool:
    """Return whether an old key is the new one in another spelling."""
    for british, american in SPELLINGS.items():
        old = old.replace(british, american)
    return old == new


def find_new_key(key: str) -> str | None:
    """Return the new name of an old dotted key, or None for a key that was not renamed.

    The longest old name counts first, and a new name may itself have been renamed later: `optimiser.lr` gives
    `optimizer.lr`.
    """
    new = key
    for _ in RENAMED_KEYS:  # no chain of renames is longer than the table
        if (following := _rename_once(new)) == new:
            break
        new = following
    return None if new == key else new


def _rename_once(key: str) -> str:
    """Return the new name of an old key, or another key unchanged."""
    for old in sorted(RENAMED_KEYS, key=lambda old: -old.count(".")):
        pattern = re.escape(old.removesuffix(".*")).replace("NAME", "([^.]*)")
        if match := re.match(rf"{pattern}(?=\.|$)", key):
            new = RENAMED_KEYS[old].removesuffix(".*").replace("NAME", "{}")
            return new.format(*match.groups()) + key[match.end() :]
    return key
