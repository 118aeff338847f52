"""Work on many videos: predict, map or mask each one. The same command resumes an interrupted batch.

OUT/batch.json has the shared options, OUT/ledger.jsonl a line for each attempt at a video.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from stadia.batches.engines import LOST, MakeWork, check_engine, run_items
from stadia.batches.ledger import open_ledger
from stadia.core.config import StrictModel
from stadia.core.errors import StadiaError, mask_secrets, summarize_exception
from stadia.core.progress import TrackProgress
from stadia.core.verdict import Verdict

BATCH = "batch.json"
FORMAT, VERSION = "stadia-batch", 1

MAX_THREADS = 16
"""Number of threads that look for finished videos."""


class NamedItem(Protocol):
    """A video of a batch; `name` is unique, and names its output folder."""

    @property
    def name(self) -> str: ...


Item = TypeVar("Item", bound=NamedItem)


class VideoResult(StrictModel):
    """The result of one video: a line of the ledger.

    video: name of the video.
    state: "done" or "failed".
    error: what failed; "" if nothing.
    frames: number of frames that have a result.
    seconds: computing time, seconds.
    verdict: on its predictions or its map (usable, doubtful, unusable); "" if they were not judged.
    """

    video: str
    state: str
    error: str = ""
    frames: int = 0
    seconds: float = 0.0
    verdict: str = ""


@dataclass(frozen=True)
class BatchSummary:
    """Numbers of videos in a batch.

    done: videos with a result, including earlier calls.
    failed: videos that failed in this call.
    before: videos that earlier calls had finished.
    unusable: videos whose result is judged unusable.
    """

    done: int
    failed: int
    before: int
    unusable: int


@dataclass(frozen=True, kw_only=True)
class VideoBatch(Generic[Item]):
    """What is done with each video.

    out: folder or URL of the batch.
    described: the options of this call.
    make_work: creates the function that works on a video; it can be pickled.
    find_finished: returns the result of a video by its name, if its output is complete.
    workers: number of processes; 0 works in this process.
    engine: what runs the processes, see `stadia.batches.engines.run_items`.
    update: gives the options of an earlier version of stadia their present names and defaults.
    """

    out: str
    described: Mapping[str, Any]
    make_work: MakeWork[Item, VideoResult]
    find_finished: Callable[[str], VideoResult | None]
    workers: int = 1
    engine: str = "local"
    update: Callable[[dict[str, Any]], dict[str, Any]] = dict


def work_on_videos(
    batch: VideoBatch[Item], items: Sequence[Item], track: TrackProgress, on_failure: Callable[[str], None]
) -> BatchSummary:
    """Work on every video that is not done yet; videos that failed before are tried again.

    batch: what is done with each video.
    items: the videos.
    track: shows progress.
    on_failure: called with a line of text for each failed video.

    Raises RunError if the output folder belongs to another batch.
    """
    check_engine(batch.engine)
    with contextlib.ExitStack() as held:
        ledger = open_ledger(
            batch.out,
            held,
            VideoResult,
            record=BATCH,
            kind="batch",
            name_field="video",
            described={"format": FORMAT, "version": VERSION, **batch.described},
            update=batch.update,
        )
        done = {result.video for result in ledger.results.values() if result.state == "done"}
        found = [None] * len(items) if not ledger.is_resumed else _find_results(batch, items)
        pending = [item for item, result in zip(items, found, strict=True) if result is None]
        before = len(items) - len(pending)
        for result in found:
            if result is not None and result.video not in done:  # the batch was killed before its line was written
                ledger.add(result)
        failed = 0
        worked = run_items(pending, batch.make_work, batch.workers, batch.engine)
        for item, result in track(worked, len(pending), "videos"):
            result = result or VideoResult(video=item.name, state="failed", error=LOST)
            ledger.add(result)
            if result.state == "failed":
                failed += 1
                on_failure(f"failed: {result.video}: {result.error}")
        ledger.close()
    verdicts = [ledger.results[item.name].verdict for item in items if item.name in ledger.results]
    return BatchSummary(len(items) - failed, failed, before, verdicts.count(Verdict.UNUSABLE))


def _find_results(batch: VideoBatch[Item], items: Sequence[Item]) -> list[VideoResult | None]:
    with ThreadPoolExecutor(MAX_THREADS) as threads:
        return list(threads.map(lambda item: batch.find_finished(item.name), items))


def attempt(name: str, work: Callable[[], VideoResult]) -> VideoResult:
    """Return the result of the work on one video, with its time. Any error becomes a part of it.

    name: name of the video.
    work: the work.
    """
    started_s = time.perf_counter()
    try:
        result = work()
    except (StadiaError, OSError, MemoryError) as error:
        result = VideoResult(video=name, state="failed", error=mask_secrets(str(error)) or type(error).__name__)
    except Exception as error:  # Libraries raise errors of any class; only this video fails.
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{summarize_exception(error)} ({Path(where.filename).name}:{where.lineno})"
        result = VideoResult(video=name, state="failed", error=text)
    return result.model_copy(update={"seconds": round(time.perf_counter() - started_s, 3)})
