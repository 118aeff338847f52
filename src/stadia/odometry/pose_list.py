"""A growing list of poses in one array."""

from __future__ import annotations

from array import array

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_COUNT = 12  # numbers of a pose


class PoseList:
    """Rigid poses (4, 4) float64. Each takes 96 bytes: the last row, 0 0 0 1, is not kept.

    As tensors they would take kilobytes: each has an object and an allocation of its own, keeps the memory that it is a
    view of, and the allocator cannot return the pages between them.

    Examples:
        >>> poses = PoseList()
        >>> poses.append(torch.eye(4, dtype=torch.float64))
        >>> len(poses), poses[-1].shape, poses.stack().shape
        (1, torch.Size([4, 4]), torch.Size([1, 4, 4]))
    """

    def __init__(self) -> None:
        self._values = array("d")

    def __len__(self) -> int:
        return len(self._values) // _COUNT

    def __getitem__(self, index: int) -> Tensor:
        """Return a copy of one pose (4, 4). Raises IndexError beyond the end."""
        start = _COUNT * range(len(self))[index]
        return _add_last_row(np.array(self._values[start : start + _COUNT]))[0]

    def append(self, T: Tensor) -> None:
        """Add a pose (4, 4)."""
        self._values.extend(T[:3].double().flatten().tolist())

    def stack(self) -> Tensor:
        """Return a copy of all poses (N, 4, 4)."""
        return _add_last_row(np.array(self._values))


def _add_last_row(values: NDArray[np.float64]) -> Tensor:
    """Return poses (N, 4, 4) of their first three rows (12 N)."""
    poses = torch.eye(4, dtype=torch.float64).repeat(len(values) // _COUNT, 1, 1)
    poses[:, :3] = torch.from_numpy(values).reshape(-1, 3, 4)
    return poses
