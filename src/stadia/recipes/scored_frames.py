"""Which frames of recordings are scored, and how many of them the network was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from stadia.core.errors import DataError
from stadia.core.files import read_json
from stadia.core.recording import Recording

Indices = Mapping[str, Sequence[int]]
"""Frames, rising, by the recording's name."""


@dataclass(frozen=True)
class Trained:
    """The frames that trained a run, of recordings whose fingerprints it knows; `known` is false where its run.json does not say."""

    known: bool
    of: Mapping[str, frozenset[int]]

    @classmethod
    def on(cls, run: Path, recordings: Iterable[Recording]) -> Trained:
        """By what a run's run.json holds (`recipes.video.VideoData.facts`), where there is one.

        A recording is known by its pictures and its camera, wherever it lies, and its frames by their numbers, whichever are opened.
        """
        facts = read_json(run / "run.json").get("data", {}) if (run / "run.json").is_file() else {}
        if not facts.get("train_frames"):
            return cls(False, {})
        spans = {_whole(print_): facts["train_frames"].get(name, ()) for name, print_ in facts["fingerprints"].items()}
        numbers = {print_: {n for start, stop in found for n in range(start, stop)} for print_, found in spans.items()}
        found = {}
        for recording in recordings:
            if recording.name in facts["fingerprints"] and _whole(recording.fingerprint()) not in numbers:
                return cls(False, {})  # a video decoded to another size, or another K: perhaps the same pictures
            trained = numbers.get(_whole(recording.fingerprint()), set())
            found[recording.name] = frozenset(index for index in range(len(recording)) if recording.number(index) in trained)
        return cls(True, found)

    def count(self, indices: Indices) -> int | None:
        """How many of these frames were trained on; None where nobody knows."""
        return sum(len(self.of[name].intersection(frames)) for name, frames in indices.items()) if self.known else None

    def left_out(self, indices: Indices, run: Path) -> dict[str, list[int]]:
        """The others. Raises DataError where there is none, or where nobody knows."""
        if not self.known:
            raise DataError(
                run, found="no record of the frames that trained", expected="a run's run.json with them", cure="leave --held-out out"
            )
        kept = {name: [index for index in frames if index not in self.of[name]] for name, frames in indices.items()}
        if not any(kept.values()):
            raise DataError(", ".join(indices), found="only frames that trained", expected="others", cure="score another recording")
        return kept

    def note(self, indices: Indices) -> list[str]:
        """What a reader of a score on these frames should know."""
        count, total = self.count(indices), sum(map(len, indices.values()))
        if not count:
            return []
        return [f"{count} of the {total} frames trained this network: no score of pictures it has not seen (--held-out leaves them out)"]


def spans(numbers: Iterable[int]) -> list[list[int]]:
    """Rising numbers as [start, stop) of each block of consecutive ones: what run.json holds of many."""
    blocks = (list(block) for _, block in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]))
    return [[block[0][1], block[-1][1] + 1] for block in blocks]


def _whole(fingerprint: str) -> str:
    """Of the whole recording, where this one is of some of its frames (`data.sources.Excerpt`)."""
    return fingerprint.partition("[")[0]
