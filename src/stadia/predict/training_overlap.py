"""Record the frames that train in run.json, and find scored frames that trained the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from pydantic import ConfigDict, Field

from stadia.core.config import StrictModel
from stadia.core.errors import DataError
from stadia.core.types import Recording
from stadia.data.frame_preparation import frame_name
from stadia.io.image_files import hash_files, hash_frames, split_hashes
from stadia.io.input_files import name_parser_errors
from stadia.io.run_facts import RUN_FILE, read_run_facts

# -- scored frames that trained

Indices = Mapping[str, Sequence[int]]
"""Frames, rising, by the recording's name."""

VIDEO_TRAINED = "the network was trained on a video, which cannot be compared with image files"
IMAGES_TRAINED = "the network was trained on image files, which cannot be compared with a video"


@dataclass(frozen=True)
class ScoredUnits:
    """Plural nouns for notes: scored units, their group, and a group's content."""

    frames: str
    drives: str
    places: str


FRAMES = ScoredUnits("frames", "drives", "places")
IMAGES = ScoredUnits("images", "scenes", "scenes")


@dataclass(frozen=True)
class TrainedInput:
    """The part of a prediction's input that trained.

    names: frames of the input that trained; None if unknown.
    is_of_training: these, or others of their recording, video or session, trained.
    overlap: training frames that overlap the predicted recording; None for a video file or an image.
    """

    names: frozenset[str] | None = None
    is_of_training: bool = False
    overlap: TrainingOverlap | None = field(default=None, compare=False)


@dataclass(frozen=True)
class TrainingOverlap:
    """Frames of the scored recordings (or scenes of single images) that trained a run.

    is_known: false without a record.
    trained: indices of frames that trained, by recording name.
    copies: trained frames under another name, in another recording, or of another camera.
    sessions: by recording name, the session (drive) that trained with any frame of it.
    words: nouns for notes.
    reason: why the training, or a part of it, cannot be compared; or "".
    """

    is_known: bool
    trained: Mapping[str, frozenset[int]] = field(default_factory=dict)
    copies: Mapping[str, frozenset[int]] = field(default_factory=dict)
    sessions: Mapping[str, str] = field(default_factory=dict)
    words: ScoredUnits = FRAMES
    reason: str = ""

    @classmethod
    def find(cls, run: Path, recordings: Sequence[Recording], indices: Indices | None = None) -> TrainingOverlap:
        """Return the overlap with the training recorded in run.json.

        A frame matches by the fingerprint of its recording or video and its number, or by the content of its file.

        indices: frames to check; default: all.
        """
        try:
            record = _read_record(run)
        except DataError as error:
            return cls(is_known=False, reason=_describe_unreadable(error))
        if not record.has_frames:
            return cls(is_known=False)
        reason = ""
        trained: dict[str, frozenset[int]] = {}
        copies: dict[str, frozenset[int]] = {}
        sessions: dict[str, str] = {}
        for recording in recordings:
            blocks = record.find_blocks(recording)
            has_files = len(recording) > 0 and recording.file(0) is not None
            if blocks is None and (has_files or recording.video_hash):
                same_kind, other_kind = (record.images, record.videos) if has_files else (record.videos, record.images)
                if other_kind:
                    reason = VIDEO_TRAINED if has_files else IMAGES_TRAINED
                    if not same_kind:  # perhaps the same images, as a video or as files
                        return cls(is_known=False, reason=reason)
            frames = range(len(recording)) if indices is None else indices.get(recording.name, ())
            numbered = {index for index in frames if any(recording.number(index) in block for block in blocks or ())}
            others = [index for index in frames if index not in numbered]
            contents = hash_frames(recording, others) if record.images else {}
            copies[recording.name] = frozenset(i for i, content in contents.items() if content in record.images)
            trained[recording.name] = copies[recording.name] | numbered
            if trained[recording.name] or blocks or recording.session in record.sessions:
                sessions[recording.name] = recording.session
        return cls(is_known=True, trained=trained, copies=copies, sessions=sessions, reason=reason)

    @classmethod
    def find_input(
        cls, run: Path, *, recording: Recording | None, indices: Sequence[int], video_hash: str, names: Sequence[str]
    ) -> TrainedInput:
        """Return the part of a prediction's input that trained; a single image is not compared.

        recording: the recording of a dataset; None for a video file or an image.
        indices: predicted frames.
        video_hash: hash of a video file, or "".
        names: names of predicted frames; empty: all of the video.
        """
        if recording is not None:
            return cls.find(run, [recording], {recording.name: indices}).find_in_recording(recording)
        try:
            videos = _read_record(run).videos
        except DataError:
            return TrainedInput()
        if not video_hash or not videos:
            return TrainedInput()
        trained = frozenset(f"{number:06d}" for block in videos.get(video_hash, ()) for number in block)
        return TrainedInput(trained.intersection(names) if names else trained, is_of_training=bool(trained))

    def find_in_recording(self, recording: Recording) -> TrainedInput:
        """Return the part of a recording that trained."""
        if not self.is_known:
            return TrainedInput(overlap=self)
        names = frozenset(frame_name(recording, index) for index in self.trained.get(recording.name, ()))
        return TrainedInput(names, is_of_training=recording.name in self.sessions, overlap=self)

    @classmethod
    def find_files(cls, run: Path, scenes: Mapping[str, Mapping[int, Path]]) -> TrainingOverlap:
        """Return the overlap for single images, matched by content: files of each scene by index."""
        try:
            record = _read_record(run)
        except DataError as error:
            return cls(is_known=False, words=IMAGES, reason=_describe_unreadable(error))
        if not record.images:
            return cls(is_known=False, words=IMAGES)
        trained = {
            name: frozenset(i for i, content in hash_files(files).items() if content in record.images)
            for name, files in scenes.items()
        }
        sessions = {name: name for name in scenes if trained[name] or name in record.sessions}
        return cls(is_known=True, trained=trained, sessions=sessions, words=IMAGES)

    def count(self, indices: Indices) -> int | None:
        """Return how many of these frames trained the network; None if unknown."""
        if not self.is_known:
            return None
        return sum(len(self.trained[name].intersection(frames)) for name, frames in indices.items())

    def count_same_session(self, indices: Indices) -> int | None:
        """Return the count of frames outside the training whose session has training frames; None if unknown."""
        if not self.is_known:
            return None
        return sum(len(set(frames) - self.trained[name]) for name, frames in indices.items() if name in self.sessions)

    def left_out(self, indices: Indices, run: Path) -> dict[str, list[int]]:
        """Return the frames that did not train. Raises DataError without any, or without a record."""
        if not self.is_known:
            found, expected = f"no record of the {self.words.frames} that trained", "a run's run.json with them"
            if self.reason:
                found, expected = f"{self.words.frames} that cannot be compared: {self.reason}", "a record that can"
            raise DataError(run, found=found, expected=expected, fix="leave --held-out out")
        kept = {
            name: [index for index in frames if index not in self.trained[name]] for name, frames in indices.items()
        }
        if not any(kept.values()):
            found = f"only {self.words.frames} that trained"
            raise DataError(_list_some(indices), found=found, expected="others", fix="score other data")
        return kept

    def notes(self, indices: Indices, *, can_exclude: bool = True) -> list[str]:
        """Return notes for a score on these frames.

        can_exclude: whether the command has --held-out.
        """
        words, total = self.words, sum(map(len, indices.values()))
        notes = []
        if self.reason and not self.is_known:
            notes.append(f"unknown how many of the {total} {words.frames} trained this network: {self.reason}")
        elif self.reason:
            notes.append(f"{words.frames} that trained are counted in a part of the training: {self.reason}")
        if count := self.count(indices):
            copied = sum(len(self.copies.get(name, frozenset()).intersection(part)) for name, part in indices.items())
            how = f" ({copied} of them copies by another name)" if copied else ""
            sentence = f"{count} of the {total} {words.frames} trained this network{how}: not a score on unseen images"
            notes.append(sentence + " (exclude them: --held-out)" * can_exclude)
        if beside := self.count_same_session(indices):
            names = sorted(
                {self.sessions[name] for name, frames in indices.items() if frames and name in self.sessions}
            )
            notes.append(
                f"{beside} of the {total} {words.frames} are others of {words.drives} that trained it"
                f" ({_list_some(names)}): not a score on unseen {words.places}"
            )
        return notes


