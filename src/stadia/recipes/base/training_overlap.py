"""Find the scored frames that trained the network, and read frame lists."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path
from typing import Self

from pydantic import ConfigDict, Field, model_validator

from stadia.core.config import StrictModel
from stadia.core.errors import DataError
from stadia.core.recording import LEFT, Recording
from stadia.datasets.image_files import hash_files, hash_frames, split_hashes
from stadia.datasets.splits import read_split_file
from stadia.evaluation.frame_preparation import frame_name
from stadia.files.input_files import MAX_TEXT_BYTES, name_parser_errors, read_bytes
from stadia.files.run_facts import RUN_FILE, read_run_facts

Indices = Mapping[str, Sequence[int]]
"""Frames, rising, by the recording's name."""


@dataclass(frozen=True)
class ScoredUnits:
    """Plural nouns for notes: what is scored, its group, and what a group shows."""

    frames: str
    drives: str
    places: str


FRAMES = ScoredUnits("frames", "drives", "places")
IMAGES = ScoredUnits("images", "scenes", "scenes")


VIDEO_TRAINED = "a video trained the network, and its frames cannot be compared with image files"
IMAGES_TRAINED = "image files trained the network, and they cannot be compared with frames of a video"
SAME_NAME_TRAINED = "a recording of the same name trained the network, and no record holds its images"
"""Reasons why a training cannot be compared with what is scored."""

MAX_TRAINED_FRAMES = 5_000_000
"""Of a data set's record: two days of video at 30 Hz. Their numbers take 500 MB."""


@dataclass(frozen=True)
class TrainedInput:
    """What trained of the input of a prediction.

    names: of the frames of the input that trained; None where that is not known.
    is_of_training: whether these, or others of their recording, video or session, trained.
    overlap: with the recording that was predicted; None for a video file or an image.
    """

    names: frozenset[str] | None = None
    is_of_training: bool = False
    overlap: TrainingOverlap | None = field(default=None, compare=False)


