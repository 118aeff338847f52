"""Recognize composite images on disk by their files. It needs only the first floor, so `stadia check` can use it."""

from pathlib import Path

from stadia.io.input_files import read_json

COMPOSITES_FORMAT = "stadia-overlay"
LISTING = "dataset.json"
"""File of a set that `stadia data overlay` wrote; COMPOSITES_FORMAT is its format."""


def is_composite_set(path: Path) -> bool:
    """Return whether a folder contains a set that `write_composites` wrote."""
    about = path / LISTING
    return about.is_file() and isinstance(read := read_json(about), dict) and read.get("format") == COMPOSITES_FORMAT


def is_published(root: Path) -> bool:
    """Return whether a folder has the published layout."""
    return (root / "bg").is_dir() and next(root.glob("bg[0-9]*/fg_[0-9]*"), None) is not None


def describe_layout(path: Path) -> str | None:
    """Return a text about what a path contains, for messages; None if it contains no composite images."""
    return "composite images" if is_composite_set(path) or is_published(path) else None
