"""Predict many videos: `stadia predict NETWORK LIST`. The same command resumes from its ledger.

OUT/batch.json has the shared options, OUT/ledger.jsonl a line for each attempt. OUT/NAME/predictions.json, written
last, marks a video as done.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stadia.apps.batch_prediction.engines import make_engine
from stadia.apps.batch_prediction.video_worker import BatchJob, VideoItem, VideoResult, find_finished
from stadia.core.errors import DataError, RunError, StadiaError
from stadia.core.types import TrackProgress
from stadia.datasets.video.video_list import VideoEntry, read_entries
from stadia.files.atomic_files import hold_folder, open_to_append
from stadia.files.input_files import open_input
from stadia.files.json_files import parse_json, parse_json_lines
from stadia.files.output_files import check_output_folder
from stadia.files.paths import expand_home, make_absolute
from stadia.files.remote_store import RemoteStore, is_url, restore_url
from stadia.predict.options import PredictOptions

BATCH, LEDGER = "batch.json", "ledger.jsonl"
FORMAT, VERSION = "stadia-batch", 1
MAX_LEDGER_BYTES = 1 << 30

MAX_THREADS = 16

UPLOAD_EVERY = 20
"""Results between two uploads: a store rewrites the whole ledger."""


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """`stadia predict NETWORK LIST --out OUT`.

    source: the list.  out: a folder, or the URL of a store.
    engine: one of `engines.ENGINES`.  workers: processes or jobs; 0 predicts in this process.
    engine_options: of submitit.
    """

    network: str
    source: Path
    options: PredictOptions
    out: str
    settings: tuple[str, ...] = ()
    engine: str = "local"
    workers: int = 1
    threads: int | None = None
    engine_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchSummary:
    """Counts of a batch.

    done: including `before`, done by earlier calls.  unusable: videos whose predictions are unusable.
    """

    done: int
    failed: int
    before: int
    unusable: int


def predict_batch(request: BatchRequest, track: TrackProgress, on_failure: Callable[[str], None]) -> BatchSummary:
    """Predict every video of a list that is not done, and return the counts.

    Failed videos are tried again. Raises DataError for a wrong list, RunError if the output belongs to another batch.

    on_failure: called with a line for each failed video.
    """
    entries = read_entries(expand_home(request.source))
    out = restore_url(request.out) if is_url(request.out) else str(make_absolute(request.out))
    job = BatchJob(
        network=request.network, settings=request.settings, options=request.options, out=out, threads=request.threads
    )
    with contextlib.ExitStack() as held:
        ledger = _open_ledger(out, job, held)
        done = {result.video for result in ledger.results.values() if result.state == "done"}
        found = _find_results(out, entries) if ledger.is_resumed else [None] * len(entries)
        pending = [_make_item(entry) for entry, result in zip(entries, found, strict=True) if result is None]
        before = len(entries) - len(pending)
        for result in found:
            if result is not None and result.video not in done:  # the batch was killed before its line was written
                ledger.add(result)
        folder = Path("slurm") if is_url(out) else Path(out) / "slurm"
        engine = make_engine(request.engine, workers=request.workers, folder=folder, options=request.engine_options)
        failed = 0
        for result in track(engine.run(job, pending) if pending else (), len(pending), "predicting videos"):
            ledger.add(result)
            if result.state == "failed":
                failed += 1
                on_failure(f"failed: {result.video}: {result.error}")
        ledger.close()
    verdicts = [ledger.results[entry.name].verdict for entry in entries if entry.name in ledger.results]
    return BatchSummary(len(entries) - failed, failed, before, verdicts.count("unusable"))


def _find_results(out: str, entries: Sequence[VideoEntry]) -> list[VideoResult | None]:
    with ThreadPoolExecutor(MAX_THREADS) as threads:
        return list(threads.map(lambda entry: find_finished(out, entry.name), entries))


def _make_item(entry: VideoEntry) -> VideoItem:
    camera = {} if entry.camera is None else {"camera": entry.camera.model_dump(exclude_defaults=True)}
    return VideoItem(name=entry.name, source=entry.path, data=camera)


# -- the ledger


class Ledger:
    """Results of a batch by video, appended to a local file or written whole to a store."""

    def __init__(self, out: str, results: Sequence[VideoResult], *, is_resumed: bool) -> None:
        self.results = {result.video: result for result in results}
        self.is_resumed = is_resumed
        self._lines = [result.model_dump_json() for result in results]
        self._store = RemoteStore(out) if is_url(out) else None
        self._file = Path(out) / LEDGER
        self._added = 0

    def add(self, result: VideoResult) -> None:
        """Write a result."""
        line = result.model_dump_json()
        self.results[result.video] = result
        self._lines.append(line)
        self._added += 1
        if self._store is None:
            with open_to_append(self._file) as stream:
                stream.write(f"{line}\n".encode())
        elif self._added % UPLOAD_EVERY == 0:
            self.close()

    def close(self) -> None:
        """Write the ledger of a store."""
        if self._store is not None:
            self._store.write(LEDGER, "".join(f"{line}\n" for line in self._lines).encode())


def _open_ledger(out: str, job: BatchJob, held: contextlib.ExitStack) -> Ledger:
    described = {"format": FORMAT, "version": VERSION, **_describe_job(job)}
    text = json.dumps(described, indent=2, sort_keys=True, default=str)
    store = RemoteStore(out)
    if not is_url(out):
        folder = Path(out)
        held.enter_context(hold_folder(folder))
        check_output_folder(folder, BATCH, "batch", fix="choose another --out")
    if not store.exists(BATCH):
        store.write(BATCH, text.encode())
        return Ledger(out, (), is_resumed=False)
    wanted = parse_json(BATCH, text, "a batch")
    before = parse_json(store.join(BATCH), store.read(BATCH, max_bytes=1 << 24).decode("utf-8", "replace"), "a batch")
    if isinstance(before, dict):  # an option that is newer than the batch had its default
        defaults = json.dumps(_list_values(PredictOptions()), default=str)
        before = {**parse_json(BATCH, defaults, "a batch"), **before}
    if before != wanted:
        changed = sorted(key for key in wanted if not isinstance(before, dict) or before.get(key) != wanted[key])
        found, expected = f"a batch with other {', '.join(changed)}", "its network and options"
        raise RunError(store.join(BATCH), found=found, expected=expected, fix="choose another --out")
    return Ledger(out, _read_ledger(store), is_resumed=True)


def _list_values(options: PredictOptions) -> dict[str, Any]:
    return {one.name: getattr(options, one.name) for one in fields(options) if one.name != "data"}


def _describe_job(job: BatchJob) -> dict[str, Any]:
    network = job.network if not Path(job.network).exists() else str(make_absolute(job.network))
    shared = {"network": network, "weights": _hash_weights(Path(job.network)), "settings": list(job.settings)}
    return {**shared, "options": dict(job.options.data), **_list_values(job.options)}


def _hash_weights(network: Path) -> str:
    if network.suffix.lower() == ".onnx" and network.is_file():
        with open_input(network, expected="an exported network", max_bytes=1 << 34) as stream:
            digest = hashlib.sha256()
            while part := stream.read(1 << 20):
                digest.update(part)
            return digest.hexdigest()
    if not network.exists():
        return ""
    from stadia.training.checkpoint import Checkpoint

    try:
        checksums = Checkpoint.open(network).checksums
    except StadiaError:  # a folder of a published network
        return ""
    return hashlib.sha256(json.dumps(checksums, sort_keys=True).encode()).hexdigest()


def _read_ledger(store: RemoteStore) -> list[VideoResult]:
    if not store.exists(LEDGER):
        return []
    text = store.read(LEDGER, max_bytes=MAX_LEDGER_BYTES).decode("utf-8", "replace")
    results = []
    for row in parse_json_lines(store.join(LEDGER), text, "a ledger of a batch"):
        if isinstance(row, DataError) or not isinstance(row, dict) or not VideoResult.model_fields.keys() >= row.keys():
            continue
        with contextlib.suppress(ValidationError):  # its video is predicted again, or found by its own record
            results.append(VideoResult.model_validate(row))
    return results
