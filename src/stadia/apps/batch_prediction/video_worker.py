"""Predict one video after another with a network that is loaded once."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.core.config import StrictModel
from stadia.core.errors import StadiaError, summarize_exception
from stadia.evaluation.io.predictions_folder import RECORD, PredictionsRecord, parse_record, read_record
from stadia.files.json_files import parse_json
from stadia.files.paths import safe_join
from stadia.files.remote_store import RemoteStore, is_url
from stadia.predict.options import PredictOptions

if TYPE_CHECKING:
    from stadia.predict.network import Network

MAX_RECORD_BYTES = 1 << 28


@dataclass(frozen=True, kw_only=True)
class VideoItem:
    """A video to predict. name: of its output folder.  data: how to open it, such as its own camera."""

    name: str
    source: Path
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """What all videos of a batch share.

    network: a checkpoint, a run, a model.onnx, or a published network.
    settings: `network.KEY=VALUE` of a network without a run.
    out: a folder, or a URL.
    threads: of torch in each process; None keeps the default.
    """

    network: str
    settings: tuple[str, ...]
    options: PredictOptions
    out: str
    threads: int | None = None


class VideoResult(StrictModel):
    """A line of the ledger. state: "done" or "failed".  verdict: on its predictions; "" if not judged."""

    video: str
    state: str
    error: str = ""
    frames: int = 0
    seconds: float = 0.0
    verdict: str = ""


class VideoWorker:
    """Predicts videos of a batch; the first one loads the network."""

    def __init__(self, job: BatchJob) -> None:
        self.job = job
        self._network: Network | None = None
        if job.threads is not None:
            import torch

            torch.set_num_threads(job.threads)

    def predict(self, item: VideoItem) -> VideoResult:
        """Predict one video. Errors of any kind become its result."""
        started_s = time.perf_counter()
        try:
            result = self._predict(item)
        except (StadiaError, OSError, MemoryError) as error:
            result = VideoResult(video=item.name, state="failed", error=str(error) or type(error).__name__)
        except Exception as error:  # of a library: this video fails alone
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{summarize_exception(error)} ({Path(where.filename).name}:{where.lineno})"
            result = VideoResult(video=item.name, state="failed", error=text)
        return result.model_copy(update={"seconds": round(time.perf_counter() - started_s, 3)})

    def _predict(self, item: VideoItem) -> VideoResult:
        if (done := find_finished(self.job.out, item.name)) is not None:
            return done
        if not is_url(self.job.out):
            folder = safe_join(Path(self.job.out), item.name)
            self._predict_into(item, folder)
            return describe_finished(item.name, read_record(folder))
        with tempfile.TemporaryDirectory(prefix="stadia-") as scratch:
            folder = Path(scratch) / "predictions"
            self._predict_into(item, folder)
            store = RemoteStore(self.job.out)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            for path in sorted(files, key=lambda path: path.name == RECORD):  # last: it marks the video as done
                store.upload(path, f"{item.name}/{path.relative_to(folder).as_posix()}")
            return describe_finished(item.name, read_record(folder))

    def _predict_into(self, item: VideoItem, folder: Path) -> None:
        from stadia.predict.network import open_network
        from stadia.predict.run import predict_to_folders

        if self._network is None:
            self._network = open_network(self.job.network, self.job.settings)
        options = replace(self.job.options, data={**self.job.options.data, **item.data})
        for _ in predict_to_folders(self._network.open_any(item.source, options), folder):
            pass


# -- what is finished


def find_finished(out: str, name: str) -> VideoResult | None:
    """Return the result of a video whose predictions are complete; else None."""
    if is_url(out):
        store, file = RemoteStore(out), f"{name}/{RECORD}"
        where = store.join(file)
        if not store.exists(file):
            return None
        text = store.read(file, max_bytes=MAX_RECORD_BYTES).decode("utf-8", "replace")
        return describe_finished(name, parse_record(where, parse_json(where, text, "predictions")))
    folder = safe_join(Path(out), name)
    record = read_record(folder) if (folder / RECORD).is_file() else None
    return describe_finished(name, record) if record is not None and record.finished else None


def describe_finished(name: str, record: PredictionsRecord | None) -> VideoResult:
    """Return the result of a video from the record of its predictions."""
    if record is None:
        return VideoResult(video=name, state="done")
    verdict = str((record.checks or {}).get("verdict", ""))
    return VideoResult(video=name, state="done", frames=len(record.entries), verdict=verdict)
