"""Keep exported networks beside a run, each with a fingerprint of what it was made from. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stadia.core.errors import StadiaError
from stadia.files.atomic_files import atomic_write, check_no_links, write_json
from stadia.files.input_files import CHUNK_BYTES, open_input
from stadia.files.json_files import read_json
from stadia.process.terminal import Terminal, announce_step

_MAX_BYTES = 1 << 31
_DIGITS = 16


def open_cached_file(folder: Path, name: str, fingerprint: Mapping[str, Any], write: Callable[[Path], object]) -> Path:
    """Return a file of a folder that was made from what `fingerprint` names; write it where there is none.

    FOLDER/NAME-DIGITS.onnx has its fingerprint and its SHA-256 in the .json beside it. A file whose bytes differ is
    written again. Writing takes seconds, and is announced on stderr.

    Args:
        folder: of a run; it may come from somebody else, so that callers also check what the file predicts.
        name: start of the file's name.
        fingerprint: JSON values of everything that the file follows from.
        write: writes the file to a path.
    """
    text = json.dumps(dict(fingerprint), sort_keys=True)
    digits = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    path = folder / f"{name}-{digits}.onnx"
    record = path.with_suffix(".json")
    if folder.exists():
        check_no_links(folder)
    if not _is_intact(path, record, fingerprint):
        is_damaged = path.is_file() and record.is_file()
        step = f"{path} is damaged: exporting it again" if is_damaged else f"exporting {path}, once"
        with announce_step(Terminal(stderr=True), step), atomic_write(path) as temporary:
            write(temporary)
        write_json(record, {"fingerprint": dict(fingerprint), "sha256": _hash_file(path)})
    return path


def _is_intact(path: Path, record: Path, fingerprint: Mapping[str, Any]) -> bool:
    """Return whether a file has the fingerprint and the bytes that its record names."""
    if not (path.is_file() and record.is_file()):
        return False
    try:
        stored = read_json(record)
        return bool(stored["fingerprint"] == dict(fingerprint) and stored["sha256"] == _hash_file(path))
    except (StadiaError, KeyError, TypeError):
        return False


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open_input(path, expected="an exported network", max_bytes=_MAX_BYTES) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
