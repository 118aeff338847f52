"""Ground truth in a folder of any program: read by name, and paired with predictions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.evaluation.io.depth_files import DepthFile, find_depth_files, pair_stacks, read_depth_map
from stadia.evaluation.io.predictions_folder import Predictions
from stadia.evaluation.protocols import Protocol

GroundTruthReaders = Mapping[str, Callable[[], NDArray[np.floating] | None]]
"""Readers of ground truth by name: (H, W) z in metres, 0 = none; None for a frame without ground truth."""


class GroundTruthFolder(Mapping[str, Callable[[], NDArray[np.floating]]]):
    """Readers of a folder of ground truth by name, and what reading has changed.

    factor: integers a metre in PNG and TIFF, and in arrays of integers.
    without_number: number of files read so far with NaN, infinite or negative values, which are taken as none.
    """

    def __init__(self, folder: Path, factor: float) -> None:
        self.folder, self.factor, self.without_number = Path(folder), factor, 0
        self.files: Mapping[str, DepthFile] = find_depth_files(folder)

    def with_files(self, files: Mapping[str, DepthFile]) -> GroundTruthFolder:
        """Return the same ground truth under other names."""
        named = copy.copy(self)
        named.files = files
        return named

    def __getitem__(self, name: str) -> Callable[[], NDArray[np.floating]]:
        return partial(self._read, self.files[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def _read(self, path: DepthFile) -> NDArray[np.floating]:
        true_m = read_depth_map(path, png_per_metre=self.factor, is_truth=True)
        wrong = ~np.isfinite(true_m) | (true_m < 0)
        if wrong.any():
            self.without_number += 1
            true_m = np.where(wrong, 0, true_m)
        return true_m

    @property
    def notes(self) -> list[str]:
        """Return notes on what was read."""
        if not self.without_number:
            return []
        count = f"{self.without_number} of {len(self)} maps of {self.folder}"
        return [f"{count} hold NaN, infinite or negative depth, which is taken as no ground truth"]


def open_ground_truth_folder(folder: Path, protocol: Protocol, factor: float | None = None) -> GroundTruthFolder:
    """Open a folder of ground truth: PNG, TIFF in the protocol's unit, PFM, EXR, .npy, .npz (`depth_m` or one array).

    factor: integers a metre; None for the protocol's unit.
    """
    return GroundTruthFolder(folder, factor or protocol.png_per_metre)


def pair_with_truth(predictions: Predictions, truth: GroundTruthFolder) -> tuple[Predictions, GroundTruthFolder, str]:
    """Return both with one set of names, as of `pair_stacks`, and a note where one is a file of several maps.

    Two files of one map belong together, whatever their names.
    """
    if predictions.folder.is_file() and truth.folder.is_file() and len(predictions.files) == len(truth.files) == 1:
        (file,), (name,) = predictions.files.values(), truth.files
        return replace(predictions, files={name: file}), truth, ""
    files, truth_files, order = pair_stacks(predictions.files, truth.files)
    return replace(predictions, files=files), truth.with_files(truth_files), order
