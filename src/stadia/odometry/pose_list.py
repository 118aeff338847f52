"""A growing list of poses that keeps the last ones in memory."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.geometry.se3 import from_rotation_translation, matrix_from_quaternion_wxyz, quaternion_wxyz_from_matrix

_COUNT = 7  # numbers of a pose: quaternion w, x, y, z, and translation
_BYTES = 8 * _COUNT
_ROWS = 512  # poses of a block


class PoseList:
    """Rigid poses (4, 4) float64. Each takes 56 bytes, a unit quaternion and the translation, in a temporary file.

    A block of the last ones is in memory, and all others where no file can be written.

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
        self._file: IO[bytes] | None = None
        self._written = 0  # blocks in the file; the others follow in memory
        self._blocks: list[NDArray[np.float64]] = []  # an array that grows would leave holes of its earlier sizes
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Tensor:
        """Return one pose (4, 4). Raises IndexError beyond the end."""
        index = range(self._length)[index]
        block, row = divmod(index, _ROWS)
        if block < self._written:
            return _make_poses(self._read(index, 1)[0])
        return _make_poses(self._blocks[block - self._written][row])

    def append(self, T: Tensor) -> None:
        """Add a pose (4, 4)."""
        row = self._length % _ROWS
        if row == 0:
            self._write_blocks()
            self._blocks.append(np.empty((_ROWS, _COUNT)))
        T = T.double()
        self._blocks[-1][row, :4] = quaternion_wxyz_from_matrix(T[:3, :3]).numpy()
        self._blocks[-1][row, 4:] = T[:3, 3].numpy()
        self._length += 1

    def __iter__(self) -> Iterator[Tensor]:
        """Yield each pose (4, 4); a block of them is read at a time."""
        for block in range(-(-self._length // _ROWS)):
            is_written = block < self._written
            rows = self._read(block * _ROWS, _ROWS) if is_written else self._blocks[block - self._written]
            yield from _make_poses(rows[: self._length - block * _ROWS])

    def stack(self) -> Tensor:
        """Return all poses (N, 4, 4)."""
        stacked = torch.empty((self._length, 4, 4), dtype=torch.float64)
        for index, T in enumerate(self):
            stacked[index] = T
        return stacked

    def _write_blocks(self) -> None:
        """Move the blocks from memory to the file; they stay where none can be written, as on a full disk."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115, closed with the list
                weakref.finalize(self, self._file.close)
            while self._blocks:
                self._file.seek(self._written * _ROWS * _BYTES)
                left = self._blocks[0].data.cast("B")
                while left:
                    left = left[self._file.write(left) :]
                del self._blocks[0]
                self._written += 1
        except OSError:
            return

    def _read(self, start: int, count: int) -> NDArray[np.float64]:
        """Return `count` poses of the file (N, 7)."""
        if self._file is None or count == 0:
            return np.empty((0, _COUNT))
        self._file.seek(start * _BYTES)
        return np.frombuffer(bytearray(self._file.read(count * _BYTES))).reshape(-1, _COUNT)


def _make_poses(values: NDArray[np.float64]) -> Tensor:
    """Return poses (..., 4, 4) of their quaternions and translations (..., 7)."""
    poses = torch.from_numpy(values)
    return from_rotation_translation(matrix_from_quaternion_wxyz(poses[..., :4]), poses[..., 4:])
