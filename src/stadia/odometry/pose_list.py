"""A growing list of poses in one array."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.geometry.se3 import from_rotation_translation, matrix_from_quaternion_wxyz, quaternion_wxyz_from_matrix

_COUNT = 7  # numbers of a pose: quaternion w, x, y, z, and translation
_ROWS = 512  # poses of a block


class PoseList:
    """Rigid poses (4, 4) float64. Each takes 56 bytes: a unit quaternion and the translation.

    Translations and the identity come back exactly, other rotations up to rounding (1e-15). A rotation that chained
    float32 made slightly skew comes back orthonormal.

    As tensors they would take kilobytes: each has an object and an allocation of its own, keeps the memory that it is a
    view of, and the allocator cannot return the pages between them.

    Examples:
        >>> poses = PoseList()
        >>> poses.append(torch.eye(4, dtype=torch.float64))
        >>> len(poses), poses[-1].shape, poses.stack().shape
        (1, torch.Size([4, 4]), torch.Size([1, 4, 4]))
    """

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.float64]] = []  # an array that grows would leave holes of its earlier sizes
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Tensor:
        """Return one pose (4, 4). Raises IndexError beyond the end."""
        block, row = divmod(range(self._length)[index], _ROWS)
        return _make_poses(self._blocks[block][row])

    def append(self, T: Tensor) -> None:
        """Add a pose (4, 4)."""
        block, row = divmod(self._length, _ROWS)
        if block == len(self._blocks):
            self._blocks.append(np.empty((_ROWS, _COUNT)))
        T = T.double()
        self._blocks[block][row, :4] = quaternion_wxyz_from_matrix(T[:3, :3]).numpy()
        self._blocks[block][row, 4:] = T[:3, 3].numpy()
        self._length += 1

    def stack(self) -> Tensor:
        """Return all poses (N, 4, 4)."""
        return _make_poses(np.concatenate([np.empty((0, _COUNT)), *self._blocks])[: self._length])


def _make_poses(values: NDArray[np.float64]) -> Tensor:
    """Return poses (..., 4, 4) of their quaternions and translations (..., 7)."""
    poses = torch.from_numpy(values)
    return from_rotation_translation(matrix_from_quaternion_wxyz(poses[..., :4]), poses[..., 4:])
