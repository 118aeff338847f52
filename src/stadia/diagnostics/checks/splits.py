"""Do validation and test show what training has not seen?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.recording import Recording
from stadia.diagnostics.catalogue import finding
from stadia.diagnostics.checks.frames import digest
from stadia.diagnostics.finding import Finding, Severity
from stadia.diagnostics.instruments.matching import Matches, detect, grey, match
from stadia.diagnostics.instruments.two_view import Array
from stadia.diagnostics.survey import ENOUGH_MATCHES, NotChecked

Item = TypeVar("Item")

Frames = tuple[Recording, Sequence[int]]
"""A recording, and the frames of it that belong to a split."""

SHARED_STOP = 0.01
PROBES = 6
NEIGHBOURS_WARN = 0.25
MOST_THUMBNAILS = 400
THUMBNAIL = (32, 16)
ALIKE = 0.85
"""Correlation of thumbnails from which on two pictures are compared by matches."""

AGREEING_SHARE = 0.5
STILL_PX, NEARER = 1.0, 0.8
"""A training frame is nearer when its matches moved less than NEARER of the way to the next frame. All frames of a camera that stands
still are alike: below STILL_PX nothing is said."""


def splits(named: Mapping[str, Sequence[Frames]]) -> Iterator[Finding]:
    """D09 shared frames, D10 neighbouring frames, for each pair of splits (the first one named is the one that trains)."""
    filled = {name: frames for name, frames in named.items() if any(len(indices) for _, indices in frames)}
    if len(filled) < 2:
        raise NotChecked("the data names no splits that could be compared")
    for (name, train), (held_name, held) in combinations(filled.items(), 2):
        shared = _shared(train, held)
        if shared:
            yield _share_frames(name, held_name, shared, sum(len(indices) for _, indices in held))
        else:
            yield from _neighbours(name, held_name, train, held)


def _share_frames(name: str, held_name: str, shared: Sequence[tuple[str, str]], total: int) -> Finding:
    return finding(
        "D09",
        Severity.STOP if len(shared) >= SHARED_STOP * total else Severity.WARN,
        measured=f"{len(shared)} of the {total} frames of '{held_name}' show exactly what frames of '{name}' show",
        expected="none",
        evidence={held_name: [first for first, _ in shared[:8]], name: [second for _, second in shared[:8]]},
        where=sorted({first.rpartition(" ")[0] for first, _ in shared}),
    )


def _shared(train: Sequence[Frames], held: Sequence[Frames]) -> list[tuple[str, str]]:
    """(held frame, training frame) of the same content: by recording and index, else by the size of the file and then its bytes.

    Frames of a video have no file: a sample of them is decoded and compared by pixels.
    """
    trained: set[tuple[str, int]] = set()
    by_size: dict[int, list[tuple[Recording, int]]] = {}
    for recording, indices in train:
        for index in indices:
            trained.add((recording.name, index))
            by_size.setdefault(_file_size(recording, index), []).append((recording, index))
    contents: dict[tuple[str, int], bytes] = {}

    def content(recording: Recording, index: int) -> bytes:
        if (recording.name, index) not in contents:
            contents[recording.name, index] = _content(recording, index)
        return contents[recording.name, index]

    shared = []
    for recording, indices in held:
        for index in indices if _file_size(recording, indices[0]) else _sample(indices, PROBES):
            size = _file_size(recording, index)
            candidates = by_size.get(size, []) if size else _sample(by_size.get(0, []), MOST_THUMBNAILS)
            same = (recording, index) if (recording.name, index) in trained else None
            same = same or next((c for c in candidates if content(*c) == content(recording, index)), None)
            if same is not None:
                shared.append((_label(recording, index), _label(*same)))
    return shared


def _content(recording: Recording, index: int) -> bytes:
    """16 bytes of a frame's file, or of its pixels where it has none."""
    file = recording.file(index)
    if file is not None and file.is_file():
        return hashlib.blake2b(file.read_bytes(), digest_size=16).digest()
    return digest(recording.image(index))


def _label(recording: Recording, index: int) -> str:
    return f"{recording.name} {index}"


def _file_size(recording: Recording, index: int) -> int:
    """Bytes of the picture's file; 0 for a frame of a video."""
    file = recording.file(index)
    return file.stat().st_size if file is not None and file.is_file() else 0


def _sample(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of them, spread evenly."""
    return [items[int(k)] for k in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))]


def _thumbnail(image: NDArray[np.uint8]) -> Array:
    small = cv2.resize(grey(image), THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float64).ravel()
    small -= small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-9))


def _neighbours(name: str, held_name: str, train: Sequence[Frames], held: Sequence[Frames]) -> Iterator[Finding]:
    """D10: of some held-out frames, how many have a training frame nearer than the next frame of their own split."""
    every = [(recording, index) for recording, indices in train for index in indices]
    probes = [(recording, indices, int(k)) for recording, indices in held for k in range(len(indices))]
    chosen, looked = _sample(probes, PROBES), _sample(every, MOST_THUMBNAILS)
    thumbnails = np.stack([_thumbnail(recording.image(index)) for recording, index in looked])
    near = []
    for recording, indices, k in chosen:
        index = indices[k]
        likeness = thumbnails @ _thumbnail(recording.image(index))
        candidate = _same_recording(recording, index, train)
        if candidate is None and likeness.max() >= ALIKE:
            candidate = looked[int(likeness.argmax())]
        following = indices[k + 1] if k + 1 < len(indices) else indices[k - 1]
        if candidate is not None and following != index and _nearer(recording, index, candidate, following):
            near.append((_label(recording, index), _label(*candidate)))
    if len(near) < max(2, NEIGHBOURS_WARN * len(chosen)):
        return
    yield finding(
        "D10",
        Severity.WARN,
        measured=f"{len(near)} of {len(chosen)} sampled frames of '{held_name}' have a frame of '{name}' nearer than the next of their own",
        expected=f"fewer than {NEIGHBOURS_WARN:.0%}",
        evidence={held_name: [first for first, _ in near], name: [second for _, second in near]},
        where=sorted({first.rpartition(" ")[0] for first, _ in near}),
    )


def _same_recording(recording: Recording, index: int, train: Sequence[Frames]) -> tuple[Recording, int] | None:
    """The nearest training frame of the same recording."""
    own = [i for other, indices in train if other.name == recording.name for i in indices]
    return (recording, min(own, key=lambda i: abs(i - index))) if own else None


def _nearer(recording: Recording, index: int, candidate: tuple[Recording, int], following: int) -> bool:
    """Whether the candidate shows the same place from nearer by than the following frame of the same split does."""
    here = detect(recording.image(index))
    there = match(here, detect(candidate[0].image(candidate[1])))
    if len(there) < ENOUGH_MATCHES or _agreeing(there) < AGREEING_SHARE:
        return False
    own = match(here, detect(recording.image(following)))
    return len(own) < ENOUGH_MATCHES or (own.displacement_px > STILL_PX and there.displacement_px < NEARER * own.displacement_px)


def _agreeing(matches: Matches) -> float:
    """Share of matches under one epipolar geometry."""
    _, mask = cv2.findFundamentalMat(matches.first_px, matches.second_px, cv2.FM_RANSAC, 1.5, 0.99)
    return float(mask.mean()) if mask is not None else 0.0
