"""A growing list of poses in one array."""

from __future__ import annotations

from array import array

import numpy as np
import torch
from torch import Tensor


class PoseList:
    """Poses (4, 4) float64, which take 128 bytes each.

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
        return len(self._values) // 16

    def __getitem__(self, index: int) -> Tensor:
        """Return a copy of one pose (4, 4). Raises IndexError beyond the end."""
        start = 16 * range(len(self))[index]
        return torch.from_numpy(np.array(self._values[start : start + 16])).reshape(4, 4)

    def append(self, T: Tensor) -> None:
        """Add a pose (4, 4)."""
        self._values.extend(T.double().flatten().tolist())

    def stack(self) -> Tensor:
        """Return a copy of all poses (N, 4, 4)."""
        return torch.from_numpy(np.array(self._values)).reshape(-1, 4, 4)