@dataclass(frozen=True)
class TrainingOverlap:
    """Frames of the scored recordings (or scenes of single images) that trained a run. `known` is false without a
    record.

    of: indices of frames that trained, by recording name.
    copies: those of them that trained under another name, in another recording, or of another camera.
    sessions: by recording name, the session (drive) that trained with this or another frame of it.
    words: nouns for notes.
    reason: why the training, or a part of it, cannot be compared; empty where all is compared, or without a record.
    """

    known: bool
    of: Mapping[str, frozenset[int]]
    copies: Mapping[str, frozenset[int]] = field(default_factory=dict)
    sessions: Mapping[str, str] = field(default_factory=dict)
    words: ScoredUnits = FRAMES
    reason: str = ""

    @classmethod
    def find(cls, run: Path, recordings: Sequence[Recording], indices: Indices | None = None) -> TrainingOverlap:
        """Return the overlap with the training recorded in run.json (`recipes.base.video_data.VideoData.facts`).

        A frame matches by its recording's fingerprint and its number, by the content of its file, or by that of its
        video and its number there. Frames of a video and image files cannot be compared: then it is not known. A record
        that cannot be read counts as none. `reason` holds what could not be compared.

        indices: frames to check; default: all.
        """
        try:
            facts = _read_facts(run)
        except DataError as error:
            return cls(False, {}, reason=_describe_unreadable(error))
        if not facts[0].train_frames:
            return cls(False, {})
        by_number, images, videos = _numbers(facts), _images(facts), _videos(facts)
        sessions = {session for one in facts for session in one.train_sessions}
        names, reason = {name for one in facts for name in one.fingerprints}, ""
        of: dict[str, frozenset[int]] = {}
        copies: dict[str, frozenset[int]] = {}
        matched: dict[str, str] = {}
        for recording in recordings:
            fingerprint = _whole(recording.fingerprint())
            same_kind, other_kind, of_other = set[str](), set[str](), ""  # what can be compared, and what cannot
            if len(recording) and recording.file(0) is not None:
                same_kind, other_kind, of_other = images, {*videos}, VIDEO_TRAINED
            elif recording.video_hash:
                same_kind, other_kind, of_other = {*videos}, images, IMAGES_TRAINED
            is_known = fingerprint in by_number or recording.video_hash in videos
            if not is_known and (other_kind or (recording.name in names and not same_kind)):
                reason = of_other if other_kind else SAME_NAME_TRAINED
                if not same_kind:  # perhaps the same images, as a video or as files, or with another K
                    return cls(False, {}, reason=reason)
            frames = range(len(recording)) if indices is None else indices.get(recording.name, ())
            trained = by_number.get(fingerprint, set()) | videos.get(recording.video_hash, set())
            numbered = {index for index in frames if recording.number(index) in trained}
            others = hash_frames(recording, [index for index in frames if index not in numbered]) if images else {}
            copies[recording.name] = frozenset(index for index, content in others.items() if content in images)
            of[recording.name] = copies[recording.name] | numbered
            if of[recording.name] or trained or recording.session in sessions:
                matched[recording.name] = recording.session
        return cls(True, of, copies, matched, reason=reason)

    @classmethod
    def find_input(
        cls, run: Path, *, recording: Recording | None, indices: Sequence[int], video_hash: str, names: Sequence[str]
    ) -> TrainedInput:
        """Return what trained of the input of a prediction; a single image is not compared.

        Args:
            recording: of a data set; None for a video file or an image.
            indices: of its frames that are predicted.
            video_hash: of a video file, else "".
            names: of the frames that are predicted; empty where their number is not known: then the result has the
                names of all frames of the video that trained.
        """
        if recording is not None:
            return cls.find(run, [recording], {recording.name: indices}).of_input(recording)
        try:
            videos = _videos(_read_facts(run))
        except DataError:
            return TrainedInput()
        if not video_hash or not videos:
            return TrainedInput()
        trained = frozenset(f"{number:06d}" for number in videos.get(video_hash, ()))
        return TrainedInput(trained.intersection(names) if names else trained, is_of_training=bool(trained))

    def of_input(self, recording: Recording) -> TrainedInput:
        """Return what trained of a recording, among the frames for which this overlap was found."""
        if not self.known:
            return TrainedInput(overlap=self)
        names = frozenset(frame_name(recording, index) for index in self.of.get(recording.name, ()))
        return TrainedInput(names, is_of_training=recording.name in self.sessions, overlap=self)

    @classmethod
    def find_files(cls, run: Path, scenes: Mapping[str, Mapping[int, Path]]) -> TrainingOverlap:
        """Return the overlap for single images: files of each scene by index. They match by content."""
        try:
            facts = _read_facts(run)
        except DataError as error:
            return cls(False, {}, words=IMAGES, reason=_describe_unreadable(error))
        if not (images := _images(facts)):
            return cls(False, {}, words=IMAGES)
        of = {
            name: frozenset(i for i, content in hash_files(files).items() if content in images)
            for name, files in scenes.items()
        }
        matched = {name: name for name in scenes if of[name] or name in facts[0].train_sessions}
        return cls(True, of, sessions=matched, words=IMAGES)

    def count(self, indices: Indices) -> int | None:
        """Return how many of these frames trained the network; None if unknown."""
        return sum(len(self.of[name].intersection(frames)) for name, frames in indices.items()) if self.known else None

    def count_same_session(self, indices: Indices) -> int | None:
        """Return how many frames did not train but are of a session that did; None if unknown."""
        if not self.known:
            return None
        return sum(len(set(frames) - self.of[name]) for name, frames in indices.items() if name in self.sessions)

    def left_out(self, indices: Indices, run: Path) -> dict[str, list[int]]:
        """Return the frames that did not train. Raises DataError if there is none, or no record."""
        if not self.known:
            found, expected = f"no record of the {self.words.frames} that trained", "a run's run.json with them"
            if self.reason:
                found, expected = f"{self.words.frames} that cannot be compared: {self.reason}", "a record that can"
            raise DataError(run, found=found, expected=expected, fix="leave --held-out out")
        kept = {name: [index for index in frames if index not in self.of[name]] for name, frames in indices.items()}
        if not any(kept.values()):
            found = f"only {self.words.frames} that trained"
            raise DataError(_some(indices), found=found, expected="others", fix="score other data")
        return kept

    def notes(self, indices: Indices, *, can_exclude: bool = True) -> list[str]:
        """Return notes for a score on these frames. can_exclude: whether the command has --held-out."""
        count, beside, total = self.count(indices), self.count_same_session(indices), sum(map(len, indices.values()))
        words, notes = self.words, []
        if self.reason and not self.known:
            notes.append(f"not known how many of the {total} {words.frames} trained this network: {self.reason}")
        elif self.reason:
            notes.append(f"{words.frames} that trained are counted in a part of the training: {self.reason}")
        if count:
            copied = sum(
                len(self.copies.get(name, frozenset()).intersection(frames)) for name, frames in indices.items()
            )
            how = f" ({copied} of them copies by another name)" if copied else ""
            sentence = f"{count} of the {total} {words.frames} trained this network{how}: not a score on unseen images"
            notes.append(sentence + " (exclude them: --held-out)" * can_exclude)
        if beside:
            names = sorted(
                {self.sessions[name] for name, frames in indices.items() if frames and name in self.sessions}
            )
            sentence = (
                f"{beside} of the {total} {words.frames} are others of {words.drives} that trained it ({_some(names)})"
            )
            notes.append(f"{sentence}: not a score on unseen {words.places}")
        return notes


