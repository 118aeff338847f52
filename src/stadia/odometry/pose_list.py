"""A growing list of poses that takes 56 bytes for each."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from stadia.geometry.se3 import from_rotation_translation, matrix_from_quaternion_wxyz, quaternion_wxyz_from_matrix

_COUNT = 7
"""Numbers of a pose: quaternion w, x, y, z, and translation."""


class PoseList:
    """Rigid poses (4, 4) float64, each kept as a unit quaternion and the translation: a path may have 100,000.

    As tensors they would take kilobytes: each has an object and an allocation of its own, and keeps the memory that it
    is a view of.

    Translations and the identity come back exactly, other rotations up to rounding (1e-15). A rotation that chained
    float32 made slightly skew comes back orthonormal.

    Examples:
        >>> poses = PoseList()
        >>> poses.append(torch.eye(4, dtype=torch.float64))
        >>> len(poses), poses[-1].shape, poses.stack().shape
        (1, torch.Size([4, 4]), torch.Size([1, 4, 4]))
    """

    def __init__(self) -> None:
        self._values: array[float] = array("d")

    def __len__(self) -> int:
        return len(self._values) // _COUNT

    def __getitem__(self, index: int) -> Tensor:
        """Return one pose (4, 4). Raises IndexError beyond the end."""
        start = _COUNT * range(len(self))[index]
        return self._make_poses(self._values[start : start + _COUNT])[0]

    def __iter__(self) -> Iterator[Tensor]:
        """Yield each pose (4, 4)."""
        return iter(self.stack())

    def append(self, T: Tensor) -> None:
        """Add a pose (4, 4)."""
        T = T.double()
        self._values.extend(quaternion_wxyz_from_matrix(T[:3, :3]).tolist())
        self._values.extend(T[:3, 3].tolist())

    def stack(self) -> Tensor:
        """Return all poses (N, 4, 4)."""
        return self._make_poses(self._values)

    @staticmethod
    def _make_poses(values: array[float]) -> Tensor:
        """Return poses (N, 4, 4) of their quaternions and translations."""
        poses = torch.from_numpy(np.array(values).reshape(-1, _COUNT))
        return from_rotation_translation(matrix_from_quaternion_wxyz(poses[:, :4]), poses[:, 4:])
