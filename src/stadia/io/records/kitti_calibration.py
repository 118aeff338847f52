"""Read the calibration files of KITTI."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.geometry.cameras import check_K
from stadia.io.input_files import read_text
from stadia.io.number_rows import parse_numbers

Array = NDArray[np.float64]


def name_projections(text: str) -> dict[str, str]:
    """Return the lines of a text that consists of projection matrices alone, by KITTI's names P0, P1, ...; else none.

    Examples:
        >>> name_projections("700 0 600 0 0 700 180 0 0 0 1 0")
        {'P0': '700 0 600 0 0 700 180 0 0 0 1 0'}
        >>> name_projections("1 0 0 5 0 1 0 2 0 0 1 0")  # a pose
        {}
    """
    lines = [line for line in text.splitlines() if line.strip()]
    rows = [parse_numbers(line.split()) for line in lines]
    if any(len(row) != 12 or tuple(row[8:11]) != (0, 0, 1) or row[0] <= 1 for row in rows):
        return {}
    return {f"P{number}": line for number, line in enumerate(lines)}


class KittiCalibration:
    """A calibration file of KITTI with lines `NAME: numbers`, or with its projection matrices alone.

    path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = read_text(path, expected="KITTI's calibration", fix="copy it next to the images").splitlines()
        parts = (line.partition(":") for line in lines)
        self._lines = {name.strip(): values for name, colon, values in parts if colon}
        self._lines = self._lines or name_projections("\n".join(lines))

    def __contains__(self, name: str) -> bool:
        return name in self._lines

    def matrix(self, name: str, rows: int, columns: int) -> Array:
        """Return the numbers of an entry as a float64 matrix (rows, columns), in row-major order.

        name: name of the entry.
        rows, columns: size of the matrix.

        Raises DataError, with the file and the entry, if it is missing or has a different number of values.
        """
        values = parse_numbers(self._lines.get(name, "").split())
        if values.size != rows * columns:
            found = f"only {', '.join(self._lines) or 'empty lines'}"
            if name in self:
                found = f"{name}: '{self._lines[name].strip()[:60]}'"
            expected = f"an entry {name} of {rows * columns} numbers"
            raise DataError(self.path, found=found, expected=expected, fix="copy the official file")
        return values.reshape(rows, columns)

    def rigid(self, rotation: str = "R", translation: str = "T") -> Array:
        """Return the rigid motion (4, 4) that two entries describe: a rotation (3, 3) and a translation (3,) in metres.

        rotation, translation: names of the two entries.
        """
        T = np.eye(4)
        T[:3, :3] = self.matrix(rotation, 3, 3)
        T[:3, 3] = self.matrix(translation, 3, 1)[:, 0]
        return T

    def projection(self, name: str) -> tuple[Array, Array]:
        """Split a projection matrix P = K [I | t] into K (3, 3) and T_camera_rectified (4, 4).

        T_camera_rectified is the motion from the coordinate frame of the rectified camera 0 to this camera's.

        name: name of the entry with P (3, 4).

        Raises DataError if the entry is missing or K is impossible.
        """
        P = self.matrix(name, 3, 4)
        K = check_K(f"{self.path} {name}", P[:, :3])
        T = np.eye(4)
        T[:3, 3] = np.linalg.solve(K, P[:, 3])
        return K, T
