"""Predict many videos: `stadia predict NETWORK LIST`. The same command resumes an interrupted batch.

OUT/batch.json has the shared options, OUT/ledger.jsonl a line for each attempt at a video. OUT/NAME/predictions.json,
which is written last, marks a video as done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.batches.engines import LOST, check_engine, run_items
from stadia.batches.ledger import open_ledger
from stadia.core.config import StrictModel, resolve_config
from stadia.core.errors import StadiaError, mask_secrets, mask_values, summarize_exception
from stadia.core.progress import TrackProgress
from stadia.core.verdict import Verdict
from stadia.data.config import SourceOptions
from stadia.data.video.video_list import VideoEntry, read_entries, select_entries
from stadia.evaluation.predictions_folder import RECORD, PredictionsRecord, parse_record, read_record
from stadia.io.input_files import expand_home, is_url, make_absolute, open_input, parse_json, restore_url, safe_join
from stadia.io.remote_store import RemoteStore
from stadia.predict import TRAIN_FLOOR
from stadia.predict.options import PredictOptions

if TYPE_CHECKING:
    from stadia.predict.network import Network

BATCH = "batch.json"
FORMAT, VERSION = "stadia-batch", 1
MAX_RECORD_BYTES = 1 << 28

MAX_THREADS = 16
"""Number of threads that look for finished videos."""


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """The arguments of `stadia predict NETWORK LIST --out OUT`.

    network: run, checkpoint or name of the network.
    source: the file that lists the videos.
    options: options of the prediction.
    out: a folder, or the URL of a remote store.
    settings: `network.KEY=VALUE` of a network without a run.
    workers: number of processes; 0 predicts in this process.
    threads: number of PyTorch threads in each process; None keeps the default.
    engine: what runs the processes, see `stadia.batches.engines.run_items`.
    """

    network: str
    source: Path
    options: PredictOptions
    out: str
    settings: tuple[str, ...] = ()
    workers: int = 1
    threads: int | None = None
    engine: str = "local"


@dataclass(frozen=True)
class BatchSummary:
    """Numbers of videos in a batch.

    done: videos with predictions, including earlier calls.
    failed: videos that failed in this call.
    before: videos that earlier calls had finished.
    unusable: videos whose predictions are judged unusable.
    """

    done: int
    failed: int
    before: int
    unusable: int


@dataclass(frozen=True, kw_only=True)
class VideoItem:
    """One video to predict.

    name: name of its output folder.
    source: the video file or folder.
    data: options for opening it, such as its own camera.
    """

    name: str
    source: Path
    data: Mapping[str, Any] = field(default_factory=dict)


class VideoResult(StrictModel):
    """The result of one video: a line of the ledger.

    video: name of the video.
    state: "done" or "failed".
    error: what failed; "" if nothing.
    frames: number of predicted frames.
    seconds: computing time, seconds.
    verdict: on its predictions (usable, doubtful, unusable); "" if they were not judged.
    """

    video: str
    state: str
    error: str = ""
    frames: int = 0
    seconds: float = 0.0
    verdict: str = ""


def predict_batch(request: BatchRequest, track: TrackProgress, on_failure: Callable[[str], None]) -> BatchSummary:
    """Predict every video of a list that is not done yet; videos that failed before are tried again.

    request: the arguments.
    track: shows progress.
    on_failure: called with a line of text for each failed video.

    Raises DataError for a wrong list, RunError if the output folder belongs to another batch.
    """
    check_engine(request.engine)
    source = expand_home(request.source)
    entries = select_entries(read_entries(source), resolve_config(SourceOptions, dict(request.options.data)), source)
    out = restore_url(request.out) if is_url(request.out) else str(make_absolute(request.out))
    request = replace(request, out=out)
    with contextlib.ExitStack() as held:
        ledger = open_ledger(
            out,
            held,
            VideoResult,
            record=BATCH,
            kind="batch",
            name_field="video",
            described={"format": FORMAT, "version": VERSION, **_describe_request(request)},
            update=_update_record,
        )
        done = {result.video for result in ledger.results.values() if result.state == "done"}
        found = _find_results(out, entries) if ledger.is_resumed else [None] * len(entries)
        pending = [_make_item(entry) for entry, result in zip(entries, found, strict=True) if result is None]
        before = len(entries) - len(pending)
        for result in found:
            if result is not None and result.video not in done:  # the batch was killed before its line was written
                ledger.add(result)
        results = list[VideoResult]()
        for result in track(predict_videos(request, pending), len(pending), "predicting videos"):
            ledger.add(result)
            results.append(result)
            if result.state == "failed":
                on_failure(f"failed: {result.video}: {result.error}")
        ledger.close()
    verdicts = [ledger.results[entry.name].verdict for entry in entries if entry.name in ledger.results]
    failed = sum(result.state == "failed" for result in results)
    return BatchSummary(before + len(results) - failed, failed, before, verdicts.count(Verdict.UNUSABLE))


def _find_results(out: str, entries: Sequence[VideoEntry]) -> list[VideoResult | None]:
    with ThreadPoolExecutor(MAX_THREADS) as threads:
        return list(threads.map(lambda entry: find_finished(out, entry.name), entries))


def _make_item(entry: VideoEntry) -> VideoItem:
    camera = {} if entry.camera is None else {"camera": entry.camera.model_dump(exclude_defaults=True)}
    return VideoItem(name=entry.name, source=entry.path, data=camera)


# -- one video


class VideoWorker:
    """Predict videos of a batch in sequence; the first one loads the network."""

    def __init__(self, request: BatchRequest) -> None:
        self.request = request
        self._network: Network | None = None
        if request.threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(request.threads)  # of PyTorch and ONNX Runtime, which open later

    def predict(self, item: VideoItem) -> VideoResult:
        """Predict one video; any error becomes part of its result."""
        started_s = time.perf_counter()
        try:
            result = self._predict(item)
        except (StadiaError, OSError, MemoryError) as error:
            result = VideoResult(
                video=item.name, state="failed", error=mask_secrets(str(error)) or type(error).__name__
            )
        except Exception as error:  # Libraries raise errors of any class; only this video fails.
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{summarize_exception(error)} ({Path(where.filename).name}:{where.lineno})"
            result = VideoResult(video=item.name, state="failed", error=text)
        return result.model_copy(update={"seconds": round(time.perf_counter() - started_s, 3)})

    def _predict(self, item: VideoItem) -> VideoResult:
        out = self.request.out
        if (done := find_finished(out, item.name)) is not None:
            return done
        if not is_url(out):
            folder = safe_join(Path(out), item.name)
            self._predict_into(item, folder)
            return _describe_finished(item.name, read_record(folder))
        with tempfile.TemporaryDirectory(prefix="stadia-") as scratch:
            folder = Path(scratch) / "predictions"
            self._predict_into(item, folder)
            store = RemoteStore(out)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            for path in sorted(files, key=lambda path: path.name == RECORD):  # last: it marks the video as done
                store.upload(path, f"{item.name}/{path.relative_to(folder).as_posix()}")
            return _describe_finished(item.name, read_record(folder))

    def _predict_into(self, item: VideoItem, folder: Path) -> None:
        from stadia.predict.network import open_network
        from stadia.predict.run import predict_to_folders

        if self._network is None:
            self._network = open_network(self.request.network, self.request.settings)
        options = replace(self.request.options, data={**self.request.options.data, **item.data})
        for _ in predict_to_folders(self._network.open_any(item.source, options), folder):
            pass


def find_finished(out: str, name: str) -> VideoResult | None:
    """Find the result of a video in the output of a batch.

    out: folder or URL of the batch.
    name: name of the video.

    Returns None if its predictions are not complete.
    """
    if is_url(out):
        store, file = RemoteStore(out), f"{name}/{RECORD}"
        where = store.join(file)
        if not store.exists(file):
            return None
        text = store.read(file, max_bytes=MAX_RECORD_BYTES).decode("utf-8", "replace")
        return _describe_finished(name, parse_record(where, parse_json(where, text, "predictions")))
    folder = safe_join(Path(out), name)
    record = read_record(folder) if (folder / RECORD).is_file() else None
    return _describe_finished(name, record) if record is not None and record.finished else None


def _describe_finished(name: str, record: PredictionsRecord | None) -> VideoResult:
    if record is None:
        return VideoResult(video=name, state="done")
    verdict = str((record.checks or {}).get("verdict", ""))
    return VideoResult(video=name, state="done", frames=len(record.entries), verdict=verdict)


def predict_videos(request: BatchRequest, items: Sequence[VideoItem]) -> Iterator[VideoResult]:
    """Predict videos in `request.workers` processes, or in this process if that is 0, and yield the results in any
    order.
    """
    for item, result in run_items(items, partial(make_predictor, request), request.workers, request.engine):
        yield result if result is not None else VideoResult(video=item.name, state="failed", error=LOST)


def make_predictor(request: BatchRequest) -> Callable[[VideoItem], VideoResult]:
    """Return the function that predicts a video of a batch; the first call loads the network."""
    return VideoWorker(request).predict


# -- the record of the batch


def _update_record(before: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a batch with today's names; an option that is newer than the batch had its default."""
    defaults = json.dumps(_list_values(PredictOptions()), default=str)
    before = {**parse_json(BATCH, defaults, "a batch"), **before}
    before["smooth"] = before.pop("steady", before["smooth"])  # its former name
    return before


def _list_values(options: PredictOptions) -> dict[str, Any]:
    return {one.name: getattr(options, one.name) for one in fields(options) if one.name != "data"}


def _describe_request(request: BatchRequest) -> dict[str, Any]:
    network = request.network if not Path(request.network).exists() else str(make_absolute(request.network))
    shared = {"network": network, "weights": _hash_weights(Path(request.network)), "settings": list(request.settings)}
    return mask_values({**shared, "options": dict(request.options.data), **_list_values(request.options)})


def _hash_weights(network: Path) -> str:
    if network.suffix.lower() == ".onnx" and network.is_file():
        with open_input(network, expected="an exported network", max_bytes=1 << 34) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    if not network.exists():
        return ""
    try:
        return str(TRAIN_FLOOR.load("open_checkpoint")(network).checksum)
    except StadiaError:  # a folder of a published network
        return ""