def note_trained(trained: int | None, total: int) -> str:
    """Return the sentence for a prediction that uses frames of the training, or ""."""
    return f"{trained} of the {total} frames were in the training: unseen images may be worse" if trained else ""


# -- the record of a training


class TrainedData(StrictModel):
    """Facts of run.json about the training frames. Other keys are ignored.

    fingerprints: hashes of the training and validation recordings, by name.
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
    extra_datasets: dict[str, TrainedData] = Field(default_factory=dict)


@dataclass(frozen=True)
class _Record:
    """The training frames of all datasets.

    recordings, videos: blocks of frame numbers by their recording's fingerprint, and by the content of their video.
    images: contents of image files.
    """

    has_frames: bool
    recordings: Mapping[str, Sequence[range]]
    videos: Mapping[str, Sequence[range]]
    images: frozenset[str]
    sessions: frozenset[str]

    def find_blocks(self, recording: Recording) -> list[range] | None:
        by_recording = self.recordings.get(_name_whole(recording.fingerprint()))
        by_video = self.videos.get(recording.video_hash)
        return None if by_recording is None and by_video is None else [*(by_recording or ()), *(by_video or ())]


def _read_record(run: Path) -> _Record:
    stored = read_run_facts(run).data if (run / RUN_FILE).is_file() else {}
    with name_parser_errors(run / RUN_FILE, expected="the facts of a training", fix="restore the file"):
        first = TrainedData.model_validate(stored)
    data_sets = [first, *first.extra_datasets.values()]
    recordings = [
        (_name_whole(fingerprint), data.train_frames.get(name, ()))
        for data in data_sets
        for name, fingerprint in data.fingerprints.items()
    ]
    return _Record(
        has_frames=bool(first.train_frames),
        recordings=_collect_blocks(recordings),
        videos=_collect_blocks(chain.from_iterable(data.train_videos.items() for data in data_sets)),
        images=frozenset(
            content for data in data_sets for joined in data.train_images.values() for content in split_hashes(joined)
        ),
        sessions=frozenset(session for data in data_sets for session in data.train_sessions),
    )


def _collect_blocks(spans: Iterable[tuple[str, Sequence[tuple[int, int]]]]) -> dict[str, list[range]]:
    blocks: dict[str, list[range]] = {}
    for name, pairs in spans:
        blocks.setdefault(name, []).extend(range(start, stop) for start, stop in pairs)
    return blocks


def _name_whole(fingerprint: str) -> str:
    return fingerprint.partition("[")[0]


def _describe_unreadable(error: DataError) -> str:
    return f"run.json cannot be read ({error.found})"


def _list_some(names: Iterable[str]) -> str:
    first, *others = [*names]
    return ", ".join([first, *others[:3]]) + f" and {len(others) - 3} more" * (len(others) > 3)
