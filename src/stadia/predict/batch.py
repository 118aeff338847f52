"""Predict many videos: `stadia predict NETWORK LIST`. The same command resumes an interrupted batch.

OUT/NAME/predictions.json, which is written last, marks a video as done.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.batches.engines import check_engine
from stadia.batches.video_batch import BATCH, BatchSummary, VideoBatch, VideoResult, attempt, work_on_videos
from stadia.core.config import resolve_config
from stadia.core.errors import StadiaError, mask_values
from stadia.core.progress import TrackProgress
from stadia.data.config import SourceOptions
from stadia.data.video.video_list import VideoEntry, read_entries, select_entries
from stadia.evaluation.predictions_folder import RECORD, PredictionsRecord, parse_record, read_record
from stadia.io.input_files import expand_home, is_url, make_absolute, open_input, parse_json, restore_url, safe_join
from stadia.io.remote_store import RemoteStore
from stadia.predict import TRAIN_FLOOR
from stadia.predict.options import PredictOptions

if TYPE_CHECKING:
    from stadia.predict.network import Network

MAX_RECORD_BYTES = 1 << 28


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
    batch = VideoBatch[VideoEntry](
        out=out,
        described=_describe_request(request),
        make_work=partial(make_predictor, request),
        find_finished=partial(find_finished, out),
        workers=request.workers,
        engine=request.engine,
        update=_update_record,
    )
    return work_on_videos(batch, entries, track, on_failure)


# -- one video


class VideoWorker:
    """Predict videos of a batch in sequence; the first one loads the network."""

    def __init__(self, request: BatchRequest) -> None:
        self.request = request
        self._network: Network | None = None
        if request.threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(request.threads)  # of PyTorch and ONNX Runtime, which open later

    def predict(self, item: VideoEntry) -> VideoResult:
        """Predict one video; any error becomes part of its result."""
        return attempt(item.name, partial(self._predict, item))

    def _predict(self, item: VideoEntry) -> VideoResult:
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

    def _predict_into(self, item: VideoEntry, folder: Path) -> None:
        from stadia.predict.network import open_network
        from stadia.predict.run import predict_to_folders

        if self._network is None:
            self._network = open_network(self.request.network, self.request.settings)
        camera = {} if item.camera is None else {"camera": item.camera.model_dump(exclude_defaults=True)}
        options = replace(self.request.options, data={**self.request.options.data, **camera})
        for _ in predict_to_folders(self._network.open_any(item.path, options), folder):
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


def make_predictor(request: BatchRequest) -> Callable[[VideoEntry], VideoResult]:
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