class TrainedData(StrictModel):
    """Facts of run.json about what trained, of one data set. Other keys are ignored.

    fingerprints: of the recordings that trained or validated, by name.
    train_frames, train_videos: [start, stop) blocks of numbers, by recording name and by the content of a video.
    train_images: joined hashes of image files, by recording name.
    train_sessions: sessions (drives) of the frames that trained.
    """

    model_config = ConfigDict(extra="ignore")

    fingerprints: dict[str, str] = Field(default_factory=dict)
    train_frames: dict[str, list[tuple[int, int]]] = Field(default_factory=dict)
    train_images: dict[str, str] = Field(default_factory=dict)
    train_videos: dict[str, list[tuple[int, int]]] = Field(default_factory=dict)
    train_sessions: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check_count(self) -> Self:
        blocks = [*chain.from_iterable((*self.train_frames.values(), *self.train_videos.values()))]
        if any(start < 0 or stop < start for start, stop in blocks):
            raise ValueError("a block of frames that ends before it starts")
        if sum(stop - start for start, stop in blocks) > MAX_TRAINED_FRAMES:
            raise ValueError(f"more than {MAX_TRAINED_FRAMES} frames")
        return self


class TrainedDataSets(TrainedData):
    """Facts of run.json about what trained, of all data sets."""

    extra_datasets: dict[str, TrainedData] = Field(default_factory=dict)


def _read_facts(run: Path) -> list[TrainedData]:
    """Return the data facts of run.json, one entry for each data set; an empty entry without run.json.

    Raises DataError for a file of another form.
    """
    stored = read_run_facts(run).data if (run / RUN_FILE).is_file() else {}
    with name_parser_errors(run / RUN_FILE, expected="the facts of a training", fix="restore the file"):
        data = TrainedDataSets.model_validate(stored)
    return [data, *data.extra_datasets.values()]


def _describe_unreadable(error: DataError) -> str:
    return f"run.json cannot be read ({error.found})"


def _some(names: Iterable[str]) -> str:
    first, *others = [*names]
    return ", ".join([first, *others[:3]]) + f" and {len(others) - 3} more" * (len(others) > 3)


def _numbers(facts: Sequence[TrainedData]) -> dict[str, set[int]]:
    """Return the numbers of the frames that trained, by their recording's fingerprint."""
    numbers: dict[str, set[int]] = {}
    for one in facts:
        for name, print_ in one.fingerprints.items():
            spans = one.train_frames.get(name, ())
            numbers.setdefault(_whole(print_), set()).update(n for start, stop in spans for n in range(start, stop))
    return numbers


def _images(facts: Sequence[TrainedData]) -> set[str]:
    """Return content hashes of the files that trained."""
    return {content for one in facts for digits in one.train_images.values() for content in split_hashes(digits)}


def _videos(facts: Sequence[TrainedData]) -> dict[str, set[int]]:
    """Return the numbers of the frames that trained, by the content of their video file; empty without videos."""
    numbers: dict[str, set[int]] = {}
    for one in facts:
        for content, spans in one.train_videos.items():
            numbers.setdefault(content, set()).update(n for start, stop in spans for n in range(start, stop))
    return numbers


def note_trained(trained: int | None, total: int) -> str:
    """Return the sentence for a prediction that uses frames of the training; "" for none, or where it is not known."""
    return f"{trained} of the {total} frames trained this network: unseen images may be worse" if trained else ""


def index_spans(numbers: Iterable[int]) -> list[list[int]]:
    """Return ascending numbers as [start, stop) blocks, as run.json stores them."""
    blocks = (list(block) for _, block in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]))
    return [[block[0][1], block[-1][1] + 1] for block in blocks]


def _whole(fingerprint: str) -> str:
    """Return the fingerprint of the whole recording that an excerpt or a crop is of."""
    return fingerprint.partition("[")[0]


# -- lists of frames to score, in the format of KITTI's Eigen split


@dataclass(frozen=True)
class FrameList:
    """Frames to score.

    indices: ascending, by recording name.
    file, sha256: identity of the list.
    """

    file: str
    sha256: str
    indices: Mapping[str, Sequence[int]]

    def to_json(self) -> dict[str, str | int]:
        """Return the metadata for a score file."""
        return {"file": self.file, "sha256": self.sha256, "count": sum(map(len, self.indices.values()))}


def read_frame_list(path: Path, recordings: Sequence[Recording]) -> FrameList:
    """Read lines `recording frame l` or `recording frame`: `2011_09_26/2011_09_26_drive_0002_sync 0000000069 l`.

    Raises DataError for a line that does not parse, for missing or repeated frames, and for right images: only left
    images are predicted and scored.
    """
    data = read_bytes(path, expected="a list of frames", max_bytes=MAX_TEXT_BYTES)
    indices: dict[str, Sequence[int]] = {}
    for frames in read_split_file(path, recordings):
        name = frames.recording.name
        if frames.side != LEFT:
            raise DataError(
                path, found=f"right images of '{name}'", expected="left ones (`l`)", fix="remove these lines"
            )
        once = sorted(set(frames.indices))
        if repeated := len(frames.indices) - len(once):
            found = f"{repeated} frames of '{name}' twice"
            raise DataError(path, found=found, expected="each once", fix="remove the repeated lines")
        indices[name] = once
    if not indices:
        raise DataError(path, found="an empty list", expected="a frame a line", fix="is this the right file?")
    return FrameList(path.name, hashlib.sha256(data).hexdigest(), indices)
