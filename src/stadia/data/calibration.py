"""Read KITTI's calibration text: `NAME: numbers` lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.data.recordings import check_K


class Calibration:
    """One calibration file. Reading a matrix that is missing or has another size raises DataError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise DataError(
                path, found="no such file", expected="KITTI's calibration", fix="copy it beside the images"
            ) from error
        except UnicodeDecodeError as error:
            raise DataError(
                path, found="bytes that are not text", expected="KITTI's calibration", fix="copy it again"
            ) from error
        self._lines = {
            name.strip(): values for name, colon, values in (line.partition(":") for line in text.splitlines()) if colon
        }

    def __contains__(self, name: str) -> bool:
        return name in self._lines

    def matrix(self, name: str, rows: int, columns: int) -> NDArray[np.float64]:
        """Return (rows, columns) float64. Raises DataError that names the file and the entry."""
        expected = f"an entry {name} of {rows * columns} numbers"
        if name not in self._lines:
            raise DataError(
                self.path, found=f"only {', '.join(self._lines)}", expected=expected, fix="copy the official file"
            )
        try:
            values = np.array([float(word) for word in self._lines[name].split()])
        except ValueError:
            values = np.empty(0)
        if values.size != rows * columns or not np.isfinite(values).all():
            found = f"{name}: '{self._lines[name].strip()[:60]}'"
            raise DataError(self.path, found=found, expected=expected, fix="copy the official file")
        return values.reshape(rows, columns)

    def rigid(self, rotation: str = "R", translation: str = "T") -> NDArray[np.float64]:
        """Return (4, 4) from a rotation and a translation entry."""
        T = np.eye(4)
        T[:3, :3] = self.matrix(rotation, 3, 3)
        T[:3, 3] = self.matrix(translation, 3, 1)[:, 0]
        return T

    def projection(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return K (3, 3) and T_camera_rectified (4, 4) of a projection matrix P = K [I | t].

        Camera 0's rectified frame is the common one. The baseline is the difference of two t: the left color camera is
        6 cm beside camera 0, so a baseline from P3 alone is 12 % too short.
        """
        P = self.matrix(name, 3, 4)
        K = check_K(f"{self.path} {name}", P[:, :3])
        T = np.eye(4)
        T[:3, 3] = np.linalg.solve(K, P[:, 3])
        return K, T
