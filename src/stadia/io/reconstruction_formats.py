"""Read and write reconstructions of other programs. The content of a file determines its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from stadia.io.reconstruction_files import Reconstruction

READERS: Mapping[str, tuple[Callable[[Path], bool], Callable[[Path], Reconstruction]]] = {}
"""For each format by its name: a function that recognizes a path, and one that reads it."""

WRITERS: Mapping[str, Callable[[Reconstruction, Path], None]] = {}
"""For each format by its name, a function that writes it. Other formats are written as transforms.json."""


def read_reconstruction(path: Path) -> Reconstruction:
    """Read cameras and poses of another program; intrinsics are NaN if the format has none (`with_camera` adds them).

    path: the file or folder.

    Raises DataError for an unknown format or a damaged file.
    """
    raise NotImplementedError


def write_reconstruction(reconstruction: Reconstruction, out: Path) -> Path:
    """Write a reconstruction in its own format, or as transforms.json if that format cannot be written.

    reconstruction: cameras and poses.
    out: the new file or folder.

    Returns the path that was written. Raises StadiaError if it exists.
    """
    raise NotImplementedError
